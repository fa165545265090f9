/* Streams: judges each event and moves it on towards the client. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "exchange/exchange_private.h"

#define HELD_IN_MEMORY (128 * 1024) /* a held response beyond this size goes to a spool */
#define EVENT_MAX (16u << 20)       /* an image in one event is several MiB long */
#define TOO_LONG "an event of the stream is larger than 16 MiB"
#define DECODE_PIECE 256 /* decoded, it may be a thousand times as long */
#define PLAIN_MAX (EVENT_MAX + 2 * 1024 * DECODE_PIECE)
#define TOO_LARGE "the response is too large to be spliced"

/* The fate of an event. */
enum fate {
    FATE_PASS,
    FATE_DROP,
    FATE_REPLACE, /* by the event in x->stream.rewritten */
    FATE_OVER,    /* it ends the attempt; struct over has the outcome */
};

/* An event that ended its attempt. */
struct over {
    struct outcome outcome;
    struct guard_seen seen;
};

void stream_init(struct stream *stream)
{
    memset(stream, 0, sizeof(*stream));
    buf_init(&stream->plain, SIZE_MAX / 2);
    buf_init(&stream->rewritten, SIZE_MAX / 2);
    guard_init(&stream->guard, DIALECT_OTHER, 1, false);
}

void stream_deinit(struct stream *stream)
{
    decoder_deinit(&stream->decoder);
    buf_deinit(&stream->plain);
    buf_deinit(&stream->rewritten);
    guard_deinit(&stream->guard);
    splice_free(stream->splice);
    stream->splice = NULL; /* stream_memory may still be called */
}

size_t stream_memory(const struct stream *stream)
{
    return stream->plain.size + (stream->splice ? splice_memory(stream->splice) : 0);
}

void stream_expect(struct exchange *x)
{
    const struct request *r = &x->request;

    /* An HTTP/1.0 client gets its response whole, because it could not detect a break. */
    x->stream.mode = r->http.http_1_0               ? STREAM_HOLD
                     : r->overrides.has_stream_mode ? r->overrides.stream_mode
                                                    : x->plan.settings->stream.mode;
    guard_init(&x->stream.guard, r->dialect, r->choices, r->usage_wanted);
}

/* The buffer that the events arrive in. */
static struct buf *source(struct exchange *x)
{
    return x->stream.encoded ? &x->stream.plain : &x->attempt->body;
}

/* Sets up decoding if there is a content encoding. If memory is short, the attempt counts as
 * broken. */
static void start_decoding(struct exchange *x)
{
    struct stream *stream = &x->stream;
    struct str encoding = {NULL, 0};

    headers_get(&x->attempt->headers, STR("content-encoding"), &encoding);
    stream->encoded = encoding.n > 0 && !str_ieq(encoding, STR("identity"));
    buf_reset(&stream->plain, 0);
    decoder_deinit(&stream->decoder);
    stream->plain.failed = stream->encoded && decoder_init(&stream->decoder, encoding) < 0;
}

void stream_start(struct exchange *x)
{
    struct stream *stream = &x->stream;
    struct guard *guard = &stream->guard;
    bool spliceable = splice_knows(guard->dialect) && stream->mode == STREAM_SPLICE;
    uint64_t choices = guard->choices;
    bool id_seen = guard->id_seen;
    struct guard_response response = guard->response;

    x->attempt->high_water = RELAY_WAITING_MAX;
    stream->passed = false;
    stream->looked_at = 0;
    stream->grace_over = false;
    stream->news_ms = x->ops->now_ms(x->world);
    sse_init(&stream->sse);
    start_decoding(x);
    if (stream->resuming)
        return;
    guard_reset(guard);
    if (x->reply.committed) {
        /* The client has a part of each choice, so each must end. It also remembers the ids. */
        guard->choices = choices;
        guard->id_seen = id_seen;
        guard->response = response;
        splice_restart(stream->splice);
        return;
    }
    x->reply.events = 0;
    splice_free(stream->splice);
    stream->splice = spliceable ? splice_new(guard->dialect, x->limits.hold_limit) : NULL;
}

bool stream_resumable(const struct exchange *x)
{
    const struct stream *stream = &x->stream;
    bool runs_on = !stream->not_resumable &&
                   (x->request.background || !http_request_is(&x->request.http, "POST"));

    return (stream->mode != STREAM_LIVE || !x->reply.committed) && runs_on &&
           stream->guard.response_id.len > 0 && stream->guard.sequence > 0;
}

/* --- mending ---------------------------------------------------------------------------------- */

/* The limits on how long, and how often, retryd mends a response of which the client has a part
 * (C13). */

void mending_set_deadline(struct exchange *x)
{
    const struct mending *m = &x->stream.mending;
    uint64_t now = x->ops->now_ms(x->world), since = m->on ? m->since_ms : now;
    uint64_t limit = x->plan.settings->stream.mend_timeout_ms;
    uint64_t left = limit > m->spent_ms ? limit - m->spent_ms : 0;
    uint64_t end = clock_after(since, left);

    /* The limit on silence counts from when the client last read something. Bytes that it has yet
     * to take count as read now. With heartbeats there is no such silence. */
    exchange_set_deadline(x, now,
                          x->plan.settings->stream.heartbeat_ms > 0 ? DEADLINE_NONE
                          : outbox_waiting(&x->reply.out) > 0       ? now
                                                                    : x->reply.spoke_ms);
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

/* Notes an event that is not JSON. Returns true if another attempt had one with the same data, or
 * at the same position: the model's answer is like that, and another attempt would not help. From
 * then on this holds for all such events, except in STREAM_HOLD, where every event counts. */
static bool is_habit(struct exchange *x, struct str data)
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

/* --- one event -------------------------------------------------------------------------------- */

static enum fate drop(struct exchange *x, enum guard_kind kind)
{
    x->stream.dropped++;
    x->ops->event_dropped(x->world, x, kind == GUARD_MALFORMED);
    return FATE_DROP;
}

static enum fate over(struct over *o, struct outcome outcome)
{
    o->outcome = outcome;
    return FATE_OVER;
}

/* Passes the event on if it is new to the client. */
static enum fate through_splice(struct exchange *x, struct str event, const struct guard_seen *seen,
                                struct over *o)
{
    struct splice *splice = x->stream.splice;
    enum splice_action action;

    if (!splice || seen->kind == GUARD_FILLER)
        return FATE_PASS;
    buf_reset(&x->stream.rewritten, SIZE_MAX);
    action = splice_event(splice, event, seen->data, &x->stream.rewritten);
    if (x->reply.committed && !splice_possible(splice) && !stream_resumable(x))
        exchange_cannot_retry(x, TOO_LARGE);
    switch (action) {
    case SPLICE_PASS:
        return FATE_PASS;
    case SPLICE_REWRITTEN:
        return FATE_REPLACE;
    case SPLICE_SKIP:
        return FATE_DROP;
    case SPLICE_DIFFERS:
    case SPLICE_FAILED:
        break;
    }
    exchange_cannot_retry(x, "the new response differs from what the client has");
    snprintf(x->attempt->detail, sizeof(x->attempt->detail),
             "the new response does not continue the broken one");
    return over(o, (struct outcome){.transport = TRANSPORT_WHOLE, .differs = true});
}

/* Whether the response ends empty and another attempt would follow. */
static bool may_be_asked_for_again(struct exchange *x)
{
    struct outcome o = {
        .transport = TRANSPORT_WHOLE, .status = x->attempt->status, .stream = true, .silent = true};

    /* A kept response that has content is better than this one. */
    return guard_silent(&x->stream.guard) &&
           (judge_may_ask_again(x, &o) || (x->stream.but_usage && x->kept.good));
}

/* Notes when an event brought more than a sign of life. After the last finish reason, only content
 * moves the response's end. */
static void note_times(struct stream *stream, const struct guard_seen *seen)
{
    bool part = seen->kind == GUARD_CONTENT || seen->kind == GUARD_END;

    if (seen->news)
        stream->news_ms = stream->now_ms;
    if (part && guard_finished(&stream->guard))
        stream->end_ms = stream->now_ms;
}

static enum fate look(struct exchange *x, struct str event, struct over *o)
{
    struct guard *guard = &x->stream.guard;
    struct guard_seen *seen = &o->seen;
    bool ended = guard->marker;
    enum fate fate;

    guard_look(guard, event, seen);
    x->stream.looked_at += seen->kind != GUARD_FILLER;
    if (!ended)
        note_times(&x->stream, seen);
    if (ended) {
        /* The response has said that it is complete; no later event can change that. */
        switch (seen->kind) {
        case GUARD_UNFIT:
        case GUARD_MALFORMED:
        case GUARD_UNREAD:
        case GUARD_ERROR:
            return drop(x, seen->kind);
        default:
            return FATE_PASS;
        }
    }
    switch (seen->kind) {
    case GUARD_UNFIT:
        return drop(x, seen->kind);
    case GUARD_MALFORMED: {
        /* An event is not JSON. A held response can still be requested again; one that is not held,
         * or cannot be repeated, continues without the event (C11). If another attempt brings the
         * same event, the model's answer is simply like that. Only a response that is held whole
         * must be complete. */
        struct outcome outcome = {.transport = TRANSPORT_WHOLE,
                                  .status = x->attempt->status,
                                  .stream = true,
                                  .malformed = true};
        bool held = x->stream.mode == STREAM_HOLD;
        if (x->stream.mode == STREAM_LIVE && x->stream.passed)
            return drop(x, GUARD_MALFORMED);
        outcome.as_before = is_habit(x, o->seen.data);
        if (!held && (outcome.as_before || !judge_may_repeat(x, &outcome)))
            return drop(x, GUARD_MALFORMED);
        return over(o, outcome);
    }
    case GUARD_UNREAD:
        snprintf(x->attempt->detail, sizeof(x->attempt->detail), "out of memory");
        return over(o, (struct outcome){.transport = TRANSPORT_INTERNAL});
    case GUARD_ERROR:
        if (guard->dialect == DIALECT_OTHER && x->reply.committed)
            return FATE_PASS;
        return over(o, (struct outcome){.transport = TRANSPORT_WHOLE, .error = &seen->error});
    case GUARD_END:
        if (guard_empty(guard))
            return over(o, (struct outcome){.transport = TRANSPORT_WHOLE, .empty = true});
        if (may_be_asked_for_again(x))
            return over(o, (struct outcome){.transport = TRANSPORT_WHOLE, .silent = true});
        break;
    default:
        break;
    }
    if (x->stream.resuming && seen->repeated)
        return FATE_DROP; /* this upstream ignores starting_after */
    fate = through_splice(x, event, seen, o);
    if ((fate == FATE_PASS || fate == FATE_REPLACE) && (guard->content || guard->marker) &&
        !x->stream.passed)
        x->stream.passed = !may_be_asked_for_again(x);
    return fate;
}

/* --- all received events ---------------------------------------------------------------------- */

/* Consecutive events of the attempt's buffer that pass unchanged. */
struct run {
    size_t from, to;
};

/* Moves the run on; without a copy if it is the whole buffer. */
static bool move_run(struct exchange *x, struct run *run)
{
    struct buf *b = source(x);
    int rc = 0;

    if (run->from == 0 && run->to == b->len && b->len > 0)
        rc = outbox_move(&x->reply.out, b);
    else if (run->to > run->from)
        rc = outbox_add(&x->reply.out, (struct str){b->p + run->from, run->to - run->from});
    run->from = run->to;
    return rc == 0;
}

static bool move_on(struct exchange *x, struct run *run, enum fate fate, size_t end)
{
    if (fate == FATE_PASS) {
        run->to = end;
        x->reply.events++;
        return true;
    }
    if (!move_run(x, run))
        return false;
    run->from = run->to = end;
    if (fate != FATE_REPLACE)
        return true;
    x->reply.events++;
    return outbox_add(&x->reply.out, buf_str(&x->stream.rewritten)) == 0;
}

/* A byte order mark counts as one only at the start of a stream. If a heartbeat or another
 * attempt's events came before it, the client could not read the event's first line; so the mark is
 * removed. */
static bool skip_mark(struct exchange *x, struct run *run, struct str *event)
{
    struct str mark = STR("\xef\xbb\xbf");

    if (!str_starts(*event, mark) ||
        (!x->reply.begun && x->plan.settings->stream.heartbeat_ms == 0))
        return true;
    if (!move_run(x, run))
        return false;
    run->from = run->to += mark.n;
    *event = str_after(*event, mark.n);
    return true;
}

/* retryd itself failed. */
static void judge_internal(struct exchange *x, const char *what)
{
    struct outcome o = {.transport = TRANSPORT_INTERNAL, .stream = true};

    snprintf(x->attempt->detail, sizeof(x->attempt->detail), "%s", what);
    judge_stream(x, &o);
}

static void out_of_memory(struct exchange *x)
{
    judge_internal(x, "out of memory");
}

/* The attempt ended before its response was complete. */
static struct outcome outcome_of(struct exchange *x, bool broke)
{
    struct attempt *a = x->attempt;
    struct outcome o = {.transport = a->transport,
                        .status = a->status,
                        .headers = x->reply.committed ? NULL : &a->headers,
                        .stream = true,
                        .empty = guard_empty(&x->stream.guard) && !x->reply.committed};

    if (o.transport == TRANSPORT_WHOLE && !o.empty) {
        o.transport = TRANSPORT_TRUNCATED;
        snprintf(a->detail, sizeof(a->detail), "%s",
                 broke ? "it ended within an event" : "it ended before it was complete");
    }
    return o;
}

static void judge_broken(struct exchange *x, bool broke)
{
    struct outcome o = outcome_of(x, broke);

    judge_stream(x, &o);
}

/* The stream cannot be read. */
static void break_off(struct exchange *x, const char *why)
{
    struct attempt *a = x->attempt;

    exchange_stop_attempt(x);
    a->done = true;
    a->transport = TRANSPORT_BAD_RESPONSE;
    snprintf(a->detail, sizeof(a->detail), "%s", why);
    judge_broken(x, true);
}

/* The guard looks for news in each event only after this long without any: with many events a
 * second the search would cost too much. */
#define CLOSELY_MS 1000

/* Judges each whole event. Returns false if the attempt was judged. */
static bool take_events(struct exchange *x)
{
    struct stream *stream = &x->stream;
    struct buf *b = source(x);
    struct run run = {0, 0};
    size_t at = 0, n;

    stream->now_ms = x->ops->now_ms(x->world);
    stream->guard.closely = stream->now_ms - stream->news_ms >= CLOSELY_MS;
    while (at < b->len && (n = sse_next(&stream->sse, (struct str){b->p + at, b->len - at})) > 0) {
        struct str event = {b->p + at, n};
        struct over o;
        enum fate fate = FATE_DROP;
        bool ok = skip_mark(x, &run, &event);

        if (ok)
            fate = look(x, event, &o);
        if (!ok || !move_on(x, &run, fate, at + n)) {
            out_of_memory(x);
            return false;
        }
        if (fate == FATE_OVER) {
            /* Judges the attempt by the event that ended it. */
            o.outcome.status = x->attempt->status;
            o.outcome.headers = x->reply.committed ? NULL : &x->attempt->headers;
            o.outcome.stream = true;
            if (o.outcome.error || o.outcome.silent) {
                x->stream.last_words.event = event;
                x->stream.last_words.seen = &o.seen;
            }
            judge_stream(x, &o.outcome);
            x->stream.last_words.event.n = 0;
            return false;
        }
        at += n;
    }
    if (!move_run(x, &run)) {
        out_of_memory(x);
        return false;
    }
    buf_consume(b, b->len ? at : 0);
    return true;
}

static void add_plain(void *plain, struct str text)
{
    buf_add_str(plain, text);
}

/* Decodes the next piece. Returns false if the attempt was judged. */
static bool decode_piece(struct exchange *x)
{
    struct buf *plain = &x->stream.plain;
    struct attempt *a = x->attempt;
    size_t n = a->body.len < DECODE_PIECE ? a->body.len : DECODE_PIECE;
    int rc = n ? decoder_feed(&x->stream.decoder, (struct str){a->body.p, n}, add_plain, plain) : 0;

    buf_consume(&a->body, n);
    if (plain->failed || rc == -ENOMEM) {
        out_of_memory(x);
        return false;
    }
    if (rc < 0 || plain->len > PLAIN_MAX) {
        if (take_events(x))
            break_off(x, rc < 0 ? "the body does not match its Content-Encoding" : TOO_LONG);
        return false;
    }
    return true;
}

/* --- the end ---------------------------------------------------------------------------------- */

/* Whether the rest is an event that lacks only its empty line. SDKs cannot read an event without
 * data. */
static bool lacks_empty_line(const struct buf *rest)
{
    struct sse_event event;

    if (rest->len == 0 || rest->p[rest->len - 1] != '\n')
        return false;
    sse_parse(buf_str(rest), &event);
    return event.data_lines > 0 || event.comment_only;
}

/* A response that broke after its last finish reason lacks only the requested usage. In a mode that
 * mends responses, the request is sent again for it, once, if the response can be kept in the
 * meantime. */
static bool asks_for_usage(struct exchange *x)
{
    const struct stream *stream = &x->stream;
    struct outcome o;

    if (!stream->lacks_usage || stream->mode == STREAM_LIVE)
        return false;
    if (!stream->but_usage && !x->reply.committed && (x->reply.out.spool || x->hedge.rival))
        return false;
    o = outcome_of(x, true);
    if (!stream->but_usage && !judge_may_repeat(x, &o))
        return false;
    if (stream->but_usage)
        judge_stream(x, &o); /* the earlier response is as good */
    else
        judge_without_usage(x, &o);
    return true;
}

int stream_add_end(struct exchange *x)
{
    switch (x->stream.guard.dialect) {
    case DIALECT_CHAT:
    case DIALECT_COMPLETIONS:
        return outbox_add(&x->reply.out, STR("data: [DONE]\n\n"));
    case DIALECT_MESSAGES:
        return outbox_add(&x->reply.out,
                          STR("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"));
    default:
        return 0;
    }
}

static void end_stream(struct exchange *x)
{
    const struct guard *guard = &x->stream.guard;
    struct attempt *a = x->attempt;
    bool over = x->stream.grace_over;
    bool broke = !over && (a->transport != TRANSPORT_WHOLE || source(x)->len > 0 ||
                           (x->stream.encoded && !decoder_whole(&x->stream.decoder)));

    x->stream.lacks_usage = (broke || over) && guard_finished(guard) && guard_lacks_usage(guard);
    if (guard_empty(guard) || !guard_whole(guard, broke)) {
        judge_broken(x, broke);
        return;
    }
    if (broke && asks_for_usage(x))
        return;
    /* The response is complete but lacks the end marker that some clients wait for. */
    if ((broke || over) && !guard->marker && stream_add_end(x) < 0) {
        out_of_memory(x);
        return;
    }
    a->transport = TRANSPORT_WHOLE;
    if (!may_be_asked_for_again(x)) {
        relay_end(x);
        return;
    }
    struct outcome silent = {.transport = TRANSPORT_WHOLE,
                             .status = a->status,
                             .headers = &a->headers,
                             .stream = true,
                             .silent = true};
    judge_stream(x, &silent);
}

/* --- holding, flowing ------------------------------------------------------------------------- */

static bool may_commit(const struct exchange *x)
{
    const struct stream *stream = &x->stream;

    if (stream->mode != STREAM_HOLD || x->reply.committed)
        return stream->passed;
    /* The Content-Length is known only at the end. */
    return stream->guard.marker && !x->request.http.http_1_0;
}

static size_t held_in_memory(const struct exchange *x)
{
    return x->reply.out.bytes.len - x->reply.out.released;
}

/* Moves the held part of a response to a spool before it is too large for memory. Returns false if
 * the spool lost its bytes. */
static bool spill(struct exchange *x)
{
    struct stream *stream = &x->stream;
    size_t most = x->limits.hold_limit < HELD_IN_MEMORY ? x->limits.hold_limit : HELD_IN_MEMORY;
    int rc;

    if (stream->mode != STREAM_HOLD || x->state != EXCHANGE_HOLDING || stream->no_spool ||
        held_in_memory(x) <= most)
        return true;
    rc = outbox_unload(&x->reply.out, 0);
    stream->no_spool = rc < 0 && rc != -EAGAIN;
    return rc != -EIO;
}

/* Whether the response is too large to be held whole, so that it is forwarded as it comes. */
static bool must_commit(const struct exchange *x)
{
    return outbox_held(&x->reply.out) > x->limits.max_body ||
           (x->stream.no_spool && held_in_memory(x) > x->limits.hold_limit);
}

/* Commits, forwards and spools what has arrived. Returns false if the attempt was judged or the
 * exchange is over. */
static bool settle(struct exchange *x)
{
    if (!spill(x)) {
        outbox_drop_held(&x->reply.out);
        judge_internal(x, "the held bytes in spool_dir are lost");
        return false;
    }
    if (x->state == EXCHANGE_HOLDING && x->stream.passed)
        hedge_drop(x); /* held or not, this attempt has won */
    if (x->state == EXCHANGE_HOLDING && (may_commit(x) || must_commit(x)))
        relay_commit(x);
    if (x->state == EXCHANGE_RELAYING)
        relay_release(x);
    return x->state != EXCHANGE_DONE;
}

/* An event fills the buffer up to its high-water mark, and the client has everything before it. */
static bool raise_mark(struct exchange *x)
{
    struct attempt *a = x->attempt;

    if (a->high_water >= EVENT_MAX)
        return false;
    a->high_water = a->high_water < EVENT_MAX / 2 ? a->high_water * 2 : EVENT_MAX;
    return true;
}

static bool disk_is_slow(const struct exchange *x)
{
    return x->reply.out.spool_held && x->reply.out.moved > 0;
}

bool stream_has_more(const struct exchange *x)
{
    return x->stream.on && x->stream.encoded && x->attempt->body.len > 0;
}

/* Whether more of an encoded stream may be decoded now, which goes no faster than the client. */
static bool has_room(const struct exchange *x)
{
    return outbox_waiting(&x->reply.out) < RELAY_WAITING_MAX && !disk_is_slow(x);
}

/* Sets the high-water mark at which the attempt pauses, and resumes the attempt. */
static void flow(struct exchange *x)
{
    struct attempt *a = x->attempt;
    uint64_t waiting = outbox_waiting(&x->reply.out);
    bool is_full = disk_is_slow(x) || stream_has_more(x);

    if (a->body.len < RELAY_WAITING_MAX || waiting > 0)
        a->high_water = is_full ? 0 : relay_mark(x);
    if (!a->paused || is_full || waiting > RELAY_WAITING_MAX / 2)
        return;
    if (a->body.len >= a->high_water) {
        if (waiting > 0)
            return;
        if (!raise_mark(x)) {
            break_off(x, TOO_LONG);
            return;
        }
    }
    relay_resume(x);
}

/* The stream ended before the last event's empty line. In a stream of a known API that event counts
 * all the same. */
static bool complete_last(struct exchange *x)
{
    if (x->stream.guard.dialect == DIALECT_OTHER) {
        /* An incomplete event does not count (WHATWG 9.2.6). A comment or [DONE] is dropped, so
         * that the rest is not taken for a break. */
        struct buf *rest = source(x);
        struct sse_event event;
        sse_parse(buf_str(rest), &event);
        if (event.comment_only || str_starts(event.data, STR("[DONE]"))) {
            x->stream.guard.marker |= !event.comment_only;
            buf_consume(rest, rest->len);
        }
        return true;
    }
    return !lacks_empty_line(source(x)) || buf_addc(source(x), '\n') < 0 || take_events(x);
}

void stream_step(struct exchange *x)
{
    struct attempt *a = x->attempt;

    /* The disk may have made room; that comes first. */
    if (x->stream.encoded && disk_is_slow(x) && !settle(x))
        return;
    while (stream_has_more(x) && has_room(x))
        if (!decode_piece(x) || !take_events(x) || (stream_has_more(x) && !settle(x)))
            return;
    if (!x->stream.encoded && !take_events(x))
        return;
    if (a->done && !stream_has_more(x)) {
        if (a->transport != TRANSPORT_WHOLE || complete_last(x))
            end_stream(x);
        return;
    }
    if (settle(x))
        flow(x);
}
