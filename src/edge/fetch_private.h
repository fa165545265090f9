/* The parts that the fetch*.c files share. */
#ifndef RETRYD_EDGE_FETCH_PRIVATE_H
#define RETRYD_EDGE_FETCH_PRIVATE_H

#include <curl/curl.h>

#include "base/list.h"
#include "edge/fetch.h"
#include "edge/fetch_socket.h"

#define TRANSFER_MAGIC 0x74726e73u

/* Why retryd stopped libcurl before it sent a request. */
enum veto {
    VETO_NONE,
    VETO_STALE,   /* the reused connection is closed or dirty */
    VETO_RESEND,  /* libcurl was about to send the request again */
    VETO_REFUSED, /* likewise, after the server refused the stream */
};

struct fetch {
    CURLM *multi;
    CURLSH *share;
    uv_timer_t timer;
    bool timer_due;
    uv_timer_t kick; /* runs while transfers connect */
    bool kick_due;
    struct socket_table sockets;
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
    uint64_t link_id; /* the link that `easy` is set up for; 0: none */

    /* Of that link: */
    CURLU *place;   /* the parsed origin; NULL: CURLOPT_URL is used instead */
    bool whole_url; /* the proxy gets the whole URL and no tunnel */
    bool tls_proxy; /* the connection to the proxy uses TLS */
    const char *ca_file;
    const char *origin;

    /* Of the current request: */
    const struct fetch_link *link;
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
    unsigned sends;        /* how often the request was sent */
    bool refused;          /* HTTP/2: the server said that it will not process the request */
    enum veto veto;
    struct socket_ref socket; /* the connection that the request was sent on */
    const char *broke;        /* why a callback stopped the transfer, or NULL */
    bool large_headers;       /* a callback stopped it because the headers are too large */
    char broke_text[160];     /* memory for `broke`, if it is not static */
    char errbuf[CURL_ERROR_SIZE];
};

/* If the request has been sent before, libcurl is about to send it again: records the veto and
 * returns true. */
bool fetch_transfer_veto_resend(struct transfer *t);

/* The callbacks with which libcurl opens and closes sockets. `arg` is the transfer for opening, and
 * the struct fetch for closing. */
curl_socket_t fetch_open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address);
int fetch_close_socket(void *arg, curl_socket_t fd);

/* Sets up libcurl's trace for the process, after curl_global_init. */
void fetch_transfer_global_init(void);

/* Sets the link's authorities and client certificate. */
void fetch_transfer_set_trust(CURL *e, const struct fetch_link *l);

/* Sets the easy handle up for a request, from scratch if it was used for another link. Returns 0 or
 * -ENOMEM. */
int fetch_transfer_prepare(struct transfer *t, const struct fetch_request *r);

/* Whether the whole request was passed to the kernel. */
bool fetch_transfer_upload_whole(const struct transfer *t);

/* Whether a part of the request's body still has to be sent. */
bool fetch_transfer_is_uploading(const struct transfer *t);
/* Notes that the response is complete. The next turn ends the transfer and so its upload. */
void fetch_transfer_early(struct transfer *t);

/* Translates libcurl's result to the attempt: upload_whole, transport, detail. */
void fetch_transfer_outcome(struct transfer *t, CURLcode rc);

#endif
