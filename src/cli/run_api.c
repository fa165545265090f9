/* Adds settings to the configuration of `retryd run`, and variables to the environment of its
 * child. */
#include "cli/run_private.h"

#include <stdio.h>
#include <string.h>

#define NAMES 3
#define SETTINGS_MAX 40
#define BASE_MAX 512

struct api {
    const char *upstream; /* its name if it is added; a route of that name with "run-" before it */
    const char *url;
    const char *base;             /* where the private retryd serves it */
    const char *probe;            /* a path that a client asks for */
    const char *addresses[NAMES]; /* variables with the base URL */
    const char *keys[NAMES];      /* variables with the key */
    const char *auth_header[NAMES];
};

static const struct api apis[] = {
    {"openai",
     "https://api.openai.com/v1",
     "/v1",
     "/v1/chat/completions",
     {"OPENAI_BASE_URL", "OPENAI_API_BASE"},
     {"OPENAI_API_KEY"},
     {"Authorization"}},
    {"anthropic",
     "https://api.anthropic.com",
     "/anthropic",
     "/anthropic/v1/messages",
     {"ANTHROPIC_BASE_URL", "ANTHROPIC_API_BASE"},
     {"ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"},
     {"x-api-key", "Authorization"}},
    {"google",
     "https://generativelanguage.googleapis.com",
     "/google",
     "/google/v1beta/models/m:generateContent",
     {"GOOGLE_GEMINI_BASE_URL"},
     {"GEMINI_API_KEY", "GOOGLE_API_KEY"},
     {"x-goog-api-key", "x-goog-api-key"}},
};
#define APIS (sizeof(apis) / sizeof(apis[0]))

/* --- settings --------------------------------------------------------------------------------- */

struct settings {
    struct config_setting items[SETTINGS_MAX];
    unsigned count;
    char route_names[APIS][32];
    char proxies[APIS][512];
};

static void add(struct settings *s, const char *kind, const char *name, const char *key,
                const char *value)
{
    if (s->count < SETTINGS_MAX)
        s->items[s->count++] = (struct config_setting){kind, name, key, value};
}

/* Requests end with the child, so that only those of its own children are waited for. The tokens of
 * client_keys_file are for other machines, and the child has none. */
static void add_private(struct settings *s)
{
    add(s, "server", "", "listen", "127.0.0.1:0");
    add(s, "server", "", "allowed_hosts", "localhost, 127.0.0.1");
    add(s, "server", "", "client_keys_file", "");
    add(s, "server", "", "drain_linger", "0");
    add(s, "server", "", "drain_timeout", "5s");
    add(s, "admin", "", "listen", "off");
}

/* Returns the path that clients of the API append to its base URL. */
static struct str suffix_of(const struct api *a)
{
    return str_from(a->probe + strlen(a->base));
}

/* Whether an upstream is known to serve the API. Another one must not get the API's keys. */
static bool is_of(const struct config_upstream *u, const struct api *a)
{
    const char *host = strstr(a->url, "://") + 3;

    if (!strcmp(u->name, a->upstream) ||
        str_ieq(str_from(u->host), (struct str){host, strcspn(host, "/")}))
        return true;
    for (unsigned k = 0; k < NAMES && a->keys[k]; k++)
        if (!strcmp(u->api_key_env, a->keys[k]))
            return true;
    return false;
}

/* Whether the upstream serves the API; the first one counts as OpenAI's unless it is known to serve
 * another API. */
static bool stands_for(const struct config *c, const struct config_upstream *u, const struct api *a)
{
    bool other = u != c->upstreams || a != &apis[0];

    for (size_t i = 1; !other && i < APIS; i++)
        other = is_of(u, &apis[i]);
    return !other || is_of(u, a);
}

/* Writes the base path with which clients of the API reach the upstream through the route, so that
 * the upstream gets the API's own path. Returns false if there is none. */
static bool base_through(const struct config *c, const struct config_route *r, const struct api *a,
                         char base[BASE_MAX])
{
    const char *host = strstr(a->url, "://") + 3, *own = r->upstreams[0]->base_path;
    struct str suffix = suffix_of(a), rest;
    char path[BASE_MAX];
    int n;

    /* "/v1" + "/chat/completions" is the API's path; an upstream with "/v1" gets the rest. */
    n = snprintf(path, sizeof(path), "%s%.*s", strchr(host, '/') ? strchr(host, '/') : "",
                 (int)suffix.n, suffix.p);
    rest = str_starts(str_from(path), str_from(own)) && path[strlen(own)] == '/'
               ? (struct str){path + strlen(own), (size_t)n - strlen(own)}
               : suffix;
    n = snprintf(base, BASE_MAX, "%s%.*s", r->base, (int)rest.n, rest.p);
    if (n >= BASE_MAX || !str_ends(str_from(base), suffix) ||
        config_route_for(c, str_from(base), STR("")) != r)
        return false;
    base[(size_t)n - suffix.n] = '\0';
    return true;
}

/* Returns the route that clients of the API take, and the path of their base URL; NULL if the
 * configuration has none for it. */
static const struct config_route *route_and_base(const struct config *c, const struct api *a,
                                                 char base[BASE_MAX])
{
    const struct config_route *r = config_route_for(c, str_from(a->probe), STR(""));

    snprintf(base, BASE_MAX, "%s", a->base);
    if (r && str_starts(str_from(r->base), str_from(a->base)))
        return r;
    for (unsigned i = 0; r && i < c->route_count; i++)
        if (stands_for(c, c->routes[i].upstreams[0], a) && base_through(c, &c->routes[i], a, base))
            return &c->routes[i];
    return NULL;
}

static const struct config_route *route_of(const struct config *c, const struct api *a)
{
    char base[BASE_MAX];

    return route_and_base(c, a, base);
}

static const struct config_upstream *upstream_of(const struct config *c, const struct api *a)
{
    const struct config_route *r = route_of(c, a);

    return r && r->upstream_count > 0 ? r->upstreams[0] : NULL;
}

/* Returns the base URL that the environment has for the API, with the variable's name; else
 * NULL. */
static const char *address_in(const struct run_env *e, const struct api *a, const char **ret_name)
{
    for (unsigned i = 0; i < NAMES && a->addresses[i]; i++) {
        const char *value = run_env_get(e, a->addresses[i]);

        *ret_name = a->addresses[i];
        if (value)
            return value;
    }
    return NULL;
}

/* An added upstream is reached as the child would have reached it: through the proxy of the
 * environment, and with its authorities. */
static void add_address(struct settings *s, const struct api *a, const char *url,
                        const struct run_env *e)
{
    bool tls = str_istarts(str_from(url), STR("https:"));
    const char *host = strstr(url, "://"), *proxy, *ca = run_env_get(e, "SSL_CERT_FILE");
    char name[256], *place = s->proxies[a - apis];

    host = host ? host + 3 : "";
    snprintf(name, sizeof(name), "%.*s", (int)strcspn(host, host[0] == '[' ? "/?" : ":/?"), host);
    proxy = tls ? run_env_either(e, "https_proxy", "HTTPS_PROXY")
                : run_env_either(e, "http_proxy", "HTTP_PROXY");
    if (!proxy)
        proxy = run_env_either(e, "all_proxy", "ALL_PROXY");
    if (proxy && host[0] && !run_env_no_proxy(e, name)) {
        snprintf(place, sizeof(s->proxies[0]), "%s%s", strstr(proxy, "://") ? "" : "http://",
                 proxy);
        add(s, "upstream", a->upstream, "proxy", place);
    }
    if (tls && ca)
        add(s, "upstream", a->upstream, "ca_file", ca);
}

static void add_upstream(struct settings *s, const struct api *a, const struct run_env *e)
{
    const char *variable, *url = address_in(e, a, &variable);

    add(s, "upstream", a->upstream, "url", url ? url : a->url);
    add_address(s, a, url ? url : a->url, e);
}

/* Adds the upstream and the route for the API that the configuration lacks. */
static void add_api(struct settings *s, const struct config *c, const struct api *a,
                    const struct run_env *e)
{
    char *name = s->route_names[a - apis];

    if (a == &apis[0] ? config_has_section(c, "upstream", NULL)
                      : config_route_for(c, str_from(a->probe), STR("")) != NULL)
        return;
    if (!config_has_section(c, "upstream", a->upstream))
        add_upstream(s, a, e);
    if (a == &apis[0]) /* the first upstream has a route anyway */
        return;
    snprintf(name, sizeof(s->route_names[0]), "run-%s", a->upstream);
    add(s, "route", name, "base", a->base);
    add(s, "route", name, "upstreams", a->upstream);
}

/* Returns the number of the key that the environment has for the API, or -1. */
static int key_in(const struct run_env *e, const struct api *a)
{
    for (int k = 0; k < NAMES && a->keys[k]; k++)
        if (run_env_get(e, a->keys[k]))
            return k;
    return -1;
}

/* The keys that the environment has become those of the upstreams that have none. */
static void add_keys(struct settings *s, const struct config *c, const struct run_env *e)
{
    for (size_t i = 0; i < APIS; i++) {
        const struct config_route *r = route_of(c, &apis[i]);
        int k = key_in(e, &apis[i]);

        for (unsigned u = 0; r && k >= 0 && u < r->upstream_count; u++) {
            if (r->upstreams[u]->key_count > 0)
                continue;
            add(s, "upstream", r->upstreams[u]->name, "api_key_env", apis[i].keys[k]);
            add(s, "upstream", r->upstreams[u]->name, "auth_header", apis[i].auth_header[k]);
        }
    }
}

/* --- loading ---------------------------------------------------------------------------------- */

/* Remarks that the environment has another base URL than the configuration's upstream, because the
 * user should know that the configuration prevails. */
static void remark_address(const struct config *c, const struct api *a, const struct run_env *e,
                           struct buf *remarks)
{
    const char *variable, *url = address_in(e, a, &variable);
    const struct config_upstream *u = upstream_of(c, a);
    struct str given = str_from(url ? url : "");

    while (given.n > 0 && given.p[given.n - 1] == '/')
        given.n--;
    if (url && u && !str_ieq(given, str_from(u->url)))
        buf_printf(remarks,
                   "retryd: %s is set, but %s has an upstream for this API: requests go to %s\n",
                   variable, c->path ? c->path : "the environment", u->host);
}

/* Loads the configuration with the added settings. If that fails, says which variables an upstream
 * comes from. */
static struct config *load_added(const char *path, const struct settings *s,
                                 const struct run_env *e, struct buf *problems)
{
    struct config *c = config_load_with(path, s->items, s->count, problems, NULL);
    const char *variable;

    for (size_t i = 0; !c && i < APIS; i++)
        if (address_in(e, &apis[i], &variable))
            buf_printf(problems, "retryd: the url of [upstream %s] is that of %s\n",
                       apis[i].upstream, variable);
    return c;
}

struct config *run_api_load(const char *path, const struct run_env *env, bool hide_key,
                            struct buf *problems, struct buf *remarks)
{
    struct settings s = {.count = 0};
    struct config *first, *c;

    add_private(&s);
    first = config_load_with(path, s.items, s.count, problems, NULL);
    if (!first)
        return NULL;
    for (size_t i = 0; i < APIS; i++)
        add_api(&s, first, &apis[i], env);
    config_unref(first);
    c = load_added(path, &s, env, problems);
    if (c && hide_key) {
        first = c; /* it owns the names in the settings */
        add_keys(&s, first, env);
        c = load_added(path, &s, env, problems);
        config_unref(first);
    }
    for (size_t i = 0; c && i < APIS; i++)
        remark_address(c, &apis[i], env, remarks);
    return c;
}

/* --- the child's environment ------------------------------------------------------------------ */

void run_api_lead(const struct config *c, const char *address, struct run_env *env)
{
    char url[BASE_MAX + 160], base[BASE_MAX];

    for (size_t i = 0; i < APIS; i++) {
        if (!route_and_base(c, &apis[i], base))
            continue;
        snprintf(url, sizeof(url), "http://%s%s", address, base);
        for (unsigned k = 0; k < NAMES && apis[i].addresses[k]; k++)
            run_env_set(env, apis[i].addresses[k], url);
    }
    run_env_exempt(env, "127.0.0.1");
}

void run_api_tell_others(const struct config *c, const char *address, const struct run_env *env)
{
    for (size_t i = 0; i < APIS; i++) {
        const struct config_route *r = config_route_for(c, str_from(apis[i].probe), STR(""));
        const char *variable = apis[i].addresses[0], *now = run_env_get(env, variable);

        if (!r || route_of(c, &apis[i]) || (now && strstr(now, address)))
            continue;
        fprintf(stderr,
                "retryd: %s stays as it was, and its requests do not go through retryd: [route %s] "
                "takes %s, and no route is known to lead to this API; --env %s=/PATH sets it\n",
                variable, r->name, apis[i].base, variable);
    }
}

/* Removes the keys of an API that retryd does not serve. */
static void remove_keys(const struct api *a, const char *token, struct run_env *env)
{
    for (unsigned k = 0; k < NAMES && a->keys[k]; k++) {
        const char *value = run_env_get(env, a->keys[k]);

        if (!value || !strcmp(value, token))
            continue;
        run_env_remove(env, a->keys[k], false, NULL);
        fprintf(stderr,
                "retryd: --hide-key: the command does not get %s: the configuration has no route "
                "that is known to lead to this API\n",
                a->keys[k]);
    }
}

static void remove_settings(struct run_env *env)
{
    struct buf names;

    buf_init(&names, 16 * 1024);
    run_env_remove(env, "RETRYD_", true, &names);
    if (names.len)
        fprintf(stderr, "retryd: --hide-key: the command does not get %.*s: settings of retryd\n",
                (int)names.len, names.p);
    buf_deinit(&names);
}

unsigned run_api_hide(const struct config *c, const char *token, struct run_env *env)
{
    unsigned hidden = 0;

    for (unsigned i = 0; i < c->upstream_count; i++) {
        const struct config_upstream *u = &c->upstreams[i];

        if (u->api_key_env[0] && run_env_get(env, u->api_key_env))
            run_env_set(env, u->api_key_env, token);
    }
    for (size_t i = 0; i < APIS; i++) {
        const struct config_upstream *u = upstream_of(c, &apis[i]);

        if (!u || u->key_count == 0) {
            remove_keys(&apis[i], token, env);
            continue;
        }
        hidden++;
        /* The first one is always set, because the SDKs send nothing without a key. */
        for (unsigned k = 0; k < NAMES && apis[i].keys[k]; k++)
            if (k == 0 || run_env_get(env, apis[i].keys[k]))
                run_env_set(env, apis[i].keys[k], token);
    }
    remove_settings(env);
    return hidden;
}
