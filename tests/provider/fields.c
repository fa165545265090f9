/* Takes checked values out of a response's JSON. */
#include "fields.h"

#include <stdio.h>

bool parse_complain(struct parse *p, const char *key, const char *what)
{
    snprintf(p->error, ANSWER_ERROR_MAX, "answer: \"%.60s\" %s", key, what);
    return false;
}

bool get_number(struct parse *p, const cJSON *v, double max, double *ret)
{
    if (!cJSON_IsNumber(v) || v->valuedouble < 0 || v->valuedouble > max) {
        char what[64];

        snprintf(what, sizeof(what), "must be a number from 0 to %.0f", max);
        return parse_complain(p, v->string, what);
    }
    *ret = v->valuedouble;
    return true;
}

bool get_u32(struct parse *p, const cJSON *v, uint32_t max, uint32_t *ret)
{
    double n;

    if (!get_number(p, v, max, &n)) {
        return false;
    }
    *ret = (uint32_t)n;
    return true;
}

bool get_bool(struct parse *p, const cJSON *v, bool *ret)
{
    if (!cJSON_IsBool(v)) {
        return parse_complain(p, v->string, "must be true or false");
    }
    *ret = cJSON_IsTrue(v);
    return true;
}

bool get_text(struct parse *p, const cJSON *v, const char **ret)
{
    if (!cJSON_IsString(v)) {
        return parse_complain(p, v->string, "must be a string");
    }
    *ret = v->valuestring;
    return true;
}

bool get_fields(struct parse *p, const cJSON *v, const cJSON **ret)
{
    const cJSON *item;

    if (!cJSON_IsObject(v) && !cJSON_IsArray(v)) {
        return parse_complain(p, v->string, "must be an object or a list of pairs");
    }
    cJSON_ArrayForEach(item, v)
    {
        const cJSON *value = cJSON_IsArray(v) ? cJSON_GetArrayItem(item, 1) : item;

        if (cJSON_IsArray(v) && (!cJSON_IsArray(item) || cJSON_GetArraySize(item) != 2 ||
                                 !cJSON_IsString(cJSON_GetArrayItem(item, 0)))) {
            return parse_complain(p, v->string, "must hold pairs of strings");
        }
        if (!cJSON_IsString(value) && !cJSON_IsNull(value)) {
            return parse_complain(p, v->string, "must have strings (or null) as values");
        }
    }
    *ret = v;
    return true;
}
