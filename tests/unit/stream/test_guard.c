/* The meaning of each event that was seen in a stream, in each dialect. */

#include "stream/guard.h"

#include <check.h>
#include <stdio.h>

#include "failmem.h"
#include "stream/sse.h"
#include "unit.h"

#define CHAT DIALECT_CHAT
#define OLD DIALECT_COMPLETIONS
#define RESP DIALECT_RESPONSES
#define MSG DIALECT_MESSAGES
#define OTHER DIALECT_OTHER
#define DELTA(delta) "data: {\"choices\":[{\"index\":0,\"delta\":" delta "}]}\n\n"
#define MSG_STOPS "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"}}\n\n"
#define FINISH(delta, reason) \
    "data: {\"choices\":[{\"index\":0,\"delta\":" delta ",\"finish_reason\":" reason "}]}\n\n"
#define GOES_ON(reason) FINISH("{\"content\":\"a\"}", "\"" reason "\"")
#define TYPED(type, rest) \
    "event: " type "\ndata: {\"type\":\"" type "\",\"sequence_number\":0" rest "}\n\n"

static struct guard guard;

static void tear_down(void)
{
    guard_deinit(&guard);
}

/* One event, as the framing gives it. */
static enum guard_kind look(const char *text, struct guard_seen *seen)
{
    struct str event = str_from(text);
    struct sse_reader r;

    sse_init(&r);
    ck_assert_uint_eq(sse_next(&r, event), event.n);
    guard_look(&guard, event, seen);
    return seen->kind;
}

static enum guard_kind see(const char *text)
{
    struct guard_seen seen;

    return look(text, &seen);
}

static void begin(enum dialect d, bool usage_wanted)
{
    guard_deinit(&guard);
    guard_init(&guard, d, 1, usage_wanted);
}

/* --- kinds ------------------------------------------------------------------------------------ */

struct row {
    enum dialect dialect;
    const char *event;
    enum guard_kind kind;
};

static const struct row chunks[] = {
    {CHAT, DELTA("{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null}"), GUARD_LIFECYCLE},
    {CHAT, DELTA("{\"role\":\"assistant\"}"), GUARD_LIFECYCLE},
    {CHAT, DELTA("{}"), GUARD_LIFECYCLE},
    {CHAT, DELTA("{\"content\":\"\"}"), GUARD_LIFECYCLE},
    {CHAT, DELTA("{\"content\":null,\"tool_calls\":[],\"audio\":{}}"), GUARD_LIFECYCLE},
    {CHAT, DELTA("{\"function_call\":{\"name\":\"\",\"arguments\":\"\"},\"tool_calls\":[{}]}"),
     GUARD_LIFECYCLE},
    {CHAT, DELTA("{\"a\":[[[[[[[[\"\"]]]]]]]]}"), GUARD_CONTENT}, /* too deep to be looked at */
    {CHAT, DELTA("{\"a\":{\"b\":[null,{\"c\":\"d\"}]}}"), GUARD_CONTENT},
    {CHAT, FINISH("{\"role\":\"assistant\",\"content\":\"\"}", "\"\""), GUARD_LIFECYCLE},
    {CHAT, FINISH("{}", "\"null\""), GUARD_LIFECYCLE},
    {CHAT, FINISH("{}", "\"None\""), GUARD_LIFECYCLE},
    {CHAT, FINISH("{}", "\" \""), GUARD_LIFECYCLE},
    {CHAT, FINISH("{}", "false"), GUARD_LIFECYCLE},
    {CHAT, FINISH("{}", "0"), GUARD_LIFECYCLE},
    {CHAT, FINISH("{}", "{}"), GUARD_LIFECYCLE},
    {CHAT, FINISH("{\"content\":\"a\"}", "\"\""), GUARD_CONTENT},
    {CHAT, DELTA("{\"role\":\"assistant\",\"content\":\"a\"}"), GUARD_CONTENT},
    {CHAT, DELTA("{\"content\":\" \"}"), GUARD_CONTENT},
    {CHAT, DELTA("{\"refusal\":\"no\"}"), GUARD_CONTENT},
    {CHAT, DELTA("{\"reasoning_content\":\"hm\"}"), GUARD_CONTENT},
    {CHAT, DELTA("{\"reasoning\":\"hm\"}"), GUARD_CONTENT},
    {CHAT, DELTA("{\"tool_calls\":[{\"index\":0,\"id\":\"c\",\"function\":{}}]}"), GUARD_CONTENT},
    {CHAT, DELTA("{\"function_call\":{\"name\":\"f\"}}"), GUARD_CONTENT},
    {CHAT, DELTA("{\"audio\":{\"id\":\"a\"}}"), GUARD_CONTENT},
    {CHAT, "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
     GUARD_CONTENT},
    {CHAT, "data: {\"choices\":[{\"delta\":{},\"finish_reason\":null}]}\n\n", GUARD_LIFECYCLE},
    {CHAT, "data: {\"choices\":[{\"delta\":{}},{\"delta\":{\"content\":\"a\"}}]}\n\n",
     GUARD_CONTENT},
    {CHAT, "data: {\"choices\":[],\"usage\":{\"total_tokens\":9}}\n\n", GUARD_LIFECYCLE},
    /* Azure's first one is about the prompt. */
    {CHAT,
     "data: {\"id\":\"\",\"model\":\"\",\"choices\":[],\"prompt_filter_results\":[{"
     "\"prompt_index\":0,\"content_filter_results\":{\"hate\":{\"filtered\":false}}}]}\n\n",
     GUARD_LIFECYCLE},
    /* An unknown event is no part of the response yet. */
    {CHAT, "data: {\"object\":\"x\"}\n\n", GUARD_LIFECYCLE},
    {CHAT, "data: {\"x_groq\":{\"id\":\"r\"}}\n\n", GUARD_LIFECYCLE},
    {CHAT, "event: keepalive\ndata: {\"type\":\"keepalive\"}\n\n", GUARD_LIFECYCLE},
    {CHAT, "data: {\"choices\":null}\n\n", GUARD_LIFECYCLE},
    /* Pings that are no JSON are not what broke. */
    {CHAT, "event: ping\ndata: 2026-11-30 12:00:00.000\n\n", GUARD_UNFIT},
    {CHAT, "event: heartbeat\ndata: still here\n\n", GUARD_UNFIT},
    {CHAT, "data: ping\n\n", GUARD_UNFIT},
    {CHAT, "data: [HEARTBEAT]\n\n", GUARD_UNFIT},
    {CHAT, "data: ping - 2026-11-30 12:00:00\n\n", GUARD_UNFIT},
    {RESP, "event: keep-alive\ndata: .\n\n", GUARD_UNFIT},
    {CHAT, "data: pin\n\n", GUARD_MALFORMED},
    {CHAT, "data: pinging\n\n", GUARD_MALFORMED},
    {RESP, "data: {\"type\":\"response.output_text.delta\",\"delta\":\"\"}\n\n", GUARD_LIFECYCLE},
    {RESP, "data: {\"type\":\"response.output_text.delta\",\"delta\":\" \"}\n\n", GUARD_CONTENT},
    {CHAT, "data: {\"choices\":[{\"message\":{\"content\":\"a\"}}]}\n\n", GUARD_CONTENT},
    {CHAT,
     "data: {\"choices\":[{\"index\":0,\"finish_reason\":null,\"content_filter_results\":{\"hate\":{"
     "\"severity\":\"safe\"}}}]}\n\n",
     GUARD_LIFECYCLE},
    {CHAT, "data: {\"choices\":[5]}\n\n", GUARD_LIFECYCLE},
    {CHAT, "data: 5\n\n", GUARD_LIFECYCLE},
    {OLD, "data: {\"choices\":[{\"index\":0,\"text\":\"a\"}]}\n\n", GUARD_CONTENT},
    {OLD, "data: {\"choices\":[{\"index\":0,\"text\":\"\"}]}\n\n", GUARD_LIFECYCLE},
    {OLD, "data: {\"choices\":[{\"text\":\"\",\"finish_reason\":\"stop\"}]}\n\n", GUARD_CONTENT},
    {OLD, "data: {\"choices\":[{\"text\":\"\",\"finish_reason\":\"\"}]}\n\n", GUARD_LIFECYCLE},
    {OLD, "data: {\"choices\":[],\"usage\":{}}\n\n", GUARD_LIFECYCLE},
    {CHAT, "data: {\"error\":null,\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n",
     GUARD_CONTENT},
    {CHAT, DELTA("{\"content\":\"{\\\"error\\\":{\\\"code\\\":5}}\"}"), GUARD_CONTENT},
    {CHAT, DELTA("{\"content\":\"error\"}"), GUARD_CONTENT},
    {CHAT, DELTA("{\"tool_calls\":[{\"function\":{\"name\":\"error\"}}]}"), GUARD_CONTENT},
};

static const struct row typed[] = {
    {RESP, TYPED("response.created", ",\"response\":{\"id\":\"r\",\"error\":null}"),
     GUARD_LIFECYCLE},
    {RESP, TYPED("response.queued", ",\"response\":{}"), GUARD_LIFECYCLE},
    {RESP, TYPED("response.in_progress", ",\"response\":{}"), GUARD_LIFECYCLE},
    {RESP, TYPED("response.output_item.added", ",\"item\":{\"type\":\"message\"}"),
     GUARD_LIFECYCLE},
    {RESP, TYPED("response.content_part.added", ",\"part\":{}"), GUARD_LIFECYCLE},
    {RESP, TYPED("keepalive", ""), GUARD_LIFECYCLE},
    {RESP, TYPED("response.output_text.delta", ",\"delta\":\"a\""), GUARD_CONTENT},
    {RESP, TYPED("response.output_text.done", ",\"text\":\"a\""), GUARD_CONTENT},
    {RESP, TYPED("response.reasoning_summary_text.delta", ",\"delta\":\"a\""), GUARD_CONTENT},
    {RESP, TYPED("response.function_call_arguments.delta", ",\"delta\":\"{\""), GUARD_CONTENT},
    {RESP, TYPED("response.mcp_call.failed", ",\"item_id\":\"m\""), GUARD_LIFECYCLE},
    {RESP, TYPED("response.something.new", ""), GUARD_LIFECYCLE},
    {RESP, TYPED("response.something.new.delta", ""), GUARD_CONTENT},
    {RESP, TYPED("response.something.new", ",\"delta\":\"a\""), GUARD_CONTENT},
    {RESP, TYPED("response.something.new", ",\"delta\":\"\""), GUARD_LIFECYCLE},
    {RESP, TYPED("response.output_item.done", ",\"item\":{}"), GUARD_CONTENT},
    {RESP, TYPED("response.image_generation_call.partial_image", ""), GUARD_CONTENT},
    {RESP, TYPED("codex.rate_limits", ",\"rate_limits\":{}"), GUARD_LIFECYCLE},
    {RESP, TYPED("response.metadata", ",\"metadata\":{}"), GUARD_LIFECYCLE},
    {RESP, "event: response.output_text.delta\ndata: {\"text\":\"a\"}\n\n", GUARD_CONTENT},
    {RESP, TYPED("response.completed", ",\"response\":{\"id\":\"r\",\"error\":null}"), GUARD_END},
    {RESP, TYPED("response.incomplete", ",\"response\":{}"), GUARD_END},
    {RESP, "data: [DONE]\n\n", GUARD_LIFECYCLE}, /* some gateways add it, however it ended */
    {MSG, "data: [DONE]\n\n", GUARD_LIFECYCLE},
    {RESP, "data:\n\n", GUARD_UNFIT},
    {CHAT, "data: \n\n", GUARD_UNFIT}, /* by the standard it is no event */
    {CHAT, "event: x\ndata\n\n", GUARD_UNFIT},
    {RESP, "data: {\"delta\":\"no type\"}\n\n", GUARD_CONTENT},
    {MSG, "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{}}\n\n",
     GUARD_LIFECYCLE},
    {MSG, "event: ping\ndata: {\"type\": \"ping\"}\n\n", GUARD_LIFECYCLE},
    {MSG, "event: ping\n\n", GUARD_LIFECYCLE},
    {MSG, "data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{}}\n\n",
     GUARD_LIFECYCLE},
    {MSG, "data: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"a\"}}\n\n", GUARD_CONTENT},
    {MSG, "data: {\"type\":\"message_delta\",\"delta\":{}}\n\n", GUARD_LIFECYCLE},
    {MSG, "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":null}}\n\n",
     GUARD_LIFECYCLE},
    {MSG, "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"\"}}\n\n",
     GUARD_LIFECYCLE},
    {MSG, MSG_STOPS, GUARD_CONTENT},
    {MSG, "data: {\"type\":\"content_block_stop\",\"index\":0}\n\n", GUARD_CONTENT},
    {MSG, "data: {\"type\":\"vendor_event\"}\n\n", GUARD_LIFECYCLE},
    {MSG, "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n", GUARD_END},
    {OTHER, "event: thread.created\ndata: {\"id\":\"t\"}\n\n", GUARD_CONTENT},
    {OTHER, "data: any text\n\n", GUARD_CONTENT},
    {OTHER, "data\n\n", GUARD_CONTENT},
    {OTHER, "event: x\n\n", GUARD_LIFECYCLE},
    {OTHER, "retry: 5\n\n", GUARD_LIFECYCLE},
    {OTHER, "data: [DONE]\n\n", GUARD_END},
};

static const struct row framing[] = {
    {CHAT, "\n", GUARD_FILLER},
    {CHAT, "\r\n", GUARD_FILLER},
    {CHAT, ":\n\n", GUARD_FILLER},
    {CHAT, ": OPENROUTER PROCESSING\n\n", GUARD_FILLER},
    {MSG, ": c\n: d\n\n", GUARD_FILLER},
    {CHAT, "\xef\xbb\xbf: mark\n\n", GUARD_FILLER},
    {CHAT, "retry: 3000\n\n", GUARD_UNFIT},
    {CHAT, "event: ping\n\n", GUARD_UNFIT},
    {CHAT, "id: 7\n\n", GUARD_UNFIT},
    {CHAT, "nonsense\n\n", GUARD_UNFIT},
    {RESP, "event: response.created\n\n", GUARD_UNFIT},
    {OLD, "retry: 1\n: c\n\n", GUARD_UNFIT},
    {CHAT, "data: [DONE]\n\n", GUARD_END},
    {CHAT, "data:[DONE]\n\n", GUARD_END},
    {CHAT, "data: [DONE] \n\n", GUARD_END},
    {CHAT, "data: [DONE]\r\n\r\n", GUARD_END},
    {CHAT, "data: [DONE]\r\r", GUARD_END},
    {CHAT, "event: done\ndata: [DONE]\n\n", GUARD_END},
    {CHAT, "data: : OPENROUTER PROCESSING\n\n", GUARD_UNFIT}, /* wrapped by a gateway */
    {OLD, "data: :\n\n", GUARD_UNFIT},
    {RESP, "data::x\n\n", GUARD_UNFIT},
    {MSG, "data:   : x\ndata: y\n\n", GUARD_UNFIT},
    {OTHER, "data: : x\n\n", GUARD_CONTENT},
    {CHAT, "data:  [DONE]\n\n", GUARD_MALFORMED}, /* SDKs read that as JSON, and fail */
    {CHAT, "data: {\"choices\":\ndata: [{\"delta\":{\"content\":\"a\"}}]}\n\n", GUARD_CONTENT},
    {CHAT, "data: {\"choices\":\r\ndata: []}\r\n\r\n", GUARD_LIFECYCLE},
    {CHAT, "\xef\xbb\xbf" DELTA("{\"content\":\"a\"}"), GUARD_CONTENT},
    {CHAT, "id: 1\n" DELTA("{\"content\":\"a\"}"), GUARD_CONTENT},
    {CHAT, "data:{\"choices\":[]}\n\n", GUARD_LIFECYCLE},
    {CHAT, "data\n\n", GUARD_UNFIT},
    {CHAT, "data: {\"choices\":[\n\n", GUARD_MALFORMED},
    {CHAT, "data: {\"choices\":[]}}\n\n", GUARD_MALFORMED},
    {CHAT, "data: {'choices':[]}\n\n", GUARD_MALFORMED},
    {CHAT, "data: nan\n\n", GUARD_MALFORMED},
    {CHAT, "data: <html>\n\n", GUARD_MALFORMED},
    {CHAT, "data: {}\ndata: {}\n\n", GUARD_MALFORMED},
    {CHAT, DELTA("{\"content\":\"\xff\"}"), GUARD_MALFORMED},
    {CHAT, DELTA("{\"content\":\"\xed\xa0\x80\"}"), GUARD_MALFORMED},
    {CHAT, DELTA("{\"content\":\"\xc3\xa9\"}"), GUARD_CONTENT},
    {OLD, "data: x\n\n", GUARD_MALFORMED},
    {RESP, "event: response.created\ndata: {\"type\":\"resp\n\n", GUARD_MALFORMED},
    {MSG, "event: ping\ndata: ping\n\n", GUARD_MALFORMED},
    {OTHER, "data: {\"a\":\n\n", GUARD_CONTENT},
    {OTHER, "data: \xff\n\n", GUARD_CONTENT},
};

static void check_row(const struct row *row)
{
    enum guard_kind kind;

    begin(row->dialect, false);
    kind = see(row->event);
    ck_assert_msg(kind == row->kind, "%d instead of %d: %s", (int)kind, (int)row->kind, row->event);
    ck_assert_int_eq(guard.content, kind == GUARD_CONTENT);
    ck_assert_int_eq(guard.marker, kind == GUARD_END);
    ck_assert(!guard.failed);
}

START_TEST(each_event_has_its_kind)
{
    for (size_t i = 0; i < COUNT(chunks); i++)
        check_row(&chunks[i]);
    for (size_t i = 0; i < COUNT(typed); i++)
        check_row(&typed[i]);
    for (size_t i = 0; i < COUNT(framing); i++)
        check_row(&framing[i]);
}
END_TEST

/* Python's SDK takes an event with an id for one that has data. */
START_TEST(comments_are_unfit_behind_an_id)
{
    static const enum dialect dialects[] = {CHAT, OLD, RESP};

    for (size_t i = 0; i < COUNT(dialects); i++) {
        begin(dialects[i], false);
        ck_assert_int_eq(see(": c\n\n"), GUARD_FILLER);
        ck_assert_int_eq(see("id: 1\ndata: {}\n\n"), GUARD_LIFECYCLE);
        ck_assert_int_eq(see(": c\n\n"), GUARD_UNFIT);
        ck_assert_int_eq(see("\n"), GUARD_UNFIT);
        guard_reset(&guard);
        ck_assert_int_eq(see(": c\n\n"), GUARD_FILLER);
    }
    begin(MSG, false);
    ck_assert_int_eq(see("id: 1\ndata: {}\n\n"), GUARD_LIFECYCLE);
    ck_assert_int_eq(see(": c\n\n"), GUARD_FILLER);
}
END_TEST

/* --- errors ----------------------------------------------------------------------------------- */

static const struct {
    enum dialect dialect;
    const char *event;
    enum apierror_kind kind;
    const char *code, *message;
    bool raised, is_response;
} errors[] = {
    {CHAT, "data: {\"error\":{\"message\":\"m\",\"type\":\"server_error\",\"code\":\"c\"}}\n\n",
     APIERROR_OTHER, "c", "m", true, false},
    {CHAT, "data: {\"error\":{\"message\":\"m\",\"code\":502}}\n\n", APIERROR_OTHER, "502", "m",
     true, false}, /* vLLM */
    {CHAT,
     "data: {\"id\":\"g\",\"object\":\"chat.completion.chunk\",\"error\":{\"code\":429,\"message\":"
     "\"m\"},\"choices\":[{\"delta\":{\"content\":\"\"},\"finish_reason\":\"error\"}]}\n\n",
     APIERROR_OTHER, "429", "m", false, true}, /* OpenRouter: not every SDK looks beside choices */
    {CHAT, "data: {\"object\":\"error\",\"message\":\"m\",\"type\":\"t\",\"code\":400}\n\n",
     APIERROR_OTHER, "400", "m", false, false}, /* vLLM's flat one */
    {CHAT, "data: {\"error\":\"m\"}\n\n", APIERROR_OTHER, "", "m", false, false},
    {RESP, "data: {\"error\":{\"message\":\"m\"}}\n\n", APIERROR_OTHER, "", "m", false, false},
    {CHAT, "data: {\"error\":[{\"message\":\"m\",\"code\":502}]}\n\n", APIERROR_OTHER, "502", "m",
     false, false},
    {CHAT, "data: {\"base_resp\":{\"status_code\":1008,\"status_msg\":\"m\"}}\n\n", APIERROR_QUOTA,
     "1008", "m", false, false}, /* MiniMax */
    {CHAT,
     "data: {\"id\":\"i\",\"choices\":null,\"base_resp\":{\"status_code\":1002,\"status_msg\":"
     "\"m\"}}\n\n",
     APIERROR_RATE_LIMIT, "1002", "m", false, false},
    {CHAT, "data: {\"choices\":[],\"base_resp\":{\"status_code\":1000,\"status_msg\":\"m\"}}\n\n",
     APIERROR_OTHER, "1000", "m", false, true},
    {CHAT, "data: {\"error\":\ndata: {\"message\":\"m\"}}\n\n", APIERROR_OTHER, "", "m", true,
     false},
    {CHAT, "error: {\"code\":500,\"message\":\"m\"}\n\n", APIERROR_OTHER, "500", "m", false,
     false}, /* llama.cpp */
    {CHAT, "error: overloaded\n\n", APIERROR_OTHER, "", "", false, false},
    {CHAT, "event: error\ndata: {\"error\":{\"message\":\"m\",\"code\":\"c\"}}\n\n", APIERROR_OTHER,
     "c", "m", true, false},
    {CHAT, "event: error\ndata: {\"code\":\"rate_limit_exceeded\",\"message\":\"m\"}\n\n",
     APIERROR_RATE_LIMIT, "rate_limit_exceeded", "m", false, false},
    {CHAT, "event: Error\ndata: not json\n\n", APIERROR_OTHER, "", "", false, false},
    {CHAT, "event: error\ndata: {\"error\":{\"message\":\"m\"}\n\n", APIERROR_OTHER, "", "m", false,
     false}, /* cut off */
    {CHAT, "event: error\ndata: {\"error\":{}}\n\n", APIERROR_OTHER, "", "", false, false},
    {CHAT, "event: error\ndata: {}\n\n", APIERROR_OTHER, "", "", false, false},
    {OLD, "data: {\"error\":{\"code\":\"insufficient_quota\",\"message\":\"m\"}}\n\n",
     APIERROR_QUOTA, "insufficient_quota", "m", true, false},
    {RESP,
     "event: error\ndata: {\"type\":\"error\",\"code\":\"server_is_overloaded\",\"message\":\"m\","
     "\"param\":null,\"sequence_number\":3}\n\n",
     APIERROR_OVERLOADED, "server_is_overloaded", "m", false, false},
    {RESP, "data: {\"type\":\"error\",\"code\":null,\"message\":\"m\"}\n\n", APIERROR_OTHER, "",
     "m", false, false},
    {RESP, TYPED("error", ",\"error\":{\"code\":\"c\",\"message\":\"m\"}"), APIERROR_OTHER, "c",
     "m", true, false},
    {RESP,
     TYPED("response.failed",
           ",\"response\":{\"id\":\"r\",\"error\":{\"code\":\"c\",\"message\":\"m\"}}"),
     APIERROR_OTHER, "c", "m", false, true},
    {RESP, TYPED("response.failed", ",\"response\":{\"id\":\"r\",\"error\":null}"), APIERROR_OTHER,
     "", "", false, true},
    {MSG,
     "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\","
     "\"message\":\"m\"}}\n\n",
     APIERROR_OVERLOADED, "", "m", true, false},
    {MSG, "data: {\"type\":\"error\",\"error\":{\"type\":\"api_error\",\"message\":\"m\"}}\n\n",
     APIERROR_OTHER, "", "m", false, false}, /* Anthropic's SDK goes by the event's name */
    {OTHER, "data: {\"error\":{\"message\":\"m\"}}\n\n", APIERROR_OTHER, "", "m", true, false},
    {OTHER, "event: error\ndata: anything\n\n", APIERROR_OTHER, "", "", true, false},
    {OTHER, "error: {\"message\":\"m\"}\n\n", APIERROR_OTHER, "", "m", false, false},
};

START_TEST(each_error_is_seen_as_one)
{
    struct guard_seen seen;

    begin(errors[_i].dialect, false);
    ck_assert_int_eq(look(errors[_i].event, &seen), GUARD_ERROR);
    ck_assert_int_eq(seen.error.kind, errors[_i].kind);
    ck_assert_str_eq(seen.error.code, errors[_i].code);
    ck_assert_str_eq(seen.error.message, errors[_i].message);
    ck_assert_int_eq(seen.raised, errors[_i].raised);
    ck_assert_int_eq(seen.is_response, errors[_i].is_response);
    ck_assert(guard.failed && !guard.content && !guard.marker);
    guard_reset(&guard);
    ck_assert(!guard.failed);
}
END_TEST

/* --- whole, empty ----------------------------------------------------------------------------- */

#define PART "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n"
#define PART_1 "data: {\"choices\":[{\"index\":1,\"delta\":{\"content\":\"a\"}}]}\n\n"
#define PART_70 "data: {\"choices\":[{\"index\":70,\"delta\":{\"content\":\"a\"}}]}\n\n"
#define PART_USAGE \
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}],\"usage\":{\"t\":1}}\n\n"
#define PART_OPEN FINISH("{\"content\":\"a\"}", "\"\"")
#define OPEN FINISH("{}", "\"\"")
#define STOP "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
#define STOP_1 "data: {\"choices\":[{\"index\":1,\"delta\":{},\"finish_reason\":\"length\"}]}\n\n"
#define USAGE "data: {\"choices\":[],\"usage\":{\"total_tokens\":3}}\n\n"
#define NO_USAGE "data: {\"choices\":[],\"usage\":null}\n\n"
#define ROLE "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\"}}]}\n\n"
#define DONE "data: [DONE]\n\n"

static const struct {
    enum dialect dialect;
    const char *events[5];
    bool clean, broke,
        broke_usage; /* whole at a clean end; at a break; where usage was asked for */
    bool empty;
} states[] = {
    {CHAT, {NULL}, false, false, false, true},
    {CHAT, {": c\n\n"}, false, false, false, true},
    {CHAT, {ROLE}, false, false, false, true},
    {CHAT, {ROLE, DONE}, true, true, true, true},
    {CHAT, {DONE}, true, true, true, true},
    {CHAT, {PART}, false, false, false, false},
    {CHAT, {PART, STOP}, true, true, true, false},
    {CHAT, {STOP}, true, true, true, false},
    {CHAT, {PART_OPEN}, false, false, false, false},
    {CHAT, {PART_OPEN, PART_OPEN, OPEN}, false, false, false, false},
    {CHAT, {OPEN}, false, false, false, true},
    {CHAT, {PART_OPEN, OPEN, STOP, OPEN}, true, true, true, false},
    {CHAT, {PART, FINISH("{}", "\"null\"")}, false, false, false, false},
    {CHAT, {PART, STOP, USAGE}, true, true, true, false},
    {CHAT, {PART, STOP, NO_USAGE}, true, true, true, false},
    {CHAT, {PART, STOP, USAGE, DONE}, true, true, true, false},
    {CHAT, {PART, DONE}, true, true, true, false},
    {CHAT, {PART, PART_1, STOP}, false, false, false, false},
    {CHAT, {PART, PART_1, STOP, STOP_1}, true, true, true, false},
    {CHAT, {PART, PART_1, STOP, STOP_1, USAGE}, true, true, true, false},
    {CHAT, {PART, PART_70, STOP, STOP_1}, false, false, false, false},
    {OLD, {"data: {\"choices\":[{\"text\":\"a\"}]}\n\n"}, false, false, false, false},
    {OLD,
     {"data: {\"choices\":[{\"text\":\"a\",\"finish_reason\":\"stop\"}]}\n\n"},
     true,
     true,
     true,
     false},
    {OLD,
     {"data: {\"choices\":[{\"text\":\"a\",\"finish_reason\":\"\"}]}\n\n"},
     false,
     false,
     false,
     false},
    {OLD, {DONE}, true, true, true, true},
    {RESP, {NULL}, false, false, false, true},
    {RESP, {TYPED("response.created", "")}, false, false, false, true},
    {RESP, {TYPED("response.output_text.delta", "")}, false, false, false, false},
    {RESP, {TYPED("response.completed", "")}, true, true, true, false},
    {RESP, {TYPED("response.created", ""), DONE}, false, false, false, true},
    {MSG, {"data: {\"type\":\"message_start\"}\n\n"}, false, false, false, true},
    {MSG, {"data: {\"type\":\"content_block_delta\"}\n\n"}, false, false, false, false},
    {MSG, {"data: {\"type\":\"message_stop\"}\n\n"}, true, true, true, false},
    {MSG, {"data: {\"type\":\"content_block_delta\"}\n\n", MSG_STOPS}, true, true, true, false},
    {CHAT, {PART, USAGE}, true, false, false, false}, /* the usage comes last */
    {CHAT, {PART, USAGE, PART}, false, false, false, false},
    {CHAT, {PART, PART_USAGE}, false, false, false, false},
    {CHAT, {ROLE, USAGE}, false, false, false, true},
    {CHAT, {PART, PART_1, STOP, USAGE}, false, false, false, false},
    {CHAT, {"data: {\"text\":\"new\"}\n\n", DONE}, true, true, true, false}, /* in other words */
    {CHAT, {"data: {\"text\":\"new\"}\n\n"}, false, false, false, true},
    {CHAT, {ROLE, "data: {\"text\":\"new\"}\n\n", DONE}, true, true, true, true},
    /* A reason that comes with each chunk ends nothing, whatever it is; an orderly end may. */
    {CHAT, {GOES_ON("unknown"), GOES_ON("unknown")}, true, false, false, false},
    {CHAT, {GOES_ON("stop"), GOES_ON("stop"), GOES_ON("stop")}, true, false, false, false},
    {CHAT, {GOES_ON("stop"), GOES_ON("stop"), DONE}, true, true, true, false},
    {CHAT, {GOES_ON("nil"), GOES_ON("nil"), STOP}, true, true, true, false},
    {CHAT, {GOES_ON("nil"), GOES_ON("nil"), PART_1}, false, false, false, false},
    {CHAT, {PART, GOES_ON("stop"), STOP}, true, true, true, false}, /* said twice */
    {OTHER, {"event: image_generation.completed\ndata: {}\n\n"}, true, true, true, false},
    {OTHER, {"data: {\"type\":\"image_edit.completed\"}\n\n"}, true, true, true, false},
    {OTHER, {"data: {\"type\":\"speech.audio.done\"}\n\n"}, true, true, true, false},
    {OTHER,
     {"data: {\"text\":\"\",\"type\":\"transcript.text.done\"}\n\n"},
     true,
     true,
     true,
     false},
    {OTHER, {"data: {\"type\":\"image_generation.partial_image\"}\n\n"}, true, false, false, false},
    {OTHER, {NULL}, true, false, false, true},
    {OTHER, {"data: a\n\n"}, true, false, false, false},
    {OTHER, {"data: a\n\n", DONE}, true, true, true, false},
};

START_TEST(it_is_whole_when_it_says_so)
{
    for (int usage = 0; usage < 2; usage++) {
        begin(states[_i].dialect, usage);
        for (size_t i = 0; i < 5 && states[_i].events[i]; i++)
            (void)see(states[_i].events[i]);
        ck_assert_int_eq(guard_whole(&guard, false), states[_i].clean);
        ck_assert_int_eq(guard_whole(&guard, true),
                         usage ? states[_i].broke_usage : states[_i].broke);
        ck_assert_int_eq(guard_empty(&guard), states[_i].empty);
        guard_reset(&guard);
        ck_assert(guard_empty(&guard));
        ck_assert(!guard_whole(&guard, true));
    }
}
END_TEST

/* Unknown events are held, but not for ever: they may be deltas with a new name. */
START_TEST(unknown_events_are_content_once_there_are_many)
{
    static const char event[] = "data: {\"type\":\"vendor.delta_v2\",\"text\":\"a\"}\n\n";
    static char big[80000];
    struct guard_seen seen;
    unsigned n = 0;

    begin(RESP, false);
    while (look(event, &seen) == GUARD_LIFECYCLE && n < 1000) {
        ck_assert(!seen.news && guard_empty(&guard));
        n++;
    }
    ck_assert(n > 40 && n < 64);
    ck_assert(seen.kind == GUARD_CONTENT && guard.content);
    begin(RESP, false);
    memset(big, 'x', sizeof(big) - 1);
    memcpy(big, "data: {\"type\":\"v\",\"x\":\"", 23);
    memcpy(big + sizeof(big) - 5, "\"}\n\n", 4);
    ck_assert_int_eq(see(big), GUARD_CONTENT);
}
END_TEST

START_TEST(pings_are_no_news)
{
    static const struct {
        enum dialect d;
        const char *event;
        bool news, closely;
    } rows[] = {
        {CHAT, ": c\n\n", false, true},
        {RESP, TYPED("keepalive", ""), false, true},
        {RESP, TYPED("response.web_search_call.searching", ""), true, true},
        {RESP, TYPED("codex.rate_limits", ""), false, true},
        {RESP, TYPED("response.in_progress", ""), true, true},
        {MSG, "event: ping\ndata: {\"type\":\"ping\"}\n\n", false, true},
        {CHAT, FINISH("{}", "null"), false, true},
        {CHAT, FINISH("{\"content\":\"\"}", "\"\""), false, true},
        {CHAT, FINISH("{\"content\":\"a\"}", "null"), true, true},
        {CHAT, FINISH("{\"content\":\"a\"}", "null"), false, false}, /* at a glance */
        {CHAT, DONE, true, true},
        {OTHER, "data: a\n\n", true, true},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct guard_seen seen;

        begin(rows[i].d, false);
        guard.content = guard.said = true;
        guard.closely = rows[i].closely;
        (void)look(rows[i].event, &seen);
        ck_assert_msg(seen.news == rows[i].news, "%s", rows[i].event);
    }
}
END_TEST

/* Choices may come one after the other: what ends between two of them is not whole. */
START_TEST(as_many_choices_as_were_asked_for)
{
    static const struct {
        unsigned wanted;
        const char *events[5];
        bool whole;
    } rows[] = {
        {1, {PART, STOP}, true},
        {2, {PART, STOP}, false},
        {2, {PART, STOP, PART_1}, false},
        {2, {PART, STOP, PART_1, STOP_1}, true},
        {1, {PART, STOP, PART_1, STOP_1}, true}, /* more than were asked for */
        {3, {PART, STOP, PART_1, STOP_1}, false},
        {128, {PART, STOP, PART_1, STOP_1}, false},
        {2, {PART, DONE}, true},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        guard_deinit(&guard);
        guard_init(&guard, CHAT, rows[i].wanted, false);
        for (size_t k = 0; k < 5 && rows[i].events[k]; k++)
            (void)see(rows[i].events[k]);
        ck_assert_int_eq(guard_whole(&guard, true), rows[i].whole);
        ck_assert_int_eq(guard_whole(&guard, false), rows[i].whole);
    }
}
END_TEST

/* --- response ids, sequence numbers ----------------------------------------------------------- */

static void see_id(const char *id)
{
    char event[1024];

    ck_assert_int_lt(snprintf(event, sizeof(event),
                              "data: {\"type\":\"response.created\",\"response\":{\"id\":%s}}\n\n",
                              id),
                     (int)sizeof(event));
    ck_assert_int_eq(see(event), GUARD_LIFECYCLE);
}

/* It becomes a part of a path. */
START_TEST(only_a_plain_id_is_kept)
{
    static const char *const bad[] = {
        "\"\"",         "\"a/b\"", "\"..\"",       "\"a.b\"",   "\"a?b\"", "\"a b\"",
        "\"a%2fb\"",    "\"a#\"",  "\"a\\u0041\"", "\"a\\nb\"", "5",       "null",
        "\"\xc3\xa9\"", "\"a&b\"", "\"a;b\"",      "{\"a\":1}", "[\"a\"]", "\"a\\u0000b\""};
    char longest[300] = "\"";

    begin(RESP, false);
    for (size_t i = 0; i < COUNT(bad); i++) {
        see_id(bad[i]);
        ck_assert_uint_eq(guard.response_id.len, 0);
    }
    memset(longest + 1, 'a', 256);
    memcpy(longest + 257, "\"", 2);
    see_id(longest);
    ck_assert_uint_eq(guard.response_id.len, 0);
    see_id("\"resp_Az-09\"");
    ck_assert_str_eq(guard.response_id.p, "resp_Az-09");
    see_id("\"resp_other\"");
    ck_assert_str_eq(guard.response_id.p, "resp_Az-09");
    guard_reset(&guard);
    ck_assert_uint_eq(guard.response_id.len, 0);
    memcpy(longest + 256, "\"", 2);
    see_id(longest);
    ck_assert_uint_eq(guard.response_id.len, 256);
    ck_assert_uint_eq(strlen(guard.response_id.p), 255);
}
END_TEST

START_TEST(the_sequence_goes_on_behind_the_last_one)
{
    begin(RESP, false);
    (void)see("data: {\"type\":\"a\"}\n\n");
    ck_assert_uint_eq(guard.sequence, 0);
    (void)see("data: {\"type\":\"a\",\"sequence_number\":0}\n\n");
    ck_assert_uint_eq(guard.sequence, 1);
    (void)see("data: {\"sequence_number\":41,\"type\":\"a\"}\n\n");
    ck_assert_uint_eq(guard.sequence, 42);
    (void)see("data: {\"sequence_number\":\"7\",\"type\":\"a\"}\n\n");
    (void)see("data: {\"sequence_number\":-1,\"type\":\"a\"}\n\n");
    ck_assert_uint_eq(guard.sequence, 42);
}
END_TEST

/* --- memory ----------------------------------------------------------------------------------- */

START_TEST(without_memory_an_event_is_not_read)
{
    static const char event[] = "data: {\"choices\":\ndata: [{\"delta\":{\"content\":\"a\"}}]}\n\n";
    struct guard_seen seen;
    size_t n = 0;

    for (bool failed = true; failed;) {
        begin(CHAT, false);
        failmem_arm(++n);
        guard_look(&guard, STR(event), &seen);
        failed = failmem_disarm();
        ck_assert_int_eq(seen.kind, failed ? GUARD_UNREAD : GUARD_CONTENT);
        guard_reset(&guard);
        ck_assert_int_eq(see(event), GUARD_CONTENT); /* the next one is not hurt by it */
    }
    ck_assert_uint_gt(n, 1);
    begin(RESP, false);
    failmem_arm(1);
    guard_look(&guard, STR("data: {\"type\":\"response.created\",\"response\":{\"id\":\"r\"}}\n\n"),
               &seen);
    ck_assert(failmem_disarm());
    ck_assert_int_eq(seen.kind, GUARD_LIFECYCLE);
    ck_assert_uint_eq(guard.response_id.len, 0);
    see_id("\"r\"");
    ck_assert_str_eq(guard.response_id.p, "r");
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *c = unit_case(suite, "events");

    tcase_add_checked_fixture(c, NULL, tear_down);
    tcase_add_test(c, each_event_has_its_kind);
    tcase_add_test(c, comments_are_unfit_behind_an_id);
    tcase_add_loop_test(c, each_error_is_seen_as_one, 0, COUNT(errors));
    tcase_add_loop_test(c, it_is_whole_when_it_says_so, 0, COUNT(states));
    tcase_add_test(c, unknown_events_are_content_once_there_are_many);
    tcase_add_test(c, pings_are_no_news);
    tcase_add_test(c, as_many_choices_as_were_asked_for);
    tcase_add_test(c, only_a_plain_id_is_kept);
    tcase_add_test(c, the_sequence_goes_on_behind_the_last_one);
    tcase_add_test(c, without_memory_an_event_is_not_read);
}
