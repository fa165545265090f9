/* What the configuration writes and what is written about it: the dump loads again, and the sample,
 * the reference and the help tell of every key. */
#include <check.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "config/config_private.h"
#include "config_text.h"
#include "unit.h"

/* --- the dump ----------------------------------------------------------------------------------- */

static const char routes[] =
    "[route chat]\npath = /chat/completions\nmodel = gpt-4o*\nretry.max_attempts = 2\n"
    "upstreams = b\ntimeout.idle = 1s\n"
    "[retry]\nmax_attempts = 7\njitter = none\n"
    "[route azure]\nbase = /azure/v1/\nupstreams = a\n"
    "[upstream a]\nurl = http://a\n[upstream b]\nurl = http://b\n";

static void is_fixpoint(const char *text)
{
    struct loaded l = config_text_load(text), again;
    char *first, *second;

    ck_assert_str_eq(l.problems, "");
    first = config_text_dump(l.config);
    again = config_text_load(first);
    ck_assert_str_eq(again.problems, "");
    second = config_text_dump(again.config);
    ck_assert_str_eq(first, second);
    ck_assert_uint_eq(again.config->route_count, l.config->route_count);
    free(first);
    free(second);
    loaded_deinit(&l);
    loaded_deinit(&again);
}

START_TEST(a_dump_loads_to_the_same_dump)
{
    char text[4096] = "[server]\nallowed_hosts = h0";
    size_t n = strlen(text);

    is_fixpoint("");
    is_fixpoint(routes);
    is_fixpoint("[retry]\nmultiplier = 1.1\nretry_on = none\nmax_delay = 86399001ms\n"
                "initial_delay = 1.0005s\n[route r]\nbase = /\nretry.retry_on = 429\n"
                "[upstream a]\nurl = unix:/a:b:/c/\nheader.Authorization = x\nheader.Z=a;b \" # c\n"
                "proxy = socks5h://u@p@q\n");
    is_fixpoint("[route r]\nupstreams = a, b\nweights = 0,\n  007\nfallback_on = none\n"
                "fallback_models = m1, m2\nqueue.size = 1\nqueue.timeout = 0\nhedge.after = 1s\n"
                "hedge.requests = all\nbreaker.failures = 0\nbreaker.failure_rate = 0%\n"
                "[upstream a]\nurl = http://h/{model}?api-version=1\nmodel.m = n\n"
                "[upstream b]\nurl = unix:/b?x=y\n"
                "[shared]\nredis = unix:/r\nprefix = a:b\n");
    for (int i = 1; i < 100; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, ",\n  host-%d.example", i);
    /* A value that only just fits its line. */
    snprintf(text + n, sizeof text - n, "\nspool_dir=/%0187d\n", 7);
    is_fixpoint(text);
}
END_TEST

START_TEST(admin_address_needs_no_keys)
{
    static const char text[] = "[admin]\nlisten = unix:/run/admin\n"
                               "[upstream openai]\napi_key_file = ./missing\n";
    struct buf problems;
    char *address;

    config_text_write("t.conf", text, sizeof text - 1);
    buf_init(&problems, 1024);
    address = config_admin_address("t.conf", &problems);
    ck_assert_str_eq(address, "unix:/run/admin");
    free(address);
    address = config_admin_address(NULL, &problems);
    ck_assert_str_eq(address, "127.0.0.1:4291");
    free(address);
    ck_assert_uint_eq(problems.len, 0);
    ck_assert_ptr_null(config_admin_address("missing.conf", &problems));
    ck_assert_uint_gt(problems.len, 0);
    buf_deinit(&problems);
}
END_TEST

/* --- conf/retryd.conf -------------------------------------------------------------------------- */

/* Where the sample's keys end: what follows is no default. */
static const char *ready_routes(const char *sample)
{
    const char *at = strstr(sample, "\n# Ready-made routes");

    ck_assert_ptr_nonnull(at);
    return at;
}

/* The sample with the # in front of keys and sections taken away. */
static char *uncommented(const char *sample)
{
    char *text = calloc(1, strlen(sample) + 1), *out = text;

    ck_assert_ptr_nonnull(text);
    for (const char *p = sample; *p; p++) {
        bool start = p == sample || p[-1] == '\n';

        if (!(start && *p == '#' && (islower((unsigned char)p[1]) || p[1] == '[')))
            *out++ = *p;
    }
    return text;
}

START_TEST(the_sample_is_the_defaults)
{
    char *sample = config_text_source("conf/retryd.conf"), *dump, *defaults;
    struct loaded l = config_text_load(sample), none = config_text_load("");

    ck_assert_str_eq(l.problems, "");
    ck_assert_str_eq(l.notes, "");
    dump = config_text_dump(l.config);
    defaults = config_text_dump(none.config);
    ck_assert_str_eq(dump, defaults);
    free(sample);
    free(dump);
    free(defaults);
    loaded_deinit(&l);
    loaded_deinit(&none);
}
END_TEST

/* Loaded with every key set, it says the same: what it shows are the defaults. */
START_TEST(the_samples_values_are_the_defaults)
{
    char *sample = config_text_source("conf/retryd.conf"), *text, *dump, *same;

    sample[ready_routes(sample) - sample] = '\0';
    text = uncommented(sample);

    struct loaded l = config_text_load(text);
    struct loaded with_route = config_text_load("[route chat]\n");

    ck_assert_str_eq(l.problems, "");
    dump = config_text_dump(l.config);
    same = config_text_dump(with_route.config);
    ck_assert_str_eq(dump, same);
    free(sample);
    free(text);
    free(dump);
    free(same);
    loaded_deinit(&l);
    loaded_deinit(&with_route);
}
END_TEST

/* Alone and beside all keys that are set: nothing in them is wrong, or there twice. */
START_TEST(the_samples_ready_routes_load)
{
    char *sample = config_text_source("conf/retryd.conf");
    char *all = uncommented(sample), *alone = uncommented(ready_routes(sample));
    struct loaded with_all = config_text_load(all), by_themselves = config_text_load(alone);

    ck_assert_str_eq(with_all.problems, "");
    ck_assert_str_eq(by_themselves.problems, "");
    ck_assert_str_eq(by_themselves.notes, "");
    free(sample);
    free(all);
    free(alone);
    loaded_deinit(&with_all);
    loaded_deinit(&by_themselves);
}
END_TEST

/* Whether `text` has `line` as a line of its own. */
static bool has_line(const char *text, const char *line)
{
    size_t n = strlen(line);

    for (const char *at = strstr(text, line); at; at = strstr(at + 1, line)) {
        if ((at == text || at[-1] == '\n') && (at[n] == '\n' || at[n] == '\0'))
            return true;
    }
    return false;
}

static bool is_prefix(const struct config_row *row)
{
    return row->type == CONFIG_HEADER || row->type == CONFIG_MODEL;
}

/* The part of the sample that is about one section: up to the next section's line. */
static char *sample_section(const char *sample, const char *name)
{
    char line[64];
    const char *start, *end;

    snprintf(line, sizeof line, "\n[%s", name);
    start = strstr(sample, line);
    if (!start) {
        snprintf(line, sizeof line, "\n#[%s", name);
        start = strstr(sample, line);
    }
    ck_assert_msg(start != NULL, "the sample has no [%s]", name);
    end = strstr(start + 2, "\n[");
    return str_dup((struct str){start, end ? (size_t)(end - start) : strlen(start)});
}

START_TEST(the_sample_has_every_key)
{
    char *sample = config_text_source("conf/retryd.conf");

    for (unsigned i = 0; i < config_row_count; i++) {
        const struct config_row *row = &config_rows[i];
        char *section = sample_section(sample, row->section), line[256];

        snprintf(line, sizeof line, is_prefix(row) ? "# %s" : "#%s =%s%s", row->key,
                 row->fallback[0] ? " " : "", row->fallback);
        ck_assert_msg(is_prefix(row) ? strstr(section, line) != NULL : has_line(section, line),
                      "[%s] has no line: %s", row->section, line);
        free(section);
    }
    free(sample);
}
END_TEST

/* --- docs/configuration.md and --help ------------------------------------------------------------ */

/* The row of a table in the reference that tells of a key. */
static void reference_line(const struct config_row *row, struct buf *out)
{
    buf_printf(out, "| `%s%s` | ", row->key, is_prefix(row) ? "NAME" : "");
    if (row->fallback[0])
        buf_printf(out, "`%s` | ", row->fallback);
    else
        buf_add_str(out, STR("| "));
    config_row_describe(row, out);
    buf_add(out, " |", 3);
}

static unsigned count(const char *text, const char *what)
{
    unsigned n = 0;

    for (const char *at = strstr(text, what); at; at = strstr(at + 1, what))
        n++;
    return n;
}

START_TEST(the_reference_has_every_key_and_no_other)
{
    char *reference = config_text_source("docs/configuration.md");

    for (unsigned i = 0; i < config_row_count; i++) {
        struct buf line;

        buf_init(&line, 4096);
        reference_line(&config_rows[i], &line);
        ck_assert_msg(has_line(reference, line.p), "docs/configuration.md lacks the line\n%s",
                      line.p);
        buf_deinit(&line);
    }
    ck_assert_ptr_nonnull(strstr(reference, "\n## All keys\n"));
    ck_assert_uint_eq(count(strstr(reference, "\n## All keys\n"), "\n| `"), config_row_count);
    for (unsigned i = 0; i < config_section_count; i++) {
        char line[64];

        snprintf(line, sizeof line, "### [%s%s]", config_sections[i].name,
                 config_sections[i].named ? " NAME" : "");
        ck_assert_msg(has_line(reference, line), "docs/configuration.md lacks the line\n%s", line);
    }
    free(reference);
}
END_TEST

START_TEST(the_help_has_every_key)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);

    ck_assert_ptr_nonnull(f);
    config_help(f);
    ck_assert_int_eq(fclose(f), 0);
    for (unsigned i = 0; i < config_row_count; i++) {
        const struct config_row *row = &config_rows[i];
        char line[256];

        snprintf(line, sizeof line, "  %s%s =%s%s", row->key, is_prefix(row) ? "NAME" : "",
                 row->fallback[0] ? " " : "", row->fallback);
        ck_assert_msg(has_line(text, line), "--help lacks the line\n%s", line);
    }
    for (const char *p = text; *p; p += strcspn(p, "\n") + 1)
        ck_assert_uint_le(strcspn(p, "\n"), 100);
    free(text);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *all = unit_case(suite, "docs");

    tcase_add_test(all, a_dump_loads_to_the_same_dump);
    tcase_add_test(all, admin_address_needs_no_keys);
    tcase_add_test(all, the_sample_is_the_defaults);
    tcase_add_test(all, the_samples_values_are_the_defaults);
    tcase_add_test(all, the_samples_ready_routes_load);
    tcase_add_test(all, the_sample_has_every_key);
    tcase_add_test(all, the_reference_has_every_key_and_no_other);
    tcase_add_test(all, the_help_has_every_key);
}
