/* Refuses requests whose headers are malformed, ambiguous, or from a host or origin that is not
 * allowed. */
#include "edge/frontend_check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>

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

/* RFC 9110 6.2: an unknown minor version is treated as the highest known one. */
static bool is_version(const char *version)
{
    return !strncmp(version, "HTTP/1.", 7) && version[7] >= '0' && version[7] <= '9' && !version[8];
}

/* Returns the length of "http://" or "https://" at the start of the target, or 0. */
static size_t scheme_length(struct str target)
{
    if (str_istarts(target, STR("http://")))
        return 7;
    return str_istarts(target, STR("https://")) ? 8 : 0;
}

/* RFC 9112 3.2.2: a target in absolute form is reduced to its path, and its authority replaces any
 * Host. */
static unsigned take_absolute(struct http_request *request, const char **ret_why)
{
    struct str target = buf_str(&request->target), host;
    size_t scheme = scheme_length(target), at = scheme;
    char *text = request->target.p;
    int rc;

    if (scheme == 0)
        return 0;
    while (at < target.n && text[at] != '/' && text[at] != '?')
        at++;
    host = (struct str){text + scheme, at - scheme};
    if (host.n == 0 || memchr(host.p, '@', host.n))
        return refuse(400, "retryd: the request target has no host, or names a user", ret_why);
    rc = headers_set(&request->headers, STR("Host"), host);
    if (rc < 0)
        return refuse(rc == -E2BIG ? 431 : 503, "retryd: no room for the request's headers",
                      ret_why);
    if (at == target.n || text[at] != '/')
        text[--at] = '/';
    memmove(text, text + at, target.n - at + 1); /* includes the terminator */
    request->target.len = target.n - at;
    return 0;
}

static unsigned check_line(struct http_request *request, const char *version, const char **ret_why)
{
    struct str target = buf_str(&request->target);

    request->http_1_0 = !strcmp(version, "HTTP/1.0");
    if (!is_version(version))
        return refuse(505, "retryd: only HTTP/1.1 and HTTP/1.0 are supported", ret_why);
    if (!str_is_token(buf_str(&request->method)))
        return refuse(400, "retryd: the method is not a token", ret_why);
    if (http_request_is(request, "CONNECT") || http_request_is(request, "TRACE"))
        return refuse(405, "retryd: CONNECT and TRACE are not supported", ret_why);
    if (target.n == 0 || (target.p[0] != '/' && scheme_length(target) == 0))
        return refuse(400, "retryd: the request target must start with a slash or http://",
                      ret_why);
    for (size_t i = 0; i < target.n; i++)
        if ((unsigned char)target.p[i] <= 0x20 || target.p[i] == 0x7f || target.p[i] == '#')
            return refuse(400,
                          "retryd: the request target contains a control character or a fragment",
                          ret_why);
    return 0;
}

struct framing {
    unsigned lengths, encodings, hosts;
    struct str length, encoding;
};

static unsigned check_fields(const struct headers *h, struct framing *f, const char **ret_why)
{
    if (h->count > CHECK_HEADERS_MAX)
        return refuse(431, "retryd: more than 100 header fields", ret_why);
    for (unsigned i = 0; i < h->count; i++) {
        struct str name = headers_name(h, i), value = headers_value(h, i);

        if (!str_is_token(name))
            return refuse(400, "retryd: a header name is not a token", ret_why);
        if (has_control(value))
            return refuse(400, "retryd: a header value contains a control character", ret_why);
        if (str_ieq(name, STR("content-length"))) {
            f->lengths++;
            f->length = value;
        } else if (str_ieq(name, STR("transfer-encoding"))) {
            f->encodings++;
            f->encoding = value;
        } else if (str_ieq(name, STR("host"))) {
            f->hosts++;
        }
    }
    return 0;
}

static unsigned check_framing(struct http_request *request, const struct framing *f,
                              const char **ret_why)
{
    if (f->lengths > 1 || f->encodings > 1 || f->hosts > 1)
        return refuse(
            400, "retryd: Content-Length, Transfer-Encoding and Host may each appear only once",
            ret_why);
    if (f->lengths && f->encodings)
        return refuse(400, "retryd: Content-Length and Transfer-Encoding may not both appear",
                      ret_why);
    if (f->encodings && (request->http_1_0 || !str_ieq(f->encoding, STR("chunked"))))
        return refuse(400, "retryd: the only supported Transfer-Encoding is chunked, in HTTP/1.1",
                      ret_why);
    if (!request->http_1_0 && f->hosts == 0)
        return refuse(400, "retryd: the Host header is missing", ret_why);
    request->content_length = f->encodings ? LENGTH_UNKNOWN : 0;
    if (f->lengths && !str_to_u64(f->length, &request->content_length))
        return refuse(400, "retryd: Content-Length is not a number", ret_why);
    /* The largest number stands for an unknown length. */
    if (f->lengths && request->content_length == LENGTH_UNKNOWN)
        return refuse(413, "retryd: Content-Length is too large", ret_why);
    return 0;
}

unsigned frontend_check(struct http_request *request, const char *version, const char **ret_why)
{
    struct framing f = {0};
    unsigned status = check_line(request, version, ret_why);

    if (status == 0)
        status = check_fields(&request->headers, &f, ret_why);
    if (status == 0)
        status = check_framing(request, &f, ret_why);
    return status ? status : take_absolute(request, ret_why);
}

/* --- fields without gaps ---------------------------------------------------------------------- */

void frontend_trail_begin(struct frontend_trail *t, struct str method, struct str target,
                          const char *version)
{
    t->broken = method.p + method.n + 1 != target.p || target.p + target.n + 1 != version;
    t->next = version + strlen(version) + 2;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

void frontend_trail_field(struct frontend_trail *t, struct str name, struct str value)
{
    const char *gap = name.p + name.n + 1;

    if (name.p != t->next || value.p < gap)
        t->broken = true;
    for (; !t->broken && gap < value.p; gap++)
        t->broken = !is_blank(*gap);
    t->next = value.p + value.n + 2;
}

bool frontend_trail_ends(const struct frontend_trail *t, const char *end)
{
    return !t->broken && t->next + 2 == end;
}

/* --- hosts and origins ------------------------------------------------------------------------ */

/* RFC 9110 4.2.3: digits or nothing. */
static bool is_port(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
    return s.n <= 5;
}

/* Strips the port: "localhost:4290" becomes "localhost", "[::1]:4290" becomes "[::1]". Anything
 * else after the name stays, and then the text matches no listed name. */
static struct str without_port(struct str host)
{
    const char *end = host.p, *stop = host.p + host.n;

    if (host.n > 0 && host.p[0] == '[') {
        end = memchr(host.p, ']', host.n);
        if (!end)
            return host;
        end++;
    } else if (host.n > 0) {
        end = memchr(host.p, ':', host.n);
    }
    if (!end || end == stop || *end != ':' ||
        !is_port((struct str){end + 1, (size_t)(stop - end) - 1}))
        return host;
    return (struct str){host.p, (size_t)(end - host.p)};
}

bool frontend_host_is_address(const struct headers *h)
{
    struct in6_addr address;
    char text[INET6_ADDRSTRLEN];
    struct str v;
    bool v6;

    if (!headers_get(h, STR("host"), &v))
        return false;
    v = without_port(v);
    v6 = v.n > 2 && v.p[0] == '[' && v.p[v.n - 1] == ']';
    if (v6)
        v = (struct str){v.p + 1, v.n - 2};
    if (v.n >= sizeof(text))
        return false;
    snprintf(text, sizeof(text), "%.*s", (int)v.n, v.p);
    return inet_pton(v6 ? AF_INET6 : AF_INET, text, &address) == 1;
}

static bool listed(struct str s, struct string_view_list list)
{
    for (unsigned i = 0; i < list.count; i++)
        if (str_ieq(s, str_from(list.items[i])))
            return true;
    return false;
}

void frontend_explain_refusal(const struct headers *h, struct string_view_list hosts,
                              const struct string_view_list *origins, const char *why, char *ret,
                              size_t size)
{
    char shown[120] = "";
    struct str v;

    if (headers_get(h, STR("host"), &v) && !listed(v, hosts) && !listed(without_port(v), hosts)) {
        str_shown(shown, sizeof(shown), without_port(v));
        snprintf(
            ret, size,
            "retryd: the Host \"%s\" is not in allowed_hosts; if it is a name of this machine, "
            "add it to that list ([server])",
            shown);
        return;
    }
    for (unsigned i = 0; i < h->count && !shown[0]; i++)
        if (str_ieq(headers_name(h, i), STR("origin")) &&
            !(origins && listed(headers_value(h, i), *origins)))
            str_shown(shown, sizeof(shown), headers_value(h, i));
    if (shown[0] && !origins)
        snprintf(ret, size,
                 "retryd: the Origin \"%s\" is refused: web pages may not read the admin pages",
                 shown);
    else if (shown[0])
        snprintf(
            ret, size,
            "retryd: the Origin \"%s\" is not in allowed_origins: web pages may use retryd only if "
            "they are listed there ([server])",
            shown);
    else
        snprintf(ret, size, "%s", why);
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
