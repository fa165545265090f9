/* What a user is told of the configuration: problems and notes while it is read, the snapshot as a file
 * again, the reference of all keys, what a reload cannot change. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/config_private.h"

#define LINES_MAX 100 /* beyond them only the number is told */
#define TEXT_MAX 2048

void config_report_init(struct config_report *r, const char *path)
{
    *r = (struct config_report){.path = path};
}

static void lines_deinit(struct config_lines *lines)
{
    for (unsigned i = 0; i < lines->count; i++)
        free(lines->items[i].text);
    free(lines->items);
    *lines = (struct config_lines){0};
}

void config_report_deinit(struct config_report *r)
{
    lines_deinit(&r->problems);
    lines_deinit(&r->notes);
}

static struct config_line *lines_grow(struct config_lines *lines)
{
    if (lines->count == lines->size) {
        unsigned size = lines->size ? lines->size * 2 : 8;
        struct config_line *items = realloc(lines->items, size * sizeof *items);

        if (!items)
            return NULL;
        lines->items = items;
        lines->size = size;
    }
    return &lines->items[lines->count];
}

__attribute__((format(printf, 4, 0))) static void lines_add(struct config_report *r,
                                                            struct config_lines *lines,
                                                            unsigned line, const char *fmt,
                                                            va_list args)
{
    char text[TEXT_MAX];
    struct config_line *slot;
    int n;

    if (lines->total++ >= LINES_MAX)
        return;
    n = vsnprintf(text, sizeof text, fmt, args);
    slot = lines_grow(lines);
    if (n < 0 || !slot) {
        config_no_memory(r);
        return;
    }
    *slot = (struct config_line){.line = line, .order = lines->count, .text = strdup(text)};
    if (!slot->text)
        config_no_memory(r);
    else
        lines->count++;
}

void config_problem(struct config_report *r, enum config_fault fault, unsigned line,
                    const char *fmt, ...)
{
    va_list args;

    r->faults[fault] = true;
    va_start(args, fmt);
    lines_add(r, &r->problems, line, fmt, args);
    va_end(args);
}

void config_note(struct config_report *r, unsigned line, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    lines_add(r, &r->notes, line, fmt, args);
    va_end(args);
}

void config_no_memory(struct config_report *r)
{
    r->faults[FAULT_MEMORY] = true;
}

bool config_report_bad(const struct config_report *r)
{
    for (unsigned i = 0; i < FAULT_COUNT; i++) {
        if (r->faults[i])
            return true;
    }
    return false;
}

static int by_line(const void *a, const void *b)
{
    const struct config_line *x = a, *y = b;

    if (x->line != y->line)
        return x->line < y->line ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

static void lines_write(const struct config_report *r, struct config_lines *lines, struct buf *out,
                        const char *what)
{
    const char *path = r->path ? r->path : "defaults";

    if (lines->count > 1)
        qsort(lines->items, lines->count, sizeof *lines->items, by_line);
    for (unsigned i = 0; i < lines->count; i++) {
        if (lines->items[i].line)
            buf_printf(out, "%s:%u: %s\n", path, lines->items[i].line, lines->items[i].text);
        else
            buf_printf(out, "%s: %s\n", path, lines->items[i].text);
    }
    if (lines->total > LINES_MAX)
        buf_printf(out, "%s: and %u more %s\n", path, lines->total - LINES_MAX, what);
}

void config_report_write(struct config_report *r, struct buf *problems, struct buf *notes)
{
    if (problems && config_report_bad(r)) {
        if (r->faults[FAULT_MEMORY])
            buf_printf(problems, "%s: out of memory\n", r->path ? r->path : "defaults");
        lines_write(r, &r->problems, problems, "problems");
    }
    if (notes)
        lines_write(r, &r->notes, notes, "notes");
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

/* Long, and of the letters that keys are made of: or with the mark that OpenAI's keys carry. */
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

const char *config_quote(struct str text, char out[CONFIG_QUOTED_MAX])
{
    static const char hex[] = "0123456789abcdef";
    size_t n = 0;

    if (looks_secret(text))
        return "(not shown: it looks like a key)";
    out[n++] = '"';
    for (size_t i = 0; i < text.n; i++) {
        unsigned char c = (unsigned char)text.p[i];

        if (n > CONFIG_QUOTED_MAX - 12) {
            memcpy(out + n, "...", 3);
            n += 3;
            break;
        }
        if (c >= 0x20 && c < 0x7f) {
            out[n++] = (char)c;
        } else {
            out[n++] = '\\';
            out[n++] = 'x';
            out[n++] = hex[c >> 4];
            out[n++] = hex[c & 15];
        }
    }
    out[n++] = '"';
    out[n] = '\0';
    return out;
}

#define VALUE_MAX (1024 * 1024)
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
    buf_init(&out, VALUE_MAX);
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
    buf_init(&text, VALUE_MAX);
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
        buf_init(&own, VALUE_MAX);
        buf_init(&global, VALUE_MAX);
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
    buf_init(&text, VALUE_MAX);
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
        buf_init(&was, VALUE_MAX);
        buf_init(&is, VALUE_MAX);
        config_value_text(row, config_field_const(row, old), &was);
        config_value_text(row, config_field_const(row, now), &is);
        if (!str_eq(buf_str(&was), buf_str(&is)))
            buf_printf(out, "%s%s.%s", out->len > start ? ", " : "", row->section, row->key);
        buf_deinit(&was);
        buf_deinit(&is);
    }
}
