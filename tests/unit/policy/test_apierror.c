/* Error objects of many servers, and what they mean. */

#include "policy/apierror.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
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
    /* several in an array: the first that says something */
    {"{\"error\":[{\"code\":503,\"message\":\"m\"}]}", APIERROR_OTHER, "503", "", "m", 503},
    {"{\"error\":[{},\"\",null,{\"code\":\"insufficient_quota\"},{\"code\":\"slow_down\"}]}",
     APIERROR_QUOTA, "insufficient_quota", "", "", 0},
    {"{\"error\":[\"boom\"],\"choices\":[]}", APIERROR_OTHER, "", "", "boom", 0},
    {"{\"choices\":[{\"error\":[{\"code\":502,\"message\":\"m\"}]}]}", APIERROR_OTHER, "502", "",
     "m", 502},
    {"{\"error\":[]}", APIERROR_NONE, "", "", "", 0},
    {"{\"error\":[{}]}", APIERROR_NONE, "", "", "", 0},
    {"{\"error\":[null,0,[{\"code\":502}]]}", APIERROR_NONE, "", "", "", 0},
    {"{\"object\":\"fine_tuning.job\",\"error\":[{\"code\":\"x\"}]}", APIERROR_NONE, "", "", "", 0},
    {"{\"detail\":\"Not Found\"}", APIERROR_NONE, "", "", "Not Found", 0},
    {"{\"detail\":[{\"loc\":[]}]}", APIERROR_NONE, "", "", "", 0},
    {"{\"message\":\"ok\"}", APIERROR_NONE, "", "", "ok", 0},
    {"{\"message\":\"m\",\"code\":\"insufficient_quota\"}", APIERROR_QUOTA, "insufficient_quota",
     "", "m", 0},
    /* good responses */
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
    /* OpenRouter, inside a choice */
    {"{\"choices\":[{\"error\":{\"code\":\"insufficient_quota\"}}]}", APIERROR_QUOTA,
     "insufficient_quota", "", "", 0},
    {"{\"choices\":[{\"error\":null,\"finish_reason\":\"stop\"},{\"finish_reason\":\"error\",\"error\":"
     "{\"code\":502,\"message\":\"m\"}}],\"error\":null}",
     APIERROR_OTHER, "502", "", "m", 502},
    {"{\"choices\":[{\"finish_reason\":\"error\",\"message\":{\"content\":\"half\"}}]}",
     APIERROR_OTHER, "", "", "", 0},
    {"{\"choices\":[{\"finish_reason\":\"stop\",\"message\":{\"error\":{\"code\":502},"
     "\"finish_reason\":\"error\"}}]}",
     APIERROR_NONE, "", "", "", 0},
    {"{\"choices\":[{\"error\":{}},{\"error\":\"\"}]}", APIERROR_NONE, "", "", "", 0},
    /* a status of its own, however it is told */
    {"{\"error\":{\"message\":\"m\",\"type\":\"invalid_request_error\"}}", APIERROR_OTHER, "",
     "invalid_request_error", "m", 400},
    {"{\"error\":{\"message\":\"m\",\"type\":\"x\",\"status_code\":400}}", APIERROR_OTHER, "", "x",
     "m", 400},
    {"{\"error\":{\"message\":\"m\"},\"status_code\":404}", APIERROR_OTHER, "", "", "m", 404},
    {"{\"type\":\"error\",\"error\":{\"type\":\"permission_error\",\"message\":\"m\"}}",
     APIERROR_OTHER, "", "permission_error", "m", 403},
    {"{\"error\":{\"message\":\"m\",\"type\":\"invalid_request_error\",\"code\":500}}",
     APIERROR_OTHER, "500", "invalid_request_error", "m", 500},
    {"{\"error\":{\"code\":400,\"message\":\"m\",\"status\":\"INVALID_ARGUMENT\"}}", APIERROR_OTHER,
     "400", "", "m", 400},
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

/* Error objects as the providers document them, or as users have them from there. */
static const struct {
    const char *error; /* within {"error":...} */
    enum apierror_kind kind;
} upstreams[] = {
    /* Moonshot */
    {"{\"message\":\"Your account is suspended\",\"type\":\"exceeded_current_quota_error\"}",
     APIERROR_QUOTA},
    {"{\"message\":\"Invalid Authentication\",\"type\":\"invalid_authentication_error\"}",
     APIERROR_KEY},
    {"{\"message\":\"busy\",\"type\":\"engine_overloaded_error\"}", APIERROR_OVERLOADED},
    {"{\"message\":\"m\",\"type\":\"rate_limit_reached_error\"}", APIERROR_RATE_LIMIT},
    {"{\"message\":\"Invalid request: Your request exceeded model token limit: 262144\","
     "\"type\":\"invalid_request_error\"}",
     APIERROR_CONTEXT},
    /* MiniMax */
    {"{\"message\":\"no\",\"type\":\"insufficient_balance_error\",\"http_code\":\"429\"}",
     APIERROR_QUOTA},
    {"{\"message\":\"insufficient balance (1008)\",\"type\":\"api_error\"}", APIERROR_QUOTA},
    /* DeepSeek */
    {"{\"message\":\"Insufficient Balance\",\"type\":\"unknown_error\",\"param\":null,\"code\":"
     "\"invalid_request_error\"}",
     APIERROR_QUOTA},
    {"{\"message\":\"Authentication Fails\",\"type\":\"authentication_error\",\"code\":"
     "\"invalid_request_error\"}",
     APIERROR_KEY},
    /* Zhipu, Z.AI */
    {"{\"code\":\"1113\",\"message\":\"m\"}", APIERROR_QUOTA},
    {"{\"code\":1113,\"message\":\"m\"}", APIERROR_QUOTA},
    {"{\"code\":\"x\",\"message\":\"\xe4\xbd\x99\xe9\xa2\x9d\xe4\xb8\x8d\xe8\xb6\xb3\"}",
     APIERROR_QUOTA},
    {"{\"code\":\"1302\",\"message\":\"Rate limit reached for requests\"}", APIERROR_OTHER},
    {"{\"code\":\"1002\",\"message\":\"rate limit\"}", APIERROR_OTHER},
    {"{\"code\":\"1261\",\"message\":\"Prompt exceeds max length\"}", APIERROR_CONTEXT},
    /* Alibaba */
    {"{\"code\":\"Arrearage\",\"type\":\"Arrearage\",\"message\":\"m\"}", APIERROR_QUOTA},
    {"{\"code\":\"insufficient_quota\",\"type\":\"insufficient_quota\",\"message\":\"Allocated "
     "quota exceeded, please increase your quota limit.\"}",
     APIERROR_RATE_LIMIT},
    {"{\"code\":\"Throttling.AllocationQuota\",\"message\":\"m\"}", APIERROR_RATE_LIMIT},
    {"{\"code\":\"Throttling.AllocationQuota\",\"message\":\"Free allocated quota exceeded.\"}",
     APIERROR_QUOTA},
    {"{\"code\":\"AllocationQuota.FreeTierOnly\",\"message\":\"m\"}", APIERROR_QUOTA},
    {"{\"code\":\"data_inspection_failed\",\"message\":\"m\"}", APIERROR_CONTENT_POLICY},
    {"{\"code\":\"InvalidApiKey\",\"message\":\"m\"}", APIERROR_KEY},
    /* Baidu, Volcengine, Tencent */
    {"{\"code\":\"BILLING_INSUFFICIENT_BALANCE\",\"message\":\"m\"}", APIERROR_QUOTA},
    {"{\"code\":\"AccountOverdueError\",\"type\":\"Forbidden\",\"message\":\"m\"}", APIERROR_QUOTA},
    {"{\"code\":\"InvalidEndpointOrModel.NotFound\",\"message\":\"m\"}", APIERROR_MODEL},
    {"{\"code\":\"FailedOperation.ResourcePackExhausted\",\"message\":\"m\"}", APIERROR_QUOTA},
    /* Anthropic, Google, xAI, Fireworks, OpenRouter, Groq, Cerebras, new-api */
    {"{\"type\":\"invalid_request_error\",\"message\":\"Your credit balance is too low to access "
     "the Anthropic API.\"}",
     APIERROR_QUOTA},
    {"{\"type\":\"invalid_request_error\",\"message\":\"You have reached your specified workspace API "
     "usage limits. You will regain access on 2026-12-01.\"}",
     APIERROR_QUOTA},
    {"{\"type\":\"rate_limit_error\",\"message\":\"m\",\"details\":{\"error_code\":"
     "\"enforced_spend_limit_reached\"}}",
     APIERROR_QUOTA},
    {"{\"type\":\"rate_limit_error\",\"message\":\"m\",\"details\":{\"error_code\":\"x\"}}",
     APIERROR_RATE_LIMIT},
    {"{\"type\":\"rate_limit_error\",\"message\":\"m\",\"details\":null}", APIERROR_RATE_LIMIT},
    /* Cohere */
    {"\"You are using a Trial key, which is limited to 1000 API calls / month.\"", APIERROR_QUOTA},
    {"\"You are using a Trial key, which is limited to 40 API calls / minute.\"", APIERROR_OTHER},
    {"{\"code\":429,\"status\":\"RESOURCE_EXHAUSTED\",\"message\":\"Your prepayment credits are "
     "depleted.\"}",
     APIERROR_QUOTA},
    {"{\"code\":429,\"status\":\"RESOURCE_EXHAUSTED\",\"message\":\"You exceeded your current "
     "quota\"}",
     APIERROR_RATE_LIMIT},
    {"{\"code\":400,\"status\":\"INVALID_ARGUMENT\",\"message\":\"API key not valid.\"}",
     APIERROR_KEY},
    {"\"Your team x has either used all available credits or reached its monthly spending limit.\"",
     APIERROR_QUOTA},
    {"\"Incorrect API key provided: xa***\"", APIERROR_KEY},
    {"{\"message\":\"Key limit exceeded (monthly limit).\",\"code\":403}", APIERROR_QUOTA},
    {"{\"code\":402,\"message\":\"m\",\"metadata\":{\"limit_source\":\"openrouter_in_flight_budget\"}}",
     APIERROR_RATE_LIMIT},
    {"{\"code\":402,\"message\":\"m\",\"metadata\":{\"limit_source\":\"openrouter_credits\"}}",
     APIERROR_QUOTA},
    {"{\"code\":\"blocked_api_access\",\"message\":\"m\"}", APIERROR_QUOTA},
    {"{\"code\":\"wrong_api_key\",\"message\":\"m\"}", APIERROR_KEY},
    {"{\"code\":\"insufficient_user_quota\",\"type\":\"new_api_error\",\"message\":\"m\"}",
     APIERROR_QUOTA},
    {"{\"code\":400,\"status\":\"INVALID_ARGUMENT\",\"message\":\"The input token count (9) exceeds the "
     "maximum number of tokens (8).\"}",
     APIERROR_CONTEXT},
    {"{\"code\":404,\"message\":\"Publisher Model `projects/p/m` was not found\"}", APIERROR_MODEL},
    {"{\"message\":\"model 'm' not found, try pulling it first\"}", APIERROR_MODEL}, /* Ollama */
    /* what only sounds like it */
    {"{\"code\":\"rate_limit_exceeded\",\"message\":\"You exceeded your quota of requests\"}",
     APIERROR_RATE_LIMIT},
    {"{\"message\":\"quota exceeded, try again later\"}", APIERROR_OTHER},
    {"{\"message\":\"The balance sheet is insufficient\"}", APIERROR_OTHER},
};

START_TEST(c04_words_of_many_providers)
{
    for (size_t i = 0; i < COUNT(upstreams); i++) {
        struct apierror e;
        struct buf body;

        buf_init(&body, 1024);
        ck_assert_int_eq(buf_printf(&body, "{\"error\":%s}", upstreams[i].error), 0);
        apierror_parse(buf_str(&body), &e);
        buf_deinit(&body);
        ck_assert_msg(e.kind == upstreams[i].kind, "%s: kind %d", upstreams[i].error, e.kind);
    }
}
END_TEST

/* Loose shapes may be good responses: only an error's status makes errors of them. */
/* MiniMax's, beside a response: 0 is none, and so is what stands beside choices. */
START_TEST(c04_base_resp)
{
    static const struct {
        const char *body;
        enum apierror_kind kind;
        unsigned status;
    } cases[] = {
        {"{\"choices\":null,\"base_resp\":{\"status_code\":1008,\"status_msg\":\"m\"}}",
         APIERROR_QUOTA, 402},
        {"{\"choices\":[],\"base_resp\":{\"status_code\":1002,\"status_msg\":\"m\"}}",
         APIERROR_RATE_LIMIT, 429},
        {"{\"base_resp\":{\"status_code\":2013,\"status_msg\":\"m\"}}", APIERROR_OTHER, 400},
        {"{\"base_resp\":{\"status_code\":1000,\"status_msg\":\"m\"}}", APIERROR_OTHER, 0},
        {"{\"base_resp\":{\"status_code\":0,\"status_msg\":\"success\"}}", APIERROR_NONE, 0},
        {"{\"choices\":[{\"index\":0}],\"base_resp\":{\"status_code\":1027}}", APIERROR_NONE, 0},
    };
    struct apierror e;

    for (size_t i = 0; i < COUNT(cases); i++) {
        apierror_parse(str_from(cases[i].body), &e);
        ck_assert_msg(e.kind == cases[i].kind && e.status == cases[i].status, "%s: %d, %u",
                      cases[i].body, e.kind, e.status);
    }
}
END_TEST

START_TEST(c04_loose_shapes)
{
    static const struct {
        const char *body;
        enum apierror_kind kind, loose;
    } cases[] = {
        {"{\"code\":30001,\"message\":\"no\",\"data\":null}", APIERROR_QUOTA, APIERROR_QUOTA},
        {"{\"code\":403,\"reason\":\"x\",\"message\":\"not enough balance\"}", APIERROR_NONE,
         APIERROR_QUOTA},
        {"{\"detail\":\"Inactive subscription or usage limit reached\"}", APIERROR_NONE,
         APIERROR_QUOTA},
        {"{\"message\":\"hello\"}", APIERROR_NONE, APIERROR_OTHER},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct apierror e;
        apierror_parse(str_from(cases[i].body), &e);
        ck_assert_msg(e.kind == cases[i].kind && e.loose == cases[i].loose, "%s: %d, %d",
                      cases[i].body, e.kind, e.loose);
    }
}
END_TEST

START_TEST(c06_waits_in_fields)
{
    static const struct {
        const char *error;
        int64_t delay_ms; /* -1: none */
        uint64_t at_ms;
    } cases[] = {
        {"{\"type\":\"usage_limit_reached\",\"resets_at\":1767322100,\"resets_in_seconds\":4}",
         4000, 1767322100000},
        {"{\"resets_at\":1767322100}", -1, 1767322100000},
        {"{\"resets_at\":1767322100500}", -1, 1767322100500},
        {"{\"resets_at\":\"1767322100\"}", -1, 1767322100000},
        {"{\"resets_at\":\"2026-01-02T02:48:20Z\"}", -1, 1767322100000},
        {"{\"metadata\":{\"headers\":{\"X-RateLimit-Remaining\":\"0\","
         "\"X-RateLimit-Reset\":\"1767322100500\"}}}",
         -1, 1767322100500},
        {"{\"metadata\":{\"headers\":{}}}", -1, 0},
        {"{\"resets_at\":\"soon\",\"resets_in_seconds\":-4}", -1, 0},
        {"{\"retry_after\":1.25}", 1250, 0},
        {"{\"retry_after\":\"2\"}", 2000, 0},
        {"{\"retry_after_ms\":700}", 700, 0},
        {"{\"retry_after_seconds\":0}", 0, 0},
        {"{\"resets_in_seconds\":1e9}", -1, 0},
        {"{\"code\":429,\"status\":\"RESOURCE_EXHAUSTED\",\"details\":[{\"@type\":\"x.Help\"},"
         "{\"@type\":\"type.googleapis.com/google.rpc.RetryInfo\",\"retryDelay\":\"2.1s\"}]}",
         2100, 0},
        {"{\"details\":[{\"retryDelay\":21}]}", -1, 0},
        {"{\"details\":{\"retryDelay\":\"2s\"}}", -1, 0},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct apierror e;
        struct buf body;

        buf_init(&body, 1024);
        ck_assert_int_eq(buf_printf(&body, "{\"error\":%s}", cases[i].error), 0);
        apierror_parse(buf_str(&body), &e);
        buf_deinit(&body);
        ck_assert_msg(e.has_delay == (cases[i].delay_ms >= 0), "%s", cases[i].error);
        ck_assert_msg(!e.has_delay || e.delay_ms == (uint64_t)cases[i].delay_ms, "%s: %llu",
                      cases[i].error, (unsigned long long)e.delay_ms);
        ck_assert_msg(e.has_delay ? e.resets_at_ms == cases[i].at_ms || cases[i].at_ms == 0
                                  : e.resets_at_ms == cases[i].at_ms,
                      "%s: %llu", cases[i].error, (unsigned long long)e.resets_at_ms);
    }
}
END_TEST

START_TEST(c24_a_status_that_fits)
{
    static const struct {
        const char *error;
        unsigned status;
    } cases[] = {
        {"{\"type\":\"overloaded_error\"}", 529},
        {"{\"code\":\"server_is_overloaded\",\"type\":\"server_error\"}", 503},
        {"{\"code\":\"rate_limit_exceeded\"}", 429},
        {"{\"code\":\"insufficient_quota\"}", 429},
        {"{\"type\":\"billing_error\"}", 402},
        {"{\"code\":\"invalid_api_key\"}", 401},
        {"{\"code\":\"model_not_found\"}", 404},
        {"{\"code\":\"context_length_exceeded\"}", 400},
        {"{\"type\":\"invalid_request_error\"}", 400},
        {"{\"type\":\"server_error\"}", 500},
        {"{\"type\":\"api_error\"}", 500},
        {"{\"code\":503,\"message\":\"m\"}", 503},
        {"{\"message\":\"m\"}", 502},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct apierror e;
        struct buf body;

        buf_init(&body, 1024);
        ck_assert_int_eq(buf_printf(&body, "{\"error\":%s}", cases[i].error), 0);
        apierror_parse(buf_str(&body), &e);
        buf_deinit(&body);
        ck_assert_msg(apierror_status(&e) == cases[i].status, "%s: %u", cases[i].error,
                      apierror_status(&e));
    }
}
END_TEST

START_TEST(c04_a_new_response_that_failed)
{
    static const struct {
        const char *body;
        enum apierror_kind kind;
    } cases[] = {
        {"{\"object\":\"response\",\"status\":\"failed\",\"error\":{\"code\":\"server_error\","
         "\"message\":\"m\"},\"output\":[]}",
         APIERROR_OTHER},
        {"{\"object\":\"response\",\"status\":\"failed\",\"error\":{\"code\":"
         "\"rate_limit_exceeded\"}}",
         APIERROR_RATE_LIMIT},
        {"{\"object\":\"response\",\"status\":\"failed\",\"error\":null}", APIERROR_OTHER},
        {"{\"object\":\"response\",\"status\":\"failed\"}", APIERROR_OTHER},
        {"{\"object\":\"response\",\"status\":\"cancelled\",\"error\":null}", APIERROR_NONE},
        {"{\"object\":\"response\",\"status\":\"incomplete\",\"error\":null}", APIERROR_NONE},
        {"{\"object\":\"response\",\"status\":\"completed\",\"output\":[{\"status\":\"failed\"}]}",
         APIERROR_NONE},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct apierror e;
        apierror_parse_response(str_from(cases[i].body), &e);
        ck_assert_msg(e.kind == cases[i].kind, "%s: %d", cases[i].body, e.kind);
        apierror_parse(str_from(cases[i].body), &e); /* one that is stored is told as it is */
        ck_assert_msg(e.kind == APIERROR_NONE, "%s: %d", cases[i].body, e.kind);
    }
}
END_TEST

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

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "apierror");

    tcase_add_test(tcase, bodies);
    tcase_add_test(tcase, words_in_every_place);
    tcase_add_test(tcase, c04_words_of_many_providers);
    tcase_add_test(tcase, c04_base_resp);
    tcase_add_test(tcase, c04_loose_shapes);
    tcase_add_test(tcase, c04_a_new_response_that_failed);
    tcase_add_test(tcase, c06_waits_in_fields);
    tcase_add_test(tcase, c24_a_status_that_fits);
    tcase_add_test(tcase, any_cut_is_survived);
    tcase_add_test(tcase, long_texts_are_cut);
    tcase_add_test(tcase, huge_bodies_are_not_looked_at);
    tcase_add_test(tcase, keys_in_messages_are_masked);
}
