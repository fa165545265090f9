/* The bytes on their way to the client: first those that it may take, then those still held back.
 *
 * In memory, the client may take the bytes [taken, released); the bytes [released, bytes.len) are
 * held: they are whole events of an uncommitted response, which another attempt may replace. Bytes
 * that exceed the memory's limit are in a spool. They come after the first `lead` bytes that may be
 * taken and before all others. */
#ifndef RETRYD_EXCHANGE_OUTBOX_H
#define RETRYD_EXCHANGE_OUTBOX_H

#include <stdint.h>

#include "base/buf.h"

struct exchange;
struct spool;

struct outbox {
    struct exchange *x; /* its world provides spools */
    struct buf bytes;
    size_t taken, released;

    struct spool *spool;    /* NULL: there is none */
    bool spool_held;        /* its bytes are held, too; they belong at `released` */
    bool spool_awaited;     /* the client asked for its bytes in vain; wake it after news */
    bool spool_sealed;      /* no more bytes go into it */
    size_t lead;            /* if it is not held: bytes from `taken` on that come before it */
    size_t moved;           /* bytes after it that it has, too; they stay in memory until stored */
    uint64_t spooled, read; /* bytes that only the spool has, and how many of them were taken */
};

void outbox_init(struct outbox *o, struct exchange *x); /* allocates nothing */
void outbox_deinit(struct outbox *o);

/* Adds to the held bytes. 0 or -ENOMEM; then nothing changes. */
int outbox_add(struct outbox *o, struct str s);

/* Adds all of `from`, which is empty afterwards; without a copy if the outbox is empty. */
int outbox_move(struct outbox *o, struct buf *from);

/* Inserts `s` after the bytes that may be taken and before the held bytes. */
int outbox_insert(struct outbox *o, struct str s);

void outbox_release(struct outbox *o);   /* the client may take all held bytes */
void outbox_drop_held(struct outbox *o); /* discards them */

/* Moves bytes from memory to a spool: the held bytes, or, if none are held, all after the first
 * `keep` that may be taken. Memory keeps the bytes until they are stored. 0: done. -EAGAIN: call it
 * again after news of the spool. Any other error: nothing changed; with -EIO the bytes that were in
 * the spool are lost. */
int outbox_unload(struct outbox *o, size_t keep);

/* Takes up to `max` bytes. Returns how many; 0: none now; -errno: the spool failed. */
ptrdiff_t outbox_take(struct outbox *o, char *to, size_t max);

/* The bytes that may be taken, and the held bytes, including those in the spool. */
uint64_t outbox_waiting(const struct outbox *o);
uint64_t outbox_held(const struct outbox *o);

/* The memory that it uses, in bytes. */
size_t outbox_memory(const struct outbox *o);

#endif
