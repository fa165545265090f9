/* Writes errors as clients get them: as the body of a response, and as the event of a stream. */
#ifndef RETRYD_STREAM_ERROR_H
#define RETRYD_STREAM_ERROR_H

#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"
#include "http/dialect.h"
#include "policy/apierror.h"
#include "stream/guard.h"

/* --- bodies ----------------------------------------------------------------------------------- */

/* Appends the body of one of retryd's own errors, in the format of the API:
 * - OpenAI: {"error":{"message":...,"type":...,"param":null,"code":...}}
 * - Anthropic: the same, with "type":"error" in front
 * - Google: {"error":{"code":STATUS,"message":...,"status":"UNAVAILABLE","details":[...]}}, with
 *   `code` as the reason of its ErrorInfo
 *
 * `type` and `code` may be NULL. Returns 0, -ENOMEM or -EFBIG; after an error `out` has failed and
 * may hold a part. */
int error_body_write(struct buf *out, enum dialect dialect, unsigned status, const char *message,
                     const char *type, const char *code);

/* --- events ----------------------------------------------------------------------------------- */

/* The events that report, in a stream that has begun, that its response failed.
 *
 * Every SDK raises this form as an error (tests/sdk): all streams have `error` as an object, and
 * Responses has the flat fields beside it that its documentation shows
 * (https://platform.openai.com/docs/api-reference/responses-streaming). In Gemini's streams the
 * object has Google's form, with a number as its code.
 *
 * In chat the object has no other members beside it. With those of a chunk (id, object, choices),
 * strict types would parse the event as an ordinary chunk: async-openai 0.43 and @ai-sdk/openai
 * then report no error at all. Without them, async-openai raises that it cannot read the event, and
 * prints all of it, including the reason. */

/* Appends the event. `error` is the error object as JSON text, {"message":...,"code":...}; line
 * ends within it become spaces. `sequence` is the event's number in a Responses stream. 0 or
 * -ENOMEM (then `out` is unchanged). */
int error_event_write(struct buf *out, enum dialect dialect, uint64_t sequence, struct str error);

/* Appends response.failed, for clients that show no other reason: Codex reads the code and the
 * message of the response's error and ignores the error event. No SDK raises response.failed, so
 * the error event follows it. It has the fields that strict clients require of a response. 0 or
 * -ENOMEM (then `out` is unchanged). */
int error_event_failed(struct buf *out, const struct guard_response *known, uint64_t sequence,
                       struct str error);

/* Appends one of retryd's own error objects. 0 or -ENOMEM. */
int error_object_own(struct buf *out, const char *message, const char *code);

/* Appends the error object of a failed response's body, unchanged; if the body has none, one made
 * from the error that was read from it. 0 or -ENOMEM. */
int error_object_of(struct buf *out, struct str body, const struct apierror *read);

#endif
