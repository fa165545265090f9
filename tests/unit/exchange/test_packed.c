/* Encoded requests: a body with a content encoding is read, and forwarded unchanged. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "exchange/request.h"
#include "fake_world.h"
#include "unit.h"
#include "world_fixture.h"

#define MIB (1024u * 1024)
#define PLAIN_MAX (40 * MIB)

static const char *const encodings[] = {"gzip", "x-gzip", "deflate", "DEFLATE", "zstd", "Zstd"};

static char *encoded;
static size_t encoded_len;
static struct request r;
static char problem[200];

static void deflate_text(struct str text, int bits)
{
    z_stream z = {0};

    ck_assert_int_eq(deflateInit2(&z, 6, Z_DEFLATED, bits, 8, Z_DEFAULT_STRATEGY), Z_OK);
    encoded_len = deflateBound(&z, text.n) + 32;
    encoded = malloc(encoded_len);
    z.next_in = (Bytef *)(uintptr_t)text.p;
    z.avail_in = (uInt)text.n;
    z.next_out = (Bytef *)encoded;
    z.avail_out = (uInt)encoded_len;
    ck_assert_int_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
    encoded_len = z.total_out;
    deflateEnd(&z);
}

static void zstd_text(struct str text)
{
    encoded_len = ZSTD_compressBound(text.n);
    encoded = malloc(encoded_len);
    encoded_len = ZSTD_compress(encoded, encoded_len, text.p, text.n, 3);
    ck_assert(!ZSTD_isError(encoded_len));
}

static void pack(const char *encoding, struct str text)
{
    free(encoded);
    if (encoding[0] == 'z' || encoding[0] == 'Z')
        zstd_text(text);
    else if (encoding[0] == 'D')
        deflate_text(text, -MAX_WBITS); /* bare, as some send it */
    else
        deflate_text(text, encoding[0] == 'd' ? MAX_WBITS : MAX_WBITS + 16);
}

static void pack_text(const char *encoding, const char *text)
{
    pack(encoding, str_from(text));
}

/* A request with what is packed, in pieces of so many bytes. */
static void receive(const char *encoding, size_t piece)
{
    char headers[100];

    snprintf(headers, sizeof(headers), "Content-Encoding: %s\n", encoding);
    ck_assert_int_eq(http_request_text(&r.http.method, "POST"), 0);
    ck_assert_int_eq(http_request_text(&r.http.target, "/v1/chat/completions"), 0);
    ck_assert_int_eq(fake_add_headers(&r.http.headers, headers), 0);
    for (size_t at = 0; at < encoded_len; at += piece) {
        size_t n = encoded_len - at < piece ? encoded_len - at : piece;

        ck_assert_int_eq(request_body(&r, encoded + at, n), n);
    }
    body_finish(&r.body);
    ck_assert_int_eq(body_go_on(&r.body), 0);
    ck_assert_int_eq(request_read(&r, problem, sizeof(problem)), 0);
}

static void set_up(void)
{
    request_init(&r, UINT64_C(1) << 30, 1, 2);
}

static void tear_down(void)
{
    request_deinit(&r);
    free(encoded);
    encoded = NULL;
}

static void again(void)
{
    request_deinit(&r);
    set_up();
}

#define ASKS                                                                        \
    "{\"messages\":[{\"role\":\"user\",\"content\":\"\\\"model\\\":\\\"no\\\"\"}]," \
    "\"model\":\"gpt-\\u0034o\",\"stream\":true,\"n\":3,"                           \
    "\"stream_options\":{\"include_usage\":true},\"background\":true}"

START_TEST(what_it_says_is_read)
{
    static const size_t pieces[] = {1, 7, 1 << 20};

    for (size_t i = 0; i < COUNT(pieces); i++) {
        pack_text(encodings[_i], ASKS);
        receive(encodings[_i], pieces[i]);
        ck_assert_str_eq(r.model, "gpt-4o");
        ck_assert(r.stream && r.may_stream && r.usage_wanted && r.background);
        ck_assert(r.model_fixed && !r.model_hidden);
        ck_assert_uint_eq(r.choices, 3);
        ck_assert_uint_eq(body_text(&r.body).n, encoded_len);
        ck_assert_mem_eq(body_text(&r.body).p, encoded, encoded_len);
        again();
    }
}
END_TEST

START_TEST(no_stream_and_no_model)
{
    pack_text(encodings[_i], "{\"input\":\"x\",\"stream\":false}");
    receive(encodings[_i], 100);
    ck_assert_str_eq(r.model, "");
    ck_assert(!r.may_stream && !r.model_fixed && !r.model_hidden);
}
END_TEST

START_TEST(a_form)
{
    pack_text(encodings[_i], "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n"
                             "whisper-1\r\n--b--\r\n");
    receive(encodings[_i], 5);
    ck_assert_str_eq(r.model, "whisper-1");
    ck_assert(r.model_fixed && r.may_stream);
}
END_TEST

/* Cut at each byte: what may be missing is not taken for a whole, and a stream may come. */
START_TEST(one_that_ends_early_is_not_read)
{
    pack_text(encodings[_i], ASKS);
    for (size_t n = encoded_len; n > 1;) {
        n--;
        encoded_len = n;
        receive(encodings[_i], 64);
        ck_assert_msg(body_packed_state(&r.body) == PACKED_BROKEN, "%zu", n);
        ck_assert_str_eq(r.model, "");
        ck_assert(r.model_hidden && r.may_stream && !r.stream);
        again();
    }
}
END_TEST

START_TEST(others_are_not_read)
{
    static const char *const unknown[] = {"br", "gzip, gzip", "compress", "aes128gcm",
                                          "zstd, gzip"};

    pack_text("gzip", ASKS);
    receive(unknown[_i], 64);
    ck_assert_int_eq(body_packed_state(&r.body), PACKED_UNKNOWN);
    ck_assert(r.model_hidden && r.may_stream && !r.stream);
    ck_assert_mem_eq(body_text(&r.body).p, encoded, encoded_len);
}
END_TEST

START_TEST(none_at_all)
{
    static const char *const none[] = {"identity", "Identity", ""};

    encoded = strdup(ASKS);
    encoded_len = strlen(encoded);
    receive(none[_i], 64);
    ck_assert_str_eq(r.model, "gpt-4o");
    ck_assert(!body_is_packed(&r.body) && !r.model_fixed && r.stream);
}
END_TEST

/* Names in the path count, and can be replaced there. */
START_TEST(a_model_in_the_path)
{
    pack_text("zstd", ASKS);
    ck_assert_int_eq(fake_add_headers(&r.http.headers, "Content-Encoding: br\n"), 0);
    ck_assert_int_eq(http_request_text(&r.http.method, "POST"), 0);
    ck_assert_int_eq(
        http_request_text(&r.http.target, "/openai/deployments/my%20gpt/chat/completions?x=1"), 0);
    ck_assert_int_eq(request_body(&r, encoded, encoded_len), encoded_len);
    body_finish(&r.body);
    ck_assert_int_eq(body_go_on(&r.body), 0);
    ck_assert_int_eq(request_read(&r, problem, sizeof(problem)), 0);
    ck_assert_str_eq(r.model, "my gpt");
    ck_assert(!r.model_hidden && !r.model_fixed);
}
END_TEST

static uint64_t fingerprint_after(const char *encoding, const char *text)
{
    uint64_t id;

    if (encoding[0]) {
        pack_text(encoding, text);
    } else {
        free(encoded);
        encoded = strdup(text);
        encoded_len = strlen(encoded);
    }
    again();
    receive(encoding, 64);
    id = body_fingerprint(&r.body);
    ck_assert_uint_eq(body_fingerprint(&r.body), id);
    return id;
}

/* Its content counts, with any encoding and any order of the members. */
START_TEST(it_is_known_by_what_it_says)
{
    static const char text[] = "{\"model\":\"m\",\"n\":[1,{\"a\":\"b\",\"c\":2}]}";
    static const char turned[] = "{\"n\":[1,{\"c\":2,\"a\":\"b\"}],\"model\":\"m\"}";
    static const char other[] = "{\"n\":[{\"c\":2,\"a\":\"b\"},1],\"model\":\"m\"}";
    uint64_t plain = fingerprint_after("", text);

    ck_assert_uint_eq(fingerprint_after(encodings[_i], text), plain);
    ck_assert_uint_eq(fingerprint_after(encodings[_i], turned), plain);
    ck_assert_uint_ne(fingerprint_after(encodings[_i], other), plain);
    ck_assert_uint_ne(fingerprint_after(encodings[_i], "no object"),
                      fingerprint_after(encodings[_i], "other words"));
}
END_TEST

/* A body that cannot be read is recognized by its bytes. */
START_TEST(unread_it_is_known_by_its_bytes)
{
    uint64_t before = fingerprint_after("gzip", ASKS);

    again();
    receive("br", 64);
    ck_assert_uint_eq(body_fingerprint(&r.body), body_fingerprint(&r.body));
    ck_assert_uint_ne(body_fingerprint(&r.body), before);
    again();
    encoded_len--;
    receive("gzip", 64);
    ck_assert_int_eq(body_packed_state(&r.body), PACKED_BROKEN);
    ck_assert_uint_ne(body_fingerprint(&r.body), before);
}
END_TEST

/* A body made to cost time is read no longer than its size justifies. */
START_TEST(a_bomb_is_not_unpacked)
{
    char *plain = malloc(PLAIN_MAX);
    bool model_first = _i % 2 == 0;
    const char *encoding = encodings[_i / 2];

    memset(plain, ' ', PLAIN_MAX);
    memcpy(plain + (model_first ? 0 : PLAIN_MAX - 20), "{\"model\":\"m\",", 13);
    plain[0] = '{';
    memcpy(plain + PLAIN_MAX - 6, "\"a\":1}", 6);
    pack(encoding, (struct str){plain, PLAIN_MAX});
    free(plain);
    receive(encoding, 16384);
    ck_assert_int_eq(body_packed_state(&r.body), PACKED_LONG);
    ck_assert_uint_le(r.body.look->plain, PACKED_PLAIN_MAX + 128 * 1024);
    ck_assert_str_eq(r.model, model_first ? "m" : "");
    ck_assert(r.model_fixed == model_first && r.model_hidden != model_first && r.may_stream);
    ck_assert_uint_lt(body_memory(&r.body) - r.body.memory.size, 8192);
}
END_TEST

/* A value amid which it is given up is none. */
START_TEST(a_bomb_in_the_models_name)
{
    char *plain = malloc(PLAIN_MAX);

    memset(plain, 'x', PLAIN_MAX);
    memcpy(plain, "{\"model\":\"m", 11);
    memcpy(plain + PLAIN_MAX - 2, "\"}", 2);
    pack("zstd", (struct str){plain, PLAIN_MAX});
    free(plain);
    receive("zstd", 16384);
    ck_assert_str_eq(r.model, "");
    ck_assert(r.model_hidden);
}
END_TEST

/* Large, but worth it: pictures do not shrink. */
START_TEST(a_large_body_is_read_to_its_end)
{
    char *plain = malloc(PLAIN_MAX);

    for (size_t i = 0; i < PLAIN_MAX; i++)
        plain[i] = (char)('0' + unit_below(64));
    for (size_t i = 0; i < PLAIN_MAX; i++)
        if (plain[i] == '\\')
            plain[i] = 'x';
    memcpy(plain, "{\"image\":\"", 10);
    memcpy(plain + PLAIN_MAX - 28, "\",\"model\":\"m\",\"stream\":true}", 28);
    pack(encodings[_i], (struct str){plain, PLAIN_MAX});
    free(plain);
    receive(encodings[_i], 16384);
    ck_assert_int_eq(body_packed_state(&r.body), PACKED_READ);
    ck_assert_str_eq(r.model, "m");
    ck_assert(r.stream);
}
END_TEST

/* --- where it may go -------------------------------------------------------------------------- */

static const struct target_model own_models[] = {{STR("gpt-4o"), "eu-4o"}};
static const char *const fallbacks[] = {"small"};
static const struct fake_attempt script[] = {{.status = 500, .pieces = {{0, "{}", 0}}},
                                             {.status = 500, .pieces = {{0, "{}", 0}}},
                                             {.status = 200, .pieces = {{0, "{\"n\":1}", 0}}}};

static void begin(const char *encoding, const char *target)
{
    char headers[64];

    snprintf(headers, sizeof(headers), "Content-Encoding: %s\n", encoding);
    w.upload = encoded;
    w.upload_len = encoded_len;
    fake_begin(&w, "POST", target, headers, NULL);
    ck_assert_int_eq(w.begin_rc, 0);
    world_finish();
}

static void world_with(unsigned upstreams)
{
    world_upstreams(upstreams);
    world_follow(script, COUNT(script));
    pack_text("zstd", ASKS);
}

static bool told(const char *code)
{
    char mark[80];

    snprintf(mark, sizeof(mark), "\"code\":\"%s\"", code);
    return w.starts == 0 && w.x.end == END_REFUSED && w.response.status == 400 &&
           str_ifind(buf_str(&w.body), str_from(mark)) >= 0;
}

START_TEST(spooled_it_is_read_too_and_sent_again_as_it_is)
{
    world_with(1);
    w.limits.memory_body = 10;
    begin("zstd", "/v1/chat/completions");
    world_answered("{\"n\":1}");
    ck_assert_str_eq(w.x.request.model, "gpt-4o");
    ck_assert(!body_in_memory(&w.x.request.body));
    ck_assert_uint_eq(w.starts, 3);
    for (unsigned i = 0; i < 3; i++)
        ck_assert_uint_eq(w.start[i].sent, encoded_len);
}
END_TEST

/* ... and known by what it says. */
START_TEST(spooled_it_has_the_same_fingerprint)
{
    struct failures *failures = failures_new();
    uint64_t plain = fingerprint_after("", ASKS);

    world_with(1);
    pack_text(encodings[_i], ASKS);
    w.shared_failures = failures;
    w.limits.memory_body = 10;
    begin(encodings[_i], "/v1/chat/completions");
    ck_assert(!body_in_memory(&w.x.request.body));
    ck_assert_uint_eq(body_fingerprint(&w.x.request.body), plain);
    failures_free(failures);
}
END_TEST

START_TEST(an_upstream_with_another_name_is_passed_over)
{
    world_with(2);
    w.upstreams[0].models = own_models;
    w.upstreams[0].model_count = 1;
    begin("zstd", "/v1/chat/completions");
    world_answered("{\"n\":1}");
    for (unsigned i = 0; i < w.starts; i++)
        ck_assert_str_eq(w.start[i].target.upstream->name, "b");
}
END_TEST

START_TEST(none_but_those_with_another_name)
{
    world_with(1);
    w.upstreams[0].models = own_models;
    w.upstreams[0].model_count = 1;
    begin("zstd", "/v1/chat/completions");
    ck_assert(told("model_not_replaceable"));
    ck_assert_int_ge(str_ifind(buf_str(&w.body), STR("upstream a has another name for the model")),
                     0);
}
END_TEST

START_TEST(an_url_with_the_model)
{
    world_with(1);
    w.upstreams[0].base_path = "/openai/deployments/{model}";
    w.upstreams[0].models = own_models;
    w.upstreams[0].model_count = 1;
    begin("zstd", "/v1/chat/completions");
    world_answered("{\"n\":1}");
    ck_assert(str_eq(w.start[0].target.own_model, STR("eu-4o")));
}
END_TEST

START_TEST(a_hidden_model_that_is_needed)
{
    world_with(1);
    if (_i == 0) {
        w.upstreams[0].base_path = "/openai/deployments/{model}";
    } else if (_i == 1) {
        w.upstreams[0].model_count = 1;
        w.upstreams[0].models = own_models;
    } else {
        w.plan_fails = -ENODATA;
    }
    begin("br", "/v1/chat/completions");
    ck_assert(told("model_not_readable"));
    ck_assert_int_ge(
        str_ifind(buf_str(&w.body), STR("encoding \\\"br\\\"; gzip, deflate and zstd can")), 0);
}
END_TEST

START_TEST(a_hidden_model_that_is_not_needed)
{
    world_with(1);
    begin("br", "/v1/chat/completions");
    world_answered("{\"n\":1}");
    ck_assert_uint_eq(w.start[0].sent, encoded_len);
}
END_TEST

START_TEST(a_request_without_a_model_for_an_url_with_one)
{
    world_with(2);
    encoded_len = 0;
    w.upstreams[0].base_path = "/openai/deployments/{model}";
    begin("identity", "/v1/models");
    world_answered("{\"n\":1}");
    ck_assert_str_eq(w.start[0].target.upstream->name, "b");

    world_again();
    world_with(1);
    encoded_len = 0;
    w.upstreams[0].base_path = "/openai/deployments/{model}";
    begin("identity", "/v1/models");
    ck_assert(told("model_required"));
}
END_TEST

/* The upstream's own error, and a reason that says what was in the way. */
START_TEST(no_fallback_model_and_the_log_says_why)
{
    world_with(1);
    w.fallback_models = fallbacks;
    w.fallback_count = 1;
    w.fallback_on = FALLBACK_ON_ALL;
    world_follow(script, 1);
    begin(_i ? "br" : "zstd", "/v1/chat/completions");
    ck_assert_uint_eq(w.response.status, 500);
    ck_assert_uint_eq(w.starts, w.x.max_attempts);
    ck_assert_ptr_nonnull(strstr(w.x.cannot_retry, "a fallback model cannot take"));
}
END_TEST

/* The path can name another one. */
START_TEST(a_fallback_model_in_the_path)
{
    world_with(1);
    w.fallback_models = fallbacks;
    w.fallback_count = 1;
    w.fallback_on = FALLBACK_ON_ALL;
    w.settings.retry.attempts_per_tier = 1;
    begin("zstd", "/v1/openai/deployments/d/chat/completions");
    world_answered("{\"n\":1}");
    ck_assert(str_eq(w.start[0].target.own_model, STR("d")));
    ck_assert(str_eq(w.start[1].target.own_model, STR("small")));
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *c = unit_case(suite, "reading");

    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, set_up, tear_down);
    tcase_add_loop_test(c, what_it_says_is_read, 0, COUNT(encodings));
    tcase_add_loop_test(c, no_stream_and_no_model, 0, COUNT(encodings));
    tcase_add_loop_test(c, a_form, 0, COUNT(encodings));
    tcase_add_loop_test(c, one_that_ends_early_is_not_read, 0, COUNT(encodings));
    tcase_add_loop_test(c, others_are_not_read, 0, 5);
    tcase_add_loop_test(c, none_at_all, 0, 3);
    tcase_add_test(c, a_model_in_the_path);
    tcase_add_loop_test(c, it_is_known_by_what_it_says, 0, COUNT(encodings));
    tcase_add_test(c, unread_it_is_known_by_its_bytes);
    tcase_add_loop_test(c, a_bomb_is_not_unpacked, 0, 2 * COUNT(encodings));
    tcase_add_test(c, a_bomb_in_the_models_name);
    tcase_add_loop_test(c, a_large_body_is_read_to_its_end, 4, 5);

    c = unit_case(suite, "going");
    tcase_add_checked_fixture(c, world_set_up, world_tear_down);
    tcase_add_test(c, spooled_it_is_read_too_and_sent_again_as_it_is);
    tcase_add_loop_test(c, spooled_it_has_the_same_fingerprint, 0, COUNT(encodings));
    tcase_add_test(c, an_upstream_with_another_name_is_passed_over);
    tcase_add_test(c, none_but_those_with_another_name);
    tcase_add_test(c, an_url_with_the_model);
    tcase_add_loop_test(c, a_hidden_model_that_is_needed, 0, 3);
    tcase_add_test(c, a_hidden_model_that_is_not_needed);
    tcase_add_test(c, a_request_without_a_model_for_an_url_with_one);
    tcase_add_loop_test(c, no_fallback_model_and_the_log_says_why, 0, 2);
    tcase_add_test(c, a_fallback_model_in_the_path);
}
