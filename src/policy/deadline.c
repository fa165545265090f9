/* Chooses the earliest of the deadlines that the configuration and the client set. */
#include "policy/deadline.h"

#define NODE_GIVES_UP_MS (300 * 1000)
#define LONGEST_MS (UINT64_C(1) << 52) /* exact in a double */

static uint64_t clamp(uint64_t v, uint64_t low, uint64_t high)
{
    return v < low ? low : v > high ? high : v;
}

/* Subtracts the margin from a time that the client declares. Its clock starts before retryd sees
 * the request: openai for Node takes about 50 ms for the first connection of a process. The
 * response needs time on its way back, too. */
static uint64_t less_margin(uint64_t declared_ms)
{
    uint64_t margin = clamp(declared_ms / 20, 100, 2000);

    return declared_ms - (margin < declared_ms / 2 ? margin : declared_ms / 2);
}

/* Returns a header's seconds in milliseconds; 0 if it is absent, malformed or zero. */
static uint64_t declared(const struct headers *request, struct str name)
{
    struct str value;
    double seconds;

    if (!headers_get(request, name, &value) || !str_to_decimal(str_trim(value), &seconds))
        return 0;
    seconds *= 1000;
    return seconds < (double)LONGEST_MS ? (uint64_t)seconds : LONGEST_MS;
}

static void lower(struct deadline *d, uint64_t start_ms, uint64_t after_ms,
                  enum deadline_source source)
{
    if (after_ms == 0 || after_ms >= DEADLINE_NONE - start_ms || start_ms + after_ms >= d->at_ms)
        return;
    d->at_ms = start_ms + after_ms;
    d->since_ms = start_ms;
    d->source = source;
}

static bool is_node(const struct headers *request)
{
    struct str runtime;

    return headers_get(request, STR("x-stainless-runtime"), &runtime) &&
           str_ieq(str_trim(runtime), STR("node"));
}

struct deadline deadline_of(const struct headers *request, uint64_t start_ms, uint64_t heard_ms,
                            uint64_t config_ms, uint64_t override_ms)
{
    struct deadline d = {.at_ms = DEADLINE_NONE, .since_ms = start_ms};
    uint64_t silence = declared(request, STR("x-stainless-read-timeout"));
    uint64_t total = declared(request, STR("x-stainless-timeout"));
    uint64_t google = declared(request, STR("x-server-timeout"));

    lower(&d, start_ms, config_ms, DEADLINE_FROM_CONFIG);
    lower(&d, heard_ms, less_margin(silence), DEADLINE_FROM_SILENCE);
    lower(&d, start_ms, less_margin(total), DEADLINE_FROM_CLIENT);
    lower(&d, start_ms, less_margin(google), DEADLINE_FROM_CLIENT);
    lower(&d, start_ms, less_margin(override_ms), DEADLINE_FROM_CLIENT);
    if (silence == 0 && total == 0 && override_ms == 0 && is_node(request))
        lower(&d, heard_ms, less_margin(NODE_GIVES_UP_MS), DEADLINE_FROM_RUNTIME);
    return d;
}

bool deadline_is_silence(const struct deadline *d)
{
    return d->source == DEADLINE_FROM_SILENCE || d->source == DEADLINE_FROM_RUNTIME;
}
