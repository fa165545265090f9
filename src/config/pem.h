/* Certificates and keys in PEM files: the blocks of a text, and copies of texts that libcurl can
 * read. */
#ifndef RETRYD_CONFIG_PEM_H
#define RETRYD_CONFIG_PEM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

/* --- a text ----------------------------------------------------------------------------------- */

/* The blocks of a PEM text (RFC 7468), and whether they are complete. A TLS library parses their
 * content later. */
struct pem {
    unsigned certificates;
    unsigned keys;  /* private keys of any type */
    bool encrypted; /* one of the keys is encrypted */
    bool broken;    /* a block has no end line, the wrong one, or bytes that are not base64 */
};

/* Counts the blocks of `text`. Text between blocks is a comment. */
struct pem pem_look(struct str text);

/* --- a copy ----------------------------------------------------------------------------------- */

/* A copy in memory of the certificates in a file, as they were when it was read.
 *
 * libcurl reads certificates from a path, at any time. The copy has its own path, and stays the
 * same when the file is rewritten, replaced or removed. It is reference-counted and shared by all
 * users of the same text. Thread-safe. */
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
