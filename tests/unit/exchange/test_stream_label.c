/* If a stream was requested, the first bytes show whether the response is one, whatever its
 * label. */

#include <check.h>
#include <stdio.h>
#include <string.h>

#include "stream_text.h"
#include "unit.h"
#include "world_fixture.h"

static const char *const labels[] = {JSON,
                                     "Content-Type: text/plain\n",
                                     "Content-Type: text/html; charset=utf-8\n",
                                     "",
                                     "Content-Type: application/octet-stream\n",
                                     "Content-Type: \n"};

static void begin(enum stream_mode mode, const char *method, const char *body)
{
    w.settings.stream.mode = mode;
    fake_begin(&w, method, "/v1/chat/completions", NULL, body);
}

static void run(const struct fake_attempt *script, unsigned n, enum stream_mode mode)
{
    world_follow(script, n);
    begin(mode, "POST", "{\"stream\":true}");
    world_finish();
}

START_TEST(each_event_goes_out_as_it_comes)
{
    for (size_t i = 0; i < COUNT(labels); i++) {
        const struct fake_attempt a = {.status = 200,
                                       .headers = labels[i],
                                       .pieces = {{10, "d", 0},
                                                  {10, "ata", 0},
                                                  {10, &ROLE[4], 0},
                                                  {10, TEXT("Hello"), 0},
                                                  {10, TEXT(" you") STOP DONE, 0}},
                                       .end_ms = 10};

        world_again();
        world_follow(&a, 1);
        begin((enum stream_mode)_i, "POST", "{\"stream\":true}");
        fake_run_until(&w, 30);
        ck_assert_uint_eq(w.begins, 0);
        fake_run_until(&w, 41);
        if (_i != STREAM_HOLD)
            ck_assert(world_body_is(ROLE TEXT("Hello")));
        world_finish();
        world_answered(WHOLE);
        ck_assert_uint_eq(w.starts, 1);
        ck_assert_uint_eq(w.response.content_length, LENGTH_UNKNOWN);
        if (*labels[i]) /* the label itself stays as it is */
            ck_assert(str_eq(fake_header(&w, "Content-Type"),
                             str_trim((struct str){labels[i] + 13, strlen(labels[i]) - 14})));
        else
            ck_assert_uint_eq(fake_header(&w, "Content-Type").n, 0);
    }
}
END_TEST

/* However it begins. */
START_TEST(whatever_comes_first)
{
    static const char *const interim[] = {
        ": hello\n\n", ":\n\n", "event: x\n", "\xef\xbb\xbf", "\n\r\n\n", "\xef\xbb\xbf\n:c\n", ""};

    for (size_t i = 0; i < COUNT(interim); i++) {
        for (size_t at = 0; at < 8; at++) {
            char all[2000];
            struct fake_attempt a = {.status = 200, .headers = JSON};

            (void)snprintf(all, sizeof(all), "%s%s", interim[i], WHOLE);
            a.pieces[0] = (struct fake_piece){0, at ? all : "", at};
            a.pieces[1] = (struct fake_piece){5, all + at, 0};
            world_again();
            run(&a, 1, (enum stream_mode)_i);
            world_answered(all);
            ck_assert(w.x.stream.on);
            ck_assert_uint_eq(w.starts, 1);
        }
    }
}
END_TEST

START_TEST(it_is_guarded)
{
    static const char text[] = ROLE TEXT("Hello");

    for (size_t i = 0; i < 2 * COUNT(labels); i++) {
        struct fake_attempt script[] = {
            stream_attempt(text, i % 2 ? TRANSPORT_WHOLE : TRANSPORT_TRUNCATED),
            stream_attempt(WHOLE, TRANSPORT_WHOLE)};

        script[0].headers = labels[i / 2];
        script[1].headers = labels[(i + 1) / 2 % COUNT(labels)];
        world_again();
        run(script, 2, (enum stream_mode)_i);
        if (_i == STREAM_LIVE)
            world_told(text, "answer_truncated", END_BROKEN);
        else
            world_answered(WHOLE);
    }
}
END_TEST

START_TEST(before_its_content_it_is_made_again)
{
    static const char *const bad[] = {"data: {\"error\":{\"message\":\"m\",\"code\":\"c\"}}\n\n",
                                      ROLE, ROLE DONE, ": c\n\n"};

    for (size_t i = 0; i < COUNT(bad); i++) {
        struct fake_attempt script[] = {stream_attempt(bad[i], TRANSPORT_WHOLE),
                                        stream_attempt(WHOLE, TRANSPORT_WHOLE)};

        script[0].headers = "Content-Type: text/plain\n";
        world_again();
        run(script, 2, (enum stream_mode)_i);
        world_answered(WHOLE);
        ck_assert_uint_eq(w.starts, 2);
    }
}
END_TEST

/* While the first bytes are undecided, a stream's timeouts apply. */
START_TEST(until_its_first_bytes_it_may_think)
{
    const struct fake_attempt thinks = {
        .status = 200,
        .headers = JSON,
        .pieces = {{900, "\n", 0}, {900, "da", 0}, {900, &WHOLE[2], 0}}};
    const struct fake_attempt silent = {.status = 200, .headers = JSON, .hangs = true};
    const struct fake_attempt again[] = {silent, stream_attempt(WHOLE, TRANSPORT_WHOLE)};

    w.settings.timeout = (struct timeout_settings){.idle_ms = 100, .first_content_ms = 3000};
    w.settings.stream.heartbeat_ms = 1000; /* it may be no stream: nothing is begun for it */
    run(&thinks, 1, (enum stream_mode)_i);
    world_answered("\n" WHOLE);
    ck_assert_uint_eq(w.starts, 1);
    world_again();
    w.settings.timeout = (struct timeout_settings){.idle_ms = 100, .first_content_ms = 3000};
    run(again, 2, (enum stream_mode)_i);
    world_answered(WHOLE);
    ck_assert_uint_eq(w.start[0].gone_ms, 3000);
    ck_assert_int_eq(w.reports[0].verdict.reason, REASON_FIRST_CONTENT_TIMEOUT);
}
END_TEST

/* Nothing of what is no stream waits for anything new. */
START_TEST(other_responses_are_as_they_were)
{
    static const struct {
        const char *method, *body, *headers, *text;
        unsigned status;
    } rows[] = {
        {"POST", "{\"stream\":true}", JSON, "{\"a\":1}", 200},
        {"POST", "{\"stream\":true}", JSON, "[]", 200},
        {"POST", "{\"stream\":true}", JSON, "{\"error\":{\"message\":\"m\"}}", 400},
        {"POST", "{\"stream\":true}", JSON, "data: x\n\n", 404},
        {"POST", "{\"stream\":false}", "Content-Type: text/plain\n", "data: {\"choices\":[]}\n\n",
         200},
        {"POST", "{}", "", "data: {\"choices\":[]}\n\n", 200},
        {"GET", NULL, "Content-Type: text/plain\n", "event: x\n\n", 200},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        const struct fake_attempt a = {
            .status = rows[i].status,
            .headers = rows[i].headers,
            .pieces = {{10, rows[i].text, 1}, {10, rows[i].text + 1, 0}}};

        world_again();
        world_follow(&a, 1);
        begin((enum stream_mode)_i, rows[i].method, rows[i].body);
        world_finish();
        ck_assert(!w.x.stream.on && w.wholes == 1 && world_body_is(rows[i].text));
        ck_assert_uint_eq(w.response.status, rows[i].status);
        ck_assert_uint_eq(w.starts, 1);
    }
}
END_TEST

/* Its length says at once that it need not be held: its first byte says that it is no stream. */
START_TEST(a_long_response_waits_for_one_byte)
{
    static const struct {
        const char *first;
        bool begins;
    } rows[] = {{"x", true}, {"d", false},  {"\n", false},
                {"[", true}, {"id", false}, {"ide", true}};

    for (size_t i = 0; i < COUNT(rows); i++) {
        const struct fake_attempt a = {.status = 200,
                                       .headers = "Content-Length: 5000000\n",
                                       .pieces = {{10, rows[i].first, 0}},
                                       .hangs = true};

        world_follow(&a, 1);
        begin((enum stream_mode)_i, "POST", "{\"stream\":true}");
        fake_run_until(&w, 10);
        ck_assert_uint_eq(w.begins, 0);
        fake_run_until(&w, 11);
        ck_assert_uint_eq(w.begins, rows[i].begins);
        world_again(); /* it still runs, and what it follows ends with this turn */
    }
}
END_TEST

/* The second of two races with a stream that is called JSON. */
START_TEST(a_rival_without_a_label)
{
    const struct fake_attempt script[] = {
        {.hangs = true},
        {.status = 200, .headers = JSON, .pieces = {{20, WHOLE, 0}, {500, ": c\n\n", 0}}}};

    w.settings.hedge = (struct hedge_settings){.after_ms = 100, .requests = HEDGE_ALL};
    run(script, 2, (enum stream_mode)_i);
    world_answered(WHOLE ": c\n\n");
    ck_assert_uint_eq(w.start[0].gone_ms, 120);
}
END_TEST

START_TEST(a_heartbeat_has_begun)
{
    struct fake_attempt a = {
        .status = 200, .headers_ms = 150, .headers = JSON, .pieces = {{100, WHOLE, 0}}};

    w.settings.stream.heartbeat_ms = 100;
    run(&a, 1, (enum stream_mode)_i);
    world_answered(": retryd\n: retryd\n" WHOLE);
}
END_TEST

START_TEST(http_1_0)
{
    const struct fake_attempt a = {.status = 200, .headers = JSON, .pieces = {{0, WHOLE, 0}}};

    world_follow(&a, 1);
    begin((enum stream_mode)_i, "POST", "{\"stream\":true}");
    w.x.request.http.http_1_0 = true;
    world_finish();
    world_answered(WHOLE);
    ck_assert_uint_eq(w.response.content_length, strlen(WHOLE));
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *c = unit_case(suite, "labels");

    tcase_add_checked_fixture(c, world_set_up, world_tear_down);
    tcase_add_loop_test(c, each_event_goes_out_as_it_comes, 0, 3);
    tcase_add_loop_test(c, whatever_comes_first, 0, 3);
    tcase_add_loop_test(c, it_is_guarded, 0, 3);
    tcase_add_loop_test(c, before_its_content_it_is_made_again, 0, 3);
    tcase_add_loop_test(c, until_its_first_bytes_it_may_think, 0, 3);
    tcase_add_loop_test(c, other_responses_are_as_they_were, 0, 3);
    tcase_add_loop_test(c, a_long_response_waits_for_one_byte, 0, 3);
    tcase_add_loop_test(c, a_rival_without_a_label, 0, 3);
    tcase_add_loop_test(c, a_heartbeat_has_begun, 0, 3);
    tcase_add_loop_test(c, http_1_0, 0, 3);
}
