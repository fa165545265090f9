/* Turns a configuration into the structures that exchanges and transfers use. */
#include "worker/wiring.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/hash.h"
#include "http/tokens.h"

/* Links of different configurations never share an id, so a handle set up for one is never used for
 * another. */
static atomic_uint_fast64_t next_link_id = 1;

/* Links with the same peer may share connections. */
static uint64_t peer_of(const struct fetch_link *l)
{
    uint64_t id = hash_join(l->ca_version, l->http);
    const struct str parts[] = {str_from(l->origin),  str_from(l->unix_socket),
                                str_from(l->ca_file), l->client_cert,
                                l->client_key,        str_from(l->proxy)};

    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        id = hash_join(id, hash_text(parts[i]));
    return id;
}

static int wire_up(struct wire *wire, const struct config_upstream *u, uint64_t generation)
{
    wire->link = (struct fetch_link){
        .id = atomic_fetch_add(&next_link_id, 1),
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
    wire->link.peer_id = peer_of(&wire->link);
    wire->headers = calloc(u->headers.count + 1, sizeof(*wire->headers));
    wire->keys = calloc(u->key_count + 1, sizeof(*wire->keys));
    wire->models = calloc(u->models.count + 1, sizeof(*wire->models));
    if (!wire->headers || !wire->keys || !wire->models)
        return -ENOMEM;
    for (unsigned i = 0; i < u->headers.count; i++)
        wire->headers[i] = (struct target_header){.name = u->headers.items[i].name,
                                                  .value = u->headers.items[i].value};
    for (unsigned i = 0; i < u->key_count; i++) {
        struct str text = secret_text(u->keys[i]);

        wire->keys[i] = (struct target_key){.text = text, .id = hash_text(text)};
    }
    for (unsigned i = 0; i < u->models.count; i++)
        wire->models[i] = (struct target_model){.asked = str_from(u->models.items[i].name),
                                                .own = u->models.items[i].value};
    wire->upstream = (struct upstream){
        .name = u->name,
        .id = hash_join(hash_text(str_from(u->name)), hash_text(str_from(u->url))),
        .generation = generation,
        .host = u->host,
        .base_path = u->base_path,
        .query = u->query,
        .auth_header = u->auth_header,
        .keys = wire->keys,
        .key_count = u->key_count,
        .headers = wire->headers,
        .header_count = u->headers.count,
        .models = wire->models,
        .model_count = u->models.count,
        .idempotency_header = u->idempotency_header,
        .max_concurrency = u->max_concurrency,
        .requests_per_minute = u->requests_per_minute,
        .adaptive_pacing = u->adaptive_pacing,
        .key_cooldown_ms = u->key_cooldown_ms,
        .wire = wire,
    };
    return 0;
}

/* --- this daemon's name ----------------------------------------------------------------------- */

static char own_via[32];
static pthread_once_t named = PTHREAD_ONCE_INIT;

#define VIA_VERSION "1.1 "

/* Random: two daemons in a row are not a loop, even on one machine with the same settings. */
static void make_name(void)
{
    uint32_t n = 0;

    if (getrandom(&n, sizeof(n), 0) != (ssize_t)sizeof(n))
        n = (uint32_t)uv_hrtime() ^ (uint32_t)getpid() << 16;
    snprintf(own_via, sizeof(own_via), VIA_VERSION "retryd-%08x", n);
}

static const char *wiring_via(void)
{
    pthread_once(&named, make_name);
    return own_via;
}

bool wiring_is_loop(const struct headers *h)
{
    struct str name = str_from(wiring_via() + strlen(VIA_VERSION));

    for (unsigned i = 0; i < h->count; i++)
        if (str_ieq(headers_name(h, i), STR("via")) && str_ifind(headers_value(h, i), name) >= 0)
            return true;
    return false;
}

/* --- wires ------------------------------------------------------------------------------------ */

/* Builds a route's list of upstreams. */
static const struct upstream **route_up(const struct wiring *w, const struct config_route *r)
{
    const struct upstream **upstreams = calloc(r->upstream_count, sizeof(*upstreams));

    for (unsigned i = 0; upstreams && i < r->upstream_count; i++)
        upstreams[i] = &w->wires[r->upstreams[i] - w->config->upstreams].upstream;
    return upstreams;
}

static struct string_view_list view(const struct string_list *l)
{
    return (struct string_view_list){(const char *const *)l->items, l->count};
}

/* Finds the counters of each upstream and each client. */
static int count_up(struct wiring *w, struct metrics *metrics)
{
    const struct tokens *tokens = w->config->server.client_tokens;
    unsigned n = tokens ? tokens_count(tokens) : 0;

    for (unsigned i = 0; i < w->config->upstream_count; i++)
        w->wires[i].metrics = metrics_upstream(metrics, w->config->upstreams[i].name);
    w->clients = calloc(n + 1, sizeof(struct metrics_client *));
    for (unsigned i = 0; w->clients && i < n; i++)
        w->clients[i] = metrics_client(metrics, tokens_name(tokens, i));
    return w->clients ? 0 : -ENOMEM;
}

struct wiring *wiring_new(struct config *config, struct metrics *metrics)
{
    struct wiring *w = calloc(1, sizeof(*w));
    int rc = 0;

    if (!w)
        return NULL;
    w->refs = 1;
    w->config = config_ref(config);
    w->hosts = view(&config->server.allowed_hosts);
    w->origins = view(&config->server.allowed_origins);
    w->wires = calloc(config->upstream_count, sizeof(*w->wires));
    w->routes = calloc(config->route_count, sizeof(*w->routes));
    if (!w->wires || !w->routes)
        rc = -ENOMEM;
    for (unsigned i = 0; rc == 0 && i < config->upstream_count; i++)
        rc = wire_up(&w->wires[i], &config->upstreams[i], config->serial);
    for (unsigned i = 0; rc == 0 && i < config->route_count; i++) {
        w->routes[i] = route_up(w, &config->routes[i]);
        rc = w->routes[i] ? 0 : -ENOMEM;
    }
    if (rc == 0)
        rc = count_up(w, metrics);
    if (rc < 0) {
        wiring_unref(w);
        return NULL;
    }
    return w;
}

struct wiring *wiring_ref(struct wiring *w)
{
    w->refs++;
    return w;
}

void wiring_unref(struct wiring *w)
{
    if (!w || --w->refs > 0)
        return;
    for (unsigned i = 0; w->wires && i < w->config->upstream_count; i++) {
        free(w->wires[i].headers);
        free(w->wires[i].keys);
        free(w->wires[i].models);
    }
    for (unsigned i = 0; w->routes && i < w->config->route_count; i++)
        free(w->routes[i]);
    free(w->wires);
    free(w->routes);
    free(w->clients);
    config_unref(w->config);
    free(w);
}

int wiring_plan(const struct wiring *w, struct str path, struct str model, bool hidden,
                struct plan *ret_plan)
{
    const struct config_route *route = config_route_for(w->config, path, model);
    struct str version;

    if (config_says_twice(path, &version))
        return -ENOENT;
    if (hidden && config_routes_ask_model(w->config, path, route))
        return -ENODATA;
    if (!route)
        return -ENOENT;
    *ret_plan = (struct plan){
        .route = route->name,
        .base = str_from(route->base),
        .settings = &route->settings,
        .upstreams = w->routes[route - w->config->routes],
        .weights = route->weights,
        .upstream_count = route->upstream_count,
        .fallback_models = (const char *const *)route->fallback_models.items,
        .fallback_count = route->fallback_models.count,
        .fallback_on = route->fallback_on,
        .via = wiring_via(),
    };
    return 0;
}
