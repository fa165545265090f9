/* The control API: scripts go in, records come out, under the path "/_/". */
#include "control.h"
#include "conn.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void reply_text(struct conn *c, int status, const char *json)
{
    conn_reply(c, status, json, strlen(json));
}

static void reply_error(struct conn *c, int status, const char *message)
{
    struct buf out = {0};

    buf_str(&out, "{\"error\":");
    buf_json(&out, message, strlen(message));
    buf_str(&out, "}\n");
    conn_reply(c, status, out.data, out.len);
    buf_free(&out);
}

static void reply_record(struct conn *c, int status)
{
    struct buf out = {0};

    book_json(&c->server->book, &out);
    conn_reply(c, status, out.data, out.len);
    buf_free(&out);
}

static void put_script(struct conn *c)
{
    char error[ANSWER_ERROR_MAX] = "script: not JSON";
    struct script *script = NULL;

    if (c->req.body.len == c->req.body_len) {
        script =
            script_parse(c->req.body.data != NULL ? c->req.body.data : "", c->req.body.len, error);
    }
    if (script == NULL) {
        reply_error(c, 400, error);
        return;
    }
    script_free(c->server->script);
    c->server->script = script;
    c->server->released = false;
    tally_begin(&c->server->tally, script->n_rules);
    reply_text(c, 200, "{\"ok\":true}\n");
}

static void release(struct conn *c)
{
    struct server *s = c->server;

    s->released = true;
    for (struct conn *held = s->conns, *next; held != NULL; held = next) {
        next = conn_next_in_list(held);
        conn_release(held);
    }
    reply_text(c, 200, "{\"ok\":true}\n");
}

static void clear_record(struct conn *c)
{
    struct server *s = c->server;

    book_clear(&s->book);
    tally_clear(&s->tally);
    s->connections = 0;
    s->requests = 0;
    s->handshakes = 0;
    s->resumed = 0;
    reply_text(c, 200, "{\"ok\":true}\n");
}

static void reply_stats(struct conn *c)
{
    const struct server *s = c->server;
    struct buf out = {0};

    buf_printf(&out,
               "{\"connections\":%" PRIu64 ",\"open\":%" PRIu64 ",\"requests\":%" PRIu64
               ",\"answered\":%" PRIu64 ",\"closed\":%" PRIu64 ",\"tls_handshakes\":%" PRIu64
               ",\"tls_resumed\":%" PRIu64,
               s->connections, s->open, s->requests, s->book.answered, s->book.closed,
               s->handshakes, s->resumed);
    tally_json(&s->tally, &out);
    buf_str(&out, "}\n");
    conn_reply(c, 200, out.data, out.len);
    buf_free(&out);
}

/* ---- waiting ---- */

static bool query_number(const char *query, const char *name, uint64_t *ret)
{
    size_t len = strlen(name);

    for (const char *p = query; p != NULL; p = strchr(p, '&')) {
        p += *p == '?' || *p == '&' ? 1 : 0;
        if (strncmp(p, name, len) == 0 && p[len] == '=') {
            char *end;

            *ret = strtoull(p + len + 1, &end, 10);
            return end != p + len + 1 && (*end == '\0' || *end == '&');
        }
    }
    return false;
}

static bool parse_wait(struct conn *c, const char *query)
{
    struct server *s = c->server;
    const struct {
        const char *name;
        const uint64_t *counter;
    } names[] = {{"requests", &s->book.requests},        {"heads", &s->book.heads},
                 {"answered", &s->book.answered},        {"closed", &s->book.closed},
                 {"connections", &s->connections},       {"tls_handshakes", &s->handshakes},
                 {"in_flight", &s->tally.all.in_flight}, {"open", &s->open}};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (query_number(query, names[i].name, &c->waiter.count)) {
            c->waiter.counter = names[i].counter;
            c->waiter.exactly = strcmp(names[i].name, "open") == 0;
            return true;
        }
    }
    return false;
}

static bool holds(const struct waiter *w)
{
    return w->exactly ? *w->counter == w->count : *w->counter >= w->count;
}

static void wait_for(struct conn *c)
{
    const char *query = c->req.target + c->req.path_len;
    uint64_t timeout_ms = 10000;

    if (!parse_wait(c, query)) {
        reply_error(c, 400,
                    "wait for requests, heads, answered, closed, in_flight, connections, "
                    "tls_handshakes or open");
        return;
    }
    (void)query_number(query, "timeout_ms", &timeout_ms);
    if (holds(&c->waiter)) {
        reply_record(c, 200);
        return;
    }
    c->state = CONN_WAIT;
    c->server->waiting++;
    uv_update_time(c->server->loop);
    (void)uv_timer_start(&c->timer, c->player.on_timer, timeout_ms, 0);
}

static void wait_over(struct conn *c, int status)
{
    c->state = CONN_ANSWER;
    c->server->waiting--;
    reply_record(c, status);
}

void control_check(struct server *s)
{
    for (struct conn *c = s->conns; c != NULL && s->waiting > 0; c = conn_next_in_list(c)) {
        if (!c->closed && c->state == CONN_WAIT && holds(&c->waiter)) {
            wait_over(c, 200);
        }
    }
}

void control_timeout(struct conn *c)
{
    wait_over(c, 408);
}

/* ---- dispatch ---- */

static const struct route {
    const char *method;
    const char *path;
    void (*handle)(struct conn *c);
} routes[] = {
    {"PUT", "/_/script", put_script},      {"GET", "/_/record", NULL},
    {"DELETE", "/_/record", clear_record}, {"GET", "/_/stats", reply_stats},
    {"GET", "/_/wait", wait_for},          {"GET", "/_/ping", NULL},
    {"POST", "/_/release", release},
};

void control_handle(struct conn *c)
{
    const struct request *req = &c->req;

    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
        const struct route *r = &routes[i];

        if (strcmp(r->method, req->method) != 0 || strlen(r->path) != req->path_len ||
            memcmp(r->path, req->target, req->path_len) != 0) {
            continue;
        }
        if (r->handle != NULL) {
            r->handle(c);
        } else if (strcmp(r->path, "/_/record") == 0) {
            reply_record(c, 200);
        } else {
            reply_text(c, 200, "{\"ok\":true}\n");
        }
        return;
    }
    reply_error(c, 404, "no such control request");
}
