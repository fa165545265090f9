/* Fingerprints: equal for texts with the same meaning, in pieces of any size, and different for all
 * others. */
#include "http/json.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unit.h"

#define DEPTH JSON_SUM_DEPTH

/* The fingerprint of two pieces, cut at `at`; of single bytes if that is SIZE_MAX. */
static bool cut(struct str s, size_t at, uint64_t *ret)
{
    struct json_stream stream;
    struct json_sum sum;
    size_t n;

    json_stream_init(&stream);
    json_stream_sum(&stream, &sum);
    for (size_t done = 0; done < s.n; done += n) {
        n = at == SIZE_MAX ? 1 : done < at && at < s.n ? at - done : s.n - done;
        char *copy = malloc(n); /* of its own, so that a sanitizer sees reads beyond */
        memcpy(copy, s.p + done, n);
        json_stream_feed(&stream, (struct str){copy, n});
        free(copy);
    }
    return json_stream_fingerprint(&stream, ret);
}

static uint64_t of(const char *text)
{
    uint64_t id = 0;

    ck_assert_msg(cut(str_from(text), 0, &id), "%s", text);
    return id;
}

static const char *const same[][2] = {
    {"{}", " { } "},
    {"{\"a\":1,\"b\":2}", "{\"b\":2,\"a\":1}"},
    {"{\"a\":1,\"b\":2,\"c\":3}", "{\n\t\"c\" : 3 ,\r\n \"a\": 1, \"b\" :2 }\n"},
    {"{\"a\":{\"b\":{\"c\":[{\"d\":1,\"e\":\"x\"},2],\"f\":null}},\"g\":true}",
     "{\"g\":true,\"a\":{\"b\":{\"f\":null,\"c\":[{\"e\":\"x\",\"d\":1},2]}}}"},
    {"[{\"a\":[],\"b\":{}},{\"c\":\"\"}]", "[{\"b\":{},\"a\":[]} , {\"c\":\"\"}]"},
    {"{\"a\":1,\"a\":2}", "{\"a\":2,\"a\":1}"},
    {"{\"x\\\"\":\"}\",\"y\\\\\":\",\"}", "{\"y\\\\\":\",\",\"x\\\"\":\"}\"}"},
};

START_TEST(order_of_members_and_white_space_do_not_count)
{
    ck_assert_uint_eq(of(same[_i][0]), of(same[_i][1]));
}
END_TEST

/* None is another's fingerprint. */
static const char *const different[] = {
    "{}",
    "[]",
    "[[]]",
    "[{}]",
    "[[],[]]",
    "{\"\":\"\"}",
    "{\"a\":1}",
    "{\"a\":\"1\"}",
    "{\"a\":1.0}",
    "{\"a\":1e0}",
    "{\"a\":12}",
    "{\"a\":true}",
    "{\"a\":\"true\"}",
    "{\"a\":null}",
    "{\"a\":[1]}",
    "{\"a\":{\"1\":1}}",
    "{\"A\":1}",
    "{\"a \":1}",
    "{\"1\":\"a\"}",
    "{\"a\":\"b\"}",
    "{\"b\":\"a\"}",
    "{\"a\":1,\"a\":1}",
    "{\"a\":1,\"a\":1,\"a\":1}",
    "{\"a\":1,\"a\":1,\"b\":2}",
    "{\"a\":1,\"b\":2}",
    "{\"a\":2,\"b\":1}",
    "{\"a\":1,\"b\":{\"a\":1}}",
    "{\"a\":{\"a\":1},\"b\":1}",
    "{\"a\":{\"a\":1,\"b\":1}}",
    "[1,2]",
    "[2,1]",
    "[12]",
    "[1,1]",
    "[1]",
    "[\"1\",2]",
    "[[1],2]",
    "[1,[2]]",
    "[[1,2]]",
    "[{\"a\":1},{\"b\":2}]",
    "[{\"b\":2},{\"a\":1}]",
    "[{\"a\":1,\"b\":2}]",
    "[[\"a\",1],[\"b\",2]]",
    "[\"a,b\"]",
    "[\"a\",\"b\"]",
    "[\"a\\\",\\\"b\"]",
    "[\"a\\\\\",\"b\"]",
    "[\"a\\\\\\\",\\\"b\"]",
    "[\"a \"]",
    "[\" a\"]",
};

START_TEST(what_differs_differs)
{
    for (size_t i = 0; i < COUNT(different); i++)
        for (size_t j = 0; j < i; j++)
            ck_assert_msg(of(different[i]) != of(different[j]), "%s %s", different[i],
                          different[j]);
}
END_TEST

static void at_any_split(struct str text)
{
    uint64_t whole, other = 0;

    ck_assert(cut(text, 0, &whole));
    for (size_t at = 1; at < text.n; at++) {
        ck_assert(cut(text, at, &other));
        ck_assert_uint_eq(other, whole);
    }
    ck_assert(cut(text, SIZE_MAX, &other));
    ck_assert_uint_eq(other, whole);
}

START_TEST(it_is_the_same_at_any_split)
{
    for (size_t i = 0; i < COUNT(same); i++)
        for (size_t j = 0; j < 2; j++)
            at_any_split(str_from(same[i][j]));
    for (size_t i = 0; i < COUNT(different); i++)
        at_any_split(str_from(different[i]));
    at_any_split(
        STR("{\"k\\\\\\\"\":-12.5e+10,\"\\u0022\":[true,\"\\\\\",\"\\\"\\\\\"],\"\":\"long "
            "enough for more than one block of the hash beneath: 0123456789abcdef\"}"));
}
END_TEST

static struct str nested(unsigned depth, char *text)
{
    memset(text, '[', depth);
    memset(text + depth, ']', depth);
    return (struct str){text, 2 * (size_t)depth};
}

START_TEST(depth_is_bounded)
{
    char text[6 * DEPTH];
    uint64_t id, less;

    ck_assert(cut(nested(DEPTH - 1, text), 0, &less));
    ck_assert(cut(nested(DEPTH, text), 0, &id));
    ck_assert_uint_ne(id, less);
    ck_assert(!cut(nested(DEPTH + 1, text), 0, &id));
    ck_assert(!cut(nested(3 * DEPTH, text), SIZE_MAX, &id));
}
END_TEST

/* Brackets that do not match, and texts that end early. */
START_TEST(no_object_and_no_array_has_none)
{
    static const char *const none[] = {"{",          "[",    "}",  "{}}",
                                       "{\"a\":1}]", "{\"a", "12", "{\"a\":1"};
    uint64_t id;

    ck_assert(!cut(str_from(none[_i]), 0, &id));
    ck_assert(!cut(str_from(none[_i]), SIZE_MAX, &id));
}
END_TEST

#define MANY 1000

/* Many members in that order, each an object whose members stand in one order or the other. */
static uint64_t of_many(const unsigned order[MANY], bool forth)
{
    static char text[MANY * 64];
    size_t n = 0;

    for (unsigned i = 0; i < MANY; i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n,
                              forth ? "%s\"k%u\":{\"a\":%u,\"b\":0}"
                                    : "%s\"k%u\":{\"b\":0,\"a\":%u}",
                              i ? "," : "{", order[i], order[i]);
    ck_assert_uint_lt(n + 1, sizeof(text));
    memcpy(text + n, "}", 2);
    return of(text);
}

START_TEST(any_order_of_many)
{
    unsigned order[MANY];
    uint64_t first;

    for (unsigned i = 0; i < MANY; i++)
        order[i] = i;
    first = of_many(order, true);
    for (int round = 0; round < 20; round++) {
        for (unsigned i = MANY - 1; i > 0; i--) {
            unsigned j = (unsigned)unit_below(i + 1), kept = order[i];

            order[i] = order[j];
            order[j] = kept;
        }
        ck_assert_uint_eq(of_many(order, round % 2), first);
    }
    order[7] = order[8];
    ck_assert_uint_ne(of_many(order, true), first);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "json_stream_sum");

    tcase_add_loop_test(tcase, order_of_members_and_white_space_do_not_count, 0, COUNT(same));
    tcase_add_test(tcase, what_differs_differs);
    tcase_add_test(tcase, it_is_the_same_at_any_split);
    tcase_add_test(tcase, depth_is_bounded);
    tcase_add_loop_test(tcase, no_object_and_no_array_has_none, 0, 8);
    tcase_add_test(tcase, any_order_of_many);
}
