/* Computes fingerprints with libxxhash. */
#include "base/fingerprint.h"

#include <assert.h>

#define XXH_STATIC_LINKING_ONLY /* for the size of XXH64_state_t */
#include <xxhash.h>

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
