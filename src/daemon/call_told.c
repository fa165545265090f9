/* What exchanges tell of themselves becomes counters and log lines. */
#include "base/clock.h"
#include "daemon/access_log.h"
#include "daemon/worker_private.h"

void call_turn_asked(void *world, struct exchange *x, const struct turn *turn,
                     const struct turn_request *turn_request, enum turn_state s)
{
    (void)world;
    if (steps_are_told())
        steps_turn(x, turn, turn_request, s, clock_now_ms());
}

void call_attempt_failed(void *world, struct exchange *x, const struct attempt_report *r)
{
    struct worker *w = world;

    metrics_add(&w->metrics.failures[r->verdict.reason], 1);
    if (r->decision.action == RETRY_AGAIN)
        metrics_add(&w->metrics.retries[r->verdict.reason], 1);
    if (r->duplicate)
        metrics_add(&w->metrics.duplicates, 1);
    if (r->sick)
        fetch_drop_connection(w->fetch, r->attempt);
    access_log_attempt(x, r);
}

void call_hedged(void *world, struct exchange *x)
{
    (void)x;
    metrics_add(&((struct worker *)world)->metrics.hedges, 1);
    metrics_add(&((struct worker *)world)->metrics.duplicates, 1);
}

void call_event_dropped(void *world, struct exchange *x, bool malformed)
{
    struct worker *w = world;

    metrics_add(malformed ? &w->metrics.events_malformed : &w->metrics.events_unfit, 1);
    if (x->stream.dropped == 1)
        access_log_dropped(x, malformed);
}

static void tell_end(struct worker *w, const struct exchange *x)
{
    struct metrics *m = &w->metrics;

    metrics_add(&m->ends[x->end], 1);
    metrics_add(&m->wait_ms, x->wait_ms);
    metrics_add(&m->bytes_out, x->reply.bytes_out);
    metrics_add(&m->events, x->reply.events);
    if (x->end == END_ANSWERED && x->stream.splices)
        metrics_add(&m->spliced, 1);
    if (x->end == END_ANSWERED && x->attempts > 1)
        metrics_add(&m->rescued, 1);
    if (x->end == END_FAILED && x->attempts == 0)
        metrics_add(&m->untried[x->last_reason], 1);
    if (x->end == END_REFUSED)
        metrics_add(&m->refused, 1);
    if (x->request.sdk_retry)
        metrics_add(&m->sdk_retries, 1);
    if (x->repeat)
        metrics_add(&m->client_repeats, 1);
    metrics_duration(m, x->ended_ms - x->started_ms);
    access_log_request(x, w->wiring->config->log.access);
}

/* A whole answer may wait for a slow client still, who may never take it. (One that goes out piece by piece
 * is asked for its end once the kernel has all before it.) */
static bool is_on_its_way(const struct exchange *x)
{
    if (x->reply.begun)
        return false;
    return x->end == END_ANSWERED || x->end == END_FAILED || x->end == END_REFUSED;
}

void call_ended(void *world, struct exchange *x)
{
    struct call *c = x->tag;

    c->untold = c->r && is_on_its_way(x);
    if (!c->untold)
        tell_end(world, x);
}

void call_tell_end(struct call *c)
{
    struct exchange *x = &c->x;

    c->untold = false;
    if (!c->taken_whole) {
        x->end = END_CLIENT_GONE;
        x->reply.bytes_out = 0; /* or a part of it: nobody knows how much */
        x->last_reason = x->client_stalled ? REASON_CLIENT_STALLED : REASON_CLIENT_GONE;
    }
    tell_end(c->w, x);
}
