/* Failing a chosen function of the system or of a library. A test defines the function anew, which hides the
 * library's own:
 *
 *     int socket(int family, int type, int protocol)
 *     {
 *         int (*real)(int, int, int);
 *
 *         REAL(socket);
 *         return fails("socket") ? -1 : real(family, type, protocol);
 *     }
 *
 * Only calls of the thread that set `failing` fail. */
#ifndef RETRYD_FAILCALL_H
#define RETRYD_FAILCALL_H

#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

static _Thread_local const char *failing; /* the function that fails here; NULL: none */
static int fail_with;                     /* errno, or libuv's code */

/* Whether this call fails. Sets errno if so. */
static inline bool fails(const char *function)
{
    if (!failing || strcmp(failing, function) != 0)
        return false;
    errno = fail_with;
    return true;
}

/* Sets `real` to the library's own function. */
#define REAL(function) *(void **)&real = dlsym(RTLD_NEXT, #function)

#endif
