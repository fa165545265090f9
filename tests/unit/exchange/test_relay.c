/* The response on its way: what is held, what is committed, and how a stream ends, in pieces of any
 * size. */

#include <cJSON.h>
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "exchange/exchange.h"
#include "unit.h"
#include "world_fixture.h"

#define STREAM "Content-Type: text/event-stream; charset=utf-8\n"
#define HIGH_WATER (128 * 1024)
#define WRITE_MAX (16 * 1024)

/* A stream of which only the framing is known: any event is content, and its end is its end. */
static void begin_stream(void)
{
    fake_begin(&w, "POST", "/v1/audio/speech", "Content-Type: application/json\n",
               "{\"model\":\"gpt-x\",\"stream\":true}");
}

static void run_to_end(void)
{
    if (!w.begun)
        begin_stream();
    world_finish();
}

static void run(const struct fake_attempt *script, unsigned n)
{
    world_follow(script, n);
    run_to_end();
}

static bool body_is(struct str text)
{
    return str_eq(buf_str(&w.body), text);
}

/* The stream was given to its end: without a break, or with one that was told. */
static void streamed(enum exchange_end end)
{
    ck_assert_uint_eq(w.begins, 1);
    ck_assert_uint_eq(w.wholes, 0);
    ck_assert_uint_eq(w.cuts, 0);
    ck_assert(w.got_end && !w.got_cut);
    ck_assert_int_eq(w.x.end, end);
    ck_assert_uint_eq(w.x.reply.bytes_out, w.body.len);
}

/* The client got those bytes and then a connection that breaks, with nothing of ours between
 * (C12). */
static void broke_off(size_t n, const char *reason)
{
    ck_assert_uint_eq(w.begins, 1);
    ck_assert_uint_eq(w.wholes, 0);
    ck_assert(w.got_cut && !w.got_end);
    ck_assert_int_eq(w.x.end, END_BROKEN);
    ck_assert_uint_eq(w.body.len, n);
    ck_assert_uint_eq(w.x.reply.bytes_out, n);
    ck_assert_str_eq(reason_word(w.x.last_reason), reason);
}

/* The data of `event` as JSON; it must be one whole event and hold nothing else. */
static cJSON *event_json(struct str event, bool named)
{
    static const char name[] = "event: error\n";
    cJSON *json;

    if (named) {
        ck_assert(str_starts(event, STR(name)));
        event = (struct str){event.p + sizeof(name) - 1, event.n - (sizeof(name) - 1)};
    }
    ck_assert(str_starts(event, STR("data: {")));
    ck_assert(event.n > 8 && memcmp(event.p + event.n - 2, "\n\n", 2) == 0);
    ck_assert_ptr_null(memchr(event.p, '\r', event.n));
    ck_assert_ptr_eq(memchr(event.p, '\n', event.n), event.p + event.n - 2);
    json = cJSON_ParseWithLength(event.p + 6, event.n - 8);
    ck_assert_ptr_nonnull(json);
    return json;
}

static const char *text_at(const cJSON *object, const char *name)
{
    const char *s = cJSON_GetStringValue(cJSON_GetObjectItem(object, name));

    ck_assert_ptr_nonnull(s);
    return s;
}

/* --- streams ---------------------------------------------------------------------------------- */

START_TEST(each_event_the_moment_it_is_whole)
{
    static const struct fake_attempt a = {.status = 200,
                                          .headers = STREAM "Content-Length: 999\n",
                                          .pieces = {{10, ": hello\n\n: more\n", 0},
                                                     {10, "\n", 0},
                                                     {10, "data: 1\n", 0},
                                                     {10, "\ndata: 2\n\ndata", 0},
                                                     {10, ": 3\n\n", 0}},
                                          .end_ms = 10};

    world_follow(&a, 1);
    begin_stream();
    fake_run_until(&w, 40);
    ck_assert_int_eq(w.x.state, EXCHANGE_HOLDING); /* comments and half an event commit nothing */
    ck_assert_uint_eq(w.begins, 0);
    fake_run_until(&w, 41);
    ck_assert_int_eq(w.x.state, EXCHANGE_RELAYING);
    ck_assert(body_is(STR(": hello\n\n: more\n\ndata: 1\n\ndata: 2\n\n")));
    ck_assert_uint_eq(w.x.reply.first_byte_ms, 40);
    fake_run_until(&w, 51);
    ck_assert(body_is(STR(": hello\n\n: more\n\ndata: 1\n\ndata: 2\n\ndata: 3\n\n")));
    run_to_end();
    streamed(END_ANSWERED);
    ck_assert_uint_eq(w.now_ms, 60);
    ck_assert_uint_eq(w.response.content_length, LENGTH_UNKNOWN);
    ck_assert_str_eq(w.x.cannot_retry, "the response is committed");
    ck_assert_uint_eq(w.x.reply.events, 5);
}
END_TEST

static const char *const texts[] = {
    "data: {\"a\":1}\n\ndata: {\"b\":2}\n\ndata: [DONE]\n\n",
    ": c\n\ndata: 1\n\n: c\n\n\n\nevent: x\ndata: 2\ndata: 3\n\n",
    "data: 1\r\n\r\nid: 7\r\ndata: 2\r\n\r\n: c\r\n\r\ndata: 3\r\n\r\n",
    "data: 1\r\rdata: 2\r\r",
    "\357\273\277data: 1\n\ndata: 2\n\n",
};

/* Ends where an event may end. */
static bool at_boundary(struct str s)
{
    static const struct str ends[] = {{"\n\n", 2}, {"\r\n\r", 3}, {"\r\n\r\n", 4}, {"\r\r", 2}};

    if (s.n == 0)
        return true;
    for (size_t i = 0; i < COUNT(ends); i++)
        if (s.n >= ends[i].n && memcmp(s.p + s.n - ends[i].n, ends[i].p, ends[i].n) == 0)
            return true;
    return false;
}

/* The longest part of `s` that is whole events, and at least one with data; 0: there is none. */
static size_t whole_part(struct str s)
{
    static const char *const firsts[] = {"data: "};
    ptrdiff_t first = str_ifind(s, str_from(firsts[0]));

    for (size_t n = s.n; first >= 0 && n > (size_t)first + 6; n--)
        if (at_boundary((struct str){s.p, n}))
            return n;
    return 0;
}

/* In two pieces, then in single bytes: the client sees whole events only, and all of them. */
START_TEST(any_split_gives_the_same_bytes)
{
    struct str text = str_from(texts[_i]);

    for (size_t cut = 1; cut < text.n; cut++) {
        struct fake_attempt a = {.status = 200,
                                 .headers = STREAM,
                                 .pieces = {{1, text.p, cut}, {1, text.p + cut, text.n - cut}}};
        world_again();
        w.client.leaves_with_the_end = cut % 2;
        world_follow(&a, 1);
        begin_stream();
        while (fake_turn(&w))
            ck_assert(w.asleep == false || at_boundary(buf_str(&w.body)));
        run_to_end();
        streamed(END_ANSWERED);
        ck_assert(body_is(text));
    }
}
END_TEST

/* Cut off at each byte: whole events, then a break; before the first event, a new attempt. */
START_TEST(a_break_at_any_byte)
{
    struct str text = str_from(texts[_i]);

    for (size_t cut = 1; cut <= text.n; cut++) {
        size_t whole = whole_part((struct str){text.p, cut});
        const struct fake_attempt script[] = {
            {.status = 200,
             .headers = STREAM,
             .pieces = {{1, text.p, cut}},
             .end_ms = 1, /* what broke before the client has a part of it is made again */
             .end = TRANSPORT_TRUNCATED,
             .detail = "the connection \"broke\"\n"},
            {.status = 200, .headers = STREAM, .pieces = {{0, text.p, text.n}}}};
        world_again();
        run(script, 2);
        if (_i == 0 && whole == text.n) { /* [DONE]: it had said that it was whole */
            streamed(END_ANSWERED);
            ck_assert(body_is(text));
        } else if (whole > 0) {
            broke_off(whole, "answer_truncated");
            ck_assert_uint_eq(w.starts, 1);
            ck_assert_mem_eq(w.body.p, text.p, whole);
        } else {
            streamed(END_ANSWERED);
            ck_assert_uint_eq(w.starts, 2);
            ck_assert(body_is(text));
        }
    }
}
END_TEST

/* A clean end in the middle: half an event is a break; one that lacks its empty line is not. */
START_TEST(a_clean_end_at_any_byte)
{
    static const struct str text = {"data: 1\n\ndata: 2\nid: 3\n\n", 24};

    for (size_t cut = 9; cut <= text.n; cut++) {
        struct fake_attempt a = {.status = 200,
                                 .headers = STREAM,
                                 .pieces = {{1, text.p, cut}, {.text = NULL}},
                                 .end_ms = 1};
        world_again();
        run(&a, 1);
        if (cut == 9 || cut == text.n) {
            streamed(END_ANSWERED);
            ck_assert(body_is((struct str){text.p, cut}));
        } else { /* without its empty line it is no event: it is never completed */
            broke_off(9, "answer_truncated");
        }
    }
}
END_TEST

START_TEST(no_event_is_made_up_of_a_name_alone)
{
    static const struct fake_attempt a = {.status = 200,
                                          .headers = STREAM,
                                          .pieces = {{0, "data: 1\n\nevent: message\n", 0}},
                                          .end_ms = 1};

    run(&a, 1);
    broke_off(9, "answer_truncated");
}
END_TEST

START_TEST(breaks_by_cause)
{
    static const struct {
        enum transport t;
        uint64_t idle_ms, total_ms;
        const char *code;
    } rows[] = {
        {TRANSPORT_TRUNCATED, 0, 0, "answer_truncated"},
        {TRANSPORT_WHOLE, 300, 0, "idle_timeout"},
        {TRANSPORT_WHOLE, 0, 300, "total_timeout"},
        {TRANSPORT_INTERNAL, 0, 0, "internal_error"},
    };
    bool hangs = rows[_i].t == TRANSPORT_WHOLE;
    struct fake_attempt a = {.status = 200,
                             .headers = STREAM "x-should-retry: false\n",
                             .pieces = {{0, "data: 1\n\n", 0}, {100, "da", 0}},
                             .end = rows[_i].t,
                             .hangs = hangs};

    w.settings.timeout.idle_ms = rows[_i].idle_ms;
    w.settings.timeout.total_ms = rows[_i].total_ms;
    run(&a, 1);
    broke_off(9, rows[_i].code);
    ck_assert_uint_eq(w.cancels, hangs);
    ck_assert_uint_eq(w.now_ms, _i == 1 ? 400 : _i == 2 ? 300 : 100);
    ck_assert_uint_eq(w.failures, 1);
    ck_assert_str_eq(w.reports[0].decision.why_not, "the response is committed");
    ck_assert_uint_eq(w.starts, 1);
}
END_TEST

/* However it ends and however far it had come; behind a heartbeat, too. */
START_TEST(an_unknown_stream_that_fails_is_cut)
{
    static const struct fake_attempt broken[] = {
        {.status = 200,
         .headers = STREAM,
         .pieces = {{10, ": hi\n\n", 0}, {240, "data: 1\n\n", 0}, {250, "da", 0}},
         .hangs = true},
        {.status = 200, .headers = STREAM, .pieces = {{10, ": hi\n\n", 0}}, .hangs = true},
        {.status = 200, .headers = STREAM, .pieces = {{10, ": hi\n\n", 0}}, .end_ms = 200},
    };
    bool content = _i == 0;

    w.settings.stream.heartbeat_ms = 100;
    w.settings.stream.mode = _i == 0 ? STREAM_LIVE : STREAM_HOLD;
    w.settings.retry.deadline_ms = 450;
    w.settings.retry.max_attempts = 1;
    w.settings.timeout.idle_ms = 300;
    world_follow(&broken[_i], 1);
    begin_stream();
    world_finish();
    ck_assert(w.got_cut && !w.got_end);
    ck_assert_int_eq(w.x.end, content ? END_BROKEN : END_FAILED);
    ck_assert(str_starts(buf_str(&w.body), STR(": retryd\n")));
    ck_assert_int_lt(str_ifind(buf_str(&w.body), STR("error")), 0);
    ck_assert_int_eq(str_ifind(buf_str(&w.body), STR("data: 1\n\n")) >= 0, content);
}
END_TEST

/* "stream": true of an API that nobody here knows may ask for lines of JSON: until an event stream
 * comes, or the client has said that it takes one, no 200 is sent ahead of the response. */
START_TEST(no_heartbeat_where_no_event_stream_is_due)
{
    static const struct fake_attempt lines = {.status = 200,
                                              .headers_ms = 500,
                                              .headers = "Content-Type: application/x-ndjson\n",
                                              .pieces = {{0, "{\"a\":1}\n", 0}}};
    static const struct fake_attempt events = {
        .status = 200, .headers_ms = 500, .headers = STREAM, .pieces = {{0, "data: 1\n\n", 0}}};

    w.settings.stream.heartbeat_ms = 200;
    world_follow(_i == 0 ? &lines : &events, 1);
    fake_begin(&w, "POST", "/api/chat", _i == 2 ? "Accept: text/event-stream\n" : NULL,
               "{\"model\":\"m\",\"stream\":true}");
    world_finish();
    ck_assert_int_eq(w.x.end, END_ANSWERED);
    ck_assert(body_is(_i == 0   ? STR("{\"a\":1}\n")
                      : _i == 1 ? STR("data: 1\n\n")
                                : STR(": retryd\n: retryd\ndata: 1\n\n")));
}
END_TEST

/* Nested for the SDKs that look there and flat for those that look here; numbered like an event.
 * Behind it the response fails, which nobody has begun, for those that read no error event. */
START_TEST(a_responses_stream_breaks_in_its_own_form)
{
    const struct fake_attempt script[] = {
        {.status = 200, .headers = STREAM, .pieces = {{0, ": a\n\n: b\n\n", 0}}},
        {.status = 200,
         .headers = STREAM,
         .pieces = {{0, "event: a.delta\ndata: {}\n\nevent: b.done\ndata: {}\n\nev", 0}},
         .end_ms = 1,
         .end = TRANSPORT_TRUNCATED}};
    static const char failed[] = "event: response.failed\ndata: {\"type\":\"response.failed\","
                                 "\"sequence_number\":3,\"response\":{\"id\":\"resp_";
    cJSON *json;
    const cJSON *e;
    const char *behind;

    world_follow(script, 2);
    fake_begin(&w, "POST", "/v1/responses?beta=1", NULL, "{\"stream\":true}");
    run_to_end();
    streamed(END_BROKEN);
    ck_assert_uint_eq(w.starts, 2);
    behind = memmem(w.body.p, w.body.len, failed, sizeof(failed) - 1);
    ck_assert_ptr_nonnull(behind);
    json = event_json((struct str){w.body.p + 49, (size_t)(behind - w.body.p) - 49}, true);
    e = cJSON_GetObjectItem(json, "error");
    ck_assert_str_eq(text_at(json, "type"), "error");
    ck_assert_str_eq(text_at(json, "code"), "answer_truncated");
    ck_assert_ptr_nonnull(text_at(json, "message"));
    ck_assert(cJSON_IsNull(cJSON_GetObjectItem(json, "param")));
    ck_assert_int_eq((int)cJSON_GetNumberValue(cJSON_GetObjectItem(json, "sequence_number")), 2);
    ck_assert_str_eq(text_at(e, "code"), "answer_truncated");
    ck_assert_str_eq(text_at(e, "type"), "server_error");
    cJSON_Delete(json);
}
END_TEST

START_TEST(a_stream_whose_first_event_is_an_error_is_made_again)
{
    static const char *const firsts[] = {
        "data: {\"error\":{\"message\":\"overloaded\",\"code\":503}}\n\n",
        ": ping\n\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n",
        "event: error\ndata: {\"code\":\"server_error\",\"message\":\"m\"}\n\n",
        "error: {\"code\":500,\"message\":\"m\"}\n\n",
        "data: {\"id\":\"g\",\"choices\":[],\"error\":{\"code\":502,\"message\":\"m\"}}\n\n",
        "data: {\"type\": \"error\", \"error\": {\"type\": \"api_error\", \"message\": \"m\"}}\n\n",
    };
    struct fake_attempt script[] = {
        {.status = 200, .headers = STREAM, .pieces = {{0, firsts[_i], 0}}, .hangs = true},
        {.status = 200, .headers = STREAM, .pieces = {{0, "data: 1\n\n", 0}}}};

    run(script, 2);
    streamed(END_ANSWERED);
    ck_assert(body_is(STR("data: 1\n\n")));
    ck_assert_uint_eq(w.starts, 2);
    ck_assert_uint_eq(w.cancels, 1);
    ck_assert(w.start[0].gone_ms == 0);
    world_again();
    w.settings.retry.max_attempts = 1;
    script[0].hangs = false;
    run(script, 1);
    ck_assert_int_eq(w.x.end, END_FAILED);
    ck_assert(w.got_cut); /* behind the upstream's own last word: who knows whether it is heard */
    ck_assert(body_is(str_from(firsts[_i])));
    ck_assert_str_eq(w.x.cannot_retry, "all attempts are used up");
}
END_TEST

/* Content that only speaks of errors, and events that say that there is none. */
START_TEST(no_error_is_seen_where_there_is_none)
{
    static const char *const firsts[] = {
        "data: {\"choices\":[{\"delta\":{\"content\":\"\\\"error\\\": {\\\"code\\\":500}\"}}]}\n\n",
        "data: {\"id\":\"x\",\"error\":null}\n\n",
        "data: {\"type\":\"response.created\",\"response\":{\"id\":\"r\",\"error\":null}}\n\n",
        "data: \"error\"\n\n",
    };
    struct fake_attempt a = {.status = 200, .headers = STREAM, .pieces = {{0, firsts[_i], 0}}};

    run(&a, 1);
    streamed(END_ANSWERED);
    ck_assert_uint_eq(w.starts, 1);
    ck_assert(body_is(str_from(firsts[_i])));
}
END_TEST

START_TEST(a_stream_without_an_event_is_made_again)
{
    static const char *const comments[] = {"", ": a\n\n", ": a\n\ndata: 1"};
    struct fake_attempt a = {
        .status = 200, .headers = STREAM, .pieces = {{0, comments[_i], 0}}, .end_ms = 7};

    w.settings.retry.max_attempts = 3;
    run(&a, 1);
    ck_assert_uint_eq(w.starts, 3);
    ck_assert_uint_eq(w.begins, 0);
    ck_assert_uint_eq(w.response.status, 502);
    ck_assert(str_ifind(buf_str(&w.body), STR("\"empty_stream\"")) >= 0);
}
END_TEST

/* The first attempt's half event says nothing about the second attempt's. */
START_TEST(each_attempt_is_read_from_its_first_byte)
{
    static const struct fake_attempt script[] = {
        {.status = 200,
         .headers = STREAM,
         .pieces = {{0, "data: a long half event", 0}},
         .end_ms = 1,
         .end = TRANSPORT_TRUNCATED},
        {.status = 200,
         .headers = STREAM,
         .pieces = {{0, "data: 1\n\n", 0}, {5, "data: 2\n\n", 0}}}};

    world_follow(script, 2);
    begin_stream();
    fake_run_until(&w, 1003);
    ck_assert(body_is(STR("data: 1\n\n")));
    run_to_end();
    streamed(END_ANSWERED);
    ck_assert_uint_eq(w.x.reply.events, 2);
}
END_TEST

START_TEST(a_stream_that_brings_only_comments_times_out)
{
    static const struct fake_attempt script[] = {
        {.status = 200,
         .headers = STREAM,
         .pieces = {{250, ": a\n\n", 0}, {250, ": b\n\n", 0}, {250, ": c\n\n", 0}},
         .hangs = true},
        {.status = 200, .headers = STREAM, .pieces = {{0, "data: 1\n\n", 0}}}};

    w.settings.timeout.idle_ms = 100; /* not in force before there is content */
    w.settings.timeout.first_content_ms = 1050;
    run(script, 2);
    streamed(END_ANSWERED);
    ck_assert(body_is(STR("data: 1\n\n")));
    ck_assert_uint_eq(w.start[0].gone_ms, 1050);
    ck_assert_int_eq(w.reports[0].verdict.reason, REASON_FIRST_CONTENT_TIMEOUT);
}
END_TEST

/* Neither can be told that a stream broke: HTTP/1.0 has no chunks, an encoding hides the events. */
START_TEST(streams_that_are_held_to_their_end)
{
    const struct fake_attempt script[] = {
        {.status = 200,
         .headers = _i == 0 ? STREAM : STREAM "Content-Encoding: br\n",
         .pieces = {{0, "data: 1\n\n", 0}, {50, "da", 0}},
         .end = TRANSPORT_TRUNCATED},
        {.status = 200,
         .headers = _i == 0 ? STREAM : STREAM "Content-Encoding: br\n",
         .pieces = {{0, "data: 1\n\n", 0}, {50, "data: 2\n\n", 0}}}};

    world_follow(script, 2);
    begin_stream();
    w.x.request.http.http_1_0 = _i == 0;
    run_to_end();
    ck_assert_uint_eq(w.wholes, 1);
    ck_assert_uint_eq(w.starts, 2);
    ck_assert_uint_eq(w.response.content_length, 18);
    ck_assert(body_is(STR("data: 1\n\ndata: 2\n\n")));
}
END_TEST

START_TEST(a_stream_that_cannot_begin_is_cut)
{
    static const struct fake_attempt a = {
        .status = 200, .headers = STREAM, .pieces = {{0, "data: 1\n\n", 0}}, .hangs = true};

    w.begin_fails = -ENOMEM;
    run(&a, 1);
    ck_assert_uint_eq(w.cuts, 1);
    ck_assert_uint_eq(w.cancels, 1);
    ck_assert_int_eq(w.x.end, END_BROKEN);
}
END_TEST

START_TEST(C24_a_head_that_does_not_fit_is_an_error_of_ours)
{
    static const struct fake_attempt answers[] = {
        {.status = 200, .headers = "Content-Type: text/plain\n", .pieces = {{0, "whole", 0}}},
        {.status = 503, .headers = "X-Should-Retry: false\n", .pieces = {{0, "no", 0}}},
        {.status = 200, .headers = STREAM, .pieces = {{0, "data: 1\n\n", 0}}, .hangs = true},
    };

    w.large_headers = true;
    run(&answers[_i], 1);
    ck_assert_uint_eq(w.cuts, 0);
    ck_assert_uint_eq(w.wholes, 1);
    ck_assert_uint_eq(w.starts, 1);
    ck_assert_uint_eq(w.response.status, 502);
    ck_assert_int_eq(w.x.end, END_FAILED);
    ck_assert_int_eq(w.x.last_reason, REASON_LARGE_HEADERS);
    ck_assert_ptr_nonnull(memmem(w.body.p, w.body.len, "\"response_headers_too_large\"", 28));
}
END_TEST

START_TEST(the_deadline_does_not_bound_a_live_stream)
{
    static const struct fake_attempt a = {
        .status = 200,
        .headers = STREAM,
        .pieces = {{900, "data: 1\n\n", 0}, {900, "data: 2\n\n", 0}, {900, "data: 3\n\n", 0}}};

    w.settings.retry.deadline_ms = 1000;
    w.settings.timeout.idle_ms = 1000;
    run(&a, 1);
    streamed(END_ANSWERED);
    ck_assert_uint_eq(w.now_ms, 2700);
}
END_TEST

/* As libmicrohttpd does it: the last byte, the end and the closing in one turn. */
START_TEST(a_client_that_closes_behind_the_end_has_its_response)
{
    static const struct fake_attempt a = {
        .status = 200, .headers = STREAM, .pieces = {{0, "data: 1\n\n", 0}}};

    w.client.leaves_with_the_end = true;
    run(&a, 1);
    streamed(END_ANSWERED);
}
END_TEST

/* --- answers larger than hold_limit ----------------------------------------------------------- */

static char *big; /* events of 1 KiB each */
#define BIG ((size_t)2 << 20)

static void set_up_big(void)
{
    world_set_up();
    big = malloc(BIG);
    ck_assert_ptr_nonnull(big);
    memset(big, 'x', BIG);
    for (size_t at = 0; at < BIG; at += 1024) {
        char line[32];

        memcpy(big + at, line, (size_t)snprintf(line, sizeof(line), "data: %zu ", at));
        memcpy(big + at + 1022, "\n\n", 2);
    }
}

static void tear_down_big(void)
{
    free(big);
    world_tear_down();
}

START_TEST(a_response_beyond_hold_limit_streams)
{
    struct fake_attempt a = {.status = 200,
                             .headers = "Content-Type: audio/mpeg\nContent-Length: 2097152\n",
                             .pieces = {{0, big, BIG - 5}, {100, big + BIG - 5, 5}},
                             .end = _i == 0 ? TRANSPORT_WHOLE : TRANSPORT_TRUNCATED};

    big[0] = '\xff'; /* no event stream */
    w.limits.hold_limit = 300000;
    w.client.every_ms = 1;
    run(&a, 1);
    ck_assert_uint_eq(w.begins, 1);
    ck_assert_uint_eq(w.response.content_length, BIG);
    ck_assert(body_is((struct str){big, BIG}));
    ck_assert_uint_le(w.most_held, w.limits.hold_limit + WRITE_MAX);
    ck_assert_int_eq(w.x.end, _i == 0 ? END_ANSWERED : END_BROKEN);
    ck_assert(_i == 0 ? w.got_end : w.got_cut);
    ck_assert_uint_eq(w.cuts, 0);
}
END_TEST

START_TEST(an_error_beyond_hold_limit)
{
    struct fake_attempt a = {
        .status = 500, .headers = "Content-Type: text/html\n", .pieces = {{0, big, BIG}}};

    w.limits.hold_limit = 1 << 20;
    w.settings.retry.max_attempts = 3;
    run(&a, 1);
    ck_assert_uint_eq(w.starts, 3);
    ck_assert_uint_eq(w.cancels, 2);
    ck_assert_uint_eq(w.begins, 1);
    ck_assert_uint_eq(w.response.status, 500);
    ck_assert(body_is((struct str){big, BIG}));
    ck_assert_int_eq(w.x.end, END_FAILED);
    ck_assert_str_eq(w.x.cannot_retry, "all attempts are used up");
}
END_TEST

/* The slower the client, the slower the upstream; memory stays where it is. */
START_TEST(a_slow_client_slows_the_upstream)
{
    static const struct fake_client clients[] = {
        {.every_ms = 1}, {.every_ms = 50, .pull_max = 4000}, {.every_ms = 1, .pull_max = 700}};
    struct fake_attempt a = {.status = 200,
                             .headers = _i % 2 ? STREAM : "",
                             .pieces = {{0, big, 100000}, {0, big + 100000, BIG - 100000}}};

    w.limits.hold_limit = 65536;
    w.client = clients[_i / 2];
    run(&a, 1);
    streamed(END_ANSWERED);
    ck_assert(body_is((struct str){big, BIG}));
    ck_assert_uint_le(w.most_held, HIGH_WATER + 2 * WRITE_MAX);
    ck_assert_uint_ge(w.resumes, 4);
    ck_assert_uint_le(w.resumes, 2 * BIG / (HIGH_WATER / 2));
}
END_TEST

START_TEST(a_client_that_stalls_costs_nothing)
{
    static struct fake_attempt a; /* it outlives this function */

    a = (struct fake_attempt){
        .status = 200, .headers = _i % 2 ? STREAM : "", .pieces = {{0, big, BIG}}};
    w.limits.hold_limit = 65536;
    w.client =
        (struct fake_client){.every_ms = 1, .pull_max = 1000, .stops_at = 1 + 7 * (uint64_t)_i};
    world_follow(&a, 1);
    begin_stream();
    fake_run(&w);
    ck_assert_msg(!w.wrong, "%s", w.wrong);
    ck_assert_int_eq(w.x.state, EXCHANGE_RELAYING);
    ck_assert_uint_le(w.most_held, HIGH_WATER + WRITE_MAX);
    ck_assert_uint_le(w.resumes, 10);
    ck_assert_uint_eq(w.now_ms, w.timer_ms == TIMER_OFF ? w.now_ms : 0); /* nothing ticks */
}
END_TEST

/* An image in one event is larger than the mark that bounds all else. */
START_TEST(an_event_larger_than_the_high_water_mark)
{
    struct fake_attempt a = {
        .status = 200,
        .headers = STREAM,
        .pieces = {{0, "data: 1\n\n", 0}, {5, big, BIG}, {5, "\n\ndata: 2\n\n", 0}}};

    for (size_t i = 0; i < BIG; i++)
        if (big[i] == '\n')
            big[i] = '.';
    w.limits.hold_limit = 65536;
    w.client.pull_max = _i == 0 ? 4096 : 100;
    if (_i == 2)
        a.pieces[0].text = ":\n\n"; /* it is the first one */
    run(&a, 1);
    streamed(END_ANSWERED);
    ck_assert_uint_eq(w.body.len, strlen(a.pieces[0].text) + BIG + 11);
    ck_assert_uint_le(w.most_held, 2 * BIG + HIGH_WATER);
}
END_TEST

START_TEST(an_event_without_end_is_a_break)
{
    size_t n = ((size_t)16 << 20) + 100000;
    char *endless = malloc(n);
    struct fake_attempt a = {.status = 200,
                             .headers = STREAM,
                             .pieces = {{0, "data: 1\n\n", 0}, {5, endless, n}},
                             .hangs = true};

    ck_assert_ptr_nonnull(endless);
    memset(endless, 'x', n);
    run(&a, 1);
    free(endless);
    broke_off(9, "answer_unreadable");
    ck_assert_uint_eq(w.cancels, 1);
    ck_assert_uint_le(w.most_held, ((size_t)16 << 20) + WRITE_MAX);
}
END_TEST

/* Waiting for a slow client is not the upstream's silence. */
START_TEST(no_idle_timeout_while_paused)
{
    struct fake_attempt a = {.status = 200, .headers = STREAM, .pieces = {{0, big, BIG}}};

    w.settings.timeout.idle_ms = 200;
    w.client = (struct fake_client){.every_ms = 100};
    run(&a, 1);
    streamed(END_ANSWERED);
    ck_assert(body_is((struct str){big, BIG}));
}
END_TEST

/* --- all of them ------------------------------------------------------------------------------ */

void unit_tests(Suite *suite)
{
    TCase *c = unit_case(suite, "streams");

    tcase_add_checked_fixture(c, world_set_up, world_tear_down);
    tcase_add_test(c, each_event_the_moment_it_is_whole);
    tcase_add_loop_test(c, any_split_gives_the_same_bytes, 0, COUNT(texts));
    tcase_add_loop_test(c, a_break_at_any_byte, 0, COUNT(texts));
    tcase_add_test(c, a_clean_end_at_any_byte);
    tcase_add_test(c, no_event_is_made_up_of_a_name_alone);
    tcase_add_loop_test(c, breaks_by_cause, 0, 4);
    tcase_add_loop_test(c, an_unknown_stream_that_fails_is_cut, 0, 3);
    tcase_add_loop_test(c, no_heartbeat_where_no_event_stream_is_due, 0, 3);
    tcase_add_test(c, a_responses_stream_breaks_in_its_own_form);
    tcase_add_loop_test(c, a_stream_whose_first_event_is_an_error_is_made_again, 0, 6);
    tcase_add_loop_test(c, no_error_is_seen_where_there_is_none, 0, 4);
    tcase_add_loop_test(c, a_stream_without_an_event_is_made_again, 0, 3);
    tcase_add_test(c, each_attempt_is_read_from_its_first_byte);
    tcase_add_test(c, a_stream_that_brings_only_comments_times_out);
    tcase_add_loop_test(c, streams_that_are_held_to_their_end, 0, 2);
    tcase_add_test(c, a_stream_that_cannot_begin_is_cut);
    tcase_add_loop_test(c, C24_a_head_that_does_not_fit_is_an_error_of_ours, 0, 3);
    tcase_add_test(c, the_deadline_does_not_bound_a_live_stream);
    tcase_add_test(c, a_client_that_closes_behind_the_end_has_its_response);
    c = unit_case(suite, "big");
    tcase_add_checked_fixture(c, set_up_big, tear_down_big);
    tcase_add_loop_test(c, a_response_beyond_hold_limit_streams, 0, 2);
    tcase_add_test(c, an_error_beyond_hold_limit);
    tcase_add_loop_test(c, a_slow_client_slows_the_upstream, 0, 6);
    tcase_add_loop_test(c, a_client_that_stalls_costs_nothing, 0, 40);
    tcase_add_loop_test(c, an_event_larger_than_the_high_water_mark, 0, 3);
    tcase_add_test(c, an_event_without_end_is_a_break);
    tcase_add_test(c, no_idle_timeout_while_paused);
}
