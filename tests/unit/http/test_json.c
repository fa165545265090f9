/* Iterating over objects and arrays, and finding keys: the results are right for any text. */

#include "http/json.h"

#include <check.h>
#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "unit.h"

/* --- walks ------------------------------------------------------------------------------------ */

static const char walked_text[] =
    "{\"a\":[1,{\"b\":[]},\"x\\\"]\"],\"c\":{\"d\":null,\"e\":[true,{}]},"
    "\"f\":-1.5e3,\"\\u0067\":\"\\\\\"}";

START_TEST(members_in_order)
{
    static const struct {
        enum json_type type;
        const char *key, *raw;
    } want[] = {
        {JSON_ARRAY, "a", "[1,{\"b\":[]},\"x\\\"]\"]"},
        {JSON_OBJECT, "c", "{\"d\":null,\"e\":[true,{}]}"},
        {JSON_NUMBER, "f", "-1.5e3"},
        {JSON_STRING, "\\u0067", "\\\\"},
    };
    struct json_iter i = json_iter(STR(walked_text));
    struct json_value value;
    struct str key;

    for (size_t n = 0; n < COUNT(want); n++) {
        ck_assert(json_next_member(&i, &key, &value));
        ck_assert(str_eq(key, str_from(want[n].key)));
        ck_assert_int_eq(value.type, want[n].type);
        ck_assert(str_eq(value.text, str_from(want[n].raw)));
        ck_assert(!i.whole);
    }
    for (int again = 0; again < 2; again++) {
        ck_assert(!json_next_member(&i, &key, &value));
        ck_assert(i.whole);
    }
}
END_TEST

START_TEST(elements_in_order)
{
    static const enum json_type want[] = {JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT,
                                          JSON_NULL,   JSON_TRUE,   JSON_FALSE};
    struct json_iter i = json_iter(STR(" [1 , \"a,]\",[2,3],{\"k\":4},null,true\n,false ] ,9"));
    struct json_value value;

    for (size_t n = 0; n < COUNT(want); n++) {
        ck_assert(json_next_element(&i, &value));
        ck_assert_int_eq(value.type, want[n]);
    }
    ck_assert(!json_next_element(&i, &value));
    ck_assert(i.whole);
}
END_TEST

/* How many a walk hands out, and whether it comes to its end; in memory of its own. */
static size_t walk(struct str text, bool *ret_whole)
{
    char *copy = malloc(text.n ? text.n : 1);
    struct json_value value;
    struct str key;
    size_t n = 0;

    memcpy(copy, text.p, text.n);
    struct json_iter i = json_iter((struct str){copy, text.n});
    if (i.close == '}')
        while (json_next_member(&i, &key, &value))
            n++;
    else
        while (json_next_element(&i, &value))
            n++;
    *ret_whole = i.whole;
    free(copy);
    return n;
}

START_TEST(ends_early_on_bad_text)
{
    static const struct {
        const char *text;
        size_t n;
        bool whole;
    } cases[] = {
        {"{}", 0, true},
        {"[]", 0, true},
        {" { } x", 0, true},
        {"[ ]", 0, true},
        {"[1] trailing", 1, true},
        {"", 0, false},
        {"7", 0, false},
        {"\"s\"", 0, false},
        {"{", 0, false},
        {"[", 0, false},
        {"[,]", 0, false},
        {"[1,]", 1, false},
        {"[1 2]", 1, false},
        {"[1,2", 2, false},
        {"[1}", 1, false},
        {"[x]", 0, false},
        {"[\"no end", 0, false},
        {"{\"a\":1,}", 1, false},
        {"{\"a\":1]", 1, false},
        {"{\"a\":1 \"b\":2}", 1, false},
        {"{\"a\" 1}", 0, false},
        {"{\"a\":}", 0, false},
        {"{1:2}", 0, false},
        {"{,\"a\":1}", 0, false},
        {"{\"a\":1,,\"b\":2}", 1, false},
        {"[[1]", 1, false},
    };

    for (size_t c = 0; c < COUNT(cases); c++) {
        bool whole;
        size_t n = walk(str_from(cases[c].text), &whole);
        ck_assert_msg(n == cases[c].n && whole == cases[c].whole, "%s: %zu", cases[c].text, n);
    }
}
END_TEST

START_TEST(kinds_are_not_mixed_up)
{
    struct json_value value;
    struct str key;

    struct json_iter object = json_iter(STR("{\"a\":1}")), array = json_iter(STR("[1]"));
    ck_assert(!json_next_element(&object, &value));
    ck_assert(!json_next_member(&array, &key, &value));
    ck_assert(!object.whole && !array.whole);
    struct json_iter none = json_iter((struct str){NULL, 0});
    ck_assert(!json_next_member(&none, &key, &value) && !json_next_element(&none, &value));
}
END_TEST

/* Any text that cJSON accepts is iterated to its end, with the same number of members or elements. */
START_TEST(walks_agree_with_a_parser_on_mutated_texts)
{
    static const char alphabet[] = "{}[]\",:\\ \nntf0e-u";
    unsigned parsed = 0;
    char text[sizeof walked_text];

    for (unsigned round = 0; round < 100000; round++) {
        memcpy(text, walked_text, sizeof text);
        for (unsigned i = 0; i <= round % 3; i++)
            text[unit_below(sizeof text - 1)] = alphabet[unit_below(sizeof alphabet - 1)];
        bool whole;
        size_t n = walk((struct str){text, round % 7 ? strlen(text) : round % sizeof text}, &whole);
        cJSON *tree = round % 7 ? cJSON_Parse(text) : NULL;
        if (tree && (cJSON_IsObject(tree) || cJSON_IsArray(tree))) {
            parsed++;
            if (!whole || n != (size_t)cJSON_GetArraySize(tree))
                ck_abort_msg("%s: %zu", text, n);
        }
        cJSON_Delete(tree);
    }
    ck_assert_uint_gt(parsed, 5000);
}
END_TEST

START_TEST(keys_however_spelled)
{
    ck_assert(json_key_is(STR("model"), STR("model")));
    ck_assert(json_key_is(STR("mod\\u0065l"), STR("model")));
    ck_assert(json_key_is(STR("\\u006d\\u006F\\u0064\\u0065\\u006c"), STR("model")));
    ck_assert(!json_key_is(STR("mod\\u0065"), STR("model")));
    ck_assert(!json_key_is(STR("models"), STR("model")));
    ck_assert(!json_key_is(STR("Model"), STR("model")));
    ck_assert(!json_key_is(STR(""), STR("model")));
}
END_TEST

START_TEST(whole_numbers)
{
    uint64_t n = 7;

    ck_assert(json_to_u64((struct json_value){JSON_NUMBER, STR("18446744073709551615")}, &n));
    ck_assert_uint_eq(n, UINT64_MAX);
    ck_assert(!json_to_u64((struct json_value){JSON_NUMBER, STR("18446744073709551616")}, &n));
    ck_assert(!json_to_u64((struct json_value){JSON_NUMBER, STR("1.0")}, &n));
    ck_assert(!json_to_u64((struct json_value){JSON_NUMBER, STR("-1")}, &n));
    ck_assert(!json_to_u64((struct json_value){JSON_STRING, STR("1")}, &n));
    ck_assert_uint_eq(n, UINT64_MAX);
}
END_TEST

/* --- the key finder --------------------------------------------------------------------------- */

/* `text` in memory of its own, so that a sanitizer sees a read beyond it. */
static bool scan_exact(const char *text, size_t n, struct json_want *wants, size_t count)
{
    char *copy = malloc(n ? n : 1);

    memcpy(copy, text, n);
    bool whole = json_scan((struct str){copy, n}, wants, count);
    free(copy);
    return whole;
}

START_TEST(values_of_every_type)
{
    static const struct {
        const char *text;
        enum json_type type;
        const char *raw;
    } cases[] = {
        {"{\"k\":null}", JSON_NULL, "null"},
        {"{\"k\":true}", JSON_TRUE, "true"},
        {"{ \"k\" : false }", JSON_FALSE, "false"},
        {"{\"k\":-1.5e3,\"l\":2}", JSON_NUMBER, "-1.5e3"},
        {"{\"k\":\"v\"}", JSON_STRING, "v"},
        {"{\"k\":\"\"}", JSON_STRING, ""},
        {"{\"k\":\"a\\\"b\\\\\"}", JSON_STRING, "a\\\"b\\\\"},
        {"{\"k\":[1,[2],\"]\"]}", JSON_ARRAY, "[1,[2],\"]\"]"},
        {"{\"k\":{\"k\":\"inner}\"}}", JSON_OBJECT, "{\"k\":\"inner}\"}"},
        {"\r\n\t {\"a\":{\"k\":1},\"k\":\"outer\"}", JSON_STRING, "outer"},
        {"{\"k\":1,\"k\":2}", JSON_NUMBER, "2"},
        {"{\"\\u006b\":7}", JSON_NUMBER, "7"},
        {"{\"a\":\"k\",\"b\":[\"k\"]}", JSON_NONE, ""},
        {"{}", JSON_NONE, ""},
        {"{\"K\":1}", JSON_NONE, ""},
        {"{\"kk\":1}", JSON_NONE, ""},
        {"[{\"k\":1}]", JSON_NONE, ""},
        {"\"k\"", JSON_NONE, ""},
        {"", JSON_NONE, ""},
        {"{\"k\":nul}", JSON_NONE, ""},
        {"{\"k\":\"no end", JSON_NONE, ""},
        {"{\"k\":}", JSON_NONE, ""},
        {"{\"k\"}", JSON_NONE, ""},
        {"{k:1}", JSON_NONE, ""},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct json_value v = json_scan_one(str_from(cases[i].text), STR("k"));
        ck_assert_msg(v.type == cases[i].type, "%s: %d", cases[i].text, v.type);
        ck_assert_msg(str_eq(v.text, str_from(cases[i].raw)), "%s", cases[i].text);
    }
}
END_TEST

START_TEST(true_only_for_an_object_that_ends)
{
    static const char text[] = "{\"a\":[1,{\"x\":\"}\\\"\"}],\"b\":\"\\\\\",\"c\":tru";
    static const char *const bad[] = {"{\"a\":1,}", "{,}",   "{\"a\" 1}", "{\"a\":1 \"b\":2}",
                                      "{\"a\":1]",  "{1:2}", "{\"a\"",    "{\""};
    struct json_want want = {.key = STR("b")};

    for (size_t n = 0; n < sizeof text; n++)
        ck_assert_msg(!scan_exact(text, n, &want, 1), "the first %zu", n);
    ck_assert_int_eq(want.value.type, JSON_STRING); /* what was found in a cut text stands */
    for (size_t i = 0; i < COUNT(bad); i++)
        ck_assert_msg(!json_scan(str_from(bad[i]), NULL, 0), "%s", bad[i]);
    ck_assert(json_scan(STR("{\"a\":1} trailing"), NULL, 0));
}
END_TEST

/* An old value must not survive into the next scan. */
START_TEST(wants_are_cleared)
{
    struct json_want want = {.key = STR("a")};

    ck_assert(json_scan(STR("{\"a\":1}"), &want, 1));
    ck_assert(!json_scan(STR("nothing"), &want, 1));
    ck_assert_int_eq(want.value.type, JSON_NONE);
}
END_TEST

static double seconds_for(const char *text, size_t n)
{
    clock_t start = clock();

    (void)json_scan((struct str){text, n}, NULL, 0);
    return (double)(clock() - start) / CLOCKS_PER_SEC;
}

/* Deep nesting, endless strings, nothing but quotes or backslashes: linear in time, flat in stack. */
START_TEST(huge_and_nasty)
{
    enum { N = 8 * 1024 * 1024 };
    static const char fills[] = "[{\"\\ ,:1";
    char *text = malloc(N);

    for (size_t i = 0; fills[i]; i++) {
        memset(text, fills[i], N);
        memcpy(text, "{\"a\":", 5);
        ck_assert_double_lt(seconds_for(text, N), 2);
        memcpy(text, "{\"a\":\"", 6);
        ck_assert_double_lt(seconds_for(text, N), 2);
    }
    for (size_t i = 6; i + 1 < N; i += 2)
        memcpy(text + i, "\\\"", 2);
    ck_assert_double_lt(seconds_for(text, N), 2);
    free(text);
}
END_TEST

/* The key finder reads any text that cJSON takes for an object, and sees the same types. */
START_TEST(agrees_with_a_parser_on_mutated_texts)
{
    static const char seed_text[] =
        "{\"model\":\"gpt-4o\",\"n\":1.5,\"stream\":true,\"x\":null,\"m\":[{\"a\":\"\\u00e9\\\"\"}]}";
    static const char alphabet[] = "{}[]\",:\\ \nntf0e-u";
    unsigned parsed = 0;
    char text[sizeof seed_text];

    for (unsigned round = 0; round < 200000; round++) {
        memcpy(text, seed_text, sizeof text);
        for (unsigned i = 0; i <= round % 3; i++)
            text[unit_below(sizeof text - 1)] = alphabet[unit_below(sizeof alphabet - 1)];
        struct json_want wants[] = {{.key = STR("model")}, {.key = STR("stream")}};
        bool whole = scan_exact(text, strlen(text), wants, 2);
        cJSON *tree = cJSON_Parse(text);
        if (tree && cJSON_IsObject(tree)) {
            parsed++;
            const cJSON *model = cJSON_GetObjectItemCaseSensitive(tree, "model");
            if (!whole || (model != NULL) != (wants[0].value.type != JSON_NONE))
                ck_abort_msg("%s", text);
            if (model && !!cJSON_IsString(model) != (wants[0].value.type == JSON_STRING))
                ck_abort_msg("%s", text);
        }
        cJSON_Delete(tree);
    }
    ck_assert_uint_gt(parsed, 10000);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "json");

    tcase_add_test(tcase, members_in_order);
    tcase_add_test(tcase, elements_in_order);
    tcase_add_test(tcase, ends_early_on_bad_text);
    tcase_add_test(tcase, kinds_are_not_mixed_up);
    tcase_add_test(tcase, walks_agree_with_a_parser_on_mutated_texts);
    tcase_add_test(tcase, keys_however_spelled);
    tcase_add_test(tcase, whole_numbers);
    tcase_add_test(tcase, values_of_every_type);
    tcase_add_test(tcase, true_only_for_an_object_that_ends);
    tcase_add_test(tcase, wants_are_cleared);
    tcase_add_test(tcase, huge_and_nasty);
    tcase_add_test(tcase, agrees_with_a_parser_on_mutated_texts);
}
