/* Finds and removes the credentials of a request; keeps the hashes of tokens, and compares a text's
 * hash with all of them. */
#include "http/credentials.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

/* --- the places in a request ------------------------------------------------------------------ */

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
    return str_trim(str_after(value, scheme.n));
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
    explicit_bzero(to, was - target->len); /* the NUL after it stays */
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

/* --- the tokens ------------------------------------------------------------------------------- */

struct token {
    uint64_t hashes[2];
    char name[TOKENS_NAME_MAX];
};

struct tokens {
    atomic_uint refs;
    struct tokens_seed seed;
    unsigned count, size;
    struct token *items;
};

struct tokens *tokens_new(const struct tokens_seed *seed)
{
    struct tokens *t = calloc(1, sizeof(*t));

    if (!t)
        return NULL;
    atomic_init(&t->refs, 1);
    t->seed = *seed;
    return t;
}

struct tokens *tokens_ref(struct tokens *t)
{
    atomic_fetch_add(&t->refs, 1);
    return t;
}

void tokens_unref(struct tokens *t)
{
    if (!t || atomic_fetch_sub(&t->refs, 1) > 1)
        return;
    free(t->items);
    free(t);
}

const char *tokens_text_fault(struct str text)
{
    if (!str_is_visible(text))
        return "is not a token; expected printable ASCII without spaces";
    if (text.n < TOKENS_TEXT_MIN)
        return "is shorter than 16 characters and can be guessed; expected a random one, as "
               "openssl rand -hex 32 writes";
    return text.n > TOKENS_TEXT_MAX ? "is longer than 4 KiB" : NULL;
}

static bool is_name_character(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
}

const char *tokens_name_fault(struct str name)
{
    for (size_t i = 0; i < name.n; i++)
        if (!is_name_character(name.p[i]))
            return "expected only letters, digits, dots, underscores and hyphens in a token's name";
    return name.n < TOKENS_NAME_MAX ? NULL : "expected at most 63 characters in a token's name";
}

static void hash(const struct tokens *t, struct str text, uint64_t ret[2])
{
    ret[0] = hash_keyed(&t->seed.words[0], text);
    ret[1] = hash_keyed(&t->seed.words[2], text);
}

static int grow(struct tokens *t)
{
    unsigned size = t->size ? t->size * 2 : 4;
    struct token *items;

    if (t->count < t->size)
        return 0;
    items = realloc(t->items, size * sizeof(*items));
    if (!items)
        return -ENOMEM;
    t->items = items;
    t->size = size;
    return 0;
}

int tokens_add(struct tokens *t, struct str name, struct str text)
{
    struct token *token;
    int rc;

    assert(!tokens_text_fault(text) && !tokens_name_fault(name));
    if (tokens_find(t, text) >= 0)
        return -EEXIST;
    if (t->count == TOKENS_MAX)
        return -E2BIG;
    rc = grow(t);
    if (rc < 0)
        return rc;
    token = &t->items[t->count++];
    memset(token, 0, sizeof(*token));
    hash(t, text, token->hashes);
    if (name.n > 0)
        memcpy(token->name, name.p, name.n);
    return 0;
}

/* Has no branch that depends on the hashes. */
int tokens_find(const struct tokens *t, struct str text)
{
    uint64_t sought[2];
    unsigned found = 0;

    hash(t, text, sought);
    for (unsigned i = 0; i < t->count; i++) {
        const uint64_t *hashes = t->items[i].hashes;
        uint64_t differ = (hashes[0] ^ sought[0]) | (hashes[1] ^ sought[1]);
        unsigned same = (unsigned)(((differ | (0 - differ)) >> 63) ^ 1);

        found |= (0 - same) & (i + 1);
    }
    return (int)found - 1;
}

unsigned tokens_count(const struct tokens *t)
{
    return t->count;
}

const char *tokens_name(const struct tokens *t, unsigned i)
{
    assert(i < t->count);
    return t->items[i].name[0] ? t->items[i].name : "unnamed";
}

uint64_t tokens_client(const struct tokens *t, unsigned i)
{
    const struct token *token = &t->items[i];

    assert(i < t->count);
    return (token->name[0] ? hash_text(str_from(token->name)) : token->hashes[0]) | 1;
}

bool tokens_same(const struct tokens *a, const struct tokens *b)
{
    if (a->count != b->count)
        return false;
    for (unsigned i = 0; i < a->count; i++)
        if (memcmp(&a->items[i], &b->items[i], sizeof(a->items[i])) != 0)
            return false;
    return true;
}
