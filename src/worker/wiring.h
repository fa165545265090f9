/* A configuration in the form that a worker's exchanges and transfers use. */
#ifndef RETRYD_WORKER_WIRING_H
#define RETRYD_WORKER_WIRING_H

#include "config/config.h"
#include "edge/fetch.h"
#include "edge/frontend_check.h"
#include "targets/target.h"
#include "worker/metrics.h"

struct wire {
    struct fetch_link link;
    struct upstream upstream;
    struct target_header *headers;
    struct target_key *keys;
    struct target_model *models;
    struct metrics_upstream *metrics; /* of its worker */
};

/* Each request in progress holds a reference; only its worker counts them. */
struct wiring {
    unsigned refs;
    struct config *config;
    struct wire *wires;              /* one per upstream, in the configuration's order */
    const struct upstream ***routes; /* each route's upstreams */
    struct string_view_list hosts, origins;
    struct metrics_client **clients; /* one per client token */
};

/* References the configuration, and counts into `metrics`. NULL when out of memory. */
struct wiring *wiring_new(struct config *config, struct metrics *metrics);
struct wiring *wiring_ref(struct wiring *w);
void wiring_unref(struct wiring *w);

/* Whether this daemon has sent the incoming request itself. */
bool wiring_is_loop(const struct headers *h);

/* Makes the plan for a request. 0; -ENOENT: no route matches (config_no_route says why); -ENODATA:
 * the model is `hidden` and the routes depend on it. */
int wiring_plan(const struct wiring *w, struct str path, struct str model, bool hidden,
                struct plan *ret_plan);

#endif
