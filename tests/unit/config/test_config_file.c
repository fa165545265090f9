/* The form of a configuration file: lines, sections, comments, what inih would lose, and garbage. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "config_text.h"
#include "failmem.h"
#include "unit.h"

static void is_bad(const char *text, const char *problems)
{
    struct loaded l = config_text_load(text);

    ck_assert_ptr_null(l.config);
    ck_assert_str_eq(l.problems, problems);
}

static void is_good(const char *text)
{
    struct loaded l = config_text_load(text);

    ck_assert_str_eq(l.problems, "");
    loaded_deinit(&l);
}

/* --- lines ------------------------------------------------------------------------------------ */

START_TEST(comments_blank_lines_and_spaces)
{
    struct loaded l = config_text_load("; c\n# c\n\n  \t\n[server] ; c\n  # c\n"
                                       "workers=3 ; c\n"
                                       "\t; c\n"
                                       "spool_dir = a;b # c\n"
                                       "[ upstream   x-1.y ]# c\n"
                                       "url : http://h\n"
                                       "[server]\n"
                                       "max_connections = 7");

    ck_assert_str_eq(l.problems, "");
    ck_assert_uint_eq(l.config->server.workers, 3);
    ck_assert_str_eq(l.config->server.spool_dir, "a;b # c");
    ck_assert_uint_eq(l.config->server.max_connections, 7);
    ck_assert_str_eq(l.config->upstreams[0].name, "x-1.y");
    loaded_deinit(&l);
}
END_TEST

START_TEST(byte_order_mark_and_crlf)
{
    struct loaded l = config_text_load("\xef\xbb\xbf[server]\r\n\r\nworkers = 3\r\n"
                                       "allowed_hosts = a,\r\n  b\r\n");

    ck_assert_str_eq(l.problems, "");
    ck_assert_uint_eq(l.config->server.workers, 3);
    ck_assert_uint_eq(l.config->server.allowed_hosts.count, 2);
    ck_assert_str_eq(l.config->server.allowed_hosts.items[1], "b");
    loaded_deinit(&l);
    is_bad("[log]\n\xef\xbb\xbflevel = info\n",
           "t.conf:2: [log] \"\\xef\\xbb\\xbflevel\": unknown key\n");
}
END_TEST

START_TEST(an_empty_file_is_the_defaults)
{
    is_good("");
    is_good("\n");
    is_good("\xef\xbb\xbf");
    is_good("[server]");
}
END_TEST

/* inih's buffer takes 198 bytes; it would cut what is longer and go on with the rest as if it were
 * a line of its own. */
static void long_line(size_t length, const char *problems)
{
    char text[4096] = "[log]\nlevel = warn\n[server]\nspool_dir = ";
    size_t n = strlen(text);

    memset(text + n, 'x', length - strlen("spool_dir = "));
    snprintf(text + n + length - strlen("spool_dir = "), 64, "\nworkers = 0\n");
    is_bad(text, problems);
}

START_TEST(long_lines_are_named_and_never_cut)
{
    static const char after[] = "t.conf:5: [server] workers: found \"0\"; expected a whole number "
                                "or auto (at least 1, at most 256)\n";
    char wanted[512];

    long_line(198, after);
    for (size_t n = 199; n < 2000; n += 200) {
        snprintf(wanted, sizeof wanted,
                 "t.conf:4: the line has %zu bytes; expected at most 198; a list may continue on "
                 "indented lines\n%s",
                 n, after);
        long_line(n, wanted);
    }
}
END_TEST

START_TEST(long_comments_and_sections)
{
    char text[2048] = "# ", wanted[256], name[128];

    memset(text + 2, 'c', 1000);
    strncat(text, "\n[server]\nworkers = 2\n", 64);
    is_good(text);
    memset(name, 'n', 65);
    name[65] = '\0';
    snprintf(text, sizeof text, "[upstream %s]\nurl = http://h\n", name);
    snprintf(wanted, sizeof wanted,
             "t.conf:1: [upstream NAME]: found (not shown: it looks like a key) as the name; "
             "expected 1 to 64 letters, digits, dots, dashes or underscores\n");
    name[0] = '1';
    snprintf(text, sizeof text, "[upstream %s]\nurl = http://h\n", name);
    is_bad(text, wanted);
    /* inih keeps 49 bytes of a section's name, which would make these two one. */
    memset(name, 'n', 60);
    name[60] = '\0';
    snprintf(text, sizeof text, "[upstream %sa]\nurl = http://h\n[upstream %sb]\nurl = http://h\n",
             name, name);
    is_good(text);
}
END_TEST

START_TEST(lines_that_say_nothing)
{
    is_bad("[server]\nsk-proj-secret\nworkers = 2\nlisten ; = x\n",
           "t.conf:2: expected key = value, a [section], or a comment that starts with # or ;\n"
           "t.conf:4: expected key = value, a [section], or a comment that starts with # or ;\n");
    is_bad("[server]\n= 3\n", "t.conf:2: expected a key before the =\n");
    is_bad("workers = 2\nlisten = x\n[server]\nworkers = x\n",
           "t.conf:1: this key is in no section; expected a line such as [server] above it\n"
           "t.conf:4: [server] workers: found \"x\"; expected a whole number or auto (at least 1, "
           "at most 256)\n");
}
END_TEST

START_TEST(control_characters)
{
    static const char nul[] = "[server]\nworkers\0 = 2\nmax_body = 1\n";
    struct loaded l = config_text_load_bytes(nul, sizeof nul - 1);

    ck_assert_str_eq(l.problems,
                     "t.conf:2: the line contains a control character\n"
                     "t.conf:3: [server] max_body: found \"1\"; expected a size such as 64K, 512M "
                     "or 2G (at least 1K, at most 16G)\n");
    is_bad("[upstream openai]\nheader.X = a\rb: c\n",
           "t.conf:2: the line contains a control character\n");
    is_bad("[log]\nlevel = \xc3\xa9\xff\n",
           "t.conf:2: [log] level: found \"\\xc3\\xa9\\xff\"; expected debug, info, warn or "
           "error\n");
}
END_TEST

/* --- values over several lines ------------------------------------------------------------------ */

START_TEST(lists_go_on_over_indented_lines)
{
    struct loaded l = config_text_load("[server]\nallowed_hosts = a, b,\n    c ; a comment\n"
                                       "# another\n\n\td\nlisten = 127.0.0.1:1\n [::1]:2\n"
                                       "[retry]\nretry_on = connect\n  429,\n  5xx\n");

    ck_assert_str_eq(l.problems, "");
    ck_assert_uint_eq(l.config->server.allowed_hosts.count, 4);
    ck_assert_str_eq(l.config->server.allowed_hosts.items[2], "c");
    ck_assert_uint_eq(l.config->server.listen.count, 2);
    ck_assert_str_eq(l.config->server.listen.items[1], "[::1]:2");
    ck_assert_uint_eq(l.config->defaults.retry.retry_on,
                      RETRY_ON_CONNECT | RETRY_ON_429 | RETRY_ON_5XX);
    loaded_deinit(&l);
}
END_TEST

/* An indented key would silently become a part of the value above it. */
START_TEST(indented_keys_are_not_swallowed)
{
    is_bad(
        "[server]\n  allowed_hosts = a\n  workers = 2\n",
        "t.conf:3: [server] allowed_hosts: this indented line continues the value above it, but contains a =; a key must not be indented\n");
    is_bad(
        "[server]\nworkers = 2\n  max_body = 1M\n",
        "t.conf:3: [server] workers: this indented line continues the value above it, which takes one line only; a key must not be indented\n");
    is_bad(
        "[server]\nworkers = 2\n  [admin]\n",
        "t.conf:3: [server] workers: this indented line continues the value above it, which takes one line only; a key must not be indented\n");
    is_good("[server]\n  workers = 2\n");
    is_good("  [server]\n# c\n  workers = 2\n");
}
END_TEST

START_TEST(list_items)
{
    is_bad("[server]\nallowed_hosts = a, b\n  a\n",
           "t.conf:3: [server] allowed_hosts: found \"a\"; expected each item only once\n");
    is_bad("[server]\nallowed_hosts = a,;b\n",
           "t.conf:2: [server] allowed_hosts: found \";b\"; expected a comma-separated list\n");
    is_bad("[server]\nspool_dir =;b\n", "t.conf:2: [server] spool_dir: found \";b\"; expected a "
                                        "value that does not start with a semicolon\n");
    is_bad("[server]\nlisten = ,\n",
           "t.conf:2: [server] listen: found \",\"; expected one or more of ADDRESS:PORT, "
           "[IPV6]:PORT or unix:/PATH, comma-separated\n");
}
END_TEST

/* --- names ------------------------------------------------------------------------------------- */

START_TEST(unknown_keys_suggest_the_nearest)
{
    is_bad(
        "[server]\nlisten_on = x\nlistne = x\nmax_conections = 3\nzebra = 1\ndeadline = 3s\n"
        "[upstream openai]\napi_key = sk-secret\nhaeder.X = 1\n"
        "[route r]\nmax_attempts = 2\nretry.max_atempts = 2\nserver.listen = x\nretry.nope = 1\n",
        "t.conf:2: [server] \"listen_on\": unknown key; did you mean listen?\n"
        "t.conf:3: [server] \"listne\": unknown key; did you mean listen?\n"
        "t.conf:4: [server] \"max_conections\": unknown key; did you mean "
        "max_connections?\n"
        "t.conf:5: [server] \"zebra\": unknown key\n"
        "t.conf:6: [server] \"deadline\": unknown key; it belongs in [retry]\n"
        "t.conf:8: [upstream openai] \"api_key\": unknown key; did you mean "
        "api_key_env?\n"
        "t.conf:9: [upstream openai] \"haeder.X\": unknown key; did you mean "
        "header.NAME?\n"
        "t.conf:11: [route r] \"max_attempts\": unknown key; in a route it is "
        "retry.max_attempts\n"
        "t.conf:12: [route r] \"retry.max_atempts\": unknown key; did you mean "
        "retry.max_attempts?\n"
        "t.conf:13: [route r] \"server.listen\": unknown key\n"
        "t.conf:14: [route r] \"retry.nope\": unknown key\n");
}
END_TEST

START_TEST(sections)
{
    is_bad("[severs]\nx = 1\n[Server]\n[nowhere]\n[server x]\n[upstream]\n[upstream a b]\n[route "
           "\n[log] level = info\n",
           "t.conf:1: unknown section \"severs\"; did you mean [server]?\n"
           "t.conf:3: unknown section \"Server\"; did you mean [server]?\n"
           "t.conf:4: unknown section \"nowhere\"; expected [server], [admin], [log], [upstream "
           "NAME], [route NAME], [retry], [timeout], [stream], [breaker], [queue], [hedge] or "
           "[shared]\n"
           "t.conf:5: [server] takes no name; found \"x\"\n"
           "t.conf:6: [upstream NAME]: found \"\" as the name; expected 1 to 64 letters, digits, "
           "dots, dashes or underscores\n"
           "t.conf:7: [upstream NAME]: found \"a b\" as the name; expected 1 to 64 letters, "
           "digits, dots, dashes or underscores\n"
           "t.conf:8: expected a section such as [server] on a line of its own\n"
           "t.conf:9: expected a section such as [server] on a line of its own\n");
}
END_TEST

START_TEST(what_is_set_twice_names_the_first)
{
    is_bad("[server]\nworkers = 2\n[log]\n[server]\nworkers = 3\n"
           "[upstream openai]\nheader.X-A = 1\nheader.x-a = 2\n"
           "[route r]\nretry.deadline = 1s\nretry.deadline = 2s\n[route r]\n",
           "t.conf:5: [server] workers: is set twice; the first is on line 2\n"
           "t.conf:8: [upstream openai] header.x-a: is set twice; the first is on line 7\n"
           "t.conf:11: [route r] retry.deadline: is set twice; the first is on line 10\n"
           "t.conf:12: [route r] is defined twice; the first is on line 9\n");
}
END_TEST

START_TEST(too_many_problems_are_counted)
{
    char text[8192] = "[server]\n";
    size_t n = strlen(text);
    struct loaded l;

    for (int i = 0; i < 150; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "zebra = %d\n", i);
    l = config_text_load(text);
    ck_assert_ptr_nonnull(strstr(l.problems, "t.conf:101: "));
    ck_assert_ptr_null(strstr(l.problems, "t.conf:102: "));
    ck_assert_ptr_nonnull(strstr(l.problems, "\nt.conf: and 50 more problems\n"));
}
END_TEST

/* --- the file itself ---------------------------------------------------------------------------- */

START_TEST(files_that_cannot_be_read)
{
    struct buf problems;

    config_text_folder();
    buf_init(&problems, 4096);
    ck_assert_ptr_null(config_load("missing.conf", &problems, NULL));
    ck_assert_int_eq(errno, ENOENT);
    ck_assert_ptr_null(config_load(".", &problems, NULL));
    ck_assert_int_eq(errno, ENOENT);
    buf_addc(&problems, '\0');
    ck_assert_str_eq(problems.p, "missing.conf: cannot be read: No such file or directory\n"
                                 ".: cannot be read: Is a directory\n");
    ck_assert_ptr_null(config_load("missing.conf", NULL, NULL));
    buf_deinit(&problems);
}
END_TEST

START_TEST(a_huge_file_is_refused)
{
    size_t n = 1024 * 1024 + 1;
    char *text = malloc(n);
    struct loaded l;

    ck_assert_ptr_nonnull(text);
    memset(text, '\n', n);
    l = config_text_load_bytes(text, n);
    ck_assert_str_eq(l.problems, "t.conf: is too large; expected at most 1048576 bytes\n");
    l = config_text_load_bytes(text, n - 1);
    ck_assert_ptr_nonnull(l.config);
    loaded_deinit(&l);
    free(text);
}
END_TEST

/* --- robustness --------------------------------------------------------------------------------- */

static const char full_file[] =
    "[server]\nlisten = 127.0.0.1:1,\n  unix:/run/x\nworkers = 2\nallowed_hosts = a, b\n"
    "[admin]\nlisten = off\n[log]\nlevel = warn\n"
    "[upstream a]\nurl = https://a.example/v1\napi_key_env = TEST_KEY\nheader.X = y\n"
    "model.m = n\n[upstream b]\nurl = unix:/run/b:/{model}?v=1\napi_key_file = ./keys\n"
    "[retry]\nretry_on = connect, 5xx\nmultiplier = 1.25\nbudget = 5%\n"
    "[route r]\nupstreams = b, a\npath = /chat/*\nretry.max_attempts = 2\nstream.mode = hold\n"
    "weights = 1, 2\nfallback_models = m\nfallback_on = error\nqueue.size = 7\nhedge.after = 1s\n"
    "[shared]\nredis = h:1\nredis_user = u\nredis_password_file = ./keys\nprefix = p\n";

/* A small generator of our own, so that a failure comes again: xorshift (Marsaglia 2003). */
static uint32_t next_random(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

START_TEST(random_bytes_never_crash)
{
    uint32_t seed = 4290;

    for (int round = 0; round < 1500; round++) {
        unsigned char text[512];
        size_t n = next_random(&seed) % sizeof text;
        struct loaded l;

        for (size_t i = 0; i < n; i++)
            text[i] = (unsigned char)next_random(&seed);
        l = config_text_load_bytes(text, n);
        loaded_deinit(&l);
    }
}
END_TEST

START_TEST(there_may_be_so_many_upstreams_and_keys)
{
    static char text[64 * 1024];
    struct loaded l;
    size_t n = 0;

    for (unsigned i = 0; i <= 1000; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "[upstream u%u]\nurl = http://h\n", i);
    l = config_text_load(text);
    ck_assert_ptr_null(l.config);
    ck_assert_msg(strstr(l.problems, "there are more than 1000 [upstream] sections") != NULL,
                  "%.200s", l.problems);
    loaded_deinit(&l);
    n = 0;
    for (unsigned i = 0; i <= 256; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "sk-%u\n", i);
    config_text_write("keys", text, n);
    ck_assert_int_eq(chmod("keys", 0600), 0);
    l = config_text_load("[upstream a]\nurl = http://h\napi_key_file = ./keys\n");
    ck_assert_ptr_null(l.config);
    ck_assert_msg(strstr(l.problems, "contains more than 256 keys") != NULL, "%.200s", l.problems);
    loaded_deinit(&l);
}
END_TEST

/* Closer to the truth: a good file with some bytes changed, mostly to what means something. */
START_TEST(damaged_files_never_crash)
{
    static const char spice[] = "[]=:;#, \t\n\r.-*\"%0x";
    uint32_t seed = 20260101;

    ck_assert_int_eq(setenv("TEST_KEY", "k", 1), 0);
    config_text_write("keys", "k1\nk2\n", 6);
    for (int round = 0; round < 2500; round++) {
        char text[sizeof full_file];
        struct loaded l;

        memcpy(text, full_file, sizeof full_file);
        for (uint32_t changes = 1 + next_random(&seed) % 8; changes > 0; changes--)
            text[next_random(&seed) % (sizeof full_file - 1)] =
                spice[next_random(&seed) % (sizeof spice - 1)];
        l = config_text_load_bytes(text, next_random(&seed) % sizeof full_file);
        if (l.config) {
            char *dump = config_text_dump(l.config);
            struct loaded again = config_text_load(dump);
            char *second;

            ck_assert_msg(again.config != NULL, "%s%s", again.problems, dump);
            second = config_text_dump(again.config);
            ck_assert_str_eq(second, dump);
            free(dump);
            free(second);
            loaded_deinit(&again);
        }
        loaded_deinit(&l);
    }
}
END_TEST

/* Each allocation of a load fails once: it ends with NULL and ENOMEM, and nothing leaks. */
START_TEST(each_allocation_may_fail)
{
    size_t n = 1;

    ck_assert_int_eq(setenv("TEST_KEY", "k", 1), 0);
    config_text_write("keys", "k1\nk2\n", 6);
    config_text_write("t.conf", full_file, strlen(full_file));
    for (;; n++) {
        struct buf problems, notes;
        struct config *c;
        bool failed;

        buf_init(&problems, 65536);
        buf_init(&notes, 65536);
        failmem_arm(n);
        c = config_load("t.conf", &problems, &notes);
        failed = failmem_disarm();
        /* Only the caller's own notes may be lost without a word. */
        ck_assert_msg(failed || (c && !notes.failed && problems.len == 0), "%.*s",
                      (int)problems.len, problems.p ? problems.p : "");
        ck_assert(!failed || !c || notes.failed);
        config_unref(c);
        buf_deinit(&problems);
        buf_deinit(&notes);
        if (!failed)
            break;
    }
    ck_assert_uint_gt(n, 100);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *form = unit_case(suite, "form"), *hard = unit_case(suite, "robustness");

    tcase_add_test(form, comments_blank_lines_and_spaces);
    tcase_add_test(form, byte_order_mark_and_crlf);
    tcase_add_test(form, an_empty_file_is_the_defaults);
    tcase_add_test(form, long_lines_are_named_and_never_cut);
    tcase_add_test(form, long_comments_and_sections);
    tcase_add_test(form, lines_that_say_nothing);
    tcase_add_test(form, control_characters);
    tcase_add_test(form, lists_go_on_over_indented_lines);
    tcase_add_test(form, indented_keys_are_not_swallowed);
    tcase_add_test(form, list_items);
    tcase_add_test(form, unknown_keys_suggest_the_nearest);
    tcase_add_test(form, sections);
    tcase_add_test(form, what_is_set_twice_names_the_first);
    tcase_add_test(form, too_many_problems_are_counted);
    tcase_add_test(form, files_that_cannot_be_read);
    tcase_add_test(form, a_huge_file_is_refused);
    tcase_add_test(form, there_may_be_so_many_upstreams_and_keys);
    tcase_add_test(hard, random_bytes_never_crash);
    tcase_add_test(hard, damaged_files_never_crash);
    tcase_add_test(hard, each_allocation_may_fail);
    tcase_set_timeout(hard, 60);
}
