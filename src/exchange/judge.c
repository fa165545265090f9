/* Judges attempts: delivers the response, makes another attempt, or reports the failure. */
#include <stdio.h>
#include <string.h>

#include "exchange/exchange_private.h"
#include "http/decode.h"
#include "http/dialect.h"
#include "stream/completion.h"

/* --- the content of a complete response ------------------------------------------------------- */

#define TEXT_MAX (256 * 1024) /* bytes of a decoded body that are read; the rest does not matter */

/* The content of a complete response. */
struct contents {
    struct apierror error; /* kind NONE: no error */
    bool silent;           /* an empty completion, if the response is complete */
};

static bool holds(struct str text, const char *word)
{
    return str_find(text, str_from(word)) != NULL;
}

static bool creates_response(const struct exchange *x)
{
    return x->held.due && x->request.dialect == DIALECT_RESPONSES;
}

/* Returns whether the fields that every response of this API has are missing. Any other text in the
 * body is then an error, whatever the status is. */
static bool lacks_response(const struct exchange *x, struct str text)
{
    if (!x->held.due || x->attempt->status == 202) /* 202: accepted, the result comes later */
        return false;
    switch (x->stream.guard.dialect) {
    case DIALECT_CHAT:
    case DIALECT_COMPLETIONS:
        return !holds(text, "\"choices\"") || holds(text, "\"base_resp\"");
    case DIALECT_RESPONSES:
        return !holds(text, "\"output\"");
    case DIALECT_MESSAGES:
        return !holds(text, "\"content\"");
    default:
        return false;
    }
}

/* Whether the text may hold an error. Most good responses hold none and need no parser: every form
 * of an error contains "error" in quotes, as a key, a type or a finish reason; or a response has
 * failed. An array is just a list, except where an API responds with one. */
static bool may_hold_error(const struct exchange *x, struct str text)
{
    bool array = x->held.due || x->request.dialect == DIALECT_GEMINI;

    if (x->attempt->status >= 400)
        return true;
    if (text.n == 0 || (text.p[0] != '{' && !(array && text.p[0] == '[')))
        return false;
    return holds(text, "\"error\"") || (creates_response(x) && holds(text, "\"failed\"")) ||
           lacks_response(x, text);
}

static void read_text(const struct exchange *x, struct str text, struct contents *ret)
{
    const struct attempt *a = x->attempt;

    text = str_trim(text);
    if (may_hold_error(x, text)) {
        if (a->status < 400 && creates_response(x))
            apierror_parse_response(text, &ret->error);
        else
            apierror_parse(text, &ret->error);
    }
    if (ret->error.kind == APIERROR_NONE && ret->error.message[0] != '\0' &&
        lacks_response(x, text))
        ret->error.kind = ret->error.loose;
    if (a->status >= 400 && ret->error.kind == APIERROR_NONE)
        ret->error.kind = ret->error.loose;
    ret->silent = a->done && a->status < 300 && x->held.due && ret->error.kind == APIERROR_NONE &&
                  completion_is_empty(x->stream.guard.dialect, text);
}

/* Reads the attempt's response as far as it has come, decoded. */
static void read_contents(const struct exchange *x, struct contents *ret)
{
    const struct attempt *a = x->attempt;
    struct str encoding = {NULL, 0}, body = buf_str(&a->body);
    struct buf text;

    memset(ret, 0, sizeof(*ret));
    if (a->status < 400 && !x->held.due && !response_is_type(&a->headers, STR("application/json")))
        return;
    headers_get(&a->headers, STR("content-encoding"), &encoding);
    if (encoding.n == 0) {
        if (body.n > TEXT_MAX && a->status >= 400)
            body.n = TEXT_MAX;
        read_text(x, body, ret);
        return;
    }
    buf_init(&text, TEXT_MAX);
    if (decode_body(encoding, body, &text) == 0)
        read_text(x, buf_str(&text), ret);
    buf_deinit(&text);
}

/* --- verdicts --------------------------------------------------------------------------------- */

/* A response with a good status that holds an error is delivered with the error's own status. */
static unsigned status_to_tell(unsigned status, const struct apierror *e)
{
    if (status >= 400 || !e || e->kind == APIERROR_NONE)
        return status;
    return e->status ? e->status : 502;
}

static void keep_error_response(struct exchange *x, unsigned status)
{
    struct attempt *a = x->attempt;
    struct kept_error before = x->kept;

    if (status < 400) /* a good response, but no stream: it can no longer be delivered */
        return;
    x->kept = (struct kept_error){
        .present = true,
        .status = status,
        .received = a->status,
        .attempt = x->attempts,
        .headers = a->headers,
        .body = a->body,
    };
    a->headers = before.headers;
    a->body = before.body;
}

/* For a repeat that was not tried: the client gets the last error again. */
#define FAILED_BEFORE " This request failed before: "

bool judge_deliver_what_came(struct exchange *x)
{
    bool came = x->kept.good || x->stream.but_usage;

    x->stream.lacks_usage = x->stream.but_usage;
    if (x->kept.good)
        relay_kept_response(x);
    else if (came)
        relay_end_without_usage(x);
    return came;
}

static void tell_failure(struct exchange *x)
{
    char message[ATTEMPT_DETAIL_MAX + 512 + FAILURE_WORDS];
    const char *advice = response_advice(x->last_reason), *words = repeat_words(x);

    if (judge_deliver_what_came(x))
        return;
    if (x->reply.begun || x->stream.last_words.event.n > 0) {
        relay_last_words(x);
        return;
    }
    if (x->kept.present) {
        relay_kept_error(x);
        return;
    }
    snprintf(
        message, sizeof(message),
        "retryd: no response from upstream %s after %u attempt%s: %s. Not retried: %s.%s%s%s%s",
        placement_name(x), x->attempts, x->attempts == 1 ? "" : "s",
        x->last_detail[0] ? x->last_detail : reason_word(x->last_reason),
        x->cannot_retry ? x->cannot_retry : "no reason is known", *advice ? " " : "", advice,
        *words ? FAILED_BEFORE : "", words);
    relay_own_error(x, END_FAILED, 0, x->last_reason, NULL, message);
}

/* Whether the server behind the connection looks broken, and not just busy or unwilling. A kept
 * connection leads to the same server each time, even if the name has others that work, or by now
 * stands for another. */
static bool is_sick(const struct outcome *o, const struct verdict *v)
{
    if (o->transport != TRANSPORT_WHOLE)
        return o->transport != TRANSPORT_INTERNAL;
    if (o->status >= 400)
        return o->status >= 500;
    switch (v->reason) {
    case REASON_OVERLOADED:
    case REASON_SERVER_ERROR:
    case REASON_BAD_GATEWAY:
    case REASON_GATEWAY_TIMEOUT:
    case REASON_ERROR_IN_BODY:
    case REASON_ERROR_IN_STREAM:
    case REASON_EMPTY_STREAM:
    case REASON_MALFORMED:
    case REASON_TRUNCATED:
    case REASON_BAD_RESPONSE:
        return true;
    case REASON_EMPTY_RESPONSE:
        return !o->silent;
    default:
        return false;
    }
}

static void report(struct exchange *x, const struct outcome *o, const struct verdict *v,
                   const struct retry_decision *d, const struct hint *hint)
{
    struct attempt_report r = {
        .verdict = *v,
        .number = x->attempt->number,
        .status = o->status,
        .decision = *d,
        .hint = *hint,
        .error = o->error,
        .detail = x->attempt->detail,
        .duration_ms = x->ops->now_ms(x->world) - x->attempt->started_ms,
        .duplicate = v->ambiguous && d->action == RETRY_AGAIN,
        .sick = is_sick(o, v),
        .attempt = x->attempt,
    };

    if (r.sick)
        placement_note_sick(x);
    x->last_reason = v->reason;
    snprintf(x->last_detail, sizeof(x->last_detail), "%s", x->attempt->detail);
    repeat_note_failure(x, o);
    if (r.duplicate)
        x->duplicates++;
    x->ops->attempt_failed(x->world, x, &r);
}

static bool is_whole(const struct exchange *x, const struct outcome *o)
{
    return x->attempt->done && o->transport == TRANSPORT_WHOLE && !x->stream.on;
}

static void deliver(struct exchange *x, const struct outcome *o)
{
    if (is_whole(x, o))
        relay_whole(x, status_to_tell(o->status, o->error));
    else
        relay_commit(x);
}

/* Keeps the upstream's error, which may turn out to be the final one. */
static void keep_error(struct exchange *x, const struct outcome *o)
{
    if (x->kept.good)
        return;
    if (x->stream.last_words.event.n > 0 && !x->reply.committed && !x->stream.resuming)
        relay_keep_error_event(x);
    else if (is_whole(x, o) && o->headers && !o->empty && !o->malformed && !x->stream.resuming)
        keep_error_response(x, status_to_tell(o->status, o->error));
}

static void try_again(struct exchange *x, const struct outcome *o, const struct verdict *v,
                      const struct retry_decision *d)
{
    struct stream *stream = &x->stream;

    exchange_stop_attempt(x);
    keep_error(x, o);
    stream->resuming = stream_resumable(x);
    if (x->reply.committed)
        relay_release(x); /* bytes that another attempt continues */
    else if (!stream->resuming)
        outbox_drop_held(&x->reply.out);
    placement_move(x, v, d->move);
    x->backoff_since = x->ops->now_ms(x->world);
    x->next_at_ms = x->backoff_since + d->delay_ms;
    exchange_set(x, EXCHANGE_BACKOFF);
}

/* Delivers the upstream's own error, even if its body is still arriving, or an error of retryd's
 * own if there is none. */
static void give_up(struct exchange *x, const struct outcome *o)
{
    bool is_response =
        o->headers && o->transport == TRANSPORT_WHOLE && !o->empty && !o->malformed && !o->differs;

    if (is_response && !x->stream.on && !x->reply.begun) {
        x->end = END_FAILED;
        deliver(x, o);
        return;
    }
    if (is_response && is_whole(x, o))
        keep_error_response(x, status_to_tell(o->status, o->error));
    exchange_stop_attempt(x);
    tell_failure(x);
}

/* The headers count only if the response is an error: some providers put Retry-After into every
 * good response. */
static struct hint hint_of(const struct exchange *x, const struct outcome *o)
{
    bool is_error = o->status >= 400 || (!o->stream && o->error && o->error->kind != APIERROR_NONE);

    return hint_read(is_error ? o->headers : NULL, o->headers ? o->error : NULL,
                     x->ops->unix_ms(x->world), x->plan.settings->retry.backoff.max_delay_ms);
}

/* --- empty completions ------------------------------------------------------------------------ */

bool judge_may_ask_again(struct exchange *x, const struct outcome *o)
{
    const struct request *r = &x->request;
    struct verdict v;

    if (x->asked_again || x->reply.committed || x->hedge.rival || x->stream.resuming ||
        x->reply.out.spool || (x->reply.begun && !x->stream.on) || r->background)
        return false;
    /* A larger or packed body cannot be checked any more, and it costs most. */
    if (!http_request_is(&r->http, "POST") || !body_is_plain(&r->body) ||
        completion_may_be_empty(body_text(&r->body)))
        return false;
    v = classify(o, x->plan.settings->retry.retry_on);
    return placement_would_repeat(x, &v);
}

/* Keeps the response in case no better one comes. Returns 0 or -ENOMEM. */
static int keep_response(struct exchange *x)
{
    struct kept_error *kept = &x->kept;
    struct attempt *a = x->attempt;
    int rc = 0;

    if (x->stream.on) {
        rc = relay_keep_stream(x);
    } else {
        struct kept_error before = *kept;
        kept->headers = a->headers;
        kept->body = a->body;
        a->headers = before.headers;
        a->body = before.body;
    }
    kept->present = kept->good = rc == 0;
    kept->status = kept->received = a->status;
    kept->attempt = x->attempts;
    return rc;
}

/* Makes one more attempt and no further one (C3). Its response is delivered as it is; if it fails,
 * the first one is. The target is not to blame: the attempt counts as good. */
static void ask_again(struct exchange *x, const struct outcome *o)
{
    struct verdict v = classify(o, x->plan.settings->retry.retry_on);
    struct hint none = {.source = HINT_NONE};
    struct retry_decision d;

    x->asked_again = true;
    snprintf(x->attempt->detail, sizeof(x->attempt->detail), "the completion is empty");
    if (keep_response(x) < 0) {
        x->stream.last_words.event.n = 0; /* it is no error */
        judge_transport(x, TRANSPORT_INTERNAL);
        return;
    }
    placement_tell_good(x, TURN_OVER);
    d = placement_decide(x, &v, &none);
    report(x, o, &v, &d, &none);
    if (d.action == RETRY_AGAIN)
        try_again(x, o, &v, &d);
    else
        relay_kept_response(x);
}

void judge_without_usage(struct exchange *x, const struct outcome *o)
{
    struct verdict v = classify(o, x->plan.settings->retry.retry_on);
    struct hint none = {.source = HINT_NONE};
    struct retry_decision d;

    mending_begin(x);
    x->asked_again = x->stream.but_usage = true;
    if (!x->reply.committed && (stream_add_end(x) < 0 || keep_response(x) < 0)) {
        judge_transport(x, TRANSPORT_INTERNAL);
        return;
    }
    placement_tell(x, &v, &none);
    d = placement_decide(x, &v, &none);
    report(x, o, &v, &d, &none);
    if (d.action == RETRY_AGAIN)
        try_again(x, o, &v, &d);
    else
        (void)judge_deliver_what_came(x);
}

/* --- all other responses ---------------------------------------------------------------------- */

/* Judges an attempt that is over, or of which enough has come: delivers, repeats or gives up. */
static void judge(struct exchange *x, const struct outcome *o)
{
    struct stream *stream = &x->stream;
    struct verdict v = classify(o, x->plan.settings->retry.retry_on);
    struct retry_decision d;
    struct hint hint;

    if (o->silent && !x->stream.but_usage) {
        ask_again(x, o);
        return;
    }
    if (v.kind == VERDICT_GOOD && stream->resuming && !x->reply.begun) {
        /* It is not the rest of the stream: start from the beginning. */
        stream->not_resumable = true;
        v = (struct verdict){
            .kind = VERDICT_RETRY, .reason = REASON_BAD_RESPONSE, .ambiguous = true};
    } else if (v.kind == VERDICT_GOOD && x->reply.begun) {
        snprintf(x->attempt->detail, sizeof(x->attempt->detail),
                 "a response that is no event stream");
        v = (struct verdict){
            .kind = VERDICT_FINAL, .reason = REASON_BAD_RESPONSE, .ambiguous = true};
    }
    if (stream->resuming && !x->reply.committed && v.kind == VERDICT_FINAL && o->status >= 400) {
        /* The stream cannot be resumed, but the client has none of it. */
        stream->not_resumable = true;
        v = (struct verdict){.kind = VERDICT_RETRY, .reason = v.reason, .ambiguous = true};
    }
    if (v.reason == REASON_KEY && placement_finds_other_key(x)) {
        snprintf(x->attempt->detail, sizeof(x->attempt->detail),
                 "the key file has changed; the next attempt uses its new key");
        v.kind = VERDICT_RETRY;
        v.new_key = true;
    }
    if (stream_resumable(x))
        v.ambiguous = false; /* the upstream's response is resumed, not created twice */
    if (v.kind == VERDICT_GOOD) {
        x->last_reason = REASON_OK;
        placement_tell_good(x, is_whole(x, o) ? TURN_OVER : TURN_BEGUN);
        hedge_drop(x);
        deliver(x, o);
        return;
    }
    hint = hint_of(x, o);
    placement_tell(x, &v, &hint);
    if (x->hedge.rival) {
        d = (struct retry_decision){.action = RETRY_GIVE_UP,
                                    .why_not = "the other of two attempts goes on"};
        report(x, o, &v, &d, &hint);
        placement_note(x, &v);
        keep_error(x, o); /* it may turn out to be the final error */
        outbox_drop_held(&x->reply.out);
        guard_reset(&x->stream.guard); /* no resuming: the other attempt is at another target */
        (void)hedge_goes_on(x);
        return;
    }
    if (x->kept.good || x->stream.but_usage) {
        /* The repeat has failed. */
        struct retry_decision spare = {
            .action = RETRY_GIVE_UP,
            .why_not = x->stream.but_usage ? "all but the usage came before, and is delivered"
                                           : "an empty completion came before, and is delivered"};
        report(x, o, &v, &spare, &hint);
        (void)judge_deliver_what_came(x);
        return;
    }
    d = placement_decide(x, &v, &hint);
    report(x, o, &v, &d, &hint);
    if (d.action == RETRY_AGAIN)
        try_again(x, o, &v, &d);
    else
        give_up(x, o);
}

bool judge_may_repeat(struct exchange *x, const struct outcome *o)
{
    struct verdict v = classify(o, x->plan.settings->retry.retry_on);

    if (x->reply.committed)
        mending_set_deadline(x);
    return placement_would_repeat(x, &v);
}

void judge_transport(struct exchange *x, enum transport t)
{
    struct outcome o = {.transport = t};

    judge(x, &o);
}

void judge_stream(struct exchange *x, const struct outcome *o)
{
    mending_begin(x);
    judge(x, o);
}

bool judge_may_have_body(const struct exchange *x, unsigned status)
{
    return status >= 200 && status < 300 && status != 204 && status != 205 &&
           !http_request_is(&x->request.http, "HEAD");
}

/* Whether the response is checked: a good status must come with the body that the headers
 * promise. */
static bool is_inspected(const struct exchange *x)
{
    return judge_may_have_body(x, x->attempt->status);
}

/* Whether the response is longer than may be held, so that it need not be held at all; or memory is
 * short. */
static bool is_too_long(const struct exchange *x)
{
    const struct attempt *a = x->attempt;
    uint64_t n = x->held.length;

    if (a->status >= 400)
        return false;
    return (n != LENGTH_UNKNOWN && n > x->limits.hold_limit) ||
           (a->body.len > RELAY_WAITING_MAX && x->ops->pressed(x->world));
}

void judge_start(struct exchange *x)
{
    struct held_response *held = &x->held;
    struct attempt *a = x->attempt;

    held->inspected = 0;
    held->length = relay_upstream_length(&a->headers);
    if (!is_too_long(x)) {
        a->high_water = x->limits.hold_limit;
        if (a->paused && !a->done && a->body.len < a->high_water)
            relay_resume(x);
    }
    inspect_deinit(&held->inspect);
    held->due = is_inspected(x) && x->request.generates;
    if (is_inspected(x))
        inspect_begin(&held->inspect, &x->attempt->headers, held->due);
}

/* A response that was requested as a stream may be one, whatever its label is. Returns false while
 * its first bytes leave that open, or if they show a stream. */
static bool is_no_stream(struct exchange *x)
{
    const struct attempt *a = x->attempt;
    enum sse_begin begin = exchange_is_stream(x, a);

    if (begin == SSE_BEGIN_YES) {
        inspect_deinit(&x->held.inspect);
        exchange_begin_stream(x);
        stream_step(x);
        return false;
    }
    x->held.open = begin == SSE_BEGIN_OPEN && !a->done && !a->paused;
    return !x->held.open;
}

void judge_held(struct exchange *x)
{
    struct attempt *a = x->attempt;
    enum inspect_end end = INSPECT_NOTHING;
    struct contents contents;
    struct outcome o = {
        .transport = a->done ? a->transport : TRANSPORT_WHOLE,
        .status = a->status,
        .headers = &a->headers,
        .error = &contents.error,
    };

    if (x->held.open && !is_no_stream(x))
        return;
    if (is_inspected(x)) {
        struct held_response *held = &x->held;
        struct str body = buf_str(&x->attempt->body);
        if (body.n > held->inspected)
            inspect_feed(&held->inspect, str_after(body, held->inspected));
        held->inspected = body.n;
        end = a->done && a->transport == TRANSPORT_WHOLE ? inspect_end(&x->held.inspect) : end;
    }
    if (!a->done && !a->paused && !is_too_long(x))
        return;
    if (o.transport == TRANSPORT_WHOLE) {
        /* Many operations succeed with JSON's label and an empty body (DELETE, hanging up a call,
         * 202). If the request generates, that is a fault. */
        struct attempt *attempt = x->attempt;
        o.empty = end == INSPECT_EMPTY && x->held.due && attempt->status != 202;
        o.malformed = end == INSPECT_BAD;
        if (o.empty || o.malformed)
            snprintf(attempt->detail, sizeof(attempt->detail), "%s came in place of a response",
                     inspect_what(&x->held.inspect));
    }
    read_contents(x, &contents);
    if (contents.silent && end == INSPECT_GOOD) {
        o.silent = true;
        o.silent = judge_may_ask_again(x, &o);
    }
    judge(x, &o);
}

static void describe_deadline(const struct exchange *x, char out[ATTEMPT_DETAIL_MAX])
{
    unsigned long long ms = x->deadline.at_ms - x->deadline.since_ms;

    if (x->deadline.source == DEADLINE_FROM_MENDING)
        snprintf(out, ATTEMPT_DETAIL_MAX, "it could not be mended within %llu ms (mend_timeout)",
                 ms);
    else
        snprintf(out, ATTEMPT_DETAIL_MAX, "the deadline of %llu ms has passed%s", ms,
                 x->deadline.source == DEADLINE_FROM_CONFIG ? "" : " (declared by the client)");
}

static const char *deadline_passed(const struct exchange *x)
{
    return x->deadline.source == DEADLINE_FROM_MENDING ? "mend_timeout has passed"
                                                       : "the deadline has passed";
}

void judge_deadline(struct exchange *x)
{
    struct verdict v = {.kind = VERDICT_FINAL, .reason = REASON_DEADLINE, .ambiguous = true};
    struct retry_decision d = {.action = RETRY_GIVE_UP, .why_not = deadline_passed(x)};
    struct hint none = {.source = HINT_NONE};
    struct outcome o = {.transport = TRANSPORT_TOTAL_TIMEOUT, .status = x->attempt->status};

    exchange_stop_attempt(x);
    hedge_drop(x);
    describe_deadline(x, x->attempt->detail);
    exchange_cannot_retry(x, d.why_not);
    report(x, &o, &v, &d, &none);
    tell_failure(x);
}

void judge_too_late(struct exchange *x)
{
    exchange_cannot_retry(x, deadline_passed(x));
    if (x->last_reason == REASON_OK) { /* there is no failed attempt to report instead */
        x->last_reason = REASON_DEADLINE;
        describe_deadline(x, x->last_detail);
    }
    tell_failure(x);
}

void judge_in_vain(struct exchange *x, enum reason reason, const char *detail,
                   uint64_t retry_after_ms)
{
    const char *advice = response_advice(reason), *words = repeat_words(x);
    char message[512 + FAILURE_WORDS];

    exchange_cannot_retry(x, detail);
    if (x->attempts > 0) { /* the outcome of the last attempt says more */
        tell_failure(x);
        return;
    }
    x->last_reason = reason;
    snprintf(x->last_detail, sizeof(x->last_detail), "%s", detail);
    if (x->reply.begun) {
        relay_last_words(x);
        return;
    }
    x->retry_after_ms = retry_after_ms;
    x->reply.come_again = reason == REASON_QUEUE_FULL; /* nothing was tried */
    snprintf(message, sizeof(message), "retryd: upstream %s: %s.%s%s%s%s", placement_name(x),
             detail, *advice ? " " : "", advice, *words ? FAILED_BEFORE : "", words);
    relay_own_error(x, END_FAILED, reason == REASON_RATE_LIMIT ? 429 : 0, reason, NULL, message);
}
