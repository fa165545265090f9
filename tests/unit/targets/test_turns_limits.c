/* How long requests wait for a turn: limits, fairness, budgets, and what is remembered (C9, C22). */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "failmem.h"
#include "targets/turns_private.h"
#include "turns_desk.h"
#include "unit.h"

#define MANY 128

static struct desk d;
static struct asker a[MANY];

static void all_leave(unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        desk_leave(&d, &a[i]);
}

/* --- limits --------------------------------------------------------------------------------------- */

START_TEST(never_more_at_once_and_nobody_waits_behind_a_crowd)
{
    desk_init(&d, 1, 1);
    d.upstreams[0].max_concurrency = 3;
    for (unsigned i = 0; i < 103; i++)
        desk_ask(&d, &a[i], 1);
    ck_assert_int_eq(desk_ask(&d, &a[103], 2), TURN_WAITING);
    ck_assert_uint_eq(desk_count(a, 104, TURN_GRANTED), 3);
    ck_assert_uint_eq(turns_waiting(d.turns), 101);
    desk_end(&d, &a[0]);
    desk_end(&d, &a[1]);
    ck_assert_int_eq(a[103].turn.state, TURN_GRANTED); /* not behind all of the other's */
    ck_assert_int_eq(a[3].turn.state, TURN_GRANTED);
    for (unsigned i = 2; i < 103; i++) { /* first in, first out */
        ck_assert_int_eq(a[i].turn.state, TURN_GRANTED);
        ck_assert_uint_le(desk_in_flight(&d, 0), 3);
        desk_good(&d, &a[i]);
    }
    desk_good(&d, &a[103]);
    desk_deinit(&d);
}
END_TEST

START_TEST(clients_take_turns)
{
    unsigned served[3] = {0};

    desk_init(&d, 1, 0); /* each with credentials of its own, at one upstream */
    d.upstreams[0].max_concurrency = 1;
    desk_ask(&d, &a[120], 9);
    for (unsigned i = 0; i < 60; i++)
        desk_ask(&d, &a[i], 1 + i % 3);
    desk_end(&d, &a[120]);
    for (unsigned n = 0; n < 30; n++) {
        for (unsigned i = 0; i < 60; i++) {
            if (a[i].turn.state == TURN_GRANTED) {
                served[i % 3]++;
                desk_end(&d, &a[i]);
                break;
            }
        }
    }
    for (unsigned i = 0; i < 3; i++)
        ck_assert_uint_eq(served[i], 10);
    for (unsigned i = 0; i < 60; i++)
        desk_leave(&d, &a[i]);
    desk_deinit(&d);
}
END_TEST

/* Whoever was there first and has left: a client has one place among the others. */
START_TEST(a_client_has_one_turn_before_the_next_one_has)
{
    static const unsigned clients[] = {9, 1, 2, 2, 3}, order[] = {2, 4, 3};

    desk_init(&d, 1, 1);
    d.upstreams[0].max_concurrency = 1;
    for (unsigned i = 0; i < 5; i++) {
        ck_assert_int_eq(desk_ask(&d, &a[i], clients[i]), i ? TURN_WAITING : TURN_GRANTED);
        if (i == 2)
            desk_leave(&d, &a[1]);
    }
    desk_end(&d, &a[0]);
    for (unsigned i = 0; i < 3; i++)
        desk_end(&d, &a[order[i]]);
    desk_deinit(&d);
}
END_TEST

START_TEST(requests_per_minute_are_spaced)
{
    desk_init(&d, 1, 1);
    d.upstreams[0].requests_per_minute = 120; /* two at once, then one each half second */
    for (unsigned i = 0; i < 20; i++)
        desk_ask(&d, &a[i], i == 19 ? 2 : 1);
    ck_assert_uint_eq(desk_count(a, 20, TURN_GRANTED), 2);
    ck_assert_int_eq(a[2].turn.why, TURN_WHY_LIMIT);
    for (unsigned i = 0; i < 18; i++) {
        uint64_t at = DESK_START + 500 * (i + 1);

        desk_wait(&d, at - 1);
        ck_assert_uint_eq(desk_count(a, 20, TURN_GRANTED), 2 + i);
        desk_wait(&d, at);
        ck_assert_uint_eq(desk_count(a, 20, TURN_GRANTED), 3 + i);
        if (i == 1)
            ck_assert_int_eq(a[19].turn.state, TURN_GRANTED); /* the other client's */
    }
    ck_assert_uint_eq(d.world.next_ms, TURNS_NEVER);
    ck_assert_uint_eq(d.events[TURNS_RATE_TAKEN], 20);
    for (unsigned i = 0; i < 20; i++)
        desk_end(&d, &a[i]);
    desk_deinit(&d);
}
END_TEST

/* The timer that lets it through may be a moment late. */
START_TEST(a_newcomer_does_not_overtake_by_another_target)
{
    desk_init(&d, 1, 0);
    d.upstreams[0].requests_per_minute = 60;
    desk_ask(&d, &a[0], 1);
    ck_assert_int_eq(desk_ask(&d, &a[1], 1), TURN_WAITING);
    d.now_ms += 1001;
    ck_assert_int_eq(desk_ask(&d, &a[2], 2), TURN_WAITING);
    ck_assert_int_eq(a[1].turn.state, TURN_GRANTED);
    desk_leave(&d, &a[2]);
    desk_end(&d, &a[0]);
    desk_end(&d, &a[1]);
    desk_deinit(&d);
}
END_TEST

START_TEST(a_limit_that_comes_too_late_is_refused_at_once)
{
    desk_init(&d, 1, 1);
    d.upstreams[0].requests_per_minute = 60;
    desk_ask(&d, &a[0], 1);
    for (unsigned i = 1; i < 3; i++) {
        desk_turn_request(&d, &a[i]);
        a[i].turn_request.latest_ms = DESK_START + 998 + i;
        ck_assert_int_eq(desk_ask_again(&d, &a[i]), i == 1 ? TURN_REFUSED : TURN_WAITING);
        ck_assert_int_eq(a[i].turn.why, TURN_WHY_LIMIT);
    }
    ck_assert_uint_eq(a[1].turn.ready_ms, DESK_START + 1000);
    all_leave(3);
    desk_deinit(&d);
}
END_TEST

START_TEST(the_queue_has_a_size)
{
    desk_init(&d, 1, 1);
    d.settings.queue.size = 5;
    d.upstreams[0].max_concurrency = 1;
    for (unsigned i = 0; i < 8; i++)
        desk_ask(&d, &a[i], i);
    ck_assert_uint_eq(desk_count(a, 8, TURN_WAITING), 5);
    ck_assert_uint_eq(desk_count(a, 8, TURN_REFUSED), 2);
    ck_assert_int_eq(a[7].turn.why, TURN_WHY_QUEUE_FULL);
    desk_leave(&d, &a[3]);
    desk_leave(&d, &a[7]);
    ck_assert_int_eq(desk_ask(&d, &a[7], 7), TURN_WAITING);
    all_leave(8);
    desk_deinit(&d);
}
END_TEST

START_TEST(pacing_follows_429s_without_a_hint)
{
    desk_init(&d, 1, 1);
    d.upstreams[0].adaptive_pacing = true;
    for (unsigned i = 0; i < 2; i++) {
        desk_ask(&d, &a[0], 1);
        desk_bad(&d, &a[0], REASON_RATE_LIMIT, 429, 0);
        desk_wait(&d, d.now_ms + 10);
    }
    ck_assert_uint_eq(d.events[TURNS_PACE], 1);
    ck_assert(d.last[TURNS_PACE].per_minute > 0);
    ck_assert_int_eq(desk_ask(&d, &a[0], 1), TURN_WAITING);
    ck_assert_int_eq(a[0].turn.why, TURN_WHY_PACE);
    desk_wait(&d, d.now_ms + 20000);
    desk_good(&d, &a[0]);
    desk_deinit(&d);
}
END_TEST

/* --- budgets -------------------------------------------------------------------------------------- */

static unsigned repeats(const struct retry_settings *s)
{
    unsigned n = 0;

    while (n < 1000 && turns_may_repeat(d.turns, &d.upstreams[0], s))
        n++;
    return n;
}

START_TEST(only_the_first_time_at_an_upstream_is_a_request)
{
    const struct retry_settings s = {.budget_percent = 20};

    desk_init(&d, 2, 1);
    for (unsigned i = 0; i < 20; i++) {
        desk_turn_request(&d, &a[0]);
        a[0].turn_request.visited = i < 10 ? 1u << 1 : 1u << 0; /* the other one; this one */
        ck_assert_int_eq(desk_ask_again(&d, &a[0]), TURN_GRANTED);
        desk_good(&d, &a[0]);
    }
    ck_assert_uint_eq(repeats(&s), 2); /* of ten requests */
    d.now_ms += 10000;
    ck_assert_uint_eq(repeats(&s), 0);
    desk_deinit(&d);
}
END_TEST

START_TEST(what_sdks_repeat_is_charged_and_shared_by_all_keys)
{
    const struct retry_settings s = {.budget_min = 1}; /* ten in ten seconds */

    desk_init(&d, 1, 2);
    for (unsigned i = 0; i < 4; i++)
        turns_charge(d.turns, &d.upstreams[0]);
    ck_assert_uint_eq(repeats(&s), 6);
    turns_charge(d.turns, &d.upstreams[0]); /* allowed or not */
    d.now_ms += 10000;
    ck_assert_uint_eq(repeats(&s), 10);
    desk_deinit(&d);
}
END_TEST

/* --- other daemons -------------------------------------------------------------------------------- */

/* The ids of the first upstream's upstream, its "m" there, and its first key: from another daemon. */
static void learn_ids(uint64_t *ret_upstream, uint64_t *ret_model, uint64_t *ret_target)
{
    desk_init(&d, 1, 1);
    d.settings.breaker =
        (struct breaker_settings){.failures = 1, .window_ms = 10000, .open_for_ms = 1000};
    d.upstreams[0].requests_per_minute = 60;
    desk_ask(&d, a, 1);
    desk_bad(&d, a, REASON_RATE_LIMIT, 429, 1000);
    desk_wait(&d, DESK_START + 2000);
    desk_ask(&d, a, 1);
    desk_bad(&d, a, REASON_SERVER_ERROR, 500, 0);
    *ret_upstream = d.upstream_id;
    *ret_model = d.model_id;
    *ret_target = d.target_id;
    desk_deinit(&d);
}

START_TEST(what_is_learned_counts_before_and_after_the_target_is_known)
{
    uint64_t upstream, model_state, state;

    learn_ids(&upstream, &model_state, &state);
    for (unsigned known = 0; known < 2; known++) {
        for (unsigned what = 0; what < 2; what++) {
            desk_init(&d, 1, 1);
            if (known) {
                desk_ask(&d, a, 1);
                desk_end(&d, a);
            }
            if (what == 0)
                turns_learn_gate(d.turns, state, 3000);
            else
                turns_learn_breaker(d.turns, model_state, true, 3000);
            ck_assert_int_eq(desk_ask(&d, a, 1), TURN_WAITING);
            ck_assert_int_eq(a->turn.why, what == 0 ? TURN_WHY_GATE : TURN_WHY_BREAKER);
            desk_wait(&d, DESK_START + 2999);
            ck_assert_int_eq(a->turn.state, TURN_WAITING);
            desk_wait(&d, DESK_START + 3000);
            desk_end(&d, a);
            desk_deinit(&d);
        }
    }
}
END_TEST

START_TEST(a_breaker_that_another_has_closed_lets_those_who_wait_go)
{
    uint64_t upstream, model_state, state;

    learn_ids(&upstream, &model_state, &state);
    desk_init(&d, 1, 1);
    turns_learn_breaker(d.turns, model_state, true, 3000);
    for (unsigned i = 0; i < 5; i++)
        ck_assert_int_eq(desk_ask(&d, &a[i], 1), TURN_WAITING);
    turns_learn_breaker(d.turns, model_state, false, 0);
    ck_assert_uint_eq(desk_count(a, 5, TURN_GRANTED), 1); /* in steps */
    ck_assert_uint_eq(d.events[TURNS_BREAKER_CLOSED], 1);
    ck_assert(d.last[TURNS_BREAKER_CLOSED].learned);
    all_leave(5);
    /* It is forgotten that an unknown target was shut. */
    turns_learn_breaker(d.turns, model_state + 1, true, 3000);
    turns_learn_breaker(d.turns, model_state + 1, false, 0);
    desk_deinit(&d);
}
END_TEST

START_TEST(others_take_from_the_same_rate)
{
    uint64_t upstream, model_state, state;

    learn_ids(&upstream, &model_state, &state);
    desk_init(&d, 1, 1);
    d.upstreams[0].requests_per_minute = 60;
    turns_learn_rate(d.turns, upstream, 5000000); /* it is not known yet: no matter */
    desk_ask(&d, &a[0], 1);
    ck_assert_int_eq(desk_ask(&d, &a[1], 1), TURN_WAITING);
    turns_learn_rate(d.turns, upstream, 5000000);
    desk_wait(&d, DESK_START + 4999);
    ck_assert_int_eq(a[1].turn.state, TURN_WAITING);
    desk_wait(&d, DESK_START + 5000);
    desk_end(&d, &a[1]);
    desk_end(&d, &a[0]);
    desk_deinit(&d);
}
END_TEST

/* --- crowds --------------------------------------------------------------------------------------- */

#define CROWD 300
static struct asker crowd[CROWD];

/* Each waits behind a gate of its own, and all of these open at once. */
START_TEST(a_crowd_with_keys_of_their_own_wakes_whole)
{
    desk_init(&d, 1, 0);
    for (unsigned i = 0; i < CROWD; i++) {
        ck_assert_int_eq(desk_ask(&d, &crowd[i], 1 + i), TURN_GRANTED);
        desk_bad(&d, &crowd[i], REASON_RATE_LIMIT, 429, 5000);
        ck_assert_int_eq(desk_ask(&d, &crowd[i], 1 + i), TURN_WAITING);
    }
    desk_wait(&d, DESK_START + 4999);
    ck_assert_uint_eq(desk_count(crowd, CROWD, TURN_GRANTED), 0);
    ck_assert_int_eq(desk_ask(&d, a, 1 + CROWD), TURN_GRANTED); /* is held up by none of them */
    desk_good(&d, a);
    desk_wait(&d, DESK_START + 5000);
    ck_assert_uint_eq(desk_count(crowd, CROWD, TURN_GRANTED), CROWD);
    for (unsigned i = 0; i < CROWD; i++)
        desk_end(&d, &crowd[i]);
    desk_deinit(&d);
}
END_TEST

/* A place of the upstream's goes to each of them in turn, though half are held by their gates, too. */
START_TEST(a_crowd_with_keys_of_their_own_takes_turns)
{
    desk_init(&d, 1, 0);
    for (unsigned i = 0; i < CROWD / 2; i++) {
        ck_assert_int_eq(desk_ask(&d, &crowd[i], 1 + i), TURN_GRANTED);
        desk_bad(&d, &crowd[i], REASON_RATE_LIMIT, 429, 5000);
    }
    d.upstreams[0].max_concurrency = 1;
    ck_assert_int_eq(desk_ask(&d, a, 1 + CROWD), TURN_GRANTED);
    for (unsigned i = 0; i < CROWD; i++)
        ck_assert_int_eq(desk_ask(&d, &crowd[i], 1 + i), TURN_WAITING);
    desk_end(&d, a);
    for (unsigned i = CROWD / 2; i < CROWD; i++) {
        ck_assert_int_eq(crowd[i].turn.state, TURN_GRANTED);
        ck_assert_uint_eq(desk_count(crowd, CROWD, TURN_GRANTED), 1);
        desk_end(&d, &crowd[i]);
    }
    ck_assert_uint_eq(desk_count(crowd, CROWD, TURN_WAITING), CROWD / 2);
    desk_wait(&d, DESK_START + 5000);
    for (unsigned i = 0; i < CROWD / 2; i++) {
        ck_assert_int_eq(crowd[i].turn.state, TURN_GRANTED);
        ck_assert_uint_eq(desk_count(crowd, CROWD, TURN_GRANTED), 1);
        desk_end(&d, &crowd[i]);
        desk_wait(&d, d.now_ms);
    }
    desk_deinit(&d);
}
END_TEST

/* --- memory --------------------------------------------------------------------------------------- */

static void fill_with_targets_that_are(enum reason reason, unsigned status, uint64_t hint_ms)
{
    for (uint64_t i = 0; i < TARGETS_MAX; i++) {
        ck_assert_int_eq(desk_ask(&d, a, 1 + i), TURN_GRANTED);
        ck_assert_ptr_nonnull(a->turn.target_state);
        if (status)
            desk_bad(&d, a, reason, status, hint_ms);
        else
            desk_good(&d, a);
    }
}

/* The first of them is shut. */
static void fill_with_targets(void)
{
    desk_ask(&d, a, 1);
    desk_bad(&d, a, REASON_RATE_LIMIT, 429, 100000);
    for (uint64_t i = 2; i <= TARGETS_MAX; i++) {
        ck_assert_int_eq(desk_ask(&d, a, i), TURN_GRANTED);
        desk_good(&d, a);
    }
}

struct seen {
    enum turns_view_kind kind;
    unsigned count;
};

static void count(void *arg, const struct turns_view *v)
{
    struct seen *s = arg;

    s->count += v->kind == s->kind;
}

static unsigned known(struct desk *desk, enum turns_view_kind kind)
{
    struct seen s = {kind, 0};
    uint64_t at = 0;

    while (turns_each(desk->turns, &at, count, &s)) {
    }
    return s.count;
}

START_TEST(what_was_used_least_lately_makes_room_but_not_what_is_shut)
{
    desk_init(&d, 1, 0);
    fill_with_targets();
    d.now_ms++;
    ck_assert_int_eq(desk_ask(&d, a, 900000), TURN_GRANTED);
    desk_bad(&d, a, REASON_RATE_LIMIT, 429, 5000);
    ck_assert_int_eq(desk_ask(&d, &a[0], 900000), TURN_WAITING);
    ck_assert_int_eq(desk_ask(&d, &a[1], 1), TURN_WAITING); /* is still shut */
    all_leave(2);
    ck_assert_uint_le(known(&d, VIEW_TARGET), TARGETS_MAX);
    ck_assert_uint_le(known(&d, VIEW_KEY), TARGETS_MAX);
    desk_deinit(&d);
}
END_TEST

/* With any number of clients, none bypasses the limits of its model. */
START_TEST(where_all_are_shut_those_without_room_share_a_gate)
{
    desk_init(&d, 1, 0);
    fill_with_targets_that_are(REASON_RATE_LIMIT, 429, 100000);
    d.now_ms++;
    ck_assert_int_eq(desk_ask(&d, &a[0], 900000), TURN_GRANTED);
    ck_assert_int_eq(desk_ask(&d, &a[1], 900001), TURN_GRANTED);
    ck_assert_ptr_nonnull(a[0].turn.target_state);
    ck_assert_ptr_eq(a[0].turn.target_state, a[1].turn.target_state);
    desk_bad(&d, &a[0], REASON_RATE_LIMIT, 429, 5000);
    desk_good(&d, &a[1]);
    ck_assert_int_eq(desk_ask(&d, &a[2], 900002), TURN_WAITING);
    ck_assert_int_eq(a[2].turn.why, TURN_WHY_GATE);
    desk_wait(&d, d.now_ms + 5000);
    ck_assert_int_eq(a[2].turn.state, TURN_GRANTED);
    desk_end(&d, &a[2]);
    ck_assert_uint_le(known(&d, VIEW_TARGET), TARGETS_MAX + 1);
    desk_deinit(&d);
}
END_TEST

/* The same holds for limits, and for models that there is no room to remember. */
START_TEST(limits_hold_for_any_number_of_models)
{
    char model[24];

    desk_init(&d, 1, 1);
    d.settings.breaker = (struct breaker_settings){.failures = 1, .open_for_ms = 100000};
    for (unsigned i = 0; i < TARGETS_MAX; i++) {
        snprintf(model, sizeof(model), "m%u", i);
        desk_turn_request(&d, a);
        a->turn_request.model = str_from(model);
        ck_assert_int_eq(desk_ask_again(&d, a), TURN_GRANTED);
        desk_bad(&d, a, REASON_SERVER_ERROR, 500, 0);
    }
    d.upstreams[0].max_concurrency = 2;
    for (unsigned i = 0; i < 3; i++) {
        desk_turn_request(&d, &a[i]);
        a[i].turn_request.model = i == 0 ? STR("x") : i == 1 ? STR("y") : STR("z");
        ck_assert_int_eq(desk_ask_again(&d, &a[i]), i < 2 ? TURN_GRANTED : TURN_WAITING);
    }
    ck_assert_ptr_eq(a[0].turn.target_state, a[1].turn.target_state);
    desk_good(&d, &a[0]);
    ck_assert_int_eq(a[2].turn.state, TURN_GRANTED);
    all_leave(3);
    ck_assert_uint_le(known(&d, VIEW_MODEL), TARGETS_MAX + 1);
    desk_deinit(&d);
}
END_TEST

/* Asserts nothing. */
static void use_model(unsigned number)
{
    char model[16];

    snprintf(model, sizeof(model), "m%u", number);
    desk_turn_request(&d, a);
    a->turn_request.model = str_from(model);
    (void)desk_ask_again(&d, a);
    turns_leave(d.turns, &a->turn);
}

#define MODELS_FIRST 1000u
#define MODELS_ALL 5000u

static void count_model(void *arg, const struct turns_view *v)
{
    unsigned *seen = arg;

    if (v->kind == VIEW_MODEL)
        seen[strtoul(v->model + 1, NULL, 10)]++;
}

START_TEST(the_view_is_whole_though_the_table_grows_meanwhile)
{
    static unsigned seen[MODELS_ALL];
    unsigned used = 0, calls = 0;
    uint64_t at = 0;

    desk_init(&d, 1, 1);
    while (used < MODELS_FIRST)
        use_model(used++);
    while (turns_each(d.turns, &at, count_model, seen)) {
        calls++;
        while (used < MODELS_ALL && used < MODELS_FIRST << calls)
            use_model(used++);
    }
    ck_assert_uint_gt(calls, 3);
    for (unsigned i = 0; i < MODELS_ALL; i++)
        ck_assert(seen[i] == 1 || (seen[i] == 0 && i >= MODELS_FIRST));
    desk_deinit(&d);
}
END_TEST

/* Without memory for a larger table the one that there is serves on. */
START_TEST(a_table_that_cannot_grow_knows_all_the_same)
{
    bool failed = true;

    for (size_t n = 1; failed; n++) {
        desk_init(&d, 1, 1);
        failmem_arm(n);
        for (unsigned i = 0; i < 70; i++)
            use_model(i);
        failed = failmem_disarm();
        ck_assert_uint_ge(known(&d, VIEW_TARGET), 70 - failed);
        desk_deinit(&d);
    }
}
END_TEST

/* Whether one more model gets a target of its own when TARGETS_MAX of them were shut in this way,
 * long ago. */
static bool has_room_after(enum reason reason, unsigned status, uint64_t hint_ms)
{
    char model[16];
    bool own = false;

    desk_init(&d, 1, 0);
    d.upstreams[0].adaptive_pacing = true;
    d.settings.breaker = (struct breaker_settings){.failures = 1, .open_for_ms = 1000};
    for (unsigned i = 0; i <= TARGETS_MAX; i++) {
        if (i == TARGETS_MAX)
            d.now_ms += 1000 + IDLE_MS;
        snprintf(model, sizeof(model), "m%u", i);
        for (unsigned k = 0; k < (hint_ms || status >= 500 ? 1 : PACE_REPEATED); k++) {
            desk_turn_request(&d, a);
            a->turn_request.model = str_from(model);
            ck_assert_int_eq(desk_ask_again(&d, a), TURN_GRANTED);
            own = !strcmp(a->turn.target_state->model_state->model, model);
            desk_bad(&d, a, reason, status, hint_ms);
            d.now_ms += GATE_COLD_MS;
        }
    }
    desk_deinit(&d);
    return own;
}

/* A gate and a breaker move on, and a pace ends, only when somebody asks there again. */
START_TEST(what_was_shut_long_ago_makes_room)
{
    ck_assert(has_room_after(REASON_RATE_LIMIT, 429, 1000));
    ck_assert(has_room_after(REASON_SERVER_ERROR, 500, 0));
    ck_assert(has_room_after(REASON_RATE_LIMIT, 429, 0));
}
END_TEST

/* Lack of memory fails one request at the most. */
START_TEST(each_failed_allocation_is_survived)
{
    for (size_t n = 1;; n++) {
        enum turn_state first, second;
        bool failed;

        desk_init(&d, 1, 1);
        d.upstreams[0].max_concurrency = 1;
        failmem_arm(n);
        first = desk_ask(&d, &a[0], 1);
        second = desk_ask(&d, &a[1], 1);
        turns_learn_gate(d.turns, 4711, 1000);
        turns_may_repeat(d.turns, &d.upstreams[0], &d.settings.retry);
        failed = failmem_disarm();
        ck_assert_int_eq(first, TURN_GRANTED);
        if (second == TURN_REFUSED)
            ck_assert_int_eq(a[1].turn.why, TURN_WHY_QUEUE_FULL);
        ck_assert(failed || second == TURN_WAITING);
        desk_end(&d, &a[0]);
        if (second != TURN_REFUSED)
            desk_end(&d, &a[1]);
        ck_assert_int_eq(desk_ask(&d, &a[2], 1), TURN_GRANTED);
        desk_end(&d, &a[2]);
        desk_leave(&d, &a[1]);
        desk_deinit(&d);
        if (!failed)
            break;
        ck_assert_uint_lt(n, 20);
    }
}
END_TEST

START_TEST(no_registry_without_memory)
{
    struct fake_turns world;
    uint64_t now_ms = 0;

    failmem_arm(1);
    ck_assert_ptr_null(fake_turns_new(&world, &now_ms, NULL, NULL));
    failmem_disarm();
    turns_free(NULL);
}
END_TEST

/* The same upstream by its id, in another snapshot. */
START_TEST(a_reload_changes_limits_and_forgets_nothing)
{
    struct upstream anew;
    const struct upstream *list[1] = {&anew};
    struct plan plan;

    desk_init(&d, 1, 1);
    d.upstreams[0].max_concurrency = 1;
    anew = d.upstreams[0];
    anew.max_concurrency = 3;
    anew.generation = 1;
    plan = d.plan;
    plan.upstreams = list;
    desk_ask(&d, &a[0], 1);
    ck_assert_int_eq(desk_ask(&d, &a[1], 1), TURN_WAITING);
    for (unsigned i = 2; i < 5; i++) {
        desk_turn_request(&d, &a[i]);
        a[i].turn_request.plan = &plan;
        ck_assert_int_eq(desk_ask_again(&d, &a[i]), i < 3 ? TURN_GRANTED : TURN_WAITING);
    }
    ck_assert_int_eq(a[1].turn.state, TURN_GRANTED); /* who came before the reload, too */
    ck_assert_ptr_eq(a[2].turn.target.upstream, &anew);
    ck_assert_uint_eq(desk_in_flight(&d, 0), 3);
    desk_bad(&d, &a[0], REASON_RATE_LIMIT, 429, 1000); /* holds those of the new one, too */
    desk_end(&d, &a[1]);
    desk_end(&d, &a[2]);
    ck_assert_uint_eq(desk_count(a, 5, TURN_WAITING), 2);
    desk_wait(&d, DESK_START + 1000);
    ck_assert_uint_eq(desk_count(a, 5, TURN_GRANTED), 1);
    all_leave(5);
    desk_deinit(&d);
}
END_TEST

/* Nobody new need come for that. */
START_TEST(a_reload_lets_those_go_who_wait)
{
    struct upstream anew;

    for (unsigned by_rate = 0; by_rate < 2; by_rate++) {
        desk_init(&d, 1, 1);
        d.upstreams[0].max_concurrency = by_rate ? 0 : 1;
        d.upstreams[0].requests_per_minute = by_rate ? 6 : 0;
        anew = d.upstreams[0];
        turns_limits(d.turns, &anew); /* of which nothing is known yet */
        for (unsigned i = 0; i < 4; i++)
            desk_ask(&d, &a[i], 1);
        ck_assert_uint_eq(desk_count(a, 4, TURN_WAITING), 3);
        turns_limits(d.turns, &anew);
        ck_assert_uint_eq(desk_count(a, 4, TURN_WAITING), 3);
        anew.generation++;
        anew.max_concurrency = by_rate ? 0 : 3;
        anew.requests_per_minute = by_rate ? 120 : 0; /* two a second, and at once */
        turns_limits(d.turns, &anew);
        ck_assert_uint_eq(desk_count(a, 4, TURN_WAITING), 1);
        anew.generation++;
        anew.max_concurrency = 0;
        anew.requests_per_minute = 0;
        turns_limits(d.turns, &anew);
        ck_assert_uint_eq(desk_count(a, 4, TURN_WAITING), 0);
        all_leave(4);
        desk_deinit(&d);
    }
}
END_TEST

/* --- doors ---------------------------------------------------------------------------------------- */

START_TEST(a_door_is_woken_once_for_all_its_news)
{
    struct turn_result limited = {
        .verdict = {.kind = VERDICT_RETRY, .reason = REASON_RATE_LIMIT},
        .status = 429,
        .hint = {HINT_RETRY_AFTER_MS, 9000},
    };

    desk_init(&d, 1, 1);
    desk_ask(&d, &a[0], 1);
    desk_ask(&d, &a[4], 1);
    desk_bad(&d, &a[0], REASON_RATE_LIMIT, 429, 2000);
    for (unsigned i = 1; i < 4; i++) {
        desk_turn_request(&d, &a[i]);
        a[i].turn_request.latest_ms = DESK_START + 5000;
        ck_assert_int_eq(desk_ask_again(&d, &a[i]), TURN_WAITING);
    }
    desk_leave(&d, &a[2]);
    ck_assert_uint_eq(d.wakes, 0);
    turns_tell(d.turns, &a[4].turn, &limited);
    ck_assert_uint_eq(d.wakes, 1);
    ck_assert_ptr_eq(turns_ready_take(d.turns, &d.ready), &a[1].turn);
    ck_assert_ptr_eq(turns_ready_take(d.turns, &d.ready), &a[3].turn);
    ck_assert_ptr_null(turns_ready_take(d.turns, &d.ready));
    turns_tell(d.turns, &a[4].turn, &limited); /* nothing changes, nobody is told */
    ck_assert_uint_eq(d.wakes, 1);
    desk_end(&d, &a[4]);
    desk_leave(&d, &a[1]);
    desk_leave(&d, &a[3]);
    desk_deinit(&d);
}
END_TEST

START_TEST(one_who_left_is_told_nothing)
{
    desk_init(&d, 1, 1);
    d.upstreams[0].max_concurrency = 1;
    for (unsigned i = 0; i < 3; i++)
        desk_ask(&d, &a[i], 1);
    turns_end(d.turns, &a[0].turn); /* a[1] is let through and told so ... */
    ck_assert_uint_eq(d.wakes, 1);
    desk_leave(&d, &a[1]); /* ... and leaves without having heard: the next one goes */
    ck_assert_ptr_eq(turns_ready_take(d.turns, &d.ready), &a[2].turn);
    ck_assert_ptr_null(turns_ready_take(d.turns, &d.ready));
    ck_assert_int_eq(a[2].turn.state, TURN_GRANTED);
    desk_end(&d, &a[2]);
    desk_deinit(&d);
}
END_TEST

/* A worker may look at its requests for another reason, find one let through, and be done with its
 * attempt before it comes to its ready list's news. */
START_TEST(one_who_is_done_is_told_nothing)
{
    desk_init(&d, 1, 1);
    d.upstreams[0].max_concurrency = 1;
    for (unsigned i = 0; i < 2; i++)
        desk_ask(&d, &a[i], 1);
    turns_end(d.turns, &a[0].turn);
    ck_assert_int_eq(a[1].turn.state, TURN_GRANTED);
    turns_end(d.turns, &a[1].turn);
    ck_assert_ptr_null(turns_ready_take(d.turns, &d.ready));
    desk_deinit(&d);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *c = unit_case(suite, "limits");

    tcase_add_test(c, never_more_at_once_and_nobody_waits_behind_a_crowd);
    tcase_add_test(c, clients_take_turns);
    tcase_add_test(c, a_client_has_one_turn_before_the_next_one_has);
    tcase_add_test(c, requests_per_minute_are_spaced);
    tcase_add_test(c, a_newcomer_does_not_overtake_by_another_target);
    tcase_add_test(c, a_limit_that_comes_too_late_is_refused_at_once);
    tcase_add_test(c, the_queue_has_a_size);
    tcase_add_test(c, pacing_follows_429s_without_a_hint);
    tcase_add_test(c, only_the_first_time_at_an_upstream_is_a_request);
    tcase_add_test(c, what_sdks_repeat_is_charged_and_shared_by_all_keys);
    tcase_add_test(c, what_is_learned_counts_before_and_after_the_target_is_known);
    tcase_add_test(c, a_breaker_that_another_has_closed_lets_those_who_wait_go);
    tcase_add_test(c, others_take_from_the_same_rate);
    tcase_add_test(c, a_crowd_with_keys_of_their_own_wakes_whole);
    tcase_add_test(c, a_crowd_with_keys_of_their_own_takes_turns);
    tcase_add_test(c, what_was_used_least_lately_makes_room_but_not_what_is_shut);
    tcase_add_test(c, where_all_are_shut_those_without_room_share_a_gate);
    tcase_add_test(c, limits_hold_for_any_number_of_models);
    tcase_add_test(c, the_view_is_whole_though_the_table_grows_meanwhile);
    tcase_add_test(c, a_table_that_cannot_grow_knows_all_the_same);
    tcase_add_test(c, what_was_shut_long_ago_makes_room);
    tcase_add_test(c, each_failed_allocation_is_survived);
    tcase_add_test(c, no_registry_without_memory);
    tcase_add_test(c, a_reload_lets_those_go_who_wait);
    tcase_add_test(c, a_reload_changes_limits_and_forgets_nothing);
    tcase_add_test(c, a_door_is_woken_once_for_all_its_news);
    tcase_add_test(c, one_who_left_is_told_nothing);
    tcase_add_test(c, one_who_is_done_is_told_nothing);
}
