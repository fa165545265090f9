/* Turns what befalls an exchange into its story: ids, names and numbers, never a header or a key. */
#include "worker/story.h"

#include "base/clock.h"
#include "worker/access_log.h"

#define WAIT_WORTH_MS 1000 /* a shorter wait for a turn is no news once it is over */

/* The story, begun if need be, and locked; NULL, and not locked: there can be none. */
static struct story *open_story(struct history *h, struct story **slot, const struct exchange *x)
{
    struct story *s = *slot;
    uint64_t now_ms = clock_now_ms();

    if (s) {
        history_lock(h);
        return s;
    }
    s = *slot = history_begin(h);
    if (!s)
        return NULL;
    history_lock(h);
    story_copy(s->id, sizeof(s->id), str_from(x->request.id));
    story_copy(s->method, sizeof(s->method), buf_str(&x->request.http.method));
    story_copy(s->path, sizeof(s->path), http_request_path(&x->request.http));
    story_copy(s->model, sizeof(s->model), str_from(x->request.model));
    story_copy(s->route, sizeof(s->route), str_from(x->plan.route ? x->plan.route : ""));
    s->stream = x->request.stream;
    s->started_ms = x->started_ms;
    s->unix_ms = clock_unix_ms() - (now_ms - x->started_ms);
    s->max_attempts = x->max_attempts;
    return s;
}

/* --- attempts --------------------------------------------------------------------------------- */

static struct story_attempt *running(struct story *s, unsigned number)
{
    for (unsigned i = s->kept; i-- > 0;)
        if (s->attempt[i].number == number && s->attempt[i].outcome == ATTEMPT_RUNS)
            return &s->attempt[i];
    return NULL;
}

static struct story_attempt *add(struct story *s, const struct exchange *x, const struct attempt *a)
{
    struct story_attempt *one = &s->attempt[s->kept < STORY_ATTEMPTS ? s->kept++ : s->kept - 1];
    const struct target *t = &a->turn.target;
    uint64_t waited = s->backoff_ms + s->queue_ms;

    *one = (struct story_attempt){.number = a->number, .key_number = t->key_number};
    one->start_ms = a->started_ms > x->started_ms ? a->started_ms - x->started_ms : 0;
    one->wait_ms = x->wait_ms - waited;
    s->queue_ms = x->placement.queue_ms;
    s->backoff_ms = x->wait_ms - s->queue_ms;
    story_copy(one->upstream, sizeof(one->upstream),
               str_from(t->upstream ? t->upstream->name : ""));
    story_copy(one->model, sizeof(one->model), t->own_model);
    s->attempts = x->attempts > s->attempts ? x->attempts : s->attempts;
    return one;
}

void story_attempt(struct history *h, struct story **slot, const struct exchange *x,
                   const struct attempt *a)
{
    struct story *s;

    if ((!*slot && a->number == 1) || !(s = open_story(h, slot, x)))
        return;
    (void)add(s, x, a);
    s->phase = STORY_ATTEMPTING;
    history_unlock(h);
}

void story_hedged(struct history *h, struct story **slot, const struct exchange *x)
{
    struct story *s = open_story(h, slot, x);

    if (!s)
        return;
    if (x->attempt->running && !running(s, x->attempt->number))
        (void)add(s, x, x->attempt);
    s->hedges++;
    history_unlock(h);
}

void story_failed(struct history *h, struct story **slot, const struct exchange *x,
                  const struct attempt_report *r)
{
    struct story *s = open_story(h, slot, x);
    struct story_attempt *one;

    if (!s)
        return;
    one = running(s, r->number);
    if (!one)
        one = add(s, x, r->attempt);
    one->outcome = ATTEMPT_FAILED;
    one->duration_ms = r->duration_ms;
    one->status = r->status;
    one->reason = s->reason = r->verdict.reason;
    if (r->error)
        story_copy(one->code, sizeof(one->code), access_log_foreign(x, str_from(r->error->code)));
    story_copy(one->detail, sizeof(one->detail), access_log_foreign(x, str_from(r->detail)));
    s->upstream_ms += r->duration_ms;
    if (r->decision.action == RETRY_AGAIN) {
        s->phase = STORY_BACKOFF;
        s->until_ms = clock_after(clock_now_ms(), r->decision.delay_ms);
    }
    history_unlock(h);
}

/* --- waiting, relaying ------------------------------------------------------------------------ */

void story_waits(struct history *h, struct story **slot, const struct exchange *x,
                 const struct turn *turn)
{
    struct story *s = open_story(h, slot, x);

    if (!s)
        return;
    s->phase = STORY_QUEUED;
    s->why = turn->first_held; /* other threads own the rest of the turn by now */
    history_unlock(h);
}

void story_relays(struct history *h, struct story *s)
{
    if (!s)
        return;
    history_lock(h);
    s->phase = STORY_RELAYING;
    history_unlock(h);
}

/* --- the end ---------------------------------------------------------------------------------- */

static bool ended_in_attempt(const struct exchange *x)
{
    return x->attempts > 0 &&
           (x->end == END_ANSWERED || (x->end == END_CLIENT_GONE && x->reply.committed));
}

uint64_t story_upstream_ms(const struct story *s, const struct exchange *x)
{
    uint64_t total = x->ended_ms - x->started_ms, ms = s ? s->upstream_ms : 0;
    uint64_t most = total > x->wait_ms ? total - x->wait_ms : 0;

    if (ended_in_attempt(x) && x->ended_ms > x->attempt->started_ms)
        ms += x->ended_ms - x->attempt->started_ms;
    return ms < most ? ms : most; /* two that race count once */
}

static bool is_notable(const struct story *s, const struct exchange *x, uint64_t slow_ms)
{
    if (x->end != END_ANSWERED || x->attempts > 1 || x->placement.queue_ms >= WAIT_WORTH_MS ||
        (s && s->kept > 0 && s->attempt[0].outcome == ATTEMPT_FAILED))
        return true;
    return slow_ms > 0 && x->reply.first_byte_ms > 0 &&
           x->reply.first_byte_ms - x->started_ms > slow_ms;
}

static void close_attempts(struct story *s, const struct exchange *x)
{
    bool good = ended_in_attempt(x);

    if (good && !running(s, x->attempt->number))
        (void)add(s, x, x->attempt);
    for (unsigned i = 0; i < s->kept; i++) {
        struct story_attempt *one = &s->attempt[i];
        uint64_t end_ms = x->ended_ms - x->started_ms;

        if (one->outcome != ATTEMPT_RUNS)
            continue;
        one->outcome = good && one->number == x->attempt->number ? ATTEMPT_GOOD : ATTEMPT_CANCELLED;
        one->status = one->outcome == ATTEMPT_GOOD ? x->attempt->status : 0;
        one->duration_ms = end_ms > one->start_ms ? end_ms - one->start_ms : 0;
    }
}

void story_end(struct history *h, struct story **slot, const struct exchange *x, uint64_t slow_ms)
{
    struct story *s;

    if (!is_notable(*slot, x, slow_ms)) {
        story_drop(h, slot);
        return;
    }
    s = open_story(h, slot, x);
    if (!s)
        return;
    close_attempts(s, x);
    s->upstream_ms = story_upstream_ms(s, x);
    s->ended_ms = x->ended_ms;
    s->end = x->end;
    s->status = x->reply.status;
    s->reason = x->end == END_ANSWERED ? REASON_OK : x->last_reason;
    if (x->end != END_ANSWERED && x->cannot_retry)
        story_copy(s->cannot_retry, sizeof(s->cannot_retry), str_from(x->cannot_retry));
    s->attempts = x->attempts;
    s->max_attempts = x->max_attempts;
    s->duplicates = x->duplicates;
    s->splices = x->stream.splices;
    s->client_repeat = x->repeat;
    s->queue_ms = x->placement.queue_ms;
    s->backoff_ms = x->wait_ms - s->queue_ms;
    s->queued_for = x->placement.queue_ms ? x->placement.queue_why : TURN_WHY_NONE;
    s->first_byte_ms = x->reply.first_byte_ms ? x->reply.first_byte_ms - x->started_ms : 0;
    s->bytes = x->reply.bytes_out;
    history_unlock(h);
    history_end(h, s);
    *slot = NULL;
}

void story_drop(struct history *h, struct story **slot)
{
    if (*slot)
        history_drop(h, *slot);
    *slot = NULL;
}
