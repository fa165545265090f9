/* Who waits for the same, whose turn it is there, and who waits in vain. */
#include <assert.h>
#include <errno.h>

#include "targets/turns_private.h"

#define WAKES_MAX 64 /* lines that wake in one call: others want the lock, too */

/* --- making and unmaking ---------------------------------------------------------------------------- */

static void add_link(struct turns *t, struct line *line, struct target_state *state)
{
    struct link *link = &line->links[line->link_count++];
    struct model_state *c = state->model_state;

    *link = (struct link){.target_state = state, .line = line};
    list_init(&link->node);
    list_append(&state->links, &link->node);
    state->entry.refs++;
    if (c->upstream->links++ == 0)
        list_append(&t->waited, &c->upstream->waited);
    c->upstream->free_links += operation_is_free(c->operation);
}

static void drop_link(struct link *link)
{
    struct model_state *c = link->target_state->model_state;

    list_remove(&link->node);
    link->target_state->entry.refs--;
    if (--c->upstream->links == 0)
        list_remove(&c->upstream->waited);
    c->upstream->free_links -= operation_is_free(c->operation);
}

static struct pool *first_pool(const struct line *line)
{
    return LIST_ENTRY(line->pools.next, struct pool, node);
}

static struct turn *first_turn(const struct pool *p)
{
    return LIST_ENTRY(p->turns.next, struct turn, node);
}

static uint64_t arrival(const struct pool *p)
{
    return first_turn(p)->wish->arrived_ms;
}

/* Where it belongs among those awake; the longer it has waited the more to the front. */
static void place_line(struct turns *t, struct line *line)
{
    uint64_t served = first_pool(line)->served;
    struct list *before;

    list_remove(&line->node);
    before = t->awake.prev;
    if (before != &t->awake &&
        first_pool(LIST_ENTRY(t->awake.next, struct line, node))->served > served)
        before = &t->awake;
    while (before != &t->awake &&
           first_pool(LIST_ENTRY(before, struct line, node))->served > served)
        before = before->prev;
    list_append(before->next, &line->node);
}

/* Where it belongs by when its first has come. */
static void place_comer(struct pool *p)
{
    struct list *comers = &p->line->comers, *before;

    list_remove(&p->comer);
    for (before = comers->prev; before != comers; before = before->prev)
        if (arrival(LIST_ENTRY(before, struct pool, comer)) <= arrival(p))
            break;
    list_append(before->next, &p->comer);
}

static void wake(struct turns *t, struct line *line)
{
    if (!line->asleep)
        return;
    if (line->at_ms != TURNS_NEVER)
        heap_remove(&t->asleep, &line->sleeps);
    line->asleep = false;
    place_line(t, line);
}

static void fall_asleep(struct turns *t, struct line *line, uint64_t at_ms)
{
    list_remove(&line->node);
    line->asleep = true;
    line->at_ms = at_ms;
    if (at_ms != TURNS_NEVER)
        heap_add(&t->asleep, &line->sleeps);
}

static void drop_line(struct turns *t, struct line *line)
{
    if (line->asleep && line->at_ms != TURNS_NEVER)
        heap_remove(&t->asleep, &line->sleeps);
    list_remove(&line->node);
    for (unsigned i = 0; i < line->link_count; i++)
        drop_link(&line->links[i]);
    table_drop(t, &line->entry);
}

static struct line *make_line(struct turns *t, uint64_t id, const struct choice *choices,
                              unsigned n, uint64_t now_ms)
{
    struct line *line =
        table_add(t, id, ENTRY_LINE, sizeof(*line) + n * sizeof(struct link), now_ms);

    if (!line)
        return NULL;
    list_init(&line->node);
    list_init(&line->pools);
    list_init(&line->comers);
    for (unsigned i = 0; i < n; i++)
        add_link(t, line, choices[i].target_state);
    return line;
}

static struct pool *find_pool(struct turns *t, struct line *line, uint64_t id)
{
    if (line->only_used && line->only.entry.id == id)
        return &line->only;
    return (struct pool *)(void *)table_find(t, id, ENTRY_POOL);
}

/* Most lines have one client, whose pool costs nothing more. */
static struct pool *make_pool(struct turns *t, struct line *line, uint64_t id, uint64_t now_ms)
{
    struct pool *p = &line->only;

    if (line->only_used)
        p = table_add(t, id, ENTRY_POOL, sizeof(*p), now_ms);
    else
        *p = (struct pool){.entry.id = id};
    if (!p)
        return NULL;
    line->only_used = true;
    p->line = line;
    p->served = ++t->grants; /* behind those who have waited longer */
    list_init(&p->turns);
    list_init(&p->node);
    list_init(&p->comer);
    list_append(&line->pools, &p->node);
    return p;
}

static void drop_pool(struct turns *t, struct pool *p)
{
    list_remove(&p->node);
    list_remove(&p->comer);
    if (p == &p->line->only)
        p->line->only_used = false;
    else
        table_drop(t, &p->entry);
}

/* --- joining and leaving ---------------------------------------------------------------------------- */

/* What is out of the question for a wish tells it apart, too: it stays so when a key comes back that
 * others wait for as well. */
static uint64_t choice_id(const struct turn_wish *wish, const struct choice *choices, unsigned n)
{
    uint64_t all = hash_join(n, wish->only != NULL);

    for (unsigned i = 0; i < wish->excluded_count; i++)
        all += hash_join(wish->excluded[i].provider->id, wish->excluded[i].key_number);
    for (unsigned i = 0; i < n; i++)
        all += choices[i].target_state->entry.id * 2 + 1;
    return hash_join(all, n); /* the table wants all bits to differ */
}

static void put_in(struct pool *p, struct turn *turn)
{
    struct list *before = p->turns.prev;

    while (before != &p->turns &&
           LIST_ENTRY(before, struct turn, node)->wish->arrived_ms > turn->wish->arrived_ms)
        before = before->prev;
    list_init(&turn->node);
    list_append(before->next, &turn->node);
    place_comer(p);
    turn->pool = p;
    turn->state = TURN_WAITING;
}

int line_join(struct turns *t, struct turn *turn, const struct choice *choices, unsigned n,
              uint64_t now_ms)
{
    uint64_t id = choice_id(turn->wish, choices, n), of_client = hash_join(turn->wish->client, id);
    struct line *line = (struct line *)(void *)table_find(t, id, ENTRY_LINE);
    bool is_new = !line;
    struct pool *p;

    if (is_new)
        line = make_line(t, id, choices, n, now_ms);
    if (!line)
        return -ENOMEM;
    p = find_pool(t, line, of_client);
    if (!p)
        p = make_pool(t, line, of_client, now_ms);
    if (!p)
        return -ENOMEM; /* the line is not new: that one has room for its first */
    put_in(p, turn);
    if (is_new)
        place_line(t, line);
    t->waiting++;
    return 0;
}

void line_leave(struct turns *t, struct turn *turn)
{
    struct pool *p = turn->pool;
    struct line *line = p->line;

    list_remove(&turn->node);
    turn->pool = NULL;
    t->waiting--;
    if (!list_empty(&p->turns)) {
        place_comer(p);
    } else {
        drop_pool(t, p);
    }
    if (list_empty(&line->pools))
        drop_line(t, line);
    else if (!line->asleep)
        place_line(t, line);
}

/* --- waking ------------------------------------------------------------------------------------------ */

void lines_wake(struct turns *t, struct target_state *state)
{
    for (struct list *l = state->links.next; l != &state->links; l = l->next)
        wake(t, LIST_ENTRY(l, struct link, node)->line);
}

void lines_wake_model(struct turns *t, struct model_state *c)
{
    for (struct list *l = c->states.next; l != &c->states; l = l->next)
        lines_wake(t, LIST_ENTRY(l, struct target_state, node));
}

void lines_wake_due(struct turns *t, uint64_t now_ms)
{
    for (unsigned i = 0; i < WAKES_MAX && t->asleep.first; i++) {
        struct line *line = LIST_ENTRY(t->asleep.first, struct line, sleeps);

        if (line->at_ms > now_ms)
            break;
        wake(t, line);
    }
}

/* --- whose turn it is -------------------------------------------------------------------------------- */

/* What is known of where one may go. */
struct view {
    bool free;
    struct choice choice; /* ... there */
    uint64_t at_ms;       /* else the first may be free then */
    bool limited;         /* ... and one of them is held by its upstream's limit */
};

static struct view look(struct turns *t, const struct turn *turn, uint64_t now_ms)
{
    struct choice choices[CHOICES_MAX];
    uint64_t next_ms = t->next_ms;
    struct view v = {.free = false};
    unsigned n;

    t->next_ms = TURNS_NEVER; /* lowered where a key comes back that is set aside */
    n = wish_choices(t, turn->wish, now_ms, choices);
    v.at_ms = t->next_ms;
    t->next_ms = next_ms;
    for (unsigned i = 0; i < n && !v.free; i++) {
        enum turn_why why = TURN_WHY_NONE;
        uint64_t at =
            choices[i].target_state ? target_next(choices[i].target_state, now_ms, &why) : now_ms;

        v.free = at <= now_ms;
        v.choice = choices[i];
        v.limited |= why == TURN_WHY_LIMIT;
        if (at < v.at_ms)
            v.at_ms = at;
    }
    return v;
}

/* An opening gate lets through who came first, of all lines there; else it is the turn of whoever was
 * served last the longest ago. */
static struct pool *first_comer(struct turns *t, const struct target_state *state, uint64_t now_ms,
                                struct choice *ret_choice)
{
    struct pool *best = NULL;

    for (struct list *l = state->links.next; l != &state->links; l = l->next) {
        struct line *line = LIST_ENTRY(l, struct link, node)->line;
        struct pool *p = LIST_ENTRY(line->comers.next, struct pool, comer);
        struct view v;

        if (best && arrival(p) >= arrival(best))
            continue;
        v = look(t, first_turn(p), now_ms);
        if (!v.free || v.choice.target_state != state)
            continue;
        best = p;
        *ret_choice = v.choice;
    }
    return best;
}

static struct turn *take(struct turns *t, struct pool *p)
{
    struct turn *turn = first_turn(p);

    p->served = ++t->grants;
    list_remove(&p->node);
    list_append(&p->line->pools, &p->node);
    line_leave(t, turn);
    return turn;
}

/* Whether anything can go at all, as far as upstreams' limits say. */
static bool any_upstream_is_free(struct turns *t, uint64_t now_ms)
{
    bool any = false;

    for (struct list *l = t->waited.next; l != &t->waited; l = l->next) {
        const struct upstream_state *s = LIST_ENTRY(l, struct upstream_state, waited);
        uint64_t at = rate_next(&s->rate, s->per_minute, now_ms);

        if (upstream_is_full(s))
            continue;
        if (at <= now_ms || s->free_links > 0)
            any = true;
        if (at > now_ms && at < t->next_ms)
            t->next_ms = at;
    }
    return any;
}

struct turn *line_next(struct turns *t, uint64_t now_ms, struct choice *ret_choice)
{
    struct list *next = t->awake.next;

    if (!any_upstream_is_free(t, now_ms))
        return NULL;
    while (next != &t->awake) {
        struct line *line = LIST_ENTRY(next, struct line, node);
        struct pool *p = first_pool(line), *comer = NULL;
        struct view v = look(t, first_turn(p), now_ms);

        next = next->next;
        if (v.free) {
            *ret_choice = v.choice;
            if (v.choice.target_state && v.choice.target_state->gate.phase == GATE_OPENING)
                comer = first_comer(t, v.choice.target_state, now_ms, ret_choice);
            return take(t, comer ? comer : p);
        }
        if (!v.limited)
            fall_asleep(t, line, v.at_ms);
        else if (v.at_ms < t->next_ms)
            t->next_ms = v.at_ms;
    }
    return NULL;
}

/* --- in vain ----------------------------------------------------------------------------------------- */

/* All in it have the same choice, and so the same outlook. */
static void review(struct turns *t, struct line *line, bool probe, uint64_t now_ms)
{
    struct choice choices[CHOICES_MAX];
    unsigned n = wish_choices(t, first_turn(first_pool(line))->wish, now_ms, choices);
    struct outlook o = look_ahead(choices, n, now_ms);
    bool last_pool = false;

    for (struct list *l = line->pools.next, *next; !last_pool && l != &line->pools; l = next) {
        struct pool *p = LIST_ENTRY(l, struct pool, node);
        bool last = false;

        next = l->next;
        for (struct list *m = p->turns.next, *after; !last && m != &p->turns; m = after) {
            struct turn *turn = LIST_ENTRY(m, struct turn, node);
            bool lost = probe && o.down && o.at_least.at_ms > turn->wish->patient_ms;

            after = m->next;
            if (!lost && !in_vain(turn->wish, &o))
                continue;
            /* With the last of its turns the pool goes, with the last of its pools the line. */
            last = p->turns.next == m && p->turns.prev == m;
            last_pool = last && line->pools.next == l && line->pools.prev == l;
            line_leave(t, turn);
            turn_refuse(turn, &o);
            turn_announce(turn);
        }
    }
}

void lines_review(struct turns *t, struct target_state *state, uint64_t now_ms)
{
    for (struct list *l = state->links.next, *next; l != &state->links; l = next) {
        next = l->next;
        review(t, LIST_ENTRY(l, struct link, node)->line, false, now_ms);
    }
}

void lines_review_model(struct turns *t, struct model_state *c, bool probe, uint64_t now_ms)
{
    for (struct list *k = c->states.next; k != &c->states; k = k->next) {
        struct target_state *state = LIST_ENTRY(k, struct target_state, node);

        for (struct list *l = state->links.next, *next; l != &state->links; l = next) {
            next = l->next;
            review(t, LIST_ENTRY(l, struct link, node)->line, probe, now_ms);
        }
    }
}
