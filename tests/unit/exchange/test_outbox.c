/* Released bytes stay apart from held ones, in any order of calls. */

#include "exchange/outbox.h"

#include <check.h>
#include <errno.h>

#include "exchange/exchange.h"
#include "failmem.h"
#include "fake_spool.h"
#include "unit.h"

static struct outbox o;

/* --- a world that has spools, and nothing else ------------------------------------------------ */

static struct exchange x;
static struct fake_disk disk;
static uint64_t now_ms;

static int op_open(void *w, struct exchange *of, struct spool **ret)
{
    (void)of;
    return fake_spool_open(w, ret);
}

static const struct exchange_ops ops = {.spool_open = op_open};

static void set_up(void)
{
    disk = (struct fake_disk){.now_ms = &now_ms};
    now_ms = 0;
    x = (struct exchange){.ops = &ops, .world = &disk};
    outbox_init(&o, &x);
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
    ptrdiff_t n = outbox_take(&o, to, max);

    ck_assert_int_eq(n, (ptrdiff_t)strlen(text));
    ck_assert_mem_eq(to, text, (size_t)n);
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

/* A long response that is read slowly does not pile up what was read. */
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

/* --- the spool -------------------------------------------------------------------------------- */

#define LONG 100000

static char text[LONG + 1000];

static void number(void)
{
    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = (char)('a' + (i * 7 + i / 251) % 26);
}

/* Lets the disk work until nothing is under way, asking to go on with the unloading after all
 * news. */
static int unload(size_t keep)
{
    int rc = outbox_unload(&o, keep);

    while (rc == -EAGAIN && fake_disk_next(&disk) != UINT64_MAX) {
        now_ms = fake_disk_next(&disk);
        fake_disk_turn(&disk);
        rc = outbox_unload(&o, keep);
    }
    return rc;
}

/* All that may go is text[from, to), in whatever pieces; the disk works whenever it has to. */
static void gives(size_t from, size_t to)
{
    char piece[5000];
    size_t at = from;

    while (at < to) {
        ptrdiff_t n = outbox_take(&o, piece, 1 + at % sizeof(piece));

        ck_assert_int_ge(n, 0);
        ck_assert_uint_le(at + (size_t)n, to);
        ck_assert_mem_eq(piece, text + at, (size_t)n);
        at += (size_t)n;
        if (n > 0)
            continue;
        ck_assert(o.spool_awaited);
        ck_assert(fake_disk_next(&disk) != UINT64_MAX);
        now_ms = fake_disk_next(&disk);
        fake_disk_turn(&disk);
        if (o.moved > 0)
            (void)outbox_unload(&o, 0);
    }
    ck_assert_int_eq(outbox_take(&o, piece, sizeof(piece)), 0);
    ck_assert_uint_eq(outbox_waiting(&o), 0);
}

static void hold(size_t from, size_t to)
{
    ck_assert_int_eq(outbox_add(&o, (struct str){text + from, to - from}), 0);
}

START_TEST(a_long_response_leaves_memory)
{
    number();
    hold(0, LONG);
    outbox_release(&o);
    ck_assert_int_eq(unload(1000), 0);
    ck_assert_uint_eq(outbox_waiting(&o), LONG);
    ck_assert_uint_eq(o.bytes.len, 1000);
    hold(LONG, LONG + 500); /* what comes meanwhile goes behind it */
    outbox_release(&o);
    gives(0, LONG + 500);
    ck_assert_ptr_null(o.spool);
    ck_assert_uint_eq(disk.opened, disk.closed);
}
END_TEST

START_TEST(what_is_held_waits_in_the_spool)
{
    number();
    hold(10, LONG / 2);
    ck_assert_int_eq(outbox_insert(&o, (struct str){text, 4}), 0);
    ck_assert_int_eq(unload(0), 0);
    ck_assert_uint_eq(o.bytes.len, 4);
    ck_assert_uint_eq(outbox_held(&o), LONG / 2 - 10);
    ck_assert_uint_eq(outbox_waiting(&o), 4);
    hold(LONG / 2, LONG);
    ck_assert_int_eq(outbox_insert(&o, (struct str){text + 4, 6}), 0);
    ck_assert_int_eq(unload(0), 0);
    hold(LONG, LONG + 7);
    outbox_release(&o);
    ck_assert_uint_eq(outbox_held(&o), 0);
    gives(0, LONG + 7);
}
END_TEST

START_TEST(what_was_held_in_vain_is_gone)
{
    number();
    hold(0, LONG);
    ck_assert_int_eq(unload(0), 0);
    outbox_drop_held(&o);
    ck_assert_uint_eq(outbox_held(&o), 0);
    ck_assert_uint_eq(disk.closed, 1);
    hold(0, 10);
    outbox_release(&o);
    gives(0, 10);
}
END_TEST

/* Released amid its way to the disk: what is not stored goes from memory. */
START_TEST(nobody_waits_for_what_is_released_early)
{
    number();
    disk.store_ms = 10;
    hold(0, LONG / 2);
    if (_i == 1)
        ck_assert_int_eq(unload(0), 0);
    hold(LONG / 2, LONG);
    ck_assert_int_eq(outbox_unload(&o, 0), -EAGAIN);
    outbox_release(&o);
    gives(0, LONG);
    ck_assert_uint_eq(disk.opened, disk.closed);
}
END_TEST

START_TEST(without_a_disk_it_stays_in_memory)
{
    number();
    if (_i == 0)
        disk.open_fails = -EACCES;
    else
        disk.store_fails = -ENOSPC;
    disk.fails_at = _i == 2 ? 3 * FAKE_BLOCK : 0;
    hold(0, LONG);
    if (_i < 3)
        outbox_release(&o);
    ck_assert_int_eq(unload(100), _i == 0 ? -EACCES : -ENOSPC);
    outbox_release(&o);
    ck_assert_uint_eq(outbox_waiting(&o), LONG);
    gives(0, LONG);
}
END_TEST

START_TEST(what_a_broken_disk_had_is_lost)
{
    char piece[100];

    number();
    hold(0, LONG / 2);
    ck_assert_int_eq(unload(0), 0);
    if (_i == 0) {
        disk.store_fails = -EIO;
        hold(LONG / 2, LONG);
        ck_assert_int_eq(unload(0), -EIO);
        return;
    }
    disk.read_fails = -EIO;
    outbox_release(&o);
    ck_assert_int_eq(outbox_take(&o, piece, sizeof(piece)), 0);
    now_ms = fake_disk_next(&disk);
    fake_disk_turn(&disk);
    ck_assert_int_eq(outbox_take(&o, piece, sizeof(piece)), -EIO);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *c = unit_case(suite, "bytes");

    tcase_add_checked_fixture(c, set_up, tear_down);
    tcase_add_test(c, what_is_held_is_not_given);
    tcase_add_test(c, it_is_inserted_between);
    tcase_add_test(c, moving_takes_the_memory_where_it_can);
    tcase_add_test(c, it_survives_a_lack_of_memory);
    tcase_add_test(c, what_was_taken_is_forgotten);
    tcase_add_test(c, a_long_response_leaves_memory);
    tcase_add_test(c, what_is_held_waits_in_the_spool);
    tcase_add_test(c, what_was_held_in_vain_is_gone);
    tcase_add_loop_test(c, nobody_waits_for_what_is_released_early, 0, 2);
    tcase_add_loop_test(c, without_a_disk_it_stays_in_memory, 0, 4);
    tcase_add_loop_test(c, what_a_broken_disk_had_is_lost, 0, 2);
}
