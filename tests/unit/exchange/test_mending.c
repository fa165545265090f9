/* C13: mending ends. How long it may take, which targets it uses, and what it may cost, in virtual
 * time. */

#include <check.h>
#include <string.h>

#include "stream_text.h"
#include "unit.h"
#include "world_fixture.h"

#define SPLICE STREAM_SPLICE
#define IDLE_MS 12000
#define MEND_MS 30000
#define BAD "data: {\"choices\":[\n\n"

static void run_request(const struct fake_attempt *script, unsigned n, enum stream_mode mode,
                        const char *headers)
{
    world_follow(script, n);
    w.settings.stream.mode = mode;
    fake_begin(&w, "POST", "/v1/chat/completions", headers, "{\"stream\":true}");
    world_finish();
}

static void run(const struct fake_attempt *script, unsigned n, enum stream_mode mode)
{
    run_request(script, n, mode, NULL);
}

static void set_up(void)
{
    world_set_up();
    w.settings.timeout.idle_ms = IDLE_MS;
    w.settings.stream.mend_timeout_ms = MEND_MS;
}

static void again(void)
{
    world_tear_down();
    set_up();
}

static struct fake_attempt stalls(const char *text)
{
    return (struct fake_attempt){
        .status = 200, .headers = SSE, .pieces = {{0, text, 0}}, .hangs = true};
}

static struct fake_attempt cut(const char *text)
{
    return stream_attempt(text, TRANSPORT_TRUNCATED);
}

static void told_at(uint64_t at_ms, unsigned starts, const char *code, const char *why)
{
    world_told(ROLE TEXT("Hello"), code, END_BROKEN);
    ck_assert_uint_eq(w.now_ms, at_ms);
    ck_assert_uint_eq(w.starts, starts);
    ck_assert_msg(strcmp(w.x.cannot_retry, why) == 0, "%s", w.x.cannot_retry);
}

#define SILENT_WHY "a target that was silent is not asked for the same response again"

/* --- whom it asks ----------------------------------------------------------------------------- */

/* The caller's limit is 45 s: it is told, long before, and nothing is paid for twice. */
START_TEST(a_stall_with_nobody_else_is_told_at_once)
{
    const struct fake_attempt script[] = {stalls(ROLE TEXT("Hello"))};

    run(script, 1, SPLICE);
    told_at(IDLE_MS, 1, "idle_timeout", SILENT_WHY);
    ck_assert_uint_eq(w.x.duplicates, 0);
}
END_TEST

START_TEST(a_stall_is_mended_elsewhere_at_once)
{
    const struct fake_attempt script[] = {stalls(ROLE TEXT("Hello")),
                                          stream_attempt(WHOLE, TRANSPORT_WHOLE)};

    world_upstreams(2);
    run(script, 2, SPLICE);
    world_answered(WHOLE);
    ck_assert_uint_eq(w.start[1].at_ms, IDLE_MS);
    ck_assert_str_eq(w.start[1].target.upstream->name, "b");
}
END_TEST

/* All kinds of silence, of the first attempt and of those that are to mend it. */
START_TEST(everyone_is_asked_once)
{
    const struct fake_attempt script[] = {
        stalls(ROLE TEXT("Hello")), {.hangs = true}, stalls(ROLE), stalls(ROLE TEXT("Hel"))};

    world_upstreams(4);
    w.settings.timeout.first_byte_ms = 2000;
    w.settings.timeout.first_content_ms = 3000;
    w.settings.timeout.idle_ms = 4000;
    run(script, 4, SPLICE);
    told_at(4000 + 2000 + 3000 + 4000, 4, "idle_timeout", SILENT_WHY);
}
END_TEST

/* One that is not free yet is waited for; the silent one stays out of it. */
START_TEST(the_silent_one_is_not_come_back_to)
{
    const struct fake_attempt script[] = {stalls(ROLE TEXT("Hello")), cut(ROLE),
                                          cut(ROLE TEXT("Hello")),
                                          stream_attempt(WHOLE, TRANSPORT_WHOLE)};

    world_upstreams(2);
    run(script, 4, SPLICE);
    world_answered(WHOLE);
    for (unsigned i = 1; i < 4; i++)
        ck_assert_str_eq(w.start[i].target.upstream->name, "b");
}
END_TEST

/* Silent before it was answered by another: it is not asked in mending, either. */
START_TEST(silence_before_the_response_counts)
{
    const struct fake_attempt script[] = {{.hangs = true},
                                          cut(ROLE TEXT("Hello")),
                                          cut(ROLE),
                                          stream_attempt(WHOLE, TRANSPORT_WHOLE)};

    world_upstreams(2);
    w.settings.timeout.first_byte_ms = 2000;
    run(script, 4, SPLICE);
    world_answered(WHOLE);
    ck_assert_str_eq(w.start[0].target.upstream->name, "a");
    for (unsigned i = 1; i < 4; i++)
        ck_assert_str_eq(w.start[i].target.upstream->name, "b");
}
END_TEST

/* A target that was silent and then responded no longer counts as silent. */
START_TEST(a_response_redeems)
{
    const struct fake_attempt script[] = {
        {.hangs = true}, cut(ROLE TEXT("Hello")), stream_attempt(WHOLE, TRANSPORT_WHOLE)};

    w.settings.timeout.first_byte_ms = 2000;
    run(script, 3, SPLICE);
    world_answered(WHOLE);
    ck_assert_uint_eq(w.starts, 3);
}
END_TEST

/* Held, the client has nothing yet: elsewhere first, then the same again, as ever. */
START_TEST(held_is_no_mending)
{
    const struct fake_attempt script[] = {stalls(ROLE TEXT("Hello")), stalls(ROLE TEXT("Hello")),
                                          stream_attempt(WHOLE, TRANSPORT_WHOLE)};

    world_upstreams(2);
    run(script, 3, STREAM_HOLD);
    world_answered(WHOLE);
    ck_assert_str_eq(w.start[1].target.upstream->name, "b");
    ck_assert_uint_eq(w.start[1].at_ms, IDLE_MS);
    ck_assert_str_eq(w.start[2].target.upstream->name, "a");
}
END_TEST

/* --- how long --------------------------------------------------------------------------------- */

/* Attempt, status, backoff, queue: wherever it is, it ends when its time is over. */
START_TEST(it_ends_wherever_it_is)
{
    static const struct fake_attempt slow[] = {
        {.status = 200, .headers_ms = 60000, .headers = SSE},
        {.status = 200, .headers = SSE, .pieces = {{0, ROLE, 0}, {60000, TEXT("Hello"), 0}}},
        {.status = 200,
         .headers = SSE,
         .pieces = {{0, ROLE, 0},
                    {9000, TEXT("H"), 0},
                    {9000, TEXT("e"), 0},
                    {9000, TEXT("l"), 0},
                    {9000, TEXT("lo"), 0},
                    {0, TEXT(" you") STOP DONE, 0}}},
        {.status = 503, .headers_ms = 60000, .headers = JSON},
        {.status = 503, .headers = JSON, .pieces = {{60000, "{}", 0}}},
    };

    for (unsigned i = 0; i < COUNT(slow); i++) {
        const struct fake_attempt script[] = {cut(ROLE TEXT("Hello")), slow[i]};

        again();
        w.settings.timeout.idle_ms = 0;
        run(script, 2, SPLICE);
        told_at(1 + MEND_MS, 2, "deadline_exceeded", "mend_timeout has passed");
        ck_assert_str_eq(w.x.last_detail, "it could not be mended within 30000 ms (mend_timeout)");
    }
}
END_TEST

/* The next of them would be in vain. */
START_TEST(a_backoff_that_would_pass_it_is_not_begun)
{
    const struct fake_attempt script[] = {cut(ROLE TEXT("Hello")), cut(ROLE), cut(ROLE), cut(ROLE),
                                          cut(ROLE)};

    w.settings.stream.mend_timeout_ms = 5000;
    w.settings.retry.backoff.initial_delay_ms = 1000;
    run(script, 5, SPLICE);
    /* 1 s, 2 s, and 4 s would be too long */
    told_at(w.start[2].gone_ms, 3, "answer_truncated", "the wait would exceed mend_timeout");
    ck_assert_uint_lt(w.now_ms, 5000);
}
END_TEST

START_TEST(a_hint_that_would_pass_it_is_not_waited_for)
{
    const struct fake_attempt script[] = {
        cut(ROLE TEXT("Hello")),
        {.status = 429,
         .headers = JSON "retry-after: 40\n",
         .pieces = {{0, "{\"error\":{\"message\":\"m\",\"code\":\"rate_limit_exceeded\"}}", 0}}}};

    run(script, 2, SPLICE);
    told_at(w.start[1].gone_ms, 2, "rate_limit_exceeded",
            "the upstream asks for a wait beyond mend_timeout");
}
END_TEST

/* One response has so much time for all its breaks, and what lies between them takes none of it. */
START_TEST(the_time_is_one_for_all_breaks)
{
    const struct fake_attempt script[] = {
        cut(ROLE TEXT("Hello")),
        {.status = 200,
         .headers_ms = 18000,
         .headers = SSE,
         .pieces = {{0, ROLE TEXT("Hello"), 0}, {1, TEXT(" you"), 0}, {50000, TEXT("!"), 0}},
         .end_ms = 1,
         .end = TRANSPORT_TRUNCATED},
        {.status = 200, .headers_ms = 18000, .headers = SSE, .pieces = {{0, WHOLE, 0}}}};
    uint64_t mended = 1 + 1000 + 18000 + 1;

    w.settings.timeout.idle_ms = 60000;
    run(script, 3, SPLICE);
    world_told(ROLE TEXT("Hello") TEXT(" you") TEXT("!"), "deadline_exceeded", END_BROKEN);
    ck_assert_uint_eq(w.start[1].gone_ms, mended + 50001);
    ck_assert_uint_eq(w.now_ms, w.start[1].gone_ms + MEND_MS - (mended - 1));
}
END_TEST

START_TEST(without_a_limit_the_deadline_is_one)
{
    const struct fake_attempt script[] = {cut(ROLE TEXT("Hello")), {.hangs = true}};

    w.settings.stream.mend_timeout_ms = 0;
    w.settings.retry.deadline_ms = 50000;
    run(script, 2, SPLICE);
    told_at(1 + 50000, 2, "deadline_exceeded", "the deadline has passed");
}
END_TEST

/* The client's own patience is with silence: it counts from what it was given last. */
START_TEST(a_declared_limit_counts_from_the_last_word)
{
    struct fake_attempt script[] = {cut(ROLE TEXT("Hello")), {.hangs = true}};

    script[0].end_ms = 9000;
    run_request(script, 2, SPLICE, "x-stainless-read-timeout: 20\n");
    told_at(19000, 2, "deadline_exceeded", "the deadline has passed");
    again();
    w.settings.stream.heartbeat_ms = 5000; /* there is no silence */
    run_request(script, 2, SPLICE, "x-stainless-read-timeout: 20\n");
    ck_assert_uint_eq(w.now_ms, 9000 + MEND_MS);
}
END_TEST

/* In its backoff, before its head, while it repeats: the client hears that it is waited for. */
START_TEST(c14_it_beats_while_it_is_mended)
{
    const struct fake_attempt script[] = {
        cut(ROLE TEXT("Hello")),
        {.status = 200,
         .headers_ms = 1000,
         .headers = SSE,
         .pieces = {{0, ROLE, 0}, {1000, TEXT("Hello"), 0}, {1000, TEXT(" you") STOP DONE, 0}}}};
#define BEATS ": retryd\n: retryd\n"

    w.settings.stream.heartbeat_ms = 500;
    run(script, 2, SPLICE);
    world_answered(ROLE TEXT("Hello") BEATS BEATS BEATS BEATS TEXT(" you") STOP DONE);
#undef BEATS
}
END_TEST

/* --- what is read on -------------------------------------------------------------------------- */

#define EVENT(n, type, rest) \
    "event: " type "\ndata: {\"type\":\"" type "\",\"sequence_number\":" n rest "}\n\n"
#define CREATED EVENT("0", "response.created", ",\"response\":{\"id\":\"resp_1\"}")
#define DELTA(n, text) \
    EVENT(n, "response.output_text.delta", ",\"output_index\":0,\"delta\":\"" text "\"")
#define COMPLETED(n) EVENT(n, "response.completed", ",\"response\":{\"id\":\"resp_1\"}")

static void run_background(const struct fake_attempt *script, unsigned n)
{
    world_follow(script, n);
    w.settings.stream.mode = SPLICE;
    fake_begin(&w, "POST", "/v1/responses", NULL, "{\"stream\":true,\"background\":true}");
    world_finish();
}

/* It runs on where it is, and nowhere else: silence is no reason not to go back there. */
START_TEST(what_runs_on_is_read_on_behind_silence)
{
    const struct fake_attempt script[] = {
        stalls(CREATED DELTA("1", "Hello")),
        stream_attempt(DELTA("2", " you") COMPLETED("3"), TRANSPORT_WHOLE)};

    run_background(script, 2);
    world_answered(CREATED DELTA("1", "Hello") DELTA("2", " you") COMPLETED("3"));
    ck_assert_uint_eq(w.starts, 2);
}
END_TEST

START_TEST(reading_on_has_the_same_time)
{
    const struct fake_attempt script[] = {cut(CREATED DELTA("1", "Hello")), {.hangs = true}};

    run_background(script, 2);
    world_told(CREATED DELTA("1", "Hello"), "deadline_exceeded", END_BROKEN);
    ck_assert_uint_eq(w.now_ms, 1 + MEND_MS);
}
END_TEST

/* --- events that are no JSON ------------------------------------------------------------------ */

static const struct fake_attempt bad_amid = {
    .status = 200,
    .headers = SSE,
    .pieces = {{0, ROLE TEXT("Hello"), 0}, {1, BAD TEXT(" you") STOP DONE, 0}}};

/* The response is that way: it is asked for once more, and goes on without that event. */
START_TEST(a_habit_costs_one_attempt)
{
    run(&bad_amid, 1, (enum stream_mode)_i);
    world_answered(WHOLE);
    ck_assert_uint_eq(w.starts, _i == STREAM_LIVE ? 1 : 2);
    ck_assert_uint_eq(w.dropped_malformed, 1);
}
END_TEST

/* Also where its bytes differ, where it comes at another time, and where there are many. */
START_TEST(a_habit_is_known_by_its_place_or_its_bytes)
{
    const struct fake_attempt again_here = stream_attempt(
        ROLE
        ": c\n\n" TEXT("Hello") "data: {\"other\"\n\n" TEXT(" you") "data: {\"x\"\n\n" STOP DONE,
        TRANSPORT_WHOLE);
    const struct fake_attempt elsewhere = stream_attempt(
        ROLE BAD TEXT("Hello") "data: {\"x\"\n\n" TEXT(" you") STOP DONE, TRANSPORT_WHOLE);

    for (unsigned i = 0; i < 2; i++) {
        const struct fake_attempt script[] = {bad_amid, i ? elsewhere : again_here};

        again();
        run(script, 2, SPLICE);
        world_answered(i ? WHOLE : ROLE TEXT("Hello") ": c\n\n" TEXT(" you") STOP DONE);
        ck_assert_uint_eq(w.starts, 2);
        ck_assert_uint_eq(w.dropped_malformed, 2);
    }
}
END_TEST

/* Before its content a live stream is made again, too; once. */
START_TEST(a_habit_before_the_content)
{
    const struct fake_attempt a = stream_attempt(BAD WHOLE, TRANSPORT_WHOLE);

    run(&a, 1, (enum stream_mode)_i);
    world_answered(WHOLE);
    ck_assert_uint_eq(w.starts, 2);
}
END_TEST

/* A held response has to be complete. The same target would repeat it; others may not. */
START_TEST(a_habit_is_not_held)
{
    const struct fake_attempt script[] = {bad_amid, bad_amid,
                                          stream_attempt(WHOLE, TRANSPORT_WHOLE)};

    run(&bad_amid, 1, STREAM_HOLD);
    ck_assert_uint_eq(w.starts, 2);
    ck_assert_uint_eq(w.response.status, 502);
    ck_assert_int_eq(w.x.last_reason, REASON_MALFORMED);
    again();
    world_upstreams(3);
    run(script, 3, STREAM_HOLD);
    world_answered(WHOLE);
    ck_assert_str_eq(w.start[2].target.upstream->name, "c");
}
END_TEST

/* There is no room for a repeat: the stream, which goes well otherwise, is not ended for it. */
START_TEST(without_a_budget_it_goes_on)
{
    w.settings.retry.budget_min = 0;
    run(&bad_amid, 1, SPLICE);
    world_answered(WHOLE);
    ck_assert_uint_eq(w.starts, 1);
    ck_assert_uint_eq(w.denied, 1);
    again();
    run(&bad_amid, 1, SPLICE);
    ck_assert_uint_eq(w.starts, 2);
    ck_assert_uint_eq(fake_repeats(&w, 0), 1); /* once for one repeat */
}
END_TEST

/* Another one elsewhere is no habit. */
START_TEST(other_garbage_is_none)
{
    const struct fake_attempt other = stream_attempt(
        ROLE TEXT("Hello") TEXT(" y") "data: {\n\n" TEXT("ou") STOP DONE, TRANSPORT_WHOLE);
    const struct fake_attempt script[] = {bad_amid, other, stream_attempt(WHOLE, TRANSPORT_WHOLE)};

    run(script, 3, STREAM_HOLD);
    world_answered(WHOLE);
    ck_assert_uint_eq(w.starts, 3);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *c = unit_case(suite, "all");

    tcase_add_checked_fixture(c, set_up, world_tear_down);
    tcase_add_test(c, a_stall_with_nobody_else_is_told_at_once);
    tcase_add_test(c, a_stall_is_mended_elsewhere_at_once);
    tcase_add_test(c, everyone_is_asked_once);
    tcase_add_test(c, the_silent_one_is_not_come_back_to);
    tcase_add_test(c, silence_before_the_response_counts);
    tcase_add_test(c, a_response_redeems);
    tcase_add_test(c, held_is_no_mending);
    tcase_add_test(c, it_ends_wherever_it_is);
    tcase_add_test(c, a_backoff_that_would_pass_it_is_not_begun);
    tcase_add_test(c, a_hint_that_would_pass_it_is_not_waited_for);
    tcase_add_test(c, the_time_is_one_for_all_breaks);
    tcase_add_test(c, without_a_limit_the_deadline_is_one);
    tcase_add_test(c, a_declared_limit_counts_from_the_last_word);
    tcase_add_test(c, c14_it_beats_while_it_is_mended);
    tcase_add_test(c, what_runs_on_is_read_on_behind_silence);
    tcase_add_test(c, reading_on_has_the_same_time);
    tcase_add_loop_test(c, a_habit_costs_one_attempt, STREAM_LIVE, STREAM_SPLICE + 1);
    tcase_add_test(c, a_habit_is_known_by_its_place_or_its_bytes);
    tcase_add_loop_test(c, a_habit_before_the_content, STREAM_LIVE, STREAM_SPLICE + 1);
    tcase_add_test(c, a_habit_is_not_held);
    tcase_add_test(c, without_a_budget_it_goes_on);
    tcase_add_test(c, other_garbage_is_none);
}
