/* Which folders are watched for a path: of each link on the way, and of the file, be it there or not. */
#include "daemon/server_private.h"

#include <check.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "failmem.h"
#include "unit.h"

static char folder[] = "/tmp/retryd-watch-XXXXXX";
static uv_loop_t loop;
static struct watch *w;
static unsigned changes;

static void on_change(void *arg)
{
    (void)arg;
    changes++;
    uv_stop(&loop);
}

static void write_file(const char *name)
{
    FILE *f = fopen(name, "w");

    ck_assert_ptr_nonnull(f);
    ck_assert_int_ge(fputs("x", f), 0);
    ck_assert_int_eq(fclose(f), 0);
}

/* real/file, and links to it: by a relative path with "..", by a link to its folder, by an absolute path. */
static void setup(void)
{
    char absolute[PATH_MAX];

    ck_assert_ptr_nonnull(mkdtemp(folder));
    ck_assert_int_eq(chdir(folder), 0);
    ck_assert_int_eq(mkdir("real", 0700), 0);
    ck_assert_int_eq(mkdir("sub", 0700), 0);
    write_file("real/file");
    ck_assert_int_eq(symlink("../real/./file", "sub/relative"), 0);
    ck_assert_int_eq(symlink("real", "through"), 0);
    snprintf(absolute, sizeof(absolute), "%s/real/file", folder);
    ck_assert_int_eq(symlink(absolute, "absolute"), 0);
    ck_assert_int_eq(symlink("circle", "circle"), 0);
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    w = watch_new(&loop, on_change, NULL);
    ck_assert_ptr_nonnull(w);
    changes = 0;
}

static void teardown(void)
{
    static const char *const names[] = {"sub/relative", "through",  "absolute",  "circle",
                                        "real/file",    "real/new", "real/other"};

    watch_close(w);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
    for (size_t i = 0; i < COUNT(names); i++)
        (void)unlink(names[i]);
    (void)rmdir("real");
    (void)rmdir("sub");
    ck_assert_int_eq(chdir("/"), 0);
    (void)rmdir(folder);
}

static int watch_one(const char *path)
{
    const char *refused;

    return watch_files(w, &path, 1, &refused);
}

START_TEST(a_change_is_noticed_behind_each_kind_of_link)
{
    static const char *const paths[] = {"real/file", "sub/relative", "through/file", "absolute",
                                        "sub/../real/file"};

    ck_assert_int_eq(watch_one(paths[_i]), 0);
    write_file("real/file");
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_uint_eq(changes, 1);
}
END_TEST

START_TEST(a_file_that_is_missing_is_noticed_when_it_comes)
{
    ck_assert_int_eq(watch_one("real/new"), 0);
    write_file("real/other"); /* is not waited for: only the next one counts */
    write_file("real/new");
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_uint_eq(changes, 1);
}
END_TEST

START_TEST(a_folder_that_is_replaced_is_watched_again)
{
    ck_assert_int_eq(watch_one("real/file"), 0);
    ck_assert_int_eq(rename("real", "was"), 0);
    ck_assert_int_eq(mkdir("real", 0700), 0);
    ck_assert_int_eq(watch_one("real/file"), 0);
    write_file("real/file");
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_uint_ge(changes, 1);
    ck_assert_int_eq(unlink("was/file"), 0);
    ck_assert_int_eq(rmdir("was"), 0);
}
END_TEST

START_TEST(a_circle_of_links_ends)
{
    ck_assert_int_eq(watch_one("circle"), 0);
    ck_assert_int_eq(watch_one("/"), 0);
    ck_assert_int_eq(watch_one("/../.."), 0);
}
END_TEST

START_TEST(a_path_that_is_too_long_is_refused)
{
    static char path[3 * PATH_MAX];
    const char *both[] = {path, "real/file"}, *refused;

    memset(path, 'a', sizeof(path) - 1);
    for (size_t i = 0; i < sizeof(path) - 1; i += 100)
        path[i] = '/';
    ck_assert_int_eq(watch_files(w, both, 2, &refused), -ENAMETOOLONG);
    ck_assert_str_eq(refused, "/");
    write_file("real/file"); /* the other one is watched all the same */
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_uint_eq(changes, 1);
}
END_TEST

START_TEST(short_memory_is_reported)
{
    struct watch *none;

    failmem_arm(1);
    none = watch_new(&loop, on_change, NULL);
    ck_assert(failmem_disarm());
    ck_assert_ptr_null(none);
    for (size_t n = 1;; n++) {
        int rc;

        ck_assert_int_eq(watch_one("/"), 0); /* what was watched is dropped */
        failmem_arm(n);
        rc = watch_one("sub/relative");
        if (!failmem_disarm())
            break;
        ck_assert_int_eq(rc, -ENOMEM);
    }
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *c = unit_case(suite, "watch");

    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_loop_test(c, a_change_is_noticed_behind_each_kind_of_link, 0, 5);
    tcase_add_test(c, a_file_that_is_missing_is_noticed_when_it_comes);
    tcase_add_test(c, a_folder_that_is_replaced_is_watched_again);
    tcase_add_test(c, a_circle_of_links_ends);
    tcase_add_test(c, a_path_that_is_too_long_is_refused);
    tcase_add_test(c, short_memory_is_reported);
}
