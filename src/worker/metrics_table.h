/* The metrics: one row for each family, in the order of /metrics.
 *
 * Names follow Prometheus' rules: base units, `_total` for counters. docs/metrics.md has the same
 * rows, and a test compares them. Labels have a limited number of values; if clients or the
 * configuration choose them, those beyond the limit share the value "other". */
#ifndef RETRYD_WORKER_METRICS_TABLE_H
#define RETRYD_WORKER_METRICS_TABLE_H

#include <stdint.h>

#include "base/buf.h"

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

/* X(constant, type, name, labels, help) */
#define METRICS_OF_REQUESTS(X)                                                                   \
    X(REQUESTS, COUNTER, "retryd_requests_total", "", "Requests received.")                      \
    X(REQUESTS_ACTIVE, GAUGE, "retryd_requests_active", "", "Requests in progress.")             \
    X(REFUSED, COUNTER, "retryd_refused_total", "", "Requests refused before any attempt.")      \
    X(UNAUTHORIZED, COUNTER, "retryd_unauthorized_total", "",                                    \
      "Of these, requests without a client token that is known.")                                \
    X(SHED, COUNTER, "retryd_requests_shed_total", "",                                           \
      "Of these, requests refused because memory was short.")                                    \
    X(ENDED, COUNTER, "retryd_requests_ended_total", "end", "Requests by how they ended.")       \
    X(RESCUED, COUNTER, "retryd_rescued_total", "",                                              \
      "Requests that failed at first and were answered in the end.")                             \
    X(UNTRIED, COUNTER, "retryd_requests_untried_total", "reason",                               \
      "Requests that failed without an attempt, since no target was free in time, by reason.")   \
    X(DURATION, HISTOGRAM, "retryd_request_duration_seconds", "upstream, outcome",               \
      "Time from a request's headers to the end of its response.")                               \
    X(FIRST_BYTE, HISTOGRAM, "retryd_request_first_byte_seconds", "upstream, outcome",           \
      "Time from a request's headers to the first byte of its response, if one began.")          \
    X(WAIT, HISTOGRAM, "retryd_request_wait_seconds", "upstream, outcome",                       \
      "Time that a request spent waiting, in backoff and in the queue.")                         \
    X(CLIENT_REQUESTS, COUNTER, "retryd_client_requests_total", "client",                        \
      "Requests by the name of the client token that they carried.")                             \
    X(SDK_RETRIES, COUNTER, "retryd_sdk_retries_total", "",                                      \
      "Requests that an SDK sent again on its own.")                                             \
    X(CLIENT_REPEATS, COUNTER, "retryd_client_repeats_total", "",                                \
      "Requests that clients sent again soon after their final failure; each gets one attempt.") \
    X(RESPONSE_BYTES, COUNTER, "retryd_answer_bytes_total", "",                                  \
      "Bytes of responses handed to clients.")                                                   \
    X(EVENTS, COUNTER, "retryd_stream_events_total", "", "Stream events forwarded.")             \
    X(EVENTS_MALFORMED, COUNTER, "retryd_stream_events_malformed_total", "",                     \
      "Stream events left out because they were not JSON.")                                      \
    X(EVENTS_UNFIT, COUNTER, "retryd_stream_events_unfit_total", "",                             \
      "Stream events left out because they had no data, which SDKs cannot read.")                \
    X(SPLICED, COUNTER, "retryd_streams_spliced_total", "",                                      \
      "Broken streams that another attempt continued.")

#define METRICS_OF_ATTEMPTS(X)                                                                     \
    X(ATTEMPTS, COUNTER, "retryd_attempts_total", "upstream", "Attempts made at upstreams.")       \
    X(FAILED, COUNTER, "retryd_attempts_failed_total", "upstream, status, reason",                 \
      "Failed attempts by the class of their status (none: no response) and by reason.")           \
    X(RETRIES, COUNTER, "retryd_retries_total", "reason",                                          \
      "Failed attempts that were followed by another, by reason.")                                 \
    X(DENIED, COUNTER, "retryd_retries_denied_total", "",                                          \
      "Retries that an upstream's retry budget had no room for.")                                  \
    X(HEDGES, COUNTER, "retryd_hedges_total", "", "Second attempts that joined a slow first one.") \
    X(DUPLICATES, COUNTER, "retryd_possible_duplicates_total", "",                                 \
      "Attempts repeated though the one before may have been processed and charged.")              \
    X(RESENDS_VETOED, COUNTER, "retryd_resends_vetoed_total", "",                                  \
      "Silent retries by the HTTP library that were stopped.")

#define METRICS_OF_CONNECTIONS(X)                                                                 \
    X(CLIENTS, GAUGE, "retryd_client_connections", "", "Open client connections.")                \
    X(CLIENTS_ACCEPTED, COUNTER, "retryd_client_connections_total", "",                           \
      "Client connections accepted.")                                                             \
    X(OPEN, GAUGE, "retryd_upstream_connections_open", "", "Open connections to upstreams.")      \
    X(OPENED, COUNTER, "retryd_upstream_connections_total", "",                                   \
      "Connections opened to upstreams.")                                                         \
    X(REUSED, COUNTER, "retryd_upstream_reused_total", "", "Attempts sent on a kept connection.") \
    X(STALE, COUNTER, "retryd_upstream_stale_total", "",                                          \
      "Kept connections closed because the peer had closed them or sent unexpected bytes.")       \
    X(HANDSHAKES, COUNTER, "retryd_upstream_tls_handshakes_total", "",                            \
      "Complete TLS handshakes with upstreams.")                                                  \
    X(HANDSHAKE_TIME, COUNTER, "retryd_upstream_tls_handshake_seconds_total", "",                 \
      "Time that these handshakes took.")

#define METRICS_OF_TARGETS(X)                                                                   \
    X(IN_FLIGHT, GAUGE, "retryd_target_in_flight", "upstream",                                  \
      "Attempts under way at an upstream.")                                                     \
    X(CONCURRENCY_LIMIT, GAUGE, "retryd_target_concurrency_limit", "upstream",                  \
      "The upstream's max_concurrency, if it has one.")                                         \
    X(RATE_LIMIT, GAUGE, "retryd_rate_limit_per_second", "upstream",                            \
      "The upstream's requests_per_minute as a rate, if it has one.")                           \
    X(RATE_SECONDS, GAUGE, "retryd_rate_wait_seconds", "upstream",                              \
      "Time until requests_per_minute lets the next attempt through.")                          \
    X(BUDGET_REQUESTS, GAUGE, "retryd_budget_requests", "upstream",                             \
      "Requests in the last 10 s, which the retry budget is a share of.")                       \
    X(BUDGET_RETRIES, GAUGE, "retryd_budget_retries", "upstream",                               \
      "Retries in the last 10 s, which the retry budget limits.")                               \
    X(GATE_CLOSED, COUNTER, "retryd_gate_closed_total", "upstream, model, operation, key",      \
      "Times that a 429 closed a target's gate.")                                               \
    X(GATE_SECONDS, GAUGE, "retryd_gate_closed_seconds", "upstream, model, operation, key",     \
      "Time until a closed gate opens.")                                                        \
    X(PACE, GAUGE, "retryd_pace_per_second", "upstream, model, operation, key",                 \
      "Attempts per second that adaptive pacing allows at a target.")                           \
    X(BREAKER_OPENED, COUNTER, "retryd_breaker_opened_total", "upstream, model, operation",     \
      "Times that a target's breaker opened.")                                                  \
    X(BREAKER_STATE, GAUGE, "retryd_breaker_state", "upstream, model, operation",               \
      "0: closed; 1: a probe is under way; 2: open.")                                           \
    X(BREAKER_SECONDS, GAUGE, "retryd_breaker_open_seconds", "upstream, model, operation",      \
      "Time until an open breaker lets a probe through.")                                       \
    X(FALLBACKS, COUNTER, "retryd_fallbacks_total", "upstream, model, operation",               \
      "Attempts at a model as a fallback for another.")                                         \
    X(KEY_ASIDE, COUNTER, "retryd_keys_set_aside_total", "upstream, key",                       \
      "Times that a key was out of quota or rejected.")                                         \
    X(KEY_SECONDS, GAUGE, "retryd_key_aside_seconds", "upstream, key",                          \
      "Time until such a key is used again.")                                                   \
    X(TARGET_WAITING, GAUGE, "retryd_target_waiting", "upstream, model, operation, key",        \
      "Requests in the queue that this target may serve, perhaps among others.")                \
    X(WAITING, GAUGE, "retryd_queue_waiting", "", "Requests that wait for a turn at a target.") \
    X(WAITS, COUNTER, "retryd_queue_waits_total", "why", "Waits for a turn by what they were for.")

#define METRICS_OF_DAEMONS(X)                                                                 \
    X(SHARED_UP, GAUGE, "retryd_shared_up", "", "Whether daemons share their view now.")      \
    X(SHARED_SENT, COUNTER, "retryd_shared_sent_total", "",                                   \
      "News and counts sent to the shared view.")                                             \
    X(SHARED_RECEIVED, COUNTER, "retryd_shared_received_total", "", "News of other daemons.") \
    X(SHARED_DROPPED, COUNTER, "retryd_shared_dropped_total", "", "News that found no room.") \
    X(SHARED_LOSSES, COUNTER, "retryd_shared_losses_total", "",                               \
      "Times that the shared view was lost.")                                                 \
    X(RELOAD_SUCCESSFUL, GAUGE, "retryd_config_last_reload_successful", "",                   \
      "1: the last reload succeeded, or there was none yet.")                                 \
    X(RELOAD_TRIED, GAUGE, "retryd_config_last_reload_timestamp_seconds", "",                 \
      "When the file was last read, successfully or not.")                                    \
    X(RELOAD_TAKEN, GAUGE, "retryd_config_last_reload_success_timestamp_seconds", "",         \
      "When the configuration in force was read.")                                            \
    X(CONFIG_CHANGED, GAUGE, "retryd_config_changed_on_disk", "",                             \
      "1: the file on disk differs from the one in force.")                                   \
    X(BUFFERED, GAUGE, "retryd_buffered_bytes", "", "Bodies and responses in memory.")        \
    X(BUFFERED_MAX, GAUGE, "retryd_buffered_max_bytes", "",                                   \
      "The maximum of retryd_buffered_bytes so far.")                                         \
    X(SPOOLED, COUNTER, "retryd_spooled_bytes_total", "",                                     \
      "Bytes put into files instead of memory.")                                              \
    X(LAG, GAUGE, "retryd_loop_lag_max_seconds", "",                                          \
      "The longest iteration of an event loop in the last minute.")                           \
    X(LOG_DROPPED, COUNTER, "retryd_log_lines_dropped_total", "",                             \
      "Log lines dropped because the log's reader was too slow.")                             \
    X(BUILD, GAUGE, "retryd_build_info", "version, libmicrohttpd, libcurl",                   \
      "Always 1; its labels are the versions.")                                               \
    X(PROCESS_CPU, COUNTER, "process_cpu_seconds_total", "", "CPU time of the process.")      \
    X(PROCESS_RESIDENT, GAUGE, "process_resident_memory_bytes", "", "Memory in RAM.")         \
    X(PROCESS_VIRTUAL, GAUGE, "process_virtual_memory_bytes", "", "Memory that is mapped.")   \
    X(PROCESS_FDS, GAUGE, "process_open_fds", "", "Open file descriptors.")                   \
    X(PROCESS_MAX_FDS, GAUGE, "process_max_fds", "", "Limit of open file descriptors.")       \
    X(PROCESS_START, GAUGE, "process_start_time_seconds", "", "When the process started.")

#define METRICS_FAMILIES(X)   \
    METRICS_OF_REQUESTS(X)    \
    METRICS_OF_ATTEMPTS(X)    \
    METRICS_OF_CONNECTIONS(X) \
    METRICS_OF_TARGETS(X)     \
    METRICS_OF_DAEMONS(X)

enum metric {
#define X(constant, type, name, labels, help) METRIC_##constant,
    METRICS_FAMILIES(X)
#undef X
        METRIC_FAMILIES
};

struct metrics_family {
    const char *name, *labels, *help;
    enum metric_type type;
};

extern const struct metrics_family metrics_families[METRIC_FAMILIES];

const char *metrics_type_word(enum metric_type type);

/* Writes HELP and TYPE, which the text format 0.0.4 has once, before all samples of a family. */
void metrics_write_head(struct buf *out, enum metric m);

/* Writes HELP, TYPE and sample of a family without labels. */
void metrics_write_count(struct buf *out, enum metric m, uint64_t value);

/* Writes name="value", escaped, with a comma before it unless it follows the brace. */
void metrics_write_label(struct buf *out, const char *name, const char *value);

#endif
