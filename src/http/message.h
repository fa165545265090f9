/* The two HTTP messages that pass through retryd, without their bodies: a client's request and the
 * response to it. */
#ifndef RETRYD_HTTP_MESSAGE_H
#define RETRYD_HTTP_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "http/headers.h"

#define LENGTH_UNKNOWN UINT64_MAX

/* A request as received. `target` is in origin form, with the query, and not decoded. */
struct http_request {
    struct buf method; /* NUL-terminated */
    struct buf target; /* NUL-terminated */
    struct headers headers;
    uint64_t content_length; /* 0 without a body, LENGTH_UNKNOWN if it is chunked */
    bool http_1_0;
};

/* A response. `headers` holds only end-to-end fields, and no Content-Length. */
struct http_response {
    unsigned status;
    struct headers headers;
    uint64_t content_length; /* for HEAD and 304 the length that a GET would have */
};

void http_request_init(struct http_request *r);
void http_request_deinit(struct http_request *r);
/* Sets the method or the target; a NUL follows the buffer's content. Returns 0, -ENOMEM or
 * -EFBIG. */
int http_request_text(struct buf *b, const char *s);
void http_response_init(struct http_response *r);
void http_response_deinit(struct http_response *r);

static inline bool http_request_is(const struct http_request *r, const char *method)
{
    return str_eq(buf_str(&r->method), str_from(method));
}

/* Return the target's path and its query, without the `?` between them. */
struct str http_request_path(const struct http_request *r);
struct str http_request_query(const struct http_request *r);

/* Finds the first query parameter with that name and returns its value, not decoded. Returns false
 * if there is none. */
bool http_query_value(struct str query, struct str name, struct str *ret_value);

#endif
