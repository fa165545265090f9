/* Writes retryd's own errors. */
#include "policy/apierror_write.h"

#include "http/json_tree.h"

static void fill_object(struct json_tree *t, struct cJSON *error, const char *message,
                        const char *type, const char *code)
{
    json_tree_text(t, error, "message", message);
    json_tree_text(t, error, "type", type);
    json_tree_text(t, error, "param", NULL);
    json_tree_text(t, error, "code", code);
}

/* Returns Google's name for a status, as google/rpc/code.proto maps them. */
static const char *google_status(unsigned status)
{
    static const struct {
        unsigned status;
        const char *word;
    } words_of[] = {
        {401, "UNAUTHENTICATED"},   {403, "PERMISSION_DENIED"}, {404, "NOT_FOUND"},
        {408, "DEADLINE_EXCEEDED"}, {409, "ABORTED"},           {429, "RESOURCE_EXHAUSTED"},
        {500, "INTERNAL"},          {501, "UNIMPLEMENTED"},     {504, "DEADLINE_EXCEEDED"},
    };

    for (size_t i = 0; i < sizeof words_of / sizeof words_of[0]; i++)
        if (words_of[i].status == status)
            return words_of[i].word;
    return status < 500 ? "INVALID_ARGUMENT" : "UNAVAILABLE";
}

int apierror_write(struct buf *out, enum dialect dialect, unsigned status, const char *message,
                   const char *type, const char *code)
{
    struct cJSON *error;
    struct json_tree t;

    json_tree_begin(&t);
    if (dialect == DIALECT_MESSAGES)
        json_tree_text(&t, t.root, "type", "error");
    error = json_tree_object(&t, t.root, "error");
    if (dialect == DIALECT_GEMINI) {
        struct cJSON *info, *metadata;
        json_tree_number(&t, error, "code", status);
        json_tree_text(&t, error, "message", message ? message : "");
        json_tree_text(&t, error, "status", google_status(status));
        info = json_tree_object(&t, json_tree_array(&t, error, "details"), NULL);
        json_tree_text(&t, info, "@type", "type.googleapis.com/google.rpc.ErrorInfo");
        json_tree_text(&t, info, "reason", code ? code : "unknown");
        json_tree_text(&t, info, "domain", "retryd");
        metadata = json_tree_object(&t, info, "metadata");
        if (type)
            json_tree_text(&t, metadata, "type", type);
    } else
        fill_object(&t, error, message, type, code);
    return json_tree_end(&t, out);
}

int apierror_write_object(struct buf *out, const char *message, const char *type, const char *code)
{
    struct json_tree t;

    json_tree_begin(&t);
    fill_object(&t, t.root, message, type, code);
    return json_tree_end(&t, out);
}
