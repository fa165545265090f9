/* Serves the admin pages: health, readiness and metrics. */
#include "admin/admin.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "admin/status.h"
#include "base/escape.h"
#include "base/log.h"
#include "edge/frontend.h"
#include "exchange/response.h"
#include "http/credentials.h"

#define ADMIN_CONNECTIONS 64
/* Ended connections keep their places for another iteration. */
#define ADMIN_PLACES (4 * ADMIN_CONNECTIONS)
/* Scrapers connect every few seconds, if at all; retryd does not wait for hung ones. */
#define ADMIN_HEADERS_MS 5000
#define ADMIN_IDLE_MS 30000
#define ADMIN_STALL_MS 5000
/* The number of series is limited (traffic.c) so that their text is far shorter. */
#define METRICS_BYTES_MAX (16 * 1024 * 1024)
#define STATUS_BYTES_MAX (16 * 1024 * 1024)

struct admin {
    struct frontend *frontend;
    const struct admin_source *source;
    void *ctx;
};

struct page {
    struct admin *a;
    struct frontend_request *r;
    struct http_request http;
};

static int on_headers(void *ctx, struct frontend_request *r, struct http_request *request,
                      void **ret_user, char *ret_why, size_t size)
{
    struct admin *a = ctx;
    struct page *p;

    if (!a->source->may_enter(a->ctx, request, ret_why, size))
        return -EACCES;
    p = calloc(1, sizeof(*p));
    if (!p)
        return -ENOMEM;
    p->a = a;
    p->r = r;
    p->http = *request;
    http_request_init(request);
    *ret_user = p;
    frontend_stall_limit(r, ADMIN_STALL_MS);
    return 0;
}

static ptrdiff_t on_body(void *user, const void *data, size_t n, char *ret_why, size_t why_size)
{
    (void)user;
    (void)data;
    (void)ret_why;
    (void)why_size;
    return (ptrdiff_t)n;
}

static int respond(struct page *p, unsigned status, const char *type, struct buf *body)
{
    static const struct {
        const char *name, *value;
    } always[] = {{"Cache-Control", "no-store"},
                  {"X-Content-Type-Options", "nosniff"},
                  {"X-Frame-Options", "DENY"},
                  {"Referrer-Policy", "no-referrer"},
                  {"Cross-Origin-Resource-Policy", "same-origin"},
                  {"Cross-Origin-Opener-Policy", "same-origin"}};
    struct http_response response;
    int rc;

    http_response_init(&response);
    response.status = status;
    response.content_length = body->len;
    rc = headers_add(&response.headers, STR("Content-Type"), str_from(type));
    for (size_t i = 0; rc == 0 && i < sizeof(always) / sizeof(always[0]); i++)
        rc = headers_add(&response.headers, str_from(always[i].name), str_from(always[i].value));
    if (rc == 0)
        rc = headers_add(&response.headers, STR("Content-Security-Policy"),
                         str_from(status_html_policy()));
    if (rc == 0)
        rc = frontend_whole(p->r, &response, body);
    http_response_deinit(&response);
    return rc;
}

static int respond_text(struct page *p, unsigned status, const char *text)
{
    struct buf body;
    int rc;

    buf_init(&body, 4096);
    buf_printf(&body, "%s\n", text);
    rc = respond(p, status, "text/plain; charset=utf-8", &body);
    buf_deinit(&body);
    return rc;
}

/* Returns a parameter of the query, still percent-encoded; empty if it is missing. */
static struct str query_value(const struct page *p, struct str name)
{
    struct str value;

    return http_query_value(http_request_query(&p->http), name, &value) ? value : STR("");
}

/* Responds with a document that was written with the result `rc`, and frees it. */
static int respond_document(struct page *p, int rc, const char *type, struct buf *body)
{
    if (rc == -ENOENT)
        rc = respond_text(p, 404,
                          "no such request is known: retryd keeps only the last 200 that failed, "
                          "were retried or were slow");
    else if (rc < 0 || body->failed)
        rc = respond_text(p, 503, "out of memory");
    else
        rc = respond(p, 200, type, body);
    buf_deinit(body);
    return rc;
}

static const char *const types[] = {[ADMIN_JSON] = "application/json",
                                    [ADMIN_TEXT] = "text/plain; charset=utf-8",
                                    [ADMIN_HTML] = "text/html; charset=utf-8"};

static int write_status(struct page *p, enum admin_form form)
{
    uint64_t after = 0; /* the default, also for an invalid number */
    struct buf body;
    int rc;

    buf_init(&body, STATUS_BYTES_MAX);
    (void)str_to_u64(query_value(p, STR("since")), &after);
    rc = p->a->source->status(p->a->ctx, form, after, &body);
    return respond_document(p, rc, types[form], &body);
}

/* Writes one request. `name` is an id or its beginning; ".txt" after it asks for sentences. */
static int write_request(struct page *p, struct str name)
{
    enum admin_form form = ADMIN_JSON;
    struct buf body;
    int rc;

    if (str_ends(name, STR(".txt"))) {
        form = ADMIN_TEXT;
        name.n -= 4;
    }
    buf_init(&body, STATUS_BYTES_MAX);
    rc = p->a->source->request(p->a->ctx, form, name, &body);
    return respond_document(p, rc, types[form], &body);
}

/* Decodes %XX and + of a query parameter into `to`, as far as it fits. */
static struct str decode_query(const struct page *p, struct str name, char *to, size_t size)
{
    struct str text = query_value(p, name);
    size_t n = 0;

    for (size_t i = 0; i < text.n && n < size; i++) {
        int byte = escape_percent(text, i);

        to[n++] = byte >= 0 ? (char)byte : text.p[i] == '+' ? ' ' : text.p[i];
        i += byte >= 0 ? 2 : 0;
    }
    return (struct str){to, n};
}

/* Carries out an action, which needs a token. Pages of other origins have been refused before. */
static int act(struct page *p, struct str name)
{
    char upstream[128], model[256];
    struct admin_action action = {
        .name = name,
        .upstream = decode_query(p, STR("upstream"), upstream, sizeof(upstream)),
        .model = decode_query(p, STR("model"), model, sizeof(model)),
    };
    struct str token = STR("");
    struct buf body;
    int rc;

    if (headers_get(&p->http.headers, STR("authorization"), &token))
        token = credentials_of_field(token);
    rc = p->a->source->may_act(p->a->ctx, token);
    if (rc == -EPERM)
        return respond_text(p, 403, "actions are off: no [admin] token_file is configured");
    if (rc < 0)
        return respond_text(p, 401,
                            "actions require a token from [admin] token_file, as Authorization: "
                            "Bearer TOKEN");
    buf_init(&body, STATUS_BYTES_MAX);
    rc = p->a->source->act(p->a->ctx, &action, &body);
    if (rc == -ENOENT)
        rc = respond_text(p, 404, "unknown action; use reload, drain or reset");
    else if (body.failed)
        rc = respond_text(p, 503, "out of memory");
    else
        rc = respond(p,
                     rc == -ESRCH ? 404
                     : rc < 0     ? 409
                                  : 200,
                     "text/plain; charset=utf-8", &body);
    buf_deinit(&body);
    return rc;
}

static int serve(struct page *p)
{
    struct str path = http_request_path(&p->http);
    struct buf body;

    if (http_request_is(&p->http, "POST") && str_starts(path, STR("/actions/")))
        return act(p, str_after(path, 9));
    if (!http_request_is(&p->http, "GET") && !http_request_is(&p->http, "HEAD"))
        return respond_text(p, 405, "only GET and HEAD are allowed");
    if (str_eq(path, STR("/healthz")))
        return p->a->source->well(p->a->ctx) ? respond_text(p, 200, "ok")
                                             : respond_text(p, 503, "a worker does not respond");
    if (str_eq(path, STR("/readyz")))
        return p->a->source->ready(p->a->ctx) ? respond_text(p, 200, "ready")
                                              : respond_text(p, 503, "draining");
    if (str_eq(path, STR("/metrics"))) {
        buf_init(&body, METRICS_BYTES_MAX);
        p->a->source->metrics(p->a->ctx, &body);
        return respond_document(p, 0, "text/plain; version=0.0.4; charset=utf-8", &body);
    }
    if (str_eq(path, STR("/")))
        return write_status(p, ADMIN_HTML);
    if (str_eq(path, STR("/status.json")))
        return write_status(p, ADMIN_JSON);
    if (str_eq(path, STR("/status.txt")))
        return write_status(p, ADMIN_TEXT);
    if (str_starts(path, STR("/requests/")))
        return write_request(p, str_after(path, 10));
    return respond_text(
        p, 404,
        "not found; the pages are /, /status.json, /status.txt, /metrics, /healthz and /readyz");
}

static void on_complete(void *user)
{
    struct page *p = user;

    if (serve(p) < 0)
        frontend_cut(p->r);
}

static void on_body_refused(void *user, unsigned status)
{
    (void)user;
    (void)status;
}

static void on_gone(void *user)
{
    (void)user;
}

static ptrdiff_t on_pull(void *user, char *to, size_t max)
{
    (void)user;
    (void)to;
    (void)max;
    return -1;
}

static void on_closed(void *user, bool whole)
{
    (void)whole;
    struct page *p = user;

    http_request_deinit(&p->http);
    free(p);
}

static void on_refused(void *ctx, unsigned status, const char *why)
{
    (void)ctx;
    log_begin(LOG_INFO, "admin request refused");
    log_u64("status", status);
    log_text("why", why);
    log_end();
}

static const struct frontend_handler handler = {
    .on_headers = on_headers,
    .on_body = on_body,
    .on_complete = on_complete,
    .on_body_refused = on_body_refused,
    .on_gone = on_gone,
    .on_pull = on_pull,
    .on_closed = on_closed,
    .on_refused = on_refused,
};

struct admin *admin_new(uv_loop_t *loop, const struct admin_source *source, void *ctx,
                        void (*wake)(void *arg), void *wake_arg)
{
    struct admin *a = calloc(1, sizeof(*a));

    if (!a)
        return NULL;
    a->source = source;
    a->ctx = ctx;
    a->frontend = frontend_new(loop, &handler, a, ADMIN_PLACES, wake, wake_arg);
    if (!a->frontend) {
        free(a);
        return NULL;
    }
    frontend_times(a->frontend, ADMIN_HEADERS_MS, ADMIN_IDLE_MS);
    return a;
}

int admin_add(struct admin *a, int fd)
{
    frontend_make_room(a->frontend, ADMIN_CONNECTIONS);
    return frontend_add(a->frontend, fd);
}

bool admin_turn(struct admin *a)
{
    return frontend_run(a->frontend);
}

void admin_abort(struct admin *a)
{
    frontend_abort(a->frontend);
}

bool admin_idle(const struct admin *a)
{
    return frontend_connections(a->frontend) == 0;
}

void admin_close(struct admin *a)
{
    frontend_close(a->frontend);
    free(a);
}
