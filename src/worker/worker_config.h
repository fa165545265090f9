/* A configuration compiled for a worker: the form that its exchanges and transfers use. */
#ifndef RETRYD_WORKER_WORKER_CONFIG_H
#define RETRYD_WORKER_WORKER_CONFIG_H

#include "config/config.h"
#include "edge/fetch.h"
#include "edge/frontend_check.h"
#include "targets/target.h"
#include "worker/metrics.h"

/* One configured upstream: how to reach it, and its part of the plan. */
struct worker_upstream {
    struct fetch_upstream fetch;
    struct upstream upstream;
    struct target_header *headers;
    struct target_key *keys;
    struct target_model *models;
    struct metrics_upstream *metrics; /* the worker's counters for it */
};

/* Each request in progress holds a reference; only the worker's thread counts them. */
struct worker_config {
    unsigned refs;
    struct config *parsed;
    struct worker_upstream *upstreams; /* one per upstream, in the configuration's order */
    const struct upstream ***routes;   /* each route's upstreams */
    struct string_view_list hosts, origins;
    struct metrics_client **clients; /* one per client token */
};

/* References the configuration, and counts into `metrics`. NULL if out of memory. */
struct worker_config *worker_config_new(struct config *config, struct metrics *metrics);
struct worker_config *worker_config_ref(struct worker_config *c);
void worker_config_unref(struct worker_config *c);

/* Whether this daemon has sent the incoming request itself. */
bool worker_config_is_loop(const struct headers *h);

/* Makes the plan for a request. Returns 0; -ENOENT if no route matches (config_no_route says why);
 * -ENODATA if the model is `hidden` and the routes depend on it. */
int worker_config_plan(const struct worker_config *c, struct str path, struct str model,
                       bool hidden, struct plan *ret_plan);

#endif
