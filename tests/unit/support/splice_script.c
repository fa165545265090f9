/* Writes answers in each dialect, and adds them up again. */
#include "splice_script.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/escape.h"
#include "http/json.h"

#define CHUNK                                                                         \
    "{\"id\":\"chatcmpl-%s\",\"object\":\"chat.completion.chunk\",\"created\":17%zu," \
    "\"model\":\"m-%s\",\"system_fingerprint\":\"fp_%s\","

const struct script script_whole = {
    .dialect = DIALECT_CHAT,
    .name = "A",
    .chunk = 1,
    .reasoning = "hm/m \xc3\xa9",
    .content = "Hi \"you\"\n\\ \xf0\x9f\x98\x80 \xe2\x82\xac!",
    .refusal = "no\t\xc3\xa9",
    .second = "two \xf0\x9f\x98\x80\xf0\x9f\x98\x81 2",
    .arguments = {"{\"a\":\"x y\"}", "{}"},
};

/* --- events ----------------------------------------------------------------------------------- */

void events_add(struct events *events, const char *data)
{
    struct buf b;

    assert(events->n < sizeof events->at / sizeof events->at[0]);
    buf_init(&b, 1 << 20);
    (void)buf_printf(&b, "data: %s\n\n", data);
    struct str *to = &events->at[events->n++];
    to->p = buf_steal(&b, &to->n);
}

__attribute__((format(printf, 2, 3))) static void add(struct events *events, const char *fmt, ...)
{
    char text[4096];
    va_list args;

    va_start(args, fmt);
    int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    assert(n > 0 && (size_t)n < sizeof text);
    events_add(events, text);
}

void events_free(struct events *events)
{
    for (size_t i = 0; i < events->n; i++)
        free((void *)(uintptr_t)events->at[i].p);
    events->n = 0;
}

struct str event_data(struct str event)
{
    const char *p = memmem(event.p, event.n, "data: ", 6);

    return (struct str){p + 6, event.n - (size_t)(p + 6 - event.p) - 2};
}

/* --- spelling --------------------------------------------------------------------------------- */

static unsigned code_point(const char *p, size_t n)
{
    const unsigned char *u = (const unsigned char *)p;
    unsigned c = n == 1 ? u[0] : u[0] & (0x7fu >> n);

    for (size_t i = 1; i < n; i++)
        c = c << 6 | (u[i] & 63u);
    return c;
}

static void spell_escaped(struct buf *b, unsigned c)
{
    if (c == '/') {
        (void)buf_add_str(b, STR("\\/"));
    } else if (c > 0xffff) {
        c -= 0x10000;
        (void)buf_printf(b, "\\u%04X\\u%04x", 0xd800 + (c >> 10), 0xdc00 + (c & 0x3ff));
    } else if (c > 0x7e || c == 'o' || c < 0x20 || c == '"' || c == '\\') {
        (void)buf_printf(b, "\\u%04x", c);
    } else {
        (void)buf_addc(b, (char)c);
    }
}

/* The next `chunk` characters of the text, spelled as JSON; memory of the ring of results. */
static const char *spell(const struct script *s, struct str *rest)
{
    static char ring[8][1024];
    static unsigned at;
    struct buf b;

    buf_init(&b, sizeof ring[0]);
    for (size_t i = 0; rest->n > 0 && (s->chunk == 0 || i < s->chunk); i++) {
        size_t n = str_utf8(*rest), used;
        char space[ESCAPE_MAX];
        if (s->spelling)
            spell_escaped(&b, code_point(rest->p, n));
        else
            (void)buf_add_str(&b, escape_json(*rest, space, &used));
        *rest = (struct str){rest->p + n, rest->n - n};
    }
    char *to = ring[at++ % 8];
    memcpy(to, b.len ? b.p : "", b.len);
    to[b.len] = '\0';
    buf_deinit(&b);
    return to;
}

static const char *spell_all(struct script s, const char *text)
{
    struct str rest = str_from(text);

    s.chunk = 0;
    return spell(&s, &rest);
}

/* --- chat completions, completions ------------------------------------------------------------ */

/* One chunk for a choice, with the stable fields of all of them. */
__attribute__((format(printf, 4, 5))) static void chunk(const struct script *s, struct events *e,
                                                        int choice, const char *fmt, ...)
{
    char inner[2048];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(inner, sizeof inner, fmt, args);
    va_end(args);
    add(e, CHUNK "\"choices\":[{\"index\":%d,%s}],\"usage\":null}", s->name, s->chunk, s->name,
        s->name, choice, inner);
}

static void delta(const struct script *s, struct events *e, int choice, const char *key,
                  struct str *rest)
{
    if (rest->n > 0)
        chunk(s, e, choice,
              "\"delta\":{\"%s\":\"%s\"},\"logprobs\":{\"content\":[]},\"finish_reason\":null", key,
              spell(s, rest));
}

static void deltas(const struct script *s, struct events *e, const char *key, const char *text)
{
    struct str rest = str_from(text);

    while (rest.n > 0)
        delta(s, e, 0, key, &rest);
}

static void tool_call(const struct script *s, struct events *e, int index)
{
    struct str rest = str_from(s->arguments[index]);

    chunk(s, e, 0,
          "\"delta\":{\"tool_calls\":[{\"index\":%d,\"id\":\"call_%s%d\",\"type\":\"function\","
          "\"function\":{\"name\":\"f%d\",\"arguments\":\"\"}}]},\"finish_reason\":null",
          index, s->name, index, index);
    while (rest.n > 0)
        chunk(s, e, 0,
              "\"delta\":{\"tool_calls\":[{\"index\":%d,\"function\":{\"arguments\":\"%s\"}}]},"
              "\"finish_reason\":null",
              index, spell(s, &rest));
}

static void finish(const struct script *s, struct events *e, int choice, const char *reason)
{
    chunk(s, e, choice, "\"delta\":{},\"finish_reason\":\"%s\"", s->finish ? s->finish : reason);
}

static void write_chat(const struct script *s, struct events *e)
{
    struct str content = str_from(s->content), second = str_from(s->second);

    for (int choice = 0; choice < 2; choice++)
        chunk(s, e, choice,
              "\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null");
    deltas(s, e, "reasoning_content", s->reasoning);
    while (content.n > 0) {
        delta(s, e, 0, "content", &content);
        if (second.n > 6) /* the rest comes behind the end of choice 0 */
            delta(s, e, 1, "content", &second);
    }
    deltas(s, e, "refusal", s->refusal);
    chunk(s, e, 0, "\"delta\":{\"annotations\":[{\"url\":\"u\"}]},\"finish_reason\":null");
    tool_call(s, e, 0);
    tool_call(s, e, 1);
    finish(s, e, 0, "tool_calls");
    while (second.n > 0)
        delta(s, e, 1, "content", &second);
    finish(s, e, 1, "stop");
    add(e, CHUNK "\"choices\":[],\"usage\":{\"total_tokens\":9}}", s->name, s->chunk, s->name,
        s->name);
    events_add(e, "[DONE]");
}

static void write_completions(const struct script *s, struct events *e)
{
    struct str rest[2] = {str_from(s->content), str_from(s->second)};

    while (rest[0].n > 0 || rest[1].n > 0)
        for (int i = 0; i < 2; i++)
            if (rest[i].n > 0)
                chunk(s, e, i, "\"text\":\"%s\",\"logprobs\":null,\"finish_reason\":null",
                      spell(s, &rest[i]));
    for (int i = 0; i < 2; i++)
        chunk(s, e, i, "\"text\":\"\",\"finish_reason\":\"%s\"", s->finish ? s->finish : "stop");
    add(e, CHUNK "\"choices\":[],\"usage\":{\"total_tokens\":9}}", s->name, s->chunk, s->name,
        s->name);
    events_add(e, "[DONE]");
}

/* --- Responses -------------------------------------------------------------------------------- */

/* An event of its type and sequence number; the SSE event's own type goes along. */
__attribute__((format(printf, 3, 4))) static void typed(struct events *e, const char *type,
                                                        const char *fmt, ...)
{
    char inner[3000], event[4096];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(inner, sizeof inner, fmt, args);
    va_end(args);
    int n = snprintf(event, sizeof event,
                     "event: %s\ndata: {\"type\":\"%s\",\"sequence_number\":%zu,%s}\n\n", type,
                     type, e->n, inner);
    assert(n > 0 && (size_t)n < sizeof event && e->n < sizeof e->at / sizeof e->at[0]);
    e->at[e->n++] = (struct str){str_dup(str_from(event)), (size_t)n};
}

static void channel(const struct script *s, struct events *e, const char *type, const char *member,
                    const char *text, const char *place)
{
    struct str rest = str_from(text);
    char name[80];

    (void)snprintf(name, sizeof name, "%s.delta", type);
    while (rest.n > 0)
        typed(e, name, "%s,\"delta\":\"%s\"", place, spell(s, &rest));
    (void)snprintf(name, sizeof name, "%s.done", type);
    typed(e, name, "%s,\"%s\":\"%s\"", place, member, spell_all(*s, text));
}

static void item(struct events *e, int output, const char *status, const char *fields)
{
    char type[80];

    (void)snprintf(type, sizeof type, "response.output_item.%s", status);
    typed(e, type, "\"output_index\":%d,\"item\":{%s}", output, fields);
}

static void write_items(const struct script *s, struct events *e, char fields[3][100])
{
    char place[160];

    (void)snprintf(place, sizeof place,
                   "\"item_id\":\"rs_%s\",\"output_index\":0,\"summary_index\":0", s->name);
    item(e, 0, "added", fields[0]);
    typed(e, "response.reasoning_summary_part.added", "%s,\"part\":{\"type\":\"summary_text\"}",
          place);
    channel(s, e, "response.reasoning_summary_text", "text", s->reasoning, place);
    item(e, 0, "done", fields[0]);

    item(e, 1, "added", fields[1]);
    (void)snprintf(place, sizeof place,
                   "\"item_id\":\"msg_%s\",\"output_index\":1,\"content_index\":0", s->name);
    typed(e, "response.content_part.added", "%s,\"part\":{\"type\":\"output_text\"}", place);
    channel(s, e, "response.output_text", "text", s->content, place);
    typed(e, "response.output_text.annotation.added", "%s,\"annotation_index\":0", place);
    typed(e, "response.content_part.done", "%s,\"part\":{\"type\":\"output_text\"}", place);
    (void)snprintf(place, sizeof place,
                   "\"content_index\":1,\"output_index\":1,\"item_id\":\"msg_%s\"", s->name);
    typed(e, "response.content_part.added", "%s,\"part\":{\"type\":\"refusal\"}", place);
    channel(s, e, "response.refusal", "refusal", s->refusal, place);
    typed(e, "response.content_part.done", "%s,\"part\":{\"type\":\"refusal\"}", place);
    item(e, 1, "done", fields[1]);

    item(e, 2, "added", fields[2]);
    (void)snprintf(place, sizeof place, "\"item_id\":\"fc_%s\",\"output_index\":2", s->name);
    channel(s, e, "response.function_call_arguments", "arguments", s->arguments[0], place);
    item(e, 2, "done", fields[2]);
}

static void write_responses(const struct script *s, struct events *e)
{
    char fields[3][100];

    (void)snprintf(fields[0], 100, "\"id\":\"rs_%s\",\"type\":\"reasoning\"", s->name);
    (void)snprintf(fields[1], 100, "\"type\":\"message\",\"id\":\"msg_%s\"", s->name);
    (void)snprintf(
        fields[2], 100,
        "\"id\":\"fc_%s\",\"type\":\"function_call\",\"call_id\":\"call_%s\",\"name\":\"f\"",
        s->name, s->name);
    typed(e, "response.created",
          "\"response\":{\"id\":\"resp_%s\",\"created_at\":17%zu,\"output\":[]}", s->name,
          s->chunk);
    typed(e, "response.in_progress", "\"response\":{\"id\":\"resp_%s\",\"output\":[]}", s->name);
    write_items(s, e, fields);
    typed(e, "response.completed",
          "\"response\":{\"id\":\"resp_%s\",\"created_at\":17%zu,\"output\":[{%s},{%s},{%s}],"
          "\"usage\":{\"total_tokens\":9}}",
          s->name, s->chunk, fields[0], fields[1], fields[2]);
}

void script_write(const struct script *script, struct events *ret_events)
{
    ret_events->n = 0;
    if (script->dialect == DIALECT_CHAT)
        write_chat(script, ret_events);
    else if (script->dialect == DIALECT_COMPLETIONS)
        write_completions(script, ret_events);
    else
        write_responses(script, ret_events);
}

const char **script_text(struct script *s, size_t i)
{
    const char **all[] = {&s->reasoning, &s->content,      &s->refusal,
                          &s->second,    &s->arguments[0], &s->arguments[1]};

    if (s->dialect == DIALECT_COMPLETIONS)
        return i < 2 ? all[i * 2 + 1] : NULL;
    if (s->dialect == DIALECT_RESPONSES)
        return i < 3 ? all[i] : i == 3 ? all[4] : NULL;
    return i < sizeof all / sizeof all[0] ? all[i] : NULL;
}
