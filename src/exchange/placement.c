/* Decides where attempts go: picks targets, asks for turns, and decides what follows a failed
 * attempt. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "exchange/exchange_private.h"
#include "policy/retry.h"

#define SHOWN_MAX 60 /* characters of a client's word in a message */
#define NO_FALLBACK "a fallback model cannot take the model's place in a body with Content-Encoding"
#define NOBODY_ELSE "a target that was silent is not asked for the same response again"

/* --- keys and certificates that changed on disk ----------------------------------------------- */

/* Returns the number of the same key now; 0 if it is gone, or for the client's own. */
static unsigned key_by_now(const struct upstream *was, const struct upstream *now, unsigned number)
{
    if (number == 0 || number > was->key_count)
        return 0;
    for (unsigned i = 0; i < now->key_count; i++)
        if (now->keys[i].id == was->keys[number - 1].id)
            return i + 1;
    return 0;
}

static unsigned place_of(const struct plan *plan, const struct upstream *p)
{
    unsigned i = 0;

    while (i < plan->upstream_count && plan->upstreams[i] != p)
        i++;
    assert(i < plan->upstream_count);
    return i;
}

/* Renews the references, without those to keys that are gone. */
static unsigned renew_refs(const struct plan *was, const struct plan *now, struct target_ref *refs,
                           unsigned count)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < count; i++) {
        const struct upstream *before = refs[i].upstream,
                              *p = now->upstreams[place_of(was, before)];
        unsigned number = refs[i].key_number;

        if (number != KEY_ANY && number != 0) {
            number = key_by_now(before, p, number);
            if (number == 0)
                continue;
        }
        refs[kept++] = (struct target_ref){p, number};
    }
    return kept;
}

/* A stream is resumed with the same key, or, if that is gone, with one that has taken its place. */
static void renew_target(const struct plan *was, const struct plan *now, struct target *t)
{
    const struct upstream *before = t->upstream;
    unsigned number = t->key_number;

    t->upstream = now->upstreams[place_of(was, before)];
    if (number > 0) {
        t->key_number = key_by_now(before, t->upstream, number);
        if (t->key_number == 0 && t->upstream->key_count > 0)
            t->key_number = 1;
    }
    t->key = t->key_number ? t->upstream->keys[t->key_number - 1].text : (struct str){NULL, 0};
    if (t->tier > 0) /* the name belongs to the plan */
        t->model = str_from(now->fallback_models[t->tier - 1]);
    t->own_model = target_own_model(t->upstream, t->model);
}

bool placement_finds_other_key(struct exchange *x)
{
    if (x->new_key || x->hedge.rival || x->kept.good || x->placement.target.key_number == 0)
        return false;
    x->new_key = x->ops->other_key(x->world, x, &x->placement.target);
    return x->new_key;
}

/* --- upstreams that the request's model rules out --------------------------------------------- */

/* Whether the url contains "{model}", which stands for the model's name. */
static bool is_in_url(const struct upstream *p)
{
    return strstr(p->base_path, "{model}") != NULL;
}

/* Returns whether upstream `p` cannot be asked for `model` ("": the request names none): it has
 * another name for it, or wants it in its url, and the request names no model or hides it in a
 * packed body, where it cannot be replaced. */
static bool is_unfit(const struct exchange *x, const struct upstream *p, struct str model)
{
    const struct request *r = &x->request;
    /* After the route's base the name can be replaced. */
    bool in_path = r->path_model_n > 0 && r->path_model_at >= x->plan.base.n;

    if (model.n == 0) /* a hidden model may be a renamed one */
        return is_in_url(p) || (r->model_hidden && p->model_count > 0);
    if (!body_is_packed(&r->body) || r->body.length == 0 || is_in_url(p) || in_path)
        return false;
    return !str_eq(target_own_model(p, model), str_from(r->model));
}

static bool all_unfit(const struct exchange *x, struct str model)
{
    for (unsigned i = 0; i < x->plan.upstream_count; i++)
        if (!is_unfit(x, x->plan.upstreams[i], model))
            return false;
    return true;
}

static bool fallbacks_unfit(const struct exchange *x)
{
    for (unsigned i = 0; i < x->plan.fallback_count; i++)
        if (!all_unfit(x, str_from(x->plan.fallback_models[i])))
            return false;
    return x->plan.fallback_count > 0;
}

/* --- the error for a model that no upstream can serve ----------------------------------------- */

void placement_refuse_hidden(struct exchange *x, const char *need)
{
    char why[160], text[400], shown[SHOWN_MAX];
    struct str encoding = {NULL, 0};

    (void)headers_get(&x->request.http.headers, STR("content-encoding"), &encoding);
    str_shown(shown, sizeof(shown), encoding);
    switch (body_packed_state(&x->request.body)) {
    case PACKED_UNKNOWN:
        snprintf(why, sizeof(why),
                 "cannot be read in the encoding \"%s\"; gzip, deflate and zstd can", shown);
        break;
    case PACKED_LONG:
        snprintf(why, sizeof(why),
                 "does not stand in the first %llu MiB of a body in the encoding \"%s\"",
                 (unsigned long long)(x->request.body.look->plain >> 20), shown);
        break;
    default:
        snprintf(why, sizeof(why),
                 "cannot be read, for the body is not valid in its encoding \"%s\"", shown);
    }
    snprintf(text, sizeof(text),
             "retryd: %s the request's model, which %s; send the body without Content-Encoding",
             need, why);
    relay_own_error(x, END_REFUSED, 400, REASON_CLIENT_ERROR, "model_not_readable", text);
}

static void tell_unfit(struct exchange *x, const struct upstream *p)
{
    char text[400], shown[SHOWN_MAX];
    struct str model = str_from(x->request.model);

    if (x->request.model_hidden) {
        snprintf(text, sizeof(text), "upstream %.60s %s", p->name,
                 is_in_url(p) ? "has {model} in its url, and so retryd needs"
                              : "has its own names for models, and so retryd needs");
        placement_refuse_hidden(x, text);
        return;
    }
    if (model.n == 0) {
        snprintf(text, sizeof(text),
                 "retryd: upstream %.60s has {model} in its url, and this request names no model",
                 p->name);
        relay_own_error(x, END_REFUSED, 400, REASON_CLIENT_ERROR, "model_required", text);
        return;
    }
    str_shown(shown, sizeof(shown), model);
    snprintf(text, sizeof(text),
             "retryd: upstream %.60s has another name for the model \"%s\", and in a body with "
             "Content-Encoding it cannot be replaced; send the body without",
             p->name, shown);
    relay_own_error(x, END_REFUSED, 400, REASON_CLIENT_ERROR, "model_not_replaceable", text);
}

static bool cannot_stand_in_url(const struct exchange *x)
{
    struct str model = str_from(x->request.model);

    if (!str_eq(model, STR(".")) && !str_eq(model, STR("..")))
        return false;
    for (unsigned i = 0; i < x->plan.upstream_count; i++)
        if (is_in_url(x->plan.upstreams[i]))
            return true;
    return false;
}

bool placement_refuses_unfit(struct exchange *x)
{
    if (cannot_stand_in_url(x)) {
        relay_own_error(x, END_REFUSED, 400, REASON_CLIENT_ERROR, "invalid_model",
                        "retryd: this model's name cannot stand in a path");
        return true;
    }
    if (!all_unfit(x, str_from(x->request.model)))
        return false;
    tell_unfit(x, x->plan.upstreams[0]);
    return true;
}

/* --- turns ------------------------------------------------------------------------------------ */

/* Identifies the client by its credentials, which pass through to upstreams that have none of their
 * own. */
static uint64_t fingerprint(const struct http_request *request)
{
    const struct headers *h = &request->headers;
    struct str v;

    if (headers_get(h, STR("authorization"), &v) || headers_get(h, STR("api-key"), &v) ||
        headers_get(h, STR("x-api-key"), &v) || headers_get(h, STR("x-goog-api-key"), &v) ||
        http_query_value(http_request_query(request), STR("key"), &v))
        return hash_text(v);
    return 0;
}

static void add_ref(struct target_ref *refs, unsigned *n, struct target_ref t)
{
    if (*n < PLACEMENT_TRIED_MAX && !target_among(refs, *n, t.upstream, t.key_number))
        refs[(*n)++] = t;
}

/* Whether the model may be sent to all upstreams by all their names for it. */
static bool fits_all(const struct exchange *x)
{
    return x->request.model[0] && !body_is_packed(&x->request.body);
}

/* Excludes the upstreams that cannot serve the tier's model. */
static void exclude_unfit(struct exchange *x, struct str model)
{
    struct placement *placement = &x->placement;

    if (fits_all(x))
        return;
    for (unsigned i = 0; i < x->plan.upstream_count; i++)
        if (is_unfit(x, x->plan.upstreams[i], model))
            add_ref(placement->excluded, &placement->turn_request.excluded_count,
                    (struct target_ref){x->plan.upstreams[i], KEY_ANY});
}

void placement_begin(struct exchange *x)
{
    struct placement *placement = &x->placement;
    const struct plan *plan = &x->plan;
    unsigned first = 0; /* the first that can serve it */

    placement->turn_request = (struct turn_request){
        .plan = plan,
        .model = str_from(x->request.model),
        .operation = x->request.operation,
        .client_key = fingerprint(&x->request.http),
        .arrived_ms = x->started_ms,
        .tried = placement->tried,
        .excluded = placement->excluded,
        .random = x->ops->random(x->world),
    };
    placement->turn_request.client =
        x->request.client ? x->request.client : placement->turn_request.client_key;
    /* A request that names no model has none to replace. */
    placement->tiers = x->request.model[0] ? 1 + plan->fallback_count : 1;
    exclude_unfit(x, placement->turn_request.model);
    while (first + 1 < plan->upstream_count &&
           target_among(placement->excluded, placement->turn_request.excluded_count,
                        plan->upstreams[first], KEY_ANY))
        first++;
    placement->target.upstream = plan->upstreams[first];
    if (x->request.sdk_retry)
        turns_charge(x->shared.turns, placement->target.upstream);
}

const char *placement_name(const struct exchange *x)
{
    return x->placement.target.upstream->name;
}

/* Whether the tier's model can replace the requested one. A model does not replace itself. */
static bool stands_in(const struct exchange *x, unsigned tier)
{
    struct str model = str_from(x->plan.fallback_models[tier - 1]);

    return !str_eq(model, x->placement.turn_request.model) && (fits_all(x) || !all_unfit(x, model));
}

/* Returns how many further tiers may be tried. Only the same model continues a stream that the
 * client has a part of. */
static unsigned later_tiers(const struct exchange *x)
{
    unsigned n = 0;

    if (x->reply.committed || x->stream.resuming)
        return 0;
    for (unsigned tier = x->placement.turn_request.tier + 1; tier < x->placement.tiers; tier++)
        n += stands_in(x, tier);
    return n;
}

/* Whether a request that waits in vain may move to another tier. */
static bool may_leave_tier(const struct exchange *x)
{
    return later_tiers(x) > 0 && (x->plan.fallback_on & FALLBACK_ON_ERROR);
}

static uint64_t wait_limit(const struct exchange *x)
{
    return clock_timeout(x->placement.queued_since, x->plan.settings->queue.timeout_ms);
}

/* Counts the wait that ends now. */
static void count_wait(struct exchange *x)
{
    struct placement *placement = &x->placement;
    uint64_t now = x->ops->now_ms(x->world), waited = now - placement->queued_since;

    placement->queued_since = now;
    x->wait_ms += waited;
    placement->queue_ms += waited;
    if (waited > 0)
        placement->queue_why = x->attempt->turn.why;
}

void placement_visit(struct exchange *x, const struct attempt *a)
{
    x->placement.turn_request.visited |= plan_bit(&x->plan, a->turn.target.upstream);
}

static void enter_next_tier(struct exchange *x)
{
    struct placement *placement = &x->placement;

    do
        placement->turn_request.tier++;
    while (!stands_in(x, placement->turn_request.tier));
    placement->turn_request.tried_count = placement->turn_request.excluded_count = 0;
    placement->silent = 0;
    placement->tier_attempts = placement->target_attempts = 0;
    exclude_unfit(x, str_from(x->plan.fallback_models[placement->turn_request.tier - 1]));
}

static void ask(struct exchange *x);

/* Moves to another tier if the reason allows that; else ends the exchange. */
static void in_vain(struct exchange *x, enum reason reason, const char *detail, uint64_t ready_ms)
{
    uint64_t now = x->ops->now_ms(x->world);

    placement_leave(x);
    if (may_leave_tier(x)) {
        enter_next_tier(x);
        ask(x);
        return;
    }
    judge_in_vain(x, reason, detail,
                  ready_ms != TURNS_NEVER && ready_ms > now ? ready_ms - now : 0);
}

static void act(struct exchange *x, enum turn_state s)
{
    static const struct {
        enum reason reason;
        const char *detail;
    } by_why[TURN_WHY_COUNT] = {
        [TURN_WHY_NONE] = {REASON_INTERNAL, "no target is left for this request"},
        [TURN_WHY_GATE] = {REASON_RATE_LIMIT, "it is rate limited for longer than this can wait"},
        [TURN_WHY_BREAKER] = {REASON_UPSTREAM_DOWN, "it is down"},
        [TURN_WHY_LIMIT] =
            {REASON_RATE_LIMIT,
             "max_concurrency or requests_per_minute allow no request before the deadline"},
        [TURN_WHY_PACE] = {REASON_RATE_LIMIT, "rate pacing allows no request before the deadline"},
        [TURN_WHY_QUEUE_FULL] = {REASON_QUEUE_FULL, "too many requests wait already"},
    };
    const struct turn *turn = &x->attempt->turn;

    x->placement.waiting = true;
    if (s == TURN_GRANTED) {
        struct placement *placement = &x->placement;
        const struct target *t = &x->attempt->turn.target, *before = &placement->target;
        bool same_target = t->upstream == before->upstream && t->key_number == before->key_number &&
                           t->tier == before->tier;
        placement->waiting = false;
        x->attempt->has_turn = true;
        placement->turn_request.probed |= x->attempt->turn.pass.probe;
        placement->target_attempts = same_target ? placement->target_attempts + 1 : 1;
        placement->target = *t;
        /* The repeat was meant for another upstream, but has come back to one that had the
         * request. */
        if (!placement->settled &&
            (placement->turn_request.visited & plan_bit(&x->plan, t->upstream)))
            turns_charge(x->shared.turns, t->upstream);
        placement_visit(x, x->attempt);
        exchange_start_attempt(x, false);
    } else if (s == TURN_REFUSED)
        in_vain(x, by_why[turn->why].reason, by_why[turn->why].detail, turn->ready_ms);
}

enum turn_state placement_ask(struct exchange *x, struct turn *turn,
                              const struct turn_request *turn_request)
{
    enum turn_state s = turns_ask(x->shared.turns, turn, x->shared.ready, turn_request);

    x->ops->turn_asked(x->world, x, turn, turn_request, s);
    return s;
}

static void ask(struct exchange *x)
{
    const struct retry_settings *s = &x->plan.settings->retry;
    struct turn_request *turn_request = &x->placement.turn_request;
    uint64_t since = x->placement.queued_since, latest = wait_limit(x);

    if (x->deadline.at_ms != DEADLINE_NONE && x->deadline.at_ms - RETRY_MIN_ATTEMPT_MS < latest)
        latest = x->deadline.at_ms - RETRY_MIN_ATTEMPT_MS;
    turn_request->may_leave = may_leave_tier(x);
    turn_request->only = x->stream.resuming ? &x->placement.target : NULL;
    if (!turn_request->probed)
        turn_request->patient_ms =
            clock_after(since, backoff_left(&s->backoff, x->attempts, x->max_attempts));
    turn_request->latest_ms = latest;
    turn_request->gate_latest_ms = clock_after(since, s->max_hint_ms);
    act(x, placement_ask(x, &x->attempt->turn, turn_request));
}

void placement_queue(struct exchange *x)
{
    exchange_set(x, EXCHANGE_QUEUED);
    placement_release(x, x->attempt);
    struct placement *placement = &x->placement;
    struct plan now;
    if (!x->hedge.rival && x->ops->renew(x->world, x, &now)) {
        assert(now.upstream_count == x->plan.upstream_count);
        placement->turn_request.tried_count =
            renew_refs(&x->plan, &now, placement->tried, placement->turn_request.tried_count);
        placement->turn_request.excluded_count =
            renew_refs(&x->plan, &now, placement->excluded, placement->turn_request.excluded_count);
        renew_target(&x->plan, &now, &placement->target);
        x->plan = now;
    }
    x->placement.queued_since = x->ops->now_ms(x->world);
    if (x->placement.queued_since >= x->deadline.at_ms)
        judge_too_late(x);
    else
        ask(x);
}

void placement_step(struct exchange *x)
{
    enum turn_state s;

    if (!x->placement.waiting)
        return;
    s = turns_state(x->shared.turns, &x->attempt->turn);
    if (s == TURN_WAITING)
        return;
    count_wait(x);
    act(x, s);
}

uint64_t placement_time(const struct exchange *x)
{
    uint64_t limit = wait_limit(x);

    return x->deadline.at_ms < limit ? x->deadline.at_ms : limit;
}

void placement_timeout(struct exchange *x)
{
    enum turn_why why;

    placement_leave(x);
    why = x->attempt->turn.why;
    count_wait(x);
    if (x->ops->now_ms(x->world) >= x->deadline.at_ms) {
        judge_too_late(x);
    } else if (why == TURN_WHY_GATE || why == TURN_WHY_PACE) {
        in_vain(x, REASON_RATE_LIMIT, "it is rate limited, and the queue's timeout has passed", 0);
    } else {
        in_vain(x, REASON_QUEUE_TIMEOUT, "no turn came before the queue's timeout", 0);
    }
}

void placement_leave(struct exchange *x)
{
    if (x->placement.waiting)
        turns_leave(x->shared.turns, &x->attempt->turn);
    x->placement.waiting = false;
}

void placement_release(struct exchange *x, struct attempt *a)
{
    if (a->has_turn)
        turns_end(x->shared.turns, &a->turn);
    a->has_turn = false;
}

static void tell(struct exchange *x, const struct turn_result *r)
{
    if (x->attempt->has_turn)
        turns_tell(x->shared.turns, &x->attempt->turn, r);
}

void placement_tell(struct exchange *x, const struct verdict *v, const struct hint *hint)
{
    struct turn_result r = {
        .verdict = *v, .hint = *hint, .status = x->attempt->status, .stage = TURN_OVER};

    tell(x, &r);
}

void placement_tell_good(struct exchange *x, enum turn_stage stage)
{
    struct turn_result r = {
        .verdict = {.kind = VERDICT_GOOD}, .status = x->attempt->status, .stage = stage};

    if (stage != TURN_HEADERS)
        x->placement.silent &= ~plan_bit(&x->plan, x->placement.target.upstream);
    tell(x, &r);
}

void placement_note_sick(struct exchange *x)
{
    x->placement.sick |= plan_bit(&x->plan, x->attempt->turn.target.upstream);
}

bool placement_begins_anew(struct exchange *x, const struct attempt *a)
{
    unsigned bit = plan_bit(&x->plan, a->turn.target.upstream);
    bool was = (x->placement.sick & bit) != 0;

    x->placement.sick &= ~bit;
    return was;
}

/* --- decisions -------------------------------------------------------------------------------- */

static struct retry_question question(struct exchange *x, const struct verdict *v,
                                      const struct hint *hint)
{
    return (struct retry_question){
        .verdict = *v,
        .hint = *hint,
        .attempts_made = x->attempts,
        .max_attempts = x->max_attempts,
        .no_retry = x->request.overrides.no_retry,
        .blocked = x->cannot_retry,
        .now_ms = x->ops->now_ms(x->world),
        .deadline_ms = x->deadline.at_ms,
        .mending = x->deadline.source == DEADLINE_FROM_MENDING,
        .random = x->ops->random(x->world),
    };
}

static bool is_silence(const struct verdict *v)
{
    return move_cause(v->reason) == FALLBACK_ON_TIMEOUT;
}

/* Returns which other targets may help. A stream that is to be continued stays at its target at
 * first, which may have cached it. */
static unsigned helps_now(const struct exchange *x, const struct verdict *v)
{
    if (stream_resumable(x) ||
        (x->reply.committed && x->placement.target_attempts < 2 && !is_silence(v)))
        return 0;
    if (v->kind == VERDICT_FINAL && !v->movable)
        return 0;
    return move_helps(v->reason);
}

/* Notes the target as tried, and excludes it if the same would fail there again. */
static void note_target(struct exchange *x, unsigned helps, bool again)
{
    struct placement *placement = &x->placement;
    struct target_ref here = {placement->target.upstream,
                              helps & HELPS_KEY ? placement->target.key_number : KEY_ANY};

    add_ref(placement->tried, &placement->turn_request.tried_count, here);
    if (!again)
        add_ref(placement->excluded, &placement->turn_request.excluded_count, here);
}

static bool has_one_target(const struct exchange *x)
{
    return x->plan.upstream_count == 1 && x->placement.target.upstream->key_count < 2;
}

void placement_note(struct exchange *x, const struct verdict *v)
{
    unsigned helps = helps_now(x, v);

    if (helps && !has_one_target(x))
        note_target(x, helps, v->kind == VERDICT_RETRY);
}

/* Returns where the next attempt may go instead of the same target. `ret_next`: the upstream
 * there. */
static enum move find_move(struct exchange *x, const struct verdict *v, bool again,
                           const struct upstream **ret_next)
{
    struct placement *placement = &x->placement;
    unsigned helps = helps_now(x, v);
    struct turns_outlook here;
    struct move_question q = {
        .reason = v->reason,
        .again = again,
        .later_tiers = helps & HELPS_MODEL ? later_tiers(x) : 0,
        .attempts_left = x->max_attempts - x->attempts,
        .fallback_on = x->plan.fallback_on,
        .tier_attempts = placement->tier_attempts,
        .attempts_per_tier = x->plan.settings->retry.attempts_per_tier,
    };
    enum move move;

    *ret_next = placement->target.upstream;
    if (helps == 0 || (has_one_target(x) && q.later_tiers == 0))
        return MOVE_STAY;
    note_target(x, helps, again);
    turns_look(x->shared.turns, &placement->turn_request, helps, &here);
    q.others = here.other ? helps : 0;
    q.tier_down = here.down;
    move = move_decide(&q);
    if (move == MOVE_TARGET)
        *ret_next = here.target.upstream;
    else if (move == MOVE_TIER)
        *ret_next = x->plan.upstreams[0];
    return move;
}

/* Excludes silent upstreams for a response that is to be mended. Returns false if the tier has no
 * others. */
static bool leave_silent(struct exchange *x)
{
    struct placement *placement = &x->placement;
    unsigned all = (1u << x->plan.upstream_count) - 1;

    for (unsigned i = 0; i < x->plan.upstream_count; i++)
        if (placement->silent & 1u << i)
            add_ref(placement->excluded, &placement->turn_request.excluded_count,
                    (struct target_ref){x->plan.upstreams[i], KEY_ANY});
    return (placement->silent & all) != all;
}

/* Charges a repeat to the budget of its upstream if that has had this request before, even for
 * another model. Returns false if the budget has no room. */
static bool settle(struct exchange *x, const struct verdict *v, enum move move,
                   const struct upstream *next)
{
    struct placement *placement = &x->placement;
    bool again = (placement->turn_request.visited & plan_bit(&x->plan, next)) != 0;

    placement->settled = placement->prepaid || v->reason == REASON_STALE || v->new_key ||
                         (move != MOVE_STAY && move_is_free(v->reason));
    placement->prepaid = false;
    if (placement->settled || !again)
        return true;
    placement->settled = turns_may_repeat(x->shared.turns, next, &x->plan.settings->retry);
    return placement->settled;
}

/* Whether only the packed body prevented an attempt with another model. */
static bool missed_fallback(const struct exchange *x, const struct verdict *v)
{
    if (fits_all(x) || x->reply.committed || !(helps_now(x, v) & HELPS_MODEL) ||
        !(x->plan.fallback_on & move_cause(v->reason)))
        return false;
    return body_is_packed(&x->request.body) && fallbacks_unfit(x);
}

struct retry_decision placement_decide(struct exchange *x, const struct verdict *v,
                                       const struct hint *hint)
{
    const struct retry_settings *s = &x->plan.settings->retry;
    struct retry_question q = question(x, v, hint);
    struct retry_decision d = retry_decide(s, &q);
    const struct upstream *next = x->placement.target.upstream;
    /* The client has waited long enough. To resume a background response repeats nothing. */
    bool shuns_silent = x->reply.committed && !stream_resumable(x);

    if (is_silence(v))
        x->placement.silent |= plan_bit(&x->plan, next);
    if (shuns_silent && !leave_silent(x) && d.action == RETRY_AGAIN)
        d = (struct retry_decision){.action = RETRY_GIVE_UP, .why_not = NOBODY_ELSE};
    else if (!retry_forbids_all(s, &q))
        d.move = find_move(x, v, d.action == RETRY_AGAIN, &next);
    if (d.move != MOVE_STAY)
        d = (struct retry_decision){.action = RETRY_AGAIN, .move = d.move};
    if (d.action == RETRY_AGAIN && !settle(x, v, d.move, next))
        d = (struct retry_decision){.action = RETRY_GIVE_UP,
                                    .why_not = "the upstream's retry budget is used up"};
    if (d.action == RETRY_GIVE_UP && missed_fallback(x, v))
        d.why_not = NO_FALLBACK;
    if (d.action == RETRY_GIVE_UP)
        exchange_cannot_retry(x, d.why_not);
    return d;
}

bool placement_would_repeat(struct exchange *x, const struct verdict *v)
{
    struct hint none = {.source = HINT_NONE};
    struct retry_question q = question(x, v, &none);
    const struct retry_settings *s = &x->plan.settings->retry;

    if (retry_decide(s, &q).action != RETRY_AGAIN)
        return false;
    x->placement.prepaid = turns_may_repeat(x->shared.turns, x->placement.target.upstream, s);
    return x->placement.prepaid;
}

void placement_move(struct exchange *x, const struct verdict *v, enum move move)
{
    if (move == MOVE_TIER)
        enter_next_tier(x);
    else if (move == MOVE_STAY && v->reason != REASON_STALE)
        x->placement.turn_request.tried_count = 0;
}
