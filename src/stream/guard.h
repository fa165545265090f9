/* Knows what the events of a stream mean: whether they are part of an answer yet, whether the answer
 * has said that it is whole, whether it says that it failed.
 *
 * It looks at whole events as policy/sse frames them, one after the other, and never changes one.
 * Sources: the API reference's streaming events (chat, completions, Responses), Anthropic's
 * streaming page (messages), and what other servers were seen to send: OpenRouter's numeric codes,
 * vLLM's {"object":"error"}, llama.cpp's `error:` field. */
#ifndef RETRYD_STREAM_GUARD_H
#define RETRYD_STREAM_GUARD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "http/dialect.h"
#include "http/json.h"
#include "policy/apierror.h"

enum guard_kind {
    GUARD_FILLER,    /* comments and blank lines: a sign of life */
    GUARD_LIFECYCLE, /* announces an answer (role chunk, response.created), or is not known: no part
                      * of one yet */
    GUARD_CONTENT,   /* part of the answer: a delta, a finished item, a finish_reason */
    GUARD_END,       /* the marker that says the answer is whole */
    GUARD_ERROR,     /* says that the answer failed */
    GUARD_UNFIT,     /* has no data: the SDKs of the streams known here raise parse errors on it */
    GUARD_MALFORMED, /* not JSON where JSON is due */
    GUARD_UNREAD,    /* there was no memory to look at it */
    /* Within the guard only; both are told as GUARD_LIFECYCLE. */
    GUARD_IDLE,    /* a ping with data */
    GUARD_STRANGE, /* of a type that nobody knows */
};

/* The response that the client reads, as response.created told of it. What was too long is empty. */
struct guard_response {
    char id[128];
    char model[128]; /* raw: its escapes as they came */
    uint64_t created_at;
};

struct guard {
    enum dialect dialect;
    bool usage_wanted;       /* the request asked for a usage chunk */
    unsigned choices_wanted; /* ... and for so many choices */
    bool content;            /* a part of the answer has come */
    bool said;               /* ... that is more than its end */
    bool curbed;             /* a finish reason says why there may be nothing more */
    bool silent;             /* Responses: it is complete and says nothing */
    bool marker;             /* [DONE], response.completed and the like */
    bool failed;             /* a GUARD_ERROR has come */
    bool usage;              /* a usage chunk */
    bool closes;             /* ... which is the last one so far, and has no choices */
    bool stopped;            /* messages: a stop_reason */
    bool closely;            /* set by the caller: each event is to be looked at for its news */
    unsigned ends;           /* events that are known as ends in streams of another kind */
    uint64_t strange;        /* what events of unknown types amount to */
    bool id_seen;            /* an `id:` field: from then on SDKs stumble over comments, too */
    uint64_t choices;        /* bits of the choices that have begun ... */
    uint64_t finished;       /* ... of those that gave a finish_reason ... */
    uint64_t went_on;        /* ... and of those that gave one that ends nothing */
    uint64_t reason, hollow; /* the last such word, and one that came with each chunk: hashes */
    uint64_t sequence;       /* Responses: the sequence number that comes next */
    struct buf response_id;  /* Responses: as response.created gave it, terminated; empty before */
    struct guard_response response;
    struct buf joined; /* the data of an event with several data lines */
};

/* Of one event. */
struct guard_seen {
    enum guard_kind kind;
    struct str data; /* its data lines, joined; valid until the event or the guard changes */
    bool repeated;   /* Responses: its sequence number is not behind the last one */
    bool news;       /* content, an end, or a change of state: no ping. Of chunks behind the first
                      * content only where the guard looks closely */
    /* GUARD_ERROR only: */
    struct apierror error;
    bool raised;    /* every SDK raises it as it stands; else it needs to be told once more */
    bool is_answer; /* it holds more than the error (response.failed, choices), and passes, too */
};

/* Sets it up for the answer to a request that asked for so many choices (at least 1), and for a usage
 * chunk or not; allocates nothing. */
void guard_init(struct guard *g, enum dialect dialect, unsigned choices_wanted, bool usage_wanted);
void guard_deinit(struct guard *g);
/* Another answer to the same request begins. */
void guard_reset(struct guard *g);

/* Looks at the next event, its closing blank line included. */
void guard_look(struct guard *g, struct str event, struct guard_seen *ret);

/* Whether the answer has said that it is at its end: a mark, a reason for each choice, a stop_reason.
 * Only usage and marks can follow. */
bool guard_finished(const struct guard *g);

/* Whether the usage that was asked for is still to come. */
bool guard_lacks_usage(const struct guard *g);

/* Whether the answer is whole as far as it came (C12). `broke`: the connection did not end in good
 * order. In a stream whose marks are not known here only that order tells, but for the few events that
 * are known as ends. */
bool guard_whole(const struct guard *g, bool broke);

/* Whether a finish_reason, or what another API calls its like, says that something has finished: a
 * string that names a reason. "" stands for null with several servers, "null" and "None" with those
 * that print theirs. */
bool guard_names_reason(const struct json_value *v);

/* Whether what has come of the answer ends and says nothing: neither a text nor anything in its place,
 * and no finish reason that explains it (stream/completion.h). Such an end is held back like an
 * announcement. */
bool guard_silent(const struct guard *g);

/* Whether nothing of an answer has come, though some may have been announced, or an end. */
bool guard_empty(const struct guard *g);

#endif
