/* Secret text: API keys and client tokens, kept in memory that core dumps leave out. */
#ifndef RETRYD_BASE_SECRET_H
#define RETRYD_BASE_SECRET_H

#include "base/str.h"

struct secret; /* a NUL-terminated string on its own pages, wiped when freed */

/* Copies `s`. Returns NULL if out of memory. */
struct secret *secret_new(struct str s);
void secret_free(struct secret *s);

struct str secret_text(const struct secret *s);

#endif
