/* Settings by the environment: which setting a variable means, what it replaces, and how mistakes are told. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config_text.h"
#include "failmem.h"
#include "unit.h"

static const char file_text[] =
    "[server]\nlisten = 127.0.0.1:1,\n  127.0.0.1:2\nworkers = 2\n"
    "[upstream azure-eu]\nurl = https://a.example/v1\nheader.X-Org = a\nmodel.m = n\n"
    "[upstream b]\nurl = https://b.example/v1\n"
    "[retry]\nmax_attempts = 4\n";

/* Sets the variables "NAME=value". */
static void set(const char *const *variables, size_t count)
{
    for (size_t i = 0; i < count; i++)
        ck_assert_int_eq(putenv((char *)(uintptr_t)variables[i]), 0);
}
#define SET(...) \
    set((const char *const[]){__VA_ARGS__}, COUNT(((const char *const[]){__VA_ARGS__})))

static struct loaded good(const char *text)
{
    struct loaded l = config_text_load(text);

    ck_assert_str_eq(l.problems, "");
    return l;
}

static void is_bad(const char *text, const char *problems)
{
    struct loaded l = config_text_load(text);

    ck_assert_ptr_null(l.config);
    ck_assert_str_eq(l.problems, problems);
    ck_assert_int_eq(l.error, EINVAL);
}

static char *to_text(const struct config *c, void (*write)(const struct config *, FILE *))
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);

    ck_assert_ptr_nonnull(f);
    write(c, f);
    ck_assert_int_eq(fclose(f), 0);
    return text;
}

static void dump_sources(const struct config *c, FILE *out)
{
    config_dump(c, true, out);
}

/* --- what a variable sets --------------------------------------------------------------------- */

START_TEST(a_variable_replaces_what_the_file_says)
{
    struct loaded l;

    SET("RETRYD_LISTEN=127.0.0.1:3", "RETRYD_RETRY_MAX_ATTEMPTS= 7 ", "RETRYD_LOG_FORMAT=json");
    l = good(file_text);
    ck_assert_uint_eq(l.config->server.listen.count, 1);
    ck_assert_str_eq(l.config->server.listen.items[0], "127.0.0.1:3");
    ck_assert_uint_eq(l.config->server.workers, 2);
    ck_assert_uint_eq(l.config->defaults.retry.max_attempts, 7);
    ck_assert(config_wants_json("t.conf"));
    loaded_deinit(&l);
}
END_TEST

START_TEST(the_section_server_may_be_left_out)
{
    struct loaded l;

    SET("RETRYD_SERVER_WORKERS=3", "RETRYD_MAX_CONNECTIONS=9");
    l = good("");
    ck_assert_uint_eq(l.config->server.workers, 3);
    ck_assert_uint_eq(l.config->server.max_connections, 9);
    loaded_deinit(&l);
}
END_TEST

START_TEST(without_a_file_there_is_one_upstream)
{
    struct config *c;

    SET("RETRYD_UPSTREAM_URL=http://h/v1", "RETRYD_UPSTREAM_MODELS=a -> b, c:d -> e");
    c = config_load(NULL, NULL, NULL);
    ck_assert_ptr_nonnull(c);
    ck_assert_uint_eq(c->upstream_count, 1);
    ck_assert_str_eq(c->upstreams[0].name, "openai");
    ck_assert_str_eq(c->upstreams[0].url, "http://h/v1");
    ck_assert_uint_eq(c->upstreams[0].models.count, 2);
    ck_assert_str_eq(c->upstreams[0].models.items[1].name, "c:d");
    config_unref(c);
}
END_TEST

START_TEST(an_upstream_without_a_name_is_the_first)
{
    struct loaded l;

    SET("RETRYD_UPSTREAM_URL=http://h/v1", "RETRYD_UPSTREAM_HEADER_X_ORG=mine",
        "RETRYD_UPSTREAM_HEADER_X_PROXY=p", "RETRYD_UPSTREAM_MODELS=x -> y");
    l = good(file_text);
    ck_assert_uint_eq(l.config->upstream_count, 2);
    ck_assert_str_eq(l.config->upstreams[0].url, "http://h/v1");
    ck_assert_uint_eq(l.config->upstreams[0].headers.count, 2);
    ck_assert_str_eq(l.config->upstreams[0].headers.items[0].value, "mine");
    ck_assert_str_eq(l.config->upstreams[0].headers.items[1].name, "x-proxy");
    ck_assert_uint_eq(l.config->upstreams[0].models.count, 1);
    ck_assert_str_eq(l.config->upstreams[1].url, "https://b.example/v1");
    loaded_deinit(&l);
}
END_TEST

START_TEST(sections_with_a_name_are_found_or_added)
{
    struct loaded l;

    SET("RETRYD_UPSTREAM_AZURE_EU_KEY_COOLDOWN=7s", "RETRYD_UPSTREAM_NEW_ONE_URL=http://n/v1",
        "RETRYD_UPSTREAM_NEW_ONE_HEADER_A=b", "RETRYD_ROUTE_CHAT_RETRY_MAX_ATTEMPTS=3",
        "RETRYD_ROUTE_CHAT_PATH=/chat/*", "RETRYD_ROUTE_CHAT_UPSTREAMS=new_one, b");
    l = good(file_text);
    ck_assert_uint_eq(l.config->upstream_count, 3);
    ck_assert_uint_eq(l.config->upstreams[0].key_cooldown_ms, 7000);
    ck_assert_str_eq(l.config->upstreams[2].name, "new_one");
    ck_assert_str_eq(l.config->upstreams[2].headers.items[0].name, "a");
    ck_assert_uint_eq(l.config->route_count, 2);
    ck_assert_str_eq(l.config->routes[0].name, "chat");
    ck_assert_uint_eq(l.config->routes[0].settings.retry.max_attempts, 3);
    ck_assert_uint_eq(l.config->routes[0].upstream_count, 2);
    loaded_deinit(&l);
}
END_TEST

START_TEST(a_value_may_be_in_a_file)
{
    struct loaded l;

    config_text_write("keys", "http://secret-host/v1\n", 22);
    config_text_write("ca.pem", "from a file\n", 12);
    SET("RETRYD_UPSTREAM_URL_FILE=./keys", "RETRYD_UPSTREAM_HEADER_X_TOKEN_FILE=./ca.pem");
    l = good("");
    ck_assert_str_eq(l.config->upstreams[0].url, "http://secret-host/v1");
    ck_assert_str_eq(l.config->upstreams[0].headers.items[0].name, "x-token");
    ck_assert_str_eq(l.config->upstreams[0].headers.items[0].value, "from a file");
    loaded_deinit(&l);
}
END_TEST

/* It names the file of the keys, and is not a file that holds the name. */
START_TEST(a_key_that_ends_in_file_is_that_key)
{
    struct loaded l;

    config_text_write("keys", "sk-1\nsk-2\n", 10);
    SET("RETRYD_UPSTREAM_API_KEY_FILE=./keys");
    l = good("");
    ck_assert_uint_eq(l.config->upstreams[0].key_count, 2);
    loaded_deinit(&l);
}
END_TEST

START_TEST(an_empty_variable_is_not_set)
{
    struct loaded l;

    SET("RETRYD_LISTEN=", "RETRYD_NOTHING=");
    l = good(file_text);
    ck_assert_uint_eq(l.config->server.listen.count, 2);
    loaded_deinit(&l);
}
END_TEST

/* Kubernetes sets these in each pod of a namespace that has a Service named retryd. */
START_TEST(what_kubernetes_sets_is_no_setting)
{
    struct loaded l;

    SET("RETRYD_SERVICE_HOST=10.0.0.1", "RETRYD_SERVICE_PORT=4290", "RETRYD_SERVICE_PORT_HTTP=4290",
        "RETRYD_PORT=tcp://10.0.0.1:4290", "RETRYD_PORT_4290_TCP=tcp://10.0.0.1:4290",
        "RETRYD_PORT_4290_TCP_PROTO=tcp", "RETRYD_PORT_4290_TCP_ADDR=10.0.0.1",
        "RETRYD_ADMIN_SERVICE_HOST=10.0.0.2", "RETRYD_ADMIN_PORT_53_UDP_PORT=53");
    l = good("");
    loaded_deinit(&l);
}
END_TEST

START_TEST(a_renewed_configuration_has_the_same)
{
    struct loaded l;
    struct config *c;

    SET("RETRYD_UPSTREAM_URL=http://h/v1");
    l = good(file_text);
    ck_assert_int_eq(setenv("RETRYD_UPSTREAM_URL", "http://other/v1", 1), 0);
    c = config_renew(l.config);
    ck_assert_ptr_nonnull(c);
    ck_assert_str_eq(c->upstreams[0].url, "http://h/v1");
    config_unref(c);
    loaded_deinit(&l);
}
END_TEST

/* --- what is told ----------------------------------------------------------------------------- */

START_TEST(a_bad_value_names_the_variable)
{
    SET("RETRYD_RETRY_MAX_DELAY=60");
    is_bad("[retry]\nmax_delay = 1m\njitter = x\n",
           "t.conf:3: [retry] jitter: found \"x\"; expected none, full or equal\n"
           "RETRYD_RETRY_MAX_DELAY: [retry] max_delay: found \"60\"; expected a duration such as "
           "250ms, 30s or 10m (at least 1ms, at most 1d)\n");
}
END_TEST

START_TEST(an_unknown_variable_names_the_nearest)
{
    SET("RETRYD_LISTN=127.0.0.1:1", "RETRYD_RETRY_MAX_ATEMPTS=3", "RETRYD_UPSTREAM_ULR=http://h/v1",
        "RETRYD_UPSTREAM_AZURE_EU_ULR=x", "RETRYD_log_level=debug", "RETRYD_UPSTREAM_API_KEY=sk-no",
        "RETRYD_ROUTE_PATH=/x", "RETRYD_BIN=/x");
    is_bad(file_text,
           "RETRYD_BIN: unknown variable; expected RETRYD_SECTION_KEY, such as "
           "RETRYD_RETRY_MAX_ATTEMPTS, or another prefix if it is none of retryd's\n"
           "RETRYD_LISTN: unknown variable; did you mean RETRYD_LISTEN?\n"
           "RETRYD_RETRY_MAX_ATEMPTS: unknown variable; did you mean RETRYD_RETRY_MAX_ATTEMPTS?\n"
           "RETRYD_ROUTE_PATH: unknown variable; expected RETRYD_SECTION_KEY, such as "
           "RETRYD_RETRY_MAX_ATTEMPTS, or another prefix if it is none of retryd's\n"
           "RETRYD_UPSTREAM_API_KEY: unknown variable; did you mean RETRYD_UPSTREAM_API_KEY_ENV?\n"
           "RETRYD_UPSTREAM_AZURE_EU_ULR: unknown variable; did you mean "
           "RETRYD_UPSTREAM_AZURE_EU_URL?\n"
           "RETRYD_UPSTREAM_ULR: unknown variable; did you mean RETRYD_UPSTREAM_URL?\n"
           "RETRYD_log_level: unknown variable; did you mean RETRYD_LOG_LEVEL?\n");
}
END_TEST

START_TEST(two_variables_for_one_setting)
{
    SET("RETRYD_SERVER_WORKERS=1", "RETRYD_WORKERS=2", "RETRYD_UPSTREAM_URL=http://h/v1",
        "RETRYD_UPSTREAM_OPENAI_URL=http://h/v1");
    is_bad("",
           "RETRYD_UPSTREAM_URL: [upstream openai] url: is set by RETRYD_UPSTREAM_OPENAI_URL too; "
           "expected only one of them\n"
           "RETRYD_WORKERS: [server] workers: is set by RETRYD_SERVER_WORKERS too; expected only "
           "one of them\n");
}
END_TEST

START_TEST(what_cannot_be_a_value)
{
    config_text_write("keys", "a\nb\n", 4);
    SET("RETRYD_SPOOL_DIR=/tmp\n/x", "RETRYD_UPSTREAM_URL_FILE=./absent",
        "RETRYD_UPSTREAM_HEADER_A_FILE=./keys", "RETRYD_UPSTREAM_X.Y/Z_URL=http://h/v1",
        "RETRYD_UPSTREAM_OTHER_KEY_COOLDOWN=1m");
    is_bad(
        "",
        "RETRYD_SPOOL_DIR: [server] spool_dir: the value contains a control character\n"
        "RETRYD_UPSTREAM_HEADER_A_FILE: [upstream openai] header.a: the value contains a control "
        "character; expected a file with one line\n"
        "RETRYD_UPSTREAM_OTHER_KEY_COOLDOWN: [upstream other] url: is missing; expected a URL such "
        "as https://api.openai.com/v1 (only the upstream named openai may omit it)\n"
        "RETRYD_UPSTREAM_URL_FILE: \"./absent\" cannot be read: No such file or directory\n"
        "RETRYD_UPSTREAM_X.Y/Z_URL: [upstream x.y/z] url: expected letters, digits and underscores "
        "in the name of a section\n");
}
END_TEST

START_TEST(each_value_tells_where_it_is_from)
{
    struct loaded l;
    char *dump, *notes;

    SET("RETRYD_LISTEN=127.0.0.1:3", "RETRYD_UPSTREAM_B_HEADER_X_KEY=sk-secret-1234",
        "RETRYD_UPSTREAM_MODELS=x -> y", "RETRYD_ROUTE_R_RETRY_MAX_ATTEMPTS=2");
    l = good(file_text);
    dump = to_text(l.config, dump_sources);
    ck_assert_ptr_nonnull(strstr(dump, "\n# RETRYD_LISTEN\nlisten = 127.0.0.1:3\n"));
    ck_assert_ptr_nonnull(strstr(dump, "\n# t.conf:4\nworkers = 2\nmax_connections = 4096\n"));
    ck_assert_ptr_nonnull(strstr(dump, "\n# RETRYD_UPSTREAM_B_HEADER_X_KEY\nheader.x-key = ***\n"));
    ck_assert_ptr_nonnull(strstr(dump, "\n# t.conf:7\nheader.X-Org = ***\n"));
    ck_assert_ptr_nonnull(strstr(dump, "\n# RETRYD_UPSTREAM_MODELS\nmodel.x = y\n"));
    ck_assert_ptr_nonnull(
        strstr(dump, "\n# RETRYD_ROUTE_R_RETRY_MAX_ATTEMPTS\nretry.max_attempts = 2\n"));
    notes = to_text(l.config, config_note_variables);
    ck_assert_str_eq(notes, "RETRYD_LISTEN: sets [server] listen\n"
                            "RETRYD_ROUTE_R_RETRY_MAX_ATTEMPTS: sets [route r] retry.max_attempts\n"
                            "RETRYD_UPSTREAM_B_HEADER_X_KEY: sets [upstream b] header.x-key\n"
                            "RETRYD_UPSTREAM_MODELS: sets [upstream azure-eu] model.x\n");
    free(dump);
    free(notes);
    loaded_deinit(&l);
}
END_TEST

START_TEST(each_allocation_may_fail)
{
    size_t n = 1;

    config_text_write("keys", "http://h/v1\n", 12);
    config_text_write("t.conf", file_text, strlen(file_text));
    SET("RETRYD_LISTEN=127.0.0.1:3", "RETRYD_UPSTREAM_URL_FILE=./keys",
        "RETRYD_UPSTREAM_NEW_URL=http://n/v1", "RETRYD_UPSTREAM_MODELS=x -> y");
    for (;; n++) {
        struct buf problems;
        struct config *c;
        bool failed;

        buf_init(&problems, 65536);
        failmem_arm(n);
        c = config_load("t.conf", &problems, NULL);
        failed = failmem_disarm();
        ck_assert_msg(failed == !c, "%.*s", (int)problems.len, problems.p ? problems.p : "");
        config_unref(c);
        buf_deinit(&problems);
        if (!failed)
            break;
    }
    ck_assert_uint_gt(n, 60);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *means = unit_case(suite, "meaning"), *told = unit_case(suite, "told");

    tcase_add_test(means, a_variable_replaces_what_the_file_says);
    tcase_add_test(means, the_section_server_may_be_left_out);
    tcase_add_test(means, without_a_file_there_is_one_upstream);
    tcase_add_test(means, an_upstream_without_a_name_is_the_first);
    tcase_add_test(means, sections_with_a_name_are_found_or_added);
    tcase_add_test(means, a_value_may_be_in_a_file);
    tcase_add_test(means, a_key_that_ends_in_file_is_that_key);
    tcase_add_test(means, an_empty_variable_is_not_set);
    tcase_add_test(means, what_kubernetes_sets_is_no_setting);
    tcase_add_test(means, a_renewed_configuration_has_the_same);
    tcase_add_test(told, a_bad_value_names_the_variable);
    tcase_add_test(told, an_unknown_variable_names_the_nearest);
    tcase_add_test(told, two_variables_for_one_setting);
    tcase_add_test(told, what_cannot_be_a_value);
    tcase_add_test(told, each_value_tells_where_it_is_from);
    tcase_add_test(told, each_allocation_may_fail);
    tcase_set_timeout(told, 60);
}
