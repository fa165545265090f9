/* Chooses the exit code for an error. */
#include "daemon/exit.h"

#include <errno.h>

enum exit_code exit_for(int error)
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

enum exit_code exit_for_load(int error)
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
