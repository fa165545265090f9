/* A spool: where bytes are kept that are too many for memory.
 *
 * It is written by appending and read from any offset. No call waits for the disk; whoever has one made is
 * told of each news of it: room to write, bytes to read, all stored, an error. The first error (no space, an
 * I/O error) is sticky: every later call returns it. The daemon's is a file (edge/spool_file.h), the tests'
 * a disk that is turned by hand. */
#ifndef RETRYD_EXCHANGE_SPOOL_H
#define RETRYD_EXCHANGE_SPOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Reads the bytes of a spool on their way to where they are stored, so that the loop's thread need not.
 *
 * The spool owns it and calls `feed` in some other thread with all that was appended, in order and in
 * blocks. What spool_state says is stored was fed before. `feed` returns 0 or -errno, which becomes the
 * spool's error. Once all is stored, the loop's thread may look at it. */
struct spool_scan {
    int (*feed)(struct spool_scan *scan, const void *data, size_t n);
    size_t (*memory)(struct spool_scan *scan); /* bytes that it takes */
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

/* At any time; no news follow. NULL is fine. */
static inline void spool_close(struct spool *s)
{
    if (s)
        s->ops->close(s);
}

/* Has `scan`, which is the spool's from now on, read all that is appended. Before the first byte. */
static inline void spool_scan(struct spool *s, struct spool_scan *scan)
{
    s->ops->scan(s, scan);
}

/* Appends up to `n` bytes. Returns how many were taken: fewer than n, or 0, while there is no room; the
 * rest is to be brought again after the next news. Or -errno. */
static inline ptrdiff_t spool_write(struct spool *s, const void *data, size_t n)
{
    return s->ops->write(s, data, n);
}

/* Whether spool_write would take nothing now. */
static inline bool spool_full(struct spool *s)
{
    return s->ops->full(s);
}

/* Sees to it that all that was appended is stored. Appending more is allowed at any time. */
static inline void spool_flush(struct spool *s)
{
    s->ops->flush(s);
}

/* Returns 0: all that was appended is stored; -EAGAIN: not yet; else the error. */
static inline int spool_state(struct spool *s)
{
    return s->ops->state(s);
}

/* Copies up to `max` bytes from `offset` (at most the length) on. Returns > 0: so many; 0: there are no more;
 * -EAGAIN: they are being read, news follow; else the error. Each offset may be read again; one that follows
 * the last read is there soonest. */
static inline ptrdiff_t spool_read(struct spool *s, uint64_t offset, void *to, size_t max)
{
    return s->ops->read(s, offset, to, max);
}

/* Bytes of memory that it takes now, its scan's included as they were when the last block was stored. */
static inline size_t spool_memory(struct spool *s)
{
    return s->ops->memory(s);
}

#endif
