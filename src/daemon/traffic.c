/* Guards the turns of all workers, and lets time pass for them. */
#include "daemon/traffic.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"

/* News wait here for the main thread. Of single requests there are far more than of gates and breakers,
 * which must not make room for them: each kind has places of its own. */
#define NEWS_MAX 1024 /* of gates and breakers; the oldest are dropped */
#define RATED_MAX 256 /* upstreams with requests_per_minute; their attempts are only counted */

struct rated {
    uint64_t upstream_id;
    double per_minute;
    unsigned taken;
};

#define LINES_MAX 8 /* of the log, until the lock is free; what comes then is written at once */

/* An event with its names, to be logged when the lock is no longer held. */
struct event_line {
    struct turns_event event;
    char upstream[64], model[128];
};

struct traffic {
    pthread_mutex_t lock;
    struct turns *turns;
    uint64_t armed_ms; /* when the timer runs turns_run; TURNS_NEVER */
    uint64_t waits[TURN_WHY_COUNT];
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

/* --- events ------------------------------------------------------------------------------------- */

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
           : e->kind == TURNS_WAIT ? LOG_DEBUG /* one for each request, at worst */
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

/* Its names may be gone by the time it is written. */
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

/* The names belong to the registry, and may be gone by the time it is told. */
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

    if (!t->sink.told || e->learned)
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
    case TURNS_GATE_OPEN: /* by itself; each daemon opens its own step by step */
    case TURNS_BREAKER_PROBE:
    case TURNS_KEY_ASIDE:
    case TURNS_PACE:
    case TURNS_WAIT:
        return;
    }
    if (!waiting)
        uv_async_send(&t->async);
}

static void on_event(void *arg, const struct turns_event *e)
{
    struct traffic *t = arg;

    if (e->kind == TURNS_WAIT) {
        t->waits[e->why]++;
        keep_line(t, e);
        return;
    }
    if (e->kind != TURNS_RATE_TAKEN &&
        !(e->kind == TURNS_PACE && e->reason == REASON_OK && e->per_minute > 0))
        keep_line(t, e);
    keep(t, e);
}

/* --- time --------------------------------------------------------------------------------------- */

static void lock(struct traffic *t)
{
    pthread_mutex_lock(&t->lock);
}

static void release(struct traffic *t)
{
    struct event_line lines[LINES_MAX];
    unsigned n = t->line_count;

    if (n > 0)
        memcpy(lines, t->lines, n * sizeof(lines[0]));
    t->line_count = 0;
    pthread_mutex_unlock(&t->lock);
    for (unsigned i = 0; i < n; i++) {
        lines[i].event.upstream = lines[i].upstream;
        lines[i].event.model = lines[i].model;
        log_event(&lines[i].event);
    }
}

/* The main thread is woken where it would be late otherwise. */
static void unlock(struct traffic *t)
{
    uint64_t next = turns_next(t->turns);
    bool earlier = next < t->armed_ms;

    if (earlier)
        t->armed_ms = next;
    release(t);
    if (earlier)
        uv_async_send(&t->async);
}

static void on_timer(uv_timer_t *timer);

/* It fires when that millisecond is over. */
static void arm(struct traffic *t, uint64_t at_ms)
{
    uint64_t now = clock_now_ms();

    if (at_ms == TURNS_NEVER) {
        uv_timer_stop(&t->timer);
        return;
    }
    uv_update_time(t->loop);
    uv_timer_start(&t->timer, on_timer, at_ms > now ? at_ms - now : 0, 0);
}

static void on_timer(uv_timer_t *timer)
{
    struct traffic *t = timer->data;
    uint64_t next;

    pthread_mutex_lock(&t->lock);
    turns_run(t->turns, clock_now_ms());
    next = t->armed_ms = turns_next(t->turns);
    release(t);
    arm(t, next);
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

/* Gates and breakers first: they matter most. */
static void tell_news(struct traffic *t)
{
    struct turns_event e;
    struct rated r;

    while (take_news(t, &e))
        t->sink.told(t->sink.arg, &e);
    while (take_rate(t, &r))
        t->sink.taken(t->sink.arg, r.upstream_id, r.per_minute, r.taken);
}

static void on_async(uv_async_t *async)
{
    struct traffic *t = async->data;
    uint64_t at;

    tell_news(t);
    pthread_mutex_lock(&t->lock);
    at = t->armed_ms;
    pthread_mutex_unlock(&t->lock);
    arm(t, at);
}

/* --- life --------------------------------------------------------------------------------------- */

struct traffic *traffic_new(uv_loop_t *loop)
{
    struct traffic *t = calloc(1, sizeof(*t));
    struct turns_handler handler = {.event = on_event, .arg = t};

    if (!t)
        return NULL;
    t->turns = turns_new(&handler);
    if (!t->turns || uv_async_init(loop, &t->async, on_async) < 0) {
        turns_free(t->turns);
        free(t);
        return NULL;
    }
    pthread_mutex_init(&t->lock, NULL);
    buf_init(&t->shown, SIZE_MAX / 2);
    t->loop = loop;
    t->armed_ms = TURNS_NEVER;
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

/* --- what workers ask ------------------------------------------------------------------------------ */

enum turn_state traffic_ask(struct traffic *t, struct turn *turn, struct turns_ready *ready,
                            const struct turn_request *turn_request)
{
    enum turn_state s;

    lock(t);
    s = turns_ask(t->turns, turn, ready, turn_request, clock_now_ms());
    unlock(t);
    return s;
}

enum turn_state traffic_state(struct traffic *t, const struct turn *turn)
{
    enum turn_state s;

    pthread_mutex_lock(&t->lock);
    s = turn->state;
    pthread_mutex_unlock(&t->lock);
    return s;
}

void traffic_leave(struct traffic *t, struct turn *turn)
{
    lock(t);
    turns_leave(t->turns, turn, clock_now_ms());
    unlock(t);
}

/* The clock's millisecond has begun before: a gate opens when that many are over, and not sooner. */
void traffic_tell(struct traffic *t, struct turn *turn, const struct turn_result *r)
{
    struct turn_result rounded = *r;

    if (rounded.hint.delay_ms > 0)
        rounded.hint.delay_ms++;
    lock(t);
    turns_tell(t->turns, turn, &rounded, clock_now_ms());
    unlock(t);
}

void traffic_end(struct traffic *t, struct turn *turn)
{
    lock(t);
    turns_end(t->turns, turn, clock_now_ms());
    unlock(t);
}

void traffic_look(struct traffic *t, const struct turn_request *turn_request, unsigned helps,
                  struct turns_outlook *ret)
{
    lock(t);
    turns_look(t->turns, turn_request, helps, clock_now_ms(), ret);
    unlock(t);
}

bool traffic_may_repeat(struct traffic *t, const struct upstream *p, const struct retry_settings *s)
{
    bool may;

    lock(t);
    may = turns_may_repeat(t->turns, p, s, clock_now_ms());
    unlock(t);
    return may;
}

void traffic_charge(struct traffic *t, const struct upstream *p)
{
    lock(t);
    turns_charge(t->turns, p, clock_now_ms());
    unlock(t);
}

void traffic_limits(struct traffic *t, const struct upstream *p)
{
    lock(t);
    turns_limits(t->turns, p, clock_now_ms());
    unlock(t);
}

struct turn *traffic_take(struct traffic *t, struct turns_ready *ready)
{
    struct turn *turn;

    pthread_mutex_lock(&t->lock);
    turn = turns_ready_take(ready);
    pthread_mutex_unlock(&t->lock);
    return turn;
}

/* --- what other daemons tell ------------------------------------------------------------------------- */

void traffic_learn_gate(struct traffic *t, uint64_t target_id, uint64_t for_ms)
{
    lock(t);
    turns_learn_gate(t->turns, target_id, for_ms, clock_now_ms());
    unlock(t);
}

void traffic_learn_breaker(struct traffic *t, uint64_t model_id, bool open, uint64_t for_ms)
{
    lock(t);
    turns_learn_breaker(t->turns, model_id, open, for_ms, clock_now_ms());
    unlock(t);
}

void traffic_learn_rate(struct traffic *t, uint64_t upstream_id, uint64_t ahead_us)
{
    lock(t);
    turns_learn_rate(t->turns, upstream_id, ahead_us, clock_now_ms());
    unlock(t);
}

struct buf *traffic_shown(struct traffic *t)
{
    return &t->shown;
}

/* --- the view ------------------------------------------------------------------------------------- */

void traffic_view(struct traffic *t, struct traffic_view *ret)
{
    uint64_t at = 0;
    bool more;

    lock(t);
    ret->waiting = turns_waiting(t->turns);
    memcpy(ret->waits, t->waits, sizeof(ret->waits));
    unlock(t);
    do {
        lock(t);
        more = turns_each(t->turns, &at, ret->each, ret->arg, clock_now_ms());
        unlock(t);
    } while (more);
}
