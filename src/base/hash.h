/* 64-bit hashes of short texts: table keys, and fingerprints of API keys.
 *
 * The algorithm is SipHash-2-4 (Aumasson and Bernstein, 2012) with a fixed key, but for hash_keyed. A hash is the same
 * on every machine and after every start, because daemons use hashes to share what they know. It
 * reveals at most 64 bits of a text; API keys have more. */
#ifndef RETRYD_BASE_HASH_H
#define RETRYD_BASE_HASH_H

#include <stdint.h>

#include "base/str.h"

uint64_t hash_text(struct str s);

/* Returns a hash with a key of one's own. If nobody else knows the key, nobody can choose a text for
 * its hash. */
uint64_t hash_keyed(const uint64_t key[2], struct str s);

/* Returns a hash of two hashes. Their order matters. */
uint64_t hash_join(uint64_t a, uint64_t b);

#endif
