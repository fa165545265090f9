/* The requests of a worker: the exchange of each, between its client and its attempts. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "http/credentials.h"
#include "worker/access_log.h"
#include "worker/worker_private.h"

#define CALL_MAGIC 0x63616c6cu
#define KEEP_CALLS 512 /* finished calls kept for re-use */

/* --- the world of an exchange ----------------------------------------------------------------- */

/* Returns the current time, not the loop's, which stands still during an iteration: waits would
 * begin before the response that asks for them. */
static uint64_t world_now(void *world)
{
    (void)world;
    return clock_now_ms();
}

static uint64_t world_unix(void *world)
{
    (void)world;
    return clock_unix_ms();
}

static uint64_t rotl(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

/* xoshiro256** 1.0 (Blackman and Vigna, 2018): jitter and ids, nothing secret. */
static uint64_t world_random(void *world)
{
    uint64_t *s = ((struct worker *)world)->random_state;
    uint64_t result = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

static struct call *call_of(struct exchange *x)
{
    struct call *c = x->tag;

    assert(c->magic == CALL_MAGIC);
    return c;
}

void call_enqueue(struct call *c)
{
    if (list_empty(&c->run))
        list_append(&c->w->run, &c->run);
    c->w->work = true;
}

/* The argument is the attempt, since a call may have two. */
static void on_attempt_change(void *arg)
{
    call_enqueue(((struct attempt *)arg)->turn.tag);
}

static void on_traced(void *arg, const struct fetch_trace *trace)
{
    const struct attempt *a = arg;

    steps_trace(&((struct call *)a->turn.tag)->x, a, trace);
}

static struct transfer **transfer_of(struct call *c, const struct attempt *a)
{
    return &c->t[a - c->x.slots];
}

static int world_plan(void *world, struct exchange *x, struct str model, struct plan *ret_plan,
                      char *ret_why, size_t size)
{
    struct call *c = call_of(x);
    struct str path = http_request_path(&x->request.http);
    int rc = worker_config_plan(c->config, path, model, x->request.model_hidden, ret_plan);

    (void)world;
    if (rc == -ENOENT)
        config_no_route(c->config->parsed, path, model, ret_why, size);
    if (rc == 0 && c->r)
        frontend_stall_limit(c->r, ret_plan->settings->timeout.idle_ms);
    return rc;
}

static int world_attempt_start(void *world, struct exchange *x, struct attempt *a,
                               const struct outgoing *o)
{
    struct worker *w = world;
    struct call *c = call_of(x);
    const struct worker_upstream *upstream = a->turn.target.upstream->worker_upstream;
    bool as_it_is = body_in_memory(&x->request.body) && a->edit.cut == 0;
    struct fetch_request request = {
        .upstream = &upstream->fetch,
        .method = o->method,
        .target = o->target.p,
        .headers = &o->headers,
        .body = as_it_is ? body_text(&x->request.body).p : NULL,
        .body_len = o->with_body ? body_edited_length(&x->request.body, &a->edit) : 0,
        .read = call_read_body,
        .connect_timeout_ms = x->plan.settings->timeout.connect_ms,
    };

    metrics_add(&w->metrics.attempts, 1);
    metrics_add(&upstream->metrics->attempts, 1);
    if (steps_are_logged()) {
        request.traced = on_traced;
        steps_attempt(x, a);
    }
    story_attempt(w->history, &c->story, x, a);
    return fetch_start(w->fetch, &request, a, on_attempt_change, a, transfer_of(c, a));
}

static void world_attempt_cancel(void *world, struct exchange *x, struct attempt *a)
{
    struct transfer **t = transfer_of(call_of(x), a);

    (void)world;
    if (*t)
        fetch_cancel(*t);
    *t = NULL;
}

static void world_attempt_resume(void *world, struct exchange *x, struct attempt *a)
{
    struct transfer **t = transfer_of(call_of(x), a);

    (void)world;
    if (*t)
        fetch_resume(*t);
}

static void on_call_timer(uv_timer_t *timer)
{
    struct call *c = timer->data;

    c->armed_at = TIMER_OFF;
    call_enqueue(c);
}

/* Firing early is harmless, so an armed timer is only moved if it would fire too late. It fires
 * when the millisecond is over, because a wait may have begun at the end of one and must not end
 * before an upstream's hint. */
static void world_timer_set(void *world, struct exchange *x, uint64_t at_ms)
{
    struct call *c = call_of(x);
    uint64_t now = uv_now(&((struct worker *)world)->loop);

    if (at_ms >= c->armed_at)
        return;
    c->armed_at = at_ms;
    uv_timer_start(&c->timer, on_call_timer, at_ms >= now ? at_ms - now + 1 : 0, 0);
}

static int world_response_whole(void *world, struct exchange *x,
                                const struct http_response *response, struct buf *body)
{
    struct call *c = call_of(x);
    size_t held = body->size;
    int rc = c->r ? frontend_whole(c->r, response, body) : -EPIPE;

    story_relays(((struct worker *)world)->history, c->story);
    if (rc == 0 && steps_are_logged())
        steps_response(x, response->status, true);
    if (rc == 0)
        c->handed_over = held; /* libmicrohttpd holds it until the client has it */
    return rc;
}

static int world_response_begin(void *world, struct exchange *x,
                                const struct http_response *response)
{
    struct call *c = call_of(x);
    int rc = c->r ? frontend_stream(c->r, response) : -EPIPE;

    story_relays(((struct worker *)world)->history, c->story);
    if (rc == 0 && steps_are_logged())
        steps_response(x, response->status, false);
    return rc;
}

static void world_response_interim(void *world, struct exchange *x, struct str interim)
{
    struct call *c = call_of(x);

    (void)world;
    if (c->r)
        frontend_interim(c->r, interim);
}

static void world_response_wake(void *world, struct exchange *x)
{
    struct call *c = call_of(x);

    (void)world;
    if (c->r)
        frontend_wake(c->r);
}

static void world_response_cut(void *world, struct exchange *x)
{
    struct call *c = call_of(x);

    (void)world;
    if (c->r)
        frontend_cut(c->r);
}

/* --- changed keys and certificates ------------------------------------------------------------ */

/* Only a configuration that was renewed has the same upstreams and routes at the same places. */
static bool call_renew(void *world, struct exchange *x, struct plan *ret_plan)
{
    struct worker *w = world;
    struct call *c = call_of(x);

    if (c->config == w->config || !config_same_source(c->config->parsed, w->config->parsed) ||
        worker_config_plan(w->config, http_request_path(&x->request.http),
                           str_from(x->request.model), x->request.model_hidden, ret_plan) < 0)
        return false;
    worker_config_unref(c->config_before);
    c->config_before = c->config;
    c->config = worker_config_ref(w->config);
    x->limits.spool_dir = w->config->parsed->server.spool_dir;
    return true;
}

static bool has_key(const struct upstream *p, uint64_t id)
{
    for (unsigned i = 0; i < p->key_count; i++)
        if (p->keys[i].id == id)
            return true;
    return false;
}

/* Whether the upstream has a key that it did not have when the request got its plan. */
static bool has_other_key(const struct worker *w, const struct upstream *was, size_t number)
{
    const struct upstream *now = &w->config->upstreams[number].upstream;

    for (unsigned i = 0; i < now->key_count; i++)
        if (!has_key(was, now->keys[i].id))
            return true;
    return false;
}

/* If the main thread has not noticed a change yet, this worker reads the file first. */
static bool call_other_key(void *world, struct exchange *x, const struct target *t)
{
    struct worker *w = world;
    struct call *c = call_of(x);
    const struct worker_upstream *upstream = t->upstream->worker_upstream;
    size_t number = (size_t)(upstream - c->config->upstreams);
    struct config *config = w->config->parsed, *now;

    if (!config_same_source(c->config->parsed, config))
        return false;
    if (has_other_key(w, t->upstream, number))
        return true;
    if (!config_key_file_differs(config, &config->upstreams[number]))
        return false;
    now = config_renew(config);
    if (!now)
        return false;
    worker_adopt(w, now);
    config_unref(now);
    atomic_store(&w->saw_change, true);
    w->on_change(w->arg);
    return has_other_key(w, t->upstream, number);
}

/* --- counters and log lines ------------------------------------------------------------------- */

static void call_turn_asked(void *world, struct exchange *x, const struct turn *turn,
                            const struct turn_request *turn_request, enum turn_state s)
{
    struct worker *w = world;

    if (s == TURN_WAITING)
        story_waits(w->history, &call_of(x)->story, x, turn);
    if (steps_are_logged())
        steps_turn(x, turn, turn_request, s, clock_now_ms());
}

/* Returns the counters of an upstream; NULL: none was chosen. */
static struct metrics_upstream *counters_of(struct worker *w, const struct upstream *upstream)
{
    return upstream ? ((const struct worker_upstream *)upstream->worker_upstream)->metrics
                    : &w->metrics.no_upstream;
}

static void call_attempt_failed(void *world, struct exchange *x, const struct attempt_report *r)
{
    struct worker *w = world;

    metrics_add(&w->metrics.failures[r->verdict.reason], 1);
    metrics_failed(counters_of(w, r->attempt->turn.target.upstream), r->status, r->verdict.reason);
    if (r->decision.action == RETRY_AGAIN)
        metrics_add(&w->metrics.retries[r->verdict.reason], 1);
    if (r->duplicate)
        metrics_add(&w->metrics.duplicates, 1);
    if (r->sick)
        fetch_drop_connection(w->fetch, r->attempt);
    story_failed(w->history, &call_of(x)->story, x, r);
    access_log_attempt(x, r);
}

static void call_hedged(void *world, struct exchange *x)
{
    struct worker *w = world;

    metrics_add(&w->metrics.hedges, 1);
    metrics_add(&w->metrics.duplicates, 1);
    story_hedged(w->history, &call_of(x)->story, x);
}

static void call_event_dropped(void *world, struct exchange *x, bool malformed)
{
    struct worker *w = world;

    metrics_add(malformed ? &w->metrics.events_malformed : &w->metrics.events_unfit, 1);
    if (x->stream.dropped == 1)
        access_log_dropped(x, malformed);
}

static void record_end(struct worker *w, struct call *c)
{
    const struct exchange *x = &c->x;
    struct metrics *m = &w->metrics;

    metrics_add(&m->ends[x->end], 1);
    metrics_add(&m->wait_ms, x->wait_ms);
    metrics_add(&m->queue_ms, x->placement.queue_ms);
    metrics_add(&m->upstream_ms, story_upstream_ms(c->story, x));
    metrics_add(&m->bytes_out, x->reply.bytes_out);
    metrics_add(&m->events, x->reply.events);
    if (x->end == END_ANSWERED && x->stream.splices)
        metrics_add(&m->spliced, 1);
    if (x->end == END_ANSWERED && x->attempts > 1)
        metrics_add(&m->rescued, 1);
    if (x->end == END_FAILED && x->attempts == 0)
        metrics_add(&m->untried[x->last_reason], 1);
    if (x->end == END_REFUSED)
        metrics_add(&m->refused, 1);
    if (x->request.sdk_retry)
        metrics_add(&m->sdk_retries, 1);
    if (x->repeat)
        metrics_add(&m->client_repeats, 1);
    metrics_add(&m->duration_ms, x->ended_ms - x->started_ms);
    metrics_request(counters_of(w, x->placement.target.upstream), x);
    access_log_request(x, w->config->parsed->log.access);
    story_end(w->history, &c->story, x, w->config->parsed->admin.slow_ms);
}

/* Whether a whole response may still wait for a slow client, which may never read it. (A streamed
 * one ends only when the kernel has all bytes before its end.) */
static bool is_on_its_way(const struct exchange *x)
{
    if (x->reply.begun)
        return false;
    return x->end == END_ANSWERED || x->end == END_FAILED || x->end == END_REFUSED;
}

static void call_ended(void *world, struct exchange *x)
{
    struct call *c = x->tag;

    c->end_pending = c->r && is_on_its_way(x);
    if (!c->end_pending)
        record_end(world, c);
}

static void record_late_end(struct call *c)
{
    struct exchange *x = &c->x;

    c->end_pending = false;
    if (!c->sent_whole) {
        x->end = END_CLIENT_GONE;
        x->reply.bytes_out = 0; /* the client may have read a part: unknown */
        x->last_reason = x->client_stalled ? REASON_CLIENT_STALLED : REASON_CLIENT_GONE;
    }
    record_end(c->w, c);
}

/* --- the table -------------------------------------------------------------------------------- */

static const struct exchange_ops world_ops = {
    .now_ms = world_now,
    .unix_ms = world_unix,
    .random = world_random,
    .plan = world_plan,
    .renew = call_renew,
    .other_key = call_other_key,
    .attempt_start = world_attempt_start,
    .attempt_cancel = world_attempt_cancel,
    .attempt_resume = world_attempt_resume,
    .timer_set = world_timer_set,
    .response_whole = world_response_whole,
    .response_begin = world_response_begin,
    .response_interim = world_response_interim,
    .response_wake = world_response_wake,
    .response_cut = world_response_cut,
    .spool_open = call_spool_open,
    .pressed = call_pressed,
    .turn_asked = call_turn_asked,
    .hedged = call_hedged,
    .attempt_failed = call_attempt_failed,
    .event_dropped = call_event_dropped,
    .ended = call_ended,
};

/* --- calls ------------------------------------------------------------------------------------ */

static struct call *call_take(struct worker *w)
{
    struct list *node = list_pop_last(&w->kept); /* the one used last */
    struct call *c;

    if (node) {
        w->kept_count--;
        return LIST_ENTRY(node, struct call, node);
    }
    c = calloc(1, sizeof(*c));
    if (!c)
        return NULL;
    c->w = w;
    c->magic = CALL_MAGIC;
    list_init(&c->run);
    list_init(&c->node);
    uv_timer_init(&w->loop, &c->timer);
    c->timer.data = c;
    return c;
}

static void on_call_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void call_free(struct call *c)
{
    uv_close((uv_handle_t *)&c->timer, on_call_closed);
}

void call_free_kept(struct worker *w)
{
    struct list *node;

    while ((node = list_pop(&w->kept)))
        call_free(LIST_ENTRY(node, struct call, node));
}

static struct call *call_begin(struct worker *w, struct frontend_request *r)
{
    struct call *c = call_take(w);
    struct exchange_limits limits = {
        .hold_limit = w->config->parsed->server.hold_limit,
        .max_body = w->config->parsed->server.max_body,
        .memory_body = w->config->parsed->server.memory_body,
        .spool_dir = w->config->parsed->server.spool_dir,
    };
    struct exchange_shared shared = {
        .turns = w->turns, .ready = &w->ready, .failures = w->failures};

    if (!c)
        return NULL;
    c->r = r;
    c->t[0] = c->t[1] = NULL;
    c->armed_at = TIMER_OFF;
    c->config = worker_config_ref(w->config);
    c->story = NULL;
    c->spool_warned = c->end_pending = c->sent_whole = false;
    exchange_init(&c->x, &world_ops, w, &shared, &limits);
    c->x.tag = c->x.slots[0].turn.tag = c->x.slots[1].turn.tag = c;
    list_append(&w->active, &c->node);
    w->active_count++;
    return c;
}

/* Both ends are closed: nothing points to the call any more. */
static void call_end(struct call *c)
{
    struct worker *w = c->w;

    if (c->end_pending)
        record_late_end(c);
    story_drop(w->history, &c->story);
    exchange_deinit(&c->x);
    c->handed_over = 0;
    call_count(c);
    worker_config_unref(c->config);
    worker_config_unref(c->config_before);
    c->config = c->config_before = NULL;
    uv_timer_stop(&c->timer);
    list_remove(&c->run);
    list_remove(&c->node);
    w->active_count--;
    if (w->kept_count >= KEEP_CALLS || w->closing) {
        call_free(c);
        return;
    }
    list_append(&w->kept, &c->node);
    w->kept_count++;
}

/* When the exchange has ended, the client's end may finish, unless the client has left. Its closing
 * ends the call. */
void call_run(struct call *c)
{
    if (!c->r)
        exchange_client_gone(&c->x);
    for (unsigned i = 0; i < 2; i++)
        if (c->x.slots[i].done)
            c->t[i] = NULL;
    exchange_step(&c->x);
    call_pass_body(c);
    call_count(c);
    if (c->x.state != EXCHANGE_DONE)
        return;
    if (!c->r)
        call_end(c);
    else if (c->x.client_gone)
        frontend_cut(c->r);
}

/* --- calls from the frontend ------------------------------------------------------------------ */

/* An allowed page may read its responses, and its browser may send a preflight first. Returns 0,
 * FRONTEND_PREFLIGHT or -ENOMEM. */
static int allow_page(struct frontend_request *r, const struct http_request *request)
{
    struct str origin, v;

    if (!headers_get(&request->headers, STR("origin"), &origin))
        return 0;
    if (frontend_allow_page(r, origin) < 0)
        return -ENOMEM;
    return http_request_is(request, "OPTIONS") && request->content_length == 0 &&
                   headers_get(&request->headers, STR("access-control-request-method"), &v)
               ? FRONTEND_PREFLIGHT
               : 0;
}

static bool may_read(void *ctx, const struct headers *h)
{
    const struct worker *w = ctx;
    const char *why;

    return frontend_may_enter(h, w->config->hosts, w->config->origins, &why);
}

/* C29: checks the client's token, if tokens are needed, and removes it and all other credentials of
 * the client. Returns 0 or -ENOKEY. */
static int check_token(struct worker *w, struct http_request *request, int *ret_token,
                       char *ret_why, size_t size)
{
    const struct tokens *t = w->config->parsed->server.client_tokens;
    bool any = false, query = false;
    unsigned at = 0, fields = request->headers.count;
    struct str text;

    if (!t)
        return 0;
    while (credentials_next(request, &at, &text)) {
        int found = tokens_find(t, text);

        any = true;
        query |= found >= 0 && at > fields;
        if (*ret_token < 0)
            *ret_token = found;
    }
    credentials_remove(request, query || dialect_of(http_request_path(request)) == DIALECT_GEMINI);
    if (*ret_token >= 0)
        return 0;
    snprintf(ret_why, size,
             any ? "retryd: the client token is not in client_keys_file; send one as the "
                   "API key"
                 : "retryd: a client token is needed (client_keys_file); send one as the API key "
                   "(Authorization: Bearer TOKEN, or x-api-key)");
    return -ENOKEY;
}

/* Returns 0, or the value with which on_headers refuses the request. */
static int refuse_headers(struct worker *w, struct frontend_request *r,
                          struct http_request *request, int *ret_token, char *ret_why, size_t size)
{
    const struct config_server *s = &w->config->parsed->server;
    const char *why = NULL;
    struct str v;
    int rc;

    if (!frontend_may_enter(&request->headers, w->config->hosts, w->config->origins, &why)) {
        frontend_explain_refusal(&request->headers, w->config->hosts, &w->config->origins, why,
                                 ret_why, size);
        return -EACCES;
    }
    if (worker_config_is_loop(&request->headers)) {
        snprintf(ret_why, size,
                 "retryd: this daemon sent this request itself: an upstream's url leads back to "
                 "this daemon");
        return -ELOOP;
    }
    rc = allow_page(r, request);
    if (rc < 0)
        snprintf(ret_why, size, "retryd: out of memory; try again");
    if (rc == 0)
        rc = check_token(w, request, ret_token, ret_why, size);
    if (rc != 0)
        return rc;
    if (headers_get(&request->headers, STR("upgrade"), &v) && str_ifind(v, STR("websocket")) >= 0) {
        snprintf(ret_why, size,
                 "retryd: WebSocket connections are not supported; use HTTP, or connect to the API "
                 "directly");
        return -ENOTSUP;
    }
    if (request->content_length != LENGTH_UNKNOWN && request->content_length > s->max_body) {
        snprintf(ret_why, size, "retryd: the body of %llu bytes is larger than max_body (%llu)",
                 (unsigned long long)request->content_length, (unsigned long long)s->max_body);
        return -EFBIG;
    }
    if (w->aborting) {
        snprintf(ret_why, size, "retryd: shutting down; retry shortly");
        return -EBUSY;
    }
    return call_shed(w, ret_why, size);
}

/* Notes the client, for the request's turns, the log and the counters. */
static void note_client(struct call *c, int token)
{
    const struct tokens *t = c->config->parsed->server.client_tokens;
    struct request *request = &c->x.request;

    request->client = tokens_client(t, (unsigned)token);
    metrics_add(&c->config->clients[token]->requests, 1);
    snprintf(request->client_name, sizeof(request->client_name), "%s",
             tokens_name(t, (unsigned)token));
}

static int on_headers(void *ctx, struct frontend_request *r, struct http_request *request,
                      void **ret_user, char *ret_why, size_t size)
{
    struct worker *w = ctx;
    int token = -1, rc = refuse_headers(w, r, request, &token, ret_why, size);
    struct call *c;

    if (rc == FRONTEND_PREFLIGHT)
        return rc;
    metrics_add(&w->metrics.requests, 1);
    if (rc == -ENOKEY)
        metrics_add(&w->metrics.unauthorized, 1);
    if (rc < 0)
        return rc;
    c = call_begin(w, r);
    if (!c) {
        snprintf(ret_why, size, "retryd: out of memory; try again");
        return -ENOMEM;
    }
    if (token >= 0)
        note_client(c, token);
    frontend_body_limit(r, c->x.limits.max_body);
    http_request_deinit(&c->x.request.http);
    c->x.request.http = *request;
    http_request_init(request);
    *ret_user = c;
    return 0;
}

static void on_complete(void *user)
{
    struct call *c = user;

    exchange_request_done(&c->x);
    call_enqueue(c);
}

static void on_body_refused(void *user, unsigned status)
{
    struct call *c = user;

    exchange_refused(&c->x, status);
    call_enqueue(c);
}

static void on_gone(void *user)
{
    struct call *c = user;

    exchange_client_gone(&c->x);
    call_enqueue(c);
}

static void on_stalled(void *user)
{
    exchange_client_stalled(&((struct call *)user)->x);
}

static ptrdiff_t on_pull(void *user, char *to, size_t max)
{
    struct call *c = user;
    ptrdiff_t n = exchange_pull(&c->x, to, max);

    /* Reading bytes may let a paused upstream continue; reading the end ends the exchange. */
    if (n < 0 || exchange_wants_room(&c->x))
        call_enqueue(c);
    return n;
}

static void on_closed(void *user, bool whole)
{
    struct call *c = user;

    c->r = NULL;
    c->sent_whole = whole;
    call_enqueue(c);
}

#define TLS_LOG_MS 60000 /* such a client may retry many times */

static void on_tls(void *ctx)
{
    struct worker *w = ctx;
    uint64_t now = world_now(w);

    metrics_add(&w->metrics.refused, 1);
    if (now < w->tls_quiet_until_ms)
        return;
    w->tls_quiet_until_ms = now + TLS_LOG_MS;
    log_begin(LOG_WARN,
              "a client speaks TLS to this plain HTTP listener; use http:// in its base URL");
    log_end();
}

static void on_refused(void *ctx, unsigned status, const char *why)
{
    struct worker *w = ctx;

    metrics_add(&w->metrics.refused, 1);
    if (w->config->parsed->log.access == ACCESS_OFF)
        return;
    log_begin(LOG_INFO, "request refused");
    log_u64("status", status);
    log_text("why", why);
    log_end();
}

const struct frontend_handler call_handler = {
    .on_headers = on_headers,
    .on_body = call_on_body,
    .on_complete = on_complete,
    .on_body_refused = on_body_refused,
    .on_gone = on_gone,
    .on_stalled = on_stalled,
    .on_pull = on_pull,
    .on_closed = on_closed,
    .on_tls = on_tls,
    .may_read = may_read,
    .on_refused = on_refused,
};
