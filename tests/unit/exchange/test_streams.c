/* Streams that break, at any place and in each mode: mended, or reported as broken; never presented
 * as complete. */

#include <cJSON.h>
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stream_text.h"
#include "unit.h"
#include "world_fixture.h"

#define USAGE "data: {\"id\":\"A\",\"choices\":[],\"usage\":{\"total_tokens\":3}}\n\n"
#define ERROR "data: {\"error\":{\"message\":\"m\",\"code\":\"server_error\"}}\n\n"
#define LIVE STREAM_LIVE
#define SPLICE STREAM_SPLICE
#define HOLD STREAM_HOLD

static void begin(enum dialect d, enum stream_mode mode)
{
    w.settings.stream.mode = mode;
    fake_begin(&w, "POST", stream_path(d), NULL,
               "{\"stream\":true,\"stream_options\":{\"include_usage\":true}}");
}

static void run(const struct fake_attempt *script, unsigned n, enum dialect d,
                enum stream_mode mode)
{
    world_follow(script, n);
    begin(d, mode);
    world_finish();
}

/* A stream in two pieces: what is in one piece with a failure is not yet with the client. */
static struct fake_attempt after(const char *text, const char *more, enum transport end)
{
    struct fake_attempt a = stream_attempt(text, end);

    a.pieces[1] = (struct fake_piece){1, more, 0};
    return a;
}

static struct fake_attempt broken(const char *text)
{
    return stream_attempt(text, TRANSPORT_TRUNCATED);
}

static struct fake_attempt whole(const char *text)
{
    return stream_attempt(text, TRANSPORT_WHOLE);
}

static void chat(struct fake_attempt a, struct fake_attempt b, enum stream_mode mode)
{
    const struct fake_attempt script[] = {a, b};

    run(script, 2, DIALECT_CHAT, mode);
    w.script = NULL;
}

static void answered(const char *text, unsigned starts)
{
    world_answered(text);
    ck_assert(w.got_end);
    ck_assert_uint_eq(w.starts, starts);
}

/* --- cuts, anywhere --------------------------------------------------------------------------- */

static const enum dialect dialects[] = {DIALECT_CHAT, DIALECT_COMPLETIONS, DIALECT_RESPONSES};

/* The same short response twice, with other ids and cut into other events. */
#define NAMED(id, rest) "data: {\"id\":\"" id "\",\"choices\":[" rest "]}\n\n"
#define D(id, delta) NAMED(id, "{\"index\":0,\"delta\":" delta "}")
#define F(id) NAMED(id, "{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}")
#define U(id) "data: {\"id\":\"" id "\",\"choices\":[],\"usage\":{\"total\":3}}\n\n"
#define T(id, text) NAMED(id, "{\"index\":0,\"text\":\"" text "\"}")
#define R(n, type, rest) \
    "event: " type "\ndata: {\"type\":\"" type "\",\"sequence_number\":" n rest "}\n\n"
#define RD(n, text) R(n, "response.output_text.delta", ",\"output_index\":0,\"delta\":\"" text "\"")
#define RR(n, type, id) R(n, "response." type, ",\"response\":{\"id\":\"" id "\"}")

static const char *const short_texts[][2][8] = {
    {{D("A", "{\"role\":\"x\"}"), D("A", "{\"content\":\"a\xc3\xa9\"}"),
      D("A", "{\"content\":\"\\\"b\"}"), F("A"), U("A"), DONE},
     {D("B", "{\"role\":\"x\"}"), D("B", "{\"content\":\"a\"}"),
      D("B", "{\"content\":\"\\u00e9\\\"b\"}"), F("B"), U("B"), DONE}},
    {{T("A", "a"), T("A", "\xc3\xa9\\\"b"),
      NAMED("A", "{\"index\":0,\"text\":\"\","
                 "\"finish_reason\":\"stop\"}"),
      U("A"), DONE},
     {T("B", "a\xc3\xa9\\\""), T("B", "b"),
      NAMED("B", "{\"index\":0,\"text\":\"\","
                 "\"finish_reason\":\"stop\"}"),
      U("B"), DONE}},
    {{RR("0", "created", "A"), RD("1", "a\xc3\xa9"), RD("2", "\\\"b"), RR("3", "completed", "A")},
     {RR("0", "created", "B"), RD("1", "a"), RD("2", "\\u00e9"), RD("3", "\\\"b"),
      RR("4", "completed", "B")}},
};

/* The loop's number as a dialect and a mode. */
static enum dialect dialect_of_loop(int i)
{
    return dialects[i / 3];
}

static enum stream_mode mode_of_loop(int i)
{
    return (enum stream_mode)(i % 3);
}

struct pair {
    struct stream_text a, b;
    char *whole_a, *whole_b; /* what they come to */
};

static void pair_make(struct pair *p, struct script script, enum dialect d)
{
    struct stream_told t;

    script.dialect = d;
    stream_text_write(&p->a, &script);
    stream_read(buf_str(&p->a.bytes), &t);
    p->whole_a = t.answer;
    script.name = "B";
    script.chunk = 3;
    script.spelling = 1;
    stream_text_write(&p->b, &script);
    stream_read(buf_str(&p->b.bytes), &t);
    p->whole_b = t.answer;
}

static void pair_make_short(struct pair *p, int dialect)
{
    struct stream_told t;

    stream_text_of(&p->a, short_texts[dialect][0]);
    stream_read(buf_str(&p->a.bytes), &t);
    p->whole_a = t.answer;
    stream_text_of(&p->b, short_texts[dialect][1]);
    stream_read(buf_str(&p->b.bytes), &t);
    p->whole_b = t.answer;
}

static void pair_free(struct pair *p)
{
    stream_text_free(&p->a);
    stream_text_free(&p->b);
    free(p->whole_a);
    free(p->whole_b);
}

/* The first response is cut there; the second one comes whole. */
static void run_cut(const struct pair *p, size_t cut, enum transport end, int loop)
{
    static struct fake_attempt script[2];

    script[0] = (struct fake_attempt){.status = 200,
                                      .headers = SSE,
                                      .pieces = {{0, cut ? p->a.bytes.p : NULL, cut}},
                                      .end_ms = 1,
                                      .end = end,
                                      .detail = "cut"};
    script[1] = (struct fake_attempt){
        .status = 200, .headers = SSE, .pieces = {{0, p->b.bytes.p, p->b.bytes.len}}};
    world_again();
    run(script, 2, dialect_of_loop(loop), mode_of_loop(loop));
}

/* The client has one whole response, or was told that it has not. */
static void check_mended(const struct pair *p, size_t cut, int loop)
{
    struct stream_told t;
    bool passed =
        w.x.stream.splices > 0 || w.x.end == END_BROKEN; /* a part of the first response */

    stream_read(buf_str(&w.body), &t);
    ck_assert_uint_eq(t.rest, 0);
    if (w.x.end == END_BROKEN) {
        ck_assert_int_eq(mode_of_loop(loop), LIVE);
        ck_assert(t.errors == 1 && t.error_last);
        ck_assert_uint_eq(w.starts, 1);
    } else {
        const char *want = passed || w.starts == 1 ? p->whole_a : p->whole_b;
        ck_assert_int_eq(w.x.end, END_ANSWERED);
        ck_assert_uint_eq(t.errors, 0);
        ck_assert(!w.x.stream.lacks_usage || mode_of_loop(loop) == LIVE);
        if (w.x.stream.lacks_usage) /* the rest is there */
            ck_assert_uint_gt(strlen(t.answer), strlen(want) / 2);
        else if (strcmp(t.answer, want) != 0)
            ck_abort_msg("cut %zu of %zu, mode %d:\n%s--- instead of\n%s", cut, p->a.bytes.len,
                         loop % 3, t.answer, want);
    }
    free(t.answer);
}

START_TEST(cut_after_each_event)
{
    struct pair p;
    unsigned spliced = 0, broke = 0;

    pair_make(&p, script_whole, dialect_of_loop(_i));
    ck_assert_uint_gt(p.a.n, 20);
    for (size_t i = 0; i < p.a.n; i++) {
        run_cut(&p, p.a.ends[i], TRANSPORT_TRUNCATED, _i);
        check_mended(&p, p.a.ends[i], _i);
        spliced += w.x.stream.splices;
        broke += w.x.end == END_BROKEN;
    }
    ck_assert(mode_of_loop(_i) == SPLICE ? spliced > 20 : spliced == 0);
    ck_assert(mode_of_loop(_i) == LIVE ? broke > 20 : broke == 0);
    pair_free(&p);
}
END_TEST

struct result {
    struct buf body;
    enum exchange_end end;
    unsigned starts, splices;
};

static void keep_result(struct result *r)
{
    buf_reset(&r->body, SIZE_MAX);
    (void)buf_add_str(&r->body, buf_str(&w.body));
    r->end = w.x.end;
    r->starts = w.starts;
    r->splices = w.x.stream.splices;
}

static bool same_result(const struct result *r)
{
    return str_eq(buf_str(&r->body), buf_str(&w.body)) && r->end == w.x.end &&
           r->starts == w.starts && r->splices == w.x.stream.splices;
}

/* A cut within an event is a cut in front of it. */
START_TEST(cut_at_every_byte)
{
    struct result at_event = {.starts = 0};
    struct pair p;

    pair_make_short(&p, _i / 3);
    buf_init(&at_event.body, 1 << 20);
    for (size_t cut = 0; cut < p.a.bytes.len; cut++) {
        run_cut(&p, cut, TRANSPORT_TRUNCATED, _i);
        if (stream_text_whole(&p.a, cut) == cut) {
            check_mended(&p, cut, _i);
            keep_result(&at_event);
        } else if (!same_result(&at_event)) {
            ck_abort_msg("cut %zu: %.*s", cut, (int)w.body.len, w.body.p);
        }
    }
    buf_deinit(&at_event.body);
    pair_free(&p);
}
END_TEST

/* A connection that ends in good order in the middle of a response is a break, too. */
START_TEST(a_clean_end_at_every_byte)
{
    struct pair p;

    pair_make_short(&p, _i / 3);
    for (size_t cut = 0; cut < p.a.bytes.len; cut++) {
        run_cut(&p, cut, TRANSPORT_WHOLE, _i);
        if (w.starts == 1 && w.x.end == END_ANSWERED) /* a finish_reason was all it lacked */
            ck_assert_uint_ge(cut + 1, p.a.ends[p.a.n - (_i / 3 == 2 ? 1 : 3)]);
        else
            check_mended(&p, cut, _i);
    }
    pair_free(&p);
}
END_TEST

/* The broken response and the one that mends it come in two pieces each, wherever those meet. */
START_TEST(split_at_every_byte)
{
    static struct fake_attempt script[2];
    struct result at_once = {.starts = 0};
    struct pair p;
    size_t cut;

    pair_make_short(&p, _i / 3);
    buf_init(&at_once.body, 1 << 20);
    cut = p.a.ends[p.a.n - 3] - 7;
    run_cut(&p, cut, TRANSPORT_TRUNCATED, _i);
    keep_result(&at_once);
    for (size_t at = 1; at < cut; at++) {
        size_t second = at < p.b.bytes.len ? at : p.b.bytes.len - 1;

        script[0] =
            (struct fake_attempt){.status = 200,
                                  .headers = SSE,
                                  .pieces = {{0, p.a.bytes.p, at}, {1, p.a.bytes.p + at, cut - at}},
                                  .end_ms = 1,
                                  .end = TRANSPORT_TRUNCATED,
                                  .detail = "cut"};
        script[1] =
            (struct fake_attempt){.status = 200,
                                  .headers = SSE,
                                  .pieces = {{0, p.b.bytes.p, second},
                                             {1, p.b.bytes.p + second, p.b.bytes.len - second}}};
        world_again();
        run(script, 2, dialect_of_loop(_i), mode_of_loop(_i));
        if (!same_result(&at_once))
            ck_abort_msg("split at %zu: %.*s", at, (int)w.body.len, w.body.p);
    }
    buf_deinit(&at_once.body);
    pair_free(&p);
}
END_TEST

/* --- before the first content ----------------------------------------------------------------- */

#define CREATED                                                                            \
    "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0," \
    "\"response\":{\"id\":\"resp_1\"}}\n\n"
#define IN_PROGRESS                                                                                \
    "event: response.in_progress\ndata: {\"type\":\"response.in_progress\",\"sequence_number\":1," \
    "\"response\":{\"id\":\"resp_1\"}}\n\n"
#define DELTA(n, text)                                                                   \
    "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\"," \
    "\"sequence_number\":" n ",\"output_index\":0,\"content_index\":0,\"delta\":\"" text "\"}\n\n"
#define COMPLETED(n)                                                                           \
    "event: response.completed\ndata: {\"type\":\"response.completed\",\"sequence_number\":" n \
    ",\"response\":{\"id\":\"resp_1\"}}\n\n"

START_TEST(it_commits_at_the_first_content)
{
    static const char *const interim[] = {": c\n\n" ROLE, CREATED IN_PROGRESS};
    static const char *const contents[] = {TEXT("Hello"), DELTA("2", "Hello")};
    static const char *const ends[] = {STOP DONE, COMPLETED("3")};
    static const enum dialect in[] = {DIALECT_CHAT, DIALECT_RESPONSES};
    int k = _i / 3;
    char all[2000];
    const struct fake_attempt a = {
        .status = 200,
        .headers = SSE,
        .pieces = {{10, interim[k], 0}, {10, contents[k], 0}, {10, ends[k], 0}},
        .end_ms = 10};

    world_follow(&a, 1);
    begin(in[k], mode_of_loop(_i));
    fake_run_until(&w, 20);
    ck_assert_int_eq(w.x.state, EXCHANGE_HOLDING);
    ck_assert_uint_eq(w.begins, 0);
    fake_run_until(&w, 30);
    (void)snprintf(all, sizeof(all), "%s%s", interim[k], contents[k]);
    if (mode_of_loop(_i) == HOLD) {
        ck_assert_uint_eq(w.begins, 0);
        fake_run_until(&w, 31); /* its mark says that it is whole */
        ck_assert_uint_eq(w.x.reply.first_byte_ms, 30);
    } else {
        ck_assert_int_eq(w.x.state, EXCHANGE_RELAYING);
        ck_assert(world_body_is(all));
        ck_assert_uint_eq(w.x.reply.first_byte_ms, 20);
    }
    world_finish();
    (void)snprintf(all, sizeof(all), "%s%s%s", interim[k], contents[k], ends[k]);
    answered(all, 1);
}
END_TEST

START_TEST(before_its_content_a_stream_is_made_again)
{
    static const struct {
        struct fake_attempt a;
        enum reason reason;
    } rows[] = {
#define A(text, how) \
    {.status = 200, .headers = SSE, .pieces = {{0, text, 0}}, .end_ms = 1, .end = TRANSPORT_##how}
        {A(ROLE, TRUNCATED), REASON_TRUNCATED},
        {A(ROLE "data: {\"cho", TRUNCATED), REASON_TRUNCATED},
        {A(ROLE, WHOLE), REASON_EMPTY_STREAM},
        {A(ROLE DONE, WHOLE), REASON_EMPTY_STREAM},
        {A(DONE, WHOLE), REASON_EMPTY_STREAM},
        {A(ROLE USAGE DONE, WHOLE), REASON_EMPTY_STREAM},
        {A(": c\n\n", WHOLE), REASON_EMPTY_STREAM},
        {A("data: {\"cho\n\n", WHOLE), REASON_MALFORMED},
        {A(ROLE "data: <html>\n\n" TEXT("x"), WHOLE), REASON_MALFORMED},
        {A(ROLE ERROR, WHOLE), REASON_ERROR_IN_STREAM},
        {A("error: {\"code\":500,\"message\":\"m\"}\n\n", WHOLE), REASON_SERVER_ERROR},
        {A(ERROR TEXT("x"), WHOLE), REASON_ERROR_IN_STREAM},
#undef A
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        world_again();
        chat(rows[i].a, whole(WHOLE), (enum stream_mode)_i);
        answered(WHOLE, 2);
        ck_assert_uint_eq(w.failures, 1);
        ck_assert_msg(w.reports[0].verdict.reason == rows[i].reason, "row %zu: %s", i,
                      reason_word(w.reports[0].verdict.reason));
        ck_assert_uint_eq(w.x.stream.dropped, 0);
    }
}
END_TEST

/* ... where it comes again, or its finish reason explains it. */
START_TEST(an_end_without_text_is_a_response)
{
#define LENGTH \
    "data: {\"id\":\"A\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"length\"}]}\n\n"
    chat(whole(ROLE STOP DONE), whole(ROLE STOP DONE), (enum stream_mode)_i);
    answered(ROLE STOP DONE, 2);
    world_again();
    chat(whole(ROLE LENGTH DONE), whole(WHOLE), (enum stream_mode)_i);
    answered(ROLE LENGTH DONE, 1);
}
END_TEST

/* --- events that are none --------------------------------------------------------------------- */

START_TEST(malformed_events)
{
    static const char *const bad[] = {"data: {\"cho\n\n", "data: {\"choices\":[}\n\n",
                                      "data: {\n\n", "data: {\"a\":\"\xff\"}\n\n"};

    for (size_t i = 0; i < COUNT(bad); i++) {
        char text[2000];

        world_again();
        (void)snprintf(text, sizeof(text), "%s%s", bad[i], TEXT(" you") STOP DONE);
        chat(after(ROLE TEXT("Hello"), text, TRANSPORT_WHOLE), whole(WHOLE), (enum stream_mode)_i);
        answered(WHOLE, _i == LIVE ? 1 : 2);
        ck_assert_uint_eq(w.dropped_malformed, _i == LIVE);
        ck_assert_uint_eq(w.failures, _i != LIVE);
    }
}
END_TEST

/* A committed stream waits for its rest from the break on, however long it has run by then. */
START_TEST(a_malformed_event_behind_the_deadline)
{
    struct fake_attempt a =
        after(ROLE TEXT("Hello"), "data: {\n\n" TEXT(" you") STOP DONE, TRANSPORT_WHOLE);

    a.pieces[1].after_ms = 700;
    w.settings.retry.deadline_ms = 500;
    w.settings.retry.backoff.initial_delay_ms = 10;
    chat(a, whole(WHOLE), SPLICE);
    answered(WHOLE, 2);
}
END_TEST

/* Whole is whole: nothing of it may be missing, on the last attempt neither. */
START_TEST(what_is_held_lacks_no_event)
{
    w.settings.retry.max_attempts = 2;
    chat(whole(ROLE "data: {\n\n" TEXT(" you") STOP DONE),
         whole(ROLE "data: {\n\n" TEXT(" you") STOP DONE), HOLD);
    ck_assert_int_eq(w.x.end, END_FAILED);
    ck_assert_uint_eq(w.response.status, 502);
    ck_assert_uint_eq(w.dropped_malformed, 0);
}
END_TEST

START_TEST(unfit_events_are_left_out)
{
    chat(whole("retry: 3000\n\n" ROLE "event: ping\n\n" TEXT("Hello") "id: 7\n" TEXT(" you") STOP
               ": behind an id\n\n" DONE),
         whole(WHOLE), (enum stream_mode)_i);
    answered(ROLE TEXT("Hello") "id: 7\n" TEXT(" you") STOP DONE, 1);
    ck_assert_uint_eq(w.dropped_unfit, 3);
    ck_assert_uint_eq(w.dropped_malformed, 0);
}
END_TEST

/* What a client's parser has read of the first response counts for the second one. */
START_TEST(unfit_behind_an_id_of_another_attempt)
{
    chat(after(": c\n\n" ROLE, "id: 7\n" TEXT("Hello"), TRANSPORT_TRUNCATED),
         whole(": c\n\n" WHOLE), SPLICE);
    answered(": c\n\n" ROLE "id: 7\n" TEXT("Hello") TEXT(" you") STOP DONE, 2);
    ck_assert_uint_eq(w.dropped_unfit, 1);
}
END_TEST

START_TEST(comments_pass)
{
    static const char text[] =
        ": OPENROUTER PROCESSING\n\n" ROLE ":\n\n" TEXT("Hello") "\n" STOP ": c\n\n" DONE;

    chat(whole(text), whole(WHOLE), (enum stream_mode)_i);
    answered(text, 1);
    ck_assert_uint_eq(w.x.stream.dropped, 0);
}
END_TEST

/* --- errors within a stream ------------------------------------------------------------------- */

START_TEST(an_error_after_content)
{
    chat(after(ROLE TEXT("Hello"), ERROR TEXT(" never"), TRANSPORT_WHOLE), whole(WHOLE),
         (enum stream_mode)_i);
    if (_i == LIVE) {
        ck_assert_uint_eq(w.starts, 1);
        ck_assert(world_body_is(ROLE TEXT("Hello") ERROR));
        world_told(ROLE TEXT("Hello"), "server_error", END_BROKEN);
    } else {
        answered(WHOLE, 2);
    }
    ck_assert_int_eq(w.reports[0].verdict.reason, REASON_ERROR_IN_STREAM);
}
END_TEST

/* The same request would fail again. */
START_TEST(a_verdict_after_content)
{
#define QUOTA "data: {\"error\":{\"message\":\"m\",\"code\":\"insufficient_quota\"}}\n\n"
    chat(after(ROLE TEXT("Hello"), QUOTA, TRANSPORT_WHOLE), whole(WHOLE), (enum stream_mode)_i);
    ck_assert_uint_eq(w.starts, 1);
    ck_assert(world_body_is(_i == HOLD ? QUOTA : ROLE TEXT("Hello") QUOTA));
    ck_assert_int_eq(w.x.end, _i == HOLD ? END_FAILED : END_BROKEN);
    ck_assert_int_eq(w.reports[0].verdict.reason, REASON_QUOTA);
}
END_TEST

START_TEST(the_last_error_before_content)
{
    w.settings.retry.max_attempts = 2;
    chat(whole(ROLE ERROR), whole(ROLE ERROR), (enum stream_mode)_i);
    ck_assert_uint_eq(w.starts, 2);
    ck_assert_uint_eq(w.response.status, 200);
    world_told(_i == HOLD ? "" : ROLE, "server_error", END_FAILED);
}
END_TEST

#define FAILED                                                                           \
    "event: response.failed\ndata: {\"type\":\"response.failed\",\"sequence_number\":3," \
    "\"response\":{\"id\":\"resp_1\",\"error\":{\"code\":\"c\",\"message\":\"m\"}}}\n\n"

/* An event of the API's own, which says in no way that an SDK raises that it failed. */
START_TEST(response_failed_is_told_twice)
{
    const struct fake_attempt a =
        after(CREATED IN_PROGRESS DELTA("2", "Hello"), FAILED, TRANSPORT_WHOLE);
    const char *before = _i == HOLD ? FAILED : CREATED IN_PROGRESS DELTA("2", "Hello") FAILED;
    cJSON *json;

    w.settings.retry.max_attempts = 2;
    run(&a, 1, DIALECT_RESPONSES, (enum stream_mode)_i);
    ck_assert_uint_eq(w.starts, _i == LIVE ? 1 : 2);
    world_told(before, "c", _i == HOLD ? END_FAILED : END_BROKEN);
    json = cJSON_ParseWithLength(w.body.p + strlen(before) + 19, w.body.len - strlen(before) - 19);
    ck_assert_str_eq(cJSON_GetStringValue(cJSON_GetObjectItem(json, "type")), "error");
    ck_assert_str_eq(cJSON_GetStringValue(cJSON_GetObjectItem(json, "message")), "m");
    ck_assert_int_eq((int)cJSON_GetNumberValue(cJSON_GetObjectItem(json, "sequence_number")), 4);
    cJSON_Delete(json);
}
END_TEST

#define RAISED                                                                                 \
    "event: error\ndata: {\"type\":\"error\",\"sequence_number\":3,\"error\":{\"code\":\"c\"," \
    "\"message\":\"m\",\"param\":null}}\n\n"

/* For clients that read no error event, too: their response begins and ends. */
START_TEST(a_response_that_began_ends_as_failed)
{
    static const char *const ends[] = {"", RAISED};
    const char *before = CREATED IN_PROGRESS DELTA("2", "Hello");
    const struct fake_attempt a =
        after(before, ends[_i], _i == 0 ? TRANSPORT_TRUNCATED : TRANSPORT_WHOLE);
    static const char failed[] = "event: response.failed\ndata: {\"type\":\"response.failed\","
                                 "\"sequence_number\":3,\"response\":{\"id\":\"resp_1\",";
    static const char error[] = "event: error\ndata: {\"type\":\"error\",\"sequence_number\":4,";

    run(&a, 1, DIALECT_RESPONSES, LIVE);
    world_told(before, _i == 0 ? "answer_truncated" : "c", END_BROKEN);
    ck_assert(str_starts((struct str){w.body.p + strlen(before), w.body.len - strlen(before)},
                         STR(failed)));
    ck_assert_ptr_nonnull(memmem(w.body.p, w.body.len, error, sizeof(error) - 1));
}
END_TEST

START_TEST(response_failed_is_made_again)
{
    const struct fake_attempt script[] = {
        after(CREATED IN_PROGRESS DELTA("2", "Hello"), FAILED, TRANSPORT_WHOLE),
        whole(CREATED IN_PROGRESS DELTA("2", "Hello") DELTA("3", " you") COMPLETED("4"))};

    run(script, 2, DIALECT_RESPONSES, _i == 0 ? SPLICE : HOLD);
    answered(CREATED IN_PROGRESS DELTA("2", "Hello") DELTA("3", " you") COMPLETED("4"), 2);
}
END_TEST

/* --- limits of mending ------------------------------------------------------------------------ */

START_TEST(attempts_are_counted_over_all_breaks)
{
    const struct fake_attempt a = broken(ROLE TEXT("Hello"));

    w.settings.retry.max_attempts = 3;
    run(&a, 1, DIALECT_CHAT, _i == 0 ? SPLICE : HOLD);
    ck_assert_uint_eq(w.starts, 3);
    ck_assert_str_eq(w.x.cannot_retry, "all attempts are used up");
    if (_i == 0) {
        world_told(ROLE TEXT("Hello"), "answer_truncated", END_BROKEN);
    } else { /* nothing was begun: it can still be told by a status */
        ck_assert_uint_eq(w.response.status, 502);
        ck_assert_int_eq(w.x.end, END_FAILED);
    }
}
END_TEST

START_TEST(what_may_have_been_processed_is_not_repeated)
{
    w.settings.retry.retry_ambiguous = false;
    chat(broken(ROLE TEXT("Hello")), whole(WHOLE), SPLICE);
    ck_assert_uint_eq(w.starts, 1);
    world_told(ROLE TEXT("Hello"), "answer_truncated", END_BROKEN);
}
END_TEST

START_TEST(another_response_is_not_joined)
{
    chat(broken(ROLE TEXT("Hello")), whole(ROLE TEXT("Hello") TEXT(" you")), SPLICE);
    ck_assert_uint_gt(w.starts, 2); /* that one broke, too */
    world_again();
    chat(broken(ROLE TEXT("Hello")), whole(ROLE TEXT("Hel") TEXT("p") STOP DONE), SPLICE);
    ck_assert_uint_eq(w.starts, 2);
    ck_assert_int_eq(w.x.stream.dropped, 0);
    world_told(ROLE TEXT("Hello"), "answer_differs", END_BROKEN);
    world_again();
    chat(broken(ROLE TEXT("Hello")), whole(ROLE TEXT("Hel") STOP DONE), SPLICE);
    world_told(ROLE TEXT("Hello"), "answer_differs", END_BROKEN);
}
END_TEST

/* A mark is one with spaces behind it, as the SDKs see it. */
START_TEST(an_end_too_early_is_another_response)
{
    static const char *const ends[] = {"data: [DONE]\n\n", "data: [DONE] \n\n",
                                       "data: [DONE]\r\n\r\n", "data: [DONE] ok\n\n"};
    char text[1000];

    (void)snprintf(text, sizeof(text), "%s%s", ROLE TEXT("Hel"), ends[_i]);
    chat(broken(ROLE TEXT("Hello")), whole(text), SPLICE);
    ck_assert_uint_eq(w.starts, 2);
    world_told(ROLE TEXT("Hello"), "answer_differs", END_BROKEN);
}
END_TEST

/* The second response broke before it came to the second choice, of which the client has a part. */
START_TEST(all_choices_that_the_client_has_must_end)
{
#define SECOND(text) \
    "data: {\"id\":\"A\",\"choices\":[{\"index\":1,\"delta\":{\"content\":\"" text "\"}}]}\n\n"
#define STOP_1 \
    "data: {\"id\":\"A\",\"choices\":[{\"index\":1,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
    const struct fake_attempt script[] = {
        broken(TEXT("Hello") STOP SECOND("Good")),
        stream_attempt(TEXT("Hello") STOP, _i == 0 ? TRANSPORT_TRUNCATED : TRANSPORT_WHOLE),
        whole(TEXT("Hello") STOP SECOND("Good bye") STOP_1 DONE)};

    run(script, 3, DIALECT_CHAT, SPLICE);
    answered(TEXT("Hello") STOP SECOND("Good") SECOND(" bye") STOP_1 DONE, 3);
}
END_TEST

/* They come one after the other: between them nothing but their number tells that it broke. */
START_TEST(all_choices_that_were_asked_for_must_end)
{
    static const struct {
        const char *body;
        bool whole;
    } rows[] = {
        {"{\"stream\":true,\"n\":2}", false},
        {"{\"stream\":true,\"n\":1}", true},
        {"{\"stream\":true}", true},
        {"{\"stream\":true,\"n\":null}", true},
        {"{\"n\": 3 ,\"stream\":true}", false},
        {"{\"stream\":true,\"n\":\"2\"}", true},
        {"{\"stream\":true,\"n\":0}", true},
    };
    const struct fake_attempt a = broken(ROLE TEXT("Hello") STOP);

    for (size_t i = 0; i < COUNT(rows); i++) {
        world_again();
        world_follow(&a, 1);
        fake_begin(&w, "POST", "/v1/chat/completions", NULL, rows[i].body);
        world_finish();
        if (rows[i].whole)
            answered(ROLE TEXT("Hello") STOP DONE, 1);
        else
            world_told(ROLE TEXT("Hello") STOP, "answer_truncated", END_BROKEN);
    }
}
END_TEST

START_TEST(too_much_to_be_remembered)
{
    w.limits.hold_limit = 40;
    chat(after(ROLE TEXT("Hello"), TEXT("0123456789012345678901234567890123456789"),
               TRANSPORT_TRUNCATED),
         whole(WHOLE), SPLICE);
    ck_assert_uint_eq(w.starts, 1);
    ck_assert_str_eq(w.x.cannot_retry, "the response is too large to be spliced");
    world_told(ROLE TEXT("Hello") TEXT("0123456789012345678901234567890123456789"),
               "answer_truncated", END_BROKEN);
}
END_TEST

/* A file holds what memory cannot. */
START_TEST(much_that_is_held)
{
    w.limits.hold_limit = 100;
    chat(broken(ROLE TEXT("Hello") TEXT(" you") TEXT(" all")), whole(WHOLE), HOLD);
    answered(WHOLE, 2);
}
END_TEST

START_TEST(too_much_to_be_held)
{
    w.limits.hold_limit = 200;
    w.disk.open_fails = -EACCES;
    chat(broken(ROLE TEXT("Hello") TEXT(" you") TEXT(" all")), whole(WHOLE), HOLD);
    ck_assert_uint_eq(w.starts, 1);
    ck_assert_str_eq(w.x.cannot_retry, "the response is committed");
    world_told(ROLE TEXT("Hello") TEXT(" you") TEXT(" all"), "answer_truncated", END_BROKEN);
}
END_TEST

/* A repeat that fails otherwise: told with the upstream's own error. */
START_TEST(an_error_status_while_mending)
{
    const struct fake_attempt script[] = {
        broken(ROLE TEXT("Hello")),
        {.status = 503, .headers = JSON, .pieces = {{0, "{\"error\":{\"code\":\"busy\"}}", 0}}},
        {.end = TRANSPORT_CONNECT, .detail = "refused"},
        {.status = 401, .headers = JSON, .pieces = {{0, "{\"error\":{\"code\":\"bad\"}}", 0}}}};

    run(script, 4, DIALECT_CHAT, SPLICE);
    ck_assert_uint_eq(w.starts, 4);
    world_told(ROLE TEXT("Hello"), "bad", END_BROKEN);
}
END_TEST

/* --- ends ------------------------------------------------------------------------------------- */

START_TEST(a_finish_reason_without_a_mark)
{
    static const char *const bodies[] = {
        "{\"stream\":true}", "{\"stream\":true,\"stream_options\":{\"include_usage\":true}}"};
    static const struct {
        const char *text;
        enum transport end;
        bool usage_wanted;
        const char *answer; /* NULL: it is not whole */
    } rows[] = {
        {ROLE TEXT("Hi") STOP, TRANSPORT_WHOLE, false, ROLE TEXT("Hi") STOP},
        {ROLE TEXT("Hi") STOP, TRANSPORT_WHOLE, true, ROLE TEXT("Hi") STOP},
        {ROLE TEXT("Hi") STOP, TRANSPORT_TRUNCATED, false, ROLE TEXT("Hi") STOP DONE},
        {ROLE TEXT("Hi") STOP "data", TRANSPORT_WHOLE, false, ROLE TEXT("Hi") STOP DONE},
        {ROLE TEXT("Hi") STOP, TRANSPORT_TRUNCATED, true, NULL},
        {ROLE TEXT("Hi") STOP USAGE, TRANSPORT_TRUNCATED, true, ROLE TEXT("Hi") STOP USAGE DONE},
        {ROLE TEXT("Hi") STOP USAGE DONE, TRANSPORT_TRUNCATED, true,
         ROLE TEXT("Hi") STOP USAGE DONE},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        const struct fake_attempt script[] = {stream_attempt(rows[i].text, rows[i].end),
                                              whole(ROLE TEXT("Hi") STOP USAGE DONE)};
        world_again();
        world_follow(script, 2);
        w.settings.stream.mode = (enum stream_mode)_i;
        fake_begin(&w, "POST", "/v1/chat/completions", NULL, bodies[rows[i].usage_wanted]);
        world_finish();
        if (rows[i].answer)
            answered(rows[i].answer, 1);
        else if (_i == LIVE)
            answered(ROLE TEXT("Hi") STOP DONE, 1); /* all but what is for its accounts */
        else
            answered(ROLE TEXT("Hi") STOP USAGE DONE, 2);
        ck_assert_int_eq(w.x.stream.lacks_usage, _i == LIVE && !rows[i].answer);
    }
}
END_TEST

/* Asked for once more, whatever that brings: what was whole is delivered. */
START_TEST(the_usage_comes_to_nothing)
{
    const struct fake_attempt others[] = {
        {.status = 503, .headers = JSON, .pieces = {{0, "{}", 0}}},
        {.status = 400, .headers = JSON, .pieces = {{0, "{}", 0}}},
        {.end_ms = 5, .end = TRANSPORT_LOST},
        stream_attempt(ROLE TEXT("Hi") STOP, TRANSPORT_TRUNCATED),
        stream_attempt(ROLE, TRANSPORT_TRUNCATED),
        {.hangs = true},
    };

    for (size_t i = 0; i < 2 * COUNT(others); i++) {
        const struct fake_attempt script[] = {
            stream_attempt(ROLE TEXT("Hi") STOP, TRANSPORT_TRUNCATED), others[i / 2]};
        bool ends = i % 2; /* retryd does, while it waits for the other response */

        world_again();
        world_follow(script, 2);
        w.settings.stream.mode = (enum stream_mode)_i;
        w.settings.timeout.first_byte_ms = 5000;
        w.settings.retry.backoff.initial_delay_ms = 1000;
        fake_begin(&w, "POST", "/v1/chat/completions", NULL,
                   "{\"stream\":true,\"stream_options\":{\"include_usage\":true}}");
        if (ends) {
            fake_run_until(&w, 100);
            ck_assert_int_ne(w.x.state, EXCHANGE_DONE);
            exchange_abort(&w.x);
            w.dirty = true;
        }
        world_finish();
        world_answered(ROLE TEXT("Hi") STOP DONE);
        ck_assert_uint_eq(w.starts, 2 - ends);
        ck_assert(w.got_end || w.wholes == 1);
        ck_assert(w.x.stream.lacks_usage);
        ck_assert_int_eq(w.x.end, END_ANSWERED);
    }
}
END_TEST

#define OPEN(delta, reason)                                              \
    "data: {\"id\":\"A\",\"choices\":[{\"index\":0,\"delta\":" delta "," \
    "\"finish_reason\":" reason "}]}\n\n"
#define OPEN_ANSWER(reason)                                   \
    OPEN("{\"role\":\"assistant\",\"content\":\"\"}", reason) \
    OPEN("{\"content\":\"Hello\"}", reason)

/* Several servers send it in every chunk: as good as null. */
START_TEST(a_finish_reason_that_says_nothing)
{
    static const struct {
        const char *head, *open; /* what announces; what the cut comes behind */
    } rows[] = {
#define ROW(reason) {OPEN("{\"role\":\"assistant\",\"content\":\"\"}", reason), OPEN_ANSWER(reason)}
        ROW("\"\""), ROW("\"null\""), ROW("\"None\""), ROW("null")};

    for (size_t i = 0; i < 2 * COUNT(rows); i++) {
        enum transport end = i % 2 ? TRANSPORT_WHOLE : TRANSPORT_TRUNCATED;
        const char *head = rows[i / 2].head, *open = rows[i / 2].open;
        char all[2000];

        (void)snprintf(all, sizeof(all), "%s" TEXT(" you") STOP DONE, open);
        world_again(); /* a role is no content */
        chat(stream_attempt(head, end), whole(all), (enum stream_mode)_i);
        answered(all, 2);
        world_again();
        chat(stream_attempt(open, end), whole(all), (enum stream_mode)_i);
        if (_i == LIVE)
            world_told(open, "answer_truncated", END_BROKEN);
        else
            answered(all, 2);
    }
}
END_TEST

/* It could not see a break: it gets the response whole, with its length. */
START_TEST(http_1_0)
{
    const struct fake_attempt script[] = {broken(ROLE TEXT("Hello")), whole(ROLE DONE),
                                          whole(WHOLE)};

    world_follow(script, 3);
    begin(DIALECT_CHAT, (enum stream_mode)_i);
    w.x.request.http.http_1_0 = true;
    world_finish();
    ck_assert_uint_eq(w.wholes, 1);
    ck_assert_uint_eq(w.begins, 0);
    ck_assert_uint_eq(w.starts, 3);
    ck_assert_uint_eq(w.response.content_length, strlen(WHOLE));
    ck_assert(world_body_is(WHOLE));
    ck_assert_int_eq(w.x.end, END_ANSWERED);
}
END_TEST

START_TEST(http_1_0_never_whole)
{
    const struct fake_attempt a = broken(ROLE TEXT("Hello"));

    world_follow(&a, 1);
    begin(DIALECT_CHAT, LIVE);
    w.x.request.http.http_1_0 = true;
    world_finish();
    ck_assert_uint_eq(w.wholes, 1);
    ck_assert_uint_eq(w.starts, 5);
    ck_assert_uint_eq(w.response.status, 502);
    ck_assert_int_eq(w.x.end, END_FAILED);
}
END_TEST

/* --- clients ---------------------------------------------------------------------------------- */

/* Events that wait for the client when its stream breaks are not lost, whatever follows. */
START_TEST(a_slow_client)
{
    static const uint64_t every[] = {1, 40, 3000};
    struct pair p;
    size_t cut;

    pair_make(&p, script_whole, dialect_of_loop(_i));
    cut = p.a.ends[p.a.n / 2] + 5;
    for (size_t k = 0; k < COUNT(every); k++) {
        struct fake_attempt script[2] = {
            {.status = 200,
             .headers = SSE,
             .pieces = {{0, p.a.bytes.p, cut}},
             .end_ms = 1,
             .end = TRANSPORT_TRUNCATED},
            {.status = 200,
             .headers = SSE,
             .pieces = {{0, p.b.bytes.p, 700}, {1, p.b.bytes.p + 700, p.b.bytes.len - 700}}}};

        world_again();
        w.client = (struct fake_client){.pull_max = 100, .every_ms = every[k]};
        run(script, 2, dialect_of_loop(_i), mode_of_loop(_i));
        check_mended(&p, cut, _i);
    }
    pair_free(&p);
}
END_TEST

/* In each state, with or without a part of the response: nothing is left running. */
START_TEST(a_client_that_leaves_while_it_is_mended)
{
    static const struct fake_attempt script[] = {
        {.status = 200,
         .headers_ms = 3,
         .headers = SSE,
         .pieces = {{3, ROLE, 0}, {3, TEXT("Hello"), 0}},
         .end_ms = 3,
         .end = TRANSPORT_TRUNCATED},
        {.status = 200,
         .headers_ms = 3,
         .headers = SSE,
         .pieces = {{3, ROLE, 0}, {3, TEXT("Hello"), 0}, {3, TEXT(" you"), 0}},
         .end_ms = 3,
         .hangs = true}};
    unsigned seen = 0;

    w.settings.retry.backoff.initial_delay_ms = 5;
    for (uint64_t at = 1; at < 40; at++) {
        world_again();
        w.settings.retry.backoff.initial_delay_ms = 5;
        w.client.leaves_at = at;
        world_follow(script, 2);
        begin(DIALECT_CHAT, SPLICE);
        fake_run_until(&w, at);
        seen |= w.starts == 2 || w.x.state == EXCHANGE_BACKOFF ? 1u << w.x.state : 0;
        world_finish();
        ck_assert_int_eq(w.x.end, END_CLIENT_GONE);
        ck_assert_uint_eq(w.now_ms, at);
    }
    ck_assert_uint_eq(seen, 1u << EXCHANGE_BACKOFF | 1u << EXCHANGE_ATTEMPTING |
                                1u << EXCHANGE_HOLDING | 1u << EXCHANGE_RELAYING);
}
END_TEST

/* --- all of them ------------------------------------------------------------------------------ */

void unit_tests(Suite *suite)
{
    TCase *c = unit_case(suite, "all");

    tcase_add_checked_fixture(c, world_set_up, world_tear_down);
    tcase_add_loop_test(c, cut_after_each_event, 0, 9);
    tcase_add_loop_test(c, cut_at_every_byte, 0, 9);
    tcase_add_loop_test(c, a_clean_end_at_every_byte, 0, 9);
    tcase_add_loop_test(c, split_at_every_byte, 0, 9);
    tcase_add_loop_test(c, a_slow_client, 0, 9);
    tcase_add_test(c, a_client_that_leaves_while_it_is_mended);
    tcase_add_loop_test(c, it_commits_at_the_first_content, 0, 6);
    tcase_add_loop_test(c, before_its_content_a_stream_is_made_again, 0, 3);
    tcase_add_loop_test(c, an_end_without_text_is_a_response, 0, 3);
    tcase_add_loop_test(c, malformed_events, 0, 3);
    tcase_add_loop_test(c, unfit_events_are_left_out, 0, 3);
    tcase_add_test(c, unfit_behind_an_id_of_another_attempt);
    tcase_add_loop_test(c, comments_pass, 0, 3);
    tcase_add_loop_test(c, an_error_after_content, 0, 3);
    tcase_add_loop_test(c, a_verdict_after_content, 0, 3);
    tcase_add_loop_test(c, the_last_error_before_content, 0, 3);
    tcase_add_loop_test(c, response_failed_is_told_twice, 0, 3);
    tcase_add_loop_test(c, a_response_that_began_ends_as_failed, 0, 2);
    tcase_add_loop_test(c, response_failed_is_made_again, 0, 2);
    tcase_add_loop_test(c, attempts_are_counted_over_all_breaks, 0, 2);
    tcase_add_test(c, what_may_have_been_processed_is_not_repeated);
    tcase_add_test(c, another_response_is_not_joined);
    tcase_add_loop_test(c, an_end_too_early_is_another_response, 0, 4);
    tcase_add_loop_test(c, all_choices_that_the_client_has_must_end, 0, 2);
    tcase_add_test(c, all_choices_that_were_asked_for_must_end);
    tcase_add_test(c, too_much_to_be_remembered);
    tcase_add_test(c, much_that_is_held);
    tcase_add_test(c, too_much_to_be_held);
    tcase_add_test(c, a_malformed_event_behind_the_deadline);
    tcase_add_test(c, what_is_held_lacks_no_event);
    tcase_add_test(c, an_error_status_while_mending);
    tcase_add_loop_test(c, a_finish_reason_without_a_mark, 0, 3);
    tcase_add_loop_test(c, the_usage_comes_to_nothing, SPLICE, HOLD + 1);
    tcase_add_loop_test(c, a_finish_reason_that_says_nothing, 0, 3);
    tcase_add_loop_test(c, http_1_0, 0, 3);
    tcase_add_test(c, http_1_0_never_whole);
}
