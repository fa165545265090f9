/* Decides what becomes of one event of a stream: it passes, stays away, or ends the attempt. */
#include <stdio.h>

#include "exchange/stream_private.h"

#define TOO_LARGE "the answer is too large to be spliced"

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

/* Lets the event through where it is new to the client. */
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
    exchange_cannot_retry(x, "the new answer differs from what the client has");
    snprintf(x->attempt->detail, sizeof(x->attempt->detail),
             "the new answer is not the one that broke");
    return over(o, (struct outcome){.transport = TRANSPORT_WHOLE, .differs = true});
}

/* An event that is no JSON. What is held may still be made again; what is not, or cannot be, goes on
 * without it (C11). Where it comes once more, the answer is that way. Only an answer that is to be held
 * whole has to be whole. */
static enum fate look_at_malformed(struct exchange *x, struct over *o)
{
    struct outcome outcome = {.transport = TRANSPORT_WHOLE,
                              .status = x->attempt->status,
                              .stream = true,
                              .malformed = true};
    bool held = x->stream.mode == STREAM_HOLD;

    if (x->stream.mode == STREAM_LIVE && x->stream.passed)
        return drop(x, GUARD_MALFORMED);
    outcome.as_before = mending_is_habit(x, o->seen.data);
    if (!held && (outcome.as_before || !judge_may_repeat(x, &outcome)))
        return drop(x, GUARD_MALFORMED);
    return over(o, outcome);
}

/* The answer has said that it is whole: nothing behind that can unmake it. */
static enum fate look_behind_the_end(struct exchange *x, const struct guard_seen *seen)
{
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

bool stream_may_be_asked_for_again(struct exchange *x)
{
    struct outcome o = {
        .transport = TRANSPORT_WHOLE, .status = x->attempt->status, .stream = true, .silent = true};

    /* Where one that says something is kept, that one is better. */
    return guard_silent(&x->stream.guard) &&
           (judge_may_ask_again(x, &o) || (x->stream.but_usage && x->kept.good));
}

/* When something came that is more than a sign of life. Behind the last finish_reason only a part of
 * the answer moves its end on. */
static void note_times(struct stream *stream, const struct guard_seen *seen)
{
    bool part = seen->kind == GUARD_CONTENT || seen->kind == GUARD_END;

    if (seen->news)
        stream->news_ms = stream->now_ms;
    if (part && guard_finished(&stream->guard))
        stream->end_ms = stream->now_ms;
}

enum fate stream_look(struct exchange *x, struct str event, struct over *o)
{
    struct guard *guard = &x->stream.guard;
    struct guard_seen *seen = &o->seen;
    bool ended = guard->marker;
    enum fate fate;

    guard_look(guard, event, seen);
    x->stream.looked_at += seen->kind != GUARD_FILLER;
    if (!ended)
        note_times(&x->stream, seen);
    if (ended)
        return look_behind_the_end(x, seen);
    switch (seen->kind) {
    case GUARD_UNFIT:
        return drop(x, seen->kind);
    case GUARD_MALFORMED:
        return look_at_malformed(x, o);
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
        if (stream_may_be_asked_for_again(x))
            return over(o, (struct outcome){.transport = TRANSPORT_WHOLE, .silent = true});
        break;
    default:
        break;
    }
    if (x->stream.resuming && seen->repeated)
        return FATE_DROP; /* an upstream that has no ear for starting_after */
    fate = through_splice(x, event, seen, o);
    if ((fate == FATE_PASS || fate == FATE_REPLACE) && (guard->content || guard->marker) &&
        !x->stream.passed)
        x->stream.passed = !stream_may_be_asked_for_again(x);
    return fate;
}

/* Judges the attempt by the event that ended it. */
void stream_judge_over(struct exchange *x, struct over *o, struct str event)
{
    o->outcome.status = x->attempt->status;
    o->outcome.headers = x->reply.committed ? NULL : &x->attempt->headers;
    o->outcome.stream = true;
    if (o->outcome.error || o->outcome.silent) {
        x->stream.last_words.event = event;
        x->stream.last_words.seen = &o->seen;
    }
    judge_stream(x, &o->outcome);
    x->stream.last_words.event.n = 0;
}
