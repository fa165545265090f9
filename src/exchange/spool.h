/* A spool: storage for bytes that exceed what memory may hold.
 *
 * It is written by appending and read from any offset. No call waits for the disk. The owner is
 * notified of news: room to write, bytes to read, all stored, an error. The first error (no space,
 * an I/O error) is sticky: every later call returns it. The daemon uses a file (edge/spool_file.h),
 * the tests a fake disk that they step by hand. */
#ifndef RETRYD_EXCHANGE_SPOOL_H
#define RETRYD_EXCHANGE_SPOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Reads the bytes of a spool on their way to the disk, so that the loop's thread need not.
 *
 * The spool owns it and calls `feed` in another thread with all appended bytes, in order and in
 * blocks, before spool_state reports them as stored. `feed` returns 0 or -errno, which becomes the
 * spool's error. Once all is stored, the loop's thread may read the results. */
struct spool_scan {
    int (*feed)(struct spool_scan *scan, const void *data, size_t n);
    size_t (*memory)(struct spool_scan *scan); /* returns the bytes of memory that it uses */
    void (*free)(struct spool_scan *scan);
};

struct spool {
    const struct spool_ops *ops;
};

struct spool_ops {
    void (*close)(struct spool *s);
    void (*scan)(struct spool *s, struct spool_scan *scan);
    ptrdiff_t (*write)(struct spool *s, const void *data, size_t n);
    bool (*full)(struct spool *s);
    void (*flush)(struct spool *s);
    int (*state)(struct spool *s);
    ptrdiff_t (*read)(struct spool *s, uint64_t offset, void *to, size_t max);
    size_t (*memory)(struct spool *s);
};

/* Closes and frees the spool, at any time; no news follows. NULL is fine. */
static inline void spool_close(struct spool *s)
{
    if (s)
        s->ops->close(s);
}

/* Passes all appended bytes to `scan`, which the spool owns from now on. Call it before the first
 * byte. */
static inline void spool_scan(struct spool *s, struct spool_scan *scan)
{
    s->ops->scan(s, scan);
}

/* Appends up to `n` bytes. Returns how many were taken, or -errno. While there is no room, it takes
 * fewer than n, or 0; bring the rest after the next news. */
static inline ptrdiff_t spool_write(struct spool *s, const void *data, size_t n)
{
    return s->ops->write(s, data, n);
}

/* Whether spool_write would take nothing now. */
static inline bool spool_full(struct spool *s)
{
    return s->ops->full(s);
}

/* Stores all that was appended. Appending more is allowed at any time. */
static inline void spool_flush(struct spool *s)
{
    s->ops->flush(s);
}

/* Returns 0 if all appended bytes are stored, -EAGAIN if not yet, else the error. */
static inline int spool_state(struct spool *s)
{
    return s->ops->state(s);
}

/* Copies up to `max` bytes from `offset` (at most the length) on. Returns their number; 0 at the
 * end; -EAGAIN while they are being read, and news follows; else the error. Any offset may be read
 * again; reading sequentially is fastest. */
static inline ptrdiff_t spool_read(struct spool *s, uint64_t offset, void *to, size_t max)
{
    return s->ops->read(s, offset, to, max);
}

/* Returns the bytes of memory that it uses now, including its scan's as of the last stored
 * block. */
static inline size_t spool_memory(struct spool *s)
{
    return s->ops->memory(s);
}

#endif
