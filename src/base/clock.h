/* The monotonic clock, and additions of times that never overflow. UINT64_MAX means "never". */
#ifndef RETRYD_BASE_CLOCK_H
#define RETRYD_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

/* Returns CLOCK_MONOTONIC in milliseconds. libuv uses the same clock. */
static inline uint64_t clock_now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Returns CLOCK_REALTIME in milliseconds. */
static inline uint64_t clock_unix_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static inline uint64_t clock_after(uint64_t now, uint64_t delay)
{
    return delay > UINT64_MAX - now ? UINT64_MAX : now + delay;
}

/* Like clock_after, for a timeout: 0 means that there is none. */
static inline uint64_t clock_timeout(uint64_t since, uint64_t timeout)
{
    return timeout ? clock_after(since, timeout) : UINT64_MAX;
}

#endif
