/* HTTP/1.1 on connections that libcurl has made: one request and its response. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edge/fetch_private.h"

/* --- the request ------------------------------------------------------------------------------ */

#define PIECE ((size_t)16 << 10)        /* of a body that is not in memory */
#define TLS_PIECE ((size_t)64 << 10)    /* passed to the TLS library at once */
#define TOGETHER_MAX ((size_t)64 << 10) /* a body that TLS sends together with the headers */

static bool is_tls(const struct fetch_upstream *upstream)
{
    return str_starts(str_from(upstream->origin), STR("https:"));
}

/* Adds the target with non-ASCII bytes of the path percent-encoded (RFC 3986, 2.1). */
static void add_target(struct buf *out, const char *target)
{
    bool path = true;

    for (const char *p = target; *p;) {
        const char *from = p;

        while (*p && ((unsigned char)*p <= 0x7e || !path)) {
            path = path && *p != '?';
            p++;
        }
        buf_add(out, from, (size_t)(p - from));
        if (*p)
            buf_printf(out, "%%%02x", (unsigned char)*p++);
    }
}

/* The authority of the origin, without the port that is its scheme's own. */
static struct str host_of(const struct fetch_upstream *upstream)
{
    bool tls = is_tls(upstream);
    const char *p = upstream->origin + (tls ? strlen("https://") : strlen("http://"));
    struct str host = {p, strcspn(p, "/")}, port = tls ? STR(":443") : STR(":80");

    if (str_ends(host, port))
        host.n -= port.n;
    return host;
}

static size_t headers_size(const struct fetch_request *r)
{
    size_t n = 128 + strlen(r->method) + 3 * strlen(r->target) + strlen(r->upstream->origin);

    for (unsigned i = 0; i < r->headers->count; i++)
        n += headers_name(r->headers, i).n + headers_value(r->headers, i).n + 4;
    return n;
}

/* Writes the request's headers, and for TLS a small body, to x->out. Returns 0 or -ENOMEM. */
static int write_headers(struct http1 *x, const struct fetch_request *r)
{
    struct buf *out = &x->out;
    const struct headers *h = r->headers;
    bool together = is_tls(r->upstream) && r->body && r->body_len <= TOGETHER_MAX;
    bool head = !strcmp(r->method, "HEAD");
    char space[STR_DECIMAL_MAX];
    struct str configured;

    x->body_len = head ? 0 : r->body_len;
    buf_init(out, SIZE_MAX / 2);
    if (buf_reserve(out, headers_size(r) + (together ? (size_t)x->body_len : 0)) < 0)
        return -ENOMEM;
    buf_add_str(out, str_from(r->method));
    buf_addc(out, ' ');
    add_target(out, r->target);
    buf_add_str(out, STR(" HTTP/1.1\r\n"));
    if (!headers_get(h, STR("host"), &configured)) {
        buf_add_str(out, STR("Host: "));
        buf_add_str(out, host_of(r->upstream));
        buf_add_str(out, STR("\r\n"));
    }
    for (unsigned i = 0; i < h->count; i++) {
        buf_add_str(out, headers_name(h, i));
        buf_add_str(out, STR(": "));
        buf_add_str(out, headers_value(h, i));
        buf_add_str(out, STR("\r\n"));
    }
    if (x->body_len > 0 || !strcmp(r->method, "POST") || !strcmp(r->method, "PUT") ||
        !strcmp(r->method, "PATCH")) {
        buf_add_str(out, STR("Content-Length: "));
        buf_add_str(out, str_decimal(x->body_len, space));
        buf_add_str(out, STR("\r\n"));
    }
    buf_add_str(out, STR("\r\n"));
    x->headers_len = out->len;
    if (together)
        buf_add(out, r->body, (size_t)x->body_len);
    return out->failed ? -ENOMEM : 0;
}

/* --- the end ---------------------------------------------------------------------------------- */

static uint64_t now_us(void)
{
    return uv_hrtime() / 1000;
}

static bool upload_whole(const struct http1 *x)
{
    return x->headers_sent && x->body_sent >= x->body_len;
}

/* Releases the connection. */
static void leave(struct http1 *x, bool keep)
{
    struct fetch_connection *c = x->connection;

    if (!c)
        return;
    x->connection = NULL;
    c->http1 = NULL;
    if (keep)
        fetch_connection_keep(c);
    else
        fetch_connection_close(c);
}

/* The next iteration finishes the transfer. */
static void end(struct http1 *x, enum transport transport, const char *detail)
{
    struct fetch *u = x->u;
    struct attempt *a = x->a;
    bool whole = transport == TRANSPORT_WHOLE;

    a->upload_whole = upload_whole(x);
    a->transport = transport;
    if (!whole)
        snprintf(a->detail, sizeof(a->detail), "%s", detail);
    x->total_us = now_us() - x->started_us;
    leave(x, whole && a->upload_whole && !x->excess && a->status < 500 &&
                 reader_keeps_connection(&x->reader));
    buf_deinit(&x->out);
    x->ended = true;
    list_remove(&x->node);
    list_append(&u->ended, &x->node);
    u->wake(u->arg);
}

static void lost(struct http1 *x, const char *detail)
{
    end(x,
        x->a->headers_done ? TRANSPORT_TRUNCATED
        : upload_whole(x)  ? TRANSPORT_LOST
                           : TRANSPORT_LOST_UPLOAD,
        detail);
}

static void trace(struct http1 *x, bool cancelled)
{
    const char *path = x->upstream->unix_socket;
    struct fetch_trace trace = x->trace;

    if (!x->traced)
        return;
    trace.cancelled = cancelled;
    trace.proxied = x->upstream->proxy[0] != '\0';
    trace.address = path[0] ? path : x->address;
    if (path[0])
        trace.port = 0;
    trace.sent = x->sent;
    trace.http = !x->reader.status ? "" : x->reader.http_1_0 ? "1.0" : "1.1";
    trace.first_byte_ms = x->first_byte_us / 1000;
    trace.total_ms = (cancelled ? now_us() - x->started_us : x->total_us) / 1000;
    trace.bytes_sent = x->body_sent;
    trace.bytes_received = x->a->received;
    x->traced(x->arg, &trace);
}

void fetch_http1_free(struct http1 *x)
{
    list_remove(&x->node);
    list_remove(&x->ready);
    reader_deinit(&x->reader);
    buf_deinit(&x->out);
    free(x);
}

void fetch_http1_finish(struct http1 *x)
{
    struct attempt *a = x->a;

    trace(x, false);
    a->connection.fd = -1;
    a->connection.serial = x->serial;
    a->done = true;
    x->notify(x->arg);
    fetch_http1_free(x);
}

void fetch_http1_cancel(struct http1 *x)
{
    if (x->connecting) {
        x->a->upload_whole = false;
        fetch_connector_cancel(x->connecting);
    } else {
        if (!x->ended)
            x->a->upload_whole = upload_whole(x);
        trace(x, true);
        leave(x, false);
    }
    fetch_http1_free(x);
}

/* --- the upload ------------------------------------------------------------------------------- */

/* Points `pieces` to the next bytes to send. Returns their number, 0 if nothing can be sent now, or
 * -errno. The TLS library demands the same piece again after -EAGAIN. */
static int next_pieces(struct http1 *x, struct iovec pieces[2])
{
    bool tls = x->connection->tls;
    uint64_t left = x->body_len - x->body_sent;
    unsigned n = 0;

    if (x->out_at < x->out.len)
        pieces[n++] = (struct iovec){x->out.p + x->out_at, x->out.len - x->out_at};
    if (left == 0 || (n > 0 && (tls || !x->body || x->out.len > x->headers_len)))
        return (int)n;
    if (x->body) {
        if (tls && left > TLS_PIECE)
            left = TLS_PIECE;
        pieces[n++] = (struct iovec){(char *)(uintptr_t)x->body + x->body_sent, (size_t)left};
        return (int)n;
    }
    /* The headers are sent: their memory takes a piece of the body. */
    ptrdiff_t got;
    buf_reset(&x->out, PIECE);
    x->out_at = x->headers_len = 0;
    if (buf_reserve(&x->out, PIECE) < 0)
        return -ENOMEM;
    got = x->read(x->arg, x->body_sent, x->out.p, PIECE);
    if (got == -EAGAIN) {
        x->upload_paused = true;
        return 0;
    }
    if (got <= 0)
        return got < 0 ? (int)got : -EIO;
    x->out.len = (size_t)got;
    pieces[0] = (struct iovec){x->out.p, x->out.len};
    return 1;
}

static void count_sent(struct http1 *x, size_t n)
{
    size_t of_out = x->out.len - x->out_at;

    x->sent = true;
    if (n < of_out)
        of_out = n;
    if (!x->headers_sent) {
        size_t of_headers =
            x->headers_len - x->out_at < of_out ? x->headers_len - x->out_at : of_out;
        x->headers_sent = x->out_at + of_headers == x->headers_len;
        x->body_sent += n - of_headers;
    } else {
        x->body_sent += n;
    }
    x->out_at += of_out;
}

/* Sends as much as the connection takes. */
static void upload(struct http1 *x)
{
    struct iovec pieces[2];
    int count = 0;
    ptrdiff_t n;

    while (!x->upload_over && !x->upload_paused) {
        count = next_pieces(x, pieces);
        if (count < 0) {
            char text[ATTEMPT_DETAIL_MAX];
            snprintf(text, sizeof(text), FETCH_SPOOL_FAILED, strerror(-count));
            end(x, TRANSPORT_INTERNAL, count == -ENOMEM ? "out of memory" : text);
            return;
        }
        if (count == 0)
            break;
        n = fetch_connection_send(x->connection, pieces, (unsigned)count);
        if (n == -EAGAIN) {
            fetch_connection_watch(x->connection, UV_WRITABLE | (x->a->paused ? 0 : UV_READABLE));
            return;
        }
        if (n < 0) {
            /* The bytes that the server sent before can still be read. */
            x->upload_over = true;
            x->send_failed = (int)n;
            break;
        }
        count_sent(x, (size_t)n);
        x->upload_over = upload_whole(x);
    }
    if (x->upload_over)
        buf_reset(&x->out, 0);
    fetch_connection_watch(x->connection, x->a->paused ? 0 : UV_READABLE);
}

/* --- the response ----------------------------------------------------------------------------- */

static void end_of_headers(struct http1 *x)
{
    struct attempt *a = x->a;

    a->status = x->reader.status;
    if (a->status == 101) { /* another protocol would follow */
        end(x, TRANSPORT_BAD_RESPONSE,
            "the upstream switched protocols (status 101) without being asked to");
        return;
    }
    if (a->status < 200) {
        fetch_keep_interim(a);
        return;
    }
    a->headers_done = true;
    a->last_piece_ms = uv_now(x->u->sockets.loop);
    if (a->status >= 300) /* the rest of the request is not wanted */
        x->upload_over = true;
}

/* Takes the bytes that were read. Returns whether the transfer goes on. */
static bool take(struct http1 *x, struct str in)
{
    struct attempt *a = x->a;
    struct str piece;

    if (!x->first_byte_us)
        x->first_byte_us = now_us() - x->started_us;
    for (;;) {
        switch (reader_next(&x->reader, &in, &piece)) {
        case READER_NEED:
            return true;
        case READER_HEADERS:
            end_of_headers(x);
            if (x->ended)
                return false;
            break;
        case READER_BODY:
            if (buf_add(&a->body, piece.p, piece.n) < 0) {
                end(x, TRANSPORT_INTERNAL, "out of memory");
                return false;
            }
            a->received += piece.n;
            a->last_piece_ms = uv_now(x->u->sockets.loop);
            break;
        case READER_END:
            x->excess = in.n > 0;
            end(x, TRANSPORT_WHOLE, "");
            return false;
        case READER_INVALID:
            end(x, a->headers_done ? TRANSPORT_TRUNCATED : TRANSPORT_BAD_RESPONSE, x->reader.error);
            return false;
        case READER_TOO_LARGE:
            end(x,
                a->headers_done ? TRANSPORT_TRUNCATED
                : x->reader.status >= 200 && x->reader.status < 400 &&
                        x->reader.state != READER_STATUS_LINE
                    ? TRANSPORT_LARGE_HEADERS
                    : TRANSPORT_BAD_RESPONSE,
                x->reader.error);
            return false;
        case READER_NO_MEMORY:
            end(x, TRANSPORT_INTERNAL, "out of memory");
            return false;
        }
    }
}

static void end_of_input(struct http1 *x)
{
    char text[ATTEMPT_DETAIL_MAX];

    /* After a failure to send, the kernel no longer distinguishes a reset from an end. */
    if (x->send_failed && x->reader.state == READER_UNTIL_END && x->a->status < 300)
        lost(x, strerror(-x->send_failed));
    else if (reader_end(&x->reader))
        end(x, TRANSPORT_WHOLE, "");
    else if (x->send_failed && !x->reader.begun)
        lost(x, strerror(-x->send_failed));
    else if (!x->reader.begun)
        lost(x, "the connection was closed before the response");
    else if (!x->a->headers_done)
        end(x, TRANSPORT_BAD_RESPONSE, "the response ended within its headers");
    else {
        if (x->reader.state == READER_LENGTH)
            snprintf(text, sizeof(text),
                     "the connection was closed with %llu bytes of the response outstanding",
                     (unsigned long long)x->reader.left);
        else
            snprintf(text, sizeof(text), "the connection was closed within the response");
        lost(x, text);
    }
}

/* Makes the next iteration run the transfer. */
static void again(struct http1 *x)
{
    if (list_empty(&x->ready))
        list_append(&x->u->ready, &x->ready);
    x->u->wake(x->u->arg);
}

#define READ_AT_ONCE (4 * CONNECTION_INPUT)

/* Reads the bytes that have arrived. `failed`: the loop reported an error. */
static void download(struct http1 *x, bool failed)
{
    struct attempt *a = x->a;
    char *input = x->u->connections.input;
    size_t taken = 0;
    bool news = false;

    for (;;) {
        ptrdiff_t n;

        if (a->body.len >= a->high_water) {
            a->paused = news = true;
            break;
        }
        if (taken >= READ_AT_ONCE) { /* lets other transfers run, too */
            if (fetch_connection_holds_input(x->connection))
                again(x);
            break;
        }
        n = fetch_connection_recv(x->connection, input, CONNECTION_INPUT);
        if (n == -EAGAIN && !failed)
            break;
        if (n < 0) {
            lost(x, fetch_connection_error(x->connection, (int)n));
            return;
        }
        if (n == 0) {
            end_of_input(x);
            return;
        }
        news = true;
        if (!take(x, (struct str){input, (size_t)n})) {
            x->notify(x->arg);
            return;
        }
        taken += (size_t)n;
        /* The socket has no more bytes, or the loop will report them. */
        if ((size_t)n < CONNECTION_INPUT && !fetch_connection_holds_input(x->connection) && !failed)
            break;
    }
    if (news)
        x->notify(x->arg);
    if (x->send_failed && !a->paused && !news) {
        lost(x, strerror(-x->send_failed));
        return;
    }
    fetch_connection_watch(x->connection,
                           (a->paused ? 0 : UV_READABLE) |
                               (x->upload_over || x->upload_paused ? 0 : UV_WRITABLE));
}

void fetch_http1_ready(struct http1 *x, int events, bool failed)
{
    if (failed) /* nothing more can be sent; to wait for that would report the failure forever */
        x->upload_over = true;
    if ((events & UV_WRITABLE) && !x->upload_over && !x->upload_paused)
        upload(x);
    if (!x->ended && (failed || x->send_failed || (events & UV_READABLE)))
        download(x, failed);
}

void fetch_http1_resume(struct http1 *x)
{
    x->a->paused = false;
    if (!x->connection)
        return;
    if (fetch_connection_holds_input(x->connection))
        again(x);
    else
        fetch_connection_watch(x->connection, x->connection->armed | UV_READABLE);
}

void fetch_http1_upload_ready(struct http1 *x)
{
    if (!x->upload_paused)
        return;
    x->upload_paused = false;
    if (x->connection)
        again(x);
}

void fetch_http1_run(struct http1 *x)
{
    if (x->connection)
        fetch_http1_ready(x, UV_READABLE | UV_WRITABLE, false);
}

/* --- the start -------------------------------------------------------------------------------- */

static void begin(struct http1 *x, struct fetch_connection *c)
{
    x->connection = c;
    c->http1 = x;
    x->serial = c->serial;
    x->trace.port = c->port;
    memcpy(x->address, c->address, sizeof(x->address));
    fetch_connection_bound_silence(c, fetch_silence_ms(x->body_len));
    x->sent = true;
    upload(x);
    if (!x->ended && x->send_failed)
        again(x);
}

void fetch_http1_connected(struct http1 *x, struct transfer *made)
{
    struct fetch_connection *c;

    x->connecting = NULL;
    fetch_connector_trace(made, &x->trace);
    c = fetch_connection_new(made);
    if (c)
        begin(x, c);
    else
        end(x, TRANSPORT_INTERNAL, "out of memory");
}

int fetch_http1_start(struct fetch *u, const struct fetch_request *r, struct attempt *a,
                      void (*notify)(void *arg), void *arg, struct http1 **ret)
{
    struct http1 *x = calloc(1, sizeof(*x));
    struct fetch_connection *c = NULL;
    int rc;

    if (!x)
        return -ENOMEM;
    x->magic = HTTP1_MAGIC;
    x->u = u;
    x->a = a;
    x->upstream = r->upstream;
    x->notify = notify;
    x->traced = r->traced;
    x->arg = arg;
    x->body = r->body;
    x->read = r->read;
    x->started_us = now_us();
    list_init(&x->node);
    list_init(&x->ready);
    reader_init(&x->reader, &a->headers, !strcmp(r->method, "HEAD"));
    rc = write_headers(x, r);
    if (rc == 0 && !a->fresh && !a->anew)
        c = fetch_connection_take(u, r->upstream);
    if (rc == 0 && !c)
        rc = fetch_connector_start(u, r, x);
    if (rc < 0) {
        fetch_http1_free(x);
        return rc;
    }
    x->trace.kept = c != NULL;
    if (c)
        begin(x, c);
    *ret = x;
    return 0;
}
