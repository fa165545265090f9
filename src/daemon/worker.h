/* A worker: one thread, one event loop, the requests that live and die on it.
 *
 * It owns a frontend (libmicrohttpd), an upstream (libcurl) and the exchanges between them. Other
 * threads reach it through its inbox only: the functions below but worker_new and worker_free. */
#ifndef RETRYD_DAEMON_WORKER_H
#define RETRYD_DAEMON_WORKER_H

#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"
#include "daemon/metrics.h"

struct worker;

/* Starts the thread. `on_change` is called from it when a connection has closed or the worker has
 * stopped. The configuration is referenced; `turns` and `failures` outlive the worker. NULL and *ret_error when it cannot be started. */
struct worker *worker_new(struct config *config, struct turns *turns, struct failures *failures,
                          void (*on_change)(void *arg), void *arg, int *ret_error);
/* Waits for the thread, which must have been told to drain or abort. */
void worker_free(struct worker *w);

/* Hands an accepted connection over. 0 or -ENOMEM (then it was closed). */
int worker_add(struct worker *w, int fd);
void worker_configure(struct worker *w, struct config *config);
void worker_drain(struct worker *w); /* ends by itself when the last request is answered */
void worker_abort(struct worker *w); /* cuts what is left, then ends */
void worker_ping(struct worker *w);  /* asks for a sign of life */

/* Whether it has found, since it was last asked, that a file of the configuration has changed. */
bool worker_saw_change(struct worker *w);

bool worker_stopped(struct worker *w);
/* The serial of the configuration it was given last and has seen. */
uint64_t worker_serial(struct worker *w);
uint64_t worker_pongs(struct worker *w); /* signs of life given */
unsigned worker_load(struct worker *w);  /* connections given to it and still open */
struct metrics *worker_metrics(struct worker *w);

#endif
