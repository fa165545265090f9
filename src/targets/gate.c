/* Lets attempts go to a target: freely, not at all, or in steps that probe its limit. */
#include "targets/gate.h"

#include <limits.h>

#include "base/clock.h"

#define COLD_CREDIT ((unsigned)GATE_COLD_BURST)

static unsigned smaller(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

static bool has_passed(uint64_t since_ms, uint64_t delay_ms, uint64_t now_ms)
{
    return now_ms >= since_ms && now_ms - since_ms >= delay_ms;
}

static void count_passed(struct gate *g, unsigned passed)
{
    g->passed = passed > UINT_MAX - g->passed ? UINT_MAX : g->passed + passed;
}

/* Notes a 429. Only the first of several changes `most`, because nothing has passed before the
 * others. */
static void learn_most(struct gate *g)
{
    if (g->passed > 0)
        g->most = g->passed;
    else if (g->most == 0)
        g->most = 1;
    g->passed = 0;
}

/* --- OPEN ------------------------------------------------------------------------------------- */

/* Time fills the credit up to the cold burst only; good responses earn the rest. */
static void fill(struct gate *g, uint64_t now_ms)
{
    if (g->credit > COLD_CREDIT && has_passed(g->good_ms, GATE_WARM_MS, now_ms))
        g->credit = COLD_CREDIT;
    if (now_ms <= g->filled_ms)
        return;
    if (g->credit >= COLD_CREDIT) {
        g->filled_ms = now_ms;
        return;
    }
    uint64_t more = (now_ms - g->filled_ms) / GATE_COLD_MS;
    if (more >= COLD_CREDIT - g->credit) {
        g->credit = COLD_CREDIT;
        g->filled_ms = now_ms;
        return;
    }
    g->credit += (unsigned)more;
    g->filled_ms += more * GATE_COLD_MS;
}

/* --- OPENING ---------------------------------------------------------------------------------- */

static void begin_step(struct gate *g, unsigned step)
{
    g->step = step;
    g->sent = g->ended = g->well = 0;
    g->epoch++;
}

static void begin_opening(struct gate *g)
{
    g->phase = GATE_OPENING;
    g->opened = false;
    g->passed = 0;
    g->beyond = false;
    begin_step(g, 1);
}

/* All attempts of the step ended well. */
static void next_step(struct gate *g, uint64_t now_ms)
{
    bool is_above_most = g->most == 0 || g->beyond;

    if (g->step >= COLD_CREDIT && is_above_most) {
        /* Attempts of the last step still count: late responses to them make the target warm. */
        g->phase = GATE_OPEN;
        g->opened = true;
        g->credit = COLD_CREDIT;
        g->filled_ms = now_ms;
    } else if (g->beyond) {
        begin_step(g, g->step + 1);
    } else if (g->most == 0) {
        begin_step(g, g->step * 2);
    } else if (g->passed < g->most) {
        begin_step(g, smaller(g->step * 2, g->most - g->passed));
    } else {
        g->beyond = true;
        begin_step(g, 1);
    }
}

/* Makes the moves that depend on time alone. */
static void advance(struct gate *g, uint64_t now_ms)
{
    if (g->phase == GATE_CLOSED && now_ms >= g->until_ms)
        begin_opening(g);
    if (g->phase == GATE_OPENING && g->sent > 0 && has_passed(g->since_ms, GATE_STEP_MS, now_ms)) {
        if (g->ended > g->well) {
            begin_step(g, g->step);
        } else {
            count_passed(g, g->sent - g->ended);
            next_step(g, now_ms);
        }
    }
    if (g->phase == GATE_OPEN)
        fill(g, now_ms);
}

/* --- the gate --------------------------------------------------------------------------------- */

void gate_init(struct gate *g, uint64_t now_ms)
{
    *g = (struct gate){
        .phase = GATE_OPEN, .filled_ms = now_ms, .good_ms = now_ms, .credit = COLD_CREDIT};
}

uint64_t gate_next(struct gate *g, uint64_t now_ms)
{
    advance(g, now_ms);
    switch (g->phase) {
    case GATE_OPEN:
        return g->credit > 0 ? now_ms : clock_after(g->filled_ms, GATE_COLD_MS);
    case GATE_CLOSED:
        return g->until_ms;
    case GATE_OPENING:
        break;
    }
    return g->sent < g->step ? now_ms : clock_after(g->since_ms, GATE_STEP_MS);
}

uint32_t gate_enter(struct gate *g, uint64_t now_ms)
{
    switch (g->phase) {
    case GATE_OPEN:
        if (g->credit > 0)
            g->credit--;
        break;
    case GATE_OPENING:
        if (g->sent == 0)
            g->since_ms = now_ms;
        g->sent++;
        break;
    case GATE_CLOSED:
        break;
    }
    return g->epoch;
}

static void leave_open(struct gate *g, enum gate_news news, uint64_t now_ms)
{
    fill(g, now_ms);
    if (news == GATE_GOOD) {
        count_passed(g, 1);
        g->good_ms = now_ms;
        if (g->credit < GATE_WARM_BURST)
            g->credit = smaller(g->credit + 2, GATE_WARM_BURST);
    } else if (news == GATE_LIMITED) {
        learn_most(g);
        g->credit = 0;
    }
}

static void leave_opening(struct gate *g, enum gate_news news, uint64_t now_ms)
{
    if (news == GATE_LIMITED) {
        learn_most(g);
        begin_opening(g);
        return;
    }
    g->ended++;
    if (news == GATE_GOOD) {
        g->well++;
        count_passed(g, 1);
    }
    if (g->ended < g->step || g->ended < g->sent)
        return;
    if (g->well == g->ended)
        next_step(g, now_ms);
    else
        begin_step(g, g->step);
}

bool gate_leave(struct gate *g, uint32_t epoch, enum gate_news news, uint64_t now_ms)
{
    bool opened;

    if (epoch == g->epoch && g->phase == GATE_OPEN)
        leave_open(g, news, now_ms);
    else if (epoch == g->epoch && g->phase == GATE_OPENING)
        leave_opening(g, news, now_ms);
    opened = g->opened;
    g->opened = false;
    return opened;
}

bool gate_close(struct gate *g, uint64_t delay_ms, uint64_t now_ms)
{
    uint64_t until_ms = clock_after(now_ms, delay_ms);

    advance(g, now_ms);
    if (g->phase == GATE_CLOSED) {
        if (until_ms > g->until_ms)
            g->until_ms = until_ms;
        return false;
    }
    learn_most(g);
    g->phase = GATE_CLOSED;
    g->opened = false;
    g->until_ms = until_ms;
    g->epoch++;
    return true;
}

void gate_reopen(struct gate *g, uint64_t now_ms)
{
    advance(g, now_ms);
    if (g->phase != GATE_CLOSED)
        begin_opening(g);
}
