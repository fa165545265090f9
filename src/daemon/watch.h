/* Watches files for changes through their folders. It notices a file that is written in place or
 * replaced by a rename, and a new target of any symbolic link on the path, also of links that links
 * lead to. */
#ifndef RETRYD_DAEMON_WATCH_H
#define RETRYD_DAEMON_WATCH_H

#include <uv.h>

struct watch;

/* Calls `changed` on the loop a moment after the last of several changes, at most a second after
 * the first. `changed` may call the functions below. Returns NULL if out of memory. */
struct watch *watch_new(uv_loop_t *loop, void (*changed)(void *arg), void *arg);

/* Replaces the set of watched files. Call it again after each change, because links may lead
 * elsewhere. Copies the paths. Returns 0, or -errno if a folder cannot be watched: the others are,
 * and `ret_folder`, valid until the next call, names the first that is not. */
int watch_files(struct watch *w, const char *const *paths, unsigned count, const char **ret_folder);

/* Closes its handles; the memory is freed on the loop. NULL is fine. */
void watch_close(struct watch *w);

#endif
