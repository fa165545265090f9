/* Keeps what is known of targets, under hashes of their names, and forgets what is idle. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "targets/turns_private.h"

static struct entry **bucket(struct turns *t, uint64_t id)
{
    return &t->buckets[id % TABLE_BUCKETS];
}

struct entry *table_find(struct turns *t, uint64_t id, enum entry_kind kind)
{
    for (struct entry *e = *bucket(t, id); e; e = e->next)
        if (e->id == id && e->kind == kind)
            return e;
    return NULL;
}

static void *add(struct turns *t, uint64_t id, enum entry_kind kind, size_t size, uint64_t now_ms)
{
    struct entry *e = calloc(1, size), **b = bucket(t, id);

    if (!e)
        return NULL;
    *e = (struct entry){.next = *b, .id = id, .kind = kind, .used_ms = now_ms};
    *b = e;
    return e;
}

/* --- forgetting --------------------------------------------------------------------------------- */

/* Of what nobody has asked for in IDLE_MS. Gates, breakers and paces move on only when somebody asks,
 * so what counts is the time, not the phase; and a pace is off after 40 rounds without a 429. */
static bool tells_nothing(const struct entry *e, uint64_t now_ms)
{
    static_assert(IDLE_MS >= 40 * PACE_ROUND_MS, "an idle lane has no pace left");
    const struct gate *gate = &((const struct lane *)(const void *)e)->gate;
    const struct breaker *breaker = &((const struct circuit *)(const void *)e)->breaker;

    switch (e->kind) {
    case ENTRY_LANE:
        return gate->phase != GATE_CLOSED || gate->until_ms <= now_ms;
    case ENTRY_CIRCUIT:
        return breaker->phase == BREAKER_CLOSED || breaker->until_ms <= now_ms;
    case ENTRY_KEY:
        return ((const struct keyring *)(const void *)e)->aside_until_ms <= now_ms;
    case ENTRY_LEARNED:
        return ((const struct learned *)(const void *)e)->until_ms <= now_ms;
    case ENTRY_SITE:
        break;
    }
    return true;
}

static void drop(struct turns *t, struct entry *e)
{
    struct lane *lane = (struct lane *)(void *)e;

    if (e->kind == ENTRY_LANE) {
        list_remove(&lane->node);
        lane->circuit->entry.refs--;
        lane->key->entry.refs--;
        t->lane_count--;
    } else if (e->kind == ENTRY_CIRCUIT) {
        ((struct circuit *)(void *)e)->site->entry.refs--;
    } else if (e->kind == ENTRY_LEARNED) {
        t->learned_count--;
    }
    free(e);
}

/* Lanes first, then what only they had a use for. */
static void forget(struct turns *t, enum entry_kind kind, uint64_t idle_ms, uint64_t now_ms)
{
    for (unsigned i = 0; i < TABLE_BUCKETS; i++) {
        struct entry **at = &t->buckets[i];

        while (*at) {
            struct entry *e = *at;

            if (e->kind != kind || e->refs > 0 || now_ms - e->used_ms < idle_ms ||
                !tells_nothing(e, now_ms)) {
                at = &e->next;
                continue;
            }
            *at = e->next;
            drop(t, e);
        }
    }
}

static void forget_idle(struct turns *t, uint64_t now_ms)
{
    static const enum entry_kind order[] = {ENTRY_LANE, ENTRY_CIRCUIT, ENTRY_KEY, ENTRY_LEARNED};

    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++)
        forget(t, order[i], IDLE_MS, now_ms);
}

void table_free(struct turns *t)
{
    for (unsigned i = 0; i < TABLE_BUCKETS; i++) {
        while (t->buckets[i]) {
            struct entry *e = t->buckets[i];

            t->buckets[i] = e->next;
            free(e);
        }
    }
}

/* --- finding and making ---------------------------------------------------------------------------- */

/* Those who wait have the configuration that they came with: a later one stays in force. */
static void set_limits(struct site *s, const struct provider *p)
{
    if (p->generation < s->generation)
        return;
    s->generation = p->generation;
    s->max_concurrency = p->max_concurrency;
    /* A limit that was raised, or taken away: what was too much for it before is not any more. */
    if (s->per_minute > 0 &&
        (p->requests_per_minute == 0 || p->requests_per_minute > s->per_minute))
        s->rate = (struct rate){0};
    s->per_minute = p->requests_per_minute;
}

struct site *table_site(struct turns *t, const struct provider *p, uint64_t now_ms)
{
    struct site *s = (struct site *)(void *)table_find(t, p->id, ENTRY_SITE);

    if (!s) {
        s = add(t, p->id, ENTRY_SITE, sizeof(*s), now_ms);
        if (!s)
            return NULL;
        budget_init(&s->budget);
        snprintf(s->name, sizeof(s->name), "%s", p->name);
    }
    set_limits(s, p);
    return s;
}

void turns_limits(struct turns *t, const struct provider *p, uint64_t now_ms)
{
    struct site *s = (struct site *)(void *)table_find(t, p->id, ENTRY_SITE);

    if (!s)
        return;
    set_limits(s, p);
    turns_run(t, now_ms);
}

static uint64_t shut_until(struct turns *t, uint64_t id)
{
    const struct learned *l = (const struct learned *)(void *)table_find(t, id, ENTRY_LEARNED);

    return l ? l->until_ms : 0;
}

void table_learn(struct turns *t, uint64_t id, uint64_t until_ms, uint64_t now_ms)
{
    struct learned *l = (struct learned *)(void *)table_find(t, id, ENTRY_LEARNED);

    if (!l && t->learned_count >= LEARNED_MAX) {
        forget(t, ENTRY_LEARNED, 0, now_ms);
        if (t->learned_count >= LEARNED_MAX)
            return;
    }
    if (!l) {
        l = add(t, id, ENTRY_LEARNED, sizeof(*l), now_ms);
        if (!l)
            return;
        t->learned_count++;
    }
    l->until_ms = until_ms;
}

/* Of generation as it has always been: daemons that share what they know may be of different versions. */
static uint64_t of_operation(uint64_t id, enum operation o)
{
    return o == OPERATION_GENERATE ? id : hash_join(id, (uint64_t)o);
}

static uint64_t circuit_id(const struct provider *p, struct str model, enum operation o)
{
    return of_operation(hash_join(p->id, hash_text(model)), o);
}

static struct circuit *table_circuit(struct turns *t, const struct provider *p, struct str model,
                                     enum operation o, uint64_t now_ms)
{
    uint64_t id = circuit_id(p, model, o), until = 0;
    struct circuit *c = (struct circuit *)(void *)table_find(t, id, ENTRY_CIRCUIT);

    if (c) {
        c->entry.used_ms = now_ms;
        return c;
    }
    struct site *s = table_site(t, p, now_ms);
    c = s ? add(t, id, ENTRY_CIRCUIT, sizeof(*c), now_ms) : NULL;
    if (!c)
        return NULL;
    s->entry.refs++;
    c->site = s;
    c->operation = o;
    list_init(&c->lanes);
    breaker_init(&c->breaker);
    snprintf(c->model, sizeof(c->model), "%.*s", (int)model.n, model.n ? model.p : "");
    until = shut_until(t, id);
    if (until > now_ms)
        breaker_learn_open(&c->breaker, until - now_ms, now_ms);
    return c;
}

/* A key that may not list models, say, may generate all the same. */
static struct keyring *table_key(struct turns *t, uint64_t site_id, uint64_t key_id,
                                 enum operation o, uint64_t now_ms)
{
    uint64_t id = of_operation(hash_join(site_id ^ UINT64_C(0x6b6579), key_id),
                               operation_is_free(o) ? o : OPERATION_GENERATE);
    struct entry *e = table_find(t, id, ENTRY_KEY);

    if (!e)
        e = add(t, id, ENTRY_KEY, sizeof(struct keyring), now_ms);
    if (e)
        e->used_ms = now_ms;
    return (struct keyring *)(void *)e;
}

static struct lane *make_lane(struct turns *t, uint64_t id, const struct provider *p,
                              uint64_t key_id, struct str model, enum operation o, uint64_t now_ms)
{
    struct circuit *c = table_circuit(t, p, model, o, now_ms);
    struct keyring *k = c ? table_key(t, p->id, key_id, o, now_ms) : NULL;
    struct lane *lane = k ? add(t, id, ENTRY_LANE, sizeof(*lane), now_ms) : NULL;
    uint64_t until = shut_until(t, id);

    if (!lane)
        return NULL;
    t->lane_count++;
    c->entry.refs++;
    k->entry.refs++;
    lane->circuit = c;
    lane->key = k;
    snprintf(k->site, sizeof(k->site), "%s", p->name);
    list_init(&lane->node);
    list_append(&c->lanes, &lane->node);
    gate_init(&lane->gate, now_ms);
    pace_init(&lane->pace);
    if (until > now_ms)
        gate_close(&lane->gate, until - now_ms, now_ms);
    return lane;
}

struct lane *table_lane(struct turns *t, const struct turn_wish *wish, const struct provider *p,
                        unsigned key_number, struct str model, uint64_t now_ms)
{
    uint64_t key_id = key_number ? p->keys[key_number - 1].id : wish->client_key;
    uint64_t id = hash_join(circuit_id(p, model, wish->operation), key_id);
    struct lane *lane = (struct lane *)(void *)table_find(t, id, ENTRY_LANE);

    if (!lane) {
        if (t->lane_count >= LANES_MAX)
            forget_idle(t, now_ms);
        if (t->lane_count >= LANES_MAX)
            return NULL;
        lane = make_lane(t, id, p, key_id, model, wish->operation, now_ms);
    }
    if (!lane)
        return NULL;
    lane->entry.used_ms = now_ms;
    lane->key_number = lane->key->key_number = key_number;
    lane->adaptive = p->adaptive_pacing;
    lane->circuit->settings = wish->plan->settings->breaker;
    lane->circuit->entry.used_ms = lane->key->entry.used_ms = now_ms;
    set_limits(lane->circuit->site, p); /* they may have changed with a reload */
    return lane;
}

struct str target_own_model(const struct provider *p, struct str model)
{
    for (unsigned i = 0; i < p->model_count; i++)
        if (str_eq(p->models[i].asked, model))
            return str_from(p->models[i].own);
    return model;
}
