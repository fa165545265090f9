/* Writes an error as an event of a stream. */
#include "stream/error_event.h"

#include <errno.h>
#include <string.h>

#include "http/json.h"

/* One line: in valid JSON line ends stand between tokens only, where a space does as well. */
static void add_line(struct buf *out, struct str text)
{
    for (size_t i = 0; i < text.n; i++)
        (void)buf_addc(out, text.p[i] == '\n' || text.p[i] == '\r' ? ' ' : text.p[i]);
}

/* A string or a number as a string, anything else as null: what the SDKs' types allow. */
static void add_text(struct buf *out, const struct json_value *v)
{
    bool text = v->type == JSON_STRING || v->type == JSON_NUMBER;

    (void)buf_add_str(out, text ? STR("\"") : STR("null"));
    if (!text)
        return;
    (void)buf_add_str(out, v->text);
    (void)buf_addc(out, '"');
}

static void add_flat(struct buf *out, uint64_t sequence, struct str error)
{
    struct json_want w[] = {{.key = STR("code")}, {.key = STR("message")}, {.key = STR("param")}};

    json_scan(error, w, 3);
    (void)buf_printf(out,
                     "event: error\ndata: {\"type\":\"error\",\"sequence_number\":%llu,\"code\":",
                     (unsigned long long)sequence);
    add_text(out, &w[0].value);
    (void)buf_add_str(out, STR(",\"message\":"));
    add_text(out, &w[1].value);
    (void)buf_add_str(out, STR(",\"param\":"));
    add_text(out, &w[2].value);
    (void)buf_add_str(out, STR(",\"error\":"));
}

/* An object that is not Google's becomes one: what its code was is the reason in its details. */
static void add_google(struct buf *out, struct str error)
{
    struct json_want w[] = {{.key = STR("code")}, {.key = STR("message")}, {.key = STR("type")}};
    char code[64] = "", message[1024] = "", type[64] = "";
    unsigned status = 503;

    json_scan(error, w, 3);
    if (w[0].value.type == JSON_STRING)
        (void)json_unescape(w[0].value.text, code, sizeof(code));
    if (w[1].value.type == JSON_STRING)
        (void)json_unescape(w[1].value.text, message, sizeof(message));
    if (w[2].value.type == JSON_STRING)
        (void)json_unescape(w[2].value.text, type, sizeof(type));
    if (strcmp(type, "rate_limit_error") == 0)
        status = 429;
    else if (strcmp(type, "invalid_request_error") == 0)
        status = 400;
    (void)apierror_write_google(out, status, message, type[0] ? type : NULL, code[0] ? code : NULL);
}

int error_event_write(struct buf *out, enum dialect dialect, uint64_t sequence, struct str error)
{
    size_t before = out->len;

    if (dialect == DIALECT_GEMINI && !apierror_is_google(error)) {
        (void)buf_add_str(out, STR("data: "));
        add_google(out, error);
        (void)buf_add_str(out, STR("\n\n"));
    } else {
        if (dialect == DIALECT_RESPONSES)
            add_flat(out, sequence, error);
        else if (dialect == DIALECT_MESSAGES)
            (void)buf_add_str(out, STR("event: error\ndata: {\"type\":\"error\",\"error\":"));
        else
            (void)buf_add_str(out, STR("data: {\"error\":"));
        add_line(out, error);
        (void)buf_add_str(out, STR("}\n\n"));
    }
    if (!out->failed)
        return 0;
    out->len = before;
    out->failed = false;
    return -ENOMEM;
}

static void add_text_or(struct buf *out, const struct json_value *v, struct str otherwise)
{
    if ((v->type == JSON_STRING || v->type == JSON_NUMBER) && v->text.n > 0) {
        add_text(out, v);
        return;
    }
    (void)buf_addc(out, '"');
    (void)buf_add_str(out, otherwise);
    (void)buf_addc(out, '"');
}

int error_event_failed(struct buf *out, const struct guard_response *response, uint64_t sequence,
                       struct str error)
{
    struct json_want w[] = {{.key = STR("code")}, {.key = STR("message")}};
    size_t before = out->len;

    json_scan(error, w, 2);
    (void)buf_printf(out,
                     "event: response.failed\n"
                     "data: {\"type\":\"response.failed\",\"sequence_number\":%llu,"
                     "\"response\":{\"id\":\"%s\",\"object\":\"response\",\"created_at\":%llu,"
                     "\"status\":\"failed\",\"error\":{\"code\":",
                     (unsigned long long)sequence, response->id,
                     (unsigned long long)response->created_at);
    add_text_or(out, &w[0].value, STR("server_error"));
    (void)buf_add_str(out, STR(",\"message\":"));
    add_text_or(out, &w[1].value, STR("the answer failed"));
    (void)buf_printf(out,
                     "},\"incomplete_details\":null,\"instructions\":null,\"metadata\":{},"
                     "\"model\":\"%s\",\"output\":[],\"parallel_tool_calls\":true,"
                     "\"previous_response_id\":null,\"temperature\":null,\"tool_choice\":\"auto\","
                     "\"tools\":[],\"top_p\":null,\"usage\":null}}\n\n",
                     response->model);
    if (!out->failed)
        return 0;
    out->len = before;
    out->failed = false;
    return -ENOMEM;
}

/* The error of the first choice that has one (OpenRouter). */
static struct json_value find_in_choices(struct str choices)
{
    struct json_iter i = json_iter(choices);
    struct json_value choice;

    while (json_next_element(&i, &choice)) {
        struct json_value error = json_scan_one(choice.text, STR("error"));
        if (error.type == JSON_OBJECT)
            return error;
    }
    return (struct json_value){.type = JSON_NONE};
}

/* Of several the first that says something (policy/apierror.h); where that is a text there is none. */
static struct json_value first_object(struct json_value array)
{
    struct json_iter i = json_iter(array.text);
    struct json_value v;

    while (json_next_element(&i, &v)) {
        bool text = v.type == JSON_STRING && v.text.n > 0;
        if (text || (v.type == JSON_OBJECT && v.text.n > 2))
            return v;
    }
    return (struct json_value){.type = JSON_NONE};
}

/* The object under `error`, wherever the API put it. */
static struct json_value find_object(struct str body)
{
    struct json_want w[] = {
        {.key = STR("error")}, {.key = STR("response")}, {.key = STR("choices")}};

    body = str_trim(body);
    if (!json_valid(body))
        return (struct json_value){.type = JSON_NONE};
    json_scan(body, w, 3);
    if (w[0].value.type == JSON_ARRAY)
        return first_object(w[0].value);
    if (w[0].value.type != JSON_OBJECT && w[1].value.type == JSON_OBJECT)
        return json_scan_one(w[1].value.text, STR("error"));
    if (w[0].value.type != JSON_OBJECT && w[2].value.type == JSON_ARRAY)
        return find_in_choices(w[2].value.text);
    return w[0].value;
}

/* apierror_write writes {"error":{...}}: what is wanted is within. */
static int add_object(struct buf *out, const char *message, const char *type, const char *code)
{
    struct buf whole;
    int rc;

    buf_init(&whole, 4096);
    rc = apierror_write(&whole, message, type, code);
    if (rc == 0)
        rc = buf_add_str(out, json_scan_one(buf_str(&whole), STR("error")).text);
    buf_deinit(&whole);
    return rc;
}

int error_event_own(struct buf *out, const char *message, const char *code)
{
    return add_object(out, message, "server_error", code);
}

int error_event_object(struct buf *out, struct str body, const struct apierror *read)
{
    struct json_value object = find_object(body);

    if (object.type == JSON_OBJECT)
        return buf_add_str(out, object.text);
    return add_object(out, read->message[0] ? read->message : "the upstream reported an error",
                      read->type[0] ? read->type : "server_error",
                      read->code[0] ? read->code : NULL);
}
