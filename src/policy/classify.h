/* Classifies the result of an attempt: good, worth another attempt, or a failure that the same
 * request would meet again (C3, C4, C5). */
#ifndef RETRYD_POLICY_CLASSIFY_H
#define RETRYD_POLICY_CLASSIFY_H

#include <stdbool.h>

#include "http/message.h"
#include "policy/apierror.h"
#include "policy/reason.h"
#include "policy/settings.h"

/* The progress of an attempt on the network. */
enum transport {
    TRANSPORT_WHOLE, /* a status and a complete body, as far as HTTP framing shows */
    TRANSPORT_DNS,
    TRANSPORT_CONNECT,
    TRANSPORT_TLS,
    TRANSPORT_CERTIFICATE, /* the peer's certificate does not verify; never retried */
    TRANSPORT_PROXY,
    TRANSPORT_STALE,         /* a reused connection was dead or dirty before anything was sent */
    TRANSPORT_LOST_UPLOAD,   /* lost before the whole request was sent */
    TRANSPORT_LOST,          /* lost after the whole request was sent, before a status */
    TRANSPORT_TRUNCATED,     /* lost between the status and the end of the body */
    TRANSPORT_BAD_RESPONSE,  /* the response is not HTTP */
    TRANSPORT_LARGE_HEADERS, /* a good status, but the headers are too large */
    TRANSPORT_CONNECT_TIMEOUT,
    TRANSPORT_UPLOAD_TIMEOUT,
    TRANSPORT_FIRST_BYTE_TIMEOUT,
    TRANSPORT_FIRST_CONTENT_TIMEOUT,
    TRANSPORT_IDLE_TIMEOUT,
    TRANSPORT_TOTAL_TIMEOUT,
    TRANSPORT_INTERNAL, /* an error of retryd itself, such as out of memory */
};

/* The result of an attempt, as far as it is known. */
struct outcome {
    enum transport transport;
    unsigned status;               /* 0 without a status line */
    const struct headers *headers; /* of the response; NULL if there is none */
    const struct apierror *error;  /* in the body or a stream's first event; may be NULL */
    bool stream;                   /* the response is an event stream */
    bool empty;                    /* a stream without content, or an empty body instead of JSON */
    bool malformed;                /* the body must be JSON but is not */
    bool silent;                   /* a complete completion without content */
    bool as_before;                /* malformed at the same place as in an earlier attempt */
    bool differs;                  /* does not continue the response that the client has */
};

enum verdict_kind {
    VERDICT_GOOD,  /* deliver it */
    VERDICT_RETRY, /* another attempt may succeed */
    VERDICT_FINAL, /* never retried at the same target */
};

struct verdict {
    enum verdict_kind kind;
    enum reason reason;
    bool ambiguous; /* the attempt may have been processed, and charged (C28) */
    bool movable;   /* FINAL only: another key, upstream or model may serve the request */
    bool excluded;  /* FINAL only: worth a retry, but not included in `retry_on` */
    bool new_key;   /* RETRY only: the key was replaced since; set by the caller, not by classify */
};

/* Classifies any outcome. Has no side effects. `retry_on` is a set of enum retry_on.
 *
 * An error in the body that is a verdict beats the status (C4). After that x-should-retry (C5)
 * beats the table of C3 and `retry_on`, and `retry_on` comes last.
 *
 * An error object under a 2xx counts as the numeric status that it names, if any. A final 1xx or
 * 3xx is GOOD and passes through. An error status with a broken body is classified by its status if
 * that is worth a retry, else as the break, and is not ambiguous. A failure that `retry_on` does
 * not include is FINAL, movable and excluded, and keeps its reason. A stale connection is always
 * retried. */
struct verdict classify(const struct outcome *o, unsigned retry_on);

#endif
