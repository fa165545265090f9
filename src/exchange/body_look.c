/* Reads what a request's body says while it passes by, packed or not. */
#include "exchange/body_look.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "http/json_fingerprint.h"

const struct str body_key_names[BODY_KEYS] = {
    [BODY_MODEL] = {"model", 5},
    [BODY_STREAM] = {"stream", 6},
    [BODY_OPTIONS] = {"stream_options", 14},
    [BODY_N] = {"n", 1},
    [BODY_BACKGROUND] = {"background", 10},
};

void body_look_init(struct body_look *l)
{
    l->first = '\0';
    l->skipped = 0;
    for (unsigned i = 0; i < BODY_KEYS; i++)
        l->watches[i].key = body_key_names[i];
    json_check_init(&l->check);
    json_check_watch(&l->check, l->watches, BODY_KEYS);
    form_watch_init(&l->form_model, body_key_names[BODY_MODEL]);
}

/* Of a form only the model is looked for, and files are not looked through: both are known by their
 * first character. */
void body_look_feed(struct body_look *l, struct str piece)
{
    form_watch_feed(&l->form_model, piece);
    if (l->first == '\0') {
        struct str rest = str_trim(piece);

        if (rest.n == 0) {
            l->skipped += piece.n;
            return;
        }
        l->first = rest.p[0] ? rest.p[0] : '?'; /* whatever begins no JSON */
    }
    if (l->first == '{')
        json_check_feed(&l->check, piece);
}

bool body_look_is_object(const struct body_look *l)
{
    return l->first == '{' && json_check_end(&l->check) == JSON_CHECK_VALID;
}

bool body_look_values(const struct body_look *l, struct json_value ret[BODY_KEYS])
{
    for (unsigned i = 0; i < BODY_KEYS; i++) {
        const struct json_watch *w = &l->watches[i];

        ret[i] = (struct json_value){w->type, {w->text, w->n}};
        if (json_watch_is_open(&l->check.keeper, w)) /* the text is broken, and this is a part */
            ret[i] = (struct json_value){.type = JSON_NONE};
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
    body_look_init(&p->look);
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
    return l->first == '{' ? json_check_is_lost(&l->check)
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

static void sum_up(void *arg, struct str plain)
{
    json_fingerprint_feed(arg, plain);
}

bool packed_fingerprint(const struct packed *p, struct str coded, uint64_t *ret)
{
    struct json_fingerprint f;
    struct decoder d;
    bool done;

    if (p->state != PACKED_READ || !body_look_is_object(&p->look) ||
        decoder_init_request(&d, str_from(p->encoding)) < 0)
        return false;
    json_fingerprint_begin(&f);
    done = decoder_feed(&d, coded, sum_up, &f) == 0 && json_fingerprint_end(&f, ret);
    decoder_deinit(&d);
    return done;
}

size_t packed_memory(const struct packed *p)
{
    return sizeof(*p) + decoder_memory(&p->decoder);
}
