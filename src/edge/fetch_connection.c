/* Keeps HTTP/1.1 connections, watches them on the loop, and moves bytes. */
#include "edge/fetch_connection.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "edge/fetch_private.h"

int fetch_connections_init(struct connection_table *t)
{
    list_init(&t->kept);
    for (int i = 0; i < CONNECTION_BUCKETS; i++)
        list_init(&t->buckets[i]);
    t->count = 0;
    t->input = malloc(CONNECTION_INPUT);
    return t->input ? 0 : -ENOMEM;
}

void fetch_connections_deinit(struct connection_table *t)
{
    while (!list_empty(&t->kept))
        fetch_connection_close(LIST_ENTRY(t->kept.next, struct fetch_connection, by_age));
    free(t->input);
    t->input = NULL;
}

/* --- TLS -------------------------------------------------------------------------------------- */

/* Whether libcurl uses the same OpenSSL as this program, as far as the versions tell. */
static bool shares_openssl(void)
{
    const char *of_curl = curl_version_info(CURLVERSION_NOW)->ssl_version;
    struct str ours = str_from(OpenSSL_version(OPENSSL_FULL_VERSION_STRING));

    return of_curl && str_starts(str_from(of_curl), STR("OpenSSL/")) &&
           str_eq(str_from(of_curl + strlen("OpenSSL/")), ours);
}

/* Takes the bytes of a TLS session over from libcurl, which has called OpenSSL for it until now and
 * keeps no bytes of its own. With a proxy that is itself reached over TLS there is a session below
 * this one, so libcurl keeps the bytes. */
static void take_session(struct fetch_connection *c)
{
    struct curl_tlssessioninfo *info = NULL;

    if (c->tls->tls_proxy || !shares_openssl() ||
        curl_easy_getinfo(c->tls->easy, CURLINFO_TLS_SSL_PTR, &info) != CURLE_OK || !info ||
        info->backend != CURLSSLBACKEND_OPENSSL || !info->internals)
        return;
    SSL *session = info->internals;
    /* The BIO of libcurl works only within libcurl's calls. */
    if (SSL_set_fd(session, c->fd) != 1) {
        ERR_clear_error();
        return;
    }
    /* One read from the socket takes all that it has, up to a record; the buffer is freed when it
     * is empty. */
    SSL_set_read_ahead(session, 1);
    SSL_set_mode(session, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    c->session = session;
}

/* Translates the result of an operation that failed. */
static ptrdiff_t tls_failure(struct fetch_connection *c, int rc)
{
    int error = errno;
    const char *reason;

    switch (SSL_get_error(c->session, rc)) {
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        return -EAGAIN;
    case SSL_ERROR_SYSCALL:
        if (error) {
            ERR_clear_error();
            return -error;
        }
        reason = "the connection was closed";
        break;
    default:
        reason = ERR_reason_error_string(ERR_peek_error());
        break;
    }
    snprintf(c->u->connections.error, sizeof(c->u->connections.error), "TLS: %s",
             reason ? reason : "unknown error");
    ERR_clear_error();
    return -EIO;
}

static ptrdiff_t tls_recv(struct fetch_connection *c, char *to, size_t n)
{
    size_t did = 0;
    CURLcode rc;
    int got;

    if (c->session) {
        ERR_clear_error(); /* libcurl leaves errors of other connections, which SSL_get_error would see */
        got = SSL_read(c->session, to, (int)n);
        return got > 0 ? got : tls_failure(c, got);
    }
    rc = curl_easy_recv(c->tls->easy, to, n, &did);
    if (rc == CURLE_OK && did > 0)
        take_session(c);
    return rc == CURLE_OK ? (ptrdiff_t)did : rc == CURLE_AGAIN ? -EAGAIN : -EIO;
}

static ptrdiff_t tls_send(struct fetch_connection *c, const struct iovec *piece)
{
    size_t did = 0;
    CURLcode rc;
    int sent;

    if (c->session) {
        ERR_clear_error();
        sent = SSL_write(c->session, piece->iov_base, (int)piece->iov_len);
        return sent > 0 ? sent : tls_failure(c, sent);
    }
    rc = curl_easy_send(c->tls->easy, piece->iov_base, piece->iov_len, &did);
    return rc == CURLE_OK ? (ptrdiff_t)did : rc == CURLE_AGAIN ? -EAGAIN : -EIO;
}

/* --- bytes ------------------------------------------------------------------------------------ */

ptrdiff_t fetch_connection_recv(struct fetch_connection *c, char *to, size_t n)
{
    ssize_t got;

    if (c->tls)
        return tls_recv(c, to, n);
    do
        got = recv(c->fd, to, n, MSG_DONTWAIT);
    while (got < 0 && errno == EINTR);
    return got < 0 ? -errno : got;
}

ptrdiff_t fetch_connection_send(struct fetch_connection *c, const struct iovec *pieces,
                                unsigned count)
{
    struct msghdr m = {.msg_iov = (struct iovec *)(uintptr_t)pieces, .msg_iovlen = count};
    ssize_t sent;

    if (c->tls)
        return tls_send(c, pieces);
    do
        sent = sendmsg(c->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : sent;
}

bool fetch_connection_holds_input(const struct fetch_connection *c)
{
    return c->session ? SSL_has_pending(c->session) : c->tls && c->tls->tls_proxy;
}

const char *fetch_connection_error(const struct fetch_connection *c, int rc)
{
    if (c->session)
        return rc == -EIO ? c->u->connections.error : strerror(-rc);
    return c->tls && c->tls->errbuf[0] ? c->tls->errbuf : strerror(-rc);
}

void fetch_connection_bound_silence(struct fetch_connection *c, unsigned ms)
{
    if (c->silence_ms == ms)
        return;
    c->silence_ms = ms;
    setsockopt(c->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof(ms));
}

/* --- the loop --------------------------------------------------------------------------------- */

/* Whether nothing has arrived on a kept connection. Session tickets of TLS 1.3 may arrive at any
 * time; reading takes them in. */
static bool is_clean(struct fetch_connection *c)
{
    char byte;

    if (c->tls)
        return fetch_connection_recv(c, &byte, 1) == -EAGAIN;
    return recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct fetch_connection *c = poll->data;

    if (status < 0)
        c->armed = 0; /* libuv has stopped watching it */
    if (c->http1) {
        fetch_http1_ready(c->http1, events, status < 0);
        return;
    }
    if (status >= 0 && is_clean(c))
        return;
    c->u->stats.stale++;
    fetch_connection_close(c);
}

int fetch_connection_watch(struct fetch_connection *c, int events)
{
    if (c->armed == events)
        return 0;
    c->armed = events;
    if (events)
        return uv_poll_start(&c->poll, events, on_poll) < 0 ? -1 : 0;
    uv_poll_stop(&c->poll);
    return 0;
}

/* --- life ------------------------------------------------------------------------------------- */

struct fetch_connection *fetch_connection_new(struct transfer *made)
{
    struct fetch_connection *c = calloc(1, sizeof(*c));
    struct fetch *u = made->u;
    curl_socket_t fd = CURL_SOCKET_BAD;
    char *ip = NULL;
    long port = 0;
    bool tls = str_starts(str_from(made->upstream->origin), STR("https:"));

    curl_easy_getinfo(made->easy, CURLINFO_ACTIVESOCKET, &fd);
    curl_easy_getinfo(made->easy, CURLINFO_PRIMARY_IP, &ip);
    curl_easy_getinfo(made->easy, CURLINFO_PRIMARY_PORT, &port);
    if (c && ip)
        strncpy(c->address, ip, sizeof(c->address) - 1);
    /* libcurl no longer watches it. */
    fetch_socket_remove(&u->sockets, fd);
    if (!c || fd == CURL_SOCKET_BAD || uv_poll_init(u->sockets.loop, &c->poll, fd) < 0) {
        free(c);
        fetch_release(made, CURL_SOCKET_BAD);
        return NULL;
    }
    made->errbuf[0] = '\0'; /* the error of an address that did not respond */
    made->a = NULL;         /* the connection outlives it */
    c->poll.data = c;
    c->u = u;
    c->fd = fd;
    c->port = (unsigned)port;
    c->peer_id = made->upstream->peer_id;
    c->serial = ++u->sockets.serials;
    c->made_ms = uv_now(u->sockets.loop);
    list_init(&c->node);
    list_init(&c->by_age);
    if (tls)
        c->tls = made;
    else
        fetch_release(made, fd);
    return c;
}

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void unlist(struct fetch_connection *c)
{
    if (!list_empty(&c->by_age))
        c->u->connections.count--;
    list_remove(&c->node);
    list_remove(&c->by_age);
}

void fetch_connection_close(struct fetch_connection *c)
{
    unlist(c);
    uv_close((uv_handle_t *)&c->poll, on_closed);
    if (c->tls)
        fetch_release(c->tls, CURL_SOCKET_BAD);
    else
        fetch_close_socket(c->u, c->fd);
    c->tls = NULL;
    c->session = NULL;
}

static bool is_too_old(const struct fetch_connection *c, const struct fetch_upstream *upstream,
                       uint64_t now)
{
    return now - c->kept_ms > MAX_IDLE_MS || (upstream->connection_lifetime_ms &&
                                              now - c->made_ms > upstream->connection_lifetime_ms);
}

struct fetch_connection *fetch_connection_take(struct fetch *u,
                                               const struct fetch_upstream *upstream)
{
    struct list *bucket = &u->connections.buckets[upstream->peer_id % CONNECTION_BUCKETS],
                *n = bucket->prev;
    uint64_t now = uv_now(u->sockets.loop);

    while (n != bucket) {
        struct fetch_connection *c = LIST_ENTRY(n, struct fetch_connection, node);

        n = n->prev;
        if (c->peer_id != upstream->peer_id)
            continue;
        if (is_too_old(c, upstream, now)) {
            fetch_connection_close(c);
        } else if (!is_clean(c)) {
            u->stats.stale++;
            fetch_connection_close(c);
        } else {
            unlist(c);
            u->stats.reused++;
            return c;
        }
    }
    return NULL;
}

void fetch_connection_keep(struct fetch_connection *c)
{
    struct connection_table *t = &c->u->connections;
    uint64_t now = uv_now(c->u->sockets.loop);

    c->http1 = NULL;
    c->kept_ms = now;
    if (fetch_connection_watch(c, UV_READABLE) < 0) {
        fetch_connection_close(c);
        return;
    }
    list_append(&t->buckets[c->peer_id % CONNECTION_BUCKETS], &c->node);
    list_append(&t->kept, &c->by_age);
    t->count++;
    for (;;) {
        struct fetch_connection *oldest = LIST_ENTRY(t->kept.next, struct fetch_connection, by_age);

        if (t->count <= MAX_IDLE_CONNECTIONS && now - oldest->kept_ms <= MAX_IDLE_MS)
            break;
        fetch_connection_close(oldest);
    }
}

void fetch_connection_drop(struct fetch *u, uint64_t serial)
{
    for (struct list *n = u->connections.kept.prev; n != &u->connections.kept; n = n->prev) {
        struct fetch_connection *c = LIST_ENTRY(n, struct fetch_connection, by_age);

        if (c->serial == serial) {
            fetch_connection_close(c);
            return;
        }
    }
}
