/* The lines of the log that are about requests: one per failed attempt, one per request (C27). */
#ifndef RETRYD_DAEMON_ACCESS_LOG_H
#define RETRYD_DAEMON_ACCESS_LOG_H

#include "config/config.h"
#include "exchange/exchange.h"

/* Field upstream_id: what that answer's upstream calls the request (response_request_id). NULL: nobody's. */
void access_log_upstream_id(const struct exchange *x, const struct headers *h);

/* "attempt 2 of 5 failed: 503 overloaded; next in 2.1 s" and the facts behind it. */
void access_log_attempt(const struct exchange *x, const struct attempt_report *r);

/* The first event that was left out of a request's stream. */
void access_log_dropped(const struct exchange *x, bool malformed);

/* The request as it ended, if `access` asks for it. */
void access_log_request(const struct exchange *x, enum log_access access);

#endif
