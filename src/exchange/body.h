/* A request's body that can be sent again and again: in memory while it is small, else in a spool
 * (C15).
 *
 * It grows until body_finish and never changes after that. A body is spooled as a whole: what was in
 * memory moves to the spool, and its memory is given back. While that lasts, or while the disk is
 * slower than the client, it takes no more bytes (body_full), and whoever brings them has to wait.
 * A spooled body is read for what it says by the thread that writes it to its file, and a packed one (in a
 * content encoding) in memory once it is complete. */
#ifndef RETRYD_EXCHANGE_BODY_H
#define RETRYD_EXCHANGE_BODY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/hash.h"
#include "exchange/spool.h"
#include "http/decode.h"
#include "http/form_watch.h"
#include "http/json.h"
#include "http/json_stream.h"

/* --- what a body says ------------------------------------------------------------------------- */

/* Reads what a request's body says, in one pass over its bytes. The bytes are not changed, and they
 * need not be in memory together.
 *
 * A JSON object's values of a few keys at its top level are kept, and a form's (multipart/form-data)
 * model. A body in a content encoding is decoded, as far as needed. A body in a spool is read in the
 * thread that writes it to the file (struct spool_scan), a packed body in memory once it is complete. */

/* The keys whose values are kept. */
enum body_key { BODY_MODEL, BODY_STREAM, BODY_OPTIONS, BODY_N, BODY_BACKGROUND, BODY_KEYS };

extern const struct str body_key_names[BODY_KEYS];

/* How far a packed body (one in a content encoding) could be read. */
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

struct exchange;
struct spool;

struct body {
    uint64_t max;    /* bytes */
    uint64_t length; /* so far */
    bool finished;

    struct buf memory;  /* all of it, but for what the spool has taken */
    struct exchange *x; /* whose world has spools; NULL: it stays in memory */
    uint64_t memory_max;

    struct spool *spool; /* NULL: it is in memory */
    size_t moved;        /* bytes of `memory` that the spool has taken */
    int error;           /* -errno of the spool, sticky; 0 */

    struct str encoding; /* its content encoding, not owned; empty: none */
    struct body_look
        *look; /* what it says; the spool's where it has one. NULL: memory has its text */
};

/* An empty one that takes up to `max` bytes, in memory. */
void body_init(struct body *b, uint64_t max);
void body_deinit(struct body *b);

/* From `memory_max` bytes on it goes to a spool of that exchange's world; under pressure, earlier.
 * Before the first byte. */
void body_may_spool(struct body *b, struct exchange *x, uint64_t memory_max);

/* Says which content encoding it comes in ("" and identity are none), before its first byte. The text
 * must outlive it. */
void body_expect(struct body *b, struct str encoding);

/* How many of the `n` bytes were taken (fewer than n while it is full: bring the rest later), or
 * -EFBIG (it would pass `max`), -ENOMEM, -ENOSPC (the spool has failed: `error` tells why). */
ptrdiff_t body_append(struct body *b, const void *data, size_t n);

/* body_append would take nothing now, and would not fail either. */
bool body_full(const struct body *b);

/* The last byte was taken. */
void body_finish(struct body *b);

/* Moves on what waits to be spooled. Call it after news of the spool, and once the body is finished.
 * 0: a finished body has been read and can be sent; -EAGAIN: news will follow; else the spool's error
 * or -ENOMEM. */
int body_go_on(struct body *b);

/* Whether body_text has it, as it came. */
bool body_in_memory(const struct body *b);
struct str body_text(const struct body *b);
/* ... and that is the text that is meant. */
bool body_is_plain(const struct body *b);

/* Whether it came in a content encoding, and what became of reading it; PACKED_READ where it has none. */
bool body_is_packed(const struct body *b);
enum packed_state body_packed_state(const struct body *b);

/* Copies up to `max` bytes from `offset` on. > 0: so many; 0: its end; -EAGAIN: they are being
 * read, news will follow; else the spool's error. */
ptrdiff_t body_read(struct body *b, uint64_t offset, void *to, size_t max);

/* What a body that was read and is a JSON object has for these keys; JSON_NONE where it has nothing. The
 * texts are valid as long as the body; where body_is_plain is false they may be cut, and of objects and
 * arrays only their type is known. False: it is no object, or cannot be read. */
bool body_values(const struct body *b, struct json_value ret[BODY_KEYS]);

/* The model that a body asks for which was read and is a form (multipart/form-data): its field of that
 * name, terminated. False: it is no form, or has none that is plain text and fits. */
bool body_form_model(const struct body *b, char *ret_model, size_t size);

/* Where a body that was read names its model: of a JSON object the string, quotes included; of a form the
 * field's value. False: nowhere, or where it cannot be replaced, in one that is packed. */
struct body_place {
    uint64_t at, length;
    bool json;
};
bool body_model_place(const struct body *b, struct body_place *ret);

/* A body is sent with `put` in the place of the `cut` bytes at `at`; cut 0: as it is. */
struct body_edit {
    uint64_t at, cut;
    struct buf put;
};
void body_edit_init(struct body_edit *e);
void body_edit_deinit(struct body_edit *e);
uint64_t body_edited_length(const struct body *b, const struct body_edit *e);
/* As body_read, of the edited body. */
ptrdiff_t body_read_edited(struct body *b, const struct body_edit *e, uint64_t offset, void *to,
                           size_t max);

/* A fingerprint (base/fingerprint.h) of a finished body, wherever it is kept. Of a JSON object it is one of
 * what the object says, however its members are ordered (http/json_stream.h), packed or not, unless it
 * is nested too deep; else of the bytes. A spooled body has one only if the exchange remembers failures. */
uint64_t body_fingerprint(const struct body *b);

/* Bytes of memory that it takes now, its spool's included. */
size_t body_memory(const struct body *b);

#endif
