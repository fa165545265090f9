/* One transfer: what libcurl is told of a request, and what it tells of the answer. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "edge/fetch_private.h"

#define MAX_IDLE_SECONDS 60L /* kept connections; the upstream's close is seen anyway */
/* A silent answer may take ten minutes: its connection is asked whether it is still there, which keeps
 * NATs awake, too. One that does not say so four times in a row is lost (PATH_TIMEOUT_MS). */
#define KEEPALIVE_IDLE_SECONDS 10L
#define KEEPALIVE_INTERVAL_SECONDS 3L
#define PATH_TIMEOUT_MS 20000u /* what was sent, and not acknowledged for so long, is lost */
/* A request that is larger may fill its server's buffers. One that reads on after half a minute is
 * slow, and Linux counts that like silence. */
#define PATH_TIMEOUT_LARGE_MS 60000u
#define PATH_LARGE_BODY ((uint64_t)48 << 10)
#define DNS_CACHE_SECONDS 60L
#define HTTP2_FIT 0x080400 /* older ones lose requests on GOAWAY and REFUSED_STREAM */

/* --- what libcurl tells of a transfer ------------------------------------------------------------ */

static size_t stop(struct transfer *t, const char *why)
{
    t->broke = why;
    return 0;
}

static void take_status_line(struct attempt *a, struct str line)
{
    struct str rest = line, version, code;
    uint64_t status = 0;

    /* Each block starts anew: 1xx heads come before the final one. */
    headers_reset(&a->headers);
    a->status = 0;
    if (str_next(&rest, ' ', &version) && str_next(&rest, ' ', &code) && str_to_u64(code, &status))
        a->status = (unsigned)status;
}

/* --- answers that come before the request has gone ------------------------------------------------ */

bool fetch_transfer_is_uploading(const struct transfer *t)
{
    return t->body_len > 0 && t->sends > 0 && !fetch_transfer_upload_whole(t);
}

void fetch_transfer_early(struct transfer *t)
{
    t->early = t->u->early = true;
    t->u->wake(t->u->arg);
}

static uint64_t response_length(const struct attempt *a)
{
    struct str v;
    uint64_t n;

    if (a->status == 204 || a->status == 304)
        return 0;
    return headers_get(&a->headers, STR("content-length"), &v) && str_to_u64(v, &n) ? n
                                                                                    : UINT64_MAX;
}

/* libcurl would go on sending, and wait for ever where nobody reads that any more. Of what has failed
 * it gives the rest up by itself. */
static void look_for_end(struct transfer *t)
{
    if (t->a->received >= t->response_len && fetch_transfer_is_uploading(t))
        fetch_transfer_early(t);
}

/* 100 and 101 speak of this hop alone. */
static void keep_interim(struct attempt *a)
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
    if (out->failed) { /* whole ones only */
        out->len = before;
        out->failed = false;
    }
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
        take_status_line(a, str_trim(line));
        return n;
    }
    line = str_trim(line);
    if (line.n == 0) {
        if (a->status == 101) /* what follows would be another protocol */
            return stop(t, "the upstream switched protocols (status 101), which nobody asked for");
        if (a->status < 200) {
            keep_interim(a);
            t->notify(t->arg);
        }
        if (a->status >= 500) /* one that others are on as well, libcurl leaves to them */
            curl_easy_setopt(t->easy, CURLOPT_FORBID_REUSE, 1L);
        if (a->status >= 200) {
            a->headers_done = true;
            t->response_len = response_length(a);
            a->last_piece_ms = uv_now(t->u->sockets.loop);
            t->notify(t->arg);
            look_for_end(t);
        }
        return n;
    }
    colon = memchr(line.p, ':', line.n);
    if (!colon)
        return n;
    rc = headers_add(&a->headers, str_trim((struct str){line.p, (size_t)(colon - line.p)}),
                     str_trim((struct str){colon + 1, line.n - (size_t)(colon - line.p) - 1}));
    t->large_headers = rc == -E2BIG;
    if (rc < 0)
        return stop(t, t->large_headers ? "the head of the answer is too large" : "out of memory");
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

bool fetch_transfer_veto_resend(struct transfer *t)
{
    if (t->sends == 0)
        return false;
    if (t->veto == VETO_NONE)
        t->u->stats.resend_vetoed += !t->refused;
    t->veto = t->refused ? VETO_REFUSED : VETO_RESEND;
    return true;
}

/* Runs before each send of a request. The first one is ours; a second one is libcurl repeating it
 * on its own, which only our policy may decide. */
static int prereq_callback(void *arg, char *primary_ip, char *local_ip, int primary_port,
                           int local_port)
{
    struct transfer *t = arg;
    struct fetch *u = t->u;
    struct fetch_socket *s =
        fetch_socket_by_ends(&u->sockets, local_ip, local_port, primary_ip, primary_port);

    if (fetch_transfer_veto_resend(t))
        return CURL_PREREQFUNC_ABORT;
    if (s ? fetch_socket_dirty(s) : local_port == 0 && fetch_sockets_any_dirty(&u->sockets)) {
        t->veto = VETO_STALE;
        u->stats.stale++;
        if (s && !s->discarded)
            fetch_socket_discard(s);
        return CURL_PREREQFUNC_ABORT;
    }
    if (s && s->uses > 0)
        u->stats.reused++;
    if (s) {
        t->socket = fetch_socket_begin(s);
        fetch_socket_bound_silence(s, t->body_len > PATH_LARGE_BODY ? PATH_TIMEOUT_LARGE_MS
                                                                    : PATH_TIMEOUT_MS);
    }
    t->sends++;
    return CURL_PREREQFUNC_OK;
}

/* Only libcurl's trace of HTTP/2 tells that a server refused a stream (RST_STREAM with REFUSED_STREAM,
 * or a GOAWAY that leaves it out; RFC 9113, 8.7), which says that nothing of it was processed. A
 * version that words it otherwise makes such an attempt an ambiguous one. Only libcurl writes what
 * stands before the words, so no server can feign them. */
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
#if LIBCURL_VERSION_NUM >= HTTP2_FIT
    curl_global_trace("-all,http/2");
#endif
}

/* --- starting ------------------------------------------------------------------------------------- */

/* libcurl adds these of its own unless it is told not to. An entry without a value only says so. */
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

/* All fields as one text, the way they go over the wire. */
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

/* A curl_slist in one block: libcurl only reads it. It writes an entry out as it stands, line ends
 * too, and formatting each field on its own cost a tenth of its time: so all fields are one entry.
 * No value holds a line end of its own (frontend_check, and the configuration's checks). Only
 * leading fields without a value need their own entry, in libcurl's form for that. NULL when out of
 * memory. */
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

    if (wanted != FETCH_HTTP_2 || v->version_num < HTTP2_FIT)
        return CURL_HTTP_VERSION_1_1;
    return CURL_HTTP_VERSION_2TLS;
}

static void set_callbacks(struct transfer *t)
{
    CURL *e = t->easy;

    curl_easy_setopt(e, CURLOPT_PRIVATE, t);
    curl_easy_setopt(e, CURLOPT_ERRORBUFFER, t->errbuf);
    curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, header_callback);
    curl_easy_setopt(e, CURLOPT_HEADERDATA, t);
    curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, write_callback);
    curl_easy_setopt(e, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(e, CURLOPT_PREREQFUNCTION, prereq_callback);
    curl_easy_setopt(e, CURLOPT_PREREQDATA, t);
    curl_easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, fetch_open_socket);
    curl_easy_setopt(e, CURLOPT_OPENSOCKETDATA, t);
    curl_easy_setopt(e, CURLOPT_CLOSESOCKETFUNCTION, fetch_close_socket);
    curl_easy_setopt(e, CURLOPT_CLOSESOCKETDATA, t->u);
}

/* The origin is taken apart once: with a URL for each request libcurl parses it, writes it anew and
 * parses it again, a tenth of all that a request costs. What is asked for there is CURLOPT_REQUEST_TARGET.
 * Only a proxy that is asked for pages of an http upstream wants the whole URL, request by request. */
static void set_place(struct transfer *t, const struct fetch_link *l)
{
    t->origin = l->origin;
    t->whole_url = !strncasecmp(l->proxy, "http", 4) && !strncmp(l->origin, "http:", 5);
    curl_url_cleanup(t->place);
    t->place = t->whole_url ? NULL : curl_url();
    if (t->place && curl_url_set(t->place, CURLUPART_URL, l->origin, 0) != CURLUE_OK) {
        curl_url_cleanup(t->place); /* CURLOPT_URL has it told why */
        t->place = NULL;
    }
    curl_easy_setopt(t->easy, CURLOPT_CURLU, t->place);
}

/* What is the same for every request on a link. */
static void set_link(struct transfer *t, const struct fetch_link *l)
{
    CURL *e = t->easy;

    curl_easy_reset(e);
    set_callbacks(t);
    set_place(t, l);
    curl_easy_setopt(e, CURLOPT_SHARE, t->u->share);
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(e, CURLOPT_QUICK_EXIT, 1L); /* never wait for a hung resolver */
    curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(e, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(e, CURLOPT_PROXY, l->proxy);
    curl_easy_setopt(e, CURLOPT_NOPROXY, "");
    curl_easy_setopt(e, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    curl_easy_setopt(e, CURLOPT_HTTP_VERSION, http_version(l->http));
    curl_easy_setopt(e, CURLOPT_HTTP_TRANSFER_DECODING, 1L);
    curl_easy_setopt(e, CURLOPT_MAXAGE_CONN, MAX_IDLE_SECONDS);
    curl_easy_setopt(e, CURLOPT_MAXLIFETIME_CONN, (long)((l->connection_lifetime_ms + 999) / 1000));
    curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(e, CURLOPT_TCP_KEEPIDLE, KEEPALIVE_IDLE_SECONDS);
    curl_easy_setopt(e, CURLOPT_TCP_KEEPINTVL, KEEPALIVE_INTERVAL_SECONDS);
    fetch_transfer_set_trust(e, l);
    t->ca_file = fetch_ca_file(l->ca_file);
    if (l->unix_socket[0])
        curl_easy_setopt(e, CURLOPT_UNIX_SOCKET_PATH, l->unix_socket);
    if (http_version(l->http) != CURL_HTTP_VERSION_1_1) {
        curl_easy_setopt(e, CURLOPT_DEBUGFUNCTION, trace_callback);
        curl_easy_setopt(e, CURLOPT_DEBUGDATA, t);
        curl_easy_setopt(e, CURLOPT_VERBOSE, 1L);
    }
    t->tls_proxy = !strncasecmp(l->proxy, "https:", 6);
    t->link_id = l->id;
}

static bool is_head(const struct fetch_request *r)
{
    return !strcmp(r->method, "HEAD");
}

/* HEAD goes out without its body, and so without a Content-Length (headers never has one): with a
 * body libcurl would take it for a POST by another name, and wait for the body of an answer that
 * has none. Nothing is lost: a body has no meaning there (RFC 9110, 9.3.2). */
static void set_method(struct transfer *t, const struct fetch_request *r)
{
    CURL *e = t->easy;
    bool post = r->body_len > 0 || !strcmp(r->method, "POST") || !strcmp(r->method, "PUT") ||
                !strcmp(r->method, "PATCH");

    curl_easy_setopt(e, CURLOPT_HTTPGET, 1L); /* undoes NOBODY and POST of an earlier use */
    curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, NULL);
    if (is_head(r)) {
        curl_easy_setopt(e, CURLOPT_NOBODY, 1L);
        return;
    }
    if (post) {
        curl_easy_setopt(e, CURLOPT_POST, 1L);
        fetch_transfer_set_body(t, r);
    }
    if (strcmp(r->method, post ? "POST" : "GET"))
        curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, r->method);
}

/* As libcurl writes a URL: bytes beyond ASCII have no place in its path but percent-encoded (RFC 3986 2.1).
 * Sets the target; -ENOMEM. */
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

/* libcurl 8 drops the question mark of an empty query from a URL: such a one is its own target. */
static int set_target(struct transfer *t, const struct fetch_request *r)
{
    size_t n = strlen(r->target), size = strlen(r->link->origin) + n + 1;
    bool empty_query = n > 0 && r->target[n - 1] == '?';
    const char *target = t->whole_url ? NULL : r->target;
    CURLcode rc = CURLE_OK;

    if (target && t->place && !is_ascii(target))
        return set_encoded_target(t->easy, target);
    if (!t->place) {
        t->url = malloc(size);
        if (!t->url)
            return -ENOMEM;
        snprintf(t->url, size, "%s%s", r->link->origin, r->target);
        if (t->whole_url && empty_query)
            target = t->url;
        rc = curl_easy_setopt(t->easy, CURLOPT_URL, t->url);
    }
    if (rc == CURLE_OK)
        rc = curl_easy_setopt(t->easy, CURLOPT_REQUEST_TARGET, target);
    return rc == CURLE_OK ? 0 : -ENOMEM;
}

/* Which connection it may take, and what becomes of that: the handle has served others. */
static void set_connection(struct transfer *t)
{
    CURL *e = t->easy;

    curl_easy_setopt(e, CURLOPT_FRESH_CONNECT, t->a->fresh || t->a->anew ? 1L : 0L);
    curl_easy_setopt(e, CURLOPT_DNS_CACHE_TIMEOUT, t->a->anew ? 0L : DNS_CACHE_SECONDS);
    curl_easy_setopt(e, CURLOPT_FORBID_REUSE, 0L);
}

int fetch_transfer_prepare(struct transfer *t, const struct fetch_request *r)
{
    t->link = r->link;
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
    t->headers = make_list(r->headers);
    if (!t->headers)
        return -ENOMEM;
    if (t->link_id != r->link->id)
        set_link(t, r->link);
    set_method(t, r);
    curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, t->headers);
    set_connection(t);
    /* 0 would mean libcurl's default of 300 s. */
    curl_easy_setopt(t->easy, CURLOPT_CONNECTTIMEOUT_MS,
                     r->connect_timeout_ms ? (long)r->connect_timeout_ms : 24L * 3600 * 1000);
    return set_target(t, r);
}

/* --- how it ended ---------------------------------------------------------------------- */

bool fetch_transfer_upload_whole(const struct transfer *t)
{
    curl_off_t sent = 0;

    curl_easy_getinfo(t->easy, CURLINFO_SIZE_UPLOAD_T, &sent);
    return t->sends > 0 && (uint64_t)sent >= t->body_len;
}

/* Whether the server's certificate was refused. What failed in the end may have been to tell the server
 * so. 1 stands for a check that was not made. */
static bool is_certificate_refused(const struct transfer *t, CURLcode rc)
{
    long verified = 0;

    if (rc == CURLE_PEER_FAILED_VERIFICATION)
        return true;
    if (rc == CURLE_OK || t->sends > 0)
        return false;
    curl_easy_getinfo(t->easy, CURLINFO_SSL_VERIFYRESULT, &verified);
    return verified > 1;
}

/* Nothing was sent: what kept it from being? */
static enum transport failed_before_send(const struct transfer *t, CURLcode rc)
{
    if (is_certificate_refused(t, rc))
        return TRANSPORT_CERTIFICATE;
    switch (rc) {
    case CURLE_COULDNT_RESOLVE_HOST:
        return TRANSPORT_DNS;
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_PROXY:
    case CURLE_RECV_ERROR: /* the proxy refused the tunnel */
        return TRANSPORT_PROXY;
    case CURLE_OPERATION_TIMEDOUT:
        return TRANSPORT_CONNECT_TIMEOUT;
    case CURLE_SSL_CONNECT_ERROR:
        return TRANSPORT_TLS;
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
        return TRANSPORT_CERTIFICATE;
    case CURLE_OUT_OF_MEMORY:
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
        return TRANSPORT_INTERNAL;
    default:
        return TRANSPORT_CONNECT;
    }
}

/* libcurl holds a line of the head to 100 KiB. Before 8.6 it calls a longer one lack of memory, which
 * is far less likely to come just there. */
static bool is_line_too_large(const struct transfer *t, CURLcode rc)
{
    if (t->sends == 0 || t->a->headers_done)
        return false;
#if LIBCURL_VERSION_NUM >= 0x080600
    return rc == CURLE_TOO_LARGE;
#else
    return rc == CURLE_OUT_OF_MEMORY;
#endif
}

static enum transport failed_after_send(const struct transfer *t, CURLcode rc)
{
    /* An error may have a smaller one next time, and costs nothing; and before a status line that is too
     * long there is no status: what came is no HTTP, and asked again like all that is none. */
    if (t->large_headers || is_line_too_large(t, rc))
        return t->a->status >= 200 && t->a->status < 400 ? TRANSPORT_LARGE_HEADERS
                                                         : TRANSPORT_BAD_RESPONSE;
    switch (rc) {
    case CURLE_PARTIAL_FILE:
        return TRANSPORT_TRUNCATED;
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_WEIRD_SERVER_REPLY:
        return TRANSPORT_BAD_RESPONSE;
    case CURLE_OUT_OF_MEMORY:
        return TRANSPORT_INTERNAL;
    case CURLE_COULDNT_RESOLVE_HOST: /* on its way to send it once more, which counts its bytes anew */
    case CURLE_COULDNT_RESOLVE_PROXY:
        return t->a->headers_done ? TRANSPORT_TRUNCATED : TRANSPORT_LOST;
    case CURLE_WRITE_ERROR:
        return t->a->headers_done ? TRANSPORT_INTERNAL : TRANSPORT_BAD_RESPONSE;
    default:
        if (t->a->headers_done)
            return TRANSPORT_TRUNCATED;
        return t->a->upload_whole ? TRANSPORT_LOST : TRANSPORT_LOST_UPLOAD;
    }
}

static enum transport transport_of(const struct transfer *t, CURLcode rc)
{
    if (rc == CURLE_OK)
        return t->a->headers_done ? TRANSPORT_WHOLE : TRANSPORT_BAD_RESPONSE;
    if (t->veto == VETO_STALE || (t->refused && !t->a->headers_done))
        return TRANSPORT_STALE;
    if (t->veto == VETO_RESEND)
        return TRANSPORT_LOST;
    if (t->read_failed)
        return TRANSPORT_INTERNAL;
    return t->sends == 0 ? failed_before_send(t, rc) : failed_after_send(t, rc);
}

/* Whose certificate was looked at: that of a proxy with TLS, until it has opened the tunnel. */
static struct str certificate_owner(const struct transfer *t)
{
    const char *host = t->origin + strlen("https://");
    long tunnel = 0;

    curl_easy_getinfo(t->easy, CURLINFO_HTTP_CONNECTCODE, &tunnel);
    if (t->tls_proxy && tunnel == 0)
        return STR("the proxy");
    return (struct str){host, *host == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":/")};
}

/* OpenSSL's numbers (X509_V_ERR_...), in its words. */
static const char *words_of(long verified)
{
    switch (verified) {
    case 9:
        return "certificate is not yet valid";
    case 10:
        return "certificate has expired";
    case 18:
        return "self-signed certificate";
    case 19:
        return "self-signed certificate in certificate chain";
    case 2:
    case 20:
        return "unable to get local issuer certificate";
    case 21:
        return "unable to verify the first certificate";
    case 23:
        return "certificate revoked";
    default:
        return "the certificate was refused";
    }
}

/* libcurl tells only of what failed last where its word to the server did not get through. */
static const char *why_refused(const struct transfer *t, const char *what)
{
    long verified = 0;

    curl_easy_getinfo(t->easy, CURLINFO_SSL_VERIFYRESULT, &verified);
    if (verified <= 1 || str_starts(str_from(what), STR("SSL")))
        return what;
    return words_of(verified);
}

static void describe_certificate(struct transfer *t, const char *what)
{
    struct str owner = certificate_owner(t);
    int n = snprintf(t->a->detail, sizeof(t->a->detail),
                     "the certificate of %.*s does not verify: %s", (int)owner.n, owner.p, what);

    if (n >= (int)sizeof(t->a->detail)) /* both may name a long host */
        memcpy(t->a->detail + sizeof(t->a->detail) - 4, "...", 4);
}

static void describe(struct transfer *t, CURLcode rc)
{
    const char *what = t->errbuf[0] ? t->errbuf : curl_easy_strerror(rc);

    if (rc == CURLE_OK && t->a->headers_done)
        return;
    if (t->broke)
        what = t->broke;
    else if (t->refused)
        what = "the server refused the stream, and has not processed it";
    else if (t->veto == VETO_STALE)
        what = "a kept connection was closed or dirty";
    else if (t->veto == VETO_RESEND)
        what = "the connection was lost before any answer";
    else if (is_line_too_large(t, rc))
        what = "a line in the head of the answer is too large";
    else if (rc == CURLE_OK)
        what = "the answer ended before its head did";
    if (rc == CURLE_SSL_CACERT_BADFILE)
        snprintf(t->a->detail, sizeof(t->a->detail), "no certificates could be read from %s",
                 t->ca_file);
    else if (!t->broke && is_certificate_refused(t, rc))
        describe_certificate(t, why_refused(t, what));
    else
        snprintf(t->a->detail, sizeof(t->a->detail), "%s", what);
}

void fetch_transfer_outcome(struct transfer *t, CURLcode rc)
{
    t->a->upload_whole = fetch_transfer_upload_whole(t);
    t->a->transport = transport_of(t, rc);
    describe(t, rc);
}
