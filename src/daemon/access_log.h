/* The lines of the log that are about requests: one per failed attempt, one per request (C27). */
#ifndef RETRYD_DAEMON_ACCESS_LOG_H
#define RETRYD_DAEMON_ACCESS_LOG_H

#include "config/config.h"
#include "exchange/exchange.h"

/* "attempt 2 of 5 failed: 503 overloaded; next in 2.1 s" and the facts behind it. */
void access_log_attempt(const struct exchange *x, const struct attempt_report *r);

/* The request as it ended, if `access` asks for it. */
/* The first event that was left out of a request's stream. */
void access_log_dropped(const struct exchange *x, bool malformed);

void access_log_request(const struct exchange *x, enum log_access access);

#endif
