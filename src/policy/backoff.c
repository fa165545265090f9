/* Computes exponential delays with jitter, and applies a hint as their minimum. */
#include "policy/backoff.h"

/* Returns a uniform number in [0, most]. The bias of the modulo is below most / 2^64. */
static uint64_t upto(uint64_t most, uint64_t random)
{
    return most == UINT64_MAX ? random : random % (most + 1);
}

/* Returns the exact exponential. The loop stops at the maximum, so nothing overflows, and does not
 * start if multiplying changes nothing. */
static uint64_t exponential(const struct backoff_settings *b, unsigned attempts_made)
{
    double delay = (double)b->initial_delay_ms, max = (double)b->max_delay_ms;

    if (b->multiplier > 1 && b->initial_delay_ms > 0)
        for (unsigned n = 1; n < attempts_made && delay < max; n++)
            delay *= b->multiplier;
    return delay < max ? (uint64_t)delay : b->max_delay_ms;
}

uint64_t backoff_delay(const struct backoff_settings *b, unsigned attempts_made, uint64_t random)
{
    uint64_t delay = exponential(b, attempts_made);

    switch (b->jitter) {
    case JITTER_FULL:
        return upto(delay, random);
    case JITTER_EQUAL:
        return delay / 2 + upto(delay - delay / 2, random);
    case JITTER_NONE:
        break;
    }
    return delay;
}

uint64_t backoff_left(const struct backoff_settings *b, unsigned attempts_made,
                      unsigned max_attempts)
{
    unsigned n = attempts_made > 0 ? attempts_made : 1;
    uint64_t sum = 0;

    for (; n < max_attempts; n++) {
        uint64_t delay = exponential(b, n);

        if (delay > UINT64_MAX - sum)
            return UINT64_MAX;
        sum += delay;
    }
    return sum;
}

uint64_t backoff_with_hint(const struct backoff_settings *b, unsigned attempts_made,
                           const struct hint *hint, uint64_t random)
{
    uint64_t delay = backoff_delay(b, attempts_made, random);

    if (hint->source == HINT_NONE || hint->delay_ms <= delay)
        return delay;
    uint64_t above = upto(hint->delay_ms / 10 + 20, random);
    return above > UINT64_MAX - hint->delay_ms ? UINT64_MAX : hint->delay_ms + above;
}
