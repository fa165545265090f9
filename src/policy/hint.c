/* Reads the waits that responses ask for, in all their formats. */
#include "policy/hint.h"

#include <assert.h>

#include "base/units.h"

/* Larger numbers are times since 1970: after 2001 in seconds, after 1973 in milliseconds. */
#define EPOCH_S_LEAST 1e9
#define EPOCH_MS_LEAST 1e11

/* --- dates ------------------------------------------------------------------------------------ */

struct civil {
    unsigned year, month, day, hour, minute, second;
};

static bool take(struct str *s, char c)
{
    if (s->n == 0 || s->p[0] != c)
        return false;
    *s = str_after(*s, 1);
    return true;
}

/* Takes a number of exactly `digits` digits. */
static bool take_number(struct str *s, unsigned digits, unsigned *ret_value)
{
    uint64_t value;

    if (s->n < digits || !str_to_u64((struct str){s->p, digits}, &value))
        return false;
    *s = str_after(*s, digits);
    *ret_value = (unsigned)value;
    return true;
}

static bool take_month(struct str *s, unsigned *ret_month)
{
    static const char names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

    for (unsigned m = 0; m < 12; m++) {
        if (str_istarts(*s, (struct str){names + 3 * (size_t)m, 3})) {
            *s = str_after(*s, 3);
            *ret_month = m + 1;
            return true;
        }
    }
    return false;
}

/* Takes "hh:mm:ss". */
static bool take_clock(struct str *s, struct civil *c)
{
    return take_number(s, 2, &c->hour) && take(s, ':') && take_number(s, 2, &c->minute) &&
           take(s, ':') && take_number(s, 2, &c->second);
}

static bool is_leap(unsigned year)
{
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

static bool is_date(const struct civil *c)
{
    static const unsigned char days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

    if (c->year < 1 || c->month < 1 || c->month > 12 || c->day < 1)
        return false;
    unsigned last = days[c->month - 1] + (c->month == 2 && is_leap(c->year));
    return c->day <= last && c->hour <= 23 && c->minute <= 59 && c->second <= 60;
}

/* Returns the seconds since 1970. A leap second counts as the first second of the next minute. */
static int64_t seconds_of(const struct civil *c)
{
    /* The days from 1970-01-01 to the first of the month in the proleptic Gregorian calendar. */
    static const unsigned before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    int64_t y = (int64_t)c->year - 1;
    int64_t leap_day = c->month > 2 && is_leap(c->year);
    int64_t days =
        (y * 365 + y / 4 - y / 100 + y / 400 + before[c->month - 1] + leap_day - 719162) + c->day -
        1;

    return days * 86400 + c->hour * 3600 + c->minute * 60 + c->second;
}

/* Takes the rest of "Sun, 06 Nov 1994 08:49:37 GMT" after the comma. */
static bool take_imf(struct str s, struct civil *c)
{
    return take(&s, ' ') && take_number(&s, 2, &c->day) && take(&s, ' ') &&
           take_month(&s, &c->month) && take(&s, ' ') && take_number(&s, 4, &c->year) &&
           take(&s, ' ') && take_clock(&s, c) && str_eq(s, STR(" GMT"));
}

/* Takes the rest of "Sunday, 06-Nov-94 08:49:37 GMT" after the comma. */
static bool take_rfc850(struct str s, struct civil *c)
{
    bool ok = take(&s, ' ') && take_number(&s, 2, &c->day) && take(&s, '-') &&
              take_month(&s, &c->month) && take(&s, '-') && take_number(&s, 2, &c->year) &&
              take(&s, ' ') && take_clock(&s, c) && str_eq(s, STR(" GMT"));

    if (ok)
        c->year += c->year < 70 ? 2000 : 1900;
    return ok;
}

/* Takes the rest of "Sun Nov  6 08:49:37 1994" after the name of the day. */
static bool take_asctime(struct str s, struct civil *c)
{
    if (!take(&s, ' ') || !take_month(&s, &c->month) || !take(&s, ' '))
        return false;
    bool day = take(&s, ' ') ? take_number(&s, 1, &c->day) : take_number(&s, 2, &c->day);
    return day && take(&s, ' ') && take_clock(&s, c) && take(&s, ' ') &&
           take_number(&s, 4, &c->year) && s.n == 0;
}

/* The name of the day is skipped and not checked, because the date is enough. */
bool hint_http_date(struct str s, uint64_t *ret_unix_ms)
{
    struct civil c = {0};

    s = str_trim(s);
    struct str name = s;
    while (s.n > 0 && ((s.p[0] | 0x20) >= 'a' && (s.p[0] | 0x20) <= 'z'))
        s = str_after(s, 1);
    if (name.n - s.n < 3)
        return false;
    bool ok = take(&s, ',') ? take_imf(s, &c) || take_rfc850(s, &c) : take_asctime(s, &c);
    if (!ok || !is_date(&c))
        return false;
    int64_t seconds = seconds_of(&c);
    *ret_unix_ms = seconds < 0 ? 0 : (uint64_t)seconds * 1000;
    return true;
}

/* Takes an optional fraction such as ".678" as milliseconds, rounded up; 0 if there is none. */
static bool take_fraction(struct str *s, unsigned *ret_ms)
{
    unsigned ms = 0, place = 100;
    bool more = false;

    *ret_ms = 0;
    if (!take(s, '.'))
        return true;
    if (s->n == 0 || s->p[0] < '0' || s->p[0] > '9')
        return false;
    while (s->n > 0 && s->p[0] >= '0' && s->p[0] <= '9') {
        unsigned digit = (unsigned)(s->p[0] - '0');
        ms += digit * place;
        more |= place == 0 && digit > 0;
        place /= 10;
        *s = str_after(*s, 1);
    }
    *ret_ms = ms + more;
    return true;
}

/* Parses all of `s`, "Z" or "+02:00", as seconds east of Greenwich. */
static bool take_offset(struct str s, int64_t *ret_seconds)
{
    unsigned hours, minutes;

    *ret_seconds = 0;
    if (str_ieq(s, STR("z")))
        return true;
    bool east = take(&s, '+');
    if (!east && !take(&s, '-'))
        return false;
    if (!take_number(&s, 2, &hours) || !take(&s, ':') || !take_number(&s, 2, &minutes) || s.n > 0 ||
        hours > 23 || minutes > 59)
        return false;
    int64_t seconds = (int64_t)hours * 3600 + (int64_t)minutes * 60;
    *ret_seconds = east ? seconds : -seconds;
    return true;
}

bool hint_rfc3339(struct str s, uint64_t *ret_unix_ms)
{
    struct civil c = {0};
    unsigned ms;
    int64_t offset;

    s = str_trim(s);
    if (!take_number(&s, 4, &c.year) || !take(&s, '-') || !take_number(&s, 2, &c.month) ||
        !take(&s, '-') || !take_number(&s, 2, &c.day))
        return false;
    if (!take(&s, 'T') && !take(&s, 't') && !take(&s, ' '))
        return false;
    if (!take_clock(&s, &c) || !take_fraction(&s, &ms) || !take_offset(s, &offset) || !is_date(&c))
        return false;
    int64_t seconds = seconds_of(&c) - offset;
    *ret_unix_ms = seconds < 0 ? 0 : (uint64_t)seconds * 1000 + ms;
    return true;
}

/* --- single fields ---------------------------------------------------------------------------- */

static uint64_t until(uint64_t then_ms, uint64_t now_ms)
{
    return then_ms > now_ms ? then_ms - now_ms : 0;
}

/* Parses a plain number: seconds, or a time since 1970 if that would be 31 years or more. */
static bool read_number(struct str s, uint64_t now_ms, uint64_t *ret_ms)
{
    double value;

    s = str_trim(s);
    if (!str_to_decimal(s, &value) || value < EPOCH_S_LEAST || value >= (double)UNITS_MS_MAX)
        return units_decimal_ms(s, 1000, ret_ms);
    if (value < EPOCH_MS_LEAST)
        value *= 1000;
    *ret_ms = until((uint64_t)value, now_ms);
    return true;
}

static bool read_retry_after(struct str s, uint64_t now_ms, uint64_t *ret_ms)
{
    uint64_t date;

    if (read_number(s, now_ms, ret_ms))
        return true;
    if (!hint_http_date(s, &date))
        return false;
    *ret_ms = until(date, now_ms);
    return true;
}

/* Parses the value of a reset field: "1s", "6m0s", a number, or a time. */
static bool read_reset(struct str s, uint64_t now_ms, uint64_t *ret_ms)
{
    uint64_t date;

    s = str_trim(s);
    if (units_go_duration(s, ret_ms) || read_number(s, now_ms, ret_ms))
        return true;
    if (!hint_rfc3339(s, &date))
        return false;
    *ret_ms = until(date, now_ms);
    return true;
}

/* --- buckets ---------------------------------------------------------------------------------- */

#define NAME_MAX_BYTES 96

/* Returns the name of the reset field that belongs to a bucket's `remaining` field, written to
 * `space`. Empty if `name` is not a `remaining` field. */
static struct str reset_name(struct str name, char space[NAME_MAX_BYTES])
{
    static const struct str remaining = {"remaining", 9}, reset = {"reset", 5};
    ptrdiff_t at = str_ifind(name, remaining);

    if (at < 0 || name.n > NAME_MAX_BYTES)
        return (struct str){space, 0};
    if (!str_istarts(name, STR("x-ratelimit-")) && !str_istarts(name, STR("ratelimit-")) &&
        !str_istarts(name, STR("x-rate-limit-")) && !str_istarts(name, STR("anthropic-ratelimit-")))
        return (struct str){space, 0};
    size_t head = (size_t)at, tail = name.n - head - remaining.n;
    memcpy(space, name.p, head);
    memcpy(space + head, reset.p, reset.n);
    memcpy(space + head + reset.n, name.p + head + remaining.n, tail);
    return (struct str){space, head + reset.n + tail};
}

static bool is_zero(struct str s)
{
    double value;

    return str_to_decimal(str_trim(s), &value) && value <= 0;
}

/* Removes and returns the text up to the next `end` outside of a string (RFC 8941, 3.3.3). */
static struct str cut_outside_strings(struct str *s, char end)
{
    bool quoted = false;
    size_t n = 0;

    for (; n < s->n && (quoted || s->p[n] != end); n++) {
        if (quoted && s->p[n] == '\\' && n + 1 < s->n)
            n++;
        else if (s->p[n] == '"')
            quoted = !quoted;
    }
    struct str part = {s->p, n};
    n += n < s->n;
    *s = str_after(*s, n);
    return str_trim(part);
}

/* Reads one member of a list: "default";r=0;t=30. Returns whether the bucket is empty and has a
 * reset. */
static bool read_member(struct str member, uint64_t *ret_ms)
{
    bool empty = false, timed = false;

    (void)cut_outside_strings(&member, ';');
    while (member.n > 0) {
        struct str value = cut_outside_strings(&member, ';'), key;
        (void)str_next(&value, '=', &key);
        if (str_eq(key, STR("r")))
            empty = is_zero(value);
        else if (str_eq(key, STR("t")))
            timed = units_decimal_ms(str_trim(value), 1000, ret_ms);
    }
    return empty && timed;
}

/* Reads "limit=10, remaining=0, reset=30", the format of drafts 04 to 07. */
static bool read_dictionary(struct str list, uint64_t *ret_ms)
{
    bool empty = false, timed = false;

    while (list.n > 0) {
        struct str value = cut_outside_strings(&list, ','), key;
        (void)str_next(&value, '=', &key);
        if (str_eq(key, STR("remaining")))
            empty = is_zero(value);
        else if (str_eq(key, STR("reset")))
            timed = units_decimal_ms(str_trim(value), 1000, ret_ms);
    }
    return empty && timed;
}

/* Reads the field that combines all buckets (draft-ietf-httpapi-ratelimit-headers). Returns the
 * longest reset of the empty ones. */
static bool read_combined(struct str list, uint64_t *ret_ms)
{
    uint64_t ms;
    bool found = read_dictionary(list, ret_ms);

    while (list.n > 0) {
        if (!read_member(cut_outside_strings(&list, ','), &ms))
            continue;
        *ret_ms = found && *ret_ms > ms ? *ret_ms : ms;
        found = true;
    }
    return found;
}

static bool read_bucket(const struct headers *h, unsigned i, uint64_t now_ms, uint64_t *ret_ms)
{
    char space[NAME_MAX_BYTES];
    struct str reset, name = headers_name(h, i);

    if (str_ieq(name, STR("ratelimit")))
        return read_combined(headers_value(h, i), ret_ms);
    name = reset_name(name, space);
    return name.n > 0 && is_zero(headers_value(h, i)) && headers_get(h, name, &reset) &&
           read_reset(reset, now_ms, ret_ms);
}

/* Returns the longest reset of all empty buckets. */
static bool read_buckets(const struct headers *h, uint64_t now_ms, uint64_t *ret_ms)
{
    bool found = false;
    uint64_t longest = 0;

    for (unsigned i = 0; i < h->count; i++) {
        uint64_t ms;

        if (!read_bucket(h, i, now_ms, &ms))
            continue;
        found = true;
        if (ms > longest)
            longest = ms;
    }
    if (found)
        *ret_ms = longest;
    return found;
}

/* --- the wait in a message -------------------------------------------------------------------- */

static bool is_word_char(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.';
}

static struct str cut_word(struct str *s)
{
    size_t n = 0;

    *s = str_trim(*s);
    while (n < s->n && is_word_char(s->p[n]))
        n++;
    struct str word = {s->p, n};
    *s = str_after(*s, n);
    while (word.n > 0 && word.p[word.n - 1] == '.')
        word.n--;
    return word;
}

/* Returns the unit as the configuration writes it, or NULL. */
static const char *unit_of(struct str word)
{
    static const struct {
        struct str name;
        const char *unit;
    } units[] = {
        {{"millisecond", 11}, "ms"}, {{"ms", 2}, "ms"},  {{"second", 6}, "s"},
        {{"sec", 3}, "s"},           {{"s", 1}, "s"},    {{"minute", 6}, "m"},
        {{"min", 3}, "m"},           {{"hour", 4}, "h"}, {{"day", 3}, "d"},
    };

    if (word.n > 2 && (word.p[word.n - 1] | 0x20) == 's')
        word.n--;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (str_ieq(word, units[i].name))
            return units[i].unit;
    return NULL;
}

/* Reads "9.816s", "6m0s" or "12 seconds" at the start of `s`. */
static bool read_wait(struct str s, uint64_t *ret_ms)
{
    struct str number = cut_word(&s);
    const char *unit;
    char text[32];

    if (number.n == 0 || number.n > 24)
        return false;
    if (!str_eq(number, STR("0")) && units_go_duration(number, ret_ms))
        return true;
    unit = unit_of(cut_word(&s));
    if (!unit)
        return false;
    memcpy(text, number.p, number.n);
    memcpy(text + number.n, unit, strlen(unit));
    return units_duration((struct str){text, number.n + strlen(unit)}, ret_ms);
}

bool hint_in_message(struct str message, uint64_t *ret_ms)
{
    static const struct str phrases[] = {
        {"try again in ", 13}, {"try again after ", 16}, {"retry after ", 12}, {"retry in ", 9},
        {"reset after ", 12},  {"resets after ", 13},    {"reset in ", 9},     {"resets in ", 10},
        {"please wait ", 12},  {"please wait for ", 16}};

    for (size_t i = 0; i < sizeof phrases / sizeof phrases[0]; i++) {
        struct str rest = message;
        ptrdiff_t at;

        while ((at = str_ifind(rest, phrases[i])) >= 0) {
            rest = str_after(rest, (size_t)at + phrases[i].n);
            if (read_wait(rest, ret_ms))
                return true;
        }
    }
    return false;
}

/* --- all of them, in order -------------------------------------------------------------------- */

/* Reads the hint in the fields of the error object, or else in its message. */
static struct hint read_error(const struct apierror *e, uint64_t now_ms)
{
    if (e->has_delay)
        return (struct hint){HINT_ERROR, e->delay_ms};
    if (e->resets_at_ms > 0)
        return (struct hint){HINT_ERROR, until(e->resets_at_ms, now_ms)};
    if (e->has_hint)
        return (struct hint){HINT_MESSAGE, e->hint_ms};
    return (struct hint){HINT_NONE, 0};
}

/* Returns the time at which the upstream created the response. */
static uint64_t now_of(const struct headers *h, uint64_t unix_ms)
{
    struct str v;
    uint64_t date;

    return headers_get(h, STR("date"), &v) && hint_http_date(v, &date) ? date : unix_ms;
}

struct hint hint_read(const struct headers *headers, const struct apierror *error, uint64_t unix_ms,
                      uint64_t max_delay_ms)
{
    static const struct headers nothing;
    const struct headers *h = headers ? headers : &nothing;
    uint64_t now_ms = now_of(h, unix_ms), ms;
    struct hint said = {HINT_NONE, 0};
    struct str v;

    if (headers_get(h, STR("retry-after-ms"), &v) && units_decimal_ms(str_trim(v), 1, &ms))
        return (struct hint){HINT_RETRY_AFTER_MS, ms};
    if (headers_get(h, STR("retry-after"), &v) && read_retry_after(v, now_ms, &ms))
        return (struct hint){HINT_RETRY_AFTER, ms};
    if (error)
        said = read_error(error, now_ms);
    if (said.source != HINT_NONE)
        return said;
    if (read_buckets(h, now_ms, &ms))
        return (struct hint){HINT_BUCKET, ms < max_delay_ms ? ms : max_delay_ms};
    return (struct hint){HINT_NONE, 0};
}

const char *hint_source_word(enum hint_source s)
{
    static const char *const words[] = {
        [HINT_NONE] = "none",
        [HINT_RETRY_AFTER_MS] = "retry_after_ms",
        [HINT_RETRY_AFTER] = "retry_after",
        [HINT_ERROR] = "error",
        [HINT_MESSAGE] = "message",
        [HINT_BUCKET] = "bucket",
    };

    assert((unsigned)s < sizeof words / sizeof words[0]);
    return words[s];
}
