/* A million steps of exchanges that share their targets, with all else drawn at random.
 *
 *     test_placement_random [SEED [STEPS]]
 *
 * Each town is some exchanges at the same few upstreams, by one clock. The seed is printed, and so
 * is the number of a town in which something is that must not be; each is drawn from both alone. */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "draw.h"
#include "turns_shadow.h"
#include "unit.h"

#define ERROR(code) "{\"error\":{\"message\":\"no\",\"code\":\"" code "\"}}"
#define EVENT "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"}}]}\n\n"
#define DONE "data: [DONE]\n\n"

static uint64_t seed = 20261124, steps_wanted = 1000000;

static const char *const models[SHADOW_TIERS] = {"gpt-x", "small", "tiny"};

static struct fake_worlds ws;
static struct shadow shadow;
static struct fake_attempt drawn[SHADOW_WORLDS][FAKE_ATTEMPTS];
static struct fake_world pattern; /* the town's settings */
static struct target_key keys[FAKE_UPSTREAMS][2];
static unsigned health[FAKE_UPSTREAMS][SHADOW_TIERS]; /* good responses in a hundred */

static uint64_t number; /* of the town */
static uint64_t total_steps, exchanges, starts, ends[END_CLIENT_GONE + 1];
static struct {
    uint64_t grants, waits, refusals, hedges, probes, denied, moved, left;
} seen;

static void broken(const char *what, int line)
{
    ck_abort_msg("line %d: %s (seed %llu, town %llu, at %llu ms)", line, what,
                 (unsigned long long)seed, (unsigned long long)number,
                 (unsigned long long)ws.now_ms);
}

/* An assertion of the code under test says nothing of the seed. */
static void on_abort(int signal_number)
{
    (void)signal_number;
    dprintf(STDERR_FILENO, "seed %llu, town %llu\n", (unsigned long long)seed,
            (unsigned long long)number);
}

/* Mostly short, sometimes long, often nothing. */
static uint64_t some_ms(void)
{
    static const uint64_t most[] = {1, 10, 100, 1000, 3000};

    return below(most[below(COUNT(most))]);
}

/* --- outcomes --------------------------------------------------------------------------------- */

static const struct fake_attempt good[] = {
    {.status = 200, .headers = JSON, .pieces = {{0, "{\"id\":", 0}, {0, "1}", 0}}},
    {.status = 200, .headers = JSON, .pieces = {{0, "{}", 0}}, .at_once = true},
};
static const struct fake_attempt good_streams[] = {
    {.status = 200, .headers = SSE, .pieces = {{0, EVENT, 0}, {0, EVENT, 0}, {0, DONE, 0}}},
    {.status = 200, .headers = SSE, .pieces = {{0, EVENT DONE, 0}}, .at_once = true},
};
static const struct fake_attempt bad[] = {
    {.status = 429, .headers = JSON "retry-after-ms: 300\n", .pieces = {{0, ERROR("x"), 0}}},
    {.status = 429, .headers = JSON "retry-after-ms: 2500\n", .pieces = {{0, ERROR("x"), 0}}},
    {.status = 429, .headers = JSON "retry-after: 1\n", .pieces = {{0, ERROR("x"), 0}}},
    {.status = 429, .headers = JSON "retry-after: 900\n", .pieces = {{0, ERROR("x"), 0}}},
    {.status = 429, .headers = JSON, .pieces = {{0, ERROR("x"), 0}}},
    {.status = 429,
     .headers = JSON "x-should-retry: true\nretry-after-ms: 50\n",
     .pieces = {{0, ERROR("x"), 0}}},
    {.status = 429, .headers = JSON, .pieces = {{0, ERROR("insufficient_quota"), 0}}},
    {.status = 401, .headers = JSON, .pieces = {{0, ERROR("invalid_api_key"), 0}}},
    {.status = 400, .headers = JSON, .pieces = {{0, ERROR("context_length_exceeded"), 0}}},
    {.status = 400, .headers = JSON, .pieces = {{0, ERROR("content_policy_violation"), 0}}},
    {.status = 404, .headers = JSON, .pieces = {{0, ERROR("model_not_found"), 0}}},
    {.status = 500, .headers = JSON, .pieces = {{0, ERROR("x"), 0}}},
    {.status = 500, .headers = JSON, .pieces = {{0, ERROR("x"), 0}}, .at_once = true},
    {.status = 503, .headers = JSON "retry-after: 1\n", .pieces = {{0, ERROR("x"), 0}}},
    {.status = 501, .headers = JSON, .pieces = {{0, ERROR("x"), 0}}},
    {.status = 200, .headers = JSON, .pieces = {{0, "{\"id\":", 0}}, .end = TRANSPORT_TRUNCATED},
    {.status = 200, .headers = JSON, .pieces = {{0, "{\"id\":", 0}}, .hangs = true},
    {.status = 200, .headers = SSE, .pieces = {{0, EVENT, 0}}, .end = TRANSPORT_TRUNCATED},
    {.status = 200, .headers = SSE, .end = TRANSPORT_TRUNCATED},
    {.status = 200, .headers = SSE, .pieces = {{0, EVENT, 0}}, .hangs = true},
    {.status = 200, .headers = SSE, .hangs = true},
    {.status = 200, .headers = SSE, .pieces = {{0, "data: " ERROR("x") "\n\n", 0}}},
    {.end = TRANSPORT_CONNECT},
    {.end = TRANSPORT_LOST},
    {.end = TRANSPORT_LOST, .at_once = true},
    {.end = TRANSPORT_STALE},
    {.end = TRANSPORT_STALE, .at_once = true},
    {.hangs = true},
    {.hangs = true},
    {.start_fails = -ENOMEM},
};

static const struct fake_attempt *pick(struct fake_world *w, const struct target *t)
{
    struct fake_attempt *a = &drawn[w - ws.worlds][w->starts];
    unsigned site = (unsigned)(t->upstream - w->upstreams);

    if (below(100) >= health[site][t->tier])
        *a = bad[below(COUNT(bad))];
    else if (w->x.request.stream)
        *a = good_streams[below(COUNT(good_streams))];
    else
        *a = good[below(COUNT(good))];
    a->headers_ms = some_ms();
    if (!a->at_once)
        for (unsigned i = 0; a->pieces[i].text; i++)
            a->pieces[i].after_ms = some_ms();
    a->end_ms = a->at_once ? 0 : some_ms();
    return a;
}

/* --- drawing ---------------------------------------------------------------------------------- */

static void draw_upstream(unsigned i)
{
    static const char *const names[FAKE_UPSTREAMS] = {"a", "b", "c", "d"};

    for (unsigned k = 0; k < 2; k++)
        keys[i][k] = (struct target_key){STR("key"), 10 * (i + 1) + k};
    pattern.upstreams[i] = (struct upstream){
        .name = names[i],
        .id = i + 1,
        .host = "api.example",
        .base_path = "/v1",
        .query = "",
        .auth_header = "Authorization",
        .keys = keys[i],
        .key_count = (unsigned)below(3),
        .idempotency_header = "",
        .max_concurrency = one_in(2) ? 0 : 1 + (unsigned)below(4),
        .requests_per_minute = one_in(2) ? 0 : 30 + (unsigned)below(600),
        .adaptive_pacing = one_in(2),
        .key_cooldown_ms = 1 + below(5000),
    };
    for (unsigned tier = 0; tier < SHADOW_TIERS; tier++)
        health[i][tier] = one_in(4) ? 0 : (unsigned)below(100);
}

static void draw_settings(void)
{
    static const unsigned weights[FAKE_UPSTREAMS] = {3, 0, 1, 1};
    struct retry_settings *r = &pattern.settings.retry;

    r->max_attempts = 1 + (unsigned)below(6);
    r->attempts_per_tier = 1 + (unsigned)below(3);
    r->backoff = (struct backoff_settings){below(500), 2, 3000, (enum jitter)below(3)};
    r->retry_ambiguous = !one_in(6);
    r->max_hint_ms = one_in(2) ? 120000 : 2000;
    r->budget_percent = one_in(2) ? 0 : (unsigned)below(100);
    r->budget_min = one_in(2) ? 1000 : (unsigned)below(2);
    pattern.settings.timeout = (struct timeout_settings){.first_byte_ms = 1 + below(3000),
                                                         .first_content_ms = 1 + below(3000),
                                                         .idle_ms = 1 + below(3000),
                                                         .total_ms = maybe(9000)};
    pattern.settings.stream.mend_timeout_ms = maybe(5000);
    pattern.settings.queue =
        (struct queue_settings){.size = (unsigned)below(20), .timeout_ms = 1 + below(20000)};
    pattern.settings.hedge =
        (struct hedge_settings){.after_ms = one_in(2) ? 0 : 1 + below(500), .requests = HEDGE_ALL};
    pattern.settings.breaker = (struct breaker_settings){
        .failures = one_in(4) ? 0 : 1 + (unsigned)below(5),
        .failure_rate_percent = one_in(2) ? 0 : 50,
        .window_ms = 10000,
        .open_for_ms = 1 + below(4000),
    };
    pattern.upstream_count = 1 + (unsigned)below(3);
    pattern.fallback_count = (unsigned)below(SHADOW_TIERS);
    pattern.fallback_models = models + 1;
    pattern.fallback_on = one_in(3) ? (unsigned)below(FALLBACK_ON_ALL + 1) : FALLBACK_ON_ALL;
    pattern.weights = one_in(2) ? weights : NULL;
    for (unsigned i = 0; i < pattern.upstream_count; i++)
        draw_upstream(i);
}

static void draw_world(unsigned i)
{
    static const char *const headers[] = {JSON "Authorization: Bearer a\n",
                                          JSON "Authorization: Bearer b\n"};
    uint64_t at = one_in(2) ? 0 : below(8000);
    struct fake_world *w = fake_worlds_add(&ws, i, at);
    unsigned client = (unsigned)below(2);

    w->settings = pattern.settings;
    w->settings.retry.deadline_ms = maybe(20000);
    w->settings.stream.mode = (enum stream_mode)below(3);
    w->settings.stream.heartbeat_ms = one_in(3) ? 1 + below(1000) : 0;
    memcpy(w->upstreams, pattern.upstreams, sizeof(w->upstreams));
    w->upstream_count = pattern.upstream_count;
    w->fallback_models = pattern.fallback_models;
    w->fallback_count = pattern.fallback_count;
    w->fallback_on = pattern.fallback_on;
    w->weights = pattern.weights;
    w->pick = pick;
    w->random = draw() | 1;
    w->timer_late_ms = one_in(4) ? below(50) : 0;
    w->timer_lazy = one_in(2);
    w->step_at_random = one_in(2);
    w->client.leaves_at = one_in(6) ? at + 1 + some_ms() : 0;
    w->client.every_ms = one_in(4) ? below(20) : 0;
    w->upload = one_in(2) ? "{\"model\":\"gpt-x\",\"stream\":true}" : "{\"model\":\"gpt-x\"}";
    w->upload_len = strlen(w->upload);
    fake_begin(w, "POST", "/v1/chat/completions", headers[client], "");
    shadow_begun(&shadow, i, client);
    fake_worlds_begun(&ws, i);
}

/* --- what must hold --------------------------------------------------------------------------- */

static void check_world(const struct fake_world *w)
{
    const struct exchange *x = &w->x;
    unsigned answers = w->wholes + w->begins;

    MUST(!w->stuck);
    MUST(x->state == EXCHANGE_DONE);
    MUST(w->ended == 1);
    MUST(answers + w->cuts <= 1 || x->end == END_BROKEN);
    MUST(x->end == END_CLIENT_GONE || answers + w->cuts == 1);
    MUST(x->end != END_CLIENT_GONE || w->client.leaves_at > 0);
    MUST(x->end != END_ANSWERED || (w->response.status == 200 && w->body.len > 0));
    if (w->wholes && x->deadline.at_ms != DEADLINE_NONE)
        MUST(w->answered_ms <= x->deadline.at_ms + w->timer_late_ms);
    MUST(x->attempts <= w->settings.retry.max_attempts);
    exchanges++;
    ends[x->end]++;
    starts += w->starts;
    seen.moved += x->placement.target.tier > 0;
    seen.left += x->end == END_CLIENT_GONE && w->starts == 0;
}

static void check_shadow(void)
{
    if (shadow.wrong)
        broken(shadow.wrong, shadow.line);
    if (fake_worlds_wrong(&ws))
        broken(fake_worlds_wrong(&ws), 0);
}

static void count_seen(void)
{
    seen.grants += shadow.grants;
    seen.waits += shadow.waits;
    seen.refusals += shadow.refusals;
    seen.hedges += shadow.hedges;
    seen.probes += shadow.probes;
    seen.denied += shadow.denied;
}

static void one_town(void)
{
    bool thrown_away;
    uint64_t turns = 0;
    const char *wrong;

    draw_begin(seed, number);
    thrown_away = one_in(32);
    fake_init(&pattern);
    draw_settings();
    fake_worlds_init(&ws, 1 + (unsigned)below(SHADOW_WORLDS), shadow_event);
    shadow_init(&shadow, &ws);
    shadow.upstreams = pattern.upstreams;
    shadow.known_count = pattern.upstream_count;
    shadow.models = models;
    shadow.open_for_ms = pattern.settings.breaker.open_for_ms;
    ws.late_ms = one_in(4) ? below(30) : 0;
    for (unsigned i = 0; i < ws.count; i++)
        draw_world(i);
    while (fake_worlds_turn(&ws)) {
        shadow_check(&shadow);
        if (shadow.wrong || (thrown_away && ++turns > 30))
            break;
    }
    check_shadow();
    for (unsigned i = 0; i < ws.count; i++)
        total_steps += ws.worlds[i].steps;
    if (!thrown_away) {
        shadow_check_end(&shadow);
        check_shadow();
        for (unsigned i = 0; i < ws.count; i++)
            check_world(&ws.worlds[i]);
    }
    wrong = fake_worlds_deinit(&ws);
    if (wrong)
        broken(wrong, __LINE__);
    if (shadow.wrong)
        broken(shadow.wrong, shadow.line);
    count_seen();
    shadow_deinit();
    fake_deinit(&pattern);
}

START_TEST(a_million_steps)
{
    struct sigaction act = {.sa_handler = on_abort, .sa_flags = (int)SA_RESETHAND};

    sigaction(SIGABRT, &act, NULL);
    for (; total_steps < steps_wanted; number++)
        one_town();
    printf("seed %llu: %llu steps, %llu towns, %llu exchanges, %llu attempts; waited %llu, "
           "refused %llu, hedged %llu, probes %llu, over budget %llu, by fallback %llu, left in a "
           "queue %llu;",
           (unsigned long long)seed, (unsigned long long)total_steps, (unsigned long long)number,
           (unsigned long long)exchanges, (unsigned long long)starts,
           (unsigned long long)seen.waits, (unsigned long long)seen.refusals,
           (unsigned long long)seen.hedges, (unsigned long long)seen.probes,
           (unsigned long long)seen.denied, (unsigned long long)seen.moved,
           (unsigned long long)seen.left);
    for (int e = END_ANSWERED; e <= END_CLIENT_GONE; e++)
        printf(" %s %llu", exchange_end_word((enum exchange_end)e), (unsigned long long)ends[e]);
    printf("\n");
    fflush(stdout);
    if (steps_wanted < 100000) /* too few to have seen everything */
        return;
    ck_assert(seen.waits && seen.refusals && seen.hedges && seen.probes && seen.denied &&
              seen.moved && seen.left);
    ck_assert(ends[END_ANSWERED] && ends[END_FAILED] && ends[END_BROKEN] && ends[END_CLIENT_GONE]);
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
