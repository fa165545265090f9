/* Passes news between this daemon's traffic and the shared view. */
#include "daemon/server_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/shared.h"
#include "worker/metrics_table.h"

struct sharing {
    struct shared *shared; /* NULL once it is closed */
    struct traffic *traffic;
    char *password_file;
    uint64_t wait_ms_max; /* the longest wait that this daemon's own settings allow after a hint */
    uint64_t open_ms_max; /* ... and the longest that they keep a breaker open */
};

/* --- news of other daemons -------------------------------------------------------------------- */

/* News never closes a target for longer than this daemon's own settings would, whatever other
 * daemons or other clients of the server say. */

static uint64_t at_most(uint64_t value, uint64_t most)
{
    return value < most ? value : most;
}

static void on_gate(void *arg, uint64_t target_id, uint64_t for_ms)
{
    struct sharing *s = arg;

    turns_learn_gate(traffic_turns(s->traffic), target_id, at_most(for_ms, s->wait_ms_max));
}

static void on_breaker(void *arg, uint64_t model_id, bool open, uint64_t for_ms)
{
    struct sharing *s = arg;

    turns_learn_breaker(traffic_turns(s->traffic), model_id, open, at_most(for_ms, s->open_ms_max));
}

static void on_rate(void *arg, uint64_t upstream_id, uint64_t ahead_us)
{
    struct sharing *s = arg;

    turns_learn_rate(traffic_turns(s->traffic), upstream_id,
                     at_most(ahead_us, s->wait_ms_max * 1000));
}

static void take_settings(struct sharing *s, const struct route_settings *settings)
{
    const struct retry_settings *r = &settings->retry;
    uint64_t wait_ms =
        r->max_hint_ms > r->backoff.max_delay_ms ? r->max_hint_ms : r->backoff.max_delay_ms;

    if (wait_ms > s->wait_ms_max)
        s->wait_ms_max = wait_ms;
    if (settings->breaker.open_for_ms > s->open_ms_max)
        s->open_ms_max = settings->breaker.open_for_ms;
}

void sharing_configure(struct sharing *s, const struct config *c)
{
    if (!s)
        return;
    /* Another password_file needs a restart, as other settings of [shared] do. */
    if (s->shared && c->shared_password && !strcmp(s->password_file, c->shared_password_file))
        shared_password(s->shared, secret_text(c->shared_password));
    s->wait_ms_max = s->open_ms_max = 0;
    take_settings(s, &c->defaults);
    for (unsigned i = 0; i < c->route_count; i++)
        take_settings(s, &c->routes[i].settings);
}

/* --- news for other daemons ------------------------------------------------------------------- */

static void on_event(void *arg, const struct turns_event *e)
{
    struct sharing *s = arg;

    if (!s->shared)
        return;
    switch (e->kind) {
    case TURNS_GATE_CLOSED:
        shared_report_gate(s->shared, e->id, e->for_ms);
        break;
    case TURNS_BREAKER_OPEN:
        shared_report_breaker(s->shared, e->id, true, e->for_ms);
        break;
    case TURNS_BREAKER_CLOSED:
        shared_report_breaker(s->shared, e->id, false, 0);
        break;
    default:
        break;
    }
}

static void on_taken(void *arg, uint64_t upstream_id, double per_minute, unsigned n)
{
    struct sharing *s = arg;

    if (s->shared)
        shared_report_rate(s->shared, upstream_id, per_minute, n);
}

/* --- life ------------------------------------------------------------------------------------- */

int sharing_new(uv_loop_t *loop, const struct config *c, struct traffic *t, struct sharing **ret)
{
    struct shared_settings settings = {
        .address = c->shared_redis,
        .user = c->shared_redis_user,
        .prefix = c->shared_prefix,
    };
    struct shared_handler handler = {.gate = on_gate, .breaker = on_breaker, .rate = on_rate};
    struct traffic_news news = {.event = on_event, .taken = on_taken};
    struct sharing *s;

    *ret = NULL;
    if (!c->shared_redis[0])
        return 0;
    s = calloc(1, sizeof(*s));
    if (!s)
        return -ENOMEM;
    if (c->shared_password)
        settings.password = secret_text(c->shared_password);
    s->password_file = str_dup(str_from(c->shared_password_file));
    if (!s->password_file) {
        free(s);
        return -ENOMEM;
    }
    s->traffic = t;
    sharing_configure(s, c);
    handler.arg = news.arg = s;
    s->shared = shared_new(loop, &settings, &handler);
    if (!s->shared) {
        sharing_free(s);
        return -ENOMEM;
    }
    traffic_set_news(t, &news);
    *ret = s;
    return 0;
}

void sharing_close(struct sharing *s)
{
    if (!s)
        return;
    shared_close(s->shared);
    s->shared = NULL;
}

void sharing_free(struct sharing *s)
{
    if (s)
        free(s->password_file);
    free(s);
}

/* --- metrics ---------------------------------------------------------------------------------- */

void sharing_metrics(const struct sharing *s, struct buf *out)
{
    struct shared_counts n;

    if (!s || !s->shared)
        return;
    n = shared_counts(s->shared);
    metrics_write_count(out, METRIC_SHARED_UP, shared_is_up(s->shared));
    metrics_write_count(out, METRIC_SHARED_SENT, n.sent);
    metrics_write_count(out, METRIC_SHARED_RECEIVED, n.received);
    metrics_write_count(out, METRIC_SHARED_DROPPED, n.dropped + traffic_news_dropped(s->traffic));
    metrics_write_count(out, METRIC_SHARED_LOSSES, n.losses);
}
