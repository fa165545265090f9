/* Walks over objects and arrays, finds keys in one walk, and undoes the escapes of strings. */
#include "http/json.h"

#include "base/escape.h"
#include "http/json_stream.h"

static void skip_space(struct json_iter *c)
{
    while (c->p < c->end && (*c->p == ' ' || *c->p == '\t' || *c->p == '\r' || *c->p == '\n'))
        c->p++;
}

/* From behind an opening quote to behind the closing one. A quote counts as escaped when an odd
 * number of backslashes stands before it; the run is counted back no further than the previous
 * quote, so each byte is looked at twice at most. */
static bool skip_string(struct json_iter *c)
{
    const char *start = c->p;

    while (c->p < c->end) {
        const char *quote = memchr(c->p, '"', (size_t)(c->end - c->p));
        if (!quote)
            break;
        const char *back = quote;
        while (back > start && back[-1] == '\\')
            back--;
        c->p = quote + 1;
        if ((quote - back) % 2 == 0)
            return true;
        start = c->p;
    }
    c->p = c->end;
    return false;
}

/* From an opening bracket to behind the one that closes it. Depth is a count, not recursion, and
 * the kinds of brackets are not matched up. */
static bool skip_nested(struct json_iter *c)
{
    size_t depth = 0;

    while (c->p < c->end) {
        switch (*c->p++) {
        case '"':
            if (!skip_string(c))
                return false;
            break;
        case '{':
        case '[':
            depth++;
            break;
        case '}':
        case ']':
            if (--depth == 0)
                return true;
            break;
        default:
            break;
        }
    }
    return false;
}

static bool ends_word(char c)
{
    return c == ',' || c == '}' || c == ']' || c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* A number or one of the three words: all up to what may follow a value. */
static enum json_type skip_word(struct json_iter *c)
{
    const char *start = c->p;

    while (c->p < c->end && !ends_word(*c->p))
        c->p++;
    struct str word = {start, (size_t)(c->p - start)};
    if (word.n == 0)
        return JSON_NONE;
    if (word.p[0] == '-' || (word.p[0] >= '0' && word.p[0] <= '9'))
        return JSON_NUMBER;
    if (str_eq(word, STR("null")))
        return JSON_NULL;
    if (str_eq(word, STR("true")))
        return JSON_TRUE;
    return str_eq(word, STR("false")) ? JSON_FALSE : JSON_NONE;
}

/* Takes the value at the cursor; false where there is none or it does not end. */
static bool take_value(struct json_iter *c, struct json_value *ret_value)
{
    if (c->p == c->end)
        return false;

    const char *start = c->p;
    enum json_type type;
    if (*start == '"') {
        c->p++;
        if (!skip_string(c))
            return false;
        *ret_value = (struct json_value){JSON_STRING, {start + 1, (size_t)(c->p - start) - 2}};
        return true;
    }
    if (*start == '{' || *start == '[') {
        if (!skip_nested(c))
            return false;
        type = *start == '{' ? JSON_OBJECT : JSON_ARRAY;
    } else {
        type = skip_word(c);
        if (type == JSON_NONE)
            return false;
    }
    *ret_value = (struct json_value){type, {start, (size_t)(c->p - start)}};
    return true;
}

/* --- walking ---------------------------------------------------------------------------------- */

struct json_iter json_iter(struct str text)
{
    struct json_iter i = {.p = text.p, .end = text.n ? text.p + text.n : text.p, .first = true};

    skip_space(&i);
    if (i.p < i.end && (*i.p == '{' || *i.p == '['))
        i.close = *i.p++ == '{' ? '}' : ']';
    return i;
}

static bool stop(struct json_iter *i)
{
    i->close = '\0';
    return false;
}

/* To the next thing's first byte: false at the closing bracket, or where neither it nor a comma
 * stands. */
static bool to_next(struct json_iter *i)
{
    skip_space(i);
    if (i->p == i->end)
        return stop(i);
    if (*i->p == i->close) {
        i->p++;
        i->whole = true;
        return stop(i);
    }
    if (!i->first) {
        if (*i->p++ != ',')
            return stop(i);
        skip_space(i);
    }
    i->first = false;
    return true;
}

bool json_next_member(struct json_iter *i, struct str *ret_key, struct json_value *ret_value)
{
    struct json_value key;

    if (i->close != '}' || !to_next(i))
        return false;
    if (i->p == i->end || *i->p != '"' || !take_value(i, &key))
        return stop(i);
    skip_space(i);
    if (i->p == i->end || *i->p++ != ':')
        return stop(i);
    skip_space(i);
    if (!take_value(i, ret_value))
        return stop(i);
    *ret_key = key.text;
    return true;
}

bool json_next_element(struct json_iter *i, struct json_value *ret_value)
{
    if (i->close != ']' || !to_next(i))
        return false;
    return take_value(i, ret_value) || stop(i);
}

/* --- values by key ------------------------------------------------------------------------------ */

bool json_key_is_escaped(struct str raw_key, struct str key)
{
    char plain[128];

    if (raw_key.n <= key.n || raw_key.n > 6 * key.n || key.n >= sizeof plain ||
        !memchr(raw_key.p, '\\', raw_key.n))
        return false;
    size_t n = escape_undo_json(raw_key, plain, sizeof plain);
    return str_eq((struct str){plain, n}, key);
}

bool json_scan(struct str text, struct json_want *wants, size_t n)
{
    struct json_iter i = json_iter(text);
    struct json_value value;
    struct str key;

    for (size_t w = 0; w < n; w++)
        wants[w].value = (struct json_value){.type = JSON_NONE};
    while (json_next_member(&i, &key, &value))
        for (size_t w = 0; w < n; w++)
            if (json_key_is(key, wants[w].key))
                wants[w].value = value;
    return i.whole;
}

struct json_value json_scan_one(struct str text, struct str key)
{
    struct json_want want = {.key = key};

    (void)json_scan(text, &want, 1);
    return want.value;
}

/* --- single values ------------------------------------------------------------------------------ */

bool json_to_u64(struct json_value value, uint64_t *ret_number)
{
    return value.type == JSON_NUMBER && str_to_u64(value.text, ret_number);
}

bool json_valid(struct str text)
{
    struct json_stream s;

    if (text.n == 0 || text.p[0] == '\xef') /* which only a mark begins with */
        return false;
    json_stream_init(&s);
    json_stream_feed(&s, text);
    return json_stream_end(&s) == JSON_STREAM_VALID && str_is_utf8(text);
}
