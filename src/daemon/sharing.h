/* Between the traffic of this daemon (daemon/traffic.h) and what all daemons on an account tell each
 * other (daemon/shared.h), where [shared] redis names a server. On the main thread. */
#ifndef RETRYD_DAEMON_SHARING_H
#define RETRYD_DAEMON_SHARING_H

#include <uv.h>

#include "base/buf.h"
#include "config/config.h"
#include "daemon/traffic.h"

struct sharing;

/* Before any worker asks the traffic, which outlives it. 0, with *ret NULL where the configuration
 * has no server; or -ENOMEM. */
int sharing_new(uv_loop_t *loop, const struct config *c, struct traffic *t, struct sharing **ret);
/* What others tell is held to the settings of `c` from now on, and the next login takes its password; NULL
 * is fine. */
void sharing_configure(struct sharing *s, const struct config *c);
/* Closes its handles on the loop; NULL is fine. */
void sharing_close(struct sharing *s);
/* After the loop has ended; NULL is fine. */
void sharing_free(struct sharing *s);

/* Its part of the metrics; NULL has none. */
void sharing_metrics(const struct sharing *s, struct buf *out);

#endif
