/* What a turn at a target costs with one client, and with ten thousand that have keys of their own.
 *
 * Prints nanoseconds of CPU time, and ends with 1 where many cost more than twice what few do. Each figure
 * is the best of some rounds: what else the machine does only adds to it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "targets/turns.h"

#define MANY 10000
#define ROUNDS 15
#define TURNS_EACH_ROUND 20000
#define BAR 2.0

struct client {
    struct turn turn;
    struct turn_request turn_request;
};

static struct client clients[MANY];
static struct turns *turns;
static struct turns_ready ready;
static struct route_settings settings = {.queue.size = 2 * MANY};
static struct target_key key = {{"key", 3}, 7};
static struct upstream upstream;
static const struct upstream *const upstreams[] = {&upstream};
static const struct plan plan = {.route = "bench",
                                 .base = {"/v1", 3},
                                 .settings = &settings,
                                 .upstreams = upstreams,
                                 .upstream_count = 1};
static uint64_t now_ms = 1000000;

static void on_wake(void *arg)
{
    (void)arg;
}

static uint64_t cpu_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void check(bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "bench_turns: %s\n", what);
    exit(2);
}

static uint64_t on_now(void *arg)
{
    (void)arg;
    return now_ms;
}

static void on_lock(void *arg)
{
    (void)arg;
}

static void on_unlock(void *arg, uint64_t next_ms)
{
    (void)arg;
    (void)next_ms;
}

static void on_event(void *arg, const struct turns_event *e)
{
    (void)arg;
    (void)e;
}

static enum turn_state ask(struct client *c)
{
    c->turn_request.arrived_ms = now_ms;
    return turns_ask(turns, &c->turn, &ready, &c->turn_request);
}

static void end(struct client *c, const struct turn_result *r)
{
    turns_tell(turns, &c->turn, r);
    turns_end(turns, &c->turn);
}

static const struct turn_result good = {.verdict = {.kind = VERDICT_GOOD, .reason = REASON_OK},
                                        .status = 200};

/* --- the cases ---------------------------------------------------------------------------------- */

/* All go at once, one behind the other. */
static void go(unsigned n, unsigned number)
{
    struct client *c = &clients[number % n];

    check(ask(c) == TURN_GRANTED, "one that may go waits");
    end(c, &good);
}

static struct client *first;

/* One at a time may go; all others wait, and ask again when they have been. */
static void begin_queue(unsigned n)
{
    upstream.max_concurrency = 1;
    for (unsigned i = 0; i < n; i++)
        check(ask(&clients[i]) == (i ? TURN_WAITING : TURN_GRANTED), "the limit does not hold");
    first = &clients[0];
}

static void take_turns(unsigned n, unsigned number)
{
    struct client *last = first;

    (void)n;
    (void)number;
    end(last, &good);
    first = (struct client *)(void *)turns_ready_take(turns, &ready);
    check(first && first != last, "nobody is let through");
    check(!turns_ready_take(turns, &ready), "two are let through");
    check(ask(last) == TURN_WAITING, "the limit does not hold");
}

/* All but one wait behind a gate of their own. */
static void begin_gates(unsigned n)
{
    for (unsigned i = 1; i < n; i++) {
        const struct turn_result limited = {
            .verdict = {.kind = VERDICT_RETRY, .reason = REASON_RATE_LIMIT},
            .status = 429,
            .hint = {HINT_RETRY_AFTER_MS, 1000000 + i * 7919 % MANY}};

        check(ask(&clients[i]) == TURN_GRANTED, "one that may go waits");
        end(&clients[i], &limited);
        check(ask(&clients[i]) == TURN_WAITING, "a closed gate is open");
    }
}

static void go_alone(unsigned n, unsigned number)
{
    (void)n;
    (void)number;
    check(ask(&clients[0]) == TURN_GRANTED, "one that may go waits");
    end(&clients[0], &good);
}

static const struct bench {
    const char *name;
    bool one_key; /* the upstream's, for all */
    unsigned few;
    void (*begin)(unsigned n);
    void (*step)(unsigned n, unsigned number);
} benches[] = {
    {"all may go, each with a key of its own", false, 1, NULL, go},
    {"all may go, one key for all", true, 1, NULL, go},
    {"one at a time, each with a key of its own", false, 2, begin_queue, take_turns},
    {"one at a time, one key for all", true, 2, begin_queue, take_turns},
    {"one goes, the others' gates are closed", false, 2, begin_gates, go_alone},
};

/* --- measuring ---------------------------------------------------------------------------------- */

static void set_up(const struct bench *b, unsigned n)
{
    static const struct turns_world world = {
        .now_ms = on_now, .lock = on_lock, .unlock = on_unlock, .event = on_event};

    memset(clients, 0, sizeof(clients));
    turns = turns_new(&world);
    check(turns, "out of memory");
    turns_ready_init(&ready, on_wake, NULL);
    upstream = (struct upstream){.name = "bench",
                                 .id = 4711,
                                 .host = "",
                                 .base_path = "",
                                 .query = "",
                                 .auth_header = "Authorization",
                                 .idempotency_header = "",
                                 .keys = &key,
                                 .key_count = b->one_key};
    for (unsigned i = 0; i < n; i++)
        clients[i].turn_request = (struct turn_request){.plan = &plan,
                                                        .model = STR("model"),
                                                        .client = i + 1,
                                                        .client_key = i + 1,
                                                        .latest_ms = TURNS_NEVER,
                                                        .gate_latest_ms = TURNS_NEVER};
    if (b->begin)
        b->begin(n);
}

static void take_down(unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        turns_leave(turns, &clients[i].turn);
    turns_free(turns);
}

static double ns_of_a_turn(const struct bench *b, unsigned n)
{
    uint64_t best = UINT64_MAX;

    set_up(b, n);
    for (unsigned round = 0; round <= ROUNDS; round++) {
        uint64_t before = cpu_ns(), took;

        for (unsigned i = 0; i < TURNS_EACH_ROUND; i++) {
            b->step(n, i);
            now_ms += i % 8 == 0;
        }
        took = cpu_ns() - before;
        if (round > 0 && took < best) /* the first one warms up */
            best = took;
    }
    take_down(n);
    return (double)best / TURNS_EACH_ROUND;
}

int main(void)
{
    unsigned over = 0;

    printf("a turn at a target, ns of CPU time%14s%10u clients%8s\n", "few", MANY, "ratio");
    for (unsigned i = 0; i < sizeof(benches) / sizeof(benches[0]); i++) {
        const struct bench *b = &benches[i];
        double few = ns_of_a_turn(b, b->few), many = ns_of_a_turn(b, MANY);

        printf("%-44s%4.0f%18.0f%8.2f\n", b->name, few, many, many / few);
        over += many / few > BAR;
    }
    if (over > 0)
        printf("over %.1f times what few cost: %u\n", BAR, over);
    return over > 0;
}
