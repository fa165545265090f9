/* Watches files for changes, through the folders that they are in: a file that is written in place, one that
 * is renamed over it, another target of a symbolic link on the way to it, or of one on the way to that. */
#ifndef RETRYD_DAEMON_WATCH_H
#define RETRYD_DAEMON_WATCH_H

#include <uv.h>

struct watch;

/* `changed` is called on the loop a moment after the last of several changes (at most a second after the
 * first), and may call the functions below. NULL when out of memory. */
struct watch *watch_new(uv_loop_t *loop, void (*changed)(void *arg), void *arg);

/* What is watched from now on, in place of what was: to be called anew after each change, for links may
 * lead elsewhere. The paths are copied. 0, or -errno where a folder cannot be watched: all others are, and
 * `ret_folder`, which is valid until the next call, names the first of those. */
int watch_files(struct watch *w, const char *const *paths, unsigned count, const char **ret_folder);

/* Closes its handles; the memory goes when the loop has run. NULL is fine. */
void watch_close(struct watch *w);

#endif
