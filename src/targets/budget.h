/* A retry budget: limits the repeats that an upstream receives beside its requests (C9).
 *
 * Over the last BUDGET_WINDOW_MS repeats are at most `percent` of the requests, plus `min` for each
 * second of it; the window is exact to one of its buckets. A repeat is charged when it is decided,
 * so that the length of its backoff does not matter. Finagle's RetryBudget; Envoy's retry_budget.
 * Pure: time is an argument, in ms. */
#ifndef RETRYD_TARGETS_BUDGET_H
#define RETRYD_TARGETS_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

#define BUDGET_WINDOW_MS 10000
#define BUDGET_BUCKETS 20 /* of the window */

struct budget_bucket {
    uint64_t number; /* its start in units of window / buckets */
    unsigned requests, repeats;
};

struct budget {
    struct budget_bucket buckets[BUDGET_BUCKETS];
};

void budget_init(struct budget *b);

/* Counts a request that goes to the upstream for the first time. */
void budget_request(struct budget *b, uint64_t now_ms);

/* Counts a repeat by others (an SDK), allowed or not. */
void budget_charge(struct budget *b, uint64_t now_ms);

/* Charges a repeat. Returns false without charging it if there is no room. */
bool budget_repeat(struct budget *b, unsigned percent, unsigned min, uint64_t now_ms);

/* Returns the counts in the window now. */
void budget_count(const struct budget *b, uint64_t now_ms, uint64_t *ret_requests,
                  uint64_t *ret_repeats);

/* Returns the number of repeats that have room now. */
unsigned budget_left(const struct budget *b, unsigned percent, unsigned min, uint64_t now_ms);

#endif
