/* Collects the data of the status pages, and judges the health. */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "daemon/server_private.h"

/* --- views ------------------------------------------------------------------------------------ */

static bool is_shut(const struct turns_view *v)
{
    return v->shut_ms > 0 || v->half_open || v->opening || v->waiting > 0 || v->pace_per_minute > 0;
}

/* Hides models beyond STATUS_MODELS_MAX of each upstream, because clients may name any models. */
static void hide(struct traffic_view *views, unsigned n)
{
    for (int pass = 0; pass < 2; pass++) /* first come those that are shut */
        for (unsigned i = 0, shown = 0; i < n; i++) {
            struct traffic_view *v = &views[i];

            if (i > 0 && strcmp(v->upstream, views[i - 1].upstream) != 0)
                shown = 0;
            if (v->view.kind != VIEW_MODEL)
                continue;
            if (pass == 0)
                v->hidden = !is_shut(&v->view) || shown >= STATUS_MODELS_MAX;
            else if (v->hidden && shown < STATUS_MODELS_MAX)
                v->hidden = false;
            else if (v->hidden)
                continue;
            shown += !v->hidden;
        }
}

static int take_views(struct traffic *t, struct status *ret)
{
    size_t n = 0;
    int rc = traffic_views(t, &ret->views, &n);

    ret->view_count = (unsigned)n;
    hide(ret->views, ret->view_count);
    return rc;
}

/* --- counters --------------------------------------------------------------------------------- */

static uint64_t value_of(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static struct history_sums sums_of(struct server *s)
{
    struct history_sums all = {.requests = 0};

    for (unsigned i = 0; i < s->worker_count; i++) {
        const struct metrics *m = worker_metrics(s->workers[i]);
        uint64_t wait_ms = value_of(&m->wait_ms), queue_ms = value_of(&m->queue_ms);

        all.requests += value_of(&m->requests);
        all.answered += value_of(&m->ends[END_ANSWERED]);
        all.rescued += value_of(&m->rescued);
        all.failed += value_of(&m->ends[END_FAILED]);
        all.refused += value_of(&m->refused);
        all.broken += value_of(&m->ends[END_BROKEN]);
        all.client_gone += value_of(&m->ends[END_CLIENT_GONE]);
        all.attempts += value_of(&m->attempts);
        all.total_ms += value_of(&m->duration_ms);
        all.upstream_ms += value_of(&m->upstream_ms);
        all.queue_ms += queue_ms;
        all.backoff_ms += wait_ms > queue_ms ? wait_ms - queue_ms : 0;
        for (unsigned r = 0; r < REASON_COUNT; r++) {
            all.failures[r] += value_of(&m->failures[r]);
            all.retries += value_of(&m->retries[r]);
        }
    }
    return all;
}

void status_sample(struct server *s)
{
    struct history_sums now = sums_of(s);

    history_sample(s->history, clock_now_ms(), &now);
}

static void take_counters(struct server *s, struct status *ret)
{
    struct metrics_process process = metrics_process();

    status_sample(s);
    ret->total = sums_of(s);
    ret->hour = history_hour(s->history, ret->now_ms);
    for (unsigned ago = 0; ago < HISTORY_MINUTES; ago++)
        ret->minutes[ago] = history_minute(s->history, ret->now_ms, ago);
    for (unsigned i = 0; i < s->worker_count; i++) {
        struct metrics *m = worker_metrics(s->workers[i]);
        uint64_t lag = peak_read(&m->lag, ret->now_ms);

        ret->active += value_of(&m->active);
        ret->connections += value_of(&m->connections);
        ret->lag_max_ms = lag > ret->lag_max_ms ? lag : ret->lag_max_ms;
    }
    ret->buffered = worker_buffered();
    ret->cpu_us = process.cpu_us;
    ret->memory = process.resident;
}

static int take_stories(struct server *s, uint64_t after, struct status *ret)
{
    ret->stories = calloc(STATUS_LIVE_MAX + HISTORY_MAX, sizeof(*ret->stories));
    if (!ret->stories)
        return -ENOMEM;
    ret->live = history_live(s->history);
    ret->live_count = history_copy_live(s->history, ret->stories, STATUS_LIVE_MAX);
    ret->ended_count =
        history_copy_ended(s->history, after, ret->stories + ret->live_count, HISTORY_MAX);
    ret->serial = ret->ended_count > 0 ? ret->stories[ret->live_count].serial : after;
    return 0;
}

static int take_dump(const struct config *c, struct status *ret)
{
    size_t size = 0;
    FILE *out = open_memstream(&ret->dump, &size);

    if (!out)
        return -ENOMEM;
    config_dump(c, true, out);
    if (fclose(out) != 0 || !ret->dump)
        return -ENOMEM;
    ret->config_hash = hash_text((struct str){ret->dump, size});
    return 0;
}

/* --- health ----------------------------------------------------------------------------------- */

__attribute__((format(printf, 3, 4))) static void say(struct status *st, enum status_health h,
                                                      const char *format, ...)
{
    va_list args;

    if (h > st->health)
        st->health = h;
    if (st->why_count == STATUS_WHY_MAX)
        return;
    va_start(args, format);
    vsnprintf(st->why[st->why_count++], sizeof(st->why[0]), format, args);
    va_end(args);
}

static const char *name_of(const struct traffic_view *v)
{
    return v->model[0] ? v->model : "(no model)";
}

/* Whether all models of the upstream that were used count as down. */
static bool is_down(const struct status *st, const char *upstream)
{
    const struct traffic_view *v = NULL;
    bool any = false;

    while ((v = status_next(st, v, upstream, VIEW_MODEL))) {
        if (v->view.shut_ms == 0 && !v->view.half_open)
            return false;
        any = true;
    }
    return any;
}

static void say_view(struct status *st, const struct traffic_view *s)
{
    const struct turns_view *v = &s->view;
    char time[STATUS_TIME_MAX];

    if (v->kind == VIEW_MODEL && v->half_open)
        say(st, STATUS_RIDING_OUT, "%s: %s counts as down; a probe is under way", s->upstream,
            name_of(s));
    else if (v->kind == VIEW_MODEL && v->shut_ms > 0)
        say(st, STATUS_RIDING_OUT, "%s: %s counts as down; the next probe goes in %s", s->upstream,
            name_of(s), status_time(v->shut_ms, time));
    else if (v->kind == VIEW_TARGET && v->shut_ms > 0)
        say(st, STATUS_RIDING_OUT, "%s: %s has reached its rate limit; its gate opens in %s",
            s->upstream, name_of(s), status_time(v->shut_ms, time));
    else if (v->kind == VIEW_KEY && v->shut_ms > 0)
        say(st, STATUS_ATTENTION, "%s: key %u is set aside for another %s", s->upstream,
            v->key_number, status_time(v->shut_ms, time));
}

static void judge(struct server *s, struct status *st)
{
    const struct reloads *r = &s->reloads;
    unsigned riding = 0, down = 0, used = 0;

    if (!s->draining && s->pings_missed > PINGS_MISSED_WELL)
        say(st, STATUS_STUCK, "a worker has not responded for %u seconds", s->pings_missed * 2);
    if (s->ending)
        say(st, STATUS_DRAINING, "running requests are finished; new connections are %s",
            s->draining ? "refused" : "still accepted");
    if (r->refused)
        say(st, STATUS_ATTENTION,
            "the last reload was refused, and the configuration before it is in force: %s",
            r->problem);
    else if (r->differs)
        say(st, STATUS_ATTENTION,
            "%s was changed after it was read; `retryd reload` reads it again", s->config->path);
    for (unsigned i = 0; i < st->view_count; i++)
        say_view(st, &st->views[i]);
    for (unsigned i = 0; i < st->live_count; i++)
        riding += st->stories[i].phase != STORY_RELAYING;
    if (riding > 0)
        say(st, STATUS_RIDING_OUT, "%u request%s being ridden out", riding,
            riding == 1 ? " is" : "s are");
    for (unsigned i = 0; i < st->config->upstream_count; i++) {
        used += status_next(st, NULL, st->config->upstreams[i].name, VIEW_MODEL) != NULL;
        down += is_down(st, st->config->upstreams[i].name);
    }
    if (used > 0 && down == used)
        st->health = STATUS_DOWN;
}

/* --- everything ------------------------------------------------------------------------------- */

int status_take(struct server *s, uint64_t after, struct status *ret)
{
    int rc;

    memset(ret, 0, sizeof(*ret));
    ret->now_ms = clock_now_ms();
    ret->unix_ms = clock_unix_ms();
    ret->started_unix_ms = s->started_unix_ms;
    ret->config = s->config;
    ret->can_act = s->config->admin.tokens != NULL;
    ret->reload = (struct status_reload){.differs = s->reloads.differs,
                                         .refused = s->reloads.refused,
                                         .tried_s = s->reloads.tried_s,
                                         .taken_s = s->reloads.taken_s};
    snprintf(ret->reload.problem, sizeof(ret->reload.problem), "%s", s->reloads.problem);
    ret->waiting = turns_waiting(traffic_turns(s->traffic));
    take_counters(s, ret);
    rc = take_views(s->traffic, ret);
    if (rc == 0)
        rc = take_stories(s, after, ret);
    if (rc == 0)
        rc = take_dump(s->config, ret);
    if (rc == 0)
        judge(s, ret);
    else
        status_free(ret);
    return rc;
}
