/* Shared by the files of the exchange: exchange.c runs the state machine and its timers,
 * placement.c picks targets, hedge.c races two attempts, judge.c judges attempts, stream.c reads
 * events, relay.c delivers the response. */
#ifndef RETRYD_EXCHANGE_EXCHANGE_PRIVATE_H
#define RETRYD_EXCHANGE_EXCHANGE_PRIVATE_H

#include "exchange/exchange.h"
#include "exchange/response.h"

/* --- exchange.c: the state machine ------------------------------------------------------------ */

/* Changes the state; nothing else does. Asserts that the move is allowed and logs it at debug. */
void exchange_set(struct exchange *x, enum exchange_state to);

/* Moves to DONE and reports that to the world, once. */
void exchange_end(struct exchange *x, enum exchange_end end);

/* Cancels the attempt if it runs. */
void exchange_stop_attempt(struct exchange *x);

/* Sets the deadline, counted from `since_ms`. The client's own limits on silence count from
 * `heard_ms`, when it last received something (DEADLINE_NONE: it receives heartbeats, so they do
 * not apply). */
void exchange_set_deadline(struct exchange *x, uint64_t since_ms, uint64_t heard_ms);

/* Records why no other attempt can follow; the first reason is kept. */
void exchange_cannot_retry(struct exchange *x, const char *why);

/* QUEUED: starts the attempt, whose turn was granted. `fresh`: on a new connection. */
void exchange_start_attempt(struct exchange *x, bool fresh);

/* Sends the request to the target of `a`. Returns 0, or -errno with the reason in a->detail. */
int exchange_send(struct exchange *x, struct attempt *a, bool fresh);

/* Returns whether the attempt's response, whose headers have come, is an event stream that retryd
 * can read. OPEN: its first bytes decide. */
enum sse_begin exchange_is_stream(const struct exchange *x, const struct attempt *a);

/* Treats the response as an event stream from now on. */
void exchange_begin_stream(struct exchange *x);

/* Acts on the bytes that have come, as the state requires. */
void exchange_look(struct exchange *x);

/* --- failures.c: the client's own retries ----------------------------------------------------- */

/* Checks whether the request, which has a plan by now, repeats one that has just failed here. */
void repeat_notice(struct exchange *x);
/* Remembers the request of an exchange that ended in failure, or forgets it after a success. */
void repeat_remember(const struct exchange *x);
/* Records the words of a failed attempt, to be remembered. */
void repeat_note_failure(struct exchange *x, const struct outcome *o);
/* Returns how the request failed before, for a repeat that has had no attempt of its own; "" if it
 * is no repeat or nothing is known. */
const char *repeat_words(const struct exchange *x);

/* --- hedge.c: two attempts at once ------------------------------------------------------------ */

/* Returns when a second attempt is due; TIMER_OFF: never. */
uint64_t hedge_time(const struct exchange *x);
void hedge_start(struct exchange *x);
/* Returns when the second attempt has taken too long. */
uint64_t hedge_limit(const struct exchange *x);
/* Ends the second attempt, which has taken too long. */
void hedge_timed_out(struct exchange *x);
/* Makes the one of the two that is to be judged x->attempt. */
void hedge_look(struct exchange *x);
/* The attempt has failed. Returns true if the other one takes its place. */
bool hedge_goes_on(struct exchange *x);
/* Cancels the second attempt, if there is one. */
void hedge_drop(struct exchange *x);

/* --- placement.c: where attempts go ----------------------------------------------------------- */

/* Ends the exchange with an error and returns true if no upstream of the plan can serve the
 * request's model. */
bool placement_refuses_unfit(struct exchange *x);
/* Ends the exchange with an error: `need` ("the routes need") the model, which a packed body
 * hides. */
void placement_refuse_hidden(struct exchange *x, const char *need);
/* The target rejected its key. Returns whether the file of that key holds another one by now; true
 * at most once for each request. */
bool placement_finds_other_key(struct exchange *x);

/* The request has a plan: prepares the first turn. */
void placement_begin(struct exchange *x);
/* Queues the next attempt: from RECEIVING, BACKOFF, or after an attempt. */
void placement_queue(struct exchange *x);
/* Asks for a turn. */
enum turn_state placement_ask(struct exchange *x, struct turn *turn,
                              const struct turn_request *turn_request);
/* QUEUED: checks whether the turn was granted or refused. */
void placement_step(struct exchange *x);
/* QUEUED: the turn has not come in time. */
void placement_timeout(struct exchange *x);
/* Returns when placement_timeout is due; TIMER_OFF: never. */
uint64_t placement_time(const struct exchange *x);
/* Leaves the queue. */
void placement_leave(struct exchange *x);
/* Notes that `a` goes to the upstream of its turn: another attempt there is a repeat. */
void placement_visit(struct exchange *x, const struct attempt *a);
/* Gives the turn of a finished attempt back. Harmless if that was done. */
void placement_release(struct exchange *x, struct attempt *a);
/* Reports what the attempt showed about its target. */
void placement_tell(struct exchange *x, const struct verdict *v, const struct hint *hint);
/* Reports an attempt that goes well so far, or to its end. */
void placement_tell_good(struct exchange *x, enum turn_stage stage);
/* Notes that the attempt's connection is suspect: this request's next attempt at the same upstream
 * takes a new one. */
void placement_note_sick(struct exchange *x);
/* Returns whether `a`, about to start, must take a new connection. Asked once for each attempt. */
bool placement_begins_anew(struct exchange *x, const struct attempt *a);
/* One of two attempts failed while the other goes on: keeps the verdict in case that one fails,
 * too. */
void placement_note(struct exchange *x, const struct verdict *v);
/* Decides what follows a failed attempt, and charges the budget for it (C4, C9, C18). */
struct retry_decision placement_decide(struct exchange *x, const struct verdict *v,
                                       const struct hint *hint);
/* Returns whether an attempt that ended with this verdict would be followed by another. The budget
 * is charged then: an attempt must not be ended in favour of one that the budget has no room
 * for. */
bool placement_would_repeat(struct exchange *x, const struct verdict *v);
/* Carries out the decision. */
void placement_move(struct exchange *x, const struct verdict *v, enum move move);
/* Returns the name of the last attempt's upstream, for messages. */
const char *placement_name(const struct exchange *x);

/* --- stream.c: the limits on mending a response that the client has a part of ----------------- */

/* Sets the deadline for the break that is being mended, or would be if the stream broke now:
 * mend_timeout, or what the client declared, counted from what it received last. */
void mending_set_deadline(struct exchange *x);
/* The stream broke. Does nothing unless the client has a part of it, or while an earlier break is
 * being mended. */
void mending_begin(struct exchange *x);
/* Something new goes out to the client: the break is mended. */
void mending_end(struct exchange *x);

/* --- judge.c: what an attempt came to --------------------------------------------------------- */

/* The attempt's response headers have come, and it is no stream. */
void judge_start(struct exchange *x);

/* Returns whether a response of this status to the request is a success that has a body (RFC 9110
 * 6.4.1). */
bool judge_may_have_body(const struct exchange *x, unsigned status);

/* HOLDING, no stream: reads the bytes that have come, and acts once they suffice for a verdict. */
void judge_held(struct exchange *x);
/* Returns whether an attempt with this outcome would be followed by another. */
bool judge_may_repeat(struct exchange *x, const struct outcome *o);
/* Returns whether an empty completion would be requested once more (C3). */
bool judge_may_ask_again(struct exchange *x, const struct outcome *o);
/* The stream lacks only the usage that was asked for, and judge_may_repeat: makes one more attempt.
 * If that fails, the stream is delivered as it came. */
void judge_without_usage(struct exchange *x, const struct outcome *o);
/* Delivers a kept response (one without usage, or an empty completion) and returns true; false if
 * there is none. */
bool judge_deliver_what_came(struct exchange *x);
/* A stream broke, ended early or reported an error; or it is empty, and judge_may_ask_again. */
void judge_stream(struct exchange *x, const struct outcome *o);
/* An attempt ended without a response. */
void judge_transport(struct exchange *x, enum transport t);
/* The deadline has passed before anything was committed. */
void judge_deadline(struct exchange *x);
/* QUEUED: the deadline has passed before the next attempt could start (a long upload, a late timer,
 * a stale connection, a long queue). No attempt is made. */
void judge_too_late(struct exchange *x);
/* QUEUED: no turn can be had. `detail` says why; `retry_after_ms` says when one might; 0: not
 * known. */
void judge_in_vain(struct exchange *x, enum reason reason, const char *detail,
                   uint64_t retry_after_ms);

/* --- relay.c: the response's way to the client ------------------------------------------------ */

/* Delivers the attempt's complete response with `status`. Nothing was sent before. */
void relay_whole(struct exchange *x, unsigned status);

/* Returns the Content-Length of a response; LENGTH_UNKNOWN if it has none. */
uint64_t relay_upstream_length(const struct headers *h);

/* Keeps the stream that came: the attempt's headers and the held events. Returns 0 or -ENOMEM. */
int relay_keep_stream(struct exchange *x);

/* Delivers the kept response, which was a success: after the heartbeats, if the client received
 * any. */
void relay_kept_response(struct exchange *x);

/* Delivers the kept error response. */
void relay_kept_error(struct exchange *x);

/* Delivers an error of retryd's own. */
void relay_own_error(struct exchange *x, enum exchange_end end, unsigned status, enum reason reason,
                     const char *code, const char *message);

/* Begins the response of a stream before the upstream's has come, for a heartbeat. Returns false if
 * that fails; then the exchange has ended. */
bool relay_begin_early(struct exchange *x);

/* Commits the attempt's response (C10). The only way into RELAYING. */
void relay_commit(struct exchange *x);

/* Committed: releases the held bytes to the client and wakes its side. */
void relay_release(struct exchange *x);

/* HOLDING or RELAYING: the response is complete and ends after the bytes that were added to it. */
void relay_end(struct exchange *x);

/* No time is left: ends a stream as complete and returns true if it lacks only its usage, its end
 * mark or the end of its connection. Returns false for any other. */
bool relay_end_finished(struct exchange *x);

/* The client has all of a stream but its usage and its end mark: sends the mark. */
void relay_end_without_usage(struct exchange *x);
/* Ends a response that has begun, or a stream that may begin, with the event that reports its
 * failure; breaks the connection if the API is unknown (C12). */
void relay_last_words(struct exchange *x);
/* The attempt's stream ended in an error event before the client had a part of it: keeps that event
 * as an error response, in case it is the last thing that an upstream says (C24). Keeps nothing if
 * memory is short. */
void relay_keep_error_event(struct exchange *x);

/* A slow client slows the upstream down: at most this many bytes of a committed response wait for
 * the client. They are subtracted from the mark at which the attempt pauses. */
#define RELAY_WAITING_MAX (128 * 1024)
size_t relay_mark(const struct exchange *x);

/* Resumes the paused attempt. */
void relay_resume(struct exchange *x);

/* RELAYING: passes on the bytes that have come, and ends the response when it is complete. */
void relay_step(struct exchange *x);

/* The client's side has taken the end: the exchange is over, whatever its state. */
void relay_finish(struct exchange *x);

/* --- stream.c: a response in events ----------------------------------------------------------- */

void stream_init(struct stream *stream); /* allocates nothing */
void stream_deinit(struct stream *stream);
/* Returns how many bytes of the response it holds. */
size_t stream_memory(const struct stream *stream);

/* The request has a plan: notes which kind of stream the response would be. */
void stream_expect(struct exchange *x);

/* The attempt's response headers have come, and it is a stream. */
void stream_start(struct exchange *x);

/* HOLDING or RELAYING a stream: reads the events that have come; commits, forwards or judges
 * them. */
void stream_step(struct exchange *x);

/* Adds the event that ends a complete response, if its API has one. Returns 0 or -ENOMEM. */
int stream_add_end(struct exchange *x);

/* Returns whether part of the stream is still unread, because the client is slow and the encoding
 * expands. */
bool stream_has_more(const struct exchange *x);

/* Returns whether a broken stream can be resumed where it broke: a background response with a known
 * id. */
bool stream_resumable(const struct exchange *x);

#endif
