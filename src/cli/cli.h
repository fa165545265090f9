/* The command line: its options, and all commands but running the server.
 *
 * main() calls cli_parse, passes every mode but CLI_SERVE to cli_run_mode, and exits with the
 * result. For CLI_SERVE it calls cli_load, runs the server, and turns its -errno into an exit code
 * with exit_for. Results go to `out`, problems to `err`, one per line. */
#ifndef RETRYD_CLI_CLI_H
#define RETRYD_CLI_CLI_H

#include <stdio.h>

#include "base/buf.h"
#include "config/config.h"
#include "daemon/exit.h"

enum cli_mode {
    CLI_SERVE,
    CLI_CHECK,
    CLI_DUMP,
    CLI_VERSION,
    CLI_HELP,
    CLI_HEALTH,
    CLI_READY,
    CLI_MANUAL,
    CLI_COMMAND,
    CLI_COMMAND_HELP,
};

struct cli_command;

struct cli {
    enum cli_mode mode;
    const char *config;                /* the file of -c, in argv; NULL: the built-in defaults */
    const char *log;                   /* the format of --log; NULL: the configuration's */
    const struct cli_command *command; /* of CLI_COMMAND and CLI_COMMAND_HELP; else NULL */
    int argc;                          /* the command's own arguments; argv[0] is its name */
    char **argv;
};

/* A command such as "retryd reload": a row of the table in cli.c. The command is the first argument
 * that is no option; options before it are retryd's own, and all that follows belongs to the
 * command. */
struct cli_command {
    const char *name;
    const char *arguments; /* for the usage line */
    const char *help;      /* one line for --help, without a capital and a full stop */
    const char *text;      /* the further text of its --help: whole lines */
    /* Results go to `out`, problems to `err`, one per line; `err` is shown once it returns. Returns
     * the exit code, mostly an enum exit_code. */
    int (*main)(const struct cli *cli, FILE *out, FILE *err);
};

/* Writes "retryd: WHAT WHICH; see retryd --help" for an invalid command line; `which` may be empty.
 * Returns EXIT_USAGE. */
enum exit_code cli_complain(FILE *err, const char *what, const char *which);

/* Parses the command line. Returns EXIT_OK, or EXIT_USAGE after a message on `err`. Not
 * thread-safe, because getopt_long is not. */
enum exit_code cli_parse(int argc, char **argv, struct cli *ret_cli, FILE *err);

/* Returns the user's configuration file, which is read without -c:
 * $XDG_CONFIG_HOME/retryd/retryd.conf, or ~/.config/retryd/retryd.conf if that variable is not set.
 * NULL if there is none. The path is static. */
const char *cli_user_config(void);

/* Names the configuration in force, for the first line: the file, or the defaults; and adds that
 * /etc/retryd/retryd.conf is the service's, unless -c has chosen the file. */
void cli_name_config(const char *path, char *ret, size_t size);

/* Runs any mode but CLI_SERVE, and returns the exit code. `libraries` is a NULL-terminated list for
 * --version, such as "libcurl 7.88.1". Returns EXIT_FAILED also if writing to `out` failed. */
int cli_run_mode(const struct cli *cli, const char *const *libraries, FILE *out, FILE *err);

/* Calls config_load and writes the problems to `err`. Returns a snapshot with one reference and
 * EXIT_OK, or NULL and an exit code. `notes` may be NULL. */
struct config *cli_load(const char *path, struct buf *notes, FILE *err, enum exit_code *ret_exit);

/* The command reload: makes a running daemon read its configuration again, the one with the given
 * process ID or the only one that this user may reload. Waits until the configuration is in force
 * or refused, and writes the daemon's reply. Returns the exit code that --check would return,
 * EXIT_FAILED if no daemon replies in time, or EXIT_USAGE if there are several. */
int cli_reload(const struct cli *cli, FILE *out, FILE *err);

/* The commands status, top and explain: ask the running daemon, whose admin address the
 * configuration names. They return EXIT_FAILED if it does not respond. */
int cli_status(const struct cli *cli, FILE *out, FILE *err);
int cli_top(const struct cli *cli, FILE *out, FILE *err);
int cli_explain(const struct cli *cli, FILE *out, FILE *err);

/* Asks the admin listener at `address` (as in [admin] listen) for /healthz, or /readyz if `ready`.
 * Returns EXIT_OK after a line on `out` if it responds with 200 within `patience_ms`, else
 * EXIT_FAILED after a line on `err`. */
#define CLI_HEALTH_PATIENCE_MS 3000
enum exit_code cli_health(const char *address, bool ready, unsigned patience_ms, FILE *out,
                          FILE *err);

/* The command wait: asks for /readyz until the response is 200. Returns EXIT_OK then, EXIT_FAILED
 * when the time is over or there is no address to ask. */
int cli_wait(const struct cli *cli, FILE *out, FILE *err);

/* Returns the address of the admin listener, or NULL after a message on `err`, also if it cannot be
 * asked because it is "off" or has port 0. The caller frees it. Loads no keys: the user may not be
 * allowed to read them. */
char *cli_admin_address(const struct cli *cli, FILE *err);

/* The command run, in run.c: a private retryd for one child. Returns the child's exit code, 127 or
 * 126 if the child cannot be started, or RUN_FAILED if retryd itself cannot. If a signal ended the
 * child, the process ends by the same signal. */
#define RUN_FAILED 125 /* as in env(1) and timeout(1) */
int run(const struct cli *cli, FILE *out, FILE *err);

extern const char run_help[];

#endif
