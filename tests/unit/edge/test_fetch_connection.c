/* Kept HTTP/1.1 connections: which one the next request takes, and at what cost. A server on a Unix
 * socket of this process, on the same loop. */
#include "edge/fetch.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "unit.h"

#define MANY 100

static unsigned looks; /* system calls that look at sockets, of the code under test */

/* In place of the C library's. */
ssize_t recv(int fd, void *to, size_t n, int flags)
{
    looks++;
    return syscall(SYS_recvfrom, fd, to, n, flags, NULL, NULL);
}

struct asked {
    struct attempt a;
    struct transfer *t;
};

static uv_loop_t loop;
static struct fetch *fetch;
static struct fetch_upstream *place;
static struct headers headers;
static char folder[] = "/tmp/fetch-connection-XXXXXX", path[64];
static int server, peers[MANY];
static unsigned peer_count;
static struct asked asked[MANY];

static void wake(void *arg)
{
    (void)arg;
}

static void on_change(void *arg)
{
    (void)arg;
}

static void turn(void)
{
    uv_run(&loop, UV_RUN_NOWAIT);
    while (fetch_run(fetch))
        ;
}

static void begin(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    memcpy(folder + sizeof folder - 7, "XXXXXX", 6);
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/socket", folder);
    memcpy(address.sun_path, path, sizeof path);
    server = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    ck_assert_int_eq(bind(server, (struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(listen(server, MANY), 0);
    peer_count = 0;
    ck_assert_int_eq(fetch_global_init(), 0);
    uv_loop_init(&loop);
    fetch = fetch_new(&loop, wake, NULL);
    ck_assert_ptr_nonnull(fetch);
    place = calloc(1, sizeof *place);
    ck_assert_ptr_nonnull(place);
    *place = (struct fetch_upstream){.id = 1,
                                     .peer_id = 1,
                                     .origin = "http://localhost",
                                     .unix_socket = path,
                                     .ca_file = "",
                                     .ca_path = "",
                                     .client_cert = STR(""),
                                     .client_key = STR(""),
                                     .proxy = ""};
    headers_init(&headers);
}

static void end(void)
{
    fetch_close(fetch);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
    for (unsigned i = 0; i < peer_count; i++)
        close(peers[i]);
    close(server);
    unlink(path);
    rmdir(folder);
    free(place);
    headers_deinit(&headers);
    fetch_global_deinit();
}

static void start(struct asked *q)
{
    struct fetch_request r = {
        .upstream = place, .method = "GET", .target = "/", .headers = &headers, .body = ""};

    attempt_init(&q->a);
    q->a.high_water = SIZE_MAX;
    ck_assert_int_eq(fetch_start(fetch, &r, &q->a, on_change, NULL, &q->t), 0);
}

static void accept_peer(void)
{
    int fd;

    while ((fd = accept4(server, NULL, NULL, SOCK_NONBLOCK)) < 0)
        turn();
    peers[peer_count++] = fd;
}

/* Waits for a request on a connection, and answers it. */
static void answer(int fd, const char *text)
{
    char request[1024];

    while (read(fd, request, sizeof request) < 0) {
        ck_assert_int_eq(errno, EAGAIN);
        turn();
    }
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

static void wait_done(struct asked *q, enum transport transport, unsigned status)
{
    while (!q->a.done)
        turn();
    ck_assert_int_eq(q->a.transport, transport);
    ck_assert_uint_eq(q->a.status, status);
    attempt_deinit(&q->a);
}

#define OK "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

/* `n` connections that are kept. */
static void keep(unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        start(&asked[i]);
        accept_peer();
    }
    for (unsigned i = 0; i < n; i++)
        answer(peers[i], OK);
    for (unsigned i = 0; i < n; i++)
        wait_done(&asked[i], TRANSPORT_WHOLE, 200);
}

/* The looks that one request costs. */
static unsigned looks_of_a_request(void)
{
    struct pollfd fds[MANY];
    int which = 0;

    looks = 0;
    start(&asked[0]);
    for (unsigned i = 0; i < peer_count; i++)
        fds[i] = (struct pollfd){.fd = peers[i], .events = POLLIN};
    ck_assert_int_eq(poll(fds, peer_count, -1), 1);
    while (!fds[which].revents)
        which++;
    answer(peers[which], OK);
    wait_done(&asked[0], TRANSPORT_WHOLE, 200);
    return looks;
}

static struct fetch_stats stats(void)
{
    struct fetch_stats s;

    fetch_stats(fetch, &s);
    return s;
}

START_TEST(a_request_looks_twice_whatever_is_kept)
{
    begin();
    keep(_i ? MANY : 1);
    ck_assert_uint_eq(looks_of_a_request(), 2);
    ck_assert_uint_eq(stats().reused, 1);
    ck_assert_uint_eq(stats().connections, peer_count);
    end();
}
END_TEST

/* Two arrive at once: what makes the newest useless, and a request. */
START_TEST(a_useless_connection_is_passed_by)
{
    begin();
    keep(2);
    if (_i)
        close(peers[--peer_count]);
    else
        ck_assert_int_eq(write(peers[1], "x", 1), 1);
    start(&asked[0]);
    answer(peers[0], OK);
    wait_done(&asked[0], TRANSPORT_WHOLE, 200);
    ck_assert_uint_eq(stats().stale, 1);
    ck_assert_uint_eq(stats().open, 1);
    ck_assert_uint_eq(stats().reused, 1);
    end();
}
END_TEST

/* A kept connection that becomes useless is closed without a request. */
START_TEST(a_useless_connection_is_closed_at_once)
{
    begin();
    keep(1);
    ck_assert_int_eq(write(peers[0], "x", 1), 1);
    while (stats().open > 0)
        turn();
    ck_assert_uint_eq(stats().stale, 1);
    end();
}
END_TEST

static const struct ending {
    const char *text;
    bool keeps;
} endings[] = {
    {OK, true},
    {"HTTP/1.1 429 \r\nContent-Length: 0\r\n\r\n", true},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", true},
    {"HTTP/1.1 500 \r\nContent-Length: 0\r\n\r\n", false},
    {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", false},
    {"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", false},
    {OK "x", false},
};

START_TEST(only_good_connections_are_kept)
{
    const struct ending *e = &endings[_i];
    unsigned status = (unsigned)atoi(e->text + strlen("HTTP/1.1 "));

    begin();
    start(&asked[0]);
    accept_peer();
    answer(peers[0], e->text);
    wait_done(&asked[0], TRANSPORT_WHOLE, status);
    ck_assert_uint_eq(stats().open, e->keeps);
    ck_assert_uint_eq(stats().stale, 0);
    end();
}
END_TEST

/* Upstreams to other peers, upstreams that demand a new connection or younger ones, and requests
 * that do. */
START_TEST(a_connection_is_for_its_own_peer_and_while_it_may)
{
    begin();
    keep(1);
    place->peer_id = 2;
    start(&asked[0]);
    accept_peer();
    answer(peers[1], OK);
    wait_done(&asked[0], TRANSPORT_WHOLE, 200);
    ck_assert_uint_eq(stats().open, 2);
    place->peer_id = 1;
    place->connection_lifetime_ms = 1;
    uint64_t since = uv_now(&loop);
    while (uv_now(&loop) < since + 2)
        turn();
    start(&asked[0]);
    accept_peer();
    answer(peers[2], OK);
    wait_done(&asked[0], TRANSPORT_WHOLE, 200);
    ck_assert_uint_eq(stats().open, 2); /* the old one is closed */
    ck_assert_uint_eq(stats().reused, 0);
    end();
}
END_TEST

START_TEST(a_dropped_connection_is_closed)
{
    struct attempt a;

    begin();
    start(&asked[0]);
    accept_peer();
    answer(peers[0], OK);
    while (!asked[0].a.done)
        turn();
    a = asked[0].a;
    ck_assert_uint_eq(stats().open, 1);
    fetch_drop_connection(fetch, &a);
    ck_assert_uint_eq(stats().open, 0);
    fetch_drop_connection(fetch, &a);
    attempt_deinit(&asked[0].a);
    end();
}
END_TEST

START_TEST(cancelled_at_any_time)
{
    begin();
    start(&asked[0]); /* it connects */
    fetch_cancel(asked[0].t);
    attempt_deinit(&asked[0].a);
    start(&asked[0]);
    accept_peer();
    if (_i)
        answer(peers[peer_count - 1], "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok");
    while (_i && !asked[0].a.headers_done)
        turn();
    fetch_cancel(asked[0].t);
    attempt_deinit(&asked[0].a);
    ck_assert_uint_eq(stats().open, 0);
    end();
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *c = unit_case(suite, "kept connections");

    tcase_add_loop_test(c, a_request_looks_twice_whatever_is_kept, 0, 2);
    tcase_add_loop_test(c, a_useless_connection_is_passed_by, 0, 2);
    tcase_add_test(c, a_useless_connection_is_closed_at_once);
    tcase_add_loop_test(c, only_good_connections_are_kept, 0, (int)COUNT(endings));
    tcase_add_test(c, a_connection_is_for_its_own_peer_and_while_it_may);
    tcase_add_test(c, a_dropped_connection_is_closed);
    tcase_add_loop_test(c, cancelled_at_any_time, 0, 2);
}
