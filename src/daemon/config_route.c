/* Routes: which upstreams one names, and which route a request takes. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/config_table.h"
#include "policy/move.h"

static const struct config_upstream *find_upstream(const struct config *c, const char *name)
{
    for (unsigned i = 0; i < c->upstream_count; i++) {
        if (!strcmp(c->upstreams[i].name, name))
            return &c->upstreams[i];
    }
    return NULL;
}

static void list_upstreams(const struct config *c, struct buf *out)
{
    for (unsigned i = 0; i < c->upstream_count; i++)
        buf_printf(out, "%s%s", i ? ", " : "", c->upstreams[i].name);
}

static void no_such_upstream(const struct config *c, const char *name,
                             const struct config_origin *o, struct config_report *r)
{
    char quoted[CONFIG_QUOTED_MAX];
    struct buf known;

    buf_init(&known, 512);
    list_upstreams(c, &known);
    config_problem(r, FAULT_UPSTREAM, config_origin_line(o, "route", "upstreams"),
                   "[%s] upstreams: found %s; expected names of [upstream] sections (%.*s%s)",
                   o->title, config_quote(str_from(name), quoted), (int)known.len,
                   known.p ? known.p : "", known.failed ? ", ..." : "");
    buf_deinit(&known);
}

static void fill_weights(struct config_route *route, unsigned upstreams,
                         const struct config_origin *o, struct config_report *r)
{
    const struct string_list *texts = &route->weight_texts;
    unsigned line = config_origin_line(o, "route", "weights");
    uint64_t weight = 0, sum = 0;

    if (texts->count == 0)
        return;
    route->weights = calloc(texts->count, sizeof *route->weights);
    if (!route->weights) {
        config_no_memory(r);
        return;
    }
    for (unsigned i = 0; i < texts->count; i++) {
        (void)str_to_u64(str_from(texts->items[i]), &weight);
        route->weights[i] = (unsigned)weight;
        sum += weight;
    }
    if (texts->count != upstreams)
        config_problem(r, FAULT_VALUE, line,
                       "[%s] weights: found %u of them; expected one for each upstream (%u)",
                       o->title, texts->count, upstreams);
    else if (sum == 0)
        config_problem(r, FAULT_VALUE, line,
                       "[%s] weights: found only 0; expected at least one above 0", o->title);
    else if (upstreams == 1)
        config_note(r, line, "[%s] weights: have no effect with one upstream", o->title);
}

/* The default of fallback_on says nothing: a dump has it in every route. */
static void note_no_fallback(const struct config_route *route, const struct config_origin *o,
                             struct config_report *r)
{
    unsigned on = config_key_line(o, "route", "fallback_on");
    unsigned attempts = config_key_line(o, "retry", "attempts_per_tier");

    if (route->fallback_models.count > 0)
        return;
    if (on && route->fallback_on != FALLBACK_ON_ALL)
        config_note(r, on, "[%s] fallback_on: has no effect without fallback_models", o->title);
    if (attempts)
        config_note(r, attempts,
                    "[%s] retry.attempts_per_tier: has no effect without fallback_models",
                    o->title);
}

/* A client's key is one provider's: others should not see it. */
static void note_client_keys(const struct config_route *route, const struct config_origin *o,
                             struct config_report *r)
{
    const struct config_upstream *first = NULL;

    for (unsigned i = 0; i < route->upstream_count; i++) {
        const struct config_upstream *u = route->upstreams[i];

        assert(u);
        if (u->key_count > 0)
            continue;
        if (!first)
            first = u;
        if (strcmp(first->host, u->host) == 0)
            continue;
        config_note(
            r, config_origin_line(o, "route", "upstreams"),
            "[%s] upstreams: %s and %s have no key of their own: the client's key is sent to "
            "both %s and %s",
            o->title, first->name, u->name, first->host, u->host);
        return;
    }
}

void config_finish_route(const struct config *c, struct config_route *route,
                         const struct config_origin *o, struct config_report *r)
{
    const struct string_list *names = &route->upstream_names;
    unsigned n = names->count ? names->count : 1;

    route->upstreams = calloc(n, sizeof(*route->upstreams));
    if (!route->upstreams) {
        config_no_memory(r);
        return;
    }
    if (names->count == 0)
        route->upstreams[route->upstream_count++] = &c->upstreams[0];
    for (unsigned i = 0; i < names->count; i++) {
        const struct config_upstream *u = find_upstream(c, names->items[i]);

        if (u)
            route->upstreams[route->upstream_count++] = u;
        else
            no_such_upstream(c, names->items[i], o, r);
    }
    if (names->count > CONFIG_UPSTREAMS_MAX)
        config_problem(r, FAULT_VALUE, config_origin_line(o, "route", "upstreams"),
                       "[%s] upstreams: found %u of them; expected at most %d", o->title,
                       names->count, CONFIG_UPSTREAMS_MAX);
    fill_weights(route, n, o, r);
    note_no_fallback(route, o, r);
    note_client_keys(route, o, r);
}

/* What follows the base, which ends where a segment does: /v1 is a base of /v1/chat, not of /v10. */
static bool below(const char *base, struct str path, struct str *ret_rest)
{
    size_t n = strlen(base);

    if (!str_starts(path, (struct str){base, n}))
        return false;
    if (path.n > n && path.p[n] != '/')
        return false;
    *ret_rest = (struct str){path.p + n, path.n - n};
    return true;
}

const struct config_route *config_route_for(const struct config *c, struct str path,
                                            struct str model)
{
    for (unsigned i = 0; i < c->route_count; i++) {
        const struct config_route *route = &c->routes[i];
        struct str rest;

        if (below(route->base, path, &rest) && str_glob(route->path, rest) &&
            str_glob(route->model, model))
            return route;
    }
    return NULL;
}

bool config_routes_ask_model(const struct config *c, struct str path,
                             const struct config_route *route)
{
    for (unsigned i = 0; i < c->route_count && &c->routes[i] != route; i++) {
        struct str rest;

        if (below(c->routes[i].base, path, &rest) && str_glob(c->routes[i].path, rest))
            return true;
    }
    return false;
}
