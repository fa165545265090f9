/* The way in for `retryd reload`: a Unix socket on which a running daemon is asked, and answers.
 *
 * The socket is one of Linux's abstract kind (unix(7)): it has no file, so that there is nothing to place, to
 * own or to clean up, whether retryd runs as a service, in a container without a writable folder, or from a
 * shell, and a broken configuration cannot hide it. Its name is "retryd-control/" and 16 random hexadecimal
 * digits, so that nobody can take it beforehand; who asks finds it in /proc/self/net/unix. Anyone in the same
 * network namespace may connect: SO_PEERCRED tells both ends who the other one is, and retryd answers root and
 * its own user only.
 *
 * The client sends "reload\n". The answer is the exit code of the verb (enum cli_exit) and a newline, then the
 * lines to be shown, then the end. It comes once every worker serves by what was read. */
#ifndef RETRYD_DAEMON_CONTROL_H
#define RETRYD_DAEMON_CONTROL_H

#include <uv.h>

#include "base/buf.h"
#include "daemon/cli.h"

#define CONTROL_PREFIX "retryd-control/"
#define CONTROL_REQUEST "reload\n"

struct control;

/* What is asked for; `told` gets the lines. */
typedef enum cli_exit (*control_act)(void *ctx, struct buf *told);
/* Whether what was done last is in force everywhere. */
typedef bool (*control_done)(void *ctx);

/* NULL, and errno, where there can be none. */
struct control *control_new(uv_loop_t *loop, control_act act, control_done done, void *ctx);
/* Answers those that wait for what is now in force. To be called whenever that may have changed. */
void control_check(struct control *c);
/* Begins to close; it is freed once the loop has run. NULL is fine. */
void control_close(struct control *c);

#endif
