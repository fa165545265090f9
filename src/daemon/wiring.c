/* Turns a configuration into what exchanges and transfers are given. */
#include "daemon/wiring.h"

#include <errno.h>
#include <stdlib.h>

#include "base/hash.h"

/* Links of different configurations never share an id: a handle set up for one is not taken for
 * the other. */
static atomic_uint_fast64_t next_link_id = 1;

static int wire_up(struct wire *wire, const struct config_upstream *u, uint64_t generation)
{
    wire->link = (struct upstream_link){
        .id = atomic_fetch_add(&next_link_id, 1),
        .origin = u->origin,
        .unix_socket = u->unix_socket,
        .ca_file = u->ca_file,
        .proxy = u->proxy,
        .http = u->http_version == HTTP_VERSION_AUTO  ? UPSTREAM_HTTP_AUTO
                : u->http_version == HTTP_VERSION_1_1 ? UPSTREAM_HTTP_1_1
                                                      : UPSTREAM_HTTP_2,
    };
    wire->headers = calloc(u->header_count + 1, sizeof(*wire->headers));
    wire->keys = calloc(u->key_count + 1, sizeof(*wire->keys));
    wire->models = calloc(u->model_count + 1, sizeof(*wire->models));
    if (!wire->headers || !wire->keys || !wire->models)
        return -ENOMEM;
    for (unsigned i = 0; i < u->header_count; i++)
        wire->headers[i] =
            (struct target_header){.name = u->headers[i].name, .value = u->headers[i].value};
    for (unsigned i = 0; i < u->key_count; i++) {
        struct str text = secret_text(u->keys[i]);

        wire->keys[i] = (struct target_key){.text = text, .id = hash_text(text)};
    }
    for (unsigned i = 0; i < u->model_count; i++)
        wire->models[i] =
            (struct target_model){.asked = str_from(u->models[i].name), .own = u->models[i].value};
    wire->provider = (struct provider){
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
        .header_count = u->header_count,
        .models = wire->models,
        .model_count = u->model_count,
        .idempotency_header = u->idempotency_header,
        .max_concurrency = u->max_concurrency,
        .requests_per_minute = u->requests_per_minute,
        .adaptive_pacing = u->adaptive_pacing,
        .key_cooldown_ms = u->key_cooldown_ms,
        .upstream = wire,
    };
    return 0;
}

/* A route's upstreams, as its plans have them. */
static const struct provider **route_up(const struct wiring *w, const struct config_route *r)
{
    const struct provider **providers = calloc(r->upstream_count, sizeof(*providers));

    for (unsigned i = 0; providers && i < r->upstream_count; i++)
        providers[i] = &w->wires[r->upstreams[i] - w->config->upstreams].provider;
    return providers;
}

static struct string_view_list view(const struct string_list *l)
{
    return (struct string_view_list){(const char *const *)l->items, l->count};
}

static int wire_all(struct wiring *w)
{
    const struct config *c = w->config;
    int rc = 0;

    for (unsigned i = 0; rc == 0 && i < c->upstream_count; i++)
        rc = wire_up(&w->wires[i], &c->upstreams[i], c->serial);
    for (unsigned i = 0; rc == 0 && i < c->route_count; i++) {
        w->routes[i] = route_up(w, &c->routes[i]);
        rc = w->routes[i] ? 0 : -ENOMEM;
    }
    return rc;
}

struct wiring *wiring_new(struct config *config)
{
    struct wiring *w = calloc(1, sizeof(*w));

    if (!w)
        return NULL;
    w->refs = 1;
    w->config = config_ref(config);
    w->hosts = view(&config->server.allowed_hosts);
    w->origins = view(&config->server.allowed_origins);
    w->wires = calloc(config->upstream_count, sizeof(*w->wires));
    w->routes = calloc(config->route_count, sizeof(*w->routes));
    if (!w->wires || !w->routes || wire_all(w) < 0) {
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
    config_unref(w->config);
    free(w);
}

int wiring_plan(const struct wiring *w, struct str path, struct str model, struct plan *ret_plan)
{
    const struct config_route *route = config_route_for(w->config, path, model);

    if (!route)
        return -ENOENT;
    *ret_plan = (struct plan){
        .route = route->name,
        .base = str_from(route->base),
        .settings = &route->settings,
        .providers = w->routes[route - w->config->routes],
        .weights = route->weights,
        .provider_count = route->upstream_count,
        .fallback_models = (const char *const *)route->fallback_models.items,
        .fallback_count = route->fallback_models.count,
        .fallback_on = route->fallback_on,
    };
    return 0;
}
