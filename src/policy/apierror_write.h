/* Writes retryd's own errors in the formats of the APIs:
 * - OpenAI: {"error":{"message":...,"type":...,"param":null,"code":...}}
 * - Anthropic: the same, with "type":"error" in front
 * - Google: {"error":{"code":STATUS,"message":...,"status":"UNAVAILABLE","details":[...]}}, with
 *   `code` as the reason of its ErrorInfo
 *
 * `type` and `code` may be NULL. The functions return 0, -ENOMEM or -EFBIG; after an error `out`
 * has failed and may hold a part. */
#ifndef RETRYD_POLICY_APIERROR_WRITE_H
#define RETRYD_POLICY_APIERROR_WRITE_H

#include "base/buf.h"
#include "http/dialect.h"

/* Appends the body of an error response. */
int apierror_write(struct buf *out, enum dialect dialect, unsigned status, const char *message,
                   const char *type, const char *code);

/* Appends only the object that OpenAI and Anthropic have as `error`. */
int apierror_write_object(struct buf *out, const char *message, const char *type, const char *code);

#endif
