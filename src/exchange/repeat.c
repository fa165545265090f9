/* Tells a client's own retry of a request that has just failed here from a new request (C8). */
#include <stdio.h>

#include "base/hash.h"
#include "exchange/exchange_private.h"

/* The same method, target, credentials and body. */
static uint64_t request_fingerprint(const struct exchange *x)
{
    const struct http_request *request = &x->request.http;
    uint64_t id = hash_join(fingerprint_of(buf_str(&request->method)),
                            fingerprint_of(buf_str(&request->target)));

    id = hash_join(id, x->placement.turn_request.client);
    return hash_join(id, body_fingerprint(&x->request.body));
}

void repeat_notice(struct exchange *x)
{
    uint64_t now = x->ops->now_ms(x->world);

    if (x->plan.settings->retry.repeat_window_ms == 0 || !failures_any(x->shared.failures, now))
        return;
    x->repeat = failures_has(x->shared.failures, request_fingerprint(x), now, x->words);
    if (!x->repeat)
        return;
    x->max_attempts = 1;
    exchange_cannot_retry(x, "the client repeats a request that has just failed here");
}

void repeat_note_failure(struct exchange *x, const struct outcome *o)
{
    const char *said = o->error ? o->error->message : "";

    if (o->status < 400)
        snprintf(x->words, sizeof(x->words), "%.*s", FAILURE_WORDS - 1,
                 *said ? said : x->attempt->detail);
    else
        snprintf(x->words, sizeof(x->words), "status %u%s%.120s", o->status, *said ? ": " : "",
                 said);
}

const char *repeat_words(const struct exchange *x)
{
    return x->repeat && x->attempts == 0 ? x->words : "";
}

/* A status that clients repeat on their own; a failure that a stream tells has one below 400. */
static bool invites_repeats(unsigned status)
{
    return status < 400 || status >= 500 || status == 408 || status == 409 || status == 425 ||
           status == 429 || status == 498;
}

/* It was tried here as often as it could be, and the client was told so: not that it may come again,
 * not that retryd ends. */
static bool failed_for_good(const struct exchange *x)
{
    return (x->end == END_FAILED || x->end == END_BROKEN) && !x->reply.come_again && !x->aborted &&
           invites_repeats(x->reply.status);
}

void repeat_remember(const struct exchange *x)
{
    uint64_t window;

    if (!x->shared.failures || !x->plan.settings)
        return;
    window = x->plan.settings->retry.repeat_window_ms;
    if (window > 0 && failed_for_good(x))
        failures_add(x->shared.failures, request_fingerprint(x), x->ended_ms + window, x->ended_ms,
                     x->attempts > 0 ? x->words : NULL);
    else if (x->repeat && x->end == END_ANSWERED)
        failures_forget(x->shared.failures, request_fingerprint(x));
}
