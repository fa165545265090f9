/* What all connections share: the script, the book, the counters, and the list of them. */
#include "server.h"
#include "conn.h"
#include "control.h"

#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BACKLOG = 4096, SCRIPT_FILE_MAX = 64 * 1024 * 1024 };

static int complain(const char *what, int rc)
{
    fprintf(stderr, "provider: %s: %s\n", what, uv_strerror(rc));
    return -1;
}

static void on_connection(uv_stream_t *stream, int status)
{
    struct server *s = stream->data;
    bool is_pipe = stream == &s->listeners[LISTEN_UNIX].stream;

    if (status == 0) {
        conn_accept(s, stream, is_pipe, stream == &s->listeners[LISTEN_TLS].stream ? s->tls : NULL);
    }
}

static int listen_on(struct server *s, int which)
{
    uv_stream_t *stream = &s->listeners[which].stream;

    stream->data = s;
    return uv_listen(stream, BACKLOG, on_connection);
}

static int listen_tcp(struct server *s, int which, int port, int *ret_port)
{
    uv_tcp_t *tcp = &s->listeners[which].tcp;
    struct sockaddr_in addr;
    int len = sizeof(addr);
    int rc;

    (void)uv_tcp_init(s->loop, tcp);
    s->listening[which] = true;
    (void)uv_ip4_addr("127.0.0.1", port, &addr);
    if ((rc = uv_tcp_bind(tcp, (const struct sockaddr *)&addr, 0)) != 0 ||
        (rc = listen_on(s, which)) != 0 ||
        (rc = uv_tcp_getsockname(tcp, (struct sockaddr *)&addr, &len)) != 0) {
        return complain("cannot listen", rc);
    }
    *ret_port = ntohs(addr.sin_port);
    return 0;
}

static int listen_unix(struct server *s, const char *path)
{
    uv_pipe_t *pipe = &s->listeners[LISTEN_UNIX].pipe;
    struct stat st;
    int rc;

    (void)uv_pipe_init(s->loop, pipe, 0);
    s->listening[LISTEN_UNIX] = true;
    if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode)) {
        (void)unlink(path);
    }
    if ((rc = uv_pipe_bind(pipe, path)) != 0 || (rc = listen_on(s, LISTEN_UNIX)) != 0) {
        return complain(path, rc);
    }
    return 0;
}

static int load_script(struct server *s, const char *path)
{
    char error[ANSWER_ERROR_MAX];
    struct buf text = {0};
    FILE *file;
    size_t n;

    if (path == NULL) {
        s->script = script_new_auto();
        tally_begin(&s->tally, 0);
        return 0;
    }
    file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        return -1;
    }
    while ((n = fread(buf_room(&text, 4096), 1, 4096, file)) > 0 && text.len < SCRIPT_FILE_MAX) {
        text.len += n;
    }
    (void)fclose(file);
    s->script = script_parse(text.data, text.len, error);
    buf_free(&text);
    if (s->script == NULL) {
        fprintf(stderr, "provider: %s: %s\n", path, error);
        return -1;
    }
    tally_begin(&s->tally, s->script->n_rules);
    return 0;
}

static void on_prepare(uv_prepare_t *prepare)
{
    struct server *s = prepare->data;

    if (s->changed) {
        s->changed = false;
        control_check(s);
    }
}

static void on_signal(uv_signal_t *handle, int number)
{
    (void)number;
    server_stop(handle->data);
}

static void start_handles(struct server *s)
{
    static const int numbers[2] = {SIGTERM, SIGINT};

    (void)uv_prepare_init(s->loop, &s->prepare);
    s->prepare.data = s;
    (void)uv_prepare_start(&s->prepare, on_prepare);
    for (size_t i = 0; i < 2; i++) {
        (void)uv_signal_init(s->loop, &s->signals[i]);
        s->signals[i].data = s;
        (void)uv_signal_start(&s->signals[i], on_signal, numbers[i]);
    }
}

int server_start(struct server *s, uv_loop_t *loop, const struct options *options)
{
    *s = (struct server){.loop = loop, .quiet = options->quiet, .port = -1, .tls_port = -1};
    s->book.keep = !options->no_record;
    start_handles(s);
    if (load_script(s, options->script) < 0 ||
        listen_tcp(s, LISTEN_PLAIN, options->port, &s->port) < 0) {
        return -1;
    }
    if (options->tls_port >= 0) {
        s->tls = tls_context(options->cert, options->key);
        if (s->tls == NULL || listen_tcp(s, LISTEN_TLS, options->tls_port, &s->tls_port) < 0) {
            return -1;
        }
    }
    if (options->unix_path != NULL) {
        return listen_unix(s, options->unix_path);
    }
    return 0;
}

void server_stop(struct server *s)
{
    sigset_t ending;

    if (s->stopping) {
        return;
    }
    s->stopping = true;
    /* A second signal on the way out must not make it a death by signal. */
    (void)sigemptyset(&ending);
    (void)sigaddset(&ending, SIGTERM);
    (void)sigaddset(&ending, SIGINT);
    (void)sigprocmask(SIG_BLOCK, &ending, NULL);
    uv_close((uv_handle_t *)&s->prepare, NULL);
    for (size_t i = 0; i < 2; i++) {
        uv_close((uv_handle_t *)&s->signals[i], NULL);
    }
    for (size_t i = 0; i < LISTEN_COUNT; i++) {
        if (s->listening[i]) {
            uv_close(&s->listeners[i].handle, NULL);
        }
    }
    for (struct conn *c = s->conns; c != NULL; c = conn_next_in_list(c)) {
        conn_close(c);
    }
}

void server_deinit(struct server *s)
{
    script_free(s->script);
    book_deinit(&s->book);
    tally_deinit(&s->tally);
    SSL_CTX_free(s->tls);
}
