/* Builds the request that is sent to an upstream. */
#include "exchange/outgoing.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/escape.h"
#include "http/credentials.h"
#include "http/decode.h"
#include "http/dialect.h"

/* Removes the encodings that retryd cannot read (br, zstd, `*`) from an Accept-Encoding value. */
static int readable_encodings(struct str value, struct headers *out)
{
    struct str rest = value, piece;
    char kept[256] = "";
    size_t len = 0;

    while (str_next(&rest, ',', &piece)) {
        struct str params = piece, encoding;

        if (!str_next(&params, ';', &encoding) || !decode_knows(encoding))
            continue;
        if (len + piece.n + 3 > sizeof(kept))
            break;
        len += (size_t)snprintf(kept + len, sizeof(kept) - len, "%s%.*s", len ? ", " : "",
                                (int)piece.n, piece.p);
    }
    return headers_add(out, STR("Accept-Encoding"), len ? str_from(kept) : STR("identity"));
}

/* Whether retryd writes this header itself, or it is addressed to retryd. */
static bool is_ours(struct str name)
{
    return str_istarts(name, STR("x-retryd-")) || str_ieq(name, STR("host")) ||
           str_ieq(name, STR("content-length")) || str_ieq(name, STR("expect"));
}

static bool target_sets(const struct target *t, struct str name)
{
    const struct upstream *p = t->upstream;

    /* An upstream with its own key never receives the client's credentials. */
    if (t->key.n > 0 && (str_ieq(name, str_from(p->auth_header)) || credentials_is_field(name)))
        return true;
    for (unsigned i = 0; i < p->header_count; i++)
        if (str_ieq(name, str_from(p->headers[i].name)))
            return true;
    return false;
}

static int add_key(const struct target *t, struct headers *out)
{
    struct str name = str_from(t->upstream->auth_header);
    char bearer[sizeof("Bearer ") + TARGET_KEY_MAX];
    int n;

    if (!str_ieq(name, STR("authorization")))
        return headers_add(out, name, t->key);
    n = snprintf(bearer, sizeof(bearer), "Bearer %.*s", (int)t->key.n, t->key.p);
    if (n < 0 || (size_t)n >= sizeof(bearer))
        return -E2BIG;
    n = headers_add(out, name, str_from(bearer));
    explicit_bzero(bearer, sizeof("Bearer ") + t->key.n);
    return n;
}

static int add_target_headers(const struct request *r, const struct target *t, struct headers *out)
{
    const struct upstream *p = t->upstream;
    struct str wanted = str_from(p->idempotency_header);
    int rc = t->key.n > 0 ? add_key(t, out) : 0;

    for (unsigned i = 0; rc == 0 && i < p->header_count; i++)
        rc = headers_add(out, str_from(p->headers[i].name), str_from(p->headers[i].value));
    /* The caller's own idempotency key is better, because it spans the caller's repeats, too. */
    if (rc == 0 && wanted.n > 0 && !headers_get(out, wanted, NULL))
        rc = headers_add(out, wanted, str_from(r->id));
    return rc;
}

static void add_escaped(struct buf *out, struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     strchr("-._~", c);

        if (plain && c)
            (void)buf_addc(out, (char)c);
        else
            buf_printf(out, "%%%02X", c);
    }
}

/* Adds the upstream's base path, in which "{model}" stands for the model's name. */
static void add_base_path(const struct target *t, struct buf *out)
{
    static const char mark[] = "{model}";
    const char *base = t->upstream->base_path, *at = strstr(base, mark);

    if (!at) {
        (void)buf_add_str(out, str_from(base));
        return;
    }
    (void)buf_add(out, base, (size_t)(at - base));
    add_escaped(out, t->own_model);
    (void)buf_add_str(out, str_from(at + sizeof(mark) - 1));
}

/* Adds the query of the upstream's url, except the parameters that the client sets itself. */
static void add_query(const struct upstream *p, struct str whole, struct buf *out)
{
    const char *mark = whole.n ? memchr(whole.p, '?', whole.n) : NULL;
    struct str own = str_from(p->query), parameter, theirs = {NULL, 0}, value;
    char before = mark ? '&' : '?';

    if (mark)
        theirs = (struct str){mark + 1, whole.n - (size_t)(mark + 1 - whole.p)};
    while (str_next(&own, '&', &parameter)) {
        struct str rest = parameter, name = {NULL, 0};

        (void)str_next(&rest, '=', &name);
        if (parameter.n == 0 || http_query_value(theirs, name, &value))
            continue;
        (void)buf_addc(out, before);
        (void)buf_add_str(out, parameter);
        before = '&';
    }
}

/* Adds the rest of the path, after the base. `model`, a part of it or empty, is replaced by the
 * target's name. `hides`: keys in the query are left out. */
static void add_rest(const struct target *t, struct str rest, struct str model, bool hides,
                     struct buf *out)
{
    if (model.n > 0) {
        size_t n = (size_t)(model.p - rest.p);

        (void)buf_add(out, rest.p, n);
        add_escaped(out, t->own_model);
        rest = (struct str){model.p + model.n, rest.n - n - model.n};
    }
    if (hides) {
        const char *mark = rest.n ? memchr(rest.p, '?', rest.n) : NULL;
        size_t n = mark ? (size_t)(mark - rest.p) : rest.n;
        struct str query = {mark ? mark + 1 : NULL, mark ? rest.n - n - 1 : 0}, parameter;
        char before = '?';
        (void)buf_add(out, rest.p, n);
        while (str_next(&query, '&', &parameter)) {
            if (credentials_is_parameter(parameter))
                continue;
            (void)buf_addc(out, before);
            (void)buf_add_str(out, parameter);
            before = '&';
        }
    } else
        (void)buf_add_str(out, rest);
}

static int outgoing_target(const struct request *r, const struct plan *plan, const struct target *t,
                           struct str whole, struct str model, struct buf *out)
{
    struct str rest = {whole.p + plan->base.n, whole.n - plan->base.n};

    add_base_path(t, out);
    if (out->len == 0 && (rest.n == 0 || rest.p[0] != '/'))
        (void)buf_addc(out, '/'); /* an origin-form target starts with a slash */
    /* Google's APIs take a key in the query, too. An upstream with its own key never receives the
     * client's. */
    add_rest(t, rest, model,
             t->key.n > 0 && (r->dialect == DIALECT_GEMINI ||
                              str_ieq(str_from(t->upstream->auth_header), STR("x-goog-api-key"))),
             out);
    if (t->upstream->query[0])
        add_query(t->upstream, rest, out);
    (void)buf_addc(out, '\0');
    return out->failed ? (out->len >= out->cap ? -E2BIG : -ENOMEM) : 0;
}

static int outgoing_headers(const struct request *r, const struct target *t, bool with_body,
                            struct headers *out)
{
    const struct headers *h = &r->http.headers;
    int rc = 0;

    for (unsigned i = 0; rc == 0 && i < h->count; i++) {
        struct str name = headers_name(h, i), value = headers_value(h, i);

        if (is_ours(name) || headers_hop_by_hop(h, name) || target_sets(t, name) ||
            (!with_body && str_istarts(name, STR("content-"))))
            continue;
        if (str_ieq(name, STR("accept-encoding")))
            rc = r->may_stream ? headers_add(out, name, STR("identity"))
                               : readable_encodings(value, out);
        else
            rc = headers_add(out, name, value);
    }
    return rc == 0 ? add_target_headers(r, t, out) : rc;
}

/* Returns the model's name in the path if the target has another name for it, else "". */
static struct str other_model(const struct request *r, const struct plan *plan,
                              const struct target *t)
{
    if (r->path_model_n == 0 || r->path_model_at < plan->base.n ||
        str_eq(t->own_model, str_from(r->model)))
        return (struct str){NULL, 0};
    return (struct str){r->http.target.p + r->path_model_at, r->path_model_n};
}

/* Puts the target's name of the model into the body. */
static int outgoing_body(const struct request *r, const struct target *t, struct body_edit *edit)
{
    struct str text = t->own_model;
    struct body_place place;

    edit->cut = 0;
    buf_reset(&edit->put, SIZE_MAX);
    if (!r->model[0] || str_eq(text, str_from(r->model)) || !body_model_place(&r->body, &place))
        return 0;
    edit->at = place.at;
    edit->cut = place.length;
    if (!place.json)
        return buf_add_str(&edit->put, text);
    (void)buf_addc(&edit->put, '"');
    if (r->names_resource)
        (void)buf_add_str(&edit->put, STR("models/"));
    while (text.n > 0) {
        char space[ESCAPE_MAX];
        size_t used;

        (void)buf_add_str(&edit->put, escape_json(text, space, &used));
        text = str_after(text, used);
    }
    (void)buf_addc(&edit->put, '"');
    return edit->put.failed ? -ENOMEM : 0;
}

/* Adds this daemon to Via (RFC 9110 7.6.3), behind the earlier ones. A request that comes back is
 * recognized by it. */
static int add_via(const struct plan *plan, struct headers *out)
{
    return plan->via ? headers_add(out, STR("Via"), str_from(plan->via)) : 0;
}

int outgoing_build(struct outgoing *o, const struct request *r, const struct plan *plan,
                   const struct target *t, struct body_edit *edit)
{
    int rc =
        outgoing_target(r, plan, t, buf_str(&r->http.target), other_model(r, plan, t), &o->target);

    o->method = r->http.method.p;
    o->with_body = true;
    if (rc == 0)
        rc = outgoing_body(r, t, edit);
    if (rc == 0)
        rc = outgoing_headers(r, t, true, &o->headers);
    return rc == 0 ? add_via(plan, &o->headers) : rc;
}

int outgoing_resume(struct outgoing *o, const struct request *r, const struct plan *plan,
                    const struct target *t, struct str response_id, uint64_t after)
{
    struct str path = http_request_path(&r->http);
    struct buf target;
    int rc;

    buf_init(&target, HEADERS_BYTES_MAX);
    if (path.n > 0 && path.p[path.n - 1] == '/')
        path.n--;
    buf_add_str(&target, path);
    if (http_request_is(&r->http, "POST")) { /* else it names the response already */
        buf_addc(&target, '/');
        buf_add_str(&target, response_id);
    }
    buf_printf(&target, "?stream=true&starting_after=%llu", (unsigned long long)after);
    /* The query's other parameters (Azure's api-version) are repeated. */
    struct str query = http_request_query(&r->http);
    struct str parameter;
    while (str_next(&query, '&', &parameter)) {
        struct str rest = parameter, name = {NULL, 0};

        (void)str_next(&rest, '=', &name);
        if (name.n == 0 || str_eq(name, STR("stream")) || str_eq(name, STR("starting_after")))
            continue;
        (void)buf_addc(&target, '&');
        (void)buf_add_str(&target, parameter);
    }
    rc = target.failed
             ? -ENOMEM
             : outgoing_target(r, plan, t, buf_str(&target), (struct str){NULL, 0}, &o->target);
    buf_deinit(&target);
    o->method = "GET";
    o->with_body = false;
    if (rc == 0)
        rc = outgoing_headers(r, t, false, &o->headers);
    return rc == 0 ? add_via(plan, &o->headers) : rc;
}

void outgoing_init(struct outgoing *o)
{
    *o = (struct outgoing){.method = ""};
    buf_init(&o->target, HEADERS_BYTES_MAX);
    headers_init(&o->headers);
}

void outgoing_deinit(struct outgoing *o)
{
    buf_deinit(&o->target);
    headers_deinit(&o->headers);
}
