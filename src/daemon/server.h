/* The whole daemon: listeners, workers, the admin pages, signals, systemd. */
#ifndef RETRYD_DAEMON_SERVER_H
#define RETRYD_DAEMON_SERVER_H

#include "config/config.h"

/* Runs until a signal ends it. Takes over the reference. 0, or -errno if it could not start, after
 * logging why; the caller chooses its exit code by -EADDRINUSE, -EACCES and -EPERM.
 *
 * SIGTERM, SIGINT: after drain_linger, accepts no new connections and finishes running requests
 * within drain_timeout; a second signal ends it at once. SIGHUP: reads the configuration file
 * again; an invalid one is refused, and the configuration in force stays. */
int server_run(struct config *config);

#endif
