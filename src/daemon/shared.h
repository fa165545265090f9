/* The shared view: many daemons that use one account tell each other what they learn, over a Redis
 * or Valkey server ([shared] redis = host:port).
 *
 * Told are
 *   gates      a target (upstream, model, key) is closed for so many ms (C19)
 *   breakers   a model (upstream, model) is open for so many ms, or closed again (C20)
 *   rates      attempts of an upstream with requests_per_minute, which share one GCRA (C22)
 * under the hashes of the names (base/hash.h): no key and no name leaves the daemon.
 *
 * All of it lives on one loop, and no request ever waits for it. What is told while the server
 * cannot be reached waits, as long as it is in force; attempts are not counted meanwhile: each daemon
 * goes on with what it knows itself. The connections are made again, by and by, and whoever comes
 * (back) is told what is in force.
 *
 * What is in the server, each with an expiry (PREFIX from the settings):
 *   PREFIX:gates        sorted set: target, by the time its gate opens (ms, the server's clock)
 *   PREFIX:breakers     sorted set: model, by the time of its next probe
 *   PREFIX:rate:SITE    the time at which the upstream's attempts so far are paid for (us)
 *   PREFIX:news         channel: "gate|open|closed ID MS FROM"
 *   PREFIX:news:FROM    channel: the same, for one daemon that has just come
 * A user that ACLs confine needs these keys and channels, and AUTH, PING, SCRIPT|LOAD, EVALSHA, EVAL,
 * SUBSCRIBE, and for the scripts TIME, GET, SET, ZADD, ZREM, ZSCORE, ZRANGE, ZREMRANGEBYSCORE,
 * ZREMRANGEBYRANK, PEXPIREAT and PUBLISH. The server is 5.0 or newer, and no cluster. */
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

/* What others tell. Called on the loop, from within no call of these functions. shared_tell_* may be
 * called in these, shared_close may not. */
struct shared_handler {
    void (*gate)(void *arg, uint64_t target_id, uint64_t for_ms);
    void (*breaker)(void *arg, uint64_t model_id, bool open, uint64_t for_ms);
    /* How far the attempts of all daemons are ahead of the upstream's rate: as if all came evenly, the
     * last one's time is so many us from now. The answer to shared_tell_rate. */
    void (*rate)(void *arg, uint64_t upstream_id, uint64_t ahead_us);
    void *arg;
};

/* The settings are copied. It begins to connect; there is nothing to wait for. NULL: out of memory,
 * or no such address, or a prefix longer than SHARED_PREFIX_MAX. */
#define SHARED_PREFIX_MAX 100
struct shared *shared_new(uv_loop_t *loop, const struct shared_settings *settings,
                          const struct shared_handler *handler);

/* Another password, for the next login: whoever is logged in stays so. It is copied; without memory the one
 * before is kept. */
void shared_password(struct shared *s, struct str password);

/* No call follows. The memory is freed on the loop, a little later. NULL is fine. */
void shared_close(struct shared *s);

/* A gate was closed, or a breaker opened or closed, here. The others know it within some ms. */
void shared_tell_gate(struct shared *s, uint64_t target_id, uint64_t for_ms);
void shared_tell_breaker(struct shared *s, uint64_t model_id, bool open, uint64_t for_ms);

/* `taken` attempts of an upstream were begun, of which `per_minute` are allowed. The first is told at
 * once, those that follow every SHARED_RATE_MS. */
#define SHARED_RATE_MS 25
void shared_tell_rate(struct shared *s, uint64_t upstream_id, double per_minute, unsigned taken);

/* Whether the view is shared now; why not, in words for a person, else NULL. Valid until the loop
 * runs again. */
bool shared_is_up(const struct shared *s);
const char *shared_why_down(const struct shared *s);

struct shared_counts {
    uint64_t sent;     /* scripts that were run there: news, attempts, what is in force */
    uint64_t received; /* news of others */
    uint64_t dropped;  /* news that found no room, or no memory */
    uint64_t losses;   /* times that the view was lost after it had been there */
};
struct shared_counts shared_counts(const struct shared *s);

#endif
