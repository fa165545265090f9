/* Fingerprints of JSON texts that say the same: the order of an object's members and the white space
 * between tokens do not count, at any depth.
 *
 * Clients that write an object from a hash map order its members otherwise each time. The order of an
 * array's elements counts (RFC 8259 1). Strings and numbers count as they are written: "a" is not
 * "\u0061", and 1 is not 1.0. A member that stands twice counts twice. As base/fingerprint.h has it, a
 * fingerprint is good within this process, and the same however the text is cut into pieces. */
#ifndef RETRYD_HTTP_JSON_FINGERPRINT_H
#define RETRYD_HTTP_JSON_FINGERPRINT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/fingerprint.h"
#include "base/str.h"

/* Texts that are nested deeper have none. */
#define JSON_FINGERPRINT_DEPTH 128

struct json_fingerprint_nest {
    uint64_t sum; /* of what it holds so far */
    uint64_t key; /* of the member whose value comes next */
    bool object, has_key;
};

struct json_fingerprint {
    struct json_fingerprint_nest nests[JSON_FINGERPRINT_DEPTH + 1]; /* the first one is the top */
    unsigned depth;
    unsigned char state;
    bool escaped;             /* the next byte of the string is */
    bool begun;               /* the piece before had a part of the token */
    struct fingerprint token; /* which is in here */
};

/* Ready for a text. Allocates nothing, and there is nothing to free. */
void json_fingerprint_begin(struct json_fingerprint *f);

/* The next piece of the text. Nothing of `piece` is referred to afterwards. */
void json_fingerprint_feed(struct json_fingerprint *f, struct str piece);

/* The fingerprint of all that was fed, an object or an array. Whether that is JSON is for
 * http/json_check.h to say; of other texts it tells nothing. False: it has none, for it is nested too
 * deep, or its brackets do not match. */
bool json_fingerprint_end(const struct json_fingerprint *f, uint64_t *ret);

#endif
