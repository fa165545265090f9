/* Reads the wait that the upstream asks for (C6).
 *
 * The sources, in order:
 * 1. retry-after-ms.
 * 2. retry-after: an integer, a decimal or an HTTP-date (RFC 9110, 10.2.3).
 * 3. The fields of the error object: resets_in_seconds, resets_at, retryDelay and similar.
 * 4. The text of its message.
 * 5. The reset of a rate-limit bucket with remaining 0, if nothing else is given: x-ratelimit-*,
 *    ratelimit-*, anthropic-ratelimit-*, or the combined RateLimit field of
 *    draft-ietf-httpapi-ratelimit-headers ("default";r=0;t=30). It says when the bucket is full
 *    again and not when one request fits, so it is limited to the backoff's max_delay.
 *
 * A reset is a duration, a number of seconds, or a time: RFC 3339, or seconds or milliseconds since
 * 1970, which are too large to be a wait. */
#ifndef RETRYD_POLICY_HINT_H
#define RETRYD_POLICY_HINT_H

#include <stdbool.h>
#include <stdint.h>

#include "http/message.h"
#include "policy/apierror.h"

enum hint_source {
    HINT_NONE,
    HINT_RETRY_AFTER_MS,
    HINT_RETRY_AFTER,
    HINT_ERROR, /* the fields of the error object */
    HINT_MESSAGE,
    HINT_BUCKET, /* weak, and already limited to max_delay */
};

struct hint {
    enum hint_source source;
    uint64_t delay_ms; /* 0 for HINT_NONE */
};

/* Reads the hint of one response. `headers` and `error` belong to the same response; either may be
 * NULL. Times are relative to the response's Date, or, without one, to `unix_ms`, the wall clock,
 * which may be wrong. A time in the past gives 0 ms. Malformed and negative values are ignored. If
 * several buckets are empty, the longest reset counts. */
struct hint hint_read(const struct headers *headers, const struct apierror *error, uint64_t unix_ms,
                      uint64_t max_delay_ms);

/* Returns the word for the log. */
const char *hint_source_word(enum hint_source s);

/* Parses the three formats of an HTTP-date: IMF-fixdate, RFC 850 and asctime (RFC 9110, 5.6.7). The
 * result is in ms since 1970; a date before 1970 gives 0. A two-digit year is in 1970..2069.
 * Neither the locale nor TZ matters. */
bool hint_http_date(struct str s, uint64_t *ret_unix_ms);

/* Parses an RFC 3339 time, "2026-01-02T03:04:05[.678]Z" or with an offset, as ms since 1970. */
bool hint_rfc3339(struct str s, uint64_t *ret_unix_ms);

/* Finds the wait that a message names: "try again in 9.816s", "976ms", "6m0s", "1 second", "retry
 * after 12 seconds", "will reset after 2s", "please wait 3 seconds". */
bool hint_in_message(struct str message, uint64_t *ret_ms);

#endif
