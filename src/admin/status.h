/* The content of the status page, /status.json and `retryd status`: one look at everything, copied so
 * that no lock is held while it is written. */
#ifndef RETRYD_ADMIN_STATUS_H
#define RETRYD_ADMIN_STATUS_H

#include "base/buf.h"
#include "config/config.h"
#include "worker/history.h"
#include "worker/traffic.h"

#define STATUS_WHY_MAX 8     /* sentences on its health; the most important come first */
#define STATUS_LIVE_MAX 100  /* requests that are being ridden out, of more the first */
#define STATUS_MODELS_MAX 50 /* of one upstream that are shown; those that are shut come first */

#define STATUS_CPU_REQUESTS 100 /* before the CPU of the start counts little among theirs */

enum status_health {
    STATUS_WELL,
    STATUS_ATTENTION,  /* requests are served, but a person should look */
    STATUS_RIDING_OUT, /* a failure of an upstream is being ridden out */
    STATUS_DOWN,       /* no upstream answers */
    STATUS_DRAINING,
    STATUS_STUCK, /* a worker does not answer */
};
const char *status_health_word(enum status_health h);     /* "riding_out" */
const char *status_health_sentence(enum status_health h); /* "Riding out a failure" */

struct status_reload {
    bool differs, refused;     /* the file on disk; the last reload */
    uint64_t tried_s, taken_s; /* wall clock */
    char problem[256];
};

struct status {
    uint64_t now_ms, unix_ms, started_unix_ms;
    enum status_health health;
    char why[STATUS_WHY_MAX][320];
    unsigned why_count;
    bool can_act; /* a token is configured */
    uint64_t active, connections, buffered, lag_max_ms, cpu_us, memory;
    unsigned waiting, live;
    struct history_sums total, hour, minutes[HISTORY_MINUTES]; /* the latest minute first */
    struct story *stories; /* those that go on, then those that ended, the latest first */
    unsigned live_count, ended_count;
    uint64_t serial; /* of the story that ended last */
    struct traffic_view *views;
    unsigned view_count;
    const struct config *config;
    struct status_reload reload;
    uint64_t config_hash;
    char *dump; /* the configuration in force, secrets masked */
};

void status_free(struct status *st);

/* The view of an upstream, of one of its models, keys or targets that comes first, or after `v`;
 * NULL: there is none. */
const struct traffic_view *status_next(const struct status *st, const struct traffic_view *v,
                                       const char *upstream, enum turns_view_kind kind);
/* The first or next target of a model. */
const struct traffic_view *status_next_target(const struct status *st, const struct traffic_view *v,
                                              const struct traffic_view *model);
/* The reasons that failed attempts had most often; returns how many. */
unsigned status_top(const struct history_sums *sums, unsigned max, unsigned top[]);
/* How long a request that waits in the queue may have to: until a gate or breaker of its model
 * changes; 0: not known. */
uint64_t status_queue_ms(const struct status *st, const struct story *s);
/* Retries that the upstream's budget has room for, by the settings of [retry]. */
uint64_t status_budget_left(const struct status *st, const struct turns_view *v);
uint64_t status_other_ms(const struct history_sums *sums);

/* Text from outside, with nothing in it that changes how the rest is read; in HTML escaped. */
void status_put(struct buf *out, const char *text, bool html);

/* A duration as people write it: "1.5 s", "4 min". */
#define STATUS_TIME_MAX 24
const char *status_time(uint64_t ms, char space[STATUS_TIME_MAX]);

/* What has become of a request, in short and in whole sentences, one a line; the state of a model's breaker
 * and of a target's gate. Text from outside in them has passed status_put without HTML. */
void status_summary(const struct status *st, const struct story *s, struct buf *out);
void status_sentences(const struct status *st, const struct story *s, struct buf *out);
void status_breaker(const struct turns_view *v, struct buf *out);
void status_gate(const struct turns_view *v, struct buf *out);

/* The documents. `all`: with the configuration's text. 0 or -ENOMEM. */
int status_json(const struct status *st, bool all, struct buf *out);
int status_story_json(const struct status *st, const struct story *s, struct buf *out);
void status_text(const struct status *st, struct buf *out);
void status_html(const struct status *st, struct buf *out);
/* The page's Content-Security-Policy: nothing from elsewhere, and no style or script but its own two, by their
 * hashes. */
const char *status_html_policy(void);

#endif
