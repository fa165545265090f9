/* The admin listener: /healthz, /readyz and /metrics, on the main loop. */
#ifndef RETRYD_DAEMON_ADMIN_H
#define RETRYD_DAEMON_ADMIN_H

#include <stdbool.h>
#include <uv.h>

#include "base/buf.h"
#include "http/headers.h"

struct admin;

struct admin_source {
    /* Whether a request with these headers may see the pages; else a sentence why not. */
    bool (*may_enter)(void *ctx, const struct headers *h, char *ret_why, size_t size);
    bool (*well)(void *ctx);  /* every worker answers */
    bool (*ready)(void *ctx); /* requests are being served, and new ones too */
    void (*metrics)(void *ctx, struct buf *out);
};

/* NULL when out of memory. `wake`: admin_turn has something to do. */
struct admin *admin_new(uv_loop_t *loop, const struct admin_source *source, void *ctx,
                        void (*wake)(void *arg), void *wake_arg);
/* An accepted connection. Where there are too many, one that is idle or slow makes room: a health check
 * always gets through. */
int admin_add(struct admin *a, int fd);
bool admin_turn(struct admin *a); /* true when it did anything; then another must follow */
/* Cuts what is left. Runs until admin_idle, then close. */
void admin_abort(struct admin *a);
bool admin_idle(const struct admin *a);
void admin_close(struct admin *a);

#endif
