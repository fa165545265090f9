/* Reads what a request's body says, in one pass over its bytes. The bytes are not changed, and they
 * need not be in memory together.
 *
 * A JSON object's values of a few keys at its top level are kept, and a form's (multipart/form-data)
 * model. A body in a content coding is decoded, as far as needed. A body in a spool is read in the
 * thread that writes it to the file (struct spool_scan), a packed body in memory once it is complete. */
#ifndef RETRYD_EXCHANGE_BODY_LOOK_H
#define RETRYD_EXCHANGE_BODY_LOOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/fingerprint.h"
#include "exchange/spool.h"
#include "http/decode.h"
#include "http/form_watch.h"
#include "http/json_stream.h"

/* The keys whose values are kept. */
enum body_key { BODY_MODEL, BODY_STREAM, BODY_OPTIONS, BODY_N, BODY_BACKGROUND, BODY_KEYS };

extern const struct str body_key_names[BODY_KEYS];

/* How far a packed body (one in a content coding) could be read. */
enum packed_state {
    PACKED_READ,    /* so far, all of it */
    PACKED_UNKNOWN, /* not at all: retryd cannot undo the coding */
    PACKED_BROKEN,  /* the bytes are not of that coding, or end early */
    PACKED_LONG,    /* up to the limit below; what came before it counts */
};

/* At most this much is decoded of any body; of a body that is larger itself, this many times its
 * length. Texts stay below that whatever they hold. A body that was made to cost time does not. */
#define PACKED_PLAIN_MAX (UINT64_C(16) << 20)
#define PACKED_RATIO_MAX 32

struct body_look {
    struct spool_scan scan; /* for a spool */

    enum packed_state state;
    struct decoder decoder;
    uint64_t came, plain; /* bytes so far: as they came, and decoded */
    bool over;            /* nothing that may still come matters */

    char first; /* character that is no white space; '\0': none yet */
    struct json_stream json;
    struct json_watch watches[BODY_KEYS];
    struct form_watch form_model;

    bool summed;
    struct json_sum sum;
    struct fingerprint bytes;
};

/* Returns a reader for a body in `encoding` (RFC 9110, 8.4; "": none), on the heap, because it must
 * not be moved. It knows gzip, deflate and zstd; any other body is PACKED_UNKNOWN. `sum`:
 * body_look_fingerprint will be called. NULL: out of memory. */
struct body_look *body_look_new(struct str encoding, bool sum);
void body_look_free(struct body_look *l);

/* Reads the next bytes as they came. Returns 0 or -ENOMEM. */
int body_look_feed(struct body_look *l, struct str piece);
/* Ends the body and frees what only reading needed. */
void body_look_end(struct body_look *l);

/* Returns the values of the keys, JSON_NONE for a missing one. The texts are valid as long as `l`.
 * A long text is cut, and the text of an object or an array is empty. False: the body is no object,
 * or could not be read. */
bool body_look_values(const struct body_look *l, struct json_value ret[BODY_KEYS]);

/* Returns a form's model; NULL: the body is no form, has no model, or could not be read. */
const struct form_watch *body_look_form_model(const struct body_look *l);

/* Returns a fingerprint of what the body says (http/json_stream.h) if it could be read, is one JSON
 * object and is not nested too deep; else a fingerprint of its bytes. */
uint64_t body_look_fingerprint(const struct body_look *l);

/* Returns the bytes of memory that it takes now. */
size_t body_look_memory(const struct body_look *l);

#endif
