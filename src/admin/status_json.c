/* Writes /status.json; docs/status.md explains each field. */
#include <inttypes.h>
#include <stdio.h>

#include "admin/status.h"
#include "http/dialect.h"
#include "http/json_tree.h"

#define SENTENCES_MAX 65536
#define SCHEMA 1 /* changes when a field changes its meaning or is removed */

static void number(struct json_tree *t, struct cJSON *to, const char *key, uint64_t value)
{
    json_tree_number(t, to, key, value);
}

static void text(struct json_tree *t, struct cJSON *to, const char *key, const char *value)
{
    json_tree_text(t, to, key, value);
}

static void yes_no(struct json_tree *t, struct cJSON *to, const char *key, bool value)
{
    json_tree_raw(t, to, key, value ? STR("true") : STR("false"));
}

/* Adds null if there is no value. */
static void number_if(struct json_tree *t, struct cJSON *to, const char *key, bool known,
                      uint64_t value)
{
    if (known)
        number(t, to, key, value);
    else
        text(t, to, key, NULL);
}

static void text_if(struct json_tree *t, struct cJSON *to, const char *key, const char *value)
{
    text(t, to, key, value[0] ? value : NULL);
}

/* Adds the text in `value`, and frees the buffer. */
static void words(struct json_tree *t, struct cJSON *to, const char *key, struct buf *value)
{
    (void)buf_addc(value, '\0');
    text(t, to, key, value->failed ? "" : value->p);
    t->failed |= value->failed;
    buf_deinit(value);
}

/* --- stories ---------------------------------------------------------------------------------- */

static void add_attempt(struct json_tree *t, struct cJSON *to, const struct story *s,
                        const struct story_attempt *a, uint64_t now_ms)
{
    struct cJSON *one = json_tree_object(t, to, NULL);
    uint64_t since = now_ms - s->started_ms;
    bool runs = a->outcome == ATTEMPT_RUNS;

    number(t, one, "number", a->number);
    text(t, one, "outcome", story_outcome_word(a->outcome));
    text(t, one, "upstream", a->upstream);
    text_if(t, one, "model", a->model);
    number_if(t, one, "key", a->key_number > 0, a->key_number);
    number(t, one, "wait_ms", a->wait_ms);
    number(t, one, "start_ms", a->start_ms);
    number(t, one, "duration_ms",
           runs && since > a->start_ms ? since - a->start_ms : a->duration_ms);
    number_if(t, one, "status", a->status > 0, a->status);
    text(t, one, "reason", a->outcome == ATTEMPT_FAILED ? reason_word(a->reason) : NULL);
    text_if(t, one, "code", a->code);
    text_if(t, one, "detail", a->detail);
}

static void add_how(struct json_tree *t, struct cJSON *one, const struct status *st,
                    const struct story *s)
{
    bool ended = s->phase == STORY_ENDED;
    uint64_t until = 0;

    if (s->phase == STORY_BACKOFF && s->until_ms > st->now_ms)
        until = s->until_ms - st->now_ms;
    if (s->phase == STORY_QUEUED)
        until = status_queue_ms(st, s);
    text(t, one, "phase", story_phase_word(s->phase));
    text(t, one, "waits_for", s->phase == STORY_QUEUED ? turns_why_word(s->why) : NULL);
    number_if(t, one, "next_in_ms", until > 0, until);
    text(t, one, "end", ended ? exchange_end_word(s->end) : NULL);
    number_if(t, one, "status", s->status > 0, s->status);
    text(t, one, "reason", s->reason != REASON_OK ? reason_word(s->reason) : NULL);
    text_if(t, one, "cannot_retry", s->cannot_retry);
    yes_no(t, one, "rescued", ended && s->end == END_ANSWERED && s->attempts > 1);
}

static void add_sentences(struct json_tree *t, struct cJSON *one, const struct status *st,
                          const struct story *s)
{
    struct cJSON *all = json_tree_array(t, one, "sentences");
    struct buf value, line;
    struct str rest, next;

    buf_init(&value, SENTENCES_MAX);
    status_summary(st, s, &value);
    words(t, one, "summary", &value);
    buf_init(&value, SENTENCES_MAX);
    status_sentences(st, s, &value);
    rest = buf_str(&value);
    while (str_next(&rest, '\n', &next)) {
        buf_init(&line, SENTENCES_MAX);
        (void)buf_add_str(&line, next);
        words(t, all, NULL, &line);
    }
    t->failed |= value.failed;
    buf_deinit(&value);
}

static void fill_story(struct json_tree *t, struct cJSON *one, const struct status *st,
                       const struct story *s)
{
    uint64_t total = (s->phase == STORY_ENDED ? s->ended_ms : st->now_ms) - s->started_ms;
    uint64_t known = s->upstream_ms + s->backoff_ms + s->queue_ms;
    struct cJSON *attempts;

    text(t, one, "id", s->id);
    number(t, one, "serial", s->serial);
    number(t, one, "began_ms", s->unix_ms);
    text(t, one, "method", s->method);
    text(t, one, "path", s->path);
    text_if(t, one, "model", s->model);
    text_if(t, one, "route", s->route);
    yes_no(t, one, "stream", s->stream);
    add_how(t, one, st, s);
    number(t, one, "attempts_made", s->attempts);
    number(t, one, "max_attempts", s->max_attempts);
    number(t, one, "total_ms", total);
    number(t, one, "upstream_ms", s->upstream_ms);
    number(t, one, "backoff_ms", s->backoff_ms);
    number(t, one, "queue_ms", s->queue_ms);
    number(t, one, "other_ms", total > known ? total - known : 0);
    number_if(t, one, "first_byte_ms", s->first_byte_ms > 0, s->first_byte_ms);
    number(t, one, "bytes", s->bytes);
    number(t, one, "hedges", s->hedges);
    number(t, one, "possible_duplicates", s->duplicates);
    number(t, one, "splices", s->splices);
    yes_no(t, one, "client_repeat", s->client_repeat);
    add_sentences(t, one, st, s);
    attempts = json_tree_array(t, one, "attempts");
    for (unsigned i = 0; i < s->kept; i++)
        add_attempt(t, attempts, s, &s->attempt[i], st->now_ms);
}

static void add_stories(struct json_tree *t, struct cJSON *to, const char *key,
                        const struct status *st, const struct story *stories, unsigned n)
{
    struct cJSON *all = json_tree_array(t, to, key);

    for (unsigned i = 0; i < n; i++)
        fill_story(t, json_tree_object(t, all, NULL), st, &stories[i]);
}

int status_story_json(const struct status *st, const struct story *s, struct buf *out)
{
    struct json_tree t;

    json_tree_begin(&t);
    fill_story(&t, t.root, st, s);
    return json_tree_end(&t, out);
}

/* --- upstreams -------------------------------------------------------------------------------- */

static const char *breaker_word(const struct turns_view *v)
{
    return v->half_open ? "half_open" : v->shut_ms > 0 ? "open" : "closed";
}

static const char *gate_word(const struct turns_view *v)
{
    return v->shut_ms > 0 ? "closed" : v->opening ? "opening" : "open";
}

static void add_targets(struct json_tree *t, struct cJSON *to, const struct status *st,
                        const struct traffic_view *model)
{
    struct cJSON *all = json_tree_array(t, to, "targets");
    const struct traffic_view *v = NULL;

    while ((v = status_next_target(st, v, model))) {
        struct cJSON *one = json_tree_object(t, all, NULL), *gate;
        struct buf value;

        number_if(t, one, "key", v->view.key_number > 0, v->view.key_number);
        gate = json_tree_object(t, one, "gate");
        text(t, gate, "state", gate_word(&v->view));
        number_if(t, gate, "changes_in_ms", v->view.shut_ms > 0, v->view.shut_ms);
        number(t, gate, "closed_times", v->view.shut);
        buf_init(&value, SENTENCES_MAX);
        status_gate(&v->view, &value);
        words(t, gate, "sentence", &value);
        number_if(t, one, "pace_per_minute", v->view.pace_per_minute > 0,
                  (uint64_t)(v->view.pace_per_minute + 0.5));
        number(t, one, "waiting", v->view.waiting);
    }
}

static void add_models(struct json_tree *t, struct cJSON *to, const struct status *st,
                       const char *upstream)
{
    struct cJSON *all = json_tree_array(t, to, "models");
    const struct traffic_view *v = NULL;
    unsigned hidden = 0;

    while ((v = status_next(st, v, upstream, VIEW_MODEL))) {
        struct cJSON *one, *breaker;
        struct buf value;

        hidden += v->hidden;
        if (v->hidden)
            continue;
        one = json_tree_object(t, all, NULL);
        text_if(t, one, "model", v->model);
        text(t, one, "operation", operation_word(v->view.operation));
        breaker = json_tree_object(t, one, "breaker");
        text(t, breaker, "state", breaker_word(&v->view));
        number_if(t, breaker, "changes_in_ms", v->view.shut_ms > 0, v->view.shut_ms);
        number(t, breaker, "opened_times", v->view.shut);
        number(t, breaker, "failures_in_a_row", v->view.in_a_row);
        buf_init(&value, SENTENCES_MAX);
        status_breaker(&v->view, &value);
        words(t, breaker, "sentence", &value);
        number(t, one, "fallbacks", v->view.fallbacks);
        add_targets(t, one, st, v);
    }
    number(t, to, "models_hidden", hidden);
}

static void add_keys(struct json_tree *t, struct cJSON *to, const struct status *st,
                     const struct config_upstream *u)
{
    struct cJSON *all = json_tree_array(t, to, "keys");

    for (unsigned i = 1; i <= u->key_count; i++) {
        struct cJSON *one = json_tree_object(t, all, NULL);
        const struct traffic_view *v = NULL;

        while ((v = status_next(st, v, u->name, VIEW_KEY)) && v->view.key_number != i)
            ;
        number(t, one, "key", i);
        text(t, one, "state", v && v->view.shut_ms > 0 ? "set_aside" : "in_use");
        number_if(t, one, "changes_in_ms", v && v->view.shut_ms > 0, v ? v->view.shut_ms : 0);
        number(t, one, "set_aside_times", v ? v->view.shut : 0);
    }
}

static void add_upstream(struct json_tree *t, struct cJSON *to, const struct status *st,
                         const struct config_upstream *u)
{
    const struct traffic_view *s = status_next(st, NULL, u->name, VIEW_UPSTREAM);
    struct turns_view v = s ? s->view : (struct turns_view){.kind = VIEW_UPSTREAM};
    struct cJSON *one = json_tree_object(t, to, NULL), *budget;

    text(t, one, "name", u->name);
    text(t, one, "host", u->host);
    number(t, one, "in_flight", v.in_flight);
    number_if(t, one, "max_concurrency", u->max_concurrency > 0, u->max_concurrency);
    number_if(t, one, "requests_per_minute", u->requests_per_minute > 0, u->requests_per_minute);
    number_if(t, one, "rate_free_in_ms", u->requests_per_minute > 0, v.free_ms);
    budget = json_tree_object(t, one, "budget");
    number(t, budget, "requests", v.budget_requests);
    number(t, budget, "retries", v.budget_repeats);
    number(t, budget, "left", status_budget_left(st, &v));
    add_keys(t, one, st, u);
    add_models(t, one, st, u->name);
}

/* --- the whole -------------------------------------------------------------------------------- */

static void add_health(struct json_tree *t, const struct status *st)
{
    struct cJSON *health = json_tree_object(t, t->root, "health"), *why;

    text(t, health, "state", status_health_word(st->health));
    text(t, health, "sentence", status_health_sentence(st->health));
    why = json_tree_array(t, health, "why");
    for (unsigned i = 0; i < st->why_count; i++)
        text(t, why, NULL, st->why[i]);
}

static void add_now(struct json_tree *t, const struct status *st)
{
    struct cJSON *now = json_tree_object(t, t->root, "now");

    number(t, now, "requests", st->active);
    number(t, now, "connections", st->connections);
    number(t, now, "waiting", st->waiting);
    number(t, now, "ridden_out", st->live);
    number(t, now, "buffered_bytes", st->buffered);
    add_stories(t, now, "stories", st, st->stories, st->live_count);
}

static void add_times(struct json_tree *t, struct cJSON *to, const struct history_sums *s)
{
    number(t, to, "total_ms", s->total_ms);
    number(t, to, "upstream_ms", s->upstream_ms);
    number(t, to, "backoff_ms", s->backoff_ms);
    number(t, to, "queue_ms", s->queue_ms);
    number(t, to, "other_ms", status_other_ms(s));
}

/* Adds the sums, for the hour and for each of its minutes. */
static void add_sums(struct json_tree *t, struct cJSON *to, const struct history_sums *s)
{
    struct cJSON *failures;

    number(t, to, "requests", s->requests);
    number(t, to, "rescued", s->rescued);
    number(t, to, "failed", s->failed + s->broken);
    failures = json_tree_object(t, to, "failures");
    for (unsigned r = 1; r < REASON_COUNT; r++)
        if (s->failures[r] > 0)
            number(t, failures, reason_word((enum reason)r), s->failures[r]);
}

static void add_time(struct json_tree *t, const struct status *st)
{
    struct cJSON *time = json_tree_object(t, t->root, "time");

    add_times(t, time, &st->hour);
    number(t, time, "loop_lag_max_ms", st->lag_max_ms);
    number(t, time, "cpu_ms", st->cpu_us / 1000);
    number_if(t, time, "cpu_us_per_request", st->total.requests >= STATUS_CPU_REQUESTS,
              st->total.requests > 0 ? st->cpu_us / st->total.requests : 0);
    number(t, time, "memory_bytes", st->memory);
}

static void add_hour(struct json_tree *t, const struct status *st)
{
    struct cJSON *hour = json_tree_object(t, t->root, "hour"), *minutes;

    add_sums(t, hour, &st->hour);
    number(t, hour, "answered", st->hour.answered);
    number(t, hour, "refused", st->hour.refused);
    number(t, hour, "client_gone", st->hour.client_gone);
    number(t, hour, "attempts", st->hour.attempts);
    number(t, hour, "retries", st->hour.retries);
    minutes = json_tree_array(t, hour, "minutes");
    for (unsigned ago = HISTORY_MINUTES; ago-- > 0;)
        add_sums(t, json_tree_object(t, minutes, NULL), &st->minutes[ago]);
}

static void add_configuration(struct json_tree *t, const struct status *st, bool all)
{
    struct cJSON *c = json_tree_object(t, t->root, "configuration"), *last;
    const struct status_reload *r = &st->reload;
    char hash[17];

    snprintf(hash, sizeof(hash), "%016" PRIx64, st->config_hash);
    text(t, c, "file", st->config->path);
    text(t, c, "hash", hash);
    number(t, c, "serial", st->config->serial);
    number(t, c, "read_ms", r->taken_s * 1000);
    yes_no(t, c, "changed_on_disk", r->differs);
    last = json_tree_object(t, c, "last_reload");
    yes_no(t, last, "ok", !r->refused);
    number(t, last, "at_ms", r->tried_s * 1000);
    text(t, last, "problem", r->refused ? r->problem : NULL);
    text(t, c, "dump", all ? st->dump : NULL);
}

int status_json(const struct status *st, bool all, struct buf *out)
{
    struct json_tree t;
    struct cJSON *upstreams;

    json_tree_begin(&t);
    number(&t, t.root, "schema", SCHEMA);
    text(&t, t.root, "version", RETRYD_VERSION);
    number(&t, t.root, "now_ms", st->unix_ms);
    number(&t, t.root, "started_ms", st->started_unix_ms);
    add_health(&t, st);
    add_now(&t, st);
    add_time(&t, st);
    upstreams = json_tree_array(&t, t.root, "upstreams");
    for (unsigned i = 0; i < st->config->upstream_count; i++)
        add_upstream(&t, upstreams, st, &st->config->upstreams[i]);
    add_hour(&t, st);
    add_stories(&t, t.root, "history", st, st->stories + st->live_count, st->ended_count);
    number(&t, t.root, "history_serial", st->serial);
    add_configuration(&t, st, all);
    yes_no(&t, json_tree_object(&t, t.root, "actions"), "allowed", st->can_act);
    return json_tree_end(&t, out);
}
