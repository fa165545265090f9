/* A growable byte buffer with a cap it was born with and a sticky failure. */
#ifndef RETRYD_BASE_BUF_H
#define RETRYD_BASE_BUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"

/* Bytes [0, len) are valid. Growth never passes `cap`. Once an append failed (no memory, or over
 * the cap) `failed` stays set and later appends do nothing, so a builder checks once at the end. */
struct buf {
    char *p;
    size_t len;
    size_t size; /* allocated */
    size_t cap;
    bool failed;
};

/* Sets an empty buffer up; allocates nothing. */
void buf_init(struct buf *b, size_t cap);
void buf_deinit(struct buf *b);

/* Empties it for reuse, the failure too; keeps the memory unless more than `keep` is allocated. */
void buf_reset(struct buf *b, size_t keep);

/* Makes room for `n` more bytes: 0, -ENOMEM, or -EFBIG when that would pass the cap. */
int buf_reserve(struct buf *b, size_t n);

/* Appends; 0, -ENOMEM or -EFBIG, and then `failed` is set and the content is as it was. After an
 * earlier failure: -ENOMEM. `data` must not lie in the buffer itself. A text of 256 bytes or more
 * from buf_printf needs one byte of room beyond it. */
int buf_add(struct buf *b, const void *data, size_t n);
int buf_add_str(struct buf *b, struct str s);
int buf_addc(struct buf *b, char c);
int buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Removes the first n bytes (n <= len), moving the rest down. */
void buf_consume(struct buf *b, size_t n);

/* Gives back what is allocated beyond the content and beyond `keep`. */
void buf_trim(struct buf *b, size_t keep);

/* Hands the memory over to the caller, who frees it; the buffer is empty afterwards. */
char *buf_steal(struct buf *b, size_t *ret_len);

static inline struct str buf_str(const struct buf *b)
{
    return (struct str){b->p, b->len};
}

#endif
