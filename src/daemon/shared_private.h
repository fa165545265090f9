/* What the parts of the shared view know of each other: its state, its scripts, its words. */
#ifndef RETRYD_DAEMON_SHARED_PRIVATE_H
#define RETRYD_DAEMON_SHARED_PRIVATE_H

#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/list.h"
#include "base/str.h"
#include "daemon/shared.h"
#include "edge/redis.h"

/* The scripts, in Lua. Each takes the time from the server, so that the daemons' clocks play no part. */
enum shared_script {
    SHARED_TELL,   /* keys: set; words: gate|open|closed, ID, ms, FROM, channel */
    SHARED_RECALL, /* keys: gates, breakers; words: channel to tell them on */
    SHARED_RATE,   /* keys: the upstream's; words: us to add. Answers us ahead of now */
    SHARED_SCRIPTS,
};
extern const struct str shared_scripts[SHARED_SCRIPTS];

/* Why the view is lost. */
enum shared_cause {
    SHARED_FINE,
    SHARED_NO_ADDRESS,
    SHARED_NO_CONNECTION,
    SHARED_LOST,
    SHARED_SILENT,
    SHARED_NO_REDIS, /* something else answers */
    SHARED_NO_MEMORY,
    SHARED_FULL,     /* the server takes no more connections */
    SHARED_GUARDED,  /* the server takes only those from its own machine */
    SHARED_NO_LOGIN, /* it wants a password */
    SHARED_LOGIN,    /* it does not want this one */
    SHARED_FORBIDDEN,
    SHARED_LOADING,
    SHARED_BUSY,
    SHARED_REPLICA,
    SHARED_CLUSTER,
    SHARED_FOREIGN, /* another program's keys have the names of ours */
    SHARED_SERVER_MEMORY,
    SHARED_UNSAVED, /* it cannot write to its disk, and takes nothing more */
    SHARED_OTHER,
    SHARED_CAUSES,
};

/* What a refusal means; SHARED_OTHER where its words must do. */
enum shared_cause shared_cause_of_refusal(struct str words);
enum shared_cause shared_cause_of_end(enum redis_end end);

/* Says it to a person, cut where `size` ends. `detail`: the server's words, or the system's. */
void shared_explain(enum shared_cause cause, const char *address, struct str detail, char *space,
                    size_t size);

#define SHARED_MAGIC 0x73686172u
#define SHARED_NAME_BYTES (SHARED_PREFIX_MAX + 40)
#define SHARED_HEX_BYTES 17

/*                          retry timer           recalled
 *      AWAY  <-------+  ------------->  JOINING  -------->  UP
 *                    |                     |                |
 *                    +------- lost --------+----------------+       any -> CLOSED: shared_close */
enum shared_state {
    SHARED_AWAY,    /* no connection; the retry timer runs */
    SHARED_JOINING, /* two connections: being made, logging in, hearing what is in force */
    SHARED_UP,
    SHARED_CLOSED,
};

/* One of the two connections. A subscriber may say nothing else, so there is one for each. */
struct shared_line {
    struct shared *shared;
    struct redis *redis; /* NULL while AWAY */
    unsigned steps_left; /* answers it waits for before it is ready */
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
    char self[SHARED_HEX_BYTES]; /* a random number: our own news come back, and are known by it */
    char sha[SHARED_SCRIPTS][41];

    struct shared_line commands, hearing;
    uv_timer_t retry, pace;
    unsigned open_timers;
    unsigned tries; /* in a row that led nowhere */
    uint64_t up_since_ms;

    struct list untold, unanswered; /* of struct news */
    size_t untold_count, unanswered_count;
    struct list upstreams; /* of struct upstream */
    size_t upstream_count;

    enum shared_cause cause; /* of the last loss; FINE while UP */
    enum shared_cause told;  /* the one that a person was told of in this outage */
    bool been_up;
    uint64_t told_ms[SHARED_CAUSES];
    char why[320];
    struct shared_counts counts;
};

/* The id as 16 hexadecimal digits. */
struct str shared_hex(uint64_t id, char space[SHARED_HEX_BYTES]);

/* Ends both connections, for the server has said no, or something that is no answer; another try
 * follows. */
void shared_refused(struct shared *s, const struct redis_reply *a);

/* Runs a script: by its hash, or with its text where the server does not know that any more. The
 * first of the words are `keys` keys. 0 or as redis_send. */
int shared_run(struct shared *s, enum shared_script script, bool with_text, unsigned keys,
               size_t count, const struct str words[], redis_reply_fn *reply, void *tag);

/* Whether the answer says that the server has forgotten the script. */
bool shared_script_unknown(const struct redis_reply *a);

/* shared_news.c: tells what waits; takes back what has no answer, for the next time; hears. */
void shared_news_flush(struct shared *s);
void shared_news_take_back(struct shared *s);
void shared_news_forget(struct shared *s);
void shared_news_hear(struct shared *s, struct str text);

/* shared_rate.c */
void shared_rate_forget(struct shared *s);

#endif
