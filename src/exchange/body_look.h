/* What a request's body says, read while it passes by: its bytes are never changed, and need never be
 * in memory together.
 *
 * Of a JSON object the values of a few keys at its top level are kept, of a form (multipart/form-data)
 * its model. A body in a content coding is decoded for that, as far as needed. */
#ifndef RETRYD_EXCHANGE_BODY_LOOK_H
#define RETRYD_EXCHANGE_BODY_LOOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "http/decode.h"
#include "http/form_watch.h"
#include "http/json_stream.h"

/* The keys that a body may be asked for. */
enum body_key { BODY_MODEL, BODY_STREAM, BODY_OPTIONS, BODY_N, BODY_BACKGROUND, BODY_KEYS };

extern const struct str body_key_names[BODY_KEYS];

struct body_look {
    char first; /* character that is no white space; '\0': none yet */
    struct json_stream check;
    struct json_watch watches[BODY_KEYS];
    struct json_sum sum;
    struct form_watch form_model;
};

/* `sum`: body_look_fingerprint will be asked for. */
void body_look_init(struct body_look *l, bool sum);
/* The body's next bytes, without a coding. Afterwards `l` must not be moved. */
void body_look_feed(struct body_look *l, struct str piece);

/* A fingerprint of what it says (http/json_stream.h), if all that was fed is one JSON object. */
bool body_look_fingerprint(const struct body_look *l, uint64_t *ret);

/* What it has for these keys; JSON_NONE where it has nothing. The texts are valid as long as `l`; they
 * may be cut, and of objects and arrays only their type is known. False: it is no JSON object. */
bool body_look_values(const struct body_look *l, struct json_value ret[BODY_KEYS]);

/* --- a body in a coding ------------------------------------------------------------------------- */

enum packed_state {
    PACKED_READ,    /* so far */
    PACKED_UNKNOWN, /* nobody here can undo that coding */
    PACKED_BROKEN,  /* its bytes are not of that coding, or end early */
    PACKED_LONG,    /* there is more in it than is looked at; what came before that counts */
};

/* So much is decoded of any body; of a larger one so many times the bytes that came. Texts with whatever
 * they may hold stay below that, and what was made to cost time does not. */
#define PACKED_PLAIN_MAX (UINT64_C(16) << 20)
#define PACKED_RATIO_MAX 32

struct packed {
    struct body_look look;
    struct decoder decoder;
    char encoding[8];      /* its name; a longer one is known to nobody here */
    uint64_t coded, plain; /* bytes so far */
    enum packed_state state;
    bool over;
};

/* Whether a Content-Encoding is one: something, and not identity. */
bool packed_is(struct str encoding);

/* One in `coding` (RFC 9110 8.4): gzip, deflate, zstd; with others it only says PACKED_UNKNOWN. NULL:
 * out of memory. */
struct packed *packed_new(struct str encoding);
void packed_free(struct packed *p);

/* The next bytes as they came. 0 or -ENOMEM. */
int packed_feed(struct packed *p, struct str coded);
/* The last one was there. What was only needed for reading is given back. */
void packed_finish(struct packed *p);

/* As body_look_fingerprint, if it was read to its end. It is decoded again for that: `coded` is all of it. False: it has none, or there is no memory. */
bool packed_fingerprint(const struct packed *p, struct str coded, uint64_t *ret);

/* Bytes of memory that it takes now. */
size_t packed_memory(const struct packed *p);

#endif
