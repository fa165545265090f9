/* A chunk of chat completions, or of completions, in pieces. */
#include "exchange/guard.h"
#include "exchange/splice_private.h"

/* Which of the objects that hold strings, as the third index of a channel. */
enum { OBJECT_FUNCTION_CALL = 1, OBJECT_AUDIO, OBJECT_CUSTOM };

/* An index as it stands, or `otherwise`. */
static uint32_t index_of(struct json_value value, uint32_t otherwise)
{
    uint64_t n;

    if (!json_to_u64(value, &n))
        return otherwise;
    return n < SPLICE_ANY ? (uint32_t)n : SPLICE_ANY - 1;
}

static void put_string(struct splice *s, enum splice_kind kind, const uint32_t at[3],
                       struct str name, struct json_value value)
{
    if (splice_is_text(value))
        (void)splice_put(s, (struct splice_key){kind, {at[0], at[1], at[2]}, name}, value);
}

/* The strings of an object: channels, all but its id. */
static void look_strings(struct splice *s, const uint32_t at[3], struct str object)
{
    struct json_iter i = json_iter(object);
    struct json_value value;
    struct str key;

    while (json_next_member(&i, &key, &value))
        put_string(s, str_eq(key, STR("id")) ? SPLICE_ONCE : SPLICE_TEXT, at, key, value);
}

static void look_tool_call(struct splice *s, uint32_t choice, uint32_t position, struct str text)
{
    struct json_iter i = json_iter(text);
    struct json_value value, id = {0}, index = {0}, function = {0}, custom = {0};
    struct str key;

    while (json_next_member(&i, &key, &value)) {
        if (json_key_is(key, STR("index")))
            index = value;
        else if (json_key_is(key, STR("function")))
            function = value;
        else if (json_key_is(key, STR("id")))
            id = value;
        else if (json_key_is(key, STR("custom")))
            custom = value;
    }
    uint32_t at[3] = {choice, index_of(index, position), SPLICE_ANY};
    put_string(s, SPLICE_ONCE, at, STR("id"), id);
    look_strings(s, at, function.text);
    at[2] = OBJECT_CUSTOM;
    look_strings(s, at, custom.text);
}

static void look_tool_calls(struct splice *s, uint32_t choice, struct str text)
{
    struct json_iter i = json_iter(text);
    struct json_value value;

    for (uint32_t position = 0; json_next_element(&i, &value); position++)
        look_tool_call(s, choice, position, value.text);
}

/* Something that is no text: told apart by name, counted, and skipped as often as it went out. An
 * empty list says nothing. */
static void look_other(struct splice *s, uint32_t choice, struct str key, struct json_value value)
{
    struct splice_key mark = {SPLICE_MARK, {choice, SPLICE_ANY, SPLICE_ANY}, key};

    if (value.text.n > 2)
        (void)splice_put(s, mark, value);
}

static void look_delta(struct splice *s, uint32_t choice, struct str delta)
{
    struct json_iter i = json_iter(delta);
    struct json_value value;
    struct str key;

    while (json_next_member(&i, &key, &value)) {
        uint32_t at[3] = {choice, SPLICE_ANY, SPLICE_ANY};
        if (value.type == JSON_STRING) {
            bool role = json_key_is(key, STR("role"));
            put_string(s, role ? SPLICE_ONCE : SPLICE_TEXT, at, key, value);
        } else if (value.type == JSON_ARRAY && json_key_is(key, STR("tool_calls"))) {
            look_tool_calls(s, choice, value.text);
        } else if (value.type == JSON_OBJECT && json_key_is(key, STR("function_call"))) {
            at[2] = OBJECT_FUNCTION_CALL;
            look_strings(s, at, value.text);
        } else if (value.type == JSON_OBJECT && json_key_is(key, STR("audio"))) {
            at[2] = OBJECT_AUDIO;
            look_strings(s, at, value.text);
        } else if (value.type == JSON_ARRAY || value.type == JSON_OBJECT) {
            look_other(s, choice, key, value);
        }
    }
}

/* True where the choice is finished. */
static bool look_choice(struct splice *s, uint32_t position, struct str text)
{
    struct json_iter i = json_iter(text);
    struct json_value value, index = {0}, delta = {0}, plain = {0}, finish = {0}, logprobs = {0};
    struct str key;

    while (json_next_member(&i, &key, &value)) {
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
    uint32_t at[3] = {index_of(index, position), SPLICE_ANY, SPLICE_ANY};
    look_delta(s, at[0], delta.text);
    put_string(s, SPLICE_TEXT, at, STR("text"), plain);
    if (guard_names_reason(&finish))
        put_string(s, SPLICE_CLOSE, at, (struct str){NULL, 0}, finish);
    if (logprobs.type == JSON_OBJECT)
        splice_put_logprobs(s, at[0], logprobs);
    return guard_names_reason(&finish);
}

/* The names of a chunk. Azure's first one, on the prompt, has empty ones, which say nothing. */
static void look_name(struct splice *s, struct str key, struct json_value value)
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
        if (splice_is_text(value) || (value.type == JSON_NUMBER && !str_eq(value.text, STR("0"))))
            (void)splice_put_single(s, names[i].which, value);
        return;
    }
}

/* The usage counts as something of its own in the chunk that is for it, and in a last one. Where
 * each chunk has one it goes along with the text. */
void splice_look_chat(struct splice *s, struct str data)
{
    struct json_iter i = json_iter(data);
    struct json_value value, choices = {0}, usage = {0}, choice;
    struct splice_key mark = {SPLICE_MARK, {SPLICE_ANY, SPLICE_ANY, SPLICE_ANY}, STR("usage")};
    struct str key;
    bool ended = false, any = false;

    while (json_next_member(&i, &key, &value)) {
        if (json_key_is(key, STR("choices")))
            choices = value;
        else if (json_key_is(key, STR("usage")))
            usage = value;
        else
            look_name(s, key, value);
    }
    i = json_iter(choices.text);
    for (uint32_t position = 0; json_next_element(&i, &choice); position++) {
        any = true;
        ended |= look_choice(s, position, choice.text);
    }
    if (usage.type == JSON_OBJECT && (ended || !any))
        (void)splice_put(s, mark, (struct json_value){0}); /* no value: it stays as it is */
}
