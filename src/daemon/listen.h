/* Opens the addresses to listen on, or takes them over from systemd. */
#ifndef RETRYD_DAEMON_LISTEN_H
#define RETRYD_DAEMON_LISTEN_H

#include <stdbool.h>
#include <stddef.h>

#define LISTEN_MAX 16

struct listener {
    int fd;
    char name[128];      /* as a person would write it, with the real port */
    char unix_path[108]; /* removed again when it is closed; "" otherwise */
};

/* Opens "host:port", "[v6]:port" (port 0: any) or "unix:PATH". 0 or -errno (-EADDRINUSE, -EACCES,
 * ...) with a sentence in `ret_why`. A Unix socket is 0660; one that nobody serves is replaced. */
int listen_open(const char *address, struct listener *ret, char *ret_why, size_t size);

/* The sockets that systemd passed (sd_listen_fds(3)), at most LISTEN_MAX: how many, or -errno. */
int listen_inherited(struct listener ret[LISTEN_MAX]);

void listen_close(struct listener *l);

#endif
