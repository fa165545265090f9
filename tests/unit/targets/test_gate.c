/* Gates: their phases one by one, and, in virtual time, crowds at targets that limit and that do
 * not (C19). */

#include "targets/gate.h"

#include <check.h>

#include "unit.h"

#define START 1000000
#define BURST ((unsigned)GATE_COLD_BURST)

/* --- OPEN ------------------------------------------------------------------------------------- */

/* How many may go at once. */
static unsigned let_go(struct gate *g, unsigned most, uint64_t now_ms)
{
    unsigned n = 0;

    while (n < most && gate_next(g, now_ms) <= now_ms) {
        gate_enter(g, now_ms);
        n++;
    }
    return n;
}

START_TEST(a_cold_target_is_not_stormed)
{
    struct gate g;

    gate_init(&g, START);
    ck_assert_uint_eq(let_go(&g, 1000, START), BURST);
    ck_assert_uint_eq(gate_next(&g, START), START + GATE_COLD_MS);
    ck_assert_uint_eq(let_go(&g, 1000, START + GATE_COLD_MS - 1), 0);
    ck_assert_uint_eq(let_go(&g, 1000, START + GATE_COLD_MS), 1);
    ck_assert_uint_eq(let_go(&g, 1000, START + 10 * GATE_COLD_MS), 9);
    ck_assert_uint_eq(let_go(&g, 1000, START + 3600 * 1000), BURST);
}
END_TEST

START_TEST(good_responses_make_it_warm)
{
    struct gate g;

    gate_init(&g, START);
    for (unsigned i = 0; i < 256; i++)
        ck_assert(!gate_leave(&g, gate_enter(&g, START + i), GATE_GOOD, START + i));
    ck_assert_uint_eq(let_go(&g, 256, START + 256), 256);
    for (unsigned i = 0; i < 10000; i++)
        gate_leave(&g, g.epoch, GATE_GOOD, START + 300);
    ck_assert_uint_eq(let_go(&g, 10000, START + 300 + GATE_WARM_MS - 1), GATE_WARM_BURST);
}
END_TEST

START_TEST(without_a_good_response_it_is_cold_again)
{
    struct gate g;

    gate_init(&g, START);
    for (unsigned i = 0; i < 1000; i++)
        gate_leave(&g, g.epoch, GATE_GOOD, START);
    gate_leave(&g, g.epoch, GATE_NO_NEWS, START + 5000);
    ck_assert_uint_eq(let_go(&g, 1000, START + GATE_WARM_MS), BURST);

    gate_init(&g, START);
    for (unsigned i = 0; i < 1000; i++)
        gate_leave(&g, g.epoch, GATE_GOOD, START);
    gate_leave(&g, g.epoch, GATE_GOOD, START + GATE_WARM_MS);
    ck_assert_uint_eq(let_go(&g, 1000, START + GATE_WARM_MS), BURST + 2);
}
END_TEST

START_TEST(one_that_goes_all_the_same_takes_no_credit_that_is_not_there)
{
    struct gate g;

    gate_init(&g, START);
    for (unsigned i = 0; i < 2 * BURST; i++)
        gate_enter(&g, START);
    ck_assert_uint_eq(let_go(&g, 1000, START), 0);
    ck_assert_uint_eq(let_go(&g, 1000, START + GATE_COLD_MS), 1);
}
END_TEST

START_TEST(a_clock_that_stands_or_goes_back_fills_nothing)
{
    struct gate g;

    gate_init(&g, START);
    ck_assert_uint_eq(let_go(&g, 1000, START), BURST);
    for (unsigned i = 0; i < 100; i++)
        ck_assert_uint_gt(gate_next(&g, START), START);
    ck_assert_uint_gt(gate_next(&g, START - 500), START - 500);
    ck_assert_uint_eq(let_go(&g, 1000, START + 2 * GATE_COLD_MS), 2);
}
END_TEST

START_TEST(a_limit_without_a_hint_takes_the_credit)
{
    struct gate g;

    gate_init(&g, START);
    for (unsigned i = 0; i < 100; i++)
        gate_leave(&g, g.epoch, GATE_GOOD, START);
    ck_assert(!gate_leave(&g, g.epoch, GATE_LIMITED, START));
    ck_assert_int_eq(g.phase, GATE_OPEN);
    ck_assert_uint_eq(g.most, 100);
    ck_assert_uint_eq(gate_next(&g, START), START + GATE_COLD_MS);
    gate_leave(&g, g.epoch, GATE_LIMITED, START);
    ck_assert_uint_eq(g.most, 100);
    gate_leave(&g, g.epoch, GATE_GOOD, START);
    gate_leave(&g, g.epoch, GATE_LIMITED, START);
    ck_assert_uint_eq(g.most, 1);
}
END_TEST

/* --- CLOSED ----------------------------------------------------------------------------------- */

START_TEST(nobody_goes_while_it_is_closed)
{
    struct gate g;

    gate_init(&g, START);
    ck_assert(gate_close(&g, 1500, START));
    ck_assert_uint_eq(gate_next(&g, START), START + 1500);
    ck_assert_uint_eq(gate_next(&g, START + 1499), START + 1500);
    ck_assert_int_eq(g.phase, GATE_CLOSED);
    ck_assert_uint_eq(gate_next(&g, START + 1500), START + 1500);
    ck_assert_int_eq(g.phase, GATE_OPENING);
}
END_TEST

START_TEST(a_longer_time_stays_a_shorter_one_changes_nothing)
{
    struct gate g;

    gate_init(&g, START);
    ck_assert(gate_close(&g, 1500, START));
    ck_assert(!gate_close(&g, 100, START + 10));
    ck_assert_uint_eq(gate_next(&g, START + 10), START + 1500);
    ck_assert(!gate_close(&g, 2000, START + 10));
    ck_assert_uint_eq(gate_next(&g, START + 10), START + 2010);
    /* its time is over, though nobody has asked yet */
    ck_assert(gate_close(&g, 50, START + 2010));
    ck_assert_uint_eq(gate_next(&g, START + 2010), START + 2060);
}
END_TEST

START_TEST(times_near_the_end_of_the_clock)
{
    struct gate g;
    uint64_t now = UINT64_MAX - 1;

    gate_init(&g, now);
    ck_assert_uint_eq(let_go(&g, 1000, now), BURST);
    ck_assert_uint_eq(gate_next(&g, now), GATE_NEVER);
    ck_assert(gate_close(&g, UINT64_MAX, now));
    ck_assert_uint_eq(gate_next(&g, now), GATE_NEVER);
    ck_assert(!gate_close(&g, 0, now));

    gate_init(&g, 0);
    ck_assert(gate_close(&g, UINT64_MAX, 5));
    ck_assert_uint_eq(gate_next(&g, UINT64_MAX - 1), GATE_NEVER);

    gate_init(&g, now);
    gate_reopen(&g, now);
    gate_enter(&g, now);
    ck_assert_uint_eq(gate_next(&g, now), GATE_NEVER);
}
END_TEST

/* --- OPENING ---------------------------------------------------------------------------------- */

/* Closed for `delay_ms` after `passed` good responses, and at the end of that time. Returns now. */
static uint64_t opening_after(struct gate *g, unsigned passed, uint64_t delay_ms)
{
    gate_init(g, START);
    for (unsigned i = 0; i < passed; i++)
        gate_leave(g, g->epoch, GATE_GOOD, START);
    gate_leave(g, g->epoch, GATE_LIMITED, START);
    gate_close(g, delay_ms, START);
    gate_next(g, START + delay_ms);
    ck_assert_int_eq(g->phase, GATE_OPENING);
    return START + delay_ms;
}

/* All that may go do, and are answered well. Returns how many they were. */
static unsigned step_well(struct gate *g, uint64_t now_ms)
{
    uint32_t epochs[64];
    unsigned n = 0;

    while (n < COUNT(epochs) && gate_next(g, now_ms) <= now_ms)
        epochs[n++] = gate_enter(g, now_ms);
    for (unsigned i = 0; i < n; i++)
        ck_assert_int_eq(gate_leave(g, epochs[i], GATE_GOOD, now_ms),
                         n >= BURST && i == n - 1 && (g->most == 0 || g->phase == GATE_OPEN));
    return n;
}

START_TEST(steps_double_up_to_what_passed_before_then_grow_by_one)
{
    static const struct {
        unsigned passed;
        unsigned steps[24]; /* up to a 0; then it is OPEN */
    } cases[] = {
        {0, {1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}},
        {1, {1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}},
        {4, {1, 2, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}},
        {10, {1, 2, 4, 3, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}},
        {20, {1, 2, 4, 8, 5, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}},
        {28, {1, 2, 4, 8, 13, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}},
        {100, {1, 2, 4, 8, 16, 32, 37, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct gate g;
        uint64_t now = opening_after(&g, cases[i].passed, 1500);
        for (const unsigned *step = cases[i].steps; *step != 0; step++) {
            ck_assert_int_eq(g.phase, GATE_OPENING);
            ck_assert_uint_eq(step_well(&g, now++), *step);
        }
        ck_assert_int_eq(g.phase, GATE_OPEN);
        ck_assert_uint_eq(let_go(&g, 1000, now), BURST);
    }
}
END_TEST

START_TEST(a_step_waits_for_all_of_the_one_before)
{
    struct gate g;
    uint64_t now = opening_after(&g, 100, 1500);
    uint32_t first, second;

    ck_assert_uint_eq(step_well(&g, now), 1);
    first = gate_enter(&g, now);
    second = gate_enter(&g, now);
    ck_assert_uint_gt(gate_next(&g, now + 1), now + 1);
    gate_leave(&g, first, GATE_GOOD, now + 1);
    ck_assert_uint_gt(gate_next(&g, now + 1), now + 1);
    gate_leave(&g, second, GATE_GOOD, now + 2);
    ck_assert_uint_eq(let_go(&g, 1000, now + 2), 4);
}
END_TEST

START_TEST(a_step_of_which_not_all_have_gone_goes_on)
{
    struct gate g;
    uint64_t now = opening_after(&g, 100, 1500);

    step_well(&g, now);
    step_well(&g, now);
    for (unsigned i = 0; i < 2; i++)
        gate_leave(&g, gate_enter(&g, now), GATE_GOOD, now);
    ck_assert_uint_eq(let_go(&g, 1000, now), 2);
}
END_TEST

START_TEST(a_step_that_did_not_go_all_well_is_repeated)
{
    struct gate g;
    uint64_t now = opening_after(&g, 100, 1500);
    uint32_t first, second;

    ck_assert_uint_eq(step_well(&g, now), 1);
    first = gate_enter(&g, now);
    second = gate_enter(&g, now);
    gate_leave(&g, second, GATE_NO_NEWS, now);
    gate_leave(&g, first, GATE_GOOD, now);
    ck_assert_uint_eq(step_well(&g, now), 2);
    ck_assert_uint_eq(let_go(&g, 1000, now), 4);
}
END_TEST

START_TEST(attempts_that_never_end_hold_nobody_up)
{
    struct gate g;
    uint64_t now = opening_after(&g, 100, 1500);

    static const unsigned steps[] = {1, 2, 4, 8, 16, 32, 37, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};

    for (size_t i = 0; i < COUNT(steps); i++) {
        ck_assert_int_eq(g.phase, GATE_OPENING);
        ck_assert_uint_eq(let_go(&g, 1000, now), steps[i]);
        ck_assert_uint_eq(gate_next(&g, now), now + GATE_STEP_MS);
        ck_assert_uint_eq(gate_next(&g, now + GATE_STEP_MS - 1), now + GATE_STEP_MS);
        now += GATE_STEP_MS;
    }
    gate_next(&g, now);
    ck_assert_int_eq(g.phase, GATE_OPEN);
    /* told once, by whoever leaves first, even one from before */
    ck_assert(gate_leave(&g, g.epoch - 1, GATE_NO_NEWS, now));
    ck_assert(!gate_leave(&g, g.epoch, GATE_GOOD, now));
    /* that good one was of the last step, and counts */
    ck_assert_uint_eq(let_go(&g, 1000, now), BURST + 2);
}
END_TEST

START_TEST(what_is_no_longer_true_is_not_told)
{
    for (unsigned close = 0; close < 2; close++) {
        struct gate g;
        uint64_t now = opening_after(&g, 100, 1500);
        while (g.phase != GATE_OPEN) {
            let_go(&g, 1000, now);
            now += GATE_STEP_MS;
            gate_next(&g, now);
        }
        if (close)
            gate_close(&g, 1500, now);
        else
            gate_reopen(&g, now);
        ck_assert(!gate_leave(&g, g.epoch - 1, GATE_GOOD, now));
    }
}
END_TEST

START_TEST(what_a_step_still_waits_for_has_passed_too)
{
    struct gate g;
    uint64_t now = opening_after(&g, 100, 1500);
    uint32_t first;

    step_well(&g, now);
    first = gate_enter(&g, now);
    gate_enter(&g, now);
    gate_leave(&g, first, GATE_GOOD, now);
    gate_next(&g, now + GATE_STEP_MS);
    ck_assert_uint_eq(g.passed, 3);
    ck_assert_uint_eq(let_go(&g, 1000, now + GATE_STEP_MS), 4);
}
END_TEST

START_TEST(a_step_that_takes_long_and_went_badly_is_repeated)
{
    struct gate g;
    uint64_t now = opening_after(&g, 100, 1500);
    uint32_t first;

    ck_assert_uint_eq(step_well(&g, now), 1);
    first = gate_enter(&g, now);
    gate_enter(&g, now);
    gate_leave(&g, first, GATE_NO_NEWS, now);
    ck_assert_uint_eq(let_go(&g, 1000, now + GATE_STEP_MS), 2);
}
END_TEST

START_TEST(an_idle_gap_is_one_step_at_most)
{
    struct gate g;
    uint64_t now = opening_after(&g, 100, 1500);

    gate_leave(&g, gate_enter(&g, now), GATE_GOOD, now);
    ck_assert_uint_eq(let_go(&g, 1000, now + 86400000), 2);
    ck_assert_uint_eq(let_go(&g, 1000, now + 2 * 86400000), 4);
}
END_TEST

START_TEST(what_went_before_a_closing_no_longer_counts)
{
    struct gate g;
    uint32_t before;
    uint64_t now;

    gate_init(&g, START);
    before = gate_enter(&g, START);
    gate_close(&g, 1500, START);
    gate_leave(&g, before, GATE_GOOD, START + 1);
    now = START + 1500;
    ck_assert_uint_eq(let_go(&g, 1000, now), 1);
    ck_assert(!gate_leave(&g, before, GATE_GOOD, now));
    ck_assert_uint_gt(gate_next(&g, now), now);
    ck_assert(!gate_leave(&g, before, GATE_LIMITED, now));
    gate_leave(&g, g.epoch, GATE_GOOD, now);
    ck_assert_uint_eq(let_go(&g, 1000, now), 1);
    ck_assert_uint_eq(g.passed, 1);
}
END_TEST

START_TEST(a_limit_without_a_hint_begins_the_opening_again)
{
    struct gate g;
    uint64_t now = opening_after(&g, 100, 1500);
    uint32_t first;

    step_well(&g, now);
    step_well(&g, now);
    step_well(&g, now);
    first = gate_enter(&g, now);
    gate_enter(&g, now);
    gate_leave(&g, first, GATE_LIMITED, now);
    ck_assert_int_eq(g.phase, GATE_OPENING);
    ck_assert_uint_eq(g.most, 7);
    gate_leave(&g, first, GATE_LIMITED, now);
    ck_assert_uint_eq(g.most, 7);
    ck_assert_uint_eq(step_well(&g, now), 1);
    ck_assert_uint_eq(step_well(&g, now), 2);
}
END_TEST

START_TEST(a_target_that_was_down_is_felt_for_too)
{
    struct gate g;

    gate_init(&g, START);
    gate_reopen(&g, START);
    for (unsigned step = 1; step <= 16; step *= 2)
        ck_assert_uint_eq(step_well(&g, START), step);
    ck_assert_int_eq(g.phase, GATE_OPEN);

    /* what passed while it was open is not what passed since */
    g.most = 4;
    gate_reopen(&g, START);
    ck_assert_uint_eq(step_well(&g, START), 1);
    ck_assert_uint_eq(step_well(&g, START), 2);
    ck_assert_uint_eq(step_well(&g, START), 1);

    gate_close(&g, 1500, START);
    gate_reopen(&g, START);
    ck_assert_int_eq(g.phase, GATE_CLOSED);
    ck_assert_uint_eq(gate_next(&g, START), START + 1500);
}
END_TEST

/* --- whatever happens ------------------------------------------------------------------------- */

static unsigned step_most(const struct gate *g)
{
    return g->most > 2 * BURST ? g->most : 2 * BURST;
}

/* The result of gate_next holds: no request passes while the gate is closed, and one that comes at
 * the time it names may go, though nothing else happens until then. */
static void check_next(const struct gate *now, uint64_t now_ms, uint64_t closed_until_ms)
{
    struct gate g = *now;
    uint64_t next_ms = gate_next(&g, now_ms);

    if (now_ms < closed_until_ms && next_ms != closed_until_ms)
        ck_abort_msg("closed until %u, not %u", (unsigned)closed_until_ms, (unsigned)next_ms);
    if (next_ms > now_ms && gate_next(&g, next_ms) > next_ms)
        ck_abort_msg("at %u it said %u, then later still", (unsigned)now_ms, (unsigned)next_ms);
    if (g.phase == GATE_OPENING && (g.sent > g.step || g.ended > g.sent || g.well > g.ended ||
                                    g.step == 0 || g.step > step_most(&g)))
        ck_abort_msg("a step of %u: %u sent, %u ended", g.step, g.sent, g.ended);
    if (g.phase == GATE_OPEN && g.credit > GATE_WARM_BURST)
        ck_abort_msg("a credit of %u", g.credit);
}

START_TEST(a_million_steps)
{
    static uint32_t epochs[64];
    static bool under_way[COUNT(epochs)];
    unsigned phases[GATE_OPENING + 1] = {0}, opened = 0;
    uint64_t now = START, closed_until = 0;
    struct gate g;

    gate_init(&g, now);
    for (unsigned i = 0; i < 1000000; i++) {
        size_t k = unit_below(COUNT(epochs));
        uint64_t what = unit_below(10000), delay_ms;
        now += unit_below(10) == 0 ? unit_below(100) : 0;
        if (what < 5) {
            delay_ms = unit_below(3000);
            ck_assert(gate_close(&g, delay_ms, now) == (now >= closed_until));
            closed_until = now + delay_ms > closed_until ? now + delay_ms : closed_until;
        } else if (what < 10) {
            gate_reopen(&g, now);
        } else if (!under_way[k] && gate_next(&g, now) <= now) {
            epochs[k] = gate_enter(&g, now);
            under_way[k] = true;
        } else if (under_way[k]) {
            enum gate_news news = what < 9900   ? GATE_GOOD
                                  : what < 9990 ? GATE_NO_NEWS
                                                : GATE_LIMITED;
            opened += gate_leave(&g, epochs[k], news, now);
            under_way[k] = false;
        }
        check_next(&g, now, closed_until);
        phases[g.phase]++;
    }
    for (int phase = GATE_OPEN; phase <= GATE_OPENING; phase++)
        ck_assert_uint_gt(phases[phase], 10000);
    ck_assert_uint_gt(opened, 50);
}
END_TEST

/* --- crowds in virtual time ------------------------------------------------------------------- */

enum upstream { WINDOWS, BUCKET, HEALTHY };

#define CROWD_MOST 5000

/* A crowd that comes at once, a provider that answers each attempt after `answer_ms`, and the gate
 * between them. A limited one waits again, at the front: which one it is makes no difference. */
struct crowd {
    unsigned rate;
    enum upstream upstream;
    uint64_t answer_ms, hint_ms;
    uint64_t now_ms;
    unsigned waiting, done, attempts;
    uint64_t last_go_ms; /* when the last attempt went */
    uint64_t window;     /* WINDOWS: its number */
    unsigned in_window;
    uint64_t tokens_at_ms; /* BUCKET: since when it holds `thousandths` */
    uint64_t thousandths;
    struct gate gate;
    struct flight {
        uint64_t back_ms;
        uint32_t epoch;
        bool good;
    } flights[16 * CROWD_MOST]; /* in the order of their responses */
    size_t first, end;
};

static struct crowd crowd;

static bool provider_takes(struct crowd *c)
{
    switch (c->upstream) {
    case HEALTHY:
        return true;
    case WINDOWS:
        if (c->window != c->now_ms / 1000) {
            c->window = c->now_ms / 1000;
            c->in_window = 0;
        }
        return ++c->in_window <= c->rate;
    case BUCKET:
        break;
    }
    c->thousandths += (c->now_ms - c->tokens_at_ms) * c->rate;
    if (c->thousandths > c->rate * 1000)
        c->thousandths = c->rate * 1000;
    c->tokens_at_ms = c->now_ms;
    if (c->thousandths < 1000)
        return false;
    c->thousandths -= 1000;
    return true;
}

static void crowd_go(struct crowd *c)
{
    while (c->waiting > 0 && gate_next(&c->gate, c->now_ms) <= c->now_ms) {
        ck_assert_int_ne(c->gate.phase, GATE_CLOSED);
        ck_assert_uint_lt(c->end, COUNT(c->flights));
        c->flights[c->end].epoch = gate_enter(&c->gate, c->now_ms);
        c->flights[c->end].back_ms = c->now_ms + c->answer_ms;
        c->flights[c->end++].good = provider_takes(c);
        c->waiting--;
        c->attempts++;
        c->last_go_ms = c->now_ms;
    }
}

static void crowd_answer(struct crowd *c)
{
    const struct flight *f = &c->flights[c->first++];

    gate_leave(&c->gate, f->epoch, f->good ? GATE_GOOD : GATE_LIMITED, c->now_ms);
    if (f->good) {
        c->done++;
    } else {
        c->waiting++;
        gate_close(&c->gate, c->hint_ms, c->now_ms);
    }
}

/* All who wait are let go after each response: the gate may count on nothing else. */
static void crowd_run(struct crowd *c, unsigned people)
{
    c->waiting = people;
    crowd_go(c);
    while (c->done < people) {
        uint64_t next_ms = c->waiting > 0 ? gate_next(&c->gate, c->now_ms) : GATE_NEVER;
        if (c->first < c->end && c->flights[c->first].back_ms <= next_ms) {
            c->now_ms = c->flights[c->first].back_ms;
            crowd_answer(c);
        } else {
            ck_assert_uint_lt(c->now_ms, next_ms);
            ck_assert_uint_ne(next_ms, GATE_NEVER);
            c->now_ms = next_ms;
        }
        crowd_go(c);
    }
}

/* `phase_ms`: where in the provider's second it begins. */
static void crowd_init(struct crowd *c, enum upstream upstream, uint64_t answer_ms,
                       uint64_t phase_ms)
{
    *c = (struct crowd){.upstream = upstream,
                        .answer_ms = answer_ms,
                        .hint_ms = 1500,
                        .now_ms = START + phase_ms,
                        .tokens_at_ms = START,
                        .rate = 10, /* a second, and as many at once */
                        .thousandths = 10 * 1000};
    gate_init(&c->gate, c->now_ms);
}

static void limited_crowd(enum upstream upstream, uint64_t answer_ms, unsigned most_attempts)
{
    for (uint64_t phase_ms = 0; phase_ms < 1000; phase_ms += 37) {
        crowd_init(&crowd, upstream, answer_ms, phase_ms);
        crowd_run(&crowd, 200);
        ck_assert_uint_eq(crowd.done, 200);
        if (crowd.attempts > most_attempts)
            ck_abort_msg("begun at %u ms: %u attempts", (unsigned)phase_ms, crowd.attempts);
    }
}

START_TEST(a_crowd_at_a_limited_target)
{
    static const enum upstream upstreams[] = {WINDOWS, BUCKET};

    for (size_t i = 0; i < COUNT(upstreams); i++) {
        limited_crowd(upstreams[i], 1, 260);
        limited_crowd(upstreams[i], 20, 260);
        limited_crowd(upstreams[i], 300, 400);
    }
}
END_TEST

/* More than a step that would open the gate of a target that is not known to be limited. */
START_TEST(a_crowd_where_30_a_second_are_served)
{
    static const uint64_t hints_ms[] = {700, 1100};

    for (size_t i = 0; i < COUNT(hints_ms); i++) {
        for (uint64_t phase_ms = 0; phase_ms < 1000; phase_ms += 37) {
            crowd_init(&crowd, BUCKET, 2, phase_ms);
            crowd.rate = 30;
            crowd.thousandths = 30 * 1000;
            crowd.hint_ms = hints_ms[i];
            crowd_run(&crowd, 200);
            ck_assert_uint_eq(crowd.done, 200);
            ck_assert_uint_le(crowd.attempts, 260);
        }
    }
}
END_TEST

START_TEST(a_crowd_at_a_healthy_target)
{
    crowd_init(&crowd, HEALTHY, 5, 0);
    crowd_run(&crowd, 5000);
    ck_assert_uint_eq(crowd.attempts, 5000);
    ck_assert_uint_le(crowd.last_go_ms - START, 350);
}
END_TEST

/* One stray limit: what is healthy is open again soon, though its responses take long. */
START_TEST(a_crowd_at_a_target_that_limited_once)
{
    static const uint64_t answers_ms[] = {1, 20, 300, 30000};

    for (size_t i = 0; i < COUNT(answers_ms); i++) {
        crowd_init(&crowd, HEALTHY, answers_ms[i], 0);
        gate_leave(&crowd.gate, gate_enter(&crowd.gate, START), GATE_LIMITED, START);
        gate_close(&crowd.gate, 1000, START);
        crowd_run(&crowd, 1000);
        ck_assert_uint_eq(crowd.attempts, 1000);
        ck_assert_uint_le(crowd.last_go_ms - START, 1000 + 13 * GATE_STEP_MS + 1000 * GATE_COLD_MS);
    }
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "gate");

    tcase_add_test(tcase, a_cold_target_is_not_stormed);
    tcase_add_test(tcase, good_responses_make_it_warm);
    tcase_add_test(tcase, without_a_good_response_it_is_cold_again);
    tcase_add_test(tcase, one_that_goes_all_the_same_takes_no_credit_that_is_not_there);
    tcase_add_test(tcase, a_clock_that_stands_or_goes_back_fills_nothing);
    tcase_add_test(tcase, a_limit_without_a_hint_takes_the_credit);
    tcase_add_test(tcase, nobody_goes_while_it_is_closed);
    tcase_add_test(tcase, a_longer_time_stays_a_shorter_one_changes_nothing);
    tcase_add_test(tcase, times_near_the_end_of_the_clock);
    tcase_add_test(tcase, steps_double_up_to_what_passed_before_then_grow_by_one);
    tcase_add_test(tcase, a_step_waits_for_all_of_the_one_before);
    tcase_add_test(tcase, a_step_of_which_not_all_have_gone_goes_on);
    tcase_add_test(tcase, a_step_that_did_not_go_all_well_is_repeated);
    tcase_add_test(tcase, attempts_that_never_end_hold_nobody_up);
    tcase_add_test(tcase, what_is_no_longer_true_is_not_told);
    tcase_add_test(tcase, what_a_step_still_waits_for_has_passed_too);
    tcase_add_test(tcase, a_step_that_takes_long_and_went_badly_is_repeated);
    tcase_add_test(tcase, an_idle_gap_is_one_step_at_most);
    tcase_add_test(tcase, what_went_before_a_closing_no_longer_counts);
    tcase_add_test(tcase, a_limit_without_a_hint_begins_the_opening_again);
    tcase_add_test(tcase, a_target_that_was_down_is_felt_for_too);
    tcase_add_test(tcase, a_million_steps);
    tcase_add_test(tcase, a_crowd_at_a_limited_target);
    tcase_add_test(tcase, a_crowd_where_30_a_second_are_served);
    tcase_add_test(tcase, a_crowd_at_a_healthy_target);
    tcase_add_test(tcase, a_crowd_at_a_target_that_limited_once);
}
