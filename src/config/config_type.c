/* The types of settings: reads, checks, writes and describes their values. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "config/config_private.h"

_Static_assert(sizeof(enum jitter) == sizeof(unsigned) &&
                   sizeof(enum hedge_what) == sizeof(unsigned),
               "enums are kept as unsigned");

/* A field, and the row that describes it. */
struct value {
    const struct config_row *row;
    union {
        void *field;
        uint64_t *u64;
        unsigned *number;
        double *decimal;
        bool *yes;
        char **text;
        struct string_list *list;
        struct config_pairs *pairs;
    };
    struct config_mistake mistake;
};

/* The operations of a type. A member that it does not need is NULL. */
struct type {
    const char *kind;     /* in the reference: "duration" */
    const char *expected; /* in messages: "a duration such as 250ms, 30s or 10m" */
    int (*parse)(struct value *v, struct str text); /* as config_value_parse */
    void (*format)(const struct value *v, struct buf *out);
    void (*clear)(struct value *v);
    /* For numbers: the unit. */
    bool (*read)(struct str text, uint64_t *ret_value);
    const char *(*write)(uint64_t value, char out[UNITS_TEXT_MAX]);
    /* For texts and the items of lists: whether one is valid, and a description of what is expected
     * (NULL: it is valid). */
    bool (*is)(struct str text);
    const char *(*check)(struct str text);
    char *(*normal)(struct str text); /* returns the form that is kept, on the heap */
    const char *hides; /* a value with one of these characters is not shown; "": none is */
    bool list, repeats, prefix;
};

static const struct type *type_of(const struct config_row *row);

/* --- numbers ---------------------------------------------------------------------------------- */

static bool percent_read(struct str text, uint64_t *ret_value)
{
    if (str_ends(text, STR("%")))
        text.n--;
    else if (!str_eq(text, STR("0"))) /* which needs no unit */
        return false;
    return str_to_u64(text, ret_value);
}

static const char *whole_text(uint64_t value, char out[UNITS_TEXT_MAX])
{
    snprintf(out, UNITS_TEXT_MAX, "%" PRIu64, value);
    return out;
}

static const char *percent_text(uint64_t value, char out[UNITS_TEXT_MAX])
{
    snprintf(out, UNITS_TEXT_MAX, "%" PRIu64 "%%", value);
    return out;
}

static int number_read(const struct value *v, struct str text, uint64_t *ret_value)
{
    const struct config_row *row = v->row;
    uint64_t n = 0;
    bool zero = row->zero_word && str_ieq(text, str_from(row->zero_word));

    if (!zero && (!type_of(row)->read(text, &n) || n < row->min || (row->max && n > row->max)))
        return -EINVAL;
    *ret_value = n;
    return 0;
}

static void number_write(const struct value *v, uint64_t number, struct buf *out)
{
    const struct config_row *row = v->row;
    char text[UNITS_TEXT_MAX];
    bool zero = number == 0 && row->zero_word;

    buf_add_str(out, str_from(zero ? row->zero_word : type_of(row)->write(number, text)));
}

static int parse_u64(struct value *v, struct str text)
{
    return number_read(v, text, v->u64);
}

static void format_u64(const struct value *v, struct buf *out)
{
    number_write(v, *v->u64, out);
}

static int parse_unsigned(struct value *v, struct str text)
{
    uint64_t n = *v->number;
    int rc = number_read(v, text, &n);

    *v->number = (unsigned)n;
    return rc;
}

static void format_unsigned(const struct value *v, struct buf *out)
{
    number_write(v, *v->number, out);
}

static int parse_decimal(struct value *v, struct str text)
{
    double x;

    if (!str_to_decimal(text, &x) || x < (double)v->row->min || x > (double)v->row->max)
        return -EINVAL;
    *v->decimal = x;
    return 0;
}

/* Writes the fewest digits that read back as the same number. */
static void format_decimal(const struct value *v, struct buf *out)
{
    double value = *v->decimal, again;
    char text[64];

    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (str_to_decimal(str_from(text), &again) && !(again < value) && !(again > value))
            break;
    }
    buf_add_str(out, str_from(text));
}

/* --- choices ---------------------------------------------------------------------------------- */

static int find_choice(const char *const *choices, struct str text)
{
    for (int i = 0; choices[i]; i++) {
        if (str_ieq(text, str_from(choices[i])))
            return i;
    }
    return -1;
}

static int parse_yes_no(struct value *v, struct str text)
{
    static const char *const words[] = {"no", "yes", "false", "true", "off", "on", NULL};
    int word = find_choice(words, text);

    if (word < 0)
        return -EINVAL;
    *v->yes = word % 2;
    return 0;
}

static void format_yes_no(const struct value *v, struct buf *out)
{
    buf_add_str(out, *v->yes ? STR("yes") : STR("no"));
}

static int parse_enum(struct value *v, struct str text)
{
    int choice = find_choice(v->row->choices, text);

    if (choice < 0)
        return -EINVAL;
    *v->number = (unsigned)choice;
    return 0;
}

static void format_enum(const struct value *v, struct buf *out)
{
    buf_add_str(out, str_from(v->row->choices[*v->number]));
}

static int parse_set(struct value *v, struct str text)
{
    unsigned bits = *v->number;
    bool none = str_ieq(text, STR("none"));
    struct str piece;

    if (text.n == 0)
        return -EINVAL;
    while (!none && str_next(&text, ',', &piece)) {
        int choice = find_choice(v->row->choices, piece);

        if (piece.n == 0)
            continue;
        if (choice < 0) {
            v->mistake.found = piece;
            return -EINVAL;
        }
        bits |= 1u << choice;
    }
    *v->number = none ? 0 : bits;
    return 0;
}

static void format_set(const struct value *v, struct buf *out)
{
    const char *comma = "";

    if (*v->number == 0)
        buf_add_str(out, STR("none"));
    for (unsigned i = 0; v->row->choices[i]; i++) {
        if (*v->number & (1u << i)) {
            buf_printf(out, "%s%s", comma, v->row->choices[i]);
            comma = ", ";
        }
    }
}

static void clear_set(struct value *v)
{
    *v->number = 0;
}

/* --- lists ------------------------------------------------------------------------------------ */

static int list_add(struct string_list *list, struct str item)
{
    char **items = config_grow(list->items, list->count, sizeof *items);

    if (!items)
        return -ENOMEM;
    list->items = items;
    items[list->count] = str_dup(item);
    if (!items[list->count])
        return -ENOMEM;
    list->count++;
    return 0;
}

static bool list_has(const struct string_list *list, struct str item)
{
    for (unsigned i = 0; i < list->count; i++) {
        if (str_eq(str_from(list->items[i]), item))
            return true;
    }
    return false;
}

/* Whether a text, or an item of a list, is valid; if not, fills in the mistake. */
static bool is_right(struct value *v, struct str text)
{
    const struct type *type = type_of(v->row);
    const char *expected = type->check ? type->check(text) : NULL;

    if (!expected && (!type->is || type->is(text)))
        return true;
    v->mistake = (struct config_mistake){.found = text, .expected = expected};
    return false;
}

static int parse_list(struct value *v, struct str text)
{
    struct str item;

    while (str_next(&text, ',', &item)) {
        if (item.n == 0) /* a comma at the end of a line */
            continue;
        if (!is_right(v, item))
            return -EINVAL;
        if (!type_of(v->row)->repeats && list_has(v->list, item)) {
            v->mistake = (struct config_mistake){item, "each item only once"};
            return -EINVAL;
        }
        if (list_add(v->list, item) < 0)
            return -ENOMEM;
    }
    return 0;
}

/* Without an address no client could connect. */
static int parse_addresses(struct value *v, struct str text)
{
    unsigned before = v->list->count;
    int rc = parse_list(v, text);

    return rc == 0 && v->list->count == before ? -EINVAL : rc;
}

static void format_list(const struct value *v, struct buf *out)
{
    for (unsigned i = 0; i < v->list->count; i++)
        buf_printf(out, "%s%s", i ? ", " : "", v->list->items[i]);
}

static void clear_list(struct value *v)
{
    for (unsigned i = 0; i < v->list->count; i++)
        free(v->list->items[i]);
    free(v->list->items);
    *v->list = (struct string_list){0};
}

static bool is_item(struct str item)
{
    return str_is_visible(item) && item.p[0] != ';';
}

static bool is_weight(struct str item)
{
    uint64_t n;

    return str_to_u64(item, &n) && n <= CONFIG_WEIGHT_MAX;
}

static const char *check_listener(struct str item)
{
    return config_address_check(item, NULL);
}

/* --- single texts ----------------------------------------------------------------------------- */

static int parse_text(struct value *v, struct str text)
{
    const struct type *type = type_of(v->row);
    bool may_be_empty = v->row->fallback[0] == '\0';
    char *copy;

    /* A dump writes a space before the value, and after a space it would begin a comment. */
    if (str_starts(text, STR(";"))) {
        v->mistake.expected = "a value that does not start with a semicolon";
        return -EINVAL;
    }
    if (!(text.n == 0 && may_be_empty) && !is_right(v, text))
        return -EINVAL;
    copy = type->normal ? type->normal(text) : str_dup(text);
    if (!copy)
        return -ENOMEM;
    free(*v->text);
    *v->text = copy;
    return 0;
}

static void format_text(const struct value *v, struct buf *out)
{
    buf_add_str(out, str_from(*v->text));
}

static void clear_text(struct value *v)
{
    free(*v->text);
    *v->text = NULL;
}

static bool is_made_of(struct str text, const char *marks)
{
    for (size_t i = 0; i < text.n; i++) {
        unsigned char c = (unsigned char)text.p[i];

        if (c >= 0x80 || (!isalnum(c) && (c == '\0' || !strchr(marks, c))))
            return false;
    }
    return text.n > 0;
}

static bool is_variable(struct str text)
{
    return is_made_of(text, "_") && !isdigit((unsigned char)text.p[0]);
}

static bool is_prefix(struct str text)
{
    return is_made_of(text, ".-_:") && text.n <= 64;
}

static const char *check_path_glob(struct str text)
{
    return text.n && text.p[0] != '/' && text.p[0] != '*' ? "a pattern that starts with / or *"
                                                          : NULL;
}

static bool is_base(struct str text)
{
    return str_is_visible(text) && text.p[0] == '/' && !memchr(text.p, '?', text.n) &&
           !memchr(text.p, '#', text.n);
}

static char *normal_base(struct str text)
{
    while (text.n && text.p[text.n - 1] == '/')
        text.n--;
    return str_dup(text);
}

static void format_base(const struct value *v, struct buf *out)
{
    buf_add_str(out, (*v->text)[0] ? str_from(*v->text) : STR("/"));
}

static const char *check_address(struct str text)
{
    return str_ieq(text, STR("off")) ? NULL : config_address_check(text, NULL);
}

static char *normal_address(struct str text)
{
    return str_dup(str_ieq(text, STR("off")) ? STR("off") : text);
}

static const char *check_url(struct str text)
{
    struct config_url url;

    return config_url_parse(text, &url);
}

/* Every parameter of the query is masked, since any may be a key. */
static void format_url(const struct value *v, struct buf *out)
{
    const char *url = *v->text, *p = url + strcspn(url, "?");

    buf_add(out, url, (size_t)(p - url));
    while (*p) {
        size_t pair = 1 + strcspn(p + 1, "&"), name = 1 + strcspn(p + 1, "=&");

        buf_add(out, p, name);
        if (name < pair)
            buf_add_str(out, STR("=***"));
        p += pair;
    }
}

/* A proxy's user name and password are masked. */
static void format_proxy(const struct value *v, struct buf *out)
{
    const char *url = *v->text, *at = strrchr(url, '@'), *start = strstr(url, "://");

    start = start ? start + 3 : url;
    if (at && at >= start) {
        buf_add(out, url, (size_t)(start - url));
        buf_add_str(out, STR("***"));
        url = at;
    }
    buf_add_str(out, str_from(url));
}

/* --- pairs ------------------------------------------------------------------------------------ */

static void clear_pairs(struct value *v)
{
    for (unsigned i = 0; i < v->pairs->count; i++) {
        struct config_pair *pair = &v->pairs->items[i];

        free(pair->name);
        explicit_bzero(pair->value, strlen(pair->value)); /* a header's may be a key */
        free(pair->value);
    }
    free(v->pairs->items);
    *v->pairs = (struct config_pairs){0};
}

/* --- the types -------------------------------------------------------------------------------- */

#define U64 .parse = parse_u64, .format = format_u64
#define UNSIGNED .parse = parse_unsigned, .format = format_unsigned
#define TEXT .parse = parse_text, .format = format_text, .clear = clear_text
#define LIST .parse = parse_list, .format = format_list, .clear = clear_list, .list = true
#define PAIRS .clear = clear_pairs, .prefix = true
#define URL_HIDES "@?#" /* a password is before an @, a key after a ? */

static const struct type types[] = {
    [CONFIG_DURATION] = {"duration", "a duration such as 250ms, 30s or 10m", U64,
                         .read = units_duration, .write = units_duration_text},
    [CONFIG_SIZE] = {"size", "a size such as 64K, 512M or 2G", U64, .read = units_size,
                     .write = units_size_text},
    [CONFIG_INTEGER] = {"whole number", "a whole number", UNSIGNED, .read = str_to_u64,
                        .write = whole_text},
    [CONFIG_PERCENT] = {"percentage", "a percentage such as 20%", UNSIGNED, .read = percent_read,
                        .write = percent_text},
    [CONFIG_DECIMAL] = {"number", "a number such as 2 or 1.5", .parse = parse_decimal,
                        .format = format_decimal, .write = whole_text},
    [CONFIG_YES_NO] = {"yes or no", "yes or no", .parse = parse_yes_no, .format = format_yes_no},
    [CONFIG_ENUM] = {"", "", .parse = parse_enum, .format = format_enum},
    [CONFIG_SET] = {"none, or any of ", "none, or a comma-separated list of ", .parse = parse_set,
                    .format = format_set, .clear = clear_set, .list = true},
    [CONFIG_LIST] = {"list", "a comma-separated list", LIST, .is = is_item},
    [CONFIG_WEIGHTS] = {"list of whole numbers", "a comma-separated list of whole numbers", LIST,
                        .is = is_weight, .write = whole_text, .repeats = true},
    [CONFIG_ADDRESSES] = {"list of ADDRESS:PORT, [IPV6]:PORT or unix:/PATH",
                          "one or more of ADDRESS:PORT, [IPV6]:PORT or unix:/PATH, comma-separated",
                          .parse = parse_addresses, .format = format_list, .clear = clear_list,
                          .check = check_listener, .list = true},
    [CONFIG_ADDRESS] = {"ADDRESS:PORT, [IPV6]:PORT, unix:/PATH or off",
                        "ADDRESS:PORT, [IPV6]:PORT, unix:/PATH or off", TEXT,
                        .check = check_address, .normal = normal_address},
    [CONFIG_PATH] = {"path", "a path", TEXT},
    [CONFIG_TOKEN] = {"name of a header", "the name of a header, such as Authorization", TEXT,
                      .is = str_is_token},
    [CONFIG_VARIABLE] =
        {"name of a variable",
         "the name of an environment variable, such as OPENAI_API_KEY, and not the key itself",
         TEXT, .is = is_variable, .hides = ""},
    [CONFIG_URL] = {"URL", "a URL such as https://api.openai.com/v1, or unix:/path/to/socket:/v1",
                    .parse = parse_text, .format = format_url, .clear = clear_text,
                    .check = check_url, .normal = config_url_text, .hides = URL_HIDES},
    [CONFIG_PROXY] = {"URL", "a URL such as http://proxy.example:3128", .parse = parse_text,
                      .format = format_proxy, .clear = clear_text, .check = config_proxy_check,
                      .hides = URL_HIDES},
    [CONFIG_BASE] = {"path", "a path such as /v1", .parse = parse_text, .format = format_base,
                     .clear = clear_text, .is = is_base, .normal = normal_base},
    [CONFIG_GLOB] = {"pattern", "a pattern such as gpt-4o*, without spaces", TEXT,
                     .is = str_is_visible},
    [CONFIG_PATH_GLOB] = {"pattern", "a pattern such as gpt-4o*, without spaces", TEXT,
                          .check = check_path_glob, .is = str_is_visible},
    [CONFIG_SERVER] = {"HOST:PORT, [IPV6]:PORT or unix:/PATH",
                       "HOST:PORT, [IPV6]:PORT or unix:/PATH", TEXT, .check = config_server_check,
                       .hides = URL_HIDES},
    [CONFIG_PREFIX] = {"letters, digits and .-_:",
                       "1 to 64 letters, digits, dots, dashes, underscores or colons", TEXT,
                       .is = is_prefix},
    [CONFIG_TEXT] = {"text", "text", TEXT},
    [CONFIG_HEADER] = {"text", "the header's value, one line of text", PAIRS},
    [CONFIG_MODEL] = {"name of a model", "the name of a model", PAIRS},
};

static const struct type *type_of(const struct config_row *row)
{
    return &types[row->type];
}

bool config_row_is_prefix(const struct config_row *row)
{
    return type_of(row)->prefix;
}

bool config_row_is_list(const struct config_row *row)
{
    return type_of(row)->list;
}

bool config_row_hides(const struct config_row *row, const char *text)
{
    const char *hides = type_of(row)->hides;

    return hides && (hides[0] == '\0' || strpbrk(text, hides));
}

/* --- values ----------------------------------------------------------------------------------- */

static struct value value_of(const struct config_row *row, const void *owner)
{
    return (struct value){.row = row, .field = config_field(row, owner)};
}

int config_value_parse(const struct config_row *row, struct str text, void *owner,
                       struct config_mistake *ret_mistake)
{
    struct value v = value_of(row, owner);
    int rc;

    v.mistake.found = text;
    rc = type_of(row)->parse(&v, text);
    *ret_mistake = v.mistake;
    return rc;
}

void config_value_clear(const struct config_row *row, void *owner)
{
    struct value v = value_of(row, owner);

    if (type_of(row)->clear)
        type_of(row)->clear(&v);
}

void config_value_text(const struct config_row *row, const void *owner, struct buf *out)
{
    struct value v = value_of(row, owner);

    type_of(row)->format(&v, out);
}

bool config_value_same(const struct config_row *row, const void *a, const void *b)
{
    struct buf one, other;
    bool same;

    buf_init(&one, CONFIG_VALUE_MAX);
    buf_init(&other, CONFIG_VALUE_MAX);
    config_value_text(row, a, &one);
    config_value_text(row, b, &other);
    same = str_eq(buf_str(&one), buf_str(&other));
    buf_deinit(&one);
    buf_deinit(&other);
    return same;
}

static void add_choices(const struct config_row *row, struct buf *out)
{
    for (unsigned i = 0; row->choices && row->choices[i]; i++)
        buf_printf(out, "%s%s", !i ? "" : row->choices[i + 1] ? ", " : " or ", row->choices[i]);
    if (row->zero_word)
        buf_printf(out, " or %s", row->zero_word);
}

void config_value_expected(const struct config_row *row, struct buf *out)
{
    const struct type *type = type_of(row);
    char text[UNITS_TEXT_MAX];

    buf_add_str(out, str_from(type->expected));
    add_choices(row, out);
    if (row->min)
        buf_printf(out, " (at least %s%s", type->write(row->min, text), row->max ? "" : ")");
    if (row->max)
        buf_printf(out, "%sat most %s)", row->min ? ", " : " (", type->write(row->max, text));
}

void config_value_kind(const struct config_row *row, struct buf *out)
{
    const struct type *type = type_of(row);
    char text[UNITS_TEXT_MAX];

    buf_add_str(out, str_from(type->kind));
    add_choices(row, out);
    if (row->max && row->min)
        buf_printf(out, ", %s to ", type->write(row->min, text));
    if (row->max)
        buf_printf(out, "%s%s", row->min ? "" : ", up to ", type->write(row->max, text));
}
