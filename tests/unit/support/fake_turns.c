/* Turns by a clock that stands still. */
#include "fake_turns.h"

#include <assert.h>

static uint64_t on_now(void *arg)
{
    const struct fake_turns *f = arg;

    assert(f->locked);
    return *f->now_ms;
}

static void on_lock(void *arg)
{
    struct fake_turns *f = arg;

    assert(!f->locked);
    f->locked = true;
}

static void on_unlock(void *arg, uint64_t next_ms)
{
    struct fake_turns *f = arg;

    assert(f->locked);
    f->locked = false;
    f->next_ms = next_ms;
}

static void on_event(void *arg, const struct turns_event *e)
{
    const struct fake_turns *f = arg;

    assert(f->locked);
    if (f->event)
        f->event(f->arg, e);
}

struct turns *fake_turns_new(struct fake_turns *f, const uint64_t *now_ms,
                             void (*event)(void *arg, const struct turns_event *e), void *arg)
{
    struct turns_world world = {
        .now_ms = on_now, .lock = on_lock, .unlock = on_unlock, .event = on_event, .arg = f};

    *f = (struct fake_turns){.now_ms = now_ms, .next_ms = TURNS_NEVER, .event = event, .arg = arg};
    return turns_new(&world);
}
