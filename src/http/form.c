/* Keeps the value of one field of a form while the form passes by. */
#include "http/form.h"

void form_field_init(struct form_field *w, struct str name)
{
    *w = (struct form_field){.name = name};
}

/* --- a part's headers ------------------------------------------------------------------------- */

/* Cuts the value of a parameter off `*rest`: a token, or quoted text, in which \" stays as it is,
 * because the field's name has none. */
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
            key = str_after(key, 1);
        key = str_trim(key);
        rest = str_trim((struct str){equals + 1, rest.n - (size_t)(equals + 1 - rest.p)});
        value = cut_value(&rest);
        if (str_ieq(key, STR("filename")) || str_ieq(key, STR("filename*")))
            return false;
        named |= str_ieq(key, STR("name")) && str_eq(value, field);
    }
    return named;
}

/* --- lines ------------------------------------------------------------------------------------ */

/* Reads the form's first line: -- and the boundary, and perhaps padding. */
static void first_line(struct form_field *w, struct str line)
{
    line = str_trim(line);
    if (line.n < 3 || line.n > sizeof(w->mark) || !str_starts(line, STR("--"))) {
        w->state = FORM_OVER;
        return;
    }
    memcpy(w->mark, line.p, line.n);
    w->mark_length = line.n;
    w->state = FORM_HEADER;
}

/* Acts on a complete line. */
static void end_line(struct form_field *w)
{
    bool fits = w->line_length <= sizeof(w->line);
    struct str line = {w->line, fits ? (size_t)w->line_length - w->ends_cr : 0};

    switch (w->state) {
    case FORM_START:
        first_line(w, line);
        break;
    case FORM_BOUNDARY: /* only padding may follow; "--" ends the form */
        w->state = fits && str_trim(line).n == w->mark_length ? FORM_HEADER : FORM_OVER;
        break;
    case FORM_HEADER:
        if (line.n > 0) {
            const char *semicolon = memchr(line.p, ';', line.n);
            if (semicolon && str_istarts(line, STR("content-disposition:")))
                w->wanted = names_field(
                    (struct str){semicolon, line.n - (size_t)(semicolon - line.p)}, w->name);
        } else if (fits) {
            w->state = FORM_CONTENT;
            w->begun = w->passed;
            w->kept_length = 0;
        }
        break;
    case FORM_CONTENT:
    case FORM_OVER:
        break;
    }
}

/* Takes more of a line; `whole`: up to its LF. */
static void take(struct form_field *w, struct str text, bool whole)
{
    bool content = w->state == FORM_CONTENT;

    if (text.n > 0)
        w->ends_cr = text.p[text.n - 1] == '\r';
    w->line_length = str_keep(text, w->line, sizeof(w->line), w->line_length);
    if (content && w->wanted)
        w->kept_length = str_keep((struct str){text.p, text.n + whole}, w->kept, sizeof(w->kept),
                                  w->kept_length);
    if (content && w->behind_crlf && w->line_length >= w->mark_length &&
        !memcmp(w->line, w->mark, w->mark_length)) {
        /* A line after CR LF that begins with the mark ends a part. That CR LF is no content. */
        w->state = FORM_BOUNDARY;
        if (w->wanted) {
            w->wanted = false;
            w->found = true;
            w->at = w->begun;
            w->length = w->line_at - 2 - w->begun;
            w->n = w->length < sizeof(w->text) ? (size_t)w->length : sizeof(w->text);
            memcpy(w->text, w->kept, w->n);
        }
    }
    w->passed += text.n + whole;
    if (w->state == FORM_START && w->line_length > sizeof(w->line))
        w->state = FORM_OVER;
    if (!whole)
        return;
    end_line(w);
    w->behind_crlf = w->ends_cr && content;
    w->line_at = w->passed;
    w->line_length = 0;
    w->ends_cr = false;
}

void form_field_feed(struct form_field *w, struct str piece)
{
    if (w->passed == 0 && piece.n > 0 && piece.p[0] != '-')
        w->state = FORM_OVER;
    while (piece.n > 0 && w->state != FORM_OVER) {
        const char *end = memchr(piece.p, '\n', piece.n);
        size_t n = end ? (size_t)(end - piece.p) : piece.n;

        take(w, (struct str){piece.p, n}, end != NULL);
        n += end != NULL;
        piece = str_after(piece, n);
    }
}
