/* The table of what the client has of a stream, and the pieces of the event in hand. */
#include <stdlib.h>

#include "stream/splice_private.h"

/* --- the table -------------------------------------------------------------------------------- */

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

    if (part)
        return part;
    if (s->n_parts == SPLICE_PARTS_MAX) {
        s->failed = true;
        return NULL;
    }
    void *array = s->parts;
    if (!splice_grow(s, &array, &s->parts_size, s->n_parts, sizeof *s->parts))
        return NULL;
    s->parts = array;
    part = part_new(key, s->cap);
    if (!part) {
        s->failed = true;
        return NULL;
    }
    s->parts[s->n_parts++] = (struct splice_slot){hash_of(key), part};
    return part;
}

void splice_parts_free(struct splice *s)
{
    for (size_t i = 0; i < s->n_parts; i++) {
        buf_deinit(&s->parts[i].part->text);
        free(s->parts[i].part);
    }
    free(s->parts);
}

/* --- pieces ----------------------------------------------------------------------------------- */

bool splice_member(struct splice *s, struct json_iter *i, struct str *ret_key,
                   struct json_value *ret_value)
{
    if (!json_next_member(i, ret_key, ret_value))
        return false;
    s->strange |= ret_key->n > 0 && memchr(ret_key->p, '\\', ret_key->n) != NULL;
    return true;
}

struct str splice_word(struct splice *s, struct json_value value)
{
    s->strange |= value.text.n > 0 && memchr(value.text.p, '\\', value.text.n) != NULL;
    return value.text;
}

static struct splice_piece *put(struct splice *s, struct splice_piece piece)
{
    void *array = s->pieces;

    if (!splice_grow(s, &array, &s->pieces_size, s->n_pieces, sizeof *s->pieces))
        return NULL;
    s->pieces = array;
    s->pieces[s->n_pieces] = piece;
    return &s->pieces[s->n_pieces++];
}

struct splice_piece *splice_put(struct splice *s, struct splice_key key, struct json_value value)
{
    struct splice_part *part = splice_part(s, key);

    if (!part)
        return NULL;
    return put(s, (struct splice_piece){
                      .kind = key.kind, .part = part, .group = key.at[0], .value = value});
}

bool splice_is_otherwise(const struct splice *s, const struct splice_part *part,
                         struct json_value value)
{
    if (s->attempt == 0 || !part || part->delivered == 0 || value.type == JSON_NONE)
        return false;
    char c = part->text.p[0];
    enum json_type known = c == '"'   ? JSON_STRING
                           : c == 't' ? JSON_TRUE
                           : c == 'f' ? JSON_FALSE
                                      : JSON_NUMBER;
    return value.type != known;
}

void splice_put_single(struct splice *s, enum splice_single which, struct json_value value)
{
    struct splice_part *part = s->single[which];

    if (!splice_is_said(value) && !splice_is_otherwise(s, part, value))
        return;
    if (!part) {
        struct splice_key key = {SPLICE_NAME, {SPLICE_ANY, SPLICE_ANY, which}, {NULL, 0}};
        part = s->single[which] = splice_part(s, key);
        if (!part)
            return;
    }
    if (s->attempt == 0 && part->delivered)
        return; /* nothing to compare with, nothing to learn */
    (void)put(s, (struct splice_piece){
                     .kind = SPLICE_NAME, .part = part, .group = SPLICE_ANY, .value = value});
}

void splice_put_whole(struct splice *s, struct splice_key channel, struct json_value value)
{
    struct splice_part *part = splice_find(s, channel);

    if (part)
        (void)put(s,
                  (struct splice_piece){
                      .kind = SPLICE_WHOLE, .part = part, .group = channel.at[0], .value = value});
}

/* The part that has the field in its other form. */
static struct splice_part *rival_of(struct splice *s, struct splice_key key, enum splice_kind kind)
{
    key.kind = kind;
    return splice_find(s, key);
}

void splice_put_field(struct splice *s, struct splice_key key, struct json_value value)
{
    struct splice_piece *piece = NULL;
    bool nested = value.type == JSON_ARRAY || value.type == JSON_OBJECT;

    if (splice_is_text(value)) {
        piece = splice_put(s, key, value);
        if (piece && s->has_rivals)
            piece->rival = rival_of(s, key, SPLICE_MARK);
    } else if (nested && value.text.n > 2) { /* an empty one says nothing */
        key.kind = SPLICE_MARK;
        piece = splice_put(s, key, value);
        if (piece)
            piece->rival = rival_of(s, key, SPLICE_TEXT);
        s->has_rivals = true;
    } else if (splice_is_said(value) && s->attempt > 0 && splice_find(s, key)) {
        s->strange = true; /* a number where the client has text */
    }
}

uint32_t splice_index(struct splice *s, struct json_value value, uint32_t otherwise)
{
    uint64_t n;

    if (json_to_u64(value, &n))
        return n < SPLICE_ANY ? (uint32_t)n : SPLICE_ANY - 1;
    if (value.type != JSON_NONE && value.type != JSON_NULL)
        s->strange = true; /* to a client "0" is another place than 0 */
    return otherwise;
}

void splice_put_logprobs(struct splice *s, uint32_t group, struct json_value value)
{
    if (s->attempt > 0)
        (void)put(s,
                  (struct splice_piece){.kind = SPLICE_LOGPROBS, .group = group, .value = value});
}

/* --- what is remembered ----------------------------------------------------------------------- */

bool splice_keep_value(struct splice *s, struct splice_part *part, struct json_value value)
{
    if (value.text.n > s->cap - s->used || buf_add_str(&part->text, splice_form(value)) < 0)
        return false;
    s->used += value.text.n;
    return true;
}

bool splice_keep_text(struct splice *s, struct splice_part *part, unsigned half, struct str text)
{
    size_t before = part->text.len;

    /* Undoing escapes makes six bytes of four at most, a wide character; so this is room enough. */
    if (part->partial || text.n + text.n / 2 + 3 > s->cap - s->used) {
        part->partial = true;
        return false;
    }
    if (half)
        splice_text_add_unit(&part->text, half);
    splice_text_add(&part->text, text);
    part->partial = part->text.failed;
    s->used += part->text.len - before;
    part->matched = part->text.len;
    return !part->partial;
}
