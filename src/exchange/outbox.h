/* What goes to the client: bytes that it may have, and behind them bytes that are still held back.
 *
 * Bytes [taken, released) may be taken; [released, bytes.len) are held: whole events of an answer
 * that is not committed, which another attempt may replace. */
#ifndef RETRYD_EXCHANGE_OUTBOX_H
#define RETRYD_EXCHANGE_OUTBOX_H

#include "base/buf.h"

struct outbox {
    struct buf bytes;
    size_t taken, released;
};

void outbox_init(struct outbox *o); /* allocates nothing */
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

/* Up to `max` of the bytes that may go; returns how many. */
size_t outbox_take(struct outbox *o, char *to, size_t max);

static inline size_t outbox_waiting(const struct outbox *o)
{
    return o->released - o->taken;
}

static inline size_t outbox_held(const struct outbox *o)
{
    return o->bytes.len - o->released;
}

#endif
