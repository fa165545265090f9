/* What the parts of the exchange share: exchange.c lives, judge.c decides, relay.c delivers. */
#ifndef RETRYD_EXCHANGE_EXCHANGE_PRIVATE_H
#define RETRYD_EXCHANGE_EXCHANGE_PRIVATE_H

#include "exchange/answer.h"
#include "exchange/exchange.h"

/* The one setter: asserts that the move is allowed. */
void exchange_set(struct exchange *x, enum exchange_state to);

/* Ends it: DONE, told to the world once. */
void exchange_end(struct exchange *x, enum exchange_end end);

/* Cancels the attempt if it runs. */
void exchange_stop_attempt(struct exchange *x);

/* Remembers the first reason why no other attempt can follow. */
void exchange_cannot_retry(struct exchange *x, const char *why);

/* HOLDING: looks at what has come of the answer, and acts once that is enough to judge it. */
void judge_held(struct exchange *x);
/* An attempt has ended, or was ended, after the head of its answer had come. */
void judge_answer(struct exchange *x);
/* An attempt that brought no answer has ended. */
void judge_transport(struct exchange *x, enum transport t);
/* The deadline has passed before anything was committed. */
void judge_deadline(struct exchange *x);
/* QUEUED: the deadline has passed before the next attempt could start (a long upload, a late
 * timer, a stale connection): it is not made. */
void judge_too_late(struct exchange *x);

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
