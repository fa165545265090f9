/* A disk turned by hand. */
#include "fake_spool.h"

#include <errno.h>
#include <string.h>

#include "base/list.h"

static struct fake_spool *fake_of(struct spool *spool)
{
    return LIST_ENTRY(spool, struct fake_spool, spool);
}

static size_t pending(const struct fake_spool *s)
{
    return s->bytes.len - s->stored;
}

static void store_on(struct fake_spool *s)
{
    size_t n = pending(s);

    if (s->storing || s->error || n == 0 || (n < FAKE_BLOCK && !s->flushing)) {
        s->flushing = s->flushing && n > 0;
        return;
    }
    s->storing = n < FAKE_BLOCK ? n : FAKE_BLOCK;
    s->stored_ms = *s->disk->now_ms + s->disk->store_ms;
}

static void on_close(struct spool *spool)
{
    struct fake_spool *s = fake_of(spool);

    if (s->scan)
        s->scan->free(s->scan);
    buf_deinit(&s->bytes);
    s->storing = 0;
    s->reading = false;
    s->disk->closed++;
}

static void on_scan(struct spool *spool, struct spool_scan *scan)
{
    fake_of(spool)->scan = scan;
}

static bool on_full(struct spool *spool)
{
    const struct fake_spool *s = fake_of(spool);

    return s->error == 0 && pending(s) == 2 * (size_t)FAKE_BLOCK;
}

static ptrdiff_t on_write(struct spool *spool, const void *data, size_t n)
{
    struct fake_spool *s = fake_of(spool);
    size_t room = 2 * (size_t)FAKE_BLOCK - pending(s);

    if (s->error)
        return s->error;
    if (n > room)
        n = room;
    if (n > 0 && buf_add(&s->bytes, data, n) < 0)
        return s->error = -ENOMEM;
    store_on(s);
    return (ptrdiff_t)n;
}

static void on_flush(struct spool *spool)
{
    struct fake_spool *s = fake_of(spool);

    s->flushing = true;
    store_on(s);
}

static int on_state(struct spool *spool)
{
    const struct fake_spool *s = fake_of(spool);

    if (s->error)
        return s->error;
    return pending(s) > 0 ? -EAGAIN : 0;
}

static void read_on(struct fake_spool *s, size_t at)
{
    s->reading = true;
    s->at = at;
    s->n = s->stored - at < FAKE_BLOCK ? s->stored - at : FAKE_BLOCK;
    s->read_ms = *s->disk->now_ms + s->disk->read_ms;
}

static ptrdiff_t on_read(struct spool *spool, uint64_t offset, void *to, size_t max)
{
    struct fake_spool *s = fake_of(spool);
    size_t at = (size_t)offset;

    if (s->error)
        return s->error;
    if (at >= s->bytes.len)
        return 0;
    if (s->reading)
        return -EAGAIN;
    if (at < s->at || at >= s->at + s->n) {
        if (at >= s->stored)
            on_flush(spool);
        else
            read_on(s, at);
        return -EAGAIN;
    }
    if (max > s->at + s->n - at)
        max = s->at + s->n - at;
    memcpy(to, s->bytes.p + at, max);
    return (ptrdiff_t)max;
}

static size_t on_memory(struct spool *spool)
{
    const struct fake_spool *s = fake_of(spool);
    size_t scan = s->scan ? s->scan->memory(s->scan) : 0;

    return scan + (s->error ? 0 : pending(s) + (s->reading ? s->n : 0));
}

int fake_spool_open(struct fake_disk *d, struct spool **ret)
{
    static const struct spool_ops ops = {.close = on_close,
                                         .scan = on_scan,
                                         .write = on_write,
                                         .full = on_full,
                                         .flush = on_flush,
                                         .state = on_state,
                                         .read = on_read,
                                         .memory = on_memory};
    struct fake_spool *s;

    if (d->open_fails)
        return d->open_fails;
    if (d->opened == FAKE_SPOOLS)
        return -EMFILE;
    s = &d->spools[d->opened++];
    *s = (struct fake_spool){.spool.ops = &ops, .disk = d};
    buf_init(&s->bytes, SIZE_MAX / 2);
    *ret = &s->spool;
    return 0;
}

static uint64_t next_of(const struct fake_spool *s)
{
    uint64_t store = s->storing ? s->stored_ms : UINT64_MAX;
    uint64_t read = s->reading ? s->read_ms : UINT64_MAX;

    return store < read ? store : read;
}

uint64_t fake_disk_next(const struct fake_disk *d)
{
    uint64_t next = UINT64_MAX;

    for (unsigned i = 0; i < d->opened; i++)
        if (next_of(&d->spools[i]) < next)
            next = next_of(&d->spools[i]);
    return next;
}

static void stored(struct fake_disk *d, struct fake_spool *s)
{
    d->stores++;
    if (d->store_fails && s->stored + s->storing > d->fails_at)
        s->error = d->store_fails;
    else if (s->scan)
        s->error = s->scan->feed(s->scan, s->bytes.p + s->stored, s->storing);
    if (s->error == 0)
        s->stored += s->storing;
    s->storing = 0;
    store_on(s);
}

static void read_done(struct fake_disk *d, struct fake_spool *s)
{
    d->reads++;
    s->reading = false;
    if (d->read_fails && s->at + s->n > d->fails_at)
        s->error = d->read_fails;
}

bool fake_disk_turn(struct fake_disk *d)
{
    bool news = false;

    for (unsigned i = 0; i < d->opened; i++) {
        struct fake_spool *s = &d->spools[i];

        if (s->storing && s->stored_ms <= *d->now_ms) {
            stored(d, s);
            news = true;
        }
        if (s->reading && s->read_ms <= *d->now_ms) {
            read_done(d, s);
            news = true;
        }
    }
    return news;
}
