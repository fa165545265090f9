/* Remembers the requests that have just failed here for good, so that a client's own retry of one can
 * be told from a new request (C8).
 *
 * Most agents start over after a final error, whatever `x-should-retry` says. Such a repeat gets one
 * attempt, so that the client's attempts and ours add up instead of multiplying.
 *
 * One `struct failures` serves all workers, under a mutex of its own. It keeps fingerprints and times
 * only, at most FAILURES_MAX; of more, those that would be forgotten first make room. While nothing is
 * remembered, asking costs one atomic load. Times are ms of the monotonic clock. */
#ifndef RETRYD_EXCHANGE_FAILURES_H
#define RETRYD_EXCHANGE_FAILURES_H

#include <stdbool.h>
#include <stdint.h>

#define FAILURES_MAX 1024

struct failures;

struct failures *failures_new(void); /* NULL when out of memory */
void failures_free(struct failures *f);

/* Whether any request may be remembered. False of NULL. */
bool failures_any(const struct failures *f, uint64_t now_ms);

bool failures_has(struct failures *f, uint64_t id, uint64_t now_ms);
/* Remembers a request, or remembers it for longer. */
void failures_add(struct failures *f, uint64_t id, uint64_t until_ms, uint64_t now_ms);
/* It has been answered: the next one is a new request. */
void failures_forget(struct failures *f, uint64_t id);

#endif
