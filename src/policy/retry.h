/* What to do after a failed attempt: the one place where that is decided. */
#ifndef RETRYD_POLICY_RETRY_H
#define RETRYD_POLICY_RETRY_H

#include <stdbool.h>
#include <stdint.h>

#include "policy/classify.h"
#include "policy/hint.h"
#include "policy/move.h"
#include "policy/settings.h"

enum retry_action {
    RETRY_AGAIN,   /* after delay_ms */
    RETRY_GIVE_UP, /* the failure is final; `why_not` says why */
};

struct retry_decision {
    enum retry_action action;
    uint64_t delay_ms;
    const char *why_not; /* RETRY_GIVE_UP: a static sentence fragment, logged as it stands */
    enum move move;      /* RETRY_AGAIN: where; retry_decide says MOVE_STAY */
};

struct retry_question {
    struct verdict verdict; /* RETRY or FINAL, not GOOD */
    struct hint hint;
    unsigned attempts_made; /* >= 1 */
    unsigned max_attempts;  /* the settings', or the caller's override */
    bool no_retry;          /* the caller asked for a single attempt */
    const char *blocked;    /* NULL, or a reason set earlier that forbids any repeat */
    uint64_t now_ms;
    uint64_t deadline_ms; /* absolute; DEADLINE_NONE */
    bool mending;         /* it is mend_timeout's */
    uint64_t random;
};

/* An attempt is not started with less than this left before the deadline: it could not finish. */
#define RETRY_MIN_ATTEMPT_MS 50

/* Whether an attempt at another target may follow at once: NULL, or what forbids any other attempt.
 * A hint, a backoff, a FINAL verdict and `retry_on` are about this target alone. */
const char *retry_forbids_all(const struct retry_settings *s, const struct retry_question *q);

/* Whether the same target is tried again. Checks in this order: blocked, excluded by `retry_on`, verdict FINAL, no_retry, attempts used up,
 * ambiguous and forbidden, hint beyond max_hint, hint or backoff beyond the deadline. A stale
 * connection is repeated without delay (nothing was sent), and so is what another key is there for. A weak (bucket) hint or plain backoff
 * that does not fit before the deadline is a give-up too: retryd never sleeps past it. The jitter
 * above a hint is cut to fit; max_hint is no matter of a weak one, which max_delay caps already. */
struct retry_decision retry_decide(const struct retry_settings *s, const struct retry_question *q);

#endif
