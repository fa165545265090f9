/* A chunk of chat completions, or of completions, in pieces. */
#include "stream/guard.h"
#include "stream/splice_private.h"

/* Which of the objects that hold strings, as the third index of a channel. */
enum { OBJECT_FUNCTION_CALL = 1, OBJECT_AUDIO, OBJECT_CUSTOM };

static void put_once(struct splice *s, const uint32_t at[3], struct str name,
                     struct json_value value)
{
    if (splice_is_said(value))
        (void)splice_put(s, (struct splice_key){SPLICE_ONCE, {at[0], at[1], at[2]}, name}, value);
}

static void put_field(struct splice *s, const uint32_t at[3], struct str name,
                      struct json_value value)
{
    splice_put_field(s, (struct splice_key){SPLICE_TEXT, {at[0], at[1], at[2]}, name}, value);
}

/* The members of an object: channels, all but its id. */
static void look_strings(struct splice *s, const uint32_t at[3], struct str object)
{
    struct json_iter i = json_iter(object);
    struct json_value value;
    struct str key;

    while (splice_member(s, &i, &key, &value)) {
        if (json_key_is(key, STR("id")))
            put_once(s, at, STR("id"), value);
        else
            put_field(s, at, key, value);
    }
}

static void look_tool_call(struct splice *s, uint32_t choice, uint32_t position, struct str text)
{
    struct json_iter i = json_iter(text);
    struct json_value value, id = {0}, index = {0}, function = {0}, custom = {0};
    struct str key;

    while (splice_member(s, &i, &key, &value)) {
        if (json_key_is(key, STR("index")))
            index = value;
        else if (json_key_is(key, STR("function")))
            function = value;
        else if (json_key_is(key, STR("id")))
            id = value;
        else if (json_key_is(key, STR("custom")))
            custom = value;
    }
    uint32_t at[3] = {choice, splice_index(s, index, position), SPLICE_ANY};
    put_once(s, at, STR("id"), id);
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

static void look_delta(struct splice *s, uint32_t choice, struct str delta)
{
    struct json_iter i = json_iter(delta);
    struct json_value value;
    struct str key;

    while (splice_member(s, &i, &key, &value)) {
        uint32_t at[3] = {choice, SPLICE_ANY, SPLICE_ANY};
        if (json_key_is(key, STR("role"))) {
            put_once(s, at, STR("role"), value);
        } else if (value.type == JSON_ARRAY && json_key_is(key, STR("tool_calls"))) {
            look_tool_calls(s, choice, value.text);
        } else if (value.type == JSON_OBJECT && json_key_is(key, STR("function_call"))) {
            at[2] = OBJECT_FUNCTION_CALL;
            look_strings(s, at, value.text);
        } else if (value.type == JSON_OBJECT && json_key_is(key, STR("audio"))) {
            at[2] = OBJECT_AUDIO;
            look_strings(s, at, value.text);
        } else {
            put_field(s, at, key, value);
        }
    }
}

/* True where the choice is finished. */
static bool look_choice(struct splice *s, uint32_t position, struct str text)
{
    struct json_iter i = json_iter(text);
    struct json_value value, index = {0}, delta = {0}, plain = {0}, finish = {0}, logprobs = {0};
    struct str key;

    while (splice_member(s, &i, &key, &value)) {
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
    uint32_t at[3] = {splice_index(s, index, position), SPLICE_ANY, SPLICE_ANY};
    look_delta(s, at[0], delta.text);
    put_field(s, at, STR("text"), plain);
    if (guard_names_reason(&finish))
        (void)splice_put(
            s, (struct splice_key){SPLICE_CLOSE, {at[0], SPLICE_ANY, SPLICE_ANY}, {NULL, 0}},
            finish);
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
        splice_put_single(s, names[i].which, value);
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

    while (splice_member(s, &i, &key, &value)) {
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
