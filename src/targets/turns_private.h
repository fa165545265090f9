/* What the parts of turns.h share: turns.c lets requests through, turns_choice.c knows in which order
 * targets are considered, turns_table.c keeps what is known, turns_news.c takes in what is learned. */
#ifndef RETRYD_EXCHANGE_TURNS_PRIVATE_H
#define RETRYD_EXCHANGE_TURNS_PRIVATE_H

#include "base/hash.h"
#include "targets/budget.h"
#include "targets/pace.h"
#include "targets/rate.h"
#include "targets/turns.h"

#define TABLE_BUCKETS 1024  /* a power of two */
#define LANES_MAX 4096      /* beyond it what is idle is forgotten */
#define LEARNED_MAX 4096    /* what other daemons said of targets that are not known here */
#define CHOICES_MAX 64      /* targets that one request considers */
#define IDLE_MS (60 * 1000) /* what was not used for so long may be forgotten */

enum entry_kind { ENTRY_SITE, ENTRY_CIRCUIT, ENTRY_LANE, ENTRY_KEY, ENTRY_LEARNED };

/* What all things in the table begin with. */
struct entry {
    struct entry *next;
    uint64_t id;
    enum entry_kind kind;
    unsigned refs; /* by other entries, pools, and turns under way */
    uint64_t used_ms;
};

/* An upstream. */
struct site {
    struct entry entry;
    struct budget budget;
    struct rate rate;
    unsigned in_flight;
    unsigned max_concurrency, per_minute; /* by the latest configuration; 0: none */
    uint64_t generation;                  /* ... which is this one */
    unsigned next_key;                    /* where the next request's choice of a key begins */
    char name[64];
};

/* A key of a site. */
struct keyring {
    struct entry entry;
    uint64_t aside_until_ms; /* 0: it is not set aside */
    uint64_t asides;         /* how often it was */
    unsigned key_number;
    char site[64];
};

/* A model of a site, for one kind of operation. */
struct circuit {
    struct entry entry;
    struct site *site;
    enum operation operation;
    struct breaker breaker;
    struct breaker_settings settings; /* of the route that last used it */
    struct list lanes;
    uint64_t openings, fallbacks;
    char model[128];
};

/* A circuit with one key. */
struct lane {
    struct entry entry;
    struct circuit *circuit;
    struct keyring *key;
    unsigned key_number;
    struct list node; /* among the circuit's */
    struct gate gate;
    struct pace pace;
    bool adaptive;
    uint64_t closings;
    uint64_t told_ms; /* the end of its gate's closing that others have been told of */
    unsigned waiting; /* turns that have it among their choices */
};

/* requests_per_minute is about what costs something. */
static inline bool lane_is_rated(const struct lane *lane)
{
    return lane->circuit->site->per_minute > 0 && !operation_is_free(lane->circuit->operation);
}

/* A gate or a circuit that is shut, of which no more is known than that. */
struct learned {
    struct entry entry;
    uint64_t until_ms;
};

/* Those who wait for the same, first come first; they are of one client. */
struct pool {
    struct list node;
    struct list turns;
    uint64_t id;
    uint64_t choice; /* the same for all pools with these lanes */
    uint64_t served; /* number of the last grant to it */
    unsigned lane_count;
    struct lane *lanes[];
};

struct turns {
    struct turns_handler handler;
    struct entry *buckets[TABLE_BUCKETS];
    unsigned lane_count, learned_count;
    struct list pools;
    unsigned waiting;
    uint64_t grants;
    uint64_t next_ms;
};

/* One of the targets that a wish may be given. */
struct choice {
    const struct provider *provider;
    unsigned key_number;
    bool tried;
    struct lane *lane; /* NULL: there was no room for it */
};

/* --- turns_table.c --- */

/* Finds, or makes, the lane of a target. NULL where there is no room. */
struct lane *table_lane(struct turns *t, const struct turn_wish *wish, const struct provider *p,
                        unsigned key_number, struct str model, uint64_t now_ms);
struct site *table_site(struct turns *t, const struct provider *p, uint64_t now_ms);
struct entry *table_find(struct turns *t, uint64_t id, enum entry_kind kind);
/* Remembers that an id is shut until then. */
void table_learn(struct turns *t, uint64_t id, uint64_t until_ms, uint64_t now_ms);
void table_free(struct turns *t);

/* --- turns_choice.c --- */

/* The name of the tier's model, as clients call it. */
struct str wish_model(const struct turn_wish *wish);

/* Fills `choices` in order of preference; how many there are. */
unsigned wish_choices(struct turns *t, const struct turn_wish *wish, uint64_t now_ms,
                      struct choice choices[CHOICES_MAX]);
/* Its key is set aside. */
bool choice_is_aside(const struct choice *c, uint64_t now_ms);

struct wait {
    uint64_t at_ms;
    enum turn_why why;
};

/* What a wish that gets nothing now can hope for. */
struct outlook {
    enum turn_why why;    /* what holds that of its choices which may be free first */
    struct wait at_least; /* until one may be free, if those under way end in time */
    bool down;            /* all are waited for because of their breakers */
};

struct outlook look_ahead(const struct choice *choices, unsigned n, uint64_t now_ms);
/* Whether it would wait in vain for that. */
bool in_vain(const struct turn_wish *wish, const struct outlook *o);

/* When a lane may be gone to, and what holds it until then; TURNS_NEVER: until some news. */
uint64_t lane_next(struct lane *lane, uint64_t now_ms, enum turn_why *ret_why);

/* --- turns.c --- */

/* A target has become worse: tells those who wait for it in vain now. `circuit`: a probe of that one
 * has failed (NULL: it is something else). */
void pools_review(struct turns *t, const struct circuit *failed, uint64_t now_ms);

/* Tells the handler, with what a lane or circuit is called filled in. */
void tell_lane(struct turns *t, const struct lane *lane, struct turns_event e);
void tell_circuit(struct turns *t, const struct circuit *c, struct turns_event e);

#endif
