/* The generic cell rate algorithm, in microseconds, and the search for a rate. */
#include "targets/pace.h"

#include <limits.h>

#include "base/clock.h"

/* --- a configured limit ----------------------------------------------------------------------- */

#define MINUTE_US 60e6
#define LONGEST_US ((uint64_t)1 << 60)

static uint64_t to_us(uint64_t ms)
{
    return ms > UINT64_MAX / 1000 ? UINT64_MAX : ms * 1000;
}

/* Returns the interval between two attempts, rounded up so that there are never more than the rate
 * allows. */
static uint64_t interval_us(double per_minute)
{
    double us = MINUTE_US / per_minute;

    if (us >= (double)LONGEST_US)
        return LONGEST_US;
    uint64_t whole = (uint64_t)us;
    return (double)whole < us ? whole + 1 : whole;
}

/* Returns how far ahead of its time an attempt may go: by all but one of those that may go at
 * once. */
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

/* --- adaptive pacing -------------------------------------------------------------------------- */

#define SECOND_MS 1000
#define SECOND_US 1000000

static double larger(double a, double b)
{
    return a > b ? a : b;
}

static uint64_t since(uint64_t then_ms, uint64_t now_ms)
{
    return now_ms > then_ms ? now_ms - then_ms : 0;
}

/* Moves the two counted seconds on to now. */
static void move_on(struct pace *p, uint64_t now_ms)
{
    uint64_t second = now_ms / SECOND_MS;

    if (second <= p->second)
        return;
    p->sent_before = second - p->second == 1 ? p->sent : 0;
    p->sent = 0;
    p->second = second;
}

/* No credit is saved from before the fall: the next attempt goes after a whole interval. */
static void fall_to(struct pace *p, double per_minute, uint64_t now_ms)
{
    p->per_minute = larger(per_minute, PACE_LEAST);
    p->fell_ms = now_ms;
    double interval_us = MINUTE_US / p->per_minute;
    rate_learn(&p->rate, interval_us > SECOND_US ? (uint64_t)interval_us : SECOND_US, now_ms);
}

static bool limited_while_off(struct pace *p, uint64_t now_ms)
{
    /* The attempts of this second, and a part of those of the one before. */
    double part = (double)(SECOND_MS - now_ms % SECOND_MS) / SECOND_MS, sent;

    if (p->limited == 0 || since(p->last_429_ms, now_ms) >= PACE_WINDOW_MS)
        p->limited = 0;
    p->limited++;
    p->last_429_ms = now_ms;
    if (p->limited < PACE_REPEATED)
        return false;

    move_on(p, now_ms);
    sent = 60 * ((double)p->sent + (double)p->sent_before * part);
    p->on = true;
    p->limited = 0;
    p->peak = larger(sent, PACE_LEAST);
    p->rate = (struct rate){0};
    fall_to(p, sent / 2, now_ms);
    return true;
}

static bool limited_while_on(struct pace *p, uint64_t now_ms)
{
    p->last_429_ms = now_ms;
    if (since(p->fell_ms, now_ms) < PACE_ROUND_MS)
        return false;
    fall_to(p, p->per_minute / 2, now_ms);
    return true;
}

/* A long gap counts as many rises as it has rounds. */
static bool rise(struct pace *p, uint64_t now_ms)
{
    uint64_t from_ms = p->rose_ms > p->last_429_ms ? p->rose_ms : p->last_429_ms;
    uint64_t rounds = since(from_ms, now_ms) / PACE_ROUND_MS;

    if (rounds == 0)
        return false;
    p->per_minute += (double)rounds * larger(p->peak / 20, PACE_LEAST);
    p->rose_ms = from_ms + rounds * PACE_ROUND_MS;
    if (p->per_minute >= 2 * p->peak)
        p->on = false;
    return true;
}

void pace_init(struct pace *p)
{
    *p = (struct pace){.on = false};
}

uint64_t pace_next(const struct pace *p, uint64_t now_ms)
{
    return p->on ? rate_next(&p->rate, p->per_minute, now_ms) : now_ms;
}

void pace_enter(struct pace *p, uint64_t now_ms)
{
    move_on(p, now_ms);
    if (p->sent < UINT_MAX)
        p->sent++;
    if (p->on)
        rate_take(&p->rate, p->per_minute, now_ms);
}

bool pace_leave(struct pace *p, bool limited, uint64_t now_ms)
{
    if (limited)
        return p->on ? limited_while_on(p, now_ms) : limited_while_off(p, now_ms);
    return p->on && rise(p, now_ms);
}
