/* The targets of attempts: upstreams, their keys, and the models requested there. */
#ifndef RETRYD_TARGETS_TARGET_H
#define RETRYD_TARGETS_TARGET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"
#include "policy/settings.h"

#define UPSTREAMS_MAX 16 /* upstreams of one route */
#define KEYS_MAX 256     /* keys of one upstream */
/* Bytes of a key: tokens of OpenID Connect have up to several KiB. */
#define TARGET_KEY_MAX (16 * 1024)

struct target_header {
    const char *name;
    const char *value;
};

struct target_key {
    struct str text;
    uint64_t id; /* its fingerprint (base/hash.h), under which its state is kept */
};

struct target_model {
    struct str asked; /* the clients' name for it */
    const char *own;  /* the upstream's name for it */
};

/* An upstream of the configuration. All pointers belong to the snapshot that the request holds. */
struct upstream {
    const char *name;      /* for logs and x-retryd-target */
    uint64_t id;           /* of name and origin: the same before and after a reload */
    uint64_t generation;   /* of its configuration; a later configuration has a larger one */
    const char *host;      /* for Proxy-Status */
    const char *base_path; /* replaces the route's base; "" or "/v1"; "{model}" in it is replaced */
    const char *query;     /* added to each request's: "api-version=2024-10-21"; "" for none */
    const char *auth_header; /* carries the key */
    const struct target_key *keys;
    unsigned key_count; /* 0: the client's own credentials pass through */
    const struct target_header *headers;
    unsigned header_count;
    const struct target_model *models;
    unsigned model_count;
    const char *idempotency_header; /* "" if the upstream has none */
    unsigned max_concurrency;       /* 0: no limit */
    unsigned requests_per_minute;   /* 0: no limit */
    bool adaptive_pacing;
    uint64_t key_cooldown_ms; /* a key that is out of quota or rejected is not used for this long */
    const void *worker_upstream; /* the worker's, opaque here */
};

/* The target of one attempt; `upstream` is NULL before it has one. */
struct target {
    const struct upstream *upstream;
    struct str key;       /* empty: the client's own credentials pass through */
    unsigned key_number;  /* from 1 on; 0: the client's own */
    unsigned tier;        /* 0: the model that was asked for; n: the route's n-th fallback model */
    struct str model;     /* the clients' name; in tier 0 the request's, which may be "" */
    struct str own_model; /* the upstream's name */
};

/* A target of one tier, in short. KEY_ANY: all keys of that upstream. */
#define KEY_ANY UINT32_MAX
struct target_ref {
    const struct upstream *upstream;
    unsigned key_number;
};

/* The configuration as it applies to one request. */
struct plan {
    const char *route;
    struct str base; /* the route's, a prefix of the request's path */
    const struct route_settings *settings;
    const struct upstream *const *upstreams; /* the route's upstreams */
    const unsigned *weights; /* their shares; NULL: in order, the first healthy one */
    unsigned upstream_count; /* 1 to CONFIG_UPSTREAMS_MAX */
    const char *const *fallback_models;
    unsigned fallback_count;
    unsigned fallback_on; /* enum fallback_on */
    const char *via;      /* this daemon's value for the Via header; NULL: none */
};

/* Returns the upstream's name for the model that clients call `model`. */
static inline struct str target_own_model(const struct upstream *p, struct str model)
{
    for (unsigned i = 0; i < p->model_count; i++)
        if (str_eq(p->models[i].asked, model))
            return str_from(p->models[i].own);
    return model;
}

static inline bool target_among(const struct target_ref *refs, unsigned count,
                                const struct upstream *p, unsigned key_number)
{
    for (unsigned i = 0; i < count; i++)
        if (refs[i].upstream == p &&
            (refs[i].key_number == key_number || refs[i].key_number == KEY_ANY))
            return true;
    return false;
}

/* Returns the bit of an upstream in sets of the plan's upstreams; 0 if it is none of them. */
static inline unsigned plan_bit(const struct plan *plan, const struct upstream *p)
{
    for (unsigned i = 0; i < plan->upstream_count; i++)
        if (plan->upstreams[i] == p)
            return 1u << i;
    return 0;
}

#endif
