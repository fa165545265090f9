/* The command line: what was asked for, and every answer that needs no running daemon.
 *
 * main() calls cli_parse, hands every mode but CLI_RUN to cli_answer and exits with what it
 * returns; for CLI_RUN it calls cli_load, then runs the server and turns its -errno into an exit
 * code with cli_exit_for. Help, version, dump and a good check go to `out`, everything that went
 * wrong to `err`, one line a problem. */
#ifndef RETRYD_DAEMON_CLI_H
#define RETRYD_DAEMON_CLI_H

#include <stdio.h>

#include "base/buf.h"
#include "config/config.h"

/* Exit codes; --help lists them, and scripts may rely on them. */
enum cli_exit {
    CLI_OK = 0,
    CLI_FAILED = 1,         /* while running; --health: not healthy */
    CLI_USAGE = 2,          /* the command line */
    CLI_CONFIG = 3,         /* the configuration file: its form, a value, or it cannot be read */
    CLI_ADDRESS_IN_USE = 4, /* an address to listen on is taken */
    CLI_PERMISSION = 5,     /* an address or a file that the user may not use */
    CLI_KEY_FILE = 6,       /* an upstream's key: file or variable missing, unreadable, empty */
    CLI_NO_UPSTREAM = 7,    /* a route names an upstream that is not there */
};
#define CLI_EXIT_MAX CLI_NO_UPSTREAM

enum cli_mode { CLI_RUN, CLI_CHECK, CLI_DUMP, CLI_VERSION, CLI_HELP, CLI_HEALTH, CLI_RELOAD };

struct cli {
    enum cli_mode mode;
    const char *config; /* of -c, as argv has it; NULL: the built-in defaults */
    long pid;           /* of the daemon that reload is for; 0: the only one that runs */
};

/* Reads the command line; uses getopt_long, so from one thread. CLI_OK, or CLI_USAGE after a line
 * on `err` that names what was wrong. */
enum cli_exit cli_parse(int argc, char **argv, struct cli *ret_cli, FILE *err);

/* Does what any mode but CLI_RUN asks for. `libraries` is a NULL-terminated list such as
 * "libcurl 7.88.1" for --version. CLI_FAILED also where `out` could not be written. */
enum cli_exit cli_answer(const struct cli *cli, const char *const *libraries, FILE *out, FILE *err);

/* config_load with the problems written to `err`: NULL and an exit code, or a snapshot with one
 * reference and CLI_OK. `notes` may be NULL. */
struct config *cli_load(const char *path, struct buf *notes, FILE *err, enum cli_exit *ret_exit);

/* The exit code for an errno or -errno; 0 gives CLI_OK. */
enum cli_exit cli_exit_for(int error);

/* The exit code for the errno of config_load. */
enum cli_exit cli_exit_for_load(int error);

/* Has the daemon with that process id, or the only one that this user may ask where `pid` is 0, read its
 * configuration again, and waits until that is in force or refused: what --check would exit with, and the lines of
 * the daemon on `out` or `err`. CLI_FAILED where none answers within `patience_ms`, CLI_USAGE where there are
 * several. */
#define CLI_RELOAD_PATIENCE_MS 30000
enum cli_exit cli_reload(long pid, unsigned patience_ms, FILE *out, FILE *err);

/* Asks the admin listener at `address` (as in [admin] listen) for /healthz and writes one line: to
 * `out` and CLI_OK when it answers 200 within `patience_ms`, else to `err` and CLI_FAILED. Blocks
 * for so long at the most. */
#define CLI_HEALTH_PATIENCE_MS 3000
enum cli_exit cli_health(const char *address, unsigned patience_ms, FILE *out, FILE *err);

#endif
