/* The two HTTP messages that pass through retryd, without their bodies: a client's request and the
 * response to it; and their header fields. */
#ifndef RETRYD_HTTP_MESSAGE_H
#define RETRYD_HTTP_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"

/* --- header fields ---------------------------------------------------------------------------- */

/* A list of header fields in the order they arrived, in one block of memory. Names and values are
 * kept byte for byte (RFC 9110, 5). */

#define HEADERS_MAX 128               /* fields */
#define HEADERS_BYTES_MAX (64 * 1024) /* all names and values together */

/* Offsets rather than pointers, because the block moves when it grows. */
struct header_field {
    uint32_t name_at, name_len;
    uint32_t value_at, value_len;
};

struct headers {
    struct buf text; /* names and values, each NUL-terminated, so they can be used as C strings */
    struct header_field *fields;
    unsigned count, size;
};

void headers_init(struct headers *h);
void headers_deinit(struct headers *h);
void headers_reset(struct headers *h); /* empties the list but keeps the memory */

/* Appends a field and copies both texts. Returns 0, -ENOMEM, or -E2BIG beyond either limit. */
int headers_add(struct headers *h, struct str name, struct str value);

/* Replaces the value of the first field with that name, or appends the field. Returns what
 * headers_add returns. */
int headers_set(struct headers *h, struct str name, struct str value);

/* Removes field `i` < count, and overwrites its name and value in memory. */
void headers_erase(struct headers *h, unsigned i);

/* Return the name and the value of field `i` < count. They are valid until the list changes. */
struct str headers_name(const struct headers *h, unsigned i);
struct str headers_value(const struct headers *h, unsigned i);

/* Finds the first field with that name, ignoring case. Returns false if there is none. `ret_value`
 * may be NULL. */
bool headers_get(const struct headers *h, struct str name, struct str *ret_value);

/* Whether the field is hop-by-hop and must not be forwarded (RFC 9110, 7.6.1): the fixed names, and
 * those that a Connection field of `h` lists. */
bool headers_hop_by_hop(const struct headers *h, struct str name);

/* --- messages --------------------------------------------------------------------------------- */

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
