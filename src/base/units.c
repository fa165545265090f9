/* Parses and formats durations and sizes, with exact integer arithmetic in nanoseconds and
 * bytes. */
#include "base/units.h"

#include <inttypes.h>
#include <stdio.h>

#define NS_PER_MS 1000000u
#define NS_PER_S 1000000000u

struct unit {
    struct str name;
    uint64_t worth;
};

/* The worth of a unit is in nanoseconds. */
static const struct unit duration_units[] = {
    {{"ms", 2}, NS_PER_MS},          {{"s", 1}, NS_PER_S},
    {{"m", 1}, 60ull * NS_PER_S},    {{"h", 1}, 3600ull * NS_PER_S},
    {{"d", 1}, 86400ull * NS_PER_S},
};

static const struct unit go_units[] = {
    {{"ns", 2}, 1},
    {{"us", 2}, 1000},
    {{"\xc2\xb5s", 3}, 1000}, /* micro sign */
    {{"\xce\xbcs", 3}, 1000}, /* Greek mu */
    {{"ms", 2}, NS_PER_MS},
    {{"s", 1}, NS_PER_S},
    {{"m", 1}, 60ull * NS_PER_S},
    {{"h", 1}, 3600ull * NS_PER_S},
};

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Adds b * c to `*sum`. Returns false on overflow. */
static bool add_product(uint64_t *sum, uint64_t b, uint64_t c)
{
    uint64_t product;

    return !__builtin_mul_overflow(b, c, &product) && !__builtin_add_overflow(*sum, product, sum);
}

/* Removes "12", "1.5" or ".5" from the front of `*s`. Returns the whole part and the fraction in
 * billionths; digits beyond the ninth round it up. Returns false if there is no digit. */
static bool cut_number(struct str *s, uint64_t *ret_whole, uint64_t *ret_billionths)
{
    size_t i = 0;

    while (i < s->n && is_digit(s->p[i]))
        i++;
    uint64_t whole = 0;
    if (i > 0 && !str_to_u64((struct str){s->p, i}, &whole))
        return false;
    size_t digits = i;
    uint64_t billionths = 0, place = NS_PER_S;
    bool more = false;
    if (i < s->n && s->p[i] == '.') {
        for (i++; i < s->n && is_digit(s->p[i]); i++, digits++) {
            unsigned digit = (unsigned)(s->p[i] - '0');
            place /= 10;
            billionths += digit * place;
            more |= place == 0 && digit != 0;
        }
    }
    if (digits == 0)
        return false;
    *s = str_after(*s, i);
    *ret_whole = whole;
    *ret_billionths = billionths + more;
    return true;
}

/* Removes one unit from the front of `*s`: the text up to a digit, a point or the end. */
static bool cut_unit(struct str *s, const struct unit *units, size_t n, uint64_t *ret_worth)
{
    size_t i = 0;

    while (i < s->n && !is_digit(s->p[i]) && s->p[i] != '.')
        i++;
    for (size_t u = 0; u < n; u++) {
        if (str_eq((struct str){s->p, i}, units[u].name)) {
            *s = str_after(*s, i);
            *ret_worth = units[u].worth;
            return true;
        }
    }
    return false;
}

/* Removes a number with its unit from the front of `*s` and adds it to `*ns`. For units of a second
 * and more a fraction is exact in nanoseconds; for smaller units it is rounded up. */
static bool cut_component(struct str *s, const struct unit *units, size_t n, uint64_t *ns)
{
    uint64_t whole, billionths, worth;

    if (!cut_number(s, &whole, &billionths) || !cut_unit(s, units, n, &worth))
        return false;
    if (!add_product(ns, whole, worth))
        return false;
    if (worth >= NS_PER_S)
        return add_product(ns, billionths, worth / NS_PER_S);
    return add_product(ns, (billionths * worth + NS_PER_S - 1) / NS_PER_S, 1);
}

static uint64_t whole_ms(uint64_t ns)
{
    return ns / NS_PER_MS + (ns % NS_PER_MS != 0);
}

bool units_duration(struct str s, uint64_t *ret_ms)
{
    uint64_t ns = 0;

    if (!str_eq(s, STR("0"))) {
        if (!cut_component(&s, duration_units, COUNT(duration_units), &ns) || s.n > 0)
            return false;
    }
    *ret_ms = whole_ms(ns);
    return true;
}

bool units_go_duration(struct str s, uint64_t *ret_ms)
{
    uint64_t ns = 0;

    if (s.n == 0)
        return false;
    if (!str_eq(s, STR("0"))) {
        while (s.n > 0)
            if (!cut_component(&s, go_units, COUNT(go_units), &ns))
                return false;
    }
    *ret_ms = whole_ms(ns);
    return true;
}

bool units_decimal_ms(struct str s, double unit_ms, uint64_t *ret_ms)
{
    double value;

    if (!str_to_decimal(s, &value))
        return false;
    value *= unit_ms;
    uint64_t ms = value < (double)UNITS_MS_MAX ? (uint64_t)value : UNITS_MS_MAX;
    *ret_ms = ms + (ms < UNITS_MS_MAX && (double)ms < value);
    return true;
}

bool units_size(struct str s, uint64_t *ret_bytes)
{
    static const char letters[] = "KMGT";
    unsigned shift = 0;
    uint64_t value;

    if (s.n > 0 && (s.p[s.n - 1] == 'B' || s.p[s.n - 1] == 'b'))
        s.n--;
    for (unsigned i = 0; s.n > 0 && letters[i]; i++) {
        if ((s.p[s.n - 1] & ~0x20) == letters[i]) {
            shift = 10 * (i + 1);
            s.n--;
            break;
        }
    }
    if (!str_to_u64(s, &value) || value > UINT64_MAX >> shift)
        return false;
    *ret_bytes = value << shift;
    return true;
}

const char *units_duration_text(uint64_t ms, char out[UNITS_TEXT_MAX])
{
    size_t i = COUNT(duration_units) - 1;

    while (ms % (duration_units[i].worth / NS_PER_MS) != 0)
        i--;
    (void)snprintf(out, UNITS_TEXT_MAX, "%" PRIu64 "%s", ms / (duration_units[i].worth / NS_PER_MS),
                   ms == 0 ? "" : duration_units[i].name.p);
    return out;
}

const char *units_size_text(uint64_t bytes, char out[UNITS_TEXT_MAX])
{
    static const char letters[] = "\0KMGT";
    unsigned i = 0;

    while (i < 4 && bytes != 0 && bytes % 1024 == 0) {
        bytes /= 1024;
        i++;
    }
    (void)snprintf(out, UNITS_TEXT_MAX, "%" PRIu64 "%.1s", bytes, letters + i);
    return out;
}
