/* Compares, cuts and parses slices of text. */
#include "base/str.h"

#include <stdlib.h>

#include "base/bytes16.h"

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

bool str_same_folded(const char *a, const char *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (a[i] != b[i] && lower(a[i]) != lower(b[i]))
            return false;
    return true;
}

/* Returns the first position before `end` at which the pair starts, or NULL. Its second byte may be
 * at `end`. */
static const char *find_pair(const char *p, const char *end, char first, char second)
{
    for (; end - p >= 16; p += 16) {
        unsigned hits = bytes16_bits(bytes16_are(bytes16_load(p), first) &
                                     bytes16_are(bytes16_load(p + 1), second));

        if (hits)
            return p + __builtin_ctz(hits);
    }
    for (; p < end; p++)
        if (p[0] == first && p[1] == second)
            return p;
    return NULL;
}

/* Searches for the last two bytes of the needle. Most needles are quoted words, and quotes, their
 * first bytes, are everywhere in JSON. */
const char *str_find(struct str s, struct str needle)
{
    size_t before = needle.n - 2;
    const char *p, *end;

    if (needle.n == 0 || s.n < needle.n)
        return needle.n == 0 ? s.p : NULL;
    if (needle.n == 1)
        return memchr(s.p, needle.p[0], s.n);
    p = s.p + before;
    end = s.p + s.n - 1;
    while ((p = find_pair(p, end, needle.p[before], needle.p[before + 1])) != NULL) {
        if (memcmp(p - before, needle.p, before) == 0)
            return p - before;
        p++;
    }
    return NULL;
}

ptrdiff_t str_ifind(struct str s, struct str needle)
{
    if (needle.n == 0)
        return 0;
    for (size_t i = 0; i + needle.n <= s.n; i++)
        if (str_same_folded(s.p + i, needle.p, needle.n))
            return (ptrdiff_t)i;
    return -1;
}

struct str str_trim(struct str s)
{
    while (s.n > 0 && is_space(s.p[0])) {
        s.p++;
        s.n--;
    }
    while (s.n > 0 && is_space(s.p[s.n - 1]))
        s.n--;
    return s;
}

bool str_next(struct str *rest, char sep, struct str *ret_piece)
{
    if (rest->n == 0)
        return false;

    const char *end = memchr(rest->p, sep, rest->n);
    size_t n = end ? (size_t)(end - rest->p) : rest->n;
    size_t used = end ? n + 1 : n;
    *ret_piece = str_trim((struct str){rest->p, n});
    *rest = str_after(*rest, used);
    return true;
}

struct str str_decimal(uint64_t value, char space[STR_DECIMAL_MAX])
{
    char *p = space + STR_DECIMAL_MAX;

    do {
        *--p = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    return (struct str){p, (size_t)(space + STR_DECIMAL_MAX - p)};
}

bool str_to_u64(struct str s, uint64_t *ret_value)
{
    uint64_t value = 0;

    if (s.n == 0)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
        uint64_t digit = (uint64_t)(s.p[i] - '0');
        if (value > (UINT64_MAX - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    *ret_value = value;
    return true;
}

/* More digits than a double can hold only cost precision. The limit of 300 characters keeps the
 * result finite. */
bool str_to_decimal(struct str s, double *ret_value)
{
    double value = 0, scale = 1;
    bool point = false;

    if (s.n == 0 || s.n > 300 || s.p[0] < '0' || s.p[0] > '9')
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '.' && !point) {
            point = true;
            continue;
        }
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
        if (point && scale > 1e17)
            continue;
        value = value * 10 + (s.p[i] - '0');
        if (point)
            scale *= 10;
    }
    *ret_value = value / scale;
    return true;
}

uint64_t str_keep(struct str piece, char *to, size_t size, uint64_t length)
{
    size_t room = length < size ? size - (size_t)length : 0, n = piece.n < room ? piece.n : room;

    if (n > 0)
        memcpy(to + (size_t)length, piece.p, n);
    return length + piece.n;
}

char *str_dup(struct str s)
{
    char *copy = malloc(s.n + 1);

    if (!copy)
        return NULL;
    if (s.n > 0)
        memcpy(copy, s.p, s.n);
    copy[s.n] = '\0';
    return copy;
}

/* After a mismatch only the last star is tried again, with one more character. An earlier star
 * could not match anything that the last one cannot, so the time is at most O(pattern * text). */
bool str_glob(const char *pattern, struct str s)
{
    const char *star = NULL;
    size_t i = 0, star_i = 0;

    while (i < s.n) {
        if (*pattern == '*') {
            star = ++pattern;
            star_i = i;
        } else if (*pattern && (*pattern == '?' || *pattern == s.p[i])) {
            pattern++;
            i++;
        } else if (star) {
            pattern = star;
            i = ++star_i;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return *pattern == '\0';
}

/* Uses a bitmap of the first 128 characters, because it checks every header name of every
 * request. */
bool str_is_token(struct str s)
{
    static const uint64_t tchar[2] = {
        UINT64_C(0x03ff6cfa00000000), /* ! # $ % & ' * + - . 0 to 9 */
        UINT64_C(0x57ffffffc7fffffe), /* A to Z ^ _ ` a to z | ~ */
    };

    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (c >= 128 || !(tchar[c / 64] >> c % 64 & 1))
            return false;
    }
    return s.n > 0;
}

bool str_is_visible(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        if ((unsigned char)s.p[i] <= 0x20 || (unsigned char)s.p[i] >= 0x7f)
            return false;
    }
    return s.n > 0;
}

/* See Unicode 15, table 3-7. */
size_t str_utf8(struct str s)
{
    if (s.n == 0)
        return 0;

    const unsigned char *p = (const unsigned char *)s.p;
    if (p[0] < 0x80)
        return 1;

    size_t len = p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;
    if (len == 0 || s.n < len)
        return 0;
    unsigned char low = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80;
    unsigned char high = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    return len;
}

size_t str_put_utf8(unsigned c, char out[4])
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

static const char *skip_ascii(const char *p, const char *end)
{
    for (size_t left = (size_t)(end - p) / 16; left > 0; left--, p += 16)
        if (bytes16_bits(bytes16_load(p)) != 0)
            break;
    while (p < end && (unsigned char)*p < 0x80)
        p++;
    return p;
}

bool str_is_utf8(struct str s)
{
    const char *p = s.p, *end = s.p + s.n;

    while ((p = skip_ascii(p, end)) < end) {
        size_t n = str_utf8((struct str){p, (size_t)(end - p)});

        if (n == 0)
            return false;
        p += n;
    }
    return true;
}

void str_shown(char *out, size_t size, struct str s)
{
    bool cut = s.n >= size;
    size_t n = cut ? size - 4 : s.n;

    for (size_t i = 0; i < n; i++)
        out[i] = (char)(s.p[i] < 0x20 || s.p[i] > 0x7e ? '?' : s.p[i]);
    memcpy(out + n, "...", cut ? 4 : 0);
    out[cut ? n + 3 : n] = '\0';
}
