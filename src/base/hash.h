/* 64-bit hashes of short texts: names under which things are kept, fingerprints of keys.
 *
 * SipHash-2-4 (Aumasson and Bernstein, 2012) with a fixed key: the same on every machine and after
 * every start, for daemons share what they know under these. At most 64 bits of a text can be told
 * from its hash; API keys have more. */
#ifndef RETRYD_BASE_HASH_H
#define RETRYD_BASE_HASH_H

#include <stdint.h>

#include "base/str.h"

uint64_t hash_text(struct str s);

/* A hash of two hashes; their order matters. */
uint64_t hash_join(uint64_t a, uint64_t b);

#endif
