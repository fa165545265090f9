/* Delivers the answer: whole, or piece by piece once it is committed. */
#include <errno.h>

#include "exchange/exchange_private.h"

/* Of an answer that goes to a spool: the client starts with it. */
#define KEEP_IN_MEMORY (64 * 1024)
#define OWN_BODY_MAX 4096
/* The facts of C25 as they stand. `received`: the status that the upstream sent; 0 for our own. */
static struct response_facts facts(const struct exchange *x, unsigned received, enum reason reason)
{
    const struct target *target = &x->placement.target;

    return (struct response_facts){
        .attempts = x->attempts,
        .wait_ms = x->wait_ms,
        .target = target->upstream ? target->upstream->name : NULL,
        .host = target->upstream ? target->upstream->host : NULL,
        .model = target->tier > 0 ? target->model.p : NULL,
        .retry_after_ms = x->retry_after_ms,
        .come_again = x->reply.come_again,
        .received_status = received,
        .reason = reason,
        .detail = x->last_detail,
        .decoded = received && x->stream.on && x->stream.coded,
    };
}

uint64_t relay_upstream_length(const struct headers *h)
{
    struct str v;
    uint64_t n;

    return headers_get(h, STR("content-length"), &v) && str_to_u64(v, &n) ? n : LENGTH_UNKNOWN;
}

/* An answer without a body still tells the length it would have had. */
static bool bodiless(const struct exchange *x, unsigned status)
{
    return http_request_is(&x->request.http, "HEAD") || status == 204 || status == 304;
}

/* --- whole answers ------------------------------------------------------------------------------ */

/* The upstream's head is larger than what the client's connection has room for: rather than a break
 * that tells nothing the client gets an error of ours, whose head is small. */
static bool refuse_large_headers(struct exchange *x, int rc)
{
    if (rc != -EMSGSIZE || x->last_reason == REASON_LARGE_HEADERS)
        return false;
    x->last_reason = REASON_LARGE_HEADERS;
    relay_own_error(x, END_FAILED, 502, REASON_LARGE_HEADERS, NULL,
                    "retryd: the headers of the upstream's response do not fit beside those of the "
                    "request (16 KiB for both); send fewer or shorter request headers");
    return true;
}

/* Hands a whole answer over; where that fails the client sees its connection break. */
static void hand_over(struct exchange *x, struct http_response *response, struct buf *body,
                      enum exchange_end end)
{
    uint64_t n = body->len;
    int rc;

    x->reply.status = response->status;
    x->reply.first_byte_ms = x->ops->now_ms(x->world);
    rc = x->ops->response_whole(x->world, x, response, body);
    if (refuse_large_headers(x, rc))
        return;
    if (rc < 0) {
        x->ops->response_cut(x->world, x);
        end = END_BROKEN;
        n = 0;
    }
    x->reply.bytes_out = n;
    exchange_end(x, end);
}

static void deliver(struct exchange *x, unsigned status, unsigned received,
                    const struct headers *headers, struct buf *body)
{
    struct response_facts f = facts(x, received, REASON_OK);
    struct http_response response;

    http_response_init(&response);
    if (response_from_upstream(&response, status, headers, &f) < 0) {
        x->ops->response_cut(x->world, x);
        exchange_end(x, END_BROKEN);
    } else {
        response.content_length = bodiless(x, status) ? relay_upstream_length(headers) : body->len;
        x->reply.upstream = headers;
        hand_over(x, &response, body,
                  status < 400 && x->end != END_FAILED ? END_ANSWERED : END_FAILED);
    }
    http_response_deinit(&response);
}

void relay_whole(struct exchange *x, unsigned status)
{
    deliver(x, status, x->attempt->status, &x->attempt->headers, &x->attempt->body);
}

void relay_kept_error(struct exchange *x)
{
    x->stream.on = false; /* whatever the last attempt's was: nothing was undone of this one */
    deliver(x, x->kept.status, x->kept.received, &x->kept.headers, &x->kept.body);
}

int relay_keep_stream(struct exchange *x)
{
    const struct outbox *out = &x->reply.out;
    size_t held = out->bytes.len - out->released;
    const struct headers *h = &x->attempt->headers;
    struct kept_error *kept = &x->kept;
    int rc = 0;

    headers_reset(&kept->headers);
    buf_reset(&kept->body, 0);
    for (unsigned i = 0; rc == 0 && i < h->count; i++) /* its coding is undone */
        if (!str_ieq(headers_name(h, i), STR("content-encoding")))
            rc = headers_add(&kept->headers, headers_name(h, i), headers_value(h, i));
    if (rc == 0 && held > 0)
        rc = buf_add(&kept->body, out->bytes.p + out->released, held);
    if (rc == 0)
        rc = buf_add_str(&kept->body, x->stream.last_words.event);
    return rc;
}

/* The client has the head, and heartbeats behind it. */
static void end_with_kept(struct exchange *x)
{
    struct reply *reply = &x->reply;

    reply->cut = outbox_add(&reply->out, buf_str(&x->kept.body)) < 0;
    reply->ended = true;
    reply->first_byte_ms = x->ops->now_ms(x->world);
    if (x->state != EXCHANGE_RELAYING)
        exchange_set(x, EXCHANGE_RELAYING);
    relay_release(x);
}

void relay_kept_response(struct exchange *x)
{
    exchange_stop_attempt(x);
    hedge_drop(x);
    placement_leave(x);
    outbox_drop_held(&x->reply.out);
    x->stream.on = false;
    if (x->reply.begun)
        end_with_kept(x);
    else
        relay_kept_error(x);
}

static const char *own_type(enum exchange_end end, unsigned status, enum reason reason)
{
    if (reason == REASON_RATE_LIMIT)
        return "rate_limit_error";
    return end == END_REFUSED && status < 500 ? "invalid_request_error" : "server_error";
}

void relay_own_error(struct exchange *x, enum exchange_end end, unsigned status, enum reason reason,
                     const char *code, const char *message)
{
    struct response_facts f = facts(x, 0, reason);
    struct http_response response;
    struct buf body;

    f.dialect =
        dialect_of(http_request_path(&x->request.http)); /* it may be too early for the request's */
    http_response_init(&response);
    buf_init(&body, OWN_BODY_MAX);
    if (response_own_error(&response, &body, status, message, own_type(end, status, reason), code,
                           &f) < 0) {
        x->ops->response_cut(x->world, x);
        exchange_end(x, END_BROKEN);
    } else {
        hand_over(x, &response, &body, end);
    }
    buf_deinit(&body);
    http_response_deinit(&response);
}

/* --- answers that go out as they come ------------------------------------------------------------- */

/* The head goes out. False where it cannot, and then the exchange has ended. */
static bool begin(struct exchange *x, int rc, struct http_response *response, bool stream)
{
    struct reply *reply = &x->reply;

    reply->status = response->status;
    if (rc == 0)
        rc = x->ops->response_begin(x->world, x, response);
    http_response_deinit(response);
    reply->begun = rc == 0;
    reply->begun_stream = reply->begun && stream;
    if (reply->begun)
        return true;
    exchange_stop_attempt(x);
    if (refuse_large_headers(x, rc))
        return false;
    x->ops->response_cut(x->world, x);
    exchange_end(x, END_BROKEN);
    return false;
}

/* With the head of the attempt's answer. */
static bool begin_from_upstream(struct exchange *x)
{
    struct response_facts f = facts(x, x->attempt->status, REASON_OK);
    struct http_response response;
    int rc;

    http_response_init(&response);
    rc = response_from_upstream(&response, x->attempt->status, &x->attempt->headers, &f);
    if (!x->stream.on)
        response.content_length = relay_upstream_length(&x->attempt->headers);
    else if (x->request.http.http_1_0 && x->attempt->done &&
             x->attempt->transport == TRANSPORT_WHOLE)
        response.content_length = outbox_held(&x->reply.out);
    return begin(x, rc, &response, x->stream.on);
}

bool relay_begin_early(struct exchange *x)
{
    struct response_facts f = facts(x, 0, REASON_OK);
    struct http_response response;
    int rc;

    http_response_init(&response);
    response.status = 200;
    response.content_length = LENGTH_UNKNOWN;
    rc = headers_add(&response.headers, STR("Content-Type"),
                     STR("text/event-stream; charset=utf-8"));
    if (rc == 0)
        rc = headers_add(&response.headers, STR("Cache-Control"), STR("no-cache"));
    if (rc == 0)
        rc = response_add_facts(&response.headers, &f);
    return begin(x, rc, &response, true);
}

/* What was held of an answer that is too long for that has no place in memory any more, should the
 * client be slow to take it. */
static void begin_bytes(struct exchange *x)
{
    struct outbox *out = &x->reply.out;

    if (outbox_move(out, &x->attempt->body) < 0)
        return; /* it stays where it is, and goes from there */
    outbox_release(out);
    if (outbox_waiting(out) > RELAY_WAITING_MAX)
        (void)outbox_unload(out, KEEP_IN_MEMORY);
}

/* Commit: from here on the client has part of this answer. Another one can take over only where it
 * continues this one: spliced, or resumed. */
void relay_commit(struct exchange *x)
{
    struct reply *reply = &x->reply;
    struct stream *stream = &x->stream;

    if (!reply->begun && !begin_from_upstream(x))
        return;
    if (reply->committed) {
        stream->splices++;
    } else {
        reply->first_byte_ms = x->ops->now_ms(x->world);
        stream->but_usage = false; /* what was kept is not what the client has now */
    }
    mending_end(x);
    reply->committed = true;
    reply->upstream = &x->attempt->headers;
    hedge_drop(x);
    placement_tell_good(x, TURN_BEGUN);
    x->kept.present = x->kept.good =
        false; /* of an earlier attempt: it is not what may end this one */
    if (!(stream->splice && splice_possible(stream->splice)) &&
        !(stream->on && stream_resumable(x)))
        exchange_cannot_retry(x, "the answer is committed");
    exchange_set(x, EXCHANGE_RELAYING);
    if (!stream->on)
        begin_bytes(x);
}

void relay_release(struct exchange *x)
{
    if (outbox_held(&x->reply.out) == 0 && !x->reply.ended)
        return;
    outbox_release(&x->reply.out);
    x->reply.spoke_ms = x->ops->now_ms(x->world);
    x->ops->response_wake(x->world, x);
}

void relay_end(struct exchange *x)
{
    placement_tell_good(x, TURN_OVER);
    if (x->request.http.http_1_0 && !x->reply.begun && !x->reply.out.spool) {
        deliver(x, x->attempt->status, x->attempt->status, &x->attempt->headers,
                &x->reply.out.bytes);
        return;
    }
    if (x->state == EXCHANGE_HOLDING)
        relay_commit(x);
    if (x->state == EXCHANGE_DONE)
        return;
    x->reply.ended = true;
    relay_release(x);
}

bool relay_end_finished(struct exchange *x)
{
    const struct guard *guard = &x->stream.guard;
    bool here =
        x->state == EXCHANGE_RELAYING || (x->state == EXCHANGE_HOLDING && !x->reply.committed);

    if (!here || !x->stream.on || !guard_finished(guard) || guard_empty(guard) ||
        (!guard->marker && stream_add_end(x) < 0))
        return false;
    exchange_stop_attempt(x);
    x->stream.lacks_usage = guard_lacks_usage(guard);
    relay_end(x);
    return true;
}

void relay_end_without_usage(struct exchange *x)
{
    exchange_stop_attempt(x);
    hedge_drop(x);
    placement_leave(x);
    x->reply.cut =
        stream_add_end(x) < 0; /* behind what is held of it: splice takes that as given */
    x->reply.ended = true;
    if (x->state != EXCHANGE_RELAYING)
        exchange_set(x, EXCHANGE_RELAYING);
    relay_release(x);
}

size_t relay_mark(const struct exchange *x)
{
    uint64_t waiting = outbox_waiting(&x->reply.out);

    return waiting < RELAY_WAITING_MAX ? (size_t)(RELAY_WAITING_MAX - waiting) : 0;
}

void relay_resume(struct exchange *x)
{
    x->attempt->last_piece_ms = x->stream.news_ms = x->ops->now_ms(x->world);
    x->ops->attempt_resume(x->world, x, x->attempt);
}

/* --- answers that fail ---------------------------------------------------------------------------- */

/* HTTP/1.0: all in one, with its length. */
static void tell_whole(struct exchange *x)
{
    x->stream.on = true; /* what was undone of its coding stays so */
    x->end = END_FAILED;
    if (last_words_add(x) < 0) {
        x->ops->response_cut(x->world, x);
        exchange_end(x, END_BROKEN);
        return;
    }
    deliver(x, x->attempt->status, x->attempt->status, &x->attempt->headers, &x->reply.out.bytes);
}

void relay_last_words(struct exchange *x)
{
    const struct stream *stream = &x->stream;
    struct reply *reply = &x->reply;
    /* What was held announces the answer that the upstream's own error event ends. */
    bool keep = reply->committed || (stream->last_words.event.n > 0 && stream->mode != STREAM_HOLD);

    exchange_stop_attempt(x);
    hedge_drop(x);
    placement_leave(x);
    if (!keep)
        outbox_drop_held(&reply->out);
    if (x->request.http.http_1_0 && !reply->begun) {
        tell_whole(x);
        return;
    }
    if (!reply->begun && !begin_from_upstream(x))
        return;
    /* Without memory for it the connection breaks instead; and where no event is sure to be taken for
     * an error, it breaks in any case. */
    reply->cut = last_words_add(x) < 0 || !dialect_ends_by_event(stream->guard.dialect);
    x->end = reply->committed ? END_BROKEN : END_FAILED;
    reply->ended = true;
    if (reply->first_byte_ms == 0)
        reply->first_byte_ms = x->ops->now_ms(x->world);
    if (x->state != EXCHANGE_RELAYING)
        exchange_set(x, EXCHANGE_RELAYING);
    relay_release(x);
}

/* --- relaying ------------------------------------------------------------------------------------- */

/* Where what was to follow is lost, an attempt may still be on its way. */
void relay_finish(struct exchange *x)
{
    exchange_stop_attempt(x);
    if (x->end == END_NONE)
        x->end = x->reply.status < 400 ? END_ANSWERED : END_FAILED;
    exchange_end(x, x->end);
}

/* `lost`: here, for want of memory. */
static void tell_end(struct exchange *x, bool lost)
{
    struct verdict v = {.kind = VERDICT_FINAL, .reason = REASON_TRUNCATED, .ambiguous = true};
    struct hint none = {.source = HINT_NONE};

    if (!x->reply.cut)
        placement_tell_good(x, TURN_OVER);
    else if (!lost)
        placement_tell(x, &v, &none);
}

/* An answer that is no stream: bytes pass as they come, and a break is passed on as one. */
static void relay_bytes(struct exchange *x)
{
    struct reply *reply = &x->reply;
    struct attempt *a = x->attempt;
    bool lost = a->body.len > 0 && outbox_move(&reply->out, &a->body) < 0;

    if (lost)
        exchange_stop_attempt(x);
    if (a->done || lost) {
        reply->ended = true;
        reply->cut = lost || a->transport != TRANSPORT_WHOLE;
        if (reply->cut) {
            x->last_reason = REASON_TRUNCATED;
            x->end = END_BROKEN;
        }
        tell_end(x, lost);
    }
    relay_release(x);
    a->high_water = relay_mark(x);
    if (!reply->ended && a->paused && outbox_waiting(&reply->out) < RELAY_WAITING_MAX / 2)
        relay_resume(x);
}

void relay_step(struct exchange *x)
{
    if (x->reply.out.moved > 0)
        (void)outbox_unload(&x->reply.out, 0); /* where that fails it goes from memory */
    if (x->reply.ended)
        return;
    if (x->stream.on)
        stream_step(x);
    else
        relay_bytes(x);
}

bool exchange_wants_room(const struct exchange *x)
{
    return x->attempt->paused || stream_has_more(x);
}

ptrdiff_t exchange_pull(struct exchange *x, char *to, size_t max)
{
    struct reply *reply = &x->reply;
    ptrdiff_t n;

    if (!reply->begun || x->state == EXCHANGE_DONE)
        return PULL_CUT;
    n = outbox_take(&reply->out, to, max);
    if (n > 0) {
        reply->bytes_out += (uint64_t)n;
        return n;
    }
    if (n < 0) { /* the spool has failed: what it had is lost */
        reply->cut = reply->pulled_end = true;
        x->end = END_BROKEN;
        x->last_reason = REASON_INTERNAL;
        return PULL_CUT;
    }
    if (!reply->ended || outbox_waiting(&reply->out) > 0)
        return 0;
    reply->pulled_end = true;
    return reply->cut ? PULL_CUT : PULL_END;
}
