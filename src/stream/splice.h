/* Joins responses: after a stream broke, a new response continues what the client already has.
 *
 * The request is sent again. The part of the new response that repeats what the client has is
 * skipped, however its text is cut into events. The rest follows, with the ids, the model and the
 * sequence numbers of the first response. If the new response differs, the first different
 * character shows it.
 *
 * Text is compared without its escapes, channel by channel. A channel is a choice's content, a tool
 * call's arguments, or the text of an output item's part or of a content block. Anything else in an
 * event (a role, a finish_reason, response.output_item.added) is skipped as often as the client has
 * it.
 *
 * Call splice_event for each event of the response. If the stream breaks and splice_possible is
 * true, call splice_restart, then splice_event for each event of the new response from its first
 * on. This may happen any number of times. */
#ifndef RETRYD_STREAM_SPLICE_H
#define RETRYD_STREAM_SPLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"
#include "http/dialect.h"

struct splice;

/* Whether streams of this API can be joined: chat, completions, Responses, Anthropic's messages. */
bool splice_knows(enum dialect d);

/* Creates a splice for an API that splice_knows. `cap` limits the bytes of text that are remembered
 * in all channels together; up to twice as many are allocated. NULL: out of memory. */
struct splice *splice_new(enum dialect d, size_t cap);
void splice_free(struct splice *s);

enum splice_action {
    SPLICE_PASS,      /* forward the event as it is */
    SPLICE_REWRITTEN, /* forward `out` instead */
    SPLICE_SKIP,      /* the client has all of it */
    SPLICE_DIFFERS,   /* this is another response: forward no more of it */
    SPLICE_FAILED,    /* no memory; as SPLICE_DIFFERS. Only after a restart */
};

/* Takes each event that the client gets or would get, in order, except error events. The client has
 * each event that passes here. Events without data may be left out.
 *
 * `event` is the whole event, including its closing empty line. `data` is its data field, lines
 * joined: valid JSON, or text that begins with "[DONE]". It is a slice of `event` or separate
 * memory. The contents of `out` are overwritten; its cap must hold an event that grew by some
 * hundred bytes. The first response always passes and needs no `out`.
 *
 * A new response's end ([DONE], a finish_reason, a terminal event) passes only if the response
 * repeated all that the client has. After SPLICE_DIFFERS another attempt is possible while
 * splice_possible is true: the record of what the client has is intact. */
enum splice_action splice_event(struct splice *s, struct str event, struct str data,
                                struct buf *out);

/* Whether a break can be repaired. It becomes false for good if memory ran out, if the text
 * exceeded the cap, if the response had too many parts, or if its tool calls cannot be
 * distinguished. Later events still pass. */
bool splice_possible(const struct splice *s);

/* Another attempt begins, and its repetitions will be skipped. Call it only if splice_possible. */
void splice_restart(struct splice *s);

/* Returns the approximate memory of the remembered texts, in bytes. */
size_t splice_memory(const struct splice *s);

/* Finds the sequence number of the last Responses event that the client received. Returns false if
 * there is none. */
bool splice_sequence(const struct splice *s, uint64_t *ret_sequence);

#endif
