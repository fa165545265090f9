/* base/hash: the same on every machine, for ever. */
#include <check.h>

#include "base/hash.h"
#include "unit.h"

/* What daemons that are out there have stored: from a SipHash-2-4 of another hand, same key. */
START_TEST(values_that_may_never_change)
{
    static const struct {
        const char *text;
        uint64_t hash;
    } known[] = {
        {"", UINT64_C(0x2b9517f4c1d8b695)},
        {"a", UINT64_C(0xa16acdab87b7d824)},
        {"gpt-4o-m", UINT64_C(0xb2fd03d118343fa0)},
        {"sk-0123456789abcdefghij", UINT64_C(0x08b00b80a0579feb)},
    };

    for (size_t i = 0; i < COUNT(known); i++)
        ck_assert_uint_eq(hash_text(str_from(known[i].text)), known[i].hash);
}
END_TEST

START_TEST(a_join_is_the_hash_of_both_in_their_order)
{
    unsigned char both[16] = {1, 0, 0, 0, 0, 0, 0, 0, 2};

    ck_assert_uint_eq(hash_join(1, 2), hash_text((struct str){(const char *)both, sizeof both}));
    ck_assert_uint_ne(hash_join(1, 2), hash_join(2, 1));
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "hash");

    tcase_add_test(tcase, values_that_may_never_change);
    tcase_add_test(tcase, a_join_is_the_hash_of_both_in_their_order);
}
