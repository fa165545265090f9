/* How long to wait: dates, durations, buckets, and which of them counts. */

#include "policy/hint.h"

#include <check.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "unit.h"

#define NOW UINT64_C(1767322096000) /* 2026-01-02T02:48:16Z */
#define MAX_DELAY 60000

/* "Name: value" lines into a list. */
static struct hint read_text(const char *text, const struct apierror *error)
{
    struct str rest = str_from(text), line;
    struct headers h;

    headers_init(&h);
    while (str_next(&rest, '\n', &line)) {
        const char *colon = memchr(line.p, ':', line.n);
        size_t n = (size_t)(colon - line.p);
        ck_assert_int_eq(
            headers_add(&h, (struct str){line.p, n}, (struct str){line.p + n + 1, line.n - n - 1}),
            0);
    }
    struct hint hint = hint_read(&h, error, NOW, MAX_DELAY);
    headers_deinit(&h);
    return hint;
}

static const struct apierror with_hint = {.has_hint = true, .hint_ms = 4321};

/* The error object's own fields take precedence over its message. */
static const struct apierror with_delay = {
    .has_delay = true, .delay_ms = 700, .has_hint = true, .hint_ms = 4321};
static const struct apierror with_time = {
    .resets_at_ms = NOW + 2500, .has_hint = true, .hint_ms = 4321};

static const struct {
    const char *headers;
    bool message;
    enum hint_source source;
    uint64_t delay_ms;
} cases[] = {
    {"", false, HINT_NONE, 0},
    {"", true, HINT_MESSAGE, 4321},
    {"retry-after-ms: 1500\nretry-after: 9", true, HINT_RETRY_AFTER_MS, 1500},
    {"Retry-After-Ms: 0.5", false, HINT_RETRY_AFTER_MS, 1},
    {"retry-after-ms: 0", false, HINT_RETRY_AFTER_MS, 0},
    {"retry-after-ms: -1\nretry-after: 2", true, HINT_RETRY_AFTER, 2000},
    {"retry-after-ms: soon\nretry-after: 2.25", true, HINT_RETRY_AFTER, 2250},
    {"RateLimit: \"default\";r=0;t=2", false, HINT_BUCKET, 2000},
    {"RateLimit: \"default\";r=1;t=2", false, HINT_NONE, 0},
    {"RateLimit: \"a\";r=0;t=2, \"b\";r=0;t=7;pk=:cHsdsRa894==:, \"c\";r=5;t=9", false, HINT_BUCKET,
     7000},
    {"RateLimit: \"a\" ; r=0 ; t=2", false, HINT_BUCKET, 2000},
    {"RateLimit: default;t=2;r=0", false, HINT_BUCKET, 2000},
    {"RateLimit: \"a;r=0;t=3,\\\";r=0;t=4\";r=9;t=5", false, HINT_NONE, 0},
    {"RateLimit: \"a\";r=0", false, HINT_NONE, 0},
    {"RateLimit: \"a\";t=9", false, HINT_NONE, 0},
    {"RateLimit: \"a\";r=0;t=soon", false, HINT_NONE, 0},
    {"RateLimit: \"a", false, HINT_NONE, 0},
    {"RateLimit: ,;,=;r", false, HINT_NONE, 0},
    {"RateLimit: \"a\";r=0;t=86400", false, HINT_BUCKET, MAX_DELAY},
    {"RateLimit: \"a\";r=0;t=2\nRateLimit: \"b\";r=0;t=3", false, HINT_BUCKET, 3000},
    {"RateLimit: \"a\";r=0;t=2", true, HINT_MESSAGE, 4321},
    {"RateLimit: limit=100, remaining=0, reset=5", false, HINT_BUCKET, 5000},
    {"RateLimit: limit=100, remaining=3, reset=5", false, HINT_NONE, 0},
    {"RateLimit-Policy: \"default\";q=0;r=0;t=60", false, HINT_NONE, 0},
    {"retry-after: 0", true, HINT_RETRY_AFTER, 0},
    {"retry-after: 86400", false, HINT_RETRY_AFTER, 86400000},
    {"retry-after: 99999999999999999999999999", false, HINT_RETRY_AFTER, UINT64_C(1) << 52},
    {"retry-after: Fri, 02 Jan 2026 02:48:26 GMT", true, HINT_RETRY_AFTER, 10000},
    {"retry-after: Friday, 02-Jan-26 02:48:17 GMT", true, HINT_RETRY_AFTER, 1000},
    {"retry-after: Fri Jan  2 02:49:16 2026", true, HINT_RETRY_AFTER, 60000},
    {"retry-after: Fri, 02 Jan 2026 02:48:00 GMT", true, HINT_RETRY_AFTER, 0},
    {"retry-after: Sun, 06 Nov 1994 08:49:37 GMT", false, HINT_RETRY_AFTER, 0},
    {"retry-after: tomorrow", true, HINT_MESSAGE, 4321},
    {"retry-after: -5", false, HINT_NONE, 0},
    {"retry-after: 1e3", false, HINT_NONE, 0},
    {"retry-after: nan", false, HINT_NONE, 0},
    {"retry-after: inf", false, HINT_NONE, 0},
    {"retry-after:", false, HINT_NONE, 0},
    {"x-ratelimit-remaining-requests: 0\nx-ratelimit-reset-requests: 12ms", false, HINT_BUCKET, 12},
    {"x-ratelimit-remaining-requests: 0\nx-ratelimit-reset-requests: 1s", true, HINT_MESSAGE, 4321},
    {"x-ratelimit-remaining-requests: 1\nx-ratelimit-reset-requests: 1s", false, HINT_NONE, 0},
    {"x-ratelimit-remaining-requests: 0\nx-ratelimit-reset-tokens: 1s", false, HINT_NONE, 0},
    {"x-ratelimit-remaining-requests: 0", false, HINT_NONE, 0},
    {"x-ratelimit-remaining-tokens: 0\nx-ratelimit-reset-tokens: soon", false, HINT_NONE, 0},
    {"x-ratelimit-remaining-tokens: -1\nx-ratelimit-reset-tokens: 1s", false, HINT_NONE, 0},
    {"x-ratelimit-reset-requests: 1s\nx-ratelimit-remaining-requests: 0\n"
     "x-ratelimit-remaining-tokens: 0\nx-ratelimit-reset-tokens: 7.5s",
     false, HINT_BUCKET, 7500},
    {"x-ratelimit-remaining-tokens: 0\nx-ratelimit-reset-tokens: 6m0s", false, HINT_BUCKET,
     MAX_DELAY},
    {"x-ratelimit-remaining-tokens-day: 0\nx-ratelimit-reset-tokens-day: 30", false, HINT_BUCKET,
     30000},
    {"anthropic-ratelimit-requests-remaining: 0\n"
     "anthropic-ratelimit-requests-reset: 2026-01-02T02:48:26Z",
     false, HINT_BUCKET, 10000},
    {"anthropic-ratelimit-tokens-remaining: 0\n"
     "anthropic-ratelimit-tokens-reset: 2026-01-02T02:48:00Z",
     false, HINT_BUCKET, 0},
    {"anthropic-ratelimit-tokens-remaining: 5\n"
     "anthropic-ratelimit-tokens-reset: 2026-01-02T02:48:26Z",
     false, HINT_NONE, 0},
    {"x-remaining: 0\nx-reset: 5s", false, HINT_NONE, 0},
    /* times since 1970, in seconds and in milliseconds */
    {"X-RateLimit-Remaining: 0\nX-RateLimit-Reset: 1767322100", false, HINT_BUCKET, 4000},
    {"X-RateLimit-Remaining: 0\nX-RateLimit-Reset: 1767322098500", false, HINT_BUCKET, 2500},
    {"X-RateLimit-Remaining: 0\nX-RateLimit-Reset: 1767322000", false, HINT_BUCKET, 0},
    {"X-RateLimit-Remaining: 0\nX-RateLimit-Reset: 1767408496", false, HINT_BUCKET, MAX_DELAY},
    {"X-RateLimit-Remaining: 5\nX-RateLimit-Reset: 1767322100", false, HINT_NONE, 0},
    {"x-ratelimit-remaining-requests: 0\nx-ratelimit-reset-requests: 1767322101", false,
     HINT_BUCKET, 5000},
    {"RateLimit-Remaining: 0\nRateLimit-Reset: 7", false, HINT_BUCKET, 7000},
    {"retry-after: 1767322100", true, HINT_RETRY_AFTER, 4000},
    {"retry-after: 999999999", false, HINT_RETRY_AFTER, UINT64_C(999999999000)},
    /* against the response's own clock, whatever ours says */
    {"Date: Fri, 02 Jan 2026 05:00:00 GMT\nretry-after: Fri, 02 Jan 2026 05:00:03 GMT", false,
     HINT_RETRY_AFTER, 3000},
    {"Date: Thu, 01 Jan 2026 05:00:00 GMT\nretry-after: Thu, 01 Jan 2026 05:00:03 GMT", false,
     HINT_RETRY_AFTER, 3000},
    {"Date: yesterday\nretry-after: Fri, 02 Jan 2026 02:48:26 GMT", false, HINT_RETRY_AFTER, 10000},
    {"Date: Fri, 02 Jan 2026 05:00:00 GMT\nanthropic-ratelimit-tokens-remaining: 0\n"
     "anthropic-ratelimit-tokens-reset: 2026-01-02T05:00:02Z",
     false, HINT_BUCKET, 2000},
    {"Date: Fri, 02 Jan 2026 02:48:20 GMT\nX-RateLimit-Remaining: 0\nX-RateLimit-Reset: 1767322101",
     false, HINT_BUCKET, 1000},
    {"x-ratelimit-remaining-"
     "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa: 0",
     false, HINT_NONE, 0},
};

START_TEST(fields_in_order)
{
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct hint h = read_text(cases[i].headers, cases[i].message ? &with_hint : NULL);
        ck_assert_msg(h.source == cases[i].source, "%s: %s", cases[i].headers,
                      hint_source_word(h.source));
        ck_assert_msg(h.delay_ms == cases[i].delay_ms, "%s: %llu", cases[i].headers,
                      (unsigned long long)h.delay_ms);
    }
}
END_TEST

START_TEST(c06_fields_of_the_error)
{
    struct hint h = read_text("", &with_delay);

    ck_assert(h.source == HINT_ERROR && h.delay_ms == 700);
    h = read_text("", &with_time);
    ck_assert(h.source == HINT_ERROR && h.delay_ms == 2500);
    h = read_text("Date: Fri, 02 Jan 2026 02:48:18 GMT", &with_time); /* 2 s later there */
    ck_assert(h.source == HINT_ERROR && h.delay_ms == 500);
    h = read_text("retry-after: 2", &with_delay);
    ck_assert(h.source == HINT_RETRY_AFTER && h.delay_ms == 2000);
    h = read_text("x-ratelimit-remaining-tokens: 0\nx-ratelimit-reset-tokens: 9s", &with_delay);
    ck_assert(h.source == HINT_ERROR && h.delay_ms == 700);
    h = hint_read(NULL, &with_delay, NOW, MAX_DELAY);
    ck_assert(h.source == HINT_ERROR && h.delay_ms == 700);
    h = hint_read(NULL, NULL, NOW, MAX_DELAY);
    ck_assert(h.source == HINT_NONE);
}
END_TEST

START_TEST(words)
{
    for (int a = HINT_NONE; a <= HINT_BUCKET; a++)
        for (int b = HINT_NONE; b < a; b++)
            ck_assert_str_ne(hint_source_word((enum hint_source)a),
                             hint_source_word((enum hint_source)b));
}
END_TEST

/* Every day from 1970 to 2105 against the C library, in all the forms. */
START_TEST(dates_against_the_c_library)
{
    for (time_t t = 3661; t < (time_t)86400 * 366 * 135; t += 86400 + 61) {
        char text[64];
        uint64_t ms, want = (uint64_t)t * 1000;
        struct tm tm;
        (void)gmtime_r(&t, &tm);
        (void)strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &tm);
        if (!hint_http_date(str_from(text), &ms) || ms != want)
            ck_abort_msg("%s", text);
        (void)strftime(text, sizeof text, "%a %b %e %H:%M:%S %Y", &tm);
        if (!hint_http_date(str_from(text), &ms) || ms != want)
            ck_abort_msg("%s", text);
        size_t n = strftime(text, sizeof text, "%A, %d-%b-", &tm);
        (void)snprintf(text + n, sizeof text - n, "%02d %02d:%02d:%02d GMT", tm.tm_year % 100,
                       tm.tm_hour, tm.tm_min, tm.tm_sec);
        if (tm.tm_year < 170 && (!hint_http_date(str_from(text), &ms) || ms != want))
            ck_abort_msg("%s", text);
        (void)strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
        if (!hint_rfc3339(str_from(text), &ms) || ms != want)
            ck_abort_msg("%s", text);
    }
}
END_TEST

START_TEST(dates_that_are_none)
{
    static const char *const bad[] = {"",
                                      "GMT",
                                      "Sun, 06 Nov 1994 08:49:37",
                                      "Sun, 06 Nov 1994 08:49:37 UTC",
                                      "Sun, 06 Nov 1994 08:49:37 GMT+1",
                                      "Sun, 6 Nov 1994 08:49:37 GMT",
                                      "Sun, 31 Feb 2026 08:49:37 GMT",
                                      "Sun, 29 Feb 2025 08:49:37 GMT",
                                      "Sun, 29 Feb 2100 00:00:00 GMT",
                                      "Sun, 00 Jan 2026 08:49:37 GMT",
                                      "Sun, 32 Jan 2026 08:49:37 GMT",
                                      "Sun, 01 Foo 2026 08:49:37 GMT",
                                      "Sun, 01 Jan 2026 24:00:00 GMT",
                                      "Sun, 01 Jan 2026 08:60:00 GMT",
                                      "Sun, 01 Jan 2026 08:00:61 GMT",
                                      "Sun, 01 Jan 0000 08:00:00 GMT",
                                      "Sun 06 Nov 1994 08:49:37 GMT",
                                      "Su, 06 Nov 1994 08:49:37 GMT",
                                      "06 Nov 1994 08:49:37 GMT",
                                      "Sun Nov 6 08:49:37 1994",
                                      "Sun Nov  6 08:49:37 1994 GMT",
                                      "Sunday, 06-Nov-1994 08:49:37 GMT",
                                      "Sunday, 06-Nov-94 08:49:37 UTC",
                                      "Sun, 06 Nov -994 08:49:37 GMT"};
    static const char *const bad_rfc3339[] = {"",
                                              "2026-01-02",
                                              "2026-01-02T03:04:05",
                                              "2026-01-02T03:04:05.Z",
                                              "2026-13-02T03:04:05Z",
                                              "2026-01-02T03:04:05+2:00",
                                              "2026-01-02T03:04:05+0200",
                                              "2026-01-02T03:04:05+24:00",
                                              "2026-01-02T03:04:05+02:60",
                                              "2026-01-02X03:04:05Z",
                                              "26-01-02T03:04:05Z",
                                              "2026-02-29T03:04:05Z",
                                              "2026-01-02T03:04:05ZZ",
                                              "1767322096"};
    uint64_t ms = 7;

    for (size_t i = 0; i < COUNT(bad); i++)
        ck_assert_msg(!hint_http_date(str_from(bad[i]), &ms), "%s", bad[i]);
    for (size_t i = 0; i < COUNT(bad_rfc3339); i++)
        ck_assert_msg(!hint_rfc3339(str_from(bad_rfc3339[i]), &ms), "%s", bad_rfc3339[i]);
    ck_assert_uint_eq(ms, 7);
}
END_TEST

/* The last day of each month is one, and the day after it none. */
START_TEST(months_end_where_they_do)
{
    static const char names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    static const unsigned last[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

    for (unsigned m = 0; m < 12; m++)
        for (unsigned day = 0; day < 100; day++) {
            char text[64];
            uint64_t ms;
            (void)snprintf(text, sizeof text, "Mon, %02u %.3s 2026 00:00:00 GMT", day,
                           names + 3 * (size_t)m);
            bool want = day >= 1 && day <= last[m];
            if (hint_http_date(str_from(text), &ms) != want)
                ck_abort_msg("%s", text);
        }
}
END_TEST

START_TEST(dates_at_the_edges)
{
    static const struct {
        const char *text;
        uint64_t ms;
    } http[] = {{"Thu, 01 Jan 1970 00:00:00 GMT", 0},
                {"Wed, 31 Dec 1969 23:59:59 GMT", 0},
                {"Mon, 01 Jan 0001 00:00:00 GMT", 0},
                {"Sun, 06 Nov 1994 08:49:37 GMT", 784111777000},
                {" Sun, 06 NOV 1994 08:49:37 GMT ", 784111777000},
                {"Sat, 31 Dec 2016 23:59:60 GMT", 1483228800000},
                {"Thu, 29 Feb 2024 00:00:00 GMT", 1709164800000},
                {"Tue, 29 Feb 2000 00:00:00 GMT", 951782400000},
                {"Fri, 31 Dec 9999 23:59:59 GMT", 253402300799000},
                {"Monday, 31-Dec-69 23:59:59 GMT", 3155759999000},
                {"Thursday, 01-Jan-70 00:00:00 GMT", 0}},
      rfc3339[] = {{"1970-01-01T00:00:00Z", 0},
                   {"1969-12-31T23:59:59.999Z", 0},
                   {"1970-01-01T01:00:00+02:00", 0},
                   {"1970-01-01T00:00:00-01:30", 5400000},
                   {"2026-01-02T02:48:16.678Z", 1767322096678},
                   {"2026-01-02T02:48:16.6781z", 1767322096679},
                   {"2026-01-02t02:48:16.6Z", 1767322096600},
                   {"2026-01-02 04:48:16+02:00", 1767322096000}};
    uint64_t ms;

    for (size_t i = 0; i < COUNT(http); i++) {
        ck_assert_msg(hint_http_date(str_from(http[i].text), &ms), "%s", http[i].text);
        ck_assert_msg(ms == http[i].ms, "%s: %llu", http[i].text, (unsigned long long)ms);
    }
    for (size_t i = 0; i < COUNT(rfc3339); i++) {
        ck_assert_msg(hint_rfc3339(str_from(rfc3339[i].text), &ms), "%s", rfc3339[i].text);
        ck_assert_msg(ms == rfc3339[i].ms, "%s: %llu", rfc3339[i].text, (unsigned long long)ms);
    }
}
END_TEST

/* Each date with each byte replaced by each of a few: no crash, and only ever a sane result. */
START_TEST(damaged_dates)
{
    static const char *const seeds[] = {
        "Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994", "2026-01-02T02:48:16.678+01:00"};
    static const char bytes[] = "09 -:,.+aZ\xff";

    for (size_t s = 0; s < COUNT(seeds); s++)
        for (size_t at = 0; at < strlen(seeds[s]); at++)
            for (size_t b = 0; b < sizeof bytes; b++) {
                char text[64];
                uint64_t ms = 0;
                (void)snprintf(text, sizeof text, "%s", seeds[s]);
                text[at] = bytes[b];
                bool ok = hint_http_date((struct str){text, strlen(seeds[s])}, &ms);
                ok |= hint_rfc3339((struct str){text, strlen(seeds[s])}, &ms);
                if (ok && ms >= UINT64_C(253402300800000))
                    ck_abort_msg("%s", text);
            }
}
END_TEST

START_TEST(waits_in_messages)
{
    static const struct {
        const char *message;
        int64_t ms; /* -1: none */
    } said[] = {
        {"Rate limit reached. Please try again in 9.816s. Visit https://x.", 9816},
        {"Please try again in 976ms.", 976},
        {"Please try again in 6m0s.", 360000},
        {"Please try again in 1h2m3.5s", 3723500},
        {"TRY AGAIN IN 20s", 20000},
        {"try again in 20s, or later", 20000},
        {"Please retry after 12 seconds.", 12000},
        {"Please retry after 1 second. To increase", 1000},
        {"Please retry in 57.3s.", 57300},
        {"try again in 2 minutes", 120000},
        {"try again in 1 hour", 3600000},
        {"try again in 1 day", 86400000},
        {"try again in 500 milliseconds", 500},
        {"try again in 1.5 sec", 1500},
        {"try again in  3 s", 3000},
        {"try again in 0 seconds", 0},
        {"try again in 0s", 0},
        {"try again in a moment; retry after 5 seconds", 5000},
        {"try again in vain, then try again in 4s", 4000},
        {"try again after 7s", 7000},
        {"You have exhausted your capacity. Your quota will reset after 2s.", 2000},
        {"Usage limit reached; resets in 1h30m", 5400000},
        {"The limit resets in full", -1},
        {"try again in 5 attempts", -1},
        {"retry after 30", -1},
        {"try again in", -1},
        {"try again in ", -1},
        {"try again in -5s", -1},
        {"try again in 1e9s", -1},
        {"try again in 99999999999999999999s", -1},
        {"try again in 9999999999999999999999999999 seconds", -1},
        {"try again in ...", -1},
        {"wait 5s", -1},
        {"Too many requests, please wait 5s.", 5000},
        {"Please wait for 3 seconds and send it again", 3000},
        {"Please wait for the next release", -1},
        {"", -1},
    };

    for (size_t i = 0; i < COUNT(said); i++) {
        uint64_t ms = 4711;
        bool found = hint_in_message(str_from(said[i].message), &ms);
        ck_assert_msg(found == (said[i].ms >= 0), "%s", said[i].message);
        ck_assert_msg(ms == (found ? (uint64_t)said[i].ms : 4711), "%s: %llu", said[i].message,
                      (unsigned long long)ms);
    }
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "hint");

    tcase_add_test(tcase, fields_in_order);
    tcase_add_test(tcase, words);
    tcase_add_test(tcase, c06_fields_of_the_error);
    tcase_add_test(tcase, dates_against_the_c_library);
    tcase_add_test(tcase, dates_that_are_none);
    tcase_add_test(tcase, months_end_where_they_do);
    tcase_add_test(tcase, dates_at_the_edges);
    tcase_add_test(tcase, damaged_dates);
    tcase_add_test(tcase, waits_in_messages);
}
