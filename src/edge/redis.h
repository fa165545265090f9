/* One connection to a Redis or Valkey server: commands out, answers and messages in.
 *
 * All of it happens on one libuv loop, and nothing blocks. hiredis writes and reads the protocol
 * (RESP2), and that is all that is asked of it: its own connections end the program on an answer that
 * nothing asked for (an assertion), and on Debian 12 they overlook a connection that was refused
 * and know no time limit.
 *
 * A connection is good for one try: when it could not be made, or is lost, it says so once and
 * stays dead until redis_close. To try again, open another one. */
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
    REDIS_IS_REFUSAL, /* an error: the text begins with its code, as WRONGTYPE */
    REDIS_IS_NUMBER,
    REDIS_IS_LIST,
    REDIS_IS_NOTHING,
};

/* An answer, or an item of one. It is valid during the call that brings it. */
struct redis_reply {
    enum redis_kind kind;
    struct str text;
    int64_t number;
    size_t count;     /* of a list's items */
    const void *list; /* redis.c's own */
};

/* Item `i` < a->count of a list. */
struct redis_reply redis_item(const struct redis_reply *a, size_t i);

/* Why a connection is dead. */
enum redis_end {
    REDIS_END_ADDRESS, /* its name has no address */
    REDIS_END_CONNECT, /* nobody answers there */
    REDIS_END_LOST,    /* closed or broken by the other side */
    REDIS_END_SILENT,  /* no answer in time */
    REDIS_END_STRANGE, /* what answers does not speak the protocol */
    REDIS_END_MEMORY,  /* out of memory on our side */
};

/* Called on the loop, from within no call of these functions. redis_close and redis_send are
 * allowed in each. */
struct redis_handler {
    void (*connected)(void *arg); /* commands may be sent */
    /* A message of a channel that this connection has subscribed to. */
    void (*message)(void *arg, struct str text);
    /* The last call of all. `error` is libuv's code, or 0. */
    void (*dead)(void *arg, enum redis_end end, int error);
    void *arg;
};

/* The answer to one command, in the order of the commands. `tag` is the sender's. Commands that have
 * no answer when the connection dies, or is closed, get none: no call. */
typedef void redis_reply_fn(void *arg, void *tag, const struct redis_reply *a);

#define REDIS_REPLY_MS 1000   /* without an answer for so long the connection is dead */
#define REDIS_CONNECT_MS 3000 /* the same until it is connected, its name's resolution included */
#define REDIS_PING_MS 500 /* how often a connection with nothing to say asks for a sign of life */

/* Whether `address` is host, host:port, v4, v4:port, [v6], [v6]:port or unix:/path: 0, else -EINVAL. The
 * port is 6379 where none is given. */
int redis_address_check(const char *address);

/* Begins to connect. The handler is copied. NULL: out of memory, or no such form of address. */
struct redis *redis_open(uv_loop_t *loop, const char *address, const struct redis_handler *handler);

/* No call follows. The memory is freed on the loop, a little later. NULL is fine. */
void redis_close(struct redis *r);

/* Sends a command of `argc` <= REDIS_ARGS_MAX words once connected. `answer` may be NULL: the answer
 * is of no interest. 0, or -ENOTCONN: not yet connected, or dead; -ENOMEM. The words are wiped from
 * memory when they have been sent, for one may be a password. */
#define REDIS_ARGS_MAX 12
int redis_send(struct redis *r, size_t argc, const struct str argv[], redis_reply_fn *reply,
               void *tag);

/* Commands that have no answer yet. */
size_t redis_pending(const struct redis *r);

#endif
