/* Compares sixteen bytes of a text at a time, in one register of SSE2 or NEON. */
#ifndef RETRYD_BASE_BYTES16_H
#define RETRYD_BASE_BYTES16_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

typedef unsigned char bytes16 __attribute__((vector_size(16)));

static inline bytes16 bytes16_load(const char *p)
{
    bytes16 b;

    memcpy(&b, p, sizeof(b));
    return b;
}

static inline bytes16 bytes16_all(char c)
{
    return (bytes16){0} + (unsigned char)c;
}

/* Returns 0xff for each byte that equals `c`, and 0 for the others. */
static inline bytes16 bytes16_are(bytes16 b, char c)
{
    return (bytes16)(b == bytes16_all(c));
}

#if defined(__SSE2__) && !defined(BYTES16_PORTABLE)

#include <emmintrin.h>

/* Returns the highest bit of each byte; the first byte's is the lowest bit. */
static inline unsigned bytes16_bits(bytes16 b)
{
    return (unsigned)_mm_movemask_epi8((__m128i)b);
}

#else

/* The multiplication moves each byte's bit to its place in the highest byte, without carries. */
static inline unsigned bytes16_bits(bytes16 b)
{
    uint64_t half[2];

    memcpy(half, &b, sizeof(half));
    for (int i = 0; i < 2; i++)
        half[i] = (le64toh(half[i]) >> 7 & 0x0101010101010101u) * 0x0102040810204080u >> 56;
    return (unsigned)(half[0] | half[1] << 8);
}

#endif

#endif
