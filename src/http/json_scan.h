/* Finds single keys at the top level of a JSON object without building a tree.
 *
 * For the hot path: what a request asks for (`model`, `stream`) and what kind of object an answer
 * is (`error`). It walks the text once, skipping nested values, allocates nothing and accepts
 * anything that is well-formed enough to find its way (RFC 8259 grammar is not fully checked:
 * use cJSON where validity matters). */
#ifndef RETRYD_HTTP_JSON_SCAN_H
#define RETRYD_HTTP_JSON_SCAN_H

#include <stdbool.h>

#include "base/str.h"
#include "http/json_iter.h"

/* What is looked for: `key` in, `value` out. */
struct json_want {
    struct str key;
    struct json_value value;
};

/* Looks up each of the `n` wanted keys in the object `text`. A key that stands twice gives its
 * last value, as most parsers do. True when the text was an object whose end was found; with
 * false the values found so far stand. Stops early only at the end of the object. */
bool json_scan(struct str text, struct json_want *wants, size_t n);

/* One key of the object `text`. JSON_NONE where it is missing or `text` is no object. */
struct json_value json_scan_one(struct str text, struct str key);

/* The text of a JSON string value with its escapes undone, as UTF-8, cut at `size`-1 bytes (never
 * amid a character) and terminated. Returns its length. Control characters become spaces, what is
 * no UTF-8 becomes U+FFFD. */
size_t json_unescape(struct str raw, char *out, size_t size);

/* The pieces that escapes are undone with: the value of the four hex digits that `s` begins with,
 * or 0x10000 where it begins with none; and a code point, or a half of a surrogate pair, as UTF-8,
 * which returns its length. */
unsigned json_hex4(struct str s);
size_t json_put_utf8(unsigned c, char out[4]);

#endif
