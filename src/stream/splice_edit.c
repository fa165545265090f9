/* Rewrites an event: spans of its data are replaced, all other bytes stay as they are. */
#include <assert.h>

#include "stream/splice_private.h"

/* --- what to change --------------------------------------------------------------------------- */

static struct splice_edit *add_edit(struct splice *s, const char *p, size_t n)
{
    void *array = s->edits;

    if (!splice_grow(s, &array, &s->edits_size, s->n_edits, sizeof *s->edits))
        return NULL;
    s->edits = array;
    struct splice_edit *edit = &s->edits[s->n_edits++];
    *edit = (struct splice_edit){.p = p, .n = n};
    return edit;
}

static void replace(struct splice *s, struct str span, struct str with)
{
    struct splice_edit *edit = add_edit(s, span.p, span.n);

    if (edit)
        edit->with = with;
}

/* All of a value, by what is a value as well. */
static void replace_value(struct splice *s, struct json_value value, struct str with)
{
    if (value.type != JSON_NONE)
        replace(s, splice_form(value), with);
}

static void put_hex4(unsigned unit, char to[4])
{
    for (unsigned i = 0; i < 4; i++)
        to[i] = "0123456789abcdef"[unit >> (12 - 4 * i) & 15];
}

/* What the client has is cut off the front of the text. */
static void cut_text(struct splice *s, const struct splice_piece *piece)
{
    struct str text = piece->value.text;
    struct splice_edit *edit = add_edit(s, text.p, text.n - piece->rest.n);

    if (!edit || !piece->half)
        return;
    memcpy(edit->own, "\\u", 2);
    put_hex4(piece->half, edit->own + 2);
    edit->own_n = 6;
}

/* A client adds up what it gets, so what it has once it must not get again, unless this provider
 * sends it all the time. */
static void edit_once(struct splice *s, const struct splice_piece *piece)
{
    if (piece->part->delivered > 1)
        replace_value(s, piece->value, buf_str(&piece->part->text));
    else
        replace_value(s, piece->value, STR("null"));
}

static bool text_was_cut(const struct splice *s, uint32_t group)
{
    for (size_t i = 0; i < s->n_pieces; i++)
        if (s->pieces[i].kind == SPLICE_TEXT && s->pieces[i].group == group && s->pieces[i].repeat)
            return true;
    return false;
}

static void edit_piece(struct splice *s, const struct splice_piece *piece)
{
    switch (piece->kind) {
    case SPLICE_TEXT:
        if (piece->repeat)
            cut_text(s, piece);
        break;
    case SPLICE_ONCE:
        if (piece->repeat)
            edit_once(s, piece);
        break;
    case SPLICE_NAME:
        if (piece->part->delivered &&
            !str_eq(splice_form(piece->value), buf_str(&piece->part->text)))
            replace_value(s, piece->value, buf_str(&piece->part->text));
        break;
    case SPLICE_MARK:
    case SPLICE_CLOSE:
        if (piece->repeat)
            replace_value(s, piece->value, STR("null"));
        break;
    case SPLICE_LOGPROBS:
        if (text_was_cut(s, piece->group))
            replace_value(s, piece->value,
                          piece->value.type == JSON_ARRAY ? STR("[]") : STR("null"));
        break;
    case SPLICE_TYPE:
    case SPLICE_WHOLE:
        break;
    }
}

static void edit_sequence(struct splice *s)
{
    char space[STR_DECIMAL_MAX];

    if (s->sequence_value.type == JSON_NONE || !s->has_sequence)
        return;
    struct str number = str_decimal(s->sequence + 1, space), was = splice_form(s->sequence_value);
    if (str_eq(number, was))
        return;
    struct splice_edit *edit = add_edit(s, was.p, was.n);
    if (!edit)
        return;
    memcpy(edit->own, number.p, number.n);
    edit->own_n = (unsigned char)number.n;
}

/* By position. They come nearly so. */
static void sort_edits(struct splice *s)
{
    for (size_t i = 1; i < s->n_edits; i++) {
        struct splice_edit edit = s->edits[i];
        size_t at = i;
        for (; at > 0 && s->edits[at - 1].p > edit.p; at--)
            s->edits[at] = s->edits[at - 1];
        s->edits[at] = edit;
    }
}

bool splice_edits(struct splice *s)
{
    s->n_edits = 0;
    for (size_t i = 0; i < s->n_pieces; i++)
        edit_piece(s, &s->pieces[i]);
    edit_sequence(s);
    sort_edits(s);
    return !s->failed;
}

/* --- writing ---------------------------------------------------------------------------------- */

/* Where lines were joined the newlines between them stand where JSON has white space. */
static void add_span(struct buf *out, struct str span, bool joined)
{
    size_t start = out->len;

    if (buf_add_str(out, span) < 0 || !joined)
        return;
    for (size_t i = start; i < out->len; i++)
        if (out->p[i] == '\n' || out->p[i] == '\r')
            out->p[i] = ' ';
}

static void add_data(const struct splice *s, struct str data, bool joined, struct buf *out)
{
    const char *p = data.p;

    for (size_t i = 0; i < s->n_edits; i++) {
        const struct splice_edit *edit = &s->edits[i];
        assert(edit->p >= p); /* each value is looked at once, so no two spans overlap */
        add_span(out, (struct str){p, (size_t)(edit->p - p)}, joined);
        (void)buf_add_str(out, edit->own_n ? (struct str){edit->own, edit->own_n} : edit->with);
        p = edit->p + edit->n;
    }
    add_span(out, (struct str){p, data.n - (size_t)(p - data.p)}, joined);
}

/* Cuts a line off, with its end: LF, CR or both. */
static struct str next_line(struct str *rest)
{
    size_t n = 0;

    while (n < rest->n && rest->p[n] != '\n' && rest->p[n] != '\r')
        n++;
    if (n < rest->n)
        n += rest->p[n] == '\r' && n + 1 < rest->n && rest->p[n + 1] == '\n' ? 2 : 1;
    struct str line = {rest->p, n};
    *rest = (struct str){rest->p + n, rest->n - n};
    return line;
}

static bool is_data_line(struct str line)
{
    return str_starts(line, STR("data")) &&
           (line.n == 4 || line.p[4] == ':' || line.p[4] == '\n' || line.p[4] == '\r');
}

/* The data lines become one, where the first of them stands. */
static void write_joined(const struct splice *s, struct str event, struct str data, struct buf *out)
{
    bool done = false;

    while (event.n > 0) {
        struct str line = next_line(&event);
        if (!is_data_line(line)) {
            (void)buf_add_str(out, line);
        } else if (!done) {
            (void)buf_add_str(out, STR("data: "));
            add_data(s, data, true, out);
            (void)buf_addc(out, '\n');
            done = true;
        }
    }
}

bool splice_write(struct splice *s, struct str event, struct str data, struct buf *out)
{
    uintptr_t at = (uintptr_t)data.p, from = (uintptr_t)event.p;

    buf_reset(out, out->size);
    if (at < from || at + data.n > from + event.n) {
        write_joined(s, event, data, out);
        return !out->failed;
    }
    size_t before = (size_t)(data.p - event.p);
    (void)buf_add(out, event.p, before);
    add_data(s, data, false, out);
    (void)buf_add(out, data.p + data.n, event.n - before - data.n);
    return !out->failed;
}
