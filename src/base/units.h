/* Durations, sizes and percentages as people write them in a configuration or a header. */
#ifndef RETRYD_BASE_UNITS_H
#define RETRYD_BASE_UNITS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

/* "250ms", "30s", "1.5s", "10m", "2h", "1d"; "0" alone needs no unit. Result in milliseconds,
 * rounded up. False on anything else or on overflow (beyond 584 years). */
bool units_duration(struct str s, uint64_t *ret_ms);

/* Go's duration form, as the API's x-ratelimit-reset-* headers use it: "1s", "6m0s", "12ms",
 * "1h2m3.5s", "500us". Result in milliseconds, rounded up. */
bool units_go_duration(struct str s, uint64_t *ret_ms);

/* "512", "64K", "512M", "2G" (powers of 1024, an optional B behind). Result in bytes. */
bool units_size(struct str s, uint64_t *ret_bytes);

/* Writes a duration ("0", "250ms", "90s", "10m", "1d") or size ("512", "64K") into `out`, in the
 * largest unit that divides it, and returns `out`. Reading it back gives the same value. */
#define UNITS_TEXT_MAX 32
const char *units_duration_text(uint64_t ms, char out[UNITS_TEXT_MAX]);
const char *units_size_text(uint64_t bytes, char out[UNITS_TEXT_MAX]);

#endif
