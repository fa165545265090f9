/* Decides what follows a failed attempt: whether there is another one, after which delay, and where
 * it goes. No other code decides that. */
#ifndef RETRYD_POLICY_RETRY_H
#define RETRYD_POLICY_RETRY_H

#include <stdbool.h>
#include <stdint.h>

#include "policy/classify.h"
#include "policy/hint.h"
#include "policy/reason.h"
#include "policy/settings.h"

/* --- the delay -------------------------------------------------------------------------------- */

/* The delay before the next attempt, with or without a hint from the upstream (C2, C6). */

/* Returns the delay after `attempts_made` >= 1 attempts: initial * multiplier^(attempts_made-1), at
 * most max_delay, with jitter drawn from `random` (64 uniform bits). Never overflows. */
uint64_t backoff_delay(const struct backoff_settings *b, unsigned attempts_made, uint64_t random);

/* Returns the longest total time of all remaining backoffs after `attempts_made` of `max_attempts`
 * attempts. Returns UINT64_MAX instead of overflowing. */
uint64_t backoff_left(const struct backoff_settings *b, unsigned attempts_made,
                      unsigned max_attempts);

/* Returns the larger of the backoff and the hint. If that is the hint, up to 10 % + 20 ms of jitter
 * is added; the delay is never shorter than the hint. */
uint64_t backoff_with_hint(const struct backoff_settings *b, unsigned attempts_made,
                           const struct hint *hint, uint64_t random);

/* --- the target ------------------------------------------------------------------------------- */

/* The next attempt may go to the same target again, another key, another upstream, or a fallback
 * model (C4, C18). */

/* The changes of target that may help after a failure, as bits. */
enum move_helps {
    HELPS_KEY = 1 << 0,      /* another key of that upstream */
    HELPS_UPSTREAM = 1 << 1, /* another upstream with the same model */
    HELPS_MODEL = 1 << 2,    /* another model: the next tier */
};

/* Returns which other targets may help, as bits of enum move_helps. If a key is rate limited, out
 * of quota or rejected, another key may work. A model that is down may be up at another upstream. A
 * request that is too long needs a model with a larger context. Nothing helps against a
 * content-policy refusal or an invalid request. Whether the same target may be tried again,
 * classify decides. */
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

/* --- the decision ----------------------------------------------------------------------------- */

enum retry_action {
    RETRY_AGAIN,   /* try again after delay_ms */
    RETRY_GIVE_UP, /* the failure is final; `why_not` is the reason */
};

struct retry_decision {
    enum retry_action action;
    uint64_t delay_ms;
    const char *why_not; /* RETRY_GIVE_UP: part of a sentence, logged verbatim; static */
    enum move move;      /* RETRY_AGAIN: the next target; retry_decide sets MOVE_STAY */
};

struct retry_question {
    struct verdict verdict; /* RETRY or FINAL, not GOOD */
    struct hint hint;
    unsigned attempts_made; /* >= 1 */
    unsigned max_attempts;  /* from the settings, or the caller's override */
    bool no_retry;          /* the caller asked for a single attempt */
    const char *blocked;    /* an earlier reason that forbids any retry, or NULL */
    uint64_t now_ms;
    uint64_t deadline_ms; /* absolute, or DEADLINE_NONE */
    bool mending;         /* the deadline comes from mend_timeout */
    uint64_t random;
};

/* No attempt starts with less time than this before the deadline, because it could not finish. */
#define RETRY_MIN_ATTEMPT_MS 50

/* Returns NULL if an attempt at another target may follow at once, or the reason that forbids every
 * other attempt. Hints, backoff, FINAL verdicts and `retry_on` concern only the current target, so
 * they do not count here. */
const char *retry_forbids_all(const struct retry_settings *s, const struct retry_question *q);

/* Decides whether to try the same target again. The checks, in order: blocked; excluded by
 * `retry_on`; a FINAL verdict; no_retry; no attempts left; ambiguous and retry_ambiguous is off; a
 * hint beyond max_hint; a hint or backoff that does not end before the deadline. retryd never
 * sleeps past the deadline, so a bucket hint or a plain backoff that does not fit ends the retries
 * too.
 *
 * After a stale connection, where nothing was sent, and with a new key the delay is 0. Jitter above
 * a hint is cut to fit before the deadline. max_hint does not apply to a bucket hint, because
 * max_delay already limits it. */
struct retry_decision retry_decide(const struct retry_settings *s, const struct retry_question *q);

#endif
