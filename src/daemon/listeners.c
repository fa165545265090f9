/* Opens the listening sockets or takes systemd's, accepts connections and spreads them over the
 * workers. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "config/config.h"
#include "daemon/server_private.h"

/* --- opening ---------------------------------------------------------------------------------- */

#define BACKLOG 1024
#define UNIX_UMASK 0117 /* mode 0660 */

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
                       : error == EACCES
                           ? "; ports below 1024 and other users' directories need privileges"
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

/* Parses "127.0.0.1:4290" or "[::1]:4290". */
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
        /* The name of an abstract socket begins with a NUL. */
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

/* Removes a socket file that a crash left behind and on which no process accepts. */
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

/* Opens "host:port", "[v6]:port" (port 0: any) or "unix:PATH". Returns 0, or -errno (-EADDRINUSE,
 * -EACCES, ...) with a sentence in `ret_why`. A Unix socket has mode 0660 and replaces a stale
 * one. */
static int open_socket(const char *address, struct listen_socket *ret, char *ret_why, size_t size)
{
    if (!strncmp(address, "unix:", 5))
        return open_unix(address + 5, ret, ret_why, size);
    return open_ip(address, ret, ret_why, size);
}

/* --- sockets that systemd passed -------------------------------------------------------------- */

/* A socket that systemd passed. Its name (FileDescriptorName=, systemd.socket(5)) is its purpose.
 * Its file, if any, belongs to systemd, so unix_path is empty. */
struct inherited {
    struct listen_socket socket;
    bool admin;
};

/* systemd names a socket after its unit by default, and "unknown" if it has no names at all. */
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
            "a socket passed by systemd (%s) is not a listening IPv4, IPv6 or Unix stream socket "
            "(ListenStream=)",
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

/* Takes the sockets that systemd passed (sd_listen_fds(3)). Returns their number, or -errno with a
 * sentence in `ret_why`. "admin" is for the admin pages; "api" and a socket without a name are for
 * clients. -EINVAL: any other name, or no listening stream socket of IPv4, IPv6 or Unix; -E2BIG:
 * more than LISTEN_MAX. */
static int inherit(struct inherited ret[LISTEN_MAX], char *ret_why, size_t size)
{
    char **names = NULL;
    int n = sd_listen_fds_with_names(1, &names), rc = 0;

    if (n > LISTEN_MAX) {
        snprintf(ret_why, size, "systemd passed %d sockets; expected at most %d", n, LISTEN_MAX);
        rc = -E2BIG;
    } else if (n < 0) {
        snprintf(ret_why, size, "cannot take over the sockets passed by systemd: %s", strerror(-n));
        rc = n;
    }
    for (int i = 0; rc == 0 && i < n; i++)
        rc = take_over(SD_LISTEN_FDS_START + i, names[i], &ret[i], ret_why, size);
    for (int i = 0; i < n; i++)
        free(names[i]);
    free(names);
    return rc < 0 ? rc : n;
}

static bool is_local(const struct listen_socket *l)
{
    return str_starts(str_from(l->name), STR("unix:")) || config_address_is_local(l->name);
}

static void close_socket(struct listen_socket *l)
{
    if (l->fd >= 0)
        close(l->fd);
    if (l->unix_path[0])
        unlink(l->unix_path);
    l->fd = -1;
}

/* --- accepting -------------------------------------------------------------------------------- */

#define PROBLEM_MAX 4096
#define ACCEPTS_PER_ITERATION 64
#define ADMINS_PER_ITERATION 16 /* few, so that each is served before it is ended to make room */
#define LAST_CALL_ROUNDS 64     /* enough rounds for a full backlog */
#define PAUSE_MS 100            /* pause in listening when no descriptors are left */
#define FILES_OF_THE_PROCESS 32 /* listeners, admins, signals, the log */
#define FILES_OF_A_WORKER 8     /* its loop and its libraries */

static unsigned total_load(const struct server *s, struct worker **ret_least)
{
    unsigned total = 0, least = UINT32_MAX;

    for (unsigned i = 0; i < s->worker_count; i++) {
        unsigned load = worker_load(s->workers[i]);

        total += load;
        if (load < least) {
            least = load;
            *ret_least = s->workers[i];
        }
    }
    return total;
}

/* Each client takes two, and may need a connection to an upstream and a file for its body. Without
 * enough descriptors, clients wait in the backlog, which is better than to accept and refuse them,
 * or to starve others. */
#define FILES_OF_A_CLIENT 4

static unsigned connection_limit(const struct config_server *c)
{
    unsigned workers = c->workers ? c->workers : uv_available_parallelism();
    rlim_t ours = FILES_OF_THE_PROCESS + (rlim_t)workers * FILES_OF_A_WORKER, room = 1;
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) < 0 || files.rlim_cur == RLIM_INFINITY)
        return c->max_connections;
    if (files.rlim_cur > ours + FILES_OF_A_CLIENT)
        room = (files.rlim_cur - ours) / FILES_OF_A_CLIENT;
    if (room >= c->max_connections)
        return c->max_connections;
    log_line(LOG_WARN,
             "the limit of %llu file descriptors is enough for %u connections, not for "
             "max_connections (%u); raise it (LimitNOFILE, ulimit -n)",
             (unsigned long long)files.rlim_cur, (unsigned)room, c->max_connections);
    return (unsigned)room;
}

static void on_listener(uv_poll_t *poll, int status, int events);

/* Starts or stops accepting on the listeners for clients, or on those for admins. */
static void set_listeners(struct server *s, bool admin, bool open)
{
    for (unsigned i = 0; i < s->listener_count; i++) {
        struct listener *l = &s->listeners[i];

        if (!l->open || l->admin != admin)
            continue;
        if (open)
            uv_poll_start(&l->poll, UV_READABLE, on_listener);
        else
            uv_poll_stop(&l->poll);
    }
}

static void on_pause_over(uv_timer_t *timer)
{
    struct server *s = timer->data;

    if (s->spare_fd < 0)
        s->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    set_listeners(s, true, true);
    if (!s->full)
        set_listeners(s, false, true);
}

/* Out of descriptors: uses the spare one to accept a connection and close it. */
static void shed_one(struct server *s, int listen_fd)
{
    int fd;

    if (s->spare_fd >= 0) {
        close(s->spare_fd);
        fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0)
            close(fd);
        s->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        log_line(LOG_WARN, "out of file descriptors: closed a connection unserved; raise the "
                           "limit (LimitNOFILE, ulimit -n)");
    }
    if (s->spare_fd >= 0)
        return;
    /* The spare descriptor is gone, too, and a listener that stays readable would make the loop
     * spin. */
    set_listeners(s, false, false);
    set_listeners(s, true, false);
    uv_timer_start(&s->pause, on_pause_over, PAUSE_MS, 0);
}

/* Chooses the worker for a connection; NULL if max_connections are open. */
static struct worker *choose_worker(struct server *s)
{
    struct worker *least = NULL;

    if (total_load(s, &least) < s->max_connections)
        return least;
    s->full = true;
    set_listeners(s, false, false);
    log_line(LOG_WARN, "max_connections (%u) reached: new connections wait", s->max_connections);
    return NULL;
}

/* Accepts some of the waiting connections. Returns true if more may wait. */
static bool accept_some(struct listener *l)
{
    struct server *s = l->s;
    int most = l->admin ? ADMINS_PER_ITERATION : ACCEPTS_PER_ITERATION;

    for (int i = 0; i < most; i++) {
        struct worker *w = l->admin ? NULL : choose_worker(s);
        int fd;

        if (!l->admin && !w)
            return false;
        fd = accept4(l->socket.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE)
                shed_one(s, l->socket.fd);
            if (errno != EINTR && errno != ECONNABORTED)
                return false;
        } else if (l->admin) {
            (void)admin_add(s->admin, fd);
        } else {
            (void)worker_add(w, fd);
        }
    }
    return true;
}

static void on_listener(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    (void)accept_some(poll->data);
}

static int open_listener(struct server *s, const struct listen_socket *socket, bool admin,
                         bool inherited)
{
    struct listener *l = &s->listeners[s->listener_count];

    l->s = s;
    l->socket = *socket;
    l->admin = admin;
    l->inherited = inherited;
    if (uv_poll_init(&s->loop, &l->poll, socket->fd) < 0) {
        close_socket(&l->socket);
        return -ENOMEM;
    }
    l->poll.data = l;
    l->open = true;
    s->listener_count++;
    uv_poll_start(&l->poll, UV_READABLE, on_listener);
    return 0;
}

static int open_address(struct server *s, const char *address, bool admin)
{
    struct listen_socket l = {.fd = -1};
    char why[384];
    int rc;

    if (s->listener_count > LISTEN_MAX) {
        log_line(LOG_ERROR, "too many listen addresses: expected at most %d", LISTEN_MAX);
        return -E2BIG;
    }
    rc = open_socket(address, &l, why, sizeof(why));
    if (rc < 0) {
        log_line(LOG_ERROR, "%s", why);
        return rc;
    }
    return open_listener(s, &l, admin, false);
}

static bool has_listener(const struct server *s, bool admin, const char *name)
{
    for (unsigned i = 0; i < s->listener_count; i++)
        if (s->listeners[i].admin == admin && (!name || !strcmp(s->listeners[i].socket.name, name)))
            return true;
    return false;
}

/* systemd's sockets replace the configured addresses: systemd keeps them open across restarts. */
static void warn_unused(const struct server *s, const char *section, const char *address)
{
    bool admin = !strcmp(section, "admin");

    if (!has_listener(s, admin, address))
        log_line(LOG_WARN,
                 "[%s] listen: %s is not used: the sockets that systemd passed (%s) replace it",
                 section, address, admin ? "FileDescriptorName=admin" : "retryd.socket");
}

static int open_inherited(struct server *s)
{
    struct inherited in[LISTEN_MAX];
    char why[384];
    int n = inherit(in, why, sizeof(why)), rc = 0;

    if (n < 0) {
        log_line(LOG_ERROR, "%s", why);
        return n;
    }
    for (int i = 0; rc == 0 && i < n; i++)
        rc = open_listener(s, &in[i].socket, in[i].admin, true);
    return rc;
}

static int open_server(struct server *s)
{
    const struct string_list *l = &s->config->server.listen;
    bool passed = has_listener(s, false, NULL);
    int rc = 0;

    for (unsigned i = 0; rc == 0 && i < l->count; i++) {
        if (passed)
            warn_unused(s, "server", l->items[i]);
        else
            rc = open_address(s, l->items[i], false);
    }
    return rc;
}

static int check_inherited(const struct server *s)
{
    struct buf problems;
    bool allowed;

    buf_init(&problems, PROBLEM_MAX);
    allowed = listeners_allowed(s, s->config, &problems);
    if (!allowed)
        log_line(LOG_ERROR, "%.*s", (int)problems.len, problems.p);
    buf_deinit(&problems);
    return allowed ? 0 : -EINVAL;
}

/* Returns the first listener of that kind, preferably no Unix socket; "off" if there is none. */
static const char *address_of(const struct server *s, bool admin)
{
    const char *found = "off";

    for (unsigned i = s->listener_count; i-- > 0;) {
        const struct listener *l = &s->listeners[i];

        if (l->admin == admin && (strncmp(l->socket.name, "unix:", 5) != 0 ||
                                  !strncmp(found, "unix:", 5) || !strcmp(found, "off")))
            found = l->socket.name;
    }
    return found;
}

static void tell_listeners(struct server *s)
{
    if (s->greet)
        s->greet(s->config, address_of(s, false), address_of(s, true));
    for (unsigned i = 0; i < s->listener_count; i++)
        log_line(LOG_INFO, "listening on %s%s", s->listeners[i].socket.name,
                 s->listeners[i].admin ? " (admin)" : "");
}

int listeners_open(struct server *s)
{
    const char *admin = s->config->admin.listen;
    int rc;

    s->max_connections = connection_limit(&s->config->server);
    rc = open_inherited(s);
    if (rc == 0)
        rc = check_inherited(s);
    if (rc == 0)
        rc = open_server(s);
    if (rc == 0 && has_listener(s, true, NULL))
        warn_unused(s, "admin", admin);
    else if (rc == 0 && strcmp(admin, "off") != 0)
        rc = open_address(s, admin, true);
    if (rc == 0)
        tell_listeners(s);
    return rc;
}

bool listeners_allowed(const struct server *s, const struct config *c, struct buf *problems)
{
    for (unsigned i = 0; i < s->listener_count; i++) {
        const struct listener *l = &s->listeners[i];

        if (!l->inherited || is_local(&l->socket) || config_may_be_reached(c, l->admin))
            continue;
        buf_printf(problems,
                   "other machines can reach the socket %s passed by systemd; expected a "
                   "loopback address, a Unix socket (ListenStream=), or %s",
                   l->socket.name, config_reach_advice(l->admin));
        return false;
    }
    return true;
}

bool listeners_admin_is_local(const struct server *s)
{
    for (unsigned i = 0; i < s->listener_count; i++)
        if (s->listeners[i].admin && !is_local(&s->listeners[i].socket))
            return false;
    return true;
}

bool listeners_loop(const struct server *s, const struct config *c, struct buf *problems)
{
    for (unsigned i = 0; i < s->listener_count; i++) {
        for (unsigned k = 0; k < c->upstream_count; k++) {
            if (!config_leads_to(&c->upstreams[k], s->listeners[i].socket.name))
                continue;
            buf_printf(problems, "[upstream %s]: leads back to retryd itself, which listens on %s",
                       c->upstreams[k].name, s->listeners[i].socket.name);
            return true;
        }
    }
    return false;
}

void listeners_last_call(struct server *s)
{
    for (unsigned i = 0; i < s->listener_count; i++) {
        struct listener *l = &s->listeners[i];
        unsigned rounds = LAST_CALL_ROUNDS;

        if (l->open && !l->admin && !l->inherited)
            while (rounds > 0 && accept_some(l))
                rounds--;
    }
}

void listeners_close(struct server *s, bool admin_too)
{
    for (unsigned i = 0; i < s->listener_count; i++) {
        struct listener *l = &s->listeners[i];

        if (!l->open || (l->admin && !admin_too))
            continue;
        l->open = false;
        uv_close((uv_handle_t *)&l->poll, NULL);
        close_socket(&l->socket);
    }
}

void listeners_check(struct server *s)
{
    struct worker *least = NULL;

    if (!s->full || s->draining || total_load(s, &least) >= s->max_connections)
        return;
    s->full = false;
    set_listeners(s, false, true);
}
