/* Single events of Anthropic's messages, byte by byte: blocks, texts, signatures, calls and
 * ends. */

#include "stream/splice.h"

#include <check.h>

#include "splice_script.h"
#include "unit.h"

#define MESSAGE(id) \
    "{\"type\":\"message_start\",\"message\":{\"id\":\"" id "\",\"usage\":{\"input_tokens\":9}}}"
#define START(at, block) \
    "{\"type\":\"content_block_start\",\"index\":" #at ",\"content_block\":{" block "}}"
#define TEXT_BLOCK "\"type\":\"text\",\"text\":\"\""
#define THOUGHT_BLOCK "\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\""
#define CALL_BLOCK(id, name) \
    "\"type\":\"tool_use\",\"id\":\"" id "\",\"name\":\"" name "\",\"input\":{}"
#define DELTA(at, kind, key, text)                                                                \
    "{\"type\":\"content_block_delta\",\"index\":" #at ",\"delta\":{\"type\":\"" kind "\",\"" key \
    "\":\"" text "\"}}"
#define TEXT(at, text) DELTA(at, "text_delta", "text", text)
#define THOUGHT(at, text) DELTA(at, "thinking_delta", "thinking", text)
#define SIGNATURE(at, text) DELTA(at, "signature_delta", "signature", text)
#define INPUT(at, text) DELTA(at, "input_json_delta", "partial_json", text)
#define CITATION(at, cited)                            \
    "{\"type\":\"content_block_delta\",\"index\":" #at \
    ",\"delta\":{\"type\":\"citations_delta\",\"citation\":{\"cited_text\":\"" cited "\"}}}"
#define STOP(at) "{\"type\":\"content_block_stop\",\"index\":" #at "}"
#define REASON(reason, used)                                                             \
    "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"" reason "\"},\"usage\":{" \
    "\"output_tokens\":" #used "}}"
#define PING "{\"type\":\"ping\"}"
#define END "{\"type\":\"message_stop\"}"

START_TEST(text_goes_on_in_its_block)
{
    RUN(DIALECT_MESSAGES, {MESSAGE("m1"), SAME}, {START(0, TEXT_BLOCK), SAME}, {PING, SAME},
        {TEXT(0, "He"), SAME}, {TEXT(0, "llo"), SAME}, {RESTART, ""}, {MESSAGE("m2"), SKIPPED},
        {START(0, TEXT_BLOCK), SKIPPED}, {PING, SKIPPED}, {TEXT(0, "H"), SKIPPED},
        {TEXT(0, "e\\u006clo, w"), TEXT(0, ", w")}, {PING, SAME}, {TEXT(0, "orld"), SAME},
        {STOP(0), SAME}, {REASON("end_turn", 5), SAME}, {END, SAME});
}
END_TEST

START_TEST(blocks_go_on_behind_those_of_the_first_response)
{
    RUN(DIALECT_MESSAGES, {MESSAGE("m1"), SAME}, {START(0, TEXT_BLOCK), SAME},
        {TEXT(0, "ab"), SAME}, {STOP(0), SAME}, {START(1, CALL_BLOCK("t1", "f")), SAME},
        {INPUT(1, "{\\\"a\\\":"), SAME}, {RESTART, ""}, {MESSAGE("m2"), SKIPPED},
        {START(0, TEXT_BLOCK), SKIPPED}, {TEXT(0, "ab"), SKIPPED}, {STOP(0), SKIPPED},
        {START(1, CALL_BLOCK("t2", "f")), SKIPPED}, {INPUT(1, ""), SKIPPED},
        {INPUT(1, "{\\\"a\\\":1"), INPUT(1, "1")}, {INPUT(1, "}"), SAME}, {STOP(1), SAME},
        {START(2, CALL_BLOCK("t3", "g")), SAME}, {INPUT(2, "{}"), SAME}, {STOP(2), SAME},
        {REASON("tool_use", 7), SAME}, {END, SAME});
}
END_TEST

START_TEST(ends_pass_once)
{
    RUN(DIALECT_MESSAGES, {MESSAGE("m1"), SAME}, {START(0, TEXT_BLOCK), SAME},
        {TEXT(0, "ab"), SAME}, {STOP(0), SAME}, {REASON("end_turn", 5), SAME}, {RESTART, ""},
        {MESSAGE("m2"), SKIPPED}, {START(0, TEXT_BLOCK), SKIPPED}, {TEXT(0, "ab"), SKIPPED},
        {STOP(0), SKIPPED}, {REASON("end_turn", 6), SKIPPED}, {END, SAME});
    RUN(DIALECT_MESSAGES, {START(0, TEXT_BLOCK), SAME}, {TEXT(0, "ab"), SAME},
        {REASON("end_turn", 5), SAME}, {RESTART, ""}, {START(0, TEXT_BLOCK), SKIPPED},
        {TEXT(0, "ab"), SKIPPED}, {REASON("max_tokens", 6), DIFFERS});
}
END_TEST

START_TEST(another_text_differs)
{
    RUN(DIALECT_MESSAGES, {TEXT(0, "Hello"), SAME}, {RESTART, ""}, {TEXT(0, "Hex"), DIFFERS});
    RUN(DIALECT_MESSAGES, {TEXT(0, "Hello"), SAME}, {RESTART, ""}, {TEXT(0, "He"), SKIPPED},
        {STOP(0), DIFFERS});
    RUN(DIALECT_MESSAGES, {TEXT(0, "Hello"), SAME}, {STOP(0), SAME}, {RESTART, ""},
        {TEXT(0, "Hello"), SKIPPED}, {TEXT(0, "!"), DIFFERS});
    RUN(DIALECT_MESSAGES, {TEXT(0, "Hello"), SAME}, {RESTART, ""}, {TEXT(0, "Hell"), SKIPPED},
        {REASON("end_turn", 1), DIFFERS});
    RUN(DIALECT_MESSAGES, {TEXT(0, "Hello"), SAME}, {RESTART, ""}, {END, DIFFERS});
    RUN(DIALECT_MESSAGES, {INPUT(0, "{\\\"a\\\":1"), SAME}, {RESTART, ""},
        {INPUT(0, "{\\\"a\\\":2"), DIFFERS});
    RUN(DIALECT_MESSAGES, {TEXT(0, "a"), SAME}, {RESTART, ""},
        {"{\"type\":\"content_block_delta\",\"index\":\"0\",\"delta\":{\"text\":\"ab\"}}",
         DIFFERS});
}
END_TEST

START_TEST(another_block_differs)
{
    RUN(DIALECT_MESSAGES, {START(0, TEXT_BLOCK), SAME}, {RESTART, ""},
        {START(0, THOUGHT_BLOCK), DIFFERS});
    RUN(DIALECT_MESSAGES, {START(0, CALL_BLOCK("t1", "f")), SAME}, {RESTART, ""},
        {START(0, CALL_BLOCK("t2", "g")), DIFFERS});
    /* The client waits for what its second block says. */
    RUN(DIALECT_MESSAGES, {START(0, TEXT_BLOCK), SAME}, {START(1, TEXT_BLOCK), SAME}, {RESTART, ""},
        {START(0, TEXT_BLOCK), SKIPPED}, {REASON("end_turn", 1), DIFFERS});
    RUN(DIALECT_MESSAGES, {START(0, "\"type\":\"tool_use\",\"input\":{\"a\":1}"), SAME},
        {RESTART, ""}, {START(0, "\"type\":\"tool_use\",\"input\":{\"a\":2}"), DIFFERS});
}
END_TEST

START_TEST(text_in_a_start)
{
    RUN(DIALECT_MESSAGES, {START(0, "\"type\":\"text\",\"text\":\"He\""), SAME}, {RESTART, ""},
        {START(0, "\"type\":\"text\",\"text\":\"H\""), SKIPPED}, {TEXT(0, "ello"), TEXT(0, "llo")});
    /* It cannot go on in what begins a block once more. */
    RUN(DIALECT_MESSAGES, {START(0, "\"type\":\"text\",\"text\":\"He\""), SAME}, {RESTART, ""},
        {START(0, "\"type\":\"text\",\"text\":\"Hello\""), DIFFERS});
    RUN(DIALECT_MESSAGES, {START(0, TEXT_BLOCK), SAME}, {RESTART, ""},
        {START(0, "\"type\":\"text\",\"text\":\"H\""), DIFFERS});
}
END_TEST

/* No two responses have the same, and each is whole with the thinking before it. */
START_TEST(signatures)
{
    RUN(DIALECT_MESSAGES, {START(0, THOUGHT_BLOCK), SAME}, {THOUGHT(0, "ab"), SAME}, {RESTART, ""},
        {START(0, THOUGHT_BLOCK), SKIPPED}, {THOUGHT(0, "abc"), THOUGHT(0, "c")},
        {SIGNATURE(0, "s2"), SAME}, {STOP(0), SAME});
    RUN(DIALECT_MESSAGES, {START(0, THOUGHT_BLOCK), SAME}, {THOUGHT(0, "ab"), SAME},
        {SIGNATURE(0, "s1"), SAME}, {RESTART, ""}, {START(0, THOUGHT_BLOCK), SKIPPED},
        {THOUGHT(0, "ab"), SKIPPED}, {SIGNATURE(0, "s2"), SKIPPED}, {STOP(0), SAME});
    RUN(DIALECT_MESSAGES, {THOUGHT(0, "ab"), SAME}, {SIGNATURE(0, "s1"), SAME}, {RESTART, ""},
        {THOUGHT(0, "abc"), DIFFERS});
    RUN(DIALECT_MESSAGES, {THOUGHT(0, "ab"), SAME}, {RESTART, ""}, {THOUGHT(0, "a"), SKIPPED},
        {SIGNATURE(0, "s2"), DIFFERS});
    RUN(DIALECT_MESSAGES, {START(0, "\"type\":\"redacted_thinking\",\"data\":\"x\""), SAME},
        {RESTART, ""}, {START(0, "\"type\":\"redacted_thinking\",\"data\":\"y\""), SKIPPED},
        {STOP(0), SAME});
}
END_TEST

START_TEST(citations_are_counted)
{
    RUN(DIALECT_MESSAGES, {TEXT(0, "ab"), SAME}, {CITATION(0, "x"), SAME}, {RESTART, ""},
        {TEXT(0, "ab"), SKIPPED}, {CITATION(0, "x"), SKIPPED}, {CITATION(0, "y"), SAME},
        {STOP(0), SAME});
    RUN(DIALECT_MESSAGES, {TEXT(0, "ab"), SAME}, {CITATION(0, "x"), SAME}, {RESTART, ""},
        {TEXT(0, "ab"), SKIPPED}, {STOP(0), DIFFERS});
}
END_TEST

#define SEARCH(id) "\"type\":\"server_tool_use\",\"id\":\"" id "\",\"name\":\"web_search\""
#define FOUND(id) "\"type\":\"web_search_tool_result\",\"tool_use_id\":\"" id "\",\"content\":[{}]"

/* The client has the call of the first response: a result of another one would answer nothing. */
START_TEST(results_of_other_calls_differ)
{
    RUN(DIALECT_MESSAGES, {START(0, SEARCH("c1")), SAME}, {STOP(0), SAME}, {RESTART, ""},
        {START(0, SEARCH("c2")), SKIPPED}, {STOP(0), SKIPPED}, {START(1, FOUND("c2")), DIFFERS});
    RUN(DIALECT_MESSAGES, {START(0, TEXT_BLOCK), SAME}, {RESTART, ""},
        {START(0, TEXT_BLOCK), SKIPPED}, {STOP(0), SAME}, {START(1, SEARCH("c2")), SAME},
        {STOP(1), SAME}, {START(2, FOUND("c2")), SAME});
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "splice_messages");

    tcase_add_test(tcase, text_goes_on_in_its_block);
    tcase_add_test(tcase, blocks_go_on_behind_those_of_the_first_response);
    tcase_add_test(tcase, ends_pass_once);
    tcase_add_test(tcase, another_text_differs);
    tcase_add_test(tcase, another_block_differs);
    tcase_add_test(tcase, text_in_a_start);
    tcase_add_test(tcase, signatures);
    tcase_add_test(tcase, citations_are_counted);
    tcase_add_test(tcase, results_of_other_calls_differ);
}
