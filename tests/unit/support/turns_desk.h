/* A desk at which tests ask for turns by hand: a few upstreams, one plan, one ready list, a clock. */
#ifndef RETRYD_TURNS_DESK_H
#define RETRYD_TURNS_DESK_H

#include "fake_turns.h"

#define DESK_UPSTREAMS 3
#define DESK_KEYS 4
#define DESK_START 1000000 /* where its clock begins */

struct desk {
    struct fake_turns world;
    struct turns *turns;
    struct turns_ready ready;
    struct route_settings settings; /* no breaker, no limits, a queue for 1000 */
    struct upstream upstreams[DESK_UPSTREAMS];
    struct target_key keys[DESK_UPSTREAMS][DESK_KEYS];
    const struct upstream *list[DESK_UPSTREAMS];
    struct plan plan;
    uint64_t now_ms;
    unsigned wakes;                            /* of the ready list */
    unsigned events[TURNS_DENIED + 1];         /* by kind */
    struct turns_event last[TURNS_DENIED + 1]; /* ... the latest; not its texts */
    uint64_t upstream_id, model_id, target_id; /* of the latest events that have such */
};

/* One who asks. */
struct asker {
    struct turn turn;
    struct turn_request turn_request;
};

/* `keys` of each upstream; 0: the clients' own pass through. The model is "m". */
void desk_init(struct desk *d, unsigned upstreams, unsigned keys);
void desk_deinit(struct desk *d);

/* A request that anything may fulfil, at any time. */
void desk_turn_request(struct desk *d, struct asker *a);
/* ... of the client with that number and credentials of its own; asked for now. */
enum turn_state desk_ask(struct desk *d, struct asker *a, uint64_t client);
/* Asks with the request as it is. */
enum turn_state desk_ask_again(struct desk *d, struct asker *a);

/* The attempt went well, and is over. */
void desk_good(struct desk *d, struct asker *a);
/* It failed, with a hint unless that is 0, and is over. */
void desk_bad(struct desk *d, struct asker *a, enum reason reason, unsigned status,
              uint64_t hint_ms);
void desk_end(struct desk *d, struct asker *a);
/* It no longer wants a turn: it waits, was refused, or its client is gone. */
void desk_leave(struct desk *d, struct asker *a);

/* Time goes on to then; whoever may go at a time on the way goes at that time. */
void desk_wait(struct desk *d, uint64_t until_ms);

/* How many of these are in that state. */
unsigned desk_count(const struct asker *a, unsigned n, enum turn_state s);

/* In flight at the upstream with that number, as the view has it. */
unsigned desk_in_flight(struct desk *d, unsigned upstream);

#endif
