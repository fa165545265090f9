/* Reads a response's JSON: one table of keys, one function per kind of value. */
#include "answer.h"
#include "fields.h"
#include "wire.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const preset_names[] = {
    [PRESET_AUTO] = "auto",
    [PRESET_CHAT] = "chat",
    [PRESET_CHAT_STREAM] = "chat_stream",
    [PRESET_RESPONSES] = "responses",
    [PRESET_RESPONSES_STREAM] = "responses_stream",
    [PRESET_COMPLETIONS] = "completions",
    [PRESET_COMPLETIONS_STREAM] = "completions_stream",
    [PRESET_MESSAGES] = "messages",
    [PRESET_MESSAGES_STREAM] = "messages_stream",
    [PRESET_GEMINI] = "gemini",
    [PRESET_GEMINI_STREAM] = "gemini_stream",
    [PRESET_EMBEDDINGS] = "embeddings",
    [PRESET_MODELS] = "models",
    [PRESET_MODEL] = "model",
    [PRESET_ERROR] = "error",
    [PRESET_OK] = "ok",
};

static bool parse_preset(struct parse *p, const cJSON *v)
{
    if (cJSON_IsString(v)) {
        for (size_t i = PRESET_AUTO; i <= PRESET_OK; i++) {
            if (strcmp(preset_names[i], v->valuestring) == 0) {
                p->a->preset = (enum preset)i;
                return true;
            }
        }
    }
    return parse_complain(p, v->string, "is not the name of a preset");
}

static bool parse_status(struct parse *p, const cJSON *v)
{
    uint32_t status;

    if (!get_u32(p, v, 999, &status)) {
        return false;
    }
    if (status < 200) {
        return parse_complain(p, v->string, "must be from 200 to 999 (use wire for others)");
    }
    p->a->status = (int)status;
    return true;
}

static bool parse_body_b64(struct parse *p, const cJSON *v)
{
    const char *text;
    size_t len;
    int n;

    if (!get_text(p, v, &text)) {
        return false;
    }
    len = strlen(text);
    p->a->body_binary = must_alloc(len + 4);
    n = EVP_DecodeBlock((unsigned char *)p->a->body_binary, (const unsigned char *)text, (int)len);
    if (n < 0 || len % 4 != 0) {
        return parse_complain(p, v->string, "is not base64");
    }
    for (size_t i = len; i > 0 && text[i - 1] == '='; i--) {
        n--;
    }
    p->a->body = p->a->body_binary;
    p->a->body_len = (size_t)n;
    return true;
}

static bool parse_body(struct parse *p, const cJSON *v)
{
    if (!get_text(p, v, &p->a->body)) {
        return false;
    }
    p->a->body_len = strlen(p->a->body);
    return true;
}

static bool parse_body_bytes(struct parse *p, const cJSON *v)
{
    double n;

    if (!get_number(p, v, 1e13, &n)) {
        return false;
    }
    p->a->body_bytes = (uint64_t)n;
    return true;
}

static bool parse_sse(struct parse *p, const cJSON *v)
{
    const cJSON *item;

    if (!cJSON_IsArray(v)) {
        return parse_complain(p, v->string, "must be a list");
    }
    cJSON_ArrayForEach(item, v)
    {
        if (!cJSON_IsString(item) && !cJSON_IsObject(item)) {
            return parse_complain(p, v->string,
                                  "must hold strings (as they are) or objects (as data)");
        }
    }
    p->a->sse = v;
    return true;
}

static bool parse_encoding(struct parse *p, const cJSON *v)
{
    const char *name;

    if (!get_text(p, v, &name)) {
        return false;
    }
    if (strcmp(name, "gzip") == 0) {
        p->a->encoding = ENCODING_GZIP;
    } else if (strcmp(name, "deflate") == 0) {
        p->a->encoding = ENCODING_DEFLATE;
    } else {
        return parse_complain(p, v->string, "must be gzip or deflate");
    }
    return true;
}

static bool parse_framing(struct parse *p, const cJSON *v)
{
    const char *name;

    if (!get_text(p, v, &name)) {
        return false;
    }
    if (strcmp(name, "chunked") == 0) {
        p->a->framing = FRAMING_CHUNKED;
    } else if (strcmp(name, "length") == 0) {
        p->a->framing = FRAMING_LENGTH;
    } else if (strcmp(name, "close") == 0) {
        p->a->framing = FRAMING_CLOSE;
    } else {
        return parse_complain(p, v->string, "must be chunked, length or close");
    }
    return true;
}

static bool parse_pace(struct parse *p, const cJSON *v)
{
    const cJSON *bytes = cJSON_GetObjectItemCaseSensitive(v, "bytes");
    const cJSON *every = cJSON_GetObjectItemCaseSensitive(v, "every_ms");

    if (!cJSON_IsNumber(bytes) || !cJSON_IsNumber(every) || cJSON_GetArraySize(v) != 2 ||
        bytes->valuedouble < 1) {
        return parse_complain(p, v->string, "must be {\"bytes\":B,\"every_ms\":T}");
    }
    return get_u32(p, bytes, PATTERN_SLICE, &p->a->pace_bytes) &&
           get_u32(p, every, FIELD_MS_MAX, &p->a->pace_ms);
}

static bool limit_where(struct parse *p, const cJSON *v, struct limit *limit)
{
    static const struct {
        const char *name;
        enum limit_at at;
    } places[] = {{"before_head", BEFORE_HEAD},
                  {"after_head", AFTER_HEAD},
                  {"after_bytes", AFTER_BYTES},
                  {"after_events", AFTER_EVENTS},
                  {"after_deltas", AFTER_DELTAS}};

    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        double n = 0;

        if (strcmp(v->string, places[i].name) != 0) {
            continue;
        }
        if (limit->at != LIMIT_NONE || cJSON_IsFalse(v)) {
            return parse_complain(p, v->string, "says a second place, or none");
        }
        limit->at = places[i].at;
        if (limit->at <= AFTER_HEAD) {
            return cJSON_IsTrue(v) || parse_complain(p, v->string, "must be true");
        }
        if (!get_number(p, v, 1e13, &n)) {
            return false;
        }
        limit->count = (uint64_t)n;
        return true;
    }
    return parse_complain(p, v->string, "is not known here");
}

static bool limit_how(struct parse *p, const cJSON *v, struct limit *limit)
{
    if (cJSON_IsString(v) && strcmp(v->valuestring, "reset") == 0) {
        limit->how = LIMIT_RESET;
    } else if (cJSON_IsString(v) && strcmp(v->valuestring, "fin") == 0) {
        limit->how = LIMIT_FIN;
    } else {
        return parse_complain(p, v->string, "must be reset or fin");
    }
    return true;
}

static bool parse_limit(struct parse *p, const cJSON *v, bool cut)
{
    struct limit limit = {.how = cut ? LIMIT_RESET : LIMIT_SILENCE};
    const cJSON *item;
    bool ok;

    if (!cJSON_IsObject(v) || p->a->limit.at != LIMIT_NONE) {
        return parse_complain(p, v->string, "must be an object, and the only one of cut and stall");
    }
    cJSON_ArrayForEach(item, v)
    {
        if (cut && strcmp(item->string, "how") == 0) {
            ok = limit_how(p, item, &limit);
        } else if (cut && strcmp(item->string, "delay_ms") == 0) {
            ok = get_u32(p, item, FIELD_MS_MAX, &limit.ms);
        } else if (!cut && strcmp(item->string, "for_ms") == 0) {
            limit.how = LIMIT_PAUSE;
            ok = get_u32(p, item, FIELD_MS_MAX, &limit.ms);
        } else {
            ok = limit_where(p, item, &limit);
        }
        if (!ok) {
            return false;
        }
    }
    p->a->limit = limit;
    return limit.at != LIMIT_NONE || parse_complain(p, v->string, "does not say where");
}

static bool parse_on(struct parse *p, const cJSON *v)
{
    const char *when;

    if (!get_text(p, v, &when)) {
        return false;
    }
    p->a->on_head = strcmp(when, "head") == 0;
    return p->a->on_head || strcmp(when, "body") == 0 ||
           parse_complain(p, v->string, "must be head or body");
}

static bool parse_after(struct parse *p, const cJSON *v)
{
    const cJSON *item;
    bool ok;

    cJSON_ArrayForEach(item, v)
    {
        if (strcmp(item->string, "delay_ms") == 0) {
            ok = get_u32(p, item, FIELD_MS_MAX, &p->a->after_ms);
        } else if (strcmp(item->string, "send") == 0) {
            ok = get_text(p, item, &p->a->after_send);
        } else if (strcmp(item->string, "close") == 0) {
            ok = get_bool(p, item, &p->a->after_close);
        } else {
            ok = parse_complain(p, item->string, "is not known in after");
        }
        if (!ok) {
            return false;
        }
    }
    p->a->after = true;
    return cJSON_IsObject(v) && (p->a->after_close || p->a->after_send != NULL)
               ? true
               : parse_complain(p, v->string, "must have send or close");
}

static bool parse_wire(struct parse *p, const cJSON *v)
{
    p->a->wire = wire_compile(v, p->error);
    return p->a->wire != NULL;
}

static bool parse_json(struct parse *p, const cJSON *v)
{
    p->a->json = v;
    return true;
}

static bool parse_gzip(struct parse *p, const cJSON *v)
{
    bool gzip = false;

    if (!get_bool(p, v, &gzip)) {
        return false;
    }
    p->a->encoding = gzip ? ENCODING_GZIP : p->a->encoding;
    return true;
}

static bool parse_chunked(struct parse *p, const cJSON *v)
{
    bool chunked = false;

    if (!get_bool(p, v, &chunked)) {
        return false;
    }
    p->a->framing = chunked ? FRAMING_CHUNKED : FRAMING_LENGTH;
    return true;
}

static bool parse_usage(struct parse *p, const cJSON *v)
{
    p->a->usage_set = true;
    return get_bool(p, v, &p->a->usage);
}

static bool parse_cut(struct parse *p, const cJSON *v)
{
    return parse_limit(p, v, true);
}

static bool parse_stall(struct parse *p, const cJSON *v)
{
    return parse_limit(p, v, false);
}

static bool parse_headers(struct parse *p, const cJSON *v)
{
    return get_fields(p, v, &p->a->headers);
}

static bool parse_trailers(struct parse *p, const cJSON *v)
{
    return get_fields(p, v, &p->a->trailers);
}

enum row_type { ROW_PARSE, ROW_TEXT, ROW_BOOL, ROW_MS, ROW_COUNT };

#define FIELD(member) offsetof(struct answer, member)

/* Every key of a response, and what reads it. */
static const struct row {
    const char *key;
    enum row_type type;
    size_t offset;
    bool (*parse)(struct parse *p, const cJSON *v);
} rows[] = {
    {"preset", ROW_PARSE, 0, parse_preset},
    {"text", ROW_TEXT, FIELD(text), NULL},
    {"model", ROW_TEXT, FIELD(model), NULL},
    {"events", ROW_COUNT, FIELD(events), NULL},
    {"interval_ms", ROW_MS, FIELD(interval_ms), NULL},
    {"first_delay_ms", ROW_MS, FIELD(first_delay_ms), NULL},
    {"usage", ROW_PARSE, 0, parse_usage},
    {"done", ROW_BOOL, FIELD(done), NULL},
    {"finish", ROW_BOOL, FIELD(finish), NULL},
    {"clock", ROW_BOOL, FIELD(clock), NULL},
    {"code", ROW_TEXT, FIELD(error_code), NULL},
    {"message", ROW_TEXT, FIELD(error_message), NULL},
    {"type", ROW_TEXT, FIELD(error_type), NULL},
    {"status", ROW_PARSE, 0, parse_status},
    {"reason", ROW_TEXT, FIELD(reason), NULL},
    {"headers", ROW_PARSE, 0, parse_headers},
    {"json", ROW_PARSE, 0, parse_json},
    {"sse", ROW_PARSE, 0, parse_sse},
    {"body", ROW_PARSE, 0, parse_body},
    {"body_b64", ROW_PARSE, 0, parse_body_b64},
    {"body_bytes", ROW_PARSE, 0, parse_body_bytes},
    {"held", ROW_BOOL, FIELD(held), NULL},
    {"delay_ms", ROW_MS, FIELD(delay_ms), NULL},
    {"head_delay_ms", ROW_MS, FIELD(head_delay_ms), NULL},
    {"gzip", ROW_PARSE, 0, parse_gzip},
    {"encoding", ROW_PARSE, 0, parse_encoding},
    {"chunked", ROW_PARSE, 0, parse_chunked},
    {"framing", ROW_PARSE, 0, parse_framing},
    {"close", ROW_BOOL, FIELD(close), NULL},
    {"pace", ROW_PARSE, 0, parse_pace},
    {"cut", ROW_PARSE, 0, parse_cut},
    {"stall", ROW_PARSE, 0, parse_stall},
    {"on", ROW_PARSE, 0, parse_on},
    {"drain", ROW_BOOL, FIELD(drain), NULL},
    {"after", ROW_PARSE, 0, parse_after},
    {"early_hints", ROW_BOOL, FIELD(early_hints), NULL},
    {"trailers", ROW_PARSE, 0, parse_trailers},
    {"wire", ROW_PARSE, 0, parse_wire},
};

static bool parse_row(struct parse *p, const struct row *row, const cJSON *v)
{
    char *field = (char *)p->a + row->offset;

    switch (row->type) {
    case ROW_TEXT:
        return get_text(p, v, (const char **)(void *)field);
    case ROW_BOOL:
        return get_bool(p, v, (bool *)(void *)field);
    case ROW_MS:
        return get_u32(p, v, FIELD_MS_MAX, (uint32_t *)(void *)field);
    case ROW_COUNT:
        return get_u32(p, v, 200000, (uint32_t *)(void *)field);
    default:
        return row->parse(p, v);
    }
}

static bool parse_key(struct parse *p, const cJSON *v)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (strcmp(rows[i].key, v->string) == 0) {
            return parse_row(p, &rows[i], v);
        }
    }
    return parse_complain(p, v->string, "is not a known key");
}

/* What cannot be said of one key alone. */
static bool check_whole(struct parse *p)
{
    struct answer *a = p->a;
    int bodies = (a->json != NULL) + (a->sse != NULL) + (a->body != NULL) + (a->body_bytes > 0);

    if (bodies > 1 || (a->preset != PRESET_NONE && bodies > 0)) {
        return parse_complain(p, "body", "may be given in one way only, and not with a preset");
    }
    if (a->wire != NULL && (a->preset != PRESET_NONE || bodies > 0 || a->status != 0 || a->held)) {
        return parse_complain(p, "wire", "stands alone (with \"on\")");
    }
    if (a->encoding != ENCODING_NONE && a->body_bytes > PROGRAM_BYTES_MAX) {
        return parse_complain(p, "body_bytes", "is too much to compress: at most 256 MiB");
    }
    if (a->trailers != NULL && a->framing == FRAMING_AUTO) {
        a->framing = FRAMING_CHUNKED;
    }
    if (a->status == 0) {
        a->status = a->preset == PRESET_ERROR ? 500 : 200;
    }
    return true;
}

int answer_parse(struct answer *ret_answer, const cJSON *json, char error[ANSWER_ERROR_MAX])
{
    struct parse p = {.a = ret_answer, .error = error};
    const cJSON *item;

    *ret_answer = (struct answer){.done = true, .finish = true, .usage = true};
    if (!cJSON_IsObject(json)) {
        snprintf(error, ANSWER_ERROR_MAX, "answer: must be an object");
        return -1;
    }
    cJSON_ArrayForEach(item, json)
    {
        if (!parse_key(&p, item)) {
            answer_deinit(ret_answer);
            return -1;
        }
    }
    if (!check_whole(&p)) {
        answer_deinit(ret_answer);
        return -1;
    }
    return 0;
}
