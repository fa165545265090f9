/* The exit codes of retryd and of its commands. */
#ifndef RETRYD_DAEMON_EXIT_H
#define RETRYD_DAEMON_EXIT_H

#include <errno.h>

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
static inline enum exit_code exit_for(int error)
{
    switch (error < 0 ? -error : error) {
    case 0:
        return EXIT_OK;
    case EADDRINUSE:
        return EXIT_ADDRESS_IN_USE;
    case EACCES:
    case EPERM:
        return EXIT_PERMISSION;
    case ELOOP:  /* an upstream leads back to this daemon */
    case EINVAL: /* the configuration does not allow the sockets that systemd passed */
    case E2BIG:
        return EXIT_CONFIG;
    default:
        return EXIT_FAILED;
    }
}

/* Returns the exit code for the errno of config_load. */
static inline enum exit_code exit_for_load(int error)
{
    switch (error) {
    case ENOMEM:
        return EXIT_FAILED;
    case ENOKEY:
        return EXIT_KEY_FILE;
    case ENXIO:
        return EXIT_NO_UPSTREAM;
    case EACCES:
        return EXIT_PERMISSION;
    default:
        return EXIT_CONFIG;
    }
}

#endif
