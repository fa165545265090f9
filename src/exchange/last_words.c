/* The last words of a stream that failed: the one event that tells its client so (C12). */
#include <errno.h>
#include <stdio.h>

#include "exchange/exchange_private.h"
#include "http/decode.h"
#include "http/json_scan.h"
#include "stream/error_event.h"

#define ERROR_TEXT_MAX (256 * 1024)

static int own_object(const struct exchange *x, struct buf *out)
{
    char message[ATTEMPT_DETAIL_MAX + 320];
    const char *code = reason_word(x->last_reason);

    snprintf(message, sizeof(message), "retryd: %s upstream %s %s: %s%s%s",
             x->reply.committed ? "the stream from" : "no answer from", targets_name(x),
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
static int write_head(const struct headers *stream, struct headers *out)
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
    if (write_head(&x->attempt->headers, &kept->headers) < 0 ||
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
    struct str coding = {NULL, 0};
    struct apierror error;
    struct buf text;
    int rc;

    buf_init(&text, ERROR_TEXT_MAX);
    headers_get(&kept->headers, STR("content-encoding"), &coding);
    rc = decode_body(coding, buf_str(&kept->body), &text);
    apierror_parse(buf_str(&text), &error);
    if (rc == 0)
        rc = error_event_object(out, buf_str(&text), &error);
    buf_deinit(&text);
    return rc;
}

/* Numbers go on behind those that the client has. `seen`: the upstream's own last event, or NULL. */
static uint64_t next_sequence(const struct exchange *x, const struct guard_seen *seen)
{
    const struct splice *splice = x->stream.splice;
    uint64_t sequence = x->stream.guard.sequence;
    uint64_t last;

    if (!splice && seen && seen->is_answer &&
        json_to_u64(json_scan_one(seen->data, STR("sequence_number")), &last))
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

/* `failed`: whether response.failed comes first. */
static int add_error(struct exchange *x, const struct guard_seen *seen, bool failed)
{
    uint64_t sequence = next_sequence(x, seen);
    struct buf *out = &x->reply.out.bytes;
    struct buf object;
    int rc;

    buf_init(&object, ERROR_TEXT_MAX);
    if (seen)
        rc = error_event_object(&object, seen->data, &seen->error);
    else
        rc = kept_error_counts(x) ? kept_object(&x->kept, &object) : own_object(x, &object);
    if (rc == 0 && failed &&
        error_event_failed(out, &x->stream.guard.response, sequence, buf_str(&object)) == 0) {
        sequence++; /* without memory for it the error event may do */
        x->reply.events++;
    }
    if (rc == 0)
        rc = error_event_write(out, x->stream.guard.dialect, sequence, buf_str(&object));
    buf_deinit(&object);
    x->reply.events++;
    return rc;
}

int last_words_add(struct exchange *x)
{
    const struct guard_seen *seen =
        x->stream.last_words.event.n > 0 ? x->stream.last_words.seen : NULL;
    bool failed = has_response(x);
    bool raised = seen && seen->raised && !failed;
    bool unknown = x->stream.guard.dialect == DIALECT_OTHER;

    if (seen && (raised || seen->is_answer || unknown)) {
        bool is_out;
        int rc = add_last_event(x, seen, &is_out);
        if (raised || rc < 0)
            return rc;
        failed &= !(is_out && seen->is_answer);
    }
    if (unknown)
        return 0; /* ours might be taken for a part of the answer */
    return add_error(x, seen, failed);
}
