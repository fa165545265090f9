/* Empty completions: how they are recognized, how often they are requested again, and what the
 * client gets. */

#include "stream/completion.h"

#include <check.h>
#include <string.h>

#include "stream_text.h"
#include "unit.h"
#include "world_fixture.h"

#define MESSAGE(finish, rest) \
    "{\"choices\":[{\"message\":{\"role\":\"assistant\"" rest "},\"finish_reason\":" finish "}]}"
#define NOTHING MESSAGE("\"stop\"", ",\"content\":null")
#define SOMETHING MESSAGE("\"stop\"", ",\"content\":\"x\"")
#define RESPONSE(status, output) "{\"status\":\"" status "\",\"output\":" output "}"
#define ITEM(content) "[{\"type\":\"message\",\"content\":" content "}]"

START_TEST(c03_what_says_nothing)
{
    static const struct {
        enum dialect dialect;
        const char *body;
        bool empty;
    } cases[] = {
        {DIALECT_CHAT, "{\"choices\":[]}", true},
        {DIALECT_CHAT, NOTHING, true},
        {DIALECT_CHAT, MESSAGE("null", ",\"content\":\"\""), true},
        {DIALECT_CHAT, MESSAGE("\"\"", ""), true},
        {DIALECT_CHAT, MESSAGE("\"stop\"", ",\"content\":[],\"tool_calls\":[],\"refusal\":null"),
         true},
        {DIALECT_CHAT, "{\"choices\":[{\"finish_reason\":\"stop\"},{\"message\":null}]}", true},
        {DIALECT_CHAT, SOMETHING, false},
        {DIALECT_CHAT, MESSAGE("\"stop\"", ",\"content\" : \"x\""), false},
        {DIALECT_CHAT, MESSAGE("\"stop\"", ",\"content\":\" \""), false},
        {DIALECT_CHAT, MESSAGE("\"stop\"", ",\"refusal\":\"no\""), false},
        {DIALECT_CHAT, MESSAGE("\"stop\"", ",\"tool_calls\":[{\"id\":\"x\"}]"), false},
        {DIALECT_CHAT, MESSAGE("\"stop\"", ",\"reasoning\":\"hm\""), false},
        {DIALECT_CHAT, MESSAGE("\"stop\"", ",\"audio\":{\"data\":\"AA\"}"), false},
        {DIALECT_CHAT, MESSAGE("\"length\"", ""), false},
        {DIALECT_CHAT, MESSAGE("\"content_filter\"", ""), false},
        {DIALECT_CHAT, MESSAGE("\"tool_calls\"", ""), false},
        {DIALECT_CHAT, MESSAGE("\"FUNCTION_CALL\"", ""), false},
        {DIALECT_CHAT, "{\"choices\":[{\"message\":{}},{\"message\":{\"content\":\"x\"}}]}", false},
        {DIALECT_CHAT, "{\"choices\":null}", true},
        {DIALECT_CHAT, "{\"request_id\":\"deferred\"}", false},
        {DIALECT_CHAT, "{\"choices\":[{\"message\"", false},
        {DIALECT_CHAT, "{}", false},
        {DIALECT_CHAT, "[]", false},
        {DIALECT_CHAT, "", false},
        {DIALECT_COMPLETIONS, "{\"choices\":[{\"text\":\"\",\"finish_reason\":\"stop\"}]}", true},
        {DIALECT_COMPLETIONS, "{\"choices\":[{\"text\":\"x\",\"finish_reason\":\"stop\"}]}", false},
        {DIALECT_COMPLETIONS, "{\"choices\":[{\"text\":\"\",\"finish_reason\":\"length\"}]}",
         false},
        {DIALECT_RESPONSES, RESPONSE("completed", "[]"), true},
        {DIALECT_RESPONSES, RESPONSE("completed", ITEM("[]")), true},
        {DIALECT_RESPONSES,
         RESPONSE("completed", ITEM("[{\"type\":\"output_text\",\"text\":\"\"}]")), true},
        {DIALECT_RESPONSES,
         RESPONSE("completed", ITEM("[{\"type\":\"output_text\",\"text\":\"x\"}]")), false},
        {DIALECT_RESPONSES,
         RESPONSE("completed", ITEM("[{\"type\":\"refusal\",\"refusal\":\"x\"}]")), false},
        {DIALECT_RESPONSES, RESPONSE("completed", "[{\"type\":\"reasoning\",\"summary\":[]}]"),
         false},
        {DIALECT_RESPONSES, RESPONSE("completed", "[{\"type\":\"function_call\"}]"), false},
        {DIALECT_RESPONSES, RESPONSE("incomplete", "[]"), false},
        {DIALECT_RESPONSES, RESPONSE("queued", "[]"), false},
        {DIALECT_RESPONSES, "{\"output\":[]}", false},
        {DIALECT_MESSAGES, "{\"content\":[],\"stop_reason\":\"end_turn\"}", false},
        {DIALECT_OTHER, "{\"choices\":[]}", false},
    };

    for (size_t i = 0; i < COUNT(cases); i++)
        ck_assert_msg(completion_is_empty(cases[i].dialect, str_from(cases[i].body)) ==
                          cases[i].empty,
                      "%s", cases[i].body);
}
END_TEST

START_TEST(c03_who_may_get_nothing)
{
    static const char *const may[] = {"{\"max_tokens\":0}",
                                      "{\"max_completion_tokens\": 0}",
                                      "{\"max_output_tokens\":0.0}",
                                      "{\"generate\":false}",
                                      "{\"stop\":\"x\"}",
                                      "{\"stop\":[\"\\n\"]}",
                                      "{\"suffix\":\" return\"}"};
    static const char *const may_not[] = {"{\"max_tokens\":1}",
                                          "{\"max_tokens\":null}",
                                          "{\"stop\":null}",
                                          "{\"stop\":[]}",
                                          "{\"suffix\":\"\"}",
                                          "{\"a\":{\"max_tokens\":0}}",
                                          "{}",
                                          ""};

    for (size_t i = 0; i < COUNT(may); i++)
        ck_assert_msg(completion_may_be_empty(str_from(may[i])), "%s", may[i]);
    for (size_t i = 0; i < COUNT(may_not); i++)
        ck_assert_msg(!completion_may_be_empty(str_from(may_not[i])), "%s", may_not[i]);
}
END_TEST

/* --- in an exchange --------------------------------------------------------------------------- */

static struct fake_attempt says(const char *text)
{
    return (struct fake_attempt){.status = 200, .headers = JSON, .pieces = {{1, text, 0}}};
}

static const struct fake_attempt lost = {.end = TRANSPORT_LOST, .detail = "lost"};
static const struct fake_attempt hangs = {.hangs = true};

static void ask(struct fake_attempt first, struct fake_attempt second, bool stream)
{
    const struct fake_attempt script[] = {first, second};

    world_follow(script, 2);
    fake_begin_chat(&w, stream);
    world_finish();
    w.script = NULL;
}

static void expect(const char *text, unsigned starts)
{
    world_answered(text);
    ck_assert_uint_eq(w.response.status, 200);
    ck_assert_uint_eq(w.starts, starts);
}

START_TEST(c03_asked_for_once_more)
{
    ask(says(NOTHING), says(SOMETHING), false);
    expect(SOMETHING, 2);
    ck_assert_int_eq(w.reports[0].verdict.reason, REASON_EMPTY_RESPONSE);
    ck_assert(w.reports[0].duplicate && w.x.duplicates == 1);
    world_again();
    ask(says(NOTHING), says("{\"choices\":[]}"), false); /* as it is */
    expect("{\"choices\":[]}", 2);
}
END_TEST

/* However the repeat ends, the client is no worse off. */
START_TEST(c03_the_repeat_fails)
{
    static const struct fake_attempt bad[] = {
        {.status = 503, .headers = JSON, .pieces = {{0, "{\"error\":{\"message\":\"m\"}}", 0}}},
        {.status = 400, .headers = JSON, .pieces = {{0, "{\"error\":{\"message\":\"m\"}}", 0}}},
        {.status = 200, .headers = JSON, .pieces = {{0, "{\"cho", 0}}},
        {.status = 200, .headers = SSE, .pieces = {{0, ROLE, 0}}, .end = TRANSPORT_TRUNCATED},
        {.start_fails = -12},
        {.end = TRANSPORT_DNS, .detail = "no such host"},
    };

    for (size_t i = 0; i < COUNT(bad); i++) {
        ask(says(NOTHING), bad[i], false);
        expect(NOTHING, 2);
        world_again();
        ask(stream_attempt(ROLE STOP DONE, TRANSPORT_WHOLE), bad[i], true);
        expect(ROLE STOP DONE, 2);
        world_again();
    }
    ask(says(NOTHING), lost, false);
    expect(NOTHING, 2);
    world_again();
    w.settings.retry.deadline_ms = 3000;
    ask(says(NOTHING), hangs, false);
    expect(NOTHING, 2);
    ck_assert_uint_le(w.answered_ms, 3000);
}
END_TEST

START_TEST(c03_streams_in_each_mode)
{
    w.settings.stream.mode = (enum stream_mode)_i;
    ask(stream_attempt(ROLE STOP DONE, TRANSPORT_WHOLE), stream_attempt(WHOLE, TRANSPORT_WHOLE),
        true);
    expect(WHOLE, 2);
    ck_assert_int_eq(w.reports[0].verdict.reason, REASON_EMPTY_RESPONSE);
    world_again();
    w.settings.stream.mode = (enum stream_mode)_i;
    ask(stream_attempt(ROLE STOP, TRANSPORT_TRUNCATED), lost, true); /* whole, but for its mark */
    expect(ROLE STOP DONE, 2);
    world_again();
    w.settings.stream.mode = (enum stream_mode)_i;
    w.settings.stream.heartbeat_ms = 10; /* the head is out, and a comment or more */
    ask(stream_attempt(ROLE STOP DONE, TRANSPORT_WHOLE), lost, true);
    ck_assert_int_eq(w.x.end, END_ANSWERED);
    ck_assert(w.got_end && w.starts == 2);
    ck_assert_int_ge(str_ifind(buf_str(&w.body), STR(ROLE STOP DONE)), 0);
}
END_TEST

START_TEST(c03_what_forbids_it)
{
    for (int i = 0; i < 6; i++) {
        static const char *const bodies[] = {"{\"max_tokens\":0}", "{\"stop\":\"x\"}"};
        const struct fake_attempt first = says(NOTHING);

        if (i == 0)
            w.settings.retry.retry_on = RETRY_ON_ALL & ~(unsigned)RETRY_ON_EMPTY;
        if (i == 1)
            w.settings.retry.retry_ambiguous = false;
        if (i == 2)
            w.settings.retry.max_attempts = 1;
        world_follow(&first, 1);
        fake_begin(&w, i == 3 ? "PUT" : "POST", "/v1/chat/completions", NULL,
                   i > 3 ? bodies[i - 4] : "{}");
        world_finish();
        expect(NOTHING, 1);
        ck_assert_uint_eq(w.failures, 0);
        world_again();
    }
}
END_TEST

/* --- the last word of an upstream ------------------------------------------------------------- */

#define BUSY "{\"message\":\"busy\",\"type\":\"x\",\"code\":\"server_is_overloaded\"}"

/* C24: an error event in front of all content is told as the response that it would have been. */
START_TEST(c24_an_error_event_is_kept)
{
    static const struct fake_attempt page = {
        .status = 200, .headers = "Content-Type: text/html\n", .pieces = {{0, "<html>", 0}}};
    const struct fake_attempt worse[] = {lost, hangs, page,
                                         stream_attempt(ROLE, TRANSPORT_TRUNCATED)};

    for (size_t i = 0; i < COUNT(worse); i++) {
        w.settings.retry.max_attempts = 2;
        w.settings.retry.deadline_ms = 5000;
        ask(stream_attempt("data: {\"error\":" BUSY "}\n\n", TRANSPORT_WHOLE), worse[i], true);
        ck_assert_int_eq(w.x.end, END_FAILED);
        ck_assert_uint_eq(w.response.status, 503);
        ck_assert(str_eq(fake_header(&w, "content-type"), STR("application/json")));
        ck_assert(str_eq(fake_header(&w, "x-should-retry"), STR("false")));
        ck_assert(world_body_is("{\"error\":" BUSY "}"));
        world_again();
    }
}
END_TEST

START_TEST(c24_a_client_fault_in_an_event_is_final)
{
    ask(stream_attempt(
            "data: {\"error\":{\"message\":\"no\",\"type\":\"invalid_request_error\"}}\n\n",
            TRANSPORT_WHOLE),
        stream_attempt(WHOLE, TRANSPORT_WHOLE), true);
    ck_assert_uint_eq(w.starts, 1);
    ck_assert_int_eq(w.reports[0].verdict.reason, REASON_CLIENT_ERROR);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "completion");

    tcase_add_test(tcase, c03_what_says_nothing);
    tcase_add_test(tcase, c03_who_may_get_nothing);
    tcase = unit_case(suite, "once more");
    tcase_add_checked_fixture(tcase, world_set_up, world_tear_down);
    tcase_add_test(tcase, c03_asked_for_once_more);
    tcase_add_test(tcase, c03_the_repeat_fails);
    tcase_add_loop_test(tcase, c03_streams_in_each_mode, STREAM_LIVE, STREAM_HOLD + 1);
    tcase_add_test(tcase, c03_what_forbids_it);
    tcase_add_test(tcase, c24_an_error_event_is_kept);
    tcase_add_test(tcase, c24_a_client_fault_in_an_event_is_final);
}
