/* The log through a pipe: both formats, escaping, truncation, many threads, and a reader that does
 * not read. */

#include "base/log.h"

#include <check.h>
#include <cjson/cJSON.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "failmem.h"
#include "unit.h"

static int pipe_ends[2];

static void open_pipe(void)
{
    ck_assert_int_eq(pipe2(pipe_ends, O_CLOEXEC), 0);
}

/* All that comes until the other end is closed, terminated. */
static char *read_all(void)
{
    struct buf b;
    char piece[4096];
    size_t len;
    ssize_t n;

    buf_init(&b, 64 * 1024 * 1024);
    while ((n = read(pipe_ends[0], piece, sizeof piece)) > 0)
        (void)buf_add(&b, piece, (size_t)n);
    (void)buf_addc(&b, '\0');
    return buf_steal(&b, &len);
}

/* Ends the log and returns what it wrote. */
static char *stop_and_read(void)
{
    log_stop();
    log_thread_done();
    (void)close(pipe_ends[1]);
    char *text = read_all();
    (void)close(pipe_ends[0]);
    return text;
}

/* The rest of a line behind its time stamp, whose form it checks. */
static const char *after_stamp(const char *line)
{
    unsigned y, mo, d, h, mi, s, ms;
    int n = 0;

    ck_assert_int_eq(
        sscanf(line, "ts=%4u-%2u-%2uT%2u:%2u:%2u.%3uZ %n", &y, &mo, &d, &h, &mi, &s, &ms, &n), 7);
    ck_assert_int_eq(n, 28);
    return line + n;
}

START_TEST(logfmt_lines)
{
    open_pipe();
    ck_assert_int_eq(log_start(pipe_ends[1], LOG_DEBUG, false), 0);
    log_begin(LOG_INFO, "a message");
    log_text("plain", "gpt-4o/x:1");
    log_text("spaced", "a b");
    log_text("empty", "");
    log_text("equals", "a=b");
    log_str("escaped", STR("q\" b\\ \n\r\t\x1b\x7f\0."));
    log_str("euro", STR("\xe2\x82\xac"));
    log_str("bad", STR("\xff."));
    log_str("c1", STR("\xc2\x9b"));
    log_u64("most", UINT64_MAX);
    log_end();
    char *text = stop_and_read();
    ck_assert_str_eq(after_stamp(text),
                     "level=info msg=\"a message\" plain=gpt-4o/x:1 spaced=\"a b\" empty=\"\" "
                     "equals=\"a=b\" escaped=\"q\\\" b\\\\ \\n\\r\\t\\u001b\\u007f\\u0000.\" "
                     "euro=\"\xe2\x82\xac\" bad=\"\xef\xbf\xbd.\" c1=\"\\u009b\" "
                     "most=18446744073709551615\n");
    free(text);
}
END_TEST

START_TEST(json_lines)
{
    char every[255];

    for (int i = 0; i < 255; i++)
        every[i] = (char)(i + 1);
    open_pipe();
    ck_assert_int_eq(log_start(pipe_ends[1], LOG_DEBUG, true), 0);
    log_begin(LOG_ERROR, "say \"so\"\n");
    log_str("every", (struct str){every, sizeof every});
    log_u64("n", 42);
    log_end();
    char *text = stop_and_read();
    ck_assert_ptr_eq(strchr(text, '\n'), text + strlen(text) - 1);
    cJSON *tree = cJSON_Parse(text);
    ck_assert_ptr_nonnull(tree);
    ck_assert_str_eq(cJSON_GetStringValue(cJSON_GetObjectItem(tree, "level")), "error");
    ck_assert_str_eq(cJSON_GetStringValue(cJSON_GetObjectItem(tree, "msg")), "say \"so\"\n");
    ck_assert_uint_eq(strlen(cJSON_GetStringValue(cJSON_GetObjectItem(tree, "ts"))), 24);
    ck_assert_int_eq(cJSON_GetObjectItem(tree, "n")->valueint, 42);
    ck_assert_int_eq(strncmp(cJSON_GetStringValue(cJSON_GetObjectItem(tree, "every")), every, 127),
                     0);
    cJSON_Delete(tree);
    free(text);
}
END_TEST

START_TEST(levels)
{
    open_pipe();
    ck_assert_int_eq(log_start(pipe_ends[1], LOG_WARN, false), 0);
    ck_assert(!log_enabled(LOG_INFO));
    log_line(LOG_INFO, "no %d", 1);
    log_begin(LOG_DEBUG, "no 2");
    log_text("k", "v");
    log_end();
    log_configure(LOG_DEBUG, false);
    ck_assert(log_enabled(LOG_DEBUG));
    log_line(LOG_DEBUG, "yes %d", 1);
    char *text = stop_and_read();
    ck_assert_str_eq(after_stamp(text), "level=debug msg=\"yes 1\"\n");
    free(text);
}
END_TEST

/* $JOURNAL_STREAM as systemd sets it for that descriptor, but for `off` of its inode. */
static void name_journal(int fd, unsigned off)
{
    char name[64];
    struct stat st;

    ck_assert_int_eq(fstat(fd, &st), 0);
    (void)snprintf(name, sizeof name, "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino + off);
    ck_assert_int_eq(setenv("JOURNAL_STREAM", name, 1), 0);
}

START_TEST(the_journal_learns_priorities)
{
    static const char *const priorities[] = {"<7>", "<6>", "<4>", "<3>"};

    for (int json = 0; json < 2; json++) {
        for (unsigned level = LOG_DEBUG; level <= LOG_ERROR; level++) {
            open_pipe();
            name_journal(pipe_ends[1], 0);
            log_find_journal(pipe_ends[1]);
            ck_assert_str_eq(log_priority((enum log_level)level), priorities[level]);
            ck_assert_int_eq(log_start(pipe_ends[1], LOG_DEBUG, json), 0);
            log_line((enum log_level)level, "a");
            log_line((enum log_level)level, "b");
            char *text = stop_and_read(), *second = strchr(text, '\n') + 1;
            ck_assert_int_eq(strncmp(text, priorities[level], 3), 0);
            ck_assert_int_eq(strncmp(second, priorities[level], 3), 0);
            ck_assert(second[3] == (json ? '{' : 't'));
            free(text);
        }
    }
}
END_TEST

START_TEST(what_is_not_the_journal_has_no_priorities)
{
    static const char *const others[] = {"", ":", "1", "1:", ":1", "x:y", "1:2:3", NULL};

    open_pipe();
    name_journal(pipe_ends[1], 1); /* another's, as where standard error goes to a file */
    log_find_journal(pipe_ends[1]);
    ck_assert_str_eq(log_priority(LOG_ERROR), "");
    for (unsigned i = 0; others[i]; i++) {
        ck_assert_int_eq(setenv("JOURNAL_STREAM", others[i], 1), 0);
        log_find_journal(pipe_ends[1]);
        ck_assert_str_eq(log_priority(LOG_ERROR), "");
    }
    ck_assert_int_eq(unsetenv("JOURNAL_STREAM"), 0);
    log_find_journal(pipe_ends[1]);
    ck_assert_int_eq(log_start(pipe_ends[1], LOG_DEBUG, false), 0);
    log_line(LOG_ERROR, "a");
    char *text = stop_and_read();
    ck_assert_str_eq(after_stamp(text), "level=error msg=\"a\"\n");
    free(text);
}
END_TEST

/* Fields of all lengths around the limit: one whole line each, valid in its form. */
START_TEST(long_lines_are_cut_whole)
{
    static char value[6000];

    for (int json = 0; json < 2; json++)
        for (size_t n = 3900; n < 4200; n++) {
            memset(value, n % 2 ? 'v' : '\n', sizeof value);
            open_pipe();
            ck_assert_int_eq(log_start(pipe_ends[1], LOG_DEBUG, json), 0);
            log_begin(LOG_INFO, "m");
            log_str("long", (struct str){value, n});
            log_text("after", "x");
            log_u64("number", n);
            log_end();
            char *text = stop_and_read();
            size_t len = strlen(text);
            if (len > 4096 || text[len - 1] != '\n' || strchr(text, '\n') != text + len - 1)
                ck_abort_msg("%zu: %zu bytes", n, len);
            cJSON *tree = json ? cJSON_Parse(text) : NULL;
            if (json && !tree)
                ck_abort_msg("%s", text);
            if (n > 4096 && !strstr(text, json ? ",\"cut\":true}\n" : " cut=true\n"))
                ck_abort_msg("%s", text);
            cJSON_Delete(tree);
            free(text);
        }
}
END_TEST

START_TEST(without_a_writer_lines_go_out_at_once)
{
    open_pipe();
    ck_assert_int_eq(log_start(pipe_ends[1], LOG_INFO, false), 0);
    log_stop();
    log_begin(LOG_INFO, "waits for the flush");
    log_end();
    log_flush();
    log_line(LOG_INFO, "at once");
    char *text = stop_and_read();
    ck_assert_ptr_nonnull(strstr(text, "waits for the flush"));
    ck_assert_ptr_nonnull(strstr(text, "at once"));
    free(text);
}
END_TEST

/* --- threads ---------------------------------------------------------------------------------- */

/* All of them fit into what the log keeps, so that none is dropped however late the reader comes. */
enum { THREADS = 4, LINES = 1500 };

static void *log_much(void *arg)
{
    const unsigned *me = arg;

    for (unsigned i = 0; i < LINES; i++) {
        log_begin(i % 100 == 0 ? LOG_WARN : LOG_INFO, "line");
        log_u64("thread", *me);
        log_u64("i", i);
        log_end();
        if (i % 10 == 0)
            log_flush();
        if (i % 500 == 0)
            log_configure(LOG_INFO, false);
    }
    log_thread_done();
    return NULL;
}

static void *read_much(void *unused)
{
    (void)unused;
    return read_all();
}

START_TEST(many_threads)
{
    unsigned numbers[THREADS], next[THREADS] = {0}, lines = 0;
    pthread_t threads[THREADS], reader;
    void *text;

    open_pipe();
    ck_assert_int_eq(log_start(pipe_ends[1], LOG_INFO, false), 0);
    ck_assert_int_eq(pthread_create(&reader, NULL, read_much, NULL), 0);
    for (unsigned t = 0; t < THREADS; t++) {
        numbers[t] = t;
        ck_assert_int_eq(pthread_create(&threads[t], NULL, log_much, &numbers[t]), 0);
    }
    for (unsigned t = 0; t < THREADS; t++)
        (void)pthread_join(threads[t], NULL);
    log_stop();
    (void)close(pipe_ends[1]);
    (void)pthread_join(reader, &text);
    struct str rest = str_from(text), line;
    for (; str_next(&rest, '\n', &line); lines++) {
        unsigned t, i;
        ptrdiff_t at = str_ifind(line, STR("thread="));
        if (at < 0 || sscanf(line.p + at, "thread=%u i=%u", &t, &i) != 2 || t >= THREADS ||
            i != next[t]++)
            ck_abort_msg("%.*s", (int)line.n, line.p);
    }
    free(text);
    ck_assert_uint_eq(lines + log_dropped(), THREADS * LINES);
    ck_assert_uint_eq(log_dropped(), 0);
}
END_TEST

/* A reader that does not read: nobody waits, memory is bounded, and the loss is told later. */
START_TEST(a_stuck_reader_costs_lines_only)
{
    enum { MANY = 40000 };
    pthread_t reader;
    void *text;

    open_pipe();
    ck_assert_int_eq(log_start(pipe_ends[1], LOG_INFO, false), 0);
    for (int i = 0; i < MANY; i++) {
        log_begin(LOG_INFO, "a line of some length, so that the bound is soon reached");
        log_end();
        log_flush();
    }
    uint64_t lost = log_dropped();
    ck_assert_uint_gt(lost, MANY / 2);
    ck_assert_uint_lt(lost, MANY);
    ck_assert_int_eq(pthread_create(&reader, NULL, read_much, NULL), 0);
    log_stop();
    log_thread_done();
    (void)close(pipe_ends[1]);
    (void)pthread_join(reader, &text);
    /* The loss is told more than once if the writer began late and made room amid it. */
    static const char dropped[] = "msg=\"log lines dropped\" dropped=";
    uint64_t told = 0;
    for (const char *at = text; (at = strstr(at, dropped)); at++)
        told += strtoull(at + strlen(dropped), NULL, 10);
    ck_assert_uint_eq(told, lost);
    free(text);
}
END_TEST

START_TEST(stopping_does_not_wait_for_a_stuck_reader)
{
    struct timespec before, after;

    open_pipe();
    ck_assert_int_eq(log_start(pipe_ends[1], LOG_INFO, false), 0);
    for (int i = 0; i < 5000; i++)
        log_line(LOG_INFO, "a line of some length, so that the pipe is soon full");
    (void)clock_gettime(CLOCK_MONOTONIC, &before);
    log_stop();
    (void)clock_gettime(CLOCK_MONOTONIC, &after);
    log_thread_done();
    ck_assert_int_le(after.tv_sec - before.tv_sec, 2);
    (void)close(pipe_ends[0]);
    (void)close(pipe_ends[1]);
}
END_TEST

START_TEST(a_closed_reader_is_survived)
{
    open_pipe();
    (void)close(pipe_ends[0]);
    ck_assert_int_eq(log_start(pipe_ends[1], LOG_INFO, false), 0);
    for (int i = 0; i < 100; i++)
        log_line(LOG_INFO, "nobody reads this");
    log_stop();
    log_thread_done();
    ck_assert_uint_eq(log_dropped(), 100);
    (void)close(pipe_ends[1]);
}
END_TEST

START_TEST(each_allocation_fails_in_turn)
{
    size_t n;

    for (n = 1;; n++) {
        uint64_t before = log_dropped();
        open_pipe();
        ck_assert_int_eq(log_start(pipe_ends[1], LOG_INFO, false), 0);
        failmem_arm(n);
        log_line(LOG_INFO, "one");
        log_line(LOG_INFO, "two");
        bool failed = failmem_disarm();
        char *text = stop_and_read();
        bool one = strstr(text, "msg=\"one\"") != NULL, two = strstr(text, "msg=\"two\"") != NULL;
        free(text);
        ck_assert_uint_eq(log_dropped() - before, (uint64_t)(!one + !two));
        if (!failed)
            break;
        ck_assert(!one || !two);
    }
    ck_assert_uint_ge(n, 3);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "log");

    tcase_set_timeout(tcase, 30);
    tcase_add_test(tcase, logfmt_lines);
    tcase_add_test(tcase, json_lines);
    tcase_add_test(tcase, levels);
    tcase_add_test(tcase, the_journal_learns_priorities);
    tcase_add_test(tcase, what_is_not_the_journal_has_no_priorities);
    tcase_add_test(tcase, long_lines_are_cut_whole);
    tcase_add_test(tcase, without_a_writer_lines_go_out_at_once);
    tcase_add_test(tcase, many_threads);
    tcase_add_test(tcase, a_stuck_reader_costs_lines_only);
    tcase_add_test(tcase, stopping_does_not_wait_for_a_stuck_reader);
    tcase_add_test(tcase, a_closed_reader_is_survived);
    tcase_add_test(tcase, each_allocation_fails_in_turn);
}
