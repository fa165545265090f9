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
    struct str upstream, model; /* of a reset; empty: all */
};

struct admin_source {
    /* Whether a request with this head may see its page; if not, `ret_why` gets a sentence. */
    bool (*may_enter)(void *ctx, const struct http_request *r, char *ret_why, size_t size);
    bool (*well)(void *ctx);  /* every worker answers */
    bool (*ready)(void *ctx); /* new requests are accepted */
    void (*metrics)(void *ctx, struct buf *out);
    /* Writes the status, as JSON without requests that ended up to the serial `after`. 0 or
     * -ENOMEM. */
    int (*status)(void *ctx, enum admin_form form, uint64_t after, struct buf *out);
    /* Whether this token allows actions; 0, -ENOKEY, or -EPERM if none does. */
    int (*may_act)(void *ctx, struct str token);
    /* Carries out an action: "reload", "drain", "reset". `out` gets lines for the user. 0; -EINVAL: it
     * failed; -ENOENT: there is no such action; -ESRCH: no such upstream. */
    int (*act)(void *ctx, const struct admin_action *action, struct buf *out);
    /* Writes what is known of one request, as JSON or text. 0, -ENOENT or -ENOMEM. */
    int (*request)(void *ctx, enum admin_form form, struct str id, struct buf *out);
};

/* NULL when out of memory. `wake` is called when admin_turn has something to do. */
struct admin *admin_new(uv_loop_t *loop, const struct admin_source *source, void *ctx,
                        void (*wake)(void *arg), void *wake_arg);
/* Takes an accepted connection. If there are too many, ends an idle or slow one, so that a health
 * check always gets through. */
int admin_add(struct admin *a, int fd);
bool admin_turn(struct admin *a); /* true if it did anything; then call it again */
/* Cuts all connections. Continue with turns until admin_idle, then close. */
void admin_abort(struct admin *a);
bool admin_idle(const struct admin *a);
void admin_close(struct admin *a);

#endif
