/* The byte buffer: its cap, its sticky failure, and its memory. */

#include "base/buf.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "failmem.h"
#include "unit.h"

START_TEST(every_cap_holds_exactly)
{
    for (size_t cap = 0; cap <= 300; cap++) {
        struct buf b;
        buf_init(&b, cap);
        for (size_t i = 0; i < cap; i++)
            ck_assert_int_eq(buf_addc(&b, (char)i), 0);
        ck_assert_int_eq(buf_addc(&b, 'x'), -EFBIG);
        ck_assert(b.failed);
        ck_assert_uint_eq(b.len, cap);
        ck_assert_uint_le(b.size, cap);
        for (size_t i = 0; i < cap; i++)
            ck_assert_int_eq(b.p[i], (char)i);
        buf_deinit(&b);
    }
}
END_TEST

START_TEST(a_failure_sticks_until_reset)
{
    struct buf b;

    buf_init(&b, 4);
    ck_assert_int_eq(buf_add(&b, "abc", 3), 0);
    ck_assert_int_eq(buf_add(&b, "de", 2), -EFBIG);
    ck_assert_int_lt(buf_addc(&b, 'd'), 0);
    ck_assert_int_lt(buf_printf(&b, "d"), 0);
    ck_assert(str_eq(buf_str(&b), STR("abc")));
    buf_reset(&b, 4);
    ck_assert(!b.failed);
    ck_assert_int_eq(buf_add_str(&b, STR("abcd")), 0);
    buf_deinit(&b);
}
END_TEST

START_TEST(reserve_does_not_stick)
{
    struct buf b;

    buf_init(&b, 8);
    ck_assert_int_eq(buf_reserve(&b, 9), -EFBIG);
    ck_assert_int_eq(buf_reserve(&b, SIZE_MAX), -EFBIG);
    ck_assert(!b.failed);
    ck_assert_int_eq(buf_reserve(&b, 8), 0);
    ck_assert_uint_eq(b.size, 8);
    buf_deinit(&b);
}
END_TEST

START_TEST(empty_appends_are_fine)
{
    struct buf b;

    buf_init(&b, 0);
    ck_assert_int_eq(buf_add(&b, NULL, 0), 0);
    ck_assert_int_eq(buf_add_str(&b, (struct str){NULL, 0}), 0);
    ck_assert_int_eq(buf_printf(&b, "%s", ""), 0);
    buf_consume(&b, 0);
    ck_assert_ptr_null(b.p);
    buf_deinit(&b);
}
END_TEST

START_TEST(printf_of_every_length)
{
    char text[600];

    memset(text, 'x', sizeof text);
    for (int n = 0; n < (int)sizeof text; n++) {
        struct buf b;
        buf_init(&b, 1024);
        ck_assert_int_eq(buf_printf(&b, "%.*s|", n, text), 0);
        ck_assert_uint_eq(b.len, (size_t)n + 1);
        ck_assert_int_eq(b.p[n], '|');
        buf_deinit(&b);
    }
}
END_TEST

START_TEST(printf_beyond_the_cap_leaves_the_content)
{
    struct buf b;

    buf_init(&b, 300);
    ck_assert_int_eq(buf_printf(&b, "%0298d", 1), 0);
    ck_assert_int_eq(buf_printf(&b, "%s", "abc"), -EFBIG);
    ck_assert_uint_eq(b.len, 298);
    buf_deinit(&b);
    ck_assert_uint_eq(b.cap, 300);
    ck_assert_int_eq(buf_printf(&b, "%0400d", 1), -EFBIG);
    ck_assert_uint_eq(b.len, 0);
    buf_deinit(&b);
}
END_TEST

START_TEST(consume_and_steal)
{
    struct buf b;
    size_t len;

    buf_init(&b, 64);
    ck_assert_int_eq(buf_add(&b, "hello world", 11), 0);
    buf_consume(&b, 6);
    ck_assert(str_eq(buf_str(&b), STR("world")));
    buf_consume(&b, 5);
    ck_assert_uint_eq(b.len, 0);
    ck_assert_int_eq(buf_add(&b, "kept", 4), 0);
    char *p = buf_steal(&b, &len);
    ck_assert_uint_eq(len, 4);
    ck_assert_mem_eq(p, "kept", 4);
    ck_assert_ptr_null(b.p);
    ck_assert_uint_eq(b.cap, 64);
    free(p);
    buf_deinit(&b);
}
END_TEST

START_TEST(reset_keeps_small_memory_only)
{
    struct buf b;

    buf_init(&b, 1024);
    ck_assert_int_eq(buf_reserve(&b, 500), 0);
    buf_reset(&b, 512);
    ck_assert_ptr_nonnull(b.p);
    buf_reset(&b, 100);
    ck_assert_ptr_null(b.p);
    ck_assert_uint_eq(b.cap, 1024);
}
END_TEST

START_TEST(trim_without_memory_keeps_the_larger_block)
{
    struct buf b;

    buf_init(&b, 1024);
    ck_assert_int_eq(buf_reserve(&b, 1000), 0);
    ck_assert_int_eq(buf_add(&b, "kept", 4), 0);
    buf_consume(&b, 0);
    failmem_arm(1);
    buf_trim(&b, 8);
    ck_assert(failmem_disarm());
    ck_assert_uint_ge(b.size, 1000);
    ck_assert(str_eq(buf_str(&b), STR("kept")));
    ck_assert(!b.failed);
    buf_trim(&b, 8);
    ck_assert_uint_eq(b.size, 8);
    ck_assert(str_eq(buf_str(&b), STR("kept")));
    buf_deinit(&b);
}
END_TEST

START_TEST(each_allocation_fails_in_turn)
{
    size_t n;

    for (n = 1;; n++) {
        struct buf b;
        buf_init(&b, 4096);
        failmem_arm(n);
        int r = 0;
        for (int i = 0; i < 10; i++)
            r |= buf_printf(&b, "%0300d", i);
        bool failed = b.failed;
        size_t len = b.len;
        buf_deinit(&b);
        if (!failmem_disarm())
            break;
        ck_assert(failed);
        ck_assert_int_ne(r, 0);
        ck_assert_uint_eq(len % 300, 0);
    }
    ck_assert_uint_gt(n, 3);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "buf");

    tcase_add_test(tcase, every_cap_holds_exactly);
    tcase_add_test(tcase, a_failure_sticks_until_reset);
    tcase_add_test(tcase, reserve_does_not_stick);
    tcase_add_test(tcase, empty_appends_are_fine);
    tcase_add_test(tcase, printf_of_every_length);
    tcase_add_test(tcase, printf_beyond_the_cap_leaves_the_content);
    tcase_add_test(tcase, consume_and_steal);
    tcase_add_test(tcase, reset_keeps_small_memory_only);
    tcase_add_test(tcase, trim_without_memory_keeps_the_larger_block);
    tcase_add_test(tcase, each_allocation_fails_in_turn);
}
