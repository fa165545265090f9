/* Writes retryd's own small JSON documents with cJSON: errors, and the events that report them. It
 * is not for the hot path.
 *
 * cJSON only builds the tree and prints it. It keeps numbers as doubles, accepts bytes that are not
 * UTF-8 in strings, and escapes only control characters; so numbers and strings are written here
 * and passed to it as raw text. It is not used for reading: it rejects lone surrogates (RFC 8259,
 * 8.2), with which cut messages end, takes \u0000 for the end of a string, and allocates for every
 * value of a long response. */
#ifndef RETRYD_HTTP_JSON_TREE_H
#define RETRYD_HTTP_JSON_TREE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"

struct cJSON;

/* A document. If memory runs out `failed` is set, and json_tree_end returns the error. */
struct json_tree {
    struct cJSON *root; /* an object */
    bool failed;
};

void json_tree_begin(struct json_tree *t);

/* Appends the document to `out`, in one line, and frees it. Returns 0, -ENOMEM or -EFBIG; after an
 * error `out` has failed. */
int json_tree_end(struct json_tree *t, struct buf *out);

/* These add a member to the object `to`, or, if `key` is NULL, an element to the array `to`. The
 * first two return the new member, to be filled. */
struct cJSON *json_tree_object(struct json_tree *t, struct cJSON *to, const char *key);
struct cJSON *json_tree_array(struct json_tree *t, struct cJSON *to, const char *key);
void json_tree_number(struct json_tree *t, struct cJSON *to, const char *key, uint64_t value);

/* Adds a string, escaped as in base/escape.h; null if `text` is NULL. */
void json_tree_text(struct json_tree *t, struct cJSON *to, const char *key, const char *text);

/* Adds another document's string, raw: with its escapes, without its quotes. */
void json_tree_string(struct json_tree *t, struct cJSON *to, const char *key, struct str raw);

/* Adds a value that is valid JSON. Its line ends, which are between tokens, become spaces. */
void json_tree_raw(struct json_tree *t, struct cJSON *to, const char *key, struct str json);

#endif
