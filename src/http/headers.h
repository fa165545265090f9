/* A list of HTTP header fields in the order they came, in one block of memory.
 *
 * Names and values are kept byte for byte. RFC 9110 section 5; hop-by-hop fields: 7.6.1. */
#ifndef RETRYD_HTTP_HEADERS_H
#define RETRYD_HTTP_HEADERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"

#define HEADERS_MAX 128               /* fields */
#define HEADERS_BYTES_MAX (64 * 1024) /* text of all of them */

/* Offsets, not pointers: the block moves when it grows. */
struct header_field {
    uint32_t name_at, name_len;
    uint32_t value_at, value_len;
};

struct headers {
    struct buf text; /* each name and value terminated, so both can be used as C strings */
    struct header_field *fields;
    unsigned count, size;
};

void headers_init(struct headers *h);
void headers_deinit(struct headers *h);
void headers_reset(struct headers *h); /* empties, keeps the memory */

/* Appends a field, copying both. 0, -ENOMEM, or -E2BIG beyond either limit. */
int headers_add(struct headers *h, struct str name, struct str value);

/* Gives the first field of that name this value, or appends it. As headers_add. */
int headers_set(struct headers *h, struct str name, struct str value);

/* The i-th field; i < count. Valid until the next headers_add. */
struct str headers_name(const struct headers *h, unsigned i);
struct str headers_value(const struct headers *h, unsigned i);

/* The first field of that name (any case). False when there is none; `ret_value` may be NULL. */
bool headers_get(const struct headers *h, struct str name, struct str *ret_value);

/* Whether a field belongs to one connection only and must not be forwarded: the fixed names, and
 * those that a Connection field of `h` nominates. */
bool headers_hop_by_hop(const struct headers *h, struct str name);

#endif
