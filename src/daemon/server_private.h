/* State and functions that the main thread's files share: server.c starts and ends the daemon,
 * listeners.c accepts connections, reload.c reads the configuration and its files again,
 * watch.c tells when those have changed, sharing.c connects the traffic with the shared view,
 * status_take.c collects the data of the status pages. */
#ifndef RETRYD_DAEMON_SERVER_PRIVATE_H
#define RETRYD_DAEMON_SERVER_PRIVATE_H

#include <uv.h>

#include "admin/admin.h"
#include "admin/status.h"
#include "daemon/control.h"
#include "daemon/exit.h"
#include "daemon/server.h"
#include "worker/traffic.h"
#include "worker/worker.h"

struct server;
struct sharing;
struct watch;

#define LISTEN_MAX 16
#define PINGS_MISSED_WELL 2 /* consecutive misses that a busy machine may cause */

struct listen_socket {
    int fd;
    char name[128];      /* for messages, with the actual port */
    char unix_path[108]; /* the file to remove at the end; "" if there is none */
};

struct listener {
    struct server *s;
    struct listen_socket socket;
    uv_poll_t poll;
    bool admin;
    bool inherited; /* from systemd: the next process serves the clients in its backlog */
    bool open;
};

/* The state of the configuration file and of its reloads. */
struct reloads {
    bool refused; /* the last reload was refused */
    bool differs; /* at the last look, the file on disk differed from the one in force */
    struct config_mark refused_mark;
    char problem[256];         /* the first problem of the refused reload */
    uint64_t tried_s, taken_s; /* wall clock: last read, last read successfully */
};

struct server {
    uv_loop_t loop;
    struct config *config;
    const struct server_host *host; /* NULL: the daemon serves the machine */
    server_greeting greet;          /* NULL: none */
    struct worker **workers;
    unsigned worker_count;
    struct admin *admin;
    struct traffic *traffic;
    struct failures *failures;
    struct history *history;
    struct sharing *sharing; /* NULL: no shared view */
    struct control *control; /* NULL: it could not be opened */
    struct reloads reloads;
    struct listener listeners[LISTEN_MAX + 1]; /* those from systemd come first */
    unsigned listener_count;
    uv_signal_t term, interrupt, hangup;
    uv_timer_t drain_timer, watchdog, pause;
    uv_async_t change;
    uv_prepare_t prepare;
    struct watch *watch;      /* for the files whose contents belong to the configuration */
    bool *file_warned;        /* for each file: logged that it cannot be used */
    bool unwatched_warned;    /* logged that a folder cannot be watched */
    bool has_loop;            /* the loop is set up and must be closed */
    uint64_t started_unix_ms; /* wall clock */
    uint64_t pongs_seen;      /* of the worker with the fewest */
    unsigned pings_missed;    /* consecutive pings to which some worker did not reply */
    bool watched;             /* systemd expects watchdog notifications */
    int spare_fd;             /* released for a moment when no descriptors are left */
    unsigned max_connections; /* the limit since the start */
    bool full;                /* max_connections reached: not accepting until one closes */
    bool ending;              /* a signal has begun the shutdown */
    uint64_t end_ms;          /* loop time by which the shutdown should be complete */
    bool draining, aborting, closed;
    bool admin_work;
};

/* Opens all addresses or takes over systemd's sockets. Returns 0, or -errno after logging why. */
int listeners_open(struct server *s);
/* Accepts the clients that have connected by now; called before the listeners close. */
void listeners_last_call(struct server *s);
/* Whether the configuration allows those sockets from systemd that other machines can reach (C29);
 * if not, `problems` gets a sentence. */
bool listeners_allowed(const struct server *s, const struct config *c, struct buf *problems);
/* Whether only this machine can reach the admin pages. */
bool listeners_admin_is_local(const struct server *s);
/* Whether an upstream of the configuration leads back to one of the listeners; then `problems` gets
 * a sentence. */
bool listeners_loop(const struct server *s, const struct config *c, struct buf *problems);
/* Closes the listeners for clients, and for admins too if asked. */
void listeners_close(struct server *s, bool admin_too);
/* A connection has closed: accepts clients again if max_connections had stopped that. */
void listeners_check(struct server *s);

/* Reads the file again and adopts it, or keeps the configuration in force. `output` gets the lines
 * for the user, which are also logged. Returns EXIT_OK, the exit code of --check, or EXIT_FAILED if
 * there is nothing to read. */
enum exit_code reload(struct server *s, struct buf *output);
/* The start has succeeded: from now on systemd's status and the metrics show the configuration's
 * state. */
void reload_started(struct server *s);
/* Checks whether the file on disk is still the one in force. Called at each ping of the
 * watchdog. */
void reload_look(struct server *s);
void reload_metrics(const struct server *s, struct buf *out);

/* Watches the files that the configuration in force names. Called at the start and after a reload.
 * Returns 0 or -ENOMEM. */
int rotation_begin(struct server *s);
/* Reads the changed files again. */
void rotation_look(struct server *s);
void rotation_close(struct server *s);

/* Collects the data of the status pages. Stories that ended up to the serial `after` are left out.
 * Returns 0 or -ENOMEM; then status_free has been called. */
int status_take(struct server *s, uint64_t after, struct status *ret);
/* Adds the growth since the last call to the last hour. Called every few seconds. */
void status_sample(struct server *s);

/* --- watch.c ---------------------------------------------------------------------------------- */

/* Watches files for changes through their folders. It notices a file that is written in place or
 * replaced by a rename, and a new target of any symbolic link on the path, also of links that links
 * lead to. */

/* Calls `changed` on the loop a moment after the last of several changes, at most a second after
 * the first. `changed` may call the functions below. Returns NULL if out of memory. */
struct watch *watch_new(uv_loop_t *loop, void (*changed)(void *arg), void *arg);

/* Replaces the set of watched files. Call it again after each change, because links may lead
 * elsewhere. Copies the paths. Returns 0, or -errno if a folder cannot be watched: the others are,
 * and `ret_folder`, valid until the next call, names the first that is not. */
int watch_files(struct watch *w, const char *const *paths, unsigned count, const char **ret_folder);

/* Closes its handles; the memory is freed on the loop. NULL is fine. */
void watch_close(struct watch *w);

/* --- sharing.c -------------------------------------------------------------------------------- */

/* Connects this daemon's traffic (worker/traffic.h) with the shared view (daemon/shared.h) if
 * [shared] redis names a server. It runs on the main thread. */

/* Call it before any worker uses the traffic, which must outlive it. Returns 0, with *ret NULL if
 * the configuration names no server; or -ENOMEM. */
int sharing_new(uv_loop_t *loop, const struct config *c, struct traffic *t, struct sharing **ret);
/* Applies new settings: limits for the news of other daemons, and the password for the next login.
 * NULL is fine. */
void sharing_configure(struct sharing *s, const struct config *c);
/* Closes its handles on the loop; NULL is fine. */
void sharing_close(struct sharing *s);
/* Frees it after the loop has ended; NULL is fine. */
void sharing_free(struct sharing *s);

/* Writes its metrics, none for NULL. */
void sharing_metrics(const struct sharing *s, struct buf *out);

#endif
