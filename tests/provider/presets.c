/* The bodies the real API would send, near enough for the SDKs. */
#include "presets.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* What all the parts of one body need to know. */
struct scene {
    struct body *body;
    struct buf *out; /* body->bytes */
    const struct answer *a;
    const char *model; /* the text of a JSON string */
    struct buf text;   /* the whole content */
    size_t *cuts;      /* where each of the n deltas ends in text */
    uint32_t n;
    uint32_t sequence;
    long long created;
};

static const char default_text[] = "Hello! This is the provider speaking.";

static bool ends_with(const char *path, size_t len, const char *suffix)
{
    size_t n = strlen(suffix);

    return len >= n && memcmp(path + len - n, suffix, n) == 0;
}

enum preset preset_for(const char *path, size_t path_len, bool stream)
{
    if (ends_with(path, path_len, "/chat/completions")) {
        return stream ? PRESET_CHAT_STREAM : PRESET_CHAT;
    }
    if (ends_with(path, path_len, "/responses")) {
        return stream ? PRESET_RESPONSES_STREAM : PRESET_RESPONSES;
    }
    if (ends_with(path, path_len, "/completions")) {
        return stream ? PRESET_COMPLETIONS_STREAM : PRESET_COMPLETIONS;
    }
    if (ends_with(path, path_len, "/embeddings")) {
        return PRESET_EMBEDDINGS;
    }
    if (ends_with(path, path_len, "/models")) {
        return PRESET_MODELS;
    }
    return memmem(path, path_len, "/models/", 8) != NULL ? PRESET_MODEL : PRESET_OK;
}

/* Ends every delta after a word. */
static void cut_words(struct scene *s)
{
    s->cuts = must_alloc((s->text.len + 1) * sizeof(*s->cuts));
    for (size_t i = 0; i < s->text.len; i++) {
        if (i + 1 == s->text.len || (s->text.data[i] == ' ' && s->text.data[i + 1] != ' ')) {
            s->cuts[s->n++] = i + 1;
        }
    }
}

/* Ends the deltas at even distances, never within a UTF-8 sequence. */
static void cut_evenly(struct scene *s, uint32_t events)
{
    s->n = events;
    s->cuts = must_alloc(events * sizeof(*s->cuts));
    for (uint32_t i = 0; i < events; i++) {
        size_t at = (size_t)((uint64_t)s->text.len * (i + 1) / events);

        while (at < s->text.len && ((unsigned char)s->text.data[at] & 0xc0) == 0x80) {
            at++;
        }
        s->cuts[i] = at;
    }
}

/* Without a text of its own, a stream of n events says "w1 w2 w3 ..." */
static void cut_numbered(struct scene *s, uint32_t events)
{
    s->n = events;
    s->cuts = must_alloc(events * sizeof(*s->cuts));
    for (uint32_t i = 0; i < events; i++) {
        buf_printf(&s->text, "w%u%s", i + 1, i + 1 < events ? " " : "");
        s->cuts[i] = s->text.len;
    }
}

static void scene_text(struct scene *s)
{
    (void)buf_room(&s->text, 1); /* an empty text has an address too */
    if (s->a->text == NULL && s->a->events > 0) {
        cut_numbered(s, s->a->events);
        return;
    }
    buf_str(&s->text, s->a->text != NULL ? s->a->text : default_text);
    if (s->a->events > 0) {
        cut_evenly(s, s->a->events);
    } else {
        cut_words(s);
    }
}

/* The i-th piece of the content, or all of it, as a JSON string. */
static void put_delta(struct scene *s, uint32_t i)
{
    size_t from = i > 0 ? s->cuts[i - 1] : 0;

    buf_json(s->out, s->text.data + from, s->cuts[i] - from);
}

static void put_text(struct scene *s)
{
    buf_json(s->out, s->text.data, s->text.len);
}

static void begin_event(struct scene *s, bool delta, uint32_t i)
{
    struct piece *piece = body_begin(s->body);

    piece->event = true;
    piece->delta = delta;
    if (delta) {
        piece->delay_ms = i == 0 ? s->a->first_delay_ms : s->a->interval_ms;
    }
}

static void end_event(struct scene *s)
{
    buf_str(s->out, "\n\n");
    body_end(s->body);
}

static void put_usage(struct scene *s, const char *in, const char *out)
{
    buf_printf(s->out, "{\"%s\":9,\"%s\":%u,\"total_tokens\":%u", in, out, s->n, s->n + 9);
    buf_printf(s->out,
               ",\"%s_details\":{\"cached_tokens\":0},\"%s_details\":"
               "{\"reasoning_tokens\":0}}",
               in, out);
}

/* ---- chat completions and completions ---- */

static void chat_whole(struct scene *s, bool chat)
{
    body_begin(s->body);
    buf_printf(s->out,
               "{\"id\":\"%s-%s\",\"object\":\"%s\",\"created\":%lld,\"model\":\"%s\","
               "\"choices\":[{\"index\":0,",
               chat ? "chatcmpl" : "cmpl", NUMBER_MARK,
               chat ? "chat.completion" : "text_completion", s->created, s->model);
    buf_str(s->out, chat ? "\"message\":{\"role\":\"assistant\",\"content\":" : "\"text\":");
    put_text(s);
    buf_str(s->out, chat ? ",\"refusal\":null,\"annotations\":[]}" : "");
    buf_str(s->out, ",\"logprobs\":null,\"finish_reason\":\"stop\"}]");
    if (s->a->usage) {
        buf_str(s->out, ",\"usage\":");
        put_usage(s, "prompt_tokens", "completion_tokens");
    }
    buf_str(s->out, ",\"system_fingerprint\":\"fp_provider\"}\n");
    body_end(s->body);
}

static void chunk_open(struct scene *s, bool chat)
{
    buf_printf(s->out,
               "data: {\"id\":\"%s-%s\",\"object\":\"%s\",\"created\":%lld,"
               "\"model\":\"%s\",\"system_fingerprint\":\"fp_provider\",\"choices\":[",
               chat ? "chatcmpl" : "cmpl", NUMBER_MARK,
               chat ? "chat.completion.chunk" : "text_completion", s->created, s->model);
}

static void chunk_close(struct scene *s, const char *finish)
{
    buf_printf(s->out, ",\"logprobs\":null,\"finish_reason\":%s}]}", finish);
    end_event(s);
}

static void chat_deltas(struct scene *s, bool chat)
{
    for (uint32_t i = 0; i < s->n; i++) {
        begin_event(s, true, i);
        chunk_open(s, chat);
        buf_str(s->out, chat ? "{\"index\":0,\"delta\":{\"content\":" : "{\"index\":0,\"text\":");
        put_delta(s, i);
        buf_str(s->out, chat ? "}" : "");
        chunk_close(s, "null");
    }
}

static void chat_finish(struct scene *s, bool chat)
{
    begin_event(s, false, 0);
    chunk_open(s, chat);
    buf_str(s->out, chat ? "{\"index\":0,\"delta\":{}" : "{\"index\":0,\"text\":\"\"");
    chunk_close(s, "\"stop\"");
    if (s->a->usage_set && s->a->usage) {
        begin_event(s, false, 0);
        chunk_open(s, chat);
        buf_str(s->out, "],\"usage\":");
        put_usage(s, "prompt_tokens", "completion_tokens");
        buf_str(s->out, "}");
        end_event(s);
    }
}

static void chat_stream(struct scene *s, bool chat)
{
    if (chat) {
        begin_event(s, false, 0);
        chunk_open(s, chat);
        buf_str(s->out, "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\","
                        "\"refusal\":null}");
        chunk_close(s, "null");
    }
    chat_deltas(s, chat);
    if (s->a->finish) {
        chat_finish(s, chat);
    }
    if (s->a->done) {
        begin_event(s, false, 0);
        buf_str(s->out, "data: [DONE]");
        end_event(s);
    }
}

/* ---- responses ---- */

static void put_part(struct scene *s, bool full)
{
    buf_str(s->out, "{\"type\":\"output_text\",\"annotations\":[],\"logprobs\":[],\"text\":");
    if (full) {
        put_text(s);
    } else {
        buf_str(s->out, "\"\"");
    }
    buf_str(s->out, "}");
}

static void put_item(struct scene *s, bool full)
{
    buf_printf(s->out,
               "{\"id\":\"msg_%s\",\"type\":\"message\",\"status\":\"%s\","
               "\"role\":\"assistant\",\"content\":[",
               NUMBER_MARK, full ? "completed" : "in_progress");
    if (full) {
        put_part(s, true);
    }
    buf_str(s->out, "]}");
}

static void put_response(struct scene *s, bool full)
{
    buf_printf(s->out,
               "{\"id\":\"resp_%s\",\"object\":\"response\",\"created_at\":%lld,"
               "\"status\":\"%s\",\"background\":false,\"error\":null,"
               "\"incomplete_details\":null,\"instructions\":null,"
               "\"max_output_tokens\":null,\"model\":\"%s\",\"output\":[",
               NUMBER_MARK, s->created, full ? "completed" : "in_progress", s->model);
    if (full) {
        put_item(s, true);
    }
    buf_str(s->out, "],\"parallel_tool_calls\":true,\"previous_response_id\":null,"
                    "\"reasoning\":{\"effort\":null,\"summary\":null},\"store\":false,"
                    "\"temperature\":1.0,\"text\":{\"format\":{\"type\":\"text\"}},"
                    "\"tool_choice\":\"auto\",\"tools\":[],\"top_p\":1.0,"
                    "\"truncation\":\"disabled\",\"usage\":");
    if (full && s->a->usage) {
        put_usage(s, "input_tokens", "output_tokens");
    } else {
        buf_str(s->out, "null");
    }
    buf_str(s->out, ",\"user\":null,\"metadata\":{}}");
}

static void responses_whole(struct scene *s)
{
    body_begin(s->body);
    put_response(s, true);
    buf_str(s->out, "\n");
    body_end(s->body);
}

static void typed_open(struct scene *s, const char *type)
{
    buf_printf(s->out, "event: %s\ndata: {\"type\":\"%s\",\"sequence_number\":%u", type, type,
               s->sequence++);
}

static void typed_close(struct scene *s)
{
    buf_str(s->out, "}");
    end_event(s);
}

static void response_event(struct scene *s, const char *type, bool full)
{
    begin_event(s, false, 0);
    typed_open(s, type);
    buf_str(s->out, ",\"response\":");
    put_response(s, full);
    typed_close(s);
}

static void item_event(struct scene *s, const char *type, bool full)
{
    begin_event(s, false, 0);
    typed_open(s, type);
    buf_str(s->out, ",\"output_index\":0,\"item\":");
    put_item(s, full);
    typed_close(s);
}

static void open_content(struct scene *s, const char *type, bool delta, uint32_t i)
{
    begin_event(s, delta, i);
    typed_open(s, type);
    buf_printf(s->out, ",\"item_id\":\"msg_%s\",\"output_index\":0,\"content_index\":0,",
               NUMBER_MARK);
}

static void part_event(struct scene *s, const char *type, bool full)
{
    open_content(s, type, false, 0);
    buf_str(s->out, "\"part\":");
    put_part(s, full);
    typed_close(s);
}

static void responses_stream(struct scene *s)
{
    response_event(s, "response.created", false);
    response_event(s, "response.in_progress", false);
    item_event(s, "response.output_item.added", false);
    part_event(s, "response.content_part.added", false);
    for (uint32_t i = 0; i < s->n; i++) {
        open_content(s, "response.output_text.delta", true, i);
        buf_str(s->out, "\"logprobs\":[],\"delta\":");
        put_delta(s, i);
        typed_close(s);
    }
    if (!s->a->finish) {
        return;
    }
    open_content(s, "response.output_text.done", false, 0);
    buf_str(s->out, "\"logprobs\":[],\"text\":");
    put_text(s);
    typed_close(s);
    part_event(s, "response.content_part.done", true);
    item_event(s, "response.output_item.done", true);
    if (s->a->done) {
        response_event(s, "response.completed", true);
    }
}

/* ---- the rest ---- */

static void embeddings(struct scene *s, bool base64)
{
    body_begin(s->body);
    buf_str(s->out, "{\"object\":\"list\",\"data\":[{\"object\":\"embedding\",\"index\":0,"
                    "\"embedding\":");
    /* Little-endian floats 0.25, -0.5, 0.75, 1.0. */
    buf_str(s->out, base64 ? "\"AACAPgAAAL8AAEA/AACAPw==\"" : "[0.25,-0.5,0.75,1.0]");
    buf_printf(s->out, "}],\"model\":\"%s\",\"usage\":{\"prompt_tokens\":9,\"total_tokens\":9}}\n",
               s->model);
    body_end(s->body);
}

static void put_model(struct scene *s, const char *id)
{
    buf_printf(s->out,
               "{\"id\":\"%s\",\"object\":\"model\",\"created\":%lld,"
               "\"owned_by\":\"provider\"}",
               id, s->created);
}

static void models(struct scene *s)
{
    body_begin(s->body);
    buf_str(s->out, "{\"object\":\"list\",\"data\":[");
    put_model(s, "gpt-4o");
    buf_str(s->out, ",");
    put_model(s, "gpt-4o-mini");
    buf_str(s->out, "]}\n");
    body_end(s->body);
}

static void put_json_text(struct buf *out, const char *text)
{
    if (text == NULL) {
        buf_str(out, "null");
    } else {
        buf_json(out, text, strlen(text));
    }
}

static const char *error_type(int status)
{
    if (status == 429) {
        return "requests";
    }
    return status >= 500 ? "server_error" : "invalid_request_error";
}

static void error_body(struct scene *s)
{
    const struct answer *a = s->a;

    body_begin(s->body);
    buf_str(s->out, "{\"error\":{\"message\":");
    put_json_text(s->out, a->error_message != NULL ? a->error_message : "The provider failed.");
    buf_str(s->out, ",\"type\":");
    put_json_text(s->out, a->error_type != NULL ? a->error_type : error_type(a->status));
    buf_str(s->out, ",\"param\":null,\"code\":");
    put_json_text(s->out, a->error_code);
    buf_str(s->out, "}}\n");
    body_end(s->body);
}

static void simple_body(struct scene *s, enum preset preset)
{
    body_begin(s->body);
    if (preset == PRESET_MODEL) {
        put_model(s, s->model);
    } else {
        buf_str(s->out, "{\"ok\":true}");
    }
    buf_str(s->out, "\n");
    body_end(s->body);
}

static void write_preset(struct scene *s, const struct answer_key *key)
{
    switch (key->preset) {
    case PRESET_CHAT:
    case PRESET_COMPLETIONS:
        chat_whole(s, key->preset == PRESET_CHAT);
        break;
    case PRESET_CHAT_STREAM:
    case PRESET_COMPLETIONS_STREAM:
        s->body->stream = true;
        chat_stream(s, key->preset == PRESET_CHAT_STREAM);
        break;
    case PRESET_RESPONSES:
        responses_whole(s);
        break;
    case PRESET_RESPONSES_STREAM:
        s->body->stream = true;
        responses_stream(s);
        break;
    case PRESET_EMBEDDINGS:
        embeddings(s, key->base64);
        break;
    case PRESET_MODELS:
        models(s);
        break;
    case PRESET_ERROR:
        error_body(s);
        break;
    default:
        simple_body(s, key->preset);
        break;
    }
}

void preset_write(struct body *body, const struct answer *a, const struct answer_key *key)
{
    struct scene s = {.body = body, .out = &body->bytes, .a = a};
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    s.created = (long long)now.tv_sec;
    s.model = a->model != NULL ? a->model : key->model[0] != '\0' ? key->model : "gpt-4o";
    scene_text(&s);
    write_preset(&s, key);
    body->type = body->stream ? "text/event-stream; charset=utf-8" : "application/json";
    buf_free(&s.text);
    free(s.cuts);
}

const char *status_reason(int status)
{
    static const struct {
        int status;
        const char *reason;
    } reasons[] = {
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {304, "Not Modified"},
        {307, "Temporary Redirect"},
        {308, "Permanent Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {402, "Payment Required"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {413, "Content Too Large"},
        {422, "Unprocessable Content"},
        {425, "Too Early"},
        {429, "Too Many Requests"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
        {529, "Site is overloaded"},
    };

    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
        if (reasons[i].status == status) {
            return reasons[i].reason;
        }
    }
    return "Unknown";
}
