/* A breaker: whether an upstream's model is taken for down (C20).
 *
 * CLOSED      Attempts go. It opens after `failures` failures in a row, or when in the last `window`
 *             at least BREAKER_VOLUME attempts ended and `failure_rate` of them failed. 0 for either
 *             turns that rule off. Only a failure opens it; closing forgets all that was counted.
 * OPEN        None goes for `open_for`; then the next one is a probe.
 * HALF_OPEN   A probe is under way. A good one closes the breaker, a bad one opens it for another
 *             `open_for`. One that does not end, or tells nothing (its client left), makes room for
 *             the next one `open_for` after it went: there is never more than one in that time.
 *
 * Nygard, Release It! (2007), "Circuit Breaker". Pure: time is an argument, in ms of one monotonic
 * clock. */
#ifndef RETRYD_TARGETS_BREAKER_H
#define RETRYD_TARGETS_BREAKER_H

#include <stdbool.h>
#include <stdint.h>

#include "policy/settings.h"

#define BREAKER_VOLUME 20  /* attempts in the window, before the rate says anything */
#define BREAKER_BUCKETS 10 /* of the window */

enum breaker_phase { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_HALF_OPEN };

enum breaker_news {
    BREAKER_GOOD,    /* the upstream works: any answer but a failure, errors of the request too */
    BREAKER_BAD,     /* it failed: no connection, no answer, a broken one, a 5xx, a timeout */
    BREAKER_NO_NEWS, /* nothing was learned */
};

enum breaker_change {
    BREAKER_STAYS,
    BREAKER_OPENS,
    BREAKER_OPENS_AGAIN, /* the probe failed */
    BREAKER_CLOSES,
};

struct breaker_bucket {
    uint64_t number; /* of its time, in tenths of the window */
    unsigned ended, failed;
};

struct breaker {
    enum breaker_phase phase;
    unsigned in_a_row;
    uint64_t until_ms;   /* not CLOSED: when the next probe may go */
    uint32_t generation; /* counts its openings, probes and closings: what went before no longer
                            counts */
    struct breaker_bucket buckets[BREAKER_BUCKETS];
};

/* What an attempt that went remembers. */
struct breaker_pass {
    uint32_t generation;
    bool probe;
};

void breaker_init(struct breaker *b);

/* When an attempt may go: not after `now_ms` means now; only a probe may go where it is not CLOSED. */
uint64_t breaker_next(const struct breaker *b, uint64_t now_ms);

/* One goes; breaker_next said now. One that goes all the same is no probe and counts for nothing. */
struct breaker_pass breaker_enter(struct breaker *b, const struct breaker_settings *s,
                                  uint64_t now_ms);

/* It has ended. What went before the breaker opened changes nothing any more: only the latest probe
 * does. */
enum breaker_change breaker_leave(struct breaker *b, const struct breaker_settings *s,
                                  struct breaker_pass pass, enum breaker_news news,
                                  uint64_t now_ms);

/* Another daemon has found it down, for so long from now; or working. True when that changes it: a
 * breaker that is open already stays so for the longer of the two times, and a probe that is under
 * way still counts. */
bool breaker_learn_open(struct breaker *b, uint64_t for_ms, uint64_t now_ms);
bool breaker_learn_closed(struct breaker *b);

#endif
