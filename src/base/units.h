/* Durations and sizes as people write them in a configuration or a header field. */
#ifndef RETRYD_BASE_UNITS_H
#define RETRYD_BASE_UNITS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

/* Parses "250ms", "30s", "1.5s", "10m", "2h", "1d", or "0", which needs no unit. The result is in
 * milliseconds, rounded up. Returns false for anything else, and on overflow (beyond 584 years). */
bool units_duration(struct str s, uint64_t *ret_ms);

/* Parses a duration in Go's format, which x-ratelimit-reset-* headers use: "1s", "6m0s", "12ms",
 * "1h2m3.5s", "500us". The result is in milliseconds, rounded up. */
bool units_go_duration(struct str s, uint64_t *ret_ms);

/* Parses all of `s` as a decimal number (str_to_decimal) of units of `unit_ms`. The result is in
 * milliseconds, rounded up, and at most UNITS_MS_MAX, which is exact in a double. */
#define UNITS_MS_MAX (UINT64_C(1) << 52)
bool units_decimal_ms(struct str s, double unit_ms, uint64_t *ret_ms);

/* Parses "512", "64K", "512M", "2G" (powers of 1024, with an optional trailing B) as bytes. */
bool units_size(struct str s, uint64_t *ret_bytes);

/* Write a duration ("0", "250ms", "90s", "10m", "1d") or a size ("512", "64K") to `out`, in the
 * largest unit that divides it, and return `out`. Parsing the text gives the same value again. */
#define UNITS_TEXT_MAX 32
const char *units_duration_text(uint64_t ms, char out[UNITS_TEXT_MAX]);
const char *units_size_text(uint64_t bytes, char out[UNITS_TEXT_MAX]);

#endif
