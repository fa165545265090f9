/* The last words of a stream that failed: the one event that tells its client so (C12). */
#include <errno.h>
#include <stdio.h>

#include "exchange/exchange_private.h"
#include "http/decode.h"
#include "http/json.h"
#include "stream/error_event.h"

#define ERROR_TEXT_MAX (256 * 1024)

static int own_object(const struct exchange *x, struct buf *out)
{
    char message[ATTEMPT_DETAIL_MAX + 320];
    const char *code = reason_word(x->last_reason);

    snprintf(message, sizeof(message), "retryd: %s upstream %s %s: %s%s%s",
             x->reply.committed ? "the stream from" : "no answer from", placement_name(x),
             x->reply.committed ? "broke" : "came", x->last_detail[0] ? x->last_detail : code,
             x->cannot_retry ? "; not asked again: " : "", x->cannot_retry ? x->cannot_retry : "");
    return error_event_own(out, message, code);
}

/* The event as the body of an answer. 0 or -ENOMEM. */
static int write_body(const struct exchange *x, const struct guard_seen *seen, struct buf *out)
{
    bool messages = x->stream.guard.dialect == DIALECT_MESSAGES;

    (void)buf_add_str(out, messages ? STR("{\"type\":\"error\",\"error\":") : STR("{\"error\":"));
    if (error_event_object(out, seen->data, &seen->error) < 0 || buf_addc(out, '}') < 0)
        return -ENOMEM;
    return 0;
}

/* The stream's head with what says of which type and in which coding it is left out. 0 or -errno. */
static int write_headers(const struct headers *stream, struct headers *out)
{
    int rc = headers_add(out, STR("Content-Type"), STR("application/json"));

    for (unsigned i = 0; rc == 0 && i < stream->count; i++) {
        struct str name = headers_name(stream, i);

        if (!str_ieq(name, STR("content-type")) && !str_ieq(name, STR("content-encoding")) &&
            !str_ieq(name, STR("cache-control")))
            rc = headers_add(out, name, headers_value(stream, i));
    }
    return rc;
}

void last_words_keep(struct exchange *x)
{
    const struct guard_seen *seen = x->stream.last_words.seen;
    struct kept_error *kept = &x->kept;

    kept->present = false;
    headers_reset(&kept->headers);
    buf_reset(&kept->body, ERROR_TEXT_MAX);
    if (write_headers(&x->attempt->headers, &kept->headers) < 0 ||
        write_body(x, seen, &kept->body) < 0)
        return;
    kept->present = true;
    kept->status = apierror_status(&seen->error);
    kept->received = x->attempt->status;
    kept->attempt = x->attempts;
}

/* The kept error answer, whatever its coding. */
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
        rc = error_event_object(out, buf_str(&text), &error);
    buf_deinit(&text);
    return rc;
}

/* Numbers go on behind those that the client has. `passed`: the upstream's own last event, if it has that
 * one, else NULL. */
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

/* Before a part of an answer is with the client, the upstream's last word counts. After that, how
 * that answer ended. */
static bool kept_error_counts(const struct exchange *x)
{
    return x->kept.present && (!x->reply.committed || x->kept.attempt == x->attempts);
}

/* The upstream's own last event; behind a splice with the ids and numbers that the client knows. One
 * that does not fit behind what the client has stays away. */
static int add_last_event(struct exchange *x, const struct guard_seen *seen, bool *ret_out)
{
    struct stream *stream = &x->stream;
    enum splice_action action = SPLICE_PASS;

    buf_reset(&stream->rewritten, SIZE_MAX);
    if (stream->splice && seen->is_answer)
        action =
            splice_event(stream->splice, stream->last_words.event, seen->data, &stream->rewritten);
    *ret_out = action == SPLICE_PASS || action == SPLICE_REWRITTEN;
    if (!*ret_out)
        return 0;
    x->reply.events++;
    return outbox_add(&x->reply.out, action == SPLICE_PASS ? stream->last_words.event
                                                           : buf_str(&stream->rewritten));
}

/* Whether the client has the beginning of a response, which response.failed ends. Without one some
 * readers take that event for a fault of its own. */
static bool has_response(const struct exchange *x)
{
    const struct guard *guard = &x->stream.guard;

    return guard->dialect == DIALECT_RESPONSES && guard->response.id[0] && x->reply.events > 0 &&
           (x->reply.committed || outbox_held(&x->reply.out) > 0);
}

/* Of one that the client knows nothing of: nobody may have begun it. */
static struct guard_response own_response(const struct exchange *x)
{
    struct guard_response r = {.created_at = x->ops->unix_ms(x->world) / 1000};

    snprintf(r.id, sizeof(r.id), "resp_%s", x->request.id);
    return r;
}

/* Which events tell it. A response that the client has the beginning of has to end as failed, and the
 * SDKs raise the error behind it. Where it has no beginning the error comes first, for some of them take
 * response.failed for a fault of its own there; it comes behind, for clients that read no error event. */
struct telling {
    bool passed; /* the upstream's own last event is out */
    bool failed_first, error, failed_last;
};

/* Without memory for it the error event may do. */
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
        rc = error_event_object(&object, seen->data, &seen->error);
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

int last_words_add(struct exchange *x)
{
    const struct guard_seen *seen =
        x->stream.last_words.event.n > 0 ? x->stream.last_words.seen : NULL;
    enum dialect dialect = x->stream.guard.dialect;
    bool begun = has_response(x), is_out = false, has_failed;
    bool raised = seen && seen->raised && !begun;
    struct telling t;

    if (seen && (raised || seen->is_answer || dialect == DIALECT_OTHER)) {
        int rc = add_last_event(x, seen, &is_out);
        if (rc < 0)
            return rc;
    }
    if (dialect == DIALECT_OTHER)
        return 0; /* ours might be taken for a part of the answer */
    has_failed = is_out && seen->is_answer;
    t = (struct telling){is_out, begun && !has_failed, !raised,
                         dialect == DIALECT_RESPONSES && !begun && !has_failed};
    return t.error || t.failed_last ? add_error(x, seen, &t) : 0;
}
