/* Writes the log lines about requests: ids, names and numbers, never a header, a body or a key. */
#include "worker/access_log.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "exchange/response.h"
#include "policy/deadline.h"

/* Adds the fields id, model, target, fallback and key, unless they are empty. */
static void add_names(const struct exchange *x)
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

/* --- text from upstreams ---------------------------------------------------------------------- */

#define KEY_PIECE 12 /* length from which a piece of a key does not appear by chance */

static bool shares_a_piece(struct str text, struct str key)
{
    for (size_t i = 0; i + KEY_PIECE <= text.n; i++)
        if (str_find(key, (struct str){text.p + i, KEY_PIECE}))
            return true;
    return false;
}

static bool quotes_key(const struct exchange *x, struct str text)
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

struct str access_log_foreign(const struct exchange *x, struct str text)
{
    return quotes_key(x, text) ? STR("(not shown: it quotes a key)") : text;
}

static void add_foreign(const struct exchange *x, const char *field, struct str text)
{
    log_str(field, access_log_foreign(x, text));
}

/* Logs the upstream's id of the request (response_request_id); `h` may be NULL. */
static void log_upstream_id(const struct exchange *x, const struct headers *h)
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
    add_names(x);
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
    log_upstream_id(x, &r->attempt->headers);
    if (r->duplicate)
        log_text("possible_duplicate", "yes");
    log_end();
}

void access_log_dropped(const struct exchange *x, bool malformed)
{
    log_begin(LOG_WARN, malformed ? "left out an event of the stream that is not JSON"
                                  : "left out an event of the stream that has no data");
    add_names(x);
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
    add_names(x);
    if (x->request.client_name[0])
        log_text("client", x->request.client_name);
    log_str("method", buf_str(&x->request.http.method));
    log_str("path", path);
    log_text("end", exchange_end_word(x->end));
    if (x->reply.status)
        log_u64("status", x->reply.status);
    log_u64("attempts", x->attempts);
    log_u64("wait_ms", x->wait_ms);
    if (x->placement.queue_ms) {
        log_u64("queue_ms", x->placement.queue_ms);
        log_text("queued_for", turns_why_word(x->placement.queue_why));
    }
    if (x->reply.first_byte_ms)
        log_u64("first_byte_ms", x->reply.first_byte_ms - x->started_ms);
    log_u64("duration_ms", x->ended_ms - x->started_ms);
    log_u64("bytes", x->reply.bytes_out);
    if (x->stream.dropped)
        log_u64("dropped_events", x->stream.dropped);
    if (x->stream.lacks_usage && x->end == END_ANSWERED)
        log_str("lacks", STR("usage")); /* the client had asked for it */
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
    log_upstream_id(x, x->reply.upstream);
    log_end();
}

/* --- steps: turns ----------------------------------------------------------------------------- */

static void log_accepted(const struct exchange *x, uint64_t now_ms)
{
    log_begin(LOG_DEBUG, "step: request accepted");
    log_text("id", x->request.id);
    log_text("route", x->plan.route);
    log_text("operation", operation_word(x->placement.turn_request.operation));
    log_text("stream", x->request.stream ? "yes" : "no");
    log_u64("upstreams", x->plan.upstream_count);
    log_u64("fallback_models", x->plan.fallback_count);
    log_u64("max_attempts", x->max_attempts);
    if (x->deadline.at_ms != DEADLINE_NONE)
        log_u64("deadline_ms", x->deadline.at_ms > now_ms ? x->deadline.at_ms - now_ms : 0);
    log_end();
}

static void log_turn(const struct exchange *x, const struct turn *turn,
                     const struct turn_request *turn_request, enum turn_state s, uint64_t now_ms)
{
    log_begin(LOG_DEBUG, s == TURN_WAITING ? "step: queued" : "step: no target is available");
    log_text("id", x->request.id);
    log_u64("tier", turn_request->tier);
    if (s == TURN_REFUSED)
        log_text("why", turns_why_word(turn->why));
    else if (turn->first_held != TURN_WHY_NONE) /* other threads own the rest of it now */
        log_text("why", turns_why_word(turn->first_held));
    else
        log_text("why", "others wait already");
    if (s == TURN_REFUSED && turn->ready_ms != TURNS_NEVER)
        log_u64("free_in_ms", turn->ready_ms > now_ms ? turn->ready_ms - now_ms : 0);
    if (turn_request->tried_count)
        log_u64("tried", turn_request->tried_count);
    if (turn_request->excluded_count)
        log_u64("excluded", turn_request->excluded_count);
    log_end();
}

void steps_turn(const struct exchange *x, const struct turn *turn,
                const struct turn_request *turn_request, enum turn_state s, uint64_t now_ms)
{
    if (x->attempts == 0 && turn_request->tier == 0)
        log_accepted(x, now_ms);
    if (s != TURN_GRANTED)
        log_turn(x, turn, turn_request, s, now_ms);
}

/* --- steps: attempts -------------------------------------------------------------------------- */

static const char *why_there(const struct exchange *x, const struct attempt *a)
{
    if (a->fresh)
        return "the kept connection was closed; using a new one";
    if (a == x->hedge.rival)
        return "beside a slow attempt";
    if (x->stream.resuming)
        return "the stream is resumed there";
    if (a->turn.pass.probe)
        return "a probe: checks whether it is up again";
    if (x->placement.target.tier > 0 && x->placement.tier_attempts == 1)
        return "a fallback model";
    if (x->attempts > 1 && x->placement.target_attempts > 1)
        return "the same target again";
    if (a->turn.first_held != TURN_WHY_NONE)
        return "the first free target";
    return x->attempts == 1 ? "the first choice" : "another target";
}

void steps_attempt(const struct exchange *x, const struct attempt *a)
{
    const struct target *t = &a->turn.target;

    log_begin(LOG_DEBUG, "step: attempt begins");
    log_text("id", x->request.id);
    log_u64("attempt", a->number);
    log_text("target", t->upstream->name);
    if (t->own_model.n > 0)
        log_str("model", t->own_model);
    if (t->upstream->key_count > 1)
        log_u64("key", t->key_number);
    log_text("why", why_there(x, a));
    if (a->turn.first_held != TURN_WHY_NONE)
        log_text("first_choice_held_by", turns_why_word(a->turn.first_held));
    if (x->placement.queue_ms) {
        log_u64("queue_ms", x->placement.queue_ms);
        log_text("queued_for", turns_why_word(x->placement.queue_why));
    }
    if (a->anew)
        log_text("anew", "the previous response suggests that the connection is bad");
    log_end();
}

static void log_address(const struct fetch_trace *trace)
{
    bool v6 = strchr(trace->address, ':') != NULL;
    char text[160];

    if (!trace->address[0])
        return;
    if (trace->port > 0) {
        snprintf(text, sizeof(text), v6 ? "[%s]:%u" : "%s:%u", trace->address, trace->port);
        log_text(trace->proxied ? "proxy_address" : "address", text);
    } else {
        log_text("address", trace->address);
    }
}

void steps_trace(const struct exchange *x, const struct attempt *a, const struct fetch_trace *trace)
{
    log_begin(LOG_DEBUG, trace->cancelled ? "step: attempt cancelled" : "step: attempt ended");
    log_text("id", x->request.id);
    log_u64("attempt", a->number);
    if (a->status)
        log_u64("status", a->status);
    log_text("connection", !trace->sent ? "none" : trace->kept ? "kept" : "new");
    log_address(trace);
    if (trace->http[0])
        log_text("http", trace->http);
    log_u64("dns_ms", trace->dns_ms);
    log_u64("connect_ms", trace->connect_ms);
    log_u64("tls_ms", trace->tls_ms);
    log_u64("first_byte_ms", trace->first_byte_ms);
    log_u64("total_ms", trace->total_ms);
    log_u64("bytes_sent", trace->bytes_sent);
    log_u64("bytes_received", trace->bytes_received);
    log_upstream_id(x, &a->headers);
    log_end();
}

void steps_response(const struct exchange *x, unsigned status, bool whole)
{
    log_begin(LOG_DEBUG, whole ? "step: response handed over" : "step: response begins");
    log_text("id", x->request.id);
    log_u64("status", status);
    log_u64("attempts", x->attempts);
    log_end();
}
