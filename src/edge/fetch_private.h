/* The parts that the fetch*.c files share. */
#ifndef RETRYD_EDGE_FETCH_PRIVATE_H
#define RETRYD_EDGE_FETCH_PRIVATE_H

#include <curl/curl.h>

#include "base/list.h"
#include "edge/fetch.h"
#include "edge/fetch_connection.h"
#include "edge/fetch_socket.h"
#include "http/reader.h"

#define TRANSFER_MAGIC 0x74726e73u
#define HTTP1_MAGIC 0x68747470u

#define MAX_IDLE_CONNECTIONS 1024L /* per worker */
#define MAX_IDLE_MS 60000          /* one closed by its peer is discarded earlier */

/* The reasons why retryd stopped libcurl before it sent a request. */
enum veto {
    VETO_NONE,
    VETO_STALE,   /* the reused connection is closed or dirty */
    VETO_RESEND,  /* libcurl was about to send the request again */
    VETO_REFUSED, /* the same, after the server refused the stream */
};

struct fetch {
    CURLM *multi;
    CURLSH *share;
    uv_timer_t timer;
    bool timer_due;
    uv_timer_t kick; /* runs while transfers connect */
    bool kick_due;
    struct socket_table sockets;
    struct connection_table connections;
    int keep_fd; /* libcurl is to leave this socket open when it closes it; -1: none */
    /* HTTP/1.1: transfers that the next iteration runs although the loop has no news */
    struct list ready;
    struct list ended; /* HTTP/1.1: transfers that the next iteration finishes */
    struct list running;
    struct list free; /* transfers with an easy handle that is set up */
    bool early;       /* some transfer has `early` set */
    unsigned free_count;
    struct fetch_stats stats;
    void (*wake)(void *arg);
    void *arg;
    unsigned closing; /* libuv handles that are not closed yet */
};

struct transfer {
    unsigned magic;
    struct list node; /* in `running` or `free` */
    struct fetch *u;
    CURL *easy;
    uint64_t upstream_id; /* the upstream that `easy` is set up for; 0: none */

    /* Of that upstream: */
    CURLU *place;   /* the parsed origin; NULL: CURLOPT_URL is used instead */
    bool whole_url; /* the proxy gets the whole URL and no tunnel */
    bool tls_proxy; /* the connection to the proxy uses TLS */
    const char *ca_file;
    const char *origin;

    struct http1 *http1; /* it makes a connection for this one, and sends no request */

    /* Of the current request: */
    const struct fetch_upstream *upstream;
    struct attempt *a;
    void (*notify)(void *arg);
    void (*traced)(void *arg, const struct fetch_trace *trace);
    void *arg;
    struct curl_slist *headers; /* one block of memory: nodes, then text */
    char *url;                  /* for CURLOPT_URL, or NULL */
    uint64_t body_len;
    const char *body; /* NULL: use `read` */
    ptrdiff_t (*read)(void *arg, uint64_t offset, void *to, size_t max);
    uint64_t read_at;      /* the offset of the next byte to read */
    bool upload_paused;    /* `read` had no bytes; libcurl waits for fetch_upload_ready */
    int read_failed;       /* -errno of `read` */
    uint64_t response_len; /* from the response headers; UINT64_MAX: unknown */
    bool early;            /* the response is complete, but the upload is not */
    unsigned sends;        /* number of times that the request was sent */
    bool refused;          /* HTTP/2: the server said that it will not process the request */
    enum veto veto;
    struct socket_ref socket; /* the connection that the request was sent on */
    const char *broke;        /* why a callback stopped the transfer, or NULL */
    bool large_headers;       /* a callback stopped it because the headers are too large */
    char broke_text[160];     /* memory for `broke`, if it is not static */
    char errbuf[CURL_ERROR_SIZE];
};

/* An attempt over HTTP/1.1 without libcurl (fetch_http1.c). */
struct http1 {
    unsigned magic;
    struct list node;  /* in `ended` of its struct fetch */
    struct list ready; /* in `ready` */
    struct fetch *u;
    struct transfer *connecting; /* makes the connection; NULL when that is over */
    struct fetch_connection *connection;
    const struct fetch_upstream *upstream;
    struct attempt *a;
    void (*notify)(void *arg);
    void (*traced)(void *arg, const struct fetch_trace *trace);
    void *arg;
    struct response_reader reader;

    /* The request: the headers, then a body that is sent with them; later pieces of a body that is
     * not in memory. */
    struct buf out;
    size_t out_at;      /* bytes of it that are sent */
    size_t headers_len; /* bytes of it that are headers */
    const char *body;
    ptrdiff_t (*read)(void *arg, uint64_t offset, void *to, size_t max);
    uint64_t body_len, body_sent;
    bool sent, headers_sent;
    bool upload_paused; /* `read` had no bytes */
    bool upload_over;   /* all is sent, or the rest is not wanted */
    int send_failed;    /* -errno */

    bool excess; /* bytes came after the response */
    bool ended;
    uint64_t serial; /* of the connection */
    uint64_t started_us, first_byte_us, total_us;
    struct fetch_trace trace;
    char address[INET6_ADDRSTRLEN];
};

int fetch_http1_start(struct fetch *u, const struct fetch_request *r, struct attempt *a,
                      void (*notify)(void *arg), void *arg, struct http1 **ret);
void fetch_http1_cancel(struct http1 *x);
void fetch_http1_resume(struct http1 *x);
void fetch_http1_upload_ready(struct http1 *x);
void fetch_http1_free(struct http1 *x);
/* Handles events of its connection. */
void fetch_http1_ready(struct http1 *x, int events, bool failed);
/* Runs a transfer of `ready`. */
void fetch_http1_run(struct http1 *x);
/* Reports the end of a transfer of `ended`, and frees it. */
void fetch_http1_finish(struct http1 *x);
/* Continues once its connection is up. */
void fetch_http1_connected(struct http1 *x, struct transfer *made);

/* Lets libcurl make a connection for `x`. Returns 0 or -errno. */
int fetch_connector_start(struct fetch *u, const struct fetch_request *r, struct http1 *x);
void fetch_connector_cancel(struct transfer *t);
/* Notes the duration of the connection's phases. */
void fetch_connector_trace(const struct transfer *t, struct fetch_trace *trace);
/* Takes a transfer from libcurl, which closes the transfer's connection, except the socket
 * `keep_fd`. */
void fetch_release(struct transfer *t, int keep_fd);

#define FETCH_SPOOL_FAILED \
    "could not read the request body back from its file: %s; check the disk that spool_dir is on"
/* Keeps an interim response for the client. */
void fetch_keep_interim(struct attempt *a);
/* Returns the TCP_USER_TIMEOUT for a request with a body of this length. */
unsigned fetch_silence_ms(uint64_t body_len);
/* Whether requests on the upstream are sent without libcurl. */
bool fetch_upstream_is_plain_http1(const struct fetch_upstream *upstream);

/* If the request has been sent before, libcurl is about to send it again: records the veto and
 * returns true. */
bool fetch_transfer_veto_resend(struct transfer *t);

/* The callbacks with which libcurl opens and closes sockets. `arg` is the transfer for opening, and
 * the struct fetch for closing. */
curl_socket_t fetch_open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address);
int fetch_close_socket(void *arg, curl_socket_t fd);

/* Sets up libcurl's trace for the process, after curl_global_init. */
void fetch_transfer_global_init(void);

/* Sets the upstream's authorities and client certificate. */
void fetch_transfer_set_trust(CURL *e, const struct fetch_upstream *upstream);

/* Sets the easy handle up for a request, from scratch if it was used for another upstream. Returns
 * 0 or -ENOMEM. */
int fetch_transfer_prepare(struct transfer *t, const struct fetch_request *r);

/* Whether the whole request was passed to the kernel. */
bool fetch_transfer_upload_whole(const struct transfer *t);

/* Whether a part of the request's body still has to be sent. */
bool fetch_transfer_is_uploading(const struct transfer *t);
/* Notes that the response is complete. The next iteration ends the transfer and so its upload. */
void fetch_transfer_early(struct transfer *t);

void fetch_transfer_resume(struct transfer *t);
void fetch_transfer_upload_ready(struct transfer *t);

void fetch_transfer_count_handshake(struct transfer *t);

/* Translates libcurl's result to the attempt: upload_whole, transport, detail. */
void fetch_outcome(struct transfer *t, CURLcode rc);

#endif
