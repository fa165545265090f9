/* Limits the rate of attempts at a target: by a configured rate limit, and by pacing, which finds
 * the highest rate that an upstream accepts. Pure: time is an argument, in ms. */
#ifndef RETRYD_TARGETS_PACE_H
#define RETRYD_TARGETS_PACE_H

#include <stdbool.h>
#include <stdint.h>

/* --- a configured limit ----------------------------------------------------------------------- */

/* A number of attempts per minute (C22), as the generic cell rate algorithm (ITU-T I.371). Attempts
 * may go at the rate, and as many at once as the rate gives in one second, at least one. */
struct rate {
    uint64_t tat_us; /* the theoretical arrival time of the next attempt; 0: none yet */
};

/* Returns when an attempt may go; at or before `now_ms`: now. `per_minute` 0: always now; it may be
 * fractional and change from call to call. Rounded up, so that an attempt at that time may go. */
uint64_t rate_next(const struct rate *r, double per_minute, uint64_t now_ms);

/* Counts an attempt that goes, allowed or not; one that is not allowed delays the next ones. */
void rate_take(struct rate *r, double per_minute, uint64_t now_ms);

/* Takes over the attempts of other daemons: the next arrival is at least `ahead_us` from now. */
void rate_learn(struct rate *r, uint64_t ahead_us, uint64_t now_ms);

/* --- adaptive pacing -------------------------------------------------------------------------- */

/* Adaptive pacing of a target: finds the highest rate that an upstream accepts if its 429s do not
 * say how long to wait. Additive increase, multiplicative decrease (Chiu and Jain, 1989).
 *
 * It is off until PACE_REPEATED 429s without a hint came within PACE_WINDOW_MS. Then the rate is
 * half of the attempts in the last second. It halves again with each further 429, but at most once
 * in PACE_ROUND_MS, because responses to attempts from before the last fall are no news. After a
 * fall the next attempt goes after a whole interval: no burst is saved up. For each PACE_ROUND_MS
 * without a 429 the rate rises by a twentieth of the rate that was first found too high, at least
 * by 6 a minute; a long gap counts as many. When it is twice that high, it is off again. It is
 * never below PACE_LEAST a minute. */
#define PACE_REPEATED 2
#define PACE_WINDOW_MS 10000
#define PACE_ROUND_MS 1000
#define PACE_LEAST 6.0 /* attempts a minute */

struct pace {
    bool on;
    double per_minute; /* while on */
    double peak;       /* attempts a minute when it was turned on, at least PACE_LEAST */
    struct rate rate;
    uint64_t last_429_ms, fell_ms, rose_ms;
    unsigned limited;           /* 429s within the window, while off */
    uint64_t second;            /* the number of the second in which attempts are counted */
    unsigned sent, sent_before; /* in it, and in the one before */
};

void pace_init(struct pace *p);

/* Returns when the next attempt may be sent; at or before `now_ms`: now. */
uint64_t pace_next(const struct pace *p, uint64_t now_ms);

/* Counts an attempt that is sent. */
void pace_enter(struct pace *p, uint64_t now_ms);

/* Counts a response to an attempt; `limited`: it is a 429 without a hint. Returns whether the rate
 * has changed. */
bool pace_leave(struct pace *p, bool limited, uint64_t now_ms);

#endif
