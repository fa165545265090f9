/* Judges each event of a new response against what the client has, and remembers what goes out.
 *
 * Judging changes only what belongs to the attempt (`matched`, `seen`). The record of what the
 * client has changes only once the event is sure to go out, so a response that differs spoils
 * nothing. */
#include "stream/splice.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/escape.h"
#include "http/json.h"
#include "stream/splice_private.h"

/* A span of the event's data, and its replacement: `own` if `own_n` is set, else `with`. */
struct splice_edit {
    struct str span;
    struct str with;
    char own[24];
    unsigned char own_n;
};

/* --- the table of parts ----------------------------------------------------------------------- */

/* The name is left out: comparing it is as cheap as hashing it, and few parts share the rest. */
static uint32_t hash_of(struct splice_key key)
{
    uint32_t h = (uint32_t)key.kind;

    for (size_t i = 0; i < 3; i++)
        h = h * 0x9e3779b1u + key.at[i];
    return h * 0x9e3779b1u + (uint32_t)key.name.n;
}

static bool same_key(const struct splice_key *a, const struct splice_key *b)
{
    return a->kind == b->kind && memcmp(a->at, b->at, sizeof a->at) == 0 &&
           str_eq(a->name, b->name);
}

struct splice_part *splice_find(struct splice *s, struct splice_key key)
{
    if (s->last && same_key(&s->last->key, &key))
        return s->last;

    uint32_t hash = hash_of(key);
    for (size_t i = 0; i < s->n_parts; i++) {
        struct splice_part *part = s->parts[i].part;
        if (s->parts[i].hash != hash || !same_key(&part->key, &key))
            continue;
        if (key.kind == SPLICE_TEXT)
            s->last = part;
        return part;
    }
    return NULL;
}

bool splice_grow(struct splice *s, void **array, size_t *size, size_t n, size_t element)
{
    if (n < *size)
        return true;

    size_t larger = *size ? *size * 2 : 16;
    void *p = realloc(*array, larger * element);
    if (!p) {
        s->failed = true;
        return false;
    }
    *array = p;
    *size = larger;
    return true;
}

static struct splice_part *part_new(struct splice_key key, size_t cap)
{
    struct splice_part *part = malloc(sizeof *part + key.name.n);

    if (!part)
        return NULL;
    *part = (struct splice_part){.key = key};
    if (key.name.n > 0)
        memcpy(part->name, key.name.p, key.name.n);
    part->key.name.p = part->name;
    buf_init(&part->text, cap);
    return part;
}

struct splice_part *splice_part(struct splice *s, struct splice_key key)
{
    struct splice_part *part = splice_find(s, key);
    void *array = s->parts;

    if (part)
        return part;
    if (s->n_parts == SPLICE_PARTS_MAX)
        goto failed;
    if (!splice_grow(s, &array, &s->parts_size, s->n_parts, sizeof *s->parts))
        return NULL;
    s->parts = array;
    part = part_new(key, s->cap);
    if (!part)
        goto failed;
    s->parts[s->n_parts++] = (struct splice_slot){hash_of(key), part};
    return part;

failed:
    s->failed = true;
    return NULL;
}

/* --- text ------------------------------------------------------------------------------------- */

/* Text is compared without its escapes, so that it does not matter how a response spells it.
 *
 * The form is UTF-8 of UTF-16 units: a character beyond the basic plane becomes the two halves of
 * its surrogate pair, three bytes each (CESU-8, Unicode TR 26). A pair whose halves arrive in two
 * events ("\ud83d", then "\ude00") thus equals the character in one. Bytes that are not UTF-8 stand
 * for themselves. */

#define UNITS_MAX 6 /* bytes of one character in this form */

/* Returns how many of the first `limit` bytes stand for themselves. */
static size_t plain_run(struct str raw, size_t limit)
{
    size_t n = 0;

    if (limit > raw.n)
        limit = raw.n;
    while (n < limit && raw.p[n] != '\\' && (unsigned char)raw.p[n] < 0xf0)
        n++;
    return n;
}

/* An escape that JSON does not have means its own letter. */
static size_t take_escape(struct str *raw, char out[UNITS_MAX])
{
    static const char letters[] = "bfnrt", meanings[] = "\b\f\n\r\t";

    if (raw->n < 2) {
        out[0] = '\\';
        *raw = str_after(*raw, 1);
        return 1;
    }
    if (raw->p[1] == 'u') {
        unsigned unit = escape_hex4(str_after(*raw, 2));
        if (unit <= 0xffff) {
            *raw = str_after(*raw, 6);
            return str_put_utf8(unit, out);
        }
    }
    const char *letter = memchr(letters, raw->p[1], sizeof letters - 1);
    out[0] = letter ? meanings[letter - letters] : raw->p[1];
    *raw = str_after(*raw, 2);
    return 1;
}

/* Takes a character of four bytes as the halves of its pair, or else one byte as it is. */
static size_t take_wide(struct str *raw, char out[UNITS_MAX])
{
    const unsigned char *p = (const unsigned char *)raw->p;

    if (str_utf8(*raw) != 4) {
        out[0] = raw->p[0];
        *raw = str_after(*raw, 1);
        return 1;
    }
    unsigned c = (p[0] & 7u) << 18 | (p[1] & 63u) << 12 | (p[2] & 63u) << 6 | (p[3] & 63u);
    c -= 0x10000;
    *raw = str_after(*raw, 4);
    size_t n = str_put_utf8(0xd800 + (c >> 10), out);
    return n + str_put_utf8(0xdc00 + (c & 0x3ff), out + n);
}

/* Takes one character that does not stand for itself. */
static size_t take_char(struct str *raw, char out[UNITS_MAX])
{
    return raw->p[0] == '\\' ? take_escape(raw, out) : take_wide(raw, out);
}

bool splice_text_match(struct str have, size_t *at, struct str *raw, unsigned *ret_half)
{
    *ret_half = 0;
    while (raw->n > 0 && *at < have.n) {
        char units[UNITS_MAX];
        size_t left = have.n - *at, n = plain_run(*raw, left);
        const char *p = raw->p;
        if (n > 0) {
            *raw = str_after(*raw, n);
        } else {
            n = take_char(raw, units);
            p = units;
            if (n > left) {
                if (n != UNITS_MAX || left != UNITS_MAX / 2)
                    return false;
                n = left;
                const unsigned char *from = (const unsigned char *)(units + n);
                *ret_half = (from[0] & 15u) << 12 | (from[1] & 63u) << 6 | (from[2] & 63u);
            }
        }
        if (memcmp(have.p + *at, p, n) != 0)
            return false;
        *at += n;
    }
    return true;
}

/* --- judging ---------------------------------------------------------------------------------- */

static bool known_before(const struct splice *s, const struct splice_part *part)
{
    return part->delivered > 0 && part->born < s->attempt;
}

static bool same_value(const struct splice_piece *piece)
{
    return str_eq(splice_form(piece->value), buf_str(&piece->part->text));
}

static bool judge_text(struct splice_piece *piece)
{
    struct splice_part *part = piece->part;

    piece->rest = piece->value.text;
    piece->half = 0;
    if (part->matched < part->text.len &&
        !splice_text_match(buf_str(&part->text), &part->matched, &piece->rest, &piece->half))
        return false;
    piece->repeat = piece->rest.p != piece->value.text.p;
    piece->news = piece->rest.n > 0 || piece->half;
    return true;
}

/* The event that ends a channel repeats the text of its deltas. This is checked only if an earlier
 * response had the channel: an upstream may sum up its own response as it likes. */
static bool judge_whole(const struct splice *s, const struct splice_piece *piece)
{
    struct splice_part *part = piece->part;
    struct str rest = piece->value.text;
    unsigned half;

    if (!known_before(s, part) || part->partial)
        return true;
    if (piece->value.type != JSON_STRING)
        return false;
    part->matched = 0;
    part->summed = s->attempt;
    return splice_text_match(buf_str(&part->text), &part->matched, &rest, &half) && rest.n == 0 &&
           !half && part->matched == part->text.len;
}

/* Returns false if the piece cannot belong to the response that the client has. */
static bool judge_piece(const struct splice *s, struct splice_piece *piece)
{
    struct splice_part *part = piece->part;

    switch (piece->kind) {
    case SPLICE_TEXT:
        return judge_text(piece);
    case SPLICE_ONCE:
        piece->news = part->delivered == 0;
        piece->repeat = known_before(s, part);
        /* Two values in one response are two things that cannot be distinguished. */
        return piece->news || piece->repeat || same_value(piece);
    case SPLICE_TYPE:
        return !known_before(s, part) || same_value(piece);
    case SPLICE_MARK:
        piece->news = ++part->seen > part->delivered;
        piece->repeat = !piece->news;
        return true;
    case SPLICE_CLOSE:
        piece->news = part->delivered == 0;
        piece->repeat = known_before(s, part);
        return !piece->repeat || same_value(piece);
    case SPLICE_WHOLE:
        return judge_whole(s, piece);
    case SPLICE_NAME:
    case SPLICE_LOGPROBS:
        return true;
    }
    return true;
}

static bool covers(const struct splice_key *scope, const struct splice_key *key)
{
    for (size_t i = 0; i < 3; i++)
        if (scope->at[i] != SPLICE_ANY && scope->at[i] != key->at[i])
            return false;
    return true;
}

/* Whether the current attempt has yet to repeat a part of the channel or mark that the client
 * has. */
static bool is_behind(const struct splice_part *part)
{
    return part->key.kind == SPLICE_TEXT ? part->matched < part->text.len
                                         : part->seen < part->delivered;
}

/* Whether a channel in the scope is behind; or, with SPLICE_MARK, a block or a part of one. */
static bool any_behind(const struct splice *s, enum splice_kind kind,
                       const struct splice_key *scope)
{
    for (size_t i = 0; i < s->n_parts; i++) {
        const struct splice_part *part = s->parts[i].part;
        if (part->key.kind == kind && is_behind(part) && covers(scope, &part->key) &&
            (kind == SPLICE_TEXT || part->key.at[0] != SPLICE_ANY))
            return true;
    }
    return false;
}

/* Whether an earlier response ended the channel. */
static bool is_closed(const struct splice *s, const struct splice_key *key)
{
    for (size_t i = 0; i < s->n_parts; i++) {
        const struct splice_part *part = s->parts[i].part;
        if (part->key.kind == SPLICE_CLOSE && known_before(s, part) && covers(&part->key, key))
            return true;
    }
    return false;
}

/* Judges the order of the pieces, which needs the whole event. An end must come after all that the
 * client has in its scope. A field may be new as text, or as a mark, only after its other form is
 * repeated; otherwise it is the same thing in another type. New text may come only after all other
 * text of its choice or item is repeated, as in the first response, and never after an end. */
static bool judge_order(const struct splice *s, const struct splice_piece *piece)
{
    if (piece->kind == SPLICE_CLOSE)
        return !any_behind(s, SPLICE_TEXT, &piece->part->key) &&
               (s->dialect != DIALECT_MESSAGES || !any_behind(s, SPLICE_MARK, &piece->part->key));
    if (piece->news && piece->rival && is_behind(piece->rival))
        return false;
    if (piece->kind != SPLICE_TEXT || !piece->news)
        return true;
    if (piece->part->summed == s->attempt)
        return false; /* it follows what was said to be the whole text */
    struct splice_key group = {SPLICE_TEXT, {piece->group, SPLICE_ANY, SPLICE_ANY}, {NULL, 0}};
    return !any_behind(s, SPLICE_TEXT, &group) && !is_closed(s, &piece->part->key);
}

/* In an event that goes out, a sealed name must be the one that the client knows. */
static bool judge_names(const struct splice *s)
{
    for (size_t i = 0; i < s->n_pieces; i++) {
        const struct splice_piece *piece = &s->pieces[i];
        if (piece->kind == SPLICE_NAME && piece->sealed && piece->part->delivered &&
            !same_value(piece))
            return false;
    }
    return true;
}

static enum splice_action judge(struct splice *s)
{
    bool news = false, repeat = false;

    if (s->strange)
        return SPLICE_DIFFERS;
    if (s->says_nothing && s->attempt > 0)
        return SPLICE_SKIP;
    for (size_t i = 0; i < s->n_pieces; i++) {
        struct splice_piece *piece = &s->pieces[i];
        if (!judge_piece(s, piece))
            return SPLICE_DIFFERS;
        news |= piece->news;
        repeat |= piece->repeat;
    }
    for (size_t i = 0; s->attempt > 0 && i < s->n_pieces; i++)
        if (!judge_order(s, &s->pieces[i]))
            return SPLICE_DIFFERS;
    /* Events without a piece that matters are skipped as often as they went out. */
    if (!news && (repeat || ++s->bare_seen <= s->bare_delivered))
        return SPLICE_SKIP;
    return s->attempt == 0 || judge_names(s) ? SPLICE_PASS : SPLICE_DIFFERS;
}

/* --- remembering ------------------------------------------------------------------------------ */

/* The record is of no more use. If the first response is still on its way, its texts are not,
 * either. */
static void lose(struct splice *s)
{
    s->lost = true;
    for (size_t i = 0; s->attempt == 0 && i < s->n_parts; i++)
        if (s->parts[i].part->key.kind == SPLICE_TEXT)
            buf_deinit(&s->parts[i].part->text);
}

/* Remembers the new text of a channel. Returns false if there is no room: the channel is then
 * `partial`. */
static bool keep_text(struct splice *s, const struct splice_piece *piece)
{
    struct splice_part *part = piece->part;
    size_t before = part->text.len, n = piece->rest.n;
    char unit[4];

    if (!piece->news)
        return true;
    if (part->delivered == 0)
        part->born = s->attempt;
    part->delivered = 1;
    /* Undoing escapes turns four bytes, a wide character, into six at most; so this is enough. */
    if (part->partial || n + n / 2 + 3 > s->cap - s->used) {
        part->partial = true;
        return false;
    }
    if (piece->half)
        (void)buf_add(&part->text, unit, str_put_utf8(piece->half, unit));
    struct str raw = piece->rest;
    while (raw.n > 0) {
        char units[UNITS_MAX];
        size_t length = plain_run(raw, raw.n);
        if (length > 0) {
            (void)buf_add(&part->text, raw.p, length);
            raw = str_after(raw, length);
            continue;
        }
        length = take_char(&raw, units);
        (void)buf_add(&part->text, units, length);
    }
    part->partial = part->text.failed;
    s->used += part->text.len - before;
    part->matched = part->text.len;
    return !part->partial;
}

static bool keep_piece(struct splice *s, const struct splice_piece *piece)
{
    switch (piece->kind) {
    case SPLICE_TEXT:
        return keep_text(s, piece);
    case SPLICE_ONCE:
    case SPLICE_NAME:
    case SPLICE_TYPE:
    case SPLICE_CLOSE: {
        /* A part's first value is remembered, if there is room. */
        struct splice_part *part = piece->part;
        size_t n = piece->value.text.n;
        if (part->delivered > 0) {
            part->delivered += part->born == s->attempt;
            return true;
        }
        if (n > s->cap - s->used || buf_add_str(&part->text, splice_form(piece->value)) < 0)
            return false;
        s->used += n;
        part->delivered = 1;
        part->born = s->attempt;
        return true;
    }
    case SPLICE_MARK:
        if (piece->part->seen > piece->part->delivered)
            piece->part->delivered = piece->part->seen;
        return true;
    case SPLICE_WHOLE:
    case SPLICE_LOGPROBS:
        return true;
    }
    return true;
}

/* The event goes out. */
static void keep(struct splice *s)
{
    uint64_t number;

    for (size_t i = 0; i < s->n_pieces; i++)
        if (!keep_piece(s, &s->pieces[i]))
            lose(s);
    if (s->bare_seen > s->bare_delivered)
        s->bare_delivered = s->bare_seen;
    if (s->attempt > 0 && s->has_sequence) { /* edit_event has written it */
        s->sequence += s->sequence_value.type != JSON_NONE;
    } else if (json_to_u64(s->sequence_value, &number)) {
        s->sequence = number;
        s->has_sequence = true;
    }
}

/* --- rewriting -------------------------------------------------------------------------------- */

/* Spans of the event's data are replaced; all other bytes stay as they are. */
static struct splice_edit *replace(struct splice *s, struct str span, struct str with)
{
    void *array = s->edits;

    if (!splice_grow(s, &array, &s->edits_size, s->n_edits, sizeof *s->edits))
        return NULL;
    s->edits = array;
    struct splice_edit *edit = &s->edits[s->n_edits++];
    *edit = (struct splice_edit){.span = span, .with = with};
    return edit;
}

static void replace_value(struct splice *s, struct json_value value, struct str with)
{
    if (value.type != JSON_NONE)
        replace(s, splice_form(value), with);
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
    if (piece->kind == SPLICE_LOGPROBS) {
        if (text_was_cut(s, piece->group))
            replace_value(s, piece->value,
                          piece->value.type == JSON_ARRAY ? STR("[]") : STR("null"));
        return;
    }

    struct str known = buf_str(&piece->part->text);
    switch (piece->kind) {
    case SPLICE_TEXT:
        if (piece->repeat) {
            /* Removes the beginning of the text, which the client has. */
            struct str text = piece->value.text;
            struct splice_edit *edit =
                replace(s, (struct str){text.p, text.n - piece->rest.n}, (struct str){NULL, 0});
            if (edit && piece->half)
                edit->own_n =
                    (unsigned char)snprintf(edit->own, sizeof edit->own, "\\u%04x", piece->half);
        }
        break;
    case SPLICE_ONCE:
        /* A client concatenates these values, so it must not get one again, unless this provider
         * repeats it all the time. */
        if (piece->repeat)
            replace_value(s, piece->value, piece->part->delivered > 1 ? known : STR("null"));
        break;
    case SPLICE_NAME:
        if (piece->part->delivered && !same_value(piece))
            replace_value(s, piece->value, known);
        break;
    case SPLICE_MARK:
    case SPLICE_CLOSE:
        if (piece->repeat)
            replace_value(s, piece->value, STR("null"));
        break;
    case SPLICE_TYPE:
    case SPLICE_WHOLE:
    case SPLICE_LOGPROBS:
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
    struct splice_edit *edit = replace(s, was, (struct str){NULL, 0});
    if (!edit)
        return;
    memcpy(edit->own, number.p, number.n);
    edit->own_n = (unsigned char)number.n;
}

/* Collects the edits of the event, whose pieces are judged, in the order of their spans. Returns
 * false if there is no memory. */
static bool edit_event(struct splice *s)
{
    s->n_edits = 0;
    for (size_t i = 0; i < s->n_pieces; i++)
        edit_piece(s, &s->pieces[i]);
    edit_sequence(s);
    for (size_t i = 1; i < s->n_edits; i++) { /* they are nearly sorted */
        struct splice_edit edit = s->edits[i];
        size_t at = i;
        for (; at > 0 && s->edits[at - 1].span.p > edit.span.p; at--)
            s->edits[at] = s->edits[at - 1];
        s->edits[at] = edit;
    }
    return !s->failed;
}

/* If data lines were joined, the newlines between them stand where JSON allows white space. */
static void add_span(struct buf *out, const char *from, const char *to, bool joined)
{
    size_t start = out->len;

    if (buf_add(out, from, (size_t)(to - from)) < 0 || !joined)
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
        assert(edit->span.p >= p); /* each value is looked at once, so no two spans overlap */
        add_span(out, p, edit->span.p, joined);
        (void)buf_add_str(out, edit->own_n ? (struct str){edit->own, edit->own_n} : edit->with);
        p = edit->span.p + edit->span.n;
    }
    add_span(out, p, data.p + data.n, joined);
}

static bool is_data_line(struct str line)
{
    return str_starts(line, STR("data")) &&
           (line.n == 4 || line.p[4] == ':' || line.p[4] == '\n' || line.p[4] == '\r');
}

/* The data lines become one, in place of the first of them. */
static void write_joined(const struct splice *s, struct str event, struct str data, struct buf *out)
{
    bool done = false;

    while (event.n > 0) {
        /* Cuts a line off, with its end: LF, CR or both. */
        size_t n = 0;
        while (n < event.n && event.p[n] != '\n' && event.p[n] != '\r')
            n++;
        if (n < event.n)
            n += event.p[n] == '\r' && n + 1 < event.n && event.p[n + 1] == '\n' ? 2 : 1;
        struct str one = {event.p, n};
        event = str_after(event, n);
        struct str line = one;
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

/* Writes the event with its edits. Returns false if `out` has no room. */
static bool write_event(const struct splice *s, struct str event, struct str data, struct buf *out)
{
    uintptr_t at = (uintptr_t)data.p, from = (uintptr_t)event.p;

    buf_reset(out, out->size);
    if (at < from || at + data.n > from + event.n) {
        write_joined(s, event, data, out);
    } else {
        size_t before = at - from;
        (void)buf_add(out, event.p, before);
        add_data(s, data, false, out);
        (void)buf_add(out, data.p + data.n, event.n - before - data.n);
    }
    return !out->failed;
}

/* --- a response ------------------------------------------------------------------------------- */

bool splice_knows(enum dialect d)
{
    return d == DIALECT_CHAT || d == DIALECT_COMPLETIONS || d == DIALECT_RESPONSES ||
           d == DIALECT_MESSAGES;
}

struct splice *splice_new(enum dialect d, size_t cap)
{
    assert(splice_knows(d));
    struct splice *s = malloc(sizeof *s);

    if (s)
        *s = (struct splice){.dialect = d, .cap = cap};
    return s;
}

void splice_free(struct splice *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->n_parts; i++) {
        buf_deinit(&s->parts[i].part->text);
        free(s->parts[i].part);
    }
    free(s->parts);
    free(s->pieces);
    free(s->edits);
    free(s);
}

bool splice_possible(const struct splice *s)
{
    return !s->lost;
}

void splice_restart(struct splice *s)
{
    assert(!s->lost);
    s->attempt++;
    s->bare_seen = 0;
    for (size_t i = 0; i < s->n_parts; i++) {
        s->parts[i].part->matched = 0;
        s->parts[i].part->seen = 0;
    }
}

size_t splice_memory(const struct splice *s)
{
    return sizeof(*s) + s->n_parts * sizeof(struct splice_part) + s->used;
}

bool splice_sequence(const struct splice *s, uint64_t *ret_sequence)
{
    if (s->has_sequence)
        *ret_sequence = s->sequence;
    return s->has_sequence;
}

enum splice_action splice_event(struct splice *s, struct str event, struct str data,
                                struct buf *out)
{
    if (s->attempt == 0 && s->lost)
        return SPLICE_PASS;
    splice_look(s, data);
    enum splice_action action = s->failed ? SPLICE_FAILED : judge(s);
    if (s->attempt == 0) { /* the first response always goes out unchanged */
        if (action == SPLICE_FAILED || action == SPLICE_DIFFERS)
            lose(s);
        else
            keep(s);
        return SPLICE_PASS;
    }
    if (action == SPLICE_SKIP || action == SPLICE_DIFFERS)
        return action;
    if (action == SPLICE_FAILED || !edit_event(s) ||
        (s->n_edits > 0 && !write_event(s, event, data, out))) {
        lose(s);
        return SPLICE_FAILED;
    }
    keep(s);
    return s->n_edits > 0 ? SPLICE_REWRITTEN : SPLICE_PASS;
}
