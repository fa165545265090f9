/* Reads a JSON text that comes in pieces, at any split, in fixed memory and in one pass: says whether it
 * is JSON, keeps the values of chosen keys, and sums up what it says.
 *
 * The grammar is RFC 8259's. What is taken beyond it is what Python's json takes and some servers
 * send: NaN, Infinity and -Infinity, and in front of a body a UTF-8 byte order mark. Lone halves of
 * surrogate pairs, as escapes, are grammar (RFC 8259 8.2), and so are keys that stand twice. What
 * is nested deeper than JSON_STREAM_DEPTH counts as invalid. */
#ifndef RETRYD_HTTP_JSON_STREAM_H
#define RETRYD_HTTP_JSON_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/fingerprint.h"
#include "base/str.h"
#include "http/json.h"

#define JSON_STREAM_DEPTH 512

#define JSON_WATCH_KEY_MAX 20 /* bytes of a watched key; each may be spelled as \uXXXX */

/* A key of the top-level object whose value is kept as it passes by: `key` in, the rest out.
 *
 * `text` is the beginning of the raw text, not terminated: of a string without its quotes, escapes left
 * as they are (one may be cut in two); of a number or a word all of it; of arrays and objects none. A
 * key that stands twice gives its last value. A value stands once its text is complete, an array or an
 * object once it begins: ask json_stream_end whether all of the text was sound. */
struct json_watch {
    struct str key;
    enum json_type type; /* JSON_NONE: has not come; NaN and its like: JSON_NUMBER */
    char text[192];
    uint64_t at;     /* where the text began: bytes fed before it */
    uint64_t length; /* of the whole text, kept or not; of arrays and objects 0 */
};

/* As much of the text as was kept. */
struct str json_watch_text(const struct json_watch *w);

/* What a text says: the order of an object's members and the white space between tokens do not count, at
 * any depth.
 *
 * Clients that write an object from a hash map order its members otherwise each time. The order of an
 * array's elements counts (RFC 8259 1). Strings and numbers count as they are written: "a" is not
 * "\u0061", and 1 is not 1.0. A member that stands twice counts twice. */
#define JSON_SUM_DEPTH 128

struct json_sum {
    struct json_sum_nest {
        uint64_t sum;            /* of what it holds so far */
        uint64_t key;            /* of the member whose value comes next */
    } nests[JSON_SUM_DEPTH + 1]; /* the first one is the top */
    bool begun;                  /* an earlier piece had a part of the token in hand */
    struct fingerprint token;    /* which is in here */
};

struct json_stream {
    uint64_t nest[JSON_STREAM_DEPTH / 64]; /* a bit a level, set: an object */
    const char *word;                      /* what must follow of "true" and its like */
    unsigned depth;
    unsigned char state;
    unsigned char hex_left; /* digits of a \u escape */
    bool in_key;            /* the string is a key */

    /* For those who take tokens (strings' texts, numbers, words). */
    bool taken; /* somebody does */
    const char
        *token; /* goes on here in the piece; NULL: there is none in hand, or nobody takes it */
    const char *piece; /* begins here ... */
    uint64_t before;   /* ... behind so many bytes */
    enum json_type type;
    struct json_watch *watches; /* not owned */
    size_t watch_count;
    struct json_watch *found;         /* the one whose key came last; NULL: none */
    char key[6 * JSON_WATCH_KEY_MAX]; /* the beginning of the raw key ... */
    uint64_t key_length;              /* ... and all of its length */
    struct json_sum *sum;             /* not owned; NULL: nobody asks for it, or it is too deep */
};

/* Ready for a text. Allocates nothing, and there is nothing to free. */
void json_stream_init(struct json_stream *s);

/* Keeps the values of `n` keys, all different, in `watches`, which stay the caller's and must live
 * as long as `s` is fed. Call it before the first piece. Keys longer than JSON_WATCH_KEY_MAX are
 * never found. */
void json_stream_watch(struct json_stream *s, struct json_watch *watches, size_t n);

/* Sums up the text in `sum`, which stays the caller's. Call it before the first piece. */
void json_stream_sum(struct json_stream *s, struct json_sum *sum);

/* The next piece of the text. Nothing of `piece` is referred to afterwards. */
void json_stream_feed(struct json_stream *s, struct str piece);

enum json_stream_end {
    JSON_STREAM_EMPTY,   /* white space at most, perhaps behind a mark */
    JSON_STREAM_VALID,   /* one JSON value */
    JSON_STREAM_INVALID, /* no JSON, or not all of it */
};

/* What the text is, if it ends here. May be asked at any time, and feeding may go on. */
enum json_stream_end json_stream_end(const struct json_stream *s);

/* Whether no more text can make it valid: a caller may stop feeding. */
bool json_stream_is_lost(const struct json_stream *s);

/* A fingerprint of what the text says that json_stream_sum was called for, as base/fingerprint.h has them:
 * good within this process. Of an object or an array; false: it is not valid, or nested deeper than
 * JSON_SUM_DEPTH. */
bool json_stream_fingerprint(const struct json_stream *s, uint64_t *ret);

#endif
