/* Addresses that cannot be listened on: each refusal is told with its reason, and leaves neither a descriptor nor a file
 * behind. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "config_text.h"
#include "daemon/server_private.h"
#include "failcall.h"
#include "unit.h"

/* --- the system, each call failing on demand ------------------------------------------------------ */

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
    return fails("bind") ? -1 : real(fd, a, n);
}

int uv_poll_init(uv_loop_t *loop, uv_poll_t *handle, int fd)
{
    int (*real)(uv_loop_t *, uv_poll_t *, int);

    REAL(uv_poll_init);
    return fails("uv_poll_init") ? -fail_with : real(loop, handle, fd);
}

/* --- tests ---------------------------------------------------------------------------------------- */

static struct server s;
static FILE *log_file;
static struct loaded loaded;
static int lowest; /* the descriptor that is the next */

static int next_descriptor(void)
{
    int fd = dup(STDIN_FILENO);

    ck_assert_int_ge(fd, 0);
    close(fd);
    return fd;
}

static void load(const char *listen)
{
    char text[256];

    (void)snprintf(
        text, sizeof(text),
        "[server]\nlisten = %s\n[admin]\nlisten = off\n[upstream a]\nurl = https://a.example/v1\n",
        listen);
    loaded = config_text_load(text);
    ck_assert_str_eq(loaded.problems, "");
    s.config = loaded.config;
    lowest = next_descriptor();
}

static void set_up(void)
{
    failing = NULL;
    memset(&s, 0, sizeof(s));
    loaded = (struct loaded){0};
    config_text_folder();
    log_file = tmpfile();
    ck_assert_ptr_nonnull(log_file);
    ck_assert_int_eq(log_start(fileno(log_file), LOG_ERROR, false), 0);
    ck_assert_int_eq(uv_loop_init(&s.loop), 0);
}

static void tear_down(void)
{
    failing = NULL;
    uv_run(&s.loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&s.loop), 0);
    loaded_deinit(&loaded);
    fclose(log_file);
    log_thread_done();
}

/* Ends the log. */
static void is_logged(const char *text)
{
    char log[4096];

    log_stop();
    rewind(log_file);
    log[fread(log, 1, sizeof(log) - 1, log_file)] = '\0';
    if (text)
        ck_assert_msg(strstr(log, text) != NULL, "%s", log);
    else
        ck_assert_str_eq(log, "");
}

static const struct fault {
    const char *listen, *function;
    int error, result;
    const char *why; /* NULL: nothing is said */
} faults[] = {
    {"127.0.0.1:0", "socket", EMFILE, -EMFILE, "cannot listen on 127.0.0.1:0: Too many open files"},
    {"[::1]:0", "socket", EAFNOSUPPORT, -EAFNOSUPPORT,
     "cannot listen on [::1]:0: Address family not supported by protocol"},
    {"127.0.0.1:80", "bind", EACCES, -EACCES,
     "cannot listen on 127.0.0.1:80: Permission denied; ports below 1024 and other users' "
     "directories need privileges"},
    {"127.0.0.1:4290", "bind", EADDRINUSE, -EADDRINUSE,
     "cannot listen on 127.0.0.1:4290: Address already in use; is another retryd running?"},
    {"unix:/tmp/retryd-none", "socket", EMFILE, -EMFILE,
     "cannot listen on /tmp/retryd-none: Too many open files"},
    {"127.0.0.1:0", "uv_poll_init", ENOMEM, -ENOMEM, NULL},
};

START_TEST(an_address_that_is_refused_is_told)
{
    const struct fault *f = &faults[_i];
    int rc;

    load(f->listen);
    failing = f->function;
    fail_with = f->error;
    rc = listeners_open(&s);
    failing = NULL;
    ck_assert_int_eq(rc, f->result);
    ck_assert_uint_eq(s.listener_count, 0);
    ck_assert_int_eq(next_descriptor(), lowest);
    is_logged(f->why);
}
END_TEST

START_TEST(a_socket_that_is_not_served_leaves_no_file)
{
    char folder[256], address[300];

    ck_assert_ptr_nonnull(getcwd(folder, sizeof(folder)));
    (void)snprintf(address, sizeof(address), "unix:%s/socket", folder);
    load(address);
    failing = "uv_poll_init";
    fail_with = ENOMEM;
    ck_assert_int_eq(listeners_open(&s), -ENOMEM);
    failing = NULL;
    ck_assert_int_eq(access("socket", F_OK), -1);
    ck_assert_int_eq(next_descriptor(), lowest);
    is_logged(NULL);
}
END_TEST

START_TEST(what_systemd_says_has_to_be_a_number)
{
    char pid[16];

    load("127.0.0.1:0");
    (void)snprintf(pid, sizeof(pid), "%d", (int)getpid());
    setenv("LISTEN_PID", pid, 1);
    setenv("LISTEN_FDS", "many", 1);
    ck_assert_int_eq(listeners_open(&s), -EINVAL);
    ck_assert_int_eq(next_descriptor(), lowest);
    is_logged("cannot take over the sockets passed by systemd: Invalid argument");
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *c = unit_case(suite, "listeners");

    tcase_add_checked_fixture(c, set_up, tear_down);
    tcase_add_loop_test(c, an_address_that_is_refused_is_told, 0, (int)COUNT(faults));
    tcase_add_test(c, a_socket_that_is_not_served_leaves_no_file);
    tcase_add_test(c, what_systemd_says_has_to_be_a_number);
}
