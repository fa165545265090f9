/* The body of a response in the pieces it is to be sent in. */
#include "body.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

void body_deinit(struct body *body)
{
    buf_free(&body->bytes);
    free(body->pieces);
    *body = (struct body){0};
}

static struct piece *insert_piece(struct body *body, size_t at)
{
    if (body->n == body->cap) {
        body->cap = body->cap > 0 ? body->cap * 2 : 16;
        body->pieces = must_realloc(body->pieces, body->cap * sizeof(*body->pieces));
    }
    memmove(&body->pieces[at + 1], &body->pieces[at], (body->n - at) * sizeof(*body->pieces));
    body->n++;
    body->pieces[at] = (struct piece){0};
    return &body->pieces[at];
}

struct piece *body_begin(struct body *body)
{
    struct piece *piece = insert_piece(body, body->n);

    piece->off = body->bytes.len;
    return piece;
}

void body_end(struct body *body)
{
    struct piece *piece = &body->pieces[body->n - 1];

    piece->len = body->bytes.len - piece->off;
    piece->chunk = piece->len;
}

void body_pattern(struct body *body, uint64_t len)
{
    struct piece *piece = insert_piece(body, body->n);

    piece->pattern = true;
    piece->len = len;
    piece->chunk = len;
}

uint64_t body_total(const struct body *body)
{
    uint64_t total = 0;

    for (size_t i = 0; i < body->n; i++) {
        total += body->pieces[i].len;
    }
    return total;
}

static void unmark(struct body *body, const char *mark)
{
    char *p = body->bytes.data;
    char *end = p + body->bytes.len;

    while ((p = memmem(p, (size_t)(end - p), mark, NUMBER_LEN)) != NULL) {
        memset(p, '0', NUMBER_LEN);
    }
}

void body_unmark(struct body *body)
{
    if (body->bytes.data != NULL) {
        unmark(body, NUMBER_MARK);
        unmark(body, CLOCK_MARK);
    }
}

static void deflate_some(z_stream *z, struct buf *into, const void *bytes, size_t len, int flush)
{
    z->next_in = (Bytef *)(uintptr_t)bytes;
    z->avail_in = (uInt)len;
    do {
        z->next_out = (Bytef *)buf_room(into, 64 * 1024);
        z->avail_out = 64 * 1024;
        (void)deflate(z, flush);
        into->len += 64 * 1024 - z->avail_out;
    } while (z->avail_out == 0);
}

static void encode_piece(z_stream *z, struct buf *into, const struct body *body, size_t i)
{
    const struct piece *piece = &body->pieces[i];
    int flush = i + 1 == body->n ? Z_FINISH : Z_SYNC_FLUSH;

    if (!piece->pattern) {
        deflate_some(z, into, body->bytes.data + piece->off, (size_t)piece->len, flush);
        return;
    }
    for (uint64_t done = 0; done < piece->len;) {
        uint64_t left = piece->len - done;
        size_t n = left < PATTERN_SLICE ? (size_t)left : PATTERN_SLICE;

        deflate_some(z, into, pattern_at(piece->off + done), n, Z_NO_FLUSH);
        done += n;
    }
    deflate_some(z, into, "", 0, flush);
}

void body_encode(struct body *body, enum encoding encoding)
{
    z_stream z = {0};
    struct buf into = {0};

    if (encoding == ENCODING_NONE || body->n == 0) {
        return;
    }
    if (deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED,
                     encoding == ENCODING_GZIP ? 15 + 16 : 15, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
        abort();
    }
    for (size_t i = 0; i < body->n; i++) {
        size_t start = into.len;
        struct piece *piece = &body->pieces[i];

        encode_piece(&z, &into, body, i);
        piece->pattern = false;
        piece->off = start;
        piece->len = into.len - start;
        piece->chunk = piece->len;
    }
    (void)deflateEnd(&z);
    buf_free(&body->bytes);
    body->bytes = into;
}

/* Makes two of piece i, the first of len bytes; they stay in one chunk. */
static void split_piece(struct body *body, size_t i, uint64_t len)
{
    struct piece *second = insert_piece(body, i + 1);
    struct piece *first = &body->pieces[i];

    *second = *first;
    second->off += len;
    second->len -= len;
    second->delay_ms = 0;
    second->event = false;
    second->delta = false;
    second->inside = true;
    first->len = len;
    first->open = true;
}

static size_t split_bytes(struct body *body, uint64_t count)
{
    for (size_t i = 0; i < body->n; i++) {
        if (count < body->pieces[i].len) {
            if (count == 0) {
                return i;
            }
            split_piece(body, i, count);
            return i + 1;
        }
        count -= body->pieces[i].len;
    }
    return body->n;
}

size_t body_split(struct body *body, const struct limit *limit)
{
    uint64_t count = limit->count;

    if (limit->at == AFTER_BYTES) {
        return split_bytes(body, count);
    }
    for (size_t i = 0; i < body->n; i++) {
        bool counts = limit->at == AFTER_EVENTS ? body->pieces[i].event : body->pieces[i].delta;

        if (count == 0) {
            return i;
        }
        count -= counts ? 1 : 0;
    }
    return body->n;
}

/* Joins pieces that follow each other without a pause, so that the pace alone divides them. */
static void join_pieces(struct body *body)
{
    size_t n = 0;

    for (size_t i = 0; i < body->n; i++) {
        struct piece *last = n > 0 ? &body->pieces[n - 1] : NULL;
        struct piece *piece = &body->pieces[i];

        if (last != NULL && piece->delay_ms == 0 && !piece->pattern && !last->pattern) {
            last->len += piece->len;
            last->chunk = last->len;
        } else {
            body->pieces[n++] = *piece;
        }
    }
    body->n = n;
}

void body_pace(struct body *body, uint32_t bytes, uint32_t ms)
{
    struct body old = *body;

    join_pieces(&old);
    body->pieces = NULL;
    body->n = 0;
    body->cap = 0;
    while (body_total(&old) / bytes > PROGRAM_OPS_MAX) {
        bytes *= 2; /* a pace nobody has the time to watch */
    }
    for (size_t i = 0; i < old.n; i++) {
        struct piece *piece = &old.pieces[i];

        for (uint64_t done = 0; done < piece->len && !piece->pattern; done += bytes) {
            struct piece *part = insert_piece(body, body->n);

            part->off = piece->off + done;
            part->len = piece->len - done < bytes ? piece->len - done : bytes;
            part->chunk = part->len;
            part->delay_ms = done > 0 || i > 0 ? ms : 0;
            part->delay_ms = done == 0 ? part->delay_ms + piece->delay_ms : part->delay_ms;
        }
        if (piece->pattern) {
            *insert_piece(body, body->n) = *piece;
        }
    }
    free(old.pieces);
}
