/* Reads HTTP/1.1 requests from bytes as they come, without doing any I/O. */
#include "request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void request_reset(struct request *req)
{
    buf_reset(&req->head, 16 * 1024);
    buf_reset(&req->body, 16 * 1024);
    peek_reset(&req->peek);
    req->state = REQUEST_HEAD;
    req->method = NULL;
    req->target = NULL;
    req->version = NULL;
    req->path_len = 0;
    req->n_headers = 0;
    req->head_done = false;
    req->keep_alive = true;
    req->http10 = false;
    req->expects_continue = false;
    req->chunked = false;
    req->has_length = false;
    req->left = 0;
    req->body_len = 0;
    req->body_keep = 0;
    req->span_len = 0;
    req->line_len = 0;
    req->error = NULL;
}

void request_free(struct request *req)
{
    buf_free(&req->head);
    buf_free(&req->body);
}

const char *request_header(const struct request *req, const char *name)
{
    for (size_t i = 0; i < req->n_headers; i++) {
        if (strcasecmp(req->headers[i].name, name) == 0) {
            return req->headers[i].value;
        }
    }
    return NULL;
}

bool request_is_control(const struct request *req)
{
    return strncmp(req->target, "/_/", 3) == 0;
}

static size_t bad(struct request *req, const char *why)
{
    req->state = REQUEST_BAD;
    req->error = why;
    return 0;
}

static bool parse_request_line(struct request *req, char *line)
{
    char *target = strchr(line, ' ');
    char *version = target != NULL ? strchr(target + 1, ' ') : NULL;

    if (version == NULL || target == line || version == target + 1) {
        return false;
    }
    *target++ = '\0';
    *version++ = '\0';
    req->method = line;
    req->target = target;
    req->version = version;
    req->path_len = strcspn(target, "?");
    req->http10 = strcmp(version, "HTTP/1.0") == 0;
    req->keep_alive = !req->http10;
    return req->http10 || strcmp(version, "HTTP/1.1") == 0;
}

static bool parse_length(struct request *req, const char *value)
{
    char *end;
    unsigned long long n;

    if (*value < '0' || *value > '9') {
        return false;
    }
    errno = 0;
    n = strtoull(value, &end, 10);
    if (errno != 0 || *end != '\0' || (req->has_length && req->left != n)) {
        return false;
    }
    req->has_length = true;
    req->left = n;
    return true;
}

static bool apply_header(struct request *req, const struct header *h)
{
    if (strcasecmp(h->name, "content-length") == 0) {
        return parse_length(req, h->value);
    }
    if (strcasecmp(h->name, "transfer-encoding") == 0) {
        req->chunked = strcasecmp(h->value, "chunked") == 0;
        return req->chunked;
    }
    if (strcasecmp(h->name, "connection") == 0) {
        if (strcasestr(h->value, "close") != NULL) {
            req->keep_alive = false;
        } else if (strcasestr(h->value, "keep-alive") != NULL) {
            req->keep_alive = true;
        }
    } else if (strcasecmp(h->name, "expect") == 0) {
        req->expects_continue = strcasecmp(h->value, "100-continue") == 0;
    }
    return true;
}

static bool parse_header(struct request *req, char *line, char *end)
{
    char *colon = strchr(line, ':');
    struct header *h = &req->headers[req->n_headers];

    if (colon == NULL || colon == line || req->n_headers == REQUEST_HEADERS_MAX) {
        return false;
    }
    *colon = '\0';
    if (strpbrk(line, " \t") != NULL) {
        return false;
    }
    h->name = line;
    h->value = colon + 1 + strspn(colon + 1, " \t");
    while (end > h->value && (end[-1] == ' ' || end[-1] == '\t')) {
        *--end = '\0';
    }
    req->n_headers++;
    return apply_header(req, h);
}

/* What comes after the head, by its framing headers. */
static void choose_body(struct request *req)
{
    if (req->chunked && req->has_length) {
        bad(req, "both content-length and transfer-encoding");
    } else if (req->chunked) {
        req->state = REQUEST_CHUNK_SIZE;
    } else {
        req->state = req->left > 0 ? REQUEST_BODY : REQUEST_DONE;
    }
}

/* Cuts the head into C strings in place. */
static void parse_head(struct request *req)
{
    char *line = req->head.data;
    char *stop = req->head.data + req->head.len - 2; /* at the empty line */
    bool first = true;

    if (memchr(line, '\0', req->head.len) != NULL) {
        bad(req, "NUL in the head");
        return;
    }
    while (line < stop) {
        char *end = memmem(line, (size_t)(stop - line) + 2, "\r\n", 2);

        *end = '\0';
        if (!(first ? parse_request_line(req, line) : parse_header(req, line, end))) {
            bad(req, first ? "malformed request line" : "malformed header");
            return;
        }
        first = false;
        line = end + 2;
    }
    req->head_done = true;
    req->body_keep = request_is_control(req) ? REQUEST_CONTROL_KEEP : REQUEST_BODY_KEEP;
    choose_body(req);
}

static size_t feed_head(struct request *req, const char *data, size_t len)
{
    size_t before = req->head.len;
    size_t from = before > 3 ? before - 3 : 0;
    char *found;

    if (before == 0 && (*data == '\r' || *data == '\n')) {
        return 1; /* RFC 9112 2.2: empty lines before a request are ignored */
    }
    if (len > REQUEST_HEAD_MAX - before) {
        len = REQUEST_HEAD_MAX - before;
    }
    if (len == 0) {
        return bad(req, "head too large");
    }
    buf_add(&req->head, data, len);
    found = memmem(req->head.data + from, req->head.len - from, "\r\n\r\n", 4);
    if (found == NULL) {
        return len;
    }
    req->head.len = (size_t)(found - req->head.data) + 4;
    parse_head(req);
    return req->head.len - before;
}

static void body_bytes(struct request *req, const char *data, size_t len)
{
    req->span = data;
    req->span_len = len;
    req->body_len += len;
    req->left -= len;
    if (req->body.len < req->body_keep) {
        size_t room = req->body_keep - req->body.len;

        buf_add(&req->body, data, len < room ? len : room);
    }
    peek_feed(&req->peek, data, len);
}

static size_t feed_body(struct request *req, const char *data, size_t len, enum request_state next)
{
    size_t n = len < req->left ? len : (size_t)req->left;

    body_bytes(req, data, n);
    if (req->left == 0) {
        req->state = next;
    }
    return n;
}

static void chunk_size_line(struct request *req)
{
    char *end;

    errno = 0;
    req->left = strtoull(req->line, &end, 16);
    if (errno != 0 || end == req->line || (*end != '\0' && *end != ';' && *end != ' ')) {
        bad(req, "malformed chunk size");
        return;
    }
    req->state = req->left > 0 ? REQUEST_CHUNK_DATA : REQUEST_TRAILER;
}

static void whole_line(struct request *req)
{
    if (req->line_len == 0 || req->line[req->line_len - 1] != '\r') {
        bad(req, "a line without CRLF");
        return;
    }
    req->line[--req->line_len] = '\0';
    if (req->state == REQUEST_CHUNK_SIZE) {
        chunk_size_line(req);
    } else if (req->state == REQUEST_CHUNK_END) {
        req->state = REQUEST_CHUNK_SIZE;
        if (req->line_len > 0) {
            bad(req, "chunk longer than its size");
        }
    } else if (req->line_len == 0) {
        req->state = REQUEST_DONE;
    }
    req->line_len = 0;
}

static size_t feed_line(struct request *req, const char *data, size_t len)
{
    const char *newline = memchr(data, '\n', len);
    size_t n = newline != NULL ? (size_t)(newline - data) : len;

    if (n >= REQUEST_LINE_MAX - req->line_len) {
        return bad(req, "line too long");
    }
    memcpy(req->line + req->line_len, data, n);
    req->line_len += n;
    if (newline == NULL) {
        return n;
    }
    whole_line(req);
    return n + 1;
}

size_t request_feed(struct request *req, const char *data, size_t len)
{
    req->span_len = 0;
    switch (req->state) {
    case REQUEST_HEAD:
        return feed_head(req, data, len);
    case REQUEST_BODY:
        return feed_body(req, data, len, REQUEST_DONE);
    case REQUEST_CHUNK_DATA:
        return feed_body(req, data, len, REQUEST_CHUNK_END);
    case REQUEST_CHUNK_SIZE:
    case REQUEST_CHUNK_END:
    case REQUEST_TRAILER:
        return feed_line(req, data, len);
    default:
        return 0;
    }
}
