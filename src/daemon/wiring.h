/* A configuration as one worker uses it: each upstream as exchanges and transfers know it. */
#ifndef RETRYD_DAEMON_WIRING_H
#define RETRYD_DAEMON_WIRING_H

#include "config/config.h"
#include "edge/fetch.h"
#include "edge/frontend_check.h"
#include "targets/target.h"

struct wire {
    struct fetch_link link;
    struct upstream upstream;
    struct target_header *headers;
    struct target_key *keys;
    struct target_model *models;
};

/* Counted by its worker alone: each request in progress holds one reference. */
struct wiring {
    unsigned refs;
    struct config *config;
    struct wire *wires;              /* one per upstream, in the configuration's order */
    const struct upstream ***routes; /* each route's upstreams */
    struct string_view_list hosts, origins;
};

struct wiring *wiring_new(struct config *config); /* references it; NULL when out of memory */
struct wiring *wiring_ref(struct wiring *w);
void wiring_unref(struct wiring *w);

/* Whether a request that comes in has gone out from here before. */
bool wiring_is_loop(const struct headers *h);

/* The plan for a request: 0; -ENOENT where no route fits (config_no_route tells why); -ENODATA where the model is `hidden`, and the
 * routes ask for it. */
int wiring_plan(const struct wiring *w, struct str path, struct str model, bool hidden,
                struct plan *ret_plan);

#endif
