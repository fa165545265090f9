/* The content of the status page, /status.json and `retryd status`: one look at everything, copied
 * so that no lock is held while it is written. */
#ifndef RETRYD_ADMIN_STATUS_H
#define RETRYD_ADMIN_STATUS_H

#include "base/buf.h"
#include "config/config.h"
#include "worker/history.h"
#include "worker/traffic.h"

#define STATUS_WHY_MAX 8     /* sentences on its health; the most important come first */
#define STATUS_LIVE_MAX 100  /* requests that are being ridden out; of more, the first */
#define STATUS_MODELS_MAX 50 /* shown for one upstream; those that are shut come first */

#define STATUS_CPU_REQUESTS 100 /* from which on the CPU time of the start hardly counts */

enum status_health {
    STATUS_WELL,
    STATUS_ATTENTION,  /* requests are served, but a person should look */
    STATUS_RIDING_OUT, /* a failure of an upstream is being ridden out */
    STATUS_DOWN,       /* no upstream responds */
    STATUS_DRAINING,
    STATUS_STUCK, /* a worker does not respond */
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
    struct story *stories; /* those that run, then those that ended, the latest first */
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

/* Returns the first view of an upstream, or of one of its models, keys or targets; or the one after
 * `v`. NULL if there is none. */
const struct traffic_view *status_next(const struct status *st, const struct traffic_view *v,
                                       const char *upstream, enum turns_view_kind kind);
/* Returns the first or next target of a model. */
const struct traffic_view *status_next_target(const struct status *st, const struct traffic_view *v,
                                              const struct traffic_view *model);
/* Finds the most frequent reasons of failed attempts. Returns their number. */
unsigned status_top(const struct history_sums *sums, unsigned max, unsigned top[]);
/* Returns how long a request may have to wait in the queue: until a gate or breaker of its model
 * changes; 0 if not known. */
uint64_t status_queue_ms(const struct status *st, const struct story *s);
/* Returns how many retries the upstream's budget allows now, by the settings of [retry]. */
uint64_t status_budget_left(const struct status *st, const struct turns_view *v);
uint64_t status_other_ms(const struct history_sums *sums);

/* Writes text from outside so that it cannot affect the text around it; in HTML escaped. */
void status_put(struct buf *out, const char *text, bool html);

/* Writes a duration for people: "1.5 s", "4 min". */
#define STATUS_TIME_MAX 24
const char *status_time(uint64_t ms, char space[STATUS_TIME_MAX]);

/* Write the state of a request, in short and in whole sentences, one a line; the state of a model's
 * breaker and of a target's gate. They pass text from outside through status_put, without HTML. */
void status_summary(const struct status *st, const struct story *s, struct buf *out);
void status_sentences(const struct status *st, const struct story *s, struct buf *out);
void status_breaker(const struct turns_view *v, struct buf *out);
void status_gate(const struct turns_view *v, struct buf *out);

/* Write the documents. `all`: with the configuration's text. Return 0 or -ENOMEM. */
int status_json(const struct status *st, bool all, struct buf *out);
int status_story_json(const struct status *st, const struct story *s, struct buf *out);
void status_text(const struct status *st, struct buf *out);
void status_html(const struct status *st, struct buf *out);
/* Returns the page's Content-Security-Policy: nothing from elsewhere, and only its own style and
 * script, by their hashes. */
const char *status_html_policy(void);

#endif
