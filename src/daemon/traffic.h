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

/* As in targets/turns.h, from any thread. */
enum turn_state traffic_ask(struct traffic *t, struct turn *turn, struct turns_ready *ready,
                            const struct turn_request *turn_request);
enum turn_state traffic_state(struct traffic *t, const struct turn *turn);
void traffic_leave(struct traffic *t, struct turn *turn);
void traffic_tell(struct traffic *t, struct turn *turn, const struct turn_result *r);
void traffic_end(struct traffic *t, struct turn *turn);
void traffic_look(struct traffic *t, const struct turn_request *turn_request, unsigned helps,
                  struct turns_outlook *ret);
bool traffic_may_repeat(struct traffic *t, const struct upstream *p,
                        const struct retry_settings *s);
void traffic_charge(struct traffic *t, const struct upstream *p);
void traffic_limits(struct traffic *t, const struct upstream *p);
struct turn *traffic_take(struct traffic *t, struct turns_ready *ready);

/* What other daemons tell; from the main thread. */
void traffic_learn_gate(struct traffic *t, uint64_t target_id, uint64_t for_ms);
void traffic_learn_breaker(struct traffic *t, uint64_t model_id, bool open, uint64_t for_ms);
void traffic_learn_rate(struct traffic *t, uint64_t upstream_id, uint64_t ahead_us);

/* All that is known, told to `each` part by part, each under the lock: it may only copy. */
struct traffic_view {
    void (*each)(void *arg, const struct turns_view *v); /* in, and its argument */
    void *arg;
    unsigned waiting;               /* out */
    uint64_t waits[TURN_WHY_COUNT]; /* so far, by what they were for */
};
void traffic_view(struct traffic *t, struct traffic_view *view);

/* Its part of the metrics, in the Prometheus text format; on the main thread. The number of series is
 * bounded: models beyond it stand together as "other". */
void traffic_metrics(struct traffic *t, struct buf *out);
struct buf *traffic_shown(struct traffic *t); /* for it alone: whose labels it wrote last */

#endif
