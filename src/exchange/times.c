/* Knows when an exchange has waited long enough, and what follows then. */
#include <stdio.h>

#include "base/clock.h"
#include "exchange/exchange_private.h"

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static bool has_response(const struct exchange *x)
{
    return x->state == EXCHANGE_HOLDING || x->state == EXCHANGE_RELAYING;
}

/* Until its first content a stream has a time of its own: it may think for minutes after it has
 * said hello. From then on, and in all other answers, no two pieces may be too far apart. */
static bool awaits_content(const struct exchange *x)
{
    return x->held.open || (x->stream.on && !x->stream.guard.content);
}

/* A stream has said that it is whole. Servers that then keep the connection open, however many pings
 * they send, would keep their clients waiting for nothing. Behind the last finish_reason the usage and
 * the mark may still come. */
#define AFTER_MARK_MS 1000
#define AFTER_FINISH_MS 2000

static bool has_ended(const struct exchange *x)
{
    return has_response(x) && x->stream.on && guard_finished(&x->stream.guard);
}

static uint64_t end_limit(const struct exchange *x)
{
    if (!has_ended(x))
        return TIMER_OFF;
    return x->stream.end_ms + (x->stream.guard.marker ? AFTER_MARK_MS : AFTER_FINISH_MS);
}

/* Pings keep an answer alive that has not ended, but not for ever. Silence has a time of its own. */
static uint64_t news_limit(const struct exchange *x)
{
    bool pings = x->attempt->last_piece_ms > x->stream.news_ms;

    return pings && x->stream.on && x->stream.guard.content
               ? clock_timeout(x->stream.news_ms, x->plan.settings->timeout.first_content_ms)
               : TIMER_OFF;
}

/* An answer that is held whole may take longer than the deadline, as a live one may, once the client
 * is kept waiting by heartbeats: then the attempt that is under way is not ended by it. What is to
 * mend an answer has to bring something new in time, however much it repeats. A limit on the client's
 * silence stays: it is the moment to let it hear something. */
static uint64_t deadline_now(const struct exchange *x)
{
    bool alive = x->reply.begun && !x->reply.committed && x->stream.on && x->stream.guard.content &&
                 !deadline_is_silence(&x->deadline);

    return x->state == EXCHANGE_RELAYING || alive ? TIMER_OFF : x->deadline.at_ms;
}

/* When the attempt has taken too long. DEADLINE_NONE and TIMER_OFF are the same number. */
static uint64_t attempt_limit(const struct exchange *x)
{
    const struct timeout_settings *t = &x->plan.settings->timeout;
    const struct attempt *a = x->attempt;
    uint64_t total = earlier(deadline_now(x), clock_timeout(a->started_ms, t->total_ms));

    if (x->state == EXCHANGE_ATTEMPTING)
        return earlier(total, clock_timeout(a->started_ms, t->first_byte_ms));
    if (!a->running || a->paused)
        return TIMER_OFF;
    if (has_ended(x))
        total = earlier(total, end_limit(x));
    else if (awaits_content(x))
        return earlier(total, clock_timeout(a->started_ms, t->first_content_ms));
    else
        total = earlier(total, news_limit(x));
    return earlier(total, clock_timeout(a->last_piece_ms, t->idle_ms));
}

/* `"stream": true` of an API that is not known may ask for lines of JSON, or for anything else. Events
 * it is only where the client says so, or the answer does. */
static bool takes_comments(const struct exchange *x)
{
    enum dialect dialect = x->stream.guard.dialect;
    struct str accept;

    if (dialect == DIALECT_GEMINI)
        return false; /* its SDKs cannot read comments */
    return dialect != DIALECT_OTHER || x->reply.begun || x->stream.on ||
           (headers_get(&x->request.http.headers, STR("accept"), &accept) &&
            str_ifind(accept, STR("text/event-stream")) >= 0);
}

/* When the next keep-alive comment is due (C14). An answer that turns out to be no stream has none, nor
 * has one that still may, for it could not be delivered any more; and neither has a client that could not tell a comment from a part of its answer. */
static uint64_t beat_time(const struct exchange *x)
{
    uint64_t every_ms = x->plan.settings->stream.heartbeat_ms;

    if (every_ms == 0 || !x->request.stream || x->request.http.http_1_0 || x->reply.ended ||
        (has_ended(x) && x->stream.guard.marker) ||
        (has_response(x) && !x->stream.on && !(x->held.open && x->reply.begun)) ||
        !takes_comments(x))
        return TIMER_OFF;
    return clock_timeout(x->reply.spoke_ms, every_ms);
}

static uint64_t times_next(const struct exchange *x)
{
    if (x->state == EXCHANGE_RECEIVING || x->state == EXCHANGE_DONE)
        return TIMER_OFF;
    if (x->state == EXCHANGE_BACKOFF)
        return earlier(x->next_at_ms, beat_time(x));
    if (x->state == EXCHANGE_QUEUED)
        return earlier(placement_time(x), beat_time(x));
    return earlier(earlier(attempt_limit(x), beat_time(x)), earlier(hedge_time(x), hedge_limit(x)));
}

/* Which of the times has passed, and what a person should read about it. */
static enum transport timeout_kind(struct exchange *x, uint64_t now)
{
    const struct timeout_settings *t = &x->plan.settings->timeout;
    struct attempt *a = x->attempt;
    enum transport kind = TRANSPORT_IDLE_TIMEOUT;
    uint64_t limit = t->idle_ms;

    if (now >= clock_timeout(a->started_ms, t->total_ms)) {
        kind = TRANSPORT_TOTAL_TIMEOUT;
        limit = t->total_ms;
    } else if (!a->headers_done) {
        kind = a->upload_whole ? TRANSPORT_FIRST_BYTE_TIMEOUT : TRANSPORT_UPLOAD_TIMEOUT;
        limit = t->first_byte_ms;
    } else if (awaits_content(x) || (!has_ended(x) && now >= news_limit(x))) {
        kind = TRANSPORT_FIRST_CONTENT_TIMEOUT;
        limit = t->first_content_ms;
    }
    snprintf(a->detail, sizeof(a->detail), "%s for %llu ms",
             kind == TRANSPORT_UPLOAD_TIMEOUT          ? "the request could not be sent"
             : kind == TRANSPORT_FIRST_CONTENT_TIMEOUT ? "no content"
                                                       : "silence",
             (unsigned long long)limit);
    if (kind == TRANSPORT_TOTAL_TIMEOUT)
        snprintf(a->detail, sizeof(a->detail), "the answer was not whole after %llu ms",
                 (unsigned long long)limit);
    return kind;
}

static void attempt_timed_out(struct exchange *x, uint64_t now)
{
    enum transport kind;

    exchange_stop_attempt(x);
    x->stream.grace_over = now >= end_limit(x);
    kind = x->stream.grace_over ? TRANSPORT_WHOLE : timeout_kind(x, now);
    x->attempt->done = true;
    x->attempt->transport = kind;
    /* What came of an answer may hold a status worth knowing, and a hint: the next step looks. */
    if (x->state == EXCHANGE_ATTEMPTING)
        judge_transport(x, kind);
    else
        exchange_look(x);
}

/* The client hears that its request is alive. Nothing is added where it has yet to take what there
 * is. */
static void beat(struct exchange *x, uint64_t now)
{
    x->reply.spoke_ms = now;
    if (!x->reply.begun) {
        if (!relay_begin_early(x))
            return;
        /* From now on no silence of ours can reach the client's own limit. */
        exchange_set_deadline(x, x->started_ms, DEADLINE_NONE);
    }
    if (outbox_waiting(&x->reply.out) == 0 && outbox_insert(&x->reply.out, STR(": retryd\n")) == 0)
        x->ops->response_wake(x->world, x);
}

/* The client would give up for want of a byte, but bytes have come since it had the last one: white space
 * in front of an answer, comments of a stream, what announces one (C7). */
static bool is_alive(const struct exchange *x)
{
    const struct attempt *a = x->attempt;

    return deadline_is_silence(&x->deadline) && x->state == EXCHANGE_HOLDING && a->status < 400 &&
           a->last_piece_ms > x->deadline.since_ms && !x->request.http.http_1_0;
}

/* What has come is passed on, and the limit begins anew. Of a stream that must stay held, or is made
 * again for a client that has a part of it, the client hears a comment instead. */
static void speak(struct exchange *x, uint64_t now)
{
    bool must_hold = x->stream.on && (x->stream.mode == STREAM_HOLD || x->reply.committed);

    if (!must_hold) {
        relay_commit(x);
        return;
    }
    beat(x, now);
    if (x->reply.committed)
        mending_set_deadline(x);
    else if (x->state != EXCHANGE_DONE)
        exchange_set_deadline(x, x->started_ms, now);
}

bool times_act(struct exchange *x, uint64_t *ret_next)
{
    uint64_t now = x->ops->now_ms(x->world);

    *ret_next = times_next(x);
    if (now < *ret_next)
        return false;
    if (now >= beat_time(x)) {
        beat(x, now);
    } else if (x->state == EXCHANGE_BACKOFF) {
        x->wait_ms += now - x->backoff_since;
        placement_queue(x);
    } else if (x->state == EXCHANGE_QUEUED) {
        placement_timeout(x);
    } else if (now >= deadline_now(x)) {
        if (is_alive(x))
            speak(x, now);
        else if (!relay_end_finished(x))
            judge_deadline(x);
    } else if (now >= hedge_limit(x)) {
        hedge_timed_out(x);
    } else if (now >= hedge_time(x)) {
        hedge_start(x);
    } else {
        attempt_timed_out(x, now);
    }
    return true;
}
