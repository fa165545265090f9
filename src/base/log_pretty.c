/* The log for a person at a terminal. */
#include "base/log.h"

#include <string.h>

#include "base/buf.h"

#define FIELDS_MAX 48
#define PATH_WIDTH 30
#define MODEL_WIDTH 20
#define ID_SHOWN 8 /* enough for `retryd explain` */

enum colour { PLAIN, DIM, RED, GREEN, YELLOW };

struct field {
    struct str key, value; /* without quotes */
};

struct fields {
    struct field items[FIELDS_MAX];
    unsigned count;
};

/* --- reading ---------------------------------------------------------------------------------- */

/* Returns the length of a value: up to the next space, or to the quote that ends it. */
static size_t value_length(struct str s)
{
    size_t n = 0;

    if (s.n == 0 || s.p[0] != '"') {
        while (n < s.n && s.p[n] != ' ' && s.p[n] != '\n')
            n++;
        return n;
    }
    for (n = 1; n < s.n && s.p[n] != '"'; n++)
        if (s.p[n] == '\\' && n + 1 < s.n)
            n++;
    return n < s.n ? n + 1 : s.n;
}

static void read_fields(struct str line, struct fields *ret)
{
    ret->count = 0;
    while (line.n > 0 && ret->count < FIELDS_MAX) {
        const char *equals = memchr(line.p, '=', line.n);
        struct field *f = &ret->items[ret->count];
        size_t n;

        if (!equals)
            return;
        f->key = str_trim((struct str){line.p, (size_t)(equals - line.p)});
        line = (struct str){equals + 1, line.n - (size_t)(equals + 1 - line.p)};
        n = value_length(line);
        f->value = (struct str){line.p, n};
        if (n >= 2 && line.p[0] == '"' && line.p[n - 1] == '"')
            f->value = (struct str){line.p + 1, n - 2};
        line = str_after(line, n);
        ret->count++;
    }
}

static struct str get(const struct fields *f, const char *key)
{
    for (unsigned i = 0; i < f->count; i++)
        if (str_eq(f->items[i].key, str_from(key)))
            return f->items[i].value;
    return STR("");
}

static uint64_t number(const struct fields *f, const char *key)
{
    uint64_t n = 0;

    (void)str_to_u64(get(f, key), &n);
    return n;
}

/* --- writing ---------------------------------------------------------------------------------- */

static void paint(struct buf *out, bool colours, enum colour c)
{
    static const char *const codes[] = {"\033[0m", "\033[2m", "\033[31m", "\033[32m", "\033[33m"};

    if (colours)
        buf_printf(out, "%s", codes[c]);
}

static void put_text(struct buf *out, struct str s, int width)
{
    buf_printf(out, "%-*.*s", width, (int)s.n, s.p);
}

static enum colour colour_of(const struct fields *f)
{
    struct str level = get(f, "level");

    if (str_eq(level, STR("error")))
        return RED;
    if (str_eq(level, STR("warn")) || str_starts(get(f, "msg"), STR("attempt ")))
        return YELLOW;
    return str_eq(level, STR("debug")) ? DIM : PLAIN;
}

static void put_id(const struct fields *f, struct buf *out)
{
    struct str id = get(f, "id");

    if (id.n > 0)
        buf_printf(out, "  id=%.*s", (int)(id.n < ID_SHOWN ? id.n : ID_SHOWN), id.p);
}

static void put_request(const struct fields *f, bool colours, struct buf *out)
{
    struct str end = get(f, "end");
    bool answered = str_eq(end, STR("answered"));
    uint64_t attempts = number(f, "attempts"), wait_ms = number(f, "wait_ms");

    paint(out, colours, !answered ? RED : attempts > 1 ? YELLOW : GREEN);
    put_text(out, get(f, "status"), 3);
    paint(out, colours, PLAIN);
    buf_printf(out, " %.*s ", (int)get(f, "method").n, get(f, "method").p);
    put_text(out, get(f, "path"), PATH_WIDTH);
    buf_addc(out, ' ');
    put_text(out, get(f, "model"), MODEL_WIDTH);
    buf_printf(out, " %7.1f s", (double)number(f, "duration_ms") / 1000);
    if (attempts > 1 || wait_ms > 0)
        paint(out, colours, YELLOW);
    if (attempts > 1)
        buf_printf(out, "  %u attempts", (unsigned)attempts);
    if (wait_ms > 0)
        buf_printf(out, "%s waited %.1f s", attempts > 1 ? "," : " ", (double)wait_ms / 1000);
    if (!answered) {
        paint(out, colours, RED);
        buf_printf(out, "  %.*s %.*s", (int)end.n, end.p, (int)get(f, "reason").n,
                   get(f, "reason").p);
    }
    paint(out, colours, DIM);
    buf_printf(out, "  %.*s", (int)get(f, "target").n, get(f, "target").p);
    put_id(f, out);
}

/* Whether the field is already shown, or is for machines only. */
static bool is_shown(const struct fields *f, struct str key)
{
    static const struct str known[] = {STR("ts"), STR("level"), STR("msg")};
    static const struct str told[] = {STR("attempt"), STR("status"),      STR("reason"),
                                      STR("wait_ms"), STR("duration_ms"), STR("upstream_id"),
                                      STR("hint_ms"), STR("id")};
    bool attempt = str_starts(get(f, "msg"), STR("attempt "));

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (str_eq(key, known[i]))
            return true;
    for (size_t i = 0; attempt && i < sizeof(told) / sizeof(told[0]); i++)
        if (str_eq(key, told[i]))
            return true;
    return false;
}

static void put_other(const struct fields *f, bool colours, struct buf *out)
{
    struct str msg = get(f, "msg");

    if (str_starts(msg, STR("attempt ")))
        buf_printf(out, "    "); /* after the status of requests */
    paint(out, colours, colour_of(f));
    put_text(out, msg, 0);
    paint(out, colours, DIM);
    for (unsigned i = 0; i < f->count; i++)
        if (!is_shown(f, f->items[i].key))
            buf_printf(out, "  %.*s=%.*s", (int)f->items[i].key.n, f->items[i].key.p,
                       (int)f->items[i].value.n, f->items[i].value.p);
    if (str_starts(msg, STR("attempt ")))
        put_id(f, out);
}

void log_pretty(const char *stamp, struct str line, bool colours, struct buf *out)
{
    struct fields f;

    read_fields(line, &f);
    paint(out, colours, DIM);
    buf_printf(out, "%s ", stamp);
    paint(out, colours, PLAIN);
    if (str_eq(get(&f, "msg"), STR("request")))
        put_request(&f, colours, out);
    else
        put_other(&f, colours, out);
    paint(out, colours, PLAIN);
    buf_addc(out, '\n');
}
