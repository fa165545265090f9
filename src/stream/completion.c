/* Searches a completion for content. */
#include "stream/completion.h"

#include "http/json.h"

/* --- content ---------------------------------------------------------------------------------- */

#define NESTED_MAX 6 /* levels that are searched */

static bool is_something(const struct json_value *v, unsigned depth);

/* Whether an array or an object contains a text. Servers that never send null send {"name":""}. */
static bool holds_something(const struct json_value *v, unsigned depth)
{
    struct json_iter i = json_iter(v->text);
    struct json_value inner;
    struct str key;

    if (depth == NESTED_MAX)
        return v->text.n > 2;
    if (v->type == JSON_OBJECT) {
        while (json_next_member(&i, &key, &inner))
            if (is_something(&inner, depth + 1))
                return true;
        return false;
    }
    while (json_next_element(&i, &inner))
        if (is_something(&inner, depth + 1))
            return true;
    return false;
}

static bool is_something(const struct json_value *v, unsigned depth)
{
    switch (v->type) {
    case JSON_STRING:
        return v->text.n > 0;
    case JSON_ARRAY:
    case JSON_OBJECT:
        return holds_something(v, depth);
    default:
        return false;
    }
}

bool completion_says(const struct json_value *v)
{
    return is_something(v, 0);
}

/* Most responses have a text, and searching for its key is quicker than parsing all. Within a
 * string the key's quotes would have backslashes before them. */
static bool has_text(struct str body, struct str quoted_key)
{
    const char *p;

    while ((p = str_find(body, quoted_key)) != NULL) {
        const char *end = body.p + body.n;

        p += quoted_key.n;
        while (p < end && (*p == ':' || *p == ' '))
            p++;
        if (end - p > 1 && p[0] == '"' && p[1] != '"')
            return true;
        body = (struct str){p, (size_t)(end - p)};
    }
    return false;
}

bool completion_is_curbed(const struct json_value *finish_reason)
{
    static const struct str reasons[] = {
        {"length", 6},         {"max_tokens", 10}, {"model_length", 12}, {"content_filter", 14},
        {"tool_calls", 10},    {"tool_call", 9},   {"tool_use", 8},      {"safety", 6},
        {"function_call", 13}, {"recitation", 10}, {"refusal", 7},       {"sensitive", 9},
    };

    if (finish_reason->type != JSON_STRING)
        return false;
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
        if (str_ieq(finish_reason->text, reasons[i]))
            return true;
    return false;
}

/* Whether an object says something besides its `common` member. */
static bool object_says(struct str object, struct str common)
{
    struct json_iter i = json_iter(object);
    struct json_value v;
    struct str key;

    while (json_next_member(&i, &key, &v))
        if (!json_key_is(key, common) && completion_says(&v))
            return true;
    return false;
}

/* --- choices ---------------------------------------------------------------------------------- */

static bool choices_are_empty(struct str body)
{
    struct json_value choices = json_scan_one(body, STR("choices")), choice;
    struct json_iter i;

    if (choices.type != JSON_ARRAY)
        return choices.type == JSON_NULL;
    i = json_iter(choices.text);
    while (json_next_element(&i, &choice)) {
        enum { MESSAGE, TEXT, FINISH, WANTS };
        struct json_want w[WANTS] = {
            {.key = STR("message")}, {.key = STR("text")}, {.key = STR("finish_reason")}};
        json_scan(choice.text, w, WANTS);
        if (completion_is_curbed(&w[FINISH].value) || completion_says(&w[TEXT].value) ||
            (w[MESSAGE].value.type == JSON_OBJECT &&
             object_says(w[MESSAGE].value.text, STR("role"))))
            return false;
    }
    return i.whole;
}

/* --- responses -------------------------------------------------------------------------------- */

static bool item_is_empty(struct str item)
{
    struct json_want w[] = {{.key = STR("type")}, {.key = STR("content")}};
    struct json_value part;
    struct json_iter i;

    json_scan(item, w, 2);
    if (!str_eq(w[0].value.text, STR("message")))
        return false;
    i = json_iter(w[1].value.text);
    while (json_next_element(&i, &part))
        if (object_says(part.text, STR("type")))
            return false;
    return true;
}

static bool response_is_empty(struct str body)
{
    struct json_want w[] = {{.key = STR("status")}, {.key = STR("output")}};
    struct json_value item;
    struct json_iter i;

    json_scan(body, w, 2);
    if (!str_eq(w[0].value.text, STR("completed")) || w[1].value.type != JSON_ARRAY)
        return false;
    i = json_iter(w[1].value.text);
    while (json_next_element(&i, &item))
        if (!item_is_empty(item.text))
            return false;
    return i.whole;
}

bool completion_is_empty(enum dialect dialect, struct str body)
{
    switch (dialect) {
    case DIALECT_CHAT:
        return !has_text(body, STR("\"content\"")) && choices_are_empty(body);
    case DIALECT_COMPLETIONS:
        return !has_text(body, STR("\"text\"")) && choices_are_empty(body);
    case DIALECT_RESPONSES:
        return !has_text(body, STR("\"text\"")) && response_is_empty(body);
    default:
        return false;
    }
}

/* --- the request ------------------------------------------------------------------------------ */

static bool is_zero(const struct json_value *v)
{
    double n;

    return v->type == JSON_NUMBER && str_to_decimal(v->text, &n) && n <= 0;
}

bool completion_may_be_empty(struct str request)
{
    enum { CHAT, LEGACY, RESPONSE, GENERATE, STOP, SUFFIX, WANTS };
    struct json_want w[WANTS] = {[CHAT] = {.key = STR("max_completion_tokens")},
                                 [LEGACY] = {.key = STR("max_tokens")},
                                 [RESPONSE] = {.key = STR("max_output_tokens")},
                                 [GENERATE] = {.key = STR("generate")},
                                 [STOP] = {.key = STR("stop")},
                                 [SUFFIX] = {.key = STR("suffix")}};

    json_scan(request, w, WANTS);
    return is_zero(&w[CHAT].value) || is_zero(&w[LEGACY].value) || is_zero(&w[RESPONSE].value) ||
           w[GENERATE].value.type == JSON_FALSE || completion_says(&w[STOP].value) ||
           completion_says(&w[SUFFIX].value);
}
