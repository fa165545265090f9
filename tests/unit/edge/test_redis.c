/* A connection to a Redis server when a call of libuv or hiredis fails, or memory is short: it reports why, once and
 * never from within a function of the module, and a command that could not be sent costs only itself. */
#include "edge/redis.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <hiredis/hiredis.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "failcall.h"
#include "failmem.h"
#include "unit.h"

/* --- the libraries, each function failing on demand --------------------------------------------- */

static unsigned closes; /* calls of uv_close */
static uv_write_t *held;
static uv_write_cb held_end;

int uv_tcp_init(uv_loop_t *l, uv_tcp_t *handle)
{
    int (*real)(uv_loop_t *, uv_tcp_t *);

    REAL(uv_tcp_init);
    return fails("uv_tcp_init") ? fail_with : real(l, handle);
}

int uv_tcp_connect(uv_connect_t *request, uv_tcp_t *handle, const struct sockaddr *to,
                   uv_connect_cb cb)
{
    int (*real)(uv_connect_t *, uv_tcp_t *, const struct sockaddr *, uv_connect_cb);

    REAL(uv_tcp_connect);
    return fails("uv_tcp_connect") ? fail_with : real(request, handle, to, cb);
}

int uv_pipe_init(uv_loop_t *l, uv_pipe_t *handle, int ipc)
{
    int (*real)(uv_loop_t *, uv_pipe_t *, int);

    REAL(uv_pipe_init);
    return fails("uv_pipe_init") ? fail_with : real(l, handle, ipc);
}

int uv_getaddrinfo(uv_loop_t *l, uv_getaddrinfo_t *request, uv_getaddrinfo_cb cb, const char *node,
                   const char *service, const struct addrinfo *hints)
{
    int (*real)(uv_loop_t *, uv_getaddrinfo_t *, uv_getaddrinfo_cb, const char *, const char *,
                const struct addrinfo *);

    REAL(uv_getaddrinfo);
    return fails("uv_getaddrinfo") ? fail_with : real(l, request, cb, node, service, hints);
}

int uv_read_start(uv_stream_t *stream, uv_alloc_cb alloc, uv_read_cb cb)
{
    int (*real)(uv_stream_t *, uv_alloc_cb, uv_read_cb);

    REAL(uv_read_start);
    return fails("uv_read_start") ? fail_with : real(stream, alloc, cb);
}

int uv_write(uv_write_t *request, uv_stream_t *stream, const uv_buf_t bufs[], unsigned n,
             uv_write_cb cb)
{
    int (*real)(uv_write_t *, uv_stream_t *, const uv_buf_t[], unsigned, uv_write_cb);

    REAL(uv_write);
    if (fails("uv_write, later")) {
        request->handle = stream;
        held = request;
        held_end = cb;
        return 0;
    }
    return fails("uv_write") ? fail_with : real(request, stream, bufs, n, cb);
}

void uv_close(uv_handle_t *handle, uv_close_cb cb)
{
    void (*real)(uv_handle_t *, uv_close_cb);

    REAL(uv_close);
    closes++;
    real(handle, cb);
}

redisReader *redisReaderCreate(void)
{
    redisReader *(*real)(void);

    REAL(redisReaderCreate);
    return fails("redisReaderCreate") ? NULL : real();
}

int redisReaderFeed(redisReader *r, const char *bytes, size_t n)
{
    int (*real)(redisReader *, const char *, size_t);

    REAL(redisReaderFeed);
    return fails("redisReaderFeed") ? REDIS_ERR : real(r, bytes, n);
}

/* --- a client, and a server that says what a test wants ------------------------------------------- */

static uv_loop_t loop;
static struct redis *client;
static unsigned connects, deaths;
static enum redis_end end;
static int end_error;
static int listening, served;
static char address[64];

static void on_connected(void *arg)
{
    (void)arg;
    connects++;
}

static void on_message(void *arg, struct str text)
{
    (void)arg;
    (void)text;
}

static void on_dead(void *arg, enum redis_end why, int error)
{
    (void)arg;
    deaths++;
    end = why;
    end_error = error;
}

static const struct redis_handler handler = {
    .connected = on_connected, .message = on_message, .dead = on_dead};

static void set_up(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(a);

    failing = NULL;
    connects = deaths = closes = 0;
    served = -1;
    listening = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(listening, (struct sockaddr *)&a, n), 0);
    ck_assert_int_eq(listen(listening, 4), 0);
    ck_assert_int_eq(getsockname(listening, (struct sockaddr *)&a, &n), 0);
    snprintf(address, sizeof(address), "127.0.0.1:%d", ntohs(a.sin_port));
    ck_assert_int_eq(uv_loop_init(&loop), 0);
}

static void tear_down(void)
{
    failing = NULL;
    redis_close(client);
    client = NULL;
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
    if (served >= 0)
        close(served);
    if (listening >= 0)
        close(listening);
}

static void await(const unsigned *count)
{
    while (*count == 0 && uv_run(&loop, UV_RUN_ONCE))
        ;
    ck_assert_uint_eq(*count, 1);
}

static void begin(void)
{
    client = redis_open(&loop, address, &handler);
    ck_assert_ptr_nonnull(client);
    await(&connects);
    served = accept(listening, NULL, NULL);
    ck_assert_int_ge(served, 0);
}

static int send_ping(void)
{
    static const struct str words[] = {{"PING", 4}};

    return redis_send(client, 1, words, NULL, NULL);
}

/* --- tests ---------------------------------------------------------------------------------------- */

static const struct fault {
    const char *function, *address; /* NULL: the server's */
    int error;
    enum redis_end end;
} faults[] = {
    {"uv_getaddrinfo", NULL, UV_ENOMEM, REDIS_END_ADDRESS},
    {"uv_tcp_init", NULL, UV_EMFILE, REDIS_END_CONNECT},
    {"uv_tcp_connect", NULL, UV_EAFNOSUPPORT, REDIS_END_CONNECT},
    {"uv_pipe_init", "unix:/nonexistent/redis", UV_EMFILE, REDIS_END_CONNECT},
    {"uv_read_start", NULL, UV_ENOTCONN, REDIS_END_CONNECT},
};

START_TEST(a_connection_that_cannot_be_made_says_why_once)
{
    const struct fault *f = &faults[_i];

    failing = f->function;
    fail_with = f->error;
    client = redis_open(&loop, f->address ? f->address : address, &handler);
    ck_assert_ptr_nonnull(client);
    ck_assert_uint_eq(deaths, 0); /* not from within */
    await(&deaths);
    ck_assert_int_eq(end, f->end);
    ck_assert_int_eq(end_error, f->error);
    ck_assert_uint_eq(connects, 0);
    ck_assert_int_eq(send_ping(), -ENOTCONN);
    uv_run(&loop, UV_RUN_DEFAULT); /* nothing is left that would try again */
    ck_assert_uint_eq(deaths, 1);
}
END_TEST

START_TEST(without_a_reader_none_is_opened)
{
    failing = "redisReaderCreate";
    ck_assert_ptr_null(redis_open(&loop, address, &handler));
}
END_TEST

/* In place of the C library's: each host has its address twice. */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **ret)
{
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    int rc;

    REAL(getaddrinfo);
    rc = real(node, service, hints, ret);
    if (rc == 0)
        rc = real(node, service, hints, &(*ret)->ai_next);
    return rc;
}

/* Between the poll of the loop and its closed handles. */
static void close_client(uv_check_t *check)
{
    if (closes == 0)
        return;
    redis_close(client);
    client = NULL;
    uv_check_stop(check);
    uv_close((uv_handle_t *)check, NULL);
}

START_TEST(one_closed_between_two_addresses_tries_no_other)
{
    uv_check_t check;

    close(listening);
    listening = -1;
    uv_check_init(&loop, &check);
    uv_check_start(&check, close_client);
    client = redis_open(&loop, address, &handler);
    ck_assert_ptr_nonnull(client);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_ptr_null(client);
    ck_assert_uint_eq(deaths + connects, 0);
    ck_assert_uint_eq(closes,
                      3); /* the first address's socket, the timer, and `check`: no second socket */
}
END_TEST

START_TEST(a_command_without_memory_costs_only_itself)
{
    char got[64];
    int rc;

    begin();
    for (size_t n = 1; n <= 2; n++) {
        failmem_arm(n);
        rc = send_ping();
        ck_assert(failmem_disarm());
        ck_assert_int_eq(rc, -ENOMEM);
        ck_assert_uint_eq(redis_pending(client), 0);
    }
    ck_assert_int_eq(send_ping(), 0);
    ck_assert_uint_eq(redis_pending(client), 1);
    ck_assert_int_eq(recv(served, got, sizeof(got), 0), 14);
    ck_assert_int_eq(memcmp(got, "*1\r\n$4\r\nPING\r\n", 14), 0);
    ck_assert_uint_eq(deaths, 0);
}
END_TEST

START_TEST(a_write_that_fails_is_told_by_the_loop)
{
    begin();
    failing = "uv_write";
    fail_with = UV_EPIPE;
    ck_assert_int_eq(send_ping(), -ENOTCONN);
    ck_assert_uint_eq(deaths, 0);
    ck_assert_uint_eq(redis_pending(client), 0);
    await(&deaths);
    ck_assert_int_eq(end, REDIS_END_LOST);
    ck_assert_int_eq(end_error, UV_EPIPE);
}
END_TEST

START_TEST(a_write_that_fails_later_ends_it)
{
    begin();
    failing = "uv_write, later";
    ck_assert_int_eq(send_ping(), 0);
    ck_assert_uint_eq(deaths, 0);
    held_end(held, UV_ECONNRESET);
    ck_assert_uint_eq(deaths, 1);
    ck_assert_int_eq(end, REDIS_END_LOST);
    ck_assert_int_eq(end_error, UV_ECONNRESET);
}
END_TEST

START_TEST(bytes_without_room_end_it)
{
    begin();
    failing = "redisReaderFeed";
    ck_assert_int_eq(send(served, "+", 1, 0), 1);
    await(&deaths);
    ck_assert_int_eq(end, REDIS_END_MEMORY);
}
END_TEST

START_TEST(a_reply_longer_than_any_expected_ends_it)
{
    static char reply[80 * 1024] = "$1000000\r\n";

    begin();
    ck_assert_int_eq(send_ping(), 0);
    memset(reply + 10, 'x', sizeof(reply) - 10);
    ck_assert_int_eq(send(served, reply, sizeof(reply), 0), (ssize_t)sizeof(reply));
    await(&deaths);
    ck_assert_int_eq(end, REDIS_END_STRANGE);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *c = unit_case(suite, "redis");

    tcase_add_checked_fixture(c, set_up, tear_down);
    tcase_add_loop_test(c, a_connection_that_cannot_be_made_says_why_once, 0, (int)COUNT(faults));
    tcase_add_test(c, without_a_reader_none_is_opened);
    tcase_add_test(c, one_closed_between_two_addresses_tries_no_other);
    tcase_add_test(c, a_command_without_memory_costs_only_itself);
    tcase_add_test(c, a_write_that_fails_is_told_by_the_loop);
    tcase_add_test(c, a_write_that_fails_later_ends_it);
    tcase_add_test(c, bytes_without_room_end_it);
    tcase_add_test(c, a_reply_longer_than_any_expected_ends_it);
}
