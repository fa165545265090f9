/* The largest value of the last minute. */

#include "worker/metrics.h"

#include <check.h>
#include <string.h>

#include "unit.h"

#define START UINT64_C(123456789)

START_TEST(the_largest_counts_for_a_minute)
{
    struct peak p;

    memset(&p, 0, sizeof p);
    ck_assert_uint_eq(peak_read(&p, START), 0);
    peak_note(&p, 7, START);
    peak_note(&p, 900, START + 1);
    peak_note(&p, 8, START + 2);
    for (uint64_t ms = 2; ms <= 60000; ms += 499)
        ck_assert_uint_eq(peak_read(&p, START + ms), 900); /* however often it is read */
    peak_note(&p, 50, START + 65000);
    ck_assert_uint_eq(peak_read(&p, START + 71000), 50);
    ck_assert_uint_eq(peak_read(&p, START + 136000), 0);
    peak_note(&p, 3, START + 136000);
    ck_assert_uint_eq(peak_read(&p, START + 136000), 3);
}
END_TEST

START_TEST(as_a_list_of_all_values_has_it)
{
    enum { STEPS = 4000 };
    static uint64_t at[STEPS], value[STEPS];
    struct peak p;
    uint64_t now = START, random = 1;

    memset(&p, 0, sizeof p);
    for (unsigned i = 0; i < STEPS; i++) {
        uint64_t least = 0, most = 0;

        random = random * UINT64_C(6364136223846793005) + 1;
        now += (random >> 40) % 9000;
        at[i] = now;
        value[i] = random >> 44;
        peak_note(&p, value[i], now);
        for (unsigned k = 0; k <= i; k++) {
            if (at[k] + 60000 >= now && value[k] > least)
                least = value[k];
            if (at[k] + 70000 > now && value[k] > most)
                most = value[k];
        }
        ck_assert_uint_ge(peak_read(&p, now), least);
        ck_assert_uint_le(peak_read(&p, now), most);
    }
}
END_TEST

START_TEST(huge_values_are_the_largest)
{
    struct peak p;

    memset(&p, 0, sizeof p);
    peak_note(&p, UINT64_MAX, START);
    ck_assert_uint_eq(peak_read(&p, START), PEAK_VALUE_MAX);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "peak");

    tcase_add_test(tcase, the_largest_counts_for_a_minute);
    tcase_add_test(tcase, as_a_list_of_all_values_has_it);
    tcase_add_test(tcase, huge_values_are_the_largest);
}
