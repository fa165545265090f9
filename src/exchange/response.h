/* Builds the responses to clients: headers from upstream responses, and retryd's own errors. */
#ifndef RETRYD_EXCHANGE_RESPONSE_H
#define RETRYD_EXCHANGE_RESPONSE_H

#include <stdbool.h>
#include <stdint.h>

#include "http/dialect.h"
#include "http/message.h"
#include "policy/reason.h"

/* Whether the Content-Type begins with `type`. */
bool response_is_type(const struct headers *h, struct str type);

/* Returns the upstream's id of the request, which its support asks for: the value of the first of
 * X-Request-Id (OpenAI and most APIs like it), Request-Id (Anthropic), Apim-Request-Id (Azure),
 * X-Amzn-RequestId (Bedrock), X-Goog-Request-Id, and CF-Ray (the proxy in front of many), in this
 * order. It is cut at RESPONSE_ID_MAX bytes, and empty if there is none. The upstream may send any
 * bytes. */
#define RESPONSE_ID_MAX 128
struct str response_request_id(const struct headers *h);

/* The facts that retryd adds to every response (C25). */
struct response_facts {
    unsigned attempts;
    uint64_t wait_ms;
    const char *target; /* NULL if none was chosen */
    const char *host;
    const char *model; /* the fallback model that served the request; NULL without a fallback */
    unsigned received_status; /* the upstream's; 0 for an error of retryd's own */
    enum reason reason;       /* of an error of retryd's own */
    const char *detail;       /* for Proxy-Status; may be "" */
    enum dialect dialect;     /* the format of an error of retryd's own */
    bool decoded;             /* retryd has decoded the content encoding of the body */
    bool come_again;          /* a temporary error of retryd's own: the client should retry soon */
    uint64_t retry_after_ms;  /* the client should wait at least so long; 0: unknown */
};

/* Adds x-retryd-attempts, x-retryd-wait-ms, x-retryd-target, x-retryd-model after a fallback (C21),
 * and Proxy-Status (RFC 9209). Returns what headers_add returns. */
int response_add_facts(struct headers *h, const struct response_facts *f);

/* Sets the status and headers from an upstream's response: the end-to-end fields, unchanged and in
 * order (C1), then the facts. With a status of 400 or more, `x-should-retry: false` replaces the
 * upstream's field (C8). Returns what headers_add returns. */
int response_from_upstream(struct http_response *ret, unsigned status,
                           const struct headers *upstream, const struct response_facts *f);

/* Builds an error of retryd's own, with a JSON body in the format of the API. `status` 0 stands for
 * the one of `f->reason`, `code` NULL for its word. Returns 0 or -errno. */
int response_own_error(struct http_response *ret, struct buf *ret_body, unsigned status,
                       const char *message, const char *type, const char *code,
                       const struct response_facts *f);

/* Returns the status for an error with that reason: 502, 503 or 504. */
unsigned response_status_for(enum reason r);

/* Returns a sentence that advises the user about the error, or "". */
const char *response_advice(enum reason r);

#endif
