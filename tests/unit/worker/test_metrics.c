/* worker/metrics: the table and its page, the counters by name, and the text that is made of them. */
#include "worker/metrics.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config_text.h"
#include "failmem.h"
#include "unit.h"

static struct metrics first, second;
static struct metrics *const sets[] = {&first, &second};
static struct buf out;

static void set_up(void)
{
    memset(&first, 0, sizeof first);
    memset(&second, 0, sizeof second);
    metrics_init(&first);
    metrics_init(&second);
    buf_init(&out, 64 << 20);
}

static void tear_down(void)
{
    metrics_deinit(&first);
    metrics_deinit(&second);
    buf_deinit(&out);
}

static void write_all(void)
{
    buf_reset(&out, 64 << 20);
    metrics_write(sets, 2, 0, &out);
    buf_addc(&out, '\0');
    ck_assert(!out.failed);
}

static bool has_line(const char *text, const char *line)
{
    size_t n = strlen(line);

    for (const char *at = text; (at = strstr(at, line)); at++)
        if ((at == text || at[-1] == '\n') && (at[n] == '\n' || at[n] == '\0'))
            return true;
    return false;
}

static void has(const char *line)
{
    ck_assert_msg(has_line(out.p, line), "no line %s in\n%s", line, out.p);
}

/* --- the table -------------------------------------------------------------------------------- */

START_TEST(the_page_has_every_family_and_no_other)
{
    char *page = config_text_source("docs/metrics.md");
    unsigned rows = 0;

    for (unsigned i = 0; i < METRIC_FAMILIES; i++) {
        const struct metrics_family *f = &metrics_families[i];
        char line[512];

        snprintf(line, sizeof line, "| `%s` | %s |%s%s | %s |", f->name, metrics_type_word(f->type),
                 f->labels[0] ? " " : "", f->labels, f->help);
        ck_assert_msg(has_line(page, line), "docs/metrics.md lacks the line\n%s", line);
    }
    for (const char *at = page; (at = strstr(at, "\n| `")); at++)
        rows++;
    ck_assert_uint_eq(rows, METRIC_FAMILIES);
    free(page);
}
END_TEST

/* As promtool has it; in black-box tests it looks at a real scrape. */
START_TEST(names_tell_type_and_unit)
{
    for (unsigned i = 0; i < METRIC_FAMILIES; i++) {
        const struct metrics_family *f = &metrics_families[i];
        struct str name = str_from(f->name);

        ck_assert_int_eq(str_ends(name, STR("_total")), f->type == METRIC_COUNTER);
        ck_assert(str_ifind(name, STR("milli")) < 0);
        ck_assert(f->help[strlen(f->help) - 1] == '.');
        for (unsigned k = 0; k < i; k++)
            ck_assert_str_ne(metrics_families[k].name, f->name);
    }
}
END_TEST

/* --- by name ---------------------------------------------------------------------------------- */

START_TEST(workers_are_summed_by_name)
{
    metrics_add(&metrics_upstream(&first, "a")->attempts, 1);
    metrics_add(&metrics_upstream(&first, "b")->attempts, 2);
    metrics_add(&metrics_upstream(&second, "b")->attempts, 4);
    metrics_add(&metrics_upstream(&second, "quo\"te")->attempts, 8);
    metrics_failed(metrics_upstream(&first, "b"), 503, REASON_OVERLOADED);
    metrics_failed(metrics_upstream(&second, "b"), 503, REASON_OVERLOADED);
    metrics_failed(metrics_upstream(&second, "b"), 0, REASON_DNS);
    metrics_add(&metrics_client(&first, "alice")->requests, 3);
    metrics_add(&metrics_client(&second, "alice")->requests, 4);
    ck_assert_ptr_eq(metrics_upstream(&first, "a"), metrics_upstream(&first, "a"));
    write_all();
    has("retryd_attempts_total{upstream=\"a\"} 1");
    has("retryd_attempts_total{upstream=\"b\"} 6");
    has("retryd_attempts_total{upstream=\"quo\\\"te\"} 8");
    has("retryd_attempts_failed_total{upstream=\"b\",status=\"5xx\",reason=\"overloaded\"} 2");
    has("retryd_attempts_failed_total{upstream=\"b\",status=\"none\",reason=\"dns_failed\"} 1");
    has("retryd_client_requests_total{client=\"alice\"} 7");
    ck_assert_ptr_null(strstr(out.p, "\"other\""));
}
END_TEST

START_TEST(names_beyond_the_limit_share_one)
{
    char name[32];
    unsigned lines = 0;

    for (unsigned i = 0; i < METRICS_NAMES_MAX + 10; i++) {
        snprintf(name, sizeof name, "u%u", i);
        metrics_add(&metrics_upstream(&first, name)->attempts, 1);
        snprintf(name, sizeof name, "v%u", i);
        metrics_add(&metrics_upstream(&second, name)->attempts, 1);
        metrics_add(&metrics_client(&first, name)->requests, 1);
    }
    write_all();
    for (const char *at = out.p; (at = strstr(at, "\nretryd_attempts_total{")); at++)
        lines++;
    ck_assert_uint_eq(lines, METRICS_NAMES_MAX + 1);
    has("retryd_attempts_total{upstream=\"u0\"} 1");
    has("retryd_attempts_total{upstream=\"other\"} 70"); /* 10 of one, 60 of the other */
    has("retryd_client_requests_total{client=\"other\"} 10");
}
END_TEST

START_TEST(without_memory_the_name_is_other)
{
    struct metrics_upstream *u;

    failmem_arm(1);
    u = metrics_upstream(&first, "a");
    ck_assert(failmem_disarm());
    ck_assert_str_eq(u->named.name, "other");
    failmem_arm(1);
    metrics_write(sets, 2, 0, &out);
    ck_assert(failmem_disarm());
    ck_assert(out.failed);
}
END_TEST

/* --- histograms ------------------------------------------------------------------------------- */

START_TEST(a_histogram_s_bounds_are_inclusive)
{
    static const uint64_t durations_ms[] = {0, 10, 11, 2500, 600000, 600001};
    static struct exchange x;

    x.end = END_ANSWERED;
    x.started_ms = 1000;
    x.wait_ms = 5;
    for (size_t i = 0; i < COUNT(durations_ms); i++) {
        x.ended_ms = x.started_ms + durations_ms[i];
        x.reply.first_byte_ms = i == 0 ? 0 : x.ended_ms; /* 0: no response began */
        metrics_request(metrics_upstream(&first, "a"), &x);
    }
    write_all();
#define LABELS "{upstream=\"a\",outcome=\"answered\""
    has("retryd_request_duration_seconds_bucket" LABELS ",le=\"0.01\"} 2");
    has("retryd_request_duration_seconds_bucket" LABELS ",le=\"0.05\"} 3");
    has("retryd_request_duration_seconds_bucket" LABELS ",le=\"2.5\"} 4");
    has("retryd_request_duration_seconds_bucket" LABELS ",le=\"600\"} 5");
    has("retryd_request_duration_seconds_bucket" LABELS ",le=\"+Inf\"} 6");
    has("retryd_request_duration_seconds_sum" LABELS "} 1202.522");
    has("retryd_request_duration_seconds_count" LABELS "} 6");
    has("retryd_request_first_byte_seconds_count" LABELS "} 5");
    has("retryd_request_wait_seconds_bucket" LABELS ",le=\"0.01\"} 6");
    has("retryd_request_wait_seconds_sum" LABELS "} 0.030");
    ck_assert_ptr_null(strstr(out.p, "outcome=\"failed\""));
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "metrics");

    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, the_page_has_every_family_and_no_other);
    tcase_add_test(tcase, names_tell_type_and_unit);
    tcase_add_test(tcase, workers_are_summed_by_name);
    tcase_add_test(tcase, names_beyond_the_limit_share_one);
    tcase_add_test(tcase, without_memory_the_name_is_other);
    tcase_add_test(tcase, a_histogram_s_bounds_are_inclusive);
}
