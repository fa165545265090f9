/* The lines of a request's steps ("step: ..."), at level = debug: how it was taken, what it waits for, where each attempt
 * goes and why, and how that went over the network. Each begins with nothing but a look at the level. */
#ifndef RETRYD_DAEMON_STEPS_H
#define RETRYD_DAEMON_STEPS_H

#include "base/log.h"
#include "edge/fetch.h"
#include "exchange/exchange.h"

static inline bool steps_are_told(void)
{
    return log_enabled(LOG_DEBUG);
}

/* It has asked for a turn, and is in that state; before its first attempt, what it may take as well. */
void steps_turn(const struct exchange *x, const struct turn *turn,
                const struct turn_request *turn_request, enum turn_state s, uint64_t now_ms);

/* The attempt begins. */
void steps_attempt(const struct exchange *x, const struct attempt *a);

/* The attempt is over, or was ended. */
void steps_trace(const struct exchange *x, const struct attempt *a,
                 const struct fetch_trace *trace);

/* The client's answer begins, or is handed over whole, with that head. */
void steps_response(const struct exchange *x, unsigned status, bool whole);

#endif
