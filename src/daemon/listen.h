/* Opens the addresses to listen on, or takes them over from systemd. */
#ifndef RETRYD_DAEMON_LISTEN_H
#define RETRYD_DAEMON_LISTEN_H

#include <stdbool.h>
#include <stddef.h>

#define LISTEN_MAX 16

struct listen_socket {
    int fd;
    char name[128];      /* as a person would write it, with the real port */
    char unix_path[108]; /* removed again when it is closed; "" otherwise */
};

/* Opens "host:port", "[v6]:port" (port 0: any) or "unix:PATH". 0 or -errno (-EADDRINUSE, -EACCES,
 * ...) with a sentence in `ret_why`. A Unix socket is 0660; one that nobody serves is replaced. */
int listen_open(const char *address, struct listen_socket *ret, char *ret_why, size_t size);

/* A socket that systemd passed, and what its name (FileDescriptorName= of systemd.socket(5)) says that it is
 * for. Its file, if it has one, is systemd's: unix_path is empty. */
struct inherited {
    struct listen_socket socket;
    bool admin;
};

/* The sockets that systemd passed (sd_listen_fds(3)): how many, or -errno with a sentence in `ret_why`. "admin"
 * is for the admin pages; "api" is for clients, and so is one that was given no name. -EINVAL: any other name,
 * or no listening stream socket of IPv4, IPv6 or Unix; -E2BIG: more than LISTEN_MAX. */
int listen_inherited(struct inherited ret[LISTEN_MAX], char *ret_why, size_t size);

/* Whether only this machine can reach it. */
bool listen_is_local(const struct listen_socket *l);

void listen_close(struct listen_socket *l);

#endif
