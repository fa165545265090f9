/* Moves an exchange to what the configuration's files hold by now: other keys, other certificates. */
#include <assert.h>

#include "exchange/exchange_private.h"

/* The number of the same key; of the first one where it is gone; 0: the client's own. */
static unsigned key_by_now(const struct upstream *was, const struct upstream *now, unsigned number)
{
    if (number == 0 || number > was->key_count)
        return 0;
    for (unsigned i = 0; i < now->key_count; i++)
        if (now->keys[i].id == was->keys[number - 1].id)
            return i + 1;
    return 0;
}

static unsigned place_of(const struct plan *plan, const struct upstream *p)
{
    unsigned i = 0;

    while (i < plan->upstream_count && plan->upstreams[i] != p)
        i++;
    assert(i < plan->upstream_count);
    return i;
}

/* What was said of a key that is gone is forgotten. */
static unsigned renew_refs(const struct plan *was, const struct plan *now, struct target_ref *refs,
                           unsigned count)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < count; i++) {
        const struct upstream *before = refs[i].upstream,
                              *p = now->upstreams[place_of(was, before)];
        unsigned number = refs[i].key_number;

        if (number != KEY_ANY && number != 0) {
            number = key_by_now(before, p, number);
            if (number == 0)
                continue;
        }
        refs[kept++] = (struct target_ref){p, number};
    }
    return kept;
}

/* A stream is read on with the same key; where that is gone, with one that has taken its place. */
static void renew_target(const struct plan *was, const struct plan *now, struct target *t)
{
    const struct upstream *before = t->upstream;
    unsigned number = t->key_number;

    t->upstream = now->upstreams[place_of(was, before)];
    if (number > 0) {
        t->key_number = key_by_now(before, t->upstream, number);
        if (t->key_number == 0 && t->upstream->key_count > 0)
            t->key_number = 1;
    }
    t->key = t->key_number ? t->upstream->keys[t->key_number - 1].text : (struct str){NULL, 0};
    if (t->tier > 0) /* a name of the plan's */
        t->model = str_from(now->fallback_models[t->tier - 1]);
    t->own_model = target_own_model(t->upstream, t->model);
}

void renew_targets(struct exchange *x)
{
    struct placement *placement = &x->placement;
    struct plan now;

    if (x->hedge.rival || !x->ops->renew(x->world, x, &now))
        return;
    assert(now.upstream_count == x->plan.upstream_count);
    placement->turn_request.tried_count =
        renew_refs(&x->plan, &now, placement->tried, placement->turn_request.tried_count);
    placement->turn_request.excluded_count =
        renew_refs(&x->plan, &now, placement->excluded, placement->turn_request.excluded_count);
    renew_target(&x->plan, &now, &placement->target);
    x->plan = now;
}

bool renew_finds_key(struct exchange *x)
{
    if (x->new_key || x->hedge.rival || x->kept.good || x->placement.target.key_number == 0)
        return false;
    x->new_key = x->ops->other_key(x->world, x, &x->placement.target);
    return x->new_key;
}
