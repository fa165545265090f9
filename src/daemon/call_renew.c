/* Requests under way take keys and certificates that have changed. */
#include "daemon/worker_private.h"

static struct call *call_of(struct exchange *x)
{
    return x->tag;
}

/* Only one that was renewed has the same upstreams and routes at the same places. */
bool call_renew(void *world, struct exchange *x, struct plan *ret_plan)
{
    struct worker *w = world;
    struct call *c = call_of(x);

    if (c->wiring == w->wiring || !config_same_source(c->wiring->config, w->wiring->config) ||
        wiring_plan(w->wiring, http_request_path(&x->request.http), str_from(x->request.model),
                    x->request.model_hidden, ret_plan) < 0)
        return false;
    wiring_unref(c->wiring_before);
    c->wiring_before = c->wiring;
    c->wiring = wiring_ref(w->wiring);
    x->limits.spool_dir = w->wiring->config->server.spool_dir;
    return true;
}

static bool has_key(const struct upstream *p, uint64_t id)
{
    for (unsigned i = 0; i < p->key_count; i++)
        if (p->keys[i].id == id)
            return true;
    return false;
}

/* Whether that upstream has a key now that it had not when the request took its plan. */
static bool has_other_key(const struct worker *w, const struct upstream *was, size_t number)
{
    const struct upstream *now = &w->wiring->wires[number].upstream;

    for (unsigned i = 0; i < now->key_count; i++)
        if (!has_key(was, now->keys[i].id))
            return true;
    return false;
}

/* The main thread may not have seen the change yet: this worker goes ahead. */
bool call_other_key(void *world, struct exchange *x, const struct target *t)
{
    struct worker *w = world;
    struct call *c = call_of(x);
    const struct wire *wire = t->upstream->wire;
    size_t number = (size_t)(wire - c->wiring->wires);
    struct config *config = w->wiring->config, *now;

    if (!config_same_source(c->wiring->config, config))
        return false;
    if (has_other_key(w, t->upstream, number))
        return true;
    if (!config_key_file_differs(config, &config->upstreams[number]))
        return false;
    now = config_renew(config);
    if (!now)
        return false;
    worker_adopt(w, now);
    config_unref(now);
    atomic_store(&w->saw_change, true);
    w->on_change(w->arg);
    return has_other_key(w, t->upstream, number);
}
