/* The types of settings: text to field. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "config/config_table.h"

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

/* Long, and of the letters that keys are made of: or with the mark that OpenAI's keys carry. */
bool config_looks_secret(struct str text)
{
    bool digit = false;

    if (str_istarts(text, STR("sk-")) || str_istarts(text, STR("bearer ")))
        return true;
    for (size_t i = 0; i < text.n; i++) {
        unsigned char c = (unsigned char)text.p[i];

        if (c >= 0x80 || (!isalnum(c) && c != '-' && c != '_'))
            return false;
        digit = digit || isdigit(c);
    }
    return text.n >= 30 && digit;
}

bool config_name_is_secret(struct str name)
{
    static const struct str marks[] = {STR("auth"),   STR("key"),   STR("token"),     STR("secret"),
                                       STR("cookie"), STR("passw"), STR("credential")};

    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++) {
        if (str_ifind(name, marks[i]) >= 0)
            return true;
    }
    return false;
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
