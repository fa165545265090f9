/* Finds keys in one walk over an object, and undoes and makes the escapes of strings. */
#include "http/json_scan.h"

#include <stdio.h>

static void note(struct json_want *wants, size_t n, struct str raw_key, struct json_value value)
{
    for (size_t i = 0; i < n; i++)
        if (json_key_is(raw_key, wants[i].key))
            wants[i].value = value;
}

bool json_scan(struct str text, struct json_want *wants, size_t n)
{
    struct json_iter i = json_iter(text);
    struct json_value value;
    struct str key;

    for (size_t w = 0; w < n; w++)
        wants[w].value = (struct json_value){.type = JSON_NONE};
    while (json_next_member(&i, &key, &value))
        note(wants, n, key, value);
    return i.whole;
}

struct json_value json_scan_one(struct str text, struct str key)
{
    struct json_want want = {.key = key};

    (void)json_scan(text, &want, 1);
    return want.value;
}

/* --- escapes ---------------------------------------------------------------------------------- */

#define REPLACEMENT 0xfffdu

unsigned json_hex4(struct str s)
{
    unsigned value = 0;

    if (s.n < 4)
        return 0x10000;
    for (size_t i = 0; i < 4; i++) {
        char c = s.p[i];
        unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                         : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A') + 10
                                                : 16;
        if (digit == 16)
            return 0x10000;
        value = value * 16 + digit;
    }
    return value;
}

static struct str after(struct str s, size_t n)
{
    return (struct str){s.p + n, s.n - n};
}

/* The character behind "\u"; a lone half of a surrogate pair becomes U+FFFD. */
static unsigned take_unicode(struct str *s)
{
    unsigned high = json_hex4(*s);

    if (high > 0xffff)
        return REPLACEMENT;
    *s = after(*s, 4);
    if (high < 0xd800 || high > 0xdfff)
        return high;
    if (high > 0xdbff || !str_starts(*s, STR("\\u")))
        return REPLACEMENT;
    unsigned low = json_hex4(after(*s, 2));
    if (low < 0xdc00 || low > 0xdfff)
        return REPLACEMENT;
    *s = after(*s, 6);
    return 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
}

size_t json_put_utf8(unsigned c, char out[4])
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xc0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xe0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3f));
        out[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3f));
    out[2] = (char)(0x80 | (c >> 6 & 0x3f));
    out[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

/* Takes what stands behind a backslash. */
static unsigned take_escape(struct str *s)
{
    if (s->n == 0)
        return REPLACEMENT;

    char c = s->p[0];
    *s = after(*s, 1);
    switch (c) {
    case 'u':
        return take_unicode(s);
    case '"':
    case '\\':
    case '/':
        return (unsigned char)c;
    case 'b':
    case 'f':
    case 'n':
    case 'r':
    case 't':
        return ' ';
    default:
        return REPLACEMENT;
    }
}

/* Takes one character, escaped or plain, into `out`; returns its length there. Control characters
 * (U+0000 to U+001F, U+007F to U+009F) become a space, bytes that are no UTF-8 the replacement
 * character. */
static size_t take_char(struct str *s, char out[4])
{
    if (s->p[0] == '\\') {
        *s = after(*s, 1);
        unsigned c = take_escape(s);
        return json_put_utf8(c < 0x20 || (c >= 0x7f && c <= 0x9f) ? ' ' : c, out);
    }

    size_t n = str_utf8(*s);
    const unsigned char *p = (const unsigned char *)s->p;
    if (n == 0) {
        *s = after(*s, 1);
        return json_put_utf8(REPLACEMENT, out);
    }
    bool control =
        (n == 1 && (p[0] < 0x20 || p[0] == 0x7f)) || (n == 2 && p[0] == 0xc2 && p[1] < 0xa0);
    *s = after(*s, n);
    if (control)
        return json_put_utf8(' ', out);
    memcpy(out, p, n);
    return n;
}

size_t json_unescape(struct str raw, char *out, size_t size)
{
    size_t len = 0;

    if (size == 0)
        return 0;
    while (raw.n > 0) {
        char one[4];
        size_t n = take_char(&raw, one);
        if (len + n >= size)
            break;
        memcpy(out + len, one, n);
        len += n;
    }
    out[len] = '\0';
    return len;
}
