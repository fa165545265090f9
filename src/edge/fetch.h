/* The way out: upstream attempts through libcurl, driven by a libuv loop.
 *
 * One upstream per worker: a curl multi handle with its connection cache, DNS cache and TLS
 * sessions. Callbacks of libcurl only record into struct attempt; fetch_turn acts.
 *
 * It sees to what libcurl leaves open: a request is sent once, for a repeat is the policy's to decide
 * (libcurl would re-send a POST silently); an idle connection that speaks or closes is thrown away
 * at once and one that has unread bytes is never used (libcurl 7.88 would take them for the next
 * answer); resolving never blocks the loop; the CA file is parsed once, before traffic. */
#ifndef RETRYD_EDGE_FETCH_H
#define RETRYD_EDGE_FETCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/str.h"
#include "exchange/attempt.h"

struct fetch;
struct transfer; /* one attempt on its way */

enum fetch_http { FETCH_HTTP_AUTO, FETCH_HTTP_1_1, FETCH_HTTP_2 };

/* How to reach one configured upstream. Strings belong to the caller and outlive the transfer. An
 * `id` names these settings: handles set up for the same id are re-used without setting it again. */
struct fetch_link {
    uint64_t id;
    const char *origin;      /* "https://host:port" */
    const char *unix_socket; /* "" or the path of a socket to connect to */
    const char *ca_file;     /* "" for the system's: as messages call it */
    const char *ca_path;     /* what is read in its place; "" for the file itself */
    /* Tells one state of it from another: links of two versions share neither certificates nor
     * connections nor TLS sessions. */
    uint32_t ca_version;
    struct str client_cert; /* PEM, with what leads up to an authority; empty: none is shown */
    struct str client_key;  /* PEM, not encrypted */
    const char
        *proxy; /* "" for none, else a URL, with the password; the environment is never asked */
    enum fetch_http http;
    uint64_t
        connection_lifetime_ms; /* an older connection takes no new request; 0: none is too old */
};

/* How an attempt went over the network. A time is that of the phase alone; 0 where it had none, as on a kept
 * connection. */
struct fetch_trace {
    const char *address; /* that it was connected to, or a Unix socket's path; "" for none */
    unsigned port;       /* 0: a Unix socket */
    bool proxied;        /* the address is a proxy's */
    bool cancelled;      /* it was ended here */
    bool kept;           /* its request went out on a connection that was there */
    bool sent;           /* ... or on a new one; else it never went out */
    const char *http;    /* "1.1", "2"; "" where no answer has begun */
    uint64_t dns_ms, connect_ms, tls_ms;
    uint64_t first_byte_ms, total_ms; /* since its start; the first byte is the answer's */
    uint64_t bytes_sent, bytes_received;
};

struct fetch_request {
    const struct fetch_link *link;
    const char *method;
    const char *target; /* origin-form path and query */
    const struct headers *headers;
    const char *body; /* owned by the caller until the transfer has ended; NULL: `read` brings it */
    uint64_t body_len;
    /* For a body that is not in memory; `arg` is that of fetch_start. Copies up to `max` bytes
     * from `offset` on. > 0: so many; -EAGAIN: they are not there yet, and fetch_upload_ready
     * follows; else -errno, which ends the attempt as TRANSPORT_INTERNAL. */
    ptrdiff_t (*read)(void *arg, uint64_t offset, void *to, size_t max);
    uint64_t connect_timeout_ms; /* 0: none */
    /* Told once, when it has ended or is cancelled, before any notify; NULL: nobody wants to know. */
    void (*traced)(void *arg, const struct fetch_trace *trace);
};

/* For the whole process, before any thread: 0 or -errno. */
int fetch_global_init(void);
void fetch_global_deinit(void);
/* "libcurl/7.88.1 OpenSSL/3.0.15 ..." */
const char *fetch_version(void);

/* The path of that file; "" for the system's. */
const char *fetch_ca_file(const char *ca_file);

enum fetch_fault {
    FETCH_FAULT_NONE,
    FETCH_FAULT_AUTHORITIES, /* they cannot be read */
    FETCH_FAULT_CERTIFICATE, /* the client's cannot be read */
    FETCH_FAULT_KEY,         /* nor its key, or it does not fit the certificate */
    FETCH_FAULT_MEMORY,
};
/* Has the TLS library read what a link would have ("": no authorities; empty: no client certificate). Sends
 * nothing anywhere. */
enum fetch_fault fetch_check_trust(const char *ca_path, struct str client_cert,
                                   struct str client_key);

/* GETs a path at an address to listen on ("127.0.0.1:4291", "unix:PATH"): the status, or -errno.
 * Blocks for at most `timeout_ms`. */
int fetch_status(const char *address, const char *path, unsigned timeout_ms);

/* `wake` is called when there is something for fetch_turn to do, so that a turn follows. NULL
 * when out of memory. */
struct fetch *fetch_new(uv_loop_t *loop, void (*wake)(void *arg), void *arg);
/* No transfer may run. Starts closing its libuv handles; the memory goes when the loop has run. */
void fetch_close(struct fetch *u);

/* Parses the link's authorities ahead of the first connection with them. Sends nothing anywhere. Not
 * from within a call of libcurl. */
void fetch_warm(struct fetch *u, const struct fetch_link *link);

/* Starts an attempt. From now on until `*ret` has ended or was cancelled, `a` is filled in and
 * notify(arg) called after each change. 0 or -errno. The headers are copied. */
int fetch_start(struct fetch *u, const struct fetch_request *request, struct attempt *a,
                void (*notify)(void *arg), void *arg, struct transfer **ret);

/* Ends it now; no notify follows. Sets a->upload_whole. The transfer is gone. */
void fetch_cancel(struct transfer *t);

/* The connection that `a` went out on is not used again. One that others are on stays theirs. */
void fetch_drop_connection(struct fetch *u, const struct attempt *a);

/* Reads on after a->paused. */
void fetch_resume(struct transfer *t);

/* Sends on after `read` had nothing; harmless where it had. */
void fetch_upload_ready(struct transfer *t);

/* Does what has come due and ends what is over: a->done is set, notify is called, and the transfer
 * is gone (its owner must forget it). True when it did anything. */
bool fetch_turn(struct fetch *u);

struct fetch_stats {
    uint64_t connections;   /* opened */
    uint64_t reused;        /* requests sent on a kept connection */
    uint64_t stale;         /* kept connections thrown away: closed or dirty while idle */
    uint64_t resend_vetoed; /* silent re-sends of libcurl that were stopped */
};
void fetch_stats(const struct fetch *u, struct fetch_stats *ret);

#endif
