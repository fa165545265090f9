/* Derives the kind of an operation from the method and the path. */
#include "http/operation.h"

#include <assert.h>

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
