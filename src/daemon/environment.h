/* What the environment says that other programs go by, and retryd does not. */
#ifndef RETRYD_DAEMON_ENVIRONMENT_H
#define RETRYD_DAEMON_ENVIRONMENT_H

#include <stdbool.h>

#include "base/buf.h"
#include "config/config.h"

/* One sentence about variables that are set, would change where requests go or what is trusted, and
 * are not used; it names the keys that would do it. False where there is nothing to say. Values are
 * not shown: a proxy's may hold a password. `get` is getenv. */
bool environment_unused(const struct config *c, char *(*get)(const char *name), struct buf *out);

#endif
