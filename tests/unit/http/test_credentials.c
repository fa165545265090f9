/* http/credentials: where a request carries them, and that they can be removed. */
#include <check.h>
#include <string.h>

#include "http/credentials.h"
#include "unit.h"

static struct http_request request_with(const char *target)
{
    struct http_request r;

    http_request_init(&r);
    ck_assert_int_eq(http_request_text(&r.target, target), 0);
    return r;
}

START_TEST(each_place_in_turn)
{
    static const char *const expected[] = {"one", "Basic x", "two", "three", "four", "five", "six"};
    struct http_request r = request_with("/v1beta/m?alt=sse&key=five&access_token=six&key=seven");
    unsigned at = 0;
    struct str text;

    headers_add(&r.headers, STR("AUTHORIZATION"), STR("bearer   one"));
    headers_add(&r.headers, STR("Authorization"), STR("Basic x"));
    headers_add(&r.headers, STR("Accept"), STR("*/*"));
    headers_add(&r.headers, STR("X-Api-Key"), STR("two"));
    headers_add(&r.headers, STR("api-key"), STR("three"));
    headers_add(&r.headers, STR("x-goog-api-key"), STR("four"));
    for (size_t i = 0; i < COUNT(expected); i++) {
        ck_assert(credentials_next(&r, &at, &text));
        ck_assert(str_eq(text, str_from(expected[i])));
    }
    ck_assert(!credentials_next(&r, &at, &text));
    ck_assert(!credentials_next(&r, &at, &text));
    http_request_deinit(&r);
}
END_TEST

START_TEST(nothing_of_them_stays)
{
    struct http_request r = request_with("/m");

    headers_add(&r.headers, STR("Authorization"), STR("Bearer CANARY"));
    headers_add(&r.headers, STR("Accept"), STR("*/*"));
    headers_add(&r.headers, STR("x-api-key"), STR("CANARY"));
    credentials_remove(&r, true);
    ck_assert_uint_eq(r.headers.count, 1);
    ck_assert(str_eq(headers_name(&r.headers, 0), STR("Accept")));
    ck_assert(str_eq(headers_value(&r.headers, 0), STR("*/*")));
    ck_assert_ptr_null(str_find(buf_str(&r.headers.text), STR("CANARY")));
    http_request_deinit(&r);
}
END_TEST

START_TEST(the_query_loses_only_them)
{
    static const char *const cases[][2] = {
        {"/m?key=CANARY", "/m"},
        {"/m?access_token=CANARY&key=CANARY", "/m"},
        {"/m?alt=sse&key=CANARY", "/m?alt=sse"},
        {"/m?key=CANARY&alt=sse&keys=1", "/m?alt=sse&keys=1"},
        {"/m?a=1&key=CANARY&b=2&key=CANARY", "/m?a=1&b=2"},
        {"/m?monkey=1", "/m?monkey=1"},
        {"/m?", "/m?"},
        {"/m", "/m"},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct http_request r = request_with(cases[i][0]);

        credentials_remove(&r, true);
        ck_assert(str_eq(buf_str(&r.target), str_from(cases[i][1])));
        ck_assert_str_eq(r.target.p, cases[i][1]);
        ck_assert_ptr_null(str_find((struct str){r.target.p, strlen(cases[i][0])}, STR("CANARY")));
        http_request_deinit(&r);
    }
}
END_TEST

START_TEST(the_query_may_stay)
{
    struct http_request r = request_with("/v1/files?key=abc");

    credentials_remove(&r, false);
    ck_assert_str_eq(r.target.p, "/v1/files?key=abc");
    http_request_deinit(&r);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "credentials");

    tcase_add_test(tcase, each_place_in_turn);
    tcase_add_test(tcase, nothing_of_them_stays);
    tcase_add_test(tcase, the_query_loses_only_them);
    tcase_add_test(tcase, the_query_may_stay);
}
