/* The two heads of HTTP that cross retryd: what the client asked and what goes back to it. */
#ifndef RETRYD_HTTP_MESSAGE_H
#define RETRYD_HTTP_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "http/headers.h"

#define LENGTH_UNKNOWN UINT64_MAX

/* A request as it stood on the wire. `target` is the raw origin-form target, query included. */
struct request_head {
    struct buf method; /* terminated */
    struct buf target; /* terminated */
    struct headers headers;
    uint64_t content_length; /* 0 without a body; LENGTH_UNKNOWN when chunked */
    bool http_1_0;
};

/* An answer's head. `headers` holds end-to-end fields only, without Content-Length. */
struct answer_head {
    unsigned status;
    struct headers headers;
    uint64_t content_length; /* of the body that follows; of the one withheld for HEAD and 304 */
};

void request_head_init(struct request_head *r);
void request_head_deinit(struct request_head *r);
/* Sets the method or the target, terminated behind its length. 0, -ENOMEM or -EFBIG. */
int request_head_text(struct buf *b, const char *s);
void answer_head_init(struct answer_head *a);
void answer_head_deinit(struct answer_head *a);

static inline bool request_is(const struct request_head *r, const char *method)
{
    return str_eq(buf_str(&r->method), str_from(method));
}

/* The target without and with only its query; neither includes the `?`. */
struct str request_path(const struct request_head *r);
struct str request_query(const struct request_head *r);

/* The value of the first parameter of that name, as it stands. */
bool query_value(struct str query, struct str name, struct str *ret_value);

#endif
