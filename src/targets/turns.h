/* The turns of requests at targets: the state of all targets, and the requests that wait for one.
 *
 * One `struct turns` serves all requests of all workers. It is made of
 *   upstream_state   an upstream: its retry budget, its requests in flight, its rate (C9, C22)
 *   model_state      a model of an upstream, and one kind of operation: its breaker (C20)
 *   target_state     the same with one key: its gate (C19) and its pace
 *   key_state        a key of an upstream: whether it is set aside as empty or rejected (C4)
 * which live under hashes of their names, so that they outlast a reload. Clients' own keys have
 * separate states, too, by their fingerprint. When there are too many states, the least recently
 * used ones are forgotten if they are as good as new; if there are none, newcomers share a target:
 * no request is let through without a gate and limits.
 *
 * A request asks for a turn (turns_ask): it is let through to the best free target, waits in a
 * queue, or is refused because it would wait in vain. Requests with the same candidates wait in one
 * queue; those of one client are served first in, first out. A free target serves the clients in
 * turn, so that no client starves another; an opening gate serves the request that came first.
 *
 * All functions may be called from any thread: one lock guards all states. The lock and the clock
 * are the world's (struct turns_world), so that tests set the clock. Times are ms of one monotonic
 * clock. */
#ifndef RETRYD_TARGETS_TURNS_H
#define RETRYD_TARGETS_TURNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "http/dialect.h"
#include "policy/classify.h"
#include "policy/retry.h"
#include "targets/breaker.h"
#include "targets/gate.h"
#include "targets/target.h"

struct turns;
struct target_state;
struct client_queue;

#define TURNS_NEVER UINT64_MAX

/* The turns whose state has changed, one list for each worker. `wake` is called from within any
 * call, locked, when `woken` is no longer empty: it may only send a signal. */
struct turns_ready {
    struct list woken; /* of struct turn, by `woken` */
    void (*wake)(void *arg);
    void *arg;
};

enum turn_state {
    TURN_NONE,
    TURN_WAITING, /* in a queue; the turn enters the ready list when that changes */
    TURN_GRANTED, /* an attempt may go to `target`; turns_end follows */
    TURN_REFUSED, /* it would wait in vain; `why` */
};

/* The reasons why a request waits, or would wait in vain. */
enum turn_why {
    TURN_WHY_NONE,
    TURN_WHY_GATE,       /* closed by a 429, or opening */
    TURN_WHY_BREAKER,    /* down: until a probe succeeds */
    TURN_WHY_LIMIT,      /* max_concurrency or requests_per_minute */
    TURN_WHY_PACE,       /* adaptive pacing */
    TURN_WHY_QUEUE_FULL, /* too many wait already */
    TURN_WHY_COUNT,
};
const char *turns_why_word(enum turn_why w);

/* One attempt's way to its target. Zeroed: TURN_NONE. While it is WAITING other threads may change
 * it: use only the result of turns_state. */
struct turn {
    enum turn_state state;
    enum turn_why why;        /* why it had to wait at first; REFUSED: why */
    uint64_t ready_ms;        /* REFUSED: when a target may be free; TURNS_NEVER: not known */
    struct target target;     /* GRANTED */
    enum turn_why first_held; /* why its first choice was not free when it asked; does not change */

    /* turns.c's own. */
    const struct turn_request *turn_request;
    struct turns_ready *ready;
    struct client_queue *client;
    struct target_state *target_state; /* GRANTED; NULL if there was no memory for one */
    struct list node;                  /* WAITING: in the client's queue */
    struct list woken;                 /* in the ready list */
    uint32_t gate_epoch;
    struct breaker_pass pass;
    bool gate_heard, heard; /* turns_tell has reported to the gate, to all */

    void *tag; /* the owner's */
};

/* The needs of a request. It must not change while the turn is WAITING. */
struct turn_request {
    const struct plan *plan;
    struct str model; /* the one that the request names; "" if it names none */
    enum operation operation;
    unsigned tier;
    /* Refused if all breakers of the tier are open, because another tier may serve it. */
    bool may_leave;
    uint64_t client;                /* identifies the client: queues are fair among clients */
    uint64_t client_key;            /* the fingerprint of the credentials that pass through */
    uint64_t arrived_ms;            /* the request's place in queue, for all its turns */
    unsigned visited;               /* bit n: the plan's upstream n has had an attempt of it */
    const struct target_ref *tried; /* others come first */
    unsigned tried_count;
    const struct target_ref *excluded; /* these are not considered */
    unsigned excluded_count;
    const struct target *only; /* the only one considered; NULL: any */
    uint64_t patient_ms; /* after a failed probe, it waits for the next one only up to this time */
    bool probed;         /* a probe of this request has failed */
    uint64_t latest_ms;  /* a later turn is in vain; TURNS_NEVER */
    uint64_t gate_latest_ms; /* ... if a gate makes it wait */
    uint64_t random;         /* for shares by weight */
};

/* The stages of an attempt's result. */
enum turn_stage {
    TURN_OVER,    /* the end */
    TURN_HEADERS, /* a stream has good headers: enough for the gate */
    /* The response has begun well: enough for a probe, which must not last for minutes. */
    TURN_BEGUN,
};

/* The result of an attempt, final or so far. */
struct turn_result {
    struct verdict verdict;
    struct hint hint;
    unsigned status;       /* 0: none came */
    enum turn_stage stage; /* before TURN_OVER the verdict is good */
};

/* Events for logs, counters and other daemons. */
enum turns_event_kind {
    TURNS_GATE_CLOSED,
    TURNS_GATE_OPEN,
    TURNS_BREAKER_OPEN,
    TURNS_BREAKER_PROBE,
    TURNS_BREAKER_CLOSED,
    TURNS_KEY_ASIDE,
    TURNS_PACE,
    TURNS_WAIT,       /* a request joins a queue; `why` */
    TURNS_RATE_TAKEN, /* an attempt of an upstream with requests_per_minute */
    TURNS_DENIED,     /* an upstream's retry budget has no room for a repeat */
};

struct turns_event {
    enum turns_event_kind kind;
    bool learned;         /* from another daemon */
    uint64_t id;          /* of the target, model, key or upstream */
    const char *upstream; /* its name; "" if it is not known here */
    const char *model;    /* "" if none was named */
    enum operation operation;
    unsigned key_number; /* 0: a client's own, or none */
    uint64_t for_ms;     /* GATE_CLOSED, BREAKER_OPEN, KEY_ASIDE: the duration */
    double per_minute;   /* PACE: the new rate, 0: none; RATE_TAKEN: the limit */
    enum reason reason;  /* the cause; REASON_OK if there is none */
    enum turn_why why;
};

/* The world of the turns. None of these functions may call turns_*. */
struct turns_world {
    uint64_t (*now_ms)(void *arg);
    /* The time by which the current millisecond of now_ms may have begun earlier: 1 for a clock
     * that is rounded down, 0 for one that stands still in between. */
    uint64_t rounding_ms;
    void (*lock)(void *arg);
    /* turns_run must be called at `next_ms`; TURNS_NEVER: not before other calls. */
    void (*unlock)(void *arg, uint64_t next_ms);
    void (*event)(void *arg, const struct turns_event *e); /* locked */
    void *arg;
};

struct turns *turns_new(const struct turns_world *world); /* NULL if out of memory */
void turns_free(struct turns *t);                         /* no request may wait or have a turn */

void turns_ready_init(struct turns_ready *d, void (*wake)(void *arg), void *arg);
/* Returns a turn whose state has changed since it began to wait; NULL if there are no more. */
struct turn *turns_ready_take(struct turns *t, struct turns_ready *d);

/* Asks for a turn. Returns its state: WAITING, GRANTED or REFUSED. */
enum turn_state turns_ask(struct turns *t, struct turn *turn, struct turns_ready *ready,
                          const struct turn_request *turn_request);

/* Returns the present state of a turn that was WAITING. */
enum turn_state turns_state(struct turns *t, const struct turn *turn);

/* Gives up a turn that is not known to be GRANTED: it no longer waits. */
void turns_leave(struct turns *t, struct turn *turn);

/* Reports the result of a GRANTED turn's attempt, stage by stage, as soon as it is known. A failure
 * may follow each stage. */
void turns_tell(struct turns *t, struct turn *turn, const struct turn_result *r);

/* Ends a GRANTED turn, after its attempt. */
void turns_end(struct turns *t, struct turn *turn);

/* The targets beside those that the request has tried. */
struct turns_outlook {
    bool other;           /* one of its tier is free now ... */
    struct target target; /* ... this one; if none is, the first that is considered */
    bool down;            /* all breakers of the tier are open */
};
/* `helps` (enum move_helps): whether other keys of a tried upstream count, and other upstreams. */
void turns_look(struct turns *t, const struct turn_request *turn_request, unsigned helps,
                struct turns_outlook *ret);

/* Charges a repeat to the upstream's budget. Returns false if there is no room (C9). */
bool turns_may_repeat(struct turns *t, const struct upstream *upstream,
                      const struct retry_settings *s);
/* Counts a repeat by an SDK. */
void turns_charge(struct turns *t, const struct upstream *upstream);

/* Applies a new configuration's limits of an upstream, also to waiting requests. */
void turns_limits(struct turns *t, const struct upstream *upstream);

/* Grants all turns that may go by now. */
void turns_run(struct turns *t);

/* Opens the gates and closes the breakers of one upstream's model, takes back its keys that were
 * set aside, and ends its pacing, on a person's order. An empty name stands for all. Returns how
 * many states were changed. */
unsigned turns_reset(struct turns *t, struct str upstream, struct str model);

/* Take over the news of another daemon. A closed target is remembered even if it was never used
 * here. */
void turns_learn_gate(struct turns *t, uint64_t target_id, uint64_t for_ms);
void turns_learn_breaker(struct turns *t, uint64_t model_id, bool open, uint64_t for_ms);
void turns_learn_rate(struct turns *t, uint64_t upstream_id, uint64_t ahead_us);

/* Views of all states, in no order, for counters and the status page. Each call of turns_each
 * visits a part, so that the lock is not held for all of it; `*at` is 0 before the first call, and
 * true means that there is more. Values that a kind does not have are 0. `each` is called locked:
 * it may only copy. */
enum turns_view_kind { VIEW_UPSTREAM, VIEW_MODEL, VIEW_KEY, VIEW_TARGET };
struct turns_view {
    enum turns_view_kind kind;
    const char *upstream;
    const char *model;        /* model, target */
    enum operation operation; /* model, target */
    unsigned key_number;      /* key, target */
    unsigned in_flight;       /* upstream */
    uint64_t fallbacks;       /* model: attempts as a fallback model */
    /* Number of times: model: breaker opened; key: set aside; target: gate closed. */
    uint64_t shut;
    uint64_t shut_ms;                     /* time until that ends; 0: it is not shut */
    bool half_open;                       /* model: a probe is under way */
    bool opening;                         /* target: its gate opens step by step */
    double pace_per_minute;               /* target; 0: it is not paced */
    unsigned in_a_row;                    /* model: failures since the last success */
    unsigned waiting;                     /* target: waiting requests that it may serve */
    unsigned max_concurrency, per_minute; /* upstream: its limits; 0: none */
    /* Upstream: time until per_minute lets an attempt go. */
    uint64_t free_ms;
    uint64_t budget_requests, budget_repeats; /* upstream: in the budget's window */
};
bool turns_each(struct turns *t, uint64_t *at, void (*each)(void *arg, const struct turns_view *v),
                void *arg);
unsigned turns_waiting(struct turns *t);

#endif
