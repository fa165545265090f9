/* A link carries bytes to and from one peer: TCP or Unix socket, plain or TLS. */
#include "link.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CHUNK = 64 * 1024 };

/* One thread, and nothing is read while a read is handled: two buffers serve all links. */
static char cipher_chunk[CHUNK];
static char plain_chunk[CHUNK];

static int raw_write(struct link *link, const uv_buf_t *bufs, unsigned n);

/* ---- reading ---- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buf)
{
    (void)handle;
    (void)suggested;
    *ret_buf = uv_buf_init(cipher_chunk, CHUNK);
}

static int tls_flush(struct link *link)
{
    char *bytes;
    size_t len = tls_pending(link->tls, &bytes);
    int rc = 0;

    if (len > 0) {
        uv_buf_t b = uv_buf_init(bytes, (unsigned)len);

        rc = raw_write(link, &b, 1);
        tls_sent(link->tls);
    }
    return rc;
}

/* Returns false when the link is of no more use. */
static bool tls_open(struct link *link)
{
    enum tls_result result;

    if (link->tls->ready) {
        return true;
    }
    result = tls_handshake(link->tls);
    (void)tls_flush(link);
    if (result == TLS_OK) {
        link->events->on_tls(link);
    }
    return result == TLS_OK || result == TLS_WAIT;
}

static void tls_input(struct link *link, const char *bytes, size_t len)
{
    enum tls_result result = TLS_WAIT;
    size_t n;

    tls_feed(link->tls, bytes, len);
    if (!tls_open(link)) {
        link->events->on_gone(link);
        return;
    }
    while (!link->closed && link->tls->ready &&
           (result = tls_read(link->tls, plain_chunk, CHUNK, &n)) == TLS_OK) {
        link->events->on_data(link, plain_chunk, n);
    }
    if (link->closed) {
        return;
    }
    (void)tls_flush(link); /* a peer that has left is met by the next read */
    if (result == TLS_CLOSED || result == TLS_FAILED) {
        link->events->on_gone(link);
    }
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *b)
{
    struct link *link = stream->data;

    if (n == 0 || link->closed) {
        return;
    }
    if (n < 0) {
        link->events->on_gone(link);
    } else if (link->tls != NULL) {
        tls_input(link, b->base, (size_t)n);
    } else {
        link->events->on_data(link, b->base, (size_t)n);
    }
}

static void on_hup(uv_poll_t *hup, int status, int events)
{
    struct link *link = hup->data;

    (void)status;
    (void)events;
    if (!link->closed) {
        link->events->on_gone(link);
    }
}

static void on_close(uv_handle_t *handle)
{
    struct link *link = handle->data;

    if (--link->handles > 0) {
        return;
    }
    tls_free(link->tls);
    buf_free(&link->out);
    buf_free(&link->next);
    link->events->on_closed(link);
}

int link_accept(struct link *link, uv_stream_t *server, bool is_pipe, SSL_CTX *ctx,
                const struct link_events *events)
{
    int rc;

    link->events = events;
    link->is_pipe = is_pipe;
    if (is_pipe) {
        (void)uv_pipe_init(server->loop, &link->io.pipe, 0);
    } else {
        (void)uv_tcp_init(server->loop, &link->io.tcp);
    }
    link->io.handle.data = link;
    link->handles = 1;
    link->tls = ctx != NULL ? tls_new(ctx) : NULL;
    rc = uv_accept(server, &link->io.stream);
    if (rc == 0 && !is_pipe) {
        (void)uv_tcp_nodelay(&link->io.tcp, 1);
    }
    return rc;
}

int link_start(struct link *link)
{
    return uv_read_start(&link->io.stream, on_alloc, on_read);
}

/* ---- pausing ---- */

static void watch_hup(struct link *link)
{
    uv_os_fd_t fd;

    if (uv_fileno(&link->io.handle, &fd) != 0) {
        return;
    }
    /* The same descriptor cannot be watched twice, a copy of it can. */
    link->hup_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (link->hup_fd < 0) {
        return;
    }
    if (uv_poll_init(link->io.handle.loop, &link->hup, link->hup_fd) != 0) {
        close(link->hup_fd);
        return;
    }
    link->hup.data = link;
    link->hup_open = true;
    link->handles++;
}

void link_pause(struct link *link)
{
    if (link->paused || link->closed) {
        return;
    }
    link->paused = true;
    (void)uv_read_stop(&link->io.stream);
    if (!link->hup_open) {
        watch_hup(link);
    }
    if (link->hup_open) {
        (void)uv_poll_start(&link->hup, UV_DISCONNECT, on_hup);
    }
}

void link_resume(struct link *link)
{
    if (!link->paused || link->closed) {
        return;
    }
    link->paused = false;
    if (link->hup_open) {
        (void)uv_poll_stop(&link->hup);
    }
    (void)link_start(link);
}

/* ---- writing ---- */

static void on_write(uv_write_t *request, int status);

static int start_write(struct link *link)
{
    uv_buf_t b = uv_buf_init(link->out.data, (unsigned)link->out.len);

    link->write.data = link;
    link->writing = true;
    return uv_write(&link->write, &link->io.stream, &b, 1, on_write);
}

static void on_write(uv_write_t *request, int status)
{
    struct link *link = request->data;

    link->writing = false;
    if (link->closed) {
        return;
    }
    if (status < 0) {
        link->events->on_gone(link);
        return;
    }
    buf_reset(&link->out, CHUNK);
    if (link->next.len > 0) {
        struct buf swap = link->out;

        link->out = link->next;
        link->next = swap;
        if (start_write(link) < 0) {
            link->writing = false;
            link->events->on_gone(link);
        }
        return;
    }
    link->events->on_drained(link);
}

/* Copies what follows the first skip bytes. */
static void copy_rest(struct buf *into, const uv_buf_t *bufs, unsigned n, size_t skip)
{
    for (unsigned i = 0; i < n; i++) {
        if (skip < bufs[i].len) {
            buf_add(into, bufs[i].base + skip, bufs[i].len - skip);
            skip = 0;
        } else {
            skip -= bufs[i].len;
        }
    }
}

static int raw_write(struct link *link, const uv_buf_t *bufs, unsigned n)
{
    int rc;

    if (link->writing) {
        copy_rest(&link->next, bufs, n, 0);
        return 0;
    }
    rc = uv_try_write(&link->io.stream, bufs, n);
    if (rc < 0 && rc != UV_EAGAIN) {
        return rc;
    }
    copy_rest(&link->out, bufs, n, rc > 0 ? (size_t)rc : 0);
    return link->out.len > 0 ? start_write(link) : 0;
}

int link_write(struct link *link, const uv_buf_t *bufs, unsigned n)
{
    if (link->closed) {
        return UV_EPIPE;
    }
    if (link->tls == NULL) {
        return raw_write(link, bufs, n);
    }
    for (unsigned i = 0; i < n; i++) {
        if (bufs[i].len > 0 && tls_write(link->tls, bufs[i].base, bufs[i].len) != TLS_OK) {
            return UV_EPIPE;
        }
    }
    return tls_flush(link);
}

bool link_busy(const struct link *link)
{
    return link->writing;
}

static int queued(struct link *link, unsigned long what)
{
    uv_os_fd_t fd;
    int n = 0;

    if (uv_fileno(&link->io.handle, &fd) != 0 || ioctl(fd, what, &n) < 0) {
        return 0;
    }
    return n;
}

bool link_unsent(struct link *link)
{
    return !link->is_pipe && queued(link, SIOCOUTQNSD) > 0;
}

bool link_unread(struct link *link)
{
    return queued(link, FIONREAD) > 0;
}

/* ---- closing ---- */

void link_notify(struct link *link)
{
    if (link->tls != NULL && !link->closed) {
        tls_shutdown(link->tls);
        (void)tls_flush(link);
    }
}

void link_half_close(struct link *link)
{
    uv_os_fd_t fd;

    if (uv_fileno(&link->io.handle, &fd) == 0) {
        (void)shutdown(fd, SHUT_WR);
    }
}

static void close_hup(struct link *link)
{
    if (link->hup_open) {
        link->hup_open = false;
        (void)uv_poll_stop(&link->hup);
        uv_close((uv_handle_t *)&link->hup, on_close);
        close(link->hup_fd); /* else the copy would keep the connection open */
    }
}

void link_close(struct link *link)
{
    if (!link->closed) {
        link->closed = true;
        close_hup(link);
        uv_close(&link->io.handle, on_close);
    }
}

void link_reset(struct link *link)
{
    if (link->closed) {
        return;
    }
    close_hup(link);
    if (link->is_pipe || uv_tcp_close_reset(&link->io.tcp, on_close) != 0) {
        link_close(link);
    }
    link->closed = true;
}
