/* Hashes and fingerprints: the same on every machine, for ever. */
#include <check.h>

#include "base/hash.h"
#include "unit.h"

/* Hashes that running daemons have stored: from another implementation of SipHash-2-4, with the
 * same key. */
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

/* The first and the last vector of the paper: the key is 00 to 0f, the text 00, 01, 02 ... */
START_TEST(a_key_of_ones_own)
{
    static const uint64_t key[2] = {UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908)};
    char text[15];

    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)i;
    ck_assert_uint_eq(hash_keyed(key, STR("")), UINT64_C(0x726fdb47dd0e0e31));
    ck_assert_uint_eq(hash_keyed(key, (struct str){text, sizeof text}),
                      UINT64_C(0xa129ca6149be45e5));
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "hash");

    tcase_add_test(tcase, values_that_may_never_change);
    tcase_add_test(tcase, a_key_of_ones_own);
    tcase_add_test(tcase, a_join_is_the_hash_of_both_in_their_order);
}
