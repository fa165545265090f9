/* A request's body that can be sent again and again: in memory while it is small, else in a spool
 * (C15).
 *
 * It grows until body_finish and never changes after that. A body is spooled as a whole: what was in
 * memory moves to the spool, and its memory is given back. While that lasts, or while the disk is
 * slower than the client, it takes no more bytes (body_full), and whoever brings them has to wait.
 * What a spooled JSON body says at its top level, or a form of its model, is kept as it passes by,
 * for the body as a whole is never in memory again; and so it is of one that is packed (in a content
 * coding), wherever it is, for its text is never kept (exchange/body_look.h). */
#ifndef RETRYD_EXCHANGE_BODY_H
#define RETRYD_EXCHANGE_BODY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "exchange/body_look.h"
#include "http/json.h"

struct exchange;
struct spool;
struct body_glance; /* what was seen of a spooled body while it passed by */

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
    struct body_glance *glance;

    struct packed *packed; /* what is read of one in a content coding; NULL: it has none */
};

/* An empty one that takes up to `max` bytes, in memory. */
void body_init(struct body *b, uint64_t max);
void body_deinit(struct body *b);

/* From `memory_max` bytes on it goes to a spool of that exchange's world; under pressure, earlier.
 * Before the first byte. */
void body_may_spool(struct body *b, struct exchange *x, uint64_t memory_max);

/* It comes in that content coding ("" and identity are none). Before the first byte. 0 or -ENOMEM. */
int body_expect(struct body *b, struct str encoding);

/* How many of the `n` bytes were taken (fewer than n while it is full: bring the rest later), or
 * -EFBIG (it would pass `max`), -ENOMEM, -ENOSPC (the spool has failed: `error` tells why). */
ptrdiff_t body_append(struct body *b, const void *data, size_t n);

/* body_append would take nothing now, and would not fail either. */
bool body_full(const struct body *b);

/* The last byte was taken. */
void body_finish(struct body *b);

/* Moves on what waits to be spooled; call it after news of the spool. 0: the body, once finished,
 * can be sent; -EAGAIN: news will follow; else the spool's error. */
int body_go_on(struct body *b);

/* Whether body_text has it, as it came. */
bool body_in_memory(const struct body *b);
struct str body_text(const struct body *b);
/* ... and that is the text that is meant. */
bool body_is_plain(const struct body *b);

/* Whether it came in a content coding, and what became of reading it; PACKED_READ where it has none. */
bool body_is_packed(const struct body *b);
enum packed_state body_packed_state(const struct body *b);

/* Copies up to `max` bytes from `offset` on. > 0: so many; 0: its end; -EAGAIN: they are being
 * read, news will follow; else the spool's error. */
ptrdiff_t body_read(struct body *b, uint64_t offset, void *to, size_t max);

/* What a finished body that is a JSON object has for these keys; JSON_NONE where it has nothing. The
 * texts are valid as long as the body; where body_is_plain is false they may be cut, and of objects and
 * arrays only their type is known. False: it is no object, or cannot be read. */
bool body_values(const struct body *b, struct json_value ret[BODY_KEYS]);

/* The model that a finished body asks for which is a form (multipart/form-data): its field of that
 * name, terminated. False: it is no form, or has none that is plain text and fits. */
bool body_form_model(const struct body *b, char *ret_model, size_t size);

/* Where a finished body names its model: of a JSON object the string, quotes included; of a form the
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
 * is nested too deep. Else, and of one that is packed and in a spool, it is one of the bytes. */
uint64_t body_fingerprint(const struct body *b);

/* Bytes of memory that it takes now, its spool's included. */
size_t body_memory(const struct body *b);

#endif
