/* What values mean together: who may reach it, keys, routes, notes, and a dump that loads again. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/config_private.h"
#include "config_text.h"
#include "unit.h"

static void is_bad(const char *text, int error, const char *problems)
{
    struct loaded l = config_text_load(text);

    ck_assert_ptr_null(l.config);
    ck_assert_str_eq(l.problems, problems);
    ck_assert_int_eq(l.error, error);
}

static void is_good(const char *text, const char *notes)
{
    struct loaded l = config_text_load(text);

    ck_assert_str_eq(l.problems, "");
    ck_assert_str_eq(l.notes, notes);
    loaded_deinit(&l);
}

/* --- C29 -------------------------------------------------------------------------------------- */

#define REACHABLE(section, address)                                                            \
    "[" section "] listen: found \"" address "\", which other machines can reach; expected a " \
    "loopback address, a Unix socket, or "
#define OF_SERVER                                                                                \
    "client_keys_file in [server] if clients must send a token, or insecure_listen = yes there " \
    "if anyone who can reach it may use it\n"
#define OF_ADMIN "insecure_listen = yes in [admin] if anyone who can reach it may read the pages\n"

START_TEST(C29_loopback_and_unix_need_no_word)
{
    is_good("[server]\nlisten = 127.0.0.1:1, 127.9.9.9:2, [::1]:3, localhost:4, unix:/run/x, "
            "[::ffff:127.0.0.1]:5\n[admin]\nlisten = unix:/run/y\n",
            "");
}
END_TEST

START_TEST(C29_other_addresses_are_refused)
{
    static const char *const addresses[] = {"0.0.0.0:1",     "[::]:1",      "10.0.0.1:0",
                                            "128.0.0.1:1",   "[fe80::1]:1", "[::ffff:10.0.0.1]:1",
                                            "192.168.0.1:80"};

    for (size_t i = 0; i < COUNT(addresses); i++) {
        char text[128];
        struct loaded l;

        snprintf(text, sizeof text, "[server]\nlisten = 127.0.0.1:1, %s\n", addresses[i]);
        l = config_text_load(text);
        ck_assert_ptr_null(l.config);
        ck_assert_ptr_nonnull(strstr(l.problems, "which other machines can reach"));
        snprintf(text, sizeof text,
                 "[server]\nlisten = %s\ninsecure_listen = yes\n"
                 "allowed_hosts = h\n",
                 addresses[i]);
        is_good(text, "");
    }
    is_bad("[server]\nlisten = 0.0.0.0:1\ninsecure_listen = no\n", EINVAL,
           "t.conf:2: " REACHABLE("server", "0.0.0.0:1") OF_SERVER);
}
END_TEST

START_TEST(reachable_addresses_need_names)
{
    is_good(
        "[server]\ninsecure_listen = yes\nlisten = [::1]:1, 0.0.0.0:1, [::]:2\n",
        "t.conf:3: [server] allowed_hosts: is not set, so requests from other machines get 403; add the name or address that they use for this machine\n");
}
END_TEST

START_TEST(C29_client_tokens_lift_the_refusal)
{
    config_text_write("tokens", "0123456789abcdef\n", 17);
    ck_assert_int_eq(chmod("tokens", 0600), 0);
    is_good("[server]\nclient_keys_file = ./tokens\nlisten = 0.0.0.0:1\nallowed_hosts = h\n"
            "[upstream openai]\nheader.Authorization = x\n",
            "");
    is_bad("[server]\nclient_keys_file = ./tokens\n[admin]\nlisten = 0.0.0.0:1\n", EINVAL,
           "t.conf:4: " REACHABLE("admin", "0.0.0.0:1") OF_ADMIN);
}
END_TEST

START_TEST(C29_holds_for_the_admin_pages)
{
    is_bad("[admin]\nlisten = 0.0.0.0:1\n", EINVAL,
           "t.conf:2: " REACHABLE("admin", "0.0.0.0:1") OF_ADMIN);
    is_bad("[server]\ninsecure_listen = yes\n[admin]\nlisten = 0.0.0.0:1\n", EINVAL,
           "t.conf:4: " REACHABLE("admin", "0.0.0.0:1") OF_ADMIN);
    is_good("[admin]\ninsecure_listen = yes\nlisten = 0.0.0.0:1\n", "");
}
END_TEST

START_TEST(addresses_that_are_none)
{
    static const char *const bad[][2] = {
        {"4290", "ADDRESS:PORT"},
        {"127.0.0.1", "ADDRESS:PORT"},
        {"[::1]", "ADDRESS:PORT"},
        {"127.0.0.1:", "a port from 0"},
        {"127.0.0.1:65536", "a port from 0"},
        {"127.0.0.1:+1", "a port from 0"},
        {"::1:80", "an IP address (IPv6 in brackets) or localhost"},
        {"example.com:80", "an IP address (IPv6 in brackets) or localhost"},
        {":80", "an IP address (IPv6 in brackets) or localhost"},
        {"[127.0.0.1]:80", "an IPv6 address between the brackets"},
        {"[]:80", "an IP address"},
        {"unix:run/x", "an absolute path after unix:"},
        {"unix:/0123456789/0123456789/0123456789/0123456789/0123456789/0123456789/0123456789/"
         "0123456789/0123456789/01234567",
         "at most 107 bytes"},
    };

    for (size_t i = 0; i < COUNT(bad); i++) {
        char text[256];
        struct loaded l;

        snprintf(text, sizeof text, "[server]\nlisten = %s\n", bad[i][0]);
        l = config_text_load(text);
        ck_assert_ptr_null(l.config);
        ck_assert_msg(strstr(l.problems, bad[i][1]) != NULL, "%s", l.problems);
    }
}
END_TEST

START_TEST(listeners_differ)
{
    is_bad(
        "[server]\nlisten = 127.0.0.1:4291\n", EINVAL,
        "t.conf:2: [admin] listen: 127.0.0.1:4291 is also an address of [server]; expected a different address, or off\n");
    is_good("[server]\nlisten = 127.0.0.1:0\n[admin]\nlisten = 127.0.0.1:0\n", "");
    is_bad("[server]\nlisten = unix:/1,unix:/2,unix:/3,unix:/4,unix:/5,unix:/6,unix:/7,unix:/8,\n"
           " unix:/9,unix:/10,unix:/11,unix:/12,unix:/13,unix:/14,unix:/15,unix:/16,unix:/17\n",
           EINVAL, "t.conf:2: [server] listen: expected at most 16 addresses\n");
}
END_TEST

/* --- keys -------------------------------------------------------------------------------------- */

static struct str first_key(const struct loaded *l)
{
    ck_assert_ptr_nonnull(l->config);
    ck_assert_uint_ge(l->config->upstreams[0].key_count, 1);
    return secret_text(l->config->upstreams[0].keys[0]);
}

START_TEST(key_from_the_environment)
{
    static const char text[] = "[upstream openai]\napi_key_env = TEST_KEY\n";
    struct loaded l;

    ck_assert_int_eq(setenv("TEST_KEY", "  sk-secret-1\n", 1), 0);
    l = config_text_load(text);
    ck_assert(str_eq(first_key(&l), STR("sk-secret-1")));
    loaded_deinit(&l);
    ck_assert_int_eq(setenv("TEST_KEY", "sk secret", 1), 0);
    is_bad(
        text, ENOKEY,
        "t.conf:2: [upstream openai] api_key_env: the value of \"TEST_KEY\" is not a key; expected printable ASCII without spaces\n");
    ck_assert_int_eq(setenv("TEST_KEY", "", 1), 0);
    is_bad(text, ENOKEY,
           "t.conf:2: [upstream openai] api_key_env: the variable \"TEST_KEY\" is empty; "
           "set it, or remove api_key_env so that the client's own key passes through\n");
    ck_assert_int_eq(unsetenv("TEST_KEY"), 0);
    is_bad(text, ENOKEY,
           "t.conf:2: [upstream openai] api_key_env: the variable \"TEST_KEY\" is not set; "
           "set it, or remove api_key_env so that the client's own key passes through\n");
}
END_TEST

static void write_keys(const char *text, mode_t mode)
{
    config_text_write("keys", text, strlen(text));
    ck_assert_int_eq(chmod("keys", mode), 0);
}

#define KEY_FILE "[upstream openai]\napi_key_file = ./keys\n"

START_TEST(keys_from_a_file)
{
    struct loaded l;

    write_keys("# ours\n\n  sk-secret-1 \r\nsk-secret-2\n", 0600);
    l = config_text_load(KEY_FILE);
    ck_assert(str_eq(first_key(&l), STR("sk-secret-1")));
    ck_assert_uint_eq(l.config->upstreams[0].key_count, 2);
    ck_assert_str_eq(l.notes, "");
    loaded_deinit(&l);
    write_keys("sk-secret-1", 0644);
    is_good(KEY_FILE, "t.conf:2: [upstream openai] api_key_file: everyone on this machine can read "
                      "\"./keys\" (mode 0644); 0600 would do\n");
}
END_TEST

START_TEST(key_files_that_are_none)
{
    write_keys("# nothing\n\n", 0600);
    is_bad(KEY_FILE, ENOKEY,
           "t.conf:2: [upstream openai] api_key_file: \"./keys\" contains no key\n");
    write_keys("sk-secret-1\nsk secret\nsk-\x01\n", 0600);
    is_bad(
        KEY_FILE, ENOKEY,
        "t.conf:2: [upstream openai] api_key_file: line 2 of \"./keys\" is not a key; expected printable ASCII without spaces\n");
    is_bad("[upstream openai]\napi_key_file = ./missing\n", ENOKEY,
           "t.conf:2: [upstream openai] api_key_file: \"./missing\" cannot be read: No such file "
           "or directory\n");
    is_bad("[upstream openai]\napi_key_file = /\n", ENOKEY,
           "t.conf:2: [upstream openai] api_key_file: \"/\" cannot be read: Is a directory\n");
    is_bad(
        "[upstream openai]\napi_key_file = ./keys\napi_key_env = HOME\n", EINVAL,
        "t.conf:2: [upstream openai] api_key_file: api_key_env is set too; expected only one of them\n");
}
END_TEST

START_TEST(bare_names_are_credentials)
{
    static const char text[] = "[upstream openai]\napi_key_file = openai\n";
    char folder[4096];
    struct loaded l;

    config_text_folder();
    ck_assert_ptr_nonnull(getcwd(folder, sizeof folder - 8));
    ck_assert_int_eq(mkdir("creds", 0700), 0);
    config_text_write("creds/openai", "sk-secret-3\n", 12);
    ck_assert_int_eq(unsetenv("CREDENTIALS_DIRECTORY"), 0);
    is_bad(
        text, ENOKEY,
        "t.conf:2: [upstream openai] api_key_file: \"openai\" cannot be read: No such file or "
        "directory (a name without a slash is a systemd credential, but CREDENTIALS_DIRECTORY is not set)\n");
    snprintf(folder + strlen(folder), 8, "/creds");
    ck_assert_int_eq(setenv("CREDENTIALS_DIRECTORY", folder, 1), 0);
    l = config_text_load(text);
    ck_assert(str_eq(first_key(&l), STR("sk-secret-3")));
    loaded_deinit(&l);
}
END_TEST

/* Whatever is wrong, and whatever is dumped: what may be a secret is in none of it. */
START_TEST(C31_secrets_are_never_shown)
{
    static const char wrong[] =
        "sk-SECRET\n[upstream sk-SECRET]\n[sk-SECRET]\n[upstream a]\nurl = https://u:SECRET@h\n"
        "sk-SECRET = 1\nsk-SECRET\napi_key = SECRET\napi_key_env = sk-SECRET\n"
        "api_key_file = sk-SECRET\nproxy = ftp://u:SECRET@h\nheader.X Y = SECRET\n"
        "header.Connection = SECRET\nauth_header = Bearer SECRET\n";
    struct loaded l = config_text_load(wrong);
    char *dump;

    ck_assert_ptr_null(l.config);
    ck_assert_msg(!strstr(l.problems, "SECRET"), "%s", l.problems);
    ck_assert_int_eq(setenv("TEST_KEY", "sk-SECRET", 1), 0);
    l = config_text_load("[upstream a]\nurl = http://h\napi_key_env = TEST_KEY\n"
                         "proxy = http://u:SECRET@p:1\nheader.Cookie = SECRET\n"
                         "header.X-Api-Key = SECRET\nheader.X = Bearer SECRET\nheader.Y = org-y\n");
    ck_assert_str_eq(l.problems, "");
    dump = config_text_dump(l.config);
    ck_assert_msg(!strstr(dump, "SECRET"), "%s", dump);
    ck_assert_ptr_nonnull(strstr(dump, "\nproxy = http://***@p:1\n"));
    ck_assert_ptr_nonnull(strstr(dump, "\nheader.Cookie = ***\n"));
    ck_assert_ptr_nonnull(strstr(dump, "\nheader.Y = ***\n"));
    ck_assert_str_eq(l.config->upstreams[0].headers.items[0].value, "SECRET");
    free(dump);
    loaded_deinit(&l);
}
END_TEST

START_TEST(headers)
{
    is_bad("[upstream openai]\nheader. = x\nheader.a b = x\nheader.TE = x\nheader.X =\n", EINVAL,
           "t.conf:2: [upstream openai] header.: expected the name of a header after header.\n"
           "t.conf:3: [upstream openai] header.a b: expected the name of a header after header.\n"
           "t.conf:4: [upstream openai] header.TE: expected a header that does not belong to the "
           "connection\n"
           "t.conf:5: [upstream openai] header.X: expected a value that is not empty and does not "
           "start with a semicolon\n");
    ck_assert_int_eq(setenv("TEST_KEY", "k", 1), 0);
    is_bad(
        "[upstream openai]\napi_key_env = TEST_KEY\nheader.authorization = x\n", EINVAL,
        "t.conf:3: [upstream openai] header.authorization: this header carries the key of api_key_env; expected only one of them\n");
    is_good("[upstream openai]\nheader.authorization = x\n", "");
    is_bad(
        "[upstream openai]\nheader.X = a ; b\nheader.Y = a;b\n", EINVAL,
        "t.conf:2: the header's line contains a space and a semicolon, which would start a comment; expected the comment on a line of its own, or no space before the semicolon\n");
    is_bad("[upstream openai]\nca_file = ./missing.pem\n", EINVAL,
           "t.conf:2: [upstream openai] ca_file: \"./missing.pem\" cannot be read: No such file or "
           "directory\n");
}
END_TEST

START_TEST(models_with_colons)
{
    struct loaded l = config_text_load("[upstream openai]\nmodel.llama3:8b = x\nmodel.b: y\n"
                                       "models = gpt-4o -> my-deployment,\n"
                                       "  ft:gpt-4o:org::id -> z:1, q->w ; comment\n");
    static const char *const expected[][2] = {{"llama3:8b", "x"},
                                              {"b", "y"},
                                              {"gpt-4o", "my-deployment"},
                                              {"ft:gpt-4o:org::id", "z:1"},
                                              {"q", "w"}};
    char *dump;

    ck_assert_str_eq(l.problems, "");
    ck_assert_ptr_nonnull(l.config);
    ck_assert_uint_eq(l.config->upstreams[0].models.count, 5);
    for (unsigned i = 0; i < 5; i++) {
        ck_assert_str_eq(l.config->upstreams[0].models.items[i].name, expected[i][0]);
        ck_assert_str_eq(l.config->upstreams[0].models.items[i].value, expected[i][1]);
    }
    dump = config_text_dump(l.config);
    loaded_deinit(&l);
    l = config_text_load(dump);
    ck_assert_str_eq(l.problems, "");
    ck_assert_str_eq(l.config->upstreams[0].models.items[3].name, "ft:gpt-4o:org::id");
    free(dump);
    loaded_deinit(&l);
    is_bad("[upstream openai]\nmodel.a:b = x\nmodels = a:b -> y\n", EINVAL,
           "t.conf:3: [upstream openai] model.a:b: is set twice; the first is on line 2\n");
    is_bad(
        "[upstream openai]\nmodels = a -> b, c\n", EINVAL,
        "t.conf:2: models: expected a comma-separated list of NAME -> other, with names without spaces or =\n");
}
END_TEST

/* --- routes ------------------------------------------------------------------------------------ */

static const char routes[] =
    "[route chat]\npath = /chat/completions\nmodel = gpt-4o*\nretry.max_attempts = 2\n"
    "upstreams = b\ntimeout.idle = 1s\n"
    "[retry]\nmax_attempts = 7\njitter = none\n"
    "[route azure]\nbase = /azure/v1/\nupstreams = a\n"
    "[upstream a]\nurl = http://a\n[upstream b]\nurl = http://b\n";

static const char *route_name(const struct config *c, const char *path, const char *model)
{
    const struct config_route *r = config_route_for(c, str_from(path), str_from(model));

    return r ? r->name : NULL;
}

START_TEST(routes_take_what_matches_first)
{
    struct loaded l = config_text_load(routes);
    const struct config *c = l.config;

    ck_assert_str_eq(l.problems, "");
    ck_assert_uint_eq(c->route_count, 3);
    ck_assert_str_eq(route_name(c, "/v1/chat/completions", "gpt-4o-mini"), "chat");
    ck_assert_str_eq(route_name(c, "/v1/chat/completions", "o1"), "default");
    ck_assert_str_eq(route_name(c, "/v1/chat/completions/x", "gpt-4o"), "default");
    ck_assert_str_eq(route_name(c, "/v1", ""), "default");
    ck_assert_str_eq(route_name(c, "/v1/", ""), "default");
    ck_assert_str_eq(route_name(c, "/azure/v1/models", ""), "azure");
    ck_assert_ptr_null(route_name(c, "/v10/chat/completions", "gpt-4o"));
    ck_assert_ptr_null(route_name(c, "/azure/v10", ""));
    ck_assert_ptr_null(route_name(c, "/V1/models", ""));
    ck_assert_ptr_null(route_name(c, "/", ""));
    ck_assert_ptr_null(route_name(c, "", ""));
    ck_assert_str_eq(c->routes[0].upstreams[0]->name, "b");
    ck_assert_str_eq(c->routes[1].base, "/azure/v1");
    ck_assert_str_eq(c->routes[1].upstreams[0]->name, "a");
    ck_assert_str_eq(c->routes[2].upstreams[0]->name, "a");
    loaded_deinit(&l);
}
END_TEST

START_TEST(a_base_of_slash_takes_all)
{
    struct loaded l = config_text_load("[route all]\nbase = /\n");

    ck_assert_str_eq(l.problems, "");
    ck_assert_str_eq(l.config->routes[0].base, "");
    ck_assert_str_eq(route_name(l.config, "/", ""), "all");
    ck_assert_str_eq(route_name(l.config, "/v10", "m"), "all");
    loaded_deinit(&l);
}
END_TEST

/* The global settings hold wherever they stand in the file. */
START_TEST(routes_override_settings)
{
    struct loaded l = config_text_load(routes);
    const struct config_route *r = l.config->routes;

    ck_assert_uint_eq(l.config->defaults.retry.max_attempts, 7);
    ck_assert_uint_eq(r[0].settings.retry.max_attempts, 2);
    ck_assert_uint_eq(r[0].settings.timeout.idle_ms, 1000);
    ck_assert_int_eq(r[0].settings.retry.backoff.jitter, JITTER_NONE);
    ck_assert_uint_eq(r[1].settings.retry.max_attempts, 7);
    ck_assert_uint_eq(r[2].settings.retry.max_attempts, 7);
    loaded_deinit(&l);
}
END_TEST

START_TEST(routes_name_upstreams_that_are_there)
{
    is_bad("[route r]\nupstreams = openai, azure\n", ENXIO,
           "t.conf:2: [route r] upstreams: found \"azure\"; expected names of [upstream] sections "
           "(openai)\n");
    is_bad("[route r]\nupstreams = azure\n[log]\nlevel = x\n", EINVAL,
           "t.conf:2: [route r] upstreams: found \"azure\"; expected names of [upstream] sections "
           "(openai)\n"
           "t.conf:4: [log] level: found \"x\"; expected debug, info, warn or error\n");
}
END_TEST

START_TEST(delays_fit_each_other)
{
    is_bad("[retry]\nmax_delay = 500ms\n", EINVAL,
           "t.conf:2: [retry] max_delay: 500ms is less than initial_delay (1s); expected at least "
           "as much\n");
    is_bad("[route r]\nretry.initial_delay = 2m\n", EINVAL,
           "t.conf:2: [route r] retry.max_delay: 1m is less than initial_delay (2m); expected at "
           "least as much\n");
}
END_TEST

/* --- notes ------------------------------------------------------------------------------------- */

/* What a version before only accepted. */
START_TEST(what_is_in_force_is_not_noted)
{
    is_good("[breaker]\nfailures = 4\nfailure_rate = 0%\n[shared]\nredis = h:1\n"
            "[upstream a]\nurl = http://a\nmodel.x = y\nmax_concurrency = 1\n"
            "requests_per_minute = 1\n[upstream b]\nurl = http://a/b\n"
            "[route r]\nupstreams = a, b\nretry.budget = 5%\nretry.budget_min = 1\n"
            "fallback_models = m\nfallback_on = none\nretry.attempts_per_tier = 1\n",
            "");
}
END_TEST

START_TEST(keys_that_say_nothing_are_not_noted)
{
    is_good("[server]\nclient_keys_file =\nallowed_origins =\n[stream]\nmode = live\n"
            "heartbeat = 0\n[upstream openai]\nmax_concurrency = 0\n[shared]\nredis =\n",
            "");
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *all = unit_case(suite, "rules");

    tcase_add_test(all, C29_loopback_and_unix_need_no_word);
    tcase_add_test(all, C29_other_addresses_are_refused);
    tcase_add_test(all, reachable_addresses_need_names);
    tcase_add_test(all, C29_client_tokens_lift_the_refusal);
    tcase_add_test(all, C29_holds_for_the_admin_pages);
    tcase_add_test(all, addresses_that_are_none);
    tcase_add_test(all, listeners_differ);
    tcase_add_test(all, key_from_the_environment);
    tcase_add_test(all, keys_from_a_file);
    tcase_add_test(all, key_files_that_are_none);
    tcase_add_test(all, bare_names_are_credentials);
    tcase_add_test(all, C31_secrets_are_never_shown);
    tcase_add_test(all, headers);
    tcase_add_test(all, models_with_colons);
    tcase_add_test(all, routes_take_what_matches_first);
    tcase_add_test(all, a_base_of_slash_takes_all);
    tcase_add_test(all, routes_override_settings);
    tcase_add_test(all, routes_name_upstreams_that_are_there);
    tcase_add_test(all, delays_fit_each_other);
    tcase_add_test(all, what_is_in_force_is_not_noted);
    tcase_add_test(all, keys_that_say_nothing_are_not_noted);
}
