/* Single events of Responses, byte by byte: ids, numbers, items, and the position at which a stream
 * is resumed. */

#include "stream/splice.h"

#include <check.h>

#include "splice_script.h"
#include "unit.h"

#define SEQ(n) "\"sequence_number\":" #n
#define DELTA(n, item, text)                                                                     \
    "{\"type\":\"response.output_text.delta\"," SEQ(n) ",\"item_id\":\"" item                    \
                                                       "\",\"output_index\":0,\"delta\":\"" text \
                                                       "\"}"
#define ITEM(kind, n, fields)                                                                     \
    "{\"type\":\"response.output_item." kind "\"," SEQ(n) ",\"output_index\":0,\"item\":{" fields \
                                                          "}}"

START_TEST(numbers_and_ids_go_on)
{
    RUN(DIALECT_RESPONSES,
        {"{\"type\":\"response.created\"," SEQ(0) ",\"response\":{\"id\":\"r1\",\"created_at\":1}}",
         SAME},
        {ITEM("added", 1, "\"id\":\"m1\",\"type\":\"message\""), SAME},
        {DELTA(2, "m1", "ab"), SAME}, {RESTART, ""},
        {"{\"type\":\"response.created\"," SEQ(0) ",\"response\":{\"id\":\"r2\",\"created_at\":2}}",
         SKIPPED},
        {"{\"type\":\"response.queued\"," SEQ(1) ",\"response\":{\"id\":\"r2\",\"created_at\":2}}",
         "{\"type\":\"response.queued\"," SEQ(3) ",\"response\":{\"id\":\"r1\",\"created_at\":1}}"},
        {ITEM("added", 2, "\"id\":\"m2\",\"type\":\"message\""), SKIPPED},
        {DELTA(3, "m2", "a"), SKIPPED}, {DELTA(4, "m2", "bc"), DELTA(4, "m1", "c")},
        {DELTA(5, "m2", "d"), DELTA(5, "m1", "d")}, {DELTA(7, "m1", "e"), DELTA(6, "m1", "e")},
        {ITEM("done", 8, "\"id\":\"m2\",\"type\":\"message\""),
         ITEM("done", 7, "\"id\":\"m1\",\"type\":\"message\"")},
        {"{\"type\":\"response.completed\"," SEQ(
             9) ",\"response\":{\"id\":\"r2\",\"output\":["
                "{\"id\":\"m2\",\"type\":\"message\"},{\"id\":\"f2\",\"call_id\":\"c2\"}]}}",
         "{\"type\":\"response.completed\"," SEQ(
             8) ",\"response\":{\"id\":\"r1\",\"output\":["
                "{\"id\":\"m1\",\"type\":\"message\"},{\"id\":\"f2\",\"call_id\":\"c2\"}]}}"});
}
END_TEST

START_TEST(another_kind_of_item_differs)
{
    RUN(DIALECT_RESPONSES, {ITEM("added", 0, "\"type\":\"message\""), SAME}, {RESTART, ""},
        {ITEM("added", 0, "\"type\":\"reasoning\""), DIFFERS});
    RUN(DIALECT_RESPONSES, {ITEM("added", 0, "\"type\":\"function_call\",\"name\":\"f\""), SAME},
        {RESTART, ""}, {ITEM("added", 0, "\"type\":\"function_call\",\"name\":\"g\""), DIFFERS});
    RUN(DIALECT_RESPONSES,
        {"{\"type\":\"response.content_part.added\",\"output_index\":0,\"content_index\":0,"
         "\"part\":{\"type\":\"output_text\"}}",
         SAME},
        {RESTART, ""},
        {"{\"type\":\"response.content_part.added\",\"output_index\":0,\"content_index\":0,"
         "\"part\":{\"type\":\"refusal\"}}",
         DIFFERS});
}
END_TEST

#define TEXT_DONE(n, text) \
    "{\"type\":\"response.output_text.done\"," SEQ(n) ",\"output_index\":0,\"text\":\"" text "\"}"

START_TEST(whole_texts_agree)
{
    RUN(DIALECT_RESPONSES, {DELTA(0, "m", "ab"), SAME}, {RESTART, ""},
        {DELTA(0, "m", "abc"), DELTA(1, "m", "c")},
        {TEXT_DONE(1, "ab\\u0063"), TEXT_DONE(2, "ab\\u0063")}, {RESTART, ""},
        {DELTA(0, "m", "abc"), SKIPPED}, {TEXT_DONE(1, "abc"), SKIPPED},
        {DELTA(2, "m", "d"), DIFFERS});
    RUN(DIALECT_RESPONSES, {DELTA(0, "m", "ab"), SAME}, {RESTART, ""},
        {DELTA(0, "m", "abc"), DELTA(1, "m", "c")}, {TEXT_DONE(1, "abd"), DIFFERS});
    RUN(DIALECT_RESPONSES, {DELTA(0, "m", "ab"), SAME}, {RESTART, ""},
        {DELTA(0, "m", "a"), SKIPPED}, {TEXT_DONE(1, "a"), DIFFERS});
    RUN(DIALECT_RESPONSES, {DELTA(0, "m", "ab"), SAME}, {RESTART, ""},
        {DELTA(0, "m", "a"), SKIPPED}, {ITEM("done", 1, "\"type\":\"message\""), DIFFERS});
    RUN(DIALECT_RESPONSES, {DELTA(0, "m", "ab"), SAME}, {RESTART, ""},
        {"{\"type\":\"response.completed\"," SEQ(1) "}", DIFFERS});
    RUN(DIALECT_RESPONSES, {DELTA(0, "m", "ab"), SAME}, {RESTART, ""},
        {"{\"type\":\"response.incomplete\"," SEQ(1) "}", DIFFERS});
    /* How an upstream sums up its own response is not judged. */
    RUN(DIALECT_RESPONSES, {DELTA(0, "m", "ab "), SAME}, {TEXT_DONE(1, "ab"), SAME});
    RUN(DIALECT_RESPONSES, {DELTA(0, "m", "ab"), SAME}, {RESTART, ""},
        {DELTA(0, "m", "ab"), SKIPPED}, {TEXT_DONE(1, "abc"), DIFFERS});
}
END_TEST

START_TEST(indexes_tell_channels_apart)
{
    RUN(DIALECT_RESPONSES,
        {"{\"type\":\"response.shell.delta\",\"output_index\":0,\"command_index\":0,\"delta\":\"a\"}",
         SAME},
        {"{\"type\":\"response.shell.delta\",\"output_index\":0,\"command_index\":1,\"delta\":\"b\"}",
         SAME},
        {RESTART, ""},
        {"{\"type\":\"response.shell.delta\",\"output_index\":0,\"command_index\":0,\"delta\":\"a\"}",
         SKIPPED},
        {"{\"type\":\"response.shell.delta\",\"output_index\":0,\"command_index\":1,\"delta\":\"bc\"}",
         "{\"type\":\"response.shell.delta\",\"output_index\":0,\"command_index\":1,\"delta\":\"c\"}"});
}
END_TEST

#define AUDIO(type, member, text) \
    "{\"type\":\"response.audio.transcript." type "\",\"" member "\":\"" text "\"}"

/* An event that names no item belongs to none, and ends none. */
START_TEST(events_without_an_item)
{
    RUN(DIALECT_RESPONSES, {AUDIO("delta", "delta", "ab"), SAME}, {RESTART, ""},
        {AUDIO("delta", "delta", "a"), SKIPPED}, {AUDIO("done", "transcript", "a"), DIFFERS});
    RUN(DIALECT_RESPONSES, {AUDIO("delta", "delta", "a"), SAME}, {DELTA(0, "m", "b"), SAME},
        {RESTART, ""}, {AUDIO("delta", "delta", "a"), SKIPPED},
        {AUDIO("done", "transcript", "a"), SAME}, {DELTA(0, "m", "b"), SKIPPED});
}
END_TEST

/* Encrypted content is bound to its item's id. */
START_TEST(sealed_items)
{
    RUN(DIALECT_RESPONSES, {ITEM("added", 0, "\"id\":\"i1\",\"type\":\"reasoning\""), SAME},
        {RESTART, ""}, {ITEM("added", 0, "\"id\":\"i2\",\"type\":\"reasoning\""), SKIPPED},
        {ITEM("done", 1, "\"id\":\"i2\",\"encrypted_content\":\"x\""), DIFFERS});
    RUN(DIALECT_RESPONSES, {ITEM("done", 0, "\"id\":\"i1\",\"encrypted_content\":\"w\""), SAME},
        {RESTART, ""}, {ITEM("done", 0, "\"id\":\"i2\",\"encrypted_content\":\"x\""), SKIPPED},
        {"{\"type\":\"response.completed\"," SEQ(
             1) ",\"response\":{\"output\":[{\"id\":\"i2\",\"encrypted_content\":\"x\"}]}}",
         SAME});
}
END_TEST

START_TEST(logprobs_of_a_response)
{
    RUN(DIALECT_RESPONSES,
        {"{\"type\":\"response.output_text.delta\",\"output_index\":0,\"delta\":\"a\"}", SAME},
        {RESTART, ""},
        {"{\"type\":\"response.output_text.delta\",\"output_index\":0,\"delta\":\"ab\","
         "\"logprobs\":[{\"token\":\"ab\"}]}",
         "{\"type\":\"response.output_text.delta\",\"output_index\":0,\"delta\":\"b\","
         "\"logprobs\":[]}"});
}
END_TEST

#define QUEUED(n, id, at)                                                              \
    "{\"type\":\"response.queued\",\"sequence_number\":" n ",\"response\":{\"id\":" id \
    ",\"created_at\":" at "}}"
#define TEXT(n, item, index, text)                                                         \
    "{\"type\":\"response.output_text.delta\",\"sequence_number\":" n ",\"item_id\":" item \
    ",\"output_index\":" index ",\"delta\":" text "}"

/* The client reads the first response's value in the first response's type, quotes included. */
START_TEST(values_of_another_type)
{
    RUN(DIALECT_RESPONSES, {QUEUED("0", "\"r1\"", "5"), SAME},
        {TEXT("1", "\"m1\"", "0", "\"a\""), SAME}, {RESTART, ""},
        {QUEUED("0", "2", "\"5\""), SKIPPED},
        {QUEUED("1", "2", "\"5\""), QUEUED("2", "\"r1\"", "5")},
        {QUEUED("2", "null", "null"), QUEUED("3", "\"r1\"", "5")},
        {TEXT("\"3\"", "7", "0", "\"ab\""), TEXT("4", "\"m1\"", "0", "\"b\"")},
        {TEXT("null", "null", "0", "\"c\""), TEXT("5", "\"m1\"", "0", "\"c\"")},
        {TEXT("-1.5", "\"m2\"", "0", "\"d\""), TEXT("6", "\"m1\"", "0", "\"d\"")},
        {TEXT("9", "[]", "0", "\"e\""), TEXT("7", "\"m1\"", "0", "\"e\"")});
    RUN(DIALECT_RESPONSES, {QUEUED("0", "1", "5.5"), SAME}, {TEXT("1", "2", "0", "\"a\""), SAME},
        {RESTART, ""}, {QUEUED("0", "\"r\"", "6"), SKIPPED},
        {TEXT("2", "\"m\"", "0", "\"ab\""), TEXT("2", "2", "0", "\"b\"")},
        {QUEUED("3", "\"r\"", "6"), QUEUED("3", "1", "5.5")});
}
END_TEST

START_TEST(text_or_places_of_another_type_differ)
{
    RUN(DIALECT_RESPONSES, {TEXT("1", "\"m\"", "0", "\"a\""), SAME}, {RESTART, ""},
        {TEXT("1", "\"m\"", "\"0\"", "\"ab\""), DIFFERS});
    RUN(DIALECT_RESPONSES, {TEXT("1", "\"m\"", "0", "\"1\""), SAME}, {RESTART, ""},
        {TEXT("1", "\"m\"", "0", "1"), DIFFERS});
    RUN(DIALECT_RESPONSES, {TEXT("1", "\"m\"", "0", "\"a\""), SAME}, {RESTART, ""},
        {TEXT("1", "\"m\"", "0", "{\"text\":\"ab\"}"), DIFFERS});
    RUN(DIALECT_RESPONSES, {TEXT("1", "\"m\"", "0", "{\"text\":\"ab\"}"), SAME}, {RESTART, ""},
        {TEXT("1", "\"m\"", "0", "\"a\""), DIFFERS});
    RUN(DIALECT_RESPONSES, {ITEM("added", 0, "\"type\":\"function_call\",\"name\":\"1\""), SAME},
        {RESTART, ""}, {ITEM("added", 0, "\"type\":\"function_call\",\"name\":1"), DIFFERS});
    RUN(DIALECT_RESPONSES, {TEXT("1", "\"m\"", "0", "\"12\""), SAME}, {RESTART, ""},
        {TEXT("1", "\"m\"", "0", "\"12\""), SKIPPED},
        {"{\"type\":\"response.output_text.done\",\"output_index\":0,\"text\":12}", DIFFERS});
}
END_TEST

/* A response that goes on behind what it said to be all of a text says two things. */
START_TEST(text_behind_its_sum_differs)
{
    RUN(DIALECT_RESPONSES, {TEXT("1", "\"m\"", "0", "\"Hello\""), SAME}, {RESTART, ""},
        {TEXT("1", "\"m\"", "0", "\"He\""), SKIPPED},
        {"{\"type\":\"response.output_text.done\",\"output_index\":0,\"text\":\"Hello\"}", SAME},
        {TEXT("3", "\"m\"", "0", "\"He\""), DIFFERS});
}
END_TEST

#define PLACED(type, indexes, delta) \
    "{\"type\":\"response." type "\",\"output_index\":0," indexes "," delta ":\"ab\"}"
#define FIRST PLACED("summary.delta", "\"summary_index\":0", "\"delta\"")

/* To a reader it is the text of a channel that the names as they stand do not show. */
START_TEST(names_that_can_be_read_as_others_differ)
{
    static const char *const odd[] = {
        PLACED("summary.delta", "\"summary_inde\\u0078\":0", "\"delta\""),
        PLACED("summary.delt\\u0061", "\"summary_index\":0", "\"delta\""),
        PLACED("summary.delta", "\"summary_index\":0", "\"d\\u0065lta\""),
        PLACED("summary.delta", "\"summary_index\":0,\"part_index\":0", "\"delta\""),
    };

    for (size_t i = 0; i < COUNT(odd); i++) {
        RUN(DIALECT_RESPONSES, {FIRST, SAME}, {RESTART, ""}, {odd[i], DIFFERS});
        struct str data = str_from(odd[i]);
        struct splice *s = splice_new(DIALECT_RESPONSES, 4096);
        ck_assert_int_eq(splice_event(s, data, data, NULL), SPLICE_PASS);
        ck_assert(!splice_possible(s));
        splice_free(s);
    }
    RUN(DIALECT_RESPONSES, {FIRST, SAME}, {RESTART, ""},
        {PLACED("summary.delta", "\"part_index\":0", "\"delta\""), DIFFERS});
    RUN(DIALECT_RESPONSES, {FIRST, SAME}, {RESTART, ""},
        {PLACED("summary.delta", "\"summary_index\":0,\"part_index\":null", "\"delta\""), SKIPPED});
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "splice_responses");

    tcase_add_test(tcase, numbers_and_ids_go_on);
    tcase_add_test(tcase, another_kind_of_item_differs);
    tcase_add_test(tcase, whole_texts_agree);
    tcase_add_test(tcase, indexes_tell_channels_apart);
    tcase_add_test(tcase, events_without_an_item);
    tcase_add_test(tcase, sealed_items);
    tcase_add_test(tcase, logprobs_of_a_response);
    tcase_add_test(tcase, values_of_another_type);
    tcase_add_test(tcase, text_or_places_of_another_type_differ);
    tcase_add_test(tcase, text_behind_its_sum_differs);
    tcase_add_test(tcase, names_that_can_be_read_as_others_differ);
}
