/* Which API's streams a request asks for, as its path tells. */
#ifndef RETRYD_HTTP_DIALECT_H
#define RETRYD_HTTP_DIALECT_H

#include <stdbool.h>

#include "base/str.h"

enum dialect {
    DIALECT_CHAT,        /* OpenAI chat completions, Azure's deployments included */
    DIALECT_COMPLETIONS, /* the older completions */
    DIALECT_RESPONSES,   /* OpenAI Responses: a new one, or one that is read again */
    DIALECT_MESSAGES,    /* Anthropic messages, of Vertex AI too */
    DIALECT_GEMINI,      /* Google's generateContent and the other methods of a model */
    DIALECT_OTHER,       /* none of these: whatever stream it may be, only SSE is known of it */
};

/* All paths here are without their query (http_request_path); closing slashes are cut off. By the end of the
 * path, whatever base it is under. */
enum dialect dialect_of(struct str path);

/* The model's name as it stands in the path of such a method, percent-encoded: of
 * .../models/gemini-2.5-flash:streamGenerateContent what is before the colon; and of Azure's
 * .../openai/deployments/gpt-4o/chat/completions the deployment. Empty where the path names none, or no model that another could stand in for (an endpoint, a tuned model). */
struct str dialect_path_model(struct str path);

/* Whether the path itself asks for a stream, by its method. */
bool dialect_path_streams(struct str path);

/* Whether an error event and an orderly end behind it tell every client that its answer failed (C12).
 * Elsewhere only a connection that breaks does. */
bool dialect_ends_by_event(enum dialect d);

/* Whether a POST to that path asks for what only JSON or an event stream can be: a completion, a
 * response, a message, embeddings, moderations. `d` is that path's. */
bool dialect_generates(enum dialect d, struct str path);

#endif
