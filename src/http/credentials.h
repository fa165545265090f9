/* Credentials of clients: their places in a request, and retryd's own tokens that admit a client
 * (C29). */
#ifndef RETRYD_HTTP_CREDENTIALS_H
#define RETRYD_HTTP_CREDENTIALS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"
#include "http/message.h"

/* --- the places in a request ------------------------------------------------------------------ */

/* Credentials are an API key, or one of retryd's own tokens.
 *
 * Headers: Authorization (OpenAI and most APIs, also as "Bearer KEY"), x-api-key (Anthropic),
 * api-key (Azure), x-goog-api-key (Google). Google's APIs also take the query parameters `key` and
 * `access_token`. */

/* Whether a header with that name carries credentials. */
bool credentials_is_field(struct str name);
/* Whether a query parameter ("key=value") carries credentials in Google's APIs. */
bool credentials_is_parameter(struct str parameter);

/* Returns the value of such a header without a leading "Bearer ". */
struct str credentials_of_field(struct str value);

/* Returns each credential of the request in turn, without "Bearer ", and not decoded. `*at` is 0 at
 * first. Returns false if none is left. */
bool credentials_next(const struct http_request *request, unsigned *at, struct str *ret_text);

/* Removes all of them from the request and overwrites them in its memory. Query parameters are
 * removed only if `in_query`, since other APIs may have a parameter named `key`. */
void credentials_remove(struct http_request *request, bool in_query);

/* --- the tokens ------------------------------------------------------------------------------- */

/* The tokens that clients must send: a set that finds the token that a text is.
 *
 * The texts are not kept, only hashes of them: two SipHash-2-4 with keys that are secret to the
 * process. Nobody can choose a text for its hash, so the time of a comparison reveals nothing about
 * a token, and each text is compared with all of them. */

#define TOKENS_MAX 1000
#define TOKENS_TEXT_MIN 16 /* bytes of a token: a shorter one can be guessed */
#define TOKENS_TEXT_MAX 4096
#define TOKENS_NAME_MAX 64 /* bytes of a name with its NUL */

struct tokens; /* shared by configurations, and counted */

struct tokens_seed {
    uint64_t words[4]; /* random, and secret */
};

/* Returns an empty set with one reference; NULL if out of memory. */
struct tokens *tokens_new(const struct tokens_seed *seed);
struct tokens *tokens_ref(struct tokens *t);
void tokens_unref(struct tokens *t); /* thread-safe; NULL is fine */

/* Return the fault of a token or its name, or NULL. An empty name is valid. */
const char *tokens_text_fault(struct str text);
const char *tokens_name_fault(struct str name);

/* Adds a token without fault, before the set is shared. Several may have one name. Returns 0,
 * -EEXIST if the set has it already, -E2BIG beyond TOKENS_MAX, or -ENOMEM. */
int tokens_add(struct tokens *t, struct str name, struct str text);

/* Returns the number of the token that `text` is, or -1. */
int tokens_find(const struct tokens *t, struct str text);

unsigned tokens_count(const struct tokens *t);
const char *tokens_name(const struct tokens *t, unsigned i); /* "unnamed" if it has none */
/* Returns a number that stands for the token's client. It is not 0, and tells nothing about the
 * text. */
uint64_t tokens_client(const struct tokens *t, unsigned i);
/* Whether both have the same tokens with the same names, in the same order. Both must have the same
 * seed. */
bool tokens_same(const struct tokens *a, const struct tokens *b);

#endif
