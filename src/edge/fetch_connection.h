/* Connections that libcurl has made and HTTP/1.1 runs on (fetch_http1.c), in use or kept.
 *
 * libcurl makes them with CURLOPT_CONNECT_ONLY. A connection without TLS is taken from libcurl as
 * soon as it is up. One with TLS keeps its easy handle, which owns the TLS session. Its bytes pass
 * through curl_easy_recv and curl_easy_send until the first ones have arrived, and from then on
 * straight through OpenSSL: those two look for the connection among all of the worker's at each
 * call, and read the header and the body of each TLS record separately. libcurl has to read first,
 * since it stores the tickets of TLS 1.3, which come before the response (RFC 8446, 4.6.1), only
 * within its calls. */
#ifndef RETRYD_EDGE_FETCH_CONNECTION_H
#define RETRYD_EDGE_FETCH_CONNECTION_H

#include <netinet/in.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>
#include <uv.h>

#include "base/list.h"
#include "edge/fetch.h"

#define CONNECTION_BUCKETS 64

struct transfer;
struct http1;

struct fetch_connection {
    uv_poll_t poll;
    struct list node;   /* in its bucket while it is kept */
    struct list by_age; /* in `kept` of its table */
    struct fetch *u;
    struct transfer *tls; /* libcurl's transfer that made it; NULL: there is no TLS */
    SSL *session; /* owned by libcurl; NULL: bytes pass through libcurl, or there is no TLS */
    struct http1 *http1; /* the request on it; NULL: it is kept for the next */
    uint64_t peer_id;    /* of its upstream */
    uint64_t serial;
    uint64_t made_ms, kept_ms; /* since when */
    int fd;
    int armed;           /* libuv events that the loop watches now */
    unsigned silence_ms; /* TCP_USER_TIMEOUT; 0: not set */
    unsigned port;
    char address[INET6_ADDRSTRLEN]; /* of the peer */
};

struct connection_table {
    struct list kept; /* all kept connections, the oldest first */
    struct list buckets[CONNECTION_BUCKETS];
    unsigned count;  /* of `kept` */
    char *input;     /* the buffer of a worker for all reads */
    char error[256]; /* describes the last failure of TLS */
};

#define CONNECTION_INPUT ((size_t)16 << 10) /* no less than a TLS record (RFC 8446, 5.1) */

int fetch_connections_init(struct connection_table *t);
/* Closes the kept connections. */
void fetch_connections_deinit(struct connection_table *t);

/* Takes over the connection that `made` has made. Returns NULL if out of memory; it is closed
 * then. */
struct fetch_connection *fetch_connection_new(struct transfer *made);

/* Returns a kept connection to `upstream` that is still good, the newest first, or NULL. */
struct fetch_connection *fetch_connection_take(struct fetch *u,
                                               const struct fetch_upstream *upstream);
/* Keeps a connection for the next request. */
void fetch_connection_keep(struct fetch_connection *c);
void fetch_connection_close(struct fetch_connection *c);
/* Closes the kept connection with this serial, if there is one. */
void fetch_connection_drop(struct fetch *u, uint64_t serial);

/* Watches for these events of libuv. Returns 0 or -1. */
int fetch_connection_watch(struct fetch_connection *c, int events);
/* Makes the kernel end the connection if its peer, acknowledgements included, is silent for
 * `ms`. */
void fetch_connection_bound_silence(struct fetch_connection *c, unsigned ms);

/* Return the number of bytes, 0 at the end, or -errno. After -EAGAIN the TLS library demands that
 * the same bytes are sent again. */
ptrdiff_t fetch_connection_recv(struct fetch_connection *c, char *to, size_t n);
ptrdiff_t fetch_connection_send(struct fetch_connection *c, const struct iovec *pieces,
                                unsigned count);
/* Whether bytes may be left to read that the socket does not show. */
bool fetch_connection_holds_input(const struct fetch_connection *c);
/* Describes a failure of send or recv for a person. */
const char *fetch_connection_error(const struct fetch_connection *c, int rc);

#endif
