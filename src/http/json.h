/* Reads JSON texts that are in memory as a whole, without a tree and without memory of its own.
 *
 * This is for the hot path: what a request asks for, what an event says, whether an answer is an error.
 * A walk goes over one level. It skips a nested value and returns its raw text, which can be walked in turn.
 * Any bytes are allowed: the grammar (RFC 8259) is checked only as far as the walk needs it, and on bad
 * text the walk ends early and never reads beyond. Each byte is looked at twice at most.
 *
 * json_stream.h reads texts in pieces and checks all of the grammar. json_tree.h writes. */
#ifndef RETRYD_HTTP_JSON_H
#define RETRYD_HTTP_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

enum json_type {
    JSON_NONE, /* there is no value: the key is missing, or what stands there is none */
    JSON_NULL,
    JSON_FALSE,
    JSON_TRUE,
    JSON_NUMBER,
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT,
};

struct json_value {
    enum json_type type;
    struct str text; /* the raw text; of a string without its quotes, escapes left as they are */
};

/* --- members and elements ------------------------------------------------------------------------- */

struct json_iter {
    const char *p, *end;
    char close; /* the bracket that ends the walk; NUL once it is over */
    bool first;
    bool whole; /* that bracket was found, and all before it was well-formed enough */
};

/* Begins the walk over `text`, the raw text of an object or an array as struct json_value has it;
 * anything else has no members and no elements. What comes behind the closing bracket is not
 * looked at. */
struct json_iter json_iter(struct str text);

/* The next member or element; false when there is none, or none of that kind, and then `whole`
 * tells whether the walk came to its end. The key is raw: without its quotes, escapes left as they
 * are. A key that stands twice is handed out twice. All are slices of the text. */
bool json_next_member(struct json_iter *i, struct str *ret_key, struct json_value *ret_value);
bool json_next_element(struct json_iter *i, struct json_value *ret_value);

/* --- values by key -------------------------------------------------------------------------------- */

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

/* Whether a raw key means `key`, however it is spelled: "mod\u0065l" is "model", as it is for every
 * real parser (known for keys of up to 127 bytes). An escaped spelling is longer and begins with
 * the same character or a backslash, so most keys that are others are told at a glance. */
bool json_key_is_escaped(struct str raw_key, struct str key);

static inline bool json_key_is(struct str raw_key, struct str key)
{
    if (raw_key.n < key.n || (key.n > 0 && raw_key.p[0] != key.p[0] && raw_key.p[0] != '\\'))
        return false;
    return raw_key.n == key.n ? str_eq(raw_key, key) : json_key_is_escaped(raw_key, key);
}

/* --- single values -------------------------------------------------------------------------------- */

/* The value as a whole number; false on other types, signs, fractions, exponents and overflow. */
bool json_to_u64(struct json_value value, uint64_t *ret_number);

/* Whether `text`, the data of an event, is JSON in UTF-8: json_stream's grammar, but strict in UTF-8
 * (Python's SDK decodes strictly) and without a mark in front, which no SDK takes there. */
bool json_valid(struct str text);

#endif
