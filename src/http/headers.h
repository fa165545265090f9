/* A list of HTTP header fields in the order they arrived, in one block of memory.
 *
 * Names and values are kept byte for byte (RFC 9110, 5). */
#ifndef RETRYD_HTTP_HEADERS_H
#define RETRYD_HTTP_HEADERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"

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

#endif
