/* The shared view between daemons on one loop and a real redis-server: what one learns, all know. */

#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "failmem.h"
#include "shared_peers.h"
#include "unit.h"

#define TARGET 0x0123456789abcdefu
#define MODEL 0xfedcba9876543210u
#define UPSTREAM 42u
#define NEWS_MS 100 /* news are there within that */

START_TEST(a_gate_reaches_the_others)
{
    server_start(NULL);
    struct peer *a = peer_join();
    struct peer *b = peer_join();

    shared_report_gate(a->shared, TARGET, 1500);
    AWAIT(b->gates == 1, NEWS_MS);
    ck_assert_uint_eq(b->target, TARGET);
    ck_assert_uint_le(b->target_ms, 1500);
    ck_assert_uint_ge(b->target_ms, 1400);

    /* Its own news have come back to the first one by now, and are none to it. */
    shared_report_gate(b->shared, TARGET + 1, 700);
    AWAIT(a->gates == 1, NEWS_MS);
    ck_assert_uint_eq(a->target, TARGET + 1);
    ck_assert_uint_eq(b->gates, 1);
    ck_assert_uint_eq(shared_counts(a->shared).received, 1);
    ck_assert_uint_eq(shared_counts(a->shared).dropped, 0);
}
END_TEST

START_TEST(a_breaker_opens_and_closes_everywhere)
{
    server_start(NULL);
    struct peer *a = peer_join();
    struct peer *b = peer_join();

    shared_report_breaker(a->shared, MODEL, true, 15000);
    AWAIT(b->opens == 1, NEWS_MS);
    ck_assert_uint_eq(b->model, MODEL);
    ck_assert_uint_le(b->open_ms, 15000);
    ck_assert_uint_ge(b->open_ms, 14900);
    shared_report_breaker(b->shared, MODEL, false, 0);
    AWAIT(a->closes == 1, NEWS_MS);
    ck_assert_uint_eq(a->model, MODEL);
    ck_assert_str_eq(server_do("ZCARD retryd:breakers"), "0");
    ck_assert_uint_eq(a->gates + b->gates, 0);
}
END_TEST

START_TEST(the_later_end_stays)
{
    server_start(NULL);
    struct peer *a = peer_join();
    struct peer *b = peer_join();

    shared_report_gate(a->shared, TARGET, 30000);
    AWAIT(b->gates == 1, NEWS_MS);
    shared_report_gate(b->shared, TARGET, 1000); /* no news to anybody */
    shared_report_gate(b->shared, TARGET + 1, 1000);
    AWAIT(a->gates == 1, NEWS_MS);
    ck_assert_uint_eq(a->target, TARGET + 1);
    shared_report_gate(b->shared, TARGET, 60000);
    AWAIT(a->gates == 2, NEWS_MS);
    ck_assert_uint_gt(a->target_ms, 59000);
}
END_TEST

START_TEST(who_comes_later_learns_what_is_in_force)
{
    server_start(NULL);
    struct peer *a = peer_join();

    shared_report_gate(a->shared, TARGET, 60000);
    shared_report_gate(a->shared, TARGET + 1, 50);
    shared_report_breaker(a->shared, MODEL, true, 30000);
    shared_report_breaker(a->shared, MODEL + 1, true, 30000);
    shared_report_breaker(a->shared, MODEL + 1, false, 0);
    /* The server waits 100 ms for what does not come, and the short gate is over. */
    ck_assert_str_eq(server_do("BLPOP nothing 0.1"), "");

    struct peer *b = peer_join();
    AWAIT(b->gates > 0 && b->opens > 0, NEWS_MS);
    ck_assert_uint_eq(b->gates, 1);
    ck_assert_uint_eq(b->target, TARGET);
    ck_assert_uint_gt(b->target_ms, 50000);
    ck_assert_uint_eq(b->opens, 1);
    ck_assert_uint_eq(b->model, MODEL);
    ck_assert_uint_eq(b->closes, 0);
    ck_assert_uint_eq(a->gates + a->opens, 0); /* told to the newcomer alone */
}
END_TEST

START_TEST(the_server_forgets_by_itself)
{
    server_start(NULL);
    struct peer *a = peer_join();

    shared_report_gate(a->shared, TARGET, 60);
    shared_report_gate(a->shared, TARGET + 1, 20);
    shared_report_breaker(a->shared, MODEL, true, 60);
    shared_report_rate(a->shared, UPSTREAM, 6000, 1);
    AWAIT(a->rates == 1, SOON_MS);
    ck_assert_str_eq(server_do("EXISTS retryd:rate:000000000000002a"), "1");
    ck_assert_int_gt(strtol(server_do("PTTL retryd:rate:000000000000002a"), NULL, 10), 0);
    ck_assert_str_eq(server_do("BLPOP nothing 0.1"), "");
    ck_assert_str_eq(server_do("EXISTS retryd:gates retryd:breakers"), "0");
}
END_TEST

START_TEST(rates_add_up)
{
    server_start(NULL);
    struct peer *a = peer_join();
    struct peer *b = peer_join();

    for (int i = 0; i < 100; i++) /* 600 a minute: 100 ms each */
        shared_report_rate(a->shared, UPSTREAM, 600, 1);
    AWAIT(a->ahead_us > 9000000, SOON_MS);
    ck_assert_uint_le(a->ahead_us, 10000000);
    ck_assert_uint_eq(a->upstream, UPSTREAM);
    ck_assert_uint_eq(a->rates, 2); /* the first at once, the rest together */
    shared_report_rate(b->shared, UPSTREAM, 600, 50);
    AWAIT(b->rates == 1, SOON_MS);
    ck_assert_uint_le(b->ahead_us, 15000000);
    ck_assert_uint_gt(b->ahead_us, 14000000);
    shared_report_rate(b->shared, UPSTREAM + 1, 600, 1); /* another upstream's is its own */
    AWAIT(b->upstream == UPSTREAM + 1, SOON_MS);
    ck_assert_uint_le(b->ahead_us, 100000);
    ck_assert_uint_eq(shared_counts(a->shared).dropped, 0);
}
END_TEST

START_TEST(rates_are_told_now_and_then)
{
    server_start(NULL);
    struct peer *a = peer_join();
    uint64_t start = clock_ms();

    for (unsigned i = 1; i <= 6; i++) {
        shared_report_rate(a->shared, UPSTREAM, 6000, 1);
        AWAIT(a->rates == i, SOON_MS);
    }
    ck_assert_uint_ge(clock_ms() - start, 5 * SHARED_RATE_MS - 1); /* the first one at once */
}
END_TEST

/* A server's clock that was set back leaves a time far ahead in the key. */
START_TEST(no_rate_is_ahead_forever)
{
    server_start(NULL);
    struct peer *a = peer_join();

    server_do("SET retryd:rate:000000000000002a 9000000000000000");
    shared_report_rate(a->shared, UPSTREAM, 600, 1);
    AWAIT(a->rates == 1, SOON_MS);
    ck_assert_uint_le(a->ahead_us, 600000000);
    server_do("SET retryd:rate:000000000000002a rubbish");
    shared_report_rate(a->shared, UPSTREAM, 600, 1);
    AWAIT(a->rates == 2, SOON_MS);
    ck_assert_uint_le(a->ahead_us, 100000);
}
END_TEST

START_TEST(one_prefix_knows_nothing_of_another)
{
    server_start(NULL);
    struct peer *a = peer_join();
    struct shared_settings settings = server_settings();

    settings.prefix = "another";
    struct peer *b = peer_new(&settings);
    AWAIT(shared_is_up(b->shared), SOON_MS);
    struct peer *c = peer_join();
    shared_report_gate(a->shared, TARGET, 60000);
    AWAIT(c->gates == 1, NEWS_MS);
    shared_report_gate(b->shared, TARGET + 1, 60000);
    server_do("PUBLISH another:news end"); /* what was before it has been heard by now */
    ck_assert_uint_eq(b->gates + a->gates, 0);
    ck_assert_uint_eq(c->gates, 1);
}
END_TEST

START_TEST(scripts_that_were_flushed_come_again)
{
    server_start(NULL);
    struct peer *a = peer_join();
    struct peer *b = peer_join();

    ck_assert_str_eq(server_do("SCRIPT FLUSH"), "OK");
    shared_report_breaker(a->shared, MODEL, true, 5000);
    shared_report_breaker(a->shared, MODEL, false, 0);
    shared_report_rate(a->shared, UPSTREAM, 600, 3);
    AWAIT(b->closes == 1 && a->rates == 1, SOON_MS);
    ck_assert_uint_eq(b->opens, 1);
    ck_assert(shared_is_up(a->shared));
    ck_assert_uint_eq(shared_counts(a->shared).losses, 0);
}
END_TEST

START_TEST(news_of_strange_form_are_left_out)
{
    static const char *const strange[] = {"gate",
                                          "gate 0123456789abcdef",
                                          "gate 0123456789abcdef 5",
                                          "gate 0123 5 x",
                                          "gate 0123456789ABCDEF 5 x",
                                          "gate 0123456789abcdef -5 x",
                                          "door 0123456789abcdef 5 x"};

    server_start(NULL);
    struct peer *a = peer_join();
    for (size_t i = 0; i < COUNT(strange); i++)
        server_publish(strange[i]);
    shared_report_gate(peer_join()->shared, TARGET, 1000);
    AWAIT(a->gates == 1, NEWS_MS);
    ck_assert_uint_eq(a->target, TARGET);
    ck_assert_uint_eq(shared_counts(a->shared).received, 1);
}
END_TEST

/* Stands in for the C library's: one name here has two addresses, and nobody listens at the first.
 * Every other call goes on to the real one. */
int getaddrinfo(const char *name, const char *port, const struct addrinfo *hints,
                struct addrinfo **ret_list)
{
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) = NULL;
    int rc;

    *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    if (!name || strcmp(name, "two.example") != 0)
        return real(name, port, hints, ret_list);
    rc = real("127.0.0.2", port, hints, ret_list);
    return rc ? rc : real("127.0.0.1", port, hints, &(*ret_list)->ai_next);
}

START_TEST(a_tcp_server_by_name)
{
    uv_tcp_t probe;
    struct sockaddr_storage at;
    int size = sizeof(at);
    char port[8], address[32];

    /* A port that was free a moment ago. */
    uv_ip4_addr("127.0.0.1", 0, (struct sockaddr_in *)&at);
    uv_tcp_init(&loop, &probe);
    ck_assert_int_eq(uv_tcp_bind(&probe, (const struct sockaddr *)&at, 0), 0);
    uv_tcp_getsockname(&probe, (struct sockaddr *)&at, &size);
    snprintf(port, sizeof(port), "%d", ntohs(((const struct sockaddr_in *)&at)->sin_port));
    uv_close((uv_handle_t *)&probe, NULL);
    uv_run(&loop, UV_RUN_NOWAIT);

    const char *const extra[] = {"--port", port, "--bind", "127.0.0.1", NULL};
    server_start(extra);
    snprintf(address, sizeof(address), "two.example:%s", port);
    struct shared_settings settings = server_settings();
    settings.address = address;
    struct peer *a = peer_new(&settings);
    AWAIT(shared_is_up(a->shared), SOON_MS);
    struct peer *b = peer_join();
    shared_report_gate(a->shared, TARGET, 1000);
    AWAIT(b->gates == 1, NEWS_MS);
}
END_TEST

START_TEST(closed_at_any_time)
{
    struct shared_settings settings = server_settings();

    if (_i == 0)
        server_start(NULL);
    else if (_i == 1)
        settings.address = "127.0.0.1:1"; /* goes through the thread pool */
    for (int turns = 0; turns < 40; turns++) {
        struct peer *p = peer_new(&settings);

        for (int i = 0; i < turns; i++)
            turn_until(clock_ms() + 1);
        shared_report_gate(p->shared, TARGET, 1000);
        shared_report_rate(p->shared, UPSTREAM, 600, 1);
        peer_close(p);
    }
}
END_TEST

/* It goes on all the same: what has failed is tried again. */
START_TEST(each_allocation_fails)
{
    struct shared_settings settings = server_settings();
    bool failed = true;

    server_start(NULL);
    settings.password = (struct str){NULL, 0};
    struct peer *b = peer_join();
    for (size_t n = 1; failed; n++) {
        uint64_t until = clock_ms() + SOON_MS;
        unsigned before = b->gates;

        failmem_arm(n);
        struct peer *a = peer_new(&settings);
        while (a->shared && !shared_is_up(a->shared) && clock_ms() < until)
            turn_until(until);
        if (a->shared) {
            shared_report_gate(a->shared, TARGET + n, 1000);
            shared_report_rate(a->shared, UPSTREAM, 600, 1);
            while (a->rates == 0 && shared_counts(a->shared).dropped == 0 && clock_ms() < until)
                turn_until(until);
            while (b->gates == before && shared_counts(a->shared).dropped == 0 &&
                   clock_ms() < until)
                turn_until(until);
        }
        failed = failmem_disarm();
        ck_assert(a->shared || failed);
        ck_assert_uint_lt(clock_ms(), until);
        peer_close(a);
        ck_assert_uint_lt(n, 200);
    }
}
END_TEST

START_TEST(addresses)
{
    static const char *const good[] = {
        "localhost", "redis.example:6380", "127.0.0.1",       "127.0.0.1:6379",
        "[::1]",     "[::1]:7000",         "unix:/run/redis", "[fe80::1%lo]:1"};
    static const char *const bad[] = {"",           ":6379", "host:",       "host:0", "host:65536",
                                      "host:x",     "::1",   "[::1",        "[::1]7", "[]:1",
                                      "unix:redis", "unix:", "redis://a:1", "u:p@h:1"};

    for (size_t i = 0; i < COUNT(good); i++)
        ck_assert_msg(redis_address_check(good[i]) == 0, "%s", good[i]);
    for (size_t i = 0; i < COUNT(bad); i++)
        ck_assert_msg(redis_address_check(bad[i]) < 0, "%s", bad[i]);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *c = unit_case(suite, "shared");

    tcase_add_checked_fixture(c, peers_set_up, peers_tear_down);
    tcase_add_test(c, a_gate_reaches_the_others);
    tcase_add_test(c, a_breaker_opens_and_closes_everywhere);
    tcase_add_test(c, the_later_end_stays);
    tcase_add_test(c, who_comes_later_learns_what_is_in_force);
    tcase_add_test(c, the_server_forgets_by_itself);
    tcase_add_test(c, rates_add_up);
    tcase_add_test(c, rates_are_told_now_and_then);
    tcase_add_test(c, no_rate_is_ahead_forever);
    tcase_add_test(c, one_prefix_knows_nothing_of_another);
    tcase_add_test(c, scripts_that_were_flushed_come_again);
    tcase_add_test(c, news_of_strange_form_are_left_out);
    tcase_add_test(c, a_tcp_server_by_name);
    tcase_add_loop_test(c, closed_at_any_time, 0, 3);
    tcase_add_test(c, each_allocation_fails);
    tcase_add_test(c, addresses);
}
