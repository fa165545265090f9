/* Describes requests, gates and breakers in sentences, for the page, the terminal and
 * /status.json. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "admin/status.h"

/* Writes text from outside. */
static void put(struct buf *out, const char *text)
{
    status_put(out, text, false);
}

static const char *plural(uint64_t n)
{
    return n == 1 ? "" : "s";
}

/* --- in short --------------------------------------------------------------------------------- */

static void sum_up_live(const struct story *s, const struct status *st, struct buf *out)
{
    uint64_t left = s->until_ms > st->now_ms ? s->until_ms - st->now_ms : 0;
    uint64_t queue_ms = status_queue_ms(st, s);
    char time[STATUS_TIME_MAX];

    switch (s->phase) {
    case STORY_BACKOFF:
        buf_printf(out, "%s; attempt %u of %u in %s", reason_word(s->reason), s->attempts + 1,
                   s->max_attempts, status_time(left, time));
        break;
    case STORY_QUEUED:
        buf_printf(out, "waits in the queue (%s)",
                   s->why == TURN_WHY_NONE ? "others wait" : turns_why_word(s->why));
        if (queue_ms > 0)
            buf_printf(out, ", for about %s", status_time(queue_ms, time));
        break;
    case STORY_ATTEMPTING:
        buf_printf(out, "attempt %u of %u is under way", s->attempts > 0 ? s->attempts : 1,
                   s->max_attempts);
        break;
    case STORY_RELAYING:
        buf_printf(out, "the response is on its way");
        break;
    case STORY_ENDED:
        break;
    }
}

void status_summary(const struct status *st, const struct story *s, struct buf *out)
{
    if (s->phase != STORY_ENDED) {
        sum_up_live(s, st, out);
        return;
    }
    switch (s->end) {
    case END_ANSWERED:
        buf_printf(out, "%s with %u", s->attempts > 1 ? "rescued" : "answered", s->status);
        break;
    case END_FAILED:
        buf_printf(out, "failed with %u", s->status);
        break;
    case END_REFUSED:
        buf_printf(out, "refused with %u", s->status);
        break;
    case END_BROKEN:
        buf_printf(out, "broke after it had begun");
        break;
    case END_CLIENT_GONE:
        buf_printf(out, "the client left");
        break;
    case END_NONE:
        break;
    }
    if (s->reason != REASON_OK && s->end != END_CLIENT_GONE)
        buf_printf(out, ": %s", reason_word(s->reason));
}

/* --- the whole story -------------------------------------------------------------------------- */

static void tell_request(const struct story *s, struct buf *out)
{
    time_t seconds = (time_t)(s->unix_ms / 1000);
    char when[32] = "";
    struct tm t;

    put(out, s->method);
    buf_addc(out, ' ');
    put(out, s->path);
    buf_printf(out, s->model[0] ? " for " : "");
    put(out, s->model);
    if (gmtime_r(&seconds, &t))
        (void)strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &t);
    buf_printf(out, "%s came at %s", s->stream ? ", as a stream," : "", when);
    if (s->route[0])
        buf_printf(out, ", by route %s", s->route);
    buf_printf(out, ".\n");
}

static void tell_place(const struct story *s, const struct story_attempt *a, struct buf *out)
{
    buf_printf(out, "Attempt %u went to %s", a->number, a->upstream[0] ? a->upstream : "nowhere");
    if (a->model[0] && strcmp(a->model, s->model) != 0) {
        buf_printf(out, " as ");
        put(out, a->model);
    }
    if (a->key_number > 0)
        buf_printf(out, " with key %u", a->key_number);
}

static void tell_failure(const struct story_attempt *a, struct buf *out)
{
    buf_printf(out, ": ");
    if (a->status > 0)
        buf_printf(out, "%u ", a->status);
    buf_printf(out, "%s", reason_word(a->reason));
    if (a->code[0] || a->detail[0]) {
        buf_printf(out, " (");
        put(out, a->code[0] ? a->code : a->detail);
        buf_addc(out, ')');
    }
}

static void tell_attempt(const struct status *st, const struct story *s,
                         const struct story_attempt *a, struct buf *out)
{
    uint64_t since = st->now_ms - s->started_ms;
    char wait[STATUS_TIME_MAX], time[STATUS_TIME_MAX];

    if (a->wait_ms > 0)
        buf_printf(out, "retryd waited %s. ", status_time(a->wait_ms, wait));
    tell_place(s, a, out);
    switch (a->outcome) {
    case ATTEMPT_RUNS:
        buf_printf(out, " and has been under way for %s",
                   status_time(since > a->start_ms ? since - a->start_ms : 0, time));
        break;
    case ATTEMPT_FAILED:
        buf_printf(out, " and failed after %s", status_time(a->duration_ms, time));
        tell_failure(a, out);
        break;
    case ATTEMPT_GOOD:
        buf_printf(out, " and was answered with %u; it took %s", a->status,
                   status_time(a->duration_ms, time));
        break;
    case ATTEMPT_CANCELLED:
        buf_printf(out, " and was cancelled after %s", status_time(a->duration_ms, time));
        break;
    }
    buf_printf(out, ".\n");
}

static void tell_end(const struct story *s, struct buf *out)
{
    char time[STATUS_TIME_MAX];

    (void)status_time(s->ended_ms - s->started_ms, time);
    switch (s->end) {
    case END_ANSWERED:
        buf_printf(out, "The client got the response, with status %u, %s after its request.\n",
                   s->status, time);
        break;
    case END_FAILED:
        buf_printf(out, "The client got %u after %s and %u attempt%s.\n", s->status, time,
                   s->attempts, plural(s->attempts));
        break;
    case END_REFUSED:
        buf_printf(out, "It was refused with %u before any attempt.\n", s->status);
        break;
    case END_BROKEN:
        buf_printf(out, "The response broke after it had begun, and the client was told.\n");
        break;
    case END_CLIENT_GONE:
        buf_printf(out, "The client left after %s.\n", time);
        break;
    case END_NONE:
        break;
    }
    if (s->cannot_retry[0])
        buf_printf(out, "No other attempt was made: %s.\n", s->cannot_retry);
}

static void tell_times(const struct story *s, struct buf *out)
{
    uint64_t total = s->ended_ms - s->started_ms;
    uint64_t known = s->upstream_ms + s->backoff_ms + s->queue_ms;
    char a[STATUS_TIME_MAX], b[STATUS_TIME_MAX], c[STATUS_TIME_MAX], d[STATUS_TIME_MAX];

    buf_printf(out, "Its time: %s with upstreams, %s backing off, %s in the queue, %s else.\n",
               status_time(s->upstream_ms, a), status_time(s->backoff_ms, b),
               status_time(s->queue_ms, c), status_time(total > known ? total - known : 0, d));
}

static void tell_extras(const struct story *s, struct buf *out)
{
    if (s->client_repeat)
        buf_printf(out, "The client had sent the same request shortly before, and it had failed: "
                        "it got one attempt.\n");
    if (s->hedges > 0)
        buf_printf(out, "%u second attempt%s joined a slow one.\n", s->hedges, plural(s->hedges));
    if (s->splices > 0)
        buf_printf(out, "%u break%s of the stream %s mended.\n", s->splices, plural(s->splices),
                   s->splices == 1 ? "was" : "were");
    if (s->duplicates > 0)
        buf_printf(out, "%u attempt%s may have been charged although the response was lost.\n",
                   s->duplicates, plural(s->duplicates));
}

void status_sentences(const struct status *st, const struct story *s, struct buf *out)
{
    tell_request(s, out);
    for (unsigned i = 0; i < s->kept; i++) {
        if (i > 0 && s->attempt[i].number > s->attempt[i - 1].number + 1)
            buf_printf(out, "(%u attempts are left out here.)\n",
                       s->attempt[i].number - s->attempt[i - 1].number - 1);
        tell_attempt(st, s, &s->attempt[i], out);
    }
    if (s->phase == STORY_ENDED) {
        tell_end(s, out);
        tell_times(s, out);
    } else {
        buf_printf(out, "Now: ");
        sum_up_live(s, st, out);
        buf_printf(out, ".\n");
    }
    tell_extras(s, out);
}

/* --- targets ---------------------------------------------------------------------------------- */

void status_breaker(const struct turns_view *v, struct buf *out)
{
    char time[STATUS_TIME_MAX];

    if (v->half_open)
        buf_printf(out, "probing");
    else if (v->shut_ms > 0)
        buf_printf(out, "open, probe in %s", status_time(v->shut_ms, time));
    else
        buf_printf(out, "closed");
}

void status_gate(const struct turns_view *v, struct buf *out)
{
    char time[STATUS_TIME_MAX];

    if (v->shut_ms > 0)
        buf_printf(out, "closed, opens in %s", status_time(v->shut_ms, time));
    else
        buf_printf(out, v->opening ? "opening" : "open");
    if (v->pace_per_minute > 0)
        buf_printf(out, ", paced at %.0f/min", v->pace_per_minute);
}
