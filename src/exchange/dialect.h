/* Which API's streams a request asks for, as its path tells. */
#ifndef RETRYD_EXCHANGE_DIALECT_H
#define RETRYD_EXCHANGE_DIALECT_H

#include <stdbool.h>

#include "base/str.h"

enum dialect {
    DIALECT_CHAT,        /* OpenAI chat completions, Azure's deployments included */
    DIALECT_COMPLETIONS, /* the older completions */
    DIALECT_RESPONSES,   /* OpenAI Responses: a new one, or one that is read again */
    DIALECT_MESSAGES,    /* Anthropic messages */
    DIALECT_OTHER,       /* none of these: whatever stream it may be, only SSE is known of it */
};

/* By the end of the path, whatever base it is under; a query and a closing slash are cut off. */
enum dialect dialect_of(struct str path);

/* Whether an error event and an orderly end behind it tell every client that its answer failed (C12).
 * Elsewhere only a connection that breaks does. */
bool dialect_ends_by_event(enum dialect d);

#endif
