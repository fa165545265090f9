/* Counts once more what a registry of targets lets through. The linker's --wrap sends what exchanges ask of
 * turns here. */
#include "turns_shadow.h"

#include <string.h>

enum turn_state __real_turns_ask(struct turns *t, struct turn *turn, struct turns_ready *ready,
                                 const struct turn_request *turn_request);
void __real_turns_leave(struct turns *t, struct turn *turn);
void __real_turns_tell(struct turns *t, struct turn *turn, const struct turn_result *r);
void __real_turns_end(struct turns *t, struct turn *turn);
bool __real_turns_may_repeat(struct turns *t, const struct upstream *upstream,
                             const struct retry_settings *settings);
void __real_turns_charge(struct turns *t, const struct upstream *upstream);
enum turn_state __wrap_turns_ask(struct turns *t, struct turn *turn, struct turns_ready *ready,
                                 const struct turn_request *turn_request);
void __wrap_turns_leave(struct turns *t, struct turn *turn);
void __wrap_turns_tell(struct turns *t, struct turn *turn, const struct turn_result *r);
void __wrap_turns_end(struct turns *t, struct turn *turn);
bool __wrap_turns_may_repeat(struct turns *t, const struct upstream *upstream,
                             const struct retry_settings *settings);
void __wrap_turns_charge(struct turns *t, const struct upstream *upstream);

#define MUST(condition)                \
    do {                               \
        if (!(condition)) {            \
            if (!s->wrong) {           \
                s->wrong = #condition; \
                s->line = __LINE__;    \
            }                          \
        }                              \
    } while (0)

#define BUCKET_MS 500
#define WINDOW 20 /* buckets of a budget's window */

static struct exchange_ops ops;
static const struct exchange_ops *under;
static struct shadow *s; /* of the run; NULL: there is none */

/* Whose turn it is, or whose upstream: a part of that world. NULL: of none that has a shadow. */
static struct fake_world *world_of(const void *part)
{
    uintptr_t at = (uintptr_t)part, first = s ? (uintptr_t)s->ws->worlds : 0;

    if (!s || at < first || at >= (uintptr_t)(s->ws->worlds + s->ws->count))
        return NULL;
    return &s->ws->worlds[(at - first) / sizeof(struct fake_world)];
}

static struct shadow_world *shadow_of(const struct fake_world *w)
{
    return &s->worlds[w - s->ws->worlds];
}

static struct shadow_upstream *upstream_of(const struct upstream *p)
{
    for (unsigned i = 0; i < s->known_count; i++)
        if (s->upstreams[i].id == p->id)
            return &s->known[i];
    return NULL;
}

static unsigned bucket_now(void)
{
    uint64_t number = s->ws->now_ms / BUCKET_MS;

    MUST(number < SHADOW_BUCKETS);
    return number < SHADOW_BUCKETS ? (unsigned)number : 0;
}

static unsigned sum(const unsigned *buckets)
{
    unsigned total = 0, now = bucket_now();

    for (unsigned i = 0; i < WINDOW && i <= now; i++)
        total += buckets[now - i];
    return total;
}

/* --- turns ----------------------------------------------------------------------------------------- */

static uint64_t *gate_of(const struct fake_world *w, const struct target *t)
{
    unsigned key = t->key_number ? t->key_number - 1 : shadow_of(w)->client;

    return &upstream_of(t->upstream)->shut_until_ms[key][t->tier];
}

/* No two times of its grants are closer than the rate has it, but for one second's burst. */
static void check_rate(struct shadow_upstream *upstream, const struct upstream *p)
{
    double burst = p->requests_per_minute > 60 ? p->requests_per_minute / 60 : 1;
    uint64_t now = s->ws->now_ms;

    if (p->requests_per_minute == 0)
        return;
    MUST(upstream->grants < SHADOW_GRANTS);
    upstream->granted_ms[upstream->grants % SHADOW_GRANTS] = now;
    upstream->grants++;
    for (unsigned i = 0; i < upstream->grants; i++) {
        double room = (double)(now - upstream->granted_ms[i]) * p->requests_per_minute / 60000;

        MUST(upstream->grants - i <= room + burst + 1e-9);
    }
}

static void check_breaker(struct shadow_upstream *upstream, unsigned tier)
{
    MUST(!upstream->down[tier] || upstream->probe[tier]);
    upstream->probe[tier] = false;
}

static unsigned slot_of(const struct exchange *x, const struct turn *turn)
{
    return turn == &x->slots[1].turn;
}

static void granted(struct fake_world *w, const struct turn *turn)
{
    const struct target *t = &turn->target;
    struct shadow_upstream *upstream = upstream_of(t->upstream);
    struct shadow_world *me = shadow_of(w);
    unsigned slot = slot_of(&w->x, turn), number = (unsigned)(upstream - s->known);

    MUST(!me->granted[slot]);
    me->granted[slot] = true;
    upstream->in_flight++;
    s->grants++;
    MUST(t->upstream->max_concurrency == 0 || upstream->in_flight <= t->upstream->max_concurrency);
    MUST(s->ws->now_ms >= *gate_of(w, t));
    check_rate(upstream, t->upstream);
    check_breaker(upstream, t->tier);
    if (!(me->visited & 1u << number))
        upstream->requests[bucket_now()]++;
}

static void ended(struct fake_world *w, const struct turn *turn)
{
    struct shadow_world *me = shadow_of(w);
    unsigned slot = slot_of(&w->x, turn);

    MUST(me->granted[slot]);
    me->granted[slot] = false;
    MUST(upstream_of(turn->target.upstream)->in_flight > 0);
    upstream_of(turn->target.upstream)->in_flight--;
}

enum turn_state __wrap_turns_ask(struct turns *t, struct turn *turn, struct turns_ready *ready,
                                 const struct turn_request *turn_request)
{
    struct fake_world *w = world_of(turn);
    struct shadow_world *me;
    enum turn_state state;

    if (!w)
        return __real_turns_ask(t, turn, ready, turn_request);
    me = shadow_of(w);
    me->asking = true;
    state = __real_turns_ask(t, turn, ready, turn_request);
    me->asking = false;
    s->waits += state == TURN_WAITING;
    s->refusals += state == TURN_REFUSED;
    if (state == TURN_GRANTED)
        granted(w, turn);
    else if (turn_request == &w->x.hedge.turn_request)
        me->paid = 0; /* for a second attempt that is not made */
    return state;
}

static void told(struct fake_worlds *ws, unsigned number)
{
    struct fake_world *w = &ws->worlds[number];
    const struct turn *turn = &w->x.attempt->turn;

    if (s->worlds[number].asking)
        return;
    MUST(turn->state == TURN_GRANTED || turn->state == TURN_REFUSED);
    if (turn->state == TURN_GRANTED)
        granted(w, turn);
}

void __wrap_turns_leave(struct turns *t, struct turn *turn)
{
    struct fake_world *w = world_of(turn);

    if (w && turn->state == TURN_GRANTED)
        ended(w, turn);
    __real_turns_leave(t, turn);
    if (w)
        MUST(turn->state == TURN_NONE);
}

/* What was not even sent is no attempt. */
static bool is_stale(const struct attempt *a)
{
    return a->done && a->transport == TRANSPORT_STALE && !a->fresh;
}

void __wrap_turns_end(struct turns *t, struct turn *turn)
{
    struct fake_world *w = world_of(turn);

    if (w) {
        ended(w, turn);
        shadow_of(w)->starts -= is_stale(&w->x.slots[slot_of(&w->x, turn)]);
    }
    __real_turns_end(t, turn);
}

static bool limits(const struct turn_result *r)
{
    enum reason reason = r->verdict.reason;

    return reason == REASON_RATE_LIMIT ||
           (r->status == 429 && (reason == REASON_OVERLOADED || reason == REASON_UPSTREAM_SAYS_NO ||
                                 reason == REASON_UPSTREAM_SAYS_RETRY));
}

void __wrap_turns_tell(struct turns *t, struct turn *turn, const struct turn_result *r)
{
    struct fake_world *w = world_of(turn);

    if (w && limits(r) && r->hint.source != HINT_NONE) {
        uint64_t *until = gate_of(w, &turn->target), most = w->settings.retry.max_hint_ms;
        uint64_t at = s->ws->now_ms + (r->hint.delay_ms < most ? r->hint.delay_ms : most);

        if (at > *until)
            *until = at;
    }
    __real_turns_tell(t, turn, r);
}

/* --- budgets and attempts -------------------------------------------------------------------------- */

bool __wrap_turns_may_repeat(struct turns *t, const struct upstream *upstream,
                             const struct retry_settings *settings)
{
    struct fake_world *w = world_of(upstream);
    struct shadow_upstream *here;
    unsigned room;
    bool may;

    if (!w)
        return __real_turns_may_repeat(t, upstream, settings);
    here = upstream_of(upstream);
    room = sum(here->requests) * settings->budget_percent / 100 + settings->budget_min * 10;
    may = __real_turns_may_repeat(t, upstream, settings);
    MUST(may == (sum(here->repeats) < room));
    here->repeats[bucket_now()] += may;
    shadow_of(w)->paid += may;
    s->denied += !may;
    return may;
}

void __wrap_turns_charge(struct turns *t, const struct upstream *upstream)
{
    struct fake_world *w = world_of(upstream);

    if (w) {
        upstream_of(upstream)->repeats[bucket_now()]++;
        shadow_of(w)->paid++;
    }
    __real_turns_charge(t, upstream);
}

/* A repeat where it has been before is paid for, unless what led there says nothing against
 * that upstream, or nothing was sent. */
static void check_paid(const struct fake_world *w, struct shadow_world *me, const struct target *t)
{
    unsigned bit = 1u << (upstream_of(t->upstream) - s->known);
    const struct attempt_report *last = w->failures ? &w->reports[w->failures - 1] : NULL;
    bool free = last && ((move_is_free(last->verdict.reason) && last->decision.move != MOVE_STAY) ||
                         last->verdict.reason == REASON_STALE);

    MUST(!(me->visited & bit) || me->paid > 0 || free);
    me->visited |= bit;
    me->paid = 0;
}

static int attempt_start(void *world, struct exchange *x, struct attempt *a,
                         const struct outgoing *o)
{
    struct fake_world *w = world;
    struct shadow_world *me = shadow_of(w);
    const struct target *t = &a->turn.target;
    int rc;

    MUST(me->granted[a == &x->slots[1]]);
    MUST(w->now_ms < x->deadline.at_ms);
    if (!a->fresh) {
        MUST(++me->starts <= w->settings.retry.max_attempts);
        check_paid(w, me, t);
    }
    s->hedges += a != x->attempt;
    rc = under->attempt_start(world, x, a, o);
    MUST(!strcmp(w->start[w->starts - 1].model, s->models[t->tier]));
    return rc;
}

void shadow_event(void *arg, const struct turns_event *e)
{
    struct shadow_upstream *upstream = &s->known[0];
    unsigned known = 0, tier = 0;

    (void)arg;
    if (e->kind == TURNS_DENIED)
        return;
    for (unsigned i = 0; i < s->known_count; i++)
        if (!strcmp(s->upstreams[i].name, e->upstream)) {
            upstream = &s->known[i];
            known++;
        }
    while (tier < SHADOW_TIERS && strcmp(s->models[tier], e->model) != 0)
        tier++;
    MUST(known == 1 && tier < SHADOW_TIERS);
    if (tier == SHADOW_TIERS)
        return;
    if (e->kind == TURNS_BREAKER_OPEN) {
        upstream->down[tier] = true;
    } else if (e->kind == TURNS_BREAKER_CLOSED) {
        upstream->down[tier] = false;
        upstream->probed_ms[tier] = 0;
    } else if (e->kind == TURNS_BREAKER_PROBE) {
        MUST(upstream->down[tier]);
        MUST(upstream->probed_ms[tier] == 0 ||
             s->ws->now_ms - upstream->probed_ms[tier] >= s->open_for_ms);
        upstream->probed_ms[tier] = s->ws->now_ms;
        upstream->probe[tier] = true;
        s->probes++;
    }
}

/* --- what must hold -------------------------------------------------------------------------------- */

void shadow_init(struct shadow *shadow, struct fake_worlds *ws)
{
    memset(shadow, 0, sizeof(*shadow));
    s = shadow;
    s->ws = ws;
    ws->told = told;
}

void shadow_deinit(void)
{
    s = NULL;
}

void shadow_begun(struct shadow *shadow, unsigned number, unsigned client)
{
    struct exchange *x = &shadow->ws->worlds[number].x;

    under = x->ops;
    ops = *under;
    ops.attempt_start = attempt_start;
    x->ops = &ops;
    shadow->worlds[number].client = client;
}

void shadow_check(struct shadow *shadow)
{
    const struct fake_worlds *ws = shadow->ws;
    unsigned waiting = 0, in_flight = 0;

    for (unsigned i = 0; i < ws->count; i++) {
        const struct fake_world *w = &ws->worlds[i];
        const struct exchange *x = &w->x;

        if (!w->turns || x->state != EXCHANGE_QUEUED || !x->placement.waiting)
            continue;
        waiting += x->attempt->turn.state == TURN_WAITING;
        MUST(x->attempt->turn.state == TURN_WAITING || ws->slots[i].next_ms == 0);
        MUST(ws->now_ms <=
             x->placement.queued_since + w->settings.queue.timeout_ms + w->timer_late_ms);
    }
    for (unsigned i = 0; i < shadow->known_count; i++)
        in_flight += shadow->known[i].in_flight;
    MUST(waiting == turns_waiting(ws->turns));
    MUST(waiting == 0 || in_flight > 0 || ws->turns_world.next_ms != TURNS_NEVER);
}

static void see(void *arg, const struct turns_view *v)
{
    *(unsigned *)arg += v->in_flight;
}

void shadow_check_end(struct shadow *shadow)
{
    uint64_t at = 0;
    unsigned in_flight = 0;

    MUST(turns_waiting(shadow->ws->turns) == 0);
    while (turns_each(shadow->ws->turns, &at, see, &in_flight)) {
    }
    MUST(in_flight == 0);
    for (unsigned i = 0; i < shadow->known_count; i++)
        MUST(shadow->known[i].in_flight == 0);
    for (unsigned i = 0; i < shadow->ws->count; i++)
        MUST(!shadow->worlds[i].granted[0] && !shadow->worlds[i].granted[1]);
}
