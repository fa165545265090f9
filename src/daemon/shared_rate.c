/* Rates: counts an upstream's attempts for a moment, tells them together, and hears how far ahead all are. */
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "daemon/shared_private.h"

static void on_time(uv_timer_t *timer);

#define UPSTREAMS_MAX 1000 /* that are counted at a time */
#define UNANSWERED 500     /* commands: the server is slow, and more of them would not help */
#define ADD_MAX_US 600e6   /* the script holds to the same */

/* An upstream whose attempts were told within the last SHARED_RATE_MS, or are to be. */
struct counted {
    struct list node;
    struct shared *shared;
    uint64_t id;
    double add_us;  /* to be told */
    double told_us; /* told last */
    uint64_t next_ms;
    bool asked; /* no answer yet */
};

static void on_rate(void *arg, void *tag, const struct redis_reply *a);

static int ask(struct counted *upstream, bool with_text)
{
    struct shared *s = upstream->shared;
    char id[SHARED_HEX_BYTES], key[SHARED_NAME_BYTES], add[32];

    snprintf(key, sizeof(key), "%s:rate:%s", s->prefix, shared_hex(upstream->id, id).p);
    snprintf(add, sizeof(add), "%.0f", upstream->told_us);
    const struct str words[] = {str_from(key), str_from(add)};
    return shared_run(s, SHARED_RATE, with_text, 1, 2, words, on_rate, upstream);
}

static void drop(struct counted *upstream)
{
    list_remove(&upstream->node);
    upstream->shared->upstream_count--;
    free(upstream);
}

static void visit(struct counted *upstream, uint64_t now)
{
    if (upstream->asked || upstream->next_ms > now)
        return;
    if (upstream->add_us < 1) { /* nothing more came: it is known no longer */
        drop(upstream);
        return;
    }
    upstream->told_us = fmin(upstream->add_us, ADD_MAX_US);
    upstream->add_us = 0;
    upstream->next_ms = now + SHARED_RATE_MS;
    upstream->asked =
        redis_pending(upstream->shared->commands.redis) < UNANSWERED && ask(upstream, false) == 0;
    if (!upstream->asked)
        upstream->add_us = upstream->told_us; /* with the next ones */
}

/* Upstreams with a question that has no answer yet are seen to when it comes. */
static void visit_all(struct shared *s)
{
    uint64_t now = clock_now_ms();
    uint64_t next = UINT64_MAX;

    for (struct list *node = s->upstreams.next, *after; node != &s->upstreams; node = after) {
        after = node->next;
        visit(LIST_ENTRY(node, struct counted, node), now);
    }
    for (struct list *node = s->upstreams.next; node != &s->upstreams; node = node->next) {
        const struct counted *upstream = LIST_ENTRY(node, struct counted, node);

        if (!upstream->asked && upstream->next_ms < next)
            next = upstream->next_ms;
    }
    if (next == UINT64_MAX)
        return;
    uv_update_time(s->loop);
    uv_timer_start(&s->pace, on_time, next > now ? next - now : 0, 0);
}

static void on_time(uv_timer_t *timer)
{
    struct shared *s = timer->data;

    assert(s->magic == SHARED_MAGIC);
    visit_all(s);
}

static void on_rate(void *arg, void *tag, const struct redis_reply *a)
{
    struct counted *upstream = tag;
    struct shared *s = upstream->shared;
    uint64_t id = upstream->id;

    (void)arg;
    if (shared_script_unknown(a) && ask(upstream, true) == 0)
        return;
    if (a->kind != REDIS_IS_NUMBER || a->number < 0) {
        shared_refused(s, a);
        return;
    }
    upstream->asked = false;
    visit_all(s); /* before the handler, which may tell more */
    /* The script goes no further; a number beyond it is no answer of the script's. */
    s->handler.rate(s->handler.arg, id, (uint64_t)fmin((double)a->number, ADD_MAX_US));
}

void shared_rate_forget(struct shared *s)
{
    struct list *node;

    while ((node = list_pop(&s->upstreams)))
        free(LIST_ENTRY(node, struct counted, node));
    s->upstream_count = 0;
    uv_timer_stop(&s->pace);
}

static struct counted *find_upstream(struct shared *s, uint64_t id)
{
    for (struct list *node = s->upstreams.next; node != &s->upstreams; node = node->next) {
        struct counted *upstream = LIST_ENTRY(node, struct counted, node);

        if (upstream->id == id)
            return upstream;
    }
    if (s->upstream_count >= UPSTREAMS_MAX)
        return NULL;
    struct counted *upstream = calloc(1, sizeof(*upstream));
    if (!upstream)
        return NULL;
    upstream->shared = s;
    upstream->id = id;
    list_append(&s->upstreams, &upstream->node);
    s->upstream_count++;
    return upstream;
}

/* While the server is away nothing is counted: when it comes back, those attempts are long past. */
void shared_tell_rate(struct shared *s, uint64_t upstream_id, double per_minute, unsigned taken)
{
    struct counted *upstream;

    assert(s->magic == SHARED_MAGIC && s->state != SHARED_CLOSED);
    if (s->state != SHARED_UP || taken == 0 || !(per_minute > 0))
        return;
    upstream = find_upstream(s, upstream_id);
    if (!upstream) {
        s->counts.dropped++;
        return;
    }
    upstream->add_us = fmin(upstream->add_us + taken * (60e6 / per_minute), ADD_MAX_US);
    visit_all(s);
}
