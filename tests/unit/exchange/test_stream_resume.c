/* Responses that run in the background: their broken streams are resumed where they broke. */

#include <check.h>
#include <stdio.h>
#include <string.h>

#include "stream_text.h"
#include "unit.h"
#include "world_fixture.h"

#define EVENT(n, type, rest) \
    "event: " type "\ndata: {\"type\":\"" type "\",\"sequence_number\":" n rest "}\n\n"
#define CREATED EVENT("0", "response.created", ",\"response\":{\"id\":\"resp_1\"}")
#define IN_PROGRESS EVENT("1", "response.in_progress", ",\"response\":{\"id\":\"resp_1\"}")
#define DELTA(n, text) \
    EVENT(n, "response.output_text.delta", ",\"output_index\":0,\"delta\":\"" text "\"")
#define COMPLETED(n) EVENT(n, "response.completed", ",\"response\":{\"id\":\"resp_1\"}")
#define HEAD CREATED IN_PROGRESS
#define ANSWER HEAD DELTA("2", "Hello") DELTA("3", " you") COMPLETED("4")
#define BACKGROUND "{\"stream\":true,\"background\":true}"

static void run_request(const struct fake_attempt *script, unsigned n, enum stream_mode mode,
                        const char *method, const char *target, const char *body)
{
    world_follow(script, n);
    w.settings.stream.mode = mode;
    fake_begin(&w, method, target, "Content-Type: application/json\nX-A: b\n", body);
    world_finish();
}

/* A background response whose stream breaks behind `first`. */
static void run(const char *first, struct fake_attempt second, enum stream_mode mode)
{
    const struct fake_attempt script[] = {stream_attempt(first, TRANSPORT_TRUNCATED), second};

    run_request(script, 2, mode, "POST", "/v1/responses", BACKGROUND);
    w.script = NULL;
}

static void asked_for(const char *path)
{
    ck_assert_msg(str_eq(buf_str(&w.path), str_from(path)), "%.*s", (int)w.path.len, w.path.p);
    ck_assert(w.method_is_get);
    ck_assert(!w.with_body);
    ck_assert(!headers_get(&w.sent, STR("content-type"), NULL));
    ck_assert(headers_get(&w.sent, STR("x-a"), NULL));
}

static void answered(const char *text, unsigned starts)
{
    world_answered(text);
    ck_assert_uint_eq(w.starts, starts);
}

/* --- reading on ------------------------------------------------------------------------------------ */

START_TEST(it_is_read_on_where_it_broke)
{
    run(HEAD DELTA("2", "Hello") "event: resp",
        stream_attempt(DELTA("3", " you") COMPLETED("4"), TRANSPORT_WHOLE), (enum stream_mode)_i);
    if (_i == STREAM_LIVE) {
        ck_assert_uint_eq(w.starts, 1);
        world_told(HEAD DELTA("2", "Hello"), "answer_truncated", END_BROKEN);
        return;
    }
    answered(ANSWER, 2);
    asked_for("/v1/responses/resp_1?stream=true&starting_after=2");
    ck_assert_uint_eq(w.x.duplicates, 0);
    ck_assert_uint_eq(w.x.reply.events, 5);
}
END_TEST

/* Nothing of it is with the client, and yet it is not asked for again. */
START_TEST(before_its_content_too)
{
    run(HEAD,
        stream_attempt(DELTA("2", "Hello") DELTA("3", " you") COMPLETED("4"), TRANSPORT_WHOLE),
        (enum stream_mode)_i);
    answered(ANSWER, 2);
    asked_for("/v1/responses/resp_1?stream=true&starting_after=1");
}
END_TEST

START_TEST(again_and_again)
{
    const struct fake_attempt script[] = {
        stream_attempt(CREATED, TRANSPORT_TRUNCATED),
        stream_attempt("", TRANSPORT_WHOLE),
        {.end = TRANSPORT_CONNECT},
        {.status = 503, .headers = JSON, .pieces = {{0, "{\"error\":{\"code\":\"busy\"}}", 0}}},
        stream_attempt(IN_PROGRESS DELTA("2", "Hello") "data: {\"type\":", TRANSPORT_TRUNCATED),
        stream_attempt("data: {\"type\":\n\n" DELTA("3", " you"), TRANSPORT_WHOLE),
        stream_attempt(DELTA("3", " you"), TRANSPORT_WHOLE),
        stream_attempt(COMPLETED("4"), TRANSPORT_WHOLE)};

    w.settings.retry.max_attempts = 8;
    run_request(script, 8, _i == 0 ? STREAM_SPLICE : STREAM_HOLD, "POST", "/v1/responses",
                BACKGROUND);
    answered(ANSWER, 8);
    asked_for("/v1/responses/resp_1?stream=true&starting_after=3");
}
END_TEST

/* Not a repeat: nothing is paid for twice. */
START_TEST(without_repeats_too)
{
    w.settings.retry.retry_ambiguous = false;
    run(HEAD DELTA("2", "Hello"),
        stream_attempt(DELTA("3", " you") COMPLETED("4"), TRANSPORT_WHOLE),
        _i == 0 ? STREAM_SPLICE : STREAM_HOLD);
    answered(ANSWER, 2);
}
END_TEST

START_TEST(an_upstream_that_begins_anew)
{
    run(HEAD DELTA("2", "Hello"), stream_attempt(ANSWER, TRANSPORT_WHOLE), (enum stream_mode)_i);
    if (_i == STREAM_LIVE)
        world_told(HEAD DELTA("2", "Hello"), "answer_truncated", END_BROKEN);
    else
        answered(ANSWER, 2);
}
END_TEST

START_TEST(each_cut)
{
    static struct fake_attempt script[2];
    static const char answer[] = ANSWER;
    static const char *const events[] = {
        CREATED, IN_PROGRESS, DELTA("2", "Hello"), DELTA("3", " you"), COMPLETED("4"), NULL};
    struct stream_text t;

    stream_text_of(&t, events);
    for (size_t cut = t.ends[0]; cut < sizeof(answer) - 1; cut++) {
        size_t from = stream_text_whole(&t, cut);

        script[0] = (struct fake_attempt){.status = 200,
                                          .headers = SSE,
                                          .pieces = {{0, answer, cut}},
                                          .end_ms = 1,
                                          .end = cut % 2 ? TRANSPORT_TRUNCATED : TRANSPORT_WHOLE};
        script[1] = stream_attempt(answer + from, TRANSPORT_WHOLE);
        world_again();
        run_request(script, 2, _i == 0 ? STREAM_SPLICE : STREAM_HOLD, "POST", "/v1/responses",
                    BACKGROUND);
        world_answered(ANSWER);
    }
    stream_text_free(&t);
}
END_TEST

/* It was too long to be held whole, and its client has yet to take the part that went to a file. */
START_TEST(it_is_read_on_while_a_slow_client_has_yet_to_take_it)
{
#define PART DELTA("4", "a") DELTA("5", "b")
    static const struct fake_attempt script[] = {
        {.status = 200,
         .headers = SSE,
         .pieces = {{0, HEAD DELTA("2", "Hello"), 0}, {10, DELTA("3", " you"), 0}},
         .end_ms = 10,
         .end = TRANSPORT_TRUNCATED},
        {.status = 200, .headers = SSE, .pieces = {{0, PART, 0}, {10000, COMPLETED("6"), 0}}}};

    w.limits.hold_limit = 150;
    w.limits.max_body = sizeof(HEAD DELTA("2", "Hello"));
    w.client = (struct fake_client){.pull_max = 16, .every_ms = 100};
    run_request(script, 2, STREAM_HOLD, "POST", "/v1/responses", BACKGROUND);
    answered(HEAD DELTA("2", "Hello") DELTA("3", " you") PART COMPLETED("6"), 2);
#undef PART
}
END_TEST

/* --- requests --------------------------------------------------------------------------------------- */

START_TEST(what_is_asked_for)
{
    static const struct {
        const char *method, *target, *path;
    } rows[] = {
        {"POST", "/v1/responses?api-version=preview",
         "/v1/responses/resp_1?stream=true&starting_after=2&api-version=preview"},
        {"POST", "/v1/responses/", "/v1/responses/resp_1?stream=true&starting_after=2"},
        {"GET", "/v1/responses/resp_1?stream=true",
         "/v1/responses/resp_1?stream=true&starting_after=2"},
        {"GET", "/v1/responses/resp_1?include[]=a&stream=true&include[]=b&starting_after=0&x",
         "/v1/responses/resp_1?stream=true&starting_after=2&include[]=a&include[]=b&x"},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        const struct fake_attempt script[] = {
            stream_attempt(HEAD DELTA("2", "Hello"), TRANSPORT_TRUNCATED),
            stream_attempt(DELTA("3", " you") COMPLETED("4"), TRANSPORT_WHOLE)};
        world_again();
        run_request(script, 2, STREAM_SPLICE, rows[i].method, rows[i].target,
                    rows[i].method[0] == 'P' ? BACKGROUND : NULL);
        answered(ANSWER, 2);
        asked_for(rows[i].path);
    }
}
END_TEST

/* One that ends with its client, and one that cannot be named: made again. */
START_TEST(others_are_made_again)
{
    static const struct {
        const char *body, *first;
    } rows[] = {
        {"{\"stream\":true}", HEAD DELTA("2", "Hello")},
        {"{\"stream\":true,\"background\":false}", HEAD DELTA("2", "Hello")},
        {BACKGROUND, EVENT("0", "response.created", ",\"response\":{\"id\":\"a/b\"}")},
        {BACKGROUND, EVENT("0", "response.created", "")},
        {BACKGROUND, "data: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\"}}\n\n"},
        {BACKGROUND, ": c\n\n"},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        const struct fake_attempt script[] = {stream_attempt(rows[i].first, TRANSPORT_TRUNCATED),
                                              stream_attempt(ANSWER, TRANSPORT_WHOLE)};
        world_again();
        run_request(script, 2, STREAM_SPLICE, "POST", "/v1/responses", rows[i].body);
        answered(ANSWER, 2);
        ck_assert(!w.method_is_get && w.with_body);
        ck_assert(str_eq(buf_str(&w.path), STR("/v1/responses")));
    }
}
END_TEST

/* --- failures ----------------------------------------------------------------------------------------- */

START_TEST(a_response_that_is_gone)
{
    const struct fake_attempt gone = {
        .status = 404, .headers = JSON, .pieces = {{0, "{\"error\":{\"code\":\"gone\"}}", 0}}};

    run(HEAD DELTA("2", "Hello"), gone, STREAM_SPLICE);
    ck_assert_uint_eq(w.starts, 2);
    world_told(HEAD DELTA("2", "Hello"), "gone", END_BROKEN);
    world_again();
    run(HEAD DELTA("2", "Hello"), gone, STREAM_HOLD);
    ck_assert_uint_eq(w.response.status, 404);
    ck_assert(str_eq(buf_str(&w.body), STR("{\"error\":{\"code\":\"gone\"}}")));
}
END_TEST

/* The server does not send the rest of the stream: if the client has no part of it, the request is
 * repeated. */
START_TEST(it_cannot_be_read_on)
{
    static const char *const none[] = {"{\"id\":\"resp_1\",\"status\":\"in_progress\"}",
                                       "{\"error\":{\"message\":\"no such response\"}}"};
    const struct fake_attempt script[] = {
        stream_attempt(HEAD, TRANSPORT_TRUNCATED),
        {.status = _i == 0 ? 200 : 404,
         .headers = "Content-Type: application/json\n",
         .pieces = {{0, none[_i], 0}, {.text = NULL}}},
        stream_attempt(HEAD DELTA("2", "Hello") COMPLETED("3"), TRANSPORT_WHOLE)};

    run_request(script, 3, STREAM_HOLD, "POST", "/v1/responses", BACKGROUND);
    answered(HEAD DELTA("2", "Hello") COMPLETED("3"), 3);
    ck_assert(!w.method_is_get);
    world_again();
    w.settings.retry.max_attempts = 3;
    run_request((const struct fake_attempt[]){script[0], script[1], {.end = TRANSPORT_LOST}}, 3,
                STREAM_HOLD, "POST", "/v1/responses", BACKGROUND);
    ck_assert_int_eq(w.x.end, END_FAILED);
    ck_assert_uint_eq(w.response.status,
                      502); /* the 404 was about what the client never asked for */
}
END_TEST

START_TEST(attempts_are_counted)
{
    const struct fake_attempt script[] = {
        stream_attempt(HEAD DELTA("2", "Hello"), TRANSPORT_TRUNCATED),
        stream_attempt("", TRANSPORT_WHOLE)};

    w.settings.retry.max_attempts = 4;
    run_request(script, 2, STREAM_SPLICE, "POST", "/v1/responses", BACKGROUND);
    ck_assert_uint_eq(w.starts, 4);
    ck_assert_str_eq(w.x.cannot_retry, "all attempts are used up");
    world_told(HEAD DELTA("2", "Hello"), "answer_truncated", END_BROKEN);
}
END_TEST

START_TEST(it_failed_after_all)
{
#define FAILED(n)               \
    EVENT(n, "response.failed", \
          ",\"response\":{\"id\":\"resp_1\",\"error\":{\"code\":\"c\",\"message\":\"m\"}}")
    const struct fake_attempt script[] = {
        stream_attempt(HEAD DELTA("2", "Hello"), TRANSPORT_TRUNCATED),
        stream_attempt(FAILED("3"), TRANSPORT_WHOLE)};

    w.settings.retry.max_attempts = 2;
    run_request(script, 2, STREAM_SPLICE, "POST", "/v1/responses", BACKGROUND);
    world_told(HEAD DELTA("2", "Hello") FAILED("3"), "c", END_BROKEN);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *c = unit_case(suite, "background");

    tcase_add_checked_fixture(c, world_set_up, world_tear_down);
    tcase_add_loop_test(c, it_is_read_on_where_it_broke, 0, 3);
    tcase_add_loop_test(c, before_its_content_too, 0, 3);
    tcase_add_loop_test(c, again_and_again, 0, 2);
    tcase_add_loop_test(c, without_repeats_too, 0, 2);
    tcase_add_loop_test(c, an_upstream_that_begins_anew, 0, 3);
    tcase_add_loop_test(c, each_cut, 0, 2);
    tcase_add_test(c, it_is_read_on_while_a_slow_client_has_yet_to_take_it);
    tcase_add_test(c, what_is_asked_for);
    tcase_add_test(c, others_are_made_again);
    tcase_add_test(c, a_response_that_is_gone);
    tcase_add_loop_test(c, it_cannot_be_read_on, 0, 2);
    tcase_add_test(c, attempts_are_counted);
    tcase_add_test(c, it_failed_after_all);
}
