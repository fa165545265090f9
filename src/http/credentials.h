/* The places where requests carry credentials of their client: an API key, or a token of retryd's own.
 *
 * Headers: Authorization (OpenAI and most APIs, also as "Bearer KEY"), x-api-key (Anthropic),
 * api-key (Azure), x-goog-api-key (Google). Google's APIs also take the query parameters `key` and
 * `access_token`. */
#ifndef RETRYD_HTTP_CREDENTIALS_H
#define RETRYD_HTTP_CREDENTIALS_H

#include <stdbool.h>

#include "http/message.h"

/* Whether a header with that name carries credentials. */
bool credentials_is_field(struct str name);
/* Whether a query parameter ("key=value") carries credentials in Google's APIs. */
bool credentials_is_parameter(struct str parameter);

/* Returns the value of such a field without "Bearer ", if that stands before it. */
struct str credentials_of_field(struct str value);

/* Returns each credential of the request in turn, without "Bearer ", and not decoded. `*at` is 0 at
 * first. Returns false if none is left. */
bool credentials_next(const struct http_request *request, unsigned *at, struct str *ret_text);

/* Removes all of them from the request and overwrites them in its memory. Query parameters are
 * removed only if `in_query`, since other APIs may have a parameter named `key`. */
void credentials_remove(struct http_request *request, bool in_query);

#endif
