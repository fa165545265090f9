/* The largest of many values within the last minute, kept by time: who reads it, and how often, changes
 * nothing. Any thread may note and read; where two note at once the larger one stays. */
#ifndef RETRYD_BASE_PEAK_H
#define RETRYD_BASE_PEAK_H

#include <stdatomic.h>
#include <stdint.h>

#define PEAK_SLOT_MS 10000
#define PEAK_SLOTS 7       /* what was noted counts for 60 s, and is gone after 70 */
#define PEAK_VALUE_BITS 40 /* a larger value counts as the largest there is */
#define PEAK_VALUE_MAX ((UINT64_C(1) << PEAK_VALUE_BITS) - 1)

/* Zeroed: nothing was noted. Each slot has the largest value of its time, below the number of that time
 * (24 bits, which come again after five years). */
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
