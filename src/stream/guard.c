/* Distinguishes content from announcements, ends and errors, event by event. */
#include "stream/guard.h"

#include <string.h>

#include "base/bytes16.h"
#include "base/hash.h"
#include "http/json.h"
#include "stream/completion.h"
#include "stream/sse.h"

/* --- the search for words --------------------------------------------------------------------- */

/* The words of each kind of stream, and their last letters. There are always three letters, so that
 * one loop serves all kinds. */
static const struct {
    char letters[3];
    unsigned words;
} kinds[] = {
    [DIALECT_CHAT] = {{'r', 'p', 'n'}, GUARD_WORD_ERROR | GUARD_WORD_BASE_RESP},
    [DIALECT_COMPLETIONS] = {{'r', 'p', 'n'}, GUARD_WORD_ERROR | GUARD_WORD_BASE_RESP},
    [DIALECT_RESPONSES] = {{'r', 'd', 'd'}, GUARD_WORD_ERROR | GUARD_WORD_FAILED},
    [DIALECT_MESSAGES] = {{'r', 'r', 'r'}, GUARD_WORD_ERROR},
    [DIALECT_GEMINI] = {{'r', 'r', 'r'}, GUARD_WORD_ERROR},
    [DIALECT_OTHER] = {{'r', 'd', 'e'}, GUARD_WORD_ERROR | GUARD_WORD_END},
};

/* `text` ends in a quote and has at least one byte before it. */
static void look_at(struct str text, struct guard_words *words)
{
    switch (text.p[text.n - 2]) {
    case 'r':
        if (str_ends(text, STR("\"error\"")))
            words->found |= GUARD_WORD_ERROR;
        break;
    case 'p':
        if (str_ends(text, STR("\"base_resp\"")))
            words->found |= GUARD_WORD_BASE_RESP;
        break;
    case 'n':
        if (str_ends(text, STR("\"finish_reason\"")) && words->reasons++ == 0)
            words->reason = text.p + text.n;
        break;
    case 'd':
        if (str_ends(text, STR(".failed\"")))
            words->found |= GUARD_WORD_FAILED;
        else if (str_ends(text, STR(".completed\"")))
            words->found |= GUARD_WORD_END;
        break;
    case 'e':
        if (str_ends(text, STR(".done\"")))
            words->found |= GUARD_WORD_END;
        break;
    default:
        break;
    }
}

/* Returns a bit for each of sixteen bytes that is one of the letters and is followed by a quote. */
static unsigned quotes_behind(const char *p, const bytes16 letters[3])
{
    bytes16 b = bytes16_load(p), next = bytes16_load(p + 1);
    bytes16 letter =
        (bytes16)(b == letters[0]) | (bytes16)(b == letters[1]) | (bytes16)(b == letters[2]);

    return bytes16_bits(letter & bytes16_are(next, '"'));
}

/* `hits` has a bit for each letter from position `at` on. */
static void look_at_each(struct str data, size_t at, unsigned hits, struct guard_words *words)
{
    for (; hits; hits &= hits - 1)
        look_at((struct str){data.p, at + (unsigned)__builtin_ctz(hits) + 2}, words);
}

void guard_words_find(struct str data, enum dialect dialect, struct guard_words *ret)
{
    const char *last = kinds[dialect].letters;
    bytes16 letters[] = {bytes16_all(last[0]), bytes16_all(last[1]), bytes16_all(last[2])};
    size_t i = 0;

    *ret = (struct guard_words){.found = 0};
    for (; i + 16 < data.n; i += 16)
        look_at_each(data, i, quotes_behind(data.p + i, letters), ret);
    if (data.n > 16) { /* the rest is read together with bytes before it */
        unsigned hits = quotes_behind(data.p + data.n - 17, letters);

        look_at_each(data, i, hits >> (i + 17 - data.n), ret);
    } else {
        for (; i + 1 < data.n; i++)
            if (data.p[i + 1] == '"')
                look_at((struct str){data.p, i + 2}, ret);
    }
    ret->found &= kinds[dialect].words;
}

/* --- what the guard keeps --------------------------------------------------------------------- */

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

/* In the streams of known APIs every event's data is JSON, except [DONE]. */
static bool is_known(const struct guard *g)
{
    return g->dialect != DIALECT_OTHER;
}

/* The SDKs of OpenAI's and Google's APIs parse each event's data as JSON, even if it has none. */
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

/* Some gateways wrap another server's comments: "data: : PROCESSING". */
static bool is_wrapped_comment(struct str data)
{
    data = str_trim(data);
    return data.n > 0 && data.p[0] == ':';
}

static bool is_letter(char c)
{
    return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}

/* "ping", "[HEARTBEAT]", "ping - 2026-11-30 12:00:00": only the letters count. */
static bool is_ping_word(struct str s)
{
    static const struct str words[] = {{"ping", 4},      {"pong", 4},        {"heartbeat", 9},
                                       {"keepalive", 9}, {"keep-alive", 10}, {"keep_alive", 10}};

    while (s.n > 0 && !is_letter(s.p[0]))
        s = str_after(s, 1);
    while (s.n > 0 && !is_letter(s.p[s.n - 1]))
        s.n--;
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (str_ieq(s, words[i]))
            return true;
    return false;
}

/* --- chat completions and completions --------------------------------------------------------- */

bool guard_names_reason(const struct json_value *v)
{
    struct str reason = str_trim(v->text);

    return v->type == JSON_STRING && reason.n > 0 && !str_ieq(reason, STR("null")) &&
           !str_ieq(reason, STR("none"));
}

/* A delta with only a role, or with empty texts, just announces the response. */
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

/* A choice has a finish reason. If the same reason comes again with more content of that choice,
 * this server sends it with every chunk; from then on it finishes nothing. */
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
    /* Some servers send a whole message. Azure sends chunks with only its filters' results. */
    goes_on = w[DELTA].value.type == JSON_OBJECT ? has_content(w[DELTA].value.text)
                                                 : completion_says(&w[TEXT].value);
    says = goes_on || has_content(w[MESSAGE].value.text);
    g->said |= says;
    if (guard_names_reason(&w[FINISH].value) && finishes(g, bit, w[FINISH].value.text, goes_on)) {
        g->curbed |= completion_is_curbed(&w[FINISH].value);
        return GUARD_CONTENT;
    }
    return says ? GUARD_CONTENT : GUARD_LIFECYCLE;
}

/* Most chunks continue the only choice: they have one finish_reason, and it is null or empty. This
 * check is quicker than parsing and saves a third of an event's cost. */
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
    if (any) /* some servers send the usage with every chunk */
        g->closes = false;
    return kind;
}

/* --- typed events: Responses and messages ----------------------------------------------------- */

struct event_type {
    struct str type;
    enum guard_kind kind;
};

/* Besides these types, deltas and finished parts are content. After any other event another attempt
 * may still follow. */
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
    {{"message_delta", 13}, GUARD_LIFECYCLE}, /* its stop_reason decides */
    {{"ping", 4}, GUARD_IDLE},
    {{"content_block_start", 19}, GUARD_LIFECYCLE},
    {{"content_block_stop", 18}, GUARD_CONTENT},
    {{"message_stop", 12}, GUARD_END},
};

/* The end events of APIs that stream something other than text. */
static const struct str known_ends[] = {{"image_generation.completed", 26},
                                        {"image_edit.completed", 20},
                                        {"speech.audio.done", 17},
                                        {"transcript.text.done", 20}};

/* `delta` is the event's member of that name. An event with content in it is content, whatever its
 * type. */
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

/* The id will be part of a path. */
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

static void note_response_id(struct guard *g, const struct json_value *response)
{
    struct json_want w[] = {{.key = STR("id")}, {.key = STR("model")}, {.key = STR("created_at")}};
    struct json_value id;

    if (g->response_id.len > 0 || response->type != JSON_OBJECT)
        return;
    json_scan(response->text, w, 3);
    /* The response of the first attempt stays, whatever follows. */
    struct guard_response *r = &g->response;
    if (!r->id[0]) {
        keep_text(&w[0].value, r->id, sizeof(r->id));
        keep_text(&w[1].value, r->model, sizeof(r->model));
        (void)json_to_u64(w[2].value, &r->created_at);
    }
    id = w[0].value;
    if (id.type != JSON_STRING || !is_plain_id(id.text))
        return;
    buf_add_str(&g->response_id, id.text);
    if (buf_addc(&g->response_id, '\0') < 0)
        buf_reset(&g->response_id, 0);
}

/* The data's type or, if it has none, the event's. */
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
    /* The API's own events announce something that is under way: a search, a tool that runs. */
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

/* --- Gemini ----------------------------------------------------------------------------------- */

/* An enum's value that ends in _UNSPECIFIED means that there is none. */
static bool names_cause(const struct json_value *v)
{
    return guard_names_reason(v) && !str_ends(v->text, STR("_UNSPECIFIED"));
}

/* Text, a call or bytes are content; the flag that a part is a thought, and its signature, are
 * not. */
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

/* A refused prompt has no candidates, and nothing follows. Google's own tools receive everything
 * within `response`. */
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

/* --- errors ----------------------------------------------------------------------------------- */

/* Whether an event reports that the response failed. An event named `error` always does; otherwise
 * the data decides. */
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

/* MiniMax sends its error beside empty choices or alone, so only events without content are
 * searched. */
static bool is_base_resp_error(const struct guard_words *words, struct guard_seen *seen)
{
    if (!(words->found & GUARD_WORD_BASE_RESP) ||
        (seen->kind != GUARD_LIFECYCLE && seen->kind != GUARD_STRANGE))
        return false;
    apierror_parse(seen->data, &seen->error);
    return seen->error.kind != APIERROR_NONE;
}

/* Whether every SDK raises this error unchanged. OpenAI's raise an `error` object; in a Responses
 * stream, only in an event with that name and type. Anthropic's go by the event's name. Google's
 * need a number as the code, in an event without a name. The clients of other streams are unknown.
 * No client sees an event without data. */
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
    /* Not every SDK looks for an error beside choices. */
    seen->is_response =
        needs_data(g) && json_valid(seen->data) &&
        (str_eq(w[TYPE].value.text, STR("response.failed")) || w[CHOICES].value.type == JSON_ARRAY);
    if (seen->is_response)
        seen->raised = false;
    g->failed = true;
}

/* --- the events ------------------------------------------------------------------------------- */

/* Joins the event's data lines. Returns false if there is no memory. */
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

/* Events of unknown types count as content once they weigh this much. Otherwise an API whose deltas
 * have a new name would be held to its end and count as silent. */
#define STRANGE_WEIGHT 1024
#define STRANGE_MAX (64 * STRANGE_WEIGHT)

static enum guard_kind weigh_strange(struct guard *g, struct str data)
{
    g->strange += STRANGE_WEIGHT + data.n;
    if (g->strange <= STRANGE_MAX)
        return GUARD_IDLE;
    g->said = true;
    return GUARD_CONTENT;
}

static enum guard_kind look_at_data(struct guard *g, const struct sse_event *e, struct str data,
                                    const struct guard_words *words, bool *ret_repeated)
{
    if (is_done_mark(data)) /* these two have end events; some gateways add [DONE] to them */
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
    case DIALECT_OTHER: {
        /* A few streams of other APIs have a known end event, one for each requested item. */
        struct str type = e->type;
        if (type.n == 0 && (words->found & GUARD_WORD_END))
            type = json_scan_one(data, STR("type")).text;
        g->ends += is_known_end(type);
        break;
    }
    }
    return GUARD_CONTENT;
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
        /* Google's SDK for Python parses each line as JSON. Its SDK for Node takes a comment for a
         * part of the next event and loses both. */
        bool reads_comments = g->id_seen || g->dialect == DIALECT_GEMINI;
        bool unfit = needs_data(g) && (!e.comment_only || reads_comments);
        ret->kind = unfit ? GUARD_UNFIT : e.comment_only ? GUARD_FILLER : GUARD_LIFECYCLE;
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
        ret->kind = GUARD_UNFIT; /* by the standard such an event does not count */
        return;
    }
    if (is_known(g) && !is_done_mark(ret->data) && !json_valid(ret->data)) {
        /* A ping whose data is not meant to be parsed is not a fault. */
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

/* An end after unknown events ends those; the client can judge them. */
bool guard_empty(const struct guard *g)
{
    bool says_something = is_chunks(g) ? g->choices == 0 && g->strange > 0 : true;

    return !g->content && !(g->marker && says_something);
}

/* Each choice that has begun gave its finish reason, and there are as many as requested. */
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

/* Each choice has given a finish reason, though one that ends nothing. Then only a clean end of the
 * connection shows that the response is complete. */
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
        /* Some servers send no finish reason, but the usage comes last. */
        return !broke && g->content && ((g->closes && g->finished == 0) || goes_on_to_the_end(g)) &&
               (unsigned)__builtin_popcountll(g->choices) >= g->choices_wanted;
    case DIALECT_GEMINI:
        /* Gemini may give fewer candidates than requested. */
        return !broke && goes_on_to_the_end(g);
    case DIALECT_RESPONSES:
    case DIALECT_MESSAGES:
        return false;
    case DIALECT_OTHER:
        break;
    }
    return !broke || g->ends >= g->choices_wanted;
}
