/* Texts for the user: problems and notes of a file, and the configuration in force. */
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "config/config_private.h"

#define LINES_MAX 100 /* further ones are only counted */
#define TEXT_MAX 2048
#define WIDTH 100 /* a longer list is written with an item a line */
#define TIGHT 190 /* inih reads lines of up to 198 bytes */

/* --- problems and notes ----------------------------------------------------------------------- */

void config_report_init(struct config_report *r, const char *path)
{
    *r = (struct config_report){.path = path};
}

static void lines_deinit(struct config_lines *lines)
{
    for (unsigned i = 0; i < lines->count; i++)
        free(lines->items[i].text);
    free(lines->items);
}

void config_report_deinit(struct config_report *r)
{
    lines_deinit(&r->problems);
    lines_deinit(&r->notes);
}

__attribute__((format(printf, 4, 0))) static void lines_add(struct config_report *r,
                                                            struct config_lines *lines,
                                                            struct config_place place,
                                                            const char *fmt, va_list args)
{
    struct config_line *items;
    char text[TEXT_MAX];
    int n = 0;

    if (lines->total++ >= LINES_MAX)
        return;
    if (place.title)
        n = snprintf(text, sizeof text, "[%s] %s%s%s: ", place.title,
                     place.group ? place.group : "", place.group ? "." : "", place.key);
    vsnprintf(text + n, sizeof text - (size_t)n, fmt, args);
    items = config_grow(lines->items, lines->count, sizeof *items);
    if (items) {
        lines->items = items;
        items[lines->count] = (struct config_line){place.line, lines->count, strdup(text)};
    }
    if (items && items[lines->count].text)
        lines->count++;
    else
        config_no_memory(r);
}

void config_problem(struct config_report *r, enum config_fault fault, struct config_place place,
                    const char *fmt, ...)
{
    va_list args;

    r->faults[fault] = true;
    va_start(args, fmt);
    lines_add(r, &r->problems, place, fmt, args);
    va_end(args);
}

void config_note(struct config_report *r, struct config_place place, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    lines_add(r, &r->notes, place, fmt, args);
    va_end(args);
}

void config_no_memory(struct config_report *r)
{
    r->faults[FAULT_MEMORY] = true;
}

int config_report_errno(const struct config_report *r)
{
    static const int errors[FAULT_COUNT] = {
        [FAULT_MEMORY] = ENOMEM, [FAULT_DENIED] = EACCES,  [FAULT_VALUE] = EINVAL,
        [FAULT_FILE] = ENOENT,   [FAULT_UPSTREAM] = ENXIO, [FAULT_KEY] = ENOKEY,
    };

    for (unsigned i = 0; i < FAULT_COUNT; i++) {
        if (r->faults[i])
            return errors[i];
    }
    return 0;
}

bool config_report_bad(const struct config_report *r)
{
    return config_report_errno(r) != 0;
}

static int by_line(const void *a, const void *b)
{
    const struct config_line *x = a, *y = b;

    if (x->line != y->line)
        return x->line < y->line ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

/* Writes the place of a line: "FILE:LINE", or the name of a variable. */
static void put_line(const char *path, const struct config_text *text, unsigned line,
                     struct buf *out)
{
    if (text && line >= CONFIG_LINE_VARIABLES) {
        buf_add_str(out, str_from(text->variables[line - CONFIG_LINE_VARIABLES]));
        return;
    }
    buf_add_str(out, str_from(path ? path : "defaults"));
    if (line)
        buf_printf(out, ":%u", line);
}

static void lines_write(struct config_lines *lines, const struct config_report *r, const char *what,
                        struct buf *out)
{
    if (lines->count > 1)
        qsort(lines->items, lines->count, sizeof *lines->items, by_line);
    for (unsigned i = 0; i < lines->count; i++) {
        put_line(r->path, r->text, lines->items[i].line, out);
        buf_printf(out, ": %s\n", lines->items[i].text);
    }
    if (lines->total > LINES_MAX)
        buf_printf(out, "%s: and %u more %s\n", r->path ? r->path : "defaults",
                   lines->total - LINES_MAX, what);
}

void config_report_write(struct config_report *r, struct buf *problems, struct buf *notes)
{
    const char *path = r->path ? r->path : "defaults";

    if (problems && r->faults[FAULT_MEMORY])
        buf_printf(problems, "%s: out of memory\n", path);
    if (problems)
        lines_write(&r->problems, r, "problems", problems);
    if (notes)
        lines_write(&r->notes, r, "notes", notes);
}

/* Whether a text is long and consists of the characters of keys, or starts like OpenAI's keys. */
static bool looks_secret(struct str text)
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

bool config_has_control(struct str text)
{
    for (size_t i = 0; i < text.n; i++)
        if ((unsigned char)text.p[i] < 0x20 || text.p[i] == 0x7f)
            return true;
    return false;
}

const char *config_quote(struct str text, char out[CONFIG_QUOTED_MAX])
{
    size_t n = 1;

    if (looks_secret(text))
        return "(not shown: it looks like a key)";
    out[0] = '"';
    for (size_t i = 0; i < text.n; i++) {
        unsigned char c = (unsigned char)text.p[i];

        if (n > CONFIG_QUOTED_MAX - 12) {
            n += (size_t)snprintf(out + n, CONFIG_QUOTED_MAX - n, "...");
            break;
        }
        n += (size_t)snprintf(out + n, CONFIG_QUOTED_MAX - n,
                              c >= 0x20 && c < 0x7f ? "%c" : "\\x%02x", c);
    }
    snprintf(out + n, CONFIG_QUOTED_MAX - n, "\"");
    return out;
}

/* --- the configuration in force --------------------------------------------------------------- */

struct dump {
    const struct config *config;
    bool sources;            /* each value with its origin */
    const char *kind, *name; /* of the current section */
    FILE *out;
};

static void put_source(const struct dump *d, const char *prefix, const char *key)
{
    const struct config_text *text = config_source_text(d->config);
    char full[512];
    struct buf place;
    unsigned line;

    if (!d->sources)
        return;
    snprintf(full, sizeof full, "%s%s", prefix, key);
    line = config_text_line(text, d->kind, d->name, full);
    if (!line)
        return;
    buf_init(&place, 8192);
    put_line(d->config->path, text, line, &place);
    fprintf(d->out, "# %.*s\n", (int)place.len, place.p ? place.p : "");
    buf_deinit(&place);
}

/* Writes a line, without spaces around the = if they may not have fitted in the file. */
static void put_pair(const char *prefix, const char *key, struct str value, FILE *out)
{
    bool tight = strlen(prefix) + strlen(key) + value.n > TIGHT;
    const char *equals = tight ? "=" : value.n ? " = " : " =";

    fprintf(out, "%s%s%s%.*s\n", prefix, key, equals, (int)value.n, value.n ? value.p : "");
}

/* Every header's value is masked, since any header may carry a key. */
static void put_pairs(const struct dump *d, const struct config_row *row,
                      const struct config_pairs *pairs)
{
    for (unsigned i = 0; i < pairs->count; i++) {
        put_source(d, row->key, pairs->items[i].name);
        put_pair(row->key, pairs->items[i].name,
                 row->type == CONFIG_HEADER ? STR("***") : str_from(pairs->items[i].value), d->out);
    }
}

/* Writes a list that is longer than a line: each item continues the line before it. */
static void put_list(const char *key, struct str list, FILE *out)
{
    struct str item;

    fprintf(out, "%s =", key);
    for (const char *before = " "; str_next(&list, ',', &item); before = ",\n    ")
        fprintf(out, "%s%.*s", before, (int)item.n, item.p);
    fputc('\n', out);
}

static void put_row(const struct dump *d, const struct config_row *row, const char *prefix,
                    const void *owner)
{
    struct buf text;

    if (config_row_is_prefix(row)) {
        put_pairs(d, row, config_field(row, owner));
        return;
    }
    put_source(d, prefix, row->key);
    buf_init(&text, CONFIG_VALUE_MAX);
    config_value_text(row, owner, &text);
    if (text.len > WIDTH && config_row_is_list(row))
        put_list(row->key, buf_str(&text), d->out);
    else
        put_pair(prefix, row->key, buf_str(&text), d->out);
    buf_deinit(&text);
}

static void put_rows(const struct dump *d, const void *owner)
{
    for (unsigned i = 0; i < config_row_count; i++) {
        if (!strcmp(config_rows[i].section, d->kind))
            put_row(d, &config_rows[i], "", owner);
    }
}

/* Writes only the values that differ: a route inherits the others from the sections that it
 * overrides. */
static void put_overrides(const struct dump *d, const struct config_route *route)
{
    const struct route_settings *defaults = &d->config->defaults;

    for (unsigned i = 0; i < config_row_count; i++) {
        const struct config_row *row = &config_rows[i];
        char prefix[32];

        if (row->owner != OWNER_SETTINGS || config_value_same(row, &route->settings, defaults))
            continue;
        snprintf(prefix, sizeof prefix, "%s.", row->section);
        put_row(d, row, prefix, &route->settings);
    }
}

static void put_section(struct dump *d, const struct config_section_row *s)
{
    const struct config *c = d->config;

    d->kind = s->name;
    d->name = "";
    if (!strcmp(s->name, "upstream")) {
        for (unsigned i = 0; i < c->upstream_count; i++) {
            d->name = c->upstreams[i].name;
            fprintf(d->out, "\n[upstream %s]\n", d->name);
            put_rows(d, &c->upstreams[i]);
        }
    } else if (!strcmp(s->name, "route")) {
        /* The last one is the catch-all, which every load adds. */
        for (unsigned i = 0; i + 1 < c->route_count; i++) {
            d->name = c->routes[i].name;
            fprintf(d->out, "\n[route %s]\n", d->name);
            put_rows(d, &c->routes[i]);
            put_overrides(d, &c->routes[i]);
        }
    } else {
        fprintf(d->out, "\n[%s]\n", s->name);
        put_rows(d, s->overridable ? (const void *)&c->defaults : c);
    }
}

void config_dump(const struct config *c, bool sources, FILE *out)
{
    struct dump d = {.config = c, .sources = sources, .out = out};

    fprintf(out, "# retryd: the configuration in force%s\n",
            sources ? ". A comment says where the value below it is from; the others are defaults."
                    : "");
    for (unsigned i = 0; i < config_section_count; i++)
        put_section(&d, &config_sections[i]);
}

/* Finds the entry that a variable has set. */
static const struct config_entry *entry_of(const struct config_text *text, unsigned line,
                                           const struct config_section **ret_section)
{
    for (unsigned i = 0; i < text->count; i++)
        for (unsigned k = 0; k < text->sections[i].count; k++)
            if (text->sections[i].entries[k].line == line) {
                *ret_section = &text->sections[i];
                return &text->sections[i].entries[k];
            }
    return NULL;
}

void config_note_variables(const struct config *c, FILE *out)
{
    const struct config_text *text = config_source_text(c);

    for (unsigned i = 0; i < text->variable_count; i++) {
        const struct config_section *s;
        const struct config_entry *e = entry_of(text, CONFIG_LINE_VARIABLES + i, &s);

        if (e)
            fprintf(out, "%s: sets [%s%s%s] %s\n", text->variables[i], s->kind,
                    s->name[0] ? " " : "", s->name, e->key);
    }
}

void config_diff_restart(const struct config *old, const struct config *now, struct buf *out)
{
    const char *comma = "";

    for (unsigned i = 0; i < config_row_count; i++) {
        const struct config_row *row = &config_rows[i];

        if (!row->restart || row->owner != OWNER_CONFIG || config_value_same(row, old, now))
            continue;
        buf_printf(out, "%s%s.%s", comma, row->section, row->key);
        comma = ", ";
    }
}
