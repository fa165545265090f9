/* Two responses, cut anywhere and joined: what the client reads is JSON, in the first response's
 * names and numbers, and its texts are those of one response, never of both.
 *
 * An input is a byte that names the API, a first response, a byte of 1, and a second one; without
 * that byte the second is the first once more. The texts are read by cJSON, which shares nothing
 * with splice. */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "stream/guard.h"
#include "stream/splice.h"
#include "stream/sse.h"

#define CAP (1 << 20)
#define CHANNELS 256
#define ANSWERS 3

/* --- what a client reads ---------------------------------------------------------------------- */

struct channel {
    char name[200];
    struct buf text;
};

struct reading {
    struct channel channels[CHANNELS];
    size_t n;
    bool odd; /* something that two readers may read differently, or too much of it */
    bool done;
};

static struct channel *find(struct reading *r, const char *name)
{
    for (size_t i = 0; i < r->n; i++)
        if (!strcmp(r->channels[i].name, name))
            return &r->channels[i];
    return NULL;
}

static void say(struct reading *r, const char *place, const char *key, const char *text)
{
    char name[200];

    if (snprintf(name, sizeof name, "%s/%s", place, key) >= (int)sizeof name || r->n == CHANNELS) {
        r->odd = true;
        return;
    }
    struct channel *c = find(r, name);
    if (!c) {
        c = &r->channels[r->n++];
        memcpy(c->name, name, sizeof name);
        buf_init(&c->text, CAP);
    }
    FUZZ_CHECK(buf_add_str(&c->text, str_from(text)) == 0);
}

static void reading_free(struct reading *r)
{
    for (size_t i = 0; i < r->n; i++)
        buf_deinit(&r->channels[i].text);
    r->n = 0;
}

/* Members that stand twice are read in two ways, and so are escapes in their names. */
static bool is_odd(const cJSON *value)
{
    for (const cJSON *a = value->child; a; a = a->next) {
        if (is_odd(a) || (cJSON_IsObject(value) && strlen(a->string) > 60))
            return true;
        for (const cJSON *b = a->next; cJSON_IsObject(value) && b; b = b->next)
            if (!strcmp(a->string, b->string))
                return true;
    }
    return false;
}

static const cJSON *member(const cJSON *object, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

/* False where it is none. */
static bool place_of(const cJSON *index, int otherwise, char *out, size_t size)
{
    if (!index || cJSON_IsNull(index)) {
        (void)snprintf(out, size, "%d", otherwise);
        return true;
    }
    if (!cJSON_IsNumber(index) || index->valuedouble < 0 || index->valuedouble > 1e6)
        return false;
    (void)snprintf(out, size, "%g", index->valuedouble);
    return true;
}

static void say_members(struct reading *r, const char *place, const cJSON *object)
{
    for (const cJSON *m = cJSON_IsObject(object) ? object->child : NULL; m; m = m->next)
        if (cJSON_IsString(m) && m->valuestring[0] && strcmp(m->string, "id") != 0 &&
            strcmp(m->string, "role") != 0)
            say(r, place, m->string, m->valuestring);
}

static void say_calls(struct reading *r, const char *choice, const cJSON *calls)
{
    int at = 0;

    for (const cJSON *call = cJSON_IsArray(calls) ? calls->child : NULL; call; call = call->next) {
        char index[32], place[80];
        if (!place_of(member(call, "index"), at++, index, sizeof index)) {
            r->odd = true;
            return;
        }
        (void)snprintf(place, sizeof place, "%s/call %s", choice, index);
        say_members(r, place, member(call, "function"));
        (void)snprintf(place, sizeof place, "%s/custom %s", choice, index);
        say_members(r, place, member(call, "custom"));
    }
}

static void read_chat(struct reading *r, const cJSON *chunk)
{
    const cJSON *choices = member(chunk, "choices");
    int at = 0;

    for (const cJSON *c = cJSON_IsArray(choices) ? choices->child : NULL; c; c = c->next) {
        char place[32];
        const cJSON *delta = member(c, "delta"), *text = member(c, "text");
        if (!place_of(member(c, "index"), at++, place, sizeof place)) {
            r->odd = true;
            return;
        }
        say_members(r, place, delta);
        say_calls(r, place, member(delta, "tool_calls"));
        if (cJSON_IsString(text) && text->valuestring[0])
            say(r, place, "text", text->valuestring);
    }
}

/* A response whose sum is not what its deltas said has no text of its own to hold others
 * against. */
static void check_sum(struct reading *r, const char *place, const char *type, const cJSON *event)
{
    static const char *const wholes[] = {"text",  "arguments",  "refusal", "code",
                                         "input", "transcript", "diff",    "command"};
    char name[200];
    size_t n = strlen(type);

    if (n < 5 || strcmp(type + n - 5, ".done") != 0)
        return;
    (void)snprintf(name, sizeof name, "%s/%.*s.delta", place, (int)(n - 5), type);
    const struct channel *c = find(r, name);
    for (size_t i = 0; i < sizeof wholes / sizeof wholes[0]; i++) {
        const cJSON *whole = member(event, wholes[i]);
        if (cJSON_IsString(whole) &&
            !(c && str_eq(buf_str(&c->text), str_from(whole->valuestring))))
            r->odd = true;
    }
}

/* The item, its content part, any other index; whatever the order they come in. */
static bool place_in_response(const cJSON *event, char *out, size_t size)
{
    static const char *const first[] = {"output_index", "content_index"};
    size_t others = 0, at = 0;
    char index[32];

    out[0] = '\0';
    for (size_t i = 0; i < 2; i++) {
        const cJSON *m = member(event, first[i]);
        if (!m || cJSON_IsNull(m))
            continue;
        if (!place_of(m, 0, index, sizeof index))
            return false;
        at += (size_t)snprintf(out + at, size - at, " %s=%s", first[i], index);
    }
    for (const cJSON *m = event->child; m; m = m->next) {
        size_t n = strlen(m->string);
        if (n <= 6 || strcmp(m->string + n - 6, "_index") != 0 || cJSON_IsNull(m) ||
            !strcmp(m->string, first[0]) || !strcmp(m->string, first[1]))
            continue;
        if (n > 60 || ++others > 1 || !place_of(m, 0, index, sizeof index))
            return false;
        at += (size_t)snprintf(out + at, size - at, " %s=%s", m->string, index);
    }
    return true;
}

/* Text is what grows in a place; of other types that have a `delta` all is to be held against the
 * same type only, which splice counts. */
static void read_responses(struct reading *r, const cJSON *event)
{
    const cJSON *type = member(event, "type"), *delta = member(event, "delta");
    char place[160];

    if (!cJSON_IsString(type))
        return;
    if (!place_in_response(event, place, sizeof place)) {
        r->odd = true;
        return;
    }
    check_sum(r, place, type->valuestring, event);
    if (!cJSON_IsString(delta) || !delta->valuestring[0])
        return;
    size_t n = strlen(type->valuestring);
    if (strlen(place) > 120 || n <= 6 || strcmp(type->valuestring + n - 6, ".delta") != 0)
        r->odd = true;
    say(r, place, type->valuestring, delta->valuestring);
}

/* Each member of a delta grows in its block. A block may begin with some of its text. */
static void read_messages(struct reading *r, const cJSON *event)
{
    const cJSON *type = member(event, "type"), *block = member(event, "content_block");
    const cJSON *delta = member(event, "delta");
    char place[32];

    if (!cJSON_IsString(type))
        return;
    bool begins = !strcmp(type->valuestring, "content_block_start");
    if (!begins && strcmp(type->valuestring, "content_block_delta") != 0)
        return;
    if (!place_of(member(event, "index"), -1, place, sizeof place)) {
        r->odd = true;
        return;
    }
    const cJSON *said = begins ? block : delta;
    for (const cJSON *m = cJSON_IsObject(said) ? said->child : NULL; m; m = m->next) {
        bool text = !strcmp(m->string, "text") || !strcmp(m->string, "thinking") ||
                    !strcmp(m->string, "content");
        if (cJSON_IsString(m) && m->valuestring[0] &&
            (begins ? text : strcmp(m->string, "type") != 0) && strcmp(m->string, "signature") != 0)
            say(r, place, m->string, m->valuestring);
    }
}

/* --- names and numbers ------------------------------------------------------------------------ */

/* What all events of a chat stream share. Held against the first response's once a second one
 * began. */
struct names {
    cJSON *of[4];
};

static const char *const name_keys[4] = {"id", "created", "model", "system_fingerprint"};

static bool is_said(const cJSON *v)
{
    return (cJSON_IsString(v) && v->valuestring[0]) || cJSON_IsBool(v) ||
           (cJSON_IsNumber(v) && (v->valuedouble > 0 || v->valuedouble < 0));
}

static void check_names(struct names *names, const cJSON *chunk, bool first)
{
    for (size_t i = 0; i < 4; i++) {
        const cJSON *v = member(chunk, name_keys[i]);
        if (!v)
            continue;
        if (!names->of[i] && is_said(v))
            names->of[i] = cJSON_Duplicate(v, true);
        if (first || !names->of[i])
            continue;
        FUZZ_CHECK(cJSON_IsBool(v) ? cJSON_IsBool(names->of[i])
                                   : (v->type & 0xff) == (names->of[i]->type & 0xff));
        FUZZ_CHECK(!is_said(v) || cJSON_Compare(v, names->of[i], true));
    }
}

static void names_free(struct names *names)
{
    for (size_t i = 0; i < 4; i++)
        cJSON_Delete(names->of[i]);
}

/* --- one event that goes out ------------------------------------------------------------------ */

static void read_event(struct reading *r, enum dialect d, struct str data, struct names *names,
                       bool first)
{
    if (data.n == 0) /* in messages they pass */
        return;
    if (str_starts(data, STR("[DONE]"))) {
        r->done = true;
        return;
    }
    cJSON *value =
        memmem(data.p, data.n, "\\u0000", 6) ? NULL : cJSON_ParseWithLength(data.p, data.n);
    if (!value || is_odd(value)) {
        r->odd = true;
        cJSON_Delete(value);
        return;
    }
    if (d == DIALECT_RESPONSES)
        read_responses(r, value);
    else if (d == DIALECT_MESSAGES)
        read_messages(r, value);
    else
        read_chat(r, value);
    if (names && !r->odd && (d == DIALECT_CHAT || d == DIALECT_COMPLETIONS))
        check_names(names, value, first);
    cJSON_Delete(value);
}

/* What splice is told of: all but what stays away before it. */
static bool passes(const struct guard_seen *seen)
{
    return seen->kind == GUARD_LIFECYCLE || seen->kind == GUARD_CONTENT || seen->kind == GUARD_END;
}

/* The event as the client gets it: one event, which it can read. */
static void deliver(struct reading *client, enum dialect d, struct str event, struct names *names,
                    bool first)
{
    struct guard_seen seen;
    struct sse_reader reader;
    struct guard g;

    sse_init(&reader);
    guard_init(&g, d, 1, false);
    FUZZ_CHECK(sse_next(&reader, event) == event.n);
    guard_look(&g, event, &seen);
    FUZZ_CHECK(passes(&seen));
    read_event(client, d, seen.data, names, first);
    guard_deinit(&g);
}

/* --- a response ------------------------------------------------------------------------------- */

struct game {
    enum dialect d;
    struct splice *splice;
    struct reading client;
    struct names names;
};

/* All of a response, read by itself. */
static void read_whole(struct reading *r, enum dialect d, struct str answer)
{
    struct guard_seen seen;
    struct sse_reader reader;
    struct guard g;
    size_t n;

    sse_init(&reader);
    guard_init(&g, d, 1, false);
    while (answer.n > 0 && (n = sse_next(&reader, answer)) > 0) {
        guard_look(&g, (struct str){answer.p, n}, &seen);
        if (passes(&seen))
            read_event(r, d, seen.data, NULL, false);
        answer = (struct str){answer.p + n, answer.n - n};
    }
    guard_deinit(&g);
}

/* What comes of a response, cut where `answer` ends. False: it is another one. */
static bool play(struct game *game, struct str answer, bool first)
{
    struct guard_seen seen;
    struct sse_reader reader;
    struct guard g;
    struct buf out;
    bool same = true;
    size_t n;

    sse_init(&reader);
    guard_init(&g, game->d, 1, false);
    buf_init(&out, SIZE_MAX);
    while (same && answer.n > 0 && (n = sse_next(&reader, answer)) > 0) {
        struct str event = {answer.p, n};
        answer = (struct str){answer.p + n, answer.n - n};
        guard_look(&g, event, &seen);
        if (!passes(&seen))
            continue;
        enum splice_action action = splice_event(game->splice, event, seen.data, &out);
        FUZZ_CHECK(!first || action == SPLICE_PASS);
        if (action == SPLICE_PASS)
            deliver(&game->client, game->d, event, &game->names, first);
        else if (action == SPLICE_REWRITTEN)
            deliver(&game->client, game->d, buf_str(&out), &game->names, first);
        same = action < SPLICE_DIFFERS;
    }
    buf_deinit(&out);
    guard_deinit(&g);
    return same;
}

static bool is_prefix(const struct buf *a, const struct buf *b)
{
    return a->len <= b->len && (a->len == 0 || memcmp(a->p, b->p, a->len) == 0);
}

/* Lengths before the response: what came since is the response's own, in its place. */
static void check_texts(struct reading *client, const size_t *before, size_t n_before,
                        struct reading *whole, bool ended)
{
    for (size_t i = 0; i < client->n; i++) {
        const struct channel *c = &client->channels[i], *own = find(whole, c->name);
        size_t had = i < n_before ? before[i] : 0;
        if (c->text.len > had || ended)
            FUZZ_CHECK(own && is_prefix(&c->text, &own->text));
        if (ended)
            FUZZ_CHECK(c->text.len == own->text.len);
    }
    for (size_t i = 0; ended && i < whole->n; i++)
        FUZZ_CHECK(find(client, whole->channels[i].name));
}

static struct str cut_at(struct str answer, struct str input, unsigned salt)
{
    return (struct str){answer.p, fuzz_pick(input, salt, answer.n + 1)};
}

/* Ends with [DONE], once, and nothing behind it: then all of it has been said. */
static bool is_plain(struct str answer)
{
    static const char done[] = "data: [DONE]\n\n";
    const char *at = answer.n ? memmem(answer.p, answer.n, "[DONE]", 6) : NULL;

    return at && answer.n >= sizeof done - 1 && at == answer.p + answer.n - (sizeof done - 1) + 6 &&
           !memcmp(at - 6, done, sizeof done - 1);
}

static void round_of(struct game *game, struct str answer, bool whole)
{
    static struct reading own;
    size_t before[CHANNELS], n_before = game->client.n;

    if (!splice_possible(game->splice))
        return;
    own = (struct reading){.n = 0};
    read_whole(&own, game->d, answer);
    for (size_t i = 0; i < n_before; i++)
        before[i] = game->client.channels[i].text.len;
    splice_restart(game->splice);
    bool same = play(game, answer, false);
    if (!game->client.odd && !own.odd)
        check_texts(&game->client, before, n_before, &own,
                    same && whole && own.done && is_plain(answer) && splice_possible(game->splice));
    reading_free(&own);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct game game;
    static const enum dialect dialects[] = {DIALECT_CHAT, DIALECT_COMPLETIONS, DIALECT_RESPONSES,
                                            DIALECT_MESSAGES};

    if (size < 2)
        return 0;
    struct str input = {(const char *)data + 1, size - 1}, first = input, second = input;
    const char *mark = memchr(input.p, 1, input.n);
    if (mark) {
        first.n = (size_t)(mark - input.p);
        second = (struct str){mark + 1, input.n - first.n - 1};
    }
    game = (struct game){.d = dialects[data[0] % 4]};
    game.splice = splice_new(game.d, 1 << 16);
    FUZZ_CHECK(game.splice);
    FUZZ_CHECK(play(&game, cut_at(first, input, 1), true));
    round_of(&game, cut_at(second, input, 2), false);
    round_of(&game, fuzz_pick(input, 3, 2) ? first : second, true);
    round_of(&game, first, true);
    reading_free(&game.client);
    names_free(&game.names);
    splice_free(game.splice);
    return 0;
}
