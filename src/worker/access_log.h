/* Log lines about requests: one per failed attempt and one per request (C27). */
#ifndef RETRYD_WORKER_ACCESS_LOG_H
#define RETRYD_WORKER_ACCESS_LOG_H

#include "base/log.h"
#include "config/config.h"
#include "edge/fetch.h"
#include "exchange/exchange.h"

/* Logs "attempt 2 of 5 failed: 503 overloaded; next in 2.1 s" and the facts. */
void access_log_attempt(const struct exchange *x, const struct attempt_report *r);

/* Returns a text from outside for the log, or a remark instead if the text quotes a key that the
 * upstream received, the configured one or the client's own. */
struct str access_log_foreign(const struct exchange *x, struct str text);

/* Logs the first event that was left out of a request's stream. */
void access_log_dropped(const struct exchange *x, bool malformed);

/* Logs the request when it has ended, if `access` asks for it. */
void access_log_request(const struct exchange *x, enum log_access access);

/* Steps, at level = debug ("step: ..."): how a request is accepted, what it waits for, where each
 * attempt goes and why, and its timing on the network. Call these only if steps_are_logged(). */

static inline bool steps_are_logged(void)
{
    return log_enabled(LOG_DEBUG);
}

/* Logs that the request asked for a turn, which is in state `s`; before the first attempt also the
 * request's limits. */
void steps_turn(const struct exchange *x, const struct turn *turn,
                const struct turn_request *turn_request, enum turn_state s, uint64_t now_ms);

/* Logs that the attempt begins. */
void steps_attempt(const struct exchange *x, const struct attempt *a);

/* Logs that the attempt is over or was cancelled. */
void steps_trace(const struct exchange *x, const struct attempt *a,
                 const struct fetch_trace *trace);

/* Logs that the response to the client begins, or is handed over whole. */
void steps_response(const struct exchange *x, unsigned status, bool whole);

#endif
