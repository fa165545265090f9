/* Any bytes as what a Redis server answers: the shared view survives them, and nobody is shut out
 * for longer than a day on a stranger's word.
 *
 * An input is what the server sends on the first connection, a byte of 1, and what it sends on the
 * second. A byte of 2 is where it waits for something to be asked before it goes on. A server on a
 * socket of this process sends it, on the same loop. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "base/log.h"
#include "daemon/shared.h"
#include "fuzz.h"

#define DAY_MS 86400000u
#define LINES 2
#define TURNS 100

struct line {
    uv_pipe_t pipe;
    uv_write_t write;
    struct str rest;
    char space[1024];
    bool open, writing;
};

static struct line lines[LINES];
static struct str script[LINES];
static unsigned accepted, heard;
static struct shared *shared;
static uv_pipe_t server;

/* --- the server ------------------------------------------------------------------------------- */

static void on_closed(uv_handle_t *handle)
{
    (void)handle;
}

static void hang_up(struct line *line)
{
    if (!line->open)
        return;
    line->open = false;
    uv_close((uv_handle_t *)&line->pipe, on_closed);
}

static void on_written(uv_write_t *write, int status)
{
    struct line *line = write->data;

    line->writing = false;
    if (status < 0)
        hang_up(line);
}

/* Up to the next place where it waits. */
static void send_some(struct line *line)
{
    const char *stop = line->rest.n ? memchr(line->rest.p, 2, line->rest.n) : NULL;
    size_t n = stop ? (size_t)(stop - line->rest.p) : line->rest.n;
    uv_buf_t buf = uv_buf_init((char *)(uintptr_t)line->rest.p, (unsigned)n);

    if (line->writing || !line->open)
        return;
    line->rest = (struct str){line->rest.p + n + (stop ? 1 : 0), line->rest.n - n - (stop ? 1 : 0)};
    line->write.data = line;
    line->writing = true;
    if (uv_write(&line->write, (uv_stream_t *)&line->pipe, &buf, 1, on_written) < 0)
        hang_up(line);
}

static void get_space(uv_handle_t *handle, size_t hint, uv_buf_t *buf)
{
    struct line *line = handle->data;

    (void)hint;
    *buf = uv_buf_init(line->space, sizeof line->space);
}

static void on_asked(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct line *line = stream->data;

    (void)buf;
    if (n < 0)
        hang_up(line);
    else if (n > 0)
        send_some(line);
}

static void on_connection(uv_stream_t *listening, int status)
{
    struct line *line = &lines[accepted % LINES];

    if (status < 0 || accepted == LINES)
        return;
    FUZZ_CHECK(uv_pipe_init(listening->loop, &line->pipe, 0) == 0);
    FUZZ_CHECK(uv_accept(listening, (uv_stream_t *)&line->pipe) == 0);
    line->rest = script[accepted++];
    line->open = true;
    line->pipe.data = line;
    FUZZ_CHECK(uv_read_start((uv_stream_t *)&line->pipe, get_space, on_asked) == 0);
}

/* --- what is heard ---------------------------------------------------------------------------- */

static void on_gate(void *arg, uint64_t target_id, uint64_t for_ms)
{
    (void)arg;
    (void)target_id;
    heard++;
    FUZZ_CHECK(for_ms <= DAY_MS);
}

static void on_breaker(void *arg, uint64_t model_id, bool open, uint64_t for_ms)
{
    (void)arg;
    (void)model_id;
    heard++;
    FUZZ_CHECK(for_ms <= DAY_MS && (open || for_ms == 0));
}

static void on_rate(void *arg, uint64_t upstream_id, uint64_t ahead_us)
{
    (void)arg;
    (void)upstream_id;
    heard++;
    FUZZ_CHECK(ahead_us / 1000 <= DAY_MS);
}

/* --- a run ------------------------------------------------------------------------------------ */

static bool is_through(const struct line *line)
{
    return !line->open || (line->rest.n == 0 && !line->writing);
}

/* Asks for something now and then, for there would be no responses else. */
static void play(uv_loop_t *loop)
{
    unsigned told = 0;

    for (unsigned turn = 0;
         turn < TURNS && !(accepted == LINES && is_through(&lines[0]) && is_through(&lines[1]));
         turn++) {
        (void)uv_run(loop, UV_RUN_NOWAIT);
        if (!shared_is_up(shared) || told++ > 8)
            continue;
        shared_report_rate(shared, told, 60, 1);
        shared_report_gate(shared, 7, 1000);
        shared_report_breaker(shared, 8, told % 2, 1000);
    }
    /* What was sent last is read. */
    for (unsigned turn = 0; turn < 8; turn++)
        (void)uv_run(loop, UV_RUN_NOWAIT);
}

static void check_counts(void)
{
    struct shared_counts counts = shared_counts(shared);
    const char *why = shared_why_down(shared);

    FUZZ_CHECK(counts.received <= heard);
    FUZZ_CHECK(shared_is_up(shared) == (why == NULL));
    /* A person reads it. */
    for (; why && *why; why++)
        FUZZ_CHECK((unsigned char)*why >= 0x20 && (unsigned char)*why != 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct shared_handler handler = {
        .gate = on_gate, .breaker = on_breaker, .rate = on_rate};
    char path[64], address[80];
    uv_loop_t loop;

    script[0] = script[1] = (struct str){(const char *)data, size};
    const char *mark = size ? memchr(data, 1, size) : NULL;
    if (mark) {
        script[0].n = (size_t)(mark - script[0].p);
        script[1] = (struct str){mark + 1, size - script[0].n - 1};
    }
    (void)signal(SIGPIPE, SIG_IGN); /* as the daemon does */
    log_configure(LOG_ERROR, false);
    (void)snprintf(path, sizeof path, "/tmp/retryd-fuzz-%d", (int)getpid());
    (void)snprintf(address, sizeof address, "unix:%s", path);
    memset(lines, 0, sizeof lines);
    accepted = heard = 0;
    FUZZ_CHECK(uv_loop_init(&loop) == 0);
    FUZZ_CHECK(uv_pipe_init(&loop, &server, 0) == 0);
    (void)unlink(path);
    FUZZ_CHECK(uv_pipe_bind(&server, path) == 0);
    FUZZ_CHECK(uv_listen((uv_stream_t *)&server, LINES, on_connection) == 0);
    shared = shared_new(
        &loop, &(struct shared_settings){.address = address, .user = "", .prefix = "p"}, &handler);
    FUZZ_CHECK(shared);
    play(&loop);
    check_counts();
    shared_close(shared);
    for (size_t i = 0; i < LINES; i++)
        hang_up(&lines[i]);
    uv_close((uv_handle_t *)&server, on_closed);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    FUZZ_CHECK(uv_loop_close(&loop) == 0);
    (void)unlink(path);
    return 0;
}
