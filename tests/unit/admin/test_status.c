/* What the status documents say of requests and targets, for each thing that may befall one; and
 * that they report when memory is short. */
#include "admin/status.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config_text.h"
#include "failmem.h"
#include "unit.h"

#define NOW 1000000

static struct loaded loaded;
static struct story stories[8];
static struct traffic_view views[8];
static char dump[] = "[server]\nlisten = 127.0.0.1:4891\n";
static struct status st;

static const struct story request = {.id = "0a1b2c3d-rest",
                                     .method = "POST",
                                     .path = "/v1/chat/completions",
                                     .model = "gpt",
                                     .route = "all",
                                     .stream = true,
                                     .unix_ms = 1760000000000,
                                     .started_ms = NOW - 30000,
                                     .max_attempts = 5};

static void setup(void)
{
    setenv("KEY_OF_A", "sk-a", 1);
    loaded = config_text_load(
        "[upstream a]\nurl = https://a.example/v1\napi_key_env = KEY_OF_A\nmax_concurrency = 4\n"
        "requests_per_minute = 60\n[upstream b]\nurl = https://b.example/v1\n"
        "[route all]\nbase = /v1\nupstreams = a, b\n");
    ck_assert_msg(loaded.config != NULL, "%s", loaded.problems);
    memset(stories, 0, sizeof(stories));
    memset(views, 0, sizeof(views));
    st = (struct status){.now_ms = NOW,
                         .unix_ms = 1760000030000,
                         .config = loaded.config,
                         .stories = stories,
                         .views = views,
                         .dump = dump};
}

static void teardown(void)
{
    loaded_deinit(&loaded);
}

static struct traffic_view *add_view(const char *upstream, const char *model, struct turns_view v)
{
    struct traffic_view *ret = &views[st.view_count++];

    ret->view = v;
    snprintf(ret->upstream, sizeof(ret->upstream), "%s", upstream);
    snprintf(ret->model, sizeof(ret->model), "%s", model);
    return ret;
}

/* --- words and numbers ------------------------------------------------------------------------ */

START_TEST(durations_have_the_unit_that_people_use)
{
    static const struct {
        uint64_t ms;
        const char *text;
    } cases[] = {{999, "999 ms"},
                 {1500, "1.5 s"},
                 {119000, "119 s"},
                 {7199000, "119 min"},
                 {UINT64_C(47) * 3600000, "47 h"},
                 {UINT64_C(72) * 3600000, "3 days"}};

    for (size_t i = 0; i < COUNT(cases); i++) {
        char space[STATUS_TIME_MAX];

        ck_assert_str_eq(status_time(cases[i].ms, space), cases[i].text);
    }
}
END_TEST

START_TEST(text_from_outside_is_escaped)
{
    struct buf out;

    buf_init(&out, 4096);
    status_put(&out, "<b a=\"1\">&'\\\n", true);
    ck_assert(str_eq(buf_str(&out), STR("&lt;b a=&quot;1&quot;&gt;&amp;&#39;\\\\n")));
    buf_reset(&out, 4096);
    status_put(&out, "<b a=\"1\">&'\\\n", false);
    ck_assert(str_eq(buf_str(&out), STR("<b a=\"1\">&'\\\\n")));
    buf_deinit(&out);
}
END_TEST

START_TEST(each_health_has_its_words)
{
    static const char *const words[] = {"well", "attention", "riding_out",
                                        "down", "draining",  "stuck"};

    for (unsigned h = 0; h < COUNT(words); h++) {
        ck_assert_str_eq(status_health_word((enum status_health)h), words[h]);
        ck_assert_uint_gt(strlen(status_health_sentence((enum status_health)h)), 8);
    }
}
END_TEST

START_TEST(the_reasons_that_failed_most_come_first)
{
    struct history_sums sums = {.total_ms = 10, .upstream_ms = 4, .backoff_ms = 5};
    unsigned top[4];

    ck_assert_uint_eq(status_top(&sums, 4, top), 0);
    sums.failures[REASON_RATE_LIMIT] = 3;
    sums.failures[REASON_CONNECT] = 9;
    sums.failures[REASON_QUOTA] = 1;
    ck_assert_uint_eq(status_top(&sums, 2, top), 2);
    ck_assert_uint_eq(top[0], REASON_CONNECT);
    ck_assert_uint_eq(top[1], REASON_RATE_LIMIT);
    ck_assert_uint_eq(status_top(&sums, 4, top), 3);
    ck_assert_uint_eq(status_other_ms(&sums), 1);
    sums.total_ms = 8; /* its parts may be counted before it */
    ck_assert_uint_eq(status_other_ms(&sums), 0);
}
END_TEST

/* --- sentences -------------------------------------------------------------------------------- */

static void expect(void (*write)(const struct status *st, const struct story *s, struct buf *out),
                   const struct story *s, const char *text)
{
    struct buf out;

    buf_init(&out, 65536);
    write(&st, s, &out);
    ck_assert_msg(str_ifind(buf_str(&out), str_from(text)) >= 0, "\"%s\" is not in \"%.*s\"", text,
                  (int)out.len, out.p);
    buf_deinit(&out);
}

START_TEST(a_request_under_way_is_told_by_its_phase)
{
    struct story s = request;

    s.attempts = 2;
    s.phase = STORY_BACKOFF;
    s.reason = REASON_RATE_LIMIT;
    s.until_ms = NOW + 2500;
    expect(status_summary, &s, "rate_limited; attempt 3 of 5 in 2.5 s");
    s.until_ms = NOW - 1;
    expect(status_summary, &s, "attempt 3 of 5 in 0 ms");
    s.phase = STORY_ATTEMPTING;
    expect(status_summary, &s, "attempt 2 of 5 is under way");
    s.attempts = 0;
    expect(status_summary, &s, "attempt 1 of 5 is under way");
    s.phase = STORY_RELAYING;
    expect(status_summary, &s, "the response is on its way");
    s.phase = STORY_QUEUED;
    expect(status_summary, &s, "waits in the queue (others wait)");
    s.why = TURN_WHY_GATE;
    add_view("a", "gpt", (struct turns_view){.kind = VIEW_TARGET, .shut_ms = 90000});
    add_view("b", "gpt", (struct turns_view){.kind = VIEW_MODEL, .shut_ms = 4000});
    add_view("b", "other", (struct turns_view){.kind = VIEW_MODEL, .shut_ms = 1000});
    add_view("b", "", (struct turns_view){.kind = VIEW_KEY, .shut_ms = 500});
    expect(status_summary, &s, ", for about 4.0 s"); /* the first that opens for its model */
    expect(
        status_sentences, &s,
        "POST /v1/chat/completions for gpt, as a stream, came at 2025-10-09T08:53:20Z, by route all.");
}
END_TEST

START_TEST(a_request_that_has_ended_is_told_by_its_end)
{
    static const struct {
        enum exchange_end end;
        unsigned attempts;
        const char *summary, *sentence;
    } cases[] = {
        {END_ANSWERED, 1, "answered with 503: overloaded",
         "with status 503, 30 s after its request"},
        {END_ANSWERED, 2, "rescued with 503: overloaded", "with status 503"},
        {END_FAILED, 1, "failed with 503: overloaded",
         "The client got 503 after 30 s and 1 attempt."},
        {END_FAILED, 3, "failed with 503", "30 s and 3 attempts."},
        {END_REFUSED, 0, "refused with 503", "It was refused with 503 before any attempt."},
        {END_BROKEN, 1, "broke after it had begun: overloaded",
         "The response broke after it had begun"},
        {END_CLIENT_GONE, 1, "the client left", "The client left after 30 s."},
        {END_NONE, 1, ": overloaded",
         "Its time: 20 s with upstreams, 2.0 s backing off, 3.0 s in the queue, 5.0 s else."},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct story s = request;

        s.phase = STORY_ENDED;
        s.ended_ms = NOW;
        s.end = cases[i].end;
        s.attempts = cases[i].attempts;
        s.status = 503;
        s.reason = REASON_OVERLOADED;
        s.upstream_ms = 20000;
        s.backoff_ms = 2000;
        s.queue_ms = 3000;
        snprintf(s.cannot_retry, sizeof(s.cannot_retry), "the budget is spent");
        expect(status_summary, &s, cases[i].summary);
        expect(status_sentences, &s, cases[i].sentence);
        expect(status_sentences, &s, "No other attempt was made: the budget is spent.");
    }
}
END_TEST

/* A story with an attempt of each outcome. */
static struct story eventful(void)
{
    static const struct story_attempt attempts[] = {
        {.number = 1,
         .outcome = ATTEMPT_FAILED,
         .status = 429,
         .reason = REASON_RATE_LIMIT,
         .duration_ms = 150,
         .upstream = "a",
         .code = "rate_limit_exceeded",
         .key_number = 2},
        {.number = 2,
         .outcome = ATTEMPT_FAILED,
         .reason = REASON_CONNECT,
         .upstream = "b",
         .model = "gpt-b",
         .detail = "connection refused",
         .wait_ms = 1200,
         .start_ms = 1350},
        {.number = 3, .outcome = ATTEMPT_FAILED, .reason = REASON_DNS},
        {.number = 9, .outcome = ATTEMPT_CANCELLED, .upstream = "a", .duration_ms = 700},
        {.number = 10, .outcome = ATTEMPT_RUNS, .upstream = "a", .start_ms = 28000},
        {.number = 11,
         .outcome = ATTEMPT_RUNS,
         .upstream = "a",
         .start_ms = 31000}, /* by a clock a little ahead */
        {.number = 12,
         .outcome = ATTEMPT_GOOD,
         .upstream = "b",
         .status = 200,
         .duration_ms = 3000},
    };
    struct story s = request;

    s.phase = STORY_ATTEMPTING;
    s.attempts = 12;
    s.kept = COUNT(attempts);
    memcpy(s.attempt, attempts, sizeof(attempts));
    s.client_repeat = true;
    s.hedges = s.duplicates = 2;
    s.splices = 1;
    return s;
}

START_TEST(each_attempt_is_told_by_its_outcome)
{
    static const char *const sentences[] = {
        "Attempt 1 went to a with key 2 and failed after 150 ms: 429 rate_limited (rate_limit_exceeded).",
        "retryd waited 1.2 s. Attempt 2 went to b as gpt-b and failed after 0 ms: connect_failed (connection refused).",
        "Attempt 3 went to nowhere and failed after 0 ms: dns_failed.",
        "(5 attempts are left out here.)",
        "Attempt 9 went to a and was cancelled after 700 ms.",
        "Attempt 10 went to a and has been under way for 2.0 s.",
        "Attempt 11 went to a and has been under way for 0 ms.",
        "Attempt 12 went to b and was answered with 200; it took 3.0 s.",
        "Now: attempt 12 of 5 is under way.",
        "it got one attempt.",
        "2 second attempts joined a slow one.",
        "1 break of the stream was mended.",
        "2 attempts may have been charged although the response was lost.",
    };
    struct story s = eventful();

    for (size_t i = 0; i < COUNT(sentences); i++)
        expect(status_sentences, &s, sentences[i]);
    s.hedges = s.duplicates = 1;
    s.splices = 2;
    expect(status_sentences, &s, "1 second attempt joined a slow one.");
    expect(status_sentences, &s, "2 breaks of the stream were mended.");
    expect(status_sentences, &s, "1 attempt may have been charged although the response was lost.");
}
END_TEST

/* --- documents -------------------------------------------------------------------------------- */

/* Everything at once: models and targets in each state, a key that is set aside, a hidden model,
 * stories of both kinds. */
static void fill(void)
{
    add_view("a", "",
             (struct turns_view){.kind = VIEW_UPSTREAM,
                                 .in_flight = 3,
                                 .free_ms = 700,
                                 .budget_requests = 40,
                                 .budget_repeats = 1});
    add_view("a", "gpt",
             (struct turns_view){.kind = VIEW_MODEL, .shut_ms = 4000, .shut = 2, .in_a_row = 5});
    add_view(
        "a", "gpt",
        (struct turns_view){.kind = VIEW_TARGET, .key_number = 1, .shut_ms = 9000, .waiting = 7});
    add_view("a", "gpt",
             (struct turns_view){.kind = VIEW_TARGET, .opening = true, .pace_per_minute = 30});
    add_view("a", "",
             (struct turns_view){.kind = VIEW_KEY, .key_number = 1, .shut_ms = 60000, .shut = 1});
    add_view(
        "b", "",
        (struct turns_view){.kind = VIEW_MODEL, .half_open = true, .operation = OPERATION_EMBED});
    add_view("b", "", (struct turns_view){.kind = VIEW_TARGET, .operation = OPERATION_EMBED});
    add_view("b", "more", (struct turns_view){.kind = VIEW_MODEL})->hidden = true;
    stories[0] = eventful();
    stories[1] = stories[2] = stories[0];
    stories[1].phase = STORY_BACKOFF;
    stories[2].phase = STORY_ENDED;
    stories[2].ended_ms = NOW - 5000;
    stories[2].end = END_ANSWERED;
    stories[2].model[0] = '\0';
    stories[3] = stories[2];
    stories[3].end = END_FAILED;
    st.live_count = st.ended_count = 2;
    st.live = 2;
    st.active = 1;
    snprintf(st.why[st.why_count++], sizeof(st.why[0]), "a: gpt counts as down");
    st.health = STATUS_RIDING_OUT;
    st.can_act = true;
    st.total.requests = STATUS_CPU_REQUESTS;
    st.cpu_us = 90 * STATUS_CPU_REQUESTS;
    st.hour = (struct history_sums){.requests = 9,
                                    .rescued = 2,
                                    .failed = 1,
                                    .total_ms = 100,
                                    .upstream_ms = 60,
                                    .backoff_ms = 20,
                                    .queue_ms = 10};
    st.hour.failures[REASON_RATE_LIMIT] = 4;
    st.minutes[3] = st.hour;
    st.reload =
        (struct status_reload){.refused = true, .differs = true, .problem = "line 3: no such key"};
}

static void document(int which, struct buf *out, int *ret)
{
    *ret = 0;
    if (which == 0)
        status_text(&st, out);
    else if (which == 1)
        status_html(&st, out);
    else if (which == 2)
        *ret = status_json(&st, true, out);
    else
        *ret = status_story_json(&st, &stories[0], out);
    if (out->failed)
        *ret = -1;
}

START_TEST(documents_show_each_state)
{
    static const char *const texts[][8] = {
        {"Riding out a failure", "3 in flight of 4", "key 1 set aside", "closed, opens in 9.0 s",
         "opening, paced at 30/min", "probing", "open, probe in 4.0 s", "0a1b2c3d"},
        {"3 of at most 4 in flight", "60 requests a minute, the next in ", "1 retry in 10 s",
         "(no model)", "1 model more", "refused ", "Open all gates and breakers",
         "90 \xc2\xb5s of CPU"},
        {"\"half_open\"", "\"set_aside\"", "\"opening\"", "\"models_hidden\":1",
         "\"cpu_us_per_request\":90", "\"problem\":\"line 3: no such key\"", "\"rescued\":true",
         "\"pace_per_minute\":30"},
    };

    fill();
    for (int which = 0; which < 3; which++) {
        struct buf out;
        int rc;

        buf_init(&out, 1024 * 1024);
        document(which, &out, &rc);
        ck_assert_int_eq(rc, 0);
        for (size_t i = 0; i < COUNT(texts[0]); i++)
            ck_assert_msg(str_ifind(buf_str(&out), str_from(texts[which][i])) >= 0,
                          "document %d has no %s", which, texts[which][i]);
        buf_deinit(&out);
    }
}
END_TEST

START_TEST(an_idle_daemon_has_documents_too)
{
    static const char *const texts[] = {"0 requests in progress",
                                        "No request has taken any time in the last hour.",
                                        "\"problem\":null"};

    for (int which = 0; which < 3; which++) {
        struct buf out;
        int rc;

        buf_init(&out, 1024 * 1024);
        document(which, &out, &rc);
        ck_assert_int_eq(rc, 0);
        ck_assert(str_ifind(buf_str(&out), str_from(texts[which])) >= 0);
        buf_deinit(&out);
    }
}
END_TEST

START_TEST(more_than_fits_is_counted)
{
    static struct story many[20];
    struct buf out;

    fill();
    for (size_t i = 0; i < COUNT(many); i++)
        many[i] = stories[2];
    st.stories = many;
    st.live_count = 0;
    st.ended_count = COUNT(many);
    buf_init(&out, 1024 * 1024);
    status_text(&st, &out);
    ck_assert(str_ifind(buf_str(&out), STR("  and 12 more\n")) >= 0);
    buf_deinit(&out);
}
END_TEST

START_TEST(short_memory_is_reported)
{
    fill();
    for (int which = 0; which < 4; which++)
        for (size_t n = 1;; n += 7) { /* a sample: they allocate some thousand times */
            struct buf out;
            int rc;

            buf_init(&out, 1024 * 1024);
            failmem_arm_from(n);
            document(which, &out, &rc);
            bool failed = failmem_disarm();
            buf_deinit(&out);
            if (!failed)
                break;
            if (which > 1)
                ck_assert_int_lt(rc, 0);
        }
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *c = unit_case(suite, "words");

    tcase_add_test(c, durations_have_the_unit_that_people_use);
    tcase_add_test(c, text_from_outside_is_escaped);
    tcase_add_test(c, each_health_has_its_words);
    tcase_add_test(c, the_reasons_that_failed_most_come_first);
    c = unit_case(suite, "sentences");
    tcase_add_unchecked_fixture(c, config_text_folder, NULL);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, a_request_under_way_is_told_by_its_phase);
    tcase_add_test(c, a_request_that_has_ended_is_told_by_its_end);
    tcase_add_test(c, each_attempt_is_told_by_its_outcome);
    c = unit_case(suite, "documents");
    tcase_add_unchecked_fixture(c, config_text_folder, NULL);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, documents_show_each_state);
    tcase_add_test(c, an_idle_daemon_has_documents_too);
    tcase_add_test(c, more_than_fits_is_counted);
    tcase_add_test(c, short_memory_is_reported);
}
