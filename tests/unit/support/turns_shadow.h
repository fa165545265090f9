/* Counts once more, from outside, what a registry of targets lets through, for tests that draw: it
 * stands between many exchanges, their worlds and the turns that they share. */
#ifndef RETRYD_TURNS_SHADOW_H
#define RETRYD_TURNS_SHADOW_H

#include "fake_worlds.h"

#define SHADOW_WORLDS 16
#define SHADOW_TIERS 3
#define SHADOW_KEYS 4      /* two of an upstream's own, or of two clients' */
#define SHADOW_GRANTS 1024 /* at one upstream */
#define SHADOW_BUCKETS 4096

struct shadow_upstream {
    unsigned in_flight;
    uint64_t granted_ms[SHADOW_GRANTS]; /* where it has requests_per_minute */
    unsigned grants;
    unsigned requests[SHADOW_BUCKETS], repeats[SHADOW_BUCKETS]; /* each half second's */
    uint64_t shut_until_ms[SHADOW_KEYS][SHADOW_TIERS];          /* gates */
    bool down[SHADOW_TIERS], probe[SHADOW_TIERS];               /* breakers; one has just begun */
    uint64_t probed_ms[SHADOW_TIERS];
};

struct shadow_world {
    bool granted[2], asking;
    unsigned client; /* which credentials it brings: 0 or 1 */
    unsigned visited, starts, paid;
};

struct shadow {
    struct fake_worlds *ws;
    const struct upstream *upstreams; /* the same in all worlds; upstream n is the n-th */
    unsigned known_count;
    const char *const *models; /* of the tiers */
    uint64_t open_for_ms;      /* of the breakers */
    struct shadow_upstream known[FAKE_UPSTREAMS];
    struct shadow_world worlds[SHADOW_WORLDS];
    uint64_t grants, waits, refusals, hedges, probes, denied;
    const char *wrong; /* the first thing that must not be; NULL: none */
    int line;
};

/* For `ws`, whose turns' events must go to shadow_event, until shadow_deinit. */
void shadow_init(struct shadow *s, struct fake_worlds *ws);
void shadow_deinit(void);
void shadow_event(void *arg, const struct turns_event *e);

/* After fake_begin. */
void shadow_begun(struct shadow *s, unsigned number, unsigned client);

/* What must hold after each turn of the clock, and when nothing is due any more. */
void shadow_check(struct shadow *s);
void shadow_check_end(struct shadow *s);

#endif
