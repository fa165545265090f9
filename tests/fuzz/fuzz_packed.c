/* Packed requests: any bytes under each encoding, at any split; and the input as a body that was
 * packed. */
#include <stdlib.h>
#include <zstd.h>

#include "base/hash.h"
#include "exchange/body.h"
#include "fuzz.h"
#include "http/json.h"
#include "json_oracle.h"

#define CAP (1 << 22)

/* GZIP and those behind it are what packs the input as well; the last one nobody here can undo. */
enum { GZIP, DEFLATE, BARE, ZSTD, UNKNOWN, ENCODINGS };
static const struct str encodings[ENCODINGS] = {
    {"gzip", 4}, {"deflate", 7}, {"Deflate", 7}, {"zstd", 4}, {"br", 2}};
static const int window_bits[ENCODINGS] = {9 + 16, 9, -9};

/* A body of these bytes in memory. */
static void receive(struct body *b, struct str encoding, struct str bytes)
{
    body_init(b, CAP);
    body_expect(b, encoding);
    FUZZ_CHECK(body_append(b, bytes.p, bytes.n) == (ptrdiff_t)bytes.n);
    body_finish(b);
    FUZZ_CHECK(body_go_on(b) == 0);
    FUZZ_CHECK(str_eq(body_text(b), bytes));
    FUZZ_CHECK(body_memory(b) - b->memory.size < 8192);
}

/* A look at them as they go to a spool. */
static struct body_look *look_at(struct str encoding, struct str bytes, enum fuzz_way way)
{
    struct body_look *l = body_look_new(encoding, true);
    struct fuzz_cutter cutter;
    struct str piece;

    FUZZ_CHECK(l);
    fuzz_cut(&cutter, way, bytes);
    while (fuzz_piece(&cutter, &piece))
        FUZZ_CHECK(body_look_feed(l, piece) == 0);
    body_look_end(l);
    FUZZ_CHECK(body_look_memory(l) < 8192);
    return l;
}

/* Both say the same. */
static void compare(const struct body_look *a, const struct body_look *b)
{
    const struct form_field *form_a = body_look_form_model(a), *form_b = body_look_form_model(b);
    struct json_value of_a[BODY_KEYS], of_b[BODY_KEYS];

    FUZZ_CHECK(a->state == b->state);
    FUZZ_CHECK(body_look_fingerprint(a) == body_look_fingerprint(b));
    FUZZ_CHECK(!form_a == !form_b);
    FUZZ_CHECK(!form_a || (form_a->at == form_b->at && form_a->length == form_b->length));
    FUZZ_CHECK(!form_a ||
               (form_a->n == form_b->n && !memcmp(form_a->text, form_b->text, form_a->n)));
    FUZZ_CHECK(body_look_values(a, of_a) == body_look_values(b, of_b));
    for (unsigned i = 0; i < BODY_KEYS && body_look_values(a, of_a); i++) {
        FUZZ_CHECK(of_a[i].type == of_b[i].type);
        FUZZ_CHECK(str_eq(of_a[i].text, of_b[i].text));
    }
}

/* The same at any split. But libzstd undoes a frame that is there as a whole in one go, and then
 * gives nothing of a broken one, of which it gives a part elsewhere. */
static void at_any_split(struct str encoding, struct str bytes)
{
    struct body_look *first = look_at(encoding, bytes, FUZZ_WHOLE);

    FUZZ_CHECK(first->state != PACKED_UNKNOWN || str_eq(encoding, encodings[UNKNOWN]));
    for (enum fuzz_way way = FUZZ_BYTES; way < FUZZ_WAYS; way++) {
        struct body_look *other = look_at(encoding, bytes, way);

        if (!str_ieq(encoding, STR("zstd")) || (first->state == other->state))
            compare(first, other);
        body_look_free(other);
    }
    body_look_free(first);
}

/* Two frames where there is text for them (RFC 8878 3.1). */
static void zstd_text(struct str text, struct buf *out)
{
    size_t parts[] = {fuzz_pick(text, 4, text.n + 1), text.n}, at = 0;

    for (size_t i = 0; i < 2; at = parts[i++]) {
        size_t n = parts[i] - at, room = ZSTD_compressBound(n);
        char *frame = malloc(room);

        n = ZSTD_compress(frame, room, text.p + at, n, 1);
        FUZZ_CHECK(!ZSTD_isError(n) && buf_add(out, frame, n) == 0);
        free(frame);
    }
}

/* What an object says is read however it is packed, and it is known again; of a part of the bytes,
 * which is never taken for the whole, nothing is. A watch in a packed body has room for so much of
 * a value. */
static void round_trip(struct str text, unsigned encoding)
{
    struct json_value plain[BODY_KEYS], read[BODY_KEYS];
    struct body before, after;
    struct buf encoded;
    bool object;

    buf_init(&encoded, CAP);
    if (encoding == ZSTD)
        zstd_text(text, &encoded);
    else
        fuzz_deflate(text, window_bits[encoding], &encoded);
    receive(&before, STR(""), text);
    receive(&after, encodings[encoding], buf_str(&encoded));
    FUZZ_CHECK(body_packed_state(&after) == PACKED_READ);
    object = body_values(&before, plain) && json_valid(text) && json_oracle_comparable(text);
    if (object) {
        FUZZ_CHECK(body_values(&after, read));
        for (unsigned i = 0; i < BODY_KEYS; i++)
            FUZZ_CHECK(read[i].type == plain[i].type && str_starts(plain[i].text, read[i].text));
    }
    if (object &&
        body_fingerprint(&before) != fingerprint_of(text)) /* else it is nested too deep */
        FUZZ_CHECK(body_fingerprint(&after) == body_fingerprint(&before));
    body_deinit(&after);
    body_deinit(&before);

    struct str part = {encoded.p, 1 + fuzz_pick(text, 3, encoded.len - 1)};
    receive(&after, encodings[encoding], part);
    FUZZ_CHECK(body_packed_state(&after) == PACKED_READ ||
               body_packed_state(&after) == PACKED_BROKEN);
    body_deinit(&after);
    at_any_split(encodings[encoding], part);
    buf_deinit(&encoded);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str input = {(const char *)data, size};

    if (size == 0)
        return 0; /* a body that never came has no encoding */
    at_any_split(STR(""), input);
    for (unsigned i = 0; i < ENCODINGS; i++)
        at_any_split(encodings[i], input);
    for (unsigned i = 0; i < UNKNOWN; i++)
        round_trip(input, i);
    return 0;
}
