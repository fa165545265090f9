/* The escapes of JSON strings, there and back, and of URLs. */

#include "base/escape.h"

#include <check.h>
#include <cjson/cJSON.h>
#include <string.h>

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

START_TEST(unescaping)
{
    static const struct {
        const char *raw, *plain;
    } cases[] = {
        {"", ""},
        {"plain", "plain"},
        {"a\\\"b\\\\c\\/d", "a\"b\\c/d"},
        {"a\\nb\\tc\\rd\\be\\ff", "a b c d e f"},
        {"\\u0041\\u00e9\\u20ac", "A\xc3\xa9\xe2\x82\xac"},
        {"\\ud83d\\ude00", "\xf0\x9f\x98\x80"},
        {"\\ud83d", "\xef\xbf\xbd"},
        {"\\ude00x", "\xef\xbf\xbdx"},
        {"\\ud83d\\u0041", "\xef\xbf\xbd"
                           "A"},
        {"\\u12", "\xef\xbf\xbd"
                  "12"},
        {"\\q", "\xef\xbf\xbd"},
        {"\\", "\xef\xbf\xbd"},
        {"\\u0000\\u001b\\u009b", "   "},
        {"\x01\x7f\xc2\x9b", "   "},
        {"\\u0020\\u007f\\u009f\\u00a0\\u001F", "   \xc2\xa0 "},
        {"\xc2\x9f\xc2\xa0", " \xc2\xa0"},
        {"\\ud7ff\\ue000\\uFFFF", "\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf"},
        {"\\ud800\\udc00\\udbff\\udfff", "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf"},
        {"\\udbff\\u0041\\u00g0", "\xef\xbf\xbd"
                                  "A\xef\xbf\xbd"
                                  "00g0"},
        {"\xff\xc3", "\xef\xbf\xbd\xef\xbf\xbd"},
    };
    char out[64];

    for (size_t i = 0; i < COUNT(cases); i++) {
        size_t n = escape_undo_json(str_from(cases[i].raw), out, sizeof out);
        ck_assert_str_eq(out, cases[i].plain);
        ck_assert_uint_eq(n, strlen(out));
    }
}
END_TEST

START_TEST(unescaping_never_cuts_a_character)
{
    static const char raw[] = "a\\u00e9\xe2\x82\xac\\ud83d\\ude00z";
    static const size_t whole[] = {0, 1, 3, 6, 10, 11};
    char out[16];

    ck_assert_uint_eq(escape_undo_json(STR("x"), out, 0), 0);
    for (size_t size = 1; size <= sizeof out; size++) {
        size_t n = escape_undo_json(STR(raw), out, size), want = 0;
        for (size_t i = 0; i < COUNT(whole); i++)
            if (whole[i] < size)
                want = whole[i];
        ck_assert_uint_eq(n, want);
        ck_assert_int_eq(out[n], '\0');
    }
}
END_TEST

/* Escaping and a parser's undoing give the text back, for every character of the basic plane. */
START_TEST(escaping_reads_back)
{
    for (unsigned c = 1; c < 0x10000; c++) {
        char utf8[8], space[ESCAPE_MAX], quoted[32];
        size_t used;
        if (c >= 0xd800 && c <= 0xdfff)
            continue;
        size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : 3;
        utf8[0] = (char)(n == 1 ? c : n == 2 ? 0xc0 | c >> 6 : 0xe0 | c >> 12);
        if (n == 3)
            utf8[1] = (char)(0x80 | (c >> 6 & 0x3f));
        if (n > 1)
            utf8[n - 1] = (char)(0x80 | (c & 0x3f));
        utf8[n] = '\0';
        struct str e = escape_json((struct str){utf8, n}, space, &used);
        if (used != n)
            ck_abort_msg("U+%04X", c);
        quoted[0] = '"';
        memcpy(quoted + 1, e.p, e.n);
        memcpy(quoted + 1 + e.n, "\"", 2);
        cJSON *tree = cJSON_Parse(quoted);
        if (!tree || strcmp(cJSON_GetStringValue(tree), utf8) != 0)
            ck_abort_msg("U+%04X: %s", c, quoted);
        cJSON_Delete(tree);
    }
}
END_TEST

/* Characters that reverse a line, break it or are invisible in it, and characters that only look
 * like these. */
START_TEST(unseen_characters_are_escaped)
{
    static const struct {
        const char *text, *escaped;
    } cases[] = {
        {"\xe2\x80\xae", "\\u202e"},
        {"\xe2\x80\xaa", "\\u202a"},
        {"\xe2\x81\xa6", "\\u2066"},
        {"\xe2\x81\xa9", "\\u2069"},
        {"\xe2\x80\x8e", "\\u200e"},
        {"\xe2\x80\x8f", "\\u200f"},
        {"\xd8\x9c", "\\u061c"},
        {"\xe2\x80\xa8", "\\u2028"},
        {"\xe2\x80\xa9", "\\u2029"},
        {"\xc2\x85", "\\u0085"},
        {"\xef\xbb\xbf", "\\ufeff"},
        {"\xe2\x80\x8b", "\\u200b"},
        {"\xf3\xa0\x81\x81", "\\udb40\\udc41"},
        {"\xe2\x80\x9c", "\xe2\x80\x9c"},
        {"\xd7\x90", "\xd7\x90"},
        {"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        char space[ESCAPE_MAX];
        size_t used;

        ck_assert(
            str_eq(escape_json(str_from(cases[i].text), space, &used), str_from(cases[i].escaped)));
        ck_assert_uint_eq(used, strlen(cases[i].text));
    }
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "escape");

    tcase_add_test(tcase, percent_escapes);
    tcase_add_test(tcase, unescaping);
    tcase_add_test(tcase, unescaping_never_cuts_a_character);
    tcase_add_test(tcase, escaping_reads_back);
    tcase_add_test(tcase, unseen_characters_are_escaped);
}
