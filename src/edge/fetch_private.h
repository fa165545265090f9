/* What the files of the way out share. Private to upstream*.c. */
#ifndef RETRYD_EDGE_FETCH_PRIVATE_H
#define RETRYD_EDGE_FETCH_PRIVATE_H

#include <curl/curl.h>

#include "base/list.h"
#include "edge/fetch.h"
#include "edge/fetch_socket.h"

#define TRANSFER_MAGIC 0x74726e73u

enum veto { VETO_NONE, VETO_STALE, VETO_RESEND, VETO_REFUSED };

struct fetch {
    CURLM *multi;
    CURLSH *share;
    uv_timer_t timer;
    bool timer_due;
    uv_timer_t kick; /* runs while transfers connect */
    bool kick_due;
    struct socket_table sockets;
    struct list running;
    struct list free; /* transfers with a configured easy handle */
    bool early;       /* a transfer's answer is whole while its upload still runs */
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
    uint64_t link_id;              /* what `easy` is set up for; 0: nothing */
    CURLU *place;                  /* that link's origin, parsed; NULL: `url` has it */
    bool whole_url;                /* its proxy is asked for the whole URL, and not for a tunnel */
    bool tls_proxy;                /* that link's proxy is reached over TLS */
    const char *ca_file;           /* that link's */
    const char *origin;            /* that link's */
    const struct fetch_link *link; /* while it runs */
    struct attempt *a;
    void (*notify)(void *arg);
    void (*traced)(void *arg, const struct fetch_trace *trace);
    void *arg;
    struct curl_slist *headers; /* one block: nodes, then text */
    char *url; /* what is asked for, where libcurl has to take that apart; else NULL */
    uint64_t body_len;
    const char *body; /* NULL: `read` brings it */
    ptrdiff_t (*read)(void *arg, uint64_t offset, void *to, size_t max);
    uint64_t read_at;      /* the next byte to be read */
    bool upload_paused;    /* `read` had nothing; libcurl waits for fetch_upload_ready */
    int read_failed;       /* -errno of `read` */
    uint64_t response_len; /* as the head tells it; UINT64_MAX: not at all */
    bool early;            /* it is whole, and the upload still runs */
    unsigned sends;
    bool refused; /* the server said that it did not and will not process it (HTTP/2) */
    enum veto veto;
    struct socket_ref socket; /* the connection it was sent on */
    const char *broke;        /* why a callback stopped it */
    bool large_headers;       /* ... for there is no room for the head */
    char broke_text[160];     /* ... where that has to be put together */
    char errbuf[CURL_ERROR_SIZE];
};

/* Whether the transfer's request went out before: libcurl is about to repeat it on its own. */
bool fetch_transfer_veto_resend(struct transfer *t);

/* libcurl's sockets are ours: opened, watched and closed here. `arg` is the transfer, and the upstream. */
curl_socket_t fetch_open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address);
int fetch_close_socket(void *arg, curl_socket_t fd);

/* For the whole process, once libcurl is there. */
void fetch_transfer_global_init(void);

/* Tells libcurl whom to trust on that link, and who asks there. */
void fetch_transfer_set_trust(CURL *e, const struct fetch_link *l);

/* Sets the handle up for a request, from scratch where it last served another link. 0 or -ENOMEM. */
int fetch_transfer_prepare(struct transfer *t, const struct fetch_request *r);

/* Tells libcurl where the body of a POST comes from: memory, or t->read. */
void fetch_transfer_set_body(struct transfer *t, const struct fetch_request *r);

/* Whether the whole request has been handed to the network. */
bool fetch_transfer_upload_whole(const struct transfer *t);

/* Whether the request's body is still on its way, though the answer has begun. */
bool fetch_transfer_is_uploading(const struct transfer *t);
/* Its answer is whole: the next turn ends it, and with it the rest of its upload. */
void fetch_transfer_early(struct transfer *t);

/* Tells how it went to who wants to know. */
void fetch_transfer_trace(const struct transfer *t, bool cancelled);

/* Records in the attempt how libcurl's result looks from outside: upload_whole, transport, detail. */
void fetch_transfer_outcome(struct transfer *t, CURLcode rc);

#endif
