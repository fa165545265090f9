/* Collects problems and notes while a configuration is read, and hands them over by line. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/config_table.h"

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
