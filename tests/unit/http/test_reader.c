/* Responses of HTTP/1.1 from pieces of any size: what they say, and where they end. */
#include "http/reader.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "failmem.h"
#include "unit.h"

/* All that a reader says of some bytes, as one text: "<103 a=b>" for each head, the body, "." at
 * the end and "+N" for bytes behind it, "~" where the end of the connection is the end, "!" and the
 * error where it is none. */
struct told {
    char text[4096];
    size_t n;
    bool keeps, no_memory;
};

static void tell(struct told *t, struct str s)
{
    if (t->n + s.n >= sizeof t->text)
        ck_abort_msg("too much text for this test");
    if (s.n)
        memcpy(t->text + t->n, s.p, s.n);
    t->n += s.n;
    t->text[t->n] = '\0';
}

static void tell_head(struct told *t, const struct response_reader *r)
{
    char space[STR_DECIMAL_MAX];

    tell(t, STR("<"));
    tell(t, str_decimal(r->status, space));
    for (unsigned i = 0; i < r->headers->count; i++) {
        tell(t, STR(" "));
        tell(t, headers_name(r->headers, i));
        tell(t, STR("="));
        tell(t, headers_value(r->headers, i));
    }
    tell(t, STR(">"));
}

/* Reads one piece. Returns whether more may follow. */
static bool feed(struct response_reader *r, struct str in, struct told *t, bool *over)
{
    struct str piece;
    char space[STR_DECIMAL_MAX];

    for (;;) {
        switch (reader_next(r, &in, &piece)) {
        case READER_NEED:
            if (in.n)
                ck_abort_msg("%zu bytes were not used", in.n);
            return true;
        case READER_HEADERS:
            tell_head(t, r);
            break;
        case READER_BODY:
            if (piece.n == 0)
                ck_abort_msg("a piece without bytes");
            tell(t, piece);
            break;
        case READER_END:
            if (!*over)
                tell(t, STR("."));
            *over = true;
            if (in.n) {
                tell(t, STR("+"));
                tell(t, str_decimal(in.n, space));
            }
            return true;
        case READER_NO_MEMORY:
            t->no_memory = true;
            return false;
        case READER_INVALID:
        case READER_TOO_LARGE:
            tell(t, STR("!"));
            tell(t, str_from(r->error));
            return false;
        }
    }
}

/* Cuts `s` at `cuts`. Every piece has memory of its own, so that a sanitizer sees a read beyond
 * it. */
static void read_all(struct str s, bool head, const size_t *cuts, size_t count, struct told *t)
{
    struct headers headers;
    struct response_reader r;
    size_t at = 0;
    bool over = false, goes_on = true;

    *t = (struct told){.n = 0};
    headers_init(&headers);
    reader_init(&r, &headers, head);
    for (size_t i = 0; i <= count && goes_on && !over; i++) {
        size_t n = (i < count ? cuts[i] : s.n) - at;
        char *piece = malloc(n ? n : 1);
        if (n)
            memcpy(piece, s.p + at, n);
        goes_on = feed(&r, (struct str){piece, n}, t, &over);
        free(piece);
        at += n;
    }
    if (goes_on && !over)
        tell(t, reader_end(&r) ? STR("~") : STR("!cut"));
    t->keeps = reader_keeps_connection(&r);
    reader_deinit(&r);
    headers_deinit(&headers);
}

#define OK "HTTP/1.1 200 OK\r\n"
#define CHUNKED OK "Transfer-Encoding: chunked\r\n\r\n"
#define INVALID_SIZE "!the size of a chunk of the response is invalid"

static const struct sample {
    const char *name, *bytes, *told;
    bool keeps, head;
} samples[] = {
    {"a length", OK "Content-Length: 3\r\nX: y\r\n\r\nabc", "<200 Content-Length=3 X=y>abc.", true,
     false},
    {"no body", OK "Content-Length: 0\r\n\r\n", "<200 Content-Length=0>.", true, false},
    {"bytes behind", OK "Content-Length: 1\r\n\r\nabc", "<200 Content-Length=1>a.+2", true, false},
    {"bare line feeds", "HTTP/1.1 200 OK\nContent-Length: 1\n\na", "<200 Content-Length=1>a.", true,
     false},
    {"no reason phrase", "HTTP/1.1 200\r\nContent-Length:1\r\n\r\na", "<200 Content-Length=1>a.",
     true, false},
    {"an empty reason phrase", "HTTP/1.1 429 \r\nContent-Length: 0\r\n\r\n",
     "<429 Content-Length=0>.", true, false},
    {"until the end", OK "\r\nabc", "<200>abc~", false, false},
    {"until the end, empty", OK "\r\n", "<200>~", false, false},
    {"close", OK "connection: x, Close\r\ncontent-length: 0\r\n\r\n",
     "<200 connection=x, Close content-length=0>.", false, false},
    {"1.0", "HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\na",
     "<200 Content-Length=1 Connection=keep-alive>a.", false, false},
    {"HEAD", OK "Content-Length: 5\r\n\r\n", "<200 Content-Length=5>.", true, true},
    {"HEAD, chunked", CHUNKED, "<200 Transfer-Encoding=chunked>.", true, true},
    {"HEAD without a length", OK "\r\n", "<200>.", true, true},
    {"204", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", "<204 Content-Length=5>.", true,
     false},
    {"304", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "<304 Content-Length=5>.",
     true, false},
    {"interim",
     "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nA: b\r\n\r\n" OK
     "Content-Length: 1\r\n\r\na",
     "<100><103 A=b><200 Content-Length=1>a.", true, false},
    {"the framing of an interim response is its own",
     "HTTP/1.1 103 E\r\nContent-Length: 7\r\nConnection: close\r\n\r\n" OK
     "Content-Length: 1\r\n\r\na",
     "<103 Content-Length=7 Connection=close><200 Content-Length=1>a.", true, false},
    {"101", "HTTP/1.1 101 Switching\r\n\r\n", "<101>!cut", false, false},
    {"folded", OK "A: b\r\n c\r\n\td: e\r\nContent-Length: 0\r\n\r\n",
     "<200 A=b c d: e Content-Length=0>.", true, false},
    {"folded before all", OK " a: b\r\nContent-Length: 0\r\n\r\n", "<200 Content-Length=0>.", true,
     false},
    {"blanks", OK "A : \t b \r\nContent-Length: 0 \r\n\r\n", "<200 A=b Content-Length=0>.", true,
     false},

    {"chunks", CHUNKED "3\r\nabc\r\n1;x=y\r\nd\r\n0\r\n\r\n",
     "<200 Transfer-Encoding=chunked>abcd.", true, false},
    {"chunks and bare line feeds", CHUNKED "A \nabcdefghij\n0\n\n",
     "<200 Transfer-Encoding=chunked>abcdefghij.", true, false},
    {"zeros and both cases", CHUNKED "00a\r\nabcdefghij\r\n0A\r\nabcdefghij\r\n000\r\n\r\n",
     "<200 Transfer-Encoding=chunked>abcdefghijabcdefghij.", true, false},
    {"trailers", CHUNKED "1\r\na\r\n0;last\r\nX: y\r\n z\r\n\r\nHTTP",
     "<200 Transfer-Encoding=chunked>a.+4", true, false},
    {"cut within a chunk", CHUNKED "3\r\nab", "<200 Transfer-Encoding=chunked>ab!cut", false,
     false},
    {"cut before the last chunk", CHUNKED "1\r\na\r\n", "<200 Transfer-Encoding=chunked>a!cut",
     false, false},
    {"cut within trailers", CHUNKED "0\r\nX: y\r\n", "<200 Transfer-Encoding=chunked>!cut", false,
     false},
    {"identity", OK "Transfer-Encoding: identity\r\nContent-Length: 1\r\n\r\na",
     "<200 Transfer-Encoding=identity Content-Length=1>a.", true, false},
    {"chunks beat the length",
     OK "Content-Length: 99\r\nTransfer-Encoding: Chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
     "<200 Transfer-Encoding=Chunked>a.", false, false},
    {"a chunk without a size", CHUNKED "\r\n", "<200 Transfer-Encoding=chunked>" INVALID_SIZE,
     false, false},
    {"no size, and no line end", CHUNKED "x", "<200 Transfer-Encoding=chunked>" INVALID_SIZE, false,
     false},
    {"a chunk that is longer, and no line end", CHUNKED "1\r\nab",
     "<200 Transfer-Encoding=chunked>a!a chunk of the response is longer than its size", false,
     false},
    {"a size with a sign", CHUNKED "+1\r\na", "<200 Transfer-Encoding=chunked>" INVALID_SIZE, false,
     false},
    {"a size with 0x", CHUNKED "0x1\r\na", "<200 Transfer-Encoding=chunked>" INVALID_SIZE, false,
     false},
    {"two sizes", CHUNKED "1 1\r\na", "<200 Transfer-Encoding=chunked>" INVALID_SIZE, false, false},
    {"a size before a blank", CHUNKED " 1\r\na", "<200 Transfer-Encoding=chunked>" INVALID_SIZE,
     false, false},
    {"the largest size", CHUNKED "ffffffffffffffff\r\na", "<200 Transfer-Encoding=chunked>a!cut",
     false, false},
    {"a size beyond it", CHUNKED "10000000000000000\r\na",
     "<200 Transfer-Encoding=chunked>!the size of a chunk of the response is too large", false,
     false},
    {"a chunk that is longer", CHUNKED "1\r\nab\r\n0\r\n\r\n",
     "<200 Transfer-Encoding=chunked>a!a chunk of the response is longer than its size", false,
     false},

    {"one length twice", OK "Content-Length: 1\r\nContent-Length: 1, 1\r\n\r\na",
     "<200 Content-Length=1 Content-Length=1, 1>a.", true, false},
    {"two lengths", OK "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
     "!the response has different Content-Lengths", false, false},
    {"two in one", OK "Content-Length: 1, 2\r\n\r\nab",
     "!the response has different Content-Lengths", false, false},
    {"an empty length", OK "Content-Length: \r\n\r\n",
     "!the Content-Length of the response is invalid", false, false},
    {"a negative length", OK "Content-Length: -1\r\n\r\n",
     "!the Content-Length of the response is invalid", false, false},
    {"a length beyond 64 bits", OK "Content-Length: 18446744073709551616\r\n\r\n",
     "!the Content-Length of the response is invalid", false, false},
    {"a folded length", OK "Content-Length: 1\r\n 2\r\n\r\n",
     "!the field that frames the response is folded", false, false},
    {"an unknown encoding", OK "Transfer-Encoding: gzip\r\n\r\n",
     "!the Transfer-Encoding of the response is not supported", false, false},
    {"an unknown encoding before chunks", OK "Transfer-Encoding: gzip, chunked\r\n\r\n",
     "!the Transfer-Encoding of the response is not supported", false, false},
    {"an unknown encoding behind chunks", OK "Transfer-Encoding: chunked, x\r\n\r\n",
     "!the Transfer-Encoding of the response is not supported", false, false},
    {"chunked twice", OK "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
     "!the Transfer-Encoding of the response is not supported", false, false},

    {"nothing", "", "!cut", false, false},
    {"a beginning", "HTTP/1.", "!cut", false, false},
    {"within the headers", OK "A: b\r\n", "!cut", false, false},
    {"other bytes", "SSH-2.0-x", "!the response is not HTTP/1.1", false, false},
    {"an empty line before", "\r\n" OK "\r\n", "!the response is not HTTP/1.1", false, false},
    {"HTTP/2", "HTTP/2 200\r\n\r\n", "!the response is not HTTP/1.1", false, false},
    {"HTTP/1.2", "HTTP/1.2 200 OK\r\n\r\n", "!the response is not HTTP/1.1", false, false},
    {"no status", "HTTP/1.1 OK\r\n\r\n", "!the response is not HTTP/1.1", false, false},
    {"a status of two digits", "HTTP/1.1 20 OK\r\n\r\n",
     "!the status line of the response is invalid", false, false},
    {"a status of four digits", "HTTP/1.1 2000\r\n\r\n",
     "!the status line of the response is invalid", false, false},
    {"status 099", "HTTP/1.1 099 OK\r\n\r\n", "!the status line of the response is invalid", false,
     false},
    {"no colon", OK "abc\r\n\r\n", "!a header field of the response has no colon", false, false},
};

START_TEST(samples_at_every_two_splits_and_byte_by_byte)
{
    const struct sample *s = &samples[_i];
    struct str bytes = str_from(s->bytes);
    struct told whole, split;
    size_t all[512];

    read_all(bytes, s->head, NULL, 0, &whole);
    ck_assert_msg(!strcmp(whole.text, s->told), "%s: %s", s->name, whole.text);
    ck_assert_msg(whole.keeps == s->keeps, "%s: keeps %d", s->name, whole.keeps);
    for (size_t a = 0; a <= bytes.n; a++)
        for (size_t b = a; b <= bytes.n; b++) {
            read_all(bytes, s->head, (size_t[]){a, b}, 2, &split);
            /* How many bytes are behind the end depends on the pieces. */
            size_t n = strcspn(whole.text, "+");
            if (strncmp(whole.text, split.text, n) != 0 || whole.keeps != split.keeps)
                ck_abort_msg("%s, split at %zu and %zu: %s", s->name, a, b, split.text);
        }
    for (size_t n = 0; n < bytes.n; n++)
        all[n] = n;
    read_all(bytes, s->head, all, bytes.n, &split);
    ck_assert_msg(!strncmp(whole.text, split.text, strcspn(whole.text, "+")), "%s", s->name);
}
END_TEST

START_TEST(nul_bytes_are_no_text)
{
    struct told t;

    read_all(STR(OK "A: \0b\r\n\r\n"), false, NULL, 0, &t);
    ck_assert_str_eq(t.text, "!a header field of the response has a NUL byte");
    read_all(STR("HTTP/1.1 200 O\0K\r\n\r\n"), false, NULL, 0, &t);
    ck_assert_str_eq(t.text, "!the status line of the response is invalid");
    read_all(STR(CHUNKED "1\0\r\na\r\n"), false, NULL, 0, &t);
    ck_assert_str_eq(t.text, "<200 Transfer-Encoding=chunked>" INVALID_SIZE);
}
END_TEST

/* --- limits ----------------------------------------------------------------------------------- */

/* Feeds `start` and then as many of `more` as are taken, and tells how many. */
static size_t feed_endlessly(const char *start, const char *more, size_t most, struct told *t)
{
    struct headers headers;
    struct response_reader r;
    bool over = false;
    size_t n = 0;

    *t = (struct told){.n = 0};
    headers_init(&headers);
    reader_init(&r, &headers, false);
    ck_assert(feed(&r, str_from(start), t, &over));
    while (n < most && feed(&r, str_from(more), t, &over)) {
        t->n = 0;
        n++;
    }
    reader_deinit(&r);
    headers_deinit(&headers);
    return n;
}

#define TEN "0123456789"
#define HUNDRED TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN

START_TEST(headers_have_an_end)
{
    struct told t;
    size_t most = 100000;

    ck_assert_uint_lt(feed_endlessly(OK "A: ", HUNDRED, most, &t), 1025);
    ck_assert_str_eq(t.text, "!a line of the response headers is too large");
    ck_assert_uint_lt(feed_endlessly("HTTP/1.1 200 ", HUNDRED, most, &t), 1025);
    ck_assert_str_eq(t.text, "!a line of the response headers is too large");
    ck_assert_uint_eq(feed_endlessly(OK, "A: b\r\n", most, &t), HEADERS_MAX);
    ck_assert_str_eq(t.text, "!the response headers are too large");
    ck_assert_uint_lt(
        feed_endlessly(OK, "A: " HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED "\r\n", most, &t),
        HEADERS_MAX);
    ck_assert_str_eq(t.text, "!the response headers are too large");
    ck_assert_uint_lt(feed_endlessly(OK "A: b\r\n", " c\r\n", most, &t), most);
    ck_assert_str_eq(t.text, "!the response headers are too large");
    ck_assert_uint_lt(feed_endlessly("", "HTTP/1.1 102 Processing\r\n\r\n", most, &t), most);
    ck_assert_str_eq(t.text, "!the response headers are too large");
    ck_assert_uint_lt(feed_endlessly(CHUNKED "0\r\n", "X: y\r\n", most, &t), most);
    ck_assert_str_eq(t.text, "!the response headers are too large");
    ck_assert_uint_lt(feed_endlessly(CHUNKED "1;", HUNDRED, most, &t), 1025);
    ck_assert_str_eq(t.text, "!a line of the response headers is too large");
}
END_TEST

START_TEST(chunks_have_no_end)
{
    struct told t;

    ck_assert_uint_eq(feed_endlessly(CHUNKED, "1;" TEN "\r\na\r\n", 50000, &t), 50000);
}
END_TEST

START_TEST(no_memory)
{
    struct str s = STR(OK "A: b\r\n c\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    struct headers headers;
    struct response_reader r;
    size_t n;

    for (n = 1;; n++) {
        enum reader_event e = READER_NEED;
        struct str in, piece;
        headers_init(&headers);
        reader_init(&r, &headers, false);
        failmem_arm(n);
        for (size_t i = 0; i < s.n && e != READER_NO_MEMORY; i++) {
            in = (struct str){s.p + i, 1};
            do
                e = reader_next(&r, &in, &piece);
            while (e == READER_HEADERS || e == READER_BODY);
        }
        bool failed = failmem_disarm();
        reader_deinit(&r);
        headers_deinit(&headers);
        ck_assert_int_eq(e, failed ? READER_NO_MEMORY : READER_END);
        if (!failed)
            break;
    }
    ck_assert_uint_gt(n, 3);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *c = unit_case(suite, "samples");

    tcase_add_loop_test(c, samples_at_every_two_splits_and_byte_by_byte, 0, (int)COUNT(samples));
    tcase_add_test(c, nul_bytes_are_no_text);
    c = unit_case(suite, "limits");
    tcase_add_test(c, headers_have_an_end);
    tcase_add_test(c, chunks_have_no_end);
    tcase_add_test(c, no_memory);
}
