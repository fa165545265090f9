/* The misbehaving provider: plays the OpenAI API, well or badly, as a script tells it. */
#include "server.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage[] =
    "usage: provider [--port N] [--tls-port N --cert FILE --key FILE] [--unix PATH]\n"
    "                [--script FILE] [--no-record] [--quiet]\n"
    "Listens on 127.0.0.1; port 0 is any free one. Prints one line of JSON when it is ready.\n";

static int parse_port(const char *text)
{
    char *end;
    long n;

    errno = 0;
    n = strtol(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' && n >= 0 && n <= 65535 ? (int)n : -1;
}

/* Returns 0, or the exit status plus one. */
static int parse_options(struct options *o, int argc, char **argv)
{
    static const struct option longs[] = {
        {"port", required_argument, NULL, 'p'}, {"tls-port", required_argument, NULL, 't'},
        {"cert", required_argument, NULL, 'c'}, {"key", required_argument, NULL, 'k'},
        {"unix", required_argument, NULL, 'u'}, {"script", required_argument, NULL, 's'},
        {"no-record", no_argument, NULL, 'n'},  {"quiet", no_argument, NULL, 'q'},
        {"help", no_argument, NULL, 'h'},       {NULL, 0, NULL, 0},
    };
    int c;

    while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        switch (c) {
        case 'p':
            o->port = parse_port(optarg);
            break;
        case 't':
            o->tls_port = parse_port(optarg);
            if (o->tls_port < 0) {
                o->port = -1;
            }
            break;
        case 'c':
            o->cert = optarg;
            break;
        case 'k':
            o->key = optarg;
            break;
        case 'u':
            o->unix_path = optarg;
            break;
        case 's':
            o->script = optarg;
            break;
        case 'n':
            o->no_record = true;
            break;
        case 'q':
            o->quiet = true;
            break;
        case 'h':
            fputs(usage, stdout);
            return 1;
        default:
            fputs(usage, stderr);
            return 3;
        }
    }
    if (optind < argc || o->port < 0 || (o->tls_port >= 0 && (!o->cert || !o->key))) {
        fputs(usage, stderr);
        return 3;
    }
    return 0;
}

static void put_port(struct buf *b, const char *name, int port)
{
    if (port >= 0) {
        buf_printf(b, "\"%s\":%d,", name, port);
    } else {
        buf_printf(b, "\"%s\":null,", name);
    }
}

static void print_ready(const struct server *s, const struct options *o)
{
    struct buf line = {0};

    buf_str(&line, "{");
    put_port(&line, "port", s->port);
    put_port(&line, "tls_port", s->tls_port);
    buf_str(&line, "\"unix\":");
    if (o->unix_path != NULL) {
        buf_json(&line, o->unix_path, strlen(o->unix_path));
    } else {
        buf_str(&line, "null");
    }
    buf_printf(&line, ",\"pid\":%ld}\n", (long)getpid());
    (void)fwrite(line.data, 1, line.len, stdout);
    (void)fflush(stdout);
    buf_free(&line);
}

int main(int argc, char **argv)
{
    struct options options = {.tls_port = -1};
    struct server *server;
    uv_loop_t loop;
    int status = parse_options(&options, argc, argv);

    if (status > 0) {
        return status - 1;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    if (uv_loop_init(&loop) != 0) {
        fputs("provider: no event loop\n", stderr);
        return 1;
    }
    server = must_alloc(sizeof(*server));
    if (server_start(server, &loop, &options) == 0) {
        print_ready(server, &options);
    } else {
        status = 1;
        server_stop(server);
    }
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    server_deinit(server);
    free(server);
    (void)uv_loop_close(&loop);
    return status;
}
