/* Cuts inputs into pieces, and packs them. */
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <zlib.h>

_Noreturn void fuzz_fail(const char *what, const char *file, int line)
{
    (void)fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, what);
    abort();
}

/* FNV-1a, and splitmix64's finish. */
static uint64_t hash(struct str s, uint64_t h)
{
    h ^= 0xcbf29ce484222325u;
    for (size_t i = 0; i < s.n; i++)
        h = (h ^ (unsigned char)s.p[i]) * 0x100000001b3u;
    return h;
}

static uint64_t next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

size_t fuzz_pick(struct str input, unsigned salt, size_t n)
{
    uint64_t state = hash(input, salt);

    return (size_t)(next(&state) % n);
}

void fuzz_cut(struct fuzz_cutter *c, enum fuzz_way way, struct str input)
{
    *c = (struct fuzz_cutter){.way = way, .state = hash(input, 0), .rest = input};
}

/* Mostly small pieces, for they end in the middle of things; at times long ones and empty ones. */
static size_t piece_length(struct fuzz_cutter *c)
{
    uint64_t r;

    switch (c->way) {
    case FUZZ_BYTES:
        return 1;
    case FUZZ_RANDOM:
        r = next(&c->state);
        return (size_t)(r >> 8) % (r % 4 ? 12 : 200);
    default:
        return c->rest.n;
    }
}

bool fuzz_piece(struct fuzz_cutter *c, struct str *ret_piece)
{
    free(c->piece);
    c->piece = NULL;
    if (c->rest.n == 0)
        return false;

    size_t n = piece_length(c);
    if (n > c->rest.n)
        n = c->rest.n;
    c->piece = malloc(n ? n : 1);
    if (!c->piece)
        abort();
    memcpy(c->piece, c->rest.p, n);
    c->rest = (struct str){c->rest.p + n, c->rest.n - n};
    *ret_piece = (struct str){c->piece, n};
    return true;
}

void fuzz_deflate(struct str text, int window_bits, struct buf *out)
{
    unsigned char space[1024];
    z_stream z = {0};
    int rc = Z_OK;

    FUZZ_CHECK(deflateInit2(&z, (int)fuzz_pick(text, 2, 10), Z_DEFLATED, window_bits, 1,
                            Z_DEFAULT_STRATEGY) == Z_OK);
    z.next_in = (Bytef *)(uintptr_t)text.p;
    z.avail_in = (uInt)text.n;
    while (rc != Z_STREAM_END) {
        z.next_out = space;
        z.avail_out = sizeof space;
        rc = deflate(&z, Z_FINISH);
        FUZZ_CHECK(rc == Z_OK || rc == Z_STREAM_END);
        FUZZ_CHECK(buf_add(out, space, sizeof space - z.avail_out) == 0);
    }
    deflateEnd(&z);
}
