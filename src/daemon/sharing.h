/* Connects this daemon's traffic (worker/traffic.h) with the shared view (daemon/shared.h) if
 * [shared] redis names a server. It runs on the main thread. */
#ifndef RETRYD_DAEMON_SHARING_H
#define RETRYD_DAEMON_SHARING_H

#include <uv.h>

#include "base/buf.h"
#include "config/config.h"
#include "worker/traffic.h"

struct sharing;

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
