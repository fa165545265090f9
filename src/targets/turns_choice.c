/* The targets that one request considers, in order of preference. */
#include <string.h>

#include "targets/turns_private.h"

struct str wish_model(const struct turn_wish *wish)
{
    if (wish->tier == 0)
        return wish->model;
    return str_from(wish->plan->fallback_models[wish->tier - 1]);
}

static bool fits(const struct turn_wish *wish, const struct provider *p, unsigned key_number)
{
    if (wish->only)
        return wish->only->provider == p && wish->only->key_number == key_number;
    return !target_among(wish->excluded, wish->excluded_count, p, key_number);
}

/* Takes one of the upstreams in `left` (a set of bits, not empty): the first, or by their shares; one
 * without a share serves what no other can. */
static unsigned draw_provider(const struct plan *plan, unsigned left, uint64_t random)
{
    uint64_t total = 0, at;
    unsigned first = plan->provider_count;

    for (unsigned i = plan->provider_count; i-- > 0;) {
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

bool choice_is_aside(const struct choice *c, uint64_t now_ms)
{
    return c->target_state && c->target_state->key->aside_until_ms > now_ms;
}

/* Up to `most` choices in all. Where there are more keys than room, those that are set aside are left
 * out as long as there are others. */
static unsigned add_keys(struct turns *t, const struct turn_wish *wish, const struct provider *p,
                         uint64_t now_ms, struct choice *choices, unsigned n, unsigned most)
{
    unsigned keys = p->key_count ? p->key_count : 1, first = 0;
    unsigned spare = keys > most - n ? keys - (most - n) : 0;

    if (keys > 1) {
        struct upstream_state *s = table_upstream(t, p, now_ms);

        first = s ? s->next_key % keys : 0;
    }
    for (unsigned i = 0; i < keys && n < most; i++) {
        unsigned number = p->key_count ? (first + i) % keys + 1 : 0;

        if (!fits(wish, p, number))
            continue;
        choices[n] = (struct choice){
            .provider = p,
            .key_number = number,
            .tried = target_among(wish->tried, wish->tried_count, p, number),
            .target_state = table_target(t, wish, p, number, wish_model(wish), now_ms),
        };
        if (spare > 0 && choice_is_aside(&choices[n], now_ms))
            spare--;
        else
            n++;
    }
    return n;
}

/* Keys that are set aside do not count while there are others, but those who wait look again when
 * they do. */
static unsigned leave_aside(struct turns *t, struct choice *choices, unsigned n, uint64_t now_ms)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < n; i++)
        kept += !choice_is_aside(&choices[i], now_ms);
    if (kept == 0 || kept == n)
        return n;
    kept = 0;
    for (unsigned i = 0; i < n; i++) {
        if (!choice_is_aside(&choices[i], now_ms))
            choices[kept++] = choices[i];
        else if (t->waiting > 0 && choices[i].target_state->key->aside_until_ms < t->next_ms)
            t->next_ms = choices[i].target_state->key->aside_until_ms;
    }
    return kept;
}

static void put_tried_last(struct choice *choices, unsigned n)
{
    struct choice tried[CHOICES_MAX];
    unsigned first = 0, last = 0;

    for (unsigned i = 0; i < n; i++) {
        if (choices[i].tried)
            tried[last++] = choices[i];
        else
            choices[first++] = choices[i];
    }
    if (last > 0)
        memcpy(choices + first, tried, last * sizeof(*tried));
}

unsigned wish_choices(struct turns *t, const struct turn_wish *wish, uint64_t now_ms,
                      struct choice choices[CHOICES_MAX])
{
    const struct plan *plan = wish->plan;
    unsigned n = 0, left = (1u << plan->provider_count) - 1;
    uint64_t random = wish->random;

    /* Each place is drawn anew, so that those who stand in for one that is down share its part. */
    while (left) {
        unsigned i = draw_provider(plan, left, random);

        left &= ~(1u << i);
        random *= UINT64_C(0x9e3779b97f4a7c15);
        random ^= random >> 32;
        /* Many keys leave a place to each upstream behind theirs. */
        n = add_keys(t, wish, plan->providers[i], now_ms, choices, n,
                     CHOICES_MAX - (unsigned)__builtin_popcount(left));
    }
    if (n > 1) {
        n = leave_aside(t, choices, n, now_ms);
        if (wish->tried_count > 0)
            put_tried_last(choices, n);
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

struct outlook look_ahead(const struct choice *choices, unsigned n, uint64_t now_ms)
{
    struct outlook o = {TURN_WHY_NONE, {TURNS_NEVER, TURN_WHY_NONE}, n > 0};

    for (unsigned i = 0; i < n; i++) {
        struct target_state *state = choices[i].target_state;
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

bool in_vain(const struct turn_wish *wish, const struct outlook *o)
{
    if (o->down && wish->may_leave)
        return true;
    return o->at_least.at_ms > wish->latest_ms ||
           (o->at_least.why == TURN_WHY_GATE && o->at_least.at_ms > wish->gate_latest_ms);
}
