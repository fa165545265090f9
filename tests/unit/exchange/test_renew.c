/* Keys that change while requests are under way: which attempt uses which. */
#include <check.h>
#include <string.h>

#include "fake_worlds.h"
#include "unit.h"
#include "world_fixture.h"

#define SAYS(code_, headers_, text)                                                               \
    {                                                                                             \
        .status = (code_), .headers = JSON headers_, .headers_ms = 10, .pieces = { {0, text, 0} } \
    }

static const struct fake_attempt good = SAYS(200, "", "{\"n\":1}");
static const struct fake_attempt server_error = SAYS(500, "", "{\"error\":{\"message\":\"no\"}}");
static const struct fake_attempt rejected = SAYS(
    401, "retry-after: 600\n", "{\"error\":{\"message\":\"no\",\"code\":\"invalid_api_key\"}}");

static const struct target_key before[] = {{STR("k1"), 11}, {STR("k2"), 12}};
static const struct target_key after[] = {{STR("k3"), 13}, {STR("k1"), 11}};
static const struct target_model own_models[] = {{STR("gpt-x"), "x-eu"}, {STR("small"), "s-eu"}};
static const char *const fallbacks[] = {"small"};

/* The valid keys; "" is the end. */
static const char *good_keys;
static const struct fake_attempt *bad_response;

static const struct fake_attempt *by_key(struct fake_world *world, const struct target *t)
{
    (void)world;
    return t->key.n == 2 && strstr(good_keys, t->key.p) ? &good : bad_response;
}

/* One upstream whose file had the first `n` of the keys before, and has `m` of those after. */
static void set_up(unsigned n, unsigned m, const char *good_ones)
{
    world_set_up();
    good_keys = good_ones;
    bad_response = &rejected;
    w.pick = by_key;
    w.upstream_count = 1;
    w.upstreams[0] = (struct upstream){
        .name = "a",
        .id = 1,
        .host = "api.example",
        .base_path = "/v1",
        .query = "",
        .auth_header = "Authorization",
        .keys = before,
        .key_count = n,
        .models = own_models,
        .model_count = COUNT(own_models),
        .idempotency_header = "",
        .key_cooldown_ms = 300000,
    };
    w.renewed[0] = w.upstreams[0];
    w.renewed[0].keys = after;
    w.renewed[0].key_count = m;
    w.fallback_models = fallbacks;
}

static void go(void)
{
    fake_begin_chat(&w, false);
    world_finish();
}

static void went_out_with(unsigned i, const char *key)
{
    ck_assert_uint_lt(i, w.starts);
    ck_assert_msg(str_eq(w.start[i].target.key, str_from(key)), "attempt %u: %.*s", i,
                  (int)w.start[i].target.key.n, w.start[i].target.key.p);
}

START_TEST(a_rejected_key_is_replaced_at_once)
{
    set_up(1, 1, "k3");
    go();
    ck_assert_uint_eq(w.starts, 2);
    went_out_with(0, "k1");
    went_out_with(1, "k3");
    world_answered("{\"n\":1}");
    ck_assert_uint_eq(w.x.wait_ms, 0);
    ck_assert_uint_eq(w.reports[0].decision.action, RETRY_AGAIN);
    ck_assert_uint_eq(fake_repeats(&w, 0), 0); /* the upstream is not to blame */
    world_tear_down();
}
END_TEST

START_TEST(once_is_enough)
{
    set_up(1, 1, "none");
    go();
    ck_assert_uint_eq(w.starts, 2);
    ck_assert_uint_eq(w.response.status, 401);
    ck_assert_uint_eq(w.other_key_asked, 1);
    world_tear_down();
}
END_TEST

START_TEST(the_same_key_is_not_tried_again)
{
    set_up(1, 1, "k3");
    w.renewed[0].keys = before;
    go();
    ck_assert_uint_eq(w.starts, 1);
    ck_assert_uint_eq(w.response.status, 401);
    world_tear_down();
}
END_TEST

START_TEST(it_is_an_attempt_like_others)
{
    set_up(1, 1, "k3");
    w.settings.retry.max_attempts = 1;
    go();
    ck_assert_uint_eq(w.starts, 1);
    ck_assert_str_eq(w.x.cannot_retry, "all attempts are used up");
    world_tear_down();
}
END_TEST

START_TEST(a_clients_own_key_has_no_file)
{
    set_up(0, 1, "k3");
    go();
    ck_assert_uint_eq(w.starts, 1);
    ck_assert_uint_eq(w.other_key_asked, 0);
    world_tear_down();
}
END_TEST

/* The new key of a pool is used and the rejected one is not, whatever its number. */
START_TEST(pools_change_as_a_whole)
{
    set_up(1, 2, "k3");
    go();
    ck_assert_uint_eq(w.starts, 2);
    went_out_with(1, "k3");
    world_tear_down();
    set_up(2, 2, "k3"); /* k1 k2 -> k3 k1 */
    go();
    ck_assert_uint_eq(w.starts, 2);
    went_out_with(1, "k3");
    world_tear_down();
}
END_TEST

/* After any failure the next attempt uses the keys that are there by then. */
START_TEST(each_attempt_takes_what_is_in_force)
{
    set_up(1, 2, "k3");
    bad_response = &server_error;
    fake_begin_chat(&w, false);
    while (w.failures == 0)
        ck_assert(fake_turn(&w));
    w.renews = true;
    world_finish();
    ck_assert_uint_eq(w.other_key_asked, 0);
    went_out_with(0, "k1");
    went_out_with(1, "k3");
    ck_assert_str_eq(w.start[1].model, "x-eu");
    world_answered("{\"n\":1}");
    world_tear_down();
}
END_TEST

START_TEST(a_fallback_model_keeps_its_name)
{
    set_up(1, 1, "k3");
    bad_response = &server_error;
    w.fallback_count = 1;
    w.fallback_on = FALLBACK_ON_ALL;
    w.settings.retry.attempts_per_tier = 1;
    fake_begin_chat(&w, false);
    while (w.starts == 0)
        ck_assert(fake_turn(&w));
    w.renews = true;
    world_finish();
    went_out_with(1, "k3");
    ck_assert_uint_eq(w.start[1].target.tier, 1);
    ck_assert_str_eq(w.start[1].model, "s-eu");
    world_tear_down();
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *c = unit_case(suite, "renew");

    tcase_add_test(c, a_rejected_key_is_replaced_at_once);
    tcase_add_test(c, once_is_enough);
    tcase_add_test(c, the_same_key_is_not_tried_again);
    tcase_add_test(c, it_is_an_attempt_like_others);
    tcase_add_test(c, a_clients_own_key_has_no_file);
    tcase_add_test(c, pools_change_as_a_whole);
    tcase_add_test(c, each_attempt_takes_what_is_in_force);
    tcase_add_test(c, a_fallback_model_keeps_its_name);
}
