/* A disk turned by hand. */
#include "fake_spool.h"

#include <errno.h>
#include <string.h>

static size_t pending(const struct spool *s)
{
    return s->bytes.len - s->stored;
}

static void store_on(struct spool *s, uint64_t now_ms)
{
    size_t n = pending(s);

    if (s->storing || s->error || n == 0 || (n < FAKE_BLOCK && !s->flushing)) {
        s->flushing = s->flushing && n > 0;
        return;
    }
    s->storing = n < FAKE_BLOCK ? n : FAKE_BLOCK;
    s->stored_ms = now_ms + s->disk->store_ms;
}

int fake_spool_open(struct fake_disk *d, struct spool **ret)
{
    if (d->open_fails)
        return d->open_fails;
    if (d->opened == FAKE_SPOOLS)
        return -EMFILE;
    *ret = &d->spools[d->opened++];
    **ret = (struct spool){.disk = d};
    buf_init(&(*ret)->bytes, SIZE_MAX / 2);
    return 0;
}

void fake_spool_close(struct spool *s)
{
    buf_deinit(&s->bytes);
    s->storing = 0;
    s->reading = false;
    s->disk->closed++;
}

bool fake_spool_full(const struct spool *s)
{
    return s->error == 0 && pending(s) == 2 * (size_t)FAKE_BLOCK;
}

ptrdiff_t fake_spool_write(struct spool *s, const void *data, size_t n, uint64_t now_ms)
{
    size_t room = 2 * (size_t)FAKE_BLOCK - pending(s);

    if (s->error)
        return s->error;
    if (n > room)
        n = room;
    if (n > 0 && buf_add(&s->bytes, data, n) < 0)
        return s->error = -ENOMEM;
    store_on(s, now_ms);
    return (ptrdiff_t)n;
}

void fake_spool_flush(struct spool *s, uint64_t now_ms)
{
    s->flushing = true;
    store_on(s, now_ms);
}

int fake_spool_state(const struct spool *s)
{
    if (s->error)
        return s->error;
    return pending(s) > 0 ? -EAGAIN : 0;
}

static void read_on(struct spool *s, size_t at, uint64_t now_ms)
{
    s->reading = true;
    s->at = at;
    s->n = s->stored - at < FAKE_BLOCK ? s->stored - at : FAKE_BLOCK;
    s->read_ms = now_ms + s->disk->read_ms;
}

ptrdiff_t fake_spool_read(struct spool *s, uint64_t offset, void *to, size_t max, uint64_t now_ms)
{
    size_t at = (size_t)offset;

    if (s->error)
        return s->error;
    if (at >= s->bytes.len)
        return 0;
    if (s->reading)
        return -EAGAIN;
    if (at < s->at || at >= s->at + s->n) {
        if (at >= s->stored)
            fake_spool_flush(s, now_ms);
        else
            read_on(s, at, now_ms);
        return -EAGAIN;
    }
    if (max > s->at + s->n - at)
        max = s->at + s->n - at;
    memcpy(to, s->bytes.p + at, max);
    return (ptrdiff_t)max;
}

size_t fake_spool_memory(const struct spool *s)
{
    return s->error ? 0 : pending(s) + (s->reading ? s->n : 0);
}

static uint64_t next_of(const struct spool *s)
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

static void stored(struct fake_disk *d, struct spool *s, uint64_t now_ms)
{
    d->stores++;
    if (d->store_fails && s->stored + s->storing > d->fails_at)
        s->error = d->store_fails;
    else
        s->stored += s->storing;
    s->storing = 0;
    store_on(s, now_ms);
}

static void read_done(struct fake_disk *d, struct spool *s)
{
    d->reads++;
    s->reading = false;
    if (d->read_fails && s->at + s->n > d->fails_at)
        s->error = d->read_fails;
}

bool fake_disk_turn(struct fake_disk *d, uint64_t now_ms)
{
    bool news = false;

    for (unsigned i = 0; i < d->opened; i++) {
        struct spool *s = &d->spools[i];

        if (s->storing && s->stored_ms <= now_ms) {
            stored(d, s, now_ms);
            news = true;
        }
        if (s->reading && s->read_ms <= now_ms) {
            read_done(d, s);
            news = true;
        }
    }
    return news;
}
