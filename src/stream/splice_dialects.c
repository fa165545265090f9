/* Takes an event of each kind of stream that can be joined apart into pieces. */
#include "base/hash.h"
#include "http/json.h"
#include "stream/guard.h"
#include "stream/splice_private.h"

/* --- pieces ----------------------------------------------------------------------------------- */

static const struct json_value no_value = {.type = JSON_NONE};

static bool is_text(struct json_value value)
{
    return value.type == JSON_STRING && value.text.n > 0;
}

/* Whether a scalar has a value: null, "" and 0 stand for an unknown one. */
static bool is_said(struct json_value value)
{
    return is_text(value) || value.type == JSON_TRUE || value.type == JSON_FALSE ||
           (value.type == JSON_NUMBER && !str_eq(value.text, STR("0")));
}

static bool is_one_of(struct str key, const struct str *names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (json_key_is(key, names[i]))
            return true;
    return false;
}

/* A word that names a channel is compared as it stands. A word with an escape is strange: a client
 * reads it as the name that another response spells plainly. */
static struct str word(struct splice *s, struct str raw)
{
    s->strange |= raw.n > 0 && memchr(raw.p, '\\', raw.n) != NULL;
    return raw;
}

static bool next_member(struct splice *s, struct json_iter *i, struct str *ret_key,
                        struct json_value *ret_value)
{
    if (!json_next_member(i, ret_key, ret_value))
        return false;
    word(s, *ret_key);
    return true;
}

/* Returns an index, or `otherwise` if there is none. An index that is no whole number is strange:
 * to a client "0" is another place than 0. */
static uint32_t index_of(struct splice *s, struct json_value value, uint32_t otherwise)
{
    uint64_t n;

    if (json_to_u64(value, &n))
        return n < SPLICE_ANY ? (uint32_t)n : SPLICE_ANY - 1;
    s->strange |= value.type != JSON_NONE && value.type != JSON_NULL;
    return otherwise;
}

static struct splice_key key_of(enum splice_kind kind, const uint32_t at[3], struct str name)
{
    return (struct splice_key){kind, {at[0], at[1], at[2]}, name};
}

/* A key whose other indices are not given. */
static struct splice_key key_in(enum splice_kind kind, uint32_t index, struct str name)
{
    return (struct splice_key){kind, {index, SPLICE_ANY, SPLICE_ANY}, name};
}

/* Returns the new piece, for its other fields; NULL, with `failed` set, if there is no memory. */
static struct splice_piece *add_piece(struct splice *s, enum splice_kind kind,
                                      struct splice_part *part, uint32_t group,
                                      struct json_value value)
{
    void *array = s->pieces;

    if (!splice_grow(s, &array, &s->pieces_size, s->n_pieces, sizeof *s->pieces))
        return NULL;
    s->pieces = array;
    struct splice_piece *piece = &s->pieces[s->n_pieces++];
    *piece = (struct splice_piece){.kind = kind, .part = part, .group = group, .value = value};
    return piece;
}

static struct splice_piece *put(struct splice *s, struct splice_key key, struct json_value value)
{
    struct splice_part *part = splice_part(s, key);

    return part ? add_piece(s, key.kind, part, key.at[0], value) : NULL;
}

static void put_said(struct splice *s, struct splice_key key, struct json_value value)
{
    if (is_said(value))
        put(s, key, value);
}

/* Whether an empty name has another type than the client knows. It then takes the form that the
 * client knows. */
static bool is_otherwise(const struct splice *s, const struct splice_part *part,
                         struct json_value value)
{
    if (s->attempt == 0 || !part || part->delivered == 0 || value.type == JSON_NONE)
        return false;
    char c = part->text.p[0];
    enum json_type known = c == '"'   ? JSON_STRING
                           : c == 't' ? JSON_TRUE
                           : c == 'f' ? JSON_FALSE
                                      : JSON_NUMBER;
    return value.type != known;
}

static void put_single(struct splice *s, enum splice_single which, struct json_value value)
{
    struct splice_part **part = &s->single[which];

    if (!is_said(value) && !is_otherwise(s, *part, value))
        return;
    if (!*part)
        *part = splice_part(
            s, (struct splice_key){SPLICE_NAME, {SPLICE_ANY, SPLICE_ANY, which}, {NULL, 0}});
    if (!*part || (s->attempt == 0 && (*part)->delivered))
        return; /* the first response is not compared, and its name is already known */
    add_piece(s, SPLICE_NAME, *part, SPLICE_ANY, value);
}

static struct splice_part *find_as(struct splice *s, struct splice_key key, enum splice_kind kind)
{
    key.kind = kind;
    return splice_find(s, key);
}

/* Puts a field whose strings are the channel `key`. Some APIs send a list or an object instead of
 * text; that is a mark. */
static void put_field(struct splice *s, struct splice_key key, struct json_value value)
{
    struct splice_piece *piece = NULL;
    bool nested = value.type == JSON_ARRAY || value.type == JSON_OBJECT;

    if (is_text(value)) {
        piece = put(s, key, value);
        if (piece && s->has_rivals)
            piece->rival = find_as(s, key, SPLICE_MARK);
    } else if (nested && value.text.n > 2) { /* an empty one has no content */
        key.kind = SPLICE_MARK;
        piece = put(s, key, value);
        if (piece)
            piece->rival = find_as(s, key, SPLICE_TEXT);
        s->has_rivals = true;
    } else if (is_said(value) && s->attempt > 0 && splice_find(s, key)) {
        s->strange = true; /* a number where the client has text */
    }
}

static void put_logprobs(struct splice *s, uint32_t group, struct json_value value)
{
    if (s->attempt > 0)
        add_piece(s, SPLICE_LOGPROBS, NULL, group, value);
}

/* --- chat completions and completions --------------------------------------------------------- */

/* The object that holds a string is the third index of its channel. */
enum { OBJECT_FUNCTION_CALL = 1, OBJECT_AUDIO, OBJECT_CUSTOM };

/* All members of the object except its id are channels. */
static void chat_strings(struct splice *s, const uint32_t at[3], struct str object)
{
    struct json_iter i = json_iter(object);
    struct json_value value;
    struct str key;

    while (next_member(s, &i, &key, &value)) {
        if (json_key_is(key, STR("id")))
            put_said(s, key_of(SPLICE_ONCE, at, STR("id")), value);
        else
            put_field(s, key_of(SPLICE_TEXT, at, key), value);
    }
}

static void chat_tool_call(struct splice *s, uint32_t choice, uint32_t position, struct str text)
{
    struct json_iter i = json_iter(text);
    struct json_value value, id = {0}, index = {0}, function = {0}, custom = {0};
    struct str key;

    while (next_member(s, &i, &key, &value)) {
        if (json_key_is(key, STR("index")))
            index = value;
        else if (json_key_is(key, STR("function")))
            function = value;
        else if (json_key_is(key, STR("id")))
            id = value;
        else if (json_key_is(key, STR("custom")))
            custom = value;
    }
    uint32_t at[3] = {choice, index_of(s, index, position), SPLICE_ANY};
    put_said(s, key_of(SPLICE_ONCE, at, STR("id")), id);
    chat_strings(s, at, function.text);
    at[2] = OBJECT_CUSTOM;
    chat_strings(s, at, custom.text);
}

static void chat_tool_calls(struct splice *s, uint32_t choice, struct str text)
{
    struct json_iter i = json_iter(text);
    struct json_value value;

    for (uint32_t position = 0; json_next_element(&i, &value); position++)
        chat_tool_call(s, choice, position, value.text);
}

static void chat_delta(struct splice *s, uint32_t choice, struct str delta)
{
    struct json_iter i = json_iter(delta);
    struct json_value value;
    struct str key;

    while (next_member(s, &i, &key, &value)) {
        uint32_t at[3] = {choice, SPLICE_ANY, SPLICE_ANY};
        if (json_key_is(key, STR("role"))) {
            put_said(s, key_of(SPLICE_ONCE, at, STR("role")), value);
        } else if (value.type == JSON_ARRAY && json_key_is(key, STR("tool_calls"))) {
            chat_tool_calls(s, choice, value.text);
        } else if (value.type == JSON_OBJECT && json_key_is(key, STR("function_call"))) {
            at[2] = OBJECT_FUNCTION_CALL;
            chat_strings(s, at, value.text);
        } else if (value.type == JSON_OBJECT && json_key_is(key, STR("audio"))) {
            at[2] = OBJECT_AUDIO;
            chat_strings(s, at, value.text);
        } else {
            put_field(s, key_of(SPLICE_TEXT, at, key), value);
        }
    }
}

/* Returns whether the choice is finished. */
static bool chat_choice(struct splice *s, uint32_t position, struct str text)
{
    struct json_iter i = json_iter(text);
    struct json_value value, index = {0}, delta = {0}, plain = {0}, finish = {0}, logprobs = {0};
    struct str key;

    while (next_member(s, &i, &key, &value)) {
        if (json_key_is(key, STR("delta")))
            delta = value;
        else if (json_key_is(key, STR("index")))
            index = value;
        else if (json_key_is(key, STR("finish_reason")))
            finish = value;
        else if (json_key_is(key, STR("logprobs")))
            logprobs = value;
        else if (json_key_is(key, STR("text")))
            plain = value;
    }
    uint32_t choice = index_of(s, index, position);
    bool finished = guard_names_reason(&finish);
    chat_delta(s, choice, delta.text);
    put_field(s, key_in(SPLICE_TEXT, choice, STR("text")), plain);
    if (finished)
        put(s, key_in(SPLICE_CLOSE, choice, (struct str){NULL, 0}), finish);
    if (logprobs.type == JSON_OBJECT)
        put_logprobs(s, choice, logprobs);
    return finished;
}

/* Azure's first chunk, which is about the prompt, has empty names, which do not count. */
static void chat_name(struct splice *s, struct str key, struct json_value value)
{
    static const struct {
        struct str key;
        enum splice_single which;
    } names[] = {
        {{"id", 2}, SINGLE_ID},
        {{"created", 7}, SINGLE_CREATED},
        {{"model", 5}, SINGLE_MODEL},
        {{"system_fingerprint", 18}, SINGLE_FINGERPRINT},
    };

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (!json_key_is(key, names[i].key))
            continue;
        put_single(s, names[i].which, value);
        return;
    }
}

/* The usage is a piece of its own in the chunk made for it and in a choice's last chunk. If every
 * chunk has usage, it simply accompanies the text. */
static void look_chat(struct splice *s, struct str data)
{
    struct json_iter i = json_iter(data);
    struct json_value value, choices = {0}, usage = {0}, choice;
    struct str key;
    bool ended = false, any = false;

    while (next_member(s, &i, &key, &value)) {
        if (json_key_is(key, STR("choices")))
            choices = value;
        else if (json_key_is(key, STR("usage")))
            usage = value;
        else
            chat_name(s, key, value);
    }
    i = json_iter(choices.text);
    for (uint32_t position = 0; json_next_element(&i, &choice); position++) {
        any = true;
        ended |= chat_choice(s, position, choice.text);
    }
    if (usage.type == JSON_OBJECT && (ended || !any)) /* without a value: it is never replaced */
        put(s, key_in(SPLICE_MARK, SPLICE_ANY, STR("usage")), no_value);
}

/* --- Responses -------------------------------------------------------------------------------- */

/* Each event has a type. "response.output_text.delta" brings text of the channel
 * "response.output_text"; any other type is a mark in its place. The place is the item
 * (output_index), its part (content_index) and any other index (summary_index,
 * annotation_index). */
struct response_members {
    struct str type;
    uint32_t at[3];
    struct json_value item_id, delta, logprobs, item, part, response, whole;
};

/* A key has room for only one index besides those of the item and its part. */
static void response_index(struct splice *s, struct response_members *m, struct str key,
                           struct json_value value)
{
    if (str_eq(key, STR("output_index"))) {
        m->at[0] = index_of(s, value, m->at[0]);
    } else if (str_eq(key, STR("content_index"))) {
        m->at[1] = index_of(s, value, m->at[1]);
    } else {
        uint32_t n = index_of(s, value, SPLICE_ANY);
        if (n == SPLICE_ANY)
            return;
        s->strange |= m->at[2] != SPLICE_ANY;
        m->at[2] = (uint32_t)hash_text(key) ^ n;
        m->at[2] -= m->at[2] == SPLICE_ANY;
    }
}

static void response_member(struct splice *s, struct response_members *m, struct str key,
                            struct json_value value)
{
    static const struct str names[] = {{"item_id", 7}, {"delta", 5}, {"logprobs", 8},
                                       {"item", 4},    {"part", 4},  {"response", 8}};
    struct json_value *to[] = {&m->item_id, &m->delta, &m->logprobs,
                               &m->item,    &m->part,  &m->response};
    /* These repeat a channel's whole text in the event that ends it. */
    static const struct str wholes[] = {{"text", 4}, {"arguments", 9}, {"refusal", 7},
                                        {"code", 4}, {"input", 5},     {"transcript", 10},
                                        {"diff", 4}, {"command", 7}};

    if (json_key_is(key, STR("type"))) {
        m->type = word(s, value.text);
        return;
    }
    if (str_ends(key, STR("_index")) && key.n > 6) {
        response_index(s, m, key, value);
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
    if ((value.type == JSON_STRING || is_said(value)) &&
        is_one_of(key, wholes, sizeof wholes / sizeof wholes[0]))
        m->whole = value;
}

static void response_type(struct splice *s, uint32_t output, struct str name,
                          struct json_value value)
{
    if (output != SPLICE_ANY)
        put_said(s, key_in(SPLICE_TYPE, output, name), value);
}

static void response_name(struct splice *s, uint32_t output, struct str name,
                          struct json_value value, bool sealed)
{
    struct splice_key key = key_in(SPLICE_NAME, output, name);

    if (output == SPLICE_ANY)
        return;
    if (!is_said(value) && (sealed || !is_otherwise(s, splice_find(s, key), value)))
        return;
    struct splice_piece *piece = put(s, key, value);
    if (piece)
        piece->sealed = sealed;
}

/* An item's types must be the same in every response, and its ids stay those that the client knows.
 * An item with encrypted content has its id sealed in that content, so the id cannot be replaced.
 * The response object that ends a stream keeps such an id, so that the client can send the item
 * back. */
static void response_item(struct splice *s, uint32_t output, struct str text, bool in_response)
{
    struct json_want want[] = {{.key = STR("id")},
                               {.key = STR("type")},
                               {.key = STR("name")},
                               {.key = STR("call_id")},
                               {.key = STR("encrypted_content")}};

    (void)json_scan(text, want, sizeof want / sizeof want[0]);
    bool sealed = is_text(want[4].value);
    response_type(s, output, STR("type"), want[1].value);
    response_type(s, output, STR("name"), want[2].value);
    response_name(s, output, STR("call_id"), want[3].value, false);
    if (!(sealed && in_response))
        response_name(s, output, STR("id"), want[0].value, sealed);
}

static void response_object(struct splice *s, struct str text)
{
    struct json_want want[] = {
        {.key = STR("id")}, {.key = STR("created_at")}, {.key = STR("output")}};
    struct json_value item;

    if (!json_scan(text, want, sizeof want / sizeof want[0]))
        return;
    put_single(s, SINGLE_ID, want[0].value);
    put_single(s, SINGLE_CREATED, want[1].value);
    struct json_iter i = json_iter(want[2].value.text);
    for (uint32_t output = 0; json_next_element(&i, &item); output++)
        response_item(s, output, item.text, true);
}

static bool cut_end(struct str *s, struct str end)
{
    if (s->n <= end.n || !str_ends(*s, end))
        return false;
    s->n -= end.n;
    return true;
}

static void response_close(struct splice *s, const uint32_t at[3])
{
    put(s, key_of(SPLICE_CLOSE, at, (struct str){NULL, 0}), no_value);
}

/* An event without text is a mark in its place, and may end channels. */
static void response_mark(struct splice *s, const struct response_members *m)
{
    static const uint32_t all[3] = {SPLICE_ANY, SPLICE_ANY, SPLICE_ANY};
    static const struct str terminal[] = {
        {"response.completed", 18}, {"response.incomplete", 19}, {"response.failed", 15}};
    struct splice_key channel = key_of(SPLICE_TEXT, m->at, m->type);
    struct splice_piece *piece = put(s, key_of(SPLICE_MARK, m->at, m->type), no_value);

    if (m->delta.type != JSON_NONE && cut_end(&channel.name, STR(".delta"))) {
        struct splice_part *rival = splice_find(s, channel);
        if (piece)
            piece->rival = rival;
        s->has_rivals = true;
        s->strange |= rival && s->attempt > 0 && is_said(m->delta);
    } else if (is_one_of(m->type, terminal, sizeof terminal / sizeof terminal[0])) {
        response_close(s, all);
    } else if (cut_end(&channel.name, STR(".done"))) {
        struct splice_part *part = m->whole.type != JSON_NONE ? splice_find(s, channel) : NULL;
        if (part)
            add_piece(s, SPLICE_WHOLE, part, m->at[0], m->whole);
        if (m->at[0] != SPLICE_ANY)
            response_close(s, m->at);
    }
}

/* --- Anthropic's messages --------------------------------------------------------------------- */

/* A message is a row of content blocks, each with an index. content_block_start names the block's
 * type, deltas add to it, content_block_stop ends it. Only events that begin something have ids;
 * the client has received those events, so a new response's are left out, and their ids with them.
 *
 * A signature or encrypted data arrives whole in one event and seals the thinking before it, so no
 * two responses have the same. It is complete with the text that the client has before it. Once
 * another response has repeated that text, its signature is skipped. */
struct message_members {
    struct str type;
    uint32_t index;
    struct json_value block, delta;
};

/* A block may begin with text. If the client has the block, it cannot be begun again for the new
 * part of such a text. */
static void message_first_text(struct splice *s, struct splice_key key, struct json_value value,
                               bool known)
{
    struct splice_part *part = splice_find(s, key);
    struct str rest = value.text;
    size_t at = part ? part->matched : 0;
    unsigned half = 0;

    if (!is_text(value))
        return;
    if (known && (!part || !splice_text_match(buf_str(&part->text), &at, &rest, &half) ||
                  rest.n > 0 || half))
        s->strange = true;
    put_field(s, key, value);
}

/* A block that refers to another, as a tool's result does to its call, must refer to a block that
 * the client has. */
static void message_reference(struct splice *s, struct json_value id)
{
    if (s->attempt == 0 || !is_text(id))
        return;
    for (size_t i = 0; i < s->n_parts; i++) {
        const struct splice_part *part = s->parts[i].part;
        if (part->key.kind == SPLICE_NAME && part->delivered &&
            str_eq(buf_str(&part->text), splice_form(id)))
            return;
    }
    s->strange = true;
}

static void message_block(struct splice *s, const struct message_members *m)
{
    struct splice_key mark = key_in(SPLICE_MARK, m->index, STR("start"));
    struct splice_part *start = splice_find(s, mark);
    bool known = s->attempt > 0 && start && start->delivered > start->seen;
    struct json_iter i = json_iter(m->block.text);
    struct json_value value;
    struct str key;

    put(s, mark, no_value);
    while (next_member(s, &i, &key, &value)) {
        static const struct str texts[] = {{"text", 4}, {"thinking", 8}, {"content", 7}};
        static const struct str types[] = {{"type", 4}, {"name", 4}, {"server_name", 11}};
        if (value.type == JSON_STRING && is_one_of(key, texts, sizeof texts / sizeof texts[0]))
            message_first_text(s, key_in(SPLICE_TEXT, m->index, key), value, known);
        else if (is_one_of(key, types, sizeof types / sizeof types[0]) ||
                 (value.type == JSON_OBJECT && value.text.n > 2 && json_key_is(key, STR("input"))))
            put(s, key_in(SPLICE_TYPE, m->index, key), value);
        else if (json_key_is(key, STR("tool_use_id")))
            message_reference(s, value);
        else if (value.type == JSON_OBJECT && json_key_is(key, STR("caller")))
            message_reference(s, json_scan_one(value.text, STR("tool_id")));
        else if (is_text(value) && json_key_is(key, STR("id")))
            put(s, key_in(SPLICE_NAME, m->index, STR("id")), value);
    }
}

static void look_messages(struct splice *s, struct str data)
{
    struct message_members m = {.index = SPLICE_ANY};
    struct json_iter i = json_iter(data);
    struct json_value value;
    struct str key;

    while (next_member(s, &i, &key, &value)) {
        if (json_key_is(key, STR("type")))
            m.type = word(s, value.text);
        else if (json_key_is(key, STR("index")))
            m.index = index_of(s, value, m.index);
        else if (json_key_is(key, STR("content_block")))
            m.block = value;
        else if (json_key_is(key, STR("delta")))
            m.delta = value;
    }
    if (str_eq(m.type, STR("content_block_delta"))) {
        struct json_iter members = json_iter(m.delta.text);
        struct json_value member;
        struct str name;
        while (next_member(s, &members, &name, &member)) {
            if (json_key_is(name, STR("type")))
                continue;
            if (json_key_is(name, STR("signature")))
                put(s, key_in(SPLICE_CLOSE, m.index, STR("signature")), no_value);
            else
                put_field(s, key_in(SPLICE_TEXT, m.index, name), member);
        }
        /* By then, the client may already have the block's end. */
        s->says_nothing = s->n_pieces == 0;
    } else if (str_eq(m.type, STR("content_block_start")))
        message_block(s, &m);
    else if (str_eq(m.type, STR("content_block_stop")))
        put(s, key_in(SPLICE_CLOSE, m.index, STR("stop")), no_value);
    else if (str_eq(m.type, STR("message_delta"))) {
        /* A message's last delta has the reason for its end and the usage. The last one's usage
         * counts a whole response, which the client then has. */
        struct json_value reason = json_scan_one(m.delta.text, STR("stop_reason"));
        if (guard_names_reason(&reason))
            put(s, key_in(SPLICE_CLOSE, SPLICE_ANY, STR("stop_reason")), reason);
        else
            put(s, key_in(SPLICE_MARK, SPLICE_ANY, m.type), no_value);
    } else if (str_eq(m.type, STR("message_stop")))
        put(s, key_in(SPLICE_CLOSE, SPLICE_ANY, m.type), no_value);
    else if (m.type.n > 0 && !str_eq(m.type, STR("ping")))
        put(s, key_in(SPLICE_MARK, m.index, m.type), no_value);
}

/* --- an event --------------------------------------------------------------------------------- */

void splice_look(struct splice *s, struct str data)
{
    s->n_pieces = 0;
    s->strange = s->says_nothing = s->failed = false;
    s->sequence_value = no_value;
    if (str_starts(data, STR("[DONE]"))) /* the SDKs compare only the beginning */
        put(s, key_in(SPLICE_CLOSE, SPLICE_ANY, (struct str){NULL, 0}), no_value);
    else if (s->dialect == DIALECT_RESPONSES) {
        struct response_members m = {.at = {SPLICE_ANY, SPLICE_ANY, SPLICE_ANY}};
        struct json_iter i = json_iter(data);
        struct json_value value;
        struct str key;
        while (next_member(s, &i, &key, &value))
            response_member(s, &m, key, value);
        struct str channel = m.type;
        if (m.delta.type == JSON_STRING && cut_end(&channel, STR(".delta"))) {
            if (m.delta.text.n != 0) {
                struct splice_piece *piece = put(s, key_of(SPLICE_TEXT, m.at, channel), m.delta);
                if (piece && s->has_rivals)
                    piece->rival = splice_find(s, key_of(SPLICE_MARK, m.at, m.type));
            }
            if (m.logprobs.type == JSON_ARRAY && m.logprobs.text.n > 2)
                put_logprobs(s, m.at[0], m.logprobs);
        } else if (m.type.n > 0) {
            response_mark(s, &m);
        }
        response_name(s, m.at[0], STR("id"), m.item_id, false);
        if (m.item.type == JSON_OBJECT && m.at[0] != SPLICE_ANY)
            response_item(s, m.at[0], m.item.text, false);
        if (m.part.type == JSON_OBJECT)
            put_said(s, key_of(SPLICE_TYPE, m.at, STR("part")),
                     json_scan_one(m.part.text, STR("type")));
        if (m.response.type == JSON_OBJECT)
            response_object(s, m.response.text);
    } else if (s->dialect == DIALECT_MESSAGES)
        look_messages(s, data);
    else
        look_chat(s, data);
}
