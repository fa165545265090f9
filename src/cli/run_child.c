/* Starts the child of `retryd run`, relays signals to it, and stops and ends like the child. */
#include "cli/run_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/birth.h"

#define NUMBERS_MAX 65

/* SIGCONT comes before SIGCHLD: see on_signals. */
static const int relayed[] = {SIGCONT, SIGHUP,  SIGINT,  SIGQUIT,  SIGTERM, SIGUSR1,
                              SIGUSR2, SIGALRM, SIGTSTP, SIGWINCH, SIGTTIN, SIGTTOU};
#define RELAYED (sizeof(relayed) / sizeof(relayed[0]))

static bool would_end(int number)
{
    return number == SIGINT || number == SIGTERM || number == SIGHUP || number == SIGQUIT;
}

static void fill(sigset_t *set)
{
    sigemptyset(set);
    for (size_t i = 0; i < RELAYED; i++)
        sigaddset(set, relayed[i]);
    sigaddset(set, SIGCHLD);
}

void run_child_block(void)
{
    sigset_t set;

    /* Inherited SIG_IGN would make the kernel reap the child. */
    signal(SIGCHLD, SIG_DFL);
    fill(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

int run_child_interrupted(void)
{
    sigset_t set;

    if (sigpending(&set) == 0)
        for (size_t i = 0; i < RELAYED; i++)
            if (would_end(relayed[i]) && sigismember(&set, relayed[i]) == 1)
                return relayed[i];
    return 0;
}

/* --- starting --------------------------------------------------------------------------------- */

/* Between fork and exec, in a copy of one thread only: nothing here may allocate or lock. */
static _Noreturn void become(char *const *argv, char *const *envp, pid_t parent, int report)
{
    int error;

    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) /* the parent died before the line above */
        _exit(127);
    birth_give_back();
    execvpe(argv[0], argv, envp);
    error = errno;
    (void)!write(report, &error, sizeof(error));
    _exit(127);
}

int run_child_start(struct run_child *c, char *const *argv, char *const *envp)
{
    pid_t parent = getpid();
    int report[2], error = 0;
    ssize_t n;

    if (pipe2(report, O_CLOEXEC) < 0)
        return -errno;
    c->pid = fork();
    if (c->pid < 0) {
        error = errno;
        c->pid = 0;
        close(report[0]);
        close(report[1]);
        return -error;
    }
    if (c->pid == 0)
        become(argv, envp, parent, report[1]);
    close(report[1]);
    do
        n = read(report[0], &error, sizeof(error));
    while (n < 0 && errno == EINTR);
    close(report[0]);
    if (n != (ssize_t)sizeof(error))
        return 0; /* exec has closed the pipe */
    (void)waitpid(c->pid, &c->status, 0);
    c->pid = 0;
    return -error;
}

/* --- while it runs ---------------------------------------------------------------------------- */

/* Stops with the child's signal. In a process group that no shell controls, the kernel ignores the
 * terminal's stop signals, and retryd continues. */
static void stop_too(int number)
{
    sigset_t set;

    if (number != SIGSTOP)
        signal(number, SIG_DFL);
    sigemptyset(&set);
    sigaddset(&set, number);
    raise(number);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL); /* the process stops here */
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

static void look(struct run_child *c)
{
    int status;

    while (!c->ended && waitpid(c->pid, &status, WNOHANG | WUNTRACED) == c->pid) {
        if (WIFSTOPPED(status)) {
            stop_too(WSTOPSIG(status));
            continue;
        }
        c->status = status;
        c->ended = true;
        c->on_end(c->ctx);
    }
}

/* Relays a signal. One from the kernel comes from the terminal, which has sent it to the whole
 * group. One that the child sends to its group has reached it, too. */
static void relay(struct run_child *c, const struct signalfd_siginfo *info)
{
    int number = (int)info->ssi_signo;

    if (c->ended && would_end(number))
        c->on_end(c->ctx);
    else if (!c->ended && info->ssi_code <= 0 && (pid_t)info->ssi_pid != c->pid)
        (void)kill(c->pid, number);
}

/* All pending signals are read first: after `fg`, SIGCONT must reach the child before the news of
 * its earlier stop makes retryd stop again. */
static void on_signals(uv_poll_t *poll, int status, int events)
{
    struct run_child *c = poll->data;
    struct signalfd_siginfo info, got[NUMBERS_MAX];
    bool has[NUMBERS_MAX] = {false};

    (void)status;
    (void)events;
    while (read(c->signals, &info, sizeof(info)) == (ssize_t)sizeof(info))
        if (info.ssi_signo < NUMBERS_MAX) {
            got[info.ssi_signo] = info;
            has[info.ssi_signo] = true;
        }
    for (size_t i = 0; i < RELAYED; i++)
        if (has[relayed[i]])
            relay(c, &got[relayed[i]]);
    if (has[SIGCHLD])
        look(c);
}

int run_child_watch(struct run_child *c, uv_loop_t *loop)
{
    sigset_t set;
    int rc;

    fill(&set);
    c->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (c->signals < 0)
        return -errno;
    rc = uv_poll_init(loop, &c->poll, c->signals);
    if (rc < 0)
        return rc;
    c->poll.data = c;
    c->polling = true;
    return uv_poll_start(&c->poll, UV_READABLE, on_signals);
}

void run_child_close(struct run_child *c)
{
    if (c->polling)
        uv_close((uv_handle_t *)&c->poll, NULL);
    c->polling = false;
    if (c->signals >= 0)
        close(c->signals);
    c->signals = -1;
}

/* --- the end ---------------------------------------------------------------------------------- */

int run_child_pass_on(const struct run_child *c)
{
    struct rlimit none = {0, 0};
    sigset_t set;
    int number;

    if (!WIFSIGNALED(c->status))
        return WEXITSTATUS(c->status);
    number = WTERMSIG(c->status);
    (void)setrlimit(RLIMIT_CORE, &none); /* the child has dumped its own core */
    signal(number, SIG_DFL);
    raise(number);
    sigemptyset(&set);
    sigaddset(&set, number);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    return 128 + number;
}
