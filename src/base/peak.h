/* The largest value of the last minute. Reading does not reset it, so any number of readers may
 * poll. Thread-safe: if two threads note values at once, the larger one is kept. */
#ifndef RETRYD_BASE_PEAK_H
#define RETRYD_BASE_PEAK_H

#include <stdatomic.h>
#include <stdint.h>

#define PEAK_SLOT_MS 10000
#define PEAK_SLOTS 7       /* a value counts for at least 60 s and at most 70 s */
#define PEAK_VALUE_BITS 40 /* larger values are cut to PEAK_VALUE_MAX */
#define PEAK_VALUE_MAX ((UINT64_C(1) << PEAK_VALUE_BITS) - 1)

/* A zeroed struct has no values. Each slot holds the number of its 10 s period in the upper 24
 * bits, which wrap after five years, and the largest value of that period below. */
struct peak {
    _Atomic uint64_t slots[PEAK_SLOTS];
};

static inline uint64_t peak_number(uint64_t now_ms)
{
    return (now_ms / PEAK_SLOT_MS) & (UINT64_MAX >> PEAK_VALUE_BITS);
}

static inline void peak_note(struct peak *p, uint64_t value, uint64_t now_ms)
{
    uint64_t number = peak_number(now_ms);
    uint64_t now = number << PEAK_VALUE_BITS | (value < PEAK_VALUE_MAX ? value : PEAK_VALUE_MAX);
    _Atomic uint64_t *slot = &p->slots[now_ms / PEAK_SLOT_MS % PEAK_SLOTS];
    uint64_t before = atomic_load_explicit(slot, memory_order_relaxed);

    while ((before >> PEAK_VALUE_BITS != number || before < now) &&
           !atomic_compare_exchange_weak_explicit(slot, &before, now, memory_order_relaxed,
                                                  memory_order_relaxed))
        ;
}

static inline uint64_t peak_read(struct peak *p, uint64_t now_ms)
{
    uint64_t number = peak_number(now_ms), most = 0;

    for (unsigned i = 0; i < PEAK_SLOTS; i++) {
        uint64_t slot = atomic_load_explicit(&p->slots[i], memory_order_relaxed);
        uint64_t age = (number - (slot >> PEAK_VALUE_BITS)) & (UINT64_MAX >> PEAK_VALUE_BITS);
        uint64_t value = slot & PEAK_VALUE_MAX;

        if (age < PEAK_SLOTS && value > most)
            most = value;
    }
    return most;
}

#endif
