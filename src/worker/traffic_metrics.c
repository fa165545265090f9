/* Writes the metrics of targets for Prometheus. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/metrics_table.h"
#include "worker/traffic.h"

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

static bool has_model(const struct traffic_view *v)
{
    return v->view.kind == VIEW_MODEL || v->view.kind == VIEW_TARGET;
}

/* --- views ------------------------------------------------------------------------------------ */

static void see(void *arg, const struct turns_view *v)
{
    struct traffic_view one = {.view = *v};

    snprintf(one.upstream, sizeof(one.upstream), "%s", v->upstream);
    snprintf(one.model, sizeof(one.model), "%s", v->model ? v->model : "");
    one.view.upstream = one.view.model = NULL;
    (void)buf_add(arg, (const char *)&one, sizeof(one));
}

static int compare(const void *a, const void *b)
{
    const struct traffic_view *x = a, *y = b;
    int order = strcmp(x->upstream, y->upstream);

    if (order == 0)
        order = (int)x->view.kind - (int)y->view.kind;
    if (order == 0)
        order = strcmp(x->model, y->model);
    if (order == 0)
        order = (int)x->view.operation - (int)y->view.operation;
    if (order == 0 && x->view.key_number != y->view.key_number)
        order = x->view.key_number < y->view.key_number ? -1 : 1;
    return order;
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
    sum->opening |= v->opening;
    sum->in_a_row = v->in_a_row > sum->in_a_row ? v->in_a_row : sum->in_a_row;
    sum->shut_ms = v->shut_ms > sum->shut_ms ? v->shut_ms : sum->shut_ms;
    if (v->pace_per_minute > 0 &&
        (sum->pace_per_minute <= 0 || v->pace_per_minute < sum->pace_per_minute))
        sum->pace_per_minute = v->pace_per_minute;
}

/* Sorts, and merges views of the same names, since a scraper rejects duplicate samples: targets
 * distinguish clients' own keys, and neither metrics nor the status do. Returns how many are left. */
static size_t merge(struct traffic_view *all, size_t n)
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

int traffic_views(struct traffic *t, struct traffic_view **ret, size_t *ret_count)
{
    struct buf all;
    uint64_t at = 0;
    size_t size;

    buf_init(&all, SIZE_MAX / 2);
    while (turns_each(traffic_turns(t), &at, see, &all))
        ;
    if (all.failed) {
        buf_deinit(&all);
        return -ENOMEM;
    }
    *ret = (struct traffic_view *)(void *)buf_steal(&all, &size);
    *ret_count = merge(*ret, size / sizeof(**ret));
    return 0;
}

static bool says_something(const struct series *s, const struct traffic_view *seen)
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
static size_t drop_silent(struct traffic_view *all, size_t n)
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

/* Both lists are sorted. Moves `at` to the first of `shown` that is not before `v`; returns whether
 * it is equal. */
static bool was_shown(const struct traffic_view *shown, size_t n, size_t *at,
                      const struct traffic_view *v)
{
    while (*at < n && compare(&shown[*at], v) < 0)
        ++*at;
    return *at < n && compare(&shown[*at], v) == 0;
}

/* Limits the number of series. Views that had their own labels at the last scrape keep them, since
 * a counter must not jump between two series. Others follow while there is room; the rest is summed
 * as one model. */
static void cap(struct traffic_view *all, size_t n, const struct traffic_view *shown,
                size_t shown_n)
{
    size_t room[VIEW_TARGET + 1], at = 0;

    for (size_t i = 0; i <= VIEW_TARGET; i++)
        room[i] = SERIES_MAX;
    for (size_t i = 0; i < n; i++)
        if (was_shown(shown, shown_n, &at, &all[i]))
            room[all[i].view.kind]--;
    at = 0;
    for (size_t i = 0; i < n; i++) {
        struct traffic_view *v = &all[i];

        if (!has_model(v) || was_shown(shown, shown_n, &at, v))
            continue;
        if (room[v->view.kind] > 0)
            room[v->view.kind]--;
        else
            snprintf(v->model, sizeof(v->model), THE_REST);
    }
}

static void remember(struct buf *shown, const struct traffic_view *all, size_t n)
{
    buf_reset(shown, SIZE_MAX);
    for (size_t i = 0; i < n; i++)
        if (has_model(&all[i]) && strcmp(all[i].model, THE_REST) != 0)
            (void)buf_add(shown, (const char *)&all[i], sizeof(all[i]));
}

/* --- the text --------------------------------------------------------------------------------- */

static void write_view(const struct series *s, const struct traffic_view *v, struct buf *out)
{
    if (!says_something(s, v))
        return;
    buf_printf(out, "%s{", metrics_families[s->metric].name);
    metrics_write_label(out, "upstream", v->upstream);
    if (has_model(v)) {
        metrics_write_label(out, "model", v->model);
        buf_printf(out, ",operation=\"%s\"", operation_word(v->view.operation));
    }
    if (v->view.kind == VIEW_KEY || v->view.kind == VIEW_TARGET)
        buf_printf(out, ",key=\"%u\"", v->view.key_number);
    buf_printf(out, "} %.15g\n", s->value(&v->view));
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
    struct buf *shown = traffic_shown(t);
    struct traffic_view *views;
    size_t n;

    write_counts(turns_waiting(traffic_turns(t)), &counts, out);
    if (traffic_views(t, &views, &n) < 0) {
        out->failed = true;
        return;
    }
    n = drop_silent(views, n);
    cap(views, n, (const struct traffic_view *)(void *)shown->p, shown->len / sizeof(*views));
    n = merge(views, n);
    remember(shown, views, n);
    for (size_t i = 0; i < sizeof all_series / sizeof all_series[0]; i++) {
        const struct series *s = &all_series[i];

        metrics_write_head(out, s->metric);
        for (size_t k = 0; k < n; k++)
            write_view(s, &views[k], out);
    }
    free(views);
}
