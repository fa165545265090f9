/* An iteration of a worker's loop: libraries record what happened, then every exchange that has
 * news acts. */
#include "worker/worker.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/log.h"
#include "worker/worker_private.h"

#define ROUNDS_PER_ITERATION 16 /* before the loop polls its sockets again */
#define LAG_WARN_MS 100

static void wake_worker(void *arg)
{
    struct worker *w = arg;

    w->work = true;
}

/* --- memory ----------------------------------------------------------------------------------- */

/* All threads update it. It may wrap around between one worker's addition and another's
 * subtraction, which is harmless. */
static _Atomic uint64_t buffered;
static _Atomic uint64_t most_buffered;

void worker_report(struct worker *w)
{
    uint64_t change = (uint64_t)w->buffered - w->buffered_reported, sum, seen;

    if (change == 0)
        return;
    w->buffered_reported = w->buffered;
    sum = atomic_fetch_add_explicit(&buffered, change, memory_order_relaxed) + change;
    seen = atomic_load_explicit(&most_buffered, memory_order_relaxed);
    while (sum > seen &&
           !atomic_compare_exchange_weak_explicit(&most_buffered, &seen, sum, memory_order_relaxed,
                                                  memory_order_relaxed))
        ;
}

uint64_t worker_buffered(void)
{
    return atomic_load_explicit(&buffered, memory_order_relaxed);
}

uint64_t worker_most_buffered(void)
{
    return atomic_load_explicit(&most_buffered, memory_order_relaxed);
}

/* --- an iteration ----------------------------------------------------------------------------- */

static void publish(struct worker *w)
{
    struct metrics *m = &w->metrics;
    unsigned closed = (unsigned)frontend_closed_total(w->frontend);
    struct fetch_stats s;

    fetch_stats(w->fetch, &s);
    metrics_set(&m->connections_accepted, atomic_load_explicit(&w->given, memory_order_relaxed));
    metrics_set(&m->connections_open, s.open);
    metrics_set(&m->connections_opened, s.connections);
    metrics_set(&m->handshakes, s.handshakes);
    metrics_set(&m->handshake_us, s.handshake_us);
    metrics_set(&m->connections_reused, s.reused);
    metrics_set(&m->connections_stale, s.stale);
    metrics_set(&m->resends_vetoed, s.resend_vetoed);
    metrics_set(&m->active, w->active_count);
    metrics_set(&m->connections, frontend_connections(w->frontend));
    metrics_set(&m->buffered, w->buffered);
    worker_report(w);
    if (closed != atomic_load_explicit(&w->closed, memory_order_relaxed)) {
        atomic_store_explicit(&w->closed, closed, memory_order_release);
        w->on_change(w->arg);
    }
}

static void close_all(struct worker *w)
{
    w->closing = true;
    call_free_kept(w);
    frontend_close(w->frontend);
    fetch_close(w->fetch);
    uv_close((uv_handle_t *)&w->async, NULL);
    uv_close((uv_handle_t *)&w->prepare, NULL);
    uv_close((uv_handle_t *)&w->check, NULL);
}

static void iterate(struct worker *w)
{
    struct list *node;

    for (int round = 0; w->work && round < ROUNDS_PER_ITERATION; round++) {
        w->work = false;
        if (frontend_run(w->frontend))
            w->work = true;
        if (fetch_run(w->fetch))
            w->work = true;
        while ((node = list_pop(&w->run))) {
            w->work = true;
            call_run(LIST_ENTRY(node, struct call, run));
        }
    }
    /* By now, the kernel has the last events of the streams. */
    if (w->aborting && !w->cut) {
        w->cut = true;
        w->work = true;
        frontend_abort(w->frontend);
    }
    if (w->work)
        uv_async_send(&w->async);
    publish(w);
    if (w->draining && w->active_count == 0 && frontend_connections(w->frontend) == 0)
        close_all(w);
    log_flush();
}

/* Before the loop sleeps: handles what timers have recorded. */
static void on_prepare(uv_prepare_t *prepare)
{
    struct worker *w = prepare->data;
    uint64_t now_ns, lag_ms;

    if (w->work && !w->closing)
        iterate(w);
    if (!w->iteration_began_ns)
        return;
    now_ns = uv_hrtime();
    lag_ms = (now_ns - w->iteration_began_ns) / 1000000;
    peak_note(&w->metrics.lag, lag_ms, now_ns / 1000000);
    if (lag_ms >= LAG_WARN_MS) {
        log_begin(LOG_WARN, "the event loop was held up");
        log_u64("lag_ms", lag_ms);
        log_end();
    }
}

/* After the loop woke up: handles what sockets have recorded. */
static void on_check(uv_check_t *check)
{
    struct worker *w = check->data;

    w->iteration_began_ns = uv_hrtime();
    if (w->work && !w->closing)
        iterate(w);
}

/* --- the inbox -------------------------------------------------------------------------------- */

static bool has_authorities(const struct worker_config *c, const struct fetch_upstream *upstream)
{
    for (unsigned i = 0; i < c->parsed->upstream_count; i++)
        if (c->upstreams[i].fetch.ca_version == upstream->ca_version &&
            !strcmp(c->upstreams[i].fetch.ca_path, upstream->ca_path) &&
            !strcmp(c->upstreams[i].fetch.ca_file, upstream->ca_file))
            return true;
    return false;
}

void worker_adopt(struct worker *w, struct config *config)
{
    struct worker_config *now = worker_config_new(config, &w->metrics), *before = w->config;

    atomic_store(&w->serial, config->serial);
    w->on_change(w->arg);
    if (!now) {
        log_line(LOG_ERROR, "out of memory: a worker keeps the previous configuration");
        return;
    }
    w->config = now;
    for (unsigned i = 0; i < config->upstream_count; i++) {
        turns_limits(w->turns, &now->upstreams[i].upstream);
        if (!has_authorities(before, &now->upstreams[i].fetch))
            fetch_warm(w->fetch, &now->upstreams[i].fetch);
    }
    worker_config_unref(before);
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

        exchange_abort(&c->x);
        call_enqueue(c);
    }
}

static void on_inbox(uv_async_t *async)
{
    struct worker *w = async->data;
    struct inbox *in = &w->inbox;
    struct inbox got;
    struct turn *turn;

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
    while ((turn = turns_ready_take(w->turns, &w->ready)))
        call_enqueue(turn->tag);
    if (got.config) {
        worker_adopt(w, got.config);
        config_unref(got.config);
    }
    for (unsigned i = 0; i < got.fd_count; i++)
        if (frontend_add(w->frontend, got.fds[i]) == -ENOMEM)
            log_line(LOG_WARN, "out of file descriptors or memory: closed a connection unserved; "
                               "raise the limit (LimitNOFILE, ulimit -n)");
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

static void set_flag(struct worker *w, bool *flag)
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
    set_flag(w, &w->inbox.drain);
}

void worker_abort(struct worker *w)
{
    set_flag(w, &w->inbox.abort);
}

void worker_ping(struct worker *w)
{
    set_flag(w, &w->inbox.ping);
}

bool worker_saw_change(struct worker *w)
{
    return atomic_exchange(&w->saw_change, false);
}

bool worker_stopped(struct worker *w)
{
    return atomic_load(&w->stopped);
}

uint64_t worker_serial(struct worker *w)
{
    return atomic_load(&w->serial);
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

/* --- its life --------------------------------------------------------------------------------- */

static void *run(void *arg)
{
    struct worker *w = arg;

    for (unsigned i = 0; i < w->config->parsed->upstream_count; i++)
        fetch_warm(w->fetch, &w->config->upstreams[i].fetch);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    worker_config_unref(w->config);
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
    w->fetch = fetch_new(&w->loop, wake_worker, w);
    w->frontend = frontend_new(&w->loop, &call_handler, w, max_connections, wake_worker, w);
    return w->fetch && w->frontend ? 0 : -ENOMEM;
}

/* The thread could not be started: runs the loop here to close its handles. */
static void tear_down(struct worker *w)
{
    if (!w->frontend || !w->fetch)
        return; /* out of memory before anything ran: the process is about to end */
    close_all(w);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    uv_loop_close(&w->loop);
}

static void wake_for_turns(void *arg)
{
    uv_async_send(&((struct worker *)arg)->async);
}

struct worker *worker_new(struct config *config, const struct worker_shared *shared,
                          void (*on_change)(void *arg), void *arg, int *ret_error)
{
    struct worker *w = calloc(1, sizeof(*w));
    int rc = -ENOMEM;

    *ret_error = rc;
    if (!w)
        return NULL;
    list_init(&w->run);
    list_init(&w->active);
    list_init(&w->kept);
    w->turns = shared->turns;
    w->failures = shared->failures;
    w->history = shared->history;
    turns_ready_init(&w->ready, wake_for_turns, w);
    w->on_change = on_change;
    w->arg = arg;
    pthread_mutex_init(&w->inbox.lock, NULL);
    if (getrandom(w->random_state, sizeof(w->random_state), 0) < 0)
        w->random_state[0] = (uint64_t)(uintptr_t)w | 1;
    atomic_init(&w->serial, config->serial);
    metrics_init(&w->metrics);
    w->config = worker_config_new(config, &w->metrics);
    if (w->config)
        rc = set_up_loop(w, config->server.max_connections + 64);
    if (rc == 0)
        rc = -pthread_create(&w->thread, NULL, run, w);
    if (rc == 0)
        return w;
    *ret_error = rc;
    tear_down(w);
    worker_config_unref(w->config);
    metrics_deinit(&w->metrics);
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
    metrics_deinit(&w->metrics);
    free(w);
}
