/* How long the upstream asks us to wait (contract C6).
 *
 * In this order: retry-after-ms; retry-after (integer, float or HTTP-date: RFC 9110 10.2.3); the
 * fields of the error object (resets_in_seconds, resets_at, retryDelay and their like); its message's
 * own words; and only where none is given the reset of a rate-limit bucket whose remaining is 0
 * (x-ratelimit-*, ratelimit-*, anthropic-ratelimit-*, or all in one RateLimit field as
 * draft-ietf-httpapi-ratelimit-headers has it: "default";r=0;t=30), which tells when the bucket is full again, not
 * when a request fits, and so is capped by the backoff's max_delay. A reset is a duration, a number of
 * seconds, or a time: RFC 3339, or seconds or milliseconds since 1970, which no wait is as long as. */
#ifndef RETRYD_POLICY_HINT_H
#define RETRYD_POLICY_HINT_H

#include <stdbool.h>
#include <stdint.h>

#include "http/headers.h"
#include "policy/apierror.h"

enum hint_source {
    HINT_NONE,
    HINT_RETRY_AFTER_MS,
    HINT_RETRY_AFTER,
    HINT_ERROR, /* the fields of the error object */
    HINT_MESSAGE,
    HINT_BUCKET, /* weak: already capped at max_delay */
};

struct hint {
    enum hint_source source;
    uint64_t delay_ms; /* 0 with HINT_NONE */
};

/* `headers` and `error` are of the same answer; either may be NULL. Times are read against the
 * answer's own Date, where it has one, else against `unix_ms`, the wall clock, which may be wrong: one
 * in the past gives 0 ms. Malformed or negative values are skipped as if absent. Where several buckets
 * are empty the longest counts. */
struct hint hint_read(const struct headers *headers, const struct apierror *error, uint64_t unix_ms,
                      uint64_t max_delay_ms);

const char *hint_source_word(enum hint_source s);

/* IMF-fixdate, RFC 850 and asctime forms (RFC 9110 5.6.7) as ms since 1970; no locale, no TZ. What
 * is before 1970 gives 0; a two-digit year lies in 1970..2069. */
bool hint_http_date(struct str s, uint64_t *ret_unix_ms);

/* RFC 3339, "2026-01-02T03:04:05[.678]Z" or with an offset, as ms since 1970. */
bool hint_rfc3339(struct str s, uint64_t *ret_unix_ms);

#endif
