/* What redis.c and redis_connect.c know of one connection. */
#ifndef RETRYD_EDGE_REDIS_PRIVATE_H
#define RETRYD_EDGE_REDIS_PRIVATE_H

#include "base/list.h"
#include "edge/redis.h"

#define REDIS_MAGIC 0x72656469u
#define REDIS_HOST_MAX 256

struct redis_reader; /* hiredis', which redis.c alone knows */

enum redis_phase { REDIS_CONNECTING, REDIS_LIVE, REDIS_DEAD, REDIS_CLOSED };

struct redis {
    unsigned magic;
    enum redis_phase phase;
    uv_loop_t *loop;
    struct redis_handler handler;

    char host[REDIS_HOST_MAX]; /* a name or an address; the path of a Unix socket */
    int port;                  /* 0: a Unix socket */
    uv_getaddrinfo_t resolving;
    bool is_resolving;
    struct addrinfo *addresses;
    const struct addrinfo *next; /* to be tried when the one before it does not answer */
    int connect_error;           /* of the last one that was tried */

    uv_connect_t connecting;
    union {
        uv_tcp_t tcp;
        uv_pipe_t pipe;
        uv_stream_t stream;
        uv_handle_t handle;
    } way;
    bool way_open;
    uv_timer_t timer;
    unsigned open_handles; /* that libuv still knows */

    struct list awaited;
    size_t awaited_count;
    int write_error;  /* that the timer is to tell; 0 */
    bool ping_failed; /* for want of memory, the last time */
    bool begun;
    bool late; /* an answer is overdue; the loop may have been kept from reading it */
    struct redis_reader *reader;
    char space[16 * 1024];
};

/* Reads an address: 0 or -EINVAL. Port 0: `host` is the path of a Unix socket. */
int redis_address_parse(const char *text, char host[REDIS_HOST_MAX], int *ret_port);

/* Begins with the resolution of the name. redis_connected or redis_die follows. */
void redis_connect(struct redis *r);
void redis_connected(struct redis *r);

/* Says once that the connection is dead. Nothing where it is already, or closed. */
void redis_die(struct redis *r, enum redis_end end, int error);

/* Frees the memory, if it is closed and libuv holds no part of it any more. */
void redis_free_if_over(struct redis *r);

#endif
