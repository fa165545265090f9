/* A stream's times, in virtual time: first content, idle, the deadline, and the heartbeat. */

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stream_text.h"
#include "unit.h"
#include "world_fixture.h"

#define BEAT ": retryd\n"
#define LIVE STREAM_LIVE
#define SPLICE STREAM_SPLICE
#define HOLD STREAM_HOLD

static void begin(const struct fake_attempt *script, unsigned n, enum stream_mode mode)
{
    world_follow(script, n);
    w.settings.stream.mode = mode;
    fake_begin(&w, "POST", "/v1/chat/completions", NULL, "{\"stream\":true}");
}

static void run(const struct fake_attempt *script, unsigned n, enum stream_mode mode)
{
    begin(script, n, mode);
    world_finish();
}

static const struct fake_attempt at_once = {
    .status = 200, .headers = SSE, .pieces = {{0, WHOLE, 0}}};

/* --- timeouts --------------------------------------------------------------------------------- */

/* A model may think for minutes behind its hello: no other time is in force until it speaks. */
START_TEST(first_content_is_a_time_of_its_own)
{
    const struct fake_attempt thinks = {.status = 200,
                                        .headers_ms = 50,
                                        .headers = SSE,
                                        .pieces = {{0, ROLE, 0},
                                                   {800, ": c\n\n", 0},
                                                   {800, ROLE, 0},
                                                   {300, TEXT("Hello"), 0},
                                                   {90, TEXT(" you") STOP DONE, 0}}};

    w.settings.timeout =
        (struct timeout_settings){.first_byte_ms = 100, .idle_ms = 100, .first_content_ms = 2000};
    run(&thinks, 1, (enum stream_mode)_i);
    world_answered(ROLE ": c\n\n" ROLE TEXT("Hello") TEXT(" you") STOP DONE);
    ck_assert_uint_eq(w.starts, 1);
}
END_TEST

/* It counts from the start of the attempt, whatever came that is no content. */
START_TEST(no_content_for_too_long)
{
    const struct fake_attempt script[] = {
        {.status = 200,
         .headers_ms = 50,
         .headers = SSE,
         .pieces = {{0, ROLE, 0}, {800, ": c\n\n", 0}, {800, ROLE, 0}, {800, TEXT("late"), 0}}},
        at_once};

    w.settings.timeout.first_content_ms = 2000;
    run(script, 2, (enum stream_mode)_i);
    world_answered(WHOLE);
    ck_assert_uint_eq(w.start[0].gone_ms, 2000);
    ck_assert(w.start[0].cancelled);
    ck_assert_int_eq(w.reports[0].verdict.reason, REASON_FIRST_CONTENT_TIMEOUT);
    ck_assert_str_eq(w.x.last_detail, "no content for 2000 ms");
}
END_TEST

/* And again for the response that takes over, whose content the client has already. */
/* Whoever was silent is not asked again: each is another upstream's. */
START_TEST(each_attempt_has_its_times)
{
    const struct fake_attempt script[] = {
        {.status = 200, .headers = SSE, .pieces = {{0, ROLE TEXT("Hello"), 0}}, .hangs = true},
        {.status = 200, .headers = SSE, .pieces = {{0, ROLE, 0}}, .hangs = true},
        {.status = 200, .hangs = true, .headers = SSE, .headers_ms = 900},
        {.status = 200,
         .headers = SSE,
         .pieces = {{0, ROLE TEXT("Hel"), 0},
                    {200, TEXT("lo"), 0},
                    {200, TEXT(" you"), 0},
                    {200, STOP DONE, 0}}}};
    static const enum reason reasons[] = {REASON_IDLE_TIMEOUT, REASON_FIRST_CONTENT_TIMEOUT,
                                          REASON_FIRST_BYTE_TIMEOUT};
    static const uint64_t ages[] = {300, 500, 700};

    w.settings.timeout =
        (struct timeout_settings){.first_byte_ms = 700, .idle_ms = 300, .first_content_ms = 500};
    world_upstreams(4);
    run(script, 4, SPLICE);
    world_answered(ROLE TEXT("Hello") TEXT(" you") STOP DONE);
    for (unsigned i = 0; i < COUNT(reasons); i++) {
        ck_assert_int_eq(w.reports[i].verdict.reason, reasons[i]);
        ck_assert_uint_eq(w.start[i].gone_ms - w.start[i].at_ms, ages[i]);
    }
    ck_assert_uint_eq(w.x.stream.splices, 1);
}
END_TEST

/* Any sign of life counts once there is content, as long as some of it is more than that. */
START_TEST(a_stream_that_keeps_coming_is_not_ended)
{
    struct fake_attempt a = {.status = 200, .headers = SSE};

    a.pieces[0] = (struct fake_piece){90, ROLE TEXT("Hello"), 0};
    for (unsigned i = 1; i < FAKE_PIECES - 1; i++) /* the last one of them is half an event, too */
        a.pieces[i] = (struct fake_piece){90,
                                          i % 3 == 0   ? ": c\n\n"
                                          : i % 3 == 1 ? TEXT("x")
                                                       : "data: {\"choices\":[",
                                          0};
    for (unsigned i = 2; i < FAKE_PIECES - 1; i += 3)
        a.pieces[i + 1] = (struct fake_piece){90, "]}\n\n", 0};
    a.pieces[FAKE_PIECES - 1].text = "]}\n\n" STOP DONE;
    w.settings.timeout =
        (struct timeout_settings){.first_byte_ms = 100, .idle_ms = 100, .first_content_ms = 400};
    w.settings.retry.deadline_ms = _i == HOLD ? 5000 : 150;
    run(&a, 1, (enum stream_mode)_i);
    ck_assert_int_eq(w.x.end, END_ANSWERED);
    ck_assert_uint_eq(w.starts, 1);
    ck_assert_uint_eq(w.now_ms, FAKE_PIECES * 90);
}
END_TEST

START_TEST(the_deadline_ends_what_is_not_committed)
{
    const struct fake_attempt slow = {
        .status = 200,
        .headers = SSE,
        .pieces = {{10, ROLE, 0}, {90, TEXT("Hello"), 0}, {900, TEXT(" you") STOP DONE, 0}}};

    w.settings.retry.deadline_ms = 500;
    run(&slow, 1, (enum stream_mode)_i);
    if (_i != HOLD) {
        world_answered(WHOLE);
        return;
    }
    ck_assert_uint_eq(w.now_ms, 500);
    ck_assert_uint_eq(w.response.status, 504);
    ck_assert_int_eq(w.x.end, END_FAILED);
    ck_assert_int_eq(w.x.last_reason, REASON_DEADLINE);
}
END_TEST

/* Kept waiting by heartbeats, a client is as well off as with a live stream. */
START_TEST(the_deadline_does_not_end_content_that_comes)
{
    const struct fake_attempt slow = {.status = 200,
                                      .headers = SSE,
                                      .pieces = {{10, ROLE, 0},
                                                 {90, TEXT("Hello"), 0},
                                                 {350, ": c\n\n", 0},
                                                 {350, TEXT(" you"), 0},
                                                 {350, STOP DONE, 0}}};

    w.settings.retry.deadline_ms = 500;
    w.settings.stream.heartbeat_ms = 400;
    run(&slow, 1, HOLD);
    ck_assert_int_eq(w.x.end, END_ANSWERED);
    ck_assert(world_body_is(BEAT BEAT ROLE TEXT("Hello") ": c\n\n" TEXT(" you") STOP DONE));
    ck_assert_uint_eq(w.now_ms, 1150);
}
END_TEST

START_TEST(the_deadline_ends_an_attempt_without_content)
{
    const struct fake_attempt slow = {
        .status = 200, .headers = SSE, .pieces = {{10, ROLE, 0}}, .hangs = true};

    w.settings.retry.deadline_ms = 500;
    w.settings.stream.heartbeat_ms = 200;
    run(&slow, 1, (enum stream_mode)_i);
    world_told(BEAT BEAT, "deadline_exceeded", END_FAILED);
    ck_assert_uint_eq(w.now_ms, 500);
}
END_TEST

/* The last attempt's content says nothing about this one's. */
START_TEST(the_deadline_ends_the_next_attempt)
{
    const struct fake_attempt script[] = {{.status = 200,
                                           .headers = SSE,
                                           .pieces = {{10, ROLE TEXT("Hello"), 0}},
                                           .end_ms = 240,
                                           .end = TRANSPORT_TRUNCATED},
                                          {.hangs = true}};

    w.settings.retry.deadline_ms = 500;
    w.settings.retry.backoff.initial_delay_ms = 10;
    w.settings.stream.heartbeat_ms = 200;
    run(script, 2, HOLD);
    world_told(BEAT BEAT, "deadline_exceeded", END_FAILED);
    ck_assert_uint_eq(w.starts, 2);
    ck_assert_uint_eq(w.now_ms, 500);
}
END_TEST

/* --- the heartbeat ---------------------------------------------------------------------------- */

/* In every state that waits: for the head, for content, for the next attempt, within the stream. */
START_TEST(it_beats_wherever_it_waits)
{
    const struct fake_attempt script[] = {
        {.headers_ms = 0, .end_ms = 250, .end = TRANSPORT_LOST},
        {.status = 200,
         .headers_ms = 150,
         .headers = SSE,
         .pieces = {{0, ROLE, 0}, {250, ": c\n\n", 0}, {0, TEXT("Hello"), 0}},
         .end_ms = 10},
        {.status = 200,
         .headers = SSE,
         .pieces = {{150, ROLE TEXT("Hello"), 0},
                    {250, TEXT(" you"), 0},
                    {150, STOP "data: [DO", 0},
                    {150, "NE]\n\n", 0}}}};
    struct stream_told t;

    w.settings.stream.heartbeat_ms = 100;
    w.settings.retry.backoff.initial_delay_ms = 250;
    w.settings.retry.backoff.multiplier = 1;
    w.settings.retry.max_attempts = 3;
    run(script, 3, SPLICE);
    ck_assert_int_eq(w.x.end, END_ANSWERED);
    stream_read(buf_str(&w.body), &t);
    free(t.answer);
    ck_assert_uint_eq(t.rest, 0);
    ck_assert_uint_eq(t.errors, 0);
    /* 0 to 250, 500, 650, 900; then from 900 on */
    ck_assert_msg(world_body_is(BEAT BEAT BEAT BEAT BEAT BEAT BEAT BEAT ROLE ": c\n\n" TEXT("Hello")
                                    BEAT BEAT BEAT BEAT BEAT BEAT TEXT(" you") BEAT STOP BEAT DONE),
                  "%.*s", (int)w.body.len, w.body.p);
    ck_assert_uint_eq(w.response.status, 200);
    ck_assert(str_eq(fake_header(&w, "content-type"), STR("text/event-stream; charset=utf-8")));
    ck_assert(str_eq(fake_header(&w, "cache-control"), STR("no-cache")));
    ck_assert_uint_eq(w.answered_ms, 100);
    ck_assert_uint_eq(w.x.reply.first_byte_ms, 900); /* of a response */
}
END_TEST

/* It does not reveal held events, and does not split an event. */
START_TEST(it_beats_in_front_of_what_is_held)
{
    const struct fake_attempt a = {.status = 200,
                                   .headers = SSE,
                                   .pieces = {{10, ROLE, 0},
                                              {140, "data: {\"choices\"", 0},
                                              {100, ":[]}\n\n", 0},
                                              {10, TEXT("Hello") STOP DONE, 0}}};

    w.settings.stream.heartbeat_ms = 100;
    begin(&a, 1, (enum stream_mode)_i);
    fake_run_until(&w, 245);
    ck_assert(world_body_is(BEAT BEAT));
    ck_assert_int_eq(w.x.state, EXCHANGE_HOLDING);
    world_finish();
    world_answered(BEAT BEAT ROLE "data: {\"choices\":[]}\n\n" TEXT("Hello") STOP DONE);
}
END_TEST

/* No response at all is due to a client that could not read it. */
START_TEST(it_does_not_beat)
{
    static const struct {
        const char *body, *headers;
        bool http_1_0;
    } rows[] = {
        {"{}", SSE, false},
        {"{\"stream\":false}", SSE, false},
        {"not json: \"stream\":true", SSE, false},
        {"{\"stream\":true}", SSE, true},
    };
    struct fake_attempt a = {.status = 200,
                             .headers_ms = 500,
                             .headers = rows[_i].headers,
                             .pieces = {{500, WHOLE, 0}},
                             .end_ms = 500};

    w.settings.stream.heartbeat_ms = 100;
    world_follow(&a, 1);
    fake_begin(&w, "POST", "/v1/chat/completions", NULL, rows[_i].body);
    w.x.request.http.http_1_0 = rows[_i].http_1_0;
    world_finish();
    world_answered(WHOLE);
    ck_assert_uint_eq(w.answered_ms, rows[_i].http_1_0 ? 1500 : 1000);
}
END_TEST

/* A response that turns out to be none of a stream has its own status, if that comes in time. */
START_TEST(it_does_not_beat_into_another_response)
{
    const struct fake_attempt a = {.status = 200,
                                   .headers_ms = 50,
                                   .headers = JSON,
                                   .pieces = {{500, "{\"a\":", 0}, {500, "1}", 0}},
                                   .end_ms = 100};

    w.settings.stream.heartbeat_ms = 100;
    run(&a, 1, (enum stream_mode)_i);
    ck_assert_uint_eq(w.wholes, 1);
    world_answered("{\"a\":1}");
}
END_TEST

START_TEST(it_does_not_pile_up)
{
    const struct fake_attempt a = {.status = 200,
                                   .headers = SSE,
                                   .pieces = {{0, ROLE TEXT("Hello"), 0}, {5000, STOP DONE, 0}}};
    struct stream_told t;

    w.settings.stream.heartbeat_ms = 100;
    w.client = (struct fake_client){.pull_max = 10, .every_ms = 150};
    run(&a, 1, LIVE);
    ck_assert_int_eq(w.x.end, END_ANSWERED);
    stream_read(buf_str(&w.body), &t);
    free(t.answer);
    ck_assert_uint_eq(t.rest, 0);
    ck_assert_uint_ge(t.beats, 10);
    ck_assert_uint_le(t.beats, 5000 / 150);
}
END_TEST

START_TEST(it_cannot_begin)
{
    const struct fake_attempt a = {.status = 200, .headers_ms = 500, .headers = SSE};

    w.settings.stream.heartbeat_ms = 100;
    w.begin_fails = -ENOMEM;
    run(&a, 1, LIVE);
    ck_assert_uint_eq(w.cuts, 1);
    ck_assert_uint_eq(w.cancels, 1);
    ck_assert_int_eq(w.x.end, END_BROKEN);
}
END_TEST

/* --- failures behind a heartbeat -------------------------------------------------------------- */

/* The status has gone out: the failure is an event, with the upstream's own error object. */
START_TEST(a_failure_is_told_as_an_event)
{
    static const char object[] = "{\"message\":\"no\",\"code\":\"insufficient_quota\",\"x\":[1]}";
    static const struct {
        struct fake_attempt a;
        const char *code, *object;
    } rows[] = {
        {{.status = 429,
          .headers_ms = 150,
          .headers = JSON,
          .pieces =
              {{0, "{\n \"error\":{\"message\":\"no\",\"code\":\"insufficient_quota\",\"x\":[1]}}",
                0}}},
         "insufficient_quota",
         object},
        {{.status = 400, .headers_ms = 150, .headers = "", .pieces = {{0, "<html>", 0}}}, "", NULL},
        {{.status = 404, .headers_ms = 150, .headers = JSON}, "", NULL},
        {{.status = 503,
          .headers_ms = 150,
          .headers = JSON "x-should-retry: false\n",
          .pieces = {{0, "{\"error\":{\"code\":\"busy\"}}", 0}}},
         "busy",
         "{\"code\":\"busy\"}"},
        {{.end_ms = 150, .end = TRANSPORT_CERTIFICATE, .detail = "bad"},
         "certificate_rejected",
         NULL},
        {{.start_fails = 0, .end_ms = 150, .end = TRANSPORT_INTERNAL}, "internal_error", NULL},
    };
    ptrdiff_t at;

    for (size_t i = 0; i < COUNT(rows); i++) {
        world_again();
        w.settings.stream.heartbeat_ms = 100;
        run(&rows[i].a, 1, (enum stream_mode)_i);
        ck_assert_uint_eq(w.response.status, 200);
        ck_assert_uint_eq(w.starts, 1);
        world_told(BEAT, rows[i].code, END_FAILED);
        at = rows[i].object ? str_ifind(buf_str(&w.body), str_from(rows[i].object)) : 0;
        ck_assert_int_ge(at, 0);
    }
}
END_TEST

/* A good response that is no stream cannot follow; and asking again would bring another one. */
START_TEST(a_response_that_is_no_stream)
{
    const struct fake_attempt script[] = {
        {.status = 200, .headers_ms = 150, .headers = JSON, .pieces = {{0, "{\"a\":1}", 0}}}};
    struct stream_told t;

    w.settings.stream.heartbeat_ms = 100;
    run(script, 1, LIVE);
    ck_assert_int_eq(w.reports[0].verdict.reason, REASON_BAD_RESPONSE);
    stream_read(buf_str(&w.body), &t);
    free(t.answer);
    ck_assert(t.events == 1 && t.errors == 1 && t.rest == 0);
    ck_assert_str_eq(t.code, "answer_unreadable");
    ck_assert_uint_eq(w.starts, 1);
}
END_TEST

/* A stream that keeps its connection open after its end does not keep the client. */
START_TEST(a_stream_that_does_not_end_behind_its_end)
{
    const struct fake_attempt script[] = {
        {.status = 200, .headers = SSE, .pieces = {{10, WHOLE, 0}}, .hangs = true}};

    w.settings.stream.heartbeat_ms = 100;
    run(script, 1, (enum stream_mode)_i);
    world_answered(WHOLE);
    ck_assert_uint_eq(w.now_ms, 1010);
}
END_TEST

/* After a heartbeat all attempts are still to be had, and the first whole response is given. */
START_TEST(a_failure_behind_it_is_made_again)
{
    const struct fake_attempt script[] = {
        {.status = 429,
         .headers_ms = 150,
         .headers = JSON "retry-after-ms: 120\n",
         .pieces = {{0, "{\"error\":{\"code\":\"rate_limit_exceeded\"}}", 0}}},
        {.status = 200, .headers = SSE, .pieces = {{0, ROLE, 0}}, .end = TRANSPORT_TRUNCATED},
        at_once};
    struct stream_told t;

    w.settings.stream.heartbeat_ms = 100;
    run(script, 3, (enum stream_mode)_i);
    ck_assert_int_eq(w.x.end, END_ANSWERED);
    ck_assert_uint_eq(w.starts, 3);
    stream_read(buf_str(&w.body), &t);
    free(t.answer);
    ck_assert_uint_eq(t.errors, 0);
    ck_assert_uint_ge(t.beats, 10);
    ck_assert(
        str_eq((struct str){w.body.p + t.beats * strlen(BEAT), w.body.len - t.beats * strlen(BEAT)},
               STR(WHOLE)));
}
END_TEST

/* A mark at the start of a stream is none within one: a client would not read the first event. */
START_TEST(a_mark_behind_a_heartbeat)
{
    const struct fake_attempt a = {
        .status = 200, .headers = SSE, .pieces = {{150, "\xef\xbb\xbf" WHOLE, 0}}};

    w.settings.stream.heartbeat_ms = 100;
    run(&a, 1, (enum stream_mode)_i);
    world_answered(BEAT WHOLE);
}
END_TEST

/* --- all of them ------------------------------------------------------------------------------ */

/* --- the client's own limit on silence (C7) --------------------------------------------------- */

static void begin_impatient(const struct fake_attempt *script, unsigned n, const char *headers,
                            bool stream)
{
    world_follow(script, n);
    w.settings.timeout = (struct timeout_settings){0};
    fake_begin(&w, "POST", "/v1/chat/completions", headers,
               stream ? "{\"stream\":true}" : "{\"model\":\"m\"}");
}

static const struct fake_attempt waits_behind_comments = {
    .status = 200,
    .headers = SSE,
    .pieces = {{0, ": c\n\n", 0}, {9000, ": c\n\n", 0}, {9000, WHOLE, 0}}};

/* Bytes came since the client last had one: it is given what has come, and not a moment sooner. */
START_TEST(a_living_stream_is_passed_on_before_the_client_gives_up)
{
    w.settings.stream.mode = (enum stream_mode)_i;
    begin_impatient(&waits_behind_comments, 1, "x-stainless-read-timeout: 10\n", true);
    fake_run_until(&w, 9499);
    ck_assert(!w.x.reply.begun);
    fake_run_until(&w, 9501);
    ck_assert(w.x.reply.begun);
    ck_assert(world_body_is(_i == HOLD ? BEAT : ": c\n\n: c\n\n"));
    world_finish();
    world_answered(_i == HOLD ? BEAT ": c\n\n: c\n\n" WHOLE : ": c\n\n: c\n\n" WHOLE);
    ck_assert_uint_eq(w.starts, 1);
}
END_TEST

/* A held stream that goes on is heard of each time, and is still made again when it breaks. */
START_TEST(a_held_stream_keeps_its_client_and_its_promise)
{
    static const struct fake_attempt script[] = {
        {.status = 200,
         .headers = SSE,
         .pieces = {{0, TEXT("a"), 0}, {9000, TEXT("b"), 0}, {9000, TEXT("c"), 0}},
         .end_ms = 2000,
         .end = TRANSPORT_TRUNCATED},
        {.status = 200, .headers = SSE, .pieces = {{0, WHOLE, 0}}}};

    w.settings.stream.mode = HOLD;
    begin_impatient(script, 2, "x-stainless-read-timeout: 10\n", true);
    world_finish();
    world_answered(BEAT BEAT WHOLE);
}
END_TEST

/* A server that thinks in front of its JSON sends blanks meanwhile. */
START_TEST(a_living_answer_is_passed_on_before_the_client_gives_up)
{
    static const struct fake_attempt blanks = {
        .status = 200,
        .headers = JSON,
        .pieces = {{8000, "  ", 0}, {8000, " ", 0}, {8000, " ", 0}, {8000, "{\"id\":1}", 0}}};

    begin_impatient(&blanks, 1,
                    _i ? "X-Stainless-Runtime: node\n" : "x-stainless-read-timeout: 10\n", false);
    fake_run_until(&w, 9501);
    ck_assert_int_eq(w.x.reply.begun, _i == 0);
    world_finish();
    world_answered("    {\"id\":1}");
    ck_assert_uint_eq(w.starts, 1);
}
END_TEST

static const struct {
    const char *headers;
    struct fake_attempt attempt;
    uint64_t at_ms;
} silent[] = {
    {"x-stainless-read-timeout: 10\n", {.hangs = true}, 9500},
    {"x-stainless-read-timeout: 10\n",
     {.status = 503, .headers = JSON, .pieces = {{9000, " ", 0}}, .hangs = true},
     9500},
    {"X-Stainless-Timeout: 10\n",
     {.status = 200, .headers = JSON, .pieces = {{9000, " ", 0}}, .hangs = true},
     9500},
    {"x-retryd-deadline: 10\n",
     {.status = 200, .headers = JSON, .pieces = {{9000, " ", 0}}, .hangs = true},
     9500},
};

/* Nothing came, or nothing that a client should see, or the limit is on all of it: 504, in time. */
START_TEST(what_is_silent_ends_in_time)
{
    begin_impatient(&silent[_i].attempt, 1, silent[_i].headers, false);
    world_finish();
    ck_assert_uint_eq(w.now_ms, silent[_i].at_ms);
    ck_assert_int_eq(w.x.end, END_FAILED);
    ck_assert_uint_eq(w.response.status, 504);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *c = unit_case(suite, "timeouts");

    tcase_add_checked_fixture(c, world_set_up, world_tear_down);
    tcase_add_loop_test(c, first_content_is_a_time_of_its_own, 0, 3);
    tcase_add_loop_test(c, no_content_for_too_long, 0, 3);
    tcase_add_test(c, each_attempt_has_its_times);
    tcase_add_loop_test(c, a_stream_that_keeps_coming_is_not_ended, 0, 3);
    tcase_add_loop_test(c, the_deadline_ends_what_is_not_committed, 0, 3);
    tcase_add_test(c, the_deadline_does_not_end_content_that_comes);
    tcase_add_loop_test(c, the_deadline_ends_an_attempt_without_content, 0, 3);
    tcase_add_test(c, the_deadline_ends_the_next_attempt);
    c = unit_case(suite, "heartbeat");
    tcase_add_checked_fixture(c, world_set_up, world_tear_down);
    tcase_add_test(c, it_beats_wherever_it_waits);
    tcase_add_loop_test(c, it_beats_in_front_of_what_is_held, 0, 3);
    tcase_add_loop_test(c, it_does_not_beat, 0, 4);
    tcase_add_loop_test(c, it_does_not_beat_into_another_response, 0, 3);
    tcase_add_test(c, it_does_not_pile_up);
    tcase_add_test(c, it_cannot_begin);
    tcase_add_loop_test(c, a_failure_is_told_as_an_event, 0, 3);
    tcase_add_test(c, a_response_that_is_no_stream);
    tcase_add_loop_test(c, a_stream_that_does_not_end_behind_its_end, 0, 3);
    tcase_add_loop_test(c, a_failure_behind_it_is_made_again, 0, 3);
    tcase_add_loop_test(c, a_mark_behind_a_heartbeat, 0, 3);

    TCase *silence = unit_case(suite, "silence");

    tcase_add_checked_fixture(silence, world_set_up, world_tear_down);
    tcase_add_loop_test(silence, a_living_stream_is_passed_on_before_the_client_gives_up, LIVE,
                        HOLD + 1);
    tcase_add_test(silence, a_held_stream_keeps_its_client_and_its_promise);
    tcase_add_loop_test(silence, a_living_answer_is_passed_on_before_the_client_gives_up, 0, 2);
    tcase_add_loop_test(silence, what_is_silent_ends_in_time, 0, COUNT(silent));
}
