/* Compiles a configuration into the structures that exchanges and transfers use. */
#include "worker/worker_config.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/hash.h"
#include "http/credentials.h"

/* Upstreams of different configurations never share an id, so a handle set up for one is never used
 * for another. */
static atomic_uint_fast64_t next_upstream_id = 1;

/* Upstreams with the same peer may share connections. */
static uint64_t peer_of(const struct fetch_upstream *upstream)
{
    uint64_t id = hash_join(upstream->ca_version, upstream->http);
    const struct str parts[] = {str_from(upstream->origin),  str_from(upstream->unix_socket),
                                str_from(upstream->ca_file), upstream->client_cert,
                                upstream->client_key,        str_from(upstream->proxy)};

    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        id = hash_join(id, hash_text(parts[i]));
    return id;
}

static int compile_upstream(struct worker_upstream *ret, const struct config_upstream *u,
                            uint64_t generation)
{
    ret->fetch = (struct fetch_upstream){
        .id = atomic_fetch_add(&next_upstream_id, 1),
        .origin = u->origin,
        .unix_socket = u->unix_socket,
        .ca_file = u->ca_file,
        .ca_path = u->ca && bundle_path(u->ca) ? bundle_path(u->ca) : "",
        .ca_version = u->ca ? bundle_version(u->ca) : 0,
        .client_cert = u->client_cert ? secret_text(u->client_cert) : STR(""),
        .client_key = u->client_key ? secret_text(u->client_key) : STR(""),
        .proxy = u->proxy_full ? secret_text(u->proxy_full).p : u->proxy,
        .http = u->http_version == HTTP_VERSION_AUTO  ? FETCH_HTTP_AUTO
                : u->http_version == HTTP_VERSION_1_1 ? FETCH_HTTP_1_1
                                                      : FETCH_HTTP_2,
        .connection_lifetime_ms = u->connection_lifetime_ms,
    };
    ret->fetch.peer_id = peer_of(&ret->fetch);
    ret->headers = calloc(u->headers.count + 1, sizeof(*ret->headers));
    ret->keys = calloc(u->key_count + 1, sizeof(*ret->keys));
    ret->models = calloc(u->models.count + 1, sizeof(*ret->models));
    if (!ret->headers || !ret->keys || !ret->models)
        return -ENOMEM;
    for (unsigned i = 0; i < u->headers.count; i++)
        ret->headers[i] = (struct target_header){.name = u->headers.items[i].name,
                                                 .value = u->headers.items[i].value};
    for (unsigned i = 0; i < u->key_count; i++) {
        struct str text = secret_text(u->keys[i]);

        ret->keys[i] = (struct target_key){.text = text, .id = hash_text(text)};
    }
    for (unsigned i = 0; i < u->models.count; i++)
        ret->models[i] = (struct target_model){.asked = str_from(u->models.items[i].name),
                                               .own = u->models.items[i].value};
    ret->upstream = (struct upstream){
        .name = u->name,
        .id = hash_join(hash_text(str_from(u->name)), hash_text(str_from(u->url))),
        .generation = generation,
        .host = u->host,
        .base_path = u->base_path,
        .query = u->query,
        .auth_header = u->auth_header,
        .keys = ret->keys,
        .key_count = u->key_count,
        .headers = ret->headers,
        .header_count = u->headers.count,
        .models = ret->models,
        .model_count = u->models.count,
        .idempotency_header = u->idempotency_header,
        .max_concurrency = u->max_concurrency,
        .requests_per_minute = u->requests_per_minute,
        .adaptive_pacing = u->adaptive_pacing,
        .key_cooldown_ms = u->key_cooldown_ms,
        .worker_upstream = ret,
    };
    return 0;
}

/* --- this daemon's name ----------------------------------------------------------------------- */

static char via[32];
static pthread_once_t named = PTHREAD_ONCE_INIT;

#define VIA_VERSION "1.1 "

/* Random: two daemons in a row are not a loop, even on one machine with the same settings. */
static void make_name(void)
{
    uint32_t n = 0;

    if (getrandom(&n, sizeof(n), 0) != (ssize_t)sizeof(n))
        n = (uint32_t)uv_hrtime() ^ (uint32_t)getpid() << 16;
    snprintf(via, sizeof(via), VIA_VERSION "retryd-%08x", n);
}

static const char *own_via(void)
{
    pthread_once(&named, make_name);
    return via;
}

bool worker_config_is_loop(const struct headers *h)
{
    struct str name = str_from(own_via() + strlen(VIA_VERSION));

    for (unsigned i = 0; i < h->count; i++)
        if (str_ieq(headers_name(h, i), STR("via")) && str_ifind(headers_value(h, i), name) >= 0)
            return true;
    return false;
}

/* --- the whole configuration ------------------------------------------------------------------ */

/* Builds a route's list of upstreams. */
static const struct upstream **compile_route(const struct worker_config *c,
                                             const struct config_route *r)
{
    const struct upstream **upstreams = calloc(r->upstream_count, sizeof(*upstreams));

    for (unsigned i = 0; upstreams && i < r->upstream_count; i++)
        upstreams[i] = &c->upstreams[r->upstreams[i] - c->parsed->upstreams].upstream;
    return upstreams;
}

static struct string_view_list view(const struct string_list *l)
{
    return (struct string_view_list){(const char *const *)l->items, l->count};
}

/* Finds the counters of each upstream and each client. */
static int find_counters(struct worker_config *c, struct metrics *metrics)
{
    const struct tokens *tokens = c->parsed->server.client_tokens;
    unsigned n = tokens ? tokens_count(tokens) : 0;

    for (unsigned i = 0; i < c->parsed->upstream_count; i++)
        c->upstreams[i].metrics = metrics_upstream(metrics, c->parsed->upstreams[i].name);
    c->clients = calloc(n + 1, sizeof(struct metrics_client *));
    for (unsigned i = 0; c->clients && i < n; i++)
        c->clients[i] = metrics_client(metrics, tokens_name(tokens, i));
    return c->clients ? 0 : -ENOMEM;
}

struct worker_config *worker_config_new(struct config *config, struct metrics *metrics)
{
    struct worker_config *c = calloc(1, sizeof(*c));
    int rc = 0;

    if (!c)
        return NULL;
    c->refs = 1;
    c->parsed = config_ref(config);
    c->hosts = view(&config->server.allowed_hosts);
    c->origins = view(&config->server.allowed_origins);
    c->upstreams = calloc(config->upstream_count, sizeof(*c->upstreams));
    c->routes = calloc(config->route_count, sizeof(*c->routes));
    if (!c->upstreams || !c->routes)
        rc = -ENOMEM;
    for (unsigned i = 0; rc == 0 && i < config->upstream_count; i++)
        rc = compile_upstream(&c->upstreams[i], &config->upstreams[i], config->serial);
    for (unsigned i = 0; rc == 0 && i < config->route_count; i++) {
        c->routes[i] = compile_route(c, &config->routes[i]);
        rc = c->routes[i] ? 0 : -ENOMEM;
    }
    if (rc == 0)
        rc = find_counters(c, metrics);
    if (rc < 0) {
        worker_config_unref(c);
        return NULL;
    }
    return c;
}

struct worker_config *worker_config_ref(struct worker_config *c)
{
    c->refs++;
    return c;
}

void worker_config_unref(struct worker_config *c)
{
    if (!c || --c->refs > 0)
        return;
    for (unsigned i = 0; c->upstreams && i < c->parsed->upstream_count; i++) {
        free(c->upstreams[i].headers);
        free(c->upstreams[i].keys);
        free(c->upstreams[i].models);
    }
    for (unsigned i = 0; c->routes && i < c->parsed->route_count; i++)
        free(c->routes[i]);
    free(c->upstreams);
    free(c->routes);
    free(c->clients);
    config_unref(c->parsed);
    free(c);
}

int worker_config_plan(const struct worker_config *c, struct str path, struct str model,
                       bool hidden, struct plan *ret_plan)
{
    const struct config_route *route = config_route_for(c->parsed, path, model);
    struct str version;

    if (config_says_twice(path, &version))
        return -ENOENT;
    if (hidden && config_routes_ask_model(c->parsed, path, route))
        return -ENODATA;
    if (!route)
        return -ENOENT;
    *ret_plan = (struct plan){
        .route = route->name,
        .base = str_from(route->base),
        .settings = &route->settings,
        .upstreams = c->routes[route - c->parsed->routes],
        .weights = route->weights,
        .upstream_count = route->upstream_count,
        .fallback_models = (const char *const *)route->fallback_models.items,
        .fallback_count = route->fallback_models.count,
        .fallback_on = route->fallback_on,
        .via = own_via(),
    };
    return 0;
}
