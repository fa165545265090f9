/* Takes in HTTP requests through libmicrohttpd, on a libuv loop.
 *
 * There is one frontend per loop. It takes accepted sockets and passes each request to its owner in
 * pieces through struct frontend_handler. These functions run inside libmicrohttpd and only record;
 * the owner acts later. The frontend refuses requests that libmicrohttpd accepts too leniently
 * (frontend_check.h), and cuts off slow and idle clients by its own deadlines, because inactivity
 * timers do not stop a slow drip. */
#ifndef RETRYD_EDGE_FRONTEND_H
#define RETRYD_EDGE_FRONTEND_H

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "http/message.h"

struct frontend;
struct frontend_request; /* between on_headers and on_closed */

/* Returned by on_headers: the request is a CORS preflight from an allowed origin (Fetch 3.2.2).
 * frontend_allow_page must have been called, and the request must have no body. */
#define FRONTEND_PREFLIGHT 1

struct frontend_handler {
    /* The headers are complete and valid. The owner may take the content of `request` if it leaves
     * it initialised. Returns 0: the body follows; FRONTEND_PREFLIGHT: the frontend responds, and
     * nothing follows; or an error: -EFBIG: 413; -ENOKEY: 401; -EACCES: 403; -ENOTSUP: 426; -ELOOP:
     * 508; -ENOMEM or -EBUSY: 503, and the client may retry. Errors come with a sentence for the
     * client in `ret_why`. `*ret_user` is passed to the other functions. */
    int (*on_headers)(void *ctx, struct frontend_request *r, struct http_request *request,
                      void **ret_user, char *ret_why, size_t why_size);
    /* Returns the number of bytes taken; if it is less than `n`, the frontend stops reading until
     * frontend_upload_on and then passes the rest again. Or returns an error, with a sentence in
     * `ret_why`: -EFBIG: 413; -ENOSPC: 507; -ENOMEM or -EBUSY: 503. */
    ptrdiff_t (*on_body)(void *user, const void *data, size_t n, char *ret_why, size_t why_size);
    void (*on_complete)(void *user);
    /* Called instead of on_complete: on_body or libmicrohttpd refused the body with `status`. The
     * frontend has sent the response; the owner must not send one. */
    void (*on_body_refused)(void *user, unsigned status);
    void (*on_gone)(void *user); /* the client left after on_complete */
    /* Called before on_gone if the client was cut off because it did not read its response. May be
     * NULL. */
    void (*on_stalled)(void *user);
    /* Provides bytes of a streamed response, as exchange_pull does. */
    ptrdiff_t (*on_pull)(void *user, char *to, size_t max);
    /* The request is over and `r` is freed. `whole`: the kernel has the whole response. Called once
     * for each on_headers that returned 0. */
    void (*on_closed)(void *user, bool whole);
    /* A client spoke TLS, which the frontend does not. It got an error and was cut off. May be
     * NULL. */
    void (*on_tls)(void *ctx);
    /* Called before a refusal: whether a page of the origin in the headers may read it (C30). NULL:
     * no page may. */
    bool (*may_read)(void *ctx, const struct headers *h);
    /* A request was refused before or in on_headers; no other function is called for it. */
    void (*on_refused)(void *ctx, unsigned status, const char *why);
};

/* Calls `wake` when frontend_run has something to do. Returns NULL if out of memory. */
struct frontend *frontend_new(uv_loop_t *loop, const struct frontend_handler *handler, void *ctx,
                              unsigned max_connections, void (*wake)(void *arg), void *wake_arg);
/* Closes the frontend. No connection may be left. */
void frontend_close(struct frontend *f);

/* Sets its deadlines, before any connection: `headers_ms` for the first headers on a new
 * connection, and `idle_ms` for the next headers on an idle one. The defaults are 15 s and 75 s. */
void frontend_times(struct frontend *f, uint64_t headers_ms, uint64_t idle_ms);

/* Ends the connections that have made no progress for the longest, until fewer than `max` are left.
 * The next iteration frees their places, so `max_connections` must leave some spare. */
void frontend_make_room(struct frontend *f, unsigned max);

/* Takes over an accepted socket. Returns 0, or -errno after closing it. */
int frontend_add(struct frontend *f, int fd);

/* The client is a page of this origin, which may read all responses (C30): they get CORS headers
 * (Fetch 3.2.3) in place of the upstream's. Call it in on_headers. Returns 0 or -ENOMEM. */
int frontend_allow_page(struct frontend_request *r, struct str origin);

/* Refuses a chunk that would make the body longer than `bytes` with 413 as soon as its size is
 * read: otherwise the client would get the 413 only after it has sent that much. Call it in
 * on_headers. */
void frontend_body_limit(struct frontend_request *r, uint64_t bytes);

/* Continues to read the body, because there is room again. Harmless if reading was not stopped. */
void frontend_upload_on(struct frontend_request *r);

/* Cuts the client off if it reads nothing of its response for `ms`; 0: never. The default is a
 * minute. */
void frontend_stall_limit(struct frontend_request *r, uint64_t ms);

/* Sends a whole response and takes the body's memory. Call it once per request, in or after
 * on_complete. Returns 0; -EMSGSIZE if the headers do not fit beside the request's headers: `body`
 * is untouched, and another response may be tried; or another -errno. */
int frontend_whole(struct frontend_request *r, const struct http_response *response,
                   struct buf *body);

/* Begins a response whose bytes on_pull provides. Otherwise like frontend_whole. */
int frontend_stream(struct frontend_request *r, const struct http_response *response);

/* Sends interim responses (1xx), each with complete headers, before the response. */
void frontend_interim(struct frontend_request *r, struct str interim);

/* Announces that on_pull has more bytes, or the end, to a request that waits for them. */
void frontend_wake(struct frontend_request *r);

/* Ends the connection so that the client can tell that the response is incomplete. */
void frontend_cut(struct frontend_request *r);

/* Runs libmicrohttpd. Returns true if it did anything. */
bool frontend_run(struct frontend *f);

unsigned frontend_connections(const struct frontend *f);
/* Returns the number of sockets passed to frontend_add that are closed by now. */
uint64_t frontend_closed_total(const struct frontend *f);

/* Closes each connection after its next response, and idle ones after a moment without a
 * request. */
void frontend_drain(struct frontend *f);
/* Cuts all connections. */
void frontend_abort(struct frontend *f);

const char *frontend_version(void);

#endif
