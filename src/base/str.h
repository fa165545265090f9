/* Slices of text owned by somebody else, and the comparisons and conversions that HTTP needs. */
#ifndef RETRYD_BASE_STR_H
#define RETRYD_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef NDEBUG
#error "retryd's asserts stay on in every build: do not define NDEBUG"
#endif

/* A view. `p` is neither NUL-terminated nor owned. An empty slice may have p == NULL. */
struct str {
    const char *p;
    size_t n;
};

#define STR(literal) ((struct str){(literal), sizeof(literal) - 1})

static inline struct str str_from(const char *s)
{
    return (struct str){s, s ? strlen(s) : 0};
}

/* Whether the first `n` bytes of both are equal, ignoring ASCII case. */
bool str_same_folded(const char *a, const char *b, size_t n);

/* Equality, exact and ignoring ASCII case. These are inline because most texts differ in length;
 * the length of `b` is a constant where it is a literal. memcmp must not be given NULL, which an
 * empty slice may hold. */
static inline bool str_eq(struct str a, struct str b)
{
    return a.n == b.n && (b.n == 0 || memcmp(a.p, b.p, b.n) == 0);
}

static inline bool str_ieq(struct str a, struct str b)
{
    return a.n == b.n && str_same_folded(a.p, b.p, a.n);
}

static inline bool str_starts(struct str s, struct str prefix)
{
    return s.n >= prefix.n && (prefix.n == 0 || memcmp(s.p, prefix.p, prefix.n) == 0);
}

static inline bool str_istarts(struct str s, struct str prefix)
{
    return s.n >= prefix.n && str_same_folded(s.p, prefix.p, prefix.n);
}

static inline bool str_ends(struct str s, struct str end)
{
    return s.n >= end.n && str_eq((struct str){s.p + s.n - end.n, end.n}, end);
}

/* Returns `s` without its first `n` bytes; it has that many. */
static inline struct str str_after(struct str s, size_t n)
{
    return (struct str){s.p + n, s.n - n};
}

/* Returns the first occurrence of `needle` in `s`, or NULL. It is faster than memmem for the short
 * needles that are searched for in JSON. */
const char *str_find(struct str s, struct str needle);

/* Returns the index of the first occurrence of `needle` in `s`, ignoring ASCII case, or -1. */
ptrdiff_t str_ifind(struct str s, struct str needle);

/* Returns `s` without spaces, tabs, CR and LF at either end. */
struct str str_trim(struct str s);

/* Removes the text up to the next `sep` from the front of `*rest` and returns it trimmed in
 * `*ret_piece`. Returns false if nothing is left. */
bool str_next(struct str *rest, char sep, struct str *ret_piece);

/* Formats a number in decimal at the end of `space` and returns it. */
#define STR_DECIMAL_MAX 20
struct str str_decimal(uint64_t value, char space[STR_DECIMAL_MAX]);

/* Parses all of `s` as a decimal number. Returns false for anything else, and on overflow. */
bool str_to_u64(struct str s, uint64_t *ret_value);

/* Parses all of `s` as a non-negative decimal with an optional fraction: "1", "0.25", "12.".
 * Returns false for anything else: signs, exponents, inf, nan, more than 300 characters. */
bool str_to_decimal(struct str s, double *ret_value);

/* Copies `s` for use in a sentence: NUL-terminated, cut with "..." if it does not fit, and with `?`
 * for each byte that is not printable ASCII. `size` is at least 4. */
void str_shown(char *out, size_t size, struct str s);

/* Keeps the beginning of a text that comes in pieces: appends as much of `piece` as fits after the
 * first `length` bytes of `to`, which has room for `size`. Returns the length of the text so
 * far. */
uint64_t str_keep(struct str piece, char *to, size_t size, uint64_t length);

/* Returns a NUL-terminated copy, which the caller frees; NULL if out of memory. */
char *str_dup(struct str s);

/* Whether a shell-like pattern matches all of `s`. `*` matches any run of characters, `?` one
 * character, anything else itself. */
bool str_glob(const char *pattern, struct str s);

/* Whether `s` is a token (RFC 9110, 5.6.2), as header names are. */
bool str_is_token(struct str s);

/* Whether `s` is printable ASCII without spaces, and not empty. */
bool str_is_visible(struct str s);

/* Returns the length of the UTF-8 character at the start of `s`, 1 to 4. Returns 0 if `s` is empty
 * or does not start with one: an overlong form, a surrogate, a stray or missing continuation
 * byte. */
size_t str_utf8(struct str s);

/* Whether all of `s` is UTF-8. */
bool str_is_utf8(struct str s);

/* Writes a code point, or a half of a surrogate pair, as UTF-8. Returns its length. */
size_t str_put_utf8(unsigned c, char out[4]);

#endif
