/* Finds and removes the credentials of a request. */
#include "http/credentials.h"

#include <string.h>

static const struct str fields[] = {
    STR("authorization"),
    STR("x-api-key"),
    STR("api-key"),
    STR("x-goog-api-key"),
};

static const struct str parameters[] = {STR("key"), STR("access_token")};

#define PARAMETERS (sizeof(parameters) / sizeof(parameters[0]))

bool credentials_is_field(struct str name)
{
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
        if (str_ieq(name, fields[i]))
            return true;
    return false;
}

bool credentials_is_parameter(struct str parameter)
{
    struct str value;

    for (size_t i = 0; i < PARAMETERS; i++)
        if (http_query_value(parameter, parameters[i], &value))
            return true;
    return false;
}

struct str credentials_of_field(struct str value)
{
    static const struct str scheme = STR("bearer ");

    if (!str_istarts(value, scheme))
        return value;
    return str_trim((struct str){value.p + scheme.n, value.n - scheme.n});
}

bool credentials_next(const struct http_request *request, unsigned *at, struct str *ret_text)
{
    const struct headers *h = &request->headers;

    for (; *at < h->count; ++*at) {
        if (!credentials_is_field(headers_name(h, *at)))
            continue;
        *ret_text = credentials_of_field(headers_value(h, (*at)++));
        return true;
    }
    while (*at < h->count + PARAMETERS) {
        struct str name = parameters[(*at)++ - h->count];

        if (http_query_value(http_request_query(request), name, ret_text))
            return true;
    }
    return false;
}

/* Moves the parameters that stay to the front, and overwrites the rest. */
static void remove_parameters(struct buf *target, size_t query_at)
{
    struct str query = {target->p + query_at, target->len - query_at}, parameter;
    char *to = target->p + query_at;
    size_t was = target->len;

    while (str_next(&query, '&', &parameter)) {
        if (credentials_is_parameter(parameter))
            continue;
        if (to > target->p + query_at)
            *to++ = '&';
        memmove(to, parameter.p, parameter.n);
        to += parameter.n;
    }
    if (to == target->p + query_at) /* no question mark without a query */
        to--;
    target->len = (size_t)(to - target->p);
    explicit_bzero(to, was - target->len); /* the NUL behind it stays */
}

void credentials_remove(struct http_request *request, bool in_query)
{
    struct headers *h = &request->headers;
    struct str query = http_request_query(request);

    for (unsigned i = h->count; i-- > 0;)
        if (credentials_is_field(headers_name(h, i)))
            headers_erase(h, i);
    if (in_query && query.n > 0)
        remove_parameters(&request->target, request->target.len - query.n);
}
