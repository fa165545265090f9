/* Sums of the last seconds' requests and repeats, in buckets of half a second. */
#include "targets/budget.h"

#include <limits.h>

static uint64_t number_of(uint64_t now_ms)
{
    return now_ms / (BUDGET_WINDOW_MS / BUDGET_BUCKETS);
}

/* Returns the bucket for now, reset if its counts are old. */
static struct budget_bucket *bucket_at(struct budget *b, uint64_t now_ms)
{
    uint64_t number = number_of(now_ms);
    struct budget_bucket *bucket = &b->buckets[number % BUDGET_BUCKETS];

    if (bucket->number != number)
        *bucket = (struct budget_bucket){.number = number};
    return bucket;
}

static void increment(unsigned *n)
{
    if (*n < UINT_MAX)
        ++*n;
}

void budget_init(struct budget *b)
{
    *b = (struct budget){0};
}

void budget_request(struct budget *b, uint64_t now_ms)
{
    increment(&bucket_at(b, now_ms)->requests);
}

void budget_charge(struct budget *b, uint64_t now_ms)
{
    increment(&bucket_at(b, now_ms)->repeats);
}

bool budget_repeat(struct budget *b, unsigned percent, unsigned min, uint64_t now_ms)
{
    if (budget_left(b, percent, min, now_ms) == 0)
        return false;
    budget_charge(b, now_ms);
    return true;
}

void budget_count(const struct budget *b, uint64_t now_ms, uint64_t *ret_requests,
                  uint64_t *ret_repeats)
{
    uint64_t number = number_of(now_ms), requests = 0, repeats = 0;

    for (unsigned i = 0; i < BUDGET_BUCKETS; i++) {
        if (number - b->buckets[i].number >= BUDGET_BUCKETS)
            continue;
        requests += b->buckets[i].requests;
        repeats += b->buckets[i].repeats;
    }
    *ret_requests = requests;
    *ret_repeats = repeats;
}

/* No overflow: a hundredth of 20 sums of 32 bits, times a percentage of 32 bits, is below 2^62. */
unsigned budget_left(const struct budget *b, unsigned percent, unsigned min, uint64_t now_ms)
{
    uint64_t requests, repeats;

    budget_count(b, now_ms, &requests, &repeats);
    uint64_t room = requests / 100 * percent + requests % 100 * percent / 100 +
                    (uint64_t)min * (BUDGET_WINDOW_MS / 1000);
    if (room <= repeats)
        return 0;
    return room - repeats < UINT_MAX ? (unsigned)(room - repeats) : UINT_MAX;
}
