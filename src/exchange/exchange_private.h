/* What the files of the exchange share: exchange.c lives, times.c waits, placement.c aims, hedge.c lets
 * two race, judge.c decides, stream.c looks at events, relay.c delivers. */
#ifndef RETRYD_EXCHANGE_EXCHANGE_PRIVATE_H
#define RETRYD_EXCHANGE_EXCHANGE_PRIVATE_H

#include "exchange/exchange.h"
#include "exchange/response.h"

/* --- exchange.c: from the first byte to the last --- */

/* The one setter: asserts that the move is allowed. */
void exchange_set(struct exchange *x, enum exchange_state to);

/* Ends it: DONE, told to the world once. */
void exchange_end(struct exchange *x, enum exchange_end end);

/* Cancels the attempt if it runs. */
void exchange_stop_attempt(struct exchange *x);

/* Counts the deadline from `since_ms` on, and the client's limits on silence from `heard_ms`, when it last
 * had something to read (DEADLINE_NONE: often enough). */
void exchange_set_deadline(struct exchange *x, uint64_t since_ms, uint64_t heard_ms);

/* Remembers the first reason why no other attempt can follow. */
void exchange_cannot_retry(struct exchange *x, const char *why);

/* QUEUED: the attempt's turn has come. `fresh`: on a new connection. */
void exchange_start_attempt(struct exchange *x, bool fresh);

/* Sends the request to the turn's target of `a`. 0 or -errno: then a->detail says why. */
int exchange_send(struct exchange *x, struct attempt *a, bool fresh);

/* Whether the attempt's answer, which has a head, is a stream that can be looked into. OPEN: its first
 * bytes are to tell. */
enum sse_begin exchange_is_stream(const struct exchange *x, const struct attempt *a);

/* It is one: its events are what is looked at from now on. */
void exchange_begin_stream(struct exchange *x);

/* Acts on what has come, as the state asks for. */
void exchange_look(struct exchange *x);

/* --- repeat.c: the client's own retries --- */

/* The request has a plan: whether it is one that has just failed here. */
void repeat_notice(struct exchange *x);
/* The exchange ends: remembers its request, or forgets it. */
void repeat_remember(const struct exchange *x);
/* An attempt has failed: the words to remember. */
void repeat_note_failure(struct exchange *x, const struct outcome *o);
/* How the request failed before it was repeated, for a repeat that has had no attempt of its own; "": it is
 * none, or nothing is known. */
const char *repeat_words(const struct exchange *x);

/* --- hedge.c: two attempts at once --- */

/* When a second attempt is due; TIMER_OFF: none is. */
uint64_t hedge_time(const struct exchange *x);
void hedge_start(struct exchange *x);
/* When the rival has taken too long, and what follows. */
uint64_t hedge_limit(const struct exchange *x);
void hedge_timed_out(struct exchange *x);
/* Whichever of the two is to be judged becomes the attempt. */
void hedge_look(struct exchange *x);
/* The attempt has failed: true where the rival takes its place. */
bool hedge_goes_on(struct exchange *x);
/* Ends the rival, if there is one. */
void hedge_drop(struct exchange *x);

/* --- unfit.c: whom a request's model rules out --- */

/* Whether that upstream cannot be asked for `model`, for it has another name for it, or wants it in its
 * url: where the request names none, or names it in a packed body, where none can be replaced. */
bool unfit_is(const struct exchange *x, const struct upstream *p, struct str model);
/* ... and none of the plan's can. */
bool unfit_all(const struct exchange *x, struct str model);
/* The plan has fallback models, and none can be asked for. */
bool unfit_fallbacks(const struct exchange *x);
/* The request has a plan, and there is none to go to: it is told so. */
bool unfit_refused(struct exchange *x);
/* Ends it: `need` ("the routes need") the model, which the packed body hides. */
void unfit_tell_hidden(struct exchange *x, const char *need);

/* --- renew.c: keys and certificates that have changed --- */

/* No attempt is under way: the next one takes the keys and certificates that are in force now. */
void renew_targets(struct exchange *x);
/* The target's key was rejected: whether its file holds another one by now. Once for each request. */
bool renew_finds_key(struct exchange *x);

/* --- placement.c: where attempts go --- */

/* The request has a plan. */
void placement_begin(struct exchange *x);
/* The next attempt waits for its turn: from RECEIVING, BACKOFF, or after an attempt. */
void placement_queue(struct exchange *x);
/* Asks for a turn. */
enum turn_state placement_ask(struct exchange *x, struct turn *turn,
                              const struct turn_request *turn_request);
/* QUEUED: looks whether its turn has come. */
void placement_step(struct exchange *x);
/* QUEUED: it has waited for as long as one may. */
void placement_timeout(struct exchange *x);
/* When that is; TIMER_OFF: never. */
uint64_t placement_time(const struct exchange *x);
/* It waits for no turn any more. */
void placement_leave(struct exchange *x);
/* The attempt goes to its turn's upstream: another one there is a repeat. */
void placement_visit(struct exchange *x, const struct attempt *a);
/* The attempt is over: so is its turn. Harmless where it is. */
void placement_release(struct exchange *x, struct attempt *a);
/* What was learned of the attempt's target. */
void placement_tell(struct exchange *x, const struct verdict *v, const struct hint *hint);
/* The same of one that goes well so far, or to its end. */
void placement_tell_good(struct exchange *x, enum turn_stage stage);
/* The attempt speaks against its connection: the next one of this request at the same upstream goes
 * over a new one. */
void placement_note_sick(struct exchange *x);
/* Whether `a`, about to start, has to; asked once for each attempt. */
bool placement_begins_anew(struct exchange *x, const struct attempt *a);
/* It has failed while the other of two goes on: remembered, should that one fail, too. */
void placement_note(struct exchange *x, const struct verdict *v);
/* What follows a failed attempt, and what is charged for it (C4, C9, C18). */
struct retry_decision placement_decide(struct exchange *x, const struct verdict *v,
                                       const struct hint *hint);
/* Whether there would be another attempt, of one that may go on as well. Where there would, it is
 * charged already: no attempt is to end for one that the budget has no room for. */
bool placement_would_repeat(struct exchange *x, const struct verdict *v);
/* Another attempt was decided. */
void placement_move(struct exchange *x, const struct verdict *v, enum move move);
/* The name of the last attempt's upstream, for a person. */
const char *placement_name(const struct exchange *x);

/* --- times.c: how long things may take --- */

/* Acts on a time that has come. True when it changed something; false when this state has not waited
 * long enough, and then `ret_next` is when it has: a timeout, the deadline, the end of a backoff, the
 * next heartbeat. TIMER_OFF: never. */
bool times_act(struct exchange *x, uint64_t *ret_next);

/* --- stream.c: the limits on mending an answer that its client has a part of --- */

/* The deadline as it would be for a break now, or is for the one that is being mended: mend_timeout,
 * or what the client has declared, from what it was given last. */
void mending_set_deadline(struct exchange *x);
/* The stream broke, and its client has a part of it: nothing where it has none, or where what is to
 * mend it has broken. */
void mending_begin(struct exchange *x);
/* Something new goes out. */
void mending_end(struct exchange *x);

/* --- contents.c: what a whole answer holds --- */

struct contents {
    struct apierror error; /* kind NONE: there is none */
    bool silent;           /* it is a completion that says nothing, if it is whole */
};

/* Of the attempt's answer, as far as it has come, whatever its coding. */
void contents_read(const struct exchange *x, struct contents *ret);

/* --- judge.c: what an attempt came to --- */

/* The head of an attempt's answer has come, and it is no stream. */
void judge_start(struct exchange *x);

/* Whether an answer of this status to the request is a good one that has a body (RFC 9110 6.4.1). */
bool judge_may_have_body(const struct exchange *x, unsigned status);

/* HOLDING, not of a stream: looks at what has come, and acts once that is enough to judge it. */
void judge_held(struct exchange *x);
/* Whether an attempt that ended so would be followed by another. */
bool judge_may_repeat(struct exchange *x, const struct outcome *o);
/* Whether a completion that says nothing would be asked for once more (C3). */
bool judge_may_ask_again(struct exchange *x, const struct outcome *o);
/* A stream lacks nothing but the usage that was asked for, and judge_may_repeat: one more attempt, and
 * where that fails what came is delivered. */
void judge_without_usage(struct exchange *x, const struct outcome *o);
/* Whether such an answer, or an empty completion, has come: then it is delivered now. */
bool judge_deliver_what_came(struct exchange *x);
/* A stream broke, ended too early, or told an error; or it says nothing, and judge_may_ask_again. */
void judge_stream(struct exchange *x, const struct outcome *o);
/* An attempt that brought no answer has ended. */
void judge_transport(struct exchange *x, enum transport t);
/* The deadline has passed before anything was committed. */
void judge_deadline(struct exchange *x);
/* QUEUED: the deadline has passed before the next attempt could start (a long upload, a late
 * timer, a stale connection, a long queue): it is not made. */
void judge_too_late(struct exchange *x);
/* QUEUED: it waits in vain. `detail`: what for. `retry_after_ms`: when it might not; 0: not known. */
void judge_in_vain(struct exchange *x, enum reason reason, const char *detail,
                   uint64_t retry_after_ms);

/* --- relay.c: the answer's way to the client --- */

/* Delivers the attempt's whole answer with `status`; it is done and nothing was sent before. */
void relay_whole(struct exchange *x, unsigned status);

/* The Content-Length of an answer; LENGTH_UNKNOWN where it has none. */
uint64_t relay_upstream_length(const struct headers *h);

/* Keeps the stream that came, whose head is the attempt's and whose events are held. 0 or -ENOMEM. */
int relay_keep_stream(struct exchange *x);

/* Delivers the kept answer, which was good: behind the heartbeats, where the client has had some. */
void relay_kept_response(struct exchange *x);

/* Delivers the kept error answer. */
void relay_kept_error(struct exchange *x);

/* Delivers an error of our own. */
void relay_own_error(struct exchange *x, enum exchange_end end, unsigned status, enum reason reason,
                     const char *code, const char *message);

/* Begins the answer of a stream before there is one, for a heartbeat. False where it cannot, and then
 * the exchange has ended. */
bool relay_begin_early(struct exchange *x);

/* Commits the attempt's answer (C10): the only way for it into RELAYING. */
void relay_commit(struct exchange *x);

/* Committed: lets the client have what was held, and tells it. */
void relay_release(struct exchange *x);

/* HOLDING or RELAYING: the answer is whole, and ends behind what was added to it. */
void relay_end(struct exchange *x);

/* True, and the stream in hand has been ended as whole, where it was finished but for its usage, its mark or
 * its connection: for when there is no time left to wait for those. */
bool relay_end_finished(struct exchange *x);

/* The client has all of a stream but its usage and its mark: it gets the mark. */
void relay_end_without_usage(struct exchange *x);
/* Ends an answer that has begun, or a stream that may, with the event that tells its failure; by a
 * break where its kind is not known (C12). */
void relay_last_words(struct exchange *x);

/* A slow client slows the upstream down: this many bytes of a committed answer may wait for it, and
 * what waits is taken off the mark at which the attempt has to pause. */
#define RELAY_WAITING_MAX (128 * 1024)
size_t relay_mark(const struct exchange *x);

/* The paused attempt goes on. */
void relay_resume(struct exchange *x);

/* RELAYING: moves what has come on towards the client, and ends the answer when it is over. */
void relay_step(struct exchange *x);

/* The client's side has taken the end: the exchange is over, in whatever state. */
void relay_finish(struct exchange *x);

/* --- last_words.c: how a stream that failed ends --- */

/* Adds the event that tells of the failure to the answer on its way: the upstream's own where it sent
 * one, and to a stream of unknown kind nothing else. 0 or -ENOMEM. */
int last_words_add(struct exchange *x);

/* The attempt's stream ended in an error event before the client had a part of it: keeps that as the
 * error answer that it would have been, should it be the last word of an upstream (C24). Without memory
 * for it nothing is kept. */
void last_words_keep(struct exchange *x);

/* --- stream.c: an answer in events --- */

void stream_init(struct stream *stream); /* allocates nothing */
void stream_deinit(struct stream *stream);
/* Bytes that it holds of the answer. */
size_t stream_memory(const struct stream *stream);

/* The request has a plan: what a stream that answers it would be. */
void stream_expect(struct exchange *x);

/* The head of an attempt's answer has come, and it is a stream. */
void stream_start(struct exchange *x);

/* HOLDING or RELAYING, of a stream: looks at what has come; commits it, passes it on, judges it. */
void stream_step(struct exchange *x);

/* Adds what says that the answer is at its end, where its API has such an event. 0 or -ENOMEM. */
int stream_add_end(struct exchange *x);

/* Whether more of a stream has come than could be looked at yet: its client is slow, and its coding
 * makes much of little. */
bool stream_has_more(const struct exchange *x);

/* Whether the stream that broke can be read on where it broke: a response that runs on in the
 * background, with its id known. */
bool stream_resumable(const struct exchange *x);

#endif
