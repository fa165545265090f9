/* The targets that one request considers, in order of preference, and whether it may go there. */
#include <string.h>

#include "targets/turns_private.h"

struct str turns_request_model(const struct turn_request *turn_request)
{
    if (turn_request->tier == 0)
        return turn_request->model;
    return str_from(turn_request->plan->fallback_models[turn_request->tier - 1]);
}

static bool fits(const struct turn_request *turn_request, const struct upstream *upstream,
                 unsigned key_number)
{
    const struct target *only = turn_request->only;

    if (only)
        return only->upstream == upstream && only->key_number == key_number;
    return !target_among(turn_request->excluded, turn_request->excluded_count, upstream,
                         key_number);
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

bool turns_candidate_is_aside(const struct candidate *c, uint64_t now_ms)
{
    return c->target_state && c->target_state->key->aside_until_ms > now_ms;
}

/* Up to `most` candidates in all. Where there are more keys than room, those that are set aside are left
 * out as long as there are others. */
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

        if (!fits(turn_request, upstream, number))
            continue;
        *next = (struct candidate){
            .upstream = upstream,
            .key_number = number,
            .tried = target_among(turn_request->tried, turn_request->tried_count, upstream, number),
            .target_state = turns_table_target(t, turn_request, upstream, number, now_ms),
        };
        if (spare > 0 && turns_candidate_is_aside(next, now_ms))
            spare--;
        else
            c->count++;
    }
}

/* Keys that are set aside do not count while there are others. */
static void leave_aside(struct candidates *c, uint64_t now_ms)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < c->count; i++)
        kept += !turns_candidate_is_aside(&c->list[i], now_ms);
    if (kept == 0 || kept == c->count)
        return;
    kept = 0;
    for (unsigned i = 0; i < c->count; i++) {
        if (!turns_candidate_is_aside(&c->list[i], now_ms))
            c->list[kept++] = c->list[i];
        else if (c->list[i].target_state->key->aside_until_ms < c->more_ms)
            c->more_ms = c->list[i].target_state->key->aside_until_ms;
    }
    c->count = kept;
}

static void put_tried_last(struct candidates *c)
{
    struct candidate tried[CANDIDATES_MAX];
    unsigned first = 0, last = 0;

    for (unsigned i = 0; i < c->count; i++) {
        if (c->list[i].tried)
            tried[last++] = c->list[i];
        else
            c->list[first++] = c->list[i];
    }
    if (last > 0)
        memcpy(c->list + first, tried, last * sizeof(*tried));
}

void turns_candidates(struct turns *t, const struct turn_request *turn_request, uint64_t now_ms,
                      struct candidates *ret)
{
    const struct plan *plan = turn_request->plan;
    unsigned left = (1u << plan->upstream_count) - 1;
    uint64_t random = turn_request->random;

    ret->count = 0;
    ret->more_ms = TURNS_NEVER;
    /* Each place is drawn anew, so that those who stand in for one that is down share its part. */
    while (left) {
        unsigned i = draw_upstream(plan, left, random);

        left &= ~(1u << i);
        random *= UINT64_C(0x9e3779b97f4a7c15);
        random ^= random >> 32;
        /* Many keys leave a place to each upstream behind theirs. */
        add_keys(t, turn_request, plan->upstreams[i], now_ms, ret,
                 CANDIDATES_MAX - (unsigned)__builtin_popcount(left));
    }
    if (ret->count < 2)
        return;
    leave_aside(ret, now_ms);
    if (turn_request->tried_count > 0)
        put_tried_last(ret);
}

/* --- whether one may go --------------------------------------------------------------------------- */

static void hold(struct wait *w, uint64_t at_ms, enum turn_why why)
{
    if (at_ms > w->at_ms)
        *w = (struct wait){at_ms, why};
}

bool turns_upstream_is_full(const struct upstream_state *s)
{
    return s->max_concurrency > 0 && s->in_flight >= s->max_concurrency;
}

/* How long time alone holds it, whatever those do who are under way. */
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
