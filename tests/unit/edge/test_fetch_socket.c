/* Kept connections over Unix sockets: which ones are checked before a request, however many there
 * are. */
#include "edge/fetch_socket.h"

#include <check.h>
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "unit.h"

#define PAIRS 100

static unsigned looks; /* system calls that look at sockets */

/* In place of the C library's. */
ssize_t recv(int fd, void *to, size_t n, int flags)
{
    looks++;
    return syscall(SYS_recvfrom, fd, to, n, flags, NULL, NULL);
}

static uv_loop_t loop;
static struct socket_table table;
static int pairs[PAIRS][2];
static unsigned noise;

static void on_ready(void *arg, int fd, int events, bool error)
{
    (void)arg;
    (void)fd;
    (void)events;
    (void)error;
}

static void on_noise(void *arg)
{
    (void)arg;
    noise++;
}

/* Each has had a request, and is kept. */
static void begin(unsigned n)
{
    noise = 0;
    uv_loop_init(&loop);
    fetch_sockets_init(&table, &loop, on_ready, on_noise, NULL);
    for (unsigned i = 0; i < n; i++) {
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pairs[i]), 0);
        ck_assert_int_eq(fetch_socket_add(&table, pairs[i][0], AF_UNIX), 0);
        fetch_socket_end(&table, fetch_socket_begin(fetch_socket_by_fd(&table, pairs[i][0])));
    }
    ck_assert(!fetch_sockets_any_dirty(&table));
}

static void end(unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        fetch_socket_remove(&table, pairs[i][0]);
        close(pairs[i][0]);
        close(pairs[i][1]);
    }
    fetch_sockets_deinit(&table);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
}

START_TEST(looks_are_as_many_whatever_is_idle)
{
    unsigned few;

    begin(1);
    looks = 0;
    for (unsigned i = 0; i < 10; i++) {
        ck_assert(!fetch_sockets_any_dirty(&table));
        fetch_socket_end(&table, fetch_socket_begin(fetch_socket_by_fd(&table, pairs[0][0])));
    }
    few = looks;
    end(1);
    begin(PAIRS);
    looks = 0;
    for (unsigned i = 0; i < 10; i++) {
        ck_assert(!fetch_sockets_any_dirty(&table));
        fetch_socket_end(&table, fetch_socket_begin(fetch_socket_by_fd(&table, pairs[i][0])));
    }
    ck_assert_uint_eq(looks, few);
    ck_assert_uint_eq(few, 10);
    end(PAIRS);
}
END_TEST

START_TEST(one_that_speaks_or_ends_is_found_among_many)
{
    begin(PAIRS);
    ck_assert_int_eq(write(pairs[50][1], "x", 1), 1);
    ck_assert(fetch_sockets_any_dirty(&table));
    ck_assert(!fetch_sockets_any_dirty(&table)); /* it was thrown away */
    ck_assert(fetch_socket_by_fd(&table, pairs[50][0])->discarded);
    ck_assert_int_eq(shutdown(pairs[60][1], SHUT_WR), 0);
    ck_assert(fetch_sockets_any_dirty(&table));
    ck_assert(fetch_socket_by_fd(&table, pairs[60][0])->discarded);
    ck_assert_uint_eq(noise, 2);
    for (unsigned i = 0; i < PAIRS; i++)
        if (i != 50 && i != 60)
            ck_assert_int_eq(write(pairs[i][1], "x", 1), 1);
    ck_assert(fetch_sockets_any_dirty(&table));
    ck_assert_uint_eq(noise, PAIRS);
    end(PAIRS);
}
END_TEST

/* Bytes on a busy connection are its response; bytes left over make it unfit. */
START_TEST(an_answer_is_no_noise_but_its_rest_is)
{
    struct socket_ref first, second;
    char c;

    begin(2);
    first = fetch_socket_begin(fetch_socket_by_fd(&table, pairs[0][0]));
    second = fetch_socket_begin(fetch_socket_by_fd(&table, pairs[1][0]));
    ck_assert_int_eq(write(pairs[0][1], "a", 1), 1);
    ck_assert_int_eq(write(pairs[1][1], "ab", 2), 2);
    ck_assert(!fetch_sockets_any_dirty(&table));
    ck_assert_int_eq(read(pairs[0][0], &c, 1), 1);
    ck_assert_int_eq(read(pairs[1][0], &c, 1), 1);
    fetch_socket_end(&table, first);
    fetch_socket_end(&table, second);
    ck_assert(!fetch_socket_by_fd(&table, pairs[0][0])->discarded);
    ck_assert(fetch_socket_by_fd(&table, pairs[1][0])->discarded);
    ck_assert(!fetch_sockets_any_dirty(&table));
    end(2);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "upstream_socket");

    tcase_add_test(tcase, looks_are_as_many_whatever_is_idle);
    tcase_add_test(tcase, one_that_speaks_or_ends_is_found_among_many);
    tcase_add_test(tcase, an_answer_is_no_noise_but_its_rest_is);
}
