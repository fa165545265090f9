/* A program: the list of steps that put one response on the wire. */
#include "program.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

struct program *program_new(void)
{
    struct program *p = must_alloc(sizeof(*p));

    p->refs = 1;
    return p;
}

struct program *program_ref(struct program *p)
{
    p->refs++;
    return p;
}

void program_unref(struct program *p)
{
    if (p == NULL) {
        return;
    }
    assert(p->refs > 0);
    if (--p->refs > 0) {
        return;
    }
    buf_free(&p->bytes);
    free(p->ops);
    free(p->patches);
    free(p);
}

struct op *program_op(struct program *p, enum op_kind kind)
{
    if (!p->ops || p->n_ops == p->cap_ops) {
        p->cap_ops = p->cap_ops > 0 ? p->cap_ops * 2 : 8;
        p->ops = must_realloc(p->ops, p->cap_ops * sizeof(*p->ops));
    }
    p->ops[p->n_ops] = (struct op){.kind = kind};
    return &p->ops[p->n_ops++];
}

void program_barrier(struct program *p)
{
    p->barrier = true;
}

void program_send(struct program *p, const void *bytes, size_t len)
{
    struct op *last = p->n_ops > 0 ? &p->ops[p->n_ops - 1] : NULL;

    if (len == 0) {
        return;
    }
    if (last == NULL || last->kind != OP_SEND || p->barrier) {
        last = program_op(p, OP_SEND);
        last->off = p->bytes.len;
        p->barrier = false;
    }
    buf_add(&p->bytes, bytes, len);
    last->len += len;
}

void program_delay(struct program *p, uint32_t ms)
{
    if (ms > 0) {
        program_op(p, OP_DELAY)->ms = ms;
    }
}

void program_seal(struct program *p)
{
    for (size_t at = 0; at + NUMBER_LEN <= p->bytes.len; at++) {
        const char *here = p->bytes.data + at;
        bool clock = *here == CLOCK_MARK[0];

        if ((clock || *here == NUMBER_MARK[0]) &&
            memcmp(here, clock ? CLOCK_MARK : NUMBER_MARK, NUMBER_LEN) == 0) {
            p->patches = must_realloc(p->patches, (p->n_patches + 1) * sizeof(*p->patches));
            p->patches[p->n_patches++] = (struct patch){.at = at, .clock = clock};
            at += NUMBER_LEN - 1;
        }
    }
}

void program_digits(char ret_digits[NUMBER_LEN], uint64_t n)
{
    for (size_t i = NUMBER_LEN; i > 0; i--) {
        ret_digits[i - 1] = (char)('0' + n % 10);
        n /= 10;
    }
}

void program_patch(struct program *p, size_t off, size_t len, const char *number)
{
    size_t low = 0;
    size_t high = p->n_patches;

    while (low < high) { /* the first mark that ends after off */
        size_t mid = low + (high - low) / 2;

        if (p->patches[mid].at + NUMBER_LEN <= off) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    for (; low < p->n_patches && p->patches[low].at < off + len; low++) {
        if (p->patches[low].clock) {
            program_digits(p->bytes.data + p->patches[low].at, uv_hrtime() / 1000);
        } else {
            memcpy(p->bytes.data + p->patches[low].at, number, NUMBER_LEN);
        }
    }
}

/* One period and a slice more, so that a slice is contiguous wherever it starts. */
static char pattern[PATTERN_PERIOD + PATTERN_SLICE];

const char *pattern_at(uint64_t start)
{
    if (pattern[0] == '\0') {
        for (uint32_t i = 0; i < sizeof(pattern); i++) {
            uint64_t j = i % PATTERN_PERIOD;

            pattern[i] = (char)(33 + ((j * j) >> 5) % 94);
        }
    }
    return pattern + start % PATTERN_PERIOD;
}
