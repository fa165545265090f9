/* --health: a small blocking client for the admin listener's /healthz. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/str.h"
#include "daemon/cli.h"

#define STATUS_LINE_MAX 256

static const char request[] = "GET /healthz HTTP/1.1\r\n"
                              "Host: localhost\r\n"
                              "Connection: close\r\n"
                              "\r\n";

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_un un;
};

/* --- the address ------------------------------------------------------------------------------ */

static bool unix_address(struct str path, union address *a, socklen_t *ret_size)
{
    if (path.n >= sizeof a->un.sun_path)
        return false;
    a->un.sun_family = AF_UNIX;
    memcpy(a->un.sun_path, path.p, path.n);
    *ret_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path.n + 1);
    return true;
}

static bool port_of(struct str text, in_port_t *ret_port)
{
    uint64_t n;

    if (!str_to_u64(text, &n) || n == 0 || n > 65535)
        return false;
    *ret_port = htons((uint16_t)n);
    return true;
}

/* The address as [admin] listen has it: its syntax has been checked. "localhost" is 127.0.0.1, and
 * an address that means all of them (0.0.0.0, [::]) leads to this machine. */
static bool resolve(const char *text, union address *a, socklen_t *ret_size)
{
    const char *colon = strrchr(text, ':');
    char host[INET6_ADDRSTRLEN + 2];
    size_t n;

    memset(a, 0, sizeof *a);
    if (str_starts(str_from(text), STR("unix:")))
        return unix_address(str_from(text + 5), a, ret_size);
    n = colon ? (size_t)(colon - text) : sizeof host;
    if (n >= sizeof host)
        return false;
    memcpy(host, text, n);
    host[n] = '\0';
    if (host[0] == '[' && host[n - 1] == ']') {
        host[n - 1] = '\0';
        a->v6.sin6_family = AF_INET6;
        *ret_size = sizeof a->v6;
        return inet_pton(AF_INET6, host + 1, &a->v6.sin6_addr) == 1 &&
               port_of(str_from(colon + 1), &a->v6.sin6_port);
    }
    a->v4.sin_family = AF_INET;
    *ret_size = sizeof a->v4;
    if (str_ieq(str_from(host), STR("localhost")))
        memcpy(host, "127.0.0.1", sizeof "127.0.0.1");
    return inet_pton(AF_INET, host, &a->v4.sin_addr) == 1 &&
           port_of(str_from(colon + 1), &a->v4.sin_port);
}

/* --- the exchange ----------------------------------------------------------------------------- */

/* Waits for `events` on the socket: 0, or -errno. */
static int wait_for(int fd, short events, uint64_t until_ms)
{
    for (;;) {
        struct pollfd p = {.fd = fd, .events = events};
        uint64_t now = clock_now_ms();
        int n = now < until_ms ? poll(&p, 1, (int)(until_ms - now)) : 0;

        if (n > 0)
            return 0;
        if (n == 0)
            return -ETIMEDOUT;
        if (errno != EINTR)
            return -errno;
    }
}

static int connect_to(int fd, const union address *a, socklen_t size, uint64_t until_ms)
{
    socklen_t error_size = sizeof(int);
    int error = 0, rc;

    if (connect(fd, &a->any, size) == 0)
        return 0;
    if (errno != EINPROGRESS)
        return -errno;
    rc = wait_for(fd, POLLOUT, until_ms);
    if (rc == 0 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &error_size) < 0)
        rc = -errno;
    return rc ? rc : -error;
}

/* The request fits every socket's buffer, so that a short write is a failure. */
static int send_request(int fd)
{
    ssize_t n = send(fd, request, sizeof request - 1, MSG_NOSIGNAL);

    if (n < 0)
        return -errno;
    return n == sizeof request - 1 ? 0 : -EIO;
}

/* Reads until the status line is there: its length, or -errno. */
static ssize_t read_status(int fd, char *line, size_t size, uint64_t until_ms)
{
    size_t have = 0;

    while (have < size) {
        const char *end;
        ssize_t n;
        int rc = wait_for(fd, POLLIN, until_ms);

        if (rc < 0)
            return rc;
        n = recv(fd, line + have, size - have, 0);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -ECONNRESET;
        have += (size_t)n;
        end = memchr(line, '\n', have);
        if (end)
            return end - line;
    }
    return -EPROTO;
}

/* HTTP/1.1 200 OK: the three digits, or -errno. */
static int ask(int fd, const union address *a, socklen_t size, uint64_t until_ms)
{
    uint64_t status;
    char line[STATUS_LINE_MAX] = {0};
    ssize_t n = connect_to(fd, a, size, until_ms);

    if (n == 0)
        n = send_request(fd);
    if (n == 0)
        n = read_status(fd, line, sizeof line, until_ms);
    if (n < 0)
        return (int)n;
    if (n < 12 || memcmp(line, "HTTP/1.", 7) != 0 || line[8] != ' ' ||
        !str_to_u64((struct str){line + 9, 3}, &status))
        return -EPROTO;
    return (int)status;
}

enum cli_exit cli_health(const char *address, unsigned patience_ms, FILE *out, FILE *err)
{
    union address a;
    socklen_t size;
    int fd, rc;

    if (!strcmp(address, "off") || !resolve(address, &a, &size)) {
        fprintf(err, "retryd: cannot ask for its health: [admin] listen is %s\n", address);
        return CLI_FAILED;
    }
    fd = socket(a.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    rc = fd < 0 ? -errno : ask(fd, &a, size, clock_now_ms() + patience_ms);
    if (fd >= 0)
        close(fd);
    if (rc == 200) {
        fprintf(out, "retryd is well: %s answers\n", address);
        return CLI_OK;
    }
    if (rc >= 0)
        fprintf(err, "retryd is not well: %s answers %d\n", address, rc);
    else
        fprintf(err, "retryd does not answer: %s: %s\n", address, strerror(-rc));
    return CLI_FAILED;
}
