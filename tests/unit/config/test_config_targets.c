/* Targets: the upstreams and fallback models of a route, pools of keys, the shared view. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "config/config_private.h"
#include "config_text.h"
#include "policy/settings.h"
#include "unit.h"

#define UPSTREAMS \
    "[upstream a]\nurl = http://h/a\n[upstream b]\nurl = http://h/b\n[upstream c]\nurl = http://h/c\n"

static void is_bad(const char *text, int error, const char *problems)
{
    struct loaded l = config_text_load(text);

    ck_assert_ptr_null(l.config);
    ck_assert_str_eq(l.problems, problems);
    ck_assert_int_eq(l.error, error);
}

static struct loaded load_good(const char *text, const char *notes)
{
    struct loaded l = config_text_load(text);

    ck_assert_str_eq(l.problems, "");
    ck_assert_str_eq(l.notes, notes);
    return l;
}

static void is_good(const char *text, const char *notes)
{
    struct loaded l = load_good(text, notes);

    loaded_deinit(&l);
}

/* --- upstreams of a route ------------------------------------------------------------------------ */

START_TEST(C18_a_route_has_several_upstreams)
{
    struct loaded l = load_good(UPSTREAMS "[route r]\nupstreams = c, a\n[route s]\n", "");
    const struct config_route *r = &l.config->routes[0];

    ck_assert_uint_eq(r->upstream_count, 2);
    ck_assert_ptr_eq(r->upstreams[0], &l.config->upstreams[2]);
    ck_assert_ptr_eq(r->upstreams[1], &l.config->upstreams[0]);
    ck_assert_ptr_null(r->weights);
    ck_assert_uint_eq(l.config->routes[1].upstream_count, 1);
    ck_assert_ptr_eq(l.config->routes[1].upstreams[0], &l.config->upstreams[0]);
    loaded_deinit(&l);
    is_bad(UPSTREAMS "[route r]\nupstreams = a, b,\n  a\n", EINVAL,
           "t.conf:9: [route r] upstreams: found \"a\"; expected each item only once\n");
}
END_TEST

/* A client's key is for one provider. Those that have a key of their own are not sent it. */
START_TEST(the_clients_key_for_several_hosts_is_noted)
{
    is_good("[upstream a]\nurl = http://a\n[upstream b]\nurl = http://b\n[route r]\n"
            "upstreams = a, b\n",
            "t.conf:6: [route r] upstreams: a and b have no key of their own: the client's key is "
            "sent to both a and b\n");
    is_good("[upstream a]\nurl = http://a\n[upstream c]\nurl = http://a/other\n[route r]\n"
            "upstreams = a, c\n",
            "");
    setenv("CONFIG_TARGETS_KEY", "sk-1", 1);
    is_good("[upstream a]\nurl = http://a\n[upstream b]\nurl = http://b\n"
            "api_key_env = CONFIG_TARGETS_KEY\n[route r]\nupstreams = a, b\n",
            "");
    unsetenv("CONFIG_TARGETS_KEY");
}
END_TEST

START_TEST(a_route_has_at_most_16_upstreams)
{
    char text[2048] = "";
    size_t n = 0;

    for (int i = 1; i <= 17; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "[upstream u%d]\nurl = http://h\n", i);
    n += (size_t)snprintf(text + n, sizeof text - n, "[route r]\nupstreams = u1");
    for (int i = 2; i <= 16; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, ", u%d", i);
    is_good(text, "");
    snprintf(text + n, sizeof text - n, ", u17\n");
    is_bad(text, EINVAL, "t.conf:36: [route r] upstreams: found 17 of them; expected at most 16\n");
}
END_TEST

START_TEST(weights_are_one_for_each_upstream)
{
    struct loaded l =
        load_good(UPSTREAMS "[route r]\nweights = 5, 0,\n  1000\nupstreams = a, b, c\n", "");

    ck_assert_ptr_nonnull(l.config->routes[0].weights);
    ck_assert_uint_eq(l.config->routes[0].weights[0], 5);
    ck_assert_uint_eq(l.config->routes[0].weights[1], 0);
    ck_assert_uint_eq(l.config->routes[0].weights[2], 1000);
    ck_assert_ptr_null(l.config->routes[1].weights);
    loaded_deinit(&l);
    /* The same share twice is no mistake. */
    is_good(UPSTREAMS "[route r]\nweights = 1, 1\nupstreams = a, b\n", "");
    is_good(UPSTREAMS "[route r]\nweights =\nupstreams = a, b\n", "");
}
END_TEST

START_TEST(weights_that_are_none)
{
    is_bad(UPSTREAMS "[route r]\nweights = 1\nupstreams = a, b\n", EINVAL,
           "t.conf:8: [route r] weights: found 1 of them; expected one for each upstream (2)\n");
    is_bad(UPSTREAMS "[route r]\nupstreams = a, b\nweights = 1, 2, 3\n", EINVAL,
           "t.conf:9: [route r] weights: found 3 of them; expected one for each upstream (2)\n");
    is_bad(UPSTREAMS "[route r]\nweights = 1, 2\n", EINVAL,
           "t.conf:8: [route r] weights: found 2 of them; expected one for each upstream (1)\n");
    is_bad(UPSTREAMS "[route r]\nweights = 0, 0\nupstreams = a, b\n", EINVAL,
           "t.conf:8: [route r] weights: found only 0; expected at least one above 0\n");
    is_bad(UPSTREAMS "[route r]\nweights = 1, -1\nupstreams = a, b\n", EINVAL,
           "t.conf:8: [route r] weights: found \"-1\"; expected a comma-separated list of whole "
           "numbers (at most 1000)\n"
           "t.conf:8: [route r] weights: found 1 of them; expected one for each upstream (2)\n");
    is_bad(UPSTREAMS "[route r]\nweights = 50%\n", EINVAL,
           "t.conf:8: [route r] weights: found \"50%\"; expected a comma-separated list of whole "
           "numbers (at most 1000)\n");
    is_good(UPSTREAMS "[route r]\nupstreams = b\nweights = 3\n",
            "t.conf:9: [route r] weights: have no effect with one upstream\n");
    is_good(UPSTREAMS "[route r]\nweights = 3\n",
            "t.conf:8: [route r] weights: have no effect with one upstream\n");
}
END_TEST

/* --- fallback models ------------------------------------------------------------------------------ */

START_TEST(C18_fallback_on_is_a_set_of_causes)
{
    static const struct {
        const char *text;
        unsigned bits;
    } sets[] = {
        {"error, timeout, context_length", FALLBACK_ON_ALL},
        {"error", FALLBACK_ON_ERROR},
        {"timeout", FALLBACK_ON_TIMEOUT},
        {"context_length", FALLBACK_ON_CONTEXT},
        {"CONTEXT_LENGTH,\n error", FALLBACK_ON_CONTEXT | FALLBACK_ON_ERROR},
        {"none", 0},
    };

    for (size_t i = 0; i < COUNT(sets); i++) {
        char text[256];
        struct loaded l;

        snprintf(text, sizeof text, "[route r]\nfallback_models = m\nfallback_on = %s\n",
                 sets[i].text);
        l = load_good(text, "");
        ck_assert_uint_eq(l.config->routes[0].fallback_on, sets[i].bits);
        ck_assert_uint_eq(l.config->routes[1].fallback_on, FALLBACK_ON_ALL);
        loaded_deinit(&l);
    }
    is_bad("[route r]\nfallback_models = m\nfallback_on = error, none\n", EINVAL,
           "t.conf:3: [route r] fallback_on: found \"none\"; expected none, or a comma-separated "
           "list of error, timeout or context_length\n");
}
END_TEST

START_TEST(fallback_models_differ)
{
    struct loaded l = load_good("[route r]\nfallback_models = m2, m1\n", "");

    ck_assert_uint_eq(l.config->routes[0].fallback_models.count, 2);
    ck_assert_str_eq(l.config->routes[0].fallback_models.items[0], "m2");
    loaded_deinit(&l);
    is_bad("[route r]\nfallback_models = m1, m2, m1\n", EINVAL,
           "t.conf:2: [route r] fallback_models: found \"m1\"; expected each item only once\n");
}
END_TEST

START_TEST(what_needs_fallback_models_is_noted)
{
    static const char notes[] =
        "t.conf:2: [route r] fallback_on: has no effect without fallback_models\n"
        "t.conf:3: [route r] retry.attempts_per_tier: has no effect without fallback_models\n";
    struct loaded l =
        load_good("[route r]\nfallback_on = none\nretry.attempts_per_tier = 2\n[route s]\n"
                  "fallback_models = m\nfallback_on = none\nretry.attempts_per_tier = 2\n",
                  notes);

    loaded_deinit(&l);
    /* The default, which a dump holds for every route, and the section for all routes. */
    is_good("[retry]\nattempts_per_tier = 2\n[route r]\n"
            "fallback_on = error, timeout, context_length\n",
            "");
}
END_TEST

START_TEST(routes_override_queue_and_hedge)
{
    struct loaded l =
        load_good("[queue]\nsize = 5\n[route r]\nqueue.timeout = 1s\nhedge.after = 2s\n"
                  "hedge.requests = all\nbreaker.failures = 0\n",
                  "");
    const struct route_settings *s = &l.config->routes[0].settings;

    ck_assert_uint_eq(s->queue.size, 5);
    ck_assert_uint_eq(s->queue.timeout_ms, 1000);
    ck_assert_uint_eq(s->hedge.after_ms, 2000);
    ck_assert_int_eq(s->hedge.requests, HEDGE_ALL);
    ck_assert_uint_eq(s->breaker.failures, 0);
    ck_assert_uint_eq(l.config->routes[1].settings.queue.timeout_ms, 120000);
    ck_assert_uint_eq(l.config->routes[1].settings.hedge.after_ms, 0);
    loaded_deinit(&l);
    is_bad("[route r]\nsize = 1\nshared.redis = h:1\n", EINVAL,
           "t.conf:2: [route r] \"size\": unknown key; in a route it is queue.size\n"
           "t.conf:3: [route r] \"shared.redis\": unknown key\n");
}
END_TEST

/* --- an upstream's keys ---------------------------------------------------------------------------- */

static void write_keys(const char *text)
{
    config_text_write("keys", text, strlen(text));
    ck_assert_int_eq(chmod("keys", 0600), 0);
}

START_TEST(C18_a_key_file_is_a_pool)
{
    struct loaded l;
    const struct config_upstream *u;

    write_keys("sk-1\n# two\nsk-2\n\nsk-1\nsk-3\n");
    l = load_good(
        "[upstream openai]\napi_key_file = ./keys\nkey_cooldown = 2s\n"
        "adaptive_pacing = yes\nmodel.m = n\n",
        "t.conf:2: [upstream openai] api_key_file: the key on line 5 of \"./keys\" is a duplicate and counts only once\n");
    u = &l.config->upstreams[0];
    ck_assert_uint_eq(u->key_count, 3);
    ck_assert(str_eq(secret_text(u->keys[0]), STR("sk-1")));
    ck_assert(str_eq(secret_text(u->keys[2]), STR("sk-3")));
    ck_assert_uint_eq(u->key_cooldown_ms, 2000);
    ck_assert(u->adaptive_pacing);
    ck_assert_uint_eq(u->models.count, 1);
    ck_assert_str_eq(u->models.items[0].name, "m");
    ck_assert_str_eq(u->models.items[0].value, "n");
    loaded_deinit(&l);
}
END_TEST

/* --- the shared view ------------------------------------------------------------------------------- */

#define SHARED "[shared]\nredis = 10.0.0.1:6379\n"

START_TEST(servers)
{
    static const char *const good[] = {"redis.example:6379", "127.0.0.1:1", "[::1]:65535",
                                       "unix:/run/redis.sock", "localhost:6379"};
    static const char *const bad[][2] = {
        {"redis", "HOST:PORT, [IPV6]:PORT or unix:/PATH"},
        {"redis:", "HOST:PORT, [IPV6]:PORT or unix:/PATH"},
        {"redis://h", "HOST:PORT, [IPV6]:PORT or unix:/PATH"},
        {"redis:0", "a port from 1 to 65535 after the host"},
        {"redis:65536", "a port from 1 to 65535 after the host"},
        {":6379", "HOST:PORT, [IPV6]:PORT or unix:/PATH"},
        {"::1:6379", "HOST:PORT, [IPV6]:PORT or unix:/PATH"},
        {"[::1]", "HOST:PORT, [IPV6]:PORT or unix:/PATH"},
        {"[h]:6379", "HOST:PORT, [IPV6]:PORT or unix:/PATH"},
        {"h h:6379", "HOST:PORT, [IPV6]:PORT or unix:/PATH"},
        {"redis://h:6379/0", "HOST:PORT, [IPV6]:PORT or unix:/PATH"},
        {"u:secretpw@h:6379", "HOST:PORT, [IPV6]:PORT or unix:/PATH"},
        {"unix:run", "an absolute path after unix:"},
    };
    char text[256], wanted[256];

    for (size_t i = 0; i < COUNT(good); i++) {
        struct loaded l;

        snprintf(text, sizeof text, "[shared]\nredis = %s\n", good[i]);
        l = load_good(text, "");
        ck_assert_str_eq(l.config->shared_redis, good[i]);
        loaded_deinit(&l);
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        bool hidden = strchr(bad[i][0], '@') != NULL;

        snprintf(text, sizeof text, "[shared]\nredis = %s\n", bad[i][0]);
        snprintf(wanted, sizeof wanted, "t.conf:2: [shared] redis: found %s%s%s; expected %s\n",
                 hidden ? "" : "\"",
                 hidden ? "a value that is not shown because it may be secret" : bad[i][0],
                 hidden ? "" : "\"", bad[i][1]);
        is_bad(text, EINVAL, wanted);
    }
}
END_TEST

START_TEST(the_password_is_the_first_line)
{
    struct loaded l;
    char *dump;

    write_keys("  #1 SECRET word \r\nsecond\n");
    l = load_good(SHARED "redis_user = app\nredis_password_file = ./keys\n", "");
    ck_assert_ptr_nonnull(l.config->shared_password);
    ck_assert(str_eq(secret_text(l.config->shared_password), STR("#1 SECRET word")));
    ck_assert_str_eq(l.config->shared_redis_user, "app");
    dump = config_text_dump(l.config);
    ck_assert_ptr_null(strstr(dump, "SECRET"));
    ck_assert_ptr_nonnull(strstr(dump, "\nredis_password_file = ./keys\n"));
    free(dump);
    loaded_deinit(&l);
    /* The default user has one too. */
    is_good(SHARED "redis_password_file = ./keys\n", "");
    ck_assert_int_eq(chmod("keys", 0644), 0);
    is_good(SHARED "redis_password_file = ./keys\n",
            "t.conf:3: [shared] redis_password_file: everyone on this machine can read \"./keys\" "
            "(mode 0644); 0600 would do\n");
}
END_TEST

START_TEST(password_files_that_are_none)
{
    static const char text[] = SHARED "redis_password_file = ./keys\n";
    static const char zero[] = "SECRET\0\n";

    write_keys("");
    is_bad(text, ENOKEY,
           "t.conf:3: [shared] redis_password_file: the first line of \"./keys\" is empty; "
           "expected the password\n");
    write_keys(" \nSECRET\n");
    is_bad(text, ENOKEY,
           "t.conf:3: [shared] redis_password_file: the first line of \"./keys\" is empty; "
           "expected the password\n");
    config_text_write("keys", zero, sizeof zero - 1);
    is_bad(
        text, ENOKEY,
        "t.conf:3: [shared] redis_password_file: the first line of \"./keys\" is not a password; expected text\n");
    ck_assert_int_eq(unsetenv("CREDENTIALS_DIRECTORY"), 0);
    is_bad(
        SHARED "redis_password_file = redis\n", ENOKEY,
        "t.conf:3: [shared] redis_password_file: \"redis\" cannot be read: No such file or "
        "directory (a name without a slash is a systemd credential, but CREDENTIALS_DIRECTORY is not set)\n");
}
END_TEST

START_TEST(what_belongs_together)
{
    write_keys("k\n");
    is_bad(
        SHARED "redis_user = app\n", EINVAL,
        "t.conf:3: [shared] redis_user: redis_password_file is not set; expected both or neither\n");
    is_good("[shared]\nredis_user = app\nredis_password_file = ./keys\n",
            "t.conf:2: [shared] redis_user: has no effect without redis\n"
            "t.conf:3: [shared] redis_password_file: has no effect without redis\n");
}
END_TEST

/* Whoever asks how the daemon is may not be one who may read its password. */
START_TEST(the_admin_address_needs_no_password)
{
    static const char text[] = SHARED "redis_password_file = ./missing\n";
    struct buf problems;
    char *address;

    config_text_write("t.conf", text, sizeof text - 1);
    buf_init(&problems, 1024);
    address = config_admin_address("t.conf", &problems);
    ck_assert_str_eq(address, "127.0.0.1:4291");
    free(address);
    ck_assert_uint_eq(problems.len, 0);
    buf_deinit(&problems);
}
END_TEST

START_TEST(prefixes)
{
    char text[128], name[66];

    memset(name, 'p', 65);
    name[65] = '\0';
    snprintf(text, sizeof text, "[shared]\nprefix = %s\n", name);
    ck_assert_ptr_nonnull(strstr(config_text_load(text).problems, "[shared] prefix: found"));
    name[64] = '\0';
    snprintf(text, sizeof text, "[shared]\nprefix = %s\n", name);
    is_good(text, "");
    ck_assert_ptr_nonnull(strstr(config_text_load("[shared]\nprefix =\n").problems,
                                 "found \"\"; expected 1 to 64 letters"));
    ck_assert_ptr_nonnull(strstr(config_text_load("[shared]\nprefix = a*\n").problems,
                                 "found \"a*\"; expected 1 to 64 letters"));
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *all = unit_case(suite, "targets");

    tcase_add_test(all, C18_a_route_has_several_upstreams);
    tcase_add_test(all, the_clients_key_for_several_hosts_is_noted);
    tcase_add_test(all, a_route_has_at_most_16_upstreams);
    tcase_add_test(all, weights_are_one_for_each_upstream);
    tcase_add_test(all, weights_that_are_none);
    tcase_add_test(all, C18_fallback_on_is_a_set_of_causes);
    tcase_add_test(all, fallback_models_differ);
    tcase_add_test(all, what_needs_fallback_models_is_noted);
    tcase_add_test(all, routes_override_queue_and_hedge);
    tcase_add_test(all, C18_a_key_file_is_a_pool);
    tcase_add_test(all, servers);
    tcase_add_test(all, the_password_is_the_first_line);
    tcase_add_test(all, password_files_that_are_none);
    tcase_add_test(all, what_belongs_together);
    tcase_add_test(all, the_admin_address_needs_no_password);
    tcase_add_test(all, prefixes);
}
