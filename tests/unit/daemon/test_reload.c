/* Reloads and changed files without a daemon around them: what is told, and what stays in force when a folder cannot be
 * watched or memory is short. */
#include <check.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "config_text.h"
#include "daemon/server_private.h"
#include "failmem.h"
#include "unit.h"

#define CONFIG "[upstream a]\nurl = https://a.example/v1\napi_key_file = ./keys\n"

static bool full; /* no further watch may be added: fs.inotify.max_user_watches */

int uv_fs_event_start(uv_fs_event_t *event, uv_fs_event_cb cb, const char *path, unsigned flags)
{
    int (*real)(uv_fs_event_t *, uv_fs_event_cb, const char *, unsigned);

    *(void **)&real = dlsym(RTLD_NEXT, "uv_fs_event_start");
    return full ? UV_ENOSPC : real(event, cb, path, flags);
}

static struct server s;
static struct buf output;

static void write_text(const char *name, const char *text)
{
    config_text_write(name, text, strlen(text));
    ck_assert_int_eq(chmod(name, 0600), 0);
}

static void set_up(void)
{
    struct buf problems;

    full = false;
    memset(&s, 0, sizeof(s));
    buf_init(&output, 1 << 16);
    buf_init(&problems, 1 << 16);
    log_configure(LOG_ERROR, false);
    write_text("keys", "k1\n");
    write_text("t.conf", CONFIG);
    s.config = config_load("t.conf", &problems, NULL);
    ck_assert_msg(s.config != NULL, "%.*s", (int)problems.len, problems.p);
    buf_deinit(&problems);
    ck_assert_int_eq(uv_loop_init(&s.loop), 0);
}

static void tear_down(void)
{
    full = false;
    rotation_close(&s);
    uv_run(&s.loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&s.loop), 0);
    config_unref(s.config);
    free(s.file_warned);
    buf_deinit(&output);
}

static struct str key(void)
{
    return secret_text(s.config->upstreams[0].keys[0]);
}

START_TEST(a_reload_takes_what_the_file_says)
{
    write_text("t.conf", CONFIG "key_cooldown = 7s\n");
    ck_assert_int_eq(reload(&s, &output), EXIT_OK);
    ck_assert(str_eq(buf_str(&output), STR("configuration reloaded from t.conf\n")));
    ck_assert_uint_eq(s.config->upstreams[0].key_cooldown_ms, 7000);
    ck_assert_ptr_nonnull(s.watch);
}
END_TEST

START_TEST(without_a_file_nothing_is_reloaded)
{
    char *path = s.config->path;
    enum exit_code result;

    s.config->path = NULL;
    result = reload(&s, &output);
    s.config->path = path;
    ck_assert_int_eq(result, EXIT_FAILED);
    ck_assert(str_eq(buf_str(&output), STR("reload: no configuration file was given\n")));
}
END_TEST

/* systemd shows the problem, and accepts no text that ends within a character. */
START_TEST(a_long_problem_is_cut_between_characters)
{
    struct config *before = s.config;
    char *path = s.config->path;

    for (int shift = 0; shift < 2; shift++) {
        char name[240];
        enum exit_code result;
        int n = snprintf(name, sizeof(name), "%s", shift ? "x" : "");

        for (unsigned i = 0; i < 110; i++)
            n += snprintf(name + n, sizeof(name) - (size_t)n, "\xc3\xbc");
        write_text(name, "nonsense\n");
        s.config->path = name;
        result = reload(&s, &output);
        s.config->path = path;
        ck_assert_int_eq(result, EXIT_CONFIG);
        ck_assert(s.reloads.refused);
        ck_assert_ptr_eq(s.config, before);
        ck_assert_uint_eq(strlen(s.reloads.problem), 200 - (size_t)shift);
        ck_assert(!strncmp(s.reloads.problem, name, 200 - (size_t)shift));
    }
}
END_TEST

START_TEST(a_folder_that_cannot_be_watched_is_told_once)
{
    full = true;
    ck_assert_int_eq(rotation_begin(&s), 0);
    ck_assert(s.unwatched_warned);
    write_text("keys", "k2\n"); /* a reload, or the next look, reads it all the same */
    rotation_look(&s);
    ck_assert(str_eq(key(), STR("k2")));
    ck_assert(s.unwatched_warned);
    full = false;
    rotation_look(&s);
    ck_assert(!s.unwatched_warned);
}
END_TEST

START_TEST(files_are_watched_or_it_is_an_error)
{
    for (size_t n = 1; n <= 2; n++) {
        int rc;

        failmem_arm(n);
        rc = rotation_begin(&s);
        ck_assert(failmem_disarm());
        ck_assert_int_eq(rc, -ENOMEM);
        ck_assert_ptr_null(s.file_warned);
        rotation_close(&s);
    }
}
END_TEST

/* The next look makes up for it. */
START_TEST(a_changed_file_that_finds_no_memory_is_read_later)
{
    struct config *before;

    ck_assert_int_eq(rotation_begin(&s), 0);
    before = s.config;
    write_text("keys", "k2\n");
    failmem_arm_from(1);
    rotation_look(&s);
    ck_assert(failmem_disarm());
    ck_assert_ptr_eq(s.config, before);
    ck_assert(str_eq(key(), STR("k1")));
    rotation_look(&s);
    ck_assert(str_eq(key(), STR("k2")));
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *c = unit_case(suite, "reload");

    tcase_add_checked_fixture(c, set_up, tear_down);
    tcase_add_test(c, a_reload_takes_what_the_file_says);
    tcase_add_test(c, without_a_file_nothing_is_reloaded);
    tcase_add_test(c, a_long_problem_is_cut_between_characters);
    tcase_add_test(c, a_folder_that_cannot_be_watched_is_told_once);
    tcase_add_test(c, files_are_watched_or_it_is_an_error);
    tcase_add_test(c, a_changed_file_that_finds_no_memory_is_read_later);
}
