/* Where an attempt goes: an upstream, a key, a model. */
#ifndef RETRYD_EXCHANGE_TARGET_H
#define RETRYD_EXCHANGE_TARGET_H

#include "base/str.h"

struct target_header {
    const char *name;
    const char *value;
};

/* All pointers belong to the configuration snapshot that the request holds. */
struct target {
    const char *name;        /* the upstream's, for logs and x-retryd-target */
    const char *host;        /* for Proxy-Status */
    const char *base_path;   /* stands for the route's base; "" or "/v1" */
    const char *auth_header; /* set when `key` is */
    struct str key;          /* empty: the client's own credentials pass through */
    const struct target_header *headers;
    unsigned header_count;
    const char *idempotency_header; /* "" where the upstream has none */
    const void *upstream;           /* the daemon's, opaque here */
};

/* What the configuration says about one request. */
struct plan {
    const char *route;
    struct str base; /* the route's, a prefix of the request's path */
    const struct route_settings *settings;
    struct target target;
};

#endif
