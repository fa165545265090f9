/* The turns of the whole process (targets/turns.h): their lock, their clock, and who is told.
 *
 * Workers ask from their own threads; one mutex guards all of it. When the next waiting request may
 * go is watched by a timer on the main thread's loop, whichever worker the request is on; those who
 * were let through are told through their worker's ready list. Events become log lines, counters and, on
 * the main thread, news for other daemons. */
#ifndef RETRYD_DAEMON_TRAFFIC_H
#define RETRYD_DAEMON_TRAFFIC_H

#include <uv.h>

#include "base/buf.h"
#include "targets/turns.h"

struct traffic;

/* What happened here that other daemons should know; called on the main thread. However many attempts
 * there are, they take no place from the others. */
struct traffic_news {
    /* A gate closed, a breaker opened or closed; names in it are not set. */
    void (*told)(void *arg, const struct turns_event *e);
    /* So many attempts at an upstream with that requests_per_minute, since the last call for it. */
    void (*taken)(void *arg, uint64_t upstream_id, double per_minute, unsigned n);
    void *arg;
};

/* On the main thread's loop. NULL when out of memory. */
struct traffic *traffic_new(uv_loop_t *loop);
void traffic_set_news(struct traffic *t, const struct traffic_news *news); /* before any worker */
uint64_t traffic_news_dropped(struct traffic *t);                          /* they found no place */
/* Closes its handles; traffic_free follows when the loop and all workers have ended. */
void traffic_close(struct traffic *t);
void traffic_free(struct traffic *t);

/* From any thread. */
struct turns *traffic_turns(struct traffic *t);

/* Its part of the metrics, in the Prometheus text format; on the main thread. The number of series is
 * bounded: models beyond it stand together as "other". */
void traffic_metrics(struct traffic *t, struct buf *out);
/* ... for which alone these are: so far, and whose labels it wrote last. */
struct traffic_counts {
    uint64_t waits[TURN_WHY_COUNT]; /* requests that had to wait, by what for */
    uint64_t denied;                /* repeats, by upstreams' budgets */
};
struct traffic_counts traffic_counts(struct traffic *t);
struct buf *traffic_shown(struct traffic *t);

#endif
