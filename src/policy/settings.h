/* The settings of a route: retries, timeouts, streaming and queueing, as configured.
 *
 * They correspond to the sections [retry], [timeout], [stream], [breaker], [queue] and [hedge], and
 * to a route's overrides of them (docs/configuration.md). All times are in milliseconds. A settings
 * object does not change once a request uses it. */
#ifndef RETRYD_POLICY_SETTINGS_H
#define RETRYD_POLICY_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

enum jitter {
    JITTER_NONE,  /* the exact exponential delay d */
    JITTER_FULL,  /* uniform in [0, d] */
    JITTER_EQUAL, /* d/2 fixed, d/2 uniform */
};

/* The failures that `retry_on` can name, as bits. */
enum retry_on {
    RETRY_ON_CONNECT = 1 << 0, /* DNS, connect, TLS: nothing was sent */
    RETRY_ON_RESET = 1 << 1,   /* connection lost before the end of the response; not HTTP */
    RETRY_ON_TIMEOUT = 1 << 2,
    RETRY_ON_408 = 1 << 3,
    RETRY_ON_409 = 1 << 4,
    RETRY_ON_425 = 1 << 5,
    RETRY_ON_429 = 1 << 6,
    RETRY_ON_5XX = 1 << 7,   /* every 5xx except 501 and 505, and 498: no capacity */
    RETRY_ON_EMPTY = 1 << 8, /* a completion without content; retried once */
    RETRY_ON_ALL = (1 << 9) - 1,
};

/* The failures that `fallback_on` can name, as bits. */
enum fallback_on {
    FALLBACK_ON_ERROR = 1 << 0,   /* any other failure */
    FALLBACK_ON_TIMEOUT = 1 << 1, /* no headers, no content or no next piece in time */
    FALLBACK_ON_CONTEXT = 1 << 2, /* the request is too long for the model */
    FALLBACK_ON_ALL = (1 << 3) - 1,
};

enum stream_mode { STREAM_LIVE, STREAM_SPLICE, STREAM_HOLD };

struct backoff_settings {
    uint64_t initial_delay_ms;
    double multiplier; /* >= 1 */
    uint64_t max_delay_ms;
    enum jitter jitter;
};

struct retry_settings {
    unsigned max_attempts;      /* per request, including the first one; >= 1 */
    unsigned attempts_per_tier; /* >= 1 */
    struct backoff_settings backoff;
    unsigned retry_on; /* enum retry_on bits */
    bool retry_ambiguous;
    uint64_t max_hint_ms;
    uint64_t deadline_ms; /* 0: none */
    unsigned budget_percent;
    unsigned budget_min;       /* retries per second that are always allowed */
    uint64_t repeat_window_ms; /* how long a failed request is remembered; 0: not at all */
};

struct timeout_settings {
    uint64_t connect_ms;
    uint64_t first_byte_ms;    /* until the response headers; 0: none */
    uint64_t first_content_ms; /* until a stream's first content; 0: none */
    uint64_t idle_ms;          /* between two pieces of a response; 0: none */
    uint64_t total_ms;         /* of one attempt; 0: none */
};

struct stream_settings {
    enum stream_mode mode;
    uint64_t heartbeat_ms;    /* 0: off */
    uint64_t mend_timeout_ms; /* for all breaks of one response together; 0: no limit */
};

struct breaker_settings {
    unsigned failures;             /* in a row; 0: not counted */
    unsigned failure_rate_percent; /* 0: not counted */
    uint64_t window_ms;
    uint64_t open_for_ms;
};

/* Waiting for a turn at a target: for its gate, its limits, or a probe. */
struct queue_settings {
    unsigned size;       /* maximum number of waiting requests, over all routes */
    uint64_t timeout_ms; /* of one wait */
};

enum hedge_what {
    HEDGE_SAFE, /* safe to send twice: GET, HEAD, embeddings and such, token counts */
    HEDGE_ALL,
};

struct hedge_settings {
    uint64_t after_ms; /* silence before a second attempt is added to the first; 0: off */
    enum hedge_what requests;
};

struct route_settings {
    struct retry_settings retry;
    struct timeout_settings timeout;
    struct stream_settings stream;
    struct breaker_settings breaker;
    struct queue_settings queue;
    struct hedge_settings hedge;
};

#endif
