/* The reasons that can end a request's retries, the exponential delay with jitter, for which a hint
 * is the minimum, and the table of the moves that help after each failure. */
#include "policy/retry.h"

#include <assert.h>

#include "policy/deadline.h"

/* --- the delay -------------------------------------------------------------------------------- */

/* Returns a uniform number in [0, most]. The bias of the modulo is below most / 2^64. */
static uint64_t upto(uint64_t most, uint64_t random)
{
    return most == UINT64_MAX ? random : random % (most + 1);
}

/* Returns the exact exponential. The loop stops at the maximum, so nothing overflows, and does not
 * start if multiplying changes nothing. */
static uint64_t exponential(const struct backoff_settings *b, unsigned attempts_made)
{
    double delay = (double)b->initial_delay_ms, max = (double)b->max_delay_ms;

    if (b->multiplier > 1 && b->initial_delay_ms > 0)
        for (unsigned n = 1; n < attempts_made && delay < max; n++)
            delay *= b->multiplier;
    return delay < max ? (uint64_t)delay : b->max_delay_ms;
}

uint64_t backoff_delay(const struct backoff_settings *b, unsigned attempts_made, uint64_t random)
{
    uint64_t delay = exponential(b, attempts_made);

    switch (b->jitter) {
    case JITTER_FULL:
        return upto(delay, random);
    case JITTER_EQUAL:
        return delay / 2 + upto(delay - delay / 2, random);
    case JITTER_NONE:
        break;
    }
    return delay;
}

uint64_t backoff_left(const struct backoff_settings *b, unsigned attempts_made,
                      unsigned max_attempts)
{
    unsigned n = attempts_made > 0 ? attempts_made : 1;
    uint64_t sum = 0;

    for (; n < max_attempts; n++) {
        uint64_t delay = exponential(b, n);

        if (delay > UINT64_MAX - sum)
            return UINT64_MAX;
        sum += delay;
    }
    return sum;
}

uint64_t backoff_with_hint(const struct backoff_settings *b, unsigned attempts_made,
                           const struct hint *hint, uint64_t random)
{
    uint64_t delay = backoff_delay(b, attempts_made, random);

    if (hint->source == HINT_NONE || hint->delay_ms <= delay)
        return delay;
    uint64_t above = upto(hint->delay_ms / 10 + 20, random);
    return above > UINT64_MAX - hint->delay_ms ? UINT64_MAX : hint->delay_ms + above;
}

/* --- the target ------------------------------------------------------------------------------- */

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

/* --- the decision ----------------------------------------------------------------------------- */

static struct retry_decision give_up(const char *why_not)
{
    return (struct retry_decision){.action = RETRY_GIVE_UP, .why_not = why_not};
}

/* Returns the reason that forbids another attempt whatever the time, or NULL. */
static const char *forbidden(const struct retry_settings *s, const struct retry_question *q)
{
    if (q->blocked)
        return q->blocked;
    if (q->verdict.excluded)
        return "retry_on does not include this failure";
    if (q->verdict.kind == VERDICT_FINAL)
        return "the same request would fail again";
    if (q->no_retry)
        return "the caller asked for a single attempt";
    if (q->attempts_made >= q->max_attempts)
        return "all attempts are used up";
    if (q->verdict.ambiguous && !s->retry_ambiguous)
        return "the attempt may have been processed and retry_ambiguous is off";
    return NULL;
}

enum too_late { NO_TIME, HINT_TOO_LONG, WAIT_TOO_LONG };

/* Returns the reason in words that name the limit: the deadline or mend_timeout. */
static const char *too_late(const struct retry_question *q, enum too_late what)
{
    static const char *const words[][2] = {
        [NO_TIME] = {"no time is left before the deadline", "no time is left within mend_timeout"},
        [HINT_TOO_LONG] = {"the upstream asks for a wait beyond the deadline",
                           "the upstream asks for a wait beyond mend_timeout"},
        [WAIT_TOO_LONG] = {"the wait would exceed the deadline",
                           "the wait would exceed mend_timeout"},
    };

    return words[what][q->mending];
}

/* Returns in `*ret_room_ms` the longest delay after which an attempt may still start. Returns false
 * if it is already too late. */
static bool room_before_deadline(const struct retry_question *q, uint64_t *ret_room_ms)
{
    if (q->deadline_ms == DEADLINE_NONE) {
        *ret_room_ms = UINT64_MAX;
        return true;
    }
    if (q->deadline_ms < RETRY_MIN_ATTEMPT_MS || q->deadline_ms - RETRY_MIN_ATTEMPT_MS < q->now_ms)
        return false;
    *ret_room_ms = q->deadline_ms - RETRY_MIN_ATTEMPT_MS - q->now_ms;
    return true;
}

const char *retry_forbids_all(const struct retry_settings *s, const struct retry_question *q)
{
    struct retry_question elsewhere = *q;
    uint64_t room_ms;
    const char *why_not;

    elsewhere.verdict.excluded = false;
    elsewhere.verdict.kind = VERDICT_RETRY;
    why_not = forbidden(s, &elsewhere);
    if (!why_not && !room_before_deadline(q, &room_ms))
        why_not = too_late(q, NO_TIME);
    return why_not;
}

struct retry_decision retry_decide(const struct retry_settings *s, const struct retry_question *q)
{
    const char *why_not = forbidden(s, q);
    bool strong = q->hint.source != HINT_NONE && q->hint.source != HINT_BUCKET;
    uint64_t room_ms;

    assert(q->verdict.kind != VERDICT_GOOD && q->attempts_made >= 1);
    if (why_not)
        return give_up(why_not);
    if (strong && q->hint.delay_ms > s->max_hint_ms && !q->verdict.new_key)
        return give_up("the upstream asks for a longer wait than max_hint");
    if (!room_before_deadline(q, &room_ms))
        return give_up(too_late(q, NO_TIME));
    if (q->verdict.reason == REASON_STALE || q->verdict.new_key)
        return (struct retry_decision){.action = RETRY_AGAIN};
    if (strong && q->hint.delay_ms > room_ms)
        return give_up(too_late(q, HINT_TOO_LONG));

    uint64_t backoff_ms = backoff_delay(&s->backoff, q->attempts_made, q->random);
    uint64_t delay_ms = backoff_with_hint(&s->backoff, q->attempts_made, &q->hint, q->random);
    if (backoff_ms > room_ms || q->hint.delay_ms > room_ms)
        return give_up(too_late(q, WAIT_TOO_LONG));
    /* The backoff and the hint both fit, so this cuts only the jitter above the hint. */
    return (struct retry_decision){.action = RETRY_AGAIN,
                                   .delay_ms = delay_ms < room_ms ? delay_ms : room_ms};
}
