/* Metrics: one set of counters per worker, written only by that worker and summed when read. */
#ifndef RETRYD_DAEMON_METRICS_H
#define RETRYD_DAEMON_METRICS_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/peak.h"
#include "exchange/exchange.h"
#include "policy/reason.h"

/* X(field, name, help) */
#define METRICS_COUNTERS(X)                                                                        \
    X(requests, "retryd_requests_total", "Requests received.")                                     \
    X(refused, "retryd_refused_total", "Requests refused before any attempt.")                     \
    X(rescued, "retryd_rescued_total",                                                             \
      "Requests that failed at first and were answered in the end.")                               \
    X(attempts, "retryd_attempts_total", "Attempts made at upstreams.")                            \
    X(wait_ms, "retryd_wait_milliseconds_total", "Time that requests spent waiting to try again.") \
    X(hedges, "retryd_hedges_total", "Second attempts that joined a slow first one.")              \
    X(duplicates, "retryd_possible_duplicates_total",                                              \
      "Attempts repeated though the one before may have been processed and charged.")              \
    X(sdk_retries, "retryd_sdk_retries_total", "Requests that an SDK sent again on its own.")      \
    X(client_repeats, "retryd_client_repeats_total",                                               \
      "Requests that clients sent again soon after their final failure; each gets one attempt.")   \
    X(bytes_out, "retryd_answer_bytes_total", "Bytes of responses handed to clients.")             \
    X(events, "retryd_stream_events_total", "Stream events forwarded.")                            \
    X(events_malformed, "retryd_stream_events_malformed_total",                                    \
      "Stream events left out because they were not JSON.")                                        \
    X(events_unfit, "retryd_stream_events_unfit_total",                                            \
      "Stream events left out because they had no data, which SDKs cannot read.")                  \
    X(spliced, "retryd_streams_spliced_total", "Broken streams that another attempt continued.")   \
    X(connections_opened, "retryd_upstream_connections_total", "Connections opened to upstreams.") \
    X(connections_reused, "retryd_upstream_reused_total", "Attempts sent on a kept connection.")   \
    X(connections_stale, "retryd_upstream_stale_total",                                            \
      "Kept connections closed because the peer had closed them or sent unexpected bytes.")        \
    X(resends_vetoed, "retryd_resends_vetoed_total",                                               \
      "Silent retries by the HTTP library that were stopped.")                                     \
    X(spooled_bytes, "retryd_spooled_bytes_total", "Bytes put into files instead of memory.")      \
    X(shed, "retryd_requests_shed_total", "Requests refused because memory was short.")

/* X(field, name, help) */
#define METRICS_GAUGES(X)                                                   \
    X(active, "retryd_requests_active", "Requests in progress.")            \
    X(connections, "retryd_client_connections", "Open client connections.") \
    X(buffered, "retryd_buffered_bytes", "Bodies and responses in memory, in bytes.")

#define METRICS_BUCKETS 10 /* of request durations; see metrics.c */

struct metrics {
#define X(field, name, help) _Atomic uint64_t field;
    METRICS_COUNTERS(X)
    METRICS_GAUGES(X)
#undef X
    _Atomic uint64_t ends[END_CLIENT_GONE + 1]; /* requests by how they ended */
    _Atomic uint64_t failures[REASON_COUNT];    /* failed attempts by reason */
    _Atomic uint64_t retries[REASON_COUNT];     /* failed attempts followed by another, by reason */
    _Atomic uint64_t untried[REASON_COUNT];     /* requests without an attempt, by reason */
    _Atomic uint64_t duration[METRICS_BUCKETS + 1]; /* requests by duration */
    _Atomic uint64_t duration_ms;
    struct peak lag; /* duration of the event loop's turns in ms */
};

/* Only the owning worker writes, so no atomic read-modify-write is needed. */
static inline void metrics_add(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

static inline void metrics_set(_Atomic uint64_t *gauge, uint64_t n)
{
    atomic_store_explicit(gauge, n, memory_order_relaxed);
}

void metrics_duration(struct metrics *m, uint64_t ms);

/* Writes the sum of `count` sets in the Prometheus text format 0.0.4. */
void metrics_write(struct metrics *const *sets, unsigned count, uint64_t now_ms, struct buf *out);

#endif
