/* How long to wait before the next attempt, with a hint of the upstream or without (C2, C6). */
#ifndef RETRYD_POLICY_BACKOFF_H
#define RETRYD_POLICY_BACKOFF_H

#include <stdint.h>

#include "policy/hint.h"
#include "policy/settings.h"

/* Delay before attempt number `attempts_made`+1, `attempts_made` >= 1: initial * multiplier^(n-1),
 * at most max_delay, with jitter drawn from `random` (uniform 64 bits). Never overflows. */
uint64_t backoff_delay(const struct backoff_settings *b, unsigned attempts_made, uint64_t random);

/* The longest that all backoffs behind `attempts_made` attempts can take together, of
 * `max_attempts`. Never overflows. */
uint64_t backoff_left(const struct backoff_settings *b, unsigned attempts_made,
                      unsigned max_attempts);

/* The hint is a floor under the backoff: the larger of the two, and where the hint is the larger
 * up to 10 % + 20 ms of jitter above it, never below. */
uint64_t backoff_with_hint(const struct backoff_settings *b, unsigned attempts_made,
                           const struct hint *hint, uint64_t random);

#endif
