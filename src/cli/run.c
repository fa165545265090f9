/* `retryd run`: a private retryd on a free port, and a child that uses it. */
#include "cli/cli.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/log.h"
#include "cli/run_private.h"
#include "daemon/birth.h"
#include "daemon/server.h"
#include "edge/fetch.h"
#include "worker/metrics.h"

#define ADDED_MAX 32 /* --env */
#define TEXT_MAX (64 * 1024)
#define URL_MAX 1024
#define TOKEN_BYTES 24

#define NOT_FOUND 127
#define NOT_EXECUTABLE 126

const char run_help[] =
    "  -c, --config FILE      read the configuration from FILE\n"
    "      --env NAME[=/PATH] set the variable NAME too, to retryd's address and PATH (/v1)\n"
    "      --hide-key         give the child a token instead of the API keys; the keys stay in "
    "retryd\n"
    "      --log FILE         append retryd's log to FILE; - is standard error\n"
    "\n"
    "The child gets OPENAI_BASE_URL, OPENAI_API_BASE, ANTHROPIC_BASE_URL, ANTHROPIC_API_BASE and\n"
    "GOOGLE_GEMINI_BASE_URL. Terminal, signals, job control and exit code are as without retryd.\n"
    "Requests go where these variables led before, or else to the APIs themselves; an upstream in "
    "the\n"
    "configuration file prevails. At the end retryd says on standard error what it rode out, if "
    "anything.\n"
    "\n"
    "Exit codes: the command's own; 127 if it is not found, 126 if it cannot be executed, 125 if "
    "retryd\n"
    "itself cannot start.\n";

struct options {
    const char *config, *log;
    const char *added[ADDED_MAX];
    unsigned added_count;
    bool config_given; /* by -c; else `config` is the user's file, or NULL */
    bool hide_key;
    char **argv; /* the command */
    int argc;
};

struct session {
    struct options options;
    struct config *config; /* the server has its own reference */
    struct run_env env;
    struct run_child child;
    struct server *server;
    char token[64]; /* "": keys are not hidden */
    int failed;     /* the exit code if the child was not started; 0: it was */
    struct metrics_sum sum;
};

/* --- the command line ------------------------------------------------------------------------- */

static int complain(const char *what, const char *which)
{
    (void)cli_complain(stderr, what, which);
    return RUN_FAILED;
}

/* Whether the text is "NAME" or "NAME=/path". */
static bool is_addition(const char *text)
{
    size_t n = strcspn(text, "=");

    if (n == 0 || n >= 256 || isdigit((unsigned char)text[0]))
        return false;
    for (size_t i = 0; i < n; i++)
        if (text[i] != '_' && !isalnum((unsigned char)text[i]))
            return false;
    return text[n] == '\0' || text[n + 1] == '/' || text[n + 1] == '\0';
}

static int take_option(int option, char **argv, struct options *o)
{
    const char *value = optarg ? optarg : "";

    /* An option is no value, as in "--log -- CMD". */
    if (value[0] == '-' && value[1])
        return complain("run: an option needs a value, not", value);
    switch (option) {
    case 'c':
        if (o->config_given)
            return complain("-c was given twice; expected one file", "");
        if (!value[0])
            return complain("-c needs a file name", "");
        o->config = value;
        o->config_given = true;
        return 0;
    case 'l':
        o->log = value;
        return 0;
    case 'k':
        o->hide_key = true;
        return 0;
    case 'e':
        if (!is_addition(value) || o->added_count == ADDED_MAX)
            return complain("--env expects NAME or NAME=/PATH, not", value);
        o->added[o->added_count++] = value;
        return 0;
    case ':':
        return complain("run: this option needs a value:", argv[optind - 1]);
    default:
        return complain("run: unknown option", argv[optind - 1]);
    }
}

static int parse(const struct cli *cli, struct options *o)
{
    static const struct option known[] = {
        {"config", required_argument, NULL, 'c'},
        {"env", required_argument, NULL, 'e'},
        {"hide-key", no_argument, NULL, 'k'},
        {"log", required_argument, NULL, 'l'},
        {NULL, 0, NULL, 0},
    };
    int option, rc;

    *o = (struct options){.config = cli->config,
                          .config_given = cli->config && cli->config != cli_user_config()};
    optind = 0;
    opterr = 0;
    while ((option = getopt_long(cli->argc, cli->argv, "+:c:", known, NULL)) != -1) {
        rc = take_option(option, cli->argv, o);
        if (rc)
            return rc;
    }
    o->argv = cli->argv + optind;
    o->argc = cli->argc - optind;
    return o->argc > 0 ? 0 : complain("run needs a command: retryd run -- CMD [ARGUMENT ...]", "");
}

/* --- the child's environment and arguments ---------------------------------------------------- */

static void add_variables(struct session *r, const char *address)
{
    for (unsigned i = 0; i < r->options.added_count; i++) {
        const char *text = r->options.added[i], *equals = strchr(text, '=');
        char name[256], url[URL_MAX];

        snprintf(name, sizeof(name), "%.*s", (int)strcspn(text, "="), text);
        snprintf(url, sizeof(url), "http://%s%s", address, equals ? equals + 1 : "/v1");
        run_env_set(&r->env, name, url);
    }
}

#define CODEX_ARGS 4

/* Codex reads no variable, only its configuration, which it also takes from the command line. With
 * a login instead of a key it uses another address. */
static char **codex_arguments(struct session *r, const char *address)
{
    static char choice[] = "-c", provider[] = "model_provider=\"retryd\"";
    static char text[URL_MAX];
    char **argv = calloc((size_t)r->options.argc + CODEX_ARGS + 1, sizeof(*argv));

    if (!argv)
        return NULL;
    snprintf(text, sizeof(text),
             "model_providers.retryd={name=\"OpenAI through retryd\",base_url=\"http://%s/v1\","
             "env_key=\"OPENAI_API_KEY\",wire_api=\"responses\",request_max_retries=0,"
             "stream_max_retries=0}",
             address);
    argv[0] = r->options.argv[0];
    argv[1] = argv[3] = choice;
    argv[2] = provider;
    argv[4] = text;
    memcpy(argv + 1 + CODEX_ARGS, r->options.argv + 1,
           (size_t)r->options.argc * sizeof(*argv)); /* with the NULL at the end */
    return argv;
}

/* Handles programs that read no variable: adds the arguments that they need, or tells the user what
 * to set. The caller frees the arguments. */
static char **arguments(struct session *r, const char *address)
{
    const char *slash = strrchr(r->options.argv[0], '/');
    const char *name = slash ? slash + 1 : r->options.argv[0];
    char **argv;

    if (!strcmp(name, "codex") && run_env_get(&r->env, "OPENAI_API_KEY"))
        return codex_arguments(r, address);
    if (!strcmp(name, "codex"))
        fprintf(stderr, "retryd: codex uses its login, which does not lead through retryd; set "
                        "OPENAI_API_KEY to use a key\n");
    if (!strcmp(name, "opencode"))
        fprintf(stderr, "retryd: opencode reads its base URL from opencode.json; set baseURL to "
                        "{env:OPENAI_BASE_URL} there\n");
    argv = calloc((size_t)r->options.argc + 1, sizeof(*argv));
    if (argv)
        memcpy(argv, r->options.argv, (size_t)r->options.argc * sizeof(*argv));
    return argv;
}

/* --- hidden keys ------------------------------------------------------------------------------ */

static int make_token(char *out, size_t size)
{
    static const char digits[] = "0123456789abcdef";
    unsigned char bytes[TOKEN_BYTES];
    size_t n = (size_t)snprintf(out, size, "sk-retryd-");

    if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
        return -EIO;
    for (size_t i = 0; i < sizeof(bytes) && n + 2 < size; i++) {
        out[n++] = digits[bytes[i] >> 4];
        out[n++] = digits[bytes[i] & 15];
    }
    out[n] = '\0';
    return 0;
}

static int hide_keys(struct session *r)
{
    if (make_token(r->token, sizeof(r->token)) < 0 ||
        config_give_client_token(r->config, STR("run"), str_from(r->token)) < 0) {
        fputs("retryd: --hide-key: cannot make a token\n", stderr);
        return RUN_FAILED;
    }
    if (run_api_hide(r->config, r->token, &r->env) > 0)
        return 0;
    fputs("retryd: --hide-key: there is no key to hide; expected OPENAI_API_KEY, "
          "ANTHROPIC_API_KEY or GEMINI_API_KEY, or api_key_file in the configuration\n",
          stderr);
    return RUN_FAILED;
}

/* --- the server's host ------------------------------------------------------------------------ */

static void on_child_end(void *ctx)
{
    server_end(((struct session *)ctx)->server);
}

/* Reports the reason as a shell would, with the shell's exit code. */
static void tell_not_started(struct session *r, int error)
{
    fprintf(stderr, "retryd: cannot run %s: %s\n", r->options.argv[0], strerror(error));
    r->failed = error == ENOENT ? NOT_FOUND
                : error == ENOMEM || error == EAGAIN || error == EMFILE || error == ENFILE
                    ? RUN_FAILED
                    : NOT_EXECUTABLE;
}

static int ready(void *ctx, struct server *s, uv_loop_t *loop, const char *address)
{
    struct session *r = ctx;
    char **argv;
    int rc;

    r->server = s;
    run_api_lead(r->config, address, &r->env);
    add_variables(r, address);
    run_api_tell_others(r->config, address, &r->env);
    argv = arguments(r, address);
    rc = argv && !r->env.failed ? run_child_watch(&r->child, loop) : -ENOMEM;
    if (rc == 0 && run_child_interrupted())
        rc = -EINTR;
    if (rc == 0)
        rc = run_child_start(&r->child, argv, r->env.items);
    free(argv);
    if (rc < 0 && rc != -EINTR)
        tell_not_started(r, -rc);
    if (rc == 0 && !r->options.log)
        log_configure(LOG_OFF, false);
    return rc;
}

static void close_host(void *ctx)
{
    run_child_close(&((struct session *)ctx)->child);
}

static void over(void *ctx, const struct metrics_sum *sum)
{
    ((struct session *)ctx)->sum = *sum;
}

/* --- running ---------------------------------------------------------------------------------- */

static const char *plural(uint64_t n)
{
    return n == 1 ? "" : "s";
}

/* Writes the sums that the child has not seen, or nothing if no failure was ridden out. */
static void tell_sum(const struct metrics_sum *s)
{
    if (s->rescued > 0)
        fprintf(stderr,
                "retryd: rode out failures of %llu of %llu request%s: %llu failed attempt%s, "
                "%.1f s of waiting\n",
                (unsigned long long)s->rescued, (unsigned long long)s->requests,
                plural(s->requests), (unsigned long long)s->failures, plural(s->failures),
                (double)s->wait_ms / 1000);
    else if (s->wait_ms > 0 && s->retries == 0)
        fprintf(stderr, "retryd: held requests back for %.1f s in all\n",
                (double)s->wait_ms / 1000);
    if (s->failed > 0 && s->retries > 0)
        fprintf(stderr, "retryd: %llu request%s failed for good\n", (unsigned long long)s->failed,
                plural(s->failed));
}

/* Without --log, only errors that keep retryd from starting are shown. */
static int open_log(const char *name)
{
    int fd;

    if (!name || !strcmp(name, "-"))
        return STDERR_FILENO;
    fd = open(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0600);
    if (fd < 0)
        fprintf(stderr, "retryd: cannot write the log to %s: %s\n", name, strerror(errno));
    return fd;
}

/* Removes systemd's variables from this process; the child keeps them. */
static void leave_systemd(void)
{
    static const char *const names[] = {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID",
                                        "LISTEN_FDS",    "LISTEN_PID",    "LISTEN_FDNAMES"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        unsetenv(names[i]);
}

/* Serves until the child has ended. Returns the exit code if there was no child. */
static int serve(struct session *r)
{
    struct server_host host = {.ready = ready, .close = close_host, .over = over, .ctx = r};
    const struct config_log *log = &r->config->log;
    struct run_child ended_by = {.status = 0}; /* a signal, in waitpid's form */
    int fd = open_log(r->options.log), rc;

    if (fd < 0)
        return RUN_FAILED;
    run_child_block();
    log_use_terminal(fd, log->format == LOG_AUTO, log->format == LOG_PRETTY);
    rc = log_start(fd, r->options.log ? (enum log_level)log->level : LOG_ERROR,
                   log->format == LOG_JSON);
    if (rc == 0 && fetch_global_init() < 0)
        rc = -EIO;
    if (rc == 0) {
        rc = server_run(config_ref(r->config), &host, NULL);
        fetch_global_deinit();
    }
    log_stop();
    if (fd != STDERR_FILENO)
        close(fd);
    if (rc == -EINTR)
        ended_by.status = run_child_interrupted();
    if (ended_by.status)
        (void)run_child_pass_on(&ended_by);
    if (rc < 0 && !r->failed)
        fprintf(stderr, "retryd: cannot start: %s\n", strerror(-rc));
    return rc == 0 ? 0 : r->failed ? r->failed : RUN_FAILED;
}

static int load(struct session *r)
{
    struct buf problems, remarks;
    int rc = 0;

    buf_init(&problems, TEXT_MAX);
    buf_init(&remarks, TEXT_MAX);
    r->config = run_api_load(r->options.config, &r->env, r->options.hide_key, &problems, &remarks);
    if (!r->config)
        fprintf(stderr, "%.*s", (int)problems.len, problems.len ? problems.p : "");
    else
        fprintf(stderr, "%.*s", (int)remarks.len, remarks.len ? remarks.p : "");
    if (!r->config)
        rc = RUN_FAILED;
    else if (r->options.hide_key)
        rc = hide_keys(r);
    buf_deinit(&problems);
    buf_deinit(&remarks);
    return rc;
}

int run(const struct cli *cli, FILE *out, FILE *err)
{
    struct session r = {.child = {.signals = -1, .on_end = on_child_end}};
    int rc;

    (void)out;
    (void)err; /* the child's terminal must not wait for messages here */
    rc = parse(cli, &r.options);
    if (rc)
        return rc;
    r.child.ctx = &r;
    run_env_init(&r.env);
    leave_systemd();
    birth_raise_files();
    rc = load(&r);
    if (rc == 0)
        rc = serve(&r);
    config_unref(r.config);
    run_env_deinit(&r.env);
    log_thread_done();
    if (rc)
        return rc;
    tell_sum(&r.sum);
    return run_child_pass_on(&r.child);
}
