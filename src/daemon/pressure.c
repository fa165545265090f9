/* One number for all workers: the bytes that requests hold. */
#include "daemon/pressure.h"

#include <stdatomic.h>

/* Shared by the threads as nothing else is; wrapping around while a worker's part is being added
 * and another's taken away does no harm, for the sum comes out right. */
static _Atomic uint64_t total;
static _Atomic uint64_t most;

void pressure_tell(size_t *told, size_t now)
{
    uint64_t change = (uint64_t)now - *told, sum, seen;

    if (change == 0)
        return;
    *told = now;
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
