/* Rate limits: the burst, the spacing, and that no minute exceeds the rate (C22). */

#include "targets/rate.h"

#include <check.h>
#include <stdbool.h>

#include "unit.h"

#define START 1000000

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

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "rate");

    tcase_add_test(tcase, as_many_at_once_as_it_gives_in_a_second);
    tcase_add_test(tcase, what_is_rounded_is_rounded_up);
    tcase_add_test(tcase, none_is_no_limit);
    tcase_add_test(tcase, one_that_goes_all_the_same_is_a_debt);
    tcase_add_test(tcase, what_others_took);
    tcase_add_test(tcase, odd_rates_and_the_end_of_the_clock);
    tcase_add_test(tcase, no_minute_has_more_than_the_rate);
}
