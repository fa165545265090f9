/* The world of an exchange under test: a clock turned by hand, scripted attempts, a client. */
#include "fake_world.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "targets/turns_private.h"

#define WRITE_MAX (16 * 1024) /* bytes that libcurl hands over at once */
#define SPINS_MAX 1000        /* steps without time going on: more is a busy loop */

static void wrong(struct fake_world *w, const char *what)
{
    if (!w->wrong)
        w->wrong = what;
}

uint64_t fake_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 2685821657736338717u;
}

int fake_add_headers(struct headers *h, const char *lines)
{
    struct str rest = str_from(lines ? lines : ""), line;

    while (str_next(&rest, '\n', &line)) {
        struct str name;

        if (line.n == 0)
            continue;
        if (!str_next(&line, ':', &name))
            return -EINVAL;
        int rc = headers_add(h, name, str_trim(line));
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* --- the clock -------------------------------------------------------------------------------- */

static uint64_t op_now(void *world)
{
    return ((struct fake_world *)world)->now_ms;
}

static uint64_t op_unix(void *world)
{
    struct fake_world *w = world;

    return w->unix_ms + w->now_ms;
}

static uint64_t op_random(void *world)
{
    return fake_random(&((struct fake_world *)world)->random);
}

static void op_timer_set(void *world, struct exchange *x, uint64_t at_ms)
{
    struct fake_world *w = world;

    (void)x;
    if (at_ms != TIMER_OFF && at_ms + w->timer_late_ms >= at_ms)
        at_ms += w->timer_late_ms;
    if (!w->timer_lazy || at_ms < w->timer_ms)
        w->timer_ms = at_ms;
}

/* --- attempts --------------------------------------------------------------------------------- */

static void only_provider(struct fake_world *w)
{
    static struct target_key key;

    key = (struct target_key){.text = w->key, .id = 1};
    w->upstream_count = 1;
    w->upstreams[0] = (struct upstream){
        .name = "openai",
        .id = 7,
        .host = "api.example",
        .base_path = w->base_path,
        .query = "",
        .auth_header = "Authorization",
        .keys = &key,
        .key_count = w->key.n > 0,
        .idempotency_header = w->idempotency_header,
        .key_cooldown_ms = 300000,
    };
}

static int op_plan(void *world, struct exchange *x, struct str model, struct plan *ret_plan,
                   char *ret_why, size_t size)
{
    struct fake_world *w = world;

    (void)model;
    if (x->state != EXCHANGE_RECEIVING)
        wrong(w, "planned twice");
    snprintf(ret_why, size, "%s", "retryd: no route");
    if (w->plan_fails)
        return w->plan_fails;
    if (w->upstream_count == 0)
        only_provider(w);
    for (unsigned i = 0; i < w->upstream_count; i++)
        w->plan_providers[i] = &w->upstreams[i];
    *ret_plan = (struct plan){
        .route = "test",
        .base = STR("/v1"),
        .settings = &w->settings,
        .upstreams = w->plan_providers,
        .weights = w->weights,
        .upstream_count = w->upstream_count,
        .fallback_models = w->fallback_models,
        .fallback_count = w->fallback_count,
        .fallback_on = w->fallback_on,
    };
    return 0;
}

/* --- turns ------------------------------------------------------------------------------------ */

static void on_woken(void *arg)
{
    ((struct fake_world *)arg)->dirty = true;
}

static void on_event(void *arg, const struct turns_event *e)
{
    ((struct fake_world *)arg)->denied += e->kind == TURNS_DENIED;
}

static void op_turn_asked(void *world, struct exchange *x, const struct turn *turn,
                          const struct turn_request *turn_request, enum turn_state s)
{
    struct fake_world *w = world;

    (void)x;
    if (turn_request != turn->turn_request || s == TURN_NONE)
        wrong(w, "asked for a turn, and has none");
}

/* Old and new are apart, so that whoever mixes them up is found out. */
static bool op_renew(void *world, struct exchange *x, struct plan *ret_plan)
{
    struct fake_world *w = world;

    if (!w->renews || x->plan.upstreams == w->plan_renewed)
        return false;
    for (unsigned i = 0; i < w->upstream_count; i++)
        w->plan_renewed[i] = &w->renewed[i];
    *ret_plan = x->plan;
    ret_plan->upstreams = w->plan_renewed;
    return true;
}

static bool op_other_key(void *world, struct exchange *x, const struct target *t)
{
    struct fake_world *w = world;
    unsigned i = 0;

    (void)x;
    w->other_key_asked++;
    while (i < w->upstream_count && &w->upstreams[i] != t->upstream)
        i++;
    for (unsigned k = 0; w->renewed[0].name && i < w->upstream_count && k < w->renewed[i].key_count;
         k++) {
        bool known = false;

        for (unsigned n = 0; n < t->upstream->key_count; n++)
            known |= t->upstream->keys[n].id == w->renewed[i].keys[k].id;
        if (!known) {
            w->renews = true;
            return true;
        }
    }
    return false;
}

/* --- the attempts' events --------------------------------------------------------------------- */

static const struct fake_piece *next_piece(const struct fake_run *r)
{
    if (r->piece >= FAKE_PIECES || !r->current->pieces[r->piece].text)
        return NULL;
    return &r->current->pieces[r->piece];
}

/* When the attempt's next event comes, counted from now. */
static void plan_next(const struct fake_world *w, struct fake_run *r)
{
    const struct fake_attempt *s = r->current;
    const struct fake_piece *piece = next_piece(r);
    uint64_t in = s->end_ms;

    if (s->status != 0 && !r->headers_given)
        in = s->headers_ms;
    else if (piece)
        in = r->piece_done ? 0 : piece->after_ms;
    else if (s->hangs)
        in = FAKE_NEVER;
    r->next_ms = in == FAKE_NEVER ? FAKE_NEVER : w->now_ms + in;
}

static void end_attempt(struct fake_world *w, struct fake_run *r)
{
    struct attempt *a = r->a;

    a->transport = r->current->end;
    snprintf(a->detail, sizeof(a->detail), "%s", r->current->detail ? r->current->detail : "");
    a->upload_whole = !r->current->upload_stuck && r->sent_all;
    a->done = true;
    w->start[r->start].gone_ms = w->now_ms;
    r->current = NULL;
}

/* One write of the current piece. False where the attempt had to pause. */
static bool write_piece(struct fake_world *w, struct fake_run *r, const struct fake_piece *piece)
{
    struct attempt *a = r->a;
    size_t n = (piece->n ? piece->n : strlen(piece->text)) - r->piece_done;
    bool last = n <= WRITE_MAX;

    if (a->body.len >= a->high_water) {
        a->paused = true;
        return false;
    }
    if (!last)
        n = WRITE_MAX;
    if (buf_add(&a->body, piece->text + r->piece_done, n) < 0) {
        snprintf(a->detail, sizeof(a->detail), "out of memory");
        a->transport = TRANSPORT_INTERNAL;
        a->done = true;
        w->start[r->start].gone_ms = w->now_ms;
        r->current = NULL;
        return true;
    }
    a->received += n;
    r->piece_done = last ? 0 : r->piece_done + n;
    r->piece += last;
    return true;
}

/* The attempt's event that is due. */
static void attempt_event(struct fake_world *w, struct fake_run *r)
{
    struct attempt *a = r->a;
    const struct fake_piece *piece = next_piece(r);

    w->dirty = true;
    if (r->current->status != 0 && !r->headers_given) {
        if (fake_add_headers(&a->headers, r->current->headers) < 0) {
            a->transport = TRANSPORT_BAD_RESPONSE;
            a->done = true;
            w->start[r->start].gone_ms = w->now_ms;
            r->current = NULL;
            return;
        }
        a->status = r->current->status;
        a->headers_done = true;
        r->headers_given = true;
    } else if (!piece) {
        end_attempt(w, r);
        return;
    } else if (!write_piece(w, r, piece)) {
        return;
    }
    a->last_piece_ms = w->now_ms;
    if (r->current)
        plan_next(w, r);
}

static void end_at_once(struct fake_world *w, struct fake_run *r, const char *why)
{
    struct attempt *a = r->a;

    snprintf(a->detail, sizeof(a->detail), "%s", why);
    a->transport = TRANSPORT_INTERNAL;
    a->done = true;
    w->start[r->start].gone_ms = w->now_ms;
    r->current = NULL;
    w->dirty = true;
}

/* The request's body, as far as it can be had now: it must be what the client sent. */
static void send_body(struct fake_world *w, struct fake_run *r)
{
    char piece[5000];
    ptrdiff_t n;

    if (r->sent_all)
        return;
    while ((n = body_read_edited(&w->x.request.body, &r->a->edit, r->sent_bytes, piece,
                                 sizeof(piece))) > 0) {
        if (r->a->edit.cut == 0 && (r->sent_bytes + (size_t)n > w->upload_len ||
                                    memcmp(piece, w->upload + r->sent_bytes, (size_t)n) != 0))
            wrong(w, "a body that is not the client's");
        r->sent_bytes += (size_t)n;
    }
    w->start[r->start].sent = r->sent_bytes;
    if (n == -EAGAIN)
        return;
    r->sent_all = true;
    if (n < 0)
        end_at_once(w, r, "the body could not be read");
    else if (r->sent_bytes != body_edited_length(&w->x.request.body, &r->a->edit))
        wrong(w, "a body cut short");
    if (r->current && !r->current->early)
        plan_next(w, r);
}

static void run_events(struct fake_world *w, struct fake_run *r)
{
    if (r->current && !r->current->upload_stuck)
        send_body(w, r);
    while (r->current && !r->a->paused && r->next_ms <= w->now_ms)
        attempt_event(w, r);
}

static void attempt_events(struct fake_world *w)
{
    for (unsigned i = 0; i < 2; i++)
        run_events(w, &w->runs[i]);
}

static bool any_runs(const struct fake_world *w)
{
    return w->runs[0].current || w->runs[1].current;
}

static const struct fake_attempt *script_of(struct fake_world *w, const struct target *t,
                                            unsigned n)
{
    return w->pick ? w->pick(w, t) : &w->script[n];
}

static void check_start(struct fake_world *w, const struct exchange *x, const struct attempt *a)
{
    if (w->runs[a - x->slots].current || a->running)
        wrong(w, "two attempts at once");
    if (any_runs(w) && w->settings.hedge.after_ms == 0)
        wrong(w, "two attempts at once, though it does not hedge");
    if (x->state != EXCHANGE_ATTEMPTING && a == x->attempt)
        wrong(w, "an attempt started outside ATTEMPTING");
    if (a->body.len > 0 || a->done || a->headers_done)
        wrong(w, "an attempt started with the last one's remains");
    if (a->high_water == 0)
        wrong(w, "an attempt without a high-water mark");
    if (a->turn.state != TURN_GRANTED)
        wrong(w, "an attempt without a turn");
}

static void note_model(struct fake_world *w, struct fake_start *start, const struct attempt *a)
{
    char text[2000], model[64] = "";
    ptrdiff_t n;

    if (!body_in_memory(&w->x.request.body))
        return;
    n = body_read_edited(&w->x.request.body, &a->edit, 0, text, sizeof(text));
    if (a->edit.cut > 0 && n > 0 && (uint64_t)n == a->edit.at) /* the rest begins with the edit */
        n += body_read_edited(&w->x.request.body, &a->edit, (uint64_t)n, text + n,
                              sizeof(text) - (size_t)n);
    if (n > 0) {
        struct json_value v = json_scan_one((struct str){text, (size_t)n}, STR("model"));

        if (v.type == JSON_STRING)
            snprintf(model, sizeof(model), "%.*s", (int)v.text.n, v.text.p);
    }
    snprintf(start->model, sizeof(start->model), "%s", model);
}

static int op_attempt_start(void *world, struct exchange *x, struct attempt *a,
                            const struct outgoing *o)
{
    struct fake_world *w = world;
    struct fake_run *r = &w->runs[a - x->slots];
    unsigned n = w->starts < w->script_len ? w->starts : w->script_len - 1;
    const struct fake_attempt *s;

    check_start(w, x, a);
    if (w->starts == FAKE_ATTEMPTS) {
        wrong(w, "too many attempts");
        return -EMFILE;
    }
    s = script_of(w, &a->turn.target, n);
    w->start[w->starts] = (struct fake_start){.at_ms = w->now_ms,
                                              .gone_ms = FAKE_NEVER,
                                              .fresh = a->fresh,
                                              .anew = a->anew,
                                              .script = n,
                                              .target = a->turn.target};
    note_model(w, &w->start[w->starts], a);
    *r = (struct fake_run){.a = a, .start = w->starts++};
    if (s->start_fails) {
        w->start[r->start].gone_ms = w->now_ms;
        return s->start_fails;
    }
    buf_reset(&w->path, SIZE_MAX);
    buf_add_str(&w->path, str_from(o->target.p));
    w->with_body = o->with_body;
    w->method_is_get = !strcmp(o->method, "GET");
    headers_reset(&w->sent);
    for (unsigned i = 0; i < o->headers.count; i++)
        if (headers_add(&w->sent, headers_name(&o->headers, i), headers_value(&o->headers, i)) < 0)
            return -ENOMEM;
    r->current = s;
    r->sent_all = s->upload_stuck;
    r->next_ms = FAKE_NEVER;
    if (s->early || s->upload_stuck)
        plan_next(w, r);
    else
        send_body(w, r);
    if (s->at_once)
        run_events(w, r);
    return 0;
}

static void op_attempt_cancel(void *world, struct exchange *x, struct attempt *a)
{
    struct fake_world *w = world;
    struct fake_run *r = &w->runs[a - x->slots];

    if (!r->current) {
        wrong(w, "cancelled what does not run");
        return;
    }
    a->upload_whole = !r->current->upload_stuck && r->sent_all;
    w->start[r->start].gone_ms = w->now_ms;
    w->start[r->start].cancelled = true;
    r->current = NULL;
    w->cancels++;
}

/* As in libcurl the write that was refused comes again before this returns. */
static void op_attempt_resume(void *world, struct exchange *x, struct attempt *a)
{
    struct fake_world *w = world;
    struct fake_run *r = &w->runs[a - x->slots];

    if (!r->current || !a->paused) {
        wrong(w, "resumed what is not paused");
        return;
    }
    w->resumes++;
    a->paused = false;
    run_events(w, r);
}

static void op_attempt_failed(void *world, struct exchange *x, const struct attempt_report *r)
{
    struct fake_world *w = world;

    if (r->number != x->attempts && x->hedge.count == 0)
        wrong(w, "an attempt reported under another's number");
    for (unsigned i = 0; i < w->failures && i < FAKE_ATTEMPTS; i++)
        if (w->reports[i].number == r->number)
            wrong(w, "an attempt judged twice");
    if (w->failures < FAKE_ATTEMPTS)
        w->reports[w->failures] = *r;
    w->failures++;
}

static void op_hedged(void *world, struct exchange *x)
{
    struct fake_world *w = world;

    w->hedges++;
    if (!x->hedge.rival || w->settings.hedge.after_ms == 0)
        wrong(w, "a hedge that is none");
}

static void op_event_dropped(void *world, struct exchange *x, bool malformed)
{
    struct fake_world *w = world;

    w->dropped_malformed += malformed;
    w->dropped_unfit += !malformed;
    if (x->stream.dropped != w->dropped_malformed + w->dropped_unfit)
        wrong(w, "a dropped event was not counted");
}

/* --- spools ----------------------------------------------------------------------------------- */

static int op_spool_open(void *world, struct exchange *x, struct spool **ret)
{
    (void)x;
    return fake_spool_open(&((struct fake_world *)world)->disk, ret);
}

static bool op_pressed(void *world)
{
    return ((struct fake_world *)world)->pressed;
}

/* --- the response ----------------------------------------------------------------------------- */

static int take_headers(struct fake_world *w, const struct http_response *response)
{
    int rc = 0;

    if (w->wholes + w->begins > 0)
        wrong(w, "answered twice");
    if (w->x.client_gone)
        wrong(w, "answered a client that is gone");
    w->answered_ms = w->now_ms;
    w->response.status = response->status;
    w->response.content_length = response->content_length;
    for (unsigned i = 0; rc == 0 && i < response->headers.count; i++)
        rc = headers_add(&w->response.headers, headers_name(&response->headers, i),
                         headers_value(&response->headers, i));
    return rc;
}

static bool does_not_fit(struct fake_world *w)
{
    bool large = w->large_headers;

    w->large_headers = false;
    return large;
}

static int op_response_whole(void *world, struct exchange *x, const struct http_response *response,
                             struct buf *body)
{
    struct fake_world *w = world;

    if (does_not_fit(w))
        return -EMSGSIZE;
    int rc = w->whole_fails ? w->whole_fails : take_headers(w, response);
    struct buf taken = *body;

    (void)x;
    buf_init(body, body->cap);
    if (rc == 0 && w->body.len == 0) {
        buf_deinit(&w->body);
        w->body = taken;
        w->wholes++;
    } else {
        buf_deinit(&taken);
    }
    return rc;
}

static int op_response_begin(void *world, struct exchange *x, const struct http_response *response)
{
    struct fake_world *w = world;

    if (does_not_fit(w))
        return -EMSGSIZE;
    int rc = w->begin_fails ? w->begin_fails : take_headers(w, response);

    (void)x;
    if (rc < 0)
        return rc;
    w->begins++;
    w->asleep = false;
    w->pull_ms = w->now_ms;
    return 0;
}

static void op_response_interim(void *world, struct exchange *x, struct str interim)
{
    struct fake_world *w = world;

    (void)x;
    if (w->wholes + w->begins > 0)
        wrong(w, "an interim response behind the answer");
    w->interims += interim.n > 0;
}

static void op_response_wake(void *world, struct exchange *x)
{
    struct fake_world *w = world;

    (void)x;
    w->wakes++;
    if (w->asleep)
        w->pull_ms = w->now_ms;
    w->asleep = false;
}

static void op_response_cut(void *world, struct exchange *x)
{
    struct fake_world *w = world;

    (void)x;
    w->cuts++;
    w->got_cut = true;
}

static void op_ended(void *world, struct exchange *x)
{
    struct fake_world *w = world;

    w->ended++;
    if (any_runs(w) || x->attempt->running)
        wrong(w, "ended with an attempt under way");
    if (x->end == END_NONE)
        wrong(w, "ended without saying how");
}

static const struct exchange_ops fake_ops = {
    .now_ms = op_now,
    .unix_ms = op_unix,
    .random = op_random,
    .plan = op_plan,
    .renew = op_renew,
    .other_key = op_other_key,
    .attempt_start = op_attempt_start,
    .attempt_cancel = op_attempt_cancel,
    .attempt_resume = op_attempt_resume,
    .timer_set = op_timer_set,
    .response_whole = op_response_whole,
    .response_begin = op_response_begin,
    .response_interim = op_response_interim,
    .response_wake = op_response_wake,
    .response_cut = op_response_cut,
    .spool_open = op_spool_open,
    .pressed = op_pressed,
    .turn_asked = op_turn_asked,
    .hedged = op_hedged,
    .attempt_failed = op_attempt_failed,
    .event_dropped = op_event_dropped,
    .ended = op_ended,
};

/* --- the client ------------------------------------------------------------------------------- */

static bool client_reads(const struct fake_world *w)
{
    return w->begins > 0 && !w->got_end && !w->got_cut && !w->asleep && !w->x.client_gone &&
           !(w->client.stops_at && w->now_ms >= w->client.stops_at);
}

static void client_pulls(struct fake_world *w)
{
    char piece[4096];
    size_t max = w->client.pull_max ? w->client.pull_max : sizeof(piece);
    ptrdiff_t n = exchange_pull(&w->x, piece, max);

    if (n < 0 || exchange_wants_room(&w->x))
        w->dirty = true;
    if (n == PULL_END)
        w->got_end = true;
    else if (n == PULL_CUT)
        w->got_cut = true;
    else if (n == 0)
        w->asleep = true;
    else if (n < 0 || (size_t)n > max)
        wrong(w, "a pull outside its bounds");
    else
        buf_add(&w->body, piece, (size_t)n);
    if (w->got_end && w->client.leaves_with_the_end)
        exchange_client_gone(&w->x);
    w->pull_ms = w->now_ms + w->client.every_ms;
}

/* --- time ------------------------------------------------------------------------------------- */

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static bool awaits_request(const struct fake_world *w)
{
    return !w->x.request_complete && !w->x.client_gone && !w->x.refused;
}

uint64_t fake_next(const struct fake_world *w)
{
    const struct fake_client *c = &w->client;
    uint64_t at = FAKE_NEVER;

    if (w->x.state == EXCHANGE_DONE)
        return at;
    at = earlier(w->timer_ms, fake_disk_next(&w->disk));
    if (awaits_request(w) && w->upload_at == w->upload_len)
        at = earlier(at, w->request_ms);
    else if (awaits_request(w) && !body_full(&w->x.request.body))
        at = w->now_ms;
    for (unsigned i = 0; i < 2; i++)
        if (w->runs[i].current && !w->runs[i].a->paused)
            at = earlier(at, w->runs[i].next_ms);
    if (w->own_turns)
        at = earlier(at, w->turns_world.next_ms);
    if (w->dirty)
        at = w->now_ms;
    if (client_reads(w))
        at = earlier(at, w->pull_ms);
    if (c->leaves_at && !w->x.client_gone)
        at = earlier(at, c->leaves_at);
    return at < w->now_ms ? w->now_ms : at;
}

static unsigned status_of(ptrdiff_t rc)
{
    return rc == -EFBIG ? 413 : rc == -ENOSPC ? 507 : 503;
}

/* Brings what the exchange can take of the client's body. */
static ptrdiff_t upload_some(struct fake_world *w)
{
    size_t most = w->upload_piece ? w->upload_piece : 16384;
    ptrdiff_t n = 1;

    while (n > 0 && w->upload_at < w->upload_len) {
        size_t left = w->upload_len - w->upload_at;

        n = exchange_body(&w->x, w->upload + w->upload_at, left < most ? left : most);
        if (n > 0)
            w->upload_at += (size_t)n;
        if (n == 0 && !body_full(&w->x.request.body))
            wrong(w, "nothing taken though it is not full");
    }
    return n < 0 ? n : 0;
}

static void request_comes(struct fake_world *w)
{
    ptrdiff_t rc = upload_some(w);

    if (rc < 0) {
        exchange_refused(&w->x, status_of(rc));
        w->dirty = true;
    } else if (w->upload_at == w->upload_len && w->now_ms >= w->request_ms) {
        exchange_request_done(&w->x);
        w->dirty = true;
    }
}

static void things_happen(struct fake_world *w)
{
    if (awaits_request(w))
        request_comes(w);
    if (fake_disk_turn(&w->disk))
        w->dirty = true;
    attempt_events(w);
    if (w->own_turns && w->turns_world.next_ms <= w->now_ms)
        turns_run(w->own_turns);
    if (client_reads(w) && w->pull_ms <= w->now_ms)
        client_pulls(w);
    if (w->client.leaves_at && w->now_ms >= w->client.leaves_at && !w->x.client_gone) {
        exchange_client_gone(&w->x);
        w->dirty = true;
    }
    if (w->timer_ms <= w->now_ms) {
        w->timer_ms = TIMER_OFF;
        w->dirty = true;
    }
    if (w->step_at_random && fake_random(&w->random) % 4 == 0)
        w->dirty = true;
}

static uint64_t since(uint64_t start_ms, uint64_t timeout_ms)
{
    return timeout_ms ? start_ms + timeout_ms : FAKE_NEVER;
}

/* By when the exchange must act though nothing else happens; counted here once more. */
static uint64_t must_act_by(const struct fake_world *w)
{
    const struct exchange *x = &w->x;
    const struct timeout_settings *t = &w->settings.timeout;
    uint64_t started = w->starts ? w->start[w->starts - 1].at_ms : 0;
    uint64_t total = since(started, t->total_ms);
    bool thinks =
        x->held.open || (x->stream.on && !x->stream.guard.content && !x->stream.guard.marker);
    uint64_t idle = earlier(total, thinks ? since(started, t->first_content_ms)
                                          : since(x->attempt->last_piece_ms, t->idle_ms));
    bool alive = x->reply.begun && x->stream.on && x->stream.guard.content;

    switch (x->state) {
    case EXCHANGE_QUEUED:
        return earlier(x->deadline.at_ms,
                       since(x->placement.queued_since, w->settings.queue.timeout_ms));
    case EXCHANGE_BACKOFF:
        return x->next_at_ms;
    case EXCHANGE_ATTEMPTING:
        return earlier(x->deadline.at_ms, earlier(total, since(started, t->first_byte_ms)));
    case EXCHANGE_HOLDING:
        if (x->attempt->paused)
            return FAKE_NEVER;
        return alive ? idle : earlier(x->deadline.at_ms, idle);
    case EXCHANGE_RELAYING:
        return any_runs(w) && !x->attempt->paused ? idle : FAKE_NEVER;
    default:
        return FAKE_NEVER;
    }
}

static size_t held(const struct exchange *x)
{
    return x->attempt->body.len + x->reply.out.bytes.len - x->reply.out.taken;
}

static void step(struct fake_world *w)
{
    uint64_t by;

    w->dirty = false;
    w->steps++;
    while (turns_ready_take(w->x.shared.turns, &w->ready))
        ;
    if (w->before_step)
        w->before_step(w);
    exchange_step(&w->x);
    by = must_act_by(w);
    if (by != FAKE_NEVER && w->timer_ms > by + w->timer_late_ms && !w->dirty)
        wrong(w, "a wait without a timer");
    if (w->x.state == EXCHANGE_QUEUED && !w->x.placement.waiting)
        wrong(w, "left in QUEUED, and waits for nothing");
    if (w->x.state != EXCHANGE_QUEUED && w->x.placement.waiting)
        wrong(w, "has left QUEUED, and keeps its place there");
    w->states |= 1u << w->x.state;
    if (w->x.state == EXCHANGE_RELAYING && held(&w->x) > w->most_held)
        w->most_held = held(&w->x);
}

bool fake_turn_at(struct fake_world *w, uint64_t at_ms)
{
    unsigned spins = 0;

    w->now_ms = at_ms;
    things_happen(w);
    while (w->dirty && !w->wrong) {
        step(w);
        if (++spins > SPINS_MAX)
            wrong(w, "a busy loop");
        if (w->x.state == EXCHANGE_DONE)
            break;
        attempt_events(w);
    }
    return w->x.state != EXCHANGE_DONE && !w->wrong;
}

bool fake_turn(struct fake_world *w)
{
    uint64_t at = fake_next(w);

    if (at == FAKE_NEVER) {
        w->stuck = w->x.state != EXCHANGE_DONE && w->x.request_complete && w->client.stops_at == 0;
        return false;
    }
    return fake_turn_at(w, at);
}

void fake_run(struct fake_world *w)
{
    while (fake_turn(w))
        ;
}

void fake_run_until(struct fake_world *w, uint64_t at_ms)
{
    while (fake_next(w) < at_ms && fake_turn(w))
        ;
}

unsigned fake_repeats(const struct fake_world *w, unsigned upstream)
{
    const struct upstream_state *s =
        turns_table_find(w->x.shared.turns, w->upstreams[upstream].id, ENTRY_UPSTREAM);
    unsigned n = 0;

    for (unsigned i = 0; s && i < BUDGET_BUCKETS; i++)
        n += s->budget.buckets[i].repeats;
    return n;
}

/* --- beginning and end ------------------------------------------------------------------------ */

void fake_init(struct fake_world *w)
{
    memset(w, 0, sizeof(*w));
    w->disk.now_ms = &w->now_ms;
    w->settings = (struct route_settings){
        .retry = {.max_attempts = 5,
                  .attempts_per_tier = 3,
                  .backoff = {1000, 2, 60000, JITTER_NONE},
                  .retry_on = RETRY_ON_ALL,
                  .retry_ambiguous = true,
                  .max_hint_ms = 120000,
                  .deadline_ms = 600000,
                  .budget_min = 100000},
        .timeout = {.connect_ms = 5000,
                    .first_byte_ms = 300000,
                    .first_content_ms = 300000,
                    .idle_ms = 60000},
        .queue = {.size = 10000, .timeout_ms = 120000},
    };
    w->fallback_on = FALLBACK_ON_ALL;
    w->limits = (struct exchange_limits){
        .hold_limit = 4 << 20, .max_body = 1 << 20, .memory_body = 1 << 20, .spool_dir = "/spool"};
    w->base_path = "/v1";
    w->idempotency_header = "";
    w->unix_ms = 1700000000000;
    w->random = 88172645463325252u;
    w->timer_ms = TIMER_OFF;
    buf_init(&w->path, 1 << 20);
    buf_init(&w->body, SIZE_MAX / 2);
    headers_init(&w->sent);
    http_response_init(&w->response);
}

void fake_deinit(struct fake_world *w)
{
    if (w->begun)
        exchange_deinit(&w->x);
    if (any_runs(w))
        wrong(w, "an attempt outlived its exchange");
    if (w->disk.opened != w->disk.closed)
        wrong(w, "a spool outlived its exchange");
    turns_free(w->own_turns);
    buf_deinit(&w->path);
    buf_deinit(&w->body);
    headers_deinit(&w->sent);
    http_response_deinit(&w->response);
}

static ptrdiff_t begin_upload(struct fake_world *w, const char *body)
{
    if (!w->upload) {
        w->upload = body;
        w->upload_len = strlen(body);
    }
    return upload_some(w);
}

void fake_begin(struct fake_world *w, const char *method, const char *target, const char *headers,
                const char *body)
{
    struct http_request *request = &w->x.request.http;
    struct exchange_shared shared = {
        .turns = w->turns, .ready = &w->ready, .failures = w->shared_failures};
    int rc;

    turns_ready_init(&w->ready, on_woken, w);
    turns_free(w->own_turns);
    w->own_turns = NULL;
    if (!w->turns)
        shared.turns = w->own_turns = fake_turns_new(&w->turns_world, &w->now_ms, on_event, w);
    rc = shared.turns ? exchange_init(&w->x, &fake_ops, w, &shared, &w->limits) : -ENOMEM;
    w->begun = rc == 0;
    if (rc == 0)
        rc = http_request_text(&request->method, method);
    if (rc == 0)
        rc = http_request_text(&request->target, target);
    if (rc == 0)
        rc = fake_add_headers(&request->headers, headers);
    if (rc == 0)
        rc = (int)begin_upload(w, body ? body : "");
    w->begin_rc = rc;
    w->states = 1u << w->x.state;
}

void fake_begin_chat(struct fake_world *w, bool stream)
{
    fake_begin(w, "POST", "/v1/chat/completions", "Content-Type: application/json\n",
               stream ? "{\"model\":\"gpt-x\",\"stream\":true}" : "{\"model\":\"gpt-x\"}");
}

struct str fake_header(const struct fake_world *w, const char *name)
{
    struct str v = STR("");

    headers_get(&w->response.headers, str_from(name), &v);
    return v;
}
