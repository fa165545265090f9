/* Tells the APIs apart by the last segments of the path. */
#include "exchange/dialect.h"

/* Cuts the last segment off `*path`, its slash included; false where there is no slash left. */
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

static struct str without_query(struct str path)
{
    const char *question = path.n ? memchr(path.p, '?', path.n) : NULL;

    if (question)
        path.n = (size_t)(question - path.p);
    if (path.n > 0 && path.p[path.n - 1] == '/')
        path.n--;
    return path;
}

/* The id of a stored response: not one of the two words that stand in its place. */
static bool is_response_id(struct str s)
{
    return s.n > 0 && !str_eq(s, STR("input_tokens")) && !str_eq(s, STR("compact"));
}

enum dialect dialect_of(struct str path)
{
    struct str last, before = {NULL, 0}, third = {NULL, 0};

    path = without_query(path);
    if (!cut_last(&path, &last))
        return DIALECT_OTHER;
    (void)(cut_last(&path, &before) && cut_last(&path, &third));
    if (str_eq(last, STR("completions"))) {
        bool deployment = str_eq(third, STR("deployments")); /* one that is named chat */
        return str_eq(before, STR("chat")) && !deployment ? DIALECT_CHAT : DIALECT_COMPLETIONS;
    }
    if (str_eq(last, STR("responses")))
        return DIALECT_RESPONSES;
    if (str_eq(before, STR("responses")) && is_response_id(last))
        return DIALECT_RESPONSES;
    /* A thread's messages and a stored completion's are lists of another API. */
    if (str_eq(last, STR("messages")) && !str_eq(third, STR("threads")) &&
        !str_eq(third, STR("completions")))
        return DIALECT_MESSAGES;
    return DIALECT_OTHER;
}

bool dialect_ends_by_event(enum dialect d)
{
    return d != DIALECT_OTHER;
}
