/* Turns the clock of many worlds at once. */
#include "fake_worlds.h"

#include <stdlib.h>

static void on_told(void *arg)
{
    struct fake_slot *slot = arg;
    struct fake_worlds *ws = slot->all;

    ws->worlds[slot->number].dirty = true;
    slot->next_ms = 0;
    if (ws->told)
        ws->told(ws, slot->number);
}

void fake_worlds_init(struct fake_worlds *ws, unsigned count,
                      void (*event)(void *arg, const struct turns_event *e))
{
    *ws = (struct fake_worlds){.count = count};
    ws->worlds = calloc(count, sizeof(*ws->worlds));
    ws->slots = calloc(count, sizeof(*ws->slots));
    ws->turns = fake_turns_new(&ws->turns_world, &ws->now_ms, event, NULL);
    if (!ws->worlds || !ws->slots || !ws->turns)
        abort();
    for (unsigned i = 0; i < count; i++)
        ws->slots[i] = (struct fake_slot){ws, i, FAKE_NEVER};
}

const char *fake_worlds_deinit(struct fake_worlds *ws)
{
    const char *wrong;

    for (unsigned i = 0; i < ws->count; i++) {
        struct fake_world *w = &ws->worlds[i];

        w->now_ms = ws->now_ms; /* some have not begun yet, or had nothing to do for long */
        if (w->turns)
            fake_deinit(w);
    }
    wrong = fake_worlds_wrong(ws);
    turns_free(ws->turns);
    free(ws->worlds);
    free(ws->slots);
    return wrong;
}

struct fake_world *fake_worlds_add(struct fake_worlds *ws, unsigned number, uint64_t at_ms)
{
    struct fake_world *w = &ws->worlds[number];

    fake_init(w);
    w->turns = ws->turns;
    w->now_ms = at_ms;
    w->random += number * UINT64_C(0x9e3779b97f4a7c15);
    return w;
}

void fake_worlds_begun(struct fake_worlds *ws, unsigned number)
{
    struct fake_world *w = &ws->worlds[number];

    w->ready.wake = on_told;
    w->ready.arg = &ws->slots[number];
    ws->slots[number].next_ms = fake_next(w);
}

static uint64_t next_event(const struct fake_worlds *ws)
{
    uint64_t at = ws->turns_world.next_ms;

    if (at != TURNS_NEVER)
        at += ws->late_ms;
    for (unsigned i = 0; i < ws->count; i++)
        if (ws->slots[i].next_ms < at)
            at = ws->slots[i].next_ms;
    return at != FAKE_NEVER && at < ws->now_ms ? ws->now_ms : at;
}

bool fake_worlds_turn(struct fake_worlds *ws)
{
    uint64_t at = next_event(ws), due = ws->turns_world.next_ms;

    if (at == FAKE_NEVER)
        return false;
    ws->now_ms = at;
    if (due != TURNS_NEVER && due + ws->late_ms <= at)
        turns_run(ws->turns);
    for (unsigned i = 0; i < ws->count; i++) {
        struct fake_world *w = &ws->worlds[i];

        if (ws->slots[i].next_ms > at)
            continue;
        fake_turn_at(w, at);
        ws->slots[i].next_ms = fake_next(w);
        if (w->wrong)
            return false;
    }
    return true;
}

void fake_worlds_run(struct fake_worlds *ws)
{
    while (fake_worlds_turn(ws))
        ;
}

const char *fake_worlds_wrong(const struct fake_worlds *ws)
{
    for (unsigned i = 0; i < ws->count; i++)
        if (ws->worlds[i].wrong)
            return ws->worlds[i].wrong;
    return NULL;
}
