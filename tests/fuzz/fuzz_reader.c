/* An upstream's bytes as an HTTP/1.1 response: what the reader says does not depend on how they were
 * cut, and a response that is written as the RFC has it comes back. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "fuzz.h"
#include "http/reader.h"

/* What a reader said: how it ended, and fingerprints of all heads and of the body. */
struct told {
    enum reader_event last; /* READER_NEED: the connection ended too early */
    unsigned status;
    uint64_t length;
    bool keeps;
    struct fingerprint heads, body;
    size_t used; /* bytes up to the end of the response */
};

static void tell_head(struct told *t, const struct response_reader *r)
{
    const struct headers *h = r->headers;

    FUZZ_CHECK(r->status >= 100 && r->status <= 999);
    t->status = r->status;
    for (unsigned i = 0; i < h->count; i++) {
        struct str name = headers_name(h, i), value = headers_value(h, i);
        FUZZ_CHECK(!name.n || !memchr(name.p, '\n', name.n));
        FUZZ_CHECK(!value.n ||
                   (!memchr(value.p, '\n', value.n) && !memchr(value.p, '\0', value.n)));
        fingerprint_feed(&t->heads, name);
        fingerprint_feed(&t->heads, STR(":"));
        fingerprint_feed(&t->heads, value);
        fingerprint_feed(&t->heads, STR("\n"));
    }
}

static enum reader_event feed(struct response_reader *r, struct str in, struct told *t)
{
    struct str piece;

    for (;;) {
        size_t before = in.n;
        enum reader_event e = reader_next(r, &in, &piece);

        t->used += before - in.n;
        if (e == READER_HEADERS) {
            tell_head(t, r);
        } else if (e == READER_BODY) {
            FUZZ_CHECK(piece.n > 0 && t->status >= 200);
            t->length += piece.n;
            fingerprint_feed(&t->body, piece);
        } else {
            FUZZ_CHECK(e != READER_NEED || in.n == 0);
            FUZZ_CHECK(e != READER_INVALID || r->error);
            return e;
        }
    }
}

static void read_all(struct str bytes, bool head, enum fuzz_way way, struct told *t)
{
    struct fuzz_cutter cutter;
    struct headers headers;
    struct response_reader r;
    struct str piece;

    memset(t, 0, sizeof *t);
    fingerprint_begin(&t->heads);
    fingerprint_begin(&t->body);
    headers_init(&headers);
    reader_init(&r, &headers, head);
    fuzz_cut(&cutter, way, bytes);
    while (fuzz_piece(&cutter, &piece))
        if (t->last == READER_NEED)
            t->last = feed(&r, piece, t);
    if (t->last == READER_NEED && reader_end(&r))
        t->last = READER_END;
    t->keeps = reader_keeps_connection(&r);
    FUZZ_CHECK(!t->keeps || t->last == READER_END);
    reader_deinit(&r);
    headers_deinit(&headers);
}

static void any_bytes(struct str bytes, bool head)
{
    struct told whole, cut;

    read_all(bytes, head, FUZZ_WHOLE, &whole);
    for (enum fuzz_way way = FUZZ_BYTES; way < FUZZ_WAYS; way++) {
        read_all(bytes, head, way, &cut);
        FUZZ_CHECK(cut.last == whole.last && cut.status == whole.status);
        FUZZ_CHECK(cut.length == whole.length && cut.keeps == whole.keeps);
        FUZZ_CHECK(fingerprint_end(&cut.heads) == fingerprint_end(&whole.heads));
        FUZZ_CHECK(fingerprint_end(&cut.body) == fingerprint_end(&whole.body));
        FUZZ_CHECK(whole.last != READER_END || cut.used == whole.used);
    }
}

/* The bytes as a body in chunks, with bytes behind it. */
static void as_a_body(struct str body)
{
    struct buf out;
    struct told t;
    size_t at = 0, n;

    buf_init(&out, SIZE_MAX);
    (void)buf_printf(&out, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (unsigned i = 0; at < body.n; i++, at += n) {
        n = 1 + fuzz_pick(body, i, body.n - at);
        (void)buf_printf(&out, i % 2 ? "%zx;a=b\r\n" : "%zX\r\n", n);
        (void)buf_add(&out, body.p + at, n);
        (void)buf_add_str(&out, STR("\r\n"));
    }
    (void)buf_add_str(&out, STR("0\r\nX: y\r\n\r\n"));
    n = out.len;
    (void)buf_add_str(&out, body);
    FUZZ_CHECK(!out.failed);
    read_all(buf_str(&out), false, FUZZ_RANDOM, &t);
    FUZZ_CHECK(t.last == READER_END && t.used == n && t.length == body.n);
    FUZZ_CHECK(fingerprint_end(&t.body) == fingerprint_of(body));
    buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str bytes = {(const char *)data, size};

    any_bytes(bytes, false);
    any_bytes(bytes, true);
    as_a_body(bytes);
    return 0;
}
