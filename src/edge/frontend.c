/* Drives libmicrohttpd and takes in requests: headers and bodies. */
#include "edge/frontend.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "edge/frontend_check.h"
#include "edge/frontend_private.h"

#define STALL_TIME_MS 60000
#define HEADERS_TIME_MS 15000   /* for the first headers on a new connection */
#define KEEPALIVE_TIME_MS 75000 /* for the next headers on a kept connection */

const char *frontend_version(void)
{
    static char text[64];

    snprintf(text, sizeof(text), "libmicrohttpd/%s", MHD_get_version());
    return text;
}

void frontend_ready(struct connection *c)
{
    if (list_empty(&c->ready))
        list_append(&c->f->ready, &c->ready);
    c->f->wake(c->f->wake_arg);
}

void frontend_wake(struct frontend_request *r)
{
    if (!r->waits)
        return;
    if (r->held_back)
        MHD_resume_connection(r->mhd);
    r->waits = r->held_back = false;
    frontend_ready(r->c);
}

void frontend_wait(struct frontend_request *r)
{
    r->waits = true;
}

/* --- requests' bodies ------------------------------------------------------------------------- */

#define WHY_BYTES 512             /* of a sentence for the client */
#define SWALLOW_BYTES (64u << 20) /* of a refused body that are read and dropped */

static unsigned status_for(int rc)
{
    switch (rc) {
    case -EFBIG:
        return 413;
    case -ENOKEY:
        return 401;
    case -EACCES:
        return 403;
    case -ENOTSUP:
        return 426;
    case -ELOOP:
        return 508;
    case -ENOSPC:
        return 507;
    default:
        return 503;
    }
}

/* Whether to read and drop the body of a refused request before responding. A client that writes
 * first and reads later would otherwise see a reset connection, not the reason. The body is not
 * read if it is too long or the client waits for 100 Continue. */
static bool swallows_body(const struct frontend_request *r)
{
    uint64_t n = r->http.content_length;

    return n != 0 && (n <= SWALLOW_BYTES || n == LENGTH_UNKNOWN) &&
           !headers_get(&r->http.headers, STR("expect"), NULL);
}

/* A body whose length was accepted with the headers is read to its end: it costs only time, and the
 * client may not read before. */
static bool swallowed_enough(const struct frontend_request *r)
{
    return r->content_length == LENGTH_UNKNOWN && r->body_bytes > r->refused_at + SWALLOW_BYTES;
}

/* Suspends the connection: libmicrohttpd would read on. It passes the unread bytes again
 * afterwards. A client that is gone is cut instead: on_disconnect was called already, so the
 * connection would end only once the owner has room, and a slow disk may delay that forever. */
static enum MHD_Result hold_back(struct frontend_request *r)
{
    if (r->c->gone) {
        r->cut = true;
        return MHD_NO;
    }
    r->held_back = true;
    frontend_wait(r);
    MHD_suspend_connection(r->mhd);
    return MHD_YES;
}

#define CHUNK_BYTES_MAX (UINT64_C(1) << 40) /* max_body cannot be larger */
#define CHUNK_LINE_MAX 4096                 /* with chunk extensions */

/* Whether these bytes begin a chunk that makes the body longer than the limit. libmicrohttpd does
 * not expose the chunk's size, but its line is still in memory directly before the bytes if both
 * arrived together. Otherwise the end of the headers is there, overwritten with NULs, and the limit
 * applies to the chunk's bytes as they arrive. */
static bool begins_endless_chunk(const struct frontend_request *r, const char *data)
{
    uint64_t left = r->body_limit > r->body_bytes ? r->body_limit - r->body_bytes : 0, n;
    const char *end = data - 1, *p;

    if (r->content_length != LENGTH_UNKNOWN || end <= r->uri || *end != '\n')
        return false;
    for (p = end; p > r->uri && end - p < CHUNK_LINE_MAX; p--)
        if (p[-1] == '\n' || p[-1] == '\0')
            break;
    uint64_t digits = 0;
    for (; p < end && digits < CHUNK_BYTES_MAX; p++) {
        if (*p >= '0' && *p <= '9')
            digits = digits << 4 | (uint64_t)(*p - '0');
        else if ((*p | 0x20) >= 'a' && (*p | 0x20) <= 'f')
            digits = digits << 4 | (uint64_t)((*p | 0x20) - 'a' + 10);
        else
            break;
    }
    n = digits;
    return n >= CHUNK_BYTES_MAX || n > left;
}

static void note_refusal(struct frontend_request *r, unsigned status, const char *why)
{
    free(r->why_text);
    r->why_text = strdup(why);
    r->why = r->why_text ? r->why_text : "retryd: out of memory; try again";
    r->refused = status;
}

/* Takes `*size` bytes of the body and sets it to how many remain. libmicrohttpd accepts no response
 * amid a body, so a refused body is read and dropped up to a limit. */
static enum MHD_Result take_body(struct frontend_request *r, const char *data, size_t *size)
{
    size_t n = *size;
    char why[WHY_BYTES] = "";
    ptrdiff_t taken;

    if (r->cut) /* the owner has ended it */
        return MHD_NO;
    if (!r->refused && begins_endless_chunk(r, data))
        frontend_refuse_now(r, 413, "retryd: a chunk of the body is larger than max_body");
    if (!r->refused) {
        taken = r->f->handler->on_body(r->user, data, n, why, sizeof(why));
        if (taken >= 0) {
            *size = n - (size_t)taken;
            r->body_bytes += (size_t)taken;
            return *size > 0 ? hold_back(r) : MHD_YES;
        }
        note_refusal(r, status_for((int)taken), why);
        r->refused_at = r->body_bytes;
        r->f->handler->on_body_refused(r->user, r->refused);
    }
    *size = 0;
    r->body_bytes += n;
    return swallowed_enough(r) ? MHD_NO : MHD_YES;
}

void frontend_body_limit(struct frontend_request *r, uint64_t bytes)
{
    r->body_limit = bytes;
}

void frontend_upload_on(struct frontend_request *r)
{
    if (!r->held_back)
        return;
    frontend_connection_expect_body(r->c);
    frontend_wake(r);
}

/* --- requests --------------------------------------------------------------------------------- */

/* The first callback for a request, with its raw target before percent-decoding. */
static void *on_target(void *cls, const char *uri, struct MHD_Connection *mhd)
{
    struct frontend *f = cls;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct frontend_request *r = calloc(1, sizeof(*r));

    if (!r || !info || !info->socket_context) {
        free(r);
        return NULL;
    }
    r->magic = REQUEST_MAGIC;
    r->f = f;
    r->mhd = mhd;
    r->stall_ms = STALL_TIME_MS;
    r->body_limit = UINT64_MAX;
    r->c = info->socket_context;
    r->c->current = r;
    r->c->fresh = false;
    http_request_init(&r->http);
    r->uri = uri;
    http_request_text(&r->http.target, uri);
    return r;
}

struct taking {
    struct frontend_request *r;
    struct frontend_trail trail;
};

static struct str trim_blanks(struct str s)
{
    while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
        s.n--;
    return s; /* libmicrohttpd has removed leading ones */
}

static enum MHD_Result take_header(void *cls, enum MHD_ValueKind kind, const char *key,
                                   size_t key_size, const char *value, size_t value_size)
{
    struct taking *t = cls;
    struct frontend_request *r = t->r;
    struct str name = {key, key_size}, text = {value, value_size};

    (void)kind;
    frontend_trail_field(&t->trail, name, text);
    /* RFC 9110 5.5: blanks around a value are not part of it. Transfer-Encoding is checked as
     * libmicrohttpd has read it, blanks included. */
    if (text.n > 0 && !str_ieq(name, STR("transfer-encoding")))
        text = trim_blanks(text);
    if (headers_add(&r->http.headers, name, text) < 0) {
        r->refused = 431;
        r->why = "retryd: the request has too many headers";
        return MHD_NO;
    }
    return MHD_YES;
}

/* Whether libmicrohttpd 0.9.75 was too lenient about the headers (struct frontend_trail). */
static bool is_cut_or_glued(const struct taking *t, const char *method)
{
#if MHD_VERSION < 0x01000000
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(t->r->mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);

    return info && !frontend_trail_ends(&t->trail, method + info->header_size);
#else
    (void)t;
    (void)method;
    return false;
#endif
}

static enum MHD_Result refuse_headers(struct frontend_request *r, unsigned status, const char *why)
{
    if (!swallows_body(r))
        return frontend_refuse(r, status, why);
    note_refusal(r, status, why);
    frontend_connection_expect_body(r->c);
    return MHD_YES;
}

/* The headers are complete. A response queued here closes the connection, so only refusals are. */
static enum MHD_Result first_call(struct frontend_request *r, const char *method,
                                  const char *version)
{
    const char *why = NULL;
    char text[WHY_BYTES] = "";
    struct taking taking = {.r = r};
    unsigned status;
    int rc;

    r->started = true;
    http_request_text(&r->http.method, method);
    r->is_head = !strcmp(method, "HEAD"); /* noted here, because the owner may take the request */
    frontend_trail_begin(&taking.trail, str_from(method), (struct str){r->uri, r->http.target.len},
                         version);
    MHD_get_connection_values_n(r->mhd, MHD_HEADER_KIND, take_header, &taking);
    frontend_measure_room(r);
    if (r->refused)
        return frontend_refuse(r, r->refused, r->why);
    if (is_cut_or_glued(&taking, method))
        return frontend_refuse(
            r, 400,
            "retryd: the request's headers contain a NUL, a folded line, a line that does not end "
            "with CR LF, or a header without a name");
    if (r->http.target.failed || r->http.method.failed)
        return MHD_NO;
    status = frontend_check(&r->http, version, &why);
    if (status)
        return frontend_refuse(r, status, why);
    r->http_1_0 = r->http.http_1_0;
    if (r->headers_room < OWN_HEADERS_BYTES)
        return frontend_refuse(
            r, 431,
            "retryd: the request's headers leave no room for those of a response "
            "(16 KiB for both); send fewer or shorter headers");
    r->content_length = r->http.content_length;
    rc = r->f->handler->on_headers(r->f->ctx, r, &r->http, &r->user, text, sizeof(text));
    r->preflight = rc == FRONTEND_PREFLIGHT;
    if (rc < 0) {
        r->user = NULL;
        return refuse_headers(r, status_for(rc), text);
    }
    frontend_connection_expect_body(r->c);
    return MHD_YES;
}

static enum MHD_Result proceed(struct frontend_request *r, const char *method, const char *version,
                               const char *data, size_t *size)
{
    if (!r->started)
        return first_call(r, method, version);
    if (*size > 0)
        return take_body(r, data, size);
    if (r->cut || r->sent_raw)
        return MHD_NO;
    if (r->responded)
        return MHD_YES;
    if (r->refused)
        return frontend_refuse(r, r->refused, r->why);
    if (r->preflight)
        return frontend_respond_preflight(r);
    if (!r->complete) {
        r->complete = true;
        frontend_connection_expect_nothing(r->c);
        r->f->handler->on_complete(r->user);
        if (r->c->gone)
            r->f->handler->on_gone(r->user);
    }
    if (r->cut)
        return MHD_NO;
    if (!r->responded)
        frontend_wait(r);
    return MHD_YES;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *mhd, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *size, void **req_cls)
{
    struct frontend_request *r = *req_cls;
    enum MHD_Result rc;

    (void)cls;
    (void)url;
    if (!r)
        return MHD_NO;
    assert(r->magic == REQUEST_MAGIC);
    rc = proceed(r, method, version, data, size);
    if (rc == MHD_YES && r->response) {
        rc = MHD_queue_response(mhd, r->status, r->response);
        MHD_destroy_response(r->response);
        r->response = NULL;
    }
    return rc;
}

void frontend_over(struct frontend_request *r, bool whole)
{
    struct frontend *f = r->f;

    assert(r->magic == REQUEST_MAGIC);
    r->c->current = NULL;
    if (!r->complete && !r->refused && !r->cut) {
        /* libmicrohttpd itself answers a request that it cannot parse with an HTML page, and does
         * not report it. If the body was invalid, the owner is notified here. If the headers were,
         * there is no owner yet, for example if Content-Length is not a number (for 0.9.75, also if
         * blanks follow it). No callback runs before that response is on its way, so the frontend
         * cannot replace it. */
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(r->mhd, MHD_CONNECTION_INFO_HTTP_STATUS);
        if (info && info->http_status >= 400) {
            if (r->user)
                r->f->handler->on_body_refused(r->user, info->http_status);
            else if (!r->started)
                r->f->handler->on_refused(r->f->ctx, info->http_status,
                                          "libmicrohttpd: the request's headers cannot be parsed");
        }
    }
    if (r->user)
        f->handler->on_closed(r->user, whole);
    http_request_deinit(&r->http);
    free(r->origin);
    free(r->why_text);
    if (r->response)
        MHD_destroy_response(r->response);
    r->magic = 0;
    free(r);
}

static void on_completed(void *cls, struct MHD_Connection *mhd, void **req_cls,
                         enum MHD_RequestTerminationCode code)
{
    struct frontend_request *r = *req_cls;
    struct connection *c = r ? r->c : NULL;

    (void)cls;
    (void)mhd;
    if (!r)
        return;
    *req_cls = NULL;
    /* A client that left unnoticed counts as completed, too: the kernel had room for the whole
     * response. */
    frontend_over(r, r->sent_raw || r->passed ||
                         (r->responded && code == MHD_REQUEST_TERMINATED_COMPLETED_OK));
    frontend_connection_expect_headers(c);
}

/* --- the daemon ------------------------------------------------------------------------------- */

static size_t keep_escapes(void *cls, struct MHD_Connection *mhd, char *s)
{
    (void)cls;
    (void)mhd;
    return strlen(s);
}

__attribute__((format(printf, 2, 0))) static void on_library_message(void *cls, const char *fmt,
                                                                     va_list ap)
{
    char text[400];

    (void)cls;
    if (!log_enabled(LOG_DEBUG))
        return;
    vsnprintf(text, sizeof(text), fmt, ap);
    log_begin(LOG_DEBUG, "libmicrohttpd");
    log_str("text", str_trim(str_from(text)));
    log_end();
}

struct frontend *frontend_new(uv_loop_t *loop, const struct frontend_handler *handler, void *ctx,
                              unsigned max_connections, void (*wake)(void *arg), void *wake_arg)
{
    struct frontend *f = calloc(1, sizeof(*f));

    if (!f)
        return NULL;
    f->loop = loop;
    f->handler = handler;
    f->ctx = ctx;
    f->max = max_connections;
    f->wake = wake;
    f->wake_arg = wake_arg;
    list_init(&f->connections);
    list_init(&f->ready);
    frontend_times(f, HEADERS_TIME_MS, KEEPALIVE_TIME_MS);
    return f;
}

void frontend_close(struct frontend *f)
{
    free(f);
}

/* --- daemons ---------------------------------------------------------------------------------- */

static void on_ready(uv_poll_t *poll, int status, int events)
{
    struct client_daemon *daemon = poll->data;

    (void)status;
    (void)events;
    if (daemon->c)
        frontend_ready(daemon->c);
}

static struct MHD_Daemon *start_daemon(struct frontend *f)
{
    return MHD_start_daemon(
        MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG |
            MHD_USE_SUPPRESS_DATE_NO_CLOCK,
        0, NULL, NULL, on_request, f, MHD_OPTION_EXTERNAL_LOGGER, on_library_message, NULL,
        MHD_OPTION_URI_LOG_CALLBACK, on_target, f, MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, f, MHD_OPTION_NOTIFY_CONNECTION,
        frontend_connection_notify, f, MHD_OPTION_CONNECTION_LIMIT, 1u,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)POOL_BYTES, MHD_OPTION_STRICT_FOR_CLIENT, 1,
        MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_NONCE_NC_SIZE, 0u, MHD_OPTION_END);
}

struct client_daemon *frontend_daemon_new(struct frontend *f)
{
    struct client_daemon *daemon = calloc(1, sizeof(*daemon));
    const union MHD_DaemonInfo *info = NULL;

    if (!daemon)
        return NULL;
    daemon->mhd = start_daemon(f);
    if (daemon->mhd)
        info = MHD_get_daemon_info(daemon->mhd, MHD_DAEMON_INFO_EPOLL_FD);
    if (!info || uv_poll_init(f->loop, &daemon->poll, info->epoll_fd) < 0) {
        if (daemon->mhd)
            MHD_stop_daemon(daemon->mhd);
        free(daemon);
        return NULL;
    }
    daemon->poll.data = daemon;
    uv_poll_start(&daemon->poll, UV_READABLE, on_ready);
    return daemon;
}

static void on_daemon_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void frontend_daemon_free(struct client_daemon *daemon)
{
    uv_close((uv_handle_t *)&daemon->poll, on_daemon_closed);
    MHD_stop_daemon(daemon->mhd);
}

/* --- an iteration ----------------------------------------------------------------------------- */

/* Whether libmicrohttpd has more to do at once. No timeouts are set, so a timeout of 0 means this,
 * unless the request waits for its owner. */
static bool has_more(const struct connection *c)
{
    MHD_UNSIGNED_LONG_LONG timeout;

    return !(c->current && c->current->waits) &&
           MHD_get_timeout(c->daemon->mhd, &timeout) == MHD_YES && timeout == 0;
}

#define RUNS_AT_ONCE 4

/* libmicrohttpd needs several calls for a whole response: for the headers, for all bytes, and for
 * the end. A client may have read it and be gone before the last call, which then fails on a Unix
 * socket. If the kernel does not take all bytes, libmicrohttpd waits; so if it has more to do, the
 * kernel has them. */
static void run(struct connection *c)
{
    struct client_daemon *daemon = c->daemon;
    bool more = true;

    for (unsigned i = 0; more && i < RUNS_AT_ONCE; i++) {
        frontend_connection_look_for_tls(c);
        /* 1.0.1 takes a new connection over here; 0.9.75, in MHD_add_connection */
        c->f->adding = c;
        MHD_run(daemon->mhd);
        if (daemon->c && !c->known) /* libmicrohttpd had no memory and has closed the socket */
            frontend_connection_drop(c);
        if (!daemon->c) { /* the connection is closed */
            frontend_daemon_free(daemon);
            return;
        }
        more = has_more(c);
        if (c->current && c->current->is_whole)
            c->current->passed = more;
    }
    if (more)
        frontend_ready(c);
}

bool frontend_run(struct frontend *f)
{
    struct list *last = f->ready.prev, *node;

    if (list_empty(&f->ready))
        return false;
    do {
        node = list_pop(&f->ready);
        run(LIST_ENTRY(node, struct connection, ready));
    } while (node != last && !list_empty(&f->ready));
    return true;
}
