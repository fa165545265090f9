/* The escapes of URLs. The escapes of JSON are tested with the log. */

#include "base/escape.h"

#include <check.h>

#include "unit.h"

START_TEST(percent_escapes)
{
    static const struct {
        const char *text;
        int byte;
    } rows[] = {{"%41", 'A'}, {"%6a.", 'j'}, {"%fF", 255}, {"%00", 0}, {"%4", -1}, {"%", -1},
                {"%g1", -1},  {"%1g", -1},   {"A41", -1},  {"", -1},   {"%-1", -1}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        ck_assert_msg(escape_percent(str_from(rows[i].text), 0) == rows[i].byte, "\"%s\"",
                      rows[i].text);
    ck_assert_int_eq(escape_percent(STR("a%20"), 1), ' ');
    ck_assert_int_eq(escape_percent((struct str){"%20", 2}, 0), -1);
}
END_TEST

void unit_tests(Suite *suite)
{
    tcase_add_test(unit_case(suite, "escape"), percent_escapes);
}
