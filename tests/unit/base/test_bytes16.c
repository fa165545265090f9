/* base/bytes16.h as compiled for machines without SSE2. */

#define BYTES16_PORTABLE
#include "base/bytes16.h"

#include <check.h>

#include "unit.h"

START_TEST(each_byte_has_its_bit)
{
    char text[16];

    for (unsigned round = 0; round < 10000; round++) {
        unsigned highs = 0, as = 0;

        for (unsigned i = 0; i < sizeof(text); i++) {
            text[i] = (char)(unit_below(3) ? unit_below(256) : 'a');
            highs |= ((unsigned char)text[i] >= 0x80 ? 1u : 0u) << i;
            as |= (text[i] == 'a' ? 1u : 0u) << i;
        }
        ck_assert_uint_eq(bytes16_bits(bytes16_load(text)), highs);
        ck_assert_uint_eq(bytes16_bits(bytes16_are(bytes16_load(text), 'a')), as);
    }
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "bytes16");

    tcase_add_test(tcase, each_byte_has_its_bit);
}
