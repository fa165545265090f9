/* Retry budgets: their arithmetic, compared with a plain list of times (C9). */

#include "targets/budget.h"

#include <check.h>
#include <limits.h>

#include "unit.h"

#define START 1000000
#define BUCKET_MS (BUDGET_WINDOW_MS / BUDGET_BUCKETS)

START_TEST(a_share_of_the_requests_and_a_minimum)
{
    static const struct {
        unsigned requests, percent, min, repeats;
    } cases[] = {
        {0, 20, 10, 100},   {100, 20, 10, 120}, {100, 20, 0, 20}, {4, 20, 0, 0},
        {5, 20, 0, 1},      {9, 20, 0, 1},      {10, 20, 0, 2},   {100, 0, 0, 0},
        {100, 100, 0, 100}, {10, 150, 1, 25},   {199, 1, 0, 1},   {250, 30, 2, 95},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct budget b;
        unsigned repeats = 0;
        budget_init(&b);
        for (unsigned n = 0; n < cases[i].requests; n++)
            budget_request(&b, START);
        ck_assert_uint_eq(budget_left(&b, cases[i].percent, cases[i].min, START), cases[i].repeats);
        while (repeats < 1000 && budget_repeat(&b, cases[i].percent, cases[i].min, START))
            repeats++;
        ck_assert_uint_eq(repeats, cases[i].repeats);
        ck_assert_uint_eq(budget_left(&b, cases[i].percent, cases[i].min, START), 0);
    }
}
END_TEST

START_TEST(what_others_repeat_counts_beyond_what_is_allowed)
{
    struct budget b;

    budget_init(&b);
    for (unsigned i = 0; i < 30; i++)
        budget_charge(&b, START);
    ck_assert_uint_eq(budget_left(&b, 20, 2, START), 0);
    for (unsigned i = 0; i < 55; i++)
        budget_request(&b, START);
    ck_assert_uint_eq(budget_left(&b, 20, 2, START), 1);
    ck_assert(budget_repeat(&b, 20, 2, START));
    ck_assert(!budget_repeat(&b, 20, 2, START));
}
END_TEST

START_TEST(a_refused_repeat_is_not_charged)
{
    struct budget b;

    budget_init(&b);
    for (unsigned i = 0; i < 100; i++)
        ck_assert(!budget_repeat(&b, 20, 0, START));
    for (unsigned i = 0; i < 5; i++)
        budget_request(&b, START);
    ck_assert(budget_repeat(&b, 20, 0, START));
}
END_TEST

START_TEST(what_is_older_than_the_window_is_forgotten)
{
    struct budget b;
    uint64_t start = START / BUCKET_MS * BUCKET_MS;

    budget_init(&b);
    for (unsigned i = 0; i < 100; i++)
        ck_assert(budget_repeat(&b, 20, 10, start));
    ck_assert(!budget_repeat(&b, 20, 10, start + BUDGET_WINDOW_MS - 1));
    ck_assert_uint_eq(budget_left(&b, 20, 10, start + BUDGET_WINDOW_MS), 100);
    ck_assert_uint_eq(budget_left(&b, 20, 10, start + 86400000), 100);
    /* the same places many rounds later */
    budget_request(&b, start + 1000 * (uint64_t)BUDGET_WINDOW_MS);
    ck_assert_uint_eq(budget_left(&b, 100, 0, start + 1000 * (uint64_t)BUDGET_WINDOW_MS), 1);
}
END_TEST

START_TEST(large_numbers)
{
    struct budget b;

    budget_init(&b);
    ck_assert_uint_eq(budget_left(&b, UINT_MAX, UINT_MAX, UINT64_MAX), UINT_MAX);
    for (unsigned i = 0; i < BUDGET_BUCKETS; i++) {
        uint64_t now = UINT64_MAX - i * (uint64_t)BUCKET_MS;
        budget_request(&b, now);
        b.buckets[now / BUCKET_MS % BUDGET_BUCKETS].requests = UINT_MAX;
        budget_request(&b, now);
    }
    ck_assert_uint_eq(budget_left(&b, UINT_MAX, UINT_MAX, UINT64_MAX), UINT_MAX);
    ck_assert_uint_eq(budget_left(&b, 0, 1, UINT64_MAX), BUDGET_WINDOW_MS / 1000);
    ck_assert(budget_repeat(&b, 0, 1, UINT64_MAX));
}
END_TEST

/* --- the oracle --- */

#define TIMES_MOST 200000

/* Every time, oldest first; those before `first` are too old for any question. */
struct times {
    uint64_t at_ms[TIMES_MOST];
    size_t first, end;
};

static void times_add(struct times *t, uint64_t now_ms)
{
    ck_assert_uint_lt(t->end, TIMES_MOST);
    t->at_ms[t->end++] = now_ms;
}

/* Those of the last `window_ms`. */
static uint64_t times_within(struct times *t, uint64_t window_ms, uint64_t now_ms)
{
    size_t i;

    while (t->first < t->end && now_ms - t->at_ms[t->first] >= BUDGET_WINDOW_MS)
        t->first++;
    for (i = t->first; i < t->end && now_ms - t->at_ms[i] >= window_ms;)
        i++;
    return t->end - i;
}

/* The window is between the last 19 and the last 20 buckets long: the room is between that of the
 * fewest requests and most repeats in it, and that of the most and fewest. */
START_TEST(as_a_list_of_times_has_it)
{
    static struct times requests, repeats;
    struct budget b;
    uint64_t now = START;
    unsigned allowed = 0, refused = 0;

    budget_init(&b);
    for (unsigned i = 0; i < 100000; i++) {
        now += unit_below(20) == 0 ? unit_below(400) : unit_below(3);
        if (unit_below(5000) == 0)
            now += unit_below(4 * (uint64_t)BUDGET_WINDOW_MS);
        if (unit_below(3) > 0) {
            budget_request(&b, now);
            times_add(&requests, now);
            continue;
        }
        uint64_t shorter = BUDGET_WINDOW_MS - BUCKET_MS, longer = BUDGET_WINDOW_MS;
        int64_t least = (int64_t)(times_within(&requests, shorter, now) * 20 / 100 + 20) -
                        (int64_t)times_within(&repeats, longer, now);
        int64_t most = (int64_t)(times_within(&requests, longer, now) * 20 / 100 + 20) -
                       (int64_t)times_within(&repeats, shorter, now);
        int64_t left = (int64_t)budget_left(&b, 20, 2, now);
        bool may = budget_repeat(&b, 20, 2, now);
        if (left < least || left > (most > 0 ? most : 0) || may != (left > 0))
            ck_abort_msg("step %u: %d left, not %d to %d", i, (int)left, (int)least, (int)most);
        if (may)
            times_add(&repeats, now);
        allowed += may;
        refused += !may;
    }
    ck_assert_uint_gt(allowed, 1000);
    ck_assert_uint_gt(refused, 1000);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "budget");

    tcase_add_test(tcase, a_share_of_the_requests_and_a_minimum);
    tcase_add_test(tcase, what_others_repeat_counts_beyond_what_is_allowed);
    tcase_add_test(tcase, a_refused_repeat_is_not_charged);
    tcase_add_test(tcase, what_is_older_than_the_window_is_forgotten);
    tcase_add_test(tcase, large_numbers);
    tcase_add_test(tcase, as_a_list_of_times_has_it);
}
