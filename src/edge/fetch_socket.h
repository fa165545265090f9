/* The sockets under libcurl's connections, watched for as long as they live.
 *
 * libcurl asks for a poll handle per transfer and forgets it in between; here the handle stays with
 * the socket, which saves two epoll_ctl a request, and an idle connection stays watched: one that
 * becomes readable while nothing is asked of it is closed by its peer or dirty, and is shut down at
 * once, so that libcurl finds it dead and never takes its bytes for an answer. */
#ifndef RETRYD_EDGE_FETCH_SOCKET_H
#define RETRYD_EDGE_FETCH_SOCKET_H

#include <stdbool.h>
#include <uv.h>

#include "base/list.h"

#define SOCKET_BUCKETS 256

struct socket_table;

/* Where a connection begins and ends. Only the two together name it: Linux gives one local port to
 * several connections, as long as their peers differ. */
struct fetch_socket_end {
    int family;
    int port;
    unsigned char ip[16]; /* IPv4: the first four */
};
struct socket_ends {
    struct fetch_socket_end local, peer;
};

struct fetch_socket {
    uv_poll_t poll;
    struct list node; /* in its table's bucket by local port, or in `unsorted` */
    struct socket_table *table;
    int fd;
    struct socket_ends ends; /* set while it is in a bucket */
    int wanted;              /* libuv events asked for; 0: idle */
    int armed;               /* libuv events the loop watches now */
    bool opened_here;
    bool is_unix; /* it has no port to be known by, and is in the table's `noise` */
    bool discarded;
    bool may_speak_idle; /* HTTP/2: frames on an idle connection are normal */
    bool reset_owed;     /* HTTP/2: a stream was given up, and its server may not know yet */
    unsigned uses;       /* requests sent on it */
    unsigned busy;       /* requests on it now */
    unsigned silence_ms; /* what fetch_socket_bound_silence has set; 0: nothing */
    uint64_t serial;     /* fds come again, serials do not */
};

struct socket_table {
    uv_loop_t *loop;
    struct fetch_socket **by_fd;
    int size;
    uint64_t serials;
    int noise; /* epoll: Unix sockets on which something has come since it was asked last; -1 */
    struct list unsorted;
    struct list buckets[SOCKET_BUCKETS];
    void (*on_ready)(void *arg, int fd, int events, bool error);
    void (*on_idle_noise)(void *arg);
    void *arg;
};

/* `on_ready`: a wanted event. `on_idle_noise`: an idle socket was thrown away. */
void fetch_sockets_init(struct socket_table *t, uv_loop_t *loop,
                        void (*on_ready)(void *arg, int fd, int events, bool error),
                        void (*on_idle_noise)(void *arg), void *arg);
void fetch_sockets_deinit(struct socket_table *t); /* all sockets have been removed */

/* A socket opened by us, of that family. 0 or -errno. */
int fetch_socket_add(struct socket_table *t, int fd, int family);
/* Before its fd is closed. */
void fetch_socket_remove(struct socket_table *t, int fd);

/* The entry of `fd`; one that libcurl opened itself (its resolver's wake-up) is added. NULL when
 * out of memory. */
struct fetch_socket *fetch_socket_of(struct socket_table *t, int fd);

/* Which socket a request went out on; survives the socket. */
struct socket_ref {
    int fd;
    uint64_t serial; /* 0: none */
};

/* A request goes out on it, and is over. Between the two the socket is not idle, even while libcurl
 * wants nothing of it. */
struct socket_ref fetch_socket_begin(struct fetch_socket *s);
void fetch_socket_end(struct socket_table *t, struct socket_ref ref);

/* Has the kernel give the TCP connection up, with ETIMEDOUT, when its peer acknowledges nothing for so
 * long: what was sent, or that it is still there. An answer may take its time. The longest of those
 * who are on it counts. Not before it has connected, which has a limit of its own. */
void fetch_socket_bound_silence(struct fetch_socket *s, unsigned ms);

/* The socket, if it is still there. */
struct fetch_socket *fetch_socket_deref(struct socket_table *t, struct socket_ref ref);

/* Watches for `events` (UV_READABLE, UV_WRITABLE); 0: idle. 0 or -1. */
int fetch_socket_want(struct fetch_socket *s, int events);

/* The entry of `fd`; NULL where there is none. */
struct fetch_socket *fetch_socket_by_fd(struct socket_table *t, int fd);

/* The connection between these two, as libcurl writes them; NULL where there is none. */
struct fetch_socket *fetch_socket_by_ends(struct socket_table *t, const char *local_ip,
                                          int local_port, const char *peer_ip, int peer_port);

/* Whether a kept connection has bytes or an end waiting that nobody asked for. */
bool fetch_socket_dirty(const struct fetch_socket *s);
/* The same of any idle Unix socket; those that are have been discarded. However many there are, this is one
 * system call, and one more where each request ends: edges are told of (epoll(7), EPOLLET), and what came
 * before a socket became idle is looked for then. */
bool fetch_sockets_any_dirty(struct socket_table *t);

/* Empties and shuts the connection down, so that libcurl finds it dead. */
void fetch_socket_discard(struct fetch_socket *s);

void fetch_socket_close_fd(int fd);

#endif
