/* What may go to the client stays apart from what is held, whatever comes in between. */

#include "exchange/outbox.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>

#include "failmem.h"

static struct outbox o;

static void set_up(void)
{
    outbox_init(&o);
}

static void tear_down(void)
{
    outbox_deinit(&o);
}

static void add(const char *text)
{
    ck_assert_int_eq(outbox_add(&o, str_from(text)), 0);
}

/* Takes up to `max` bytes, which must be these. */
static void takes(size_t max, const char *text)
{
    char to[64];
    size_t n = outbox_take(&o, to, max);

    ck_assert_uint_eq(n, strlen(text));
    ck_assert_mem_eq(to, text, n);
}

static struct buf with_text(const char *text)
{
    struct buf b;

    buf_init(&b, 1000);
    ck_assert_int_eq(buf_add_str(&b, str_from(text)), 0);
    return b;
}

START_TEST(what_is_held_is_not_given)
{
    takes(9, "");
    add("abc");
    ck_assert_uint_eq(outbox_held(&o), 3);
    ck_assert_uint_eq(outbox_waiting(&o), 0);
    takes(9, "");
    outbox_release(&o);
    add("de");
    ck_assert_uint_eq(outbox_waiting(&o), 3);
    ck_assert_uint_eq(outbox_held(&o), 2);
    takes(2, "ab");
    takes(9, "c");
    takes(9, "");
    outbox_drop_held(&o);
    ck_assert_uint_eq(outbox_held(&o), 0);
    add("f");
    outbox_release(&o);
    takes(9, "f");
    ck_assert_uint_eq(o.bytes.len, 0); /* nothing that is gone stays behind */
    ck_assert_uint_eq(o.taken, 0);
}
END_TEST

START_TEST(it_is_inserted_between)
{
    ck_assert_int_eq(outbox_insert(&o, STR("1")), 0);
    ck_assert_uint_eq(outbox_waiting(&o), 1);
    add("held");
    ck_assert_int_eq(outbox_insert(&o, STR("23")), 0);
    ck_assert_uint_eq(outbox_held(&o), 4);
    takes(2, "12");
    ck_assert_int_eq(outbox_insert(&o, STR("45")), 0);
    ck_assert_uint_eq(outbox_held(&o), 4);
    takes(9, "345");
    ck_assert_int_eq(outbox_insert(&o, STR("6")), 0);
    takes(9, "6");
    outbox_release(&o);
    takes(9, "held");
}
END_TEST

START_TEST(moving_takes_the_memory_where_it_can)
{
    struct buf b = with_text("abc");
    const char *p = b.p;

    ck_assert_int_eq(outbox_move(&o, &b), 0);
    ck_assert_ptr_eq(o.bytes.p, p);
    ck_assert_uint_eq(b.len, 0);
    ck_assert_uint_eq(outbox_held(&o), 3);
    buf_deinit(&b);

    b = with_text("de"); /* behind what is there: by copy */
    ck_assert_int_eq(outbox_move(&o, &b), 0);
    ck_assert_uint_eq(b.len, 0);
    ck_assert_uint_eq(outbox_held(&o), 5);
    outbox_release(&o);
    takes(9, "abcde");
    buf_deinit(&b);

    b = with_text("f"); /* all has been taken: without one again */
    p = b.p;
    ck_assert_int_eq(outbox_move(&o, &b), 0);
    ck_assert_ptr_eq(o.bytes.p, p);
    takes(9, "");
    outbox_release(&o);
    takes(9, "f");
    buf_deinit(&b);
}
END_TEST

START_TEST(it_survives_a_lack_of_memory)
{
    struct buf b = with_text("0123456789012345678901234567890123456789012345678901234567890123");

    add("a");
    outbox_release(&o);
    add("b");
    failmem_arm_from(1);
    int added = outbox_add(&o, buf_str(&b)), inserted = outbox_insert(&o, buf_str(&b)),
        moved = outbox_move(&o, &b);
    ck_assert(failmem_disarm());
    ck_assert_int_eq(added, -ENOMEM);
    ck_assert_int_eq(inserted, -ENOMEM);
    ck_assert_int_eq(moved, -ENOMEM);
    ck_assert_uint_eq(b.len, 64);
    ck_assert_uint_eq(outbox_held(&o), 1);
    add("c");
    takes(9, "a");
    outbox_release(&o);
    takes(9, "bc");
    buf_deinit(&b);
}
END_TEST

/* A long answer that is read slowly does not pile up what was read. */
START_TEST(what_was_taken_is_forgotten)
{
    static char piece[100000], to[100000];
    size_t most = 0;

    for (unsigned i = 0; i < 100; i++) {
        memset(piece, 'a' + (int)(i % 26), sizeof(piece));
        ck_assert_int_eq(outbox_add(&o, (struct str){piece, sizeof(piece)}), 0);
        outbox_release(&o);
        if (i == 0)
            continue; /* one piece is always left behind */
        ck_assert_uint_eq(outbox_take(&o, to, sizeof(to)), sizeof(to));
        ck_assert_int_eq(to[0], 'a' + (int)((i - 1) % 26));
        ck_assert_int_eq(to[sizeof(to) - 1], to[0]);
        most = o.bytes.size > most ? o.bytes.size : most;
    }
    ck_assert_uint_lt(most, 1024 * 1024);
    ck_assert_uint_eq(outbox_take(&o, to, sizeof(to)), sizeof(to));
    ck_assert_uint_eq(outbox_take(&o, to, sizeof(to)), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("outbox");
    TCase *c = tcase_create("bytes");

    tcase_add_checked_fixture(c, set_up, tear_down);
    tcase_add_test(c, what_is_held_is_not_given);
    tcase_add_test(c, it_is_inserted_between);
    tcase_add_test(c, moving_takes_the_memory_where_it_can);
    tcase_add_test(c, it_survives_a_lack_of_memory);
    tcase_add_test(c, what_was_taken_is_forgotten);
    suite_add_tcase(s, c);

    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
