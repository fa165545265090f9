/* The snapshot as a file again, the reference of all keys, and what a reload cannot change. */
#include <stdlib.h>
#include <string.h>

#include "config/config_table.h"

#define TEXT_MAX (1024 * 1024)
#define WIDTH 100 /* a list that would pass it goes on over indented lines */
#define TIGHT 190 /* inih reads lines of up to 198 bytes */
#define HELP_WIDTH 96

/* --- dump ------------------------------------------------------------------------------------- */

/* Lists may be longer than a line: each item is then a line that continues the first. */
static void put_list(const char *key, const struct string_list *list, FILE *out)
{
    fprintf(out, "%s = ", key);
    for (unsigned i = 0; i < list->count; i++)
        fprintf(out, "%s%s%s", i ? "    " : "", list->items[i], i + 1 < list->count ? ",\n" : "\n");
}

/* Without the spaces where the file may have had none because the line is that long. */
static void put_pair(const char *prefix, const char *key, struct str value, FILE *out)
{
    bool tight = strlen(prefix) + strlen(key) + value.n > TIGHT;

    fprintf(out, "%s%s%s%.*s\n", prefix, key,
            tight     ? "="
            : value.n ? " = "
                      : " =",
            (int)value.n, value.n ? value.p : "");
}

/* Any header may carry a key: no name tells for sure that it does not. */
static void put_pairs(const char *prefix, const struct config_header *pairs, unsigned count,
                      bool headers, FILE *out)
{
    for (unsigned i = 0; i < count; i++)
        put_pair(prefix, pairs[i].name, headers ? STR("***") : str_from(pairs[i].value), out);
}

/* So may any parameter of a query. */
static void mask_query(struct buf *url)
{
    struct str whole = buf_str(url), pair, name;
    const char *mark = whole.n ? memchr(whole.p, '?', whole.n) : NULL;
    struct buf out;

    if (!mark)
        return;
    buf_init(&out, TEXT_MAX);
    buf_add(&out, whole.p, (size_t)(mark - whole.p));
    whole = (struct str){mark + 1, whole.n - (size_t)(mark + 1 - whole.p)};
    bool open = whole.n > 0 && whole.p[whole.n - 1] == '&'; /* an empty pair is the last */
    for (char before = '?'; str_next(&whole, '&', &pair); before = '&') {
        struct str value = pair;

        buf_addc(&out, before);
        name = pair;
        (void)str_next(&value, '=', &name);
        buf_add_str(&out, name);
        if (name.n < pair.n)
            buf_add_str(&out, STR("=***"));
    }
    if (open)
        buf_addc(&out, '&');
    buf_deinit(url);
    *url = out;
}

static void put_row(const struct config_row *row, const char *prefix, const void *owner, FILE *out)
{
    const struct config_upstream *u = owner;
    const void *field = config_field_const(row, owner);
    struct buf text;

    if (config_row_is_prefix(row)) {
        bool headers = row->type == CONFIG_HEADER;

        put_pairs(row->key, headers ? u->headers : u->models,
                  headers ? u->header_count : u->model_count, headers, out);
        return;
    }
    buf_init(&text, TEXT_MAX);
    config_value_text(row, field, &text);
    if (row->type == CONFIG_URL)
        mask_query(&text);
    if (text.len > WIDTH &&
        (row->type == CONFIG_LIST || row->type == CONFIG_WEIGHTS || row->type == CONFIG_ADDRESSES))
        put_list(row->key, field, out);
    else
        put_pair(prefix, row->key, buf_str(&text), out);
    buf_deinit(&text);
}

static void put_rows(const char *section, const char *prefix, const void *owner, FILE *out)
{
    for (unsigned i = 0; i < config_row_count; i++) {
        if (!strcmp(config_rows[i].section, section))
            put_row(&config_rows[i], prefix, owner, out);
    }
}

/* Only what differs: a route takes the rest from the sections it overrides. */
static void put_overrides(const struct config_route *route, const struct route_settings *defaults,
                          FILE *out)
{
    for (unsigned i = 0; i < config_row_count; i++) {
        const struct config_row *row = &config_rows[i];
        struct buf own, global;
        char prefix[32];

        if (row->owner != OWNER_SETTINGS)
            continue;
        buf_init(&own, TEXT_MAX);
        buf_init(&global, TEXT_MAX);
        config_value_text(row, config_field_const(row, &route->settings), &own);
        config_value_text(row, config_field_const(row, defaults), &global);
        snprintf(prefix, sizeof prefix, "%s.", row->section);
        if (!str_eq(buf_str(&own), buf_str(&global)))
            put_row(row, prefix, &route->settings, out);
        buf_deinit(&own);
        buf_deinit(&global);
    }
}

static void put_sections(const struct config *c, const struct config_section_row *s, FILE *out)
{
    bool settings = config_section_overridable(s->name);

    if (!strcmp(s->name, "upstream")) {
        for (unsigned i = 0; i < c->upstream_count; i++) {
            fprintf(out, "\n[upstream %s]\n", c->upstreams[i].name);
            put_rows(s->name, "", &c->upstreams[i], out);
        }
    } else if (!strcmp(s->name, "route")) {
        /* The last is the catch-all that every load adds. */
        for (unsigned i = 0; i + 1 < c->route_count; i++) {
            fprintf(out, "\n[route %s]\n", c->routes[i].name);
            put_rows(s->name, "", &c->routes[i], out);
            put_overrides(&c->routes[i], &c->defaults, out);
        }
    } else {
        fprintf(out, "\n[%s]\n", s->name);
        put_rows(s->name, "", settings ? (const void *)&c->defaults : c, out);
    }
}

void config_dump(const struct config *c, FILE *out)
{
    fprintf(out, "# retryd: the configuration in force\n");
    for (unsigned i = 0; i < config_section_count; i++)
        put_sections(c, &config_sections[i], out);
}

/* --- help ------------------------------------------------------------------------------------- */

/* Words of `text`, broken before HELP_WIDTH, each line behind `indent` spaces. */
static void put_wrapped(struct str text, int indent, FILE *out)
{
    size_t column = 0;
    struct str word;

    while (str_next(&text, ' ', &word)) {
        if (column && column + 1 + word.n > HELP_WIDTH) {
            fputc('\n', out);
            column = 0;
        }
        if (column == 0)
            fprintf(out, "%*s", indent, "");
        else
            fputc(' ', out);
        column = (column ? column + 1 : (size_t)indent) + word.n;
        fprintf(out, "%.*s", (int)word.n, word.p);
    }
    fputc('\n', out);
}

void config_row_describe(const struct config_row *row, struct buf *out)
{
    buf_printf(out, "%s (", row->help);
    config_value_kind(row, out);
    buf_addc(out, ')');
    if (row->zero_means)
        buf_printf(out, "; %s: %s", row->fallback[0] && row->max ? "0" : "empty", row->zero_means);
    if (row->restart)
        buf_add_str(out, STR("; a change needs a restart"));
    if (row->later)
        buf_printf(out, "; accepted, not in force in this version (%s)", row->later);
}

static void help_row(const struct config_row *row, FILE *out)
{
    struct buf text;

    fprintf(out, "  %s%s =%s%s\n", row->key, config_row_is_prefix(row) ? "NAME" : "",
            row->fallback[0] ? " " : "", row->fallback);
    buf_init(&text, TEXT_MAX);
    config_row_describe(row, &text);
    put_wrapped(buf_str(&text), 6, out);
    buf_deinit(&text);
}

void config_help(FILE *out)
{
    for (unsigned i = 0; i < config_section_count; i++) {
        const struct config_section_row *s = &config_sections[i];

        fprintf(out, "%s[%s%s]\n", i ? "\n" : "", s->name, s->named ? " NAME" : "");
        put_wrapped(str_from(s->help), 2, out);
        for (unsigned k = 0; k < config_row_count; k++) {
            if (!strcmp(config_rows[k].section, s->name))
                help_row(&config_rows[k], out);
        }
    }
}

/* --- what a reload cannot change --------------------------------------------------------------- */

void config_diff_restart(const struct config *old, const struct config *now, struct buf *out)
{
    size_t start = out->len;

    for (unsigned i = 0; i < config_row_count; i++) {
        const struct config_row *row = &config_rows[i];
        struct buf was, is;

        if (!row->restart || row->owner != OWNER_CONFIG)
            continue;
        buf_init(&was, TEXT_MAX);
        buf_init(&is, TEXT_MAX);
        config_value_text(row, config_field_const(row, old), &was);
        config_value_text(row, config_field_const(row, now), &is);
        if (!str_eq(buf_str(&was), buf_str(&is)))
            buf_printf(out, "%s%s.%s", out->len > start ? ", " : "", row->section, row->key);
        buf_deinit(&was);
        buf_deinit(&is);
    }
}
