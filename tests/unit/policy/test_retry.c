/* The decision after a failed attempt: each reason to give up, in order, and its invariants. */

#include "policy/retry.h"

#include <check.h>
#include <string.h>

#include "policy/deadline.h"
#include "unit.h"

static const struct retry_settings defaults = {.max_attempts = 5,
                                               .attempts_per_tier = 3,
                                               .backoff = {1000, 2, 60000, JITTER_NONE},
                                               .retry_on = RETRY_ON_ALL,
                                               .retry_ambiguous = true,
                                               .max_hint_ms = 120000};

static struct retry_question plain_question(void)
{
    return (struct retry_question){
        .verdict = {.kind = VERDICT_RETRY, .reason = REASON_SERVER_ERROR},
        .attempts_made = 1,
        .max_attempts = 5,
        .now_ms = 1000000,
        .deadline_ms = DEADLINE_NONE,
        .random = 4711};
}

/* Each obstacle on top of all later ones: the earliest in the order is the one that is told. */
START_TEST(reasons_in_order)
{
    static const char *const words[] = {"committed",      "retry_on does not", "would fail again",
                                        "single attempt", "used up",           "retry_ambiguous",
                                        "max_hint",       "no time",           NULL};
    struct retry_settings s = defaults;
    struct retry_question q = plain_question();

    s.retry_ambiguous = false;
    q.deadline_ms = q.now_ms + RETRY_MIN_ATTEMPT_MS - 1;
    q.hint = (struct hint){HINT_RETRY_AFTER, 120001};
    q.attempts_made = 5;
    q.no_retry = true;
    q.verdict = (struct verdict){
        .kind = VERDICT_FINAL, .reason = REASON_CLIENT_ERROR, .ambiguous = true, .excluded = true};
    q.blocked = "the response is committed";
    for (int i = 0; words[i]; i++) {
        struct retry_decision d = retry_decide(&s, &q);
        ck_assert_int_eq(d.action, RETRY_GIVE_UP);
        ck_assert_msg(strstr(d.why_not, words[i]) != NULL, "%d: %s", i, d.why_not);
        switch (i) {
        case 0:
            q.blocked = NULL;
            break;
        case 1:
            q.verdict.excluded = false;
            break;
        case 2:
            q.verdict.kind = VERDICT_RETRY;
            break;
        case 3:
            q.no_retry = false;
            break;
        case 4:
            q.attempts_made = 1;
            break;
        case 5:
            q.verdict.ambiguous = false;
            break;
        case 6:
            q.hint = (struct hint){HINT_NONE, 0};
            break;
        default:
            q.deadline_ms = DEADLINE_NONE;
            break;
        }
    }
    ck_assert_int_eq(retry_decide(&s, &q).action, RETRY_AGAIN);
}
END_TEST

START_TEST(the_default_delays)
{
    static const uint64_t want[] = {1000, 2000, 4000, 8000};
    struct retry_question q = plain_question();

    for (q.attempts_made = 1; q.attempts_made <= 4; q.attempts_made++) {
        struct retry_decision d = retry_decide(&defaults, &q);
        ck_assert_int_eq(d.action, RETRY_AGAIN);
        ck_assert_uint_eq(d.delay_ms, want[q.attempts_made - 1]);
        ck_assert_ptr_null(d.why_not);
    }
    ck_assert_int_eq(retry_decide(&defaults, &q).action, RETRY_GIVE_UP);
}
END_TEST

START_TEST(a_stale_connection_waits_for_nothing)
{
    struct retry_question q = plain_question();

    q.verdict.reason = REASON_STALE;
    ck_assert_uint_eq(retry_decide(&defaults, &q).delay_ms, 0);
    q.deadline_ms = q.now_ms + RETRY_MIN_ATTEMPT_MS;
    ck_assert_int_eq(retry_decide(&defaults, &q).action, RETRY_AGAIN);
    q.deadline_ms--;
    ck_assert_int_eq(retry_decide(&defaults, &q).action, RETRY_GIVE_UP);
}
END_TEST

/* To the millisecond, for a plain backoff, a strong hint and a weak one. */
START_TEST(the_deadline_to_the_millisecond)
{
    static const struct hint hints[] = {
        {HINT_NONE, 0}, {HINT_RETRY_AFTER, 1500}, {HINT_BUCKET, 1500}, {HINT_MESSAGE, 10}};

    for (size_t i = 0; i < COUNT(hints); i++) {
        struct retry_question q = plain_question();
        uint64_t floor = hints[i].delay_ms > 1000 ? hints[i].delay_ms : 1000;
        q.hint = hints[i];
        q.random = UINT64_MAX;
        q.deadline_ms = q.now_ms + floor + RETRY_MIN_ATTEMPT_MS;
        struct retry_decision d = retry_decide(&defaults, &q);
        ck_assert_int_eq(d.action, RETRY_AGAIN);
        ck_assert_uint_eq(d.delay_ms, floor);
        q.deadline_ms--;
        ck_assert_int_eq(retry_decide(&defaults, &q).action, RETRY_GIVE_UP);
    }
}
END_TEST

START_TEST(max_hint_is_for_strong_hints)
{
    static const enum hint_source strong[] = {HINT_RETRY_AFTER_MS, HINT_RETRY_AFTER, HINT_MESSAGE};
    struct retry_settings s = defaults;
    struct retry_question q = plain_question();

    for (size_t i = 0; i < COUNT(strong); i++) {
        q.hint = (struct hint){strong[i], 120000};
        ck_assert_int_eq(retry_decide(&s, &q).action, RETRY_AGAIN);
        q.hint.delay_ms++;
        ck_assert_int_eq(retry_decide(&s, &q).action, RETRY_GIVE_UP);
    }
    s.max_hint_ms = 10;
    q.hint = (struct hint){HINT_BUCKET, 60000};
    ck_assert_int_eq(retry_decide(&s, &q).action, RETRY_AGAIN);
}
END_TEST

/* --- the whole of the space, thinned out ------------------------------------------------------ */

static const uint64_t times[] = {0, 1, 49, 50, 51, 999, 1000, 1050, 60000, 3600000};
static const uint64_t delays[] = {0, 1, 999, 1500, 60000, 119999, 120000, 120001, UINT64_MAX};
static const uint64_t randoms[] = {0, 1, 12345678901234567, UINT64_MAX};
static unsigned long long decided;

static void check_again(const struct retry_settings *s, const struct retry_question *q,
                        const struct retry_decision *d)
{
    bool strong = q->hint.source != HINT_NONE && q->hint.source != HINT_BUCKET;
    bool stale = q->verdict.reason == REASON_STALE;
    uint64_t latest = q->deadline_ms - RETRY_MIN_ATTEMPT_MS;

    if (d->why_not || q->blocked || q->no_retry || q->verdict.kind != VERDICT_RETRY ||
        q->attempts_made >= q->max_attempts || (q->verdict.ambiguous && !s->retry_ambiguous))
        ck_abort_msg("repeated although it must not be");
    if (q->deadline_ms != DEADLINE_NONE && q->now_ms + d->delay_ms > latest)
        ck_abort_msg("beyond the deadline");
    if (strong && q->hint.delay_ms > s->max_hint_ms)
        ck_abort_msg("a hint beyond max_hint was waited for");
    if (!stale && d->delay_ms < q->hint.delay_ms)
        ck_abort_msg("below the hint");
    if (!stale && d->delay_ms < backoff_delay(&s->backoff, q->attempts_made, q->random))
        ck_abort_msg("below the backoff");
    if (stale && d->delay_ms != 0)
        ck_abort_msg("a stale connection waited");
}

/* A give-up needs a cause, and it is one of these. */
static void check_give_up(const struct retry_settings *s, const struct retry_question *q,
                          const struct retry_decision *d)
{
    uint64_t left = q->deadline_ms > q->now_ms ? q->deadline_ms - q->now_ms : 0;
    uint64_t backoff = backoff_delay(&s->backoff, q->attempts_made, q->random);
    uint64_t need = q->verdict.reason == REASON_STALE ? 0
                    : q->hint.delay_ms > backoff      ? q->hint.delay_ms
                                                      : backoff;
    bool strong = q->hint.source != HINT_NONE && q->hint.source != HINT_BUCKET;
    bool in_time = left >= RETRY_MIN_ATTEMPT_MS && need <= left - RETRY_MIN_ATTEMPT_MS;

    if (!d->why_not || d->delay_ms != 0)
        ck_abort_msg("a give-up says why, and no delay");
    if (!q->blocked && !q->no_retry && q->verdict.kind == VERDICT_RETRY &&
        q->attempts_made < q->max_attempts && (!q->verdict.ambiguous || s->retry_ambiguous) &&
        !(strong && q->hint.delay_ms > s->max_hint_ms) &&
        (q->deadline_ms == DEADLINE_NONE || in_time))
        ck_abort_msg("given up without need: %s", d->why_not);
}

static void decide(const struct retry_settings *s, const struct retry_question *q)
{
    struct retry_decision d = retry_decide(s, q);

    decided++;
    if (d.action == RETRY_AGAIN)
        check_again(s, q, &d);
    else
        check_give_up(s, q, &d);
}

static void over_times(const struct retry_settings *s, struct retry_question q)
{
    for (size_t t = 0; t <= COUNT(times); t++)
        for (size_t h = HINT_NONE; h <= HINT_BUCKET; h++)
            for (size_t k = 0; k < COUNT(delays); k++)
                for (size_t r = 0; r < COUNT(randoms); r++) {
                    q.deadline_ms = t == COUNT(times) ? DEADLINE_NONE : q.now_ms + times[t];
                    q.hint.source = (enum hint_source)h;
                    q.hint.delay_ms = h == HINT_NONE ? 0 : delays[k];
                    q.random = randoms[r];
                    decide(s, &q);
                }
}

START_TEST(invariants)
{
    for (unsigned bits = 0; bits < 1 << 6; bits++)
        for (unsigned attempts = 1; attempts <= 6; attempts++)
            for (int jitter = JITTER_NONE; jitter <= JITTER_EQUAL; jitter++) {
                struct retry_settings s = defaults;
                struct retry_question q = plain_question();
                s.backoff.jitter = (enum jitter)jitter;
                s.retry_ambiguous = bits & 1;
                q.verdict.ambiguous = bits & 2;
                q.no_retry = bits & 4;
                q.blocked = bits & 8 ? "blocked" : NULL;
                q.verdict.kind = bits & 16 ? VERDICT_FINAL : VERDICT_RETRY;
                q.verdict.reason = bits & 32 ? REASON_STALE : REASON_TRUNCATED;
                q.attempts_made = attempts;
                over_times(&s, q);
            }
    ck_assert_msg(decided > 2000000, "%llu", decided);
}
END_TEST

/* A whole request in virtual time: never more attempts than allowed, never past the deadline. */
START_TEST(whole_requests)
{
    for (unsigned max = 1; max <= 10; max++)
        for (uint64_t deadline = 0; deadline < 200000; deadline += 997) {
            struct retry_question q = plain_question();
            unsigned attempts = 1;
            q.max_attempts = max;
            q.deadline_ms = q.now_ms + deadline;
            for (;; attempts++) {
                q.now_ms += 120; /* what the attempt took */
                q.attempts_made = attempts;
                q.random = q.now_ms * 2654435761u;
                struct retry_decision d = retry_decide(&defaults, &q);
                if (d.action == RETRY_GIVE_UP)
                    break;
                q.now_ms += d.delay_ms;
                if (q.now_ms + RETRY_MIN_ATTEMPT_MS > q.deadline_ms)
                    ck_abort_msg("started too late");
            }
            if (attempts > max)
                ck_abort_msg("%u attempts of %u", attempts, max);
        }
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "retry");

    tcase_set_timeout(tcase, 30);
    tcase_add_test(tcase, reasons_in_order);
    tcase_add_test(tcase, the_default_delays);
    tcase_add_test(tcase, a_stale_connection_waits_for_nothing);
    tcase_add_test(tcase, the_deadline_to_the_millisecond);
    tcase_add_test(tcase, max_hint_is_for_strong_hints);
    tcase_add_test(tcase, invariants);
    tcase_add_test(tcase, whole_requests);
}
