/* The sockets of libcurl's connections, each watched for as long as it exists.
 *
 * libcurl asks for a poll handle per transfer and drops it in between. Here the handle stays with
 * the socket, which saves two epoll_ctl calls per request and keeps idle connections watched. An
 * idle connection that becomes readable is closed by its peer or dirty. It is shut down at once, so
 * that libcurl finds it dead and never takes its bytes for a response. */
#ifndef RETRYD_EDGE_FETCH_SOCKET_H
#define RETRYD_EDGE_FETCH_SOCKET_H

#include <stdbool.h>
#include <uv.h>

#include "base/list.h"

#define SOCKET_BUCKETS 256

struct socket_table;

/* One end of a connection. Only both ends together identify it, because Linux gives one local port
 * to several connections if their peers differ. */
struct fetch_socket_end {
    int family;
    int port;
    unsigned char ip[16]; /* IPv4: the first four bytes */
};
struct socket_ends {
    struct fetch_socket_end local, peer;
};

struct fetch_socket {
    uv_poll_t poll;
    struct list node; /* in its table's bucket by local port, or in `unsorted` */
    struct socket_table *table;
    int fd;
    struct socket_ends ends; /* set while the socket is in a bucket */
    int wanted;              /* libuv events that libcurl waits for; 0: idle */
    int armed;               /* libuv events that the loop watches now */
    bool opened_here;        /* by fetch_open_socket, not by libcurl itself */
    bool discarded;
    bool may_speak_idle; /* HTTP/2: frames on an idle connection are normal */
    bool reset_owed;     /* HTTP/2: a stream was cancelled, and its reset may not be sent yet */
    unsigned uses;       /* requests sent on it so far */
    unsigned busy;       /* requests on it now */
    unsigned silence_ms; /* set by fetch_socket_bound_silence; 0: not set */
    uint64_t serial;     /* unique, while file descriptors are reused */
};

struct socket_table {
    uv_loop_t *loop;
    struct fetch_socket **by_fd;
    int size;
    uint64_t serials;
    struct list unsorted;
    struct list buckets[SOCKET_BUCKETS];
    void (*on_ready)(void *arg, int fd, int events, bool error);
    void (*on_idle_noise)(void *arg);
    void *arg;
};

/* `on_ready` is called for a wanted event, `on_idle_noise` when an idle socket was discarded. */
void fetch_sockets_init(struct socket_table *t, uv_loop_t *loop,
                        void (*on_ready)(void *arg, int fd, int events, bool error),
                        void (*on_idle_noise)(void *arg), void *arg);
void fetch_sockets_deinit(struct socket_table *t);

/* Adds a socket that retryd has opened. Returns 0 or -errno. */
int fetch_socket_add(struct socket_table *t, int fd);
/* Removes a socket. Call it before its fd is closed. */
void fetch_socket_remove(struct socket_table *t, int fd);

/* Returns the entry of `fd`. If there is none, libcurl has opened the socket itself (the wake-up of
 * its resolver), and it is added. Returns NULL if out of memory. */
struct fetch_socket *fetch_socket_of(struct socket_table *t, int fd);

/* Identifies the socket that a request was sent on. It may outlive the socket. */
struct socket_ref {
    int fd;
    uint64_t serial; /* 0: none */
};

/* Mark the begin and the end of a request on a socket. In between the socket is not idle, even if
 * libcurl waits for no event. */
struct socket_ref fetch_socket_begin(struct fetch_socket *s);
void fetch_socket_end(struct socket_table *t, struct socket_ref ref);

/* Makes the kernel end the TCP connection with ETIMEDOUT if its peer acknowledges neither data nor
 * keep-alive probes for `ms`. A response may still take any time. If several requests share the
 * connection, the longest time applies. Must not be called before the socket has connected, because
 * the connect timeout applies until then. */
void fetch_socket_bound_silence(struct fetch_socket *s, unsigned ms);

/* Returns the socket, or NULL if it is gone. */
struct fetch_socket *fetch_socket_deref(struct socket_table *t, struct socket_ref ref);

/* Watches for `events` (UV_READABLE, UV_WRITABLE); 0 makes the socket idle. Returns 0 or -1. */
int fetch_socket_want(struct fetch_socket *s, int events);

/* Returns the connection between two addresses in the form that libcurl gives them, or NULL. */
struct fetch_socket *fetch_socket_by_ends(struct socket_table *t, const char *local_ip,
                                          int local_port, const char *peer_ip, int peer_port);

/* Whether an idle connection has unexpected bytes or is closed. */
bool fetch_socket_dirty(const struct fetch_socket *s);
/* Drains and shuts down the connection, so that libcurl finds it dead. */
void fetch_socket_discard(struct fetch_socket *s);

#endif
