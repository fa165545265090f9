/* Writes the story of a request (worker/history.h) as its exchange goes on; on its worker.
 *
 * `slot` is the call's: NULL while there is nothing to tell. A request that is answered at the first
 * attempt, at once and in time, leaves it at that. */
#ifndef RETRYD_WORKER_STORY_H
#define RETRYD_WORKER_STORY_H

#include "worker/history.h"

/* It waits for a turn. */
void story_waits(struct history *h, struct story **slot, const struct exchange *x,
                 const struct turn *turn);
/* An attempt begins: the first one is told only if there is a story by then. */
void story_attempt(struct history *h, struct story **slot, const struct exchange *x,
                   const struct attempt *a);
/* A second attempt is about to join the first. */
void story_hedged(struct history *h, struct story **slot, const struct exchange *x);
void story_failed(struct history *h, struct story **slot, const struct exchange *x,
                  const struct attempt_report *r);
/* The response is on its way to the client. */
void story_relays(struct history *h, struct story *s);

/* How long upstreams were worked with on behalf of a request that has ended. */
uint64_t story_upstream_ms(const struct story *s, const struct exchange *x);

/* The request has ended: keeps its story if it failed, was retried, had to wait, or was slower than
 * `slow_ms` to begin its response (0: none is slow). */
void story_end(struct history *h, struct story **slot, const struct exchange *x, uint64_t slow_ms);

/* Lets go of one whose end is not to be told. */
void story_drop(struct history *h, struct story **slot);

#endif
