/* A worker when memory is short: it is not begun, or turns a connection away. */
#include "worker/worker.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "config_text.h"
#include "edge/fetch.h"
#include "exchange/failures.h"
#include "failmem.h"
#include "unit.h"
#include "worker/traffic.h"

static struct loaded loaded;
static uv_loop_t loop;
static struct traffic *traffic;
static struct worker_shared all;

static void no_change(void *arg)
{
    (void)arg;
}

static void setup(void)
{
    config_text_folder();
    loaded = config_text_load("[upstream a]\nurl = http://127.0.0.1:9/v1\n");
    ck_assert_str_eq(loaded.problems, "");
    ck_assert_int_eq(fetch_global_init(), 0);
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    traffic = traffic_new(&loop);
    all = (struct worker_shared){traffic_turns(traffic), failures_new(), history_new()};
}

static void teardown(void)
{
    traffic_close(traffic);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
    traffic_free(traffic);
    failures_free(all.failures);
    history_free(all.history);
    fetch_global_deinit();
    loaded_deinit(&loaded);
}

START_TEST(without_memory_none_is_begun)
{
    for (size_t n = 1; n <= 2; n++) { /* the worker, its configuration */
        struct worker *w;
        int error;

        failmem_arm(n);
        w = worker_new(loaded.config, &all, no_change, NULL, &error);
        ck_assert(failmem_disarm());
        ck_assert_ptr_null(w);
        ck_assert_int_eq(error, -ENOMEM);
    }
}
END_TEST

START_TEST(a_connection_that_finds_no_room_is_closed)
{
    int error, rc, ends[2];
    struct worker *w = worker_new(loaded.config, &all, no_change, NULL, &error);

    ck_assert_ptr_nonnull(w);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    failmem_arm(1);
    rc = worker_add(w, ends[0]);
    ck_assert(failmem_disarm());
    ck_assert_int_eq(rc, -ENOMEM);
    ck_assert_int_eq(fcntl(ends[0], F_GETFD), -1);
    ck_assert_uint_eq(worker_load(w), 0);
    close(ends[1]);
    worker_abort(w);
    worker_free(w);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *c = unit_case(suite, "worker");

    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, without_memory_none_is_begun);
    tcase_add_test(c, a_connection_that_finds_no_room_is_closed);
}
