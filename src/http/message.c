/* Sets up requests and responses, and splits a request's target. */
#include "http/message.h"

#define TARGET_BYTES_MAX (64 * 1024)

void http_request_init(struct http_request *r)
{
    buf_init(&r->method, TARGET_BYTES_MAX);
    buf_init(&r->target, TARGET_BYTES_MAX);
    headers_init(&r->headers);
    r->content_length = 0;
    r->http_1_0 = false;
}

void http_request_deinit(struct http_request *r)
{
    buf_deinit(&r->method);
    buf_deinit(&r->target);
    headers_deinit(&r->headers);
}

int http_request_text(struct buf *b, const char *s)
{
    size_t n = strlen(s);
    int rc = buf_reserve(b, n + 1);

    if (rc < 0) {
        b->failed = true;
        return rc;
    }
    memcpy(b->p, s, n + 1);
    b->len = n;
    return 0;
}

void http_response_init(struct http_response *r)
{
    r->status = 0;
    headers_init(&r->headers);
    r->content_length = LENGTH_UNKNOWN;
}

void http_response_deinit(struct http_response *r)
{
    headers_deinit(&r->headers);
}

struct str http_request_path(const struct http_request *r)
{
    struct str t = buf_str(&r->target);
    const char *q = t.n ? memchr(t.p, '?', t.n) : NULL;

    return q ? (struct str){t.p, (size_t)(q - t.p)} : t;
}

struct str http_request_query(const struct http_request *r)
{
    struct str t = buf_str(&r->target);
    struct str path = http_request_path(r);

    if (path.n == t.n)
        return (struct str){NULL, 0};
    return (struct str){t.p + path.n + 1, t.n - path.n - 1};
}

bool http_query_value(struct str query, struct str name, struct str *ret_value)
{
    struct str parameter;

    while (str_next(&query, '&', &parameter)) {
        const char *mark = parameter.n ? memchr(parameter.p, '=', parameter.n) : NULL;
        size_t n = mark ? (size_t)(mark - parameter.p) : parameter.n;

        if (!str_eq((struct str){parameter.p, n}, name))
            continue;
        *ret_value = (struct str){parameter.p + n, parameter.n - n};
        if (mark)
            *ret_value = (struct str){mark + 1, parameter.n - n - 1};
        return true;
    }
    return false;
}
