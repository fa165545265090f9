/* Turns a response into the program that sends it. */
#include "compose.h"
#include "body.h"
#include "presets.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct job {
    const struct answer *a;
    const struct answer_key *key;
    struct program *p;
    struct body body;
    enum framing framing;
    bool keep;     /* the connection stays open afterwards */
    size_t stop;   /* the piece before which the limit strikes */
    bool finished; /* a limit has ended the program */
};

/* ---- the body ---- */

static void write_json(struct body *body, const cJSON *json)
{
    char *text = cJSON_PrintUnformatted(json);

    if (text != NULL) {
        buf_str(&body->bytes, text);
    }
    cJSON_free(text);
}

static void write_sse(struct job *j)
{
    const cJSON *item;
    uint32_t i = 0;

    cJSON_ArrayForEach(item, j->a->sse)
    {
        struct piece *piece = body_begin(&j->body);

        piece->event = true;
        piece->delta = true;
        piece->delay_ms = i++ == 0 ? j->a->first_delay_ms : j->a->interval_ms;
        if (cJSON_IsString(item)) {
            buf_str(&j->body.bytes, item->valuestring);
        } else {
            buf_str(&j->body.bytes, "data: ");
            write_json(&j->body, item);
            buf_str(&j->body.bytes, "\n\n");
        }
        body_end(&j->body);
    }
    j->body.type = "text/event-stream; charset=utf-8";
    j->body.stream = true;
}

static void write_explicit(struct job *j)
{
    const struct answer *a = j->a;

    if (a->sse != NULL) {
        write_sse(j);
    } else if (a->body_bytes > 0) {
        body_pattern(&j->body, a->body_bytes);
        j->body.type = "application/octet-stream";
    } else if (a->json != NULL || a->body_len > 0) {
        body_begin(&j->body);
        if (a->json != NULL) {
            write_json(&j->body, a->json);
        } else {
            buf_add(&j->body.bytes, a->body, a->body_len);
        }
        body_end(&j->body);
        j->body.type = a->json != NULL ? "application/json" : "text/plain; charset=utf-8";
    }
}

static void write_body(struct job *j)
{
    const struct answer *a = j->a;

    if (a->preset == PRESET_NONE) {
        write_explicit(j);
    } else {
        preset_write(&j->body, a, j->key);
    }
    if (a->encoding != ENCODING_NONE || a->pace_bytes > 0 || a->limit.at == AFTER_BYTES) {
        body_unmark(&j->body);
    }
    body_encode(&j->body, a->encoding);
}

/* ---- the head ---- */

static const char *field_name(const cJSON *fields, const cJSON *item)
{
    return cJSON_IsArray(fields) ? cJSON_GetArrayItem(item, 0)->valuestring : item->string;
}

static const char *field_value(const cJSON *fields, const cJSON *item)
{
    return (cJSON_IsArray(fields) ? cJSON_GetArrayItem(item, 1) : item)->valuestring;
}

/* The script's own field of that name; *ret_value is NULL when it is suppressed. */
static bool scripted(const struct job *j, const char *name, const char **ret_value)
{
    const cJSON *item;

    cJSON_ArrayForEach(item, j->a->headers)
    {
        if (strcasecmp(field_name(j->a->headers, item), name) == 0) {
            *ret_value = field_value(j->a->headers, item);
            return true;
        }
    }
    return false;
}

/* A field of ours, unless the script says something about it. */
static void put_field(const struct job *j, struct buf *head, const char *name, const char *value)
{
    const char *theirs;

    if (!scripted(j, name, &theirs)) {
        buf_printf(head, "%s: %s\r\n", name, value);
    }
}

static void put_fields(struct buf *head, const cJSON *fields)
{
    const cJSON *item;

    cJSON_ArrayForEach(item, fields)
    {
        const char *value = field_value(fields, item);

        if (value != NULL) {
            buf_printf(head, "%s: %s\r\n", field_name(fields, item), value);
        }
    }
}

static bool has_body(int status)
{
    return status != 204 && status != 304;
}

static void choose_framing(struct job *j)
{
    const char *theirs = NULL;

    j->framing = j->a->framing;
    if (j->framing == FRAMING_AUTO) {
        j->framing = j->body.stream ? FRAMING_CHUNKED : FRAMING_LENGTH;
    }
    if (j->framing == FRAMING_CHUNKED && j->key->http10) {
        j->framing = FRAMING_CLOSE;
    }
    if (scripted(j, "content-length", &theirs)) {
        j->framing = FRAMING_LENGTH;
    }
    j->keep = j->key->keep_alive && !j->a->close && j->framing != FRAMING_CLOSE;
    if (scripted(j, "connection", &theirs) && theirs != NULL && strcasecmp(theirs, "close") == 0) {
        j->keep = false;
    }
}

static void put_framing(const struct job *j, struct buf *head)
{
    char length[32];

    if (!has_body(j->a->status)) {
        return;
    }
    if (j->framing == FRAMING_CHUNKED) {
        put_field(j, head, "transfer-encoding", "chunked");
    } else if (j->framing == FRAMING_LENGTH) {
        snprintf(length, sizeof(length), "%" PRIu64, body_total(&j->body));
        put_field(j, head, "content-length", length);
    }
}

static void put_head(struct job *j)
{
    const struct answer *a = j->a;
    struct buf head = {0};

    if (a->early_hints) {
        buf_str(&head, "HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n");
    }
    buf_printf(&head, "HTTP/1.1 %d %s\r\n", a->status,
               a->reason != NULL ? a->reason : status_reason(a->status));
    if (j->body.type != NULL) {
        put_field(j, &head, "content-type", j->body.type);
    }
    put_fields(&head, a->headers);
    put_field(j, &head, "x-request-id", "req_" NUMBER_MARK);
    put_field(j, &head, "openai-processing-ms", "7");
    put_framing(j, &head);
    if (a->encoding != ENCODING_NONE) {
        put_field(j, &head, "content-encoding", a->encoding == ENCODING_GZIP ? "gzip" : "deflate");
    }
    if (!j->keep) {
        put_field(j, &head, "connection", "close");
    } else if (j->key->http10) {
        put_field(j, &head, "connection", "keep-alive");
    }
    buf_str(&head, "\r\n");
    program_send(j->p, head.data, head.len);
    buf_free(&head);
}

/* ---- the program ---- */

/* Called at each place a limit can strike. */
static void strike(struct job *j, enum limit_at at)
{
    const struct limit *limit = &j->a->limit;

    if (limit->at != at || j->finished) {
        return;
    }
    program_delay(j->p, limit->ms);
    if (limit->how == LIMIT_PAUSE) {
        return;
    }
    program_op(j->p, limit->how == LIMIT_RESET ? OP_RESET
                     : limit->how == LIMIT_FIN ? OP_FIN
                                               : OP_SILENCE);
    j->finished = true;
}

static void put_pattern(struct job *j, const struct piece *piece)
{
    struct op *op = program_op(j->p, OP_PATTERN);

    op->start = piece->off;
    op->len = piece->len;
    op->piece = j->a->pace_bytes;
    op->ms = j->a->pace_ms;
    op->chunked = j->framing == FRAMING_CHUNKED;
}

static void put_piece(struct job *j, const struct piece *piece)
{
    bool chunked = j->framing == FRAMING_CHUNKED;
    char line[32];

    program_delay(j->p, piece->delay_ms);
    if (piece->len == 0) {
        return;
    }
    if (piece->pattern) {
        put_pattern(j, piece);
        return;
    }
    if (chunked && !piece->inside) {
        int n = snprintf(line, sizeof(line), "%" PRIx64 "\r\n", piece->chunk);

        program_send(j->p, line, (size_t)n);
    }
    program_send(j->p, j->body.bytes.data + piece->off, (size_t)piece->len);
    if (chunked && !piece->open) {
        program_send(j->p, "\r\n", 2);
    }
}

static void put_body(struct job *j)
{
    const struct limit *limit = &j->a->limit;
    bool inside = limit->at >= AFTER_BYTES;

    if (inside) {
        j->stop = body_split(&j->body, limit);
    }
    if (inside && limit->how != LIMIT_PAUSE) {
        j->body.n = j->stop;
    }
    if (j->a->pace_bytes > 0 && !(inside && limit->how == LIMIT_PAUSE)) {
        body_pace(&j->body, j->a->pace_bytes, j->a->pace_ms);
        j->stop = j->body.n;
    }
    for (size_t i = 0; i < j->body.n; i++) {
        if (inside && i == j->stop) {
            strike(j, limit->at);
        }
        put_piece(j, &j->body.pieces[i]);
    }
    if (inside && j->stop == j->body.n) {
        strike(j, limit->at);
    }
}

static void put_end(struct job *j)
{
    const struct answer *a = j->a;

    if (j->framing == FRAMING_CHUNKED && has_body(a->status) && !j->key->head) {
        struct buf tail = {0};

        buf_str(&tail, "0\r\n");
        put_fields(&tail, a->trailers);
        buf_str(&tail, "\r\n");
        program_send(j->p, tail.data, tail.len);
        buf_free(&tail);
    }
    program_op(j->p, OP_END);
    if (!j->keep) {
        program_op(j->p, OP_CLOSE);
    } else if (a->after) {
        program_delay(j->p, a->after_ms);
        if (a->after_send != NULL) {
            program_send(j->p, a->after_send, strlen(a->after_send));
        }
        if (a->after_close) {
            program_op(j->p, OP_CLOSE);
        }
    }
}

struct program *compose(const struct answer *a, const struct answer_key *key)
{
    struct job j = {.a = a, .key = key, .p = program_new()};

    j.p->status = a->status;
    write_body(&j);
    choose_framing(&j);
    if (a->held) {
        program_op(j.p, OP_HELD);
    }
    program_delay(j.p, a->delay_ms);
    strike(&j, BEFORE_HEAD);
    if (!j.finished) {
        put_head(&j);
        strike(&j, AFTER_HEAD);
    }
    if (!j.finished && has_body(a->status) && !key->head) {
        program_delay(j.p, a->head_delay_ms);
        put_body(&j);
    }
    if (!j.finished) {
        put_end(&j);
    }
    program_seal(j.p);
    body_deinit(&j.body);
    return j.p;
}
