/* Opens the addresses to listen on. */
#include "daemon/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "base/str.h"
#include "config/config.h"

#define BACKLOG 1024
#define UNIX_UMASK 0117 /* 0660: the owner and the group */

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_un local;
    struct sockaddr_storage room;
};

static int fail(int error, char *ret_why, size_t size, const char *address)
{
    const char *hint = error == EADDRINUSE ? "; is another retryd running?"
                       : error == EACCES ? "; ports below 1024 and other users' folders need rights"
                                         : "";

    snprintf(ret_why, size, "cannot listen on %s: %s%s", address, strerror(error), hint);
    return -error;
}

static socklen_t parse_ip(const char *host, uint16_t port, union address *a)
{
    memset(a, 0, sizeof(*a));
    if (!strcmp(host, "localhost"))
        host = "127.0.0.1";
    if (inet_pton(AF_INET, host, &a->v4.sin_addr) == 1) {
        a->v4.sin_family = AF_INET;
        a->v4.sin_port = htons(port);
        return sizeof(a->v4);
    }
    if (inet_pton(AF_INET6, host, &a->v6.sin6_addr) == 1) {
        a->v6.sin6_family = AF_INET6;
        a->v6.sin6_port = htons(port);
        return sizeof(a->v6);
    }
    return 0;
}

/* "127.0.0.1:4290" or "[::1]:4290". */
static socklen_t parse(const char *address, union address *a)
{
    const char *colon = strrchr(address, ':');
    char host[64];
    uint64_t port;
    size_t n;

    if (!colon || !str_to_u64(str_from(colon + 1), &port) || port > 65535)
        return 0;
    n = (size_t)(colon - address);
    if (n >= 2 && address[0] == '[' && address[n - 1] == ']') {
        address++;
        n -= 2;
    }
    if (n >= sizeof(host))
        return 0;
    memcpy(host, address, n);
    host[n] = '\0';
    return parse_ip(host, (uint16_t)port, a);
}

static void name_of(int fd, char *out, size_t size)
{
    union address a;
    socklen_t n = sizeof(a);
    char host[INET6_ADDRSTRLEN] = "";

    memset(&a, 0, sizeof(a));
    if (getsockname(fd, &a.any, &n) < 0) {
        snprintf(out, size, "?");
    } else if (a.any.sa_family == AF_INET) {
        inet_ntop(AF_INET, &a.v4.sin_addr, host, sizeof(host));
        snprintf(out, size, "%s:%u", host, ntohs(a.v4.sin_port));
    } else if (a.any.sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &a.v6.sin6_addr, host, sizeof(host));
        snprintf(out, size, "[%s]:%u", host, ntohs(a.v6.sin6_port));
    } else {
        /* One of the abstract kind has no file, and begins with a zero. */
        bool abstract = n > sizeof(a.local.sun_family) && a.local.sun_path[0] == '\0';

        snprintf(out, size, "unix:%s%s", abstract ? "@" : "", a.local.sun_path + abstract);
    }
}

static int open_ip(const char *address, struct listen_socket *ret, char *ret_why, size_t size)
{
    union address a;
    socklen_t n = parse(address, &a);
    int one = 1, fd, error;

    if (n == 0)
        return fail(EINVAL, ret_why, size, address);
    fd = socket(a.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return fail(errno, ret_why, size, address);
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (a.any.sa_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
    if (bind(fd, &a.any, n) < 0 || listen(fd, BACKLOG) < 0) {
        error = errno;
        close(fd);
        return fail(error, ret_why, size, address);
    }
    ret->fd = fd;
    ret->unix_path[0] = '\0';
    name_of(fd, ret->name, sizeof(ret->name));
    return 0;
}

/* A socket file that nobody answers on is a left-over of a crash. */
static void remove_stale(const union address *a)
{
    struct stat st;
    int fd;

    if (lstat(a->local.sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
        return;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    if (connect(fd, &a->any, sizeof(a->local)) < 0 && errno == ECONNREFUSED)
        unlink(a->local.sun_path);
    close(fd);
}

static int open_unix(const char *path, struct listen_socket *ret, char *ret_why, size_t size)
{
    union address a;
    mode_t before;
    int fd, error = 0;

    memset(&a, 0, sizeof(a));
    a.local.sun_family = AF_UNIX;
    if (strlen(path) >= sizeof(a.local.sun_path) || strlen(path) >= sizeof(ret->unix_path))
        return fail(ENAMETOOLONG, ret_why, size, path);
    memcpy(a.local.sun_path, path, strlen(path));
    remove_stale(&a);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return fail(errno, ret_why, size, path);
    before = umask(UNIX_UMASK);
    if (bind(fd, &a.any, sizeof(a.local)) < 0 || listen(fd, BACKLOG) < 0)
        error = errno;
    umask(before);
    if (error) {
        close(fd);
        return fail(error, ret_why, size, path);
    }
    ret->fd = fd;
    snprintf(ret->unix_path, sizeof(ret->unix_path), "%s", path);
    name_of(fd, ret->name, sizeof(ret->name));
    return 0;
}

int listen_open(const char *address, struct listen_socket *ret, char *ret_why, size_t size)
{
    if (!strncmp(address, "unix:", 5))
        return open_unix(address + 5, ret, ret_why, size);
    return open_ip(address, ret, ret_why, size);
}

/* --- systemd's ------------------------------------------------------------------------------------ */

/* systemd names a socket after its unit where the unit does not say how, and calls those "unknown" of
 * which it was told no names at all. */
static int purpose_of(const char *name, bool *ret_admin)
{
    *ret_admin = !strcmp(name, "admin");
    return *ret_admin || !strcmp(name, "api") || !strcmp(name, "unknown") ||
                   str_ends(str_from(name), STR(".socket"))
               ? 0
               : -EINVAL;
}

static bool is_known_family(int fd)
{
    union address a = {.any.sa_family = AF_UNSPEC};
    socklen_t n = sizeof(a);

    return getsockname(fd, &a.any, &n) == 0 &&
           (a.any.sa_family == AF_INET || a.any.sa_family == AF_INET6 ||
            a.any.sa_family == AF_UNIX);
}

static int take_over(int fd, const char *name, struct inherited *ret, char *ret_why, size_t size)
{
    if (sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, 1) <= 0 || !is_known_family(fd)) {
        snprintf(
            ret_why, size,
            "a socket passed by systemd (%s) is not a listening stream socket of IPv4, IPv6 or "
            "Unix (ListenStream=)",
            name);
        return -EINVAL;
    }
    ret->socket.fd = fd;
    ret->socket.unix_path[0] = '\0';
    name_of(fd, ret->socket.name, sizeof(ret->socket.name));
    if (purpose_of(name, &ret->admin) == 0)
        return 0;
    snprintf(ret_why, size,
             "the socket %s passed by systemd is named %s; expected FileDescriptorName=api for "
             "clients or FileDescriptorName=admin for the admin pages",
             ret->socket.name, name);
    return -EINVAL;
}

int listen_inherited(struct inherited ret[LISTEN_MAX], char *ret_why, size_t size)
{
    char **names = NULL;
    int n = sd_listen_fds_with_names(1, &names), rc = 0;

    if (n > LISTEN_MAX) {
        snprintf(ret_why, size, "systemd passed %d sockets; expected at most %d", n, LISTEN_MAX);
        rc = -E2BIG;
    } else if (n < 0) {
        snprintf(ret_why, size, "the sockets passed by systemd cannot be taken over: %s",
                 strerror(-n));
        rc = n;
    }
    for (int i = 0; rc == 0 && i < n; i++)
        rc = take_over(SD_LISTEN_FDS_START + i, names[i], &ret[i], ret_why, size);
    for (int i = 0; i < n; i++)
        free(names[i]);
    free(names);
    return rc < 0 ? rc : n;
}

/* --- what is open --------------------------------------------------------------------------------- */

bool listen_is_local(const struct listen_socket *l)
{
    return str_starts(str_from(l->name), STR("unix:")) || config_address_is_local(l->name);
}

void listen_close(struct listen_socket *l)
{
    if (l->fd >= 0)
        close(l->fd);
    if (l->unix_path[0])
        unlink(l->unix_path);
    l->fd = -1;
}
