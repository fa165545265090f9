/* Gemini's own API: the meaning of its events, when its streams are complete, and how incomplete
 * ones end. */

#include <cJSON.h>
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "stream/error.h"
#include "stream/sse.h"
#include "unit.h"
#include "world_fixture.h"

#define STREAM "/v1/models/g-1:streamGenerateContent?alt=sse"
#define DATA(json) "data: " json "\r\n\r\n"
#define CANDIDATE(rest) \
    DATA("{\"candidates\":[{" rest "}],\"usageMetadata\":{\"totalTokenCount\":3}}")
#define PARTS(parts) "\"content\":{\"parts\":[" parts "],\"role\":\"model\"}"
#define TEXT(text) CANDIDATE(PARTS("{\"text\":\"" text "\"}") ",\"index\":0")
#define STOP CANDIDATE(PARTS("{\"text\":\"\"}") ",\"finishReason\":\"STOP\",\"index\":0")
#define LAST(text) CANDIDATE(PARTS("{\"text\":\"" text "\"}") ",\"finishReason\":\"STOP\"")
#define UNAVAILABLE \
    "{\"error\":{\"code\":503,\"message\":\"overloaded\",\"status\":\"UNAVAILABLE\"}}"

static struct guard guard;

static enum guard_kind see(const char *text, struct guard_seen *seen)
{
    struct str event = str_from(text);
    struct sse_reader r;

    sse_init(&r);
    ck_assert_uint_eq(sse_next(&r, event), event.n);
    guard_look(&guard, event, seen);
    return seen->kind;
}

static const struct {
    const char *event;
    enum guard_kind kind;
} events[] = {
    {TEXT("hi"), GUARD_CONTENT},
    {TEXT(""), GUARD_LIFECYCLE},
    {STOP, GUARD_CONTENT},
    {CANDIDATE("\"finishReason\":\"SAFETY\""), GUARD_CONTENT},
    {CANDIDATE("\"finishReason\":\"\""), GUARD_LIFECYCLE},
    {CANDIDATE("\"finishReason\":null"), GUARD_LIFECYCLE},
    {CANDIDATE("\"finishReason\":\"FINISH_REASON_UNSPECIFIED\""), GUARD_LIFECYCLE},
    {CANDIDATE(PARTS("{\"text\":\"hm\",\"thought\":true}")), GUARD_CONTENT},
    {CANDIDATE(PARTS("{\"text\":\"\",\"thoughtSignature\":\"AbC=\"}")), GUARD_LIFECYCLE},
    {CANDIDATE(PARTS("{\"functionCall\":{\"name\":\"f\",\"args\":{}}}")), GUARD_CONTENT},
    {CANDIDATE(PARTS("{\"inlineData\":{\"mimeType\":\"image/png\",\"data\":\"aa\"}}")),
     GUARD_CONTENT},
    {CANDIDATE("\"content\":{\"role\":\"model\"}"), GUARD_LIFECYCLE},
    {DATA("{\"usageMetadata\":{\"promptTokenCount\":3},\"modelVersion\":\"g-1\"}"),
     GUARD_LIFECYCLE},
    {DATA("{\"candidates\":[]}"), GUARD_LIFECYCLE},
    {DATA("{\"promptFeedback\":{\"blockReason\":\"SAFETY\"}}"), GUARD_END},
    {DATA("{\"promptFeedback\":{\"blockReason\":\"BLOCK_REASON_UNSPECIFIED\"}}"), GUARD_LIFECYCLE},
    {DATA("{\"promptFeedback\":{\"safetyRatings\":[]}}"), GUARD_LIFECYCLE},
    {DATA("{\"response\":{\"candidates\":[{" PARTS("{\"text\":\"a\"}") "}]},\"traceId\":\"t\"}"),
     GUARD_CONTENT},
    {DATA(UNAVAILABLE), GUARD_ERROR},
    {DATA("[" UNAVAILABLE "]"), GUARD_ERROR},
    {DATA("{\"candidates\":[{"), GUARD_MALFORMED},
    {": ping\n\n", GUARD_UNFIT},
    {"event: ping\n\n", GUARD_UNFIT},
};

START_TEST(each_event_has_its_kind)
{
    struct guard_seen seen;

    guard_init(&guard, DIALECT_GEMINI, 1, false);
    ck_assert_msg(see(events[_i].event, &seen) == events[_i].kind, "%s", events[_i].event);
    guard_deinit(&guard);
}
END_TEST

START_TEST(whole_with_a_reason_for_each_candidate)
{
    static const struct {
        const char *events[4];
        unsigned wanted;
        bool whole, whole_cut; /* where it ends in good order, and where it breaks */
    } rows[] = {
        {{TEXT("a")}, 1, false, false},
        {{TEXT("a"), STOP}, 1, true, true},
        {{TEXT("a"), CANDIDATE("\"index\":1,\"finishReason\":\"STOP\"")}, 2, false, false},
        {{STOP, CANDIDATE("\"index\":1,\"finishReason\":\"STOP\"")}, 2, true, true},
        {{TEXT("a"), STOP}, 2, true, false},
        {{DATA("{\"promptFeedback\":{\"blockReason\":\"OTHER\"}}")}, 1, true, true},
        /* Older models say so with each event: only the end tells. */
        {{LAST("a"), LAST("b"), LAST("c")}, 1, true, false},
        {{TEXT("a"), LAST("b")}, 1, true, true},
    };
    struct guard_seen seen;

    guard_init(&guard, DIALECT_GEMINI, rows[_i].wanted, false);
    for (unsigned i = 0; i < 4 && rows[_i].events[i]; i++)
        (void)see(rows[_i].events[i], &seen);
    ck_assert_int_eq(guard_whole(&guard, false), rows[_i].whole);
    ck_assert_int_eq(guard_whole(&guard, true), rows[_i].whole_cut);
    ck_assert(!guard_empty(&guard));
    guard_deinit(&guard);
}
END_TEST

/* Errors that Google's SDKs raise as they are: data without an event name, a number as the code. */
START_TEST(errors_that_are_raised)
{
    static const struct {
        const char *event;
        bool raised;
    } rows[] = {
        {DATA(UNAVAILABLE), true},
        {DATA("{\"error\":{\"code\":\"overloaded\",\"message\":\"m\"}}"), false},
        {"event: error\n" DATA(UNAVAILABLE), false},
        {DATA("{\"error\":\"it failed\"}"), false},
    };
    struct guard_seen seen;

    guard_init(&guard, DIALECT_GEMINI, 1, false);
    ck_assert_int_eq(see(rows[_i].event, &seen), GUARD_ERROR);
    ck_assert_int_eq(seen.raised, rows[_i].raised);
    guard_deinit(&guard);
}
END_TEST

static const cJSON *member(const cJSON *object, const char *name)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(object, name);

    ck_assert_msg(v != NULL, "no %s", name);
    return v;
}

/* One event with an error object of Google's, whatever was told. */
START_TEST(an_error_event_is_googles)
{
    static const struct {
        const char *object;
        int code;
        const char *message, *status;
    } rows[] = {
        {"{\"code\":429,\"message\":\"m\",\"status\":\"RESOURCE_EXHAUSTED\",\"details\":[]}", 429,
         "m", "RESOURCE_EXHAUSTED"},
        {"{\"message\":\"a \\\"b\\\"\",\"type\":\"server_error\",\"param\":null,\"code\":\"idle_timeout\"}",
         503, "a \"b\"", "UNAVAILABLE"},
        {"{\"message\":\"m\",\"type\":\"rate_limit_error\",\"code\":null}", 429, "m",
         "RESOURCE_EXHAUSTED"},
        {"{}", 503, "", "UNAVAILABLE"},
    };
    struct buf out;
    cJSON *json;
    const cJSON *error;

    buf_init(&out, 1 << 16);
    ck_assert_int_eq(error_event_write(&out, DIALECT_GEMINI, 0, str_from(rows[_i].object)), 0);
    ck_assert(str_starts(buf_str(&out), STR("data: {\"error\":")));
    json = cJSON_ParseWithLength(out.p + 6, out.len - 8);
    ck_assert_ptr_nonnull(json);
    error = member(json, "error");
    ck_assert_int_eq((int)cJSON_GetNumberValue(member(error, "code")), rows[_i].code);
    ck_assert_str_eq(cJSON_GetStringValue(member(error, "message")), rows[_i].message);
    ck_assert_str_eq(cJSON_GetStringValue(member(error, "status")), rows[_i].status);
    cJSON_Delete(json);
    buf_deinit(&out);
}
END_TEST

/* Statuses of Google's that say little: the words decide, and hold no key. */
START_TEST(what_googles_errors_mean)
{
    static const struct {
        const char *message, *status;
        unsigned code;
        enum apierror_kind kind;
    } rows[] = {
        {"API key not valid. Please pass a valid API key.", "INVALID_ARGUMENT", 400, APIERROR_KEY},
        {"API key expired. Please renew the API key.", "INVALID_ARGUMENT", 400, APIERROR_KEY},
        {"models/g-9 is not found for API version v1beta", "NOT_FOUND", 404, APIERROR_MODEL},
        {"Publisher Model `projects/p/models/g` was not found", "NOT_FOUND", 404, APIERROR_MODEL},
        {"The input token count (9) exceeds the maximum number of tokens allowed (8).",
         "INVALID_ARGUMENT", 400, APIERROR_CONTEXT},
        {"The model is overloaded. Please try again later.", "UNAVAILABLE", 503,
         APIERROR_OVERLOADED},
        {"Request contains an invalid argument.", "INVALID_ARGUMENT", 400, APIERROR_OTHER},
        {"Consumer 'api_key:AIza**' has been suspended.", "PERMISSION_DENIED", 403, APIERROR_OTHER},
    };
    struct apierror e;
    char body[400];

    snprintf(body, sizeof(body), "[{\"error\":{\"code\":%u,\"message\":\"%s\",\"status\":\"%s\"}}]",
             rows[_i].code, rows[_i].message, rows[_i].status);
    apierror_parse(str_from(body), &e);
    ck_assert_msg(e.kind == rows[_i].kind, "%s: %d", body, e.kind);
    ck_assert_uint_eq(e.status, rows[_i].code);
    apierror_parse(STR("{\"error\":{\"code\":403,\"message\":\"Consumer 'api_key:AIzaSy-1_x'.\"}}"),
                   &e);
    ck_assert_str_eq(e.message, "Consumer 'api_key:**********'.");
}
END_TEST

/* --- whole exchanges -------------------------------------------------------------------------- */

static const struct fake_attempt good = {
    .status = 200, .headers = SSE, .pieces = {{0, TEXT("a"), 0}, {1, TEXT("b") STOP, 0}}};
static const struct fake_attempt cut = {.status = 200,
                                        .headers = SSE,
                                        .pieces = {{0, TEXT("a"), 0}, {.text = NULL}},
                                        .end_ms = 1,
                                        .end = TRANSPORT_TRUNCATED};

static void run(struct fake_attempt first, enum stream_mode mode)
{
    const struct fake_attempt script[] = {first, good};

    world_follow(script, 2);
    w.settings.stream.mode = mode;
    fake_begin(&w, "POST", STREAM, NULL, "{}");
    world_finish();
    w.script = NULL;
}

/* After a part of the response an event and a break follow: not every SDK raises the event. */
START_TEST(a_break_is_told_and_is_one)
{
    static const char told[] = "data: {\"error\":{\"code\":503,\"message\":\"retryd: ";

    run(cut, (enum stream_mode)_i);
    if (_i == STREAM_HOLD) {
        world_answered(TEXT("a") TEXT("b") STOP);
        ck_assert_uint_eq(w.starts, 2);
        return;
    }
    ck_assert_int_eq(w.x.end, END_BROKEN);
    ck_assert(w.got_cut);
    ck_assert(str_starts(buf_str(&w.body), STR(TEXT("a"))));
    ck_assert_int_eq(str_ifind(buf_str(&w.body), str_from(told)), strlen(TEXT("a")));
    ck_assert_uint_eq(w.starts, 1);
}
END_TEST

/* An order without a reason is no end; a reason makes a cut behind it harmless, and adds
 * nothing. */
START_TEST(where_a_stream_ends)
{
    struct fake_attempt clean = cut, finished = cut;

    clean.end = TRANSPORT_WHOLE;
    run(clean, STREAM_HOLD);
    world_answered(TEXT("a") TEXT("b") STOP);
    world_again();
    finished.pieces[1] = (struct fake_piece){1, STOP, 0};
    run(finished, STREAM_LIVE);
    world_answered(TEXT("a") STOP);
    ck_assert_uint_eq(w.starts, 1);
}
END_TEST

START_TEST(a_refused_prompt_is_a_response)
{
    static const char blocked[] = DATA("{\"promptFeedback\":{\"blockReason\":\"SAFETY\"}}");

    run((struct fake_attempt){.status = 200, .headers = SSE, .pieces = {{0, blocked, 0}}},
        (enum stream_mode)_i);
    world_answered(blocked);
    ck_assert_uint_eq(w.starts, 1);
}
END_TEST

/* Google's SDKs cannot read comments: there is no heartbeat, and an upstream's stay away. */
START_TEST(no_comments)
{
    struct fake_attempt slow = good;

    slow.headers_ms = 500;
    slow.pieces[0].text = ": hello\n\n" TEXT("a");
    w.settings.stream.heartbeat_ms = 100;
    run(slow, (enum stream_mode)_i);
    world_answered(TEXT("a") TEXT("b") STOP);
}
END_TEST

START_TEST(an_error_first_is_made_again)
{
    struct fake_attempt error = cut;

    error.pieces[0].text = DATA(UNAVAILABLE);
    run(error, STREAM_LIVE);
    world_answered(TEXT("a") TEXT("b") STOP);
    ck_assert_uint_eq(w.starts, 2);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *c = unit_case(suite, "events");

    tcase_add_loop_test(c, each_event_has_its_kind, 0, COUNT(events));
    tcase_add_loop_test(c, whole_with_a_reason_for_each_candidate, 0, 6);
    tcase_add_loop_test(c, errors_that_are_raised, 0, 4);
    tcase_add_loop_test(c, an_error_event_is_googles, 0, 4);
    tcase_add_loop_test(c, what_googles_errors_mean, 0, 8);
    c = unit_case(suite, "streams");
    tcase_add_checked_fixture(c, world_set_up, world_tear_down);
    tcase_add_loop_test(c, a_break_is_told_and_is_one, 0, 3);
    tcase_add_test(c, where_a_stream_ends);
    tcase_add_loop_test(c, a_refused_prompt_is_a_response, 0, 3);
    tcase_add_loop_test(c, no_comments, 0, 3);
    tcase_add_test(c, an_error_first_is_made_again);
}
