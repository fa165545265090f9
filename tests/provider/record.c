/* What was seen: one record per request, and the counters that tests wait for. */
#include "record.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

void record_unref(struct record *r)
{
    if (r == NULL || --r->refs > 0) {
        return;
    }
    EVP_MD_CTX_free(r->sha);
    buf_free(&r->head);
    buf_free(&r->body);
    free(r);
}

void book_clear(struct book *book)
{
    for (size_t i = 0; i < book->n; i++) {
        record_unref(book->list[i]);
    }
    book->n = 0;
    book->body_bytes = 0;
    book->epoch++;
    book->heads = 0;
    book->requests = 0;
    book->answered = 0;
    book->closed = 0;
}

void book_deinit(struct book *book)
{
    book_clear(book);
    free(book->list);
    EVP_MD_free(book->sha256);
    *book = (struct book){0};
}

static void add_string(struct buf *b, const char *text)
{
    buf_add(b, text, strlen(text) + 1);
}

static struct record *record_new(struct book *book, const struct request *req)
{
    struct record *r = must_alloc(sizeof(*r));

    r->refs = 2;
    r->n = book->heads;
    r->rule = -1;
    r->answer = -1;
    r->status = -1;
    add_string(&r->head, req->method);
    add_string(&r->head, req->target);
    add_string(&r->head, req->version);
    for (size_t i = 0; i < req->n_headers; i++) {
        add_string(&r->head, req->headers[i].name);
        add_string(&r->head, req->headers[i].value);
    }
    r->n_headers = req->n_headers;
    if (book->sha256 == NULL) {
        book->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    }
    r->sha = EVP_MD_CTX_new();
    (void)EVP_DigestInit_ex2(r->sha, book->sha256, NULL);
    return r;
}

struct record *book_add(struct book *book, const struct request *req)
{
    struct record *r;

    if (!book->keep || book->n == RECORDS_MAX) {
        return NULL;
    }
    if (book->n == book->cap) {
        book->cap = book->cap > 0 ? book->cap * 2 : 64;
        book->list = must_realloc(book->list, book->cap * sizeof(struct record *));
    }
    r = record_new(book, req);
    book->list[book->n++] = r;
    return r;
}

void record_body(struct book *book, struct record *r, const char *bytes, size_t len)
{
    if (r == NULL || r->sha == NULL || len == 0) {
        return;
    }
    r->body_len += len;
    (void)EVP_DigestUpdate(r->sha, bytes, len);
    if (r->body_len > RECORD_BODY_MAX) {
        book->body_bytes -= r->body.len < book->body_bytes ? r->body.len : book->body_bytes;
        buf_free(&r->body);
    } else if (book->body_bytes < RECORD_BODIES_MAX) {
        buf_add(&r->body, bytes, len);
        book->body_bytes += len;
    }
}

void record_body_end(struct record *r)
{
    if (r == NULL || r->sha == NULL) {
        return;
    }
    record_mark(r, T_BODY);
    (void)EVP_DigestFinal_ex(r->sha, r->digest, NULL);
    EVP_MD_CTX_free(r->sha);
    r->sha = NULL;
}

void record_mark(struct record *r, enum moment moment)
{
    if (r != NULL && r->t[moment] <= 0) {
        r->t[moment] = now_ms();
    }
}

static const char *json_next(struct buf *out, const char *text)
{
    size_t len = strlen(text);

    buf_json_latin1(out, text, len);
    return text + len + 1;
}

static void json_head(const struct record *r, struct buf *out)
{
    const char *p = r->head.data;

    buf_str(out, ",\"method\":");
    p = json_next(out, p);
    buf_str(out, ",\"target\":");
    p = json_next(out, p);
    buf_str(out, ",\"version\":");
    p = json_next(out, p);
    buf_str(out, ",\"headers\":[");
    for (size_t i = 0; i < r->n_headers; i++) {
        buf_str(out, i > 0 ? ",[" : "[");
        p = json_next(out, p);
        buf_str(out, ",");
        p = json_next(out, p);
        buf_str(out, "]");
    }
    buf_str(out, "]");
}

static void json_body(const struct record *r, struct buf *out)
{
    buf_printf(out, ",\"body_len\":%" PRIu64 ",\"body_sha256\":", r->body_len);
    if (r->sha != NULL) {
        buf_str(out, "null");
    } else {
        buf_str(out, "\"");
        for (size_t i = 0; i < sizeof(r->digest); i++) {
            buf_printf(out, "%02x", r->digest[i]);
        }
        buf_str(out, "\"");
    }
    buf_str(out, ",\"body\":");
    if (r->body.len == r->body_len && utf8_valid(r->body.data, r->body.len)) {
        buf_json(out, r->body.data, r->body.len);
    } else {
        buf_str(out, "null");
    }
}

static void json_int(struct buf *out, const char *name, int value)
{
    buf_printf(out, ",\"%s\":", name);
    if (value < 0) {
        buf_str(out, "null");
    } else {
        buf_printf(out, "%d", value);
    }
}

static void json_times(const struct record *r, struct buf *out)
{
    static const char *const names[T_COUNT] = {"t_first",        "t_head",       "t_body",
                                               "t_answer_start", "t_answer_end", "t_closed"};

    for (size_t i = 0; i < T_COUNT; i++) {
        buf_printf(out, ",\"%s\":", names[i]);
        if (r->t[i] > 0) {
            buf_printf(out, "%.3f", r->t[i]);
        } else {
            buf_str(out, "null");
        }
    }
}

static const char *boolean(bool value)
{
    return value ? "true" : "false";
}

static void record_json(const struct record *r, struct buf *out)
{
    buf_printf(out, "{\"n\":%" PRIu64 ",\"conn\":%" PRIu64 ",\"conn_n\":%" PRIu64, r->n, r->conn,
               r->conn_n);
    json_head(r, out);
    json_body(r, out);
    buf_printf(out, ",\"tls\":%s,\"tls_resumed\":%s", boolean(r->tls), boolean(r->tls_resumed));
    json_int(out, "rule", r->rule);
    json_int(out, "answer", r->answer);
    buf_printf(out, ",\"serial\":%" PRIu64, r->serial);
    json_int(out, "status", r->status);
    buf_printf(out, ",\"sent\":%" PRIu64, r->sent);
    json_times(r, out);
    buf_printf(out, ",\"closed_early\":%s}", boolean(r->closed_early));
}

void book_json(const struct book *book, struct buf *out)
{
    buf_str(out, "[");
    for (size_t i = 0; i < book->n; i++) {
        buf_str(out, i > 0 ? ",\n" : "");
        record_json(book->list[i], out);
    }
    buf_str(out, "]\n");
}
