/* Everything that can end an exchange from outside, alone and together, in each of its states; and
 * news that come after its end. In virtual time. */

#include <check.h>
#include <string.h>

#include "endings.h"
#include "exchange/exchange.h"
#include "unit.h"
#include "world_fixture.h"

#define EVENT "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n"
#define ALL (ENDING_BIT(ENDINGS) - 1)

static const struct fake_attempt silent = {.hangs = true};
static const struct fake_attempt down = {.status = 503, .headers = JSON};
static const struct fake_attempt half = {
    .status = 200, .headers = JSON, .pieces = {{0, "{\"id\":1,", 0}}, .hangs = true};
static const struct fake_attempt stream = {
    .status = 200, .headers = SSE, .pieces = {{0, EVENT, 0}}, .hangs = true};
static const struct fake_attempt broken_stream = {
    .status = 200, .headers = SSE, .pieces = {{0, EVENT, 0}}, .end_ms = 100, .end = TRANSPORT_LOST};
static const struct fake_attempt whole_stream = {
    .status = 200, .headers = SSE, .pieces = {{0, EVENT "data: [DONE]\n\n", 0}}};
static char long_text[20000];
static const struct fake_attempt long_response = {
    .status = 200, .headers = JSON, .pieces = {{0, long_text, sizeof(long_text)}}, .hangs = true};

/* The state in which it happens. */
static const struct place {
    const struct fake_attempt *script;
    enum exchange_state state;
    bool stream, hold, heartbeat, slow, queued, uploads;
} places[] = {
    {.script = &silent, .state = EXCHANGE_RECEIVING, .uploads = true},
    {.script = &silent, .state = EXCHANGE_QUEUED, .queued = true},
    {.script = &silent,
     .state = EXCHANGE_QUEUED,
     .stream = true,
     .queued = true,
     .heartbeat = true},
    {.script = &silent, .state = EXCHANGE_ATTEMPTING},
    {.script = &silent, .state = EXCHANGE_ATTEMPTING, .stream = true, .heartbeat = true},
    {.script = &half, .state = EXCHANGE_HOLDING},
    {.script = &stream, .state = EXCHANGE_HOLDING, .stream = true, .hold = true},
    {.script = &stream, .state = EXCHANGE_HOLDING, .stream = true, .hold = true, .heartbeat = true},
    {.script = &down, .state = EXCHANGE_BACKOFF},
    {.script = &down, .state = EXCHANGE_BACKOFF, .stream = true, .heartbeat = true},
    {.script = &broken_stream, .state = EXCHANGE_BACKOFF, .stream = true},
    {.script = &stream, .state = EXCHANGE_RELAYING, .stream = true},
    {.script = &long_response, .state = EXCHANGE_RELAYING},
    {.script = &whole_stream, .state = EXCHANGE_RELAYING, .stream = true, .slow = true},
};

/* Another request has the only turn that there is. */
static struct fake_world other;
static struct fake_turns turns_world;
static struct turns *turns;

static void take_the_only_turn(void)
{
    turns = fake_turns_new(&turns_world, &w.now_ms, NULL, NULL);
    ck_assert_ptr_nonnull(turns);
    world_upstreams(1);
    w.upstreams[0].max_concurrency = 1;
    fake_init(&other);
    other.upstreams[0] = w.upstreams[0];
    other.upstream_count = 1;
    other.turns = w.turns = turns;
    other.script = &silent;
    other.script_len = 1;
    fake_begin_chat(&other, false);
    fake_run_until(&other, 1);
    ck_assert_int_eq(other.x.state, EXCHANGE_ATTEMPTING);
}

static void tear_down(void)
{
    if (turns)
        fake_deinit(&other);
    world_tear_down();
    turns_free(turns);
    turns = NULL;
}

static void go_to(const struct place *p)
{
    memset(long_text, ' ', sizeof(long_text));
    w.settings.retry.backoff.initial_delay_ms = 60000;
    w.settings.stream.mode = p->hold ? STREAM_HOLD : STREAM_SPLICE;
    w.settings.stream.heartbeat_ms = p->heartbeat ? 100 : 0;
    w.limits.hold_limit = 10000;
    if (p->slow)
        w.client = (struct fake_client){.pull_max = 10, .every_ms = 1000};
    if (p->uploads)
        w.request_ms = 10000;
    world_follow(p->script, 1);
    if (p->queued)
        take_the_only_turn();
    fake_begin_chat(&w, p->stream);
    fake_run_until(&w, 500);
    ck_assert_int_eq(w.x.state, p->state);
    ck_assert(w.x.reply.begun ==
              (p->heartbeat || p->state == EXCHANGE_RELAYING || p->script == &broken_stream));
}

/* Nothing of this may do more than be forgotten. */
static void all_that_may_still_come(void)
{
    char piece[64];

    ck_assert_int_eq(exchange_body(&w.x, "more", 4), 4);
    exchange_refused(&w.x, 413);
    exchange_request_done(&w.x);
    exchange_client_stalled(&w.x);
    exchange_client_gone(&w.x);
    exchange_abort(&w.x);
    (void)exchange_pull(&w.x, piece, sizeof(piece));
    (void)exchange_wants_room(&w.x);
    exchange_step(&w.x);
    ck_assert_uint_eq(w.ended, 1);
}

/* In any combination and any state the exchange ends once, within one step if the client is gone,
 * and takes nothing along that others need. */
START_TEST(each_set_of_endings_in_each_place)
{
    const struct place *p = &places[(unsigned)_i / ALL];
    unsigned what = 1 + (unsigned)_i % ALL;

    go_to(p);
    endings_happen(&w, what);
    exchange_step(&w.x);
    if (what & ENDING_BIT(ENDING_GONE)) {
        ck_assert_int_eq(w.x.state, EXCHANGE_DONE);
    } else if (what & ENDING_BIT(ENDING_ABORT)) {
        for (unsigned i = 0; i < w.starts; i++)
            ck_assert_uint_le(w.start[i].gone_ms, w.now_ms);
        ck_assert(!w.x.placement.waiting);
    }
    exchange_client_gone(&w.x);
    exchange_step(&w.x);
    ck_assert_int_eq(w.x.state, EXCHANGE_DONE);
    ck_assert_uint_eq(w.ended, 1);
    if (!(what & ENDING_BIT(ENDING_ABORT)))
        ck_assert(w.x.end == END_CLIENT_GONE || w.x.end == END_FAILED || w.x.refused);
    all_that_may_still_come();
}
END_TEST

/* A client that stays gets an error and is not taken for one that left. */
START_TEST(the_end_of_retryd_is_told)
{
    const struct place *p = &places[_i];

    go_to(p);
    endings_happen(&w, ENDING_BIT(ENDING_ABORT));
    exchange_step(&w.x);
    w.dirty = true;
    fake_run(&w);
    ck_assert_int_eq(w.x.state, EXCHANGE_DONE);
    ck_assert_int_ne(w.x.end, END_CLIENT_GONE);
    ck_assert_str_eq(reason_word(w.x.last_reason), p->slow ? "ok" : "shutting_down");
    ck_assert_int_eq(buf_add(&w.body, "", 1), 0);
    if (w.x.reply.begun_stream && !p->slow)
        ck_assert_int_ge(str_ifind(buf_str(&w.body), STR("data: {\"error\":")), 0);
    else if (!w.x.reply.begun && p->state != EXCHANGE_RECEIVING)
        ck_assert_uint_eq(w.response.status, 503);
}
END_TEST

/* A client that takes the end too slowly is cut off, and has not left. */
START_TEST(who_is_cut_at_the_end_has_not_left)
{
    static const struct place slow = {
        .script = &stream, .state = EXCHANGE_RELAYING, .stream = true, .slow = true};

    go_to(&slow);
    endings_happen(&w, ENDING_BIT(ENDING_ABORT));
    exchange_step(&w.x);
    ck_assert_int_eq(w.x.state, EXCHANGE_RELAYING);
    endings_happen(&w, ENDING_BIT(ENDING_GONE));
    exchange_step(&w.x);
    ck_assert_int_eq(w.x.end, END_BROKEN);
    ck_assert_str_eq(reason_word(w.x.last_reason), "shutting_down");
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *c = unit_case(suite, "endings");
    int count = (int)(sizeof(places) / sizeof(places[0]));

    tcase_add_checked_fixture(c, world_set_up, tear_down);
    tcase_add_loop_test(c, each_set_of_endings_in_each_place, 0, count * (int)ALL);
    tcase_add_loop_test(c, the_end_of_retryd_is_told, 0, count);
    tcase_add_test(c, who_is_cut_at_the_end_has_not_left);
}
