/* Reads HTTP/1.1 responses. */
#include "http/reader.h"

#include <errno.h>
#include <string.h>

void reader_init(struct response_reader *r, struct headers *headers, bool head)
{
    memset(r, 0, sizeof(*r));
    buf_init(&r->line, READER_LINE_MAX);
    r->headers = headers;
    r->head = head;
}

void reader_deinit(struct response_reader *r)
{
    buf_deinit(&r->line);
}

static enum reader_event fail(struct response_reader *r, enum reader_event what, const char *why)
{
    r->state = READER_FAILED;
    r->failure = what;
    r->error = why;
    return what;
}

static enum reader_event invalid(struct response_reader *r, const char *why)
{
    return fail(r, READER_INVALID, why);
}

/* --- lines ------------------------------------------------------------------------------------ */

/* Takes a line from the front of `*in`, without its end. READER_BODY stands for a complete line,
 * which is valid until the next call. */
static enum reader_event take_line(struct response_reader *r, struct str *in, struct str *line)
{
    const char *end = in->n ? memchr(in->p, '\n', in->n) : NULL;
    size_t n = end ? (size_t)(end - in->p) + 1 : in->n;
    int rc = 0;

    if (r->line_used)
        buf_reset(&r->line, 0);
    r->line_used = false;
    *line = (struct str){in->p, n};
    r->headers_bytes += n;
    if (r->line.len + n > READER_LINE_MAX)
        return fail(r, READER_TOO_LARGE, "a line of the response headers is too large");
    if (r->headers_bytes > READER_HEADERS_MAX)
        return fail(r, READER_TOO_LARGE, "the response headers are too large");
    if (!end || r->line.len)
        rc = buf_add(&r->line, in->p, n);
    if (rc < 0)
        return fail(r, READER_NO_MEMORY, "out of memory");
    *in = str_after(*in, n);
    if (!end)
        return READER_NEED;
    if (r->line.len) {
        *line = buf_str(&r->line);
        r->line_used = true;
    }
    line->n--;
    if (line->n && line->p[line->n - 1] == '\r')
        line->n--;
    return READER_BODY;
}

/* --- the status line and the fields ----------------------------------------------------------- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* "HTTP/1.1 200 OK"; servers leave out the reason phrase, and the space before it. */
static enum reader_event read_status(struct response_reader *r, struct str line)
{
    const char *p = line.p;

    if (line.n < sizeof("HTTP/1.1 200") - 1 || memcmp(p, "HTTP/1.", 7) != 0 ||
        (p[7] != '0' && p[7] != '1') || p[8] != ' ')
        return invalid(r, "the response is not HTTP/1.1");
    if (p[9] < '1' || !is_digit(p[9]) || !is_digit(p[10]) || !is_digit(p[11]) ||
        (line.n > 12 && p[12] != ' ') || memchr(p, '\0', line.n))
        return invalid(r, "the status line of the response is invalid");
    headers_reset(r->headers);
    r->http_1_0 = p[7] == '0';
    r->status = (unsigned)((p[9] - '0') * 100 + (p[10] - '0') * 10 + (p[11] - '0'));
    r->close = r->chunked = r->has_length = false;
    r->state = READER_FIELDS;
    return READER_BODY;
}

/* Reads a Content-Length, which may be a list of the same number. */
static enum reader_event read_length(struct response_reader *r, struct str value)
{
    struct str piece;
    uint64_t n;
    bool any = false;

    while (str_next(&value, ',', &piece)) {
        if (!str_to_u64(piece, &n))
            return invalid(r, "the Content-Length of the response is invalid");
        if (r->has_length && n != r->length)
            return invalid(r, "the response has different Content-Lengths");
        r->length = n;
        r->has_length = any = true;
    }
    return any ? READER_BODY : invalid(r, "the Content-Length of the response is invalid");
}

static enum reader_event read_framing(struct response_reader *r, struct str name, struct str value)
{
    struct str piece;

    if (str_ieq(name, STR("content-length")))
        return read_length(r, value);
    if (str_ieq(name, STR("transfer-encoding"))) {
        while (str_next(&value, ',', &piece)) {
            if (piece.n == 0 || str_ieq(piece, STR("identity")))
                continue;
            if (r->chunked || !str_ieq(piece, STR("chunked")))
                return invalid(r, "the Transfer-Encoding of the response is not supported");
            r->chunked = true;
        }
    } else if (str_ieq(name, STR("connection"))) {
        while (str_next(&value, ',', &piece))
            r->close |= str_ieq(piece, STR("close"));
    }
    return READER_BODY;
}

/* Appends a folded line to the value of the field before it (RFC 9112, 5.2). */
static int unfold(struct response_reader *r, struct str more)
{
    struct headers *h = r->headers;
    struct buf name, value;
    int rc;

    if (h->count == 0)
        return 0;
    buf_init(&name, HEADERS_BYTES_MAX);
    buf_init(&value, 2 * HEADERS_BYTES_MAX);
    buf_add_str(&name, headers_name(h, h->count - 1));
    buf_add_str(&value, headers_value(h, h->count - 1));
    buf_addc(&value, ' ');
    buf_add_str(&value, more);
    rc = name.failed || value.failed ? -ENOMEM : 0;
    if (rc == 0) {
        headers_erase(h, h->count - 1);
        rc = headers_add(h, buf_str(&name), buf_str(&value));
    }
    buf_deinit(&name);
    buf_deinit(&value);
    return rc;
}

static bool framing_field(struct str name)
{
    return str_ieq(name, STR("content-length")) || str_ieq(name, STR("transfer-encoding"));
}

static enum reader_event read_field(struct response_reader *r, struct str line)
{
    const char *colon;
    int rc;

    if (memchr(line.p, '\0', line.n))
        return invalid(r, "a header field of the response has a NUL byte");
    if (line.p[0] == ' ' || line.p[0] == '\t') {
        unsigned last = r->headers->count;
        if (last && framing_field(headers_name(r->headers, last - 1)))
            return invalid(r, "the field that frames the response is folded");
        rc = unfold(r, str_trim(line));
    } else {
        colon = memchr(line.p, ':', line.n);
        if (!colon)
            return invalid(r, "a header field of the response has no colon");
        struct str name = str_trim((struct str){line.p, (size_t)(colon - line.p)});
        struct str value = str_trim((struct str){colon + 1, line.n - (size_t)(colon - line.p) - 1});
        enum reader_event e = read_framing(r, name, value);
        if (e != READER_BODY)
            return e;
        rc = headers_add(r->headers, name, value);
    }
    if (rc == -ENOMEM)
        return fail(r, READER_NO_MEMORY, "out of memory");
    return rc < 0 ? fail(r, READER_TOO_LARGE, "the response headers are too large") : READER_BODY;
}

/* Decides how the response ends (RFC 9112, 6.3). */
static enum reader_event end_fields(struct response_reader *r)
{
    /* Chunks take precedence, and the other length must not be forwarded. */
    for (unsigned i = r->headers->count; r->chunked && r->has_length && i-- > 0;)
        if (str_ieq(headers_name(r->headers, i), STR("content-length")))
            headers_erase(r->headers, i);
    if (r->status < 200)
        r->state = READER_STATUS_LINE;
    else if (r->head || r->status == 204 || r->status == 304)
        r->state = READER_DONE;
    else if (r->chunked)
        r->state = READER_CHUNK_SIZE;
    else if (r->has_length)
        r->state = r->length ? READER_LENGTH : READER_DONE;
    else
        r->state = READER_UNTIL_END;
    r->left = r->state == READER_LENGTH ? r->length : 0;
    /* A proxy in between may have used the other one. */
    r->close |= r->state == READER_UNTIL_END || (r->chunked && r->has_length);
    return READER_HEADERS;
}

/* --- chunks ----------------------------------------------------------------------------------- */

static int hex_digit(char c)
{
    if (is_digit(c))
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Reads "1a; extension". */
static enum reader_event read_chunk_size(struct response_reader *r, struct str line)
{
    uint64_t n = 0;
    size_t i = 0;

    for (; i < line.n && hex_digit(line.p[i]) >= 0; i++) {
        if (n > UINT64_MAX >> 4)
            return invalid(r, "the size of a chunk of the response is too large");
        n = n << 4 | (uint64_t)hex_digit(line.p[i]);
    }
    if (i == 0 || (i < line.n && line.p[i] != ' ' && line.p[i] != '\t' && line.p[i] != ';'))
        return invalid(r, "the size of a chunk of the response is invalid");
    while (i < line.n && (line.p[i] == ' ' || line.p[i] == '\t'))
        i++;
    if (i < line.n && line.p[i] != ';')
        return invalid(r, "the size of a chunk of the response is invalid");
    r->left = n;
    r->state = n ? READER_CHUNK : READER_TRAILERS;
    return READER_BODY;
}

static enum reader_event read_line(struct response_reader *r, struct str line)
{
    switch (r->state) {
    case READER_STATUS_LINE:
        return read_status(r, line);
    case READER_FIELDS:
        return line.n ? read_field(r, line) : end_fields(r);
    case READER_CHUNK_SIZE:
        r->headers_bytes = 0;
        return read_chunk_size(r, line);
    case READER_CHUNK_END:
        r->headers_bytes = 0;
        if (line.n)
            return invalid(r, "a chunk of the response is longer than its size");
        r->state = READER_CHUNK_SIZE;
        return READER_BODY;
    default: /* READER_TRAILERS */
        if (line.n == 0)
            r->state = READER_DONE;
        return READER_BODY;
    }
}

/* --- the response ----------------------------------------------------------------------------- */

static enum reader_event take_body(struct response_reader *r, struct str *in, struct str *piece)
{
    size_t n = in->n;

    if (r->state != READER_UNTIL_END && n > r->left)
        n = (size_t)r->left;
    *piece = (struct str){in->p, n};
    *in = str_after(*in, n);
    if (r->state == READER_UNTIL_END)
        return READER_BODY;
    r->left -= n;
    if (r->left == 0)
        r->state = r->state == READER_CHUNK ? READER_CHUNK_END : READER_DONE;
    return READER_BODY;
}

/* Whether the first bytes are not HTTP. They are refused at once, because the end of the line may
 * never come. */
static bool is_foreign(const struct response_reader *r, struct str in)
{
    struct str start = STR("HTTP/1.");
    size_t at = r->line_used ? 0 : r->line.len;

    if (r->state != READER_STATUS_LINE || at >= start.n)
        return false;
    start = str_after(start, at);
    return memcmp(in.p, start.p, in.n < start.n ? in.n : start.n) != 0;
}

/* Does the same around chunks: the first byte after one, or of the next one's size, shows whether
 * the chunk had the promised length. */
static enum reader_event look_around_chunks(struct response_reader *r, char first)
{
    if (r->line.len > 0 && !r->line_used)
        return READER_BODY;
    if (r->state == READER_CHUNK_END && first != '\r' && first != '\n')
        return invalid(r, "a chunk of the response is longer than its size");
    if (r->state == READER_CHUNK_SIZE && hex_digit(first) < 0)
        return invalid(r, "the size of a chunk of the response is invalid");
    return READER_BODY;
}

enum reader_event reader_next(struct response_reader *r, struct str *in, struct str *piece)
{
    for (;;) {
        struct str line;
        enum reader_event e;

        if (r->state == READER_DONE)
            return READER_END;
        if (r->state == READER_FAILED)
            return r->failure;
        if (in->n == 0)
            return READER_NEED;
        r->begun = true;
        if (r->state == READER_LENGTH || r->state == READER_UNTIL_END || r->state == READER_CHUNK)
            return take_body(r, in, piece);
        if (is_foreign(r, *in))
            return invalid(r, "the response is not HTTP/1.1");
        e = look_around_chunks(r, *in->p);
        if (e != READER_BODY)
            return e;
        e = take_line(r, in, &line);
        if (e == READER_BODY)
            e = read_line(r, line);
        if (e != READER_BODY)
            return e;
    }
}

bool reader_end(struct response_reader *r)
{
    if (r->state == READER_UNTIL_END)
        r->state = READER_DONE;
    return r->state == READER_DONE;
}

bool reader_keeps_connection(const struct response_reader *r)
{
    return r->state == READER_DONE && !r->close && !r->http_1_0;
}
