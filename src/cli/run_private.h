/* The parts of `retryd run`: run.c runs the private retryd and its child, run_env.c is the child's
 * environment, run_api.c knows the APIs that its variables lead to, run_child.c starts the child
 * and relays signals. */
#ifndef RETRYD_CLI_RUN_PRIVATE_H
#define RETRYD_CLI_RUN_PRIVATE_H

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>
#include <uv.h>

#include "base/buf.h"
#include "config/config.h"

/* --- the environment -------------------------------------------------------------------------- */

/* A copy of the environment for a child, to be changed before the child starts. */
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

/* --- the APIs --------------------------------------------------------------------------------- */

/* The APIs that `retryd run` stands in for: OpenAI's, Anthropic's and Google's. Each has variables
 * that name its base URL, and variables that hold its key.
 *
 * The private retryd serves OpenAI below /v1, Anthropic below /anthropic and Google below /google,
 * as the ready-made routes of conf/retryd.conf do. Upstreams that the configuration lacks are
 * added: the one that the environment names (OPENAI_BASE_URL), or else the API itself. */

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

/* --- the child -------------------------------------------------------------------------------- */

/* The one child of `retryd run`: started as the shell would have started it, with every signal
 * relayed that is meant for it.
 *
 * The child is in retryd's process group, so the terminal's signals (Ctrl-C, Ctrl-Z) reach it
 * directly, and retryd leaves them to it. Signals from another process to retryd alone are relayed.
 * If the child stops, retryd stops, too, with the same signal, so that the shell sees its job stop;
 * SIGCONT wakes both. If retryd dies, the kernel sends the child SIGTERM. */
struct run_child {
    pid_t pid;   /* 0: not started */
    int status;  /* from waitpid, once the child has ended */
    bool ended;  /* the child has ended, and was waited for */
    int signals; /* the signalfd; -1: none */
    uv_poll_t poll;
    bool polling;
    /* Called when the child has ended, and for each signal that would end retryd. */
    void (*on_end)(void *ctx);
    void *ctx;
};

/* Blocks the signals that are relayed. Call it before any thread starts, so that none takes one. */
void run_child_block(void);

/* Returns a signal since run_child_block that would have ended the process, or 0. */
int run_child_interrupted(void);

/* Starts `argv` (searched in PATH) with the environment `envp`. Returns 0 or -errno, which may be
 * exec's. */
int run_child_start(struct run_child *c, char *const *argv, char *const *envp);

/* Relays signals from the loop until run_child_close, and calls on_end. 0 or -errno. */
int run_child_watch(struct run_child *c, uv_loop_t *loop);
void run_child_close(struct run_child *c);

/* Returns the exit code of a child that has ended. If a signal ended it, ends the process by the
 * same signal, and does not return. */
int run_child_pass_on(const struct run_child *c);

#endif
