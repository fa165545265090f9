/* A rate limit: so many attempts in a minute (C22), as the generic cell rate algorithm (ITU-T I.371).
 *
 * Attempts may go as often as the rate says, and as many at once as it gives in one second, at
 * least one. Pure: time is an argument. */
#ifndef RETRYD_TARGETS_RATE_H
#define RETRYD_TARGETS_RATE_H

#include <stdint.h>

struct rate {
    uint64_t tat_us; /* the theoretical arrival time of the next one; 0: none yet */
};

/* When one may go: not after `now_ms` means now. `per_minute` 0: always now; it may be fractional
 * and change from call to call. Rounded up: who comes then may go. */
uint64_t rate_next(const struct rate *r, double per_minute, uint64_t now_ms);

/* One goes, whether it may or not: those that may not put off the next ones. */
void rate_take(struct rate *r, double per_minute, uint64_t now_ms);

/* Others have taken theirs: it is not earlier than `ahead_us` from now. */
void rate_learn(struct rate *r, uint64_t ahead_us, uint64_t now_ms);

#endif
