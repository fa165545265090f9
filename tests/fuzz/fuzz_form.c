/* A form in pieces: the field that is kept does not depend on how the form was cut, stands in the form
 * where it is said to, and is found in a form that is written as the RFC has it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "fuzz.h"
#include "http/form.h"

static const struct str field = {"model", 5};

static void watch(struct form_field *w, struct str form, enum fuzz_way way)
{
    struct fuzz_cutter cutter;
    struct str piece;

    form_field_init(w, field);
    fuzz_cut(&cutter, way, form);
    while (fuzz_piece(&cutter, &piece))
        form_field_feed(w, piece);
}

static void check_found(const struct form_field *w, struct str form)
{
    if (!w->found)
        return;
    FUZZ_CHECK(w->at <= form.n && w->length <= form.n - w->at);
    FUZZ_CHECK(w->n == (w->length < sizeof w->text ? w->length : sizeof w->text));
    FUZZ_CHECK(w->n == 0 || !memcmp(w->text, form.p + w->at, w->n));
    /* It ends at a boundary, and none is in it. The boundary is the first line. */
    const char *line_end = memchr(form.p, '\n', form.n);
    FUZZ_CHECK(line_end);
    struct str mark = str_trim((struct str){form.p, (size_t)(line_end - form.p)});
    struct str value = {form.p + w->at, w->length},
               behind = {value.p + value.n, form.n - w->at - w->length};
    FUZZ_CHECK(mark.n > 2 && behind.n >= mark.n + 2 && !memcmp(behind.p, "\r\n", 2));
    FUZZ_CHECK(!memcmp(behind.p + 2, mark.p, mark.n));
    char whole[2 + 2 + FORM_BOUNDARY_MAX];
    FUZZ_CHECK(mark.n + 2 <= sizeof whole);
    memcpy(whole, "\r\n", 2);
    memcpy(whole + 2, mark.p, mark.n);
    FUZZ_CHECK(value.n == 0 || !memmem(value.p, value.n, whole, mark.n + 2));
}

static void any_bytes(struct str form)
{
    struct form_field whole, cut;

    watch(&whole, form, FUZZ_WHOLE);
    check_found(&whole, form);
    for (enum fuzz_way way = FUZZ_BYTES; way < FUZZ_WAYS; way++) {
        watch(&cut, form, way);
        FUZZ_CHECK(cut.found == whole.found);
        if (!whole.found)
            continue;
        FUZZ_CHECK(cut.at == whole.at && cut.length == whole.length && cut.n == whole.n);
        FUZZ_CHECK(cut.n == 0 || !memcmp(cut.text, whole.text, cut.n));
    }
}

/* Whatever a field holds that is not the boundary, it comes back; a file of that name does not. */
static void as_a_value(struct str value)
{
    static const char mark[] = "\r\n--b0undary";
    struct buf form;

    if (value.n && memmem(value.p, value.n, mark, sizeof mark - 1))
        return;
    buf_init(&form, SIZE_MAX);
    (void)buf_printf(&form,
                     "%s\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n"
                     "Content-Type: audio/wav\r\n\r\n",
                     mark + 2);
    (void)buf_add_str(&form, value);
    (void)buf_printf(&form, "%s\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\n", mark);
    size_t at = form.len;
    (void)buf_add_str(&form, value);
    (void)buf_printf(
        &form,
        "%s\r\nContent-Disposition: form-data; name=\"model\"; filename=\"model\"\r\n\r\nx"
        "%s--\r\n",
        mark, mark);
    FUZZ_CHECK(!form.failed);
    for (enum fuzz_way way = FUZZ_WHOLE; way < FUZZ_WAYS; way++) {
        struct form_field w;
        watch(&w, buf_str(&form), way);
        FUZZ_CHECK(w.found && w.at == at && w.length == value.n);
        check_found(&w, buf_str(&form));
    }
    buf_deinit(&form);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str input = {(const char *)data, size};

    any_bytes(input);
    as_a_value(input);
    return 0;
}
