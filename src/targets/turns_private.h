/* Shared by the parts of turns.h: turns.c lets requests through and takes in what is learned of targets,
 * turns_table.c keeps that, and knows in which order a request considers targets,
 * turns_queue.c who waits and whose turn it is. */
#ifndef RETRYD_TARGETS_TURNS_PRIVATE_H
#define RETRYD_TARGETS_TURNS_PRIVATE_H

#include "base/hash.h"
#include "base/heap.h"
#include "targets/budget.h"
#include "targets/pace.h"
#include "targets/turns.h"

#define TARGETS_MAX \
    16384                /* and models: beyond it those that were used least lately are forgotten */
#define LEARNED_MAX 4096 /* what other daemons said of targets that are not known here */
#define CANDIDATES_MAX 64 /* targets that one request considers */
#define PLACE_MS \
    (10 * 1000) /* what was put at its place since then is left there: neighbours are not near */
#define IDLE_MS (60 * 1000) /* in that time a gate and a pace would have moved on by themselves */

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

/* The beginning of all things in the table. */
struct entry {
    struct entry *next;
    uint64_t id;
    enum entry_kind kind;
    unsigned refs; /* by other entries, and turns under way */
    uint64_t used_ms;
    uint64_t placed_ms; /* when it was last put at the end of ... */
    struct list
        used; /* ... all of its kind, where that is forgotten: roughly in the order of use */
};

/* An upstream. */
struct upstream_state {
    struct entry entry;
    struct budget budget;
    struct rate rate;
    unsigned in_flight;
    unsigned max_concurrency, per_minute; /* by the latest configuration; 0: none */
    uint64_t generation;                  /* ... which is this one */
    unsigned next_key;                    /* where the next request's choice of a key begins */
    struct list waited;                   /* in turns.waited, while queues have targets of it ... */
    unsigned links, free_links;           /* ... so many, and of operations that are not rated */
    char name[64];
};

/* A key of an upstream. */
struct key_state {
    struct entry entry;
    uint64_t aside_until_ms; /* 0: it is not set aside */
    uint64_t asides;         /* how often it was */
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
    uint64_t told_ms;  /* the end of its gate's closing that others have been told of */
    struct list links; /* of the queues that have it among their candidates */
};

/* Who comes now may not overtake them. */
static inline bool turns_target_is_waited_for(const struct target_state *state)
{
    return !list_empty(&state->links);
}

/* requests_per_minute is about what costs something. */
static inline bool turns_target_is_rated(const struct target_state *state)
{
    return state->model_state->upstream->per_minute > 0 &&
           !operation_is_free(state->model_state->operation);
}

/* A gate or a model that is shut, of which no more is known than that. */
struct learned {
    struct entry entry;
    uint64_t until_ms;
};

/* Those of one client in a queue, first come first. */
struct client_queue {
    struct entry entry;
    struct wait_queue *queue;
    struct list node, comer; /* in queue->clients, queue->comers */
    struct list turns;
    uint64_t served; /* number of the last grant to it */
};

/* All who wait for the same: what holds one of them holds them all.
 *
 * A queue is awake where one of its targets may be free as far as is known, or is held by a limit of its
 * upstream alone, which all see at once. Else it sleeps until the first of its targets may be free, or
 * until there is news of one of them. */
struct wait_queue {
    struct entry entry;  /* its id is that of its candidates */
    struct list clients; /* by `served`: whose turn is next comes first */
    struct list comers;  /* the same ones: whose first has come first comes first */
    bool asleep;
    struct list node;         /* awake: in turns.awake, by `served` of its first client */
    struct heap_node sleeps;  /* asleep: in turns.asleep, unless only news can wake it */
    uint64_t at_ms;           /* ... until then; TURNS_NEVER */
    struct client_queue only; /* where it has one alone; the others are in the table */
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
    struct list waited; /* the upstreams that somebody waits for */
    unsigned waiting;
    uint64_t grants;
    uint64_t next_ms;
};

/* What each function of turns.h begins with, and ends with. Returns the time: it is read under the lock, so
 * that it never goes back. */
static inline uint64_t turns_lock(struct turns *t)
{
    t->world.lock(t->world.arg);
    return t->world.now_ms(t->world.arg);
}

static inline void turns_unlock(struct turns *t)
{
    t->world.unlock(t->world.arg, t->next_ms);
}

/* When turns_run is due, at the latest. */
static inline void turns_due_at(struct turns *t, uint64_t at_ms)
{
    if (at_ms < t->next_ms)
        t->next_ms = at_ms;
}

/* One of the targets that a request may be given. */
struct candidate {
    const struct upstream *upstream;
    unsigned key_number;
    bool tried;
    struct target_state *target_state; /* NULL: there was no memory for it */
};

/* All of them, in order of preference. */
struct candidates {
    unsigned count;
    struct candidate list[CANDIDATES_MAX];
    uint64_t more_ms; /* a key that is set aside comes back, and one more with it; TURNS_NEVER */
};

/* --- turns_table.c --- */

int turns_table_init(struct turns *t); /* 0 or -ENOMEM */
void turns_table_free(struct turns *t);

/* What begins with the entry of that id; NULL: there is none. */
void *turns_table_find(struct turns *t, uint64_t id, enum entry_kind kind);
/* `size` bytes that begin with an entry and are 0 else; NULL when out of memory. */
void *turns_table_add(struct turns *t, uint64_t id, enum entry_kind kind, size_t size,
                      uint64_t now_ms);
void turns_table_drop(struct turns *t, struct entry *e);

/* Finds, or makes, the state of a target. Where there are TARGETS_MAX, and none of those that were used least
 * lately can be spared, it is one that is shared: by clients of the same model, or by models of an upstream.
 * NULL when out of memory. */
struct upstream_state *turns_table_upstream(struct turns *t, const struct upstream *upstream,
                                            uint64_t now_ms);
/* The limits that it has by its configuration, unless a later one's are in force. */
void turns_table_limit(struct upstream_state *s, const struct upstream *upstream);
/* Remembers that an id is shut until then. */
void turns_table_learn(struct turns *t, uint64_t id, uint64_t until_ms, uint64_t now_ms);

/* The candidates of a request. */

/* The name of the tier's model, as clients call it. */
struct str turns_request_model(const struct turn_request *turn_request);

void turns_candidates(struct turns *t, const struct turn_request *turn_request, uint64_t now_ms,
                      struct candidates *ret);
/* Its key is set aside. */
bool turns_candidate_is_aside(const struct candidate *c, uint64_t now_ms);
/* Nobody waits for it, and an attempt may go there now; else what holds it: TURN_WHY_NONE for those who
 * wait. */
bool turns_candidate_is_free(const struct candidate *c, uint64_t now_ms, enum turn_why *ret_why);

struct wait {
    uint64_t at_ms;
    enum turn_why why;
};

/* What a request that gets nothing now can hope for. */
struct outlook {
    enum turn_why why;    /* what holds that of its candidates which may be free first */
    struct wait at_least; /* until one may be free, if those under way end in time */
    bool down;            /* all are waited for because of their breakers */
};

struct outlook turns_look_ahead(const struct candidates *c, uint64_t now_ms);
/* Whether it would wait in vain for that. `probe`: one has failed. */
bool turns_is_in_vain(const struct turn_request *turn_request, const struct outlook *o, bool probe);

/* How long a target is held, and by what; TURNS_NEVER: until some news. */
struct wait turns_target_wait(struct target_state *state, uint64_t now_ms);
bool turns_upstream_is_full(const struct upstream_state *s);

/* --- turns_queue.c --- */

void turns_queues_init(struct turns *t);

/* Puts one into the queue for these, of which there is one at least: WAITING. 0 or -ENOMEM. */
int turns_queue_join(struct turns *t, struct turn *turn, const struct candidates *candidates,
                     uint64_t now_ms);
/* Takes it out. */
void turns_queue_leave(struct turns *t, struct turn *turn);
/* Whose turn it is at a target that is free, and which; taken out. NULL: nobody's before next_ms. */
struct turn *turns_queue_next(struct turns *t, uint64_t now_ms, struct candidate *ret_candidate);

/* Queues wake that wait for it: something there has changed. */
void turns_queues_wake(struct turns *t, struct target_state *state);
void turns_queues_wake_model(struct turns *t, struct model_state *model);
/* Those wake whose time has come, but not all of a crowd at once. */
void turns_queues_wake_due(struct turns *t, uint64_t now_ms);

/* A target has become worse: tells those who wait for it in vain now. `probe`: one has failed there. */
void turns_queues_review(struct turns *t, struct target_state *state, bool probe, uint64_t now_ms);
void turns_queues_review_model(struct turns *t, struct model_state *model, bool probe,
                               uint64_t now_ms);

/* --- turns.c --- */

/* Tells the turn, which is in no queue, that it would wait in vain. */
void turns_refuse(struct turn *turn, const struct outlook *o);
/* Tells its owner that its state has changed. */
void turns_announce(struct turn *turn);

#endif
