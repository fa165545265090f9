/* Undoes gzip and deflate with zlib. */
#include "exchange/decode.h"

#include <errno.h>
#include <limits.h>
#include <zlib.h>

#define PIECE 4096

static bool is_gzip(struct str coding)
{
    return str_ieq(coding, STR("gzip")) || str_ieq(coding, STR("x-gzip"));
}

bool decode_knows(struct str coding)
{
    return is_gzip(coding) || str_ieq(coding, STR("deflate")) || str_ieq(coding, STR("identity"));
}

/* Inflates until the text, the input or the room ends. A full piece may have more behind it, of
 * input that is taken in already. */
static int inflate_into(z_stream *z, struct buf *out)
{
    unsigned char piece[PIECE];
    int rc = Z_OK;

    while (rc == Z_OK && (z->avail_in > 0 || z->avail_out == 0)) {
        size_t room = out->cap - out->len;
        size_t got;

        z->next_out = piece;
        z->avail_out = sizeof(piece);
        rc = inflate(z, Z_NO_FLUSH);
        got = sizeof(piece) - z->avail_out;
        if (buf_add(out, piece, got < room ? got : room) == -ENOMEM)
            return -ENOMEM;
        if (got >= room)
            return 0;
    }
    if (rc == Z_MEM_ERROR)
        return -ENOMEM;
    return out->len > 0 || rc == Z_STREAM_END ? 0 : -EBADMSG;
}

static int inflate_body(int window_bits, struct str body, struct buf *out)
{
    z_stream z = {0};
    int rc;

    if (inflateInit2(&z, window_bits) != Z_OK)
        return -ENOMEM;
    z.next_in = (Bytef *)(uintptr_t)body.p;
    z.avail_in = body.n > UINT_MAX ? UINT_MAX : (uInt)body.n;
    rc = inflate_into(&z, out);
    inflateEnd(&z);
    return rc;
}

int decode_body(struct str coding, struct str body, struct buf *out)
{
    int rc;

    if (coding.n == 0 || str_ieq(coding, STR("identity"))) {
        size_t room = out->cap - out->len;

        return buf_add(out, body.p, body.n < room ? body.n : room);
    }
    if (is_gzip(coding))
        return inflate_body(MAX_WBITS + 16, body, out);
    if (!str_ieq(coding, STR("deflate")))
        return -EPROTONOSUPPORT;
    /* "deflate" is zlib's format; some servers send the bare stream all the same. */
    rc = inflate_body(MAX_WBITS, body, out);
    return rc == -EBADMSG ? inflate_body(-MAX_WBITS, body, out) : rc;
}
