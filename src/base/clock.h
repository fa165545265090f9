/* The monotonic clock, and sums of times that never overflow. UINT64_MAX is a time that never comes. */
#ifndef RETRYD_BASE_CLOCK_H
#define RETRYD_BASE_CLOCK_H

#include <stdint.h>

/* Milliseconds of CLOCK_MONOTONIC, the clock that libuv uses, too. */
uint64_t clock_now_ms(void);

static inline uint64_t clock_after(uint64_t now, uint64_t delay)
{
    return delay > UINT64_MAX - now ? UINT64_MAX : now + delay;
}

/* The same for a timeout, of which 0 is none. */
static inline uint64_t clock_timeout(uint64_t since, uint64_t timeout)
{
    return timeout ? clock_after(since, timeout) : UINT64_MAX;
}

#endif
