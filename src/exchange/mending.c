/* Bounds what is done for an answer that its client has a part of: how long, and how often (C13). */
#include "base/clock.h"
#include "base/hash.h"
#include "exchange/exchange_private.h"

/* The client's own limits on silence count from what it was given last, unless it has yet to take some of
 * that. With heartbeats no silence of ours is that long. */
static uint64_t heard(const struct exchange *x, uint64_t now)
{
    if (x->plan.settings->stream.heartbeat_ms > 0)
        return DEADLINE_NONE;
    return outbox_waiting(&x->reply.out) > 0 ? now : x->reply.spoke_ms;
}

void mending_set_deadline(struct exchange *x)
{
    const struct mending *m = &x->stream.mending;
    uint64_t now = x->ops->now_ms(x->world), since = m->on ? m->since_ms : now;
    uint64_t limit = x->plan.settings->stream.mend_timeout_ms;
    uint64_t left = limit > m->spent_ms ? limit - m->spent_ms : 0;
    uint64_t end = clock_after(since, left);

    exchange_set_deadline(x, now, heard(x, now));
    if (limit > 0 && end < x->deadline.at_ms)
        x->deadline = (struct deadline){
            .at_ms = end, .since_ms = end - limit, .source = DEADLINE_FROM_MENDING};
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
