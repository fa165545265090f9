/* Verdicts over every transport, status, kind of error, x-should-retry and cause (C3, C4, C5, C28).
 *
 * The expectation is written down a second time here, as flat lists taken from the contract, and
 * compared over the whole space. */

#include "policy/classify.h"

#include <check.h>

#include "unit.h"

#define LAST_TRANSPORT TRANSPORT_INTERNAL
#define LAST_KIND APIERROR_CONTENT_POLICY

enum should { UNSAID, SAYS_TRUE, SAYS_FALSE, SAYS_NONSENSE, LAST_SHOULD = SAYS_NONSENSE };

static struct headers answers[LAST_SHOULD + 1];

static void make_answers(void)
{
    static const char *const values[] = {NULL, "true", " FALSE ", "maybe"};

    for (int i = 0; i <= LAST_SHOULD; i++) {
        headers_init(&answers[i]);
        ck_assert_int_eq(headers_add(&answers[i], STR("content-type"), STR("text/plain")), 0);
        if (values[i])
            ck_assert_int_eq(headers_add(&answers[i], STR("X-Should-Retry"), str_from(values[i])),
                             0);
    }
}

static void free_answers(void)
{
    for (int i = 0; i <= LAST_SHOULD; i++)
        headers_deinit(&answers[i]);
}

/* --- the contract as lists -------------------------------------------------------------------- */

struct expected {
    enum verdict_kind kind;
    enum reason reason;
    bool ambiguous, movable;
    unsigned causes; /* any of them allows the repeat; 0: always */
};

static const struct {
    enum transport transport;
    struct expected e;
} transports[] = {
    {TRANSPORT_DNS, {VERDICT_RETRY, REASON_DNS, false, false, RETRY_ON_CONNECT}},
    {TRANSPORT_CONNECT, {VERDICT_RETRY, REASON_CONNECT, false, false, RETRY_ON_CONNECT}},
    {TRANSPORT_TLS, {VERDICT_RETRY, REASON_TLS, false, false, RETRY_ON_CONNECT}},
    {TRANSPORT_CERTIFICATE, {VERDICT_FINAL, REASON_CERTIFICATE, false, true, 0}},
    {TRANSPORT_PROXY, {VERDICT_RETRY, REASON_PROXY, false, false, RETRY_ON_CONNECT}},
    {TRANSPORT_STALE, {VERDICT_RETRY, REASON_STALE, false, false, 0}},
    {TRANSPORT_LOST_UPLOAD, {VERDICT_RETRY, REASON_LOST_UPLOAD, false, false, RETRY_ON_RESET}},
    {TRANSPORT_LOST, {VERDICT_RETRY, REASON_LOST, true, false, RETRY_ON_RESET}},
    {TRANSPORT_TRUNCATED, {VERDICT_RETRY, REASON_TRUNCATED, true, false, RETRY_ON_RESET}},
    {TRANSPORT_BAD_RESPONSE, {VERDICT_RETRY, REASON_BAD_RESPONSE, true, false, RETRY_ON_RESET}},
    {TRANSPORT_LARGE_HEADERS, {VERDICT_FINAL, REASON_LARGE_HEADERS, true, false, 0}},
    {TRANSPORT_CONNECT_TIMEOUT,
     {VERDICT_RETRY, REASON_CONNECT_TIMEOUT, false, false, RETRY_ON_CONNECT | RETRY_ON_TIMEOUT}},
    {TRANSPORT_UPLOAD_TIMEOUT,
     {VERDICT_RETRY, REASON_UPLOAD_TIMEOUT, false, false, RETRY_ON_TIMEOUT}},
    {TRANSPORT_FIRST_BYTE_TIMEOUT,
     {VERDICT_RETRY, REASON_FIRST_BYTE_TIMEOUT, true, false, RETRY_ON_TIMEOUT}},
    {TRANSPORT_FIRST_CONTENT_TIMEOUT,
     {VERDICT_RETRY, REASON_FIRST_CONTENT_TIMEOUT, true, false, RETRY_ON_TIMEOUT}},
    {TRANSPORT_IDLE_TIMEOUT, {VERDICT_RETRY, REASON_IDLE_TIMEOUT, true, false, RETRY_ON_TIMEOUT}},
    {TRANSPORT_TOTAL_TIMEOUT, {VERDICT_RETRY, REASON_TOTAL_TIMEOUT, true, false, RETRY_ON_TIMEOUT}},
    {TRANSPORT_INTERNAL, {VERDICT_FINAL, REASON_INTERNAL, false, false, 0}},
};

static const struct {
    unsigned status;
    struct expected e;
} statuses[] = {
    {401, {VERDICT_FINAL, REASON_KEY, false, true, 0}},
    {402, {VERDICT_FINAL, REASON_QUOTA, false, true, 0}},
    {403, {VERDICT_FINAL, REASON_PERMISSION, false, true, 0}},
    {408, {VERDICT_RETRY, REASON_REQUEST_TIMEOUT, false, false, RETRY_ON_408}},
    {409, {VERDICT_RETRY, REASON_CONFLICT, false, false, RETRY_ON_409}},
    {425, {VERDICT_RETRY, REASON_TOO_EARLY, false, false, RETRY_ON_425}},
    {429, {VERDICT_RETRY, REASON_RATE_LIMIT, false, false, RETRY_ON_429}},
    {498, {VERDICT_RETRY, REASON_OVERLOADED, false, false, RETRY_ON_5XX}},
    {501, {VERDICT_FINAL, REASON_NOT_IMPLEMENTED, false, true, 0}},
    {502, {VERDICT_RETRY, REASON_BAD_GATEWAY, true, false, RETRY_ON_5XX}},
    {503, {VERDICT_RETRY, REASON_OVERLOADED, false, false, RETRY_ON_5XX}},
    {504, {VERDICT_RETRY, REASON_GATEWAY_TIMEOUT, true, false, RETRY_ON_5XX}},
    {505, {VERDICT_FINAL, REASON_NOT_IMPLEMENTED, false, true, 0}},
    {520, {VERDICT_RETRY, REASON_SERVER_ERROR, true, false, RETRY_ON_5XX}},
    {524, {VERDICT_RETRY, REASON_GATEWAY_TIMEOUT, true, false, RETRY_ON_5XX}},
    {529, {VERDICT_RETRY, REASON_OVERLOADED, false, false, RETRY_ON_5XX}},
};

static struct expected of_transport(enum transport t)
{
    for (size_t i = 0; i < COUNT(transports); i++)
        if (transports[i].transport == t)
            return transports[i].e;
    ck_abort_msg("transport %d", t);
    return transports[0].e;
}

/* Statuses from 400. */
static struct expected of_status(unsigned status, enum apierror_kind kind)
{
    for (size_t i = 0; i < COUNT(statuses); i++) {
        if (statuses[i].status != status)
            continue;
        struct expected e = statuses[i].e;
        if (status == 429 && kind == APIERROR_OVERLOADED)
            e.reason = REASON_OVERLOADED;
        if (status == 402 && kind == APIERROR_RATE_LIMIT) /* OpenRouter's, for requests under way */
            return of_status(429, kind);
        return e;
    }
    if (status >= 500)
        return (struct expected){VERDICT_RETRY, REASON_SERVER_ERROR, false, false, RETRY_ON_5XX};
    return (struct expected){VERDICT_FINAL, REASON_CLIENT_ERROR, false, false, 0};
}

static const struct expected is_good = {VERDICT_GOOD, REASON_OK, false, false, 0};

static struct expected of_success(const struct outcome *o)
{
    struct expected e;

    if (o->error->kind == APIERROR_NONE && o->silent)
        return (struct expected){VERDICT_RETRY, REASON_EMPTY_RESPONSE, true, false, RETRY_ON_EMPTY};
    if (o->error->kind == APIERROR_NONE) {
        e = (struct expected){VERDICT_RETRY, REASON_EMPTY_STREAM, true, false, RETRY_ON_RESET};
        return o->stream && o->empty ? e : is_good;
    }
    e = (struct expected){VERDICT_RETRY, o->stream ? REASON_ERROR_IN_STREAM : REASON_ERROR_IN_BODY,
                          true, false, RETRY_ON_5XX};
    if (o->error->status)
        e = of_status(o->error->status, o->error->kind);
    else if (o->error->kind == APIERROR_RATE_LIMIT)
        e = of_status(429, APIERROR_NONE);
    else if (o->error->kind == APIERROR_OVERLOADED)
        e = of_status(503, APIERROR_NONE);
    e.ambiguous = true;
    return e;
}

static struct expected of_table(const struct outcome *o)
{
    bool body_phase =
        o->transport == TRANSPORT_TRUNCATED || o->transport == TRANSPORT_FIRST_CONTENT_TIMEOUT ||
        o->transport == TRANSPORT_IDLE_TIMEOUT || o->transport == TRANSPORT_TOTAL_TIMEOUT;

    if (body_phase && o->status >= 400) {
        struct expected status = of_status(o->status, o->error->kind);
        struct expected broken = of_transport(o->transport);
        broken.ambiguous = false;
        return status.kind == VERDICT_RETRY ? status : broken;
    }
    if (o->transport != TRANSPORT_WHOLE)
        return of_transport(o->transport);
    if (o->status < 100)
        return of_transport(TRANSPORT_BAD_RESPONSE);
    if (o->status < 200 || (o->status >= 300 && o->status < 400))
        return is_good;
    return o->status < 300 ? of_success(o) : of_status(o->status, o->error->kind);
}

static const enum reason final_kinds[LAST_KIND + 1] = {[APIERROR_QUOTA] = REASON_QUOTA,
                                                       [APIERROR_KEY] = REASON_KEY,
                                                       [APIERROR_MODEL] = REASON_MODEL,
                                                       [APIERROR_CONTEXT] = REASON_CONTEXT,
                                                       [APIERROR_CONTENT_POLICY] =
                                                           REASON_CONTENT_POLICY};

static struct expected expect(const struct outcome *o, enum should should, unsigned retry_on)
{
    bool counts = o->transport != TRANSPORT_INTERNAL && o->status >= 200 &&
                  (o->status < 300 || o->status >= 400);

    if (counts && final_kinds[o->error->kind] != REASON_OK) {
        bool maybe = o->status < 300 || o->status == 502 || o->status == 504 || o->status == 520 ||
                     o->status == 524;
        return (struct expected){VERDICT_FINAL, final_kinds[o->error->kind], maybe,
                                 o->error->kind != APIERROR_CONTENT_POLICY, 0};
    }
    struct expected e = of_table(o);
    bool heard = o->status > 0 && o->transport != TRANSPORT_INTERNAL && e.kind != VERDICT_GOOD &&
                 (should == SAYS_TRUE || should == SAYS_FALSE);
    if (heard && should == SAYS_TRUE && e.kind == VERDICT_FINAL)
        e = (struct expected){VERDICT_RETRY, REASON_UPSTREAM_SAYS_RETRY, e.ambiguous, false, 0};
    else if (heard && should == SAYS_FALSE && e.kind == VERDICT_RETRY)
        e = (struct expected){VERDICT_FINAL, REASON_UPSTREAM_SAYS_NO, e.ambiguous, true, 0};
    else if (!heard && e.kind == VERDICT_RETRY && e.causes && !(e.causes & retry_on)) {
        e.kind = VERDICT_FINAL;
        e.movable = true;
    }
    return e;
}

/* --- the whole space -------------------------------------------------------------------------- */

static unsigned long long compared;

static void compare(const struct outcome *o, enum should should, unsigned retry_on)
{
    struct verdict v = classify(o, retry_on);
    struct expected e = expect(o, should, retry_on);
    bool excluded = e.kind == VERDICT_FINAL && e.causes != 0; /* it was a RETRY before */

    compared++;
    if (v.kind != e.kind || v.reason != e.reason || v.ambiguous != e.ambiguous ||
        v.movable != e.movable || v.excluded != excluded)
        ck_abort_msg("transport %d status %u kind %d should %d retry_on %x stream %d empty %d: "
                     "%d %s %d %d %d, not %d %s %d %d %d",
                     o->transport, o->status, o->error->kind, should, retry_on, o->stream, o->empty,
                     v.kind, reason_word(v.reason), v.ambiguous, v.movable, v.excluded, e.kind,
                     reason_word(e.reason), e.ambiguous, e.movable, excluded);
}

/* All x-should-retry, with every cause alone, with all and with none. */
static void compare_causes(struct outcome *o)
{
    for (int should = UNSAID; should <= LAST_SHOULD; should++) {
        o->headers = &answers[should];
        compare(o, (enum should)should, 0);
        compare(o, (enum should)should, RETRY_ON_ALL);
        for (unsigned bit = 1; bit < RETRY_ON_ALL; bit <<= 1)
            compare(o, (enum should)should, bit);
    }
    o->headers = NULL;
    compare(o, UNSAID, RETRY_ON_ALL);
}

static void compare_kinds(enum transport t, unsigned status)
{
    for (int kind = APIERROR_NONE; kind <= LAST_KIND; kind++)
        for (int shape = 0; shape < 4; shape++) {
            struct apierror error = {.kind = (enum apierror_kind)kind};
            struct outcome o = {.transport = t,
                                .status = status,
                                .error = &error,
                                .stream = shape == 1 || shape == 2,
                                .empty = shape == 2,
                                .silent = shape == 3};
            compare_causes(&o);
        }
}

static const unsigned odd_statuses[] = {0, 1, 99, 600, 999, 4000000000u};

START_TEST(every_transport_and_status)
{
    make_answers();
    for (int t = TRANSPORT_WHOLE; t <= LAST_TRANSPORT; t++) {
        for (unsigned status = 100; status <= 599; status++)
            compare_kinds((enum transport)t, status);
        for (size_t i = 0; i < COUNT(odd_statuses); i++)
            compare_kinds((enum transport)t, odd_statuses[i]);
    }
    free_answers();
    ck_assert_msg(compared > 10000000, "%llu", compared);
}
END_TEST

/* An error object under a 2xx, with every status of its own. */
START_TEST(every_status_in_a_good_responses_body)
{
    make_answers();
    for (unsigned own = 400; own <= 599; own++)
        for (int kind = APIERROR_OTHER; kind <= LAST_KIND; kind++)
            for (int stream = 0; stream < 2; stream++) {
                struct apierror error = {.kind = (enum apierror_kind)kind, .status = own};
                struct outcome o = {.status = 200, .error = &error, .stream = stream};
                compare_causes(&o);
            }
    free_answers();
}
END_TEST

START_TEST(every_set_of_causes)
{
    struct apierror error = {.kind = APIERROR_NONE};

    make_answers();
    for (unsigned retry_on = 0; retry_on <= RETRY_ON_ALL; retry_on++)
        for (int t = TRANSPORT_WHOLE; t <= LAST_TRANSPORT; t++)
            for (unsigned status = 400; status <= 599; status++) {
                struct outcome o = {.transport = (enum transport)t,
                                    .status = status,
                                    .error = &error,
                                    .headers = &answers[UNSAID]};
                compare(&o, UNSAID, retry_on);
            }
    free_answers();
}
END_TEST

/* Rules that hold for any outcome. */
START_TEST(invariants)
{
    make_answers();
    for (int t = TRANSPORT_WHOLE; t <= LAST_TRANSPORT; t++)
        for (unsigned status = 0; status <= 700; status++)
            for (int kind = APIERROR_NONE; kind <= LAST_KIND; kind++)
                for (int should = UNSAID; should <= LAST_SHOULD; should++) {
                    struct apierror error = {.kind = (enum apierror_kind)kind};
                    struct outcome o = {.transport = (enum transport)t,
                                        .status = status,
                                        .error = &error,
                                        .headers = &answers[should]};
                    struct verdict v = classify(&o, RETRY_ON_ALL);
                    bool good = v.kind == VERDICT_GOOD;
                    if (good != (v.reason == REASON_OK) || (good && (v.ambiguous || v.movable)) ||
                        (good && t != TRANSPORT_WHOLE) || (v.movable && v.kind != VERDICT_FINAL) ||
                        (t == TRANSPORT_INTERNAL && v.kind != VERDICT_FINAL) ||
                        (v.reason == REASON_CONTENT_POLICY && v.movable))
                        ck_abort_msg("transport %d, status %u, kind %d", t, status, kind);
                }
    free_answers();
}
END_TEST

START_TEST(without_an_error_or_headers)
{
    for (int t = TRANSPORT_WHOLE; t <= LAST_TRANSPORT; t++)
        for (unsigned status = 0; status <= 700; status++) {
            struct apierror none = {.kind = APIERROR_NONE};
            struct outcome bare = {.transport = (enum transport)t, .status = status}, same = bare;
            same.error = &none;
            struct verdict a = classify(&bare, RETRY_ON_ALL), b = classify(&same, RETRY_ON_ALL);
            ck_assert(a.kind == b.kind && a.reason == b.reason && a.ambiguous == b.ambiguous);
        }
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "classify");

    tcase_set_timeout(tcase, 30);
    tcase_add_test(tcase, every_transport_and_status);
    tcase_add_test(tcase, every_status_in_a_good_responses_body);
    tcase_add_test(tcase, every_set_of_causes);
    tcase_add_test(tcase, invariants);
    tcase_add_test(tcase, without_an_error_or_headers);
}
