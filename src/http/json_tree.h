/* Writes small JSON documents of retryd's own, with cJSON: errors, and the events that tell of them. Nothing
 * here is for the hot path.
 *
 * Of cJSON only trees and their printing are used. Its numbers are doubles, its strings take bytes that
 * are no UTF-8, and nothing but control characters is escaped in them: what goes in here was written as it
 * is to be read. It does not read for us at all: it takes no lone surrogates (RFC 8259 8.2), which cut
 * messages end with, ends strings at \u0000, and has a tree in memory for each of a long answer's values. */
#ifndef RETRYD_HTTP_JSON_TREE_H
#define RETRYD_HTTP_JSON_TREE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"

struct cJSON;

/* A document that grows. Where memory runs out `failed` is set, and json_tree_end tells. */
struct json_tree {
    struct cJSON *root; /* an object */
    bool failed;
};

void json_tree_begin(struct json_tree *t);

/* Appends the document to `out`, in one line, and frees it. 0, -ENOMEM or -EFBIG; then `out` has failed. */
int json_tree_end(struct json_tree *t, struct buf *out);

/* These add a member to the object `to`, or, where `key` is NULL, an element to the array `to`. Objects and
 * arrays are returned, to be filled. */
struct cJSON *json_tree_object(struct json_tree *t, struct cJSON *to, const char *key);
struct cJSON *json_tree_array(struct json_tree *t, struct cJSON *to, const char *key);
void json_tree_null(struct json_tree *t, struct cJSON *to, const char *key);
void json_tree_bool(struct json_tree *t, struct cJSON *to, const char *key, bool value);
void json_tree_number(struct json_tree *t, struct cJSON *to, const char *key, uint64_t value);

/* A string, escaped as base/escape.h has it; null for NULL. */
void json_tree_text(struct json_tree *t, struct cJSON *to, const char *key, const char *text);

/* A string as another document had it: without its quotes, escapes left as they are. */
void json_tree_string(struct json_tree *t, struct cJSON *to, const char *key, struct str raw);

/* A value that is valid JSON already. Its line ends, which can stand between tokens only, become spaces. */
void json_tree_raw(struct json_tree *t, struct cJSON *to, const char *key, struct str json);

#endif
