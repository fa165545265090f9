/* Writes the event that tells, in a stream that has begun, that its answer failed.
 *
 * In the form that every SDK raises as an error (tests/sdk): `error` as an object for all streams, and
 * for the Responses API the flat fields beside it, which its own documentation shows
 * (https://platform.openai.com/docs/api-reference/responses-streaming). In Gemini's streams the object
 * is one of Google's, with a number as its code.
 *
 * In chat the object stands alone. With the members of a chunk beside it (id, object, choices) strict
 * types could read the event, and would take it for a chunk like any other: async-openai 0.43 and
 * @ai-sdk/openai then report no error at all. As it is async-openai raises that it cannot read the
 * event, and prints all of it, the reason too. */
#ifndef RETRYD_STREAM_ERROR_EVENT_H
#define RETRYD_STREAM_ERROR_EVENT_H

#include "policy/apierror.h"
#include "stream/guard.h"

/* Appends the event. `error` is the error object as JSON text, {"message":...,"code":...}; line
 * ends within it become spaces. `sequence` is the event's number in a Responses stream. 0 or -ENOMEM
 * (then `out` is as it was). */
int error_event_write(struct buf *out, enum dialect dialect, uint64_t sequence, struct str error);

/* Appends response.failed, which carries the reason to clients that show no other: Codex reads code
 * and message of the response's error and leaves the error event aside. No SDK raises it, so the error
 * event goes behind it. The fields are those that strict clients want of a response. 0 or -ENOMEM
 * (then `out` is as it was). */
int error_event_failed(struct buf *out, const struct guard_response *known, uint64_t sequence,
                       struct str error);

/* Appends an error object of retryd's own. 0 or -ENOMEM. */
int error_event_own(struct buf *out, const char *message, const char *code);

/* Appends the error object of a failed answer's body, or else of what was read from it: as the API
 * gave it where it gave one. 0 or -ENOMEM. */
int error_event_object(struct buf *out, struct str body, const struct apierror *read);

#endif
