/* The control socket: `retryd reload` sends its request to a running daemon over it.
 *
 * It is an abstract Unix socket of Linux (unix(7)). It needs no file that must be placed, owned or
 * cleaned up, whether retryd runs as a service, in a container without a writable folder, or from a
 * shell, and a broken configuration does not hide it. Its name is "retryd-control/" and 16 random
 * hexadecimal digits, so that nobody can bind it first. Clients find it in /proc/self/net/unix. Any
 * process in the same network namespace may connect; SO_PEERCRED identifies the peer to both ends,
 * and retryd serves only root and its own user.
 *
 * The client sends "reload\n". The response is the exit code of the command (enum exit_code), a
 * newline, the lines to show, and the end of the stream. retryd sends it once every worker uses the
 * new configuration. */
#ifndef RETRYD_DAEMON_CONTROL_H
#define RETRYD_DAEMON_CONTROL_H

#include <uv.h>

#include "base/buf.h"
#include "daemon/exit.h"

#define CONTROL_PREFIX "retryd-control/"
#define CONTROL_REQUEST "reload\n"

struct control;

/* Carries out a request; `output` gets the lines to show. */
typedef enum exit_code (*control_act)(void *ctx, struct buf *output);
/* Whether the last request is in force everywhere. */
typedef bool (*control_done)(void *ctx);

/* Returns NULL with errno on failure. */
struct control *control_new(uv_loop_t *loop, control_act act, control_done done, void *ctx);
/* Responds to clients whose request is now in force. Call it whenever that may have changed. */
void control_check(struct control *c);
/* Begins to close; the memory is freed on the loop. NULL is fine. */
void control_close(struct control *c);

#endif
