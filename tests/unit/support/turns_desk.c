/* A desk at which tests ask for turns by hand. */
#include "turns_desk.h"

#include <check.h>
#include <string.h>

static const char *const names[DESK_UPSTREAMS] = {"p0", "p1", "p2"};

static void on_wake(void *arg)
{
    ((struct desk *)arg)->wakes++;
}

static void on_event(void *arg, const struct turns_event *e)
{
    struct desk *d = arg;

    d->events[e->kind]++;
    d->last[e->kind] = *e;
    if (e->kind == TURNS_RATE_TAKEN)
        d->upstream_id = e->id;
    else if (e->kind == TURNS_BREAKER_OPEN || e->kind == TURNS_BREAKER_PROBE)
        d->model_id = e->id;
    else if (e->kind == TURNS_GATE_CLOSED)
        d->target_id = e->id;
}

void desk_init(struct desk *d, unsigned upstreams, unsigned keys)
{
    memset(d, 0, sizeof(*d));
    d->now_ms = DESK_START;
    d->settings.retry.max_hint_ms = 120000;
    d->settings.queue.size = 1000;
    for (unsigned i = 0; i < upstreams; i++) {
        for (unsigned k = 0; k < keys; k++)
            d->keys[i][k] = (struct target_key){STR("key"), 1000 * (i + 1) + k};
        d->upstreams[i] = (struct upstream){
            .name = names[i],
            .id = 100 + i,
            .host = "",
            .base_path = "",
            .query = "",
            .auth_header = "Authorization",
            .keys = d->keys[i],
            .key_count = keys,
            .idempotency_header = "",
            .key_cooldown_ms = 300000,
        };
        d->list[i] = &d->upstreams[i];
    }
    d->plan = (struct plan){.route = "test",
                            .base = STR("/v1"),
                            .settings = &d->settings,
                            .upstreams = d->list,
                            .upstream_count = upstreams};
    turns_ready_init(&d->ready, on_wake, d);
    d->turns = fake_turns_new(&d->world, &d->now_ms, on_event, d);
    ck_assert_ptr_nonnull(d->turns);
}

void desk_deinit(struct desk *d)
{
    ck_assert_uint_eq(turns_waiting(d->turns), 0);
    ck_assert(list_empty(&d->ready.woken));
    for (unsigned i = 0; i < d->plan.upstream_count; i++)
        ck_assert_uint_eq(desk_in_flight(d, i), 0);
    turns_free(d->turns);
}

void desk_turn_request(struct desk *d, struct asker *a)
{
    memset(a, 0, sizeof(*a));
    a->turn_request = (struct turn_request){.plan = &d->plan,
                                            .model = STR("m"),
                                            .arrived_ms = d->now_ms,
                                            .patient_ms = 0,
                                            .latest_ms = TURNS_NEVER,
                                            .gate_latest_ms = TURNS_NEVER};
}

enum turn_state desk_ask_again(struct desk *d, struct asker *a)
{
    return turns_ask(d->turns, &a->turn, &d->ready, &a->turn_request);
}

enum turn_state desk_ask(struct desk *d, struct asker *a, uint64_t client)
{
    desk_turn_request(d, a);
    a->turn_request.client = a->turn_request.client_key = client;
    return desk_ask_again(d, a);
}

void desk_leave(struct desk *d, struct asker *a)
{
    turns_leave(d->turns, &a->turn);
    ck_assert_int_eq(a->turn.state, TURN_NONE);
}

static void take_told(struct desk *d)
{
    while (turns_ready_take(d->turns, &d->ready))
        ;
}

void desk_end(struct desk *d, struct asker *a)
{
    ck_assert_int_eq(a->turn.state, TURN_GRANTED);
    turns_end(d->turns, &a->turn);
    take_told(d);
}

void desk_good(struct desk *d, struct asker *a)
{
    struct turn_result r = {.verdict = {.kind = VERDICT_GOOD, .reason = REASON_OK}, .status = 200};

    turns_tell(d->turns, &a->turn, &r);
    desk_end(d, a);
}

void desk_bad(struct desk *d, struct asker *a, enum reason reason, unsigned status,
              uint64_t hint_ms)
{
    struct turn_result r = {.verdict = {.kind = VERDICT_RETRY, .reason = reason}, .status = status};

    if (hint_ms)
        r.hint = (struct hint){HINT_RETRY_AFTER_MS, hint_ms};
    turns_tell(d->turns, &a->turn, &r);
    desk_end(d, a);
}

void desk_wait(struct desk *d, uint64_t until_ms)
{
    unsigned runs = 0; /* in one millisecond: a crowd wakes part by part */

    while (d->world.next_ms <= until_ms) {
        uint64_t next = d->world.next_ms;

        runs = next > d->now_ms ? 0 : runs + 1;
        if (next > d->now_ms)
            d->now_ms = next;
        turns_run(d->turns);
        ck_assert_uint_lt(runs, 20);
    }
    d->now_ms = until_ms;
    take_told(d);
}

unsigned desk_count(const struct asker *a, unsigned n, enum turn_state s)
{
    unsigned count = 0;

    for (unsigned i = 0; i < n; i++)
        count += a[i].turn.state == s;
    return count;
}

struct seen {
    const char *upstream;
    unsigned in_flight;
};

static void see(void *arg, const struct turns_view *v)
{
    struct seen *s = arg;

    if (v->kind == VIEW_UPSTREAM && !strcmp(v->upstream, s->upstream))
        s->in_flight += v->in_flight;
}

unsigned desk_in_flight(struct desk *d, unsigned upstream)
{
    struct seen s = {names[upstream], 0};
    uint64_t at = 0;

    while (turns_each(d->turns, &at, see, &s)) {
    }
    return s.in_flight;
}
