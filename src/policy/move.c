/* The table of what helps after which failure, and the order of the moves. */
#include "policy/move.h"

#define ELSEWHERE (HELPS_UPSTREAM | HELPS_MODEL)
/* Another model does not help, because it has the same keys. */
#define ACCOUNTS (HELPS_KEY | HELPS_UPSTREAM)
#define ANYWHERE (HELPS_KEY | HELPS_UPSTREAM | HELPS_MODEL)

/* Nothing helps after a failure that is not listed, and it never leaves its tier. */
static const struct {
    unsigned helps, cause;
} failures[REASON_COUNT] = {
    [REASON_DNS] = {ELSEWHERE, FALLBACK_ON_ERROR},
    [REASON_CONNECT] = {ELSEWHERE, FALLBACK_ON_ERROR},
    [REASON_TLS] = {ELSEWHERE, FALLBACK_ON_ERROR},
    [REASON_CERTIFICATE] = {ELSEWHERE, FALLBACK_ON_ERROR},
    [REASON_PROXY] = {ELSEWHERE, FALLBACK_ON_ERROR},
    [REASON_LOST_UPLOAD] = {ELSEWHERE, FALLBACK_ON_ERROR},
    [REASON_LOST] = {ELSEWHERE, FALLBACK_ON_ERROR},
    [REASON_TRUNCATED] = {ELSEWHERE, FALLBACK_ON_ERROR},
    [REASON_BAD_RESPONSE] = {ELSEWHERE, FALLBACK_ON_ERROR},
    [REASON_CONNECT_TIMEOUT] = {ELSEWHERE, FALLBACK_ON_ERROR},
    [REASON_UPLOAD_TIMEOUT] = {ELSEWHERE, FALLBACK_ON_TIMEOUT},
    [REASON_FIRST_BYTE_TIMEOUT] = {ELSEWHERE, FALLBACK_ON_TIMEOUT},
    [REASON_FIRST_CONTENT_TIMEOUT] = {ELSEWHERE, FALLBACK_ON_TIMEOUT},
    [REASON_IDLE_TIMEOUT] = {ELSEWHERE, FALLBACK_ON_TIMEOUT},
    [REASON_TOTAL_TIMEOUT] = {ELSEWHERE, FALLBACK_ON_TIMEOUT},
    [REASON_REQUEST_TIMEOUT] = {ELSEWHERE, FALLBACK_ON_ERROR},
    [REASON_CONFLICT] = {ELSEWHERE, FALLBACK_ON_ERROR},
    [REASON_TOO_EARLY] = {ELSEWHERE, FALLBACK_ON_ERROR},
    [REASON_RATE_LIMIT] = {ANYWHERE, FALLBACK_ON_ERROR},
    [REASON_OVERLOADED] = {ELSEWHERE, FALLBACK_ON_ERROR},
    [REASON_SERVER_ERROR] = {ELSEWHERE, FALLBACK_ON_ERROR},
    [REASON_BAD_GATEWAY] = {ELSEWHERE, FALLBACK_ON_ERROR},
    [REASON_GATEWAY_TIMEOUT] = {ELSEWHERE, FALLBACK_ON_ERROR},
    [REASON_ERROR_IN_BODY] = {ELSEWHERE, FALLBACK_ON_ERROR},
    [REASON_ERROR_IN_STREAM] = {ELSEWHERE, FALLBACK_ON_ERROR},
    [REASON_EMPTY_STREAM] = {ELSEWHERE, FALLBACK_ON_ERROR},
    [REASON_EMPTY_RESPONSE] = {ELSEWHERE, FALLBACK_ON_ERROR},
    [REASON_MALFORMED] = {ELSEWHERE, FALLBACK_ON_ERROR},
    [REASON_UPSTREAM_SAYS_RETRY] = {ELSEWHERE, FALLBACK_ON_ERROR},
    [REASON_UPSTREAM_SAYS_NO] = {ELSEWHERE, FALLBACK_ON_ERROR},
    [REASON_QUOTA] = {ACCOUNTS, FALLBACK_ON_ERROR},
    [REASON_KEY] = {ACCOUNTS, FALLBACK_ON_ERROR},
    [REASON_PERMISSION] = {ANYWHERE, FALLBACK_ON_ERROR},
    [REASON_MODEL] = {ANYWHERE, FALLBACK_ON_ERROR},
    [REASON_CONTEXT] = {HELPS_MODEL, FALLBACK_ON_CONTEXT},
    [REASON_NOT_IMPLEMENTED] = {ELSEWHERE, FALLBACK_ON_ERROR},
};

unsigned move_helps(enum reason r)
{
    return (unsigned)r < REASON_COUNT ? failures[r].helps : 0;
}

unsigned move_cause(enum reason r)
{
    return (unsigned)r < REASON_COUNT ? failures[r].cause : 0;
}

bool move_is_free(enum reason r)
{
    return r == REASON_QUOTA || r == REASON_KEY || r == REASON_PERMISSION || r == REASON_MODEL ||
           r == REASON_CONTEXT;
}

enum move move_decide(const struct move_question *q)
{
    unsigned helps = move_helps(q->reason), cause = move_cause(q->reason);
    bool may_leave = q->later_tiers > 0 && (helps & HELPS_MODEL) && (cause & q->fallback_on);
    bool must_leave = q->tier_down || cause == FALLBACK_ON_TIMEOUT ||
                      q->tier_attempts >= q->attempts_per_tier ||
                      q->attempts_left <= q->later_tiers;

    if (may_leave && must_leave)
        return MOVE_TIER;
    if (q->others & helps & (HELPS_KEY | HELPS_UPSTREAM))
        return MOVE_TARGET;
    if (may_leave && !q->again)
        return MOVE_TIER;
    return MOVE_STAY;
}
