/* Stories of requests, running and kept; and the sums of the last hour. */
#include "worker/history.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "worker/access_log.h"

#define MINUTE_MS (60 * 1000)

struct minute {
    uint64_t number; /* its start in minutes of the clock */
    struct history_sums sums;
};

struct history {
    pthread_mutex_t lock; /* guards the fields up to `serial` and the stories */
    struct list live;
    struct list past; /* oldest first */
    unsigned live_count, past_count;
    uint64_t serial; /* of the story that ended last */
    struct history_sums before;
    struct minute minutes[HISTORY_MINUTES];
};

/* --- words ------------------------------------------------------------------------------------ */

const char *story_outcome_word(enum story_outcome o)
{
    static const char *const words[] = {[ATTEMPT_RUNS] = "running",
                                        [ATTEMPT_FAILED] = "failed",
                                        [ATTEMPT_GOOD] = "good",
                                        [ATTEMPT_CANCELLED] = "cancelled"};

    return words[o];
}

const char *story_phase_word(enum story_phase p)
{
    static const char *const words[] = {[STORY_QUEUED] = "queued",
                                        [STORY_BACKOFF] = "backing_off",
                                        [STORY_ATTEMPTING] = "attempting",
                                        [STORY_RELAYING] = "relaying",
                                        [STORY_ENDED] = "ended"};

    return words[p];
}

void story_copy(char *to, size_t size, struct str text)
{
    size_t n = text.n;

    if (n >= size) {
        n = size - 4;
        while (n > 0 && ((unsigned char)text.p[n] & 0xc0) == 0x80)
            n--;
        memcpy(to + n, "...", 4);
    } else {
        to[n] = '\0';
    }
    if (n > 0)
        memcpy(to, text.p, n);
}

/* --- stories ---------------------------------------------------------------------------------- */

struct history *history_new(void)
{
    struct history *h = calloc(1, sizeof(*h));

    if (!h)
        return NULL;
    pthread_mutex_init(&h->lock, NULL);
    list_init(&h->live);
    list_init(&h->past);
    return h;
}

static void free_stories(struct list *stories)
{
    struct list *node;

    while ((node = list_pop(stories)))
        free(LIST_ENTRY(node, struct story, node));
}

void history_free(struct history *h)
{
    if (!h)
        return;
    free_stories(&h->live);
    free_stories(&h->past);
    pthread_mutex_destroy(&h->lock);
    free(h);
}

void history_lock(struct history *h)
{
    pthread_mutex_lock(&h->lock);
}

void history_unlock(struct history *h)
{
    pthread_mutex_unlock(&h->lock);
}

struct story *history_begin(struct history *h)
{
    struct story *s = calloc(1, sizeof(*s));
    bool room;

    if (!s)
        return NULL;
    list_init(&s->node);
    history_lock(h);
    room = h->live_count < HISTORY_LIVE_MAX;
    if (room) {
        list_append(&h->live, &s->node);
        h->live_count++;
    }
    history_unlock(h);
    if (!room) {
        free(s);
        return NULL;
    }
    return s;
}

void history_end(struct history *h, struct story *s)
{
    struct list *oldest = NULL;

    history_lock(h);
    list_remove(&s->node);
    h->live_count--;
    list_append(&h->past, &s->node);
    s->phase = STORY_ENDED;
    s->serial = ++h->serial;
    if (++h->past_count > HISTORY_MAX) {
        oldest = list_pop(&h->past);
        h->past_count--;
    }
    history_unlock(h);
    if (oldest)
        free(LIST_ENTRY(oldest, struct story, node));
}

void history_drop(struct history *h, struct story *s)
{
    history_lock(h);
    list_remove(&s->node);
    h->live_count--;
    history_unlock(h);
    free(s);
}

unsigned history_copy_live(struct history *h, struct story *to, unsigned max)
{
    unsigned n = 0;

    history_lock(h);
    for (struct list *l = h->live.next; l != &h->live && n < max; l = l->next)
        to[n++] = *LIST_ENTRY(l, struct story, node);
    history_unlock(h);
    return n;
}

unsigned history_copy_ended(struct history *h, uint64_t after, struct story *to, unsigned max)
{
    unsigned n = 0;

    history_lock(h);
    for (struct list *l = h->past.prev; l != &h->past && n < max; l = l->prev) {
        const struct story *s = LIST_ENTRY(l, struct story, node);

        if (s->serial <= after)
            break;
        to[n++] = *s;
    }
    history_unlock(h);
    return n;
}

static bool find_in(struct list *stories, struct str id, struct story *ret)
{
    for (struct list *l = stories->prev; l != stories; l = l->prev) {
        const struct story *s = LIST_ENTRY(l, struct story, node);

        if (str_starts(str_from(s->id), id)) {
            *ret = *s;
            return true;
        }
    }
    return false;
}

bool history_find(struct history *h, struct str id, struct story *ret)
{
    bool found = false;

    if (id.n < HISTORY_ID_MIN)
        return false;
    history_lock(h);
    found = find_in(&h->live, id, ret) || find_in(&h->past, id, ret);
    history_unlock(h);
    return found;
}

unsigned history_live(struct history *h)
{
    unsigned n;

    history_lock(h);
    n = h->live_count;
    history_unlock(h);
    return n;
}

/* --- the last hour ---------------------------------------------------------------------------- */

#define SUMS (sizeof(struct history_sums) / sizeof(uint64_t))

/* The struct consists of numbers only. */
static uint64_t *numbers(struct history_sums *s)
{
    return (uint64_t *)(void *)s;
}

void history_sample(struct history *h, uint64_t now_ms, const struct history_sums *sums)
{
    uint64_t number = now_ms / MINUTE_MS;
    struct minute *m = &h->minutes[number % HISTORY_MINUTES];
    struct history_sums now = *sums;

    if (m->number != number)
        *m = (struct minute){.number = number};
    for (size_t i = 0; i < SUMS; i++)
        numbers(&m->sums)[i] += numbers(&now)[i] - numbers(&h->before)[i];
    h->before = now;
}

struct history_sums history_minute(const struct history *h, uint64_t now_ms, unsigned ago)
{
    uint64_t number = now_ms / MINUTE_MS;
    struct history_sums none = {.requests = 0};

    if (ago > number || h->minutes[(number - ago) % HISTORY_MINUTES].number != number - ago)
        return none;
    return h->minutes[(number - ago) % HISTORY_MINUTES].sums;
}

struct history_sums history_hour(const struct history *h, uint64_t now_ms)
{
    struct history_sums all = {.requests = 0};

    for (unsigned ago = 0; ago < HISTORY_MINUTES; ago++) {
        struct history_sums one = history_minute(h, now_ms, ago);

        for (size_t i = 0; i < SUMS; i++)
            numbers(&all)[i] += numbers(&one)[i];
    }
    return all;
}

/* --- the story of an exchange: ids, names and numbers, never a header or a key ---------------- */

#define WAIT_WORTH_MS 1000 /* a shorter wait for a turn is not recorded once it is over */

/* Returns the story, begun if need be, and locks; NULL without the lock if there can be none. */
static struct story *open_story(struct history *h, struct story **slot, const struct exchange *x)
{
    struct story *s = *slot;
    uint64_t now_ms = clock_now_ms();

    if (s) {
        history_lock(h);
        return s;
    }
    s = *slot = history_begin(h);
    if (!s)
        return NULL;
    history_lock(h);
    story_copy(s->id, sizeof(s->id), str_from(x->request.id));
    story_copy(s->method, sizeof(s->method), buf_str(&x->request.http.method));
    story_copy(s->path, sizeof(s->path), http_request_path(&x->request.http));
    story_copy(s->model, sizeof(s->model), str_from(x->request.model));
    story_copy(s->route, sizeof(s->route), str_from(x->plan.route ? x->plan.route : ""));
    s->stream = x->request.stream;
    s->started_ms = x->started_ms;
    s->unix_ms = clock_unix_ms() - (now_ms - x->started_ms);
    s->max_attempts = x->max_attempts;
    return s;
}

/* --- attempts --------------------------------------------------------------------------------- */

static struct story_attempt *running(struct story *s, unsigned number)
{
    for (unsigned i = s->kept; i-- > 0;)
        if (s->attempt[i].number == number && s->attempt[i].outcome == ATTEMPT_RUNS)
            return &s->attempt[i];
    return NULL;
}

static struct story_attempt *add(struct story *s, const struct exchange *x, const struct attempt *a)
{
    struct story_attempt *one = &s->attempt[s->kept < STORY_ATTEMPTS ? s->kept++ : s->kept - 1];
    const struct target *t = &a->turn.target;
    uint64_t waited = s->backoff_ms + s->queue_ms;

    *one = (struct story_attempt){.number = a->number, .key_number = t->key_number};
    one->start_ms = a->started_ms > x->started_ms ? a->started_ms - x->started_ms : 0;
    one->wait_ms = x->wait_ms - waited;
    s->queue_ms = x->placement.queue_ms;
    s->backoff_ms = x->wait_ms - s->queue_ms;
    story_copy(one->upstream, sizeof(one->upstream),
               str_from(t->upstream ? t->upstream->name : ""));
    story_copy(one->model, sizeof(one->model), t->own_model);
    s->attempts = x->attempts > s->attempts ? x->attempts : s->attempts;
    return one;
}

void story_attempt(struct history *h, struct story **slot, const struct exchange *x,
                   const struct attempt *a)
{
    struct story *s;

    /* The story of a request that has only waited for a moment is dropped. */
    if (*slot && a->number == 1 && x->placement.queue_ms < WAIT_WORTH_MS)
        story_drop(h, slot);
    if ((!*slot && a->number == 1) || !(s = open_story(h, slot, x)))
        return;
    (void)add(s, x, a);
    s->phase = STORY_ATTEMPTING;
    history_unlock(h);
}

void story_hedged(struct history *h, struct story **slot, const struct exchange *x)
{
    struct story *s = open_story(h, slot, x);

    if (!s)
        return;
    if (x->attempt->running && !running(s, x->attempt->number))
        (void)add(s, x, x->attempt);
    s->hedges++;
    history_unlock(h);
}

void story_failed(struct history *h, struct story **slot, const struct exchange *x,
                  const struct attempt_report *r)
{
    struct story *s = open_story(h, slot, x);
    struct story_attempt *one;

    if (!s)
        return;
    one = running(s, r->number);
    if (!one)
        one = add(s, x, r->attempt);
    one->outcome = ATTEMPT_FAILED;
    one->duration_ms = r->duration_ms;
    one->status = r->status;
    one->reason = s->reason = r->verdict.reason;
    if (r->error)
        story_copy(one->code, sizeof(one->code), access_log_foreign(x, str_from(r->error->code)));
    story_copy(one->detail, sizeof(one->detail), access_log_foreign(x, str_from(r->detail)));
    s->upstream_ms += r->duration_ms;
    if (r->decision.action == RETRY_AGAIN) {
        s->phase = STORY_BACKOFF;
        s->until_ms = clock_after(clock_now_ms(), r->decision.delay_ms);
    }
    history_unlock(h);
}

/* --- waiting, relaying ------------------------------------------------------------------------ */

void story_waits(struct history *h, struct story **slot, const struct exchange *x,
                 const struct turn *turn)
{
    struct story *s = open_story(h, slot, x);

    if (!s)
        return;
    s->phase = STORY_QUEUED;
    s->why = turn->first_held; /* other threads own the rest of the turn by now */
    history_unlock(h);
}

void story_relays(struct history *h, struct story *s)
{
    if (!s)
        return;
    history_lock(h);
    s->phase = STORY_RELAYING;
    history_unlock(h);
}

/* --- the end ---------------------------------------------------------------------------------- */

static bool ended_in_attempt(const struct exchange *x)
{
    return x->attempts > 0 &&
           (x->end == END_ANSWERED || (x->end == END_CLIENT_GONE && x->reply.committed));
}

uint64_t story_upstream_ms(const struct story *s, const struct exchange *x)
{
    uint64_t total = x->ended_ms - x->started_ms, ms = s ? s->upstream_ms : 0;
    uint64_t most = total > x->wait_ms ? total - x->wait_ms : 0;

    if (ended_in_attempt(x) && x->ended_ms > x->attempt->started_ms)
        ms += x->ended_ms - x->attempt->started_ms;
    return ms < most ? ms : most; /* two that race count once */
}

static bool is_notable(const struct story *s, const struct exchange *x, uint64_t slow_ms)
{
    if (x->end != END_ANSWERED || x->attempts > 1 || x->placement.queue_ms >= WAIT_WORTH_MS ||
        (s && s->kept > 0 && s->attempt[0].outcome == ATTEMPT_FAILED))
        return true;
    return slow_ms > 0 && x->reply.first_byte_ms > 0 &&
           x->reply.first_byte_ms - x->started_ms > slow_ms;
}

static void close_attempts(struct story *s, const struct exchange *x)
{
    bool good = ended_in_attempt(x);

    if (good && !running(s, x->attempt->number))
        (void)add(s, x, x->attempt);
    for (unsigned i = 0; i < s->kept; i++) {
        struct story_attempt *one = &s->attempt[i];
        uint64_t end_ms = x->ended_ms - x->started_ms;

        if (one->outcome != ATTEMPT_RUNS)
            continue;
        one->outcome = good && one->number == x->attempt->number ? ATTEMPT_GOOD : ATTEMPT_CANCELLED;
        one->status = one->outcome == ATTEMPT_GOOD ? x->attempt->status : 0;
        one->duration_ms = end_ms > one->start_ms ? end_ms - one->start_ms : 0;
    }
}

void story_end(struct history *h, struct story **slot, const struct exchange *x, uint64_t slow_ms)
{
    struct story *s;

    if (!is_notable(*slot, x, slow_ms)) {
        story_drop(h, slot);
        return;
    }
    s = open_story(h, slot, x);
    if (!s)
        return;
    close_attempts(s, x);
    s->upstream_ms = story_upstream_ms(s, x);
    s->ended_ms = x->ended_ms;
    s->end = x->end;
    s->status = x->reply.status;
    s->reason = x->end == END_ANSWERED ? REASON_OK : x->last_reason;
    if (x->end != END_ANSWERED && x->cannot_retry)
        story_copy(s->cannot_retry, sizeof(s->cannot_retry), str_from(x->cannot_retry));
    s->attempts = x->attempts;
    s->max_attempts = x->max_attempts;
    s->duplicates = x->duplicates;
    s->splices = x->stream.splices;
    s->client_repeat = x->repeat;
    s->queue_ms = x->placement.queue_ms;
    s->backoff_ms = x->wait_ms - s->queue_ms;
    s->queued_for = x->placement.queue_ms ? x->placement.queue_why : TURN_WHY_NONE;
    s->first_byte_ms = x->reply.first_byte_ms ? x->reply.first_byte_ms - x->started_ms : 0;
    s->bytes = x->reply.bytes_out;
    history_unlock(h);
    history_end(h, s);
    *slot = NULL;
}

void story_drop(struct history *h, struct story **slot)
{
    if (*slot)
        history_drop(h, *slot);
    *slot = NULL;
}
