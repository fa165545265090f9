/* Adaptive pacing: when it turns on and off, how it falls and rises, and the rate it finds. */

#include "targets/pace.h"

#include <check.h>
#include <limits.h>

#include "unit.h"

#define START 1000000 /* the beginning of a second */

static void near(double got, double want)
{
    ck_assert_double_le(got, want + 1e-6);
    ck_assert_double_ge(got, want - 1e-6);
}

static void enter(struct pace *p, unsigned n, uint64_t now_ms)
{
    for (unsigned i = 0; i < n; i++)
        pace_enter(p, now_ms);
}

/* On, at half of `sent` a second. */
static void turned_on(struct pace *p, unsigned sent)
{
    pace_init(p);
    enter(p, sent, START);
    ck_assert(!pace_leave(p, true, START));
    ck_assert(pace_leave(p, true, START));
    ck_assert(p->on);
}

START_TEST(off_it_holds_nobody_up)
{
    struct pace p;

    pace_init(&p);
    for (unsigned i = 0; i < 1000; i++) {
        ck_assert_uint_le(pace_next(&p, START), START);
        pace_enter(&p, START);
        ck_assert(!pace_leave(&p, false, START));
    }
    ck_assert(!pace_leave(&p, true, START));
    ck_assert(!p.on);
    ck_assert(!pace_leave(&p, true, START + PACE_WINDOW_MS));
    ck_assert(!pace_leave(&p, true, START + 3 * PACE_WINDOW_MS));
    ck_assert(!p.on);
    ck_assert_uint_le(pace_next(&p, START), START);
}
END_TEST

START_TEST(two_limits_within_the_window_turn_it_on)
{
    struct pace p;

    pace_init(&p);
    ck_assert(!pace_leave(&p, true, START - PACE_WINDOW_MS + 1));
    enter(&p, 100, START);
    ck_assert(pace_leave(&p, true, START));
    ck_assert(p.on);
    near(p.peak, 6000);
    near(p.per_minute, 3000);
    /* at 50 a second, and nothing is saved up */
    ck_assert_uint_eq(pace_next(&p, START), START + 20);
    enter(&p, 1, START + 20);
    ck_assert_uint_eq(pace_next(&p, START + 20), START + 40);
}
END_TEST

START_TEST(the_last_second_is_made_of_two)
{
    static const struct {
        unsigned before, in_it;
        uint64_t at_ms; /* of the 429s, from the beginning of the second one */
        double peak;
    } cases[] = {
        {100, 0, 0, 6000},    {100, 0, 500, 3000},        {100, 50, 500, 6000}, {100, 10, 999, 606},
        {100, 20, 750, 2700}, {100, 0, 1000, PACE_LEAST}, {0, 40, 1000, 2400},  {3, 0, 86400000, 6},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct pace p;
        pace_init(&p);
        enter(&p, cases[i].before, START - 1000);
        enter(&p, cases[i].in_it, START);
        pace_leave(&p, true, START + cases[i].at_ms);
        ck_assert(pace_leave(&p, true, START + cases[i].at_ms));
        near(p.peak, cases[i].peak);
        near(p.per_minute, p.peak / 2 > PACE_LEAST ? p.peak / 2 : PACE_LEAST);
    }
}
END_TEST

START_TEST(it_halves_at_most_once_in_a_round)
{
    struct pace p;

    turned_on(&p, 100);
    ck_assert(!pace_leave(&p, true, START));
    ck_assert(!pace_leave(&p, true, START + PACE_ROUND_MS - 1));
    near(p.per_minute, 3000);
    ck_assert(pace_leave(&p, true, START + PACE_ROUND_MS));
    near(p.per_minute, 1500);
    ck_assert(!pace_leave(&p, true, START + PACE_ROUND_MS));
    for (uint64_t i = 2; i < 20; i++)
        ck_assert(pace_leave(&p, true, START + i * PACE_ROUND_MS));
    near(p.per_minute, PACE_LEAST);
    ck_assert_uint_eq(pace_next(&p, START + 19 * PACE_ROUND_MS),
                      START + 19 * PACE_ROUND_MS + 10000);
}
END_TEST

START_TEST(it_rises_with_each_round_and_ends_at_twice_the_peak)
{
    struct pace p;
    uint64_t now = START;

    turned_on(&p, 100);
    ck_assert(!pace_leave(&p, false, now + PACE_ROUND_MS - 1));
    for (unsigned i = 1; i < 30; i++) {
        now += PACE_ROUND_MS;
        ck_assert(pace_leave(&p, false, now));
        ck_assert(!pace_leave(&p, false, now));
        near(p.per_minute, 3000 + 300 * i);
        ck_assert(p.on);
    }
    ck_assert(pace_leave(&p, false, now + PACE_ROUND_MS));
    ck_assert(!p.on);
    ck_assert_uint_le(pace_next(&p, now), now);
    /* and it takes two again */
    ck_assert(!pace_leave(&p, true, now));
    ck_assert(!p.on);
}
END_TEST

START_TEST(turned_on_again_it_begins_afresh)
{
    struct pace p;
    uint64_t now = START + PACE_ROUND_MS;

    turned_on(&p, 0);
    near(p.per_minute, PACE_LEAST);
    enter(&p, 100, START); /* all the same: a debt of 1000 s */
    ck_assert(pace_leave(&p, false, now));
    ck_assert(!p.on);
    ck_assert(!pace_leave(&p, true, now));
    ck_assert(!p.on);
    p.sent = p.sent_before = 0;
    ck_assert(pace_leave(&p, true, now));
    ck_assert(p.on);
    ck_assert_uint_eq(pace_next(&p, now), now + 10000);
}
END_TEST

START_TEST(a_limit_puts_off_the_rise)
{
    struct pace p;

    turned_on(&p, 100);
    ck_assert(!pace_leave(&p, true, START + 600));
    ck_assert(!pace_leave(&p, false, START + 1000));
    ck_assert(!pace_leave(&p, false, START + 1599));
    ck_assert(pace_leave(&p, false, START + 1600));
}
END_TEST

START_TEST(a_slow_one_rises_by_six_a_minute)
{
    struct pace p;

    turned_on(&p, 1);
    near(p.per_minute, 30);
    ck_assert(pace_leave(&p, false, START + PACE_ROUND_MS));
    near(p.per_minute, 36);
}
END_TEST

START_TEST(a_long_gap_is_many_rounds)
{
    struct pace p;

    turned_on(&p, 100);
    ck_assert(pace_leave(&p, false, START + 5 * PACE_ROUND_MS + 500));
    near(p.per_minute, 4500);
    ck_assert(pace_leave(&p, false, START + 6 * PACE_ROUND_MS));
    near(p.per_minute, 4800);
    ck_assert(pace_leave(&p, false, UINT64_MAX));
    ck_assert(!p.on);
}
END_TEST

START_TEST(clocks_that_stand_go_back_or_end)
{
    struct pace p;

    turned_on(&p, 100);
    ck_assert(!pace_leave(&p, false, START - 5000));
    ck_assert(!pace_leave(&p, true, START - 5000));
    enter(&p, 1, START - 5000);
    ck_assert_uint_eq(p.sent, 101);

    pace_init(&p);
    p.sent = UINT_MAX;
    p.second = UINT64_MAX / 1000;
    enter(&p, 1, UINT64_MAX);
    ck_assert_uint_eq(p.sent, UINT_MAX);
    pace_leave(&p, true, UINT64_MAX);
    ck_assert(pace_leave(&p, true, UINT64_MAX));
    ck_assert(!pace_leave(&p, false, UINT64_MAX));
    pace_next(&p, UINT64_MAX);
}
END_TEST

/* --- an upstream that bears so many a second, and a crowd that never ends --- */

struct found {
    unsigned good, limited; /* after the time to settle */
};

/* Two minutes of who goes as soon as he may; the first half minute is for finding the rate. */
static struct found find(unsigned bears, uint64_t answer_ms)
{
    static struct {
        uint64_t back_ms;
        bool limited;
    } flights[200000];
    struct found found = {0, 0};
    struct pace p;
    size_t first = 0, end = 0;
    uint64_t now = START, second = 0;
    unsigned taken = 0;

    pace_init(&p);
    for (; now < START + 120000; now++) {
        for (; first < end && flights[first].back_ms <= now; first++)
            pace_leave(&p, flights[first].limited, now);
        /* no more than 5 in a millisecond and 300 under way: clients have their limits too */
        for (unsigned n = 0; n < 5 && end - first < 300 && pace_next(&p, now) <= now; n++) {
            pace_enter(&p, now);
            taken = second == now / 1000 ? taken + 1 : 1;
            second = now / 1000;
            ck_assert_uint_lt(end, COUNT(flights));
            flights[end].back_ms = now + answer_ms;
            flights[end].limited = taken > bears;
            if (now >= START + 30000) {
                found.good += !flights[end].limited;
                found.limited += flights[end].limited;
            }
            end++;
        }
    }
    return found;
}

START_TEST(it_finds_the_rate_that_is_borne)
{
    static const struct {
        unsigned bears;
        uint64_t answer_ms;
    } cases[] = {{10, 5}, {10, 300}, {50, 5}, {50, 300}, {200, 20}, {200, 300}};

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct found f = find(cases[i].bears, cases[i].answer_ms);
        unsigned most = 90 * cases[i].bears;
        if (f.good < most / 4 * 3 || f.limited > f.good / 5 * 2)
            ck_abort_msg("case %zu: %u of %u, %u limited", i, f.good, most, f.limited);
    }
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "pace");

    tcase_add_test(tcase, off_it_holds_nobody_up);
    tcase_add_test(tcase, two_limits_within_the_window_turn_it_on);
    tcase_add_test(tcase, the_last_second_is_made_of_two);
    tcase_add_test(tcase, it_halves_at_most_once_in_a_round);
    tcase_add_test(tcase, it_rises_with_each_round_and_ends_at_twice_the_peak);
    tcase_add_test(tcase, turned_on_again_it_begins_afresh);
    tcase_add_test(tcase, a_limit_puts_off_the_rise);
    tcase_add_test(tcase, a_slow_one_rises_by_six_a_minute);
    tcase_add_test(tcase, a_long_gap_is_many_rounds);
    tcase_add_test(tcase, clocks_that_stand_go_back_or_end);
    tcase_add_test(tcase, it_finds_the_rate_that_is_borne);
}
