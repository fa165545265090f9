/* What all connections share: the script, the book, the counters, and the list of them. */
#ifndef PROVIDER_SERVER_H
#define PROVIDER_SERVER_H

#include "record.h"
#include "script.h"
#include "tally.h"

#include <openssl/ssl.h>
#include <uv.h>

struct conn;

struct options {
    int port;     /* 0: any free one */
    int tls_port; /* -1: none */
    const char *cert;
    const char *key;
    const char *unix_path;
    const char *script;
    bool quiet;
    bool no_record;
};

enum { LISTEN_PLAIN, LISTEN_TLS, LISTEN_UNIX, LISTEN_COUNT };

struct server {
    uv_loop_t *loop;
    struct script *script;
    struct book book;
    struct tally tally;
    SSL_CTX *tls;
    bool quiet;
    bool stopping;
    bool released; /* what the script holds may go */
    bool changed;  /* something a test may be waiting for */
    uint64_t serial;
    uint64_t last_conn;
    uint64_t connections; /* the counters of /_/stats */
    uint64_t open;
    uint64_t requests;
    uint64_t handshakes;
    uint64_t resumed;
    struct conn *conns;
    unsigned waiting; /* control connections that wait for something */
    uv_prepare_t prepare;
    uv_signal_t signals[2];
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } listeners[LISTEN_COUNT];
    bool listening[LISTEN_COUNT];
    int port;
    int tls_port;
};

/* Opens the listeners; returns -1 with a message on stderr. server_stop is safe either way. */
int server_start(struct server *s, uv_loop_t *loop, const struct options *options);
/* Closes everything; the loop then runs dry. */
void server_stop(struct server *s);
/* After the loop has run dry. */
void server_deinit(struct server *s);

#endif
