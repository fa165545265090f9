/* An event of an Anthropic messages stream in pieces.
 *
 * A message is a row of content blocks, each with an index: content_block_start says of which type it
 * is, deltas add to it, content_block_stop ends it. Ids are told in the events that begin something,
 * and the client has those once: a new answer's are left out with them.
 *
 * A signature or encrypted data is whole in one event and means the thinking that it seals, so no two
 * answers have the same. One is complete with the text that the client has before it: what another
 * answer has in its place is skipped once that text was the same. */
#include "http/json.h"

#include "stream/guard.h"
#include "stream/splice_private.h"

struct message_members {
    struct str type;
    uint32_t index;
    struct json_value block, delta;
};

static bool is_one_of(struct str key, const struct str *names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (json_key_is(key, names[i]))
            return true;
    return false;
}

static void put_type(struct splice *s, uint32_t index, struct str name, struct json_value value)
{
    struct splice_key key = {SPLICE_TYPE, {index, SPLICE_ANY, SPLICE_ANY}, name};

    (void)splice_put(s, key, value);
}

static void put_mark(struct splice *s, uint32_t index, struct str name)
{
    struct splice_key key = {SPLICE_MARK, {index, SPLICE_ANY, SPLICE_ANY}, name};

    (void)splice_put(s, key, (struct json_value){0});
}

static void put_close(struct splice *s, uint32_t index, struct str name, struct json_value value)
{
    struct splice_key key = {SPLICE_CLOSE, {index, SPLICE_ANY, SPLICE_ANY}, name};

    (void)splice_put(s, key, value);
}

/* --- content_block_start ---------------------------------------------------------------------- */

/* The text that a block begins with. A block that the client has cannot be begun once more for what
 * is new of it. */
static void look_first_text(struct splice *s, uint32_t index, struct str name,
                            struct json_value value, bool known)
{
    struct splice_key key = {SPLICE_TEXT, {index, SPLICE_ANY, SPLICE_ANY}, name};
    struct splice_part *part = splice_find(s, key);
    struct str rest = value.text;
    size_t at = part ? part->matched : 0;
    unsigned half = 0;

    if (!splice_is_text(value))
        return;
    if (known && (!part || !splice_text_match(buf_str(&part->text), &at, &rest, &half) ||
                  rest.n > 0 || half))
        s->strange = true;
    splice_put_field(s, key, value);
}

static bool is_known_id(const struct splice *s, struct json_value id)
{
    for (size_t i = 0; i < s->n_parts; i++) {
        const struct splice_part *part = s->parts[i].part;
        if (part->key.kind == SPLICE_NAME && part->delivered &&
            str_eq(buf_str(&part->text), splice_form(id)))
            return true;
    }
    return false;
}

/* A block that refers to another, as a result to its call, goes with a call that the client has. */
static void look_reference(struct splice *s, struct json_value id)
{
    if (s->attempt > 0 && splice_is_text(id) && !is_known_id(s, id))
        s->strange = true;
}

static void look_block_member(struct splice *s, uint32_t index, struct str key,
                              struct json_value value, bool known)
{
    static const struct str texts[] = {{"text", 4}, {"thinking", 8}, {"content", 7}};
    static const struct str types[] = {{"type", 4}, {"name", 4}, {"server_name", 11}};

    if (value.type == JSON_STRING && is_one_of(key, texts, sizeof texts / sizeof texts[0]))
        look_first_text(s, index, key, value, known);
    else if (is_one_of(key, types, sizeof types / sizeof types[0]) ||
             (value.type == JSON_OBJECT && value.text.n > 2 && json_key_is(key, STR("input"))))
        put_type(s, index, key, value);
    else if (json_key_is(key, STR("tool_use_id")))
        look_reference(s, value);
    else if (value.type == JSON_OBJECT && json_key_is(key, STR("caller")))
        look_reference(s, json_scan_one(value.text, STR("tool_id")));
    else if (splice_is_text(value) && json_key_is(key, STR("id")))
        (void)splice_put(
            s, (struct splice_key){SPLICE_NAME, {index, SPLICE_ANY, SPLICE_ANY}, STR("id")}, value);
}

static void look_block(struct splice *s, const struct message_members *m)
{
    struct splice_key mark = {SPLICE_MARK, {m->index, SPLICE_ANY, SPLICE_ANY}, STR("start")};
    struct splice_part *start = splice_find(s, mark);
    bool known = s->attempt > 0 && start && start->delivered > start->seen;
    struct json_iter i = json_iter(m->block.text);
    struct json_value value;
    struct str key;

    put_mark(s, m->index, mark.name);
    while (splice_member(s, &i, &key, &value))
        look_block_member(s, m->index, key, value, known);
}

/* --- deltas ----------------------------------------------------------------------------------- */

static void look_delta(struct splice *s, const struct message_members *m)
{
    struct json_iter i = json_iter(m->delta.text);
    struct json_value value;
    struct str key;

    while (splice_member(s, &i, &key, &value)) {
        if (json_key_is(key, STR("type")))
            continue;
        if (json_key_is(key, STR("signature")))
            put_close(s, m->index, STR("signature"), (struct json_value){0});
        else
            splice_put_field(
                s, (struct splice_key){SPLICE_TEXT, {m->index, SPLICE_ANY, SPLICE_ANY}, key},
                value);
    }
    s->says_nothing = s->n_pieces == 0; /* where it comes, its block may be at its end */
}

/* The reason why the message ends, and all that it used: the last one's counts are those of a whole
 * answer, which the client has. */
static void look_message_delta(struct splice *s, const struct message_members *m)
{
    struct json_value reason = json_scan_one(m->delta.text, STR("stop_reason"));

    if (guard_names_reason(&reason))
        put_close(s, SPLICE_ANY, STR("stop_reason"), reason);
    else
        put_mark(s, SPLICE_ANY, m->type);
}

static void take_member(struct splice *s, struct message_members *m, struct str key,
                        struct json_value value)
{
    if (json_key_is(key, STR("type")))
        m->type = splice_word(s, value);
    else if (json_key_is(key, STR("index")))
        m->index = splice_index(s, value, m->index);
    else if (json_key_is(key, STR("content_block")))
        m->block = value;
    else if (json_key_is(key, STR("delta")))
        m->delta = value;
}

void splice_look_messages(struct splice *s, struct str data)
{
    struct message_members m = {.index = SPLICE_ANY};
    struct json_iter i = json_iter(data);
    struct json_value value;
    struct str key;

    while (splice_member(s, &i, &key, &value))
        take_member(s, &m, key, value);
    if (str_eq(m.type, STR("content_block_delta")))
        look_delta(s, &m);
    else if (str_eq(m.type, STR("content_block_start")))
        look_block(s, &m);
    else if (str_eq(m.type, STR("content_block_stop")))
        put_close(s, m.index, STR("stop"), (struct json_value){0});
    else if (str_eq(m.type, STR("message_delta")))
        look_message_delta(s, &m);
    else if (str_eq(m.type, STR("message_stop")))
        put_close(s, SPLICE_ANY, m.type, (struct json_value){0});
    else if (m.type.n > 0 && !str_eq(m.type, STR("ping")))
        put_mark(s, m.index, m.type);
}
