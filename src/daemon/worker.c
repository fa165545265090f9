/* The worker's turn: libraries record what happened, then every exchange that has news acts. */
#include "daemon/worker.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include "base/list.h"
#include "base/log.h"
#include "daemon/access_log.h"
#include "daemon/wiring.h"
#include "edge/frontend.h"
#include "edge/upstream.h"

#define CALL_MAGIC 0x63616c6cu
#define KEEP_CALLS 512     /* finished calls kept for re-use */
#define ROUNDS_PER_TURN 16 /* before the loop looks at its sockets again */
#define LAG_WARN_MS 100

/* One request in progress: the exchange and its two ends. */
struct call {
    unsigned magic;
    struct worker *w;
    struct exchange x;
    struct frontend_request *r; /* NULL when the client's end is closed */
    struct transfer *t;         /* NULL while no attempt runs */
    struct wiring *wiring;
    uv_timer_t timer;
    uint64_t armed_at; /* when the timer will fire; TIMER_OFF: it will not */
    struct list run;   /* in the worker's run queue, or on no list */
    struct list node;  /* among the worker's calls, active or kept */
};

struct inbox {
    pthread_mutex_t lock;
    int *fds;
    unsigned fd_count, fd_size;
    struct config *config; /* a new one; NULL: no change */
    bool drain, abort, ping;
};

struct worker {
    pthread_t thread;
    uv_loop_t loop;
    uv_async_t async;
    uv_prepare_t prepare;
    uv_check_t check;
    struct frontend *frontend;
    struct upstream *upstream;
    struct wiring *wiring;
    struct list run;
    struct list active;
    struct list kept;
    unsigned active_count, kept_count;
    bool work;
    bool draining, aborting, closing;
    uint64_t turn_began_ns;
    uint64_t random_state[4];
    struct inbox inbox;
    struct metrics metrics;
    atomic_uint given;  /* connections handed over */
    atomic_uint closed; /* ... and closed since */
    atomic_uint_fast64_t pongs;
    atomic_bool stopped;
    void (*on_change)(void *arg);
    void *arg;
};

/* --- the world of an exchange -------------------------------------------------------------------- */

static uint64_t world_now(void *world)
{
    struct worker *w = world;

    return uv_now(&w->loop);
}

static uint64_t world_unix(void *world)
{
    struct timespec t;

    (void)world;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
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

static void wake_worker(void *arg)
{
    struct worker *w = arg;

    w->work = true;
}

static void enqueue(struct call *c)
{
    if (list_empty(&c->run))
        list_append(&c->w->run, &c->run);
    c->w->work = true;
}

static void on_attempt_change(void *arg)
{
    enqueue(arg);
}

static int world_plan(void *world, struct exchange *x, struct str model, struct plan *ret_plan)
{
    (void)world;
    return wiring_plan(call_of(x)->wiring, request_path(&x->request.head), model, ret_plan);
}

static int world_attempt_start(void *world, struct exchange *x, const char *path,
                               const struct headers *headers)
{
    struct worker *w = world;
    struct call *c = call_of(x);
    const struct wire *wire = x->plan.target.upstream;
    struct upstream_request request = {
        .link = &wire->link,
        .method = x->request.head.method.p,
        .target = path,
        .headers = headers,
        .body = x->request.body.p,
        .body_len = x->request.body.len,
        .connect_timeout_ms = x->plan.settings->timeout.connect_ms,
    };

    metrics_add(&w->metrics.attempts, 1);
    return upstream_start(w->upstream, &request, &x->attempt, on_attempt_change, c, &c->t);
}

static void world_attempt_cancel(void *world, struct exchange *x)
{
    struct call *c = call_of(x);

    (void)world;
    if (c->t)
        upstream_cancel(c->t);
    c->t = NULL;
}

static void world_attempt_resume(void *world, struct exchange *x)
{
    struct call *c = call_of(x);

    (void)world;
    if (c->t)
        upstream_resume(c->t);
}

static void on_call_timer(uv_timer_t *timer)
{
    struct call *c = timer->data;

    c->armed_at = TIMER_OFF;
    enqueue(c);
}

/* Firing early is harmless, so an armed timer is only moved when it would fire too late. */
static void world_timer_set(void *world, struct exchange *x, uint64_t at_ms)
{
    struct call *c = call_of(x);
    uint64_t now = world_now(world);

    if (at_ms >= c->armed_at)
        return;
    c->armed_at = at_ms;
    uv_timer_start(&c->timer, on_call_timer, at_ms > now ? at_ms - now : 0, 0);
}

static int world_answer_whole(void *world, struct exchange *x, const struct answer_head *head,
                              struct buf *body)
{
    struct call *c = call_of(x);

    (void)world;
    return c->r ? frontend_whole(c->r, head, body) : -EPIPE;
}

static int world_answer_begin(void *world, struct exchange *x, const struct answer_head *head)
{
    struct call *c = call_of(x);

    (void)world;
    return c->r ? frontend_stream(c->r, head) : -EPIPE;
}

static void world_answer_wake(void *world, struct exchange *x)
{
    struct call *c = call_of(x);

    (void)world;
    if (c->r)
        frontend_wake(c->r);
}

static void world_answer_cut(void *world, struct exchange *x)
{
    struct call *c = call_of(x);

    (void)world;
    if (c->r)
        frontend_cut(c->r);
}

static void world_attempt_failed(void *world, struct exchange *x, const struct attempt_report *r)
{
    struct worker *w = world;

    metrics_add(&w->metrics.failures[r->verdict.reason], 1);
    if (r->decision.action == RETRY_AGAIN)
        metrics_add(&w->metrics.retries[r->verdict.reason], 1);
    if (r->duplicate)
        metrics_add(&w->metrics.duplicates, 1);
    access_log_attempt(x, r);
}

static void world_ended(void *world, struct exchange *x)
{
    struct worker *w = world;
    struct metrics *m = &w->metrics;

    metrics_add(&m->ends[x->end], 1);
    metrics_add(&m->wait_ms, x->wait_ms);
    metrics_add(&m->bytes_out, x->bytes_out);
    metrics_add(&m->events, x->events);
    if (x->end == END_ANSWERED && x->attempts > 1)
        metrics_add(&m->rescued, 1);
    if (x->end == END_REFUSED)
        metrics_add(&m->refused, 1);
    if (x->request.sdk_retry)
        metrics_add(&m->sdk_retries, 1);
    metrics_duration(m, x->ended_ms - x->started_ms);
    access_log_request(x, w->wiring->config->log.access);
}

static const struct exchange_ops world_ops = {
    .now_ms = world_now,
    .unix_ms = world_unix,
    .random = world_random,
    .plan = world_plan,
    .attempt_start = world_attempt_start,
    .attempt_cancel = world_attempt_cancel,
    .attempt_resume = world_attempt_resume,
    .timer_set = world_timer_set,
    .answer_whole = world_answer_whole,
    .answer_begin = world_answer_begin,
    .answer_wake = world_answer_wake,
    .answer_cut = world_answer_cut,
    .attempt_failed = world_attempt_failed,
    .ended = world_ended,
};

/* --- calls ------------------------------------------------------------------------------------------ */

static struct call *call_take(struct worker *w)
{
    struct list *node = list_pop(&w->kept);
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

static struct call *call_begin(struct worker *w, struct frontend_request *r)
{
    struct call *c = call_take(w);
    struct exchange_limits limits = {
        .hold_limit = w->wiring->config->server.hold_limit,
        .max_body = w->wiring->config->server.max_body,
    };

    if (!c)
        return NULL;
    c->r = r;
    c->t = NULL;
    c->armed_at = TIMER_OFF;
    c->wiring = wiring_ref(w->wiring);
    exchange_init(&c->x, &world_ops, w, &limits);
    c->x.tag = c;
    list_append(&w->active, &c->node);
    w->active_count++;
    return c;
}

/* Both ends are closed: nobody points here any more. */
static void call_end(struct call *c)
{
    struct worker *w = c->w;

    exchange_deinit(&c->x);
    wiring_unref(c->wiring);
    c->wiring = NULL;
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

/* An exchange that has ended lets its client's end finish; that closing ends the call. */
static void run_call(struct call *c)
{
    if (!c->r)
        exchange_client_gone(&c->x);
    if (c->x.attempt.done)
        c->t = NULL;
    exchange_step(&c->x);
    if (c->x.state != EXCHANGE_DONE)
        return;
    if (!c->r)
        call_end(c);
    else if (c->x.end == END_CLIENT_GONE)
        frontend_cut(c->r);
}

/* --- what the frontend brings -------------------------------------------------------------------------- */

static int refuse_head(const struct worker *w, const struct request_head *head, char *ret_why,
                       size_t size)
{
    const struct config_server *s = &w->wiring->config->server;
    const char *why = NULL;
    struct str v;

    if (!frontend_may_enter(&head->headers, w->wiring->hosts, w->wiring->origins, &why)) {
        snprintf(ret_why, size, "%s", why);
        return -EACCES;
    }
    if (headers_get(&head->headers, STR("upgrade"), &v) && str_ieq(v, STR("websocket"))) {
        snprintf(
            ret_why, size,
            "retryd: WebSocket connections are not passed through; send them to the API itself");
        return -ENOTSUP;
    }
    if (head->content_length != LENGTH_UNKNOWN && head->content_length > s->max_body) {
        snprintf(ret_why, size, "retryd: the body of %llu bytes is larger than max_body (%llu)",
                 (unsigned long long)head->content_length, (unsigned long long)s->max_body);
        return -EFBIG;
    }
    return 0;
}

static int on_head(void *ctx, struct frontend_request *r, struct request_head *head,
                   void **ret_user, char *ret_why, size_t size)
{
    struct worker *w = ctx;
    int rc = refuse_head(w, head, ret_why, size);
    struct call *c;

    metrics_add(&w->metrics.requests, 1);
    if (rc < 0)
        return rc;
    c = call_begin(w, r);
    if (!c) {
        snprintf(ret_why, size, "retryd: out of memory; try again");
        return -ENOMEM;
    }
    request_head_deinit(&c->x.request.head);
    c->x.request.head = *head;
    request_head_init(head);
    *ret_user = c;
    return 0;
}

static int on_body(void *user, const void *data, size_t n)
{
    return exchange_body(&((struct call *)user)->x, data, n);
}

static void on_complete(void *user)
{
    struct call *c = user;

    exchange_request_done(&c->x);
    enqueue(c);
}

static void on_gone(void *user)
{
    struct call *c = user;

    exchange_client_gone(&c->x);
    enqueue(c);
}

static ptrdiff_t on_pull(void *user, char *to, size_t max)
{
    struct call *c = user;
    ptrdiff_t n = exchange_pull(&c->x, to, max);

    /* Taking bytes may let a paused upstream go on; taking the end is the end. */
    if (n < 0 || c->x.attempt.paused)
        enqueue(c);
    return n;
}

static void on_closed(void *user)
{
    struct call *c = user;

    c->r = NULL;
    enqueue(c);
}

static void on_refused(void *ctx, unsigned status, const char *why)
{
    struct worker *w = ctx;

    metrics_add(&w->metrics.refused, 1);
    log_begin(LOG_INFO, "request refused");
    log_u64("status", status);
    log_text("why", why);
    log_end();
}

static const struct frontend_handler handler = {
    .on_head = on_head,
    .on_body = on_body,
    .on_complete = on_complete,
    .on_gone = on_gone,
    .on_pull = on_pull,
    .on_closed = on_closed,
    .on_refused = on_refused,
};

/* --- the turn --------------------------------------------------------------------------------------------- */

static void publish(struct worker *w)
{
    struct metrics *m = &w->metrics;
    unsigned closed = (unsigned)frontend_closed_total(w->frontend);
    struct upstream_stats s;

    upstream_stats(w->upstream, &s);
    metrics_set(&m->connections_opened, s.connections);
    metrics_set(&m->connections_reused, s.reused);
    metrics_set(&m->connections_stale, s.stale);
    metrics_set(&m->resends_vetoed, s.resend_vetoed);
    metrics_set(&m->active, w->active_count);
    metrics_set(&m->connections, frontend_connections(w->frontend));
    if (closed != atomic_load_explicit(&w->closed, memory_order_relaxed)) {
        atomic_store_explicit(&w->closed, closed, memory_order_release);
        w->on_change(w->arg);
    }
}

static void close_all(struct worker *w)
{
    struct list *node;

    w->closing = true;
    while ((node = list_pop(&w->kept)))
        call_free(LIST_ENTRY(node, struct call, node));
    frontend_close(w->frontend);
    upstream_close(w->upstream);
    uv_close((uv_handle_t *)&w->async, NULL);
    uv_close((uv_handle_t *)&w->prepare, NULL);
    uv_close((uv_handle_t *)&w->check, NULL);
}

static void turn(struct worker *w)
{
    struct list *node;

    for (int round = 0; w->work && round < ROUNDS_PER_TURN; round++) {
        w->work = false;
        if (frontend_turn(w->frontend))
            w->work = true;
        if (upstream_turn(w->upstream))
            w->work = true;
        while ((node = list_pop(&w->run))) {
            w->work = true;
            run_call(LIST_ENTRY(node, struct call, run));
        }
    }
    if (w->work)
        uv_async_send(&w->async);
    publish(w);
    if (w->draining && w->active_count == 0 && frontend_connections(w->frontend) == 0)
        close_all(w);
    log_flush();
}

static void note_lag(struct worker *w)
{
    uint64_t ms = (uv_hrtime() - w->turn_began_ns) / 1000000;
    uint64_t before = atomic_load_explicit(&w->metrics.lag_max_ms, memory_order_relaxed);

    if (ms > before)
        metrics_set(&w->metrics.lag_max_ms, ms);
    if (ms >= LAG_WARN_MS) {
        log_begin(LOG_WARN, "the event loop was held up");
        log_u64("lag_ms", ms);
        log_end();
    }
}

/* Before the loop sleeps: what timers have brought. */
static void on_prepare(uv_prepare_t *prepare)
{
    struct worker *w = prepare->data;

    if (w->work && !w->closing)
        turn(w);
    if (w->turn_began_ns)
        note_lag(w);
}

/* After the loop woke up: what sockets have brought. */
static void on_check(uv_check_t *check)
{
    struct worker *w = check->data;

    w->turn_began_ns = uv_hrtime();
    if (w->work && !w->closing)
        turn(w);
}

/* --- the inbox --------------------------------------------------------------------------------------------- */

static void adopt(struct worker *w, struct config *config)
{
    struct wiring *now = wiring_new(config);

    if (!now) {
        log_line(LOG_ERROR, "out of memory: the new configuration is not in force");
        return;
    }
    wiring_unref(w->wiring);
    w->wiring = now;
}

static void start_drain(struct worker *w)
{
    if (!w->draining)
        frontend_drain(w->frontend);
    w->draining = true;
    w->work = true;
}

static void start_abort(struct worker *w)
{
    start_drain(w);
    w->aborting = true;
    for (struct list *n = w->active.next; n != &w->active; n = n->next) {
        struct call *c = LIST_ENTRY(n, struct call, node);

        exchange_client_gone(&c->x);
        enqueue(c);
    }
    frontend_abort(w->frontend);
}

static void on_inbox(uv_async_t *async)
{
    struct worker *w = async->data;
    struct inbox *in = &w->inbox;
    struct inbox got;

    pthread_mutex_lock(&in->lock);
    got = *in;
    in->fds = NULL;
    in->fd_count = in->fd_size = 0;
    in->config = NULL;
    in->ping = false;
    pthread_mutex_unlock(&in->lock);
    if (w->closing)
        return;
    w->work = true;
    if (got.config) {
        adopt(w, got.config);
        config_unref(got.config);
    }
    for (unsigned i = 0; i < got.fd_count; i++)
        (void)frontend_add(w->frontend, got.fds[i]);
    free(got.fds);
    if (got.ping)
        atomic_fetch_add(&w->pongs, 1);
    if (got.drain && !w->draining)
        start_drain(w);
    if (got.abort && !w->aborting)
        start_abort(w);
}

int worker_add(struct worker *w, int fd)
{
    struct inbox *in = &w->inbox;
    int rc = 0;

    atomic_fetch_add(&w->given, 1);
    pthread_mutex_lock(&in->lock);
    if (in->fd_count == in->fd_size) {
        unsigned size = in->fd_size ? in->fd_size * 2 : 16;
        int *fds = realloc(in->fds, size * sizeof(*fds));

        if (fds) {
            in->fds = fds;
            in->fd_size = size;
        } else {
            rc = -ENOMEM;
        }
    }
    if (rc == 0)
        in->fds[in->fd_count++] = fd;
    pthread_mutex_unlock(&in->lock);
    if (rc < 0) {
        atomic_fetch_sub(&w->given, 1);
        close(fd);
        return rc;
    }
    uv_async_send(&w->async);
    return 0;
}

void worker_configure(struct worker *w, struct config *config)
{
    pthread_mutex_lock(&w->inbox.lock);
    config_unref(w->inbox.config);
    w->inbox.config = config_ref(config);
    pthread_mutex_unlock(&w->inbox.lock);
    uv_async_send(&w->async);
}

static void tell(struct worker *w, bool *flag)
{
    if (worker_stopped(w))
        return;
    pthread_mutex_lock(&w->inbox.lock);
    *flag = true;
    pthread_mutex_unlock(&w->inbox.lock);
    uv_async_send(&w->async);
}

void worker_drain(struct worker *w)
{
    tell(w, &w->inbox.drain);
}

void worker_abort(struct worker *w)
{
    tell(w, &w->inbox.abort);
}

void worker_ping(struct worker *w)
{
    tell(w, &w->inbox.ping);
}

bool worker_stopped(struct worker *w)
{
    return atomic_load(&w->stopped);
}

uint64_t worker_pongs(struct worker *w)
{
    return atomic_load(&w->pongs);
}

unsigned worker_load(struct worker *w)
{
    return atomic_load(&w->given) - atomic_load_explicit(&w->closed, memory_order_acquire);
}

struct metrics *worker_metrics(struct worker *w)
{
    return &w->metrics;
}

/* --- its life ----------------------------------------------------------------------------------------------- */

static void *run(void *arg)
{
    struct worker *w = arg;

    for (unsigned i = 0; i < w->wiring->config->upstream_count; i++)
        upstream_warm(w->upstream, &w->wiring->wires[i].link);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    wiring_unref(w->wiring);
    log_flush();
    log_thread_done();
    atomic_store(&w->stopped, true);
    w->on_change(w->arg);
    return NULL;
}

static int set_up_loop(struct worker *w, unsigned max_connections)
{
    int rc = uv_loop_init(&w->loop);

    if (rc < 0)
        return rc;
    if (uv_async_init(&w->loop, &w->async, on_inbox) < 0 ||
        uv_prepare_init(&w->loop, &w->prepare) < 0 || uv_check_init(&w->loop, &w->check) < 0)
        return -ENOMEM;
    w->async.data = w->prepare.data = w->check.data = w;
    uv_prepare_start(&w->prepare, on_prepare);
    uv_check_start(&w->check, on_check);
    w->upstream = upstream_new(&w->loop, wake_worker, w);
    w->frontend = frontend_new(&w->loop, &handler, w, max_connections, wake_worker, w);
    return w->upstream && w->frontend ? 0 : -ENOMEM;
}

/* The thread could not be started: the loop runs here once more, to close what it holds. */
static void tear_down(struct worker *w)
{
    if (!w->frontend || !w->upstream)
        return; /* out of memory before anything ran: the process is about to end */
    close_all(w);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    uv_loop_close(&w->loop);
}

struct worker *worker_new(struct config *config, void (*on_change)(void *arg), void *arg,
                          int *ret_error)
{
    struct worker *w = calloc(1, sizeof(*w));
    int rc = -ENOMEM;

    *ret_error = rc;
    if (!w)
        return NULL;
    list_init(&w->run);
    list_init(&w->active);
    list_init(&w->kept);
    w->on_change = on_change;
    w->arg = arg;
    pthread_mutex_init(&w->inbox.lock, NULL);
    if (getrandom(w->random_state, sizeof(w->random_state), 0) < 0)
        w->random_state[0] = (uint64_t)(uintptr_t)w | 1;
    w->wiring = wiring_new(config);
    if (w->wiring)
        rc = set_up_loop(w, config->server.max_connections + 64);
    if (rc == 0)
        rc = -pthread_create(&w->thread, NULL, run, w);
    if (rc == 0)
        return w;
    *ret_error = rc;
    tear_down(w);
    wiring_unref(w->wiring);
    free(w);
    return NULL;
}

void worker_free(struct worker *w)
{
    pthread_join(w->thread, NULL);
    for (unsigned i = 0; i < w->inbox.fd_count; i++)
        close(w->inbox.fds[i]);
    free(w->inbox.fds);
    config_unref(w->inbox.config);
    uv_loop_close(&w->loop);
    pthread_mutex_destroy(&w->inbox.lock);
    free(w);
}
