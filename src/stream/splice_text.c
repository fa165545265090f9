/* Text as it is compared: escapes undone, so that it does not matter how an answer spells it.
 *
 * The form is UTF-8 of UTF-16 units: a character beyond the basic plane is the two halves of its
 * surrogate pair, three bytes each (CESU-8, Unicode TR 26). So a pair whose halves come in two
 * events ("\ud83d", then "\ude00") is the same text as the character in one. Bytes that are no
 * UTF-8 stand for themselves. */
#include "http/json.h"
#include "stream/splice_private.h"

#define UNITS_MAX 6 /* bytes of one character in this form */

/* How many of the first `limit` bytes stand for themselves. */
static size_t plain_run(struct str raw, size_t limit)
{
    size_t n = 0;

    if (limit > raw.n)
        limit = raw.n;
    while (n < limit && raw.p[n] != '\\' && (unsigned char)raw.p[n] < 0xf0)
        n++;
    return n;
}

static void advance(struct str *s, size_t n)
{
    s->p += n;
    s->n -= n;
}

/* What a backslash and `c` mean, `u` left out. What no JSON has means itself. */
static char simple_escape(char c)
{
    switch (c) {
    case 'b':
        return '\b';
    case 'f':
        return '\f';
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    default:
        return c;
    }
}

static size_t take_escape(struct str *raw, char out[UNITS_MAX])
{
    if (raw->n < 2) {
        out[0] = '\\';
        advance(raw, 1);
        return 1;
    }
    if (raw->p[1] == 'u') {
        unsigned unit = json_hex4((struct str){raw->p + 2, raw->n - 2});
        if (unit <= 0xffff) {
            advance(raw, 6);
            return json_put_utf8(unit, out);
        }
    }
    out[0] = simple_escape(raw->p[1]);
    advance(raw, 2);
    return 1;
}

/* A character of four bytes as the halves of its pair; else one byte as it is. */
static size_t take_wide(struct str *raw, char out[UNITS_MAX])
{
    const unsigned char *p = (const unsigned char *)raw->p;

    if (str_utf8(*raw) != 4) {
        out[0] = raw->p[0];
        advance(raw, 1);
        return 1;
    }
    unsigned c = (p[0] & 7u) << 18 | (p[1] & 63u) << 12 | (p[2] & 63u) << 6 | (p[3] & 63u);
    c -= 0x10000;
    advance(raw, 4);
    size_t n = json_put_utf8(0xd800 + (c >> 10), out);
    return n + json_put_utf8(0xdc00 + (c & 0x3ff), out + n);
}

/* Takes one character, of those that do not stand for themselves. */
static size_t take_char(struct str *raw, char out[UNITS_MAX])
{
    return raw->p[0] == '\\' ? take_escape(raw, out) : take_wide(raw, out);
}

void splice_text_add(struct buf *to, struct str raw)
{
    while (raw.n > 0) {
        char units[UNITS_MAX];
        size_t n = plain_run(raw, raw.n);
        if (n > 0) {
            (void)buf_add(to, raw.p, n);
            advance(&raw, n);
            continue;
        }
        n = take_char(&raw, units);
        (void)buf_add(to, units, n);
    }
}

void splice_text_add_unit(struct buf *to, unsigned unit)
{
    char units[4];

    (void)buf_add(to, units, json_put_utf8(unit, units));
}

static unsigned unit_of(const char three[3])
{
    const unsigned char *p = (const unsigned char *)three;

    return (p[0] & 15u) << 12 | (p[1] & 63u) << 6 | (p[2] & 63u);
}

bool splice_text_match(struct str have, size_t *at, struct str *raw, unsigned *ret_half)
{
    *ret_half = 0;
    while (raw->n > 0 && *at < have.n) {
        char units[UNITS_MAX];
        size_t left = have.n - *at, n = plain_run(*raw, left);
        const char *p = raw->p;
        if (n > 0) {
            advance(raw, n);
        } else {
            n = take_char(raw, units);
            p = units;
            if (n > left) {
                if (n != UNITS_MAX || left != UNITS_MAX / 2)
                    return false;
                n = left;
                *ret_half = unit_of(units + n);
            }
        }
        if (memcmp(have.p + *at, p, n) != 0)
            return false;
        *at += n;
    }
    return true;
}
