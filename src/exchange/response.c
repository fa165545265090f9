/* Builds the responses to clients. */
#include "exchange/response.h"

#include <errno.h>

#include "stream/error.h"

struct str response_request_id(const struct headers *h)
{
    static const struct str names[] = {{"x-request-id", 12},      {"request-id", 10},
                                       {"apim-request-id", 15},   {"x-amzn-requestid", 16},
                                       {"x-goog-request-id", 17}, {"cf-ray", 6}};
    size_t best = sizeof(names) / sizeof(names[0]);
    struct str id = {NULL, 0};

    for (unsigned i = 0; best > 0 && i < h->count; i++) {
        struct str name = headers_name(h, i);

        for (size_t k = 0; k < best; k++) {
            if (name.n != names[k].n || !str_ieq(name, names[k]))
                continue;
            id = headers_value(h, i);
            best = k;
        }
    }
    if (id.n > RESPONSE_ID_MAX)
        id.n = RESPONSE_ID_MAX;
    return id;
}

bool response_is_type(const struct headers *h, struct str type)
{
    struct str v;

    return headers_get(h, STR("content-type"), &v) && str_istarts(v, type);
}

#define RAISE_TIMEOUT \
    "Raise the timeout in retryd's [timeout] section if responses may take this long."
#define CHECK_URL "Check that the upstream's url points to its API, and check any proxy before it."
#define CHECK_REACH "Check that the upstream's url is correct and that this machine can reach it."
#define SEE_QUEUE "See [queue] in retryd's configuration."

/* The response for a reason: its status (0: 502), the error type of RFC 9209, 2.3 (NULL:
 * http_protocol_error), and advice for the user (NULL: none). */
static const struct {
    unsigned status;
    const char *proxy_error, *advice;
} responses[REASON_COUNT] = {
    [REASON_DNS] = {0, "dns_error",
                    "Check the host name in the upstream's url and this machine's DNS."},
    [REASON_CONNECT] = {0, "destination_unavailable", CHECK_REACH},
    [REASON_TLS] = {0, "tls_protocol_error", "Check that the upstream uses TLS on that port."},
    [REASON_CERTIFICATE] = {0, "tls_certificate_error",
                            "Check the upstream's url, and ca_file if it uses a private CA."},
    [REASON_PROXY] = {0, "destination_unavailable", "Check the upstream's proxy setting."},
    [REASON_STALE] = {0, "connection_terminated", NULL},
    [REASON_LOST_UPLOAD] = {0, "connection_terminated", NULL},
    [REASON_LOST] = {0, "connection_terminated", NULL},
    [REASON_TRUNCATED] = {0, "http_response_incomplete", NULL},
    [REASON_LARGE_HEADERS] = {0, "http_response_header_section_size", NULL},
    [REASON_CONNECT_TIMEOUT] = {504, "connection_timeout", CHECK_REACH},
    [REASON_UPLOAD_TIMEOUT] = {504, "connection_write_timeout", NULL},
    [REASON_FIRST_BYTE_TIMEOUT] = {504, "http_response_timeout", RAISE_TIMEOUT},
    [REASON_FIRST_CONTENT_TIMEOUT] = {504, "http_response_timeout", NULL},
    [REASON_IDLE_TIMEOUT] = {504, "http_response_timeout", RAISE_TIMEOUT},
    [REASON_TOTAL_TIMEOUT] = {504, "http_response_timeout", RAISE_TIMEOUT},
    [REASON_DEADLINE] =
        {504, "http_response_timeout",
         "Raise the client's timeout or retryd's deadline if responses may take this long."},
    [REASON_RATE_LIMIT] = {0, "connection_limit_reached", NULL},
    [REASON_EMPTY_RESPONSE] = {0, NULL, CHECK_URL},
    [REASON_MALFORMED] = {0, NULL, CHECK_URL},
    [REASON_CLIENT_ERROR] = {0, "http_request_error", NULL},
    [REASON_UPSTREAM_DOWN] =
        {503, "destination_unavailable",
         "The upstream failed too often recently; see [breaker] in retryd's configuration."},
    [REASON_QUEUE_FULL] = {503, "connection_limit_reached", SEE_QUEUE},
    [REASON_QUEUE_TIMEOUT] = {503, "connection_limit_reached", SEE_QUEUE},
    [REASON_INTERNAL] = {503, "proxy_internal_error", NULL},
    [REASON_SHUTDOWN] = {503, "proxy_internal_error", NULL},
};

unsigned response_status_for(enum reason r)
{
    return responses[r].status ? responses[r].status : 502;
}

const char *response_advice(enum reason r)
{
    return responses[r].advice ? responses[r].advice : "";
}

static const char *proxy_error(enum reason r)
{
    return responses[r].proxy_error ? responses[r].proxy_error : "http_protocol_error";
}

/* Appends a structured-field string (RFC 8941, 3.3.3), in which `?` replaces everything that is not
 * printable ASCII. */
static void add_sf_string(struct buf *b, const char *s)
{
    buf_addc(b, '"');
    for (; *s; s++) {
        if (*s == '"' || *s == '\\')
            buf_addc(b, '\\');
        buf_addc(b, *s < 0x20 || *s > 0x7e ? '?' : *s);
    }
    buf_addc(b, '"');
}

static int add_proxy_status(struct headers *h, const struct response_facts *f)
{
    char number[STR_DECIMAL_MAX];
    struct buf v;
    int rc;

    buf_init(&v, 1024);
    buf_add_str(&v, STR("retryd"));
    if (f->received_status) {
        buf_add_str(&v, STR("; received-status="));
        buf_add_str(&v, str_decimal(f->received_status, number));
    } else if (f->reason != REASON_OK) {
        buf_add_str(&v, STR("; error="));
        buf_add_str(&v, str_from(proxy_error(f->reason)));
    }
    if (f->host && f->host[0]) {
        buf_add_str(&v, STR("; next-hop="));
        add_sf_string(&v, f->host);
    }
    if (!f->received_status && f->detail && f->detail[0]) {
        buf_add_str(&v, STR("; details="));
        add_sf_string(&v, f->detail);
    }
    rc = v.failed ? -ENOMEM : headers_add(h, STR("Proxy-Status"), buf_str(&v));
    buf_deinit(&v);
    return rc;
}

static int add_number(struct headers *h, struct str name, uint64_t value)
{
    char text[STR_DECIMAL_MAX];

    return headers_add(h, name, str_decimal(value, text));
}

int response_add_facts(struct headers *h, const struct response_facts *f)
{
    int rc = add_number(h, STR("x-retryd-attempts"), f->attempts);

    if (rc == 0)
        rc = add_number(h, STR("x-retryd-wait-ms"), f->wait_ms);
    if (rc == 0 && f->target)
        rc = headers_add(h, STR("x-retryd-target"), str_from(f->target));
    if (rc == 0 && f->model)
        rc = headers_add(h, STR("x-retryd-model"), str_from(f->model));
    return rc == 0 ? add_proxy_status(h, f) : rc;
}

int response_from_upstream(struct http_response *ret, unsigned status,
                           const struct headers *upstream, const struct response_facts *f)
{
    bool failure = status >= 400;
    int rc = 0;

    ret->status = status;
    for (unsigned i = 0; rc == 0 && i < upstream->count; i++) {
        struct str name = headers_name(upstream, i);

        /* If the upstream is another retryd, its facts are replaced by those of this one. */
        if (headers_hop_by_hop(upstream, name) || str_ieq(name, STR("content-length")) ||
            str_istarts(name, STR("x-retryd-")) ||
            (f->decoded && str_ieq(name, STR("content-encoding"))) ||
            (failure && str_ieq(name, STR("x-should-retry"))))
            continue;
        rc = headers_add(&ret->headers, name, headers_value(upstream, i));
    }
    if (rc == 0 && failure)
        rc = headers_add(&ret->headers, STR("x-should-retry"), STR("false"));
    return rc == 0 ? response_add_facts(&ret->headers, f) : rc;
}

int response_own_error(struct http_response *ret, struct buf *ret_body, unsigned status,
                       const char *message, const char *type, const char *code,
                       const struct response_facts *f)
{
    int rc;

    ret->status = status ? status : response_status_for(f->reason);
    rc = error_body_write(ret_body, f->dialect, ret->status, message, type,
                          code ? code : reason_word(f->reason));
    ret->content_length = ret_body->len;
    if (rc == 0)
        rc = headers_add(&ret->headers, STR("Content-Type"), STR("application/json"));
    if (rc == 0)
        rc = headers_add(&ret->headers, STR("x-should-retry"),
                         f->come_again ? STR("true") : STR("false"));
    if (rc == 0 && (f->come_again || f->retry_after_ms > 0))
        rc = add_number(&ret->headers, STR("Retry-After"),
                        f->retry_after_ms > 0 ? (f->retry_after_ms + 999) / 1000 : 1);
    return rc == 0 ? response_add_facts(&ret->headers, f) : rc;
}
