/* A client's own retry of a request that has just failed here gets one attempt (C8), in virtual
 * time. */

#include <check.h>
#include <stdio.h>
#include <string.h>

#include "exchange/exchange.h"
#include "unit.h"
#include "world_fixture.h"

#define WINDOW 60000

static const struct fake_attempt fine = {
    .status = 200, .headers = JSON, .pieces = {{0, "{\"id\":1}", 0}}};
static const struct fake_attempt down = {
    .status = 503, .headers = JSON, .pieces = {{0, "{\"error\":{\"message\":\"later\"}}", 0}}};
static const struct fake_attempt wrong_request = {
    .status = 400, .headers = JSON, .pieces = {{0, "{\"error\":{\"message\":\"no\"}}", 0}}};
static const struct fake_attempt lost = {.end = TRANSPORT_LOST, .detail = "lost"};
static const struct fake_attempt cut_stream = {
    .status = 200,
    .headers = SSE,
    .pieces = {{0, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n", 0}},
    .end_ms = 100,
    .end = TRANSPORT_TRUNCATED};

static struct failures *failures;
static uint64_t now_ms; /* of all the requests of a test */

static void set_up(void)
{
    failures = failures_new();
    ck_assert_ptr_nonnull(failures);
    now_ms = 1000;
    world_set_up();
}

static void tear_down(void)
{
    world_tear_down();
    failures_free(failures);
}

struct ask {
    const char *method, *target, *headers, *body;
};
static const struct ask chat = {"POST", "/v1/chat/completions", "Authorization: Bearer sk-1\n",
                                "{\"model\":\"gpt-x\"}"};

/* Sends a request once more, in a world that has only the memory of failures and the time in common
 * with the last one. */
static void ask(const struct ask *a, const struct fake_attempt *script)
{
    world_again();
    w.settings.retry.repeat_window_ms = WINDOW;
    w.shared_failures = failures;
    w.now_ms = now_ms;
    world_follow(script, 1);
    fake_begin(&w, a->method, a->target, a->headers, a->body);
    world_finish();
    now_ms = w.now_ms;
}

START_TEST(a_repeat_gets_one_attempt)
{
    ask(&chat, &down);
    ck_assert_uint_eq(w.x.attempts, 5);
    ck_assert(!w.x.repeat);
    for (int again = 0; again < 24; again++) {
        uint64_t began = now_ms += WINDOW - 1; /* from each failure on */

        ask(&chat, &down);
        ck_assert_uint_eq(w.x.attempts, 1);
        ck_assert(w.x.repeat);
        ck_assert_uint_eq(now_ms, began); /* no backoff of ours */
        ck_assert_uint_eq(w.response.status, 503);
        ck_assert(world_body_is("{\"error\":{\"message\":\"later\"}}"));
        ck_assert_str_eq(w.x.cannot_retry,
                         "the client repeats a request that has just failed here");
    }
}
END_TEST

START_TEST(after_the_window_it_is_a_new_request)
{
    ask(&chat, &down);
    now_ms += WINDOW;
    ask(&chat, &down);
    ck_assert_uint_eq(w.x.attempts, 5);
}
END_TEST

START_TEST(a_good_response_ends_it)
{
    ask(&chat, &down);
    ask(&chat, &fine);
    ck_assert_uint_eq(w.x.attempts, 1);
    ck_assert_int_eq(w.x.end, END_ANSWERED);
    ask(&chat, &down);
    ck_assert_uint_eq(w.x.attempts, 5);
}
END_TEST

static const struct ask others[] = {
    {"PUT", "/v1/chat/completions", "Authorization: Bearer sk-1\n", "{\"model\":\"gpt-x\"}"},
    {"POST", "/v1/chat/completions?a", "Authorization: Bearer sk-1\n", "{\"model\":\"gpt-x\"}"},
    {"POST", "/v1/completions", "Authorization: Bearer sk-1\n", "{\"model\":\"gpt-x\"}"},
    {"POST", "/v1/chat/completions", "Authorization: Bearer sk-2\n", "{\"model\":\"gpt-x\"}"},
    {"POST", "/v1/chat/completions", "x-api-key: sk-1\n", "{\"model\":\"gpt-y\"}"},
    {"POST", "/v1/chat/completions", NULL, "{\"model\":\"gpt-x\"}"},
    {"POST", "/v1/chat/completions", "Authorization: Bearer sk-1\n", "{\"model\":\"gpt-x\"}x"},
    {"POST", "/v1/chat/completions", "Authorization: Bearer sk-1\n",
     "{\"model\":\"gpt-x\",\"n\":1}"},
    {"POST", "/v1/chat/completions", "Authorization: Bearer sk-1\n", ""},
};

START_TEST(another_request_is_no_repeat)
{
    ask(&chat, &down);
    ask(&others[_i], &down);
    ck_assert_uint_eq(w.x.attempts, 5);
    ask(&chat, &down);
    ck_assert_uint_eq(w.x.attempts, 1);
}
END_TEST

/* Headers that differ between one client's attempts do not count. */
START_TEST(other_headers_make_no_difference)
{
    struct ask counted = chat;

    ask(&chat, &down);
    counted.headers = "Authorization: Bearer sk-1\nx-stainless-retry-count: 1\nx-turn: 2\n";
    ask(&counted, &down);
    ck_assert_uint_eq(w.x.attempts, 1);
}
END_TEST

/* Hash maps are written in another order each time. */
START_TEST(another_order_of_members_makes_no_difference)
{
    struct ask before = chat, after = chat;

    before.body = "{\"model\":\"gpt-x\",\"tools\":[{\"a\":1,\"b\":{\"c\":2,\"d\":3}},4]}";
    after.body = "{\"tools\": [{\"b\": {\"d\": 3, \"c\": 2}, \"a\": 1}, 4], \"model\": \"gpt-x\"}";
    ask(&before, &down);
    ask(&after, &down);
    ck_assert_uint_eq(w.x.attempts, 1);
    after.body = "{\"tools\": [4, {\"b\": {\"d\": 3, \"c\": 2}, \"a\": 1}], \"model\": \"gpt-x\"}";
    ask(&after, &down);
    ck_assert_uint_eq(w.x.attempts, 5);
}
END_TEST

/* Each byte of a body that is not JSON counts. */
START_TEST(other_bodies_are_their_bytes)
{
    struct ask before = chat, after = chat;

    before.body = "{\"a\":1, \"b\":2";
    after.body = "{\"b\":2, \"a\":1";
    ask(&before, &down);
    ask(&after, &down);
    ck_assert_uint_eq(w.x.attempts, 5);
    ask(&before, &down);
    ck_assert_uint_eq(w.x.attempts, 1);
}
END_TEST

static void long_body(struct ask *a, char *text, size_t n)
{
    memset(text, 'x', n - 1);
    text[n - 1] = '\0';
    a->body = text;
}

START_TEST(a_body_in_a_spool_is_known_again)
{
    static char text[600 * 1024];
    struct ask upload = {"POST", "/v1/files", "", NULL};

    long_body(&upload, text, sizeof(text));
    for (int again = 0; again < 3; again++) {
        world_again();
        w.settings.retry.repeat_window_ms = WINDOW;
        w.shared_failures = failures;
        w.limits.memory_body = again == 1 ? sizeof(text) : 64 * 1024; /* once in memory */
        w.now_ms = now_ms;
        world_follow(&down, 1);
        fake_begin(&w, upload.method, upload.target, upload.headers, upload.body);
        world_finish();
        now_ms = w.now_ms;
        ck_assert_uint_eq(w.x.attempts, again ? 1 : 5);
    }
    text[100] = 'y';
    ask(&upload, &down);
    ck_assert_uint_eq(w.x.attempts, 5);
}
END_TEST

/* Kept in memory or not, in one order or the other. */
START_TEST(an_object_in_a_spool_is_known_again)
{
    enum { LONG = 590 * 1024 };
    static char text[LONG + 100];
    static const struct {
        const char *head, *tail;
        size_t memory;
    } turns[] = {{"{\"a\":1,\"b\":\"", "\",\"c\":{\"d\":1,\"e\":2}}", 64 * 1024},
                 {"{\"c\":{\"e\":2,\"d\":1},\"b\":\"", "\",\"a\":1}     ", sizeof(text)},
                 {"{\"c\":{\"e\":2,\"d\":1},\"b\":\"", "\",\"a\":1}     ", 64 * 1024},
                 {"{\"c\":{\"e\":2,\"d\":1},\"b\":\"", "\",\"a\":3}     ", 64 * 1024},
                 {"{\"c\":{\"e\":2,\"d\":1},\"b\":\"", "\",\"a\":1]     ", 64 * 1024}};
    static const unsigned attempts[] = {5, 1, 1, 5, 5};

    for (size_t i = 0; i < COUNT(turns); i++) {
        size_t head = strlen(turns[i].head), tail = strlen(turns[i].tail) + 1;

        memcpy(text, turns[i].head, head);
        memset(text + head, 'x', LONG);
        memcpy(text + head + LONG, turns[i].tail, tail);
        world_again();
        w.settings.retry.repeat_window_ms = WINDOW;
        w.shared_failures = failures;
        w.limits.memory_body = turns[i].memory;
        w.now_ms = now_ms;
        world_follow(&down, 1);
        fake_begin(&w, "POST", "/v1/responses", "", text);
        world_finish();
        now_ms = w.now_ms;
        ck_assert_uint_eq(w.x.attempts, attempts[i]);
        ck_assert(body_in_memory(&w.x.request.body) == (turns[i].memory == sizeof(text)));
    }
}
END_TEST

START_TEST(what_nobody_repeats_is_not_remembered)
{
    ask(&chat, &wrong_request);
    ck_assert_uint_eq(w.x.attempts, 1);
    ck_assert(!failures_any(failures, now_ms));
    ask(&chat, &fine);
    ck_assert(!failures_any(failures, now_ms));
}
END_TEST

START_TEST(a_client_that_left_has_not_failed)
{
    world_again();
    w.settings.retry.repeat_window_ms = WINDOW;
    w.shared_failures = failures;
    w.client.leaves_at = 1500;
    world_follow(&down, 1);
    fake_begin_chat(&w, false);
    world_finish();
    ck_assert_int_eq(w.x.end, END_CLIENT_GONE);
    ck_assert(!failures_any(failures, 0));
}
END_TEST

START_TEST(what_may_come_again_has_not_failed)
{
    world_again();
    w.settings.retry.repeat_window_ms = WINDOW;
    w.shared_failures = failures;
    world_follow(&down, 1);
    fake_begin_chat(&w, false);
    fake_run_until(&w, 500);
    exchange_abort(&w.x);
    exchange_step(&w.x);
    ck_assert_int_eq(w.x.end, END_FAILED);
    ck_assert(!failures_any(failures, 0));
}
END_TEST

START_TEST(failures_without_a_response_count)
{
    ask(&chat, &lost);
    ck_assert_uint_eq(w.x.attempts, 5);
    ask(&chat, &lost);
    ck_assert_uint_eq(w.x.attempts, 1);
    ck_assert_uint_eq(w.response.status, 502);
}
END_TEST

START_TEST(a_stream_that_broke_counts)
{
    struct ask streaming = chat;

    streaming.body = "{\"model\":\"gpt-x\",\"stream\":true}";
    ask(&streaming, &cut_stream);
    ck_assert_int_eq(w.x.end, END_BROKEN);
    ask(&streaming, &down);
    ck_assert_uint_eq(w.x.attempts, 1);
    ck_assert(w.x.repeat);
}
END_TEST

START_TEST(it_can_be_off)
{
    for (int again = 0; again < 2; again++) {
        world_again();
        w.shared_failures = failures;
        world_follow(&down, 1);
        fake_begin_chat(&w, false);
        world_finish();
        ck_assert_uint_eq(w.x.attempts, 5);
    }
    ck_assert(!failures_any(failures, 0));
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "repeats");

    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, a_repeat_gets_one_attempt);
    tcase_add_test(tcase, after_the_window_it_is_a_new_request);
    tcase_add_test(tcase, a_good_response_ends_it);
    tcase_add_loop_test(tcase, another_request_is_no_repeat, 0, COUNT(others));
    tcase_add_test(tcase, other_headers_make_no_difference);
    tcase_add_test(tcase, another_order_of_members_makes_no_difference);
    tcase_add_test(tcase, other_bodies_are_their_bytes);
    tcase_add_test(tcase, a_body_in_a_spool_is_known_again);
    tcase_add_test(tcase, an_object_in_a_spool_is_known_again);
    tcase_add_test(tcase, what_nobody_repeats_is_not_remembered);
    tcase_add_test(tcase, a_client_that_left_has_not_failed);
    tcase_add_test(tcase, what_may_come_again_has_not_failed);
    tcase_add_test(tcase, failures_without_a_response_count);
    tcase_add_test(tcase, a_stream_that_broke_counts);
    tcase_add_test(tcase, it_can_be_off);
}
