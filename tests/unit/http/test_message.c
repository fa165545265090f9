/* Lists of header fields: order, limits, lookups, and what belongs to one hop. */

#include "http/message.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>

#include "failmem.h"
#include "unit.h"

START_TEST(keeps_order_bytes_and_case)
{
    struct headers h;

    headers_init(&h);
    ck_assert_int_eq(headers_add(&h, STR("X-One"), STR(" a\t")), 0);
    ck_assert_int_eq(headers_add(&h, STR("x-two"), (struct str){NULL, 0}), 0);
    ck_assert_int_eq(headers_add(&h, STR("x-ONE"), STR("c")), 0);
    ck_assert_uint_eq(h.count, 3);
    ck_assert(str_eq(headers_name(&h, 0), STR("X-One")));
    ck_assert(str_eq(headers_value(&h, 0), STR(" a\t")));
    ck_assert_uint_eq(headers_value(&h, 1).n, 0);
    ck_assert(str_eq(headers_name(&h, 2), STR("x-ONE")));
    for (unsigned i = 0; i < h.count; i++) {
        ck_assert_int_eq(headers_name(&h, i).p[headers_name(&h, i).n], '\0');
        ck_assert_int_eq(headers_value(&h, i).p[headers_value(&h, i).n], '\0');
    }
    headers_deinit(&h);
}
END_TEST

START_TEST(finds_the_first_in_any_case)
{
    struct headers h;
    struct str v = STR("untouched");

    headers_init(&h);
    ck_assert(!headers_get(&h, STR("a"), &v));
    ck_assert(str_eq(v, STR("untouched")));
    ck_assert_int_eq(headers_add(&h, STR("Retry-After"), STR("1")), 0);
    ck_assert_int_eq(headers_add(&h, STR("retry-after"), STR("2")), 0);
    ck_assert(headers_get(&h, STR("RETRY-AFTER"), &v));
    ck_assert(str_eq(v, STR("1")));
    ck_assert(headers_get(&h, STR("retry-after"), NULL));
    ck_assert(!headers_get(&h, STR("retry-afte"), NULL));
    headers_reset(&h);
    ck_assert(!headers_get(&h, STR("retry-after"), NULL));
    headers_deinit(&h);
}
END_TEST

START_TEST(no_more_than_the_fields_allowed)
{
    struct headers h;
    char name[16];

    headers_init(&h);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < HEADERS_MAX; i++) {
            int n = snprintf(name, sizeof name, "x-%d", i);
            ck_assert_int_eq(headers_add(&h, (struct str){name, (size_t)n}, STR("v")), 0);
        }
        ck_assert_int_eq(headers_add(&h, STR("more"), STR("v")), -E2BIG);
        ck_assert_uint_eq(h.count, HEADERS_MAX);
        ck_assert(str_eq(headers_name(&h, HEADERS_MAX - 1), STR("x-127")));
        headers_reset(&h);
    }
    headers_deinit(&h);
}
END_TEST

START_TEST(no_more_than_the_bytes_allowed)
{
    static char big[HEADERS_BYTES_MAX + 1];
    struct headers h;

    headers_init(&h);
    ck_assert_int_eq(headers_add(&h, STR("n"), (struct str){big, sizeof big}), -E2BIG);
    ck_assert_int_eq(headers_add(&h, (struct str){big, sizeof big}, STR("v")), -E2BIG);
    ck_assert_int_eq(headers_add(&h, STR("n"), (struct str){big, HEADERS_BYTES_MAX - 2}), -E2BIG);
    ck_assert_uint_eq(h.count, 0);
    ck_assert_int_eq(headers_add(&h, STR("n"), (struct str){big, HEADERS_BYTES_MAX - 3}), 0);
    ck_assert_int_eq(headers_add(&h, STR(""), STR("")), -E2BIG);
    ck_assert_int_eq(headers_set(&h, STR("n"), (struct str){big, sizeof big}), -E2BIG);
    ck_assert_int_eq(headers_set(&h, STR("n"), STR("v")), -E2BIG);
    ck_assert_uint_eq(h.count, 1);
    ck_assert_uint_eq(headers_value(&h, 0).n, HEADERS_BYTES_MAX - 3); /* the value stays */
    headers_deinit(&h);
}
END_TEST

START_TEST(hop_by_hop)
{
    static const char *const always[] = {
        "connection",        "Keep-Alive",        "proxy-connection", "TE",
        "trailer",           "Transfer-Encoding", "UPGRADE",          "proxy-authorization",
        "proxy-authenticate"};
    static const char *const named[] = {"x-private", "X-OTHER", "x-third", "close"};
    static const char *const never[] = {
        "content-length", "x-private2", "authorization", "host", "retry-after", "x-request-id", ""};
    struct headers h;

    headers_init(&h);
    for (size_t i = 0; i < COUNT(always); i++)
        ck_assert(headers_hop_by_hop(&h, str_from(always[i])));
    for (size_t i = 0; i < COUNT(named); i++)
        ck_assert(!headers_hop_by_hop(&h, str_from(named[i])));
    ck_assert_int_eq(headers_add(&h, STR("Connection"), STR("close, X-Private ,x-other")), 0);
    ck_assert_int_eq(headers_add(&h, STR("connection"), STR("X-Third")), 0);
    ck_assert_int_eq(headers_add(&h, STR("x-note"), STR("authorization")), 0);
    for (size_t i = 0; i < COUNT(named); i++)
        ck_assert(headers_hop_by_hop(&h, str_from(named[i])));
    for (size_t i = 0; i < COUNT(never); i++)
        ck_assert(!headers_hop_by_hop(&h, str_from(never[i])));
    headers_deinit(&h);
}
END_TEST

START_TEST(each_allocation_fails_in_turn)
{
    static char value[200];
    size_t n;

    for (n = 1;; n++) {
        struct headers h;
        unsigned refused = 0, oddly = 0;
        headers_init(&h);
        failmem_arm(n);
        for (int i = 0; i < 100; i++) {
            unsigned before = h.count;
            int r = headers_add(&h, STR("name"), (struct str){value, sizeof value});
            refused += r == -ENOMEM;
            oddly += (r != 0 && r != -ENOMEM) || h.count != before + (r == 0);
        }
        bool failed = failmem_disarm();
        unsigned count = h.count;
        headers_deinit(&h);
        ck_assert_uint_eq(oddly, 0);
        ck_assert_uint_eq(count, 100 - refused); /* the next one after a failure goes in again */
        if (!failed)
            break;
        ck_assert_uint_eq(refused, 1);
    }
    ck_assert_uint_gt(n, 5);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "headers");

    tcase_add_test(tcase, keeps_order_bytes_and_case);
    tcase_add_test(tcase, finds_the_first_in_any_case);
    tcase_add_test(tcase, no_more_than_the_fields_allowed);
    tcase_add_test(tcase, no_more_than_the_bytes_allowed);
    tcase_add_test(tcase, hop_by_hop);
    tcase_add_test(tcase, each_allocation_fails_in_turn);
}
