/* Each allocation of an exchange fails once in turn: the client gets its response, an error or a
 * visible break, never a wrong response; and nothing leaks (the sanitizer checks at exit). */

#include <cJSON.h>
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "failmem.h"
#include "fake_world.h"
#include "unit.h"

#define LIMITED "{\"error\":{\"message\":\"slow\",\"code\":\"rate_limit_exceeded\"}}"
#define SIXTYFOUR "data: 1\n\ndata: 3456789012345678901234567890123456789012345678901234\n"

static char large[20000];

struct scenario {
    const char *name;
    const char *target, *headers;
    struct fake_attempt script[3];
    unsigned attempts;
    const char *answer; /* the good one; for streams: their whole events */
    const char *other;  /* the second attempt's alone, where the first one brought nothing */
    const char *error;  /* an upstream's error that may be passed on; NULL: none */
    const char *body;   /* the request's; NULL: the usual one */
    enum stream_mode mode;
    uint64_t heartbeat_ms;
    bool http_1_0;
};

#define CHUNK(id, delta) \
    "data: {\"id\":\"" id "\",\"choices\":[{\"index\":0,\"delta\":" delta "}]}\n\n"
#define ROLE(id) CHUNK(id, "{\"role\":\"assistant\"}")
#define TEXT(id, text) CHUNK(id, "{\"content\":\"" text "\"}")
#define TWO_LINES(id, text)                                                                     \
    "data: {\"id\":\"" id "\",\ndata: \"choices\":[{\"index\":0,\"delta\":{\"content\":\"" text \
    "\"}}]}\n\n"
#define STOP(id)          \
    "data: {\"id\":\"" id \
    "\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
#define DONE "data: [DONE]\n\n"
#define EVENT(n, type, rest) \
    "event: " type "\ndata: {\"type\":\"" type "\",\"sequence_number\":" n rest "}\n\n"
#define CREATED(id) EVENT("0", "response.created", ",\"response\":{\"id\":\"" id "\"}")
#define DELTA(n, text) \
    EVENT(n, "response.output_text.delta", ",\"output_index\":0,\"delta\":\"" text "\"")
#define COMPLETED(n, id) EVENT(n, "response.completed", ",\"response\":{\"id\":\"" id "\"}")

static const struct scenario scenarios[] = {
    {.name = "a plain answer",
     .target = "/v1/models",
     .headers = "Accept-Encoding: br, gzip\nX-A: b\n",
     .script = {{.status = 200, .headers = JSON, .pieces = {{0, "{\"a\":1}", 0}}}},
     .attempts = 1,
     .answer = "{\"a\":1}"},
    {.name = "retried",
     .target = "/v1/models?x=1",
     .script = {{.status = 429, .headers = JSON, .pieces = {{0, LIMITED, 0}}},
                {.end = TRANSPORT_LOST, .detail = "lost"},
                {.status = 200, .headers = JSON, .pieces = {{0, "{\"a\":1}", 0}}}},
     .attempts = 3,
     .answer = "{\"a\":1}",
     .error = LIMITED},
    {.name = "a kept error",
     .target = "/v1/models",
     .script = {{.status = 429, .headers = JSON, .pieces = {{0, LIMITED, 0}}},
                {.end = TRANSPORT_STALE},
                {.end = TRANSPORT_DNS, .detail = "no such host"}},
     .attempts = 3,
     .error = LIMITED},
    {.name = "our own error",
     .target = "/v1/models",
     .script = {{.end = TRANSPORT_CONNECT, .detail = "refused"}},
     .attempts = 1},
    {.name = "refused",
     .target = "/v1/models",
     .headers = "x-retryd-deadline: soon\n",
     .script = {{.end = TRANSPORT_CONNECT}},
     .attempts = 1},
    {.name = "a stream",
     .target = "/v1/chat/completions",
     .script =
         {{.status = 200,
           .headers = SSE,
           .pieces = {{0, ": a\n\ndata: 1\n\n", 0}, {9, "data: 2\n\nda", 0}, {9, "ta: 3\n\n", 0}}}},
     .attempts = 1,
     .answer = ": a\n\ndata: 1\n\ndata: 2\n\ndata: 3\n\n"},
    {.name = "a stream that breaks",
     .target = "/v1/chat/completions",
     .script = {{.status = 200,
                 .headers = SSE,
                 .pieces = {{0, "data: 1\n\n", 0}, {9, "data: 2\n\nda", 0}},
                 .end = TRANSPORT_TRUNCATED}},
     .attempts = 1,
     .answer = "data: 1\n\ndata: 2\n\n"},
    {.name = "a responses stream that breaks",
     .target = "/v1/responses",
     .script = {{.status = 200,
                 .headers = SSE,
                 .pieces = {{0, "data: 1\n\n", 0}, {9, "data: 2\n\nda", 0}},
                 .end = TRANSPORT_TRUNCATED}},
     .attempts = 1,
     .answer = "data: 1\n\ndata: 2\n\n"},
    {.name = "a stream that lacks its last empty line, and the room for it",
     .target = "/v1/chat/completions",
     .script = {{.status = 200, .headers = SSE, .pieces = {{0, SIXTYFOUR, 0}}}},
     .attempts = 1,
     .answer = SIXTYFOUR "\n"},
    {.name = "a stream that begins with an error",
     .target = "/v1/chat/completions",
     .script = {{.status = 200,
                 .headers = SSE,
                 .pieces = {{0, "data: {\"error\":{\"message\":\"m\"}}\n\n", 0}}},
                {.status = 200, .headers = SSE, .pieces = {{0, "data: 1\n\n", 0}}}},
     .attempts = 2,
     .answer = "data: 1\n\n",
     .error = "{\"error\":{\"message\":\"m\"}}"},
    {.name = "a completion that says nothing",
     .target = "/v1/chat/completions",
     .script = {{.status = 200, .headers = JSON, .pieces = {{0, "{\"choices\":[]}", 0}}},
                {.end = TRANSPORT_LOST, .detail = "lost"}},
     .attempts = 2,
     .answer = "{\"choices\":[]}"},
    {.name = "a stream that says nothing",
     .target = "/v1/chat/completions",
     .script = {{.status = 200, .headers = SSE, .pieces = {{0, ROLE("A") STOP("A") DONE, 0}}},
                {.end = TRANSPORT_LOST, .detail = "lost"}},
     .attempts = 2,
     .answer = ROLE("A") STOP("A") DONE,
     .body = "{\"stream\":true}"},
    {.name = "an answer beyond hold_limit",
     .target = "/v1/models",
     .script = {{.status = 200,
                 .headers = "Content-Length: 19999\n",
                 .pieces = {{0, large, 9000}, {1, large, 9000}, {1, large, 1999}}}},
     .attempts = 1,
     .answer = large},
    {.name = "an error body in gzip that is none",
     .target = "/v1/models",
     .script = {{.status = 500,
                 .headers = JSON "Content-Encoding: gzip\n",
                 .pieces = {{0, "no gzip at all", 0}}},
                {.status = 200, .headers = JSON, .pieces = {{0, "{}", 0}}}},
     .attempts = 2,
     .answer = "{}",
     .error = "no gzip at all"},
    {.name = "a chat that is spliced",
     .target = "/v1/chat/completions",
     .mode = STREAM_SPLICE,
     .script = {{.status = 200,
                 .headers = SSE,
                 .pieces = {{0, ROLE("A") TEXT("A", "Hello"), 0}, {5, TEXT("A", " y") "dat", 0}},
                 .end = TRANSPORT_TRUNCATED},
                {.status = 200,
                 .headers = SSE,
                 .pieces = {{0, ROLE("B") TEXT("B", "He") TEXT("B", "llo you"), 0},
                            {5, TWO_LINES("B", " all") STOP("B") DONE, 0}}}},
     .attempts = 2,
     .answer = ROLE("A") TEXT("A", "Hello") TEXT("A", " y") TEXT(
         "A",
         "ou") "data: {\"id\":\"A\", \"choices\":[{\"index\":0,\"delta\":{\"content\":\" all\"}}]}\n\n" STOP("A")
         DONE,
     .other = ROLE("B") TEXT("B", "He") TEXT("B", "llo you") TWO_LINES("B", " all") STOP("B") DONE},
    {.name = "a response that is spliced",
     .target = "/v1/responses",
     .mode = STREAM_SPLICE,
     .script = {{.status = 200,
                 .headers = SSE,
                 .pieces = {{0, CREATED("A") DELTA("1", "Hello"), 0}},
                 .end_ms = 5,
                 .end = TRANSPORT_TRUNCATED},
                {.status = 200,
                 .headers = SSE,
                 .pieces = {{0, CREATED("B") DELTA("1", "He") DELTA("2", "llo you"), 0},
                            {5, COMPLETED("3", "B"), 0}}}},
     .attempts = 2,
     .answer = CREATED("A") DELTA("1", "Hello") DELTA("2", " you") COMPLETED("3", "A"),
     .other = CREATED("B") DELTA("1", "He") DELTA("2", "llo you") COMPLETED("3", "B")},
    {.name = "a response that is read on",
     .target = "/v1/responses",
     .mode = STREAM_SPLICE,
     .body = "{\"stream\":true,\"background\":true}",
     .script = {{.status = 200,
                 .headers = SSE,
                 .pieces = {{0, CREATED("A") DELTA("1", "Hello"), 0}},
                 .end_ms = 5,
                 .end = TRANSPORT_TRUNCATED},
                {.status = 200,
                 .headers = SSE,
                 .pieces = {{0, CREATED("A") DELTA("1", "Hello") DELTA("2", " you"), 0},
                            {5, COMPLETED("3", "A"), 0}}}},
     .attempts = 2,
     .answer = CREATED("A") DELTA("1", "Hello") DELTA("2", " you") COMPLETED("3", "A")},
    {.name = "a chat that is held",
     .target = "/v1/chat/completions",
     .mode = STREAM_HOLD,
     .script = {{.status = 200,
                 .headers = SSE,
                 .pieces = {{0, ROLE("A") TEXT("A", "Hello"), 0}, {5, TWO_LINES("A", " y"), 0}},
                 .end = TRANSPORT_TRUNCATED},
                {.status = 200,
                 .headers = SSE,
                 .pieces = {{0, ROLE("B") TEXT("B", "Hi"), 0}, {5, STOP("B") DONE, 0}}}},
     .attempts = 2,
     .answer = ROLE("B") TEXT("B", "Hi") STOP("B") DONE},
    {.name = "a chat that is held for HTTP/1.0",
     .target = "/v1/chat/completions",
     .http_1_0 = true,
     .script = {{.status = 200,
                 .headers = SSE,
                 .pieces = {{0, ROLE("B") TEXT("B", "Hi"), 0}, {5, STOP("B") DONE, 0}}}},
     .attempts = 1,
     .answer = ROLE("B") TEXT("B", "Hi") STOP("B") DONE},
    {.name = "a chat that is warmed up",
     .target = "/v1/chat/completions",
     .mode = STREAM_HOLD,
     .heartbeat_ms = 100,
     .script = {{.end_ms = 250, .end = TRANSPORT_LOST, .detail = "lost"},
                {.status = 200,
                 .headers = SSE,
                 .pieces = {{150, ROLE("B") TEXT("B", "Hi"), 0}, {150, STOP("B") DONE, 0}}}},
     .attempts = 2,
     .answer = ROLE("B") TEXT("B", "Hi") STOP("B") DONE},
    {.name = "a chat that is warmed up, live, and breaks",
     .target = "/v1/chat/completions",
     .heartbeat_ms = 100,
     .script = {{.status = 200,
                 .headers = SSE,
                 .pieces = {{150, ROLE("B") TEXT("B", "Hi"), 0}, {150, TEXT("B", " you"), 0}},
                 .end = TRANSPORT_TRUNCATED}},
     .attempts = 1,
     .answer = ROLE("B") TEXT("B", "Hi") TEXT("B", " you")},
    {.name = "an error behind a heartbeat",
     .target = "/v1/chat/completions",
     .heartbeat_ms = 100,
     .script = {{.status = 400,
                 .headers_ms = 150,
                 .headers = JSON,
                 .pieces = {{0, "{\"error\":{\"message\":\"no\",\"code\":\"c\"}}", 0}}}},
     .attempts = 1},
    {.name = "a chat with data in two lines",
     .target = "/v1/chat/completions",
     .script = {{.status = 200,
                 .headers = SSE,
                 .pieces = {{0, ROLE("A") TEXT("A", "Hello"), 0},
                            {5, TWO_LINES("A", " you"), 0},
                            {5, STOP("A") DONE, 0}}}},
     .attempts = 1,
     .answer = ROLE("A") TEXT("A", "Hello") TWO_LINES("A", " you") STOP("A") DONE},
    {.name = "a chat that lacks its mark",
     .target = "/v1/chat/completions",
     .script = {{.status = 200,
                 .headers = SSE,
                 .pieces = {{0, ROLE("A") TEXT("A", "Hello"), 0}, {5, STOP("A") "dat", 0}},
                 .end = TRANSPORT_TRUNCATED}},
     .attempts = 1,
     .answer = ROLE("A") TEXT("A", "Hello") STOP("A") DONE},
    {.name = "response.failed",
     .target = "/v1/responses",
     .script = {{.status = 200,
                 .headers = SSE,
                 .pieces = {{0, CREATED("A") DELTA("1", "Hello"), 0},
                            {5,
                             EVENT("2", "response.failed",
                                   ",\"response\":{\"error\":{\"code\":\"c\"}}"),
                             0}}}},
     .attempts = 1,
     .answer = CREATED("A") DELTA("1", "Hello")
         EVENT("2", "response.failed", ",\"response\":{\"error\":{\"code\":\"c\"}}")},
};

static struct fake_world w;

static void run(const struct scenario *s)
{
    w.script = s->script;
    w.script_len = s->attempts;
    w.settings.retry.max_attempts = 3;
    w.limits.hold_limit = 5000;
    w.key = STR("k");
    w.idempotency_header = "Idempotency-Key";
    w.settings.stream.mode = s->mode;
    w.settings.stream.heartbeat_ms = s->heartbeat_ms;
    fake_begin(&w, "POST", s->target, s->headers,
               s->body ? s->body : "{\"model\":\"m\",\"stream\":true}");
    if (w.begin_rc != 0)
        return;
    w.x.request.http.http_1_0 = s->http_1_0;
    fake_run(&w);
}

/* One whole event of ours, whose JSON can be read; a response that began fails before it. */
static bool error_event(struct str event)
{
    static const struct str failed = {"event: response.failed\n", 23};
    const char *end = memmem(event.p, event.n, "}\n\n", 3);

    if (str_starts(event, failed) && end)
        event = (struct str){end + 3, event.n - (size_t)(end + 3 - event.p)};
    ptrdiff_t at = str_ifind(event, STR("data: {"));
    cJSON *json;
    bool ok;

    if (at < 0 || event.n < 8 || memcmp(event.p + event.n - 2, "\n\n", 2) != 0)
        return false;
    json = cJSON_ParseWithLength(event.p + at + 6, event.n - (size_t)at - 8);
    ok = cJSON_HasObjectItem(cJSON_GetObjectItem(json, "error"), "code");
    cJSON_Delete(json);
    return ok;
}

static bool own_error(struct str body)
{
    cJSON *json = cJSON_ParseWithLength(body.p, body.n);
    bool ok = cJSON_HasObjectItem(cJSON_GetObjectItem(json, "error"), "code");

    cJSON_Delete(json);
    return ok;
}

/* A beat may fall out where there is no memory for it: they are not counted. */
static struct str without_beats(struct str got)
{
    static const struct str beat = {": retryd\n", 9};
    size_t to = 0;

    for (size_t at = 0; at < got.n;) {
        if (str_starts((struct str){got.p + at, got.n - at}, beat))
            at += beat.n;
        else
            w.body.p[to++] = got.p[at++];
    }
    return (struct str){got.p, to};
}

/* The same for what came of a stream. */
static const char *unacceptable_stream(struct str got, struct str answer)
{
    size_t same = 0;

    while (same < got.n && same < answer.n && got.p[same] == answer.p[same])
        same++;
    if (w.got_end && w.x.end == END_ANSWERED)
        return same == answer.n && got.n == same ? NULL : "a stream that is not the upstream's";
    if (w.got_end) {
        while (same > 0 && (same < 2 || memcmp(got.p + same - 2, "\n\n", 2) != 0))
            same--; /* the error event may begin as the next one would have */
        return error_event((struct str){got.p + same, got.n - same}) ? NULL : "no error event";
    }
    return same == got.n ? NULL : "bytes that are not the upstream's";
}

/* NULL, or what the client must not see. */
static const char *unacceptable(const struct scenario *s)
{
    struct str got = without_beats(buf_str(&w.body)), answer = str_from(s->answer ? s->answer : "");
    const char *what;

    if (w.wrong)
        return w.wrong;
    if (w.stuck || w.x.state != EXCHANGE_DONE || w.ended != 1)
        return "it did not end";
    if (w.wholes + w.begins + w.cuts != 1)
        return "neither one answer nor one cut";
    if (w.cuts)
        return w.x.end == END_BROKEN ? NULL : "a cut counted as an answer";
    if (w.wholes && w.response.status < 400)
        return s->answer && str_eq(got, answer) ? NULL : "a wrong answer";
    if (w.wholes)
        return (s->error && str_eq(got, str_from(s->error))) || own_error(got) ? NULL
                                                                               : "a wrong error";
    what = unacceptable_stream(got, answer);
    return what && s->other ? unacceptable_stream(got, str_from(s->other)) : what;
}

/* How many allocations there are to fail. */
static size_t fail_each(const struct scenario *s, bool from)
{
    size_t n = 1;

    for (bool failed = true; failed; n++) {
        const char *what = NULL;

        fake_init(&w);
        /* The test's own memory is not what is tried here. */
        buf_reserve(&w.body, 64 * 1024);
        if (from)
            failmem_arm_from(n);
        else
            failmem_arm(n);
        run(s);
        failed = failmem_disarm();
        if (w.begin_rc == 0)
            what = unacceptable(s);
        ck_assert_msg(!what, "%s: allocation %zu%s: %s:\n%.*s", s->name, n,
                      from ? " and all after it" : "", what, (int)w.body.len,
                      w.body.len ? w.body.p : "");
        fake_deinit(&w);
    }
    return n - 2;
}

START_TEST(each_allocation_fails)
{
    size_t n = fail_each(&scenarios[_i], false);

    ck_assert_uint_ge(n, 5);
    ck_assert_uint_eq(fail_each(&scenarios[_i], true), n);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *c = unit_case(suite, "allocations");

    memset(large, 'x', sizeof(large) - 1);
    tcase_add_loop_test(c, each_allocation_fails, 0, COUNT(scenarios));
}
