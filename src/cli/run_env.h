/* A copy of the environment for a child, to be changed before the child starts. */
#ifndef RETRYD_CLI_RUN_ENV_H
#define RETRYD_CLI_RUN_ENV_H

#include <stdbool.h>

#include "base/buf.h"

struct run_env {
    char **items; /* "NAME=value", and NULL at the end, for exec */
    unsigned count;
    bool failed; /* out of memory at any time */
};

/* Copies the environment of this process. */
void run_env_init(struct run_env *e);
void run_env_deinit(struct run_env *e); /* overwrites the values: they may be keys */

/* Returns a value, or NULL if the variable is not set or empty. */
const char *run_env_get(const struct run_env *e, const char *name);
void run_env_set(struct run_env *e, const char *name, const char *value);

/* Removes the variable of that name, or with `prefix` all whose names begin with it. `ret_names`
 * (may be NULL) gets the removed names, separated by commas. */
void run_env_remove(struct run_env *e, const char *name, bool prefix, struct buf *ret_names);

/* Returns the value of the first of two variables that is set, or NULL. */
const char *run_env_either(const struct run_env *e, const char *name, const char *other);

/* Whether `host` is exempt from proxies, by NO_PROXY or because it is this machine. */
bool run_env_no_proxy(const struct run_env *e, const char *host);

/* If the environment names a proxy, exempts `host`, too. */
void run_env_exempt(struct run_env *e, const char *host);

#endif
