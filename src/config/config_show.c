/* The types of settings: field to text, and what is expected of a value. */
#include <stdio.h>
#include <string.h>

#include "base/units.h"
#include "config/config_table.h"

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
