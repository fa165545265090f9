/* Writes streams from scripts, and reads them as a client does. */
#include "stream_text.h"

#include <assert.h>
#include <cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BEAT ": retryd\n"
#define GEMINI_PATH "/v1/models/m:streamGenerateContent?alt=sse"

void stream_text_write(struct stream_text *ret, const struct script *script)
{
    struct events events;

    script_write(script, &events);
    buf_init(&ret->bytes, 1 << 20);
    ret->n = events.n;
    for (size_t i = 0; i < events.n; i++) {
        (void)buf_add_str(&ret->bytes, events.at[i]);
        ret->ends[i] = ret->bytes.len;
    }
    events_free(&events);
}

void stream_text_of(struct stream_text *ret, const char *const *events)
{
    buf_init(&ret->bytes, 1 << 20);
    for (ret->n = 0; events[ret->n]; ret->n++) {
        (void)buf_add_str(&ret->bytes, str_from(events[ret->n]));
        ret->ends[ret->n] = ret->bytes.len;
    }
}

void stream_text_free(struct stream_text *t)
{
    buf_deinit(&t->bytes);
}

struct fake_attempt stream_attempt(const char *text, enum transport end)
{
    return (struct fake_attempt){.status = 200,
                                 .headers = SSE,
                                 .pieces = {{0, text, 0}, {.text = NULL}},
                                 .end_ms = 1,
                                 .end = end};
}

size_t stream_text_whole(const struct stream_text *t, size_t cut)
{
    size_t end = 0;

    for (size_t i = 0; i < t->n && t->ends[i] <= cut; i++)
        end = t->ends[i];
    return end;
}

/* True where the event says that the response failed. */
static bool read_error(struct str data, struct stream_told *t)
{
    cJSON *json = cJSON_ParseWithLength(data.p, data.n);
    const cJSON *error = cJSON_GetObjectItemCaseSensitive(json, "error");
    bool is_error = cJSON_IsObject(error) || cJSON_IsString(error);

    if (is_error) {
        const cJSON *code = cJSON_GetObjectItemCaseSensitive(error, "code");
        t->errors++;
        (void)snprintf(t->code, sizeof(t->code), "%s",
                       cJSON_IsString(code) ? code->valuestring : "");
    }
    cJSON_Delete(json);
    return is_error;
}

/* Beats stand in front of events, for a client takes them for a part of those. */
static struct str without_beats(struct str event, struct stream_told *t)
{
    while (str_starts(event, STR(BEAT))) {
        t->beats++;
        event = (struct str){event.p + sizeof(BEAT) - 1, event.n - (sizeof(BEAT) - 1)};
    }
    return event;
}

void stream_read(struct str body, struct stream_told *ret)
{
    struct view view = {.n = 0};
    struct sse_reader r;
    size_t n;

    memset(ret, 0, sizeof(*ret));
    sse_init(&r);
    while (body.n > 0 && (n = sse_next(&r, body)) > 0) {
        struct str event = without_beats((struct str){body.p, n}, ret);
        struct sse_event e;

        sse_parse(event, &e);
        body = (struct str){body.p + n, body.n - n};
        if (e.data_lines == 0)
            continue;
        ret->events++;
        if (str_eq(e.type, STR("response.failed"))) {
            ret->failed++; /* it may stand behind the error that it tells, too */
            continue;
        }
        ret->error_last = read_error(e.data, ret);
        if (!ret->error_last)
            view_event(&view, event);
    }
    ret->rest = without_beats(body, ret).n;
    ret->answer = view_print(&view);
    view_free(&view);
}

const char *stream_path(enum dialect d)
{
    static const char *const paths[] = {
        [DIALECT_CHAT] = "/v1/chat/completions", [DIALECT_COMPLETIONS] = "/v1/completions",
        [DIALECT_RESPONSES] = "/v1/responses",   [DIALECT_MESSAGES] = "/v1/messages",
        [DIALECT_GEMINI] = GEMINI_PATH,          [DIALECT_OTHER] = "/v1/audio/speech"};

    return paths[d];
}
