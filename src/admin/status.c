/* Parts that the status documents share: words, text and the walk through the views. */
#include "admin/status.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/escape.h"
#include "targets/budget.h"

const char *status_health_word(enum status_health h)
{
    static const char *const words[] = {[STATUS_WELL] = "well",
                                        [STATUS_ATTENTION] = "attention",
                                        [STATUS_RIDING_OUT] = "riding_out",
                                        [STATUS_DOWN] = "down",
                                        [STATUS_DRAINING] = "draining",
                                        [STATUS_STUCK] = "stuck"};

    return words[h];
}

const char *status_health_sentence(enum status_health h)
{
    static const char *const words[] = {[STATUS_WELL] = "All is well",
                                        [STATUS_ATTENTION] = "Serving, but needs a look",
                                        [STATUS_RIDING_OUT] = "Riding out a failure",
                                        [STATUS_DOWN] = "No upstream answers",
                                        [STATUS_DRAINING] = "Shutting down",
                                        [STATUS_STUCK] = "A worker does not answer"};

    return words[h];
}

/* --- text ------------------------------------------------------------------------------------- */

static void put_html(struct buf *out, struct str c)
{
    switch (c.p[0]) {
    case '&':
        (void)buf_add_str(out, STR("&amp;"));
        break;
    case '<':
        (void)buf_add_str(out, STR("&lt;"));
        break;
    case '>':
        (void)buf_add_str(out, STR("&gt;"));
        break;
    case '"':
        (void)buf_add_str(out, STR("&quot;"));
        break;
    case '\'':
        (void)buf_add_str(out, STR("&#39;"));
        break;
    default:
        (void)buf_add_str(out, c);
    }
}

void status_put(struct buf *out, const char *text, bool html)
{
    struct str rest = str_from(text);

    while (rest.n > 0) {
        char space[ESCAPE_MAX];
        size_t used;
        struct str c = escape_json(rest, space, &used);

        if (rest.p[0] == '"' || rest.p[0] == '\\')
            c = (struct str){rest.p, 1};
        if (html)
            put_html(out, c);
        else
            (void)buf_add_str(out, c);
        rest = str_after(rest, used);
    }
}

const char *status_time(uint64_t ms, char space[STATUS_TIME_MAX])
{
    if (ms < 1000)
        snprintf(space, STATUS_TIME_MAX, "%u ms", (unsigned)ms);
    else if (ms < 10 * 1000)
        snprintf(space, STATUS_TIME_MAX, "%.1f s", (double)ms / 1000);
    else if (ms < 120 * 1000)
        snprintf(space, STATUS_TIME_MAX, "%" PRIu64 " s", ms / 1000);
    else if (ms < 120 * 60 * 1000)
        snprintf(space, STATUS_TIME_MAX, "%" PRIu64 " min", ms / 60000);
    else if (ms < UINT64_C(48) * 3600 * 1000)
        snprintf(space, STATUS_TIME_MAX, "%" PRIu64 " h", ms / 3600000);
    else
        snprintf(space, STATUS_TIME_MAX, "%" PRIu64 " days", ms / 86400000);
    return space;
}

/* --- views ------------------------------------------------------------------------------------ */

const struct traffic_view *status_next(const struct status *st, const struct traffic_view *v,
                                       const char *upstream, enum turns_view_kind kind)
{
    for (v = v ? v + 1 : st->views; v && v < st->views + st->view_count; v++)
        if (v->view.kind == kind && strcmp(v->upstream, upstream) == 0)
            return v;
    return NULL;
}

const struct traffic_view *status_next_target(const struct status *st, const struct traffic_view *v,
                                              const struct traffic_view *model)
{
    while ((v = status_next(st, v, model->upstream, VIEW_TARGET)))
        if (!strcmp(v->model, model->model) && v->view.operation == model->view.operation)
            return v;
    return NULL;
}

uint64_t status_queue_ms(const struct status *st, const struct story *s)
{
    uint64_t least = 0;

    for (unsigned i = 0; i < st->view_count; i++) {
        const struct turns_view *v = &st->views[i].view;
        bool its = (v->kind == VIEW_TARGET || v->kind == VIEW_MODEL) &&
                   strcmp(st->views[i].model, s->model) == 0;

        if (its && v->shut_ms > 0 && (least == 0 || v->shut_ms < least))
            least = v->shut_ms;
    }
    return least;
}

uint64_t status_budget_left(const struct status *st, const struct turns_view *v)
{
    const struct retry_settings *r = &st->config->defaults.retry;
    uint64_t room = v->budget_requests * r->budget_percent / 100 +
                    (uint64_t)r->budget_min * (BUDGET_WINDOW_MS / 1000);

    return room > v->budget_repeats ? room - v->budget_repeats : 0;
}

uint64_t status_other_ms(const struct history_sums *sums)
{
    uint64_t known = sums->upstream_ms + sums->backoff_ms + sums->queue_ms;

    return sums->total_ms > known ? sums->total_ms - known : 0;
}

unsigned status_top(const struct history_sums *sums, unsigned max, unsigned top[])
{
    unsigned n = 0;

    while (n < max) {
        unsigned best = 0;

        for (unsigned r = 1; r < REASON_COUNT; r++) {
            bool taken = false;

            for (unsigned i = 0; i < n; i++)
                taken |= top[i] == r;
            if (!taken && sums->failures[r] > (best ? sums->failures[best] : 0))
                best = r;
        }
        if (best == 0)
            break;
        top[n++] = best;
    }
    return n;
}

void status_free(struct status *st)
{
    free(st->views);
    free(st->stories);
    free(st->dump);
    st->views = NULL;
    st->stories = NULL;
    st->dump = NULL;
}
