/* Bounds what is done for an answer that its client has a part of: how long, and how often (C13). */
#include "base/clock.h"
#include "base/hash.h"
#include "exchange/exchange_private.h"

static void lower(struct exchange *x, struct deadline d, uint64_t since_ms)
{
    if (d.at_ms >= x->deadline.at_ms)
        return;
    x->deadline = d;
    x->deadline_since = since_ms;
}

/* The client's own limit counts from what it was given last, unless it has yet to take some of that. */
static void lower_to_declared(struct exchange *x, uint64_t now)
{
    uint64_t since = outbox_waiting(&x->reply.out) > 0 ? now : x->reply.spoke_ms;

    lower(x, deadline_of(&x->request.head.headers, since, 0, 0), since);
}

void mending_set_deadline(struct exchange *x)
{
    const struct stream_settings *s = &x->plan.settings->stream;
    const struct mending *m = &x->stream.mending;
    uint64_t now = x->ops->now_ms(x->world), since = m->on ? m->since_ms : now;
    uint64_t limit = s->mend_timeout_ms;
    uint64_t left = limit > m->spent_ms ? limit - m->spent_ms : 0;

    exchange_set_deadline(x, now, false);
    if (s->heartbeat_ms == 0) /* else no silence of ours is that long */
        lower_to_declared(x, now);
    if (limit > 0)
        lower(x, (struct deadline){clock_after(since, left), DEADLINE_FROM_MENDING},
              clock_after(since, left) - limit);
}

void mending_begin(struct exchange *x)
{
    struct mending *m = &x->stream.mending;

    if (!x->reply.committed)
        return;
    if (!m->on)
        m->since_ms = x->ops->now_ms(x->world);
    m->on = true;
    mending_set_deadline(x);
}

void mending_end(struct exchange *x)
{
    struct mending *m = &x->stream.mending;

    if (m->on)
        m->spent_ms += x->ops->now_ms(x->world) - m->since_ms;
    m->on = false;
}

bool mending_is_habit(struct exchange *x, struct str data)
{
    struct stream *stream = &x->stream;
    uint64_t hash = hash_text(data);
    bool again = stream->bad.attempt > 0 && stream->bad.attempt != x->attempt->number &&
                 (stream->bad.at == stream->looked_at || stream->bad.hash == hash);

    stream->bad.attempt = x->attempt->number;
    stream->bad.at = stream->looked_at;
    stream->bad.hash = hash;
    stream->bad.habit |= again;
    return stream->mode == STREAM_HOLD ? again : stream->bad.habit;
}
