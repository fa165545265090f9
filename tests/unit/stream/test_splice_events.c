/* Single events of chat and completions, byte by byte: which ones splice rewrites, passes and
 * refuses. */

#include "stream/splice.h"

#include <check.h>

#include "splice_script.h"
#include "unit.h"

#define CHAT(delta) "{\"choices\":[{\"index\":0,\"delta\":" delta "}]}"
#define CONTENT(text) CHAT("{\"content\":\"" text "\"}")
#define END(reason) "{\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"" reason "\"}]}"
#define TOOL(index, rest) CHAT("{\"tool_calls\":[{\"index\":" #index "," rest "}]}")

START_TEST(text_is_cut_and_the_rest_kept)
{
    RUN(DIALECT_CHAT,
        {"{ \"id\":\"a\", \"x\":[1,\"id\"], \"choices\":[{\"delta\":{\"content\":\"Hel\"}}]}",
         SAME},
        {RESTART, ""},
        {"{ \"x\":[1,\"id\"], \"choices\":[{\"delta\":{\"content\":\"Hello\"},\"k\":1}], \"id\":\"b\" }",
         "{ \"x\":[1,\"id\"], \"choices\":[{\"delta\":{\"content\":\"lo\"},\"k\":1}], \"id\":\"a\" }"},
        {"{\"id\":\"b\",\"choices\":[{\"delta\":{\"content\":\"!\"}}]}",
         "{\"id\":\"a\",\"choices\":[{\"delta\":{\"content\":\"!\"}}]}"},
        {"{\"id\":\"a\",\"choices\":[{\"delta\":{\"content\":\"?\"}}]}", SAME}, {"[DONE]", SAME});
}
END_TEST

START_TEST(escapes)
{
    RUN(DIALECT_CHAT, {CONTENT("a\\u00e9\\n\\/\\\""), SAME}, {RESTART, ""},
        {CONTENT("\\u0061\xc3\xa9\\u000a/\\u0022"), SKIPPED}, {CONTENT("b"), SAME});
    RUN(DIALECT_CHAT, {CONTENT("a\\n"), SAME}, {RESTART, ""}, {CONTENT("a "), DIFFERS});
    RUN(DIALECT_CHAT, {CONTENT("a"), SAME}, {RESTART, ""},
        {CONTENT("a\\u00e9\\n\\\\"), CONTENT("\\u00e9\\n\\\\")});
    /* Half a character of UTF-8 is no half of a pair. */
    RUN(DIALECT_CHAT, {CONTENT("a\xe2"), SAME}, {RESTART, ""}, {CONTENT("a\\u20ac"), DIFFERS});
}
END_TEST

/* The two halves of a character may come in one event or in two, spelled in three ways. */
START_TEST(halves_of_a_pair)
{
    RUN(DIALECT_CHAT, {CONTENT("a\\ud83d"), SAME}, {RESTART, ""},
        {CONTENT("a\xf0\x9f\x98\x80z"), CONTENT("\\ude00z")}, {CONTENT("b"), SAME}, {RESTART, ""},
        {CONTENT("a\\uD83D\\uDE00"), SKIPPED}, {CONTENT("zbc"), CONTENT("c")});
    RUN(DIALECT_CHAT, {CONTENT("a\\ud83d"), SAME}, {RESTART, ""},
        {CONTENT("a\\ud83d\\ude00"), CONTENT("\\ude00")});
    RUN(DIALECT_CHAT, {CONTENT("a\\ud83d"), SAME}, {CONTENT("\\ude00"), SAME}, {RESTART, ""},
        {CONTENT("a\xf0\x9f\x98\x80"), SKIPPED}, {CONTENT("b"), SAME});
    RUN(DIALECT_CHAT, {CONTENT("\xf0\x9f\x98\x80"), SAME}, {RESTART, ""},
        {CONTENT("\\ud83d"), SKIPPED}, {CONTENT("\\ude00b"), CONTENT("b")});
    RUN(DIALECT_CHAT, {CONTENT("a\\ud83d"), SAME}, {RESTART, ""},
        {CONTENT("a\xf0\x9f\xa8\x80z"), DIFFERS});
    RUN(DIALECT_CHAT, {CONTENT("a\\ud83d\\ude00"), SAME}, {RESTART, ""},
        {CONTENT("a\xf0\x9f\x98\x81"), DIFFERS});
}
END_TEST

START_TEST(an_earlier_end_differs)
{
    RUN(DIALECT_CHAT, {CONTENT("Hello"), SAME}, {RESTART, ""}, {CONTENT("Hell"), SKIPPED},
        {END("stop"), DIFFERS});
    RUN(DIALECT_CHAT, {CONTENT("Hello"), SAME}, {RESTART, ""}, {CONTENT("Hell"), SKIPPED},
        {"[DONE]", DIFFERS});
    RUN(DIALECT_CHAT, {CONTENT("Hello"), SAME}, {RESTART, ""}, {"[DONE]", DIFFERS});
    RUN(DIALECT_CHAT, {CONTENT("Hello"), SAME}, {RESTART, ""},
        {"{\"choices\":[{\"finish_reason\":\"stop\",\"delta\":{\"content\":\"Hello!\"}}]}",
         "{\"choices\":[{\"finish_reason\":\"stop\",\"delta\":{\"content\":\"!\"}}]}"});
    RUN(DIALECT_CHAT, {CONTENT("Hello"), SAME}, {END("stop"), SAME}, {RESTART, ""},
        {CONTENT("Hello!"), DIFFERS});
    RUN(DIALECT_CHAT, {CONTENT("Hello"), SAME}, {END("stop"), SAME}, {RESTART, ""},
        {CONTENT("Hello"), SKIPPED}, {END("length"), DIFFERS});
}
END_TEST

/* New text of one channel where another of the same choice lags behind is another order. */
START_TEST(another_order_differs)
{
    RUN(DIALECT_CHAT, {CONTENT("Hello"), SAME}, {RESTART, ""}, {CONTENT("He"), SKIPPED},
        {CHAT("{\"refusal\":\"no\"}"), DIFFERS});
    RUN(DIALECT_CHAT, {CONTENT("Hello"), SAME}, {RESTART, ""},
        {TOOL(0, "\"id\":\"c\",\"function\":{\"name\":\"f\",\"arguments\":\"\"}"), DIFFERS});
    RUN(DIALECT_CHAT, {CONTENT("Hello"), SAME}, {RESTART, ""},
        {"{\"choices\":[{\"index\":1,\"delta\":{\"content\":\"x\"}}]}", SAME},
        {CONTENT("Hello "), CONTENT(" ")});
    RUN(DIALECT_CHAT, {CONTENT("Hi"), SAME}, {RESTART, ""},
        {CHAT("{\"content\":\"Hi\",\"refusal\":\"no\"}"),
         CHAT("{\"content\":\"\",\"refusal\":\"no\"}")});
}
END_TEST

/* A client adds an id or a role up as often as it gets one. */
START_TEST(what_is_given_once)
{
    RUN(DIALECT_CHAT,
        {TOOL(0, "\"id\":\"c1\",\"function\":{\"name\":\"f\",\"arguments\":\"{\"}"), SAME},
        {RESTART, ""},
        {TOOL(0, "\"id\":\"c2\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}"),
         TOOL(0, "\"id\":null,\"function\":{\"name\":\"\",\"arguments\":\"}\"}")},
        {TOOL(1, "\"id\":\"c3\",\"function\":{\"name\":\"g\"}"), SAME}, {RESTART, ""},
        {TOOL(0, "\"id\":\"c5\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}"), SKIPPED},
        {TOOL(1, "\"id\":\"c6\",\"function\":{\"name\":\"g\",\"arguments\":\"x\"}"),
         TOOL(1, "\"id\":null,\"function\":{\"name\":\"\",\"arguments\":\"x\"}")});
    /* If the provider repeats it, so do the following events. */
    RUN(DIALECT_CHAT, {TOOL(0, "\"id\":\"c1\",\"function\":{\"arguments\":\"{\"}"), SAME},
        {TOOL(0, "\"id\":\"c1\",\"function\":{\"arguments\":\"}\"}"), SAME}, {RESTART, ""},
        {TOOL(0, "\"id\":\"c2\",\"function\":{\"arguments\":\"{}x\"}"),
         TOOL(0, "\"id\":\"c1\",\"function\":{\"arguments\":\"x\"}")});
    RUN(DIALECT_CHAT, {CHAT("{\"role\":\"assistant\",\"content\":\"a\"}"), SAME}, {RESTART, ""},
        {CHAT("{\"role\":\"assistant\",\"content\":\"ab\"}"),
         CHAT("{\"role\":null,\"content\":\"b\"}")});
    RUN(DIALECT_CHAT, {CHAT("{\"audio\":{\"id\":\"a1\",\"transcript\":\"t\"}}"), SAME},
        {RESTART, ""},
        {CHAT("{\"audio\":{\"id\":\"a2\",\"transcript\":\"tu\",\"expires_at\":1}}"),
         CHAT("{\"audio\":{\"id\":null,\"transcript\":\"u\",\"expires_at\":1}}")});
    /* That it was taken out of an event is not that it was given again. */
    RUN(DIALECT_CHAT, {CHAT("{\"role\":\"r\",\"content\":\"a\"}"), SAME}, {RESTART, ""},
        {CHAT("{\"role\":\"r\",\"content\":\"ab\"}"), CHAT("{\"role\":null,\"content\":\"b\"}")},
        {RESTART, ""},
        {CHAT("{\"role\":\"r\",\"content\":\"abc\"}"), CHAT("{\"role\":null,\"content\":\"c\"}")});
}
END_TEST

START_TEST(tool_calls_of_other_kinds)
{
    RUN(DIALECT_CHAT, {CHAT("{\"function_call\":{\"name\":\"f\",\"arguments\":\"ab\"}}"), SAME},
        {RESTART, ""}, {CHAT("{\"function_call\":{\"name\":\"f\",\"arguments\":\"a\"}}"), SKIPPED},
        {CHAT("{\"function_call\":{\"arguments\":\"bc\"}}"),
         CHAT("{\"function_call\":{\"arguments\":\"c\"}}")});
    RUN(DIALECT_CHAT, {TOOL(0, "\"custom\":{\"input\":\"ab\"}"), SAME}, {RESTART, ""},
        {TOOL(0, "\"custom\":{\"input\":\"abc\"}"), TOOL(0, "\"custom\":{\"input\":\"c\"}")});
    /* Without an index their place is their position. */
    RUN(DIALECT_CHAT,
        {CHAT("{\"tool_calls\":[{\"function\":{\"name\":\"f\"}},{\"function\":{\"name\":\"g\"}}]}"),
         SAME},
        {RESTART, ""},
        {CHAT(
             "{\"tool_calls\":[{\"function\":{\"name\":\"f\"}},{\"function\":{\"name\":\"gh\"}}]}"),
         CHAT(
             "{\"tool_calls\":[{\"function\":{\"name\":\"\"}},{\"function\":{\"name\":\"h\"}}]}")});
}
END_TEST

/* The same name in another object is another channel. */
START_TEST(objects_are_told_apart)
{
    RUN(DIALECT_CHAT, {TOOL(0, "\"function\":{\"name\":\"f\"}"), SAME}, {RESTART, ""},
        {TOOL(0, "\"custom\":{\"name\":\"f\"}"), DIFFERS});
    RUN(DIALECT_CHAT, {CHAT("{\"function_call\":{\"name\":\"f\"}}"), SAME}, {RESTART, ""},
        {CHAT("{\"name\":\"f\"}"), DIFFERS});
    RUN(DIALECT_CHAT, {CHAT("{\"audio\":{\"transcript\":\"f\"}}"), SAME}, {RESTART, ""},
        {CHAT("{\"transcript\":\"f\"}"), DIFFERS});
}
END_TEST

START_TEST(tool_calls_that_cannot_be_told_apart)
{
    static const char one[] = TOOL(0, "\"id\":\"c1\",\"function\":{\"arguments\":\"{\"}");
    static const char two[] = TOOL(0, "\"id\":\"c2\",\"function\":{\"arguments\":\"{\"}");
    struct splice *s = splice_new(DIALECT_CHAT, 10000);

    ck_assert_int_eq(splice_event(s, STR(one), STR(one), NULL), SPLICE_PASS);
    ck_assert(splice_possible(s));
    ck_assert_int_eq(splice_event(s, STR(two), STR(two), NULL), SPLICE_PASS);
    ck_assert(!splice_possible(s));
    ck_assert_int_eq(splice_event(s, STR(one), STR(one), NULL), SPLICE_PASS);
    splice_free(s);
}
END_TEST

START_TEST(unknown_members)
{
    RUN(DIALECT_CHAT, {CHAT("{\"thoughts\":\"ab\",\"n\":1}"), SAME},
        {CHAT("{\"refs\":[{\"u\":1}]}"), SAME}, {RESTART, ""},
        {CHAT("{\"thoughts\":\"a\"}"), SKIPPED}, {CHAT("{\"refs\":[{\"u\":9}]}"), SKIPPED},
        {CHAT("{\"thoughts\":\"bc\",\"refs\":[]}"), CHAT("{\"thoughts\":\"c\",\"refs\":[]}")},
        {CHAT("{\"refs\":[{\"u\":2}]}"), SAME});
    RUN(DIALECT_CHAT, {CHAT("{\"refs\":[{\"u\":1}]}"), SAME}, {RESTART, ""},
        {CHAT("{\"refs\":[{\"u\":1}],\"content\":\"a\"}"),
         CHAT("{\"refs\":null,\"content\":\"a\"}")});
    /* Events that say nothing are skipped as often as they went out. */
    RUN(DIALECT_CHAT, {CHAT("{}"), SAME}, {"{\"choices\":[]}", SAME}, {RESTART, ""},
        {CHAT("{}"), SKIPPED}, {CHAT("{}"), SKIPPED}, {CHAT("{}"), SAME});
    RUN(DIALECT_CHAT, {CHAT("{\"refs\":[{\"u\":1}]}"), SAME}, {RESTART, ""},
        {CHAT("{\"refs\":[]}"), SAME}, {CHAT("{\"refs\":[{\"u\":1}]}"), SKIPPED});
}
END_TEST

START_TEST(logprobs_of_a_cut_text)
{
    RUN(DIALECT_COMPLETIONS, {"{\"choices\":[{\"text\":\"ab\",\"logprobs\":{\"t\":[1]}}]}", SAME},
        {RESTART, ""},
        {"{\"choices\":[{\"text\":\"abc\",\"logprobs\":{\"t\":[1,2]}}]}",
         "{\"choices\":[{\"text\":\"c\",\"logprobs\":null}]}"},
        {"{\"choices\":[{\"text\":\"d\",\"logprobs\":{\"t\":[3]}}]}", SAME});
    RUN(DIALECT_COMPLETIONS, {"{\"choices\":[{\"index\":0,\"text\":\"a\"}]}", SAME}, {RESTART, ""},
        {"{\"choices\":[{\"index\":0,\"text\":\"ab\",\"logprobs\":{}},"
         "{\"index\":1,\"text\":\"c\",\"logprobs\":{}}]}",
         "{\"choices\":[{\"index\":0,\"text\":\"b\",\"logprobs\":null},"
         "{\"index\":1,\"text\":\"c\",\"logprobs\":{}}]}"});
}
END_TEST

/* Azure names the response only in its second chunk. */
START_TEST(names_that_come_late)
{
    RUN(DIALECT_CHAT, {"{\"id\":\"\",\"created\":0,\"model\":\"\",\"choices\":[]}", SAME},
        {"{\"id\":\"a\",\"created\":1,\"model\":\"m\",\"choices\":[{\"delta\":{\"content\":\"x\"}}]}",
         SAME},
        {RESTART, ""}, {"{\"id\":\"\",\"created\":0,\"model\":\"\",\"choices\":[]}", SKIPPED},
        {"{\"id\":\"b\",\"created\":2,\"model\":\"n\",\"choices\":[{\"delta\":{\"content\":\"xy\"}}]}",
         "{\"id\":\"a\",\"created\":1,\"model\":\"m\",\"choices\":[{\"delta\":{\"content\":\"y\"}}]}"},
        {"{\"id\":\"\",\"created\":0,\"choices\":[{\"delta\":{\"content\":\"z\"}}]}", SAME});
}
END_TEST

#define USAGE "\"usage\":{\"total_tokens\":1}"

START_TEST(usage_is_told_once)
{
    RUN(DIALECT_CHAT, {CONTENT("a"), SAME}, {END("stop"), SAME}, {RESTART, ""},
        {CONTENT("a"), SKIPPED}, {END("stop"), SKIPPED}, {"{\"choices\":[]," USAGE "}", SAME},
        {RESTART, ""}, {CONTENT("a"), SKIPPED}, {END("stop"), SKIPPED},
        {"{\"choices\":[]," USAGE "}", SKIPPED}, {"[DONE]", SAME});
    /* With the end, which the client has already, in one event. */
    RUN(DIALECT_CHAT, {CONTENT("a"), SAME}, {END("stop"), SAME}, {RESTART, ""},
        {CONTENT("a"), SKIPPED},
        {"{\"choices\":[{\"finish_reason\":\"stop\"}]," USAGE "}",
         "{\"choices\":[{\"finish_reason\":null}]," USAGE "}"});
    /* With each text it goes along. */
    RUN(DIALECT_CHAT, {"{\"choices\":[{\"delta\":{\"content\":\"ab\"}}]," USAGE "}", SAME},
        {RESTART, ""}, {"{\"choices\":[{\"delta\":{\"content\":\"a\"}}]," USAGE "}", SKIPPED},
        {"{\"choices\":[{\"delta\":{\"content\":\"bc\"}}]," USAGE "}",
         "{\"choices\":[{\"delta\":{\"content\":\"c\"}}]," USAGE "}"});
    RUN(DIALECT_CHAT, {"{\"choices\":[{\"delta\":{\"content\":\"ab\"}}]," USAGE "}", SAME},
        {RESTART, ""}, {"{\"choices\":[{\"delta\":{\"content\":\"a\"}}]," USAGE "}", SKIPPED},
        {"{\"choices\":[{\"delta\":{\"content\":\"b\"}}]," USAGE "}", SKIPPED});
}
END_TEST

/* --- the event around the data ---------------------------------------------------------------- */

START_TEST(data_of_several_lines)
{
    static const char first[] = "data: " CONTENT("ab") "\n\n";
    static const char lines[] = ": c\r\nevent: e\r\ndata: {\"choices\":[\r\nid: 1\r\ndata\r\n"
                                "data:{\"delta\":{\"content\":\"abc\"}}]}\r\ndatum: 1\r\n\r\n";
    static const char joined[] = "{\"choices\":[\n\n{\"delta\":{\"content\":\"abc\"}}]}";
    static const char want[] =
        ": c\r\nevent: e\r\ndata: {\"choices\":[  {\"delta\":{\"content\":\"c\"}}]}\n"
        "id: 1\r\ndatum: 1\r\n\r\n";
    struct splice *s = splice_new(DIALECT_CHAT, 1000);
    struct buf out;

    buf_init(&out, 1000);
    ck_assert_int_eq(splice_event(s, STR(first), (struct str){first + 6, sizeof first - 9}, &out),
                     SPLICE_PASS);
    splice_restart(s);
    ck_assert_int_eq(splice_event(s, STR(lines), STR(joined), &out), SPLICE_REWRITTEN);
    ck_assert_msg(str_eq(buf_str(&out), STR(want)), "%.*s", (int)out.len, out.p);
    buf_deinit(&out);
    splice_free(s);
}
END_TEST

START_TEST(no_room_for_the_event)
{
    static const char first[] = CONTENT("ab"), second[] = CONTENT("abc");
    struct splice *s = splice_new(DIALECT_CHAT, 1000);
    struct buf out;

    buf_init(&out, 10);
    ck_assert_int_eq(splice_event(s, STR(first), STR(first), &out), SPLICE_PASS);
    splice_restart(s);
    ck_assert_int_eq(splice_event(s, STR(second), STR(second), &out), SPLICE_FAILED);
    ck_assert(!splice_possible(s));
    buf_deinit(&out);
    splice_free(s);
    splice_free(NULL);
}
END_TEST

/* The last of two members counts, as it does for a parser; no span is replaced twice. */
START_TEST(keys_that_stand_twice)
{
    RUN(DIALECT_CHAT, {CONTENT("ab"), SAME}, {RESTART, ""},
        {"{\"choices\":[{\"delta\":{\"content\":\"zz\"},\"delta\":{\"content\":\"abc\"}}]}",
         "{\"choices\":[{\"delta\":{\"content\":\"zz\"},\"delta\":{\"content\":\"c\"}}]}"});
}
END_TEST

#define NAMED(id, created, rest) \
    "{\"id\":" id ",\"created\":" created ",\"choices\":[{\"delta\":" rest "}]}"
#define SAYS(text) "{\"content\":\"" text "\"}"

/* The client reads the first response's value in the first response's type, quotes included. */
START_TEST(names_of_another_type)
{
    RUN(DIALECT_CHAT, {NAMED("\"A\\n\"", "5", SAYS("a")), SAME}, {RESTART, ""},
        {NAMED("3", "\"5\"", SAYS("ab")), NAMED("\"A\\n\"", "5", SAYS("b"))},
        {NAMED("null", "null", SAYS("c")), NAMED("\"A\\n\"", "5", SAYS("c"))},
        {NAMED("true", "[1]", SAYS("d")), NAMED("\"A\\n\"", "5", SAYS("d"))},
        {NAMED("{\"a\":[]}", "5.5", SAYS("e")), NAMED("\"A\\n\"", "5", SAYS("e"))});
    RUN(DIALECT_CHAT, {NAMED("-3.5e1", "\"now\"", SAYS("a")), SAME}, {RESTART, ""},
        {NAMED("\"B\"", "7", SAYS("ab")), NAMED("-3.5e1", "\"now\"", SAYS("b"))},
        {NAMED("-3.5e1", "\"now\"", SAYS("c")), SAME});
    RUN(DIALECT_CHAT, {NAMED("true", "1", SAYS("a")), SAME}, {RESTART, ""},
        {NAMED("false", "1", SAYS("ab")), NAMED("true", "1", SAYS("b"))});
    /* Not known from the first response: the second's own, from then on. */
    RUN(DIALECT_CHAT, {NAMED("null", "0", SAYS("a")), SAME}, {RESTART, ""},
        {NAMED("3", "\"x\"", SAYS("ab")), NAMED("3", "\"x\"", SAYS("b"))}, {RESTART, ""},
        {NAMED("\"B\"", "4", SAYS("abc")), NAMED("3", "\"x\"", SAYS("c"))});
}
END_TEST

START_TEST(what_is_given_once_in_another_type)
{
    RUN(DIALECT_CHAT, {TOOL(0, "\"id\":\"c1\",\"function\":{\"arguments\":\"{\"}"), SAME},
        {RESTART, ""},
        {TOOL(0, "\"id\":2,\"function\":{\"arguments\":\"{}\"}"),
         TOOL(0, "\"id\":null,\"function\":{\"arguments\":\"}\"}")});
    RUN(DIALECT_CHAT, {TOOL(0, "\"id\":1,\"function\":{\"arguments\":\"{\"}"), SAME},
        {TOOL(0, "\"id\":1,\"function\":{\"arguments\":\"}\"}"), SAME}, {RESTART, ""},
        {TOOL(0, "\"id\":\"c2\",\"function\":{\"arguments\":\"{}x\"}"),
         TOOL(0, "\"id\":1,\"function\":{\"arguments\":\"x\"}")});
    RUN(DIALECT_CHAT, {CHAT("{\"role\":\"assistant\",\"content\":\"a\"}"), SAME}, {RESTART, ""},
        {CHAT("{\"role\":1,\"content\":\"ab\"}"), CHAT("{\"role\":null,\"content\":\"b\"}")});
}
END_TEST

/* A value that the client has as text must not be a list, an object or a number in the response
 * that continues it. */
START_TEST(text_of_another_type_differs)
{
    RUN(DIALECT_CHAT, {CONTENT("Hello"), SAME}, {RESTART, ""},
        {CHAT("{\"content\":[{\"type\":\"text\",\"text\":\"Hello\"}]}"), DIFFERS});
    RUN(DIALECT_CHAT, {CONTENT("Hello"), SAME}, {RESTART, ""},
        {CHAT("{\"content\":{\"a\":1}}"), DIFFERS});
    RUN(DIALECT_CHAT, {CONTENT("5"), SAME}, {RESTART, ""}, {CHAT("{\"content\":5}"), DIFFERS});
    RUN(DIALECT_CHAT, {CONTENT("true"), SAME}, {RESTART, ""},
        {CHAT("{\"content\":true}"), DIFFERS});
    RUN(DIALECT_CHAT, {CONTENT("Hello"), SAME}, {RESTART, ""},
        {CHAT("{\"role\":\"r\",\"content\":null}"), SAME}, {CONTENT("Hello!"), CONTENT("!")});
    RUN(DIALECT_CHAT, {TOOL(0, "\"function\":{\"name\":\"f\",\"arguments\":\"{\"}"), SAME},
        {RESTART, ""}, {TOOL(0, "\"function\":{\"name\":\"f\",\"arguments\":{\"a\":1}}"), DIFFERS});
    RUN(DIALECT_CHAT, {CHAT("{\"content\":[{\"text\":\"He\"}]}"), SAME}, {RESTART, ""},
        {CONTENT("Hello"), DIFFERS});
    RUN(DIALECT_COMPLETIONS, {"{\"choices\":[{\"index\":0,\"text\":\"He\"}]}", SAME}, {RESTART, ""},
        {"{\"choices\":[{\"index\":0,\"text\":7}]}", DIFFERS});
}
END_TEST

/* Some models think in lists and answer in text, in one field. */
START_TEST(lists_and_then_text_in_one_field)
{
    RUN(DIALECT_CHAT, {CHAT("{\"content\":[{\"thinking\":\"x\"}]}"), SAME}, {CONTENT("He"), SAME},
        {RESTART, ""}, {CHAT("{\"content\":[{\"thinking\":\"x\"}]}"), SKIPPED},
        {CONTENT("Hello"), CONTENT("llo")}, {CHAT("{\"content\":[{\"thinking\":\"y\"}]}"), SAME});
}
END_TEST

/* To a client "0" is another choice than 0. */
START_TEST(an_index_of_another_type_differs)
{
    RUN(DIALECT_CHAT, {CONTENT("He"), SAME}, {RESTART, ""},
        {"{\"choices\":[{\"index\":\"0\",\"delta\":{\"content\":\"Hello\"}}]}", DIFFERS});
    RUN(DIALECT_CHAT, {TOOL(0, "\"function\":{\"arguments\":\"{\"}"), SAME}, {RESTART, ""},
        {CHAT("{\"tool_calls\":[{\"index\":\"0\",\"function\":{\"arguments\":\"{}\"}}]}"),
         DIFFERS});
    RUN(DIALECT_CHAT, {CONTENT("He"), SAME}, {RESTART, ""},
        {"{\"choices\":[{\"index\":null,\"delta\":{\"content\":\"Hello\"}}]}",
         "{\"choices\":[{\"index\":null,\"delta\":{\"content\":\"llo\"}}]}"});
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "splice_events");

    tcase_add_test(tcase, text_is_cut_and_the_rest_kept);
    tcase_add_test(tcase, escapes);
    tcase_add_test(tcase, halves_of_a_pair);
    tcase_add_test(tcase, an_earlier_end_differs);
    tcase_add_test(tcase, another_order_differs);
    tcase_add_test(tcase, what_is_given_once);
    tcase_add_test(tcase, tool_calls_of_other_kinds);
    tcase_add_test(tcase, objects_are_told_apart);
    tcase_add_test(tcase, tool_calls_that_cannot_be_told_apart);
    tcase_add_test(tcase, unknown_members);
    tcase_add_test(tcase, logprobs_of_a_cut_text);
    tcase_add_test(tcase, names_that_come_late);
    tcase_add_test(tcase, usage_is_told_once);
    tcase_add_test(tcase, data_of_several_lines);
    tcase_add_test(tcase, no_room_for_the_event);
    tcase_add_test(tcase, keys_that_stand_twice);
    tcase_add_test(tcase, names_of_another_type);
    tcase_add_test(tcase, what_is_given_once_in_another_type);
    tcase_add_test(tcase, text_of_another_type_differs);
    tcase_add_test(tcase, lists_and_then_text_in_one_field);
    tcase_add_test(tcase, an_index_of_another_type_differs);
}
