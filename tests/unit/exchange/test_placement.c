/* The target that one exchange uses after each kind of failure, and how it waits for its turn (C4,
 * C18 to C22). */
#include <check.h>
#include <string.h>

#include "fake_worlds.h"
#include "unit.h"
#include "world_fixture.h"

#define ERROR(code) "{\"error\":{\"message\":\"no\",\"code\":\"" code "\"}}"
#define EVENT "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"}}]}\n\n"
#define SILENCE_MS 1000

#define SAYS(code_, headers_, text)                                                               \
    {                                                                                             \
        .status = (code_), .headers = JSON headers_, .headers_ms = 10, .pieces = { {0, text, 0} } \
    }

static const struct fake_attempt good = SAYS(200, "", "{\"n\":1}");
static const struct fake_attempt server_error = SAYS(500, "", ERROR("x"));
static const struct fake_attempt quota = SAYS(429, "", ERROR("insufficient_quota"));
static const struct fake_attempt context = SAYS(400, "", ERROR("context_length_exceeded"));
static const struct fake_attempt silent = {.hangs = true};

static struct target_key keys[2][2] = {{{STR("k1"), 11}, {STR("k2"), 12}},
                                       {{STR("k3"), 21}, {STR("k4"), 22}}};
static const struct target_model own_models[] = {{STR("gpt-x"), "x-eu"}, {STR("small"), "s-eu"}};
static const char *const fallbacks[] = {"small", "large"};

/* The targets' answers; the first matching row counts. */
struct row {
    const char *site; /* NULL: any */
    unsigned key;     /* 0: any */
    int tier;         /* -1: any */
    const struct fake_attempt *says;
};
static const struct row *rows;

static const struct fake_attempt *by_row(struct fake_world *world, const struct target *t)
{
    const struct row *r = rows;

    (void)world;
    while ((r->site && strcmp(r->site, t->upstream->name) != 0) ||
           (r->key && r->key != t->key_number) || (r->tier >= 0 && (unsigned)r->tier != t->tier))
        r++;
    return r->says;
}

/* Upstream "a", and "b", which has names of its own for models. */
static void two_upstreams(struct fake_world *world, unsigned sites, unsigned key_count)
{
    world->pick = by_row;
    world->upstream_count = sites;
    for (unsigned i = 0; i < sites; i++)
        world->upstreams[i] = (struct upstream){
            .name = i ? "b" : "a",
            .id = i + 1,
            .host = "api.example",
            .base_path = "/v1",
            .query = "",
            .auth_header = "Authorization",
            .keys = keys[i],
            .key_count = key_count,
            .models = own_models,
            .model_count = i ? COUNT(own_models) : 0,
            .idempotency_header = "",
            .key_cooldown_ms = 300000,
        };
    world->fallback_models = fallbacks;
    world->settings.timeout.first_byte_ms = SILENCE_MS;
}

static void set_up(const struct row *table, unsigned sites, unsigned key_count, unsigned tiers)
{
    world_set_up();
    rows = table;
    two_upstreams(&w, sites, key_count);
    w.fallback_count = tiers - 1;
}

static void run(void)
{
    fake_begin_chat(&w, false);
    world_finish();
    ck_assert_uint_eq(turns_waiting(w.own_turns), 0);
}

static void went(unsigned start, const char *site, unsigned key, unsigned tier, const char *model)
{
    const struct fake_start *s = &w.start[start];

    ck_assert_uint_gt(w.starts, start);
    ck_assert_str_eq(s->target.upstream->name, site);
    ck_assert_uint_eq(s->target.key_number, key);
    ck_assert_uint_eq(s->target.tier, tier);
    ck_assert_str_eq(s->model, model);
}

/* --- moves ------------------------------------------------------------------------------------ */

START_TEST(each_cause_leads_where_it_may_go_better)
{
    static const struct fake_attempt limited = SAYS(429, "retry-after-ms: 5000\n", ERROR("x")),
                                     bad_key = SAYS(401, "", ERROR("invalid_api_key")),
                                     no_model = SAYS(404, "", ERROR("model_not_found")),
                                     not_built = SAYS(501, "", ERROR("x")),
                                     policy = SAYS(400, "", ERROR("content_policy_violation")),
                                     no_such = SAYS(400, "", ERROR("invalid_value")),
                                     lost = {.end = TRANSPORT_LOST},
                                     refused = {.end = TRANSPORT_CONNECT};
    static const struct {
        const struct fake_attempt *first;
        const char *site; /* NULL: nowhere */
        unsigned key, tier;
        const char *model;
    } cases[] = {
        {&server_error, "b", 1, 0, "x-eu"}, {&lost, "b", 1, 0, "x-eu"},
        {&refused, "b", 1, 0, "x-eu"},      {&not_built, "b", 1, 0, "x-eu"},
        {&limited, "a", 2, 0, "gpt-x"},     {&quota, "a", 2, 0, "gpt-x"},
        {&bad_key, "a", 2, 0, "gpt-x"},     {&no_model, "a", 2, 0, "gpt-x"},
        {&silent, "a", 2, 1, "small"},      {&context, "a", 2, 1, "small"},
        {&policy, NULL, 0, 0, NULL},        {&no_such, NULL, 0, 0, NULL},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        const struct row table[] = {{"a", 1, 0, cases[i].first}, {NULL, 0, -1, &good}};

        set_up(table, 2, 2, 2);
        run();
        went(0, "a", 1, 0, "gpt-x");
        ck_assert_uint_eq(w.starts, cases[i].site ? 2 : 1);
        if (cases[i].site) {
            went(1, cases[i].site, cases[i].key, cases[i].tier, cases[i].model);
            ck_assert_uint_eq(w.start[1].at_ms, w.start[0].gone_ms); /* at once */
            ck_assert_int_eq(w.x.end, END_ANSWERED);
        } else {
            ck_assert_uint_eq(w.response.status, cases[i].first->status);
            ck_assert(world_body_is(cases[i].first->pieces[0].text));
        }
        ck_assert_uint_eq(w.x.wait_ms, 0);
        world_tear_down();
    }
}
END_TEST

START_TEST(a_tier_is_left_after_its_attempts)
{
    static const struct row table[] = {{NULL, 0, 0, &server_error}, {NULL, 0, -1, &good}};

    set_up(table, 1, 1, 2);
    w.settings.retry.attempts_per_tier = 2;
    run();
    ck_assert_uint_eq(w.starts, 3);
    went(1, "a", 1, 0, "gpt-x");
    ck_assert_uint_eq(w.start[1].at_ms, w.start[0].gone_ms + 1000);
    went(2, "a", 1, 1, "small");
    ck_assert_uint_eq(w.start[2].at_ms, w.start[1].gone_ms);
    ck_assert_int_eq(w.x.end, END_ANSWERED);
    ck_assert_uint_eq(w.x.placement.target.tier, 1);
    world_tear_down();
}
END_TEST

START_TEST(the_last_tier_uses_what_is_left)
{
    static const struct row table[] = {{NULL, 0, -1, &server_error}};

    set_up(table, 1, 1, 2);
    w.settings.retry.attempts_per_tier = 1;
    run();
    ck_assert_uint_eq(w.starts, 5);
    for (unsigned i = 1; i < 5; i++)
        went(i, "a", 1, 1, "small");
    ck_assert_uint_eq(w.response.status, 500);
    world_tear_down();
}
END_TEST

START_TEST(fallback_on_says_what_may_leave)
{
    static const struct {
        const struct fake_attempt *says;
        unsigned on;
        bool leaves;
    } cases[] = {
        {&server_error, FALLBACK_ON_ERROR, true},
        {&server_error, FALLBACK_ON_TIMEOUT | FALLBACK_ON_CONTEXT, false},
        {&silent, FALLBACK_ON_TIMEOUT, true},
        {&silent, FALLBACK_ON_ERROR | FALLBACK_ON_CONTEXT, false},
        {&context, FALLBACK_ON_CONTEXT, true},
        {&context, FALLBACK_ON_ERROR | FALLBACK_ON_TIMEOUT, false},
        {&quota, FALLBACK_ON_ERROR, false}, /* the key is no better for another model */
        {&quota, 0, false},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        const struct row table[] = {{NULL, 0, 0, cases[i].says}, {NULL, 0, -1, &good}};

        set_up(table, 1, 1, 2);
        w.settings.retry.attempts_per_tier = 1;
        w.fallback_on = cases[i].on;
        run();
        ck_assert_int_eq(w.x.end, cases[i].leaves ? END_ANSWERED : END_FAILED);
        ck_assert_uint_eq(w.x.placement.target.tier, cases[i].leaves);
        world_tear_down();
    }
}
END_TEST

START_TEST(a_request_too_long_goes_to_each_model_once)
{
    static const struct row table[] = {{NULL, 0, 2, &good}, {NULL, 0, -1, &context}};

    for (unsigned tiers = 2; tiers <= 3; tiers++) {
        set_up(table, 2, 2, tiers);
        run();
        ck_assert_uint_eq(w.starts, tiers);
        for (unsigned i = 0; i < tiers; i++)
            ck_assert_uint_eq(w.start[i].target.tier, i);
        ck_assert_uint_eq(w.response.status, tiers == 3 ? 200 : 400);
        if (tiers == 3)
            ck_assert_str_eq(w.start[2].model, "large");
        world_tear_down();
    }
}
END_TEST

START_TEST(with_all_keys_out_the_error_of_the_api_at_once)
{
    static const struct row table[] = {{NULL, 0, -1, &quota}};

    set_up(table, 1, 2, 1);
    run();
    ck_assert_uint_eq(w.starts, 2);
    ck_assert_uint_eq(w.response.status, 429);
    ck_assert(world_body_is(ERROR("insufficient_quota")));
    ck_assert_uint_eq(w.answered_ms, 20); /* two responses, and nothing waited */
    ck_assert_uint_eq(w.x.wait_ms, 0);
    world_tear_down();
}
END_TEST

START_TEST(without_budget_only_where_it_has_not_been)
{
    static const struct row table[] = {{NULL, 0, -1, &server_error}};

    for (unsigned sites = 1; sites <= 2; sites++) {
        set_up(table, sites, 1, 1);
        w.settings.retry.budget_min = 0;
        run();
        ck_assert_uint_eq(w.starts, sites);
        ck_assert_str_eq(w.x.cannot_retry, "the upstream's retry budget is used up");
        ck_assert_uint_eq(w.response.status, 500);
        ck_assert_uint_eq(w.x.wait_ms, 0);
        world_tear_down();
    }
}
END_TEST

/* --- waiting ---------------------------------------------------------------------------------- */

static struct fake_worlds ws;
static const struct row all_good[] = {{NULL, 0, -1, &good}};
static const struct fake_attempt slow = {
    .status = 200, .headers = JSON, .headers_ms = 3000, .pieces = {{0, "{}", 0}}};
static const struct row all_slow[] = {{NULL, 0, -1, &slow}};

/* Two at an upstream for one at a time; the second waits. */
static struct fake_world *two_worlds(void)
{
    rows = all_slow;
    fake_worlds_init(&ws, 2, NULL);
    for (unsigned i = 0; i < 2; i++) {
        struct fake_world *world = fake_worlds_add(&ws, i, i);

        two_upstreams(world, 1, 1);
        world->upstreams[0].max_concurrency = 1;
        world->settings.timeout.first_byte_ms = 60000;
    }
    return &ws.worlds[1];
}

static void run_both(bool stream)
{
    for (unsigned i = 0; i < 2; i++) {
        fake_begin_chat(&ws.worlds[i], i == 1 && stream);
        fake_worlds_begun(&ws, i);
    }
    fake_worlds_run(&ws);
    ck_assert_msg(!fake_worlds_wrong(&ws), "%s", fake_worlds_wrong(&ws));
    for (unsigned i = 0; i < 2; i++)
        ck_assert_int_eq(ws.worlds[i].x.state, EXCHANGE_DONE);
    ck_assert_int_eq(ws.worlds[0].x.end, END_ANSWERED);
    ck_assert_uint_eq(ws.worlds[0].answered_ms, 3000);
    ck_assert_uint_eq(turns_waiting(ws.turns), 0);
}

START_TEST(who_waits_goes_when_the_other_has_ended)
{
    struct fake_world *second = two_worlds();

    run_both(false);
    ck_assert_uint_eq(second->start[0].at_ms, 3000);
    ck_assert_uint_eq(second->x.wait_ms, 2999);
    ck_assert_int_eq(second->x.end, END_ANSWERED);
    ck_assert_ptr_null(fake_worlds_deinit(&ws));
}
END_TEST

START_TEST(the_deadline_counts_in_a_queue)
{
    struct fake_world *second = two_worlds();

    second->settings.retry.deadline_ms = 500;
    run_both(false);
    ck_assert_int_eq(second->x.end, END_FAILED);
    ck_assert_uint_eq(second->response.status, 504);
    ck_assert_uint_eq(second->answered_ms, second->x.deadline.at_ms);
    ck_assert_uint_eq(second->starts, 0);
    ck_assert_int_eq(second->x.last_reason, REASON_DEADLINE);
    ck_assert_ptr_null(fake_worlds_deinit(&ws));
}
END_TEST

START_TEST(a_queue_has_a_timeout)
{
    struct fake_world *second = two_worlds();

    second->settings.queue.timeout_ms = 700;
    run_both(false);
    ck_assert_int_eq(second->x.end, END_FAILED);
    ck_assert_uint_eq(second->answered_ms, 701);
    ck_assert_int_eq(second->x.last_reason, REASON_QUEUE_TIMEOUT);
    ck_assert_uint_eq(second->starts, 0);
    ck_assert_ptr_null(fake_worlds_deinit(&ws));
}
END_TEST

START_TEST(a_full_queue_is_told_at_once)
{
    struct fake_world *second = two_worlds();

    second->settings.queue.size = 0;
    run_both(false);
    ck_assert_int_eq(second->x.end, END_FAILED);
    ck_assert_uint_eq(second->answered_ms, 1);
    ck_assert_int_eq(second->x.last_reason, REASON_QUEUE_FULL);
    ck_assert_ptr_null(fake_worlds_deinit(&ws));
}
END_TEST

START_TEST(a_client_may_leave_a_queue)
{
    struct fake_world *second = two_worlds();

    second->client.leaves_at = 400;
    run_both(false);
    ck_assert_int_eq(second->x.end, END_CLIENT_GONE);
    ck_assert_uint_eq(second->x.ended_ms, 400);
    ck_assert_uint_eq(second->starts, 0);
    ck_assert_ptr_null(fake_worlds_deinit(&ws));
}
END_TEST

static const struct fake_attempt stream_answer = {
    .status = 200,
    .headers = SSE,
    .headers_ms = 10,
    .pieces = {{0, EVENT "data: [DONE]\n\n", 0}},
};

static const struct fake_attempt *by_kind(struct fake_world *world, const struct target *t)
{
    (void)t;
    return world->x.request.stream ? &stream_answer : &slow;
}

START_TEST(who_waits_is_told_that_it_is_alive)
{
    struct fake_world *second = two_worlds();

    ws.worlds[0].pick = second->pick = by_kind;
    second->settings.stream.heartbeat_ms = 1000;
    run_both(true);
    ck_assert_int_eq(second->x.end, END_ANSWERED);
    ck_assert_uint_eq(second->answered_ms, 1001);
    ck_assert_uint_eq(second->start[0].at_ms, 3000);
    ck_assert(str_eq(buf_str(&second->body),
                     STR(": retryd\n: retryd\n: retryd\n" EVENT "data: [DONE]\n\n")));
    ck_assert_ptr_null(fake_worlds_deinit(&ws));
}
END_TEST

/* If a whole tier cannot answer in time, the next one follows, not an error. */
START_TEST(a_wait_in_vain_leads_to_the_next_tier)
{
    struct fake_world *second = two_worlds();

    second->settings.retry.deadline_ms = 2000;
    for (unsigned i = 0; i < 2; i++) {
        ws.worlds[i].upstreams[0].max_concurrency = 0;
        ws.worlds[i].upstreams[0].requests_per_minute = 20;
    }
    rows = all_good;
    second->fallback_count = 1;
    ws.worlds[0].pick = by_kind;
    run_both(false);
    ck_assert_int_eq(second->x.end, END_FAILED); /* the limit is the upstream's, for all models */
    ck_assert_uint_eq(second->answered_ms, 1);
    ck_assert_uint_eq(second->response.status, 429);
    ck_assert_uint_eq(second->x.placement.turn_request.tier, 1);
    ck_assert_ptr_null(fake_worlds_deinit(&ws));
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *c = unit_case(suite, "one");

    tcase_add_test(c, each_cause_leads_where_it_may_go_better);
    tcase_add_test(c, a_tier_is_left_after_its_attempts);
    tcase_add_test(c, the_last_tier_uses_what_is_left);
    tcase_add_test(c, fallback_on_says_what_may_leave);
    tcase_add_test(c, a_request_too_long_goes_to_each_model_once);
    tcase_add_test(c, with_all_keys_out_the_error_of_the_api_at_once);
    tcase_add_test(c, without_budget_only_where_it_has_not_been);
    tcase_add_test(c, who_waits_goes_when_the_other_has_ended);
    tcase_add_test(c, the_deadline_counts_in_a_queue);
    tcase_add_test(c, a_queue_has_a_timeout);
    tcase_add_test(c, a_full_queue_is_told_at_once);
    tcase_add_test(c, a_client_may_leave_a_queue);
    tcase_add_test(c, who_waits_is_told_that_it_is_alive);
    tcase_add_test(c, a_wait_in_vain_leads_to_the_next_tier);
}
