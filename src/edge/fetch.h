/* Sends attempts to upstreams, on a libuv loop.
 *
 * libcurl makes all connections: name resolution, TLS, proxies. HTTP/1.1 on them is spoken here, by
 * fetch_http1.c, and they are kept for later requests in fetch_connection.c. HTTP/2, and HTTP/1.1
 * through an HTTP proxy without a tunnel, are left to libcurl (fetch_transfer.c).
 *
 * Each worker has one struct fetch: a curl multi handle with its connection cache, DNS cache and
 * TLS sessions, and the kept connections. Callbacks only record events in struct attempt; fetch_run
 * acts on them.
 *
 * Everywhere:
 * - A request is sent once. libcurl would silently send a POST again, but only policy/ decides on
 *   retries.
 * - An idle connection that receives bytes or is closed is discarded at once, and a connection with
 *   unread bytes is never used. libcurl 7.88 would take the bytes for the next response.
 * - Name resolution never blocks the loop.
 * - The CA file is parsed once, before traffic. */
#ifndef RETRYD_EDGE_FETCH_H
#define RETRYD_EDGE_FETCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/str.h"
#include "exchange/attempt.h"

struct fetch;
struct transfer; /* one running attempt */

enum fetch_http { FETCH_HTTP_AUTO, FETCH_HTTP_1_1, FETCH_HTTP_2 };

/* The way to reach one configured upstream. The strings belong to the caller and must outlive the
 * transfer. `id` identifies the settings: an easy handle that was set up for the same id is reused
 * as it is. */
struct fetch_upstream {
    uint64_t id;
    uint64_t peer_id;        /* the same for upstreams that may share connections */
    const char *origin;      /* "https://host:port" */
    const char *unix_socket; /* path of a Unix socket to connect to, or "" */
    const char *ca_file;     /* the name of the CA file for messages; "" for the system's */
    const char *ca_path;     /* the file that is read instead of ca_file, or "" */
    /* The version of the authorities. Upstreams with different versions share neither certificates
     * nor connections nor TLS sessions. */
    uint32_t ca_version;
    struct str client_cert; /* PEM, with the intermediate certificates; empty: none */
    struct str client_key;  /* PEM, not encrypted */
    const char *proxy;      /* URL with the password, or ""; the environment is ignored */
    enum fetch_http http;
    uint64_t connection_lifetime_ms; /* older connections take no new request; 0: no limit */
};

/* The course of an attempt on the network. The duration of a phase that did not take place is 0, as
 * on a reused connection. */
struct fetch_trace {
    const char *address; /* the peer's IP address or the path of a Unix socket; "" if none */
    unsigned port;       /* 0 for a Unix socket */
    bool proxied;        /* the address is that of a proxy */
    bool cancelled;      /* retryd ended the attempt */
    bool kept;           /* the request was sent on a reused connection */
    bool sent;           /* the request was sent */
    const char *http;    /* "1.1", "2"; "" if no response has begun */
    uint64_t dns_ms, connect_ms, tls_ms;
    uint64_t first_byte_ms, total_ms; /* since the start; until the first byte of the response */
    uint64_t bytes_sent, bytes_received;
};

struct fetch_request {
    const struct fetch_upstream *upstream;
    const char *method;
    const char *target; /* path and query in origin form */
    const struct headers *headers;
    const char *body; /* owned by the caller until the transfer has ended; NULL: use `read` */
    uint64_t body_len;
    /* Reads a body that is not in memory. `arg` is the one of fetch_start. Copies up to `max`
     * bytes, starting at `offset`, and returns their number. Returns -EAGAIN if they are not
     * available yet; fetch_upload_ready then follows. Any other -errno ends the attempt as
     * TRANSPORT_INTERNAL. */
    ptrdiff_t (*read)(void *arg, uint64_t offset, void *to, size_t max);
    uint64_t connect_timeout_ms; /* 0: none */
    /* Called once when the transfer has ended or is cancelled, before its last notify. May be
     * NULL. */
    void (*traced)(void *arg, const struct fetch_trace *trace);
};

/* Initializes libcurl for the process. Call it before any thread starts. Returns 0 or -errno. */
int fetch_global_init(void);
void fetch_global_deinit(void);
/* Returns "libcurl/7.88.1 OpenSSL/3.0.15 ...". */
const char *fetch_version(void);

/* Returns the path of the CA file; `ca_file` "" stands for the system's. */
const char *fetch_ca_file(const char *ca_file);

enum fetch_fault {
    FETCH_FAULT_NONE,
    FETCH_FAULT_AUTHORITIES, /* the authorities cannot be read */
    FETCH_FAULT_CERTIFICATE, /* the client certificate cannot be read */
    FETCH_FAULT_KEY,         /* the key cannot be read, or does not match the certificate */
    FETCH_FAULT_MEMORY,
};
/* Checks whether the TLS library can read an upstream's authorities ("": none), client certificate
 * and key (empty: none). Sends nothing. */
enum fetch_fault fetch_check_trust(const char *ca_path, struct str client_cert,
                                   struct str client_key);

/* Sends a GET for `path` to a listener ("127.0.0.1:4291", "unix:PATH"). Returns the status or
 * -errno. Blocks for at most `timeout_ms`. */
int fetch_status(const char *address, const char *path, unsigned timeout_ms);
/* Does the same, and appends the response's body to `ret`, as far as there is room. */
int fetch_text(const char *address, const char *path, unsigned timeout_ms, struct buf *ret);

/* Calls `wake` whenever fetch_run has something to do, so that the loop runs it. Returns NULL if
 * out of memory. */
struct fetch *fetch_new(uv_loop_t *loop, void (*wake)(void *arg), void *arg);
/* Closes the libuv handles and frees the memory once the loop has run. No transfer may be
 * running. */
void fetch_close(struct fetch *u);

/* Parses the upstream's authorities before its first connection. Sends nothing. Must not be called
 * from a callback of libcurl. */
void fetch_warm(struct fetch *u, const struct fetch_upstream *upstream);

/* Starts an attempt and returns it in `*ret`. Until it has ended or is cancelled, `a` is updated
 * and notify(arg) is called after each change. Copies the headers. Returns 0 or -errno. */
int fetch_start(struct fetch *u, const struct fetch_request *request, struct attempt *a,
                void (*notify)(void *arg), void *arg, struct transfer **ret);

/* Ends and frees the transfer at once. Sets a->upload_whole. No notify follows. */
void fetch_cancel(struct transfer *t);

/* Closes the connection that `a` was sent on, unless other transfers use it. */
void fetch_drop_connection(struct fetch *u, const struct attempt *a);

/* Continues to read the response after a->paused. */
void fetch_resume(struct transfer *t);

/* Continues the upload after `read` returned -EAGAIN. Does nothing if it did not. */
void fetch_upload_ready(struct transfer *t);

/* Runs what is due and finishes transfers that have ended: sets a->done, calls notify and frees the
 * transfer, which its owner must forget. Returns whether it did anything. */
bool fetch_run(struct fetch *u);

struct fetch_stats {
    uint64_t connections; /* connections opened */
    uint64_t open;        /* of these, those that are open now */
    uint64_t handshakes;  /* complete TLS handshakes with upstreams, and the time they took */
    uint64_t handshake_us;
    uint64_t reused;        /* requests sent on a reused connection */
    uint64_t stale;         /* idle connections discarded because they were closed or dirty */
    uint64_t resend_vetoed; /* silent resends of libcurl that were stopped */
};
void fetch_stats(const struct fetch *u, struct fetch_stats *ret);

#endif
