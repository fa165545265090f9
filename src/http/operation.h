/* The kind of work that a request asks an upstream for.
 *
 * Providers limit and lose these kinds separately: a 429 for a token count or a list of models says
 * nothing about generation, and vice versa. The kind is therefore part of a target
 * (targets/turns.h). */
#ifndef RETRYD_HTTP_OPERATION_H
#define RETRYD_HTTP_OPERATION_H

#include <stdbool.h>

#include "http/dialect.h"

enum operation {
    OPERATION_GENERATE, /* chat, completions, responses, messages and everything that generates */
    OPERATION_EMBED,    /* embeddings, moderations, rankings */
    OPERATION_COUNT,    /* counts tokens and generates nothing */
    OPERATION_READ,     /* GET and HEAD: models, files, stored responses */
    OPERATION_OTHER,    /* the rest: images, audio, uploads, batches, deletions */
    OPERATION_KINDS,
};

/* Returns the kind of a request from its method and the last segments of its path
 * (http_request_path); the base in front of them does not matter. `d` is the dialect of that
 * path. */
enum operation operation_of(struct str method, struct str path, enum dialect d);

/* Whether the operation costs nothing. Request rate limits are not meant for it, and its failures
 * say nothing about a key that other operations use. */
static inline bool operation_is_free(enum operation o)
{
    return o == OPERATION_COUNT || o == OPERATION_READ;
}

/* Returns the word for metrics and the log. */
const char *operation_word(enum operation o);

#endif
