/* One connection: reads requests, has them answered, notices when the peer leaves. */
#include "conn.h"
#include "control.h"
#include "presets.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { IN_MAX = 1024 * 1024 };

static void conn_play(struct conn *c);

/* ---- answering ---- */

static void conn_feed(struct conn *c, const char *data, size_t len);

/* Looks at what has come in meanwhile. */
static void conn_pump(struct conn *c)
{
    while (!c->feeding && !c->closed && c->in.len > 0 &&
           (c->state == CONN_READ || c->state == CONN_DRAIN)) {
        struct buf pending = c->in;

        c->in = (struct buf){0};
        conn_feed(c, pending.data, pending.len);
        buf_free(&pending);
    }
}

static void begin_read(struct conn *c)
{
    request_reset(&c->req);
    c->state = CONN_READ;
    c->began = false;
    c->head_seen = false;
    c->told_to_continue = false;
}

/* The response is out: on to the next request. */
static void conn_next(struct conn *c)
{
    if (c->closed) {
        return;
    }
    c->draining = false;
    if (c->req.state == REQUEST_DONE) {
        begin_read(c);
    } else {
        c->state = CONN_DRAIN;
    }
    link_resume(&c->link);
    conn_pump(c);
}

static void conn_play(struct conn *c)
{
    enum play play;

    while ((play = player_play(&c->player)) == PLAY_END) {
        conn_answered(c);
    }
    switch (play) {
    case PLAY_STOP:
        player_unload(&c->player);
        if (c->state == CONN_ANSWER) {
            conn_next(c);
        }
        break;
    case PLAY_CLOSE:
    case PLAY_FIN:
        conn_finish(c, play == PLAY_CLOSE);
        break;
    case PLAY_RESET:
        conn_reset(c);
        break;
    case PLAY_GONE:
        conn_gone(c);
        break;
    default:
        if (c->state == CONN_ANSWER && c->answered) {
            conn_next(c); /* what follows is unsolicited */
        }
        break;
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct conn *c = timer->data;

    if (c->closed) {
        return;
    }
    if (c->state == CONN_WAIT) {
        control_timeout(c);
    } else if (c->player.program != NULL) {
        conn_play(c);
    }
}

void conn_release(struct conn *c)
{
    const struct player *p = &c->player;

    if (!c->closed && p->program != NULL && p->op < p->program->n_ops &&
        p->program->ops[p->op].kind == OP_HELD) {
        conn_play(c);
    }
}

/* A model named in the path, made safe for a JSON string; before a colon, where a method
 * follows. */
static void model_of_path(const struct request *req, bool method, char *ret_model)
{
    const char *from = memmem(req->target, req->path_len, "/models/", 8);
    const char *end = req->target + req->path_len;
    size_t n = 0;

    if (from == NULL) {
        return;
    }
    for (from += 8; from < end && n + 1 < PEEK_VALUE_MAX && !(method && *from == ':'); from++) {
        ret_model[n++] = *from == '"' || *from == '\\' ? '_' : *from;
    }
    ret_model[n] = '\0';
}

static struct answer_key make_key(const struct conn *c, const struct answer *a)
{
    const struct request *req = &c->req;
    struct answer_key key = {
        .head = strcmp(req->method, "HEAD") == 0,
        .http10 = req->http10,
        /* A client told nothing may never send the body it announced (RFC 9110 10.1.1). */
        .keep_alive = req->keep_alive &&
                      (req->state == REQUEST_DONE || !req->expects_continue || c->told_to_continue),
    };

    if (a->preset == PRESET_AUTO) {
        key.preset = preset_for(req->target, req->path_len, req->peek.stream);
    }
    if (a->preset != PRESET_NONE && a->preset != PRESET_ERROR) {
        key.base64 = req->peek.base64;
        memcpy(key.model, req->peek.model, sizeof(key.model));
    }
    if (key.preset == PRESET_MODEL || key.preset == PRESET_GEMINI ||
        key.preset == PRESET_GEMINI_STREAM) {
        model_of_path(req, key.preset != PRESET_MODEL, key.model);
    }
    return key;
}

static void log_answer(const struct conn *c, int status)
{
    const struct request *req = &c->req;
    const struct server *s = c->server;

    if (s->quiet) {
        return;
    }
    if (status == 0) {
        fprintf(stderr, "provider: #%" PRIu64 " %s %s -> wire\n", s->book.heads, req->method,
                req->target);
    } else {
        fprintf(stderr, "provider: #%" PRIu64 " %s %s -> %d\n", s->book.heads, req->method,
                req->target, status);
    }
}

static void conn_answer(struct conn *c, const struct pick *pick)
{
    struct server *s = c->server;
    struct answer_key key = make_key(c, pick->answer);
    struct program *program = answer_program(pick->answer, &key);

    conn_count(c, &s->book.requests);
    c->mark = tally_enter(&s->tally, pick->rule);
    if (c->record != NULL) {
        c->record->rule = pick->rule;
        c->record->answer = pick->index;
        c->record->status = program->status;
        c->record->serial = s->serial + 1;
    }
    log_answer(c, program->status);
    c->state = CONN_ANSWER;
    if (c->req.state != REQUEST_DONE) {
        c->draining = pick->answer->drain;
        if (!c->draining) {
            link_pause(&c->link);
        }
    }
    player_load(&c->player, program, ++s->serial);
    c->player.record = c->record;
    conn_play(c);
}

/* ---- reading ---- */

static void become_control(struct conn *c)
{
    struct server *s = c->server;

    if (!c->control) {
        c->control = true;
        s->open--;
        s->connections -= s->connections > 0 ? 1 : 0;
        conn_changed(c);
    }
}

static void new_record(struct conn *c)
{
    struct server *s = c->server;

    record_unref(c->record);
    c->epoch = s->book.epoch;
    s->requests++;
    c->n_requests++;
    conn_count(c, &s->book.heads);
    c->record = book_add(&s->book, &c->req);
    if (c->record != NULL) {
        c->record->conn = c->id;
        c->record->conn_n = c->n_requests;
        c->record->tls = c->link.tls != NULL;
        c->record->tls_resumed = c->record->tls && tls_resumed(c->link.tls);
        c->record->t[T_FIRST] = c->t_first;
        record_mark(c->record, T_HEAD);
    }
}

static void on_head(struct conn *c)
{
    struct pick pick;

    c->head_seen = true;
    c->answered = false;
    if (request_is_control(&c->req)) {
        become_control(c);
    } else {
        new_record(c);
        if (c->server->script->any_on_head &&
            script_pick_at_head(c->server->script, &c->req, &pick)) {
            conn_answer(c, &pick);
            return;
        }
    }
    if (c->req.expects_continue && c->req.state != REQUEST_DONE) {
        uv_buf_t b = uv_buf_init((char *)(uintptr_t) "HTTP/1.1 100 Continue\r\n\r\n", 25);

        c->told_to_continue = true;
        if (link_write(&c->link, &b, 1) < 0) {
            conn_gone(c);
        }
    }
}

static void on_request(struct conn *c)
{
    struct pick pick;

    if (request_is_control(&c->req)) {
        c->state = CONN_ANSWER;
        control_handle(c);
        return;
    }
    record_body_end(c->record);
    pick = script_pick(c->server->script, &c->req);
    conn_answer(c, &pick);
}

/* A request that is not one. */
static void refuse(struct conn *c)
{
    struct buf text = {0};
    uv_buf_t b;

    buf_printf(&text,
               "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: "
               "%zu\r\nconnection: close\r\n\r\n%s\n",
               strlen(c->req.error) + 1, c->req.error);
    if (!c->server->quiet) {
        fprintf(stderr, "provider: refused: %s\n", c->req.error);
    }
    b = uv_buf_init(text.data, (unsigned)text.len);
    if (link_write(&c->link, &b, 1) < 0) {
        conn_gone(c);
    } else {
        conn_finish(c, true);
    }
    buf_free(&text);
}

/* The first byte of a request cancels what was to follow the last response. */
static void begin_request(struct conn *c)
{
    c->began = true;
    if (c->server->book.keep) {
        c->t_first = now_ms();
    }
    if (c->player.program != NULL) {
        player_unload(&c->player);
        (void)uv_timer_stop(&c->timer);
    }
}

static size_t feed_step(struct conn *c, const char *data, size_t len)
{
    size_t n;

    if (!c->began) {
        begin_request(c);
    }
    n = request_feed(&c->req, data, len);
    record_body(&c->server->book, c->record, c->req.span, c->req.span_len);
    if (c->req.state == REQUEST_BAD) {
        refuse(c);
        return n;
    }
    if (c->req.head_done && !c->head_seen) {
        on_head(c);
    }
    if (c->closed || c->req.state != REQUEST_DONE) {
        return n;
    }
    if (c->state == CONN_DRAIN) {
        record_body_end(c->record);
        begin_read(c);
    } else if (c->state == CONN_READ) {
        on_request(c);
    }
    return n;
}

/* Bytes that come while a response is given: the rest of a body that is to be read all the same,
 * and what is looked at later. */
static void keep_input(struct conn *c, const char *data, size_t len)
{
    while (c->draining && len > 0) {
        size_t n = request_feed(&c->req, data, len);

        record_body(&c->server->book, c->record, c->req.span, c->req.span_len);
        data += n;
        len -= n;
        if (c->req.state == REQUEST_DONE) {
            record_body_end(c->record);
        }
        c->draining = c->req.state < REQUEST_DONE;
    }
    buf_add(&c->in, data, len);
    if (c->in.len > IN_MAX) {
        link_pause(&c->link);
    }
}

static void conn_feed(struct conn *c, const char *data, size_t len)
{
    c->feeding = true;
    while (len > 0 && !c->closed && (c->state == CONN_READ || c->state == CONN_DRAIN)) {
        size_t n = feed_step(c, data, len);

        data += n;
        len -= n;
    }
    c->feeding = false;
    if (!c->closed && c->state != CONN_LINGER) {
        keep_input(c, data, len);
    }
}

static void on_data(struct link *link, const char *bytes, size_t len)
{
    struct conn *c = (struct conn *)link;

    switch (c->state) {
    case CONN_READ:
    case CONN_DRAIN:
        conn_feed(c, bytes, len);
        break;
    case CONN_ANSWER:
    case CONN_WAIT:
        keep_input(c, bytes, len);
        break;
    default:
        break; /* lingering or mute: nobody looks at it */
    }
}

static void on_gone(struct link *link)
{
    conn_gone((struct conn *)link);
}

static void on_drained(struct link *link)
{
    struct conn *c = (struct conn *)link;

    if (c->player.program != NULL && !uv_is_active((uv_handle_t *)&c->timer)) {
        conn_play(c);
    }
}

static void on_tls(struct link *link)
{
    struct conn *c = (struct conn *)link;

    c->server->handshakes++;
    c->server->resumed += tls_resumed(link->tls) ? 1 : 0;
    conn_changed(c);
}

static void on_link_closed(struct link *link)
{
    conn_unref((struct conn *)link);
}

static const struct link_events events = {
    .on_data = on_data,
    .on_gone = on_gone,
    .on_drained = on_drained,
    .on_tls = on_tls,
    .on_closed = on_link_closed,
};

/* ---- the start of a connection ---- */

static void misbehave_at_accept(struct conn *c)
{
    struct script *script = c->server->script;

    script->accept_left--;
    if (!c->server->quiet) {
        fprintf(stderr, "provider: a connection meets on_accept\n");
    }
    if (script->accept_how == ACCEPT_RESET) {
        conn_reset(c);
    } else if (script->accept_how == ACCEPT_FIN) {
        conn_close(c);
    } else {
        c->state = CONN_MUTE;
        tls_free(c->link.tls); /* not even a handshake */
        c->link.tls = NULL;
        (void)link_start(&c->link);
    }
}

void conn_accept(struct server *s, uv_stream_t *stream, bool is_pipe, SSL_CTX *ctx)
{
    struct conn *c = must_alloc(sizeof(*c));
    int rc;

    c->server = s;
    c->id = ++s->last_conn;
    c->next = s->conns;
    if (c->next != NULL) {
        c->next->prev = c;
    }
    s->conns = c;
    s->connections++;
    s->open++;
    conn_changed(c);
    (void)uv_timer_init(s->loop, &c->timer);
    c->timer.data = c;
    c->handles = 2;
    c->player.link = &c->link;
    c->player.timer = &c->timer;
    c->player.on_timer = on_timer;
    c->player.released = &s->released;
    request_reset(&c->req);
    rc = link_accept(&c->link, stream, is_pipe, ctx, &events);
    if (rc == 0 && s->script->accept_left > 0) {
        misbehave_at_accept(c);
    } else if (rc != 0 || link_start(&c->link) != 0) {
        conn_close(c);
    }
}

struct conn *conn_next_in_list(struct conn *c)
{
    return c->next;
}

void conn_reply(struct conn *c, int status, const char *body, size_t len)
{
    struct buf head = {0};
    uv_buf_t b[2];

    (void)uv_timer_stop(&c->timer);
    buf_printf(&head,
               "HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: "
               "%zu\r\n\r\n",
               status, status_reason(status), len);
    b[0] = uv_buf_init(head.data, (unsigned)head.len);
    b[1] = uv_buf_init((char *)(uintptr_t)body, (unsigned)len);
    if (link_write(&c->link, b, 2) < 0) {
        conn_gone(c);
    } else if (c->req.keep_alive) {
        conn_next(c);
    } else {
        conn_finish(c, true);
    }
    buf_free(&head);
}
