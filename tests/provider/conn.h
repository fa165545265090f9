/* One connection: reads requests, has them answered, notices when the peer leaves. */
#ifndef PROVIDER_CONN_H
#define PROVIDER_CONN_H

#include "link.h"
#include "player.h"
#include "server.h"

/*
 *            ┌──────────────────────────────────────────┐
 *   READ ──> ANSWER ──> DRAIN (a body nobody wanted) ───┤      any ──> closed
 *    │ ^        └──> LINGER (FIN sent, bytes to come)   │
 *    │ └────────────────────────────────────────────────┘
 *    └──> WAIT (a control request that waits) ──> READ         MUTE: never answers
 */
enum conn_state { CONN_READ, CONN_ANSWER, CONN_DRAIN, CONN_LINGER, CONN_WAIT, CONN_MUTE };

/* What a control request waits for: *counter == count, or >= count. */
struct waiter {
    const uint64_t *counter;
    uint64_t count;
    bool exactly;
};

struct conn {
    struct link link; /* first: link callbacks cast back */
    uv_timer_t timer;
    unsigned handles;
    enum conn_state state;
    struct server *server;
    struct conn *prev;
    struct conn *next;
    uint64_t id;
    uint64_t n_requests;
    struct request req;
    struct buf in; /* read, but not yet looked at */
    struct player player;
    struct record *record; /* of the current or the last request */
    struct waiter waiter;
    struct tally_mark mark; /* of the current request */
    uint64_t epoch;
    double t_first;
    bool control;
    bool closed;
    bool feeding;
    bool began;     /* the first byte of a request is in */
    bool head_seen; /* its head is in */
    bool answered;  /* its response is complete */
    bool told_to_continue;
    bool draining; /* reads on during a response that was given at the head */
};

void conn_accept(struct server *s, uv_stream_t *stream, bool is_pipe, SSL_CTX *ctx);
void conn_close(struct conn *c);
/* RST. */
void conn_reset(struct conn *c);
/* The peer has left. */
void conn_gone(struct conn *c);
/* Our FIN, after the close_notify of TLS if notify. It may first have to read what comes. */
void conn_finish(struct conn *c, bool notify);
/* Drops one of the two handles that keep it; the last frees it. */
void conn_unref(struct conn *c);
/* Plays on where something was held, now that it is not. */
void conn_release(struct conn *c);
/* The response is complete, or as complete as the script wants it. */
void conn_answered(struct conn *c);
/* Counts for the epoch of the current request: one of before the last clear counts no more. */
void conn_count(struct conn *c, uint64_t *counter);
/* Something that a test may be waiting for has changed. */
void conn_changed(struct conn *c);
struct conn *conn_next_in_list(struct conn *c);
/* Answers a control request and reads on. */
void conn_reply(struct conn *c, int status, const char *body, size_t len);

#endif
