/* 64-bit hashes of short texts: table keys, and fingerprints of API keys.
 *
 * The algorithm is SipHash-2-4 (Aumasson and Bernstein, 2012) with a fixed key, except for
 * hash_keyed. A hash is the same on every machine and after every start, because daemons use hashes
 * to share their views. It reveals at most 64 bits of a text; API keys have more. */
#ifndef RETRYD_BASE_HASH_H
#define RETRYD_BASE_HASH_H

#include <stdint.h>

#include "base/str.h"

uint64_t hash_text(struct str s);

/* Returns a hash with the caller's key. If the key is secret, nobody can choose a text for its
 * hash. */
uint64_t hash_keyed(const uint64_t key[2], struct str s);

/* Returns a hash of two hashes. Their order matters. */
uint64_t hash_join(uint64_t a, uint64_t b);

/* --- fingerprints ----------------------------------------------------------------------------- */

/* Fingerprints of texts that arrive in pieces. The cuts between the pieces do not matter.
 *
 * The algorithm is XXH64 (Collet, 2014) from libxxhash. It hashes about ten bytes a nanosecond and
 * has no secret key. A fingerprint distinguishes texts within this process and is never stored. */

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
