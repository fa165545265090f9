/* News on their way from the workers to the main thread: those of gates outlive a flood of requests. */

#include "worker/traffic.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "unit.h"

#define FLOOD 5000
#define MODELS 1500 /* more than there are places for news of gates */

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

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "traffic");

    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, gates_outlive_a_flood_of_requests);
    tcase_add_test(tcase, what_finds_no_place_is_counted);
}
