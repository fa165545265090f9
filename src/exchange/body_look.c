/* Reads what a request's body says, packed or not. */
#include "exchange/body_look.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"

const struct str body_key_names[BODY_KEYS] = {
    [BODY_MODEL] = {"model", 5},
    [BODY_STREAM] = {"stream", 6},
    [BODY_OPTIONS] = {"stream_options", 14},
    [BODY_N] = {"n", 1},
    [BODY_BACKGROUND] = {"background", 10},
};

/* --- for a spool -------------------------------------------------------------------------------- */

static int feed_block(struct spool_scan *scan, const void *data, size_t n)
{
    return body_look_feed(LIST_ENTRY(scan, struct body_look, scan), (struct str){data, n});
}

static size_t count_memory(struct spool_scan *scan)
{
    return body_look_memory(LIST_ENTRY(scan, struct body_look, scan));
}

static void free_look(struct spool_scan *scan)
{
    body_look_free(LIST_ENTRY(scan, struct body_look, scan));
}

/* --- reading ------------------------------------------------------------------------------------ */

struct body_look *body_look_new(struct str encoding, bool sum)
{
    struct body_look *l = calloc(1, sizeof(*l));
    int rc = l ? decoder_init_request(&l->decoder, encoding) : -ENOMEM;

    if (rc == -ENOMEM) {
        free(l);
        return NULL;
    }
    l->scan = (struct spool_scan){feed_block, count_memory, free_look};
    l->state = rc < 0 ? PACKED_UNKNOWN : PACKED_READ;
    l->over = rc < 0;
    for (unsigned i = 0; i < BODY_KEYS; i++)
        l->watches[i].key = body_key_names[i];
    json_stream_init(&l->json);
    json_stream_watch(&l->json, l->watches, BODY_KEYS);
    form_watch_init(&l->form_model, body_key_names[BODY_MODEL]);
    l->summed = sum;
    if (sum) {
        json_stream_sum(&l->json, &l->sum);
        fingerprint_begin(&l->bytes);
    }
    return l;
}

void body_look_free(struct body_look *l)
{
    if (!l)
        return;
    decoder_deinit(&l->decoder);
    free(l);
}

/* Whether nothing that comes later can matter, because the body is neither a form nor an object. */
static bool is_told(const struct body_look *l)
{
    return l->first == '{' ? json_stream_is_lost(&l->json)
                           : l->first != '\0' && l->form_model.state == FORM_OVER;
}

static void take_plain(void *arg, struct str plain)
{
    struct body_look *l = arg;

    if (l->over)
        return;
    /* A JSON object and a form are known by their first character. Nothing is looked for in
     * anything else. */
    struct str rest;
    form_watch_feed(&l->form_model, plain);
    if (l->first == '\0') {
        rest = str_trim(plain);
        if (rest.n > 0)
            l->first = rest.p[0] ? rest.p[0] : '?'; /* whatever begins no JSON */
    }
    if (l->first == '{' || l->first == '\0')
        json_stream_feed(&l->json, plain);
    l->plain += plain.n;
    if (l->plain > PACKED_PLAIN_MAX && l->plain / PACKED_RATIO_MAX > l->came)
        l->state = PACKED_LONG;
    l->over = l->state == PACKED_LONG || is_told(l);
    if (l->over) /* the rest of the same piece is not looked at either */
        decoder_stop(&l->decoder);
}

int body_look_feed(struct body_look *l, struct str piece)
{
    int rc = 0;

    l->came += piece.n;
    if (l->summed)
        fingerprint_feed(&l->bytes, piece);
    if (!l->over)
        rc = decoder_feed(&l->decoder, piece, take_plain, l);
    if (rc < 0 && rc != -ENOMEM && !l->over)
        l->state = PACKED_BROKEN;
    l->over |= rc < 0;
    if (l->over)
        decoder_deinit(&l->decoder);
    return rc == -ENOMEM ? rc : 0;
}

void body_look_end(struct body_look *l)
{
    if (!l->over && !decoder_whole(&l->decoder))
        l->state = PACKED_BROKEN;
    l->over = true;
    decoder_deinit(&l->decoder);
}

/* --- what it says ------------------------------------------------------------------------------- */

static bool is_readable(const struct body_look *l)
{
    return l->state == PACKED_READ || l->state == PACKED_LONG;
}

bool body_look_values(const struct body_look *l, struct json_value ret[BODY_KEYS])
{
    for (unsigned i = 0; i < BODY_KEYS; i++)
        ret[i] = (struct json_value){l->watches[i].type, json_watch_text(&l->watches[i])};
    return is_readable(l) && l->first == '{';
}

/* If reading stopped within the form, the field may be incomplete. */
const struct form_watch *body_look_form_model(const struct body_look *l)
{
    const struct form_watch *w = &l->form_model;
    bool known = is_readable(l) && (l->state != PACKED_LONG || w->state == FORM_OVER);

    return known && w->found ? w : NULL;
}

uint64_t body_look_fingerprint(const struct body_look *l)
{
    uint64_t id;

    if (l->state == PACKED_READ && l->first == '{' && json_stream_fingerprint(&l->json, &id))
        return id;
    return fingerprint_end(&l->bytes);
}

size_t body_look_memory(const struct body_look *l)
{
    return sizeof(*l) + decoder_memory(&l->decoder);
}
