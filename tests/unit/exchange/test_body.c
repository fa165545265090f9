/* Bodies that can be sent again: every attempt gets the client's bytes, wherever they are kept; a
 * slow disk holds the client back, and a failing one costs this request and nothing else. */

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "failmem.h"
#include "unit.h"
#include "world_fixture.h"

#define KIB 1024u
#define MEMORY_BODY (100 * KIB)
#define LOOK (8 * KIB) /* what reads a body takes no more than that */

static char bytes[1024 * KIB];

static const struct fake_attempt third_time_lucky[] = {
    {.status = 503, .pieces = {{0, "{}", 0}}},
    {.end = TRANSPORT_LOST, .detail = "lost"},
    {.status = 200, .pieces = {{0, "{\"a\":1}", 0}}},
};

static void set_up(void)
{
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (char)(i * 31 + i / 253);
    world_set_up();
    world_follow(third_time_lucky, COUNT(third_time_lucky));
    w.limits.memory_body = MEMORY_BODY;
}

static void begin(const char *body, size_t n)
{
    w.upload = body;
    w.upload_len = n;
    fake_begin(&w, "POST", "/v1/files", "Content-Type: application/octet-stream\n", NULL);
    ck_assert_int_eq(w.begin_rc, 0);
}

static void error_message(char *to, size_t size)
{
    snprintf(to, size, "%.*s", (int)w.body.len, w.body.p ? w.body.p : "");
}

/* --- sent again and again --------------------------------------------------------------------- */

static const size_t lengths[] = {0,
                                 1,
                                 MEMORY_BODY - 1,
                                 MEMORY_BODY,
                                 MEMORY_BODY + 1,
                                 2 * FAKE_BLOCK,
                                 7 * FAKE_BLOCK - 1,
                                 7 * FAKE_BLOCK,
                                 7 * FAKE_BLOCK + 1,
                                 sizeof(bytes)};
static const size_t pieces[] = {1000, 16 * KIB, 300 * KIB};
static const uint64_t disk_ms[] = {0, 50};

/* The fake world looks at each byte of each attempt. */
START_TEST(each_attempt_has_the_same_bytes)
{
    size_t n = lengths[(unsigned)_i % COUNT(lengths)];

    w.upload_piece = pieces[(unsigned)_i / COUNT(lengths) % COUNT(pieces)];
    w.disk.store_ms = w.disk.read_ms = disk_ms[(unsigned)_i / COUNT(lengths) / COUNT(pieces)];
    begin(bytes, n);
    fake_run(&w);
    ck_assert_uint_eq(w.response.status, 200);
    ck_assert_uint_eq(w.starts, 3);
    for (unsigned i = 0; i < 3; i++)
        ck_assert_uint_eq(w.start[i].sent, n);
    ck_assert_uint_eq(w.disk.opened, n > MEMORY_BODY ? 1 : 0);
}
END_TEST

/* A body that is declared long goes to the file from its first byte. */
START_TEST(a_told_length_decides_at_once)
{
    begin(bytes, 0);
    ck_assert_uint_eq(w.disk.opened, 0);
    w.x.request.http.content_length = MEMORY_BODY + (unsigned)_i;
    ck_assert_int_eq(exchange_body(&w.x, bytes, 10), 10);
    ck_assert_uint_eq(w.disk.opened, (unsigned)_i);
    ck_assert_uint_eq(body_in_memory(&w.x.request.body), _i == 0);
}
END_TEST

START_TEST(under_pressure_it_goes_to_the_file_sooner)
{
    w.limits.memory_body = sizeof(bytes);
    w.pressed = true;
    begin(bytes, 256 * KIB + (unsigned)_i);
    fake_run(&w);
    ck_assert_uint_eq(w.response.status, 200);
    /* Up to that length the blocks of a spool would take more than they spare. */
    ck_assert_uint_eq(w.disk.opened, (unsigned)_i);
}
END_TEST

/* --- slow disks ------------------------------------------------------------------------------- */

START_TEST(a_slow_disk_holds_the_client_back)
{
    size_t most = 0;

    w.disk.store_ms = 1000;
    begin(bytes, sizeof(bytes));
    do {
        if (exchange_memory(&w.x) > most)
            most = exchange_memory(&w.x);
    } while (fake_turn(&w));
    ck_assert_uint_eq(w.response.status, 200);
    ck_assert_uint_ge(w.start[0].at_ms, sizeof(bytes) / FAKE_BLOCK * 1000);
    ck_assert_uint_le(most, MEMORY_BODY + 2 * (size_t)FAKE_BLOCK + LOOK);
}
END_TEST

/* Nothing is sent upstream before the last byte is safe. */
START_TEST(the_last_block_is_waited_for)
{
    w.disk.store_ms = 1000;
    begin(bytes, 7 * FAKE_BLOCK + 1);
    while (!w.x.request_complete)
        ck_assert(fake_turn(&w));
    ck_assert_int_eq(w.x.state, EXCHANGE_RECEIVING);
    ck_assert_uint_eq(w.starts, 0);
    fake_run(&w);
    ck_assert_uint_eq(w.disk.stores, 8);
    ck_assert_uint_ge(w.start[0].at_ms, 8000);
    ck_assert_uint_eq(w.response.status, 200);
}
END_TEST

/* An attempt that ends amid its upload leaves a read under way; the next one begins anew. */
START_TEST(a_response_amid_the_upload)
{
    static const struct fake_attempt script[] = {
        {.status = 503, .headers_ms = 250, .pieces = {{0, "{}", 0}}, .early = true},
        {.status = 200, .pieces = {{0, "{}", 0}}},
    };

    world_follow(script, COUNT(script));
    w.settings.retry.backoff.initial_delay_ms = 1;
    w.disk.read_ms = 100;
    begin(bytes, sizeof(bytes));
    fake_run(&w);
    ck_assert_uint_eq(w.response.status, 200);
    ck_assert_uint_eq(w.start[0].sent, 2 * FAKE_BLOCK);
    ck_assert_uint_eq(w.start[1].sent, sizeof(bytes));
}
END_TEST

START_TEST(a_client_that_leaves_amid_it)
{
    w.disk.store_ms = 1000;
    w.disk.read_ms = 100;
    /* While it is stored, while the end of it is, while it is sent. */
    w.client.leaves_at = (const uint64_t[]){1500, 63500, 64950}[_i];
    begin(bytes, sizeof(bytes));
    fake_run(&w);
    ck_assert_int_eq(w.x.end, END_CLIENT_GONE);
    ck_assert_uint_eq(w.starts, _i == 2 ? 1 : 0);
    ck_assert_uint_eq(w.cancels, w.starts);
}
END_TEST

/* --- disks that fail -------------------------------------------------------------------------- */

static void expect_507(const char *reason)
{
    char message[600];

    ck_assert_uint_eq(w.starts, 0);
    ck_assert_int_eq(w.x.end, END_REFUSED);
    if (w.x.refused) { /* the way in tells the client */
        ck_assert_uint_eq(w.x.refused, 507);
        exchange_body_problem(&w.x, -ENOSPC, message, sizeof(message));
    } else {
        ck_assert_uint_eq(w.response.status, 507);
        error_message(message, sizeof(message));
        ck_assert_ptr_nonnull(strstr(message, "\"insufficient_storage\""));
        ck_assert_ptr_nonnull(strstr(message, "\"server_error\""));
    }
    ck_assert_ptr_nonnull(strstr(message, "spool_dir (/spool)"));
    ck_assert_ptr_nonnull(strstr(message, reason));
}

START_TEST(no_room_amid_the_body)
{
    w.disk.store_fails = -ENOSPC;
    w.disk.fails_at = 200 * KIB;
    w.disk.store_ms = 10;
    begin(bytes, sizeof(bytes));
    fake_run(&w);
    ck_assert_uint_eq(w.x.refused, 507);
    expect_507("No space left on device");
    ck_assert_uint_le(exchange_memory(&w.x), LOOK);
}
END_TEST

/* The client has sent all of it when the last block proves too much. */
START_TEST(no_room_for_the_last_block)
{
    w.disk.store_fails = -EDQUOT;
    w.disk.fails_at = sizeof(bytes) - 1;
    w.disk.store_ms = 10;
    begin(bytes, sizeof(bytes));
    fake_run(&w);
    ck_assert_uint_eq(w.x.refused, 0);
    ck_assert_uint_eq(w.wholes, 1);
    expect_507("Disk quota exceeded");
}
END_TEST

START_TEST(no_file_at_all)
{
    w.disk.open_fails = -EMFILE;
    w.upload = bytes;
    w.upload_len = sizeof(bytes);
    fake_begin(&w, "POST", "/v1/files", NULL, NULL);
    ck_assert_int_eq(w.begin_rc, -ENOSPC);
    ck_assert_int_eq(exchange_body(&w.x, bytes, 1), -ENOSPC);
    exchange_refused(&w.x, 507);
    exchange_step(&w.x);
    expect_507("Too many open files");
}
END_TEST

/* Its attempt ends; it is final, since no other attempt could have the bytes either. */
START_TEST(it_cannot_be_read_back)
{
    char message[600];

    w.disk.read_fails = -EIO;
    w.disk.fails_at = 500 * KIB;
    begin(bytes, sizeof(bytes));
    fake_run(&w);
    ck_assert_uint_eq(w.starts, 1);
    ck_assert_uint_eq(w.response.status, 503);
    error_message(message, sizeof(message));
    ck_assert_ptr_nonnull(strstr(message, "the body could not be read"));
}
END_TEST

/* --- what it says ----------------------------------------------------------------------------- */

/* A JSON body as long as one likes: the keys stand around the long value. */
static size_t make_json(size_t filler)
{
    static const char before[] = " \n{\"model\":\"gpt-x\",\"input\":\"";
    static const char behind[] = "\",\"stream\":true,\"background\" : true}";
    size_t n = sizeof(before) - 1;

    memcpy(bytes, before, n);
    memset(bytes + n, 'x', filler);
    memcpy(bytes + n + filler, behind, sizeof(behind) - 1);
    return n + filler + sizeof(behind) - 1;
}

static int out_of_memory(struct spool_scan *scan, const void *data, size_t n)
{
    (void)scan;
    (void)data;
    (void)n;
    return -ENOMEM;
}

static size_t put(size_t at, const char *text)
{
    memcpy(bytes + at, text, strlen(text));
    return strlen(text);
}

START_TEST(what_a_spooled_body_asks_for)
{
    size_t filler = (const size_t[]){10, MEMORY_BODY, 500 * KIB}[_i % 3];

    w.upload_piece = _i < 3 ? 1 : 7777;
    world_follow(third_time_lucky + 2, 1);
    begin(bytes, make_json(filler));
    fake_run(&w);
    ck_assert_str_eq(w.x.request.model, "gpt-x");
    ck_assert(w.x.request.stream);
    ck_assert(w.x.request.background);
    ck_assert(w.x.request.may_stream);
    ck_assert_uint_eq(w.disk.opened, _i % 3 > 0);
}
END_TEST

/* The model stands before the file, or behind it; in memory or not. */
START_TEST(the_model_of_a_form)
{
    static const char field[] =
        "--bound\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n";
    static const char file[] = "--bound\r\nContent-Disposition: form-data; name=\"file\"; "
                               "filename=\"x.wav\"\r\n\r\n";
    size_t filler = (const size_t[]){10, MEMORY_BODY, 500 * KIB}[_i % 3], n = 0;
    bool before = _i % 2;
    struct body_place place;

    if (before)
        n += put(n, field);
    n += put(n, file);
    memset(bytes + n, '\r', filler);
    n += filler;
    n += put(n, "\r\n");
    if (!before)
        n += put(n, field);
    n += put(n, "--bound--\r\n");
    w.upload_piece = _i < 6 ? 1 : 7777;
    w.script = third_time_lucky + 2;
    w.script_len = 1;
    begin(bytes, n);
    fake_run(&w);
    ck_assert_str_eq(w.x.request.model, "whisper-1");
    ck_assert(!w.x.request.stream && w.x.request.may_stream);
    ck_assert_uint_eq(w.disk.opened, _i % 3 > 0);
    ck_assert(body_model_place(&w.x.request.body, &place));
    ck_assert(!place.json);
    ck_assert_uint_eq(place.length, 9);
    ck_assert_mem_eq(bytes + place.at, "whisper-1", 9);
}
END_TEST

/* A model that is no plain text, or too long, cannot choose a target. */
START_TEST(odd_models_of_forms)
{
    static const char *const values[] = {"", "a\nb", "a\tb", "\x7f", "\xc3(", "caf\xc3\xa9"};
    char form[600], model[MODEL_MAX] = "", large[300];
    struct body b;

    for (size_t i = 0; i <= COUNT(values) + 1; i++) {
        memset(large, 'm', sizeof(large));
        large[i == COUNT(values) ? MODEL_MAX - 1 : MODEL_MAX] = '\0';
        snprintf(form, sizeof(form),
                 "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n%s\r\n--b--",
                 i < COUNT(values) ? values[i] : large);
        body_init(&b, sizeof(form));
        ck_assert_int_eq(body_append(&b, form, strlen(form)), (ptrdiff_t)strlen(form));
        body_finish(&b);
        ck_assert_int_eq(body_form_model(&b, model, sizeof(model)),
                         i == 0 || i == COUNT(values) - 1 || i == COUNT(values));
        body_deinit(&b);
    }
}
END_TEST

/* Without the memory to read it nothing is sent: nobody knows where it should go. */
START_TEST(no_memory_to_unpack_a_spooled_body)
{
    w.upload = bytes;
    w.upload_len = make_json(MEMORY_BODY); /* not packed, which makes no difference */
    fake_begin(&w, "POST", "/v1/chat/completions", "Content-Encoding: zstd\n", NULL);
    w.x.request.body.look->scan.feed = out_of_memory;
    fake_run(&w);
    ck_assert_uint_eq(w.starts, 0);
    ck_assert_int_eq(w.x.end, END_REFUSED);
    ck_assert_uint_eq(w.x.refused ? w.x.refused : w.response.status, 503);
}
END_TEST

START_TEST(what_a_spooled_file_asks_for)
{
    begin(bytes, sizeof(bytes)); /* begins with a zero byte */
    fake_run(&w);
    ck_assert_str_eq(w.x.request.model, "");
    ck_assert(!w.x.request.stream);
    ck_assert(!w.x.request.background);
    ck_assert(w.x.request.may_stream);
}
END_TEST

/* --- by itself -------------------------------------------------------------------------------- */

START_TEST(in_memory_without_a_world)
{
    struct json_value values[BODY_KEYS];
    char got[8];
    struct body b;

    body_init(&b, 5);
    ck_assert(!body_values(&b, values));
    ck_assert_int_eq(body_append(&b, "{}", 2), 2);
    ck_assert_int_eq(body_append(&b, "abcd", 4), -EFBIG);
    ck_assert_int_eq(body_append(&b, "xyz", 3), 3);
    ck_assert_int_eq(body_append(&b, "", 0), 0);
    ck_assert(!body_full(&b));
    body_finish(&b);
    ck_assert_int_eq(body_go_on(&b), 0);
    ck_assert(body_in_memory(&b));
    ck_assert(str_eq(body_text(&b), STR("{}xyz")));
    ck_assert_int_eq(body_read(&b, 3, got, sizeof(got)), 2);
    ck_assert_int_eq(memcmp(got, "yz", 2), 0);
    ck_assert_int_eq(body_read(&b, 5, got, sizeof(got)), 0);
    ck_assert(body_values(&b, values));
    ck_assert_int_eq(values[BODY_MODEL].type, JSON_NONE);
    ck_assert_uint_ge(body_memory(&b), 5);
    body_deinit(&b);
}
END_TEST

START_TEST(beyond_max_body_in_the_file_as_well)
{
    w.limits.max_body = 300 * KIB;
    w.upload = bytes;
    w.upload_len = 300 * KIB + 1;
    fake_begin(&w, "POST", "/v1/files", NULL, NULL);
    fake_run(&w);
    ck_assert_uint_eq(w.x.refused, 413);
    ck_assert_uint_eq(w.starts, 0);
    ck_assert_int_eq(w.x.end, END_REFUSED);
}
END_TEST

/* Each allocation fails once, in turn: the request is answered, or refused, and nothing leaks. */
START_TEST(each_allocation_fails)
{
    bool failed = true;

    fake_deinit(&w);
    for (size_t n = 1; failed; n++) {
        bool answered;

        fake_init(&w);
        w.limits.memory_body = MEMORY_BODY;
        world_follow(third_time_lucky + 2, 1);
        w.disk.store_ms = 10;
        w.upload = bytes;
        w.upload_len = 300 * KIB;
        buf_reserve(&w.body, 64 * KIB);
        failmem_arm(n);
        fake_begin(&w, "POST", "/v1/files", NULL, NULL);
        if (w.begin_rc == 0)
            fake_run(&w);
        failed = failmem_disarm();
        answered = w.wholes == 1 && (w.response.status == 200 || w.response.status == 503);
        ck_assert_msg(!w.wrong && (w.begin_rc == -ENOMEM || w.x.state == EXCHANGE_DONE) &&
                          (w.begin_rc < 0 || answered || w.cuts == 1 || w.x.refused == 503),
                      "allocation %zu: %s", n, w.wrong ? w.wrong : "no proper end");
        ck_assert(failed || w.response.status == 200);
        fake_deinit(&w);
    }
    fake_init(&w);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *c = unit_case(suite, "body");

    tcase_add_checked_fixture(c, set_up, world_tear_down);
    tcase_add_loop_test(c, each_attempt_has_the_same_bytes, 0,
                        (int)(COUNT(lengths) * COUNT(pieces) * COUNT(disk_ms)));
    tcase_add_loop_test(c, a_told_length_decides_at_once, 0, 2);
    tcase_add_loop_test(c, under_pressure_it_goes_to_the_file_sooner, 0, 2);
    tcase_add_test(c, a_slow_disk_holds_the_client_back);
    tcase_add_test(c, the_last_block_is_waited_for);
    tcase_add_test(c, a_response_amid_the_upload);
    tcase_add_loop_test(c, a_client_that_leaves_amid_it, 0, 3);
    tcase_add_test(c, no_room_amid_the_body);
    tcase_add_test(c, no_room_for_the_last_block);
    tcase_add_test(c, no_file_at_all);
    tcase_add_test(c, it_cannot_be_read_back);
    tcase_add_loop_test(c, what_a_spooled_body_asks_for, 0, 6);
    tcase_add_loop_test(c, the_model_of_a_form, 0, 12);
    tcase_add_test(c, odd_models_of_forms);
    tcase_add_test(c, no_memory_to_unpack_a_spooled_body);
    tcase_add_test(c, what_a_spooled_file_asks_for);
    tcase_add_test(c, in_memory_without_a_world);
    tcase_add_test(c, beyond_max_body_in_the_file_as_well);
    tcase_add_test(c, each_allocation_fails);
}
