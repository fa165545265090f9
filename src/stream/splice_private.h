/* What the files of splice share: parts, which are remembered, and pieces, which an event holds.
 *
 * Each dialect puts an event into pieces (splice_chat.c, _dialects.c, _messages.c). splice.c judges
 * them against the parts, has the event rewritten (splice_edit.c) and remembers what went out. */
#ifndef RETRYD_STREAM_SPLICE_PRIVATE_H
#define RETRYD_STREAM_SPLICE_PRIVATE_H

#include "http/json.h"
#include "stream/splice.h"

#define SPLICE_PARTS_MAX 1024
#define SPLICE_ANY UINT32_MAX /* an index that is not given */

enum splice_kind {
    SPLICE_TEXT,  /* text that grows from event to event: a channel */
    SPLICE_ONCE,  /* what a client collects once: a role, the id of a tool call. Any scalar */
    SPLICE_NAME,  /* what stays the same in all events: ids, the model. Any scalar */
    SPLICE_TYPE,  /* what must be the same in every answer: the type of an item */
    SPLICE_MARK,  /* something that happens a number of times */
    SPLICE_CLOSE, /* the end of the channels in its scope; its value is the reason, if it has one */
    /* Pieces only. */
    SPLICE_WHOLE,    /* a channel's text once more, in one */
    SPLICE_LOGPROBS, /* they go with the text of their choice */
};

/* A part's name. `at`: chat: the choice, the tool call, which of several objects; Responses: the
 * item, its content part, any other index with its name; messages: the content block. The scope of a SPLICE_CLOSE leaves out what it spans. */
struct splice_key {
    enum splice_kind kind;
    uint32_t at[3];
    struct str name;
};

struct splice_part {
    struct splice_key key; /* its name lies behind the struct */
    struct buf text;       /* a channel: what the client has, as splice_text.c writes it; else raw,
                         * of a string with its quotes: what one answer has as a number another may
                         * have as a string */
    size_t matched;        /* a channel: how much of it the running attempt has repeated */
    unsigned delivered;    /* how often the client got it; of a channel: whether it got any */
    unsigned seen;         /* SPLICE_MARK: how often the running attempt brought it */
    unsigned born;         /* the attempt that brought it first */
    unsigned summed;       /* a channel: the new answer that has told all of it in one; 0: none */
    bool partial;          /* a channel: `text` lacks what there was no room for */
    char name[];
};

struct splice_piece {
    enum splice_kind kind;
    struct splice_part *part; /* NULL for SPLICE_LOGPROBS */
    struct splice_part
        *rival;     /* the same field as text, of a mark, or the other way round; or NULL */
    uint32_t group; /* the choice or the item it belongs to */
    struct json_value value; /* in the event's data */
    bool sealed;             /* SPLICE_NAME: signed along with other data, so never another one */
    bool news;               /* the client has not got it, or not all of it */
    bool repeat;             /* the client has it, or some of it */
    struct str rest;         /* SPLICE_TEXT: the raw text that is new, */
    unsigned half;           /* and before it the low half of a surrogate pair; 0: none */
};

/* The names there is one of: looked up by number, as each chunk has them. */
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

struct splice_edit {
    const char *p; /* this span of the data */
    size_t n;
    struct str with; /* becomes this, */
    char own[24];    /* or, with own_n > 0, that */
    unsigned char own_n;
};

struct splice {
    enum dialect dialect;
    size_t cap, used; /* bytes in all texts */
    unsigned attempt; /* 0: the first answer */
    bool lost;        /* what the client has is no longer known in full */

    struct splice_slot *parts;
    size_t n_parts, parts_size;
    struct splice_part *last; /* the channel found last */
    struct splice_part *single[SINGLE_COUNT];
    unsigned bare_delivered, bare_seen; /* events without any piece that matters */
    bool has_rivals; /* a field that may be text was something else at least once */

    uint64_t sequence; /* the last one that went out */
    bool has_sequence;

    /* The event in hand. */
    struct splice_piece *pieces;
    size_t n_pieces, pieces_size;
    struct json_value sequence_value;
    struct splice_edit *edits;
    size_t n_edits, edits_size;
    bool strange;      /* it has something in a type that cannot be what the client has */
    bool says_nothing; /* a client loses nothing without it */
    bool failed;       /* no memory for it */
};

/* --- splice_parts.c: the table ---------------------------------------------------------------- */

/* NULL where there is none; splice_part makes one, and sets `failed` where it cannot. */
struct splice_part *splice_find(struct splice *s, struct splice_key key);
struct splice_part *splice_part(struct splice *s, struct splice_key key);
void splice_parts_free(struct splice *s);

/* As json_next_member. A name that is spelled with an escape is strange: to its reader it is the name that
 * another answer spells plainly, and the names of channels are compared as they stand. */
bool splice_member(struct splice *s, struct json_iter *i, struct str *ret_key,
                   struct json_value *ret_value);

/* What names a channel, a value of the event in hand, as it stands; strange where it has an escape. */
struct str splice_word(struct splice *s, struct json_value value);

/* Puts a piece into the event in hand and returns it, for what else is to be set; NULL, with
 * `failed` set, where it cannot. The key's kind is the piece's, except that for SPLICE_WHOLE it
 * is that of the channel, and nothing is put where there is no such channel. */
struct splice_piece *splice_put(struct splice *s, struct splice_key key, struct json_value value);

/* Whether a name that says nothing says so in another type than the one that the client knows it in:
 * then it takes the known form. */
bool splice_is_otherwise(const struct splice *s, const struct splice_part *part,
                         struct json_value value);

/* A name there is one of, whatever its value. */
void splice_put_single(struct splice *s, enum splice_single which, struct json_value value);
void splice_put_whole(struct splice *s, struct splice_key channel, struct json_value value);

/* A field whose strings are the channel `key`, in whatever type it has here: text, or a list or an
 * object, which some APIs send instead and which happens a number of times. */
void splice_put_field(struct splice *s, struct splice_key key, struct json_value value);

/* An index as it stands, or `otherwise` where there is none. One that is no whole number is strange. */
uint32_t splice_index(struct splice *s, struct json_value value, uint32_t otherwise);
void splice_put_logprobs(struct splice *s, uint32_t group, struct json_value value);

/* Makes room in an array for one element more; false, with `failed` set, where it cannot. */
bool splice_grow(struct splice *s, void **array, size_t *size, size_t n, size_t element);

/* Remembers a value or more of a channel's text (first `half`, then the raw `text`). False where
 * there is no room: a value is then not remembered at all, a channel is `partial`. */
bool splice_keep_value(struct splice *s, struct splice_part *part, struct json_value value);
bool splice_keep_text(struct splice *s, struct splice_part *part, unsigned half, struct str text);

/* --- splice_text.c: text with its escapes undone ---------------------------------------------- */

/* Adds `raw` to `to`, which is checked for failure afterwards. */
void splice_text_add(struct buf *to, struct str raw);
void splice_text_add_unit(struct buf *to, unsigned unit);

/* Compares the raw text with `have` from `*at` on, as far as both go; false where they differ. What
 * lies beyond `have` remains in `*raw`; where that begins with the second half of a character,
 * that half is `*ret_half`, and `*raw` begins behind it. */
bool splice_text_match(struct str have, size_t *at, struct str *raw, unsigned *ret_half);

/* --- splice_chat.c, _dialects.c, _messages.c: an event in pieces ------------------------------ */

void splice_look_chat(struct splice *s, struct str data);
void splice_look_responses(struct splice *s, struct str data);
void splice_look_messages(struct splice *s, struct str data);

static inline bool splice_is_text(struct json_value value)
{
    return value.type == JSON_STRING && value.text.n > 0;
}

/* A scalar that says something: null, "" and 0 stand for what is not known. */
static inline bool splice_is_said(struct json_value value)
{
    return splice_is_text(value) || value.type == JSON_TRUE || value.type == JSON_FALSE ||
           (value.type == JSON_NUMBER && !str_eq(value.text, STR("0")));
}

/* All of a value, the quotes of a string too. */
static inline struct str splice_form(struct json_value value)
{
    if (value.type != JSON_STRING)
        return value.text;
    return (struct str){value.text.p - 1, value.text.n + 2};
}

/* --- splice_edit.c: the event as the client is to get it -------------------------------------- */

/* What has to change in the event in hand, its pieces judged; false where there is no memory. */
bool splice_edits(struct splice *s);

/* The event with its edits. False where `out` has no room. */
bool splice_write(struct splice *s, struct str event, struct str data, struct buf *out);

#endif
