/* Rates: counts a site's attempts for a moment, tells them together, and hears how far ahead all are. */
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/shared_private.h"

static void on_time(uv_timer_t *timer);

#define SITES_MAX 1000   /* that are counted at a time */
#define UNANSWERED 500   /* commands: the server is slow, and more of them would not help */
#define ADD_MAX_US 600e6 /* the script holds to the same */

/* A site whose attempts were told within the last SHARED_RATE_MS, or are to be. */
struct site {
    struct list node;
    struct shared *shared;
    uint64_t id;
    double add_us;  /* to be told */
    double told_us; /* told last */
    uint64_t next_ms;
    bool asked; /* no answer yet */
};

static uint64_t now_ms(void)
{
    return uv_hrtime() / 1000000;
}

static void on_rate(void *arg, void *tag, const struct redis_answer *a);

static int ask(struct site *site, bool with_text)
{
    struct shared *s = site->shared;
    char id[SHARED_HEX_BYTES], key[SHARED_NAME_BYTES], add[32];

    snprintf(key, sizeof(key), "%s:rate:%s", s->prefix, shared_hex(site->id, id).p);
    snprintf(add, sizeof(add), "%.0f", site->told_us);
    const struct str words[] = {str_from(key), str_from(add)};
    return shared_run(s, SHARED_RATE, with_text, 1, 2, words, on_rate, site);
}

static void drop(struct site *site)
{
    list_remove(&site->node);
    site->shared->site_count--;
    free(site);
}

static void visit(struct site *site, uint64_t now)
{
    if (site->asked || site->next_ms > now)
        return;
    if (site->add_us < 1) { /* nothing more came: it is known no longer */
        drop(site);
        return;
    }
    site->told_us = fmin(site->add_us, ADD_MAX_US);
    site->add_us = 0;
    site->next_ms = now + SHARED_RATE_MS;
    site->asked =
        redis_unanswered(site->shared->commands.redis) < UNANSWERED && ask(site, false) == 0;
    if (!site->asked)
        site->add_us = site->told_us; /* with the next ones */
}

/* Sites with a question that has no answer yet are seen to when it comes. */
static void visit_all(struct shared *s)
{
    uint64_t now = now_ms();
    uint64_t next = UINT64_MAX;

    for (struct list *node = s->sites.next, *after; node != &s->sites; node = after) {
        after = node->next;
        visit(LIST_ENTRY(node, struct site, node), now);
    }
    for (struct list *node = s->sites.next; node != &s->sites; node = node->next) {
        const struct site *site = LIST_ENTRY(node, struct site, node);

        if (!site->asked && site->next_ms < next)
            next = site->next_ms;
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

static void on_rate(void *arg, void *tag, const struct redis_answer *a)
{
    struct site *site = tag;
    struct shared *s = site->shared;
    uint64_t id = site->id;

    (void)arg;
    if (shared_script_unknown(a) && ask(site, true) == 0)
        return;
    if (a->kind != REDIS_IS_NUMBER || a->number < 0) {
        shared_refused(s, a);
        return;
    }
    site->asked = false;
    visit_all(s); /* before the handler, which may tell more */
    /* The script goes no further; a number beyond it is no answer of the script's. */
    s->handler.rate(s->handler.arg, id, (uint64_t)fmin((double)a->number, ADD_MAX_US));
}

void shared_rate_forget(struct shared *s)
{
    struct list *node;

    while ((node = list_pop(&s->sites)))
        free(LIST_ENTRY(node, struct site, node));
    s->site_count = 0;
    uv_timer_stop(&s->pace);
}

static struct site *find_site(struct shared *s, uint64_t id)
{
    for (struct list *node = s->sites.next; node != &s->sites; node = node->next) {
        struct site *site = LIST_ENTRY(node, struct site, node);

        if (site->id == id)
            return site;
    }
    if (s->site_count >= SITES_MAX)
        return NULL;
    struct site *site = calloc(1, sizeof(*site));
    if (!site)
        return NULL;
    site->shared = s;
    site->id = id;
    list_append(&s->sites, &site->node);
    s->site_count++;
    return site;
}

/* While the server is away nothing is counted: when it comes back, those attempts are long past. */
void shared_tell_rate(struct shared *s, uint64_t site_id, double per_minute, unsigned taken)
{
    struct site *site;

    assert(s->magic == SHARED_MAGIC && s->state != SHARED_CLOSED);
    if (s->state != SHARED_UP || taken == 0 || !(per_minute > 0))
        return;
    site = find_site(s, site_id);
    if (!site) {
        s->counts.dropped++;
        return;
    }
    site->add_us = fmin(site->add_us + taken * (60e6 / per_minute), ADD_MAX_US);
    visit_all(s);
}
