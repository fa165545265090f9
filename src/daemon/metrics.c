/* Sums the workers' counters and writes them for Prometheus. */
#include "daemon/metrics.h"

#include "base/log.h"
#include "daemon/pressure.h"

static const uint64_t bucket_limits_ms[METRICS_BUCKETS] = {10,   50,    100,   500,   1000,
                                                           5000, 10000, 30000, 60000, 300000};

void metrics_duration(struct metrics *m, uint64_t ms)
{
    unsigned i = 0;

    while (i < METRICS_BUCKETS && ms > bucket_limits_ms[i])
        i++;
    metrics_add(&m->duration[i], 1);
    metrics_add(&m->duration_ms, ms);
}

static uint64_t sum(struct metrics *const *sets, unsigned count, size_t offset)
{
    uint64_t total = 0;

    for (unsigned i = 0; i < count; i++)
        total += atomic_load_explicit((_Atomic uint64_t *)(void *)((char *)sets[i] + offset),
                                      memory_order_relaxed);
    return total;
}

static void head(struct buf *out, const char *name, const char *type, const char *help)
{
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void write_plain(struct metrics *const *sets, unsigned count, struct buf *out)
{
#define X(field, name, help)           \
    head(out, name, "counter", help);  \
    buf_printf(out, "%s %llu\n", name, \
               (unsigned long long)sum(sets, count, offsetof(struct metrics, field)));
    METRICS_COUNTERS(X)
#undef X
    head(out, "retryd_log_lines_dropped_total", "counter",
         "Log lines dropped because the log's reader was too slow.");
    buf_printf(out, "retryd_log_lines_dropped_total %llu\n", (unsigned long long)log_dropped());
}

static uint64_t largest_lag(struct metrics *const *sets, unsigned count, uint64_t now_ms)
{
    uint64_t most = 0;

    for (unsigned i = 0; i < count; i++) {
        uint64_t lag = peak_read(&sets[i]->lag, now_ms);

        most = lag > most ? lag : most;
    }
    return most;
}

static void write_gauges(struct metrics *const *sets, unsigned count, uint64_t now_ms,
                         struct buf *out)
{
#define X(field, name, help)           \
    head(out, name, "gauge", help);    \
    buf_printf(out, "%s %llu\n", name, \
               (unsigned long long)sum(sets, count, offsetof(struct metrics, field)));
    METRICS_GAUGES(X)
#undef X
    head(out, "retryd_loop_lag_max_milliseconds", "gauge",
         "The longest turn of an event loop in the last minute.");
    buf_printf(out, "retryd_loop_lag_max_milliseconds %llu\n",
               (unsigned long long)largest_lag(sets, count, now_ms));
    head(out, "retryd_buffered_bytes_max", "gauge", "The maximum of retryd_buffered_bytes so far.");
    buf_printf(out, "retryd_buffered_bytes_max %llu\n", (unsigned long long)pressure_most());
}

static void write_by_reason(struct metrics *const *sets, unsigned count, struct buf *out,
                            const char *name, const char *help, size_t offset)
{
    head(out, name, "counter", help);
    for (unsigned r = 1; r < REASON_COUNT; r++) {
        uint64_t n = sum(sets, count, offset + r * sizeof(uint64_t));

        if (n)
            buf_printf(out, "%s{reason=\"%s\"} %llu\n", name, reason_word((enum reason)r),
                       (unsigned long long)n);
    }
}

static void write_ends(struct metrics *const *sets, unsigned count, struct buf *out)
{
    head(out, "retryd_requests_ended_total", "counter", "Requests by how they ended.");
    for (unsigned e = END_ANSWERED; e <= END_CLIENT_GONE; e++)
        buf_printf(out, "retryd_requests_ended_total{end=\"%s\"} %llu\n",
                   exchange_end_word((enum exchange_end)e),
                   (unsigned long long)sum(sets, count,
                                           offsetof(struct metrics, ends) + e * sizeof(uint64_t)));
}

static void write_durations(struct metrics *const *sets, unsigned count, struct buf *out)
{
    static const char name[] = "retryd_request_duration_seconds";
    uint64_t total = 0;

    head(out, name, "histogram", "From a request's head to the end of its response.");
    for (unsigned i = 0; i <= METRICS_BUCKETS; i++) {
        total += sum(sets, count, offsetof(struct metrics, duration) + i * sizeof(uint64_t));
        if (i < METRICS_BUCKETS)
            buf_printf(out, "%s_bucket{le=\"%g\"} %llu\n", name, (double)bucket_limits_ms[i] / 1000,
                       (unsigned long long)total);
        else
            buf_printf(out, "%s_bucket{le=\"+Inf\"} %llu\n", name, (unsigned long long)total);
    }
    buf_printf(out, "%s_sum %.3f\n%s_count %llu\n", name,
               (double)sum(sets, count, offsetof(struct metrics, duration_ms)) / 1000, name,
               (unsigned long long)total);
}

void metrics_write(struct metrics *const *sets, unsigned count, uint64_t now_ms, struct buf *out)
{
    write_plain(sets, count, out);
    write_gauges(sets, count, now_ms, out);
    write_ends(sets, count, out);
    write_by_reason(sets, count, out, "retryd_attempts_failed_total", "Failed attempts by reason.",
                    offsetof(struct metrics, failures));
    write_by_reason(sets, count, out, "retryd_retries_total",
                    "Failed attempts that were followed by another, by reason.",
                    offsetof(struct metrics, retries));
    write_by_reason(
        sets, count, out, "retryd_requests_untried_total",
        "Requests that failed without an attempt, since no target was free in time, by reason.",
        offsetof(struct metrics, untried));
    write_durations(sets, count, out);
}
