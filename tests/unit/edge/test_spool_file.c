/* The spool on a real loop and a real folder: the appended bytes are read back, in blocks of any
 * size. */

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "edge/spool_file.h"
#include "failmem.h"
#include "unit.h"

static uv_loop_t loop;
static unsigned news;
static _Atomic uint64_t taken_bytes;
static char pattern[4 * SPOOL_BLOCK + 5];

static _Atomic int named_only; /* the file system knows no files without a name */
static _Atomic int unreadable; /* errno of each pread; -1: it finds the end of the file */

/* In place of the C library's. */
int open64(const char *path, int flags, ...)
{
    va_list more;
    mode_t mode;

    va_start(more, flags);
    mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;
    va_end(more);
    if (named_only && (flags & O_TMPFILE) == O_TMPFILE) {
        errno = EOPNOTSUPP;
        return -1;
    }
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

ssize_t pread64(int fd, void *to, size_t n, off64_t at)
{
    if (unreadable) {
        errno = unreadable;
        return unreadable < 0 ? 0 : -1;
    }
    return syscall(SYS_pread64, fd, to, n, at);
}

static void on_news(void *arg)
{
    (void)arg;
    news++;
}

static void set_up(void)
{
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    for (size_t i = 0; i < sizeof(pattern); i++)
        pattern[i] = (char)(i * 7 + i / 251);
    news = 0;
    named_only = unreadable = 0;
}

static void tear_down(void)
{
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
}

static struct spool *spool_in(const char *dir)
{
    struct spool *s = spool_file_new(&loop, dir, &taken_bytes, on_news, NULL);

    ck_assert_ptr_nonnull(s);
    return s;
}

/* Waits for the next news of the only spool. */
static void await_news(void)
{
    unsigned before = news;

    while (news == before && uv_run(&loop, UV_RUN_ONCE))
        ; /* no ck_assert: it allocates */
}

static void append(struct spool *s, const char *data, size_t n, size_t piece)
{
    while (n > 0) {
        ptrdiff_t taken = spool_write(s, data, n < piece ? n : piece);

        ck_assert_int_ge(taken, 0);
        data += taken;
        n -= (size_t)taken;
        if (spool_full(s))
            await_news();
        else
            ck_assert_int_gt(taken, 0);
    }
}

static int flush(struct spool *s)
{
    spool_flush(s);
    while (spool_state(s) == -EAGAIN)
        await_news();
    return spool_state(s);
}

static ssize_t read_some(struct spool *s, uint64_t offset, void *to, size_t max)
{
    ssize_t n;

    while ((n = spool_read(s, offset, to, max)) == -EAGAIN)
        await_news();
    return n;
}

static void expect(struct spool *s, size_t from, size_t to, size_t piece)
{
    char got[8192];

    while (from < to) {
        ssize_t n = read_some(s, from, got, piece);

        ck_assert_int_gt(n, 0);
        ck_assert_int_eq(memcmp(got, pattern + from, (size_t)n), 0);
        from += (size_t)n;
    }
    ck_assert_uint_eq(from, to);
}

static const size_t lengths[] = {1,
                                 SPOOL_BLOCK - 1,
                                 SPOOL_BLOCK,
                                 SPOOL_BLOCK + 1,
                                 2 * SPOOL_BLOCK,
                                 2 * SPOOL_BLOCK + 1,
                                 sizeof(pattern)};

START_TEST(reads_back_what_was_appended)
{
    size_t n = lengths[_i];
    struct spool *s = spool_in("/var/tmp");

    append(s, pattern, n, 5000);
    ck_assert_int_eq(flush(s), 0);
    ck_assert_uint_eq(spool_memory(s), 0);
    expect(s, 0, n, 8192);
    ck_assert_int_eq(spool_read(s, n, pattern, 1), 0);
    ck_assert_uint_eq(spool_memory(s), 0);
    expect(s, 0, n, 4999);
    expect(s, n / 2, n, 8192);
    spool_close(s);
}
END_TEST

START_TEST(reads_while_it_grows)
{
    struct spool *s = spool_in("/var/tmp");
    char got[10];

    ck_assert_int_eq(spool_read(s, 0, got, 10), 0);
    for (size_t at = 0; at + 30000 < sizeof(pattern); at += 30000) {
        append(s, pattern + at, 30000, 30000);
        expect(s, at, at + 30000, 8000);
    }
    spool_close(s);
}
END_TEST

START_TEST(takes_two_blocks_and_no_more)
{
    struct spool *s = spool_in("/var/tmp");

    ck_assert_int_eq(spool_write(s, pattern, sizeof(pattern)), 2 * SPOOL_BLOCK);
    ck_assert(spool_full(s));
    ck_assert_int_eq(spool_write(s, pattern, 1), 0);
    ck_assert_uint_eq(spool_memory(s), 2 * SPOOL_BLOCK);
    await_news();
    ck_assert(!spool_full(s));
    append(s, pattern + 2 * SPOOL_BLOCK, sizeof(pattern) - 2 * SPOOL_BLOCK, SIZE_MAX);
    ck_assert_int_eq(flush(s), 0);
    expect(s, 0, sizeof(pattern), 8192);
    spool_close(s);
}
END_TEST

/* A retry begins anew while what the last attempt wanted is still being read. */
START_TEST(begins_anew_amid_a_read)
{
    struct spool *s = spool_in("/var/tmp");
    char got[10];

    append(s, pattern, sizeof(pattern), SIZE_MAX);
    ck_assert_int_eq(flush(s), 0);
    ck_assert_int_eq(spool_read(s, 3 * SPOOL_BLOCK, got, 10), -EAGAIN);
    expect(s, 0, sizeof(pattern), 8192);
    spool_close(s);
}
END_TEST

/* Operations under way when it is freed end by themselves; tear_down checks that the loop ends. */
START_TEST(freed_at_any_time)
{
    struct spool *s = spool_in("/var/tmp");
    char got[10];

    spool_close(NULL);
    spool_close(s);
    s = spool_in("/var/tmp");
    spool_write(s, pattern, 2 * SPOOL_BLOCK);
    spool_close(s);
    s = spool_in("/var/tmp");
    append(s, pattern, sizeof(pattern), SIZE_MAX);
    ck_assert_int_eq(flush(s), 0);
    spool_write(s, pattern, 2 * SPOOL_BLOCK);
    ck_assert_int_eq(spool_read(s, 5, got, 10), -EAGAIN);
    spool_close(s);
    news = 0;
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_uint_eq(news, 0);
}
END_TEST

START_TEST(a_folder_that_is_not_there)
{
    struct spool *s = spool_in("/var/tmp/is not there");
    char got[1];

    ck_assert_int_eq(spool_write(s, pattern, 10), 10);
    ck_assert_int_eq(flush(s), -ENOENT);
    ck_assert_int_eq(spool_write(s, pattern, 10), -ENOENT);
    ck_assert_int_eq(spool_read(s, 0, got, 1), -ENOENT);
    ck_assert(!spool_full(s));
    ck_assert_uint_eq(spool_memory(s), 0);
    spool_close(s);
    ck_assert_int_eq(spool_file_probe("/var/tmp/is not there"), -ENOENT);
    ck_assert_int_eq(spool_file_probe("/dev/null"), -ENOTDIR);
    ck_assert_int_eq(spool_file_probe("/var/tmp"), 0);
}
END_TEST

/* As a full disk, but anyone can make one: the process may write no larger file. */
START_TEST(no_more_space)
{
    struct rlimit limit = {SPOOL_BLOCK + 1000, RLIM_INFINITY};
    struct spool *s = spool_in("/var/tmp");
    ssize_t taken;

    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    while ((taken = spool_write(s, pattern, 10000)) >= 0)
        if (spool_full(s))
            await_news();
    ck_assert_int_eq(taken, -EFBIG);
    ck_assert_int_eq(flush(s), -EFBIG);
    ck_assert_int_eq(spool_read(s, 0, pattern, 1), -EFBIG);
    spool_close(s);
}
END_TEST

static unsigned entries(const char *dir)
{
    DIR *d = opendir(dir);
    unsigned n = 0;

    ck_assert_ptr_nonnull(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

START_TEST(leaves_no_name_and_no_descriptor)
{
    char dir[] = "/var/tmp/retryd-test.XXXXXX";
    unsigned before;
    struct spool *s;

    ck_assert_ptr_nonnull(mkdtemp(dir));
    before = entries("/proc/self/fd");
    s = spool_in(dir);
    append(s, pattern, sizeof(pattern), SIZE_MAX);
    ck_assert_int_eq(flush(s), 0);
    ck_assert_uint_eq(entries("/proc/self/fd"), before + 1);
    ck_assert_uint_eq(entries(dir), 2);
    spool_close(s);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_uint_eq(entries("/proc/self/fd"), before);
    ck_assert_int_eq(rmdir(dir), 0);
}
END_TEST

START_TEST(the_name_is_removed_where_a_file_needs_one)
{
    char dir[] = "/var/tmp/retryd-test.XXXXXX", gone[4096];
    struct spool *s;

    named_only = 1;
    ck_assert_ptr_nonnull(mkdtemp(dir));
    ck_assert_int_eq(spool_file_probe(dir), 0);
    s = spool_in(dir);
    append(s, pattern, sizeof(pattern), SIZE_MAX);
    ck_assert_int_eq(flush(s), 0);
    ck_assert_uint_eq(entries(dir), 2);
    expect(s, 0, sizeof(pattern), 8192);
    spool_close(s);
    ck_assert_int_eq(rmdir(dir), 0);
    ck_assert_int_eq(spool_file_probe(dir), -ENOENT);
    memset(gone, 'x', sizeof(gone) - 1);
    gone[sizeof(gone) - 1] = '\0';
    ck_assert_int_eq(spool_file_probe(gone), -ENAMETOOLONG);
}
END_TEST

static const int losses[][2] = {{EIO, -EIO}, {-1, -EIO}, {ESTALE, -ESTALE}};

START_TEST(what_cannot_be_read_back_is_an_error)
{
    struct spool *s = spool_in("/var/tmp");
    char got[10];

    append(s, pattern, sizeof(pattern), SIZE_MAX);
    ck_assert_int_eq(flush(s), 0);
    unreadable = losses[_i][0];
    ck_assert_int_eq(read_some(s, 0, got, sizeof(got)), losses[_i][1]);
    unreadable = 0;
    ck_assert_int_eq(read_some(s, 0, got, sizeof(got)), losses[_i][1]); /* once is enough */
    ck_assert_int_eq(spool_state(s), losses[_i][1]);
    spool_close(s);
}
END_TEST

/* --- scans ---------------------------------------------------------------------------------------- */

static struct {
    struct spool_scan scan;
    size_t fed, fails_at;
    unsigned differs, freed;
    bool on_loop;
    pthread_t loop_thread;
} reader;

static int reader_feed(struct spool_scan *scan, const void *data, size_t n)
{
    (void)scan;
    reader.on_loop |= pthread_equal(pthread_self(), reader.loop_thread) != 0;
    reader.differs += reader.freed || memcmp(data, pattern + reader.fed, n) != 0;
    reader.fed += n;
    return reader.fails_at && reader.fed >= reader.fails_at ? -ENOMEM : 0;
}

static size_t reader_memory(struct spool_scan *scan)
{
    (void)scan;
    return 1000 + reader.fed;
}

static void reader_free(struct spool_scan *scan)
{
    (void)scan;
    reader.freed++;
}

static struct spool *scanned_spool(void)
{
    struct spool *s = spool_in("/var/tmp");

    memset(&reader, 0, sizeof(reader));
    reader.scan = (struct spool_scan){reader_feed, reader_memory, reader_free};
    reader.loop_thread = pthread_self();
    spool_scan(s, &reader.scan);
    return s;
}

START_TEST(a_scan_has_read_what_is_stored)
{
    size_t n = lengths[_i];
    struct spool *s = scanned_spool();

    ck_assert_uint_eq(spool_memory(s), 1000);
    append(s, pattern, n, 5000);
    ck_assert_int_eq(flush(s), 0);
    ck_assert_uint_eq(reader.fed, n);
    ck_assert_uint_eq(spool_memory(s), 1000 + n);
    expect(s, 0, n, 8192);
    ck_assert(reader.differs == 0 && !reader.on_loop && reader.freed == 0);
    spool_close(s);
    ck_assert_uint_eq(reader.freed, 1);
}
END_TEST

START_TEST(an_error_of_a_scan_is_the_spools)
{
    struct spool *s = scanned_spool();
    char got[1];

    reader.fails_at = SPOOL_BLOCK + 1;
    append(s, pattern, 2 * SPOOL_BLOCK, SIZE_MAX);
    ck_assert_int_eq(flush(s), -ENOMEM);
    ck_assert_int_eq(spool_write(s, pattern, 1), -ENOMEM);
    ck_assert_int_eq(spool_read(s, 0, got, 1), -ENOMEM);
    ck_assert_uint_eq(reader.fed, 2 * SPOOL_BLOCK);
    spool_close(s);
}
END_TEST

/* It may be at work when the spool is freed, and lives until that is over. */
START_TEST(a_scan_is_freed_once_nothing_is_under_way)
{
    struct spool *s = scanned_spool();

    spool_write(s, pattern, 2 * SPOOL_BLOCK);
    spool_close(s);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert(reader.freed == 1 && reader.differs == 0);
    ck_assert_uint_le(reader.fed, SPOOL_BLOCK);
}
END_TEST

/* Each allocation fails in turn: the spool says so, or has done it all. */
START_TEST(each_allocation_fails)
{
    bool failed = true;

    /* The first use of the loop's threads allocates, for once. */
    struct spool *s = spool_in("/var/tmp");
    append(s, pattern, 1, 1);
    ck_assert_int_eq(flush(s), 0);
    spool_close(s);
    uv_run(&loop, UV_RUN_DEFAULT);
    for (size_t n = 1; failed; n++) {
        char got[1];
        int rc = 0;

        failmem_arm(n);
        s = spool_file_new(&loop, "/var/tmp", &taken_bytes, on_news, NULL);
        rc = s && spool_write(s, pattern, 2 * SPOOL_BLOCK) == 2 * SPOOL_BLOCK ? 0 : -1;
        if (rc == 0)
            rc = flush(s);
        if (rc == 0)
            rc = read_some(s, 0, got, 1) == 1 ? 0 : -1;
        failed = failmem_disarm();
        ck_assert(failed == (rc < 0));
        ck_assert(!s || !failed || spool_state(s) == -ENOMEM);
        spool_close(s);
        uv_run(&loop, UV_RUN_DEFAULT);
    }
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *c = unit_case(suite, "spool");

    tcase_add_checked_fixture(c, set_up, tear_down);
    tcase_add_loop_test(c, reads_back_what_was_appended, 0, COUNT(lengths));
    tcase_add_test(c, reads_while_it_grows);
    tcase_add_test(c, takes_two_blocks_and_no_more);
    tcase_add_test(c, begins_anew_amid_a_read);
    tcase_add_test(c, freed_at_any_time);
    tcase_add_test(c, a_folder_that_is_not_there);
    tcase_add_test(c, no_more_space);
    tcase_add_test(c, leaves_no_name_and_no_descriptor);
    tcase_add_test(c, the_name_is_removed_where_a_file_needs_one);
    tcase_add_loop_test(c, what_cannot_be_read_back_is_an_error, 0, COUNT(losses));
    tcase_add_loop_test(c, a_scan_has_read_what_is_stored, 0, COUNT(lengths));
    tcase_add_test(c, an_error_of_a_scan_is_the_spools);
    tcase_add_test(c, a_scan_is_freed_once_nothing_is_under_way);
    tcase_add_test(c, each_allocation_fails);
}
