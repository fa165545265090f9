/* The command line: its options, and all commands but running the server.
 *
 * main() calls cli_parse, passes every mode but CLI_RUN to cli_answer, and exits with the result.
 * For CLI_RUN it calls cli_load, runs the server, and turns its -errno into an exit code with
 * cli_exit_for. Results go to `out`, problems to `err`, one per line. */
#ifndef RETRYD_DAEMON_CLI_H
#define RETRYD_DAEMON_CLI_H

#include <stdio.h>

#include "base/buf.h"
#include "config/config.h"

/* The exit codes. --help lists them, and scripts rely on them. */
enum cli_exit {
    CLI_OK = 0,
    CLI_FAILED = 1,         /* while running; --health: not healthy */
    CLI_USAGE = 2,          /* the command line */
    CLI_CONFIG = 3,         /* the configuration file cannot be read, or has an error */
    CLI_ADDRESS_IN_USE = 4, /* an address to listen on is in use */
    CLI_PERMISSION = 5,     /* the user may not use an address or a file */
    CLI_KEY_FILE = 6,       /* a key or a password is missing, unreadable or invalid */
    CLI_NO_UPSTREAM = 7,    /* a route names an unknown upstream */
};
#define CLI_EXIT_MAX CLI_NO_UPSTREAM

enum cli_mode { CLI_RUN, CLI_CHECK, CLI_DUMP, CLI_VERSION, CLI_HELP, CLI_HEALTH, CLI_RELOAD };

struct cli {
    enum cli_mode mode;
    const char *config; /* the file of -c, in argv; NULL: the built-in defaults */
    long pid;           /* of the daemon to reload; 0: the only one that runs */
};

/* Parses the command line. Returns CLI_OK, or CLI_USAGE after writing to `err` what is wrong. Not
 * thread-safe, as getopt_long is not. */
enum cli_exit cli_parse(int argc, char **argv, struct cli *ret_cli, FILE *err);

/* Runs any mode but CLI_RUN. `libraries` is a NULL-terminated list for --version, such as
 * "libcurl 7.88.1". Returns CLI_FAILED also if writing to `out` failed. */
enum cli_exit cli_answer(const struct cli *cli, const char *const *libraries, FILE *out, FILE *err);

/* Calls config_load and writes the problems to `err`. Returns a snapshot with one reference and
 * CLI_OK, or NULL and an exit code. `notes` may be NULL. */
struct config *cli_load(const char *path, struct buf *notes, FILE *err, enum cli_exit *ret_exit);

/* Returns the exit code for an errno or -errno; CLI_OK for 0. */
enum cli_exit cli_exit_for(int error);

/* Returns the exit code for the errno of config_load. */
enum cli_exit cli_exit_for_load(int error);

/* Makes a running daemon read its configuration again: the one with that process ID or, if `pid`
 * is 0, the only one that this user may reload. Waits until the configuration is in force or
 * refused, and writes what the daemon says to `out` or `err`. Returns the exit code that --check
 * would return, CLI_FAILED if no daemon answers within `patience_ms`, or CLI_USAGE if there are
 * several. */
#define CLI_RELOAD_PATIENCE_MS 30000
enum cli_exit cli_reload(long pid, unsigned patience_ms, FILE *out, FILE *err);

/* Asks the admin listener at `address` (as in [admin] listen) for /healthz. Returns CLI_OK after a
 * line on `out` if it answers 200 within `patience_ms`, else CLI_FAILED after a line on `err`. */
#define CLI_HEALTH_PATIENCE_MS 3000
enum cli_exit cli_health(const char *address, unsigned patience_ms, FILE *out, FILE *err);

#endif
