/* The reasons' words: complete, unique, and valid as metric labels. */

#include "policy/reason.h"

#include <check.h>
#include <string.h>

#include "unit.h"

START_TEST(words_are_unique_labels)
{
    for (int a = 0; a < REASON_COUNT; a++) {
        const char *word = reason_word((enum reason)a);
        ck_assert_uint_gt(strlen(word), 0);
        ck_assert_uint_eq(strspn(word, "abcdefghijklmnopqrstuvwxyz_"), strlen(word));
        for (int b = 0; b < a; b++)
            ck_assert_str_ne(word, reason_word((enum reason)b));
    }
    ck_assert_str_eq(reason_word(REASON_OK), "ok");
    ck_assert_str_eq(reason_word(REASON_CLIENT_GONE), "client_gone");
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "reason");

    tcase_add_test(tcase, words_are_unique_labels);
}
