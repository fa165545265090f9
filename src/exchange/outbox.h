/* What goes to the client: bytes that it may have, and behind them bytes that are still held back.
 *
 * In memory, bytes [taken, released) may be taken; [released, bytes.len) are held: whole events of
 * an answer that is not committed, which another attempt may replace. What is too much for memory
 * waits in a spool: between the first `lead` bytes that may be taken and all others. */
#ifndef RETRYD_EXCHANGE_OUTBOX_H
#define RETRYD_EXCHANGE_OUTBOX_H

#include <stdint.h>

#include "base/buf.h"

struct exchange;
struct spool;

struct outbox {
    struct exchange *x; /* whose world has spools */
    struct buf bytes;
    size_t taken, released;

    struct spool *spool;    /* NULL: there is none */
    bool spool_held;        /* what it has is held, too: it lies at `released` */
    bool spool_awaited;     /* the client asked for its bytes in vain: wake it after news */
    bool spool_sealed;      /* nothing more goes into it */
    size_t lead;            /* not held: bytes from `taken` on that come before it */
    size_t moved;           /* bytes behind it that it has, too: in memory until they are stored */
    uint64_t spooled, read; /* bytes that only it has; of them taken */
};

void outbox_init(struct outbox *o, struct exchange *x); /* allocates nothing */
void outbox_deinit(struct outbox *o);

/* Adds to what is held: 0 or -ENOMEM, and then it is as before. */
int outbox_add(struct outbox *o, struct str s);

/* The same with all of `from`, which is empty afterwards; without a copy where there is nothing
 * before it. */
int outbox_move(struct outbox *o, struct buf *from);

/* Puts `s` behind what may be taken and before what is held. */
int outbox_insert(struct outbox *o, struct str s);

void outbox_release(struct outbox *o);   /* all that is held may go */
void outbox_drop_held(struct outbox *o); /* it was not meant to be */

/* Moves what is in memory to a spool, but for what may be taken (where something is held) or the
 * first `keep` bytes of it (where nothing is). Memory keeps it until it is stored. 0: done; -EAGAIN:
 * call it again after news of the spool; else it could not be done, and all is as before: -EIO
 * where what the spool had before is lost. */
int outbox_unload(struct outbox *o, size_t keep);

/* Up to `max` of the bytes that may go. Returns how many; 0: none now; -errno: the spool failed. */
ptrdiff_t outbox_take(struct outbox *o, char *to, size_t max);

/* Bytes that may go, and that are held; the spool's included. */
uint64_t outbox_waiting(const struct outbox *o);
uint64_t outbox_held(const struct outbox *o);

/* Bytes of memory that it takes. */
size_t outbox_memory(const struct outbox *o);

#endif
