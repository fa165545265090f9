/* Ends exchanges from outside, at steps that are drawn. */
#include "endings.h"

#include "draw.h"

#define STEPS_UNTIL 40
#define STEPS_BETWEEN 4

static unsigned first_step, then_step;
static unsigned first_what, then_what;
static unsigned happened;
static unsigned together[ENDINGS]; /* by the one, bits of the others that came in the same step */

void endings_happen(struct fake_world *w, unsigned what)
{
    struct exchange *x = &w->x;

    if (what & ENDING_BIT(ENDING_REFUSED) && x->state == EXCHANGE_RECEIVING &&
        !x->request_complete && !x->refused)
        exchange_refused(x, 413);
    else
        what &= ~ENDING_BIT(ENDING_REFUSED);
    if (what & ENDING_BIT(ENDING_STALLED))
        exchange_client_stalled(x);
    if (what & ENDING_BIT(ENDING_GONE))
        exchange_client_gone(x);
    if (what & ENDING_BIT(ENDING_ABORT))
        exchange_abort(x);
    if (what & ENDING_BIT(ENDING_DEADLINE))
        x->deadline.at_ms = w->now_ms;
    happened |= what;
    for (unsigned e = 0; e < ENDINGS; e++)
        if (what & ENDING_BIT(e))
            together[e] |= what;
}

/* The connection of a client that is cut off closes. */
static unsigned what_follows(void)
{
    bool cut = happened & (ENDING_BIT(ENDING_STALLED) | ENDING_BIT(ENDING_ABORT));

    return then_what | (cut ? ENDING_BIT(ENDING_GONE) : 0);
}

static void before_step(struct fake_world *w)
{
    if (w->x.state == EXCHANGE_DONE)
        return;
    if (w->steps == first_step)
        endings_happen(w, first_what);
    if (w->steps == then_step)
        endings_happen(w, what_follows());
}

void endings_draw(struct fake_world *w)
{
    first_step = 1 + (unsigned)below(one_in(2) ? STEPS_UNTIL : 3);
    then_step = first_step + (unsigned)below(STEPS_BETWEEN);
    first_what = 1 + (unsigned)below(ENDING_BIT(ENDINGS) - 1);
    then_what = one_in(2) ? (unsigned)below(ENDING_BIT(ENDINGS)) : 0;
    happened = 0;
    w->step_at_random = true; /* steps that nobody asked for come before what they wait for */
    if (first_step == 1 && one_in(2)) {
        w->request_ms = 1 + below(50);
        w->dirty = true; /* a step while the request still comes in */
    }
    w->before_step = before_step;
}

void endings_none(void)
{
    happened = 0;
}

unsigned endings_happened(void)
{
    return happened;
}

bool endings_each_pair_came(void)
{
    for (unsigned e = 0; e < ENDINGS; e++)
        if (together[e] != ENDING_BIT(ENDINGS) - 1)
            return false;
    return true;
}
