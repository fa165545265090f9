/* Lets requests through to targets, in order if they have to wait, and takes in the results of
 * attempts and the news of other daemons. */
#include "targets/turns.h"

#include <assert.h>
#include <stdlib.h>

#include "targets/turns_private.h"

static const char *const why_words[TURN_WHY_COUNT] = {
    [TURN_WHY_NONE] = "none",   [TURN_WHY_GATE] = "gate", [TURN_WHY_BREAKER] = "breaker",
    [TURN_WHY_LIMIT] = "limit", [TURN_WHY_PACE] = "pace", [TURN_WHY_QUEUE_FULL] = "queue_full",
};

const char *turns_why_word(enum turn_why w)
{
    return why_words[w];
}

struct turns *turns_new(const struct turns_world *world)
{
    struct turns *t = calloc(1, sizeof(*t));

    if (!t)
        return NULL;
    if (turns_table_init(t) < 0) {
        free(t);
        return NULL;
    }
    t->world = *world;
    turns_queues_init(t);
    return t;
}

void turns_free(struct turns *t)
{
    if (!t)
        return;
    assert(t->waiting == 0);
    turns_table_free(t);
    free(t);
}

void turns_ready_init(struct turns_ready *d, void (*wake)(void *arg), void *arg)
{
    list_init(&d->woken);
    d->wake = wake;
    d->arg = arg;
}

struct turn *turns_ready_take(struct turns *t, struct turns_ready *d)
{
    struct list *node;

    t->world.lock(t->world.arg);
    node = list_pop(&d->woken);
    turns_unlock(t);
    return node ? LIST_ENTRY(node, struct turn, woken) : NULL;
}

/* --- events ----------------------------------------------------------------------------------- */

static void tell(struct turns *t, struct turns_event e)
{
    t->world.event(t->world.arg, &e);
}

static void tell_model(struct turns *t, const struct model_state *model, struct turns_event e)
{
    e.id = model->entry.id;
    e.upstream = model->upstream->name;
    e.model = model->model;
    e.operation = model->operation;
    tell(t, e);
}

static void tell_target(struct turns *t, const struct target_state *state, struct turns_event e)
{
    const struct model_state *model = state->model_state;

    e.id = e.kind == TURNS_RATE_TAKEN      ? model->upstream->entry.id
           : e.kind == TURNS_BREAKER_PROBE ? model->entry.id
                                           : state->entry.id;
    e.upstream = model->upstream->name;
    e.model = model->model;
    e.operation = model->operation;
    e.key_number = state->key_number;
    tell(t, e);
}

/* --- granting --------------------------------------------------------------------------------- */

static void grant(struct turns *t, struct turn *turn, const struct candidate *c, uint64_t now_ms)
{
    const struct upstream *upstream = c->upstream;
    struct str model = turns_request_model(turn->turn_request);

    turn->target = (struct target){
        .upstream = upstream,
        .key_number = c->key_number,
        .tier = turn->turn_request->tier,
        .model = model,
        .own_model = target_own_model(upstream, model),
    };
    if (c->key_number > 0)
        turn->target.key = upstream->keys[c->key_number - 1].text;
    turn->state = TURN_GRANTED;
    turn->target_state = c->target_state;
    turn->gate_heard = turn->heard = false;
    if (!c->target_state)
        return;
    if (upstream->key_count > 1) /* the next choice begins after it */
        c->target_state->model_state->upstream->next_key = c->key_number;
    const struct turn_request *turn_request = turn->turn_request;
    struct model_state *busy = c->target_state->model_state;
    struct upstream_state *s = busy->upstream;
    turn->gate_epoch = gate_enter(&c->target_state->gate, now_ms);
    turn->pass = breaker_enter(&busy->breaker, &busy->settings, now_ms);
    if (c->target_state->adaptive)
        pace_enter(&c->target_state->pace, now_ms);
    if (turn->pass.probe)
        tell_target(t, c->target_state, (struct turns_event){.kind = TURNS_BREAKER_PROBE});
    if (turns_target_is_rated(c->target_state)) {
        rate_take(&s->rate, s->per_minute, now_ms);
        tell_target(t, c->target_state,
                    (struct turns_event){.kind = TURNS_RATE_TAKEN, .per_minute = s->per_minute});
    }
    s->in_flight++;
    busy->fallbacks += turn_request->tier > 0;
    if (!(turn_request->visited & plan_bit(turn_request->plan, turn->target.upstream)))
        budget_request(&s->budget, now_ms);
    c->target_state->entry.refs++;
}

void turns_announce(struct turn *turn)
{
    bool first = list_empty(&turn->ready->woken);

    list_append(&turn->ready->woken, &turn->woken);
    if (first)
        turn->ready->wake(turn->ready->arg);
}

void turns_refuse(struct turn *turn, const struct outlook *o)
{
    turn->state = TURN_REFUSED;
    turn->why = o->down ? TURN_WHY_BREAKER : o->at_least.why;
    turn->ready_ms = o->at_least.at_ms;
}

/* Grants all turns that may go by now. */
static void let_through(struct turns *t, uint64_t now_ms)
{
    struct candidate c;
    struct turn *turn;

    turns_queues_wake_due(t, now_ms);
    while ((turn = turns_queue_next(t, now_ms, &c))) {
        grant(t, turn, &c, now_ms);
        turns_announce(turn);
    }
}

void turns_run(struct turns *t)
{
    let_through(t, turns_lock(t));
    turns_unlock(t);
}

unsigned turns_waiting(struct turns *t)
{
    unsigned n;

    t->world.lock(t->world.arg);
    n = t->waiting;
    turns_unlock(t);
    return n;
}

/* --- asking ----------------------------------------------------------------------------------- */

/* Puts the turn into a queue, or refuses it. */
static enum turn_state wait_for_it(struct turns *t, struct turn *turn, const struct candidates *c,
                                   uint64_t now_ms)
{
    const struct turn_request *turn_request = turn->turn_request;
    struct outlook o = turns_look_ahead(c, now_ms);
    bool vain = c->count == 0 || turns_is_in_vain(turn_request, &o, turn_request->probed);

    turn->why = o.why;
    if (vain || t->waiting >= turn_request->plan->settings->queue.size ||
        turns_queue_join(t, turn, c, now_ms) < 0) {
        turns_refuse(turn, &o);
        if (!vain)
            turn->why = TURN_WHY_QUEUE_FULL;
        return turn->state;
    }
    tell_target(t, c->list[0].target_state, (struct turns_event){.kind = TURNS_WAIT, .why = o.why});
    let_through(t, now_ms);
    list_remove(&turn->woken); /* its owner learns the state here */
    return turn->state;
}

static enum turn_state ask(struct turns *t, struct turn *turn, struct turns_ready *ready,
                           const struct turn_request *turn_request, uint64_t now_ms)
{
    struct candidates c;

    assert(turn->state == TURN_NONE);
    turn->turn_request = turn_request;
    turn->ready = ready;
    turn->why = turn->first_held = TURN_WHY_NONE;
    turn->client = NULL;
    turn->target_state = NULL;
    list_init(&turn->node);
    list_init(&turn->woken);
    if (t->waiting > 0 && t->next_ms <= now_ms)
        let_through(t, now_ms); /* requests whose time has come are not overtaken */
    turns_candidates(t, turn_request, now_ms, &c);
    for (unsigned i = 0; i < c.count; i++) {
        enum turn_why why;

        if (turns_candidate_is_free(&c.list[i], now_ms, &why)) {
            grant(t, turn, &c.list[i], now_ms);
            return TURN_GRANTED;
        }
        if (i == 0)
            turn->first_held = why;
    }
    return wait_for_it(t, turn, &c, now_ms);
}

enum turn_state turns_ask(struct turns *t, struct turn *turn, struct turns_ready *ready,
                          const struct turn_request *turn_request)
{
    enum turn_state s = ask(t, turn, ready, turn_request, turns_lock(t));

    turns_unlock(t);
    return s;
}

enum turn_state turns_state(struct turns *t, const struct turn *turn)
{
    enum turn_state s;

    t->world.lock(t->world.arg);
    s = turn->state;
    turns_unlock(t);
    return s;
}

void turns_look(struct turns *t, const struct turn_request *turn_request, unsigned helps,
                struct turns_outlook *ret)
{
    uint64_t now_ms = turns_lock(t);
    struct candidates c;
    enum turn_why why;

    turns_candidates(t, turn_request, now_ms, &c);
    *ret = (struct turns_outlook){.down = turns_look_ahead(&c, now_ms).down};
    if (c.count > 0)
        ret->target.upstream = c.list[0].upstream;
    for (unsigned i = 0; i < c.count && !ret->other; i++) {
        const struct candidate *here = &c.list[i];

        /* Another key of an upstream that the request has tried may help it, or another
         * upstream. */
        bool same_upstream = false;
        for (unsigned j = 0; j < turn_request->tried_count; j++)
            same_upstream |= turn_request->tried[j].upstream == here->upstream;
        if (!(!here->tried && (helps & (HELPS_UPSTREAM | (same_upstream ? HELPS_KEY : 0)))) ||
            !turns_candidate_is_free(here, now_ms, &why) || turns_candidate_is_aside(here, now_ms))
            continue;
        ret->other = true;
        ret->target = (struct target){.upstream = here->upstream, .key_number = here->key_number};
    }
    turns_unlock(t);
}

/* --- results of attempts ---------------------------------------------------------------------- */

/* A gate stays closed for as long as its 429 said, even if no request may wait for that long: else
 * each request would get its own 429. The limit is the longest possible max_hint. */
#define HINT_MOST_MS (UINT64_C(24) * 60 * 60 * 1000)

/* The meaning of a verdict for the target, rather than for the request. */
struct news {
    enum gate_news gate;
    enum breaker_news breaker;
};

static struct news news_of(const struct turn_result *r)
{
    static const struct news good = {GATE_GOOD, BREAKER_GOOD}, bad = {GATE_NO_NEWS, BREAKER_BAD},
                             none = {GATE_NO_NEWS, BREAKER_NO_NEWS},
                             limited = {GATE_LIMITED, BREAKER_GOOD};

    switch (r->verdict.reason) {
    case REASON_RATE_LIMIT:
        return limited;
    case REASON_OVERLOADED:
        return r->status == 429 ? limited : bad;
    case REASON_STALE:
    case REASON_INTERNAL:
    case REASON_SHUTDOWN:
    case REASON_CLIENT_GONE:
    case REASON_CLIENT_STALLED:
    case REASON_DEADLINE:
        return none;
    case REASON_OK:
    case REASON_QUOTA:
    case REASON_KEY:
    case REASON_PERMISSION:
    case REASON_MODEL:
    case REASON_CONTEXT:
    case REASON_CONTENT_POLICY:
    case REASON_CLIENT_ERROR:
    case REASON_NOT_IMPLEMENTED:
    case REASON_CONFLICT:
    case REASON_TOO_EARLY:
    case REASON_DIFFERS:
        return good;
    case REASON_UPSTREAM_SAYS_NO:
    case REASON_UPSTREAM_SAYS_RETRY:
        return r->status == 429 ? limited : r->status >= 500 ? bad : good;
    default:
        return bad;
    }
}

/* Attempts under way when a gate closes get 429s, too. Each moves the end of the closing a little;
 * only one that moves it by more than this is an event. */
#define LONGER_MS 100

static void shut_gate(struct turns *t, struct target_state *state, uint64_t for_ms,
                      enum reason reason, bool learned, uint64_t now_ms)
{
    uint64_t before_ms = state->gate.until_ms;
    bool closes = gate_close(&state->gate, for_ms, now_ms);

    state->closings += closes;
    if (closes || state->gate.until_ms >= state->event_ms + LONGER_MS) {
        state->event_ms = state->gate.until_ms;
        tell_target(
            t, state,
            (struct turns_event){
                .kind = TURNS_GATE_CLOSED, .for_ms = for_ms, .reason = reason, .learned = learned});
    }
    if (closes || state->gate.until_ms != before_ms)
        turns_queues_review(t, state, false, now_ms);
}

static void set_aside(struct turns *t, struct turn *turn, enum reason reason, uint64_t now_ms)
{
    struct key_state *key = turn->target_state->key;
    uint64_t cooldown_ms = turn->target.upstream->key_cooldown_ms;
    bool was_aside = key->aside_until_ms > now_ms;

    if (turn->target.key_number == 0) /* a client's own key, which only the client can replace */
        return;
    key->aside_until_ms = now_ms + cooldown_ms;
    key->asides += !was_aside;
    if (!was_aside)
        tell_target(
            t, turn->target_state,
            (struct turns_event){.kind = TURNS_KEY_ASIDE, .for_ms = cooldown_ms, .reason = reason});
}

/* The target is back: its gates let the waiting requests through step by step. */
static void model_closed(struct turns *t, struct model_state *model, bool learned, uint64_t now_ms)
{
    for (struct list *l = model->states.next; l != &model->states; l = l->next)
        gate_reopen(&LIST_ENTRY(l, struct target_state, node)->gate, now_ms);
    tell_model(t, model, (struct turns_event){.kind = TURNS_BREAKER_CLOSED, .learned = learned});
    turns_queues_wake_model(t, model);
}

static void model_opened(struct turns *t, struct model_state *model, struct turns_event e,
                         bool again, uint64_t now_ms)
{
    e.kind = TURNS_BREAKER_OPEN;
    model->openings++;
    tell_model(t, model, e);
    turns_queues_review_model(t, model, again, now_ms);
}

static void breaker_news(struct turns *t, struct turn *turn, enum breaker_news news,
                         enum reason reason, uint64_t now_ms)
{
    struct model_state *model = turn->target_state->model_state;
    enum breaker_change change =
        breaker_leave(&model->breaker, &model->settings, turn->pass, news, now_ms);
    struct turns_event e = {.for_ms = model->settings.open_for_ms, .reason = reason};

    if (change == BREAKER_CLOSES)
        model_closed(t, model, false, now_ms);
    else if (change != BREAKER_STAYS)
        model_opened(t, model, e, change == BREAKER_OPENS_AGAIN, now_ms);
}

static void gate_news(struct turns *t, struct turn *turn, enum gate_news news, uint64_t now_ms)
{
    struct target_state *state = turn->target_state;

    if (gate_leave(&state->gate, turn->gate_epoch, news, now_ms))
        tell_target(t, state, (struct turns_event){.kind = TURNS_GATE_OPEN});
}

/* Serves the requests that wait for a target of which there is news. */
static void serve_waiting(struct turns *t, struct target_state *state, uint64_t now_ms)
{
    if (t->waiting == 0)
        return;
    turns_queues_wake(t, state);
    let_through(t, now_ms);
}

/* Returns how long the gate stays closed. The clock's current millisecond may have begun earlier,
 * so the rounding is added: the gate must not open before the hint's time is over. */
static uint64_t hinted_ms(const struct turns *t, const struct hint *hint)
{
    uint64_t for_ms = hint->delay_ms + t->world.rounding_ms;

    return for_ms < HINT_MOST_MS ? for_ms : HINT_MOST_MS;
}

void turns_tell(struct turns *t, struct turn *turn, const struct turn_result *r)
{
    uint64_t now_ms = turns_lock(t);
    struct target_state *state = turn->target_state;
    struct news n = news_of(r);
    bool has_hint = r->hint.source != HINT_NONE && r->hint.delay_ms > 0;
    /* A stream may still break, so it is no success until it is over, except for a probe. */
    bool of_breaker = r->stage == TURN_OVER || (r->stage == TURN_BEGUN && turn->pass.probe);

    assert(turn->state == TURN_GRANTED);
    if (state) {
        if (!turn->gate_heard) {
            gate_news(t, turn, n.gate, now_ms);
            bool limited = n.gate == GATE_LIMITED && !has_hint;
            if (state->adaptive && pace_leave(&state->pace, limited, now_ms))
                tell_target(
                    t, state,
                    (struct turns_event){.kind = TURNS_PACE,
                                         .per_minute = state->pace.on ? state->pace.per_minute : 0,
                                         .reason = limited ? REASON_RATE_LIMIT : REASON_OK});
        }
        if (of_breaker && (!turn->heard || n.breaker == BREAKER_BAD)) {
            breaker_news(t, turn, n.breaker, r->verdict.reason, now_ms);
            turn->heard = true;
        }
        turn->gate_heard = true;
        if (n.gate == GATE_LIMITED && has_hint)
            shut_gate(t, state, hinted_ms(t, &r->hint), r->verdict.reason, false, now_ms);
        if (r->verdict.reason == REASON_QUOTA || r->verdict.reason == REASON_KEY)
            set_aside(t, turn, r->verdict.reason, now_ms);
        serve_waiting(t, state, now_ms);
    }
    turns_unlock(t);
}

static void end(struct turns *t, struct turn *turn, uint64_t now_ms)
{
    struct target_state *state = turn->target_state;

    assert(turn->state == TURN_GRANTED);
    turn->state = TURN_NONE;
    list_remove(&turn->woken); /* an owner that asked by itself may be done before the wake-up */
    if (!state)
        return;
    if (!turn->gate_heard)
        gate_news(t, turn, GATE_NO_NEWS, now_ms);
    if (!turn->heard)
        breaker_news(t, turn, BREAKER_NO_NEWS, REASON_OK, now_ms);
    turn->target_state = NULL;
    state->model_state->upstream->in_flight--;
    state->entry.used_ms = now_ms; /* it is in use, however long the attempt took */
    state->entry.refs--;
    serve_waiting(t, state, now_ms);
}

void turns_end(struct turns *t, struct turn *turn)
{
    end(t, turn, turns_lock(t));
    turns_unlock(t);
}

void turns_leave(struct turns *t, struct turn *turn)
{
    uint64_t now_ms = turns_lock(t);

    if (turn->state == TURN_GRANTED) { /* its owner has not learned of it yet */
        end(t, turn, now_ms);
    } else if (turn->state != TURN_NONE) {
        list_remove(&turn->woken);
        if (turn->state == TURN_WAITING) {
            turns_queue_leave(t, turn);
            let_through(t, now_ms); /* another turn is now the first of its queue */
        }
        turn->state = TURN_NONE;
    }
    turns_unlock(t);
}

/* --- budgets and limits ----------------------------------------------------------------------- */

bool turns_may_repeat(struct turns *t, const struct upstream *upstream,
                      const struct retry_settings *s)
{
    uint64_t now_ms = turns_lock(t);
    struct upstream_state *state = turns_table_upstream(t, upstream, now_ms);
    bool may = !state || budget_repeat(&state->budget, s->budget_percent, s->budget_min, now_ms);

    if (!may)
        tell(t, (struct turns_event){.kind = TURNS_DENIED,
                                     .id = state->entry.id,
                                     .upstream = state->name,
                                     .model = ""});
    turns_unlock(t);
    return may;
}

void turns_charge(struct turns *t, const struct upstream *upstream)
{
    uint64_t now_ms = turns_lock(t);
    struct upstream_state *s = turns_table_upstream(t, upstream, now_ms);

    if (s)
        budget_charge(&s->budget, now_ms);
    turns_unlock(t);
}

void turns_limits(struct turns *t, const struct upstream *upstream)
{
    uint64_t now_ms = turns_lock(t);
    struct upstream_state *s = turns_table_find(t, upstream->id, ENTRY_UPSTREAM);

    if (s) {
        turns_table_limit(s, upstream);
        let_through(t, now_ms);
    }
    turns_unlock(t);
}

/* --- news of other daemons -------------------------------------------------------------------- */

/* Notes news of a target that was never used here, of which only the id is known. */
static void learn_unknown(struct turns *t, enum turns_event_kind kind, uint64_t id, uint64_t for_ms,
                          uint64_t now_ms)
{
    turns_table_learn(t, id, now_ms + for_ms, now_ms);
    tell(t, (struct turns_event){.kind = kind,
                                 .learned = true,
                                 .id = id,
                                 .upstream = "",
                                 .model = "",
                                 .for_ms = for_ms});
}

void turns_learn_gate(struct turns *t, uint64_t target_id, uint64_t for_ms)
{
    uint64_t now_ms = turns_lock(t);
    struct target_state *state = turns_table_find(t, target_id, ENTRY_TARGET);

    if (state)
        shut_gate(t, state, for_ms, REASON_RATE_LIMIT, true, now_ms);
    else
        learn_unknown(t, TURNS_GATE_CLOSED, target_id, for_ms, now_ms);
    let_through(t, now_ms);
    turns_unlock(t);
}

void turns_learn_breaker(struct turns *t, uint64_t model_id, bool open, uint64_t for_ms)
{
    uint64_t now_ms = turns_lock(t);
    struct model_state *model = turns_table_find(t, model_id, ENTRY_MODEL);
    struct turns_event e = {.for_ms = for_ms, .learned = true};

    if (!model)
        learn_unknown(t, open ? TURNS_BREAKER_OPEN : TURNS_BREAKER_CLOSED, model_id,
                      open ? for_ms : 0, now_ms);
    else if (open && breaker_learn_open(&model->breaker, for_ms, now_ms))
        model_opened(t, model, e, false, now_ms);
    else if (!open && breaker_learn_closed(&model->breaker))
        model_closed(t, model, true, now_ms);
    let_through(t, now_ms);
    turns_unlock(t);
}

void turns_learn_rate(struct turns *t, uint64_t upstream_id, uint64_t ahead_us)
{
    uint64_t now_ms = turns_lock(t);
    struct upstream_state *s = turns_table_find(t, upstream_id, ENTRY_UPSTREAM);

    if (s)
        rate_learn(&s->rate, ahead_us, now_ms);
    turns_unlock(t);
}

/* --- actions of a person ---------------------------------------------------------------------- */

static bool is_meant(struct str wanted, const char *name)
{
    return wanted.n == 0 || str_eq(wanted, str_from(name));
}

static unsigned reset_target(struct turns *t, struct target_state *state, uint64_t now_ms)
{
    uint32_t epoch = state->gate.epoch;
    bool shut = state->gate.phase != GATE_OPEN, paced = state->pace.on;

    gate_init(&state->gate, now_ms);
    state->gate.epoch = epoch + 1; /* attempts from before do not count */
    pace_init(&state->pace);
    if (shut)
        tell_target(t, state, (struct turns_event){.kind = TURNS_GATE_OPEN});
    turns_queues_wake(t, state);
    return shut || paced;
}

static unsigned reset_model(struct turns *t, struct model_state *model, uint64_t now_ms)
{
    bool was_open = breaker_learn_closed(&model->breaker);
    unsigned n = was_open;

    for (struct list *l = model->states.next; l != &model->states; l = l->next) {
        struct target_state *state = LIST_ENTRY(l, struct target_state, node);

        n += reset_target(t, state, now_ms);
        n += state->key && state->key->aside_until_ms > now_ms;
        if (state->key)
            state->key->aside_until_ms = 0;
    }
    if (was_open)
        tell_model(t, model, (struct turns_event){.kind = TURNS_BREAKER_CLOSED});
    return n;
}

unsigned turns_reset(struct turns *t, struct str upstream, struct str model)
{
    uint64_t now_ms = turns_lock(t);
    struct list *all = &t->shelves[ENTRY_MODEL].used;
    unsigned n = 0;

    for (struct list *l = all->next; l != all; l = l->next) {
        struct model_state *m = (void *)LIST_ENTRY(l, struct entry, used);

        if (is_meant(upstream, m->upstream->name) && is_meant(model, m->model))
            n += reset_model(t, m, now_ms);
    }
    let_through(t, now_ms);
    turns_unlock(t);
    return n;
}
