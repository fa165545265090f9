/* One connection to a Redis or Valkey server: sends commands, receives replies and messages.
 *
 * Everything happens on one libuv loop, and nothing blocks. hiredis only formats and parses the
 * protocol (RESP2). Its own connections are not used: they abort the program (an assertion) on a
 * reply without a command, and on Debian 12 they miss refused connections and have no timeouts.
 *
 * A connection is tried once. If it cannot be made or is lost, it reports that once and stays dead
 * until redis_close. To try again, open a new one. */
#ifndef RETRYD_EDGE_REDIS_H
#define RETRYD_EDGE_REDIS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/str.h"

struct redis;

enum redis_kind {
    REDIS_IS_TEXT,
    REDIS_IS_REFUSAL, /* an error; the text begins with its code, such as WRONGTYPE */
    REDIS_IS_NUMBER,
    REDIS_IS_LIST,
    REDIS_IS_NOTHING,
};

/* A reply, or an item of one. It is valid only during the callback. */
struct redis_reply {
    enum redis_kind kind;
    struct str text;
    int64_t number;
    size_t count;     /* number of items in a list */
    const void *list; /* private to redis.c */
};

/* Returns item `i` < list->count of a list. */
struct redis_reply redis_item(const struct redis_reply *list, size_t i);

/* The reasons why a connection is dead. */
enum redis_end {
    REDIS_END_ADDRESS, /* the host name has no address */
    REDIS_END_CONNECT, /* the server cannot be connected to */
    REDIS_END_LOST,    /* the server closed or reset the connection */
    REDIS_END_SILENT,  /* a reply did not arrive in time */
    REDIS_END_STRANGE, /* the server does not speak the protocol */
    REDIS_END_MEMORY,  /* retryd is out of memory */
};

/* Callbacks on the loop. None is called from within a function of this module. Each may call
 * redis_close and redis_send. */
struct redis_handler {
    void (*connected)(void *arg); /* commands may be sent from now on */
    /* A message on a channel that the connection has subscribed to. */
    void (*message)(void *arg, struct str text);
    /* The last callback. `error` is libuv's code, or 0. */
    void (*dead)(void *arg, enum redis_end end, int error);
    void *arg;
};

/* Called with the reply to a command, in the order of the commands. `tag` is the one given to
 * redis_send. It is not called for commands without a reply when the connection dies or is
 * closed. */
typedef void redis_reply_fn(void *arg, void *tag, const struct redis_reply *r);

#define REDIS_REPLY_MS 1000 /* the connection is dead if a reply takes longer */
/* The connection is dead if connecting takes longer, including name resolution. */
#define REDIS_CONNECT_MS 3000
#define REDIS_PING_MS 500 /* interval at which an unused connection sends a PING */

/* Checks an address: host, host:port, v4, v4:port, [v6], [v6]:port or unix:/path. The port is 6379
 * by default. Returns 0 or -EINVAL. */
int redis_address_check(const char *address);

/* Starts to connect. Copies the handler. Returns NULL if out of memory or for an invalid
 * address. */
struct redis *redis_open(uv_loop_t *loop, const char *address, const struct redis_handler *handler);

/* Closes the connection; no callback follows. The loop frees the memory a little later. `r` may be
 * NULL. */
void redis_close(struct redis *r);

/* Sends a command of `argc` <= REDIS_ARGS_MAX words. `reply` may be NULL. The words are wiped from
 * memory once they are sent, because one may be a password. Returns 0, -ENOMEM, or -ENOTCONN if the
 * connection is dead or not yet connected. */
#define REDIS_ARGS_MAX 12
int redis_send(struct redis *r, size_t argc, const struct str argv[], redis_reply_fn *reply,
               void *tag);

/* Returns the number of commands without a reply so far. */
size_t redis_pending(const struct redis *r);

#endif
