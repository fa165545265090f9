/* Writes the lines about requests. Never a header, never a body, never a key: ids, names, numbers. */
#include "daemon/access_log.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "exchange/response.h"

/* Fields: id, model, target, fallback, key; where they have something to tell. */
static void names(const struct exchange *x)
{
    log_text("id", x->request.id);
    if (x->request.model[0])
        log_text("model", x->request.model);
    if (x->placement.target.upstream)
        log_text("target", x->placement.target.upstream->name);
    if (x->placement.target.tier > 0)
        log_str("fallback", x->placement.target.model);
    if (x->placement.target.upstream && x->placement.target.upstream->key_count > 1)
        log_u64("key", x->placement.target.key_number);
}

/* --- text of an upstream's ----------------------------------------------------------------------- */

#define KEY_PIECE \
    12 /* so much of a key may not be seen: no word of an API's is in a key by chance */

static bool shares_a_piece(struct str text, struct str key)
{
    for (size_t i = 0; i + KEY_PIECE <= text.n; i++)
        if (str_find(key, (struct str){text.p + i, KEY_PIECE}))
            return true;
    return false;
}

/* Whether it quotes a key that the upstream was sent: the configured one, or the client's own. */
static bool quotes_a_key(const struct exchange *x, struct str text)
{
    const struct headers *h = &x->request.http.headers;

    if (str_ifind(text, STR("sk-")) == 0 || shares_a_piece(text, x->placement.target.key))
        return true;
    for (unsigned i = 0; i < h->count; i++) {
        struct str name = headers_name(h, i);

        if ((str_ieq(name, STR("authorization")) || str_ifind(name, STR("key")) >= 0 ||
             str_ifind(name, STR("token")) >= 0) &&
            shares_a_piece(text, headers_value(h, i)))
            return true;
    }
    return false;
}

static void add_foreign(const struct exchange *x, const char *field, struct str text)
{
    log_str(field, quotes_a_key(x, text) ? STR("(not shown: it quotes a key)") : text);
}

void access_log_upstream_id(const struct exchange *x, const struct headers *h)
{
    struct str id = h ? response_request_id(h) : (struct str){NULL, 0};

    if (id.n > 0)
        add_foreign(x, "upstream_id", id);
}

static void attempt_sentence(const struct exchange *x, const struct attempt_report *r, char *out,
                             size_t size)
{
    char status[16] = "", next[64];

    if (r->status)
        snprintf(status, sizeof(status), "%u ", r->status);
    if (r->decision.action == RETRY_AGAIN && r->decision.move != MOVE_STAY)
        snprintf(next, sizeof(next), "next at another %s",
                 r->decision.move == MOVE_TIER ? "model" : "target");
    else if (r->decision.action == RETRY_AGAIN)
        snprintf(next, sizeof(next), "next in %.1f s", (double)r->decision.delay_ms / 1000);
    else
        snprintf(next, sizeof(next), "final");
    snprintf(out, size, "attempt %u of %u failed: %s%s; %s", r->number, x->max_attempts, status,
             reason_word(r->verdict.reason), next);
}

void access_log_attempt(const struct exchange *x, const struct attempt_report *r)
{
    char sentence[160];

    if (!log_enabled(LOG_INFO))
        return;
    attempt_sentence(x, r, sentence, sizeof(sentence));
    log_begin(LOG_INFO, sentence);
    names(x);
    log_u64("attempt", r->number);
    if (r->status)
        log_u64("status", r->status);
    log_text("reason", reason_word(r->verdict.reason));
    if (r->error && r->error->code[0])
        add_foreign(x, "code", str_from(r->error->code));
    if (r->detail[0])
        add_foreign(x, "detail", str_from(r->detail));
    log_u64("duration_ms", r->duration_ms);
    if (r->decision.action == RETRY_AGAIN)
        log_u64("wait_ms", r->decision.delay_ms);
    if (r->hint.source != HINT_NONE) {
        log_text("hint", hint_source_word(r->hint.source));
        log_u64("hint_ms", r->hint.delay_ms);
    }
    if (r->decision.action != RETRY_AGAIN)
        log_text("cannot_retry", r->decision.why_not);
    access_log_upstream_id(x, &r->attempt->headers);
    if (r->duplicate)
        log_text("possible_duplicate", "yes");
    log_end();
}

void access_log_dropped(const struct exchange *x, bool malformed)
{
    log_begin(LOG_WARN, malformed ? "an event of the stream is not JSON and was left out"
                                  : "an event of the stream has no data and was left out");
    names(x);
    log_u64("attempt", x->attempts);
    log_end();
}

static bool wanted(const struct exchange *x, enum log_access access)
{
    switch (access) {
    case ACCESS_ALL:
        return true;
    case ACCESS_RETRIED:
        return x->attempts > 1 || x->end != END_ANSWERED;
    case ACCESS_FAILED:
        return x->end != END_ANSWERED;
    case ACCESS_OFF:
        break;
    }
    return false;
}

void access_log_request(const struct exchange *x, enum log_access access)
{
    struct str path = http_request_path(&x->request.http);

    if (!wanted(x, access) || !log_enabled(LOG_INFO))
        return;
    log_begin(LOG_INFO, "request");
    names(x);
    log_str("method", buf_str(&x->request.http.method));
    log_str("path", path);
    log_text("end", exchange_end_word(x->end));
    if (x->reply.status)
        log_u64("status", x->reply.status);
    log_u64("attempts", x->attempts);
    log_u64("wait_ms", x->wait_ms);
    if (x->placement.queue_ms) {
        log_u64("queue_ms", x->placement.queue_ms);
        log_text("queued_for", turn_why_word(x->placement.queue_why));
    }
    if (x->reply.first_byte_ms)
        log_u64("first_byte_ms", x->reply.first_byte_ms - x->started_ms);
    log_u64("duration_ms", x->ended_ms - x->started_ms);
    log_u64("bytes", x->reply.bytes_out);
    if (x->stream.dropped)
        log_u64("dropped_events", x->stream.dropped);
    if (x->stream.lacks_usage && x->end == END_ANSWERED)
        log_str("lacks", STR("usage")); /* which the client had asked for */
    if (x->stream.splices)
        log_u64("spliced", x->stream.splices);
    if (x->end != END_ANSWERED && x->last_reason != REASON_OK)
        log_text("reason", reason_word(x->last_reason));
    if (x->end != END_ANSWERED && x->cannot_retry)
        log_text("cannot_retry", x->cannot_retry);
    if (x->request.sdk_retry)
        log_u64("sdk_retry", x->request.sdk_retry);
    if (x->repeat)
        log_text("client_repeat", "yes");
    if (x->hedge.count)
        log_u64("hedges", x->hedge.count);
    if (x->duplicates)
        log_u64("possible_duplicates", x->duplicates);
    access_log_upstream_id(x, x->reply.upstream);
    log_end();
}
