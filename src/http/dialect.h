/* Recognizes the API, and so the kind of stream, of a request by its path, and the kind of
 * operation that it asks for. */
#ifndef RETRYD_HTTP_DIALECT_H
#define RETRYD_HTTP_DIALECT_H

#include <stdbool.h>

#include "base/str.h"

enum dialect {
    DIALECT_CHAT,        /* OpenAI chat completions, including Azure's deployments */
    DIALECT_COMPLETIONS, /* OpenAI's older completions */
    DIALECT_RESPONSES,   /* OpenAI Responses, both creating and retrieving one */
    DIALECT_MESSAGES,    /* Anthropic messages, also on Vertex AI */
    DIALECT_GEMINI,      /* Google's generateContent and the other methods of a model */
    DIALECT_OTHER,       /* any other API; its streams are only known to be SSE */
};

/* In all functions `path` has no query (http_request_path), and trailing slashes are ignored. */

/* Returns the API from the end of the path; the base in front of it does not matter. */
enum dialect dialect_of(struct str path);

/* Returns the model that the path names, still percent-encoded: the part before the colon of
 * .../models/gemini-2.5-flash:streamGenerateContent, or the deployment of Azure's
 * .../openai/deployments/gpt-4o/chat/completions. Empty if the path names no model, or one that no
 * other model could replace (an endpoint, a tuned model). */
struct str dialect_path_model(struct str path);

/* Whether the method in the path asks for a stream. */
bool dialect_path_streams(struct str path);

/* Whether an error event followed by an orderly end shows every client that the response failed
 * (C12). In other dialects only a broken connection does. */
bool dialect_ends_by_event(enum dialect d);

/* Whether the response to a POST to that path must be JSON or an event stream: a completion, a
 * response, a message, embeddings, moderations. `d` is the dialect of that path. */
bool dialect_generates(enum dialect d, struct str path);

/* --- operations ------------------------------------------------------------------------------- */

/* The kind of work that a request asks an upstream for.
 *
 * Providers limit and lose these kinds separately: a 429 for a token count or a list of models says
 * nothing about generation, and vice versa. The kind is therefore part of a target
 * (targets/turns.h). */

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
