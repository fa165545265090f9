/* Sums up objects and chains arrays, over the tokens of a text that others check. */
#include "http/json_fingerprint.h"

#include <string.h>

enum state { BETWEEN, STRING, SCALAR, LOST };

/* What a number was made of; one kind never passes for another. */
enum kind { KIND_MEMBER, KIND_ELEMENT, KIND_STRING, KIND_SCALAR, KIND_ARRAY, KIND_OBJECT };

void json_fingerprint_begin(struct json_fingerprint *f)
{
    f->nests[0] = (struct json_fingerprint_nest){0};
    f->depth = 0;
    f->state = BETWEEN;
    f->escaped = false;
    f->begun = false;
}

static uint64_t join(enum kind kind, uint64_t a, uint64_t b)
{
    const uint64_t words[] = {(uint64_t)kind, a, b};

    return fingerprint_of((struct str){(const char *)words, sizeof(words)});
}

/* A value, or an object's key, is complete. A sum has no order, and unlike what exclusive-or makes of
 * them, members that are the same do not cancel each other out. */
static void take(struct json_fingerprint *f, uint64_t id)
{
    struct json_fingerprint_nest *in = &f->nests[f->depth];

    if (!in->object) {
        in->sum = join(KIND_ELEMENT, in->sum, id);
        return;
    }
    if (in->has_key)
        in->sum += join(KIND_MEMBER, in->key, id);
    else
        in->key = id;
    in->has_key = !in->has_key;
}

static void open_nest(struct json_fingerprint *f, bool object)
{
    if (f->depth == JSON_FINGERPRINT_DEPTH) {
        f->state = LOST;
        return;
    }
    f->nests[++f->depth] = (struct json_fingerprint_nest){.object = object};
}

static void close_nest(struct json_fingerprint *f)
{
    const struct json_fingerprint_nest *nest = &f->nests[f->depth];

    if (f->depth == 0) {
        f->state = LOST;
        return;
    }
    f->depth--;
    take(f, join(nest->object ? KIND_OBJECT : KIND_ARRAY, nest->sum, 0));
}

/* The token ends with this text. */
static void end_token(struct json_fingerprint *f, enum kind kind, struct str text)
{
    uint64_t id;

    if (f->begun) {
        fingerprint_feed(&f->token, text);
        id = fingerprint_end(&f->token);
    } else {
        id = fingerprint_of(text);
    }
    f->begun = false;
    f->state = BETWEEN;
    take(f, join(kind, id, 0));
}

/* The token goes on behind this text. */
static void keep_token(struct json_fingerprint *f, struct str text)
{
    if (!f->begun)
        fingerprint_begin(&f->token);
    f->begun = true;
    fingerprint_feed(&f->token, text);
}

/* Whether an odd number of backslashes stands before `at`, of which those before `from`, at most one,
 * were counted before. */
static bool is_escaped(const struct json_fingerprint *f, const char *from, const char *at)
{
    const char *p = at;

    while (p > from && p[-1] == '\\')
        p--;
    return ((size_t)(at - p) + (p == from && f->escaped)) % 2 == 1;
}

/* Behind the opening quote, or somewhere in the text. */
static const char *take_string(struct json_fingerprint *f, const char *from, const char *end)
{
    const char *quote = memchr(from, '"', (size_t)(end - from));

    while (quote && is_escaped(f, from, quote))
        quote = memchr(quote + 1, '"', (size_t)(end - quote - 1));
    if (quote) {
        f->escaped = false;
        end_token(f, KIND_STRING, (struct str){from, (size_t)(quote - from)});
        return quote + 1;
    }
    f->escaped = is_escaped(f, from, end);
    keep_token(f, (struct str){from, (size_t)(end - from)});
    return end;
}

static bool is_structure(char c)
{
    switch (c) {
    case ' ':
    case '\t':
    case '\n':
    case '\r':
    case ',':
    case ':':
    case '"':
    case '{':
    case '}':
    case '[':
    case ']':
        return true;
    default:
        return false;
    }
}

/* A number, or a word. */
static const char *take_scalar(struct json_fingerprint *f, const char *from, const char *end)
{
    const char *p = from;

    while (p < end && !is_structure(*p))
        p++;
    if (p < end)
        end_token(f, KIND_SCALAR, (struct str){from, (size_t)(p - from)});
    else
        keep_token(f, (struct str){from, (size_t)(p - from)});
    return p;
}

static const char *take_between(struct json_fingerprint *f, const char *p)
{
    switch (*p) {
    case '"':
        f->state = STRING;
        return p + 1;
    case '{':
    case '[':
        open_nest(f, *p == '{');
        return p + 1;
    case '}':
    case ']':
        close_nest(f);
        return p + 1;
    default:
        if (is_structure(*p))
            return p + 1;
        f->state = SCALAR;
        return p;
    }
}

void json_fingerprint_feed(struct json_fingerprint *f, struct str piece)
{
    const char *p = piece.p, *end = piece.p + piece.n;

    while (p < end && f->state != LOST) {
        if (f->state == STRING)
            p = take_string(f, p, end);
        else if (f->state == SCALAR)
            p = take_scalar(f, p, end);
        else
            p = take_between(f, p);
    }
}

bool json_fingerprint_end(const struct json_fingerprint *f, uint64_t *ret)
{
    if (f->depth > 0 || f->state != BETWEEN)
        return false;
    *ret = f->nests[0].sum;
    return true;
}
