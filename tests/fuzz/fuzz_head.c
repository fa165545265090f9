/* Request heads: what is let in is unambiguous, however it stood on the wire, and what is refused is
 * refused with a status and a reason.
 *
 * An input is a head as libmicrohttpd hands it out: "METHOD TARGET VERSION", then a line for each
 * field, "name: value". */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "edge/frontend_check.h"
#include "fuzz.h"

static const char *const hosts[] = {"localhost", "127.0.0.1", "[::1]"};
static const char *const origins[] = {"https://listed.example"};

static struct str cut(struct str *rest, char at)
{
    const char *end = rest->n ? memchr(rest->p, at, rest->n) : NULL;
    struct str part = {rest->p, end ? (size_t)(end - rest->p) : rest->n};
    size_t used = part.n + (end ? 1 : 0);

    *rest = (struct str){rest->p + used, rest->n - used};
    return part;
}

/* Neither CR LF nor NUL gets as far as that: libmicrohttpd's strings end there. */
static bool is_line(struct str s)
{
    return s.n == 0 || (!memchr(s.p, '\0', s.n) && !memchr(s.p, '\r', s.n));
}

struct wire {
    struct http_request http;
    char version[64];
    char *text; /* all of it, as it stands in libmicrohttpd's memory */
};

static bool take_line(struct wire *w, struct str line)
{
    char text[4200];
    struct str method = cut(&line, ' '), target = cut(&line, ' ');

    if (line.n >= sizeof w->version || target.n >= sizeof text || method.n >= 100)
        return false;
    if (line.n)
        memcpy(w->version, line.p, line.n);
    w->version[line.n] = '\0';
    if (target.n)
        memcpy(text, target.p, target.n);
    text[target.n] = '\0';
    if (http_request_text(&w->http.target, text) < 0)
        return false;
    if (method.n)
        memcpy(text, method.p, method.n);
    text[method.n] = '\0';
    return http_request_text(&w->http.method, text) == 0;
}

static bool take(struct wire *w, struct str input)
{
    *w = (struct wire){.text = NULL};
    http_request_init(&w->http);
    if (!is_line(input) || !take_line(w, cut(&input, '\n')))
        return false;
    while (input.n > 0) {
        struct str line = cut(&input, '\n'), name = cut(&line, ':');
        if (headers_add(&w->http.headers, name, str_trim(line)) < 0)
            return false;
    }
    return true;
}

static unsigned count(const struct headers *h, const char *name)
{
    unsigned n = 0;

    for (unsigned i = 0; i < h->count; i++)
        n += headers_name(h, i).n == strlen(name) &&
             !strncasecmp(headers_name(h, i).p, name, strlen(name));
    return n;
}

static void check_let_in(const struct http_request *request)
{
    const struct headers *h = &request->headers;
    struct str target = buf_str(&request->target), method = buf_str(&request->method), v;

    FUZZ_CHECK(method.n > 0 && !strpbrk(method.p, " \t\"(),/:;<=>?@[\\]{}"));
    FUZZ_CHECK(strcmp(method.p, "CONNECT") != 0 && strcmp(method.p, "TRACE") != 0);
    FUZZ_CHECK(target.n > 0 && target.p[0] == '/' && strlen(target.p) == target.n);
    for (size_t i = 0; i < target.n; i++)
        FUZZ_CHECK((unsigned char)target.p[i] > 0x20 && target.p[i] != 0x7f && target.p[i] != '#');
    FUZZ_CHECK(h->count <= CHECK_HEADERS_MAX + 1); /* a Host that a target named is one more */
    FUZZ_CHECK(count(h, "content-length") + count(h, "transfer-encoding") <= 1);
    FUZZ_CHECK(count(h, "host") <= 1 && (request->http_1_0 || count(h, "host") == 1));
    for (unsigned i = 0; i < h->count; i++) {
        struct str name = headers_name(h, i), value = headers_value(h, i);
        FUZZ_CHECK(name.n > 0);
        for (size_t k = 0; k < name.n; k++)
            FUZZ_CHECK((unsigned char)name.p[k] > 0x20 && (unsigned char)name.p[k] < 0x7f &&
                       !strchr("\"(),/:;<=>?@[\\]{}", name.p[k]));
        for (size_t k = 0; k < value.n; k++)
            FUZZ_CHECK((unsigned char)value.p[k] >= 0x20 || value.p[k] == '\t');
    }
    if (headers_get(h, STR("transfer-encoding"), &v)) {
        FUZZ_CHECK(!request->http_1_0 && v.n == 7 && !strncasecmp(v.p, "chunked", 7));
        FUZZ_CHECK(request->content_length == LENGTH_UNKNOWN);
    } else if (headers_get(h, STR("content-length"), &v)) {
        uint64_t number = 0;
        FUZZ_CHECK(v.n > 0);
        for (size_t k = 0; k < v.n; k++) {
            FUZZ_CHECK(v.p[k] >= '0' && v.p[k] <= '9');
            number = number * 10 + (uint64_t)(v.p[k] - '0');
        }
        FUZZ_CHECK(request->content_length == number && number != LENGTH_UNKNOWN);
    } else {
        FUZZ_CHECK(request->content_length == 0);
    }
}

/* Read slowly: the host without its port is one of the three, whatever its case. */
static bool is_ours(struct str host)
{
    for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++) {
        size_t n = strlen(hosts[i]);
        if (host.n >= n && !strncasecmp(host.p, hosts[i], n) && (host.n == n || host.p[n] == ':'))
            return true;
    }
    return false;
}

static void check_entry(const struct headers *h)
{
    const char *why = NULL;
    struct str v;
    bool enters = frontend_may_enter(h, (struct string_view_list){hosts, 3},
                                     (struct string_view_list){origins, 1}, &why);

    if (!enters) {
        FUZZ_CHECK(why && *why);
        return;
    }
    FUZZ_CHECK(headers_get(h, STR("host"), &v) && is_ours(str_trim(v)));
    for (unsigned i = 0; i < h->count; i++)
        if (str_ieq(headers_name(h, i), STR("origin")))
            FUZZ_CHECK(str_ieq(headers_value(h, i), str_from(origins[0])));
    if (!count(h, "origin") && headers_get(h, STR("sec-fetch-site"), &v))
        FUZZ_CHECK(!str_ieq(v, STR("cross-site")) && !str_ieq(v, STR("same-site")));
}

/* --- the trail -------------------------------------------------------------------------------- */

/* The head written out, terminated in place as libmicrohttpd does; fields as offsets. `skip`: a field
 * that the parser lost. */
static bool trail_is_whole(const struct wire *w, unsigned skip)
{
    const struct headers *h = &w->http.headers;
    struct frontend_trail t;
    struct buf b;
    size_t version_at;

    buf_init(&b, SIZE_MAX);
    (void)buf_printf(&b, "%s %s ", w->http.method.p, w->http.target.p);
    version_at = b.len;
    (void)buf_printf(&b, "%s\r\n", w->version);
    size_t fields_at = b.len;
    for (unsigned i = 0; i < h->count; i++)
        (void)buf_printf(&b, "%s: %s\r\n", headers_name(h, i).p, headers_value(h, i).p);
    (void)buf_add_str(&b, STR("\r\n"));
    FUZZ_CHECK(!b.failed);
    b.p[fields_at - 2] = '\0';
    frontend_trail_begin(&t, (struct str){b.p, w->http.method.len},
                         (struct str){b.p + w->http.method.len + 1, w->http.target.len},
                         b.p + version_at);
    size_t at = fields_at;
    for (unsigned i = 0; i < h->count; i++) {
        struct str name = headers_name(h, i), value = headers_value(h, i);
        if (i != skip)
            frontend_trail_field(&t, (struct str){b.p + at, name.n},
                                 (struct str){b.p + at + name.n + 2, value.n});
        at += name.n + 2 + value.n + 2;
    }
    bool whole = frontend_trail_ends(&t, b.p + at + 2);
    buf_deinit(&b);
    return whole;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str input = {(const char *)data, size};
    const char *why = NULL, *again = NULL;
    struct wire w;

    if (!take(&w, input)) {
        http_request_deinit(&w.http);
        return 0;
    }
    unsigned fields = w.http.headers.count;
    FUZZ_CHECK(trail_is_whole(&w, fields));
    if (fields > 0)
        FUZZ_CHECK(!trail_is_whole(&w, (unsigned)fuzz_pick(input, 1, fields)));
    unsigned status = frontend_check(&w.http, w.version, &why);
    if (status != 0) {
        FUZZ_CHECK(status >= 400 && status <= 599 && why && *why);
    } else {
        uint64_t length = w.http.content_length;
        check_let_in(&w.http);
        check_entry(&w.http.headers);
        /* What was let in is let in again: it does not depend on how it was spelled. */
        if (w.http.headers.count <= CHECK_HEADERS_MAX)
            FUZZ_CHECK(frontend_check(&w.http, w.version, &again) == 0 &&
                       w.http.content_length == length);
    }
    http_request_deinit(&w.http);
    return 0;
}
