/* When a rule is in force, and how often in a second: scripted outages and rate limits. */
#ifndef PROVIDER_WHEN_H
#define PROVIDER_WHEN_H

#include "answer.h"

/* In force for from_ms <= age < to_ms, age being the time since the script's first request. */
struct between {
    bool set;
    double from_ms;
    double to_ms; /* infinite where none is given */
};

/* The first per_second requests of each second get the rule's answers, the others `otherwise`.
 * A fixed window begins with the first request that no window covers. A bucket holds per_second
 * tokens, is full at first and filled continuously. */
struct rate {
    uint32_t per_second; /* 0: no rate */
    bool bucket;
    struct answer otherwise;
    double
        since_ms; /* the window's begin; or when tokens was counted. 0: before the first request */
    double tokens;
    uint32_t used;
};

/* Both return false with a message in error; the JSON must outlive a rate that was read. */
bool between_parse(struct between *ret_between, const cJSON *json, char error[ANSWER_ERROR_MAX]);
bool rate_parse(struct rate *ret_rate, const cJSON *json, char error[ANSWER_ERROR_MAX]);
void rate_deinit(struct rate *rate);

bool between_holds(const struct between *between, double age_ms);
/* Whether the request that is there at now_ms is within the rate. */
bool rate_has_room(const struct rate *rate, double now_ms);
/* It takes its place; there is room. */
void rate_take(struct rate *rate, double now_ms);

#endif
