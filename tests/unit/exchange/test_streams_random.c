/* Streams in all modes whose breaks, pieces, repeats and clients are drawn at random.
 *
 *     test_streams_random [SEED [STEPS]]
 *
 * All responses say the same, cut into events, spelled and named in many ways; now and then one
 * says something else. What is given as whole must be one of the two, whole; all else must end in
 * one error. The seed is printed, and so is the number of an exchange that breaks an invariant. */

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "draw.h"
#include "endings.h"
#include "stream_text.h"
#include "unit.h"

#define SCRIPT 6
#define VARIANTS 12
#define ODD 10 /* from this one on they say something else */

static uint64_t seed = 20260801, steps_wanted = 200000;

static const struct script said = {
    .name = "A",
    .reasoning = "hm",
    .content = "Hi \"you\" \\ \xf0\x9f\x98\x80 \xe2\x82\xac!",
    .refusal = "",
    .second = "two \xf0\x9f\x98\x80",
    .arguments = {"{\"a\":\"x\"}", ""},
};

static const enum dialect dialects[] = {DIALECT_CHAT, DIALECT_COMPLETIONS, DIALECT_RESPONSES};
static struct stream_text texts[COUNT(dialects)][VARIANTS];
static char *wholes[COUNT(dialects)][2]; /* what they come to */

static struct fake_world w;
static struct fake_attempt script[SCRIPT];
static struct buf drawn[SCRIPT]; /* what each attempt sends */

static uint64_t number, total_steps, ends[END_CLIENT_GONE + 1], spliced, resumed, begun;
static uint64_t heartbeats, hedged;
static unsigned states;
static int dialect;
static bool background;

#define SHOWN_MAX 3000 /* check allows no longer message than 4 KiB */

static void broken(const char *what, int line)
{
    size_t shown = w.body.len < SHOWN_MAX ? w.body.len : SHOWN_MAX;

    ck_abort_msg(
        "line %d: %s %s (seed %llu, exchange %llu, at %llu ms, mode %d, dialect %d):\n%.*s", line,
        what, w.wrong ? w.wrong : "", (unsigned long long)seed, (unsigned long long)number,
        (unsigned long long)w.now_ms, (int)w.x.stream.mode, dialect, (int)shown,
        shown ? w.body.p : "");
}

static uint64_t some_ms(void)
{
    static const uint64_t most[] = {1, 1, 1, 10, 100, 1000, 5000};

    return below(most[below(COUNT(most))]);
}

/* --- what was said ---------------------------------------------------------------------------- */

/* Names and ends differ between whole responses: a break may cost the last marks. */
static char *comparable(char *text)
{
    static const char *const names[] = {"chatcmpl-", "\"m-", "fp_", "resp_", "created = 17"};
    char *to = text;

    for (size_t i = 0; i < COUNT(names); i++)
        for (char *p = strstr(text, names[i]); p; p = strstr(p + 1, names[i]))
            p[strlen(names[i])] = '*';
    for (char *line = text; *line;) {
        size_t n = strcspn(line, "\n") + 1;
        if (strncmp(line, "usage", 5) != 0 && strncmp(line, "[DONE]", 6) != 0) {
            memmove(to, line, n);
            to += n;
        }
        line += n;
    }
    *to = '\0';
    return text;
}

static void write_texts(void)
{
    static const size_t chunks[] = {1, 2, 3, 5, 0};
    static const char *const names[] = {"A", "B", "C", "D"};

    for (size_t d = 0; d < COUNT(dialects); d++) {
        for (size_t v = 0; v < VARIANTS; v++) {
            struct script s = said;
            struct stream_told t;

            s.dialect = dialects[d];
            s.chunk = chunks[v % 5];
            s.spelling = v / 5 == 1;
            s.name = names[v % 4];
            if (v >= ODD)
                s.content = "Hi \"they\"!";
            stream_text_write(&texts[d][v], &s);
            stream_read(buf_str(&texts[d][v].bytes), &t);
            if (v == 0 || v == ODD)
                wholes[d][v == ODD] = comparable(t.answer);
            else
                ck_assert_str_eq(comparable(t.answer), wholes[d][v > ODD]);
            if (v != 0 && v != ODD)
                free(t.answer);
        }
    }
}

static void free_texts(void)
{
    for (size_t d = 0; d < COUNT(dialects); d++) {
        for (size_t v = 0; v < VARIANTS; v++)
            stream_text_free(&texts[d][v]);
        free(wholes[d][0]);
        free(wholes[d][1]);
    }
    for (size_t i = 0; i < SCRIPT; i++)
        buf_deinit(&drawn[i]);
}

/* --- drawing ---------------------------------------------------------------------------------- */

static void draw_pieces(struct fake_attempt *a, struct str text)
{
    for (unsigned i = 0; i < FAKE_PIECES && text.n > 0; i++) {
        size_t n = i + 1 == FAKE_PIECES || one_in(8) ? text.n : 1 + below((text.n + 3) / 4);

        a->pieces[i] = (struct fake_piece){some_ms(), text.p, n};
        text = (struct str){text.p + n, text.n - n};
    }
}

static void draw_failure(struct fake_attempt *a)
{
    static const enum transport ways[] = {TRANSPORT_DNS, TRANSPORT_LOST, TRANSPORT_STALE,
                                          TRANSPORT_LOST_UPLOAD};

    a->end_ms = some_ms();
    a->end = ways[below(COUNT(ways))];
    a->hangs = one_in(6);
    a->start_fails = one_in(30) ? -ENOMEM : 0;
}

static void draw_error(struct fake_attempt *a)
{
    static const unsigned errors[] = {429, 429, 500, 502, 503, 400, 401, 200};

    a->status = errors[below(COUNT(errors))];
    a->headers = JSON;
    a->pieces[0] = (struct fake_piece){some_ms(), "{\"error\":{\"code\":\"c\"}}", 0};
    a->end_ms = some_ms();
}

/* Events that do not belong there. `damage`: of the kind that ends an attempt. */
static void draw_extra(struct buf *to, bool *damage)
{
    static const char *const extra[] = {
        ": c\n\n",
        "\n",
        ":\n\n",
        "retry: 5\n\n",
        "event: ping\n\n",
        "data: {\"cho\n\n",
        "data: {\"error\":{\"message\":\"m\",\"code\":\"c\"}}\n\n",
        "event: error\ndata: {\"code\":\"c\",\"message\":\"m\"}\n\n",
        "error: {\"message\":\"m\"}\n\n"};
    size_t which = *damage ? below(COUNT(extra)) : below(5);

    *damage = false; /* one is enough */
    (void)buf_add_str(to, str_from(extra[which]));
}

/* A whole response, or one that breaks at any byte, with things in between. */
static void draw_stream(struct fake_attempt *a, struct buf *to, const struct stream_text *t)
{
    bool damage = one_in(4), extras = one_in(3), whole = one_in(3);
    size_t start = 0, cut = whole ? t->bytes.len : below(t->bytes.len + 1);

    buf_reset(to, SIZE_MAX);
    for (size_t i = 0; i < t->n && start < cut; i++) {
        size_t end = t->ends[i] < cut ? t->ends[i] : cut;

        if ((extras && one_in(8)) || (damage && one_in(20)))
            draw_extra(to, &damage);
        (void)buf_add(to, t->bytes.p + start, end - start);
        start = end;
    }
    a->status = 200;
    a->headers = SSE;
    a->end_ms = some_ms();
    if (!whole && one_in(8))
        a->hangs = true;
    else if (whole ? one_in(6) : !one_in(4))
        a->end = TRANSPORT_TRUNCATED;
    draw_pieces(a, buf_str(to));
}

static void draw_script(void)
{
    size_t first = below(ODD);

    memset(script, 0, sizeof(script));
    for (unsigned i = 0; i < SCRIPT; i++) {
        struct fake_attempt *a = &script[i];
        uint64_t kind = below(12);
        size_t variant = background ? first : one_in(10) ? ODD + below(2) : below(ODD);

        a->headers_ms = some_ms();
        a->at_once = one_in(10);
        if (kind == 0)
            draw_failure(a);
        else if (kind == 1)
            draw_error(a);
        else
            draw_stream(a, &drawn[i], &texts[dialect][variant]);
    }
}

static void draw_world(void)
{
    w.script = script;
    w.script_len = SCRIPT;
    w.random = draw() | 1;
    w.settings.retry.max_attempts = 1 + (unsigned)below(8);
    w.settings.retry.deadline_ms = maybe(30000);
    w.settings.retry.retry_ambiguous = !one_in(6);
    w.settings.retry.backoff.initial_delay_ms = below(300);
    w.settings.timeout = (struct timeout_settings){.first_byte_ms = 1 + below(10000),
                                                   .first_content_ms = 1 + below(10000),
                                                   .idle_ms = 1 + below(10000),
                                                   .total_ms = one_in(4) ? 1 + below(20000) : 0};
    w.settings.hedge =
        (struct hedge_settings){.after_ms = one_in(4) ? 1 + some_ms() : 0, .requests = HEDGE_ALL};
    w.settings.stream.mode = (enum stream_mode)below(3);
    w.settings.stream.heartbeat_ms = one_in(3) ? 1 + below(2000) : 0;
    w.settings.stream.mend_timeout_ms = one_in(2) ? 1 + below(10000) : 0;
    w.limits.hold_limit = one_in(5) ? 50 + below(4000) : 1 << 20;
    w.timer_lazy = one_in(2);
    w.timer_late_ms = one_in(4) ? below(300) : 0;
    w.step_at_random = one_in(2);
    w.request_ms = one_in(8) ? some_ms() : 0;
    w.begin_fails = one_in(100) ? -ENOMEM : 0;
    w.client = (struct fake_client){.pull_max = one_in(2) ? 0 : 1 + below(900),
                                    .every_ms = one_in(3) ? below(50) : 0,
                                    .leaves_at = one_in(10) ? 1 + some_ms() : 0,
                                    .leaves_with_the_end = one_in(2)};
}

/* --- what must hold --------------------------------------------------------------------------- */

/* Each line of `part` begins one of `whole`. */
static bool is_part(const char *part, const char *whole)
{
    for (const char *line = part; *line; line += strcspn(line, "\n") + 1) {
        size_t n = strcspn(line, "\n");
        const char *at = whole;

        while (*at && strncmp(at, line, n) != 0)
            at += strcspn(at, "\n") + 1;
        if (!*at)
            return false;
    }
    return true;
}

static void check_text(const struct stream_told *t)
{
    const char *said_first = wholes[dialect][0], *said_else = wholes[dialect][1];

    if (w.x.end == END_ANSWERED) {
        MUST(t->errors == 0);
        MUST(strcmp(t->answer, said_first) == 0 || strcmp(t->answer, said_else) == 0);
    } else {
        MUST(is_part(t->answer, said_first) || is_part(t->answer, said_else));
    }
}

/* The client took the stream to its end. */
static void check_stream(void)
{
    struct stream_told t;

    stream_read(buf_str(&w.body), &t);
    comparable(t.answer);
    MUST(t.rest == 0);
    MUST(w.x.end == END_ANSWERED || (t.errors >= 1 && t.error_last));
    MUST(t.errors <= 1 && t.failed <= t.errors);
    MUST(t.beats == 0 || w.settings.stream.heartbeat_ms > 0);
    MUST(outbox_waiting(&w.x.reply.out) == 0 && outbox_held(&w.x.reply.out) == 0);
    check_text(&t);
    heartbeats += t.beats;
    free(t.answer);
}

static void check_attempts(void)
{
    const struct exchange *x = &w.x;

    MUST(x->attempts <= w.settings.retry.max_attempts);
    MUST(w.failures <= x->attempts);
    MUST(x->duplicates <= w.failures + w.hedges);
    for (unsigned i = 1; i < w.starts && !w.hedges; i++)
        MUST(w.start[i].at_ms >= w.start[i - 1].gone_ms);
    for (unsigned i = 0; i < w.failures; i++)
        MUST(w.reports[i].decision.action == RETRY_AGAIN || i + 1 == w.failures || w.hedges);
    for (unsigned i = 0; i < w.starts; i++)
        MUST(w.start[i].gone_ms <= w.now_ms);
}

static void check_end(void)
{
    const struct exchange *x = &w.x;

    MUST(!w.wrong);
    MUST(!w.stuck);
    MUST(x->state == EXCHANGE_DONE && w.ended == 1);
    MUST(w.wholes + w.begins + (w.begins ? 0 : w.cuts) == (x->end != END_CLIENT_GONE) ||
         x->end == END_CLIENT_GONE);
    MUST(x->reply.bytes_out == w.body.len);
    MUST(x->stream.splices == 0 || x->stream.mode == STREAM_SPLICE || background);
    check_attempts();
    if (w.begins && w.got_end)
        check_stream();
    else if (w.wholes)
        MUST(x->end == END_FAILED || w.response.status < 400);
    if (w.wholes && x->end == END_ANSWERED)
        check_stream();
}

/* retryd ends: whatever is under way ends with it, and in a stream that has begun it says so. */
static void abort_it(void)
{
    uint64_t at_ms = w.now_ms;

    exchange_abort(&w.x);
    w.dirty = true;
    fake_run(&w);
    MUST(!w.wrong);
    MUST(!w.stuck);
    MUST(w.x.state == EXCHANGE_DONE && w.ended == 1);
    for (unsigned i = 0; i < w.starts; i++)
        MUST(w.start[i].gone_ms <= at_ms);
    if (w.begins && w.got_end)
        check_stream();
}

/* With news in any order the exchange ends once, and a response that the client took to its end is
 * complete, or says that it is not. */
static void end_it(void)
{
    unsigned answers;

    fake_run(&w);
    answers = w.wholes + w.begins;
    MUST(!w.wrong);
    MUST(!w.stuck);
    MUST(w.x.state == EXCHANGE_DONE && w.ended == 1);
    MUST(answers <= 1);
    MUST(answers == 1 || w.cuts == 1 || w.x.end == END_CLIENT_GONE || w.x.refused);
    MUST(w.x.reply.bytes_out == w.body.len);
    check_attempts();
    if (w.begins && w.got_end)
        check_stream();
}

static void one_exchange(void)
{
    static const char *const bodies[] = {
        "{\"stream\":true,\"stream_options\":{\"include_usage\":true}}",
        "{\"stream\":true,\"background\":true}"};

    draw_begin(seed, number);
    dialect = (int)below(COUNT(dialects));
    background = dialect == 2 && one_in(3);
    draw_script();
    fake_init(&w);
    draw_world();
    if (one_in(4))
        endings_draw(&w);
    fake_begin(&w, "POST", stream_path(dialects[dialect]), NULL, bodies[background]);
    w.x.request.http.http_1_0 = one_in(10);
    if (one_in(32)) {
        fake_run_until(&w, some_ms()); /* thrown away in the middle */
    } else if (one_in(8)) {
        fake_run_until(&w, some_ms());
        if (w.x.state != EXCHANGE_DONE)
            abort_it();
    } else if (w.before_step) {
        end_it();
    } else {
        fake_run(&w);
        check_end();
        ends[w.x.end]++;
    }
    total_steps += w.steps;
    spliced += w.x.stream.splices;
    resumed += w.x.stream.resuming;
    begun += w.begins;
    hedged += w.hedges;
    states |= w.states;
    fake_deinit(&w);
    MUST(!w.wrong);
}

START_TEST(many_steps)
{
    write_texts();
    for (size_t i = 0; i < SCRIPT; i++)
        buf_init(&drawn[i], 1 << 20);
    for (; total_steps < steps_wanted; number++)
        one_exchange();
    printf("seed %llu: %llu steps, %llu exchanges, %llu streamed, %llu spliced, %llu read on, "
           "%llu hedged, %llu heartbeats;",
           (unsigned long long)seed, (unsigned long long)total_steps, (unsigned long long)number,
           (unsigned long long)begun, (unsigned long long)spliced, (unsigned long long)resumed,
           (unsigned long long)hedged, (unsigned long long)heartbeats);
    for (int e = END_ANSWERED; e <= END_CLIENT_GONE; e++) {
        printf(" %s %llu", exchange_end_word((enum exchange_end)e), (unsigned long long)ends[e]);
        ck_assert(ends[e] > 0 || e == END_REFUSED);
    }
    printf("\n");
    (void)fflush(stdout);
    ck_assert(endings_each_pair_came());
    ck_assert(spliced > 0 && resumed > 0 && hedged > 0 && heartbeats > 0);
    ck_assert_uint_eq(states | 1u << EXCHANGE_QUEUED, (1u << (EXCHANGE_DONE + 1)) - 1);
    free_texts();
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *c = unit_case(suite, "steps");

    seed = unit_argument(1, seed);
    steps_wanted = unit_argument(2, steps_wanted);
    tcase_set_timeout(c, 600);
    tcase_add_test(c, many_steps);
}
