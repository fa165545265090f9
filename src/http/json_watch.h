/* Keeps the values of chosen keys while a text passes by that is never in memory as a whole.
 *
 * base/json_check drives it: it tells where keys and values of the top-level object begin and end. */
#ifndef RETRYD_HTTP_JSON_WATCH_H
#define RETRYD_HTTP_JSON_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "http/json_scan.h"

#define JSON_WATCH_KEY_MAX 20 /* bytes of a watched key; each may be spelled as \uXXXX */

/* A key of the top-level object whose value is kept as it passes by: `key` in, the rest out.
 *
 * `text` is the raw text, not terminated: of a string without its quotes, escapes left as they are;
 * of a number or a word all of it; of arrays and objects none. `cut`: the text was longer than fits
 * and is its beginning; an escape may be cut in two. A key that stands twice gives its last value.
 * Values stand as soon as they begin: ask json_check_end whether the text was sound. In one that was
 * not they may be parts, and depend on how it was cut into pieces. */
struct json_watch {
    struct str key;
    enum json_type type; /* JSON_NONE: has not come; NaN and its like: JSON_NUMBER */
    char text[192];
    size_t n;
    bool cut;
    uint64_t at;     /* where the text began: bytes fed before it */
    uint64_t length; /* of the whole text, kept or not; of arrays and objects 0 */
};

/* json_check's own part. */
struct json_keeper {
    struct json_watch *watches; /* not owned */
    size_t count;               /* of them; 0: nothing is kept */
    struct json_watch *found;   /* the one whose key came last; NULL: none */
    const char *from;           /* what is being kept starts here in the current piece */
    const char *piece;          /* which begins here ... */
    uint64_t before;            /* ... behind so many bytes */
    size_t piece_len;
    unsigned char what; /* is being kept: nothing, a key, a value */
    bool key_cut;
    unsigned char key_len;
    char key[6 * JSON_WATCH_KEY_MAX]; /* the raw key, where there are watches */
};

void json_keeper_init(struct json_keeper *k);
/* The next piece: what is being kept goes on at its beginning. */
void json_keeper_piece(struct json_keeper *k, struct str piece);
void json_keeper_watch(struct json_keeper *k, struct json_watch *watches, size_t n);

/* A key's text begins at `from`. */
void json_keeper_key(struct json_keeper *k, const char *from);

/* The value of the key that was found begins: its text, of a string behind the quote, at `from`. */
void json_keeper_value(struct json_keeper *k, enum json_type type, const char *from);

/* Whether the value that is being kept for `w` has not ended yet. */
bool json_watch_is_open(const struct json_keeper *k, const struct json_watch *w);

/* The key or value ends before `to`. */
void json_keeper_end(struct json_keeper *k, const char *to);

/* The piece ends at `to`, and the key or value does not; in the next one it goes on at `from`,
 * which is set then. */
void json_keeper_suspend(struct json_keeper *k, const char *to);

#endif
