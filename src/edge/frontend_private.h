/* What the files of the way in share. Private to frontend*.c. */
#ifndef RETRYD_EDGE_FRONTEND_PRIVATE_H
#define RETRYD_EDGE_FRONTEND_PRIVATE_H

#include <microhttpd.h>

#include "base/list.h"
#include "edge/frontend.h"

#define REQUEST_MAGIC 0x66726571u

/* Per connection; also the limit of a head and of a chunk, as large as HAProxy's. libmicrohttpd
 * zeroes all of it after each request: 32 KiB cost 2.7 us more. */
#define POOL_BYTES (16 * 1024)
#define OWN_HEADERS_BYTES 1536 /* of the head of an error of ours */

struct frontend {
    uv_loop_t *loop;
    const struct frontend_handler *handler;
    void *ctx;
    struct MHD_Daemon *daemon;
    uv_poll_t poll;
    struct list connections;
    struct list fresh; /* ... that have sent nothing yet */
    unsigned count;
    uint64_t closed;
    uint64_t headers_ms, idle_ms; /* deadlines of new and of kept connections */
    bool dirty;
    bool draining;
    void (*wake)(void *arg);
    void *wake_arg;
};

/* The client's end of a connection: watched by us, since a suspended one is not by libmicrohttpd. */
struct connection {
    struct frontend *f;
    struct list node, fresh;
    uv_poll_t watch;
    uv_timer_t timer;
    uint64_t due_ms;   /* when what is expected is overdue, in the loop's time */
    uint64_t armed_ms; /* when the timer fires: not later than that */
    unsigned handles;  /* libuv handles not closed yet */
    int fd;
    struct frontend_request *current;
    bool gone;
    bool ended;       /* to make room: it counts no more */
    uint64_t step_ms; /* when it came, or its last answer began or ended */
    uint64_t taken;   /* how far the client had come with its answer at the last check */
};

struct frontend_request {
    unsigned magic;
    struct frontend *f;
    struct connection *c;
    struct MHD_Connection *mhd;
    struct http_request http;
    const char *uri;     /* the target in libmicrohttpd's memory */
    void *user;          /* the owner's; NULL when it never saw the request */
    char *origin;        /* of the page that may read its answers; NULL: the client is no page */
    bool preflight;      /* it asks what it may send, and is told so here */
    size_t headers_room; /* bytes of the connection's memory that are left for the answer's head */
    size_t body_there;   /* ... and at most so many of them may be in use until the body is taken */
    bool is_head;
    bool http_1_0;
    bool started;  /* the first handler call has been */
    bool complete; /* on_complete was called */
    bool answered; /* a response is queued */
    bool said;     /* answered straight through the socket: nothing may follow */
    bool suspended;
    bool held_back; /* ... amid its body, which its owner cannot take now */
    bool cut;
    unsigned refused; /* status to answer with once the body has been swallowed */
    const char *why;
    char why_text[512];
    uint64_t stall_ms; /* the client takes something of its answer in each such time; 0: never */
    uint64_t pulled;   /* bytes of a streamed answer handed to libmicrohttpd */
    uint64_t told; /* length of the body, as in struct http_request; its owner may take the head */
    uint64_t body_bytes;
    uint64_t body_mark;   /* body_bytes at the last check */
    uint64_t body_due_ms; /* when the next check is, in the loop's time */
    uint64_t body_seen;   /* body_bytes at the last look, of which there are many between checks */
    bool body_unread;     /* ... when none had come since the one before, and some waited */
    uint64_t body_limit;  /* for its chunks */
    uint64_t refused_at;  /* body_bytes when it was refused */
};

/* The request is over: its owner hears of it, and `r` is gone. */
void frontend_over(struct frontend_request *r, bool whole);

/* libmicrohttpd has something to do: a turn must follow. */
void frontend_dirty(struct frontend *f);

/* Takes the connection out of libmicrohttpd's sight, and puts it back. */
void frontend_suspend(struct frontend_request *r);
void frontend_resume(struct frontend_request *r);

/* Reckons how much room the request's head leaves for the head of its response. */
void frontend_measure_room(struct frontend_request *r);
/* Answers a page that asks what it may send. */
enum MHD_Result frontend_respond_preflight(struct frontend_request *r);
/* Answers with an error of ours, in the first call or the last. */
enum MHD_Result frontend_refuse(struct frontend_request *r, unsigned status, const char *why);
/* The same amid the body, when libmicrohttpd takes no response. Nothing else follows it. */
void frontend_refuse_now(struct frontend_request *r, unsigned status, const char *why);

/* A connection of libmicrohttpd's has come or gone (MHD_NotifyConnectionCallback). */
void frontend_connection_notify(void *cls, struct MHD_Connection *mhd, void **socket_context,
                                enum MHD_ConnectionNotificationCode code);

/* Before libmicrohttpd reads: clients whose first bytes are TLS are told that it is not spoken here. */
void frontend_connection_look_at_fresh(struct frontend *f);

/* The head is in: from now on the body must keep coming. */
void frontend_connection_expect_body(struct connection *c);
/* The request is in: its answer may take its time. */
void frontend_connection_expect_nothing(struct connection *c);
/* The answer goes out: from now on the client must keep taking it. */
void frontend_connection_expect_taking(struct connection *c);
/* Ends it: libmicrohttpd sees that, unless it is suspended, and reaps it. What the kernel has of its
 * answer still goes out. */
void frontend_connection_shut(struct connection *c);
/* Ends it so that the client can tell a break from an end, even without any framing. */
void frontend_connection_reset(struct connection *c);
/* The answer is out: the next head is waited for. */
void frontend_connection_expect_headers(struct connection *c);

#endif
