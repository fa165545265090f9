/* Builds log lines in per-thread buffers and writes them from a separate thread, which may
 * block. */
#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/escape.h"

#define LINE_MAX_BYTES 4096 /* including the newline */
#define LINE_CLOSE 32       /* reserved for the end of a line that was cut */
#define PRIORITY_BYTES 3
#define BATCH_BYTES (32 * 1024)  /* a thread's lines; a full batch is flushed early */
#define QUEUE_BYTES (512 * 1024) /* there are two: one fills while the other is written */
#define STOP_WAIT_MS 1000
#define WRITER_CHECK_MS 50 /* interval at which a blocked writer checks whether to give up */

struct line {
    bool json;
    bool cut;
    size_t len;
    time_t stamp_second; /* the second in `stamp` */
    char stamp[24];      /* 2026-01-02T03:04:05 */
    char text[LINE_MAX_BYTES];
};

/* Per thread: the current line, and finished lines that wait for log_flush. */
struct local {
    struct line line;
    bool open; /* between log_begin and log_end, if the level is enabled */
    enum log_level level;
    size_t batch_len;
    unsigned batch_lines;
    char batch[BATCH_BYTES];
};

static _Thread_local struct local *local;

static atomic_int wanted_level = LOG_INFO;
static atomic_bool wanted_json;
static bool pretty, colours; /* set before any thread starts */
static bool journal;         /* the journal reads the log; set before any thread starts */
static atomic_uint_fast64_t dropped;

/* `lock` protects all members except `out`, which belongs to the running writer. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t wake;  /* wakes the writer: lines to write, or stop */
    pthread_cond_t ended; /* wakes log_stop: the writer is done */
    pthread_t thread;
    bool running, stopping, done;
    atomic_bool given_up; /* log_stop has run out of time */
    int fd;
    struct buf in, out;
} writer = {.lock = PTHREAD_MUTEX_INITIALIZER, .fd = STDERR_FILENO};

/* --- one line --------------------------------------------------------------------------------- */

static void put(struct line *l, const char *text, size_t n)
{
    memcpy(l->text + l->len, text, n);
    l->len += n;
}

/* Whether `n` bytes fit and leave room to close the line. If not, the line ends here. */
static bool fits(struct line *l, size_t n)
{
    if (l->len + n + LINE_CLOSE > sizeof l->text)
        l->cut = true;
    return !l->cut;
}

static void put_quoted(struct line *l, struct str s)
{
    put(l, "\"", 1);
    while (s.n > 0) {
        char space[ESCAPE_MAX];
        size_t used;
        struct str one = escape_json(s, space, &used);
        if (!fits(l, one.n))
            break;
        put(l, one.p, one.n);
        s = str_after(s, used);
    }
    put(l, "\"", 1);
}

/* Whether a logfmt value needs no quotes: it is printable and has no separator. */
static bool is_plain(struct str s)
{
    if (s.n == 0)
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] <= ' ' || s.p[i] >= 0x7f || s.p[i] == '"' || s.p[i] == '=' || s.p[i] == '\\')
            return false;
    return true;
}

/* Writes the separator and the key. Returns whether at least part of a value fits after it. */
static bool put_key(struct line *l, const char *key)
{
    size_t n = strlen(key);

    if (l->cut || !fits(l, n + 8))
        return false;
    if (l->json) {
        put(l, ",\"", 2);
        put(l, key, n);
        put(l, "\":", 2);
    } else {
        put(l, " ", 1);
        put(l, key, n);
        put(l, "=", 1);
    }
    return true;
}

static void put_str(struct line *l, const char *key, struct str value)
{
    if (!put_key(l, key))
        return;
    bool whole = l->len + value.n + LINE_CLOSE <= sizeof l->text;
    if (!l->json && whole && is_plain(value))
        put(l, value.p, value.n);
    else
        put_quoted(l, value);
}

static void put_u64(struct line *l, const char *key, uint64_t value)
{
    char text[24];
    int n = snprintf(text, sizeof text, "%" PRIu64, value);

    if (fits(l, strlen(key) + 4 + (size_t)n) && put_key(l, key))
        put(l, text, (size_t)n);
}

static void line_begin(struct line *l, enum log_level level, struct str msg)
{
    static const char *const words[] = {"debug", "info", "warn", "error"};

    l->json = atomic_load_explicit(&wanted_json, memory_order_relaxed);
    l->cut = false;
    l->len = 0;
    if (journal)
        put(l, log_priority(level), PRIORITY_BYTES);
    /* The date is formatted once a second, because gmtime_r takes a lock of the C library. */
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    if (now.tv_sec != l->stamp_second || l->stamp[0] == '\0') {
        struct tm tm;
        (void)gmtime_r(&now.tv_sec, &tm);
        (void)strftime(l->stamp, sizeof l->stamp, "%Y-%m-%dT%H:%M:%S", &tm);
        l->stamp_second = now.tv_sec;
    }
    int n = snprintf(l->text + l->len, sizeof l->text - l->len,
                     l->json ? "{\"ts\":\"%s.%03uZ\"" : "ts=%s.%03uZ", l->stamp,
                     (unsigned)(now.tv_nsec / 1000000) % 1000);
    l->len += (size_t)n;
    put_str(l, "level", str_from(words[level]));
    if (put_key(l, "msg"))
        put_quoted(l, msg);
}

/* Replaces it by lines for a person. */
static void line_prettify(struct line *l)
{
    struct timespec now;
    struct tm tm;
    char stamp[16];
    struct buf out;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)localtime_r(&now.tv_sec, &tm);
    (void)strftime(stamp, sizeof stamp, "%H:%M:%S", &tm);
    buf_init(&out, sizeof l->text);
    log_pretty(stamp, (struct str){l->text, l->len}, colours, &out);
    if (!out.failed) {
        memcpy(l->text, out.p, out.len);
        l->len = out.len;
    }
    buf_deinit(&out);
}

static void line_end(struct line *l)
{
    if (l->cut)
        l->json ? put(l, ",\"cut\":true", 11) : put(l, " cut=true", 9);
    l->json ? put(l, "}\n", 2) : put(l, "\n", 1);
    if (pretty && !l->json)
        line_prettify(l);
}

/* --- the journal ------------------------------------------------------------------------------ */

static bool is_journal(int fd, struct str name)
{
    struct stat st;
    struct str device;
    uint64_t dev, inode;

    return str_next(&name, ':', &device) && str_to_u64(device, &dev) && str_to_u64(name, &inode) &&
           fstat(fd, &st) == 0 && st.st_dev == dev && st.st_ino == inode;
}

void log_find_journal(int fd)
{
    const char *name = getenv("JOURNAL_STREAM");

    journal = name && is_journal(fd, str_from(name));
}

void log_use_terminal(int fd, bool terminal, bool always)
{
    const char *kind = getenv("TERM"), *no = getenv("NO_COLOR");
    bool person = isatty(fd) == 1;

    pretty = !journal && (always || (terminal && person));
    colours = pretty && person && !(no && no[0]) && !(kind && str_eq(str_from(kind), STR("dumb")));
}

bool log_is_pretty(void)
{
    return pretty;
}

const char *log_priority(enum log_level level)
{
    static const char *const priorities[] = {"<7>", "<6>", "<4>", "<3>"};

    return journal ? priorities[level] : "";
}

/* --- writing ---------------------------------------------------------------------------------- */

/* Writes all bytes, however long it takes. Returns false on an error of the descriptor. */
static bool write_all(int fd, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t written = write(fd, p, n);
        if (written > 0) {
            p += written;
            n -= (size_t)written;
        } else if (written < 0 && errno == EAGAIN) {
            struct pollfd waited = {.fd = fd, .events = POLLOUT};
            (void)poll(&waited, 1, -1);
        } else if (written == 0 || errno != EINTR) {
            return false;
        }
    }
    return true;
}

/* Like write_all, but stops when log_stop gives up. It therefore never enters a write that blocks:
 * a pipe that polls as writable takes PIPE_BUF bytes at once (pipe(7)). */
static bool write_while_wanted(int fd, const char *p, size_t n)
{
    while (n > 0) {
        struct pollfd waited = {.fd = fd, .events = POLLOUT};
        int ready = poll(&waited, 1, WRITER_CHECK_MS);
        if (atomic_load(&writer.given_up))
            return false;
        if (ready <= 0)
            continue;
        size_t piece = n < PIPE_BUF ? n : PIPE_BUF;
        if (!write_all(fd, p, piece))
            return false;
        p += piece;
        n -= piece;
    }
    return true;
}

static void count_dropped(uint64_t lines)
{
    atomic_fetch_add_explicit(&dropped, lines, memory_order_relaxed);
}

/* Waits for lines and moves them to `out`. Returns false once the log stops and nothing is left. */
static bool writer_take(void)
{
    (void)pthread_mutex_lock(&writer.lock);
    while (writer.in.len == 0 && !writer.stopping)
        (void)pthread_cond_wait(&writer.wake, &writer.lock);
    struct buf filled = writer.in;
    writer.in = writer.out;
    writer.out = filled;
    (void)pthread_mutex_unlock(&writer.lock);
    return filled.len > 0;
}

static void *writer_main(void *unused)
{
    static struct line line; /* static, because log_stop allows one writer at a time */
    uint64_t reported = log_dropped();

    (void)unused;
    while (writer_take()) {
        if (!write_while_wanted(writer.fd, writer.out.p, writer.out.len)) {
            uint64_t lines = 0;
            for (size_t i = 0; i < writer.out.len; i++)
                lines += writer.out.p[i] == '\n';
            count_dropped(lines);
        } else {
            /* Logs how many lines were dropped since the last report. */
            uint64_t total = log_dropped();
            if (total != reported) {
                line_begin(&line, LOG_WARN, STR("log lines dropped"));
                put_u64(&line, "dropped", total - reported);
                line_end(&line);
                reported = total;
                (void)write_while_wanted(writer.fd, line.text, line.len);
            }
        }
        buf_reset(&writer.out, QUEUE_BYTES);
    }
    (void)pthread_mutex_lock(&writer.lock);
    writer.done = true;
    (void)pthread_cond_signal(&writer.ended);
    (void)pthread_mutex_unlock(&writer.lock);
    return NULL;
}

int log_start(int fd, enum log_level level, bool json)
{
    sigset_t all, before;

    log_configure(level, json);
    pthread_condattr_t monotonic;
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&writer.wake, NULL);
    (void)pthread_cond_init(&writer.ended, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    (void)pthread_mutex_lock(&writer.lock);
    writer.fd = fd;
    writer.stopping = writer.done = false;
    atomic_store(&writer.given_up, false);
    buf_init(&writer.in, QUEUE_BYTES);
    buf_init(&writer.out, QUEUE_BYTES);
    /* The event loops handle signals, not this thread. */
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int r = -pthread_create(&writer.thread, NULL, writer_main, NULL);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    writer.running = r == 0;
    (void)pthread_mutex_unlock(&writer.lock);
    return r;
}

/* Waits up to `ms` for the writer to end. The caller holds the lock. */
static bool wait_done(uint64_t ms)
{
    struct timespec until;
    int r = 0;

    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(ms / 1000);
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    while (!writer.done && r == 0)
        r = pthread_cond_timedwait(&writer.ended, &writer.lock, &until);
    return writer.done;
}

void log_stop(void)
{
    log_flush();
    (void)pthread_mutex_lock(&writer.lock);
    if (!writer.running) {
        (void)pthread_mutex_unlock(&writer.lock);
        return;
    }
    writer.stopping = true;
    writer.running = false;
    (void)pthread_cond_signal(&writer.wake);
    bool done = wait_done(STOP_WAIT_MS);
    atomic_store(&writer.given_up, true);
    done = done || wait_done(4 * WRITER_CHECK_MS);
    (void)pthread_mutex_unlock(&writer.lock);

    if (!done) { /* it blocks in a write after all, and still uses its buffers */
        (void)pthread_detach(writer.thread);
        return;
    }
    (void)pthread_join(writer.thread, NULL);
    (void)pthread_cond_destroy(&writer.wake);
    (void)pthread_cond_destroy(&writer.ended);
    buf_deinit(&writer.in);
    buf_deinit(&writer.out);
}

/* --- the calling threads ---------------------------------------------------------------------- */

void log_configure(enum log_level level, bool json)
{
    atomic_store_explicit(&wanted_level, (int)level, memory_order_relaxed);
    atomic_store_explicit(&wanted_json, json, memory_order_relaxed);
}

bool log_enabled(enum log_level level)
{
    return (int)level >= atomic_load_explicit(&wanted_level, memory_order_relaxed);
}

uint64_t log_dropped(void)
{
    return atomic_load_explicit(&dropped, memory_order_relaxed);
}

void log_begin(enum log_level level, const char *msg)
{
    if (local)
        local->open = false;
    if (!log_enabled(level))
        return;
    if (!local) {
        local = calloc(1, sizeof *local);
        if (!local) {
            count_dropped(1);
            return;
        }
    }
    local->open = true;
    local->level = level;
    line_begin(&local->line, level, str_from(msg));
}

void log_str(const char *key, struct str value)
{
    if (local && local->open)
        put_str(&local->line, key, value);
}

void log_text(const char *key, const char *value)
{
    log_str(key, str_from(value));
}

void log_u64(const char *key, uint64_t value)
{
    if (local && local->open)
        put_u64(&local->line, key, value);
}

void log_end(void)
{
    if (!local || !local->open)
        return;
    local->open = false;
    line_end(&local->line);
    if (local->line.len > sizeof local->batch - local->batch_len)
        log_flush();
    memcpy(local->batch + local->batch_len, local->line.text, local->line.len);
    local->batch_len += local->line.len;
    local->batch_lines++;
    if (local->level >= LOG_WARN)
        log_flush();
}

void log_line(enum log_level level, const char *fmt, ...)
{
    char msg[1024];
    va_list args;

    if (!log_enabled(level))
        return;
    va_start(args, fmt);
    (void)vsnprintf(msg, sizeof msg, fmt, args);
    va_end(args);
    log_begin(level, msg);
    log_end();
    log_flush();
}

void log_flush(void)
{
    if (!local || local->batch_len == 0)
        return;

    (void)pthread_mutex_lock(&writer.lock);
    bool running = writer.running;
    if (running) {
        if (buf_add(&writer.in, local->batch, local->batch_len) < 0) {
            writer.in.failed = false; /* there is room again after the next write */
            count_dropped(local->batch_lines);
        }
        (void)pthread_cond_signal(&writer.wake);
    }
    int fd = writer.fd;
    (void)pthread_mutex_unlock(&writer.lock);

    if (!running && !write_all(fd, local->batch, local->batch_len))
        count_dropped(local->batch_lines);
    local->batch_len = 0;
    local->batch_lines = 0;
}

void log_thread_done(void)
{
    log_flush();
    free(local);
    local = NULL;
}
