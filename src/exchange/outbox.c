/* Keeps what goes to the client apart from what may still be replaced. */
#include "exchange/outbox.h"

#include <string.h>

#define FORGET_BYTES (256 * 1024) /* taken bytes are moved out of the way at the latest then */
#define KEEP_BYTES \
    (512 * 1024) /* of memory, once there is nothing in it: more than is ever
                                   * in it but once, before the first byte of a held answer goes */

void outbox_init(struct outbox *o)
{
    *o = (struct outbox){.taken = 0};
    buf_init(&o->bytes, SIZE_MAX / 2);
}

void outbox_deinit(struct outbox *o)
{
    buf_deinit(&o->bytes);
}

static void forget_taken(struct outbox *o)
{
    if (o->taken == o->bytes.len)
        buf_reset(&o->bytes, KEEP_BYTES);
    else
        buf_consume(&o->bytes, o->taken);
    o->released -= o->taken;
    o->taken = 0;
}

int outbox_add(struct outbox *o, struct str s)
{
    int rc = buf_add_str(&o->bytes, s);

    o->bytes.failed = false; /* the caller knows, and may have something shorter to say */
    return rc;
}

int outbox_move(struct outbox *o, struct buf *from)
{
    struct buf empty;
    int rc;

    if (o->taken == o->bytes.len) {
        empty = o->bytes;
        o->bytes = *from;
        *from = empty;
        o->taken = o->released = 0;
        buf_reset(from, KEEP_BYTES);
        return 0;
    }
    rc = outbox_add(o, buf_str(from));
    if (rc == 0)
        buf_reset(from, KEEP_BYTES);
    return rc;
}

int outbox_insert(struct outbox *o, struct str s)
{
    size_t held = outbox_held(o);
    int rc = outbox_add(o, s);

    if (rc < 0)
        return rc;
    memmove(o->bytes.p + o->released + s.n, o->bytes.p + o->released, held);
    memcpy(o->bytes.p + o->released, s.p, s.n);
    o->released += s.n;
    return 0;
}

void outbox_release(struct outbox *o)
{
    o->released = o->bytes.len;
}

void outbox_drop_held(struct outbox *o)
{
    o->bytes.len = o->released;
}

size_t outbox_take(struct outbox *o, char *to, size_t max)
{
    size_t n = outbox_waiting(o);

    if (n > max)
        n = max;
    if (n == 0)
        return 0;
    memcpy(to, o->bytes.p + o->taken, n);
    o->taken += n;
    /* Moves what is left down only when that is cheap or overdue. */
    if (o->taken == o->bytes.len || o->taken > FORGET_BYTES)
        forget_taken(o);
    return n;
}
