/* Two attempts at once: which one wins, and how the other one ends (C23). */
#include <check.h>
#include <string.h>

#include "unit.h"
#include "world_fixture.h"

#define ERROR_TEXT "{\"error\":{\"message\":\"no\",\"code\":\"x\"}}"
#define EVENT "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"}}]}\n\n"
#define ROLE "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\"}}]}\n\n"
#define ENDED "data: {\"type\":\"response.completed\",\"sequence_number\":0}\n\n"
#define AFTER 100

static char blanks[300000];

#define GOOD(ms, text)                                                                 \
    {                                                                                  \
        .status = 200, .headers = JSON, .headers_ms = (ms), .pieces = { {0, text, 0} } \
    }
#define FAILS(ms)                                                                            \
    {                                                                                        \
        .status = 500, .headers = JSON, .headers_ms = (ms), .pieces = { {0, ERROR_TEXT, 0} } \
    }
#define SILENT        \
    {                 \
        .hangs = true \
    }

static void set_up(const struct fake_attempt *script, unsigned n)
{
    world_set_up();
    world_follow(script, n);
    w.settings.hedge = (struct hedge_settings){.after_ms = AFTER, .requests = HEDGE_ALL};
}

static void upstreams(unsigned n)
{
    static const char *const names[] = {"a", "b", "c"};

    w.upstream_count = n;
    for (unsigned i = 0; i < n; i++)
        w.upstreams[i] = (struct upstream){.name = names[i],
                                           .id = 1 + i,
                                           .host = "x.example",
                                           .base_path = "/v1",
                                           .query = "",
                                           .auth_header = "Authorization",
                                           .idempotency_header = ""};
}

static void run(void)
{
    fake_begin_chat(&w, false);
    world_finish();
    ck_assert_ptr_null(w.x.hedge.rival);
}

static void answered(const char *text, uint64_t at_ms)
{
    world_answered(text);
    ck_assert_uint_eq(w.answered_ms, at_ms);
}

START_TEST(the_first_good_response_wins_and_the_other_is_cancelled_at_once)
{
    static const struct {
        struct fake_attempt script[2];
        unsigned winner;
        uint64_t at_ms;
    } cases[] = {
        {{SILENT, GOOD(50, "{\"n\":1}")}, 1, AFTER + 50},
        {{GOOD(300, "{\"n\":0}"), GOOD(50, "{\"n\":1}")}, 1, AFTER + 50},
        {{GOOD(120, "{\"n\":0}"), GOOD(50, "{\"n\":1}")}, 0, 120},
        {{GOOD(120, "{\"n\":0}"), SILENT}, 0, 120},
        {{GOOD(150, "{\"n\":0}"), GOOD(50, "{\"n\":1}")}, 0, 150}, /* in the same moment */
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        unsigned loser = 1 - cases[i].winner;

        set_up(cases[i].script, 2);
        run();
        answered(cases[i].winner ? "{\"n\":1}" : "{\"n\":0}", cases[i].at_ms);
        ck_assert_uint_eq(w.starts, 2);
        ck_assert_uint_eq(w.start[1].at_ms, AFTER);
        ck_assert_uint_eq(w.hedges, 1);
        ck_assert_uint_eq(w.x.attempts, 2);
        ck_assert_uint_eq(w.start[loser].gone_ms, cases[i].at_ms);
        ck_assert_uint_eq(w.failures, 0);
        world_tear_down();
    }
}
END_TEST

/* The head of the first has come, and its body takes its time. */
START_TEST(the_second_may_overtake_the_first_amid_its_response)
{
    static const struct fake_attempt script[] = {
        {.status = 200,
         .headers = JSON,
         .headers_ms = 120,
         .pieces = {{0, "{", 0}, {2000, "}", 0}}},
        GOOD(50, "{\"n\":1}"),
        FAILS(50),
        {.end_ms = 50, .end = TRANSPORT_LOST},
    };

    for (unsigned i = 1; i < COUNT(script); i++) {
        struct fake_attempt two[] = {script[0], script[i]};

        set_up(two, 2);
        run();
        if (i == 1)
            answered("{\"n\":1}", AFTER + 50);
        else
            answered("{}", 2120);
        ck_assert_uint_eq(w.start[1].gone_ms, AFTER + 50);
        ck_assert_uint_eq(w.failures, i > 1);
        world_tear_down();
    }
}
END_TEST

START_TEST(a_response_before_its_time_needs_no_second)
{
    static const struct fake_attempt script[] = {GOOD(AFTER - 1, "{}")};

    set_up(script, 1);
    run();
    answered("{}", AFTER - 1);
    ck_assert_uint_eq(w.starts, 1);
    world_tear_down();
}
END_TEST

START_TEST(one_that_fails_is_told_and_the_other_goes_on)
{
    static const struct {
        struct fake_attempt script[2];
        unsigned failed;
    } cases[] = {
        {{FAILS(200), GOOD(300, "{\"n\":1}")}, 1},
        {{GOOD(400, "{\"n\":1}"), FAILS(100)}, 2},
        {{{.end_ms = 200, .end = TRANSPORT_LOST}, GOOD(300, "{\"n\":1}")}, 1},
        {{GOOD(400, "{\"n\":1}"), {.end_ms = 100, .end = TRANSPORT_CONNECT}}, 2},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        set_up(cases[i].script, 2);
        run();
        answered("{\"n\":1}", 400);
        ck_assert_uint_eq(w.starts, 2);
        ck_assert_uint_eq(w.failures, 1);
        ck_assert_uint_eq(w.reports[0].number, cases[i].failed);
        ck_assert_str_eq(w.reports[0].decision.why_not, "the other of two attempts goes on");
        ck_assert_uint_eq(w.x.wait_ms, 0);
        world_tear_down();
    }
}
END_TEST

START_TEST(where_both_fail_it_is_made_again)
{
    static const struct {
        struct fake_attempt script[3];
        uint64_t failed_ms;
    } cases[] = {
        {{FAILS(150), FAILS(150), GOOD(10, "{}")}, 250},
        {{FAILS(300), FAILS(50), GOOD(10, "{}")}, 300},
        {{FAILS(150), FAILS(50), GOOD(10, "{}")}, 150}, /* in the same moment */
        {{{.end_ms = 150, .end = TRANSPORT_LOST},
          {.end_ms = 50, .end = TRANSPORT_LOST},
          GOOD(10, "{}")},
         150},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        uint64_t again_ms = cases[i].failed_ms + 2000; /* the second wait, for two have failed */

        set_up(cases[i].script, 3);
        run();
        answered("{}", again_ms + 10);
        ck_assert_uint_eq(w.failures, 2);
        ck_assert_uint_eq(w.start[2].at_ms, again_ms);
        world_tear_down();
    }
}
END_TEST

/* The body of the first comes slowly, and the second says nothing at all. */
START_TEST(the_second_times_out_by_itself)
{
    static const struct fake_attempt script[] = {
        {.status = 200,
         .headers = JSON,
         .headers_ms = 150,
         .pieces = {{400, "{\"n\":", 0}, {400, "0}", 0}}},
        SILENT,
    };

    set_up(script, 2);
    w.settings.timeout.first_byte_ms = 500;
    run();
    answered("{\"n\":0}", 950);
    ck_assert_uint_eq(w.start[1].gone_ms, AFTER + 500);
    ck_assert_uint_eq(w.failures, 1);
    ck_assert_int_eq(w.reports[0].verdict.reason, REASON_FIRST_BYTE_TIMEOUT);
    ck_assert_uint_eq(w.reports[0].number, 2);
    world_tear_down();
}
END_TEST

START_TEST(the_deadline_ends_both)
{
    static const struct fake_attempt script[] = {SILENT};

    set_up(script, 1);
    w.settings.retry.deadline_ms = 400;
    run();
    ck_assert_int_eq(w.x.end, END_FAILED);
    ck_assert_uint_eq(w.response.status, 504);
    ck_assert_uint_eq(w.answered_ms, w.x.deadline.at_ms);
    ck_assert_uint_eq(w.cancels, 2);
    ck_assert_uint_eq(w.failures, 1);
    world_tear_down();
}
END_TEST

START_TEST(a_client_that_leaves_ends_both)
{
    static const struct fake_attempt script[] = {SILENT};

    set_up(script, 1);
    w.client.leaves_at = 250;
    run();
    ck_assert_int_eq(w.x.end, END_CLIENT_GONE);
    for (unsigned i = 0; i < 2; i++) {
        ck_assert(w.start[i].cancelled);
        ck_assert_uint_eq(w.start[i].gone_ms, 250);
    }
    world_tear_down();
}
END_TEST

/* A heartbeat has begun the stream, which so has last words; and the client is slow to take
 * them. */
START_TEST(the_end_of_retryd_ends_both)
{
    static const struct fake_attempt script[] = {SILENT};

    set_up(script, 1);
    w.settings.stream.heartbeat_ms = 150;
    w.client.every_ms = 1000;
    fake_begin_chat(&w, true);
    fake_run_until(&w, 200);
    ck_assert_ptr_nonnull(w.x.hedge.rival);
    ck_assert(w.x.reply.begun);
    exchange_abort(&w.x);
    w.dirty = true;
    world_finish();
    world_told(": retryd\n", "shutting_down", END_FAILED);
    for (unsigned i = 0; i < 2; i++)
        ck_assert_uint_eq(w.start[i].gone_ms, 150);
    world_tear_down();
}
END_TEST

START_TEST(of_streams_the_first_good_head_wins)
{
    static const struct fake_attempt script[] = {
        SILENT,
        {.status = 200,
         .headers = SSE,
         .headers_ms = 50,
         .pieces = {{100, EVENT, 0}, {300, "data: [DONE]\n\n", 0}}},
    };

    set_up(script, 2);
    w.settings.stream.mode = _i == 0 ? STREAM_LIVE : STREAM_HOLD;
    fake_begin_chat(&w, true);
    world_finish();
    answered(EVENT "data: [DONE]\n\n", AFTER + (_i == 0 ? 150 : 450));
    ck_assert_uint_eq(w.start[0].gone_ms, AFTER + 150); /* at its content, sent or held */
    world_tear_down();
}
END_TEST

/* If one stream broke within an event, the other one's first bytes are read all the same. */
START_TEST(a_stream_that_takes_over_is_read_from_its_first_byte)
{
    static const struct fake_attempt script[] = {
        {.status = 200,
         .headers = SSE,
         .headers_ms = 150,
         .pieces =
             {{10,
               "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"and more",
               0}},
         .end = TRANSPORT_LOST},
        {.status = 200,
         .headers = SSE,
         .headers_ms = 400,
         .pieces = {{10, EVENT, 0}, {20, "data: [DONE]\n\n", 0}}},
    };

    set_up(script, 2);
    fake_begin_chat(&w, true);
    world_finish();
    answered(EVENT "data: [DONE]\n\n", AFTER + 410);
    world_tear_down();
}
END_TEST

/* The held events of the one that broke are no part of the other one's answer. */
START_TEST(a_stream_that_takes_over_brings_nothing_of_the_other)
{
    static const struct fake_attempt first = {.status = 200,
                                              .headers = SSE,
                                              .headers_ms = 150,
                                              .pieces = {{10, ROLE, 0}},
                                              .end_ms = 10,
                                              .end = TRANSPORT_LOST};
    const struct fake_attempt scripts[][2] = {
        {first,
         {.status = 200,
          .headers = SSE,
          .headers_ms = 400,
          .pieces = {{10, EVENT, 0}, {20, "data: [DONE]\n\n", 0}}}},
        {first,
         {.status = 200,
          .headers = JSON "Content-Length: 300002\n",
          .headers_ms = 400,
          .pieces = {{10, "{", 0}, {0, blanks, 300000}, {0, "}", 0}}}},
    };

    memset(blanks, ' ', sizeof(blanks));
    for (size_t i = 0; i < COUNT(scripts); i++) {
        set_up(scripts[i], 2);
        w.limits.hold_limit = 200000;
        fake_begin_chat(&w, true);
        world_finish();
        ck_assert_int_eq(w.x.end, END_ANSWERED);
        if (i == 0)
            answered(EVENT "data: [DONE]\n\n", AFTER + 410);
        else
            ck_assert_uint_eq(w.body.len, 300002);
        ck_assert_uint_eq(w.starts, 2);
        world_tear_down();
    }
}
END_TEST

/* It is not resumed at another target either when the other one has failed, too. */
START_TEST(a_response_of_the_other_is_not_read_on)
{
    static const struct fake_attempt script[] = {
        {.status = 200,
         .headers = SSE,
         .headers_ms = 150,
         .pieces = {{10,
                     "data: {\"type\":\"response.created\",\"sequence_number\":0,"
                     "\"response\":{\"id\":\"resp_1\"}}\n\n",
                     0}},
         .end_ms = 10,
         .end = TRANSPORT_LOST},
        FAILS(300),
        {.status = 200, .headers = SSE, .pieces = {{0, ENDED, 0}}},
    };

    set_up(script, 3);
    upstreams(2);
    fake_begin(&w, "POST", "/v1/responses", JSON, "{\"stream\":true,\"background\":true}");
    world_finish();
    world_answered(ENDED);
    ck_assert_uint_eq(w.starts, 3);
    ck_assert(!w.method_is_get);
    world_tear_down();
}
END_TEST

/* Its first bytes fill what an attempt may hold before it is looked at. */
START_TEST(a_long_response_of_the_second_is_not_left_waiting)
{
    static char text[300001];
    static struct fake_attempt script[] = {SILENT, GOOD(50, text)};

    memset(text, ' ', sizeof(text) - 1);
    memcpy(text, "{}", 2);
    set_up(script, 2);
    run();
    answered(text, AFTER + 50);
    world_tear_down();
}
END_TEST

/* Its connection proved dead: what was made beside it goes on, under its own number. */
START_TEST(a_stale_one_is_not_made_again_beside_the_other)
{
    static const struct {
        struct fake_attempt script[2];
        unsigned failures;
    } cases[] = {
        {{{.end_ms = 150, .end = TRANSPORT_STALE}, GOOD(300, "{}")}, 0},
        {{GOOD(400, "{}"), {.end_ms = 50, .end = TRANSPORT_STALE}}, 0},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        set_up(cases[i].script, 2);
        run();
        answered("{}", 400);
        ck_assert_uint_eq(w.starts, 2);
        ck_assert_uint_eq(w.failures, 0);
        world_tear_down();
    }
}
END_TEST

/* A request that was never sent is no attempt: the number of attempts left does not change. */
START_TEST(a_stale_one_beside_the_other_costs_no_attempt)
{
    static const struct fake_attempt scripts[][3] = {
        {{.end_ms = 150, .end = TRANSPORT_STALE}, FAILS(300), GOOD(10, "{}")},
        {FAILS(400), {.end_ms = 50, .end = TRANSPORT_STALE}, GOOD(10, "{}")},
    };

    for (size_t i = 0; i < COUNT(scripts); i++) {
        set_up(scripts[i], 3);
        w.settings.retry.max_attempts = 2;
        run();
        world_answered("{}");
        ck_assert_uint_eq(w.x.attempts, 2);
        ck_assert_uint_eq(w.failures, 1);
        ck_assert_uint_eq(w.reports[0].number, 1);
        ck_assert_uint_eq(w.x.attempt->number, 2);
        ck_assert_uint_eq(w.x.duplicates, 0);
        world_tear_down();
    }
}
END_TEST

START_TEST(no_number_is_given_twice)
{
    static const struct fake_attempt script[] = {
        {.end_ms = 300, .end = TRANSPORT_STALE}, FAILS(50), FAILS(50), GOOD(0, "{}")};

    set_up(script, 4);
    run();
    ck_assert(w.start[2].fresh);
    ck_assert_uint_eq(w.failures, 2);
    ck_assert_uint_eq(w.reports[0].number, 2);
    ck_assert_uint_eq(w.reports[1].number, 1);
    ck_assert_uint_eq(w.start[3].at_ms, 350 + 2000);
    ck_assert_uint_eq(w.x.attempts, 3);
    world_tear_down();
}
END_TEST

START_TEST(attempts_count_for_both)
{
    static const struct fake_attempt script[] = {FAILS(250), FAILS(50), GOOD(0, "{}")};

    set_up(script, 3);
    w.settings.retry.max_attempts = 2;
    run();
    ck_assert_int_eq(w.x.end, END_FAILED);
    ck_assert_uint_eq(w.starts, 2);
    world_tear_down();

    set_up(script, 3);
    w.settings.retry.max_attempts = 1;
    run();
    ck_assert_uint_eq(w.starts, 1);
    world_tear_down();
}
END_TEST

/* The upstream's last word is not lost with the one of two that had it (C24). */
START_TEST(where_only_one_has_a_response_that_is_told)
{
    static const struct fake_attempt lost = {.end_ms = 400, .end = TRANSPORT_LOST};
    const struct fake_attempt scripts[][2] = {
        {FAILS(150), lost},
        {{.end_ms = 500, .end = TRANSPORT_LOST}, FAILS(50)},
    };

    for (size_t i = 0; i < COUNT(scripts); i++) {
        set_up(scripts[i], 2);
        w.settings.retry.max_attempts = 2;
        run();
        ck_assert_int_eq(w.x.end, END_FAILED);
        ck_assert_uint_eq(w.answered_ms, 500);
        ck_assert_uint_eq(w.response.status, 500);
        ck_assert(world_body_is(ERROR_TEXT));
        world_tear_down();
    }
}
END_TEST

START_TEST(not_without_budget_or_a_turn_or_time)
{
    static const struct fake_attempt script[] = {GOOD(300, "{}")};

    for (unsigned i = 0; i < 4; i++) {
        set_up(script, 1);
        if (i == 0)
            w.settings.retry.budget_min = 0;
        else if (i == 1)
            w.settings.retry.deadline_ms = 340;
        w.upstream_count = 1;
        w.upstreams[0] = (struct upstream){.name = "a",
                                           .id = 1,
                                           .host = "a.example",
                                           .base_path = "/v1",
                                           .query = "",
                                           .auth_header = "Authorization",
                                           .idempotency_header = "",
                                           .max_concurrency = i == 2};
        if (i == 1)
            w.settings.hedge.after_ms = 295;
        run();
        answered("{}", 300);
        ck_assert_uint_eq(w.starts, i == 3 ? 2 : 1);
        ck_assert_uint_eq(w.denied, i == 0);
        ck_assert_uint_eq(fake_repeats(&w, 0), i == 3); /* what has no turn costs none */
        world_tear_down();
    }
}
END_TEST

START_TEST(only_what_is_safe_unless_told_otherwise)
{
    static const struct fake_attempt script[] = {GOOD(300, "{}")};
    static const struct {
        const char *method, *target, *headers;
        bool all, hedges;
    } cases[] = {
        {"POST", "/v1/chat/completions", NULL, false, false},
        {"POST", "/v1/chat/completions", NULL, true, true},
        {"POST", "/v1/embeddings", NULL, false, true},
        {"POST", "/v1/moderations?x=1", NULL, false, true},
        {"POST", "/v1/embeddings/jobs", NULL, false, false},
        {"GET", "/v1/models", NULL, false, true},
        {"DELETE", "/v1/files/x", NULL, false, false},
        {"GET", "/v1/models", "x-retryd-no-retry: true\n", true, false},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        set_up(script, 1);
        w.settings.hedge.requests = cases[i].all ? HEDGE_ALL : HEDGE_SAFE;
        fake_begin(&w, cases[i].method, cases[i].target, cases[i].headers, "");
        world_finish();
        ck_assert_msg(w.hedges == cases[i].hedges, "case %zu", i);
        world_tear_down();
    }
}
END_TEST

START_TEST(at_another_target_where_there_is_one)
{
    static const struct fake_attempt script[] = {SILENT, GOOD(10, "{}")};

    set_up(script, 2);
    upstreams(2);
    run();
    answered("{}", AFTER + 10);
    ck_assert_ptr_eq(w.start[1].target.upstream, &w.upstreams[1]);
    ck_assert_ptr_eq(w.x.placement.target.upstream,
                     &w.upstreams[1]);         /* who is told to have served it */
    ck_assert_uint_eq(fake_repeats(&w, 1), 1); /* it is charged where it goes */
    ck_assert_uint_eq(w.x.placement.turn_request.visited,
                      3); /* another attempt at either is a repeat */
    world_tear_down();
}
END_TEST

START_TEST(one_that_has_just_failed_is_no_other_target)
{
    static const struct fake_attempt script[] = {FAILS(10), SILENT, GOOD(10, "{}")};

    set_up(script, 3);
    upstreams(3);
    run();
    answered("{}", 10 + AFTER + 10);
    for (unsigned i = 0; i < 3; i++)
        ck_assert_ptr_eq(w.start[i].target.upstream, &w.upstreams[i]);
    world_tear_down();
}
END_TEST

/* A verdict on one of two is remembered, though the other one's end decides (C4). */
START_TEST(a_verdict_is_not_repeated_after_the_other)
{
    static const struct fake_attempt gone = {
        .status = 404,
        .headers = JSON,
        .headers_ms = 150,
        .pieces = {{0, "{\"error\":{\"message\":\"no\",\"code\":\"model_not_found\"}}", 0}}};
    const struct fake_attempt scripts[][3] = {
        {gone, FAILS(100), GOOD(10, "{}")},
        {FAILS(300), gone, GOOD(10, "{}")},
    };

    for (unsigned i = 0; i < COUNT(scripts); i++) {
        set_up(scripts[i], 3);
        upstreams(2);
        run();
        world_answered("{}");
        ck_assert_uint_eq(w.starts, 3);
        ck_assert_int_eq(w.reports[0].verdict.reason, REASON_MODEL);
        ck_assert_ptr_eq(w.start[i].target.upstream, &w.upstreams[i]);
        ck_assert_ptr_eq(w.start[2].target.upstream, &w.upstreams[1 - i]);
        world_tear_down();
    }
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *c = unit_case(suite, "two");

    tcase_add_test(c, the_first_good_response_wins_and_the_other_is_cancelled_at_once);
    tcase_add_test(c, the_second_may_overtake_the_first_amid_its_response);
    tcase_add_test(c, a_response_before_its_time_needs_no_second);
    tcase_add_test(c, one_that_fails_is_told_and_the_other_goes_on);
    tcase_add_test(c, where_both_fail_it_is_made_again);
    tcase_add_test(c, the_second_times_out_by_itself);
    tcase_add_test(c, the_deadline_ends_both);
    tcase_add_test(c, a_client_that_leaves_ends_both);
    tcase_add_test(c, the_end_of_retryd_ends_both);
    tcase_add_loop_test(c, of_streams_the_first_good_head_wins, 0, 2);
    tcase_add_test(c, a_stream_that_takes_over_is_read_from_its_first_byte);
    tcase_add_test(c, a_stream_that_takes_over_brings_nothing_of_the_other);
    tcase_add_test(c, a_response_of_the_other_is_not_read_on);
    tcase_add_test(c, a_long_response_of_the_second_is_not_left_waiting);
    tcase_add_test(c, a_stale_one_is_not_made_again_beside_the_other);
    tcase_add_test(c, a_stale_one_beside_the_other_costs_no_attempt);
    tcase_add_test(c, no_number_is_given_twice);
    tcase_add_test(c, attempts_count_for_both);
    tcase_add_test(c, where_only_one_has_a_response_that_is_told);
    tcase_add_test(c, not_without_budget_or_a_turn_or_time);
    tcase_add_test(c, only_what_is_safe_unless_told_otherwise);
    tcase_add_test(c, at_another_target_where_there_is_one);
    tcase_add_test(c, one_that_has_just_failed_is_no_other_target);
    tcase_add_test(c, a_verdict_is_not_repeated_after_the_other);
}
