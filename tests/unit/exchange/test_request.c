/* Requests: what is read from them, and what goes upstream. */

#include "exchange/request.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "failmem.h"
#include "fake_world.h"
#include "unit.h"

static struct request r;
static char problem[200];

static void set_up(void)
{
    request_init(&r, 1000, 0x0123456789abcdef, 0xfedcba9876543210);
}

static void tear_down(void)
{
    request_deinit(&r);
}

static void again(void)
{
    tear_down();
    set_up();
}

static void fill(const char *to, const char *headers, const char *body)
{
    ck_assert_int_eq(http_request_text(&r.http.method, "POST"), 0);
    ck_assert_int_eq(http_request_text(&r.http.target, to), 0);
    ck_assert_int_eq(fake_add_headers(&r.http.headers, headers), 0);
    ck_assert_int_eq(body_append(&r.body, body, strlen(body)), strlen(body));
    body_finish(&r.body);
    ck_assert_int_eq(body_go_on(&r.body), 0);
}

START_TEST(ids_are_uuids_of_version_4)
{
    ck_assert_str_eq(r.id, "01234567-89ab-4def-bedc-ba9876543210");
    request_deinit(&r);
    request_init(&r, 1000, UINT64_MAX, UINT64_MAX);
    ck_assert_str_eq(r.id, "ffffffff-ffff-4fff-bfff-ffffffffffff");
    request_deinit(&r);
    request_init(&r, 1000, 0, 0);
    ck_assert_str_eq(r.id, "00000000-0000-4000-8000-000000000000");
}
END_TEST

START_TEST(model_and_stream)
{
    static const struct {
        const char *body, *model;
        bool stream; /* may come */
    } rows[] = {
        {"{\"model\":\"gpt-4o\",\"stream\":true}", "gpt-4o", true},
        {" \r\n{ \"stream\" : true , \"x\":{\"model\":\"inner\"}, \"model\" : \"m\\u00e4\" }",
         "m\xc3\xa4", true},
        {"{\"model\":\"a\",\"stream\":false}", "a", false},
        {"{\"model\":\"a\",\"stream\":\"true\"}", "a", false},
        {"{\"model\":7}", "", false},
        {"[{\"model\":\"a\"}]", "", true}, /* nothing is known of it */
        {"", "", false},
        {"--boundary\r\nname=\"model\"\r\n", "", true},
        {"{\"model\":\"a\"", "a", false},
        {"{\"messages\":[{\"content\":\"\\\"model\\\":\\\"x\\\"\"}],\"model\":\"b\"}", "b", false},
    };

    fill("/v1/x", NULL, rows[_i].body);
    ck_assert_int_eq(request_read(&r, problem, sizeof(problem)), 0);
    ck_assert_str_eq(r.model, rows[_i].model);
    ck_assert_int_eq(r.may_stream, rows[_i].stream);
}
END_TEST

START_TEST(a_query_can_ask_for_a_stream)
{
    static const char *const targets[] = {"/v1/responses/r1", "/v1/responses/r1?stream=false",
                                          "/v1/responses/r1?a=1&stream=true&starting_after=4"};

    for (size_t i = 0; i < COUNT(targets); i++) {
        again();
        fill(targets[i], NULL, "");
        ck_assert_int_eq(request_read(&r, problem, sizeof(problem)), 0);
        ck_assert_int_eq(r.may_stream, i == 2);
    }
}
END_TEST

/* Google's APIs: the path's model counts, and only events are a stream here. */
START_TEST(a_path_can_name_the_model_and_ask_for_a_stream)
{
    static const struct {
        const char *target, *body, *model;
        size_t at, n;
        unsigned choices;
        bool stream, resource;
    } rows[] = {
        {"/v1beta/models/g-1:streamGenerateContent?alt=sse", "{}", "g-1", 15, 3, 1, true, false},
        {"/v1beta/models/g-1:streamGenerateContent?key=k&alt=SSE", "{\"model\":\"x\"}", "g-1", 15,
         3, 1, true, false},
        {"/v1beta/models/g-1:streamGenerateContent", "{}", "g-1", 15, 3, 1, false, false},
        {"/v1beta/models/a%2fb:embedContent", "{\"model\":\"models/a\"}", "a/b", 15, 5, 1, false,
         true},
        {"/v1beta/models/a%2:generateContent", "{}", "", 0, 0, 1, false, false},
        {"/v1beta/models/a%00b:generateContent", "{}", "", 0, 0, 1, false, false},
        {"/v1beta/models/g-1:streamGenerateContent?alt=sse",
         "{\"generationConfig\":{\"candidateCount\":3},\"n\":7}", "g-1", 15, 3, 3, true, false},
        {"/v1internal:streamGenerateContent?alt=sse", "{\"model\":\"g-2\"}", "g-2", 0, 0, 1, true,
         false},
    };

    fill(rows[_i].target, NULL, rows[_i].body);
    ck_assert_int_eq(request_read(&r, problem, sizeof(problem)), 0);
    ck_assert_str_eq(r.model, rows[_i].model);
    ck_assert_uint_eq(r.path_model_at, rows[_i].at);
    ck_assert_uint_eq(r.path_model_n, rows[_i].n);
    ck_assert_uint_eq(r.choices, rows[_i].choices);
    ck_assert_int_eq(r.stream, rows[_i].stream);
    ck_assert_int_eq(r.may_stream, rows[_i].stream);
    ck_assert_int_eq(r.names_resource, rows[_i].resource);
}
END_TEST

START_TEST(a_model_too_long_is_cut_or_left_out)
{
    char body[600] = "{\"model\":\"";

    memset(body + 10, 'm', 500);
    memcpy(body + 510, "\"}", 3);
    fill("/v1/x", NULL, body);
    ck_assert_int_eq(request_read(&r, problem, sizeof(problem)), 0);
    ck_assert_uint_lt(strlen(r.model), MODEL_MAX);
}
END_TEST

START_TEST(overrides)
{
    static const struct {
        const char *headers;
        struct request_overrides want;
        unsigned sdk_retry;
    } rows[] = {
        {"", {0, 0, false, false, STREAM_LIVE}, 0},
        {"x-retryd-max-attempts: 1\n", {1, 0, false, false, STREAM_LIVE}, 0},
        {"X-Retryd-Max-Attempts: 100\n", {100, 0, false, false, STREAM_LIVE}, 0},
        {"x-retryd-deadline: 2.5\n", {0, 2500, false, false, STREAM_LIVE}, 0},
        {"x-retryd-deadline: 30s\n", {0, 30000, false, false, STREAM_LIVE}, 0},
        {"x-retryd-deadline: 1500ms\n", {0, 1500, false, false, STREAM_LIVE}, 0},
        {"x-retryd-deadline: 0.001\n", {0, 1, false, false, STREAM_LIVE}, 0},
        {"x-retryd-no-retry: true\nx-retryd-stream-mode: LIVE\n",
         {0, 0, true, true, STREAM_LIVE},
         0},
        {"x-retryd-stream-mode: splice\n", {0, 0, false, true, STREAM_SPLICE}, 0},
        {"x-retryd-stream-mode: Hold\n", {0, 0, false, true, STREAM_HOLD}, 0},
        {"x-retryd-no-retry: no\n", {0, 0, false, false, STREAM_LIVE}, 0},
        {"x-stainless-retry-count: 2\n", {0, 0, false, false, STREAM_LIVE}, 2},
        {"x-stainless-retry-count: 99999999999\n", {0, 0, false, false, STREAM_LIVE}, 1000},
        {"x-stainless-retry-count: two\n", {0, 0, false, false, STREAM_LIVE}, 0},
    };

    fill("/v1/x", rows[_i].headers, "{}");
    ck_assert_int_eq(request_read(&r, problem, sizeof(problem)), 0);
    ck_assert_uint_eq(r.overrides.max_attempts, rows[_i].want.max_attempts);
    ck_assert_uint_eq(r.overrides.deadline_ms, rows[_i].want.deadline_ms);
    ck_assert_int_eq(r.overrides.no_retry, rows[_i].want.no_retry);
    ck_assert_int_eq(r.overrides.has_stream_mode, rows[_i].want.has_stream_mode);
    ck_assert_int_eq(r.overrides.stream_mode, rows[_i].want.stream_mode);
    ck_assert_uint_eq(r.sdk_retry, rows[_i].sdk_retry);
}
END_TEST

START_TEST(bad_overrides_are_named)
{
    static const struct {
        const char *headers, *problem;
    } rows[] = {
        {"x-retryd-max-attempts: 0\n",
         "retryd: header x-retryd-max-attempts: found \"0\"; expected a number from 1 to 100"},
        {"x-retryd-max-attempts: 101\n",
         "retryd: header x-retryd-max-attempts: found \"101\"; expected a number from 1 to 100"},
        {"x-retryd-max-attempts: -1\n",
         "retryd: header x-retryd-max-attempts: found \"-1\"; expected a number from 1 to 100"},
        {"x-retryd-deadline: 0\n",
         "retryd: header x-retryd-deadline: found \"0\"; expected seconds such as "
         "2.5, or a duration such as 1500ms or 30s"},
        {"x-retryd-deadline: soon\n",
         "retryd: header x-retryd-deadline: found \"soon\"; expected seconds such as "
         "2.5, or a duration such as 1500ms or 30s"},
        {"x-retryd-no-retry: maybe\n",
         "retryd: header x-retryd-no-retry: found \"maybe\"; expected yes or no"},
        {"x-retryd-no-retry:\n",
         "retryd: header x-retryd-no-retry: found \"\"; expected yes or no"},
        {"x-retryd-stream-mode: fast\n",
         "retryd: header x-retryd-stream-mode: found \"fast\"; expected live, splice or hold"},
        {"x-retryd-no-retry: 0123456789012345678901234567890123456789toolong\n",
         "retryd: header x-retryd-no-retry: found \"0123456789012345678901234567890123456789\"; "
         "expected yes or no"},
    };

    fill("/v1/x", rows[_i].headers, "{}");
    ck_assert_int_eq(request_read(&r, problem, sizeof(problem)), -EINVAL);
    ck_assert_str_eq(problem, rows[_i].problem);
}
END_TEST

START_TEST(bodies_are_capped)
{
    static const char k[1000] = "";

    ck_assert_int_eq(body_append(&r.body, k, 1000), 1000);
    ck_assert_int_eq(body_append(&r.body, k, 1), -EFBIG);
}
END_TEST

/* --- heads ----------------------------------------------------------------------------------------- */

START_TEST(path_and_query)
{
    static const struct {
        const char *target, *path, *query;
    } rows[] = {{"/a", "/a", ""},
                {"/a?", "/a", ""},
                {"/a?b?c", "/a", "b?c"},
                {"", "", ""},
                {"?x", "", "x"}};

    for (size_t i = 0; i < COUNT(rows); i++) {
        ck_assert_int_eq(http_request_text(&r.http.target, rows[i].target), 0);
        ck_assert(str_eq(http_request_path(&r.http), str_from(rows[i].path)));
        ck_assert(str_eq(http_request_query(&r.http), str_from(rows[i].query)));
        ck_assert_str_eq(r.http.target.p, rows[i].target);
    }
}
END_TEST

START_TEST(methods_and_targets_are_capped)
{
    size_t n = (size_t)64 * 1024;
    char *longest = malloc(n + 1);

    ck_assert_ptr_nonnull(longest);
    memset(longest, 'a', n);
    longest[n] = '\0';
    ck_assert_int_eq(http_request_text(&r.http.target, longest), -EFBIG);
    ck_assert(r.http.target.failed);
    ck_assert_int_eq(http_request_text(&r.http.target, longest + 1), 0);
    ck_assert_uint_eq(r.http.target.len, n - 1);
    free(longest);
    ck_assert_int_eq(http_request_text(&r.http.method, "PATCH"), 0);
    ck_assert(http_request_is(&r.http, "PATCH") && !http_request_is(&r.http, "patch"));
}
END_TEST

START_TEST(an_attempt_is_reset_for_the_next)
{
    static const char piece[1000] = "";
    struct attempt a;

    attempt_init(&a);
    for (int i = 0; i < 100; i++)
        ck_assert_int_eq(buf_add(&a.body, piece, sizeof(piece)), 0);
    ck_assert_int_eq(headers_add(&a.headers, STR("A"), STR("1")), 0);
    a.headers_done = a.done = a.paused = a.fresh = a.anew = a.upload_whole = a.running = true;
    a.connection.serial = 7;
    a.body.failed = true;
    a.status = 500;
    a.transport = TRANSPORT_LOST;
    a.received = 5;
    snprintf(a.detail, sizeof(a.detail), "x");
    attempt_reset(&a);
    ck_assert(!a.headers_done && !a.done && !a.paused && !a.fresh && !a.upload_whole && !a.running);
    ck_assert(!a.anew && a.connection.serial == 0);
    ck_assert(!a.body.failed);
    ck_assert_uint_eq(a.body.len + a.body.size + a.headers.count + a.status + a.received, 0);
    ck_assert_int_eq(a.transport, TRANSPORT_WHOLE);
    ck_assert_str_eq(a.detail, "");
    ck_assert_int_eq(buf_add(&a.body, piece, sizeof(piece)), 0);
    attempt_reset(&a);
    ck_assert_uint_ge(a.body.size, sizeof(piece)); /* small memory is kept */
    attempt_deinit(&a);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *c = unit_case(suite, "request");

    tcase_add_checked_fixture(c, set_up, tear_down);
    tcase_add_test(c, ids_are_uuids_of_version_4);
    tcase_add_loop_test(c, model_and_stream, 0, 10);
    tcase_add_test(c, a_query_can_ask_for_a_stream);
    tcase_add_loop_test(c, a_path_can_name_the_model_and_ask_for_a_stream, 0, 8);
    tcase_add_test(c, a_model_too_long_is_cut_or_left_out);
    tcase_add_loop_test(c, overrides, 0, 12);
    tcase_add_loop_test(c, bad_overrides_are_named, 0, 9);
    tcase_add_test(c, path_and_query);
    tcase_add_test(c, methods_and_targets_are_capped);
    tcase_add_test(c, an_attempt_is_reset_for_the_next);
    tcase_add_test(c, bodies_are_capped);
}
