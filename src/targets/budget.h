/* A retry budget: how many repeats an upstream is sent, beside its requests (C9).
 *
 * Over the last BUDGET_WINDOW_MS repeats are at most `percent` of the requests, plus `min` for each
 * second of it; the window is exact to one of its buckets. Charged when a repeat is decided, so that
 * a backoff's length hides nothing.
 * Finagle's RetryBudget; Envoy's retry_budget. Pure: time is an argument, in ms. */
#ifndef RETRYD_TARGETS_BUDGET_H
#define RETRYD_TARGETS_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

#define BUDGET_WINDOW_MS 10000
#define BUDGET_BUCKETS 20 /* of the window */

struct budget_bucket {
    uint64_t number; /* of its time, in units of window / buckets */
    unsigned requests, repeats;
};

struct budget {
    struct budget_bucket buckets[BUDGET_BUCKETS];
};

void budget_init(struct budget *b);

/* A request goes to the upstream for the first time. */
void budget_request(struct budget *b, uint64_t now_ms);

/* A repeat has been made by others (an SDK): it counts, allowed or not. */
void budget_charge(struct budget *b, uint64_t now_ms);

/* Charges a repeat. False, and nothing is charged, where there is no room for it. */
bool budget_repeat(struct budget *b, unsigned percent, unsigned min, uint64_t now_ms);

/* The counts in the window now. */
void budget_count(const struct budget *b, uint64_t now_ms, uint64_t *ret_requests,
                  uint64_t *ret_repeats);

/* Repeats that there is room for now. */
unsigned budget_left(const struct budget *b, unsigned percent, unsigned min, uint64_t now_ms);

#endif
