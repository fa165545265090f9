/* By when the answer's first byte must be on its way to the caller (C7). */
#ifndef RETRYD_POLICY_DEADLINE_H
#define RETRYD_POLICY_DEADLINE_H

#include <stdint.h>

#include "policy/headers.h"

#define DEADLINE_NONE UINT64_MAX

enum deadline_source {
    DEADLINE_FROM_NOBODY,
    DEADLINE_FROM_CONFIG,
    DEADLINE_FROM_CLIENT,  /* x-stainless-read-timeout, X-Stainless-Timeout, x-retryd-deadline */
    DEADLINE_FROM_RUNTIME, /* Node's fetch gives up at 300 s without saying so */
    DEADLINE_FROM_MENDING, /* mend_timeout, of an answer that its client has a part of */
};

struct deadline {
    uint64_t at_ms; /* on the same clock as start_ms; DEADLINE_NONE: no limit */
    enum deadline_source source;
};

/* `start_ms`: when the request began. `config_ms`: the route's, 0 for none. `override_ms`: from
 * x-retryd-deadline, 0 for none. From the client's declared time a margin is taken (5 %, at least
 * 100 ms and at most 2 s, and never more than half of it), so that retryd answers before the client
 * gives up; the smallest counts. The header values are seconds, fractions allowed; malformed or
 * zero ones are ignored. A declared timeout is per try of the SDK, not of all its tries. */
struct deadline deadline_of(const struct headers *request, uint64_t start_ms, uint64_t config_ms,
                            uint64_t override_ms);

#endif
