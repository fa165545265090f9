/* Writes the lines of a request's steps. */
#include "daemon/steps.h"

#include <stdio.h>

#include "daemon/access_log.h"
#include "policy/deadline.h"

/* --- turns -------------------------------------------------------------------------------------- */

static void tell_taken(const struct exchange *x, uint64_t now_ms)
{
    log_begin(LOG_DEBUG, "step: request taken");
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

static void tell_turn(const struct exchange *x, const struct turn *turn,
                      const struct turn_request *turn_request, enum turn_state s, uint64_t now_ms)
{
    log_begin(LOG_DEBUG,
              s == TURN_WAITING ? "step: waits in the queue" : "step: no turn is to be had");
    log_text("id", x->request.id);
    log_u64("tier", turn_request->tier);
    if (s == TURN_REFUSED)
        log_text("why", turn_why_word(turn->why));
    else if (turn->first_held != TURN_WHY_NONE) /* all else is the other threads' now */
        log_text("why", turn_why_word(turn->first_held));
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
        tell_taken(x, now_ms);
    if (s != TURN_GRANTED)
        tell_turn(x, turn, turn_request, s, now_ms);
}

/* --- attempts ----------------------------------------------------------------------------------- */

static const char *why_there(const struct exchange *x, const struct attempt *a)
{
    if (a->fresh)
        return "the kept connection was closed: on a new one";
    if (a == x->hedge.rival)
        return "beside a slow attempt";
    if (x->stream.resuming)
        return "the stream is read on there";
    if (a->turn.pass.probe)
        return "a probe: whether it is up again";
    if (x->placement.target.tier > 0 && x->placement.tier_attempts == 1)
        return "a fallback model";
    if (x->attempts > 1 && x->placement.target_attempts > 1)
        return "the same target again";
    if (a->turn.first_held != TURN_WHY_NONE)
        return "the first that is free";
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
        log_text("first_choice_held_by", turn_why_word(a->turn.first_held));
    if (x->placement.queue_ms) {
        log_u64("queue_ms", x->placement.queue_ms);
        log_text("queued_for", turn_why_word(x->placement.queue_why));
    }
    if (a->anew)
        log_text("anew", "the last answer speaks against its connection");
    log_end();
}

static void tell_address(const struct fetch_trace *trace)
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
    log_begin(LOG_DEBUG, trace->cancelled ? "step: attempt cancelled" : "step: attempt over");
    log_text("id", x->request.id);
    log_u64("attempt", a->number);
    if (a->status)
        log_u64("status", a->status);
    log_text("connection", !trace->sent ? "none" : trace->kept ? "kept" : "new");
    tell_address(trace);
    if (trace->http[0])
        log_text("http", trace->http);
    log_u64("dns_ms", trace->dns_ms);
    log_u64("connect_ms", trace->connect_ms);
    log_u64("tls_ms", trace->tls_ms);
    log_u64("first_byte_ms", trace->first_byte_ms);
    log_u64("total_ms", trace->total_ms);
    log_u64("bytes_sent", trace->bytes_sent);
    log_u64("bytes_received", trace->bytes_received);
    access_log_upstream_id(x, &a->headers);
    log_end();
}

void steps_response(const struct exchange *x, unsigned status, bool whole)
{
    log_begin(LOG_DEBUG, whole ? "step: answer handed over" : "step: answer begins");
    log_text("id", x->request.id);
    log_u64("status", status);
    log_u64("attempts", x->attempts);
    log_end();
}
