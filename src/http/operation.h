/* What kind of work a request asks an upstream for.
 *
 * Providers limit and lose these apart: a 429 of a token count or of a list of models says nothing of
 * generation, and the other way round. So the kind is part of a target (targets/turns.h). */
#ifndef RETRYD_HTTP_OPERATION_H
#define RETRYD_HTTP_OPERATION_H

#include <stdbool.h>

#include "http/dialect.h"

enum operation {
    OPERATION_GENERATE, /* chat, completions, responses, messages, and what else writes an answer */
    OPERATION_EMBED,    /* embeddings, moderations, rankings */
    OPERATION_COUNT,    /* tokens are counted, and nothing is generated */
    OPERATION_READ,     /* GET and HEAD: models, files, stored answers */
    OPERATION_OTHER,    /* all else: images, audio, uploads, batches, deletions */
    OPERATION_KINDS,
};

/* By the method and the last segments of the path (http_request_path), whatever base it is under; `d` is that
 * path's. */
enum operation operation_of(struct str method, struct str path, enum dialect d);

/* It costs nothing: no limit on the rate of requests is meant for it, and what it meets says nothing of
 * a key that others use. */
static inline bool operation_is_free(enum operation o)
{
    return o == OPERATION_COUNT || o == OPERATION_READ;
}

const char *operation_word(enum operation o);

#endif
