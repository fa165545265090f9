/* What the two halves of the exchange share: exchange.c decides, relay.c delivers. */
#ifndef RETRYD_EXCHANGE_EXCHANGE_PRIVATE_H
#define RETRYD_EXCHANGE_EXCHANGE_PRIVATE_H

#include "exchange/answer.h"
#include "exchange/exchange.h"

/* The one setter: asserts that the move is allowed. */
void exchange_set(struct exchange *x, enum exchange_state to);

/* Ends it: DONE, told to the world once. */
void exchange_end(struct exchange *x, enum exchange_end end);

/* The facts of C25 as they stand. `received`: the status that the upstream sent; 0 for our own. */
struct answer_facts relay_facts(const struct exchange *x, unsigned received, enum reason reason);

/* Delivers the attempt's whole answer with `status`; it is done and nothing was sent before. */
void relay_whole(struct exchange *x, unsigned status);

/* Delivers the kept error answer. */
void relay_kept_error(struct exchange *x);

/* Delivers an error of our own. */
void relay_own_error(struct exchange *x, enum exchange_end end, unsigned status, enum reason reason,
                     const char *code, const char *message);

/* Commits the attempt's answer while it is still coming: the only way into RELAYING. */
void relay_commit(struct exchange *x);

/* RELAYING: moves what has come on towards the client, and ends the answer when it is over. */
void relay_step(struct exchange *x);

/* The length of the first event in the stream's buffer that is more than comments; looks at each
 * event once. 0 while there is none. */
size_t relay_first_event(struct exchange *x, struct sse_event *ret_event);

#endif
