/* The delay before the next attempt, with or without a hint from the upstream (C2, C6). */
#ifndef RETRYD_POLICY_BACKOFF_H
#define RETRYD_POLICY_BACKOFF_H

#include <stdint.h>

#include "policy/hint.h"
#include "policy/settings.h"

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

#endif
