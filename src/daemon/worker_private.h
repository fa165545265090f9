/* What a worker's files share: worker.c is its life, call.c the requests on it. */
#ifndef RETRYD_DAEMON_WORKER_PRIVATE_H
#define RETRYD_DAEMON_WORKER_PRIVATE_H

#include <pthread.h>
#include <uv.h>

#include "base/list.h"
#include "daemon/wiring.h"
#include "daemon/worker.h"
#include "edge/fetch.h"
#include "edge/frontend.h"

/* One request in progress: the exchange and its two ends. */
struct call {
    unsigned magic;
    struct worker *w;
    struct exchange x;
    struct frontend_request *r; /* NULL when the client's end is closed */
    struct transfer *t[2];      /* of x.slots; NULL while none runs */
    struct wiring *wiring;
    struct wiring *wiring_before; /* of its plan before the one in force; NULL: there was none */
    uv_timer_t timer;
    uint64_t armed_at; /* when the timer will fire; TIMER_OFF: it will not */
    size_t held;       /* bytes counted for it in the worker's `buffered` */
    size_t answered;   /* ... of them the answer that was handed over */
    bool spool_warned; /* that its spool failed is in the log */
    bool untold;       /* its exchange has ended, and how is told once its client's end is closed */
    bool taken_whole;  /* ... where all of the answer went to the kernel */
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
    struct fetch *fetch;
    struct wiring *wiring;
    struct turns *turns;         /* of all workers */
    struct failures *failures;   /* ... */
    struct turns_ready ready;    /* where turns are told that have been waited for */
    uint64_t tls_quiet_until_ms; /* clients that speak TLS are told of again then */
    struct list run;
    struct list active;
    struct list kept;
    unsigned active_count, kept_count;
    bool work;
    bool draining, aborting, closing;
    bool cut; /* the connections that were left when it was to abort */
    uint64_t turn_began_ns;
    uint64_t random_state[4];
    size_t buffered;      /* bytes that its calls hold */
    size_t buffered_told; /* ... as far as all workers know (daemon/pressure.h) */
    struct inbox inbox;
    struct metrics metrics;
    atomic_uint given;  /* connections handed over */
    atomic_uint closed; /* ... and closed since */
    atomic_uint_fast64_t pongs;
    atomic_uint_fast64_t serial; /* of the configuration that it has seen last */
    atomic_bool saw_change;
    atomic_bool stopped;
    void (*on_change)(void *arg);
    void *arg;
};

/* From now on requests begin with that configuration. */
void worker_adopt(struct worker *w, struct config *config);

/* What the frontend calls; its context is the worker. */
extern const struct frontend_handler call_handler;

/* Does all that the exchange of a call can do now; ends the call when both its ends are closed. */
void call_run(struct call *c);

/* Puts a call that has news into the run queue. */
void call_enqueue(struct call *c);

/* The request's body on its way in (struct frontend_handler) and out (struct fetch_request). */
ptrdiff_t call_on_body(void *user, const void *data, size_t n, char *ret_why, size_t why_size);
ptrdiff_t call_read_body(void *arg, uint64_t offset, void *to, size_t max);
/* Lets whichever way waited go on, where there is room or bytes now. */
void call_pass_body(struct call *c);

/* Counts the memory that it holds now. */
void call_count(struct call *c);

/* 0, or -EBUSY with a sentence for the client while there is no memory for new requests. */
int call_shed(struct worker *w, char *ret_why, size_t size);

/* The world's spools and its memory: see struct exchange_ops. */
int call_spool_open(void *world, struct exchange *x, struct spool **ret);
void call_spool_close(void *world, struct spool *s);
ptrdiff_t call_spool_write(void *world, struct spool *s, const void *data, size_t n);
bool call_spool_full(void *world, const struct spool *s);
void call_spool_flush(void *world, struct spool *s);
int call_spool_state(void *world, const struct spool *s);
ptrdiff_t call_spool_read(void *world, struct spool *s, uint64_t offset, void *to, size_t max);
size_t call_spool_memory(void *world, const struct spool *s);
bool call_pressed(void *world);

/* Frees the calls kept for re-use. */
void call_free_kept(struct worker *w);

#endif
