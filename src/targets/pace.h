/* How often attempts may go to a target: a rate limit that is set, and pacing, which finds the rate that an
 * upstream bears. Pure: time is an argument, in ms. */
#ifndef RETRYD_TARGETS_PACE_H
#define RETRYD_TARGETS_PACE_H

#include <stdbool.h>
#include <stdint.h>

/* --- a limit that is set ------------------------------------------------------------------------ */

/* So many attempts in a minute (C22), as the generic cell rate algorithm (ITU-T I.371). They may go as often as
 * the rate says, and as many at once as it gives in one second, at least one. */
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

/* --- a rate that is found ------------------------------------------------------------------------ */

/* Adaptive pacing of a target: finds the rate that an upstream bears which answers 429 without
 * saying how long to wait. Additive increase, multiplicative decrease (Chiu and Jain, 1989).
 *
 * Off until PACE_REPEATED 429s without a hint came within PACE_WINDOW_MS. Then the rate is half of
 * what was sent in the last second, and halves again with each further 429, but at most once in
 * PACE_ROUND_MS, for answers to what was sent before the last fall say nothing new. After a fall the
 * next attempt goes after a whole interval: no burst is saved up. For each PACE_ROUND_MS without a
 * 429 it rises by a twentieth of the rate that was first found too high, at least by 6 a minute; a
 * long gap is many of them. When it is twice that high, it is off again. Never below PACE_LEAST a
 * minute. */
#define PACE_REPEATED 2
#define PACE_WINDOW_MS 10000
#define PACE_ROUND_MS 1000
#define PACE_LEAST 6.0 /* attempts a minute */

struct pace {
    bool on;
    double per_minute; /* while on */
    double peak;       /* what was sent a minute when it was turned on, at least PACE_LEAST */
    struct rate rate;
    uint64_t last_429_ms, fell_ms, rose_ms;
    unsigned limited;           /* 429s within the window, while off */
    uint64_t second;            /* for counting what is sent: its number */
    unsigned sent, sent_before; /* in it, and in the one before */
};

void pace_init(struct pace *p);

/* Returns when the next attempt may be sent; at or before `now_ms`: now. */
uint64_t pace_next(const struct pace *p, uint64_t now_ms);

/* Counts an attempt that is sent. */
void pace_enter(struct pace *p, uint64_t now_ms);

/* Counts an attempt that was answered; `limited`: with a 429 that has no hint. Returns whether the rate
 * has changed. */
bool pace_leave(struct pace *p, bool limited, uint64_t now_ms);

#endif
