/* Remembers the requests that have just failed for good, so that a client's own retry of one is not
 * taken for a new request (C8).
 *
 * Most agents start over after a final error, whatever `x-should-retry` says. Such a repeat gets
 * one attempt, so that the client's attempts and ours add up instead of multiplying.
 *
 * One `struct failures` serves all workers, under its own mutex. It keeps a fingerprint, a time and
 * a few words for each of at most FAILURES_MAX requests; if there are more, those that would expire
 * first make room. While nothing is remembered, a lookup costs one atomic load. Times are ms of the
 * monotonic clock. */
#ifndef RETRYD_EXCHANGE_FAILURES_H
#define RETRYD_EXCHANGE_FAILURES_H

#include <stdbool.h>
#include <stdint.h>

#define FAILURES_MAX 1024
#define FAILURE_WORDS 160 /* bytes, the terminator included */

struct failures;

struct failures *failures_new(void); /* NULL if out of memory */
void failures_free(struct failures *f);

/* Whether any request may be remembered; false if `f` is NULL. */
bool failures_any(const struct failures *f, uint64_t now_ms);

/* Whether the request is remembered. `ret_words` then says how it failed, for a person. */
bool failures_has(struct failures *f, uint64_t id, uint64_t now_ms, char ret_words[FAILURE_WORDS]);
/* Remembers a request, or remembers it for longer. `words` are cut to fit; NULL keeps the previous
 * words. */
void failures_add(struct failures *f, uint64_t id, uint64_t until_ms, uint64_t now_ms,
                  const char *words);
/* Forgets a request that has succeeded: the next one like it is a new request. */
void failures_forget(struct failures *f, uint64_t id);

#endif
