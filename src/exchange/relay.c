/* Delivers the response: in one piece, or as it comes once it is committed; ends streams that
 * failed. */
#include <errno.h>
#include <stdio.h>

#include "exchange/exchange_private.h"
#include "http/decode.h"
#include "http/json.h"
#include "stream/error.h"

/* --- the event that ends a failed stream (C12) ------------------------------------------------ */

#define ERROR_TEXT_MAX (256 * 1024)
#define KEEP_IN_MEMORY (64 * 1024) /* bytes of a spooled response with which the client starts */
#define OWN_BODY_MAX 4096

static int own_object(const struct exchange *x, struct buf *out)
{
    char message[ATTEMPT_DETAIL_MAX + 320];
    const char *code = reason_word(x->last_reason);

    snprintf(message, sizeof(message), "retryd: %s upstream %s %s: %s%s%s",
             x->reply.committed ? "the stream from" : "no response from", placement_name(x),
             x->reply.committed ? "broke" : "came", x->last_detail[0] ? x->last_detail : code,
             x->cannot_retry ? "; not retried: " : "", x->cannot_retry ? x->cannot_retry : "");
    return error_object_own(out, message, code);
}

/* Writes the event as the body of a response. Returns 0 or -ENOMEM. */
static int write_body(const struct exchange *x, const struct guard_seen *seen, struct buf *out)
{
    bool messages = x->stream.guard.dialect == DIALECT_MESSAGES;

    (void)buf_add_str(out, messages ? STR("{\"type\":\"error\",\"error\":") : STR("{\"error\":"));
    if (error_object_of(out, seen->data, &seen->error) < 0 || buf_addc(out, '}') < 0)
        return -ENOMEM;
    return 0;
}

void relay_keep_error_event(struct exchange *x)
{
    const struct guard_seen *seen = x->stream.last_words.seen;
    struct kept_error *kept = &x->kept;

    kept->present = false;
    headers_reset(&kept->headers);
    buf_reset(&kept->body, ERROR_TEXT_MAX);
    /* The stream's headers without those that describe its type and encoding. */
    int rc = headers_add(&kept->headers, STR("Content-Type"), STR("application/json"));
    for (unsigned i = 0; rc == 0 && i < x->attempt->headers.count; i++) {
        struct str name = headers_name(&x->attempt->headers, i);

        if (!str_ieq(name, STR("content-type")) && !str_ieq(name, STR("content-encoding")) &&
            !str_ieq(name, STR("cache-control")))
            rc = headers_add(&kept->headers, name, headers_value(&x->attempt->headers, i));
    }
    if (rc < 0 || write_body(x, seen, &kept->body) < 0)
        return;
    kept->present = true;
    kept->status = apierror_status(&seen->error);
    kept->received = x->attempt->status;
    kept->attempt = x->attempts;
}

/* Writes the kept error response, decoded. */
static int kept_object(const struct kept_error *kept, struct buf *out)
{
    struct str encoding = {NULL, 0};
    struct apierror error;
    struct buf text;
    int rc;

    buf_init(&text, ERROR_TEXT_MAX);
    headers_get(&kept->headers, STR("content-encoding"), &encoding);
    rc = decode_body(encoding, buf_str(&kept->body), &text);
    apierror_parse(buf_str(&text), &error);
    if (rc == 0)
        rc = error_object_of(out, buf_str(&text), &error);
    buf_deinit(&text);
    return rc;
}

/* Returns the sequence number that follows those that the client has. `passed`: the upstream's own
 * last event if the client has it, else NULL. */
static uint64_t next_sequence(const struct exchange *x, const struct guard_seen *passed)
{
    const struct splice *splice = x->stream.splice;
    uint64_t sequence = x->stream.guard.sequence;
    uint64_t last;

    if (!splice && passed &&
        json_to_u64(json_scan_one(passed->data, STR("sequence_number")), &last))
        return last + 1;
    if (!x->reply.committed && outbox_held(&x->reply.out) == 0)
        return 0;
    if (splice && splice_sequence(splice, &last))
        return last + 1;
    return sequence ? sequence : x->reply.events;
}

/* Whether the kept error is the one to report: as long as the client has no part of a response, or
 * if the kept error is how that response ended. */
static bool kept_error_counts(const struct exchange *x)
{
    return x->kept.present && (!x->reply.committed || x->kept.attempt == x->attempts);
}

/* Adds the upstream's own last event; after a splice with the ids and numbers that the client
 * knows. An event that does not continue what the client has is left out. */
static int add_last_event(struct exchange *x, const struct guard_seen *seen, bool *ret_out)
{
    struct stream *stream = &x->stream;
    enum splice_action action = SPLICE_PASS;

    buf_reset(&stream->rewritten, SIZE_MAX);
    if (stream->splice && seen->is_response)
        action =
            splice_event(stream->splice, stream->last_words.event, seen->data, &stream->rewritten);
    *ret_out = action == SPLICE_PASS || action == SPLICE_REWRITTEN;
    if (!*ret_out)
        return 0;
    x->reply.events++;
    return outbox_add(&x->reply.out, action == SPLICE_PASS ? stream->last_words.event
                                                           : buf_str(&stream->rewritten));
}

/* Whether the client has the beginning of a response, which response.failed ends. Without a
 * beginning, some clients fail on that event itself. */
static bool has_response(const struct exchange *x)
{
    const struct guard *guard = &x->stream.guard;

    return guard->dialect == DIALECT_RESPONSES && guard->response.id[0] && x->reply.events > 0 &&
           (x->reply.committed || outbox_held(&x->reply.out) > 0);
}

/* Makes up a response that is new to the client, because perhaps no upstream has begun one. */
static struct guard_response own_response(const struct exchange *x)
{
    struct guard_response r = {.created_at = x->ops->unix_ms(x->world) / 1000};

    snprintf(r.id, sizeof(r.id), "resp_%s", x->request.id);
    return r;
}

/* The events that report the failure. A response that has begun must end with response.failed; the
 * SDKs raise the error event after it. If it has not begun, the error comes first, because some
 * SDKs fail on response.failed itself there; response.failed follows for clients that read no error
 * event. */
struct telling {
    bool passed; /* the upstream's own last event was added */
    bool failed_first, error, failed_last;
};

/* If memory is short, the error event may suffice. */
static void add_failed(struct exchange *x, uint64_t *sequence, struct str object)
{
    const struct guard_response *known = &x->stream.guard.response;
    struct guard_response own = own_response(x);

    if (error_event_failed(&x->reply.out.bytes, known->id[0] ? known : &own, *sequence, object) < 0)
        return;
    x->reply.events++;
    *sequence += 1;
}

static int add_error(struct exchange *x, const struct guard_seen *seen, const struct telling *t)
{
    uint64_t sequence = next_sequence(x, t->passed ? seen : NULL);
    enum dialect dialect = x->stream.guard.dialect;
    struct buf object;
    int rc;

    buf_init(&object, ERROR_TEXT_MAX);
    if (seen)
        rc = error_object_of(&object, seen->data, &seen->error);
    else
        rc = kept_error_counts(x) ? kept_object(&x->kept, &object) : own_object(x, &object);
    if (rc == 0 && t->failed_first)
        add_failed(x, &sequence, buf_str(&object));
    if (rc == 0 && t->error) {
        rc = error_event_write(&x->reply.out.bytes, dialect, sequence++, buf_str(&object));
        x->reply.events++;
    }
    if (rc == 0 && t->failed_last)
        add_failed(x, &sequence, buf_str(&object));
    buf_deinit(&object);
    return t->error ? rc : 0;
}

/* Adds the event that reports the failure to the response on its way: the upstream's own error
 * event if it sent one; nothing to a stream of an unknown API. Returns 0 or -ENOMEM. */
static int add_last_words(struct exchange *x)
{
    const struct guard_seen *seen =
        x->stream.last_words.event.n > 0 ? x->stream.last_words.seen : NULL;
    enum dialect dialect = x->stream.guard.dialect;
    bool begun = has_response(x), is_out = false, has_failed;
    bool raised = seen && seen->raised && !begun;
    struct telling t;

    if (seen && (raised || seen->is_response || dialect == DIALECT_OTHER)) {
        int rc = add_last_event(x, seen, &is_out);
        if (rc < 0)
            return rc;
    }
    if (dialect == DIALECT_OTHER)
        return 0; /* retryd's own event might be taken for a part of the response */
    has_failed = is_out && seen->is_response;
    t = (struct telling){is_out, begun && !has_failed, !raised,
                         dialect == DIALECT_RESPONSES && !begun && !has_failed};
    return t.error || t.failed_last ? add_error(x, seen, &t) : 0;
}

/* --- headers of every response ---------------------------------------------------------------- */

/* Returns the current facts of C25. `received`: the status that the upstream sent; 0 for an error
 * of retryd's own. */
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
        .decoded = received && x->stream.on && x->stream.encoded,
    };
}

uint64_t relay_upstream_length(const struct headers *h)
{
    struct str v;
    uint64_t n;

    return headers_get(h, STR("content-length"), &v) && str_to_u64(v, &n) ? n : LENGTH_UNKNOWN;
}

/* Whether the response has no body. It still states the length that the body would have had. */
static bool bodiless(const struct exchange *x, unsigned status)
{
    return http_request_is(&x->request.http, "HEAD") || status == 204 || status == 304;
}

/* --- whole responses -------------------------------------------------------------------------- */

/* The upstream's headers exceed the room of the client's connection. The client gets an error of
 * retryd's own, with small headers, instead of an unexplained break. */
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

/* Hands a whole response over. If that fails, the client's connection breaks. */
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
    x->stream.on = false; /* whatever the last attempt was: the kept error is not decoded */
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
    for (unsigned i = 0; rc == 0 && i < h->count; i++) /* the body is decoded */
        if (!str_ieq(headers_name(h, i), STR("content-encoding")))
            rc = headers_add(&kept->headers, headers_name(h, i), headers_value(h, i));
    if (rc == 0 && held > 0)
        rc = buf_add(&kept->body, out->bytes.p + out->released, held);
    if (rc == 0)
        rc = buf_add_str(&kept->body, x->stream.last_words.event);
    return rc;
}

void relay_kept_response(struct exchange *x)
{
    exchange_stop_attempt(x);
    hedge_drop(x);
    placement_leave(x);
    outbox_drop_held(&x->reply.out);
    x->stream.on = false;
    if (x->reply.begun) {
        /* The client has the headers, and heartbeats after them. */
        struct reply *reply = &x->reply;
        reply->cut = outbox_add(&reply->out, buf_str(&x->kept.body)) < 0;
        reply->ended = true;
        reply->first_byte_ms = x->ops->now_ms(x->world);
        if (x->state != EXCHANGE_RELAYING)
            exchange_set(x, EXCHANGE_RELAYING);
        relay_release(x);
    } else
        relay_kept_error(x);
}

void relay_own_error(struct exchange *x, enum exchange_end end, unsigned status, enum reason reason,
                     const char *code, const char *message)
{
    struct response_facts f = facts(x, 0, reason);
    struct http_response response;
    struct buf body;

    f.dialect =
        dialect_of(http_request_path(&x->request.http)); /* the request's own may not be set yet */
    http_response_init(&response);
    buf_init(&body, OWN_BODY_MAX);
    if (response_own_error(&response, &body, status, message,
                           reason == REASON_RATE_LIMIT          ? "rate_limit_error"
                           : end == END_REFUSED && status < 500 ? "invalid_request_error"
                                                                : "server_error",
                           code, &f) < 0) {
        x->ops->response_cut(x->world, x);
        exchange_end(x, END_BROKEN);
    } else {
        hand_over(x, &response, &body, end);
    }
    buf_deinit(&body);
    http_response_deinit(&response);
}

/* --- responses that go out as they come ------------------------------------------------------- */

/* Sends the headers. Returns false if that fails; then the exchange has ended. */
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

/* Begins with the headers of the attempt's response. */
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

/* Moves the held part of a response that is too long to hold out of memory: the client may be
 * slow. */
static void begin_bytes(struct exchange *x)
{
    struct outbox *out = &x->reply.out;

    if (outbox_move(out, &x->attempt->body) < 0)
        return; /* it stays in memory and goes out from there */
    outbox_release(out);
    if (outbox_waiting(out) > RELAY_WAITING_MAX)
        (void)outbox_unload(out, KEEP_IN_MEMORY);
}

/* Commit: from here on the client has a part of this response. Another attempt can take over only
 * if it continues it, spliced or resumed. */
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
        stream->but_usage = false; /* the kept response is not the one that the client has now */
    }
    mending_end(x);
    reply->committed = true;
    reply->upstream = &x->attempt->headers;
    hedge_drop(x);
    placement_tell_good(x, TURN_BEGUN);
    x->kept.present = x->kept.good = false; /* it belongs to an earlier attempt */
    if (!(stream->splice && splice_possible(stream->splice)) &&
        !(stream->on && stream_resumable(x)))
        exchange_cannot_retry(x, "the response is committed");
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
    x->reply.cut = stream_add_end(x) < 0; /* behind the held events: splice relies on that */
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

/* --- responses that fail ---------------------------------------------------------------------- */

/* HTTP/1.0: sends the failure as a whole response, with its length. */
static void tell_whole(struct exchange *x)
{
    x->stream.on = true; /* the body stays decoded */
    x->end = END_FAILED;
    if (add_last_words(x) < 0) {
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
    /* The held events announce the response that the upstream's own error event ends. */
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
    /* If memory is short, the connection breaks instead. If clients of the API might not take an
     * event for an error, it breaks in any case. */
    reply->cut = add_last_words(x) < 0 || !dialect_ends_by_event(stream->guard.dialect);
    x->end = reply->committed ? END_BROKEN : END_FAILED;
    reply->ended = true;
    if (reply->first_byte_ms == 0)
        reply->first_byte_ms = x->ops->now_ms(x->world);
    if (x->state != EXCHANGE_RELAYING)
        exchange_set(x, EXCHANGE_RELAYING);
    relay_release(x);
}

/* --- relaying --------------------------------------------------------------------------------- */

/* An attempt may still run if the rest of the response was lost. */
void relay_finish(struct exchange *x)
{
    exchange_stop_attempt(x);
    if (x->end == END_NONE)
        x->end = x->reply.status < 400 ? END_ANSWERED : END_FAILED;
    exchange_end(x, x->end);
}

void relay_step(struct exchange *x)
{
    if (x->reply.out.moved > 0)
        (void)outbox_unload(&x->reply.out, 0); /* if that fails, it stays in memory */
    if (x->reply.ended)
        return;
    if (x->stream.on) {
        stream_step(x);
    } else {
        /* The bytes of a response that is no stream are forwarded as they come, and so is a
         * break. */
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
            /* `lost`: memory is short here, which is not the upstream's fault. */
            struct verdict v = {
                .kind = VERDICT_FINAL, .reason = REASON_TRUNCATED, .ambiguous = true};
            struct hint none = {.source = HINT_NONE};
            if (!x->reply.cut)
                placement_tell_good(x, TURN_OVER);
            else if (!lost)
                placement_tell(x, &v, &none);
        }
        relay_release(x);
        a->high_water = relay_mark(x);
        if (!reply->ended && a->paused && outbox_waiting(&reply->out) < RELAY_WAITING_MAX / 2)
            relay_resume(x);
    }
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
    if (n < 0) { /* the spool has failed, and its bytes are lost */
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
