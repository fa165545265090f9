/* Says whether a text is JSON, while it comes in: at any split, in fixed memory, in one pass.
 *
 * The grammar is RFC 8259's. What is taken beyond it is what Python's json takes and some servers
 * send: NaN, Infinity and -Infinity, and in front of a body a UTF-8 byte order mark. Lone halves of
 * surrogate pairs, as escapes, are grammar (RFC 8259 8.2), and so are keys that stand twice. What
 * is nested deeper than JSON_CHECK_DEPTH counts as invalid. */
#ifndef RETRYD_HTTP_JSON_CHECK_H
#define RETRYD_HTTP_JSON_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "http/json_watch.h"

#define JSON_CHECK_DEPTH 512

struct json_check {
    uint64_t nest[JSON_CHECK_DEPTH / 64]; /* a bit a level, set: an object */
    const char *word;                     /* what must follow of "true" and its like */
    unsigned depth;
    unsigned char state;
    unsigned char hex_left; /* digits of a \u escape */
    bool in_key;            /* the string is a key */
    struct json_keeper keeper;
};

/* Ready for a text. Allocates nothing, and there is nothing to free. */
void json_check_init(struct json_check *c);

/* Keeps the values of `n` keys, all different, in `watches`, which stay the caller's and must live
 * as long as `c` is fed. Call it before the first piece. Keys longer than JSON_WATCH_KEY_MAX are
 * never found. */
void json_check_watch(struct json_check *c, struct json_watch *watches, size_t n);

/* The next piece of the text. Nothing of `piece` is referred to afterwards. */
void json_check_feed(struct json_check *c, struct str piece);

enum json_check_end {
    JSON_CHECK_EMPTY,   /* white space at most, perhaps behind a mark */
    JSON_CHECK_VALID,   /* one JSON value */
    JSON_CHECK_INVALID, /* no JSON, or not all of it */
};

/* What the text is, if it ends here. May be asked at any time, and feeding may go on. */
enum json_check_end json_check_end(const struct json_check *c);

/* Whether no more text can make it valid: a caller may stop feeding. */
bool json_check_is_lost(const struct json_check *c);

/* Whether `text`, the data of an event, is JSON in UTF-8. The same grammar, but strict in UTF-8
 * (Python's SDK decodes strictly) and without a mark in front, which no SDK takes there. */
bool json_valid(struct str text);

#endif
