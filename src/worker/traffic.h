/* Runs the turns of the whole process (targets/turns.h): their lock, clock, timer and events.
 *
 * Workers ask for turns from their own threads, under one mutex. A timer on the main thread's loop
 * fires when the next waiting request may go, whichever worker it is on; its worker's ready list
 * then gets the turn. Events become log lines, counters and, on the main thread, news for other
 * daemons. */
#ifndef RETRYD_WORKER_TRAFFIC_H
#define RETRYD_WORKER_TRAFFIC_H

#include <uv.h>

#include "base/buf.h"
#include "targets/turns.h"

struct traffic;

/* Receives events that other daemons should know, on the main thread. Attempts have their own
 * queue, so that any number of them does not displace gates and breakers. */
struct traffic_news {
    /* Receives a gate that closed, or a breaker that opened or closed. The event's names are
     * empty. */
    void (*event)(void *arg, const struct turns_event *e);
    /* Receives the number of attempts that began at an upstream with that requests_per_minute since
     * the last call for it. */
    void (*taken)(void *arg, uint64_t upstream_id, double per_minute, unsigned n);
    void *arg;
};

/* Runs on the main thread's loop. NULL if out of memory. */
struct traffic *traffic_new(uv_loop_t *loop);
void traffic_set_news(struct traffic *t, const struct traffic_news *news); /* before any worker */
uint64_t traffic_news_dropped(struct traffic *t); /* dropped for lack of room */
/* Closes its handles. Call traffic_free when the loop and all workers have ended. */
void traffic_close(struct traffic *t);
void traffic_free(struct traffic *t);

/* Returns the turns. May be called from any thread. */
struct turns *traffic_turns(struct traffic *t);

/* A view of targets/turns.h with its own copies of the names. */
struct traffic_view {
    struct turns_view view;
    char upstream[64], model[128];
    bool hidden; /* left out on the status page, because its upstream has too many */
};
/* Returns views of everything, sorted by upstream, kind, model, operation and key; those that
 * differ only in clients' own keys are merged. The caller frees them. Returns 0 or -ENOMEM. */
int traffic_views(struct traffic *t, struct traffic_view **ret, size_t *ret_count);

/* Writes the metrics of targets in the Prometheus text format; on the main thread. The number of
 * series is limited: further models are summed as "other". */
void traffic_metrics(struct traffic *t, struct buf *out);

#endif
