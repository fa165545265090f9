/* The APIs that `retryd run` stands in for: OpenAI's, Anthropic's and Google's. Each has variables
 * that name its base URL, and variables that hold its key.
 *
 * The private retryd serves OpenAI below /v1, Anthropic below /anthropic and Google below /google,
 * as the ready-made routes of conf/retryd.conf do. Upstreams that the configuration lacks are
 * added: the one that the environment names (OPENAI_BASE_URL), or else the API itself. */
#ifndef RETRYD_CLI_RUN_API_H
#define RETRYD_CLI_RUN_API_H

#include "base/buf.h"
#include "cli/run_env.h"
#include "config/config.h"

/* Loads the configuration (`path` may be NULL) for a private retryd: it listens on a free port of
 * 127.0.0.1, and has an upstream and a route for each API. With `hide_key`, the keys in `env`
 * become the upstreams' own. NULL after appending the problems. Remarks for the user go to
 * `remarks`, one per line. */
struct config *run_api_load(const char *path, const struct run_env *env, bool hide_key,
                            struct buf *problems, struct buf *remarks);

/* Sets the variables that lead to `address` ("127.0.0.1:4711"). */
void run_api_lead(const struct config *c, const char *address, struct run_env *env);

/* Reports on standard error the APIs of `env` that the configuration does not serve. */
void run_api_tell_others(const struct config *c, const char *address, const struct run_env *env);

/* Replaces every key that the private retryd knows by `token`. Removes, with a line on standard
 * error, the keys of APIs that it does not serve, and retryd's settings. Returns the number of APIs
 * with a key. */
unsigned run_api_hide(const struct config *c, const char *token, struct run_env *env);

#endif
