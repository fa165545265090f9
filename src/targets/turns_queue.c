/* Who waits for the same, whose turn it is there, and who waits in vain. */
#include <assert.h>
#include <errno.h>

#include "targets/turns_private.h"

#define WAKES_MAX 64 /* queues that wake in one call: others want the lock, too */

/* --- making and unmaking ---------------------------------------------------------------------------- */

static void add_link(struct turns *t, struct wait_queue *queue, struct target_state *state)
{
    struct link *link = &queue->links[queue->link_count++];
    struct model_state *c = state->model_state;

    *link = (struct link){.target_state = state, .queue = queue};
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

static struct client_queue *first_client(const struct wait_queue *queue)
{
    return LIST_ENTRY(queue->clients.next, struct client_queue, node);
}

static struct turn *first_turn(const struct client_queue *p)
{
    return LIST_ENTRY(p->turns.next, struct turn, node);
}

static uint64_t arrival(const struct client_queue *p)
{
    return first_turn(p)->turn_request->arrived_ms;
}

/* Where it belongs among those awake; the longer it has waited the more to the front. */
static void place_queue(struct turns *t, struct wait_queue *queue)
{
    uint64_t served = first_client(queue)->served;
    struct list *before;

    list_remove(&queue->node);
    before = t->awake.prev;
    if (before != &t->awake &&
        first_client(LIST_ENTRY(t->awake.next, struct wait_queue, node))->served > served)
        before = &t->awake;
    while (before != &t->awake &&
           first_client(LIST_ENTRY(before, struct wait_queue, node))->served > served)
        before = before->prev;
    list_append(before->next, &queue->node);
}

/* Where it belongs by when its first has come. */
static void place_comer(struct client_queue *p)
{
    struct list *comers = &p->queue->comers, *before;

    list_remove(&p->comer);
    for (before = comers->prev; before != comers; before = before->prev)
        if (arrival(LIST_ENTRY(before, struct client_queue, comer)) <= arrival(p))
            break;
    list_append(before->next, &p->comer);
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

static void fall_asleep(struct turns *t, struct wait_queue *queue, uint64_t at_ms)
{
    list_remove(&queue->node);
    queue->asleep = true;
    queue->at_ms = at_ms;
    if (at_ms != TURNS_NEVER)
        heap_add(&t->asleep, &queue->sleeps);
}

static void drop_queue(struct turns *t, struct wait_queue *queue)
{
    if (queue->asleep && queue->at_ms != TURNS_NEVER)
        heap_remove(&t->asleep, &queue->sleeps);
    list_remove(&queue->node);
    for (unsigned i = 0; i < queue->link_count; i++)
        drop_link(&queue->links[i]);
    table_drop(t, &queue->entry);
}

static struct wait_queue *make_queue(struct turns *t, uint64_t id,
                                     const struct candidate *candidates, unsigned n,
                                     uint64_t now_ms)
{
    struct wait_queue *queue =
        table_add(t, id, ENTRY_QUEUE, sizeof(*queue) + n * sizeof(struct link), now_ms);

    if (!queue)
        return NULL;
    list_init(&queue->node);
    list_init(&queue->clients);
    list_init(&queue->comers);
    for (unsigned i = 0; i < n; i++)
        add_link(t, queue, candidates[i].target_state);
    return queue;
}

static struct client_queue *find_client(struct turns *t, struct wait_queue *queue, uint64_t id)
{
    if (queue->only_used && queue->only.entry.id == id)
        return &queue->only;
    return (struct client_queue *)(void *)table_find(t, id, ENTRY_CLIENT);
}

/* Most queues have one client, whose own queue costs nothing more. */
static struct client_queue *make_client(struct turns *t, struct wait_queue *queue, uint64_t id,
                                        uint64_t now_ms)
{
    struct client_queue *p = &queue->only;

    if (queue->only_used)
        p = table_add(t, id, ENTRY_CLIENT, sizeof(*p), now_ms);
    else
        *p = (struct client_queue){.entry.id = id};
    if (!p)
        return NULL;
    queue->only_used = true;
    p->queue = queue;
    p->served = ++t->grants; /* behind those who have waited longer */
    list_init(&p->turns);
    list_init(&p->node);
    list_init(&p->comer);
    list_append(&queue->clients, &p->node);
    return p;
}

static void drop_client(struct turns *t, struct client_queue *p)
{
    list_remove(&p->node);
    list_remove(&p->comer);
    if (p == &p->queue->only)
        p->queue->only_used = false;
    else
        table_drop(t, &p->entry);
}

/* --- joining and leaving ---------------------------------------------------------------------------- */

/* What is out of the question for a request tells it apart, too: it stays so when a key comes back that
 * others wait for as well. */
static uint64_t candidate_id(const struct turn_request *turn_request,
                             const struct candidate *candidates, unsigned n)
{
    uint64_t all = hash_join(n, turn_request->only != NULL);

    for (unsigned i = 0; i < turn_request->excluded_count; i++)
        all +=
            hash_join(turn_request->excluded[i].upstream->id, turn_request->excluded[i].key_number);
    for (unsigned i = 0; i < n; i++)
        all += candidates[i].target_state->entry.id * 2 + 1;
    return hash_join(all, n); /* the table wants all bits to differ */
}

static void put_in(struct client_queue *p, struct turn *turn)
{
    struct list *before = p->turns.prev;

    while (before != &p->turns && LIST_ENTRY(before, struct turn, node)->turn_request->arrived_ms >
                                      turn->turn_request->arrived_ms)
        before = before->prev;
    list_init(&turn->node);
    list_append(before->next, &turn->node);
    place_comer(p);
    turn->client = p;
    turn->state = TURN_WAITING;
}

int queue_join(struct turns *t, struct turn *turn, const struct candidate *candidates, unsigned n,
               uint64_t now_ms)
{
    uint64_t id = candidate_id(turn->turn_request, candidates, n),
             of_client = hash_join(turn->turn_request->client, id);
    struct wait_queue *queue = (struct wait_queue *)(void *)table_find(t, id, ENTRY_QUEUE);
    bool is_new = !queue;
    struct client_queue *p;

    if (is_new)
        queue = make_queue(t, id, candidates, n, now_ms);
    if (!queue)
        return -ENOMEM;
    p = find_client(t, queue, of_client);
    if (!p)
        p = make_client(t, queue, of_client, now_ms);
    if (!p)
        return -ENOMEM; /* the queue is not new: that one has room for its first */
    put_in(p, turn);
    if (is_new)
        place_queue(t, queue);
    t->waiting++;
    return 0;
}

void queue_leave(struct turns *t, struct turn *turn)
{
    struct client_queue *p = turn->client;
    struct wait_queue *queue = p->queue;

    list_remove(&turn->node);
    turn->client = NULL;
    t->waiting--;
    if (!list_empty(&p->turns)) {
        place_comer(p);
    } else {
        drop_client(t, p);
    }
    if (list_empty(&queue->clients))
        drop_queue(t, queue);
    else if (!queue->asleep)
        place_queue(t, queue);
}

/* --- waking ------------------------------------------------------------------------------------------ */

void queues_wake(struct turns *t, struct target_state *state)
{
    for (struct list *l = state->links.next; l != &state->links; l = l->next)
        wake(t, LIST_ENTRY(l, struct link, node)->queue);
}

void queues_wake_model(struct turns *t, struct model_state *c)
{
    for (struct list *l = c->states.next; l != &c->states; l = l->next)
        queues_wake(t, LIST_ENTRY(l, struct target_state, node));
}

void queues_wake_due(struct turns *t, uint64_t now_ms)
{
    for (unsigned i = 0; i < WAKES_MAX && t->asleep.first; i++) {
        struct wait_queue *queue = LIST_ENTRY(t->asleep.first, struct wait_queue, sleeps);

        if (queue->at_ms > now_ms)
            break;
        wake(t, queue);
    }
}

/* --- whose turn it is -------------------------------------------------------------------------------- */

/* What is known of where one may go. */
struct view {
    bool free;
    struct candidate candidate; /* ... there */
    uint64_t at_ms;             /* else the first may be free then */
    bool limited;               /* ... and one of them is held by its upstream's limit */
};

static struct view look(struct turns *t, const struct turn *turn, uint64_t now_ms)
{
    struct candidate candidates[CANDIDATES_MAX];
    uint64_t next_ms = t->next_ms;
    struct view v = {.free = false};
    unsigned n;

    t->next_ms = TURNS_NEVER; /* lowered where a key comes back that is set aside */
    n = turn_request_candidates(t, turn->turn_request, now_ms, candidates);
    v.at_ms = t->next_ms;
    t->next_ms = next_ms;
    for (unsigned i = 0; i < n && !v.free; i++) {
        enum turn_why why = TURN_WHY_NONE;
        uint64_t at = candidates[i].target_state
                          ? target_next(candidates[i].target_state, now_ms, &why)
                          : now_ms;

        v.free = at <= now_ms;
        v.candidate = candidates[i];
        v.limited |= why == TURN_WHY_LIMIT;
        if (at < v.at_ms)
            v.at_ms = at;
    }
    return v;
}

/* An opening gate lets through who came first, of all queues there; else it is the turn of whoever was
 * served last the longest ago. */
static struct client_queue *first_comer(struct turns *t, const struct target_state *state,
                                        uint64_t now_ms, struct candidate *ret_candidate)
{
    struct client_queue *best = NULL;

    for (struct list *l = state->links.next; l != &state->links; l = l->next) {
        struct wait_queue *queue = LIST_ENTRY(l, struct link, node)->queue;
        struct client_queue *p = LIST_ENTRY(queue->comers.next, struct client_queue, comer);
        struct view v;

        if (best && arrival(p) >= arrival(best))
            continue;
        v = look(t, first_turn(p), now_ms);
        if (!v.free || v.candidate.target_state != state)
            continue;
        best = p;
        *ret_candidate = v.candidate;
    }
    return best;
}

static struct turn *take(struct turns *t, struct client_queue *p)
{
    struct turn *turn = first_turn(p);

    p->served = ++t->grants;
    list_remove(&p->node);
    list_append(&p->queue->clients, &p->node);
    queue_leave(t, turn);
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

struct turn *queue_next(struct turns *t, uint64_t now_ms, struct candidate *ret_candidate)
{
    struct list *next = t->awake.next;

    if (!any_upstream_is_free(t, now_ms))
        return NULL;
    while (next != &t->awake) {
        struct wait_queue *queue = LIST_ENTRY(next, struct wait_queue, node);
        struct client_queue *p = first_client(queue), *comer = NULL;
        struct view v = look(t, first_turn(p), now_ms);

        next = next->next;
        if (v.free) {
            *ret_candidate = v.candidate;
            if (v.candidate.target_state && v.candidate.target_state->gate.phase == GATE_OPENING)
                comer = first_comer(t, v.candidate.target_state, now_ms, ret_candidate);
            return take(t, comer ? comer : p);
        }
        if (!v.limited)
            fall_asleep(t, queue, v.at_ms);
        else if (v.at_ms < t->next_ms)
            t->next_ms = v.at_ms;
    }
    return NULL;
}

/* --- in vain ----------------------------------------------------------------------------------------- */

/* All in it have the same candidates, and so the same outlook. */
static void review(struct turns *t, struct wait_queue *queue, bool probe, uint64_t now_ms)
{
    struct candidate candidates[CANDIDATES_MAX];
    unsigned n = turn_request_candidates(t, first_turn(first_client(queue))->turn_request, now_ms,
                                         candidates);
    struct outlook o = look_ahead(candidates, n, now_ms);
    bool last_client = false;

    for (struct list *l = queue->clients.next, *next; !last_client && l != &queue->clients;
         l = next) {
        struct client_queue *p = LIST_ENTRY(l, struct client_queue, node);
        bool last = false;

        next = l->next;
        for (struct list *m = p->turns.next, *after; !last && m != &p->turns; m = after) {
            struct turn *turn = LIST_ENTRY(m, struct turn, node);
            bool lost = probe && o.down && o.at_least.at_ms > turn->turn_request->patient_ms;

            after = m->next;
            if (!lost && !in_vain(turn->turn_request, &o))
                continue;
            /* With the last of its turns the client goes, with the last of its clients the queue. */
            last = p->turns.next == m && p->turns.prev == m;
            last_client = last && queue->clients.next == l && queue->clients.prev == l;
            queue_leave(t, turn);
            turn_refuse(turn, &o);
            turn_announce(turn);
        }
    }
}

void queues_review(struct turns *t, struct target_state *state, uint64_t now_ms)
{
    for (struct list *l = state->links.next, *next; l != &state->links; l = next) {
        next = l->next;
        review(t, LIST_ENTRY(l, struct link, node)->queue, false, now_ms);
    }
}

void queues_review_model(struct turns *t, struct model_state *c, bool probe, uint64_t now_ms)
{
    for (struct list *k = c->states.next; k != &c->states; k = k->next) {
        struct target_state *state = LIST_ENTRY(k, struct target_state, node);

        for (struct list *l = state->links.next, *next; l != &state->links; l = next) {
            next = l->next;
            review(t, LIST_ENTRY(l, struct link, node)->queue, probe, now_ms);
        }
    }
}
