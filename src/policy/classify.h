/* Judges how one attempt ended: good, worth another attempt, or a verdict that repeating will not
 * change (C3, C4, C5). */
#ifndef RETRYD_POLICY_CLASSIFY_H
#define RETRYD_POLICY_CLASSIFY_H

#include <stdbool.h>

#include "http/headers.h"
#include "policy/apierror.h"
#include "policy/reason.h"
#include "policy/settings.h"

/* How far the attempt got on the wire. */
enum transport {
    TRANSPORT_WHOLE, /* a status and a whole body, as far as HTTP framing can tell */
    TRANSPORT_DNS,
    TRANSPORT_CONNECT,
    TRANSPORT_TLS,
    TRANSPORT_CERTIFICATE, /* the peer's certificate does not verify: never retried */
    TRANSPORT_PROXY,
    TRANSPORT_STALE,         /* a reused connection proved dead or dirty before anything was sent */
    TRANSPORT_LOST_UPLOAD,   /* lost before the request was whole at the other side */
    TRANSPORT_LOST,          /* lost after the whole request was sent, before a status */
    TRANSPORT_TRUNCATED,     /* lost between the status and the end of the body */
    TRANSPORT_BAD_RESPONSE,  /* what came back is not HTTP */
    TRANSPORT_LARGE_HEADERS, /* a good status came, in a head that there is no room for */
    TRANSPORT_CONNECT_TIMEOUT,
    TRANSPORT_UPLOAD_TIMEOUT,
    TRANSPORT_FIRST_BYTE_TIMEOUT,
    TRANSPORT_FIRST_CONTENT_TIMEOUT,
    TRANSPORT_IDLE_TIMEOUT,
    TRANSPORT_TOTAL_TIMEOUT,
    TRANSPORT_INTERNAL, /* out of memory and the like, here */
};

/* What was seen of the attempt. */
struct outcome {
    enum transport transport;
    unsigned status;               /* 0 where no status line came */
    const struct headers *headers; /* of the answer; NULL where none came */
    const struct apierror *error;  /* of the body or of a stream's first event; kind NONE if none */
    bool stream;                   /* the answer is an event stream */
    bool empty;                    /* a stream without content; or nothing came that was promised */
    bool malformed;                /* not JSON where JSON was promised, or is due */
    bool silent;                   /* whole, and a completion that says nothing */
    bool as_before;                /* ... as in an earlier attempt, at the same place */
    bool differs;                  /* not the answer that the client has a part of */
};

enum verdict_kind {
    VERDICT_GOOD,  /* deliver it */
    VERDICT_RETRY, /* another attempt may go better */
    VERDICT_FINAL, /* never repeated on the same target */
};

struct verdict {
    enum verdict_kind kind;
    enum reason reason;
    bool ambiguous; /* it may have been processed (and charged): C28 */
    bool movable;   /* FINAL only: another key, upstream or model may serve it */
    bool excluded;  /* FINAL only: worth another attempt, but `retry_on` leaves it out */
    bool new_key;   /* RETRY only, and not classify's to say: another key is there in its place */
};

/* Total and pure. `retry_on` is a set of enum retry_on. Order: a verdict in the body beats the
 * status (C4); then x-should-retry (C5) beats the table of C3 and `retry_on`; then `retry_on`.
 * A status the body contradicts (an error object under a 2xx) takes the error's own numeric status
 * where it has one. 3xx and 1xx finals pass through as GOOD: they are answers. An error status
 * whose body broke off counts by its status where that is worth a retry, else as the break, not
 * ambiguous. What `retry_on` leaves out is FINAL, movable and excluded, with the reason it had. A
 * stale connection is always repeated. */
struct verdict classify(const struct outcome *o, unsigned retry_on);

#endif
