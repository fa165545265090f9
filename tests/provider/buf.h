/* A growable byte buffer, and the few text helpers every part of the provider shares. */
#ifndef PROVIDER_BUF_H
#define PROVIDER_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* data is NULL until the first byte; it is never NUL-terminated unless buf_cstr is called.
 * The caller bounds len. Running out of memory ends the program: it is a test tool. */
struct buf {
    char *data;
    size_t len;
    size_t cap;
};

/* Zeroed memory; never NULL. */
void *must_alloc(size_t size);
void *must_realloc(void *old, size_t size);

/* Makes room for extra more bytes and returns where they go. */
char *buf_room(struct buf *b, size_t extra);
void buf_add(struct buf *b, const void *bytes, size_t len);
void buf_str(struct buf *b, const char *text);
void buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A quoted JSON string: from UTF-8 (bytes are passed on), or from raw bytes taken as Latin-1. */
void buf_json(struct buf *b, const char *text, size_t len);
void buf_json_latin1(struct buf *b, const char *text, size_t len);
/* The contents as a C string, valid until the buffer changes. */
const char *buf_cstr(struct buf *b);
/* Empties it; memory beyond keep bytes is given back. */
void buf_reset(struct buf *b, size_t keep);
void buf_free(struct buf *b);

/* Whether the bytes are well-formed UTF-8. */
bool utf8_valid(const char *text, size_t len);
/* CLOCK_MONOTONIC in milliseconds. */
double now_ms(void);

#endif
