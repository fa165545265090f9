/* A small set of fingerprints that expire, and its use by an exchange. */
#include "exchange/failures.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "exchange/exchange_private.h"

#define WAYS 4
#define SETS (FAILURES_MAX / WAYS)

struct failure {
    uint64_t id;
    uint64_t until_ms; /* 0: the place is free */
    char words[FAILURE_WORDS];
};

struct failures {
    pthread_mutex_t lock;
    _Atomic uint64_t latest_ms; /* no request is remembered for longer */
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
    /* The request's own place, or the one that expires first. */
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

/* --- a client's own retry of a request that has just failed here (C8) ------------------------- */

/* Two requests have the same fingerprint if method, target, credentials and body are the same. */
static uint64_t request_fingerprint(const struct exchange *x)
{
    const struct http_request *request = &x->request.http;
    uint64_t id = hash_join(fingerprint_of(buf_str(&request->method)),
                            fingerprint_of(buf_str(&request->target)));

    id = hash_join(id, x->placement.turn_request.client);
    return hash_join(id, body_fingerprint(&x->request.body));
}

void repeat_notice(struct exchange *x)
{
    uint64_t now = x->ops->now_ms(x->world);

    if (x->plan.settings->retry.repeat_window_ms == 0 || !failures_any(x->shared.failures, now))
        return;
    x->repeat = failures_has(x->shared.failures, request_fingerprint(x), now, x->words);
    if (!x->repeat)
        return;
    x->max_attempts = 1;
    exchange_cannot_retry(x, "the client repeats a request that has just failed here");
}

void repeat_note_failure(struct exchange *x, const struct outcome *o)
{
    const char *said = o->error ? o->error->message : "";

    if (o->status < 400)
        snprintf(x->words, sizeof(x->words), "%.*s", FAILURE_WORDS - 1,
                 *said ? said : x->attempt->detail);
    else
        snprintf(x->words, sizeof(x->words), "status %u%s%.120s", o->status, *said ? ": " : "",
                 said);
}

const char *repeat_words(const struct exchange *x)
{
    return x->repeat && x->attempts == 0 ? x->words : "";
}

/* Whether clients repeat a request with this status on their own. A failure within a stream has a
 * status below 400. */
static bool invites_repeats(unsigned status)
{
    return status < 400 || status >= 500 || status == 408 || status == 409 || status == 425 ||
           status == 429 || status == 498;
}

/* Whether the request was tried as often as possible and the client was told so, and neither to
 * come again nor that retryd ends. */
static bool failed_for_good(const struct exchange *x)
{
    return (x->end == END_FAILED || x->end == END_BROKEN) && !x->reply.come_again && !x->aborted &&
           invites_repeats(x->reply.status);
}

void repeat_remember(const struct exchange *x)
{
    uint64_t window;

    if (!x->shared.failures || !x->plan.settings)
        return;
    window = x->plan.settings->retry.repeat_window_ms;
    if (window > 0 && failed_for_good(x))
        failures_add(x->shared.failures, request_fingerprint(x), x->ended_ms + window, x->ended_ms,
                     x->attempts > 0 ? x->words : NULL);
    else if (x->repeat && x->end == END_ANSWERED)
        failures_forget(x->shared.failures, request_fingerprint(x));
}
