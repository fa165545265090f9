/* The time by which the first byte of the response must be on its way to the client (C7).
 *
 * Clients declare two kinds of limits. A total limit starts with the request. A limit on silence
 * starts with the last byte that the client has read: the Python SDKs send their read timeout, and
 * Node's fetch gives up after 300 s without a byte. */
#ifndef RETRYD_POLICY_DEADLINE_H
#define RETRYD_POLICY_DEADLINE_H

#include <stdbool.h>
#include <stdint.h>

#include "http/message.h"

#define DEADLINE_NONE UINT64_MAX

enum deadline_source {
    DEADLINE_FROM_NOBODY,
    DEADLINE_FROM_CONFIG,
    DEADLINE_FROM_CLIENT,  /* total: X-Stainless-Timeout, X-Server-Timeout (Google),
                            * x-retryd-deadline */
    DEADLINE_FROM_SILENCE, /* silence: x-stainless-read-timeout */
    DEADLINE_FROM_RUNTIME, /* silence: Node's fetch gives up after 300 s but does not say so */
    DEADLINE_FROM_MENDING, /* mend_timeout, for a response that the client has a part of */
};

struct deadline {
    uint64_t at_ms;    /* on the clock of start_ms; DEADLINE_NONE: no limit */
    uint64_t since_ms; /* the start of the time that it limits */
    enum deadline_source source;
};

/* Returns the earliest deadline.
 *
 * `start_ms` is when the request began. `heard_ms` is when its client last received a byte, at
 * first `start_ms`; DEADLINE_NONE if it receives bytes often enough. `config_ms` is the route's
 * deadline and `override_ms` the value of x-retryd-deadline; 0 means none.
 *
 * Times that the client declares are reduced by a margin, so that retryd responds before the client
 * gives up: 5 %, at least 100 ms, at most 2 s, and never more than half. Header values are in
 * seconds, with an optional fraction; malformed values and zero are ignored. A timeout that an SDK
 * declares is for one of its attempts, not for all of them. */
struct deadline deadline_of(const struct headers *request, uint64_t start_ms, uint64_t heard_ms,
                            uint64_t config_ms, uint64_t override_ms);

/* Whether the deadline moves on with each byte that the client receives. */
bool deadline_is_silence(const struct deadline *d);

#endif
