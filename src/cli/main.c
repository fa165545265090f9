/* Starts retryd: command line, configuration, process-wide guards, then the server. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#ifdef RETRYD_MIMALLOC
#include <mimalloc.h>
#endif

#include "base/log.h"
#include "cli/cli.h"
#include "daemon/birth.h"
#include "daemon/server.h"
#include "edge/fetch.h"
#include "edge/frontend.h"

#define TEXT_BYTES_MAX (64 * 1024)

/* The memory of this process holds keys: it allows no core file and no reading by other processes
 * of the same user (C31). A child of `retryd run` gets the hard limit back, so only the daemon
 * lowers that too. */
static void guard_secrets(bool for_good)
{
    struct rlimit core = {0, 0};

    if (!for_good)
        (void)getrlimit(RLIMIT_CORE, &core);
    core.rlim_cur = 0;
    (void)setrlimit(RLIMIT_CORE, &core);
    (void)prctl(PR_SET_DUMPABLE, 0);
}

/* mimalloc keeps memory that is free for some milliseconds before it returns it to the kernel, and
 * returns it only when more is freed. After many requests came at once, an open stream took up to
 * 5 KiB more for that, for good. MIMALLOC_PURGE_DELAY (MIMALLOC_DECOMMIT_DELAY before 2.1) in the
 * environment still decides. */
static void return_memory_at_once(void)
{
#ifdef RETRYD_MIMALLOC
#if MI_MALLOC_VERSION >= 210
    mi_option_set_default(mi_option_purge_delay, 0);
#else
    mi_option_set_default(mi_option_decommit_delay, 0);
#endif
#endif
}

/* Writes text as it is, for a terminal, or for the journal with a priority before each line. */
static void print_text(enum log_level level, struct str text)
{
    while (text.n > 0) {
        const char *end = memchr(text.p, '\n', text.n);
        size_t n = end ? (size_t)(end - text.p) : text.n, used = end ? n + 1 : n;

        fprintf(stderr, "%s%.*s\n", log_priority(level), (int)n, text.p);
        text = str_after(text, used);
    }
}

/* A log in JSON must contain nothing but JSON. */
static void print_lines(bool json, enum log_level level, const struct buf *text)
{
    struct str rest = buf_str(text), line;

    if (!json) {
        print_text(level, rest);
        return;
    }
    log_configure(LOG_INFO, true);
    while (str_next(&rest, '\n', &line))
        if (line.n > 0)
            log_line(level, "%.*s", (int)line.n, line.p);
}

static void print_error(bool json, const char *text)
{
    struct buf line;

    buf_init(&line, TEXT_BYTES_MAX);
    buf_printf(&line, "retryd: %s\n", text);
    print_lines(json, LOG_ERROR, &line);
    buf_deinit(&line);
}

/* Writes the address for programs on this machine: "http://HOST:PORT", or the socket's path. */
static void name_for_clients(const char *address, char *out, size_t size)
{
    static const char *const every[][2] = {{"0.0.0.0:", "127.0.0.1:"}, {"[::]:", "[::1]:"}};

    if (!strncmp(address, "unix:", 5)) {
        snprintf(out, size, "the Unix socket %s", address + 5);
        return;
    }
    snprintf(out, size, "http://%s", address);
    for (size_t i = 0; i < sizeof(every) / sizeof(every[0]); i++)
        if (!strncmp(address, every[i][0], strlen(every[i][0])))
            snprintf(out, size, "http://%s%s", every[i][1], address + strlen(every[i][0]));
}

/* Explains retryd to a person who starts it in a terminal. */
static void print_greeting(const struct config *c, const char *address, const char *admin)
{
    char url[160], pages[160], name[PATH_MAX];
    bool web = strncmp(address, "unix:", 5) != 0;

    name_for_clients(address, url, sizeof(url));
    name_for_clients(admin, pages, sizeof(pages));
    cli_name_config(c->path, name, sizeof(name));
    fprintf(stderr,
            "retryd retries requests to the OpenAI API, and to compatible APIs, when a retry can "
            "help.\n"
            "  listens on   %s%s, and forwards to %s\n"
            "  set          %s%s%s\n"
            "  look at      %s%s; one command alone: retryd run -- CMD\n"
            "  reads        %s; Ctrl-C ends it\n",
            web ? "http://" : "", address, c->upstreams[0].url,
            web ? "export OPENAI_BASE_URL=" : "in the client: ", url, web ? "/v1" : ", path /v1",
            !strcmp(admin, "off") ? "this log" : "this log, and ",
            !strcmp(admin, "off") ? "" : pages, name);
}

static int serve(struct config *config, bool json)
{
    char name[PATH_MAX];
    int rc;

    log_use_terminal(STDERR_FILENO, config->log.format == LOG_AUTO,
                     config->log.format == LOG_PRETTY);
    rc =
        log_start(STDERR_FILENO, (enum log_level)config->log.level, config->log.format == LOG_JSON);
    if (rc < 0) {
        char text[128];

        snprintf(text, sizeof(text), "cannot start the log: %s", strerror(-rc));
        print_error(json, text);
        config_unref(config);
        return EXIT_FAILED;
    }
    cli_name_config(config->path, name, sizeof(name));
    if (!log_is_pretty()) /* the greeting contains this line */
        log_line(LOG_INFO, "configuration: %s", name);
    rc = server_run(config, NULL, log_is_pretty() ? print_greeting : NULL);
    log_stop();
    return exit_for(rc);
}

/* Collects messages about problems, to be printed line by line. NULL if out of memory. */
static FILE *open_problems(struct buf *problems)
{
    buf_init(problems, TEXT_BYTES_MAX);
    return open_memstream(&problems->p, &problems->len);
}

static void print_problems(FILE *stream, bool json, struct buf *problems)
{
    if (stream)
        fclose(stream);
    print_lines(json, LOG_ERROR, problems);
    buf_deinit(problems);
}

static int load_and_serve(const char *path)
{
    struct buf notes, problems;
    struct config *config;
    enum exit_code rc;
    FILE *stream;
    bool json;

    buf_init(&notes, TEXT_BYTES_MAX);
    stream = open_problems(&problems);
    config = cli_load(path, &notes, stream ? stream : stderr, &rc);
    json = config ? config->log.format == LOG_JSON : config_wants_json(path);
    /* --check prints the same notes; a user should see them once. */
    if (config)
        print_lines(json, LOG_WARN, &notes);
    print_problems(stream, json, &problems);
    buf_deinit(&notes);
    if (config && fetch_global_init() < 0) {
        print_error(json, "cannot start libcurl");
        config_unref(config);
        return EXIT_FAILED;
    }
    if (config) {
        rc = (enum exit_code)serve(config, json);
        fetch_global_deinit();
    }
    log_thread_done();
    return (int)rc;
}

/* Opens missing standard descriptors. Otherwise the next file or socket would get the one of
 * standard error, and messages would be written there. */
static void fill_descriptors(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDWR); /* gets the lowest free descriptor */
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

/* SIGUSR1 and SIGUSR2 must not end the daemon. SIGHUP, SIGTERM and SIGINT wait until the server can
 * handle them: as process 1 of a container, retryd would miss one that comes earlier. */
static void settle_signals(void)
{
    sigset_t set;

    signal(SIGUSR1, SIG_IGN);
    signal(SIGUSR2, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
}

/* --log sets the variable of [log] format, so that a reload keeps it too. */
static bool set_format(const char *format)
{
    unsetenv("RETRYD_LOG_FORMAT_FILE");
    return setenv("RETRYD_LOG_FORMAT", format, 1) == 0;
}

int main(int argc, char **argv)
{
    const char *const libraries[] = {fetch_version(), frontend_version(), NULL};
    struct buf problems;
    struct cli cli;
    FILE *stream;
    int rc;

    birth_remember();
    fill_descriptors();
    log_find_journal(STDERR_FILENO);
    guard_secrets(false);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file-size limit fails one request, not the daemon */
    stream = open_problems(&problems);
    rc = (int)cli_parse(argc, argv, &cli, stream ? stream : stderr);
    if (rc == EXIT_OK && !cli.config)
        cli.config = cli_user_config();
    if (rc == EXIT_OK && cli.mode != CLI_SERVE)
        rc = cli_run_mode(&cli, libraries, stdout, stream ? stream : stderr);
    print_problems(stream, false, &problems);
    if (rc != EXIT_OK || cli.mode != CLI_SERVE)
        return rc;
    if (cli.log && !set_format(cli.log))
        return EXIT_FAILED;
    guard_secrets(true);
    settle_signals();
    birth_raise_files();
    return_memory_at_once();
    return load_and_serve(cli.config);
}
