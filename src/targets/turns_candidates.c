/* The targets that one request considers, in order of preference. */
#include <string.h>

#include "targets/turns_private.h"

struct str turn_request_model(const struct turn_request *turn_request)
{
    if (turn_request->tier == 0)
        return turn_request->model;
    return str_from(turn_request->plan->fallback_models[turn_request->tier - 1]);
}

static bool fits(const struct turn_request *turn_request, const struct upstream *p,
                 unsigned key_number)
{
    if (turn_request->only)
        return turn_request->only->upstream == p && turn_request->only->key_number == key_number;
    return !target_among(turn_request->excluded, turn_request->excluded_count, p, key_number);
}

/* Takes one of the upstreams in `left` (a set of bits, not empty): the first, or by their shares; one
 * without a share serves what no other can. */
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

bool candidate_is_aside(const struct candidate *c, uint64_t now_ms)
{
    return c->target_state && c->target_state->key->aside_until_ms > now_ms;
}

/* Up to `most` choices in all. Where there are more keys than room, those that are set aside are left
 * out as long as there are others. */
static unsigned add_keys(struct turns *t, const struct turn_request *turn_request,
                         const struct upstream *p, uint64_t now_ms, struct candidate *candidates,
                         unsigned n, unsigned most)
{
    unsigned keys = p->key_count ? p->key_count : 1, first = 0;
    unsigned spare = keys > most - n ? keys - (most - n) : 0;

    if (keys > 1) {
        struct upstream_state *s = table_upstream(t, p, now_ms);

        first = s ? s->next_key % keys : 0;
    }
    for (unsigned i = 0; i < keys && n < most; i++) {
        unsigned number = p->key_count ? (first + i) % keys + 1 : 0;

        if (!fits(turn_request, p, number))
            continue;
        candidates[n] = (struct candidate){
            .upstream = p,
            .key_number = number,
            .tried = target_among(turn_request->tried, turn_request->tried_count, p, number),
            .target_state =
                table_target(t, turn_request, p, number, turn_request_model(turn_request), now_ms),
        };
        if (spare > 0 && candidate_is_aside(&candidates[n], now_ms))
            spare--;
        else
            n++;
    }
    return n;
}

/* Keys that are set aside do not count while there are others, but those who wait look again when
 * they do. */
static unsigned leave_aside(struct turns *t, struct candidate *candidates, unsigned n,
                            uint64_t now_ms)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < n; i++)
        kept += !candidate_is_aside(&candidates[i], now_ms);
    if (kept == 0 || kept == n)
        return n;
    kept = 0;
    for (unsigned i = 0; i < n; i++) {
        if (!candidate_is_aside(&candidates[i], now_ms))
            candidates[kept++] = candidates[i];
        else if (t->waiting > 0 && candidates[i].target_state->key->aside_until_ms < t->next_ms)
            t->next_ms = candidates[i].target_state->key->aside_until_ms;
    }
    return kept;
}

static void put_tried_last(struct candidate *candidates, unsigned n)
{
    struct candidate tried[CANDIDATES_MAX];
    unsigned first = 0, last = 0;

    for (unsigned i = 0; i < n; i++) {
        if (candidates[i].tried)
            tried[last++] = candidates[i];
        else
            candidates[first++] = candidates[i];
    }
    if (last > 0)
        memcpy(candidates + first, tried, last * sizeof(*tried));
}

unsigned turn_request_candidates(struct turns *t, const struct turn_request *turn_request,
                                 uint64_t now_ms, struct candidate candidates[CANDIDATES_MAX])
{
    const struct plan *plan = turn_request->plan;
    unsigned n = 0, left = (1u << plan->upstream_count) - 1;
    uint64_t random = turn_request->random;

    /* Each place is drawn anew, so that those who stand in for one that is down share its part. */
    while (left) {
        unsigned i = draw_upstream(plan, left, random);

        left &= ~(1u << i);
        random *= UINT64_C(0x9e3779b97f4a7c15);
        random ^= random >> 32;
        /* Many keys leave a place to each upstream behind theirs. */
        n = add_keys(t, turn_request, plan->upstreams[i], now_ms, candidates, n,
                     CANDIDATES_MAX - (unsigned)__builtin_popcount(left));
    }
    if (n > 1) {
        n = leave_aside(t, candidates, n, now_ms);
        if (turn_request->tried_count > 0)
            put_tried_last(candidates, n);
    }
    return n;
}

/* --- whether one may go --------------------------------------------------------------------------- */

static void hold(struct wait *w, uint64_t at_ms, enum turn_why why)
{
    if (at_ms > w->at_ms)
        *w = (struct wait){at_ms, why};
}

bool upstream_is_full(const struct upstream_state *s)
{
    return s->max_concurrency > 0 && s->in_flight >= s->max_concurrency;
}

/* How long time alone holds it, whatever those do who are under way. */
static struct wait target_wait(struct target_state *state, uint64_t now_ms)
{
    const struct upstream_state *s = state->model_state->upstream;
    struct wait w = {now_ms, TURN_WHY_NONE};

    if (target_is_rated(state))
        hold(&w, rate_next(&s->rate, s->per_minute, now_ms), TURN_WHY_LIMIT);
    if (state->adaptive)
        hold(&w, pace_next(&state->pace, now_ms), TURN_WHY_PACE);
    hold(&w, gate_next(&state->gate, now_ms), TURN_WHY_GATE);
    hold(&w, breaker_next(&state->model_state->breaker, now_ms), TURN_WHY_BREAKER);
    return w;
}

uint64_t target_next(struct target_state *state, uint64_t now_ms, enum turn_why *ret_why)
{
    struct wait w = target_wait(state, now_ms);

    if (upstream_is_full(state->model_state->upstream))
        w = (struct wait){TURNS_NEVER, TURN_WHY_LIMIT};
    *ret_why = w.why;
    return w.at_ms;
}

struct outlook look_ahead(const struct candidate *candidates, unsigned n, uint64_t now_ms)
{
    struct outlook o = {TURN_WHY_NONE, {TURNS_NEVER, TURN_WHY_NONE}, n > 0};

    for (unsigned i = 0; i < n; i++) {
        struct target_state *state = candidates[i].target_state;
        struct wait w = {now_ms, TURN_WHY_NONE};

        if (state)
            w = target_wait(state, now_ms);
        if (!state || breaker_next(&state->model_state->breaker, now_ms) <= now_ms)
            o.down = false;
        if (i > 0 && w.at_ms >= o.at_least.at_ms)
            continue;
        o.at_least = w;
        o.why = state && upstream_is_full(state->model_state->upstream) ? TURN_WHY_LIMIT : w.why;
    }
    return o;
}

bool in_vain(const struct turn_request *turn_request, const struct outlook *o)
{
    if (o->down && turn_request->may_leave)
        return true;
    return o->at_least.at_ms > turn_request->latest_ms ||
           (o->at_least.why == TURN_WHY_GATE && o->at_least.at_ms > turn_request->gate_latest_ms);
}
