/* The exit codes of retryd and of its commands. */
#ifndef RETRYD_DAEMON_EXIT_H
#define RETRYD_DAEMON_EXIT_H

/* The exit codes. --help lists them, and scripts rely on them. */
enum exit_code {
    EXIT_OK = 0,
    EXIT_FAILED = 1,         /* while running; --health: not healthy */
    EXIT_USAGE = 2,          /* the command line */
    EXIT_CONFIG = 3,         /* the configuration file cannot be read, or has an error */
    EXIT_ADDRESS_IN_USE = 4, /* an address to listen on is in use */
    EXIT_PERMISSION = 5,     /* the user may not use an address or a file */
    EXIT_KEY_FILE = 6,       /* a key or a password is missing, unreadable or invalid */
    EXIT_NO_UPSTREAM = 7,    /* a route names an unknown upstream */
};
#define EXIT_MAX EXIT_NO_UPSTREAM

/* Returns the exit code for an errno or -errno; EXIT_OK for 0. */
enum exit_code exit_for(int error);

/* Returns the exit code for the errno of config_load. */
enum exit_code exit_for_load(int error);

#endif
