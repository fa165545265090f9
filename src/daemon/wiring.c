/* Turns a configuration into what exchanges and transfers are given. */
#include "daemon/wiring.h"

#include <errno.h>
#include <stdlib.h>

/* Links of different configurations never share an id: a handle set up for one is not taken for
 * the other. */
static atomic_uint_fast64_t next_link_id = 1;

static int wire_up(struct wire *wire, const struct config_upstream *u)
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
    wire->headers = calloc(u->header_count ? u->header_count : 1, sizeof(*wire->headers));
    if (!wire->headers)
        return -ENOMEM;
    for (unsigned i = 0; i < u->header_count; i++)
        wire->headers[i] =
            (struct target_header){.name = u->headers[i].name, .value = u->headers[i].value};
    wire->target = (struct target){
        .name = u->name,
        .host = u->host,
        .base_path = u->base_path,
        .auth_header = u->auth_header,
        .headers = wire->headers,
        .header_count = u->header_count,
        .idempotency_header = u->idempotency_header,
        .upstream = wire,
    };
    if (u->key_count > 0)
        wire->target.key = secret_text(u->keys[0]);
    return 0;
}

static struct string_view_list view(const struct string_list *l)
{
    return (struct string_view_list){(const char *const *)l->items, l->count};
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
    for (unsigned i = 0; w->wires && i < config->upstream_count; i++) {
        if (wire_up(&w->wires[i], &config->upstreams[i]) < 0) {
            wiring_unref(w);
            return NULL;
        }
    }
    if (!w->wires) {
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
    for (unsigned i = 0; w->wires && i < w->config->upstream_count; i++)
        free(w->wires[i].headers);
    free(w->wires);
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
        .target = w->wires[route->upstreams[0] - w->config->upstreams].target,
    };
    return 0;
}
