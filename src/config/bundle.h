/* The certificates of authorities, as a file held them when it was read.
 *
 * libcurl reads them from a path, at any later time. A copy in memory has a path of its own, under which
 * they stay what they were, whatever becomes of the file: half written, removed, or another one. It is
 * counted, and shared by all that have read the same. Thread-safe. */
#ifndef RETRYD_CONFIG_BUNDLE_H
#define RETRYD_CONFIG_BUNDLE_H

#include <stdint.h>

#include "base/str.h"

struct bundle;

/* That of the same text, where there is one already: with one more reference. NULL when out of memory. */
struct bundle *bundle_new(struct str text);
struct bundle *bundle_ref(struct bundle *b);
void bundle_unref(struct bundle *b); /* NULL is fine */

/* Where it can be read; NULL where the system gives files in memory no path. */
const char *bundle_path(const struct bundle *b);

/* Tells one text from another. */
uint32_t bundle_version(const struct bundle *b);

#endif
