/* Text that must never be seen: API keys and client tokens, in memory that core dumps leave out. */
#ifndef RETRYD_BASE_SECRET_H
#define RETRYD_BASE_SECRET_H

#include "base/str.h"

struct secret; /* a terminated string on pages of its own, wiped when freed */

/* Copies `s`; NULL when out of memory. */
struct secret *secret_new(struct str s);
void secret_free(struct secret *s);

struct str secret_text(const struct secret *s);

#endif
