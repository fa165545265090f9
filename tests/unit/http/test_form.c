/* One field of a form, found however the form is cut into pieces. */
#include "http/form.h"

#include <check.h>
#include <string.h>

#include "unit.h"

#define FIELD(name, value) "Content-Disposition: form-data; name=\"" name "\"\r\n\r\n" value "\r\n"
#define FILE_PART                                                                   \
    "Content-Disposition: form-data; name=\"file\"; filename=\"a;b=\\\"c.wav\"\r\n" \
    "Content-Type: audio/wav\r\n\r\n\r\n\r\r\n--b\r\n--\r\n-\r\r\n--bounD\r\n"
#define LONG_50 "..................................................."
#define LONG_200 LONG_50 LONG_50 LONG_50 LONG_50
#define BOUNDARY_70 "0123456789012345678901234567890123456789012345678901234567890123456789"

static struct form_field whole(struct str form)
{
    struct form_field w;

    form_field_init(&w, STR("model"));
    form_field_feed(&w, form);
    return w;
}

static void same(const struct form_field *a, const struct form_field *b)
{
    ck_assert_int_eq(a->found, b->found);
    ck_assert_uint_eq(a->at, b->at);
    ck_assert_uint_eq(a->length, b->length);
    ck_assert_uint_eq(a->n, b->n);
    ck_assert_mem_eq(a->text, b->text, a->n);
}

/* Cut in two at each place, and into single bytes. */
static void in_pieces(struct str form)
{
    struct form_field all = whole(form), w;

    for (size_t cut = 0; cut <= form.n; cut++) {
        form_field_init(&w, STR("model"));
        form_field_feed(&w, (struct str){form.p, cut});
        form_field_feed(&w, (struct str){form.p + cut, form.n - cut});
        same(&w, &all);
    }
    form_field_init(&w, STR("model"));
    for (size_t i = 0; i < form.n; i++)
        form_field_feed(&w, (struct str){form.p + i, 1});
    same(&w, &all);
}

START_TEST(where_the_model_is)
{
    static const struct {
        const char *form, *want;
    } rows[] = {
        {"--bound\r\n" FIELD("model", "whisper-1") "--bound--\r\n", "whisper-1"},
        {"--bound\r\n" FIELD("model", "whisper-1") "--bound--", "whisper-1"},
        {"--bound\r\n" FIELD("a", "x") "--bound\r\n" FIELD("model", "m") "--bound--\r\n", "m"},
        {"--bound\r\n" FILE_PART "--bound\r\n" FIELD("model", "behind") "--bound--\r\n", "behind"},
        {"--bound\r\n" FIELD("model", "before") "--bound\r\n" FILE_PART "--bound--\r\n", "before"},
        {"--bound\r\n" FIELD("model", "1") "--bound\r\n" FIELD("model", "2") "--bound--", "2"},
        {"--bound\r\n" FIELD("model", "") "--bound--", ""},
        {"--bound\r\n" FIELD("model", "\r\nx\r\r\n") "--bound--", "\r\nx\r\r\n"},
        {"--bound\r\n" FIELD("model", "\r\n--boun\r\n--x") "--bound--", "\r\n--boun\r\n--x"},
        {"--bound \t\r\n" FIELD("model", "x") "--bound\r\n\r\n\r\n--bound--", "x"},
        {"--bound\r\n" FIELD("a", "x") "--bound \t\r\n" FIELD("model", "pad") "--bound--", "pad"},
        {"--bound\r\nContent-Type: text/plain\r\ncontent-disposition:form-data;NAME=model\r\n"
         "X: y\r\n\r\ntoken\r\n--bound--",
         "token"},
        {"--bound\r\nContent-Disposition: form-data; x=\"a\\\"; name=no\" ; name = \"model\"\r\n\r\n"
         "odd\r\n--bound--",
         "odd"},
        {"--" BOUNDARY_70 "\r\n" FIELD("model", "longest") "--" BOUNDARY_70 "--", "longest"},
        {"--bound\r\nX: " LONG_200 LONG_200 "\r\n" FIELD("model", "x") "--bound--", "x"},
        /* no field of that name */
        {"--bound\r\n" FIELD("models", "x") "--bound\r\n" FIELD("Model", "x") "--bound--", NULL},
        {"--bound\r\nContent-Disposition: form-data; name=\"model\"; filename=\"m\"\r\n\r\nx\r\n"
         "--bound--",
         NULL},
        {"--bound\r\nContent-Disposition: form-data; filename*=utf-8''m; name=model\r\n\r\nx\r\n"
         "--bound--",
         NULL},
        {"--bound\r\nContent-Disposition: form-data; y=\"name=model\"\r\n\r\nx\r\n--bound--", NULL},
        {"--bound\r\nX-Disposition: form-data; name=\"model\"\r\n\r\nx\r\n--bound--", NULL},
        {"--bound\r\nContent-Disposition: name=\"model\"\r\n\r\nx\r\n--bound--", NULL},
        {"--bound\r\nContent-Disposition: form-data; " LONG_200 LONG_50 "; name=model\r\n\r\nx\r\n"
         "--bound--",
         NULL},
        /* no form, or a broken one */
        {"", NULL},
        {"-", NULL},
        {"--", NULL},
        {"--\r\n" FIELD("model", "x") "----\r\n", NULL},
        {"\r\n--bound\r\n" FIELD("model", "x") "--bound--", NULL},
        {"{\"model\":\"x\"}", NULL},
        {"--" BOUNDARY_70 "x\r\n" FIELD("model", "x") "--" BOUNDARY_70 "x--", NULL},
        {"--" LONG_200 LONG_200 "\r\n" FIELD("model", "x") "--" LONG_200 LONG_200 "--", NULL},
        {"--bound\r\n" FIELD("model", "x"), NULL},
        {"--bound\r\n" FIELD("model", "x") "--boun", NULL},
        {"--bound\r\n" FIELD("a", "x") "--bounded\r\n" FIELD("model", "x") "--bound--", NULL},
        {"--bound\r\n" FIELD("a", "x") "--bound--\r\n--bound\r\n" FIELD("model", "x") "--bound--",
         NULL},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct str form = str_from(rows[i].form);
        struct form_field w = whole(form);

        ck_assert_msg(w.found == (rows[i].want != NULL), "%s", rows[i].form);
        if (w.found) {
            size_t n = strlen(rows[i].want);

            ck_assert_uint_eq(w.n, n);
            ck_assert_mem_eq(w.text, rows[i].want, n);
            ck_assert_uint_eq(w.length, n);
            ck_assert_mem_eq(form.p + w.at, rows[i].want, n);
        }
        in_pieces(form);
    }
}
END_TEST

/* Its place is known, and its beginning. */
START_TEST(a_value_longer_than_is_kept)
{
    struct str form = STR("--b\r\n" FIELD("model", LONG_200 "end") "--b--");
    struct form_field w = whole(form);

    ck_assert(w.found);
    ck_assert_uint_eq(w.n, sizeof(w.text));
    ck_assert_uint_eq(w.length, strlen(LONG_200) + 3);
    ck_assert_mem_eq(form.p + w.at + w.length - 3, "end", 3);
    ck_assert_mem_eq(w.text, form.p + w.at, w.n);
    in_pieces(form);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "form_field");

    tcase_add_test(tcase, where_the_model_is);
    tcase_add_test(tcase, a_value_longer_than_is_kept);
}
