/* Reads "model", "stream" and "encoding_format" out of a JSON body as it flows by. */
#include "peek.h"

#include <string.h>

void peek_reset(struct peek *peek)
{
    peek->state = PEEK_START;
    peek->escape = false;
    peek->depth = 0;
    peek->key_len = 0;
    peek->value_len = 0;
    peek->model[0] = '\0';
    peek->stream = false;
    peek->base64 = false;
}

static void keep(char *into, size_t *len, size_t max, char c)
{
    if (*len + 1 < max) {
        into[(*len)++] = c;
    }
}

static bool key_is(const struct peek *peek, const char *name)
{
    return peek->key_len == strlen(name) && memcmp(peek->key, name, peek->key_len) == 0;
}

static void value_end(struct peek *peek, bool string)
{
    peek->value[peek->value_len] = '\0';
    if (string && key_is(peek, "model")) {
        memcpy(peek->model, peek->value, peek->value_len + 1);
    } else if (string && key_is(peek, "encoding_format")) {
        peek->base64 = strcmp(peek->value, "base64") == 0;
    } else if (!string && key_is(peek, "stream")) {
        peek->stream = strcmp(peek->value, "true") == 0;
    }
}

static void value_start(struct peek *peek, char c)
{
    peek->value_len = 0;
    if (c == '"') {
        peek->state = PEEK_STRING;
    } else if (c == '{' || c == '[') {
        peek->state = PEEK_NESTED;
        peek->depth = 1;
    } else {
        peek->state = PEEK_SCALAR;
        keep(peek->value, &peek->value_len, PEEK_VALUE_MAX, c);
    }
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* One byte inside a string; returns true at the closing quote. */
static bool string_byte(struct peek *peek, char c)
{
    if (peek->escape) {
        peek->escape = false;
        return false;
    }
    peek->escape = c == '\\';
    return c == '"';
}

static void nested_byte(struct peek *peek, char c)
{
    if (c == '"') {
        peek->state = PEEK_NESTED_STRING;
    } else if (c == '{' || c == '[') {
        peek->depth++;
    } else if (c == '}' || c == ']') {
        peek->depth--;
        if (peek->depth == 0) {
            peek->state = PEEK_KEY_WAIT;
        }
    }
}

static void scalar_byte(struct peek *peek, char c)
{
    if (c == ',' || c == '}' || is_space(c)) {
        value_end(peek, false);
        peek->state = c == '}' ? PEEK_DONE : PEEK_KEY_WAIT;
    } else {
        keep(peek->value, &peek->value_len, PEEK_VALUE_MAX, c);
    }
}

static void outer_byte(struct peek *peek, char c)
{
    if (is_space(c)) {
        return;
    }
    if (peek->state == PEEK_START) {
        peek->state = c == '{' ? PEEK_KEY_WAIT : PEEK_DONE;
    } else if (peek->state == PEEK_COLON) {
        if (c != ':') {
            value_start(peek, c);
        }
    } else if (c == '"') {
        peek->state = PEEK_KEY;
        peek->key_len = 0;
    } else if (c != ',') {
        peek->state = PEEK_DONE;
    }
}

static void text_byte(struct peek *peek, char c)
{
    bool end = string_byte(peek, c);

    if (peek->state == PEEK_KEY) {
        if (end) {
            peek->state = PEEK_COLON;
        } else {
            keep(peek->key, &peek->key_len, PEEK_KEY_MAX, c);
        }
    } else if (end) {
        value_end(peek, true);
        peek->state = PEEK_KEY_WAIT;
    } else {
        keep(peek->value, &peek->value_len, PEEK_VALUE_MAX, c);
    }
}

/* Prompts are long strings: they are stepped over in a tight loop. */
static const char *skip_text(struct peek *peek, const char *p, const char *end)
{
    while (p < end && (peek->escape || *p != '"')) {
        peek->escape = !peek->escape && *p == '\\';
        p++;
    }
    if (p < end) {
        peek->state = PEEK_NESTED;
        p++;
    }
    return p;
}

void peek_feed(struct peek *peek, const char *data, size_t len)
{
    const char *p = data;
    const char *end = data + len;

    while (p < end && peek->state != PEEK_DONE) {
        switch (peek->state) {
        case PEEK_NESTED_STRING:
            p = skip_text(peek, p, end);
            break;
        case PEEK_NESTED:
            nested_byte(peek, *p++);
            break;
        case PEEK_SCALAR:
            scalar_byte(peek, *p++);
            break;
        case PEEK_KEY:
        case PEEK_STRING:
            text_byte(peek, *p++);
            break;
        default:
            outer_byte(peek, *p++);
            break;
        }
    }
}
