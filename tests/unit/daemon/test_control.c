/* The control socket when the system refuses: it is not opened, says why and leaves nothing behind; a client whose
 * response cannot be written is let go. */
#include "daemon/control.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "failcall.h"
#include "failmem.h"
#include "unit.h"

/* --- the system, each call failing on demand ------------------------------------------------------ */

static struct sockaddr_un bound;
static socklen_t bound_size;

int socket(int family, int type, int protocol)
{
    int (*real)(int, int, int);

    REAL(socket);
    return fails("socket") ? -1 : real(family, type, protocol);
}

int bind(int fd, const struct sockaddr *a, socklen_t n)
{
    int (*real)(int, const struct sockaddr *, socklen_t);

    REAL(bind);
    bound_size = n;
    memcpy(&bound, a, n < sizeof(bound) ? n : sizeof(bound));
    return fails("bind") ? -1 : real(fd, a, n);
}

ssize_t getrandom(void *to, size_t n, unsigned flags)
{
    ssize_t (*real)(void *, size_t, unsigned);

    REAL(getrandom);
    return fails("getrandom") ? -1 : real(to, n, flags);
}

int uv_pipe_init(uv_loop_t *loop, uv_pipe_t *handle, int ipc)
{
    int (*real)(uv_loop_t *, uv_pipe_t *, int);

    REAL(uv_pipe_init);
    return fails("uv_pipe_init") ? -fail_with : real(loop, handle, ipc);
}

int uv_pipe_open(uv_pipe_t *handle, uv_file fd)
{
    int (*real)(uv_pipe_t *, uv_file);

    REAL(uv_pipe_open);
    return fails("uv_pipe_open") ? -fail_with : real(handle, fd);
}

int uv_listen(uv_stream_t *stream, int backlog, uv_connection_cb cb)
{
    int (*real)(uv_stream_t *, int, uv_connection_cb);

    REAL(uv_listen);
    return fails("uv_listen") ? -fail_with : real(stream, backlog, cb);
}

int uv_write(uv_write_t *request, uv_stream_t *stream, const uv_buf_t bufs[], unsigned n,
             uv_write_cb cb)
{
    int (*real)(uv_write_t *, uv_stream_t *, const uv_buf_t[], unsigned, uv_write_cb);

    REAL(uv_write);
    return fails("uv_write") ? -fail_with : real(request, stream, bufs, n, cb);
}

/* --- tests ---------------------------------------------------------------------------------------- */

static uv_loop_t loop;
static uv_pipe_t first;
static unsigned acts;

static enum exit_code act(void *ctx, struct buf *output)
{
    (void)ctx;
    acts++;
    buf_printf(output, "done\n");
    return EXIT_OK;
}

static bool is_done(void *ctx)
{
    (void)ctx;
    return true;
}

static void set_up(void)
{
    failing = NULL;
    acts = 0;
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    /* A loop opens a spare descriptor with its first stream. */
    uv_pipe_init(&loop, &first, 0);
    uv_close((uv_handle_t *)&first, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
}

static void tear_down(void)
{
    failing = NULL;
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
}

static unsigned descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned n = 0;

    ck_assert_ptr_nonnull(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

static const struct fault {
    const char *function;
    int error;
    int told; /* as errno */
} faults[] = {
    {"socket", EMFILE, EMFILE},       {"getrandom", ENOSYS, EIO},
    {"bind", EADDRINUSE, EADDRINUSE}, {"uv_pipe_init", EMFILE, EMFILE},
    {"uv_pipe_open", EINVAL, EINVAL}, {"uv_listen", EADDRINUSE, EADDRINUSE},
};

START_TEST(what_cannot_be_opened_is_told_and_leaves_nothing)
{
    unsigned before = descriptors();
    struct control *c;
    int error;

    failing = faults[_i].function;
    fail_with = faults[_i].error;
    c = control_new(&loop, act, is_done, NULL);
    error = errno;
    failing = NULL;
    ck_assert_ptr_null(c);
    ck_assert_int_eq(error, faults[_i].told);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_uint_eq(descriptors(), before);
}
END_TEST

static int client(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

    ck_assert_int_eq(connect(fd, (struct sockaddr *)&bound, bound_size), 0);
    ck_assert_int_eq(write(fd, CONTROL_REQUEST, strlen(CONTROL_REQUEST)),
                     (ssize_t)strlen(CONTROL_REQUEST));
    return fd;
}

/* Up to the end of the stream. */
static size_t response(int fd, char *to, size_t max)
{
    size_t have = 0;
    ssize_t n;

    while ((n = read(fd, to + have, max - have)) != 0)
        if (n > 0)
            have += (size_t)n;
        else {
            if (errno == ECONNRESET) /* closed before its request was read */
                break;
            ck_assert_int_eq(errno, EAGAIN);
            uv_run(&loop, UV_RUN_ONCE);
        }
    close(fd);
    return have;
}

START_TEST(a_client_that_cannot_be_written_to_is_let_go)
{
    struct control *c = control_new(&loop, act, is_done, NULL);
    char got[64];

    ck_assert_ptr_nonnull(c);
    failing = "uv_write";
    fail_with = EPIPE;
    ck_assert_uint_eq(response(client(), got, sizeof(got)), 0);
    ck_assert_uint_eq(acts, 1);
    failing = NULL; /* the next one is served as ever */
    ck_assert_uint_eq(response(client(), got, sizeof(got)), 7);
    ck_assert_int_eq(memcmp(got, "0\ndone\n", 7), 0);
    control_close(c);
}
END_TEST

/* libuv accepts nobody while a client is left unaccepted. */
START_TEST(a_client_without_memory_is_let_go_and_the_next_one_is_served)
{
    struct control *c = control_new(&loop, act, is_done, NULL);
    char got[64];

    ck_assert_ptr_nonnull(c);
    for (unsigned i = 0; i < 2; i++) {
        int fd = client();

        failmem_arm_from(1);
        uv_run(&loop, UV_RUN_ONCE);
        ck_assert(failmem_disarm());
        ck_assert_uint_eq(response(fd, got, sizeof(got)), 0);
    }
    ck_assert_uint_eq(acts, 0);
    ck_assert_uint_eq(response(client(), got, sizeof(got)), 7);
    ck_assert_int_eq(memcmp(got, "0\ndone\n", 7), 0);
    control_close(c);
}
END_TEST

START_TEST(it_closes_amid_a_client_that_is_let_go)
{
    struct control *c = control_new(&loop, act, is_done, NULL);
    int fd = client();
    char got[8];

    failmem_arm_from(1);
    uv_run(&loop, UV_RUN_NOWAIT);
    control_close(c);
    ck_assert(failmem_disarm());
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_uint_eq(response(fd, got, sizeof(got)), 0);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *c = unit_case(suite, "control");

    tcase_add_checked_fixture(c, set_up, tear_down);
    tcase_add_loop_test(c, what_cannot_be_opened_is_told_and_leaves_nothing, 0, (int)COUNT(faults));
    tcase_add_test(c, a_client_that_cannot_be_written_to_is_let_go);
    tcase_add_test(c, a_client_without_memory_is_let_go_and_the_next_one_is_served);
    tcase_add_test(c, it_closes_amid_a_client_that_is_let_go);
}
