/* Error objects of many servers, what they mean, and retryd's own. */

#include "policy/apierror.h"

#include <check.h>
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "failmem.h"
#include "unit.h"

struct row {
    const char *body;
    enum apierror_kind kind;
    const char *code, *type, *message;
    unsigned status;
};

static const struct row rows[] = {
    /* OpenAI */
    {"{\"error\":{\"message\":\"m\",\"type\":\"tokens\",\"param\":null,\"code\":"
     "\"rate_limit_exceeded\"}}",
     APIERROR_RATE_LIMIT, "rate_limit_exceeded", "tokens", "m", 0},
    {"{\"error\":{\"message\":\"You exceeded your current quota\",\"type\":\"insufficient_quota\","
     "\"param\":null,\"code\":null}}",
     APIERROR_QUOTA, "", "insufficient_quota", "You exceeded your current quota", 0},
    {"{\"error\":{\"message\":\"m\",\"type\":\"server_error\",\"code\":null}}", APIERROR_OTHER, "",
     "server_error", "m", 0},
    {"{\"error\":{\"message\":\"Request too large for gpt-4o: Limit 30000, Requested 40000\","
     "\"type\":\"tokens\",\"code\":\"rate_limit_exceeded\"}}",
     APIERROR_CONTEXT, "rate_limit_exceeded", "tokens",
     "Request too large for gpt-4o: Limit 30000, Requested 40000", 0},
    {"{\"error\":{\"message\":\"The model `x` does not exist\",\"code\":\"model_not_found\"}}",
     APIERROR_MODEL, "model_not_found", "", "The model `x` does not exist", 0},
    /* a Responses stream */
    {"{\"type\":\"error\",\"code\":\"slow_down\",\"message\":\"m\",\"sequence_number\":1}",
     APIERROR_OVERLOADED, "slow_down", "", "m", 0},
    {"{\"type\":\"response.failed\",\"response\":{\"object\":\"response\",\"error\":{\"code\":"
     "\"rate_limit_exceeded\",\"message\":\"m\"}}}",
     APIERROR_RATE_LIMIT, "rate_limit_exceeded", "", "m", 0},
    {"{\"type\":\"response.failed\",\"response\":{\"error\":null}}", APIERROR_OTHER, "", "", "", 0},
    {"{\"type\":\"response.failed\"}", APIERROR_OTHER, "", "", "", 0},
    {"{\"type\":\"response.created\",\"response\":{\"error\":null}}", APIERROR_NONE, "", "", "", 0},
    /* Anthropic */
    {"{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}",
     APIERROR_OVERLOADED, "", "overloaded_error", "Overloaded", 0},
    {"{\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\"message\":"
     "\"prompt is too long: 2 tokens > 1 maximum\"}}",
     APIERROR_CONTEXT, "", "invalid_request_error", "prompt is too long: 2 tokens > 1 maximum", 0},
    /* OpenRouter, vLLM */
    {"{\"error\":{\"code\":502,\"message\":\"m\"},\"user_id\":\"u\"}", APIERROR_OTHER, "502", "",
     "m", 502},
    {"{\"error\":{\"code\":402,\"message\":\"Insufficient credits\"}}", APIERROR_QUOTA, "402", "",
     "Insufficient credits", 402},
    {"{\"error\":{\"code\":200,\"message\":\"m\"}}", APIERROR_OTHER, "200", "", "m", 0},
    {"{\"error\":{\"code\":600,\"message\":\"m\"}}", APIERROR_OTHER, "600", "", "m", 0},
    {"{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"choices\":[],\"error\":{\"code\":502,"
     "\"message\":\"m\"}}",
     APIERROR_OTHER, "502", "", "m", 502},
    {"{\"object\":\"error\",\"message\":\"This model's maximum context length is 4096 tokens\","
     "\"type\":\"BadRequestError\",\"param\":null,\"code\":400}",
     APIERROR_CONTEXT, "400", "BadRequestError",
     "This model's maximum context length is 4096 tokens", 400},
    /* Azure */
    {"{\"error\":{\"code\":\"429\",\"message\":\"m\"}}", APIERROR_OTHER, "429", "", "m", 429},
    {"{\"error\":{\"code\":\"DeploymentNotFound\",\"message\":\"m\"}}", APIERROR_MODEL,
     "DeploymentNotFound", "", "m", 0},
    {"{\"error\":{\"code\":\"content_filter\",\"message\":\"m\",\"status\":400,\"innererror\":{}}}",
     APIERROR_CONTENT_POLICY, "content_filter", "", "m", 400},
    /* Google */
    {"[{\"error\":{\"code\":429,\"message\":\"m\",\"status\":\"RESOURCE_EXHAUSTED\"}}]",
     APIERROR_RATE_LIMIT, "429", "", "m", 429},
    /* Ollama, llama.cpp, FastAPI */
    {"{\"error\":\"model 'x' not found\"}", APIERROR_MODEL, "", "", "model 'x' not found", 0},
    {"{\"error\":\"boom\"}", APIERROR_OTHER, "", "", "boom", 0},
    {"{\"error\":\"invalid_api_key\"}", APIERROR_KEY, "", "", "invalid_api_key", 0},
    {"{\"code\":\"invalid_api_key\",\"error\":\"bad\"}", APIERROR_KEY, "invalid_api_key", "", "bad",
     0},
    {"{\"error\":\"bad\",\"type\":\"overloaded_error\"}", APIERROR_OVERLOADED, "",
     "overloaded_error", "bad", 0},
    {"{\"code\":400,\"message\":\"m\",\"type\":\"exceed_context_size_error\"}", APIERROR_NONE,
     "400", "exceed_context_size_error", "m", 400},
    {"{\"error\":{\"code\":400,\"message\":\"m\",\"type\":\"exceed_context_size_error\"}}",
     APIERROR_CONTEXT, "400", "exceed_context_size_error", "m", 400},
    {"{\"detail\":\"Not Found\"}", APIERROR_NONE, "", "", "Not Found", 0},
    {"{\"detail\":[{\"loc\":[]}]}", APIERROR_NONE, "", "", "", 0},
    {"{\"message\":\"ok\"}", APIERROR_NONE, "", "", "ok", 0},
    {"{\"message\":\"m\",\"code\":\"insufficient_quota\"}", APIERROR_QUOTA, "insufficient_quota",
     "", "m", 0},
    /* good answers */
    {"{\"id\":\"c\",\"object\":\"chat.completion\",\"error\":null}", APIERROR_NONE, "", "", "", 0},
    {"{\"error\":{}}", APIERROR_NONE, "", "", "", 0},
    {"{\"error\":{ }}", APIERROR_NONE, "", "", "", 0},
    {"{\"error\":\"\"}", APIERROR_NONE, "", "", "", 0},
    {"{\"error\":false}", APIERROR_NONE, "", "", "", 0},
    {"{\"error\":0}", APIERROR_NONE, "", "", "", 0},
    {"{\"object\":\"fine_tuning.job\",\"error\":{\"code\":\"x\",\"message\":\"m\"}}", APIERROR_NONE,
     "", "", "", 0},
    {"{\"object\":\"response\",\"status\":\"failed\",\"error\":{\"code\":\"server_error\"}}",
     APIERROR_NONE, "", "", "", 0},
    {"{\"choices\":[{\"error\":{\"code\":\"insufficient_quota\"}}]}", APIERROR_NONE, "", "", "", 0},
    /* other shapes, no shapes */
    {"{\"error\":{\"reason\":\"x\"}}", APIERROR_OTHER, "", "", "", 0},
    {"{\"error\":{\"message\":{\"a\":1}}}", APIERROR_OTHER, "", "", "", 0},
    {" \r\n{\"error\":{\"code\":\"slow_down\"", APIERROR_NONE, "", "", "", 0},
    {"{\"error\":{\"code\":\"slow_down\"},\"x\":\"cut", APIERROR_OVERLOADED, "slow_down", "", "",
     0},
    {"", APIERROR_NONE, "", "", "", 0},
    {"[]", APIERROR_NONE, "", "", "", 0},
    {"[", APIERROR_NONE, "", "", "", 0},
    {"[DONE]", APIERROR_NONE, "", "", "", 0},
    {"error", APIERROR_NONE, "", "", "", 0},
    {"<html>{\"error\":{\"code\":\"slow_down\"}}", APIERROR_NONE, "", "", "", 0},
};

START_TEST(bodies)
{
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct apierror e;
        memset(&e, 0x55, sizeof e);
        apierror_parse(str_from(rows[i].body), &e);
        ck_assert_msg(e.kind == rows[i].kind, "%s: kind %d", rows[i].body, e.kind);
        ck_assert_msg(strcmp(e.code, rows[i].code) == 0, "%s: code %s", rows[i].body, e.code);
        ck_assert_msg(strcmp(e.type, rows[i].type) == 0, "%s: type %s", rows[i].body, e.type);
        ck_assert_msg(strcmp(e.message, rows[i].message) == 0, "%s: %s", rows[i].body, e.message);
        ck_assert_msg(e.status == rows[i].status, "%s: status %u", rows[i].body, e.status);
    }
}
END_TEST

static const struct {
    const char *word;
    enum apierror_kind kind;
} words[] = {
    {"insufficient_quota", APIERROR_QUOTA},
    {"credit_balance_exhausted", APIERROR_QUOTA},
    {"organization_spend_limit_exceeded", APIERROR_QUOTA},
    {"project_spend_limit_exceeded", APIERROR_QUOTA},
    {"organization_usage_limit_exceeded", APIERROR_QUOTA},
    {"billing_hard_limit_reached", APIERROR_QUOTA},
    {"billing_not_active", APIERROR_QUOTA},
    {"invalid_api_key", APIERROR_KEY},
    {"account_deactivated", APIERROR_KEY},
    {"model_not_found", APIERROR_MODEL},
    {"DeploymentNotFound", APIERROR_MODEL},
    {"context_length_exceeded", APIERROR_CONTEXT},
    {"content_policy_violation", APIERROR_CONTENT_POLICY},
    {"content_filter", APIERROR_CONTENT_POLICY},
    {"slow_down", APIERROR_OVERLOADED},
    {"server_is_overloaded", APIERROR_OVERLOADED},
    {"overloaded_error", APIERROR_OVERLOADED},
    {"rate_limit_exceeded", APIERROR_RATE_LIMIT},
    {"server_error", APIERROR_OTHER},
    {"rate_limit_exceeded_not", APIERROR_OTHER},
};

/* Each known word, as the code and as the type, in the nested and the flat shape. */
START_TEST(words_in_every_place)
{
    static const char *const shapes[] = {
        "{\"error\":{\"message\":\"m\",\"code\":\"%s\"}}",
        "{\"error\":{\"type\":\"%s\",\"message\":\"m\",\"code\":null}}",
        "{\"error\":{\"code\":\"%s\",\"type\":\"invalid_request_error\"}}",
        "{\"type\":\"error\",\"code\":\"%s\",\"message\":\"m\"}",
        "{\"type\":\"error\",\"error\":{\"code\":\"%s\"}}",
    };

    for (size_t s = 0; s < COUNT(shapes); s++)
        for (size_t w = 0; w < COUNT(words); w++) {
            const char *at = strstr(shapes[s], "%s");
            struct apierror e;
            struct buf body;
            buf_init(&body, 512);
            (void)buf_add(&body, shapes[s], (size_t)(at - shapes[s]));
            (void)buf_add_str(&body, str_from(words[w].word));
            (void)buf_add_str(&body, str_from(at + 2));
            apierror_parse(buf_str(&body), &e);
            buf_deinit(&body);
            ck_assert_msg(e.kind == words[w].kind, "%s in %s", words[w].word, shapes[s]);
        }
}
END_TEST

/* Every prefix of every body, in memory of its own size. */
START_TEST(any_cut_is_survived)
{
    for (size_t i = 0; i < COUNT(rows); i++)
        for (size_t n = 0; n <= strlen(rows[i].body); n++) {
            char *copy = malloc(n + !n);
            struct apierror e;
            memcpy(copy, rows[i].body, n);
            apierror_parse((struct str){copy, n}, &e);
            free(copy);
            if (e.code[sizeof e.code - 1] || e.message[sizeof e.message - 1])
                ck_abort_msg("%s", rows[i].body);
        }
}
END_TEST

START_TEST(long_texts_are_cut)
{
    struct apierror e;
    struct buf b;

    buf_init(&b, 4096);
    (void)buf_printf(&b, "{\"error\":{\"code\":\"%0100d\",\"message\":\"%0400d try again in 3s\"}}",
                     0, 0);
    apierror_parse(buf_str(&b), &e);
    ck_assert_uint_eq(strlen(e.code), sizeof e.code - 1);
    ck_assert_uint_eq(strlen(e.message), sizeof e.message - 1);
    ck_assert(e.has_hint); /* found although the kept message ends before it */
    ck_assert_uint_eq(e.hint_ms, 3000);
    buf_deinit(&b);
}
END_TEST

START_TEST(huge_bodies_are_not_looked_at)
{
    static const char head[] = "{\"error\":{\"code\":\"slow_down\"},\"x\":\"";
    const size_t n = 1024 * 1024;
    char *body = malloc(n + 1);
    struct apierror e;

    memset(body, 'x', n + 1);
    memcpy(body, head, sizeof head - 1);
    apierror_parse((struct str){body, n}, &e);
    ck_assert_int_eq(e.kind, APIERROR_OVERLOADED);
    apierror_parse((struct str){body, n + 1}, &e);
    ck_assert_int_eq(e.kind, APIERROR_NONE);
    free(body);
}
END_TEST

START_TEST(keys_in_messages_are_masked)
{
    struct apierror e;

    apierror_parse(
        STR("{\"error\":{\"message\":\"Incorrect API key: sk-proj-AbC_123. See sk-x\"}}"), &e);
    ck_assert_str_eq(e.message, "Incorrect API key: sk-************. See sk-*");
}
END_TEST

START_TEST(waits_in_messages)
{
    static const struct {
        const char *message;
        int64_t ms; /* -1: none */
    } cases[] = {
        {"Rate limit reached. Please try again in 9.816s. Visit https://x.", 9816},
        {"Please try again in 976ms.", 976},
        {"Please try again in 6m0s.", 360000},
        {"Please try again in 1h2m3.5s", 3723500},
        {"TRY AGAIN IN 20s", 20000},
        {"try again in 20s, or later", 20000},
        {"Please retry after 12 seconds.", 12000},
        {"Please retry after 1 second. To increase", 1000},
        {"Please retry in 57.3s.", 57300},
        {"try again in 2 minutes", 120000},
        {"try again in 1 hour", 3600000},
        {"try again in 1 day", 86400000},
        {"try again in 500 milliseconds", 500},
        {"try again in 1.5 sec", 1500},
        {"try again in  3 s", 3000},
        {"try again in 0 seconds", 0},
        {"try again in 0s", 0},
        {"try again in a moment; retry after 5 seconds", 5000},
        {"try again in vain, then try again in 4s", 4000},
        {"try again after 7s", 7000},
        {"try again in 5 attempts", -1},
        {"retry after 30", -1},
        {"try again in", -1},
        {"try again in ", -1},
        {"try again in -5s", -1},
        {"try again in 1e9s", -1},
        {"try again in 99999999999999999999s", -1},
        {"try again in 9999999999999999999999999999 seconds", -1},
        {"try again in ...", -1},
        {"wait 5s", -1},
        {"", -1},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        uint64_t ms = 4711;
        bool found = apierror_message_hint(str_from(cases[i].message), &ms);
        ck_assert_msg(found == (cases[i].ms >= 0), "%s", cases[i].message);
        ck_assert_msg(ms == (found ? (uint64_t)cases[i].ms : 4711), "%s: %llu", cases[i].message,
                      (unsigned long long)ms);
    }
}
END_TEST

START_TEST(what_is_written_is_json)
{
    char nasty[257];
    struct apierror e;
    struct buf b;

    for (int i = 0; i < 255; i++)
        nasty[i] = (char)(i + 1);
    nasty[255] = '\0';
    buf_init(&b, 4096);
    ck_assert_int_eq(apierror_write(&b, nasty, "server_error", "dns_failed"), 0);
    (void)buf_addc(&b, '\0');
    cJSON *tree = cJSON_Parse(b.p);
    ck_assert_ptr_nonnull(tree);
    const cJSON *error = cJSON_GetObjectItemCaseSensitive(tree, "error");
    ck_assert(cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(error, "param")));
    ck_assert_str_eq(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(error, "code")),
                     "dns_failed");
    cJSON_Delete(tree);
    buf_reset(&b, 4096);
    ck_assert_int_eq(apierror_write(&b, "m", NULL, NULL), 0);
    ck_assert(
        str_eq(buf_str(&b),
               STR("{\"error\":{\"message\":\"m\",\"type\":null,\"param\":null,\"code\":null}}")));
    buf_reset(&b, 4096);
    ck_assert_int_eq(apierror_write(&b, "hello", "t", "slow_down"), 0);
    apierror_parse(buf_str(&b), &e);
    ck_assert_int_eq(e.kind, APIERROR_OVERLOADED);
    ck_assert_str_eq(e.message, "hello");
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
        int r = apierror_write(&b, message, "t", "c");
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
        ck_assert_int_lt(apierror_write(&b, "message", "t", "c"), 0);
        buf_deinit(&b);
    }
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "apierror");

    tcase_add_test(tcase, bodies);
    tcase_add_test(tcase, words_in_every_place);
    tcase_add_test(tcase, any_cut_is_survived);
    tcase_add_test(tcase, long_texts_are_cut);
    tcase_add_test(tcase, huge_bodies_are_not_looked_at);
    tcase_add_test(tcase, keys_in_messages_are_masked);
    tcase_add_test(tcase, waits_in_messages);
    tcase_add_test(tcase, what_is_written_is_json);
    tcase_add_test(tcase, writing_fails_cleanly);
}
