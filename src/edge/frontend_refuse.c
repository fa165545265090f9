/* Refuses requests in the API's shape. */
#include <errno.h>
#include <sys/socket.h>

#include "edge/frontend_private.h"
#include "exchange/response.h"
#include "http/dialect.h"

#define RAW_BYTES_MAX 4096

/* As add_cors of frontend.c has them. */
#define CORS_FIELDS \
    "Access-Control-Allow-Origin: %s\r\nAccess-Control-Expose-Headers: *\r\nVary: Origin\r\n"

static const char *code_for(unsigned status)
{
    switch (status) {
    case 403:
        return "not_allowed";
    case 408:
        return "request_timeout";
    case 413:
        return "request_too_large";
    case 431:
        return "request_headers_too_large";
    case 426:
        return "upgrade_not_supported";
    case 503:
        return "overloaded";
    case 508:
        return "loop_detected";
    case 507:
        return "insufficient_storage";
    default:
        return "bad_request";
    }
}

static int own_error(const struct frontend_request *r, unsigned status, const char *why,
                     struct http_response *response, struct buf *body)
{
    bool ours = status == 503 || status == 507;
    struct response_facts facts = {.reason = ours ? REASON_INTERNAL : REASON_CLIENT_ERROR,
                                   .dialect = dialect_of(http_request_path(&r->http)),
                                   .come_again = status == 503};

    int rc = response_own_error(response, body, status, why,
                                status >= 500 ? "server_error" : "invalid_request_error",
                                code_for(status), &facts);

    if (rc == 0 && status == 426) /* RFC 9110 15.5.22: what is spoken here */
        rc = headers_add(&response->headers, STR("Upgrade"), STR("HTTP/1.1"));
    return rc;
}

/* Its owner has not heard of the request, and refused pages learn nothing. Without memory none does. */
static void let_page_read(struct frontend_request *r)
{
    struct str origin;

    if (r->user || r->origin || !r->f->handler->may_read ||
        !headers_get(&r->http.headers, STR("origin"), &origin))
        return;
    if (r->f->handler->may_read(r->f->ctx, &r->http.headers))
        (void)frontend_allow_page(r, origin);
}

/* Straight into the socket, for libmicrohttpd has no memory for it or does not take an answer now. Where
 * the kernel has no room for so little the client reads nothing of what it is sent anyway. */
static void write_raw(struct frontend_request *r, const struct http_response *response,
                      const struct buf *body)
{
    struct buf raw;

    buf_init(&raw, RAW_BYTES_MAX);
    buf_printf(&raw, "HTTP/1.1 %u %s\r\nConnection: close\r\nContent-Length: %zu\r\n",
               response->status, MHD_get_reason_phrase_for(response->status), body->len);
    for (unsigned i = 0; i < response->headers.count; i++)
        buf_printf(&raw, "%s: %s\r\n", headers_name(&response->headers, i).p,
                   headers_value(&response->headers, i).p);
    if (r->origin)
        buf_printf(&raw, CORS_FIELDS, r->origin);
    buf_add_str(&raw, STR("\r\n"));
    if (!r->is_head)
        buf_add_str(&raw, buf_str(body));
    if (!raw.failed)
        (void)send(r->c->fd, raw.p, raw.len, MSG_DONTWAIT | MSG_NOSIGNAL);
    buf_deinit(&raw);
}

/* What the client still sends is dropped, for it may read only then; and not for long. */
static void end_here(struct frontend_request *r, unsigned status)
{
    r->said = true;
    r->refused = status;
    r->refused_at = r->body_bytes;
    shutdown(r->c->fd, SHUT_WR);
}

enum MHD_Result frontend_refuse(struct frontend_request *r, unsigned status, const char *why)
{
    struct http_response response;
    struct buf body;
    int rc;

    http_response_init(&response);
    buf_init(&body, 4096);
    let_page_read(r);
    rc = own_error(r, status, why, &response, &body);
    if (rc == 0)
        rc = frontend_whole(r, &response, &body);
    if (rc == -EMSGSIZE && !r->complete) {
        write_raw(r, &response, &body);
        end_here(r, status);
        frontend_connection_expect_body(r->c);
        rc = 0;
    }
    buf_deinit(&body);
    http_response_deinit(&response);
    if (!r->user)
        r->f->handler->on_refused(r->f->ctx, status, why);
    return rc == 0 ? MHD_YES : MHD_NO;
}

void frontend_refuse_now(struct frontend_request *r, unsigned status, const char *why)
{
    struct http_response response;
    struct buf body;

    http_response_init(&response);
    buf_init(&body, 4096);
    if (own_error(r, status, why, &response, &body) == 0)
        write_raw(r, &response, &body);
    buf_deinit(&body);
    http_response_deinit(&response);
    if (r->user)
        r->f->handler->on_body_refused(r->user, status);
    else
        r->f->handler->on_refused(r->f->ctx, status, why);
    end_here(r, status);
}
