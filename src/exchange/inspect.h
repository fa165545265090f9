/* Watches an answer's body come in and says whether it keeps what its head promised.
 *
 * Content-Type application/json, or any type that ends in +json (RFC 6839 3.1), promises one JSON
 * value. Where JSON is due, for nothing else can be an answer there, another label does not matter: it
 * has to be an object or an array in JSON all the same, or an event stream; but for a sound, a picture
 * or a film, which no proxy's page calls itself. A Content-Encoding that retryd can read promises a coded body that is whole. Other codings
 * promise nothing, JSON neither: it cannot be read. Bytes pass through here only to be looked at.
 *
 * Whether there had to be a body at all (HEAD, 204, 304) is the caller's to know. */
#ifndef RETRYD_EXCHANGE_INSPECT_H
#define RETRYD_EXCHANGE_INSPECT_H

#include <stdbool.h>

#include "http/decode.h"
#include "http/headers.h"
#include "http/json_stream.h"

enum inspect_end {
    INSPECT_NOTHING, /* nothing was promised, or it cannot be read; or there was no memory to */
    INSPECT_GOOD,
    INSPECT_EMPTY, /* JSON was promised or due, and nothing came, or white space at most */
    INSPECT_BAD, /* no valid JSON, or a coded body that ends early or is garbage; or not what is due */
};

#define INSPECT_BEGINNING 32

/* Must not be moved between begin and deinit. */
struct inspect {
    bool due;        /* JSON or an event stream is, whatever is promised */
    bool promised;   /* JSON is */
    bool json;       /* ... either of them: the text is checked */
    bool coded;      /* promised */
    bool some;       /* a byte came */
    bool broken;     /* no more bytes can make it good */
    bool garbled;    /* ... for they are not in their coding */
    bool unreadable; /* no memory to read it */
    struct decoder decoder;
    struct json_stream check;
    char beginning[INSPECT_BEGINNING]; /* of the text, behind white space and a mark */
    unsigned char beginning_len;
};

/* Reads what the head `h` promises; `due`: and what is due whatever it promises. Allocates for coded bodies only (some 40 KiB, zlib's); where
 * that fails the answer promises nothing. Every begin needs a deinit, before the next one too. */
void inspect_begin(struct inspect *i, const struct headers *h, bool due);

/* The next bytes of the body, as they came. */
void inspect_feed(struct inspect *i, struct str piece);

/* Whether feeding goes on to matter: something was promised or is due, and it is not broken yet, or it
 * is not known yet what came instead. */
bool inspect_wants(const struct inspect *i);

/* What the answer is, if it ends here. May be asked at any time. */
enum inspect_end inspect_end(const struct inspect *i);

/* What came, for a person: "an HTML page", "an empty body". A static text. */
const char *inspect_what(const struct inspect *i);

void inspect_deinit(struct inspect *i);

#endif
