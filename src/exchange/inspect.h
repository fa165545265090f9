/* Watches an answer's body come in and says whether it keeps what its head promised.
 *
 * Content-Type application/json, or any type that ends in +json (RFC 6839 3.1), promises one JSON
 * value. A Content-Encoding that retryd can read promises a coded body that is whole. Other codings
 * promise nothing, JSON neither: it cannot be read. Bytes pass through here only to be looked at.
 *
 * Whether there had to be a body at all (HEAD, 204, 304) is the caller's to know. */
#ifndef RETRYD_EXCHANGE_INSPECT_H
#define RETRYD_EXCHANGE_INSPECT_H

#include <stdbool.h>

#include "base/json_check.h"
#include "exchange/decode.h"
#include "policy/headers.h"

enum inspect_end {
    INSPECT_NOTHING, /* nothing was promised, or it cannot be read; or there was no memory to */
    INSPECT_GOOD,
    INSPECT_EMPTY, /* JSON was promised, and nothing came, or white space at most */
    INSPECT_BAD,   /* no valid JSON, or a coded body that ends early or is garbage */
};

/* Must not be moved between begin and deinit. */
struct inspect {
    bool json;       /* promised */
    bool coded;      /* promised */
    bool some;       /* a byte came */
    bool broken;     /* no more bytes can make it good */
    bool unreadable; /* no memory to read it */
    struct decoder decoder;
    struct json_check check;
};

/* Reads what the head `h` promises. Allocates for coded bodies only (some 40 KiB, zlib's); where
 * that fails the answer promises nothing. Every begin needs a deinit, before the next one too. */
void inspect_begin(struct inspect *i, const struct headers *h);

/* The next bytes of the body, as they came. */
void inspect_feed(struct inspect *i, struct str piece);

/* Whether feeding goes on to matter: something was promised, and it is not broken yet. */
bool inspect_wants(const struct inspect *i);

/* What the answer is, if it ends here. May be asked at any time. */
enum inspect_end inspect_end(const struct inspect *i);

void inspect_deinit(struct inspect *i);

#endif
