/* An event of a Responses stream in pieces.
 *
 * Each event has a type. "response.output_text.delta" is text of the channel
 * "response.output_text"; all other types happen a number of times in their place. The place is
 * the item (output_index), the part of it (content_index) and any other index (summary_index,
 * annotation_index, ...). */
#include "base/hash.h"
#include "http/json.h"

#include "stream/splice_private.h"

struct response_members {
    struct str type;
    uint32_t at[3];
    struct json_value item_id, delta, logprobs, item, part, response, whole;
};

static bool is_index(struct str key)
{
    static const char tail[] = "_index";
    size_t n = sizeof tail - 1;

    return key.n > n && memcmp(key.p + key.n - n, tail, n) == 0;
}

/* Two indices beside those of the item and its part would be more than there is room for in a key. */
static void take_other_index(struct splice *s, struct response_members *m, struct str key,
                             struct json_value value)
{
    uint32_t n = splice_index(s, value, SPLICE_ANY);

    if (n == SPLICE_ANY)
        return;
    s->strange |= m->at[2] != SPLICE_ANY;
    m->at[2] = (uint32_t)hash_text(key) ^ n;
    m->at[2] -= m->at[2] == SPLICE_ANY;
}

static void take_index(struct splice *s, struct response_members *m, struct str key,
                       struct json_value value)
{
    if (str_eq(key, STR("output_index")))
        m->at[0] = splice_index(s, value, m->at[0]);
    else if (str_eq(key, STR("content_index")))
        m->at[1] = splice_index(s, value, m->at[1]);
    else
        take_other_index(s, m, key, value);
}

/* The members that repeat a channel's whole text in the event that ends it. */
static bool is_whole(struct str key)
{
    static const struct str names[] = {{"text", 4}, {"arguments", 9}, {"refusal", 7},
                                       {"code", 4}, {"input", 5},     {"transcript", 10},
                                       {"diff", 4}, {"command", 7}};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (json_key_is(key, names[i]))
            return true;
    return false;
}

static void take_member(struct splice *s, struct response_members *m, struct str key,
                        struct json_value value)
{
    static const struct str names[] = {{"item_id", 7}, {"delta", 5}, {"logprobs", 8},
                                       {"item", 4},    {"part", 4},  {"response", 8}};
    struct json_value *to[] = {&m->item_id, &m->delta, &m->logprobs,
                               &m->item,    &m->part,  &m->response};

    if (json_key_is(key, STR("type"))) {
        m->type = splice_word(s, value);
        return;
    }
    if (is_index(key)) {
        take_index(s, m, key, value);
        return;
    }
    if (json_key_is(key, STR("sequence_number"))) {
        s->sequence_value = value;
        return;
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (json_key_is(key, names[i])) {
            *to[i] = value;
            return;
        }
    }
    if ((value.type == JSON_STRING || splice_is_said(value)) && is_whole(key))
        m->whole = value;
}

static void put_type(struct splice *s, uint32_t output, struct str name, struct json_value value)
{
    struct splice_key key = {SPLICE_TYPE, {output, SPLICE_ANY, SPLICE_ANY}, name};

    if (splice_is_said(value) && output != SPLICE_ANY)
        (void)splice_put(s, key, value);
}

static void put_name(struct splice *s, uint32_t output, struct str name, struct json_value value,
                     bool sealed)
{
    struct splice_key key = {SPLICE_NAME, {output, SPLICE_ANY, SPLICE_ANY}, name};

    if (output == SPLICE_ANY)
        return;
    if (!splice_is_said(value) && (sealed || !splice_is_otherwise(s, splice_find(s, key), value)))
        return;
    struct splice_piece *piece = splice_put(s, key, value);
    if (piece)
        piece->sealed = sealed;
}

/* An item: what it is has to be the same, and its ids stay those that the client knows. The id of
 * an item with encrypted content is sealed in that content: such an item cannot take another. In
 * the response object that ends a stream it keeps its own, so that it can be sent back. */
static void look_item(struct splice *s, uint32_t output, struct str text, bool in_response)
{
    struct json_want want[] = {{.key = STR("id")},
                               {.key = STR("type")},
                               {.key = STR("name")},
                               {.key = STR("call_id")},
                               {.key = STR("encrypted_content")}};

    (void)json_scan(text, want, sizeof want / sizeof want[0]);
    bool sealed = splice_is_text(want[4].value);
    put_type(s, output, STR("type"), want[1].value);
    put_type(s, output, STR("name"), want[2].value);
    put_name(s, output, STR("call_id"), want[3].value, false);
    if (!(sealed && in_response))
        put_name(s, output, STR("id"), want[0].value, sealed);
}

static void look_response(struct splice *s, struct str text)
{
    struct json_want want[] = {
        {.key = STR("id")}, {.key = STR("created_at")}, {.key = STR("output")}};
    struct json_value item;

    if (!json_scan(text, want, sizeof want / sizeof want[0]))
        return;
    splice_put_single(s, SINGLE_ID, want[0].value);
    splice_put_single(s, SINGLE_CREATED, want[1].value);
    struct json_iter i = json_iter(want[2].value.text);
    for (uint32_t output = 0; json_next_element(&i, &item); output++)
        look_item(s, output, item.text, true);
}

static bool cut_end(struct str *s, struct str end)
{
    if (s->n <= end.n || memcmp(s->p + s->n - end.n, end.p, end.n) != 0)
        return false;
    s->n -= end.n;
    return true;
}

static bool is_terminal(struct str type)
{
    return str_eq(type, STR("response.completed")) || str_eq(type, STR("response.incomplete")) ||
           str_eq(type, STR("response.failed"));
}

/* What is no text: it happens once more in its place, and may end channels. */
static void look_structure(struct splice *s, const struct response_members *m)
{
    struct splice_key key = {SPLICE_MARK, {m->at[0], m->at[1], m->at[2]}, m->type};
    struct splice_key close = {SPLICE_CLOSE, {m->at[0], m->at[1], m->at[2]}, {NULL, 0}};

    struct splice_piece *piece = splice_put(s, key, (struct json_value){0});
    if (m->delta.type != JSON_NONE && cut_end(&key.name, STR(".delta"))) {
        key.kind = SPLICE_TEXT;
        struct splice_part *channel = splice_find(s, key);
        if (piece)
            piece->rival = channel;
        s->has_rivals = true;
        s->strange |= channel && s->attempt > 0 && splice_is_said(m->delta);
        return;
    }
    if (is_terminal(m->type)) {
        for (size_t i = 0; i < 3; i++)
            close.at[i] = SPLICE_ANY;
        (void)splice_put(s, close, (struct json_value){0});
        return;
    }
    if (!cut_end(&key.name, STR(".done")))
        return;
    key.kind = SPLICE_TEXT;
    if (m->whole.type != JSON_NONE)
        splice_put_whole(s, key, m->whole);
    if (m->at[0] != SPLICE_ANY)
        (void)splice_put(s, close, (struct json_value){0});
}

static void look_part(struct splice *s, const struct response_members *m)
{
    struct splice_key key = {SPLICE_TYPE, {m->at[0], m->at[1], m->at[2]}, STR("part")};
    struct json_value type = json_scan_one(m->part.text, STR("type"));

    if (splice_is_said(type))
        (void)splice_put(s, key, type);
}

static void look_delta(struct splice *s, const struct response_members *m, struct str channel)
{
    struct splice_key key = {SPLICE_TEXT, {m->at[0], m->at[1], m->at[2]}, channel};

    if (m->delta.text.n == 0)
        return;
    struct splice_piece *piece = splice_put(s, key, m->delta);
    if (!piece || !s->has_rivals)
        return;
    key.kind = SPLICE_MARK;
    key.name = m->type;
    piece->rival = splice_find(s, key);
}

void splice_look_responses(struct splice *s, struct str data)
{
    struct response_members m = {.at = {SPLICE_ANY, SPLICE_ANY, SPLICE_ANY}};
    struct json_iter i = json_iter(data);
    struct json_value value;
    struct str key;

    while (splice_member(s, &i, &key, &value))
        take_member(s, &m, key, value);
    struct str channel = m.type;
    if (m.delta.type == JSON_STRING && cut_end(&channel, STR(".delta"))) {
        look_delta(s, &m, channel);
        if (m.logprobs.type == JSON_ARRAY && m.logprobs.text.n > 2)
            splice_put_logprobs(s, m.at[0], m.logprobs);
    } else if (m.type.n > 0) {
        look_structure(s, &m);
    }
    put_name(s, m.at[0], STR("id"), m.item_id, false);
    if (m.item.type == JSON_OBJECT && m.at[0] != SPLICE_ANY)
        look_item(s, m.at[0], m.item.text, false);
    if (m.part.type == JSON_OBJECT)
        look_part(s, &m);
    if (m.response.type == JSON_OBJECT)
        look_response(s, m.response.text);
}
