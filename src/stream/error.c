/* Writes errors, as bodies and as events of a stream. */
#include "stream/error.h"

#include <errno.h>
#include <string.h>

#include "base/escape.h"
#include "http/json.h"
#include "http/json_tree.h"
#include "policy/apierror.h"

/* --- bodies ----------------------------------------------------------------------------------- */

static void fill_object(struct json_tree *t, struct cJSON *error, const char *message,
                        const char *type, const char *code)
{
    json_tree_text(t, error, "message", message);
    json_tree_text(t, error, "type", type);
    json_tree_text(t, error, "param", NULL);
    json_tree_text(t, error, "code", code);
}

/* Returns Google's name for a status, as google/rpc/code.proto maps them. */
static const char *google_status(unsigned status)
{
    static const struct {
        unsigned status;
        const char *word;
    } words_of[] = {
        {401, "UNAUTHENTICATED"},   {403, "PERMISSION_DENIED"}, {404, "NOT_FOUND"},
        {408, "DEADLINE_EXCEEDED"}, {409, "ABORTED"},           {429, "RESOURCE_EXHAUSTED"},
        {500, "INTERNAL"},          {501, "UNIMPLEMENTED"},     {504, "DEADLINE_EXCEEDED"},
    };

    for (size_t i = 0; i < sizeof words_of / sizeof words_of[0]; i++)
        if (words_of[i].status == status)
            return words_of[i].word;
    return status < 500 ? "INVALID_ARGUMENT" : "UNAVAILABLE";
}

static int write_object(struct buf *out, const char *message, const char *type, const char *code)
{
    struct json_tree t;

    json_tree_begin(&t);
    fill_object(&t, t.root, message, type, code);
    return json_tree_end(&t, out);
}

int error_body_write(struct buf *out, enum dialect dialect, unsigned status, const char *message,
                     const char *type, const char *code)
{
    struct cJSON *error;
    struct json_tree t;

    json_tree_begin(&t);
    if (dialect == DIALECT_MESSAGES)
        json_tree_text(&t, t.root, "type", "error");
    error = json_tree_object(&t, t.root, "error");
    if (dialect == DIALECT_GEMINI) {
        struct cJSON *info, *metadata;
        json_tree_number(&t, error, "code", status);
        json_tree_text(&t, error, "message", message ? message : "");
        json_tree_text(&t, error, "status", google_status(status));
        info = json_tree_object(&t, json_tree_array(&t, error, "details"), NULL);
        json_tree_text(&t, info, "@type", "type.googleapis.com/google.rpc.ErrorInfo");
        json_tree_text(&t, info, "reason", code ? code : "unknown");
        json_tree_text(&t, info, "domain", "retryd");
        metadata = json_tree_object(&t, info, "metadata");
        if (type)
            json_tree_text(&t, metadata, "type", type);
    } else
        fill_object(&t, error, message, type, code);
    return json_tree_end(&t, out);
}

/* --- events ----------------------------------------------------------------------------------- */

/* Ends the event. If there was no memory for all of it, removes it. */
static int end_event(struct buf *out, size_t begin)
{
    if (buf_add_str(out, STR("\n\n")) == 0)
        return 0;
    out->len = begin;
    out->failed = false;
    return -ENOMEM;
}

/* Adds a string or a number as a string, anything else as null, as the SDKs' types require. */
static void add_text(struct json_tree *t, struct cJSON *to, const struct json_want *w)
{
    if (w->value.type == JSON_STRING || w->value.type == JSON_NUMBER)
        json_tree_string(t, to, w->key.p, w->value.text);
    else
        json_tree_text(t, to, w->key.p, NULL);
}

int error_event_write(struct buf *out, enum dialect dialect, uint64_t sequence, struct str error)
{
    bool named = dialect == DIALECT_RESPONSES || dialect == DIALECT_MESSAGES;
    size_t begin = out->len;

    (void)buf_add_str(out, named ? STR("event: error\ndata: ") : STR("data: "));
    if (dialect == DIALECT_GEMINI && !apierror_is_google(error)) {
        /* Any other object is put in Google's form, with its code as the reason in the details. */
        struct json_want w[] = {
            {.key = STR("code")}, {.key = STR("message")}, {.key = STR("type")}};
        char code[64] = "", message[1024] = "", type[64] = "";
        unsigned status = 503;
        json_scan(error, w, 3);
        if (w[0].value.type == JSON_STRING)
            (void)escape_undo_json(w[0].value.text, code, sizeof(code));
        if (w[1].value.type == JSON_STRING)
            (void)escape_undo_json(w[1].value.text, message, sizeof(message));
        if (w[2].value.type == JSON_STRING)
            (void)escape_undo_json(w[2].value.text, type, sizeof(type));
        if (strcmp(type, "rate_limit_error") == 0)
            status = 429;
        else if (strcmp(type, "invalid_request_error") == 0)
            status = 400;
        (void)error_body_write(out, DIALECT_GEMINI, status, message, type[0] ? type : NULL,
                               code[0] ? code : NULL);
    } else {
        struct json_tree t;
        json_tree_begin(&t);
        if (dialect == DIALECT_RESPONSES || dialect == DIALECT_MESSAGES)
            json_tree_text(&t, t.root, "type", "error");
        if (dialect == DIALECT_RESPONSES) {
            struct json_want w[] = {
                {.key = STR("code")}, {.key = STR("message")}, {.key = STR("param")}};
            json_scan(error, w, 3);
            json_tree_number(&t, t.root, "sequence_number", sequence);
            for (int i = 0; i < 3; i++)
                add_text(&t, t.root, &w[i]);
        }
        json_tree_raw(&t, t.root, "error", error);
        (void)json_tree_end(&t, out);
    }
    return end_event(out, begin);
}

/* --- response.failed -------------------------------------------------------------------------- */

static void add_text_or(struct json_tree *t, struct cJSON *to, const struct json_want *w,
                        const char *otherwise)
{
    if ((w->value.type == JSON_STRING || w->value.type == JSON_NUMBER) && w->value.text.n > 0)
        add_text(t, to, w);
    else
        json_tree_text(t, to, w->key.p, otherwise);
}

int error_event_failed(struct buf *out, const struct guard_response *known, uint64_t sequence,
                       struct str error)
{
    size_t begin = out->len;
    struct cJSON *response;
    struct json_tree t;

    json_tree_begin(&t);
    json_tree_text(&t, t.root, "type", "response.failed");
    json_tree_number(&t, t.root, "sequence_number", sequence);
    response = json_tree_object(&t, t.root, "response");
    json_tree_string(&t, response, "id", str_from(known->id));
    json_tree_text(&t, response, "object", "response");
    json_tree_number(&t, response, "created_at", known->created_at);
    json_tree_text(&t, response, "status", "failed");
    struct json_want w[] = {{.key = STR("code")}, {.key = STR("message")}};
    struct cJSON *reason = json_tree_object(&t, response, "error");
    json_scan(error, w, 2);
    add_text_or(&t, reason, &w[0], "server_error");
    add_text_or(&t, reason, &w[1], "the response failed");
    json_tree_string(&t, response, "model", str_from(known->model));
    /* Strict clients require these fields of a response, too. */
    static const char *const nulls[] = {
        "incomplete_details", "instructions", "previous_response_id",
        "temperature",        "top_p",        "usage"};
    for (size_t i = 0; i < sizeof(nulls) / sizeof(nulls[0]); i++)
        json_tree_text(&t, response, nulls[i], NULL);
    (void)json_tree_object(&t, response, "metadata");
    (void)json_tree_array(&t, response, "output");
    (void)json_tree_array(&t, response, "tools");
    json_tree_text(&t, response, "tool_choice", "auto");
    json_tree_raw(&t, response, "parallel_tool_calls", STR("true"));
    (void)buf_add_str(out, STR("event: response.failed\ndata: "));
    (void)json_tree_end(&t, out);
    return end_event(out, begin);
}

/* --- error objects ---------------------------------------------------------------------------- */

/* The object in `error`, wherever the API put it. */
static struct json_value find_object(struct str body)
{
    struct json_want w[] = {
        {.key = STR("error")}, {.key = STR("response")}, {.key = STR("choices")}};

    body = str_trim(body);
    if (!json_valid(body))
        return (struct json_value){.type = JSON_NONE};
    json_scan(body, w, 3);
    if (w[0].value.type == JSON_ARRAY) {
        /* The first element that says something counts (policy/apierror.h), be it an object or a
         * string. */
        struct json_iter i = json_iter(w[0].value.text);
        struct json_value v;
        while (json_next_element(&i, &v)) {
            bool text = v.type == JSON_STRING && v.text.n > 0;
            if (text || (v.type == JSON_OBJECT && v.text.n > 2))
                return v;
        }
        return (struct json_value){.type = JSON_NONE};
    }
    if (w[0].value.type != JSON_OBJECT && w[1].value.type == JSON_OBJECT)
        return json_scan_one(w[1].value.text, STR("error"));
    if (w[0].value.type != JSON_OBJECT && w[2].value.type == JSON_ARRAY) {
        /* The error of the first choice that has one counts (OpenRouter). */
        struct json_iter i = json_iter(w[2].value.text);
        struct json_value choice;
        while (json_next_element(&i, &choice)) {
            struct json_value error = json_scan_one(choice.text, STR("error"));
            if (error.type == JSON_OBJECT)
                return error;
        }
        return (struct json_value){.type = JSON_NONE};
    }
    return w[0].value;
}

int error_object_own(struct buf *out, const char *message, const char *code)
{
    return write_object(out, message, "server_error", code);
}

int error_object_of(struct buf *out, struct str body, const struct apierror *read)
{
    struct json_value object = find_object(body);

    if (object.type == JSON_OBJECT)
        return buf_add_str(out, object.text);
    return write_object(out, read->message[0] ? read->message : "the upstream reported an error",
                        read->type[0] ? read->type : "server_error",
                        read->code[0] ? read->code : NULL);
}
