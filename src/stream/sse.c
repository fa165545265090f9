/* Finds events with a state machine over line ends, and reads their fields. */
#include "stream/sse.h"

#include "base/bytes16.h"

/* The meaning of the next byte. */
enum state {
    BOM_1, /* the stream's first byte, perhaps of a byte order mark */
    BOM_2,
    BOM_3,
    LINE_START,   /* a line end here closes the event */
    IN_LINE,      /* a line end here ends a line */
    AFTER_CR,     /* as LINE_START, but an LF belongs to the line end before */
    AFTER_END_CR, /* the same, but that line end closed the last event */
};

static const struct str mark = {"\xef\xbb\xbf", 3};

static struct str without_mark(struct str event)
{
    return str_starts(event, mark) ? str_after(event, mark.n) : event;
}

enum sse_begin sse_begins(struct str text)
{
    static const struct str names[] = {
        {"data:", 5}, {"event:", 6}, {"id:", 3}, {"retry:", 6}, {":", 1}};
    bool open = false;

    if (text.n < mark.n && str_starts(mark, text))
        return SSE_BEGIN_OPEN;
    text = without_mark(text);
    while (text.n > 0 && (text.p[0] == '\n' || text.p[0] == '\r'))
        text = str_after(text, 1);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (str_starts(text, names[i]))
            return SSE_BEGIN_YES;
        open |= str_starts(names[i], text);
    }
    return open ? SSE_BEGIN_OPEN : SSE_BEGIN_NO;
}

void sse_init(struct sse_reader *r)
{
    *r = (struct sse_reader){.state = BOM_1};
}

static bytes16 line_ends(const char *p)
{
    bytes16 b = bytes16_load(p);

    return bytes16_are(b, '\n') | bytes16_are(b, '\r');
}

/* Returns the position of the first line end at or after `from`, or the length of the text. */
static size_t find_line_end(struct str s, size_t from)
{
    const char *p = s.p + from, *end = s.p + s.n;
    unsigned ends;

    while (end - p >= 32 && bytes16_bits(line_ends(p) | line_ends(p + 16)) == 0)
        p += 32;
    for (; end - p >= 16; p += 16)
        if ((ends = bytes16_bits(line_ends(p))) != 0)
            return (size_t)(p - s.p) + (unsigned)__builtin_ctz(ends);
    while (p < end && *p != '\n' && *p != '\r')
        p++;
    return (size_t)(p - s.p);
}

/* Takes a byte that neither ends an event nor is within a line. */
static enum state step(enum state state, char c)
{
    if (state == BOM_1 && c == '\xef')
        return BOM_2;
    if (state == BOM_2 && c == '\xbb')
        return BOM_3;
    if (state == BOM_3 && c == '\xbf')
        return LINE_START;
    return IN_LINE;
}

/* The event ends with the line end at `i`. An LF after a CR belongs to it if it is already
 * there. */
static size_t end_event(struct sse_reader *r, struct str s, size_t i)
{
    size_t len = i + 1;

    r->state = LINE_START;
    r->scanned = 0;
    if (s.p[i] == '\r') {
        if (len == s.n)
            r->state = AFTER_END_CR;
        else if (s.p[len] == '\n')
            len++;
    }
    return len;
}

size_t sse_next(struct sse_reader *r, struct str pending)
{
    enum state state = (enum state)r->state;
    size_t i = r->scanned;

    while (i < pending.n) {
        char c = pending.p[i];
        bool line_end = c == '\n' || c == '\r';

        if (state == AFTER_END_CR && c == '\n')
            return end_event(r, pending, i); /* the rest of that line end */
        if (state == AFTER_CR && c == '\n') {
            state = LINE_START;
            i++;
        } else if (state == IN_LINE || ((state == BOM_2 || state == BOM_3) && line_end)) {
            i = find_line_end(pending, i);
            if (i < pending.n)
                state = pending.p[i++] == '\r' ? AFTER_CR : LINE_START;
            else
                state = IN_LINE;
        } else if (line_end) {
            return end_event(r, pending, i);
        } else {
            state = step(state, c);
            i++;
        }
    }
    r->state = (unsigned char)state;
    r->scanned = i;
    return 0;
}

/* Cuts the first line off, without its end. Returns false if nothing is left. CRLF counts as two
 * ends; the empty line between them is skipped like any other. */
static bool next_line(struct str *rest, struct str *ret_line)
{
    if (rest->n == 0)
        return false;

    size_t n = find_line_end(*rest, 0);
    size_t used = n < rest->n ? n + 1 : n;
    *ret_line = (struct str){rest->p, n};
    *rest = str_after(*rest, used);
    return true;
}

/* Cuts off the next field, skipping comments and blank lines. Returns false if there is none. */
static bool next_field(struct str *rest, struct str *ret_name, struct str *ret_value)
{
    struct str line;

    while (next_line(rest, &line)) {
        if (line.n == 0 || line.p[0] == ':')
            continue;
        /* Splits "name: value". One space after the colon does not belong to the value. Without a
         * colon the value is empty. */
        const char *colon = memchr(line.p, ':', line.n);
        struct str name = {line.p, colon ? (size_t)(colon - line.p) : line.n};
        size_t used = colon ? name.n + 1 : name.n;
        line = str_after(line, used);
        if (line.n > 0 && line.p[0] == ' ')
            line = str_after(line, 1);
        *ret_name = name;
        *ret_value = line;
        return true;
    }
    return false;
}

void sse_parse(struct str event, struct sse_event *ret_event)
{
    struct sse_event e = {.comment_only = true};
    struct str name, value;

    event = without_mark(event);
    while (next_field(&event, &name, &value)) {
        e.comment_only = false;
        if (str_eq(name, STR("data"))) {
            if (e.data_lines++ == 0)
                e.data = value;
        } else if (str_eq(name, STR("event"))) {
            e.type = value;
        } else if (str_eq(name, STR("error"))) {
            e.error_field = value;
        } else if (str_eq(name, STR("id"))) {
            e.has_id = true;
        } else if (str_eq(name, STR("retry"))) {
            e.has_retry = true;
        }
    }
    *ret_event = e;
}

int sse_join(struct str event, struct buf *out)
{
    struct str name, value;
    bool first = true;
    int r = 0;

    event = without_mark(event);
    while (r == 0 && next_field(&event, &name, &value)) {
        if (!str_eq(name, STR("data")))
            continue;
        if (!first)
            r = buf_addc(out, '\n');
        if (r == 0)
            r = buf_add_str(out, value);
        first = false;
    }
    return r;
}
