/* Decodes gzip and deflate with zlib, and zstd with libzstd. */
#include "http/decode.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <zstd_errors.h>

#define PIECE 4096

/* The number of encoded bytes that decode_body feeds at a time. zlib's highest ratio is about 1030,
 * so at most half a MiB of text is decoded in vain before the output is seen to be full. */
#define STEP 512

#define ZSTD_WINDOW_LOG 23 /* 8 MiB, the limit of RFC 9659 for the content encoding */
#define INFLATE_MEMORY (40u * 1024)

enum form { IDENTITY, GZIP, DEFLATE, ZSTANDARD };

/* Returns false for an encoding that is not supported in responses. */
static bool form_of(struct str encoding, enum form *ret_form)
{
    if (str_ieq(encoding, STR("gzip")) || str_ieq(encoding, STR("x-gzip")))
        *ret_form = GZIP;
    else if (str_ieq(encoding, STR("deflate")))
        *ret_form = DEFLATE;
    else if (str_ieq(encoding, STR("identity")))
        *ret_form = IDENTITY;
    else
        return false;
    return true;
}

bool decode_knows(struct str encoding)
{
    enum form form;

    return form_of(encoding, &form);
}

/* Like zlib's own functions, but in this file, so that the tests can make them fail. */
static void *allocate(void *arg, unsigned items, unsigned size)
{
    (void)arg;
    return malloc((size_t)items * size);
}

static void release(void *arg, void *p)
{
    (void)arg;
    free(p);
}

int decoder_init(struct decoder *d, struct str encoding)
{
    enum form form = IDENTITY;

    *d = (struct decoder){.z = {.zalloc = allocate, .zfree = release}};
    if (encoding.n > 0 && !form_of(encoding, &form))
        return -EPROTONOSUPPORT;
    d->form = (unsigned char)form;
    d->whole = form == IDENTITY;
    if (form == IDENTITY)
        return 0;
    if (inflateInit2(&d->z, form == GZIP ? MAX_WBITS + 16 : MAX_WBITS) != Z_OK)
        return -ENOMEM;
    d->open = true;
    return 0;
}

int decoder_init_request(struct decoder *d, struct str encoding)
{
    if (!str_ieq(encoding, STR("zstd")))
        return decoder_init(d, encoding);
    *d = (struct decoder){.form = ZSTANDARD, .zstd = ZSTD_createDCtx()};
    d->open = d->zstd != NULL;
    if (!d->open)
        return -ENOMEM;
    (void)ZSTD_DCtx_setParameter(d->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG);
    return 0;
}

void decoder_deinit(struct decoder *d)
{
    if (d->open && d->form == ZSTANDARD)
        ZSTD_freeDCtx(d->zstd);
    else if (d->open)
        inflateEnd(&d->z);
    d->open = false;
}

void decoder_stop(struct decoder *d)
{
    d->over = true;
}

size_t decoder_memory(const struct decoder *d)
{
    if (!d->open)
        return 0;
    return d->form == ZSTANDARD ? ZSTD_sizeof_DCtx(d->zstd) : INFLATE_MEMORY;
}

/* --- gzip and deflate ------------------------------------------------------------------------- */

struct sink {
    void (*put)(void *arg, struct str plain);
    void *arg;
};

/* Handles the input after the end of a stream: another gzip member (RFC 1952, 2.2), or bytes that
 * are ignored, as clients do. Returns whether there is a member to decode. */
static bool go_on_behind_end(struct decoder *d)
{
    if (d->z.avail_in == 0)
        return false;
    if (d->over || d->form != GZIP || d->z.next_in[0] != 0x1f) {
        d->over = true;
        return false;
    }
    d->whole = false;
    return inflateReset(&d->z) == Z_OK;
}

static int error_of(int rc)
{
    switch (rc) {
    case Z_OK:
    case Z_STREAM_END:
    case Z_BUF_ERROR: /* more input is needed */
        return 0;
    case Z_MEM_ERROR:
        return -ENOMEM;
    default:
        return -EBADMSG;
    }
}

/* Inflates until the input or the stream ends. If the output is full, zlib may hold more text of
 * input that it has already taken. */
static int inflate_piece(struct decoder *d, const struct sink *sink)
{
    unsigned char piece[PIECE];

    do {
        d->z.next_out = piece;
        d->z.avail_out = sizeof piece;
        int rc = inflate(&d->z, Z_NO_FLUSH);
        size_t got = sizeof piece - d->z.avail_out;

        if (got > 0)
            sink->put(sink->arg, (struct str){(const char *)piece, got});
        if (error_of(rc) < 0)
            return error_of(rc);
        if (rc == Z_STREAM_END) {
            d->whole = true;
            if (!go_on_behind_end(d))
                return 0;
        }
    } while (!d->over && (d->z.avail_in > 0 || d->z.avail_out == 0));
    return 0;
}

static int feed_bytes(struct decoder *d, const unsigned char *p, size_t n, const struct sink *sink)
{
    while (n > 0 && !d->over) {
        uInt now = n > UINT_MAX ? UINT_MAX : (uInt)n;

        d->z.next_in = (Bytef *)(uintptr_t)p;
        d->z.avail_in = now;
        if (d->whole && !go_on_behind_end(d))
            return 0;
        int r = inflate_piece(d, sink);
        if (r < 0)
            return r;
        p += now;
        n -= now;
    }
    return 0;
}

/* --- zstd ------------------------------------------------------------------------------------- */

/* Decodes until the input ends. Full output may mean more text, as above, except at the end of a
 * frame. Another frame may follow. */
static int feed_zstd(struct decoder *d, struct str encoded, const struct sink *sink)
{
    char piece[PIECE];
    ZSTD_inBuffer in = {encoded.p, encoded.n, 0};
    ZSTD_outBuffer out;

    do {
        out = (ZSTD_outBuffer){piece, sizeof piece, 0};
        size_t rc = ZSTD_decompressStream(d->zstd, &out, &in);

        if (out.pos > 0)
            sink->put(sink->arg, (struct str){piece, out.pos});
        if (ZSTD_isError(rc))
            return ZSTD_getErrorCode(rc) == ZSTD_error_memory_allocation ? -ENOMEM : -EBADMSG;
        d->whole = rc == 0;
    } while (!d->over && (in.pos < in.size || (out.pos == out.size && !d->whole)));
    return 0;
}

/* --- zlib's format or raw deflate ------------------------------------------------------------- */

/* RFC 1950, 2.2: method 8, a window of at most 32 KiB, no dictionary, a multiple of 31. Raw deflate
 * could start like this only with a stored block whose padding is not zero. */
static bool is_zlib_header(const unsigned char header[2])
{
    return (header[0] & 0x0f) == 8 && header[0] >> 4 <= 7 && !(header[1] & 0x20) &&
           (header[0] * 256 + header[1]) % 31 == 0;
}

/* Collects the first two bytes, then sets zlib up for the format that they show. */
static int take_header(struct decoder *d, struct str *encoded, const struct sink *sink)
{
    while (d->header_len < sizeof d->header && encoded->n > 0) {
        d->header[d->header_len++] = (unsigned char)encoded->p[0];
        *encoded = str_after(*encoded, 1);
        if (d->header_len < sizeof d->header)
            continue;
        if (!is_zlib_header(d->header) && inflateReset2(&d->z, -MAX_WBITS) != Z_OK)
            return -ENOMEM;
        return feed_bytes(d, d->header, sizeof d->header, sink);
    }
    return 0;
}

int decoder_feed(struct decoder *d, struct str encoded, void (*sink)(void *arg, struct str plain),
                 void *arg)
{
    struct sink to = {sink, arg};

    if (d->form == IDENTITY) {
        if (encoded.n > 0)
            sink(arg, encoded);
        return 0;
    }
    if (d->error == 0 && d->form == ZSTANDARD) {
        if (encoded.n > 0 && !d->over)
            d->error = feed_zstd(d, encoded, &to);
        return d->error;
    }
    if (d->error == 0 && d->form == DEFLATE)
        d->error = take_header(d, &encoded, &to);
    if (d->error == 0)
        d->error = feed_bytes(d, (const unsigned char *)encoded.p, encoded.n, &to);
    return d->error;
}

bool decoder_whole(const struct decoder *d)
{
    return d->whole && d->error == 0;
}

/* --- a complete body -------------------------------------------------------------------------- */

struct room {
    struct buf *out;
    size_t got;
    int error;
};

static void add_to_room(void *arg, struct str plain)
{
    struct room *room = arg;
    size_t left = room->out->cap - room->out->len;
    size_t n = plain.n < left ? plain.n : left;

    if (room->error == 0)
        room->error = buf_add(room->out, plain.p, n);
    room->got += plain.n;
}

int decode_body(struct str encoding, struct str body, struct buf *out)
{
    struct room room = {.out = out};
    struct decoder d;
    int r = decoder_init(&d, encoding);
    size_t step = d.form == IDENTITY ? body.n : STEP;

    if (r < 0)
        return r;
    while (r == 0 && body.n > 0 && room.error == 0 && out->len < out->cap) {
        size_t n = body.n < step ? body.n : step;

        r = decoder_feed(&d, (struct str){body.p, n}, add_to_room, &room);
        body = str_after(body, n);
    }
    if (room.error < 0 || r == -ENOMEM)
        r = -ENOMEM;
    else
        r = room.got > 0 || decoder_whole(&d) || out->len == out->cap ? 0 : -EBADMSG;
    decoder_deinit(&d);
    return r;
}
