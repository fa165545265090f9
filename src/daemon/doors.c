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

static void on_door(uv_poll_t *poll, int status, int events);

/* Starts or stops listening at the doors for clients, or at those for admins. */
static void set_doors(struct server *s, bool admin, bool open)
{
    for (unsigned i = 0; i < s->door_count; i++) {
        struct door *d = &s->doors[i];

        if (!d->open || d->admin != admin)
            continue;
        if (open)
            uv_poll_start(&d->poll, UV_READABLE, on_door);
        else
            uv_poll_stop(&d->poll);
    }
}

static void on_pause_over(uv_timer_t *timer)
{
    struct server *s = timer->data;

    if (s->spare_fd < 0)
        s->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    set_doors(s, true, true);
    if (!s->full)
        set_doors(s, false, true);
}

/* Not even the spare descriptor is left: a worker was faster. A listener that stays ready would
 * make the loop spin, so nobody listens for a moment. */
static void pause_doors(struct server *s)
{
    set_doors(s, false, false);
    set_doors(s, true, false);
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
        pause_doors(s);
}

/* Where the connection goes; NULL when max_connections are open already. */
static struct worker *choose_worker(struct server *s)
{
    struct worker *least = NULL;

    if (total_load(s, &least) < s->max_connections)
        return least;
    s->full = true;
    set_doors(s, false, false);
    log_line(LOG_WARN, "max_connections (%u) are open: new ones wait", s->max_connections);
    return NULL;
}

/* Takes in who waits there, so many at a time. True where more may wait. */
static bool take_some(struct door *d)
{
    struct server *s = d->s;
    int most = d->admin ? ADMINS_PER_TURN : ACCEPTS_PER_TURN;

    for (int i = 0; i < most; i++) {
        struct worker *w = d->admin ? NULL : choose_worker(s);
        int fd;

        if (!d->admin && !w)
            return false;
        fd = accept4(d->listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE)
                shed_one(s, d->listener.fd);
            if (errno != EINTR && errno != ECONNABORTED)
                return false;
        } else if (d->admin) {
            (void)admin_add(s->admin, fd);
        } else {
            (void)worker_add(w, fd);
        }
    }
    return true;
}

static void on_door(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    (void)take_some(poll->data);
}

static int open_door(struct server *s, const struct listener *l, bool admin, bool inherited)
{
    struct door *d = &s->doors[s->door_count];

    d->s = s;
    d->listener = *l;
    d->admin = admin;
    d->inherited = inherited;
    if (uv_poll_init(&s->loop, &d->poll, l->fd) < 0) {
        listen_close(&d->listener);
        return -ENOMEM;
    }
    d->poll.data = d;
    d->open = true;
    s->door_count++;
    uv_poll_start(&d->poll, UV_READABLE, on_door);
    log_line(LOG_INFO, "listening on %s%s", l->name, admin ? " (admin)" : "");
    return 0;
}

static int open_address(struct server *s, const char *address, bool admin)
{
    struct listener l;
    char why[256];
    int rc;

    if (s->door_count > LISTEN_MAX) {
        log_line(LOG_ERROR, "more than %d addresses to listen on", LISTEN_MAX);
        return -E2BIG;
    }
    rc = listen_open(address, &l, why, sizeof(why));
    if (rc < 0) {
        log_line(LOG_ERROR, "%s", why);
        return rc;
    }
    return open_door(s, &l, admin, false);
}

static bool has_door(const struct server *s, bool admin, const char *name)
{
    for (unsigned i = 0; i < s->door_count; i++)
        if (s->doors[i].admin == admin && (!name || !strcmp(s->doors[i].listener.name, name)))
            return true;
    return false;
}

/* systemd's sockets stand for what the configuration says: it keeps them across our restarts. */
static void tell_unused(const struct server *s, const char *section, const char *address)
{
    bool admin = !strcmp(section, "admin");

    if (!has_door(s, admin, address))
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
        rc = open_door(s, &in[i].listener, in[i].admin, true);
    return rc;
}

static int open_server(struct server *s)
{
    const struct string_list *l = &s->config->server.listen;
    bool passed = has_door(s, false, NULL);
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

    if (has_door(s, true, NULL))
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
    allowed = doors_allowed(s, s->config, &problems);
    if (!allowed)
        log_line(LOG_ERROR, "%.*s", (int)problems.len, problems.p);
    buf_deinit(&problems);
    return allowed ? 0 : -EINVAL;
}

int doors_open(struct server *s)
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

bool doors_allowed(const struct server *s, const struct config *c, struct buf *problems)
{
    for (unsigned i = 0; i < s->door_count; i++) {
        const struct door *d = &s->doors[i];

        if (!d->inherited || listen_is_local(&d->listener) || config_may_be_reached(c, d->admin))
            continue;
        buf_printf(problems,
                   "the socket %s passed by systemd can be reached by other machines; expected a "
                   "loopback address or a Unix socket (ListenStream=), or insecure_listen = yes in "
                   "[server] where whoever can reach it may use it",
                   d->listener.name);
        return false;
    }
    return true;
}

bool doors_admin_is_local(const struct server *s)
{
    for (unsigned i = 0; i < s->door_count; i++)
        if (s->doors[i].admin && !listen_is_local(&s->doors[i].listener))
            return false;
    return true;
}

bool doors_loop(const struct server *s, const struct config *c, struct buf *problems)
{
    for (unsigned i = 0; i < s->door_count; i++) {
        for (unsigned k = 0; k < c->upstream_count; k++) {
            if (!config_leads_to(&c->upstreams[k], s->doors[i].listener.name))
                continue;
            buf_printf(problems, "[upstream %s]: leads back to retryd itself, which listens on %s",
                       c->upstreams[k].name, s->doors[i].listener.name);
            return true;
        }
    }
    return false;
}

static void shut_door(struct door *d)
{
    if (!d->open)
        return;
    d->open = false;
    uv_close((uv_handle_t *)&d->poll, NULL);
    listen_close(&d->listener);
}

void doors_last_call(struct server *s)
{
    for (unsigned i = 0; i < s->door_count; i++) {
        struct door *d = &s->doors[i];
        unsigned rounds = LAST_CALL_ROUNDS;

        if (d->open && !d->admin && !d->inherited)
            while (rounds > 0 && take_some(d))
                rounds--;
    }
}

void doors_close(struct server *s, bool admin_too)
{
    for (unsigned i = 0; i < s->door_count; i++)
        if (admin_too || !s->doors[i].admin)
            shut_door(&s->doors[i]);
}

void doors_check(struct server *s)
{
    struct worker *least = NULL;

    if (!s->full || s->draining || total_load(s, &least) >= s->max_connections)
        return;
    s->full = false;
    set_doors(s, false, true);
}
