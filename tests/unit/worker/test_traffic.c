/* News on their way from the workers to the main thread: those of gates outlive a flood of requests. */

#include "worker/traffic.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "failmem.h"
#include "unit.h"

#define FLOOD 5000
#define MODELS 1500 /* more than there are places for news of gates */
#define UPSTREAMS 260
#define UPSTREAMS_COUNTED 256

static uv_loop_t loop;
static struct traffic *traffic;
static struct turns *turns;
static struct turns_ready ready;
static struct route_settings settings;
static struct upstream upstream;
static const struct upstream *const list[] = {&upstream};
static struct plan plan;
static unsigned gates, taken, calls;
static uint64_t last_gate;

static void on_told(void *arg, const struct turns_event *e)
{
    (void)arg;
    ck_assert_int_eq(e->kind, TURNS_GATE_CLOSED);
    gates++;
    last_gate = e->id;
}

static void on_taken(void *arg, uint64_t upstream_id, double per_minute, unsigned n)
{
    (void)arg;
    (void)upstream_id;
    ck_assert(per_minute > 0);
    taken += n;
    calls++;
}

static void no_wake(void *arg)
{
    (void)arg;
}

static void set_up(void)
{
    struct traffic_news news = {.event = on_told, .taken = on_taken};

    log_configure(LOG_ERROR, false);
    gates = taken = calls = 0;
    settings.queue.size = 10;
    settings.retry.max_hint_ms = 120000;
    upstream = (struct upstream){.name = "p",
                                 .id = 1,
                                 .host = "",
                                 .base_path = "",
                                 .query = "",
                                 .auth_header = "Authorization",
                                 .idempotency_header = "",
                                 .requests_per_minute = 1000000000};
    plan = (struct plan){.route = "r",
                         .base = STR("/v1"),
                         .settings = &settings,
                         .upstreams = list,
                         .upstream_count = 1};
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    traffic = traffic_new(&loop);
    ck_assert_ptr_nonnull(traffic);
    traffic_set_news(traffic, &news);
    turns = traffic_turns(traffic);
    turns_ready_init(&ready, no_wake, NULL);
}

static void tear_down(void)
{
    traffic_close(traffic);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    traffic_free(traffic);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
}

/* One attempt; with a status of 429 it closes the model's gate. */
static void attempt(const char *model, unsigned status)
{
    struct turn_request turn_request = {.plan = &plan,
                                        .model = str_from(model),
                                        .latest_ms = TURNS_NEVER,
                                        .gate_latest_ms = TURNS_NEVER};
    struct turn_result r = {.status = status};
    struct turn turn;

    memset(&turn, 0, sizeof turn);
    if (status == 429) {
        r.verdict = (struct verdict){.kind = VERDICT_RETRY, .reason = REASON_RATE_LIMIT};
        r.hint = (struct hint){HINT_RETRY_AFTER_MS, 60000};
    }
    ck_assert_int_eq(turns_ask(turns, &turn, &ready, &turn_request), TURN_GRANTED);
    turns_tell(turns, &turn, &r);
    turns_end(turns, &turn);
}

START_TEST(gates_outlive_a_flood_of_requests)
{
    attempt("limited", 429);
    for (unsigned i = 0; i < FLOOD; i++)
        attempt("m", 200);
    while (gates == 0 || taken < FLOOD + 1)
        (void)uv_run(&loop, UV_RUN_ONCE);
    ck_assert_uint_eq(gates, 1);
    ck_assert_uint_eq(taken, FLOOD + 1);
    ck_assert_uint_eq(calls, 1);
    ck_assert_uint_eq(traffic_news_dropped(traffic), 0);
}
END_TEST

START_TEST(what_finds_no_place_is_counted)
{
    unsigned dropped;
    char model[16];

    for (unsigned i = 0; i < MODELS; i++) {
        (void)snprintf(model, sizeof model, "m%u", i);
        attempt(model, 429);
    }
    dropped = (unsigned)traffic_news_dropped(traffic);
    ck_assert_uint_gt(dropped, 0);
    while (gates < MODELS - dropped)
        (void)uv_run(&loop, UV_RUN_ONCE);
    ck_assert_uint_eq(gates, MODELS - dropped);
    ck_assert_uint_eq(taken, MODELS);
}
END_TEST

/* Each of as many upstreams is counted, and those beyond are not lost without a word. */
START_TEST(attempts_at_too_many_upstreams_are_counted_as_dropped)
{
    static struct upstream many[UPSTREAMS];
    static char names[UPSTREAMS][8];
    struct upstream one = upstream;

    for (unsigned i = 0; i < UPSTREAMS; i++) {
        const struct upstream *all[] = {&many[i]};

        (void)snprintf(names[i], sizeof names[i], "p%u", i);
        many[i] = one;
        many[i].name = names[i];
        many[i].id = i + 1;
        plan.upstreams = all;
        attempt("m", 200);
    }
    plan.upstreams = list;
    while (taken + traffic_news_dropped(traffic) < UPSTREAMS)
        (void)uv_run(&loop, UV_RUN_ONCE);
    ck_assert_uint_eq(traffic_news_dropped(traffic), UPSTREAMS - UPSTREAMS_COUNTED);
    ck_assert_uint_eq(calls, UPSTREAMS_COUNTED);
}
END_TEST

START_TEST(without_memory_no_half_of_the_metrics_is_shown)
{
    struct traffic_view *views = NULL;
    struct buf out;
    size_t n = 0;
    int rc;

    attempt("m", 200);
    buf_init(&out, 1 << 20);
    ck_assert_int_eq(buf_reserve(&out, 1 << 18), 0);
    failmem_arm(1);
    rc = traffic_views(traffic, &views, &n);
    ck_assert(failmem_disarm());
    ck_assert_int_eq(rc, -ENOMEM);
    ck_assert_ptr_null(views);
    failmem_arm(1);
    traffic_metrics(traffic, &out);
    ck_assert(failmem_disarm());
    ck_assert(out.failed);
    buf_deinit(&out);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "traffic");

    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, gates_outlive_a_flood_of_requests);
    tcase_add_test(tcase, what_finds_no_place_is_counted);
    tcase_add_test(tcase, attempts_at_too_many_upstreams_are_counted_as_dropped);
    tcase_add_test(tcase, without_memory_no_half_of_the_metrics_is_shown);
}
