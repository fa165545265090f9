/* The turns of a worker's calls: asked for and told at the traffic of all workers. */
#include "base/clock.h"
#include "daemon/access_log.h"
#include "daemon/worker_private.h"

enum turn_state call_turn_ask(void *world, struct exchange *x, struct turn *turn,
                              const struct turn_request *turn_request)
{
    struct worker *w = world;
    enum turn_state s;

    turn->tag = x->tag;
    s = traffic_ask(w->traffic, turn, &w->ready, turn_request);
    if (steps_are_told())
        steps_turn(x, turn, turn_request, s, clock_now_ms());
    return s;
}

enum turn_state call_turn_state(void *world, struct exchange *x, const struct turn *turn)
{
    (void)x;
    return traffic_state(((struct worker *)world)->traffic, turn);
}

void call_turn_leave(void *world, struct exchange *x, struct turn *turn)
{
    (void)x;
    traffic_leave(((struct worker *)world)->traffic, turn);
}

void call_turn_tell(void *world, struct exchange *x, struct turn *turn, const struct turn_result *r)
{
    (void)x;
    traffic_tell(((struct worker *)world)->traffic, turn, r);
}

void call_turn_end(void *world, struct exchange *x, struct turn *turn)
{
    (void)x;
    traffic_end(((struct worker *)world)->traffic, turn);
}

void call_turn_look(void *world, struct exchange *x, const struct turn_request *turn_request,
                    unsigned helps, struct turns_outlook *ret)
{
    (void)x;
    traffic_look(((struct worker *)world)->traffic, turn_request, helps, ret);
}

bool call_may_repeat(void *world, struct exchange *x, const struct upstream *p)
{
    struct worker *w = world;
    bool may = traffic_may_repeat(w->traffic, p, &x->plan.settings->retry);

    if (!may)
        metrics_add(&w->metrics.denied, 1);
    return may;
}

void call_charge(void *world, struct exchange *x, const struct upstream *p)
{
    (void)x;
    traffic_charge(((struct worker *)world)->traffic, p);
}

void call_take_turns(struct worker *w)
{
    struct turn *turn;

    while ((turn = traffic_take(w->traffic, &w->ready)))
        call_enqueue(turn->tag);
}
