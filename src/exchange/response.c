/* Builds the responses that clients get. */
#include "exchange/response.h"

#include <errno.h>

#include "policy/apierror.h"

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

unsigned response_status_for(enum reason r)
{
    switch (r) {
    case REASON_CONNECT_TIMEOUT:
    case REASON_UPLOAD_TIMEOUT:
    case REASON_FIRST_BYTE_TIMEOUT:
    case REASON_FIRST_CONTENT_TIMEOUT:
    case REASON_IDLE_TIMEOUT:
    case REASON_TOTAL_TIMEOUT:
    case REASON_DEADLINE:
        return 504;
    case REASON_INTERNAL:
    case REASON_SHUTDOWN:
    case REASON_UPSTREAM_DOWN:
    case REASON_QUEUE_FULL:
    case REASON_QUEUE_TIMEOUT:
        return 503;
    default:
        return 502;
    }
}

const char *response_advice(enum reason r)
{
    switch (r) {
    case REASON_DNS:
        return "Check the host name in the upstream's url and this machine's DNS.";
    case REASON_CONNECT:
    case REASON_CONNECT_TIMEOUT:
        return "Check that the upstream's url is correct and that this machine can reach it.";
    case REASON_TLS:
        return "Check that the upstream uses TLS on that port.";
    case REASON_CERTIFICATE:
        return "Check the upstream's url, and ca_file if it uses a private CA.";
    case REASON_PROXY:
        return "Check the upstream's proxy setting.";
    case REASON_FIRST_BYTE_TIMEOUT:
    case REASON_IDLE_TIMEOUT:
    case REASON_TOTAL_TIMEOUT:
        return "Raise the timeout in retryd's [timeout] section if responses may take this long.";
    case REASON_MALFORMED:
    case REASON_EMPTY_RESPONSE:
        return "Check that the upstream's url points to its API, and check any proxy before it.";
    case REASON_UPSTREAM_DOWN:
        return "The upstream failed too often recently; see [breaker] in retryd's configuration.";
    case REASON_QUEUE_FULL:
    case REASON_QUEUE_TIMEOUT:
        return "See [queue] in retryd's configuration.";
    case REASON_DEADLINE:
        return "Raise the client's timeout or retryd's deadline if responses may take this long.";
    default:
        return "";
    }
}

/* Returns the matching error type of RFC 9209, 2.3. */
static const char *proxy_error(enum reason r)
{
    switch (r) {
    case REASON_DNS:
        return "dns_error";
    case REASON_CONNECT:
    case REASON_PROXY:
    case REASON_UPSTREAM_DOWN:
        return "destination_unavailable";
    case REASON_RATE_LIMIT:
    case REASON_QUEUE_FULL:
    case REASON_QUEUE_TIMEOUT:
        return "connection_limit_reached";
    case REASON_TLS:
        return "tls_protocol_error";
    case REASON_CERTIFICATE:
        return "tls_certificate_error";
    case REASON_STALE:
    case REASON_LOST:
    case REASON_LOST_UPLOAD:
        return "connection_terminated";
    case REASON_TRUNCATED:
        return "http_response_incomplete";
    case REASON_LARGE_HEADERS:
        return "http_response_header_section_size";
    case REASON_CONNECT_TIMEOUT:
        return "connection_timeout";
    case REASON_UPLOAD_TIMEOUT:
        return "connection_write_timeout";
    case REASON_FIRST_BYTE_TIMEOUT:
    case REASON_FIRST_CONTENT_TIMEOUT:
    case REASON_IDLE_TIMEOUT:
    case REASON_TOTAL_TIMEOUT:
    case REASON_DEADLINE:
        return "http_response_timeout";
    case REASON_CLIENT_ERROR:
        return "http_request_error";
    case REASON_INTERNAL:
    case REASON_SHUTDOWN:
        return "proxy_internal_error";
    default:
        return "http_protocol_error";
    }
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
    rc = apierror_write(ret_body, f->dialect, ret->status, message, type,
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
