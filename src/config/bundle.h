/* A copy in memory of the certificates in a file, as they were when it was read.
 *
 * libcurl reads certificates from a path, at any time. The copy has its own path, and stays the
 * same when the file is rewritten, replaced or removed. It is reference-counted and shared by all
 * users of the same text. Thread-safe. */
#ifndef RETRYD_CONFIG_BUNDLE_H
#define RETRYD_CONFIG_BUNDLE_H

#include <stdint.h>

#include "base/str.h"

struct bundle;

/* Returns a copy of the text, the existing one if there is one, with one more reference. NULL if
 * out of memory. */
struct bundle *bundle_new(struct str text);
struct bundle *bundle_ref(struct bundle *b);
void bundle_unref(struct bundle *b); /* NULL is fine */

/* Returns the path of the copy; NULL if the system has no paths for files in memory. */
const char *bundle_path(const struct bundle *b);

/* Returns a number that identifies the text. */
uint32_t bundle_version(const struct bundle *b);

#endif
