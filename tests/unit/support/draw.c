/* What tests of many random steps draw. */
#include "draw.h"

#include "fake_world.h"

static uint64_t drawing; /* the generator's state */

void draw_begin(uint64_t seed, uint64_t number)
{
    /* Far apart for neighbouring seeds, which would share all but one number otherwise. */
    drawing = (seed * UINT64_C(0xbf58476d1ce4e5b9) + number) * UINT64_C(0x9e3779b97f4a7c15) | 1;
    fake_random(&drawing);
}

uint64_t draw(void)
{
    return fake_random(&drawing);
}

uint64_t below(uint64_t n)
{
    return (draw() >> 32) % n;
}

bool one_in(uint64_t n)
{
    return below(n) == 0;
}

uint64_t maybe(uint64_t most)
{
    return one_in(2) ? 0 : 1 + below(most);
}
