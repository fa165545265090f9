/* Joins answers: where a stream broke, another answer takes over behind what the client has.
 *
 * The request is made again, and while the new answer repeats what the client already has, it is
 * skipped, however its text is cut into events; then it goes on, with the ids, the model and the
 * sequence numbers of the first answer. Where it says something else, it is another answer, and
 * that is told at the first character.
 *
 * What is compared is text with its escapes undone, channel by channel: a choice's content, a tool
 * call's arguments, the text of an output item's part or of a content block. All else an event can bring (a role, a
 * finish_reason, response.output_item.added) is skipped as often as the client has it.
 *
 * In order: splice_event for each event of the answer. The stream breaks; where splice_possible
 * says so: splice_restart, then splice_event for each event of the new answer from its first on.
 * And so on, any number of times. */
#ifndef RETRYD_STREAM_SPLICE_H
#define RETRYD_STREAM_SPLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"
#include "http/dialect.h"

struct splice;

/* The streams that can be joined: those of chat, completions, Responses and Anthropic's messages. */
bool splice_knows(enum dialect d);

/* `d` is one of those. `cap`: the bytes of text that are remembered at
 * most, all channels together; up to twice as many are allocated. NULL: out of memory. */
struct splice *splice_new(enum dialect d, size_t cap);
void splice_free(struct splice *s);

enum splice_action {
    SPLICE_PASS,      /* forward the event as it is */
    SPLICE_REWRITTEN, /* forward `out` instead */
    SPLICE_SKIP,      /* the client has all of it */
    SPLICE_DIFFERS,   /* this is another answer: forward nothing of it any more */
    SPLICE_FAILED,    /* no memory to tell: as SPLICE_DIFFERS. Only after a restart */
};

/* Each event that the client gets or would get, in order, error events left out. Events that are
 * held come once they go out: what is told here, the client has. Those without data need not come.
 *
 * `event`: all its bytes, the empty line that closes it included. `data`: its data, lines joined,
 * valid JSON or what begins with "[DONE]"; either a slice of `event` or memory of its own. What stands in `out` is
 * overwritten; it is the caller's, and its cap has to hold an event that grew by some hundred
 * bytes. The first answer always passes and needs no `out`.
 *
 * A new answer's end ([DONE], a finish_reason, a terminal event) passes only where it said all that
 * the client has. After SPLICE_DIFFERS yet another attempt may be made, where splice_possible: what
 * the client has is still known. */
enum splice_action splice_event(struct splice *s, struct str event, struct str data,
                                struct buf *out);

/* Whether a break can be repaired. False for good once there was no memory, once the text passed
 * the cap or the answer was in too many parts, and where tool calls cannot be told apart. Events
 * go on as before: what has no need of memory still works. */
bool splice_possible(const struct splice *s);

/* Another attempt begins: what repeats is to be skipped. Only where splice_possible. */
void splice_restart(struct splice *s);

/* Bytes of memory that the remembered texts take, about. */
size_t splice_memory(const struct splice *s);

/* The number of the last Responses event that went out, as the client knows it. False: there is none. */
bool splice_sequence(const struct splice *s, uint64_t *ret_sequence);

#endif
