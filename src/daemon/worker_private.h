/* What a worker's files share: worker.c is its life, call.c the requests on it. */
#ifndef RETRYD_DAEMON_WORKER_PRIVATE_H
#define RETRYD_DAEMON_WORKER_PRIVATE_H

#include <pthread.h>
#include <uv.h>

#include "base/list.h"
#include "daemon/wiring.h"
#include "daemon/worker.h"
#include "edge/frontend.h"
#include "edge/upstream.h"

/* One request in progress: the exchange and its two ends. */
struct call {
    unsigned magic;
    struct worker *w;
    struct exchange x;
    struct frontend_request *r; /* NULL when the client's end is closed */
    struct transfer *t;         /* NULL while no attempt runs */
    struct wiring *wiring;
    uv_timer_t timer;
    uint64_t armed_at; /* when the timer will fire; TIMER_OFF: it will not */
    struct list run;   /* in the worker's run queue, or on no list */
    struct list node;  /* among the worker's calls, active or kept */
};

struct inbox {
    pthread_mutex_t lock;
    int *fds;
    unsigned fd_count, fd_size;
    struct config *config; /* a new one; NULL: no change */
    bool drain, abort, ping;
};

struct worker {
    pthread_t thread;
    uv_loop_t loop;
    uv_async_t async;
    uv_prepare_t prepare;
    uv_check_t check;
    struct frontend *frontend;
    struct upstream *upstream;
    struct wiring *wiring;
    struct list run;
    struct list active;
    struct list kept;
    unsigned active_count, kept_count;
    bool work;
    bool draining, aborting, closing;
    uint64_t turn_began_ns;
    uint64_t random_state[4];
    struct inbox inbox;
    struct metrics metrics;
    atomic_uint given;  /* connections handed over */
    atomic_uint closed; /* ... and closed since */
    atomic_uint_fast64_t pongs;
    atomic_bool stopped;
    void (*on_change)(void *arg);
    void *arg;
};

/* What the frontend calls; its context is the worker. */
extern const struct frontend_handler call_handler;

/* Does all that the exchange of a call can do now; ends the call when both its ends are closed. */
void call_run(struct call *c);

/* Puts a call that has news into the run queue. */
void call_enqueue(struct call *c);

/* Frees the calls kept for re-use. */
void call_free_kept(struct worker *w);

#endif
