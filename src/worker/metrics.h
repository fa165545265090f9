/* The counters of a worker: written only by that worker, and summed when they are read. */
#ifndef RETRYD_WORKER_METRICS_H
#define RETRYD_WORKER_METRICS_H

#include <stdatomic.h>
#include <stdint.h>

#include "exchange/exchange.h"
#include "policy/reason.h"
#include "worker/metrics_table.h"

/* --- peaks ------------------------------------------------------------------------------------ */

/* The largest value of the last minute. Reading does not reset it, so any number of readers may
 * poll. Thread-safe: if two threads note values at once, the larger one is kept. */
#define PEAK_SLOT_MS 10000
#define PEAK_SLOTS 7       /* a value counts for at least 60 s and at most 70 s */
#define PEAK_VALUE_BITS 40 /* larger values are cut to PEAK_VALUE_MAX */
#define PEAK_VALUE_MAX ((UINT64_C(1) << PEAK_VALUE_BITS) - 1)

/* A zeroed struct has no values. Each slot holds the number of its 10 s period in the upper 24
 * bits, which wrap after five years, and the largest value of that period below. */
struct peak {
    _Atomic uint64_t slots[PEAK_SLOTS];
};

static inline uint64_t peak_number(uint64_t now_ms)
{
    return (now_ms / PEAK_SLOT_MS) & (UINT64_MAX >> PEAK_VALUE_BITS);
}

static inline void peak_note(struct peak *p, uint64_t value, uint64_t now_ms)
{
    uint64_t number = peak_number(now_ms);
    uint64_t now = number << PEAK_VALUE_BITS | (value < PEAK_VALUE_MAX ? value : PEAK_VALUE_MAX);
    _Atomic uint64_t *slot = &p->slots[now_ms / PEAK_SLOT_MS % PEAK_SLOTS];
    uint64_t before = atomic_load_explicit(slot, memory_order_relaxed);

    while ((before >> PEAK_VALUE_BITS != number || before < now) &&
           !atomic_compare_exchange_weak_explicit(slot, &before, now, memory_order_relaxed,
                                                  memory_order_relaxed))
        ;
}

static inline uint64_t peak_read(struct peak *p, uint64_t now_ms)
{
    uint64_t number = peak_number(now_ms), most = 0;

    for (unsigned i = 0; i < PEAK_SLOTS; i++) {
        uint64_t slot = atomic_load_explicit(&p->slots[i], memory_order_relaxed);
        uint64_t age = (number - (slot >> PEAK_VALUE_BITS)) & (UINT64_MAX >> PEAK_VALUE_BITS);
        uint64_t value = slot & PEAK_VALUE_MAX;

        if (age < PEAK_SLOTS && value > most)
            most = value;
    }
    return most;
}

/* --- a worker's counters ---------------------------------------------------------------------- */

/* X(field, family): one number each. */
#define METRICS_SUMS(X)                       \
    X(requests, REQUESTS)                     \
    X(active, REQUESTS_ACTIVE)                \
    X(refused, REFUSED)                       \
    X(unauthorized, UNAUTHORIZED)             \
    X(shed, SHED)                             \
    X(rescued, RESCUED)                       \
    X(sdk_retries, SDK_RETRIES)               \
    X(client_repeats, CLIENT_REPEATS)         \
    X(bytes_out, RESPONSE_BYTES)              \
    X(events, EVENTS)                         \
    X(events_malformed, EVENTS_MALFORMED)     \
    X(events_unfit, EVENTS_UNFIT)             \
    X(spliced, SPLICED)                       \
    X(hedges, HEDGES)                         \
    X(duplicates, DUPLICATES)                 \
    X(resends_vetoed, RESENDS_VETOED)         \
    X(connections, CLIENTS)                   \
    X(connections_accepted, CLIENTS_ACCEPTED) \
    X(connections_open, OPEN)                 \
    X(connections_opened, OPENED)             \
    X(connections_reused, REUSED)             \
    X(connections_stale, STALE)               \
    X(handshakes, HANDSHAKES)                 \
    X(buffered, BUFFERED)                     \
    X(spooled_bytes, SPOOLED)

/* --- by upstream and by client ---------------------------------------------------------------- */

#define METRICS_NAMES_MAX 50 /* of upstreams, and of clients; further ones share the name "other" */
#define METRICS_NAME_MAX 64
#define METRICS_BUCKETS 14       /* of histograms, without the last one; see metrics.c */
#define METRICS_STATUS_CLASSES 6 /* none, 1xx to 5xx */
#define METRICS_OUTCOMES (END_CLIENT_GONE + 1)

struct metrics_histogram {
    _Atomic uint64_t counts[METRICS_BUCKETS + 1], sum_ms;
};

struct metrics_named {
    char name[METRICS_NAME_MAX];
};

struct metrics_upstream {
    struct metrics_named named;
    _Atomic uint64_t attempts;
    _Atomic uint64_t failed[METRICS_STATUS_CLASSES][REASON_COUNT];
    struct metrics_histogram duration[METRICS_OUTCOMES];
    struct metrics_histogram first_byte[METRICS_OUTCOMES];
    struct metrics_histogram wait[METRICS_OUTCOMES];
};

struct metrics_client {
    struct metrics_named named;
    _Atomic uint64_t requests;
};

/* A list that the worker adds to while other threads read it. */
struct metrics_list {
    atomic_uint count;
    struct metrics_named *_Atomic items[METRICS_NAMES_MAX];
};

struct metrics {
#define X(field, family) _Atomic uint64_t field;
    METRICS_SUMS(X)
#undef X
    _Atomic uint64_t handshake_us;
    _Atomic uint64_t attempts, wait_ms, duration_ms, failures[REASON_COUNT]; /* at all upstreams */
    _Atomic uint64_t upstream_ms, queue_ms;     /* parts of duration_ms; see wait_ms, too */
    _Atomic uint64_t ends[END_CLIENT_GONE + 1]; /* requests by how they ended */
    _Atomic uint64_t retries[REASON_COUNT];     /* failed attempts followed by another, by reason */
    _Atomic uint64_t untried[REASON_COUNT];     /* requests without an attempt, by reason */
    struct peak lag;                            /* duration of the event loop's iterations in ms */
    struct metrics_list upstreams, clients;
    struct metrics_upstream other_upstream,
        no_upstream; /* of upstreams beyond the limit; and before any was chosen */
    struct metrics_client other_client;
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

void metrics_init(struct metrics *m);
void metrics_deinit(struct metrics *m);

/* Returns the counters of that name, which it adds if there are none yet. Keep the pointer instead
 * of looking it up for each request. Never NULL. */
struct metrics_upstream *metrics_upstream(struct metrics *m, const char *name);
struct metrics_client *metrics_client(struct metrics *m, const char *name);

/* Counts a failed attempt; `status` is 0 if there was no response. */
void metrics_failed(struct metrics_upstream *u, unsigned status, enum reason reason);

/* Counts a request that has ended. */
void metrics_request(struct metrics_upstream *u, const struct exchange *x);

/* The outcomes of all requests, in the words of `retryd run`. */
struct metrics_sum {
    uint64_t requests, rescued, failed; /* failed: finally, after any number of attempts */
    uint64_t failures;                  /* failed attempts */
    uint64_t retries;                   /* of those: followed by another */
    uint64_t wait_ms;
};

void metrics_add_to_sum(const struct metrics *m, struct metrics_sum *sum);

/* Writes the sum of `count` sets in the Prometheus text format 0.0.4. */
void metrics_write(struct metrics *const *sets, unsigned count, uint64_t now_ms, struct buf *out);

/* The system's figures of the process: CPU time, and memory in bytes (0: it cannot be read). */
struct metrics_process {
    uint64_t cpu_us, resident, all;
};
struct metrics_process metrics_process(void);
/* Writes the metrics of the process. */
void metrics_write_process(struct buf *out);

#endif
