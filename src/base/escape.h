/* Text made safe to put into a JSON string and to show on a terminal. */
#ifndef RETRYD_BASE_ESCAPE_H
#define RETRYD_BASE_ESCAPE_H

#include "base/str.h"

/* The escaped form, for a JSON string, of the character that the non-empty `s` begins with: a
 * slice of `s` itself or of `space`. Control characters are escaped, and so is what is not
 * seen but changes how the rest is read: line separators, directions of writing, characters without
 * a width. A byte that is no UTF-8 becomes U+FFFD. `*ret_used`: how many bytes of `s` it stands for. */
#define ESCAPE_MAX 16
struct str escape_json(struct str s, char space[ESCAPE_MAX], size_t *ret_used);

#endif
