/* What is counted of a connection, and the ways it ends. */
#include "conn.h"

#include <stdlib.h>

void conn_changed(struct conn *c)
{
    c->server->changed = true;
}

/* A request of before the last clear counts no more. */
void conn_count(struct conn *c, uint64_t *counter)
{
    if (c->epoch == c->server->book.epoch) {
        (*counter)++;
    }
    conn_changed(c);
}

void conn_answered(struct conn *c)
{
    tally_leave(&c->server->tally, &c->mark);
    if (c->head_seen && !c->answered && !c->control) {
        record_mark(c->record, T_ANSWER_END);
        conn_count(c, &c->server->book.answered);
    }
    c->answered = true;
}

void conn_unref(struct conn *c)
{
    struct server *s = c->server;

    if (--c->handles > 0) {
        return;
    }
    if (c->prev != NULL) {
        c->prev->next = c->next;
    } else {
        s->conns = c->next;
    }
    if (c->next != NULL) {
        c->next->prev = c->prev;
    }
    request_free(&c->req);
    buf_free(&c->in);
    record_unref(c->record);
    free(c);
}

static void on_timer_closed(uv_handle_t *handle)
{
    conn_unref(handle->data);
}

/* All but the socket itself, which the caller closes in its way. */
static void let_go(struct conn *c)
{
    c->closed = true;
    player_unload(&c->player);
    uv_close((uv_handle_t *)&c->timer, on_timer_closed);
    if (c->state == CONN_WAIT) {
        c->server->waiting--;
    }
    if (!c->control) {
        c->server->open--;
    }
    conn_changed(c);
}

void conn_close(struct conn *c)
{
    if (!c->closed) {
        let_go(c);
        link_close(&c->link);
    }
}

void conn_reset(struct conn *c)
{
    conn_answered(c);
    if (!c->closed) {
        let_go(c);
        link_reset(&c->link);
    }
}

/* The peer has left. */
void conn_gone(struct conn *c)
{
    if (c->closed) {
        return;
    }
    record_mark(c->record, T_CLOSED);
    tally_leave(&c->server->tally, &c->mark);
    if (c->head_seen && !c->answered && !c->control) {
        if (c->record != NULL) {
            c->record->closed_early = true;
        }
        conn_count(c, &c->server->book.closed);
    }
    conn_close(c);
}

/* Whether all the peer has sent so far has been read, as far as one can know. */
static bool all_read(struct conn *c)
{
    bool whole = c->head_seen ? c->req.state == REQUEST_DONE : c->req.state != REQUEST_BAD;

    return whole && !link_unread(&c->link);
}

/* Our FIN. A close with bytes unread would be a reset, so those are read first. */
void conn_finish(struct conn *c, bool notify)
{
    conn_answered(c);
    if (notify) {
        link_notify(&c->link);
    }
    if (c->closed) {
        return;
    }
    if (all_read(c)) {
        conn_close(c);
        return;
    }
    player_unload(&c->player);
    c->state = CONN_LINGER;
    link_half_close(&c->link);
    link_resume(&c->link);
}
