/* When a rule is in force, and how often in a second: scripted outages and rate limits. */
#include "when.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { SECOND_MS = 1000, PER_SECOND_MAX = 1000000 };

static bool complain(char *error, const char *what)
{
    snprintf(error, ANSWER_ERROR_MAX, "script: %s", what);
    return false;
}

static bool is_time(const cJSON *v)
{
    return cJSON_IsNumber(v) && v->valuedouble >= 0;
}

bool between_parse(struct between *ret_between, const cJSON *json, char error[ANSWER_ERROR_MAX])
{
    const cJSON *from = cJSON_GetObjectItemCaseSensitive(json, "from_ms");
    const cJSON *to = cJSON_GetObjectItemCaseSensitive(json, "to_ms");
    struct between between = {.set = true, .to_ms = INFINITY};
    int known = (from != NULL ? 1 : 0) + (to != NULL ? 1 : 0);

    if (!cJSON_IsObject(json) || known == 0 || cJSON_GetArraySize(json) != known ||
        (from != NULL && !is_time(from)) || (to != NULL && !is_time(to))) {
        return complain(error, "between is {\"from_ms\":A,\"to_ms\":B}, or one of them");
    }
    between.from_ms = from != NULL ? from->valuedouble : 0;
    between.to_ms = to != NULL ? to->valuedouble : INFINITY;
    if (between.from_ms >= between.to_ms) {
        return complain(error, "between ends before it begins");
    }
    *ret_between = between;
    return true;
}

bool between_holds(const struct between *between, double age_ms)
{
    return !between->set || (age_ms >= between->from_ms && age_ms < between->to_ms);
}

static bool parse_window(struct rate *rate, const cJSON *window)
{
    if (window == NULL) {
        return true;
    }
    if (!cJSON_IsString(window)) {
        return false;
    }
    rate->bucket = strcmp(window->valuestring, "bucket") == 0;
    return rate->bucket || strcmp(window->valuestring, "fixed") == 0;
}

bool rate_parse(struct rate *ret_rate, const cJSON *json, char error[ANSWER_ERROR_MAX])
{
    const cJSON *count = cJSON_GetObjectItemCaseSensitive(json, "per_second");
    const cJSON *window = cJSON_GetObjectItemCaseSensitive(json, "window");
    const cJSON *otherwise = cJSON_GetObjectItemCaseSensitive(json, "else");
    struct rate rate = {0};

    if (!cJSON_IsNumber(count) || count->valuedouble < 1 || count->valuedouble > PER_SECOND_MAX ||
        otherwise == NULL || cJSON_GetArraySize(json) != (window != NULL ? 3 : 2) ||
        !parse_window(&rate, window)) {
        return complain(error, "rate is {\"per_second\":N,\"window\":\"fixed|bucket\","
                               "\"else\":{an answer}}");
    }
    rate.per_second = (uint32_t)count->valuedouble;
    if (answer_parse(&rate.otherwise, otherwise, error) < 0) {
        return false;
    }
    *ret_rate = rate;
    return true;
}

void rate_deinit(struct rate *rate)
{
    if (rate->per_second > 0) {
        answer_deinit(&rate->otherwise);
    }
}

static double tokens_at(const struct rate *rate, double now_ms)
{
    double tokens = rate->tokens + (now_ms - rate->since_ms) * rate->per_second / SECOND_MS;

    return rate->since_ms <= 0 || tokens > rate->per_second ? rate->per_second : tokens;
}

static bool window_is_over(const struct rate *rate, double now_ms)
{
    return rate->since_ms <= 0 || now_ms - rate->since_ms >= SECOND_MS;
}

bool rate_has_room(const struct rate *rate, double now_ms)
{
    if (rate->bucket) {
        return tokens_at(rate, now_ms) >= 1;
    }
    return window_is_over(rate, now_ms) || rate->used < rate->per_second;
}

void rate_take(struct rate *rate, double now_ms)
{
    if (rate->bucket) {
        rate->tokens = tokens_at(rate, now_ms) - 1;
        rate->since_ms = now_ms;
        return;
    }
    if (window_is_over(rate, now_ms)) {
        rate->since_ms = now_ms;
        rate->used = 0;
    }
    rate->used++;
}
