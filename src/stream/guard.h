/* Knows the meaning of a stream's events: which have content, whether the response has said that it
 * is complete, and whether it has reported a failure.
 *
 * It looks at whole events as stream/sse.h frames them, one after the other, and never changes one.
 * Sources: the API reference's streaming events (chat, completions, Responses), Anthropic's
 * streaming page (messages), and observed events of other servers: OpenRouter's numeric codes,
 * vLLM's {"object":"error"}, llama.cpp's `error:` field. */
#ifndef RETRYD_STREAM_GUARD_H
#define RETRYD_STREAM_GUARD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"
#include "http/dialect.h"
#include "http/json.h"
#include "policy/apierror.h"

/* --- the search for words --------------------------------------------------------------------- */

/* Searches the data of an event, in one pass, for the words that call for a closer look.
 *
 * Most events have none of them, and this search is cheaper than parsing. Each word ends in a
 * quote. A quote within a JSON string has a backslash before it, so no word is found in a
 * response's text. */

enum {
    GUARD_WORD_ERROR = 1,     /* "error": each form of an error has this key or value */
    GUARD_WORD_FAILED = 2,    /* Responses: a type that ends in .failed */
    GUARD_WORD_BASE_RESP = 4, /* chat, completions: "base_resp" */
    GUARD_WORD_END = 8,       /* other streams: a type that ends in .completed or .done */
};

struct guard_words {
    unsigned found;     /* the words above */
    unsigned reasons;   /* chat, completions: how often "finish_reason" occurs */
    const char *reason; /* the text after the first of them */
};

void guard_words_find(struct str data, enum dialect dialect, struct guard_words *ret);

enum guard_kind {
    GUARD_FILLER,    /* comments and blank lines: a sign of life */
    GUARD_LIFECYCLE, /* announces a response (role chunk, response.created) or is unknown; it has no
                      * content */
    GUARD_CONTENT,   /* content of the response: a delta, a finished item, a finish_reason */
    GUARD_END,       /* the marker that the response is complete */
    GUARD_ERROR,     /* reports that the response failed */
    GUARD_UNFIT,     /* has no data; the SDKs of the known streams raise parse errors on it */
    GUARD_MALFORMED, /* not JSON, although JSON is due */
    GUARD_UNREAD,    /* there was no memory to read it */
    /* Within the guard only; guard_look returns both as GUARD_LIFECYCLE. */
    GUARD_IDLE,    /* a ping with data */
    GUARD_STRANGE, /* has an unknown type */
};

/* The response that the client reads, from response.created. A field that was too long is empty. */
struct guard_response {
    char id[128];
    char model[128]; /* raw, with its escapes */
    uint64_t created_at;
};

struct guard {
    enum dialect dialect;
    bool usage_wanted;       /* the request asked for a usage chunk */
    unsigned choices_wanted; /* the number of choices that the request asked for */
    bool content;            /* a part of the response has arrived */
    bool said;               /* a part other than its end has arrived */
    bool curbed;             /* a finish reason explains why there may be no text */
    bool silent;             /* Responses: it is complete and empty */
    bool marker;             /* [DONE], response.completed and the like have arrived */
    bool failed;             /* a GUARD_ERROR has arrived */
    bool usage;              /* a usage chunk has arrived */
    bool closes;             /* the last chunk so far had usage and no choices */
    bool stopped;            /* messages: a stop_reason has arrived */
    bool closely;            /* set by the caller: look for news in each event */
    unsigned ends;           /* known end events in streams of other APIs */
    uint64_t strange;        /* the weight of all events of unknown types */
    bool id_seen;            /* an `id` field has arrived; since then comments confuse SDKs, too */
    uint64_t choices;        /* bits of the choices that have begun, */
    uint64_t finished;       /* of those that gave a finish_reason, */
    uint64_t went_on;        /* and of those that gave one that ends nothing */
    uint64_t reason, hollow; /* hashes: the last finish_reason, and one that came with each chunk */
    uint64_t sequence;       /* Responses: the next sequence number */
    struct buf response_id;  /* Responses: the id in response.created, terminated; empty before */
    struct guard_response response;
    struct buf joined; /* the data of an event with several data lines */
};

/* The guard's findings on one event. */
struct guard_seen {
    enum guard_kind kind;
    struct str data; /* its data lines, joined; valid until the event or the guard changes */
    bool repeated;   /* Responses: its sequence number is not higher than the last one */
    bool news;       /* content, an end or a change of state, but no ping. After the first content,
                      * chunks have news only if the guard looks closely */
    /* GUARD_ERROR only: */
    struct apierror error;
    bool raised; /* every SDK raises it unchanged; else an error event must follow it */
    /* It contains more than the error (response.failed, choices) and passes, too. */
    bool is_response;
};

/* Sets the guard up for the response to a request with this number of choices (at least 1).
 * Allocates nothing. */
void guard_init(struct guard *g, enum dialect dialect, unsigned choices_wanted, bool usage_wanted);
void guard_deinit(struct guard *g);
/* Another response to the same request begins. */
void guard_reset(struct guard *g);

/* Looks at the next event, including its closing blank line. */
void guard_look(struct guard *g, struct str event, struct guard_seen *ret);

/* Whether the response has said that it is at its end: by an end marker, a finish reason for each
 * choice or a stop_reason. Only usage and end markers can follow. */
bool guard_finished(const struct guard *g);

/* Whether the requested usage is still missing. */
bool guard_lacks_usage(const struct guard *g);

/* Whether the response is complete (C12). `broke`: the connection did not end in good order. In a
 * stream of another API only `broke` decides, except for a few known end events. */
bool guard_whole(const struct guard *g, bool broke);

/* Whether a finish_reason, or its equivalent in another API, names a reason. Several servers send
 * "" for null; others send "null" or "None". */
bool guard_names_reason(const struct json_value *v);

/* Whether the response so far has ended empty: it has neither text nor a substitute, and no finish
 * reason explains that (stream/completion.h). Such an end is held back like an announcement. */
bool guard_silent(const struct guard *g);

/* Whether the response has no content, although it may have been announced or ended. */
bool guard_empty(const struct guard *g);

#endif
