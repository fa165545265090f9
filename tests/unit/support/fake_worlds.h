/* Many worlds (fake_world.h) by one clock, with one registry of targets that all of them ask. */
#ifndef RETRYD_FAKE_WORLDS_H
#define RETRYD_FAKE_WORLDS_H

#include "fake_world.h"

struct fake_worlds;

struct fake_slot {
    struct fake_worlds *all;
    unsigned number;
    uint64_t next_ms; /* of its world */
};

struct fake_worlds {
    struct fake_turns turns_world;
    struct turns *turns;
    struct fake_world *worlds;
    struct fake_slot *slots;
    unsigned count;
    uint64_t now_ms;
    uint64_t late_ms; /* turns_run comes so much too late */

    /* Called when a turn of that world has been granted or refused while it waited. */
    void (*told)(struct fake_worlds *ws, unsigned number);
    void *arg;
};

/* Room for `count`, none of which has begun. `event`: of the turns; NULL: nobody wants them. */
void fake_worlds_init(struct fake_worlds *ws, unsigned count,
                      void (*event)(void *arg, const struct turns_event *e));
/* The first breach of contract that shows now, as fake_worlds_wrong. */
const char *fake_worlds_deinit(struct fake_worlds *ws);

/* A world to set up as after fake_init, whose request will come at that time. */
struct fake_world *fake_worlds_add(struct fake_worlds *ws, unsigned number, uint64_t at_ms);
/* To be called after its fake_begin. */
void fake_worlds_begun(struct fake_worlds *ws, unsigned number);

/* Goes to the next event and does all that is due then. False when nothing will come any more, or
 * when a world is `wrong`. */
bool fake_worlds_turn(struct fake_worlds *ws);
void fake_worlds_run(struct fake_worlds *ws);

/* The first breach of contract in any of them; NULL: none. */
const char *fake_worlds_wrong(const struct fake_worlds *ws);

#endif
