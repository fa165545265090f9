/* The set of requests that have just failed: it forgets with time, and its size is limited. */
#include "exchange/failures.h"

#include <check.h>
#include <string.h>

#include "base/hash.h"
#include "unit.h"

static struct failures *f;

static void set_up(void)
{
    f = failures_new();
    ck_assert_ptr_nonnull(f);
}

static void tear_down(void)
{
    failures_free(f);
}

static char words[FAILURE_WORDS];

static bool has(uint64_t id, uint64_t now_ms)
{
    return failures_has(f, id, now_ms, words);
}

static void add(uint64_t id, uint64_t until_ms, uint64_t now_ms)
{
    failures_add(f, id, until_ms, now_ms, "words");
}

START_TEST(nothing_is_remembered_at_first)
{
    ck_assert(!failures_any(f, 0));
    ck_assert(!failures_any(NULL, 0));
    ck_assert(!has(7, 0));
    ck_assert(!has(0, 0));
}
END_TEST

START_TEST(a_failure_is_remembered_until_its_time)
{
    add(7, 100, 40);
    ck_assert(failures_any(f, 99));
    ck_assert(has(7, 99));
    ck_assert(!has(8, 99));
    ck_assert(!failures_any(f, 100));
    ck_assert(!has(7, 100));
    add(7, 200, 90); /* from each failure on */
    ck_assert(has(7, 199));
    add(9, 90, 90); /* no time at all */
    ck_assert(!has(9, 0));
}
END_TEST

START_TEST(a_response_ends_it)
{
    add(7, 100, 0);
    add(8, 100, 0);
    failures_forget(f, 7);
    failures_forget(f, 7);
    ck_assert(!has(7, 1));
    ck_assert(has(8, 1));
}
END_TEST

/* Later ones take the places of those that would be forgotten first. */
START_TEST(it_does_not_grow)
{
    unsigned known = 0;

    for (uint64_t i = 0; i < 100000; i++)
        add(i, 1000 + i, 0);
    for (uint64_t i = 0; i < 100000; i++)
        known += has(i, 1);
    ck_assert_uint_eq(known, FAILURES_MAX);
    ck_assert(has(99999, 1));
    ck_assert(!has(0, 1));
}
END_TEST

START_TEST(its_words_are_kept_until_there_are_others)
{
    char many[2 * FAILURE_WORDS + 1];

    failures_add(f, 7, 100, 0, "down");
    failures_add(f, 7, 200, 50, NULL);
    ck_assert(has(7, 199));
    ck_assert_str_eq(words, "down");
    memset(many, 'a', sizeof(many) - 1);
    many[sizeof(many) - 1] = '\0';
    failures_add(f, 7, 300, 60, many);
    ck_assert(has(7, 299));
    ck_assert_uint_eq(strlen(words), FAILURE_WORDS - 1);
    failures_add(f, 7, 500, 400, NULL); /* it was forgotten meanwhile */
    ck_assert(has(7, 499));
    ck_assert_str_eq(words, "");
    failures_forget(f, 7);
    failures_add(f, 7, 600, 500, NULL);
    ck_assert(has(7, 599));
    ck_assert_str_eq(words, "");
}
END_TEST

/* --- fingerprints ----------------------------------------------------------------------------- */

START_TEST(a_fingerprint_does_not_depend_on_the_pieces)
{
    static char text[5000];
    struct str whole = {text, sizeof(text)};

    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = (char)unit_below(256);
    for (int round = 0; round < 200; round++) {
        struct fingerprint p;
        size_t at = 0, n = unit_below(sizeof(text) + 1);

        fingerprint_begin(&p);
        while (at < n) {
            size_t step = unit_below(200);

            step = step > n - at ? n - at : step;
            fingerprint_feed(&p, (struct str){text + at, step});
            at += step;
        }
        ck_assert_uint_eq(fingerprint_end(&p), fingerprint_of((struct str){text, n}));
    }
    text[2500] ^= 1;
    ck_assert_uint_ne(fingerprint_of(whole), fingerprint_of((struct str){text, 2500}));
}
END_TEST

/* The paper's own values. */
START_TEST(it_is_xxh64)
{
    ck_assert_uint_eq(fingerprint_of((struct str){NULL, 0}), UINT64_C(0xef46db3751d8e999));
    ck_assert_uint_eq(fingerprint_of(STR("abc")), UINT64_C(0x44bc2cf5ad770999));
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *set = unit_case(suite, "failures");
    TCase *fingerprints = unit_case(suite, "fingerprints");

    tcase_add_checked_fixture(set, set_up, tear_down);
    tcase_add_test(set, nothing_is_remembered_at_first);
    tcase_add_test(set, a_failure_is_remembered_until_its_time);
    tcase_add_test(set, a_response_ends_it);
    tcase_add_test(set, it_does_not_grow);
    tcase_add_test(set, its_words_are_kept_until_there_are_others);
    tcase_add_test(fingerprints, a_fingerprint_does_not_depend_on_the_pieces);
    tcase_add_test(fingerprints, it_is_xxh64);
}
