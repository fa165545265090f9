/* Requests as upstreams receive them. */

#include "exchange/outgoing.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "failmem.h"
#include "fake_world.h"
#include "unit.h"

static struct request r;
static struct plan plan;
static struct upstream upstream;
static struct target target;
static struct outgoing o;
static struct body_edit edit;
static char problem[200];

static void set_up(void)
{
    request_init(&r, 1000, 0x0123456789abcdef, 0xfedcba9876543210);
    plan = (struct plan){.base = STR("/v1")};
    upstream = (struct upstream){.name = "openai",
                                 .host = "api.example",
                                 .base_path = "/v1",
                                 .query = "",
                                 .auth_header = "Authorization",
                                 .idempotency_header = ""};
    target = (struct target){.upstream = &upstream};
    outgoing_init(&o);
    body_edit_init(&edit);
}

static void tear_down(void)
{
    request_deinit(&r);
    outgoing_deinit(&o);
    body_edit_deinit(&edit);
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
}

static int build(void)
{
    return outgoing_build(&o, &r, &plan, &target, &edit);
}

/* The outgoing headers as "Name: value\n" lines. */
static const char *sent(void)
{
    static char lines[4096];
    size_t n = 0;

    lines[0] = '\0';
    for (unsigned i = 0; i < o.headers.count; i++)
        n += (size_t)snprintf(lines + n, sizeof(lines) - n, "%s: %s\n",
                              headers_name(&o.headers, i).p, headers_value(&o.headers, i).p);
    return lines;
}

/* --- reading -------------------------------------------------------------------------------------- */

/* --- going out ------------------------------------------------------------------------------------- */

START_TEST(targets)
{
    static const struct {
        const char *base, *base_path, *target, *want;
    } rows[] = {
        {"/v1", "/v1", "/v1/chat/completions", "/v1/chat/completions"},
        {"/v1", "/openai/v1", "/v1/a%2Fb/../c?q=%20&x", "/openai/v1/a%2Fb/../c?q=%20&x"},
        {"/v1", "", "/v1/models", "/models"},
        {"/v1", "", "/v1", "/"},
        {"/v1", "", "/v1?x=1", "/?x=1"},
        {"/v1", "/api", "/v1?x=1", "/api?x=1"},
        {"", "/v1", "/models", "/v1/models"},
        {"/", "", "/models", "/models"},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        again();
        fill(rows[i].target, NULL, "");
        plan.base = str_from(rows[i].base);
        upstream.base_path = rows[i].base_path;
        ck_assert_int_eq(build(), 0);
        ck_assert_str_eq(o.target.p, rows[i].want);
    }
}
END_TEST

/* The path's model is the target's, and so is the body's that repeats it; a key in the query goes
 * to no upstream that has one of its own. */
START_TEST(a_model_and_a_key_in_the_target)
{
    static const struct {
        const char *target, *body, *own, *key, *want, *put;
    } rows[] = {
        {"/v1/models/g-1:generateContent?alt=sse", "{}", "g-1", "",
         "/v1/models/g-1:generateContent?alt=sse", ""},
        {"/v1/models/g%2D1:generateContent", "{}", "g-1", "", "/v1/models/g%2D1:generateContent",
         ""},
        {"/v1/models/g-1:generateContent?alt=sse&key=mine", "{}", "g 2/x", "",
         "/v1/models/g%202%2Fx:generateContent?alt=sse&key=mine", ""},
        {"/v1/models/g-1:generateContent?key=mine&alt=sse&access_token=t&keys=1", "{}", "g-2", "k",
         "/v1/models/g-2:generateContent?alt=sse&keys=1", ""},
        {"/v1/models/g-1:generateContent?key=mine", "{}", "g-1", "k",
         "/v1/models/g-1:generateContent", ""},
        {"/v1/x?key=1", "{}", "", "k", "/v1/x?key=1", ""},
        {"/v1/models/g-1:embedContent", "{\"model\":\"models/g-1\"}", "g-2", "",
         "/v1/models/g-2:embedContent", "\"models/g-2\""},
        {"/v1/models/g-1:embedContent", "{\"model\":\"g-1\"}", "g-2", "",
         "/v1/models/g-2:embedContent", "\"g-2\""},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        again();
        fill(rows[i].target, "X-Goog-Api-Key: mine\n", rows[i].body);
        ck_assert_int_eq(request_read(&r, problem, sizeof(problem)), 0);
        target.own_model = str_from(rows[i].own);
        target.key = str_from(rows[i].key);
        ck_assert_int_eq(build(), 0);
        ck_assert_str_eq(o.target.p, rows[i].want);
        ck_assert(str_eq(buf_str(&edit.put), str_from(rows[i].put)));
        ck_assert_int_eq(headers_get(&o.headers, STR("x-goog-api-key"), NULL), !rows[i].key[0]);
    }
}
END_TEST

START_TEST(end_to_end_fields_in_their_order)
{
    fill("/v1/x",
         "Host: 127.0.0.1:4290\nB: 2\nConnection: keep-alive, X-Hop\nX-Hop: 1\nTE: trailers\n"
         "Transfer-Encoding: chunked\nContent-Length: 5\nExpect: 100-continue\nKeep-Alive: 5\n"
         "Proxy-Authorization: x\nUpgrade: h2c\nX-Retryd-Deadline: 5\nx-retryd-anything: 1\n"
         "Authorization: Bearer mine\nA: 1\nB: 3\nX-Stainless-Retry-Count: 0\nX-Empty:\n",
         "12345");
    ck_assert_int_eq(build(), 0);
    ck_assert_str_eq(sent(), "B: 2\nAuthorization: Bearer mine\nA: 1\nB: 3\n"
                             "X-Stainless-Retry-Count: 0\nX-Empty: \n");
}
END_TEST

START_TEST(the_targets_key_stands_for_the_clients)
{
    static const struct target_header extra[] = {{"X-Org", "o"}, {"User-Agent", "mine"}};

    fill("/v1/x", "authorization: Bearer client\nUser-Agent: sdk\napi-key: k\nX-Api-Key: x\nA: 1\n",
         "");
    target.key = STR("sk-target");
    upstream.headers = extra;
    upstream.header_count = 2;
    upstream.auth_header = _i == 0 ? "Authorization" : "api-key";
    ck_assert_int_eq(build(), 0);
    ck_assert_str_eq(sent(), _i == 0 ? "A: 1\nAuthorization: Bearer sk-target\n"
                                       "X-Org: o\nUser-Agent: mine\n"
                                     : "A: 1\napi-key: sk-target\nX-Org: o\nUser-Agent: mine\n");
}
END_TEST

START_TEST(a_key_too_long_is_refused)
{
    static char key[TARGET_KEY_MAX + 2];

    memset(key, 'k', sizeof(key));
    fill("/v1/x", NULL, "");
    target.key = (struct str){key, TARGET_KEY_MAX};
    ck_assert_int_eq(build(), 0);
    again();
    fill("/v1/x", NULL, "");
    target.key = (struct str){key, TARGET_KEY_MAX + 2};
    ck_assert_int_eq(build(), -E2BIG);
}
END_TEST

START_TEST(C1_via_names_this_daemon_behind_the_others)
{
    fill("/v1/x", "Via: 1.0 before\nA: 1\n", "");
    plan.via = "1.1 retryd-1";
    ck_assert_int_eq(build(), 0);
    ck_assert_str_eq(sent(), "Via: 1.0 before\nA: 1\nVia: 1.1 retryd-1\n");
}
END_TEST

START_TEST(only_encodings_that_can_be_read_are_asked_for)
{
    static const struct {
        const char *asked, *want;
    } rows[] = {
        {"gzip, deflate, br, zstd", "gzip, deflate"},
        {"br;q=1.0, gzip;q=0.8, *;q=0.1", "gzip;q=0.8"},
        {"br", "identity"},
        {"*", "identity"},
        {"", "identity"},
        {"identity;q=1, GZIP", "identity;q=1, GZIP"},
        {",, gzip ,", "gzip"},
    };
    char line[200];

    for (size_t i = 0; i < COUNT(rows); i++) {
        for (int stream = 0; stream < 2; stream++) {
            again();
            snprintf(line, sizeof(line), "accept-encoding: %s\n", rows[i].asked);
            fill("/v1/x", line, stream ? "{\"stream\":true}" : "{}");
            ck_assert_int_eq(request_read(&r, problem, sizeof(problem)), 0);
            ck_assert_int_eq(build(), 0);
            ck_assert_uint_eq(o.headers.count, 1);
            ck_assert(
                str_eq(headers_value(&o.headers, 0), str_from(stream ? "identity" : rows[i].want)));
        }
    }
}
END_TEST

START_TEST(a_list_of_encodings_without_end)
{
    static char line[4000];
    size_t n = (size_t)snprintf(line, sizeof(line), "Accept-Encoding: gzip");

    while (n < sizeof(line) - 20)
        n += (size_t)snprintf(line + n, sizeof(line) - n, ", deflate;q=0.5");
    fill("/v1/x", line, "");
    ck_assert_int_eq(build(), 0);
    ck_assert(str_starts(headers_value(&o.headers, 0), STR("gzip, deflate;q=0.5, deflate;q=0.5")));
    ck_assert_uint_lt(headers_value(&o.headers, 0).n, 256);
}
END_TEST

START_TEST(idempotency_keys)
{
    upstream.idempotency_header = "Idempotency-Key";
    fill("/v1/x", _i == 0 ? "A: 1\n" : "IDEMPOTENCY-KEY: mine\n", "");
    ck_assert_int_eq(build(), 0);
    ck_assert_str_eq(sent(), _i == 0 ? "A: 1\nIdempotency-Key: "
                                       "01234567-89ab-4def-bedc-ba9876543210\n"
                                     : "IDEMPOTENCY-KEY: mine\n");
}
END_TEST

START_TEST(too_much_to_send)
{
    fill("/v1/x", NULL, "");
    for (int i = 0; i < HEADERS_MAX; i++)
        ck_assert_int_eq(headers_add(&r.http.headers, STR("A"), STR("1")), 0);
    upstream.idempotency_header = "Idempotency-Key";
    ck_assert_int_eq(build(), -E2BIG);
}
END_TEST

START_TEST(without_memory)
{
    fill("/v1/x", "A: 1\nAccept-Encoding: br\n", "{}");
    target.key = STR("k");
    upstream.base_path = "";
    upstream.idempotency_header = "Idempotency-Key";
    plan.base = STR("/v1/x"); /* the slash has to be put in front */
    for (size_t n = 1, failed = 1; failed; n++) {
        failmem_arm(n);
        int rc = build();
        failed = failmem_disarm();
        ck_assert_int_eq(rc, failed ? -ENOMEM : 0);
        if (!failed)
            ck_assert_str_eq(o.target.p, "/");
        outgoing_deinit(&o);
        outgoing_init(&o);
    }
}
END_TEST

/* --- queries, paths and models ---------------------------------------------------------------------- */

START_TEST(the_urls_own_query_is_added)
{
    static const struct {
        const char *query, *target, *want;
    } rows[] = {
        {"api-version=1", "/v1/x", "/v1/x?api-version=1"},
        {"api-version=1", "/v1/x?a=b", "/v1/x?a=b&api-version=1"},
        {"api-version=1&c", "/v1/x?api-version=2", "/v1/x?api-version=2&c"},
        {"a=1&b=2", "/v1/x", "/v1/x?a=1&b=2"},
        {"a=1&b=2", "/v1/x?b=&a", "/v1/x?b=&a"},
        {"a=1", "/v1/x?aa=1", "/v1/x?aa=1&a=1"},
        {"a=1", "/v1/x?", "/v1/x?&a=1"},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        again();
        fill(rows[i].target, NULL, "");
        upstream.query = rows[i].query;
        ck_assert_int_eq(build(), 0);
        ck_assert_str_eq(o.target.p, rows[i].want);
    }
}
END_TEST

START_TEST(a_path_with_the_model_in_it)
{
    static const struct {
        const char *model, *want;
    } rows[] = {
        {"gpt-4o", "/openai/deployments/gpt-4o/chat/completions?api-version=1"},
        {"a/b c", "/openai/deployments/a%2Fb%20c/chat/completions?api-version=1"},
        {"", "/openai/deployments//chat/completions?api-version=1"},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        again();
        fill("/v1/chat/completions", NULL, "");
        upstream.base_path = "/openai/deployments/{model}";
        upstream.query = "api-version=1";
        target.own_model = str_from(rows[i].model);
        ck_assert_int_eq(build(), 0);
        ck_assert_str_eq(o.target.p, rows[i].want);
    }
}
END_TEST

/* All of the body as it would be sent, read in pieces of every size. */
static void check_body(const char *want)
{
    uint64_t length = body_edited_length(&r.body, &edit);
    char got[300];

    ck_assert_uint_eq(length, strlen(want));
    for (size_t piece = 1; piece <= length; piece++) {
        size_t n = 0;

        while (n < length) {
            ptrdiff_t some = body_read_edited(&r.body, &edit, n, got + n, piece);
            ck_assert_int_gt(some, 0);
            ck_assert_int_le(some, (ptrdiff_t)piece);
            n += (size_t)some;
        }
        ck_assert_int_eq(body_read_edited(&r.body, &edit, n, got + n, piece), 0);
        ck_assert(!memcmp(got, want, length));
    }
}

#define FORM(model)                                                              \
    "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n" model "\r\n" \
    "--b\r\nContent-Disposition: form-data; name=\"n\"\r\n\r\n1\r\n--b--\r\n"

START_TEST(the_body_asks_for_the_targets_model)
{
    static const struct {
        const char *body, *model, *want;
    } rows[] = {
        {"{\"model\":\"gpt-4o\"}", "mini", "{\"model\":\"mini\"}"},
        {" {\"a\": {\"model\":\"x\"}, \"model\" : \"gpt-4o\", \"n\":1}", "a-longer-name",
         " {\"a\": {\"model\":\"x\"}, \"model\" : \"a-longer-name\", \"n\":1}"},
        {"{\"model\":\"gpt-4o\"}", "a\"b\\c", "{\"model\":\"a\\\"b\\\\c\"}"},
        {"{\"model\":\"a\",\"model\":\"b\"}", "c", "{\"model\":\"a\",\"model\":\"c\"}"},
        {"{\"model\":\"gpt\\u002d4o\"}", "x", "{\"model\":\"x\"}"},
        {"{\"model\":\"gpt-4o\"}", "gpt-4o", "{\"model\":\"gpt-4o\"}"},
        {"{\"model\":7}", "x", "{\"model\":7}"},
        {"{}", "x", "{}"},
        {"no json", "x", "no json"},
        {FORM("whisper-1"), "a \"longer\" name", FORM("a \"longer\" name")},
        {FORM("whisper-1"), "x", FORM("x")},
        {FORM("whisper-1"), "whisper-1", FORM("whisper-1")},
        {FORM(""), "x", FORM("")},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        again();
        fill("/v1/x", NULL, rows[i].body);
        ck_assert_int_eq(request_read(&r, problem, sizeof(problem)), 0);
        target.own_model = str_from(rows[i].model);
        ck_assert_int_eq(build(), 0);
        check_body(rows[i].want);
    }
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "outgoing");

    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, targets);
    tcase_add_test(tcase, a_model_and_a_key_in_the_target);
    tcase_add_test(tcase, end_to_end_fields_in_their_order);
    tcase_add_loop_test(tcase, the_targets_key_stands_for_the_clients, 0, 2);
    tcase_add_test(tcase, a_key_too_long_is_refused);
    tcase_add_test(tcase, C1_via_names_this_daemon_behind_the_others);
    tcase_add_test(tcase, only_encodings_that_can_be_read_are_asked_for);
    tcase_add_test(tcase, a_list_of_encodings_without_end);
    tcase_add_loop_test(tcase, idempotency_keys, 0, 2);
    tcase_add_test(tcase, too_much_to_send);
    tcase_add_test(tcase, without_memory);
    tcase_add_test(tcase, the_urls_own_query_is_added);
    tcase_add_test(tcase, a_path_with_the_model_in_it);
    tcase_add_test(tcase, the_body_asks_for_the_targets_model);
}
