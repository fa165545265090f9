/* Undoes the content coding of an answer, or of a request, as far as needed to understand what is in it. */
#ifndef RETRYD_HTTP_DECODE_H
#define RETRYD_HTTP_DECODE_H

#include <stdbool.h>
#include <zlib.h>
#include <zstd.h>

#include "base/buf.h"
#include "base/str.h"

/* Decodes a body that comes in pieces. Codings (RFC 9110 8.4.1, values of Content-Encoding, any
 * case): gzip and x-gzip, one member or several; deflate, in zlib's format or, as some servers send
 * it, bare; identity, which "" stands for as well. Of a coded body's text about 40 KiB are in
 * memory at a time, whatever its length; of zstd, which only requests are read in, up to 8 MiB. */
struct decoder {
    z_stream z; /* zlib keeps a pointer to it: a decoder must not be moved */
    ZSTD_DCtx *zstd;
    unsigned char form;
    bool open;             /* z or zstd is to be ended */
    bool whole;            /* the coded stream said that it ended */
    bool over;             /* ... and what comes now is ignored */
    int error;             /* of the first failed feed; sticks */
    unsigned char head[2]; /* deflate: the bytes that tell its format */
    unsigned char head_len;
};

/* 0, -EPROTONOSUPPORT for other codings and for several at once, -ENOMEM. After a failure there is
 * nothing to deinit, and it is fine to do so. */
int decoder_init(struct decoder *d, struct str encoding);
/* As decoder_init, and zstd (RFC 8878), one frame or several, with a window of 8 MiB at most, as
 * RFC 9659 has it. */
int decoder_init_request(struct decoder *d, struct str encoding);
void decoder_deinit(struct decoder *d);

/* Nothing more is decoded, from within a sink too: what comes from now on is ignored. */
void decoder_stop(struct decoder *d);

/* Bytes of memory that it takes, about. */
size_t decoder_memory(const struct decoder *d);

/* Decodes the next piece and hands the text to `sink`, in pieces of any size but 0, which are valid
 * only during the call. Bytes behind the coded stream's end are ignored. 0; -EBADMSG where the
 * bytes are not of that coding, -ENOMEM; what could be read was handed over before, and every later
 * call fails in the same way. */
int decoder_feed(struct decoder *d, struct str coded, void (*sink)(void *arg, struct str plain),
                 void *arg);

/* Whether the body may end here: its coding's end was there. Always so for identity. */
bool decoder_whole(const struct decoder *d);

/* Decodes `body` by `coding` and appends at most what `out` has room for; a longer text is cut
 * there. 0 also for a body that ends early: what could be read is there. -EPROTONOSUPPORT for
 * other codings and for several at once, -EBADMSG where nothing could be read, -ENOMEM. */
int decode_body(struct str encoding, struct str body, struct buf *out);

/* Whether retryd can read that coding: those above, and identity by its name only. */
bool decode_knows(struct str encoding);

#endif
