/* Writes the metrics of targets for Prometheus. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/metrics_table.h"
#include "daemon/traffic.h"

/* One metric with a value for each view of a kind. */
struct series {
    enum metric metric;
    enum turns_view_kind kind;
    double (*value)(const struct turns_view *v);
    bool zeros; /* written too: of a model once it has been open, for clients name any models */
};

static double shut(const struct turns_view *v)
{
    return (double)v->shut;
}

static double shut_seconds(const struct turns_view *v)
{
    return (double)v->shut_ms / 1000;
}

static double in_flight(const struct turns_view *v)
{
    return v->in_flight;
}

static double concurrency_limit(const struct turns_view *v)
{
    return v->max_concurrency;
}

static double rate_limit(const struct turns_view *v)
{
    return (double)v->per_minute / 60;
}

static double rate_seconds(const struct turns_view *v)
{
    return (double)v->free_ms / 1000;
}

static double budget_requests(const struct turns_view *v)
{
    return (double)v->budget_requests;
}

static double budget_retries(const struct turns_view *v)
{
    return (double)v->budget_repeats;
}

static double waiting(const struct turns_view *v)
{
    return v->waiting;
}

static double fallbacks(const struct turns_view *v)
{
    return (double)v->fallbacks;
}

static double pace(const struct turns_view *v)
{
    return v->pace_per_minute / 60;
}

static double breaker_state(const struct turns_view *v)
{
    return v->half_open ? 1 : v->shut_ms > 0 ? 2 : 0;
}

static const struct series all_series[] = {
    {METRIC_IN_FLIGHT, VIEW_UPSTREAM, in_flight, true},
    {METRIC_CONCURRENCY_LIMIT, VIEW_UPSTREAM, concurrency_limit, false},
    {METRIC_RATE_LIMIT, VIEW_UPSTREAM, rate_limit, false},
    {METRIC_RATE_SECONDS, VIEW_UPSTREAM, rate_seconds, true},
    {METRIC_BUDGET_REQUESTS, VIEW_UPSTREAM, budget_requests, true},
    {METRIC_BUDGET_RETRIES, VIEW_UPSTREAM, budget_retries, true},
    {METRIC_GATE_CLOSED, VIEW_TARGET, shut, false},
    {METRIC_GATE_SECONDS, VIEW_TARGET, shut_seconds, false},
    {METRIC_PACE, VIEW_TARGET, pace, false},
    {METRIC_BREAKER_OPENED, VIEW_MODEL, shut, false},
    {METRIC_BREAKER_STATE, VIEW_MODEL, breaker_state, true},
    {METRIC_BREAKER_SECONDS, VIEW_MODEL, shut_seconds, false},
    {METRIC_FALLBACKS, VIEW_MODEL, fallbacks, false},
    {METRIC_KEY_ASIDE, VIEW_KEY, shut, false},
    {METRIC_KEY_SECONDS, VIEW_KEY, shut_seconds, false},
    {METRIC_TARGET_WAITING, VIEW_TARGET, waiting, false},
};

/* The labels that distinguish one sample of a series from the others. */
struct labels {
    enum turns_view_kind kind;
    enum operation operation;
    unsigned key_number;
    char upstream[64], model[128];
};

/* A view with copies of its names, to be written after unlocking. */
struct seen {
    struct labels labels;
    struct turns_view view;
};

static bool has_model(const struct labels *l)
{
    return l->kind == VIEW_MODEL || l->kind == VIEW_TARGET;
}

static void see(void *arg, const struct turns_view *v)
{
    struct buf *all = arg;
    struct seen s = {.labels = {.kind = v->kind}, .view = *v};

    snprintf(s.labels.upstream, sizeof(s.labels.upstream), "%s", v->upstream);
    if (has_model(&s.labels)) {
        snprintf(s.labels.model, sizeof(s.labels.model), "%s", v->model ? v->model : "");
        s.labels.operation = v->operation;
    }
    if (v->kind == VIEW_KEY || v->kind == VIEW_TARGET)
        s.labels.key_number = v->key_number;
    (void)buf_add(all, (const char *)&s, sizeof(s));
}

static int compare_labels(const struct labels *x, const struct labels *y)
{
    int order = (int)x->kind - (int)y->kind;

    if (order == 0)
        order = strcmp(x->upstream, y->upstream);
    if (order == 0)
        order = strcmp(x->model, y->model);
    if (order == 0)
        order = (int)x->operation - (int)y->operation;
    if (order == 0 && x->key_number != y->key_number)
        order = x->key_number < y->key_number ? -1 : 1;
    return order;
}

static int compare(const void *a, const void *b)
{
    const struct seen *x = a, *y = b;

    return compare_labels(&x->labels, &y->labels);
}

static void add_up(struct turns_view *sum, const struct turns_view *v)
{
    sum->in_flight += v->in_flight;
    sum->waiting += v->waiting;
    sum->budget_requests += v->budget_requests;
    sum->budget_repeats += v->budget_repeats;
    sum->fallbacks += v->fallbacks;
    sum->shut += v->shut;
    sum->half_open |= v->half_open;
    if (v->shut_ms > sum->shut_ms)
        sum->shut_ms = v->shut_ms;
    if (v->pace_per_minute > 0 &&
        (sum->pace_per_minute <= 0 || v->pace_per_minute < sum->pace_per_minute))
        sum->pace_per_minute = v->pace_per_minute;
}

/* Merges views with the same labels, since a scraper rejects duplicate samples: targets distinguish
 * clients' own keys, and metrics do not. Returns how many are left. */
static size_t merge(struct seen *all, size_t n)
{
    size_t kept = 0;

    if (n > 0)
        qsort(all, n, sizeof(*all), compare);
    for (size_t i = 0; i < n; i++) {
        if (kept > 0 && compare(&all[kept - 1], &all[i]) == 0)
            add_up(&all[kept - 1].view, &all[i].view);
        else
            all[kept++] = all[i];
    }
    return kept;
}

static bool says_something(const struct series *s, const struct seen *seen)
{
    const struct turns_view *v = &seen->view;

    return v->kind == s->kind &&
           (s->value(v) > 0 || (s->zeros && (v->kind == VIEW_UPSTREAM || v->shut > 0)));
}

/* --- the cap ---------------------------------------------------------------------------------- */

#define SERIES_MAX 500 /* of models, of each kind */
#define THE_REST "other"

/* Drops views without any sample, since clients may name arbitrary models. Returns how many are
 * left. */
static size_t drop_silent(struct seen *all, size_t n)
{
    size_t kept = 0;

    for (size_t i = 0; i < n; i++) {
        bool speaks = false;

        for (size_t k = 0; k < sizeof all_series / sizeof all_series[0]; k++)
            speaks |= says_something(&all_series[k], &all[i]);
        if (speaks)
            all[kept++] = all[i];
    }
    return kept;
}

/* Both lists are sorted. Moves `at` to the first of `shown` that is not before `l`; returns whether
 * it is equal. */
static bool was_shown(const struct labels *shown, size_t n, size_t *at, const struct labels *l)
{
    while (*at < n && compare_labels(&shown[*at], l) < 0)
        ++*at;
    return *at < n && compare_labels(&shown[*at], l) == 0;
}

/* Limits the number of series. Views that had their own labels at the last scrape keep them, since
 * a counter must not jump between two series. Others follow while there is room; the rest is summed
 * as one model. */
static void cap(struct seen *all, size_t n, const struct labels *shown, size_t shown_n)
{
    size_t room[VIEW_TARGET + 1], at = 0;

    for (size_t i = 0; i <= VIEW_TARGET; i++)
        room[i] = SERIES_MAX;
    for (size_t i = 0; i < n; i++)
        if (was_shown(shown, shown_n, &at, &all[i].labels))
            room[all[i].labels.kind]--;
    at = 0;
    for (size_t i = 0; i < n; i++) {
        struct labels *l = &all[i].labels;

        if (!has_model(l) || was_shown(shown, shown_n, &at, l))
            continue;
        if (room[l->kind] > 0)
            room[l->kind]--;
        else
            snprintf(l->model, sizeof(l->model), THE_REST);
    }
}

static void remember(struct buf *shown, const struct seen *all, size_t n)
{
    buf_reset(shown, SIZE_MAX);
    for (size_t i = 0; i < n; i++)
        if (has_model(&all[i].labels) && strcmp(all[i].labels.model, THE_REST) != 0)
            (void)buf_add(shown, (const char *)&all[i].labels, sizeof(all[i].labels));
}

/* --- the text --------------------------------------------------------------------------------- */

static void write_view(const struct series *s, const struct seen *seen, struct buf *out)
{
    const struct labels *l = &seen->labels;

    if (!says_something(s, seen))
        return;
    buf_printf(out, "%s{", metrics_families[s->metric].name);
    metrics_write_label(out, "upstream", l->upstream);
    if (has_model(l)) {
        metrics_write_label(out, "model", l->model);
        buf_printf(out, ",operation=\"%s\"", operation_word(l->operation));
    }
    if (l->kind == VIEW_KEY || l->kind == VIEW_TARGET)
        buf_printf(out, ",key=\"%u\"", l->key_number);
    buf_printf(out, "} %.15g\n", s->value(&seen->view));
}

static void write_counts(unsigned waiting, const struct traffic_counts *counts, struct buf *out)
{
    metrics_write_count(out, METRIC_DENIED, counts->denied);
    metrics_write_count(out, METRIC_WAITING, waiting);
    metrics_write_head(out, METRIC_WAITS);
    for (unsigned i = TURN_WHY_GATE; i < TURN_WHY_QUEUE_FULL; i++)
        buf_printf(out, "%s{why=\"%s\"} %llu\n", metrics_families[METRIC_WAITS].name,
                   turns_why_word((enum turn_why)i), (unsigned long long)counts->waits[i]);
}

void traffic_metrics(struct traffic *t, struct buf *out)
{
    struct traffic_counts counts = traffic_counts(t);
    struct turns *turns = traffic_turns(t);
    struct buf all, *shown = traffic_shown(t);
    struct seen *views;
    uint64_t at = 0;
    size_t n;

    write_counts(turns_waiting(turns), &counts, out);
    buf_init(&all, SIZE_MAX / 2);
    while (turns_each(turns, &at, see, &all))
        ;
    views = (struct seen *)(void *)all.p;
    n = drop_silent(views, merge(views, all.len / sizeof(*views)));
    cap(views, n, (const struct labels *)(void *)shown->p, shown->len / sizeof(struct labels));
    n = merge(views, n);
    remember(shown, views, n);
    for (size_t i = 0; i < sizeof all_series / sizeof all_series[0]; i++) {
        const struct series *s = &all_series[i];

        metrics_write_head(out, s->metric);
        for (size_t k = 0; k < n; k++)
            write_view(s, &views[k], out);
    }
    out->failed |= all.failed;
    buf_deinit(&all);
}
