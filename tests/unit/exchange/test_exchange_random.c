/* A million steps of exchanges whose upstreams, clients and times are drawn at random.
 *
 *     test_exchange_random [SEED [STEPS]]
 *
 * The seed is printed, and so is the number of an exchange that breaks an invariant; each exchange
 * is drawn from both alone. */

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "draw.h"
#include "endings.h"
#include "fake_world.h"
#include "unit.h"

#define OWN_EVENT "data: {\"error\":{\"message\":\"retryd: "
#define EVENT_BODY "{\"error\":{\"message\":\"m\"}}" /* an upstream's event, as its last word */
#define OWN_BODY "{\"error\":{\"message\":\"retryd: "
#define SCRIPT 6
#define TEXT 4096
#define HUGE_TEXT ((size_t)700 * 1024)

static uint64_t seed = 20260801, steps_wanted = 1000000;

static struct fake_world w;
static struct fake_attempt script[SCRIPT];
static char texts[SCRIPT][TEXT];
static size_t lengths[SCRIPT];
static char huge[HUGE_TEXT];

static uint64_t number; /* of the exchange */
static uint64_t total_steps, ends[END_CLIENT_GONE + 1], attempts, begun, whole, hedged,
    most_attempts;
static unsigned states;

static void broken(const char *what, int line)
{
    ck_abort_msg("line %d: %s (seed %llu, exchange %llu, at %llu ms)", line, what,
                 (unsigned long long)seed, (unsigned long long)number,
                 (unsigned long long)w.now_ms);
}

/* Mostly short, sometimes long, often nothing. */
static uint64_t some_ms(void)
{
    static const uint64_t most[] = {1, 1, 10, 100, 1000, 10000};

    return below(most[below(COUNT(most))]);
}

/* --- drawing ---------------------------------------------------------------------------------- */

/* `text` in up to FAKE_PIECES pieces. */
static void draw_pieces(struct fake_attempt *a, const char *text, size_t n)
{
    size_t at = 0;

    for (unsigned i = 0; i < FAKE_PIECES && at < n; i++) {
        size_t piece = i + 1 == FAKE_PIECES || one_in(16) ? n - at : 1 + below((n - at + 3) / 4);

        a->pieces[i] = (struct fake_piece){some_ms(), text + at, piece};
        at += piece;
    }
}

static void draw_end(struct fake_attempt *a)
{
    static const enum transport ways[] = {TRANSPORT_TRUNCATED, TRANSPORT_TRUNCATED,
                                          TRANSPORT_INTERNAL};

    a->end_ms = some_ms();
    if (one_in(4))
        a->end = ways[below(COUNT(ways))];
    else if (one_in(6))
        a->hangs = true;
}

static void draw_failure(struct fake_attempt *a)
{
    static const enum transport ways[] = {
        TRANSPORT_DNS,   TRANSPORT_CONNECT,     TRANSPORT_TLS,   TRANSPORT_CERTIFICATE,
        TRANSPORT_PROXY, TRANSPORT_LOST_UPLOAD, TRANSPORT_LOST,  TRANSPORT_CONNECT_TIMEOUT,
        TRANSPORT_STALE, TRANSPORT_STALE,       TRANSPORT_STALE, TRANSPORT_BAD_RESPONSE};

    a->end_ms = some_ms();
    a->end = ways[below(COUNT(ways))];
    a->detail = one_in(2) ? "it failed" : NULL;
    a->hangs = one_in(6);
    a->upload_stuck = one_in(3);
    if (one_in(40))
        a->start_fails = -ENOMEM;
}

static void draw_error(struct fake_attempt *a, unsigned i)
{
    static const unsigned errors[] = {400, 401, 408, 409, 425, 429, 429, 429, 429,
                                      500, 500, 501, 502, 503, 503, 504, 529};
    static const char *const headers[] = {
        JSON,
        JSON,
        "",
        JSON "retry-after: 2\n",
        JSON "retry-after-ms: 300\n",
        JSON "retry-after: 9999\n",
        JSON "x-should-retry: true\n",
        JSON "x-should-retry: false\n",
        JSON "x-ratelimit-remaining-requests: 0\nx-ratelimit-reset-requests: 3s\n"};
    static const char *const codes[] = {"x", "insufficient_quota", "server_is_overloaded"};

    a->status = one_in(6) ? 200 : errors[below(COUNT(errors))];
    a->headers = headers[a->status == 200 ? 0 : below(COUNT(headers))];
    lengths[i] =
        (size_t)snprintf(texts[i], TEXT, "{\"error\":{\"message\":\"%u\",\"code\":\"%s\"}}", i,
                         codes[below(8) < 6 ? 0 : 1 + below(2)]);
    draw_pieces(a, texts[i], lengths[i]);
    draw_end(a);
}

static void draw_answer(struct fake_attempt *a, unsigned i)
{
    a->status = one_in(8) ? 302 : 200;
    a->headers = JSON;
    lengths[i] = 2 + below(one_in(4) ? TEXT - 2 : 100);
    memset(texts[i], 'a' + (int)i, lengths[i]);
    draw_pieces(a, texts[i], lengths[i]);
    draw_end(a);
}

static void draw_stream(struct fake_attempt *a, unsigned i)
{
    static const char *const events[] = {"data: {\"e\":1}\n\n", ": comment\n\n", "data: 2\n\n",
                                         "event: x\ndata: 33\ndata: 3\n\n"};
    struct buf text;

    buf_init(&text, TEXT);
    if (one_in(10))
        buf_add_str(&text, STR("data: " EVENT_BODY "\n\n"));
    for (uint64_t n = below(one_in(8) ? 60 : 6); n > 0; n--)
        buf_add_str(&text, str_from(events[below(COUNT(events))]));
    if (one_in(8))
        buf_add_str(&text, STR("data: half"));
    else if (one_in(8))
        buf_add_str(&text, STR("data: last\n"));
    memcpy(texts[i], text.p ? text.p : "", text.len);
    lengths[i] = text.len;
    buf_deinit(&text);
    a->status = 200;
    a->headers = SSE;
    draw_pieces(a, texts[i], lengths[i]);
    draw_end(a);
}

static void draw_huge(struct fake_attempt *a, unsigned i)
{
    a->status = 200;
    a->headers = one_in(2) ? SSE : JSON;
    lengths[i] = HUGE_TEXT - below(HUGE_TEXT / 2);
    draw_pieces(a, huge, lengths[i]);
    draw_end(a);
}

static const char *text_of(unsigned i)
{
    return script[i].pieces[0].text && script[i].pieces[0].text >= huge &&
                   script[i].pieces[0].text < huge + HUGE_TEXT
               ? huge
               : texts[i];
}

static void draw_script(bool with_huge)
{
    memset(script, 0, sizeof(script));
    for (unsigned i = 0; i < SCRIPT; i++) {
        struct fake_attempt *a = &script[i];
        uint64_t kind = below(10);

        lengths[i] = 0;
        a->headers_ms = some_ms();
        a->at_once = one_in(10);
        if (with_huge && i == SCRIPT / 2)
            draw_huge(a, i);
        else if (kind < 3)
            draw_failure(a);
        else if (kind < 6)
            draw_error(a, i);
        else if (kind < 8)
            draw_stream(a, i);
        else
            draw_answer(a, i);
    }
}

static unsigned drawn;

static void draw_world(bool with_huge)
{
    struct retry_settings *r = &w.settings.retry;

    w.script = script;
    w.script_len = SCRIPT;
    w.random = draw() | 1;
    r->max_attempts = 1 + (unsigned)below(8);
    r->deadline_ms = maybe(20000);
    r->retry_ambiguous = !one_in(4);
    r->retry_on = one_in(4) ? (unsigned)below(RETRY_ON_ALL + 1) : RETRY_ON_ALL;
    r->backoff.jitter = (enum jitter)below(3);
    r->backoff.initial_delay_ms = one_in(4) ? 0 : 1 + below(1000);
    r->max_hint_ms = one_in(2) ? 120000 : 1000;
    w.settings.timeout = (struct timeout_settings){.first_byte_ms = 1 + below(20000),
                                                   .first_content_ms = 1 + below(20000),
                                                   .idle_ms = 1 + below(20000),
                                                   .total_ms = maybe(20000)};
    w.settings.hedge =
        (struct hedge_settings){.after_ms = one_in(4) ? 1 + some_ms() : 0, .requests = HEDGE_ALL};
    w.limits.hold_limit = with_huge ? 100000 : one_in(3) ? 64 + below(2000) : 1 << 20;
    w.timer_lazy = one_in(2);
    w.timer_late_ms = one_in(4) ? below(300) : 0;
    w.step_at_random = one_in(2);
    w.request_ms = one_in(8) ? some_ms() : 0;
    w.whole_fails = one_in(50) ? -ENOMEM : 0;
    w.begin_fails = one_in(50) ? -ENOMEM : 0;
    w.large_headers = drawn++ % 50 == 49;
    w.client = (struct fake_client){.pull_max = one_in(2) ? 0 : 1 + below(with_huge ? 9000 : 300),
                                    .every_ms = one_in(3) ? below(50) : 0,
                                    .leaves_at = one_in(8) ? 1 + some_ms() : 0,
                                    .leaves_with_the_end = one_in(2)};
    if (w.client.pull_max > 4096)
        w.client.pull_max = 4096;
}

/* --- what must hold --------------------------------------------------------------------------- */

static bool starts_with(struct str s, const char *text, size_t n)
{
    return s.n >= n && (n == 0 || memcmp(s.p, text, n) == 0);
}

/* The attempt that the response is from: the last one, unless another one raced with it and won. */
static unsigned winner(void)
{
    return w.runs[w.x.attempt - w.x.slots].start;
}

/* How much of a stream's text is whole events; all texts here end theirs with LF LF. */
static size_t whole_events(const char *text, size_t n)
{
    while (n > 0 && !(n >= 2 && text[n - 1] == '\n' && text[n - 2] == '\n'))
        n--;
    return n;
}

static bool came(enum ending e)
{
    return (endings_happened() & ENDING_BIT(e)) != 0;
}

/* The first of two proved stale when the deadline had passed: it was not sent, and is no attempt,
 * but its rival had failed before as the next one, and keeps that number. */
static unsigned never_sent(void)
{
    const struct attempt *a = w.x.attempt;

    return w.hedges && a->transport == TRANSPORT_STALE && !a->fresh &&
           w.now_ms >= w.x.deadline.at_ms;
}

static void check_attempts(void)
{
    const struct exchange *x = &w.x;
    uint64_t deadline = x->deadline.at_ms;

    MUST(x->attempts <= w.settings.retry.max_attempts);
    MUST(w.failures <= x->attempts);
    MUST(x->duplicates <= w.failures + w.hedges);
    for (unsigned i = 0; i < w.starts; i++) {
        const struct fake_start *s = &w.start[i];

        MUST(s->at_ms < deadline || came(ENDING_DEADLINE));
        MUST(s->gone_ms >= s->at_ms && s->gone_ms <= w.now_ms);
        MUST(i == 0 || w.hedges || s->at_ms >= s[-1].gone_ms);
        MUST(!s->fresh || w.hedges ||
             (i > 0 && script[s[-1].script].end == TRANSPORT_STALE && !s[-1].fresh));
    }
    for (unsigned i = 0; i < w.failures; i++) {
        const struct attempt_report *r = &w.reports[i];

        MUST(r->number <= x->attempts + never_sent());
        MUST(r->number <= w.settings.retry.max_attempts);
        MUST(r->decision.action == RETRY_AGAIN || i + 1 == w.failures || w.hedges);
        MUST(r->decision.action == RETRY_GIVE_UP || r->decision.delay_ms >= r->hint.delay_ms);
        MUST(r->decision.action == RETRY_GIVE_UP || r->verdict.kind == VERDICT_RETRY);
    }
}

static void check_whole(void)
{
    struct str got = buf_str(&w.body);
    bool found = false;

    for (unsigned i = w.starts; i > 0 && !found; i--) {
        unsigned n = w.start[i - 1].script;
        const struct fake_attempt *a = &script[n];

        found = a->status > 0 && a->end == TRANSPORT_WHOLE && !a->hangs && got.n == lengths[n] &&
                starts_with(got, text_of(n), lengths[n]) &&
                (a->status == w.response.status || (a->status == 200 && w.response.status >= 400));
        MUST(!found || w.response.status >= 400 ||
             n == w.start[winner()].script); /* no good response is left lying */
    }
    MUST(found || (w.response.status >= 400 &&
                   (starts_with(got, OWN_BODY, strlen(OWN_BODY)) || str_eq(got, STR(EVENT_BODY)))));
    MUST(w.response.content_length == got.n);
    MUST(came(ENDING_DEADLINE) ||
         w.answered_ms <= (w.x.deadline.at_ms == DEADLINE_NONE
                               ? w.answered_ms
                               : w.x.deadline.at_ms + w.timer_late_ms + w.request_ms));
}

static void check_stream(unsigned n, struct str got)
{
    const char *text = text_of(n);
    size_t events = whole_events(text, lengths[n]);

    if (w.x.end == END_ANSWERED && got.n == lengths[n] + 1)
        MUST(got.p[got.n - 1] == '\n' && starts_with(got, text, lengths[n]));
    else if (w.x.end == END_ANSWERED)
        MUST(got.n == lengths[n] && starts_with(got, text, lengths[n]));
    if (w.x.end == END_ANSWERED)
        MUST(script[n].end == TRANSPORT_WHOLE && !script[n].hangs);
    if (w.x.end == END_BROKEN && w.got_end) {
        size_t at = 0;

        while (at < got.n && at < events && got.p[at] == text[at])
            at++;
        at = whole_events(text, at);
        MUST(starts_with((struct str){got.p + at, got.n - at}, OWN_EVENT, strlen(OWN_EVENT)));
        MUST(got.p[got.n - 1] == '\n' && got.p[got.n - 2] == '\n');
    } else if (w.x.end == END_CLIENT_GONE) {
        size_t same = got.n < events ? got.n : events;

        while (same > 0 && memcmp(got.p, text, same) != 0)
            same = whole_events(text, same - 1);
        MUST(same == got.n || got.p[same] == OWN_EVENT[0] || got.p[same] == text[same]);
    }
}

static void check_begun(void)
{
    unsigned n = w.start[winner()].script;
    struct str got = buf_str(&w.body);

    if (script[n].headers && strstr(script[n].headers, "event-stream")) {
        check_stream(n, got);
        return;
    }
    MUST(got.n <= lengths[n] && starts_with((struct str){text_of(n), lengths[n]}, got.p, got.n));
    MUST(!w.got_end || got.n == lengths[n]);
    MUST(!w.got_cut || w.x.end == END_BROKEN);
}

static void check_end(void)
{
    const struct exchange *x = &w.x;
    unsigned answers = w.wholes + w.begins;

    MUST(!w.wrong);
    MUST(!w.stuck);
    MUST(x->state == EXCHANGE_DONE);
    MUST(w.ended == 1);
    MUST(answers <= 1);
    MUST(w.cuts == 0 || answers == 0 || came(ENDING_ABORT));
    MUST(w.cuts == 0 || x->end == END_BROKEN || (answers == 0 && x->end == END_REFUSED));
    if (x->end == END_CLIENT_GONE)
        MUST(w.wholes == 0 && w.cuts == 0);
    else if (x->end == END_REFUSED)
        MUST(answers == 0 && (came(ENDING_REFUSED) ? w.cuts == 0 : w.cuts == 1));
    else
        MUST(answers + w.cuts == 1 || (came(ENDING_ABORT) && w.begins == 1 && w.cuts == 1));
    if (x->end == END_BROKEN)
        MUST(w.cuts == 1 || w.begins == 1);
    MUST(x->reply.bytes_out == w.body.len);
    MUST(x->reply.status == 0 || answers == 0 || x->reply.status == w.response.status);
    check_attempts();
    if (w.wholes)
        check_whole();
    else if (w.begins)
        check_begun();
    exchange_step(&w.x); /* DONE stays done */
    MUST(w.ended == 1);
}

static void one_exchange(void)
{
    bool with_huge = number % 1024 == 0;

    draw_begin(seed, number);
    draw_script(with_huge);
    fake_init(&w);
    draw_world(with_huge);
    if (one_in(4))
        endings_draw(&w);
    else
        endings_none();
    /* Streams of which only the framing is known; test_streams.c has chat streams. */
    fake_begin(&w, "POST", "/v1/audio/speech", "Content-Type: application/json\n",
               one_in(2) ? "{\"model\":\"gpt-x\",\"stream\":true}" : "{\"model\":\"gpt-x\"}");
    if (one_in(32)) {
        fake_run_until(&w, some_ms()); /* thrown away in the middle */
    } else {
        fake_run(&w);
        check_end();
        ends[w.x.end]++;
    }
    total_steps += w.steps;
    attempts += w.x.attempts;
    if (w.x.attempts > most_attempts)
        most_attempts = w.x.attempts;
    begun += w.begins;
    whole += w.wholes;
    hedged += w.hedges;
    states |= w.states;
    fake_deinit(&w);
    MUST(!w.wrong);
}

START_TEST(a_million_steps)
{
    for (size_t i = 0; i < HUGE_TEXT; i += 64) {
        memset(huge + i, 'h', 64);
        memcpy(huge + i, "data: ", 6);
        memcpy(huge + i + 62, "\n\n", 2);
    }
    for (; total_steps < steps_wanted; number++)
        one_exchange();
    printf("seed %llu: %llu steps, %llu exchanges, %llu attempts (at most %llu), %llu whole, "
           "%llu streamed;",
           (unsigned long long)seed, (unsigned long long)total_steps, (unsigned long long)number,
           (unsigned long long)attempts, (unsigned long long)most_attempts,
           (unsigned long long)whole, (unsigned long long)begun);
    for (int e = END_ANSWERED; e <= END_CLIENT_GONE; e++) {
        printf(" %s %llu", exchange_end_word((enum exchange_end)e), (unsigned long long)ends[e]);
        ck_assert(ends[e] > 0);
    }
    printf("\n");
    fflush(stdout);
    ck_assert_uint_gt(hedged, 0);
    ck_assert(endings_each_pair_came());
    /* QUEUED is passed through within a step. */
    ck_assert_uint_eq(states | 1u << EXCHANGE_QUEUED, (1u << (EXCHANGE_DONE + 1)) - 1);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *c = unit_case(suite, "steps");

    seed = unit_argument(1, seed);
    steps_wanted = unit_argument(2, steps_wanted);
    tcase_set_timeout(c, 600);
    tcase_add_test(c, a_million_steps);
}
