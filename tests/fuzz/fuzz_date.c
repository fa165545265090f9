/* Dates in headers: what is taken means what the C library's calendar says, and every date that is
 * written as the RFCs have it is taken.
 *
 * An input is read as it stands. Its first eight bytes are a point in time as well, which is written
 * in all forms and has to come back. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fuzz.h"
#include "policy/hint.h"

static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

static uint64_t ms_of(struct tm *tm, long offset_s, unsigned ms)
{
    time_t t = timegm(tm) - offset_s;

    return t < 0 ? 0 : (uint64_t)t * 1000 + ms;
}

/* Every field as timegm was given it has to come back: no 31st of February. */
static bool is_civil(const struct tm *given)
{
    struct tm tm = *given;

    return timegm(&tm) != -1 && tm.tm_mday == given->tm_mday && tm.tm_mon == given->tm_mon &&
           tm.tm_year == given->tm_year;
}

/* --- slow readers ----------------------------------------------------------------------------- */

static int month_of(const char *name)
{
    for (int m = 0; m < 12; m++)
        if (!strncasecmp(name, months + (ptrdiff_t)3 * m, 3))
            return m;
    return -1;
}

/* Only of text that hint_http_date has taken: so this may be as lenient as sscanf is. */
static bool slow_http_date(const char *s, uint64_t *ret_ms)
{
    struct tm tm = {0};
    char month[4] = "";
    const char *comma = strchr(s, ',');

    if (comma && sscanf(comma, ", %2d %3s %4d %2d:%2d:%2d GMT", &tm.tm_mday, month, &tm.tm_year,
                        &tm.tm_hour, &tm.tm_min, &tm.tm_sec) == 6) {
        tm.tm_year -= 1900;
    } else if (comma && sscanf(comma, ", %2d-%3s-%2d %2d:%2d:%2d GMT", &tm.tm_mday, month,
                               &tm.tm_year, &tm.tm_hour, &tm.tm_min, &tm.tm_sec) == 6) {
        tm.tm_year += tm.tm_year < 70 ? 100 : 0;
    } else if (!comma && sscanf(s, "%*s %3s %2d %2d:%2d:%2d %4d", month, &tm.tm_mday, &tm.tm_hour,
                                &tm.tm_min, &tm.tm_sec, &tm.tm_year) == 6) {
        tm.tm_year -= 1900;
    } else {
        return false;
    }
    tm.tm_mon = month_of(month);
    struct tm day = {.tm_year = tm.tm_year, .tm_mon = tm.tm_mon, .tm_mday = tm.tm_mday};
    FUZZ_CHECK(tm.tm_mon >= 0 && is_civil(&day));
    FUZZ_CHECK(tm.tm_hour < 24 && tm.tm_min < 60 && tm.tm_sec <= 60);
    *ret_ms = ms_of(&tm, 0, 0);
    return true;
}

/* Digits behind the point as milliseconds, rounded up. */
static unsigned slow_fraction(const char *digits)
{
    unsigned ms = 0;
    size_t n = strspn(digits, "0123456789");

    for (size_t i = 0; i < 3; i++)
        ms = ms * 10 + (i < n ? (unsigned)(digits[i] - '0') : 0);
    return ms + (n > 3 && strspn(digits + 3, "0") < n - 3);
}

static bool slow_rfc3339(const char *s, uint64_t *ret_ms)
{
    struct tm tm = {0};
    unsigned ms = 0, hours = 0, minutes = 0;
    int n = 0;

    if (sscanf(s, "%4d-%2d-%2d%*1c%2d:%2d:%2d%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour,
               &tm.tm_min, &tm.tm_sec, &n) != 6)
        return false;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    struct tm day = {.tm_year = tm.tm_year, .tm_mon = tm.tm_mon, .tm_mday = tm.tm_mday};
    FUZZ_CHECK(is_civil(&day) && tm.tm_hour < 24 && tm.tm_min < 60 && tm.tm_sec <= 60);
    const char *rest = s + n;
    if (*rest == '.') {
        ms = slow_fraction(rest + 1);
        rest += 1 + strspn(rest + 1, "0123456789");
    }
    if (*rest != 'Z' && *rest != 'z')
        FUZZ_CHECK(sscanf(rest + 1, "%2u:%2u", &hours, &minutes) == 2);
    long offset = (long)hours * 3600 + (long)minutes * 60;
    *ret_ms = ms_of(&tm, *rest == '-' ? -offset : offset, ms);
    return true;
}

static void as_it_stands(struct str input)
{
    char text[256];
    uint64_t ms, slow;

    if (input.n >= sizeof text || (input.n && memchr(input.p, '\0', input.n)))
        return;
    struct str trimmed = str_trim(input);
    if (trimmed.n)
        memcpy(text, trimmed.p, trimmed.n);
    text[trimmed.n] = '\0';
    if (hint_http_date(input, &ms))
        FUZZ_CHECK(slow_http_date(text, &slow) && slow == ms);
    if (hint_rfc3339(input, &ms))
        FUZZ_CHECK(slow_rfc3339(text, &slow) && slow == ms);
}

/* --- dates that are written as they should be -------------------------------------------------- */

static void comes_back(bool (*read)(struct str, uint64_t *), const char *text, uint64_t want_ms)
{
    uint64_t ms;

    FUZZ_CHECK(read(str_from(text), &ms));
    FUZZ_CHECK(ms == want_ms);
}

static void written(uint64_t seconds, unsigned ms, int offset_min)
{
    static const char *const names[] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                        "Thursday", "Friday", "Saturday"};
    time_t t = (time_t)seconds, local = t + (time_t)offset_min * 60;
    struct tm tm, there;
    char text[512];

    (void)gmtime_r(&t, &tm);
    const char *month = months + (ptrdiff_t)3 * tm.tm_mon, *day = names[tm.tm_wday];
    (void)snprintf(text, sizeof text, "%.3s, %02d %.3s %04d %02d:%02d:%02d GMT", day, tm.tm_mday,
                   month, tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
    comes_back(hint_http_date, text, seconds * 1000);
    (void)snprintf(text, sizeof text, "%.3s %.3s %2d %02d:%02d:%02d %04d", day, month, tm.tm_mday,
                   tm.tm_hour, tm.tm_min, tm.tm_sec, tm.tm_year + 1900);
    comes_back(hint_http_date, text, seconds * 1000);
    if (tm.tm_year < 170) {
        (void)snprintf(text, sizeof text, "%s, %02d-%.3s-%02d %02d:%02d:%02d GMT", day, tm.tm_mday,
                       month, tm.tm_year % 100, tm.tm_hour, tm.tm_min, tm.tm_sec);
        comes_back(hint_http_date, text, seconds * 1000);
    }
    if (local < 0)
        return;
    (void)gmtime_r(&local, &there);
    int east = abs(offset_min);
    (void)snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02d.%03u%c%02d:%02d",
                   there.tm_year + 1900, there.tm_mon + 1, there.tm_mday, there.tm_hour,
                   there.tm_min, there.tm_sec, ms, offset_min < 0 ? '-' : '+', east / 60,
                   east % 60);
    if (there.tm_year + 1900 <= 9999)
        comes_back(hint_rfc3339, text, seconds * 1000 + ms);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str input = {(const char *)data, size};
    uint64_t number = 0;

    as_it_stands(input);
    for (size_t i = 0; i < 8 && i < size; i++)
        number = number << 8 | data[i];
    /* To the end of the year 9999. */
    written(number % 253402300800u, (unsigned)(number >> 54) % 1000,
            (int)fuzz_pick(input, 1, 2877) - 1438);
    return 0;
}
