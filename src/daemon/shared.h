/* The shared view: daemons that use one account exchange their news over a Redis or Valkey server
 * ([shared] redis = host:port). They exchange
 *   gates      a target (upstream, model, key) is closed for a number of ms (C19)
 *   breakers   a model (upstream, model) is open for a number of ms, or closed again (C20)
 *   rates      attempts of an upstream with requests_per_minute, which share one GCRA (C22)
 * under hashes of their names (base/hash.h): neither keys nor names leave the daemon.
 *
 * All of it runs on one loop, and no request ever waits for it. News that arises while the server
 * is unreachable is kept as long as it is in force. Attempts are not counted meanwhile: each daemon
 * works with its own view. It reconnects with increasing delays. A daemon that joins or rejoins
 * receives everything that is in force.
 *
 * The server holds these keys, each with an expiry, and channels (PREFIX is a setting):
 *   PREFIX:gates          sorted set: target, by the time its gate opens (ms, the server's clock)
 *   PREFIX:breakers       sorted set: model, by the time of its next probe
 *   PREFIX:rate:UPSTREAM  the time at which the upstream's attempts so far are paid for (us)
 *   PREFIX:news           channel: "gate|open|closed ID MS FROM"
 *   PREFIX:news:FROM      channel: the same, for one daemon that has just joined
 * A user restricted by ACLs needs these keys and channels, and AUTH, PING, SCRIPT|LOAD, EVALSHA,
 * EVAL, SUBSCRIBE, and for the scripts TIME, GET, SET, ZADD, ZREM, ZSCORE, ZRANGE,
 * ZREMRANGEBYSCORE, ZREMRANGEBYRANK, PEXPIREAT and PUBLISH. The server must be version 5.0 or newer
 * and not a cluster. */
#ifndef RETRYD_DAEMON_SHARED_H
#define RETRYD_DAEMON_SHARED_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/str.h"

struct shared;

struct shared_settings {
    const char *address; /* host, host:port, [v6]:port, unix:/path: redis_address_check */
    const char *user;    /* NULL or "": the default user */
    struct str password; /* empty: none */
    const char *prefix;  /* of keys and channels, not empty */
};

/* News of other daemons. The handlers run on the loop, never from within a function below. They may
 * call shared_report_*, but not shared_close. */
struct shared_handler {
    void (*gate)(void *arg, uint64_t target_id, uint64_t for_ms);
    void (*breaker)(void *arg, uint64_t model_id, bool open, uint64_t for_ms);
    /* Receives how far the attempts of all daemons are ahead of the upstream's rate: if they were
     * evenly spaced, the last one would be due `ahead_us` from now. Reply to shared_report_rate. */
    void (*rate)(void *arg, uint64_t upstream_id, uint64_t ahead_us);
    void *arg;
};

/* Copies the settings and begins to connect; the caller need not wait for anything. NULL: out of
 * memory, the address is malformed, or the prefix is longer than SHARED_PREFIX_MAX. */
#define SHARED_PREFIX_MAX 100
struct shared *shared_new(uv_loop_t *loop, const struct shared_settings *settings,
                          const struct shared_handler *handler);

/* Sets the password for the next login; an existing session is kept. The password is copied;
 * without memory the previous one stays. */
void shared_password(struct shared *s, struct str password);

/* No handler is called from now on. The memory is freed later, on the loop. NULL is fine. */
void shared_close(struct shared *s);

/* This daemon closed a gate, or opened or closed a breaker. The others learn of it within some
 * ms. */
void shared_report_gate(struct shared *s, uint64_t target_id, uint64_t for_ms);
void shared_report_breaker(struct shared *s, uint64_t model_id, bool open, uint64_t for_ms);

/* `taken` attempts began at an upstream that allows `per_minute`. The first is sent at once, later
 * ones every SHARED_RATE_MS. */
#define SHARED_RATE_MS 25
void shared_report_rate(struct shared *s, uint64_t upstream_id, double per_minute, unsigned taken);

/* Whether the view is shared now, and if not, why: text for a person, valid until the loop runs
 * again. NULL while it is shared. */
bool shared_is_up(const struct shared *s);
const char *shared_why_down(const struct shared *s);

struct shared_counts {
    uint64_t sent;     /* scripts run on the server: news, attempts, recalls */
    uint64_t received; /* news of other daemons */
    uint64_t dropped;  /* news dropped for lack of room or memory */
    uint64_t losses;   /* times that an established view was lost */
};
struct shared_counts shared_counts(const struct shared *s);

#endif
