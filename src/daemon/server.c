/* The main thread: starts everything, handles signals, supervises the workers, and ends. */
#include "daemon/server.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>
#include <uv.h>

#include "admin/status.h"
#include "base/clock.h"
#include "base/log.h"
#include "daemon/birth.h"
#include "daemon/server_private.h"
#include "edge/frontend_check.h"

#define PROBLEMS_BYTES_MAX (64 * 1024)
#define ADMIN_ROUNDS 16 /* before the loop polls its sockets again */
#define PING_MS 2000    /* interval between two pings of the workers */
/* The time that each ping requests from systemd, and that cut requests have to end. */
#define EXTEND_MS 10000

/* --- unused environment variables ------------------------------------------------------------- */

#define NAMES 8

/* Variables that curl and the SDKs honour. */
static const char *const https_proxies[NAMES] = {"HTTPS_PROXY", "https_proxy", "ALL_PROXY",
                                                 "all_proxy"};
static const char *const http_proxies[NAMES] = {"HTTP_PROXY", "http_proxy", "ALL_PROXY",
                                                "all_proxy"};
static const char *const bundles[NAMES] = {"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE",
                                           "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"};

struct found {
    const char *names[2 * NAMES];
    unsigned count;
};

static void look(const char *const *names, struct found *f)
{
    for (unsigned i = 0; i < NAMES && names[i]; i++) {
        const char *value = getenv(names[i]);
        bool known = false;

        for (unsigned k = 0; k < f->count; k++)
            known |= f->names[k] == names[i] || str_eq(str_from(f->names[k]), str_from(names[i]));
        if (value && value[0] && !known)
            f->names[f->count++] = names[i];
    }
}

static void list(const struct found *f, struct buf *out)
{
    for (unsigned i = 0; i < f->count; i++)
        buf_printf(out, "%s%s", i == 0 ? "" : i + 1 < f->count ? ", " : " and ", f->names[i]);
    buf_printf(out, f->count == 1 ? " is set and not used" : " are set and not used");
}

/* Writes one sentence about variables that are set and that other programs honour, but not retryd;
 * it names the keys to set instead. Returns false if there are none. Values are not shown: a
 * proxy's may hold a password. */
static bool unused_environment(const struct config *c, struct buf *out)
{
    struct found proxies = {.count = 0}, trust = {.count = 0};

    for (unsigned i = 0; i < c->upstream_count; i++) {
        const struct config_upstream *u = &c->upstreams[i];

        if (!u->unix_socket[0] && !u->proxy[0])
            look(u->tls ? https_proxies : http_proxies, &proxies);
        if (u->tls && !u->ca_file[0])
            look(bundles, &trust);
    }
    if (proxies.count > 0) {
        list(&proxies, out);
        buf_printf(out, ": the key proxy of [upstream NAME] would");
    }
    if (trust.count > 0) {
        buf_printf(out, proxies.count > 0 ? "; " : "");
        list(&trust, out);
        buf_printf(out, ": the key ca_file of [upstream NAME] would");
    }
    return proxies.count + trust.count > 0;
}

/* --- ending: from the signal to the last request ---------------------------------------------- */

/* retryd accepts new connections for drain_linger, finishes running requests for drain_timeout, and
 * cuts the rest.
 *
 *   serving --signal--> lingering --drain_linger--> draining --all answered--> over
 *                           |                          |
 *                           '------ second signal -----+--drain_timeout--> cut --> over */

static void abort_all(struct server *s, const char *why)
{
    if (s->aborting)
        return;
    s->aborting = true;
    log_line(LOG_WARN, "%s: cutting the remaining requests", why);
    for (unsigned i = 0; i < s->worker_count; i++)
        worker_abort(s->workers[i]);
}

static void on_drain_timeout(uv_timer_t *timer)
{
    abort_all(timer->data, "drain_timeout has passed");
}

static void drain(struct server *s)
{
    s->draining = true;
    sd_notify(0, "STATUS=Finishing running requests");
    listeners_last_call(s);
    listeners_close(s, false);
    log_line(LOG_INFO, "shutting down: finishing running requests for at most %llu ms",
             (unsigned long long)s->config->server.drain_timeout_ms);
    for (unsigned i = 0; i < s->worker_count; i++)
        worker_drain(s->workers[i]);
    uv_timer_start(&s->drain_timer, on_drain_timeout, s->config->server.drain_timeout_ms, 0);
}

static void on_linger_over(uv_timer_t *timer)
{
    drain(timer->data);
}

/* Asks systemd for more time. Called at each ping of the watchdog, so that a hanging main thread
 * gets none. */
static void extend_timeout(const struct server *s)
{
    if (s->ending && uv_now(&s->loop) < s->end_ms)
        sd_notifyf(0, "EXTEND_TIMEOUT_USEC=%llu", EXTEND_MS * 1000ull);
}

/* Handles SIGTERM and SIGINT. The second signal cuts everything. */
void server_end(struct server *s)
{
    const struct config_server *c = &s->config->server;

    if (s->ending) {
        if (!s->draining)
            drain(s);
        abort_all(s, "second signal");
        return;
    }
    s->ending = true;
    s->end_ms = uv_now(&s->loop) + c->drain_linger_ms + c->drain_timeout_ms + EXTEND_MS;
    sd_notify(0, "STOPPING=1");
    extend_timeout(s);
    if (c->drain_linger_ms == 0) {
        drain(s);
        return;
    }
    sd_notify(0, "STATUS=Shutting down, still accepting connections (drain_linger)");
    log_line(LOG_INFO, "shutting down: accepting connections for another %llu ms",
             (unsigned long long)c->drain_linger_ms);
    uv_timer_start(&s->drain_timer, on_linger_over, c->drain_linger_ms, 0);
}

/* --- the admin pages -------------------------------------------------------------------------- */

/* Whether the page is for scrapers and probes, which use names that cannot be listed. */
static bool is_for_machines(const struct http_request *r)
{
    struct str path = http_request_path(r);

    return str_eq(path, STR("/metrics")) || str_eq(path, STR("/healthz")) ||
           str_eq(path, STR("/readyz"));
}

/* The pages contain no secrets, but web pages must not read them (DNS rebinding). If the pages are
 * open to other machines, any address is allowed as Host, and any name for some pages. */
static bool may_see_admin(void *ctx, const struct http_request *r, char *ret_why, size_t size)
{
    const struct headers *h = &r->headers;
    const struct config *c = ((struct server *)ctx)->config;
    const struct string_list *l = &c->server.allowed_hosts;
    struct string_view_list hosts = {(const char *const *)l->items, l->count}, own = {NULL, 0};
    struct str host = STR("");
    const char *any, *why = NULL, *page;
    char origin[300];

    if (headers_get(h, STR("host"), &host) && !listeners_admin_is_local(ctx) &&
        (is_for_machines(r) || frontend_host_is_address(h) || str_ieq(host, STR("localhost")))) {
        any = host.p;
        hosts = (struct string_view_list){&any, 1};
    }
    /* A browser sends the status page's own origin with each POST. */
    snprintf(origin, sizeof(origin), "http://%.*s", (int)host.n, host.n ? host.p : "");
    page = origin;
    if (host.n > 0 && host.n < 256)
        own = (struct string_view_list){&page, 1};
    if (frontend_may_enter(h, hosts, own, &why))
        return true;
    frontend_explain_refusal(h, hosts, NULL, why, ret_why, size);
    return false;
}

static bool is_well(void *ctx)
{
    const struct server *s = ctx;

    return s->draining || s->pings_missed <= PINGS_MISSED_WELL;
}

static bool is_ready(void *ctx)
{
    return !((struct server *)ctx)->ending;
}

static void write_metrics(void *ctx, struct buf *out)
{
    struct server *s = ctx;
    struct metrics **sets = calloc(s->worker_count, sizeof(*sets));

    if (!sets) {
        out->failed = true;
        return;
    }
    for (unsigned i = 0; i < s->worker_count; i++)
        sets[i] = worker_metrics(s->workers[i]);
    metrics_write(sets, s->worker_count, clock_now_ms(), out);
    traffic_metrics(s->traffic, out);
    sharing_metrics(s->sharing, out);
    reload_metrics(s, out);
    metrics_write_process(out);
    free(sets);
}

static int write_status(void *ctx, enum admin_form form, uint64_t after, struct buf *out)
{
    struct status st;
    int rc = status_take(ctx, after, &st);

    if (rc < 0)
        return rc;
    if (form == ADMIN_JSON)
        rc = status_json(&st, after == 0, out);
    else if (form == ADMIN_HTML)
        status_html(&st, out);
    else
        status_text(&st, out);
    status_free(&st);
    return rc;
}

static int write_request(void *ctx, enum admin_form form, struct str id, struct buf *out)
{
    struct server *s = ctx;
    struct status st;
    struct story story;
    int rc;

    if (!history_find(s->history, id, &story))
        return -ENOENT;
    rc = status_take(s, UINT64_MAX, &st); /* without other ended requests */
    if (rc < 0)
        return rc;
    if (form == ADMIN_JSON)
        rc = status_story_json(&st, &story, out);
    else
        status_sentences(&st, &story, out);
    status_free(&st);
    return rc;
}

static int may_act(void *ctx, struct str token)
{
    const struct tokens *t = ((struct server *)ctx)->config->admin.tokens;

    if (!t)
        return -EPERM;
    return tokens_find(t, token) >= 0 ? 0 : -ENOKEY;
}

static bool is_upstream(const struct config *c, struct str name)
{
    for (unsigned i = 0; i < c->upstream_count; i++)
        if (str_eq(name, str_from(c->upstreams[i].name)))
            return true;
    return false;
}

static void refuse_upstream(const struct config *c, struct str name, struct buf *out)
{
    char shown[120];

    str_shown(shown, sizeof(shown), name);
    buf_printf(out, "there is no upstream \"%s\"; there %s", shown,
               c->upstream_count == 1 ? "is" : "are");
    for (unsigned i = 0; i < c->upstream_count; i++)
        buf_printf(out, "%s %s", i ? "," : "", c->upstreams[i].name);
    buf_printf(out, "\n");
}

static int act(void *ctx, const struct admin_action *action, struct buf *out)
{
    struct server *s = ctx;
    unsigned n;

    if (str_eq(action->name, STR("reload")))
        return reload(s, out) == EXIT_OK ? 0 : -EINVAL;
    if (str_eq(action->name, STR("drain"))) {
        log_line(LOG_INFO, "shutting down: requested through the admin listener");
        if (!s->ending)
            server_end(s);
        buf_printf(out, "running requests are finished, then retryd ends\n");
        return 0;
    }
    if (!str_eq(action->name, STR("reset")))
        return -ENOENT;
    if (action->upstream.n > 0 && !is_upstream(s->config, action->upstream)) {
        refuse_upstream(s->config, action->upstream, out);
        return -ESRCH;
    }
    n = turns_reset(traffic_turns(s->traffic), action->upstream, action->model);
    log_line(LOG_INFO, "an action on the admin listener reset %u gates, breakers and keys", n);
    buf_printf(out, "%u gates, breakers and keys were reset\n", n);
    return 0;
}

static const struct admin_source admin_source = {.may_enter = may_see_admin,
                                                 .well = is_well,
                                                 .ready = is_ready,
                                                 .metrics = write_metrics,
                                                 .status = write_status,
                                                 .may_act = may_act,
                                                 .act = act,
                                                 .request = write_request};

static void wake_admin(void *arg)
{
    ((struct server *)arg)->admin_work = true;
}

/* --- ending: closing down --------------------------------------------------------------------- */

/* Blocks the signals that the loop handles, or lets them through (`how`: see pthread_sigmask(3)),
 * for the calling thread and those that it starts. */
static void mask_signals(int how, sigset_t *ret_before)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(how, &set, ret_before);
}

static void close_handles(struct server *s)
{
    uv_handle_t *handles[] = {(uv_handle_t *)&s->term,   (uv_handle_t *)&s->interrupt,
                              (uv_handle_t *)&s->hangup, (uv_handle_t *)&s->drain_timer,
                              (uv_handle_t *)&s->pause,  (uv_handle_t *)&s->watchdog,
                              (uv_handle_t *)&s->change, (uv_handle_t *)&s->prepare};
    sigset_t before;

    if (s->closed)
        return;
    s->closed = true;
    if (s->host)
        s->host->close(s->host->ctx);
    mask_signals(SIG_BLOCK, &before); /* without handlers, a signal would end the process */
    listeners_close(s, true);
    for (size_t i = 0; i < sizeof(handles) / sizeof(handles[0]); i++)
        if (handles[i]->loop)
            uv_close(handles[i], NULL);
    if (s->admin)
        admin_close(s->admin);
    s->admin = NULL;
    control_close(s->control);
    s->control = NULL;
    rotation_close(s);
    sharing_close(s->sharing);
    if (s->traffic)
        traffic_close(s->traffic);
}

static bool all_stopped(const struct server *s)
{
    for (unsigned i = 0; i < s->worker_count; i++)
        if (!worker_stopped(s->workers[i]))
            return false;
    return true;
}

static void on_term(uv_signal_t *signal, int number)
{
    (void)number;
    server_end(signal->data);
}

/* A worker has closed a connection, noticed a changed file, adopted a configuration or stopped. */
static void on_change(uv_async_t *async)
{
    struct server *s = async->data;

    listeners_check(s);
    control_check(s->control);
    for (unsigned i = 0; i < s->worker_count; i++)
        if (worker_saw_change(s->workers[i])) {
            rotation_look(s);
            break;
        }
    /* No new admin connections: on_prepare waits for the remaining ones, then closes everything. */
    if (s->draining && all_stopped(s) && s->admin) {
        listeners_close(s, true);
        admin_abort(s->admin);
    }
}

static void on_worker_change(void *arg)
{
    uv_async_send(&((struct server *)arg)->change);
}

static void on_prepare(uv_prepare_t *prepare)
{
    struct server *s = prepare->data;

    for (int round = 0; s->admin_work && s->admin && round < ADMIN_ROUNDS; round++)
        s->admin_work = admin_turn(s->admin);
    if (s->admin_work && s->admin)
        uv_async_send(&s->change);
    if (s->draining && all_stopped(s) && s->admin && admin_idle(s->admin))
        close_handles(s);
    log_flush();
}

/* --- reloading -------------------------------------------------------------------------------- */

static enum exit_code on_reload(void *ctx, struct buf *output)
{
    return reload(ctx, output);
}

static bool reload_in_force(void *ctx)
{
    const struct server *s = ctx;

    for (unsigned i = 0; i < s->worker_count; i++)
        if (worker_serial(s->workers[i]) < s->config->serial && !worker_stopped(s->workers[i]))
            return false;
    return true;
}

static void on_hangup(uv_signal_t *signal, int number)
{
    struct buf output;

    (void)number;
    if (birth_terminal_gone()) {
        server_end(signal->data);
        return;
    }
    buf_init(&output, PROBLEMS_BYTES_MAX);
    (void)reload(signal->data, &output);
    buf_deinit(&output);
}

/* --- the watchdog ----------------------------------------------------------------------------- */

/* Notifies systemd only if every worker has replied since the last ping. */
static void on_watchdog(uv_timer_t *timer)
{
    struct server *s = timer->data;
    uint64_t least = UINT64_MAX;

    for (unsigned i = 0; i < s->worker_count; i++) {
        uint64_t pongs = worker_pongs(s->workers[i]);

        least = pongs < least ? pongs : least;
        worker_ping(s->workers[i]);
    }
    s->pings_missed = least > s->pongs_seen ? 0 : s->pings_missed + 1;
    s->pongs_seen = least;
    if (s->watched && (s->pings_missed == 0 || s->draining))
        sd_notify(0, "WATCHDOG=1");
    extend_timeout(s);
    reload_look(s);
    status_sample(s);
}

static void start_watchdog(struct server *s)
{
    uint64_t usec = 0, every_ms = PING_MS;

    s->watched = sd_watchdog_enabled(0, &usec) > 0 && usec >= 4000;
    if (s->watched && usec / 4000 < every_ms) /* two chances to reply in time */
        every_ms = usec / 4000;
    uv_timer_start(&s->watchdog, on_watchdog, 0, every_ms);
}

/* --- starting --------------------------------------------------------------------------------- */

/* The minimum for a listener and one worker, and for each further worker's loop and libraries. */
#define DESCRIPTORS_MIN 16
#define DESCRIPTORS_OF_A_WORKER 6

static unsigned workers_wanted(const struct config *c)
{
    return c->server.workers ? c->server.workers : uv_available_parallelism();
}

/* Checks that there are enough descriptors before anything needs them. libuv aborts if it gets no
 * pipe for signals, and some of its handles do not report errors; libmicrohttpd and libcurl do not
 * say what is missing. */
static int find_descriptors(const struct config *c, int any)
{
    unsigned workers = workers_wanted(c), n = 0;
    unsigned wanted = DESCRIPTORS_MIN + (workers - 1) * DESCRIPTORS_OF_A_WORKER;
    int *taken = calloc(wanted, sizeof(*taken));

    if (!taken)
        return -ENOMEM;
    while (n < wanted && (taken[n] = fcntl(any, F_DUPFD_CLOEXEC, 0)) >= 0)
        n++;
    for (unsigned i = 0; i < n; i++)
        close(taken[i]);
    free(taken);
    if (n == wanted)
        return 0;
    log_line(
        LOG_ERROR,
        "too few file descriptors to start: %u are available, %u worker%s and the listeners need "
        "%u; "
        "raise the limit (LimitNOFILE, ulimit -n)%s",
        n, workers, workers == 1 ? "" : "s", wanted, workers == 1 ? "" : ", or lower workers");
    return -EMFILE;
}

static int set_up_loop(struct server *s)
{
    int rc = uv_loop_init(&s->loop);

    if (rc < 0) {
        log_line(LOG_ERROR, "cannot start the event loop: %s", strerror(-rc));
        return rc;
    }
    s->has_loop = true;
    uv_signal_init(&s->loop, &s->term);
    uv_signal_init(&s->loop, &s->interrupt);
    uv_signal_init(&s->loop, &s->hangup);
    uv_timer_init(&s->loop, &s->drain_timer);
    uv_timer_init(&s->loop, &s->pause);
    uv_timer_init(&s->loop, &s->watchdog);
    uv_prepare_init(&s->loop, &s->prepare);
    rc = uv_async_init(&s->loop, &s->change, on_change);
    if (rc < 0)
        return rc;
    s->term.data = s->interrupt.data = s->hangup.data = s;
    s->pause.data = s->drain_timer.data = s->watchdog.data = s->prepare.data = s->change.data = s;
    if (!s->host) {
        uv_signal_start(&s->term, on_term, SIGTERM);
        uv_signal_start(&s->interrupt, on_term, SIGINT);
        uv_signal_start(&s->hangup, on_hangup, SIGHUP);
        /* main blocks signals, so that one during the start neither kills retryd nor is lost. */
        mask_signals(SIG_UNBLOCK, NULL);
    }
    uv_prepare_start(&s->prepare, on_prepare);
    return 0;
}

static int start_workers(struct server *s)
{
    unsigned n = workers_wanted(s->config);
    sigset_t before;
    int rc = 0;

    s->workers = calloc(n, sizeof(*s->workers));
    if (!s->workers)
        return -ENOMEM;
    /* A worker may outlive the handlers: a signal that it took then would end the process. */
    mask_signals(SIG_BLOCK, &before);
    while (s->worker_count < n) {
        struct worker_shared shared = {traffic_turns(s->traffic), s->failures, s->history};
        struct worker *w = worker_new(s->config, &shared, on_worker_change, s, &rc);

        if (!w) {
            log_line(LOG_ERROR, "cannot start worker %u: %s", s->worker_count, strerror(-rc));
            break;
        }
        rc = 0;
        s->workers[s->worker_count++] = w;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

#define POOL_THREADS 4 /* libuv's default unless UV_THREADPOOL_SIZE is set; its maximum is next */
#define POOL_THREADS_MAX 1024

/* Threads in libuv's pool. */
static unsigned pool_threads(void)
{
    const char *text = getenv("UV_THREADPOOL_SIZE");
    uint64_t n = POOL_THREADS;

    if (text && (!str_to_u64(str_from(text), &n) || n == 0))
        n = 1;
    return (unsigned)(n < POOL_THREADS_MAX ? n : POOL_THREADS_MAX);
}

static pthread_mutex_t all_started = PTHREAD_MUTEX_INITIALIZER;

static void *wait_for_all(void *unused)
{
    (void)unused;
    (void)pthread_mutex_lock(&all_started);
    (void)pthread_mutex_unlock(&all_started);
    return NULL;
}

/* Returns how many of `n` threads cannot be started while the others exist. */
static unsigned threads_missing(unsigned n)
{
    pthread_t threads[POOL_THREADS_MAX];
    unsigned have = 0;

    if (n > POOL_THREADS_MAX)
        n = POOL_THREADS_MAX;
    (void)pthread_mutex_lock(&all_started);
    while (have < n && pthread_create(&threads[have], NULL, wait_for_all, NULL) == 0)
        have++;
    (void)pthread_mutex_unlock(&all_started);
    for (unsigned i = 0; i < have; i++)
        (void)pthread_join(threads[i], NULL);
    return n - have;
}

static void no_work(uv_work_t *work)
{
    (void)work;
}

static void work_done(uv_work_t *work, int status)
{
    (void)status;
    free(work);
}

/* Starts libuv's pool now: libuv would start it with the first large body, and abort if it
 * cannot. */
static int start_pool(struct server *s)
{
    sigset_t all, before;
    unsigned missing;
    uv_work_t *work;

    /* A thread inherits the signal mask, and the pool's threads must take no signals. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    missing = threads_missing(pool_threads());
    work = missing == 0 ? malloc(sizeof(*work)) : NULL;
    if (work && uv_queue_work(&s->loop, work, no_work, work_done) < 0)
        free(work);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (missing > 0) {
        log_line(LOG_ERROR,
                 "cannot start %u of the %u threads that read and write large bodies; raise "
                 "the thread limit (TasksMax, ulimit -u), or lower workers",
                 missing, pool_threads());
        return -EAGAIN;
    }
    return 0; /* without memory, libuv starts the pool with the first large body */
}

static int check_loop(struct server *s)
{
    struct buf problems;
    bool loop;

    buf_init(&problems, PROBLEMS_BYTES_MAX);
    loop = listeners_loop(s, s->config, &problems);
    if (loop)
        log_line(LOG_ERROR, "%.*s", (int)problems.len, problems.p);
    buf_deinit(&problems);
    return loop ? -ELOOP : 0;
}

static int start(struct server *s)
{
    struct buf unused;
    int rc;

    s->failures = failures_new();
    s->history = history_new();
    s->traffic = s->failures && s->history ? traffic_new(&s->loop) : NULL;
    s->admin = s->traffic ? admin_new(&s->loop, &admin_source, s, wake_admin, s) : NULL;
    if (!s->admin)
        return -ENOMEM;
    rc = sharing_new(&s->loop, s->config, s->traffic, &s->sharing);
    if (rc == 0)
        rc = listeners_open(s);
    if (rc == 0)
        rc = check_loop(s);
    if (rc == 0)
        rc = start_workers(s);
    if (rc == 0)
        rc = start_pool(s);
    if (rc == 0)
        rc = rotation_begin(s);
    if (rc < 0)
        return rc;
    if (!s->host)
        s->control = control_new(&s->loop, on_reload, reload_in_force, s);
    if (!s->host && !s->control) /* only signals reload */
        log_line(LOG_WARN, "cannot open the control socket for retryd reload: %s", strerror(errno));
    start_watchdog(s);
    buf_init(&unused, 1024);
    if (unused_environment(s->config, &unused) && !unused.failed)
        log_line(LOG_WARN, "%.*s", (int)unused.len, unused.p);
    buf_deinit(&unused);
    log_line(LOG_INFO, "retryd " RETRYD_VERSION " is ready (%u worker%s)", s->worker_count,
             s->worker_count == 1 ? "" : "s");
    reload_started(s);
    s->started_unix_ms = s->reloads.taken_s * 1000;
    return s->host ? s->host->ready(s->host->ctx, s, &s->loop, s->listeners[0].socket.name) : 0;
}

static void end(struct server *s)
{
    for (unsigned i = 0; i < s->worker_count; i++) {
        if (!worker_stopped(s->workers[i]))
            worker_abort(s->workers[i]);
        worker_free(s->workers[i]);
    }
    free(s->workers);
    if (s->has_loop) {
        close_handles(s);
        uv_run(&s->loop, UV_RUN_DEFAULT);
        uv_loop_close(&s->loop);
    }
    sharing_free(s->sharing);
    traffic_free(s->traffic);
    failures_free(s->failures);
    history_free(s->history);
    if (s->spare_fd >= 0)
        close(s->spare_fd);
    config_unref(s->config);
    free(s->file_warned);
}

int server_run(struct config *config, const struct server_host *host, server_greeting greet)
{
    struct metrics_sum sum = {.requests = 0};
    struct server s;
    int rc;

    memset(&s, 0, sizeof(s));
    s.config = config;
    s.host = host;
    s.greet = greet;
    s.spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    rc = find_descriptors(config, s.spare_fd);
    if (rc == 0)
        rc = set_up_loop(&s);
    if (rc == 0)
        rc = start(&s);
    if (rc == 0)
        uv_run(&s.loop, UV_RUN_DEFAULT);
    for (unsigned i = 0; rc == 0 && i < s.worker_count; i++) /* all have stopped */
        metrics_add_to_sum(worker_metrics(s.workers[i]), &sum);
    if (rc == 0 && host)
        host->over(host->ctx, &sum);
    end(&s);
    if (rc == 0)
        log_line(LOG_INFO, "retryd has stopped");
    return rc;
}
