/* Guards and times the turns of all workers, and handles their events. */
#include "worker/traffic.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"

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

struct traffic {
    pthread_mutex_t lock; /* guards the turns and the fields up to `sink` */
    struct turns *turns;
    uint64_t next_ms;  /* when turns_run is due; TURNS_NEVER */
    uint64_t armed_ms; /* when the timer fires at the latest */
    struct traffic_counts counts;
    struct turns_event news[NEWS_MAX];
    struct event_line lines[LINES_MAX];
    unsigned line_count;
    unsigned news_first, news_count;
    struct rated rated[RATED_MAX];
    unsigned rated_count;
    uint64_t news_dropped;
    struct traffic_news sink;
    struct buf shown; /* the main thread's */
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
    case TURNS_GATE_OPEN: /* needs no news: each daemon opens its own gate step by step */
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

/* Gates and breakers go first: they matter most. */
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

struct traffic_counts traffic_counts(struct traffic *t)
{
    struct traffic_counts counts;

    pthread_mutex_lock(&t->lock);
    counts = t->counts;
    pthread_mutex_unlock(&t->lock);
    return counts;
}

struct buf *traffic_shown(struct traffic *t)
{
    return &t->shown;
}
