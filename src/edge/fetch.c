/* Runs libcurl on the loop: one multi handle, and its transfers. Reports the result of each. */
#include "edge/fetch.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "edge/fetch_private.h"

/* --- the trace of an attempt on the network --------------------------------------------------- */

/* Returns a number that libcurl keeps, in microseconds or bytes. */
static uint64_t number(const struct transfer *t, CURLINFO info)
{
    curl_off_t n = 0;

    curl_easy_getinfo(t->easy, info, &n);
    return n > 0 ? (uint64_t)n : 0;
}

/* Returns the duration of a phase. libcurl's times count from the start, and are 0 for a phase that
 * was not reached. */
static uint64_t phase_ms(uint64_t until_us, uint64_t since_us)
{
    return until_us > since_us ? (until_us - since_us) / 1000 : 0;
}

static const char *http_of(const struct transfer *t)
{
    long version = 0;

    curl_easy_getinfo(t->easy, CURLINFO_HTTP_VERSION, &version);
    switch (version) {
    case CURL_HTTP_VERSION_1_0:
        return "1.0";
    case CURL_HTTP_VERSION_1_1:
        return "1.1";
    case CURL_HTTP_VERSION_2_0:
        return "2";
    default:
        return "";
    }
}

/* Calls the request's `traced`. */
static void trace_transfer(const struct transfer *t, bool cancelled)
{
    const char *path = t->upstream->unix_socket;
    struct fetch_trace trace = {
        .address = "", .proxied = t->upstream->proxy[0] != '\0', .cancelled = cancelled};
    long opened = 0, port = 0;
    char *ip = NULL;

    if (!t->traced)
        return;
    curl_easy_getinfo(t->easy, CURLINFO_PRIMARY_IP, &ip);
    curl_easy_getinfo(t->easy, CURLINFO_PRIMARY_PORT, &port);
    curl_easy_getinfo(t->easy, CURLINFO_NUM_CONNECTS, &opened);
    trace.sent = t->sends > 0;
    trace.kept = trace.sent && opened == 0;
    if (path[0])
        trace.address = path;
    else if (ip)
        trace.address = ip;
    trace.port = path[0] ? 0 : (unsigned)port;
    trace.http = http_of(t);
    fetch_connector_trace(t, &trace);
    trace.first_byte_ms = number(t, CURLINFO_STARTTRANSFER_TIME_T) / 1000;
    trace.total_ms = number(t, CURLINFO_TOTAL_TIME_T) / 1000;
    trace.bytes_sent = number(t, CURLINFO_SIZE_UPLOAD_T);
    trace.bytes_received = t->a->received;
    t->traced(t->arg, &trace);
}

#define KEEP_HANDLES 64         /* easy handles kept for reuse */
#define KICK_MS 250             /* interval at which connecting transfers are run */
#define NO_KICK_NEEDED 0x080400 /* since this version of libcurl */

int fetch_global_init(void)
{
    /* libcurl's TLS library would write its session keys to that file. */
    unsetenv("SSLKEYLOGFILE");
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return -ENOMEM;
    fetch_transfer_global_init();
    return 0;
}

void fetch_global_deinit(void)
{
    curl_global_cleanup();
}

const char *fetch_version(void)
{
    return curl_version();
}

/* --- the multi handle and the loop ------------------------------------------------------------ */

static void on_timer(uv_timer_t *timer)
{
    struct fetch *u = timer->data;

    u->timer_due = true;
    u->wake(u->arg);
}

/* libcurl before 8.4 gives up an address after its share of the time, but sets no timer to try the
 * next one (https://github.com/curl/curl/issues/11920). It would try that one only when the connect
 * timeout is over. This timer therefore runs connecting transfers from time to time. */
static void on_kick(uv_timer_t *kick)
{
    struct fetch *u = kick->data;

    u->kick_due = true;
    u->wake(u->arg);
}

/* Only records, because libcurl may call this from within its own functions. */
static int timer_callback(CURLM *multi, long timeout_ms, void *arg)
{
    struct fetch *u = arg;

    (void)multi;
    if (timeout_ms < 0) {
        uv_timer_stop(&u->timer);
        u->timer_due = false;
    } else if (timeout_ms == 0) {
        u->timer_due = true;
        u->wake(u->arg);
    } else {
        uv_timer_start(&u->timer, on_timer, (uint64_t)timeout_ms, 0);
    }
    return 0;
}

static int socket_callback(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket)
{
    struct fetch *u = arg;
    struct fetch_socket *s = socket;
    int events = 0;

    if (!s) {
        s = fetch_socket_of(&u->sockets, fd);
        if (!s)
            return what == CURL_POLL_REMOVE ? 0 : -1;
        curl_multi_assign(u->multi, fd, what == CURL_POLL_REMOVE ? NULL : s);
    } else if (what == CURL_POLL_REMOVE) {
        curl_multi_assign(u->multi, fd, NULL);
    }
    /* A complete response whose upload still runs is noted. If the response has no length, only
     * libcurl knows when the last chunk has arrived; from then on it waits only to send the rest of
     * the request. */
    struct transfer *transfer = NULL;
    if (what == CURL_POLL_OUT) {
        curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&transfer);
        if (transfer && transfer->a && transfer->a->headers_done && !transfer->a->paused &&
            fetch_transfer_is_uploading(transfer))
            fetch_transfer_early(transfer);
    }
    if (what == CURL_POLL_IN || what == CURL_POLL_INOUT)
        events |= UV_READABLE;
    if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT)
        events |= UV_WRITABLE;
    return fetch_socket_want(s, events);
}

static void on_ready(void *arg, int fd, int events, bool error)
{
    struct fetch *u = arg;
    int running, flags = 0;

    if (events & UV_READABLE)
        flags |= CURL_CSELECT_IN;
    if (events & UV_WRITABLE)
        flags |= CURL_CSELECT_OUT;
    /* With CURL_CSELECT_ERR alone libcurl reads neither the error nor the bytes before it. */
    if (error)
        flags |= CURL_CSELECT_ERR | CURL_CSELECT_IN | CURL_CSELECT_OUT;
    curl_multi_socket_action(u->multi, fd, flags, &running);
    u->wake(u->arg);
}

static void on_idle_noise(void *arg)
{
    struct fetch *u = arg;

    u->stats.stale++;
}

curl_socket_t fetch_open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct transfer *t = arg;
    struct fetch *u = t->u;
    int fd;

    (void)purpose;
    if (fetch_transfer_veto_resend(t)) /* before it connects, not only in prereq_callback */
        return CURL_SOCKET_BAD;
    fd = socket(address->family, address->socktype | SOCK_CLOEXEC | SOCK_NONBLOCK,
                address->protocol);
    if (fd < 0)
        return CURL_SOCKET_BAD;
    if (fetch_socket_add(&u->sockets, fd) < 0) {
        close(fd);
        errno = ENOMEM;
        return CURL_SOCKET_BAD;
    }
    u->stats.connections++;
    u->stats.open++;
    if (curl_version_info(CURLVERSION_NOW)->version_num < NO_KICK_NEEDED &&
        !uv_is_active((uv_handle_t *)&u->kick))
        uv_timer_start(&u->kick, on_kick, KICK_MS, KICK_MS);
    return fd;
}

int fetch_close_socket(void *arg, curl_socket_t fd)
{
    struct fetch *u = arg;

    fetch_socket_remove(&u->sockets, fd);
    if (fd == u->keep_fd)
        return 0;
    close(fd);
    u->stats.open--;
    return 0;
}

static int set_up_multi(struct fetch *u)
{
    u->multi = curl_multi_init();
    u->share = curl_share_init();
    if (!u->multi || !u->share)
        return -ENOMEM;
    curl_multi_setopt(u->multi, CURLMOPT_SOCKETFUNCTION, socket_callback);
    curl_multi_setopt(u->multi, CURLMOPT_SOCKETDATA, u);
    curl_multi_setopt(u->multi, CURLMOPT_TIMERFUNCTION, timer_callback);
    curl_multi_setopt(u->multi, CURLMOPT_TIMERDATA, u);
    curl_multi_setopt(u->multi, CURLMOPT_MAXCONNECTS, MAX_IDLE_CONNECTIONS);
    curl_multi_setopt(u->multi, CURLMOPT_PIPELINING, CURLPIPE_MULTIPLEX);
    /* libcurl 7.88 keeps TLS sessions in each easy handle unless they are shared. Only one thread
     * uses the share, so it needs no locks. */
    curl_share_setopt(u->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
    return 0;
}

struct fetch *fetch_new(uv_loop_t *loop, void (*wake)(void *arg), void *arg)
{
    struct fetch *u = calloc(1, sizeof(*u));

    if (!u)
        return NULL;
    u->wake = wake;
    u->arg = arg;
    list_init(&u->running);
    list_init(&u->ready);
    list_init(&u->ended);
    u->keep_fd = -1;
    list_init(&u->free);
    fetch_sockets_init(&u->sockets, loop, on_ready, on_idle_noise, u);
    if (fetch_connections_init(&u->connections) < 0 || set_up_multi(u) < 0) {
        free(u->connections.input);
        if (u->multi)
            curl_multi_cleanup(u->multi);
        if (u->share)
            curl_share_cleanup(u->share);
        free(u);
        return NULL;
    }
    uv_timer_init(loop, &u->timer);
    uv_timer_init(loop, &u->kick);
    u->timer.data = u->kick.data = u;
    return u;
}

static void free_transfer(struct transfer *t)
{
    curl_easy_cleanup(t->easy);
    curl_url_cleanup(t->place);
    free(t->headers);
    free(t->url);
    free(t);
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct fetch *u = handle->data;

    if (--u->closing == 0)
        free(u);
}

void fetch_close(struct fetch *u)
{
    struct list *node;

    fetch_connections_deinit(&u->connections);
    while ((node = list_pop(&u->free)))
        free_transfer(LIST_ENTRY(node, struct transfer, node));
    curl_multi_cleanup(u->multi);
    curl_share_cleanup(u->share);
    fetch_sockets_deinit(&u->sockets);
    u->closing = 2;
    uv_close((uv_handle_t *)&u->timer, on_timer_closed);
    uv_close((uv_handle_t *)&u->kick, on_timer_closed);
}

void fetch_stats(const struct fetch *u, struct fetch_stats *ret)
{
    *ret = u->stats;
}

/* --- transfers -------------------------------------------------------------------------------- */

/* Returns a free transfer, preferably one that is set up for this upstream, or a new one. */
static struct transfer *take_transfer(struct fetch *u, uint64_t upstream_id)
{
    struct list *node = u->free.prev;
    struct transfer *t;

    if (list_empty(&u->free)) {
        struct transfer *fresh = calloc(1, sizeof(*fresh));
        if (!fresh)
            return NULL;
        fresh->easy = curl_easy_init();
        if (!fresh->easy) {
            free(fresh);
            return NULL;
        }
        fresh->magic = TRANSFER_MAGIC;
        fresh->u = u;
        list_init(&fresh->node);
        return fresh;
    }
    t = LIST_ENTRY(node, struct transfer, node);
    for (unsigned tries = 0; t->upstream_id != upstream_id && tries < 8; tries++) {
        node = node->prev;
        if (node == &u->free)
            break;
        t = LIST_ENTRY(node, struct transfer, node);
    }
    list_remove(&t->node);
    u->free_count--;
    return t;
}

static void recycle(struct transfer *t)
{
    struct fetch *u = t->u;

    list_remove(&t->node);
    free(t->headers);
    free(t->url);
    t->headers = NULL;
    t->url = NULL;
    t->a = NULL;
    /* A transfer that sent nothing may have ended during name resolution. libcurl 8.14 leaks the
     * name if such a handle is used again: https://github.com/curl/curl/issues/17602. */
    if (u->free_count >= KEEP_HANDLES || t->sends == 0) {
        free_transfer(t);
        return;
    }
    /* Both point to freed memory now. */
    curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, NULL);
    curl_easy_setopt(t->easy, CURLOPT_POSTFIELDS, NULL);
    list_append(&u->free, &t->node);
    u->free_count++;
}

/* `x`: the transfer only makes a connection for it. */
static int start(struct fetch *u, const struct fetch_request *request, struct attempt *a,
                 void (*notify)(void *arg), void *arg, struct http1 *x, struct transfer **ret)
{
    struct transfer *t = take_transfer(u, request->upstream->id);
    int rc;

    if (!t)
        return -ENOMEM;
    t->http1 = x;
    t->a = a;
    t->notify = notify;
    t->traced = request->traced;
    t->arg = arg;
    rc = fetch_transfer_prepare(t, request);
    if (rc == 0 && curl_multi_add_handle(u->multi, t->easy) != CURLM_OK)
        rc = -ENOMEM;
    if (rc < 0) {
        recycle(t);
        return rc;
    }
    list_append(&u->running, &t->node);
    *ret = t;
    return 0;
}

int fetch_connector_start(struct fetch *u, const struct fetch_request *r, struct http1 *x)
{
    return start(u, r, x->a, x->notify, x->arg, x, &x->connecting);
}

int fetch_start(struct fetch *u, const struct fetch_request *request, struct attempt *a,
                void (*notify)(void *arg), void *arg, struct transfer **ret)
{
    struct http1 *x;
    int rc;

    if (!fetch_upstream_is_plain_http1(request->upstream))
        return start(u, request, a, notify, arg, NULL, ret);
    rc = fetch_http1_start(u, request, a, notify, arg, &x);
    if (rc == 0)
        *ret = (struct transfer *)x;
    return rc;
}

/* Returns the HTTP/1.1 transfer that `t` stands for, or NULL. */
static struct http1 *http1_of(struct transfer *t)
{
    const unsigned *magic = (const unsigned *)t;

    return *magic == HTTP1_MAGIC ? (struct http1 *)t : NULL;
}

void fetch_resume(struct transfer *t)
{
    if (http1_of(t))
        fetch_http1_resume(http1_of(t));
    else
        fetch_transfer_resume(t);
}

void fetch_upload_ready(struct transfer *t)
{
    if (http1_of(t))
        fetch_http1_upload_ready(http1_of(t));
    else
        fetch_transfer_upload_ready(t);
}

/* --- the end of a transfer -------------------------------------------------------------------- */

/* Makes libcurl run the transfer's connection once, and so send what it has queued there. */
static bool nudge(struct transfer *t)
{
    int paused = (t->a->paused ? CURLPAUSE_RECV : 0) | (t->upload_paused ? CURLPAUSE_SEND : 0);

    if (paused == CURLPAUSE_ALL || curl_easy_pause(t->easy, paused) != CURLE_OK)
        return false;
    t->u->timer_due = true; /* libcurl sets its timer only if the pause has changed */
    t->u->wake(t->u->arg);
    return true;
}

/* Makes sure that the server learns of a cancelled transfer (C17). libcurl has closed an HTTP/1.1
 * connection by now. On HTTP/2 it has queued the reset of the stream, but sends it only when
 * something else happens on the connection, and until then the server keeps working. */
static void send_reset(struct fetch *u, struct fetch_socket *s)
{
    if (s->busy == 0) { /* no other transfer uses it */
        fetch_socket_discard(s);
        return;
    }
    for (struct list *n = u->running.next; n != &u->running; n = n->next) {
        struct transfer *other = LIST_ENTRY(n, struct transfer, node);

        if (other->socket.serial == s->serial && nudge(other)) {
            s->reset_owed = false;
            return;
        }
    }
}

/* Removes the transfer from libcurl. `whole`: both the request and the response are complete. */
static void detach(struct transfer *t, bool whole)
{
    struct fetch *u = t->u;
    struct fetch_socket *s;

    curl_multi_remove_handle(u->multi, t->easy);
    list_remove(&t->node);
    fetch_socket_end(&u->sockets, t->socket);
    s = fetch_socket_deref(&u->sockets, t->socket);
    if (!s)
        return;
    s->reset_owed |= !whole;
    if (s->reset_owed && !s->discarded)
        send_reset(u, s);
}

static void finish(struct transfer *t, CURLcode rc)
{
    struct attempt *a = t->a;

    if (t->http1 && rc == CURLE_OK) {
        struct http1 *x = t->http1;
        t->sends = 1; /* it may be used again */
        t->http1 = NULL;
        list_remove(&t->node);
        fetch_transfer_count_handshake(t);
        fetch_http1_connected(x, t);
        return;
    }
    fetch_outcome(t, rc);
    if (rc == CURLE_OK) {
        /* Notes HTTP/2, because frames on an idle HTTP/2 connection are normal. libcurl reads them
         * when it uses the connection again. */
        struct fetch_socket *s = fetch_socket_deref(&t->u->sockets, t->socket);
        long version = 0;
        if (s) {
            curl_easy_getinfo(t->easy, CURLINFO_HTTP_VERSION, &version);
            s->may_speak_idle = version >= CURL_HTTP_VERSION_2_0;
        }
    }
    a->connection.fd = t->socket.fd;
    a->connection.serial = t->socket.serial;
    trace_transfer(t, false);
    detach(t, rc == CURLE_OK && a->upload_whole);
    a->done = true;
    t->notify(t->arg);
    if (t->http1)
        fetch_http1_free(t->http1);
    t->http1 = NULL;
    recycle(t);
}

void fetch_release(struct transfer *t, int keep_fd)
{
    struct fetch *u = t->u;

    u->keep_fd = keep_fd;
    curl_multi_remove_handle(u->multi, t->easy);
    u->keep_fd = -1;
    recycle(t);
}

void fetch_connector_trace(const struct transfer *t, struct fetch_trace *trace)
{
    uint64_t dns = number(t, CURLINFO_NAMELOOKUP_TIME_T),
             connect = number(t, CURLINFO_CONNECT_TIME_T),
             tls = number(t, CURLINFO_APPCONNECT_TIME_T);

    trace->dns_ms = dns / 1000;
    trace->connect_ms = phase_ms(connect, dns);
    trace->tls_ms = phase_ms(tls, connect);
}

void fetch_connector_cancel(struct transfer *t)
{
    trace_transfer(t, true);
    detach(t, false);
    t->http1 = NULL;
    recycle(t);
}

void fetch_cancel(struct transfer *t)
{
    if (http1_of(t)) {
        fetch_http1_cancel(http1_of(t));
        return;
    }
    assert(t->magic == TRANSFER_MAGIC);
    t->a->upload_whole = fetch_transfer_upload_whole(t);
    trace_transfer(t, true);
    detach(t, false);
    recycle(t);
}

void fetch_drop_connection(struct fetch *u, const struct attempt *a)
{
    struct socket_ref ref = {.fd = a->connection.fd, .serial = a->connection.serial};
    struct fetch_socket *s = a->connection.fd < 0 ? NULL : fetch_socket_deref(&u->sockets, ref);

    if (a->connection.fd < 0)
        fetch_connection_drop(u, a->connection.serial);
    else if (s && s->busy == 0 && !s->discarded)
        fetch_socket_discard(s);
}

/* Finishes transfers whose response is complete although the upload still runs. */
static bool end_early(struct fetch *u)
{
    struct list *node = u->running.next;
    bool did = false;

    u->early = false;
    while (node != &u->running) {
        struct transfer *t = LIST_ENTRY(node, struct transfer, node);

        node = node->next;
        if (t->early) {
            finish(t, CURLE_OK);
            did = true;
        }
    }
    return did;
}

static bool run_http1(struct fetch *u)
{
    struct list *node;
    bool did = false;

    /* Runs each transfer only once, because it may ask to be run again. */
    for (struct list *last = u->ready.prev; last != &u->ready && !list_empty(&u->ready);) {
        node = list_pop(&u->ready);
        fetch_http1_run(LIST_ENTRY(node, struct http1, ready));
        did = true;
        if (node == last)
            break;
    }
    while ((node = list_pop(&u->ended))) {
        fetch_http1_finish(LIST_ENTRY(node, struct http1, node));
        did = true;
    }
    return did;
}

bool fetch_run(struct fetch *u)
{
    bool did = false;
    CURLMsg *msg;
    int left, running;

    if (u->kick_due) {
        /* Pausing and continuing a transfer makes libcurl set its timer, and so run it. */
        bool any = false;
        u->kick_due = false;
        for (struct list *n = u->running.next; n != &u->running; n = n->next) {
            struct transfer *t = LIST_ENTRY(n, struct transfer, node);

            if (t->sends > 0)
                continue;
            any = true;
            curl_easy_pause(t->easy, CURLPAUSE_RECV);
            curl_easy_pause(t->easy, CURLPAUSE_CONT);
        }
        if (!any)
            uv_timer_stop(&u->kick);
    }
    if (u->timer_due) {
        u->timer_due = false;
        did = true;
        curl_multi_socket_action(u->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    }
    while ((msg = curl_multi_info_read(u->multi, &left))) {
        struct transfer *t;
        CURLcode rc = msg->data.result;

        if (msg->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, (char **)&t);
        assert(t->magic == TRANSFER_MAGIC);
        finish(t, rc);
        did = true;
    }
    if (u->early)
        did = end_early(u) || did;
    return run_http1(u) || did;
}

/* --- one blocking request, for commands that query a running daemon --------------------------- */

/* Ends the transfer at the first header line, because only the status matters. */
static size_t stop_at_status(const char *line, size_t size, size_t count, void *arg)
{
    (void)line;
    (void)size;
    (void)count;
    (void)arg;
    return 0;
}

/* Returns -errno for a transfer that ended without a status. */
static int error_of(CURL *e, CURLcode rc)
{
    long error = 0;

    switch (rc) {
    case CURLE_OPERATION_TIMEDOUT:
        return -ETIMEDOUT;
    case CURLE_OUT_OF_MEMORY:
        return -ENOMEM;
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_UNSUPPORTED_PROTOCOL: /* libcurl treats a reply that is not HTTP as HTTP/0.9 */
        return -EPROTO;
    default:
        curl_easy_getinfo(e, CURLINFO_OS_ERRNO, &error);
        return error ? -(int)error : -ECONNRESET;
    }
}

static size_t take_body(const char *data, size_t size, size_t count, void *arg)
{
    return buf_add(arg, data, size * count) == 0 ? size * count : 0;
}

/* `body` NULL: only the status matters. */
static int ask(CURL *e, const char *address, const char *path, unsigned timeout_ms,
               struct buf *body)
{
    static char host[] = "Host: localhost", closes[] = "Connection: close", no_accept[] = "Accept:";
    struct curl_slist last = {.data = no_accept}, middle = {.data = closes, .next = &last},
                      headers = {.data = host, .next = &middle};
    long status = 0;
    CURLcode rc;

    const char *name = "", *port = address;
    char url[256];
    if (str_starts(str_from(address), STR("unix:"))) {
        curl_easy_setopt(e, CURLOPT_UNIX_SOCKET_PATH, address + strlen("unix:"));
        name = "localhost";
        port = "";
    } else if (str_istarts(str_from(address), STR("localhost:"))) {
        name = "127.0.0.1"; /* retryd listens there; libcurl would try ::1 first */
        port = strchr(address, ':');
    }
    snprintf(url, sizeof(url), "http://%s%s%s", name, port, path);
    curl_easy_setopt(e, CURLOPT_URL, url);
    curl_easy_setopt(e, CURLOPT_HTTPHEADER, &headers);
    curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(e, CURLOPT_PROXY, ""); /* without this, the environment may name a proxy */
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    if (body) {
        curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, take_body);
        curl_easy_setopt(e, CURLOPT_WRITEDATA, body);
    } else {
        curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, stop_at_status);
    }
    rc = curl_easy_perform(e);
    curl_easy_getinfo(e, CURLINFO_RESPONSE_CODE, &status);
    return status > 0 && (!body || rc == CURLE_OK) ? (int)status : error_of(e, rc);
}

int fetch_text(const char *address, const char *path, unsigned timeout_ms, struct buf *ret)
{
    int rc = -ENOMEM;
    CURL *e;

    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return rc;
    e = curl_easy_init();
    if (e)
        rc = ask(e, address, path, timeout_ms, ret);
    curl_easy_cleanup(e);
    curl_global_cleanup();
    return rc;
}

int fetch_status(const char *address, const char *path, unsigned timeout_ms)
{
    return fetch_text(address, path, timeout_ms, NULL);
}
