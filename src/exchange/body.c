/* Keeps a request's body, in memory while it is small, else in a spool, and parses it. */
#include "exchange/body.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/list.h"
#include "exchange/exchange.h"
#include "exchange/spool.h"

/* --- the content of a body -------------------------------------------------------------------- */

const struct str body_key_names[BODY_KEYS] = {
    [BODY_MODEL] = {"model", 5},
    [BODY_STREAM] = {"stream", 6},
    [BODY_OPTIONS] = {"stream_options", 14},
    [BODY_N] = {"n", 1},
    [BODY_BACKGROUND] = {"background", 10},
};

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

/* --- reading in one pass ---------------------------------------------------------------------- */

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
    form_field_init(&l->form_model, body_key_names[BODY_MODEL]);
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

/* Whether later bytes cannot matter, because the body is neither a form nor an object. */
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
    /* The first character shows a JSON object or a form. Any other body is not parsed. */
    struct str rest;
    form_field_feed(&l->form_model, plain);
    if (l->first == '\0') {
        rest = str_trim(plain);
        if (rest.n > 0)
            l->first = rest.p[0] ? rest.p[0] : '?'; /* any character that does not begin JSON */
    }
    if (l->first == '{' || l->first == '\0')
        json_stream_feed(&l->json, plain);
    l->plain += plain.n;
    if (l->plain > PACKED_PLAIN_MAX && l->plain / PACKED_RATIO_MAX > l->came)
        l->state = PACKED_LONG;
    l->over = l->state == PACKED_LONG || is_told(l);
    if (l->over) /* skip the rest of the same piece, too */
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

/* --- the results of parsing ------------------------------------------------------------------- */

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
const struct form_field *body_look_form_model(const struct body_look *l)
{
    const struct form_field *w = &l->form_model;
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

/* --- the bytes -------------------------------------------------------------------------------- */

/* A spool's own blocks take more memory than a smaller body would. */
#define WORTH_SPOOLING (256u * 1024)

void body_init(struct body *b, uint64_t max)
{
    *b = (struct body){.max = max, .memory_max = max};
    buf_init(&b->memory, max < SIZE_MAX / 2 ? (size_t)max : SIZE_MAX / 2);
}

void body_deinit(struct body *b)
{
    if (b->spool)
        spool_close(b->spool);
    else
        body_look_free(b->look);
    b->spool = NULL;
    b->look = NULL;
    buf_deinit(&b->memory);
}

void body_may_spool(struct body *b, struct exchange *x, uint64_t memory_max)
{
    assert(b->length == 0);
    b->x = x;
    b->memory_max = memory_max;
    if (memory_max < b->memory.cap)
        b->memory.cap = (size_t)memory_max;
}

/* --- parsing it ------------------------------------------------------------------------------- */

void body_expect(struct body *b, struct str encoding)
{
    assert(b->length == 0);
    if (!str_ieq(encoding, STR("identity")))
        b->encoding = encoding;
}

bool body_is_packed(const struct body *b)
{
    return b->encoding.n > 0;
}

enum packed_state body_packed_state(const struct body *b)
{
    return b->look ? b->look->state : PACKED_READ;
}

/* Parses a body that is in memory. NULL: out of memory. */
static struct body_look *look_at_memory(const struct body *b, bool sum)
{
    struct body_look *l = body_look_new(b->encoding, sum);

    if (l && body_look_feed(l, buf_str(&b->memory)) < 0) {
        body_look_free(l);
        l = NULL;
    }
    if (l)
        body_look_end(l);
    return l;
}

/* The body is complete and stored; a packed one in memory is parsed now. Returns 0 or -ENOMEM. */
static int read_whole(struct body *b)
{
    if (b->look)
        body_look_end(b->look);
    else if (body_is_packed(b))
        b->look = look_at_memory(b, false);
    return body_is_packed(b) && !b->look ? -ENOMEM : 0;
}

/* --- spooling --------------------------------------------------------------------------------- */

static bool should_spool(const struct body *b, size_t n)
{
    uint64_t length;

    if (!b->x)
        return false;
    /* A body whose declared length is long need not pass through memory. */
    uint64_t told = b->x->request.http.content_length, known = b->length + n;
    length = told != LENGTH_UNKNOWN && told > known ? told : known;
    return length > b->memory_max || (length > WORTH_SPOOLING && b->x->ops->pressed(b->x->world));
}

static ptrdiff_t failed(struct body *b, int rc)
{
    b->error = rc;
    return rc == -ENOMEM ? -ENOMEM : -ENOSPC;
}

static int start_spooling(struct body *b)
{
    struct body_look *look = body_look_new(b->encoding, b->x->shared.failures != NULL);
    int rc;

    if (!look)
        return -ENOMEM;
    rc = b->x->ops->spool_open(b->x->world, b->x, &b->spool);
    if (rc < 0) {
        body_look_free(look);
        return (int)failed(b, rc);
    }
    spool_scan(b->spool, &look->scan);
    b->look = look;
    return 0;
}

static ptrdiff_t spool(struct body *b, const char *data, size_t n)
{
    ptrdiff_t taken = spool_write(b->spool, data, n);

    return taken < 0 ? failed(b, (int)taken) : taken;
}

static void move_memory(struct body *b)
{
    ptrdiff_t n = 1;

    while (n > 0 && b->moved < b->memory.len) {
        n = spool(b, b->memory.p + b->moved, b->memory.len - b->moved);
        if (n > 0)
            b->moved += (size_t)n;
    }
    if (b->moved == b->memory.len || b->error) {
        buf_deinit(&b->memory);
        b->moved = 0;
    }
}

static int spool_on(struct body *b)
{
    int rc;

    move_memory(b);
    if (b->error || b->memory.len > 0)
        return b->error ? b->error : -EAGAIN;
    rc = spool_state(b->spool);
    if (rc == -EAGAIN && b->finished)
        spool_flush(b->spool);
    if (rc < 0 && rc != -EAGAIN)
        failed(b, rc);
    return rc;
}

int body_go_on(struct body *b)
{
    int rc = b->spool && !b->error ? spool_on(b) : b->error;

    return rc == 0 && b->finished ? read_whole(b) : rc;
}

/* --- growing ---------------------------------------------------------------------------------- */

ptrdiff_t body_append(struct body *b, const void *data, size_t n)
{
    ptrdiff_t taken;

    assert(!b->finished);
    if (b->error)
        return failed(b, b->error);
    if (n > b->max - b->length)
        return -EFBIG;
    int rc = 0;
    if (!b->spool && should_spool(b, n))
        rc = start_spooling(b);
    if (rc == 0 && !b->spool)
        rc = buf_add(&b->memory, data, n);
    if (rc < 0 || !b->spool) {
        taken = rc < 0 ? rc : (ptrdiff_t)n;
    } else {
        if (b->memory.len > 0)
            move_memory(b);
        taken = b->error ? failed(b, b->error) : b->memory.len > 0 ? 0 : spool(b, data, n);
    }
    if (taken <= 0)
        return taken;
    b->length += (uint64_t)taken;
    return taken;
}

bool body_full(const struct body *b)
{
    return b->spool && !b->error && (b->memory.len > 0 || spool_full(b->spool));
}

void body_finish(struct body *b)
{
    b->finished = true;
}

/* --- reading ---------------------------------------------------------------------------------- */

bool body_in_memory(const struct body *b)
{
    return !b->spool;
}

bool body_is_plain(const struct body *b)
{
    return !b->spool && !body_is_packed(b);
}

struct str body_text(const struct body *b)
{
    assert(!b->spool);
    return buf_str(&b->memory);
}

ptrdiff_t body_read(struct body *b, uint64_t offset, void *to, size_t max)
{
    uint64_t left = b->length - offset;

    assert(b->finished && offset <= b->length);
    if (b->spool)
        return spool_read(b->spool, offset, to, max);
    if (max > left)
        max = (size_t)left;
    if (max > 0)
        memcpy(to, b->memory.p + offset, max);
    return (ptrdiff_t)max;
}

bool body_values(const struct body *b, struct json_value ret[BODY_KEYS])
{
    struct json_want wants[BODY_KEYS];
    struct str text;

    if (b->look)
        return body_look_values(b->look, ret);
    text = str_trim(buf_str(&b->memory));
    if (text.n == 0 || text.p[0] != '{')
        return false;
    for (unsigned i = 0; i < BODY_KEYS; i++)
        wants[i] = (struct json_want){.key = body_key_names[i]};
    json_scan(text, wants, BODY_KEYS);
    for (unsigned i = 0; i < BODY_KEYS; i++)
        ret[i] = wants[i].value;
    return true;
}

/* Finds a form's model. Returns false if the body is no form or has none. */
static bool form_model(const struct body *b, struct form_field *ret)
{
    const struct form_field *w = b->look ? body_look_form_model(b->look) : NULL;

    if (w) {
        *ret = *w;
    } else {
        form_field_init(ret, body_key_names[BODY_MODEL]);
        if (!b->look)
            form_field_feed(ret, buf_str(&b->memory));
    }
    return ret->found;
}

bool body_form_model(const struct body *b, char *ret_model, size_t size)
{
    struct form_field w;
    struct str rest;
    size_t n = 1;

    if (!form_model(b, &w) || w.n < w.length || w.n >= size)
        return false;
    for (rest = (struct str){w.text, w.n}; rest.n > 0 && n > 0; rest.p += n, rest.n -= n)
        n = (unsigned char)*rest.p < ' ' || *rest.p == 0x7f ? 0 : str_utf8(rest);
    if (rest.n > 0)
        return false;
    memcpy(ret_model, w.text, w.n);
    ret_model[w.n] = '\0';
    return true;
}

bool body_model_place(const struct body *b, struct body_place *ret)
{
    struct json_value values[BODY_KEYS];
    struct form_field w;

    if (body_is_packed(b))
        return false;
    if (!body_values(b, values)) {
        if (!form_model(b, &w))
            return false;
        *ret = (struct body_place){w.at, w.length, false};
        return true;
    }
    if (values[BODY_MODEL].type != JSON_STRING)
        return false;
    ret->json = true;
    if (b->look) {
        const struct json_watch *model = &b->look->watches[BODY_MODEL];

        ret->at = model->at - 1;
        ret->length = model->length + 2;
    } else {
        ret->at = (uint64_t)(values[BODY_MODEL].text.p - b->memory.p) - 1;
        ret->length = values[BODY_MODEL].text.n + 2;
    }
    return true;
}

void body_edit_init(struct body_edit *e)
{
    *e = (struct body_edit){0};
    buf_init(&e->put, SIZE_MAX);
}

void body_edit_deinit(struct body_edit *e)
{
    buf_deinit(&e->put);
}

uint64_t body_edited_length(const struct body *b, const struct body_edit *e)
{
    return e->cut ? b->length - e->cut + e->put.len : b->length;
}

ptrdiff_t body_read_edited(struct body *b, const struct body_edit *e, uint64_t offset, void *to,
                           size_t max)
{
    uint64_t put_end = e->at + e->put.len;

    if (e->cut == 0)
        return body_read(b, offset, to, max);
    if (offset < e->at)
        return body_read(b, offset, to, e->at - offset < max ? (size_t)(e->at - offset) : max);
    if (offset >= put_end)
        return body_read(b, offset - put_end + e->at + e->cut, to, max);
    if (max > put_end - offset)
        max = (size_t)(put_end - offset);
    memcpy(to, e->put.p + (offset - e->at), max);
    return (ptrdiff_t)max;
}

uint64_t body_fingerprint(const struct body *b)
{
    struct body_look *look;
    uint64_t id;

    if (b->spool)
        return body_look_fingerprint(b->look);
    look = look_at_memory(b, true);
    id = look ? body_look_fingerprint(look) : fingerprint_of(buf_str(&b->memory));
    body_look_free(look);
    return id;
}

size_t body_memory(const struct body *b)
{
    if (b->spool)
        return b->memory.size + spool_memory(b->spool);
    return b->memory.size + (b->look ? body_look_memory(b->look) : 0);
}
