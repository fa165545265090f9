/* One transfer: sets libcurl up for a request, uploads its body, and reads the response and the
 * result from it. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "edge/fetch_private.h"

/* --- the upload, from memory or in pieces from its owner -------------------------------------- */

#define AT_ONCE_MAX ((size_t)64 << 10) /* libcurl buffers this much together with the headers */

static size_t give_up(struct transfer *t, int rc)
{
    t->read_failed = rc;
    snprintf(t->broke_text, sizeof(t->broke_text), FETCH_SPOOL_FAILED, strerror(-rc));
    t->broke = t->broke_text;
    return CURL_READFUNC_ABORT;
}

/* Pauses the upload while the response is paused, because libcurl 8.14 keeps reading the response
 * into its own memory, without a limit, whenever it sends. */
static size_t read_callback(char *to, size_t size, size_t count, void *arg)
{
    struct transfer *t = arg;
    size_t max = size * count;
    ptrdiff_t n = 0;

    if (t->a->paused)
        return CURL_READFUNC_PAUSE;
    if (t->read_at < t->body_len) {
        uint64_t left = t->body_len - t->read_at;
        if (!t->body) {
            n = t->read(t->arg, t->read_at, to, max);
        } else {
            if (max > left)
                max = (size_t)left;
            memcpy(to, t->body + t->read_at, max);
            n = (ptrdiff_t)max;
        }
    }
    if (n == -EAGAIN) {
        t->upload_paused = true;
        return CURL_READFUNC_PAUSE;
    }
    if (n < 0 || (n == 0 && t->read_at < t->body_len))
        return give_up(t, n < 0 ? (int)n : -EIO);
    t->read_at += (uint64_t)n;
    return (size_t)n;
}

/* libcurl starts again if a proxy asks for the request a second time, with credentials. */
static int seek_callback(void *arg, curl_off_t offset, int origin)
{
    struct transfer *t = arg;

    if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > t->body_len)
        return CURL_SEEKFUNC_CANTSEEK;
    t->read_at = (uint64_t)offset;
    return CURL_SEEKFUNC_OK;
}

/* A small body in memory is passed to libcurl, which sends it together with the headers. A reused
 * handle may still have a read callback, but libcurl ignores it if POSTFIELDS is set. */
static void set_body(struct transfer *t, const struct fetch_request *r)
{
    bool at_once = r->body_len == 0 || (r->body && r->body_len <= AT_ONCE_MAX);

    t->body = r->body;
    t->read = r->read;
    curl_easy_setopt(t->easy, CURLOPT_POSTFIELDS, !at_once ? NULL : r->body_len > 0 ? r->body : "");
    if (!at_once) {
        curl_easy_setopt(t->easy, CURLOPT_READFUNCTION, read_callback);
        curl_easy_setopt(t->easy, CURLOPT_READDATA, t);
        curl_easy_setopt(t->easy, CURLOPT_SEEKFUNCTION, seek_callback);
        curl_easy_setopt(t->easy, CURLOPT_SEEKDATA, t);
        t->read_at = 0;
    }
    curl_easy_setopt(t->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body_len);
}

/* curl_easy_pause sets both directions at once. If the response is paused as well, everything stays
 * paused until fetch_resume. */
void fetch_transfer_upload_ready(struct transfer *t)
{
    assert(t->magic == TRANSFER_MAGIC);
    if (!t->upload_paused)
        return;
    t->upload_paused = false;
    if (!t->a->paused)
        curl_easy_pause(t->easy, CURLPAUSE_CONT);
}

void fetch_transfer_resume(struct transfer *t)
{
    assert(t->magic == TRANSFER_MAGIC);
    t->a->paused = false;
    curl_easy_pause(t->easy, t->upload_paused ? CURLPAUSE_SEND : CURLPAUSE_CONT);
}

/* A response may be silent for ten minutes. Keep-alive probes check its connection, and also keep
 * NAT entries alive. After four probes without a reply the connection is lost (PATH_TIMEOUT_MS). */
#define KEEPALIVE_IDLE_SECONDS 10L
#define KEEPALIVE_INTERVAL_SECONDS 3L
#define PATH_TIMEOUT_MS 20000u /* for TCP_USER_TIMEOUT */
/* A larger request may fill the server's buffers. Linux counts a server that reads on only after
 * half a minute as silent, so the timeout is longer. */
#define PATH_TIMEOUT_LARGE_MS 60000u
#define PATH_LARGE_BODY ((uint64_t)48 << 10)
#define DNS_CACHE_SECONDS 60L
#define HTTP2_MIN 0x080400 /* older versions of libcurl lose requests on GOAWAY, REFUSED_STREAM */

/* --- the response ----------------------------------------------------------------------------- */

/* Stops the transfer from within a callback of libcurl, which returns the result. */
static size_t stop(struct transfer *t, const char *why)
{
    t->broke = why;
    return 0;
}

bool fetch_transfer_is_uploading(const struct transfer *t)
{
    return t->body_len > 0 && t->sends > 0 && !fetch_transfer_upload_whole(t);
}

void fetch_transfer_early(struct transfer *t)
{
    t->early = t->u->early = true;
    t->u->wake(t->u->arg);
}

/* Returns the length of the body; UINT64_MAX if the headers do not give it. */
static uint64_t response_length(const struct attempt *a)
{
    struct str v;
    uint64_t n;

    if (a->status == 204 || a->status == 304)
        return 0;
    return headers_get(&a->headers, STR("content-length"), &v) && str_to_u64(v, &n) ? n
                                                                                    : UINT64_MAX;
}

/* Notes that the response is complete although the upload still runs. libcurl would keep sending,
 * and wait forever if the server no longer reads. After an error status libcurl stops the upload
 * itself. */
static void look_for_end(struct transfer *t)
{
    if (t->a->received >= t->response_len && fetch_transfer_is_uploading(t))
        fetch_transfer_early(t);
}

/* Keeps an interim response for the client. 100 and 101 concern only this hop. */
void fetch_keep_interim(struct attempt *a)
{
    struct buf *out = &a->interim;
    size_t before = out->len;

    if (a->status < 102 || a->status >= 200)
        return;
    buf_printf(out, "HTTP/1.1 %u %s\r\n", a->status,
               a->status == 103   ? "Early Hints"
               : a->status == 102 ? "Processing"
                                  : "");
    for (unsigned i = 0; i < a->headers.count; i++) {
        if (headers_hop_by_hop(&a->headers, headers_name(&a->headers, i)))
            continue;
        buf_add_str(out, headers_name(&a->headers, i));
        buf_add_str(out, STR(": "));
        buf_add_str(out, headers_value(&a->headers, i));
        buf_add_str(out, STR("\r\n"));
    }
    buf_add_str(out, STR("\r\n"));
    if (out->failed) { /* keep complete responses only */
        out->len = before;
        out->failed = false;
    }
}

/* Handles the empty line at the end of a response's headers. Returns `n`, or 0 to stop the
 * transfer. */
static size_t end_headers(struct transfer *t, size_t n)
{
    struct attempt *a = t->a;

    if (a->status == 101) /* another protocol would follow */
        return stop(t, "the upstream switched protocols (status 101) without being asked to");
    if (a->status >= 500) /* libcurl keeps a connection that other transfers still use */
        curl_easy_setopt(t->easy, CURLOPT_FORBID_REUSE, 1L);
    if (a->status < 200) {
        fetch_keep_interim(a);
        t->notify(t->arg);
        return n;
    }
    a->headers_done = true;
    t->response_len = response_length(a);
    a->last_piece_ms = uv_now(t->u->sockets.loop);
    t->notify(t->arg);
    look_for_end(t);
    return n;
}

static size_t header_callback(char *data, size_t size, size_t count, void *arg)
{
    struct transfer *t = arg;
    struct attempt *a = t->a;
    size_t n = size * count;
    struct str line = {data, n};
    const char *colon;
    int rc;

    if (a->headers_done) /* trailers */
        return n;
    if (str_starts(line, STR("HTTP/"))) {
        struct str rest = str_trim(line), version, code;
        uint64_t status = 0;
        /* The headers of 1xx responses come before those of the final one. */
        headers_reset(&a->headers);
        a->status = 0;
        if (str_next(&rest, ' ', &version) && str_next(&rest, ' ', &code) &&
            str_to_u64(code, &status))
            a->status = (unsigned)status;
        return n;
    }
    line = str_trim(line);
    if (line.n == 0)
        return end_headers(t, n);
    colon = memchr(line.p, ':', line.n);
    if (!colon)
        return n;
    rc = headers_add(&a->headers, str_trim((struct str){line.p, (size_t)(colon - line.p)}),
                     str_trim((struct str){colon + 1, line.n - (size_t)(colon - line.p) - 1}));
    t->large_headers = rc == -E2BIG;
    if (rc < 0)
        return stop(t, t->large_headers ? "the response headers are too large" : "out of memory");
    return n;
}

static size_t write_callback(char *data, size_t size, size_t count, void *arg)
{
    struct transfer *t = arg;
    struct attempt *a = t->a;
    size_t n = size * count;

    if (a->body.len >= a->high_water) {
        a->paused = true;
        t->notify(t->arg);
        return CURL_WRITEFUNC_PAUSE;
    }
    if (buf_add(&a->body, data, n) < 0)
        return stop(t, "out of memory");
    a->received += n;
    a->last_piece_ms = uv_now(t->u->sockets.loop);
    t->notify(t->arg);
    look_for_end(t);
    return n;
}

unsigned fetch_silence_ms(uint64_t body_len)
{
    return body_len > PATH_LARGE_BODY ? PATH_TIMEOUT_LARGE_MS : PATH_TIMEOUT_MS;
}

bool fetch_transfer_veto_resend(struct transfer *t)
{
    if (t->sends == 0 || t->http1)
        return false;
    if (t->veto == VETO_NONE)
        t->u->stats.resend_vetoed += !t->refused;
    t->veto = t->refused ? VETO_REFUSED : VETO_RESEND;
    return true;
}

/* Counts the handshake of a new connection. libcurl reports no time if there was none. */
void fetch_transfer_count_handshake(struct transfer *t)
{
    curl_off_t connected = 0, done = 0;

    if (!str_starts(str_from(t->upstream->origin), STR("https:")))
        return;
    curl_easy_getinfo(t->easy, CURLINFO_CONNECT_TIME_T, &connected);
    curl_easy_getinfo(t->easy, CURLINFO_APPCONNECT_TIME_T, &done);
    if (done == 0)
        return;
    t->u->stats.handshakes++;
    t->u->stats.handshake_us += done > connected ? (uint64_t)(done - connected) : 0;
}

/* libcurl calls this each time before it sends the request. A second call means that libcurl is
 * about to send it again on its own, but only policy/ decides on retries. */
static int prereq_callback(void *arg, char *primary_ip, char *local_ip, int primary_port,
                           int local_port)
{
    struct transfer *t = arg;
    struct fetch *u = t->u;
    struct fetch_socket *s;

    if (t->http1)
        return CURL_PREREQFUNC_OK;
    s = fetch_socket_by_ends(&u->sockets, local_ip, local_port, primary_ip, primary_port);
    if (fetch_transfer_veto_resend(t))
        return CURL_PREREQFUNC_ABORT;
    if (s && fetch_socket_dirty(s)) {
        t->veto = VETO_STALE;
        u->stats.stale++;
        if (!s->discarded)
            fetch_socket_discard(s);
        return CURL_PREREQFUNC_ABORT;
    }
    if (s && s->uses > 0) {
        u->stats.reused++;
    } else {
        fetch_transfer_count_handshake(t);
    }
    if (s) {
        t->socket = fetch_socket_begin(s);
        fetch_socket_bound_silence(s, fetch_silence_ms(t->body_len));
    }
    t->sends++;
    return CURL_PREREQFUNC_OK;
}

/* Looks for a refused stream in libcurl's trace of HTTP/2, because libcurl reports it nowhere else.
 * A server refuses a stream with RST_STREAM and REFUSED_STREAM, or with a GOAWAY that excludes it,
 * and has then processed nothing of the request (RFC 9113, 8.7). If a version of libcurl words its
 * trace differently, such an attempt counts as ambiguous. No server can fake the line, because only
 * libcurl writes its beginning. */
static int trace_callback(CURL *easy, curl_infotype type, char *data, size_t size, void *arg)
{
    struct transfer *t = arg;
    struct str line = {data, size}, words = STR("] REFUSED_STREAM, ");

    (void)easy;
    if (type != CURLINFO_TEXT || !str_starts(line, STR("[HTTP/2")))
        return 0;
    for (size_t i = strlen("[HTTP/2] ["); i < line.n && line.n - i >= words.n; i++) {
        if (str_starts((struct str){data + i, size - i}, words)) {
            t->refused = true;
            break;
        }
        if (data[i] < '0' || data[i] > '9')
            break;
    }
    return 0;
}

void fetch_transfer_global_init(void)
{
#if LIBCURL_VERSION_NUM >= HTTP2_MIN
    curl_global_trace("-all,http/2");
#endif
}

/* --- the request ------------------------------------------------------------------------------ */

/* Header fields that libcurl adds by itself. An entry without a value prevents that. */
static const char *const unwanted[] = {"Expect:", "Accept:", "Content-Type:", "User-Agent:"};
#define UNWANTED_COUNT (sizeof(unwanted) / sizeof(unwanted[0]))

static size_t header_bytes(const struct headers *h)
{
    size_t n = 1;

    for (unsigned i = 0; i < h->count; i++)
        n += headers_name(h, i).n + headers_value(h, i).n + sizeof(": \r\n");
    return n;
}

static char *put(char *to, struct str s)
{
    memcpy(to, s.p, s.n);
    return to + s.n;
}

/* Writes all fields from index `from` on as one text in the format of HTTP/1.1. */
static void write_fields(char *to, const struct headers *h, unsigned from)
{
    for (unsigned i = from; i < h->count; i++) {
        if (i > from)
            to = put(to, STR("\r\n"));
        to = put(to, headers_name(h, i));
        to = put(to, STR(": "));
        to = put(to, headers_value(h, i));
    }
    *to = '\0';
}

/* Makes a curl_slist in one block of memory, which is possible because libcurl only reads it.
 * libcurl sends an entry verbatim, including line ends, and formatting each field separately took a
 * tenth of its time. All fields are therefore one entry. No value contains a line end
 * (frontend_check, and the checks of the configuration). Only leading fields without a value have
 * their own entries, in libcurl's format for that. Returns NULL if out of memory. */
static struct curl_slist *make_list(const struct headers *h)
{
    size_t n = h->count + UNWANTED_COUNT, used = 0;
    struct curl_slist *list = malloc(n * sizeof(*list) + header_bytes(h));
    char *text = (char *)(list + n);
    unsigned i = 0;

    if (!list)
        return NULL;
    while (used < UNWANTED_COUNT) {
        list[used].data = (char *)(uintptr_t)unwanted[used];
        used++;
    }
    for (; i < h->count && headers_value(h, i).n == 0; i++) {
        list[used++].data = text;
        text = put(put(text, headers_name(h, i)), (struct str){";", 2});
    }
    if (i < h->count) {
        list[used++].data = text;
        write_fields(text, h, i);
    }
    for (i = 0; i + 1 < used; i++)
        list[i].next = &list[i + 1];
    list[used - 1].next = NULL;
    return list;
}

static long http_version(enum fetch_http wanted)
{
    const curl_version_info_data *v = curl_version_info(CURLVERSION_NOW);

    if (wanted != FETCH_HTTP_2 || v->version_num < HTTP2_MIN)
        return CURL_HTTP_VERSION_1_1;
    return CURL_HTTP_VERSION_2TLS;
}

bool fetch_upstream_is_plain_http1(const struct fetch_upstream *upstream)
{
    bool plain = !strncmp(upstream->origin, "http:", 5);

    return plain ? strncasecmp(upstream->proxy, "http", 4) != 0
                 : http_version(upstream->http) == CURL_HTTP_VERSION_1_1;
}

/* Sets the options that are the same for all requests on an upstream. */
static void set_upstream(struct transfer *t, const struct fetch_upstream *upstream)
{
    CURL *e = t->easy;

    curl_easy_reset(e);
    CURL *easy = t->easy;
    curl_easy_setopt(easy, CURLOPT_PRIVATE, t);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, t->errbuf);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, header_callback);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, t);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, write_callback);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, prereq_callback);
    curl_easy_setopt(easy, CURLOPT_PREREQDATA, t);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, fetch_open_socket);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, t);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, fetch_close_socket);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, t->u);
    /* The origin is parsed once. With a URL per request libcurl parses, formats and parses it
     * again, which is a tenth of the cost of a request. CURLOPT_REQUEST_TARGET then names the
     * target. Only an HTTP proxy in front of an http upstream needs the whole URL for each
     * request. */
    t->origin = upstream->origin;
    t->whole_url =
        !strncasecmp(upstream->proxy, "http", 4) && !strncmp(upstream->origin, "http:", 5);
    curl_url_cleanup(t->place);
    t->place = t->whole_url ? NULL : curl_url();
    if (t->place && curl_url_set(t->place, CURLUPART_URL, upstream->origin, 0) != CURLUE_OK) {
        curl_url_cleanup(t->place); /* with CURLOPT_URL libcurl reports the error */
        t->place = NULL;
    }
    curl_easy_setopt(t->easy, CURLOPT_CURLU, t->place);
    curl_easy_setopt(e, CURLOPT_SHARE, t->u->share);
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(e, CURLOPT_QUICK_EXIT, 1L); /* do not wait for a resolver that hangs */
    curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(e, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(e, CURLOPT_PROXY, upstream->proxy);
    curl_easy_setopt(e, CURLOPT_NOPROXY, "");
    curl_easy_setopt(e, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    curl_easy_setopt(e, CURLOPT_HTTP_VERSION, http_version(upstream->http));
    curl_easy_setopt(e, CURLOPT_HTTP_TRANSFER_DECODING, 1L);
    curl_easy_setopt(e, CURLOPT_MAXAGE_CONN, MAX_IDLE_MS / 1000L);
    curl_easy_setopt(e, CURLOPT_MAXLIFETIME_CONN,
                     (long)((upstream->connection_lifetime_ms + 999) / 1000));
    curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(e, CURLOPT_TCP_KEEPIDLE, KEEPALIVE_IDLE_SECONDS);
    curl_easy_setopt(e, CURLOPT_TCP_KEEPINTVL, KEEPALIVE_INTERVAL_SECONDS);
    fetch_transfer_set_trust(e, upstream);
    t->ca_file = fetch_ca_file(upstream->ca_file);
    if (upstream->unix_socket[0])
        curl_easy_setopt(e, CURLOPT_UNIX_SOCKET_PATH, upstream->unix_socket);
    if (http_version(upstream->http) != CURL_HTTP_VERSION_1_1) {
        curl_easy_setopt(e, CURLOPT_DEBUGFUNCTION, trace_callback);
        curl_easy_setopt(e, CURLOPT_DEBUGDATA, t);
        curl_easy_setopt(e, CURLOPT_VERBOSE, 1L);
    }
    if (fetch_upstream_is_plain_http1(upstream)) {
        curl_easy_setopt(e, CURLOPT_CONNECT_ONLY, 1L);
        /* 7.88 reads no more than this at once, and frees the buffer when the connection is
         * made. */
        curl_easy_setopt(e, CURLOPT_BUFFERSIZE, (long)CONNECTION_INPUT);
    }
    t->tls_proxy = !strncasecmp(upstream->proxy, "https:", 6);
    t->upstream_id = upstream->id;
}

static bool is_head(const struct fetch_request *r)
{
    return !strcmp(r->method, "HEAD");
}

/* Sets the method and the body. HEAD is sent without a body and without Content-Length, which
 * `headers` never contains. With a body libcurl would treat it as a POST and wait for a response
 * body. A body has no meaning in a HEAD request anyway (RFC 9110, 9.3.2). */
static void set_method(struct transfer *t, const struct fetch_request *r)
{
    CURL *e = t->easy;
    bool post = r->body_len > 0 || !strcmp(r->method, "POST") || !strcmp(r->method, "PUT") ||
                !strcmp(r->method, "PATCH");

    curl_easy_setopt(e, CURLOPT_HTTPGET, 1L); /* resets NOBODY and POST of an earlier use */
    curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, NULL);
    if (is_head(r)) {
        curl_easy_setopt(e, CURLOPT_NOBODY, 1L);
        return;
    }
    if (post) {
        curl_easy_setopt(e, CURLOPT_POST, 1L);
        set_body(t, r);
    }
    if (strcmp(r->method, post ? "POST" : "GET"))
        curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, r->method);
}

/* Sets the target with non-ASCII bytes of the path percent-encoded (RFC 3986, 2.1), as libcurl does
 * for a URL. Returns 0 or -ENOMEM. */
static int set_encoded_target(CURL *e, const char *target)
{
    char *encoded = malloc(3 * strlen(target) + 1), *to = encoded;
    bool path = true;

    if (!encoded)
        return -ENOMEM;
    for (const unsigned char *p = (const unsigned char *)target; *p; p++) {
        path = path && *p != '?';
        if (path && *p > 0x7e)
            to += snprintf(to, 4, "%%%02x", *p);
        else
            *to++ = (char)*p;
    }
    *to = '\0';
    CURLcode rc = curl_easy_setopt(e, CURLOPT_REQUEST_TARGET, encoded);
    free(encoded);
    return rc == CURLE_OK ? 0 : -ENOMEM;
}

static bool is_ascii(const char *s)
{
    unsigned char all = 0;

    while (*s)
        all |= (unsigned char)*s++;
    return all < 0x80;
}

/* Sets the target of the request. libcurl 8 drops the question mark of an empty query from a URL,
 * so such a URL is set as the target, too. */
static int set_target(struct transfer *t, const struct fetch_request *r)
{
    size_t n = strlen(r->target), size = strlen(r->upstream->origin) + n + 1;
    bool empty_query = n > 0 && r->target[n - 1] == '?';
    const char *target = t->whole_url ? NULL : r->target;
    CURLcode rc = CURLE_OK;

    if (target && t->place && !is_ascii(target))
        return set_encoded_target(t->easy, target);
    if (!t->place) {
        t->url = malloc(size);
        if (!t->url)
            return -ENOMEM;
        snprintf(t->url, size, "%s%s", r->upstream->origin, r->target);
        if (t->whole_url && empty_query)
            target = t->url;
        rc = curl_easy_setopt(t->easy, CURLOPT_URL, t->url);
    }
    if (rc == CURLE_OK)
        rc = curl_easy_setopt(t->easy, CURLOPT_REQUEST_TARGET, target);
    return rc == CURLE_OK ? 0 : -ENOMEM;
}

static void prepare_connecting(struct transfer *t, const struct fetch_request *r)
{
    CURL *e = t->easy;

    curl_easy_setopt(e, CURLOPT_DNS_CACHE_TIMEOUT, t->a->anew ? 0L : DNS_CACHE_SECONDS);
    /* 0 would select libcurl's default of 300 s. */
    curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS,
                     r->connect_timeout_ms ? (long)r->connect_timeout_ms : 24L * 3600 * 1000);
}

int fetch_transfer_prepare(struct transfer *t, const struct fetch_request *r)
{
    t->upstream = r->upstream;
    t->sends = 0;
    t->refused = false;
    t->response_len = UINT64_MAX;
    t->early = false;
    t->veto = VETO_NONE;
    t->socket = (struct socket_ref){.serial = 0};
    t->broke = NULL;
    t->large_headers = false;
    t->upload_paused = false;
    t->read_failed = 0;
    t->errbuf[0] = '\0';
    t->body_len = is_head(r) ? 0 : r->body_len;
    if (t->upstream_id != r->upstream->id)
        set_upstream(t, r->upstream);
    prepare_connecting(t, r);
    if (t->http1)
        return 0;
    t->headers = make_list(r->headers);
    if (!t->headers)
        return -ENOMEM;
    set_method(t, r);
    curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, t->headers);
    /* Sets which connections may be used, and resets what an earlier request on the handle has
     * set. */
    CURL *e = t->easy;
    curl_easy_setopt(e, CURLOPT_FRESH_CONNECT, t->a->fresh || t->a->anew ? 1L : 0L);
    curl_easy_setopt(e, CURLOPT_FORBID_REUSE, 0L);
    return set_target(t, r);
}

/* --- the result ------------------------------------------------------------------------------- */

bool fetch_transfer_upload_whole(const struct transfer *t)
{
    curl_off_t sent = 0;

    curl_easy_getinfo(t->easy, CURLINFO_SIZE_UPLOAD_T, &sent);
    return t->sends > 0 && (uint64_t)sent >= t->body_len;
}
