/* Decides what happens after a failed attempt. No other code decides that. */
#ifndef RETRYD_POLICY_RETRY_H
#define RETRYD_POLICY_RETRY_H

#include <stdbool.h>
#include <stdint.h>

#include "policy/classify.h"
#include "policy/hint.h"
#include "policy/move.h"
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
