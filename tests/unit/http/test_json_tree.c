/* Our own JSON: its content, and that no document lacks a part when memory runs out. */

#include "http/json_tree.h"

#include <check.h>
#include <errno.h>

#include "failmem.h"
#include "unit.h"

static int write_document(struct buf *out)
{
    struct cJSON *object, *array;
    struct json_tree t;

    json_tree_begin(&t);
    json_tree_text(&t, t.root, "text", "a \"b\" \\ \n\x01 \xff \xe2\x80\xa8 \xe2\x82\xac");
    json_tree_text(&t, t.root, "none", NULL);
    json_tree_string(&t, t.root, "string", STR("as \\u00e9 it \\\"is\\\""));
    json_tree_raw(&t, t.root, "raw",
                  STR("{\"big\":12345678901234567890,\r\n\"half\":\"\\ud83d\"}"));
    array = json_tree_array(&t, t.root, "array");
    json_tree_number(&t, array, NULL, UINT64_MAX);
    json_tree_number(&t, array, NULL, 0);
    object = json_tree_object(&t, array, NULL);
    (void)json_tree_object(&t, object, "empty");
    return json_tree_end(&t, out);
}

static const char document[] =
    "{\"text\":\"a \\\"b\\\" \\\\ \\n\\u0001 \xef\xbf\xbd \\u2028 \xe2\x82\xac\",\"none\":null,"
    "\"string\":\"as \\u00e9 it \\\"is\\\"\","
    "\"raw\":{\"big\":12345678901234567890,  \"half\":\"\\ud83d\"},"
    "\"array\":[18446744073709551615,0,{\"empty\":{}}]}";

START_TEST(it_says_what_was_put_in)
{
    struct buf out;

    buf_init(&out, 4096);
    buf_add_str(&out, STR("before "));
    ck_assert_int_eq(write_document(&out), 0);
    buf_addc(&out, '\0');
    ck_assert_str_eq(out.p + 7, document);
    buf_deinit(&out);
}
END_TEST

START_TEST(without_memory_there_is_none)
{
    size_t n;

    for (n = 1;; n++) {
        struct buf out;
        bool failed;
        int rc;

        buf_init(&out, 4096);
        failmem_arm(n);
        rc = write_document(&out);
        failed = failmem_disarm();
        ck_assert_int_eq(rc, failed ? -ENOMEM : 0);
        ck_assert(out.failed == failed && (!failed || out.len == 0));
        buf_deinit(&out);
        if (!failed)
            break;
    }
    ck_assert_uint_gt(n, 20);
}
END_TEST

START_TEST(it_has_to_fit)
{
    struct buf out;

    buf_init(&out, sizeof(document) - 2);
    ck_assert_int_eq(write_document(&out), -EFBIG);
    ck_assert(out.failed);
    buf_deinit(&out);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "json_tree");

    tcase_add_test(tcase, it_says_what_was_put_in);
    tcase_add_test(tcase, without_memory_there_is_none);
    tcase_add_test(tcase, it_has_to_fit);
}
