/* One response of a script: its life, and the programs composed from it. */
#include "answer.h"
#include "compose.h"

#include <stdlib.h>
#include <string.h>

void answer_init_auto(struct answer *a)
{
    *a = (struct answer){
        .preset = PRESET_AUTO, .status = 200, .done = true, .finish = true, .usage = true};
}

void answer_deinit(struct answer *a)
{
    for (size_t i = 0; i < ANSWER_CACHE; i++) {
        program_unref(a->cache[i].program);
    }
    program_unref(a->wire);
    free(a->body_binary);
    *a = (struct answer){0};
}

static bool key_equal(const struct answer_key *a, const struct answer_key *b)
{
    return a->preset == b->preset && a->head == b->head && a->http10 == b->http10 &&
           a->keep_alive == b->keep_alive && a->base64 == b->base64 &&
           strcmp(a->model, b->model) == 0;
}

struct program *answer_program(struct answer *a, struct answer_key *key)
{
    struct answer_slot *slot;

    if (a->wire != NULL) {
        return program_ref(a->wire);
    }
    if (a->preset != PRESET_AUTO) {
        key->preset = a->preset;
    }
    for (size_t i = 0; i < ANSWER_CACHE; i++) {
        slot = &a->cache[i];
        if (slot->program != NULL && key_equal(&slot->key, key)) {
            return program_ref(slot->program);
        }
    }
    slot = &a->cache[a->next_slot++ % ANSWER_CACHE];
    program_unref(slot->program);
    slot->key = *key;
    slot->program = compose(a, key);
    return program_ref(slot->program);
}
