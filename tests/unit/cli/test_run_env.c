/* The environment that the child of `retryd run` gets. */
#include "cli/run_private.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "failmem.h"
#include "unit.h"

static void begin(struct run_env *e)
{
    clearenv();
    setenv("ONE", "1", 1);
    setenv("RETRYD_A", "a", 1);
    setenv("RETRYD_B", "b", 1);
    setenv("EMPTY", "", 1);
    run_env_init(e);
}

START_TEST(variables_are_set_and_removed)
{
    struct run_env e;
    struct buf names;

    begin(&e);
    buf_init(&names, 4096);
    run_env_set(&e, "ONE", "2");
    run_env_set(&e, "NEW", "3");
    ck_assert_str_eq(run_env_get(&e, "ONE"), "2");
    ck_assert_str_eq(run_env_get(&e, "NEW"), "3");
    ck_assert_ptr_null(run_env_get(&e, "EMPTY"));
    ck_assert_str_eq(run_env_either(&e, "EMPTY", "NEW"), "3");
    run_env_remove(&e, "RETRYD_", true, &names);
    ck_assert(str_eq(buf_str(&names), STR("RETRYD_A, RETRYD_B")));
    run_env_remove(&e, "ON", false, NULL); /* is the name of none */
    run_env_remove(&e, "ONE", false, NULL);
    ck_assert_ptr_null(run_env_get(&e, "ONE"));
    ck_assert_uint_eq(e.count, 2);
    ck_assert_ptr_null(e.items[2]);
    ck_assert(!e.failed);
    buf_deinit(&names);
    run_env_deinit(&e);
}
END_TEST

START_TEST(no_proxy_covers_hosts_and_domains)
{
    static const struct {
        const char *list, *host;
        bool covered;
    } cases[] = {
        {NULL, "api.example", false},
        {NULL, "localhost", true},
        {NULL, "127.0.0.9", true},
        {NULL, "[::1]", true},
        {"*", "api.example", true},
        {"example", "api.example", true},
        {".example", "api.example", true},
        {"*.example", "api.example", true},
        {"API.example", "api.example", true},
        {"pi.example", "api.example", false},
        {"a,,api.example", "api.example", true},
        {"an.api.example", "api.example", false},
        {"other", "api.example", false},
        {".", "api.example", false},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct run_env e;

        begin(&e);
        if (cases[i].list)
            run_env_set(&e, i % 2 ? "NO_PROXY" : "no_proxy", cases[i].list);
        ck_assert_msg(run_env_no_proxy(&e, cases[i].host) == cases[i].covered, "case %zu", i);
        run_env_deinit(&e);
    }
}
END_TEST

START_TEST(a_host_is_exempt_from_the_proxy_in_both_spellings)
{
    struct run_env e;

    begin(&e);
    run_env_exempt(&e, "127.0.0.1");
    ck_assert_ptr_null(run_env_get(&e, "no_proxy")); /* there is no proxy */
    run_env_set(&e, "ALL_PROXY", "http://p:1");
    run_env_exempt(&e, "127.0.0.1");
    ck_assert_str_eq(run_env_get(&e, "no_proxy"), "127.0.0.1");
    ck_assert_str_eq(run_env_get(&e, "NO_PROXY"), "127.0.0.1");
    run_env_exempt(&e, "other");
    ck_assert_str_eq(run_env_get(&e, "NO_PROXY"), "127.0.0.1,other");
    run_env_set(&e, "no_proxy", "*");
    run_env_exempt(&e, "third");
    ck_assert_str_eq(run_env_get(&e, "no_proxy"), "*");
    run_env_deinit(&e);
}
END_TEST

START_TEST(an_empty_environment_is_a_list_too)
{
    struct run_env e;

    clearenv();
    run_env_init(&e);
    ck_assert_uint_eq(e.count, 0);
    ck_assert_ptr_nonnull(e.items);
    ck_assert_ptr_null(e.items[0]);
    run_env_deinit(&e);
}
END_TEST

START_TEST(short_memory_is_noted)
{
    for (size_t n = 1;; n++) {
        struct run_env e;

        clearenv();
        setenv("HTTP_PROXY", "http://p:1", 1);
        setenv("ONE", "1", 1);
        failmem_arm(n);
        run_env_init(&e);
        run_env_set(&e, "TWO", "2");
        if (!e.failed)
            run_env_exempt(&e, "127.0.0.1");
        bool armed = failmem_disarm(), failed = e.failed;
        run_env_deinit(&e);
        if (!armed)
            break;
        ck_assert(failed);
    }
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *c = unit_case(suite, "environment");

    tcase_add_test(c, variables_are_set_and_removed);
    tcase_add_test(c, no_proxy_covers_hosts_and_domains);
    tcase_add_test(c, a_host_is_exempt_from_the_proxy_in_both_spellings);
    tcase_add_test(c, an_empty_environment_is_a_list_too);
    tcase_add_test(c, short_memory_is_noted);
}
