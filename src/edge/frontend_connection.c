/* The clients' connections: watched for their end, and cut off when they are too slow. */
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "edge/frontend_private.h"

#define DRAIN_HEADERS_TIME_MS 1000 /* while draining, a head that is on its way likewise */
#define DRAIN_IDLE_MS \
    700 /* ... and one that has not begun to come: no more than the end may wait */
#define BODY_CHECK_MS 10000   /* in each such time ... */
#define BODY_CHECK_BYTES 1024 /* ... so much of a body must come */
#define BODY_LOOK_MS 500      /* how soon one that libmicrohttpd cannot read on is found */
#define SAID_TIME_MS 1000     /* to read an answer that ends the connection amid the body */
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

/* A timer that fires too early looks again: it is only moved where it would fire too late, which
 * spares a busy connection three moves a request. */
static void expect_by(struct connection *c, uint64_t ms)
{
    uint64_t now = uv_now(c->f->loop);

    c->due_ms = now + ms;
    if (c->due_ms >= c->armed_ms || uv_is_closing((uv_handle_t *)&c->timer))
        return;
    c->armed_ms = c->due_ms;
    uv_timer_start(&c->timer, on_timer, ms, 0);
}

/* Once the client is gone there is nothing to expect any more: the next turn of the loop ends it. */
static void expect_within(struct connection *c, uint64_t ms)
{
    expect_by(c, c->gone ? 0 : ms);
}

void frontend_connection_shut(struct connection *c)
{
    shutdown(c->fd, SHUT_RDWR);
}

/* --- clients that speak TLS ---------------------------------------------------------------------- */

/* RFC 8446 5.1: a record of the handshake, of whatever version. No HTTP request begins so, and
 * libmicrohttpd would wait for the end of its first line. */
static bool is_tls(const unsigned char *p, size_t n)
{
    return n >= 2 && p[0] == 0x16 && p[1] == 0x03;
}

/* In plain text, for that is what the client would have to speak, and what its errors show. */
static void respond_tls(struct connection *c)
{
    static const char body[] =
        "{\"error\":{\"message\":\"retryd: this listener speaks plain HTTP, not TLS; use http:// in "
        "the client's base URL\",\"type\":\"invalid_request_error\",\"param\":null,\"code\":"
        "\"plain_http_expected\"}}";
    char response[600];
    int n = snprintf(response, sizeof(response),
                     "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n"
                     "Content-Length: %zu\r\nx-should-retry: false\r\nConnection: close\r\n\r\n%s",
                     sizeof(body) - 1, body);
    char unread[4096];

    /* What is left unread when a socket closes resets it, and the answer would be lost. */
    for (unsigned i = 0; i < 16; i++)
        if (recv(c->fd, unread, sizeof(unread), MSG_DONTWAIT) <= 0)
            break;
    (void)send(c->fd, response, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
    frontend_connection_shut(c);
    if (c->f->handler->on_tls)
        c->f->handler->on_tls(c->f->ctx);
}

/* Looks at a connection's first bytes, once, before libmicrohttpd reads them. */
static void look_for_tls(struct connection *c)
{
    unsigned char first[2];
    ssize_t n = recv(c->fd, first, sizeof(first), MSG_PEEK | MSG_DONTWAIT);

    list_remove(&c->fresh);
    if (n > 0 && is_tls(first, (size_t)n))
        respond_tls(c);
    else if (n < 0)
        list_append(&c->f->fresh, &c->fresh);
}

/* Where many say nothing, each is looked at from time to time: no turn may cost more for them. */
#define FRESH_LOOKS 16

void frontend_connection_look_at_fresh(struct frontend *f)
{
    struct list *last = f->fresh.prev, *n;
    unsigned looks = 0;

    if (list_empty(&f->fresh))
        return;
    do {
        n = f->fresh.next;
        look_for_tls(LIST_ENTRY(n, struct connection, fresh));
    } while (n != last && ++looks < FRESH_LOOKS);
}

/* --- the end of a connection -------------------------------------------------------------------- */

/* The client has closed, or half closed, its side: either way it is taken to be gone. An end that
 * comes together with bytes before it is lost on libmicrohttpd, which would wait for more of the
 * request; it gets one turn to read those bytes, and to write what it has to say about them. */
static void on_disconnect(uv_poll_t *watch, int status, int events)
{
    struct connection *c = watch->data;

    (void)status;
    (void)events;
    uv_poll_stop(watch);
    c->gone = true;
    if (c->current && c->current->complete) {
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

    /* TCP's own way to take a connection back: the peer gets a reset, what the kernel still held
     * for it is freed, and the descriptor stays libmicrohttpd's to close. Unix sockets have none. */
    if (connect(c->fd, &none, sizeof(none)) < 0)
        frontend_connection_shut(c);
}

/* How far the client has come with its answer: a number that moves when it takes something. False
 * where that cannot be told: a Unix socket shows how much waits in it, which for a whole answer is
 * the same again as soon as libmicrohttpd has filled it up. Those are bounded by hold_limit. */
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

/* An answer goes out. Where it waits for its upstream, nothing is left unacknowledged. */
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

/* A chunk's line that does not end fills all the memory that libmicrohttpd has: then it neither reads on
 * nor says so (0.9.75). Bytes that lie there from one look to the next, which comes many turns later,
 * are not going to be read. */
static bool is_stuck(struct connection *c)
{
    struct frontend_request *r = c->current;
    bool unread = r->body_bytes == r->body_seen && has_unread(c), before = r->body_unread;

    r->body_seen = r->body_bytes;
    r->body_unread = unread;
    return unread && before;
}

/* Amid a body: whether the client is waited for still, until the next look. */
static bool body_goes_on(struct connection *c)
{
    struct frontend_request *r = c->current;
    uint64_t now = uv_now(c->f->loop);

    if (r->said)
        return false;
    if (is_stuck(c) && !r->refused) {
        frontend_refuse_now(r, 400, "retryd: the line before a chunk of the body does not end");
        expect_by(c, SAID_TIME_MS);
        return true;
    }
    if (now >= r->body_due_ms) {
        if (r->body_bytes < r->body_mark + BODY_CHECK_BYTES) {
            if (!r->refused)
                frontend_refuse_now(r, 408, "retryd: the request's body comes too slowly");
            return false;
        }
        r->body_mark = r->body_bytes;
        r->body_due_ms = now + BODY_CHECK_MS;
    }
    expect_by(c, BODY_LOOK_MS);
    return true;
}

static void overdue(struct connection *c)
{
    struct frontend_request *r = c->current;

    if (r && r->complete) {
        if (r->answered)
            check_taking(c);
        return;
    }
    /* It is not the client that is slow; but one that is gone is let go, which libmicrohttpd would
     * not see of a connection that is suspended. */
    if (r && r->held_back) {
        if (c->gone)
            frontend_cut(r);
        else
            expect_by(c, BODY_CHECK_MS);
        return;
    }
    /* A request that came just before the drain would have closed its connection is still served. */
    if (!r && !c->gone && c->f->draining && has_unread(c)) {
        expect_within(c, DRAIN_HEADERS_TIME_MS);
        return;
    }
    if (!c->gone && r && r->started && body_goes_on(c))
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
    overdue(c);
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
    list_init(&c->fresh);
    list_append(&f->connections, &c->node);
    f->count++;
    look_for_tls(c);
    return c;
}

void frontend_connection_notify(void *cls, struct MHD_Connection *mhd, void **socket_context,
                                enum MHD_ConnectionNotificationCode code)
{
    struct frontend *f = cls;
    struct connection *c = *socket_context;
    const union MHD_ConnectionInfo *info;

    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
        *socket_context = info ? connection_new(f, info->connect_fd) : NULL;
        return;
    }
    f->closed++;
    if (!c)
        return;
    *socket_context = NULL;
    /* 0.9.75 says nothing of a request that it refuses for its cookies. */
    if (c->current)
        frontend_over(c->current, false);
    list_remove(&c->node);
    list_remove(&c->fresh);
    f->count--;
    uv_close((uv_handle_t *)&c->watch, on_handle_closed);
    uv_close((uv_handle_t *)&c->timer, on_handle_closed);
    f->wake(f->wake_arg);
}

static void keep_alive(int fd)
{
    int on = 1, idle = KEEPALIVE_IDLE_S, interval = KEEPALIVE_INTERVAL_S;

    /* Unix sockets refuse the TCP ones; none of them matters enough to fail for. */
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
}

int frontend_add(struct frontend *f, int fd)
{
    struct sockaddr_storage peer = {0};
    socklen_t n = sizeof(peer);

    if (getpeername(fd, (struct sockaddr *)&peer, &n) < 0)
        n = sizeof(peer.ss_family);
    keep_alive(fd);
    /* It closes the socket where it fails. */
    if (MHD_add_connection(f->daemon, fd, (struct sockaddr *)&peer, n) != MHD_YES) {
        f->closed++;
        return -EIO;
    }
    frontend_dirty(f);
    return 0;
}

/* --- room for others ------------------------------------------------------------------------------ */

void frontend_times(struct frontend *f, uint64_t headers_ms, uint64_t idle_ms)
{
    f->headers_ms = headers_ms;
    f->idle_ms = idle_ms;
}

/* The one that has got no further for the longest; those that came first stand first. */
static struct connection *slowest(struct frontend *f, unsigned *ret_open)
{
    struct connection *found = NULL;

    *ret_open = 0;
    for (struct list *n = f->connections.next; n != &f->connections; n = n->next) {
        struct connection *c = LIST_ENTRY(n, struct connection, node);

        if (c->ended)
            continue;
        ++*ret_open;
        if (!found || c->step_ms < found->step_ms)
            found = c;
    }
    return found;
}

void frontend_make_room(struct frontend *f, unsigned max)
{
    unsigned open;

    for (;;) {
        struct connection *c = slowest(f, &open);

        if (!c || open < max)
            return;
        c->ended = true;
        if (c->current && c->current->answered) /* half an answer must not look like a whole one */
            frontend_connection_reset(c);
        else
            frontend_connection_shut(c);
        frontend_dirty(f);
    }
}

/* --- the frontend's end ---------------------------------------------------------------------------- */

unsigned frontend_connections(const struct frontend *f)
{
    return f->count;
}

uint64_t frontend_closed_total(const struct frontend *f)
{
    return f->closed;
}

/* A client cannot know yet, and its next request may be on its way: it is answered, with the news that the
 * connection closes (RFC 9112 9.6). One that sends nothing meanwhile sees its idle connection closed. */
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
    frontend_dirty(f);
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
    frontend_dirty(f);
}
