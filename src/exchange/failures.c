/* A small set of fingerprints that forgets by time. */
#include "exchange/failures.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WAYS 4
#define SETS (FAILURES_MAX / WAYS)

struct failure {
    uint64_t id;
    uint64_t until_ms; /* 0: the place is free */
    char words[FAILURE_WORDS];
};

struct failures {
    pthread_mutex_t lock;
    _Atomic uint64_t latest_ms; /* none is remembered for longer than that */
    struct failure sets[SETS][WAYS];
};

struct failures *failures_new(void)
{
    struct failures *f = calloc(1, sizeof(*f));

    if (f)
        pthread_mutex_init(&f->lock, NULL);
    return f;
}

void failures_free(struct failures *f)
{
    if (!f)
        return;
    pthread_mutex_destroy(&f->lock);
    free(f);
}

bool failures_any(const struct failures *f, uint64_t now_ms)
{
    return f && atomic_load_explicit(&f->latest_ms, memory_order_relaxed) > now_ms;
}

static struct failure *find(struct failures *f, uint64_t id)
{
    struct failure *set = f->sets[id % SETS];

    for (unsigned i = 0; i < WAYS; i++)
        if (set[i].until_ms > 0 && set[i].id == id)
            return &set[i];
    return NULL;
}

bool failures_has(struct failures *f, uint64_t id, uint64_t now_ms, char ret_words[FAILURE_WORDS])
{
    const struct failure *known;
    bool has;

    pthread_mutex_lock(&f->lock);
    known = find(f, id);
    has = known && known->until_ms > now_ms;
    if (has)
        memcpy(ret_words, known->words, FAILURE_WORDS);
    pthread_mutex_unlock(&f->lock);
    return has;
}

void failures_add(struct failures *f, uint64_t id, uint64_t until_ms, uint64_t now_ms,
                  const char *words)
{
    struct failure *place;

    if (until_ms <= now_ms)
        return;
    pthread_mutex_lock(&f->lock);
    /* Its own place, or the one that is forgotten first. */
    struct failure *set = f->sets[id % SETS], *first = find(f, id);
    if (first) {
        place = first;
    } else {
        first = set;
        for (unsigned i = 1; i < WAYS; i++)
            if (set[i].until_ms < first->until_ms)
                first = &set[i];
        place = first;
    }
    if (place->id != id || place->until_ms <= now_ms)
        place->words[0] = '\0';
    place->id = id;
    place->until_ms = until_ms;
    if (words)
        snprintf(place->words, sizeof(place->words), "%s", words);
    if (until_ms > atomic_load_explicit(&f->latest_ms, memory_order_relaxed))
        atomic_store_explicit(&f->latest_ms, until_ms, memory_order_relaxed);
    pthread_mutex_unlock(&f->lock);
}

void failures_forget(struct failures *f, uint64_t id)
{
    struct failure *known;

    pthread_mutex_lock(&f->lock);
    known = find(f, id);
    if (known)
        *known = (struct failure){0};
    pthread_mutex_unlock(&f->lock);
}
