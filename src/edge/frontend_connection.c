/* Watches the clients' connections for their end, and cuts off slow ones. */
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "edge/frontend_private.h"

#define DRAIN_HEADERS_TIME_MS 1000 /* while draining, for headers that have begun */
#define DRAIN_IDLE_MS 700          /* while draining, for headers to begin */
#define BODY_CHECK_MS 10000        /* in each interval of this length ... */
#define BODY_CHECK_BYTES 1024      /* ... this much of a body must arrive */
#define BODY_LOOK_MS 500           /* between two checks whether libmicrohttpd is stuck */
#define LAST_RESPONSE_MS 1000      /* to read a response that ends the connection amid the body */
#define NEVER UINT64_MAX
#define KEEPALIVE_IDLE_S 30
#define KEEPALIVE_INTERVAL_S 15

static void on_handle_closed(uv_handle_t *handle)
{
    struct connection *c = handle->data;

    if (--c->handles == 0)
        free(c);
}

static void on_timer(uv_timer_t *timer);

/* A timer that fires too early is started again, so it is moved only if it would fire too late.
 * This saves a busy connection three timer changes per request. */
static void expect_by(struct connection *c, uint64_t ms)
{
    uint64_t now = uv_now(c->f->loop);

    c->due_ms = now + ms;
    if (c->due_ms >= c->armed_ms || uv_is_closing((uv_handle_t *)&c->timer))
        return;
    c->armed_ms = c->due_ms;
    uv_timer_start(&c->timer, on_timer, ms, 0);
}

/* If the client is gone, the next iteration of the loop ends the connection. */
static void expect_within(struct connection *c, uint64_t ms)
{
    expect_by(c, c->gone ? 0 : ms);
}

void frontend_connection_shut(struct connection *c)
{
    shutdown(c->fd, SHUT_RDWR);
    frontend_ready(c);
}

/* --- clients that speak TLS ------------------------------------------------------------------- */

/* RFC 8446 5.1: a handshake record of any version. No HTTP request begins like this, and
 * libmicrohttpd would wait for the end of the first line. */
static bool is_tls(const unsigned char *p, size_t n)
{
    return n >= 2 && p[0] == 0x16 && p[1] == 0x03;
}

/* Responds in plain HTTP, which the client should have used. Its error message shows the text. */
static void respond_tls(struct connection *c)
{
    static const char body[] =
        "{\"error\":{\"message\":\"retryd: this listener accepts plain HTTP, not TLS; use http:// "
        "in the client's base URL\",\"type\":\"invalid_request_error\",\"param\":null,\"code\":"
        "\"plain_http_expected\"}}";
    char response[600];
    int n = snprintf(response, sizeof(response),
                     "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n"
                     "Content-Length: %zu\r\nx-should-retry: false\r\nConnection: close\r\n\r\n%s",
                     sizeof(body) - 1, body);
    char unread[4096];

    /* Closing a socket with unread bytes resets it, and the response would be lost. */
    for (unsigned i = 0; i < 16; i++)
        if (recv(c->fd, unread, sizeof(unread), MSG_DONTWAIT) <= 0)
            break;
    (void)send(c->fd, response, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
    frontend_connection_shut(c);
    if (c->f->handler->on_tls)
        c->f->handler->on_tls(c->f->ctx);
}

void frontend_connection_look_for_tls(struct connection *c)
{
    unsigned char first[2];
    ssize_t n;

    if (!c->fresh)
        return;
    n = recv(c->fd, first, sizeof(first), MSG_PEEK | MSG_DONTWAIT);
    c->fresh = n < 0;
    if (n > 0 && is_tls(first, (size_t)n))
        respond_tls(c);
}

/* --- the end of a connection ------------------------------------------------------------------ */

/* The client has closed or half closed its side; either way it counts as gone. libmicrohttpd misses
 * an end that arrives together with bytes and would wait for more of the request. It gets one
 * iteration to read those bytes and to respond. */
static void on_disconnect(uv_poll_t *watch, int status, int events)
{
    struct connection *c = watch->data;

    (void)status;
    (void)events;
    uv_poll_stop(watch);
    c->gone = true;
    if (c->current && c->current->passed) {
        frontend_ready(c);
    } else if (c->current && c->current->complete) {
        c->f->handler->on_gone(c->current->user);
        c->f->wake(c->f->wake_arg);
    } else {
        expect_within(c, 0);
    }
}

static bool has_unread(const struct connection *c)
{
    char byte;

    return recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

void frontend_connection_reset(struct connection *c)
{
    struct sockaddr none = {.sa_family = AF_UNSPEC};

    /* This disconnects TCP: the peer gets a reset, the kernel frees its buffers, and libmicrohttpd
     * still closes the descriptor. Unix sockets do not support it. */
    if (connect(c->fd, &none, sizeof(none)) < 0)
        frontend_connection_shut(c);
    else
        frontend_ready(c);
}

/* Reads a number that grows when the client reads its response. Returns false if there is none: a
 * Unix socket shows only the number of bytes in it, and libmicrohttpd keeps it full of a whole
 * response. Whole responses are limited by hold_limit. */
static bool read_taken(const struct connection *c, uint64_t *ret_taken)
{
    const struct frontend_request *r = c->current;
    uint64_t info[16]; /* the kernel's struct tcp_info up to tcpi_bytes_acked; libc's lacks it */
    socklen_t n = sizeof(info);

    if (getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, info, &n) < 0 || n < sizeof(info)) {
        *ret_taken = r->pulled;
        return r->pulled > 0;
    }
    *ret_taken = r->pulled + info[15];
    return true;
}

/* Checks whether the client reads its response. A response that waits for its upstream leaves no
 * bytes unacknowledged. */
static void check_taking(struct connection *c)
{
    uint64_t taken = 0;
    int waiting = 0;

    if (!read_taken(c, &taken) || ioctl(c->fd, SIOCOUTQ, &waiting) < 0)
        waiting = 0;
    if (waiting > 0 && taken == c->taken) {
        if (c->f->handler->on_stalled && c->current->user)
            c->f->handler->on_stalled(c->current->user);
        frontend_connection_reset(c);
        return;
    }
    c->taken = taken;
    expect_by(c, c->current->stall_ms);
}

/* A chunk line without an end fills libmicrohttpd's memory, and then 0.9.75 silently stops reading.
 * Two checks are many iterations apart: bytes that are unread at both will not be read. */
static bool is_stuck(struct connection *c)
{
    struct frontend_request *r = c->current;
    bool unread = r->body_bytes == r->body_seen && has_unread(c), before = r->body_unread;

    r->body_seen = r->body_bytes;
    r->body_unread = unread;
    return unread && before;
}

/* Amid a body: whether to wait for the client until the next check. */
static bool waits_for_body(struct connection *c)
{
    struct frontend_request *r = c->current;
    uint64_t now = uv_now(c->f->loop);

    if (r->sent_raw)
        return false;
    if (is_stuck(c) && !r->refused) {
        frontend_refuse_now(r, 400, "retryd: the line with a chunk's size does not end");
        expect_by(c, LAST_RESPONSE_MS);
        return true;
    }
    if (now >= r->body_due_ms) {
        if (r->body_bytes < r->body_mark + BODY_CHECK_BYTES) {
            if (!r->refused)
                frontend_refuse_now(r, 408, "retryd: the request's body arrives too slowly");
            return false;
        }
        r->body_mark = r->body_bytes;
        r->body_due_ms = now + BODY_CHECK_MS;
    }
    expect_by(c, BODY_LOOK_MS);
    return true;
}

static void on_overdue(struct connection *c)
{
    struct frontend_request *r = c->current;

    if (r && r->complete) {
        if (r->responded)
            check_taking(c);
        return;
    }
    /* The client is not slow here. If it is gone, cut it: libmicrohttpd does not notice that while
     * the connection is suspended. */
    if (r && r->held_back) {
        if (c->gone)
            frontend_cut(r);
        else
            expect_by(c, BODY_CHECK_MS);
        return;
    }
    /* A request that arrived just before the drain closes its connection is still served. */
    if (!r && !c->gone && c->f->draining && has_unread(c)) {
        expect_within(c, DRAIN_HEADERS_TIME_MS);
        return;
    }
    if (!c->gone && r && r->started && waits_for_body(c))
        return;
    frontend_connection_shut(c);
}

static void on_timer(uv_timer_t *timer)
{
    struct connection *c = timer->data;
    uint64_t now = uv_now(c->f->loop), due = c->due_ms;

    c->armed_ms = NEVER;
    if (due == NEVER)
        return;
    if (now < due) {
        expect_by(c, due - now);
        return;
    }
    c->due_ms = NEVER;
    on_overdue(c);
}

void frontend_connection_expect_body(struct connection *c)
{
    struct frontend_request *r = c->current;

    r->body_mark = r->body_bytes;
    r->body_due_ms = uv_now(c->f->loop) + BODY_CHECK_MS;
    expect_within(c, BODY_LOOK_MS);
}

void frontend_connection_expect_nothing(struct connection *c)
{
    c->due_ms = NEVER;
}

void frontend_connection_expect_taking(struct connection *c)
{
    const struct frontend_request *r = c->current;

    c->step_ms = uv_now(c->f->loop);
    c->taken = UINT64_MAX;
    if (r->complete && r->stall_ms > 0)
        expect_by(c, r->stall_ms);
}

void frontend_connection_expect_headers(struct connection *c)
{
    c->step_ms = uv_now(c->f->loop);
    expect_within(c, c->f->draining ? DRAIN_IDLE_MS : c->f->idle_ms);
}

static struct connection *connection_new(struct frontend *f, int fd)
{
    struct connection *c = calloc(1, sizeof(*c));

    if (!c)
        return NULL;
    c->f = f;
    c->fd = fd;
    c->fresh = true;
    if (uv_poll_init(f->loop, &c->watch, fd) < 0) {
        free(c);
        return NULL;
    }
    uv_timer_init(f->loop, &c->timer);
    c->watch.data = c->timer.data = c;
    c->handles = 2;
    uv_poll_start(&c->watch, UV_DISCONNECT, on_disconnect);
    c->armed_ms = NEVER;
    c->step_ms = uv_now(f->loop);
    expect_by(c, f->draining ? DRAIN_HEADERS_TIME_MS : f->headers_ms);
    list_init(&c->node);
    list_init(&c->ready);
    list_append(&f->connections, &c->node);
    f->count++;
    return c;
}

void frontend_connection_drop(struct connection *c)
{
    list_remove(&c->node);
    list_remove(&c->ready);
    c->f->count--;
    c->f->closed++;
    c->daemon->c = NULL;
    uv_close((uv_handle_t *)&c->watch, on_handle_closed);
    uv_close((uv_handle_t *)&c->timer, on_handle_closed);
}

void frontend_connection_notify(void *cls, struct MHD_Connection *mhd, void **socket_context,
                                enum MHD_ConnectionNotificationCode code)
{
    struct frontend *f = cls;
    struct connection *c = *socket_context;

    (void)mhd;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        *socket_context = f->adding;
        f->adding->known = true;
        return;
    }
    *socket_context = NULL;
    /* 0.9.75 does not report the end of a request that it refuses for its cookies. */
    if (c->current)
        frontend_over(c->current, false);
    frontend_connection_drop(c);
    f->wake(f->wake_arg);
}

static int refuse(struct frontend *f, int fd, int rc)
{
    close(fd);
    f->closed++;
    return rc;
}

int frontend_add(struct frontend *f, int fd)
{
    struct sockaddr_storage peer = {0};
    socklen_t n = sizeof(peer);
    struct client_daemon *daemon = f->count < f->max ? frontend_daemon_new(f) : NULL;
    struct connection *c;

    if (!daemon)
        return refuse(f, fd, -ENOMEM);
    c = connection_new(f, fd);
    if (!c) {
        frontend_daemon_free(daemon);
        return refuse(f, fd, -ENOMEM);
    }
    if (getpeername(fd, (struct sockaddr *)&peer, &n) < 0)
        n = sizeof(peer.ss_family);
    int on = 1, idle = KEEPALIVE_IDLE_S, interval = KEEPALIVE_INTERVAL_S;
    /* Unix sockets refuse the TCP options. No failure here justifies refusing the connection. */
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
    c->daemon = daemon;
    daemon->c = f->adding = c;
    if (MHD_add_connection(daemon->mhd, fd, (struct sockaddr *)&peer, n) == MHD_YES) {
        frontend_ready(c);
        return 0;
    }
    /* It has closed the socket, and may have reported that. */
    if (daemon->c)
        frontend_connection_drop(c);
    frontend_daemon_free(daemon);
    return -EIO;
}

/* --- room for others -------------------------------------------------------------------------- */

void frontend_times(struct frontend *f, uint64_t headers_ms, uint64_t idle_ms)
{
    f->headers_ms = headers_ms;
    f->idle_ms = idle_ms;
}

void frontend_make_room(struct frontend *f, unsigned max)
{
    unsigned open;

    for (;;) {
        /* The connection without progress for the longest time; the oldest come first in the
         * list. */
        struct connection *found = NULL;
        open = 0;
        for (struct list *n = f->connections.next; n != &f->connections; n = n->next) {
            struct connection *c = LIST_ENTRY(n, struct connection, node);

            if (c->ended)
                continue;
            ++open;
            if (!found || c->step_ms < found->step_ms)
                found = c;
        }
        struct connection *c = found;

        if (!c || open < max)
            return;
        c->ended = true;
        if (c->current && c->current->responded) /* half a response must not look whole */
            frontend_connection_reset(c);
        else
            frontend_connection_shut(c);
    }
}

/* --- the frontend's end ----------------------------------------------------------------------- */

unsigned frontend_connections(const struct frontend *f)
{
    return f->count;
}

uint64_t frontend_closed_total(const struct frontend *f)
{
    return f->closed;
}

/* A client's next request may be on its way: it still gets a response, with "Connection: close"
 * (RFC 9112 9.6). An idle connection is closed after a moment. */
void frontend_drain(struct frontend *f)
{
    f->draining = true;
    for (struct list *n = f->connections.next; n != &f->connections; n = n->next) {
        struct connection *c = LIST_ENTRY(n, struct connection, node);

        if (!c->current)
            expect_within(c, DRAIN_IDLE_MS);
        else if (!c->current->started)
            expect_within(c, DRAIN_HEADERS_TIME_MS);
    }
}

void frontend_abort(struct frontend *f)
{
    for (struct list *n = f->connections.next; n != &f->connections; n = n->next) {
        struct connection *c = LIST_ENTRY(n, struct connection, node);

        if (c->current)
            frontend_cut(c->current);
        else
            frontend_connection_shut(c);
    }
}
