/* Guards and times the turns of all workers, and handles their events. */
#include "worker/traffic.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "worker/metrics_table.h"

/* News waits here for the main thread. Attempts are far more frequent than gates and breakers and
 * must not displace them, so each kind has its own queue. */
#define NEWS_MAX 1024 /* gates and breakers; the oldest are dropped */
#define RATED_MAX 256 /* upstreams with requests_per_minute, whose attempts are counted */

struct rated {
    uint64_t upstream_id;
    double per_minute;
    unsigned taken;
};

#define LINES_MAX 8 /* log lines kept while the lock is held; further ones are written at once */

/* An event with copies of its names, to be logged after unlocking. */
struct event_line {
    struct turns_event event;
    char upstream[64], model[128];
};

struct counts {
    uint64_t waits[TURN_WHY_COUNT]; /* requests that had to wait, by reason */
    uint64_t denied;                /* retries that an upstream's budget denied */
};

struct traffic {
    pthread_mutex_t lock; /* guards the turns and the fields up to `sink` */
    struct turns *turns;
    uint64_t next_ms;  /* when turns_run is due; TURNS_NEVER */
    uint64_t armed_ms; /* when the timer fires at the latest */
    struct counts counts;
    struct turns_event news[NEWS_MAX];
    struct event_line lines[LINES_MAX];
    unsigned line_count;
    unsigned news_first, news_count;
    struct rated rated[RATED_MAX];
    unsigned rated_count;
    uint64_t news_dropped;
    struct traffic_news sink;
    struct buf shown; /* the labels that traffic_metrics wrote last; the main thread's */
    uv_loop_t *loop;
    uv_async_t async;
    uv_timer_t timer;
};

/* --- events ----------------------------------------------------------------------------------- */

static const char *const event_lines[] = {
    [TURNS_GATE_CLOSED] = "gate closed",
    [TURNS_GATE_OPEN] = "gate open",
    [TURNS_BREAKER_OPEN] = "breaker open",
    [TURNS_BREAKER_PROBE] = "breaker probe",
    [TURNS_BREAKER_CLOSED] = "breaker closed",
    [TURNS_KEY_ASIDE] = "key set aside",
    [TURNS_PACE] = "pace changed",
    [TURNS_WAIT] = "waiting for a turn",
};

static enum log_level level_of(const struct turns_event *e)
{
    bool bad = e->kind == TURNS_BREAKER_OPEN || e->kind == TURNS_KEY_ASIDE;

    return bad                     ? LOG_WARN
           : e->kind == TURNS_WAIT ? LOG_DEBUG /* up to one per request */
                                   : LOG_INFO;
}

static void log_event(const struct turns_event *e)
{
    log_begin(level_of(e), event_lines[e->kind]);
    if (e->upstream[0])
        log_text("target", e->upstream);
    if (e->model[0])
        log_text("model", e->model);
    if (e->operation != OPERATION_GENERATE)
        log_text("operation", operation_word(e->operation));
    if (e->key_number)
        log_u64("key", e->key_number);
    if (e->for_ms)
        log_u64("for_ms", e->for_ms);
    if (e->kind == TURNS_PACE)
        log_u64("per_minute", (uint64_t)e->per_minute);
    if (e->kind == TURNS_WAIT)
        log_text("why", turns_why_word(e->why));
    if (e->reason != REASON_OK)
        log_text("reason", reason_word(e->reason));
    if (e->learned)
        log_text("learned", "yes");
    log_end();
}

/* Copies the names, which may be freed before the line is written. */
static void keep_line(struct traffic *t, const struct turns_event *e)
{
    struct event_line *line = &t->lines[t->line_count];

    if (!log_enabled(level_of(e)))
        return;
    if (t->line_count == LINES_MAX) {
        log_event(e);
        return;
    }
    line->event = *e;
    snprintf(line->upstream, sizeof(line->upstream), "%s", e->upstream);
    snprintf(line->model, sizeof(line->model), "%s", e->model);
    t->line_count++;
}

/* Clears the names, which may be freed before the event is delivered. */
static void keep_news(struct traffic *t, const struct turns_event *e)
{
    unsigned at = (t->news_first + t->news_count) % NEWS_MAX;

    if (t->news_count == NEWS_MAX) {
        t->news_first = (t->news_first + 1) % NEWS_MAX;
        t->news_dropped++;
    } else {
        t->news_count++;
    }
    t->news[at] = *e;
    t->news[at].upstream = t->news[at].model = "";
}

static void keep_rate(struct traffic *t, const struct turns_event *e)
{
    unsigned i = 0;

    while (i < t->rated_count && t->rated[i].upstream_id != e->id)
        i++;
    if (i == RATED_MAX) {
        t->news_dropped++;
        return;
    }
    if (i == t->rated_count)
        t->rated[t->rated_count++] = (struct rated){.upstream_id = e->id};
    t->rated[i].per_minute = e->per_minute;
    t->rated[i].taken++;
}

static void keep(struct traffic *t, const struct turns_event *e)
{
    bool waiting = t->news_count > 0 || t->rated_count > 0;

    if (!t->sink.event || e->learned)
        return;
    switch (e->kind) {
    case TURNS_GATE_CLOSED:
    case TURNS_BREAKER_OPEN:
    case TURNS_BREAKER_CLOSED:
        keep_news(t, e);
        break;
    case TURNS_RATE_TAKEN:
        keep_rate(t, e);
        break;
    case TURNS_GATE_OPEN: /* no news: each daemon opens its own gate step by step */
    case TURNS_BREAKER_PROBE:
    case TURNS_KEY_ASIDE:
    case TURNS_PACE:
    case TURNS_WAIT:
    case TURNS_DENIED:
        return;
    }
    if (!waiting)
        uv_async_send(&t->async);
}

static void on_event(void *arg, const struct turns_event *e)
{
    struct traffic *t = arg;
    bool pace_rises = e->kind == TURNS_PACE && e->reason == REASON_OK && e->per_minute > 0;

    if (e->kind == TURNS_WAIT)
        t->counts.waits[e->why]++;
    if (e->kind == TURNS_DENIED)
        t->counts.denied++;
    if (e->kind != TURNS_RATE_TAKEN && e->kind != TURNS_DENIED && !pace_rises)
        keep_line(t, e);
    keep(t, e);
}

/* --- callbacks of the turns ------------------------------------------------------------------- */

static uint64_t on_now(void *arg)
{
    (void)arg;
    return clock_now_ms();
}

static void on_lock(void *arg)
{
    pthread_mutex_lock(&((struct traffic *)arg)->lock);
}

/* Wakes the main thread if its timer would fire too late, and logs the kept lines after
 * unlocking. */
static void on_unlock(void *arg, uint64_t next_ms)
{
    struct traffic *t = arg;
    struct event_line lines[LINES_MAX];
    unsigned n = t->line_count;
    bool earlier = next_ms < t->armed_ms;

    if (n > 0)
        memcpy(lines, t->lines, n * sizeof(lines[0]));
    t->line_count = 0;
    t->next_ms = next_ms;
    if (earlier)
        t->armed_ms = next_ms;
    pthread_mutex_unlock(&t->lock);
    if (earlier)
        uv_async_send(&t->async);
    for (unsigned i = 0; i < n; i++) {
        lines[i].event.upstream = lines[i].upstream;
        lines[i].event.model = lines[i].model;
        log_event(&lines[i].event);
    }
}

/* --- on the main thread ----------------------------------------------------------------------- */

static void on_timer(uv_timer_t *timer);

/* The timer fires when that millisecond is over. */
static void arm(struct traffic *t)
{
    uint64_t at_ms, now_ms;

    pthread_mutex_lock(&t->lock);
    at_ms = t->armed_ms = t->next_ms;
    pthread_mutex_unlock(&t->lock);
    if (at_ms == TURNS_NEVER) {
        uv_timer_stop(&t->timer);
        return;
    }
    now_ms = clock_now_ms();
    uv_update_time(t->loop);
    uv_timer_start(&t->timer, on_timer, at_ms > now_ms ? at_ms - now_ms : 0, 0);
}

static void on_timer(uv_timer_t *timer)
{
    struct traffic *t = timer->data;

    turns_run(t->turns);
    arm(t);
}

static bool take_news(struct traffic *t, struct turns_event *ret)
{
    bool any;

    pthread_mutex_lock(&t->lock);
    any = t->news_count > 0;
    if (any) {
        *ret = t->news[t->news_first];
        t->news_first = (t->news_first + 1) % NEWS_MAX;
        t->news_count--;
    }
    pthread_mutex_unlock(&t->lock);
    return any;
}

static bool take_rate(struct traffic *t, struct rated *ret)
{
    bool any;

    pthread_mutex_lock(&t->lock);
    any = t->rated_count > 0;
    if (any)
        *ret = t->rated[--t->rated_count];
    pthread_mutex_unlock(&t->lock);
    return any;
}

/* Gates and breakers go first, because they matter most. */
static void deliver_news(struct traffic *t)
{
    struct turns_event e;
    struct rated r;

    while (take_news(t, &e))
        t->sink.event(t->sink.arg, &e);
    while (take_rate(t, &r))
        t->sink.taken(t->sink.arg, r.upstream_id, r.per_minute, r.taken);
}

static void on_async(uv_async_t *async)
{
    struct traffic *t = async->data;

    deliver_news(t);
    arm(t);
}

/* --- life ------------------------------------------------------------------------------------- */

struct traffic *traffic_new(uv_loop_t *loop)
{
    struct traffic *t = calloc(1, sizeof(*t));
    struct turns_world world = {.now_ms = on_now,
                                .rounding_ms = 1,
                                .lock = on_lock,
                                .unlock = on_unlock,
                                .event = on_event,
                                .arg = t};

    if (!t)
        return NULL;
    t->turns = turns_new(&world);
    if (!t->turns || uv_async_init(loop, &t->async, on_async) < 0) {
        turns_free(t->turns);
        free(t);
        return NULL;
    }
    pthread_mutex_init(&t->lock, NULL);
    buf_init(&t->shown, SIZE_MAX / 2);
    t->loop = loop;
    t->next_ms = t->armed_ms = TURNS_NEVER;
    uv_timer_init(loop, &t->timer);
    t->async.data = t->timer.data = t;
    return t;
}

void traffic_set_news(struct traffic *t, const struct traffic_news *news)
{
    t->sink = *news;
}

uint64_t traffic_news_dropped(struct traffic *t)
{
    uint64_t n;

    pthread_mutex_lock(&t->lock);
    n = t->news_dropped;
    pthread_mutex_unlock(&t->lock);
    return n;
}

void traffic_close(struct traffic *t)
{
    uv_close((uv_handle_t *)&t->async, NULL);
    uv_close((uv_handle_t *)&t->timer, NULL);
}

void traffic_free(struct traffic *t)
{
    if (!t)
        return;
    turns_free(t->turns);
    pthread_mutex_destroy(&t->lock);
    buf_deinit(&t->shown);
    free(t);
}

struct turns *traffic_turns(struct traffic *t)
{
    return t->turns;
}

/* --- metrics ---------------------------------------------------------------------------------- */

/* One metric with a value for each view of a kind. */
struct series {
    enum metric metric;
    enum turns_view_kind kind;
    double (*value)(const struct turns_view *v);
    /* Zeros are written, too; for a model only after its breaker has opened, because clients may
     * name any models. */
    bool zeros;
};

static double shut(const struct turns_view *v)
{
    return (double)v->shut;
}

static double shut_seconds(const struct turns_view *v)
{
    return (double)v->shut_ms / 1000;
}

static double in_flight(const struct turns_view *v)
{
    return v->in_flight;
}

static double concurrency_limit(const struct turns_view *v)
{
    return v->max_concurrency;
}

static double rate_limit(const struct turns_view *v)
{
    return (double)v->per_minute / 60;
}

static double rate_seconds(const struct turns_view *v)
{
    return (double)v->free_ms / 1000;
}

static double budget_requests(const struct turns_view *v)
{
    return (double)v->budget_requests;
}

static double budget_retries(const struct turns_view *v)
{
    return (double)v->budget_repeats;
}

static double waiting(const struct turns_view *v)
{
    return v->waiting;
}

static double fallbacks(const struct turns_view *v)
{
    return (double)v->fallbacks;
}

static double pace(const struct turns_view *v)
{
    return v->pace_per_minute / 60;
}

static double breaker_state(const struct turns_view *v)
{
    return v->half_open ? 1 : v->shut_ms > 0 ? 2 : 0;
}

static const struct series all_series[] = {
    {METRIC_IN_FLIGHT, VIEW_UPSTREAM, in_flight, true},
    {METRIC_CONCURRENCY_LIMIT, VIEW_UPSTREAM, concurrency_limit, false},
    {METRIC_RATE_LIMIT, VIEW_UPSTREAM, rate_limit, false},
    {METRIC_RATE_SECONDS, VIEW_UPSTREAM, rate_seconds, true},
    {METRIC_BUDGET_REQUESTS, VIEW_UPSTREAM, budget_requests, true},
    {METRIC_BUDGET_RETRIES, VIEW_UPSTREAM, budget_retries, true},
    {METRIC_GATE_CLOSED, VIEW_TARGET, shut, false},
    {METRIC_GATE_SECONDS, VIEW_TARGET, shut_seconds, false},
    {METRIC_PACE, VIEW_TARGET, pace, false},
    {METRIC_BREAKER_OPENED, VIEW_MODEL, shut, false},
    {METRIC_BREAKER_STATE, VIEW_MODEL, breaker_state, true},
    {METRIC_BREAKER_SECONDS, VIEW_MODEL, shut_seconds, false},
    {METRIC_FALLBACKS, VIEW_MODEL, fallbacks, false},
    {METRIC_KEY_ASIDE, VIEW_KEY, shut, false},
    {METRIC_KEY_SECONDS, VIEW_KEY, shut_seconds, false},
    {METRIC_TARGET_WAITING, VIEW_TARGET, waiting, false},
};

static bool has_model(const struct traffic_view *v)
{
    return v->view.kind == VIEW_MODEL || v->view.kind == VIEW_TARGET;
}

/* --- views ------------------------------------------------------------------------------------ */

static void see(void *arg, const struct turns_view *v)
{
    struct traffic_view one = {.view = *v};

    snprintf(one.upstream, sizeof(one.upstream), "%s", v->upstream);
    snprintf(one.model, sizeof(one.model), "%s", v->model ? v->model : "");
    one.view.upstream = one.view.model = NULL;
    (void)buf_add(arg, (const char *)&one, sizeof(one));
}

static int compare(const void *a, const void *b)
{
    const struct traffic_view *x = a, *y = b;
    int order = strcmp(x->upstream, y->upstream);

    if (order == 0)
        order = (int)x->view.kind - (int)y->view.kind;
    if (order == 0)
        order = strcmp(x->model, y->model);
    if (order == 0)
        order = (int)x->view.operation - (int)y->view.operation;
    if (order == 0 && x->view.key_number != y->view.key_number)
        order = x->view.key_number < y->view.key_number ? -1 : 1;
    return order;
}

static void add_up(struct turns_view *sum, const struct turns_view *v)
{
    sum->in_flight += v->in_flight;
    sum->waiting += v->waiting;
    sum->budget_requests += v->budget_requests;
    sum->budget_repeats += v->budget_repeats;
    sum->fallbacks += v->fallbacks;
    sum->shut += v->shut;
    sum->half_open |= v->half_open;
    sum->opening |= v->opening;
    sum->in_a_row = v->in_a_row > sum->in_a_row ? v->in_a_row : sum->in_a_row;
    sum->shut_ms = v->shut_ms > sum->shut_ms ? v->shut_ms : sum->shut_ms;
    if (v->pace_per_minute > 0 &&
        (sum->pace_per_minute <= 0 || v->pace_per_minute < sum->pace_per_minute))
        sum->pace_per_minute = v->pace_per_minute;
}

/* Sorts, and merges views of the same names, since a scraper rejects duplicate samples: targets
 * distinguish clients' own keys, and neither metrics nor the status do. Returns how many are
 * left. */
static size_t merge(struct traffic_view *all, size_t n)
{
    size_t kept = 0;

    if (n > 0)
        qsort(all, n, sizeof(*all), compare);
    for (size_t i = 0; i < n; i++) {
        if (kept > 0 && compare(&all[kept - 1], &all[i]) == 0)
            add_up(&all[kept - 1].view, &all[i].view);
        else
            all[kept++] = all[i];
    }
    return kept;
}

int traffic_views(struct traffic *t, struct traffic_view **ret, size_t *ret_count)
{
    struct buf all;
    uint64_t at = 0;
    size_t size;

    buf_init(&all, SIZE_MAX / 2);
    while (turns_each(traffic_turns(t), &at, see, &all))
        ;
    if (all.failed) {
        buf_deinit(&all);
        return -ENOMEM;
    }
    *ret = (struct traffic_view *)(void *)buf_steal(&all, &size);
    *ret_count = merge(*ret, size / sizeof(**ret));
    return 0;
}

static bool says_something(const struct series *s, const struct traffic_view *seen)
{
    const struct turns_view *v = &seen->view;

    return v->kind == s->kind &&
           (s->value(v) > 0 || (s->zeros && (v->kind == VIEW_UPSTREAM || v->shut > 0)));
}

/* --- the cap ---------------------------------------------------------------------------------- */

#define SERIES_MAX 500 /* of models, of each kind */
#define THE_REST "other"

/* Drops views without any sample, since clients may name arbitrary models. Returns how many are
 * left. */
static size_t drop_silent(struct traffic_view *all, size_t n)
{
    size_t kept = 0;

    for (size_t i = 0; i < n; i++) {
        bool speaks = false;

        for (size_t k = 0; k < sizeof all_series / sizeof all_series[0]; k++)
            speaks |= says_something(&all_series[k], &all[i]);
        if (speaks)
            all[kept++] = all[i];
    }
    return kept;
}

/* Both lists are sorted. Moves `at` to the first of `shown` that is not before `v`; returns whether
 * it is equal. */
static bool was_shown(const struct traffic_view *shown, size_t n, size_t *at,
                      const struct traffic_view *v)
{
    while (*at < n && compare(&shown[*at], v) < 0)
        ++*at;
    return *at < n && compare(&shown[*at], v) == 0;
}

/* Limits the number of series. Views that had their own labels at the last scrape keep them, since
 * a counter must not jump between two series. Others follow while there is room; the rest is summed
 * as one model. */
static void cap(struct traffic_view *all, size_t n, const struct traffic_view *shown,
                size_t shown_n)
{
    size_t room[VIEW_TARGET + 1], at = 0;

    for (size_t i = 0; i <= VIEW_TARGET; i++)
        room[i] = SERIES_MAX;
    for (size_t i = 0; i < n; i++)
        if (was_shown(shown, shown_n, &at, &all[i]))
            room[all[i].view.kind]--;
    at = 0;
    for (size_t i = 0; i < n; i++) {
        struct traffic_view *v = &all[i];

        if (!has_model(v) || was_shown(shown, shown_n, &at, v))
            continue;
        if (room[v->view.kind] > 0)
            room[v->view.kind]--;
        else
            snprintf(v->model, sizeof(v->model), THE_REST);
    }
}

static void remember(struct buf *shown, const struct traffic_view *all, size_t n)
{
    buf_reset(shown, SIZE_MAX);
    for (size_t i = 0; i < n; i++)
        if (has_model(&all[i]) && strcmp(all[i].model, THE_REST) != 0)
            (void)buf_add(shown, (const char *)&all[i], sizeof(all[i]));
}

/* --- the text --------------------------------------------------------------------------------- */

static void write_view(const struct series *s, const struct traffic_view *v, struct buf *out)
{
    if (!says_something(s, v))
        return;
    buf_printf(out, "%s{", metrics_families[s->metric].name);
    metrics_write_label(out, "upstream", v->upstream);
    if (has_model(v)) {
        metrics_write_label(out, "model", v->model);
        buf_printf(out, ",operation=\"%s\"", operation_word(v->view.operation));
    }
    if (v->view.kind == VIEW_KEY || v->view.kind == VIEW_TARGET)
        buf_printf(out, ",key=\"%u\"", v->view.key_number);
    buf_printf(out, "} %.15g\n", s->value(&v->view));
}

static struct counts counts_of(struct traffic *t)
{
    struct counts counts;

    pthread_mutex_lock(&t->lock);
    counts = t->counts;
    pthread_mutex_unlock(&t->lock);
    return counts;
}

static void write_counts(unsigned waiting, const struct counts *counts, struct buf *out)
{
    metrics_write_count(out, METRIC_DENIED, counts->denied);
    metrics_write_count(out, METRIC_WAITING, waiting);
    metrics_write_head(out, METRIC_WAITS);
    for (unsigned i = TURN_WHY_GATE; i < TURN_WHY_QUEUE_FULL; i++)
        buf_printf(out, "%s{why=\"%s\"} %llu\n", metrics_families[METRIC_WAITS].name,
                   turns_why_word((enum turn_why)i), (unsigned long long)counts->waits[i]);
}

void traffic_metrics(struct traffic *t, struct buf *out)
{
    struct counts counts = counts_of(t);
    struct buf *shown = &t->shown;
    struct traffic_view *views;
    size_t n;

    write_counts(turns_waiting(traffic_turns(t)), &counts, out);
    if (traffic_views(t, &views, &n) < 0) {
        out->failed = true;
        return;
    }
    n = drop_silent(views, n);
    cap(views, n, (const struct traffic_view *)(void *)shown->p, shown->len / sizeof(*views));
    n = merge(views, n);
    remember(shown, views, n);
    for (size_t i = 0; i < sizeof all_series / sizeof all_series[0]; i++) {
        const struct series *s = &all_series[i];

        metrics_write_head(out, s->metric);
        for (size_t k = 0; k < n; k++)
            write_view(s, &views[k], out);
    }
    free(views);
}
