/* A state machine for JSON that runs over plain text in strings sixteen bytes at a time.
 *
 *     value  = string / number / word / "[" values "]" / "{" members "}"
 *     number = ["-"] ("0" / digit19 *digit) ["." 1*digit] [("e" / "E") ["+" / "-"] 1*digit]
 *     string = DQUOTE *(byte from 0x20 on but DQUOTE and "\" / escape) DQUOTE
 *
 * Each state's function takes all it can of the piece, so that a string, a number or a run of white
 * space costs one step, however long it is; a key takes the colon behind it along, and a comma the
 * key, where they are there. Watches and the sum cost nothing if nobody wants them.
 *
 * json.c reads texts that are in memory as a whole: one file would be longer than 800 lines. */
#include "http/json_stream.h"

#include "base/bytes16.h"

/* What may come next. */
enum state {
    START, /* the text, perhaps with a byte order mark */
    BOM_2,
    BOM_3,
    VALUE,       /* from here to AFTER_VALUE white space may stand in front */
    FIRST_VALUE, /* a value or "]" */
    FIRST_KEY,   /* a key or "}" */
    KEY,
    COLON,
    AFTER_VALUE, /* "," or the closing bracket; white space alone at the top */
    STRING,
    ESCAPE,
    HEX,
    WORD,
    MINUS,
    ZERO, /* the numbers' states: what came last */
    INTEGER,
    POINT,
    FRACTION,
    EXPONENT,
    EXPONENT_SIGN,
    EXPONENT_DIGITS,
    BAD,
};

void json_stream_init(struct json_stream *s)
{
    s->word = NULL;
    s->depth = 0;
    s->state = START;
    s->hex_left = 0;
    s->in_key = s->taken = false;
    s->token = NULL;
    s->before = 0;
    s->watch_count = 0;
    s->found = NULL;
    s->sum = NULL;
}

/* Keeps code for tokens out of the path of texts whose tokens nobody takes: events and answers. */
#define SELDOM __attribute__((noinline))

/* --- runs of bytes ---------------------------------------------------------------------------- */

/* The first byte that is no plain text of a string: a quote, a backslash, a control character. */
static const char *skip_text(const char *p, const char *end)
{
    for (size_t left = (size_t)(end - p) / 16; left > 0; left--, p += 16) {
        bytes16 b = bytes16_load(p);
        unsigned hits = bytes16_bits((bytes16)(b < bytes16_all(' ')) | bytes16_are(b, '"') |
                                     bytes16_are(b, '\\'));

        if (hits)
            return p + __builtin_ctz(hits);
    }
    while (p < end && (unsigned char)*p >= 0x20 && *p != '"' && *p != '\\')
        p++;
    return p;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static const char *skip_space(const char *p, const char *end)
{
    while (p < end && is_space(*p))
        p++;
    return p;
}

/* --- nests ------------------------------------------------------------------------------------ */

static bool in_object(const struct json_stream *s)
{
    unsigned top = s->depth - 1;

    return s->nest[top / 64] >> top % 64 & 1;
}

/* --- the sum ---------------------------------------------------------------------------------- */

/* What a fingerprint was made of, so that no kind passes for another. */
enum kind { KIND_MEMBER, KIND_ELEMENT, KIND_STRING, KIND_SCALAR, KIND_ARRAY, KIND_OBJECT };

static uint64_t join(enum kind kind, uint64_t a, uint64_t b)
{
    const uint64_t words[] = {(uint64_t)kind, a, b};

    return fingerprint_of((struct str){(const char *)words, sizeof(words)});
}

/* Adds a complete value to what holds it. A sum has no order, and, unlike exclusive-or, equal members do
 * not cancel each other out in it. */
static void sum_value(struct json_stream *s, uint64_t id)
{
    struct json_sum_nest *in = &s->sum->nests[s->depth];

    if (s->depth > 0 && in_object(s))
        in->sum += join(KIND_MEMBER, in->key, id);
    else
        in->sum = join(KIND_ELEMENT, in->sum, id);
}

SELDOM static void sum_open(struct json_stream *s)
{
    if (s->depth <= JSON_SUM_DEPTH)
        s->sum->nests[s->depth] = (struct json_sum_nest){0};
    else
        s->sum = NULL;
}

SELDOM static void sum_close(struct json_stream *s, enum kind kind, unsigned depth)
{
    sum_value(s, join(kind, s->sum->nests[depth].sum, 0));
}

void json_stream_sum(struct json_stream *s, struct json_sum *sum)
{
    s->taken = true;
    s->sum = sum;
    sum->nests[0] = (struct json_sum_nest){0};
    sum->begun = false;
}

bool json_stream_fingerprint(const struct json_stream *s, uint64_t *ret)
{
    if (!s->sum || s->depth > 0 || s->state != AFTER_VALUE)
        return false;
    *ret = s->sum->nests[0].sum;
    return true;
}

/* --- watched keys ----------------------------------------------------------------------------- */

void json_stream_watch(struct json_stream *s, struct json_watch *watches, size_t n)
{
    s->taken = true;
    s->watches = watches;
    s->watch_count = n;
    for (size_t i = 0; i < n; i++)
        watches[i].type = JSON_NONE;
}

struct str json_watch_text(const struct json_watch *w)
{
    size_t kept = w->length < sizeof(w->text) ? (size_t)w->length : sizeof(w->text);

    return (struct str){w->text, w->type == JSON_NONE ? 0 : kept};
}

/* --- tokens ----------------------------------------------------------------------------------- */

static enum json_type type_at(char c)
{
    switch (c) {
    case '"':
        return JSON_STRING;
    case '{':
        return JSON_OBJECT;
    case '[':
        return JSON_ARRAY;
    case 't':
        return JSON_TRUE;
    case 'f':
        return JSON_FALSE;
    case 'n':
        return JSON_NULL;
    default:
        return JSON_NUMBER;
    }
}

/* At a value's first byte. */
SELDOM static void begin_value(struct json_stream *s, const char *p)
{
    struct json_watch *w = s->depth == 1 ? s->found : NULL;
    bool nest = *p == '{' || *p == '[';

    s->type = type_at(*p);
    s->in_key = false;
    p += *p == '"';
    s->token = nest ? NULL : p;
    if (!w)
        return;
    w->type = nest ? s->type : JSON_NONE;
    w->at = s->before + (uint64_t)(p - s->piece);
    w->length = 0;
}

/* At a key's opening quote. */
SELDOM static void begin_key(struct json_stream *s, const char *p)
{
    s->token = p + 1;
    s->found = NULL;
    s->key_length = 0;
}

/* Takes the current token up to `to`, where it ends (`last`) or the piece does. */
SELDOM static void take_token(struct json_stream *s, const char *to, bool last)
{
    struct str text = {s->token, (size_t)(to - s->token)};

    if (s->depth == 1 && s->watch_count > 0) {
        struct json_watch *w = s->found;
        if (s->in_key) {
            struct json_watch *end = s->watches + s->watch_count;
            s->key_length = str_keep(text, s->key, sizeof(s->key), s->key_length);
            for (struct json_watch *watch = s->watches;
                 watch < end && last && s->key_length <= sizeof(s->key); watch++)
                if (json_key_is((struct str){s->key, (size_t)s->key_length}, watch->key))
                    s->found = watch;
        } else if (w) {
            w->length = str_keep(text, w->text, sizeof(w->text), w->length);
            if (last)
                w->type = s->type;
        }
    }
    if (s->sum) {
        struct json_sum *sum = s->sum;
        uint64_t id;
        if (!last && !sum->begun)
            fingerprint_begin(&sum->token);
        if (!last || sum->begun)
            fingerprint_feed(&sum->token, text);
        if (last) {
            id = sum->begun ? fingerprint_end(&sum->token) : fingerprint_of(text);
            if (s->in_key)
                sum->nests[s->depth].key = id;
            else
                sum_value(s, join(s->type == JSON_STRING ? KIND_STRING : KIND_SCALAR, id, 0));
        }
        sum->begun = !last;
    }
    if (last)
        s->token = NULL;
}

/* --- the states ------------------------------------------------------------------------------- */

static const char *lost(struct json_stream *s, const char *p)
{
    s->state = BAD;
    return p;
}

static const char *open_nest(struct json_stream *s, bool object, const char *p)
{
    uint64_t bit = UINT64_C(1) << s->depth % 64;
    uint64_t *nest = &s->nest[s->depth / 64];

    if (s->depth == JSON_STREAM_DEPTH)
        return lost(s, p);
    *nest = object ? *nest | bit : *nest & ~bit;
    s->depth++;
    if (s->sum)
        sum_open(s);
    s->state = object ? FIRST_KEY : FIRST_VALUE;
    return p + 1;
}

static const char *close_nest(struct json_stream *s, const char *p)
{
    s->depth--;
    if (s->sum)
        sum_close(s, *p == '}' ? KIND_OBJECT : KIND_ARRAY, s->depth + 1);
    s->state = AFTER_VALUE;
    return p + 1;
}

static const char *take_string(struct json_stream *s, const char *p, const char *end)
{
    p = skip_text(p, end);
    if (p == end)
        return p;
    if (*p == '\\') {
        s->state = ESCAPE;
        return p + 1;
    }
    if (*p != '"')
        return lost(s, p);
    if (s->token)
        take_token(s, p, true);
    p++;
    s->state = s->in_key ? COLON : AFTER_VALUE;
    if (s->in_key && p < end && *p == ':') {
        s->state = VALUE;
        p++;
    }
    return p;
}

/* At the opening quote. Goes on to the closing one at once: most strings are short and whole. */
static const char *start_string(struct json_stream *s, bool key, const char *p, const char *end)
{
    s->in_key = key;
    s->state = STRING;
    if (key && s->taken)
        begin_key(s, p);
    return take_string(s, p + 1, end);
}

static const char *take_word(struct json_stream *s, const char *p, const char *end)
{
    while (p < end && *s->word && *p == *s->word) {
        p++;
        s->word++;
    }
    if (!*s->word) {
        s->state = AFTER_VALUE;
        if (s->token)
            take_token(s, p, true);
    } else if (p < end) {
        return lost(s, p);
    }
    return p;
}

/* At a word's first byte; `rest` must follow. */
static const char *start_word(struct json_stream *s, const char *rest, const char *p,
                              const char *end)
{
    s->word = rest;
    s->state = WORD;
    return take_word(s, p + 1, end);
}

/* Where a number stands after `b`; AFTER_VALUE when it ended before it. */
static enum state step_number(enum state state, char b)
{
    bool digit = is_digit(b), e = (b | 0x20) == 'e';

    switch (state) {
    case MINUS:
        return b == '0' ? ZERO : digit ? INTEGER : BAD;
    case ZERO:
    case INTEGER:
        if (digit)
            return state == ZERO ? BAD : INTEGER;
        return b == '.' ? POINT : e ? EXPONENT : AFTER_VALUE;
    case POINT:
        return digit ? FRACTION : BAD;
    case FRACTION:
        return digit ? FRACTION : e ? EXPONENT : AFTER_VALUE;
    case EXPONENT:
        return b == '+' || b == '-' ? EXPONENT_SIGN : digit ? EXPONENT_DIGITS : BAD;
    case EXPONENT_SIGN:
        return digit ? EXPONENT_DIGITS : BAD;
    default:
        return digit ? EXPONENT_DIGITS : AFTER_VALUE;
    }
}

static const char *take_number(struct json_stream *s, const char *p, const char *end)
{
    enum state state = (enum state)s->state;

    if (state == MINUS && *p == 'I')
        return start_word(s, "nfinity", p, end);
    for (; p < end; p++) {
        if (is_digit(*p) && (state == FRACTION || state == INTEGER))
            continue;
        state = step_number(state, *p);
        if (state == AFTER_VALUE || state == BAD)
            break;
    }
    s->state = (unsigned char)state;
    if (state == AFTER_VALUE && s->token)
        take_token(s, p, true);
    return p;
}

static const char *start_number(struct json_stream *s, enum state state, const char *p,
                                const char *end)
{
    s->state = (unsigned char)state;
    return take_number(s, p + 1, end);
}

/* At a value's first byte. */
static const char *take_value(struct json_stream *s, const char *p, const char *end)
{
    if (s->taken)
        begin_value(s, p);
    switch (*p) {
    case '"':
        return start_string(s, false, p, end);
    case '{':
        return open_nest(s, true, p);
    case '[':
        return open_nest(s, false, p);
    case 't':
        return start_word(s, "rue", p, end);
    case 'f':
        return start_word(s, "alse", p, end);
    case 'n':
        return start_word(s, "ull", p, end);
    case 'N':
        return start_word(s, "aN", p, end);
    case 'I':
        return start_word(s, "nfinity", p, end);
    case '-':
        s->state = MINUS;
        return p + 1;
    case '0':
        return start_number(s, ZERO, p, end);
    default:
        return is_digit(*p) ? start_number(s, INTEGER, p, end) : lost(s, p);
    }
}

/* Between values: white space, and one byte of structure. */
static const char *take_between(struct json_stream *s, const char *p, const char *end)
{
    switch ((enum state)s->state) {
    case FIRST_KEY:
    case KEY:
        if (*p == '"')
            return start_string(s, true, p, end);
        if (*p == '}' && s->state == FIRST_KEY)
            return close_nest(s, p);
        return lost(s, p);
    case COLON:
        s->state = *p == ':' ? VALUE : BAD;
        return p + 1;
    case FIRST_VALUE:
        return *p == ']' ? close_nest(s, p) : take_value(s, p, end);
    case AFTER_VALUE: {
        /* The byte at `p` is no white space and follows a value. */
        if (s->depth == 0)
            return lost(s, p);

        bool object = in_object(s);
        if (*p == ',') {
            s->state = object ? KEY : VALUE;
            p++;
            return object && p < end && *p == '"' ? start_string(s, true, p, end) : p;
        }
        return *p == (object ? '}' : ']') ? close_nest(s, p) : lost(s, p);
    }
    default:
        return take_value(s, p, end);
    }
}

static const char *take_escape(struct json_stream *s, const char *p)
{
    if (*p == 'u') {
        s->hex_left = 4;
        s->state = HEX;
    } else {
        s->state = *p && strchr("\"\\/bfnrt", *p) ? STRING : BAD;
    }
    return p + 1;
}

static const char *take(struct json_stream *s, const char *p, const char *end)
{
    switch ((enum state)s->state) {
    case STRING:
        return take_string(s, p, end);
    case ESCAPE:
        return take_escape(s, p);
    case HEX:
        if (!is_digit(*p) && !((*p | 0x20) >= 'a' && (*p | 0x20) <= 'f'))
            return lost(s, p);
        if (--s->hex_left == 0)
            s->state = STRING;
        return p + 1;
    case WORD:
        return take_word(s, p, end);
    case START:
    case BOM_2:
    case BOM_3:
        /* A mark's later bytes, or what comes first in the text. */
        if (s->state == START) {
            s->state = *p == '\xef' ? BOM_2 : VALUE;
            return *p == '\xef' ? p + 1 : p;
        }
        if (*p != (s->state == BOM_2 ? '\xbb' : '\xbf'))
            return lost(s, p);
        s->state = s->state == BOM_2 ? BOM_3 : VALUE;
        return p + 1;
    case VALUE:
    case FIRST_VALUE:
    case FIRST_KEY:
    case KEY:
    case COLON:
    case AFTER_VALUE:
        do {
            p = skip_space(p, end);
            if (p < end)
                p = take_between(s, p, end);
        } while (p < end && s->state >= VALUE && s->state <= AFTER_VALUE);
        return p;
    default:
        return take_number(s, p, end);
    }
}

void json_stream_feed(struct json_stream *s, struct str piece)
{
    const char *p = piece.p, *end;

    if (piece.n == 0) /* p may be NULL */
        return;
    end = p + piece.n;
    s->piece = p;
    if (s->token)
        s->token = p;
    while (p < end && s->state != BAD)
        p = take(s, p, end);
    if (s->token && s->state != BAD)
        take_token(s, end, false);
    if (s->taken)
        s->before += piece.n;
}

enum json_stream_end json_stream_end(const struct json_stream *s)
{
    if (s->depth > 0)
        return JSON_STREAM_INVALID;
    switch ((enum state)s->state) {
    case START:
    case VALUE: /* at the top only before the one value */
        return JSON_STREAM_EMPTY;
    case AFTER_VALUE:
    case ZERO:
    case INTEGER:
    case FRACTION:
    case EXPONENT_DIGITS:
        return JSON_STREAM_VALID;
    default:
        return JSON_STREAM_INVALID;
    }
}

bool json_stream_is_lost(const struct json_stream *s)
{
    return s->state == BAD;
}
