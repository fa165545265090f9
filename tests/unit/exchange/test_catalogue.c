/* The sixteen faults that providers are publicly reported to have, with their real timings, in
 * virtual time: a stall of 30 s, a first word after 20 s, and a caller that gives up after 45 s.
 *
 * There is one upstream, with the model that was asked for and a fallback model, and the settings
 * that docs/configuration.md gives for such a caller. tests/blackbox/test_catalogue.py has the same
 * faults over sockets. */

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stream_text.h"
#include "unit.h"
#include "world_fixture.h"

#define LIMIT_MS 45000
#define STALL_MS 30000
#define FIRST_WORD_MS 20000

#define BEGUN ROLE TEXT("Hello")
#define REST TEXT(" you") STOP DONE
#define USAGE \
    "data: {\"id\":\"A\",\"choices\":[],\"usage\":{\"total_tokens\":3},\"model\":\"small\"}\n\n"
#define ERROR(code) "{\"error\":{\"message\":\"no\",\"code\":\"" code "\"}}"
#define SAYS(status_, fields, code)                                                    \
    {                                                                                  \
        .status = (status_), .headers = JSON fields, .pieces = { {0, ERROR(code), 0} } \
    }
#define STREAM .status = 200, .headers = SSE
#define WELL                                \
    {                                       \
        STREAM, .pieces = { {0, WHOLE, 0} } \
    }
#define CUT                                                                        \
    {                                                                              \
        STREAM, .pieces = {{0, BEGUN, 0}}, .end_ms = 1, .end = TRANSPORT_TRUNCATED \
    }

/* What the caller gets. No other result is right and safe. */
enum caller {
    RESCUED, /* a whole response, as if nothing had happened */
    REFUSED, /* the upstream's own error, at once: no repeat would change it */
    TOLD,    /* the words that came, and one error event behind them: no end, nothing twice */
};

static const struct fault {
    const char *name;
    struct fake_attempt primary[4]; /* one attempt after the other; then the last again */
    unsigned n;
    struct fake_attempt fallback;
    struct {
        enum caller gets;
        unsigned attempts;
    } mode[3]; /* live, splice, hold */
} faults[] = {
    {"429 with a hint",
     {SAYS(429, "retry-after: 3\n", "rate_limit_exceeded"), WELL},
     2,
     WELL,
     {{RESCUED, 2}, {RESCUED, 2}, {RESCUED, 2}}},
    {"persistent 429",
     {SAYS(429, "", "rate_limit_exceeded")},
     1,
     WELL,
     {{RESCUED, 4}, {RESCUED, 4}, {RESCUED, 4}}},
    {"one 500",
     {SAYS(500, "", "server_error"), WELL},
     2,
     WELL,
     {{RESCUED, 2}, {RESCUED, 2}, {RESCUED, 2}}},
    {"persistent 503",
     {SAYS(503, "", "overloaded")},
     1,
     WELL,
     {{RESCUED, 4}, {RESCUED, 4}, {RESCUED, 4}}},
    {"reset before the head",
     {{.end = TRANSPORT_LOST}, WELL},
     2,
     WELL,
     {{RESCUED, 2}, {RESCUED, 2}, {RESCUED, 2}}},
    {"silence", {{.hangs = true}}, 1, WELL, {{RESCUED, 2}, {RESCUED, 2}, {RESCUED, 2}}},
    {"late first token",
     {{STREAM, .pieces = {{0, ROLE, 0}, {FIRST_WORD_MS, TEXT("Hello") REST, 0}}}},
     1,
     WELL,
     {{RESCUED, 1}, {RESCUED, 1}, {RESCUED, 1}}},
    {"cut", {CUT, WELL}, 2, WELL, {{TOLD, 1}, {RESCUED, 2}, {RESCUED, 2}}},
    {"stall",
     {{STREAM, .pieces = {{0, BEGUN, 0}, {STALL_MS, REST, 0}}}},
     1,
     WELL,
     {{TOLD, 1}, {TOLD, 1}, {RESCUED, 2}}},
    {"malformed event",
     {{STREAM, .pieces = {{0, BEGUN, 0}, {1, "data: {\"cho\n\n" REST, 0}}}, WELL},
     2,
     WELL,
     {{RESCUED, 1}, {RESCUED, 2}, {RESCUED, 2}}},
    {"missing [DONE]",
     {{STREAM, .pieces = {{0, BEGUN TEXT(" you") STOP, 0}}}},
     1,
     WELL,
     {{RESCUED, 1}, {RESCUED, 1}, {RESCUED, 1}}},
    {"context length",
     {SAYS(400, "", "context_length_exceeded")},
     1,
     WELL,
     {{RESCUED, 2}, {RESCUED, 2}, {RESCUED, 2}}},
    {"content policy",
     {SAYS(400, "", "content_policy_violation")},
     1,
     WELL,
     {{REFUSED, 1}, {REFUSED, 1}, {REFUSED, 1}}},
    /* The primary breaks each time. A fallback that is asked to go on behind "Hello" would refuse
     * it: it is sent what the caller sent, and only where the caller has nothing yet. */
    {"a fallback that rejects prefill", {CUT}, 1, WELL, {{TOLD, 1}, {TOLD, 5}, {RESCUED, 4}}},
    {"a flapping primary",
     {SAYS(503, "", "overloaded"),
      {STREAM, .pieces = {{0, ROLE, 0}}, .end = TRANSPORT_TRUNCATED},
      WELL},
     3,
     WELL,
     {{RESCUED, 3}, {RESCUED, 3}, {RESCUED, 3}}},
    {"accounting after a fall-back",
     {SAYS(503, "", "overloaded")},
     1,
     {STREAM, .pieces = {{0, BEGUN TEXT(" you") STOP USAGE DONE, 0}}},
     {{RESCUED, 4}, {RESCUED, 4}, {RESCUED, 4}}},
};

static const struct fault *fault;
static unsigned asked;

static const struct fake_attempt *by_tier(struct fake_world *world, const struct target *t)
{
    (void)world;
    if (t->tier > 0)
        return &fault->fallback;
    asked++;
    return &fault->primary[asked < fault->n ? asked - 1 : fault->n - 1];
}

/* The settings that docs/configuration.md has for a caller that gives up after 45 s. */
static void play(const struct fault *f, enum stream_mode mode)
{
    static const char *const small[] = {"small"};

    fault = f;
    asked = 0;
    w.pick = by_tier;
    w.fallback_models = small;
    w.fallback_count = 1;
    w.settings.stream.mode = mode;
    w.settings.stream.mend_timeout_ms = 30000;
    w.settings.timeout.first_byte_ms = w.settings.timeout.first_content_ms = 25000;
    w.settings.timeout.idle_ms = 10000;
    w.settings.retry.deadline_ms = 43000;
    fake_begin(&w, "POST", "/v1/chat/completions", NULL, "{\"model\":\"gpt-x\",\"stream\":true}");
    world_finish();
}

/* One response from its first word to its end, all words once. */
static void got_all(void)
{
    struct stream_told t;

    ck_assert_int_eq(w.x.end, END_ANSWERED);
    ck_assert(w.got_end);
    stream_read(buf_str(&w.body), &t);
    ck_assert_uint_eq(t.errors, 0);
    ck_assert_uint_eq(t.rest, 0);
    free(t.answer);
    ck_assert(str_starts(buf_str(&w.body), STR(BEGUN TEXT(" you") STOP)));
}

static void gets(enum caller caller)
{
    switch (caller) {
    case RESCUED:
        got_all();
        break;
    case REFUSED:
        ck_assert_int_eq(w.x.end, END_FAILED);
        ck_assert_uint_eq(w.response.status, fault->primary[0].status);
        ck_assert(world_body_is(fault->primary[0].pieces[0].text));
        break;
    case TOLD:
        world_told(BEGUN, reason_word(w.x.last_reason), END_BROKEN);
        break;
    }
}

START_TEST(c12_c13_each_fault_in_each_mode)
{
    const struct fault *f = &faults[_i / 3];
    unsigned mode = (unsigned)_i % 3;

    play(f, (enum stream_mode)mode);
    ck_assert_msg(w.starts == f->mode[mode].attempts, "%s: %u attempts", f->name, w.starts);
    ck_assert_msg(w.now_ms < LIMIT_MS, "%s: %u ms", f->name, (unsigned)w.now_ms);
    gets(f->mode[mode].gets);
}
END_TEST

START_TEST(hold_rides_out_all_of_them)
{
    unsigned rescued = 0;

    ck_assert_uint_eq(COUNT(faults), 16);
    for (size_t i = 0; i < COUNT(faults); i++)
        rescued += faults[i].mode[STREAM_HOLD].gets != TOLD;
    ck_assert_uint_eq(rescued, 16);
}
END_TEST

/* The same with the heartbeat that goes with hold: its comments are in front, and nothing else
 * differs. */
START_TEST(c14_hold_with_a_heartbeat)
{
    const struct fault *f = &faults[_i];
    struct str body;

    w.settings.stream.heartbeat_ms = 10000;
    play(f, STREAM_HOLD);
    ck_assert_uint_eq(w.starts, f->mode[STREAM_HOLD].attempts);
    ck_assert_uint_lt(w.now_ms, LIMIT_MS);
    if (f->mode[STREAM_HOLD].gets == REFUSED) {
        gets(REFUSED);
        return;
    }
    ck_assert_int_eq(w.x.end, END_ANSWERED);
    body = buf_str(&w.body);
    while (str_starts(body, STR(": retryd\n")))
        body = (struct str){body.p + 9, body.n - 9};
    ck_assert(str_starts(body, STR(BEGUN TEXT(" you") STOP)));
}
END_TEST

/* The serving upstream, the number of attempts and the cost are reported once, and nothing else was
 * charged. */
START_TEST(c21_accounting_after_a_fall_back)
{
    play(&faults[COUNT(faults) - 1], (enum stream_mode)_i);
    world_answered(BEGUN TEXT(" you") STOP USAGE DONE);
    ck_assert(str_eq(fake_header(&w, "x-retryd-model"), STR("small")));
    ck_assert(str_eq(fake_header(&w, "x-retryd-attempts"), STR("4")));
    ck_assert_uint_eq(w.x.duplicates, 0);
}
END_TEST

/* The same without anybody to turn to: what persists is the upstream's own word, in time. */
START_TEST(without_a_fallback_it_is_told_in_time)
{
    static const struct {
        const char *name;
        unsigned status;
    } rows[] = {{"persistent 429", 429},
                {"persistent 503", 503},
                {"silence", 504},
                {"context length", 400}};

    for (size_t r = 0; r < COUNT(rows); r++) {
        struct fault alone;

        for (size_t i = 0; i < COUNT(faults); i++)
            if (strcmp(faults[i].name, rows[r].name) == 0)
                alone = faults[i];
        world_again();
        w.fallback_on = 0;
        play(&alone, (enum stream_mode)_i);
        ck_assert_int_eq(w.x.end, END_FAILED);
        ck_assert_uint_eq(w.response.status, rows[r].status);
        ck_assert_uint_lt(w.now_ms, LIMIT_MS);
    }
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *c = unit_case(suite, "all");

    tcase_add_checked_fixture(c, world_set_up, world_tear_down);
    tcase_add_loop_test(c, c12_c13_each_fault_in_each_mode, 0, 3 * (int)COUNT(faults));
    tcase_add_test(c, hold_rides_out_all_of_them);
    tcase_add_loop_test(c, c14_hold_with_a_heartbeat, 0, (int)COUNT(faults));
    tcase_add_loop_test(c, c21_accounting_after_a_fall_back, 0, 3);
    tcase_add_loop_test(c, without_a_fallback_it_is_told_in_time, 0, 3);
}
