/* Writes errors of retryd's own in the shapes that the APIs have for theirs.
 *
 * OpenAI's is {"error":{"message":...,"type":...,"param":null,"code":...}}; Anthropic's the same with
 * "type":"error" before it; Google's {"error":{"code":STATUS,"message":...,"status":"UNAVAILABLE",
 * "details":[...]}}, with the code that is stable here as the reason of its ErrorInfo. `type` and `code` may
 * be NULL. All return 0, -ENOMEM or -EFBIG (then `out` has failed, and may hold a part). */
#ifndef RETRYD_POLICY_APIERROR_WRITE_H
#define RETRYD_POLICY_APIERROR_WRITE_H

#include "base/buf.h"
#include "http/dialect.h"

/* Appends it as the body of an answer. */
int apierror_write(struct buf *out, enum dialect dialect, unsigned status, const char *message,
                   const char *type, const char *code);

/* Appends the object alone that OpenAI and Anthropic have under `error`. */
int apierror_write_object(struct buf *out, const char *message, const char *type, const char *code);

#endif
