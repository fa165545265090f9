/* Sends responses: the owner's, and the frontend's own errors and responses to preflights. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "edge/frontend_private.h"
#include "exchange/exchange.h"
#include "exchange/response.h"
#include "http/dialect.h"

#define BLOCK 4096       /* libmicrohttpd reads a response in blocks of this size ... */
#define LEAN_BYTES 8192  /* a piece of a stream that may touch some pages */
#define CHUNKED_BLOCK 64 /* ... unless it is chunked: then it reads into the connection's memory */

/* --- room for response headers ---------------------------------------------------------------- */

/* libmicrohttpd writes a response's headers into the memory of the connection that the request has
 * left, and silently closes the connection if that is too little. The memory also holds the
 * request's headers, a record for each header, query parameter and cookie, and a copy of the
 * cookies. */
#define NOTE_BYTES 64
/* Lines it adds: status, Date, Connection, Content-Length or Transfer-Encoding. */
#define LINES_OF_ITS_OWN 256

void frontend_measure_room(struct frontend_request *r)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(r->mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    int notes = MHD_get_connection_values(r->mhd, MHD_GET_ARGUMENT_KIND, NULL, NULL) +
                MHD_get_connection_values(r->mhd, MHD_COOKIE_KIND, NULL, NULL);
    size_t headers = info ? info->header_size : 0;
    size_t used = headers + ((size_t)notes + r->http.headers.count) * NOTE_BYTES + LINES_OF_ITS_OWN;
    struct str cookies;

    if (headers_get(&r->http.headers, STR("cookie"), &cookies))
        used += cookies.n + NOTE_BYTES;
    r->headers_room = used < POOL_BYTES ? POOL_BYTES - used : 0;
    r->body_there = headers < POOL_BYTES / 2 ? POOL_BYTES / 2 - headers : 2 * 1024;
}

/* Returns an upper bound of the bytes that add_cors writes. */
static size_t cors_bytes(const struct frontend_request *r)
{
    return r->origin ? strlen(r->origin) + 128 : 0;
}

static bool headers_fit(const struct frontend_request *r, const struct http_response *response)
{
    const struct headers *h = &response->headers;

    size_t room = r->headers_room;

    /* Bytes of the body occupy this memory until they are taken. */
    if (!r->complete)
        room = room > r->body_there ? room - r->body_there : 0;
    /* The headers' text has a terminator for each name and value; the response has ": " and CR
     * LF. */
    return h->text.len + (size_t)2 * h->count + cors_bytes(r) <= room;
}

/* --- responses -------------------------------------------------------------------------------- */

/* Fetch 3.2.3. The request carries no credentials of the browser, so "*" means all headers. */
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
        /* libmicrohttpd refuses only values that no HTTP message should contain, and empty ones. */
        (void)MHD_add_response_header(mhd, headers_name(h, i).p, headers_value(h, i).p);
    }
    if (r->origin && add_cors(mhd, r->origin) < 0)
        return -ENOMEM;
    if (r->f->draining && MHD_add_response_header(mhd, "Connection", "close") != MHD_YES)
        return -ENOMEM;
    return 0;
}

/* libmicrohttpd takes the response from on_request's next call. A response that is queued at
 * another time can end the request at once. */
static int queue(struct frontend_request *r, struct MHD_Response *mhd,
                 const struct http_response *response)
{
    if (!mhd)
        return -ENOMEM;
    if (add_headers(r, mhd, response) < 0) {
        MHD_destroy_response(mhd);
        return -ENOMEM;
    }
    r->response = mhd;
    r->status = response->status;
    r->responded = true;
    frontend_connection_expect_taking(r->c);
    frontend_wake(r);
    frontend_ready(r->c); /* no socket event may follow */
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
    int rc;

    if (r->responded)
        return -EALREADY;
    if (!headers_fit(r, response))
        return -EMSGSIZE;
    if (bodiless(r, response->status) && body->len == 0 && response->content_length != 0) {
        /* Content-Length is sent, the body is not. */
        mhd = MHD_create_response_from_callback(response->content_length == LENGTH_UNKNOWN
                                                    ? MHD_SIZE_UNKNOWN
                                                    : response->content_length,
                                                CHUNKED_BLOCK, no_bytes, NULL, NULL);
        /* Without a length the response would be chunked, and the last chunk would be sent. */
        if (mhd && response->content_length == LENGTH_UNKNOWN && response->status != 204)
            MHD_set_response_options(mhd, MHD_RF_HTTP_1_0_COMPATIBLE_STRICT, MHD_RO_END);
        return queue(r, mhd, response);
    }
    p = buf_steal(body, &n);
    mhd = MHD_create_response_from_buffer(n, p, n ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);
    if (!mhd || n == 0)
        free(p);
    rc = queue(r, mhd, response);
    r->is_whole = rc == 0;
    return rc;
}

/* Lets the kernel have the whole pages of a buffer whose content no longer matters. libmicrohttpd
 * has written the connection's memory once for the request's headers, and a stream's events need
 * little. */
static void give_back(char *p, size_t n)
{
    static const size_t page = 4096; /* if pages are larger, madvise fails, which is harmless */
    size_t skip = -(uintptr_t)p % page;

    if (n >= skip + page)
        (void)madvise(p + skip, (n - skip) / page * page, MADV_DONTNEED);
}

/* Provides bytes of a streamed response. Without any, the connection waits for frontend_wake. */
static ssize_t read_stream(void *cls, uint64_t pos, char *to, size_t max)
{
    struct frontend_request *r = cls;
    ptrdiff_t n;

    (void)pos;
    assert(r->magic == REQUEST_MAGIC);
    n = r->cut ? PULL_CUT : r->f->handler->on_pull(r->user, to, max);
    if (n > 0) {
        r->pulled += (uint64_t)n;
        r->lean = r->lean && n < LEAN_BYTES;
        return n;
    }
    if (n == 0) {
        if (!r->lean)
            give_back(to, max);
        r->lean = true;
        frontend_wait(r);
        return 0;
    }
    if (n == PULL_CUT && r->http_1_0) /* the connection's end would look like the response's */
        frontend_connection_reset(r->c);
    frontend_ready(r->c); /* libmicrohttpd frees a connection that ends here in its next run */
    return n == PULL_END ? MHD_CONTENT_READER_END_OF_STREAM : MHD_CONTENT_READER_END_WITH_ERROR;
}

int frontend_stream(struct frontend_request *r, const struct http_response *response)
{
    if (r->responded)
        return -EALREADY;
    if (!headers_fit(r, response))
        return -EMSGSIZE;
    bool endless = response->content_length == LENGTH_UNKNOWN;

    return queue(r,
                 MHD_create_response_from_callback(
                     endless ? MHD_SIZE_UNKNOWN : response->content_length,
                     endless && !r->http_1_0 ? CHUNKED_BLOCK : BLOCK, read_stream, r, NULL),
                 response);
}

void frontend_stall_limit(struct frontend_request *r, uint64_t ms)
{
    r->stall_ms = ms;
}

/* libmicrohttpd has no interim responses. Writing to the socket is safe here: the request is
 * complete, its response is not queued, and all earlier responses are sent. */
void frontend_interim(struct frontend_request *r, struct str interim)
{
    ssize_t n;

    if (!r->complete || r->responded || r->cut || r->c->gone)
        return;
    n = send(r->c->fd, interim.p, interim.n, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n > 0 && (size_t)n < interim.n) /* no response can follow incomplete headers */
        frontend_cut(r);
}

/* A connection that waits continues, and its content reader or on_request ends it. Otherwise
 * libmicrohttpd waits for the client, and only closing the socket ends that. */
void frontend_cut(struct frontend_request *r)
{
    r->cut = true;
    if (r->waits)
        frontend_wake(r);
    else if (r->http_1_0 && r->responded)
        frontend_connection_reset(r->c);
    else
        frontend_connection_shut(r->c);
}

/* --- CORS ------------------------------------------------------------------------------------- */

#define PREFLIGHT_SECONDS "600" /* for which a browser may cache the response */

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

/* Grants all that the page asks for: an allowed origin may send any method and any headers. */
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
    /* A page of a public site may reach this machine only with this header (Private Network
     * Access). */
    if (rc == 0 && headers_get(asked, STR("access-control-request-private-network"), &v) &&
        str_ieq(v, STR("true")))
        rc = headers_add(&response->headers, STR("Access-Control-Allow-Private-Network"),
                         STR("true"));
    return rc;
}

enum MHD_Result frontend_respond_preflight(struct frontend_request *r)
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
    r->origin = NULL; /* its headers are set, and add_headers must keep the grants */
    if (rc == 0)
        rc = queue(r, mhd, &response);
    else if (mhd)
        MHD_destroy_response(mhd);
    r->origin = origin;
    http_response_deinit(&response);
    return rc == 0 ? MHD_YES : MHD_NO;
}

/* --- errors ----------------------------------------------------------------------------------- */

#define RAW_BYTES_MAX 4096

/* The same headers as in add_cors. */
#define CORS_FIELDS \
    "Access-Control-Allow-Origin: %s\r\nAccess-Control-Expose-Headers: *\r\nVary: Origin\r\n"

static const char *code_for(unsigned status)
{
    switch (status) {
    case 401:
        return "invalid_api_key"; /* OpenAI's code */
    case 403:
        return "not_allowed";
    case 408:
        return "request_timeout";
    case 413:
        return "request_too_large";
    case 431:
        return "request_headers_too_large";
    case 426:
        return "upgrade_not_supported";
    case 503:
        return "overloaded";
    case 508:
        return "loop_detected";
    case 507:
        return "insufficient_storage";
    default:
        return "bad_request";
    }
}

static int own_error(const struct frontend_request *r, unsigned status, const char *why,
                     struct http_response *response, struct buf *body)
{
    bool ours = status == 503 || status == 507;
    struct response_facts facts = {.reason = ours ? REASON_INTERNAL : REASON_CLIENT_ERROR,
                                   .dialect = dialect_of(http_request_path(&r->http)),
                                   .come_again = status == 503};

    int rc = response_own_error(response, body, status, why,
                                status == 401 && facts.dialect == DIALECT_MESSAGES
                                    ? "authentication_error"
                                : status >= 500 ? "server_error"
                                                : "invalid_request_error",
                                code_for(status), &facts);

    if (rc == 0 && status == 401) /* RFC 6750 3 */
        rc = headers_add(&response->headers, STR("WWW-Authenticate"),
                         STR("Bearer realm=\"retryd\""));
    if (rc == 0 && status == 426) /* RFC 9110 15.5.22: the supported protocol */
        rc = headers_add(&response->headers, STR("Upgrade"), STR("HTTP/1.1"));
    return rc;
}

/* Writes straight to the socket because libmicrohttpd has no memory for the response or does not
 * accept one now. If the kernel has no room for so little, the client is not reading anyway. */
static void write_raw(struct frontend_request *r, const struct http_response *response,
                      const struct buf *body)
{
    struct buf raw;

    buf_init(&raw, RAW_BYTES_MAX);
    buf_printf(&raw, "HTTP/1.1 %u %s\r\nConnection: close\r\nContent-Length: %zu\r\n",
               response->status, MHD_get_reason_phrase_for(response->status), body->len);
    for (unsigned i = 0; i < response->headers.count; i++)
        buf_printf(&raw, "%s: %s\r\n", headers_name(&response->headers, i).p,
                   headers_value(&response->headers, i).p);
    if (r->origin)
        buf_printf(&raw, CORS_FIELDS, r->origin);
    buf_add_str(&raw, STR("\r\n"));
    if (!r->is_head)
        buf_add_str(&raw, buf_str(body));
    if (!raw.failed)
        (void)send(r->c->fd, raw.p, raw.len, MSG_DONTWAIT | MSG_NOSIGNAL);
    buf_deinit(&raw);
}

/* Nothing follows the response. For a short time retryd reads and drops what the client still
 * sends, as the client may read only afterwards. */
static void end_after_response(struct frontend_request *r, unsigned status)
{
    r->sent_raw = true;
    r->refused = status;
    r->refused_at = r->body_bytes;
    shutdown(r->c->fd, SHUT_WR);
}

enum MHD_Result frontend_refuse(struct frontend_request *r, unsigned status, const char *why)
{
    struct http_response response;
    struct buf body;
    int rc;

    http_response_init(&response);
    buf_init(&body, 4096);
    /* Lets an allowed page read a refusal that the owner has not seen. Others, and all without
     * memory, learn nothing. */
    struct str origin;
    if (!r->user && !r->origin && r->f->handler->may_read &&
        headers_get(&r->http.headers, STR("origin"), &origin)) {
        if (r->f->handler->may_read(r->f->ctx, &r->http.headers))
            (void)frontend_allow_page(r, origin);
    }
    rc = own_error(r, status, why, &response, &body);
    if (rc == 0)
        rc = frontend_whole(r, &response, &body);
    if (rc == -EMSGSIZE && !r->complete) {
        write_raw(r, &response, &body);
        end_after_response(r, status);
        frontend_connection_expect_body(r->c);
        rc = 0;
    }
    buf_deinit(&body);
    http_response_deinit(&response);
    if (!r->user)
        r->f->handler->on_refused(r->f->ctx, status, why);
    return rc == 0 ? MHD_YES : MHD_NO;
}

void frontend_refuse_now(struct frontend_request *r, unsigned status, const char *why)
{
    struct http_response response;
    struct buf body;

    http_response_init(&response);
    buf_init(&body, 4096);
    if (own_error(r, status, why, &response, &body) == 0)
        write_raw(r, &response, &body);
    buf_deinit(&body);
    http_response_deinit(&response);
    if (r->user)
        r->f->handler->on_body_refused(r->user, status);
    else
        r->f->handler->on_refused(r->f->ctx, status, why);
    end_after_response(r, status);
}
