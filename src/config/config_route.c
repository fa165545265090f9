/* Routes: which upstreams one names, and which route a request takes. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/config_private.h"
#include "http/dialect.h"
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

/* --- requests that none takes -------------------------------------------------------------------- */

#define SHOWN_MAX 120 /* characters of a client's word in a sentence */

/* "/v1", "/v1beta": what APIs have in front of their paths; the length, 0 where `s` begins with none. */
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
    char shown[SHOWN_MAX];
    enum dialect d = dialect_of(path);

    str_shown(shown, sizeof(shown), path);
    snprintf(ret, size,
             "retryd: %.*s stands twice in %s: this client adds it by itself; leave it out of the "
             "client's base URL%s",
             (int)version.n, version.p, shown,
             d == DIALECT_MESSAGES ? " (ANTHROPIC_BASE_URL)"
             : d == DIALECT_GEMINI ? " (GOOGLE_GEMINI_BASE_URL)"
                                   : "");
}

/* The base URL of a client ends in this route's base, but for the version that it adds by itself. False:
 * it is for another API. */
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
        bool is_below = below(c->routes[i].base, path, &rest);

        has_base |= is_below;
        has_path |= is_below && str_glob(c->routes[i].path, rest);
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
