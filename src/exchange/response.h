/* Builds what the client is told: heads from upstream answers, and retryd's own errors. */
#ifndef RETRYD_EXCHANGE_RESPONSE_H
#define RETRYD_EXCHANGE_RESPONSE_H

#include <stdbool.h>
#include <stdint.h>

#include "http/dialect.h"
#include "http/message.h"
#include "policy/reason.h"

/* Whether an answer's Content-Type begins with `type`. */
bool response_is_type(const struct headers *h, struct str type);

/* What the upstream calls this request, for its support: the value of the first of X-Request-Id (OpenAI and
 * most that speak its API), Request-Id (Anthropic), Apim-Request-Id (Azure), X-Amzn-RequestId (Bedrock),
 * X-Goog-Request-Id and CF-Ray (the proxy in front of many), in that order. Cut at ANSWER_ID_MAX bytes;
 * empty where it has none. The bytes are the upstream's own choice. */
#define RESPONSE_ID_MAX 128
struct str response_request_id(const struct headers *h);

/* What retryd adds to every answer (C25). */
struct response_facts {
    unsigned attempts;
    uint64_t wait_ms;
    const char *target; /* NULL where none was chosen */
    const char *host;
    const char *model; /* the fallback model that served it; NULL where it did not fall back */
    unsigned received_status; /* from the upstream; 0 where retryd answers itself */
    enum reason reason;       /* where retryd answers itself */
    const char *detail;       /* for Proxy-Status; may be "" */
    enum dialect dialect;     /* in whose shape an error of retryd's own is told */
    bool decoded;             /* the upstream's body lost its coding on the way */
    bool come_again; /* an error of our own that another try may well spare: repeat it soon */
    uint64_t retry_after_ms; /* ... or not before that time has passed; 0: not known */
};

/* Adds x-retryd-attempts, x-retryd-wait-ms, x-retryd-target, after a fallback x-retryd-model (C21),
 * and Proxy-Status (RFC 9209). */
int response_add_facts(struct headers *h, const struct response_facts *f);

/* A head from an upstream's answer: end-to-end fields unchanged and in order (C1), then the facts;
 * a status of 400 or more gets `x-should-retry: false` in place of the upstream's (C8). */
int response_from_upstream(struct http_response *ret, unsigned status,
                           const struct headers *upstream, const struct response_facts *f);

/* retryd's own error: head and JSON body in the API's shape. `status` 0: the one that fits
 * `f->reason` (502, 503 or 504). `code` NULL: the reason's word. */
int response_own_error(struct http_response *ret, struct buf *ret_body, unsigned status,
                       const char *message, const char *type, const char *code,
                       const struct response_facts *f);

unsigned response_status_for(enum reason r);

/* What a person can do about it: one sentence; "" where there is nothing to say. */
const char *response_advice(enum reason r);

#endif
