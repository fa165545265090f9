/* Keeps the stories of requests and the sums of the last hour. */
#include "worker/history.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define MINUTE_MS (60 * 1000)

struct minute {
    uint64_t number; /* of its time, in minutes */
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

/* The struct is nothing but numbers. */
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
