/* The generic cell rate algorithm, in microseconds. */
#include "targets/rate.h"

#include "base/clock.h"

#define MINUTE_US 60e6
#define LONGEST_US ((uint64_t)1 << 60)

static uint64_t to_us(uint64_t ms)
{
    return ms > UINT64_MAX / 1000 ? UINT64_MAX : ms * 1000;
}

/* Between two attempts, rounded up so that there are never more than the rate allows. */
static uint64_t interval_us(double per_minute)
{
    double us = MINUTE_US / per_minute;

    if (us >= (double)LONGEST_US)
        return LONGEST_US;
    uint64_t whole = (uint64_t)us;
    return (double)whole < us ? whole + 1 : whole;
}

/* How far ahead of its time one may go: by all but one of those that may go at once. */
static uint64_t tolerance_us(double per_minute)
{
    double second = per_minute / 60;

    if (second < 2)
        return 0;
    if (second > 1e6)
        second = 1e6;
    return ((uint64_t)second - 1) * interval_us(per_minute);
}

uint64_t rate_next(const struct rate *r, double per_minute, uint64_t now_ms)
{
    if (!(per_minute > 0) || r->tat_us == 0)
        return now_ms;

    uint64_t tolerance = tolerance_us(per_minute);
    uint64_t at_us = r->tat_us > tolerance ? r->tat_us - tolerance : 0;
    return at_us / 1000 + (at_us % 1000 > 0);
}

void rate_take(struct rate *r, double per_minute, uint64_t now_ms)
{
    uint64_t now_us = to_us(now_ms);

    if (!(per_minute > 0))
        return;
    r->tat_us = clock_after(r->tat_us > now_us ? r->tat_us : now_us, interval_us(per_minute));
}

void rate_learn(struct rate *r, uint64_t ahead_us, uint64_t now_ms)
{
    uint64_t tat_us = clock_after(to_us(now_ms), ahead_us);

    if (tat_us > r->tat_us)
        r->tat_us = tat_us;
}
