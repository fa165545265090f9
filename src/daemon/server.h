/* The whole daemon: listeners, workers, the admin pages, signals, systemd. */
#ifndef RETRYD_DAEMON_SERVER_H
#define RETRYD_DAEMON_SERVER_H

#include "config/config.h"

/* Runs until a signal ends it. Takes over the reference. 0, or -errno when it could not start, after
 * logging why: -EADDRINUSE, -EACCES and -EPERM tell the caller which exit code fits.
 *
 * SIGTERM, SIGINT: after drain_linger no new connections, and running requests are finished within
 * drain_timeout; a second one ends it at once. SIGHUP: the file is read again; a bad one leaves the old one in force. */
int server_run(struct config *config);

#endif
