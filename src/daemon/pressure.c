/* One atomic sum of the bytes that requests hold, for all workers. */
#include "daemon/pressure.h"

#include <stdatomic.h>

/* All threads update it. It may wrap around between one worker's addition
 * and another's subtraction, which is harmless. */
static _Atomic uint64_t total;
static _Atomic uint64_t most;

void pressure_report(size_t *reported, size_t now)
{
    uint64_t change = (uint64_t)now - *reported, sum, seen;

    if (change == 0)
        return;
    *reported = now;
    sum = atomic_fetch_add_explicit(&total, change, memory_order_relaxed) + change;
    seen = atomic_load_explicit(&most, memory_order_relaxed);
    while (sum > seen && !atomic_compare_exchange_weak_explicit(
                             &most, &seen, sum, memory_order_relaxed, memory_order_relaxed))
        ;
}

uint64_t pressure_now(void)
{
    return atomic_load_explicit(&total, memory_order_relaxed);
}

uint64_t pressure_most(void)
{
    return atomic_load_explicit(&most, memory_order_relaxed);
}

bool pressure_is_high(uint64_t bytes, uint64_t cap)
{
    return bytes > cap / 2;
}

bool pressure_is_full(uint64_t bytes, uint64_t cap)
{
    return bytes >= cap / 100 * 95;
}

bool pressure_is_over(uint64_t bytes, uint64_t cap)
{
    return bytes >= cap;
}
