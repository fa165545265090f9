/* The target that a turn is granted at: order and shares, keys, gates and breakers (C4, C18 to
 * C20). */
#include <check.h>
#include <string.h>

#include "turns_desk.h"
#include "unit.h"

#define FULL 40

static struct desk d;
static struct asker a[FULL];
static struct target_key many[KEYS_MAX];

/* Returns the number of the upstream that a request would go to now; -1: none. */
static int goes_to(const struct asker *who)
{
    if (who->turn.state != TURN_GRANTED)
        return -1;
    return (int)(who->turn.target.upstream - d.upstreams);
}

static void ask_and_end(struct asker *who, int upstream, unsigned key)
{
    ck_assert_int_eq(desk_ask_again(&d, who), TURN_GRANTED);
    ck_assert_int_eq(goes_to(who), upstream);
    ck_assert_uint_eq(who->turn.target.key_number, key);
    desk_end(&d, who);
}

/* --- order ---------------------------------------------------------------------------------------- */

START_TEST(the_first_upstream_that_is_free)
{
    desk_init(&d, 2, 1);
    d.upstreams[0].max_concurrency = 1;
    d.upstreams[1].max_concurrency = 1;
    for (unsigned i = 0; i < 3; i++)
        desk_ask(&d, &a[i], 1);
    ck_assert_int_eq(goes_to(&a[0]), 0);
    ck_assert_int_eq(goes_to(&a[1]), 1);
    ck_assert_int_eq(a[2].turn.state, TURN_WAITING);
    ck_assert_int_eq(a[2].turn.why, TURN_WHY_LIMIT);
    desk_end(&d, &a[1]);
    ck_assert_int_eq(goes_to(&a[2]), 1);
    desk_end(&d, &a[0]);
    desk_end(&d, &a[2]);
    desk_deinit(&d);
}
END_TEST

START_TEST(shares_by_weight_and_those_without_one_last)
{
    static const unsigned weights[] = {1, 0, 3};
    unsigned went[3] = {0};

    desk_init(&d, 3, 1);
    d.plan.weights = weights;
    for (unsigned i = 0; i < FULL; i++) {
        desk_turn_request(&d, &a[i]);
        a[i].turn_request.random = i;
        ck_assert_int_eq(desk_ask_again(&d, &a[i]), TURN_GRANTED);
        went[goes_to(&a[i])]++;
        desk_good(&d, &a[i]);
    }
    ck_assert_uint_eq(went[0], FULL / 4);
    ck_assert_uint_eq(went[1], 0);
    ck_assert_uint_eq(went[2], FULL / 4 * 3);
    d.upstreams[0].max_concurrency = d.upstreams[2].max_concurrency = 1;
    for (unsigned i = 0; i < 3; i++)
        desk_ask(&d, &a[i], 1); /* each time with the same draw */
    ck_assert_int_eq(goes_to(&a[0]), 0);
    ck_assert_int_eq(goes_to(&a[1]), 2);
    ck_assert_int_eq(goes_to(&a[2]), 1);
    for (unsigned i = 0; i < 3; i++)
        desk_end(&d, &a[i]);
    desk_deinit(&d);
}
END_TEST

/* The requests of an upstream that is down are shared among the others, not sent to the next one
 * alone. */
START_TEST(those_who_stand_in_share_by_weight)
{
    static const unsigned weights[] = {2, 1, 1};
    unsigned went[3] = {0};

    desk_init(&d, 3, 1);
    d.plan.weights = weights;
    d.settings.breaker = (struct breaker_settings){.failures = 1, .open_for_ms = 1000};
    desk_ask(&d, a, 1);
    ck_assert_int_eq(goes_to(a), 0);
    desk_bad(&d, a, REASON_SERVER_ERROR, 500, 0);
    for (unsigned i = 0; i < 1000; i++) {
        desk_turn_request(&d, a);
        a->turn_request.random = i;
        ck_assert_int_eq(desk_ask_again(&d, a), TURN_GRANTED);
        went[goes_to(a)]++;
        desk_good(&d, a);
    }
    ck_assert_uint_eq(went[0], 0);
    ck_assert_uint_gt(went[1], 450);
    ck_assert_uint_gt(went[2], 450);
    desk_deinit(&d);
}
END_TEST

START_TEST(tried_last_excluded_never_only_that_one)
{
    struct target_ref tried, out[2];
    struct target only;

    desk_init(&d, 2, 2);
    tried = (struct target_ref){&d.upstreams[0], 1};
    desk_turn_request(&d, a);
    a->turn_request.tried = &tried;
    a->turn_request.tried_count = 1;
    ask_and_end(a, 0, 2);
    tried.key_number = KEY_ANY;
    ask_and_end(a, 1, 1);
    a->turn_request.tried_count = 0;
    out[0] = (struct target_ref){&d.upstreams[0], KEY_ANY};
    out[1] = (struct target_ref){&d.upstreams[1], 1};
    a->turn_request.excluded = out;
    a->turn_request.excluded_count = 2;
    ask_and_end(a, 1, 2);
    only = (struct target){.upstream = &d.upstreams[1], .key_number = 1};
    a->turn_request.only =
        &only; /* a stream is read on where it was begun, whatever else is known */
    ask_and_end(a, 1, 1);
    desk_deinit(&d);
}
END_TEST

/* Else a repeat would be charged to another upstream's budget than to that which it goes to. */
START_TEST(one_who_looks_sees_where_one_who_asks_would_go)
{
    struct target_ref tried[2];
    struct turns_outlook here;

    desk_init(&d, 3, 2);
    tried[0] = (struct target_ref){&d.upstreams[0], 1};       /* one key was limited */
    tried[1] = (struct target_ref){&d.upstreams[1], KEY_ANY}; /* an upstream was silent */
    desk_turn_request(&d, a);
    a->turn_request.tried = tried;
    a->turn_request.tried_count = 2;
    turns_look(d.turns, &a->turn_request, HELPS_UPSTREAM | HELPS_MODEL, &here);
    ck_assert(here.other && !here.down);
    ck_assert_ptr_eq(here.target.upstream, &d.upstreams[0]);
    ck_assert_uint_eq(here.target.key_number, 2);
    ask_and_end(a, 0, 2);
    turns_look(d.turns, &a->turn_request, HELPS_MODEL, &here);
    ck_assert(!here.other);
    a->turn_request.tried_count = 1;
    turns_look(d.turns, &a->turn_request, HELPS_KEY, &here);
    ck_assert(here.other);
    ck_assert_ptr_eq(here.target.upstream, &d.upstreams[0]);
    desk_deinit(&d);
}
END_TEST

START_TEST(with_all_excluded_nobody_is_called_down)
{
    struct target_ref out;

    desk_init(&d, 1, 1);
    out = (struct target_ref){&d.upstreams[0], 1};
    desk_turn_request(&d, a);
    a->turn_request.excluded = &out;
    a->turn_request.excluded_count = 1;
    ck_assert_int_eq(desk_ask_again(&d, a), TURN_REFUSED);
    ck_assert_int_eq(a->turn.why, TURN_WHY_NONE);
    ck_assert_uint_eq(a->turn.ready_ms, TURNS_NEVER);
    desk_leave(&d, a);
    desk_deinit(&d);
}
END_TEST

/* --- keys ----------------------------------------------------------------------------------------- */

START_TEST(keys_in_turn)
{
    desk_init(&d, 1, 3);
    desk_turn_request(&d, a);
    for (unsigned i = 0; i < 7; i++)
        ask_and_end(a, 0, i % 3 + 1);
    desk_deinit(&d);
}
END_TEST

START_TEST(a_key_that_is_empty_is_set_aside_and_comes_back)
{
    desk_init(&d, 1, 2);
    desk_ask(&d, a, 0);
    desk_bad(&d, a, REASON_QUOTA, 429, 5000); /* it closes no gate: waiting would not help */
    ck_assert_uint_eq(d.events[TURNS_KEY_ASIDE], 1);
    ck_assert_uint_eq(d.events[TURNS_GATE_CLOSED], 0);
    ck_assert_uint_eq(d.last[TURNS_KEY_ASIDE].for_ms, 300000);
    ck_assert_uint_eq(d.last[TURNS_KEY_ASIDE].key_number, 1);
    for (unsigned i = 0; i < 3; i++)
        ask_and_end(a, 0, 2);
    desk_ask_again(&d, a);
    desk_bad(&d, a, REASON_KEY, 401, 0);
    /* All are set aside: then it is as if none were. */
    ask_and_end(a, 0, 1);
    ask_and_end(a, 0, 2);
    ck_assert_uint_eq(d.events[TURNS_KEY_ASIDE], 2);
    d.now_ms += 300000;
    ask_and_end(a, 0, 1);
    ask_and_end(a, 0, 2);
    desk_deinit(&d);
}
END_TEST

/* The one key it waits for is shut for longer than the other one is set aside. */
START_TEST(a_key_that_comes_back_serves_those_who_wait)
{
    desk_init(&d, 1, 2);
    d.upstreams[0].key_cooldown_ms = 5000;
    desk_ask(&d, a, 0);
    desk_bad(&d, a, REASON_QUOTA, 429, 0);
    desk_ask(&d, a, 0);
    desk_bad(&d, a, REASON_RATE_LIMIT, 429, 60000);
    ck_assert_int_eq(desk_ask(&d, a, 0), TURN_WAITING);
    desk_wait(&d, DESK_START + 4999);
    ck_assert_int_eq(a->turn.state, TURN_WAITING);
    desk_wait(&d, DESK_START + 5000);
    ck_assert_int_eq(a->turn.state, TURN_GRANTED);
    ck_assert_uint_eq(a->turn.target.key_number, 1);
    desk_end(&d, a);
    desk_deinit(&d);
}
END_TEST

/* One for whom that key is out of the question holds up nobody, of the same client or another. */
START_TEST(a_key_that_comes_back_serves_those_behind_one_that_has_excluded_it)
{
    struct target_ref out;

    desk_init(&d, 1, 2);
    out = (struct target_ref){&d.upstreams[0], 1};
    d.upstreams[0].key_cooldown_ms = 5000;
    desk_ask(&d, a, 0);
    desk_bad(&d, a, REASON_QUOTA, 429, 0);
    desk_ask(&d, a, 0);
    desk_bad(&d, a, REASON_RATE_LIMIT, 429, 60000);
    desk_turn_request(&d, &a[0]);
    a[0].turn_request.excluded = &out;
    a[0].turn_request.excluded_count = 1;
    ck_assert_int_eq(desk_ask_again(&d, &a[0]), TURN_WAITING);
    ck_assert_int_eq(desk_ask(&d, &a[1], (uint64_t)_i), TURN_WAITING);
    desk_wait(&d, DESK_START + 5000);
    ck_assert_int_eq(a[0].turn.state, TURN_WAITING);
    ck_assert_int_eq(a[1].turn.state, TURN_GRANTED);
    ck_assert_uint_eq(a[1].turn.target.key_number, 1);
    desk_end(&d, &a[1]);
    desk_leave(&d, &a[0]);
    desk_deinit(&d);
}
END_TEST

static void many_keys(unsigned upstreams)
{
    desk_init(&d, upstreams, 1);
    for (unsigned i = 0; i < KEYS_MAX; i++)
        many[i] = (struct target_key){STR("key"), 5000 + i};
    d.upstreams[0].keys = many;
    d.upstreams[0].key_count = KEYS_MAX;
}

START_TEST(many_keys_leave_room_for_another_upstream)
{
    many_keys(3);
    for (unsigned i = 0; i < 2; i++)
        d.upstreams[i].max_concurrency = 1;
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_int_eq(desk_ask(&d, &a[i], 1), TURN_GRANTED);
        ck_assert_int_eq(goes_to(&a[i]), (int)i);
    }
    for (unsigned i = 0; i < 3; i++)
        desk_end(&d, &a[i]);
    desk_deinit(&d);
}
END_TEST

/* Used in turn, they are used up one after the other. */
START_TEST(many_keys_that_are_empty_hide_none_that_is_not)
{
    many_keys(1);
    for (unsigned i = 0; i < KEYS_MAX; i++) { /* all but the last one */
        ck_assert_int_eq(desk_ask(&d, a, 0), TURN_GRANTED);
        if (a->turn.target.key_number < KEYS_MAX)
            desk_bad(&d, a, REASON_QUOTA, 429, 0);
        else
            desk_good(&d, a);
    }
    ck_assert_uint_eq(d.events[TURNS_KEY_ASIDE], KEYS_MAX - 1);
    desk_turn_request(&d, a);
    for (unsigned i = 0; i < 3; i++)
        ask_and_end(a, 0, KEYS_MAX);
    desk_deinit(&d);
}
END_TEST

START_TEST(clients_with_keys_of_their_own_are_kept_apart)
{
    desk_init(&d, 1, 0);
    desk_ask(&d, &a[0], 1);
    desk_bad(&d, &a[0], REASON_RATE_LIMIT, 429, 5000);
    ck_assert_int_eq(desk_ask(&d, &a[0], 1), TURN_WAITING);
    ck_assert_int_eq(desk_ask(&d, &a[1], 2), TURN_GRANTED);
    desk_bad(&d, &a[1], REASON_QUOTA, 429, 0); /* for that client to mend */
    ck_assert_uint_eq(d.events[TURNS_KEY_ASIDE], 0);
    ck_assert_int_eq(desk_ask(&d, &a[1], 2), TURN_GRANTED);
    desk_end(&d, &a[1]);
    desk_leave(&d, &a[0]);
    desk_deinit(&d);
}
END_TEST

/* --- gates ---------------------------------------------------------------------------------------- */

START_TEST(one_429_holds_all_and_they_go_as_they_came)
{
    static const unsigned came[] = {3, 0, 2, 4, 1}; /* their order, as they ask */
    unsigned order[COUNT(came)], n = 0;

    desk_init(&d, 1, 1);
    desk_ask(&d, &a[9], 9);
    desk_bad(&d, &a[9], REASON_RATE_LIMIT, 429, 1500);
    for (unsigned i = 0; i < COUNT(came); i++) {
        desk_turn_request(&d, &a[i]);
        a[i].turn_request.client = i % 2; /* two queues */
        a[i].turn_request.arrived_ms = DESK_START - 100 + came[i];
        ck_assert_int_eq(desk_ask_again(&d, &a[i]), TURN_WAITING);
        ck_assert_int_eq(a[i].turn.why, TURN_WHY_GATE);
    }
    desk_wait(&d, DESK_START + 1499);
    ck_assert_uint_eq(desk_count(a, COUNT(came), TURN_WAITING), COUNT(came));
    desk_wait(&d, DESK_START + 1500);
    while (n < COUNT(came)) { /* each is answered before the next step */
        ck_assert_uint_gt(desk_count(a, COUNT(came), TURN_GRANTED), 0);
        ck_assert_uint_le(desk_count(a, COUNT(came), TURN_GRANTED), n ? 2 : 1);
        for (unsigned at = 0; at < COUNT(came); at++)
            for (unsigned i = 0; i < COUNT(came); i++)
                if (came[i] == at && a[i].turn.state == TURN_GRANTED && n == at) {
                    order[n++] = at;
                    desk_good(&d, &a[i]);
                }
    }
    for (unsigned i = 0; i < COUNT(came); i++)
        ck_assert_uint_eq(order[i], i);
    desk_deinit(&d);
}
END_TEST

START_TEST(a_gate_opens_step_by_step)
{
    desk_init(&d, 1, 1);
    desk_ask(&d, a, 1);
    desk_bad(&d, a, REASON_RATE_LIMIT, 429, 1000);
    for (unsigned i = 0; i < FULL; i++)
        desk_ask(&d, &a[i], 1);
    desk_wait(&d, DESK_START + 1000);
    ck_assert_uint_eq(desk_count(a, FULL, TURN_GRANTED), 1);
    desk_wait(&d, DESK_START + 1999); /* not before that one is back, or a second */
    ck_assert_uint_eq(desk_count(a, FULL, TURN_GRANTED), 1);
    desk_good(&d, &a[0]);
    ck_assert_uint_le(desk_count(a, FULL, TURN_GRANTED), 2);
    ck_assert_uint_ge(desk_count(a, FULL, TURN_GRANTED), 1);
    for (unsigned i = 0; i < FULL; i++)
        if (a[i].turn.state == TURN_WAITING)
            desk_leave(&d, &a[i]);
        else if (a[i].turn.state == TURN_GRANTED)
            desk_end(&d, &a[i]);
    desk_deinit(&d);
}
END_TEST

START_TEST(a_wait_beyond_what_may_be_is_refused_at_once)
{
    desk_init(&d, 1, 1);
    desk_ask(&d, a, 1);
    desk_bad(&d, a, REASON_RATE_LIMIT, 429, 5000);
    for (unsigned i = 0; i < 4; i++) {
        desk_turn_request(&d, &a[i]);
        a[i].turn_request.latest_ms = i < 2 ? DESK_START + 4999 + i : TURNS_NEVER;
        a[i].turn_request.gate_latest_ms = i >= 2 ? DESK_START + 4997 + i : TURNS_NEVER;
        desk_ask_again(&d, &a[i]);
        ck_assert_int_eq(a[i].turn.state, i % 2 ? TURN_WAITING : TURN_REFUSED);
        ck_assert_int_eq(a[i].turn.why, TURN_WHY_GATE);
        if (i % 2 == 0)
            ck_assert_uint_eq(a[i].turn.ready_ms, DESK_START + 5000);
    }
    for (unsigned i = 0; i < 4; i++)
        desk_leave(&d, &a[i]);
    ck_assert_uint_eq(d.wakes, 0);
    desk_deinit(&d);
}
END_TEST

START_TEST(a_longer_closing_refuses_those_who_then_wait_in_vain)
{
    desk_init(&d, 1, 1);
    desk_ask(&d, &a[0], 1);
    desk_ask(&d, &a[1], 1);
    desk_bad(&d, &a[0], REASON_RATE_LIMIT, 429, 2000);
    for (unsigned i = 2; i < 5; i++) {
        desk_turn_request(&d, &a[i]);
        a[i].turn_request.latest_ms = i == 3 ? TURNS_NEVER : DESK_START + 3000;
        ck_assert_int_eq(desk_ask_again(&d, &a[i]), TURN_WAITING);
    }
    desk_bad(&d, &a[1], REASON_RATE_LIMIT, 429, 4000);
    ck_assert_int_eq(a[2].turn.state, TURN_REFUSED);
    ck_assert_int_eq(a[3].turn.state, TURN_WAITING);
    ck_assert_int_eq(a[4].turn.state, TURN_REFUSED);
    ck_assert_uint_eq(a[4].turn.ready_ms, DESK_START + 4000);
    ck_assert_uint_eq(d.wakes, 1);
    desk_wait(&d, DESK_START + 4000);
    desk_good(&d, &a[3]);
    desk_leave(&d, &a[2]);
    desk_leave(&d, &a[4]);
    desk_deinit(&d);
}
END_TEST

/* ... though it also waits for one of those under way to end. */
START_TEST(a_closing_is_told_at_once_where_a_limit_holds_too)
{
    desk_init(&d, 1, 1);
    d.upstreams[0].max_concurrency = 2;
    desk_ask(&d, &a[0], 1);
    desk_ask(&d, &a[1], 1);
    desk_turn_request(&d, &a[2]);
    a[2].turn_request.latest_ms = DESK_START + 3000;
    ck_assert_int_eq(desk_ask_again(&d, &a[2]), TURN_WAITING);
    ck_assert_int_eq(a[2].turn.why, TURN_WHY_LIMIT);
    desk_bad(&d, &a[0], REASON_RATE_LIMIT, 429, 4000);
    ck_assert_int_eq(a[2].turn.state, TURN_REFUSED);
    ck_assert_int_eq(a[2].turn.why, TURN_WHY_GATE);
    ck_assert_uint_eq(a[2].turn.ready_ms, DESK_START + 4000);
    desk_leave(&d, &a[2]);
    desk_end(&d, &a[1]);
    desk_deinit(&d);
}
END_TEST

/* Other daemons know no more than what is told. */
START_TEST(a_longer_closing_is_told_and_a_later_one_is_not)
{
    desk_init(&d, 1, 1);
    for (unsigned i = 0; i < 4; i++)
        desk_ask(&d, &a[i], 1);
    desk_bad(&d, &a[0], REASON_RATE_LIMIT, 429, 500);
    d.now_ms += 20;
    desk_bad(&d, &a[1], REASON_RATE_LIMIT, 429, 500);
    ck_assert_uint_eq(d.events[TURNS_GATE_CLOSED], 1);
    desk_bad(&d, &a[2], REASON_RATE_LIMIT, 429, 5000);
    ck_assert_uint_eq(d.events[TURNS_GATE_CLOSED], 2);
    ck_assert_uint_eq(d.last[TURNS_GATE_CLOSED].for_ms, 5000);
    desk_bad(&d, &a[3], REASON_RATE_LIMIT, 429, 1000);
    ck_assert_uint_eq(d.events[TURNS_GATE_CLOSED], 2);
    desk_deinit(&d);
}
END_TEST

/* --- breakers ------------------------------------------------------------------------------------- */

static void with_breakers(unsigned upstreams, unsigned keys)
{
    desk_init(&d, upstreams, keys);
    d.settings.breaker =
        (struct breaker_settings){.failures = 2, .window_ms = 30000, .open_for_ms = 10000};
}

/* Two failures open it. */
static void take_down(unsigned upstream)
{
    struct target only = {.upstream = &d.upstreams[upstream],
                          .key_number = d.upstreams[upstream].key_count ? 1 : 0};

    for (unsigned i = 0; i < 2; i++) {
        struct asker who;

        desk_turn_request(&d, &who);
        who.turn_request.only = &only;
        ck_assert_int_eq(desk_ask_again(&d, &who), TURN_GRANTED);
        desk_bad(&d, &who, REASON_SERVER_ERROR, 500, 0);
    }
}

START_TEST(a_tier_that_is_down_is_left_or_waited_for)
{
    with_breakers(2, 1);
    take_down(0);
    ck_assert_uint_eq(d.events[TURNS_BREAKER_OPEN], 1);
    desk_ask(&d, a, 1);
    ck_assert_int_eq(goes_to(a), 1); /* the other upstream of the tier */
    desk_end(&d, a);
    take_down(1);
    desk_turn_request(&d, &a[0]);
    a[0].turn_request.may_leave = true;
    ck_assert_int_eq(desk_ask_again(&d, &a[0]), TURN_REFUSED);
    ck_assert_int_eq(a[0].turn.why, TURN_WHY_BREAKER);
    ck_assert_uint_eq(a[0].turn.ready_ms, DESK_START + 10000);
    desk_leave(&d, &a[0]);
    ck_assert_int_eq(desk_ask(&d, &a[1], 1), TURN_WAITING);
    ck_assert_int_eq(a[1].turn.why, TURN_WHY_BREAKER);
    desk_leave(&d, &a[1]);
    desk_deinit(&d);
}
END_TEST

START_TEST(who_waits_and_may_leave_goes_when_the_breaker_opens)
{
    with_breakers(1, 1);
    d.upstreams[0].max_concurrency = 2;
    desk_ask(&d, &a[0], 1);
    desk_ask(&d, &a[1], 1);
    for (unsigned i = 2; i < 4; i++) {
        desk_turn_request(&d, &a[i]);
        a[i].turn_request.may_leave = i == 2;
        ck_assert_int_eq(desk_ask_again(&d, &a[i]), TURN_WAITING);
    }
    desk_bad(&d, &a[0], REASON_SERVER_ERROR, 500, 0); /* a[2] goes */
    ck_assert_int_eq(a[2].turn.state, TURN_GRANTED);
    desk_turn_request(&d, &a[4]);
    a[4].turn_request.may_leave = true;
    ck_assert_int_eq(desk_ask_again(&d, &a[4]), TURN_WAITING);
    desk_bad(&d, &a[2], REASON_SERVER_ERROR, 500, 0); /* opens */
    ck_assert_int_eq(a[3].turn.state, TURN_WAITING);
    ck_assert_int_eq(a[4].turn.state, TURN_REFUSED);
    desk_end(&d, &a[1]);
    desk_leave(&d, &a[3]);
    desk_leave(&d, &a[4]);
    desk_deinit(&d);
}
END_TEST

START_TEST(single_probes_for_as_long_as_one_is_patient)
{
    with_breakers(1, 1);
    take_down(0);
    for (unsigned i = 0; i < 6; i++) {
        desk_turn_request(&d, &a[i]);
        a[i].turn_request.patient_ms = DESK_START + (i == 5 ? 20000 : 30000);
        ck_assert_int_eq(desk_ask_again(&d, &a[i]), TURN_WAITING);
    }
    desk_wait(&d, DESK_START + 9999);
    ck_assert_uint_eq(desk_count(a, 6, TURN_WAITING), 6);
    desk_wait(&d, DESK_START + 10000);
    ck_assert_int_eq(a[0].turn.state, TURN_GRANTED);
    ck_assert_uint_eq(desk_count(a, 6, TURN_WAITING), 5);
    desk_bad(&d, &a[0], REASON_CONNECT, 0, 0);
    ck_assert_uint_eq(desk_count(a, 6, TURN_WAITING), 5);
    desk_wait(&d, DESK_START + 20000);
    desk_bad(&d, &a[1], REASON_CONNECT, 0, 0);
    ck_assert_int_eq(a[5].turn.state, TURN_REFUSED);
    ck_assert_int_eq(a[5].turn.why, TURN_WHY_BREAKER);
    ck_assert_uint_eq(desk_count(a, 6, TURN_WAITING), 3);
    desk_wait(&d, DESK_START + 30000);
    ck_assert_uint_eq(d.events[TURNS_BREAKER_PROBE], 3);
    desk_good(&d, &a[2]);
    ck_assert_uint_eq(d.events[TURNS_BREAKER_CLOSED], 1);
    ck_assert_uint_eq(desk_count(a, 6, TURN_GRANTED), 1); /* not all at once */
    desk_good(&d, &a[3]);
    desk_good(&d, &a[4]);
    desk_leave(&d, &a[5]);
    desk_deinit(&d);
}
END_TEST

START_TEST(probes_of_others_end_no_wait)
{
    struct target second;
    struct plan one;

    with_breakers(2, 1);
    one = d.plan;
    one.upstream_count = 1;
    second = (struct target){.upstream = &d.upstreams[1], .key_number = 1};
    take_down(0);
    d.now_ms += 5000;
    take_down(1);
    desk_turn_request(&d, &a[0]);
    a[0].turn_request.only = &second;
    ck_assert_int_eq(desk_ask_again(&d, &a[0]), TURN_WAITING);
    desk_turn_request(&d, &a[1]);
    a[1].turn_request.plan = &one;
    ck_assert_int_eq(desk_ask_again(&d, &a[1]), TURN_WAITING);
    desk_wait(&d, DESK_START + 10000);
    ck_assert_int_eq(a[1].turn.state, TURN_GRANTED);
    desk_bad(&d, &a[1], REASON_CONNECT, 0, 0); /* of the first upstream */
    ck_assert_int_eq(a[0].turn.state, TURN_WAITING);
    desk_wait(&d, DESK_START + 15000);
    ck_assert_int_eq(goes_to(&a[0]), 1);
    desk_end(&d, &a[0]);
    desk_deinit(&d);
}
END_TEST

/* It is there, though its key may not be used: those who wait have the other one. */
START_TEST(a_probe_that_is_limited_refuses_nobody_who_has_another_key)
{
    with_breakers(1, 2);
    take_down(0);
    for (unsigned i = 0; i < 2; i++) {
        desk_turn_request(&d, &a[i]);
        a[i].turn_request.latest_ms = DESK_START + 30000;
        ck_assert_int_eq(desk_ask_again(&d, &a[i]), TURN_WAITING);
    }
    desk_wait(&d, DESK_START + 10000);
    ck_assert_uint_eq(a[0].turn.target.key_number, 2);
    desk_bad(&d, &a[0], REASON_RATE_LIMIT, 429, 60000);
    ck_assert_int_eq(a[1].turn.state, TURN_GRANTED);
    ck_assert_uint_eq(a[1].turn.target.key_number, 1);
    desk_end(&d, &a[1]);
    desk_deinit(&d);
}
END_TEST

START_TEST(a_probe_whose_client_leaves_makes_room_for_the_next_in_time)
{
    with_breakers(1, 1);
    take_down(0);
    for (unsigned i = 0; i < 2; i++)
        ck_assert_int_eq(desk_ask(&d, &a[i], 1), TURN_WAITING);
    desk_wait(&d, DESK_START + 10000);
    desk_leave(&d, &a[0]); /* it was let through and has not heard of it */
    ck_assert_int_eq(a[1].turn.state, TURN_WAITING);
    desk_wait(&d, DESK_START + 19999);
    ck_assert_int_eq(a[1].turn.state, TURN_WAITING);
    desk_wait(&d, DESK_START + 20000);
    desk_good(&d, &a[1]);
    desk_deinit(&d);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *c = unit_case(suite, "targets");

    tcase_add_test(c, the_first_upstream_that_is_free);
    tcase_add_test(c, shares_by_weight_and_those_without_one_last);
    tcase_add_test(c, those_who_stand_in_share_by_weight);
    tcase_add_test(c, tried_last_excluded_never_only_that_one);
    tcase_add_test(c, one_who_looks_sees_where_one_who_asks_would_go);
    tcase_add_test(c, with_all_excluded_nobody_is_called_down);
    tcase_add_test(c, keys_in_turn);
    tcase_add_test(c, a_key_that_is_empty_is_set_aside_and_comes_back);
    tcase_add_test(c, a_key_that_comes_back_serves_those_who_wait);
    tcase_add_loop_test(c, a_key_that_comes_back_serves_those_behind_one_that_has_excluded_it, 0,
                        2);
    tcase_add_test(c, many_keys_leave_room_for_another_upstream);
    tcase_add_test(c, many_keys_that_are_empty_hide_none_that_is_not);
    tcase_add_test(c, clients_with_keys_of_their_own_are_kept_apart);
    tcase_add_test(c, one_429_holds_all_and_they_go_as_they_came);
    tcase_add_test(c, a_gate_opens_step_by_step);
    tcase_add_test(c, a_wait_beyond_what_may_be_is_refused_at_once);
    tcase_add_test(c, a_longer_closing_refuses_those_who_then_wait_in_vain);
    tcase_add_test(c, a_longer_closing_is_told_and_a_later_one_is_not);
    tcase_add_test(c, a_closing_is_told_at_once_where_a_limit_holds_too);
    tcase_add_test(c, a_tier_that_is_down_is_left_or_waited_for);
    tcase_add_test(c, who_waits_and_may_leave_goes_when_the_breaker_opens);
    tcase_add_test(c, single_probes_for_as_long_as_one_is_patient);
    tcase_add_test(c, probes_of_others_end_no_wait);
    tcase_add_test(c, a_probe_that_is_limited_refuses_nobody_who_has_another_key);
    tcase_add_test(c, a_probe_whose_client_leaves_makes_room_for_the_next_in_time);
}
