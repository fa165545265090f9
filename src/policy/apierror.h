/* Parses the error object of an OpenAI-like response.
 *
 * Recognized formats:
 * - {"error":{"message","type","param","code"}}, with a string, number or null as code
 * - {"error":"text"}
 * - {"error":[{...}]}; the first error that has content counts
 * - {"type":"error","error":{...}} (Anthropic; `details` may hold an `error_code`)
 * - {"type":"error","code","message"} (events of the Responses API)
 * - {"type":"response.failed","response":{"error":{...}}}
 * - {"object":"error",...} (vLLM)
 * - [{"error":{...}}] (Google)
 * - {"choices":[{"error":{...},"finish_reason":"error"}]}, with one of the two or both (OpenRouter)
 * - {"base_resp":{"status_code":1008,...}} without choices (MiniMax)
 * - {"message":...}, {"msg":...} and {"detail":...}. A good response may have such fields too, so
 *   they give the texts, but kind NONE unless their code decides.
 *
 * An `error` that is null or empty is no error. The `error` of a resource, such as
 * {"object":"fine_tuning.job","error":{...}}, describes how the resource ended and not the request,
 * so it is no error either. Completions do not count as resources, because OpenRouter sends its
 * errors in them.
 *
 * Sources: https://platform.openai.com/docs/guides/error-codes,
 * https://openrouter.ai/docs/api-reference/errors, and responses of vLLM, Azure and others. */
#ifndef RETRYD_POLICY_APIERROR_H
#define RETRYD_POLICY_APIERROR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

/* The meaning of an error for retries. */
enum apierror_kind {
    APIERROR_NONE,  /* the body holds no error object */
    APIERROR_OTHER, /* an error object of unknown meaning */
    APIERROR_RATE_LIMIT,
    APIERROR_OVERLOADED,     /* slow_down, server_is_overloaded, overloaded_error */
    APIERROR_QUOTA,          /* insufficient_quota and similar; a 402 */
    APIERROR_KEY,            /* an invalid, revoked or missing key */
    APIERROR_MODEL,          /* model_not_found, DeploymentNotFound */
    APIERROR_CONTEXT,        /* context_length_exceeded; "Request too large for" the rate limit */
    APIERROR_CONTENT_POLICY, /* content_policy_violation, content_filter */
};

struct apierror {
    enum apierror_kind kind;
    /* The kind for {"message":...} and {"detail":...}, which applies if the body is not a good
     * response. */
    enum apierror_kind loose;
    char code[64]; /* "" if there is none; a numeric code in decimal */
    char type[64];
    char message[256]; /* for the log, with keys masked; no more of a body is kept */
    /* The HTTP status that the error itself names, 400..599: a numeric code (OpenRouter, vLLM), a
     * `status_code` (Groq), or, if nothing else is known, that of its type
     * ("invalid_request_error": 400). 0 if there is none. */
    unsigned status;
    bool has_delay; /* a field names a wait: `resets_in_seconds`, `retry_after`, `retryDelay` */
    uint64_t delay_ms;
    /* `resets_at`, or the X-RateLimit-Reset that OpenRouter quotes, in ms since 1970; 0 if there is
     * none. */
    uint64_t resets_at_ms;
    bool has_hint; /* the message names a wait: "try again in 1.2s", "will reset after 2s" */
    uint64_t hint_ms;
};

/* Parses `body`, which is a decoded response body or the data of an event. Any bytes are allowed.
 * Bytes that are not JSON give APIERROR_NONE, and so does a body over 1 MiB, because no error is
 * that long. A body that was cut off gives what could be read. Allocates nothing. */
void apierror_parse(struct str body, struct apierror *ret_error);

/* Like apierror_parse, for the response to a request that creates a response (Responses API). If
 * its status is "failed", it is an error, although a stored response is otherwise a resource. */
void apierror_parse_response(struct str body, struct apierror *ret_error);

/* Returns the HTTP status for an error that came without one: the status it names, else that of its
 * code or type, else that of its kind, else 502. */
unsigned apierror_status(const struct apierror *e);

/* Whether an error object has Google's format: its code is a number and an HTTP status. */
bool apierror_is_google(struct str object);

#endif
