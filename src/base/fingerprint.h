/* Fingerprints of texts that arrive in pieces. The cuts between the pieces do not matter.
 *
 * The algorithm is XXH64 (Collet, 2014) from libxxhash. It hashes about ten bytes a nanosecond and
 * has no secret key. A fingerprint distinguishes texts within this process and is never stored. */
#ifndef RETRYD_BASE_FINGERPRINT_H
#define RETRYD_BASE_FINGERPRINT_H

#include <stdint.h>

#include "base/str.h"

struct fingerprint {
    uint64_t state[11]; /* the state of libxxhash */
};

void fingerprint_begin(struct fingerprint *f);
void fingerprint_feed(struct fingerprint *f, struct str piece);
/* Returns the fingerprint of everything fed so far. More may be fed afterwards. */
uint64_t fingerprint_end(const struct fingerprint *f);

/* Returns the fingerprint of a text in one piece. */
uint64_t fingerprint_of(struct str text);

#endif
