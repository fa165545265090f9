/* Deadlines: their sources, the margin, and the earliest of all (C7). */

#include "policy/deadline.h"

#include <check.h>

#include "unit.h"

#define START 1000000

static const struct {
    const char *read_timeout, *timeout, *runtime; /* NULL: no such header */
    uint64_t config_ms, override_ms;
    uint64_t after_ms; /* 0: none */
    enum deadline_source source;
} cases[] = {
    {NULL, NULL, NULL, 0, 0, 0, DEADLINE_FROM_NOBODY},
    {NULL, NULL, NULL, 600000, 0, 600000, DEADLINE_FROM_CONFIG},
    {"600", NULL, NULL, 0, 0, 598000, DEADLINE_FROM_SILENCE},
    {"600.0", NULL, NULL, 600000, 0, 598000, DEADLINE_FROM_SILENCE},
    {"600", NULL, NULL, 500000, 0, 500000, DEADLINE_FROM_CONFIG},
    {NULL, "20", NULL, 0, 0, 19000, DEADLINE_FROM_CLIENT},
    {NULL, "10", NULL, 0, 0, 9500, DEADLINE_FROM_CLIENT},
    {NULL, "1", NULL, 0, 0, 900, DEADLINE_FROM_CLIENT},
    {"0.5", NULL, NULL, 0, 0, 400, DEADLINE_FROM_SILENCE},
    {"0.08", NULL, NULL, 0, 0, 40, DEADLINE_FROM_SILENCE},
    {"0.001", NULL, NULL, 0, 0, 1, DEADLINE_FROM_SILENCE},
    {"0.0001", NULL, NULL, 0, 0, 0, DEADLINE_FROM_NOBODY},
    {"20", "10", NULL, 0, 0, 9500, DEADLINE_FROM_CLIENT},
    {"10", "20", NULL, 0, 0, 9500, DEADLINE_FROM_SILENCE},
    {"20", "30", NULL, 0, 1000, 900, DEADLINE_FROM_CLIENT},
    {NULL, NULL, NULL, 5000, 100000, 5000, DEADLINE_FROM_CONFIG},
    {NULL, NULL, NULL, 0, 100, 50, DEADLINE_FROM_CLIENT},
    {NULL, NULL, NULL, 0, 1, 1, DEADLINE_FROM_CLIENT},
    {NULL, NULL, NULL, 0, UINT64_MAX, 0, DEADLINE_FROM_NOBODY},
    {NULL, NULL, NULL, UINT64_MAX, 0, 0, DEADLINE_FROM_NOBODY},
    {NULL, NULL, "node", 0, 0, 298000, DEADLINE_FROM_RUNTIME},
    {NULL, NULL, "Node", 600000, 0, 298000, DEADLINE_FROM_RUNTIME},
    {NULL, NULL, "node", 100000, 0, 100000, DEADLINE_FROM_CONFIG},
    {NULL, "600", "node", 0, 0, 598000, DEADLINE_FROM_CLIENT},
    {NULL, NULL, "node", 0, 900000, 898000, DEADLINE_FROM_CLIENT},
    {NULL, "0", "node", 0, 0, 298000, DEADLINE_FROM_RUNTIME},
    {NULL, "soon", "node", 0, 0, 298000, DEADLINE_FROM_RUNTIME},
    {NULL, NULL, "CPython", 0, 0, 0, DEADLINE_FROM_NOBODY},
    {NULL, NULL, "nodes", 0, 0, 0, DEADLINE_FROM_NOBODY},
    {"0", NULL, NULL, 0, 0, 0, DEADLINE_FROM_NOBODY},
    {"-5", NULL, NULL, 0, 0, 0, DEADLINE_FROM_NOBODY},
    {"None", NULL, NULL, 0, 0, 0, DEADLINE_FROM_NOBODY},
    {"", NULL, NULL, 0, 0, 0, DEADLINE_FROM_NOBODY},
    {"1e9", NULL, NULL, 0, 0, 0, DEADLINE_FROM_NOBODY},
    {" 10 ", NULL, NULL, 0, 0, 9500, DEADLINE_FROM_SILENCE},
    {"99999999999999999999999", NULL, NULL, 0, 0, (UINT64_C(1) << 52) - 2000,
     DEADLINE_FROM_SILENCE},
};

static void add(struct headers *h, const char *name, const char *value)
{
    if (value)
        ck_assert_int_eq(headers_add(h, str_from(name), str_from(value)), 0);
}

START_TEST(the_smallest_counts)
{
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct headers h;
        headers_init(&h);
        add(&h, "x-stainless-read-timeout", cases[i].read_timeout);
        add(&h, "X-Stainless-Timeout", cases[i].timeout);
        add(&h, "X-Stainless-Runtime", cases[i].runtime);
        struct deadline d = deadline_of(&h, START, START, cases[i].config_ms, cases[i].override_ms);
        uint64_t want = cases[i].after_ms ? START + cases[i].after_ms : DEADLINE_NONE;
        headers_deinit(&h);
        ck_assert_msg(d.at_ms == want, "case %zu: %llu", i, (unsigned long long)d.at_ms);
        ck_assert_msg(d.source == cases[i].source, "case %zu: source %d", i, d.source);
    }
}
END_TEST

/* The response comes earlier than any time that the client declares, and never before half of that
 * time has passed. */
START_TEST(the_margin_over_all_times)
{
    struct headers none;
    uint64_t last = 0;

    headers_init(&none);
    for (uint64_t ms = 1; ms < 2000000; ms += 1 + ms / 500) {
        uint64_t left = deadline_of(&none, START, START, 0, ms).at_ms - START;
        if (left < ms - ms / 2 || (ms > 1 && left >= ms) || ms - left > 2000 || left < last)
            ck_abort_msg("%llu left of %llu", (unsigned long long)left, (unsigned long long)ms);
        last = left;
    }
    headers_deinit(&none);
}
END_TEST

/* A limit on silence moves on with what the client hears, a total one does not. */
START_TEST(silence_counts_from_the_last_byte)
{
    static const struct {
        const char *name, *seconds;
        uint64_t heard_ms, at_ms;
        bool silence;
    } heard[] = {
        {"x-stainless-read-timeout", "10", START + 9000, START + 18500, true},
        {"x-stainless-read-timeout", "10", DEADLINE_NONE, START + 600000, false},
        {"X-Stainless-Timeout", "10", START + 9000, START + 9500, false},
        {"X-Stainless-Timeout", "10", DEADLINE_NONE, START + 9500, false},
        {"X-Stainless-Runtime", "node", START + 9000, START + 307000, true},
        {"X-Stainless-Runtime", "node", DEADLINE_NONE, START + 600000, false},
    };

    for (size_t i = 0; i < COUNT(heard); i++) {
        struct headers h;
        struct deadline d;

        headers_init(&h);
        add(&h, heard[i].name, heard[i].seconds);
        d = deadline_of(&h, START, heard[i].heard_ms, 600000, 0);
        headers_deinit(&h);
        ck_assert_uint_eq(d.at_ms, heard[i].at_ms);
        ck_assert_int_eq(deadline_is_silence(&d), heard[i].silence);
        ck_assert_uint_eq(d.since_ms, heard[i].silence ? heard[i].heard_ms : START);
    }
}
END_TEST

START_TEST(near_the_end_of_time)
{
    struct headers none;

    headers_init(&none);
    for (uint64_t before = 0; before < 5000; before++) {
        struct deadline d =
            deadline_of(&none, UINT64_MAX - before, UINT64_MAX - before, 1000, 4000);
        ck_assert_msg(d.at_ms > UINT64_MAX - before || d.at_ms == DEADLINE_NONE, "wrapped around");
    }
    headers_deinit(&none);
}
END_TEST

/* Google's SDKs say it under a name of their own. */
START_TEST(googles_clients_declare_one)
{
    struct deadline d;
    struct headers h;

    headers_init(&h);
    add(&h, "X-Server-Timeout", "20");
    d = deadline_of(&h, START, START, 0, 0);
    ck_assert_uint_eq(d.at_ms, START + 19000);
    ck_assert_int_eq(d.source, DEADLINE_FROM_CLIENT);
    headers_deinit(&h);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "deadline");

    tcase_add_test(tcase, the_smallest_counts);
    tcase_add_test(tcase, the_margin_over_all_times);
    tcase_add_test(tcase, silence_counts_from_the_last_byte);
    tcase_add_test(tcase, near_the_end_of_time);
    tcase_add_test(tcase, googles_clients_declare_one);
}
