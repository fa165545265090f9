/* Tells content from announcements, ends and errors, event by event. */
#include "stream/guard.h"

#include <string.h>

#include "base/hash.h"
#include "http/json.h"
#include "stream/completion.h"
#include "stream/guard_words.h"
#include "stream/sse.h"

#define RESPONSE_ID_MAX 256
#define JOINED_MAX (16u << 20)

void guard_init(struct guard *g, enum dialect dialect, unsigned choices_wanted, bool usage_wanted)
{
    memset(g, 0, sizeof(*g));
    g->dialect = dialect;
    g->choices_wanted = choices_wanted;
    g->usage_wanted = usage_wanted;
    buf_init(&g->response_id, RESPONSE_ID_MAX);
    buf_init(&g->joined, JOINED_MAX);
}

void guard_deinit(struct guard *g)
{
    buf_deinit(&g->response_id);
    buf_deinit(&g->joined);
}

void guard_reset(struct guard *g)
{
    buf_reset(&g->response_id, RESPONSE_ID_MAX);
    buf_reset(&g->joined, 0);
    g->content = g->marker = g->failed = g->usage = g->closes = g->id_seen = g->stopped = false;
    g->said = g->curbed = g->silent = false;
    g->choices = g->finished = g->sequence = g->strange = 0;
    g->reason = g->hollow = g->went_on = 0;
    g->ends = 0;
    g->response = (struct guard_response){.id = ""};
}

/* In the streams that are known here every event's data is JSON, but for [DONE]. */
static bool is_known(const struct guard *g)
{
    return g->dialect != DIALECT_OTHER;
}

/* The SDKs of OpenAI's and Google's APIs, which read each event's data as JSON, even where it has
 * none. */
static bool needs_data(const struct guard *g)
{
    return is_known(g) && g->dialect != DIALECT_MESSAGES;
}

static bool is_chunks(const struct guard *g)
{
    return g->dialect == DIALECT_CHAT || g->dialect == DIALECT_COMPLETIONS;
}

static bool is_done_mark(struct str data)
{
    return str_starts(data, STR("[DONE]"));
}

/* A gateway that wraps another's comments: "data: : PROCESSING". */
static bool is_wrapped_comment(struct str data)
{
    data = str_trim(data);
    return data.n > 0 && data.p[0] == ':';
}

static bool is_letter(char c)
{
    return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}

/* "ping", "[HEARTBEAT]", "ping - 2026-11-30 12:00:00": only what its letters say counts. */
static bool is_ping_word(struct str s)
{
    static const struct str words[] = {{"ping", 4},      {"pong", 4},        {"heartbeat", 9},
                                       {"keepalive", 9}, {"keep-alive", 10}, {"keep_alive", 10}};

    while (s.n > 0 && !is_letter(s.p[0]))
        s = (struct str){s.p + 1, s.n - 1};
    while (s.n > 0 && !is_letter(s.p[s.n - 1]))
        s.n--;
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (str_ieq(s, words[i]))
            return true;
    return false;
}

/* --- chat completions and completions ------------------------------------------------------------ */

bool guard_names_reason(const struct json_value *v)
{
    struct str reason = str_trim(v->text);

    return v->type == JSON_STRING && reason.n > 0 && !str_ieq(reason, STR("null")) &&
           !str_ieq(reason, STR("none"));
}

/* A delta that only names a role, or whose texts are all empty, announces the answer. */
static bool has_content(struct str delta)
{
    struct json_iter i = json_iter(delta);
    struct str key;
    struct json_value v;

    while (json_next_member(&i, &key, &v))
        if (!str_eq(key, STR("role")) && completion_says(&v))
            return true;
    return false;
}

static uint64_t bit_of(const struct json_value *index)
{
    uint64_t n;

    if (index->type != JSON_NUMBER || !str_to_u64(index->text, &n))
        n = 0;
    return 1ULL << (n < 63 ? n : 63);
}

/* A choice gives a reason. One that comes again beside more of the same choice is what this server says
 * while it goes on: from then on it finishes nothing. */
static bool finishes(struct guard *g, uint64_t bit, struct str reason, bool says)
{
    uint64_t word = hash_text(reason);

    if (says && (g->finished & bit) && word == g->reason)
        g->hollow = word;
    g->reason = word;
    if (word != g->hollow) {
        g->finished |= bit;
        return true;
    }
    g->finished &= ~bit;
    g->went_on |= bit;
    return false;
}

static bool choice_says(const struct json_value *delta, const struct json_value *text)
{
    return delta->type == JSON_OBJECT ? has_content(delta->text) : completion_says(text);
}

static enum guard_kind look_at_choice(struct guard *g, struct str choice)
{
    enum { INDEX, DELTA, TEXT, FINISH, MESSAGE, WANTS };
    struct json_want w[WANTS] = {{.key = STR("index")},
                                 {.key = STR("delta")},
                                 {.key = STR("text")},
                                 {.key = STR("finish_reason")},
                                 {.key = STR("message")}};
    uint64_t bit;
    bool goes_on, says;

    json_scan(choice, w, WANTS);
    bit = bit_of(&w[INDEX].value);
    g->choices |= bit;
    /* Some servers send a whole message; Azure what its filters say, and nothing else. */
    goes_on = choice_says(&w[DELTA].value, &w[TEXT].value);
    says = goes_on || has_content(w[MESSAGE].value.text);
    g->said |= says;
    if (guard_names_reason(&w[FINISH].value) && finishes(g, bit, w[FINISH].value.text, goes_on)) {
        g->curbed |= completion_is_curbed(&w[FINISH].value);
        return GUARD_CONTENT;
    }
    return says ? GUARD_CONTENT : GUARD_LIFECYCLE;
}

/* Most chunks carry on with the only choice there is: they have a finish_reason, once, and it is
 * null, or empty. That is quicker to see than to read, and saves a third of what an event costs. */
static bool carries_on(const struct guard *g, struct str data, const struct guard_words *words)
{
    const char *end = data.p + data.n, *p = words->reason;

    if (!g->said || g->finished || g->closely || g->choices_wanted != 1 ||
        g->dialect != DIALECT_CHAT || words->reasons != 1)
        return false;
    while (p < end && (*p == ':' || *p == ' '))
        p++;
    return (size_t)(end - p) > 4 && (memcmp(p, "null", 4) == 0 || memcmp(p, "\"\"", 2) == 0);
}

static enum guard_kind look_at_chunk(struct guard *g, struct str data,
                                     const struct guard_words *words)
{
    struct json_want w[] = {{.key = STR("choices")}, {.key = STR("usage")}};
    enum guard_kind kind = GUARD_LIFECYCLE;
    struct json_value choice;
    struct json_iter i;
    bool any = false;

    if (carries_on(g, data, words)) {
        g->closes = false;
        return GUARD_LIFECYCLE;
    }
    json_scan(data, w, 2);
    if (w[0].value.type != JSON_ARRAY)
        kind = GUARD_STRANGE;
    i = json_iter(w[0].value.text);
    while (json_next_element(&i, &choice)) {
        any = true;
        if (look_at_choice(g, choice.text) == GUARD_CONTENT)
            kind = GUARD_CONTENT;
    }
    if (w[1].value.type == JSON_OBJECT)
        g->usage = g->closes = true;
    if (any) /* some servers tell the usage with every chunk */
        g->closes = false;
    return kind;
}

/* --- typed events: Responses and messages --------------------------------------------------------- */

struct event_type {
    struct str type;
    enum guard_kind kind;
};

/* Only what stands here, deltas and what has been finished: the rest can still be followed by another
 * attempt. */
static const struct event_type responses_types[] = {
    {{"response.created", 16}, GUARD_LIFECYCLE},
    {{"response.queued", 15}, GUARD_LIFECYCLE},
    {{"response.in_progress", 20}, GUARD_LIFECYCLE},
    {{"response.output_item.added", 26}, GUARD_LIFECYCLE},
    {{"response.content_part.added", 27}, GUARD_LIFECYCLE},
    {{"keepalive", 9}, GUARD_IDLE},
    {{"ping", 4}, GUARD_IDLE},
    {{"response.completed", 18}, GUARD_END},
    {{"response.incomplete", 19}, GUARD_END},
};

static const struct event_type messages_types[] = {
    {{"message_start", 13}, GUARD_LIFECYCLE},
    {{"message_delta", 13}, GUARD_LIFECYCLE}, /* its stop_reason is looked at */
    {{"ping", 4}, GUARD_IDLE},
    {{"content_block_start", 19}, GUARD_LIFECYCLE},
    {{"content_block_stop", 18}, GUARD_CONTENT},
    {{"message_stop", 12}, GUARD_END},
};

/* What the APIs that stream something else than text say at their end. */
static const struct str known_ends[] = {{"image_generation.completed", 26},
                                        {"image_edit.completed", 20},
                                        {"speech.audio.done", 17},
                                        {"transcript.text.done", 20}};

/* `delta`: what the event calls so. One that has it is a part of the answer, whatever its type. */
static enum guard_kind kind_of(const struct event_type *types, size_t n, struct str type,
                               const struct json_value *delta)
{
    if (str_ends(type, STR(".delta"))) /* most are */
        return delta->type == JSON_STRING && delta->text.n == 0 ? GUARD_LIFECYCLE : GUARD_CONTENT;
    for (size_t i = 0; i < n; i++)
        if (str_eq(type, types[i].type))
            return types[i].kind;
    if (str_ends(type, STR("_delta")) || str_ends(type, STR(".done")) ||
        str_ends(type, STR(".partial_image")) || completion_says(delta))
        return GUARD_CONTENT;
    return GUARD_STRANGE;
}

/* It is going to be part of a path. */
static bool is_plain_id(struct str id)
{
    for (size_t i = 0; i < id.n; i++)
        if (!(id.p[i] >= '0' && id.p[i] <= '9') && !(id.p[i] >= 'a' && id.p[i] <= 'z') &&
            !(id.p[i] >= 'A' && id.p[i] <= 'Z') && id.p[i] != '_' && id.p[i] != '-')
            return false;
    return id.n > 0 && id.n < RESPONSE_ID_MAX;
}

static void keep_text(const struct json_value *v, char *to, size_t size)
{
    if (v->type != JSON_STRING || v->text.n >= size)
        return;
    memcpy(to, v->text.p, v->text.n);
    to[v->text.n] = '\0';
}

/* The first answer's stays, whatever comes behind it. */
static void note_response(struct guard *g, const struct json_want *id,
                          const struct json_want *model, const struct json_want *created_at)
{
    struct guard_response *r = &g->response;

    if (r->id[0])
        return;
    keep_text(&id->value, r->id, sizeof(r->id));
    keep_text(&model->value, r->model, sizeof(r->model));
    (void)json_to_u64(created_at->value, &r->created_at);
}

static void note_response_id(struct guard *g, const struct json_value *response)
{
    struct json_want w[] = {{.key = STR("id")}, {.key = STR("model")}, {.key = STR("created_at")}};
    struct json_value id;

    if (g->response_id.len > 0 || response->type != JSON_OBJECT)
        return;
    json_scan(response->text, w, 3);
    note_response(g, &w[0], &w[1], &w[2]);
    id = w[0].value;
    if (id.type != JSON_STRING || !is_plain_id(id.text))
        return;
    buf_add_str(&g->response_id, id.text);
    if (buf_addc(&g->response_id, '\0') < 0)
        buf_reset(&g->response_id, 0);
}

/* The data's type; where it has none, the event's. */
static struct str type_of(const struct json_value *type, const struct sse_event *e)
{
    return type->type == JSON_STRING ? type->text : e->type;
}

static enum guard_kind look_at_response(struct guard *g, const struct sse_event *e, struct str data,
                                        bool *ret_repeated)
{
    struct json_want w[] = {{.key = STR("type")},
                            {.key = STR("sequence_number")},
                            {.key = STR("response")},
                            {.key = STR("delta")}};
    struct str type;
    enum guard_kind kind;
    uint64_t n;

    json_scan(data, w, 4);
    if (json_to_u64(w[1].value, &n)) {
        *ret_repeated = n < g->sequence;
        if (n < UINT64_MAX && n >= g->sequence)
            g->sequence = n + 1;
    }
    note_response_id(g, &w[2].value);
    if (!g->content && str_eq(w[0].value.text, STR("response.completed")))
        g->silent = completion_is_empty(DIALECT_RESPONSES, w[2].value.text);
    type = type_of(&w[0].value, e);
    kind = kind_of(responses_types, sizeof(responses_types) / sizeof(responses_types[0]), type,
                   &w[3].value);
    /* What the API's own events announce is under way: a search, a tool that runs. */
    return kind == GUARD_STRANGE && str_starts(type, STR("response.")) &&
                   !str_eq(type, STR("response.metadata"))
               ? GUARD_LIFECYCLE
               : kind;
}

static enum guard_kind look_at_message(struct guard *g, const struct sse_event *e, struct str data)
{
    struct json_want w[] = {{.key = STR("type")}, {.key = STR("delta")}};
    struct json_value reason;
    enum guard_kind kind;

    json_scan(data, w, 2);
    kind = kind_of(messages_types, sizeof(messages_types) / sizeof(messages_types[0]),
                   type_of(&w[0].value, e), &w[1].value);
    if (kind != GUARD_LIFECYCLE || w[1].value.type != JSON_OBJECT)
        return kind;
    reason = json_scan_one(w[1].value.text, STR("stop_reason"));
    if (!guard_names_reason(&reason))
        return kind;
    g->stopped = true;
    return GUARD_CONTENT;
}

static bool is_known_end(struct str type)
{
    for (size_t i = 0; i < sizeof(known_ends) / sizeof(known_ends[0]); i++)
        if (str_eq(type, known_ends[i]))
            return true;
    return false;
}

/* Of streams whose marks are not known: a few say so all the same when they are whole, once for each
 * of what was asked for. */
static void note_end(struct guard *g, const struct sse_event *e, struct str data,
                     const struct guard_words *words)
{
    struct str type = e->type;

    if (type.n == 0 && (words->found & GUARD_WORD_END))
        type = json_scan_one(data, STR("type")).text;
    g->ends += is_known_end(type);
}

/* --- Gemini --------------------------------------------------------------------------------------- */

/* An enum's value that stands for none. */
static bool names_cause(const struct json_value *v)
{
    static const struct str none = {"_UNSPECIFIED", 12};

    return guard_names_reason(v) &&
           !(v->text.n >= none.n &&
             str_eq((struct str){v->text.p + v->text.n - none.n, none.n}, none));
}

/* Text, a call, bytes; neither the mark that a part is a thought nor the signature of one. */
static bool part_has_content(struct str part)
{
    struct json_iter i = json_iter(part);
    struct str key;
    struct json_value v;

    while (json_next_member(&i, &key, &v))
        if (!str_eq(key, STR("thought")) && !str_istarts(key, STR("thoughtSignature")) &&
            completion_says(&v))
            return true;
    return false;
}

static bool content_says(const struct json_value *content)
{
    struct json_value parts, part;
    struct json_iter i;

    if (content->type != JSON_OBJECT)
        return false;
    parts = json_scan_one(content->text, STR("parts"));
    if (parts.type != JSON_ARRAY)
        return false;
    i = json_iter(parts.text);
    while (json_next_element(&i, &part))
        if (part.type == JSON_OBJECT && part_has_content(part.text))
            return true;
    return false;
}

static enum guard_kind look_at_candidate(struct guard *g, struct str candidate)
{
    enum { INDEX, CONTENT, FINISH, WANTS };
    struct json_want w[WANTS] = {
        {.key = STR("index")}, {.key = STR("content")}, {.key = STR("finishReason")}};
    uint64_t bit;
    bool says;

    json_scan(candidate, w, WANTS);
    bit = bit_of(&w[INDEX].value);
    g->choices |= bit;
    says = content_says(&w[CONTENT].value);
    if (names_cause(&w[FINISH].value) && finishes(g, bit, w[FINISH].value.text, says))
        return GUARD_CONTENT;
    return says ? GUARD_CONTENT : GUARD_LIFECYCLE;
}

/* A prompt that is refused has no candidates: that is all there will be. Google's own tools get all of
 * it within `response`. */
static enum guard_kind look_at_gemini(struct guard *g, struct str data)
{
    enum { CANDIDATES, PROMPT, RESPONSE, WANTS };
    struct json_want w[WANTS] = {
        {.key = STR("candidates")}, {.key = STR("promptFeedback")}, {.key = STR("response")}};
    enum guard_kind kind = GUARD_LIFECYCLE;
    struct json_value v;

    json_scan(data, w, WANTS);
    if (w[RESPONSE].value.type == JSON_OBJECT)
        json_scan(w[RESPONSE].value.text, w, RESPONSE);
    if (w[CANDIDATES].value.type == JSON_ARRAY) {
        struct json_iter i = json_iter(w[CANDIDATES].value.text);

        while (json_next_element(&i, &v))
            if (v.type == JSON_OBJECT && look_at_candidate(g, v.text) == GUARD_CONTENT)
                kind = GUARD_CONTENT;
    }
    if (g->choices == 0 && w[PROMPT].value.type == JSON_OBJECT) {
        v = json_scan_one(w[PROMPT].value.text, STR("blockReason"));
        if (names_cause(&v))
            return GUARD_END;
    }
    return kind;
}

/* --- errors ------------------------------------------------------------------------------------- */

/* Whether an event says that the answer failed. What is called an error is one, whatever it holds;
 * elsewhere the data decides. */
static bool is_error(const struct sse_event *e, const struct guard_words *words,
                     struct guard_seen *seen)
{
    bool named = e->error_field.n > 0 || str_ieq(e->type, STR("error"));

    if (!named && !(words->found & (GUARD_WORD_ERROR | GUARD_WORD_FAILED)))
        return false;
    apierror_parse(e->error_field.n > 0 ? e->error_field : seen->data, &seen->error);
    if (named && seen->error.kind == APIERROR_NONE)
        seen->error.kind = APIERROR_OTHER;
    return seen->error.kind != APIERROR_NONE;
}

/* MiniMax's stands beside choices that are none, or with nothing else: looked for in what is no part of
 * an answer only. */
static bool is_base_resp_error(const struct guard_words *words, struct guard_seen *seen)
{
    if (!(words->found & GUARD_WORD_BASE_RESP) ||
        (seen->kind != GUARD_LIFECYCLE && seen->kind != GUARD_STRANGE))
        return false;
    apierror_parse(seen->data, &seen->error);
    return seen->error.kind != APIERROR_NONE;
}

/* What every SDK raises as it stands. OpenAI's raise an `error` that is an object, in a Responses
 * stream only in an event of that name and type; Anthropic's go by the event's name; Google's by a
 * number as its code, in data without a name; of other streams nothing is known. An event without data reaches no client. */
static bool is_raised(const struct guard *g, const struct sse_event *e, struct str data,
                      const struct json_value *error, const struct json_value *type)
{
    bool named = str_eq(e->type, STR("error"));

    if (e->data_lines == 0)
        return false;
    if (g->dialect == DIALECT_OTHER)
        return true;
    if (!json_valid(data))
        return false;
    if (g->dialect == DIALECT_MESSAGES)
        return named;
    if (g->dialect == DIALECT_GEMINI)
        return e->type.n == 0 && error->type == JSON_OBJECT && apierror_is_google(error->text);
    return error->type == JSON_OBJECT && error->text.n > 2 &&
           (g->dialect != DIALECT_RESPONSES || (named && str_eq(type->text, STR("error"))));
}

static void describe_error(struct guard *g, const struct sse_event *e, struct guard_seen *seen)
{
    enum { ERROR, TYPE, CHOICES, WANTS };
    struct json_want w[WANTS] = {
        {.key = STR("error")}, {.key = STR("type")}, {.key = STR("choices")}};

    json_scan(seen->data, w, WANTS);
    seen->kind = GUARD_ERROR;
    seen->raised = is_raised(g, e, seen->data, &w[ERROR].value, &w[TYPE].value);
    /* Beside choices not every SDK looks for an error. */
    seen->is_answer =
        needs_data(g) && json_valid(seen->data) &&
        (str_eq(w[TYPE].value.text, STR("response.failed")) || w[CHOICES].value.type == JSON_ARRAY);
    if (seen->is_answer)
        seen->raised = false;
    g->failed = true;
}

/* --- the events -------------------------------------------------------------------------------- */

/* The event's data in one piece. False when there is no memory for it. */
static bool join(struct guard *g, struct str event, const struct sse_event *e, struct str *ret_data)
{
    *ret_data = e->data;
    if (e->data_lines < 2)
        return true;
    buf_reset(&g->joined, 4096);
    if (sse_join(event, &g->joined) < 0)
        return false;
    *ret_data = buf_str(&g->joined);
    return true;
}

/* What the events that nobody knows amount to before they are taken for content: an API whose deltas
 * have a new name would otherwise be held to its end, and pass for silent. */
#define STRANGE_WEIGHT 1024
#define STRANGE_MAX (64 * STRANGE_WEIGHT)

static enum guard_kind weigh_strange(struct guard *g, struct str data)
{
    g->strange += STRANGE_WEIGHT + data.n;
    if (g->strange <= STRANGE_MAX)
        return GUARD_IDLE;
    g->said = true; /* nobody knows what */
    return GUARD_CONTENT;
}

static enum guard_kind look_at_data(struct guard *g, const struct sse_event *e, struct str data,
                                    const struct guard_words *words, bool *ret_repeated)
{
    if (is_done_mark(data)) /* others say so by an event of their own, and some gateways add this */
        return g->dialect == DIALECT_RESPONSES || g->dialect == DIALECT_MESSAGES ? GUARD_LIFECYCLE
                                                                                 : GUARD_END;
    switch (g->dialect) {
    case DIALECT_CHAT:
    case DIALECT_COMPLETIONS:
        return look_at_chunk(g, data, words);
    case DIALECT_RESPONSES:
        return look_at_response(g, e, data, ret_repeated);
    case DIALECT_MESSAGES:
        return look_at_message(g, e, data);
    case DIALECT_GEMINI:
        return look_at_gemini(g, data);
    case DIALECT_OTHER:
        note_end(g, e, data, words);
        break;
    }
    return GUARD_CONTENT;
}

static enum guard_kind look_at_dataless(struct guard *g, const struct sse_event *e)
{
    /* Google's SDK for Python reads each line as JSON, that for Node takes a comment for a part of the
     * next event, and loses both. */
    bool reads_comments = g->id_seen || g->dialect == DIALECT_GEMINI;
    bool unfit = needs_data(g) && (!e->comment_only || reads_comments);

    return unfit ? GUARD_UNFIT : e->comment_only ? GUARD_FILLER : GUARD_LIFECYCLE;
}

void guard_look(struct guard *g, struct str event, struct guard_seen *ret)
{
    struct guard_words words;
    struct sse_event e;

    sse_parse(event, &e);
    g->id_seen |= e.has_id;
    ret->data = e.data;
    ret->repeated = ret->news = false;
    if (e.data_lines == 0 && e.error_field.n == 0) {
        ret->kind = look_at_dataless(g, &e);
        return;
    }
    if (!join(g, event, &e, &ret->data)) {
        ret->kind = GUARD_UNREAD;
        return;
    }
    guard_words_find(ret->data, g->dialect, &words);
    if (is_error(&e, &words, ret)) {
        describe_error(g, &e, ret);
        return;
    }
    if (e.data_lines == 0 || (is_known(g) && (ret->data.n == 0 || is_wrapped_comment(ret->data)))) {
        ret->kind = GUARD_UNFIT; /* by the standard such an event is none */
        return;
    }
    if (is_known(g) && !is_done_mark(ret->data) && !json_valid(ret->data)) {
        /* A ping whose data was never meant to be read is nothing that broke. */
        ret->kind = needs_data(g) && (is_ping_word(e.type) || is_ping_word(ret->data))
                        ? GUARD_UNFIT
                        : GUARD_MALFORMED;
        return;
    }
    ret->kind = look_at_data(g, &e, ret->data, &words, &ret->repeated);
    if (is_base_resp_error(&words, ret)) {
        describe_error(g, &e, ret);
        return;
    }
    if (ret->kind == GUARD_STRANGE)
        ret->kind = weigh_strange(g, ret->data);
    ret->news = ret->kind != GUARD_IDLE && (!is_chunks(g) || ret->kind != GUARD_LIFECYCLE);
    if (ret->kind == GUARD_IDLE)
        ret->kind = GUARD_LIFECYCLE;
    g->content |= ret->kind == GUARD_CONTENT;
    g->marker |= ret->kind == GUARD_END;
}

/* An end behind words that nobody knows ends them: it is theirs to tell. */
bool guard_empty(const struct guard *g)
{
    bool says_something = is_chunks(g) ? g->choices == 0 && g->strange > 0 : true;

    return !g->content && !(g->marker && says_something);
}

/* Each choice that has begun has said why it ends, and so many as were asked for. */
static bool all_finished(const struct guard *g)
{
    return g->finished != 0 && g->finished == g->choices &&
           (unsigned)__builtin_popcountll(g->finished) >= g->choices_wanted;
}

bool guard_finished(const struct guard *g)
{
    bool has_choices = is_chunks(g) || g->dialect == DIALECT_GEMINI;

    return g->marker || (has_choices && all_finished(g)) || g->stopped;
}

bool guard_lacks_usage(const struct guard *g)
{
    return is_chunks(g) && !g->marker && g->usage_wanted && !g->usage;
}

bool guard_silent(const struct guard *g)
{
    return g->silent || (is_chunks(g) && g->content && !g->said && !g->curbed);
}

/* Each choice has given a reason, though it was none that ends it: then only the order in which the
 * stream ends tells. */
static bool goes_on_to_the_end(const struct guard *g)
{
    uint64_t reasoned = g->finished | g->went_on;

    return reasoned != 0 && reasoned == g->choices;
}

bool guard_whole(const struct guard *g, bool broke)
{
    if (guard_finished(g))
        return true;
    switch (g->dialect) {
    case DIALECT_CHAT:
    case DIALECT_COMPLETIONS:
        /* Some tell no reason; but the usage comes last. */
        return !broke && g->content && ((g->closes && g->finished == 0) || goes_on_to_the_end(g)) &&
               (unsigned)__builtin_popcountll(g->choices) >= g->choices_wanted;
    case DIALECT_GEMINI:
        /* It may give fewer candidates than it was asked for. */
        return !broke && goes_on_to_the_end(g);
    case DIALECT_RESPONSES:
    case DIALECT_MESSAGES:
        return false;
    case DIALECT_OTHER:
        break;
    }
    return !broke || g->ends >= g->choices_wanted;
}
