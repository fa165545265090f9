/* Starts retryd: command line, configuration, process-wide guards, then the server. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/log.h"
#include "daemon/cli.h"
#include "daemon/server.h"
#include "edge/frontend.h"
#include "edge/upstream.h"

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

static int serve(struct config *config)
{
    int rc =
        log_start(STDERR_FILENO, (enum log_level)config->log.level, config->log.format == LOG_JSON);

    if (rc < 0) {
        fprintf(stderr, "retryd: the log could not be started: %s\n", strerror(-rc));
        config_unref(config);
        return CLI_FAILED;
    }
    rc = server_run(config);
    log_stop();
    log_thread_done();
    return cli_exit_for(rc);
}

static int load_and_serve(const char *path)
{
    struct buf notes;
    struct config *config;
    enum cli_exit rc;

    buf_init(&notes, TEXT_BYTES_MAX);
    config = cli_load(path, &notes, stderr, &rc);
    /* A service's log is no place for what --check says; but a user should see it once. */
    if (config && notes.len > 0)
        fprintf(stderr, "%.*s", (int)notes.len, notes.p);
    buf_deinit(&notes);
    return config ? serve(config) : (int)rc;
}

int main(int argc, char **argv)
{
    const char *const libraries[] = {upstream_version(), frontend_version(), NULL};
    struct cli cli;
    int rc;

    guard_secrets();
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a limit on file sizes is one request's problem */
    rc = (int)cli_parse(argc, argv, &cli, stderr);
    if (rc != CLI_OK)
        return rc;
    if (cli.mode != CLI_RUN)
        return (int)cli_answer(&cli, libraries, stdout, stderr);
    raise_file_limit();
    if (upstream_global_init() < 0) {
        fprintf(stderr, "retryd: libcurl could not be started\n");
        return CLI_FAILED;
    }
    rc = load_and_serve(cli.config);
    upstream_global_deinit();
    return rc;
}
