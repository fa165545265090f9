/* Counts the results of attempts, and lets single probes find out when an upstream is back. */
#include "targets/breaker.h"

#include <limits.h>

#include "base/clock.h"

static void open_until(struct breaker *b, uint64_t until_ms)
{
    b->phase = BREAKER_OPEN;
    b->until_ms = until_ms;
    b->generation++;
}

static void close_it(struct breaker *b)
{
    b->phase = BREAKER_CLOSED;
    b->generation++;
    b->in_a_row = 0;
    for (unsigned i = 0; i < BREAKER_BUCKETS; i++)
        b->buckets[i] = (struct breaker_bucket){0};
}

/* Buckets whose numbers are not in the window are old, or of a window of another length. */
static bool too_many_fail(const struct breaker *b, const struct breaker_settings *s,
                          uint64_t number)
{
    uint64_t ended = 0, failed = 0;

    if (s->failures > 0 && b->in_a_row >= s->failures)
        return true;
    if (s->failure_rate_percent == 0)
        return false;
    for (unsigned i = 0; i < BREAKER_BUCKETS; i++) {
        if (number - b->buckets[i].number >= BREAKER_BUCKETS)
            continue;
        ended += b->buckets[i].ended;
        failed += b->buckets[i].failed;
    }
    return ended >= BREAKER_VOLUME && failed * 100 >= ended * s->failure_rate_percent;
}

void breaker_init(struct breaker *b)
{
    *b = (struct breaker){.phase = BREAKER_CLOSED};
}

uint64_t breaker_next(const struct breaker *b, uint64_t now_ms)
{
    return b->phase == BREAKER_CLOSED ? now_ms : b->until_ms;
}

struct breaker_pass breaker_enter(struct breaker *b, const struct breaker_settings *s,
                                  uint64_t now_ms)
{
    if (b->phase == BREAKER_CLOSED)
        return (struct breaker_pass){b->generation, false};
    if (now_ms < b->until_ms)
        return (struct breaker_pass){b->generation - 1, false};
    b->phase = BREAKER_HALF_OPEN;
    b->until_ms = clock_after(now_ms, s->open_for_ms);
    b->generation++;
    return (struct breaker_pass){b->generation, true};
}

/* Each opening, probe and closing has its own generation, so a pass whose generation matches
 * implies the phase: HALF_OPEN for a probe, else CLOSED. */
enum breaker_change breaker_leave(struct breaker *b, const struct breaker_settings *s,
                                  struct breaker_pass pass, enum breaker_news news, uint64_t now_ms)
{
    uint64_t unit_ms = s->window_ms / BREAKER_BUCKETS, number = now_ms / (unit_ms ? unit_ms : 1);

    if (pass.generation != b->generation || news == BREAKER_NO_NEWS)
        return BREAKER_STAYS;
    if (pass.probe) {
        if (news == BREAKER_GOOD) {
            close_it(b);
            return BREAKER_CLOSES;
        }
        open_until(b, clock_after(now_ms, s->open_for_ms));
        return BREAKER_OPENS_AGAIN;
    }
    bool bad = news == BREAKER_BAD;
    struct breaker_bucket *bucket = &b->buckets[number % BREAKER_BUCKETS];
    if (bucket->number != number)
        *bucket = (struct breaker_bucket){.number = number};
    if (bucket->ended < UINT_MAX) {
        bucket->ended++;
        bucket->failed += bad;
    }
    if (!bad)
        b->in_a_row = 0;
    else if (b->in_a_row < UINT_MAX)
        b->in_a_row++;
    if (news == BREAKER_GOOD || !too_many_fail(b, s, number))
        return BREAKER_STAYS;
    open_until(b, clock_after(now_ms, s->open_for_ms));
    return BREAKER_OPENS;
}

bool breaker_learn_open(struct breaker *b, uint64_t for_ms, uint64_t now_ms)
{
    uint64_t until_ms = clock_after(now_ms, for_ms);

    if (for_ms == 0)
        return false;
    if (b->phase == BREAKER_CLOSED) {
        open_until(b, until_ms);
        return true;
    }
    if (until_ms <= b->until_ms)
        return false;
    b->until_ms = until_ms;
    return true;
}

bool breaker_learn_closed(struct breaker *b)
{
    if (b->phase == BREAKER_CLOSED)
        return false;
    close_it(b);
    return true;
}
