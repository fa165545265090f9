/* The parts that a daemon begins with, each when memory is short: none is left half made. */
#include <check.h>
#include <errno.h>

#include "admin/admin.h"
#include "config_text.h"
#include "daemon/control.h"
#include "daemon/server_private.h"
#include "failmem.h"
#include "unit.h"

static uv_loop_t loop;

static void setup(void)
{
    ck_assert_int_eq(uv_loop_init(&loop), 0);
}

static void teardown(void)
{
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
}

static enum exit_code no_act(void *ctx, struct buf *output)
{
    (void)ctx;
    (void)output;
    return EXIT_OK;
}

static bool is_done(void *ctx)
{
    (void)ctx;
    return true;
}

static void no_wake(void *arg)
{
    (void)arg;
}

START_TEST(without_memory_there_is_no_control_socket)
{
    struct control *c;
    int error;

    failmem_arm(1);
    errno = 0;
    c = control_new(&loop, no_act, is_done, NULL);
    error = errno;
    ck_assert(failmem_disarm());
    ck_assert_ptr_null(c);
    ck_assert_int_eq(error, ENOMEM);
    control_check(NULL);
    control_close(NULL);
}
END_TEST

START_TEST(without_memory_there_is_no_admin_listener)
{
    static const struct admin_source source = {.well = is_done};

    for (size_t n = 1; n <= 2; n++) {
        struct admin *a;

        failmem_arm(n);
        a = admin_new(&loop, &source, NULL, no_wake, NULL);
        ck_assert(failmem_disarm());
        ck_assert_ptr_null(a);
    }
}
END_TEST

START_TEST(without_memory_there_is_no_traffic)
{
    for (size_t n = 1; n <= 2; n++) {
        struct traffic *t;

        failmem_arm(n);
        t = traffic_new(&loop);
        ck_assert(failmem_disarm());
        ck_assert_ptr_null(t);
    }
}
END_TEST

START_TEST(without_memory_nothing_is_shared)
{
    struct traffic *t = traffic_new(&loop);
    struct loaded l;

    config_text_folder();
    l = config_text_load(
        "[shared]\nredis = 127.0.0.1:1\n[upstream a]\nurl = https://a.example/v1\n");
    ck_assert_str_eq(l.problems, "");
    for (size_t n = 1; n <= 3; n++) {
        struct sharing *s;
        int rc;

        failmem_arm(n);
        rc = sharing_new(&loop, l.config, t, &s);
        ck_assert(failmem_disarm());
        ck_assert_int_eq(rc, -ENOMEM);
        ck_assert_ptr_null(s);
    }
    traffic_close(t);
    uv_run(&loop, UV_RUN_DEFAULT);
    traffic_free(t);
    loaded_deinit(&l);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *c = unit_case(suite, "beginning");

    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, without_memory_there_is_no_control_socket);
    tcase_add_test(c, without_memory_there_is_no_admin_listener);
    tcase_add_test(c, without_memory_there_is_no_traffic);
    tcase_add_test(c, without_memory_nothing_is_shared);
}
