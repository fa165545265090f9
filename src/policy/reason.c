/* Maps the reasons to their words. */
#include "policy/reason.h"

#include <assert.h>

static const char *const words[] = {
#define X(constant, word) [REASON_##constant] = (word),
    REASONS(X)
#undef X
};

const char *reason_word(enum reason r)
{
    assert((unsigned)r < REASON_COUNT);
    return words[r];
}
