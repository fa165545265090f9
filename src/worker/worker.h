/* A worker: one thread with an event loop, and the requests on it.
 *
 * It owns a frontend (libmicrohttpd), a fetcher (libcurl) and the exchanges between them. Other
 * threads reach it only through its inbox, which all functions below use except worker_new and
 * worker_free. */
#ifndef RETRYD_WORKER_WORKER_H
#define RETRYD_WORKER_WORKER_H

#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"
#include "worker/history.h"
#include "worker/metrics.h"

struct worker;

/* Starts the thread, which calls `on_change` when a connection has closed or the worker has
 * stopped. References the configuration; `shared` must outlive the workers. NULL with *ret_error if
 * it cannot be started. */
struct worker_shared {
    struct turns *turns;
    struct failures *failures;
    struct history *history;
};
struct worker *worker_new(struct config *config, const struct worker_shared *shared,
                          void (*on_change)(void *arg), void *arg, int *ret_error);
/* Waits for the thread; worker_drain or worker_abort must have been called. */
void worker_free(struct worker *w);

/* Passes an accepted connection. 0, or -ENOMEM after closing it. */
int worker_add(struct worker *w, int fd);
void worker_configure(struct worker *w, struct config *config);
void worker_drain(struct worker *w); /* ends after the last request */
void worker_abort(struct worker *w); /* cuts the remaining requests, then ends */
void worker_ping(struct worker *w);  /* asks for a pong */

/* Whether the worker noticed, since the last call, that a file of the configuration has changed. */
bool worker_saw_change(struct worker *w);

bool worker_stopped(struct worker *w);
/* The serial of the configuration that it received last. */
uint64_t worker_serial(struct worker *w);
uint64_t worker_pongs(struct worker *w); /* pings answered */
unsigned worker_load(struct worker *w);  /* its open connections */
struct metrics *worker_metrics(struct worker *w);

/* The bytes that the requests of all workers hold, for [server] max_buffered: now, and the maximum
 * so far. They are the bytes whose number depends on clients and upstreams: request bodies in
 * memory, blocks of spools, and responses that are held or being sent. Each worker reports its sum
 * once an iteration, with relaxed atomics as nothing depends on their order, so the total lags a
 * little. */
uint64_t worker_buffered(void);
uint64_t worker_most_buffered(void);

#endif
