/* Starts retryd: command line, configuration, process-wide guards, then the server. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/log.h"
#include "daemon/cli.h"
#include "daemon/server.h"
#include "edge/fetch.h"
#include "edge/frontend.h"

#define TEXT_BYTES_MAX (64 * 1024)

/* Keys live in this process's memory: no core file, no reading by others of the same user (C31). */
static void guard_secrets(void)
{
    struct rlimit none = {0, 0};

    (void)setrlimit(RLIMIT_CORE, &none);
    (void)prctl(PR_SET_DUMPABLE, 0);
}

/* Every connection has two ends here: use all the descriptors that we may have. */
static void raise_file_limit(void)
{
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
}

/* As it stands: a person at a terminal reads it, or the journal, which is told how bad it is. */
static void say_text(enum log_level level, struct str text)
{
    while (text.n > 0) {
        const char *end = memchr(text.p, '\n', text.n);
        size_t n = end ? (size_t)(end - text.p) : text.n, used = end ? n + 1 : n;

        fprintf(stderr, "%s%.*s\n", log_priority(level), (int)n, text.p);
        text = (struct str){text.p + used, text.n - used};
    }
}

/* Whoever reads a log of JSON reads nothing but JSON. */
static void say_lines(bool json, enum log_level level, const struct buf *text)
{
    struct str rest = buf_str(text), line;

    if (!json) {
        say_text(level, rest);
        return;
    }
    log_configure(LOG_INFO, true);
    while (str_next(&rest, '\n', &line))
        if (line.n > 0)
            log_line(level, "%.*s", (int)line.n, line.p);
}

static void say(bool json, const char *text)
{
    struct buf line;

    buf_init(&line, TEXT_BYTES_MAX);
    buf_printf(&line, "retryd: %s\n", text);
    say_lines(json, LOG_ERROR, &line);
    buf_deinit(&line);
}

static int serve(struct config *config, bool json)
{
    int rc =
        log_start(STDERR_FILENO, (enum log_level)config->log.level, config->log.format == LOG_JSON);

    if (rc < 0) {
        char text[128];

        snprintf(text, sizeof(text), "the log could not be started: %s", strerror(-rc));
        say(json, text);
        config_unref(config);
        return CLI_FAILED;
    }
    rc = server_run(config);
    log_stop();
    return cli_exit_for(rc);
}

/* What is said of problems is collected, to be told line by line. NULL when out of memory. */
static FILE *listen_to(struct buf *problems)
{
    buf_init(problems, TEXT_BYTES_MAX);
    return open_memstream(&problems->p, &problems->len);
}

static void tell_heard(FILE *told, bool json, struct buf *problems)
{
    if (told)
        fclose(told);
    say_lines(json, LOG_ERROR, problems);
    buf_deinit(problems);
}

static int load_and_serve(const char *path)
{
    struct buf notes, problems;
    struct config *config;
    enum cli_exit rc;
    FILE *told;
    bool json;

    buf_init(&notes, TEXT_BYTES_MAX);
    told = listen_to(&problems);
    config = cli_load(path, &notes, told ? told : stderr, &rc);
    json = config ? config->log.format == LOG_JSON : config_wants_json(path);
    /* A service's log is no place for what --check says; but a user should see it once. */
    if (config)
        say_lines(json, LOG_WARN, &notes);
    tell_heard(told, json, &problems);
    buf_deinit(&notes);
    if (config && fetch_global_init() < 0) {
        say(json, "libcurl could not be started");
        config_unref(config);
        return CLI_FAILED;
    }
    if (config) {
        rc = (enum cli_exit)serve(config, json);
        fetch_global_deinit();
    }
    log_thread_done();
    return (int)rc;
}

/* A descriptor that was closed would be given to the next file or socket, and what is written to standard
 * error would go there. */
static void fill_descriptors(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDWR); /* the lowest that is free */
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

/* No signal but those that are meant for it ends the daemon: SIGUSR1 and SIGUSR2 mean nothing here, and
 * a SIGHUP waits until the server can take it. */
static void settle_signals(void)
{
    sigset_t set;

    signal(SIGUSR1, SIG_IGN);
    signal(SIGUSR2, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
}

int main(int argc, char **argv)
{
    const char *const libraries[] = {fetch_version(), frontend_version(), NULL};
    struct buf problems;
    struct cli cli;
    FILE *told;
    int rc;

    fill_descriptors();
    log_find_journal(STDERR_FILENO);
    guard_secrets();
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a limit on file sizes is one request's problem */
    told = listen_to(&problems);
    rc = (int)cli_parse(argc, argv, &cli, told ? told : stderr);
    if (rc == CLI_OK && cli.mode != CLI_RUN)
        rc = (int)cli_answer(&cli, libraries, stdout, told ? told : stderr);
    tell_heard(told, false, &problems);
    if (rc != CLI_OK || cli.mode != CLI_RUN)
        return rc;
    settle_signals();
    raise_file_limit();
    return load_and_serve(cli.config);
}
