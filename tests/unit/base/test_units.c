/* Durations and sizes, read and written. */

#include "base/units.h"

#include <check.h>

#include "unit.h"

#define BAD UINT64_MAX

struct row {
    const char *text;
    uint64_t value; /* BAD: refused */
};

static void check_rows(bool (*read)(struct str, uint64_t *), const struct row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t v = 77;
        bool ok = read(str_from(rows[i].text), &v);
        ck_assert_msg(ok == (rows[i].value != BAD), "\"%s\"", rows[i].text);
        ck_assert_msg(v == (ok ? rows[i].value : 77), "\"%s\" gave %llu", rows[i].text,
                      (unsigned long long)v);
    }
}

START_TEST(durations)
{
    static const struct row rows[] = {{"0", 0},
                                      {"0s", 0},
                                      {"250ms", 250},
                                      {"30s", 30000},
                                      {"1.5s", 1500},
                                      {"10m", 600000},
                                      {"2h", 7200000},
                                      {"1d", 86400000},
                                      {".5s", 500},
                                      {"1.s", 1000},
                                      {"0.1ms", 1},
                                      {"1.0001s", 1001},
                                      {"0.0000000001s", 1},
                                      {"1.9999999999s", 2000},
                                      {"", BAD},
                                      {"5", BAD},
                                      {"00", BAD},
                                      {"s", BAD},
                                      {".s", BAD},
                                      {"-1s", BAD},
                                      {"+1s", BAD},
                                      {"1 s", BAD},
                                      {" 1s", BAD},
                                      {"1s ", BAD},
                                      {"1S", BAD},
                                      {"1m30s", BAD},
                                      {"1us", BAD},
                                      {"1e3s", BAD},
                                      {"1..5s", BAD},
                                      {"1.5.5s", BAD},
                                      {"213503d", 213503ull * 86400000},
                                      {"213504d", BAD},
                                      {"18446744073709551615s", BAD},
                                      {"99999999999999999999s", BAD},
                                      {"1sx", BAD}};

    check_rows(units_duration, rows, COUNT(rows));
}
END_TEST

START_TEST(go_durations)
{
    static const struct row rows[] = {{"0", 0},
                                      {"1s", 1000},
                                      {"6m0s", 360000},
                                      {"12ms", 12},
                                      {"1h2m3.5s", 3723500},
                                      {"500us", 1},
                                      {"1000us", 1},
                                      {"1001us", 2},
                                      {"1ns", 1},
                                      {"0s", 0},
                                      {"1\xc2\xb5s", 1},
                                      {"1000\xc2\xb5s", 1},
                                      {"1.1us", 1},
                                      {"0.1ns", 1},
                                      {"2500\xce\xbcs", 3},
                                      {"2m59.56s", 179560},
                                      {"7.66s", 7660},
                                      {"1.5h", 5400000},
                                      {"1ms500us", 2},
                                      {"", BAD},
                                      {"1", BAD},
                                      {"1d", BAD},
                                      {"-1s", BAD},
                                      {"1s1", BAD},
                                      {"s", BAD},
                                      {"1h ", BAD},
                                      {"1H", BAD},
                                      {"5124095h", 5124095ull * 3600000},
                                      {"5124096h", BAD},
                                      {"5124095h5124095h", BAD},
                                      {"6m0", BAD},
                                      {"..s", BAD}};

    check_rows(units_go_duration, rows, COUNT(rows));
}
END_TEST

static bool seconds(struct str s, uint64_t *ret_ms)
{
    return units_decimal_ms(s, 1000, ret_ms);
}

START_TEST(decimals)
{
    static const struct row rows[] = {
        {"0", 0},
        {"1.5", 1500},
        {"0.0001", 1},
        {"4503599627370", 4503599627370000},
        {"4503599627371", UNITS_MS_MAX},
        {"1000000000000000000000000000000", UNITS_MS_MAX},
        {" 1", BAD},
        {"1s", BAD},
        {"-1", BAD},
        {"", BAD},
    };

    check_rows(seconds, rows, sizeof rows / sizeof rows[0]);
}
END_TEST

START_TEST(sizes)
{
    static const struct row rows[] = {{"0", 0},
                                      {"512", 512},
                                      {"64K", 65536},
                                      {"64k", 65536},
                                      {"64KB", 65536},
                                      {"512M", 536870912},
                                      {"2G", 2147483648},
                                      {"1T", 1099511627776},
                                      {"10B", 10},
                                      {"16777215T", 16777215ull << 40},
                                      {"16777216T", BAD},
                                      {"", BAD},
                                      {"K", BAD},
                                      {"B", BAD},
                                      {"-1", BAD},
                                      {"1.5G", BAD},
                                      {"1 K", BAD},
                                      {"1KiB", BAD},
                                      {"1P", BAD},
                                      {"1BB", BAD},
                                      {"18446744073709551616", BAD}};

    check_rows(units_size, rows, COUNT(rows));
}
END_TEST

START_TEST(texts)
{
    char t[UNITS_TEXT_MAX];

    ck_assert_str_eq(units_duration_text(0, t), "0");
    ck_assert_str_eq(units_duration_text(250, t), "250ms");
    ck_assert_str_eq(units_duration_text(1500, t), "1500ms");
    ck_assert_str_eq(units_duration_text(90000, t), "90s");
    ck_assert_str_eq(units_duration_text(600000, t), "10m");
    ck_assert_str_eq(units_duration_text(7200000, t), "2h");
    ck_assert_str_eq(units_duration_text(86400000, t), "1d");
    ck_assert_str_eq(units_size_text(0, t), "0");
    ck_assert_str_eq(units_size_text(1000, t), "1000");
    ck_assert_str_eq(units_size_text(1024, t), "1K");
    ck_assert_str_eq(units_size_text(536870912, t), "512M");
    ck_assert_str_eq(units_size_text(UINT64_MAX, t), "18446744073709551615");
    ck_assert_str_eq(units_size_text(1ull << 60, t), "1048576T");
}
END_TEST

START_TEST(what_is_written_reads_back)
{
    char t[UNITS_TEXT_MAX];
    uint64_t back;

    for (uint64_t ms = 0; ms < 200000; ms++)
        if (!units_duration(str_from(units_duration_text(ms, t)), &back) || back != ms)
            ck_abort_msg("%s", t);
    for (unsigned shift = 0; shift < 64; shift++)
        for (uint64_t n = 1; n < 2000 && n << shift >> shift == n; n++)
            if (!units_size(str_from(units_size_text(n << shift, t)), &back) || back != n << shift)
                ck_abort_msg("%s", t);
    for (uint64_t ms = 1; ms < 18446744073709ull; ms = ms * 3 + 1)
        if (!units_duration(str_from(units_duration_text(ms, t)), &back) || back != ms)
            ck_abort_msg("%s", t);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "units");

    tcase_add_test(tcase, durations);
    tcase_add_test(tcase, go_durations);
    tcase_add_test(tcase, decimals);
    tcase_add_test(tcase, sizes);
    tcase_add_test(tcase, texts);
    tcase_add_test(tcase, what_is_written_reads_back);
}
