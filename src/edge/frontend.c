/* Drives libmicrohttpd: requests and answers. */
#include "edge/frontend.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/log.h"
#include "edge/frontend_check.h"
#include "edge/frontend_private.h"
#include "exchange/exchange.h"

/* Per connection; also the limit of a head and of a chunk, as large as HAProxy's. libmicrohttpd
 * zeroes all of it after each request: 32 KiB cost 2.7 us more. */
#define POOL_BYTES (16 * 1024)
#define STREAM_BLOCK 4096
#define STALL_TIME_MS 60000
#define HEADERS_TIME_MS 15000   /* a new connection's first head must be whole by then */
#define KEEPALIVE_TIME_MS 75000 /* the next head on a kept connection likewise */

const char *frontend_version(void)
{
    static char text[64];

    snprintf(text, sizeof(text), "libmicrohttpd/%s", MHD_get_version());
    return text;
}

void frontend_dirty(struct frontend *f)
{
    f->dirty = true;
    f->wake(f->wake_arg);
}

void frontend_resume(struct frontend_request *r)
{
    if (!r->suspended)
        return;
    r->suspended = r->held_back = false;
    MHD_resume_connection(r->mhd);
    frontend_dirty(r->f);
}

void frontend_suspend(struct frontend_request *r)
{
    r->suspended = true;
    MHD_suspend_connection(r->mhd);
}

/* --- room for heads ----------------------------------------------------------------------------- */

/* libmicrohttpd writes an answer's head into what the request has left of the pool, and where that is
 * too little it closes the connection without a word. It has the request's head there as it came, a
 * note of each field, parameter of the query and cookie, and a copy of the cookies. */
#define NOTE_BYTES 64
#define OWN_HEADERS_BYTES 1536 /* of an error of ours */
#define LINES_OF_ITS_OWN 256 /* of the answer's head: status, Date, Connection, length or coding */

static void measure_room(struct frontend_request *r)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(r->mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    int notes = MHD_get_connection_values(r->mhd, MHD_GET_ARGUMENT_KIND, NULL, NULL) +
                MHD_get_connection_values(r->mhd, MHD_COOKIE_KIND, NULL, NULL);
    size_t head = info ? info->header_size : 0;
    size_t used = head + ((size_t)notes + r->http.headers.count) * NOTE_BYTES + LINES_OF_ITS_OWN;
    struct str cookies;

    if (headers_get(&r->http.headers, STR("cookie"), &cookies))
        used += cookies.n + NOTE_BYTES;
    r->headers_room = used < POOL_BYTES ? POOL_BYTES - used : 0;
    r->body_there = head < POOL_BYTES / 2 ? POOL_BYTES / 2 - head : 2 * 1024;
}

/* What add_cors writes. */
static size_t cors_bytes(const struct frontend_request *r)
{
    return r->origin ? strlen(r->origin) + 128 : 0;
}

static bool headers_fit(const struct frontend_request *r, const struct http_response *response)
{
    const struct headers *h = &response->headers;

    size_t room = r->headers_room;

    /* What has come of the body is in the pool until it is taken. */
    if (!r->complete)
        room = room > r->body_there ? room - r->body_there : 0;
    /* Each name and each value is terminated, where the answer has a colon, a space and a line's end. */
    return h->text.len + (size_t)2 * h->count + cors_bytes(r) <= room;
}

/* --- answers --------------------------------------------------------------------------------- */

/* Fetch 3.2.3. The request has no credentials of the browser's own, so that "*" stands for all fields. */
static int add_cors(struct MHD_Response *mhd, const char *origin)
{
    bool ok = MHD_add_response_header(mhd, "Access-Control-Allow-Origin", origin) == MHD_YES &&
              MHD_add_response_header(mhd, "Access-Control-Expose-Headers", "*") == MHD_YES &&
              MHD_add_response_header(mhd, "Vary", "Origin") == MHD_YES;

    return ok ? 0 : -ENOMEM;
}

static int add_headers(const struct frontend_request *r, struct MHD_Response *mhd,
                       const struct http_response *response)
{
    const struct headers *h = &response->headers;

    for (unsigned i = 0; i < h->count; i++) {
        if (r->origin && str_istarts(headers_name(h, i), STR("access-control-")))
            continue;
        /* Refused are only values that no HTTP message should carry (empty ones, too). */
        (void)MHD_add_response_header(mhd, headers_name(h, i).p, headers_value(h, i).p);
    }
    if (r->origin && add_cors(mhd, r->origin) < 0)
        return -ENOMEM;
    if (r->f->draining && MHD_add_response_header(mhd, "Connection", "close") != MHD_YES)
        return -ENOMEM;
    return 0;
}

static int queue(struct frontend_request *r, struct MHD_Response *mhd,
                 const struct http_response *response)
{
    enum MHD_Result rc = MHD_NO;

    if (!mhd)
        return -ENOMEM;
    if (add_headers(r, mhd, response) == 0)
        rc = MHD_queue_response(r->mhd, response->status, mhd);
    MHD_destroy_response(mhd);
    if (rc != MHD_YES)
        return -ENOMEM;
    r->answered = true;
    frontend_connection_expect_taking(r->c);
    if (r->suspended)
        frontend_resume(r);
    else /* what is pipelined behind it is in memory, where no socket will tell of it */
        frontend_dirty(r->f);
    return 0;
}

static ssize_t no_bytes(void *cls, uint64_t pos, char *to, size_t max)
{
    (void)cls;
    (void)pos;
    (void)to;
    (void)max;
    return MHD_CONTENT_READER_END_OF_STREAM;
}

static bool bodiless(const struct frontend_request *r, unsigned status)
{
    return status == 204 || status == 304 || r->is_head;
}

int frontend_whole(struct frontend_request *r, const struct http_response *response,
                   struct buf *body)
{
    struct MHD_Response *mhd;
    size_t n;
    char *p;

    if (r->answered)
        return -EALREADY;
    if (!headers_fit(r, response))
        return -EMSGSIZE;
    if (bodiless(r, response->status) && body->len == 0 && response->content_length != 0) {
        /* The length is told, the body is not sent. */
        mhd = MHD_create_response_from_callback(response->content_length == LENGTH_UNKNOWN
                                                    ? MHD_SIZE_UNKNOWN
                                                    : response->content_length,
                                                STREAM_BLOCK, no_bytes, NULL, NULL);
        /* Without a length it would be chunked, and the last chunk sent where no body may be. */
        if (mhd && response->content_length == LENGTH_UNKNOWN && response->status != 204)
            MHD_set_response_options(mhd, MHD_RF_HTTP_1_0_COMPATIBLE_STRICT, MHD_RO_END);
        return queue(r, mhd, response);
    }
    p = buf_steal(body, &n);
    mhd = MHD_create_response_from_buffer(n, p, n ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);
    if (!mhd || n == 0)
        free(p);
    return queue(r, mhd, response);
}

/* A connection that ends by what its reader returns is marked as closed, and then forgotten until it is
 * the oldest of those with the common timeout (MHD_connection_handle_idle, in 0.9.75 and in 1.0.1): with
 * its slot and its descriptor, for as long as an older client is idle. Those with a timeout of their own
 * are looked at in each run, so it gets one; the next run frees it. */
static void let_go(struct frontend_request *r)
{
    (void)MHD_set_connection_option(r->mhd, MHD_CONNECTION_OPTION_TIMEOUT, 1u);
    frontend_dirty(r->f);
}

/* libmicrohttpd asks for bytes; without any it must sleep until frontend_wake. */
static ssize_t read_stream(void *cls, uint64_t pos, char *to, size_t max)
{
    struct frontend_request *r = cls;
    ptrdiff_t n;

    (void)pos;
    assert(r->magic == REQUEST_MAGIC);
    n = r->cut ? PULL_CUT : r->f->handler->on_pull(r->user, to, max);
    if (n > 0) {
        r->pulled += (uint64_t)n;
        return n;
    }
    if (n == PULL_END) {
        if (r->http_1_0) /* the end of the connection is the end of the answer */
            let_go(r);
        return MHD_CONTENT_READER_END_OF_STREAM;
    }
    if (n == PULL_CUT) {
        if (r->http_1_0) /* ... so that only a reset breaks it */
            frontend_connection_reset(r->c);
        let_go(r);
        return MHD_CONTENT_READER_END_WITH_ERROR;
    }
    frontend_suspend(r);
    return 0;
}

int frontend_stream(struct frontend_request *r, const struct http_response *response)
{
    if (r->answered)
        return -EALREADY;
    if (!headers_fit(r, response))
        return -EMSGSIZE;
    return queue(r,
                 MHD_create_response_from_callback(response->content_length == LENGTH_UNKNOWN
                                                       ? MHD_SIZE_UNKNOWN
                                                       : response->content_length,
                                                   STREAM_BLOCK, read_stream, r, NULL),
                 response);
}

void frontend_stall_limit(struct frontend_request *r, uint64_t ms)
{
    r->stall_ms = ms;
}

/* libmicrohttpd has no interim responses. The request is in, the answer is not queued, and the answers
 * before it are out: nobody else writes into the socket now. */
void frontend_interim(struct frontend_request *r, struct str interim)
{
    ssize_t n;

    if (!r->complete || r->answered || r->cut || r->c->gone)
        return;
    n = send(r->c->fd, interim.p, interim.n, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n > 0 && (size_t)n < interim.n) /* no answer can follow half a head */
        frontend_cut(r);
}

void frontend_wake(struct frontend_request *r)
{
    frontend_resume(r);
}

/* While it is suspended, whoever is asked next says so: the reader, or the last call. Else libmicrohttpd
 * waits for the client to take or to bring something, and only the end of the socket ends that. */
void frontend_cut(struct frontend_request *r)
{
    r->cut = true;
    if (r->suspended)
        frontend_resume(r);
    else if (r->http_1_0 && r->answered)
        frontend_connection_reset(r->c);
    else
        frontend_connection_shut(r->c);
}

/* --- pages --------------------------------------------------------------------------------------- */

#define PREFLIGHT_SECONDS "600" /* for which a browser need not ask again */

int frontend_allow_page(struct frontend_request *r, struct str origin)
{
    r->origin = strndup(origin.p, origin.n);
    return r->origin ? 0 : -ENOMEM;
}

static bool is_field_list(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] != ' ' && !str_is_token((struct str){s.p + i, 1}) && s.p[i] != ',')
            return false;
    return s.n > 0;
}

/* What the page asks for is granted: its origin may send requests, and these have any fields. */
static int add_grants(struct http_response *response, const struct headers *asked)
{
    static const struct {
        struct str asked, granted;
    } lists[] = {
        {{"access-control-request-method", 29}, {"Access-Control-Allow-Methods", 28}},
        {{"access-control-request-headers", 30}, {"Access-Control-Allow-Headers", 28}},
    };
    struct str v;
    int rc = headers_add(&response->headers, STR("Access-Control-Max-Age"), STR(PREFLIGHT_SECONDS));

    for (size_t i = 0; i < 2 && rc == 0; i++)
        if (headers_get(asked, lists[i].asked, &v) && is_field_list(v))
            rc = headers_add(&response->headers, lists[i].granted, v);
    /* A page of a public site may reach this machine only if it is told so (Private Network Access). */
    if (rc == 0 && headers_get(asked, STR("access-control-request-private-network"), &v) &&
        str_ieq(v, STR("true")))
        rc = headers_add(&response->headers, STR("Access-Control-Allow-Private-Network"),
                         STR("true"));
    return rc;
}

static enum MHD_Result respond_preflight(struct frontend_request *r)
{
    struct MHD_Response *mhd;
    struct http_response response;
    char *origin = r->origin;
    int rc;

    http_response_init(&response);
    response.status = 204;
    rc = add_grants(&response, &r->http.headers);
    mhd = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    if (rc == 0 && mhd)
        rc = add_cors(mhd, origin);
    r->origin = NULL; /* its fields are there, and the grants are not the upstream's */
    if (rc == 0)
        rc = queue(r, mhd, &response);
    else if (mhd)
        MHD_destroy_response(mhd);
    r->origin = origin;
    http_response_deinit(&response);
    return rc == 0 ? MHD_YES : MHD_NO;
}

/* --- requests ---------------------------------------------------------------------------------- */

/* The first that is heard of a request: its raw target, before percent-decoding. */
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
    list_remove(&r->c->fresh);
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
    return s; /* those before it are gone */
}

static enum MHD_Result take_header(void *cls, enum MHD_ValueKind kind, const char *key,
                                   size_t key_size, const char *value, size_t value_size)
{
    struct taking *t = cls;
    struct frontend_request *r = t->r;
    struct str name = {key, key_size}, text = {value, value_size};

    (void)kind;
    frontend_trail_field(&t->trail, name, text);
    /* RFC 9110 5.5: blanks around a value are no part of it. Of the coding libmicrohttpd has made
     * with them what it has made: it is looked at as it stands. */
    if (text.n > 0 && !str_ieq(name, STR("transfer-encoding")))
        text = trim_blanks(text);
    if (headers_add(&r->http.headers, name, text) < 0) {
        r->refused = 431;
        r->why = "retryd: the request's head has too many fields";
        return MHD_NO;
    }
    return MHD_YES;
}

/* Where libmicrohttpd parses in place, and is too lenient (struct frontend_trail). */
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
    if (!frontend_body_swallows(r))
        return frontend_refuse(r, status, why);
    snprintf(r->why_text, sizeof(r->why_text), "%s", why);
    r->refused = status;
    r->why = r->why_text;
    frontend_connection_expect_body(r->c);
    return MHD_YES;
}

/* The head is in. A response queued here closes the connection: for refusals only. */
static enum MHD_Result first_call(struct frontend_request *r, const char *method,
                                  const char *version)
{
    const char *why = NULL;
    char text[sizeof(r->why_text)] = "";
    struct taking taking = {.r = r};
    unsigned status;
    int rc;

    r->started = true;
    http_request_text(&r->http.method, method);
    r->is_head = !strcmp(method, "HEAD"); /* the owner may take the head */
    frontend_trail_begin(&taking.trail, str_from(method), (struct str){r->uri, r->http.target.len},
                         version);
    MHD_get_connection_values_n(r->mhd, MHD_HEADER_KIND, take_header, &taking);
    measure_room(r);
    if (r->refused)
        return frontend_refuse(r, r->refused, r->why);
    if (is_cut_or_glued(&taking, method))
        return frontend_refuse(
            r, 400,
            "retryd: the request's head holds a NUL, a folded line, a line without CR LF "
            "at its end or one without a name");
    if (r->http.target.failed || r->http.method.failed)
        return MHD_NO;
    status = frontend_check(&r->http, version, &why);
    if (status)
        return frontend_refuse(r, status, why);
    r->http_1_0 = r->http.http_1_0;
    if (r->headers_room < OWN_HEADERS_BYTES)
        return frontend_refuse(r, 431,
                               "retryd: the request's head leaves no room for that of an answer "
                               "(16 KiB for both); send fewer or shorter headers");
    r->told = r->http.content_length;
    rc = r->f->handler->on_headers(r->f->ctx, r, &r->http, &r->user, text, sizeof(text));
    r->preflight = rc == FRONTEND_PREFLIGHT;
    if (rc < 0) {
        r->user = NULL;
        return refuse_headers(r, frontend_status(rc), text);
    }
    frontend_connection_expect_body(r->c);
    return MHD_YES;
}

static enum MHD_Result last_call(struct frontend_request *r)
{
    if (r->cut || r->said)
        return MHD_NO;
    if (r->answered)
        return MHD_YES;
    if (r->refused)
        return frontend_refuse(r, r->refused, r->why);
    if (r->preflight)
        return respond_preflight(r);
    if (!r->complete) {
        r->complete = true;
        frontend_connection_expect_nothing(r->c);
        r->f->handler->on_complete(r->user);
        if (r->c->gone)
            r->f->handler->on_gone(r->user);
    }
    if (r->cut)
        return MHD_NO;
    if (!r->answered)
        frontend_suspend(r);
    return MHD_YES;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *mhd, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *size, void **req_cls)
{
    struct frontend_request *r = *req_cls;

    (void)cls;
    (void)mhd;
    (void)url;
    if (!r)
        return MHD_NO;
    assert(r->magic == REQUEST_MAGIC);
    if (!r->started)
        return first_call(r, method, version);
    if (*size > 0)
        return frontend_body_take(r, data, size);
    return last_call(r);
}

/* libmicrohttpd answers what it cannot read by itself, with a page of HTML, and tells nobody. Of a body
 * its owner hears of it; of a head nobody has one yet, for it is read before the first call: of a
 * Content-Length that is no number, which for 0.9.75 one with blanks behind it is, too. No callback comes
 * before that answer is on its way, so that ours cannot take its place. */
static void refused_by_library(struct frontend_request *r)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(r->mhd, MHD_CONNECTION_INFO_HTTP_STATUS);

    if (!info || info->http_status < 400)
        return;
    if (r->user)
        r->f->handler->on_body_refused(r->user, info->http_status);
    else if (!r->started)
        r->f->handler->on_refused(r->f->ctx, info->http_status,
                                  "libmicrohttpd: the request's head cannot be read");
}

void frontend_over(struct frontend_request *r, bool whole)
{
    struct frontend *f = r->f;

    assert(r->magic == REQUEST_MAGIC);
    r->c->current = NULL;
    if (!r->complete && !r->refused && !r->cut)
        refused_by_library(r);
    if (r->user)
        f->handler->on_closed(r->user, whole);
    http_request_deinit(&r->http);
    free(r->origin);
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
    /* A client that left unseen counts as completed, too: the kernel had room for it all. */
    frontend_over(r, r->said || (r->answered && code == MHD_REQUEST_TERMINATED_COMPLETED_OK));
    frontend_connection_expect_headers(c);
}

/* --- the daemon ----------------------------------------------------------------------------------- */

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

static void on_ready(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    frontend_dirty(poll->data);
}

static struct MHD_Daemon *start_daemon(struct frontend *f, unsigned max_connections)
{
    return MHD_start_daemon(
        MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG |
            MHD_USE_SUPPRESS_DATE_NO_CLOCK,
        0, NULL, NULL, on_request, f, MHD_OPTION_EXTERNAL_LOGGER, on_library_message, NULL,
        MHD_OPTION_URI_LOG_CALLBACK, on_target, f, MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, f, MHD_OPTION_NOTIFY_CONNECTION,
        frontend_connection_notify, f, MHD_OPTION_CONNECTION_LIMIT, max_connections,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)POOL_BYTES, MHD_OPTION_STRICT_FOR_CLIENT, 1,
        MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_END);
}

struct frontend *frontend_new(uv_loop_t *loop, const struct frontend_handler *handler, void *ctx,
                              unsigned max_connections, void (*wake)(void *arg), void *wake_arg)
{
    struct frontend *f = calloc(1, sizeof(*f));
    const union MHD_DaemonInfo *info;

    if (!f)
        return NULL;
    f->loop = loop;
    f->handler = handler;
    f->ctx = ctx;
    f->wake = wake;
    f->wake_arg = wake_arg;
    list_init(&f->connections);
    list_init(&f->fresh);
    frontend_times(f, HEADERS_TIME_MS, KEEPALIVE_TIME_MS);
    f->daemon = start_daemon(f, max_connections);
    info = f->daemon ? MHD_get_daemon_info(f->daemon, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
    if (!info || uv_poll_init(loop, &f->poll, info->epoll_fd) < 0) {
        if (f->daemon)
            MHD_stop_daemon(f->daemon);
        free(f);
        return NULL;
    }
    f->poll.data = f;
    uv_poll_start(&f->poll, UV_READABLE, on_ready);
    return f;
}

static void on_frontend_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void frontend_close(struct frontend *f)
{
    uv_close((uv_handle_t *)&f->poll, on_frontend_closed);
    MHD_stop_daemon(f->daemon);
}

bool frontend_turn(struct frontend *f)
{
    MHD_UNSIGNED_LONG_LONG timeout;

    if (!f->dirty)
        return false;
    f->dirty = false;
    frontend_connection_look_at_fresh(f);
    MHD_run(f->daemon);
    /* We set no timeouts of its own: 0 means that it has more to do right now. */
    if (MHD_get_timeout(f->daemon, &timeout) == MHD_YES && timeout == 0)
        f->dirty = true;
    return true;
}
