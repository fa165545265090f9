/* State and functions that a worker's files share: worker.c runs the thread, call.c its
 * requests. */
#ifndef RETRYD_WORKER_WORKER_PRIVATE_H
#define RETRYD_WORKER_WORKER_PRIVATE_H

#include <pthread.h>
#include <uv.h>

#include "base/list.h"
#include "edge/fetch.h"
#include "edge/frontend.h"
#include "worker/history.h"
#include "worker/worker.h"
#include "worker/worker_config.h"

/* One request in progress: the exchange and its two ends. */
struct call {
    unsigned magic;
    struct worker *w;
    struct exchange x;
    struct frontend_request *r; /* NULL when the client's end is closed */
    struct transfer *t[2];      /* of x.slots; NULL while none runs */
    struct worker_config *config;
    struct worker_config *config_before; /* of its previous plan, or NULL */
    uv_timer_t timer;
    uint64_t armed_at;   /* when the timer fires, or TIMER_OFF */
    size_t held;         /* bytes counted for it in the worker's `buffered` */
    size_t handed_over;  /* of these, bytes of the response that was handed over */
    struct story *story; /* NULL: it has none */
    bool spool_warned;   /* the failure of its spool was logged */
    bool end_pending;    /* the exchange has ended; counted and logged once the client's end has */
    bool sent_whole;     /* the kernel took the whole response */
    struct list run;     /* in the worker's run queue, or on no list */
    struct list node;    /* among the worker's calls, active or kept */
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
    struct worker_config *config;
    struct turns *turns;         /* of all workers */
    struct failures *failures;   /* of all workers */
    struct history *history;     /* of all workers */
    struct turns_ready ready;    /* turns that were granted after a wait */
    uint64_t tls_quiet_until_ms; /* no log line about TLS before this time */
    struct list run;
    struct list active;
    struct list kept;
    unsigned active_count, kept_count;
    bool work;
    bool draining, aborting, closing;
    bool cut; /* when aborting: the remaining connections have been cut */
    uint64_t iteration_began_ns;
    uint64_t random_state[4];
    size_t buffered;          /* bytes that its calls hold */
    size_t buffered_reported; /* the value last added to the sum of all workers */
    struct inbox inbox;
    struct metrics metrics;
    atomic_uint given;  /* connections handed over */
    atomic_uint closed; /* of these, closed since */
    atomic_uint_fast64_t pongs;
    atomic_uint_fast64_t serial; /* of the configuration that it received last */
    atomic_bool saw_change;
    atomic_bool stopped;
    void (*on_change)(void *arg);
    void *arg;
};

/* Uses the configuration for new requests. */
void worker_adopt(struct worker *w, struct config *config);
/* Adds the memory that its calls hold to the sum of all workers. */
void worker_report(struct worker *w);

/* The frontend calls these functions with the worker as context. */
extern const struct frontend_handler call_handler;

/* Steps the exchange of a call; ends the call when both its ends are closed. */
void call_run(struct call *c);

/* Puts a call that has something to do into the run queue. */
void call_enqueue(struct call *c);

/* The request's body on its way in (struct frontend_handler) and out (struct fetch_request). */
ptrdiff_t call_on_body(void *user, const void *data, size_t n, char *ret_why, size_t why_size);
ptrdiff_t call_read_body(void *arg, uint64_t offset, void *to, size_t max);
/* Continues reading from the client if there is room, and sending to upstreams if there are
 * bytes. */
void call_pass_body(struct call *c);

/* Updates the count of the memory that the call holds. */
void call_count(struct call *c);

/* Returns 0, or -EBUSY with a sentence for the client if there is no memory for new requests. */
int call_shed(struct worker *w, char *ret_why, size_t size);

/* The world's spools and its memory: see struct exchange_ops. */
int call_spool_open(void *world, struct exchange *x, struct spool **ret);
bool call_pressed(void *world);

/* Frees the calls kept for re-use. */
void call_free_kept(struct worker *w);

#endif
