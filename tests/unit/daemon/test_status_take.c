/* What the status pages are given: how well the daemon is and why, and which models are shown. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "config_text.h"
#include "daemon/server_private.h"
#include "failmem.h"
#include "unit.h"

static struct server s;
static struct loaded loaded;
static struct route_settings settings;
static struct upstream upstreams[2];
static struct turns_ready ready;

static void no_wake(void *arg)
{
    (void)arg;
}

static void set_up(void)
{
    memset(&s, 0, sizeof(s));
    log_configure(LOG_ERROR, false);
    loaded = config_text_load(
        "[upstream a]\nurl = https://a.example/v1\n[upstream b]\nurl = https://b.example/v1\n"
        "[route r]\nupstreams = a, b\n");
    ck_assert_str_eq(loaded.problems, "");
    s.config = loaded.config;
    ck_assert_int_eq(uv_loop_init(&s.loop), 0);
    s.traffic = traffic_new(&s.loop);
    s.history = history_new();
    ck_assert(s.traffic && s.history);
    turns_ready_init(&ready, no_wake, NULL);
    settings.queue.size = 10;
    for (unsigned i = 0; i < 2; i++)
        upstreams[i] = (struct upstream){.name = i ? "b" : "a",
                                         .id = i + 1,
                                         .host = "",
                                         .base_path = "",
                                         .query = "",
                                         .auth_header = "Authorization",
                                         .idempotency_header = ""};
}

static void tear_down(void)
{
    traffic_close(s.traffic);
    (void)uv_run(&s.loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&s.loop), 0);
    traffic_free(s.traffic);
    history_free(s.history);
    loaded_deinit(&loaded);
}

/* One good response for the model. */
static void attempt(const struct upstream *upstream, const char *model)
{
    struct plan plan = {.route = "r",
                        .base = STR("/v1"),
                        .settings = &settings,
                        .upstreams = &upstream,
                        .upstream_count = 1};
    struct turn_request request = {.plan = &plan,
                                   .model = str_from(model),
                                   .latest_ms = TURNS_NEVER,
                                   .gate_latest_ms = TURNS_NEVER};
    struct turn_result r = {.status = 200};
    struct turns *turns = traffic_turns(s.traffic);
    struct turn turn;

    memset(&turn, 0, sizeof(turn));
    ck_assert_int_eq(turns_ask(turns, &turn, &ready, &request), TURN_GRANTED);
    turns_tell(turns, &turn, &r);
    turns_end(turns, &turn);
}

static void is_only(enum status_health health, const char *why)
{
    struct status st;

    ck_assert_int_eq(status_take(&s, 0, &st), 0);
    ck_assert_int_eq(st.health, health);
    ck_assert_uint_eq(st.why_count, why ? 1 : 0);
    if (why)
        ck_assert_str_eq(st.why[0], why);
    status_free(&st);
}

START_TEST(it_is_told_how_well_the_daemon_is)
{
    is_only(STATUS_WELL, NULL);
    s.pings_missed = PINGS_MISSED_WELL;
    is_only(STATUS_WELL, NULL);
    s.pings_missed = PINGS_MISSED_WELL + 1;
    is_only(STATUS_STUCK, "a worker has not responded for 6 seconds");
    s.pings_missed = 0;
    s.ending = true;
    is_only(STATUS_DRAINING, "running requests are finished; new connections are still accepted");
    s.draining = true;
    is_only(STATUS_DRAINING, "running requests are finished; new connections are refused");
    s.ending = s.draining = false;
    s.reloads.differs = true;
    is_only(STATUS_ATTENTION,
            "t.conf was changed after it was read; `retryd reload` reads it again");
    s.reloads.refused = true;
    snprintf(s.reloads.problem, sizeof(s.reloads.problem), "t.conf:1: no");
    is_only(STATUS_ATTENTION, "the last reload was refused, and the configuration before it is in "
                              "force: t.conf:1: no");
}
END_TEST

/* A client that names any models hides those of no other upstream. */
START_TEST(as_many_models_of_each_upstream_are_shown)
{
    struct status st;
    unsigned shown[2] = {0}, hidden[2] = {0};

    for (unsigned i = 0; i < STATUS_MODELS_MAX + 3; i++) {
        char model[16];

        (void)snprintf(model, sizeof(model), "m%u", i);
        attempt(&upstreams[0], model);
        attempt(&upstreams[1], model);
    }
    ck_assert_int_eq(status_take(&s, 0, &st), 0);
    for (unsigned i = 0; i < st.view_count; i++)
        if (st.views[i].view.kind == VIEW_MODEL)
            (st.views[i].hidden ? hidden : shown)[st.views[i].upstream[0] == 'b']++;
    for (unsigned u = 0; u < 2; u++) {
        ck_assert_uint_eq(shown[u], STATUS_MODELS_MAX);
        ck_assert_uint_eq(hidden[u], 3);
    }
    status_free(&st);
}
END_TEST

START_TEST(without_memory_there_is_no_status)
{
    attempt(&upstreams[0], "m");
    for (size_t n = 1; n <= 2; n++) { /* the views, the stories */
        struct status st;
        int rc;

        failmem_arm(n);
        rc = status_take(&s, 0, &st);
        ck_assert(failmem_disarm());
        ck_assert_int_eq(rc, -ENOMEM);
    }
    is_only(STATUS_WELL, NULL);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *c = unit_case(suite, "status");

    tcase_add_checked_fixture(c, set_up, tear_down);
    tcase_add_test(c, it_is_told_how_well_the_daemon_is);
    tcase_add_test(c, as_many_models_of_each_upstream_are_shown);
    tcase_add_test(c, without_memory_there_is_no_status);
}
