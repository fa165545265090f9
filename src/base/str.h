/* Slices of text that somebody else owns, and the few comparisons and numbers HTTP needs. */
#ifndef RETRYD_BASE_STR_H
#define RETRYD_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef NDEBUG
#error "retryd's asserts stay on in every build: do not define NDEBUG"
#endif

/* A view: `p` is not terminated and not owned. An empty slice may have p == NULL. */
struct str {
    const char *p;
    size_t n;
};

#define STR(literal) ((struct str){(literal), sizeof(literal) - 1})

static inline struct str str_from(const char *s)
{
    return (struct str){s, s ? strlen(s) : 0};
}

/* Whether `n` bytes are the same but for the case of ASCII letters. */
bool str_same_folded(const char *a, const char *b, size_t n);

/* Exact and ASCII case-insensitive equality. Here, since most are told apart by their lengths; memcmp
 * must not see NULL, which an empty slice may hold. */
static inline bool str_eq(struct str a, struct str b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
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

/* Whether s ends with `end`. */
static inline bool str_ends(struct str s, struct str end)
{
    return s.n >= end.n && str_eq((struct str){s.p + s.n - end.n, end.n}, end);
}

/* Where `needle` first stands in `s`; NULL: nowhere. Faster than memmem with the short texts that JSON is
 * looked through for. */
const char *str_find(struct str s, struct str needle);

/* Where `needle` starts in `s`, ASCII case-insensitively; -1 when nowhere. */
ptrdiff_t str_ifind(struct str s, struct str needle);

/* Without spaces and tabs (and CR, LF) at either end. */
struct str str_trim(struct str s);

/* Cuts the next piece up to `sep` off the front of `*rest`, trimmed. False when nothing is left. */
bool str_next(struct str *rest, char sep, struct str *ret_piece);

/* The number in decimal, written to the end of `space`. */
#define STR_DECIMAL_MAX 20
struct str str_decimal(uint64_t value, char space[STR_DECIMAL_MAX]);

/* The whole of `s` as a decimal number; false on anything else, on overflow too. */
bool str_to_u64(struct str s, uint64_t *ret_value);

/* The whole of `s` as a non-negative decimal with an optional fraction ("1", "0.25", "12.");
 * false on anything else (signs, exponents, inf, nan, more than 300 characters). */
bool str_to_decimal(struct str s, double *ret_value);

/* A copy to show in a sentence: terminated, cut ("...") where it does not fit, `?` for each byte that is
 * no printable ASCII. `size` is 4 at least. */
void str_shown(char *out, size_t size, struct str s);

/* A heap copy, terminated; NULL when out of memory. */
char *str_dup(struct str s);

/* Shell-like match of the whole of `s`: `*` any run, `?` one character, all else itself. */
bool str_glob(const char *pattern, struct str s);

/* Bytes of the UTF-8 character `s` begins with, 1 to 4; 0 where `s` is empty or begins with none
 * (an overlong form, a surrogate, a stray or missing continuation). */
size_t str_utf8(struct str s);

#endif
