/* Refuses request heads that are malformed, ambiguous, or come from where they should not. */
#include "edge/frontend_check.h"

static bool is_token(struct str s)
{
    /* RFC 9110 5.6.2 */
    static const char others[] = "!#$%&'*+-.^_`|~";

    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');

        if (!alnum && !(c && strchr(others, c)))
            return false;
    }
    return s.n > 0;
}

static bool has_control(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return true;
    }
    return false;
}

static unsigned refuse(unsigned status, const char *why, const char **ret_why)
{
    *ret_why = why;
    return status;
}

static unsigned check_line(struct request_head *head, const char *version, const char **ret_why)
{
    struct str target = buf_str(&head->target);

    head->http_1_0 = !strcmp(version, "HTTP/1.0");
    if (!head->http_1_0 && strcmp(version, "HTTP/1.1") != 0)
        return refuse(505, "only HTTP/1.1 and HTTP/1.0 are spoken here", ret_why);
    if (!is_token(buf_str(&head->method)))
        return refuse(400, "the method is not a token", ret_why);
    if (request_is(head, "CONNECT") || request_is(head, "TRACE"))
        return refuse(405, "CONNECT and TRACE are not served", ret_why);
    if (target.n == 0 || target.p[0] != '/')
        return refuse(400, "the request target must start with a slash", ret_why);
    for (size_t i = 0; i < target.n; i++)
        if ((unsigned char)target.p[i] <= 0x20 || target.p[i] == 0x7f || target.p[i] == '#')
            return refuse(400, "the request target holds a control character or a fragment",
                          ret_why);
    return 0;
}

struct framing {
    unsigned lengths, codings, hosts;
    struct str length, coding;
};

static unsigned check_fields(const struct headers *h, struct framing *f, const char **ret_why)
{
    if (h->count > CHECK_HEADERS_MAX)
        return refuse(431, "more than 100 header fields", ret_why);
    for (unsigned i = 0; i < h->count; i++) {
        struct str name = headers_name(h, i), value = headers_value(h, i);

        if (!is_token(name))
            return refuse(400, "a header name is not a token", ret_why);
        if (has_control(value))
            return refuse(400, "a header value holds a control character", ret_why);
        if (str_ieq(name, STR("content-length"))) {
            f->lengths++;
            f->length = value;
        } else if (str_ieq(name, STR("transfer-encoding"))) {
            f->codings++;
            f->coding = value;
        } else if (str_ieq(name, STR("host"))) {
            f->hosts++;
        }
    }
    return 0;
}

static unsigned check_framing(struct request_head *head, const struct framing *f,
                              const char **ret_why)
{
    if (f->lengths > 1 || f->codings > 1 || f->hosts > 1)
        return refuse(400, "Content-Length, Transfer-Encoding and Host may stand once each",
                      ret_why);
    if (f->lengths && f->codings)
        return refuse(400, "Content-Length and Transfer-Encoding exclude each other", ret_why);
    if (f->codings && (head->http_1_0 || !str_ieq(f->coding, STR("chunked"))))
        return refuse(400, "the only Transfer-Encoding is chunked, and only in HTTP/1.1", ret_why);
    if (!head->http_1_0 && f->hosts == 0)
        return refuse(400, "the Host header is missing", ret_why);
    head->content_length = f->codings ? LENGTH_UNKNOWN : 0;
    if (f->lengths && !str_to_u64(f->length, &head->content_length))
        return refuse(400, "Content-Length is not a number", ret_why);
    return 0;
}

unsigned frontend_check(struct request_head *head, const char *version, const char **ret_why)
{
    struct framing f = {0};
    unsigned status = check_line(head, version, ret_why);

    if (status == 0)
        status = check_fields(&head->headers, &f, ret_why);
    return status ? status : check_framing(head, &f, ret_why);
}

/* "localhost:4290" without its port; "[::1]:4290" as "[::1]". */
static struct str without_port(struct str host)
{
    const char *colon = NULL;

    if (host.n > 0 && host.p[0] == '[') {
        const char *end = memchr(host.p, ']', host.n);

        return end ? (struct str){host.p, (size_t)(end - host.p) + 1} : host;
    }
    colon = host.n ? memchr(host.p, ':', host.n) : NULL;
    return colon ? (struct str){host.p, (size_t)(colon - host.p)} : host;
}

static bool listed(struct str s, struct string_view_list list)
{
    for (unsigned i = 0; i < list.count; i++)
        if (str_ieq(s, str_from(list.items[i])))
            return true;
    return false;
}

bool frontend_may_enter(const struct headers *h, struct string_view_list hosts,
                        struct string_view_list origins, const char **ret_why)
{
    bool has_origin = false;
    struct str v;

    if (!headers_get(h, STR("host"), &v) || !(listed(v, hosts) || listed(without_port(v), hosts))) {
        *ret_why = "retryd: this Host is not in allowed_hosts";
        return false;
    }
    for (unsigned i = 0; i < h->count; i++) {
        if (!str_ieq(headers_name(h, i), STR("origin")))
            continue;
        has_origin = true;
        if (listed(headers_value(h, i), origins))
            continue;
        *ret_why = "retryd: this Origin is not in allowed_origins: web pages may not use retryd";
        return false;
    }
    if (has_origin)
        return true;
    *ret_why = "retryd: requests from web pages of other sites are refused";
    return !headers_get(h, STR("sec-fetch-site"), &v) ||
           !(str_ieq(v, STR("cross-site")) || str_ieq(v, STR("same-site")));
}
