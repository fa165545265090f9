/* What the fuzz targets share: how an input is cut into pieces, and how a target says no. */
#ifndef RETRYD_FUZZ_H
#define RETRYD_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"

/* The one function of a target, called by libFuzzer, or by replay.c for each file of the corpus. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Ends the run where `cond` does not hold; stays on in every build. */
#define FUZZ_CHECK(cond) ((cond) ? (void)0 : fuzz_fail(#cond, __FILE__, __LINE__))
_Noreturn void fuzz_fail(const char *what, const char *file, int line);

/* Ways to cut an input into pieces. They depend on nothing but the input, so that every input can be
 * replayed, and a file of the corpus is what comes over the wire and no more. */
enum fuzz_way {
    FUZZ_WHOLE,
    FUZZ_BYTES,  /* one by one */
    FUZZ_RANDOM, /* by a hash of the input */
    FUZZ_WAYS,
};

struct fuzz_cutter {
    enum fuzz_way way;
    uint64_t state;
    struct str rest;
    char *piece; /* the last one, in memory of its own: a sanitizer sees a read beyond it */
};

void fuzz_cut(struct fuzz_cutter *c, enum fuzz_way way, struct str input);

/* The next piece, valid until the next call. False at the end, and all is freed then. */
bool fuzz_piece(struct fuzz_cutter *c, struct str *ret_piece);

/* A number below `n` that depends on `input` and `salt` alone. */
size_t fuzz_pick(struct str input, unsigned salt, size_t n);

/* Appends `text` as deflate has it, in the format of `window_bits` as deflateInit2 takes them; the level
 * depends on the text. A small window and little memory, for the fuzzer's sake. */
void fuzz_deflate(struct str text, int window_bits, struct buf *out);

#endif
