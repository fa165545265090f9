/* Shared by splice_dialects.c, which takes an event apart, and splice.c, which judges it.
 *
 * A part is something that the client has; it is remembered. A piece is something that the event in
 * hand holds; it belongs to a part. */
#ifndef RETRYD_STREAM_SPLICE_PRIVATE_H
#define RETRYD_STREAM_SPLICE_PRIVATE_H

#include "http/json.h"
#include "stream/splice.h"

#define SPLICE_PARTS_MAX 1024
#define SPLICE_ANY UINT32_MAX /* an index that is not given */

enum splice_kind {
    SPLICE_TEXT,  /* text that grows from event to event: a channel */
    SPLICE_ONCE,  /* a scalar that a client collects once: a role, the id of a tool call */
    SPLICE_NAME,  /* a scalar that stays the same in all events: ids, the model */
    SPLICE_TYPE,  /* a scalar that must be the same in every response: the type of an item */
    SPLICE_MARK,  /* something that happens a number of times */
    SPLICE_CLOSE, /* the end of the channels in its scope; its value is the reason, if it has one */
    /* Only pieces have these kinds. */
    SPLICE_WHOLE,    /* repeats a channel's text in one piece */
    SPLICE_LOGPROBS, /* belongs to the text of its choice */
};

/* A part's name. The indices are, in chat, the choice, the tool call and the object that holds the
 * string; in Responses, the item, its content part and a hash of any other index and its name; in
 * messages, the content block. The scope of a SPLICE_CLOSE leaves out the indices that it spans. */
struct splice_key {
    enum splice_kind kind;
    uint32_t at[3];
    struct str name;
};

struct splice_part {
    struct splice_key key; /* its name is stored behind the struct */
    struct buf text;       /* a channel's text without escapes; any other value is raw, and a string
                            * has its quotes: one response may send a number and another a string */
    size_t matched;        /* length of the channel's text that the current attempt has repeated */
    /* Number of times that the client received it; for a channel, whether it received any. */
    unsigned delivered;
    unsigned seen;   /* number of times that the current attempt brought this SPLICE_MARK */
    unsigned born;   /* the attempt that brought it first */
    unsigned summed; /* the new response that repeated the whole channel at once; 0: none */
    bool partial;    /* a channel's text is incomplete because there was no room */
    char name[];
};

struct splice_piece {
    enum splice_kind kind;
    struct splice_part *part; /* NULL for SPLICE_LOGPROBS */
    /* The same field as text, if this is a mark, or as a mark, if this is text; or NULL. */
    struct splice_part *rival;
    uint32_t group;          /* the choice or the item it belongs to */
    struct json_value value; /* in the event's data */
    bool sealed;     /* a SPLICE_NAME that is signed with other data and cannot be replaced */
    bool news;       /* the client has not received it, or not all of it */
    bool repeat;     /* the client has received it, or some of it */
    struct str rest; /* SPLICE_TEXT: the raw text that is new, */
    unsigned half;   /* and before it the low half of a surrogate pair; 0: none */
};

/* The names that a response has only once. They have fixed slots because each chunk repeats
 * them. */
enum splice_single {
    SINGLE_ID,
    SINGLE_CREATED,
    SINGLE_MODEL,
    SINGLE_FINGERPRINT,
    SINGLE_COUNT,
};

struct splice_slot {
    uint32_t hash;
    struct splice_part *part;
};

struct splice {
    enum dialect dialect;
    size_t cap, used; /* bytes in all texts */
    unsigned attempt; /* 0: the first response */
    bool lost;        /* the record of what the client has is incomplete */

    struct splice_slot *parts;
    size_t n_parts, parts_size;
    struct splice_part *last; /* the channel found last */
    struct splice_part *single[SINGLE_COUNT];
    unsigned bare_delivered, bare_seen; /* events without any piece that matters */
    bool has_rivals; /* a field that may be text had another type at least once */

    uint64_t sequence; /* the last number that was forwarded */
    bool has_sequence;

    /* The event in hand. */
    struct splice_piece *pieces;
    size_t n_pieces, pieces_size;
    struct json_value sequence_value;
    struct splice_edit *edits;
    size_t n_edits, edits_size;
    bool strange; /* it has a type, an index or an escape that cannot match what the client has */
    bool says_nothing; /* a client loses nothing without it */
    bool failed;       /* there was no memory for it */
};

/* Returns all of a value, including the quotes of a string. */
static inline struct str splice_form(struct json_value value)
{
    if (value.type != JSON_STRING)
        return value.text;
    return (struct str){value.text.p - 1, value.text.n + 2};
}

/* --- splice_dialects.c ------------------------------------------------------------------------ */

/* Takes the event in hand apart. Sets its pieces, sequence_value, strange, says_nothing and
 * failed. */
void splice_look(struct splice *s, struct str data);

/* --- splice.c --------------------------------------------------------------------------------- */

/* splice_find returns NULL if there is no such part; splice_part makes one, and sets `failed` if it
 * cannot. */
struct splice_part *splice_find(struct splice *s, struct splice_key key);
struct splice_part *splice_part(struct splice *s, struct splice_key key);

/* Makes room in an array for one more element. If there is no memory, it sets `failed` and returns
 * false. */
bool splice_grow(struct splice *s, void **array, size_t *size, size_t n, size_t element);

/* Compares the raw text with `have` from `*at` on, as far as both go, and returns false if they
 * differ. The text beyond `have` remains in `*raw`. If that text begins with the second half of a
 * character, `*ret_half` is that half, and `*raw` begins after it. */
bool splice_text_match(struct str have, size_t *at, struct str *raw, unsigned *ret_half);

#endif
