/* Separates the bytes that the client may take from those that may still be replaced. */
#include "exchange/outbox.h"

#include <errno.h>
#include <string.h>

#include "exchange/exchange.h"
#include "exchange/spool.h"

/* The space of taken bytes is reclaimed once there are this many. */
#define FORGET_BYTES (64 * 1024)
/* The memory that an empty buffer keeps. Only a held response's first bytes need more. */
#define KEEP_BYTES (512 * 1024)

void outbox_init(struct outbox *o, struct exchange *x)
{
    *o = (struct outbox){.x = x};
    buf_init(&o->bytes, SIZE_MAX / 2);
}

static void close_spool(struct outbox *o)
{
    spool_close(o->spool);
    o->spool = NULL;
    o->spool_held = o->spool_sealed = false;
    o->lead = o->moved = 0;
    o->spooled = o->read = 0;
}

/* Bytes that are not stored yet go out from memory after all. */
static void stop_unloading(struct outbox *o)
{
    if (o->moved == 0)
        return;
    o->moved = 0;
    o->spool_sealed = true;
    if (o->spooled == 0)
        close_spool(o);
}

void outbox_deinit(struct outbox *o)
{
    close_spool(o);
    buf_deinit(&o->bytes);
}

/* --- in memory -------------------------------------------------------------------------------- */

static size_t waiting_in_memory(const struct outbox *o)
{
    return o->released - o->taken;
}

int outbox_add(struct outbox *o, struct str s)
{
    int rc = buf_add_str(&o->bytes, s);

    o->bytes.failed = false; /* the caller knows, and may add something shorter */
    return rc;
}

int outbox_move(struct outbox *o, struct buf *from)
{
    struct buf empty;
    int rc;

    if (o->taken == o->bytes.len && !o->spool) {
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
    size_t held = o->bytes.len - o->released;
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
    if (o->spool && o->spool_held) {
        stop_unloading(o);
        o->lead = waiting_in_memory(o);
        o->spool_held = false;
    }
    o->released = o->bytes.len;
}

void outbox_drop_held(struct outbox *o)
{
    if (o->spool_held)
        close_spool(o);
    o->bytes.len = o->released;
}

static size_t take_from_memory(struct outbox *o, size_t limit, char *to, size_t max)
{
    size_t n = limit < max ? limit : max;

    if (n == 0)
        return 0;
    memcpy(to, o->bytes.p + o->taken, n);
    o->taken += n;
    /* Moves the remaining bytes down only when that is cheap or overdue. */
    if (o->taken == o->bytes.len || o->taken > FORGET_BYTES) {
        if (o->taken == o->bytes.len)
            buf_reset(&o->bytes, KEEP_BYTES);
        else
            buf_consume(&o->bytes, o->taken);
        o->released -= o->taken;
        o->taken = 0;
    }
    return n;
}

/* --- the spool -------------------------------------------------------------------------------- */

static int begin_unloading(struct outbox *o, size_t keep)
{
    int rc = o->x->ops->spool_open(o->x->world, o->x, &o->spool);

    if (rc < 0)
        return rc;
    o->spool_held = o->bytes.len > o->released;
    o->lead = o->spool_held ? 0 : keep;
    return 0;
}

/* Writes as much as the spool accepts. 0: everything is stored; -EAGAIN; or the spool's error. */
static int write_out(struct outbox *o, size_t at)
{
    ptrdiff_t n = 1;

    while (o->bytes.len > at + o->moved && n > 0) {
        size_t from = at + o->moved;

        n = spool_write(o->spool, o->bytes.p + from, o->bytes.len - from);
        if (n < 0)
            return (int)n;
        o->moved += (size_t)n;
    }
    if (o->bytes.len > at + o->moved)
        return -EAGAIN;
    spool_flush(o->spool);
    return spool_state(o->spool);
}

int outbox_unload(struct outbox *o, size_t keep)
{
    size_t at;
    int rc = 0;

    /* Held bytes and bytes that may be taken do not share a spool. */
    if (o->spool_sealed || (o->spool && !o->spool_held && o->bytes.len > o->released))
        return -EBUSY;
    if (!o->spool)
        rc = begin_unloading(o, keep);
    if (rc < 0)
        return rc;
    /* The position in memory at which the spool's bytes belong. */
    at = o->spool_held ? o->released : o->taken + o->lead;
    rc = write_out(o, at);
    if (rc == -EAGAIN)
        return rc;
    if (rc < 0) {
        bool lost = o->spooled > 0;

        stop_unloading(o);
        return lost ? -EIO : rc;
    }
    o->spooled += o->moved;
    struct buf *b = &o->bytes;
    memmove(b->p + at, b->p + at + o->moved, b->len - at - o->moved);
    b->len -= o->moved;
    if (!o->spool_held)
        o->released -= o->moved;
    o->moved = 0;
    if (o->bytes.size > 2 * KEEP_BYTES)
        buf_trim(&o->bytes, KEEP_BYTES);
    return 0;
}

ptrdiff_t outbox_take(struct outbox *o, char *to, size_t max)
{
    size_t n;

    if (o->spool && !o->spool_held && o->lead == 0) {
        if (o->read < o->spooled) {
            uint64_t left = o->spooled - o->read;
            ptrdiff_t read = spool_read(o->spool, o->read, to, max < left ? max : (size_t)left);
            o->spool_awaited = read == -EAGAIN;
            if (read == -EAGAIN || read == 0)
                return 0;
            if (read < 0)
                return read;
            o->read += (uint64_t)read;
            return read;
        }
        /* A client that is faster than the disk waits for it. Until the kernel's buffers are full,
         * the client seems faster than it is. */
        o->spool_awaited = o->moved > 0;
        if (o->spool_awaited)
            return 0;
        close_spool(o);
    }
    if (!o->spool || o->spool_held)
        return (ptrdiff_t)take_from_memory(o, waiting_in_memory(o), to, max);
    n = take_from_memory(o, o->lead, to, max);
    o->lead -= n;
    return (ptrdiff_t)n;
}

/* --- sizes ------------------------------------------------------------------------------------ */

uint64_t outbox_waiting(const struct outbox *o)
{
    return waiting_in_memory(o) + (o->spool && !o->spool_held ? o->spooled - o->read : 0);
}

uint64_t outbox_held(const struct outbox *o)
{
    return o->bytes.len - o->released + (o->spool_held ? o->spooled : 0);
}

size_t outbox_memory(const struct outbox *o)
{
    return o->bytes.size + (o->spool ? spool_memory(o->spool) : 0);
}
