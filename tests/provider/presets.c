/* The bodies the real API would send, near enough for the SDKs. */
#include "presets.h"
#include "scene.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

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
    if (ends_with(path, path_len, "/messages")) {
        return stream ? PRESET_MESSAGES_STREAM : PRESET_MESSAGES;
    }
    if (ends_with(path, path_len, ":streamGenerateContent")) {
        return PRESET_GEMINI_STREAM;
    }
    if (ends_with(path, path_len, ":generateContent")) {
        return PRESET_GEMINI;
    }
    if (ends_with(path, path_len, "/models")) {
        return PRESET_MODELS;
    }
    return memmem(path, path_len, "/models/", 8) != NULL ? PRESET_MODEL : PRESET_OK;
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
    scene_text(s);
    buf_str(s->out, chat ? ",\"refusal\":null,\"annotations\":[]}" : "");
    buf_str(s->out, ",\"logprobs\":null,\"finish_reason\":\"stop\"}]");
    if (s->a->usage) {
        buf_str(s->out, ",\"usage\":");
        scene_usage(s, "prompt_tokens", "completion_tokens");
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
    scene_end(s);
}

static void chat_deltas(struct scene *s, bool chat)
{
    for (uint32_t i = 0; i < s->n; i++) {
        scene_begin(s, true, i);
        chunk_open(s, chat);
        buf_str(s->out, chat ? "{\"index\":0,\"delta\":{\"content\":" : "{\"index\":0,\"text\":");
        scene_delta(s, i);
        buf_str(s->out, chat ? "}" : "");
        chunk_close(s, "null");
    }
}

static void chat_finish(struct scene *s, bool chat)
{
    scene_begin(s, false, 0);
    chunk_open(s, chat);
    buf_str(s->out, chat ? "{\"index\":0,\"delta\":{}" : "{\"index\":0,\"text\":\"\"");
    chunk_close(s, "\"stop\"");
    if (s->a->usage_set && s->a->usage) {
        scene_begin(s, false, 0);
        chunk_open(s, chat);
        buf_str(s->out, "],\"usage\":");
        scene_usage(s, "prompt_tokens", "completion_tokens");
        buf_str(s->out, "}");
        scene_end(s);
    }
}

static void chat_stream(struct scene *s, bool chat)
{
    if (chat) {
        scene_begin(s, false, 0);
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
        scene_begin(s, false, 0);
        buf_str(s->out, "data: [DONE]");
        scene_end(s);
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
    case PRESET_MESSAGES:
        messages_whole(s);
        break;
    case PRESET_MESSAGES_STREAM:
        s->body->stream = true;
        messages_stream(s);
        break;
    case PRESET_GEMINI:
        gemini_whole(s);
        break;
    case PRESET_GEMINI_STREAM:
        s->body->stream = true;
        gemini_stream(s);
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
    scene_init_text(&s);
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
