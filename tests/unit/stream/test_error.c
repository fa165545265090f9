/* Errors as the SDKs raise them: bodies, and events in a stream. */

#include "stream/error.h"

#include <cJSON.h>
#include <check.h>
#include <errno.h>
#include <stdio.h>

#include "failmem.h"
#include "stream/sse.h"
#include "unit.h"

#define LONG "{\"message\":\"one that is longer than what a buffer has for nothing\"}"

static struct buf out;

static void set_up(void)
{
    buf_init(&out, 1 << 20);
}

static void tear_down(void)
{
    buf_deinit(&out);
}

/* The data of the one whole event in `out`, of the given name, as JSON. */
static cJSON *event_json(const char *name)
{
    struct sse_reader r;
    struct sse_event e;
    cJSON *json;

    sse_init(&r);
    ck_assert_uint_eq(sse_next(&r, buf_str(&out)), out.len);
    sse_parse(buf_str(&out), &e);
    ck_assert(str_eq(e.type, str_from(name)));
    ck_assert_uint_eq(e.data_lines, 1);
    ck_assert_ptr_null(memchr(out.p, '\r', out.len));
    json = cJSON_ParseWithLength(e.data.p, e.data.n);
    ck_assert_ptr_nonnull(json);
    return json;
}

static void is_text(const cJSON *object, const char *key, const char *text)
{
    const cJSON *v = cJSON_GetObjectItem(object, key);

    ck_assert_msg(v != NULL, "no %s", key);
    if (text)
        ck_assert_str_eq(cJSON_GetStringValue(v), text);
    else
        ck_assert(cJSON_IsNull(v));
}

/* Its members as the SDKs' types have them: strings or null. `object`: what stands under error. */
static const struct {
    const char *object, *code, *message, *param;
} objects[] = {
    {"{\"message\":\"m\",\"type\":\"server_error\",\"param\":null,\"code\":\"c\"}", "c", "m", NULL},
    {"{\"code\":502,\"message\":\"m\"}", "502", "m", NULL},
    {"{\"message\":\"m\",\"code\":null,\"param\":\"p\"}", NULL, "m", "p"},
    {"{}", NULL, NULL, NULL},
    {"{\"code\":true,\"message\":{\"a\":1},\"param\":[1]}", NULL, NULL, NULL},
    {"{\n  \"message\": \"a \\\"b\\\" \\n \\u00e9\",\r\n  \"code\": \"c\"\r}", "c",
     "a \"b\" \n \xc3\xa9", NULL},
    {"{\"message\":\"\",\"code\":\"\"}", "", "", NULL},
};

START_TEST(nested_for_all_and_flat_for_responses)
{
    struct str object = str_from(objects[_i].object);
    cJSON *json, *want = cJSON_Parse(objects[_i].object);

    ck_assert_int_eq(error_event_write(&out, DIALECT_RESPONSES, 41, object), 0);
    json = event_json("error");
    is_text(json, "type", "error");
    is_text(json, "code", objects[_i].code);
    is_text(json, "message", objects[_i].message);
    is_text(json, "param", objects[_i].param);
    ck_assert_int_eq((int)cJSON_GetNumberValue(cJSON_GetObjectItem(json, "sequence_number")), 41);
    ck_assert(cJSON_Compare(cJSON_GetObjectItem(json, "error"), want, true));
    cJSON_Delete(json);
    cJSON_Delete(want);
}
END_TEST

START_TEST(nested_alone_elsewhere)
{
    static const enum dialect dialects[] = {DIALECT_CHAT, DIALECT_COMPLETIONS, DIALECT_OTHER};
    struct str object = str_from(objects[_i].object);
    cJSON *json, *want = cJSON_Parse(objects[_i].object);

    for (size_t i = 0; i < COUNT(dialects); i++) {
        buf_reset(&out, 0);
        ck_assert_int_eq(error_event_write(&out, dialects[i], 41, object), 0);
        json = event_json("");
        ck_assert_int_eq(cJSON_GetArraySize(json), 1);
        ck_assert(cJSON_Compare(cJSON_GetObjectItem(json, "error"), want, true));
        cJSON_Delete(json);
    }
    buf_reset(&out, 0);
    ck_assert_int_eq(error_event_write(&out, DIALECT_MESSAGES, 41, object), 0);
    json = event_json("error");
    is_text(json, "type", "error");
    ck_assert(cJSON_Compare(cJSON_GetObjectItem(json, "error"), want, true));
    cJSON_Delete(json);
    cJSON_Delete(want);
}
END_TEST

static const struct {
    const char *object, *code, *message;
} reasons[] = {
    {"{\"message\":\"try again in 2s\",\"code\":\"rate_limit_exceeded\"}", "rate_limit_exceeded",
     "try again in 2s"},
    {"{\"message\":\"m \\\"x\\\"\",\"code\":502}", "502", "m \"x\""},
    {"{\"message\":null,\"code\":null}", "server_error", "the response failed"},
    {"{\"message\":\"\",\"code\":\"\"}", "server_error", "the response failed"},
    {"{}", "server_error", "the response failed"},
};

/* Code and message are strings whatever they were: what reads them strictly reads nothing else. */
START_TEST(a_response_that_failed)
{
    const struct guard_response response = {"resp_1", "m\\u00e9", 17};
    cJSON *json;
    const cJSON *its, *error;

    ck_assert_int_eq(error_event_failed(&out, &response, 5, str_from(reasons[_i].object)), 0);
    json = event_json("response.failed");
    its = cJSON_GetObjectItem(json, "response");
    error = cJSON_GetObjectItem(its, "error");
    is_text(json, "type", "response.failed");
    ck_assert_int_eq((int)cJSON_GetNumberValue(cJSON_GetObjectItem(json, "sequence_number")), 5);
    is_text(its, "id", "resp_1");
    is_text(its, "object", "response");
    is_text(its, "status", "failed");
    is_text(its, "model", "m\xc3\xa9");
    ck_assert_int_eq((int)cJSON_GetNumberValue(cJSON_GetObjectItem(its, "created_at")), 17);
    ck_assert(cJSON_IsArray(cJSON_GetObjectItem(its, "output")));
    is_text(error, "code", reasons[_i].code);
    is_text(error, "message", reasons[_i].message);
    cJSON_Delete(json);
}
END_TEST

/* Google's form names the kind by a status, which the type of an object in another form tells. */
START_TEST(in_googles_form_the_type_decides_the_status)
{
    static const struct {
        const char *type, *status;
    } types[] = {{"invalid_request_error", "INVALID_ARGUMENT"},
                 {"rate_limit_error", "RESOURCE_EXHAUSTED"},
                 {"server_error", "UNAVAILABLE"}};

    for (size_t i = 0; i < COUNT(types); i++) {
        char object[96];
        cJSON *json;

        snprintf(object, sizeof(object), "{\"message\":\"m\",\"type\":\"%s\"}", types[i].type);
        buf_reset(&out, 0);
        ck_assert_int_eq(error_event_write(&out, DIALECT_GEMINI, 1, str_from(object)), 0);
        json = event_json("");
        is_text(cJSON_GetObjectItem(json, "error"), "status", types[i].status);
        is_text(cJSON_GetObjectItem(json, "error"), "message", "m");
        cJSON_Delete(json);
    }
}
END_TEST

START_TEST(it_stands_behind_what_was_there)
{
    ck_assert_int_eq(buf_add_str(&out, STR("data: 1\n\n")), 0);
    ck_assert_int_eq(error_event_write(&out, DIALECT_CHAT, 0, STR("{\"message\":\"m\"}")), 0);
    ck_assert(str_eq(buf_str(&out), STR("data: 1\n\ndata: {\"error\":{\"message\":\"m\"}}\n\n")));
}
END_TEST

START_TEST(an_error_of_our_own)
{
    cJSON *json;

    ck_assert_int_eq(error_object_own(&out, "it \"broke\"\n", "answer_truncated"), 0);
    json = cJSON_ParseWithLength(out.p, out.len);
    is_text(json, "message", "it \"broke\"\n");
    is_text(json, "type", "server_error");
    is_text(json, "param", NULL);
    is_text(json, "code", "answer_truncated");
    cJSON_Delete(json);
}
END_TEST

/* --- what an upstream said -------------------------------------------------------------------- */

static const struct {
    const char *body, *object; /* NULL: made from what was read */
    const char *message, *type, *code;
} bodies[] = {
    {"{\"error\":{\"message\":\"m\",\"code\":429,\"metadata\":{\"x\":1}}}",
     "{\"message\":\"m\",\"code\":429,\"metadata\":{\"x\":1}}", NULL, NULL, NULL},
    {" \n{ \"error\" : { \"message\":\"m\" } }\n", "{ \"message\":\"m\" }", NULL, NULL, NULL},
    {"{\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"c\",\"message\":\"m\"}}}",
     "{\"code\":\"c\",\"message\":\"m\"}", NULL, NULL, NULL},
    {"{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"m\"}}",
     "{\"type\":\"overloaded_error\",\"message\":\"m\"}", NULL, NULL, NULL},
    {"{\"type\":\"response.failed\",\"response\":{\"error\":null}}", NULL,
     "the upstream reported an error", "server_error", NULL},
    {"{\"type\":\"error\",\"code\":\"c\",\"message\":\"m\"}", NULL, "m", "server_error", "c"},
    {"{\"object\":\"error\",\"message\":\"m\",\"type\":\"t\",\"code\":404}", NULL, "m", "t", "404"},
    {"{\"error\":[{},{\"message\":\"m\"},{\"message\":\"n\"}]}", "{\"message\":\"m\"}", NULL, NULL,
     NULL},
    {"{\"error\":[\"it failed\",{\"message\":\"m\"}]}", NULL, "it failed", "server_error", NULL},
    {"{\"error\":\"it failed\"}", NULL, "it failed", "server_error", NULL},
    {"{\"error\":[{},\"\"]}", NULL, "the upstream reported an error", "server_error", NULL},
    {"{\"choices\":[{\"error\":null},{\"index\":1}]}", NULL, "the upstream reported an error",
     "server_error", NULL},
    {"{\"error\":{\"message\":\"m\"}", NULL, "m", "server_error", NULL},
    {"<html>", NULL, "the upstream reported an error", "server_error", NULL},
    {"", NULL, "the upstream reported an error", "server_error", NULL},
};

START_TEST(the_upstreams_own_object_where_there_is_one)
{
    struct str body = str_from(bodies[_i].body);
    struct apierror read;
    cJSON *json;

    apierror_parse(body, &read);
    ck_assert_int_eq(error_object_of(&out, body, &read), 0);
    if (bodies[_i].object) {
        ck_assert(str_eq(buf_str(&out), str_from(bodies[_i].object)));
        return;
    }
    json = cJSON_ParseWithLength(out.p, out.len);
    is_text(json, "message", bodies[_i].message);
    is_text(json, "type", bodies[_i].type);
    is_text(json, "param", NULL);
    is_text(json, "code", bodies[_i].code);
    cJSON_Delete(json);
}
END_TEST

/* --- bodies ----------------------------------------------------------------------------------- */

START_TEST(what_is_written_is_json)
{
    char nasty[257];
    struct apierror e;
    struct buf b;

    for (int i = 0; i < 255; i++)
        nasty[i] = (char)(i + 1);
    nasty[255] = '\0';
    buf_init(&b, 4096);
    ck_assert_int_eq(error_body_write(&b, DIALECT_CHAT, 502, nasty, "server_error", "dns_failed"),
                     0);
    (void)buf_addc(&b, '\0');
    cJSON *tree = cJSON_Parse(b.p);
    ck_assert_ptr_nonnull(tree);
    const cJSON *error = cJSON_GetObjectItemCaseSensitive(tree, "error");
    ck_assert(cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(error, "param")));
    ck_assert_str_eq(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(error, "code")),
                     "dns_failed");
    cJSON_Delete(tree);
    buf_reset(&b, 4096);
    ck_assert_int_eq(error_body_write(&b, DIALECT_CHAT, 502, "m", NULL, NULL), 0);
    ck_assert(
        str_eq(buf_str(&b),
               STR("{\"error\":{\"message\":\"m\",\"type\":null,\"param\":null,\"code\":null}}")));
    buf_reset(&b, 4096);
    ck_assert_int_eq(error_body_write(&b, DIALECT_CHAT, 502, "hello", "t", "slow_down"), 0);
    apierror_parse(buf_str(&b), &e);
    ck_assert_int_eq(e.kind, APIERROR_OVERLOADED);
    ck_assert_str_eq(e.message, "hello");
    buf_reset(&b, 4096);
    ck_assert_int_eq(error_body_write(&b, DIALECT_MESSAGES, 502, "m", "t", "c"), 0);
    ck_assert(
        str_eq(buf_str(&b), STR("{\"type\":\"error\",\"error\":{\"message\":\"m\",\"type\":\"t\","
                                "\"param\":null,\"code\":\"c\"}}")));
    buf_reset(&b, 4096);
    ck_assert_int_eq(error_body_write(&b, DIALECT_GEMINI, 429, "m", "t", "c"), 0);
    ck_assert(
        str_eq(buf_str(&b),
               STR("{\"error\":{\"code\":429,\"message\":\"m\",\"status\":\"RESOURCE_EXHAUSTED\","
                   "\"details\":[{\"@type\":\"type.googleapis.com/google.rpc.ErrorInfo\","
                   "\"reason\":\"c\",\"domain\":\"retryd\",\"metadata\":{\"type\":\"t\"}}]}}")));
    buf_deinit(&b);
}
END_TEST

START_TEST(writing_fails_cleanly)
{
    static char message[1000];
    size_t n;

    memset(message, 'm', sizeof message - 1);
    for (n = 1;; n++) {
        struct buf b;
        buf_init(&b, 4096);
        failmem_arm(n);
        int r = error_body_write(&b, DIALECT_CHAT, 502, message, "t", "c");
        bool failed = b.failed;
        buf_deinit(&b);
        if (!failmem_disarm())
            break;
        ck_assert_int_eq(r, -ENOMEM);
        ck_assert(failed);
    }
    ck_assert_uint_gt(n, 3);
    for (size_t cap = 0; cap < 60; cap++) {
        struct buf b;
        buf_init(&b, cap);
        ck_assert_int_lt(error_body_write(&b, DIALECT_CHAT, 502, "message", "t", "c"), 0);
        buf_deinit(&b);
    }
}
END_TEST

/* --- memory ----------------------------------------------------------------------------------- */

static int write_all(void)
{
    struct apierror read = {.message = "m"};
    int rc = error_object_own(&out, "a message", "code");

    if (rc == 0)
        rc = error_object_of(&out, STR("<html>"), &read);
    return rc;
}

START_TEST(each_allocation_fails)
{
    static const enum dialect dialects[] = {DIALECT_CHAT, DIALECT_RESPONSES, DIALECT_MESSAGES};
    bool failed = true;

    for (size_t n = 1; failed; n++) {
        buf_deinit(&out);
        failmem_arm(n);
        int rc = write_all();
        failed = failmem_disarm();
        ck_assert_int_eq(rc, failed ? -ENOMEM : 0);
    }
    for (size_t i = 0; i < COUNT(dialects); i++) {
        buf_deinit(&out);
        ck_assert_int_eq(buf_add_str(&out, STR("data: 1\n\n")), 0);
        failmem_arm(1);
        int rc = error_event_write(&out, dialects[i], 7, STR(LONG));
        ck_assert(failmem_disarm());
        ck_assert_int_eq(rc, -ENOMEM);
        ck_assert(!out.failed);
        ck_assert(str_eq(buf_str(&out), STR("data: 1\n\n")));
    }
    failmem_arm(1);
    int rc = error_event_failed(&out, &(struct guard_response){"r", "", 0}, 7, STR(LONG));
    ck_assert(failmem_disarm());
    ck_assert_int_eq(rc, -ENOMEM);
    ck_assert(!out.failed && str_eq(buf_str(&out), STR("data: 1\n\n")));
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *c = unit_case(suite, "error");

    tcase_add_checked_fixture(c, set_up, tear_down);
    tcase_add_loop_test(c, nested_for_all_and_flat_for_responses, 0, COUNT(objects));
    tcase_add_loop_test(c, nested_alone_elsewhere, 0, COUNT(objects));
    tcase_add_loop_test(c, a_response_that_failed, 0, COUNT(reasons));
    tcase_add_test(c, in_googles_form_the_type_decides_the_status);
    tcase_add_test(c, it_stands_behind_what_was_there);
    tcase_add_test(c, an_error_of_our_own);
    tcase_add_loop_test(c, the_upstreams_own_object_where_there_is_one, 0, COUNT(bodies));
    tcase_add_test(c, each_allocation_fails);
    tcase_add_test(c, what_is_written_is_json);
    tcase_add_test(c, writing_fails_cleanly);
}
