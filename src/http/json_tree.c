/* Builds documents with cJSON. No other file includes it. */
#include "http/json_tree.h"

#include <cJSON.h>
#include <errno.h>

#include "base/escape.h"

void json_tree_begin(struct json_tree *t)
{
    t->root = cJSON_CreateObject();
    t->failed = t->root == NULL;
}

int json_tree_end(struct json_tree *t, struct buf *out)
{
    char *text = t->failed ? NULL : cJSON_PrintUnformatted(t->root);
    int rc = text ? buf_add_str(out, str_from(text)) : -ENOMEM;

    out->failed |= rc < 0;
    cJSON_free(text);
    cJSON_Delete(t->root);
    return rc;
}

/* Adds `item`, which may be NULL. Returns it, or NULL if it could not be added. */
static cJSON *add(struct json_tree *t, cJSON *to, const char *key, cJSON *item)
{
    if (item && (key ? cJSON_AddItemToObject(to, key, item) : cJSON_AddItemToArray(to, item)))
        return item;
    cJSON_Delete(item);
    t->failed = true;
    return NULL;
}

struct cJSON *json_tree_object(struct json_tree *t, struct cJSON *to, const char *key)
{
    return add(t, to, key, cJSON_CreateObject());
}

struct cJSON *json_tree_array(struct json_tree *t, struct cJSON *to, const char *key)
{
    return add(t, to, key, cJSON_CreateArray());
}

/* Adds the value in `value`, and frees the buffer. */
static void add_written(struct json_tree *t, struct cJSON *to, const char *key, struct buf *value)
{
    bool written = buf_addc(value, '\0') == 0;

    (void)add(t, to, key, written ? cJSON_CreateRaw(value->p) : NULL);
    buf_deinit(value);
}

void json_tree_number(struct json_tree *t, struct cJSON *to, const char *key, uint64_t value)
{
    char space[STR_DECIMAL_MAX];

    json_tree_raw(t, to, key, str_decimal(value, space));
}

void json_tree_text(struct json_tree *t, struct cJSON *to, const char *key, const char *text)
{
    struct str rest = str_from(text);
    struct buf value;

    if (!text) {
        (void)add(t, to, key, cJSON_CreateNull());
        return;
    }
    buf_init(&value, SIZE_MAX);
    (void)buf_addc(&value, '"');
    while (rest.n > 0) {
        char space[ESCAPE_MAX];
        size_t used;

        (void)buf_add_str(&value, escape_json(rest, space, &used));
        rest = str_after(rest, used);
    }
    (void)buf_addc(&value, '"');
    add_written(t, to, key, &value);
}

void json_tree_string(struct json_tree *t, struct cJSON *to, const char *key, struct str raw)
{
    struct buf value;

    buf_init(&value, SIZE_MAX);
    (void)buf_addc(&value, '"');
    (void)buf_add_str(&value, raw);
    (void)buf_addc(&value, '"');
    add_written(t, to, key, &value);
}

void json_tree_raw(struct json_tree *t, struct cJSON *to, const char *key, struct str json)
{
    struct buf value;

    buf_init(&value, SIZE_MAX);
    for (size_t i = 0; i < json.n; i++)
        (void)buf_addc(&value, json.p[i] == '\n' || json.p[i] == '\r' ? ' ' : json.p[i]);
    add_written(t, to, key, &value);
}
