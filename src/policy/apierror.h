/* Reads the error object of an OpenAI-like answer.
 *
 * Shapes understood: {"error":{"message","type","param","code"}} with a string, number or null
 * code; {"error":"text"}; {"error":[{...}]}, of which the first that says something counts;
 * {"type":"error","error":{...}} (Anthropic, whose `details` may hold an `error_code`); a flat
 * {"type":"error","code","message"} (Responses events); {"type":"response.failed","response":
 * {"error":{...}}}; a flat {"object":"error",...} (vLLM); [{"error":{...}}] (Google);
 * {"choices":[{"error":{...},"finish_reason":"error"}]} with either of the two (OpenRouter);
 * {"base_resp":{"status_code":1008,...}} without choices (MiniMax);
 * {"message":...}, {"msg":...} and {"detail":...}, which good answers may look like too: they give the texts,
 * but kind NONE unless their code decides. An `error` that is null or empty is none, and so is one
 * in a resource ({"object":"fine_tuning.job","error":{...}}): it tells how that thing ended, not
 * the request. Completions are no resources: OpenRouter sends their errors so.
 * Sources: https://platform.openai.com/docs/guides/error-codes,
 * https://openrouter.ai/docs/api-reference/errors, and what vLLM, Azure and others were seen to send. */
#ifndef RETRYD_POLICY_APIERROR_H
#define RETRYD_POLICY_APIERROR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

/* What the error is about, as far as retrying goes. */
enum apierror_kind {
    APIERROR_NONE,  /* the body holds no error object */
    APIERROR_OTHER, /* it does, and nothing in it decides */
    APIERROR_RATE_LIMIT,
    APIERROR_OVERLOADED,     /* slow_down, server_is_overloaded, overloaded_error */
    APIERROR_QUOTA,          /* insufficient_quota and its kin; a 402 */
    APIERROR_KEY,            /* invalid, revoked or missing key */
    APIERROR_MODEL,          /* model_not_found, DeploymentNotFound */
    APIERROR_CONTEXT,        /* context_length_exceeded; a "Request too large for" the rate limit */
    APIERROR_CONTENT_POLICY, /* content_policy_violation, content_filter */
};

struct apierror {
    enum apierror_kind kind;
    enum apierror_kind
        loose;     /* of {"message":...} and {"detail":...}: where there is no answer, that */
    char code[64]; /* "" where there is none; a number in decimal */
    char type[64];
    char message[256]; /* for the log, "sk-" keys masked; never more of a body is kept */
    /* Its own in 400..599: a numeric code, as OpenRouter and vLLM send it, a `status_code` (Groq), or
     * where nothing else is known of it that of its type ("invalid_request_error": 400); else 0. */
    unsigned status;
    bool has_delay; /* a field names a wait: `resets_in_seconds`, `retry_after`, `retryDelay` */
    uint64_t delay_ms;
    uint64_t
        resets_at_ms; /* `resets_at`, or the X-RateLimit-Reset that OpenRouter quotes, as ms since
                            * 1970; 0: there is none */
    bool has_hint;    /* the message names a wait: "try again in 1.2s", "will reset after 2s" */
    uint64_t hint_ms;
};

/* Reads `body` (an answer's body, or the data of an event), already decoded. Total: any bytes are
 * fine, and bytes that are no JSON give APIERROR_NONE, as a body over 1 MiB does: no error is that
 * long. A body that was cut off gives what could be read. Nothing is allocated. */
void apierror_parse(struct str body, struct apierror *ret_error);

/* The same of the answer to a request for a new response (Responses API): one whose status is
 * "failed" is an error like any other, though as a stored thing it is a resource. */
void apierror_parse_response(struct str body, struct apierror *ret_error);

/* The HTTP status that fits an error which came without one: its own, else that of its word or its
 * kind, else 502. */
unsigned apierror_status(const struct apierror *e);

/* Finds the wait a message names, in ms. "try again in 9.816s", "976ms", "6m0s", "1 second",
 * "retry after 12 seconds", "will reset after 2s", "please wait 3 seconds". */
bool apierror_message_hint(struct str message, uint64_t *ret_ms);

/* Whether an error object is of Google's shape: its code is a number, a status of HTTP. */
bool apierror_is_google(struct str object);

#endif
