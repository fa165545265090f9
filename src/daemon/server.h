/* The whole daemon: listeners, workers, the admin pages, signals, systemd. */
#ifndef RETRYD_DAEMON_SERVER_H
#define RETRYD_DAEMON_SERVER_H

#include <uv.h>

#include "config/config.h"

struct server;
struct metrics_sum;

/* The program that runs a private retryd (`retryd run`) and ends it. */
struct server_host {
    /* Called in the loop once clients can connect to `address`. Returns 0, or -errno to end at
     * once. */
    int (*ready)(void *ctx, struct server *s, uv_loop_t *loop, const char *address);
    /* Closes the handles that `ready` has added to the loop; called even if `ready` was not. */
    void (*close)(void *ctx);
    /* All requests have ended: receives their sums. */
    void (*over)(void *ctx, const struct metrics_sum *sum);
    void *ctx;
};

/* Called once clients can connect to `address`, before it is logged; `admin` is an address too, or
 * "off". Both have the actual port. */
typedef void (*server_greeting)(const struct config *config, const char *address,
                                const char *admin);

/* Runs the daemon until a signal ends it; `greet` may be NULL. Takes over the reference. Returns 0,
 * or -errno if it could not start, after logging why; the caller chooses its exit code by
 * -EADDRINUSE, -EACCES and -EPERM.
 *
 * SIGTERM, SIGINT: after drain_linger, accepts no new connections and finishes running requests
 * within drain_timeout; a second signal ends it at once. SIGHUP: reads the configuration file
 * again; an invalid one is refused, and the configuration in force stays.
 *
 * With a `host` (else NULL), the daemon serves only that: the host handles signals, there is no
 * control socket, and nothing reloads the configuration. */
int server_run(struct config *config, const struct server_host *host, server_greeting greet);

/* Acts as on SIGTERM. Call it in the loop. */
void server_end(struct server *s);

#endif
