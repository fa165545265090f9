/* The two heads of HTTP that cross retryd: what the client asked and what goes back to it. */
#ifndef RETRYD_HTTP_MESSAGE_H
#define RETRYD_HTTP_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "http/headers.h"

#define LENGTH_UNKNOWN UINT64_MAX

/* A request as it stood on the wire. `target` is the raw origin-form target, query included. */
struct http_request {
    struct buf method; /* terminated */
    struct buf target; /* terminated */
    struct headers headers;
    uint64_t content_length; /* 0 without a body; LENGTH_UNKNOWN when chunked */
    bool http_1_0;
};

/* An answer's head. `headers` holds end-to-end fields only, without Content-Length. */
struct http_response {
    unsigned status;
    struct headers headers;
    uint64_t content_length; /* of the body that follows; of the one withheld for HEAD and 304 */
};

void http_request_init(struct http_request *r);
void http_request_deinit(struct http_request *r);
/* Sets the method or the target, terminated behind its length. 0, -ENOMEM or -EFBIG. */
int http_request_text(struct buf *b, const char *s);
void http_response_init(struct http_response *a);
void http_response_deinit(struct http_response *a);

static inline bool http_request_is(const struct http_request *r, const char *method)
{
    return str_eq(buf_str(&r->method), str_from(method));
}

/* The target without and with only its query; neither includes the `?`. */
struct str http_request_path(const struct http_request *r);
struct str http_request_query(const struct http_request *r);

/* The value of the first parameter of that name, as it stands. */
bool http_query_value(struct str query, struct str name, struct str *ret_value);

#endif
