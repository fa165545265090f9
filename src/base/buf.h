/* A growable byte buffer with a fixed cap and a sticky failure flag. */
#ifndef RETRYD_BASE_BUF_H
#define RETRYD_BASE_BUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"

/* Bytes [0, len) are valid. The buffer never grows beyond `cap`. An append that fails (out of
 * memory, or over the cap) sets `failed`; later appends then do nothing, so a builder checks once
 * at the end. */
struct buf {
    char *p;
    size_t len;
    size_t size; /* allocated */
    size_t cap;
    bool failed;
};

/* Initializes an empty buffer. Allocates nothing. */
void buf_init(struct buf *b, size_t cap);
void buf_deinit(struct buf *b);

/* Empties the buffer and clears `failed`. The memory is kept unless more than `keep` bytes are
 * allocated. */
void buf_reset(struct buf *b, size_t keep);

/* Makes room for `n` more bytes. Returns 0, -ENOMEM, or -EFBIG if that would exceed the cap. Does
 * not set `failed`. */
int buf_reserve(struct buf *b, size_t n);

/* Append functions. Each returns 0, -ENOMEM or -EFBIG; on an error `failed` is set and the content
 * is unchanged. They return -ENOMEM if an earlier append failed. `data` must not point into the
 * buffer itself. buf_printf needs one spare byte for a text of 256 bytes or more. */
int buf_add(struct buf *b, const void *data, size_t n);
int buf_add_str(struct buf *b, struct str s);
int buf_addc(struct buf *b, char c);
int buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Removes the first `n` bytes (n <= len) and moves the rest to the front. */
void buf_consume(struct buf *b, size_t n);

/* Frees the memory that exceeds both the content and `keep` bytes. */
void buf_trim(struct buf *b, size_t keep);

/* Returns the memory, which the caller frees, and leaves the buffer empty. */
char *buf_steal(struct buf *b, size_t *ret_len);

static inline struct str buf_str(const struct buf *b)
{
    return (struct str){b->p, b->len};
}

#endif
