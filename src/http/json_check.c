/* A state machine for JSON that runs over plain text in strings eight bytes at a time.
 *
 *     value  = string / number / word / "[" values "]" / "{" members "}"
 *     number = ["-"] ("0" / digit19 *digit) ["." 1*digit] [("e" / "E") ["+" / "-"] 1*digit]
 *     string = DQUOTE *(byte from 0x20 on but DQUOTE and "\" / escape) DQUOTE
 *
 * Each state's function takes all it can of the piece, so that a string, a number or a run of white
 * space costs one turn, however long it is; a key takes the colon behind it along, and a comma the
 * key, where they are there. */
#include "http/json_check.h"

#include <endian.h>

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

void json_check_init(struct json_check *c)
{
    c->word = NULL;
    c->depth = 0;
    c->state = START;
    c->hex_left = 0;
    c->in_key = false;
    json_keeper_init(&c->keeper);
}

void json_check_watch(struct json_check *c, struct json_watch *watches, size_t n)
{
    json_keeper_watch(&c->keeper, watches, n);
}

/* --- runs of bytes ---------------------------------------------------------------------------- */

#define ONES 0x0101010101010101u
#define HIGHS 0x8080808080808080u

/* A bit in each byte below `n`; exact up to the lowest such byte, which is all that is asked for.
 * Bit Twiddling Hacks, "Determine if a word has a byte less than n". */
static uint64_t bytes_below(uint64_t word, uint64_t n)
{
    return (word - ONES * n) & ~word & HIGHS;
}

static uint64_t load(const char *p)
{
    uint64_t word;

    memcpy(&word, p, sizeof word);
    return le64toh(word); /* the text's first byte is the lowest */
}

/* The first byte that is no plain text of a string: a quote, a backslash, a control character. */
static const char *skip_text(const char *p, const char *end)
{
    while (end - p >= 8) {
        uint64_t word = load(p);
        uint64_t hit = bytes_below(word, 0x20) | bytes_below(word ^ ONES * '"', 1) |
                       bytes_below(word ^ ONES * '\\', 1);
        if (hit)
            return p + __builtin_ctzll(hit) / 8;
        p += 8;
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

/* --- the states ------------------------------------------------------------------------------- */

static const char *lost(struct json_check *c, const char *p)
{
    c->state = BAD;
    return p;
}

static const char *open_nest(struct json_check *c, bool object, const char *p)
{
    uint64_t bit = UINT64_C(1) << c->depth % 64;
    uint64_t *nest = &c->nest[c->depth / 64];

    if (c->depth == JSON_CHECK_DEPTH)
        return lost(c, p);
    *nest = object ? *nest | bit : *nest & ~bit;
    c->depth++;
    c->state = object ? FIRST_KEY : FIRST_VALUE;
    return p + 1;
}

static const char *close_nest(struct json_check *c, const char *p)
{
    c->depth--;
    c->state = AFTER_VALUE;
    return p + 1;
}

static bool in_object(const struct json_check *c)
{
    unsigned top = c->depth - 1;

    return c->nest[top / 64] >> top % 64 & 1;
}

static const char *take_string(struct json_check *c, const char *p, const char *end)
{
    p = skip_text(p, end);
    if (p == end)
        return p;
    if (*p == '\\') {
        c->state = ESCAPE;
        return p + 1;
    }
    if (*p != '"')
        return lost(c, p);
    if (c->keeper.what)
        json_keeper_end(&c->keeper, p);
    p++;
    c->state = c->in_key ? COLON : AFTER_VALUE;
    if (c->in_key && p < end && *p == ':') {
        c->state = VALUE;
        p++;
    }
    return p;
}

/* At the opening quote. Goes on to the closing one at once: most strings are short and whole. */
static const char *start_string(struct json_check *c, bool key, const char *p, const char *end)
{
    c->in_key = key;
    c->state = STRING;
    if (key && c->keeper.count > 0 && c->depth == 1)
        json_keeper_key(&c->keeper, p + 1);
    return take_string(c, p + 1, end);
}

static const char *take_word(struct json_check *c, const char *p, const char *end)
{
    while (p < end && *c->word && *p == *c->word) {
        p++;
        c->word++;
    }
    if (!*c->word) {
        c->state = AFTER_VALUE;
        if (c->keeper.what)
            json_keeper_end(&c->keeper, p);
    } else if (p < end) {
        return lost(c, p);
    }
    return p;
}

/* At a word's first byte; `rest` must follow. */
static const char *start_word(struct json_check *c, const char *rest, const char *p,
                              const char *end)
{
    c->word = rest;
    c->state = WORD;
    return take_word(c, p + 1, end);
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

static const char *take_number(struct json_check *c, const char *p, const char *end)
{
    enum state state = (enum state)c->state;

    if (state == MINUS && *p == 'I')
        return start_word(c, "nfinity", p, end);
    for (; p < end; p++) {
        if (is_digit(*p) && (state == FRACTION || state == INTEGER))
            continue;
        state = step_number(state, *p);
        if (state == AFTER_VALUE || state == BAD)
            break;
    }
    c->state = (unsigned char)state;
    if (state == AFTER_VALUE && c->keeper.what)
        json_keeper_end(&c->keeper, p);
    return p;
}

static const char *start_number(struct json_check *c, enum state state, const char *p,
                                const char *end)
{
    c->state = (unsigned char)state;
    return take_number(c, p + 1, end);
}

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
static const char *take_value(struct json_check *c, const char *p, const char *end)
{
    if (c->keeper.found && c->depth == 1)
        json_keeper_value(&c->keeper, type_at(*p), *p == '"' ? p + 1 : p);
    switch (*p) {
    case '"':
        return start_string(c, false, p, end);
    case '{':
        return open_nest(c, true, p);
    case '[':
        return open_nest(c, false, p);
    case 't':
        return start_word(c, "rue", p, end);
    case 'f':
        return start_word(c, "alse", p, end);
    case 'n':
        return start_word(c, "ull", p, end);
    case 'N':
        return start_word(c, "aN", p, end);
    case 'I':
        return start_word(c, "nfinity", p, end);
    case '-':
        c->state = MINUS;
        return p + 1;
    case '0':
        return start_number(c, ZERO, p, end);
    default:
        return is_digit(*p) ? start_number(c, INTEGER, p, end) : lost(c, p);
    }
}

static const char *take_key(struct json_check *c, const char *p, const char *end)
{
    if (*p == '"')
        return start_string(c, true, p, end);
    if (*p == '}' && c->state == FIRST_KEY)
        return close_nest(c, p);
    return lost(c, p);
}

/* At a byte that is no white space, with a value behind it. */
static const char *take_after(struct json_check *c, const char *p, const char *end)
{
    if (c->depth == 0)
        return lost(c, p);

    bool object = in_object(c);
    if (*p == ',') {
        c->state = object ? KEY : VALUE;
        p++;
        return object && p < end && *p == '"' ? start_string(c, true, p, end) : p;
    }
    return *p == (object ? '}' : ']') ? close_nest(c, p) : lost(c, p);
}

/* Between values: white space, and one byte of structure. */
static const char *take_between(struct json_check *c, const char *p, const char *end)
{
    switch ((enum state)c->state) {
    case FIRST_KEY:
    case KEY:
        return take_key(c, p, end);
    case COLON:
        c->state = *p == ':' ? VALUE : BAD;
        return p + 1;
    case FIRST_VALUE:
        return *p == ']' ? close_nest(c, p) : take_value(c, p, end);
    case AFTER_VALUE:
        return take_after(c, p, end);
    default:
        return take_value(c, p, end);
    }
}

static const char *take_structure(struct json_check *c, const char *p, const char *end)
{
    do {
        p = skip_space(p, end);
        if (p < end)
            p = take_between(c, p, end);
    } while (p < end && c->state >= VALUE && c->state <= AFTER_VALUE);
    return p;
}

static const char *take_escape(struct json_check *c, const char *p)
{
    if (*p == 'u') {
        c->hex_left = 4;
        c->state = HEX;
    } else {
        c->state = *p && strchr("\"\\/bfnrt", *p) ? STRING : BAD;
    }
    return p + 1;
}

static const char *take_hex(struct json_check *c, const char *p)
{
    if (!is_digit(*p) && !((*p | 0x20) >= 'a' && (*p | 0x20) <= 'f'))
        return lost(c, p);
    if (--c->hex_left == 0)
        c->state = STRING;
    return p + 1;
}

/* A mark's later bytes, or what comes first in the text. */
static const char *take_start(struct json_check *c, const char *p)
{
    if (c->state == START) {
        c->state = *p == '\xef' ? BOM_2 : VALUE;
        return *p == '\xef' ? p + 1 : p;
    }
    if (*p != (c->state == BOM_2 ? '\xbb' : '\xbf'))
        return lost(c, p);
    c->state = c->state == BOM_2 ? BOM_3 : VALUE;
    return p + 1;
}

static const char *take(struct json_check *c, const char *p, const char *end)
{
    switch ((enum state)c->state) {
    case STRING:
        return take_string(c, p, end);
    case ESCAPE:
        return take_escape(c, p);
    case HEX:
        return take_hex(c, p);
    case WORD:
        return take_word(c, p, end);
    case START:
    case BOM_2:
    case BOM_3:
        return take_start(c, p);
    case VALUE:
    case FIRST_VALUE:
    case FIRST_KEY:
    case KEY:
    case COLON:
    case AFTER_VALUE:
        return take_structure(c, p, end);
    default:
        return take_number(c, p, end);
    }
}

void json_check_feed(struct json_check *c, struct str piece)
{
    if (piece.n == 0)
        return;

    const char *p = piece.p, *end = piece.p + piece.n;
    json_keeper_piece(&c->keeper, piece);
    while (p < end && c->state != BAD)
        p = take(c, p, end);
    if (c->keeper.what && c->state != BAD)
        json_keeper_suspend(&c->keeper, end);
}

enum json_check_end json_check_end(const struct json_check *c)
{
    if (c->depth > 0)
        return JSON_CHECK_INVALID;
    switch ((enum state)c->state) {
    case START:
    case VALUE: /* at the top only before the one value */
        return JSON_CHECK_EMPTY;
    case AFTER_VALUE:
    case ZERO:
    case INTEGER:
    case FRACTION:
    case EXPONENT_DIGITS:
        return JSON_CHECK_VALID;
    default:
        return JSON_CHECK_INVALID;
    }
}

bool json_check_is_lost(const struct json_check *c)
{
    return c->state == BAD;
}

static bool is_utf8(struct str s)
{
    const char *p = s.p, *end = s.p + s.n;

    while (p < end) {
        if (end - p >= 8 && (load(p) & HIGHS) == 0) {
            p += 8;
            continue;
        }
        size_t n = str_utf8((struct str){p, (size_t)(end - p)});
        if (n == 0)
            return false;
        p += n;
    }
    return true;
}

bool json_valid(struct str text)
{
    struct json_check c;

    if (text.n == 0)
        return false;
    json_check_init(&c);
    c.state = VALUE; /* no mark */
    json_check_feed(&c, text);
    return json_check_end(&c) == JSON_CHECK_VALID && is_utf8(text);
}
