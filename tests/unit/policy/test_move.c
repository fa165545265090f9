/* What helps against a failure, for every reason, and where the next attempt goes, for every
 * possible question (C4, C18). */

#include "policy/retry.h"

#include <check.h>

#include "unit.h"

/* Every reason by name: a new one is to be placed here before this passes again. */
static const struct placed {
    enum reason reason;
    unsigned helps, cause;
} placed[] = {
    {REASON_OK, 0, 0},
    /* the upstream, or the way to it, is at fault */
    {REASON_DNS, HELPS_UPSTREAM | HELPS_MODEL, FALLBACK_ON_ERROR},
    {REASON_CONNECT, HELPS_UPSTREAM | HELPS_MODEL, FALLBACK_ON_ERROR},
    {REASON_TLS, HELPS_UPSTREAM | HELPS_MODEL, FALLBACK_ON_ERROR},
    {REASON_CERTIFICATE, HELPS_UPSTREAM | HELPS_MODEL, FALLBACK_ON_ERROR},
    {REASON_PROXY, HELPS_UPSTREAM | HELPS_MODEL, FALLBACK_ON_ERROR},
    {REASON_LOST_UPLOAD, HELPS_UPSTREAM | HELPS_MODEL, FALLBACK_ON_ERROR},
    {REASON_LOST, HELPS_UPSTREAM | HELPS_MODEL, FALLBACK_ON_ERROR},
    {REASON_TRUNCATED, HELPS_UPSTREAM | HELPS_MODEL, FALLBACK_ON_ERROR},
    {REASON_BAD_RESPONSE, HELPS_UPSTREAM | HELPS_MODEL, FALLBACK_ON_ERROR},
    {REASON_CONNECT_TIMEOUT, HELPS_UPSTREAM | HELPS_MODEL, FALLBACK_ON_ERROR},
    {REASON_REQUEST_TIMEOUT, HELPS_UPSTREAM | HELPS_MODEL, FALLBACK_ON_ERROR},
    {REASON_CONFLICT, HELPS_UPSTREAM | HELPS_MODEL, FALLBACK_ON_ERROR},
    {REASON_TOO_EARLY, HELPS_UPSTREAM | HELPS_MODEL, FALLBACK_ON_ERROR},
    {REASON_OVERLOADED, HELPS_UPSTREAM | HELPS_MODEL, FALLBACK_ON_ERROR},
    {REASON_SERVER_ERROR, HELPS_UPSTREAM | HELPS_MODEL, FALLBACK_ON_ERROR},
    {REASON_BAD_GATEWAY, HELPS_UPSTREAM | HELPS_MODEL, FALLBACK_ON_ERROR},
    {REASON_GATEWAY_TIMEOUT, HELPS_UPSTREAM | HELPS_MODEL, FALLBACK_ON_ERROR},
    {REASON_ERROR_IN_BODY, HELPS_UPSTREAM | HELPS_MODEL, FALLBACK_ON_ERROR},
    {REASON_ERROR_IN_STREAM, HELPS_UPSTREAM | HELPS_MODEL, FALLBACK_ON_ERROR},
    {REASON_EMPTY_STREAM, HELPS_UPSTREAM | HELPS_MODEL, FALLBACK_ON_ERROR},
    {REASON_EMPTY_RESPONSE, HELPS_UPSTREAM | HELPS_MODEL, FALLBACK_ON_ERROR},
    {REASON_MALFORMED, HELPS_UPSTREAM | HELPS_MODEL, FALLBACK_ON_ERROR},
    {REASON_UPSTREAM_SAYS_RETRY, HELPS_UPSTREAM | HELPS_MODEL, FALLBACK_ON_ERROR},
    {REASON_UPSTREAM_SAYS_NO, HELPS_UPSTREAM | HELPS_MODEL, FALLBACK_ON_ERROR},
    {REASON_NOT_IMPLEMENTED, HELPS_UPSTREAM | HELPS_MODEL, FALLBACK_ON_ERROR},
    /* silence */
    {REASON_UPLOAD_TIMEOUT, HELPS_UPSTREAM | HELPS_MODEL, FALLBACK_ON_TIMEOUT},
    {REASON_FIRST_BYTE_TIMEOUT, HELPS_UPSTREAM | HELPS_MODEL, FALLBACK_ON_TIMEOUT},
    {REASON_FIRST_CONTENT_TIMEOUT, HELPS_UPSTREAM | HELPS_MODEL, FALLBACK_ON_TIMEOUT},
    {REASON_IDLE_TIMEOUT, HELPS_UPSTREAM | HELPS_MODEL, FALLBACK_ON_TIMEOUT},
    {REASON_TOTAL_TIMEOUT, HELPS_UPSTREAM | HELPS_MODEL, FALLBACK_ON_TIMEOUT},
    /* the key, or what it may do */
    {REASON_RATE_LIMIT, HELPS_KEY | HELPS_UPSTREAM | HELPS_MODEL, FALLBACK_ON_ERROR},
    {REASON_QUOTA, HELPS_KEY | HELPS_UPSTREAM, FALLBACK_ON_ERROR},
    {REASON_KEY, HELPS_KEY | HELPS_UPSTREAM, FALLBACK_ON_ERROR},
    {REASON_PERMISSION, HELPS_KEY | HELPS_UPSTREAM | HELPS_MODEL, FALLBACK_ON_ERROR},
    {REASON_MODEL, HELPS_KEY | HELPS_UPSTREAM | HELPS_MODEL, FALLBACK_ON_ERROR},
    /* the request is too long for this model, wherever it runs */
    {REASON_CONTEXT, HELPS_MODEL, FALLBACK_ON_CONTEXT},
    /* the request itself, its client, or retryd */
    {REASON_STALE, 0, 0},
    {REASON_DEADLINE, 0, 0},
    {REASON_DIFFERS, 0, 0},
    {REASON_CONTENT_POLICY, 0, 0},
    {REASON_CLIENT_ERROR, 0, 0},
    {REASON_INTERNAL, 0, 0},
    {REASON_LARGE_HEADERS, 0, 0},
    /* Reasons of requests that were not sent at all. */
    {REASON_UPSTREAM_DOWN, 0, 0},
    {REASON_QUEUE_FULL, 0, 0},
    {REASON_QUEUE_TIMEOUT, 0, 0},
    {REASON_SHUTDOWN, 0, 0},
    {REASON_CLIENT_GONE, 0, 0},
    {REASON_CLIENT_STALLED, 0, 0},
};

START_TEST(every_reason_has_its_place)
{
    bool seen[REASON_COUNT] = {false};

    for (size_t i = 0; i < COUNT(placed); i++) {
        enum reason r = placed[i].reason;
        ck_assert_msg(!seen[r], "%s twice", reason_word(r));
        seen[r] = true;
        ck_assert_msg(move_helps(r) == placed[i].helps, "helps against %s", reason_word(r));
        ck_assert_msg(move_cause(r) == placed[i].cause, "cause of %s", reason_word(r));
    }
    for (unsigned r = 0; r < REASON_COUNT; r++)
        ck_assert_msg(seen[r], "%s is to be placed", reason_word((enum reason)r));
}
END_TEST

START_TEST(what_is_no_reason_leads_nowhere)
{
    ck_assert_uint_eq(move_helps(REASON_COUNT), 0);
    ck_assert_uint_eq(move_cause(REASON_COUNT), 0);
}
END_TEST

/* --- the decision --- */

static const struct placed *place_of(enum reason r)
{
    size_t i = 0;

    while (placed[i].reason != r)
        i++;
    return &placed[i];
}

/* The rules as C18 has them, by what the target, the tier and the configuration allow. */
static enum move wanted(const struct move_question *q)
{
    const struct placed *p = place_of(q->reason);
    bool allowed = (q->fallback_on & p->cause) != 0 && (p->helps & HELPS_MODEL);

    /* nothing helps but the same again */
    if (p->helps == 0)
        return MOVE_STAY;
    /* at once, whatever else there is */
    if (q->later_tiers > 0 && allowed) {
        if (q->tier_down)
            return MOVE_TIER;
        if (p->cause == FALLBACK_ON_TIMEOUT)
            return MOVE_TIER;
        if (q->tier_attempts >= q->attempts_per_tier)
            return MOVE_TIER;
        if (q->attempts_left == q->later_tiers || q->attempts_left < q->later_tiers)
            return MOVE_TIER;
    }
    if ((q->others & HELPS_KEY) && (p->helps & HELPS_KEY))
        return MOVE_TARGET;
    if ((q->others & HELPS_UPSTREAM) && (p->helps & HELPS_UPSTREAM))
        return MOVE_TARGET;
    if (q->again)
        return MOVE_STAY;
    return q->later_tiers > 0 && allowed ? MOVE_TIER : MOVE_STAY;
}

static void ask(const struct move_question *q)
{
    enum move got = move_decide(q), want = wanted(q);

    if (got != want)
        ck_abort_msg(
            "%s, again %d, others %u, later %u, left %u, on %u, attempt %u of %u, down %d: %d, not %d",
            reason_word(q->reason), q->again, q->others, q->later_tiers, q->attempts_left,
            q->fallback_on, q->tier_attempts, q->attempts_per_tier, q->tier_down, (int)got,
            (int)want);
}

START_TEST(every_question)
{
    static const unsigned others[] = {0, HELPS_KEY, HELPS_UPSTREAM, HELPS_KEY | HELPS_UPSTREAM};

    for (unsigned r = 0; r < REASON_COUNT; r++)
        for (size_t o = 0; o < COUNT(others); o++)
            for (unsigned on = 0; on <= FALLBACK_ON_ALL; on++)
                for (unsigned attempts = 1; attempts <= 4; attempts++)
                    for (unsigned per_tier = 1; per_tier <= 4; per_tier++)
                        for (unsigned bits = 0; bits < 64; bits++)
                            ask(&(struct move_question){.reason = (enum reason)r,
                                                        .again = bits & 1,
                                                        .others = others[o],
                                                        .later_tiers = bits >> 2 & 3,
                                                        .attempts_left = 1 + (bits >> 4),
                                                        .fallback_on = on,
                                                        .tier_attempts = attempts,
                                                        .attempts_per_tier = per_tier,
                                                        .tier_down = bits & 2});
}
END_TEST

/* The effect of the rules in single cases. */
START_TEST(single_cases)
{
    static const struct {
        struct move_question q;
        enum move move;
    } cases[] = {
        /* reason, again, others, later tiers, attempts left, fallback_on, attempts, per tier, down */
        {{REASON_SERVER_ERROR, true, 0, 0, 9, FALLBACK_ON_ALL, 1, 3, false}, MOVE_STAY},
        {{REASON_SERVER_ERROR, true, HELPS_UPSTREAM, 1, 9, FALLBACK_ON_ALL, 1, 3, false},
         MOVE_TARGET},
        {{REASON_SERVER_ERROR, true, HELPS_KEY, 1, 9, FALLBACK_ON_ALL, 1, 3, false}, MOVE_STAY},
        {{REASON_SERVER_ERROR, true, HELPS_UPSTREAM, 1, 9, FALLBACK_ON_ALL, 3, 3, false},
         MOVE_TIER},
        {{REASON_SERVER_ERROR, true, HELPS_UPSTREAM, 1, 9, FALLBACK_ON_CONTEXT, 3, 3, false},
         MOVE_TARGET},
        {{REASON_SERVER_ERROR, true, HELPS_UPSTREAM, 1, 9, FALLBACK_ON_ALL, 1, 3, true}, MOVE_TIER},
        {{REASON_SERVER_ERROR, true, HELPS_UPSTREAM, 2, 2, FALLBACK_ON_ALL, 1, 3, false},
         MOVE_TIER},
        {{REASON_SERVER_ERROR, true, HELPS_UPSTREAM, 2, 3, FALLBACK_ON_ALL, 1, 3, false},
         MOVE_TARGET},
        {{REASON_SERVER_ERROR, true, 0, 0, 1, FALLBACK_ON_ALL, 1, 3, false}, MOVE_STAY},
        {{REASON_IDLE_TIMEOUT, true, HELPS_UPSTREAM, 1, 9, FALLBACK_ON_TIMEOUT, 1, 3, false},
         MOVE_TIER},
        {{REASON_IDLE_TIMEOUT, true, HELPS_UPSTREAM, 1, 9, FALLBACK_ON_ERROR, 1, 3, false},
         MOVE_TARGET},
        {{REASON_QUOTA, false, HELPS_KEY, 1, 9, FALLBACK_ON_ALL, 1, 3, false}, MOVE_TARGET},
        {{REASON_QUOTA, false, 0, 1, 9, FALLBACK_ON_ALL, 1, 3, false}, MOVE_STAY},
        {{REASON_MODEL, false, 0, 1, 9, FALLBACK_ON_ALL, 1, 3, false}, MOVE_TIER},
        {{REASON_MODEL, false, 0, 1, 9, FALLBACK_ON_TIMEOUT, 1, 3, false}, MOVE_STAY},
        {{REASON_CONTEXT, false, HELPS_KEY | HELPS_UPSTREAM, 1, 9, FALLBACK_ON_CONTEXT, 1, 3,
          false},
         MOVE_TIER},
        {{REASON_CONTENT_POLICY, false, HELPS_KEY | HELPS_UPSTREAM, 1, 9, FALLBACK_ON_ALL, 5, 3,
          true},
         MOVE_STAY},
        {{REASON_CLIENT_ERROR, false, HELPS_UPSTREAM, 1, 9, FALLBACK_ON_ALL, 5, 3, true},
         MOVE_STAY},
        {{REASON_STALE, true, HELPS_UPSTREAM, 1, 9, FALLBACK_ON_ALL, 5, 3, true}, MOVE_STAY},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        ck_assert_msg(move_decide(&cases[i].q) == cases[i].move, "case %zu", i);
        ask(&cases[i].q);
    }
}
END_TEST

/* A failure that says nothing against the upstream is not charged to its budget. */
START_TEST(what_leads_elsewhere_for_nothing)
{
    static const enum reason free_ones[] = {REASON_QUOTA, REASON_KEY, REASON_PERMISSION,
                                            REASON_MODEL, REASON_CONTEXT};

    for (unsigned r = 0; r < REASON_COUNT; r++) {
        bool listed = false;

        for (size_t i = 0; i < COUNT(free_ones); i++)
            listed |= free_ones[i] == (enum reason)r;
        ck_assert_int_eq(move_is_free((enum reason)r), listed);
    }
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "move");

    tcase_add_test(tcase, every_reason_has_its_place);
    tcase_add_test(tcase, what_is_no_reason_leads_nowhere);
    tcase_add_test(tcase, what_leads_elsewhere_for_nothing);
    tcase_add_test(tcase, every_question);
    tcase_add_test(tcase, single_cases);
}
