/* Recognizes an empty completion, which is worth another request (C3).
 *
 * A completion is empty if its `choices` is null or has no element, if each choice's message has
 * neither text nor anything else (a refusal, reasoning, audio, tool calls), or if its texts are
 * empty. A completed response is empty if its `output` has no item, or only messages without text.
 * A completion is not empty if its finish reason explains it: the length, a filter, a tool call.
 * Anthropic's messages are never empty: by its documentation an empty end_turn means that the model
 * has nothing to add, and a repeat does not change that. */
#ifndef RETRYD_STREAM_COMPLETION_H
#define RETRYD_STREAM_COMPLETION_H

#include <stdbool.h>

#include "http/dialect.h"
#include "http/json.h"

/* Whether a value contains a text that is not empty, at any depth. */
bool completion_says(const struct json_value *v);

/* Whether a completion is empty. `body` is a complete response's text, in valid JSON. */
bool completion_is_empty(enum dialect dialect, struct str body);

/* Whether a finish reason explains that there may be no text. */
bool completion_is_curbed(const struct json_value *finish_reason);

/* Whether an empty response to the request, a JSON object, is legitimate: the request allows no
 * tokens (to warm up a prefix cache), or its response may end at once (`stop`, `suffix`). */
bool completion_may_be_empty(struct str request);

#endif
