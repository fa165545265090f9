/* Walks over texts in memory, and a state machine for texts in pieces that runs over plain text in
 * strings sixteen bytes at a time.
 *
 *     value  = string / number / word / "[" values "]" / "{" members "}"
 *     number = ["-"] ("0" / digit19 *digit) ["." 1*digit] [("e" / "E") ["+" / "-"] 1*digit]
 *     string = DQUOTE *(byte from 0x20 on but DQUOTE and "\" / escape) DQUOTE */
#include "http/json.h"

#include "base/bytes16.h"
#include "base/escape.h"

/* --- runs of bytes ---------------------------------------------------------------------------- */

/* Returns the first byte that is not plain text of a string: a quote, a backslash, a control
 * character. */
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

/* --- the parts of a walk ---------------------------------------------------------------------- */

/* Moves from after an opening quote to after the closing one. A quote is escaped if an odd number
 * of backslashes precedes it; they are counted back no further than the previous quote, so each
 * byte is read at most twice. */
static bool skip_string(struct json_iter *c)
{
    const char *start = c->p;

    while (c->p < c->end) {
        const char *quote = memchr(c->p, '"', (size_t)(c->end - c->p));
        if (!quote)
            break;
        const char *back = quote;
        while (back > start && back[-1] == '\\')
            back--;
        c->p = quote + 1;
        if ((quote - back) % 2 == 0)
            return true;
        start = c->p;
    }
    c->p = c->end;
    return false;
}

/* Moves from an opening bracket to after the one that closes it. Depth is a count, not recursion,
 * and the kinds of brackets are not matched. */
static bool skip_nested(struct json_iter *c)
{
    size_t depth = 0;

    while (c->p < c->end) {
        switch (*c->p++) {
        case '"':
            if (!skip_string(c))
                return false;
            break;
        case '{':
        case '[':
            depth++;
            break;
        case '}':
        case ']':
            if (--depth == 0)
                return true;
            break;
        default:
            break;
        }
    }
    return false;
}

static bool ends_word(char c)
{
    return c == ',' || c == '}' || c == ']' || is_space(c);
}

/* Skips a number or one of the three words: all bytes up to one that may follow a value. */
static enum json_type skip_word(struct json_iter *c)
{
    const char *start = c->p;

    while (c->p < c->end && !ends_word(*c->p))
        c->p++;
    struct str word = {start, (size_t)(c->p - start)};
    if (word.n == 0)
        return JSON_NONE;
    if (word.p[0] == '-' || (word.p[0] >= '0' && word.p[0] <= '9'))
        return JSON_NUMBER;
    if (str_eq(word, STR("null")))
        return JSON_NULL;
    if (str_eq(word, STR("true")))
        return JSON_TRUE;
    return str_eq(word, STR("false")) ? JSON_FALSE : JSON_NONE;
}

/* Takes the value at the cursor. Returns false if there is none or it does not end. */
static bool cut_value(struct json_iter *c, struct json_value *ret_value)
{
    if (c->p == c->end)
        return false;

    const char *start = c->p;
    enum json_type type;
    if (*start == '"') {
        c->p++;
        if (!skip_string(c))
            return false;
        *ret_value = (struct json_value){JSON_STRING, {start + 1, (size_t)(c->p - start) - 2}};
        return true;
    }
    if (*start == '{' || *start == '[') {
        if (!skip_nested(c))
            return false;
        type = *start == '{' ? JSON_OBJECT : JSON_ARRAY;
    } else {
        type = skip_word(c);
        if (type == JSON_NONE)
            return false;
    }
    *ret_value = (struct json_value){type, {start, (size_t)(c->p - start)}};
    return true;
}

/* --- walking ---------------------------------------------------------------------------------- */

struct json_iter json_iter(struct str text)
{
    struct json_iter i = {.p = text.p, .end = text.n ? text.p + text.n : text.p, .first = true};

    i.p = skip_space(i.p, i.end);
    if (i.p < i.end && (*i.p == '{' || *i.p == '['))
        i.close = *i.p++ == '{' ? '}' : ']';
    return i;
}

static bool stop(struct json_iter *i)
{
    i->close = '\0';
    return false;
}

/* Moves to the first byte of the next member or element. Returns false at the closing bracket, or
 * if there is neither that nor a comma. */
static bool to_next(struct json_iter *i)
{
    i->p = skip_space(i->p, i->end);
    if (i->p == i->end)
        return stop(i);
    if (*i->p == i->close) {
        i->p++;
        i->whole = true;
        return stop(i);
    }
    if (!i->first) {
        if (*i->p++ != ',')
            return stop(i);
        i->p = skip_space(i->p, i->end);
    }
    i->first = false;
    return true;
}

bool json_next_member(struct json_iter *i, struct str *ret_key, struct json_value *ret_value)
{
    struct json_value key;

    if (i->close != '}' || !to_next(i))
        return false;
    if (i->p == i->end || *i->p != '"' || !cut_value(i, &key))
        return stop(i);
    i->p = skip_space(i->p, i->end);
    if (i->p == i->end || *i->p++ != ':')
        return stop(i);
    i->p = skip_space(i->p, i->end);
    if (!cut_value(i, ret_value))
        return stop(i);
    *ret_key = key.text;
    return true;
}

bool json_next_element(struct json_iter *i, struct json_value *ret_value)
{
    if (i->close != ']' || !to_next(i))
        return false;
    return cut_value(i, ret_value) || stop(i);
}

/* --- values by key ---------------------------------------------------------------------------- */

bool json_key_is_escaped(struct str raw_key, struct str key)
{
    char plain[128];

    if (raw_key.n <= key.n || raw_key.n > 6 * key.n || key.n >= sizeof plain ||
        !memchr(raw_key.p, '\\', raw_key.n))
        return false;
    size_t n = escape_undo_json(raw_key, plain, sizeof plain);
    return str_eq((struct str){plain, n}, key);
}

bool json_scan(struct str text, struct json_want *wants, size_t n)
{
    struct json_iter i = json_iter(text);
    struct json_value value;
    struct str key;

    for (size_t w = 0; w < n; w++)
        wants[w].value = (struct json_value){.type = JSON_NONE};
    while (json_next_member(&i, &key, &value))
        for (size_t w = 0; w < n; w++)
            if (json_key_is(key, wants[w].key))
                wants[w].value = value;
    return i.whole;
}

struct json_value json_scan_one(struct str text, struct str key)
{
    struct json_want want = {.key = key};

    (void)json_scan(text, &want, 1);
    return want.value;
}

/* --- single values ---------------------------------------------------------------------------- */

bool json_to_u64(struct json_value value, uint64_t *ret_number)
{
    return value.type == JSON_NUMBER && str_to_u64(value.text, ret_number);
}

/* --- a text in pieces ------------------------------------------------------------------------- */

/* Each state's function takes as much of the piece as it can, so that a string, a number or a run
 * of white space costs one step, however long it is; a key includes the colon after it, and a comma
 * the key, if the piece contains them. Watches and the sum cost nothing if they are not needed. */

/* The state: what may come next. */
enum state {
    START, /* the text, perhaps with a byte order mark */
    BOM_2,
    BOM_3,
    VALUE,       /* from here to AFTER_VALUE white space may come first */
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
    ZERO, /* the states of a number: what came last */
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

/* Keeps the code for tokens out of the path of texts whose tokens are not needed: events and
 * responses. */
#define SELDOM __attribute__((noinline))

/* --- nests ------------------------------------------------------------------------------------ */

static bool in_object(const struct json_stream *s)
{
    unsigned top = s->depth - 1;

    return s->nest[top / 64] >> top % 64 & 1;
}

/* --- the sum ---------------------------------------------------------------------------------- */

/* The kind of a fingerprint's source, so that no kind equals another. */
enum kind { KIND_MEMBER, KIND_ELEMENT, KIND_STRING, KIND_SCALAR, KIND_ARRAY, KIND_OBJECT };

static uint64_t join(enum kind kind, uint64_t a, uint64_t b)
{
    const uint64_t words[] = {(uint64_t)kind, a, b};

    return fingerprint_of((struct str){(const char *)words, sizeof(words)});
}

/* Adds a complete value to its container. A sum has no order, and, unlike exclusive-or, equal
 * members do not cancel each other out in it. */
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

/* Returns the state of a number after `b`; AFTER_VALUE if the number ended before it. */
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

/* Takes white space between values, and one byte of structure. */
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
        /* The rest of a mark, or the beginning of the text. */
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

bool json_valid(struct str text)
{
    struct json_stream s;

    if (text.n == 0 || text.p[0] == '\xef') /* which only a mark begins with */
        return false;
    json_stream_init(&s);
    json_stream_feed(&s, text);
    return json_stream_end(&s) == JSON_STREAM_VALID && str_is_utf8(text);
}
