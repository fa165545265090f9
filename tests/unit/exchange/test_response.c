/* What the client receives: the facts in every response, the upstream's response, and our own
 * errors. */

#include "exchange/response.h"

#include <cJSON.h>
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "exchange/attempt.h"
#include "failmem.h"
#include "fake_world.h"
#include "unit.h"

static struct http_response response;
static struct buf body;

static void set_up(void)
{
    http_response_init(&response);
    buf_init(&body, 4096);
}

static void tear_down(void)
{
    http_response_deinit(&response);
    buf_deinit(&body);
}

static struct str value(const char *name)
{
    struct str v = {NULL, 0};

    headers_get(&response.headers, str_from(name), &v);
    return v;
}

static bool is(const char *name, const char *wanted)
{
    return str_eq(value(name), str_from(wanted));
}

START_TEST(the_facts)
{
    struct response_facts f = {.attempts = 3,
                               .wait_ms = 123456789012,
                               .target = "openai",
                               .host = "api.openai.com",
                               .received_status = 429,
                               .reason = REASON_DNS,
                               .detail = "not told"};

    ck_assert_int_eq(response_add_facts(&response.headers, &f), 0);
    ck_assert(is("x-retryd-attempts", "3") && is("x-retryd-wait-ms", "123456789012"));
    ck_assert(is("x-retryd-target", "openai"));
    ck_assert(is("Proxy-Status", "retryd; received-status=429; next-hop=\"api.openai.com\""));
}
END_TEST

START_TEST(facts_before_any_target)
{
    struct response_facts f = {.reason = REASON_CLIENT_ERROR};

    ck_assert_int_eq(response_add_facts(&response.headers, &f), 0);
    ck_assert(!headers_get(&response.headers, STR("x-retryd-target"), NULL));
    ck_assert(is("Proxy-Status", "retryd; error=http_request_error"));
}
END_TEST

/* RFC 8941 3.3.3: printable ASCII, quotes and backslashes escaped; the longest detail fits. */
START_TEST(details_are_strings_of_the_header)
{
    char detail[ATTEMPT_DETAIL_MAX], host[254];
    struct response_facts f = {.reason = REASON_TLS, .detail = "a \"b\" \\ \n \x7f \xc3\xa4"};

    ck_assert_int_eq(response_add_facts(&response.headers, &f), 0);
    ck_assert(is("Proxy-Status",
                 "retryd; error=tls_protocol_error; details=\"a \\\"b\\\" \\\\ ? ? ??\""));
    headers_reset(&response.headers);
    memset(detail, '"', sizeof(detail) - 1);
    detail[sizeof(detail) - 1] = '\0';
    memset(host, 'h', sizeof(host) - 1);
    host[sizeof(host) - 1] = '\0';
    f.detail = detail;
    f.host = host;
    ck_assert_int_eq(response_add_facts(&response.headers, &f), 0);
    ck_assert_uint_gt(value("Proxy-Status").n, 2 * (sizeof(detail) - 1) + sizeof(host) - 1);
}
END_TEST

/* RFC 9209 2.3 lists what `error` may be. */
START_TEST(every_reason_has_a_status_and_a_registered_error)
{
    static const char *const registered[] = {"dns_timeout",
                                             "dns_error",
                                             "destination_not_found",
                                             "destination_unavailable",
                                             "destination_ip_prohibited",
                                             "destination_ip_unroutable",
                                             "connection_refused",
                                             "connection_terminated",
                                             "connection_timeout",
                                             "connection_read_timeout",
                                             "connection_write_timeout",
                                             "connection_limit_reached",
                                             "tls_protocol_error",
                                             "tls_certificate_error",
                                             "tls_alert_received",
                                             "http_request_error",
                                             "http_request_denied",
                                             "http_response_incomplete",
                                             "http_response_header_section_size",
                                             "http_response_timeout",
                                             "http_protocol_error",
                                             "proxy_internal_error"};

    for (int r = REASON_OK + 1; r < REASON_COUNT; r++) {
        struct response_facts f = {.reason = (enum reason)r};
        unsigned status = response_status_for(f.reason);
        const char *advice = response_advice(f.reason);
        struct str v, first, second;
        bool found = false;

        ck_assert(status == 502 || status == 503 || status == 504);
        ck_assert_ptr_nonnull(advice);
        ck_assert(!advice[0] || advice[strlen(advice) - 1] == '.');
        headers_reset(&response.headers);
        ck_assert_int_eq(response_add_facts(&response.headers, &f), 0);
        v = value("Proxy-Status");
        ck_assert(str_next(&v, ';', &first) && str_next(&v, ';', &second));
        ck_assert(str_eq(first, STR("retryd")) && str_starts(second, STR("error=")));
        for (size_t i = 0; i < COUNT(registered); i++)
            found |= str_eq((struct str){second.p + 6, second.n - 6}, str_from(registered[i]));
        ck_assert_msg(found, "%.*s", (int)second.n, second.p);
    }
}
END_TEST

START_TEST(an_upstreams_head_in_its_order)
{
    struct response_facts f = {.attempts = 1, .received_status = 200};
    struct headers h;

    headers_init(&h);
    ck_assert_int_eq(fake_add_headers(&h,
                                      "B: 2\nConnection: close, X-Mine\nSet-Cookie: a\nx-mine: 1\n"
                                      "Set-Cookie: b\nKeep-Alive: 5\ncontent-LENGTH: 9\nA: 1\n"
                                      "x-should-retry: true\n"),
                     0);
    ck_assert_int_eq(response_from_upstream(&response, 200, &h, &f), 0);
    ck_assert_uint_eq(response.status, 200);
    ck_assert_uint_eq(response.content_length, LENGTH_UNKNOWN);
    static const char *const names[] = {"B",
                                        "Set-Cookie",
                                        "Set-Cookie",
                                        "A",
                                        "x-should-retry",
                                        "x-retryd-attempts",
                                        "x-retryd-wait-ms",
                                        "Proxy-Status"};
    ck_assert_uint_eq(response.headers.count, COUNT(names));
    for (unsigned i = 0; i < COUNT(names); i++)
        ck_assert(str_eq(headers_name(&response.headers, i), str_from(names[i])));
    ck_assert(str_eq(headers_value(&response.headers, 2), STR("b")));
    ck_assert(is("x-should-retry", "true"));
    headers_deinit(&h);
}
END_TEST

/* C8: the SDK does not start over. */
START_TEST(failures_say_that_they_are_final)
{
    struct response_facts f = {.received_status = (unsigned)_i};
    struct headers h;
    unsigned count = 0;

    headers_init(&h);
    fake_add_headers(&h, "X-Should-Retry: true\nretry-after: 3\nx-should-retry: maybe\n");
    ck_assert_int_eq(response_from_upstream(&response, (unsigned)_i, &h, &f), 0);
    for (unsigned i = 0; i < response.headers.count; i++)
        count += str_ieq(headers_name(&response.headers, i), STR("x-should-retry"));
    ck_assert_uint_eq(count, _i < 400 ? 2 : 1);
    ck_assert(is("x-should-retry", _i < 400 ? "true" : "false"));
    ck_assert(is("retry-after", "3"));
    headers_deinit(&h);
}
END_TEST

/* Behind retryd there may be another one: its facts are not this one's. */
START_TEST(facts_of_another_retryd_are_dropped)
{
    struct response_facts f = {.received_status = 200, .attempts = 2};
    struct headers h;
    unsigned count = 0;

    headers_init(&h);
    fake_add_headers(&h, "X-Retryd-Attempts: 9\nx-retryd-other: a\nx-request-id: r\n");
    ck_assert_int_eq(response_from_upstream(&response, 200, &h, &f), 0);
    for (unsigned i = 0; i < response.headers.count; i++)
        count += str_ieq(headers_name(&response.headers, i), STR("x-retryd-attempts"));
    ck_assert_uint_eq(count, 1);
    ck_assert(is("x-retryd-attempts", "2"));
    ck_assert(!headers_get(&response.headers, STR("x-retryd-other"), NULL));
    ck_assert(is("x-request-id", "r"));
    headers_deinit(&h);
}
END_TEST

START_TEST(an_error_of_our_own)
{
    struct response_facts f = {.reason = REASON_FIRST_BYTE_TIMEOUT, .detail = "silence"};
    const cJSON *e;
    cJSON *json;

    ck_assert_int_eq(
        response_own_error(&response, &body, 0, "It \"broke\"\n\x01", "server_error", NULL, &f), 0);
    ck_assert_uint_eq(response.status, 504);
    ck_assert_uint_eq(response.content_length, body.len);
    ck_assert(is("content-type", "application/json") && is("x-should-retry", "false"));
    json = cJSON_ParseWithLength(body.p, body.len);
    e = cJSON_GetObjectItem(json, "error");
    ck_assert_str_eq(cJSON_GetStringValue(cJSON_GetObjectItem(e, "message")), "It \"broke\"\n\x01");
    ck_assert_str_eq(cJSON_GetStringValue(cJSON_GetObjectItem(e, "type")), "server_error");
    ck_assert_str_eq(cJSON_GetStringValue(cJSON_GetObjectItem(e, "code")), "first_byte_timeout");
    ck_assert(cJSON_IsNull(cJSON_GetObjectItem(e, "param")));
    cJSON_Delete(json);
}
END_TEST

START_TEST(status_and_code_can_be_given)
{
    struct response_facts f = {.reason = REASON_CLIENT_ERROR};

    ck_assert_int_eq(
        response_own_error(&response, &body, 413, "m", "invalid_request_error", "too_big", &f), 0);
    ck_assert_uint_eq(response.status, 413);
    ck_assert_ptr_nonnull(memmem(body.p, body.len, "\"too_big\"", 9));
}
END_TEST

START_TEST(types_are_matched_by_their_beginning)
{
    struct headers h;

    headers_init(&h);
    ck_assert(!response_is_type(&h, STR("text/event-stream")));
    fake_add_headers(&h, "content-type: Text/Event-Stream;charset=utf-8\n");
    ck_assert(response_is_type(&h, STR("text/event-stream")));
    ck_assert(!response_is_type(&h, STR("application/json")));
    headers_deinit(&h);
}
END_TEST

START_TEST(without_memory)
{
    struct response_facts f = {.target = "t", .host = "h", .reason = REASON_DNS, .detail = "d"};
    struct headers h;

    headers_init(&h);
    fake_add_headers(&h, "A: 1\n");
    for (size_t n = 1, failed = 1; failed; n++) {
        int rc;

        set_up();
        failmem_arm(n);
        rc = _i == 0 ? response_from_upstream(&response, 500, &h, &f)
                     : response_own_error(&response, &body, 0, "m", "t", NULL, &f);
        failed = failmem_disarm();
        ck_assert_int_eq(rc, failed ? -ENOMEM : 0);
        tear_down();
    }
    headers_deinit(&h);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *c = unit_case(suite, "answer");

    tcase_add_checked_fixture(c, set_up, tear_down);
    tcase_add_test(c, the_facts);
    tcase_add_test(c, facts_before_any_target);
    tcase_add_test(c, details_are_strings_of_the_header);
    tcase_add_test(c, every_reason_has_a_status_and_a_registered_error);
    tcase_add_test(c, an_upstreams_head_in_its_order);
    tcase_add_loop_test(c, failures_say_that_they_are_final, 399, 401);
    tcase_add_test(c, facts_of_another_retryd_are_dropped);
    tcase_add_test(c, an_error_of_our_own);
    tcase_add_test(c, status_and_code_can_be_given);
    tcase_add_test(c, types_are_matched_by_their_beginning);
    tcase_add_loop_test(c, without_memory, 0, 2);
}
