/* Takes connections in and spreads them over the workers. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "daemon/server_private.h"

#define PROBLEM_MAX 4096
#define ACCEPTS_PER_TURN 64
#define ADMINS_PER_TURN 16      /* few, so that each is served before others can push it out */
#define LAST_CALL_ROUNDS 64     /* the length of a queue, in such turns */
#define PAUSE_MS 100            /* of listening, when there are no descriptors at all */
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

/* Each client may need a connection to an upstream as well, and a file for its body. Where the
 * descriptors do not go round, clients wait to be let in: better than to be let in and turned away,
 * or to starve the others. */
#define FILES_OF_A_CLIENT 3

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

/* Starts or stops listening at the doors for clients, or at those for admins. */
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

/* Not even the spare descriptor is left: a worker was faster. A listener that stays ready would
 * make the loop spin, so nobody listens for a moment. */
static void pause_listeners(struct server *s)
{
    set_listeners(s, false, false);
    set_listeners(s, true, false);
    uv_timer_start(&s->pause, on_pause_over, PAUSE_MS, 0);
}

/* Out of descriptors: the spare one serves to take a connection and close it. */
static void shed_one(struct server *s, int listen_fd)
{
    int fd;

    if (s->spare_fd >= 0) {
        close(s->spare_fd);
        fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0)
            close(fd);
        s->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        log_line(LOG_WARN, "out of file descriptors: a connection was closed unserved; raise the "
                           "limit (LimitNOFILE, ulimit -n)");
    }
    if (s->spare_fd < 0)
        pause_listeners(s);
}

/* Where the connection goes; NULL when max_connections are open already. */
static struct worker *choose_worker(struct server *s)
{
    struct worker *least = NULL;

    if (total_load(s, &least) < s->max_connections)
        return least;
    s->full = true;
    set_listeners(s, false, false);
    log_line(LOG_WARN, "max_connections (%u) are open: new ones wait", s->max_connections);
    return NULL;
}

/* Takes in who waits there, so many at a time. True where more may wait. */
static bool take_some(struct listener *l)
{
    struct server *s = l->s;
    int most = l->admin ? ADMINS_PER_TURN : ACCEPTS_PER_TURN;

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
    (void)take_some(poll->data);
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
        listen_close(&l->socket);
        return -ENOMEM;
    }
    l->poll.data = l;
    l->open = true;
    s->listener_count++;
    uv_poll_start(&l->poll, UV_READABLE, on_listener);
    log_line(LOG_INFO, "listening on %s%s", socket->name, admin ? " (admin)" : "");
    return 0;
}

static int open_address(struct server *s, const char *address, bool admin)
{
    struct listen_socket l;
    char why[256];
    int rc;

    if (s->listener_count > LISTEN_MAX) {
        log_line(LOG_ERROR, "more than %d addresses to listen on", LISTEN_MAX);
        return -E2BIG;
    }
    rc = listen_open(address, &l, why, sizeof(why));
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

/* systemd's sockets stand for what the configuration says: it keeps them across our restarts. */
static void tell_unused(const struct server *s, const char *section, const char *address)
{
    bool admin = !strcmp(section, "admin");

    if (!has_listener(s, admin, address))
        log_line(LOG_WARN,
                 "[%s] listen: %s is not used: the sockets that systemd passes (%s) stand for it",
                 section, address, admin ? "FileDescriptorName=admin" : "retryd.socket");
}

static int open_inherited(struct server *s)
{
    struct inherited in[LISTEN_MAX];
    char why[256];
    int n = listen_inherited(in, why, sizeof(why)), rc = 0;

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
            tell_unused(s, "server", l->items[i]);
        else
            rc = open_address(s, l->items[i], false);
    }
    return rc;
}

static int open_admin(struct server *s)
{
    const char *address = s->config->admin.listen;

    if (has_listener(s, true, NULL))
        tell_unused(s, "admin", address);
    else if (strcmp(address, "off") != 0)
        return open_address(s, address, true);
    return 0;
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

int listeners_open(struct server *s)
{
    int rc;

    s->max_connections = connection_limit(&s->config->server);
    rc = open_inherited(s);
    if (rc == 0)
        rc = check_inherited(s);
    if (rc == 0)
        rc = open_server(s);
    if (rc == 0)
        rc = open_admin(s);
    return rc;
}

bool listeners_allowed(const struct server *s, const struct config *c, struct buf *problems)
{
    for (unsigned i = 0; i < s->listener_count; i++) {
        const struct listener *l = &s->listeners[i];

        if (!l->inherited || listen_is_local(&l->socket) || config_may_be_reached(c, l->admin))
            continue;
        buf_printf(problems,
                   "the socket %s passed by systemd can be reached by other machines; expected a "
                   "loopback address or a Unix socket (ListenStream=), or insecure_listen = yes in "
                   "[server] where whoever can reach it may use it",
                   l->socket.name);
        return false;
    }
    return true;
}

bool listeners_admin_is_local(const struct server *s)
{
    for (unsigned i = 0; i < s->listener_count; i++)
        if (s->listeners[i].admin && !listen_is_local(&s->listeners[i].socket))
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

static void shut_listener(struct listener *l)
{
    if (!l->open)
        return;
    l->open = false;
    uv_close((uv_handle_t *)&l->poll, NULL);
    listen_close(&l->socket);
}

void listeners_last_call(struct server *s)
{
    for (unsigned i = 0; i < s->listener_count; i++) {
        struct listener *l = &s->listeners[i];
        unsigned rounds = LAST_CALL_ROUNDS;

        if (l->open && !l->admin && !l->inherited)
            while (rounds > 0 && take_some(l))
                rounds--;
    }
}

void listeners_close(struct server *s, bool admin_too)
{
    for (unsigned i = 0; i < s->listener_count; i++)
        if (admin_too || !s->listeners[i].admin)
            shut_listener(&s->listeners[i]);
}

void listeners_check(struct server *s)
{
    struct worker *least = NULL;

    if (!s->full || s->draining || total_load(s, &least) >= s->max_connections)
        return;
    s->full = false;
    set_listeners(s, false, true);
}
