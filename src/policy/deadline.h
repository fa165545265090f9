/* By when the answer's first byte must be on its way to the caller (C7).
 *
 * Clients declare two kinds of limits. A total one runs from the request on. A limit on silence runs from
 * the last byte that the client has read: the SDKs for Python send their read timeout, and Node's fetch
 * gives up after 300 s without a byte. */
#ifndef RETRYD_POLICY_DEADLINE_H
#define RETRYD_POLICY_DEADLINE_H

#include <stdbool.h>
#include <stdint.h>

#include "http/headers.h"

#define DEADLINE_NONE UINT64_MAX

enum deadline_source {
    DEADLINE_FROM_NOBODY,
    DEADLINE_FROM_CONFIG,
    DEADLINE_FROM_CLIENT, /* in all: X-Stainless-Timeout, Google's X-Server-Timeout, x-retryd-deadline */
    DEADLINE_FROM_SILENCE, /* without a byte: x-stainless-read-timeout */
    DEADLINE_FROM_RUNTIME, /* without a byte: Node's fetch gives up at 300 s without saying so */
    DEADLINE_FROM_MENDING, /* mend_timeout, of an answer that its client has a part of */
};

struct deadline {
    uint64_t at_ms;    /* on the same clock as start_ms; DEADLINE_NONE: no limit */
    uint64_t since_ms; /* what it counts from */
    enum deadline_source source;
};

/* `start_ms`: when the request began. `heard_ms`: when its client last had a byte to read, at first
 * `start_ms`; DEADLINE_NONE: it has one often enough. `config_ms`: the route's, 0 for none.
 * `override_ms`: from x-retryd-deadline, 0 for none. From the client's declared times a margin is taken
 * (5 %, at least 100 ms and at most 2 s, and never more than half of it), so that retryd answers before
 * the client gives up; the smallest counts. The header values are seconds, fractions allowed;
 * malformed or zero ones are ignored. A declared timeout is per try of the SDK, not of all its tries. */
struct deadline deadline_of(const struct headers *request, uint64_t start_ms, uint64_t heard_ms,
                            uint64_t config_ms, uint64_t override_ms);

/* Whether it moves on with each byte that the client has to read. */
bool deadline_is_silence(const struct deadline *d);

#endif
