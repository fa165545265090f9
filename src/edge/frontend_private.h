/* State and functions that the frontend's files share. */
#ifndef RETRYD_EDGE_FRONTEND_PRIVATE_H
#define RETRYD_EDGE_FRONTEND_PRIVATE_H

#include <microhttpd.h>

#include "base/list.h"
#include "edge/frontend.h"

#define REQUEST_MAGIC 0x66726571u

/* Memory per connection, which also limits the headers and a chunk line; HAProxy's buffer has the
 * same size. libmicrohttpd zeroes all of it after each request: 32 KiB would cost 2.7 us more. */
#define POOL_BYTES (16 * 1024)
#define OWN_HEADERS_BYTES 1536 /* room for the headers of the frontend's own errors */

struct frontend {
    uv_loop_t *loop;
    const struct frontend_handler *handler;
    void *ctx;
    struct list connections;
    struct list ready; /* connections that libmicrohttpd has something to do for */
    unsigned count, max;
    struct connection *adding; /* the one that libmicrohttpd may take over now */
    uint64_t closed;
    uint64_t headers_ms, idle_ms; /* deadlines of new and of kept connections */
    bool draining;
    void (*wake)(void *arg);
    void *wake_arg;
};

/* A daemon of libmicrohttpd for one connection. A daemon with many connections visits all that wait
 * whenever one of them continues, removes each that waits from its epoll set and adds it again, and
 * frees some late. */
struct client_daemon {
    struct MHD_Daemon *mhd;
    uv_poll_t poll;       /* of the daemon's epoll set */
    struct connection *c; /* NULL once it is closed */
};

/* A client's connection. The frontend watches it for its end, because libmicrohttpd does not report
 * the end of the client's side while a response is under way. */
struct connection {
    struct frontend *f;
    struct client_daemon *daemon;
    struct list node, ready;
    uv_poll_t watch;
    uv_timer_t timer;
    uint64_t due_ms;   /* the deadline in the loop's time, or NEVER */
    uint64_t armed_ms; /* when the timer fires: no later than due_ms */
    unsigned handles;  /* libuv handles not closed yet */
    int fd;
    struct frontend_request *current;
    bool known; /* libmicrohttpd has it */
    bool fresh; /* it has sent nothing yet */
    bool gone;
    bool ended;       /* ended to make room: no longer counted */
    uint64_t step_ms; /* when it began, or its last response began or ended */
    uint64_t taken;   /* bytes that the client had read at the last check */
};

struct frontend_request {
    unsigned magic;
    struct frontend *f;
    struct connection *c;
    struct MHD_Connection *mhd;
    struct http_request http;
    const char *uri;               /* the target in libmicrohttpd's memory */
    void *user;                    /* the owner's; NULL if it did not take the request */
    char *origin;                  /* of the page that may read the responses; NULL: none */
    struct MHD_Response *response; /* for libmicrohttpd's next call; NULL: none, or it has it */
    unsigned status;               /* the response's */
    bool preflight;                /* a CORS preflight, to which the frontend responds */
    size_t headers_room; /* bytes of the connection's memory left for the response's headers */
    size_t body_there;   /* the part of them that the body may occupy until it is taken */
    bool is_head;
    bool http_1_0;
    bool started;   /* the first handler call was made */
    bool complete;  /* on_complete was called */
    bool responded; /* there is a response */
    bool is_whole;  /* ... with all of its body */
    bool passed;    /* ... and the kernel has all of it */
    bool sent_raw;  /* the response was written straight to the socket: nothing may follow */
    bool waits;     /* it waits for its owner: libmicrohttpd is not run for it */
    bool held_back; /* ... amid its body, which its owner cannot take now */
    bool cut;
    bool lean;        /* a stream's buffer has no pages to give back */
    unsigned refused; /* status to respond with once the body has been dropped */
    const char *why;
    char *why_text;          /* if `why` is no literal */
    uint64_t stall_ms;       /* time after which a client that reads nothing is cut off; 0: never */
    uint64_t pulled;         /* bytes of a streamed response handed to libmicrohttpd */
    uint64_t content_length; /* a copy from struct http_request, which the owner may take */
    uint64_t body_bytes;
    uint64_t body_mark;   /* body_bytes at the last rate check */
    uint64_t body_due_ms; /* when the next rate check is due, in the loop's time */
    /* body_bytes at the last look; looks are more frequent than rate checks. */
    uint64_t body_seen;
    bool body_unread;    /* at that look no bytes had been read, although some were waiting */
    uint64_t body_limit; /* the longest body that chunks may add up to */
    uint64_t refused_at; /* body_bytes when it was refused */
};

/* Ends the request: notifies its owner and frees `r`. */
void frontend_over(struct frontend_request *r, bool whole);

/* Makes the next iteration run libmicrohttpd for the connection. */
void frontend_ready(struct connection *c);

/* Stops running libmicrohttpd for the request, until frontend_wake or news from the client. */
void frontend_wait(struct frontend_request *r);

/* Creates one for a new connection. NULL if out of memory or of descriptors. */
struct client_daemon *frontend_daemon_new(struct frontend *f);
/* Frees it after its connection is closed. Must not be called in a callback of libmicrohttpd. */
void frontend_daemon_free(struct client_daemon *daemon);

/* Computes the room that the request's headers leave for the response's headers. */
void frontend_measure_room(struct frontend_request *r);
/* Responds to a CORS preflight. */
enum MHD_Result frontend_respond_preflight(struct frontend_request *r);
/* Responds with an error of the frontend's own, in the first or the last handler call. */
enum MHD_Result frontend_refuse(struct frontend_request *r, unsigned status, const char *why);
/* Does the same amid the body, when libmicrohttpd accepts no response. Ends the connection. */
void frontend_refuse_now(struct frontend_request *r, unsigned status, const char *why);

/* Handles the begin or end of a connection (MHD_NotifyConnectionCallback). */
void frontend_connection_notify(void *cls, struct MHD_Connection *mhd, void **socket_context,
                                enum MHD_ConnectionNotificationCode code);

/* Forgets a connection that libmicrohttpd has closed. */
void frontend_connection_drop(struct connection *c);

/* Refuses a client whose first bytes are TLS. Call it before libmicrohttpd reads a new
 * connection. */
void frontend_connection_look_for_tls(struct connection *c);

/* The headers are complete: from now on the body must keep coming. */
void frontend_connection_expect_body(struct connection *c);
/* The request is complete: no deadline until its response begins. */
void frontend_connection_expect_nothing(struct connection *c);
/* The response begins: from now on the client must keep reading it. */
void frontend_connection_expect_taking(struct connection *c);
/* Shuts the connection down: libmicrohttpd notices and frees it unless it waits. The kernel still
 * sends the part of the response that it has. */
void frontend_connection_shut(struct connection *c);
/* Resets the connection, so that the client can tell a break from an end even without framing. */
void frontend_connection_reset(struct connection *c);
/* The response is complete: waits for the next request. */
void frontend_connection_expect_headers(struct connection *c);

#endif
