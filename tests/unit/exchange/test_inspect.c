/* What a response's headers promise, and whether its body keeps it, in pieces of any size. */

#include "exchange/inspect.h"

#include <check.h>
#include <string.h>

#include "failmem.h"
#include "unit.h"

#define JSON "application/json"

static const char body[] = "{\"object\":\"chat.completion\",\"choices\":[{\"index\":0,\"message\":"
                           "{\"role\":\"assistant\",\"content\":\"Hello, hello, hello!\"}}]}\n";

static void set_headers(struct headers *h, const char *type, const char *encoding)
{
    headers_init(h);
    if (type)
        ck_assert_int_eq(headers_add(h, STR("Content-Type"), str_from(type)), 0);
    if (encoding)
        ck_assert_int_eq(headers_add(h, STR("content-encoding"), str_from(encoding)), 0);
}

static bool due;         /* JSON is, whatever the head says */
static const char *what; /* the last one was */

static enum inspect_end inspect_pieces(const struct headers *h, struct str s, size_t step)
{
    struct inspect i;

    inspect_begin(&i, h, due);
    for (size_t at = 0; at < s.n; at += step)
        inspect_feed(&i, (struct str){s.p + at, s.n - at < step ? s.n - at : step});
    enum inspect_end end = inspect_end(&i);
    if (!inspect_wants(&i) && (end == INSPECT_GOOD || end == INSPECT_EMPTY))
        ck_abort_msg("a verdict on what was not looked at");
    what = inspect_what(&i);
    inspect_deinit(&i);
    return end;
}

static enum inspect_end inspect(const char *type, const char *encoding, struct str s)
{
    struct headers h;

    set_headers(&h, type, encoding);
    enum inspect_end end = inspect_pieces(&h, s, s.n ? s.n : 1);
    for (size_t step = 1; step < 20; step++)
        ck_assert_int_eq(inspect_pieces(&h, s, step), end);
    headers_deinit(&h);
    return end;
}

static struct str squeeze(struct str s, int window_bits, unsigned char *out, size_t size)
{
    z_stream z = {0};

    ck_assert_int_eq(deflateInit2(&z, 9, Z_DEFLATED, window_bits, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (Bytef *)(uintptr_t)s.p;
    z.avail_in = (uInt)s.n;
    z.next_out = out;
    z.avail_out = (uInt)size;
    ck_assert_int_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
    deflateEnd(&z);
    return (struct str){(const char *)out, z.total_out};
}

START_TEST(which_types_promise)
{
    static const char *const json[] = {JSON,
                                       "Application/JSON",
                                       "application/json; charset=utf-8",
                                       "application/json ;x",
                                       "application/problem+json",
                                       "application/vnd.api+json; charset=utf-8",
                                       "model/gltf+JSON"};
    static const char *const other[] = {"text/event-stream",
                                        "application/jsonl",
                                        "application/json-seq",
                                        "application/x-ndjson",
                                        "text/plain; x=application/json",
                                        "audio/mpeg",
                                        "+json",
                                        "json",
                                        "",
                                        " "};

    for (size_t i = 0; i < COUNT(json); i++) {
        ck_assert_msg(inspect(json[i], NULL, STR(body)) == INSPECT_GOOD, "%s", json[i]);
        ck_assert_int_eq(inspect(json[i], NULL, STR("{")), INSPECT_BAD);
    }
    for (size_t i = 0; i < COUNT(other); i++)
        ck_assert_msg(inspect(other[i], NULL, STR("{")) == INSPECT_NOTHING, "%s", other[i]);
    ck_assert_int_eq(inspect(NULL, NULL, STR("{")), INSPECT_NOTHING);
}
END_TEST

START_TEST(json_in_plain)
{
    for (size_t n = 1; n < sizeof body - 2; n++)
        ck_assert_msg(inspect(JSON, NULL, (struct str){body, n}) == INSPECT_BAD, "%zu", n);
    ck_assert_int_eq(inspect(JSON, NULL, (struct str){body, sizeof body - 2}), INSPECT_GOOD);
    ck_assert_int_eq(inspect(JSON, NULL, STR("")), INSPECT_EMPTY);
    ck_assert_int_eq(inspect(JSON, NULL, STR("\r\n ")), INSPECT_EMPTY);
    ck_assert_int_eq(inspect(JSON, NULL, STR("\xef\xbb\xbf{}")), INSPECT_GOOD);
    ck_assert_int_eq(inspect(JSON, NULL, STR("[NaN]")), INSPECT_GOOD);
    ck_assert_int_eq(inspect(JSON, NULL, STR("<html>")), INSPECT_BAD);
    ck_assert_int_eq(inspect(JSON, NULL, STR("{} {}")), INSPECT_BAD);
    ck_assert_int_eq(inspect(JSON, "identity", STR("{")), INSPECT_BAD);
    ck_assert_int_eq(inspect(JSON, "", STR("{")), INSPECT_BAD);
}
END_TEST

START_TEST(c03_where_json_is_due)
{
    static const struct {
        const char *type, *text;
        enum inspect_end end;
        const char *what; /* NULL: nobody asks */
    } cases[] = {
        {JSON, "{\"a\":1}", INSPECT_GOOD, NULL},
        {"text/plain", " \n {\"a\":1}", INSPECT_GOOD, NULL},
        {NULL, "\xef\xbb\xbf[{}]", INSPECT_GOOD, NULL},
        {JSON, " 17 ", INSPECT_GOOD, NULL},
        {"text/html", "17", INSPECT_BAD, "plain text"},
        {NULL, "null", INSPECT_BAD, "plain text"},
        {"text/plain", "", INSPECT_EMPTY, "an empty body"},
        {"text/html", " \r\n", INSPECT_EMPTY, "an empty body"},
        {JSON, "", INSPECT_EMPTY, "an empty body"},
        {"text/html", "<!DOCTYPE html><title>x</title>", INSPECT_BAD, "an HTML page"},
        {NULL, "\n<html>", INSPECT_BAD, "an HTML page"},
        {JSON, "<html>", INSPECT_BAD, "an HTML page"},
        {"text/xml", "<?xml version='1.0'?><Error/>", INSPECT_BAD, "an XML document"},
        {"text/plain", "upstream connect error", INSPECT_BAD, "plain text"},
        {"text/plain", "ok", INSPECT_BAD, "plain text"},
        {NULL, "\x01\x02\x03", INSPECT_BAD, "binary data"},
        {"audio/mpeg", "\x01\x02\x03", INSPECT_NOTHING, NULL},
        {"Image/png", "x", INSPECT_NOTHING, NULL},
        {"text/plain", "{\"a\":", INSPECT_BAD, "broken JSON"},
        {"application/jsonl", "{}\n{}\n", INSPECT_BAD, "broken JSON"},
        {NULL, "data: {}\n\n", INSPECT_NOTHING, NULL},
        {"text/plain", ": hello\n\n", INSPECT_NOTHING, NULL},
        {"text/plain", "event: x\ndata: y\n\n", INSPECT_NOTHING, NULL},
        {JSON, "data: {}\n\n", INSPECT_BAD, "an event stream"},
        {"text/plain", "database error", INSPECT_BAD, "plain text"},
    };

    due = true;
    for (size_t i = 0; i < COUNT(cases); i++) {
        ck_assert_msg(inspect(cases[i].type, NULL, str_from(cases[i].text)) == cases[i].end, "%s",
                      cases[i].text);
        if (cases[i].what)
            ck_assert_str_eq(what, cases[i].what);
    }
    ck_assert_int_eq(inspect("text/html", "br", STR("whatever")), INSPECT_NOTHING);
    due = false;
}
END_TEST

static const struct {
    const char *name;
    int window_bits;
} encodings[] = {{"gzip", MAX_WBITS + 16},
                 {"X-Gzip", MAX_WBITS + 16},
                 {"deflate", MAX_WBITS},
                 {"deflate", -MAX_WBITS}};

START_TEST(coded_json)
{
    const char *name = encodings[_i].name;
    unsigned char out[512];
    struct str encoded = squeeze(STR(body), encodings[_i].window_bits, out, sizeof out);

    ck_assert_int_eq(inspect(JSON, name, encoded), INSPECT_GOOD);
    ck_assert_int_eq(inspect("text/plain", name, encoded), INSPECT_GOOD);
    ck_assert_int_eq(inspect(NULL, name, STR("")), INSPECT_NOTHING);
    ck_assert_int_eq(inspect(JSON, name, STR("")), INSPECT_EMPTY);
    ck_assert_int_eq(inspect(JSON, name, STR("{\"error\":{\"code\":null}}")), INSPECT_BAD);
    for (size_t n = 1; n < encoded.n; n++) {
        ck_assert_int_eq(inspect(JSON, name, (struct str){encoded.p, n}), INSPECT_BAD);
        ck_assert_int_eq(inspect(NULL, name, (struct str){encoded.p, n}), INSPECT_BAD);
    }
    encoded = squeeze(STR("{\"a\":"), encodings[_i].window_bits, out, sizeof out);
    ck_assert_int_eq(inspect(JSON, name, encoded), INSPECT_BAD);
    ck_assert_int_eq(inspect("audio/mpeg", name, encoded), INSPECT_GOOD);
    encoded = squeeze(STR("\n"), encodings[_i].window_bits, out, sizeof out);
    ck_assert_int_eq(inspect(JSON, name, encoded), INSPECT_EMPTY);
}
END_TEST

START_TEST(encodings_that_cannot_be_read)
{
    static const char *const names[] = {"br", "zstd", "gzip, gzip", "gzip, br", "compress"};
    struct headers h;

    for (size_t i = 0; i < COUNT(names); i++) {
        ck_assert_int_eq(inspect(JSON, names[i], STR("{")), INSPECT_NOTHING);
        ck_assert_int_eq(inspect(JSON, names[i], STR("")), INSPECT_NOTHING);
    }
    set_headers(&h, JSON, "gzip"); /* two fields are a list, too */
    ck_assert_int_eq(headers_add(&h, STR("Content-Encoding"), STR("gzip")), 0);
    ck_assert_int_eq(inspect_pieces(&h, STR("{"), 1), INSPECT_NOTHING);
    headers_deinit(&h);
    set_headers(&h, JSON, "identity");
    ck_assert_int_eq(headers_add(&h, STR("Content-Encoding"), STR("")), 0);
    ck_assert_int_eq(inspect_pieces(&h, STR("{"), 1), INSPECT_BAD);
    headers_deinit(&h);
}
END_TEST

/* A caller need not feed what is lost, and nothing is asked of what promised nothing. */
START_TEST(what_is_wanted)
{
    struct headers h;
    struct inspect i;

    set_headers(&h, JSON, NULL);
    inspect_begin(&i, &h, false);
    ck_assert(inspect_wants(&i));
    inspect_feed(&i, STR("{}"));
    ck_assert(inspect_wants(&i));
    ck_assert_int_eq(inspect_end(&i), INSPECT_GOOD);
    inspect_feed(&i, STR("x"));
    ck_assert(!inspect_wants(&i));
    ck_assert_int_eq(inspect_end(&i), INSPECT_BAD);
    inspect_deinit(&i);
    headers_deinit(&h);
    set_headers(&h, "audio/mpeg", NULL);
    inspect_begin(&i, &h, false);
    ck_assert(!inspect_wants(&i));
    inspect_deinit(&i);
    headers_deinit(&h);
}
END_TEST

/* Plain JSON costs no allocation; without memory for zlib the response has promised nothing. */
START_TEST(memory)
{
    unsigned char out[512];
    struct str encoded = squeeze(STR(body), MAX_WBITS + 16, out, sizeof out);
    struct headers h;

    set_headers(&h, JSON, NULL);
    failmem_arm_from(1);
    enum inspect_end end = inspect_pieces(&h, STR(body), 7);
    ck_assert(!failmem_disarm());
    ck_assert_int_eq(end, INSPECT_GOOD);
    headers_deinit(&h);

    set_headers(&h, JSON, "gzip");
    size_t n = 1;
    for (;; n++) {
        failmem_arm(n);
        end = inspect_pieces(&h, encoded, 7);
        bool failed = failmem_disarm();
        ck_assert_int_eq(end, failed ? INSPECT_NOTHING : INSPECT_GOOD);
        if (!failed)
            break;
    }
    ck_assert_uint_gt(n, 2); /* zlib's state, and later its window */
    headers_deinit(&h);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "inspect");

    tcase_set_timeout(tcase, 30);
    tcase_add_test(tcase, which_types_promise);
    tcase_add_test(tcase, json_in_plain);
    tcase_add_test(tcase, c03_where_json_is_due);
    tcase_add_loop_test(tcase, coded_json, 0, COUNT(encodings));
    tcase_add_test(tcase, encodings_that_cannot_be_read);
    tcase_add_test(tcase, what_is_wanted);
    tcase_add_test(tcase, memory);
}
