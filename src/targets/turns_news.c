/* Takes in what attempts and other daemons tell of targets, and tells what follows from it. */
#include <assert.h>

#include "targets/turns_private.h"

static void tell(struct turns *t, struct turns_event e)
{
    if (t->handler.event)
        t->handler.event(t->handler.arg, &e);
}

static void tell_model(struct turns *t, const struct model_state *c, struct turns_event e)
{
    e.id = c->entry.id;
    e.upstream = c->upstream->name;
    e.model = c->model;
    e.operation = c->operation;
    tell(t, e);
}

void tell_target(struct turns *t, const struct target_state *state, struct turns_event e)
{
    const struct model_state *c = state->model_state;
    bool of_model = e.kind == TURNS_BREAKER_PROBE;

    e.id = e.kind == TURNS_RATE_TAKEN ? c->upstream->entry.id
           : of_model                 ? c->entry.id
                                      : state->entry.id;
    e.upstream = c->upstream->name;
    e.model = c->model;
    e.operation = c->operation;
    e.key_number = state->key_number;
    tell(t, e);
}

/* --- what an attempt tells ------------------------------------------------------------------------ */

/* A gate stays closed for as long as its 429 said, though nobody may wait for that long: else each
 * request would find it out for itself. But none longer than the longest max_hint that can be set. */
#define HINT_MOST_MS (UINT64_C(24) * 60 * 60 * 1000)

/* What a verdict says about the target, rather than about the request. */
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

/* Those who are under way when a gate closes bring 429s, too: each is a little later than the one
 * before, and not worth telling; one that asks for a longer wait is. */
#define LONGER_MS 100

static void shut_gate(struct turns *t, struct target_state *state, uint64_t for_ms,
                      enum reason reason, bool learned, uint64_t now_ms)
{
    uint64_t before_ms = state->gate.until_ms;
    bool closes = gate_close(&state->gate, for_ms, now_ms);

    state->closings += closes;
    if (closes || state->gate.until_ms >= state->told_ms + LONGER_MS) {
        state->told_ms = state->gate.until_ms;
        tell_target(
            t, state,
            (struct turns_event){
                .kind = TURNS_GATE_CLOSED, .for_ms = for_ms, .reason = reason, .learned = learned});
    }
    if (closes || state->gate.until_ms != before_ms)
        queues_review(t, state, now_ms);
}

static void set_aside(struct turns *t, struct turn *turn, enum reason reason, uint64_t now_ms)
{
    const struct upstream *p = turn->target.upstream;
    struct key_state *k = turn->target_state->key;
    bool was_aside = k->aside_until_ms > now_ms;

    if (turn->target.key_number == 0) /* a client's own: it is for the client to mend that */
        return;
    k->aside_until_ms = now_ms + p->key_cooldown_ms;
    k->asides += !was_aside;
    if (!was_aside)
        tell_target(t, turn->target_state,
                    (struct turns_event){
                        .kind = TURNS_KEY_ASIDE, .for_ms = p->key_cooldown_ms, .reason = reason});
}

/* The target answers again: not all who waited at once. */
static void model_closed(struct turns *t, struct model_state *c, bool learned, uint64_t now_ms)
{
    for (struct list *l = c->states.next; l != &c->states; l = l->next)
        gate_reopen(&LIST_ENTRY(l, struct target_state, node)->gate, now_ms);
    tell_model(t, c, (struct turns_event){.kind = TURNS_BREAKER_CLOSED, .learned = learned});
    queues_wake_model(t, c);
}

static void model_opened(struct turns *t, struct model_state *c, struct turns_event e, bool again,
                         uint64_t now_ms)
{
    e.kind = TURNS_BREAKER_OPEN;
    c->openings++;
    tell_model(t, c, e);
    queues_review_model(t, c, again, now_ms);
}

static void breaker_news(struct turns *t, struct turn *turn, enum breaker_news news,
                         enum reason reason, uint64_t now_ms)
{
    struct model_state *c = turn->target_state->model_state;
    enum breaker_change change = breaker_leave(&c->breaker, &c->settings, turn->pass, news, now_ms);
    struct turns_event e = {.for_ms = c->settings.open_for_ms, .reason = reason};

    if (change == BREAKER_CLOSES)
        model_closed(t, c, false, now_ms);
    else if (change != BREAKER_STAYS)
        model_opened(t, c, e, change == BREAKER_OPENS_AGAIN, now_ms);
}

static void gate_news(struct turns *t, struct turn *turn, enum gate_news news, uint64_t now_ms)
{
    struct target_state *state = turn->target_state;

    if (gate_leave(&state->gate, turn->gate_epoch, news, now_ms))
        tell_target(t, state, (struct turns_event){.kind = TURNS_GATE_OPEN});
}

static void pace_news(struct turns *t, struct target_state *state, bool limited, uint64_t now_ms)
{
    if (state->adaptive && pace_leave(&state->pace, limited, now_ms))
        tell_target(t, state,
                    (struct turns_event){.kind = TURNS_PACE,
                                         .per_minute = state->pace.on ? state->pace.per_minute : 0,
                                         .reason = limited ? REASON_RATE_LIMIT : REASON_OK});
}

/* A stream may still break: until it is over it is no success, but for a probe. */
static bool speaks_to_breaker(const struct turn *turn, const struct turn_result *r)
{
    return r->stage == TURN_OVER || (r->stage == TURN_BEGUN && turn->pass.probe);
}

void turns_tell(struct turns *t, struct turn *turn, const struct turn_result *r, uint64_t now_ms)
{
    struct target_state *state = turn->target_state;
    struct news n = news_of(r);
    bool has_hint = r->hint.source != HINT_NONE && r->hint.delay_ms > 0;

    assert(turn->state == TURN_GRANTED);
    if (!state)
        return;
    if (!turn->gate_heard) {
        gate_news(t, turn, n.gate, now_ms);
        pace_news(t, state, n.gate == GATE_LIMITED && !has_hint, now_ms);
    }
    if (speaks_to_breaker(turn, r) && (!turn->heard || n.breaker == BREAKER_BAD)) {
        breaker_news(t, turn, n.breaker, r->verdict.reason, now_ms);
        turn->heard = true;
    }
    turn->gate_heard = true;
    if (n.gate == GATE_LIMITED && has_hint) {
        uint64_t for_ms = r->hint.delay_ms < HINT_MOST_MS ? r->hint.delay_ms : HINT_MOST_MS;

        shut_gate(t, state, for_ms, r->verdict.reason, false, now_ms);
    }
    if (r->verdict.reason == REASON_QUOTA || r->verdict.reason == REASON_KEY)
        set_aside(t, turn, r->verdict.reason, now_ms);
    if (t->waiting == 0)
        return;
    queues_wake(t, state);
    turns_run(t, now_ms);
}

void turns_end(struct turns *t, struct turn *turn, uint64_t now_ms)
{
    struct target_state *state = turn->target_state;

    assert(turn->state == TURN_GRANTED);
    turn->state = TURN_NONE;
    list_remove(&turn->told); /* one that looked by itself may be through before it is told */
    if (!state)
        return;
    if (!turn->gate_heard)
        gate_news(t, turn, GATE_NO_NEWS, now_ms);
    if (!turn->heard)
        breaker_news(t, turn, BREAKER_NO_NEWS, REASON_OK, now_ms);
    turn->target_state = NULL;
    state->model_state->upstream->in_flight--;
    state->entry.used_ms = now_ms; /* what it has just told is not idle, however long it took */
    state->entry.refs--;
    if (t->waiting == 0)
        return;
    queues_wake(t, state);
    turns_run(t, now_ms);
}

/* --- budgets -------------------------------------------------------------------------------------- */

bool turns_may_repeat(struct turns *t, const struct upstream *p, const struct retry_settings *s,
                      uint64_t now_ms)
{
    struct upstream_state *upstream = table_upstream(t, p, now_ms);

    return !upstream || budget_repeat(&upstream->budget, s->budget_percent, s->budget_min, now_ms);
}

void turns_charge(struct turns *t, const struct upstream *p, uint64_t now_ms)
{
    struct upstream_state *upstream = table_upstream(t, p, now_ms);

    if (upstream)
        budget_charge(&upstream->budget, now_ms);
}

/* --- what other daemons tell ---------------------------------------------------------------------- */

/* A target that was never used here: all that is known of it is its id. */
static void learn_unknown(struct turns *t, enum turns_event_kind kind, uint64_t id, uint64_t for_ms,
                          uint64_t now_ms)
{
    table_learn(t, id, now_ms + for_ms, now_ms);
    tell(t, (struct turns_event){.kind = kind,
                                 .learned = true,
                                 .id = id,
                                 .upstream = "",
                                 .model = "",
                                 .for_ms = for_ms});
}

void turns_learn_gate(struct turns *t, uint64_t target_id, uint64_t for_ms, uint64_t now_ms)
{
    struct target_state *state =
        (struct target_state *)(void *)table_find(t, target_id, ENTRY_TARGET);

    if (state)
        shut_gate(t, state, for_ms, REASON_RATE_LIMIT, true, now_ms);
    else
        learn_unknown(t, TURNS_GATE_CLOSED, target_id, for_ms, now_ms);
    turns_run(t, now_ms);
}

void turns_learn_breaker(struct turns *t, uint64_t model_id, bool open, uint64_t for_ms,
                         uint64_t now_ms)
{
    struct model_state *c = (struct model_state *)(void *)table_find(t, model_id, ENTRY_MODEL);

    if (!c)
        learn_unknown(t, open ? TURNS_BREAKER_OPEN : TURNS_BREAKER_CLOSED, model_id,
                      open ? for_ms : 0, now_ms);
    else if (open && breaker_learn_open(&c->breaker, for_ms, now_ms))
        model_opened(t, c, (struct turns_event){.for_ms = for_ms, .learned = true}, false, now_ms);
    else if (!open && breaker_learn_closed(&c->breaker))
        model_closed(t, c, true, now_ms);
    turns_run(t, now_ms);
}

void turns_learn_rate(struct turns *t, uint64_t upstream_id, uint64_t ahead_us, uint64_t now_ms)
{
    struct upstream_state *s =
        (struct upstream_state *)(void *)table_find(t, upstream_id, ENTRY_UPSTREAM);

    if (s)
        rate_learn(&s->rate, ahead_us, now_ms);
}

/* --- the view ------------------------------------------------------------------------------------- */

static uint64_t left(uint64_t until_ms, uint64_t now_ms)
{
    return until_ms > now_ms ? until_ms - now_ms : 0;
}

static struct turns_view view_of(const struct entry *e, uint64_t now_ms)
{
    const struct upstream_state *s = (const struct upstream_state *)(const void *)e;
    const struct model_state *c = (const struct model_state *)(const void *)e;
    const struct key_state *k = (const struct key_state *)(const void *)e;
    const struct target_state *state = (const struct target_state *)(const void *)e;

    switch (e->kind) {
    case ENTRY_MODEL:
        return (struct turns_view){
            .kind = VIEW_MODEL,
            .upstream = c->upstream->name,
            .model = c->model,
            .operation = c->operation,
            .fallbacks = c->fallbacks,
            .shut = c->openings,
            .shut_ms = c->breaker.phase == BREAKER_CLOSED ? 0 : left(c->breaker.until_ms, now_ms),
            .half_open = c->breaker.phase == BREAKER_HALF_OPEN,
        };
    case ENTRY_KEY:
        return (struct turns_view){
            .kind = VIEW_KEY,
            .upstream = k->upstream,
            .key_number = k->key_number,
            .shut = k->asides,
            .shut_ms = left(k->aside_until_ms, now_ms),
        };
    case ENTRY_TARGET:
        return (struct turns_view){
            .kind = VIEW_TARGET,
            .upstream = state->model_state->upstream->name,
            .model = state->model_state->model,
            .operation = state->model_state->operation,
            .key_number = state->key_number,
            .shut = state->closings,
            .shut_ms = state->gate.phase == GATE_CLOSED ? left(state->gate.until_ms, now_ms) : 0,
            .opening = state->gate.phase == GATE_OPENING,
            .pace_per_minute = state->pace.on ? state->pace.per_minute : 0,
        };
    case ENTRY_UPSTREAM:
    case ENTRY_LEARNED:
    case ENTRY_QUEUE:
    case ENTRY_CLIENT:
    case ENTRY_KINDS:
        break;
    }
    return (struct turns_view){
        .kind = VIEW_UPSTREAM, .upstream = s->name, .in_flight = s->in_flight};
}

#define TURNS_EACH 256 /* buckets; they hold two entries at most, on average */

static bool has_view(const struct entry *e)
{
    return e->kind != ENTRY_LEARNED && e->kind != ENTRY_QUEUE && e->kind != ENTRY_CLIENT;
}

bool turns_each(struct turns *t, unsigned *at, void (*each)(void *arg, const struct turns_view *v),
                void *arg, uint64_t now_ms)
{
    unsigned end = *at + TURNS_EACH;

    for (; *at < end && *at < TABLE_BUCKETS; ++*at) {
        for (struct entry *e = t->buckets[*at]; e; e = e->next) {
            struct turns_view v;

            if (!has_view(e))
                continue;
            v = view_of(e, now_ms);
            each(arg, &v);
        }
    }
    return *at < TABLE_BUCKETS;
}
