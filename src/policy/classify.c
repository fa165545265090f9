/* The rules that decide whether a failure is worth another attempt, and their order. */
#include "policy/classify.h"

/* A verdict, and the bits of `retry_on` that allow its retry. One of them is enough; 0 means that
 * the retry is always allowed. */
struct judged {
    struct verdict verdict;
    unsigned causes;
};

static const struct judged good = {.verdict = {.kind = VERDICT_GOOD, .reason = REASON_OK}};
static struct judged again(enum reason reason, bool ambiguous, unsigned causes)
{
    return (struct judged){{.kind = VERDICT_RETRY, .reason = reason, .ambiguous = ambiguous},
                           causes};
}

static struct judged final(enum reason reason, bool ambiguous, bool movable)
{
    return (struct judged){
        {.kind = VERDICT_FINAL, .reason = reason, .ambiguous = ambiguous, .movable = movable}, 0};
}

/* A request that was not sent completely cannot have been processed. One that was sent may have
 * been, unless a status says otherwise. */
static struct judged by_transport(enum transport t)
{
    switch (t) {
    case TRANSPORT_DNS:
        return again(REASON_DNS, false, RETRY_ON_CONNECT);
    case TRANSPORT_CONNECT:
        return again(REASON_CONNECT, false, RETRY_ON_CONNECT);
    case TRANSPORT_TLS:
        return again(REASON_TLS, false, RETRY_ON_CONNECT);
    case TRANSPORT_CERTIFICATE:
        return final(REASON_CERTIFICATE, false, true);
    case TRANSPORT_PROXY:
        return again(REASON_PROXY, false, RETRY_ON_CONNECT);
    case TRANSPORT_STALE: /* caused by the connection pool, not by the upstream */
        return again(REASON_STALE, false, 0);
    case TRANSPORT_LOST_UPLOAD:
        return again(REASON_LOST_UPLOAD, false, RETRY_ON_RESET);
    case TRANSPORT_LOST:
        return again(REASON_LOST, true, RETRY_ON_RESET);
    case TRANSPORT_TRUNCATED:
        return again(REASON_TRUNCATED, true, RETRY_ON_RESET);
    case TRANSPORT_WHOLE: /* without a status, or with a status below 100 */
    case TRANSPORT_BAD_RESPONSE:
        return again(REASON_BAD_RESPONSE, true, RETRY_ON_RESET);
    case TRANSPORT_LARGE_HEADERS: /* processed, and another response would be as large */
        return final(REASON_LARGE_HEADERS, true, false);
    case TRANSPORT_CONNECT_TIMEOUT:
        return again(REASON_CONNECT_TIMEOUT, false, RETRY_ON_CONNECT | RETRY_ON_TIMEOUT);
    case TRANSPORT_UPLOAD_TIMEOUT:
        return again(REASON_UPLOAD_TIMEOUT, false, RETRY_ON_TIMEOUT);
    case TRANSPORT_FIRST_BYTE_TIMEOUT:
        return again(REASON_FIRST_BYTE_TIMEOUT, true, RETRY_ON_TIMEOUT);
    case TRANSPORT_FIRST_CONTENT_TIMEOUT:
        return again(REASON_FIRST_CONTENT_TIMEOUT, true, RETRY_ON_TIMEOUT);
    case TRANSPORT_IDLE_TIMEOUT:
        return again(REASON_IDLE_TIMEOUT, true, RETRY_ON_TIMEOUT);
    case TRANSPORT_TOTAL_TIMEOUT:
        return again(REASON_TOTAL_TIMEOUT, true, RETRY_ON_TIMEOUT);
    case TRANSPORT_INTERNAL:
        return final(REASON_INTERNAL, false, false);
    }
    return final(REASON_INTERNAL, false, false); /* outside the enum */
}

static bool ambiguous_status(unsigned status)
{
    return status == 502 || status == 504 || status == 520 || status == 524;
}

static struct judged by_4xx(unsigned status, enum apierror_kind kind)
{
    switch (status) {
    case 401:
        return final(REASON_KEY, false, true);
    case 402: /* OpenRouter's limit on requests in flight is temporary, like a rate limit */
        return kind == APIERROR_RATE_LIMIT ? again(REASON_RATE_LIMIT, false, RETRY_ON_429)
                                           : final(REASON_QUOTA, false, true);
    case 403:
        return final(REASON_PERMISSION, false, true);
    case 408:
        return again(REASON_REQUEST_TIMEOUT, false, RETRY_ON_408);
    case 409:
        return again(REASON_CONFLICT, false, RETRY_ON_409);
    case 425:
        return again(REASON_TOO_EARLY, false, RETRY_ON_425);
    case 429:
        return again(kind == APIERROR_OVERLOADED ? REASON_OVERLOADED : REASON_RATE_LIMIT, false,
                     RETRY_ON_429);
    case 498: /* Groq: no capacity in the flex tier */
        return again(REASON_OVERLOADED, false, RETRY_ON_5XX);
    default:
        return final(REASON_CLIENT_ERROR, false, false);
    }
}

/* Statuses of 500 and more. RFC 9110, 15 treats those beyond 599 as 5xx. */
static struct judged by_5xx(unsigned status)
{
    bool ambiguous = ambiguous_status(status);

    switch (status) {
    case 501:
    case 505:
        return final(REASON_NOT_IMPLEMENTED, false, true);
    case 502:
        return again(REASON_BAD_GATEWAY, ambiguous, RETRY_ON_5XX);
    case 503:
    case 529:
        return again(REASON_OVERLOADED, ambiguous, RETRY_ON_5XX);
    case 504:
    case 524:
        return again(REASON_GATEWAY_TIMEOUT, ambiguous, RETRY_ON_5XX);
    default:
        return again(REASON_SERVER_ERROR, ambiguous, RETRY_ON_5XX);
    }
}

static struct judged by_status(unsigned status, enum apierror_kind kind)
{
    return status >= 500 ? by_5xx(status) : by_4xx(status, kind);
}

static struct judged by_success(const struct outcome *o)
{
    if (o->error && o->error->kind != APIERROR_NONE) {
        /* A 2xx with an error object counts as the status that the object names, else as the usual
         * status of its kind. The server has processed something, so it is always ambiguous. */
        struct judged j;
        if (o->error->status >= 400)
            j = by_status(o->error->status, o->error->kind);
        else if (o->error->kind == APIERROR_RATE_LIMIT)
            j = by_4xx(429, o->error->kind);
        else if (o->error->kind == APIERROR_OVERLOADED)
            j = by_5xx(503);
        else
            j = again(o->stream ? REASON_ERROR_IN_STREAM : REASON_ERROR_IN_BODY, true,
                      RETRY_ON_5XX);
        j.verdict.ambiguous = true;
        return j;
    }
    if (o->differs)
        return final(REASON_DIFFERS, true, false);
    if (o->malformed && o->as_before)
        return final(REASON_MALFORMED, true, true);
    if (o->malformed)
        return again(REASON_MALFORMED, true, RETRY_ON_RESET);
    if (o->empty)
        return again(o->stream ? REASON_EMPTY_STREAM : REASON_EMPTY_RESPONSE, true, RETRY_ON_RESET);
    if (o->silent)
        return again(REASON_EMPTY_RESPONSE, true, RETRY_ON_EMPTY);
    return good;
}

/* The table of C3. */
static struct judged by_table(const struct outcome *o)
{
    enum apierror_kind kind = o->error ? o->error->kind : APIERROR_NONE;
    bool body_broke =
        o->transport == TRANSPORT_TRUNCATED || o->transport == TRANSPORT_FIRST_CONTENT_TIMEOUT ||
        o->transport == TRANSPORT_IDLE_TIMEOUT || o->transport == TRANSPORT_TOTAL_TIMEOUT;

    if (body_broke && o->status >= 400) {
        /* An error status shows what went wrong even if its body is incomplete, and that the
         * request was not served. A final one is worth another attempt, so that the caller gets the
         * complete body. */
        struct judged status = by_status(o->status, kind);
        struct judged broken = by_transport(o->transport);
        if (status.verdict.kind == VERDICT_RETRY)
            return status;
        broken.verdict.ambiguous = false;
        return broken;
    }
    if (o->transport != TRANSPORT_WHOLE || o->status < 100)
        return by_transport(o->transport);
    if (o->status >= 400)
        return by_status(o->status, kind);
    if (o->status >= 200 && o->status < 300)
        return by_success(o);
    return good;
}

/* C4: a verdict in the body. Returns false if the body holds none. */
static bool by_body(const struct outcome *o, struct verdict *ret_verdict)
{
    static const struct {
        enum apierror_kind kind;
        enum reason reason;
    } verdicts[] = {
        {APIERROR_QUOTA, REASON_QUOTA},
        {APIERROR_KEY, REASON_KEY},
        {APIERROR_MODEL, REASON_MODEL},
        {APIERROR_CONTEXT, REASON_CONTEXT},
        {APIERROR_CONTENT_POLICY, REASON_CONTENT_POLICY},
    };
    bool is_response = o->status >= 200 && (o->status < 300 || o->status >= 400);

    if (!o->error || !is_response || o->transport == TRANSPORT_INTERNAL)
        return false;
    for (size_t i = 0; i < sizeof verdicts / sizeof verdicts[0]; i++) {
        if (o->error->kind != verdicts[i].kind)
            continue;
        bool ambiguous = o->status < 300 || ambiguous_status(o->status);
        bool movable = o->error->kind != APIERROR_CONTENT_POLICY;
        *ret_verdict = final(verdicts[i].reason, ambiguous, movable).verdict;
        return true;
    }
    return false;
}

/* C5: x-should-retry. Returns false if the upstream does not send it, or if the error is retryd's
 * own. */
static bool upstream_says(const struct outcome *o, bool *ret_retry)
{
    struct str value;

    if (!o->headers || o->status == 0 || o->transport == TRANSPORT_INTERNAL ||
        !headers_get(o->headers, STR("x-should-retry"), &value))
        return false;
    value = str_trim(value);
    *ret_retry = str_ieq(value, STR("true"));
    return *ret_retry || str_ieq(value, STR("false"));
}

struct verdict classify(const struct outcome *o, unsigned retry_on)
{
    struct verdict v;
    bool retry;

    if (by_body(o, &v))
        return v;
    struct judged j = by_table(o);
    v = j.verdict;
    if (v.kind == VERDICT_GOOD)
        return v;
    if (upstream_says(o, &retry)) {
        if (retry && v.kind == VERDICT_FINAL)
            return again(REASON_UPSTREAM_SAYS_RETRY, v.ambiguous, 0).verdict;
        if (!retry && v.kind == VERDICT_RETRY)
            return final(REASON_UPSTREAM_SAYS_NO, v.ambiguous, true).verdict;
        return v;
    }
    if (v.kind == VERDICT_RETRY && j.causes != 0 && (j.causes & retry_on) == 0) {
        v.kind = VERDICT_FINAL;
        v.movable = true;
        v.excluded = true;
    }
    return v;
}
