/* Checks a response's body, as it arrives, against its headers.
 *
 * Content-Type application/json, or any type that ends in +json (RFC 6839 3.1), promises one JSON
 * value. If JSON is due, because the request allows no other response, the type does not matter:
 * the body must be a JSON object or array, or an event stream. Audio, images and video are an
 * exception, because no proxy labels its error page as one. A Content-Encoding that retryd can
 * decode promises a complete encoded body. Any other content encoding promises nothing, not even
 * JSON, because it cannot be read. This module only looks at the bytes.
 *
 * The caller knows whether there must be a body at all (HEAD, 204, 304). */
#ifndef RETRYD_EXCHANGE_INSPECT_H
#define RETRYD_EXCHANGE_INSPECT_H

#include <stdbool.h>

#include "http/decode.h"
#include "http/json.h"
#include "http/message.h"

enum inspect_end {
    INSPECT_NOTHING, /* nothing was promised, or the body cannot be read, or memory ran out */
    INSPECT_GOOD,
    INSPECT_EMPTY, /* JSON was promised or due, and the body is empty or white space */
    INSPECT_BAD,   /* invalid JSON; an encoded body that is cut or garbage; or not what is due */
};

#define INSPECT_BEGINNING 32

/* Must not be moved between begin and deinit. */
struct inspect {
    bool due;        /* JSON or an event stream is due, whatever the headers promise */
    bool promised;   /* JSON is promised */
    bool json;       /* JSON is due or promised, so the text is checked */
    bool encoded;    /* a content encoding is promised */
    bool some;       /* at least one byte arrived */
    bool broken;     /* no further bytes can make it good */
    bool garbled;    /* ... because they do not match their content encoding */
    bool unreadable; /* no memory to read it */
    struct decoder decoder;
    struct json_stream check;
    char beginning[INSPECT_BEGINNING]; /* of the text, after white space and a byte order mark */
    unsigned char beginning_len;
};

/* Reads what the headers `h` promise. `due`: JSON or an event stream is due, whatever they promise.
 * Allocates for encoded bodies only (about 40 KiB, zlib's); if that fails, the response promises
 * nothing. Each begin needs a deinit, also before the next begin. */
void inspect_begin(struct inspect *i, const struct headers *h, bool due);

/* Takes the next bytes of the body, still encoded. */
void inspect_feed(struct inspect *i, struct str piece);

/* Whether more bytes still matter: something is promised or due, and the body is not broken yet, or
 * inspect_what cannot name it yet. */
bool inspect_wants(const struct inspect *i);

/* Returns the result if the body ends here. It may be called at any time. */
enum inspect_end inspect_end(const struct inspect *i);

/* Describes the body for a person: "an HTML page", "an empty body". A static text. */
const char *inspect_what(const struct inspect *i);

void inspect_deinit(struct inspect *i);

#endif
