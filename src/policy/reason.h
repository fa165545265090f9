/* The reasons why an attempt or a request ended, as one word shared by the log, the metrics and
 * error codes. */
#ifndef RETRYD_POLICY_REASON_H
#define RETRYD_POLICY_REASON_H

/* X(constant, word). The words are stable: they are metric labels, log values, and the `code` of
 * retryd's own errors. */
#define REASONS(X)                                    \
    X(OK, "ok")                                       \
    X(DNS, "dns_failed")                              \
    X(CONNECT, "connect_failed")                      \
    X(TLS, "tls_failed")                              \
    X(CERTIFICATE, "certificate_rejected")            \
    X(PROXY, "proxy_failed")                          \
    X(STALE, "stale_connection")                      \
    X(LOST_UPLOAD, "upload_broken")                   \
    X(LOST, "connection_lost")                        \
    X(TRUNCATED, "answer_truncated")                  \
    X(BAD_RESPONSE, "answer_unreadable")              \
    X(LARGE_HEADERS, "response_headers_too_large")    \
    X(CONNECT_TIMEOUT, "connect_timeout")             \
    X(UPLOAD_TIMEOUT, "upload_timeout")               \
    X(FIRST_BYTE_TIMEOUT, "first_byte_timeout")       \
    X(FIRST_CONTENT_TIMEOUT, "first_content_timeout") \
    X(IDLE_TIMEOUT, "idle_timeout")                   \
    X(TOTAL_TIMEOUT, "total_timeout")                 \
    X(DEADLINE, "deadline_exceeded")                  \
    X(REQUEST_TIMEOUT, "request_timeout")             \
    X(CONFLICT, "conflict")                           \
    X(TOO_EARLY, "too_early")                         \
    X(RATE_LIMIT, "rate_limited")                     \
    X(OVERLOADED, "overloaded")                       \
    X(SERVER_ERROR, "server_error")                   \
    X(BAD_GATEWAY, "bad_gateway")                     \
    X(GATEWAY_TIMEOUT, "gateway_timeout")             \
    X(ERROR_IN_BODY, "error_in_body")                 \
    X(ERROR_IN_STREAM, "error_in_stream")             \
    X(EMPTY_STREAM, "empty_stream")                   \
    X(EMPTY_RESPONSE, "empty_answer")                 \
    X(MALFORMED, "answer_malformed")                  \
    X(DIFFERS, "answer_differs")                      \
    X(UPSTREAM_SAYS_RETRY, "upstream_says_retry")     \
    X(UPSTREAM_SAYS_NO, "upstream_says_no_retry")     \
    X(QUOTA, "quota_exhausted")                       \
    X(KEY, "key_rejected")                            \
    X(PERMISSION, "permission_denied")                \
    X(MODEL, "model_unknown")                         \
    X(CONTEXT, "context_too_long")                    \
    X(CONTENT_POLICY, "content_policy")               \
    X(CLIENT_ERROR, "client_error")                   \
    X(NOT_IMPLEMENTED, "not_implemented")             \
    X(UPSTREAM_DOWN, "upstream_down")                 \
    X(QUEUE_FULL, "queue_full")                       \
    X(QUEUE_TIMEOUT, "queue_timeout")                 \
    X(INTERNAL, "internal_error")                     \
    X(SHUTDOWN, "shutting_down")                      \
    X(CLIENT_GONE, "client_gone")                     \
    X(CLIENT_STALLED, "client_stalled")

enum reason {
#define X(constant, word) REASON_##constant,
    REASONS(X)
#undef X
        REASON_COUNT
};

/* Returns the word, never NULL. */
const char *reason_word(enum reason r);

#endif
