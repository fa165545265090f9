/* Delivers the answer: whole, or piece by piece once it is committed. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "exchange/exchange_private.h"
#include "policy/apierror.h"

#define RELAY_HIGH_WATER (256 * 1024) /* bytes of a committed answer that wait for the client */
#define EVENT_MAX (16u << 20)         /* of a stream: an image in one event is several MiB long */
#define OWN_BODY_MAX 4096

struct answer_facts relay_facts(const struct exchange *x, unsigned received, enum reason reason)
{
    return (struct answer_facts){
        .attempts = x->attempts,
        .wait_ms = x->wait_ms,
        .target = x->plan.target.name,
        .host = x->plan.target.host,
        .received_status = received,
        .reason = reason,
        .detail = x->last_detail,
    };
}

static uint64_t upstream_length(const struct headers *h)
{
    struct str v;
    uint64_t n;

    return headers_get(h, STR("content-length"), &v) && str_to_u64(v, &n) ? n : LENGTH_UNKNOWN;
}

/* An answer without a body still tells the length it would have had. */
static bool bodiless(const struct exchange *x, unsigned status)
{
    return request_is(&x->request.head, "HEAD") || status == 204 || status == 304;
}

/* Hands a whole answer over; where that fails the client sees its connection break. */
static void hand_over(struct exchange *x, struct answer_head *head, struct buf *body,
                      enum exchange_end end)
{
    uint64_t n = body->len;

    x->status = head->status;
    x->first_byte_ms = x->ops->now_ms(x->world);
    if (x->ops->answer_whole(x->world, x, head, body) < 0) {
        x->ops->answer_cut(x->world, x);
        end = END_BROKEN;
        n = 0;
    }
    x->bytes_out = n;
    exchange_end(x, end);
}

static void deliver(struct exchange *x, unsigned status, unsigned received,
                    const struct headers *headers, struct buf *body)
{
    struct answer_facts f = relay_facts(x, received, REASON_OK);
    struct answer_head head;

    answer_head_init(&head);
    if (answer_from_upstream(&head, status, headers, &f) < 0) {
        x->ops->answer_cut(x->world, x);
        exchange_end(x, END_BROKEN);
    } else {
        head.content_length = bodiless(x, status) ? upstream_length(headers) : body->len;
        hand_over(x, &head, body, status < 400 ? END_ANSWERED : END_FAILED);
    }
    answer_head_deinit(&head);
}

void relay_whole(struct exchange *x, unsigned status)
{
    deliver(x, status, x->attempt.status, &x->attempt.headers, &x->attempt.body);
}

void relay_kept_error(struct exchange *x)
{
    deliver(x, x->error_status, x->error_received, &x->error_headers, &x->error_body);
}

void relay_own_error(struct exchange *x, enum exchange_end end, unsigned status, enum reason reason,
                     const char *code, const char *message)
{
    struct answer_facts f = relay_facts(x, 0, reason);
    struct answer_head head;
    struct buf body;

    answer_head_init(&head);
    buf_init(&body, OWN_BODY_MAX);
    if (answer_own_error(&head, &body, status, message,
                         end == END_REFUSED ? "invalid_request_error" : "server_error", code,
                         &f) < 0) {
        x->ops->answer_cut(x->world, x);
        exchange_end(x, END_BROKEN);
    } else {
        hand_over(x, &head, &body, end);
    }
    buf_deinit(&body);
    answer_head_deinit(&head);
}

/* --- streams ---------------------------------------------------------------------------------- */

static struct str pending(const struct exchange *x)
{
    const struct buf *b = &x->attempt.body;

    return (struct str){b->p + x->released, b->len - x->released};
}

size_t relay_first_event(struct exchange *x, struct sse_event *ret_event)
{
    size_t n;

    while (x->attempt.body.len > x->released && (n = sse_next(&x->sse, pending(x))) > 0) {
        sse_parse((struct str){x->attempt.body.p + x->released, n}, ret_event);
        x->released += n;
        x->events++;
        if (!ret_event->comment_only)
            return n;
    }
    return 0;
}

static void release_events(struct exchange *x)
{
    size_t n;

    while (x->attempt.body.len > x->released && (n = sse_next(&x->sse, pending(x))) > 0) {
        x->released += n;
        x->events++;
    }
}

/* One error event in the form that every SDK raises (FACTS-sdk-api.md 2): nested for all, nested
 * and flat at once for the Responses API. Without memory for it the connection breaks instead. */
static void add_error_event(struct exchange *x, enum reason reason)
{
    struct str path = request_path(&x->request.head);
    struct str tail = STR("/responses");
    struct buf *out = &x->attempt.body;
    size_t before = out->len;
    char message[ATTEMPT_DETAIL_MAX + 80];
    struct buf error;

    snprintf(message, sizeof(message), "retryd: the stream from upstream %s broke: %s",
             x->plan.target.name, x->attempt.detail[0] ? x->attempt.detail : reason_word(reason));
    buf_init(&error, OWN_BODY_MAX);
    out->failed = apierror_write(&error, message, "server_error", reason_word(reason)) < 0;
    if (out->failed) {
        /* nothing is added */
    } else if (path.n >= tail.n && str_eq((struct str){path.p + path.n - tail.n, tail.n}, tail)) {
        struct str nested = buf_str(&error);

        /* {"error":{...}} loses its first brace, so that the flat fields stand beside it. */
        buf_printf(out,
                   "event: error\ndata: {\"type\":\"error\",\"sequence_number\":%llu,"
                   "\"code\":\"%s\",\"message\":\"the stream broke\",\"param\":null,",
                   (unsigned long long)x->events, reason_word(reason));
        buf_add(out, nested.p + 1, nested.n - 1);
    } else {
        buf_add_str(out, STR("data: "));
        buf_add_str(out, buf_str(&error));
    }
    buf_add_str(out, STR("\n\n"));
    x->cut = out->failed;
    if (x->cut)
        out->len = before;
    buf_deinit(&error);
}

/* Whether `rest` is an event but for its empty line. One without data would be an event that
 * SDKs cannot read. */
static bool lacks_empty_line(struct str rest)
{
    struct sse_event event;

    sse_parse(rest, &event);
    return rest.p[rest.n - 1] == '\n' && (event.data_lines > 0 || event.comment_only);
}

/* The end of a committed stream: what is left over is no whole event. A last event that lacks only
 * its empty line is completed; anything else is a break, and is told. */
static void end_stream(struct exchange *x)
{
    struct attempt *a = &x->attempt;
    struct str rest = pending(x);
    struct outcome o = {.transport = a->transport};
    enum reason reason = REASON_TRUNCATED;

    if (a->transport == TRANSPORT_WHOLE && rest.n == 0)
        return;
    if (a->transport == TRANSPORT_WHOLE && lacks_empty_line(rest) &&
        buf_addc(&a->body, '\n') == 0) {
        x->released = a->body.len;
        x->events++;
        return;
    }
    if (a->transport != TRANSPORT_WHOLE)
        reason = classify(&o, RETRY_ON_ALL).reason;
    x->last_reason = reason;
    a->body.len = x->released; /* the half event never passes */
    add_error_event(x, reason);
    x->released = a->body.len;
    x->end = END_BROKEN;
}

static void end_answer(struct exchange *x)
{
    x->answer_ended = true;
    if (x->streaming) {
        end_stream(x);
    } else if (x->attempt.transport != TRANSPORT_WHOLE) {
        x->cut = true;
        x->last_reason = REASON_TRUNCATED;
        x->end = END_BROKEN;
    }
}

/* Commit: from here on the client has part of this answer, and no other can take its place. */
void relay_commit(struct exchange *x)
{
    struct answer_facts f = relay_facts(x, x->attempt.status, REASON_OK);
    struct answer_head head;
    int rc;

    answer_head_init(&head);
    rc = answer_from_upstream(&head, x->attempt.status, &x->attempt.headers, &f);
    if (!x->streaming)
        head.content_length = upstream_length(&x->attempt.headers);
    exchange_cannot_retry(x, "the answer is committed");
    x->status = head.status;
    x->first_byte_ms = x->ops->now_ms(x->world);
    x->attempt.high_water = RELAY_HIGH_WATER;
    if (rc == 0)
        rc = x->ops->answer_begin(x->world, x, &head);
    answer_head_deinit(&head);
    if (rc == 0) {
        exchange_set(x, EXCHANGE_RELAYING);
        return;
    }
    exchange_stop_attempt(x);
    x->ops->answer_cut(x->world, x);
    exchange_end(x, END_BROKEN);
}

static void finish(struct exchange *x)
{
    if (x->end == END_NONE)
        x->end = x->status < 400 ? END_ANSWERED : END_FAILED;
    exchange_end(x, x->end);
}

/* Moves what the client has not taken yet to the front. */
static void forget_taken(struct exchange *x)
{
    buf_consume(&x->attempt.body, x->taken);
    x->released -= x->taken;
    x->taken = 0;
}

/* The client has all that is released, and the event that is to follow fills the buffer to its
 * mark: more of it has to come first. False where it is larger than any event may be. */
static bool raise_mark(struct attempt *a)
{
    if (a->high_water >= EVENT_MAX)
        return false;
    a->high_water = a->high_water < EVENT_MAX / 2 ? a->high_water * 2 : EVENT_MAX;
    return true;
}

static void break_off(struct exchange *x)
{
    struct attempt *a = &x->attempt;

    exchange_stop_attempt(x);
    a->done = true;
    a->transport = TRANSPORT_BAD_ANSWER;
    snprintf(a->detail, sizeof(a->detail), "an event of the stream is larger than %u MiB",
             EVENT_MAX >> 20);
    end_answer(x);
    x->ops->answer_wake(x->world, x);
}

/* Lets a paused attempt go on once the client has taken enough. What it took counts against the
 * mark until it is forgotten: without that the attempt would pause again at once. */
static void go_on(struct exchange *x)
{
    struct attempt *a = &x->attempt;
    bool starved = x->streaming && x->released == x->taken;

    if (!a->paused || (!starved && a->body.len - x->taken >= RELAY_HIGH_WATER / 2))
        return;
    forget_taken(x);
    if (a->body.len >= a->high_water && !raise_mark(a)) {
        break_off(x);
        return;
    }
    a->last_piece_ms = x->ops->now_ms(x->world);
    x->ops->attempt_resume(x->world, x);
}

void relay_step(struct exchange *x)
{
    size_t had = x->released;

    if (x->pulled_end) {
        finish(x);
        return;
    }
    if (x->answer_ended)
        return;
    if (x->streaming)
        release_events(x);
    else
        x->released = x->attempt.body.len;
    if (x->attempt.done)
        end_answer(x);
    if (x->released > had || x->answer_ended) {
        x->attempt.high_water = RELAY_HIGH_WATER;
        x->ops->answer_wake(x->world, x);
    }
    if (!x->answer_ended)
        go_on(x);
}

ptrdiff_t exchange_pull(struct exchange *x, char *to, size_t max)
{
    struct buf *b = &x->attempt.body;
    size_t n = x->released - x->taken;

    if (x->state != EXCHANGE_RELAYING)
        return PULL_CUT;
    if (n == 0) {
        if (!x->answer_ended)
            return 0;
        x->pulled_end = true;
        return x->cut ? PULL_CUT : PULL_END;
    }
    if (n > max)
        n = max;
    memcpy(to, b->p + x->taken, n);
    x->taken += n;
    x->bytes_out += n;
    /* Moves what is left down only when that is cheap or overdue. */
    if (x->taken == x->released || x->taken > RELAY_HIGH_WATER)
        forget_taken(x);
    return (ptrdiff_t)n;
}
