/* Keeps a table of libcurl's sockets and watches them on the loop. */
#include "edge/fetch_socket.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

void fetch_sockets_init(struct socket_table *t, uv_loop_t *loop,
                        void (*on_ready)(void *arg, int fd, int events, bool error),
                        void (*on_idle_noise)(void *arg), void *arg)
{
    memset(t, 0, sizeof(*t));
    t->loop = loop;
    t->on_ready = on_ready;
    t->on_idle_noise = on_idle_noise;
    t->arg = arg;
    list_init(&t->unsorted);
    for (int i = 0; i < SOCKET_BUCKETS; i++)
        list_init(&t->buckets[i]);
}

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void drop(struct socket_table *t, struct fetch_socket *s)
{
    t->by_fd[s->fd] = NULL;
    list_remove(&s->node);
    uv_close((uv_handle_t *)&s->poll, on_closed);
}

void fetch_sockets_deinit(struct socket_table *t)
{
    for (int fd = 0; fd < t->size; fd++)
        if (t->by_fd[fd])
            drop(t, t->by_fd[fd]);
    free(t->by_fd);
    t->by_fd = NULL;
    t->size = 0;
}

static int make_room(struct socket_table *t, int fd)
{
    int size = t->size ? t->size : 64;
    struct fetch_socket **grown;

    while (size <= fd)
        size *= 2;
    if (size == t->size)
        return 0;
    grown = realloc(t->by_fd, (size_t)size * sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    memset(grown + t->size, 0, (size_t)(size - t->size) * sizeof(*grown));
    t->by_fd = grown;
    t->size = size;
    return 0;
}

static struct fetch_socket *add(struct socket_table *t, int fd, bool opened_here)
{
    struct fetch_socket *s;

    if (make_room(t, fd) < 0)
        return NULL;
    if (t->by_fd[fd]) /* libcurl closed it without its close callback, before it was watched */
        drop(t, t->by_fd[fd]);
    s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    if (uv_poll_init(t->loop, &s->poll, fd) < 0) {
        free(s);
        return NULL;
    }
    s->poll.data = s;
    s->table = t;
    s->fd = fd;
    s->opened_here = opened_here;
    s->serial = ++t->serials;
    t->by_fd[fd] = s;
    list_init(&s->node);
    list_append(&t->unsorted, &s->node);
    return s;
}

int fetch_socket_add(struct socket_table *t, int fd)
{
    return add(t, fd, true) ? 0 : -ENOMEM;
}

static struct fetch_socket *by_fd(struct socket_table *t, int fd)
{
    return fd >= 0 && fd < t->size ? t->by_fd[fd] : NULL;
}

void fetch_socket_remove(struct socket_table *t, int fd)
{
    if (by_fd(t, fd))
        drop(t, t->by_fd[fd]);
}

struct fetch_socket *fetch_socket_of(struct socket_table *t, int fd)
{
    struct fetch_socket *s = by_fd(t, fd);

    return s ? s : add(t, fd, false);
}

void fetch_socket_discard(struct fetch_socket *s)
{
    char waste[4096];

    s->discarded = true;
    for (int i = 0; i < 64 && recv(s->fd, waste, sizeof(waste), MSG_DONTWAIT) > 0; i++)
        ;
    shutdown(s->fd, SHUT_RDWR);
    uv_poll_stop(&s->poll);
    s->armed = 0;
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct fetch_socket *s = poll->data;

    if (status < 0)
        s->armed = 0; /* libuv has stopped watching it */
    if (s->wanted) {
        s->table->on_ready(s->table->arg, s->fd, events, status < 0);
        return;
    }
    if (s->busy || s->uses == 0 || s->may_speak_idle) {
        /* Paused, connecting or HTTP/2: libcurl will ask for events when it needs them. */
        uv_poll_stop(&s->poll);
        s->armed = 0;
        return;
    }
    fetch_socket_discard(s);
    s->table->on_idle_noise(s->table->arg);
}

static int arm(struct fetch_socket *s, int events)
{
    if (s->armed == events)
        return 0;
    s->armed = events;
    return uv_poll_start(&s->poll, events, on_poll) < 0 ? -1 : 0;
}

int fetch_socket_want(struct fetch_socket *s, int events)
{
    s->wanted = events;
    if (events)
        return arm(s, events);
    if (!s->opened_here || s->uses == 0) {
        /* libcurl may be closing this socket right now. It is either its own, or one that has not
         * connected; 7.88 closes those without calling its close callback. */
        drop(s->table, s);
        return 0;
    }
    /* Stay armed for reading, because most often libcurl waits here for the next response. */
    return s->discarded || s->armed == 0 ? 0 : arm(s, UV_READABLE);
}

struct socket_ref fetch_socket_begin(struct fetch_socket *s)
{
    s->uses++;
    s->busy++;
    return (struct socket_ref){.fd = s->fd, .serial = s->serial};
}

void fetch_socket_bound_silence(struct fetch_socket *s, unsigned ms)
{
    if (s->silence_ms == ms || (s->busy > 1 && s->silence_ms > ms))
        return;
    s->silence_ms = ms;
    setsockopt(s->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof(ms));
}

struct fetch_socket *fetch_socket_deref(struct socket_table *t, struct socket_ref ref)
{
    struct fetch_socket *s = ref.serial && ref.fd < t->size ? t->by_fd[ref.fd] : NULL;

    return s && s->serial == ref.serial ? s : NULL;
}

void fetch_socket_end(struct socket_table *t, struct socket_ref ref)
{
    struct fetch_socket *s = fetch_socket_deref(t, ref);

    if (!s)
        return;
    s->busy--;
    if (s->busy > 0 || s->discarded)
        return;
    if (s->wanted == 0)
        arm(s, UV_READABLE);
}

static bool read_end(struct fetch_socket_end *end, const struct sockaddr_storage *a)
{
    const struct sockaddr_in *in = (const struct sockaddr_in *)a;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)a;

    end->family = a->ss_family;
    if (a->ss_family == AF_INET) {
        end->port = ntohs(in->sin_port);
        memcpy(end->ip, &in->sin_addr, sizeof(in->sin_addr));
    } else if (a->ss_family == AF_INET6) {
        end->port = ntohs(in6->sin6_port);
        memcpy(end->ip, &in6->sin6_addr, sizeof(in6->sin6_addr));
    }
    return end->port > 0;
}

static bool parse_end(struct fetch_socket_end *end, const char *ip, int port)
{
    end->family = strchr(ip, ':') ? AF_INET6 : AF_INET;
    end->port = port;
    return port > 0 && inet_pton(end->family, ip, end->ip) == 1;
}

static bool same_end(const struct fetch_socket_end *a, const struct fetch_socket_end *b)
{
    return a->family == b->family && a->port == b->port && !memcmp(a->ip, b->ip, sizeof(a->ip));
}

static struct list *bucket_of(struct socket_table *t, const struct socket_ends *ends)
{
    return &t->buckets[ends->local.port % SOCKET_BUCKETS];
}

static struct fetch_socket *find(struct list *head, const struct socket_ends *ends)
{
    for (struct list *n = head->next; n != head; n = n->next) {
        struct fetch_socket *s = LIST_ENTRY(n, struct fetch_socket, node);

        if (same_end(&s->ends.local, &ends->local) && same_end(&s->ends.peer, &ends->peer))
            return s;
    }
    return NULL;
}

struct fetch_socket *fetch_socket_by_ends(struct socket_table *t, const char *local_ip,
                                          int local_port, const char *peer_ip, int peer_port)
{
    struct socket_ends ends = {0};
    struct fetch_socket *s;

    if (!parse_end(&ends.local, local_ip, local_port) || !parse_end(&ends.peer, peer_ip, peer_port))
        return NULL;
    s = find(bucket_of(t, &ends), &ends);
    if (s)
        return s;
    /* Moves sockets that have connected since to their buckets. Only then do they have both
     * addresses. */
    struct list *n = t->unsorted.next;
    while (n != &t->unsorted) {
        struct fetch_socket *socket = LIST_ENTRY(n, struct fetch_socket, node);

        n = n->next;
        /* There are no two addresses if the socket has not connected. */
        struct sockaddr_storage local = {0}, peer = {0};
        socklen_t n_local = sizeof(local), n_peer = sizeof(peer);
        memset(&socket->ends, 0, sizeof(socket->ends));
        if (getsockname(socket->fd, (struct sockaddr *)&local, &n_local) == 0 &&
            getpeername(socket->fd, (struct sockaddr *)&peer, &n_peer) == 0 &&
            read_end(&socket->ends.local, &local) && read_end(&socket->ends.peer, &peer)) {
            list_remove(&socket->node);
            list_append(bucket_of(t, &socket->ends), &socket->node);
        }
    }
    return find(bucket_of(t, &ends), &ends);
}

bool fetch_socket_dirty(const struct fetch_socket *s)
{
    bool idle = s->uses > 0 && s->busy == 0 && !s->may_speak_idle;
    char c;

    return s->discarded ||
           (idle && !(recv(s->fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN));
}
