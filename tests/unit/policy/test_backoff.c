/* Backoff: its bounds over many random numbers, its spread, and hints as floors (C2, C6). */

#include "policy/retry.h"

#include <check.h>

#include "unit.h"

START_TEST(the_default_policy)
{
    struct backoff_settings b = {1000, 2, 60000, JITTER_NONE};
    static const uint64_t want[] = {1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000};

    for (unsigned n = 0; n < COUNT(want); n++)
        ck_assert_uint_eq(backoff_delay(&b, n + 1, 12345), want[n]);
    ck_assert_uint_eq(backoff_delay(&b, 4000000000u, 12345), 60000);
}
END_TEST

static const struct backoff_settings settings[] = {
    {1000, 2, 60000, JITTER_NONE},       {0, 2, 60000, JITTER_NONE},
    {1000, 1, 60000, JITTER_NONE},       {1000, 1.5, 60000, JITTER_NONE},
    {1, 10, UINT64_MAX, JITTER_NONE},    {1000, 2, 0, JITTER_NONE},
    {90000, 2, 60000, JITTER_NONE},      {UINT64_MAX, 2, UINT64_MAX, JITTER_NONE},
    {1, 1e300, UINT64_MAX, JITTER_NONE}, {1, 0, 10, JITTER_NONE},
    {3, 2, 60000, JITTER_NONE},
};

/* The exact delay, by hand: floor(initial * multiplier^(n-1)) below the cap. */
static uint64_t exact(const struct backoff_settings *s, unsigned n)
{
    struct backoff_settings b = *s;

    b.jitter = JITTER_NONE;
    return backoff_delay(&b, n, 0);
}

START_TEST(jitter_stays_within_its_bounds)
{
    for (size_t i = 0; i < COUNT(settings); i++)
        for (unsigned n = 1; n <= 70; n++)
            for (unsigned round = 0; round < 200; round++) {
                struct backoff_settings b = settings[i];
                uint64_t random = round == 0 ? 0 : round == 1 ? UINT64_MAX : unit_random();
                uint64_t d = exact(&b, n);
                b.jitter = JITTER_FULL;
                uint64_t full = backoff_delay(&b, n, random);
                b.jitter = JITTER_EQUAL;
                uint64_t equal = backoff_delay(&b, n, random);
                if (d > b.max_delay_ms || full > d || equal > d || equal < d / 2)
                    ck_abort_msg("settings %zu, attempt %u", i, n);
            }
}
END_TEST

START_TEST(delays_never_shrink)
{
    for (size_t i = 0; i < COUNT(settings); i++)
        for (unsigned n = 1; n < 100; n++)
            ck_assert_uint_le(exact(&settings[i], n), exact(&settings[i], n + 1));
}
END_TEST

/* Ten buckets over the range, each within a fifth of its share. */
START_TEST(jitter_is_even)
{
    struct backoff_settings b = {1000, 1, 60000, JITTER_FULL};
    unsigned full[10] = {0}, equal[10] = {0};

    for (int i = 0; i < 100000; i++) {
        b.jitter = JITTER_FULL;
        uint64_t d = backoff_delay(&b, 1, unit_random());
        full[d == 1000 ? 9 : d / 100]++;
        b.jitter = JITTER_EQUAL;
        d = backoff_delay(&b, 1, unit_random()) - 500;
        equal[d == 500 ? 9 : d / 50]++;
    }
    for (int i = 0; i < 10; i++) {
        ck_assert_uint_ge(full[i], 8000);
        ck_assert_uint_le(full[i], 12000);
        ck_assert_uint_ge(equal[i], 8000);
        ck_assert_uint_le(equal[i], 12000);
    }
}
END_TEST

START_TEST(a_hint_is_a_floor)
{
    static const uint64_t hints[] = {
        0,         1, 19, 500, 999, 1000, 1001, 60000, 86400000, UINT64_C(1) << 52, UINT64_MAX - 1,
        UINT64_MAX};

    for (size_t i = 0; i < COUNT(settings); i++)
        for (size_t k = 0; k < COUNT(hints); k++)
            for (int jitter = JITTER_NONE; jitter <= JITTER_EQUAL; jitter++)
                for (unsigned round = 0; round < 200; round++) {
                    struct backoff_settings b = settings[i];
                    struct hint none = {HINT_NONE, 0}, hint = {HINT_RETRY_AFTER, hints[k]};
                    uint64_t random = round == 0 ? 0 : round == 1 ? UINT64_MAX : unit_random();
                    b.jitter = (enum jitter)jitter;
                    uint64_t alone = backoff_delay(&b, 1 + round % 8, random);
                    uint64_t with = backoff_with_hint(&b, 1 + round % 8, &hint, random);
                    uint64_t most = hints[k] > alone ? hints[k] + hints[k] / 10 + 20 : alone;
                    if (backoff_with_hint(&b, 1 + round % 8, &none, random) != alone)
                        ck_abort_msg("no hint changes nothing");
                    if (with < hints[k] || with < alone || (most >= hints[k] && with > most))
                        ck_abort_msg("settings %zu, hint %zu", i, k);
                }
}
END_TEST

START_TEST(what_is_left_is_the_sum_of_all_that_may_follow)
{
    struct backoff_settings b = {1000, 2, 60000, JITTER_FULL};

    ck_assert_uint_eq(backoff_left(&b, 0, 5), 15000);
    ck_assert_uint_eq(backoff_left(&b, 1, 5), 15000);
    ck_assert_uint_eq(backoff_left(&b, 3, 5), 12000);
    ck_assert_uint_eq(backoff_left(&b, 4, 5), 8000);
    ck_assert_uint_eq(backoff_left(&b, 5, 5), 0);
    ck_assert_uint_eq(backoff_left(&b, 9, 5), 0);
    ck_assert_uint_eq(backoff_left(&b, 0, 1), 0);
    ck_assert_uint_eq(backoff_left(&b, 6, 9), 32000 + 60000 + 60000);
    b = (struct backoff_settings){UINT64_C(1) << 63, 1, UINT64_MAX, JITTER_NONE};
    ck_assert_uint_eq(backoff_left(&b, 0, 2), UINT64_C(1) << 63);
    ck_assert_uint_eq(backoff_left(&b, 0, 100), UINT64_MAX);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "backoff");

    tcase_add_test(tcase, the_default_policy);
    tcase_add_test(tcase, jitter_stays_within_its_bounds);
    tcase_add_test(tcase, delays_never_shrink);
    tcase_add_test(tcase, jitter_is_even);
    tcase_add_test(tcase, a_hint_is_a_floor);
    tcase_add_test(tcase, what_is_left_is_the_sum_of_all_that_may_follow);
}
