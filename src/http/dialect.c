/* Recognizes the APIs, and the kinds of operations, by the last segments of the path. */
#include "http/dialect.h"

#include <assert.h>

/* Removes the last segment and its slash from `*path`. Returns false if no slash is left. */
static bool cut_last(struct str *path, struct str *ret_segment)
{
    const char *slash = path->n ? memrchr(path->p, '/', path->n) : NULL;

    if (!slash)
        return false;
    size_t at = (size_t)(slash - path->p);
    *ret_segment = (struct str){slash + 1, path->n - at - 1};
    path->n = at;
    return true;
}

static struct str without_slash(struct str path)
{
    while (path.n > 0 && path.p[path.n - 1] == '/')
        path.n--;
    return path;
}

/* Whether a segment after /responses/ is the id of a stored response. It may also be one of two
 * other words. */
static bool is_response_id(struct str s)
{
    return s.n > 0 && !str_eq(s, STR("input_tokens")) && !str_eq(s, STR("compact"));
}

/* Returns the method after the colon of a Google path, or an empty slice. */
static struct str method_of(struct str last)
{
    const char *colon = last.n ? memrchr(last.p, ':', last.n) : NULL;
    size_t at = colon ? (size_t)(colon - last.p) + 1 : last.n;

    return str_after(last, at);
}

static bool is_one_of(struct str s, const struct str *names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (str_eq(s, names[i]))
            return true;
    return false;
}

/* Returns the dialect of a Google method. Vertex AI serves Anthropic's models through methods whose
 * bodies and streams are Anthropic's. */
static enum dialect dialect_of_method(struct str path, struct str method)
{
    static const struct str gemini[] = {{"generateContent", 15},
                                        {"streamGenerateContent", 21},
                                        {"countTokens", 11},
                                        {"computeTokens", 13},
                                        {"embedContent", 12},
                                        {"batchEmbedContents", 18},
                                        {"asyncBatchEmbedContent", 22},
                                        {"batchGenerateContent", 20},
                                        {"generateAnswer", 14},
                                        {"predict", 7},
                                        {"predictLongRunning", 18}};

    if (is_one_of(method, gemini, sizeof(gemini) / sizeof(gemini[0])))
        return DIALECT_GEMINI;
    if ((str_eq(method, STR("rawPredict")) || str_eq(method, STR("streamRawPredict"))) &&
        str_ifind(path, STR("/publishers/anthropic/models/")) >= 0)
        return DIALECT_MESSAGES;
    return DIALECT_OTHER;
}

enum dialect dialect_of(struct str path)
{
    struct str last, method, before = {NULL, 0}, third = {NULL, 0}, whole;

    whole = path = without_slash(path);
    if (!cut_last(&path, &last))
        return DIALECT_OTHER;
    method = method_of(last);
    if (method.n > 0 && dialect_of_method(whole, method) != DIALECT_OTHER)
        return dialect_of_method(whole, method);
    (void)(cut_last(&path, &before) && cut_last(&path, &third));
    if (str_eq(last, STR("completions"))) {
        bool deployment = str_eq(third, STR("deployments")); /* one named "chat" */
        return str_eq(before, STR("chat")) && !deployment ? DIALECT_CHAT : DIALECT_COMPLETIONS;
    }
    if (str_eq(last, STR("responses")))
        return DIALECT_RESPONSES;
    if (str_eq(before, STR("responses")) && is_response_id(last))
        return DIALECT_RESPONSES;
    /* The messages of a thread or of a stored completion are lists of another API. */
    if (str_eq(last, STR("messages")) && !str_eq(third, STR("threads")) &&
        !str_eq(third, STR("completions")))
        return DIALECT_MESSAGES;
    return DIALECT_OTHER;
}

struct str dialect_path_model(struct str path)
{
    struct str last, before = {NULL, 0}, method, whole;

    whole = path = without_slash(path);
    if (!cut_last(&path, &last))
        return (struct str){NULL, 0};
    method = method_of(last);
    if (method.n == 0) {
        /* Azure's name follows .../openai/deployments/, if more of the path comes after it. */
        static const struct str mark = {"/openai/deployments/", 20};
        const char *at = str_find(whole, mark), *from, *slash;
        struct str none = {NULL, 0};
        if (!at)
            return none;
        from = at + mark.n;
        slash = memchr(from, '/', whole.n - (size_t)(from - whole.p));
        return slash ? (struct str){from, (size_t)(slash - from)} : none;
    }
    if (dialect_of_method(whole, method) == DIALECT_OTHER || !cut_last(&path, &before) ||
        !str_eq(before, STR("models")))
        return (struct str){NULL, 0};
    return (struct str){last.p, last.n - method.n - 1};
}

bool dialect_path_streams(struct str path)
{
    struct str last;

    path = without_slash(path);
    return cut_last(&path, &last) && str_eq(method_of(last), STR("streamGenerateContent"));
}

/* Some versions of Google's SDKs ignore an error event, so the connection breaks after one. */
bool dialect_ends_by_event(enum dialect d)
{
    return d != DIALECT_OTHER && d != DIALECT_GEMINI;
}

bool dialect_generates(enum dialect d, struct str path)
{
    static const struct str methods[] = {{"generateContent", 15},
                                         {"streamGenerateContent", 21},
                                         {"generateAnswer", 14},
                                         {"embedContent", 12},
                                         {"batchEmbedContents", 18}};
    struct str last;

    path = without_slash(path);
    switch (d) {
    case DIALECT_CHAT:
    case DIALECT_COMPLETIONS:
    case DIALECT_MESSAGES:
        return true;
    case DIALECT_RESPONSES:
        return str_ends(path, STR("/responses"));
    case DIALECT_GEMINI:
        return cut_last(&path, &last) &&
               is_one_of(method_of(last), methods, sizeof(methods) / sizeof(methods[0]));
    case DIALECT_OTHER:
        break;
    }
    return str_ends(path, STR("/embeddings")) || str_ends(path, STR("/moderations"));
}

/* --- operations ------------------------------------------------------------------------------- */

/* The ends of paths. Google's paths end with a colon and a method. Sources: the API references of
 * OpenAI, Anthropic, Google, Cohere and vLLM. */
static const struct {
    struct str end;
    enum operation operation;
} endings[] = {
    {{"/count_tokens", 13}, OPERATION_COUNT},
    {{"/input_tokens", 13}, OPERATION_COUNT},
    {{"/tokenize", 9}, OPERATION_COUNT},
    {{"/detokenize", 11}, OPERATION_COUNT},
    {{":countTokens", 12}, OPERATION_COUNT},
    {{":computeTokens", 14}, OPERATION_COUNT},
    {{"/embeddings", 11}, OPERATION_EMBED},
    {{"/embed", 6}, OPERATION_EMBED},
    {{"/moderations", 12}, OPERATION_EMBED},
    {{"/rerank", 7}, OPERATION_EMBED},
    {{":embedContent", 13}, OPERATION_EMBED},
    {{":batchEmbedContents", 19}, OPERATION_EMBED},
    {{"/responses/compact", 18}, OPERATION_GENERATE},
    {{":generateContent", 16}, OPERATION_GENERATE},
    {{":streamGenerateContent", 22}, OPERATION_GENERATE},
};

enum operation operation_of(struct str method, struct str path, enum dialect d)
{
    while (path.n > 0 && path.p[path.n - 1] == '/')
        path.n--;
    if (str_eq(method, STR("GET")) || str_eq(method, STR("HEAD")))
        return OPERATION_READ;
    if (!str_eq(method, STR("POST")))
        return OPERATION_OTHER;
    if (d != DIALECT_OTHER && d != DIALECT_GEMINI)
        return OPERATION_GENERATE;
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++)
        if (str_ends(path, endings[i].end))
            return endings[i].operation;
    return d == DIALECT_OTHER ? OPERATION_OTHER : OPERATION_GENERATE;
}

const char *operation_word(enum operation o)
{
    static const char *const words[OPERATION_KINDS] = {
        [OPERATION_GENERATE] = "generate", [OPERATION_EMBED] = "embed", [OPERATION_COUNT] = "count",
        [OPERATION_READ] = "read",         [OPERATION_OTHER] = "other",
    };

    assert((unsigned)o < OPERATION_KINDS);
    return words[o];
}
