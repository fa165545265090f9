/* Judges each event of a new answer against what the client has, and remembers what goes out.
 *
 * Judging changes only what belongs to the attempt (`matched`, `seen`). What the client has is
 * changed once it is sure that the event goes out, so an answer that differs spoils nothing. */
#include "stream/splice.h"

#include <assert.h>
#include <stdlib.h>

#include "http/json.h"
#include "stream/splice_private.h"

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
    splice_parts_free(s);
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

/* The texts are of no use any more. In the first answer nothing else is, either. */
static void lose(struct splice *s)
{
    s->lost = true;
    if (s->attempt > 0)
        return;
    for (size_t i = 0; i < s->n_parts; i++)
        if (s->parts[i].part->key.kind == SPLICE_TEXT)
            buf_deinit(&s->parts[i].part->text);
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

/* Two values in one answer: two things that cannot be told apart. */
static bool judge_once(const struct splice *s, struct splice_piece *piece)
{
    piece->news = piece->part->delivered == 0;
    piece->repeat = known_before(s, piece->part);
    return piece->news || piece->repeat || same_value(piece);
}

/* The text that ends a channel says again what its deltas said. Asked only where there was an
 * earlier answer to agree with: how an upstream sums up its own is not for us to judge. */
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

/* False where the piece cannot belong to the answer that the client has. */
static bool judge_piece(const struct splice *s, struct splice_piece *piece)
{
    struct splice_part *part = piece->part;

    switch (piece->kind) {
    case SPLICE_TEXT:
        return judge_text(piece);
    case SPLICE_ONCE:
        return judge_once(s, piece);
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

/* A channel in the scope that this attempt has not repeated to its end. */
static bool is_behind(const struct splice *s, const struct splice_key *scope)
{
    for (size_t i = 0; i < s->n_parts; i++) {
        const struct splice_part *part = s->parts[i].part;
        if (part->key.kind == SPLICE_TEXT && part->matched < part->text.len &&
            covers(scope, &part->key))
            return true;
    }
    return false;
}

/* A block, or a part of one, that the client has and this attempt has not brought. */
static bool lacks_block(const struct splice *s, const struct splice_key *scope)
{
    for (size_t i = 0; s->dialect == DIALECT_MESSAGES && i < s->n_parts; i++) {
        const struct splice_part *part = s->parts[i].part;
        if (part->key.kind == SPLICE_MARK && part->key.at[0] != SPLICE_ANY &&
            part->seen < part->delivered && covers(scope, &part->key))
            return true;
    }
    return false;
}

/* An earlier answer said that the channel is at its end. */
static bool is_closed(const struct splice *s, const struct splice_key *key)
{
    for (size_t i = 0; i < s->n_parts; i++) {
        const struct splice_part *part = s->parts[i].part;
        if (part->key.kind == SPLICE_CLOSE && known_before(s, part) && covers(&part->key, key))
            return true;
    }
    return false;
}

static bool rival_is_behind(const struct splice_part *rival)
{
    return rival && (rival->key.kind == SPLICE_TEXT ? rival->matched < rival->text.len
                                                    : rival->seen < rival->delivered);
}

/* What only the event as a whole shows. A field is new as text, or as something else, where what
 * it was before is repeated: else it is that, told in another type. New text comes where all other text of its choice or item
 * is repeated, as it did in the first answer, and not behind an end; an end comes behind all of
 * it. */
static bool judge_order(const struct splice *s, const struct splice_piece *piece)
{
    if (piece->kind == SPLICE_CLOSE)
        return !is_behind(s, &piece->part->key) && !lacks_block(s, &piece->part->key);
    if (piece->news && rival_is_behind(piece->rival))
        return false;
    if (piece->kind != SPLICE_TEXT || !piece->news)
        return true;
    if (piece->part->summed == s->attempt)
        return false; /* behind what it said to be all */
    struct splice_key group = {SPLICE_TEXT, {piece->group, SPLICE_ANY, SPLICE_ANY}, {NULL, 0}};
    return !is_behind(s, &group) && !is_closed(s, &piece->part->key);
}

/* Of an event that goes out: a sealed name has to be the one that the client knows. */
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

/* An event without a piece that matters: as many of them are skipped as went out. */
static enum splice_action judge_bare(struct splice *s)
{
    return ++s->bare_seen > s->bare_delivered ? SPLICE_PASS : SPLICE_SKIP;
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
    if (!news) {
        enum splice_action action = repeat ? SPLICE_SKIP : judge_bare(s);
        if (action == SPLICE_SKIP)
            return action;
    }
    return s->attempt == 0 || judge_names(s) ? SPLICE_PASS : SPLICE_DIFFERS;
}

/* --- remembering ------------------------------------------------------------------------------ */

static bool keep_first(struct splice *s, const struct splice_piece *piece)
{
    struct splice_part *part = piece->part;

    if (part->delivered > 0) {
        part->delivered += part->born == s->attempt;
        return true;
    }
    if (!splice_keep_value(s, part, piece->value))
        return false;
    part->delivered = 1;
    part->born = s->attempt;
    return true;
}

static bool keep_text(struct splice *s, const struct splice_piece *piece)
{
    struct splice_part *part = piece->part;

    if (!piece->news)
        return true;
    if (part->delivered == 0)
        part->born = s->attempt;
    part->delivered = 1;
    return splice_keep_text(s, part, piece->half, piece->rest);
}

static bool keep_piece(struct splice *s, const struct splice_piece *piece)
{
    switch (piece->kind) {
    case SPLICE_TEXT:
        return keep_text(s, piece);
    case SPLICE_ONCE:
    case SPLICE_NAME:
    case SPLICE_TYPE:
    case SPLICE_CLOSE:
        return keep_first(s, piece);
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
    for (size_t i = 0; i < s->n_pieces; i++)
        if (!keep_piece(s, &s->pieces[i]))
            lose(s);
    if (s->bare_seen > s->bare_delivered)
        s->bare_delivered = s->bare_seen;
    uint64_t number;
    if (s->attempt > 0 && s->has_sequence) { /* splice_edits has written it */
        s->sequence += s->sequence_value.type != JSON_NONE;
    } else if (json_to_u64(s->sequence_value, &number)) {
        s->sequence = number;
        s->has_sequence = true;
    }
}

/* --- an event --------------------------------------------------------------------------------- */

static void look(struct splice *s, struct str data)
{
    s->n_pieces = 0;
    s->strange = s->says_nothing = s->failed = false;
    s->sequence_value = (struct json_value){.type = JSON_NONE};
    if (str_starts(data, STR("[DONE]"))) { /* as the SDKs see it */
        struct splice_key all = {SPLICE_CLOSE, {SPLICE_ANY, SPLICE_ANY, SPLICE_ANY}, {NULL, 0}};
        (void)splice_put(s, all, (struct json_value){0});
    } else if (s->dialect == DIALECT_RESPONSES) {
        splice_look_responses(s, data);
    } else if (s->dialect == DIALECT_MESSAGES) {
        splice_look_messages(s, data);
    } else {
        splice_look_chat(s, data);
    }
}

/* The first answer goes out as it is, whatever can be made of it. */
static enum splice_action first_response(struct splice *s, struct str data)
{
    if (s->lost)
        return SPLICE_PASS;
    look(s, data);
    if (s->failed || judge(s) == SPLICE_DIFFERS)
        lose(s);
    else
        keep(s);
    return SPLICE_PASS;
}

enum splice_action splice_event(struct splice *s, struct str event, struct str data,
                                struct buf *out)
{
    if (s->attempt == 0)
        return first_response(s, data);

    look(s, data);
    if (s->failed)
        goto failed;
    enum splice_action action = judge(s);
    if (action != SPLICE_PASS)
        return action;
    if (!splice_edits(s))
        goto failed;
    if (s->n_edits > 0) {
        if (!splice_write(s, event, data, out))
            goto failed;
        action = SPLICE_REWRITTEN;
    }
    keep(s);
    return action;

failed:
    lose(s);
    return SPLICE_FAILED;
}
