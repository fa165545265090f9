/* Searches the data of an event, in one pass, for the words that call for a closer look.
 *
 * Most events have none of them, and this search is cheaper than parsing. Each word ends in a
 * quote. A quote within a JSON string has a backslash before it, so no word is found in an answer's
 * text. */
#ifndef RETRYD_STREAM_GUARD_WORDS_H
#define RETRYD_STREAM_GUARD_WORDS_H

#include "base/str.h"
#include "http/dialect.h"

enum {
    GUARD_WORD_ERROR = 1,     /* "error": each form of an error has this key or value */
    GUARD_WORD_FAILED = 2,    /* Responses: a type that ends in .failed */
    GUARD_WORD_BASE_RESP = 4, /* chat, completions: "base_resp" */
    GUARD_WORD_END = 8,       /* other streams: a type that ends in .completed or .done */
};

struct guard_words {
    unsigned found;     /* the words above */
    unsigned reasons;   /* chat, completions: how often "finish_reason" occurs */
    const char *reason; /* what follows the first of them */
};

void guard_words_find(struct str data, enum dialect dialect, struct guard_words *ret);

#endif
