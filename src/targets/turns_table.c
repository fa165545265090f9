/* Keeps the states of targets, under hashes of their names, and forgets idle ones. Lists the
 * targets that a request considers, in order of preference, and whether it may go there. */
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "targets/turns_private.h"

#define BITS_FIRST 6
#define BITS_MOST 16 /* of TARGETS_MAX targets and models, as many keys, and queues */

int turns_table_init(struct turns *t)
{
    for (unsigned i = 0; i < ENTRY_KINDS; i++)
        list_init(&t->shelves[i].used);
    t->bits = BITS_FIRST;
    t->buckets = calloc(1u << t->bits, sizeof(struct entry *));
    return t->buckets ? 0 : -ENOMEM;
}

void turns_table_free(struct turns *t)
{
    for (unsigned i = 0; i < 1u << t->bits; i++) {
        while (t->buckets[i]) {
            struct entry *e = t->buckets[i];

            t->buckets[i] = e->next;
            free(e);
        }
    }
    free(t->buckets);
}

/* Ids are hashes, so any of their bits will do. */
static struct entry **bucket(const struct turns *t, uint64_t id)
{
    return &t->buckets[id >> (64 - t->bits)];
}

static void chain(const struct turns *t, struct entry *e)
{
    struct entry **b = bucket(t, e->id);

    e->next = *b;
    *b = e;
}

void *turns_table_find(struct turns *t, uint64_t id, enum entry_kind kind)
{
    for (struct entry *e = *bucket(t, id); e; e = e->next)
        if (e->id == id && e->kind == kind)
            return e;
    return NULL;
}

void *turns_table_add(struct turns *t, uint64_t id, enum entry_kind kind, size_t size,
                      uint64_t now_ms)
{
    struct entry *e = calloc(1, size);

    if (!e)
        return NULL;
    if (t->count >= 1u << t->bits && t->bits < BITS_MOST) {
        /* If memory is short, the chains are just longer. */
        struct entry **before = t->buckets, **buckets = calloc(2u << t->bits, sizeof(*buckets));
        if (buckets) {
            t->buckets = buckets;
            t->bits++;
            for (unsigned i = 0; i < 1u << (t->bits - 1); i++) {
                for (struct entry *moved = before[i], *next; moved; moved = next) {
                    next = moved->next;
                    chain(t, moved);
                }
            }
            free(before);
        }
    }
    *e = (struct entry){.id = id, .kind = kind, .used_ms = now_ms, .placed_ms = now_ms};
    chain(t, e);
    t->count++;
    list_init(&e->used);
    /* Other kinds are freed with their last reference, or never. */
    if (kind == ENTRY_TARGET || kind == ENTRY_MODEL || kind == ENTRY_LEARNED)
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

/* --- forgetting ------------------------------------------------------------------------------- */

#define FORGET_TRIES 16 /* entries tried, from the least recently used on */

/* Whether an entry is as good as a new one. Gates, breakers and paces change only when they are
 * used, so an entry that is idle for IDLE_MS is judged by its times, not its phase; and a pace is
 * off after 40 rounds without a 429. Before that, only an open gate and a pace that is off are as
 * good as new. */
static bool tells_nothing(const struct entry *e, uint64_t now_ms)
{
    static_assert(IDLE_MS >= 40 * PACE_ROUND_MS, "an idle target has no pace left");
    const struct target_state *state = (const void *)e;
    const struct model_state *model = (const void *)e;
    const struct learned *learned = (const void *)e;
    bool idle = now_ms - e->used_ms >= IDLE_MS;

    switch (e->kind) {
    case ENTRY_TARGET:
        return idle ? state->gate.phase != GATE_CLOSED || state->gate.until_ms <= now_ms
                    : state->gate.phase == GATE_OPEN && !state->pace.on;
    case ENTRY_MODEL:
        return model->breaker.phase == BREAKER_CLOSED ||
               (idle && model->breaker.until_ms <= now_ms);
    case ENTRY_LEARNED:
        return learned->until_ms <= now_ms;
    case ENTRY_UPSTREAM:
    case ENTRY_KEY:
    case ENTRY_QUEUE:
    case ENTRY_CLIENT:
    case ENTRY_KINDS:
        break;
    }
    return false;
}

void turns_table_drop(struct turns *t, struct entry *e)
{
    struct target_state *state = (void *)e;
    struct model_state *model = (void *)e;
    struct entry **at = bucket(t, e->id);

    while (*at != e)
        at = &(*at)->next;
    *at = e->next;
    t->count--;
    list_remove(&e->used);
    t->shelves[e->kind].count--;
    if (e->kind == ENTRY_TARGET) {
        list_remove(&state->node);
        state->model_state->entry.refs--;
        /* The state of a client's own key consists of its targets only. */
        if (--state->key->entry.refs == 0 && state->key->key_number == 0)
            turns_table_drop(t, &state->key->entry);
    } else if (e->kind == ENTRY_MODEL) {
        model->upstream->entry.refs--;
    }
    free(e);
}

/* Makes room for one more. Returns false if none of the least recently used entries can be
 * forgotten; they are then moved behind the others, so that the next call tries different ones. An
 * entry that was used in this millisecond stays, because the same request may have just found
 * it. */
static bool make_room(struct turns *t, enum entry_kind kind, unsigned most, uint64_t now_ms)
{
    struct shelf *shelf = &t->shelves[kind];

    for (unsigned i = 0; i < FORGET_TRIES && shelf->count >= most; i++) {
        struct entry *e = LIST_ENTRY(shelf->used.next, struct entry, used);

        if (e->refs == 0 && e->used_ms != now_ms && tells_nothing(e, now_ms))
            turns_table_drop(t, e);
        else
            place_last(t, e, now_ms);
    }
    return shelf->count < most;
}

/* --- finding and making ----------------------------------------------------------------------- */

/* A waiting request has the configuration that it came with; limits of a later one stay in
 * force. */
void turns_table_limit(struct upstream_state *s, const struct upstream *upstream)
{
    unsigned per_minute = upstream->requests_per_minute;

    if (upstream->generation < s->generation)
        return;
    s->generation = upstream->generation;
    s->max_concurrency = upstream->max_concurrency;
    /* The limit was raised or removed: attempts that exceeded the old one do not count any more. */
    if (s->per_minute > 0 && (per_minute == 0 || per_minute > s->per_minute))
        s->rate = (struct rate){0};
    s->per_minute = per_minute;
}

struct upstream_state *turns_table_upstream(struct turns *t, const struct upstream *upstream,
                                            uint64_t now_ms)
{
    struct upstream_state *s = turns_table_find(t, upstream->id, ENTRY_UPSTREAM);

    if (!s) {
        s = turns_table_add(t, upstream->id, ENTRY_UPSTREAM, sizeof(*s), now_ms);
        if (!s)
            return NULL;
        budget_init(&s->budget);
        list_init(&s->waited);
        snprintf(s->name, sizeof(s->name), "%s", upstream->name);
    }
    turns_table_limit(s, upstream);
    return s;
}

static uint64_t shut_until(struct turns *t, uint64_t id)
{
    const struct learned *l = turns_table_find(t, id, ENTRY_LEARNED);

    return l ? l->until_ms : 0;
}

void turns_table_learn(struct turns *t, uint64_t id, uint64_t until_ms, uint64_t now_ms)
{
    struct learned *l = turns_table_find(t, id, ENTRY_LEARNED);

    if (!l && make_room(t, ENTRY_LEARNED, LEARNED_MAX, now_ms))
        l = turns_table_add(t, id, ENTRY_LEARNED, sizeof(*l), now_ms);
    if (l)
        l->until_ms = until_ms;
}

/* The id for generation is the one of earlier versions, because daemons of different versions share
 * their view. */
static uint64_t of_operation(uint64_t id, enum operation o)
{
    return o == OPERATION_GENERATE ? id : hash_join(id, (uint64_t)o);
}

/* Returns NULL if there is no room or no memory. `most`: the maximum number of models. */
static struct model_state *find_model(struct turns *t, uint64_t id, const struct upstream *upstream,
                                      struct str name, enum operation o, unsigned most,
                                      uint64_t now_ms)
{
    struct model_state *model = turns_table_find(t, id, ENTRY_MODEL);
    struct upstream_state *s;
    uint64_t until_ms;

    if (model)
        return model;
    s = turns_table_upstream(t, upstream, now_ms);
    if (!s || !make_room(t, ENTRY_MODEL, most, now_ms))
        return NULL;
    model = turns_table_add(t, id, ENTRY_MODEL, sizeof(*model), now_ms);
    if (!model)
        return NULL;
    s->entry.refs++;
    model->upstream = s;
    model->operation = o;
    list_init(&model->states);
    breaker_init(&model->breaker);
    snprintf(model->model, sizeof(model->model), "%.*s", (int)name.n, name.n ? name.p : "");
    until_ms = shut_until(t, id);
    if (until_ms > now_ms)
        breaker_learn_open(&model->breaker, until_ms - now_ms, now_ms);
    return model;
}

static struct target_state *make_target(struct turns *t, struct model_state *model,
                                        const struct upstream *upstream, uint64_t key_id,
                                        uint64_t now_ms)
{
    uint64_t id = hash_join(model->entry.id, key_id), until_ms = shut_until(t, id);
    /* The operation is part of the id: a key that may not list models may still generate. */
    uint64_t name =
        of_operation(hash_join(upstream->id ^ UINT64_C(0x6b6579), key_id),
                     operation_is_free(model->operation) ? model->operation : OPERATION_GENERATE);
    struct key_state *found = turns_table_find(t, name, ENTRY_KEY);
    struct key_state *key =
        found ? found : turns_table_add(t, name, ENTRY_KEY, sizeof(*found), now_ms);
    struct target_state *state =
        key ? turns_table_add(t, id, ENTRY_TARGET, sizeof(*state), now_ms) : NULL;

    if (!state)
        return NULL;
    model->entry.refs++;
    key->entry.refs++;
    state->model_state = model;
    state->key = key;
    snprintf(key->upstream, sizeof(key->upstream), "%s", upstream->name);
    list_init(&state->links);
    list_init(&state->node);
    list_append(&model->states, &state->node);
    gate_init(&state->gate, now_ms);
    pace_init(&state->pace);
    if (until_ms > now_ms)
        gate_close(&state->gate, until_ms - now_ms, now_ms);
    return state;
}

#define SHARED UINT64_C(0x736861726564) /* the id of shared states */

/* There is no room for all states: clients with their own keys share one for their model, and
 * models share one for their upstream. Shared ones are few, so they may always be created. */
static struct target_state *shared_target(struct turns *t, const struct upstream *upstream,
                                          unsigned key_number, uint64_t key_id,
                                          struct model_state *own, enum operation o,
                                          uint64_t now_ms)
{
    struct model_state *model = own;
    struct target_state *state;

    if (key_number == 0)
        key_id = SHARED;
    if (!own || key_number > 0)
        model = find_model(t, of_operation(hash_join(upstream->id, SHARED), o), upstream,
                           STR("other"), o, UINT_MAX, now_ms);
    if (!model)
        return NULL;
    state = turns_table_find(t, hash_join(model->entry.id, key_id), ENTRY_TARGET);
    return state ? state : make_target(t, model, upstream, key_id, now_ms);
}

static void use(struct turns *t, struct entry *e, uint64_t now_ms)
{
    e->used_ms = now_ms;
    if (now_ms - e->placed_ms >= PLACE_MS)
        place_last(t, e, now_ms);
}

static struct target_state *find_target(struct turns *t, const struct turn_request *turn_request,
                                        const struct upstream *upstream, unsigned key_number,
                                        uint64_t now_ms)
{
    struct str name = turns_request_model(turn_request);
    enum operation o = turn_request->operation;
    uint64_t key_id = key_number ? upstream->keys[key_number - 1].id : turn_request->client_key;
    uint64_t id = of_operation(hash_join(upstream->id, hash_text(name)), o);
    struct target_state *state = turns_table_find(t, hash_join(id, key_id), ENTRY_TARGET);

    if (!state) {
        /* A forgotten target leaves a model that may be forgotten, too. */
        bool room = make_room(t, ENTRY_TARGET, TARGETS_MAX, now_ms);
        struct model_state *model = find_model(t, id, upstream, name, o, TARGETS_MAX, now_ms);

        state = room && model ? make_target(t, model, upstream, key_id, now_ms)
                              : shared_target(t, upstream, key_number, key_id, model, o, now_ms);
    }
    if (!state)
        return NULL;
    use(t, &state->entry, now_ms);
    use(t, &state->model_state->entry, now_ms);
    if (state->key_number != key_number) /* a reload may have changed its number */
        state->key_number = state->key->key_number = key_number;
    state->adaptive = upstream->adaptive_pacing;
    state->model_state->settings = turn_request->plan->settings->breaker;
    turns_table_limit(state->model_state->upstream, upstream); /* a reload may have changed them */
    return state;
}

/* --- the view --------------------------------------------------------------------------------- */

static uint64_t left(uint64_t until_ms, uint64_t now_ms)
{
    return until_ms > now_ms ? until_ms - now_ms : 0;
}

static void view_upstream(const struct upstream_state *s, uint64_t now_ms, struct turns_view *ret)
{
    *ret = (struct turns_view){
        .kind = VIEW_UPSTREAM,
        .upstream = s->name,
        .in_flight = s->in_flight,
        .max_concurrency = s->max_concurrency,
        .per_minute = s->per_minute,
        .free_ms = left(rate_next(&s->rate, s->per_minute, now_ms), now_ms),
    };
    budget_count(&s->budget, now_ms, &ret->budget_requests, &ret->budget_repeats);
}

static unsigned waiting_for(const struct target_state *state)
{
    unsigned n = 0;

    for (struct list *l = state->links.next; l != &state->links; l = l->next)
        n += LIST_ENTRY(l, struct link, node)->queue->waiting;
    return n;
}

/* Returns false if such an entry has no view. */
static bool view_of(const struct entry *e, uint64_t now_ms, struct turns_view *ret)
{
    const struct upstream_state *upstream = (const void *)e;
    const struct model_state *model = (const void *)e;
    const struct key_state *key = (const void *)e;
    const struct target_state *state = (const void *)e;

    switch (e->kind) {
    case ENTRY_UPSTREAM:
        view_upstream(upstream, now_ms, ret);
        return true;
    case ENTRY_MODEL:
        *ret = (struct turns_view){
            .kind = VIEW_MODEL,
            .upstream = model->upstream->name,
            .model = model->model,
            .operation = model->operation,
            .fallbacks = model->fallbacks,
            .shut = model->openings,
            .shut_ms =
                model->breaker.phase == BREAKER_CLOSED ? 0 : left(model->breaker.until_ms, now_ms),
            .half_open = model->breaker.phase == BREAKER_HALF_OPEN,
            .in_a_row = model->breaker.in_a_row,
        };
        return true;
    case ENTRY_KEY:
        *ret = (struct turns_view){
            .kind = VIEW_KEY,
            .upstream = key->upstream,
            .key_number = key->key_number,
            .shut = key->asides,
            .shut_ms = left(key->aside_until_ms, now_ms),
        };
        return true;
    case ENTRY_TARGET:
        *ret = (struct turns_view){
            .kind = VIEW_TARGET,
            .upstream = state->model_state->upstream->name,
            .model = state->model_state->model,
            .operation = state->model_state->operation,
            .key_number = state->key_number,
            .shut = state->closings,
            .shut_ms = state->gate.phase == GATE_CLOSED ? left(state->gate.until_ms, now_ms) : 0,
            .opening = state->gate.phase == GATE_OPENING,
            .pace_per_minute = state->pace.on ? state->pace.per_minute : 0,
            .waiting = waiting_for(state),
        };
        return true;
    case ENTRY_LEARNED:
    case ENTRY_QUEUE:
    case ENTRY_CLIENT:
    case ENTRY_KINDS:
        break;
    }
    return false;
}

#define TURNS_EACH 256 /* buckets in one call; they hold two entries at most, on average */

/* Bounds of buckets stay valid if the table grows between two calls. */
bool turns_each(struct turns *t, uint64_t *at, void (*each)(void *arg, const struct turns_view *v),
                void *arg)
{
    uint64_t now_ms = turns_lock(t);
    uint64_t first = *at >> (64 - t->bits), end = UINT64_C(1) << t->bits;

    if (end - first > TURNS_EACH)
        end = first + TURNS_EACH;
    for (uint64_t i = first; i < end; i++) {
        for (struct entry *e = t->buckets[i]; e; e = e->next) {
            struct turns_view v;

            if (view_of(e, now_ms, &v))
                each(arg, &v);
        }
    }
    *at = end << (64 - t->bits); /* 0 after the last one */
    turns_unlock(t);
    return *at != 0;
}

/* --- the targets that a request considers ----------------------------------------------------- */

struct str turns_request_model(const struct turn_request *turn_request)
{
    if (turn_request->tier == 0)
        return turn_request->model;
    return str_from(turn_request->plan->fallback_models[turn_request->tier - 1]);
}

/* Takes one of the upstreams in `left` (a set of bits, not empty): the first, or by their shares.
 * An upstream without a share is taken only if no other is left. */
static unsigned draw_upstream(const struct plan *plan, unsigned left, uint64_t random)
{
    uint64_t total = 0, at;
    unsigned first = plan->upstream_count;

    for (unsigned i = plan->upstream_count; i-- > 0;) {
        if (!(left & 1u << i))
            continue;
        first = i;
        total += plan->weights ? plan->weights[i] : 0;
    }
    if (total == 0)
        return first;
    at = random % total;
    for (unsigned i = first;; i++) {
        if (!(left & 1u << i))
            continue;
        if (at < plan->weights[i])
            return i;
        at -= plan->weights[i];
    }
}

bool turns_candidate_is_aside(const struct candidate *c, uint64_t now_ms)
{
    return c->target_state && c->target_state->key->aside_until_ms > now_ms;
}

/* Adds the upstream's keys, up to `most` candidates in all. If there are more keys than room, those
 * that are set aside are left out as long as there are others. */
static void add_keys(struct turns *t, const struct turn_request *turn_request,
                     const struct upstream *upstream, uint64_t now_ms, struct candidates *c,
                     unsigned most)
{
    unsigned keys = upstream->key_count ? upstream->key_count : 1, first = 0;
    unsigned spare = keys > most - c->count ? keys - (most - c->count) : 0;

    if (keys > 1) {
        struct upstream_state *s = turns_table_upstream(t, upstream, now_ms);

        first = s ? s->next_key % keys : 0;
    }
    for (unsigned i = 0; i < keys && c->count < most; i++) {
        unsigned number = upstream->key_count ? (first + i) % keys + 1 : 0;
        struct candidate *next = &c->list[c->count];

        const struct target *only = turn_request->only;
        if (!(only ? only->upstream == upstream && only->key_number == number
                   : !target_among(turn_request->excluded, turn_request->excluded_count, upstream,
                                   number)))
            continue;
        *next = (struct candidate){
            .upstream = upstream,
            .key_number = number,
            .tried = target_among(turn_request->tried, turn_request->tried_count, upstream, number),
            .target_state = find_target(t, turn_request, upstream, number, now_ms),
        };
        if (spare > 0 && turns_candidate_is_aside(next, now_ms))
            spare--;
        else
            c->count++;
    }
}

void turns_candidates(struct turns *t, const struct turn_request *turn_request, uint64_t now_ms,
                      struct candidates *ret)
{
    const struct plan *plan = turn_request->plan;
    unsigned left = (1u << plan->upstream_count) - 1;
    uint64_t random = turn_request->random;

    ret->count = 0;
    ret->more_ms = TURNS_NEVER;
    /* Each place is drawn anew, so that the upstreams that replace one that is down divide its
     * share. */
    while (left) {
        unsigned i = draw_upstream(plan, left, random);

        left &= ~(1u << i);
        random *= UINT64_C(0x9e3779b97f4a7c15);
        random ^= random >> 32;
        /* An upstream with many keys leaves a place to each upstream after it. */
        add_keys(t, turn_request, plan->upstreams[i], now_ms, ret,
                 CANDIDATES_MAX - (unsigned)__builtin_popcount(left));
    }
    if (ret->count < 2)
        return;
    /* Keys that are set aside do not count while there are others. */
    unsigned kept = 0;
    for (unsigned i = 0; i < ret->count; i++)
        kept += !turns_candidate_is_aside(&ret->list[i], now_ms);
    if (kept != 0 && kept != ret->count) {
        kept = 0;
        for (unsigned i = 0; i < ret->count; i++) {
            if (!turns_candidate_is_aside(&ret->list[i], now_ms))
                ret->list[kept++] = ret->list[i];
            else if (ret->list[i].target_state->key->aside_until_ms < ret->more_ms)
                ret->more_ms = ret->list[i].target_state->key->aside_until_ms;
        }
        ret->count = kept;
    }
    if (turn_request->tried_count > 0) {
        struct candidate tried[CANDIDATES_MAX];
        unsigned first = 0, last = 0;
        for (unsigned i = 0; i < ret->count; i++) {
            if (ret->list[i].tried)
                tried[last++] = ret->list[i];
            else
                ret->list[first++] = ret->list[i];
        }
        if (last > 0)
            memcpy(ret->list + first, tried, last * sizeof(*tried));
    }
}

/* --- waits ------------------------------------------------------------------------------------ */

static void hold(struct wait *w, uint64_t at_ms, enum turn_why why)
{
    if (at_ms > w->at_ms)
        *w = (struct wait){at_ms, why};
}

bool turns_upstream_is_full(const struct upstream_state *s)
{
    return s->max_concurrency > 0 && s->in_flight >= s->max_concurrency;
}

/* Returns how long a target is held by time alone, whatever running attempts do. */
static struct wait wait_for_time(struct target_state *state, uint64_t now_ms)
{
    const struct upstream_state *s = state->model_state->upstream;
    struct wait w = {now_ms, TURN_WHY_NONE};

    if (turns_target_is_rated(state))
        hold(&w, rate_next(&s->rate, s->per_minute, now_ms), TURN_WHY_LIMIT);
    if (state->adaptive)
        hold(&w, pace_next(&state->pace, now_ms), TURN_WHY_PACE);
    hold(&w, gate_next(&state->gate, now_ms), TURN_WHY_GATE);
    hold(&w, breaker_next(&state->model_state->breaker, now_ms), TURN_WHY_BREAKER);
    return w;
}

struct wait turns_target_wait(struct target_state *state, uint64_t now_ms)
{
    struct wait w = wait_for_time(state, now_ms);

    if (turns_upstream_is_full(state->model_state->upstream))
        w = (struct wait){TURNS_NEVER, TURN_WHY_LIMIT};
    return w;
}

bool turns_candidate_is_free(const struct candidate *c, uint64_t now_ms, enum turn_why *ret_why)
{
    struct wait w = {now_ms, TURN_WHY_NONE};
    bool waited_for = c->target_state && turns_target_is_waited_for(c->target_state);

    if (c->target_state && !waited_for)
        w = turns_target_wait(c->target_state, now_ms);
    *ret_why = w.why;
    return !waited_for && w.at_ms <= now_ms;
}

struct outlook turns_look_ahead(const struct candidates *c, uint64_t now_ms)
{
    struct outlook o = {TURN_WHY_NONE, {TURNS_NEVER, TURN_WHY_NONE}, c->count > 0};

    for (unsigned i = 0; i < c->count; i++) {
        struct target_state *state = c->list[i].target_state;
        struct wait w = {now_ms, TURN_WHY_NONE};

        if (state)
            w = wait_for_time(state, now_ms);
        if (!state || breaker_next(&state->model_state->breaker, now_ms) <= now_ms)
            o.down = false;
        if (i > 0 && w.at_ms >= o.at_least.at_ms)
            continue;
        o.at_least = w;
        o.why =
            state && turns_upstream_is_full(state->model_state->upstream) ? TURN_WHY_LIMIT : w.why;
    }
    return o;
}

bool turns_is_in_vain(const struct turn_request *turn_request, const struct outlook *o, bool probe)
{
    uint64_t at_ms = o->at_least.at_ms;

    if (o->down && (turn_request->may_leave || (probe && at_ms > turn_request->patient_ms)))
        return true;
    return at_ms > turn_request->latest_ms ||
           (o->at_least.why == TURN_WHY_GATE && at_ms > turn_request->gate_latest_ms);
}
