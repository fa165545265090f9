/* Drives libcurl: easy handles for attempts, one multi handle on the loop. */
#include "edge/upstream.h"

#include <assert.h>
#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/list.h"
#include "edge/upstream_socket.h"

#define TRANSFER_MAGIC 0x74726e73u
#define MAX_IDLE_CONNECTIONS 1024L /* per worker */
#define MAX_IDLE_SECONDS 60L       /* kept connections; the upstream's close is seen anyway */
#define KEEP_HANDLES 256           /* easy handles kept for re-use */
#define KEEPALIVE_IDLE_SECONDS 30L /* a silent answer may take ten minutes: keep NATs awake */
#define KEEPALIVE_INTERVAL_SECONDS 15L
#define HTTP2_FIT 0x080400 /* older ones lose requests on GOAWAY and REFUSED_STREAM */
#define DEFAULT_CA_FILE "/etc/ssl/certs/ca-certificates.crt"

enum veto { VETO_NONE, VETO_STALE, VETO_RESEND };

struct upstream {
    CURLM *multi;
    CURLSH *share;
    uv_timer_t timer;
    bool timer_due;
    struct socket_table sockets;
    struct list free; /* transfers with a configured easy handle */
    unsigned free_count;
    struct upstream_stats stats;
    void (*wake)(void *arg);
    void *arg;
    unsigned closing;
};

struct transfer {
    unsigned magic;
    struct list node;
    struct upstream *u;
    CURL *easy;
    uint64_t link_id; /* what `easy` is set up for; 0: nothing */
    struct attempt *a;
    void (*notify)(void *arg);
    void *arg;
    struct curl_slist *headers; /* one block: nodes, then text */
    char *url;
    size_t body_len;
    unsigned sends;
    enum veto veto;
    struct socket_ref socket; /* the connection it was sent on */
    const char *broke;        /* why a callback stopped it */
    char errbuf[CURL_ERROR_SIZE];
};

int upstream_global_init(void)
{
    /* libcurl's TLS library would write session keys there. */
    unsetenv("SSLKEYLOGFILE");
    return curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ? 0 : -ENOMEM;
}

void upstream_global_deinit(void)
{
    curl_global_cleanup();
}

const char *upstream_version(void)
{
    return curl_version();
}

/* --- the multi handle and the loop -------------------------------------------------------------- */

static void on_timer(uv_timer_t *timer)
{
    struct upstream *u = timer->data;

    u->timer_due = true;
    u->wake(u->arg);
}

/* Only notes: libcurl may call this from within its own calls. */
static int timer_callback(CURLM *multi, long timeout_ms, void *arg)
{
    struct upstream *u = arg;

    (void)multi;
    if (timeout_ms < 0) {
        uv_timer_stop(&u->timer);
        u->timer_due = false;
    } else if (timeout_ms == 0) {
        u->timer_due = true;
        u->wake(u->arg);
    } else {
        uv_timer_start(&u->timer, on_timer, (uint64_t)timeout_ms, 0);
    }
    return 0;
}

/* A Unix socket has no port to be known by; after its request has gone out this tells. */
static void note_socket(CURL *easy, struct upstream_socket *s)
{
    struct transfer *t = NULL;

    curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&t);
    if (t && t->sends > 0 && t->socket.serial == 0 && s->opened_here)
        t->socket = socket_begin(s);
}

static int socket_callback(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket)
{
    struct upstream *u = arg;
    struct upstream_socket *s = socket;
    int events = 0;

    if (!s) {
        s = socket_of(&u->sockets, fd);
        if (!s)
            return what == CURL_POLL_REMOVE ? 0 : -1;
        curl_multi_assign(u->multi, fd, what == CURL_POLL_REMOVE ? NULL : s);
    } else if (what == CURL_POLL_REMOVE) {
        curl_multi_assign(u->multi, fd, NULL);
    }
    note_socket(easy, s);
    if (what == CURL_POLL_IN || what == CURL_POLL_INOUT)
        events |= UV_READABLE;
    if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT)
        events |= UV_WRITABLE;
    return socket_want(s, events);
}

static void on_ready(void *arg, int fd, int events, bool error)
{
    struct upstream *u = arg;
    int running, flags = 0;

    if (events & UV_READABLE)
        flags |= CURL_CSELECT_IN;
    if (events & UV_WRITABLE)
        flags |= CURL_CSELECT_OUT;
    /* With the error alone libcurl would not look for the cause, nor for what came before it. */
    if (error)
        flags |= CURL_CSELECT_ERR | CURL_CSELECT_IN | CURL_CSELECT_OUT;
    curl_multi_socket_action(u->multi, fd, flags, &running);
    u->wake(u->arg);
}

static void on_idle_noise(void *arg)
{
    struct upstream *u = arg;

    u->stats.stale++;
}

static curl_socket_t open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct upstream *u = arg;
    int fd = socket(address->family, address->socktype | SOCK_CLOEXEC | SOCK_NONBLOCK,
                    address->protocol);

    (void)purpose;
    if (fd < 0)
        return CURL_SOCKET_BAD;
    if (socket_add(&u->sockets, fd) < 0) {
        socket_close_fd(fd);
        errno = ENOMEM;
        return CURL_SOCKET_BAD;
    }
    u->stats.connections++;
    return fd;
}

static int close_socket(void *arg, curl_socket_t fd)
{
    struct upstream *u = arg;

    socket_remove(&u->sockets, fd);
    socket_close_fd(fd);
    return 0;
}

static int set_up_multi(struct upstream *u)
{
    u->multi = curl_multi_init();
    u->share = curl_share_init();
    if (!u->multi || !u->share)
        return -ENOMEM;
    curl_multi_setopt(u->multi, CURLMOPT_SOCKETFUNCTION, socket_callback);
    curl_multi_setopt(u->multi, CURLMOPT_SOCKETDATA, u);
    curl_multi_setopt(u->multi, CURLMOPT_TIMERFUNCTION, timer_callback);
    curl_multi_setopt(u->multi, CURLMOPT_TIMERDATA, u);
    curl_multi_setopt(u->multi, CURLMOPT_MAXCONNECTS, MAX_IDLE_CONNECTIONS);
    curl_multi_setopt(u->multi, CURLMOPT_PIPELINING, CURLPIPE_MULTIPLEX);
    /* The sessions of 7.88 live in each easy handle unless they are shared. One thread: no locks. */
    curl_share_setopt(u->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
    return 0;
}

struct upstream *upstream_new(uv_loop_t *loop, void (*wake)(void *arg), void *arg)
{
    struct upstream *u = calloc(1, sizeof(*u));

    if (!u)
        return NULL;
    u->wake = wake;
    u->arg = arg;
    list_init(&u->free);
    sockets_init(&u->sockets, loop, on_ready, on_idle_noise, u);
    if (set_up_multi(u) < 0) {
        if (u->multi)
            curl_multi_cleanup(u->multi);
        if (u->share)
            curl_share_cleanup(u->share);
        free(u);
        return NULL;
    }
    uv_timer_init(loop, &u->timer);
    u->timer.data = u;
    return u;
}

static void free_transfer(struct transfer *t)
{
    curl_easy_cleanup(t->easy);
    free(t->headers);
    free(t->url);
    free(t);
}

static void on_timer_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void upstream_close(struct upstream *u)
{
    struct list *node;

    while ((node = list_pop(&u->free)))
        free_transfer(LIST_ENTRY(node, struct transfer, node));
    curl_multi_cleanup(u->multi);
    curl_share_cleanup(u->share);
    sockets_deinit(&u->sockets);
    uv_close((uv_handle_t *)&u->timer, on_timer_closed);
}

void upstream_stats(const struct upstream *u, struct upstream_stats *ret)
{
    *ret = u->stats;
}

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

static size_t header_callback(char *data, size_t size, size_t count, void *arg)
{
    struct transfer *t = arg;
    struct attempt *a = t->a;
    size_t n = size * count;
    struct str line = {data, n};
    const char *colon;

    if (a->head_done) /* trailers */
        return n;
    if (str_starts(line, STR("HTTP/"))) {
        take_status_line(a, str_trim(line));
        return n;
    }
    line = str_trim(line);
    if (line.n == 0) {
        if (a->status >= 200) {
            a->head_done = true;
            a->last_piece_ms = uv_now(t->u->sockets.loop);
            t->notify(t->arg);
        }
        return n;
    }
    colon = memchr(line.p, ':', line.n);
    if (!colon)
        return n;
    if (headers_add(&a->headers, str_trim((struct str){line.p, (size_t)(colon - line.p)}),
                    str_trim((struct str){colon + 1, line.n - (size_t)(colon - line.p) - 1})) < 0)
        return stop(t, "the head of the answer is too large");
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
    return n;
}

/* Runs before each send of a request. The first one is ours; a second one is libcurl repeating it
 * on its own, which only our policy may decide. */
static int prereq_callback(void *arg, char *primary_ip, char *local_ip, int primary_port,
                           int local_port)
{
    struct transfer *t = arg;
    struct upstream *u = t->u;
    struct upstream_socket *s = socket_by_port(&u->sockets, local_port);

    (void)primary_ip;
    (void)local_ip;
    (void)primary_port;
    if (t->sends > 0) {
        t->veto = VETO_RESEND;
        u->stats.resend_vetoed++;
        return CURL_PREREQFUNC_ABORT;
    }
    if (s ? socket_dirty(s) : local_port == 0 && sockets_any_dirty(&u->sockets)) {
        t->veto = VETO_STALE;
        u->stats.stale++;
        if (s && !s->discarded)
            socket_discard(s);
        return CURL_PREREQFUNC_ABORT;
    }
    if (s && s->uses > 0)
        u->stats.reused++;
    if (s)
        t->socket = socket_begin(s);
    t->sends++;
    return CURL_PREREQFUNC_OK;
}

/* --- starting ------------------------------------------------------------------------------------- */

static size_t header_bytes(const struct headers *h)
{
    size_t n = 0;

    for (unsigned i = 0; i < h->count; i++)
        n += headers_name(h, i).n + headers_value(h, i).n + sizeof(": ");
    return n;
}

/* libcurl adds these of its own unless it is told not to. */
static const char *const unwanted[] = {"Expect:", "Accept:", "Content-Type:", "User-Agent:"};
#define UNWANTED_COUNT (sizeof(unwanted) / sizeof(unwanted[0]))

static char *write_header(char *to, struct str name, struct str value)
{
    memcpy(to, name.p, name.n);
    to += name.n;
    if (value.n == 0) {
        *to++ = ';'; /* libcurl's way to send an empty value */
    } else {
        *to++ = ':';
        *to++ = ' ';
        memcpy(to, value.p, value.n);
        to += value.n;
    }
    *to++ = '\0';
    return to;
}

static bool lists(const struct headers *h, const char *unwanted_line)
{
    return headers_get(h, (struct str){unwanted_line, strlen(unwanted_line) - 1}, NULL);
}

/* A curl_slist in one block: libcurl only reads it. NULL when out of memory. */
static struct curl_slist *make_list(const struct headers *h)
{
    size_t n = h->count + UNWANTED_COUNT, used = 0;
    struct curl_slist *list = malloc(n * sizeof(*list) + header_bytes(h));
    char *text = (char *)(list + n);

    if (!list)
        return NULL;
    for (size_t i = 0; i < UNWANTED_COUNT; i++)
        if (!lists(h, unwanted[i]))
            list[used++].data = (char *)(uintptr_t)unwanted[i];
    for (unsigned i = 0; i < h->count; i++) {
        list[used++].data = text;
        text = write_header(text, headers_name(h, i), headers_value(h, i));
    }
    for (size_t i = 0; i + 1 < used; i++)
        list[i].next = &list[i + 1];
    list[used - 1].next = NULL;
    return list;
}

static long http_version(enum upstream_http wanted)
{
    const curl_version_info_data *v = curl_version_info(CURLVERSION_NOW);

    if (wanted == UPSTREAM_HTTP_1_1 || v->version_num < HTTP2_FIT)
        return CURL_HTTP_VERSION_1_1;
    return CURL_HTTP_VERSION_2TLS;
}

static const char *ca_file(const struct upstream_link *l)
{
    const curl_version_info_data *v = curl_version_info(CURLVERSION_NOW);

    if (l->ca_file[0])
        return l->ca_file;
    return v->cainfo && v->cainfo[0] ? v->cainfo : DEFAULT_CA_FILE;
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
    curl_easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(e, CURLOPT_OPENSOCKETDATA, t->u);
    curl_easy_setopt(e, CURLOPT_CLOSESOCKETFUNCTION, close_socket);
    curl_easy_setopt(e, CURLOPT_CLOSESOCKETDATA, t->u);
}

/* What is the same for every request on a link. */
static void set_link(struct transfer *t, const struct upstream_link *l)
{
    CURL *e = t->easy;

    curl_easy_reset(e);
    set_callbacks(t);
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
    curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(e, CURLOPT_TCP_KEEPIDLE, KEEPALIVE_IDLE_SECONDS);
    curl_easy_setopt(e, CURLOPT_TCP_KEEPINTVL, KEEPALIVE_INTERVAL_SECONDS);
    /* With a CApath, libcurl parses all certificates again for every connection. */
    curl_easy_setopt(e, CURLOPT_CAPATH, NULL);
    curl_easy_setopt(e, CURLOPT_CAINFO, ca_file(l));
    if (l->unix_socket[0])
        curl_easy_setopt(e, CURLOPT_UNIX_SOCKET_PATH, l->unix_socket);
    t->link_id = l->id;
}

static void set_method(CURL *e, const struct upstream_request *r)
{
    bool post = r->body_len > 0 || !strcmp(r->method, "POST") || !strcmp(r->method, "PUT") ||
                !strcmp(r->method, "PATCH");

    curl_easy_setopt(e, CURLOPT_HTTPGET, 1L); /* undoes NOBODY and POST of an earlier use */
    curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, NULL);
    if (post) {
        curl_easy_setopt(e, CURLOPT_POST, 1L);
        curl_easy_setopt(e, CURLOPT_POSTFIELDS, r->body_len ? r->body : "");
        curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body_len);
    } else if (!strcmp(r->method, "HEAD")) {
        curl_easy_setopt(e, CURLOPT_NOBODY, 1L);
        return;
    }
    if (strcmp(r->method, post ? "POST" : "GET"))
        curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, r->method);
}

static struct transfer *new_transfer(struct upstream *u)
{
    struct transfer *t = calloc(1, sizeof(*t));

    if (!t)
        return NULL;
    t->easy = curl_easy_init();
    if (!t->easy) {
        free(t);
        return NULL;
    }
    t->magic = TRANSFER_MAGIC;
    t->u = u;
    list_init(&t->node);
    return t;
}

/* One set up for this link where there is one, else any, else a new one. */
static struct transfer *take_transfer(struct upstream *u, uint64_t link_id)
{
    struct list *node = u->free.prev;
    struct transfer *t;

    if (list_empty(&u->free))
        return new_transfer(u);
    t = LIST_ENTRY(node, struct transfer, node);
    for (unsigned tries = 0; t->link_id != link_id && tries < 8; tries++) {
        node = node->prev;
        if (node == &u->free)
            break;
        t = LIST_ENTRY(node, struct transfer, node);
    }
    list_remove(&t->node);
    u->free_count--;
    return t;
}

static void recycle(struct transfer *t)
{
    struct upstream *u = t->u;

    free(t->headers);
    free(t->url);
    t->headers = NULL;
    t->url = NULL;
    t->a = NULL;
    if (u->free_count >= KEEP_HANDLES) {
        free_transfer(t);
        return;
    }
    /* It points at memory that is gone now. */
    curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, NULL);
    curl_easy_setopt(t->easy, CURLOPT_POSTFIELDS, NULL);
    list_append(&u->free, &t->node);
    u->free_count++;
}

static int prepare(struct transfer *t, const struct upstream_request *r, bool fresh)
{
    size_t n = strlen(r->link->origin) + strlen(r->target) + 1;

    t->sends = 0;
    t->veto = VETO_NONE;
    t->socket = (struct socket_ref){.serial = 0};
    t->broke = NULL;
    t->errbuf[0] = '\0';
    t->body_len = r->body_len;
    t->headers = make_list(r->headers);
    t->url = malloc(n);
    if (!t->headers || !t->url)
        return -ENOMEM;
    snprintf(t->url, n, "%s%s", r->link->origin, r->target);
    if (t->link_id != r->link->id)
        set_link(t, r->link);
    set_method(t->easy, r);
    curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, t->headers);
    curl_easy_setopt(t->easy, CURLOPT_FRESH_CONNECT, fresh ? 1L : 0L);
    /* 0 would mean libcurl's default of 300 s. */
    curl_easy_setopt(t->easy, CURLOPT_CONNECTTIMEOUT_MS,
                     r->connect_timeout_ms ? (long)r->connect_timeout_ms : 24L * 3600 * 1000);
    return curl_easy_setopt(t->easy, CURLOPT_URL, t->url) == CURLE_OK ? 0 : -ENOMEM;
}

int upstream_start(struct upstream *u, const struct upstream_request *request, struct attempt *a,
                   void (*notify)(void *arg), void *arg, struct transfer **ret)
{
    struct transfer *t = take_transfer(u, request->link->id);
    int rc;

    if (!t)
        return -ENOMEM;
    t->a = a;
    t->notify = notify;
    t->arg = arg;
    rc = prepare(t, request, a->fresh);
    if (rc == 0 && curl_multi_add_handle(u->multi, t->easy) != CURLM_OK)
        rc = -ENOMEM;
    if (rc < 0) {
        recycle(t);
        return rc;
    }
    *ret = t;
    return 0;
}

/* --- ending ---------------------------------------------------------------------------------------- */

static bool upload_whole(const struct transfer *t)
{
    curl_off_t sent = 0;

    curl_easy_getinfo(t->easy, CURLINFO_SIZE_UPLOAD_T, &sent);
    return t->sends > 0 && (uint64_t)sent >= t->body_len;
}

/* Nothing was sent: what kept it from being? */
static enum transport failed_before_send(CURLcode rc)
{
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
    case CURLE_PEER_FAILED_VERIFICATION:
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

static enum transport failed_after_send(const struct transfer *t, CURLcode rc)
{
    switch (rc) {
    case CURLE_PARTIAL_FILE:
        return TRANSPORT_TRUNCATED;
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_WEIRD_SERVER_REPLY:
#if LIBCURL_VERSION_NUM >= 0x080600
    case CURLE_TOO_LARGE:
#endif
        return TRANSPORT_BAD_ANSWER;
    case CURLE_OUT_OF_MEMORY:
        return TRANSPORT_INTERNAL;
    case CURLE_WRITE_ERROR:
        return t->a->head_done ? TRANSPORT_INTERNAL : TRANSPORT_BAD_ANSWER;
    default:
        if (t->a->head_done)
            return TRANSPORT_TRUNCATED;
        return t->a->upload_whole ? TRANSPORT_LOST : TRANSPORT_LOST_UPLOAD;
    }
}

static enum transport transport_of(const struct transfer *t, CURLcode rc)
{
    if (rc == CURLE_OK)
        return t->a->head_done ? TRANSPORT_WHOLE : TRANSPORT_BAD_ANSWER;
    if (t->veto == VETO_STALE)
        return TRANSPORT_STALE;
    if (t->veto == VETO_RESEND)
        return TRANSPORT_LOST;
    return t->sends == 0 ? failed_before_send(rc) : failed_after_send(t, rc);
}

static void describe(struct transfer *t, CURLcode rc)
{
    const char *what = t->errbuf[0] ? t->errbuf : curl_easy_strerror(rc);

    if (rc == CURLE_OK && t->a->head_done)
        return;
    if (t->broke)
        what = t->broke;
    else if (t->veto == VETO_STALE)
        what = "a kept connection was closed or dirty";
    else if (t->veto == VETO_RESEND)
        what = "the connection was lost before any answer";
    snprintf(t->a->detail, sizeof(t->a->detail), "%s", what);
}

/* libcurl only looks at an idle HTTP/2 connection when it uses it again: frames there are normal. */
static void note_protocol(struct transfer *t)
{
    struct upstream_socket *s = socket_deref(&t->u->sockets, t->socket);
    long version = 0;

    if (!s)
        return;
    curl_easy_getinfo(t->easy, CURLINFO_HTTP_VERSION, &version);
    s->may_speak_idle = version >= CURL_HTTP_VERSION_2_0;
}

static void finish(struct transfer *t, CURLcode rc)
{
    struct attempt *a = t->a;

    a->upload_whole = upload_whole(t);
    a->transport = transport_of(t, rc);
    describe(t, rc);
    if (rc == CURLE_OK)
        note_protocol(t);
    curl_multi_remove_handle(t->u->multi, t->easy);
    socket_end(&t->u->sockets, t->socket);
    a->done = true;
    t->notify(t->arg);
    recycle(t);
}

void upstream_cancel(struct transfer *t)
{
    assert(t->magic == TRANSFER_MAGIC);
    t->a->upload_whole = upload_whole(t);
    curl_multi_remove_handle(t->u->multi, t->easy);
    socket_end(&t->u->sockets, t->socket);
    recycle(t);
}

void upstream_resume(struct transfer *t)
{
    assert(t->magic == TRANSFER_MAGIC);
    t->a->paused = false;
    curl_easy_pause(t->easy, CURLPAUSE_CONT);
}

bool upstream_turn(struct upstream *u)
{
    bool did = false;
    CURLMsg *msg;
    int left, running;

    if (u->timer_due) {
        u->timer_due = false;
        did = true;
        curl_multi_socket_action(u->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    }
    while ((msg = curl_multi_info_read(u->multi, &left))) {
        struct transfer *t;
        CURLcode rc = msg->data.result;

        if (msg->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, (char **)&t);
        assert(t->magic == TRANSFER_MAGIC);
        finish(t, rc);
        did = true;
    }
    return did;
}

/* --- warming ---------------------------------------------------------------------------------------- */

static curl_socket_t warm_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
    int *pair = arg;

    (void)purpose;
    (void)address;
    return pair[0];
}

static int warm_connected(void *arg, curl_socket_t fd, curlsocktype purpose)
{
    (void)arg;
    (void)fd;
    (void)purpose;
    return CURL_SOCKOPT_ALREADY_CONNECTED;
}

static int warm_close(void *arg, curl_socket_t fd)
{
    (void)arg;
    socket_close_fd(fd);
    return 0;
}

/* Begins a TLS handshake over a socket pair: that reads the CA file into the multi handle's cache,
 * where the first real connection finds it. */
void upstream_warm(struct upstream *u, const struct upstream_link *l)
{
    int pair[2], running;
    CURL *e;

    if (strncmp(l->origin, "https:", 6) != 0 ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        return;
    e = curl_easy_init();
    if (!e) {
        socket_close_fd(pair[0]);
        socket_close_fd(pair[1]);
        return;
    }
    curl_easy_setopt(e, CURLOPT_URL, "https://127.0.0.1:1/");
    curl_easy_setopt(e, CURLOPT_PROXY, "");
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(e, CURLOPT_CAPATH, NULL);
    curl_easy_setopt(e, CURLOPT_CAINFO, ca_file(l));
    curl_easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, warm_socket);
    curl_easy_setopt(e, CURLOPT_OPENSOCKETDATA, pair);
    curl_easy_setopt(e, CURLOPT_SOCKOPTFUNCTION, warm_connected);
    curl_easy_setopt(e, CURLOPT_CLOSESOCKETFUNCTION, warm_close);
    curl_multi_setopt(u->multi, CURLMOPT_SOCKETFUNCTION, NULL);
    if (curl_multi_add_handle(u->multi, e) == CURLM_OK) {
        for (int i = 0; i < 4; i++)
            curl_multi_perform(u->multi, &running);
        curl_multi_remove_handle(u->multi, e);
    }
    curl_multi_setopt(u->multi, CURLMOPT_SOCKETFUNCTION, socket_callback);
    curl_easy_cleanup(e);
    socket_close_fd(pair[1]);
    u->timer_due = false;
    uv_timer_stop(&u->timer);
}
