/* State and functions that the files of the shared view have in common. */
#ifndef RETRYD_DAEMON_SHARED_PRIVATE_H
#define RETRYD_DAEMON_SHARED_PRIVATE_H

#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/list.h"
#include "base/str.h"
#include "daemon/shared.h"
#include "edge/redis.h"

/* The Lua scripts. Each takes the time from the server, so that the daemons' clocks do not
 * matter. */
enum shared_script {
    SHARED_REPORT, /* keys: set; arguments: gate|open|closed, ID, ms, FROM, channel */
    SHARED_RECALL, /* keys: gates, breakers; argument: channel to publish them on */
    SHARED_RATE,   /* keys: the upstream's; argument: us to add. Returns us ahead of now */
    SHARED_SCRIPTS,
};

/* The causes of a loss of the view. */
enum shared_cause {
    SHARED_FINE,
    SHARED_NO_ADDRESS,
    SHARED_NO_CONNECTION,
    SHARED_LOST,
    SHARED_SILENT,
    SHARED_NO_REDIS, /* the server speaks another protocol */
    SHARED_NO_MEMORY,
    SHARED_FULL,     /* the server accepts no more connections */
    SHARED_GUARDED,  /* the server accepts local connections only (protected mode) */
    SHARED_NO_LOGIN, /* the server wants a password */
    SHARED_LOGIN,    /* the server rejects this password */
    SHARED_FORBIDDEN,
    SHARED_LOADING,
    SHARED_BUSY,
    SHARED_REPLICA,
    SHARED_CLUSTER,
    SHARED_FOREIGN, /* another program uses the same key names */
    SHARED_SERVER_MEMORY,
    SHARED_UNSAVED, /* the server cannot save to disk and refuses writes */
    SHARED_OTHER,
    SHARED_CAUSES,
};

#define SHARED_MAGIC 0x73686172u
#define SHARED_NAME_BYTES (SHARED_PREFIX_MAX + 40)
#define SHARED_HEX_BYTES 17

/*                          retry timer           recalled
 *      AWAY  <-------+  ------------->  JOINING  -------->  UP
 *                    |                     |                |
 *                    +------- lost --------+----------------+       any -> CLOSED: shared_close */
enum shared_state {
    SHARED_AWAY,    /* not connected; the retry timer runs */
    SHARED_JOINING, /* opening both connections, logging in, recalling the news in force */
    SHARED_UP,
    SHARED_CLOSED,
};

/* One of the two connections. A subscriber may send no other commands, so commands have their
 * own. */
struct shared_line {
    struct shared *shared;
    struct redis *redis; /* NULL while AWAY */
    unsigned steps_left; /* replies still expected before it is ready */
};

struct shared {
    unsigned magic;
    enum shared_state state;
    uv_loop_t *loop;
    struct shared_handler handler;
    char *address;
    char *user;
    struct secret *password; /* NULL: none */

    char prefix[SHARED_PREFIX_MAX + 1];
    char gates[SHARED_NAME_BYTES], breakers[SHARED_NAME_BYTES]; /* keys */
    char channel[SHARED_NAME_BYTES], own_channel[SHARED_NAME_BYTES];
    char self[SHARED_HEX_BYTES]; /* a random number that marks this daemon's news */
    char sha[SHARED_SCRIPTS][41];

    struct shared_line commands, hearing;
    uv_timer_t retry, pace;
    unsigned open_timers;
    unsigned tries; /* consecutive failures to connect */
    uint64_t up_since_ms;

    struct list unsent, unconfirmed; /* of struct shared_news */
    size_t unsent_count, unconfirmed_count;
    struct list upstreams; /* of struct counted */
    size_t upstream_count;

    enum shared_cause cause;  /* of the last loss; SHARED_FINE while UP */
    enum shared_cause logged; /* the last one logged in this outage */
    bool been_up;
    uint64_t logged_ms[SHARED_CAUSES];
    char why[320];
    struct shared_counts counts;
};

/* Writes the id as 16 hexadecimal digits. */
struct str shared_hex(uint64_t id, char space[SHARED_HEX_BYTES]);

/* The server refused, or its reply is malformed: ends both connections and schedules a retry. */
void shared_refused(struct shared *s, const struct redis_reply *a);

/* Runs a script by its hash, or by its text if the server has forgotten it. The first `keys` of the
 * words are keys. Returns the same as redis_send. */
int shared_run(struct shared *s, enum shared_script script, bool with_text, unsigned keys,
               size_t count, const struct str words[], redis_reply_fn *reply, void *tag);

/* Whether the reply says that the server has forgotten the script. */
bool shared_script_unknown(const struct redis_reply *a);

/* shared_news.c: sends queued news; queues unconfirmed news again; reads a message; forgets. */
void shared_news_flush(struct shared *s);
void shared_news_take_back(struct shared *s);
void shared_news_forget(struct shared *s);
void shared_news_hear(struct shared *s, struct str text);
void shared_rate_forget(struct shared *s);

#endif
