/* Lets requests through to targets, one after the other where they have to wait. */
#include "targets/turns.h"

#include <assert.h>
#include <stdlib.h>

#include "targets/turns_private.h"

static const char *const why_words[TURN_WHY_COUNT] = {
    [TURN_WHY_NONE] = "none",   [TURN_WHY_GATE] = "gate", [TURN_WHY_BREAKER] = "breaker",
    [TURN_WHY_LIMIT] = "limit", [TURN_WHY_PACE] = "pace", [TURN_WHY_QUEUE_FULL] = "queue_full",
};

const char *turn_why_word(enum turn_why w)
{
    return why_words[w];
}

struct turns *turns_new(const struct turns_handler *handler)
{
    struct turns *t = calloc(1, sizeof(*t));

    if (!t)
        return NULL;
    t->handler = *handler;
    list_init(&t->pools);
    t->next_ms = TURNS_NEVER;
    return t;
}

void turns_free(struct turns *t)
{
    if (!t)
        return;
    assert(t->waiting == 0);
    table_free(t);
    free(t);
}

void turns_door_init(struct turns_door *d, void (*wake)(void *arg), void *arg)
{
    list_init(&d->woken);
    d->wake = wake;
    d->arg = arg;
}

struct turn *turns_door_take(struct turns_door *d)
{
    struct list *node = list_pop(&d->woken);

    return node ? LIST_ENTRY(node, struct turn, told) : NULL;
}

/* --- granting ------------------------------------------------------------------------------------ */

static void enter(struct turns *t, struct turn *turn, struct lane *lane, uint64_t now_ms)
{
    struct circuit *c = lane->circuit;
    struct site *s = c->site;

    turn->gate_epoch = gate_enter(&lane->gate, now_ms);
    turn->pass = breaker_enter(&c->breaker, &c->settings, now_ms);
    if (lane->adaptive)
        pace_enter(&lane->pace, now_ms);
    if (turn->pass.probe)
        tell_lane(t, lane, (struct turns_event){.kind = TURNS_BREAKER_PROBE});
    if (lane_is_rated(lane)) {
        rate_take(&s->rate, s->per_minute, now_ms);
        tell_lane(t, lane,
                  (struct turns_event){.kind = TURNS_RATE_TAKEN, .per_minute = s->per_minute});
    }
    s->in_flight++;
    c->fallbacks += turn->wish->tier > 0;
    if (!(turn->wish->visited & plan_bit(turn->wish->plan, turn->target.provider)))
        budget_request(&s->budget, now_ms);
    lane->entry.refs++;
}

static void grant(struct turns *t, struct turn *turn, const struct choice *c, uint64_t now_ms)
{
    const struct provider *p = c->provider;
    struct str model = wish_model(turn->wish);

    turn->target = (struct target){
        .provider = p,
        .key_number = c->key_number,
        .tier = turn->wish->tier,
        .model = model,
        .own_model = target_own_model(p, model),
    };
    if (c->key_number > 0)
        turn->target.key = p->keys[c->key_number - 1].text;
    turn->state = TURN_GRANTED;
    turn->lane = c->lane;
    turn->gate_heard = turn->heard = false;
    if (!c->lane)
        return;
    if (p->key_count > 1)
        c->lane->circuit->site->next_key = c->key_number; /* the next one begins behind it */
    enter(t, turn, c->lane, now_ms);
}

/* --- queues -------------------------------------------------------------------------------------- */

/* What is out of the question for a wish tells it apart, too: it stays so when a key comes back that
 * others wait for as well. */
static uint64_t choice_id(const struct turn_wish *wish, const struct choice *choices, unsigned n)
{
    uint64_t all = hash_join(n, wish->only != NULL);

    for (unsigned i = 0; i < wish->excluded_count; i++)
        all += hash_join(wish->excluded[i].provider->id, wish->excluded[i].key_number);
    for (unsigned i = 0; i < n; i++)
        all += choices[i].lane->entry.id * 2 + 1;
    return all;
}

static struct pool *pool_find(struct turns *t, const struct turn_wish *wish,
                              const struct choice *choices, unsigned n)
{
    uint64_t choice = choice_id(wish, choices, n), id = hash_join(wish->client, choice);
    struct pool *p;

    for (struct list *l = t->pools.next; l != &t->pools; l = l->next)
        if (LIST_ENTRY(l, struct pool, node)->id == id)
            return LIST_ENTRY(l, struct pool, node);
    p = calloc(1, sizeof(*p) + n * sizeof(struct lane *));
    if (!p)
        return NULL;
    p->id = id;
    p->choice = choice;
    p->served = ++t->grants; /* behind those who have waited longer */
    p->lane_count = n;
    list_init(&p->turns);
    list_init(&p->node);
    list_append(&t->pools, &p->node);
    for (unsigned i = 0; i < n; i++) {
        p->lanes[i] = choices[i].lane;
        choices[i].lane->entry.refs++;
    }
    return p;
}

static void pool_join(struct turns *t, struct pool *p, struct turn *turn)
{
    struct list *before = p->turns.prev;

    while (before != &p->turns &&
           LIST_ENTRY(before, struct turn, node)->wish->arrived_ms > turn->wish->arrived_ms)
        before = before->prev;
    list_init(&turn->node);
    turn->node.prev = before;
    turn->node.next = before->next;
    before->next->prev = &turn->node;
    before->next = &turn->node;
    for (unsigned i = 0; i < p->lane_count; i++)
        p->lanes[i]->waiting++;
    turn->pool = p;
    turn->state = TURN_WAITING;
    t->waiting++;
}

static void pool_leave(struct turns *t, struct turn *turn)
{
    struct pool *p = turn->pool;

    list_remove(&turn->node);
    for (unsigned i = 0; i < p->lane_count; i++)
        p->lanes[i]->waiting--;
    turn->pool = NULL;
    t->waiting--;
    if (!list_empty(&p->turns))
        return;
    for (unsigned i = 0; i < p->lane_count; i++)
        p->lanes[i]->entry.refs--;
    list_remove(&p->node);
    free(p);
}

static void announce(struct turn *turn)
{
    bool first = list_empty(&turn->door->woken);

    list_append(&turn->door->woken, &turn->told);
    if (first)
        turn->door->wake(turn->door->arg);
}

static void refuse(struct turn *turn, const struct outlook *o)
{
    turn->state = TURN_REFUSED;
    turn->why = o->down ? TURN_WHY_BREAKER : o->at_least.why;
    turn->ready_ms = o->at_least.at_ms;
}

/* The pool's first and where it may go now; false where it may not. Lowers `next_ms`. */
static bool pool_ready(struct turns *t, const struct pool *p, uint64_t now_ms,
                       struct choice *ret_choice)
{
    const struct turn *head = LIST_ENTRY(p->turns.next, struct turn, node);
    struct choice choices[CHOICES_MAX];
    unsigned n = wish_choices(t, head->wish, now_ms, choices);

    for (unsigned i = 0; i < n; i++) {
        enum turn_why why;
        uint64_t at = choices[i].lane ? lane_next(choices[i].lane, now_ms, &why) : now_ms;

        if (at <= now_ms) {
            *ret_choice = choices[i];
            return true;
        }
        if (at < t->next_ms)
            t->next_ms = at;
    }
    return false;
}

static bool is_opening(const struct choice *c)
{
    return c->lane && c->lane->gate.phase == GATE_OPENING;
}

static uint64_t arrival(const struct pool *p)
{
    return LIST_ENTRY(p->turns.next, struct turn, node)->wish->arrived_ms;
}

/* A gate that opens lets through who came first; else it is the turn of whoever was served last the
 * longest ago. */
static bool goes_first(const struct pool *a, const struct choice *by_a, const struct pool *b,
                       const struct choice *by_b)
{
    if (is_opening(by_a) && is_opening(by_b) && by_a->lane == by_b->lane)
        return arrival(a) < arrival(b);
    return a->served < b->served;
}

/* Many clients wait for the same: what holds one of them holds all, and is found out once. */
#define MEMOS 8
struct memos {
    uint64_t held[MEMOS]; /* choices of which nothing is free */
    unsigned count;
};

static bool is_held(const struct memos *m, uint64_t choice)
{
    for (unsigned i = 0; i < m->count && i < MEMOS; i++)
        if (m->held[i] == choice)
            return true;
    return false;
}

static bool might_go_first(const struct pool *p, const struct pool *best, const struct choice *c)
{
    return is_opening(c) ? arrival(p) < arrival(best) : p->served < best->served;
}

static struct pool *next_pool(struct turns *t, uint64_t now_ms, struct choice *ret_choice)
{
    struct memos memos = {.count = 0};
    struct pool *best = NULL;

    for (struct list *l = t->pools.next; l != &t->pools; l = l->next) {
        struct pool *p = LIST_ENTRY(l, struct pool, node);
        struct choice c;

        if (is_held(&memos, p->choice) ||
            (best && best->choice == p->choice && !might_go_first(p, best, ret_choice)))
            continue;
        if (!pool_ready(t, p, now_ms, &c)) {
            memos.held[memos.count++ % MEMOS] = p->choice;
        } else if (!best || goes_first(p, &c, best, ret_choice)) {
            best = p;
            *ret_choice = c;
        }
    }
    return best;
}

void turns_run(struct turns *t, uint64_t now_ms)
{
    struct choice c = {0};
    struct pool *p;

    t->next_ms = TURNS_NEVER;
    while (t->waiting > 0 && (p = next_pool(t, now_ms, &c))) {
        struct turn *turn = LIST_ENTRY(p->turns.next, struct turn, node);

        p->served = ++t->grants;
        pool_leave(t, turn);
        grant(t, turn, &c, now_ms);
        announce(turn);
        t->next_ms = TURNS_NEVER;
    }
}

uint64_t turns_next(const struct turns *t)
{
    return t->next_ms;
}

unsigned turns_waiting(const struct turns *t)
{
    return t->waiting;
}

/* --- asking -------------------------------------------------------------------------------------- */

static enum turn_state wait_for_it(struct turns *t, struct turn *turn, const struct choice *choices,
                                   unsigned n, uint64_t now_ms)
{
    struct outlook o = look_ahead(choices, n, now_ms);
    struct pool *p = NULL;
    bool vain = n == 0 || in_vain(turn->wish, &o) ||
                (turn->wish->probed && o.down && o.at_least.at_ms > turn->wish->patient_ms);
    struct choice now_free;

    turn->why = o.why;
    if (!vain && t->waiting < turn->wish->plan->settings->queue.size)
        p = pool_find(t, turn->wish, choices, n);
    if (!p) {
        refuse(turn, &o);
        if (!vain)
            turn->why = TURN_WHY_QUEUE_FULL;
        return turn->state;
    }
    pool_join(t, p, turn);
    tell_lane(t, choices[0].lane, (struct turns_event){.kind = TURNS_WAIT, .why = o.why});
    if (pool_ready(t, p, now_ms, &now_free)) /* else nothing has changed for the others */
        turns_run(t, now_ms);
    list_remove(&turn->told); /* it need not be told what it is told here */
    return turn->state;
}

enum turn_state turns_ask(struct turns *t, struct turn *turn, struct turns_door *door,
                          const struct turn_wish *wish, uint64_t now_ms)
{
    struct choice choices[CHOICES_MAX];
    unsigned n;

    assert(turn->state == TURN_NONE);
    turn->wish = wish;
    turn->door = door;
    turn->why = turn->first_held = TURN_WHY_NONE;
    turn->pool = NULL;
    turn->lane = NULL;
    list_init(&turn->node);
    list_init(&turn->told);
    if (t->waiting > 0 && t->next_ms <= now_ms)
        turns_run(t, now_ms); /* those whose time has come are not overtaken */
    n = wish_choices(t, wish, now_ms, choices);
    for (unsigned i = 0; i < n; i++) {
        struct lane *lane = choices[i].lane;
        enum turn_why why = TURN_WHY_NONE; /* others wait for it already */

        if (lane && (lane->waiting > 0 || lane_next(lane, now_ms, &why) > now_ms)) {
            turn->first_held = i == 0 ? why : turn->first_held;
            continue;
        }
        grant(t, turn, &choices[i], now_ms);
        return TURN_GRANTED;
    }
    return wait_for_it(t, turn, choices, n, now_ms);
}

void turns_leave(struct turns *t, struct turn *turn, uint64_t now_ms)
{
    if (turn->state == TURN_NONE)
        return;
    list_remove(&turn->told);
    if (turn->state == TURN_GRANTED) { /* it was let through, and has not heard of it yet */
        turns_end(t, turn, now_ms);
        return;
    }
    if (turn->state == TURN_WAITING) {
        pool_leave(t, turn);
        turns_run(t, now_ms); /* another is at the head of its queue */
    }
    turn->state = TURN_NONE;
}

static bool waits_for(const struct choice *choices, unsigned n, const struct circuit *c)
{
    for (unsigned i = 0; i < n; i++)
        if (choices[i].lane && choices[i].lane->circuit == c)
            return true;
    return false;
}

/* All that a pool's turns wait for has become unlikely: a probe failed, a gate closed for longer. */
void pools_review(struct turns *t, const struct circuit *failed, uint64_t now_ms)
{
    for (struct list *l = t->pools.next, *next; l != &t->pools; l = next) {
        struct pool *p = LIST_ENTRY(l, struct pool, node);

        /* All of a pool have the same choice, and so the same outlook. */
        struct turn *head = LIST_ENTRY(p->turns.next, struct turn, node);
        struct choice choices[CHOICES_MAX];
        unsigned n = wish_choices(t, head->wish, now_ms, choices);
        struct outlook o = look_ahead(choices, n, now_ms);
        bool probe_failed = failed && o.down && waits_for(choices, n, failed);

        next = l->next;
        for (struct list *m = p->turns.next, *after; m != &p->turns; m = after) {
            struct turn *turn = LIST_ENTRY(m, struct turn, node);
            bool last = p->turns.next == m && p->turns.prev == m;
            bool lost = probe_failed && o.at_least.at_ms > turn->wish->patient_ms;

            after = m->next;
            if (!lost && !in_vain(turn->wish, &o))
                continue;
            pool_leave(t, turn);
            refuse(turn, &o);
            announce(turn);
            if (last)
                break; /* the pool is gone */
        }
    }
}

void turns_look(struct turns *t, const struct turn_wish *wish, unsigned helps, uint64_t now_ms,
                struct turns_outlook *ret)
{
    struct choice choices[CHOICES_MAX];
    unsigned n = wish_choices(t, wish, now_ms, choices);

    *ret = (struct turns_outlook){.down = n > 0 && look_ahead(choices, n, now_ms).down};
    for (unsigned i = 0; i < n; i++) {
        struct lane *lane = choices[i].lane;
        bool same_site = false;
        enum turn_why why;

        for (unsigned k = 0; k < wish->tried_count; k++)
            same_site |= wish->tried[k].provider == choices[i].provider;
        if (i == 0)
            ret->target.provider = choices[i].provider;
        if (choices[i].tried || !(helps & (HELPS_UPSTREAM | (same_site ? HELPS_KEY : 0))) ||
            (lane && (lane->waiting > 0 || lane_next(lane, now_ms, &why) > now_ms)) ||
            choice_is_aside(&choices[i], now_ms))
            continue;
        ret->other = true;
        ret->target =
            (struct target){.provider = choices[i].provider, .key_number = choices[i].key_number};
        return;
    }
}
