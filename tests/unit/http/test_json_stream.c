/* Validity, in pieces of any size, compared with the grammar and with cJSON, and in linear time;
 * watched keys. */

#include "http/json.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "json_oracle.h"
#include "unit.h"

static enum json_stream_end check_pieces(struct str s, const size_t *cuts, size_t n)
{
    struct json_stream c;
    size_t done = 0;

    json_stream_init(&c);
    for (size_t i = 0; i <= n; i++) {
        size_t end = i < n ? cuts[i] : s.n, len = end - done;
        char *copy = malloc(len ? len : 1); /* of its own, so that a sanitizer sees reads beyond */
        if (len > 0)
            memcpy(copy, s.p + done, len);
        json_stream_feed(&c, (struct str){copy, len});
        free(copy);
        done = end;
    }
    enum json_stream_end end = json_stream_end(&c);
    if (json_stream_is_lost(&c) && end != JSON_STREAM_INVALID)
        ck_abort_msg("lost, and not invalid");
    return end;
}

static enum json_stream_end check(struct str s)
{
    return check_pieces(s, NULL, 0);
}

#define T(text)                \
    {                          \
        text, sizeof(text) - 1 \
    }
static const struct {
    struct str text;
    enum json_stream_end end;
} cases[] = {
    {T(""), JSON_STREAM_EMPTY},
    {T(" \r\n\t"), JSON_STREAM_EMPTY},
    {T("\xef\xbb\xbf"), JSON_STREAM_EMPTY},
    {T("\xef\xbb\xbf \n"), JSON_STREAM_EMPTY},
    {T("\xef\xbb\xbf{}"), JSON_STREAM_VALID},
    {T("\xef\xbb"), JSON_STREAM_INVALID},
    {T("\xef\xbb{}"), JSON_STREAM_INVALID},
    {T(" \xef\xbb\xbf{}"), JSON_STREAM_INVALID},
    {T("\xef\xbb\xbf\xef\xbb\xbf{}"), JSON_STREAM_INVALID},
    {T("{\"a\0b\":1}"), JSON_STREAM_INVALID},
    {T("{}\0"), JSON_STREAM_INVALID},
    {T("[\"\x1f\"]"), JSON_STREAM_INVALID},
    {T("[\"\\\0\"]"), JSON_STREAM_INVALID},
    {T("[\"\x7f\xff\x80\"]"), JSON_STREAM_VALID}, /* bytes that are no UTF-8 pass here */
};

static const char *const valid[] = {
    "{}",
    "[]",
    " { } ",
    "\"\"",
    "0",
    "-0",
    "12",
    "1.5",
    "-1.25e+10",
    "1E5",
    "1e-0",
    "0.0",
    "0e1",
    "true",
    "false ",
    " null",
    "NaN",
    "Infinity",
    "-Infinity",
    "[NaN,-Infinity ,Infinity]",
    "{\"a\":{\"b\":[1,2,{\"c\":null}],\"a\":[]},\"\":\"\"}",
    "[[],[[]],{}]",
    "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uD83D\\uDE00\\ud800\"",
    "\"longer than eight, and \\\"quoted\\\", and with a backslash at the end\\\\\"",
    "[1,\n 2\r\n,\t3 ]",
    "{\"a\" : 1 , \"b\" : 2}",
    "123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890",
};

static const char *const invalid[] = {
    "{",
    "}",
    "[",
    "]",
    "[}",
    "{]",
    "[1}",
    "{\"a\"}",
    "{\"a\":}",
    "{\"a\":1,}",
    "{,}",
    "[,]",
    "[1,]",
    "[1 2]",
    "{a:1}",
    "{1:2}",
    "{\"a\" 1}",
    "{\"a\":1]",
    "[\"a\":1]",
    "{} {}",
    "{},",
    "1 2",
    "01",
    "-01",
    "1.",
    ".5",
    "+1",
    "-",
    "- 1",
    "1e",
    "1e+",
    "1.e5",
    "--1",
    "1.5.2",
    "1e5.2",
    "0x1",
    "1_0",
    "tru",
    "True",
    "trues",
    "nul",
    "nan",
    "-NaN",
    "-Inf",
    "Infinite",
    "+Infinity",
    "\"",
    "\"\\\"",
    "\"\\x\"",
    "\"\\u12\"",
    "\"\\u12g4\"",
    "\"\\u",
    "'a'",
    "\"a\nb\"",
    "\"a\tb\"",
    "// c\n1",
    "[1]]",
    "{}}",
    "\"a\"\"b\"",
    "{\"a\":1 \"b\":2}",
    "[true false]",
    "[nulll]",
    "\v1",
    "\f{}",
    "[1,,2]",
    "{\"a\"::1}",
    "{\"a\":1,,\"b\":2}",
    "{\"a\":1,\"b\"}",
    "error",
    "<html>",
    "{\"a\":truefalse}",
    "[1.0e]",
    "[-]",
    "[1-2]",
    "[12a]",
    "[0 1]",
    "data: {}",
};

static enum json_stream_end want_of(size_t i, struct str *ret_text)
{
    if (i < COUNT(cases)) {
        *ret_text = cases[i].text;
        return cases[i].end;
    }
    i -= COUNT(cases);
    *ret_text = str_from(i < COUNT(valid) ? valid[i] : invalid[i - COUNT(valid)]);
    return i < COUNT(valid) ? JSON_STREAM_VALID : JSON_STREAM_INVALID;
}
#define ALL (COUNT(cases) + COUNT(valid) + COUNT(invalid))

START_TEST(the_grammar)
{
    for (size_t i = 0; i < ALL; i++) {
        struct str s;
        enum json_stream_end want = want_of(i, &s);
        ck_assert_msg(check(s) == want, "%zu: %.*s", i, (int)s.n, s.p);
    }
}
END_TEST

START_TEST(at_every_two_splits_and_byte_by_byte)
{
    for (size_t i = 0; i < ALL; i++) {
        struct str s;
        size_t all[128];
        enum json_stream_end want = want_of(i, &s);
        for (size_t a = 0; a <= s.n; a++)
            for (size_t b = a; b <= s.n; b++)
                if (check_pieces(s, (size_t[]){a, b}, 2) != want)
                    ck_abort_msg("%.*s at %zu and %zu", (int)s.n, s.p, a, b);
        for (size_t n = 0; n < s.n; n++)
            all[n] = n;
        ck_assert_msg(check_pieces(s, all, s.n) == want, "%.*s", (int)s.n, s.p);
    }
}
END_TEST

/* json_valid is the same, but for UTF-8 and the mark. */
START_TEST(whole_texts)
{
    static const struct {
        struct str text;
        bool valid;
    } strict[] = {
        {T("\xef\xbb\xbf{}"), false},
        {T("\"\xc3\xa9\""), true},
        {T("\"\xf0\x9f\x98\x80 and then some ASCII \xe2\x82\xac\""), true},
        {T("\"\xc3\""), false},
        {T("\"\xed\xa0\x80\""), false},
        {T("\"a long text of plain letters, and then \xff\""), false},
        {T("\"\xc0\xaf\""), false},
        {T("\xc2\xa0{}"), false},
    };

    for (size_t i = COUNT(cases); i < ALL; i++) {
        struct str s;
        enum json_stream_end want = want_of(i, &s);
        ck_assert_msg(json_valid(s) == (want == JSON_STREAM_VALID), "%.*s", (int)s.n, s.p);
    }
    for (size_t i = 0; i < COUNT(strict); i++)
        ck_assert_msg(json_valid(strict[i].text) == strict[i].valid, "%zu", i);
    ck_assert(!json_valid((struct str){NULL, 0}));
    ck_assert(!json_valid(STR(" ")));
}
END_TEST

/* Every byte value at every place of a word, so that each lane of the fast way is tried. */
START_TEST(each_byte_in_a_string)
{
    for (int b = 0; b < 256; b++)
        for (size_t at = 0; at < 24; at++) {
            char text[26];
            bool fine = b >= 0x20 && b != '"' && b != '\\';
            memset(text, 'x', sizeof text);
            text[0] = text[25] = '"';
            text[1 + at] = (char)b;
            if ((check((struct str){text, sizeof text}) == JSON_STREAM_VALID) != fine && b != '\\')
                ck_abort_msg("byte %d at %zu", b, at);
        }
}
END_TEST

START_TEST(depth)
{
    char text[4 * JSON_STREAM_DEPTH];

    for (size_t n = 1; n <= JSON_STREAM_DEPTH + 1; n++) {
        bool fits = n <= JSON_STREAM_DEPTH;
        memset(text, '[', n);
        memset(text + n, ']', n);
        ck_assert((check((struct str){text, 2 * n}) == JSON_STREAM_VALID) == fits);
        ck_assert_int_eq(check((struct str){text, 2 * n - 1}), JSON_STREAM_INVALID);
    }
}
END_TEST

/* Brackets of both kinds, deep and mixed: each must be closed by its own kind. */
START_TEST(each_level_remembers_its_kind)
{
    enum { N = 200 };
    char text[6 * N + 1];

    for (size_t wrong = 0; wrong <= N; wrong++) {
        size_t n = 0;
        for (size_t i = 0; i < N; i++) {
            memcpy(text + n, i % 3 ? "{\"\":" : "[", i % 3 ? 4 : 1);
            n += i % 3 ? 4 : 1;
        }
        text[n++] = '1';
        for (size_t i = N; i-- > 0;)
            text[n++] = (i % 3 != 0) != (i == wrong) ? '}' : ']';
        ck_assert((check((struct str){text, n}) == JSON_STREAM_VALID) == (wrong == N));
    }
}
END_TEST

/* --- cJSON ------------------------------------------------------------------------------------ */

static const char sample[] =
    "{\"id\":\"chatcmpl-B9MB\",\"object\":\"chat.completion.chunk\",\"created\":1741569952, \"x\":"
    "[-1.5e-3,0,10.25,true,false,null],\"choices\":[{\"index\":0,\"delta\":{\"content\":"
    "\"He\\\"l\\\\l\\u00e9o \xe2\x82\xac\"},\"logprobs\":null}],\n\t\"usage\":{}}";

static size_t compared;

static void agree(struct str s)
{
    if (!json_oracle_comparable(s))
        return;
    compared++;
    if ((check(s) == JSON_STREAM_VALID) != json_oracle_valid(s))
        ck_abort_msg("cJSON: %d, of %.*s", json_oracle_valid(s), (int)s.n, s.p);
}

START_TEST(cjson_agrees_on_the_grammar)
{
    compared = 0;
    for (size_t i = 0; i < ALL; i++) {
        struct str s;
        (void)want_of(i, &s);
        agree(s);
    }
    ck_assert_uint_gt(compared, ALL / 2);
}
END_TEST

START_TEST(cjson_agrees_on_truncations)
{
    compared = 0;
    for (size_t n = 0; n < sizeof sample; n++)
        agree((struct str){sample, n});
    ck_assert_uint_gt(compared, sizeof sample * 3 / 4);
}
END_TEST

START_TEST(cjson_agrees_on_one_byte_mutations)
{
    char text[sizeof sample + 1];
    size_t n = sizeof sample - 1;

    compared = 0;
    for (size_t at = 0; at < n; at++)
        for (int b = 0; b < 256; b++) {
            memcpy(text, sample, n);
            text[at] = (char)b; /* replaced */
            agree((struct str){text, n});
            memmove(text + at + 1, sample + at, n - at); /* inserted */
            agree((struct str){text, n + 1});
        }
    for (size_t at = 0; at < n; at++) { /* removed */
        memcpy(text, sample, at);
        memcpy(text + at, sample + at + 1, n - at - 1);
        agree((struct str){text, n - 1});
    }
    ck_assert_uint_gt(compared, n * 256);
}
END_TEST

/* --- watched keys ----------------------------------------------------------------------------- */

static bool watched(const struct json_watch *w, enum json_type type, const char *text)
{
    return w->type == type && str_eq(json_watch_text(w), str_from(text));
}

static const struct {
    const char *text;
    enum json_type type;
    const char *raw;
} watch_cases[] = {
    {"{\"model\":\"gpt-4o\",\"n\":1}", JSON_STRING, "gpt-4o"},
    {"{\"a\":{\"model\":1},\"model\":\"outer\",\"b\":[{\"model\":2}]}", JSON_STRING, "outer"},
    {"{\"model\":\"a\\\"b\\u00e9\"}", JSON_STRING, "a\\\"b\\u00e9"},
    {"{\"model\":\"\"}", JSON_STRING, ""},
    {"{\"model\" : -1.5e3 }", JSON_NUMBER, "-1.5e3"},
    {"{\"model\":0}", JSON_NUMBER, "0"},
    {"{\"model\":true}", JSON_TRUE, "true"},
    {"{\"model\":false,\"x\":\"y\"}", JSON_FALSE, "false"},
    {"{\"model\":null}", JSON_NULL, "null"},
    {"{\"model\":-Infinity}", JSON_NUMBER, "-Infinity"},
    {"{\"model\":NaN}", JSON_NUMBER, "NaN"},
    {"{\"model\":[\"x\",1]}", JSON_ARRAY, ""},
    {"{\"model\":{\"x\":\"y\"},\"z\":1}", JSON_OBJECT, ""},
    {"{\"model\":\"first\",\"model\":2}", JSON_NUMBER, "2"},
    {"{\"model\":\"first\",\"model\":{}}", JSON_OBJECT, ""},
    {"{\"mod\\u0065l\":\"escaped\"}", JSON_STRING, "escaped"},
    {"{\"\\u006d\\u006f\\u0064\\u0065\\u006c\":1}", JSON_NUMBER, "1"},
    {"{\"models\":1,\"mode\":2,\"Model\":3,\"\":4}", JSON_NONE, ""},
    {"{\"x\":\"model\",\"y\":[\"model\",1]}", JSON_NONE, ""},
    {"[{\"model\":1}]", JSON_NONE, ""},
    {"{\"\\u006d\\u006f\\u0064\\u0065\\u006c and a good deal more than any watched key can be, as "
     "long as it may be spelled, so that it is cut off\":1}",
     JSON_NONE, ""},
};

START_TEST(watches_at_every_split)
{
    for (size_t i = 0; i < COUNT(watch_cases); i++) {
        struct str s = str_from(watch_cases[i].text);
        for (size_t step = 1; step <= s.n; step++)
            for (size_t first = 0; first < step; first++) {
                struct json_watch watches[] = {{.key = STR("other")}, {.key = STR("model")}};
                struct json_stream c;
                json_stream_init(&c);
                json_stream_watch(&c, watches, 2);
                for (size_t at = 0, n = first; at <= s.n; at += n, n = step) {
                    size_t left = s.n - at;
                    char piece[256];
                    memcpy(piece, s.p + at, n < left ? n : left);
                    json_stream_feed(&c, (struct str){piece, n < left ? n : left});
                    memset(piece, '#', sizeof piece); /* nothing of it may be looked at again */
                }
                if (json_stream_end(&c) != JSON_STREAM_VALID || watches[0].type != JSON_NONE ||
                    !watched(&watches[1], watch_cases[i].type, watch_cases[i].raw))
                    ck_abort_msg("%s in pieces of %zu", s.p, step);
            }
    }
}
END_TEST

START_TEST(long_values_are_cut)
{
    char text[400];

    for (size_t len = 190; len < 195; len++) {
        struct json_watch w = {.key = STR("k")};
        struct json_stream c;
        memcpy(text, "{\"k\":\"", 6);
        memset(text + 6, 'v', len);
        memcpy(text + 6 + len, "\"}", 2);
        json_stream_init(&c);
        json_stream_watch(&c, &w, 1);
        json_stream_feed(&c, (struct str){text, 100});
        json_stream_feed(&c, (struct str){text + 100, len + 8 - 100});
        ck_assert_int_eq(w.type, JSON_STRING);
        ck_assert_uint_eq(json_watch_text(&w).n, len < sizeof w.text ? len : sizeof w.text);
        ck_assert_uint_eq(w.length, len);
        ck_assert_uint_eq(w.at, 6);
    }
}
END_TEST

/* --- cost ------------------------------------------------------------------------------------- */

static double seconds_for(struct str s)
{
    struct json_stream c;
    clock_t start = clock();

    json_stream_init(&c);
    for (size_t at = 0; at < s.n; at += 97)
        json_stream_feed(&c, (struct str){s.p + at, s.n - at < 97 ? s.n - at : 97});
    (void)json_valid(s);
    return (double)(clock() - start) / CLOCKS_PER_SEC;
}

START_TEST(huge_and_nasty)
{
    enum { N = 2 * 1024 * 1024 };
    static const char *const fills[] = {"x", "\\\\", " ", "[", "1", "\\u1234", "\xe2\x82\xac"};
    static const char *const heads[] = {"[", "[\"", "{\"", "[1"};
    char *text = malloc(N);

    for (size_t h = 0; h < COUNT(heads); h++)
        for (size_t f = 0; f < COUNT(fills); f++) {
            for (size_t i = 0; i < N; i++)
                text[i] = fills[f][i % strlen(fills[f])];
            memcpy(text, heads[h], strlen(heads[h]));
            ck_assert_double_lt(seconds_for((struct str){text, N}), 2);
        }
    free(text);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "json_stream");

    tcase_set_timeout(tcase, 30);
    tcase_add_test(tcase, the_grammar);
    tcase_add_test(tcase, at_every_two_splits_and_byte_by_byte);
    tcase_add_test(tcase, whole_texts);
    tcase_add_test(tcase, each_byte_in_a_string);
    tcase_add_test(tcase, depth);
    tcase_add_test(tcase, each_level_remembers_its_kind);
    tcase_add_test(tcase, cjson_agrees_on_the_grammar);
    tcase_add_test(tcase, cjson_agrees_on_truncations);
    tcase_add_test(tcase, cjson_agrees_on_one_byte_mutations);
    tcase_add_test(tcase, watches_at_every_split);
    tcase_add_test(tcase, long_values_are_cut);
    tcase_add_test(tcase, huge_and_nasty);
}
