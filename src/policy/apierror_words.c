/* The table of error codes, types and phrases, by provider.
 *
 * An error listed as QUOTA, KEY, MODEL, CONTEXT or CONTENT_POLICY is never retried at the same
 * target, and QUOTA and KEY put the key to rest. A word is not listed if one provider uses it for a
 * per-minute limit and another for an empty account; the status decides then. The same holds for
 * numbers that two providers use differently (1002, 1004). Sources: the error code pages of the
 * providers, as of November 2026; for codes without a page, responses that users report. */
#include "policy/apierror_words.h"

struct word_row {
    struct str word;
    struct apierror_meaning meaning;
};

#define KS(text, kind, status)                               \
    {                                                        \
        {text, sizeof(text) - 1}, {APIERROR_##kind, status}, \
    }
#define W(text, kind) KS(text, kind, 0)
#define S(text, status) KS(text, OTHER, status)

static const struct word_row words[] = {
    /* OpenAI: guides/error-codes */
    W("insufficient_quota", QUOTA),
    W("credit_balance_exhausted", QUOTA),
    W("organization_spend_limit_exceeded", QUOTA),
    W("project_spend_limit_exceeded", QUOTA),
    W("organization_usage_limit_exceeded", QUOTA),
    W("billing_hard_limit_reached", QUOTA),
    W("billing_not_active", QUOTA),
    W("invalid_api_key", KEY), /* StepFun, too */
    W("account_deactivated", KEY),
    W("model_not_found", MODEL),
    W("context_length_exceeded", CONTEXT),
    W("content_policy_violation", CONTENT_POLICY),
    W("content_filter", CONTENT_POLICY),
    W("moderation_blocked", CONTENT_POLICY),
    W("slow_down", OVERLOADED),
    W("server_is_overloaded", OVERLOADED),
    W("rate_limit_exceeded", RATE_LIMIT),
    W("too_many_requests", RATE_LIMIT),
    W("usage_limit_reached", RATE_LIMIT), /* Codex's backend; its fields name the wait */
    S("invalid_request_error", 400),
    S("invalid_prompt", 400),
    S("server_error", 500),
    /* Anthropic: api/errors. An empty balance is a 400 with a phrase; the monthly limit of a tier
     * is a 429 with this error_code in its details. */
    W("enforced_spend_limit_reached", QUOTA),
    KS("billing_error", QUOTA, 402),
    W("authentication_error", KEY), /* DeepSeek, too */
    KS("overloaded_error", OVERLOADED, 529),
    W("rate_limit_error", RATE_LIMIT),
    S("permission_error", 403),
    S("not_found_error", 404),
    S("request_too_large", 413),
    S("api_error", 500),
    S("timeout_error", 504),
    /* Azure OpenAI */
    W("DeploymentNotFound", MODEL),
    W("ResponsibleAIPolicyViolation", CONTENT_POLICY),
    W("RateLimitReached", RATE_LIMIT),
    /* GitHub Models, GitHub Copilot */
    W("unknown_model", MODEL),
    W("tokens_limit_reached", CONTEXT),
    W("model_max_prompt_tokens_exceeded", CONTEXT),
    /* Google: canonical codes (google.rpc.Code), and the reason in ErrorInfo */
    W("unauthenticated", KEY),
    W("API_KEY_INVALID", KEY),
    W("unavailable", OVERLOADED),
    W("resource_exhausted", RATE_LIMIT), /* per minute or per day */
    S("invalid_argument", 400),
    S("failed_precondition", 400),
    S("permission_denied", 403),
    S("not_found", 404),
    /* Moonshot: docs/api/errors. An account without credit gets a 429. */
    W("exceeded_current_quota_error", QUOTA),
    W("invalid_authentication_error", KEY),
    W("incorrect_api_key_error", KEY),
    W("engine_overloaded_error", OVERLOADED),
    W("rate_limit_reached_error", RATE_LIMIT),
    S("permission_denied_error", 403),
    S("resource_not_found_error", 404),
    /* MiniMax: api-reference/errorcode. An account without credit gets a 402, a 429 or a 500. */
    W("insufficient_balance_error", QUOTA),
    W("authorized_error", KEY),
    W("1008", QUOTA),
    W("2049", KEY),
    /* Zhipu, Z.AI: api/api-code. The status is 429, as for rate limits (1302 to 1305, 1308,
     * 1310). */
    W("1113", QUOTA), /* in arrears, or no resource package */
    W("1309", QUOTA), /* the plan has expired */
    W("1111", KEY),   /* the account does not exist */
    W("1112", KEY),   /* the account is locked */
    W("1121", KEY),   /* the account is locked for a violation */
    W("1211", MODEL),
    W("1261", CONTEXT),
    W("1301", CONTENT_POLICY),
    /* Alibaba Model Studio: help/en/model-studio/error-code. Its AllocationQuota is per minute,
     * except for a free quota that is used up; see the phrases. */
    W("Arrearage", QUOTA),
    W("PrepaidBillOverdue", QUOTA),
    W("PostpaidBillOverdue", QUOTA),
    W("AllocationQuota.FreeTierOnly", QUOTA),
    W("InvalidApiKey", KEY),
    W("ModelNotFound", MODEL),
    W("DataInspectionFailed", CONTENT_POLICY),
    W("data_inspection_failed", CONTENT_POLICY),
    W("Throttling", RATE_LIMIT),
    W("Throttling.RateQuota", RATE_LIMIT),
    W("Throttling.BurstRate", RATE_LIMIT),
    W("Throttling.AllocationQuota", RATE_LIMIT),
    W("LimitRequests", RATE_LIMIT),
    W("limit_requests", RATE_LIMIT),
    W("limit_burst_rate", RATE_LIMIT),
    S("InvalidParameter", 400), /* Volcengine, too */
    /* Baidu Qianfan: the error pages of its V2 API and of AppBuilder */
    W("BILLING_INSUFFICIENT_BALANCE", QUOTA),
    W("QUOTA_USER_DAILY_FREE", QUOTA), /* until the account is paid for */
    W("invalid_iam_token", KEY),
    W("tokens_too_long", CONTEXT),
    W("characters_too_long", CONTEXT),
    W("rpm_rate_limit_exceeded", RATE_LIMIT),
    W("tpm_rate_limit_exceeded", RATE_LIMIT),
    /* Volcengine Ark: docs/82379/1299023. An account without credit gets a 403. */
    W("AccountOverdueError", QUOTA),
    W("ServiceOverdue", QUOTA),
    W("SetLimitExceeded", QUOTA), /* the limit set by the owner; the service is paused */
    W("AuthenticationError", KEY),
    W("InvalidEndpoint.NotFound", MODEL),
    W("InvalidEndpointOrModel.NotFound", MODEL),
    W("ModelNotOpen", MODEL),
    W("SensitiveContentDetected", CONTENT_POLICY),
    W("SensitiveContentDetected.SevereViolation", CONTENT_POLICY),
    W("SensitiveContentDetected.Violence", CONTENT_POLICY),
    W("InputTextSensitiveContentDetected", CONTENT_POLICY),
    W("InputImageSensitiveContentDetected", CONTENT_POLICY),
    W("OutputTextSensitiveContentDetected", CONTENT_POLICY),
    W("OutputImageSensitiveContentDetected", CONTENT_POLICY),
    W("InputTextRiskDetection", CONTENT_POLICY),
    W("InputImageRiskDetection", CONTENT_POLICY),
    W("OutputTextRiskDetection", CONTENT_POLICY),
    W("OutputImageRiskDetection", CONTENT_POLICY),
    W("ServerOverloaded", OVERLOADED),
    /* Tencent Hunyuan: document/api/1729/101847 */
    W("FailedOperation.ResourcePackExhausted", QUOTA),
    W("FailedOperation.FreeResourcePackExhausted", QUOTA),
    W("FailedOperation.ServiceStopArrears", QUOTA),
    W("ResourceUnavailable.InArrears", QUOTA),
    W("ResourceUnavailable.LowBalance", QUOTA),
    W("ResourceInsufficient.ChargeResourceExhausted", QUOTA),
    W("AuthFailure.InvalidSecretId", KEY),
    W("AuthFailure.SecretIdNotFound", KEY),
    W("FailedOperation.EngineServerLimitExceeded", OVERLOADED),
    W("RequestLimitExceeded", RATE_LIMIT),
    /* SiliconFlow: faqs/error-code */
    W("30001", QUOTA),
    W("20012", MODEL),
    /* OpenRouter: api_reference/limits; the limit_source in an error's metadata */
    W("openrouter_in_flight_budget", RATE_LIMIT),
    /* Groq: docs/errors, docs/spend-limits */
    W("blocked_api_access", QUOTA),
    W("organization_restricted", KEY),
    W("model_decommissioned", MODEL),
    /* Mistral */
    W("invalid_model", MODEL), /* Baidu, too */
    W("service_tier_capacity_exceeded", OVERLOADED),
    /* Cerebras, Vercel, Novita, one-api and new-api, LiteLLM, llama.cpp, and words of several */
    W("payment_required", QUOTA),
    W("wrong_api_key", KEY),
    W("insufficient_funds", QUOTA),
    W("insufficient_balance", QUOTA),
    W("insufficient_credit", QUOTA),
    W("insufficient_credits", QUOTA),
    W("NOT_ENOUGH_BALANCE", QUOTA),
    W("insufficient_user_quota", QUOTA),
    W("pre_consume_token_quota_failed", QUOTA),
    W("sensitive_words_detected", CONTENT_POLICY),
    W("ContextWindowExceededError", CONTEXT),
    W("exceed_context_size_error", CONTEXT),
};
#undef W
#undef S
#undef KS

struct apierror_meaning apierror_word(struct str word)
{
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (str_ieq(word, words[i].word))
            return words[i].meaning;
    return (struct apierror_meaning){APIERROR_OTHER, 0};
}

/* --- phrases ---------------------------------------------------------------------------------- */

#define P(text, kind)                             \
    {                                             \
        {text, sizeof(text) - 1}, APIERROR_##kind \
    }
static const struct {
    struct str phrase;
    enum apierror_kind kind;
} phrases[] = {
    P("insufficient balance", QUOTA),    /* DeepSeek, MiniMax, Moonshot, Z.AI */
    P("balance is insufficient", QUOTA), /* SiliconFlow */
    P("insufficient account balance", QUOTA),
    P("not enough balance", QUOTA),
    P("account has an overdue balance", QUOTA),                    /* Volcengine */
    P("exhausted its free trial quota", QUOTA),                    /* ... */
    P("make sure your account is in good standing", QUOTA),        /* Alibaba */
    P("free allocated quota exceeded", QUOTA),                     /* ... */
    P("credit balance is too low", QUOTA),                         /* Anthropic */
    P("reached your specified api usage limits", QUOTA),           /* ... */
    P("reached your specified workspace api usage limits", QUOTA), /* ... */
    P("prepayment credits are depleted", QUOTA),                   /* Google */
    P("used all available credits", QUOTA),                        /* xAI */
    P("monthly spending limit", QUOTA),                            /* xAI, Fireworks */
    P("api calls / month", QUOTA),  /* Cohere's trial keys; the per-minute limit says "/ minute" */
    P("key limit exceeded", QUOTA), /* OpenRouter */
    P("credit limit exceeded", QUOTA),                            /* Together */
    P("inactive subscription", QUOTA),                            /* Mistral */
    P("\xe4\xbd\x99\xe9\xa2\x9d\xe4\xb8\x8d\xe8\xb6\xb3", QUOTA), /* "yu'e buzu": no balance */
    P("\xe6\xac\xa0\xe8\xb4\xb9", QUOTA),                         /* "qianfei": in arrears */
    P("api key not valid", KEY),                                  /* Google, under a 400 */
    P("incorrect api key provided", KEY),                         /* xAI, under a 400 */
    P("invalid api key", KEY),
    P("not found the model", MODEL),                            /* Moonshot */
    P("maximum context length", CONTEXT),                       /* vLLM, Mistral, DeepSeek */
    P("maximum prompt length", CONTEXT),                        /* xAI */
    P("exceeded model token limit", CONTEXT),                   /* Moonshot */
    P("context window exceeds limit", CONTEXT),                 /* MiniMax */
    P("range of input length should be", CONTEXT),              /* Alibaba */
    P("exceeds the context window", CONTEXT),                   /* OpenAI */
    P("exceeds the available context size", CONTEXT),           /* llama.cpp */
    P("exceeds the maximum number of tokens allowed", CONTEXT), /* Google */
};
#undef P

static bool says(struct str message, struct str phrase)
{
    return str_ifind(message, phrase) >= 0;
}

enum apierror_kind apierror_phrase(struct str m)
{
    if (str_istarts(m, STR("prompt is too long"))) /* Anthropic */
        return APIERROR_CONTEXT;
    if (str_istarts(m, STR("the model ")) && says(m, STR("does not exist")))
        return APIERROR_MODEL;
    if (str_istarts(m, STR("model ")) && says(m, STR("not found")))
        return APIERROR_MODEL;
    for (size_t i = 0; i < sizeof(phrases) / sizeof(phrases[0]); i++)
        if (says(m, phrases[i].phrase))
            return phrases[i].kind;
    /* Google's INVALID_ARGUMENT and NOT_FOUND say no more than the status, so the message decides. */
    if (str_istarts(m, STR("api key ")) && (says(m, STR("not valid")) || says(m, STR("expired"))))
        return APIERROR_KEY;
    if (says(m, STR("input token count")) && says(m, STR("exceeds the maximum")))
        return APIERROR_CONTEXT;
    if ((str_istarts(m, STR("models/")) && says(m, STR("is not found"))) ||
        (str_istarts(m, STR("publisher model ")) && says(m, STR("not found"))))
        return APIERROR_MODEL;
    return APIERROR_OTHER;
}

bool apierror_is_throttling(struct str message)
{
    return says(message, STR("allocated quota exceeded")) &&
           !says(message, STR("free allocated quota exceeded"));
}
