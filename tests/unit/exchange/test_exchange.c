/* One request's life: which attempts are made, when, and what the client gets in the end. */

#include <cJSON.h>
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "exchange/exchange_private.h"
#include "unit.h"
#include "world_fixture.h"

#define RATE_LIMITED \
    "{\"error\":{\"message\":\"slow\",\"type\":\"requests\",\"code\":\"rate_limit_exceeded\"}}"

static const struct fake_attempt refused = {.end = TRANSPORT_CONNECT, .detail = "refused"};
static const struct fake_attempt fine = {
    .status = 200, .headers = JSON "x-request-id: r1\n", .pieces = {{0, "{\"id\":1}", 0}}};
static const struct fake_attempt overloaded = {
    .status = 503, .headers = JSON, .pieces = {{0, "{\"error\":{\"message\":\"later\"}}", 0}}};
static const struct fake_attempt rate_limited = {
    .status = 429, .headers = JSON "x-request-id: r429\n", .pieces = {{0, RATE_LIMITED, 0}}};

/* Runs a plain request to its end and checks what holds for all of them. */
static void run_to_end(void)
{
    if (!w.begun)
        fake_begin_chat(&w, false);
    world_finish();
    ck_assert_uint_eq(w.timer_ms, TIMER_OFF);
    ck_assert_uint_eq(w.x.ended_ms, w.now_ms);
}

static void run(const struct fake_attempt *script, unsigned n)
{
    world_follow(script, n);
    run_to_end();
}

static void answered(unsigned status, const char *body, unsigned attempts)
{
    ck_assert_uint_eq(w.wholes + w.begins, 1);
    ck_assert_uint_eq(w.cuts, 0);
    ck_assert_uint_eq(w.response.status, status);
    ck_assert_uint_eq(w.x.reply.status, status);
    ck_assert_uint_eq(w.body.len, strlen(body));
    ck_assert(world_body_is(body));
    ck_assert_uint_eq(w.x.reply.bytes_out, w.body.len);
    ck_assert_uint_eq(w.x.attempts, attempts);
    ck_assert_int_eq(w.x.end, status < 400 ? END_ANSWERED : END_FAILED);
}

static bool header_is(const char *name, const char *value)
{
    return str_eq(fake_header(&w, name), str_from(value));
}

/* Our own error's text at error.NAME; checks its shape. */
static void own_error(unsigned status, const char *code, char *ret_message, size_t size)
{
    cJSON *json = cJSON_ParseWithLength(w.body.p, w.body.len);
    const cJSON *e = cJSON_GetObjectItem(json, "error");
    const char *message = cJSON_GetStringValue(cJSON_GetObjectItem(e, "message"));

    ck_assert_uint_eq(w.response.status, status);
    ck_assert_uint_eq(w.response.content_length, w.body.len);
    ck_assert_ptr_nonnull(message);
    ck_assert_str_eq(cJSON_GetStringValue(cJSON_GetObjectItem(e, "code")), code);
    ck_assert(cJSON_HasObjectItem(e, "param"));
    ck_assert_ptr_nonnull(cJSON_GetStringValue(cJSON_GetObjectItem(e, "type")));
    ck_assert(header_is("content-type", "application/json"));
    ck_assert(header_is("x-should-retry", "false"));
    if (ret_message)
        snprintf(ret_message, size, "%s", message);
    cJSON_Delete(json);
}

/* --- states ----------------------------------------------------------------------------------- */

/* The diagram of exchange.h, written a second time. */
static const char *const moves[] = {
    [EXCHANGE_RECEIVING] = ".Q....D",  [EXCHANGE_QUEUED] = "..A..RD",
    [EXCHANGE_ATTEMPTING] = ".Q.HBRD", [EXCHANGE_HOLDING] = ".QA.BRD",
    [EXCHANGE_BACKOFF] = ".Q...RD",    [EXCHANGE_RELAYING] = "....B.D",
    [EXCHANGE_DONE] = ".......",
};

static void move(int from, int to)
{
    fake_begin_chat(&w, false);
    w.x.state = (enum exchange_state)from;
    exchange_set(&w.x, (enum exchange_state)to);
    ck_assert_int_eq(w.x.state, to);
    exchange_deinit(&w.x);
    w.begun = false;
}

START_TEST(allowed_moves)
{
    for (int from = 0; from <= EXCHANGE_DONE; from++)
        for (int to = 0; to <= EXCHANGE_DONE; to++)
            if (moves[from][to] != '.')
                move(from, to);
}
END_TEST

START_TEST(other_moves_abort)
{
    int from = _i / 7, to = _i % 7;

    if (moves[from][to] != '.')
        raise(SIGABRT); /* an allowed one, tested above */
    move(from, to);
}
END_TEST

START_TEST(states_and_ends_have_words)
{
    static const char *const states[] = {"receiving", "queued",   "attempting", "holding",
                                         "backoff",   "relaying", "done"};
    static const char *const ends[] = {"none",    "answered", "failed",
                                       "refused", "broken",   "client_gone"};

    for (size_t i = 0; i < COUNT(states); i++)
        ck_assert_str_eq(exchange_state_word((enum exchange_state)i), states[i]);
    for (size_t i = 0; i < COUNT(ends); i++)
        ck_assert_str_eq(exchange_end_word((enum exchange_end)i), ends[i]);
}
END_TEST

/* --- answers ---------------------------------------------------------------------------------- */

START_TEST(a_good_response_passes_unchanged)
{
    static const struct fake_attempt a = {
        .status = 201,
        .headers_ms = 30,
        .headers =
            "X-Odd:  two  words\nx-ratelimit-remaining-tokens: 7\nConnection: x-hop\n"
            "X-Hop: 1\nTransfer-Encoding: chunked\nContent-Length: 7\nx-should-retry: true\n",
        .pieces = {{10, "abc", 0}, {10, "\0\1\2\3", 4}},
        .end_ms = 5};

    world_follow(&a, 1);
    fake_begin(&w, "POST", "/v1/audio/speech", NULL, "{\"input\":\"abc\"}");
    ck_assert_int_eq(w.x.state, EXCHANGE_RECEIVING);
    fake_turn(&w);
    ck_assert_int_eq(w.x.state, EXCHANGE_ATTEMPTING);
    fake_turn(&w);
    ck_assert_int_eq(w.x.state, EXCHANGE_HOLDING);
    run_to_end();
    ck_assert_uint_eq(w.now_ms, 55);
    ck_assert_uint_eq(w.response.status, 201);
    ck_assert_uint_eq(w.response.content_length, 7);
    ck_assert_mem_eq(w.body.p, "abc\0\1\2\3", 7);
    ck_assert(header_is("x-odd", "two  words"));
    ck_assert(header_is("x-should-retry", "true"));
    ck_assert(header_is("x-hop", "") && header_is("connection", ""));
    ck_assert(header_is("transfer-encoding", "") && header_is("content-length", ""));
    ck_assert(header_is("x-retryd-attempts", "1") && header_is("x-retryd-wait-ms", "0"));
    ck_assert(header_is("x-retryd-target", "openai"));
    ck_assert(header_is("proxy-status", "retryd; received-status=201; next-hop=\"api.example\""));
    ck_assert_int_eq(w.x.end, END_ANSWERED);
    ck_assert_ptr_null(w.x.cannot_retry);
    ck_assert_int_eq(w.x.last_reason, REASON_OK);
    ck_assert_uint_eq(w.failures, 0);
}
END_TEST

START_TEST(all_of_it_within_attempt_start)
{
    struct fake_attempt a = fine;

    a.at_once = true;
    run(&a, 1);
    answered(200, "{\"id\":1}", 1);
}
END_TEST

START_TEST(head_and_304_keep_the_length_they_tell)
{
    static const struct fake_attempt a = {.status = 200, .headers = "Content-Length: 4711\n"};
    static const struct fake_attempt b = {.status = 304};

    world_follow(_i == 0 ? &a : &b, 1);
    fake_begin(&w, _i == 0 ? "HEAD" : "GET", "/v1/models", NULL, NULL);
    run_to_end();
    ck_assert_uint_eq(w.response.content_length, _i == 0 ? 4711 : LENGTH_UNKNOWN);
    ck_assert_uint_eq(w.body.len, 0);
}
END_TEST

/* --- retries ---------------------------------------------------------------------------------- */

START_TEST(retries_until_success)
{
    const struct fake_attempt script[] = {overloaded, refused, rate_limited, fine};
    static const enum reason reasons[] = {REASON_OVERLOADED, REASON_CONNECT, REASON_RATE_LIMIT};

    run(script, 4);
    answered(200, "{\"id\":1}", 4);
    ck_assert_uint_eq(w.start[1].at_ms, 1000);
    ck_assert_uint_eq(w.start[2].at_ms, 3000);
    ck_assert_uint_eq(w.start[3].at_ms, 7000);
    ck_assert_uint_eq(w.x.wait_ms, 7000);
    ck_assert(header_is("x-retryd-attempts", "4") && header_is("x-retryd-wait-ms", "7000"));
    ck_assert_uint_eq(w.failures, 3);
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_int_eq(w.reports[i].verdict.reason, reasons[i]);
        ck_assert_int_eq(w.reports[i].decision.action, RETRY_AGAIN);
        ck_assert_uint_eq(w.reports[i].number, i + 1);
        ck_assert(!w.reports[i].duplicate);
    }
    ck_assert_uint_eq(w.reports[2].status, 429);
    ck_assert_uint_eq(w.x.duplicates, 0);
    ck_assert_uint_eq(w.cancels, 0);
}
END_TEST

START_TEST(at_most_max_attempts)
{
    char message[512];

    w.settings.retry.max_attempts = (unsigned)_i;
    run(&refused, 1);
    ck_assert_uint_eq(w.starts, (unsigned)_i);
    own_error(502, "connect_failed", message, sizeof(message));
    ck_assert_ptr_nonnull(
        strstr(message, _i == 1 ? "after 1 attempt: refused." : " attempts: refused."));
    ck_assert(header_is("proxy-status", "retryd; error=destination_unavailable; "
                                        "next-hop=\"api.example\"; details=\"refused\""));
    ck_assert_str_eq(w.x.cannot_retry, "all attempts are used up");
    ck_assert_int_eq(w.x.end, END_FAILED);
}
END_TEST

START_TEST(verdicts_pass_at_once_byte_for_byte)
{
    static const struct {
        unsigned status;
        const char *headers, *body;
        enum reason reason;
    } rows[] = {
        {429, JSON "retry-after: 1\nx-should-retry: true\n",
         "{\"error\":{\"message\":\"m\",\"code\":\"insufficient_quota\"}}", REASON_QUOTA},
        {401, JSON, "{\"error\":{\"code\":\"invalid_api_key\"}}", REASON_KEY},
        {404, JSON, "{\"error\":{\"code\":\"model_not_found\"}}", REASON_MODEL},
        {400, JSON, "{ \"error\" : {\"code\":\"context_length_exceeded\"}}\r\n", REASON_CONTEXT},
        {400, "Content-Type: text/html\n", "<html>", REASON_CLIENT_ERROR},
        {501, "", "", REASON_NOT_IMPLEMENTED},
        {500, "x-should-retry: false\n", "broken", REASON_UPSTREAM_SAYS_NO},
    };
    struct fake_attempt a = {
        .status = rows[_i].status, .headers = rows[_i].headers, .pieces = {{0, rows[_i].body, 0}}};

    run(&a, 1);
    answered(rows[_i].status, rows[_i].body, 1);
    ck_assert_uint_eq(w.now_ms, 0);
    ck_assert_int_eq(w.reports[0].verdict.reason, rows[_i].reason);
    ck_assert(header_is("x-should-retry", "false"));
    ck_assert(strstr(fake_header(&w, "proxy-status").p, "; received-status="));
    ck_assert_str_eq(w.x.cannot_retry, "the same request would fail again");
}
END_TEST

START_TEST(the_last_error_response_outlives_a_lost_connection)
{
    const struct fake_attempt script[] = {overloaded, rate_limited, refused};

    run(script, 3);
    answered(429, RATE_LIMITED, 5);
    ck_assert(header_is("x-request-id", "r429"));
    ck_assert(header_is("x-retryd-attempts", "5"));
    ck_assert(header_is("proxy-status", "retryd; received-status=429; next-hop=\"api.example\""));
    ck_assert_int_eq(w.x.last_reason, REASON_CONNECT);
}
END_TEST

START_TEST(an_error_response_that_broke_off_is_never_passed_on)
{
    struct fake_attempt a = rate_limited;

    a.end = TRANSPORT_TRUNCATED;
    a.detail = "cut off";
    run(&a, 1);
    ck_assert_uint_eq(w.starts, 5);
    own_error(502, "rate_limited", NULL, 0);
}
END_TEST

START_TEST(an_error_under_200)
{
    static const struct fake_attempt a = {
        .status = 200,
        .headers = JSON,
        .pieces = {{0, "{\"error\":{\"message\":\"x\",\"code\":502}}", 0}}};
    static const struct fake_attempt b = {
        .status = 200, .headers = JSON, .pieces = {{0, "{\"error\":{\"message\":\"x\"}}", 0}}};

    if (_i == 0)
        run(&a, 1);
    else
        run(&b, 1);
    answered(502,
             _i == 0 ? "{\"error\":{\"message\":\"x\",\"code\":502}}"
                     : "{\"error\":{\"message\":\"x\"}}",
             5);
    ck_assert(header_is("x-should-retry", "false"));
    ck_assert_uint_eq(w.x.duplicates, 4);
}
END_TEST

START_TEST(own_errors_by_cause)
{
    static const struct {
        enum transport t;
        unsigned status;
        const char *code;
    } rows[] = {
        {TRANSPORT_DNS, 502, "dns_failed"},
        {TRANSPORT_CONNECT, 502, "connect_failed"},
        {TRANSPORT_TLS, 502, "tls_failed"},
        {TRANSPORT_CERTIFICATE, 502, "certificate_rejected"},
        {TRANSPORT_PROXY, 502, "proxy_failed"},
        {TRANSPORT_LOST_UPLOAD, 502, "upload_broken"},
        {TRANSPORT_LOST, 502, "connection_lost"},
        {TRANSPORT_BAD_RESPONSE, 502, "answer_unreadable"},
        {TRANSPORT_LARGE_HEADERS, 502, "response_headers_too_large"},
        {TRANSPORT_CONNECT_TIMEOUT, 504, "connect_timeout"},
        {TRANSPORT_INTERNAL, 503, "internal_error"},
    };
    struct fake_attempt a = {.end = rows[_i].t, .detail = "det\"ail\x01"};
    bool final = a.end == TRANSPORT_CERTIFICATE || a.end == TRANSPORT_LARGE_HEADERS ||
                 a.end == TRANSPORT_INTERNAL;

    run(&a, 1);
    own_error(rows[_i].status, rows[_i].code, NULL, 0);
    ck_assert_uint_eq(w.starts, final ? 1 : 5);
    ck_assert_int_eq(w.x.end, END_FAILED);
}
END_TEST

START_TEST(a_truncated_response_is_made_again)
{
    const struct fake_attempt script[] = {
        {.status = 200, .headers = JSON, .pieces = {{0, "{\"id\"", 0}}, .end = TRANSPORT_TRUNCATED},
        fine};

    run(script, 2);
    answered(200, "{\"id\":1}", 2);
    ck_assert(w.reports[0].duplicate);
    ck_assert_uint_eq(w.x.duplicates, 1);
}
END_TEST

START_TEST(what_may_have_been_processed_is_not_repeated_where_forbidden)
{
    static const struct fake_attempt a = {.end = TRANSPORT_LOST, .detail = "gone"};

    w.settings.retry.retry_ambiguous = false;
    run(&a, 1);
    own_error(502, "connection_lost", NULL, 0);
    ck_assert_uint_eq(w.starts, 1);
    ck_assert_uint_eq(w.x.duplicates, 0);
}
END_TEST

START_TEST(an_attempt_that_cannot_start)
{
    static const struct fake_attempt a = {.start_fails = -ENOMEM};

    if (_i == 0) {
        run(&a, 1);
        own_error(503, "internal_error", NULL, 0);
    } else {
        const struct fake_attempt script[] = {rate_limited, a};

        run(script, 2);
        answered(429, RATE_LIMITED, 2);
    }
}
END_TEST

START_TEST(a_response_that_cannot_be_given_is_cut)
{
    w.whole_fails = -ENOMEM;
    if (_i == 0)
        run(&fine, 1);
    else
        run(&refused, 1);
    ck_assert_uint_eq(w.cuts, 1);
    ck_assert_int_eq(w.x.end, END_BROKEN);
    ck_assert_uint_eq(w.x.reply.bytes_out, 0);
}
END_TEST

/* --- hints ------------------------------------------------------------------------------------ */

START_TEST(hints_are_floors)
{
    static const struct {
        const char *headers, *body;
        uint64_t floor;
    } rows[] = {
        {"retry-after: 7\n", "", 7000},
        {"retry-after-ms: 2500\nretry-after: 9\n", "", 2500},
        {"retry-after: 1.5\n", "", 1500},
        {"", "{\"error\":{\"message\":\"Please try again in 3.2s\"}}", 3200},
        {"x-ratelimit-remaining-tokens: 0\nx-ratelimit-reset-tokens: 6s\n", "", 6000},
        {"retry-after: Tue, 14 Nov 2023 22:13:30 GMT\n", "", 10000}, /* unix_ms + 10 s */
    };
    const struct fake_attempt script[] = {
        {.status = 429, .headers = rows[_i].headers, .pieces = {{0, rows[_i].body, 0}}}, fine};
    uint64_t floor = rows[_i].floor;

    run(script, 2);
    answered(200, "{\"id\":1}", 2);
    ck_assert_uint_ge(w.start[1].at_ms, floor);
    ck_assert_uint_le(w.start[1].at_ms, floor + floor / 10 + 20);
    ck_assert_uint_eq(w.x.wait_ms, w.start[1].at_ms);
    ck_assert_uint_eq(w.reports[0].hint.delay_ms, floor);
}
END_TEST

START_TEST(a_hint_too_long_is_the_final_word)
{
    static const char *const why[] = {"the upstream asks for a longer wait than max_hint",
                                      "the upstream asks for a wait beyond the deadline"};
    struct fake_attempt a = rate_limited;

    a.headers = _i == 0 ? "retry-after: 121\n" : "retry-after: 100\n";
    w.settings.retry.deadline_ms = _i == 0 ? 600000 : 100000;
    run(&a, 1);
    answered(429, RATE_LIMITED, 1);
    ck_assert_uint_eq(w.now_ms, 0);
    ck_assert(header_is("retry-after", _i == 0 ? "121" : "100"));
    ck_assert_str_eq(w.x.cannot_retry, why[_i]);
}
END_TEST

/* --- times ------------------------------------------------------------------------------------ */

static const struct fake_attempt silent = {.hangs = true};
static const struct fake_attempt half = {
    .status = 200, .headers_ms = 10, .headers = JSON, .pieces = {{10, "{", 0}}, .hangs = true};

START_TEST(the_deadline_in_each_state)
{
    const struct fake_attempt after_error[] = {rate_limited, silent};
    char message[512];

    w.settings.retry.deadline_ms = 5000;
    if (_i == 2) {
        run(after_error, 2);
        answered(429, RATE_LIMITED, 2);
    } else {
        run(_i == 0 ? &silent : &half, 1);
        own_error(504, "deadline_exceeded", message, sizeof(message));
        ck_assert_ptr_nonnull(strstr(message, "the deadline of 5000 ms has passed."));
    }
    ck_assert_uint_eq(w.now_ms, 5000);
    ck_assert_uint_eq(w.cancels, 1);
    ck_assert_str_eq(w.x.cannot_retry, "the deadline has passed");
    ck_assert_int_eq(w.x.last_reason, REASON_DEADLINE);
    ck_assert_int_eq(w.reports[w.failures - 1].verdict.reason, REASON_DEADLINE);
}
END_TEST

START_TEST(no_wait_past_the_deadline)
{
    w.settings.retry.deadline_ms = 3000 + 49; /* the third attempt could start 49 ms before it */
    run(&overloaded, 1);
    ck_assert_uint_eq(w.starts, 2);
    ck_assert_uint_eq(w.now_ms, 1000);
    ck_assert_str_eq(w.x.cannot_retry, "the wait would exceed the deadline");
}
END_TEST

START_TEST(a_late_timer_starts_nothing_past_the_deadline)
{
    w.settings.retry.deadline_ms = 3000;
    w.timer_late_ms = 2500;
    if (_i == 0) {
        run(&rate_limited, 1);
        answered(429, RATE_LIMITED, 1);
    } else {
        run(&refused, 1);
        own_error(502, "connect_failed", NULL, 0);
    }
    ck_assert_uint_eq(w.now_ms, 3500);
    ck_assert_uint_eq(w.starts, 1);
    ck_assert_uint_eq(w.x.wait_ms, 3500);
}
END_TEST

START_TEST(a_request_that_came_too_late_is_not_sent)
{
    char message[512];

    w.settings.retry.deadline_ms = 3000;
    w.request_ms = 3000;
    run(&fine, 1);
    ck_assert_uint_eq(w.starts, 0);
    own_error(504, "deadline_exceeded", message, sizeof(message));
    ck_assert_ptr_nonnull(strstr(message, "after 0 attempts"));
    ck_assert(header_is("x-retryd-attempts", "0"));
}
END_TEST

START_TEST(the_clients_deadline_counts)
{
    static const struct {
        const char *headers;
        uint64_t at_ms;
    } rows[] = {
        {"x-stainless-read-timeout: 10\n", 9500}, {"X-Stainless-Timeout: 100\n", 98000},
        {"X-Stainless-Runtime: node\n", 298000},  {"x-retryd-deadline: 2.5\n", 2375},
        {"x-retryd-deadline: 1500ms\n", 1400},
    };

    world_follow(&silent, 1);
    w.settings.timeout.first_byte_ms = 0;
    fake_begin(&w, "POST", "/v1/chat/completions", rows[_i].headers, "{}");
    run_to_end();
    own_error(504, "deadline_exceeded", NULL, 0);
    ck_assert_uint_eq(w.now_ms, rows[_i].at_ms);
}
END_TEST

START_TEST(timeouts_of_an_attempt)
{
    static const struct fake_attempt stuck = {.hangs = true, .upload_stuck = true};
    static const struct {
        const struct fake_attempt *a;
        struct timeout_settings t;
        enum reason reason;
        uint64_t at_ms;
        bool duplicate;
    } rows[] = {
        {&silent, {.first_byte_ms = 700}, REASON_FIRST_BYTE_TIMEOUT, 700, true},
        {&stuck, {.first_byte_ms = 700}, REASON_UPLOAD_TIMEOUT, 700, false},
        {&half, {.first_byte_ms = 700, .idle_ms = 300}, REASON_IDLE_TIMEOUT, 320, true},
        {&half, {.total_ms = 400}, REASON_TOTAL_TIMEOUT, 400, true},
        {&silent, {.total_ms = 400}, REASON_TOTAL_TIMEOUT, 400, true},
        {&silent, {.first_byte_ms = 400, .total_ms = 500}, REASON_FIRST_BYTE_TIMEOUT, 400, true},
    };
    const struct fake_attempt script[] = {*rows[_i].a, fine};

    w.settings.timeout = rows[_i].t;
    run(script, 2);
    answered(200, "{\"id\":1}", 2);
    ck_assert_uint_eq(w.start[0].gone_ms, rows[_i].at_ms);
    ck_assert(w.start[0].cancelled);
    ck_assert_uint_eq(w.start[1].at_ms, rows[_i].at_ms + 1000);
    ck_assert_int_eq(w.reports[0].verdict.reason, rows[_i].reason);
    ck_assert_int_eq(w.reports[0].duplicate, rows[_i].duplicate);
    ck_assert_uint_eq(w.reports[0].duration_ms, rows[_i].at_ms);
}
END_TEST

/* Only the deadline, and that is off too: silence is waited out. */
START_TEST(no_timeouts)
{
    static const struct fake_attempt a = {
        .status = 200, .headers_ms = 3600000, .pieces = {{0, "{}", 0}}, .end_ms = 3600000};

    w.settings.timeout = (struct timeout_settings){.idle_ms = 0};
    w.settings.retry.deadline_ms = 0;
    run(&a, 1);
    answered(200, "{}", 1);
    ck_assert_uint_eq(w.now_ms, 7200000);
}
END_TEST

/* Ten minutes before the head, on one attempt: idle counts only from the head on. */
START_TEST(long_silence_before_the_head)
{
    static const uint64_t first_bytes[] = {0, 900000};
    static const struct fake_attempt slow = {
        .status = 200, .headers_ms = 600000, .headers = JSON, .pieces = {{0, "{\"id\":1}", 0}}};

    w.settings.timeout =
        (struct timeout_settings){.first_byte_ms = first_bytes[_i], .idle_ms = 60000};
    w.settings.retry.deadline_ms = 1200000;
    run(&slow, 1);
    answered(200, "{\"id\":1}", 1);
    ck_assert_uint_eq(w.starts, 1);
    ck_assert_uint_eq(w.failures, 0);
    ck_assert_uint_eq(w.now_ms, 600000);
}
END_TEST

/* With the default it is taken for dead after five minutes, and asked for again. */
START_TEST(long_silence_is_repeated_by_default)
{
    const struct fake_attempt script[] = {{.status = 200, .headers_ms = 600000}, fine};

    w.settings.timeout.first_byte_ms = 300000;
    w.settings.retry.deadline_ms = 600000;
    run(script, 2);
    answered(200, "{\"id\":1}", 2);
    ck_assert_uint_eq(w.start[0].gone_ms, 300000);
    ck_assert_int_eq(w.reports[0].verdict.reason, REASON_FIRST_BYTE_TIMEOUT);
}
END_TEST

/* The status has said enough: neither the hint is lost nor a second charge feared. */
START_TEST(an_error_whose_body_stalls_counts_by_its_status)
{
    const struct fake_attempt script[] = {
        {.status = 429, .headers = "retry-after: 7\n", .pieces = {{0, "{\"er", 0}}, .hangs = true},
        fine};

    w.settings.timeout.idle_ms = 300;
    run(script, 2);
    answered(200, "{\"id\":1}", 2);
    ck_assert_int_eq(w.reports[0].verdict.reason, REASON_RATE_LIMIT);
    ck_assert_uint_eq(w.reports[0].status, 429);
    ck_assert_uint_ge(w.start[1].at_ms, 7300);
    ck_assert_uint_eq(w.x.duplicates, 0);
}
END_TEST

/* --- stale connections ------------------------------------------------------------------------ */

static const struct fake_attempt stale = {.end = TRANSPORT_STALE, .detail = "stale"};

START_TEST(a_stale_connection_is_no_attempt)
{
    const struct fake_attempt script[] = {stale, fine};

    w.settings.retry.max_attempts = 1;
    run(script, 2);
    answered(200, "{\"id\":1}", 1);
    ck_assert_uint_eq(w.starts, 2);
    ck_assert(!w.start[0].fresh && w.start[1].fresh);
    ck_assert_uint_eq(w.now_ms, 0);
    ck_assert_uint_eq(w.failures, 0);
}
END_TEST

START_TEST(stale_twice_is_an_attempt)
{
    run(&stale, 1);
    own_error(502, "stale_connection", NULL, 0);
    ck_assert_uint_eq(w.x.attempts, 5);
    ck_assert_uint_eq(w.starts, 10);
    ck_assert_uint_eq(w.now_ms, 0);
}
END_TEST

START_TEST(a_stale_connection_is_not_replaced_past_the_deadline)
{
    static const struct fake_attempt late = {.end_ms = 3000, .end = TRANSPORT_STALE};

    w.settings.retry.deadline_ms = 3000;
    run(&late, 1);
    ck_assert_uint_eq(w.starts, 1);
    own_error(504, "deadline_exceeded", NULL, 0);
}
END_TEST

/* --- sick connections ------------------------------------------------------------------------- */

/* C3: a kept connection leads to the same server each time. */
START_TEST(after_a_sick_answer_the_next_attempt_begins_anew)
{
    const struct fake_attempt script[] = {overloaded, rate_limited, overloaded, fine};

    run(script, 4);
    answered(200, "{\"id\":1}", 4);
    ck_assert(!w.start[0].anew && w.start[1].anew && !w.start[2].anew && w.start[3].anew);
    ck_assert(!w.start[1].fresh && !w.start[3].fresh);
}
END_TEST

START_TEST(after_a_broken_response_the_next_attempt_begins_anew)
{
    static const struct fake_attempt lost = {.end = TRANSPORT_LOST, .detail = "lost"};
    static const struct fake_attempt page = {
        .status = 200, .headers = JSON, .pieces = {{0, "<html>", 0}}};
    const struct fake_attempt script[] = {lost, page, fine};

    run(script, 3);
    answered(200, "{\"id\":1}", 3);
    ck_assert(!w.start[0].anew && w.start[1].anew && w.start[2].anew);
}
END_TEST

/* --- clients ---------------------------------------------------------------------------------- */

START_TEST(a_client_that_leaves_ends_it_once)
{
    static const struct fake_attempt stream = {.status = 200,
                                               .headers = "Content-Type: text/event-stream\n",
                                               .pieces = {{0,
                                                           "data: {\"choices\":[{\"delta\":{"
                                                           "\"content\":\"a\"}}]}\n\n",
                                                           0}},
                                               .hangs = true};
    static const struct {
        enum exchange_state state;
        const struct fake_attempt *a;
        unsigned cancels;
    } rows[] = {
        {EXCHANGE_RECEIVING, &fine, 0},  {EXCHANGE_ATTEMPTING, &silent, 1},
        {EXCHANGE_HOLDING, &half, 1},    {EXCHANGE_BACKOFF, &overloaded, 0},
        {EXCHANGE_RELAYING, &stream, 1},
    };

    world_follow(rows[_i].a, 1);
    w.client.leaves_at = 500;
    if (rows[_i].state == EXCHANGE_RECEIVING)
        w.request_ms = 1000;
    fake_begin_chat(&w, true);
    fake_run_until(&w, 500);
    ck_assert_int_eq(w.x.state, rows[_i].state);
    run_to_end();
    ck_assert_uint_eq(w.now_ms, 500);
    ck_assert_int_eq(w.x.end, END_CLIENT_GONE);
    ck_assert_int_eq(w.x.last_reason, REASON_CLIENT_GONE);
    ck_assert_uint_eq(w.cancels, rows[_i].cancels);
    ck_assert_uint_eq(w.wholes, 0);
    ck_assert_uint_eq(w.cuts, 0);
    exchange_step(&w.x);
    ck_assert_uint_eq(w.ended, 1);
}
END_TEST

/* It leaves in the very turn in which the attempt ends: nothing is left to cancel. */
START_TEST(client_and_attempt_end_together)
{
    static const struct fake_attempt a = {.end_ms = 500, .end = TRANSPORT_LOST};

    w.client.leaves_at = 500;
    run(&a, 1);
    ck_assert_int_eq(w.x.end, END_CLIENT_GONE);
    ck_assert_uint_eq(w.cancels, 0);
}
END_TEST

START_TEST(an_exchange_thrown_away_cancels)
{
    world_follow(_i == 0 ? &silent : &half, 1);
    fake_begin_chat(&w, false);
    fake_run_until(&w, 100);
    exchange_deinit(&w.x);
    w.begun = false;
    ck_assert_uint_eq(w.cancels, 1);
    ck_assert_uint_eq(w.ended, 0);
}
END_TEST

/* --- the caller's requests -------------------------------------------------------------------- */

START_TEST(overrides_of_the_attempts)
{
    static const struct {
        const char *headers;
        unsigned starts;
        const char *why;
    } rows[] = {
        {"x-retryd-max-attempts: 2\n", 2, "all attempts are used up"},
        {"x-retryd-max-attempts: 9\n", 9, "all attempts are used up"},
        {"x-retryd-no-retry: yes\n", 1, "the caller asked for a single attempt"},
        {"X-Retryd-No-Retry: 0\nx-retryd-stream-mode: live\n", 5, "all attempts are used up"},
    };

    world_follow(&refused, 1);
    w.settings.retry.backoff.max_delay_ms = 1000;
    fake_begin(&w, "POST", "/v1/chat/completions", rows[_i].headers, "{}");
    run_to_end();
    ck_assert_uint_eq(w.starts, rows[_i].starts);
    ck_assert_str_eq(w.x.cannot_retry, rows[_i].why);
    for (unsigned i = 0; i < w.sent.count; i++)
        ck_assert(!str_istarts(headers_name(&w.sent, i), STR("x-retryd")));
}
END_TEST

START_TEST(a_bad_override_is_refused)
{
    char message[512];

    world_follow(&fine, 1);
    fake_begin(&w, "POST", "/v1/chat/completions", "x-retryd-max-attempts: many\n", "{}");
    run_to_end();
    own_error(400, "invalid_retryd_header", message, sizeof(message));
    ck_assert_str_eq(
        message,
        "retryd: header x-retryd-max-attempts: found \"many\"; expected a number from 1 to 100");
    ck_assert_uint_eq(w.starts, 0);
    ck_assert_int_eq(w.x.end, END_REFUSED);
}
END_TEST

START_TEST(a_path_without_a_route_is_refused)
{
    w.plan_fails = -ENOENT;
    run(&fine, 1);
    own_error(404, "no_route", NULL, 0);
    ck_assert_uint_eq(w.starts, 0);
    ck_assert_int_eq(w.x.end, END_REFUSED);
    ck_assert(header_is("proxy-status", "retryd; error=http_request_error"));
}
END_TEST

START_TEST(one_idempotency_key_for_all_attempts)
{
    const struct fake_attempt script[] = {refused, refused, fine};
    struct str first, v;
    char kept[REQUEST_ID_MAX];

    world_follow(script, 3);
    w.idempotency_header = "Idempotency-Key";
    fake_begin(&w, "POST", "/v1/chat/completions?x=1", _i == 0 ? NULL : "idempotency-key: mine\n",
               "{}");
    fake_turn(&w);
    ck_assert(headers_get(&w.sent, STR("idempotency-key"), &first));
    snprintf(kept, sizeof(kept), "%.*s", (int)first.n, first.p);
    ck_assert_str_eq(kept, _i == 0 ? w.x.request.id : "mine");
    run_to_end();
    ck_assert_uint_eq(w.starts, 3);
    ck_assert(headers_get(&w.sent, STR("idempotency-key"), &v));
    ck_assert(str_eq(v, str_from(kept)));
    ck_assert(str_eq(buf_str(&w.path), STR("/v1/chat/completions?x=1")));
}
END_TEST

/* --- all of them ------------------------------------------------------------------------------ */

static TCase *begin_case(Suite *s, const char *name)
{
    TCase *c = unit_case(s, name);

    tcase_add_checked_fixture(c, world_set_up, world_tear_down);
    return c;
}

static void add_attempts(Suite *s)
{
    TCase *c = begin_case(s, "attempts");

    tcase_add_test(c, retries_until_success);
    tcase_add_loop_test(c, at_most_max_attempts, 1, 6);
    tcase_add_loop_test(c, verdicts_pass_at_once_byte_for_byte, 0, 7);
    tcase_add_test(c, the_last_error_response_outlives_a_lost_connection);
    tcase_add_test(c, an_error_response_that_broke_off_is_never_passed_on);
    tcase_add_loop_test(c, an_error_under_200, 0, 2);
    tcase_add_loop_test(c, own_errors_by_cause, 0, 11);
    tcase_add_test(c, a_truncated_response_is_made_again);
    tcase_add_test(c, what_may_have_been_processed_is_not_repeated_where_forbidden);
    tcase_add_loop_test(c, an_attempt_that_cannot_start, 0, 2);
    tcase_add_loop_test(c, a_response_that_cannot_be_given_is_cut, 0, 2);
    tcase_add_loop_test(c, hints_are_floors, 0, 6);
    tcase_add_loop_test(c, a_hint_too_long_is_the_final_word, 0, 2);
    tcase_add_test(c, a_stale_connection_is_no_attempt);
    tcase_add_test(c, stale_twice_is_an_attempt);
    tcase_add_test(c, a_stale_connection_is_not_replaced_past_the_deadline);
    tcase_add_test(c, after_a_sick_answer_the_next_attempt_begins_anew);
    tcase_add_test(c, after_a_broken_response_the_next_attempt_begins_anew);
}

static void add_times_and_clients(Suite *s)
{
    TCase *c = begin_case(s, "times");

    tcase_add_loop_test(c, the_deadline_in_each_state, 0, 3);
    tcase_add_test(c, no_wait_past_the_deadline);
    tcase_add_loop_test(c, a_late_timer_starts_nothing_past_the_deadline, 0, 2);
    tcase_add_test(c, a_request_that_came_too_late_is_not_sent);
    tcase_add_loop_test(c, the_clients_deadline_counts, 0, 5);
    tcase_add_loop_test(c, timeouts_of_an_attempt, 0, 6);
    tcase_add_test(c, no_timeouts);
    tcase_add_loop_test(c, long_silence_before_the_head, 0, 2);
    tcase_add_test(c, long_silence_is_repeated_by_default);
    tcase_add_test(c, an_error_whose_body_stalls_counts_by_its_status);
    c = begin_case(s, "clients");
    tcase_add_loop_test(c, a_client_that_leaves_ends_it_once, 0, 5);
    tcase_add_test(c, client_and_attempt_end_together);
    tcase_add_loop_test(c, an_exchange_thrown_away_cancels, 0, 2);
    tcase_add_loop_test(c, overrides_of_the_attempts, 0, 4);
    tcase_add_test(c, a_bad_override_is_refused);
    tcase_add_test(c, a_path_without_a_route_is_refused);
    tcase_add_loop_test(c, one_idempotency_key_for_all_attempts, 0, 2);
}

void unit_tests(Suite *suite)
{
    TCase *c = begin_case(suite, "states");

    tcase_add_test(c, allowed_moves);
    tcase_add_loop_test_raise_signal(c, other_moves_abort, SIGABRT, 0, 49);
    tcase_add_test(c, states_and_ends_have_words);
    c = begin_case(suite, "answers");
    tcase_add_test(c, a_good_response_passes_unchanged);
    tcase_add_test(c, all_of_it_within_attempt_start);
    tcase_add_loop_test(c, head_and_304_keep_the_length_they_tell, 0, 2);
    add_attempts(suite);
    add_times_and_clients(suite);
}
