/* What ends an exchange from outside, drawn at random: each kind alone, and each two in the same
 * step. */
#ifndef RETRYD_ENDINGS_H
#define RETRYD_ENDINGS_H

#include "fake_world.h"

enum ending {
    ENDING_GONE, /* the client leaves */
    /* it takes nothing of its response; it is cut off, and so leaves, some time later */
    ENDING_STALLED,
    ENDING_ABORT,    /* retryd ends; it cuts the connection some time later */
    ENDING_REFUSED,  /* the request's body is refused, where it is not whole yet */
    ENDING_DEADLINE, /* the deadline has passed */
    ENDINGS,
};

#define ENDING_BIT(e) (1u << (e))

/* Before fake_begin: draws when what happens to its exchange, counted in its steps. */
void endings_draw(struct fake_world *w);
/* ... or: nothing does. */
void endings_none(void);

/* What these bits say happens now, as far as it can in this state. */
void endings_happen(struct fake_world *w, unsigned what);

/* Bits of what has happened to this exchange so far. */
unsigned endings_happened(void);

/* Whether each two have come in one step to exchanges that were not over. */
bool endings_each_pair_came(void);

#endif
