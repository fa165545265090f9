/* Routes: the upstreams of a route, and the route of a request. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/config_private.h"
#include "http/dialect.h"
#include "policy/settings.h"

static const struct config_upstream *find_upstream(const struct config *c, const char *name)
{
    for (unsigned i = 0; i < c->upstream_count; i++) {
        if (!strcmp(c->upstreams[i].name, name))
            return &c->upstreams[i];
    }
    return NULL;
}

static void no_such_upstream(const struct config *c, const char *name,
                             const struct config_origin *o)
{
    char quoted[CONFIG_QUOTED_MAX];
    struct buf known;

    buf_init(&known, 512);
    for (unsigned i = 0; i < c->upstream_count; i++)
        buf_printf(&known, "%s%s", i ? ", " : "", c->upstreams[i].name);
    config_problem(o->report, FAULT_UPSTREAM, config_place_of(o, "route", "upstreams"),
                   "found %s; expected names of [upstream] sections (%.*s%s)",
                   config_quote(str_from(name), quoted), (int)known.len, known.p ? known.p : "",
                   known.failed ? ", ..." : "");
    buf_deinit(&known);
}

static void fill_upstreams(const struct config *c, struct config_route *route,
                           const struct config_origin *o)
{
    const struct string_list *names = &route->upstream_names;

    if (names->count == 0)
        route->upstreams[route->upstream_count++] = &c->upstreams[0];
    for (unsigned i = 0; i < names->count; i++) {
        const struct config_upstream *u = find_upstream(c, names->items[i]);

        if (u)
            route->upstreams[route->upstream_count++] = u;
        else
            no_such_upstream(c, names->items[i], o);
    }
    if (names->count > CONFIG_UPSTREAMS_MAX)
        config_problem(o->report, FAULT_VALUE, config_place_of(o, "route", "upstreams"),
                       "found %u of them; expected at most %d", names->count, CONFIG_UPSTREAMS_MAX);
}

static void fill_weights(struct config_route *route, unsigned upstreams,
                         const struct config_origin *o)
{
    struct config_place place = config_place_of(o, "route", "weights");
    const struct string_list *texts = &route->weight_texts;
    uint64_t weight = 0, sum = 0;

    if (texts->count == 0)
        return;
    route->weights = calloc(texts->count, sizeof *route->weights);
    if (!route->weights) {
        config_no_memory(o->report);
        return;
    }
    for (unsigned i = 0; i < texts->count; i++) {
        (void)str_to_u64(str_from(texts->items[i]), &weight);
        route->weights[i] = (unsigned)weight;
        sum += weight;
    }
    if (texts->count != upstreams)
        config_problem(o->report, FAULT_VALUE, place,
                       "found %u of them; expected one for each upstream (%u)", texts->count,
                       upstreams);
    else if (sum == 0)
        config_problem(o->report, FAULT_VALUE, place,
                       "found only 0; expected at least one above 0");
    else if (upstreams == 1)
        config_note(o->report, place, "have no effect with one upstream");
}

/* The default of fallback_on is not reported, because a dump writes it for every route. */
static void note_no_fallback(const struct config_route *route, const struct config_origin *o)
{
    static const char nothing[] = "has no effect without fallback_models";

    if (route->fallback_models.count > 0)
        return;
    if (config_key_line(o, "route", "fallback_on") && route->fallback_on != FALLBACK_ON_ALL)
        config_note(o->report, config_place_of(o, "route", "fallback_on"), nothing);
    if (config_key_line(o, "retry", "attempts_per_tier"))
        config_note(o->report, config_place_of(o, "retry", "attempts_per_tier"), nothing);
}

/* A client's key is for one provider, and no other one should see it. */
static void note_client_keys(const struct config *c, const struct config_route *route,
                             const struct config_origin *o)
{
    const struct config_upstream *first = NULL;

    /* With tokens, no upstream sees the clients' credentials. */
    for (unsigned i = 0; !c->server.client_keys_file[0] && i < route->upstream_count; i++) {
        const struct config_upstream *u = route->upstreams[i];

        assert(u);
        if (u->key_count > 0)
            continue;
        if (!first)
            first = u;
        if (strcmp(first->host, u->host) == 0)
            continue;
        config_note(o->report, config_place_of(o, "route", "upstreams"),
                    "%s and %s have no key of their own: the client's key is sent to both %s and "
                    "%s",
                    first->name, u->name, first->host, u->host);
        return;
    }
}

void config_finish_route(const struct config *c, struct config_route *route,
                         const struct config_origin *o)
{
    unsigned n = route->upstream_names.count ? route->upstream_names.count : 1;

    route->upstreams = calloc(n, sizeof(*route->upstreams));
    if (!route->upstreams) {
        config_no_memory(o->report);
        return;
    }
    fill_upstreams(c, route, o);
    fill_weights(route, n, o);
    note_no_fallback(route, o);
    note_client_keys(c, route, o);
}

/* --- the route of a request ------------------------------------------------------------------- */

/* Whether a path is below a base, which ends at the end of a segment: /v1/chat is below /v1, and
 * /v10 is not. */
static bool is_below(const char *base, struct str path, struct str *ret_rest)
{
    size_t n = strlen(base);

    if (!str_starts(path, (struct str){base, n}) || (path.n > n && path.p[n] != '/'))
        return false;
    *ret_rest = str_after(path, n);
    return true;
}

static bool takes_path(const struct config_route *route, struct str path)
{
    struct str rest;

    return is_below(route->base, path, &rest) && str_glob(route->path, rest);
}

const struct config_route *config_route_for(const struct config *c, struct str path,
                                            struct str model)
{
    for (unsigned i = 0; i < c->route_count; i++) {
        if (takes_path(&c->routes[i], path) && str_glob(c->routes[i].model, model))
            return &c->routes[i];
    }
    return NULL;
}

bool config_routes_ask_model(const struct config *c, struct str path,
                             const struct config_route *route)
{
    for (unsigned i = 0; i < c->route_count && &c->routes[i] != route; i++) {
        if (takes_path(&c->routes[i], path))
            return true;
    }
    return false;
}

/* --- requests without a route ----------------------------------------------------------------- */

#define SHOWN_MAX 120 /* characters of a client's text in a sentence */

/* Returns the length of the version that `s` begins with ("/v1", "/v1beta"); 0 if it has none. */
static size_t version_at(struct str s)
{
    const char *end;

    if (s.n < 3 || s.p[0] != '/' || s.p[1] != 'v' || s.p[2] < '0' || s.p[2] > '9')
        return 0;
    end = memchr(s.p + 1, '/', s.n - 1);
    return end ? (size_t)(end - s.p) : s.n;
}

bool config_says_twice(struct str path, struct str *ret_version)
{
    for (size_t i = 0; i < path.n; i++) {
        struct str rest = {path.p + i, path.n - i};
        size_t n = version_at(rest);

        if (n == 0 || rest.n <= 2 * n || rest.p[2 * n] != '/' || memcmp(rest.p, rest.p + n, n) != 0)
            continue;
        *ret_version = (struct str){rest.p, n};
        return dialect_generates(dialect_of(path), path);
    }
    return false;
}

static void tell_twice(struct str path, struct str version, char *ret, size_t size)
{
    enum dialect d = dialect_of(path);
    char shown[SHOWN_MAX];

    str_shown(shown, sizeof(shown), path);
    snprintf(ret, size,
             "retryd: %.*s occurs twice in %s: this client adds it by itself; remove it from the "
             "client's base URL%s",
             (int)version.n, version.p, shown,
             d == DIALECT_MESSAGES ? " (ANTHROPIC_BASE_URL)"
             : d == DIALECT_GEMINI ? " (GOOGLE_GEMINI_BASE_URL)"
                                   : "");
}

/* Finds the end of a client's base URL for this route: the route's base, without the version if
 * clients of the path add it themselves. Returns false if the route is for another API. */
static bool client_base(const struct config_route *route, struct str path, struct str *ret)
{
    enum dialect d = dialect_of(path);
    struct str base = str_from(route->base), last;
    const char *slash = base.n ? memrchr(base.p, '/', base.n) : NULL;

    *ret = base;
    if ((d != DIALECT_MESSAGES && d != DIALECT_GEMINI) || !slash)
        return true;
    last = (struct str){slash, base.n - (size_t)(slash - base.p)};
    if (version_at(last) == 0)
        return true;
    ret->n -= last.n;
    return str_find(path, last) != NULL;
}

static void tell_bases(const struct config *c, struct str path, char *ret, size_t size)
{
    struct str seen[8], base;
    unsigned count = 0;
    char shown[SHOWN_MAX];
    size_t n;

    str_shown(shown, sizeof(shown), path);
    n = (size_t)snprintf(ret, size, "retryd: no route serves %s", shown);
    for (unsigned i = 0; i < c->route_count && count < 8 && n < size; i++) {
        bool again = false;

        if (!client_base(&c->routes[i], path, &base))
            continue;
        for (unsigned k = 0; k < count; k++)
            again |= str_eq(seen[k], base);
        if (again)
            continue;
        seen[count] = base;
        n += (size_t)snprintf(ret + n, size - n, "%s%.*s",
                              count++ ? " or " : "; the client's base URL should end in ",
                              base.n ? (int)base.n : 8, base.n ? base.p : "the port");
    }
    if (count == 0 && n < size)
        snprintf(ret + n, size - n, "; it needs a [route] of its own");
}

void config_no_route(const struct config *c, struct str path, struct str model, char *ret,
                     size_t size)
{
    bool has_base = false, has_path = false;
    char shown[SHOWN_MAX], name[SHOWN_MAX];
    struct str rest, version;

    if (config_says_twice(path, &version)) {
        tell_twice(path, version, ret, size);
        return;
    }
    for (unsigned i = 0; i < c->route_count; i++) {
        has_base |= is_below(c->routes[i].base, path, &rest);
        has_path |= takes_path(&c->routes[i], path);
    }
    if (!has_base) {
        tell_bases(c, path, ret, size);
        return;
    }
    str_shown(shown, sizeof(shown), path);
    str_shown(name, sizeof(name), model);
    if (!has_path)
        snprintf(ret, size, "retryd: no route serves %s; see path in the [route] sections", shown);
    else
        snprintf(ret, size, "retryd: no route serves %s %s%s%s; see model in the [route] sections",
                 shown, model.n ? "for the model \"" : "without a model", name,
                 model.n ? "\"" : "");
}
