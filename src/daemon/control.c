/* Serves `retryd reload` on an abstract Unix socket. */
#include "daemon/control.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/list.h"

#define PEERS_MAX 8
#define REPLY_MAX (128 * 1024)
#define BACKLOG 8

/* A client. It is freed when its connection is closed. */
struct peer {
    uv_pipe_t pipe;
    uv_write_t write;
    struct control *c;
    struct list node;
    char request[sizeof(CONTROL_REQUEST)];
    size_t have;
    bool acted;   /* the response is ready ... */
    bool replied; /* ... and is being written */
    struct buf reply;
};

struct control {
    uv_pipe_t pipe;
    struct list peers;
    unsigned count;
    bool closing; /* accepts no more clients */
    bool shut;    /* the listening socket is closed */
    uv_pipe_t refused;
    bool refusing; /* `refused` is a client for whom there was no memory */
    bool another;  /* and there is another one, not yet accepted */
    control_act act;
    control_done done;
    void *ctx;
};

/* --- clients ---------------------------------------------------------------------------------- */

static void free_if_over(struct control *c)
{
    if (c->shut && c->count == 0 && !c->refusing)
        free(c);
}

static void on_peer_closed(uv_handle_t *handle)
{
    struct peer *p = handle->data;
    struct control *c = p->c;

    list_remove(&p->node);
    c->count--;
    buf_deinit(&p->reply);
    free(p);
    free_if_over(c);
}

static void close_peer(struct peer *p)
{
    if (!uv_is_closing((uv_handle_t *)&p->pipe))
        uv_close((uv_handle_t *)&p->pipe, on_peer_closed);
}

static void on_written(uv_write_t *write, int status)
{
    (void)status;
    close_peer(write->data);
}

static void reply(struct peer *p)
{
    uv_buf_t text = uv_buf_init(p->reply.p, (unsigned)p->reply.len);

    p->replied = true;
    p->write.data = p;
    if (p->reply.failed || uv_write(&p->write, (uv_stream_t *)&p->pipe, &text, 1, on_written) < 0)
        close_peer(p);
}

static void act(struct peer *p)
{
    struct buf output;
    enum exit_code result;

    buf_init(&output, REPLY_MAX / 2);
    result = p->c->act(p->c->ctx, &output);
    buf_printf(&p->reply, "%d\n", (int)result);
    buf_add_str(&p->reply, buf_str(&output));
    buf_deinit(&output);
    p->acted = true;
    control_check(p->c);
}

static void on_room(uv_handle_t *handle, size_t suggested, uv_buf_t *ret)
{
    struct peer *p = handle->data;

    (void)suggested;
    *ret = uv_buf_init(p->request + p->have, (unsigned)(sizeof(p->request) - p->have));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *room)
{
    struct peer *p = stream->data;
    size_t wanted = strlen(CONTROL_REQUEST);

    (void)room;
    if (n < 0 || p->acted) {
        if (n != UV_EOF || !p->acted) /* after its request, a client may close its sending half */
            close_peer(p);
        return;
    }
    p->have += (size_t)n;
    if (p->have < wanted)
        return;
    if (p->have == wanted && !memcmp(p->request, CONTROL_REQUEST, wanted))
        act(p);
    else
        close_peer(p);
}

/* --- the listening socket --------------------------------------------------------------------- */

static bool may_ask(uv_pipe_t *pipe)
{
    struct ucred who;
    socklen_t size = sizeof(who);
    uv_os_fd_t fd;

    return uv_fileno((uv_handle_t *)pipe, &fd) == 0 &&
           getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) == 0 &&
           (who.uid == 0 || who.uid == geteuid());
}

static void on_connection(uv_stream_t *server, int status);

static void on_refused(uv_handle_t *handle)
{
    struct control *c = handle->data;
    bool another = c->another;

    c->refusing = c->another = false;
    if (another && !c->closing)
        on_connection((uv_stream_t *)&c->pipe, 0);
    free_if_over(c);
}

/* Closes the client's connection. libuv accepts no other one before that. */
static void turn_away(struct control *c)
{
    c->another = c->refusing;
    if (c->refusing)
        return;
    (void)uv_pipe_init(c->pipe.loop, &c->refused, 0); /* cannot fail here */
    c->refused.data = c;
    c->refusing = true;
    (void)uv_accept((uv_stream_t *)&c->pipe, (uv_stream_t *)&c->refused);
    uv_close((uv_handle_t *)&c->refused, on_refused);
}

static void on_connection(uv_stream_t *server, int status)
{
    struct control *c = server->data;
    struct peer *p;

    if (status < 0 || c->closing)
        return;
    p = calloc(1, sizeof(*p));
    if (!p) {
        turn_away(c);
        return;
    }
    (void)uv_pipe_init(server->loop, &p->pipe, 0);
    p->c = c;
    p->pipe.data = p;
    buf_init(&p->reply, REPLY_MAX);
    list_append(&c->peers, &p->node);
    c->count++;
    if (uv_accept(server, (uv_stream_t *)&p->pipe) < 0 || c->count > PEERS_MAX ||
        !may_ask(&p->pipe) || uv_read_start((uv_stream_t *)&p->pipe, on_room, on_read) < 0)
        close_peer(p);
}

/* Opens a listening socket with a random name. Returns the descriptor or -errno. */
static int open_socket(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), error = 0;
    uint64_t random;
    int n;

    if (fd < 0)
        return -errno;
    if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
        error = EIO;
    n = snprintf(a.sun_path + 1, sizeof(a.sun_path) - 1, CONTROL_PREFIX "%016" PRIx64, random);
    if (!error && (bind(fd, (struct sockaddr *)&a,
                        (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n)) < 0 ||
                   listen(fd, BACKLOG) < 0))
        error = errno;
    if (error) {
        close(fd);
        return -error;
    }
    return fd;
}

struct control *control_new(uv_loop_t *loop, control_act act_on, control_done done, void *ctx)
{
    struct control *c = calloc(1, sizeof(*c));
    int fd = c ? open_socket() : -ENOMEM, rc;

    if (fd < 0) {
        free(c);
        errno = -fd;
        return NULL;
    }
    list_init(&c->peers);
    c->act = act_on;
    c->done = done;
    c->ctx = ctx;
    c->pipe.data = c;
    rc = uv_pipe_init(loop, &c->pipe, 0);
    if (rc < 0) {
        close(fd);
        free(c);
        errno = -rc;
        return NULL;
    }
    rc = uv_pipe_open(&c->pipe, fd);
    if (rc == 0)
        rc = uv_listen((uv_stream_t *)&c->pipe, BACKLOG, on_connection);
    else
        close(fd);
    if (rc < 0) {
        control_close(c);
        errno = -rc;
        return NULL;
    }
    return c;
}

void control_check(struct control *c)
{
    if (!c || !c->done(c->ctx))
        return;
    for (struct list *n = c->peers.next; n != &c->peers; n = n->next) {
        struct peer *p = LIST_ENTRY(n, struct peer, node);

        if (p->acted && !p->replied)
            reply(p);
    }
}

static void on_closed(uv_handle_t *handle)
{
    struct control *c = handle->data;

    c->shut = true;
    free_if_over(c);
}

void control_close(struct control *c)
{
    if (!c || c->closing)
        return;
    c->closing = true;
    for (struct list *n = c->peers.next; n != &c->peers; n = n->next)
        close_peer(LIST_ENTRY(n, struct peer, node));
    uv_close((uv_handle_t *)&c->pipe, on_closed);
}
