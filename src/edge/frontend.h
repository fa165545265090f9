/* The way in: HTTP requests through libmicrohttpd, on a libuv loop.
 *
 * One frontend per loop. Accepted sockets are handed to it; its owner gets each request piece by
 * piece through struct frontend_handler, called from within libmicrohttpd: those functions only
 * record, and the owner acts in its own turn. What libmicrohttpd is too lenient about is refused
 * here before the owner sees it (frontend_check.h); slow and idle clients are cut off by deadlines of
 * our own, since inactivity timers do not stop a slow drip. */
#ifndef RETRYD_EDGE_FRONTEND_H
#define RETRYD_EDGE_FRONTEND_H

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "http/message.h"

struct frontend;
struct frontend_request; /* between on_headers and on_closed */

/* From on_headers: a page of an allowed origin asks what it may send (Fetch 3.2.2, CORS-preflight request).
 * frontend_allow_page must have been called, and the request must have no body. */
#define FRONTEND_PREFLIGHT 1

struct frontend_handler {
    /* The head is valid. Its content may be taken (and must then be left initialised). 0: the body
     * follows; FRONTEND_PREFLIGHT: nothing follows, the client is told what its page may do; -EFBIG: 413; -EACCES: 403; -ENOTSUP: 426; -ELOOP: 508; -ENOMEM or -EBUSY: 503, and the client may
     * come again; with a sentence for it in `ret_why`. `*ret_user` is kept for the other calls. */
    int (*on_headers)(void *ctx, struct frontend_request *r, struct http_request *request,
                      void **ret_user, char *ret_why, size_t why_size);
    /* How many of the bytes were taken: where fewer than `n`, the client is not read from until
     * frontend_upload_on, and the rest comes again. Else -EFBIG: 413; -ENOSPC: 507; -ENOMEM or -EBUSY: 503;
     * with a sentence in `ret_why`. */
    ptrdiff_t (*on_body)(void *user, const void *data, size_t n, char *ret_why, size_t why_size);
    void (*on_complete)(void *user);
    /* Instead of on_complete: the body was refused with `status`, by on_body or by
     * libmicrohttpd. The client is told so here; no answer of the owner's may follow. */
    void (*on_body_refused)(void *user, unsigned status);
    void (*on_gone)(void *user); /* the client left, at any time after on_complete */
    /* Before that, where it was cut off for taking nothing of its answer. May be NULL. */
    void (*on_stalled)(void *user);
    /* Bytes of a streamed answer: as exchange_pull. */
    ptrdiff_t (*on_pull)(void *user, char *to, size_t max);
    /* The request is over and `r` is gone. `whole`: all of its answer was handed to the kernel. Called
     * once for each on_headers that returned 0. */
    void (*on_closed)(void *user, bool whole);
    /* A client speaks TLS, which nobody here does: it was told so, and is cut off. May be NULL. */
    void (*on_tls)(void *ctx);
    /* Before such a refusal: whether a page of the `origin` that the head names may read it (C30). May be
     * NULL: none may. */
    bool (*may_read)(void *ctx, const struct headers *h);
    /* A request was refused before or in on_headers: for the counters. Nothing else is heard of it. */
    void (*on_refused)(void *ctx, unsigned status, const char *why);
};

/* `wake` is called when frontend_turn has something to do. NULL when out of memory. */
struct frontend *frontend_new(uv_loop_t *loop, const struct frontend_handler *handler, void *ctx,
                              unsigned max_connections, void (*wake)(void *arg), void *wake_arg);
/* No connection may be left. Starts closing its libuv handles; the memory goes with the loop. */
void frontend_close(struct frontend *f);

/* Deadlines of its own, before any connection: for a head to be whole, on a new connection or on a kept
 * one, and for an idle one to stay. Unless told, 15 s, and 75 s for both on a kept one. */
void frontend_times(struct frontend *f, uint64_t headers_ms, uint64_t idle_ms);

/* Ends those that have got no further for the longest, until fewer than `max` are left. The next turn
 * frees their places: `max_connections` must leave some. */
void frontend_make_room(struct frontend *f, unsigned max);

/* Takes an accepted socket over. -errno: it was closed. */
int frontend_add(struct frontend *f, int fd);

/* The client is a page of this origin, which may read its answers, whatever they are (C30): they get the
 * fields of CORS (Fetch 3.2.3), and the upstream's own are left out. From on_headers. 0 or -ENOMEM. */
int frontend_allow_page(struct frontend_request *r, struct str origin);

/* A chunk that makes the body longer than this is refused with 413 as soon as its line is in: a client that
 * waits, or sends gigabytes, would learn it late from what comes of the chunk. From on_headers. */
void frontend_body_limit(struct frontend_request *r, uint64_t bytes);

/* There is room for more of the body. Harmless where nothing was held back. */
void frontend_upload_on(struct frontend_request *r);

/* A client that takes nothing of its answer for `ms` is cut off; 0: never. A minute unless told. */
void frontend_stall_limit(struct frontend_request *r, uint64_t ms);

/* Answers r with a whole body, whose memory is taken. Once per request; after on_complete, which
 * may itself call it. 0; -EMSGSIZE: the head does not fit beside the request's, `body` is untouched,
 * and another answer may follow; or -errno. */
int frontend_whole(struct frontend_request *r, const struct http_response *response,
                   struct buf *body);

/* Answers r with a head now and bytes from on_pull. As frontend_whole. */
int frontend_stream(struct frontend_request *r, const struct http_response *response);

/* Heads of interim responses for r, each whole, before its answer. */
void frontend_interim(struct frontend_request *r, struct str interim);

/* on_pull has news. */
void frontend_wake(struct frontend_request *r);

/* Ends the connection so that the client can tell it broke. */
void frontend_cut(struct frontend_request *r);

/* Lets libmicrohttpd do what is due. True when it did anything. */
bool frontend_turn(struct frontend *f);

unsigned frontend_connections(const struct frontend *f);
/* Sockets given to frontend_add that are closed by now. */
uint64_t frontend_closed_total(const struct frontend *f);

/* The connections close after their next answer; idle ones in a moment, where no request comes. */
void frontend_drain(struct frontend *f);
/* Cuts all connections. */
void frontend_abort(struct frontend *f);

const char *frontend_version(void);

#endif
