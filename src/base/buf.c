/* A byte buffer that doubles its size up to its cap. */
#include "base/buf.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUF_MIN 64

void buf_init(struct buf *b, size_t cap)
{
    *b = (struct buf){.cap = cap};
}

void buf_deinit(struct buf *b)
{
    free(b->p);
    *b = (struct buf){.cap = b->cap};
}

void buf_reset(struct buf *b, size_t keep)
{
    if (b->size > keep)
        buf_deinit(b);
    b->len = 0;
    b->failed = false;
}

int buf_reserve(struct buf *b, size_t n)
{
    if (n <= b->size - b->len)
        return 0;
    if (n > b->cap - b->len)
        return -EFBIG;

    size_t need = b->len + n;
    size_t size = b->size > b->cap / 2 ? b->cap : b->size * 2;
    if (size < BUF_MIN)
        size = BUF_MIN < b->cap ? BUF_MIN : b->cap;
    if (size < need)
        size = need;
    char *p = realloc(b->p, size);
    if (!p)
        return -ENOMEM;
    b->p = p;
    b->size = size;
    return 0;
}

/* Like buf_reserve, but sets `failed` on an error, and fails if it was set before. */
static int make_room(struct buf *b, size_t n)
{
    if (b->failed)
        return -ENOMEM;
    int r = buf_reserve(b, n);
    if (r < 0)
        b->failed = true;
    return r;
}

int buf_add(struct buf *b, const void *data, size_t n)
{
    int r = make_room(b, n);
    if (r < 0 || n == 0)
        return r;
    memcpy(b->p + b->len, data, n);
    b->len += n;
    return 0;
}

int buf_add_str(struct buf *b, struct str s)
{
    return buf_add(b, s.p, s.n);
}

int buf_addc(struct buf *b, char c)
{
    return buf_add(b, &c, 1);
}

int buf_printf(struct buf *b, const char *fmt, ...)
{
    char small[256];
    va_list args;

    va_start(args, fmt);
    int n = vsnprintf(small, sizeof small, fmt, args);
    va_end(args);
    if (n < 0) {
        b->failed = true;
        return -ENOMEM;
    }
    if ((size_t)n < sizeof small)
        return buf_add(b, small, (size_t)n);

    int r = make_room(b, (size_t)n + 1); /* vsnprintf writes a terminator too */
    if (r < 0)
        return r;
    va_start(args, fmt);
    (void)vsnprintf(b->p + b->len, (size_t)n + 1, fmt, args);
    va_end(args);
    b->len += (size_t)n;
    return 0;
}

void buf_consume(struct buf *b, size_t n)
{
    assert(n <= b->len);
    if (n == 0)
        return;
    memmove(b->p, b->p + n, b->len - n);
    b->len -= n;
}

void buf_trim(struct buf *b, size_t keep)
{
    size_t size = b->len > keep ? b->len : keep;
    char *p;

    if (size == 0 || b->size <= size)
        return;
    p = realloc(b->p, size);
    if (!p)
        return; /* keep the larger block */
    b->p = p;
    b->size = size;
}

char *buf_steal(struct buf *b, size_t *ret_len)
{
    char *p = b->p;

    *ret_len = b->len;
    *b = (struct buf){.cap = b->cap};
    return p;
}
