/* Breakers: what opens and closes them, and invariants under random events (C20). */

#include "targets/breaker.h"

#include <check.h>
#include <limits.h>

#include "unit.h"

#define START 1000000
#define WINDOW 30000
#define OPEN_FOR 15000

static const struct breaker_settings by_row = {5, 0, WINDOW, OPEN_FOR};
static const struct breaker_settings by_rate = {0, 50, WINDOW, OPEN_FOR};
static const struct breaker_settings off = {0, 0, WINDOW, OPEN_FOR};

static enum breaker_change attempt(struct breaker *b, const struct breaker_settings *s,
                                   enum breaker_news news, uint64_t now_ms)
{
    return breaker_leave(b, s, breaker_enter(b, s, now_ms), news, now_ms);
}

/* --- what opens it --- */

START_TEST(failures_in_a_row_open_it)
{
    struct breaker b;

    breaker_init(&b);
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(attempt(&b, &by_row, BREAKER_BAD, START), BREAKER_STAYS);
    ck_assert_int_eq(attempt(&b, &by_row, BREAKER_GOOD, START), BREAKER_STAYS);
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(attempt(&b, &by_row, BREAKER_BAD, START), BREAKER_STAYS);
    ck_assert_int_eq(attempt(&b, &by_row, BREAKER_NO_NEWS, START), BREAKER_STAYS);
    ck_assert_uint_le(breaker_next(&b, START), START);
    ck_assert_int_eq(attempt(&b, &by_row, BREAKER_BAD, START), BREAKER_OPENS);
    ck_assert_int_eq(b.phase, BREAKER_OPEN);
    ck_assert_uint_eq(breaker_next(&b, START), START + OPEN_FOR);
}
END_TEST

START_TEST(a_single_failure_may_open_it)
{
    static const struct breaker_settings single = {1, 0, WINDOW, OPEN_FOR};
    struct breaker b;

    breaker_init(&b);
    ck_assert_int_eq(attempt(&b, &single, BREAKER_GOOD, START), BREAKER_STAYS);
    ck_assert_int_eq(attempt(&b, &single, BREAKER_BAD, START), BREAKER_OPENS);
}
END_TEST

START_TEST(failures_in_a_row_need_no_window)
{
    struct breaker b;

    breaker_init(&b);
    for (uint64_t i = 0; i < 4; i++)
        ck_assert_int_eq(attempt(&b, &by_row, BREAKER_BAD, START + i * 86400000), BREAKER_STAYS);
    ck_assert_int_eq(attempt(&b, &by_row, BREAKER_BAD, UINT64_MAX), BREAKER_OPENS);
    ck_assert_uint_eq(breaker_next(&b, UINT64_MAX - 1), UINT64_MAX);
}
END_TEST

/* Good and bad ones in turn, up to one that may say something. */
static void fill_window(struct breaker *b, const struct breaker_settings *s, uint64_t from_ms,
                        unsigned good, unsigned bad)
{
    for (unsigned i = 0; i < good; i++)
        ck_assert_int_eq(attempt(b, s, BREAKER_GOOD, from_ms), BREAKER_STAYS);
    for (unsigned i = 0; i < bad; i++)
        ck_assert_int_eq(attempt(b, s, BREAKER_BAD, from_ms), BREAKER_STAYS);
}

START_TEST(a_rate_of_failures_opens_it)
{
    struct breaker b;

    breaker_init(&b);
    fill_window(&b, &by_rate, START, 10, 9);
    ck_assert_int_eq(attempt(&b, &by_rate, BREAKER_BAD, START), BREAKER_OPENS);

    breaker_init(&b);
    fill_window(&b, &by_rate, START, 11, 10);
    ck_assert_int_eq(attempt(&b, &by_rate, BREAKER_BAD, START), BREAKER_OPENS);
}
END_TEST

START_TEST(a_few_attempts_are_no_rate_and_a_good_one_opens_nothing)
{
    struct breaker b;

    breaker_init(&b);
    fill_window(&b, &by_rate, START, 0, BREAKER_VOLUME - 1);
    ck_assert_int_eq(attempt(&b, &by_rate, BREAKER_NO_NEWS, START), BREAKER_STAYS);
    ck_assert_int_eq(attempt(&b, &by_rate, BREAKER_GOOD, START), BREAKER_STAYS);
    ck_assert_int_eq(attempt(&b, &by_rate, BREAKER_BAD, START), BREAKER_OPENS);
}
END_TEST

START_TEST(the_window_slides)
{
    struct breaker b;
    uint64_t tenth = WINDOW / 10;

    /* bad ones first: when they have left the window, as many good ones are left alone */
    breaker_init(&b);
    fill_window(&b, &by_rate, 10 * tenth, 0, 19);
    fill_window(&b, &by_rate, 19 * tenth, 20, 0);
    ck_assert_int_eq(attempt(&b, &by_rate, BREAKER_BAD, 20 * tenth), BREAKER_STAYS);

    /* still within it */
    breaker_init(&b);
    fill_window(&b, &by_rate, 10 * tenth, 0, 19);
    fill_window(&b, &by_rate, 19 * tenth, 20, 0);
    ck_assert_int_eq(attempt(&b, &by_rate, BREAKER_BAD, 20 * tenth - 1), BREAKER_OPENS);

    /* spread over all of it */
    breaker_init(&b);
    for (uint64_t i = 0; i < 9; i++)
        fill_window(&b, &by_rate, START + i * tenth, 1, 1);
    fill_window(&b, &by_rate, START + 9 * tenth, 1, 0);
    ck_assert_int_eq(attempt(&b, &by_rate, BREAKER_BAD, START + 9 * tenth), BREAKER_OPENS);

    /* a long gap, as many buckets later as there are: the same places, other times */
    breaker_init(&b);
    fill_window(&b, &by_rate, START, 0, 19);
    ck_assert_int_eq(attempt(&b, &by_rate, BREAKER_BAD, START + WINDOW), BREAKER_STAYS);
    fill_window(&b, &by_rate, UINT64_MAX - 1, 10, 9);
    ck_assert_int_eq(attempt(&b, &by_rate, BREAKER_BAD, UINT64_MAX - 1), BREAKER_OPENS);
    ck_assert_uint_eq(breaker_next(&b, UINT64_MAX - 1), UINT64_MAX);
}
END_TEST

/* A reload may change the window, and two routes may differ in it. */
START_TEST(a_window_of_another_length_counts_afresh)
{
    struct breaker b;
    struct breaker_settings longer = {0, 50, 10 * WINDOW, OPEN_FOR}, none = {0, 50, 0, OPEN_FOR};

    breaker_init(&b);
    fill_window(&b, &by_rate, START, 0, 19);
    ck_assert_int_eq(attempt(&b, &longer, BREAKER_BAD, START), BREAKER_STAYS);
    fill_window(&b, &none, START, 0, 19);
    ck_assert_int_eq(attempt(&b, &none, BREAKER_BAD, START), BREAKER_OPENS);
}
END_TEST

START_TEST(without_rules_it_never_opens)
{
    struct breaker b;

    breaker_init(&b);
    for (uint64_t i = 0; i < 10000; i++)
        ck_assert_int_eq(attempt(&b, &off, BREAKER_BAD, START + i), BREAKER_STAYS);
    b.in_a_row = UINT_MAX;
    ck_assert_int_eq(attempt(&b, &off, BREAKER_BAD, START), BREAKER_STAYS);
    ck_assert_uint_eq(b.in_a_row, UINT_MAX);
}
END_TEST

/* --- probes --- */

static void opened(struct breaker *b)
{
    breaker_init(b);
    for (unsigned i = 0; i < by_row.failures; i++)
        attempt(b, &by_row, BREAKER_BAD, START);
    ck_assert_int_eq(b->phase, BREAKER_OPEN);
}

START_TEST(a_good_probe_closes_it)
{
    struct breaker b;
    struct breaker_pass probe;
    uint64_t now = START + OPEN_FOR;

    opened(&b);
    ck_assert_uint_gt(breaker_next(&b, now - 1), now - 1);
    ck_assert_uint_le(breaker_next(&b, now), now);
    probe = breaker_enter(&b, &by_row, now);
    ck_assert(probe.probe);
    ck_assert_int_eq(b.phase, BREAKER_HALF_OPEN);
    ck_assert_uint_eq(breaker_next(&b, now), now + OPEN_FOR);
    ck_assert_int_eq(breaker_leave(&b, &by_row, probe, BREAKER_GOOD, now + 5), BREAKER_CLOSES);
    ck_assert_int_eq(b.phase, BREAKER_CLOSED);
    ck_assert_uint_le(breaker_next(&b, now + 5), now + 5);
    /* and what was counted before is forgotten */
    for (unsigned i = 0; i + 1 < by_row.failures; i++)
        ck_assert_int_eq(attempt(&b, &by_row, BREAKER_BAD, now + 5), BREAKER_STAYS);
    ck_assert_int_eq(attempt(&b, &by_row, BREAKER_BAD, now + 5), BREAKER_OPENS);
}
END_TEST

START_TEST(closing_forgets_the_window_too)
{
    struct breaker b;

    breaker_init(&b);
    fill_window(&b, &by_rate, START, 0, 19);
    ck_assert_int_eq(attempt(&b, &by_rate, BREAKER_BAD, START), BREAKER_OPENS);
    ck_assert_int_eq(attempt(&b, &by_rate, BREAKER_GOOD, START + OPEN_FOR), BREAKER_CLOSES);
    fill_window(&b, &by_rate, START + OPEN_FOR, 0, 19);
    ck_assert_int_eq(attempt(&b, &by_rate, BREAKER_BAD, START + OPEN_FOR), BREAKER_OPENS);
}
END_TEST

START_TEST(a_bad_probe_opens_it_again)
{
    struct breaker b;
    struct breaker_pass probe;
    uint64_t now = START + OPEN_FOR;

    opened(&b);
    probe = breaker_enter(&b, &by_row, now);
    ck_assert_int_eq(breaker_leave(&b, &by_row, probe, BREAKER_BAD, now + 700),
                     BREAKER_OPENS_AGAIN);
    ck_assert_int_eq(b.phase, BREAKER_OPEN);
    ck_assert_uint_eq(breaker_next(&b, now + 700), now + 700 + OPEN_FOR);
    ck_assert_int_eq(breaker_leave(&b, &by_row, probe, BREAKER_GOOD, now + 701), BREAKER_STAYS);
}
END_TEST

START_TEST(a_probe_without_news_or_end_makes_room_later)
{
    struct breaker b;
    struct breaker_pass first, second, third;
    uint64_t now = START + OPEN_FOR;

    opened(&b);
    first = breaker_enter(&b, &by_row, now);
    ck_assert_int_eq(breaker_leave(&b, &by_row, first, BREAKER_NO_NEWS, now + 1), BREAKER_STAYS);
    ck_assert_uint_eq(breaker_next(&b, now + 1), now + OPEN_FOR);
    second = breaker_enter(&b, &by_row, now + OPEN_FOR); /* never ends */
    ck_assert(second.probe);
    ck_assert_uint_eq(breaker_next(&b, now + OPEN_FOR), now + 2 * (uint64_t)OPEN_FOR);
    third = breaker_enter(&b, &by_row, now + 2 * (uint64_t)OPEN_FOR);
    ck_assert(third.probe);
    /* only the latest one counts */
    ck_assert_int_eq(breaker_leave(&b, &by_row, second, BREAKER_BAD, now + 40000), BREAKER_STAYS);
    ck_assert_int_eq(breaker_leave(&b, &by_row, second, BREAKER_GOOD, now + 40000), BREAKER_STAYS);
    ck_assert_int_eq(b.phase, BREAKER_HALF_OPEN);
    ck_assert_int_eq(breaker_leave(&b, &by_row, third, BREAKER_GOOD, now + 40000), BREAKER_CLOSES);
}
END_TEST

START_TEST(a_late_probe_counts_while_no_other_went)
{
    struct breaker b;
    struct breaker_pass probe;
    uint64_t now = START + OPEN_FOR;

    opened(&b);
    probe = breaker_enter(&b, &by_row, now);
    ck_assert_int_eq(breaker_leave(&b, &by_row, probe, BREAKER_GOOD, now + 86400000),
                     BREAKER_CLOSES);
}
END_TEST

START_TEST(what_went_before_it_opened_changes_nothing)
{
    struct breaker b;
    struct breaker_pass before, probe;
    uint64_t now = START + OPEN_FOR;

    breaker_init(&b);
    before = breaker_enter(&b, &by_row, START);
    for (unsigned i = 0; i < by_row.failures; i++)
        attempt(&b, &by_row, BREAKER_BAD, START);
    ck_assert_int_eq(breaker_leave(&b, &by_row, before, BREAKER_GOOD, START), BREAKER_STAYS);
    ck_assert_int_eq(b.phase, BREAKER_OPEN);
    probe = breaker_enter(&b, &by_row, now);
    ck_assert_int_eq(breaker_leave(&b, &by_row, before, BREAKER_GOOD, now), BREAKER_STAYS);
    ck_assert_int_eq(breaker_leave(&b, &by_row, before, BREAKER_BAD, now), BREAKER_STAYS);
    ck_assert_int_eq(b.phase, BREAKER_HALF_OPEN);
    ck_assert_int_eq(breaker_leave(&b, &by_row, probe, BREAKER_GOOD, now), BREAKER_CLOSES);
    breaker_leave(&b, &by_row, before, BREAKER_BAD, now);
    ck_assert_uint_eq(b.in_a_row, 0);
}
END_TEST

START_TEST(one_that_goes_all_the_same_counts_for_nothing)
{
    struct breaker b;
    struct breaker_pass pass, probe;

    opened(&b);
    pass = breaker_enter(&b, &by_row, START + 1);
    ck_assert(!pass.probe);
    ck_assert_int_eq(breaker_leave(&b, &by_row, pass, BREAKER_GOOD, START + 2), BREAKER_STAYS);
    ck_assert_int_eq(b.phase, BREAKER_OPEN);
    ck_assert_uint_eq(breaker_next(&b, START + 2), START + OPEN_FOR);
    /* nor is it taken for the probe that goes next */
    probe = breaker_enter(&b, &by_row, START + OPEN_FOR);
    for (unsigned i = 0; i < by_row.failures; i++)
        breaker_leave(&b, &by_row, pass, BREAKER_BAD, START + OPEN_FOR);
    ck_assert_int_eq(b.phase, BREAKER_HALF_OPEN);
    ck_assert_int_eq(breaker_leave(&b, &by_row, probe, BREAKER_GOOD, START + OPEN_FOR),
                     BREAKER_CLOSES);
}
END_TEST

/* --- what others found --- */

START_TEST(others_found_it_down)
{
    struct breaker b;
    struct breaker_pass before, probe;

    breaker_init(&b);
    before = breaker_enter(&b, &by_row, START);
    ck_assert(!breaker_learn_open(&b, 0, START));
    ck_assert(breaker_learn_open(&b, 2000, START));
    ck_assert_uint_eq(breaker_next(&b, START), START + 2000);
    ck_assert_int_eq(breaker_leave(&b, &by_row, before, BREAKER_GOOD, START), BREAKER_STAYS);
    ck_assert(!breaker_learn_open(&b, 1000, START));
    ck_assert(breaker_learn_open(&b, 3000, START));
    ck_assert_uint_eq(breaker_next(&b, START), START + 3000);

    probe = breaker_enter(&b, &by_row, START + 3000);
    ck_assert(breaker_learn_open(&b, 20000, START + 3000));
    ck_assert_uint_eq(breaker_next(&b, START + 3000), START + 23000);
    ck_assert_int_eq(breaker_leave(&b, &by_row, probe, BREAKER_GOOD, START + 3001), BREAKER_CLOSES);
    ck_assert(breaker_learn_open(&b, UINT64_MAX, START));
    ck_assert_uint_eq(breaker_next(&b, START), UINT64_MAX);
}
END_TEST

START_TEST(others_found_it_working)
{
    struct breaker b;
    struct breaker_pass probe;

    breaker_init(&b);
    ck_assert(!breaker_learn_closed(&b));
    opened(&b);
    ck_assert(breaker_learn_closed(&b));
    ck_assert_uint_le(breaker_next(&b, START), START);
    ck_assert_uint_eq(b.in_a_row, 0);

    opened(&b);
    probe = breaker_enter(&b, &by_row, START + OPEN_FOR);
    ck_assert(breaker_learn_closed(&b));
    ck_assert_int_eq(breaker_leave(&b, &by_row, probe, BREAKER_BAD, START + OPEN_FOR),
                     BREAKER_STAYS);
    ck_assert_uint_eq(b.in_a_row, 0);
}
END_TEST

/* --- whatever happens --- */

#define FLIGHTS 32

/* Attempts under way, and what is known of the breaker from outside. */
struct random_run {
    struct breaker b;
    struct breaker_settings s;
    uint64_t now_ms;
    struct breaker_pass flights[FLIGHTS];
    bool under_way[FLIGHTS];
    unsigned latest_probe; /* its place; FLIGHTS: none is under way */
    uint64_t probe_ms;
    bool probed; /* since it was CLOSED last */
    unsigned opened, closed, again;
};

static void random_enter(struct random_run *r)
{
    unsigned i = (unsigned)unit_below(FLIGHTS);
    enum breaker_phase phase = r->b.phase;

    if (r->under_way[i] || breaker_next(&r->b, r->now_ms) > r->now_ms)
        return;
    r->flights[i] = breaker_enter(&r->b, &r->s, r->now_ms);
    r->under_way[i] = true;
    if (r->flights[i].probe != (phase != BREAKER_CLOSED))
        ck_abort_msg("a probe is what goes while it is not closed, and nothing else");
    if (!r->flights[i].probe)
        return;
    if (r->probed && r->now_ms - r->probe_ms < r->s.open_for_ms)
        ck_abort_msg("two probes within open_for");
    r->probed = true;
    r->probe_ms = r->now_ms;
    r->latest_probe = i;
}

static void random_leave(struct random_run *r)
{
    unsigned i = (unsigned)unit_below(FLIGHTS);
    enum breaker_news news = (enum breaker_news)unit_below(3);
    enum breaker_phase phase = r->b.phase;

    if (!r->under_way[i])
        return;
    enum breaker_change change = breaker_leave(&r->b, &r->s, r->flights[i], news, r->now_ms);
    bool by_probe = r->flights[i].probe && i == r->latest_probe && phase == BREAKER_HALF_OPEN;
    enum breaker_change want = phase != BREAKER_CLOSED && !(by_probe && news != BREAKER_NO_NEWS)
                                   ? BREAKER_STAYS
                               : by_probe && news == BREAKER_GOOD ? BREAKER_CLOSES
                               : by_probe                         ? BREAKER_OPENS_AGAIN
                                                                  : change;
    bool opens = change == BREAKER_OPENS || change == BREAKER_OPENS_AGAIN;
    if (change != want || (change == BREAKER_OPENS && news != BREAKER_BAD) ||
        (phase == BREAKER_CLOSED && change > BREAKER_OPENS))
        ck_abort_msg("phase %d, news %d: change %d", (int)phase, (int)news, (int)change);
    if (opens && breaker_next(&r->b, r->now_ms) - r->now_ms < r->s.open_for_ms)
        ck_abort_msg("open for too short a time");
    if ((r->b.phase == BREAKER_CLOSED) !=
        (change == BREAKER_CLOSES || (phase == BREAKER_CLOSED && !opens)))
        ck_abort_msg("the phase is not what the change says");
    r->under_way[i] = false;
    if (i == r->latest_probe)
        r->latest_probe = FLIGHTS;
    if (change == BREAKER_CLOSES)
        r->probed = false;
    r->opened += change == BREAKER_OPENS;
    r->again += change == BREAKER_OPENS_AGAIN;
    r->closed += change == BREAKER_CLOSES;
}

static void random_learn(struct random_run *r)
{
    enum breaker_phase phase = r->b.phase;

    if (unit_below(2) == 0) {
        uint64_t for_ms = unit_below(300), next_ms = breaker_next(&r->b, r->now_ms);
        breaker_learn_open(&r->b, for_ms, r->now_ms);
        if (breaker_next(&r->b, r->now_ms) < next_ms ||
            (r->b.phase == BREAKER_CLOSED && for_ms > 0))
            ck_abort_msg("learnt that it is down, and lets go sooner");
    } else {
        if (breaker_learn_closed(&r->b) != (phase != BREAKER_CLOSED) ||
            r->b.phase != BREAKER_CLOSED)
            ck_abort_msg("learnt that it works, and is not closed");
        r->probed = false;
        r->latest_probe = FLIGHTS;
    }
}

START_TEST(a_million_steps)
{
    static struct random_run r = {.s = {5, 50, 1000, 200}, .latest_probe = FLIGHTS};

    breaker_init(&r.b);
    for (unsigned i = 0; i < 1000000; i++) {
        r.now_ms += unit_below(8) == 0 ? unit_below(60) : 0;
        if (unit_below(100000) == 0)
            r.now_ms += 86400000;
        uint64_t what = unit_below(1000);
        if (what < 3)
            random_learn(&r);
        else if (what < 500)
            random_enter(&r);
        else
            random_leave(&r);
    }
    ck_assert_uint_gt(r.opened, 100);
    ck_assert_uint_gt(r.closed, 100);
    ck_assert_uint_gt(r.again, 100);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "breaker");

    tcase_add_test(tcase, failures_in_a_row_open_it);
    tcase_add_test(tcase, a_single_failure_may_open_it);
    tcase_add_test(tcase, failures_in_a_row_need_no_window);
    tcase_add_test(tcase, a_rate_of_failures_opens_it);
    tcase_add_test(tcase, a_few_attempts_are_no_rate_and_a_good_one_opens_nothing);
    tcase_add_test(tcase, the_window_slides);
    tcase_add_test(tcase, a_window_of_another_length_counts_afresh);
    tcase_add_test(tcase, without_rules_it_never_opens);
    tcase_add_test(tcase, a_good_probe_closes_it);
    tcase_add_test(tcase, closing_forgets_the_window_too);
    tcase_add_test(tcase, a_bad_probe_opens_it_again);
    tcase_add_test(tcase, a_probe_without_news_or_end_makes_room_later);
    tcase_add_test(tcase, a_late_probe_counts_while_no_other_went);
    tcase_add_test(tcase, what_went_before_it_opened_changes_nothing);
    tcase_add_test(tcase, one_that_goes_all_the_same_counts_for_nothing);
    tcase_add_test(tcase, others_found_it_down);
    tcase_add_test(tcase, others_found_it_working);
    tcase_add_test(tcase, a_million_steps);
}
