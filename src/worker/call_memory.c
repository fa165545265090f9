/* A call's memory: its request's body, its spools, and the count of the bytes that it holds. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "edge/spool_file.h"
#include "worker/worker_private.h"

/* A worker reports its sum once an iteration, and in between after each change by this much. */
#define TELL_BYTES (1024u * 1024)

/* --- spools ----------------------------------------------------------------------------------- */

static void on_spool_news(void *arg)
{
    call_enqueue(arg);
}

int call_spool_open(void *world, struct exchange *x, struct spool **ret)
{
    struct worker *w = world;
    struct call *c = x->tag;
    struct spool *s = spool_file_new(&w->loop, c->config->parsed->server.spool_dir,
                                     &w->metrics.spooled_bytes, on_spool_news, c);

    if (!s)
        return -ENOMEM;
    *ret = s;
    return 0;
}

/* --- memory ----------------------------------------------------------------------------------- */

static uint64_t buffered(const struct worker *w)
{
    return worker_buffered() + w->buffered - w->buffered_reported;
}

static uint64_t most(const struct worker *w)
{
    return w->config->parsed->server.max_buffered;
}

/* Above half of max_buffered, bodies go to spools at once ... */
bool call_pressed(void *world)
{
    return buffered(world) > most(world) / 2;
}

/* Cheap enough for every step: it is the sum of a few fields. */
void call_count(struct call *c)
{
    struct worker *w = c->w;
    size_t now = c->handed_over + exchange_memory(&c->x), untold;

    if (now == c->held)
        return;
    w->buffered += now - c->held;
    c->held = now;
    untold = w->buffered > w->buffered_reported ? w->buffered - w->buffered_reported
                                                : w->buffered_reported - w->buffered;
    if (untold >= TELL_BYTES)
        worker_report(w);
}

static int shed(struct worker *w, char *ret_why, size_t size)
{
    metrics_add(&w->metrics.shed, 1);
    snprintf(ret_why, size,
             "retryd: running requests hold %llu MiB of memory and may hold %llu MiB; try "
             "again in a second, or raise max_buffered",
             (unsigned long long)(buffered(w) >> 20), (unsigned long long)(most(w) >> 20));
    return -EBUSY;
}

/* ... from 95 %, new requests are refused ... */
int call_shed(struct worker *w, char *ret_why, size_t size)
{
    return buffered(w) >= most(w) / 100 * 95 ? shed(w, ret_why, size) : 0;
}

/* --- the request's body ----------------------------------------------------------------------- */

static void warn_of_spool(struct call *c)
{
    int error = c->x.request.body.error;

    if (error == 0 || c->spool_warned)
        return;
    c->spool_warned = true;
    log_begin(LOG_WARN, "a request's body could not be kept in a file");
    log_text("id", c->x.request.id);
    log_text("spool_dir", c->x.limits.spool_dir);
    log_text("why", strerror(-error));
    log_end();
}

ptrdiff_t call_on_body(void *user, const void *data, size_t n, char *ret_why, size_t why_size)
{
    struct call *c = user;
    ptrdiff_t taken;

    /* ... and at all of it, requests whose headers came in time are refused, because together their
     * bodies could fill all memory. Bodies in a file take no more of it. */
    if (body_in_memory(&c->x.request.body) && buffered(c->w) >= most(c->w))
        return shed(c->w, ret_why, why_size);
    taken = exchange_body(&c->x, data, n);
    call_count(c);
    if (taken < 0) {
        exchange_body_problem(&c->x, (int)taken, ret_why, why_size);
        warn_of_spool(c);
    }
    return taken;
}

ptrdiff_t call_read_body(void *arg, uint64_t offset, void *to, size_t max)
{
    struct attempt *a = arg;
    struct call *c = a->turn.tag;
    ptrdiff_t n = body_read_edited(&c->x.request.body, &a->edit, offset, to, max);

    if (n < 0)
        warn_of_spool(c);
    return n;
}

void call_pass_body(struct call *c)
{
    if (body_in_memory(&c->x.request.body))
        return;
    warn_of_spool(c);
    if (c->r && !body_full(&c->x.request.body))
        frontend_upload_on(c->r);
    for (unsigned i = 0; i < 2; i++)
        if (c->t[i])
            fetch_upload_ready(c->t[i]);
}
