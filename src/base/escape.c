/* Escapes the characters that a JSON string cannot hold, and those that a reader would not see. */
#include "base/escape.h"

#include <stdbool.h>
#include <stdio.h>

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
