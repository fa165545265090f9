/* Determines the meaning of an error object from its code, its type or, without either, its
 * message: the table of codes, types and phrases, by provider, and the parser. */
#include "policy/apierror.h"

#include "base/escape.h"
#include "base/units.h"
#include "http/json.h"
#include "policy/hint.h"

#define BODY_MAX (1024 * 1024) /* a longer body is not parsed, because no error is that long */
#define HINT_TEXT_MAX 4096     /* the part of a message that is searched for a wait */

/* A time since 1970 is in milliseconds from this number on, and in seconds below it. */
#define EPOCH_MS_LEAST UINT64_C(100000000000)

/* --- codes and types -------------------------------------------------------------------------- */

/* An error listed as QUOTA, KEY, MODEL, CONTEXT or CONTENT_POLICY is never retried at the same
 * target, and QUOTA and KEY put the key to rest. A word is not listed if one provider uses it for a
 * per-minute limit and another for an empty account; the status decides then. The same holds for
 * numbers that two providers use differently (1002, 1004). Sources: the error code pages of the
 * providers, as of November 2026; for codes without a page, responses that users report. */

struct meaning {
    enum apierror_kind kind; /* OTHER: unknown, or only the status is known */
    unsigned status;         /* the HTTP status that it stands for; 0: the one of its kind */
};

struct word_row {
    struct str word;
    struct meaning meaning;
};

#define KS(text, kind, status)                               \
    {                                                        \
        {text, sizeof(text) - 1}, {APIERROR_##kind, status}, \
    }
#define W(text, kind) KS(text, kind, 0)
#define S(text, status) KS(text, OTHER, status)

static const struct word_row known_words[] = {
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

/* Returns the meaning of an error code or type, ignoring case. */
static struct meaning meaning_of(struct str word)
{
    for (size_t i = 0; i < sizeof(known_words) / sizeof(known_words[0]); i++)
        if (str_ieq(word, known_words[i].word))
            return known_words[i].meaning;
    return (struct meaning){APIERROR_OTHER, 0};
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

/* Returns the kind of error that a message describes. Only phrases that are as fixed as a code and
 * have one meaning count. */
static enum apierror_kind kind_of_phrase(struct str m)
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
    /* Google's INVALID_ARGUMENT and NOT_FOUND say no more than the status, so the message
     * decides. */
    if (str_istarts(m, STR("api key ")) && (says(m, STR("not valid")) || says(m, STR("expired"))))
        return APIERROR_KEY;
    if (says(m, STR("input token count")) && says(m, STR("exceeds the maximum")))
        return APIERROR_CONTEXT;
    if ((str_istarts(m, STR("models/")) && says(m, STR("is not found"))) ||
        (str_istarts(m, STR("publisher model ")) && says(m, STR("not found"))))
        return APIERROR_MODEL;
    return APIERROR_OTHER;
}

/* Whether the message says that the quota is per minute, whatever the error code is. */
static bool is_throttling(struct str message)
{
    return says(message, STR("allocated quota exceeded")) &&
           !says(message, STR("free allocated quota exceeded"));
}

/* --- the kind and the status ------------------------------------------------------------------ */

/* Returns the kind of an error from its texts. "Request too large for gpt-4o ... on tokens per min
 * (TPM): Limit 30000, Requested 40000" is a 429 with rate_limit_exceeded, but no wait makes the
 * request fit. It needs another model, like one that exceeds the context. */
static enum apierror_kind kind_of(const struct apierror *e, const char *google_status)
{
    const char *const said[] = {e->code, e->type, google_status};
    struct str message = str_from(e->message);
    enum apierror_kind kind = APIERROR_OTHER, phrase;

    if (str_istarts(message, STR("request too large for ")))
        return APIERROR_CONTEXT;
    if (is_throttling(message))
        return APIERROR_RATE_LIMIT;
    for (size_t i = 0; i < sizeof(said) / sizeof(said[0]) && kind == APIERROR_OTHER; i++)
        kind = meaning_of(str_from(said[i])).kind;
    if (kind != APIERROR_OTHER && kind != APIERROR_RATE_LIMIT)
        return kind;
    phrase = kind_of_phrase(message);
    if (phrase == APIERROR_QUOTA || (phrase != APIERROR_OTHER && kind == APIERROR_OTHER))
        return phrase; /* some providers report an empty account as a rate limit */
    return kind == APIERROR_OTHER && e->status == 402 ? APIERROR_QUOTA : kind;
}

unsigned apierror_status(const struct apierror *e)
{
    static const unsigned by_kind[] = {
        [APIERROR_NONE] = 502,       [APIERROR_OTHER] = 502,   [APIERROR_RATE_LIMIT] = 429,
        [APIERROR_OVERLOADED] = 503, [APIERROR_QUOTA] = 429,   [APIERROR_KEY] = 401,
        [APIERROR_MODEL] = 404,      [APIERROR_CONTEXT] = 400, [APIERROR_CONTENT_POLICY] = 400,
    };
    const char *const said[] = {e->code, e->type};

    if (e->status)
        return e->status;
    for (size_t i = 0; i < sizeof(said) / sizeof(said[0]); i++) {
        struct meaning m = meaning_of(str_from(said[i]));
        if (m.status && m.kind == e->kind) /* the kind came from this word */
            return m.status;
    }
    return by_kind[e->kind];
}

/* --- parsing ---------------------------------------------------------------------------------- */

/* Copies a string, unescaped, or a number. Any other value gives "". */
static void take_text(const struct json_value *v, char *out, size_t size)
{
    out[0] = '\0';
    if (v->type == JSON_STRING)
        (void)escape_undo_json(v->text, out, size);
    else if (v->type == JSON_NUMBER && v->text.n < size)
        (void)escape_undo_json(v->text, out, size);
}

/* Masks the word characters after each `mark`. A server may quote the key that it rejects, and the
 * message goes to the log. */
static void mask_behind(char *message, const char *mark)
{
    for (char *p = message; (p = strstr(p, mark)) != NULL;) {
        p += strlen(mark);
        while ((*p >= '0' && *p <= '9') || (*p >= 'A' && *p <= 'Z') || (*p >= 'a' && *p <= 'z') ||
               *p == '-' || *p == '_')
            *p++ = '*';
    }
}

static void take_message(const struct json_value *v, struct apierror *e)
{
    if (v->type != JSON_STRING)
        return;
    (void)escape_undo_json(v->text, e->message, sizeof e->message);
    mask_behind(e->message, "sk-");
    mask_behind(e->message, "AIza"); /* Google: "Consumer 'api_key:AIza...' has been suspended." */
    mask_behind(e->message, "api_key:");

    struct str text = v->text;
    if (text.n > HINT_TEXT_MAX)
        text.n = HINT_TEXT_MAX;
    e->has_hint = hint_in_message(text, &e->hint_ms);
}

/* Returns the status that `text` is, if it is one of an error, else 0. */
static unsigned error_status(const char *text)
{
    uint64_t n;

    return str_to_u64(str_from(text), &n) && n >= 400 && n <= 599 ? (unsigned)n : 0;
}

/* The keys that matter, at the top level of a body or in its `error`. */
enum {
    ERROR,
    MESSAGE,
    TYPE,
    CODE,
    STATUS,
    DETAIL,
    OBJECT,
    RESPONSE,
    CHOICES,
    STATUS_CODE,
    HTTP_CODE, /* MiniMax */
    BASE_RESP, /* MiniMax */
    MSG,
    WANTS
};

static void scan(struct str text, struct json_want wants[WANTS])
{
    static const struct str keys[WANTS] = {
        [ERROR] = {"error", 5},
        [MESSAGE] = {"message", 7},
        [TYPE] = {"type", 4},
        [CODE] = {"code", 4},
        [STATUS] = {"status", 6},
        [DETAIL] = {"detail", 6},
        [OBJECT] = {"object", 6},
        [RESPONSE] = {"response", 8},
        [CHOICES] = {"choices", 7},
        [STATUS_CODE] = {"status_code", 11},
        [HTTP_CODE] = {"http_code", 9},
        [BASE_RESP] = {"base_resp", 9},
        [MSG] = {"msg", 3},
    };

    for (int i = 0; i < WANTS; i++)
        wants[i].key = keys[i];
    (void)json_scan(text, wants, WANTS); /* values found in a body that was cut off count too */
}

static bool is_text(const struct json_want *w, struct str text)
{
    return w->value.type == JSON_STRING && str_eq(w->value.text, text);
}

/* Returns the status from a field beside an error's texts; 0 if there is none. */
static unsigned status_beside(struct json_want wants[WANTS])
{
    static const unsigned char places[] = {STATUS, STATUS_CODE, HTTP_CODE};
    unsigned status = 0;
    char text[64];

    for (size_t i = 0; i < sizeof(places) && status == 0; i++) {
        take_text(&wants[places[i]].value, text, sizeof text);
        status = error_status(text);
    }
    return status;
}

/* Returns the 4xx status of an error that is only known to be the client's fault; 0 if it is
 * not. */
static unsigned status_of_words(const struct apierror *e, const char *google_status)
{
    const char *const said[] = {e->code, e->type, google_status};

    for (size_t i = 0; i < sizeof(said) / sizeof(said[0]); i++) {
        unsigned status = meaning_of(str_from(said[i])).status;
        if (status >= 400 && status < 500)
            return status;
    }
    return 0;
}

/* Fills `e` from the fields of an error object. */
static void read_fields(struct json_want wants[WANTS], bool own_type, struct apierror *e)
{
    char google_status[64];

    take_text(&wants[CODE].value, e->code, sizeof e->code);
    if (own_type)
        take_text(&wants[TYPE].value, e->type, sizeof e->type);
    take_text(&wants[STATUS].value, google_status, sizeof google_status);
    take_message(&wants[MESSAGE].value, e);
    e->status = error_status(e->code);
    if (e->status == 0)
        e->status = status_beside(wants);
    e->kind = kind_of(e, google_status);
    if (e->kind == APIERROR_OTHER && e->status == 0)
        e->status = status_of_words(e, google_status);
}

/* --- waits in fields -------------------------------------------------------------------------- */

/* Converts a number, or a string that is one, to milliseconds. */
static bool decimal_of(const struct json_value *v, double unit_ms, uint64_t *ret_ms)
{
    return (v->type == JSON_NUMBER || v->type == JSON_STRING) &&
           units_decimal_ms(v->text, unit_ms, ret_ms);
}

/* Finds a retryDelay among Google's details: "2.1s", a google.protobuf.Duration. */
static bool read_details(struct str details, uint64_t *ret_ms)
{
    struct json_iter i = json_iter(details);
    struct json_value detail;

    while (json_next_element(&i, &detail)) {
        struct json_value delay = json_scan_one(detail.text, STR("retryDelay"));
        if (delay.type == JSON_STRING && units_go_duration(delay.text, ret_ms))
            return true;
    }
    return false;
}

/* Returns a time in ms since 1970; 0 if it is none. It may be in seconds or milliseconds, as a
 * number or a string, or in RFC 3339 format. */
static uint64_t time_of(const struct json_value *v)
{
    uint64_t ms;

    if (v->type == JSON_STRING && hint_rfc3339(v->text, &ms))
        return ms;
    if (!decimal_of(v, 1, &ms))
        return 0;
    return ms < EPOCH_MS_LEAST ? ms * 1000 : ms;
}

/* Returns the reset time in the header fields that OpenRouter quotes in the error; 0 if there is
 * none. */
static uint64_t time_in_metadata(const struct json_value *metadata)
{
    struct json_value headers, reset;
    uint64_t ms;

    if (metadata->type != JSON_OBJECT)
        return 0;
    headers = json_scan_one(metadata->text, STR("headers"));
    if (headers.type != JSON_OBJECT)
        return 0;
    reset = json_scan_one(headers.text, STR("X-RateLimit-Reset"));
    ms = time_of(&reset);
    return ms >= EPOCH_MS_LEAST ? ms : 0;
}

/* Reads the waits that fields of an error name. The caller reads the inner object first, and its
 * waits take precedence. */
static void read_waits(struct str text, struct apierror *e)
{
    enum { IN_SECONDS, AFTER_MS, AFTER_SECONDS, AFTER, AT, DETAILS, METADATA, KEYS };
    struct json_want w[KEYS] = {[IN_SECONDS] = {.key = STR("resets_in_seconds")},
                                [AFTER_MS] = {.key = STR("retry_after_ms")},
                                [AFTER_SECONDS] = {.key = STR("retry_after_seconds")},
                                [AFTER] = {.key = STR("retry_after")},
                                [AT] = {.key = STR("resets_at")},
                                [DETAILS] = {.key = STR("details")},
                                [METADATA] = {.key = STR("metadata")}};
    static const double unit_ms[] = {
        [IN_SECONDS] = 1000, [AFTER_MS] = 1, [AFTER_SECONDS] = 1000, [AFTER] = 1000};

    if (e->has_delay || e->resets_at_ms > 0)
        return;
    (void)json_scan(text, w, KEYS);
    for (int i = IN_SECONDS; i <= AFTER && !e->has_delay; i++)
        e->has_delay = decimal_of(&w[i].value, unit_ms[i], &e->delay_ms);
    if (!e->has_delay && w[DETAILS].value.type == JSON_ARRAY)
        e->has_delay = read_details(w[DETAILS].value.text, &e->delay_ms);
    e->resets_at_ms = time_of(&w[AT].value);
    if (e->resets_at_ms == 0 && !e->has_delay)
        e->resets_at_ms = time_in_metadata(&w[METADATA].value);
}

/* --- the formats ------------------------------------------------------------------------------ */

/* Reads {"error":{...}}. An empty object means that there was no error. */
static void read_error_object(struct str text, struct apierror *e)
{
    struct json_want wants[WANTS];

    if (text.n < 2 || str_trim((struct str){text.p + 1, text.n - 2}).n == 0)
        return;
    scan(text, wants);
    read_fields(wants, true, e);
    /* Nested members decide two kinds of errors. Anthropic's spend limit differs from a
     * rate_limit_error only by the error_code; OpenRouter's limit on requests in flight is a 402
     * but temporary, like a rate limit. */
    static const struct {
        struct str object, member;
    } places[] = {{{"details", 7}, {"error_code", 10}}, {{"metadata", 8}, {"limit_source", 12}}};
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        struct json_value value = json_scan_one(text, places[i].object);
        enum apierror_kind kind;
        char word[64];

        if (value.type != JSON_OBJECT)
            continue;
        value = json_scan_one(value.text, places[i].member);
        take_text(&value, word, sizeof word);
        kind = meaning_of(str_from(word)).kind;
        if (kind != APIERROR_OTHER)
            e->kind = kind;
    }
    read_waits(text, e);
}

/* Reads {"error":"text"}. The text is a message or a code; a code and a type may be beside it. */
static void read_error_text(struct json_want beside[WANTS], struct json_value text,
                            struct apierror *e)
{
    if (text.text.n == 0)
        return;
    beside[MESSAGE].value = text;
    read_fields(beside, true, e);
    if (e->kind == APIERROR_OTHER)
        e->kind = meaning_of(str_from(e->message)).kind;
}

static void read_one_error(struct json_want beside[WANTS], struct json_value value,
                           struct apierror *e)
{
    if (value.type == JSON_OBJECT)
        read_error_object(value.text, e);
    else if (value.type == JSON_STRING)
        read_error_text(beside, value, e);
}

/* Reads the value of `error`. In an array the first error that has content counts. */
static void read_error_value(struct json_want beside[WANTS], struct json_value value,
                             struct apierror *e)
{
    struct json_iter i = json_iter(value.text);
    struct json_value each;

    if (value.type != JSON_ARRAY)
        read_one_error(beside, value, e);
    while (value.type == JSON_ARRAY && e->kind == APIERROR_NONE && json_next_element(&i, &each))
        read_one_error(beside, each, e);
}

/* Reads MiniMax's base_resp, which is part of every response and comes with status 200. A
 * status_code of 0 is no error (api-reference/errorcode). */
static void read_base_resp(const struct json_value *v, struct apierror *e)
{
    static const struct {
        uint64_t code;
        enum apierror_kind kind;
        unsigned status;
    } codes[] = {
        {1002, APIERROR_RATE_LIMIT, 429},
        {1039, APIERROR_RATE_LIMIT, 429},
        {1004, APIERROR_KEY, 401},
        {1008, APIERROR_QUOTA, 402},
        {1026, APIERROR_CONTENT_POLICY, 400},
        {1027, APIERROR_CONTENT_POLICY, 400},
        {2013, APIERROR_OTHER, 400},
        {2049, APIERROR_KEY, 401},
    };
    struct json_want w[] = {{.key = STR("status_code")}, {.key = STR("status_msg")}};
    struct json_want fields[WANTS] = {{.key = {NULL, 0}}};
    uint64_t code;

    if (v->type != JSON_OBJECT)
        return;
    json_scan(v->text, w, 2);
    if (!json_to_u64(w[0].value, &code) || code == 0)
        return;
    fields[CODE].value = w[0].value;
    fields[MESSAGE].value = w[1].value;
    read_fields(fields, false, e);
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        if (codes[i].code != code)
            continue;
        e->kind = codes[i].kind;
        e->status = codes[i].status;
    }
}

static bool has_elements(const struct json_value *array)
{
    struct json_iter i = json_iter(array->text);
    struct json_value element;

    return array->type == JSON_ARRAY && json_next_element(&i, &element);
}

/* Reads {"message":...} and {"detail":...}. A good response may have these fields too, so only a
 * known code makes them an error. */
static void read_loose(struct json_want wants[WANTS], struct apierror *e)
{
    if (wants[MESSAGE].value.type != JSON_STRING)
        wants[MESSAGE].value = wants[MSG].value;
    if (wants[MESSAGE].value.type == JSON_STRING) {
        read_fields(wants, true, e);
        e->loose = e->kind;
        if (meaning_of(str_from(e->code)).kind == APIERROR_OTHER)
            e->kind = APIERROR_NONE;
    } else {
        take_message(&wants[DETAIL].value, e);
        e->loose = kind_of_phrase(str_from(e->message));
    }
}

static void read_object(struct str text, struct apierror *e)
{
    struct json_want wants[WANTS];

    scan(text, wants);
    if (is_text(&wants[TYPE], STR("response.failed"))) {
        struct json_value error = json_scan_one(wants[RESPONSE].value.text, STR("error"));
        e->kind = APIERROR_OTHER; /* it has failed, even without a reason */
        if (error.type == JSON_OBJECT)
            read_error_object(error.text, e);
    } else if (wants[ERROR].value.type == JSON_OBJECT || wants[ERROR].value.type == JSON_STRING ||
               has_elements(&wants[ERROR].value)) {
        /* The `error` of a resource, such as a stored response or a fine-tuning job, says how the
         * resource ended; the request for it succeeded. Completions do not count. */
        struct str s = wants[OBJECT].value.text;
        if (wants[OBJECT].value.type == JSON_STRING && !str_eq(s, STR("error")) &&
            !str_starts(s, STR("chat.completion")) && !str_eq(s, STR("text_completion")))
            return;
        read_error_value(wants, wants[ERROR].value, e);
    } else if (is_text(&wants[TYPE], STR("error"))) {
        read_fields(wants, false, e);
    } else if (is_text(&wants[OBJECT], STR("error"))) {
        read_fields(wants, true, e);
    } else if (has_elements(&wants[CHOICES].value)) {
        struct json_iter i = json_iter(wants[CHOICES].value.text);
        struct json_value choice;
        while (e->kind == APIERROR_NONE && json_next_element(&i, &choice))
            if (choice.type == JSON_OBJECT) {
                /* A choice that ended with an error may hold the error, or only a finish_reason. */
                struct json_want w[] = {{.key = STR("error")}, {.key = STR("finish_reason")}};
                struct json_want words[WANTS] = {{.key = {NULL, 0}}};
                json_scan(choice.text, w, 2);
                read_error_value(words, w[0].value, e);
                if (e->kind == APIERROR_NONE && w[1].value.type == JSON_STRING &&
                    str_ieq(w[1].value.text, STR("error")))
                    e->kind = APIERROR_OTHER;
            }
    } else if (wants[BASE_RESP].value.type == JSON_OBJECT) {
        read_base_resp(&wants[BASE_RESP].value, e);
    } else if (wants[CHOICES].value.type != JSON_ARRAY) {
        read_loose(wants, e);
    }
    if (e->status == 0 && e->kind == APIERROR_OTHER)
        e->status = status_beside(wants);
    read_waits(text, e);
}

void apierror_parse(struct str body, struct apierror *ret_error)
{
    *ret_error = (struct apierror){.kind = APIERROR_NONE};
    if (body.n > BODY_MAX)
        return;
    body = str_trim(body);
    if (body.n > 0 && body.p[0] == '[') /* Google: [{"error":{...}}] */
        body = str_trim(str_after(body, 1));
    if (body.n > 0 && body.p[0] == '{')
        read_object(body, ret_error);
}

void apierror_parse_response(struct str body, struct apierror *ret_error)
{
    struct json_want w[] = {{.key = STR("status")}, {.key = STR("error")}};

    apierror_parse(body, ret_error);
    if (ret_error->kind != APIERROR_NONE || body.n > BODY_MAX)
        return;
    json_scan(str_trim(body), w, 2);
    if (w[0].value.type != JSON_STRING || !str_eq(w[0].value.text, STR("failed")))
        return;
    *ret_error = (struct apierror){.kind = APIERROR_OTHER};
    if (w[1].value.type == JSON_OBJECT)
        read_error_object(w[1].value.text, ret_error);
}

bool apierror_is_google(struct str object)
{
    struct json_value code = json_scan_one(object, STR("code"));
    uint64_t n;

    return code.type == JSON_NUMBER && str_to_u64(code.text, &n) && n >= 400 && n <= 599;
}
