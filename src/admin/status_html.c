/* Writes the status page as HTML. It is complete, so that it also works without the script that
 * keeps it up to date. */
#include <inttypes.h>
#include <status_page_data.h> /* made by the build from src/admin/page/ */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/status.h"
#include "http/dialect.h"

#define LIVE_SHOWN 20
#define REASONS_SHOWN 5

static void put(struct buf *out, const char *text)
{
    status_put(out, text, true);
}

static const char *plural(uint64_t n)
{
    return n == 1 ? "" : "s";
}

static void put_time(struct buf *out, uint64_t ms)
{
    char space[STATUS_TIME_MAX];

    buf_printf(out, "%s", status_time(ms, space));
}

static void put_ago(struct buf *out, uint64_t ms)
{
    if (ms < 1000) {
        buf_printf(out, "just now");
    } else if (ms < 10000) {
        buf_printf(out, "%" PRIu64 " s ago", ms / 1000);
    } else {
        put_time(out, ms);
        buf_printf(out, " ago");
    }
}

static uint64_t since(uint64_t now_ms, uint64_t then_ms)
{
    return now_ms > then_ms ? now_ms - then_ms : 0;
}

static double percent(uint64_t n, uint64_t all)
{
    return all > 0 ? 100.0 * (double)n / (double)all : 0;
}

/* --- health ----------------------------------------------------------------------------------- */

static void write_health(const struct status *st, struct buf *out)
{
    buf_printf(
        out,
        "<header id=\"health\" class=\"s-%s\"><p class=\"brand\"><b>retryd</b> <span id=\"meta\">",
        status_health_word(st->health));
    buf_printf(out, "%s, up ", RETRYD_VERSION);
    put_time(out, since(st->unix_ms, st->started_unix_ms));
    buf_printf(out, "</span></p><h1 id=\"state\">%s</h1><ul class=\"why\" id=\"why\">",
               status_health_sentence(st->health));
    for (unsigned i = 0; i < st->why_count; i++) {
        buf_printf(out, "<li>");
        put(out, st->why[i]);
        buf_printf(out, "</li>");
    }
    buf_printf(out, "</ul></header>");
}

/* --- requests --------------------------------------------------------------------------------- */

static uint64_t total_of(const struct status *st, const struct story *s)
{
    return (s->phase == STORY_ENDED ? s->ended_ms : st->now_ms) - s->started_ms;
}

static void write_lane(const struct status *st, const struct story *s, struct buf *out)
{
    uint64_t total = total_of(st, s);

    buf_printf(out, "<svg class=\"lane\" role=\"img\" aria-label=\"%u attempt%s in ", s->kept,
               plural(s->kept));
    put_time(out, total);
    buf_printf(out, "\"><rect class=\"f-lane\" x=\"0\" y=\"3\" width=\"100%%\" height=\"4\"/>");
    for (unsigned i = s->kept; i-- > 0;) { /* in reverse: a short failure is drawn on top */
        const struct story_attempt *a = &s->attempt[i];
        uint64_t ms = a->outcome == ATTEMPT_RUNS ? since(total, a->start_ms) : a->duration_ms;
        double width = percent(ms, total);

        buf_printf(
            out, "<rect class=\"f-%s\" x=\"%.2f%%\" y=\"0\" height=\"10\" width=\"%.2f%%\"/>",
            story_outcome_word(a->outcome), percent(a->start_ms, total), width > 1 ? width : 1.0);
    }
    buf_printf(out, "</svg>");
}

static void write_what(const struct story *s, struct buf *out)
{
    buf_printf(out, "<span class=\"mono\">");
    put(out, s->method);
    buf_addc(out, ' ');
    put(out, s->path);
    buf_printf(out, "</span>");
}

static void write_model(const struct story *s, struct buf *out)
{
    if (s->model[0])
        buf_addc(out, ' ');
    put(out, s->model);
}

/* Writes the summary of a request, escaped. */
static void write_summary(const struct status *st, const struct story *s, struct buf *out)
{
    struct buf words;

    buf_init(&words, 4096);
    status_summary(st, s, &words);
    if (buf_addc(&words, '\0') == 0)
        put(out, words.p);
    buf_deinit(&words);
}

static void write_tale(const struct status *st, const struct story *s, struct buf *out)
{
    struct buf words;
    struct str rest, line;

    buf_printf(out, "<details><summary>");
    write_what(s, out);
    write_model(s, out);
    buf_printf(out, "</summary><ol class=\"tale\"><li><span class=\"mono\">");
    put(out, s->id);
    buf_printf(out, "</span></li>");
    buf_init(&words, 16384);
    status_sentences(st, s, &words);
    rest = buf_str(&words);
    while (str_next(&rest, '\n', &line)) {
        char text[1024];

        snprintf(text, sizeof(text), "%.*s", (int)line.n, line.n ? line.p : "");
        buf_printf(out, "<li>");
        put(out, text);
        buf_printf(out, "</li>");
    }
    buf_deinit(&words);
    buf_printf(out, "</ol></details>");
}

static void write_live(const struct status *st, const struct story *s, struct buf *out)
{
    buf_printf(out, "<tr><td class=\"full\">");
    write_what(s, out);
    write_model(s, out);
    buf_printf(out, "</td><td class=\"full\">");
    write_summary(st, s, out);
    buf_printf(out, "</td><td class=\"n\" data-label=\"for\">");
    put_time(out, total_of(st, s));
    buf_printf(out, "</td><td class=\"bar\">");
    write_lane(st, s, out);
    buf_printf(out, "</td></tr>");
}

static void write_now(const struct status *st, struct buf *out)
{
    unsigned n = st->live_count < LIVE_SHOWN ? st->live_count : LIVE_SHOWN;

    buf_printf(out,
               "<section><h2>Right now</h2><div id=\"now\"><p class=\"line\">%s%" PRIu64
               " request%s in progress on %" PRIu64 " connection%s, %u waiting in the queue.</p>",
               n == 0 ? "Nothing is being ridden out. " : "", st->active, plural(st->active),
               st->connections, plural(st->connections), st->waiting);
    if (n > 0)
        buf_printf(
            out,
            "<table class=\"cards\"><thead><tr><th>Request</th><th>State</th><th class=\"n\">For</th>"
            "<th>Attempts</th></tr></thead><tbody>");
    for (unsigned i = 0; i < n; i++)
        write_live(st, &st->stories[i], out);
    buf_printf(out, n > 0 ? "</tbody></table></div></section>" : "</div></section>");
}

static void write_ended(const struct status *st, const struct story *s, struct buf *out)
{
    const char *tone = s->end == END_ANSWERED ? "ok" : s->end == END_CLIENT_GONE ? "dim" : "bad";

    buf_printf(out, "<tr><td class=\"t\"><time data-ms=\"%" PRIu64 "\">", s->unix_ms);
    put_ago(out, since(st->unix_ms, s->unix_ms));
    buf_printf(out, "</time></td><td class=\"full\">");
    write_tale(st, s, out);
    buf_printf(out, "</td><td class=\"full %s\">", tone);
    write_summary(st, s, out);
    buf_printf(out, "</td><td class=\"n\" data-label=\"attempts\">%u</td><td class=\"n\">",
               s->attempts);
    put_time(out, total_of(st, s));
    buf_printf(out, "</td><td class=\"bar\">");
    write_lane(st, s, out);
    buf_printf(out, "</td></tr>");
}

static void write_history(const struct status *st, struct buf *out)
{
    bool any = st->ended_count > 0;

    buf_printf(
        out,
        "<section><h2>Requests that failed, were retried or were slow</h2><p class=\"line\" id=\"none\"%s>None "
        "yet.</p><table class=\"cards\" id=\"table\"%s><thead><tr><th>When</th><th>Request</th><th>Outcome</th>"
        "<th class=\"n\">Attempts</th><th class=\"n\">Took</th><th>Timeline</th></tr></thead><tbody id=\"history\">",
        any ? " hidden" : "", any ? "" : " hidden");
    for (unsigned i = 0; i < st->ended_count; i++)
        write_ended(st, &st->stories[st->live_count + i], out);
    buf_printf(out, "</tbody></table></section>");
}

/* --- the time --------------------------------------------------------------------------------- */

static void write_key(const char *class, struct buf *out)
{
    buf_printf(
        out,
        "<svg aria-hidden=\"true\" viewBox=\"0 0 10 10\"><rect class=\"f-%s\" width=\"10\" height=\"10\" "
        "rx=\"2\"/></svg>",
        class);
}

static void write_where(const struct status *st, struct buf *out)
{
    const struct {
        const char *class, *label;
        uint64_t ms;
    } parts[] = {{"up", "upstreams", st->hour.upstream_ms},
                 {"backoff", "backing off", st->hour.backoff_ms},
                 {"queue", "in the queue", st->hour.queue_ms},
                 {"other", "retryd and clients", status_other_ms(&st->hour)}};
    uint64_t sum = 0, x = 0;

    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        sum += parts[i].ms;
    buf_printf(out, "<section><h2>Where the time goes</h2><div id=\"where\">");
    if (sum > 0) {
        buf_printf(
            out,
            "<svg class=\"sum\" role=\"img\" aria-label=\"Where the time of the last hour's requests went\">");
        for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); x += parts[i++].ms)
            buf_printf(out,
                       "<rect class=\"f-%s\" x=\"%.2f%%\" y=\"0\" width=\"%.2f%%\" height=\"18\"/>",
                       parts[i].class, percent(x, sum), percent(parts[i].ms, sum));
        buf_printf(out, "</svg><ul class=\"legend\">");
        for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
            buf_printf(out, "<li>");
            write_key(parts[i].class, out);
            buf_printf(out, "%s <b>", parts[i].label);
            put_time(out, parts[i].ms);
            buf_printf(out, "</b> %u %%</li>", (unsigned)(100 * parts[i].ms / sum));
        }
        buf_printf(out, "</ul>");
    } else {
        buf_printf(out, "<p class=\"line\">No request has taken any time in the last hour.</p>");
    }
    buf_printf(out, "<p class=\"line dim\">");
    if (st->total.requests >= STATUS_CPU_REQUESTS)
        buf_printf(out, "retryd needs %" PRIu64 " \xc2\xb5s of CPU a request. ",
                   st->cpu_us / st->total.requests);
    buf_printf(out,
               "Longest iteration of an event loop in the last minute: %" PRIu64
               " ms. Memory: %" PRIu64 " MB.</p></div></section>",
               st->lag_max_ms, st->memory / 1000000);
}

/* --- upstreams -------------------------------------------------------------------------------- */

static void write_facts(const struct status *st, const struct config_upstream *u, struct buf *out)
{
    const struct traffic_view *s = status_next(st, NULL, u->name, VIEW_UPSTREAM), *k;
    struct turns_view v = s ? s->view : (struct turns_view){.kind = VIEW_UPSTREAM};

    buf_printf(out, "<p class=\"line dim\">%u ", v.in_flight);
    if (u->max_concurrency > 0)
        buf_printf(out, "of at most %u ", u->max_concurrency);
    buf_printf(out, "in flight; ");
    if (u->requests_per_minute > 0) {
        buf_printf(out, "%u requests a minute, the next %s", u->requests_per_minute,
                   v.free_ms > 0 ? "in " : "now");
        if (v.free_ms > 0)
            put_time(out, v.free_ms);
        buf_printf(out, "; ");
    }
    buf_printf(out, "%" PRIu64 " %s in 10 s, room for %" PRIu64 " more", v.budget_repeats,
               v.budget_repeats == 1 ? "retry" : "retries", status_budget_left(st, &v));
    for (unsigned i = 1; i <= u->key_count; i++) {
        for (k = status_next(st, NULL, u->name, VIEW_KEY); k && k->view.key_number != i;)
            k = status_next(st, k, u->name, VIEW_KEY);
        buf_printf(out, "; key %u ", i);
        if (k && k->view.shut_ms > 0) {
            buf_printf(out, "set aside for ");
            put_time(out, k->view.shut_ms);
        } else {
            buf_printf(out, "in use");
        }
    }
    buf_printf(out, ".</p>");
}

static void write_target(const struct traffic_view *model, const struct traffic_view *target,
                         struct buf *out)
{
    bool down = model->view.shut_ms > 0 || model->view.half_open;
    bool gated = target->view.shut_ms > 0 || target->view.opening;

    buf_printf(out, down || gated ? "<tr class=\"shut\"><td class=\"full\">"
                                  : "<tr><td class=\"full\">");
    put(out, model->model[0] ? model->model : "(no model)");
    if (model->view.operation != OPERATION_GENERATE)
        buf_printf(out, "<span class=\"dim\"> %s</span>", operation_word(model->view.operation));
    if (target->view.key_number > 0)
        buf_printf(out, "<span class=\"dim\"> key %u</span>", target->view.key_number);
    buf_printf(out, "</td><td class=\"%s\" data-label=\"breaker\">", down ? "full bad" : "full");
    status_breaker(&model->view, out);
    buf_printf(out, "</td><td class=\"%s\" data-label=\"gate\">", gated ? "full warn" : "full");
    status_gate(&target->view, out);
    buf_printf(out, "</td><td class=\"n\" data-label=\"waiting\">%u</td></tr>",
               target->view.waiting);
}

static void write_upstream(const struct status *st, const struct config_upstream *u,
                           struct buf *out)
{
    const struct traffic_view *model = NULL, *target;
    unsigned rows = 0, hidden = 0;

    buf_printf(out, "<h3>");
    put(out, u->name);
    buf_printf(out, " <small>");
    put(out, u->host);
    buf_printf(out, "</small></h3>");
    write_facts(st, u, out);
    while ((model = status_next(st, model, u->name, VIEW_MODEL))) {
        hidden += model->hidden;
        for (target = NULL; !model->hidden && (target = status_next_target(st, target, model));) {
            if (rows++ == 0)
                buf_printf(
                    out,
                    "<table class=\"cards up\"><thead><tr><th>Model</th><th>Breaker</th><th>Gate</th>"
                    "<th class=\"n\">Waiting</th></tr></thead><tbody>");
            write_target(model, target, out);
        }
    }
    if (rows > 0)
        buf_printf(out, "</tbody></table>");
    if (hidden > 0)
        buf_printf(out, "<p class=\"line dim\">%u model%s more</p>", hidden, plural(hidden));
}

/* --- the last hour ---------------------------------------------------------------------------- */

struct layer {
    const char *class, *label;
    uint64_t total, minutes[HISTORY_MINUTES]; /* the oldest first */
};

static void write_bars(const struct layer *layers, unsigned n, uint64_t peak, struct buf *out)
{
    for (unsigned m = 0; m < HISTORY_MINUTES; m++) {
        unsigned y = 72;

        for (unsigned i = 0; i < n; i++) {
            unsigned tall = peak > 0 ? (unsigned)(layers[i].minutes[m] * 70 / peak) : 0;

            y -= tall;
            if (layers[i].minutes[m] > 0)
                buf_printf(out,
                           "<rect class=\"f-%s\" x=\"%u\" y=\"%u\" width=\"8\" height=\"%u\"/>",
                           layers[i].class, m * 10 + 1, y, tall);
        }
    }
}

static void write_plot(const char *title, const char *label, const struct layer *layers, unsigned n,
                       struct buf *out)
{
    uint64_t peak = 0;

    for (unsigned m = 0; m < HISTORY_MINUTES; m++) {
        uint64_t sum = 0;

        for (unsigned i = 0; i < n; i++)
            sum += layers[i].minutes[m];
        peak = sum > peak ? sum : peak;
    }
    buf_printf(
        out,
        "<div><p>%s<span class=\"dim\"> at most %" PRIu64
        " a minute</span></p><svg class=\"plot\" viewBox=\"0 0 600 72\" preserveAspectRatio=\"none\" role=\"img\" "
        "aria-label=\"%s\">",
        title, peak, label);
    write_bars(layers, n, peak, out);
    buf_printf(
        out,
        "</svg><div class=\"axis\"><span>an hour ago</span><span>now</span></div><ul class=\"legend\">");
}

static void write_legend(const struct layer *l, struct buf *out)
{
    buf_printf(out, "<li>");
    write_key(l->class, out);
    buf_printf(out, "%s <b>%" PRIu64 "</b></li>", l->label, l->total);
}

static void write_requests(const struct status *st, struct buf *out)
{
    struct layer layers[] = {
        {.class = "failed", .label = "failed", .total = st->hour.failed + st->hour.broken},
        {.class = "rescued", .label = "rescued", .total = st->hour.rescued},
        {.class = "up", .label = "requests", .total = st->hour.requests}};

    for (unsigned m = 0; m < HISTORY_MINUTES; m++) {
        const struct history_sums *s = &st->minutes[HISTORY_MINUTES - 1 - m];
        uint64_t bad = s->failed + s->broken;

        layers[0].minutes[m] = bad;
        layers[1].minutes[m] = s->rescued;
        layers[2].minutes[m] = s->requests > bad + s->rescued ? s->requests - bad - s->rescued : 0;
    }
    write_plot("Requests", "Requests of the last hour by minute", layers, 3, out);
    for (unsigned i = 3; i-- > 0;)
        write_legend(&layers[i], out);
    buf_printf(out, "</ul></div>");
}

static void write_failures(const struct status *st, struct buf *out)
{
    static const char *const classes[] = {"r0", "r1", "r2", "r3", "r4", "r5"};
    struct layer layers[REASONS_SHOWN + 1] = {{.class = NULL}};
    unsigned top[REASONS_SHOWN] = {0}, n = status_top(&st->hour, REASONS_SHOWN, top);

    layers[n] = (struct layer){.class = classes[REASONS_SHOWN], .label = "others"};
    for (unsigned r = 1; r < REASON_COUNT; r++) {
        unsigned i = 0;

        while (i < n && top[i] != r)
            i++;
        if (i < n) {
            layers[i].class = classes[i];
            layers[i].label = reason_word((enum reason)r);
        }
        layers[i].total += st->hour.failures[r];
        for (unsigned m = 0; m < HISTORY_MINUTES; m++)
            layers[i].minutes[m] += st->minutes[HISTORY_MINUTES - 1 - m].failures[r];
    }
    write_plot("Failed attempts", "Failed attempts of the last hour by minute and reason", layers,
               n + 1, out);
    for (unsigned i = 0; i <= n; i++)
        if (layers[i].total > 0)
            write_legend(&layers[i], out);
    buf_printf(out, "</ul></div>");
}

/* --- the configuration ------------------------------------------------------------------------ */

static void write_config(const struct status *st, struct buf *out)
{
    const struct status_reload *r = &st->reload;

    buf_printf(out, "<section><h2>Configuration</h2><dl id=\"config\"><dt>File</dt><dd>");
    put(out, st->config->path ? st->config->path : "none: the built-in defaults");
    buf_printf(out, "%s</dd><dt>In force</dt><dd>since ",
               r->differs ? " (changed since it was read)" : "");
    put_ago(out, since(st->unix_ms, r->taken_s * 1000));
    buf_printf(out, ", hash <code>%016" PRIx64 "</code></dd><dt>Last reload</dt>", st->config_hash);
    if (r->refused) {
        buf_printf(out, "<dd class=\"bad\">refused ");
        put_ago(out, since(st->unix_ms, r->tried_s * 1000));
        buf_printf(out, ": ");
        put(out, r->problem);
    } else {
        buf_printf(out, "<dd>accepted, or none yet");
    }
    buf_printf(out, "</dd></dl><details><summary>All settings</summary><pre id=\"dump\">");
    for (struct str rest = str_from(st->dump), line; str_next(&rest, '\n', &line);) {
        char text[1024];

        snprintf(text, sizeof(text), "%.*s", (int)line.n, line.n ? line.p : "");
        put(out, text);
        buf_addc(out, '\n');
    }
    buf_printf(out, "</pre></details></section>");
}

static void write_actions(const struct status *st, struct buf *out)
{
    buf_printf(out, "<section><h2>Actions</h2>");
    if (st->can_act)
        buf_printf(out,
                   "<form id=\"actions\" hidden><input id=\"token\" type=\"password\" "
                   "autocomplete=\"off\" placeholder=\"token\" aria-label=\"Token\">"
                   "<button value=\"reset\">Open all gates and breakers</button>"
                   "<button value=\"reload\">Reload the configuration</button>"
                   "<button value=\"drain\">Finish requests and end</button></form>"
                   "<noscript><p class=\"line dim\">The buttons need JavaScript.</p></noscript>"
                   "<p class=\"line\" id=\"said\" role=\"status\"></p>");
    else
        buf_printf(out, "<p class=\"line dim\">Off: no <code>[admin] token_file</code> is "
                        "configured.</p>");
    buf_printf(out, "</section>");
}

/* --- the whole -------------------------------------------------------------------------------- */

void status_html(const struct status *st, struct buf *out)
{
    buf_printf(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>retryd: %s</title>"
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">"
        "<meta name=\"color-scheme\" content=\"light dark\"><link rel=\"icon\" href=\"data:,\">"
        "<noscript><meta http-equiv=\"refresh\" content=\"5\"></noscript><style>",
        status_health_sentence(st->health));
    (void)buf_add_str(out, (struct str){(const char *)style, sizeof(style)});
    buf_printf(out, "</style></head><body>");
    write_health(st, out);
    buf_printf(out, "<main>");
    write_now(st, out);
    write_where(st, out);
    buf_printf(out, "<section><h2>Upstreams</h2><div id=\"upstreams\">");
    for (unsigned i = 0; i < st->config->upstream_count; i++)
        write_upstream(st, &st->config->upstreams[i], out);
    buf_printf(
        out,
        "</div></section><section><h2>The last hour</h2><div id=\"hour\"><div class=\"plots\">");
    write_requests(st, out);
    write_failures(st, out);
    buf_printf(out, "</div></div></section>");
    write_history(st, out);
    write_config(st, out);
    write_actions(st, out);
    buf_printf(
        out,
        "</main><footer><a href=\"/status.json\">status.json</a>, <a href=\"/metrics\">metrics</a></footer>"
        "<script>");
    (void)buf_add_str(out, (struct str){(const char *)script, sizeof(script)});
    buf_printf(out, "</script></body></html>\n");
}

const char *status_html_policy(void)
{
    return "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
           "img-src data:; connect-src 'self'; style-src 'sha256-" STYLE_HASH
           "'; script-src 'sha256-" SCRIPT_HASH "'";
}
