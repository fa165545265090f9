/* Reads what a request's body says while it passes by, packed or not. */
#include "exchange/body_look.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const struct str body_key_names[BODY_KEYS] = {
    [BODY_MODEL] = {"model", 5},
    [BODY_STREAM] = {"stream", 6},
    [BODY_OPTIONS] = {"stream_options", 14},
    [BODY_N] = {"n", 1},
    [BODY_BACKGROUND] = {"background", 10},
};

void body_look_init(struct body_look *l, bool sum)
{
    l->first = '\0';
    for (unsigned i = 0; i < BODY_KEYS; i++)
        l->watches[i].key = body_key_names[i];
    json_stream_init(&l->check);
    json_stream_watch(&l->check, l->watches, BODY_KEYS);
    if (sum)
        json_stream_sum(&l->check, &l->sum);
    form_watch_init(&l->form_model, body_key_names[BODY_MODEL]);
}

/* Of a form only the model is looked for, and files are not looked through: both are known by their
 * first character. */
void body_look_feed(struct body_look *l, struct str piece)
{
    struct str rest;

    form_watch_feed(&l->form_model, piece);
    if (l->first == '\0') {
        rest = str_trim(piece);
        if (rest.n > 0)
            l->first = rest.p[0] ? rest.p[0] : '?'; /* whatever begins no JSON */
    }
    if (l->first == '{' || l->first == '\0')
        json_stream_feed(&l->check, piece);
}

bool body_look_fingerprint(const struct body_look *l, uint64_t *ret)
{
    return l->first == '{' && json_stream_fingerprint(&l->check, ret);
}

bool body_look_values(const struct body_look *l, struct json_value ret[BODY_KEYS])
{
    for (unsigned i = 0; i < BODY_KEYS; i++) {
        const struct json_watch *w = &l->watches[i];

        ret[i] = (struct json_value){w->type, json_watch_text(w)};
    }
    return l->first == '{';
}

/* --- a body in a coding ------------------------------------------------------------------------- */

bool packed_is(struct str encoding)
{
    return encoding.n > 0 && !str_ieq(encoding, STR("identity"));
}

/* The decoder is needed no more. */
static void settle(struct packed *p, enum packed_state s)
{
    p->over = true;
    p->state = s;
    decoder_deinit(&p->decoder);
}

struct packed *packed_new(struct str encoding)
{
    struct packed *p = calloc(1, sizeof(*p));
    int rc;

    if (!p)
        return NULL;
    body_look_init(&p->look, false);
    rc = decoder_init_request(&p->decoder, encoding);
    if (rc == -ENOMEM) {
        free(p);
        return NULL;
    }
    if (rc < 0)
        settle(p, PACKED_UNKNOWN);
    else
        memcpy(p->encoding, encoding.p, encoding.n);
    return p;
}

void packed_free(struct packed *p)
{
    if (!p)
        return;
    decoder_deinit(&p->decoder);
    free(p);
}

/* Nothing that comes later can tell anything: it is no form, nor an object. */
static bool is_told(const struct body_look *l)
{
    return l->first == '{' ? json_stream_is_lost(&l->check)
                           : l->first != '\0' && l->form_model.state == FORM_OVER;
}

static void take_plain(void *arg, struct str plain)
{
    struct packed *p = arg;

    if (p->over)
        return;
    body_look_feed(&p->look, plain);
    p->plain += plain.n;
    if (p->plain > PACKED_PLAIN_MAX && p->plain / PACKED_RATIO_MAX > p->coded)
        p->state = PACKED_LONG;
    if (p->state != PACKED_LONG && !is_told(&p->look))
        return;
    p->over = true; /* the decoder is at work, and is given back behind it */
    decoder_stop(&p->decoder);
}

/* Its text ends nowhere: a field that was being read is none. */
static void forget_part(struct packed *p)
{
    if (p->look.form_model.state != FORM_OVER)
        p->look.form_model.found = false;
}

int packed_feed(struct packed *p, struct str coded)
{
    int rc;

    if (p->over)
        return 0;
    p->coded += coded.n;
    rc = decoder_feed(&p->decoder, coded, take_plain, p);
    if (rc == -ENOMEM)
        return rc;
    if (p->over) /* what came behind that in the same piece is not looked at, whatever it is */
        settle(p, p->state);
    else if (rc < 0)
        settle(p, PACKED_BROKEN);
    return 0;
}

void packed_finish(struct packed *p)
{
    if (!p->over)
        settle(p, decoder_whole(&p->decoder) ? PACKED_READ : PACKED_BROKEN);
    if (p->state == PACKED_LONG)
        forget_part(p);
}

static void look_at_plain(void *arg, struct str plain)
{
    body_look_feed(arg, plain);
}

bool packed_fingerprint(const struct packed *p, struct str coded, uint64_t *ret)
{
    struct body_look look;
    struct decoder d;
    bool done;

    if (p->state != PACKED_READ || decoder_init_request(&d, str_from(p->encoding)) < 0)
        return false;
    body_look_init(&look, true);
    done = decoder_feed(&d, coded, look_at_plain, &look) == 0 && body_look_fingerprint(&look, ret);
    decoder_deinit(&d);
    return done;
}

size_t packed_memory(const struct packed *p)
{
    return sizeof(*p) + decoder_memory(&p->decoder);
}
