/* A request's body that can be sent again and again: in memory while it is small, else in a spool
 * (C15).
 *
 * It grows until body_finish and never changes after that. A body is spooled as a whole: its bytes
 * in memory move to the spool, and the memory is freed. Meanwhile, and while the disk is slower
 * than the client, it takes no more bytes (body_full), and the caller has to wait. The thread that
 * writes a spooled body to its file also parses it; a packed body (one with a content encoding) is
 * parsed in memory once it is complete. */
#ifndef RETRYD_EXCHANGE_BODY_H
#define RETRYD_EXCHANGE_BODY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/hash.h"
#include "exchange/spool.h"
#include "http/decode.h"
#include "http/form.h"
#include "http/json.h"

/* --- the content of a body -------------------------------------------------------------------- */

/* Parses a request's body in one pass over its bytes. The bytes are not changed and need not be in
 * memory together.
 *
 * It keeps the values of a few top-level keys of a JSON object, and the model of a form
 * (multipart/form-data). A body with a content encoding is decoded as far as needed. A spooled body
 * is parsed in the thread that writes it to the file (struct spool_scan), a packed body in memory
 * once it is complete. */

/* The keys whose values are kept. */
enum body_key { BODY_MODEL, BODY_STREAM, BODY_OPTIONS, BODY_N, BODY_BACKGROUND, BODY_KEYS };

extern const struct str body_key_names[BODY_KEYS];

/* The results of reading a packed body (one with a content encoding). */
enum packed_state {
    PACKED_READ,    /* all of it so far */
    PACKED_UNKNOWN, /* not at all: retryd cannot decode the encoding */
    PACKED_BROKEN,  /* the bytes are not valid in that encoding, or end early */
    PACKED_LONG,    /* up to the limit below; the part before it counts */
};

/* A body is decoded up to PACKED_PLAIN_MAX bytes or PACKED_RATIO_MAX times its length, whichever is
 * more. Texts stay below that; only a body that was made to cost time exceeds it. */
#define PACKED_PLAIN_MAX (UINT64_C(16) << 20)
#define PACKED_RATIO_MAX 32

struct body_look {
    struct spool_scan scan; /* for a spool */

    enum packed_state state;
    struct decoder decoder;
    uint64_t came, plain; /* bytes so far: as received, and decoded */
    bool over;            /* the rest of the body does not matter */

    char first; /* first character that is no white space; '\0': none yet */
    struct json_stream json;
    struct json_watch watches[BODY_KEYS];
    struct form_field form_model;

    bool summed;
    struct json_sum sum;
    struct fingerprint bytes;
};

/* Returns a reader for a body in `encoding` (RFC 9110, 8.4; "": none). It is on the heap because it
 * must not be moved. It knows gzip, deflate and zstd; any other body is PACKED_UNKNOWN. `sum`:
 * body_look_fingerprint will be called. NULL: out of memory. */
struct body_look *body_look_new(struct str encoding, bool sum);
void body_look_free(struct body_look *l);

/* Reads the next bytes as received. Returns 0 or -ENOMEM. */
int body_look_feed(struct body_look *l, struct str piece);
/* Ends the body and frees the memory that only parsing needs. */
void body_look_end(struct body_look *l);

/* Returns the values of the keys, JSON_NONE for a missing one. The texts are valid as long as `l`.
 * A long text is cut, and the text of an object or an array is empty. False: the body is no object,
 * or could not be read. */
bool body_look_values(const struct body_look *l, struct json_value ret[BODY_KEYS]);

/* Returns a form's model; NULL: the body is no form, has no model, or could not be read. */
const struct form_field *body_look_form_model(const struct body_look *l);

/* Returns a fingerprint of the body's content (http/json.h) if it could be read, is one JSON
 * object and is not nested too deep; else a fingerprint of its bytes. */
uint64_t body_look_fingerprint(const struct body_look *l);

/* Returns the bytes of memory that it uses now. */
size_t body_look_memory(const struct body_look *l);

struct exchange;
struct spool;

struct body {
    uint64_t max;    /* bytes */
    uint64_t length; /* so far */
    bool finished;

    struct buf memory;  /* the body, except the bytes that the spool has taken */
    struct exchange *x; /* its world provides spools; NULL: the body stays in memory */
    uint64_t memory_max;

    struct spool *spool; /* NULL: it is in memory */
    size_t moved;        /* bytes of `memory` that the spool has taken */
    int error;           /* -errno of the spool, sticky; 0 */

    struct str encoding; /* its content encoding, not owned; empty: none */
    /* Its content; owned by the spool if there is one. NULL: memory has the text. */
    struct body_look *look;
};

/* Initializes an empty body that takes up to `max` bytes, in memory. */
void body_init(struct body *b, uint64_t max);
void body_deinit(struct body *b);

/* Lets the body move to a spool of that exchange's world once it has `memory_max` bytes, earlier if
 * memory is short. Call it before the first byte. */
void body_may_spool(struct body *b, struct exchange *x, uint64_t memory_max);

/* Sets the body's content encoding ("" and identity are none). Call it before the first byte. The
 * text must outlive the body. */
void body_expect(struct body *b, struct str encoding);

/* Returns how many of the `n` bytes were taken (fewer than n while it is full: bring the rest
 * later), or -EFBIG (it would exceed `max`), -ENOMEM, or -ENOSPC (the spool has failed, and `error`
 * says why). */
ptrdiff_t body_append(struct body *b, const void *data, size_t n);

/* Whether body_append would take nothing now without failing. */
bool body_full(const struct body *b);

/* Ends the body: its last byte was taken. */
void body_finish(struct body *b);

/* Writes to the spool the bytes that wait for it. Call it after news of the spool, and once the
 * body is finished. Returns 0 if a finished body has been parsed and can be sent, -EAGAIN if news
 * of the spool will follow, else the spool's error or -ENOMEM. */
int body_go_on(struct body *b);

/* Whether body_text returns the body, as received. */
bool body_in_memory(const struct body *b);
struct str body_text(const struct body *b);
/* ... and the body has no content encoding. */
bool body_is_plain(const struct body *b);

/* Whether it has a content encoding, and how far it could be read; PACKED_READ without an
 * encoding. */
bool body_is_packed(const struct body *b);
enum packed_state body_packed_state(const struct body *b);

/* Copies up to `max` bytes from `offset` on. Returns their number; 0 at the end; -EAGAIN while they
 * are being read, and news will follow; else the spool's error. */
ptrdiff_t body_read(struct body *b, uint64_t offset, void *to, size_t max);

/* Returns a JSON object's values of the keys, JSON_NONE for a missing one. The texts are valid as
 * long as the body. If body_is_plain is false, they may be cut, and only the type of objects and
 * arrays is known. Returns false if the body is no object or cannot be read. */
bool body_values(const struct body *b, struct json_value ret[BODY_KEYS]);

/* Copies the model of a form (multipart/form-data), its field of that name, terminated. Returns
 * false if the body is no form, or has no such field that is plain text and fits. */
bool body_form_model(const struct body *b, char *ret_model, size_t size);

/* The place of the model in a body that was read: the string in a JSON object, quotes included, or
 * the value of the form's field. body_model_place returns false if there is none, or if it cannot
 * be replaced because the body is packed. */
struct body_place {
    uint64_t at, length;
    bool json;
};
bool body_model_place(const struct body *b, struct body_place *ret);

/* A change to a body as it is sent: `put` replaces the `cut` bytes at `at`. cut 0: no change. */
struct body_edit {
    uint64_t at, cut;
    struct buf put;
};
void body_edit_init(struct body_edit *e);
void body_edit_deinit(struct body_edit *e);
uint64_t body_edited_length(const struct body *b, const struct body_edit *e);
/* The same as body_read for the edited body. */
ptrdiff_t body_read_edited(struct body *b, const struct body_edit *e, uint64_t offset, void *to,
                           size_t max);

/* Returns a fingerprint (base/fingerprint.h) of a finished body. For a JSON object, packed or not,
 * it depends on the content and not on the order of the members (http/json.h), unless the
 * object is nested too deep; else it depends on the bytes. A spooled body has one only if the
 * exchange remembers failures. */
uint64_t body_fingerprint(const struct body *b);

/* Returns the bytes of memory that it uses now, its spool's included. */
size_t body_memory(const struct body *b);

#endif
