/* The stories of requests and the minutes of the last hour, in virtual time. */
#include "worker/history.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

#include "failmem.h"
#include "unit.h"

#define MINUTE UINT64_C(60000)
#define START (UINT64_C(1000) * MINUTE) /* at the start of a minute */

static struct story *told(struct history *h, unsigned number)
{
    struct story *s = history_begin(h);

    ck_assert_ptr_nonnull(s);
    history_lock(h);
    snprintf(s->id, sizeof(s->id), "id-%04u", number);
    history_unlock(h);
    return s;
}

START_TEST(a_story_goes_on_and_then_ends)
{
    struct history *h = history_new();
    struct story *s = told(h, 1), seen[2];

    ck_assert_uint_eq(history_live(h), 1);
    ck_assert_uint_eq(history_copy_live(h, seen, 2), 1);
    ck_assert_str_eq(seen[0].id, "id-0001");
    ck_assert_uint_eq(history_copy_ended(h, 0, seen, 2), 0);
    history_end(h, s);
    ck_assert_uint_eq(history_live(h), 0);
    ck_assert_uint_eq(history_copy_live(h, seen, 2), 0);
    ck_assert_uint_eq(history_copy_ended(h, 0, seen, 2), 1);
    ck_assert_int_eq(seen[0].phase, STORY_ENDED);
    ck_assert_uint_eq(seen[0].serial, 1);
    history_drop(h, told(h, 2));
    ck_assert_uint_eq(history_live(h), 0);
    history_free(h);
}
END_TEST

START_TEST(the_last_ones_are_kept_the_latest_first)
{
    static struct story seen[HISTORY_MAX + 1];
    struct history *h = history_new();

    for (unsigned i = 1; i <= HISTORY_MAX + 7; i++)
        history_end(h, told(h, i));
    ck_assert_uint_eq(history_copy_ended(h, 0, seen, HISTORY_MAX + 1), HISTORY_MAX);
    ck_assert_str_eq(seen[0].id, "id-0207");
    ck_assert_str_eq(seen[HISTORY_MAX - 1].id, "id-0008");
    ck_assert_uint_eq(history_copy_ended(h, seen[2].serial, seen, HISTORY_MAX), 2);
    ck_assert_uint_eq(history_copy_ended(h, HISTORY_MAX + 7, seen, HISTORY_MAX), 0);
    ck_assert(history_find(h, STR("id-0008"), seen));
    ck_assert(!history_find(h, STR("id-0007"), seen));
    ck_assert(history_find(h, STR("id-0"), seen)); /* the latest that begins so */
    ck_assert_str_eq(seen[0].id, "id-0207");
    ck_assert(!history_find(h, STR("id-"), seen)); /* that is no id's beginning */
    history_free(h);
}
END_TEST

START_TEST(so_many_go_on_at_most)
{
    static struct story *all[HISTORY_LIVE_MAX];
    struct history *h = history_new();

    for (unsigned i = 0; i < HISTORY_LIVE_MAX; i++)
        all[i] = told(h, i);
    ck_assert_ptr_null(history_begin(h));
    history_end(h, all[0]);
    all[0] = told(h, 0);
    ck_assert_ptr_null(history_begin(h));
    history_free(h); /* with all of them */
}
END_TEST

START_TEST(without_memory_there_is_no_story)
{
    struct history *h = history_new(), *other;
    struct story *s;

    failmem_arm(1);
    s = history_begin(h);
    ck_assert(failmem_disarm());
    ck_assert_ptr_null(s);
    failmem_arm(1);
    other = history_new();
    ck_assert(failmem_disarm());
    ck_assert_ptr_null(other);
    ck_assert_uint_eq(history_live(h), 0);
    history_free(h);
}
END_TEST

START_TEST(texts_are_cut_between_characters)
{
    char to[8];

    story_copy(to, sizeof(to), STR("1234567"));
    ck_assert_str_eq(to, "1234567");
    story_copy(to, sizeof(to), STR("12345678"));
    ck_assert_str_eq(to, "1234...");
    story_copy(to, sizeof(to), STR("12\xe2\x82\xac\xe2\x82\xac"));
    ck_assert_str_eq(to, "12...");
    story_copy(to, sizeof(to), (struct str){NULL, 0});
    ck_assert_str_eq(to, "");
}
END_TEST

static void sample(struct history *h, uint64_t now_ms, uint64_t requests, uint64_t limited)
{
    struct history_sums sums = {.requests = requests};

    sums.failures[REASON_RATE_LIMIT] = limited;
    history_sample(h, now_ms, &sums);
}

START_TEST(minutes_hold_what_has_come_in_them)
{
    struct history *h = history_new();

    sample(h, START, 5, 1);
    sample(h, START + 30000, 7, 1);
    sample(h, START + MINUTE, 10, 4);
    ck_assert_uint_eq(history_minute(h, START + MINUTE, 1).requests, 7);
    ck_assert_uint_eq(history_minute(h, START + MINUTE, 1).failures[REASON_RATE_LIMIT], 1);
    ck_assert_uint_eq(history_minute(h, START + MINUTE, 0).requests, 3);
    ck_assert_uint_eq(history_minute(h, START + MINUTE, 0).failures[REASON_RATE_LIMIT], 3);
    ck_assert_uint_eq(history_minute(h, START + MINUTE, 2).requests, 0);
    ck_assert_uint_eq(history_hour(h, START + MINUTE).requests, 10);
    history_free(h);
}
END_TEST

START_TEST(an_hour_later_they_are_forgotten)
{
    struct history *h = history_new();

    sample(h, START, 5, 0);
    ck_assert_uint_eq(history_hour(h, START + 59 * MINUTE).requests, 5);
    ck_assert_uint_eq(history_minute(h, START + 59 * MINUTE, 59).requests, 5);
    ck_assert_uint_eq(history_hour(h, START + 60 * MINUTE).requests, 0);
    sample(h, START + 60 * MINUTE, 6, 0); /* takes the place of the first */
    ck_assert_uint_eq(history_hour(h, START + 60 * MINUTE).requests, 1);
    ck_assert_uint_eq(history_minute(h, 0, 59).requests, 0); /* a machine that has just started */
    history_free(h);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *c = unit_case(suite, "stories");

    tcase_add_test(c, a_story_goes_on_and_then_ends);
    tcase_add_test(c, the_last_ones_are_kept_the_latest_first);
    tcase_add_test(c, so_many_go_on_at_most);
    tcase_add_test(c, without_memory_there_is_no_story);
    tcase_add_test(c, texts_are_cut_between_characters);
    c = unit_case(suite, "minutes");
    tcase_add_test(c, minutes_hold_what_has_come_in_them);
    tcase_add_test(c, an_hour_later_they_are_forgotten);
}
