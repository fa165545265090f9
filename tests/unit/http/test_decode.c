/* Decoding content encodings: a compressor's output in pieces of any size, into any amount of room;
 * and bytes that are no such output. */

#include "http/decode.h"

#include <check.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "failmem.h"
#include "unit.h"

#define TEXT 50000

static char text[TEXT];             /* compresses well, and not to nothing */
static unsigned char encoded[TEXT]; /* of the current encoding */
static size_t encoded_len;

static const struct {
    const char *name;
    int window_bits;
} encodings[] = {{"gzip", MAX_WBITS + 16},
                 {"x-gzip", MAX_WBITS + 16},
                 {"GZip", MAX_WBITS + 16},
                 {"deflate", MAX_WBITS},
                 {"Deflate", -MAX_WBITS}}; /* bare, as some servers send it */

static void compress_text(int window_bits, size_t n)
{
    z_stream z = {0};

    ck_assert_int_eq(deflateInit2(&z, 9, Z_DEFLATED, window_bits, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (Bytef *)text;
    z.avail_in = (uInt)n;
    z.next_out = encoded;
    z.avail_out = sizeof(encoded);
    ck_assert_int_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
    encoded_len = z.total_out;
    deflateEnd(&z);
}

static void encode(int window_bits, size_t n)
{
    for (size_t i = 0; i < n; i++)
        text[i] = (char)(i % 97 == 0 ? 'A' + (int)(i / 97 % 53) : ' ' + (int)(i % 64));
    compress_text(window_bits, n);
}

static struct str coded_part(size_t n)
{
    return (struct str){(const char *)encoded, n};
}

START_TEST(gives_the_text_back)
{
    static const size_t sizes[] = {1, 100, 4095, 4096, 4097, 8192, 30000, TEXT};

    for (size_t i = 0; i < COUNT(sizes); i++) {
        struct buf out;

        encode(encodings[_i].window_bits, sizes[i]);
        buf_init(&out, TEXT + 10);
        ck_assert_int_eq(decode_body(str_from(encodings[_i].name), coded_part(encoded_len), &out),
                         0);
        ck_assert_msg(out.len == sizes[i], "%s: %zu of %zu bytes", encodings[_i].name, out.len,
                      sizes[i]);
        ck_assert_mem_eq(out.p, text, out.len);
        buf_deinit(&out);
    }
}
END_TEST

/* The last input byte may stand for much more text than a piece of output takes. */
START_TEST(the_end_of_a_long_run)
{
    for (size_t n = 4090; n < 8460; n += n == 4360 ? 3826 : 1) {
        struct buf out;

        memset(text, 'x', n);
        compress_text(encodings[_i].window_bits, n);
        buf_init(&out, TEXT);
        ck_assert_int_eq(decode_body(str_from(encodings[_i].name), coded_part(encoded_len), &out),
                         0);
        ck_assert_msg(out.len == n, "%s: %zu of %zu bytes", encodings[_i].name, out.len, n);
        buf_deinit(&out);
    }
}
END_TEST

/* An error is cut off where the room ends: its beginning is what matters. */
START_TEST(stops_where_the_room_ends)
{
    encode(encodings[_i].window_bits, TEXT);
    for (size_t room = 1; room < TEXT; room = room * 3 + 1) {
        struct buf out;

        buf_init(&out, room);
        ck_assert_int_eq(decode_body(str_from(encodings[_i].name), coded_part(encoded_len), &out),
                         0);
        ck_assert_uint_eq(out.len, room);
        ck_assert_mem_eq(out.p, text, room);
        buf_deinit(&out);
    }
}
END_TEST

/* Cut off at each byte: never more than was sent, and never something else. */
START_TEST(a_body_that_ends_early)
{
    size_t most = 0;

    encode(encodings[_i].window_bits, 9000);
    for (size_t cut = 0; cut < encoded_len; cut++) {
        struct buf out;
        int rc;

        buf_init(&out, TEXT);
        rc = decode_body(str_from(encodings[_i].name), coded_part(cut), &out);
        ck_assert(rc == 0 || (rc == -EBADMSG && out.len == 0));
        ck_assert(out.len <= 9000 && out.len >= most);
        if (out.len > 0)
            ck_assert_mem_eq(out.p, text, out.len);
        most = out.len;
        buf_deinit(&out);
    }
    ck_assert_uint_gt(most, 8000);
}
END_TEST

/* --- in pieces -------------------------------------------------------------------------------- */

static void append(void *arg, struct str plain)
{
    ck_assert_uint_gt(plain.n, 0);
    ck_assert_int_eq(buf_add_str(arg, plain), 0);
}

/* Feeds `s` in pieces of `step`, each in memory of its own. The first failure is the last one. */
static int decode_pieces(const char *name, struct str s, size_t step, struct buf *out, bool *whole)
{
    struct decoder d;
    int r = decoder_init(&d, str_from(name));

    ck_assert_int_eq(r, 0);
    for (size_t at = 0; at < s.n; at += step) {
        size_t n = s.n - at < step ? s.n - at : step;
        char *copy = malloc(n);
        memcpy(copy, s.p + at, n);
        int now = decoder_feed(&d, (struct str){copy, n}, append, out);
        free(copy);
        ck_assert(r == 0 || now == r);
        r = now;
    }
    *whole = decoder_whole(&d);
    decoder_deinit(&d);
    return r;
}

START_TEST(pieces_of_any_size)
{
    static const size_t steps[] = {1, 2, 3, 7, 100, 1000, TEXT};

    encode(encodings[_i].window_bits, 9000);
    for (size_t i = 0; i < COUNT(steps); i++)
        for (size_t cut = 0; cut < 3; cut++) {
            struct buf out;
            bool whole;

            buf_init(&out, TEXT);
            ck_assert_int_eq(decode_pieces(encodings[_i].name, coded_part(encoded_len - cut),
                                           steps[i], &out, &whole),
                             0);
            ck_assert(whole == (cut == 0));
            ck_assert_uint_le(out.len, 9000);
            ck_assert_mem_eq(out.p, text, out.len);
            buf_deinit(&out);
        }
}
END_TEST

/* RFC 1952 2.2: a gzip stream may be several members; what is none behind the end is ignored. */
START_TEST(behind_the_end)
{
    static const struct {
        const char *name, *tail;
        int r;
        bool again, whole; /* the stream twice; whether the last one is whole */
    } cases[] = {
        {"gzip", "", 0, true, true},
        {"gzip", "junk", 0, false, true},
        {"gzip", "j\x1f\x8b", 0, true, true},
        {"gzip", "\x1f\x8b", 0, false, false},
        {"gzip", "\x1fjunk", -EBADMSG, false, false},
        {"deflate", "\x1f\x8b", 0, false, true},
        {"deflate", "junk", 0, false, true},
    };
    unsigned char twice[400];

    for (size_t i = 0; i < COUNT(cases); i++) {
        bool gzip = cases[i].name[0] == 'g';
        size_t tail = strlen(cases[i].tail), n = 0;
        encode(gzip ? MAX_WBITS + 16 : MAX_WBITS, 30);
        ck_assert_uint_lt(2 * encoded_len + tail, sizeof twice);
        for (int k = 0; k <= cases[i].again; k++, n += encoded_len)
            memcpy(twice + n, encoded, encoded_len);
        memcpy(twice + n, cases[i].tail, tail);
        for (size_t step = 1; step <= n + tail; step++) {
            struct buf out;
            bool whole;

            buf_init(&out, 100);
            ck_assert_int_eq(decode_pieces(cases[i].name, (struct str){(char *)twice, n + tail},
                                           step, &out, &whole),
                             cases[i].r);
            ck_assert(whole == cases[i].whole);
            ck_assert_uint_eq(out.len, cases[i].again ? 60 : 30);
            buf_deinit(&out);
        }
    }
}
END_TEST

START_TEST(a_decoder_for_what_is_not_coded)
{
    struct decoder d;
    struct buf out;
    bool whole = false;

    buf_init(&out, 10);
    ck_assert_int_eq(decode_pieces("", STR("abc"), 1, &out, &whole), 0);
    ck_assert(whole && str_eq(buf_str(&out), STR("abc")));
    ck_assert_int_eq(decode_pieces("Identity", STR("def"), 3, &out, &whole), 0);
    ck_assert(whole && str_eq(buf_str(&out), STR("abcdef")));
    buf_deinit(&out);
    ck_assert_int_eq(decoder_init(&d, STR("br")), -EPROTONOSUPPORT);
    decoder_deinit(&d);
    ck_assert_int_eq(decoder_init(&d, STR("gzip, gzip")), -EPROTONOSUPPORT);
    failmem_arm(1);
    int r = decoder_init(&d, STR("gzip"));
    ck_assert(failmem_disarm());
    ck_assert_int_eq(r, -ENOMEM);
    decoder_deinit(&d);
}
END_TEST

/* Text that grows a thousandfold stops where the room does, and soon after. */
START_TEST(a_bomb)
{
    static char zeros[1 << 20];
    struct buf out;
    z_stream z = {0};

    ck_assert_int_eq(deflateInit2(&z, 9, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_out = encoded;
    z.avail_out = sizeof(encoded);
    for (int i = 0; i < 40; i++) {
        z.next_in = (Bytef *)zeros;
        z.avail_in = sizeof zeros;
        ck_assert_int_eq(deflate(&z, i == 39 ? Z_FINISH : Z_NO_FLUSH),
                         i == 39 ? Z_STREAM_END : Z_OK);
    }
    encoded_len = z.total_out;
    deflateEnd(&z);
    buf_init(&out, 1000);
    ck_assert_int_eq(decode_body(STR("gzip"), coded_part(encoded_len), &out), 0);
    ck_assert_uint_eq(out.len, 1000);
    buf_deinit(&out);
}
END_TEST

START_TEST(appends_to_what_is_there)
{
    struct buf out;

    encode(MAX_WBITS + 16, 10);
    buf_init(&out, 100);
    buf_add_str(&out, STR("before"));
    ck_assert_int_eq(decode_body(STR("gzip"), coded_part(encoded_len), &out), 0);
    ck_assert_uint_eq(out.len, 16);
    ck_assert_mem_eq(out.p, "before", 6);
    ck_assert_mem_eq(out.p + 6, text, 10);
    buf_deinit(&out);
}
END_TEST

START_TEST(identity_and_none_pass)
{
    static const char *const names[] = {"", "identity", "Identity"};

    for (size_t i = 0; i < COUNT(names); i++) {
        struct buf out;

        buf_init(&out, 4);
        ck_assert_int_eq(decode_body(str_from(names[i]), STR("abcdef"), &out), 0);
        ck_assert(str_eq(buf_str(&out), STR("abcd")));
        buf_deinit(&out);
    }
}
END_TEST

START_TEST(other_encodings_are_refused)
{
    static const char *const names[] = {"br", "zstd", "gzip, gzip", "compress", "gzip;q=1"};

    for (size_t i = 0; i < COUNT(names); i++) {
        struct buf out;

        buf_init(&out, 100);
        ck_assert_int_eq(decode_body(str_from(names[i]), STR("abc"), &out), -EPROTONOSUPPORT);
        ck_assert_uint_eq(out.len, 0);
        ck_assert(!decode_knows(str_from(names[i])));
        buf_deinit(&out);
    }
    ck_assert(decode_knows(STR("GZIP")) && decode_knows(STR("x-gzip")));
    ck_assert(decode_knows(STR("deflate")) && decode_knows(STR("identity")));
}
END_TEST

START_TEST(bytes_that_are_none)
{
    static const char *const bodies[] = {"", "{\"error\":1}", "\x1f\x8b", "\x1f\x8b\x08\xff",
                                         "\xff"};

    for (size_t i = 0; i < COUNT(bodies); i++) {
        struct buf out;

        buf_init(&out, 100);
        ck_assert_int_eq(decode_body(STR("gzip"), str_from(bodies[i]), &out), -EBADMSG);
        ck_assert_uint_eq(out.len, 0);
        buf_deinit(&out);
    }
}
END_TEST

/* Any byte spoilt: an end or an error, and never more than the room. */
START_TEST(spoilt_bodies)
{
    for (size_t i = 0; i < COUNT(encodings); i++) {
        encode(encodings[i].window_bits, 3000);
        for (size_t at = 0; at < encoded_len; at++) {
            struct buf out;

            buf_init(&out, 5000);
            encoded[at] ^= (unsigned char)(1u << at % 8);
            int rc = decode_body(str_from(encodings[i].name), coded_part(encoded_len), &out);
            encoded[at] ^= (unsigned char)(1u << at % 8);
            ck_assert(rc == 0 || rc == -EBADMSG);
            ck_assert_uint_le(out.len, 5000);
            buf_deinit(&out);
        }
    }
}
END_TEST

START_TEST(without_memory)
{
    encode(MAX_WBITS + 16, TEXT);
    for (size_t n = 1;; n++) {
        struct buf out;

        buf_init(&out, TEXT);
        failmem_arm(n);
        int rc = decode_body(STR("gzip"), coded_part(encoded_len), &out);
        bool failed = failmem_disarm();
        ck_assert_int_eq(rc, failed ? -ENOMEM : 0);
        buf_deinit(&out);
        if (!failed)
            break;
    }
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *c = unit_case(suite, "decode");

    tcase_add_loop_test(c, gives_the_text_back, 0, COUNT(encodings));
    tcase_add_loop_test(c, the_end_of_a_long_run, 0, COUNT(encodings));
    tcase_add_loop_test(c, stops_where_the_room_ends, 0, COUNT(encodings));
    tcase_add_loop_test(c, a_body_that_ends_early, 0, COUNT(encodings));
    tcase_add_loop_test(c, pieces_of_any_size, 0, COUNT(encodings));
    tcase_add_test(c, behind_the_end);
    tcase_add_test(c, a_decoder_for_what_is_not_coded);
    tcase_add_test(c, a_bomb);
    tcase_add_test(c, appends_to_what_is_there);
    tcase_add_test(c, identity_and_none_pass);
    tcase_add_test(c, other_encodings_are_refused);
    tcase_add_test(c, bytes_that_are_none);
    tcase_add_test(c, spoilt_bodies);
    tcase_add_test(c, without_memory);
}
