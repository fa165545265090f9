/* What the main thread's files share: server.c is its life and its end, listeners.c takes connections in,
 * reload.c reads its configuration and the files that it names again. */
#ifndef RETRYD_DAEMON_SERVER_PRIVATE_H
#define RETRYD_DAEMON_SERVER_PRIVATE_H

#include <uv.h>

#include "daemon/admin.h"
#include "daemon/cli.h"
#include "daemon/control.h"
#include "daemon/server.h"
#include "daemon/sharing.h"
#include "daemon/traffic.h"
#include "daemon/watch.h"
#include "daemon/worker.h"

struct server;

#define LISTEN_MAX 16

struct listen_socket {
    int fd;
    char name[128];      /* as a person would write it, with the real port */
    char unix_path[108]; /* removed again when it is closed; "" otherwise */
};

struct listener {
    struct server *s;
    struct listen_socket socket;
    uv_poll_t poll;
    bool admin;
    bool inherited; /* systemd's: who waits there is for the next one to serve */
    bool open;
};

/* What became of the file since the start. */
struct reloads {
    bool refused; /* the last one */
    bool differs; /* the file on the disk from the one in force, when it was last looked at */
    struct config_mark refused_mark;
    char problem[256];         /* the first, of the one that was refused */
    uint64_t tried_s, taken_s; /* of the wall clock: when it was last read, and taken */
};

struct server {
    uv_loop_t loop;
    struct config *config;
    struct worker **workers;
    unsigned worker_count;
    struct admin *admin;
    struct traffic *traffic;
    struct failures *failures;
    struct sharing *sharing; /* NULL: what is learned here stays here */
    struct control *control; /* NULL: none could be had */
    struct reloads reloads;
    struct listener listeners[LISTEN_MAX + 1]; /* systemd's come first */
    unsigned listener_count;
    uv_signal_t term, interrupt, hangup;
    uv_timer_t drain_timer, watchdog, pause;
    uv_async_t change;
    uv_prepare_t prepare;
    struct watch *watch;      /* of the files whose contents are a part of the configuration */
    bool *told;               /* that one of them cannot be used, for each */
    bool unwatched_told;      /* ... that one cannot be watched */
    bool has_loop;            /* it is set up, and to be closed */
    uint64_t pongs_seen;      /* of the worker that gave the fewest */
    unsigned pings_missed;    /* in a row, by one worker or more */
    bool watched;             /* systemd waits for our pings */
    int spare_fd;             /* given up for a moment when there are no more descriptors */
    unsigned max_connections; /* in force since the start */
    bool full;                /* so many are open: the doors are shut until one closes */
    bool ending;              /* a signal has said so */
    uint64_t end_ms;          /* of the loop's clock: by then it should be over */
    bool draining, aborting, closed;
    bool admin_work;
};

/* Opens all addresses, or takes over systemd's sockets. 0, or -errno after logging why. */
int listeners_open(struct server *s);
/* Before the doors for clients close: those who have connected by now are let in. */
void listeners_last_call(struct server *s);
/* Whether that configuration lets other machines reach those of systemd's sockets that they can reach (C29);
 * if not, `problems` gets a sentence. */
bool listeners_allowed(const struct server *s, const struct config *c, struct buf *problems);
/* Whether only this machine can reach the admin pages. */
bool listeners_admin_is_local(const struct server *s);
/* Whether an upstream of that configuration leads back to one of them: `problems` gets a sentence. */
bool listeners_loop(const struct server *s, const struct config *c, struct buf *problems);
/* Closes those for clients, and those for admins too. */
void listeners_close(struct server *s, bool admin_too);
/* A connection has closed: where max_connections kept the doors shut, they may open again. */
void listeners_check(struct server *s);

/* Reads the file again, and adopts it or leaves the one in force. `told` gets the lines for whoever asked, which
 * are in the log, too. CLI_OK, or what --check would exit with; CLI_FAILED: there is nothing to read. */
enum cli_exit reload(struct server *s, struct buf *told);
/* All is well: from now on systemd's status and the metrics tell of the configuration. */
void reload_started(struct server *s);
/* Looks whether the file on the disk is still the one in force. At each ping of the watchdog. */
void reload_look(struct server *s);
void reload_metrics(const struct server *s, struct buf *out);

/* Watches the files of the configuration in force, from now on and after a reload. 0 or -ENOMEM. */
int rotation_begin(struct server *s);
/* Reads those anew that have changed. */
void rotation_look(struct server *s);
void rotation_close(struct server *s);

#endif
