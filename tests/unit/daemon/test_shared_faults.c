/* The shared view with a server that is gone, slow, somebody else's or no Redis: told once, and made good. */

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "failmem.h"
#include "shared_peers.h"
#include "unit.h"

#define TARGET 0x0123456789abcdefu
#define UPSTREAM 42u
#define NEWS_MS 100

static bool down_because(const struct peer *p, const char *words)
{
    const char *why = shared_why_down(p->shared);

    return why && strstr(why, words);
}

START_TEST(killed_and_started_again)
{
    server_start(NULL);
    struct peer *a = peer_join();
    struct peer *b = peer_join();

    server_kill();
    AWAIT(!shared_is_up(a->shared) && !shared_is_up(b->shared), SOON_MS);
    shared_report_gate(a->shared, TARGET, 60000);  /* kept for later */
    shared_report_gate(a->shared, TARGET + 1, 20); /* over by then */
    AWAIT(down_because(a, "cannot be reached") && down_because(b, "cannot be reached"), SOON_MS);
    server_start(NULL);
    AWAIT(shared_is_up(a->shared) && shared_is_up(b->shared), SOON_MS);
    AWAIT(b->gates >= 1, SOON_MS); /* as news, with all that is shut, or both */
    ck_assert_uint_eq(b->target, TARGET);
    ck_assert_uint_lt(b->target_ms, 60000);
    ck_assert_ptr_null(shared_why_down(a->shared));
    ck_assert_uint_eq(shared_counts(a->shared).losses, 1);

    /* Both, for two causes: the connection, then the server. */
    const char *log = peers_log();
    ck_assert_uint_eq(count_of(log, "level=warn"), 4);
    ck_assert_uint_eq(count_of(log, "shared view lost: "), 4);
    ck_assert_uint_eq(count_of(log, "closed the connection"), 2);
    ck_assert_uint_eq(count_of(log, "cannot be reached: "), 2);
    ck_assert_uint_eq(count_of(log, "shared view is back"), 2);
}
END_TEST

START_TEST(a_flapping_server_is_told_of_once)
{
    server_start(NULL);
    struct peer *a = peer_join();

    for (int i = 0; i < 3; i++) {
        server_do("CLIENT KILL TYPE normal SKIPME yes");
        AWAIT(!shared_is_up(a->shared), SOON_MS);
        AWAIT(shared_is_up(a->shared), SOON_MS);
    }
    ck_assert_uint_eq(shared_counts(a->shared).losses, 3);
    const char *log = peers_log();
    ck_assert_uint_eq(count_of(log, "shared view lost"), 1);
    ck_assert_uint_eq(count_of(log, "shared view is back"), 1);
}
END_TEST

START_TEST(silence_is_noticed)
{
    server_start(NULL);
    struct peer *a = peer_join();
    struct peer *b = peer_join();

    server_signal(SIGSTOP);
    /* Sent, and not answered: all but the rate is told again, in its order. */
    shared_report_gate(a->shared, TARGET, 60000);
    shared_report_breaker(a->shared, TARGET, true, 60000);
    shared_report_breaker(a->shared, TARGET, false, 0);
    shared_report_rate(a->shared, UPSTREAM, 600, 1);
    AWAIT(!shared_is_up(a->shared) && !shared_is_up(b->shared), SOON_MS);
    ck_assert(down_because(a, "did not reply") && down_because(b, "did not reply"));
    server_signal(SIGCONT);
    AWAIT(shared_is_up(a->shared) && shared_is_up(b->shared), SOON_MS);
    AWAIT(b->gates > 0 && b->target == TARGET, SOON_MS);
    shared_report_gate(a->shared, TARGET + 1, 60000);
    AWAIT(b->target == TARGET + 1, SOON_MS);
    ck_assert_str_eq(server_do("ZCARD retryd:breakers"), "0");
    ck_assert_uint_eq(a->rates, 0);
    shared_report_rate(a->shared, UPSTREAM, 600, 1);
    AWAIT(a->rates == 1, SOON_MS);
    /* Again, if this machine holds the server up for a second. */
    ck_assert_uint_ge(count_of(peers_log(), "did not reply within a second"), 2);
}
END_TEST

/* What may answer at the address, and what is said of it. */
static const struct {
    const char *says;
    size_t n;
    const char *why;
} strangers[] = {
#define SAYS(text) text, sizeof(text) - 1
    {SAYS("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"), "is not a Redis server"},
    {SAYS("220 mail.example ESMTP\r\n"), "is not a Redis server"},
    {SAYS("SSH-2.0-OpenSSH_9.2\r\n"), "is not a Redis server"},
    {SAYS("\0\0\0\xff\xfe"), "is not a Redis server"},
    {SAYS("+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n"), "is not a Redis server"},
    {SAYS("+OK\r\n*3\r\n:1\r\n:2\r\n:3\r\n*1\r\n$1\r\nx\r\n"), "is not a Redis server"},
    {SAYS("+OK\r\n*0\r\n*-1\r\n$-1\r\n"), "is not a Redis server"},
    {SAYS("+OK\r\n*3\r\n$7\r\nmessage\r\n:1\r\n:2\r\n:7\r\n"), "is not a Redis server"},
    {SAYS("*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n"), NULL},
    {SAYS("$99999999999999999999\r\n"), NULL},
    {SAYS("*2147483647\r\n"), NULL},
    {SAYS("$1000\r\nnot all of it"), "did not reply"},
    {NULL, 0, "did not reply"},
    {SAYS("-ERR max number of clients reached\r\n-ERR x\r\n-ERR x\r\n"), "no more connections"},
    {SAYS("-DENIED Redis is running in protected mode\r\n-DENIED x\r\n"), "protected mode"},
    {SAYS("-LOADING Redis is loading the dataset in memory\r\n-LOADING Redis is\r\n"),
     "still loading"},
    {SAYS("+OK\r\n-MOVED 1234 10.0.0.1:6379\r\n"), "part of a cluster"},
    {SAYS("+OK\r\n-MISCONF Redis is configured to save\r\n"), "cannot save"},
    {SAYS("+OK\r\n-OOM command not allowed\r\n"), "out of memory"},
    {SAYS("+OK\r\n-WHATEVER it is\r\n"), "refuses the command: WHATEVER it is"},
};

START_TEST(strangers_are_told_apart)
{
    struct shared_settings settings = stranger_start(strangers[_i].says, strangers[_i].n);
    struct peer *a = peer_new(&settings);

    AWAIT(!down_because(a, "has not replied yet"), SOON_MS);
    ck_assert_msg(!strangers[_i].why || down_because(a, strangers[_i].why), "%s",
                  shared_why_down(a->shared));
    AWAIT(stranger_met > 2, SOON_MS); /* it tries again */
    ck_assert_uint_eq(shared_counts(a->shared).losses, 0);
    ck_assert_uint_eq(count_of(peers_log(), "shared view lost"), 1);
}
END_TEST

START_TEST(nobody_there)
{
    struct shared_settings settings = server_settings();

    settings.address = _i == 0 ? "127.0.0.1:1" : _i == 1 ? "[::1]:1" : "no-such-name.invalid";
    struct peer *a = peer_new(&settings);
    AWAIT(down_because(a, _i < 2 ? "cannot be reached" : "has no address"), SOON_MS);
    ck_assert(down_because(a, settings.address));
}
END_TEST

static const struct {
    const char *user, *password, *why;
} logins[] = {
    {NULL, "open-sesame", NULL},
    {"default", "open-sesame", NULL},
    {NULL, NULL, "requires a password"},
    {NULL, "secret-but-wrong", "rejects the user or the password"},
    {"nobody", "open-sesame", "rejects the user or the password"},
};

START_TEST(logins_are_needed)
{
    const char *const extra[] = {"--requirepass", "open-sesame", NULL};
    struct shared_settings settings = server_settings();

    server_start(extra);
    settings.user = logins[_i].user;
    settings.password = str_from(logins[_i].password);
    struct peer *a = peer_new(&settings);
    if (logins[_i].why)
        AWAIT(down_because(a, logins[_i].why), SOON_MS);
    else
        AWAIT(shared_is_up(a->shared), SOON_MS);
    const char *log = peers_log();
    ck_assert_uint_eq(count_of(log, "open-sesame") + count_of(log, "secret-but-wrong"), 0);
}
END_TEST

/* A server without AUTH repeats it, with its words. */
START_TEST(a_password_that_comes_back_is_not_told)
{
    static const char says[] =
        "-ERR unknown command 'AUTH', with args beginning with: 'open-sesame' \r\n";
    struct shared_settings settings = stranger_start(says, sizeof(says) - 1);

    settings.password = STR("open-sesame");
    struct peer *a = peer_new(&settings);
    AWAIT(down_because(a, "rejects the user or the password"), SOON_MS);
    ck_assert(!down_because(a, "sesame"));
    ck_assert_uint_eq(count_of(peers_log(), "sesame"), 0);
}
END_TEST

/* What shared.h says a confined user needs is enough, and without a part of it the part is told. */
#define COMMANDS                                                                                \
    "+auth +ping +client|setname +script|load +evalsha +eval +subscribe +time +get +set +zadd " \
    "+zrem +zscore +zrange +zremrangebyscore +zremrangebyrank +pexpireat +publish"
static const struct {
    const char *rights, *why;
} users[] = {
    {"~retryd:* &retryd:* " COMMANDS, NULL},
    {"~retryd:* &retryd:* " COMMANDS " -client|setname", NULL},
    {"~retryd:* &retryd:* " COMMANDS " -evalsha", "denies this user"},
    {"~retryd:* &retryd:* " COMMANDS " -script|load", "denies this user"},
    {"~retryd:* &retryd:* " COMMANDS " -zrange", "denies this user"},
    {"~retryd:* &retryd:* " COMMANDS " -subscribe", "denies this user"},
    {"~other:* &retryd:* " COMMANDS, "denies this user"},
    {"~retryd:* &other:* " COMMANDS, "denies this user"},
};

START_TEST(confined_users)
{
    struct shared_settings settings = server_settings();
    char rights[512];
    const char *extra[40] = {"--user", "limited", "on", ">pw"};
    int n = 4;

    snprintf(rights, sizeof(rights), "%s", users[_i].rights);
    for (char *at = rights, *word; (word = strsep(&at, " "));)
        extra[n++] = word;
    server_start(extra);
    settings.user = "limited";
    settings.password = STR("pw");
    struct peer *a = peer_new(&settings);
    if (users[_i].why) {
        AWAIT(down_because(a, users[_i].why), SOON_MS);
        return;
    }
    AWAIT(shared_is_up(a->shared), SOON_MS);
    struct peer *b = peer_join();
    shared_report_gate(a->shared, TARGET, 60000);
    shared_report_breaker(a->shared, TARGET, true, 60000);
    shared_report_breaker(a->shared, TARGET, false, 0);
    shared_report_rate(a->shared, UPSTREAM, 600, 1);
    AWAIT(b->gates >= 1 && b->closes >= 1 && a->rates >= 1, SOON_MS);
    ck_assert(shared_is_up(a->shared));
}
END_TEST

START_TEST(a_primary_that_becomes_a_replica)
{
    server_start(NULL);
    struct peer *a = peer_join();
    struct peer *b = peer_join();

    ck_assert_str_eq(server_do("REPLICAOF 127.0.0.1 1"), "OK");
    shared_report_gate(a->shared, TARGET, 60000);
    AWAIT(down_because(a, "is a read-only replica"), SOON_MS);
    ck_assert_str_eq(server_do("REPLICAOF NO ONE"), "OK");
    AWAIT(shared_is_up(a->shared) && b->gates == 1, SOON_MS);
}
END_TEST

START_TEST(names_that_are_taken)
{
    server_start(NULL);
    ck_assert_str_eq(server_do("SET retryd:gates taken"), "OK");
    struct shared_settings settings = server_settings();
    struct peer *a = peer_new(&settings);
    AWAIT(down_because(a, "other data under retryd's key names"), SOON_MS);
    ck_assert_str_eq(server_do("DEL retryd:gates"), "1");
    AWAIT(shared_is_up(a->shared), SOON_MS);
    ck_assert_str_eq(server_do("RPUSH retryd:rate:000000000000002a taken"), "1");
    shared_report_rate(a->shared, UPSTREAM, 600, 1);
    AWAIT(down_because(a, "other data under retryd's key names"), SOON_MS);
    AWAIT(shared_is_up(a->shared), SOON_MS);
    ck_assert_str_eq(server_do("GET retryd:gates"), "");
}
END_TEST

START_TEST(news_wait_in_a_bounded_queue)
{
    struct shared_settings settings = server_settings();
    struct peer *a = peer_new(&settings);

    for (unsigned i = 0; i < 1500; i++)
        shared_report_gate(a->shared, i, 60000);
    ck_assert_uint_eq(shared_counts(a->shared).dropped, 500);
    server_start(NULL);
    struct peer *b = peer_join();
    AWAIT(shared_is_up(a->shared), SOON_MS);
    /* The latest, in order. One that is sent while b begins may come twice: as news, and with all that is shut. */
    AWAIT(b->gates >= 1000 && b->target == 1499, SOON_MS);
    ck_assert_str_eq(server_do("ZCARD retryd:gates"), "1000");
    ck_assert_str_eq(server_do("ZSCORE retryd:gates 00000000000001f3"), "");
}
END_TEST

static void on_connected(void *arg)
{
    *(bool *)arg = true;
}

static void on_dead(void *arg, enum redis_end end, int error)
{
    (void)arg;
    (void)end;
    (void)error;
    ck_abort_msg("the connection died");
}

/* When so many allocations had been asked for. */
static uint64_t time_of_allocations(size_t n)
{
    uint64_t until = clock_ms() + SOON_MS;

    while (failmem_count() < n && clock_ms() < until)
        turn_until(until);
    return clock_ms();
}

START_TEST(a_ping_without_memory_comes_again_at_once_but_once)
{
    uint64_t first, second, third;
    bool connected = false;
    struct redis_handler handler = {.connected = on_connected, .dead = on_dead, .arg = &connected};

    server_start(NULL);
    struct redis *r = redis_open(&loop, server_settings().address, &handler);
    ck_assert_ptr_nonnull(r);
    AWAIT(connected, SOON_MS);
    failmem_arm_from(1);
    first = time_of_allocations(1);
    second = time_of_allocations(2);
    third = time_of_allocations(3);
    (void)failmem_disarm();
    ck_assert_uint_ge(third - second, REDIS_PING_MS - 1);
    ck_assert_uint_lt(second - first, REDIS_PING_MS - 1);
    redis_close(r);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *c = unit_case(suite, "shared_faults");

    tcase_add_checked_fixture(c, peers_set_up, peers_tear_down);
    tcase_add_test(c, killed_and_started_again);
    tcase_add_test(c, a_flapping_server_is_told_of_once);
    tcase_add_test(c, silence_is_noticed);
    tcase_add_loop_test(c, strangers_are_told_apart, 0, COUNT(strangers));
    tcase_add_loop_test(c, nobody_there, 0, 3);
    tcase_add_loop_test(c, logins_are_needed, 0, COUNT(logins));
    tcase_add_test(c, a_password_that_comes_back_is_not_told);
    tcase_add_loop_test(c, confined_users, 0, COUNT(users));
    tcase_add_test(c, a_primary_that_becomes_a_replica);
    tcase_add_test(c, names_that_are_taken);
    tcase_add_test(c, news_wait_in_a_bounded_queue);
    tcase_add_test(c, a_ping_without_memory_comes_again_at_once_but_once);
}
