/* The failing allocator itself: it fails what it was told to, and nothing else. */

#include "failmem.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "unit.h"

START_TEST(fails_only_the_chosen_one)
{
    failmem_arm(2);
    void *a = malloc(8);
    errno = 0;
    void *b = calloc(1, 8);
    int err = errno;
    char *c = strdup("c");
    size_t count = failmem_count();
    bool failed = failmem_disarm();
    ck_assert_ptr_nonnull(a);
    ck_assert_ptr_null(b);
    ck_assert_int_eq(err, ENOMEM);
    ck_assert_str_eq(c, "c");
    ck_assert_uint_eq(count, 3);
    ck_assert(failed);
    free(a);
    free(c);
}
END_TEST

START_TEST(fails_all_from_the_chosen_one)
{
    failmem_arm_from(2);
    char *a = strndup("abc", 2);
    void *b = realloc(NULL, 16);
    char *c = strdup("c");
    bool failed = failmem_disarm();
    ck_assert_str_eq(a, "ab");
    ck_assert_ptr_null(b);
    ck_assert_ptr_null(c);
    ck_assert(failed);
    free(a);
}
END_TEST

START_TEST(says_when_nothing_failed)
{
    failmem_arm(3);
    void *a = malloc(8);
    bool failed = failmem_disarm();
    ck_assert(!failed);
    void *b = malloc(8);
    void *c = malloc(8);
    ck_assert_ptr_nonnull(c);
    free(a);
    free(b);
    free(c);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "failmem");

    tcase_add_test(tcase, fails_only_the_chosen_one);
    tcase_add_test(tcase, fails_all_from_the_chosen_one);
    tcase_add_test(tcase, says_when_nothing_failed);
}
