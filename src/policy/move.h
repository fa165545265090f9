/* Decides where to go after a failed attempt: the same target again, another key, another upstream,
 * or a fallback model (C4, C18). */
#ifndef RETRYD_POLICY_MOVE_H
#define RETRYD_POLICY_MOVE_H

#include <stdbool.h>
#include <stdint.h>

#include "policy/reason.h"

/* The failures that `fallback_on` can name, as bits. */
enum fallback_on {
    FALLBACK_ON_ERROR = 1 << 0,   /* any other failure */
    FALLBACK_ON_TIMEOUT = 1 << 1, /* no headers, no content or no next piece in time */
    FALLBACK_ON_CONTEXT = 1 << 2, /* the request is too long for the model */
    FALLBACK_ON_ALL = (1 << 3) - 1,
};

/* The changes of target that may help after a failure, as bits. */
enum move_helps {
    HELPS_AGAIN = 1 << 0,    /* the same target, later */
    HELPS_KEY = 1 << 1,      /* another key of that upstream */
    HELPS_UPSTREAM = 1 << 2, /* another upstream with the same model */
    HELPS_MODEL = 1 << 3,    /* another model: the next tier */
};

/* Returns which other targets may help, as bits of enum move_helps. If a key is rate limited, out
 * of quota or rejected, another key may work. A model that is down may be up at another upstream. A
 * request that is too long needs a model with a larger context. Nothing helps against a
 * content-policy refusal or an invalid request. The result never contains HELPS_AGAIN, because
 * classify decides that. */
unsigned move_helps(enum reason r);

/* Returns the bit of enum fallback_on for this failure. 0 means that it never leaves its tier. */
unsigned move_cause(enum reason r);

/* Whether the failure concerns only the key, the model or the request, and not the health of the
 * upstream. The attempt that follows then does not count as a retry in the upstream's budget (C9).
 * After any other failure it is extra load on an upstream that already fails, so it does. */
bool move_is_free(enum reason r);

enum move {
    MOVE_STAY,   /* no move: the same target after its backoff, or the end */
    MOVE_TARGET, /* another target of this tier, at once */
    MOVE_TIER,   /* the next tier, at once */
};

struct move_question {
    enum reason reason;
    bool again;           /* the same target may be tried again */
    unsigned others;      /* HELPS_KEY, HELPS_UPSTREAM: this tier has healthy ones that the request
                           * has not tried since its last backoff */
    unsigned later_tiers; /* the number of tiers that the request may still use */
    unsigned attempts_left;
    unsigned fallback_on;       /* enum fallback_on */
    unsigned tier_attempts;     /* attempts made in this tier; >= 1 */
    unsigned attempts_per_tier; /* >= 1 */
    bool tier_down;             /* all breakers of this tier are open */
};

/* Decides in this order:
 * 1. The next tier, if the tier is down, the failure is a timeout, the tier's attempts are used up,
 *    or only one attempt per later tier is left. `fallback_on` must include the failure.
 * 2. Another target of this tier, if one may help.
 * 3. The same target, if it may be tried again.
 * 4. The next tier, if it may help and `fallback_on` includes the failure. */
enum move move_decide(const struct move_question *q);

#endif
