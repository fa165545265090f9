/* http/credentials: the tokens that clients must send. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "failmem.h"
#include "http/credentials.h"
#include "unit.h"

static const struct tokens_seed seed = {{1, 2, 3, 4}};

#define ALICE STR("alice-0123456789abcdef")
#define BOB STR("bob-0123456789abcdefgh")

static struct tokens *two(void)
{
    struct tokens *t = tokens_new(&seed);

    ck_assert_int_eq(tokens_add(t, STR("alice"), ALICE), 0);
    ck_assert_int_eq(tokens_add(t, STR(""), BOB), 0);
    return t;
}

START_TEST(C29_each_token_is_found_and_nothing_else)
{
    struct tokens *t = two();
    static char other[] = "alice-0123456789abcdef";

    ck_assert_int_eq(tokens_find(t, ALICE), 0);
    ck_assert_int_eq(tokens_find(t, BOB), 1);
    ck_assert_int_eq(tokens_find(t, STR("")), -1);
    for (size_t n = 0; n < ALICE.n; n++) {
        ck_assert_int_eq(tokens_find(t, (struct str){other, n}), -1);
        other[n] ^= 1;
        ck_assert_int_eq(tokens_find(t, (struct str){other, ALICE.n}), -1);
        other[n] ^= 1;
    }
    ck_assert_int_eq(tokens_find(t, STR("alice-0123456789abcdefg")), -1);
    ck_assert_int_eq(tokens_find(t, (struct str){"alice-0123456789abcdef", ALICE.n + 1}), -1);
    tokens_unref(t);
}
END_TEST

START_TEST(names_and_clients)
{
    struct tokens *t = two();

    ck_assert_int_eq(tokens_add(t, STR("alice"), STR("another-of-alices")), 0);
    ck_assert_str_eq(tokens_name(t, 0), "alice");
    ck_assert_str_eq(tokens_name(t, 1), "unnamed");
    ck_assert_uint_eq(tokens_client(t, 0), tokens_client(t, 2));
    ck_assert_uint_ne(tokens_client(t, 0), tokens_client(t, 1));
    ck_assert_int_eq(tokens_add(t, STR("carol"), ALICE), -EEXIST);
    ck_assert_uint_eq(tokens_count(t), 3);
    tokens_unref(t);
}
END_TEST

START_TEST(two_sets_are_the_same_or_not)
{
    struct tokens *a = two(), *b = two();

    ck_assert(tokens_same(a, b));
    ck_assert_int_eq(tokens_add(b, STR(""), STR("one-more-than-before")), 0);
    ck_assert(!tokens_same(a, b));
    ck_assert_int_eq(tokens_add(a, STR("x"), STR("one-more-than-before")), 0);
    ck_assert(!tokens_same(a, b));
    tokens_unref(a);
    tokens_unref(b);
}
END_TEST

START_TEST(what_is_no_token)
{
    static char longest[TOKENS_TEXT_MAX + 1];

    memset(longest, 'x', sizeof longest);
    ck_assert_ptr_null(tokens_text_fault((struct str){longest, TOKENS_TEXT_MAX}));
    ck_assert_ptr_null(tokens_text_fault((struct str){longest, TOKENS_TEXT_MIN}));
    ck_assert_ptr_nonnull(tokens_text_fault((struct str){longest, TOKENS_TEXT_MAX + 1}));
    ck_assert_ptr_nonnull(tokens_text_fault((struct str){longest, TOKENS_TEXT_MIN - 1}));
    ck_assert_ptr_nonnull(tokens_text_fault(STR("0123456789 abcdef")));
    ck_assert_ptr_nonnull(tokens_text_fault(STR("0123456789\xc3\xa9 abcdef")));
    ck_assert_ptr_null(tokens_name_fault(STR("")));
    ck_assert_ptr_null(tokens_name_fault(STR("team-a_1.B")));
    ck_assert_ptr_nonnull(tokens_name_fault(STR("alice:")));
    ck_assert_ptr_null(tokens_name_fault((struct str){longest, TOKENS_NAME_MAX - 1}));
    ck_assert_ptr_nonnull(tokens_name_fault((struct str){longest, TOKENS_NAME_MAX}));
}
END_TEST

START_TEST(no_more_than_the_tokens_allowed)
{
    struct tokens *t = tokens_new(&seed);
    char text[32];

    for (int i = 0; i <= TOKENS_MAX; i++) {
        snprintf(text, sizeof text, "0123456789abcdef-%d", i);
        ck_assert_int_eq(tokens_add(t, STR(""), str_from(text)), i < TOKENS_MAX ? 0 : -E2BIG);
    }
    ck_assert_int_eq(tokens_find(t, STR("0123456789abcdef-999")), 999);
    ck_assert_int_eq(tokens_find(t, STR("0123456789abcdef-1000")), -1);
    tokens_unref(t);
}
END_TEST

START_TEST(each_allocation_may_fail)
{
    for (size_t n = 1; n <= 2; n++) {
        struct tokens *t;
        int rc = -ENOMEM;

        failmem_arm(n);
        t = tokens_new(&seed);
        if (t)
            rc = tokens_add(t, STR(""), ALICE);
        ck_assert(failmem_disarm());
        ck_assert_int_eq(rc, -ENOMEM);
        tokens_unref(t);
    }
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "tokens");

    tcase_add_test(tcase, C29_each_token_is_found_and_nothing_else);
    tcase_add_test(tcase, names_and_clients);
    tcase_add_test(tcase, two_sets_are_the_same_or_not);
    tcase_add_test(tcase, what_is_no_token);
    tcase_add_test(tcase, no_more_than_the_tokens_allowed);
    tcase_add_test(tcase, each_allocation_may_fail);
}
