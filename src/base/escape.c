/* Escapes the characters that a JSON string cannot hold, and those that a reader would not see, and
 * decodes the escapes of other texts. */
#include "base/escape.h"

#include <stdbool.h>
#include <stdio.h>

#define REPLACEMENT 0xfffdu /* U+FFFD */

/* Decodes one valid UTF-8 character of n > 1 bytes. */
static unsigned code_point(const unsigned char *p, size_t n)
{
    unsigned c = p[0] & (0x7fu >> n);

    for (size_t i = 1; i < n; i++)
        c = c << 6 | (p[i] & 0x3f);
    return c;
}

/* Whether a character may be shown as it is. The table lists control characters, Unicode's line
 * separators, and its format characters (general category Cf) except the soft hyphen and the signs
 * that belong to a script. */
static bool is_shown(unsigned c)
{
    static const struct {
        unsigned from, to;
    } unseen[] = {
        {0x00, 0x1f},     {0x7f, 0x9f},     {0x61c, 0x61c},   {0x180e, 0x180e}, {0x200b, 0x200f},
        {0x2028, 0x202e}, {0x2060, 0x206f}, {0xfeff, 0xfeff}, {0xfff9, 0xfffb}, {0xe0000, 0xe007f},
    };

    if (c >= 0x20 && c < 0x7f)
        return true;
    for (size_t i = 0; i < sizeof unseen / sizeof unseen[0]; i++)
        if (c >= unseen[i].from && c <= unseen[i].to)
            return false;
    return true;
}

struct str escape_json(struct str s, char space[ESCAPE_MAX], size_t *ret_used)
{
    const unsigned char *p = (const unsigned char *)s.p;
    size_t n = str_utf8(s);

    *ret_used = n ? n : 1;
    if (n == 0)
        return STR("\xef\xbf\xbd");
    if (p[0] == '"')
        return STR("\\\"");
    if (p[0] == '\\')
        return STR("\\\\");
    if (p[0] == '\n')
        return STR("\\n");
    if (p[0] == '\r')
        return STR("\\r");
    if (p[0] == '\t')
        return STR("\\t");
    unsigned c = n == 1 ? p[0] : code_point(p, n);
    if (is_shown(c))
        return (struct str){s.p, n};
    int len = c < 0x10000 ? snprintf(space, ESCAPE_MAX, "\\u%04x", c)
                          : snprintf(space, ESCAPE_MAX, "\\u%04x\\u%04x", 0xd7c0 + (c >> 10),
                                     0xdc00 + (c & 0x3ff));
    return (struct str){space, (size_t)len};
}

/* --- decoding --------------------------------------------------------------------------------- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int escape_percent(struct str s, size_t at)
{
    int high, low;

    if (at + 2 >= s.n || s.p[at] != '%')
        return -1;
    high = hex_digit(s.p[at + 1]);
    low = hex_digit(s.p[at + 2]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

unsigned escape_hex4(struct str s)
{
    unsigned value = 0;

    if (s.n < 4)
        return 0x10000;
    for (size_t i = 0; i < 4; i++) {
        int digit = hex_digit(s.p[i]);

        if (digit < 0)
            return 0x10000;
        value = value * 16 + (unsigned)digit;
    }
    return value;
}

/* Takes the character after "\u"; a lone half of a surrogate pair becomes U+FFFD. */
static unsigned take_unicode(struct str *s)
{
    unsigned high = escape_hex4(*s);

    if (high > 0xffff)
        return REPLACEMENT;
    *s = str_after(*s, 4);
    if (high < 0xd800 || high > 0xdfff)
        return high;
    if (high > 0xdbff || !str_starts(*s, STR("\\u")))
        return REPLACEMENT;
    unsigned low = escape_hex4(str_after(*s, 2));
    if (low < 0xdc00 || low > 0xdfff)
        return REPLACEMENT;
    *s = str_after(*s, 6);
    return 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
}

/* Takes the rest of an escape, after its backslash. */
static unsigned take_escape(struct str *s)
{
    if (s->n == 0)
        return REPLACEMENT;

    char c = s->p[0];
    *s = str_after(*s, 1);
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
 * (U+0000 to U+001F, U+007F to U+009F) become a space, bytes that are not UTF-8 the replacement
 * character. */
static size_t take_char(struct str *s, char out[4])
{
    if (s->p[0] == '\\') {
        *s = str_after(*s, 1);
        unsigned c = take_escape(s);
        return str_put_utf8(c < 0x20 || (c >= 0x7f && c <= 0x9f) ? ' ' : c, out);
    }

    size_t n = str_utf8(*s);
    const unsigned char *p = (const unsigned char *)s->p;
    if (n == 0) {
        *s = str_after(*s, 1);
        return str_put_utf8(REPLACEMENT, out);
    }
    bool control =
        (n == 1 && (p[0] < 0x20 || p[0] == 0x7f)) || (n == 2 && p[0] == 0xc2 && p[1] < 0xa0);
    *s = str_after(*s, n);
    if (control)
        return str_put_utf8(' ', out);
    memcpy(out, p, n);
    return n;
}

size_t escape_undo_json(struct str raw, char *out, size_t size)
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
