/* Reads JSON on the hot path, without a tree and without memory of its own: the keys of a request,
 * the content of an event, the errors in a response.
 *
 * There are two readers. A walk (struct json_iter) goes over a text that is in memory as a whole. A
 * stream (struct json_stream) takes a text in pieces, checks all of its grammar, keeps the values
 * of chosen keys and computes a fingerprint of its content. json_tree.h writes. */
#ifndef RETRYD_HTTP_JSON_H
#define RETRYD_HTTP_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/hash.h"
#include "base/str.h"

enum json_type {
    JSON_NONE, /* there is no value: the key is missing, or has no valid one */
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
    struct str text; /* the raw text with its escapes; a string's is without its quotes */
};

/* --- a walk over members and elements --------------------------------------------------------- */

/* A walk goes over one level. It skips a nested value and returns its raw text, which can be walked
 * in turn. Any bytes are allowed: the grammar (RFC 8259) is checked only as far as the walk needs
 * it, and on bad text the walk ends early and never reads beyond. Each byte is read at most
 * twice. */

struct json_iter {
    const char *p, *end;
    char close; /* the bracket that ends the walk; NUL once it is over */
    bool first;
    bool whole; /* that bracket was found, and all before it was well-formed enough */
};

/* Begins the walk over `text`, the raw text of an object or an array as in struct json_value;
 * anything else has no members and no elements. Text after the closing bracket is ignored. */
struct json_iter json_iter(struct str text);

/* Return the next member or element. They return false if there is none, or none of that kind;
 * `whole` is then whether the walk came to its end. The key is raw: with its escapes, without its
 * quotes. A key that occurs twice is returned twice. All are slices of the text. */
bool json_next_member(struct json_iter *i, struct str *ret_key, struct json_value *ret_value);
bool json_next_element(struct json_iter *i, struct json_value *ret_value);

/* --- values by key ---------------------------------------------------------------------------- */

/* A wanted value: `key` in, `value` out. */
struct json_want {
    struct str key;
    struct json_value value;
};

/* Looks up each of the `n` wanted keys in the object `text`. If a key occurs twice, its last value
 * counts, as in most parsers. Returns true if the text is an object whose end was found; if not,
 * the values found so far are valid. */
bool json_scan(struct str text, struct json_want *wants, size_t n);

/* Looks up one key of the object `text`. JSON_NONE if it is missing or `text` is no object. */
struct json_value json_scan_one(struct str text, struct str key);

/* Whether a raw key is `key`, however it is spelled: "mod\u0065l" is "model", as for every parser
 * (up to 127 bytes of a key). An escaped spelling is longer and begins with the same character or a
 * backslash, so most other keys are recognized at once. */
bool json_key_is_escaped(struct str raw_key, struct str key);

static inline bool json_key_is(struct str raw_key, struct str key)
{
    if (raw_key.n < key.n || (key.n > 0 && raw_key.p[0] != key.p[0] && raw_key.p[0] != '\\'))
        return false;
    return raw_key.n == key.n ? str_eq(raw_key, key) : json_key_is_escaped(raw_key, key);
}

/* --- single values ---------------------------------------------------------------------------- */

/* Parses the value as a whole number. Returns false for other types, signs, fractions, exponents,
 * and on overflow. */
bool json_to_u64(struct json_value value, uint64_t *ret_number);

/* --- a text in pieces ------------------------------------------------------------------------- */

/* The pieces may be split anywhere. The grammar is that of RFC 8259, with NaN, Infinity, -Infinity
 * and a leading UTF-8 byte order mark, which Python's json accepts and some servers send. Escapes
 * of lone surrogates (RFC 8259, 8.2) and duplicate keys are valid. A text nested deeper than
 * JSON_STREAM_DEPTH is not. */
#define JSON_STREAM_DEPTH 512

#define JSON_WATCH_KEY_MAX 20 /* bytes of a watched key; each may be spelled as \uXXXX */

/* A key of the top-level object whose value is kept: `key` in, the rest out.
 *
 * `text` is the beginning of the raw text, not terminated: a string with its escapes (the last one
 * may be cut) and without its quotes, or a number or word. Arrays and objects have none. If a key
 * occurs twice, its last value counts. A value is kept once it is complete, an array or object once
 * it begins, even if the whole text turns out to be invalid (json_stream_end). */
struct json_watch {
    struct str key;
    enum json_type type; /* JSON_NONE: none has come; NaN and Infinity are JSON_NUMBER */
    char text[192];
    uint64_t at;     /* bytes fed before the text */
    uint64_t length; /* of the whole text, kept or not; 0 for arrays and objects */
};

/* Returns the kept part of the text. */
struct str json_watch_text(const struct json_watch *w);

/* A sum over a text's content. The order of an object's members and the white space between tokens
 * do not change it, at any depth.
 *
 * Clients that write an object from a hash map change the order of its members each time. The order
 * of an array's elements counts (RFC 8259, 1). Strings and numbers count as written: "a" is not
 * "\u0061", and 1 is not 1.0. A duplicate member counts twice. */
#define JSON_SUM_DEPTH 128

struct json_sum {
    struct json_sum_nest {
        uint64_t sum;            /* of its content so far */
        uint64_t key;            /* the fingerprint of the key whose value comes next */
    } nests[JSON_SUM_DEPTH + 1]; /* the first one is the top */
    bool begun;                  /* an earlier piece had a part of the current token, */
    struct fingerprint token;    /* whose fingerprint is this */
};

struct json_stream {
    uint64_t nest[JSON_STREAM_DEPTH / 64]; /* a bit a level, set: an object */
    const char *word;                      /* the rest of "true" and its like */
    unsigned depth;
    unsigned char state;
    unsigned char hex_left; /* digits of a \u escape */
    bool in_key;            /* the string is a key */

    /* Tokens (strings, numbers, words) for the watches and the sum. */
    bool taken; /* tokens are needed */
    /* The current token in this piece; NULL: there is none, or it is not needed. */
    const char *token;
    const char *piece;          /* the piece */
    uint64_t before;            /* bytes fed before the piece */
    enum json_type type;        /* of the current value */
    struct json_watch *watches; /* not owned */
    size_t watch_count;
    struct json_watch *found;         /* the watch of the last key; NULL: it has none */
    char key[6 * JSON_WATCH_KEY_MAX]; /* the beginning of the raw key */
    uint64_t key_length;              /* of all of it */
    struct json_sum *sum;             /* not owned; NULL: not wanted, or the text is too deep */
};

/* Begins a text. Allocates nothing. */
void json_stream_init(struct json_stream *s);

/* Keeps the values of `n` different keys in `watches`, which must live as long as `s` is fed. Call
 * it before the first piece. Keys longer than JSON_WATCH_KEY_MAX are never found. */
void json_stream_watch(struct json_stream *s, struct json_watch *watches, size_t n);

/* Computes the sum of the text in `sum`, which must live as long as `s`. Call it before the first
 * piece. */
void json_stream_sum(struct json_stream *s, struct json_sum *sum);

/* Reads the next piece of the text. Nothing refers to `piece` afterwards. */
void json_stream_feed(struct json_stream *s, struct str piece);

enum json_stream_end {
    JSON_STREAM_EMPTY,   /* only white space, perhaps after a mark */
    JSON_STREAM_VALID,   /* one JSON value */
    JSON_STREAM_INVALID, /* no JSON, or incomplete */
};

/* Returns the result if the text ends here. More may be fed afterwards. */
enum json_stream_end json_stream_end(const struct json_stream *s);

/* Whether no further text can make it valid. */
bool json_stream_is_lost(const struct json_stream *s);

/* Returns a fingerprint (base/hash.h) of the text's content, after json_stream_sum. Returns false
 * if it is no object and no array, is invalid, or is nested deeper than JSON_SUM_DEPTH. */
bool json_stream_fingerprint(const struct json_stream *s, uint64_t *ret);

/* Whether `text`, the data of an event, is JSON in UTF-8: the same grammar, but with strict UTF-8
 * (Python's SDK decodes strictly) and without a leading mark, which no SDK accepts there. */
bool json_valid(struct str text);

#endif
