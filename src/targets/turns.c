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

static bool wakes_before(struct heap_node *a, struct heap_node *b)
{
    return LIST_ENTRY(a, struct wait_queue, sleeps)->at_ms <
           LIST_ENTRY(b, struct wait_queue, sleeps)->at_ms;
}

struct turns *turns_new(const struct turns_handler *handler)
{
    struct turns *t = calloc(1, sizeof(*t));

    if (!t)
        return NULL;
    if (table_init(t) < 0) {
        free(t);
        return NULL;
    }
    t->handler = *handler;
    list_init(&t->awake);
    list_init(&t->waited);
    heap_init(&t->asleep, wakes_before);
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

void turns_ready_init(struct turns_ready *d, void (*wake)(void *arg), void *arg)
{
    list_init(&d->woken);
    d->wake = wake;
    d->arg = arg;
}

struct turn *turns_ready_take(struct turns_ready *d)
{
    struct list *node = list_pop(&d->woken);

    return node ? LIST_ENTRY(node, struct turn, told) : NULL;
}

/* --- granting ------------------------------------------------------------------------------------ */

static void enter(struct turns *t, struct turn *turn, struct target_state *state, uint64_t now_ms)
{
    struct model_state *c = state->model_state;
    struct upstream_state *s = c->upstream;

    turn->gate_epoch = gate_enter(&state->gate, now_ms);
    turn->pass = breaker_enter(&c->breaker, &c->settings, now_ms);
    if (state->adaptive)
        pace_enter(&state->pace, now_ms);
    if (turn->pass.probe)
        tell_target(t, state, (struct turns_event){.kind = TURNS_BREAKER_PROBE});
    if (target_is_rated(state)) {
        rate_take(&s->rate, s->per_minute, now_ms);
        tell_target(t, state,
                    (struct turns_event){.kind = TURNS_RATE_TAKEN, .per_minute = s->per_minute});
    }
    s->in_flight++;
    c->fallbacks += turn->turn_request->tier > 0;
    if (!(turn->turn_request->visited & plan_bit(turn->turn_request->plan, turn->target.upstream)))
        budget_request(&s->budget, now_ms);
    state->entry.refs++;
}

static void grant(struct turns *t, struct turn *turn, const struct candidate *c, uint64_t now_ms)
{
    const struct upstream *p = c->upstream;
    struct str model = turn_request_model(turn->turn_request);

    turn->target = (struct target){
        .upstream = p,
        .key_number = c->key_number,
        .tier = turn->turn_request->tier,
        .model = model,
        .own_model = target_own_model(p, model),
    };
    if (c->key_number > 0)
        turn->target.key = p->keys[c->key_number - 1].text;
    turn->state = TURN_GRANTED;
    turn->target_state = c->target_state;
    turn->gate_heard = turn->heard = false;
    if (!c->target_state)
        return;
    if (p->key_count > 1)
        c->target_state->model_state->upstream->next_key =
            c->key_number; /* the next one begins behind it */
    enter(t, turn, c->target_state, now_ms);
}

void turn_announce(struct turn *turn)
{
    bool first = list_empty(&turn->ready->woken);

    list_append(&turn->ready->woken, &turn->told);
    if (first)
        turn->ready->wake(turn->ready->arg);
}

void turn_refuse(struct turn *turn, const struct outlook *o)
{
    turn->state = TURN_REFUSED;
    turn->why = o->down ? TURN_WHY_BREAKER : o->at_least.why;
    turn->ready_ms = o->at_least.at_ms;
}

void turns_run(struct turns *t, uint64_t now_ms)
{
    struct candidate c = {0};
    struct turn *turn;

    queues_wake_due(t, now_ms);
    do {
        t->next_ms = TURNS_NEVER;
        turn = t->waiting > 0 ? queue_next(t, now_ms, &c) : NULL;
        if (turn) {
            grant(t, turn, &c, now_ms);
            turn_announce(turn);
        }
    } while (turn);
    if (t->asleep.first) {
        const struct wait_queue *first = LIST_ENTRY(t->asleep.first, struct wait_queue, sleeps);

        if (first->at_ms < t->next_ms)
            t->next_ms = first->at_ms;
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

static enum turn_state wait_for_it(struct turns *t, struct turn *turn,
                                   const struct candidate *candidates, unsigned n, uint64_t now_ms)
{
    struct outlook o = look_ahead(candidates, n, now_ms);
    bool vain =
        n == 0 || in_vain(turn->turn_request, &o) ||
        (turn->turn_request->probed && o.down && o.at_least.at_ms > turn->turn_request->patient_ms);

    turn->why = o.why;
    if (vain || t->waiting >= turn->turn_request->plan->settings->queue.size ||
        queue_join(t, turn, candidates, n, now_ms) < 0) {
        turn_refuse(turn, &o);
        if (!vain)
            turn->why = TURN_WHY_QUEUE_FULL;
        return turn->state;
    }
    tell_target(t, candidates[0].target_state,
                (struct turns_event){.kind = TURNS_WAIT, .why = o.why});
    turns_run(t, now_ms);
    list_remove(&turn->told); /* it need not be told what it is told here */
    return turn->state;
}

enum turn_state turns_ask(struct turns *t, struct turn *turn, struct turns_ready *ready,
                          const struct turn_request *turn_request, uint64_t now_ms)
{
    struct candidate candidates[CANDIDATES_MAX];
    unsigned n;

    assert(turn->state == TURN_NONE);
    turn->turn_request = turn_request;
    turn->ready = ready;
    turn->why = turn->first_held = TURN_WHY_NONE;
    turn->client = NULL;
    turn->target_state = NULL;
    list_init(&turn->node);
    list_init(&turn->told);
    if (t->waiting > 0 && t->next_ms <= now_ms)
        turns_run(t, now_ms); /* those whose time has come are not overtaken */
    n = turn_request_candidates(t, turn_request, now_ms, candidates);
    for (unsigned i = 0; i < n; i++) {
        struct target_state *state = candidates[i].target_state;
        enum turn_why why = TURN_WHY_NONE; /* others wait for it already */

        if (state && (target_is_waited_for(state) || target_next(state, now_ms, &why) > now_ms)) {
            turn->first_held = i == 0 ? why : turn->first_held;
            continue;
        }
        grant(t, turn, &candidates[i], now_ms);
        return TURN_GRANTED;
    }
    return wait_for_it(t, turn, candidates, n, now_ms);
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
        queue_leave(t, turn);
        turns_run(t, now_ms); /* another is at the head of its queue */
    }
    turn->state = TURN_NONE;
}

void turns_look(struct turns *t, const struct turn_request *turn_request, unsigned helps,
                uint64_t now_ms, struct turns_outlook *ret)
{
    struct candidate candidates[CANDIDATES_MAX];
    unsigned n = turn_request_candidates(t, turn_request, now_ms, candidates);

    *ret = (struct turns_outlook){.down = n > 0 && look_ahead(candidates, n, now_ms).down};
    for (unsigned i = 0; i < n; i++) {
        struct target_state *state = candidates[i].target_state;
        bool same_upstream = false;
        enum turn_why why;

        for (unsigned k = 0; k < turn_request->tried_count; k++)
            same_upstream |= turn_request->tried[k].upstream == candidates[i].upstream;
        if (i == 0)
            ret->target.upstream = candidates[i].upstream;
        if (candidates[i].tried || !(helps & (HELPS_UPSTREAM | (same_upstream ? HELPS_KEY : 0))) ||
            (state && (target_is_waited_for(state) || target_next(state, now_ms, &why) > now_ms)) ||
            candidate_is_aside(&candidates[i], now_ms))
            continue;
        ret->other = true;
        ret->target = (struct target){.upstream = candidates[i].upstream,
                                      .key_number = candidates[i].key_number};
        return;
    }
}
