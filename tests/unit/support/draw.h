/* What tests of many random steps draw: the same again for the same seed and number. */
#ifndef RETRYD_DRAW_H
#define RETRYD_DRAW_H

#include <stdbool.h>
#include <stdint.h>

/* Begins anew: what is drawn from now on depends on these two alone. */
void draw_begin(uint64_t seed, uint64_t number);

uint64_t draw(void);
uint64_t below(uint64_t n);
bool one_in(uint64_t n);
/* In half of all cases 0, else at least 1 and at most `most`. */
uint64_t maybe(uint64_t most);

/* check's own asserts write a mark each time, which is too slow here. Each such test has its own
 * `broken`, which tells the seed and ends the test. */
#define MUST(condition)                   \
    do {                                  \
        if (!(condition))                 \
            broken(#condition, __LINE__); \
    } while (0)

#endif
