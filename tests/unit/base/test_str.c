/* Slices: comparing, cutting, numbers, globs and UTF-8. */

#include "base/str.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>

#include "failmem.h"
#include "unit.h"

static const struct str none = {NULL, 0};

START_TEST(equality_folds_ascii_letters_only)
{
    for (int a = 0; a < 256; a++) {
        for (int b = 0; b < 256; b++) {
            char x = (char)a, y = (char)b;
            bool letters = a >= 'A' && a <= 'Z' ? b == a + 32 : a >= 'a' && a <= 'z' && b == a - 32;
            bool want = a == b || letters;
            if (str_ieq((struct str){&x, 1}, (struct str){&y, 1}) != want)
                ck_abort_msg("%d and %d", a, b);
            if (str_eq((struct str){&x, 1}, (struct str){&y, 1}) != (a == b))
                ck_abort_msg("%d and %d", a, b);
        }
    }
}
END_TEST

START_TEST(empty_slices)
{
    struct str rest = none, piece;

    ck_assert(str_eq(none, STR("")));
    ck_assert(str_ieq(none, none));
    ck_assert(str_starts(STR("a"), none));
    ck_assert(str_istarts(none, none));
    ck_assert(!str_starts(none, STR("a")));
    ck_assert_int_eq(str_ifind(none, none), 0);
    ck_assert_int_eq(str_ifind(none, STR("a")), -1);
    ck_assert_uint_eq(str_trim(none).n, 0);
    ck_assert_uint_eq(str_trim(STR(" \t\r\n")).n, 0);
    ck_assert(!str_next(&rest, ',', &piece));
    ck_assert_uint_eq(str_from(NULL).n, 0);
    ck_assert_uint_eq(str_utf8(none), 0);
}
END_TEST

START_TEST(finding)
{
    static const struct {
        struct str s, needle;
        ptrdiff_t at;
    } cases[] = {{{"abc", 3}, {"abc", 3}, 0},   {{"abc", 3}, {"C", 1}, 2},
                 {{"abc", 3}, {"abcd", 4}, -1}, {{"aab", 3}, {"AB", 2}, 1},
                 {{"aaaa", 4}, {"", 0}, 0},     {{"xay", 3}, {"b", 1}, -1},
                 {{"a\0b", 3}, {"\0B", 2}, 1},  {{"abab", 4}, {"bb", 2}, -1}};

    for (size_t i = 0; i < COUNT(cases); i++)
        ck_assert_int_eq(str_ifind(cases[i].s, cases[i].needle), cases[i].at);
    ck_assert(str_starts(STR("abc"), STR("ab")));
    ck_assert(!str_starts(STR("abc"), STR("AB")));
    ck_assert(str_istarts(STR("abc"), STR("AB")));
    ck_assert(!str_istarts(STR("a"), STR("ab")));
}
END_TEST

static unsigned next(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (unsigned)(*state >> 33);
}

/* All that a few letters spell. */
START_TEST(finds_what_memmem_finds)
{
    char text[700], word[400];
    uint64_t state = 1;

    for (unsigned round = 0; round < 20000; round++) {
        size_t n = next(&state) % (round % 8 ? 40 : sizeof(text));
        size_t m = 1 + next(&state) % (round % 8 ? 8 : sizeof(word));
        unsigned letters = 1 + next(&state) % 3;

        for (size_t i = 0; i < n; i++)
            text[i] = (char)('a' + next(&state) % letters * 64 % 128);
        for (size_t i = 0; i < m; i++)
            word[i] = (char)('a' + next(&state) % letters * 64 % 128);
        if (m <= n && round % 2) /* one that is there */
            memcpy(text + next(&state) % (n - m + 1), word, m);
        ck_assert_ptr_eq(str_find((struct str){text, n}, (struct str){word, m}),
                         n ? memmem(text, n, word, m) : NULL);
    }
    ck_assert_ptr_null(str_find(none, STR("a")));
    ck_assert_ptr_null(str_find(none, none));
}
END_TEST

START_TEST(pieces)
{
    struct str rest = STR(" a ,, b,c ,"), piece;
    static const char *const want[] = {"a", "", "b", "c"};

    for (size_t i = 0; i < COUNT(want); i++) {
        ck_assert(str_next(&rest, ',', &piece));
        ck_assert(str_eq(piece, str_from(want[i])));
    }
    ck_assert(!str_next(&rest, ',', &piece));
}
END_TEST

START_TEST(whole_numbers)
{
    static const char *const bad[] = {
        "", "-1", "+1", " 1", "1 ", "0x1", "1.0", "18446744073709551616", "99999999999999999999999",
        "a"};
    static const struct {
        uint64_t value;
        const char *text;
    } written[] = {
        {0, "0"}, {9, "9"}, {10, "10"}, {4096, "4096"}, {UINT64_MAX, "18446744073709551615"}};
    uint64_t v = 7;

    for (size_t i = 0; i < COUNT(bad); i++)
        ck_assert_msg(!str_to_u64(str_from(bad[i]), &v), "%s", bad[i]);
    ck_assert_uint_eq(v, 7);
    ck_assert(str_to_u64(STR("0"), &v));
    ck_assert_uint_eq(v, 0);
    ck_assert(str_to_u64(STR("18446744073709551615"), &v));
    ck_assert(v == UINT64_MAX);
    for (unsigned i = 0; i < COUNT(written); i++) {
        char space[STR_DECIMAL_MAX];
        uint64_t back;

        ck_assert(str_eq(str_decimal(written[i].value, space), str_from(written[i].text)));
        ck_assert(str_to_u64(str_decimal(written[i].value, space), &back));
        ck_assert_uint_eq(back, written[i].value);
    }
    ck_assert(str_to_u64(STR("0000000000000000000000012"), &v));
    ck_assert_uint_eq(v, 12);
}
END_TEST

START_TEST(decimals)
{
    static const struct {
        const char *text;
        double value;
    } good[] = {{"0", 0},
                {"1", 1},
                {"12.", 12},
                {"0.25", 0.25},
                {"1.500", 1.5},
                {"007", 7},
                {"1e", -1},
                {".5", -1},
                {"", -1},
                {"1.2.3", -1},
                {"nan", -1},
                {"inf", -1},
                {"-1", -1},
                {"+1", -1},
                {"1,5", -1},
                {"0x10", -1},
                {"1e3", -1},
                {" 1", -1},
                {"0.00000000000000000000000001", 0}};
    char nines[302];
    double v = 42;

    for (size_t i = 0; i < COUNT(good); i++) {
        bool ok = str_to_decimal(str_from(good[i].text), &v);
        ck_assert_msg(ok == (good[i].value >= 0), "%s", good[i].text);
        if (ok)
            ck_assert_double_eq_tol(v, good[i].value, 1e-12);
    }
    memset(nines, '9', sizeof nines);
    ck_assert(str_to_decimal((struct str){nines, 300}, &v));
    ck_assert(isfinite(v));
    ck_assert(!str_to_decimal((struct str){nines, 301}, &v));
}
END_TEST

START_TEST(duplicates)
{
    char *copy = str_dup((struct str){"abcdef", 3});

    ck_assert_str_eq(copy, "abc");
    free(copy);
    copy = str_dup(none);
    ck_assert_str_eq(copy, "");
    free(copy);
    failmem_arm(1);
    copy = str_dup(STR("x"));
    ck_assert(failmem_disarm());
    ck_assert_ptr_null(copy);
}
END_TEST

/* The definition itself, exponential and obviously right. */
static bool glob_slow(const char *p, const char *s)
{
    if (*p == '\0')
        return *s == '\0';
    if (*p == '*')
        return glob_slow(p + 1, s) || (*s && glob_slow(p, s + 1));
    return *s && (*p == '?' || *p == *s) && glob_slow(p + 1, s + 1);
}

/* The n-th word over an alphabet, of a given length. */
static void word(char *out, unsigned length, unsigned n, const char *alphabet, unsigned letters)
{
    for (unsigned i = 0; i < length; i++, n /= letters)
        out[i] = alphabet[n % letters];
    out[length] = '\0';
}

START_TEST(globs_against_their_definition)
{
    char p[8], s[8];

    for (unsigned pl = 0, pn = 1; pl <= 5; pl++, pn *= 4)
        for (unsigned i = 0; i < pn; i++)
            for (unsigned sl = 0, sn = 1; sl <= 5; sl++, sn *= 2)
                for (unsigned j = 0; j < sn; j++) {
                    word(p, pl, i, "ab*?", 4);
                    word(s, sl, j, "ab", 2);
                    if (str_glob(p, str_from(s)) != glob_slow(p, s))
                        ck_abort_msg("%s on %s", p, s);
                }
}
END_TEST

START_TEST(globs_do_not_explode)
{
    char text[4096];

    memset(text, 'a', sizeof text);
    ck_assert(!str_glob("*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b", (struct str){text, sizeof text}));
    ck_assert(str_glob("gpt-4o*", STR("gpt-4o-mini")));
    ck_assert(str_glob("*", none));
    ck_assert(!str_glob("?", none));
}
END_TEST

START_TEST(utf8_accepts_what_the_encoding_gives_and_nothing_else)
{
    unsigned accepted = 0;

    for (unsigned a = 0; a < 256; a++)
        for (unsigned b = 0; b < 256; b++) {
            char two[2] = {(char)a, (char)b};
            accepted += str_utf8((struct str){two, 2}) == 2;
        }
    ck_assert_uint_eq(accepted, 0x800 - 0x80);
    accepted = 0;
    for (unsigned n = 0; n < 1u << 24; n++) {
        char three[3] = {(char)(n >> 16), (char)(n >> 8), (char)n};
        accepted += str_utf8((struct str){three, 3}) == 3;
    }
    ck_assert_uint_eq(accepted, 0x10000 - 0x800 - 0x800);
    ck_assert_uint_eq(str_utf8(STR("\xf0\x90\x80\x80")), 4);
    ck_assert_uint_eq(str_utf8(STR("\xf4\x8f\xbf\xbf")), 4);
    ck_assert_uint_eq(str_utf8(STR("\xf4\x90\x80\x80")), 0);
    ck_assert_uint_eq(str_utf8(STR("\xf0\x8f\xbf\xbf")), 0);
    ck_assert_uint_eq(str_utf8(STR("\xf0\x9f\x98")), 0);
    ck_assert_uint_eq(str_utf8(STR("\xf5\x80\x80\x80")), 0);
}
END_TEST

START_TEST(tokens_and_visible_text)
{
    for (unsigned c = 0; c < 256; c++) {
        char one[2] = {'a', (char)c};
        struct str s = {one, 2};
        bool alnum = (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');

        ck_assert_int_eq(str_is_token(s), alnum || (c && strchr("!#$%&'*+-.^_`|~", (int)c)));
        ck_assert_int_eq(str_is_visible(s), c > 0x20 && c < 0x7f);
    }
    ck_assert(!str_is_token(none));
    ck_assert(!str_is_visible(none));
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "str");

    tcase_add_test(tcase, equality_folds_ascii_letters_only);
    tcase_add_test(tcase, empty_slices);
    tcase_add_test(tcase, finding);
    tcase_add_test(tcase, finds_what_memmem_finds);
    tcase_add_test(tcase, pieces);
    tcase_add_test(tcase, whole_numbers);
    tcase_add_test(tcase, decimals);
    tcase_add_test(tcase, duplicates);
    tcase_add_test(tcase, globs_against_their_definition);
    tcase_add_test(tcase, globs_do_not_explode);
    tcase_add_test(tcase, tokens_and_visible_text);
    tcase_add_test(tcase, utf8_accepts_what_the_encoding_gives_and_nothing_else);
}
