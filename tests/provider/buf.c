/* A growable byte buffer, and the few text helpers every part of the provider shares. */
#include "buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void *checked(void *memory)
{
    if (memory == NULL) {
        fputs("provider: out of memory\n", stderr);
        abort();
    }
    return memory;
}

void *must_alloc(size_t size)
{
    return checked(calloc(1, size > 0 ? size : 1));
}

void *must_realloc(void *old, size_t size)
{
    return checked(realloc(old, size > 0 ? size : 1));
}

char *buf_room(struct buf *b, size_t extra)
{
    if (b->cap - b->len < extra) {
        size_t cap = b->cap > 0 ? b->cap : 256;

        while (cap - b->len < extra) {
            cap *= 2;
        }
        b->data = must_realloc(b->data, cap);
        b->cap = cap;
    }
    return b->data + b->len;
}

void buf_add(struct buf *b, const void *bytes, size_t len)
{
    if (len > 0) {
        memcpy(buf_room(b, len), bytes, len);
        b->len += len;
    }
}

void buf_str(struct buf *b, const char *text)
{
    buf_add(b, text, strlen(text));
}

void buf_printf(struct buf *b, const char *format, ...)
{
    va_list args;
    int len;

    va_start(args, format);
    len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (len < 0) {
        return;
    }
    va_start(args, format);
    (void)vsnprintf(buf_room(b, (size_t)len + 1), (size_t)len + 1, format, args);
    va_end(args);
    b->len += (size_t)len;
}

static void json_char(struct buf *b, unsigned char c, bool latin1)
{
    if (c == '"' || c == '\\') {
        buf_add(b, "\\", 1);
        buf_add(b, &c, 1);
    } else if (c == '\n') {
        buf_add(b, "\\n", 2);
    } else if (c < 0x20 || c == 0x7f || (latin1 && c >= 0x80)) {
        buf_printf(b, "\\u%04x", c);
    } else {
        buf_add(b, &c, 1);
    }
}

static void json_string(struct buf *b, const char *text, size_t len, bool latin1)
{
    buf_add(b, "\"", 1);
    for (size_t i = 0; i < len; i++) {
        json_char(b, (unsigned char)text[i], latin1);
    }
    buf_add(b, "\"", 1);
}

void buf_json(struct buf *b, const char *text, size_t len)
{
    json_string(b, text, len, false);
}

void buf_json_latin1(struct buf *b, const char *text, size_t len)
{
    json_string(b, text, len, true);
}

const char *buf_cstr(struct buf *b)
{
    *buf_room(b, 1) = '\0';
    return b->data;
}

void buf_reset(struct buf *b, size_t keep)
{
    if (b->cap > keep) {
        buf_free(b);
    }
    b->len = 0;
}

void buf_free(struct buf *b)
{
    free(b->data);
    *b = (struct buf){0};
}

/* The length of the UTF-8 sequence that starts with c, and the least code point it may hold. */
static size_t utf8_length(unsigned char c, uint32_t *ret_least)
{
    if (c >= 0xc2 && c <= 0xdf) {
        *ret_least = 0x80;
        return 2;
    }
    if (c >= 0xe0 && c <= 0xef) {
        *ret_least = 0x800;
        return 3;
    }
    if (c >= 0xf0 && c <= 0xf4) {
        *ret_least = 0x10000;
        return 4;
    }
    *ret_least = 0;
    return c < 0x80 ? 1 : 0;
}

bool utf8_valid(const char *text, size_t len)
{
    const unsigned char *p = (const unsigned char *)text;
    const unsigned char *end;

    if (len == 0) {
        return true; /* text may be NULL */
    }
    end = p + len;
    while (p < end) {
        uint32_t least;
        size_t n = utf8_length(*p, &least);
        uint32_t code = n > 1 ? *p & (0x7fU >> n) : *p;

        if (n == 0 || (size_t)(end - p) < n) {
            return false;
        }
        for (size_t i = 1; i < n; i++) {
            if ((p[i] & 0xc0) != 0x80) {
                return false;
            }
            code = code << 6 | (p[i] & 0x3fU);
        }
        if (code < least || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) {
            return false;
        }
        p += n;
    }
    return true;
}

double now_ms(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}
