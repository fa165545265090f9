/* Rate limits: the burst, the spacing, and that no minute exceeds the rate (C22). Adaptive pacing: when it turns on
 * and off, how it falls and rises, and the rate it finds. */

#include "targets/pace.h"

#include <check.h>
#include <limits.h>
#include <stdbool.h>

#include "unit.h"

#define START 1000000 /* the beginning of a second */

/* --- a limit that is set ------------------------------------------------------------------------ */

static bool take(struct rate *r, double per_minute, uint64_t now_ms)
{
    if (rate_next(r, per_minute, now_ms) > now_ms)
        return false;
    rate_take(r, per_minute, now_ms);
    return true;
}

static unsigned take_all(struct rate *r, double per_minute, uint64_t now_ms)
{
    unsigned n = 0;

    while (n < 100000 && take(r, per_minute, now_ms))
        n++;
    return n;
}

START_TEST(as_many_at_once_as_it_gives_in_a_second)
{
    static const struct {
        double per_minute;
        unsigned at_once;
        uint64_t next_ms; /* after those */
    } cases[] = {
        {60, 1, 1000}, {1, 1, 60000},  {0.5, 1, 120000}, {90, 1, 667},   {119, 1, 505},
        {120, 2, 500}, {420, 7, 143},  {600, 10, 100},   {3500, 58, 18}, {30000, 500, 2},
        {3, 1, 20000}, {7.5, 1, 8000}, {60000, 1000, 1},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct rate r = {0};
        ck_assert_uint_eq(take_all(&r, cases[i].per_minute, START), cases[i].at_once);
        ck_assert_uint_eq(rate_next(&r, cases[i].per_minute, START), START + cases[i].next_ms);
        ck_assert(!take(&r, cases[i].per_minute, START + cases[i].next_ms - 1));
        ck_assert(take(&r, cases[i].per_minute, START + cases[i].next_ms));
        /* a long gap saves up no more than that */
        ck_assert_uint_eq(take_all(&r, cases[i].per_minute, START + 86400000), cases[i].at_once);
    }
}
END_TEST

START_TEST(what_is_rounded_is_rounded_up)
{
    struct rate r = {0};

    rate_take(&r, 420, START); /* every 142 857.1 us */
    ck_assert_uint_eq(r.tat_us, START * (uint64_t)1000 + 142858);
    ck_assert_uint_eq(rate_next(&r, 60, START), START + 143);
    r = (struct rate){0};
    rate_learn(&r, 1, START);
    ck_assert_uint_eq(rate_next(&r, 60, START), START + 1);
    r = (struct rate){0};
    ck_assert_uint_eq(take_all(&r, 600, 0), 10);
    /* a microsecond apart is as fast as it gets */
    r = (struct rate){0};
    rate_learn(&r, 1000000, START);
    ck_assert_uint_eq(rate_next(&r, 1e300, START), START + 1);
}
END_TEST

START_TEST(none_is_no_limit)
{
    struct rate r = {0};

    for (unsigned i = 0; i < 1000; i++)
        ck_assert(take(&r, 0, START));
    ck_assert_uint_eq(r.tat_us, 0);
    ck_assert_uint_eq(take_all(&r, 60, START), 1);
    ck_assert_uint_le(rate_next(&r, 0, START), START);
}
END_TEST

START_TEST(one_that_goes_all_the_same_is_a_debt)
{
    struct rate r = {0};

    for (unsigned i = 0; i < 5; i++)
        rate_take(&r, 60, START);
    ck_assert_uint_eq(rate_next(&r, 60, START), START + 5000);
}
END_TEST

START_TEST(what_others_took)
{
    struct rate r = {0};

    rate_learn(&r, 3000000, START);
    ck_assert_uint_eq(rate_next(&r, 60, START), START + 3000);
    ck_assert_uint_eq(rate_next(&r, 600, START), START + 2100);
    rate_learn(&r, 1000, START);
    ck_assert_uint_eq(rate_next(&r, 60, START), START + 3000);
    rate_learn(&r, UINT64_MAX, START);
    ck_assert_uint_eq(r.tat_us, UINT64_MAX);
}
END_TEST

START_TEST(odd_rates_and_the_end_of_the_clock)
{
    static const double rates[] = {1e-300, 1e-9, 0.01, 60, 1e6, 6e7, 1e9, 1e300};
    static const uint64_t times[] = {0, 1, UINT64_MAX / 1000, UINT64_MAX / 1000 + 1, UINT64_MAX};

    for (size_t i = 0; i < COUNT(rates); i++)
        for (size_t k = 0; k < COUNT(times); k++) {
            struct rate r = {0};
            for (unsigned n = 0; n < 100; n++) {
                rate_take(&r, rates[i], times[k]);
                ck_assert_uint_gt(r.tat_us, 0);
                rate_next(&r, rates[i], times[k]);
            }
            rate_learn(&r, UINT64_MAX, times[k]);
        }
}
END_TEST

/* --- at random --- */

#define GONE_MOST 20000

/* Requests at random times that wait their turn: no minute has more than the rate and one burst,
 * and a crowd that always waits gets all of its rate but the rounding to milliseconds. */
START_TEST(no_minute_has_more_than_the_rate)
{
    static const double rates[] = {0.7, 6, 59, 61, 100, 350.5, 1000};
    static uint64_t gone_ms[GONE_MOST];

    for (size_t i = 0; i < COUNT(rates); i++)
        for (unsigned gap_ms = 0; gap_ms <= 1000; gap_ms += 500) {
            struct rate r = {0};
            uint64_t now = START, minute = (uint64_t)rates[i];
            uint64_t burst = minute >= 120 ? minute / 60 : 1;
            unsigned gone = 0;
            while (now < START + 600000) {
                uint64_t next = rate_next(&r, rates[i], now);
                now = next > now ? next : now;
                ck_assert(take(&r, rates[i], now));
                ck_assert_uint_lt(gone, GONE_MOST);
                gone_ms[gone++] = now;
                if (gone > minute + burst && now - gone_ms[gone - 1 - minute - burst] < 60000)
                    ck_abort_msg("%g a minute: too many before %u", rates[i], (unsigned)now);
                now += gap_ms > 0 ? unit_below(gap_ms) : 0;
            }
            if (gap_ms == 0)
                ck_assert_uint_ge(gone, (unsigned)(rates[i] * 10));
        }
}
END_TEST

/* --- a rate that is found ------------------------------------------------------------------------ */

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
    TCase *rate = unit_case(suite, "rate"), *tcase = unit_case(suite, "pace");

    tcase_add_test(rate, as_many_at_once_as_it_gives_in_a_second);
    tcase_add_test(rate, what_is_rounded_is_rounded_up);
    tcase_add_test(rate, none_is_no_limit);
    tcase_add_test(rate, one_that_goes_all_the_same_is_a_debt);
    tcase_add_test(rate, what_others_took);
    tcase_add_test(rate, odd_rates_and_the_end_of_the_clock);
    tcase_add_test(rate, no_minute_has_more_than_the_rate);
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
