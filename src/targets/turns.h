/* The turns of requests at targets: all that is known of targets, and who waits for one.
 *
 * One `struct turns` serves all requests of all workers. It is made of
 *   upstream_state   an upstream: its retry budget, its requests in flight, its rate limit (C9, C22)
 *   model_state      a model of an upstream, and one kind of operation: its breaker (C20)
 *   target_state     the same with one key: its gate (C19) and its pace
 *   key_state        a key of an upstream: whether it is set aside, for it is empty or rejected (C4)
 * which live under hashes of their names, so that they outlast a reload. Client keys that pass through are
 * told apart by their fingerprint, too. When there are too many, those are forgotten that were used least
 * lately and have nothing to tell; where that is none, newcomers share a target: no request is let through
 * without a gate and limits.
 *
 * A request asks for a turn (turns_ask): it is let through to the best target that is free, or waits
 * in a queue, or is told that waiting is in vain. Those with the same choice and the same client wait
 * in one queue, first in, first out. What becomes free goes to the queues in turn, so that no client
 * starves another; what a gate lets through goes to whoever came first.
 *
 * All functions may be called from any thread: one lock guards all that is known. The lock and the clock are
 * the world's (struct turns_world), so that tests turn the clock by hand. Times are ms of one monotonic
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

/* Where those who were let through are told, one for each worker. `wake` is called from within any
 * call, locked, when `woken` is no longer empty: it may only send a signal. */
struct turns_ready {
    struct list woken; /* of struct turn, by `told` */
    void (*wake)(void *arg);
    void *arg;
};

enum turn_state {
    TURN_NONE,
    TURN_WAITING, /* in a queue; the ready list tells when that changes */
    TURN_GRANTED, /* `target` may be gone to; turns_end follows */
    TURN_REFUSED, /* `why` it would wait in vain */
};

/* Why a request waits, or would wait in vain. */
enum turn_why {
    TURN_WHY_NONE,
    TURN_WHY_GATE,       /* closed by a 429, or opening */
    TURN_WHY_BREAKER,    /* down: until a probe is answered */
    TURN_WHY_LIMIT,      /* max_concurrency or requests_per_minute */
    TURN_WHY_PACE,       /* adaptive pacing */
    TURN_WHY_QUEUE_FULL, /* too many wait already */
    TURN_WHY_COUNT,
};
const char *turns_why_word(enum turn_why w);

/* One attempt's way to its target. Zeroed: TURN_NONE. While it is WAITING other threads may change
 * it: only what turns_state returns may be looked at. */
struct turn {
    enum turn_state state;
    enum turn_why why;        /* what held it when it came; REFUSED: why */
    uint64_t ready_ms;        /* REFUSED: when a target may be free; TURNS_NEVER: not known */
    struct target target;     /* GRANTED */
    enum turn_why first_held; /* what held its first choice when it asked; it stays as it is */

    /* turns.c's own. */
    const struct turn_request *turn_request;
    struct turns_ready *ready;
    struct client_queue *client;
    struct target_state *target_state; /* GRANTED; NULL where there was no memory to know of one */
    struct list node;                  /* WAITING: in the client's queue */
    struct list told;                  /* in the ready list */
    uint32_t gate_epoch;
    struct breaker_pass pass;
    bool gate_heard, heard; /* turns_tell had news for the gate, for all */

    void *tag; /* the owner's */
};

/* The needs of a request. It stays as it is while the turn is WAITING. */
struct turn_request {
    const struct plan *plan;
    struct str model; /* that the request names; "" where it names none */
    enum operation operation;
    unsigned tier;
    bool may_leave;  /* with all breakers of the tier open it is refused: another may serve it */
    uint64_t client; /* who asks: queues are fair among these */
    uint64_t client_key;            /* the fingerprint of the credentials that pass through */
    uint64_t arrived_ms;            /* the request's place in queue, for all its turns */
    unsigned visited;               /* bit n: the plan's upstream n has had an attempt of it */
    const struct target_ref *tried; /* others come first */
    unsigned tried_count;
    const struct target_ref *excluded; /* these are out of the question */
    unsigned excluded_count;
    const struct target *only; /* no other will do; NULL: any */
    uint64_t patient_ms; /* when a probe has failed, it waits for the next one only up to then */
    bool probed;         /* one of its own has */
    uint64_t latest_ms;  /* a turn after that is in vain; TURNS_NEVER */
    uint64_t gate_latest_ms; /* ... where it is a gate that has it wait */
    uint64_t random;         /* for shares by weight */
};

/* How much of an attempt is known. */
enum turn_stage {
    TURN_OVER,    /* how it ended */
    TURN_HEADERS, /* a stream has a good head: enough for the gate */
    TURN_BEGUN, /* the answer has begun well: enough for a probe, which is not to last for minutes */
};

/* How an attempt ended, or goes on. */
struct turn_result {
    struct verdict verdict;
    struct hint hint;
    unsigned status;       /* 0: none came */
    enum turn_stage stage; /* before TURN_OVER the verdict is good */
};

/* News for others: logs, counters, other daemons. */
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
    const char *upstream; /* its name; "" where it is not known here */
    const char *model;    /* "" where none was named */
    enum operation operation;
    unsigned key_number; /* 0: a client's own, or none */
    uint64_t for_ms;     /* GATE_CLOSED, BREAKER_OPEN, KEY_ASIDE: so long */
    double per_minute;   /* PACE: the new rate, 0: none; RATE_TAKEN: the limit */
    enum reason reason;  /* what led to it; REASON_OK where nothing did */
    enum turn_why why;
};

/* The world that turns need around them. None of these may call turns_*. */
struct turns_world {
    uint64_t (*now_ms)(void *arg);
    /* By how much a millisecond that now_ms names may have begun earlier: 1 of a clock that is rounded down,
     * 0 of one that stands still in between. */
    uint64_t rounding_ms;
    void (*lock)(void *arg);
    /* turns_run is to be called at `next_ms`; TURNS_NEVER: not before other news. */
    void (*unlock)(void *arg, uint64_t next_ms);
    void (*event)(void *arg, const struct turns_event *e); /* locked */
    void *arg;
};

struct turns *turns_new(const struct turns_world *world); /* NULL when out of memory */
void turns_free(struct turns *t);                         /* nobody waits or has a turn */

void turns_ready_init(struct turns_ready *d, void (*wake)(void *arg), void *arg);
/* One whose state has changed since it began to wait; NULL: there is no more. */
struct turn *turns_ready_take(struct turns *t, struct turns_ready *d);

/* Asks for a turn: the state that it is in then, WAITING, GRANTED or REFUSED, is returned. */
enum turn_state turns_ask(struct turns *t, struct turn *turn, struct turns_ready *ready,
                          const struct turn_request *turn_request);

/* The state that a turn is in which was WAITING. */
enum turn_state turns_state(struct turns *t, const struct turn *turn);

/* Lets go of one that is not GRANTED, or not known to be: it waits no more. */
void turns_leave(struct turns *t, struct turn *turn);

/* What is learned of a GRANTED turn's attempt, as soon as it is, stage by stage; a failure may follow
 * each of them. */
void turns_tell(struct turns *t, struct turn *turn, const struct turn_result *r);

/* The attempt of a GRANTED turn is over, and so is the turn. */
void turns_end(struct turns *t, struct turn *turn);

/* What there is beside the targets that the request has tried: */
struct turns_outlook {
    bool other;           /* one of its tier could be had at once ... */
    struct target target; /* ... this one; without, the first that comes into question */
    bool down;            /* all breakers of the tier are open */
};
/* `helps` (enum move_helps): whether other keys of an upstream that was tried count, and other
 * upstreams. */
void turns_look(struct turns *t, const struct turn_request *turn_request, unsigned helps,
                struct turns_outlook *ret);

/* Charges a repeat at that upstream to its budget: false where there is no room (C9). */
bool turns_may_repeat(struct turns *t, const struct upstream *upstream,
                      const struct retry_settings *s);
/* Counts one that an SDK has made. */
void turns_charge(struct turns *t, const struct upstream *upstream);

/* A new configuration's limits of an upstream hold from now on, for those who wait, too. */
void turns_limits(struct turns *t, const struct upstream *upstream);

/* Lets through whoever may go by now. */
void turns_run(struct turns *t);

/* Opens the gates and closes the breakers of one upstream's model, takes back its keys that were set
 * aside, and ends its pacing: a person knows better. An empty name stands for all. Returns how many
 * were not as they should be. */
unsigned turns_reset(struct turns *t, struct str upstream, struct str model);

/* Takes in what another daemon has seen. That a target is shut is remembered even if it was never used here. */
void turns_learn_gate(struct turns *t, uint64_t target_id, uint64_t for_ms);
void turns_learn_breaker(struct turns *t, uint64_t model_id, bool open, uint64_t for_ms);
void turns_learn_rate(struct turns *t, uint64_t upstream_id, uint64_t ahead_us);

/* All that is known, in no order, for counters and the status page, in many calls: a part in each, so that
 * the lock is not held for all of it. `*at` is 0 before the first; true: there is more. What a kind
 * does not have is 0. `each` is called locked: it may only copy. */
enum turns_view_kind { VIEW_UPSTREAM, VIEW_MODEL, VIEW_KEY, VIEW_TARGET };
struct turns_view {
    enum turns_view_kind kind;
    const char *upstream;
    const char *model;        /* model, target */
    enum operation operation; /* model, target */
    unsigned key_number;      /* key, target */
    unsigned in_flight;       /* upstream */
    uint64_t fallbacks;       /* model: attempts as a fallback model */
    uint64_t shut;    /* model: breaker opened; key: set aside; target: gate closed; so often */
    uint64_t shut_ms; /* how long it still is; 0: it is not */
    bool half_open;   /* model: a probe is under way */
    bool opening;     /* target: its gate opens step by step */
    double pace_per_minute;                   /* target; 0: it is not paced */
    unsigned in_a_row;                        /* model: failures since the last success */
    unsigned waiting;                         /* target: requests in queues that it may serve */
    unsigned max_concurrency, per_minute;     /* upstream: its limits; 0: none */
    uint64_t free_ms;                         /* upstream: until per_minute lets one go */
    uint64_t budget_requests, budget_repeats; /* upstream: in the budget's window */
};
bool turns_each(struct turns *t, uint64_t *at, void (*each)(void *arg, const struct turns_view *v),
                void *arg);
unsigned turns_waiting(struct turns *t);

#endif
