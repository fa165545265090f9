/* The types of settings: text to field, field to text, and what is expected of a value. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "config/config_private.h"

_Static_assert(sizeof(enum jitter) == sizeof(unsigned) &&
                   sizeof(enum hedge_what) == sizeof(unsigned),
               "enums are kept as unsigned");

void *config_field(const struct config_row *row, void *owner)
{
    return (char *)owner + row->offset;
}

const void *config_field_const(const struct config_row *row, const void *owner)
{
    return (const char *)owner + row->offset;
}

/* --- kinds of text ---------------------------------------------------------------------------- */

static bool is_variable(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (c >= 0x80 || (!isalnum(c) && c != '_') || (i == 0 && isdigit(c)))
            return false;
    }
    return s.n > 0;
}

static bool is_prefix(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (c >= 0x80 || (!isalnum(c) && (c == '\0' || !strchr(".-_:", c))))
            return false;
    }
    return s.n > 0 && s.n <= 64;
}

/* --- lists ------------------------------------------------------------------------------------ */

static int list_add(struct string_list *list, struct str item)
{
    char **items = realloc(list->items, (list->count + 1) * sizeof *items);

    if (!items)
        return -ENOMEM;
    list->items = items;
    items[list->count] = str_dup(item);
    if (!items[list->count])
        return -ENOMEM;
    list->count++;
    return 0;
}

static void list_clear(struct string_list *list)
{
    for (unsigned i = 0; i < list->count; i++)
        free(list->items[i]);
    free(list->items);
    *list = (struct string_list){0};
}

static int find_choice(const struct config_row *row, struct str text)
{
    for (int i = 0; row->choices[i]; i++) {
        if (str_ieq(text, str_from(row->choices[i])))
            return i;
    }
    return -1;
}

static bool in_bounds(const struct config_row *row, uint64_t value)
{
    return value >= row->min && (row->max == 0 || value <= row->max);
}

/* NULL, or what the row expects of an item. */
static const char *item_problem(const struct config_row *row, struct str item, bool *ret_bad)
{
    const char *why = NULL;
    uint64_t n;

    if (row->type == CONFIG_ADDRESSES) {
        why = config_address_check(item, NULL);
        *ret_bad = why != NULL;
    } else if (row->type == CONFIG_WEIGHTS) {
        *ret_bad = !str_to_u64(item, &n) || !in_bounds(row, n);
    } else {
        *ret_bad = !str_is_visible(item) || item.p[0] == ';';
    }
    return why;
}

static bool list_has(const struct string_list *list, struct str item)
{
    for (unsigned i = 0; i < list->count; i++) {
        if (str_eq(str_from(list->items[i]), item))
            return true;
    }
    return false;
}

static int parse_list(const struct config_row *row, struct str text, struct string_list *list,
                      struct str *ret_bad, const char **ret_expected)
{
    struct str piece;

    while (str_next(&text, ',', &piece)) {
        bool bad;

        if (piece.n == 0) /* a comma at the end of a line */
            continue;
        *ret_expected = item_problem(row, piece, &bad);
        if (!bad && row->type != CONFIG_WEIGHTS && list_has(list, piece)) {
            *ret_expected = "every item only once";
            bad = true;
        }
        if (bad) {
            *ret_bad = piece;
            return -EINVAL;
        }
        if (list_add(list, piece) < 0)
            return -ENOMEM;
    }
    return 0;
}

/* At least one: without an address nobody could come. */
static int parse_addresses(const struct config_row *row, struct str text, struct string_list *list,
                           struct str *ret_bad, const char **ret_expected)
{
    unsigned before = list->count;
    int rc = parse_list(row, text, list, ret_bad, ret_expected);

    return rc == 0 && list->count == before ? -EINVAL : rc;
}

/* --- numbers ---------------------------------------------------------------------------------- */

static int parse_u64(const struct config_row *row, struct str text, uint64_t *value)
{
    uint64_t n;
    bool ok = row->type == CONFIG_DURATION ? units_duration(text, &n) : units_size(text, &n);

    if (!ok || !in_bounds(row, n))
        return -EINVAL;
    *value = n;
    return 0;
}

static int parse_unsigned(const struct config_row *row, struct str text, unsigned *value)
{
    uint64_t n;

    if (row->zero_word && str_ieq(text, str_from(row->zero_word))) {
        *value = 0;
        return 0;
    }
    if (row->type == CONFIG_PERCENT && !str_eq(text, STR("0"))) { /* which needs no unit */
        if (text.n == 0 || text.p[text.n - 1] != '%')
            return -EINVAL;
        text.n--;
    }
    if (!str_to_u64(text, &n) || !in_bounds(row, n))
        return -EINVAL;
    *value = (unsigned)n;
    return 0;
}

static int parse_decimal(const struct config_row *row, struct str text, double *value)
{
    double x;

    if (!str_to_decimal(text, &x) || x < (double)row->min || x > (double)row->max)
        return -EINVAL;
    *value = x;
    return 0;
}

static int parse_yes_no(struct str text, bool *value)
{
    if (str_ieq(text, STR("yes")) || str_ieq(text, STR("true")) || str_ieq(text, STR("on"))) {
        *value = true;
        return 0;
    }
    if (str_ieq(text, STR("no")) || str_ieq(text, STR("false")) || str_ieq(text, STR("off"))) {
        *value = false;
        return 0;
    }
    return -EINVAL;
}

static int parse_enum(const struct config_row *row, struct str text, unsigned *value)
{
    int choice = find_choice(row, text);

    if (choice < 0)
        return -EINVAL;
    *value = (unsigned)choice;
    return 0;
}

static int parse_set(const struct config_row *row, struct str text, unsigned *value,
                     struct str *ret_bad)
{
    unsigned bits = *value;
    struct str piece;

    if (str_ieq(text, STR("none"))) {
        *value = 0;
        return 0;
    }
    if (text.n == 0)
        return -EINVAL;
    while (str_next(&text, ',', &piece)) {
        int choice = find_choice(row, piece);

        if (piece.n == 0)
            continue;
        if (choice < 0) {
            *ret_bad = piece;
            return -EINVAL;
        }
        bits |= 1u << choice;
    }
    *value = bits;
    return 0;
}

/* --- single texts ----------------------------------------------------------------------------- */

/* NULL, or what is expected; "" for what config_value_expected says. */
static const char *text_problem(const struct config_row *row, struct str text)
{
    struct config_url url;

    /* After a space it would be a comment when the value is written out again. */
    if (text.n && text.p[0] == ';')
        return "a value that does not start with a semicolon";
    switch (row->type) {
    case CONFIG_ADDRESS:
        return str_ieq(text, STR("off")) ? NULL : config_address_check(text, NULL);
    case CONFIG_URL:
        return config_url_parse(text, &url);
    case CONFIG_PROXY:
        return text.n ? config_proxy_check(text) : NULL;
    case CONFIG_SERVER:
        return text.n ? config_server_check(text) : NULL;
    case CONFIG_PREFIX:
        return is_prefix(text) ? NULL : "";
    case CONFIG_TOKEN:
        return str_is_token(text) || (text.n == 0 && !row->fallback[0]) ? NULL : "";
    case CONFIG_VARIABLE:
        return is_variable(text) || text.n == 0 ? NULL : "";
    case CONFIG_BASE:
        return str_is_visible(text) && text.p[0] == '/' && !memchr(text.p, '?', text.n) &&
                       !memchr(text.p, '#', text.n)
                   ? NULL
                   : "";
    case CONFIG_GLOB:
        if (!strcmp(row->key, "path") && text.n && text.p[0] != '/' && text.p[0] != '*')
            return "a pattern that starts with / or *";
        return str_is_visible(text) ? NULL : "";
    default:
        return NULL;
    }
}

static int parse_text(const struct config_row *row, struct str text, char **value,
                      const char **ret_expected)
{
    const char *why = text_problem(row, text);
    char *copy;

    if (why) {
        *ret_expected = why[0] ? why : NULL;
        return -EINVAL;
    }
    while (row->type == CONFIG_BASE && text.n && text.p[text.n - 1] == '/')
        text.n--;
    if (row->type == CONFIG_ADDRESS && str_ieq(text, STR("off")))
        text = STR("off");
    copy = row->type == CONFIG_URL ? config_url_text(text) : str_dup(text);
    if (!copy)
        return -ENOMEM;
    free(*value);
    *value = copy;
    return 0;
}

/* --- by type ---------------------------------------------------------------------------------- */

int config_value_parse(const struct config_row *row, struct str text, void *field,
                       struct str *ret_bad, const char **ret_expected)
{
    *ret_bad = text;
    *ret_expected = NULL;
    switch (row->type) {
    case CONFIG_DURATION:
    case CONFIG_SIZE:
        return parse_u64(row, text, field);
    case CONFIG_INTEGER:
    case CONFIG_PERCENT:
        return parse_unsigned(row, text, field);
    case CONFIG_DECIMAL:
        return parse_decimal(row, text, field);
    case CONFIG_YES_NO:
        return parse_yes_no(text, field);
    case CONFIG_ENUM:
        return parse_enum(row, text, field);
    case CONFIG_SET:
        return parse_set(row, text, field, ret_bad);
    case CONFIG_LIST:
    case CONFIG_WEIGHTS:
        return parse_list(row, text, field, ret_bad, ret_expected);
    case CONFIG_ADDRESSES:
        return parse_addresses(row, text, field, ret_bad, ret_expected);
    case CONFIG_HEADER:
    case CONFIG_MODEL:
        return 0; /* the default: none; an upstream's own are read in config.c */
    default:
        return parse_text(row, text, field, ret_expected);
    }
}

void config_value_clear(const struct config_row *row, void *field)
{
    char **text = field;
    unsigned *bits = field;

    switch (row->type) {
    case CONFIG_LIST:
    case CONFIG_WEIGHTS:
    case CONFIG_ADDRESSES:
        list_clear(field);
        break;
    case CONFIG_SET:
        *bits = 0;
        break;
    case CONFIG_ADDRESS:
    case CONFIG_PATH:
    case CONFIG_TOKEN:
    case CONFIG_VARIABLE:
    case CONFIG_URL:
    case CONFIG_PROXY:
    case CONFIG_BASE:
    case CONFIG_GLOB:
    case CONFIG_SERVER:
    case CONFIG_PREFIX:
    case CONFIG_TEXT:
        free(*text);
        *text = NULL;
        break;
    default:
        break;
    }
}

/* --- back to text ------------------------------------------------------------------------------ */

/* The fewest digits that read back as the same number. */
static void decimal_text(double value, struct buf *out)
{
    char text[64];

    for (int digits = 6; digits <= 17; digits++) {
        double again;

        snprintf(text, sizeof text, "%.*g", digits, value);
        if (str_to_decimal(str_from(text), &again) && !(again < value) && !(again > value))
            break;
    }
    buf_add_str(out, str_from(text));
}

static void set_text(const struct config_row *row, unsigned bits, struct buf *out)
{
    const char *comma = "";

    if (bits == 0)
        buf_add_str(out, STR("none"));
    for (unsigned i = 0; row->choices[i]; i++) {
        if (bits & (1u << i)) {
            buf_printf(out, "%s%s", comma, row->choices[i]);
            comma = ", ";
        }
    }
}

static void list_text(const struct string_list *list, struct buf *out)
{
    for (unsigned i = 0; i < list->count; i++)
        buf_printf(out, "%s%s", i ? ", " : "", list->items[i]);
}

/* A proxy's user name and password are masked. */
static void proxy_text(const char *url, struct buf *out)
{
    const char *at = strrchr(url, '@');
    const char *start = strstr(url, "://");

    start = start ? start + 3 : url;
    if (!at || at < start) {
        buf_add_str(out, str_from(url));
        return;
    }
    buf_add(out, url, (size_t)(start - url));
    buf_printf(out, "***%s", at);
}

void config_value_text(const struct config_row *row, const void *field, struct buf *out)
{
    char number[UNITS_TEXT_MAX];
    const unsigned *n = field;
    const uint64_t *big = field;
    const double *decimal = field;
    const bool *yes = field;
    char *const *text = field;

    switch (row->type) {
    case CONFIG_DURATION:
        buf_add_str(out, str_from(units_duration_text(*big, number)));
        break;
    case CONFIG_SIZE:
        buf_add_str(out, str_from(units_size_text(*big, number)));
        break;
    case CONFIG_INTEGER:
        if (*n == 0 && row->zero_word)
            buf_add_str(out, str_from(row->zero_word));
        else
            buf_printf(out, "%u", *n);
        break;
    case CONFIG_PERCENT:
        buf_printf(out, "%u%%", *n);
        break;
    case CONFIG_DECIMAL:
        decimal_text(*decimal, out);
        break;
    case CONFIG_YES_NO:
        buf_add_str(out, *yes ? STR("yes") : STR("no"));
        break;
    case CONFIG_ENUM:
        buf_add_str(out, str_from(row->choices[*n]));
        break;
    case CONFIG_SET:
        set_text(row, *n, out);
        break;
    case CONFIG_LIST:
    case CONFIG_WEIGHTS:
    case CONFIG_ADDRESSES:
        list_text(field, out);
        break;
    case CONFIG_HEADER:
    case CONFIG_MODEL:
        break;
    case CONFIG_PROXY:
        proxy_text(*text, out);
        break;
    case CONFIG_BASE:
        buf_add_str(out, (*text)[0] ? str_from(*text) : STR("/"));
        break;
    default:
        buf_add_str(out, str_from(*text));
    }
}

/* --- what is expected -------------------------------------------------------------------------- */

static void bound_text(const struct config_row *row, uint64_t value, struct buf *out)
{
    char number[UNITS_TEXT_MAX];

    if (row->type == CONFIG_DURATION)
        buf_add_str(out, str_from(units_duration_text(value, number)));
    else if (row->type == CONFIG_SIZE)
        buf_add_str(out, str_from(units_size_text(value, number)));
    else
        buf_printf(out, "%llu%s", (unsigned long long)value,
                   row->type == CONFIG_PERCENT ? "%" : "");
}

/* " (at least 1ms, at most 1h)" */
static void bounds_text(const struct config_row *row, struct buf *out)
{
    if (row->min == 0 && row->max == 0)
        return;
    buf_add_str(out, STR(" ("));
    if (row->min) {
        buf_add_str(out, STR("at least "));
        bound_text(row, row->min, out);
    }
    if (row->max) {
        buf_add_str(out, row->min ? STR(", at most ") : STR("at most "));
        bound_text(row, row->max, out);
    }
    buf_addc(out, ')');
}

static void choices_text(const struct config_row *row, struct buf *out)
{
    for (unsigned i = 0; row->choices[i]; i++)
        buf_printf(out, "%s%s", !i ? "" : row->choices[i + 1] ? ", " : " or ", row->choices[i]);
}

static const char *const expectations[] = {
    [CONFIG_DURATION] = "a duration such as 250ms, 30s or 10m",
    [CONFIG_SIZE] = "a size such as 64K, 512M or 2G",
    [CONFIG_INTEGER] = "a whole number",
    [CONFIG_DECIMAL] = "a number such as 2 or 1.5",
    [CONFIG_PERCENT] = "a percentage such as 20%",
    [CONFIG_YES_NO] = "yes or no",
    [CONFIG_ENUM] = "",
    [CONFIG_SET] = "none, or a comma-separated list of ",
    [CONFIG_LIST] = "a comma-separated list",
    [CONFIG_WEIGHTS] = "a comma-separated list of whole numbers",
    [CONFIG_ADDRESSES] = "one or more of ADDRESS:PORT, [IPV6]:PORT or unix:/PATH, comma-separated",
    [CONFIG_ADDRESS] = "ADDRESS:PORT, [IPV6]:PORT, unix:/PATH or off",
    [CONFIG_PATH] = "a path",
    [CONFIG_TOKEN] = "the name of a header, such as Authorization",
    [CONFIG_VARIABLE] = "the name of an environment variable, such as OPENAI_API_KEY, not the key",
    [CONFIG_URL] = "a URL such as https://api.openai.com/v1, or unix:/path/to/socket:/v1",
    [CONFIG_PROXY] = "a URL such as http://proxy.example:3128",
    [CONFIG_BASE] = "a path such as /v1",
    [CONFIG_GLOB] = "a pattern such as gpt-4o*, without spaces",
    [CONFIG_SERVER] = "HOST:PORT, [IPV6]:PORT or unix:/PATH",
    [CONFIG_PREFIX] = "1 to 64 letters, digits, dots, dashes, underscores or colons",
    [CONFIG_TEXT] = "text",
    [CONFIG_HEADER] = "the header's value, one line of text",
    [CONFIG_MODEL] = "the name of a model",
};

void config_value_expected(const struct config_row *row, struct buf *out)
{
    buf_add_str(out, str_from(expectations[row->type]));
    if (row->choices)
        choices_text(row, out);
    if (row->zero_word)
        buf_printf(out, " or %s", row->zero_word);
    bounds_text(row, out);
}

static const char *const kinds[] = {
    [CONFIG_DURATION] = "duration",
    [CONFIG_SIZE] = "size",
    [CONFIG_INTEGER] = "whole number",
    [CONFIG_DECIMAL] = "number",
    [CONFIG_PERCENT] = "percentage",
    [CONFIG_YES_NO] = "yes or no",
    [CONFIG_ENUM] = "",
    [CONFIG_SET] = "none, or any of ",
    [CONFIG_LIST] = "list",
    [CONFIG_WEIGHTS] = "list of whole numbers",
    [CONFIG_ADDRESSES] = "list of ADDRESS:PORT, [IPV6]:PORT or unix:/PATH",
    [CONFIG_ADDRESS] = "ADDRESS:PORT, [IPV6]:PORT, unix:/PATH or off",
    [CONFIG_PATH] = "path",
    [CONFIG_TOKEN] = "name of a header",
    [CONFIG_VARIABLE] = "name of a variable",
    [CONFIG_URL] = "URL",
    [CONFIG_PROXY] = "URL",
    [CONFIG_BASE] = "path",
    [CONFIG_GLOB] = "pattern",
    [CONFIG_SERVER] = "HOST:PORT, [IPV6]:PORT or unix:/PATH",
    [CONFIG_PREFIX] = "letters, digits and .-_:",
    [CONFIG_TEXT] = "text",
    [CONFIG_HEADER] = "text",
    [CONFIG_MODEL] = "name of a model",
};

void config_value_kind(const struct config_row *row, struct buf *out)
{
    buf_add_str(out, str_from(kinds[row->type]));
    if (row->choices)
        choices_text(row, out);
    if (row->zero_word)
        buf_printf(out, " or %s", row->zero_word);
    if (row->max == 0)
        return;
    buf_add_str(out, row->min ? STR(", ") : STR(", up to "));
    if (row->min) {
        bound_text(row, row->min, out);
        buf_add_str(out, STR(" to "));
    }
    bound_text(row, row->max, out);
}
