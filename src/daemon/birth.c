/* Notes the state that the process was started with, and gives it back to a child. */
#include "daemon/birth.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/str.h"

#define DESCRIPTORS_MAX 256 /* noted; no program is started with more */

static struct {
    sigset_t mask, ignored;
    struct rlimit files, core;
    bool terminal;                    /* it had a controlling terminal */
    bool closed[STDERR_FILENO + 1];   /* of the standard descriptors */
    unsigned others[DESCRIPTORS_MAX]; /* open ones above them, in rising order */
    unsigned count;
} birth;

static int by_number(const void *a, const void *b)
{
    const unsigned *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

static void note_descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    struct dirent *entry;
    uint64_t fd;

    for (int i = 0; i <= STDERR_FILENO; i++)
        birth.closed[i] = (folder && i == dirfd(folder)) || fcntl(i, F_GETFD) < 0;
    while (folder && (entry = readdir(folder)) && birth.count < DESCRIPTORS_MAX)
        if (str_to_u64(str_from(entry->d_name), &fd) && fd > STDERR_FILENO && fd < INT_MAX &&
            (int)fd != dirfd(folder))
            birth.others[birth.count++] = (unsigned)fd;
    if (folder)
        closedir(folder);
    qsort(birth.others, birth.count, sizeof(birth.others[0]), by_number);
}

static bool has_terminal(void)
{
    int fd = open("/dev/tty", O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);

    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

bool birth_terminal_gone(void)
{
    return birth.terminal && sigismember(&birth.ignored, SIGHUP) == 0 && !has_terminal();
}

void birth_remember(void)
{
    struct sigaction now;

    sigprocmask(SIG_SETMASK, NULL, &birth.mask);
    sigemptyset(&birth.ignored);
    for (int n = 1; n < NSIG; n++)
        if (sigaction(n, NULL, &now) == 0 && now.sa_handler == SIG_IGN)
            sigaddset(&birth.ignored, n);
    birth.terminal = has_terminal();
    getrlimit(RLIMIT_NOFILE, &birth.files);
    getrlimit(RLIMIT_CORE, &birth.core);
    note_descriptors();
}

void birth_raise_files(void)
{
    struct rlimit files = birth.files;

    if (files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
}

static void give_back_descriptors(void)
{
    unsigned from = STDERR_FILENO + 1;

    for (unsigned i = 0; i < birth.count; i++) {
        if (birth.others[i] > from)
            (void)close_range(from, birth.others[i] - 1, CLOSE_RANGE_CLOEXEC);
        from = birth.others[i] + 1;
    }
    (void)close_range(from, ~0U, CLOSE_RANGE_CLOEXEC);
    for (int i = 0; i <= STDERR_FILENO; i++)
        if (birth.closed[i])
            close(i);
}

void birth_give_back(void)
{
    give_back_descriptors();
    setrlimit(RLIMIT_NOFILE, &birth.files);
    setrlimit(RLIMIT_CORE, &birth.core);
    for (int n = 1; n < NSIG; n++) {
        struct sigaction start = {.sa_handler =
                                      sigismember(&birth.ignored, n) == 1 ? SIG_IGN : SIG_DFL};

        (void)sigaction(n, &start, NULL); /* fails for SIGKILL, SIGSTOP and those of the library */
    }
    sigprocmask(SIG_SETMASK, &birth.mask, NULL);
}
