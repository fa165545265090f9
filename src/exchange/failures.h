/* Remembers the requests that have just failed here for good, so that a client's own retry of one can
 * be told from a new request (C8).
 *
 * Most agents start over after a final error, whatever `x-should-retry` says. Such a repeat gets one
 * attempt, so that the client's attempts and ours add up instead of multiplying.
 *
 * One `struct failures` serves all workers, under a mutex of its own. It keeps fingerprints, times and
 * a few words of each, at most FAILURES_MAX; of more, those that would be forgotten first make room. While nothing is
 * remembered, asking costs one atomic load. Times are ms of the monotonic clock. */
#ifndef RETRYD_EXCHANGE_FAILURES_H
#define RETRYD_EXCHANGE_FAILURES_H

#include <stdbool.h>
#include <stdint.h>

#define FAILURES_MAX 1024
#define FAILURE_WORDS 160 /* bytes, the terminator included */

struct failures;

struct failures *failures_new(void); /* NULL when out of memory */
void failures_free(struct failures *f);

/* Whether any request may be remembered. False of NULL. */
bool failures_any(const struct failures *f, uint64_t now_ms);

/* `ret_words`: how it failed, for a person; left alone where it is not remembered. */
bool failures_has(struct failures *f, uint64_t id, uint64_t now_ms, char ret_words[FAILURE_WORDS]);
/* Remembers a request, or remembers it for longer. `words` are cut where they do not fit; NULL: those of
 * before stay. */
void failures_add(struct failures *f, uint64_t id, uint64_t until_ms, uint64_t now_ms,
                  const char *words);
/* It has been answered: the next one is a new request. */
void failures_forget(struct failures *f, uint64_t id);

#endif
