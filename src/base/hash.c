/* Hashes: SipHash-2-4, as in its paper, and fingerprints by libxxhash. */
#include "base/hash.h"

#include <assert.h>
#include <string.h>

#define XXH_STATIC_LINKING_ONLY /* for the size of XXH64_state_t */
#include <xxhash.h>

/* The numbers are arbitrary but must never change: daemons of different versions share hashes. */
static const uint64_t fixed_key[2] = {UINT64_C(0x7265747279642068), UINT64_C(0x61736820206b6579)};

struct sip {
    uint64_t a, b, c, d;
};

static uint64_t rotl(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

static void rounds(struct sip *v, int n)
{
    while (n-- > 0) {
        v->a += v->b;
        v->c += v->d;
        v->b = rotl(v->b, 13) ^ v->a;
        v->d = rotl(v->d, 16) ^ v->c;
        v->a = rotl(v->a, 32);
        v->c += v->b;
        v->a += v->d;
        v->b = rotl(v->b, 17) ^ v->c;
        v->d = rotl(v->d, 21) ^ v->a;
        v->c = rotl(v->c, 32);
    }
}

static void mix(struct sip *v, uint64_t word)
{
    v->d ^= word;
    rounds(v, 2);
    v->a ^= word;
}

static uint64_t little_endian(const unsigned char *p, size_t n)
{
    uint64_t word = 0;

    for (size_t i = 0; i < n; i++)
        word |= (uint64_t)p[i] << (8 * i);
    return word;
}

static struct sip begin(const uint64_t key[2])
{
    return (struct sip){
        key[0] ^ UINT64_C(0x736f6d6570736575),
        key[1] ^ UINT64_C(0x646f72616e646f6d),
        key[0] ^ UINT64_C(0x6c7967656e657261),
        key[1] ^ UINT64_C(0x7465646279746573),
    };
}

static uint64_t end(struct sip *v, uint64_t last)
{
    mix(v, last);
    v->c ^= 0xff;
    rounds(v, 4);
    return v->a ^ v->b ^ v->c ^ v->d;
}

uint64_t hash_keyed(const uint64_t key[2], struct str s)
{
    struct sip v = begin(key);
    const unsigned char *p = (const unsigned char *)s.p;
    size_t n = s.n;

    for (; n >= 8; p += 8, n -= 8)
        mix(&v, little_endian(p, 8));
    return end(&v, little_endian(p, n) | (uint64_t)s.n << 56);
}

uint64_t hash_text(struct str s)
{
    return hash_keyed(fixed_key, s);
}

uint64_t hash_join(uint64_t a, uint64_t b)
{
    struct sip v = begin(fixed_key);

    mix(&v, a);
    mix(&v, b);
    return end(&v, UINT64_C(16) << 56);
}

/* --- fingerprints ----------------------------------------------------------------------------- */

static_assert(sizeof(XXH64_state_t) == sizeof(struct fingerprint), "the state fits");

static XXH64_state_t *state_of(struct fingerprint *f)
{
    return (XXH64_state_t *)(void *)f->state;
}

void fingerprint_begin(struct fingerprint *f)
{
    (void)XXH64_reset(state_of(f), 0);
}

void fingerprint_feed(struct fingerprint *f, struct str piece)
{
    if (piece.n > 0)
        (void)XXH64_update(state_of(f), piece.p, piece.n);
}

uint64_t fingerprint_end(const struct fingerprint *f)
{
    return XXH64_digest((const XXH64_state_t *)(const void *)f->state);
}

uint64_t fingerprint_of(struct str text)
{
    return text.n > 0 ? XXH64(text.p, text.n, 0) : XXH64("", 0, 0);
}
