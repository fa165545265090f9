/* Keeps the value of one field of a form while the form passes by. */
#include "http/form_watch.h"

void form_watch_init(struct form_watch *w, struct str name)
{
    *w = (struct form_watch){.name = name};
}

/* --- a part's header ---------------------------------------------------------------------------- */

/* The value of a parameter: a token, or quoted (with \" in it as it stands, which no name that is
 * looked for has). Cuts it off `*rest`. */
static struct str cut_value(struct str *rest)
{
    const char *from = rest->p, *end = rest->p + rest->n, *to;

    if (rest->n > 0 && *from == '"') {
        for (to = ++from; to < end && *to != '"'; to++)
            to += *to == '\\' && to + 1 < end;
        *rest = to < end ? (struct str){to + 1, (size_t)(end - to - 1)} : (struct str){end, 0};
    } else {
        to = rest->n ? memchr(from, ';', rest->n) : NULL;
        to = to ? to : end;
        *rest = (struct str){to, (size_t)(end - to)};
    }
    return str_trim((struct str){from, (size_t)(to - from)});
}

/* Whether a Content-Disposition's parameters name the field, and no file. */
static bool names_field(struct str rest, struct str field)
{
    bool named = false;
    const char *equals;

    while (rest.n > 0 && (equals = memchr(rest.p, '=', rest.n)) != NULL) {
        struct str key = {rest.p, (size_t)(equals - rest.p)}, value;

        while (key.n > 0 && (*key.p == ';' || *key.p == ' ' || *key.p == '\t'))
            key = (struct str){key.p + 1, key.n - 1};
        key = str_trim(key);
        rest = str_trim((struct str){equals + 1, rest.n - (size_t)(equals + 1 - rest.p)});
        value = cut_value(&rest);
        if (str_ieq(key, STR("filename")) || str_ieq(key, STR("filename*")))
            return false;
        named |= str_ieq(key, STR("name")) && str_eq(value, field);
    }
    return named;
}

static void header_line(struct form_watch *w)
{
    static const struct str disposition = {"content-disposition:", 20};
    struct str line = {w->line, w->line_length}, parameters;
    const char *semicolon;

    if (line.n > sizeof(w->line) || !str_istarts(line, disposition))
        return;
    semicolon = memchr(line.p, ';', line.n);
    if (!semicolon)
        return;
    parameters = (struct str){semicolon, line.n - (size_t)(semicolon - line.p)};
    w->wanted = names_field(parameters, w->name);
}

/* --- lines -------------------------------------------------------------------------------------- */

/* The form's first line: -- and the boundary, and perhaps padding. */
static void first_line(struct form_watch *w)
{
    struct str line;

    w->state = FORM_OVER;
    if (w->line_length > sizeof(w->line))
        return;
    line = str_trim((struct str){w->line, w->line_length});
    if (line.n < 3 || line.n > 2 + FORM_BOUNDARY_MAX || !str_starts(line, STR("--")))
        return;
    memcpy(w->mark, "\r\n", 2);
    memcpy(w->mark + 2, line.p, line.n);
    w->mark_length = 2 + line.n;
    w->state = FORM_HEADER;
}

/* What stands behind a boundary: nothing but padding; or -- at the end of the form. */
static void boundary_line(struct form_watch *w)
{
    struct str line = {w->line, w->line_length};

    w->state = line.n <= sizeof(w->line) && str_trim(line).n == 0 ? FORM_HEADER : FORM_OVER;
    w->wanted = false;
}

/* The line, without its end, is complete; the next byte is the one at `offset`. */
static void line_done(struct form_watch *w, uint64_t offset)
{
    if (w->state == FORM_START) {
        first_line(w);
    } else if (w->state == FORM_BEHIND_BOUNDARY) {
        boundary_line(w);
    } else if (w->line_length > 0) {
        header_line(w);
    } else {
        w->state = FORM_CONTENT;
        w->begun = offset;
        w->kept_length = w->mark_matched = 0;
    }
    w->line_length = 0;
}

/* Takes bytes up to the end of the line, or all; how many. */
static size_t take_line(struct form_watch *w, struct str piece, uint64_t offset)
{
    const char *end = memchr(piece.p, '\n', piece.n);
    size_t n = end ? (size_t)(end - piece.p) : piece.n;
    size_t room = w->line_length < sizeof(w->line) ? sizeof(w->line) - w->line_length : 0;

    memcpy(w->line + (sizeof(w->line) - room), piece.p, n < room ? n : room);
    w->line_length += n;
    if (!end) {
        if (w->state == FORM_START && w->line_length > sizeof(w->line))
            w->state = FORM_OVER;
        return n;
    }
    if (w->line_length <= sizeof(w->line) && w->line_length > 0 &&
        w->line[w->line_length - 1] == '\r')
        w->line_length--;
    line_done(w, offset + n + 1);
    return n + 1;
}

/* --- content ------------------------------------------------------------------------------------ */

static void keep(struct form_watch *w, const char *from, size_t n)
{
    size_t room = sizeof(w->kept) - w->kept_length;

    if (!w->wanted || n == 0)
        return;
    n = n < room ? n : room;
    memcpy(w->kept + w->kept_length, from, n);
    w->kept_length += n;
}

/* A part ends behind the byte before `offset`, its boundary included. */
static void part_done(struct form_watch *w, uint64_t offset)
{
    w->state = FORM_BEHIND_BOUNDARY;
    if (!w->wanted)
        return;
    w->found = true;
    w->at = w->begun;
    w->length = offset - w->mark_length - w->begun;
    memcpy(w->text, w->kept, w->kept_length);
    w->n = w->kept_length;
}

/* Takes content up to the end of the part, or all; how many bytes. The mark has one CR, its first
 * byte: where it does not go on, none can have begun within what matched. */
static size_t take_content(struct form_watch *w, struct str piece, uint64_t offset)
{
    const char *p = piece.p, *end = piece.p + piece.n;

    while (p < end) {
        if (w->mark_matched == 0) {
            const char *cr = memchr(p, '\r', (size_t)(end - p)), *to = cr ? cr : end;

            keep(w, p, (size_t)(to - p));
            p = cr ? cr + 1 : end;
            w->mark_matched = cr ? 1 : 0;
        } else if (*p == w->mark[w->mark_matched]) {
            p++;
            if (++w->mark_matched == w->mark_length) {
                part_done(w, offset + (uint64_t)(p - piece.p));
                break;
            }
        } else {
            keep(w, w->mark, w->mark_matched);
            w->mark_matched = 0;
        }
    }
    return (size_t)(p - piece.p);
}

void form_watch_feed(struct form_watch *w, struct str piece)
{
    if (w->state == FORM_START && w->passed == 0 && piece.n > 0 && piece.p[0] != '-')
        w->state = FORM_OVER;
    while (piece.n > 0 && w->state != FORM_OVER) {
        size_t n = w->state == FORM_CONTENT ? take_content(w, piece, w->passed)
                                            : take_line(w, piece, w->passed);

        w->passed += n;
        piece = (struct str){piece.p + n, piece.n - n};
    }
}
