/* Decodes the content encoding of a response or request body, to read its content. */
#ifndef RETRYD_HTTP_DECODE_H
#define RETRYD_HTTP_DECODE_H

#include <stdbool.h>
#include <zlib.h>
#include <zstd.h>

#include "base/buf.h"
#include "base/str.h"

/* Decodes a body that arrives in pieces. Supported values of Content-Encoding (RFC 9110, 8.4.1; any
 * case) are gzip and x-gzip, with one or more members; deflate, in zlib's format or, as some
 * servers send it, raw; and identity, also written as "". zstd is supported for requests only.
 *
 * A decoder uses about 40 KiB, whatever the length of the body; for zstd up to 8 MiB. */
struct decoder {
    z_stream z; /* zlib keeps a pointer to it, so a decoder must not be moved */
    ZSTD_DCtx *zstd;
    unsigned char form;
    bool open;               /* z or zstd must be freed */
    bool whole;              /* the encoded stream has reached its end */
    bool over;               /* further input is ignored */
    int error;               /* of the first decoder_feed that failed */
    unsigned char header[2]; /* deflate: the first bytes, which show its format */
    unsigned char header_len;
};

/* Sets up a decoder. Returns 0, -ENOMEM, or -EPROTONOSUPPORT for any other encoding and for several
 * at once. After an error decoder_deinit is allowed but not needed. */
int decoder_init(struct decoder *d, struct str encoding);
/* Like decoder_init, but also supports zstd (RFC 8878), with one or more frames and a window of at
 * most 8 MiB, the limit of RFC 9659. */
int decoder_init_request(struct decoder *d, struct str encoding);
void decoder_deinit(struct decoder *d);

/* Ignores all further input. A sink may call this. */
void decoder_stop(struct decoder *d);

/* Returns the approximate memory that the decoder uses, in bytes. */
size_t decoder_memory(const struct decoder *d);

/* Decodes the next piece and passes the text to `sink`, in non-empty pieces of any size that are
 * valid only during the call. Bytes after the end of the encoded stream are ignored. Returns 0,
 * -ENOMEM, or -EBADMSG if the bytes are not valid in this encoding. The text before an error has
 * been passed on, and every later call returns the same error. */
int decoder_feed(struct decoder *d, struct str encoded, void (*sink)(void *arg, struct str plain),
                 void *arg);

/* Whether the body may end here: the end of the encoded stream was seen and there was no error.
 * Always true for identity. */
bool decoder_whole(const struct decoder *d);

/* Decodes a complete `body` and appends the text to `out`, cut to the room that `out` has. A body
 * that ends early also gives 0, with the text so far. Returns -EPROTONOSUPPORT as decoder_init
 * does, -EBADMSG if nothing could be decoded, or -ENOMEM. */
int decode_body(struct str encoding, struct str body, struct buf *out);

/* Whether retryd can decode a response in that encoding. "identity" is known, "" is not. */
bool decode_knows(struct str encoding);

#endif
