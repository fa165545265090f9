/* A program: the list of steps that put one response on the wire. */
#ifndef PROVIDER_PROGRAM_H
#define PROVIDER_PROGRAM_H

#include "buf.h"

enum {
    PROGRAM_OPS_MAX = 1000000,
    PROGRAM_BYTES_MAX = 256 * 1024 * 1024,
    PROGRAM_LOOPS_MAX = 8,
    NUMBER_LEN = 12,
    PATTERN_PERIOD = 65521,
    PATTERN_SLICE = 256 * 1024
};

/* Stand where NUMBER_LEN digits are to be written: the request's number, and the time of the
 * write. */
#define NUMBER_MARK "\001\001\001\001\001\001\001\001\001\001\001\001"
#define CLOCK_MARK "\002\002\002\002\002\002\002\002\002\002\002\002"

enum op_kind {
    OP_SEND,     /* off, len: bytes of the program */
    OP_PATTERN,  /* start, len: the generated pattern; in pieces, every ms, maybe as chunks */
    OP_DELAY,    /* ms */
    OP_HELD,     /* nothing until the control request /_/release */
    OP_LOOP,     /* start: how many times, 0 for ever; off: the matching OP_LOOP_END */
    OP_LOOP_END, /* off: the matching OP_LOOP */
    OP_SILENCE,  /* nothing until the peer leaves */
    OP_RESET,    /* RST */
    OP_FIN,      /* FIN; on TLS without a close_notify */
    OP_END,      /* the response is complete; what follows is unsolicited */
    OP_CLOSE     /* an orderly close */
};

struct op {
    enum op_kind kind;
    bool chunked;
    uint32_t ms;
    uint32_t piece;
    size_t off;
    uint64_t start;
    uint64_t len;
};

struct patch {
    size_t at; /* place of a mark in the program's bytes */
    bool clock;
};

/* Shared by reference count: one program serves every request that gets the same response. */
struct program {
    unsigned refs;
    int status; /* for the log and the record; 0 for raw wire */
    struct buf bytes;
    struct op *ops;
    size_t n_ops;
    size_t cap_ops;
    bool barrier;          /* the next send starts a write of its own */
    struct patch *patches; /* in ascending order */
    size_t n_patches;
};

struct program *program_new(void);
struct program *program_ref(struct program *p);
void program_unref(struct program *p);
/* Adjacent sends are merged into one write, unless program_barrier is between them. */
void program_send(struct program *p, const void *bytes, size_t len);
void program_barrier(struct program *p);
struct op *program_op(struct program *p, enum op_kind kind);
void program_delay(struct program *p, uint32_t ms);
/* Finds the marks. Call it once, when the program is complete. */
void program_seal(struct program *p);
/* The last NUMBER_LEN digits of n. */
void program_digits(char ret_digits[NUMBER_LEN], uint64_t n);
/* Writes the number, and the monotonic clock's microseconds, over the marks that touch bytes
 * [off, off + len). */
void program_patch(struct program *p, size_t off, size_t len, const char *number);

/* len <= PATTERN_SLICE bytes of the fixed pattern from position start. */
const char *pattern_at(uint64_t start);

#endif
