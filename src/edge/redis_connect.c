/* Resolves the name of a Redis server and tries its addresses until one connects. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "edge/redis_private.h"

#define DEFAULT_PORT 6379

/* --- connecting ------------------------------------------------------------------------------- */

static void connect_next(struct redis *r);

static void on_connected(uv_connect_t *request, int status)
{
    struct redis *r = request->data;

    assert(r->magic == REDIS_MAGIC);
    if (r->phase != REDIS_CONNECTING)
        return;
    if (status < 0) {
        r->connect_error = status;
        connect_next(r);
        return;
    }
    if (r->port > 0)
        uv_tcp_nodelay(&r->way.tcp, 1);
    redis_connected(r);
}

static void open_way(struct redis *r, int rc)
{
    if (rc < 0)
        return;
    r->way.handle.data = r;
    r->way_open = true;
    r->open_handles++;
    r->connecting.data = r;
}

static void connect_address(struct redis *r, const struct sockaddr *address)
{
    int rc = uv_tcp_init(r->loop, &r->way.tcp);

    open_way(r, rc);
    if (rc == 0)
        rc = uv_tcp_connect(&r->connecting, &r->way.tcp, address, on_connected);
    if (rc < 0) {
        r->connect_error = rc;
        connect_next(r);
    }
}

static void on_given_up(uv_handle_t *handle)
{
    struct redis *r = handle->data;

    assert(r->magic == REDIS_MAGIC);
    r->open_handles--;
    if (r->phase == REDIS_CONNECTING)
        connect_next(r);
    else
        redis_free_if_over(r);
}

/* Tries the next address, after the handle of the last one is closed. */
static void connect_next(struct redis *r)
{
    if (!r->next) {
        redis_die(r, REDIS_END_CONNECT, r->connect_error);
    } else if (r->way_open) {
        r->way_open = false;
        uv_close(&r->way.handle, on_given_up);
    } else {
        const struct addrinfo *to = r->next;

        r->next = to->ai_next;
        connect_address(r, to->ai_addr);
    }
}

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *addresses)
{
    struct redis *r = request->data;

    assert(r->magic == REDIS_MAGIC);
    r->is_resolving = false;
    r->addresses = addresses;
    if (r->phase != REDIS_CONNECTING) {
        redis_free_if_over(r);
        return;
    }
    r->next = addresses;
    if (status < 0 || !addresses)
        redis_die(r, REDIS_END_ADDRESS, status);
    else
        connect_next(r);
}

/* Names are resolved on libuv's thread pool. Numeric addresses take the same way. */
void redis_connect(struct redis *r)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    char port[8];
    int rc;

    if (r->port == 0) {
        int failed = uv_pipe_init(r->loop, &r->way.pipe, 0);
        open_way(r, failed);
        if (failed < 0)
            redis_die(r, REDIS_END_CONNECT, failed);
        else /* the callback reports errors */
            uv_pipe_connect(&r->connecting, &r->way.pipe, r->host, on_connected);
        return;
    }
    snprintf(port, sizeof(port), "%d", r->port);
    r->resolving.data = r;
    rc = uv_getaddrinfo(r->loop, &r->resolving, on_resolved, r->host, port, &hints);
    r->is_resolving = rc == 0;
    if (rc < 0)
        redis_die(r, REDIS_END_ADDRESS, rc);
}

/* --- addresses -------------------------------------------------------------------------------- */

/* Splits "host:port"; `*ret_port` is empty or begins with the colon. A name or IPv4 address has no
 * colon, and an IPv6 address has brackets. */
static bool split_address(struct str address, struct str *ret_host, struct str *ret_port)
{
    const char *colon = address.n ? memrchr(address.p, ':', address.n) : NULL;

    if (str_starts(address, STR("["))) {
        const char *end = memchr(address.p, ']', address.n);

        if (!end)
            return false;
        *ret_host = (struct str){address.p + 1, (size_t)(end - address.p) - 1};
        *ret_port = (struct str){end + 1, (size_t)(address.p + address.n - end) - 1};
        if (ret_port->n > 0 && ret_port->p[0] != ':')
            return false;
    } else {
        size_t n = colon ? (size_t)(colon - address.p) : address.n;

        *ret_host = (struct str){address.p, n};
        *ret_port = (struct str){address.p + n, address.n - n};
        if (n > 0 && memchr(address.p, ':', n))
            return false;
    }
    return true;
}

int redis_address_parse(const char *text, char host[REDIS_HOST_MAX], int *ret_port)
{
    struct str address = str_from(text);
    struct str name = address, port = {NULL, 0};
    uint64_t number = DEFAULT_PORT;

    if (str_starts(address, STR("unix:"))) {
        name = (struct str){address.p + 5, address.n - 5};
        number = 0;
        if (name.n >= sizeof(((struct sockaddr_un *)NULL)->sun_path) || name.n == 0 ||
            name.p[0] != '/')
            return -EINVAL;
    } else if (!split_address(address, &name, &port)) {
        return -EINVAL;
    } else if (port.n > 0 && (!str_to_u64((struct str){port.p + 1, port.n - 1}, &number) ||
                              number == 0 || number > 65535)) {
        return -EINVAL;
    }
    if (name.n == 0 || name.n >= REDIS_HOST_MAX)
        return -EINVAL;
    memcpy(host, name.p, name.n);
    host[name.n] = '\0';
    *ret_port = (int)number;
    return 0;
}

int redis_address_check(const char *address)
{
    char host[REDIS_HOST_MAX];
    int port = 0;

    return redis_address_parse(address, host, &port);
}
