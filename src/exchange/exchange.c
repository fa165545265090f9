/* Decides what happens to a client's request, attempt after attempt. */
#include "exchange/exchange.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "exchange/exchange_private.h"

#define EXCHANGE_MAGIC 0x72657478u
#define BIT(state) (1u << (state))

/* Each state's name, and the moves that the diagram in exchange.h shows; every state may go to
 * DONE. */
static const struct {
    const char *name;
    unsigned moves;
} states[] = {
    [EXCHANGE_RECEIVING] = {"receiving", BIT(EXCHANGE_QUEUED) | BIT(EXCHANGE_DONE)},
    [EXCHANGE_QUEUED] = {"queued",
                         BIT(EXCHANGE_ATTEMPTING) | BIT(EXCHANGE_RELAYING) | BIT(EXCHANGE_DONE)},
    [EXCHANGE_ATTEMPTING] = {"attempting", BIT(EXCHANGE_HOLDING) | BIT(EXCHANGE_BACKOFF) |
                                               BIT(EXCHANGE_QUEUED) | BIT(EXCHANGE_RELAYING) |
                                               BIT(EXCHANGE_DONE)},
    [EXCHANGE_HOLDING] = {"holding", BIT(EXCHANGE_BACKOFF) | BIT(EXCHANGE_QUEUED) |
                                         BIT(EXCHANGE_ATTEMPTING) | BIT(EXCHANGE_RELAYING) |
                                         BIT(EXCHANGE_DONE)},
    [EXCHANGE_BACKOFF] = {"backoff",
                          BIT(EXCHANGE_QUEUED) | BIT(EXCHANGE_RELAYING) | BIT(EXCHANGE_DONE)},
    [EXCHANGE_RELAYING] = {"relaying", BIT(EXCHANGE_BACKOFF) | BIT(EXCHANGE_DONE)},
    [EXCHANGE_DONE] = {"done", 0},
};

static const char *const end_words[] = {
    [END_NONE] = "none",       [END_ANSWERED] = "answered", [END_FAILED] = "failed",
    [END_REFUSED] = "refused", [END_BROKEN] = "broken",     [END_CLIENT_GONE] = "client_gone",
};

const char *exchange_state_word(enum exchange_state s)
{
    return states[s].name;
}

const char *exchange_end_word(enum exchange_end e)
{
    return end_words[e];
}

void exchange_set(struct exchange *x, enum exchange_state to)
{
    assert(x->magic == EXCHANGE_MAGIC);
    assert(states[x->state].moves & BIT(to));
    if (log_enabled(LOG_DEBUG)) {
        log_begin(LOG_DEBUG, "state");
        log_text("id", x->request.id);
        log_text("from", states[x->state].name);
        log_text("to", states[to].name);
        log_end();
    }
    x->state = to;
}

void exchange_end(struct exchange *x, enum exchange_end end)
{
    exchange_set(x, EXCHANGE_DONE);
    hedge_drop(x);
    placement_leave(x);
    placement_release(x, x->attempt);
    x->end = end;
    x->ended_ms = x->ops->now_ms(x->world);
    repeat_remember(x);
    x->ops->timer_set(x->world, x, TIMER_OFF);
    x->ops->ended(x->world, x);
}

int exchange_init(struct exchange *x, const struct exchange_ops *ops, void *world,
                  const struct exchange_shared *shared, const struct exchange_limits *limits)
{
    memset(x, 0, sizeof(*x));
    x->magic = EXCHANGE_MAGIC;
    x->ops = ops;
    x->world = world;
    x->shared = *shared;
    x->limits = *limits;
    request_init(&x->request, limits->max_body, ops->random(world), ops->random(world));
    body_may_spool(&x->request.body, x, limits->memory_body);
    attempt_init(&x->slots[0]);
    attempt_init(&x->slots[1]);
    x->attempt = &x->slots[0];
    headers_init(&x->kept.headers);
    buf_init(&x->kept.body, SIZE_MAX / 2);
    stream_init(&x->stream);
    outbox_init(&x->reply.out, x);
    x->started_ms = ops->now_ms(world);
    return 0;
}

void exchange_stop_attempt(struct exchange *x)
{
    if (x->attempt->running && !x->attempt->done)
        x->ops->attempt_cancel(x->world, x, x->attempt);
    x->attempt->running = false; /* its turn goes on until it is judged */
}

void exchange_deinit(struct exchange *x)
{
    assert(x->magic == EXCHANGE_MAGIC);
    exchange_stop_attempt(x);
    hedge_drop(x);
    placement_leave(x);
    placement_release(x, x->attempt);
    request_deinit(&x->request);
    attempt_deinit(&x->slots[0]);
    attempt_deinit(&x->slots[1]);
    headers_deinit(&x->kept.headers);
    buf_deinit(&x->kept.body);
    inspect_deinit(&x->held.inspect);
    stream_deinit(&x->stream);
    outbox_deinit(&x->reply.out);
    x->magic = 0;
}

ptrdiff_t exchange_body(struct exchange *x, const void *data, size_t n)
{
    if (x->state == EXCHANGE_DONE)
        return (ptrdiff_t)n; /* no longer wanted: dropped */
    assert(x->state == EXCHANGE_RECEIVING);
    return request_body(&x->request, data, n);
}

void exchange_body_problem(const struct exchange *x, int rc, char *ret_why, size_t size)
{
    if (rc == -EFBIG)
        snprintf(ret_why, size, "retryd: the request's body is larger than max_body (%llu)",
                 (unsigned long long)x->limits.max_body);
    else if (rc == -ENOSPC)
        snprintf(ret_why, size,
                 "retryd: the request's body could not be kept in spool_dir (%s): %s; make room "
                 "there or set another folder",
                 x->limits.spool_dir, strerror(-x->request.body.error));
    else
        snprintf(ret_why, size, "retryd: out of memory for the request's body; try again");
}

size_t exchange_memory(const struct exchange *x)
{
    return body_memory(&x->request.body) + x->slots[0].body.size + x->slots[1].body.size +
           stream_memory(&x->stream) + outbox_memory(&x->reply.out) + x->kept.body.size;
}

void exchange_request_done(struct exchange *x)
{
    x->request_complete = true;
    body_finish(&x->request.body);
}

void exchange_refused(struct exchange *x, unsigned status)
{
    assert(status >= 400);
    assert(x->state == EXCHANGE_RECEIVING || x->state == EXCHANGE_DONE);
    x->refused = status;
}

void exchange_client_gone(struct exchange *x)
{
    x->client_gone = true;
}

void exchange_abort(struct exchange *x)
{
    x->aborted = true;
}

void exchange_client_stalled(struct exchange *x)
{
    x->client_stalled = true;
}

void exchange_cannot_retry(struct exchange *x, const char *why)
{
    if (!x->cannot_retry)
        x->cannot_retry = why;
}

/* --- attempts --------------------------------------------------------------------------------- */

/* The memory that an attempt's buffer keeps between attempts. Most responses fit. */
#define KEEP_BYTES (64 * 1024)
#define INTERIM_BYTES_MAX (8 * 1024) /* beyond it they are left out */

void attempt_init(struct attempt *a)
{
    memset(a, 0, sizeof(*a));
    headers_init(&a->headers);
    buf_init(&a->body, SIZE_MAX / 2);
    buf_init(&a->interim, INTERIM_BYTES_MAX);
    body_edit_init(&a->edit);
}

void attempt_deinit(struct attempt *a)
{
    headers_deinit(&a->headers);
    buf_deinit(&a->body);
    buf_deinit(&a->interim);
    body_edit_deinit(&a->edit);
}

void attempt_reset(struct attempt *a)
{
    headers_reset(&a->headers);
    buf_reset(&a->body, KEEP_BYTES);
    buf_reset(&a->interim, 0);
    a->headers_done = false;
    a->status = 0;
    a->done = false;
    a->transport = TRANSPORT_WHOLE;
    a->detail[0] = '\0';
    a->paused = false;
    a->received = 0;
    a->running = false;
    a->fresh = false;
    a->anew = false;
    a->connection.serial = 0;
    a->upload_whole = false;
}

int exchange_send(struct exchange *x, struct attempt *a, bool fresh)
{
    unsigned number = a->number;
    int rc;

    attempt_reset(a);
    a->fresh = fresh;
    a->anew = placement_begins_anew(x, a);
    /* Until the kind of response is known. */
    a->high_water =
        x->limits.hold_limit < RELAY_WAITING_MAX ? x->limits.hold_limit : RELAY_WAITING_MAX;
    a->started_ms = a->last_piece_ms = x->ops->now_ms(x->world);
    x->attempts++;
    a->number = fresh ? number : x->attempts;
    x->placement.tier_attempts++;
    const struct guard *guard = &x->stream.guard;
    struct outgoing o;
    int sent;
    outgoing_init(&o);
    if (x->stream.resuming)
        sent = outgoing_resume(&o, &x->request, &x->plan, &a->turn.target,
                               str_from(guard->response_id.p), guard->sequence - 1);
    else
        sent = outgoing_build(&o, &x->request, &x->plan, &a->turn.target, &a->edit);
    if (sent == 0)
        sent = x->ops->attempt_start(x->world, x, a, &o);
    outgoing_deinit(&o);
    rc = sent;
    a->running = rc == 0;
    if (rc < 0)
        snprintf(a->detail, sizeof(a->detail), "the attempt could not be started: %s",
                 strerror(-rc));
    return rc;
}

void exchange_start_attempt(struct exchange *x, bool fresh)
{
    if (x->ops->now_ms(x->world) >= x->deadline.at_ms) {
        judge_too_late(x);
        return;
    }
    exchange_set(x, EXCHANGE_ATTEMPTING);
    x->stream.on = x->held.open = false; /* no byte of this attempt has come yet */
    x->hedge.spent = false;
    if (exchange_send(x, x->attempt, fresh) < 0)
        judge_transport(x, TRANSPORT_INTERNAL);
}

/* --- times ------------------------------------------------------------------------------------ */

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static bool has_response(const struct exchange *x)
{
    return x->state == EXCHANGE_HOLDING || x->state == EXCHANGE_RELAYING;
}

/* Until its first content a stream has its own time limit, because a model may think for minutes
 * after the first event. After that, and in all other responses, the time between two pieces is
 * limited. */
static bool awaits_content(const struct exchange *x)
{
    return x->held.open || (x->stream.on && !x->stream.guard.content);
}

/* The time that retryd waits for the end of the connection after a stream has said that it is
 * complete. Some servers keep the connection open, and their clients would wait for nothing. After
 * the last finish_reason the usage and the end mark may still come. */
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

/* Pings keep a response alive that has not ended, but not for ever. Silence has its own time
 * limit. */
static uint64_t news_limit(const struct exchange *x)
{
    bool pings = x->attempt->last_piece_ms > x->stream.news_ms;

    return pings && x->stream.on && x->stream.guard.content
               ? clock_timeout(x->stream.news_ms, x->plan.settings->timeout.first_content_ms)
               : TIMER_OFF;
}

/* A response that is held whole may take longer than the deadline, as a live one may, once
 * heartbeats keep the client waiting: the deadline then does not end the running attempt. An
 * attempt that mends a response has to bring something new in time, however much it repeats. The
 * limit on silence towards the client stays: it is the time to send something. */
static uint64_t deadline_now(const struct exchange *x)
{
    bool alive = x->reply.begun && !x->reply.committed && x->stream.on && x->stream.guard.content &&
                 !deadline_is_silence(&x->deadline);

    return x->state == EXCHANGE_RELAYING || alive ? TIMER_OFF : x->deadline.at_ms;
}

/* Returns when the attempt has taken too long. DEADLINE_NONE and TIMER_OFF are the same number. */
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

/* In an unknown API, `"stream": true` may ask for lines of JSON, or for anything else. The response
 * consists of events only if the client or the response says so. */
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

/* Returns when the next keep-alive comment is due (C14). There are none in a response that is no
 * stream or may turn out to be none, because it could not be delivered after a comment; and none
 * for a client that cannot distinguish a comment from a part of the response. */
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

/* Returns which time limit has passed, and describes it for a person. */
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
        snprintf(a->detail, sizeof(a->detail), "the response was not complete after %llu ms",
                 (unsigned long long)limit);
    return kind;
}

/* Sends a keep-alive comment, unless the client has yet to take earlier bytes. */
static void beat(struct exchange *x, uint64_t now)
{
    x->reply.spoke_ms = now;
    if (!x->reply.begun) {
        if (!relay_begin_early(x))
            return;
        /* From now on the client never waits in silence for as long as its own limit. */
        exchange_set_deadline(x, x->started_ms, DEADLINE_NONE);
    }
    if (outbox_waiting(&x->reply.out) == 0 && outbox_insert(&x->reply.out, STR(": retryd\n")) == 0)
        x->ops->response_wake(x->world, x);
}

/* Whether bytes have come since the client received the last one: white space before a response,
 * comments of a stream, events that announce it (C7). The client would give up for want of a
 * byte. */
static bool is_alive(const struct exchange *x)
{
    const struct attempt *a = x->attempt;

    return deadline_is_silence(&x->deadline) && x->state == EXCHANGE_HOLDING && a->status < 400 &&
           a->last_piece_ms > x->deadline.since_ms && !x->request.http.http_1_0;
}

/* Sends the bytes that have come, and restarts the limit. If a stream must stay held, or is
 * repeated for a client that has a part of it, the client gets a comment instead. */
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

/* Acts on a time limit that has passed. Returns true if that changed something. Otherwise
 * `ret_next` is the next one of this state: a timeout, the deadline, the end of a backoff, the next
 * heartbeat; TIMER_OFF: none. */
static bool act_on_time(struct exchange *x, uint64_t *ret_next)
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
        enum transport kind;
        exchange_stop_attempt(x);
        x->stream.grace_over = now >= end_limit(x);
        kind = x->stream.grace_over ? TRANSPORT_WHOLE : timeout_kind(x, now);
        x->attempt->done = true;
        x->attempt->transport = kind;
        /* The part of a response that came may hold a useful status and a hint: the next step
         * looks. */
        if (x->state == EXCHANGE_ATTEMPTING)
            judge_transport(x, kind);
        else
            exchange_look(x);
    }
    return true;
}

/* --- the turn --------------------------------------------------------------------------------- */

void exchange_set_deadline(struct exchange *x, uint64_t since_ms, uint64_t heard_ms)
{
    x->deadline =
        deadline_of(&x->request.http.headers, since_ms, heard_ms,
                    x->plan.settings->retry.deadline_ms, x->request.overrides.deadline_ms);
}

static void receive(struct exchange *x)
{
    char problem[512] = "";
    int rc;

    if (x->refused) {
        x->reply.status = x->refused;
        x->last_reason = x->refused < 500 ? REASON_CLIENT_ERROR : REASON_INTERNAL;
        exchange_end(x, END_REFUSED);
        return;
    }
    rc = body_go_on(&x->request.body);
    if (!x->request_complete || rc == -EAGAIN)
        return;
    if (rc < 0) {
        bool no_memory = rc == -ENOMEM;
        char words[512];
        exchange_body_problem(x, no_memory ? rc : -ENOSPC, words, sizeof(words));
        relay_own_error(x, END_REFUSED, no_memory ? 503 : 507, REASON_INTERNAL,
                        no_memory ? "overloaded" : "insufficient_storage", words);
        return;
    }
    if (request_read(&x->request, problem, sizeof(problem)) < 0) {
        relay_own_error(x, END_REFUSED, 400, REASON_CLIENT_ERROR, "invalid_retryd_header", problem);
        return;
    }
    rc = x->ops->plan(x->world, x, str_from(x->request.model), &x->plan, problem, sizeof(problem));
    if (rc == -ENODATA) {
        placement_refuse_hidden(x, "the routes for this path need");
        return;
    }
    if (rc < 0) {
        relay_own_error(x, END_REFUSED, 404, REASON_CLIENT_ERROR, "no_route", problem);
        return;
    }
    if (placement_refuses_unfit(x))
        return;
    unsigned attempts = x->request.overrides.max_attempts;
    x->max_attempts = attempts ? attempts : x->plan.settings->retry.max_attempts;
    x->reply.spoke_ms = x->ops->now_ms(x->world);
    stream_expect(x);
    exchange_set_deadline(x, x->started_ms, x->started_ms);
    placement_begin(x);
    repeat_notice(x);
    placement_queue(x);
}

#define ENCODED_START 1024 /* bytes of an encoded body that suffice to see its first line */

/* Looks at the first bytes of the attempt's body, decoded. */
static enum sse_begin look_at_start(const struct attempt *a, struct str encoding)
{
    struct str body = buf_str(&a->body);
    enum sse_begin begin;
    struct buf text;

    if (encoding.n == 0 || body.n == 0)
        return sse_begins(body);
    if (body.n > ENCODED_START)
        body.n = ENCODED_START;
    buf_init(&text, ENCODED_START);
    (void)decode_body(encoding, body, &text); /* as far as it can be decoded */
    begin = sse_begins(buf_str(&text));
    buf_deinit(&text);
    return begin;
}

/* The label decides; if a stream was requested, so do the first bytes. A stream in an encoding that
 * retryd cannot decode is forwarded unread. */
enum sse_begin exchange_is_stream(const struct exchange *x, const struct attempt *a)
{
    struct str encoding = {NULL, 0};
    bool labelled = response_is_type(&a->headers, STR("text/event-stream"));

    if (a->status >= 300 || (!labelled && !judge_may_have_body(x, a->status)) ||
        (headers_get(&a->headers, STR("content-encoding"), &encoding) && !decode_knows(encoding)))
        return SSE_BEGIN_NO;
    if (labelled)
        return SSE_BEGIN_YES;
    return x->request.stream ? look_at_start(a, encoding) : SSE_BEGIN_NO;
}

void exchange_begin_stream(struct exchange *x)
{
    x->stream.on = true;
    x->held.open = false;
    /* The model may think for minutes; the gate need not wait for that. */
    placement_tell_good(x, TURN_HEADERS);
    stream_start(x);
}

static void attempting(struct exchange *x)
{
    struct attempt *a = x->attempt;

    if (a->done)
        a->running = false;
    if (a->done && a->transport == TRANSPORT_STALE && !a->fresh) {
        /* A kept connection was dead before anything was sent, so this was no attempt. Sends again
         * at once on a new connection, which cannot be stale. The number stays, because a hedge may
         * have the next one. */
        x->attempts--;
        x->placement.tier_attempts--;
        exchange_set(x, EXCHANGE_QUEUED);
        exchange_start_attempt(x, true);
    } else if (a->headers_done) {
        enum sse_begin begin = exchange_is_stream(x, a);

        if (begin == SSE_BEGIN_YES) {
            exchange_begin_stream(x);
        } else {
            x->stream.on = false;
            x->held.open = begin == SSE_BEGIN_OPEN;
            judge_start(x);
        }
        exchange_set(x, EXCHANGE_HOLDING);
    } else if (a->done) {
        judge_transport(x, a->transport);
    }
}

void exchange_look(struct exchange *x)
{
    hedge_look(x);
    if (x->attempt->done)
        x->attempt->running = false;
    switch (x->state) {
    case EXCHANGE_RECEIVING:
        receive(x);
        break;
    case EXCHANGE_ATTEMPTING:
        attempting(x);
        break;
    case EXCHANGE_HOLDING:
        if (x->stream.on)
            stream_step(x);
        else
            judge_held(x);
        break;
    case EXCHANGE_RELAYING:
        relay_step(x);
        break;
    case EXCHANGE_QUEUED:
        placement_step(x);
        break;
    case EXCHANGE_BACKOFF:
    case EXCHANGE_DONE:
        break;
    }
}

static void leave(struct exchange *x)
{
    /* The client was slow to take the last event, and retryd could not wait for it. */
    bool cut_here = x->aborted && x->reply.ended;

    exchange_stop_attempt(x);
    /* The client has all of a response that has said it is complete, or that failed, and did not
     * wait for the end of the connection: SDKs and agents close as soon as they have read the last
     * event. */
    const struct reply *reply = &x->reply;
    if (x->state == EXCHANGE_RELAYING && !x->client_stalled && outbox_waiting(&reply->out) <= 0 &&
        (reply->ended || (x->stream.on && guard_whole(&x->stream.guard, true)))) {
        if (!x->reply.ended)
            placement_tell_good(x, TURN_OVER);
        exchange_end(x, x->end != END_NONE ? x->end : END_ANSWERED);
        return;
    }
    hedge_drop(x);
    x->last_reason = cut_here            ? REASON_SHUTDOWN
                     : x->client_stalled ? REASON_CLIENT_STALLED
                                         : REASON_CLIENT_GONE;
    exchange_cannot_retry(x, x->client_stalled ? "the client is not reading the response"
                                               : "the client is gone");
    exchange_end(x, cut_here ? END_BROKEN : END_CLIENT_GONE);
}

/* Ends the request before its connection is cut, and reports to the client that the response is not
 * complete. A complete request without a response gets one; a plain response that has begun can
 * only be cut. */
static void abort_now(struct exchange *x)
{
    const struct reply *reply = &x->reply;

    if (reply->ended || x->refused)
        return;
    if (relay_end_finished(x) || judge_deliver_what_came(x))
        return;
    exchange_cannot_retry(x, "retryd is shutting down");
    x->last_reason = REASON_SHUTDOWN;
    snprintf(x->last_detail, sizeof(x->last_detail),
             "retryd is shutting down, and drain_timeout has passed");
    if (reply->begun_stream) {
        relay_last_words(x);
        return;
    }
    if (reply->begun || !x->request_complete) {
        exchange_stop_attempt(x);
        x->ops->response_cut(x->world, x);
        exchange_end(x, reply->begun ? END_BROKEN : END_REFUSED);
        return;
    }
    /* The upstream may still process a request that was sent: sending it again is a retry like any
     * other. */
    x->reply.come_again = !x->request.overrides.no_retry &&
                          (!x->attempt->running || x->plan.settings->retry.retry_ambiguous);
    exchange_stop_attempt(x);
    relay_own_error(x, END_FAILED, 0, REASON_SHUTDOWN, NULL,
                    "retryd: shutting down, and drain_timeout has passed; retry shortly");
}

/* Handles the client that has taken the end or left, and the end of retryd; the first of these that
 * happened counts. Returns true if the exchange is over. */
static bool ended_from_outside(struct exchange *x)
{
    if (x->reply.pulled_end)
        relay_finish(x);
    else if (x->client_gone && !x->refused)
        leave(x);
    else if (x->aborted)
        abort_now(x);
    return x->state == EXCHANGE_DONE;
}

void exchange_step(struct exchange *x)
{
    enum exchange_state before;
    uint64_t next = TIMER_OFF;

    assert(x->magic == EXCHANGE_MAGIC);
    if (x->state == EXCHANGE_DONE || ended_from_outside(x))
        return;
    /* Interim responses (RFC 9110 15.2) are forwarded at once, because the response does not depend
     * on them. If two attempts race, those of the first are forwarded. */
    struct buf *interim = &x->attempt->interim;
    if (interim->len != 0) {
        if (!x->reply.begun && !x->request.http.http_1_0)
            x->ops->response_interim(x->world, x, buf_str(interim));
        buf_reset(interim, 0);
    }
    do {
        before = x->state;
        exchange_look(x);
    } while (x->state != EXCHANGE_DONE && (x->state != before || act_on_time(x, &next)));
    /* The client pulls again, and gets the spool's bytes or its failure. */
    if (x->reply.out.spool_awaited) {
        x->reply.out.spool_awaited = false;
        x->ops->response_wake(x->world, x);
    }
    if (!x->attempt->running && x->state != EXCHANGE_QUEUED) {
        /* A slow client may still be taking a complete response, but its target's turn ends now. */
        if (x->state == EXCHANGE_RELAYING && !x->reply.ended && x->attempt->done &&
            x->attempt->transport == TRANSPORT_WHOLE)
            placement_tell_good(x, TURN_OVER);
        placement_release(x, x->attempt);
    }
    if (x->state != EXCHANGE_DONE)
        x->ops->timer_set(x->world, x, next);
}
