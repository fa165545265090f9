/* The queues of waiting requests: which request is next, and which cannot be served in time. */
#include <assert.h>
#include <errno.h>

#include "targets/turns_private.h"

#define WAKES_MAX 64 /* queues that wake in one call, because other threads need the lock, too */

static bool wakes_before(struct heap_node *a, struct heap_node *b)
{
    return LIST_ENTRY(a, struct wait_queue, sleeps)->at_ms <
           LIST_ENTRY(b, struct wait_queue, sleeps)->at_ms;
}

void turns_queues_init(struct turns *t)
{
    list_init(&t->awake);
    list_init(&t->waited);
    heap_init(&t->asleep, wakes_before);
    t->next_ms = TURNS_NEVER;
}

/* --- the order -------------------------------------------------------------------------------- */

static struct client_queue *first_client(const struct wait_queue *queue)
{
    return LIST_ENTRY(queue->clients.next, struct client_queue, node);
}

static struct turn *first_turn(const struct client_queue *client)
{
    return LIST_ENTRY(client->turns.next, struct turn, node);
}

static uint64_t arrival(const struct client_queue *client)
{
    return first_turn(client)->turn_request->arrived_ms;
}

static uint64_t served(struct list *node)
{
    return first_client(LIST_ENTRY(node, struct wait_queue, node))->served;
}

/* Puts the queue at its place among those awake; a longer wait is further to the front. */
static void place_queue(struct turns *t, struct wait_queue *queue)
{
    struct list *before;
    uint64_t mine = served(&queue->node);

    list_remove(&queue->node);
    before = t->awake.prev;
    if (before != &t->awake && served(t->awake.next) > mine)
        before = &t->awake;
    while (before != &t->awake && served(before) > mine)
        before = before->prev;
    list_append(before->next, &queue->node);
}

/* Puts the client at its place by the arrival of its first turn. */
static void place_comer(struct client_queue *client)
{
    struct list *comers = &client->queue->comers, *before;

    list_remove(&client->comer);
    for (before = comers->prev; before != comers; before = before->prev)
        if (arrival(LIST_ENTRY(before, struct client_queue, comer)) <= arrival(client))
            break;
    list_append(before->next, &client->comer);
}

static void wake(struct turns *t, struct wait_queue *queue)
{
    if (!queue->asleep)
        return;
    if (queue->at_ms != TURNS_NEVER)
        heap_remove(&t->asleep, &queue->sleeps);
    queue->asleep = false;
    place_queue(t, queue);
}

/* --- making and unmaking ---------------------------------------------------------------------- */

static struct wait_queue *make_queue(struct turns *t, uint64_t id,
                                     const struct candidates *candidates, uint64_t now_ms)
{
    struct wait_queue *queue = turns_table_add(
        t, id, ENTRY_QUEUE, sizeof(*queue) + candidates->count * sizeof(struct link), now_ms);

    if (!queue)
        return NULL;
    list_init(&queue->node);
    list_init(&queue->clients);
    list_init(&queue->comers);
    for (unsigned i = 0; i < candidates->count; i++) {
        struct link *link = &queue->links[queue->link_count++];
        struct upstream_state *s = candidates->list[i].target_state->model_state->upstream;
        *link = (struct link){.target_state = candidates->list[i].target_state, .queue = queue};
        list_init(&link->node);
        list_append(&candidates->list[i].target_state->links, &link->node);
        candidates->list[i].target_state->entry.refs++;
        if (s->links++ == 0)
            list_append(&t->waited, &s->waited);
        s->free_links +=
            operation_is_free(candidates->list[i].target_state->model_state->operation);
    }
    return queue;
}

/* Most queues have one client, whose own queue needs no memory. */
static struct client_queue *make_client(struct turns *t, struct wait_queue *queue, uint64_t id,
                                        uint64_t now_ms)
{
    struct client_queue *client = &queue->only;

    if (queue->only_used)
        client = turns_table_add(t, id, ENTRY_CLIENT, sizeof(*client), now_ms);
    else
        *client = (struct client_queue){.entry.id = id};
    if (!client)
        return NULL;
    queue->only_used = true;
    client->queue = queue;
    client->served = ++t->grants; /* behind clients that have waited longer */
    list_init(&client->turns);
    list_init(&client->node);
    list_init(&client->comer);
    list_append(&queue->clients, &client->node);
    return client;
}

/* --- joining and leaving ---------------------------------------------------------------------- */

/* Excluded targets are part of the queue's id, so that a request keeps its queue when a key returns
 * that others wait for. */
static uint64_t queue_id(const struct turn_request *turn_request,
                         const struct candidates *candidates)
{
    uint64_t all = hash_join(candidates->count, turn_request->only != NULL);

    for (unsigned i = 0; i < turn_request->excluded_count; i++)
        all +=
            hash_join(turn_request->excluded[i].upstream->id, turn_request->excluded[i].key_number);
    for (unsigned i = 0; i < candidates->count; i++)
        all += candidates->list[i].target_state->entry.id * 2 + 1;
    return hash_join(all, candidates->count); /* the table needs ids that differ in all bits */
}

int turns_queue_join(struct turns *t, struct turn *turn, const struct candidates *candidates,
                     uint64_t now_ms)
{
    uint64_t id = queue_id(turn->turn_request, candidates),
             of_client = hash_join(turn->turn_request->client, id);
    struct wait_queue *queue = turns_table_find(t, id, ENTRY_QUEUE);
    bool is_new = !queue;
    struct client_queue *client;

    if (is_new)
        queue = make_queue(t, id, candidates, now_ms);
    if (!queue)
        return -ENOMEM;
    client = queue->only_used && queue->only.entry.id == of_client
                 ? &queue->only
                 : turns_table_find(t, of_client, ENTRY_CLIENT);
    if (!client)
        client = make_client(t, queue, of_client, now_ms);
    if (!client)
        return -ENOMEM; /* the queue is not a new one, which has room for its first client */
    uint64_t arrived_ms = turn->turn_request->arrived_ms;
    struct list *before = client->turns.prev;
    while (before != &client->turns &&
           LIST_ENTRY(before, struct turn, node)->turn_request->arrived_ms > arrived_ms)
        before = before->prev;
    list_init(&turn->node);
    list_append(before->next, &turn->node);
    place_comer(client);
    turn->client = client;
    turn->state = TURN_WAITING;
    if (is_new)
        place_queue(t, queue);
    t->waiting++;
    queue->waiting++;
    return 0;
}

void turns_queue_leave(struct turns *t, struct turn *turn)
{
    struct client_queue *client = turn->client;
    struct wait_queue *queue = client->queue;

    list_remove(&turn->node);
    turn->client = NULL;
    t->waiting--;
    queue->waiting--;
    if (!list_empty(&client->turns)) {
        place_comer(client);
    } else {
        list_remove(&client->node);
        list_remove(&client->comer);
        if (client == &queue->only)
            queue->only_used = false;
        else
            turns_table_drop(t, &client->entry);
    }
    if (list_empty(&queue->clients)) {
        if (queue->asleep && queue->at_ms != TURNS_NEVER)
            heap_remove(&t->asleep, &queue->sleeps);
        list_remove(&queue->node);
        for (unsigned i = 0; i < queue->link_count; i++) {
            struct target_state *state = queue->links[i].target_state;
            struct upstream_state *s = state->model_state->upstream;
            list_remove(&queue->links[i].node);
            state->entry.refs--;
            if (--s->links == 0)
                list_remove(&s->waited);
            s->free_links -= operation_is_free(state->model_state->operation);
        }
        turns_table_drop(t, &queue->entry);
    } else if (!queue->asleep)
        place_queue(t, queue);
}

/* --- waking ----------------------------------------------------------------------------------- */

void turns_queues_wake(struct turns *t, struct target_state *state)
{
    for (struct list *l = state->links.next; l != &state->links; l = l->next)
        wake(t, LIST_ENTRY(l, struct link, node)->queue);
}

void turns_queues_wake_model(struct turns *t, struct model_state *model)
{
    for (struct list *l = model->states.next; l != &model->states; l = l->next)
        turns_queues_wake(t, LIST_ENTRY(l, struct target_state, node));
}

static struct wait_queue *first_asleep(const struct turns *t)
{
    return t->asleep.first ? LIST_ENTRY(t->asleep.first, struct wait_queue, sleeps) : NULL;
}

void turns_queues_wake_due(struct turns *t, uint64_t now_ms)
{
    struct wait_queue *queue;

    for (unsigned i = 0; i < WAKES_MAX; i++) {
        queue = first_asleep(t);
        if (!queue || queue->at_ms > now_ms)
            break;
        wake(t, queue);
    }
}

/* --- the next turn ---------------------------------------------------------------------------- */

/* The targets of a queue, as seen by its next turn. */
struct view {
    bool free;
    struct candidate candidate; /* ... this one */
    uint64_t at_ms;             /* else the first may be free then */
    bool limited;               /* ... and one of them is held by its upstream's limit */
};

static struct view look(struct turns *t, const struct turn *turn, uint64_t now_ms)
{
    struct candidates c;
    struct view v = {.free = false};

    turns_candidates(t, turn->turn_request, now_ms, &c);
    v.at_ms = c.more_ms;
    for (unsigned i = 0; i < c.count && !v.free; i++) {
        struct target_state *state = c.list[i].target_state;
        struct wait w = {now_ms, TURN_WHY_NONE};

        if (state)
            w = turns_target_wait(state, now_ms);
        v.free = w.at_ms <= now_ms;
        v.candidate = c.list[i];
        v.limited |= w.why == TURN_WHY_LIMIT;
        if (w.at_ms < v.at_ms)
            v.at_ms = w.at_ms;
    }
    return v;
}

/* An opening gate serves the turn that came first, of all queues there; else the client that has
 * not been served for the longest time is next. */
static struct client_queue *first_comer(struct turns *t, const struct target_state *state,
                                        uint64_t now_ms, struct candidate *ret_candidate)
{
    struct client_queue *best = NULL;

    for (struct list *l = state->links.next; l != &state->links; l = l->next) {
        struct wait_queue *queue = LIST_ENTRY(l, struct link, node)->queue;
        struct client_queue *client = LIST_ENTRY(queue->comers.next, struct client_queue, comer);
        struct view v;

        if (best && arrival(client) >= arrival(best))
            continue;
        v = look(t, first_turn(client), now_ms);
        if (!v.free || v.candidate.target_state != state)
            continue;
        best = client;
        *ret_candidate = v.candidate;
    }
    return best;
}

static struct turn *take(struct turns *t, struct client_queue *client)
{
    struct turn *turn = first_turn(client);

    client->served = ++t->grants;
    list_remove(&client->node);
    list_append(&client->queue->clients, &client->node);
    turns_queue_leave(t, turn);
    return turn;
}

/* Whether any attempt can go at all by the upstreams' limits. */
static bool any_upstream_is_free(struct turns *t, uint64_t now_ms)
{
    bool any = false;

    for (struct list *l = t->waited.next; l != &t->waited; l = l->next) {
        const struct upstream_state *s = LIST_ENTRY(l, struct upstream_state, waited);
        uint64_t at = rate_next(&s->rate, s->per_minute, now_ms);

        if (turns_upstream_is_full(s))
            continue;
        any |= at <= now_ms || s->free_links > 0;
        if (at > now_ms)
            turns_due_at(t, at);
    }
    return any;
}

static struct turn *take_next(struct turns *t, uint64_t now_ms, struct candidate *ret_candidate)
{
    for (struct list *l = t->awake.next, *next; l != &t->awake; l = next) {
        struct wait_queue *queue = LIST_ENTRY(l, struct wait_queue, node);
        struct client_queue *client = first_client(queue), *comer = NULL;
        struct view v = look(t, first_turn(client), now_ms);

        next = l->next;
        if (v.free) {
            struct target_state *state = v.candidate.target_state;

            *ret_candidate = v.candidate;
            if (state && state->gate.phase == GATE_OPENING)
                comer = first_comer(t, state, now_ms, ret_candidate);
            return take(t, comer ? comer : client);
        }
        if (v.limited) {
            turns_due_at(t, v.at_ms);
            continue;
        }
        list_remove(&queue->node);
        queue->asleep = true;
        queue->at_ms = v.at_ms;
        if (v.at_ms != TURNS_NEVER)
            heap_add(&t->asleep, &queue->sleeps);
    }
    return NULL;
}

struct turn *turns_queue_next(struct turns *t, uint64_t now_ms, struct candidate *ret_candidate)
{
    const struct wait_queue *asleep;
    struct turn *turn = NULL;

    t->next_ms = TURNS_NEVER;
    if (t->waiting > 0 && any_upstream_is_free(t, now_ms))
        turn = take_next(t, now_ms, ret_candidate);
    asleep = first_asleep(t);
    if (!turn && asleep)
        turns_due_at(t, asleep->at_ms);
    return turn;
}

/* --- in vain ---------------------------------------------------------------------------------- */

/* All turns of a queue have the same candidates, and so the same outlook. */
static void review(struct turns *t, struct wait_queue *queue, bool probe, uint64_t now_ms)
{
    struct candidates c;
    struct outlook o;
    bool last_client = false;

    turns_candidates(t, first_turn(first_client(queue))->turn_request, now_ms, &c);
    o = turns_look_ahead(&c, now_ms);
    for (struct list *l = queue->clients.next, *next; !last_client && l != &queue->clients;
         l = next) {
        struct client_queue *client = LIST_ENTRY(l, struct client_queue, node);
        bool last = false;

        next = l->next;
        for (struct list *m = client->turns.next, *after; !last && m != &client->turns; m = after) {
            struct turn *turn = LIST_ENTRY(m, struct turn, node);

            after = m->next;
            if (!turns_is_in_vain(turn->turn_request, &o, probe))
                continue;
            /* A client is freed with its last turn, and a queue with its last client. */
            last = client->turns.next == m && client->turns.prev == m;
            last_client = last && queue->clients.next == l && queue->clients.prev == l;
            turns_queue_leave(t, turn);
            turns_refuse(turn, &o);
            turns_announce(turn);
        }
    }
}

void turns_queues_review(struct turns *t, struct target_state *state, bool probe, uint64_t now_ms)
{
    for (struct list *l = state->links.next, *next; l != &state->links; l = next) {
        next = l->next;
        review(t, LIST_ENTRY(l, struct link, node)->queue, probe, now_ms);
    }
}

void turns_queues_review_model(struct turns *t, struct model_state *model, bool probe,
                               uint64_t now_ms)
{
    for (struct list *l = model->states.next; l != &model->states; l = l->next)
        turns_queues_review(t, LIST_ENTRY(l, struct target_state, node), probe, now_ms);
}
