/* What a failure leads to: the same target again, another key, another upstream, a fallback model
 * (C4, C18). One pure decision, asked after each failed attempt. */
#ifndef RETRYD_POLICY_MOVE_H
#define RETRYD_POLICY_MOVE_H

#include <stdbool.h>
#include <stdint.h>

#include "policy/reason.h"

/* The failures that `fallback_on` can name; a set of bits. */
enum fallback_on {
    FALLBACK_ON_ERROR = 1 << 0,   /* all that is neither of the others */
    FALLBACK_ON_TIMEOUT = 1 << 1, /* silence: no head, no content, no next piece in time */
    FALLBACK_ON_CONTEXT = 1 << 2, /* the request is too long for the model */
    FALLBACK_ON_ALL = (1 << 3) - 1,
};

/* What may help against a failure; a set of bits. */
enum move_helps {
    HELPS_AGAIN = 1 << 0,    /* the same target, later */
    HELPS_KEY = 1 << 1,      /* another key of that upstream */
    HELPS_UPSTREAM = 1 << 2, /* another upstream, same model */
    HELPS_MODEL = 1 << 3,    /* another model: the next tier */
};

/* Whether other attempts than the same again may help: a key that is limited, empty or rejected
 * has others beside it; a model that is down may be up elsewhere; a request that is too long is so
 * everywhere, but for a larger model; a content-policy refusal and a request that is wrong are what
 * they are. `HELPS_AGAIN` is not part of it: that is classify's to say. */
unsigned move_helps(enum reason r);

/* The bit of enum fallback_on that names this failure; 0: none does, it never leaves its tier. */
unsigned move_cause(enum reason r);

/* Whether a failure that leads elsewhere says that this key, model or request does not fit here, and
 * nothing against the upstream: what follows then is no repeat that its budget counts (C9). All else
 * is load that a failing upstream had not asked for, whatever model it is for. */
bool move_is_free(enum reason r);

enum move {
    MOVE_STAY,   /* the same target again, after its backoff; or nothing else helps */
    MOVE_TARGET, /* another target of this tier, at once */
    MOVE_TIER,   /* the next tier, at once */
};

struct move_question {
    enum reason reason;
    bool again;           /* the same target may be tried again */
    unsigned others;      /* HELPS_KEY, HELPS_UPSTREAM: healthy ones of this tier that this request
                              has not tried since its last backoff */
    unsigned later_tiers; /* that it may still lead to; 0: none */
    unsigned attempts_left;
    unsigned fallback_on;       /* enum fallback_on */
    unsigned tier_attempts;     /* made in this tier; >= 1 */
    unsigned attempts_per_tier; /* >= 1 */
    bool tier_down;             /* all breakers of this tier are open */
};

/* In this order: leave the tier where it is down, where the failure is a silent timeout, when its
 * attempts are used up, or when those that are left are one for each later tier, if `fallback_on` lets
 * this failure leave; then another target of it that may help; then the same again; and where that is
 * not possible, leave, if it helps and may. */
enum move move_decide(const struct move_question *q);

#endif
