/* Makes a second attempt beside a slow first one if the request is safe to send twice (C23).
 *
 * The two race for the first good response, or, with streams, for the first good response headers.
 * One of them is `attempt`, which all other code uses; the other is `hedge.rival`. An attempt with
 * news to be judged becomes `attempt`. If one fails while the other goes on, only its error and its
 * target are remembered. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "exchange/exchange_private.h"

/* Both attempts may be processed, which retry_ambiguous = no forbids (C28). */
static bool may_be_made_twice(const struct exchange *x)
{
    const struct route_settings *s = x->plan.settings;
    enum operation o = x->request.operation;

    if (!s->retry.retry_ambiguous && o != OPERATION_READ)
        return false;
    /* Free operations and embeddings only cost their price. */
    return s->hedge.requests == HEDGE_ALL || operation_is_free(o) || o == OPERATION_EMBED;
}

uint64_t hedge_time(const struct exchange *x)
{
    const struct hedge_settings *s = &x->plan.settings->hedge;
    bool may = x->state == EXCHANGE_ATTEMPTING && s->after_ms > 0 && !x->hedge.rival &&
               !x->hedge.spent && !x->reply.begun && !x->stream.resuming &&
               !x->request.overrides.no_retry && x->attempts < x->max_attempts &&
               body_in_memory(&x->request.body) && may_be_made_twice(x);

    return may ? x->attempt->started_ms + s->after_ms : TIMER_OFF;
}

/* Gets a turn that is granted now, at another target if there is one. */
static bool get_turn(struct exchange *x, struct attempt *a)
{
    struct turn_request *turn_request = &x->hedge.turn_request;
    const struct target *first = &x->placement.target;

    *turn_request = x->placement.turn_request;
    memcpy(x->hedge.tried, x->placement.tried, sizeof(x->placement.tried));
    x->hedge.tried[turn_request->tried_count++] =
        (struct target_ref){first->upstream, first->key_number};
    turn_request->tried = x->hedge.tried;
    turn_request->may_leave = true;
    turn_request->latest_ms = turn_request->gate_latest_ms = 0;
    if (placement_ask(x, &a->turn, turn_request) == TURN_GRANTED) {
        a->has_turn = true;
        return true;
    }
    turns_leave(x->shared.turns, &a->turn);
    return false;
}

void hedge_start(struct exchange *x)
{
    struct attempt *a = &x->slots[x->attempt == &x->slots[0]];
    uint64_t ready_ms = x->ops->now_ms(x->world) + RETRY_MIN_ATTEMPT_MS;
    bool has_time = x->deadline.at_ms == DEADLINE_NONE || ready_ms <= x->deadline.at_ms;

    assert(!a->running && !a->has_turn);
    x->hedge.spent = true; /* one chance for each attempt */
    if (!has_time || !get_turn(x, a))
        return;
    /* The budget is charged last, at the hedge's upstream: a hedge without a turn leaves the budget
     * to retries. */
    if (!turns_may_repeat(x->shared.turns, a->turn.target.upstream, &x->plan.settings->retry)) {
        placement_release(x, a);
        return;
    }
    x->hedge.rival = a;
    placement_visit(x, a);
    x->hedge.count++;
    x->duplicates++;
    x->ops->hedged(x->world, x);
    if (exchange_send(x, a, false) < 0)
        hedge_drop(x);
}

static void swap(struct exchange *x)
{
    struct attempt *a = x->attempt;

    x->attempt = x->hedge.rival;
    x->hedge.rival = a;
    x->placement.target = x->attempt->turn.target;
    x->stream.on = x->held.open = false;
    if (x->state == EXCHANGE_HOLDING)
        exchange_set(x, EXCHANGE_ATTEMPTING);
}

void hedge_drop(struct exchange *x)
{
    struct attempt *a = x->hedge.rival;

    x->hedge.rival = NULL;
    if (!a)
        return;
    if (a->running && !a->done)
        x->ops->attempt_cancel(x->world, x, a);
    a->running = false;
    placement_release(x, a);
}

/* The other may have ended at the same moment. If the state does not change, no other code notices
 * that. */
bool hedge_goes_on(struct exchange *x)
{
    bool was_attempting = x->state == EXCHANGE_ATTEMPTING;

    if (!x->hedge.rival)
        return false;
    exchange_stop_attempt(x);
    swap(x);
    hedge_drop(x);
    if (was_attempting)
        exchange_look(x);
    return true;
}

uint64_t hedge_limit(const struct exchange *x)
{
    const struct timeout_settings *t = &x->plan.settings->timeout;
    const struct attempt *a = x->hedge.rival;
    uint64_t total, step;

    if (!a || a->done || a->paused)
        return TIMER_OFF;
    total = clock_timeout(a->started_ms, t->total_ms);
    step = a->headers_done ? clock_timeout(a->last_piece_ms, t->idle_ms)
                           : clock_timeout(a->started_ms, t->first_byte_ms);
    return step < total ? step : total;
}

void hedge_timed_out(struct exchange *x)
{
    struct attempt *a = x->hedge.rival;

    x->ops->attempt_cancel(x->world, x, a);
    a->running = false;
    a->done = true;
    a->transport = a->headers_done ? TRANSPORT_IDLE_TIMEOUT : TRANSPORT_FIRST_BYTE_TIMEOUT;
    snprintf(a->detail, sizeof(a->detail), "silence for too long");
}

/* The connection of one of the two was stale: nothing was sent, so it was no attempt. The other
 * goes on with the number that is left. */
static void drop_stale(struct exchange *x)
{
    x->attempts--;
    x->placement.tier_attempts--;
    x->duplicates--;
    if (x->attempt->number > x->hedge.rival->number)
        x->attempt->number = x->hedge.rival->number;
    hedge_drop(x);
}

void hedge_look(struct exchange *x)
{
    struct attempt *a = x->hedge.rival;
    const struct attempt *first = x->attempt;
    bool was_holding = x->state == EXCHANGE_HOLDING, has_news;

    if (a && first->done && first->transport == TRANSPORT_STALE && !first->fresh) {
        swap(x);
        drop_stale(x);
        return;
    }
    if (!a || first->done || (x->state == EXCHANGE_HOLDING && x->stream.on))
        return;
    if (a->done)
        a->running = false;
    has_news = a->done || (a->paused && !first->paused) ||
               (a->headers_done && exchange_is_stream(x, a) == SSE_BEGIN_YES);
    if (!has_news)
        return;
    if (a->done && a->transport == TRANSPORT_STALE)
        drop_stale(x);
    else
        swap(x);
    if (was_holding && x->state == EXCHANGE_ATTEMPTING) /* its headers decide the next state */
        exchange_look(x);
}
