/* What a call keeps: its spools, and the count of the memory that it holds. */
#include <errno.h>

#include "daemon/pressure.h"
#include "daemon/worker_private.h"
#include "edge/spool.h"

/* A worker's sum is told once a turn, and in between where it moved by so much. */
#define TELL_BYTES (1024u * 1024)

/* --- spools --------------------------------------------------------------------------------------- */

static void on_spool_news(void *arg)
{
    call_enqueue(arg);
}

int call_spool_open(void *world, struct exchange *x, struct spool **ret)
{
    struct worker *w = world;
    struct call *c = x->tag;
    struct spool *s = spool_new(&w->loop, c->wiring->config->server.spool_dir, on_spool_news, c);

    if (!s)
        return -ENOMEM;
    *ret = s;
    return 0;
}

void call_spool_close(void *world, struct spool *s)
{
    (void)world;
    spool_free(s);
}

ptrdiff_t call_spool_write(void *world, struct spool *s, const void *data, size_t n)
{
    struct worker *w = world;
    ptrdiff_t taken = spool_write(s, data, n);

    if (taken > 0)
        metrics_add(&w->metrics.spooled_bytes, (uint64_t)taken);
    return taken;
}

bool call_spool_full(void *world, const struct spool *s)
{
    (void)world;
    return spool_full(s);
}

void call_spool_flush(void *world, struct spool *s)
{
    (void)world;
    spool_flush(s);
}

int call_spool_state(void *world, const struct spool *s)
{
    (void)world;
    return spool_state(s);
}

ptrdiff_t call_spool_read(void *world, struct spool *s, uint64_t offset, void *to, size_t max)
{
    (void)world;
    return spool_read(s, offset, to, max);
}

size_t call_spool_memory(void *world, const struct spool *s)
{
    (void)world;
    return spool_memory(s);
}

/* --- memory --------------------------------------------------------------------------------------- */

static uint64_t buffered(const struct worker *w)
{
    return pressure_now() + w->buffered - w->buffered_told;
}

bool call_pressed(void *world)
{
    const struct worker *w = world;

    return pressure_is_high(buffered(w), w->wiring->config->server.max_buffered);
}

/* Cheap enough for every step: most requests hold nothing that counts before they are whole. */
void call_count(struct call *c)
{
    const struct exchange *x = &c->x;
    struct worker *w = c->w;
    /* A call that has ended holds nothing: its exchange's buffers are empty. */
    size_t now = c->answered + x->request.body.size + x->attempt.body.size + x->error_body.size;
    size_t untold;

    if (now == c->held)
        return;
    w->buffered += now - c->held;
    c->held = now;
    untold = w->buffered > w->buffered_told ? w->buffered - w->buffered_told
                                            : w->buffered_told - w->buffered;
    if (untold >= TELL_BYTES)
        pressure_tell(&w->buffered_told, w->buffered);
}
