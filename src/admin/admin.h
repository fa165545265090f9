/* The admin listener: /healthz, /readyz and /metrics, on the main loop. */
#ifndef RETRYD_ADMIN_ADMIN_H
#define RETRYD_ADMIN_ADMIN_H

#include <stdbool.h>
#include <uv.h>

#include "base/buf.h"
#include "http/message.h"

struct admin;
struct http_request;

enum admin_form { ADMIN_JSON, ADMIN_TEXT, ADMIN_HTML };

struct admin_action {
    struct str name;
    struct str upstream, model; /* the target of a reset; empty: all */
};

struct admin_source {
    /* Whether a request with these headers may see its page; if not, `ret_why` gets a sentence. */
    bool (*may_enter)(void *ctx, const struct http_request *r, char *ret_why, size_t size);
    bool (*well)(void *ctx);  /* every worker responds */
    bool (*ready)(void *ctx); /* new requests are accepted */
    void (*metrics)(void *ctx, struct buf *out);
    /* Writes the status; as JSON only with requests that ended after the serial `after`. Returns 0
     * or -ENOMEM. */
    int (*status)(void *ctx, enum admin_form form, uint64_t after, struct buf *out);
    /* Checks whether the token allows actions. Returns 0, -ENOKEY if not, or -EPERM if no token
     * does. */
    int (*may_act)(void *ctx, struct str token);
    /* Carries out an action: "reload", "drain", "reset". `out` gets lines for the user. Returns 0;
     * -EINVAL if it failed; -ENOENT if there is no such action; -ESRCH if there is no such
     * upstream. */
    int (*act)(void *ctx, const struct admin_action *action, struct buf *out);
    /* Writes the story of one request, as JSON or text. Returns 0, -ENOENT or -ENOMEM. */
    int (*request)(void *ctx, enum admin_form form, struct str id, struct buf *out);
};

/* Returns NULL if out of memory. Calls `wake` when admin_turn has something to do. */
struct admin *admin_new(uv_loop_t *loop, const struct admin_source *source, void *ctx,
                        void (*wake)(void *arg), void *wake_arg);
/* Takes an accepted connection. If there are too many, ends an idle or slow one, so that a health
 * check always gets through. */
int admin_add(struct admin *a, int fd);
bool admin_turn(struct admin *a); /* true if it did anything; then call it again */
/* Cuts all connections. Call admin_turn until admin_idle, then admin_close. */
void admin_abort(struct admin *a);
bool admin_idle(const struct admin *a);
void admin_close(struct admin *a);

#endif
