/* Starts and ends what the tests of the shared view need, each by its process id or handle. */
#include "shared_peers.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"

#define PEERS_MAX 8
#define GUESTS_MAX 64

uv_loop_t loop;
unsigned stranger_met;

static uv_timer_t bound;
static char folder[64], socket_path[80], server_address[96], stranger_address[96];
static FILE *log_file;
static bool logging;
static pid_t server;
static struct peer *peers[PEERS_MAX];

static struct redis *client;
static bool client_connected, client_answered;
static char client_answer[4096];

static uv_pipe_t stranger;
static bool stranger_open;
static struct str stranger_says;
static struct guest {
    uv_pipe_t pipe;
    uv_write_t request;
    bool spoken;
    char space[4096];
} guests[GUESTS_MAX];

/* --- time ------------------------------------------------------------------------------------- */

uint64_t clock_ms(void)
{
    return uv_hrtime() / 1000000;
}

static void on_bound(uv_timer_t *timer)
{
    (void)timer;
}

void turn_until(uint64_t until_ms)
{
    uint64_t now = clock_ms();

    uv_update_time(&loop);
    uv_timer_start(&bound, on_bound, until_ms > now ? until_ms - now : 0, 0);
    uv_run(&loop, UV_RUN_ONCE);
}

/* --- the server ------------------------------------------------------------------------------- */

/* Its log says when it can be asked. */
static void await_ready(int log)
{
    char text[16 * 1024];
    size_t n = 0;
    ssize_t got = 0;

    do {
        n += (size_t)got;
        text[n] = '\0';
        got = strcasestr(text, "ready to accept connections")
                  ? -1
                  : read(log, text + n, sizeof(text) - 1 - n);
    } while (got > 0);
    close(log);
    ck_assert_msg(got < 0, "redis-server did not start: %s", n ? text : "is it in PATH?");
}

void server_start(const char *const extra[])
{
    const char *argv[64] = {"redis-server", "--port", "0", "--unixsocket", socket_path, "--dir",
                            folder,         "--save", "",  "--appendonly", "no"};
    int n = 11;
    int log[2];

    for (int i = 0; extra && extra[i]; i++)
        argv[n++] = extra[i];
    ck_assert_int_eq(server, 0);
    ck_assert_int_eq(pipe2(log, O_CLOEXEC), 0);
    server = fork();
    ck_assert_int_ge(server, 0);
    if (server == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(log[1], 1);
        dup2(log[1], 2);
        execvp(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    close(log[1]);
    await_ready(log[0]);
}

void server_signal(int signal)
{
    ck_assert_int_eq(kill(server, signal), 0);
}

void server_kill(void)
{
    int status = 0;

    if (server == 0)
        return;
    kill(server, SIGKILL);
    waitpid(server, &status, 0);
    server = 0;
}

struct shared_settings server_settings(void)
{
    return (struct shared_settings){.address = server_address, .prefix = "retryd"};
}

static void on_client_connected(void *arg)
{
    (void)arg;
    client_connected = true;
}

static void on_client_message(void *arg, struct str text)
{
    (void)arg;
    (void)text;
}

static void on_client_dead(void *arg, enum redis_end end, int error)
{
    (void)arg;
    ck_abort_msg("the other client's connection died: %d, %s", (int)end,
                 error ? uv_strerror(error) : "-");
}

static void on_client_answer(void *arg, void *tag, const struct redis_reply *a)
{
    (void)arg;
    (void)tag;
    client_answered = true;
    if (a->kind == REDIS_IS_NUMBER)
        snprintf(client_answer, sizeof(client_answer), "%lld", (long long)a->number);
    else
        snprintf(client_answer, sizeof(client_answer), "%.*s", (int)a->text.n,
                 a->text.n ? a->text.p : "");
}

static const char *ask(size_t n, const struct str argv[])
{
    const struct redis_handler handler = {
        .connected = on_client_connected, .message = on_client_message, .dead = on_client_dead};

    client = redis_open(&loop, server_address, &handler);
    ck_assert_ptr_nonnull(client);
    AWAIT(client_connected, SOON_MS);
    client_answered = false;
    ck_assert_int_eq(redis_send(client, n, argv, on_client_answer, NULL), 0);
    AWAIT(client_answered, SOON_MS);
    redis_close(client);
    client = NULL;
    client_connected = false;
    return client_answer;
}

const char *server_do(const char *words)
{
    struct str argv[REDIS_ARGS_MAX], rest = str_from(words);
    size_t n = 0;

    while (n < REDIS_ARGS_MAX && str_next(&rest, ' ', &argv[n]))
        n++;
    return ask(n, argv);
}

void server_publish(const char *text)
{
    const struct str argv[] = {STR("PUBLISH"), STR("retryd:news"), str_from(text)};

    ck_assert_str_ne(ask(3, argv), "0");
}

/* --- a stranger ------------------------------------------------------------------------------- */

static void give_space(uv_handle_t *handle, size_t wanted, uv_buf_t *ret_buf)
{
    struct guest *g = handle->data;

    (void)wanted;
    *ret_buf = uv_buf_init(g->space, sizeof(g->space));
}

static void on_guest_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct guest *g = stream->data;
    uv_buf_t text = uv_buf_init((char *)(uintptr_t)stranger_says.p, (unsigned)stranger_says.n);

    (void)buf;
    if (n < 0 && !uv_is_closing((uv_handle_t *)stream))
        uv_close((uv_handle_t *)stream, NULL);
    if (n <= 0 || g->spoken || !stranger_says.p)
        return;
    g->spoken = true;
    uv_write(&g->request, stream, &text, 1, NULL);
}

static void on_guest(uv_stream_t *stream, int status)
{
    struct guest *g = &guests[stranger_met];

    ck_assert_int_eq(status, 0);
    ck_assert_uint_lt(stranger_met, GUESTS_MAX);
    stranger_met++;
    uv_pipe_init(&loop, &g->pipe, 0);
    g->pipe.data = g;
    uv_accept(stream, (uv_stream_t *)&g->pipe);
    uv_read_start((uv_stream_t *)&g->pipe, give_space, on_guest_read);
}

struct shared_settings stranger_start(const char *says, size_t n)
{
    char path[96];

    stranger_says = (struct str){says, n};
    snprintf(path, sizeof(path), "%s/stranger", folder);
    snprintf(stranger_address, sizeof(stranger_address), "unix:%s/stranger", folder);
    ck_assert_int_eq(uv_pipe_init(&loop, &stranger, 0), 0);
    ck_assert_int_eq(uv_pipe_bind(&stranger, path), 0);
    ck_assert_int_eq(uv_listen((uv_stream_t *)&stranger, 16, on_guest), 0);
    stranger_open = true;
    return (struct shared_settings){.address = stranger_address, .prefix = "retryd"};
}

static void stranger_stop(void)
{
    if (stranger_open)
        uv_close((uv_handle_t *)&stranger, NULL);
    stranger_open = false;
    for (unsigned i = 0; i < stranger_met; i++)
        if (!uv_is_closing((uv_handle_t *)&guests[i].pipe))
            uv_close((uv_handle_t *)&guests[i].pipe, NULL);
}

/* --- peers ------------------------------------------------------------------------------------ */

static void on_gate(void *arg, uint64_t target, uint64_t for_ms)
{
    struct peer *p = arg;

    p->gates++;
    p->target = target;
    p->target_ms = for_ms;
}

static void on_breaker(void *arg, uint64_t model, bool open, uint64_t for_ms)
{
    struct peer *p = arg;

    p->model = model;
    if (open) {
        p->opens++;
        p->open_ms = for_ms;
    } else {
        p->closes++;
    }
}

static void on_rate(void *arg, uint64_t upstream, uint64_t ahead_us)
{
    struct peer *p = arg;

    p->rates++;
    p->upstream = upstream;
    p->ahead_us = ahead_us;
}

struct peer *peer_new(const struct shared_settings *settings)
{
    static struct peer space[PEERS_MAX];
    int i = 0;

    while (i < PEERS_MAX && peers[i])
        i++;
    if (i == PEERS_MAX)
        abort(); /* no ck_assert: it allocates */
    struct peer *p = peers[i] = &space[i];
    *p = (struct peer){0};
    const struct shared_handler handler = {on_gate, on_breaker, on_rate, p};
    p->shared = shared_new(&loop, settings, &handler);
    return p;
}

struct peer *peer_join(void)
{
    struct shared_settings settings = server_settings();
    struct peer *p = peer_new(&settings);

    ck_assert_ptr_nonnull(p->shared);
    AWAIT(shared_is_up(p->shared), SOON_MS);
    return p;
}

void peer_close(struct peer *p)
{
    for (int i = 0; i < PEERS_MAX; i++)
        if (peers[i] == p)
            peers[i] = NULL;
    shared_close(p->shared);
    p->shared = NULL;
}

/* --- the log ---------------------------------------------------------------------------------- */

const char *peers_log(void)
{
    static char text[64 * 1024];

    if (logging)
        log_stop();
    logging = false;
    rewind(log_file);
    text[fread(text, 1, sizeof(text) - 1, log_file)] = '\0';
    return text;
}

unsigned count_of(const char *text, const char *part)
{
    unsigned n = 0;

    for (const char *at = strstr(text, part); at; at = strstr(at + 1, part))
        n++;
    return n;
}

/* --- the fixture ------------------------------------------------------------------------------ */

void peers_set_up(void)
{
    signal(SIGPIPE, SIG_IGN);
    snprintf(folder, sizeof(folder), "/tmp/retryd-shared.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(socket_path, sizeof(socket_path), "%s/redis", folder);
    snprintf(server_address, sizeof(server_address), "unix:%s", socket_path);
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    uv_timer_init(&loop, &bound);
    log_file = tmpfile();
    ck_assert_ptr_nonnull(log_file);
    ck_assert_int_eq(log_start(fileno(log_file), LOG_INFO, false), 0);
    logging = true;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
    (void)st;
    (void)type;
    (void)where;
    return remove(path);
}

void peers_tear_down(void)
{
    for (int i = 0; i < PEERS_MAX; i++)
        if (peers[i])
            peer_close(peers[i]);
    redis_close(client);
    client = NULL;
    stranger_stop();
    uv_close((uv_handle_t *)&bound, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
    server_kill();
    peers_log();
    fclose(log_file);
    log_thread_done();
    nftw(folder, remove_one, 4, FTW_DEPTH | FTW_PHYS);
}
