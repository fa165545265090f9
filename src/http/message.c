/* Stores header fields as offsets into one growing block of text, sets up requests and responses,
 * and splits a request's target. */
#include "http/message.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

/* --- header fields ---------------------------------------------------------------------------- */

#define FIELDS_FIRST 16 /* doubled until it is HEADERS_MAX */
_Static_assert(HEADERS_MAX == FIELDS_FIRST << 3, "doubling must not pass HEADERS_MAX");

void headers_init(struct headers *h)
{
    *h = (struct headers){.fields = NULL};
    buf_init(&h->text, HEADERS_BYTES_MAX);
}

void headers_deinit(struct headers *h)
{
    buf_deinit(&h->text);
    free(h->fields);
    h->fields = NULL;
    h->count = h->size = 0;
}

void headers_reset(struct headers *h)
{
    buf_reset(&h->text, HEADERS_BYTES_MAX);
    h->count = 0;
}

static int make_room(struct headers *h)
{
    if (h->count < h->size)
        return 0;
    if (h->count == HEADERS_MAX)
        return -E2BIG;

    unsigned size = h->size ? h->size * 2 : FIELDS_FIRST;
    struct header_field *fields = realloc(h->fields, size * sizeof *fields);
    if (!fields)
        return -ENOMEM;
    h->fields = fields;
    h->size = size;
    return 0;
}

/* Appends `s` and a terminator and returns its offset. The caller has reserved the room, so this
 * cannot fail. */
static uint32_t add_text(struct headers *h, struct str s)
{
    uint32_t at = (uint32_t)h->text.len;

    (void)buf_add_str(&h->text, s);
    (void)buf_addc(&h->text, '\0');
    assert(!h->text.failed);
    return at;
}

int headers_add(struct headers *h, struct str name, struct str value)
{
    int r = make_room(h);

    if (r < 0)
        return r;
    if (name.n > HEADERS_BYTES_MAX || value.n > HEADERS_BYTES_MAX)
        return -E2BIG;
    r = buf_reserve(&h->text, name.n + value.n + 2);
    if (r < 0)
        return r == -EFBIG ? -E2BIG : r;

    struct header_field *f = &h->fields[h->count++];
    f->name_at = add_text(h, name);
    f->name_len = (uint32_t)name.n;
    f->value_at = add_text(h, value);
    f->value_len = (uint32_t)value.n;
    return 0;
}

int headers_set(struct headers *h, struct str name, struct str value)
{
    unsigned i = 0;
    int r;

    while (i < h->count && !str_ieq(headers_name(h, i), name))
        i++;
    if (i == h->count)
        return headers_add(h, name, value);
    if (value.n > HEADERS_BYTES_MAX)
        return -E2BIG;
    r = buf_reserve(&h->text, value.n + 1);
    if (r < 0)
        return r == -EFBIG ? -E2BIG : r;
    h->fields[i].value_at = add_text(h, value); /* the old value stays in `text`, unused */
    h->fields[i].value_len = (uint32_t)value.n;
    return 0;
}

void headers_erase(struct headers *h, unsigned i)
{
    const struct header_field *f = &h->fields[i];

    assert(i < h->count);
    explicit_bzero(h->text.p + f->name_at, f->name_len);
    explicit_bzero(h->text.p + f->value_at, f->value_len);
    h->count--;
    memmove(&h->fields[i], &h->fields[i + 1], (h->count - i) * sizeof(*h->fields));
}

struct str headers_name(const struct headers *h, unsigned i)
{
    assert(i < h->count);
    return (struct str){h->text.p + h->fields[i].name_at, h->fields[i].name_len};
}

struct str headers_value(const struct headers *h, unsigned i)
{
    assert(i < h->count);
    return (struct str){h->text.p + h->fields[i].value_at, h->fields[i].value_len};
}

bool headers_get(const struct headers *h, struct str name, struct str *ret_value)
{
    for (unsigned i = 0; i < h->count; i++) {
        if (!str_ieq(headers_name(h, i), name))
            continue;
        if (ret_value)
            *ret_value = headers_value(h, i);
        return true;
    }
    return false;
}

bool headers_hop_by_hop(const struct headers *h, struct str name)
{
    /* RFC 9110 does not list Trailer and the two Proxy-Auth fields, but they, too, concern only
     * this hop: trailers are not forwarded, and the proxy to authenticate to would be retryd. */
    if (str_ieq(name, STR("Connection")) || str_ieq(name, STR("Keep-Alive")) ||
        str_ieq(name, STR("Proxy-Connection")) || str_ieq(name, STR("Proxy-Authenticate")) ||
        str_ieq(name, STR("TE")) || str_ieq(name, STR("Trailer")) ||
        str_ieq(name, STR("Proxy-Authorization")) || str_ieq(name, STR("Upgrade")) ||
        str_ieq(name, STR("Transfer-Encoding")))
        return true;
    for (unsigned i = 0; i < h->count; i++) {
        struct str option, options = headers_value(h, i);

        if (!str_ieq(headers_name(h, i), STR("Connection")))
            continue;
        while (str_next(&options, ',', &option))
            if (str_ieq(option, name))
                return true;
    }
    return false;
}

/* --- messages --------------------------------------------------------------------------------- */

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
    return str_after(t, path.n + 1);
}

bool http_query_value(struct str query, struct str name, struct str *ret_value)
{
    struct str parameter;

    while (str_next(&query, '&', &parameter)) {
        const char *mark = parameter.n ? memchr(parameter.p, '=', parameter.n) : NULL;
        size_t n = mark ? (size_t)(mark - parameter.p) : parameter.n;

        if (!str_eq((struct str){parameter.p, n}, name))
            continue;
        *ret_value = str_after(parameter, n);
        if (mark)
            *ret_value = (struct str){mark + 1, parameter.n - n - 1};
        return true;
    }
    return false;
}
