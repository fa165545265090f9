/* Shared by the parts of turns.h: turns.c lets requests through and takes in news of targets;
 * turns_table.c keeps the states, and knows in which order a request considers targets;
 * turns_queue.c knows the waiting requests, and which is next. */
#ifndef RETRYD_TARGETS_TURNS_PRIVATE_H
#define RETRYD_TARGETS_TURNS_PRIVATE_H

#include "base/hash.h"
#include "base/heap.h"
#include "targets/budget.h"
#include "targets/pace.h"
#include "targets/turns.h"

#define TARGETS_MAX 16384 /* and models; beyond it the least recently used ones are forgotten */
#define LEARNED_MAX 4096  /* news of other daemons about targets that are not known here */
#define CANDIDATES_MAX 64 /* targets that one request considers */
/* An entry that was moved more recently stays at its place in the list. */
#define PLACE_MS (10 * 1000)
#define IDLE_MS (60 * 1000) /* an idle gate and pace are as good as new after this time */

enum entry_kind {
    ENTRY_UPSTREAM,
    ENTRY_MODEL,
    ENTRY_TARGET,
    ENTRY_KEY,
    ENTRY_LEARNED,
    ENTRY_QUEUE,
    ENTRY_CLIENT,
    ENTRY_KINDS,
};

/* The first member of everything in the table. */
struct entry {
    struct entry *next;
    uint64_t id;
    enum entry_kind kind;
    unsigned refs; /* by other entries, and turns under way */
    uint64_t used_ms;
    uint64_t placed_ms; /* when it was last moved to the end of ... */
    /* ... the list of its kind, if that is forgotten: roughly in the order of use */
    struct list used;
};

/* An upstream. */
struct upstream_state {
    struct entry entry;
    struct budget budget;
    struct rate rate;
    unsigned in_flight;
    unsigned max_concurrency, per_minute; /* by the latest configuration; 0: none */
    uint64_t generation;                  /* ... whose generation is this */
    unsigned next_key;                    /* the first key of the next request's choice */
    struct list waited;                   /* in turns.waited while queues have targets of it ... */
    /* ... number of these, and of those for operations that are not rated */
    unsigned links, free_links;
    char name[64];
};

/* A key of an upstream. */
struct key_state {
    struct entry entry;
    uint64_t aside_until_ms; /* 0: it is not set aside */
    uint64_t asides;         /* number of times that it was set aside */
    unsigned key_number;
    char upstream[64];
};

/* A model of an upstream, for one kind of operation. */
struct model_state {
    struct entry entry;
    struct upstream_state *upstream;
    enum operation operation;
    struct breaker breaker;
    struct breaker_settings settings; /* of the route that last used it */
    struct list states;
    uint64_t openings, fallbacks;
    char model[128];
};

/* A model of an upstream with one key. */
struct target_state {
    struct entry entry;
    struct model_state *model_state;
    struct key_state *key;
    unsigned key_number;
    struct list node; /* among the model's */
    struct gate gate;
    struct pace pace;
    bool adaptive;
    uint64_t closings;
    uint64_t event_ms; /* the end of its gate's closing in the last event */
    struct list links; /* of the queues that have it among their candidates */
};

/* Whether requests wait for it, which a new one may not overtake. */
static inline bool turns_target_is_waited_for(const struct target_state *state)
{
    return !list_empty(&state->links);
}

/* Whether requests_per_minute applies: only operations that cost something count. */
static inline bool turns_target_is_rated(const struct target_state *state)
{
    return state->model_state->upstream->per_minute > 0 &&
           !operation_is_free(state->model_state->operation);
}

/* A gate or a model that another daemon found shut; nothing else is known of it. */
struct learned {
    struct entry entry;
    uint64_t until_ms;
};

/* The turns of one client in a queue, in the order of arrival. */
struct client_queue {
    struct entry entry;
    struct wait_queue *queue;
    struct list node, comer; /* in queue->clients, queue->comers */
    struct list turns;
    uint64_t served; /* number of the last grant to it */
};

/* The turns that wait for the same candidates: what delays one of them delays all.
 *
 * A queue is awake if one of its targets may be free, or is held only by a limit of its upstream,
 * which all queues see at once. Else it sleeps until the first of its targets may be free, or until
 * there is news of one of them. */
struct wait_queue {
    struct entry entry;  /* its id is that of its candidates */
    struct list clients; /* in the order of `served`: the next to be served is first */
    struct list comers;  /* the same, in the order of arrival of their first turns */
    bool asleep;
    struct list node;         /* awake: in turns.awake, by `served` of its first client */
    struct heap_node sleeps;  /* asleep: in turns.asleep, unless only news can wake it */
    uint64_t at_ms;           /* ... until then; TURNS_NEVER */
    struct client_queue only; /* used for the first client; further ones are in the table */
    bool only_used;
    unsigned waiting; /* turns in it */
    unsigned link_count;
    struct link {
        struct list node; /* in target_state->links */
        struct target_state *target_state;
        struct wait_queue *queue;
    } links[];
};

struct turns {
    struct turns_world world;
    struct entry **buckets; /* 1 << bits chains of entries, in the order of their ids */
    unsigned bits;
    unsigned count; /* of entries in them */
    struct shelf {
        struct list used;
        unsigned count;
    } shelves[ENTRY_KINDS];
    struct list awake;
    struct heap asleep;
    struct list waited; /* the upstreams that requests wait for */
    unsigned waiting;
    uint64_t grants;
    uint64_t next_ms;
};

/* Each function of turns.h begins with turns_lock and ends with turns_unlock. Returns the time,
 * which is read under the lock so that it never goes back. */
static inline uint64_t turns_lock(struct turns *t)
{
    t->world.lock(t->world.arg);
    return t->world.now_ms(t->world.arg);
}

static inline void turns_unlock(struct turns *t)
{
    t->world.unlock(t->world.arg, t->next_ms);
}

/* Makes turns_run due at `at_ms` at the latest. */
static inline void turns_due_at(struct turns *t, uint64_t at_ms)
{
    if (at_ms < t->next_ms)
        t->next_ms = at_ms;
}

/* One of the targets that a request may get. */
struct candidate {
    const struct upstream *upstream;
    unsigned key_number;
    bool tried;
    struct target_state *target_state; /* NULL: there was no memory for it */
};

/* All candidates of a request, in order of preference. */
struct candidates {
    unsigned count;
    struct candidate list[CANDIDATES_MAX];
    /* When a key that is set aside returns, and a candidate with it; TURNS_NEVER. */
    uint64_t more_ms;
};

/* --- turns_table.c ---------------------------------------------------------------------------- */

int turns_table_init(struct turns *t); /* 0 or -ENOMEM */
void turns_table_free(struct turns *t);

/* Returns the object whose entry has the id; NULL if there is none. */
void *turns_table_find(struct turns *t, uint64_t id, enum entry_kind kind);
/* Adds an object of `size` bytes that begins with an entry and is otherwise 0. NULL if out of
 * memory. */
void *turns_table_add(struct turns *t, uint64_t id, enum entry_kind kind, size_t size,
                      uint64_t now_ms);
void turns_table_drop(struct turns *t, struct entry *e);

/* Find or create states. If there are TARGETS_MAX targets, and none of the least recently used ones
 * can be forgotten, the state is shared: by clients of the same model, or by models of an upstream.
 * NULL if out of memory. */
struct upstream_state *turns_table_upstream(struct turns *t, const struct upstream *upstream,
                                            uint64_t now_ms);
/* Applies the limits of the configuration, unless those of a later one are in force. */
void turns_table_limit(struct upstream_state *s, const struct upstream *upstream);
/* Remembers that an id is shut until that time. */
void turns_table_learn(struct turns *t, uint64_t id, uint64_t until_ms, uint64_t now_ms);

/* The candidates of a request. */

/* Returns the clients' name of the tier's model. */
struct str turns_request_model(const struct turn_request *turn_request);

void turns_candidates(struct turns *t, const struct turn_request *turn_request, uint64_t now_ms,
                      struct candidates *ret);
/* Whether its key is set aside. */
bool turns_candidate_is_aside(const struct candidate *c, uint64_t now_ms);
/* Whether no request waits for it and an attempt may go there now; if not, `ret_why` is the reason,
 * TURN_WHY_NONE if requests wait. */
bool turns_candidate_is_free(const struct candidate *c, uint64_t now_ms, enum turn_why *ret_why);

struct wait {
    uint64_t at_ms;
    enum turn_why why;
};

/* The prospects of a request that gets no turn now. */
struct outlook {
    enum turn_why why;    /* why the candidate that may be free first is not free now */
    struct wait at_least; /* until one may be free, if running attempts end in time */
    bool down;            /* the breakers of all candidates are open */
};

struct outlook turns_look_ahead(const struct candidates *c, uint64_t now_ms);
/* Whether the request would wait in vain. `probe`: one has failed. */
bool turns_is_in_vain(const struct turn_request *turn_request, const struct outlook *o, bool probe);

/* Returns how long a target is held, and why; TURNS_NEVER: until there is news. */
struct wait turns_target_wait(struct target_state *state, uint64_t now_ms);
bool turns_upstream_is_full(const struct upstream_state *s);

/* --- turns_queue.c ---------------------------------------------------------------------------- */

void turns_queues_init(struct turns *t);

/* Puts the turn into the queue for the candidates, of which there is at least one: WAITING. Returns
 * 0 or -ENOMEM. */
int turns_queue_join(struct turns *t, struct turn *turn, const struct candidates *candidates,
                     uint64_t now_ms);
/* Takes the turn out of its queue. */
void turns_queue_leave(struct turns *t, struct turn *turn);
/* Takes out the turn that is next at a free target, and returns it with that target. NULL: none
 * before next_ms. */
struct turn *turns_queue_next(struct turns *t, uint64_t now_ms, struct candidate *ret_candidate);

/* Wakes the queues that wait for the target, because its state has changed. */
void turns_queues_wake(struct turns *t, struct target_state *state);
void turns_queues_wake_model(struct turns *t, struct model_state *model);
/* Wakes queues whose time has come, but not too many at once. */
void turns_queues_wake_due(struct turns *t, uint64_t now_ms);

/* A target has become worse: refuses the turns that wait in vain now. `probe`: one has failed
 * there. */
void turns_queues_review(struct turns *t, struct target_state *state, bool probe, uint64_t now_ms);
void turns_queues_review_model(struct turns *t, struct model_state *model, bool probe,
                               uint64_t now_ms);

/* --- turns.c ---------------------------------------------------------------------------------- */

/* Refuses the turn, which is in no queue, because it would wait in vain. */
void turns_refuse(struct turn *turn, const struct outlook *o);
/* Puts the turn into its ready list, because its state has changed. */
void turns_announce(struct turn *turn);

#endif
