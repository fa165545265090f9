/* The world of turns under test: a clock that the test turns by hand, and a lock that nobody contends for, but
 * which must be taken once and given back. */
#ifndef RETRYD_FAKE_TURNS_H
#define RETRYD_FAKE_TURNS_H

#include "targets/turns.h"

struct fake_turns {
    const uint64_t *now_ms; /* the test's clock */
    uint64_t next_ms;       /* when turns_run is due; TURNS_NEVER */
    bool locked;
    void (*event)(void *arg, const struct turns_event *e);
    void *arg;
};

/* Turns in that world; `event` may be NULL. NULL when out of memory. */
struct turns *fake_turns_new(struct fake_turns *f, const uint64_t *now_ms,
                             void (*event)(void *arg, const struct turns_event *e), void *arg);

#endif
