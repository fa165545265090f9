/* Fingerprints of texts that come in pieces: the same however they are cut.
 *
 * XXH64 (Collet, 2014), from libxxhash: some ten bytes a nanosecond, and no secret in it. A fingerprint
 * tells texts apart within this process and is not stored anywhere. */
#ifndef RETRYD_BASE_FINGERPRINT_H
#define RETRYD_BASE_FINGERPRINT_H

#include <stdint.h>

#include "base/str.h"

struct fingerprint {
    uint64_t state[11]; /* libxxhash's own */
};

void fingerprint_begin(struct fingerprint *f);
void fingerprint_feed(struct fingerprint *f, struct str piece);
/* Of all that was fed so far; more may follow. */
uint64_t fingerprint_end(const struct fingerprint *f);

/* Of one piece. */
uint64_t fingerprint_of(struct str text);

#endif
