/* Knows a completion that is whole and says nothing: worth asking for once more (C3).
 *
 * Empty are: `choices` without any, or null; choices whose message has neither text nor anything else (a refusal,
 * reasoning, audio, tool calls); completions with empty texts; a completed response whose `output` has
 * no item, or messages without text only. Not empty is what its finish reason explains: the length, a
 * filter, a tool's call. Anthropic's messages are none of it: its documentation has an empty end_turn
 * as the model's word that all is said, which a repeat does not change. */
#ifndef RETRYD_STREAM_COMPLETION_H
#define RETRYD_STREAM_COMPLETION_H

#include <stdbool.h>

#include "http/dialect.h"
#include "http/json.h"

/* Whether a value holds a text that is not empty, at any depth. */
bool completion_says(const struct json_value *v);

/* Of a whole answer's text, which is valid JSON. */
bool completion_is_empty(enum dialect dialect, struct str body);

/* Whether a finish reason says why there may be no text. */
bool completion_is_curbed(const struct json_value *finish_reason);

/* Whether the request, a JSON object, can be answered by nothing: it allows no tokens (to warm up a
 * prefix cache), or asks for what may already be there (`stop`, `suffix`). */
bool completion_may_be_empty(struct str request);

#endif
