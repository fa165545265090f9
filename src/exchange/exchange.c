/* Decides what happens to a client's request, attempt after attempt. */
#include "exchange/exchange.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "exchange/decode.h"
#include "exchange/exchange_private.h"

#define EXCHANGE_MAGIC 0x72657478u
#define ERROR_TEXT_MAX (256 * 1024) /* of a decoded error body; the rest does not matter */
#define BIT(state) (1u << (state))

/* The moves that the diagram in exchange.h shows; every state may go to DONE. */
static const unsigned allowed_moves[] = {
    [EXCHANGE_RECEIVING] = BIT(EXCHANGE_QUEUED) | BIT(EXCHANGE_DONE),
    [EXCHANGE_QUEUED] = BIT(EXCHANGE_ATTEMPTING) | BIT(EXCHANGE_DONE),
    [EXCHANGE_ATTEMPTING] =
        BIT(EXCHANGE_HOLDING) | BIT(EXCHANGE_BACKOFF) | BIT(EXCHANGE_QUEUED) | BIT(EXCHANGE_DONE),
    [EXCHANGE_HOLDING] =
        BIT(EXCHANGE_BACKOFF) | BIT(EXCHANGE_QUEUED) | BIT(EXCHANGE_RELAYING) | BIT(EXCHANGE_DONE),
    [EXCHANGE_BACKOFF] = BIT(EXCHANGE_QUEUED) | BIT(EXCHANGE_DONE),
    [EXCHANGE_RELAYING] = BIT(EXCHANGE_DONE),
    [EXCHANGE_DONE] = 0,
};

static const char *const state_words[] = {
    [EXCHANGE_RECEIVING] = "receiving",
    [EXCHANGE_QUEUED] = "queued",
    [EXCHANGE_ATTEMPTING] = "attempting",
    [EXCHANGE_HOLDING] = "holding",
    [EXCHANGE_BACKOFF] = "backoff",
    [EXCHANGE_RELAYING] = "relaying",
    [EXCHANGE_DONE] = "done",
};

static const char *const end_words[] = {
    [END_NONE] = "none",       [END_ANSWERED] = "answered", [END_FAILED] = "failed",
    [END_REFUSED] = "refused", [END_BROKEN] = "broken",     [END_CLIENT_GONE] = "client_gone",
};

const char *exchange_state_word(enum exchange_state s)
{
    return state_words[s];
}

const char *exchange_end_word(enum exchange_end e)
{
    return end_words[e];
}

void exchange_set(struct exchange *x, enum exchange_state to)
{
    assert(x->magic == EXCHANGE_MAGIC);
    assert(allowed_moves[x->state] & BIT(to));
    x->state = to;
}

void exchange_end(struct exchange *x, enum exchange_end end)
{
    exchange_set(x, EXCHANGE_DONE);
    x->end = end;
    x->ended_ms = x->ops->now_ms(x->world);
    x->ops->timer_set(x->world, x, TIMER_OFF);
    x->ops->ended(x->world, x);
}

int exchange_init(struct exchange *x, const struct exchange_ops *ops, void *world,
                  const struct exchange_limits *limits)
{
    memset(x, 0, sizeof(*x));
    x->magic = EXCHANGE_MAGIC;
    x->ops = ops;
    x->world = world;
    x->limits = *limits;
    request_init(&x->request, limits->max_body, ops->random(world), ops->random(world));
    attempt_init(&x->attempt);
    headers_init(&x->error_headers);
    buf_init(&x->error_body, SIZE_MAX / 2);
    sse_init(&x->sse);
    x->started_ms = ops->now_ms(world);
    return 0;
}

static void stop_attempt(struct exchange *x)
{
    if (x->attempt.running)
        x->ops->attempt_cancel(x->world, x);
    x->attempt.running = false;
}

void exchange_deinit(struct exchange *x)
{
    assert(x->magic == EXCHANGE_MAGIC);
    stop_attempt(x);
    request_deinit(&x->request);
    attempt_deinit(&x->attempt);
    headers_deinit(&x->error_headers);
    buf_deinit(&x->error_body);
    x->magic = 0;
}

int exchange_body(struct exchange *x, const void *data, size_t n)
{
    assert(x->state == EXCHANGE_RECEIVING);
    return buf_add(&x->request.body, data, n);
}

void exchange_request_done(struct exchange *x)
{
    x->request_complete = true;
}

void exchange_client_gone(struct exchange *x)
{
    x->client_gone = true;
}

static void cannot_retry(struct exchange *x, const char *why)
{
    if (!x->cannot_retry)
        x->cannot_retry = why;
}

/* --- attempts --------------------------------------------------------------------------------- */

static void judge(struct exchange *x, const struct outcome *o);

static void judge_transport(struct exchange *x, enum transport t)
{
    struct outcome o = {.transport = t};

    judge(x, &o);
}

static int send_attempt(struct exchange *x)
{
    struct headers headers;
    struct buf target;
    int rc;

    headers_init(&headers);
    buf_init(&target, HEADERS_BYTES_MAX);
    rc = request_outgoing(&x->request, &x->plan, &target, &headers);
    if (rc == 0)
        rc = x->ops->attempt_start(x->world, x, target.p, &headers);
    headers_deinit(&headers);
    buf_deinit(&target);
    return rc;
}

static void start_attempt(struct exchange *x, bool fresh)
{
    struct attempt *a = &x->attempt;
    uint64_t now = x->ops->now_ms(x->world);
    int rc;

    exchange_set(x, EXCHANGE_ATTEMPTING);
    attempt_reset(a);
    sse_init(&x->sse);
    x->released = 0;
    a->fresh = fresh;
    a->high_water = x->limits.hold_limit;
    a->started_ms = a->last_piece_ms = now;
    x->attempts++;
    rc = send_attempt(x);
    if (rc == 0) {
        a->running = true;
        return;
    }
    snprintf(a->detail, sizeof(a->detail), "the attempt could not be started: %s", strerror(-rc));
    judge_transport(x, TRANSPORT_INTERNAL);
}

/* Issue by issue gates and limits come to stand here; today every turn comes at once. */
static void take_turn(struct exchange *x)
{
    exchange_set(x, EXCHANGE_QUEUED);
    start_attempt(x, false);
}

/* --- judging ---------------------------------------------------------------------------------- */

static bool is_type(const struct headers *h, struct str type)
{
    struct str v;

    return headers_get(h, STR("content-type"), &v) && str_istarts(v, type);
}

static bool may_hold_error(const struct attempt *a, struct str text)
{
    if (a->status >= 400)
        return true;
    return a->status >= 200 && a->status < 300 && text.n > 0 && text.p[0] == '{' &&
           str_ifind((struct str){text.p, text.n < 512 ? text.n : 512}, STR("\"error\"")) >= 0;
}

/* Reads the error object out of the attempt's body, whatever its coding. */
static void read_error(const struct attempt *a, struct apierror *ret)
{
    struct str coding = {NULL, 0};
    struct buf text;

    memset(ret, 0, sizeof(*ret));
    if (a->status < 400 && !is_type(&a->headers, STR("application/json")))
        return;
    headers_get(&a->headers, STR("content-encoding"), &coding);
    if (coding.n == 0) {
        struct str body = str_trim(buf_str(&a->body));

        if (body.n > ERROR_TEXT_MAX)
            body.n = ERROR_TEXT_MAX;
        if (may_hold_error(a, body))
            apierror_parse(body, ret);
        return;
    }
    buf_init(&text, ERROR_TEXT_MAX);
    if (decode_body(coding, buf_str(&a->body), &text) == 0 &&
        may_hold_error(a, str_trim(buf_str(&text))))
        apierror_parse(str_trim(buf_str(&text)), ret);
    buf_deinit(&text);
}

/* An answer that calls itself good and holds an error is delivered with the error's own status. */
static unsigned status_to_tell(unsigned status, const struct apierror *e)
{
    if (status >= 400 || !e || e->kind == APIERROR_NONE)
        return status;
    return e->status ? e->status : 502;
}

static void keep_error_answer(struct exchange *x, unsigned status)
{
    struct headers h = x->error_headers;
    struct buf b = x->error_body;

    x->error_headers = x->attempt.headers;
    x->error_body = x->attempt.body;
    x->attempt.headers = h;
    x->attempt.body = b;
    x->error_status = status;
    x->has_error_answer = true;
}

static const char *give_up_detail(const struct exchange *x)
{
    return x->last_detail[0] ? x->last_detail : reason_word(x->last_reason);
}

static void tell_failure(struct exchange *x)
{
    char message[512];
    const char *advice = answer_advice(x->last_reason);

    if (x->has_error_answer) {
        relay_kept_error(x);
        return;
    }
    snprintf(message, sizeof(message),
             "retryd: no answer from upstream %s after %u attempt%s: %s.%s%s", x->plan.target.name,
             x->attempts, x->attempts == 1 ? "" : "s", give_up_detail(x), *advice ? " " : "",
             advice);
    relay_own_error(x, END_FAILED, 0, x->last_reason, NULL, message);
}

static struct retry_decision decide(struct exchange *x, const struct verdict *v,
                                    const struct hint *hint)
{
    struct retry_question q = {
        .verdict = *v,
        .hint = *hint,
        .attempts_made = x->attempts,
        .max_attempts = x->max_attempts,
        .no_retry = x->request.overrides.no_retry,
        .blocked = x->cannot_retry,
        .now_ms = x->ops->now_ms(x->world),
        .deadline_ms = x->deadline.at_ms,
        .random = x->ops->random(x->world),
    };
    struct retry_decision d = retry_decide(&x->plan.settings->retry, &q);

    if (d.action == RETRY_GIVE_UP)
        cannot_retry(x, d.why_not);
    return d;
}

static void report(struct exchange *x, const struct outcome *o, const struct verdict *v,
                   const struct retry_decision *d, const struct hint *hint)
{
    struct attempt_report r = {
        .verdict = *v,
        .number = x->attempts,
        .status = o->status,
        .decision = *d,
        .hint = *hint,
        .error = o->error,
        .detail = x->attempt.detail,
        .duration_ms = x->ops->now_ms(x->world) - x->attempt.started_ms,
        .duplicate = v->ambiguous && d->action == RETRY_AGAIN,
    };

    x->last_reason = v->reason;
    snprintf(x->last_detail, sizeof(x->last_detail), "%s", x->attempt.detail);
    if (r.duplicate)
        x->duplicates++;
    x->ops->attempt_failed(x->world, x, &r);
}

static void back_off(struct exchange *x, uint64_t delay_ms)
{
    x->backoff_since = x->ops->now_ms(x->world);
    x->next_at_ms = x->backoff_since + delay_ms;
    exchange_set(x, EXCHANGE_BACKOFF);
}

/* The attempt is over, or what has come of it is enough to judge it: deliver, repeat or give up. */
static void judge(struct exchange *x, const struct outcome *o)
{
    struct verdict v = classify(o, x->plan.settings->retry.retry_on);
    /* A stream goes out event by event even when all of it is here already. */
    bool whole = x->attempt.done && o->transport == TRANSPORT_WHOLE && !x->streaming;
    unsigned tell = status_to_tell(o->status, o->error);
    struct retry_decision d;
    struct hint hint = {.source = HINT_NONE};

    if (v.kind == VERDICT_GOOD) {
        x->last_reason = REASON_OK;
        if (whole)
            relay_whole(x, tell);
        else
            relay_commit(x);
        return;
    }
    if (o->headers)
        hint = hint_read(o->headers, o->error, x->ops->unix_ms(x->world),
                         x->plan.settings->retry.backoff.max_delay_ms);
    d = decide(x, &v, &hint);
    report(x, o, &v, &d, &hint);
    if (d.action == RETRY_GIVE_UP && o->headers && o->transport == TRANSPORT_WHOLE && !o->empty) {
        /* The upstream's own last word, even where more of it is still to come. */
        if (whole)
            relay_whole(x, tell);
        else
            relay_commit(x);
        return;
    }
    stop_attempt(x);
    if (whole && o->headers && !o->empty)
        keep_error_answer(x, tell);
    if (d.action == RETRY_AGAIN)
        back_off(x, d.delay_ms);
    else
        tell_failure(x);
}

static void judge_answer(struct exchange *x)
{
    struct attempt *a = &x->attempt;
    struct apierror error;
    struct outcome o = {
        .transport = a->done ? a->transport : TRANSPORT_WHOLE,
        .status = a->status,
        .headers = a->head_done ? &a->headers : NULL,
        .error = &error,
        .stream = x->streaming,
        .empty = x->streaming,
    };

    read_error(a, &error);
    judge(x, &o);
}

/* A stream is judged by its first event; one that ends before is judged as an answer. */
static void hold_stream(struct exchange *x)
{
    struct attempt *a = &x->attempt;
    struct sse_event event;
    struct apierror error = {.kind = APIERROR_NONE};
    struct outcome o = {
        .transport = TRANSPORT_WHOLE, .status = a->status, .headers = &a->headers, .stream = true};

    if (relay_first_event(x, &event) == 0) {
        if (a->done)
            judge_answer(x);
        else if (a->paused)
            relay_commit(x);
        return;
    }
    if (event.error_field.n > 0)
        apierror_parse(event.error_field, &error);
    else if (str_ieq(event.type, STR("error")) || str_starts(event.data, STR("{\"error\"")) ||
             str_starts(event.data, STR("{\"type\":\"error\"")))
        apierror_parse(event.data, &error);
    o.error = &error;
    judge(x, &o);
}

static void hold(struct exchange *x)
{
    struct attempt *a = &x->attempt;

    if (x->streaming)
        hold_stream(x);
    else if (a->done || a->paused)
        judge_answer(x);
}

/* --- times ------------------------------------------------------------------------------------ */

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t after(uint64_t since, uint64_t timeout_ms)
{
    return timeout_ms ? since + timeout_ms : TIMER_OFF;
}

/* When this state has waited long enough. DEADLINE_NONE and TIMER_OFF are the same number. */
static uint64_t next_time(const struct exchange *x)
{
    const struct attempt *a = &x->attempt;
    const struct timeout_settings *t;
    uint64_t total;

    if (x->state == EXCHANGE_BACKOFF)
        return x->next_at_ms;
    if (x->state < EXCHANGE_ATTEMPTING || x->state == EXCHANGE_DONE)
        return TIMER_OFF;
    t = &x->plan.settings->timeout;
    total = after(a->started_ms, t->total_ms);
    if (x->state == EXCHANGE_ATTEMPTING)
        return earlier(x->deadline.at_ms, earlier(total, after(a->started_ms, t->first_byte_ms)));
    if (!a->running || a->paused)
        return TIMER_OFF;
    total = earlier(total, after(a->last_piece_ms, t->idle_ms));
    return x->state == EXCHANGE_HOLDING ? earlier(x->deadline.at_ms, total) : total;
}

/* Which of the times has passed, and what a person should read about it. */
static enum transport timeout_kind(struct exchange *x, uint64_t now)
{
    const struct timeout_settings *t = &x->plan.settings->timeout;
    struct attempt *a = &x->attempt;
    enum transport kind = TRANSPORT_IDLE_TIMEOUT;
    uint64_t limit = t->idle_ms;

    if (now >= after(a->started_ms, t->total_ms)) {
        kind = TRANSPORT_TOTAL_TIMEOUT;
        limit = t->total_ms;
    } else if (!a->head_done) {
        kind = a->upload_whole ? TRANSPORT_FIRST_BYTE_TIMEOUT : TRANSPORT_UPLOAD_TIMEOUT;
        limit = t->first_byte_ms;
    }
    snprintf(a->detail, sizeof(a->detail), "%s for %llu ms",
             kind == TRANSPORT_UPLOAD_TIMEOUT ? "the request could not be sent" : "silence",
             (unsigned long long)limit);
    if (kind == TRANSPORT_TOTAL_TIMEOUT)
        snprintf(a->detail, sizeof(a->detail), "the answer was not whole after %llu ms",
                 (unsigned long long)limit);
    return kind;
}

static void deadline_passed(struct exchange *x)
{
    struct verdict v = {.kind = VERDICT_FINAL, .reason = REASON_DEADLINE, .ambiguous = true};
    struct retry_decision d = {.action = RETRY_GIVE_UP, .why_not = "the deadline has passed"};
    struct hint none = {.source = HINT_NONE};
    struct outcome o = {.transport = TRANSPORT_TOTAL_TIMEOUT, .status = x->attempt.status};

    stop_attempt(x);
    snprintf(x->attempt.detail, sizeof(x->attempt.detail), "the deadline of %llu ms has passed%s",
             (unsigned long long)(x->deadline.at_ms - x->started_ms),
             x->deadline.source == DEADLINE_FROM_CONFIG ? "" : " (declared by the client)");
    cannot_retry(x, d.why_not);
    report(x, &o, &v, &d, &none);
    tell_failure(x);
}

static void attempt_timed_out(struct exchange *x, uint64_t now)
{
    enum transport kind;

    stop_attempt(x);
    kind = timeout_kind(x, now);
    x->attempt.done = true;
    x->attempt.transport = kind;
    if (x->state != EXCHANGE_RELAYING)
        judge_transport(x, kind);
}

/* Acts on a time that has come. True when it changed something. */
static bool on_time(struct exchange *x)
{
    uint64_t now = x->ops->now_ms(x->world);

    if (now < next_time(x))
        return false;
    if (x->state == EXCHANGE_BACKOFF) {
        x->wait_ms += now - x->backoff_since;
        take_turn(x);
    } else if (x->state != EXCHANGE_RELAYING && now >= x->deadline.at_ms) {
        deadline_passed(x);
    } else {
        attempt_timed_out(x, now);
    }
    return true;
}

/* --- the turn --------------------------------------------------------------------------------- */

static void set_limits(struct exchange *x)
{
    const struct request_overrides *o = &x->request.overrides;
    const struct retry_settings *s = &x->plan.settings->retry;

    x->max_attempts = o->max_attempts ? o->max_attempts : s->max_attempts;
    x->deadline =
        deadline_of(&x->request.head.headers, x->started_ms, s->deadline_ms, o->deadline_ms);
}

static void receive(struct exchange *x)
{
    char problem[200];
    int rc;

    if (!x->request_complete)
        return;
    if (request_read(&x->request, problem, sizeof(problem)) < 0) {
        relay_own_error(x, END_REFUSED, 400, REASON_CLIENT_ERROR, "invalid_retryd_header", problem);
        return;
    }
    rc = x->ops->plan(x->world, x, str_from(x->request.model), &x->plan);
    if (rc < 0) {
        relay_own_error(x, END_REFUSED, 404, REASON_CLIENT_ERROR, "no_route",
                        "retryd: no route serves this path; the base URL should end in /v1");
        return;
    }
    set_limits(x);
    take_turn(x);
}

/* A kept connection that proved dead before anything was sent is no attempt: go again at once, on
 * a new connection, which cannot be stale. */
static void replace_stale(struct exchange *x)
{
    x->attempts--;
    exchange_set(x, EXCHANGE_QUEUED);
    start_attempt(x, true);
}

static void attempting(struct exchange *x)
{
    struct attempt *a = &x->attempt;

    if (a->done)
        a->running = false;
    if (a->done && a->transport == TRANSPORT_STALE && !a->fresh) {
        replace_stale(x);
    } else if (a->head_done) {
        x->streaming = a->status < 300 && !x->request.head.http_1_0 &&
                       is_type(&a->headers, STR("text/event-stream")) &&
                       !headers_get(&a->headers, STR("content-encoding"), NULL);
        exchange_set(x, EXCHANGE_HOLDING);
    } else if (a->done) {
        judge_transport(x, a->transport);
    }
}

static void step_once(struct exchange *x)
{
    if (x->attempt.done)
        x->attempt.running = false;
    switch (x->state) {
    case EXCHANGE_RECEIVING:
        receive(x);
        break;
    case EXCHANGE_ATTEMPTING:
        attempting(x);
        break;
    case EXCHANGE_HOLDING:
        hold(x);
        break;
    case EXCHANGE_RELAYING:
        relay_step(x);
        break;
    case EXCHANGE_QUEUED:
    case EXCHANGE_BACKOFF:
    case EXCHANGE_DONE:
        break;
    }
}

static void leave(struct exchange *x)
{
    stop_attempt(x);
    x->last_reason = REASON_CLIENT_GONE;
    cannot_retry(x, "the client is gone");
    exchange_end(x, END_CLIENT_GONE);
}

void exchange_step(struct exchange *x)
{
    enum exchange_state before;

    assert(x->magic == EXCHANGE_MAGIC);
    if (x->state == EXCHANGE_DONE)
        return;
    if (x->client_gone) {
        leave(x);
        return;
    }
    do {
        before = x->state;
        step_once(x);
    } while (x->state != EXCHANGE_DONE && (x->state != before || on_time(x)));
    if (x->state != EXCHANGE_DONE)
        x->ops->timer_set(x->world, x, next_time(x));
}
