/* The floor of the stack: libmicrohttpd in front, libcurl behind, libuv around, and nothing else.
 *
 *     floor FD UPSTREAM [AUTHORITY]      e.g. floor 3 http://127.0.0.1:8080
 *
 * It serves on the listening socket FD, reads each request whole, sends it on, and passes the response back: an event
 * stream as it comes, anything else when it is whole. It checks nothing, retries nothing and counts nothing, so its cost
 * is what the libraries cost when they are used as their manuals show. */
#include <assert.h>
#include <curl/curl.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#define POOL_BYTES (16 * 1024)
#define STREAM_BLOCK 4096

struct bytes {
    char *p;
    size_t len, size;
};

struct request {
    struct MHD_Connection *client;
    CURL *easy;
    struct curl_slist *headers;
    char *url;
    struct bytes in, out;
    size_t sent; /* of `out`, when it is streamed */
    char type[128];
    bool began, running, streams, whole, suspended;
    struct request *next; /* among the free ones */
};

struct watch {
    uv_poll_t poll;
    int fd;
};

static uv_loop_t *loop;
static struct MHD_Daemon *front;
static CURLM *multi;
static uv_timer_t timer;
static const char *upstream, *authority;
static struct request *free_requests;
static bool front_dirty;

static void bytes_add(struct bytes *b, const void *p, size_t n)
{
    if (b->len + n > b->size) {
        b->size = b->size ? 2 * b->size : 1024;
        while (b->size < b->len + n)
            b->size *= 2;
        b->p = realloc(b->p, b->size);
        assert(b->p);
    }
    memcpy(b->p + b->len, p, n);
    b->len += n;
}

static struct request *request_new(void)
{
    struct request *r = free_requests;

    if (r) {
        free_requests = r->next;
        return r;
    }
    r = calloc(1, sizeof *r);
    assert(r);
    r->easy = curl_easy_init();
    return r;
}

static void request_free(struct request *r)
{
    CURL *easy = r->easy;

    curl_slist_free_all(r->headers);
    free(r->url);
    free(r->in.p);
    free(r->out.p);
    memset(r, 0, sizeof *r);
    r->easy = easy;
    r->next = free_requests;
    free_requests = r;
}

/* --- the response ----------------------------------------------------------------------------- */

static ssize_t pull(void *cls, uint64_t pos, char *to, size_t max)
{
    struct request *r = cls;
    size_t n = r->out.len - r->sent;

    (void)pos;
    if (n == 0) {
        if (r->whole)
            return MHD_CONTENT_READER_END_OF_STREAM;
        MHD_suspend_connection(r->client);
        r->suspended = true;
        return 0;
    }
    n = n < max ? n : max;
    memcpy(to, r->out.p + r->sent, n);
    r->sent += n;
    if (r->sent == r->out.len)
        r->sent = r->out.len = 0;
    return (ssize_t)n;
}

static void respond(struct request *r)
{
    struct MHD_Response *response;
    long status = 0;

    if (r->streams) {
        response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, pull, r, NULL);
    } else {
        response = MHD_create_response_from_buffer(r->out.len, r->out.p, MHD_RESPMEM_MUST_FREE);
        r->out = (struct bytes){0};
    }
    curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &status);
    if (r->type[0])
        MHD_add_response_header(response, "content-type", r->type);
    MHD_queue_response(r->client, status ? (unsigned)status : 502, response);
    MHD_destroy_response(response);
}

static void resume(struct request *r)
{
    if (r->suspended) {
        r->suspended = false;
        MHD_resume_connection(r->client);
        front_dirty = true;
    }
}

static size_t on_header(char *p, size_t size, size_t n, void *cls)
{
    struct request *r = cls;
    size_t len = n * size;

    if (len > 14 && !strncasecmp(p, "content-type: ", 14))
        snprintf(r->type, sizeof r->type, "%.*s", (int)(len - 16), p + 14);
    return len;
}

static size_t on_bytes(char *p, size_t size, size_t n, void *cls)
{
    struct request *r = cls;

    bytes_add(&r->out, p, n * size);
    r->streams = r->streams || !strncmp(r->type, "text/event-stream", 17);
    if (r->streams)
        resume(r);
    return n * size;
}

static void finish(struct request *r)
{
    r->running = false;
    r->whole = true;
    resume(r);
}

/* --- the request ------------------------------------------------------------------------------ */

static void send_on(struct request *r, const char *method)
{
    CURL *e = r->easy;

    r->headers = curl_slist_append(NULL, "Content-Type: application/json");
    r->headers = curl_slist_append(r->headers, "Expect:");
    curl_easy_setopt(e, CURLOPT_URL, r->url);
    curl_easy_setopt(e, CURLOPT_PRIVATE, r);
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(e, CURLOPT_HEADERDATA, r);
    curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(e, CURLOPT_WRITEDATA, r);
    curl_easy_setopt(e, CURLOPT_HTTPHEADER, r->headers);
    if (!strcmp(method, "POST")) {
        curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->in.len);
        curl_easy_setopt(e, CURLOPT_POSTFIELDS, r->in.p ? r->in.p : "");
    } else {
        curl_easy_setopt(e, CURLOPT_HTTPGET, 1L);
    }
    if (authority)
        curl_easy_setopt(e, CURLOPT_CAINFO, authority);
    curl_multi_add_handle(multi, e);
    r->running = true;
}

static void *on_target(void *cls, const char *target, struct MHD_Connection *client)
{
    struct request *r = request_new();
    size_t n = strlen(upstream) + strlen(target) + 1;

    (void)cls;
    r->client = client;
    r->url = malloc(n);
    assert(r->url);
    snprintf(r->url, n, "%s%s", upstream, target);
    return r;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *client, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *size, void **req_cls)
{
    struct request *r = *req_cls;

    (void)cls;
    (void)url;
    (void)version;
    if (!r->began) {
        r->began = true;
        return MHD_YES;
    }
    if (*size > 0) {
        bytes_add(&r->in, data, *size);
        *size = 0;
        return MHD_YES;
    }
    if (r->headers) { /* sent before, and resumed since */
        respond(r);
        return MHD_YES;
    }
    MHD_suspend_connection(client);
    r->suspended = true;
    send_on(r, method);
    return MHD_YES;
}

static void on_completed(void *cls, struct MHD_Connection *client, void **req_cls,
                         enum MHD_RequestTerminationCode code)
{
    struct request *r = *req_cls;

    (void)cls;
    (void)client;
    (void)code;
    if (!r)
        return;
    if (r->running)
        curl_multi_remove_handle(multi, r->easy);
    request_free(r);
    *req_cls = NULL;
}

/* --- the loop --------------------------------------------------------------------------------- */

static void on_front(uv_poll_t *poll, int status, int events)
{
    (void)poll;
    (void)status;
    (void)events;
    front_dirty = true;
}

static void on_accept(uv_poll_t *poll, int status, int events)
{
    struct sockaddr_storage from;
    socklen_t n = sizeof from;
    int *listener = poll->data, fd;

    (void)status;
    (void)events;
    while ((fd = accept4(*listener, (struct sockaddr *)&from, &n, SOCK_NONBLOCK | SOCK_CLOEXEC)) >=
           0) {
        MHD_add_connection(front, fd, (struct sockaddr *)&from, n);
        n = sizeof from;
    }
    front_dirty = true;
}

static void on_socket(uv_poll_t *poll, int status, int events)
{
    struct watch *s = poll->data;
    int running;

    (void)status;
    curl_multi_socket_action(multi, s->fd,
                             (events & UV_READABLE ? CURL_CSELECT_IN : 0) |
                                 (events & UV_WRITABLE ? CURL_CSELECT_OUT : 0),
                             &running);
}

static void on_watch_closed(uv_handle_t *h)
{
    free(h->data);
}

static int socket_callback(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket)
{
    struct watch *s = socket;

    (void)easy;
    (void)arg;
    if (what == CURL_POLL_REMOVE) {
        if (s) {
            uv_poll_stop(&s->poll);
            uv_close((uv_handle_t *)&s->poll, on_watch_closed);
        }
        curl_multi_assign(multi, fd, NULL);
        return 0;
    }
    if (!s) {
        s = calloc(1, sizeof *s);
        assert(s);
        s->fd = fd;
        uv_poll_init(loop, &s->poll, fd);
        s->poll.data = s;
        curl_multi_assign(multi, fd, s);
    }
    uv_poll_start(&s->poll,
                  (what & CURL_POLL_IN ? UV_READABLE : 0) |
                      (what & CURL_POLL_OUT ? UV_WRITABLE : 0),
                  on_socket);
    return 0;
}

static void on_timer(uv_timer_t *t)
{
    int running;

    (void)t;
    curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
}

static int timer_callback(CURLM *m, long ms, void *arg)
{
    (void)m;
    (void)arg;
    if (ms < 0)
        uv_timer_stop(&timer);
    else
        uv_timer_start(&timer, on_timer, (uint64_t)ms, 0);
    return 0;
}

static void turn(uv_prepare_t *p)
{
    bool again = true;

    (void)p;
    while (again) {
        CURLMsg *m;
        int left;
        MHD_UNSIGNED_LONG_LONG timeout;

        again = false;
        while ((m = curl_multi_info_read(multi, &left))) {
            struct request *r = NULL;

            curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&r);
            curl_multi_remove_handle(multi, m->easy_handle);
            finish(r);
            again = true;
        }
        if (front_dirty) {
            front_dirty = false;
            again = true;
            MHD_run(front);
            if (MHD_get_timeout(front, &timeout) == MHD_YES && timeout == 0)
                front_dirty = true;
        }
    }
}

static size_t keep_escapes(void *cls, struct MHD_Connection *client, char *s)
{
    (void)cls;
    (void)client;
    return strlen(s);
}

int main(int argc, char **argv)
{
    uv_poll_t accepting, ready;
    uv_prepare_t prepare;
    int listener;

    if (argc < 3) {
        fprintf(stderr, "usage: floor FD UPSTREAM [AUTHORITY]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    loop = uv_default_loop();
    listener = atoi(argv[1]);
    upstream = argv[2];
    authority = argc > 3 ? argv[3] : NULL;
    fcntl(listener, F_SETFL, fcntl(listener, F_GETFL) | O_NONBLOCK);
    front = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME |
            MHD_USE_SUPPRESS_DATE_NO_CLOCK,
        0, NULL, NULL, on_request, NULL, MHD_OPTION_URI_LOG_CALLBACK, on_target, NULL,
        MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL, MHD_OPTION_NOTIFY_COMPLETED, on_completed,
        NULL, MHD_OPTION_CONNECTION_LIMIT, 20000u, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)POOL_BYTES, MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_END);
    assert(front);
    multi = curl_multi_init();
    curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, socket_callback);
    curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, timer_callback);
    curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, 1024L);
    uv_timer_init(loop, &timer);
    uv_poll_init(loop, &accepting, listener);
    accepting.data = &listener;
    uv_poll_start(&accepting, UV_READABLE, on_accept);
    uv_poll_init(loop, &ready, MHD_get_daemon_info(front, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd);
    uv_poll_start(&ready, UV_READABLE, on_front);
    uv_prepare_init(loop, &prepare);
    uv_prepare_start(&prepare, turn);
    uv_run(loop, UV_RUN_DEFAULT);
    return 0;
}
