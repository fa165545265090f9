/* The parts of a connection that redis.c and redis_connect.c share. */
#ifndef RETRYD_EDGE_REDIS_PRIVATE_H
#define RETRYD_EDGE_REDIS_PRIVATE_H

#include "base/list.h"
#include "edge/redis.h"

#define REDIS_MAGIC 0x72656469u
#define REDIS_HOST_MAX 256

struct redis_reader; /* wraps hiredis; private to redis.c */

enum redis_phase { REDIS_CONNECTING, REDIS_LIVE, REDIS_DEAD, REDIS_CLOSED };

struct redis {
    unsigned magic;
    enum redis_phase phase;
    uv_loop_t *loop;
    struct redis_handler handler;

    char host[REDIS_HOST_MAX]; /* a name, an address, or the path of a Unix socket */
    int port;                  /* 0 for a Unix socket */
    uv_getaddrinfo_t resolving;
    bool is_resolving;
    struct addrinfo *addresses;
    const struct addrinfo *next; /* the next address to try */
    int connect_error;           /* of the last address tried */

    uv_connect_t connecting;
    union {
        uv_tcp_t tcp;
        uv_pipe_t pipe;
        uv_stream_t stream;
        uv_handle_t handle;
    } way;
    bool way_open;
    uv_timer_t timer;
    unsigned open_handles; /* libuv handles that are not closed yet */

    struct list awaited;
    size_t awaited_count;
    int write_error;  /* reported by the timer; 0 if none */
    bool ping_failed; /* the last PING failed for lack of memory */
    bool begun;       /* redis_connect was called */
    bool late;        /* a reply is overdue, but a busy loop may not have read it yet */
    struct redis_reader *reader;
    char space[16 * 1024];
};

/* Parses an address. For a Unix socket `host` is its path and the port is 0. Returns 0 or
 * -EINVAL. */
int redis_address_parse(const char *text, char host[REDIS_HOST_MAX], int *ret_port);

/* Resolves the name and connects. A call of redis_connected or redis_die follows. */
void redis_connect(struct redis *r);
void redis_connected(struct redis *r);

/* Reports that the connection is dead. Does nothing if it is already dead or closed. */
void redis_die(struct redis *r, enum redis_end end, int error);

/* Frees the memory if the connection is closed and libuv no longer uses any part of it. */
void redis_free_if_over(struct redis *r);

#endif
