/* Escapes text for a JSON string, and for display on a terminal; decodes the escapes of JSON
 * strings and of URLs. */
#ifndef RETRYD_BASE_ESCAPE_H
#define RETRYD_BASE_ESCAPE_H

#include "base/str.h"

/* Returns the escaped form of the first character of `s`, which must not be empty. The result is a
 * slice of `s` or of `space`. `*ret_used` is the number of bytes of `s` that it stands for.
 *
 * Besides JSON's own escapes, this escapes control characters and invisible characters that change
 * how the rest of a line is read: line separators, bidirectional controls, zero-width characters. A
 * byte that is not valid UTF-8 becomes U+FFFD. */
#define ESCAPE_MAX 16
struct str escape_json(struct str s, char space[ESCAPE_MAX], size_t *ret_used);

/* Decodes the escapes of a JSON string, `raw`, without its quotes. The text is UTF-8, cut at
 * `size`-1 bytes (never amid a character) and terminated. Returns its length. Control characters
 * become spaces, bytes that are not UTF-8 become U+FFFD. */
size_t escape_undo_json(struct str raw, char *out, size_t size);

/* Returns the value of the four hex digits at the start of `s`, after "\u", or 0x10000 if there are
 * no four. */
unsigned escape_hex4(struct str s);

/* Returns the byte that the "%XX" at `at` stands for (RFC 3986 2.1), or -1 if there is none. */
int escape_percent(struct str s, size_t at);

#endif
