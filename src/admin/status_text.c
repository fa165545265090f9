/* Writes the status as one screen of text, for `retryd status` and `retryd top`. */
#include <inttypes.h>

#include "admin/status.h"
#include "http/dialect.h"

#define LIVE_SHOWN 8
#define ENDED_SHOWN 8
#define ROWS_SHOWN 12 /* of upstreams and models */
#define REASONS_SHOWN 4
#define ID_SHOWN 8 /* characters of an id; `retryd explain` takes them */

/* Writes text from outside into about `columns` columns: characters count, not bytes. */
static void put_cell(struct buf *out, const char *text, unsigned columns)
{
    struct buf plain;
    unsigned used = 0;
    size_t at = 0;

    buf_init(&plain, 4096);
    status_put(&plain, text, false);
    while (at < plain.len && used < columns) {
        size_t n = str_utf8((struct str){plain.p + at, plain.len - at});

        n = n ? n : 1;
        (void)buf_add(out, plain.p + at, n);
        at += n;
        used++;
    }
    for (; used < columns; used++)
        buf_addc(out, ' ');
    buf_addc(out, ' ');
    buf_deinit(&plain);
}

/* Does the same with retryd's own words, and empties the buffer. */
static void put_words(struct buf *out, struct buf *words, unsigned columns)
{
    (void)buf_addc(words, '\0');
    put_cell(out, words->failed ? "" : words->p, columns);
    buf_reset(words, 4096);
}

/* --- the overview ----------------------------------------------------------------------------- */

static void write_overview(const struct status *st, struct buf *out)
{
    char up[STATUS_TIME_MAX];

    buf_printf(
        out, "%s    (retryd %s, up %s)\n", status_health_sentence(st->health), RETRYD_VERSION,
        status_time(st->unix_ms > st->started_unix_ms ? st->unix_ms - st->started_unix_ms : 0, up));
    for (unsigned i = 0; i < st->why_count; i++) {
        buf_printf(out, "  - ");
        status_put(out, st->why[i], false);
        buf_addc(out, '\n');
    }
    buf_printf(out,
               "\nNow        %" PRIu64
               " request%s in progress, %u waiting in the queue, %u being ridden out\n",
               st->active, st->active == 1 ? "" : "s", st->waiting, st->live);
}

static void write_spark(const struct status *st, struct buf *out)
{
    static const char *const bars[] = {" ",
                                       "\xe2\x96\x81",
                                       "\xe2\x96\x82",
                                       "\xe2\x96\x83",
                                       "\xe2\x96\x84",
                                       "\xe2\x96\x85",
                                       "\xe2\x96\x86",
                                       "\xe2\x96\x87",
                                       "\xe2\x96\x88"};
    uint64_t peak = 0;

    for (unsigned ago = 0; ago < HISTORY_MINUTES; ago++)
        peak = st->minutes[ago].requests > peak ? st->minutes[ago].requests : peak;
    buf_printf(out, "           ");
    for (unsigned ago = HISTORY_MINUTES; ago-- > 0;) {
        uint64_t n = st->minutes[ago].requests;

        buf_printf(out, "%s", bars[n > 0 ? 1 + n * 7 / peak : 0]);
    }
    buf_printf(out, " %" PRIu64 "/min\n", peak);
}

static void write_hour(const struct status *st, struct buf *out)
{
    const struct history_sums *h = &st->hour;
    uint64_t total = h->total_ms > 0 ? h->total_ms : 1;
    unsigned top[REASONS_SHOWN], n;

    buf_printf(out, "Last hour  %" PRIu64 " request%s, %" PRIu64 " rescued, %" PRIu64 " failed\n",
               h->requests, h->requests == 1 ? "" : "s", h->rescued, h->failed + h->broken);
    if (h->requests > 0)
        write_spark(st, out);
    n = status_top(h, REASONS_SHOWN, top);
    for (unsigned i = 0; i < n; i++)
        buf_printf(out, "%s%s %" PRIu64, i ? ", " : "Failures   ", reason_word((enum reason)top[i]),
                   h->failures[top[i]]);
    buf_printf(out, n ? "\n" : "");
    buf_printf(out,
               "Time       upstreams %" PRIu64 " %%, backing off %" PRIu64
               " %%, in the queue %" PRIu64 " %%, retryd and clients %" PRIu64 " %%\n",
               100 * h->upstream_ms / total, 100 * h->backoff_ms / total, 100 * h->queue_ms / total,
               100 * status_other_ms(h) / total);
}

/* --- upstreams -------------------------------------------------------------------------------- */

static void write_target(const struct traffic_view *m, const struct traffic_view *t,
                         struct buf *out)
{
    struct buf words;
    char key[12];

    buf_printf(out, "  ");
    put_cell(out, m->model[0] ? m->model : "(no model)", 28);
    snprintf(key, sizeof(key), "%u", t->view.key_number);
    put_cell(out, t->view.key_number > 0 ? key : "", 3);
    buf_init(&words, 4096);
    status_breaker(&m->view, &words);
    put_words(out, &words, 22);
    status_gate(&t->view, &words);
    put_words(out, &words, 24);
    buf_deinit(&words);
    buf_printf(out, "%u\n", t->view.waiting);
}

static void write_upstream(const struct status *st, const struct config_upstream *u, unsigned *rows,
                           struct buf *out)
{
    const struct traffic_view *s = status_next(st, NULL, u->name, VIEW_UPSTREAM), *m = NULL, *t,
                              *k = NULL;

    buf_printf(out, "\n%s", u->name);
    buf_printf(out, "  %u in flight", s ? s->view.in_flight : 0);
    if (u->max_concurrency > 0)
        buf_printf(out, " of %u", u->max_concurrency);
    if (s)
        buf_printf(out, ", room for %" PRIu64 " retries", status_budget_left(st, &s->view));
    while ((k = status_next(st, k, u->name, VIEW_KEY)))
        if (k->view.shut_ms > 0)
            buf_printf(out, ", key %u set aside", k->view.key_number);
    buf_addc(out, '\n');
    while ((m = status_next(st, m, u->name, VIEW_MODEL)))
        for (t = NULL; !m->hidden && (t = status_next_target(st, t, m));) {
            if (++*rows > ROWS_SHOWN)
                continue;
            if (*rows == 1)
                buf_printf(out, "  %-28s %-3s %-22s %-24s %s\n", "MODEL", "KEY", "BREAKER", "GATE",
                           "WAITING");
            write_target(m, t, out);
        }
}

/* --- requests --------------------------------------------------------------------------------- */

static void write_story(const struct status *st, const struct story *s, struct buf *out)
{
    char time[STATUS_TIME_MAX];
    struct buf words;

    buf_printf(out, "  %.*s ", ID_SHOWN, s->id);
    put_cell(out, status_time(st->now_ms - s->started_ms, time), 8);
    put_cell(out, s->model[0] ? s->model : s->path, 28);
    buf_init(&words, 4096);
    status_summary(st, s, &words);
    put_words(out, &words, 42);
    buf_deinit(&words);
    buf_printf(out, "%u", s->attempts);
    if (s->phase == STORY_ENDED)
        buf_printf(out, " in %s", status_time(s->ended_ms - s->started_ms, time));
    buf_addc(out, '\n');
}

static void write_stories(const struct status *st, const struct story *stories, unsigned n,
                          unsigned max, const char *title, struct buf *out)
{
    if (n == 0)
        return;
    buf_printf(out, "\n%s\n  %-8s %-8s %-28s %-42s %s\n", title, "ID", "CAME", "MODEL", "STATE",
               "ATTEMPTS");
    for (unsigned i = 0; i < n && i < max; i++)
        write_story(st, &stories[i], out);
    if (n > max)
        buf_printf(out, "  and %u more\n", n - max);
}

void status_text(const struct status *st, struct buf *out)
{
    unsigned rows = 0;

    write_overview(st, out);
    write_hour(st, out);
    write_stories(st, st->stories, st->live_count, LIVE_SHOWN, "Being ridden out", out);
    write_stories(st, st->stories + st->live_count, st->ended_count, ENDED_SHOWN,
                  "The latest that failed, were retried or were slow (retryd explain ID)", out);
    /* Last, because it may be long, and `retryd top` cuts the end. */
    for (unsigned i = 0; i < st->config->upstream_count; i++)
        write_upstream(st, &st->config->upstreams[i], &rows, out);
    if (rows > ROWS_SHOWN)
        buf_printf(out, "  and %u more\n", rows - ROWS_SHOWN);
}
