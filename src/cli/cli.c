/* Parses the command line, and runs all commands but the server. */
#include "cli/cli.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/str.h"

#define TEXT_MAX (1024 * 1024)

static const char usage_begin[] =
    "Usage: retryd [-c FILE] [--log FORMAT | --check | --dump-config | --health | --ready]\n"
    "       retryd --help | --manual | --version\n";

static const char usage_options[] =
    "\n"
    "Forwards requests from OpenAI clients, and retries those that fail for a temporary reason.\n"
    "Point a client at http://127.0.0.1:4290/v1, for example with OPENAI_BASE_URL.\n"
    "\n"
    "  -c, --config FILE  read the configuration from FILE; without it from\n"
    "                     ~/.config/retryd/retryd.conf, or else the defaults below apply\n"
    "      --log FORMAT   log as auto, pretty, logfmt or json, whatever [log] format is\n"
    "      --check        print every problem in the configuration, or that it is ok\n"
    "      --dump-config  print the configuration in force, with secrets masked\n"
    "      --health       ask a running retryd whether it is healthy; exits with 0 or 1\n"
    "      --ready        ask whether it is ready for requests; exits with 0 or 1\n"
    "      --manual       print the manual page retryd.conf(5), for man -l -\n"
    "      --version      print the version\n"
    "  -h, --help         print this help\n"
    "\n"
    "Commands; retryd COMMAND --help describes one:\n";

static const char usage_end[] =
    "\n"
    "Signals: after SIGTERM retryd finishes the requests in flight and ends; a second SIGTERM ends "
    "it\n"
    "at once. SIGHUP makes it read its configuration again.\n"
    "\n"
    "Exit codes:\n"
    "  0  success                             4  an address to listen on is in use\n"
    "  1  failed; not healthy; not ready      5  no permission for an address or a file\n"
    "  2  the command line is wrong           6  a key or a password cannot be loaded\n"
    "  3  the configuration is wrong          7  a route names an unknown upstream\n"
    "After 2, 3, 5, 6 and 7 a person must fix the cause; after 1 and 4 another start may help.\n"
    "\n"
    "The configuration file has sections, and in them lines of the form key = value. A line that\n"
    "starts with # or ; is a comment; so is what follows a space and a ; after a value. A list "
    "may\n"
    "continue on indented lines. Durations: 250ms, 30s, 10m, 2h, 1d. Sizes: 512, 64K, 512M, 2G.\n"
    "All keys with their defaults:\n"
    "\n";

/* --- commands --------------------------------------------------------------------------------- */

/* One row for each command. A new one needs only its row and its function. */
static const struct cli_command commands[] = {
    {"run", "[-c FILE] [--env NAME[=/PATH]]... [--hide-key] [--log FILE] [--] CMD [ARGUMENT ...]",
     "run a command that uses a private retryd", run_help, run},
    {"reload", "[PID]", "make the running retryd, or process PID, read its configuration again",
     "Waits for the result. Exits with 0 if the new configuration is in force. Otherwise it prints "
     "what\nis wrong, exits with the code that --check would return, and the old configuration "
     "stays in\nforce. Without a PID, exactly one retryd that this user may reload has to run.\n",
     cli_reload},
    {"wait", "[--timeout DURATION]", "wait until a running retryd is ready for requests",
     "Asks the address of [admin] listen, of the configuration that -c FILE names, until /readyz "
     "answers\n200. Exits with 0 then, and with 1 when the time is over.\n\n"
     "  --timeout DURATION  time to wait, such as 90s; 0: no limit. The default is 1m.\n",
     cli_wait},
    {"status", "", "show the state of the running retryd on one screen",
     "It asks the admin listener, whose address is in the configuration ([admin] listen; -c names "
     "the\nfile). The same is on the web page of that address.\n",
     cli_status},
    {"top", "", "show the same, updated live; press q to quit",
     "Draws the screen of retryd status anew each second. Without a terminal it prints it once.\n",
     cli_top},
    {"explain", "ID", "show what happened to one request",
     "ID is the id in the log, or its first characters (4 or more). Known are the requests that "
     "are\nbeing ridden out, and the last 200 that failed, were retried or were slow.\n",
     cli_explain},
};
#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static const struct cli_command *find_command(const char *name)
{
    for (size_t i = 0; i < COMMANDS; i++)
        if (!strcmp(commands[i].name, name))
            return &commands[i];
    return NULL;
}

/* --- parsing ---------------------------------------------------------------------------------- */

enum {
    OPTION_CHECK = 256,
    OPTION_LOG,
    OPTION_DUMP,
    OPTION_VERSION,
    OPTION_HEALTH,
    OPTION_READY,
    OPTION_MANUAL
};

static const struct option options[] = {
    {"config", required_argument, NULL, 'c'},       {"log", required_argument, NULL, OPTION_LOG},
    {"check", no_argument, NULL, OPTION_CHECK},     {"dump-config", no_argument, NULL, OPTION_DUMP},
    {"version", no_argument, NULL, OPTION_VERSION}, {"help", no_argument, NULL, 'h'},
    {"health", no_argument, NULL, OPTION_HEALTH},   {"ready", no_argument, NULL, OPTION_READY},
    {"manual", no_argument, NULL, OPTION_MANUAL},   {NULL, 0, NULL, 0},
};

enum exit_code cli_complain(FILE *err, const char *what, const char *which)
{
    char quoted[128];

    /* The command line is not secret, but it may contain control characters. */
    snprintf(quoted, sizeof quoted, "%s", which);
    for (char *p = quoted; *p; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    }
    fprintf(err, "retryd: %s%s%s; see retryd --help\n", what, quoted[0] ? " " : "", quoted);
    return EXIT_USAGE;
}

static enum exit_code set_mode(struct cli *cli, enum cli_mode mode, FILE *err)
{
    if (cli->mode != CLI_SERVE && cli->mode != mode)
        return cli_complain(
            err,
            "only one of --check, --dump-config, --health, --ready, --manual, --version and --help "
            "can be used at a time",
            "");
    cli->mode = mode;
    return EXIT_OK;
}

static enum exit_code set_log(struct cli *cli, const char *format, FILE *err)
{
    static const char *const formats[] = {"auto", "pretty", "logfmt", "json"};

    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++)
        if (!strcmp(formats[i], format))
            cli->log = formats[i];
    return cli->log ? EXIT_OK
                    : cli_complain(err, "--log expects auto, pretty, logfmt or json, not", format);
}

/* getopt stores an unknown short option in optopt. A long one is the argument before optind. */
static enum exit_code unknown_option(char **argv, FILE *err)
{
    char shown[] = {'-', (char)optopt, '\0'};

    return cli_complain(err, "unknown option",
                        optopt != 0 && optopt < OPTION_CHECK ? shown : argv[optind - 1]);
}

static enum exit_code take_option(int option, char **argv, struct cli *cli, FILE *err)
{
    switch (option) {
    case 'c':
        if (cli->config)
            return cli_complain(err, "-c was given twice; expected one file", "");
        if (!optarg[0])
            return cli_complain(err, "-c needs a file name", "");
        cli->config = optarg;
        return EXIT_OK;
    case 'h':
        return set_mode(cli, CLI_HELP, err);
    case OPTION_LOG:
        return set_log(cli, optarg, err);
    case OPTION_CHECK:
        return set_mode(cli, CLI_CHECK, err);
    case OPTION_DUMP:
        return set_mode(cli, CLI_DUMP, err);
    case OPTION_VERSION:
        return set_mode(cli, CLI_VERSION, err);
    case OPTION_HEALTH:
        return set_mode(cli, CLI_HEALTH, err);
    case OPTION_READY:
        return set_mode(cli, CLI_READY, err);
    case OPTION_MANUAL:
        return set_mode(cli, CLI_MANUAL, err);
    case ':':
        return cli_complain(err,
                            optopt == OPTION_LOG ? "--log needs auto, pretty, logfmt or json"
                                                 : "-c needs a file name",
                            "");
    default:
        return unknown_option(argv, err);
    }
}

/* Takes the command and all that follows it, which the command parses itself. Only --help right
 * after its name is the same for all. */
static enum exit_code take_command(int argc, char **argv, struct cli *cli, FILE *err)
{
    cli->command = find_command(argv[0]);
    if (!cli->command)
        return cli_complain(err, "unknown argument", argv[0]);
    if (cli->mode != CLI_SERVE)
        return cli_complain(err, "no option but -c may stand before the command", argv[0]);
    cli->argc = argc;
    cli->argv = argv;
    cli->mode = argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))
                    ? CLI_COMMAND_HELP
                    : CLI_COMMAND;
    return EXIT_OK;
}

enum exit_code cli_parse(int argc, char **argv, struct cli *ret_cli, FILE *err)
{
    struct cli cli = {.mode = CLI_SERVE};
    int option;

    optind = 0; /* restarts glibc's parser */
    opterr = 0;
    while ((option = getopt_long(argc, argv, "+:c:h", options, NULL)) != -1) {
        enum exit_code problem = take_option(option, argv, &cli, err);

        if (problem)
            return problem;
    }
    if (optind < argc) {
        enum exit_code problem = take_command(argc - optind, argv + optind, &cli, err);

        if (problem)
            return problem;
    }
    if (cli.log && cli.mode != CLI_SERVE && cli.mode != CLI_HELP)
        return cli_complain(
            err, "--log FORMAT cannot be used with a command or an option such as --check", "");
    *ret_cli = cli;
    return EXIT_OK;
}

/* --- the configuration file ------------------------------------------------------------------- */

#define SERVICE_CONFIG "/etc/retryd/retryd.conf"

const char *cli_user_config(void)
{
    static char path[PATH_MAX];
    const char *folder = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    int n = -1;

    if (folder && folder[0] == '/') /* relative paths are ignored, as its specification requires */
        n = snprintf(path, sizeof(path), "%s/retryd/retryd.conf", folder);
    else if (home && home[0] == '/')
        n = snprintf(path, sizeof(path), "%s/.config/retryd/retryd.conf", home);
    return n > 0 && (size_t)n < sizeof(path) && access(path, F_OK) == 0 ? path : NULL;
}

void cli_name_config(const char *path, char *ret, size_t size)
{
    const char *own = cli_user_config();
    bool chosen = path && !(own && !strcmp(path, own)); /* by -c */

    snprintf(ret, size, "%s%s", path ? path : "the defaults",
             !chosen && access(SERVICE_CONFIG, F_OK) == 0
                 ? "; " SERVICE_CONFIG " is the service's, and -c would read it"
                 : "");
}

/* --- exit codes ------------------------------------------------------------------------------- */

/* --- running a mode --------------------------------------------------------------------------- */

static void put_buf(const struct buf *b, FILE *out)
{
    if (b->len)
        fwrite(b->p, 1, b->len, out);
}

typedef struct config *(*loader)(const char *path, struct buf *problems, struct buf *notes);

static struct config *load_by(loader by, const char *path, struct buf *notes, FILE *err,
                              enum exit_code *ret_exit)
{
    struct buf problems;
    struct config *c;
    int error;

    buf_init(&problems, TEXT_MAX);
    errno = 0;
    c = by(path, &problems, notes);
    error = errno;
    put_buf(&problems, err);
    buf_deinit(&problems);
    *ret_exit = c ? EXIT_OK : exit_for_load(error);
    return c;
}

struct config *cli_load(const char *path, struct buf *notes, FILE *err, enum exit_code *ret_exit)
{
    return load_by(config_load, path, notes, err, ret_exit);
}

static enum exit_code check(const struct cli *cli, FILE *out, FILE *err)
{
    enum exit_code result;
    struct config *c;
    struct buf notes;

    buf_init(&notes, TEXT_MAX);
    c = load_by(config_examine, cli->config, &notes, err, &result);
    if (c) {
        if (geteuid() == 0 &&
            cli->config != cli_user_config()) /* root's own file is not the service's */
            config_note_access(c, &notes);
        fprintf(out, "%s: ok\n", cli->config ? cli->config : "defaults");
        config_note_variables(c, out);
        put_buf(&notes, out);
    }
    buf_deinit(&notes);
    config_unref(c);
    return result;
}

static enum exit_code dump(const struct cli *cli, FILE *out, FILE *err)
{
    enum exit_code result;
    struct config *c = load_by(config_examine, cli->config, NULL, err, &result);

    if (c)
        config_dump(c, true, out);
    config_unref(c);
    return result;
}

/* Whether the address can be asked: it is not "off" and its port is not 0. */
static bool can_be_asked(const char *address)
{
    const char *colon = strrchr(address, ':');
    uint64_t port;

    return str_starts(str_from(address), STR("unix:")) ||
           (colon && str_to_u64(str_from(colon + 1), &port) && port > 0);
}

char *cli_admin_address(const struct cli *cli, FILE *err)
{
    struct buf problems;
    char *address;

    buf_init(&problems, TEXT_MAX);
    address = config_admin_address(cli->config, &problems);
    if (!address)
        put_buf(&problems, err);
    buf_deinit(&problems);
    if (address && !can_be_asked(address)) {
        fprintf(err, "retryd: there is no admin address to ask: [admin] listen is %s\n", address);
        free(address);
        return NULL;
    }
    return address;
}

/* Returns 0 or 1 only, for the health checks of containers. */
static enum exit_code health(const struct cli *cli, FILE *out, FILE *err)
{
    char *address = cli_admin_address(cli, err);
    enum exit_code result = EXIT_FAILED;

    if (address)
        result = cli_health(address, cli->mode == CLI_READY, CLI_HEALTH_PATIENCE_MS, out, err);
    free(address);
    return result;
}

static enum exit_code version(const char *const *libraries, FILE *out)
{
    fprintf(out, "retryd %s", RETRYD_VERSION);
    for (unsigned i = 0; libraries && libraries[i]; i++)
        fprintf(out, "%s%s", i ? ", " : " (", libraries[i]);
    fputs(libraries && libraries[0] ? ")\n" : "\n", out);
    return EXIT_OK;
}

static enum exit_code help(FILE *out)
{
    fputs(usage_begin, out);
    fputs("       retryd COMMAND [ARGUMENT ...]\n", out);
    fputs(usage_options, out);
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(out, "  %-17s  %s\n", commands[i].name, commands[i].help);
    fputs(usage_end, out);
    config_help(out);
    return EXIT_OK;
}

static int run_mode(const struct cli *cli, const char *const *libraries, FILE *out, FILE *err)
{
    const struct cli_command *c = cli->command;

    switch (cli->mode) {
    case CLI_CHECK:
        return check(cli, out, err);
    case CLI_DUMP:
        return dump(cli, out, err);
    case CLI_VERSION:
        return version(libraries, out);
    case CLI_HELP:
        return help(out);
    case CLI_HEALTH:
    case CLI_READY:
        return health(cli, out, err);
    case CLI_MANUAL:
        config_manual(out);
        return EXIT_OK;
    case CLI_COMMAND_HELP:
        fprintf(out, "Usage: retryd %s%s%s\n\n%c%s.\n\n%s", c->name, c->arguments[0] ? " " : "",
                c->arguments, toupper((unsigned char)c->help[0]), c->help + 1, c->text);
        return EXIT_OK;
    case CLI_COMMAND:
        return cli->command->main(cli, out, err);
    case CLI_SERVE:
        break;
    }
    return EXIT_FAILED;
}

int cli_run_mode(const struct cli *cli, const char *const *libraries, FILE *out, FILE *err)
{
    int result = run_mode(cli, libraries, out, err);

    if ((fflush(out) != 0 || ferror(out)) && result == EXIT_OK) {
        fprintf(err, "retryd: cannot write: %s\n", strerror(errno));
        result = EXIT_FAILED;
    }
    return result;
}
