/* client_keys_file: what is in it, what is wrong with it, and what becomes of it when it changes. */
#include <check.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config_text.h"
#include "unit.h"

#define SERVER "[server]\nclient_keys_file = ./tokens\n"
#define UPSTREAM "[upstream openai]\nheader.Authorization = x\n"
#define PLACE "t.conf:2: [server] client_keys_file: "

static const char one[] = "0123456789abcdef";
static const char two[] = "fedcba9876543210";

static void write_tokens(const char *text)
{
    config_text_write("tokens", text, strlen(text));
    ck_assert_int_eq(chmod("tokens", 0600), 0);
}

static struct config *load(const char *text)
{
    struct loaded l = config_text_load(text);
    struct config *c;

    ck_assert_str_eq(l.problems, "");
    c = config_ref(l.config);
    loaded_deinit(&l);
    return c;
}

static int find(const struct config *c, const char *text)
{
    return tokens_find(c->server.client_tokens, str_from(text));
}

static void is_bad(const char *tokens, const char *problem)
{
    char expected[512];
    struct loaded l;

    write_tokens(tokens);
    l = config_text_load(SERVER UPSTREAM);
    snprintf(expected, sizeof expected, PLACE "%s\n", problem);
    ck_assert_str_eq(l.problems, expected);
    ck_assert_int_eq(l.error, ENOKEY);
    loaded_deinit(&l);
}

START_TEST(C29_tokens_with_names_and_comments)
{
    struct config *c;

    write_tokens("# alice's\nalice  0123456789abcdef \r\n\n\tfedcba9876543210\n");
    c = load(SERVER UPSTREAM);
    ck_assert_int_eq(find(c, one), 0);
    ck_assert_int_eq(find(c, two), 1);
    ck_assert_str_eq(tokens_name(c->server.client_tokens, 0), "alice");
    ck_assert_str_eq(tokens_name(c->server.client_tokens, 1), "unnamed");
    config_unref(c);
    c = load(UPSTREAM);
    ck_assert_ptr_null(c->server.client_tokens);
    config_unref(c);
}
END_TEST

START_TEST(what_is_wrong_with_a_file)
{
    is_bad("",
           "\"./tokens\" contains no token; expected one per line, with an optional name before "
           "it");
    is_bad("# none\n", "\"./tokens\" contains no token; expected one per line, with an optional "
                       "name before it");
    is_bad("0123456789abcdef\nshort\n",
           "the token on line 2 of \"./tokens\" is shorter than 16 characters and can be guessed; "
           "expected a random one, as openssl rand -hex 32 writes");
    is_bad("alice: 0123456789abcdef\n",
           "line 1 of \"./tokens\": expected only letters, digits, dots, underscores and hyphens "
           "in a token's name");
    is_bad("alice of sales 0123456789abcdef\n",
           "line 1 of \"./tokens\" has more than two words; expected TOKEN or NAME TOKEN");
    ck_assert_int_eq(unlink("tokens"), 0);
    struct loaded l = config_text_load(SERVER UPSTREAM);
    ck_assert_str_eq(l.problems, PLACE "\"./tokens\" cannot be read: No such file or directory\n");
    loaded_deinit(&l);
    write_tokens("0123456789abcdef\n");
}
END_TEST

START_TEST(what_is_noted)
{
    struct loaded l;

    write_tokens("0123456789abcdef\na 0123456789abcdef\n");
    l = config_text_load(SERVER UPSTREAM);
    ck_assert_str_eq(l.notes, PLACE "the token on line 2 of \"./tokens\" is a duplicate and counts "
                                    "only once\n");
    loaded_deinit(&l);
    write_tokens("0123456789abcdef\n");
    ck_assert_int_eq(chmod("tokens", 0644), 0);
    l = config_text_load(SERVER UPSTREAM);
    ck_assert_str_eq(l.notes, PLACE "everyone on this machine can read \"./tokens\" (mode 0644); "
                                    "0600 would do\n");
    loaded_deinit(&l);
}
END_TEST

/* The client's own key no longer passes through. */
START_TEST(C29_an_upstream_without_a_key_is_noted)
{
    static const char told[] =
        "is not set, nor is api_key_env: with client_keys_file, what clients send goes no further, "
        "so this upstream gets no key\n";
    static const char *const fine[] = {
        "[upstream a]\nurl = http://a\nheader.X-Api-Key = k\n",
        "[upstream a]\nurl = http://a\napi_key_file = ./tokens\n",
        "[upstream a]\nurl = https://a\nclient_cert_file = ./client.pem\n",
    };
    char text[512];
    struct loaded l;

    write_tokens("0123456789abcdef\n");
    config_text_write_client("", "");
    l = config_text_load(SERVER "[upstream a]\nurl = http://a\n");
    snprintf(text, sizeof text, "t.conf:3: [upstream a] api_key_file: %s", told);
    ck_assert_str_eq(l.notes, text);
    loaded_deinit(&l);
    l = config_text_load(SERVER);
    ck_assert_ptr_nonnull(strstr(l.notes, told));
    loaded_deinit(&l);
    for (size_t i = 0; i < COUNT(fine); i++) {
        snprintf(text, sizeof text, SERVER "%s", fine[i]);
        l = config_text_load(text);
        ck_assert_ptr_null(strstr(l.notes, "gets no key"));
        loaded_deinit(&l);
    }
}
END_TEST

START_TEST(C29_a_changed_file_is_taken_or_kept_out)
{
    struct config *c, *d;

    write_tokens("0123456789abcdef\n");
    c = load(SERVER UPSTREAM);
    d = config_renew(c);
    ck_assert(!d->files[0].changed && !d->files[0].problem);
    config_unref(d);
    write_tokens("fedcba9876543210\n");
    ck_assert(config_files_differ(c));
    d = config_renew(c);
    config_unref(c);
    ck_assert(d->files[0].changed);
    ck_assert_int_eq(find(d, one), -1);
    ck_assert_int_eq(find(d, two), 0);
    write_tokens("0123456789abcdef\nx y\n");
    c = config_renew(d);
    config_unref(d);
    ck_assert(!c->files[0].changed);
    ck_assert_ptr_nonnull(strstr(c->files[0].problem, "line 2 of"));
    ck_assert_int_eq(find(c, one), -1);
    ck_assert_int_eq(find(c, two), 0);
    config_unref(c);
}
END_TEST

START_TEST(C29_a_token_that_no_file_has)
{
    struct config *c, *d, *e;

    write_tokens("0123456789abcdef\n");
    c = load(SERVER UPSTREAM);
    ck_assert_int_eq(config_give_client_token(c, STR("run"), str_from(two)), 0);
    ck_assert_int_eq(find(c, one), -1);
    ck_assert_int_eq(find(c, two), 0);
    ck_assert(config_may_be_reached(c, false));
    ck_assert(!config_may_be_reached(c, true));
    d = config_renew(c);
    ck_assert_int_eq(find(d, two), 0);
    e = load(UPSTREAM);
    config_keep_client_token(e, d);
    ck_assert_int_eq(find(e, two), 0);
    config_unref(c);
    config_unref(d);
    ck_assert_str_eq(tokens_name(e->server.client_tokens, 0), "run");
    d = load(UPSTREAM);
    c = load(UPSTREAM);
    config_keep_client_token(d, c);
    ck_assert_ptr_null(d->server.client_tokens);
    config_unref(c);
    config_unref(d);
    config_unref(e);
}
END_TEST

START_TEST(each_allocation_may_fail)
{
    struct config *c;

    write_tokens("0123456789abcdef\n");
    c = load(SERVER UPSTREAM);
    write_tokens("fedcba9876543210\na 0123456789abcdef\n");
    config_text_renew_nomem(c);
    config_unref(c);
}
END_TEST

START_TEST(there_may_be_so_many)
{
    static char text[TOKENS_MAX * 24];
    size_t n = 0;

    for (unsigned i = 0; i < TOKENS_MAX; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "0123456789ab%04u\n", i);
    write_tokens(text);
    config_unref(load(SERVER UPSTREAM));
    snprintf(text + n, sizeof text - n, "one-too-many-here\n");
    is_bad(text, "\"./tokens\" contains more than 1000 tokens");
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *all = unit_case(suite, "client tokens");

    tcase_add_test(all, C29_tokens_with_names_and_comments);
    tcase_add_test(all, what_is_wrong_with_a_file);
    tcase_add_test(all, what_is_noted);
    tcase_add_test(all, C29_an_upstream_without_a_key_is_noted);
    tcase_add_test(all, C29_a_changed_file_is_taken_or_kept_out);
    tcase_add_test(all, C29_a_token_that_no_file_has);
    tcase_add_test(all, there_may_be_so_many);
    tcase_add_test(all, each_allocation_may_fail);
}
