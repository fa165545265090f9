/* What the child of `retryd run` gets back of the process as it was started, and what retryd makes of its end. */
#include "cli/run_private.h"

#include <check.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "daemon/birth.h"
#include "unit.h"

static bool no_more_processes; /* as with TasksMax, ulimit -u */

pid_t fork(void)
{
    pid_t (*real)(void);

    if (no_more_processes) {
        errno = EAGAIN;
        return -1;
    }
    *(void **)&real = dlsym(RTLD_NEXT, "fork");
    return real();
}

START_TEST(everything_is_given_back)
{
    sigset_t mask;
    struct sigaction now;
    struct rlimit before, after;
    int kept, later;

    kept = dup(STDERR_FILENO);
    signal(SIGUSR2, SIG_IGN);
    getrlimit(RLIMIT_NOFILE, &before);
    birth_remember();
    birth_raise_files();
    later = dup(STDERR_FILENO);
    signal(SIGUSR2, SIG_DFL);
    signal(SIGUSR1, SIG_IGN);
    run_child_block();
    birth_give_back();
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    ck_assert_int_eq(sigismember(&mask, SIGTERM), 0);
    ck_assert_int_eq(sigaction(SIGUSR2, NULL, &now), 0);
    ck_assert(now.sa_handler == SIG_IGN);
    ck_assert_int_eq(sigaction(SIGUSR1, NULL, &now), 0);
    ck_assert(now.sa_handler == SIG_DFL);
    getrlimit(RLIMIT_NOFILE, &after);
    ck_assert_uint_eq(after.rlim_cur, before.rlim_cur);
    ck_assert_int_eq(fcntl(kept, F_GETFD) & FD_CLOEXEC, 0);
    ck_assert_int_eq(fcntl(later, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
}
END_TEST

START_TEST(a_signal_before_the_child_is_seen)
{
    run_child_block();
    ck_assert_int_eq(run_child_interrupted(), 0);
    raise(SIGUSR1); /* goes to the child: it ends nothing */
    ck_assert_int_eq(run_child_interrupted(), 0);
    raise(SIGTERM);
    ck_assert_int_eq(run_child_interrupted(), SIGTERM);
}
END_TEST

START_TEST(the_exit_code_is_the_childs)
{
    struct run_child c = {.status = 7 << 8, .ended = true};

    ck_assert_int_eq(run_child_pass_on(&c), 7);
    c.status = SIGWINCH; /* of a signal that does not end this process, as a shell tells it */
    ck_assert_int_eq(run_child_pass_on(&c), 128 + SIGWINCH);
}
END_TEST

START_TEST(what_cannot_be_started_is_told)
{
    struct rlimit files, none;
    struct run_child c = {.signals = -1};
    char *const argv[] = {(char[]){"/nonexistent/command"}, NULL}, *const envp[] = {NULL};
    uv_loop_t loop;

    ck_assert_int_eq(run_child_start(&c, argv, envp), -ENOENT);
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    getrlimit(RLIMIT_NOFILE, &files);
    none = files;
    none.rlim_cur = 0;
    setrlimit(RLIMIT_NOFILE, &none);
    int started = run_child_start(&c, argv, envp), watched = run_child_watch(&c, &loop);
    setrlimit(RLIMIT_NOFILE, &files);
    ck_assert_int_eq(started, -EMFILE);
    ck_assert_int_eq(watched, -EMFILE);
    run_child_close(&c);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
}
END_TEST

START_TEST(without_another_process_nothing_is_left_behind)
{
    struct run_child c = {.signals = -1};
    char *const argv[] = {(char[]){"/bin/true"}, NULL}, *const envp[] = {NULL};
    int next = dup(STDERR_FILENO), rc;

    close(next);
    no_more_processes = true;
    rc = run_child_start(&c, argv, envp);
    no_more_processes = false;
    ck_assert_int_eq(rc, -EAGAIN);
    ck_assert_int_eq(c.pid, 0); /* it may be sent no signal */
    ck_assert_int_eq(dup(STDERR_FILENO), next);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *c = unit_case(suite, "child");

    tcase_add_test(c, everything_is_given_back);
    tcase_add_test(c, a_signal_before_the_child_is_seen);
    tcase_add_test(c, the_exit_code_is_the_childs);
    tcase_add_test(c, what_cannot_be_started_is_told);
    tcase_add_test(c, without_another_process_nothing_is_left_behind);
}
