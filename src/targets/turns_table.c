/* Keeps what is known of targets, under hashes of their names, and forgets what is idle. */
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "targets/turns_private.h"

/* Ids are hashes: all their bits are as good. */
static struct entry **bucket(struct turns *t, uint64_t id)
{
    return &t->buckets[id >> (64 - TABLE_BITS)];
}

int table_init(struct turns *t)
{
    for (unsigned i = 0; i < ENTRY_KINDS; i++)
        list_init(&t->shelves[i].used);
    t->buckets = calloc(TABLE_BUCKETS, sizeof(struct entry *));
    return t->buckets ? 0 : -ENOMEM;
}

struct entry *table_find(struct turns *t, uint64_t id, enum entry_kind kind)
{
    for (struct entry *e = *bucket(t, id); e; e = e->next)
        if (e->id == id && e->kind == kind)
            return e;
    return NULL;
}

/* All else goes when nobody needs it, or never. */
static bool is_forgotten(enum entry_kind kind)
{
    return kind == ENTRY_TARGET || kind == ENTRY_MODEL || kind == ENTRY_LEARNED;
}

void *table_add(struct turns *t, uint64_t id, enum entry_kind kind, size_t size, uint64_t now_ms)
{
    struct entry *e = calloc(1, size), **b = bucket(t, id);

    if (!e)
        return NULL;
    *e = (struct entry){.next = *b, .id = id, .kind = kind, .used_ms = now_ms, .placed_ms = now_ms};
    *b = e;
    list_init(&e->used);
    if (is_forgotten(kind))
        list_append(&t->shelves[kind].used, &e->used);
    t->shelves[kind].count++;
    return e;
}

static void place_last(struct turns *t, struct entry *e, uint64_t now_ms)
{
    e->placed_ms = now_ms;
    list_remove(&e->used);
    list_append(&t->shelves[e->kind].used, &e->used);
}

static void use(struct turns *t, struct entry *e, uint64_t now_ms)
{
    e->used_ms = now_ms;
    if (now_ms - e->placed_ms >= PLACE_MS)
        place_last(t, e, now_ms);
}

/* --- forgetting --------------------------------------------------------------------------------- */

#define FORGET_TRIES 16 /* of those that were used least lately */

/* Gates, breakers and paces move on only when somebody asks: what nobody has asked for in IDLE_MS is
 * looked at by the time, not the phase; and a pace is off after 40 rounds without a 429. Before that, only
 * a gate that is open, and a pace that is off, tell no more than new ones do. */
static bool tells_nothing(const struct entry *e, uint64_t now_ms)
{
    static_assert(IDLE_MS >= 40 * PACE_ROUND_MS, "an idle target has no pace left");
    const struct target_state *state = (const struct target_state *)(const void *)e;
    const struct breaker *breaker = &((const struct model_state *)(const void *)e)->breaker;
    bool idle = now_ms - e->used_ms >= IDLE_MS;

    switch (e->kind) {
    case ENTRY_TARGET:
        return idle ? state->gate.phase != GATE_CLOSED || state->gate.until_ms <= now_ms
                    : state->gate.phase == GATE_OPEN && !state->pace.on;
    case ENTRY_MODEL:
        return breaker->phase == BREAKER_CLOSED || (idle && breaker->until_ms <= now_ms);
    case ENTRY_LEARNED:
        return ((const struct learned *)(const void *)e)->until_ms <= now_ms;
    case ENTRY_UPSTREAM:
    case ENTRY_KEY:
    case ENTRY_QUEUE:
    case ENTRY_CLIENT:
    case ENTRY_KINDS:
        break;
    }
    return false;
}

void table_drop(struct turns *t, struct entry *e)
{
    struct target_state *state = (struct target_state *)(void *)e;
    struct entry **at = bucket(t, e->id);

    while (*at != e)
        at = &(*at)->next;
    *at = e->next;
    list_remove(&e->used);
    t->shelves[e->kind].count--;
    if (e->kind == ENTRY_TARGET) {
        list_remove(&state->node);
        state->model_state->entry.refs--;
        /* Of a client's own key nothing is known but its targets. */
        if (--state->key->entry.refs == 0 && state->key->key_number == 0)
            table_drop(t, &state->key->entry);
    } else if (e->kind == ENTRY_MODEL) {
        ((struct model_state *)(void *)e)->upstream->entry.refs--;
    }
    free(e);
}

/* Makes room for one more: false where none of those that were used least lately can be spared. These are
 * then as good as new, so that the next look is at others. What was used in this millisecond stays: it may
 * be what the same request has just found. */
static bool make_room(struct turns *t, enum entry_kind kind, unsigned most, uint64_t now_ms)
{
    struct shelf *shelf = &t->shelves[kind];

    for (unsigned i = 0; i < FORGET_TRIES && shelf->count >= most; i++) {
        struct entry *e = LIST_ENTRY(shelf->used.next, struct entry, used);

        if (e->refs == 0 && e->used_ms != now_ms && tells_nothing(e, now_ms))
            table_drop(t, e);
        else
            place_last(t, e, now_ms);
    }
    return shelf->count < most;
}

void table_free(struct turns *t)
{
    unsigned left = 0;

    for (unsigned kind = 0; kind < ENTRY_KINDS; kind++)
        left += t->shelves[kind].count;
    for (unsigned i = 0; left > 0; i++) {
        while (t->buckets[i]) {
            struct entry *e = t->buckets[i];

            t->buckets[i] = e->next;
            left--;
            free(e);
        }
    }
    free(t->buckets);
}

/* --- finding and making ---------------------------------------------------------------------------- */

/* Those who wait have the configuration that they came with: a later one stays in force. */
static void set_limits(struct upstream_state *s, const struct upstream *p)
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

struct upstream_state *table_upstream(struct turns *t, const struct upstream *p, uint64_t now_ms)
{
    struct upstream_state *s =
        (struct upstream_state *)(void *)table_find(t, p->id, ENTRY_UPSTREAM);

    if (!s) {
        s = table_add(t, p->id, ENTRY_UPSTREAM, sizeof(*s), now_ms);
        if (!s)
            return NULL;
        budget_init(&s->budget);
        list_init(&s->waited);
        snprintf(s->name, sizeof(s->name), "%s", p->name);
    }
    set_limits(s, p);
    return s;
}

void turns_limits(struct turns *t, const struct upstream *p, uint64_t now_ms)
{
    struct upstream_state *s =
        (struct upstream_state *)(void *)table_find(t, p->id, ENTRY_UPSTREAM);

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

    if (!l && make_room(t, ENTRY_LEARNED, LEARNED_MAX, now_ms))
        l = table_add(t, id, ENTRY_LEARNED, sizeof(*l), now_ms);
    if (!l)
        return;
    l->until_ms = until_ms;
}

/* Of generation as it has always been: daemons that share what they know may be of different versions. */
static uint64_t of_operation(uint64_t id, enum operation o)
{
    return o == OPERATION_GENERATE ? id : hash_join(id, (uint64_t)o);
}

static uint64_t model_id(const struct upstream *p, struct str model, enum operation o)
{
    return of_operation(hash_join(p->id, hash_text(model)), o);
}

/* NULL where there is no room, or no memory. `most`: models that there may be. */
static struct model_state *table_model(struct turns *t, uint64_t id, const struct upstream *p,
                                       struct str model, enum operation o, unsigned most,
                                       uint64_t now_ms)
{
    struct model_state *c = (struct model_state *)(void *)table_find(t, id, ENTRY_MODEL);
    struct upstream_state *s = c ? c->upstream : table_upstream(t, p, now_ms);
    uint64_t until = 0;

    if (c || !s || !make_room(t, ENTRY_MODEL, most, now_ms))
        return c;
    c = table_add(t, id, ENTRY_MODEL, sizeof(*c), now_ms);
    if (!c)
        return NULL;
    s->entry.refs++;
    c->upstream = s;
    c->operation = o;
    list_init(&c->states);
    breaker_init(&c->breaker);
    snprintf(c->model, sizeof(c->model), "%.*s", (int)model.n, model.n ? model.p : "");
    until = shut_until(t, id);
    if (until > now_ms)
        breaker_learn_open(&c->breaker, until - now_ms, now_ms);
    return c;
}

/* A key that may not list models, say, may generate all the same. */
static struct key_state *table_key(struct turns *t, uint64_t upstream_id, uint64_t key_id,
                                   enum operation o, uint64_t now_ms)
{
    uint64_t id = of_operation(hash_join(upstream_id ^ UINT64_C(0x6b6579), key_id),
                               operation_is_free(o) ? o : OPERATION_GENERATE);
    struct entry *e = table_find(t, id, ENTRY_KEY);

    if (!e)
        e = table_add(t, id, ENTRY_KEY, sizeof(struct key_state), now_ms);
    return (struct key_state *)(void *)e;
}

static struct target_state *make_target(struct turns *t, struct model_state *c,
                                        const struct upstream *p, uint64_t key_id, uint64_t now_ms)
{
    uint64_t id = hash_join(c->entry.id, key_id), until = shut_until(t, id);
    struct key_state *k = table_key(t, p->id, key_id, c->operation, now_ms);
    struct target_state *state = k ? table_add(t, id, ENTRY_TARGET, sizeof(*state), now_ms) : NULL;

    if (!state)
        return NULL;
    c->entry.refs++;
    k->entry.refs++;
    state->model_state = c;
    state->key = k;
    snprintf(k->upstream, sizeof(k->upstream), "%s", p->name);
    list_init(&state->links);
    list_init(&state->node);
    list_append(&c->states, &state->node);
    gate_init(&state->gate, now_ms);
    pace_init(&state->pace);
    if (until > now_ms)
        gate_close(&state->gate, until - now_ms, now_ms);
    return state;
}

#define SHARED UINT64_C(0x736861726564) /* the id of what stands for many */

/* There is no room for all: clients with keys of their own share one for their model, models one for their
 * upstream. Of these there are few, so they may always be made. */
static struct target_state *shared_target(struct turns *t, const struct upstream *p,
                                          unsigned key_number, uint64_t key_id,
                                          struct model_state *own, enum operation o,
                                          uint64_t now_ms)
{
    uint64_t model_id = of_operation(hash_join(p->id, SHARED), o);
    struct model_state *c = own;
    struct target_state *state;

    if (key_number == 0)
        key_id = SHARED;
    if (!own || key_number > 0)
        c = table_model(t, model_id, p, STR("other"), o, UINT_MAX, now_ms);
    if (!c)
        return NULL;
    state =
        (struct target_state *)(void *)table_find(t, hash_join(c->entry.id, key_id), ENTRY_TARGET);
    return state ? state : make_target(t, c, p, key_id, now_ms);
}

struct target_state *table_target(struct turns *t, const struct turn_request *turn_request,
                                  const struct upstream *p, unsigned key_number, struct str model,
                                  uint64_t now_ms)
{
    uint64_t key_id = key_number ? p->keys[key_number - 1].id : turn_request->client_key;
    uint64_t id = model_id(p, model, turn_request->operation);
    struct target_state *state =
        (struct target_state *)(void *)table_find(t, hash_join(id, key_id), ENTRY_TARGET);

    if (!state) {
        /* A target that goes leaves a model that may go, too. */
        bool room = make_room(t, ENTRY_TARGET, TARGETS_MAX, now_ms);
        struct model_state *c =
            table_model(t, id, p, model, turn_request->operation, TARGETS_MAX, now_ms);

        if (room && c)
            state = make_target(t, c, p, key_id, now_ms);
        else
            state = shared_target(t, p, key_number, key_id, c, turn_request->operation, now_ms);
    }
    if (!state)
        return NULL;
    use(t, &state->entry, now_ms);
    use(t, &state->model_state->entry, now_ms);
    if (state->key_number != key_number) /* a reload may have moved it */
        state->key_number = state->key->key_number = key_number;
    state->adaptive = p->adaptive_pacing;
    state->model_state->settings = turn_request->plan->settings->breaker;
    set_limits(state->model_state->upstream, p); /* they may have changed with a reload */
    return state;
}

struct str target_own_model(const struct upstream *p, struct str model)
{
    for (unsigned i = 0; i < p->model_count; i++)
        if (str_eq(p->models[i].asked, model))
            return str_from(p->models[i].own);
    return model;
}
