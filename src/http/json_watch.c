/* Copies the raw text of watched values, piece by piece. */
#include "http/json_watch.h"

enum { NOTHING, KEY, VALUE };

void json_keeper_init(struct json_keeper *k)
{
    k->watches = k->found = NULL;
    k->count = 0;
    k->from = k->piece = NULL;
    k->before = 0;
    k->piece_len = 0;
    k->what = NOTHING;
}

void json_keeper_piece(struct json_keeper *k, struct str piece)
{
    k->before += k->piece_len;
    k->from = k->piece = piece.p;
    k->piece_len = piece.n;
}

void json_keeper_watch(struct json_keeper *k, struct json_watch *watches, size_t n)
{
    k->watches = watches;
    k->count = n;
    for (size_t i = 0; i < n; i++) {
        watches[i].type = JSON_NONE;
        watches[i].n = 0;
        watches[i].cut = false;
    }
}

void json_keeper_key(struct json_keeper *k, const char *from)
{
    k->found = NULL;
    k->what = KEY;
    k->from = from;
    k->key_len = 0;
    k->key_cut = false;
}

void json_keeper_value(struct json_keeper *k, enum json_type type, const char *from)
{
    k->found->type = type;
    k->found->n = 0;
    k->found->cut = false;
    k->found->at = k->before + (uint64_t)(from - k->piece);
    k->found->length = 0;
    if (type == JSON_ARRAY || type == JSON_OBJECT)
        return;
    k->what = VALUE;
    k->from = from;
}

/* Appends what fits of [k->from, to); true when that was all. */
static bool append(const struct json_keeper *k, const char *to, char *out, size_t *n, size_t size)
{
    size_t len = (size_t)(to - k->from);
    size_t fits = len < size - *n ? len : size - *n;

    memcpy(out + *n, k->from, fits);
    *n += fits;
    return fits == len;
}

void json_keeper_suspend(struct json_keeper *k, const char *to)
{
    if (k->what == KEY) {
        size_t n = k->key_len;
        if (!append(k, to, k->key, &n, sizeof k->key))
            k->key_cut = true;
        k->key_len = (unsigned char)n;
    } else if (k->what == VALUE) {
        struct json_watch *w = k->found;
        w->length += (uint64_t)(to - k->from);
        if (!append(k, to, w->text, &w->n, sizeof w->text))
            w->cut = true;
    }
}

/* A key is whole: is it a watched one? A key with escapes is undone first, as parsers do. */
static void find_watch(struct json_keeper *k)
{
    char plain[sizeof k->key];
    struct str key = {k->key, k->key_len};

    if (k->key_cut)
        return;
    if (key.n > 0 && memchr(key.p, '\\', key.n)) {
        key.n = json_unescape(key, plain, sizeof plain);
        key.p = plain;
    }
    struct json_watch *end = k->watches + k->count;
    for (struct json_watch *w = k->watches; w < end; w++)
        if (str_eq(key, w->key))
            k->found = w;
}

void json_keeper_end(struct json_keeper *k, const char *to)
{
    unsigned char what = k->what;

    json_keeper_suspend(k, to);
    k->what = NOTHING;
    if (what == KEY)
        find_watch(k);
}

bool json_watch_is_open(const struct json_keeper *k, const struct json_watch *w)
{
    return k->what == VALUE && k->found == w;
}
