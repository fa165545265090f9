/* A breaker: decides whether an upstream's model counts as down (C20).
 *
 * CLOSED      Attempts go. It opens after `failures` failures in a row, or when at least
 *             BREAKER_VOLUME attempts ended in the last `window` and `failure_rate` of them failed.
 *             0 for either turns that rule off. Only a failure opens it; closing resets all
 *             counts.
 * OPEN        No attempt goes for `open_for`; then the next one is a probe.
 * HALF_OPEN   A probe is under way. A good one closes the breaker, a bad one opens it for another
 *             `open_for`. If a probe does not end, or is without a result (its client left), the
 *             next one may go `open_for` after it: there is never more than one in that time.
 *
 * Nygard, Release It! (2007), "Circuit Breaker". Pure: time is an argument, in ms of one monotonic
 * clock. */
#ifndef RETRYD_TARGETS_BREAKER_H
#define RETRYD_TARGETS_BREAKER_H

#include <stdbool.h>
#include <stdint.h>

#include "policy/settings.h"

#define BREAKER_VOLUME 20  /* attempts in the window from which on the rate counts */
#define BREAKER_BUCKETS 10 /* of the window */

enum breaker_phase { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_HALF_OPEN };

enum breaker_news {
    /* The upstream works: any response but a failure, also errors of the request. */
    BREAKER_GOOD,
    BREAKER_BAD,     /* it failed: no connection, no response, a broken one, a 5xx, a timeout */
    BREAKER_NO_NEWS, /* no result */
};

enum breaker_change {
    BREAKER_STAYS,
    BREAKER_OPENS,
    BREAKER_OPENS_AGAIN, /* the probe failed */
    BREAKER_CLOSES,
};

struct breaker_bucket {
    uint64_t number; /* its start in tenths of the window */
    unsigned ended, failed;
};

struct breaker {
    enum breaker_phase phase;
    unsigned in_a_row;
    uint64_t until_ms; /* not CLOSED: when the next probe may go */
    /* Counts openings, probes and closings: attempts from before the last one do not count. */
    uint32_t generation;
    struct breaker_bucket buckets[BREAKER_BUCKETS];
};

/* The part of a breaker's state that an attempt keeps. */
struct breaker_pass {
    uint32_t generation;
    bool probe;
};

void breaker_init(struct breaker *b);

/* Returns when an attempt may go; at or before `now_ms`: now. If it is not CLOSED, that attempt is
 * a probe. */
uint64_t breaker_next(const struct breaker *b, uint64_t now_ms);

/* Counts an attempt that goes, after breaker_next has returned now. An attempt that goes without
 * that is no probe and does not count. */
struct breaker_pass breaker_enter(struct breaker *b, const struct breaker_settings *s,
                                  uint64_t now_ms);

/* Counts the end of the attempt. Once the breaker has opened, only the latest probe counts. */
enum breaker_change breaker_leave(struct breaker *b, const struct breaker_settings *s,
                                  struct breaker_pass pass, enum breaker_news news,
                                  uint64_t now_ms);

/* Take over that another daemon found it down, for `for_ms` from now; or working. Return true if
 * that changes it: a breaker that is already open stays so for the longer of the two times, and a
 * running probe still counts. */
bool breaker_learn_open(struct breaker *b, uint64_t for_ms, uint64_t now_ms);
bool breaker_learn_closed(struct breaker *b);

#endif
