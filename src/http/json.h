/* Reads JSON on the hot path, without a tree and without memory of its own: what a request asks for, what an
 * event says, whether a response is an error.
 *
 * There are two readers. A walk (struct json_iter) goes over a text that is in memory as a whole. A stream
 * (struct json_stream) takes a text in pieces, checks all of its grammar, keeps the values of chosen keys and
 * sums up what the text says. json_tree.h writes. */
#ifndef RETRYD_HTTP_JSON_H
#define RETRYD_HTTP_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/hash.h"
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

/* --- a walk over members and elements --------------------------------------------------------------- */

/* A walk goes over one level. It skips a nested value and returns its raw text, which can be walked in turn.
 * Any bytes are allowed: the grammar (RFC 8259) is checked only as far as the walk needs it, and on bad
 * text the walk ends early and never reads beyond. Each byte is looked at twice at most. */

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

/* --- a text in pieces ------------------------------------------------------------------------------- */

/* The pieces may be split anywhere. The grammar is RFC 8259's, and beyond it NaN, Infinity, -Infinity and a
 * UTF-8 byte order mark in front, which Python's json accepts and some servers send. Escapes of lone
 * surrogates (RFC 8259, 8.2) and keys that stand twice are valid. A text nested deeper than
 * JSON_STREAM_DEPTH is not. */
#define JSON_STREAM_DEPTH 512

#define JSON_WATCH_KEY_MAX 20 /* bytes of a watched key; each may be spelled as \uXXXX */

/* A key of the top-level object whose value is kept: `key` in, the rest out.
 *
 * `text` is the beginning of the raw text, not terminated: a string without its quotes, escapes left as
 * they are (the last one may be cut in two), or a number or word. Arrays and objects have none. A key
 * that stands twice gives its last value. A value is there once it is complete, an array or object once
 * it begins, whether or not the whole text turns out to be valid: json_stream_end tells. */
struct json_watch {
    struct str key;
    enum json_type type; /* JSON_NONE: none has come; NaN and Infinity are JSON_NUMBER */
    char text[192];
    uint64_t at;     /* bytes fed before the text */
    uint64_t length; /* of the whole text, kept or not; 0 for arrays and objects */
};

/* Returns as much of the text as was kept. */
struct str json_watch_text(const struct json_watch *w);

/* The sum of what a text says. The order of an object's members and the white space between tokens do
 * not change it, at any depth.
 *
 * Clients that write an object from a hash map change the order of its members each time. The order of
 * an array's elements counts (RFC 8259, 1). Strings and numbers count as they are written: "a" is not
 * "\u0061", and 1 is not 1.0. A member that stands twice counts twice. */
#define JSON_SUM_DEPTH 128

struct json_sum {
    struct json_sum_nest {
        uint64_t sum;            /* of what it holds so far */
        uint64_t key;            /* the fingerprint of the key whose value comes next */
    } nests[JSON_SUM_DEPTH + 1]; /* the first one is the top */
    bool begun;                  /* an earlier piece had a part of the current token, */
    struct fingerprint token;    /* which is in here */
};

struct json_stream {
    uint64_t nest[JSON_STREAM_DEPTH / 64]; /* a bit a level, set: an object */
    const char *word;                      /* what must follow of "true" and its like */
    unsigned depth;
    unsigned char state;
    unsigned char hex_left; /* digits of a \u escape */
    bool in_key;            /* the string is a key */

    /* Tokens (strings, numbers, words) for the watches and the sum. */
    bool taken; /* somebody takes tokens */
    const char
        *token; /* the current token in this piece; NULL: there is none, or nobody takes it */
    const char *piece;          /* the piece */
    uint64_t before;            /* bytes fed before it */
    enum json_type type;        /* of the current value */
    struct json_watch *watches; /* not owned */
    size_t watch_count;
    struct json_watch *found;         /* the watch of the last key; NULL: it has none */
    char key[6 * JSON_WATCH_KEY_MAX]; /* the beginning of the raw key */
    uint64_t key_length;              /* of all of it */
    struct json_sum *sum;             /* not owned; NULL: not wanted, or the text is too deep */
};

/* Begins a text. Nothing is allocated, so nothing has to be freed. */
void json_stream_init(struct json_stream *s);

/* Keeps the values of `n` different keys in `watches`, which must live as long as `s` is fed. Call it
 * before the first piece. Keys longer than JSON_WATCH_KEY_MAX are never found. */
void json_stream_watch(struct json_stream *s, struct json_watch *watches, size_t n);

/* Sums up the text in `sum`, which must live as long as `s`. Call it before the first piece. */
void json_stream_sum(struct json_stream *s, struct json_sum *sum);

/* Reads the next piece of the text. Nothing refers to `piece` afterwards. */
void json_stream_feed(struct json_stream *s, struct str piece);

enum json_stream_end {
    JSON_STREAM_EMPTY,   /* nothing but white space, perhaps behind a mark */
    JSON_STREAM_VALID,   /* one JSON value */
    JSON_STREAM_INVALID, /* no JSON, or incomplete */
};

/* Returns what the text is if it ends here. More may be fed afterwards. */
enum json_stream_end json_stream_end(const struct json_stream *s);

/* Returns whether nothing that follows can make it valid. */
bool json_stream_is_lost(const struct json_stream *s);

/* Returns a fingerprint (base/hash.h) of what the text says; json_stream_sum was called for it.
 * False: it is no object and no array, is not valid, or is nested deeper than JSON_SUM_DEPTH. */
bool json_stream_fingerprint(const struct json_stream *s, uint64_t *ret);

/* Whether `text`, the data of an event, is JSON in UTF-8: the same grammar, but strict in UTF-8
 * (Python's SDK decodes strictly) and without a mark in front, which no SDK takes there. */
bool json_valid(struct str text);

#endif
